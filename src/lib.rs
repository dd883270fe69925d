//! A tiny HTTP/1.1 echo server for Kubernetes, to be read in an evening.
//!
//! Read from the bottom up, in the order of this list. A file uses only files that stand before it here.
//!
//! Floor 0, plain values:
//! 1. [`limits`]: every bound in the program, with its reason.
//! 2. [`text`]: names, durations, sizes, dates and escapes.
//!
//! Floor 1, HTTP as bytes, without a socket, a thread or a clock, and so tested with tables:
//! 3. [`forwarded`]: who the client is, behind proxies.
//! 4. [`response`]: `Status`, `Out`, and the `Head` that only a body can end.
//! 5. [`request`]: `HeadScan` finds a head, `Request` parses it; `Framing` and `Reject` are the two outcomes.
//! 6. [`body`]: chunked coding, and the memory that bodies share.
//! 7. [`route`]: where a request goes.
//! 8. [`echo`]: which fields are copied, and the description of the request.
//!
//! Floor 2, what a running server has, each in one type:
//! 9. [`live`]: what `/admin` can change.
//! 10. [`config`]: the table of settings.
//! 11. [`process`]: what the kernel tells.
//! 12. [`metrics`]: the registry and its handles.
//! 13. [`access_log`]: the log and its one writer.
//! 14. [`signals`]: signals as bytes in a socket pair.
//! 15. [`lobby`]: seats, idle connections, the drain.
//! 16. [`context`]: all of it as one bundle of borrows.
//!
//! Floor 3, a connection:
//! 17. [`handlers`]: one function for each route.
//! 18. [`connection`]: from the first byte to the last; the hot path.
//!
//! Floor 4, the commands:
//! 19. [`server`]: accept, admit, serve, drain.
//! 20. [`client`]: the commands that ask a server, `healthcheck` and `watch`.
//!
//! What is deliberately absent: globals, reference counts, an async runtime, unsafe code but for one declaration in
//! [`server`], and any wait that nothing can end.

// Not in the order of the alphabet, but in the order of reading.
pub mod limits;
pub mod text;

pub mod forwarded;
pub mod response;
pub mod request;
pub mod body;
pub mod route;
pub mod echo;

pub mod live;
pub mod config;
pub mod process;
pub mod metrics;
pub mod access_log;
pub mod signals;
pub mod lobby;
pub mod context;

pub mod handlers;
pub mod connection;

pub mod server;
pub mod client;
