//! Connections that begin with another protocol: they are told so in words, and so is the log.

use crate::http::http2;
use crate::http::other_protocols::{Found, recognise};
use crate::limits;
use crate::server::connection::Connection;

impl Connection<'_> {
    /// Waits until the first bytes of the connection tell its protocol. Ordinary requests are told
    /// by their first bytes, so nothing waits for them.
    pub(super) fn recognise(&mut self) -> Found {
        let limit = self.app().config.max_head;
        let deadline = self.started + self.app().config.header_timeout;
        loop {
            let found = recognise(self.buffers.input.unread(), limit);
            if found != Found::NotYet {
                return found;
            }
            if !matches!(self.read(limits::READ_BYTES, deadline), Ok(1..)) {
                let input = self.buffers.input.unread();
                return recognise(input, input.len());
            }
        }
    }

    /// Tells an HTTP/2 client in its own protocol that this server does not speak it.
    pub(super) fn refuse_http2(&mut self) {
        self.out.put(http2::SETTINGS);
        let deadline = self.started + self.app().config.header_timeout;
        let limit = self.app().config.max_head;
        loop {
            let input = self.buffers.input.unread();
            if let Some(refusal) = http2::refusal(input) {
                self.out.put(&refusal);
                return;
            }
            let whole = input.len() >= limit;
            if whole || !matches!(self.read(limits::READ_BYTES, deadline), Ok(1..)) {
                return;
            }
        }
    }
}
