//! The chunked coding (RFC 9112 section 7.1), decoded a piece at a time.
//!
//! The decoder takes input in pieces of any size, hands on runs of data, and stops after the last
//! byte of the body. Extensions, leading zeros of sizes, and trailers have one bound together, and
//! only CR LF ends a line. Trailers are kept as they came.

use crate::http::error::RequestError;
use crate::http::field::{is_token_byte, is_value_byte};
use crate::limits;

/// A chunked body that is being read.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Bytes of data that are left of the present chunk.
    left: u64,
    /// Bytes of data that the chunks to come may have.
    allowed: u64,
    /// Bytes besides the data that may still come.
    overhead: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    SizeStart,
    Size,
    SpaceAfterSize,
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
        Chunked {
            state: State::SizeStart,
            left: 0,
            allowed: max,
            overhead: limits::CHUNK_OVERHEAD_BYTES,
            trailers: Vec::new(),
        }
    }

    /// Whether the body has been read to its end.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes the next piece of input, hands its data on, and tells how many bytes of it belong to
    /// this body.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(&[u8]) -> Result<(), RequestError>,
    ) -> Result<usize, RequestError> {
        let mut at = 0;
        while at < input.len() && !self.done() {
            if self.state == State::Data {
                let rest = &input[at..];
                let run = self.left.min(rest.len() as u64) as usize;
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
    fn step(&mut self, byte: u8) -> Result<State, RequestError> {
        let in_value = is_value_byte(byte);
        Ok(match (self.state, byte) {
            (State::SizeStart | State::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte)?,
            (State::Size | State::SpaceAfterSize, b';') => State::Extension,
            (State::Size | State::SpaceAfterSize, b' ' | b'\t') => {
                self.overhead(State::SpaceAfterSize)?
            }
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) if in_value => self.overhead(State::Extension)?,
            (State::SizeLf, b'\n') if self.left == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => {
                let allowed = self.allowed.checked_sub(self.left);
                self.allowed = allowed.ok_or(RequestError::BodyTooLarge)?;
                State::Data
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerName, b':') => self.trailer(byte, State::TrailerValue)?,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.trailer(byte, State::TrailerName)?
            }
            (State::TrailerValue, b'\r') => self.trailer(byte, State::TrailerLf)?,
            (State::TrailerValue, _) if in_value => self.trailer(byte, State::TrailerValue)?,
            (State::TrailerLf, b'\n') => self.trailer(byte, State::TrailerStart)?,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(RequestError::Chunk),
        })
    }

    fn digit(&mut self, digit: u8) -> Result<State, RequestError> {
        // A leading zero.
        if self.state == State::Size && self.left == 0 {
            self.overhead(State::Size)?;
        }
        let value = (digit as char).to_digit(16).unwrap_or_default();
        self.left = self.left.checked_mul(16).ok_or(RequestError::Chunk)? + u64::from(value);
        Ok(State::Size)
    }

    /// Counts a byte that is no data, and goes on in `state`.
    fn overhead(&mut self, state: State) -> Result<State, RequestError> {
        let left = self.overhead.checked_sub(1);
        self.overhead = left.ok_or(RequestError::Chunk)?;
        Ok(state)
    }

    /// Keeps a byte of a trailer, and goes on in `state`.
    fn trailer(&mut self, byte: u8, state: State) -> Result<State, RequestError> {
        self.trailers.push(byte);
        self.overhead(state)
    }

    /// The trailer lines as they came.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1000;

    /// The data and the length that a body has to give.
    type Outcome<'a> = Result<Option<(&'a [u8], usize)>, RequestError>;

    /// The data and the length of a body fed in pieces of `size`; `None` while it is not complete.
    fn decode(input: &[u8], size: usize) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
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
        let zeros = [
            b"0".repeat(limits::CHUNK_OVERHEAD_BYTES + 2),
            b"\r\n\r\n".to_vec(),
        ]
        .concat();
        let trailer = [
            b"0\r\nA:".to_vec(),
            b"x".repeat(limits::CHUNK_OVERHEAD_BYTES),
            b"\r\n\r\n".to_vec(),
        ]
        .concat();
        let table: &[(&[u8], Outcome<'_>)] = &[
            (b"0\r\n\r\n", Ok(Some((b"", 5)))),
            (b"3\r\nabc\r\n0\r\n\r\nGET", Ok(Some((b"abc", 13)))),
            (
                b"A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n",
                Ok(Some((b"01234567890123456789", 36))),
            ),
            (
                b"1;a=b;c=\"d\"\r\nx\r\n0 ;e\r\nT: v\r\nU:\r\n\r\n",
                Ok(Some((b"x", 34))),
            ),
            (b"1\r\nx\r\n0\r\n", Ok(None)),
            (b"ffffffffffffffff\r\n", Err(RequestError::BodyTooLarge)),
            (b"3e8\r\n", Ok(None)),
            (b"3e9\r\n", Err(RequestError::BodyTooLarge)),
            (b"1\r\nx\r\n3e8\r\n", Err(RequestError::BodyTooLarge)),
            (b"10000000000000000\r\n", Err(RequestError::Chunk)),
            (b"1\nx\r\n", Err(RequestError::Chunk)),
            (b"1\r\nxy", Err(RequestError::Chunk)),
            (b"1\r\nx\n", Err(RequestError::Chunk)),
            (b"\r\n", Err(RequestError::Chunk)),
            (b";a\r\n", Err(RequestError::Chunk)),
            (b"-1\r\n", Err(RequestError::Chunk)),
            (b"0x1\r\n", Err(RequestError::Chunk)),
            (b"1 \r\nx\r\n", Err(RequestError::Chunk)),
            (b"1;a\nb\r\n", Err(RequestError::Chunk)),
            (b"0\r\n folded: x\r\n", Err(RequestError::Chunk)),
            (b"0\r\nno colon\r\n", Err(RequestError::Chunk)),
            (b"0\r\na: b\n\r\n", Err(RequestError::Chunk)),
            (&zeros, Err(RequestError::Chunk)),
            (&trailer, Err(RequestError::Chunk)),
        ];
        for (input, expected) in table {
            let expected = expected.map(|done| done.map(|(data, taken)| (data.to_vec(), taken)));
            for size in [usize::MAX, 1, 2, 3] {
                let shown = String::from_utf8_lossy(&input[..input.len().min(40)]);
                assert_eq!(
                    decode(input, size.min(input.len())),
                    expected,
                    "{shown:?} by {size}"
                );
            }
        }
    }
}
