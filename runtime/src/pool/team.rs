//! The workers of a pool and the loops that they run, without threads of its own: whoever has
//! threads lets each run [`Team::work`].
//!
//! A loop is *open* while workers may join it. The caller, worker 0, writes the job, opens the gate,
//! works itself, and closes the gate when no tasks are left; then it waits for those that have joined.
//! Workers that come late find the gate closed and are not waited for. All of it is a few atomic
//! operations on the gate.
//!
//! Tasks are divided into one range for each worker. A worker takes half of what is left of its own
//! range, again and again, then helps with the others': the chunks shrink towards the end, so that
//! all end together, and as long as nobody is late the same worker runs the same tasks in each loop,
//! whose data its caches may still hold.
//!
//! A loop never takes more workers than there are CPUs that other loops of this process leave, so
//! that models that run at once do not share CPUs with each other's workers. While one loop of a team
//! runs, a second one (of another model, or nested) runs on its own calling thread alone.

use super::wait::{Event, Spinner, System};
use crate::executor::Executor;
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

/// Work: `(begin, end, worker)`.
pub(super) type Task<'a> = dyn Fn(usize, usize, usize) + Sync + 'a;

/// A cache line of its own (two, since processors fetch them in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// The gate: how many workers are in the loop, how many more may join, whether the team is at its
/// end, and the loop's number, from the lowest bits on.
mod gate {
    /// Most workers of a team.
    pub(super) const MOST: usize = (1 << 12) - 1;
    /// One worker in the loop.
    pub(super) const ACTIVE: u64 = 1;
    pub(super) const ALL_ACTIVE: u64 = MOST as u64;
    /// A place for one more. The gate is closed where there is none.
    pub(super) const PLACE: u64 = 1 << 12;
    pub(super) const ALL_PLACES: u64 = (MOST as u64) << 12;
    pub(super) const STOP: u64 = 1 << 24;
    /// The loop's number, which tells it from the one before; that it wraps around does no harm: a
    /// worker that takes a loop for one that it has left does not join it.
    pub(super) const NUMBER: u64 = 1 << 32;
}

/// The loop that is open. The task lives on the caller's stack.
#[derive(Clone, Copy)]
struct Job {
    task: Option<NonNull<Task<'static>>>,
    tasks: usize,
    /// How many ranges the tasks are divided into.
    ranges: usize,
}

/// How many loops a worker sleeps before, rather than spins, after it found that other threads want
/// its processor. A caller never does: it waits for what runs already.
const WORKER_RESTS: u32 = 64;

/// Nanoseconds that a loop must take for it to pay to wake a worker: twice what waking one takes. As
/// much in several short loops, one soon after another, pays as well: the worker then stays awake.
const WAKING: u64 = 20_000;
/// Loops further apart than so many nanoseconds do not count together.
const APART: u64 = 100_000;

/// Loops of fewer tasks wake workers at once, since one task would be much of their work.
const PROBED_TASKS: usize = 4;

/// How many tasks the caller runs to find out how long they take.
const PROBE: usize = 1;

/// CPUs that loops of this process use.
static BUSY_CPUS: AtomicUsize = AtomicUsize::new(0);

/// Some of the busy CPUs, for as long as this lives.
struct Cpus<'a> {
    count: usize,
    busy: &'a AtomicUsize,
}

impl Cpus<'_> {
    /// As many of `wanted` as others leave of `all`; at least one.
    fn take(wanted: usize, all: usize, busy: &AtomicUsize) -> Cpus<'_> {
        let others = busy.fetch_add(wanted, Ordering::Relaxed);
        let count = wanted.min(all.saturating_sub(others)).max(1);
        if count < wanted {
            busy.fetch_sub(wanted - count, Ordering::Relaxed);
        }
        Cpus { count, busy }
    }
}

impl Drop for Cpus<'_> {
    fn drop(&mut self) {
        self.busy.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Workers that run loops together.
pub struct Team<S> {
    gate: Line<AtomicU64>,
    /// Written by the caller that holds `busy`, while the gate is closed and no worker is in the
    /// loop; read by workers that are.
    job: Line<UnsafeCell<Job>>,
    /// For each range, the first task that nobody has taken.
    next: Box<[Line<AtomicUsize>]>,
    /// Whether a caller has a loop.
    busy: Line<AtomicBool>,
    /// How the callers, which take turns, wait.
    caller: UnsafeCell<Spinner>,
    opened: Line<Event<S>>,
    left: Line<Event<S>>,
    /// What short loops have run alone, in nanoseconds, and when the last of them did; for the caller.
    alone: UnsafeCell<Alone>,
    /// How many workers have begun to [`work`](Team::work), so that no two have the same number.
    hired: AtomicUsize,
    cpus: usize,
    /// Nanoseconds.
    spin: u64,
}

/// Short loops that woke nobody, one soon after another.
#[derive(Clone, Copy, Default)]
struct Alone {
    nanoseconds: u64,
    until: u64,
}

impl Alone {
    /// Counts a loop with so much left to run at this time; answers whether all together pay to wake a
    /// worker, and begins anew if they do.
    fn add(&mut self, left: u64, now: u64) -> bool {
        let before = if now.saturating_sub(self.until) > APART { 0 } else { self.nanoseconds };
        let all = before.saturating_add(left);
        let pays = all > WAKING;
        *self = Alone { nanoseconds: if pays { 0 } else { all }, until: now };
        pays
    }
}

// SAFETY: `job`, `alone` and `caller` are accessed as their comments say, which the gate and `busy` order; all
// else is atomic. The job's task is `Sync`.
unsafe impl<S: Sync> Sync for Team<S> {}
// SAFETY: the job's task may be used by any thread, and it is used only while a loop runs, which
// borrows the team.
unsafe impl<S: Send> Send for Team<S> {}

impl<S: System> Team<S> {
    /// A team of so many workers, the caller among them, on a machine with so many CPUs. Workers
    /// without work spin for so long before they sleep; where there are more workers than CPUs they
    /// sleep at once.
    pub fn new(workers: usize, cpus: usize, spin: Duration) -> Team<S> {
        let workers = workers.clamp(1, gate::MOST);
        let spin = if workers > cpus { Duration::ZERO } else { spin };
        let spin = u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX);
        Team {
            gate: Line::default(),
            job: Line(UnsafeCell::new(Job { task: None, tasks: 0, ranges: 1 })),
            next: (0..workers).map(|_| Line::default()).collect(),
            busy: Line::default(),
            caller: UnsafeCell::new(Spinner::new(spin, 0)),
            opened: Line::default(),
            left: Line::default(),
            alone: UnsafeCell::default(),
            hired: AtomicUsize::new(0),
            cpus: cpus.max(1),
            spin,
        }
    }

    /// The life of a worker, which ends with [`stop`](Team::stop), or with a task that unwinds. The
    /// first call is worker 1, and so on; calls beyond the team's size return at once.
    pub fn work(&self) {
        let worker = self.hired.fetch_add(1, Ordering::Relaxed) + 1;
        if worker >= self.next.len() {
            return;
        }
        let mut spinner = Spinner::new(self.spin, WORKER_RESTS);
        let mut seen = 0;
        loop {
            let ready = || {
                let g = self.gate.0.load(Ordering::SeqCst);
                g & gate::STOP != 0 || g & gate::ALL_PLACES != 0 && g / gate::NUMBER != seen
            };
            if !spinner.spin_until(self.opened.0.system(), ready) {
                self.opened.0.sleep_until(ready);
            }
            let g = self.gate.0.load(Ordering::Relaxed);
            if g & gate::STOP != 0 {
                return;
            }
            if self.join(g) {
                seen = g / gate::NUMBER;
                let inside = Inside(self);
                // SAFETY: this worker is in the loop, so that the job is not written.
                let job = unsafe { *self.job.0.get() };
                self.run_chunks(job, worker);
                drop(inside);
            }
        }
    }

    /// Ends the workers' lives.
    pub fn stop(&self) {
        self.gate.0.fetch_or(gate::STOP, Ordering::SeqCst);
        self.opened.0.notify(u32::MAX);
    }

    /// Takes a place in the loop, if the gate still is as it was seen and there is one.
    fn join(&self, seen: u64) -> bool {
        let joined = seen.wrapping_sub(gate::PLACE) + gate::ACTIVE;
        let gate = &self.gate.0;
        seen & gate::ALL_PLACES != 0
            && gate.compare_exchange(seen, joined, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Runs a loop with at most so many workers. The caller holds `busy`.
    fn run(&self, tasks: usize, task: &Task<'_>, workers: usize) {
        let task = NonNull::from(task);
        // SAFETY: only the lifetime changes. `open` does not go before all who joined have left.
        let task = unsafe { core::mem::transmute::<NonNull<Task<'_>>, NonNull<Task<'static>>>(task) };
        let job = Job { task: Some(task), tasks, ranges: workers };
        // SAFETY: this caller holds `busy`, the gate is closed, and all workers have left.
        unsafe { *self.job.0.get() = job };
        for range in 0..workers {
            self.next[range].0.store(job.start(range), Ordering::Relaxed);
        }
        let open = Open(self);
        let places = workers as u64 - 1;
        self.gate.0.fetch_add(gate::NUMBER + places * gate::PLACE, Ordering::AcqRel);
        if self.is_worth_waking(job) {
            self.opened.0.notify(places as u32);
        }
        self.run_chunks(job, 0);
        drop(open);
    }

    /// Whether the loop takes so long that workers who sleep should be woken. Where any do and there
    /// are many tasks, the caller runs one to find out.
    fn is_worth_waking(&self, job: Job) -> bool {
        if job.tasks < PROBED_TASKS || !self.opened.0.has_sleepers() {
            return true;
        }
        let Some(task) = job.task else { return false };
        let Some((begin, end)) = self.take(job, 0, PROBE) else { return true };
        let system = self.opened.0.system();
        let start = system.now();
        // SAFETY: the caller of the loop keeps the task alive.
        unsafe { task.as_ref()(begin, end, 0) };
        let now = system.now();
        let left = now.saturating_sub(start).saturating_mul((job.tasks - PROBE) as u64);
        // SAFETY: this caller holds `busy`.
        unsafe { (*self.alone.get()).add(left, now) }
    }

    /// Runs chunks until none are left: of the worker's own range first.
    fn run_chunks(&self, job: Job, worker: usize) {
        let Some(task) = job.task else { return };
        for i in 0..job.ranges {
            let range = (worker + i) % job.ranges;
            while let Some((begin, end)) = self.take(job, range, usize::MAX) {
                // SAFETY: the task lives until all who joined have left, and this one has not.
                unsafe { task.as_ref()(begin, end, worker) };
            }
        }
    }

    /// Takes half of what is left of a range, but at most so many tasks.
    fn take(&self, job: Job, range: usize, most: usize) -> Option<(usize, usize)> {
        let (next, end) = (&self.next[range].0, job.start(range + 1));
        let mut begin = next.load(Ordering::Relaxed);
        while begin < end {
            let chunk = (end - begin).div_ceil(2).min(most);
            match next.compare_exchange_weak(begin, begin + chunk, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((begin, begin + chunk)),
                Err(now) => begin = now,
            }
        }
        None
    }
}

impl Job {
    /// Where a range begins.
    fn start(&self, range: usize) -> usize {
        let (whole, rest) = (self.tasks / self.ranges, self.tasks % self.ranges);
        whole * range + rest.min(range)
    }
}

/// A worker is in the loop for as long as this lives, whether the task returns or unwinds.
struct Inside<'a, S: System>(&'a Team<S>);

impl<S: System> Drop for Inside<'_, S> {
    fn drop(&mut self) {
        let before = self.0.gate.0.fetch_sub(gate::ACTIVE, Ordering::AcqRel);
        if before & gate::ALL_ACTIVE == gate::ACTIVE {
            self.0.left.0.notify(1);
        }
    }
}

/// A loop may be joined for as long as this lives. When it goes, whether the task returned or
/// unwinds, nobody can join any more and all who did have left.
struct Open<'a, S: System>(&'a Team<S>);

impl<S: System> Drop for Open<'_, S> {
    fn drop(&mut self) {
        let team = self.0;
        let before = team.gate.0.fetch_and(!gate::ALL_PLACES, Ordering::AcqRel);
        if before & gate::ALL_ACTIVE == 0 {
            return;
        }
        let all_left = || team.gate.0.load(Ordering::SeqCst) & gate::ALL_ACTIVE == 0;
        // SAFETY: this caller holds `busy`.
        let spinner = unsafe { &mut *team.caller.get() };
        if !spinner.spin_until(team.left.0.system(), all_left) {
            team.left.0.sleep_until(all_left);
        }
    }
}

/// The mark that a caller has a loop, for as long as this lives.
struct Busy<'a>(&'a AtomicBool);

impl<'a> Busy<'a> {
    fn take(flag: &'a AtomicBool) -> Option<Busy<'a>> {
        (!flag.swap(true, Ordering::Acquire)).then_some(Busy(flag))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<S: System> Executor for Team<S> {
    fn workers(&self) -> usize {
        self.next.len()
    }

    fn parallel_for(&self, tasks: usize, task: &Task<'_>) {
        let wanted = self.next.len().min(tasks);
        if wanted <= 1 {
            return task(0, tasks, 0);
        }
        // More workers than CPUs are what the team's owner asked for: all may take part where no
        // other loop runs.
        let share = wanted.min(self.cpus);
        let cpus = Cpus::take(share, self.cpus, &BUSY_CPUS);
        let granted = if cpus.count < share { cpus.count } else { wanted };
        let busy = if granted > 1 { Busy::take(&self.busy.0) } else { None };
        match busy {
            Some(_) => self.run(tasks, task, granted),
            None => task(0, tasks, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::sync::atomic::AtomicU32;
    use std::sync::Mutex;

    /// Nobody waits in these tests.
    #[derive(Default)]
    struct Unused;

    impl System for Unused {
        fn now(&self) -> u64 {
            0
        }

        fn give_way(&self) {}

        fn wait(&self, _: &AtomicU32, _: u32) {}

        fn wake(&self, _: &AtomicU32, _: u32) {}
    }

    #[test]
    fn chunks_shrink_towards_the_end_and_the_own_range_comes_first() {
        let team = Team::<Unused>::new(2, 2, Duration::ZERO);
        let chunks = Mutex::new(Vec::new());
        team.run(19, &|begin, end, worker| chunks.lock().expect("one thread").push((begin, end, worker)), 2);
        let own = [(0, 5, 0), (5, 8, 0), (8, 9, 0), (9, 10, 0)];
        let other = [(10, 15, 0), (15, 17, 0), (17, 18, 0), (18, 19, 0)];
        assert_eq!(chunks.into_inner().expect("one thread"), [own, other].concat());
    }

    #[test]
    fn short_loops_wake_nobody() {
        let team = Team::<Unused>::new(2, 2, Duration::ZERO);
        let job = |tasks| Job { task: Some(NonNull::from(NOTHING)), tasks, ranges: 2 };
        assert!(team.is_worth_waking(job(100)), "nobody sleeps");
        team.opened.0.sleep_until(|| {
            assert!(team.is_worth_waking(job(PROBED_TASKS - 1)), "there are few tasks");
            assert!(!team.is_worth_waking(job(PROBED_TASKS)), "they take no time");
            true
        });
    }

    #[test]
    fn short_loops_in_succession_wake_somebody() {
        let mut alone = Alone::default();
        let each = WAKING / 4;
        let woken: Vec<bool> = (1..=10).map(|i| alone.add(each, i * 10_000)).collect();
        assert_eq!(woken.iter().filter(|w| **w).count(), 2, "after each five: {woken:?}");
        let rare: Vec<bool> = (1..=10).map(|i| alone.add(each, (i + 10) * (APART + 10_000))).collect();
        assert!(!rare.contains(&true), "{rare:?}");
    }

    const NOTHING: &Task<'static> = &|_, _, _| ();

    #[test]
    fn ranges_cover_the_tasks() {
        for (tasks, ranges) in [(2, 2), (7, 3), (100, 7), (usize::MAX, 64)] {
            let job = Job { task: None, tasks, ranges };
            assert_eq!((job.start(0), job.start(ranges)), (0, tasks));
            let lengths = (0..ranges).map(|r| job.start(r + 1) - job.start(r));
            let (least, most) = lengths.fold((usize::MAX, 0), |(l, m), n| (l.min(n), m.max(n)));
            assert!(most - least <= 1, "{tasks} in {ranges}: {least} to {most}");
        }
    }

    #[test]
    fn loops_leave_cpus_to_each_other() {
        let busy = AtomicUsize::new(0);
        let first = Cpus::take(6, 8, &busy);
        let second = Cpus::take(6, 8, &busy);
        let third = Cpus::take(6, 8, &busy);
        assert_eq!((first.count, second.count, third.count), (6, 2, 1));
        drop((first, second, third));
        assert_eq!(busy.into_inner(), 0);
    }

    #[test]
    fn there_are_no_more_workers_than_the_team_has() {
        let team = Team::<Unused>::new(2, 2, Duration::ZERO);
        team.stop();
        // Worker 1, who finds the team at its end, and one too many.
        (0..2).for_each(|_| team.work());
        assert_eq!(team.workers(), 2);
    }
}
