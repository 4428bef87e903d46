//! Who runs the parallel tasks of a call.
//!
//! The answer never depends on the executor: work is split by the model, and each task writes its
//! own part of the output.

use crate::abi::TaskFn;
use core::ffi::c_void;

/// Runs tasks. A host with threads of its own implements this and hands it to a
/// [`Session`](crate::Session).
pub trait Executor: Send + Sync {
    /// Worker numbers are below this; at least 1.
    fn workers(&self) -> usize;

    /// Calls `task(begin, end, worker)` so that every index below `tasks` is covered once, and
    /// returns when all calls have returned. No two calls at the same time have the same worker.
    fn parallel_for(&self, tasks: usize, task: &(dyn Fn(usize, usize, usize) + Sync));
}

/// Everything on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Executor for Serial {
    fn workers(&self) -> usize {
        1
    }

    fn parallel_for(&self, tasks: usize, task: &(dyn Fn(usize, usize, usize) + Sync)) {
        task(0, tasks, 0);
    }
}

/// A kernel's frame, shared by the workers.
struct Frame(*const u64);
// SAFETY: the frame is only read while the tasks run, and the tasks of one loop write to distinct
// memory.
unsafe impl Sync for Frame {}

impl Frame {
    fn get(&self) -> *const u64 {
        self.0
    }
}

/// The [`ParallelForFn`](crate::abi::ParallelForFn) of an executor: `host` points at a
/// `&dyn Executor`. A panic in the executor aborts, since it must not unwind through compiled code.
///
/// # Safety
/// `host` points at a live `&dyn Executor`, and `task` may be called with `frame` as the ABI says.
pub(crate) unsafe extern "C" fn parallel_for(host: *mut c_void, task: TaskFn, frame: *const u64, tasks: i64) {
    // SAFETY: the caller's promise.
    let executor: &dyn Executor = unsafe { *host.cast::<&dyn Executor>() };
    let frame = Frame(frame);
    let tasks = usize::try_from(tasks).unwrap_or(0);
    executor.parallel_for(tasks, &|begin, end, worker| {
        assert!(
            begin <= end && end <= tasks && worker < executor.workers(),
            "an executor's task is out of range"
        );
        // SAFETY: the caller's promise, and the range and worker are as the ABI wants them.
        unsafe { task(frame.get(), begin as i64, end as i64, worker as i64) }
    });
}
