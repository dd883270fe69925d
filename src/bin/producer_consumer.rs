//! One producer and one consumer with a queue of 10 integers between them.
//!
//! The queue is std's bounded channel: `send` blocks while it is full, `recv` while it is empty.
//! `try_send` and `try_recv` come first only so that a line can tell that the thread is about to
//! block.
//!
//! A channel does not tell its length, so both threads count in one `Tally`. Its lock is held over
//! a step that cannot block, its count and its line, so the lines stand in the order of the steps.
//! It is released before a step that can block, or the other side could never end the wait.
//!
//! The end: Ctrl-C writes a byte into a socket that `main` reads, and `main` then drops the senders
//! of two channels that carry nothing. Each thread waits out its interval on one of them, so the
//! drop wakes it at once. The producer returns and drops the queue's sender; the consumer takes
//! what is left, sees the queue closed, and returns too.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fmt, thread};

use httpserver::config::units::parse_duration;
use signal_hook::{consts::SIGINT, low_level::pipe};

const CAPACITY: usize = 10;
const FLAGS: &str = "--interval, --producer-interval, --consumer-interval, --count";

fn main() -> ExitCode {
    let arguments = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    let (reason, status) = match parse_flags(arguments).map(|settings| run(&settings)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error.to_string(), 1),
        Err(reason) => (reason, 64),
    };
    eprintln!("producer_consumer: {reason}");
    ExitCode::from(status)
}

struct Settings {
    put_every: Duration,
    take_every: Duration,
    count: u64,
}

/// Reads `--flag value` pairs; a later flag overrides an earlier one.
fn parse_flags(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let second = Duration::from_secs(1);
    let mut settings = Settings {
        put_every: second,
        take_every: second,
        count: u64::MAX,
    };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let bad = |expected| format!("{flag}: {value:?} is not {expected}");
        let duration =
            || parse_duration(&value).ok_or_else(|| bad("a duration such as 250ms or 2s"));
        match flag.as_str() {
            "--interval" => {
                settings.put_every = duration()?;
                settings.take_every = settings.put_every;
            }
            "--producer-interval" => settings.put_every = duration()?,
            "--consumer-interval" => settings.take_every = duration()?,
            "--count" => settings.count = value.parse().map_err(|_| bad("a whole number"))?,
            _ => return Err(format!("{flag:?} is not one of {FLAGS}")),
        }
    }
    Ok(settings)
}

fn run(settings: &Settings) -> io::Result<()> {
    let (mut wake, waker) = UnixStream::pair()?;
    pipe::register(SIGINT, waker.try_clone()?)?;
    let tally = &Mutex::new(Tally {
        produced: 0,
        consumed: 0,
        waker,
    });
    let (sender, receiver) = mpsc::sync_channel(CAPACITY);
    let (stop_producer, producer_stop) = mpsc::channel();
    let (stop_consumer, consumer_stop) = mpsc::channel();
    thread::scope(|scope| {
        let consumer = move || consume(&receiver, settings.take_every, &consumer_stop, tally);
        let producer = move || produce(&sender, settings, &producer_stop, tally);
        thread::Builder::new().spawn_scoped(scope, consumer)?;
        thread::Builder::new().spawn_scoped(scope, producer)?;
        // A byte is Ctrl-C, the end of the stream is the consumer's end: either way it is over.
        wake.read_exact(&mut [0]).ok();
        drop((stop_producer, stop_consumer));
        io::Result::Ok(())
    })?;
    let tally = lock(tally);
    let (put, taken) = (tally.produced, tally.consumed);
    writeln!(io::stdout(), "done: {put} produced, {taken} consumed")
}

fn produce(
    queue: &SyncSender<u64>,
    settings: &Settings,
    stop: &Receiver<()>,
    tally: &Mutex<Tally>,
) {
    for number in 1..=settings.count {
        if stopped_within(settings.put_every, stop) {
            return;
        }
        let mut counts = lock(tally);
        if queue.try_send(number).is_err() {
            counts.say(format_args!(
                "producer: queue is full, waiting to put {number}"
            ));
            drop(counts);
            let Ok(()) = queue.send(number) else { return };
            counts = lock(tally);
        }
        counts.produced += 1;
        let fill = counts.fill();
        counts.say(format_args!("producer: put {number}, queue {fill}"));
    }
}

fn consume(queue: &Receiver<u64>, interval: Duration, stop: &Receiver<()>, tally: &Mutex<Tally>) {
    loop {
        // Stopped or not, what is in the queue is taken: only the closed queue ends this loop.
        stopped_within(interval, stop);
        let mut counts = lock(tally);
        let mut taken = queue.try_recv();
        if taken == Err(TryRecvError::Empty) {
            counts.say(format_args!("consumer: queue is empty, waiting"));
            drop(counts);
            taken = queue.recv().map_err(TryRecvError::from);
            counts = lock(tally);
        }
        let Ok(number) = taken else {
            return counts.end();
        };
        counts.consumed += 1;
        let fill = counts.fill();
        counts.say(format_args!("consumer: took {number}, queue {fill}"));
    }
}

/// Waits for the interval, or until `main` drops the other half of `stop`; true if it did.
fn stopped_within(interval: Duration, stop: &Receiver<()>) -> bool {
    stop.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected)
}

/// What both threads count, and the way to end the program.
struct Tally {
    produced: u64,
    consumed: u64,
    waker: UnixStream,
}

impl Tally {
    /// A thread that had to wait is counted late. Until then `produced - consumed` can be above the
    /// capacity or below zero, so the result is limited to that range.
    fn fill(&self) -> String {
        let fill = self.produced.saturating_sub(self.consumed);
        format!("{}/{CAPACITY}", fill.min(CAPACITY as u64))
    }

    /// Writes a line; where nobody reads any more (`| head`), the program ends as by Ctrl-C.
    fn say(&self, line: fmt::Arguments<'_>) {
        if writeln!(io::stdout(), "{line}").is_err() {
            self.end();
        }
    }

    fn end(&self) {
        self.waker.shutdown(Shutdown::Write).ok();
    }
}

/// Locks the tally, even after a panic in the other thread: none leaves the counts half changed.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
