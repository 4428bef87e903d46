//! The native target: from a [`Program`] to one position-independent blob of machine code.
//!
//! - [`levels`]: which architectures and CPU levels there are, and what each can do.
//! - [`kernel`], with [`index`], [`access`], [`value`], [`ops`], [`cast`], [`rounding`]: one kernel
//!   becomes one function.
//! - [`entry`], with [`checked`] and [`cpuid`]: the `plan` and `run` functions of the ABI around the
//!   kernels.
//! - [`function`]: one function's bytes and relocations, whoever made them. Cranelift makes all of
//!   them now; an emitter for wider vectors only has to hand over the same struct.
//! - [`link`]: functions laid out one after another, their references to one another resolved.
//! - [`jit`]: the linked code mapped and called in this process.
//! - [`peak`]: programs that show what a machine can do at most.
//!
//! Invariants: code refers to nothing outside the blob (a reference to a library function is an
//! internal error that names it), no instruction traps whatever the data are, and no access is
//! moved above the loop guard or the conditional that makes it valid. Code is a pure function of
//! the program and the target: it does not depend on the number of threads that compile it.
//!
//! Whether the CPU has the level's features is asked by `plan` ([`cpuid`]), without which nobody
//! knows how large the arena is: a caller that keeps to the ABI never meets an illegal instruction.

pub mod access;
pub mod cast;
pub mod checked;
pub mod cpuid;
pub mod entry;
pub mod function;
pub mod index;
pub mod jit;
pub mod kernel;
pub mod levels;
pub mod link;
pub mod ops;
pub mod peak;
pub mod rounding;
pub mod value;
pub mod wide;

#[cfg(test)]
mod tests;

use crate::program::Program;
use burin_ir::loops::Kernel;
use function::Function;
use levels::TargetSpec;
use link::Code;
use rayon::prelude::*;

/// Why code could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// The triple or the level is not known, or they do not fit each other.
    #[error("{0}")]
    Target(String),
    /// A kernel holds something that this target has no code for; a pass should have expanded it.
    #[error("kernel {kernel}: {what}")]
    Unsupported {
        /// The kernel's name.
        kernel: String,
        /// What it holds.
        what: String,
    },
    /// A mistake of the compiler itself.
    #[error("internal error in function {function}: {what}")]
    Internal {
        /// The function's name.
        function: String,
        /// What went wrong.
        what: String,
    },
    /// Memory for code could not be had, or made executable.
    #[error("cannot map the compiled code: {0}")]
    Map(#[from] std::io::Error),
    /// A call that does not fit the program.
    #[error("{0}")]
    Call(String),
}

/// Compiles a kernel: by the emitter for wide vectors if it takes it, else through Cranelift.
pub fn compile_kernel(kernel: &Kernel, target: &TargetSpec) -> Result<Function, NativeError> {
    if let Some(level) = wide::Level::of(target)
        && let Ok(code) = wide::lower::lower(kernel, level)
    {
        return wide::assemble(&kernel.name, &code);
    }
    kernel::compile(kernel, target)
}

/// Whether the emitter for wide vectors takes a kernel; an error says why not.
pub fn wide_vectors(kernel: &Kernel, target: &TargetSpec) -> Result<(), String> {
    let level = wide::Level::of(target).ok_or_else(|| format!("{} has 128 bits at most", target.level))?;
    wide::lower::lower(kernel, level).map(|_| ())
}

/// Compiles a program: kernels first, in their order, then what calls them. Functions are compiled
/// in parallel on rayon's current pool.
pub fn compile(program: &Program, target: &TargetSpec) -> Result<Code, NativeError> {
    let kernels = program.kernels.par_iter().map(|k| compile_kernel(k, target));
    let mut functions = kernels.collect::<Result<Vec<Function>, NativeError>>()?;
    let entry = entry::Entry::new(program, target);
    let rest = entry.functions().into_par_iter().map(|part| entry.compile(part));
    functions.extend(rest.collect::<Result<Vec<Function>, NativeError>>()?);
    link::link(&functions, program.kernels.len(), entry.plan(), entry.run(), target)
}
