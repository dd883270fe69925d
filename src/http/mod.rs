//! HTTP/1.1 and what stands beside it on its port, as bytes: no socket, no thread, no clock.

pub mod base64;
pub mod http2;
pub mod other_protocols;
pub mod websocket;
