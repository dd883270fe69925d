//! The input of a connection: bytes that have arrived and were not used yet.

use crate::limits;

/// The input of a connection. All of its buffer is initialised, so a read needs no clearing.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Input {
    /// The bytes that were not used yet.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Room for at least so many bytes. Unread bytes move to the front, or the buffer grows.
    pub fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.to < least.min(limits::READ_BYTES / 2) {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            if self.bytes.len() - self.to < least {
                self.bytes.resize(self.to + least, 0);
            }
        }
        &mut self.bytes[self.to..]
    }

    /// Takes note of bytes that were read into the room. If they fill it, the next read asks for
    /// more.
    pub fn arrived(&mut self, count: usize) {
        self.to += count;
        let filled = self.to == self.bytes.len();
        if filled && (limits::READ_BYTES..limits::LARGE_READ_BYTES).contains(&self.to) {
            self.bytes.resize(limits::LARGE_READ_BYTES, 0);
        }
    }

    /// Marks bytes as used.
    pub fn take(&mut self, count: usize) {
        self.from += count;
        if self.from == self.to {
            self.clear();
        }
    }

    /// Drops everything that was not used yet.
    pub fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// Gives back the memory that the unread bytes do not need.
    pub fn shrink(&mut self) {
        let unread = self.unread().to_vec();
        *self = Input {
            to: unread.len(),
            from: 0,
            bytes: unread,
        };
    }
}
