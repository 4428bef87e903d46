//! The time.

use super::{Call, call};

/// Nanoseconds since some moment; never goes back.
pub(crate) fn now() -> u64 {
    const MONOTONIC: usize = 1;
    // `struct timespec`: seconds, nanoseconds.
    let mut time = [0u64; 2];
    // SAFETY: the struct is as the system wants it. There is such a clock.
    let _ = unsafe { call(Call::Clock, [MONOTONIC, (&raw mut time) as usize]) };
    time[0] * 1_000_000_000 + time[1]
}
