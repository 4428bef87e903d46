//! A small thread pool.

use super::DEFAULT_SPIN;
use super::team::{Task, Team};
use super::wait::System;
use crate::executor::Executor;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A fixed number of threads that sleep when idle: a [`Team`] with threads of the standard library.
pub struct Pool {
    team: Arc<Team<Std>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of that many workers (the caller counts as one); 0 means one for each CPU.
    pub fn new(workers: usize) -> std::io::Result<Pool> {
        Pool::with_spin(workers, DEFAULT_SPIN)
    }

    /// As [`Pool::new`], with the time for which a thread spins before it sleeps. Where there are more
    /// workers than CPUs, none spins.
    pub fn with_spin(workers: usize, spin: Duration) -> std::io::Result<Pool> {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let workers = if workers == 0 { cpus } else { workers };
        let mut pool = Pool { team: Arc::new(Team::new(workers, cpus, spin)), threads: Vec::new() };
        for worker in 1..pool.team.workers() {
            let team = pool.team.clone();
            let thread = std::thread::Builder::new().name(alloc::format!("burin-{worker}"));
            pool.threads.push(thread.spawn(move || team.work())?);
        }
        Ok(pool)
    }
}

impl Executor for Pool {
    fn workers(&self) -> usize {
        self.team.workers()
    }

    fn parallel_for(&self, tasks: usize, task: &Task<'_>) {
        let panicked: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
        self.team.parallel_for(tasks, &|begin, end, worker| {
            // Unwinding would end the worker's thread.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(begin, end, worker))) {
                *panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        });
        if let Some(panic) = panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.team.stop();
        for thread in self.threads.drain(..) {
            // A worker's thread cannot panic: tasks' panics are caught.
            let _ = thread.join();
        }
    }
}

/// Waiting by the standard library: on any system, at the price of a lock for those who sleep or
/// wake others.
struct Std {
    start: Instant,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Default for Std {
    fn default() -> Std {
        Std { start: Instant::now(), lock: Mutex::default(), changed: Condvar::default() }
    }
}

impl System for Std {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn give_way(&self) {
        std::thread::yield_now();
    }

    fn wait(&self, word: &AtomicU32, seen: u32) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while word.load(Ordering::Acquire) == seen {
            lock = self.changed.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self, _: &AtomicU32, threads: u32) {
        // Whoever has seen the old word holds the lock until it waits.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in 0..threads {
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    fn covered(pool: &Pool, tasks: usize) {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.parallel_for(tasks, &|begin, end, worker| {
            assert!(worker < pool.workers());
            for c in &counts[begin..end] {
                c.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{tasks} tasks");
    }

    #[test]
    fn every_task_runs_once() {
        for spin in [Duration::ZERO, DEFAULT_SPIN] {
            let pool = Pool::with_spin(4, spin).expect("threads");
            for tasks in (0..40).chain([1000, 4097]) {
                covered(&pool, tasks);
            }
        }
    }

    #[test]
    fn two_callers_share_a_pool() {
        let pool = Pool::new(3).expect("threads");
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| (0..200).for_each(|i| covered(&pool, i)));
            }
        });
    }

    #[test]
    fn threads_that_sleep_are_woken() {
        let pool = Pool::with_spin(2, Duration::ZERO).expect("threads");
        // Other tests' loops may take all CPUs for a while.
        let together = (0..1000).any(|_| {
            let inside = [AtomicBool::new(false), AtomicBool::new(false)];
            let both = AtomicBool::new(false);
            let start = Instant::now();
            pool.parallel_for(2, &|_, _, worker| {
                inside[worker].store(true, Ordering::SeqCst);
                while start.elapsed() < Duration::from_millis(20) && !both.load(Ordering::SeqCst) {
                    both.fetch_or(inside.iter().all(|i| i.load(Ordering::SeqCst)), Ordering::SeqCst);
                    std::thread::yield_now();
                }
            });
            both.into_inner()
        });
        assert!(together);
    }

    #[test]
    fn loops_within_loops() {
        let pool = Pool::new(3).expect("threads");
        pool.parallel_for(10, &|begin, end, _| (begin..end).for_each(|i| covered(&pool, i)));
    }

    #[test]
    fn no_worker_runs_twice_at_a_time() {
        let pool = Pool::new(4).expect("threads");
        let inside: Vec<AtomicBool> = (0..4).map(|_| AtomicBool::new(false)).collect();
        pool.parallel_for(500, &|_, _, worker| {
            assert!(!inside[worker].swap(true, Ordering::SeqCst));
            std::thread::yield_now();
            inside[worker].store(false, Ordering::SeqCst);
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).expect("threads");
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.parallel_for(10, &|begin, _, _| assert!(begin != 5, "five"));
        }));
        assert!(result.is_err());
        covered(&pool, 100);
    }

    /// Idle threads must use no processor time: it is read from the system.
    #[test]
    #[cfg(target_os = "linux")]
    fn idle_threads_sleep() {
        let ticks = || -> u64 {
            let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
            let stats = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("stat")).ok());
            let mine = stats.filter(|s| s.contains("(burin-"));
            let times = mine.map(|s| {
                let fields: Vec<u64> =
                    s.rsplit(") ").next().unwrap_or("").split(' ').map(|f| f.parse().unwrap_or(0)).collect();
                fields[11] + fields[12]
            });
            times.sum()
        };
        let pool = Pool::new(3).expect("threads");
        covered(&pool, 1000);
        std::thread::sleep(std::time::Duration::from_millis(50));
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(300));
        // Other tests' pools may work meanwhile; three spinning threads would use 60 ticks or more.
        assert!(ticks() - before < 30);
    }
}
