//! How threads wait: first they spin, for a bounded time, then they sleep.
//!
//! Nothing here takes a lock but a [`System`] that needs one, and that only when a thread goes to
//! sleep or is woken.

use core::sync::atomic::{AtomicU32, Ordering, fence};

/// What waiting needs of the system.
pub trait System: Default + Send + Sync {
    /// Nanoseconds since some moment; never goes back.
    fn now(&self) -> u64;
    /// Lets other threads run that this processor has to run.
    fn give_way(&self);
    /// Sleeps until a [`wake`](System::wake), unless `word` is not `seen`; may return early.
    fn wait(&self, word: &AtomicU32, seen: u32);
    /// Wakes so many of the threads that wait for `word`, which has been changed before.
    fn wake(&self, word: &AtomicU32, threads: u32);
}

/// Something that threads sleep for. Whoever makes it come true notifies; that costs a fence where
/// nobody sleeps.
#[derive(Default)]
pub(super) struct Event<S> {
    /// Goes up with each notification that may concern a sleeper.
    word: AtomicU32,
    sleepers: AtomicU32,
    system: S,
}

impl<S: System> Event<S> {
    /// Sleeps until `ready`.
    pub(super) fn sleep_until(&self, ready: impl Fn() -> bool) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // With the fence in `notify`: either `ready` sees what was done before the notification, or
        // the notification sees this sleeper. If it sees it, it changes the word after it was read
        // here, so that `wait` returns.
        fence(Ordering::SeqCst);
        loop {
            let seen = self.word.load(Ordering::Acquire);
            if ready() {
                break;
            }
            self.system.wait(&self.word, seen);
        }
        self.sleepers.fetch_sub(1, Ordering::Release);
    }

    /// Wakes at most so many sleepers.
    pub(super) fn notify(&self, threads: u32) {
        fence(Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers > 0 && threads > 0 {
            self.word.fetch_add(1, Ordering::Release);
            self.system.wake(&self.word, threads.min(sleepers));
        }
    }

    /// Whether somebody slept a moment ago.
    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) > 0
    }

    pub(super) fn system(&self) -> &S {
        &self.system
    }
}

/// Rounds of spinning between two looks at the clock: a microsecond or two.
const ROUNDS: u32 = 32;

/// Two looks at the clock that are so many nanoseconds apart mean that the system has run something
/// else in between.
const DESCHEDULED: u64 = 50_000;

/// One thread's spinning: it gives way to other threads all the time, since what it waits for may
/// be that one of them runs. Where another did run, it spins no longer, nor the next few times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spinner {
    /// Nanoseconds.
    limit: u64,
    /// How often it does without spinning after another thread ran.
    rest: u32,
    /// So many times more without spinning.
    rests: u32,
}

impl Spinner {
    /// Spins for at most so many nanoseconds; 0: not at all.
    pub(super) fn new(limit: u64, rest: u32) -> Spinner {
        Spinner { limit, rest, rests: 0 }
    }

    /// Spins until `ready`, and answers whether it is.
    pub(super) fn spin_until(&mut self, system: &impl System, ready: impl Fn() -> bool) -> bool {
        if ready() {
            return true;
        }
        if self.rests > 0 || self.limit == 0 {
            self.rests = self.rests.saturating_sub(1);
            return false;
        }
        let start = system.now();
        let mut last = start;
        loop {
            for _ in 0..ROUNDS {
                if ready() {
                    return true;
                }
                core::hint::spin_loop();
            }
            system.give_way();
            let now = system.now();
            if now.saturating_sub(last) > DESCHEDULED {
                self.rests = self.rest;
                return ready();
            }
            if now.saturating_sub(start) > self.limit {
                return ready();
            }
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// A clock that goes on by `step` with each look.
    #[derive(Default)]
    struct Clock {
        step: AtomicU32,
        now: AtomicU32,
    }

    impl System for Clock {
        fn now(&self) -> u64 {
            let step = self.step.load(Ordering::Relaxed);
            (self.now.fetch_add(step, Ordering::Relaxed) + step) as u64
        }

        fn give_way(&self) {}

        fn wait(&self, _: &AtomicU32, _: u32) {}

        fn wake(&self, _: &AtomicU32, _: u32) {}
    }

    fn looks(spinner: &mut Spinner, clock: &Clock) -> u32 {
        let looks = Cell::new(0);
        let ready = || {
            looks.set(looks.get() + 1);
            false
        };
        assert!(!spinner.spin_until(clock, ready));
        looks.get()
    }

    #[test]
    fn spinning_ends_in_time() {
        let clock = Clock { step: AtomicU32::new(1000), ..Clock::default() };
        let mut spinner = Spinner::new(10_000, 3);
        let first = looks(&mut spinner, &clock);
        assert!((10 * ROUNDS..13 * ROUNDS).contains(&first), "{first}");
        assert_eq!(looks(&mut spinner, &clock), first);
        assert_eq!(looks(&mut Spinner::new(0, 3), &clock), 1);
    }

    #[test]
    fn a_thread_that_was_descheduled_rests() {
        let clock = Clock { step: AtomicU32::new(DESCHEDULED as u32 + 1), ..Clock::default() };
        let mut spinner = Spinner::new(1_000_000_000, 3);
        assert!(looks(&mut spinner, &clock) > 1);
        for _ in 0..3 {
            assert_eq!(looks(&mut spinner, &clock), 1);
        }
        assert!(looks(&mut spinner, &clock) > 1);
    }
}
