//! The native target: from a [`Program`] to one position-independent blob of machine code.
//!
//! - [`levels`]: which architectures and CPU levels there are, and what each can do.
//! - [`kernel`], with [`index`], [`access`], [`value`], [`ops`], [`cast`], [`rounding`]: one kernel
//!   becomes one function.
//! - [`entry`], with [`checked`]: the `plan` and `run` functions of the ABI around the kernels.
//! - [`choose`], with [`cpuid`]: the blob's own `plan` and `run`, which choose between the code for
//!   several levels.
//! - [`wide`]: the emitter for wide vectors, which takes kernels that it has all code for.
//! - [`function`]: one function's bytes and relocations, whoever made them.
//! - [`link`]: functions laid out one after another, their references to one another resolved.
//! - [`jit`]: the linked code mapped and called in this process.
//! - [`peak`]: programs that show what a machine can do at most.
//!
//! Invariants: code refers to nothing outside the blob (a reference to a library function is an
//! internal error that names it), no instruction traps whatever the data are, and no access is
//! moved above the loop guard or the conditional that makes it valid. Code is a pure function of
//! the program and the target: it does not depend on the number of threads that compile it.
//!
//! A blob holds the code for one level or for several ([`compile_levels`]), each complete: entry and
//! kernels.

pub mod access;
pub mod cast;
pub mod checked;
pub mod choose;
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
pub mod steps;
pub mod value;
pub mod wide;

#[cfg(test)]
mod tests;

use crate::program::Program;
use burin_ir::loops::Kernel;
use choose::Choice;
use entry::Entry;
use function::Function;
use levels::TargetSpec;
use link::Extent;
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

/// Machine code for one level or several.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// The bytes: instructions, and constants among them. Neither written nor relocated.
    pub text: Vec<u8>,
    /// What the address of the first byte must be a multiple of.
    pub align: usize,
    /// Offset of a `PlanFn` that chooses a level.
    pub plan: usize,
    /// Offset of a `RunFn` that chooses a level.
    pub run: usize,
    /// The code for each level, best first.
    pub levels: Vec<LevelCode>,
}

/// The code for a level. It does not ask whether the CPU has what it needs.
#[derive(Clone, Debug, Default)]
pub struct LevelCode {
    /// Offset of the ABI's `PlanFn`.
    pub plan: usize,
    /// Offset of the ABI's `RunFn`.
    pub run: usize,
    /// Where the kernels are, in the program's order.
    pub kernels: Vec<Extent>,
}

/// Compiles a program for one level.
pub fn compile(program: &Program, target: &TargetSpec) -> Result<Code, NativeError> {
    compile_levels(&[(program, target)])
}

/// A function that has to be made.
enum Job<'a> {
    Kernel(&'a Kernel, &'a TargetSpec),
    Entry(&'a Entry<'a>, entry::Part),
    Choice(&'a Choice, choose::Part),
}

impl Job<'_> {
    fn make(&self) -> Result<Function, NativeError> {
        match self {
            Job::Kernel(kernel, target) => compile_kernel(kernel, target),
            Job::Entry(entry, part) => entry.compile(*part),
            Job::Choice(choice, part) => choice.compile(*part),
        }
    }
}

/// Compiles the programs that a graph has become for several levels of one architecture, best first:
/// for each its kernels, in their order, then what calls them; last what chooses between the levels.
/// Functions are compiled in parallel on rayon's current pool.
pub fn compile_levels(levels: &[(&Program, &TargetSpec)]) -> Result<Code, NativeError> {
    let Some((_, target)) = levels.first() else {
        return Err(NativeError::Target("there is no CPU level to compile for".to_owned()));
    };
    let mut first = 0;
    let mut entries = Vec::with_capacity(levels.len());
    for (program, target) in levels {
        let entry = Entry::new(program, target, first);
        first += program.kernels.len() + entry.functions().len();
        entries.push(entry);
    }
    let of = |((_, t), e): (&(&Program, &TargetSpec), &Entry<'_>)| choose::Level {
        features: t.features,
        plan: e.plan(),
        run: e.run(),
    };
    let choice = Choice::new(levels.iter().zip(&entries).map(of).collect(), target, first)?;
    let mut jobs = Vec::new();
    for ((program, target), entry) in levels.iter().zip(&entries) {
        jobs.extend(program.kernels.iter().map(|k| Job::Kernel(k, target)));
        jobs.extend(entry.functions().into_iter().map(|part| Job::Entry(entry, part)));
    }
    jobs.extend(choice.functions().iter().map(|part| Job::Choice(&choice, *part)));
    let functions = jobs.par_iter().map(Job::make).collect::<Result<Vec<Function>, NativeError>>()?;
    let linked = link::link(&functions, target)?;
    let at = |number: usize| linked.places.get(number).map_or(0, |p| p.offset);
    let level = |((program, _), entry): (&(&Program, &TargetSpec), &Entry<'_>)| LevelCode {
        plan: at(entry.plan()),
        run: at(entry.run()),
        kernels: linked.places.iter().skip(entry.first()).take(program.kernels.len()).cloned().collect(),
    };
    Ok(Code {
        plan: at(choice.plan()),
        run: at(choice.run()),
        levels: levels.iter().zip(&entries).map(level).collect(),
        text: linked.text,
        align: linked.align,
    })
}
