//! Request bodies: the memory they share, and chunked coding (RFC 9112 section 7.1), decoded a piece at a time.
//!
//! A body with a length needs no decoder: its bytes are its content. The decoder takes input in pieces of any size,
//! hands on runs of data, and stops behind the last byte of the body. What it drops (extensions, leading zeros of
//! sizes, trailers) is bounded together, and nothing but CRLF ends a line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits;
use crate::request::{Reject, is_token_byte};

/// The memory that all request bodies may take together.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: u64) -> Budget {
        Budget { left: AtomicU64::new(bytes) }
    }

    /// A share of nothing, which can grow.
    pub fn share(&self) -> Share<'_> {
        Share { budget: self, bytes: 0 }
    }
}

/// What one body takes of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Share<'_> {
    /// Takes so many bytes more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Reject> {
        let taken = self.budget.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        taken.map_err(|_| Reject::BodyMemory)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Relaxed);
    }
}

/// A chunked body that is being read.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    left: u64,
    allowed: u64,
    has_digits: bool,
    dropped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Size,
    SpaceBehindSize,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunked {
    /// A decoder at the start of a body of at most so many bytes.
    pub fn new(max: u64) -> Chunked {
        Chunked { state: State::Size, left: 0, allowed: max, has_digits: false, dropped: 0 }
    }

    /// Whether the body has been read to its end.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes the next piece of input, hands its data on, and tells how many bytes of it belong to this body.
    pub fn decode(&mut self, input: &[u8], mut data: impl FnMut(&[u8]) -> Result<(), Reject>) -> Result<usize, Reject> {
        let mut at = 0;
        while at < input.len() && !self.done() {
            if self.state == State::Data {
                let rest = &input[at..];
                let run = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                data(&rest[..run])?;
                self.left -= run as u64;
                at += run;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// The state after one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Reject> {
        let in_value = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        Ok(match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte)?,
            (State::Size | State::SpaceBehindSize, b';') if self.has_digits => State::Extension,
            (State::Size | State::SpaceBehindSize, b' ' | b'\t') if self.has_digits => {
                self.drop_one(State::SpaceBehindSize)?
            }
            (State::Size, b'\r') if self.has_digits => State::SizeLf,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) if in_value => self.drop_one(State::Extension)?,
            (State::SizeLf, b'\n') => {
                self.has_digits = false;
                self.allowed = self.allowed.checked_sub(self.left).ok_or(Reject::BodyTooLarge)?;
                if self.left == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerName, b':') => self.drop_one(State::TrailerValue)?,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.drop_one(State::TrailerName)?
            }
            (State::TrailerValue, b'\r') => self.drop_one(State::TrailerLf)?,
            (State::TrailerValue, _) if in_value => self.drop_one(State::TrailerValue)?,
            (State::TrailerLf, b'\n') => self.drop_one(State::TrailerStart)?,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Reject::Chunk),
        })
    }

    fn digit(&mut self, digit: u8) -> Result<State, Reject> {
        if self.has_digits && self.left == 0 {
            self.drop_one(State::Size)?;
        }
        let value = (digit as char).to_digit(16).unwrap_or_default();
        self.left = self.left.checked_mul(16).ok_or(Reject::Chunk)? + u64::from(value);
        self.has_digits = true;
        Ok(State::Size)
    }

    /// Counts a byte that is dropped, and goes on in `state`.
    fn drop_one(&mut self, state: State) -> Result<State, Reject> {
        self.dropped += 1;
        if self.dropped > limits::CHUNK_OVERHEAD { Err(Reject::Chunk) } else { Ok(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_budget() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert_eq!((a.grow(6), b.grow(5), b.grow(4)), (Ok(()), Err(Reject::BodyMemory), Ok(())));
        drop(a);
        assert_eq!((b.grow(7), b.grow(6)), (Err(Reject::BodyMemory), Ok(())));
    }

    const MAX: u64 = 1000;

    /// The data and the length that a body has to give.
    type Outcome<'a> = Result<Option<(&'a [u8], usize)>, Reject>;

    /// The data and the length of a body fed in pieces of `size`; `None` while it is not complete.
    fn decode(input: &[u8], size: usize) -> Result<Option<(Vec<u8>, usize)>, Reject> {
        let (mut chunked, mut data, mut taken) = (Chunked::new(MAX), Vec::new(), 0);
        for piece in input.chunks(size) {
            taken += chunked.decode(piece, |run| {
                data.extend_from_slice(run);
                Ok(())
            })?;
        }
        Ok(chunked.done().then_some((data, taken)))
    }

    #[test]
    fn bodies_whole_and_in_pieces() {
        let zeros = [b"0".repeat(limits::CHUNK_OVERHEAD + 2), b"\r\n\r\n".to_vec()].concat();
        let trailer = [b"0\r\nA:".to_vec(), b"x".repeat(limits::CHUNK_OVERHEAD), b"\r\n\r\n".to_vec()].concat();
        let table: &[(&[u8], Outcome<'_>)] = &[
            (b"0\r\n\r\n", Ok(Some((b"", 5)))),
            (b"3\r\nabc\r\n0\r\n\r\nGET", Ok(Some((b"abc", 13)))),
            (b"A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n", Ok(Some((b"01234567890123456789", 36)))),
            (b"1;a=b;c=\"d\"\r\nx\r\n0 ;e\r\nT: v\r\nU:\r\n\r\n", Ok(Some((b"x", 34)))),
            (b"1\r\nx\r\n0\r\n", Ok(None)),
            (b"ffffffffffffffff\r\n", Err(Reject::BodyTooLarge)),
            (b"3e8\r\n", Ok(None)),
            (b"3e9\r\n", Err(Reject::BodyTooLarge)),
            (b"1\r\nx\r\n3e8\r\n", Err(Reject::BodyTooLarge)),
            (b"10000000000000000\r\n", Err(Reject::Chunk)),
            (b"1\nx\r\n", Err(Reject::Chunk)),
            (b"1\r\nxy", Err(Reject::Chunk)),
            (b"1\r\nx\n", Err(Reject::Chunk)),
            (b"\r\n", Err(Reject::Chunk)),
            (b";a\r\n", Err(Reject::Chunk)),
            (b"-1\r\n", Err(Reject::Chunk)),
            (b"0x1\r\n", Err(Reject::Chunk)),
            (b"1 \r\nx\r\n", Err(Reject::Chunk)),
            (b"1;a\nb\r\n", Err(Reject::Chunk)),
            (b"0\r\n folded: x\r\n", Err(Reject::Chunk)),
            (b"0\r\nno colon\r\n", Err(Reject::Chunk)),
            (b"0\r\na: b\n\r\n", Err(Reject::Chunk)),
            (&zeros, Err(Reject::Chunk)),
            (&trailer, Err(Reject::Chunk)),
        ];
        for (input, expected) in table {
            let expected = expected.map(|done| done.map(|(data, taken)| (data.to_vec(), taken)));
            for size in [usize::MAX, 1, 2, 3] {
                let shown = String::from_utf8_lossy(&input[..input.len().min(40)]);
                assert_eq!(decode(input, size.min(input.len())), expected, "{shown:?} by {size}");
            }
        }
    }
}
