//! A small thread pool.
//!
//! The thread that calls takes part as worker 0; the pool's threads are workers 1 and up. Tasks are
//! grabbed in chunks from one counter, so that a slow thread holds nobody up. A thread without work
//! spins for a bounded number of rounds and then sleeps. A loop closes as soon as its tasks are
//! done: threads that wake up too late find nothing and are not waited for. While one loop runs, a
//! second one (of another model, or nested) runs on its own calling thread alone.

use crate::executor::Executor;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Rounds of spinning before a thread sleeps, unless [`Pool::with_spin`] says otherwise.
pub const DEFAULT_SPIN: u32 = 2000;

/// How many chunks each worker gets on average; more balance better, fewer cost less.
const CHUNKS_PER_WORKER: usize = 4;

type Task<'a> = dyn Fn(usize, usize, usize) + Sync + 'a;

/// A loop that runs. The task lives on the caller's stack; the caller does not return before all
/// threads that have joined have left.
#[derive(Clone, Copy)]
struct Job {
    task: *const Task<'static>,
    tasks: usize,
    chunk: usize,
}
// SAFETY: the task is `Sync`, and it is alive for as long as a thread can see the job.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// How many threads are in the job.
    active: usize,
    /// What a task panicked with.
    panic: Option<Box<dyn Any + Send>>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when a job opens or the pool ends.
    opened: Condvar,
    /// Signalled when the last thread leaves a job.
    left: Condvar,
    /// Goes up with every job, so that spinning threads see one without the lock.
    epoch: AtomicU64,
    /// Copy of `State::active`, for the caller to spin on.
    active: AtomicUsize,
    /// The first task that nobody has grabbed.
    next: AtomicUsize,
    spin: u32,
}

/// A fixed number of threads that sleep when idle.
pub struct Pool {
    shared: Arc<Shared>,
    busy: AtomicBool,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of that many workers (the caller counts as one); 0 means one for each CPU.
    pub fn new(workers: usize) -> std::io::Result<Pool> {
        Pool::with_spin(workers, DEFAULT_SPIN)
    }

    /// As [`Pool::new`], with the rounds of spinning before a thread sleeps; 0: it sleeps at once.
    pub fn with_spin(workers: usize, spin: u32) -> std::io::Result<Pool> {
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let mut pool = Pool {
            shared: Arc::new(Shared { spin, ..Shared::default() }),
            busy: AtomicBool::new(false),
            threads: Vec::new(),
        };
        for worker in 1..workers {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new().name(alloc::format!("burin-{worker}"));
            pool.threads.push(thread.spawn(move || shared.work(worker))?);
        }
        Ok(pool)
    }

    fn run(&self, tasks: usize, task: &Task<'_>) {
        let shared = &*self.shared;
        let chunk = (tasks / (self.workers() * CHUNKS_PER_WORKER)).max(1);
        // SAFETY: only the lifetime changes; `close` below waits for every thread that uses it.
        let task: *const Task<'static> =
            unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        let job = Job { task, tasks, chunk };
        shared.next.store(0, Ordering::Relaxed);
        shared.lock().job = Some(job);
        shared.epoch.fetch_add(1, Ordering::Release);
        for _ in 0..self.threads.len().min(tasks - 1) {
            shared.opened.notify_one();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| shared.grab(job, 0)));
        let theirs = shared.close();
        if let Some(panic) = mine.err().or(theirs) {
            self.busy.store(false, Ordering::Release);
            resume_unwind(panic);
        }
    }
}

impl Executor for Pool {
    fn workers(&self) -> usize {
        self.threads.len() + 1
    }

    fn parallel_for(&self, tasks: usize, task: &Task<'_>) {
        let alone = tasks <= 1 || self.threads.is_empty();
        if alone || self.busy.swap(true, Ordering::Acquire) {
            task(0, tasks, 0);
            return;
        }
        self.run(tasks, task);
        self.busy.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.opened.notify_all();
        for thread in self.threads.drain(..) {
            // A thread's loop cannot panic: tasks' panics are caught.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A thread's life.
    fn work(&self, worker: usize) {
        let mut seen = 0;
        while let Some(job) = self.join(&mut seen) {
            let result = catch_unwind(AssertUnwindSafe(|| self.grab(job, worker)));
            let mut state = self.lock();
            if let Err(panic) = result {
                state.panic = Some(panic);
            }
            state.active -= 1;
            self.active.store(state.active, Ordering::Release);
            if state.active == 0 {
                self.left.notify_one();
            }
        }
    }

    /// Waits for a job and joins it; `None` at the end of the pool.
    fn join(&self, seen: &mut u64) -> Option<Job> {
        for _ in 0..self.spin {
            if self.epoch.load(Ordering::Acquire) != *seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let epoch = self.epoch.load(Ordering::Acquire);
            if let Some(job) = state.job.filter(|_| epoch != *seen) {
                *seen = epoch;
                state.active += 1;
                self.active.store(state.active, Ordering::Release);
                return Some(job);
            }
            if state.job.is_none() {
                // The job of that epoch is closed.
                *seen = epoch;
            }
            state = self.opened.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Runs chunks until none are left.
    fn grab(&self, job: Job, worker: usize) {
        loop {
            let begin = self.next.fetch_add(job.chunk, Ordering::Relaxed);
            if begin >= job.tasks {
                return;
            }
            // SAFETY: the caller of `run` keeps the task alive until all who joined have left.
            unsafe { (*job.task)(begin, (begin + job.chunk).min(job.tasks), worker) };
        }
    }

    /// Ends the job: nobody can join any more, and all who did have left. Answers a task's panic.
    fn close(&self) -> Option<Box<dyn Any + Send>> {
        self.lock().job = None;
        for _ in 0..self.spin {
            if self.active.load(Ordering::Acquire) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while state.active > 0 {
            state = self.left.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        state.panic.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for spin in [0, DEFAULT_SPIN] {
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
