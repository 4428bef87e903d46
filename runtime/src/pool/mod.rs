//! Threads for parallel loops.
//!
//! [`team`] divides loops among workers and is `no_std`; [`wait`] is how they wait; [`Pool`] brings
//! the threads, and takes the panics of tasks to the caller.

pub mod team;
pub mod wait;

#[cfg(feature = "std")]
pub use threads::{DEFAULT_SPIN, Pool};

#[cfg(feature = "std")]
mod threads;
