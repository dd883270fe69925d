//! Several producers and several consumers with a queue of 10 integers between them.
//!
//! It starts from `producer_consumer.rs`, whose head explains the tally and the end, and repeats
//! what it needs of it, so that each of the two is one file to read. New is how the ends of the
//! queue are shared:
//!
//! - std's sender can be cloned: each producer has its own. The queue closes when the last clone is
//!   dropped.
//! - std's receiver has one owner: the scoped threads borrow it through a mutex. What that costs:
//!   one consumer at a time waits in `recv`, while it holds the lock, and the others wait for the
//!   lock, so taking is serial and each integer pays for a lock as well. It does not matter while
//!   the work on an integer is longer than its taking, and is done after the lock is released. And
//!   no consumer can give up waiting: a mutex has no lock with a time limit.
//!
//! The integers are drawn from one counter, so each exists once, and travel with their producer's
//! number. A consumer writes its line while it holds the receiver, so the lines of the consumers
//! stand in the order of the queue.

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
const FLAGS: &str =
    "--interval, --producer-interval, --consumer-interval, --count, --producers, --consumers";

fn main() -> ExitCode {
    let arguments = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    let (reason, status) = match parse_flags(arguments).map(|settings| run(&settings)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error.to_string(), 1),
        Err(reason) => (reason, 64),
    };
    eprintln!("producers_consumers: {reason}");
    ExitCode::from(status)
}

struct Settings {
    put_every: Duration,
    take_every: Duration,
    count: u64,
    producers: u8,
    consumers: u8,
}

/// Reads `--flag value` pairs; a later flag overrides an earlier one.
fn parse_flags(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let second = Duration::from_secs(1);
    let mut settings = Settings {
        put_every: second,
        take_every: second,
        count: u64::MAX,
        producers: 3,
        consumers: 2,
    };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let bad = |expected| format!("{flag}: {value:?} is not {expected}");
        let duration =
            || parse_duration(&value).ok_or_else(|| bad("a duration such as 250ms or 2s"));
        let threads = || {
            let number = value.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| bad("a number from 1 to 255"))
        };
        match flag.as_str() {
            "--interval" => {
                settings.put_every = duration()?;
                settings.take_every = settings.put_every;
            }
            "--producer-interval" => settings.put_every = duration()?,
            "--consumer-interval" => settings.take_every = duration()?,
            "--count" => settings.count = value.parse().map_err(|_| bad("a whole number"))?,
            "--producers" => settings.producers = threads()?,
            "--consumers" => settings.consumers = threads()?,
            _ => return Err(format!("{flag:?} is not one of {FLAGS}")),
        }
    }
    Ok(settings)
}

fn run(settings: &Settings) -> io::Result<()> {
    let (mut wake, waker) = UnixStream::pair()?;
    pipe::register(SIGINT, waker.try_clone()?)?;
    let tally = &Mutex::new(Tally {
        drawn: 0,
        produced: 0,
        consumed: 0,
        waker,
    });
    let (sender, receiver) = mpsc::sync_channel(CAPACITY);
    let receiver = &Mutex::new(receiver);
    thread::scope(|scope| {
        let mut stops = Vec::new();
        // The consumers first: if a later thread is refused, they still empty the queue for those
        // that run.
        for id in 1..=settings.consumers {
            let (stop, stopped) = mpsc::channel();
            stops.push(stop);
            let consumer = move || consume(id, receiver, settings.take_every, &stopped, tally);
            thread::Builder::new().spawn_scoped(scope, consumer)?;
        }
        for id in 1..=settings.producers {
            let (stop, stopped) = mpsc::channel();
            stops.push(stop);
            let sender = sender.clone();
            let producer = move || produce(id, &sender, settings, &stopped, tally);
            thread::Builder::new().spawn_scoped(scope, producer)?;
        }
        drop(sender);
        // A byte is Ctrl-C, the end of the stream is a consumer's end: either way it is over.
        wake.read_exact(&mut [0]).ok();
        // The producers first, or those still at work would fill the queue as fast as consumers in
        // a hurry empty it.
        stops.into_iter().rev().for_each(drop);
        io::Result::Ok(())
    })?;
    let tally = lock(tally);
    let (put, taken) = (tally.produced, tally.consumed);
    writeln!(io::stdout(), "done: {put} produced, {taken} consumed")
}

/// An integer and the producer that drew it.
type Item = (u64, u8);

fn produce(
    id: u8,
    queue: &SyncSender<Item>,
    settings: &Settings,
    stop: &Receiver<()>,
    tally: &Mutex<Tally>,
) {
    while !stopped_within(settings.put_every, stop) {
        let mut counts = lock(tally);
        if counts.drawn == settings.count {
            return;
        }
        counts.drawn += 1;
        let number = counts.drawn;
        if queue.try_send((number, id)).is_err() {
            counts.say(format_args!(
                "producer {id}: queue is full, waiting to put {number}"
            ));
            drop(counts);
            let Ok(()) = queue.send((number, id)) else {
                return;
            };
            counts = lock(tally);
        }
        counts.produced += 1;
        let fill = counts.fill();
        counts.say(format_args!("producer {id}: put {number}, queue {fill}"));
    }
}

fn consume(
    id: u8,
    queue: &Mutex<Receiver<Item>>,
    interval: Duration,
    stop: &Receiver<()>,
    tally: &Mutex<Tally>,
) {
    loop {
        // Stopped or not, what is in the queue is taken: only the closed queue ends this loop.
        stopped_within(interval, stop);
        let queue = lock(queue);
        let mut counts = lock(tally);
        let mut taken = queue.try_recv();
        if taken == Err(TryRecvError::Empty) {
            counts.say(format_args!("consumer {id}: queue is empty, waiting"));
            drop(counts);
            taken = queue.recv().map_err(TryRecvError::from);
            counts = lock(tally);
        }
        let Ok((number, producer)) = taken else {
            return counts.end();
        };
        counts.consumed += 1;
        let fill = counts.fill();
        counts.say(format_args!(
            "consumer {id}: took {number} from producer {producer}, queue {fill}"
        ));
    }
}

/// Waits for the interval, or until `main` drops the other half of `stop`; true if it did.
fn stopped_within(interval: Duration, stop: &Receiver<()>) -> bool {
    stop.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected)
}

/// What all threads count, and the way to end the program.
struct Tally {
    drawn: u64,
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

/// Locks a value, even after a panic elsewhere: no step between two counts can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
