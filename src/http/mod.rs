//! HTTP/1.1 as bytes: no socket, no thread, no clock, so that tables test all of it.
//!
//! RFC 9110 and RFC 9112 are the specification. Where they leave a choice, the stricter reading is
//! taken, because a lenient server behind a proxy makes request smuggling possible.

pub mod field;

pub mod status;

pub mod error;

pub mod field_name;

pub mod target;

pub mod request;

pub mod chunked;

pub mod decimal;

pub mod date;

pub mod output;

pub mod response;

pub mod forwarded;

pub mod base64;

pub mod websocket;

pub mod http2;

pub mod other_protocols;

pub mod route;
