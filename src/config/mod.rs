//! What a user can set: the table of settings, and how durations, sizes and rates are written.

pub mod level;

pub mod units;

pub mod settings;
