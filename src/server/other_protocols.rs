//! Connections that begin with another protocol: they are told so in words, and so is the log.

use crate::http::error::RequestError;
use crate::http::http2;
use crate::http::other_protocols::{Found, recognise};
use crate::limits;
use crate::server::connection::{Connection, End};

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

    /// Refuses a connection that speaks another protocol.
    pub(super) fn refuse_protocol(&mut self, found: Found) -> End {
        match found {
            Found::Tls { server_name, alpn } => {
                let name = server_name.as_deref().unwrap_or("-");
                let alpn = if alpn.is_empty() {
                    "-".to_owned()
                } else {
                    alpn.join(",")
                };
                let text = format!("TLS ClientHello server_name={name} alpn={alpn}");
                self.refuse_head(RequestError::Tls, text.as_bytes())
            }
            Found::Http2 => {
                self.refuse_head(RequestError::Http2, b"HTTP/2 connection preface");
                // nginx drops a response that comes together with the end of the connection.
                End::Stall
            }
            Found::ProxyV1 => self.refuse_head(RequestError::ProxyProtocol, b"PROXY protocol v1"),
            Found::ProxyV2 => self.refuse_head(RequestError::ProxyProtocol, b"PROXY protocol v2"),
            Found::Http | Found::NotYet => self.refuse_head(RequestError::RequestLine, b""),
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
