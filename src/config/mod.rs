//! What a user can set: arguments, the table of settings, and how durations, sizes and rates are
//! written.

pub mod arguments;

pub mod level;

pub mod units;

pub mod settings;
