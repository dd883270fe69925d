//! The cores that `/burn` may use.
//!
//! At most as many burns compute at once as there are cores. Without this bound the kernel would
//! share the cores among all of them, and a probe would wait for its turn among them. A burn that
//! finds no free core waits for one, until its own time is over: the cores are in use either way.
//! std counts the cores that the process may use, by its affinity and by the limit of its cgroup.

use std::num::NonZero;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::sync::lock;

/// The cores that burns may use.
#[derive(Debug)]
pub struct Cores {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A core that a burn uses, until this is dropped.
pub struct Core<'a>(&'a Cores);

impl Default for Cores {
    fn default() -> Cores {
        Cores {
            free: Mutex::new(thread::available_parallelism().map_or(1, NonZero::get)),
            freed: Condvar::new(),
        }
    }
}

impl Cores {
    /// Takes a core; `None` if no core gets free within this time.
    pub fn take(&self, within: Duration) -> Option<Core<'_>> {
        let (free, none) = (lock(&self.free), |free: &mut usize| *free == 0);
        let waited = self.freed.wait_timeout_while(free, within, none);
        let (mut free, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *free -= 1;
        Some(Core(self))
    }
}

impl Drop for Core<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}
