//! What the server tells about itself: the access log, diagnostics, and metrics.

pub mod escape;

pub mod log;

pub mod diagnostics;

pub mod access_log;

pub mod process;

pub mod metrics;
