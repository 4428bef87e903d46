//! Compiled code mapped into this process and called.
//!
//! [`Mapped`] holds code and hands out its functions. [`Jit`] is a program with its code, its
//! weights in memory, and a way to run it on tensors on the calling thread.

use super::NativeError;
use super::levels::TargetSpec;
use super::link::Code;
use burin_runtime::abi::{Call, Plan, PlanFn, RunFn, TaskFn};
use memmap2::{Mmap, MmapMut};

/// Code that can be called, for as long as this lives.
#[derive(Debug)]
pub struct Mapped {
    memory: Mmap,
    plan: usize,
    run: usize,
    kernels: Vec<usize>,
}

impl Mapped {
    /// Maps code that was made for `target`; an error if this CPU cannot run it.
    pub fn new(code: &Code, target: &TargetSpec) -> Result<Mapped, NativeError> {
        if !target.runs_here() {
            return Err(NativeError::Target(format!("this machine cannot run code for {target:?}")));
        }
        let mut memory = MmapMut::map_anon(code.text.len().max(1))?;
        memory[..code.text.len()].copy_from_slice(&code.text);
        let memory = memory.make_exec()?;
        let kernels = code.kernels.iter().map(|k| k.offset).collect();
        Ok(Mapped { memory, plan: code.plan, run: code.run, kernels })
    }

    fn at(&self, offset: usize) -> *const u8 {
        self.memory[offset..].as_ptr()
    }

    /// Calls the program's `plan`.
    ///
    /// # Safety
    /// The plan's pointers must be valid for what the program's dimensions and outputs need.
    pub unsafe fn plan(&self, plan: &mut Plan) -> i32 {
        // SAFETY: the code at this offset was compiled as a `PlanFn`; the caller vouches for the rest.
        unsafe { std::mem::transmute::<*const u8, PlanFn>(self.at(self.plan))(plan) }
    }

    /// Calls the program's `run`.
    ///
    /// # Safety
    /// All buffers must be as the ABI demands and as large as the plan for these dimensions says.
    pub unsafe fn run(&self, call: &mut Call) -> i32 {
        // SAFETY: the code at this offset was compiled as a `RunFn`; the caller vouches for the rest.
        unsafe { std::mem::transmute::<*const u8, RunFn>(self.at(self.run))(call) }
    }

    /// A kernel, by its number in the program. It must not be called after `self` is gone.
    pub fn kernel(&self, number: usize) -> TaskFn {
        // SAFETY: the code at this offset was compiled as a `TaskFn`; calling it is unsafe in turn.
        unsafe { std::mem::transmute::<*const u8, TaskFn>(self.at(self.kernels[number])) }
    }
}
