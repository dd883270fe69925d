//! Reads and writes with deadlines.
//!
//! A socket's time limits cost a system call each time they are set, so a deadline is kept with few
//! of them: the limit that the socket has stays as long as it is near enough, and a read or write
//! that it ends too early is tried again with the time that is left. Linux rounds long limits up by
//! as much as an eighth, so for a long wait an eighth less is set.
//!
//! A process may be frozen (docker pause, SIGSTOP) for longer than a time limit. Before anything is
//! given up, one more attempt is made without waiting, so nothing that has arrived is lost.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::limits;

/// What a connection needs of its socket; a test brings bytes in memory instead.
pub trait Transport {
    /// Reads some bytes; 0 at the end. `WouldBlock` once the time limit has passed.
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes some bytes. `WouldBlock` once the time limit has passed.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Sets how long a read may take; more than zero.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Sets how long a write may take; more than zero.
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Sets whether reads and writes return at once.
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    /// Tells the peer that nothing more will be written.
    fn end_writing(&self);
}

impl Transport for TcpStream {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, bytes)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_read_timeout(self, Some(timeout))
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_write_timeout(self, Some(timeout))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        TcpStream::set_nonblocking(self, nonblocking)
    }

    fn end_writing(&self) {
        // An error means that the connection has ended already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// The time limit that a socket has for one direction.
#[derive(Clone, Copy, Debug)]
struct TimeLimit(Duration);

/// The limit to set for a wait that has to end within `left`.
pub fn limit_within(left: Duration) -> Duration {
    if left > Duration::from_secs(1) {
        left - left / 8
    } else {
        left
    }
}

impl TimeLimit {
    /// The limit to set so that a wait ends by a deadline, or `None` if the present one will do.
    fn adjust(&mut self, left: Duration) -> Option<Duration> {
        let near = limit_within(left);
        if self.0 <= left && self.0 >= near - near / 8 {
            return None;
        }
        self.0 = near;
        Some(near)
    }
}

/// The reading side.
pub struct Reader<'a> {
    transport: &'a dyn Transport,
    limit: TimeLimit,
}

impl<'a> Reader<'a> {
    /// The reading side of a transport that has no time limit yet.
    pub fn new(transport: &'a dyn Transport) -> Reader<'a> {
        Reader {
            transport,
            limit: TimeLimit(Duration::ZERO),
        }
    }

    /// Reads some bytes until a deadline; `TimedOut` once it has passed. `now` is the time, as far
    /// as it is known.
    pub fn read(&mut self, room: &mut [u8], now: Instant, deadline: Instant) -> io::Result<usize> {
        let mut left = deadline.saturating_duration_since(now);
        while !left.is_zero() {
            if let Some(limit) = self.limit.adjust(left) {
                self.transport.set_read_timeout(limit)?;
            }
            match self.transport.read(room) {
                Err(error) if is_early_end(&error) => {
                    left = deadline.saturating_duration_since(Instant::now());
                }
                result => return result,
            }
        }
        at_once(self.transport, || self.transport.read(room))
    }

    /// Reads some bytes within a duration at the most, or less; `TimedOut` where none came. Unlike
    /// [`Reader::read`] it gives nothing up, so it costs one system call.
    pub fn try_read(&mut self, room: &mut [u8], within: Duration) -> io::Result<usize> {
        if self.limit.0 != within {
            self.transport.set_read_timeout(within)?;
            self.limit.0 = within;
        }
        self.transport.read(room).map_err(|error| {
            if is_early_end(&error) {
                ErrorKind::TimedOut.into()
            } else {
                error
            }
        })
    }

    /// Tells the peer that nothing more will be written.
    pub fn end_writing(&self) {
        self.transport.end_writing();
    }
}

/// The writing side: a client may take so long for each MiB.
pub struct Writer<'a> {
    transport: &'a dyn Transport,
    /// How long a client may take for each MiB.
    per_unit: Duration,
    limit: TimeLimit,
    /// When the present MiB has to be taken, and the bytes that are left of it.
    deadline: Option<Instant>,
    unit_left: u64,
    /// The end of all writing, for a connection that is shed.
    end: Option<Instant>,
}

impl<'a> Writer<'a> {
    /// The writing side of a transport that has the time limit for writes already.
    pub fn new(transport: &'a dyn Transport, limit: Duration, end: Option<Instant>) -> Writer<'a> {
        Writer {
            transport,
            per_unit: limit,
            limit: TimeLimit(limit_within(limit)),
            deadline: None,
            unit_left: limits::TIMED_BYTES,
            end,
        }
    }

    /// The time by which the present MiB has to be taken.
    fn deadline(&mut self, now: Instant) -> Instant {
        let deadline = *self.deadline.get_or_insert(now + self.per_unit);
        self.end.map_or(deadline, |end| deadline.min(end))
    }

    /// Counts what the client took; after a whole MiB the next one has its own time.
    fn count(&mut self, taken: usize) -> usize {
        match self.unit_left.checked_sub(taken as u64) {
            Some(left) => self.unit_left = left,
            None => self.start_over(),
        }
        taken
    }

    fn start_over(&mut self) {
        (self.deadline, self.unit_left) = (None, limits::TIMED_BYTES);
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = Instant::now();
        let deadline = self.deadline(now);
        let mut left = deadline.saturating_duration_since(now);
        while !left.is_zero() {
            // Most writes are taken at once, so the full limit may stay until one is not.
            if let Some(limit) = self.limit.adjust(left) {
                self.transport.set_write_timeout(limit)?;
            }
            match self.transport.write(bytes) {
                Ok(taken) => return Ok(self.count(taken)),
                Err(error) if is_early_end(&error) => {
                    left = deadline.saturating_duration_since(Instant::now());
                }
                Err(error) => return Err(error),
            }
        }
        at_once(self.transport, || self.transport.write(bytes)).map(|taken| self.count(taken))
    }

    /// Everything was written: what comes next has its own time.
    fn flush(&mut self) -> io::Result<()> {
        self.start_over();
        Ok(())
    }
}

/// Whether a call ended before its time without a result.
fn is_early_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Tries once more without waiting; `TimedOut` if there is nothing to be had.
fn at_once<T>(transport: &dyn Transport, attempt: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    transport.set_nonblocking(true)?;
    let result = attempt();
    transport.set_nonblocking(false)?;
    result.map_err(|error| {
        if is_early_end(&error) {
            ErrorKind::TimedOut.into()
        } else {
            error
        }
    })
}
