//! Signals and other events, as bytes in a socket pair.
//!
//! Whoever waits for SIGTERM, for a second one, and for the last thread to go waits for all of it in one place: a read
//! with a time-out. The write ends are given away: one to the signal handlers, one to the server's threads.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT came.
    Signal,
    /// The last connection's thread has ended.
    Empty,
    /// Neither, up to the deadline.
    Nothing,
}

/// The byte of [`Event::Empty`]; signal handlers write another one.
const EMPTY: &[u8] = b"E";

/// The read end.
#[derive(Debug)]
pub struct Events(UnixStream);

/// A write end.
#[derive(Debug)]
pub struct Notifier(UnixStream);

/// Both ends.
pub fn channel() -> io::Result<(Events, Notifier)> {
    let (read_end, write_end) = UnixStream::pair()?;
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
            match self.0.set_read_timeout(left).and_then(|()| self.0.read(&mut byte)) {
                Ok(1) if byte == EMPTY => return Event::Empty,
                Ok(_) => return Event::Signal,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // Where nothing can be read nothing can be waited for: end in order.
                Err(_) => return Event::Signal,
            }
        }
    }
}

impl Notifier {
    /// Has SIGTERM and SIGINT write to the events from now on.
    pub fn bring_signals(&self) -> io::Result<()> {
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, self.0.try_clone()?)?;
        }
        Ok(())
    }

    /// Tells that the last connection's thread has ended.
    pub fn tell_empty(&self) {
        // The events lives as long as the server; if it were gone, nobody would wait.
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
        assert_eq!((events.wait(None), events.wait(None)), (Event::Signal, Event::Empty));
        let start = Instant::now();
        assert_eq!(events.wait(Some(start + Duration::from_millis(20))), Event::Nothing);
        assert!(start.elapsed() >= Duration::from_millis(20));
        drop(notifier);
        assert_eq!(events.wait(None), Event::Signal);
    }
}
