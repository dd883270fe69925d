//! The stage of a shutdown, and the events that move it on.
//!
//! Signals and the end of the last connection thread are bytes in a socket pair, so the main thread
//! waits for all of them in one place: a read with a time limit. The write ends do not block: a
//! storm of signals fills the pair and loses bytes that say nothing new.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::app::Stage;

/// The stage that all threads look at. It only rises from zero, the first stage.
#[derive(Debug, Default)]
pub struct StageCell(AtomicU8);

impl StageCell {
    /// Raises the stage.
    pub fn raise(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, SeqCst);
    }

    /// Whether the shutdown has come this far.
    pub fn reached(&self, stage: Stage) -> bool {
        self.0.load(SeqCst) >= stage as u8
    }
}

/// What the main thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM, SIGINT or SIGHUP came.
    Signal,
    /// The last connection thread has ended.
    Empty,
    /// Nothing happened before the deadline.
    Nothing,
}

/// The byte of [`Event::Empty`]; signal handlers write another one.
const EMPTY: &[u8] = b"E";

/// The read end: where the main thread waits.
#[derive(Debug)]
pub struct Events(UnixStream);

/// A write end.
#[derive(Debug)]
pub struct Notifier(UnixStream);

/// Both ends, with nothing that writes to them yet.
pub fn channel() -> io::Result<(Events, Notifier)> {
    let (read_end, write_end) = UnixStream::pair()?;
    write_end.set_nonblocking(true)?;
    Ok((Events(read_end), Notifier(write_end)))
}

impl Events {
    /// Waits for the next event, at most until a deadline.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Event {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Event::Nothing;
            }
            let mut byte = [0];
            let read = self
                .0
                .set_read_timeout(left)
                .and_then(|()| self.0.read(&mut byte));
            match read.map_err(|error| error.kind()) {
                Ok(1) if byte == EMPTY => return Event::Empty,
                Err(ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // Where nothing can be read nothing can be waited for: shut down in order.
                _ => return Event::Signal,
            }
        }
    }
}

impl Notifier {
    /// Has SIGTERM, SIGINT and SIGHUP write to the events from now on.
    pub fn catch_signals(&self) -> io::Result<()> {
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, self.0.try_clone()?)?;
        }
        Ok(())
    }

    /// Tells that the last connection thread has ended. If the pair is full of signals, the next of
    /// them ends the main thread's wait.
    pub fn tell_empty(&self) {
        let _ = (&self.0).write(EMPTY);
    }

    /// Does what a signal does, for tests.
    pub fn signal(&self) {
        let _ = (&self.0).write(b"X");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn events_in_order_and_none() {
        let (mut events, notifier) = channel().unwrap();
        notifier.signal();
        notifier.tell_empty();
        assert_eq!(
            (events.wait(None), events.wait(None)),
            (Event::Signal, Event::Empty)
        );
        let start = Instant::now();
        assert_eq!(
            events.wait(Some(start + Duration::from_millis(20))),
            Event::Nothing
        );
        assert!(start.elapsed() >= Duration::from_millis(20));
        drop(notifier);
        assert_eq!(events.wait(None), Event::Signal);
    }

    #[test]
    fn a_full_channel_blocks_nobody() {
        let (mut events, notifier) = channel().unwrap();
        for _ in 0..100_000 {
            notifier.signal();
        }
        notifier.tell_empty();
        assert_eq!(events.wait(None), Event::Signal);
    }

    #[test]
    fn the_stage_only_rises() {
        let stage = StageCell::default();
        stage.raise(Stage::NoDelays);
        stage.raise(Stage::Draining);
        assert!(stage.reached(Stage::NoDelays) && !stage.reached(Stage::Cut));
    }
}
