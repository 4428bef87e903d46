//! Threads for parallel loops.
//!
//! [`team`] divides loops among workers and is `no_std`; [`wait`] is how they wait; [`Pool`] brings
//! the threads, and takes the panics of tasks to the caller.

pub mod team;
pub mod wait;

#[cfg(feature = "std")]
pub use threads::Pool;

#[cfg(feature = "std")]
mod threads;

use core::time::Duration;

/// How long a thread without work spins before it sleeps, unless it is said otherwise: longer than
/// what lies between two loops of a call, and than what a caller does between two calls that follow
/// each other.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(100);
