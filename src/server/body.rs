//! Request bodies: reading them, and the memory that they share.
//!
//! Memory is reserved as the bytes of a body arrive, so a client that announces a body and sends
//! nothing takes none. A body that arrived whole with its head stays in the input, which is there
//! anyway. A client may take so long for each MiB of its body.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::http::chunked::Chunked;
use crate::http::error::RequestError;
use crate::http::field::truncated;
use crate::http::request::{Framing, Request};
use crate::limits;
use crate::observe::metrics::Aborted;
use crate::server::connection::Connection;
use crate::server::slots::Phase;

/// The memory that all request bodies may take together: the bytes that are left of it.
#[derive(Debug)]
pub struct BodyMemory(AtomicU64);

impl BodyMemory {
    /// So many bytes.
    pub fn new(bytes: u64) -> BodyMemory {
        BodyMemory(AtomicU64::new(bytes))
    }

    /// A reservation of nothing, which can grow.
    pub fn reservation(&self) -> Reservation<'_> {
        Reservation {
            memory: self,
            bytes: 0,
        }
    }
}

/// The memory of one body. Dropping it gives the memory back.
#[derive(Debug)]
pub struct Reservation<'a> {
    memory: &'a BodyMemory,
    bytes: u64,
}

impl Reservation<'_> {
    /// Reserves more, or gives back, so that it is so many bytes.
    pub fn resize(&mut self, bytes: u64) -> Result<(), RequestError> {
        let left_then = |left: u64| (left + self.bytes).checked_sub(bytes);
        let resized = self.memory.0.fetch_update(Relaxed, Relaxed, left_then);
        resized.map_err(|_| RequestError::BodyMemory)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.memory.0.fetch_add(self.bytes, Relaxed);
    }
}

/// What is to be done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is kept for the handler.
    Keep,
    /// Its bytes are counted and dropped.
    Drop,
}

/// A body that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many of its bytes are the next ones of the input; 0 if they are in the body buffer or
    /// were dropped.
    pub in_input: usize,
    /// Its length in bytes.
    pub length: u64,
    /// How long it took to arrive.
    pub duration: Duration,
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The request is refused.
    Refused(RequestError),
    /// The connection ended.
    Aborted(Aborted),
}

impl From<RequestError> for BodyError {
    fn from(error: RequestError) -> Self {
        BodyError::Refused(error)
    }
}

/// The time by which the present MiB of a body has to arrive.
struct Pace {
    deadline: Instant,
    /// The bytes that are left of it.
    left: u64,
    /// When its last KiB came, and the bytes that have come since.
    came: Instant,
    recent: usize,
}

impl Connection<'_> {
    /// Reads the body of a request.
    pub(super) fn read_body(
        &mut self,
        request: &Request,
        purpose: Use,
        reservation: &mut Reservation<'_>,
    ) -> Result<Received, BodyError> {
        let max = match purpose {
            Use::Keep => self.app().config.max_body,
            Use::Drop => limits::STREAM_BYTES,
        };
        let here = self.buffers.input.unread().len() as u64;
        let most = match request.framing {
            Framing::None => return Ok(Received::default()),
            Framing::Length(length) if length > max => {
                return Err(RequestError::BodyTooLarge.into());
            }
            Framing::Length(length) if length <= here => {
                return Ok(Received {
                    in_input: length as usize,
                    length,
                    duration: Duration::ZERO,
                });
            }
            Framing::Length(length) => length,
            Framing::Chunked => max,
        };
        if request.expects_continue && here == 0 {
            self.out.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.read_pieces(request.framing, most, purpose, reservation)
    }

    /// Reads a body of at most `most` bytes that has not arrived whole.
    fn read_pieces(
        &mut self,
        framing: Framing,
        most: u64,
        purpose: Use,
        reservation: &mut Reservation<'_>,
    ) -> Result<Received, BodyError> {
        let start = Instant::now();
        // A client that takes earlier responses slowly has its whole time for the body after that.
        if !self.flush() {
            return Err(BodyError::Aborted(self.why_aborted()));
        }
        let (mut pace, mut chunked, mut length) = (self.body_pace(), Chunked::new(most), 0);
        loop {
            let (input, body) = (&mut self.buffers.input, &mut self.buffers.body);
            let left = usize::try_from(most - length).unwrap_or(usize::MAX);
            let mut take = |bytes: &[u8]| {
                length += bytes.len() as u64;
                match purpose {
                    Use::Keep => keep(body, bytes, most, reservation),
                    Use::Drop => Ok(()),
                }
            };
            let taken = if framing == Framing::Chunked {
                chunked.decode(input.unread(), take)?
            } else {
                let piece = truncated(input.unread(), left);
                take(piece)?;
                piece.len()
            };
            input.take(taken);
            if chunked.done() || framing == Framing::Length(length) {
                self.buffers.trailers.extend_from_slice(chunked.trailers());
                return Ok(Received {
                    in_input: 0,
                    length,
                    duration: start.elapsed(),
                });
            }
            self.read_more_body(&mut pace)?;
        }
    }

    fn body_pace(&self) -> Pace {
        let now = Instant::now();
        Pace {
            deadline: now + self.app().config.body_timeout,
            left: limits::TIMED_BYTES,
            came: now,
            recent: 0,
        }
    }

    /// Reads some bytes of a body into the input within its time limit. A client that makes room for
    /// a newcomer instead is told the same as at that limit.
    fn read_more_body(&mut self, pace: &mut Pace) -> Result<(), BodyError> {
        self.permit.enter(Phase::Body, pace.came);
        match self.read(limits::LARGE_READ_BYTES, pace.deadline) {
            Ok(0) if self.permit.is_evicted() => Err(RequestError::BodyTimeout.into()),
            Ok(count @ 1..) => {
                let now = Instant::now();
                self.permit.active(now);
                pace.recent += count;
                if pace.recent >= limits::BODY_PROGRESS_BYTES {
                    (pace.came, pace.recent) = (now, 0);
                }
                match pace.left.checked_sub(count as u64) {
                    Some(left) => pace.left = left,
                    None => *pace = self.body_pace(),
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                Err(RequestError::BodyTimeout.into())
            }
            _ => Err(BodyError::Aborted(self.why_aborted())),
        }
    }
}

/// Adds bytes to a body that gets at most `most` bytes in all. Its room doubles as it fills, so the
/// reserved memory is never more than twice of what has arrived.
fn keep(
    body: &mut Vec<u8>,
    bytes: &[u8],
    most: u64,
    reservation: &mut Reservation<'_>,
) -> Result<(), RequestError> {
    let needed = body.len() + bytes.len();
    // A buffer kept from an earlier body is reserved too.
    let mut room = body.capacity();
    if needed > room {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        room = (2 * room)
            .max(limits::BODY_STEP_BYTES)
            .min(most)
            .max(needed);
    }
    reservation.resize(room as u64)?;
    body.reserve_exact(room - body.len());
    body.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_share_the_memory() {
        let memory = BodyMemory::new(10);
        let (mut a, mut b) = (memory.reservation(), memory.reservation());
        let full = Err(RequestError::BodyMemory);
        let sizes = (a.resize(6), b.resize(5), b.resize(4));
        assert_eq!(sizes, (Ok(()), full, Ok(())));
        let sizes = (a.resize(2), b.resize(9), a.resize(2));
        assert_eq!(sizes, (Ok(()), full, Ok(())));
        assert_eq!((b.resize(8), a.resize(3)), (Ok(()), full));
        assert_eq!((b.resize(4), a.resize(6)), (Ok(()), Ok(())));
        drop(a);
        assert_eq!((b.resize(11), b.resize(10)), (full, Ok(())));
    }

    #[test]
    fn a_body_reserves_what_has_arrived() {
        let memory = BodyMemory::new(1 << 20);
        let (mut reservation, mut body) = (memory.reservation(), Vec::new());
        let mut arrived = 0;
        while arrived < 512 << 10 {
            keep(&mut body, &[b'x'; 4 << 10], 512 << 10, &mut reservation).unwrap();
            arrived += 4 << 10;
            let most = (2 * arrived).max(limits::BODY_STEP_BYTES) as u64;
            assert!(reservation.bytes <= most && reservation.bytes >= arrived as u64);
        }
        assert_eq!((body.len(), reservation.bytes), (512 << 10, 512 << 10));
    }
}
