//! Threads for parallel loops. They live as long as the process.

use super::{Call, Errno, call, clock, files, map};
use alloc::ffi::CString;
use alloc::format;
use alloc::sync::Arc;
use burin_runtime::Executor;
use burin_runtime::pool::DEFAULT_SPIN;
use burin_runtime::pool::team::Team;
use burin_runtime::pool::wait::System;
use core::arch::asm;
use core::ffi::CStr;
use core::sync::atomic::AtomicU32;

/// A thread's stack, of which the last page is a fence. What is not touched takes no memory.
const STACK: usize = 2 << 20;

/// A team of so many workers, with its threads; 0 means one for each CPU.
pub(crate) fn team(workers: usize) -> Result<Arc<dyn Executor>, Errno> {
    let cpus = cpus();
    let team = Arc::new(Team::<Linux>::new(if workers == 0 { cpus } else { workers }, cpus, DEFAULT_SPIN));
    for _ in 1..team.workers() {
        spawn(team.clone())?;
    }
    Ok(team)
}

fn spawn(team: Arc<Team<Linux>>) -> Result<(), Errno> {
    /// Memory, folders, files and signal handlers are shared; the thread is one of this process.
    const SHARED: usize = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000;
    let stack = map::fresh(STACK)?;
    map::fence(stack)?;
    let team = Arc::into_raw(team);
    let answer: isize;
    // SAFETY: the new thread begins behind the call with all registers as here but its stack, which is
    // its own, and never returns: what the compiler expects of this code holds in the old thread. The
    // team is handed over.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call {life}",
            "ud2",
            "2:",
            life = sym life,
            inlateout("rax") Call::Clone as usize => answer,
            in("rdi") SHARED, in("rsi") stack.as_ptr() as usize + STACK,
            in("rdx") 0, in("r10") 0, in("r8") 0, in("r9") team,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if answer < 0 { Err(Errno(-answer as i32)) } else { Ok(()) }
}

/// A thread's life.
///
/// # Safety
/// `team` came from `Arc::into_raw`, and is handed over.
unsafe extern "C" fn life(team: *const Team<Linux>) -> ! {
    // SAFETY: the caller's promise.
    unsafe { Arc::from_raw(team) }.work();
    // Nobody ends a team.
    super::start::exit(crate::OUR_BUG)
}

/// Waiting by futexes.
#[derive(Default)]
struct Linux;

const WAIT: usize = 128;
const WAKE: usize = 129;

impl System for Linux {
    fn now(&self) -> u64 {
        clock::now()
    }

    fn give_way(&self) {
        // SAFETY: it has no arguments.
        let _ = unsafe { call::<0>(Call::Yield, []) };
    }

    fn wait(&self, word: &AtomicU32, seen: u32) {
        // SAFETY: the word lives during the call. Whatever the call answers, waiting may end early.
        let _ = unsafe { call(Call::Futex, [word.as_ptr() as usize, WAIT, seen as usize]) };
    }

    fn wake(&self, word: &AtomicU32, threads: u32) {
        // SAFETY: the word lives during the call.
        let _ = unsafe { call(Call::Futex, [word.as_ptr() as usize, WAKE, threads as usize]) };
    }
}

/// How many CPUs this process may use: those that it may run on, but not more than its control group
/// may have the time of.
fn cpus() -> usize {
    let mut mask = [0u64; 1024 / 64];
    // SAFETY: the mask has so many bytes.
    let _ = unsafe { call(Call::GetAffinity, [0, size_of_val(&mask), (&raw mut mask) as usize]) };
    let allowed = mask.iter().map(|m| m.count_ones() as usize).sum::<usize>();
    allowed.min(quota().unwrap_or(usize::MAX)).max(1)
}

/// The least share of CPUs of the control group and those above it (version 2).
fn quota() -> Option<usize> {
    let own = files::read(c"/proc/self/cgroup").ok()?;
    let own = core::str::from_utf8(&own).ok()?;
    let mut group = own.lines().find_map(|l| l.strip_prefix("0::"))?.trim_end_matches('/');
    let mut least = None;
    loop {
        let limit = CString::new(format!("/sys/fs/cgroup{group}/cpu.max")).ok().and_then(|p| limit(&p));
        least = least.into_iter().chain(limit).min();
        match group.rsplit_once('/') {
            Some((above, _)) => group = above,
            None => return least,
        }
    }
}

/// Whole CPUs that a group may have the time of, at least one: its file holds microseconds of CPUs
/// and the period in which it may use them.
fn limit(path: &CStr) -> Option<usize> {
    let text = files::read(path).ok()?;
    let (time, period) = core::str::from_utf8(&text).ok()?.trim_end().split_once(' ')?;
    let whole = time.parse::<usize>().ok()?.checked_div(period.parse().ok()?)?;
    Some(whole.max(1))
}
