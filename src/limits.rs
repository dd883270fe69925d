//! The fixed bounds of the server, each with its unit and its reason.
//!
//! What a user may change is a setting (`config/settings.rs`). What stands here is fixed, because
//! no deployment was found that needs another value, and because an auditor can rely on it.

use std::time::Duration;

/// A request line without its line end, in bytes: the 8,000 that RFC 9112 section 3 recommends,
/// rounded up.
pub const REQUEST_LINE_BYTES: usize = 8 << 10;
/// Header fields in one request, and options in its `Connection` fields.
pub const FIELDS: usize = 100;
/// Most heads have fewer fields than this. A head with more is parsed again, with room for
/// `FIELDS`.
pub const USUAL_FIELDS: usize = 32;
/// Empty lines before a request line that are skipped. RFC 9112 section 2.2 asks for one; nginx,
/// Apache and HAProxy skip a few.
pub const EMPTY_LINES: usize = 4;
/// Chunk extensions, leading zeros of chunk sizes, and trailers of one body together, in bytes.
pub const CHUNK_OVERHEAD_BYTES: usize = 16 << 10;

/// The bytes one read asks for. Most requests fit.
pub const READ_BYTES: usize = 4 << 10;
/// The bytes a read asks for after a read that was filled: the client pipelines or sends a body.
pub const LARGE_READ_BYTES: usize = 16 << 10;
/// The bytes a read asks for on a connection that pauses between requests, so that ten thousand
/// idle connections hold little. A browser's request head has about 700 bytes.
pub const SMALL_READ_BYTES: usize = 1 << 10;
/// Response bytes that wait for the next write; more are written at once.
pub const OUTPUT_BYTES: usize = 32 << 10;
/// The first room for response bytes. An echo to a browser has about 1,300 bytes.
pub const RESPONSE_BYTES: usize = 2 << 10;
/// Room for a usual log line. That of a browser's request has about 300 bytes.
pub const LINE_BYTES: usize = 512;
/// The buffer of a request head is not kept for a shorter one if it is larger than this.
pub const KEPT_HEAD_BYTES: usize = 4 << 10;
/// Log lines that wait for the write of their responses, in bytes.
pub const PENDING_LOG_BYTES: usize = 16 << 10;
/// The first growth of a body that did not arrive with its head, in bytes.
pub const BODY_STEP_BYTES: usize = 16 << 10;
/// How long a connection waits with its buffers; for a longer wait it gives them back.
pub const KEEP_BUFFERS: Duration = Duration::from_secs(1);
/// A delay longer than this gives buffers back before it begins.
pub const KEEP_BUFFERS_IN_DELAY: Duration = Duration::from_millis(100);

/// A closing connection reads until its client has been quiet for this long (as nginx does), so
/// that no reset destroys the response.
pub const LINGER_QUIET: Duration = Duration::from_secs(5);
/// A closing connection reads for this long in all.
pub const LINGER: Duration = Duration::from_secs(30);
/// A closing connection reads this many bytes in all.
pub const LINGER_BYTES: u64 = 64 << 20;

/// The longest delay that `/delay/{duration}` and `echo-delay` take.
pub const DELAY: Duration = Duration::from_secs(60);
/// The longest time that `/burn/{duration}` takes.
pub const BURN: Duration = Duration::from_secs(10);
/// The largest body that `/bytes/{size}` sends and `/upload` reads.
pub const STREAM_BYTES: u64 = 1 << 30;
/// The longest time over which `/bytes/{size}?over=` spreads its bytes.
pub const PACE: Duration = Duration::from_secs(600);
/// The time between two pieces of paced bytes.
pub const PACE_STEP: Duration = Duration::from_millis(100);
/// The shortest `?interval=` of `/events`.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// The longest `?interval=` of `/events`.
pub const EVENT_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// A write time limit and a body time limit are for this many bytes each.
pub const TIMED_BYTES: u64 = 1 << 20;

/// Overflow slots, for connections that found no slot: probes are answered, the rest get 503.
pub const OVERFLOW_SLOTS: usize = 64;
/// How long a shed connection may take in all, and how long a newcomer waits for a slot.
pub const SHED_TIME: Duration = Duration::from_secs(1);
/// How long a shed connection may take when no other thread accepts meanwhile.
pub const SHED_TIME_ALONE: Duration = Duration::from_millis(100);
/// A connection without a whole request head is evicted for a newcomer after this time.
pub const HEAD_GRACE: Duration = Duration::from_secs(1);
/// A request whose body does not come is evicted for a newcomer after this time.
pub const BODY_GRACE: Duration = Duration::from_secs(1);
/// If fewer bytes than this arrive within `BODY_GRACE`, the body counts as stalled. So a client
/// that sends a byte now and then cannot keep a slot.
pub const BODY_PROGRESS_BYTES: usize = 1 << 10;
/// An idle connection is evicted for a newcomer after this time. Evicting sooner resets requests
/// that are on the wire.
pub const IDLE_GRACE: Duration = Duration::from_secs(1);
/// A shed connection that has not sent its request, taken its response or closed after this time
/// is evicted for a newcomer before a younger one.
pub const SHED_GRACE: Duration = Duration::from_millis(100);
/// Delayed connections that one newcomer checks for a client that has gone.
pub const GONE_CHECKS: usize = 64;
/// What such a check reads ahead of a delayed connection; a client that sends more counts as gone.
pub const READ_AHEAD_BYTES: usize = 16 << 10;
/// How long slots stay lowered after the system refused a thread; then it is tried again.
pub const LOWERED: Duration = Duration::from_secs(1);

/// Connections that the kernel queues; std asks for 128, and a burst then loses SYNs.
pub const BACKLOG: i32 = 4096;
/// Connections that the kernel may have completed before the listener had its options: the 128 of
/// std's `listen` and one more.
pub const EARLY_CONNECTIONS: usize = 129;
/// Threads that wait in `accept` at any time. Starting one takes longer than accepting: with a single
/// one, 5,000 connections at once overflow the kernel's queue, and a lost SYN comes again after 1 s.
pub const FOLLOWERS: usize = 4;
/// Threads that wait for a next connection.
pub const SPARE_THREADS: usize = 64;
/// The stack of a connection's thread, in bytes of address space; a request touches about 8 KiB.
pub const STACK_BYTES: usize = 128 << 10;
/// The first pause after a failed `accept`; it doubles up to `ACCEPT_PAUSE_MAX`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause after a failed `accept`.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// At most one warning of a kind in this time.
pub const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Descriptors that are not connections: standard streams, listener, signals, `/proc`, a margin.
pub const OTHER_FILES: u64 = 24;
/// Threads that serve no connection: main, two log writers, a margin.
pub const OTHER_THREADS: u64 = 6;
/// Memory mappings of one thread: its stack and its signal stack, each with a guard.
pub const MAPPINGS_PER_THREAD: u64 = 4;
/// Memory mappings that are not stacks of threads.
pub const OTHER_MAPPINGS: u64 = 1000;
/// What one connection takes of the cgroup's memory: 64 KiB of buffers and 32 KiB for its thread
/// and for small socket buffers.
pub const MEMORY_PER_CONNECTION: u64 = 96 << 10;
/// `MEMORY_PER_CONNECTION` includes a head of this size, in bytes. What `--max-head` allows beyond
/// it is added.
pub const USUAL_HEAD_BYTES: usize = 32 << 10;
/// Memory that is not connections: program, log buffers, metrics.
pub const OTHER_MEMORY: u64 = 8 << 20;

/// At the drain, a connection that was opened or used within this time may still send a request.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// After the drain's limit, when delays have ended: how long responses may still take.
pub const LAST_RESPONSES: Duration = Duration::from_millis(500);

/// Log lines that wait to be written, in bytes.
pub const LOG_BUFFER_BYTES: usize = 1 << 20;
/// How long the log's writer lets lines gather, so that one write takes many.
pub const LOG_GATHER: Duration = Duration::from_millis(1);
/// How long the exit waits for the reader of the log; below the second that users count on.
pub const LOG_FLUSH: Duration = Duration::from_millis(900);
/// How long the exit waits for the reader of stderr, besides what is left of `LOG_FLUSH`.
pub const DIAGNOSTICS_FLUSH: Duration = Duration::from_millis(100);
/// How long the log's writer pauses where a stdout that does not block takes nothing.
pub const LOG_RETRY: Duration = Duration::from_millis(10);
/// A logged method, in bytes.
pub const LOGGED_METHOD_BYTES: usize = 32;
/// A logged target, in bytes; the rest is cut.
pub const LOGGED_TARGET_BYTES: usize = 2048;
/// Any other logged value that the client chose, in bytes; the rest is cut.
pub const LOGGED_VALUE_BYTES: usize = 512;
/// The longest `X-Request-Id` that is taken over, in bytes.
pub const REQUEST_ID_BYTES: usize = 128;

/// Requests that `/admin/requests` remembers.
pub const RECENT_REQUESTS: usize = 64;
/// How much of a head `/admin/requests` remembers, in bytes.
pub const RECENT_HEAD_BYTES: usize = 8 << 10;
/// How much of a body `/admin/requests` remembers, in bytes.
pub const RECENT_BODY_BYTES: usize = 1 << 10;
