//! A log: lines go into one bounded buffer, and one writer takes all that is there with one call.
//!
//! Connection threads append; the writer lets lines gather for a millisecond and writes them
//! together. A full buffer makes appenders wait, so nothing is lost; only those that may not wait
//! lose their lines.
//!
//! A write to a pipe that nobody reads cannot be interrupted, so the writer runs outside the
//! server's scope, over a log that lives as long as the process.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::limits;
use crate::sync::{lock, wait_timeout};

/// A log: the buffer between those who append lines and the thread that writes them.
#[derive(Debug, Default)]
pub struct Log {
    /// How long the writer lets lines gather.
    gather: Duration,
    state: Mutex<State>,
    /// Notified when lines came, and when the end began: then the writer lets none gather.
    more: Condvar,
    /// Notified when lines were taken or written.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Lines in the buffer, and lines that are being written.
    unwritten: u64,
    /// Threads that wait for room or for the end of a write. Notifying nobody would cost a system
    /// call for nothing.
    waiters: usize,
    totals: Totals,
    writer_sleeps: bool,
    ending: bool,
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines that were written.
    pub written: u64,
    /// Lines that found the buffer full, or whose write failed.
    pub lost: u64,
    /// Writes that failed.
    pub errors: u64,
    /// Why the last failed write failed.
    pub last_error: Option<ErrorKind>,
}

impl Log {
    /// A log whose writer lets lines gather for this long; the default one writes at once.
    pub fn gathering(gather: Duration) -> Log {
        Log {
            gather,
            ..Log::default()
        }
    }

    /// Adds `count` whole lines. Where the buffer is full, a caller that may wait does so until
    /// the end begins; the lines of any other one are lost.
    pub fn append(&self, lines: &[u8], count: u64, may_wait: impl Fn() -> bool) {
        let mut state = lock(&self.state);
        while state.lines.len() + lines.len() > limits::LOG_BUFFER_BYTES {
            if state.ending || !may_wait() {
                state.totals.lost += count;
                return;
            }
            state.waiters += 1;
            let waited = self.room.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
        state.lines.extend_from_slice(lines);
        state.unwritten += count;
        if mem::take(&mut state.writer_sleeps) {
            drop(state);
            self.more.notify_one();
        }
    }

    /// Writes lines as they come, for as long as the process lives. A broken sink costs its lines
    /// and nothing else; the first failed write is reported to `on_first_error`.
    pub fn write_to(&self, sink: &mut dyn Write, on_first_error: impl Fn(&io::Error)) {
        let mut taken = Vec::new();
        loop {
            let lines = self.take(&mut taken);
            let result = write_all(sink, &taken);
            taken.clear();
            if taken.capacity() > limits::LOG_BUFFER_BYTES / 8 {
                taken = Vec::new();
            }
            if let Some(error) = self.settle(lines, result) {
                on_first_error(&error);
            }
        }
    }

    /// Adds the lines of one write to the totals; hands back its error if no write failed before.
    fn settle(&self, lines: u64, result: io::Result<()>) -> Option<io::Error> {
        let mut state = lock(&self.state);
        state.unwritten -= lines;
        let totals = &mut state.totals;
        match &result {
            Ok(()) => totals.written += lines,
            Err(error) => {
                totals.lost += lines;
                totals.errors += 1;
                totals.last_error = Some(error.kind());
            }
        }
        self.notify_waiters(&state);
        result.err().filter(|_| state.totals.errors == 1)
    }

    /// Waits for lines, lets more gather, and takes them all; their number.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let mut state = lock(&self.state);
        while state.lines.is_empty() {
            state.writer_sleeps = true;
            let waited = self.more.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if !state.ending && !self.gather.is_zero() {
            state = wait_timeout(&self.more, state, self.gather);
        }
        mem::swap(&mut state.lines, taken);
        self.notify_waiters(&state);
        // The lines of every earlier write are settled.
        state.unwritten
    }

    fn notify_waiters(&self, state: &State) {
        if state.waiters > 0 {
            self.room.notify_all();
        }
    }

    /// Ends all waiting for room: from now on, lines are lost where there is none.
    pub fn end_waiting(&self) {
        lock(&self.state).ending = true;
        self.room.notify_all();
        self.more.notify_all();
    }

    /// Waits until every line is written, at most this long. Lines that are still unwritten then
    /// count as lost.
    pub fn finish(&self, at_most: Duration) -> Totals {
        self.end_waiting();
        let mut state = lock(&self.state);
        state.waiters += 1;
        let unwritten = |state: &mut State| state.unwritten > 0;
        let waited = self.room.wait_timeout_while(state, at_most, unwritten);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        Totals {
            lost: state.totals.lost + state.unwritten,
            ..state.totals
        }
    }

    /// What became of the lines so far.
    pub fn totals(&self) -> Totals {
        lock(&self.state).totals
    }
}

/// Writes all bytes. Where the sink does not block and is full, it tries again from the same byte
/// after a pause.
fn write_all(sink: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::park_timeout(limits::LOG_RETRY);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test may panic where it gets no thread"
)]
mod tests {
    use super::*;

    #[test]
    fn full_buffer_makes_wait_or_loses_and_the_end_frees() {
        let log = Log::default();
        let line = vec![b'\n'; limits::LOG_BUFFER_BYTES];
        log.append(&line, 1, || true);
        log.append(b"\n", 1, || false);
        assert_eq!(log.totals().lost, 1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.append(b"\n", 1, || true));
            assert!(!waiting.is_finished());
            log.end_waiting();
        });
        assert_eq!(
            log.finish(Duration::ZERO),
            Totals {
                lost: 3,
                ..Totals::default()
            }
        );
    }

    /// A sink that passes on what it is given.
    struct Sink(std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_a_broken_sink_is_survived() {
        let (sender, written) = std::sync::mpsc::channel();
        let log: &'static Log = Box::leak(Box::default());
        std::thread::spawn(move || log.write_to(&mut Sink(sender), |_| {}));
        let lines: Vec<String> = (0..1000).map(|i| format!("{i}\n")).collect();
        for line in &lines {
            log.append(line.as_bytes(), 1, || true);
        }
        assert_eq!(
            log.finish(Duration::from_secs(10)),
            Totals {
                written: 1000,
                ..Totals::default()
            }
        );
        assert_eq!(
            written.try_iter().collect::<Vec<_>>().concat(),
            lines.concat().as_bytes()
        );
        drop(written);
        log.append(b"x\n", 1, || true);
        let totals = log.finish(Duration::from_secs(10));
        assert_eq!((totals.written, totals.lost, totals.errors), (1000, 1, 1));
        assert_eq!(totals.last_error, Some(ErrorKind::Other));
    }

    /// A sink that takes one byte, then would block once, and so on.
    struct Hesitant(std::sync::mpsc::Sender<Vec<u8>>, bool);

    impl Write for Hesitant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0.send(bytes[..1].to_vec()).map_err(io::Error::other)?;
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_does_not_block_gets_every_byte_once() {
        let (sender, written) = std::sync::mpsc::channel();
        let log: &'static Log = Box::leak(Box::default());
        std::thread::spawn(move || log.write_to(&mut Hesitant(sender, false), |_| {}));
        log.append(b"abc\n", 1, || true);
        let totals = log.finish(Duration::from_secs(60));
        assert_eq!(
            totals,
            Totals {
                written: 1,
                ..Totals::default()
            }
        );
        assert_eq!(written.try_iter().collect::<Vec<_>>().concat(), b"abc\n");
    }
}
