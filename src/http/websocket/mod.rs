//! WebSocket (RFC 6455) as bytes: the handshake that turns a request into a WebSocket, and its
//! frames.
//!
//! No extension and no subprotocol is ever agreed on, so reserved bits are always an error, and a
//! message is what its frames say.

pub mod frames;
pub mod handshake;
