//! The log: lines into one bounded buffer, and one writer that takes all that is there with one call.
//!
//! Connection threads append; the writer lets accesses gather for a millisecond and writes them together. A full buffer
//! makes appenders wait, so that nothing is lost, except those who may not wait. A write to a pipe that nobody reads
//! cannot be interrupted, so the writer runs outside the server's scope, over a log that lives as long as the process.
//! The access log on stdout and the diagnostics on stderr are two logs of this one kind. Every byte from a client is
//! escaped, so that no request can forge or break a line.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;
use crate::live::Level;
use crate::metrics::Answer;
use crate::text::{self, Dates};

/// A log: the buffer between those who append lines and the one who writes them.
#[derive(Debug, Default)]
pub struct Log {
    /// How long the writer lets lines gather.
    gather: Duration,
    state: Mutex<State>,
    /// Lines came, or the end.
    more: Condvar,
    /// A gathering pause may end early.
    hurry: Condvar,
    /// Lines were taken or written.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    waiting: u64,
    being_written: u64,
    /// Those who wait for room or for the end of a write; to notify nobody would be a system call for nothing.
    waiters: usize,
    totals: Totals,
    writer_sleeps: bool,
    ending: bool,
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Lines that were written.
    pub written: u64,
    /// Lines that found the buffer full, or whose write failed.
    pub lost: u64,
    /// Writes that failed.
    pub errors: u64,
}

impl Log {
    /// A log whose writer lets lines gather for so long; by default it writes at once.
    pub fn gathering(gather: Duration) -> Log {
        Log { gather, ..Log::default() }
    }

    /// Adds a line, which ends with a line feed. A full buffer makes those wait who may, until the end begins.
    pub fn append(&self, line: &[u8], may_wait: bool) {
        let mut state = self.lock();
        while state.lines.len() + line.len() > limits::LOG_BUFFER {
            if !may_wait || state.ending {
                state.totals.lost += 1;
                return;
            }
            state.waiters += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
        state.lines.extend_from_slice(line);
        state.waiting += 1;
        if std::mem::take(&mut state.writer_sleeps) {
            drop(state);
            self.more.notify_one();
        }
    }

    /// Writes lines as they come, for as long as the process lives; a broken sink costs its lines and nothing else.
    ///
    /// The first failed write is told to `complain`.
    pub fn write_to(&self, sink: &mut dyn Write, complain: impl Fn(&std::io::Error)) {
        let mut taken = Vec::new();
        loop {
            self.take(&mut taken);
            let result = sink.write_all(&taken).and_then(|()| sink.flush());
            taken.clear();
            if taken.capacity() > limits::LOG_BUFFER / 8 {
                taken = Vec::new();
            }
            let first_error = {
                let mut state = self.lock();
                let lines = std::mem::take(&mut state.being_written);
                if result.is_ok() {
                    state.totals.written += lines;
                } else {
                    state.totals.lost += lines;
                    state.totals.errors += 1;
                }
                self.tell_waiters(&state);
                state.totals.errors == 1
            };
            if let (Err(error), true) = (&result, first_error) {
                complain(error);
            }
        }
    }

    /// Waits for lines, lets more gather, and takes them all.
    fn take(&self, taken: &mut Vec<u8>) {
        let mut state = self.lock();
        while state.lines.is_empty() {
            state.writer_sleeps = true;
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.ending && !self.gather.is_zero() {
            let pause = self.hurry.wait_timeout(state, self.gather);
            state = pause.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.lines, taken);
        state.being_written = std::mem::take(&mut state.waiting);
        self.tell_waiters(&state);
    }

    fn tell_waiters(&self, state: &State) {
        if state.waiters > 0 {
            self.room.notify_all();
        }
    }

    /// Lets nobody wait any more: what finds no room from now on is lost.
    pub fn end_waiting(&self) {
        self.lock().ending = true;
        self.room.notify_all();
        self.hurry.notify_all();
    }

    /// Waits until every line is written, at most so long; what then still waits is counted as lost.
    pub fn finish(&self, at_most: Duration) -> Totals {
        self.end_waiting();
        let deadline = Instant::now() + at_most;
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let unwritten = state.waiting + state.being_written;
            if unwritten == 0 || left.is_zero() {
                let Totals { written, lost, errors } = state.totals;
                return Totals { written, lost: lost + unwritten, errors };
            }
            state.waiters += 1;
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiters -= 1;
        }
    }

    /// What became of the lines so far.
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one line of the access log tells of a request; what is absent is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// The address of the client.
    pub client: &'a str,
    /// The address and port of the peer.
    pub peer: &'a str,
    /// The method as the client wrote it.
    pub method: &'a str,
    /// The target as the client wrote it, or what came instead of a request line.
    pub target: &'a [u8],
    /// The name of the version.
    pub protocol: &'a str,
    /// The injected delay.
    pub delay: Duration,
    /// The user agent.
    pub user_agent: &'a [u8],
    /// The referrer.
    pub referrer: &'a [u8],
    /// The id of the request, a token.
    pub request_id: &'a [u8],
    /// The trace id.
    pub trace_id: &'a [u8],
}

impl Entry<'_> {
    /// Writes the line of an answer but for its sent bytes and its duration, which only the end of the write tells: the
    /// place of the first is returned, and [`end_line`] writes the second.
    pub fn begin_line(&self, answer: Answer, dates: &Dates, json: bool, out: &mut Vec<u8>) -> usize {
        if json { self.begin_json(answer, dates, out) } else { self.begin_text(answer, dates, out) }
    }

    fn begin_text(&self, answer: Answer, dates: &Dates, out: &mut Vec<u8>) -> usize {
        put(out, [self.client.as_bytes(), b" - - [", dates.common_log(), b"] \""]);
        if !self.method.is_empty() {
            put(out, [text::cut(self.method.as_bytes(), limits::LOGGED_METHOD), b" "]);
        }
        text::escape_log(text::cut(self.target, limits::LOGGED_TARGET), |bytes| out.extend_from_slice(bytes));
        if !self.protocol.is_empty() {
            put(out, [b" ", self.protocol.as_bytes()]);
        }
        put(out, [b"\" ", &text::decimal(answer.status.code().into()), b" "]);
        let sent_bytes_at = out.len();
        for value in [self.referrer, self.user_agent] {
            put(out, [b" \""]);
            let value = if value.is_empty() { b"-" } else { text::cut(value, limits::LOGGED_VALUE) };
            text::escape_log(value, |bytes| out.extend_from_slice(bytes));
            put(out, [b"\""]);
        }
        put(out, [b" level=", answer.level().label().as_bytes(), b" peer=", self.peer.as_bytes()]);
        put(out, [b" route=", answer.route.label().as_bytes(), b" delay=", &text::seconds(self.delay)]);
        let trace_id = if self.trace_id.is_empty() { b"-" } else { self.trace_id };
        put(out, [b" request_id=", self.request_id, b" trace_id=", trace_id, b" duration="]);
        sent_bytes_at
    }

    fn begin_json(&self, answer: Answer, dates: &Dates, out: &mut Vec<u8>) -> usize {
        put(out, [b"{\"time\":\"", dates.rfc3339()]);
        text::push_millis(out, dates.millis());
        for (name, value) in [
            ("Z\",\"level\":\"", answer.level().label().as_bytes()),
            ("\",\"client\":\"", self.client.as_bytes()),
            ("\",\"peer\":\"", self.peer.as_bytes()),
            ("\",\"method\":\"", text::cut(self.method.as_bytes(), limits::LOGGED_METHOD)),
            ("\",\"target\":\"", text::cut(self.target, limits::LOGGED_TARGET)),
            ("\",\"route\":\"", answer.route.label().as_bytes()),
            ("\",\"protocol\":\"", self.protocol.as_bytes()),
        ] {
            put(out, [name.as_bytes()]);
            text::escape_json(value, |bytes| out.extend_from_slice(bytes));
        }
        put(out, [b"\",\"status\":", &text::decimal(answer.status.code().into()), b",\"bytes\":"]);
        let sent_bytes_at = out.len();
        put(out, [b",\"delay\":", &text::seconds(self.delay), b",\"user_agent\":\""]);
        for (value, next) in [
            (text::cut(self.user_agent, limits::LOGGED_VALUE), "\",\"referrer\":\""),
            (text::cut(self.referrer, limits::LOGGED_VALUE), "\",\"request_id\":\""),
            (self.request_id, "\",\"trace_id\":\""),
            (self.trace_id, "\",\"duration\":"),
        ] {
            text::escape_json(value, |bytes| out.extend_from_slice(bytes));
            put(out, [next.as_bytes()]);
        }
        sent_bytes_at
    }
}

#[expect(
    clippy::inline_always,
    reason = "most pieces are constants, which need no call to be copied where they are known"
)]
#[inline(always)]
fn put<const N: usize>(out: &mut Vec<u8>, pieces: [&[u8]; N]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// Writes the end of a line, its duration.
pub fn end_line(json: bool, duration: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(&text::seconds(duration));
    out.extend_from_slice(if json { b"}\n" } else { b"\n" });
}

/// A line of diagnostics.
pub fn diagnostic(json: bool, unix: Duration, level: Level, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if json {
        out.extend_from_slice(b"{\"time\":\"");
    }
    text::Date::of(unix.as_secs()).rfc3339(&mut out);
    text::push_millis(&mut out, unix.subsec_millis());
    out.push(b'Z');
    if json {
        out.extend_from_slice(format!("\",\"level\":\"{}\",\"message\":\"", level.label()).as_bytes());
        text::escape_json(message.as_bytes(), |bytes| out.extend_from_slice(bytes));
        out.extend_from_slice(b"\"}\n");
    } else {
        out.extend_from_slice(format!(" {} ", level.label()).as_bytes());
        text::escape_diagnostic(message, |bytes| out.extend_from_slice(bytes));
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may panic where it gets no thread")]
mod tests {
    use super::*;
    use crate::request::Method;
    use crate::response::Status;
    use crate::route::Route;

    const ENTRY: Entry<'_> = Entry {
        client: "1.2.3.4",
        peer: "10.0.0.1:5",
        method: "GET",
        target: b"/a\"\\\x1b",
        protocol: "HTTP/1.1",
        delay: Duration::from_millis(1500),
        user_agent: b"\xff\"",
        referrer: b"",
        request_id: b"id",
        trace_id: b"",
    };

    fn line(entry: &Entry<'_>, json: bool) -> String {
        let mut dates = Dates::default();
        dates.set(Duration::from_millis(1_795_370_645_007));
        let answer = Answer { route: Route::Echo, method: Method::Get, status: Status::OK };
        let mut out = Vec::new();
        let sent_bytes_at = entry.begin_line(answer, &dates, json, &mut out);
        out.splice(sent_bytes_at..sent_bytes_at, *b"512");
        end_line(json, Duration::from_micros(1_500_042), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(&ENTRY, false),
            "1.2.3.4 - - [22/Nov/2026:18:04:05 +0000] \"GET /a\\\"\\\\\\x1b HTTP/1.1\" 200 512 \"-\" \"\\xff\\\"\" \
             level=info peer=10.0.0.1:5 route=echo delay=1.500000 request_id=id trace_id=- duration=1.500042\n"
        );
        assert_eq!(
            line(&ENTRY, true),
            "{\"time\":\"2026-11-22T18:04:05.007Z\",\"level\":\"info\",\"client\":\"1.2.3.4\",\"peer\":\"10.0.0.1:5\",\
             \"method\":\"GET\",\"target\":\"/a\\\"\\\\\\u001b\",\"route\":\"echo\",\"protocol\":\"HTTP/1.1\",\
             \"status\":200,\"bytes\":512,\"delay\":1.500000,\"user_agent\":\"\\ufffd\\\"\",\"referrer\":\"\",\
             \"request_id\":\"id\",\"trace_id\":\"\",\"duration\":1.500042}\n"
        );
        let unparsed = Entry { method: "", protocol: "", target: b"\x16\x03", ..ENTRY };
        assert!(line(&unparsed, false).contains("] \"\\x16\\x03\" 200 "));
        let long = vec![b'x'; 10_000];
        assert!(line(&Entry { target: &long, user_agent: &long, referrer: &long, ..ENTRY }, true).len() < 4_000);
        let said = diagnostic(false, Duration::from_millis(7), Level::Warn, "a\nb é");
        assert_eq!(String::from_utf8(said).unwrap(), "1970-01-01T00:00:00.007Z warn a\\x0ab \\xc3\\xa9\n");
        let said = diagnostic(true, Duration::ZERO, Level::Warn, "a \"b\"\n");
        let json = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"message\":\"a \\\"b\\\"\\n\"}\n";
        assert_eq!(String::from_utf8(said).unwrap(), json);
    }

    #[test]
    fn full_buffer_makes_wait_or_loses_and_the_end_frees() {
        let log = Log::default();
        let line = vec![b'\n'; limits::LOG_BUFFER];
        log.append(&line, true);
        log.append(b"\n", false);
        assert_eq!(log.totals().lost, 1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.append(b"\n", true));
            assert!(!waiting.is_finished());
            log.end_waiting();
        });
        assert_eq!(log.finish(Duration::ZERO), Totals { written: 0, lost: 3, errors: 0 });
    }

    /// A sink that hands on what it is given.
    struct Sink(std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_appended_is_written_in_order_and_a_broken_sink_is_survived() {
        let (sender, written) = std::sync::mpsc::channel();
        let log: &'static Log = Box::leak(Box::default());
        std::thread::spawn(move || log.write_to(&mut Sink(sender), |_| {}));
        let lines: Vec<String> = (0..1000).map(|i| format!("{i}\n")).collect();
        for line in &lines {
            log.append(line.as_bytes(), true);
        }
        assert_eq!(log.finish(Duration::from_secs(10)), Totals { written: 1000, lost: 0, errors: 0 });
        assert_eq!(written.try_iter().collect::<Vec<_>>().concat(), lines.concat().as_bytes());
        drop(written);
        log.append(b"x\n", true);
        assert_eq!(log.finish(Duration::from_secs(10)), Totals { written: 1000, lost: 1, errors: 1 });
    }
}
