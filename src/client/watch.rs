//! `httpserver watch`: asks a server at a constant rate and tells what was lost.
//!
//! Open loop: request number n is due n/rate seconds after the start, whatever became of the
//! others, and has a thread of its own. Its latency counts from that due time, so a server that
//! stops for 2 s shows in every request of these 2 s. One thread starts the requests and counts
//! their outcomes, which come as events, as signals do. The reader of the output may be slow, so a
//! second thread writes it.
//!
//! Invariant: each request that was started is counted once, or told as unfinished.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::client::http;
use crate::client::options::Options;
use crate::client::report::{self, Run};
use crate::client::tally::{Gap, Kind, Outcome, Tally};
use crate::client::target::{Request, Target};
use crate::observe::diagnostics::unix_now;

/// Stack of a request's thread, in bytes of address space; it touches about 12 KiB of it.
const STACK: usize = 128 << 10;
/// What a request may take longer than its time-out, on a busy host, before nobody waits for it any
/// more.
const SLACK: Duration = Duration::from_secs(1);
/// Lines that wait for the reader of the output: those of an hour.
const LINES: usize = 3600;
/// How long a hurried exit waits for the reader of the summary.
const HURRY: Duration = Duration::from_millis(500);

/// Why there is no verdict.
#[derive(Debug)]
pub enum Error {
    /// The host's name cannot be looked up.
    Lookup(http::Error),
    /// The system refuses what a run needs before it starts.
    System(&'static str, io::Error),
    /// The output cannot be written.
    Output(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Lookup(error) => error.fmt(f),
            Error::System(what, error) => write!(f, "no {what}: {error}"),
            Error::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// What the thread that counts waits for.
enum Event {
    /// A request has ended.
    Outcome(Outcome),
    /// SIGINT or SIGTERM.
    Signal,
    /// The output has been written to its end, or nobody takes it.
    OutputEnded(Result<(), Error>),
}

/// Runs the command, writes its output to stdout, and says how many requests were lost or not
/// waited for.
pub fn run(options: Options) -> Result<u64, Error> {
    let (sender, events) = mpsc::channel();
    bring_signals(sender.clone()).map_err(|error| Error::System("signal handlers", error))?;
    let target = Arc::new(Target::new(&options).map_err(Error::Lookup)?);
    let output = Output::start(sender.clone()).map_err(|error| Error::System("thread", error))?;
    let (start, unix_start) = (Instant::now(), unix_now());
    let watch = Watch {
        options,
        target,
        output,
        sender,
        events,
        start,
        unix_start,
        total: Tally::default(),
        second: Tally::default(),
        line_second: unix_start.as_secs(),
        gap: Gap::new(start),
        sent: 0,
        in_flight: 0,
        stopped: None,
    };
    watch.run()
}

/// Has SIGINT and SIGTERM come as events from now on.
fn bring_signals(events: Sender<Event>) -> io::Result<()> {
    let (mut read_end, write_end) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, write_end.try_clone()?)?;
    }
    // The handlers hold write ends for good, so this thread ends with the process.
    let wait = move || {
        while read_end.read_exact(&mut [0]).is_ok() && events.send(Event::Signal).is_ok() {}
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map(drop)
}

/// A run.
struct Watch {
    options: Options,
    target: Arc<Target>,
    output: Output,
    sender: Sender<Event>,
    events: Receiver<Event>,
    start: Instant,
    /// The start as a time since the Unix epoch.
    unix_start: Duration,
    total: Tally,
    /// The outcomes since the last line.
    second: Tally,
    /// The second of the next line, a Unix time: lines follow the clock on the wall, so that they
    /// can be compared with logs.
    line_second: u64,
    gap: Gap,
    /// How many requests have become due.
    sent: u64,
    in_flight: usize,
    /// Since when no more requests are started.
    stopped: Option<Instant>,
}

impl Watch {
    fn run(mut self) -> Result<u64, Error> {
        loop {
            let now = Instant::now();
            self.start_due_requests(now);
            while self.line_end() <= now {
                self.write_line();
            }
            let last_end = self.stopped.map(|at| at + self.options.timeout + SLACK);
            if last_end.is_some_and(|end| self.in_flight == 0 || now >= end) {
                return self.finish(false);
            }
            let next = last_end.unwrap_or_else(|| self.next_due());
            let next = self.line_end().min(next);
            let wait = next.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(Event::Outcome(outcome)) => {
                    self.in_flight -= 1;
                    self.count(&outcome);
                }
                Ok(Event::Signal) if self.stopped.is_some() => return self.finish(true),
                Ok(Event::Signal) => self.stopped = Some(Instant::now()),
                // Nobody takes the output: the run ends without those in flight.
                Ok(Event::OutputEnded(result)) => return result.map(|()| self.total.lost()),
                // The time has come; the channel stays open, because this thread has a sender
                // itself.
                Err(_) => {}
            }
        }
    }

    /// When request number `sent` is due.
    fn next_due(&self) -> Instant {
        let nanos = u128::from(self.sent) * 1_000_000_000 / u128::from(self.options.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn start_due_requests(&mut self, now: Instant) {
        while self.stopped.is_none() && self.next_due() <= now {
            let due = self.next_due();
            let length = self.options.length;
            // The last request has its interval too, so a run is as long as it was asked to be.
            if length.is_some_and(|length| due - self.start >= length) {
                self.stopped = Some(due);
                return;
            }
            // Every other request has a connection of its own.
            let kept = self.sent % 2 == 1;
            self.start_request(Request { kept, due }, now);
            self.sent += 1;
        }
    }

    /// Starts a request in a thread of its own, or tells at once why it cannot be sent.
    fn start_request(&mut self, request: Request, now: Instant) {
        if now > request.due + self.options.timeout {
            return self.count_unsent(request, "this process was stopped or had no processor time");
        }
        let (target, sender) = (Arc::clone(&self.target), self.sender.clone());
        // Nobody may wait any more when the request ends.
        let task = move || drop(sender.send(Event::Outcome(target.ask(request))));
        match thread::Builder::new().stack_size(STACK).spawn(task) {
            Ok(_) => self.in_flight += 1,
            Err(error) => self.count_unsent(request, &format!("no thread: {error}")),
        }
    }

    fn count_unsent(&mut self, request: Request, cause: &str) {
        let mut outcome = Outcome::of_request(request);
        outcome.finished = Instant::now();
        outcome.cause = Some(format!("unsent: {cause}"));
        self.count(&outcome);
    }

    fn count(&mut self, outcome: &Outcome) {
        if outcome.kind == Kind::Ok {
            self.gap.end(outcome.finished);
        }
        let second = self.unix_second(outcome.finished);
        self.second.add(outcome, second);
        self.total.add(outcome, second);
    }

    /// The Unix time of a point in time that is not before the start.
    fn unix_second(&self, time: Instant) -> u64 {
        (self.unix_start + time.saturating_duration_since(self.start)).as_secs()
    }

    /// When the present second ends.
    fn line_end(&self) -> Instant {
        let end = Duration::from_secs(self.line_second + 1);
        self.start + end.saturating_sub(self.unix_start)
    }

    /// Writes the line of the present second and begins the next.
    fn write_line(&mut self) {
        let line = report::second(&self.second, self.line_second, self.options.json);
        self.output.line(line);
        self.second = Tally::default();
        self.line_second += 1;
    }

    /// Writes the rest and the summary, and waits until they have been read, in a hurry not for
    /// long.
    fn finish(mut self, hurry: bool) -> Result<u64, Error> {
        if self.second.requests() > 0 {
            self.write_line();
        }
        let now = Instant::now();
        let stopped = self.stopped.unwrap_or(now);
        self.gap.end(stopped);
        let run = Run {
            url: &self.options.url,
            rate: self.options.rate,
            seconds: (self.unix_start.as_secs(), self.unix_second(now)),
            length: stopped.saturating_duration_since(self.start),
            total: &self.total,
            gap: self.gap.longest,
            gap_from: self.unix_second(self.gap.from),
            unfinished: self.in_flight as u64,
            dropped_lines: self.output.dropped,
        };
        let lost = self.total.lost() + run.unfinished;
        self.output.finish(report::summary(&run, self.options.json));
        wait_for_output(&self.events, hurry).map(|()| lost)
    }
}

/// Waits until the output has been written; a signal makes it a hurry.
fn wait_for_output(events: &Receiver<Event>, mut hurry: bool) -> Result<(), Error> {
    loop {
        let limit = if hurry { HURRY } else { Duration::MAX };
        match events.recv_timeout(limit) {
            Ok(Event::OutputEnded(result)) => return result,
            Ok(Event::Signal) => hurry = true,
            Ok(Event::Outcome(_)) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// The texts on their way to stdout.
struct Output {
    lines: SyncSender<String>,
    summary: Sender<String>,
    dropped: u64,
}

impl Output {
    /// Starts the thread that writes the lines and then the summary.
    fn start(events: Sender<Event>) -> io::Result<Output> {
        let (lines, line_queue) = mpsc::sync_channel::<String>(LINES);
        let (summary, summary_queue) = mpsc::channel();
        let write = move || {
            let mut texts = line_queue.iter().chain(summary_queue.iter());
            let written = texts.try_for_each(|text| {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            });
            let result = match written {
                // `watch | head` is no failure, a full disk is.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Output(error)),
                _ => Ok(()),
            };
            // Nobody may wait any more when the output ends.
            drop(events.send(Event::OutputEnded(result)));
        };
        thread::Builder::new().name("output".into()).spawn(write)?;
        Ok(Output {
            lines,
            summary,
            dropped: 0,
        })
    }

    /// Queues a line, or drops it if nobody has read the output for an hour.
    fn line(&mut self, line: String) {
        // Where the writer has ended, its event says so.
        self.dropped += u64::from(self.lines.try_send(line).is_err());
    }

    /// Queues the last text.
    fn finish(self, summary: String) {
        // Where the writer has ended, its event says so.
        let _ = self.summary.send(summary);
    }
}
