//! Where responses go: small pieces gather in one buffer, large ones go straight to the socket.
//!
//! The first error is kept, so a response is written without a check after each piece.

use std::io::{self, Write};

use crate::limits;

/// The bytes of responses that wait for the next write.
pub struct OutputBuffer<'w> {
    pending: Vec<u8>,
    writer: &'w mut dyn Write,
    written: u64,
    lost: u64,
    failed: Option<io::ErrorKind>,
}

impl<'w> OutputBuffer<'w> {
    /// An output that goes to `writer`; `pending` is its buffer, empty.
    pub fn new(pending: Vec<u8>, writer: &'w mut dyn Write) -> OutputBuffer<'w> {
        OutputBuffer {
            pending,
            writer,
            written: 0,
            lost: 0,
            failed: None,
        }
    }

    /// The buffer, emptied, for another output.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.pending.clear();
        self.pending
    }

    /// Adds bytes. Writes only when more than [`limits::OUTPUT_BYTES`] would be pending.
    pub fn put(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.pending.capacity() - self.pending.len() {
            self.pending.extend_from_slice(bytes);
        } else {
            self.put_beyond(bytes);
        }
    }

    /// Adds bytes that the buffer has no room for. It grows by powers of two, from the size of a
    /// usual response, so that most connections allocate it once.
    #[cold]
    fn put_beyond(&mut self, bytes: &[u8]) {
        let (pending, length) = (self.pending.len(), self.pending.len() + bytes.len());
        if length <= limits::OUTPUT_BYTES {
            let capacity = length.next_power_of_two().max(limits::RESPONSE_BYTES);
            self.pending.reserve_exact(capacity - pending);
            self.pending.extend_from_slice(bytes);
            return;
        }
        self.write_pending();
        if bytes.len() < limits::OUTPUT_BYTES / 2 {
            self.pending.extend_from_slice(bytes);
        } else {
            self.write(bytes);
        }
    }

    /// Writes what is pending, and tells the writer that nothing more follows for now.
    pub fn flush(&mut self) {
        self.write_pending();
        if let (None, Err(error)) = (self.failed, self.writer.flush()) {
            self.failed = Some(error.kind());
        }
    }

    fn write_pending(&mut self) {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.write(&pending);
            self.pending = pending;
            self.pending.clear();
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while self.failed.is_none() && !bytes.is_empty() {
            match self.writer.write(bytes) {
                Ok(0) => self.failed = Some(io::ErrorKind::WriteZero),
                Ok(taken) => (self.written, bytes) = (self.written + taken as u64, &bytes[taken..]),
                Err(error) => self.failed = Some(error.kind()),
            }
        }
        self.lost += bytes.len() as u64;
    }

    /// Whether bytes wait to be written.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many bytes were added in all: the position of the next byte.
    pub fn position(&self) -> u64 {
        self.written + self.lost + self.pending.len() as u64
    }

    /// How many bytes the socket took: the first ones of all that were added.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The first error of a write. Nothing is written after it.
    pub fn failed(&self) -> Option<io::ErrorKind> {
        self.failed
    }

    /// Frees the buffer if nothing is pending.
    pub fn release(&mut self) {
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_pass_through_in_order() {
        const FULL: usize = limits::OUTPUT_BYTES;
        let sizes = [1, FULL - 1, 1, FULL, FULL / 4, 3 * FULL, 7];
        let pieces: Vec<Vec<u8>> = (b'a'..)
            .zip(sizes)
            .map(|(letter, size)| vec![letter; size])
            .collect();
        let mut sink = Vec::new();
        let mut out = OutputBuffer::new(Vec::new(), &mut sink);
        for piece in &pieces {
            out.put(piece);
        }
        let position = out.position();
        out.flush();
        assert_eq!((out.written(), out.is_pending()), (position, false));
        assert_eq!(sink.len() as u64, position);
        assert!(sink == pieces.concat());
    }

    #[test]
    fn the_first_error_stays() {
        let mut full: &mut [u8] = &mut [0; 3];
        let mut out = OutputBuffer::new(Vec::new(), &mut full);
        out.put(b"hello");
        out.flush();
        out.put(b"x");
        out.flush();
        let outcome = (out.written(), out.position(), out.failed());
        assert_eq!(outcome, (3, 6, Some(io::ErrorKind::WriteZero)));
    }
}
