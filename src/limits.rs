//! Every bound in the program, each with its reason.
//!
//! What a user may change is a setting (`config.rs`); what stands here is fixed, because no deployment was found that
//! needs another value, and a fixed bound can be relied upon by whoever audits the code. Bytes and durations.

use std::time::Duration;

/// A request line without its line end, in bytes: the 8,000 that RFC 9112 section 3 recommends, rounded up.
pub const REQUEST_LINE: usize = 8 << 10;
/// A whole request head, in bytes: four times what nginx takes by default, so that no ingress in front allows more.
pub const HEAD: usize = 32 << 10;
/// Header fields of one request, and options that its `Connection` lists.
pub const FIELDS: usize = 100;
/// Chunk extensions, leading zeros of chunk sizes and trailers of one body together, in bytes; all of it is dropped.
pub const CHUNK_OVERHEAD: usize = 16 << 10;
/// What one read asks for, in bytes; most requests fit in one. An idle connection gives its buffers back.
pub const READ: usize = 4 << 10;
/// What a read asks for after one that got all it asked for, in bytes: such a client pipelines, or sends a body.
pub const READ_MUCH: usize = 16 << 10;
/// What a read after a long silence asks for, in bytes, so that ten thousand idle connections hold little.
pub const SMALL_READ: usize = 512;
/// Answers held back for pipelined requests, in bytes, before they are written anyway.
pub const HELD: usize = 32 << 10;
/// Answers whose log lines wait for one write; very short ones would otherwise pile them up.
pub const HELD_ANSWERS: usize = 64;
/// How long an idle connection keeps its buffers.
pub const KEEP_BUFFERS: Duration = Duration::from_secs(1);

/// How long a closing connection reads what its client still sends, so that no reset destroys the answer.
pub const LINGER: Duration = Duration::from_secs(2);
/// How much a closing connection reads of what its client still sends, in bytes.
pub const LINGER_BYTES: usize = 1 << 20;

/// The longest delay that `/delay/{duration}` takes.
pub const DELAY: Duration = Duration::from_secs(60);
/// The largest body that `/bytes/{size}` sends, in bytes.
pub const BYTES: u64 = 1 << 30;
/// The response bytes that one write timeout has to suffice for.
pub const WRITE_UNIT: u64 = 1 << 20;

/// Places for connections that found no seat, so that probes are answered and the rest get a 503.
pub const SHED_PLACES: usize = 64;
/// How long a shed connection may take in all, and how long a newcomer waits for a place that is being left.
pub const SHED_TIME: Duration = Duration::from_secs(1);
/// How long seats stay lowered after the system refused a thread.
pub const LOWERED: Duration = Duration::from_secs(10);

/// Connections that the kernel queues for us; std asks for 128, which loses SYNs in a burst.
pub const BACKLOG: i32 = 4096;
/// Finished threads that wait for a next connection.
pub const SPARE_THREADS: usize = 64;
/// How long a finished thread waits for a next connection.
pub const SPARE_TIME: Duration = Duration::from_secs(10);
/// Stack of a connection's thread, in bytes of address space; a request touches about 8 KiB of it.
pub const STACK: usize = 128 << 10;
/// The first pause after a failed `accept`; it doubles up to `ACCEPT_PAUSE_MAX`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause after a failed `accept`.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// At most one warning of a kind in this time.
pub const WARNING_EVERY: Duration = Duration::from_secs(10);
/// Descriptors that are not connections: standard streams, listener and its clones, signals, `/proc`, a margin.
pub const OTHER_FILES: usize = 24;
/// Threads that are not connections: main, two log writers, a margin.
pub const OTHER_THREADS: usize = 6;
/// Memory mappings of one thread: its stack, the guard below it, and the same of its signal stack.
pub const MAPPINGS_PER_THREAD: usize = 4;
/// Memory mappings that are not threads' stacks.
pub const OTHER_MAPPINGS: usize = 1000;

/// At the drain, what a connection opened or used within this time still gets to send a request.
pub const GRACE: Duration = Duration::from_secs(1);
/// After the drain's limit, when delays have ended: how long answers may still take.
pub const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Log lines that wait to be written, in bytes.
pub const LOG_BUFFER: usize = 1 << 20;
/// How long the log's writer lets lines gather, so that one write takes many.
pub const LOG_GATHER: Duration = Duration::from_millis(1);
/// How long the exit waits for whoever reads the log; below the second that users count on.
pub const LOG_FLUSH: Duration = Duration::from_millis(900);
/// A logged method, in bytes.
pub const LOGGED_METHOD: usize = 32;
/// A logged target, in bytes; what is longer is cut.
pub const LOGGED_TARGET: usize = 2048;
/// A logged user agent, referrer or unparsed request line, in bytes.
pub const LOGGED_VALUE: usize = 512;
/// The longest `X-Request-Id` that is taken over, in bytes.
pub const REQUEST_ID: usize = 128;
