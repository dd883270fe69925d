//! Locks that outlast a panic.
//!
//! A thread that panics while it holds a lock poisons it. A panic costs its own connection and
//! nothing else, so other threads take such a lock as it is.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Locks a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the condition is notified, at most this long. It may end early.
pub(crate) fn wait_timeout<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    at_most: Duration,
) -> MutexGuard<'a, T> {
    let waited = condition.wait_timeout(guard, at_most);
    waited.unwrap_or_else(PoisonError::into_inner).0
}
