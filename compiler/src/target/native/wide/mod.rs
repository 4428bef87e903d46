//! The emitter for vectors of 256 bits on x86-64 with AVX2 and FMA, where Cranelift stops at 128.
//!
//! - [`lower`], with [`address`]: a kernel becomes instructions on virtual registers ([`code`]).
//! - [`allocate`]: `regalloc2` chooses their registers.
//! - [`encode`]: the bytes.
//!
//! It takes the kernels of `f32` sums, products and extremes, as contractions are scheduled to be
//! for it; what it declines, Cranelift compiles.

pub mod address;
pub mod allocate;
pub mod code;
pub mod encode;
pub mod lower;

#[cfg(test)]
mod tests;

use super::function::Function;
use super::levels::TargetSpec;
use crate::lower::schedule::Wide;
use burin_ir::loops::Kernel;
use burin_runtime::abi::{arch, cpu};

/// Whether a target has what the emitter's instructions need.
pub fn fits(target: &TargetSpec) -> bool {
    let needed = cpu::AVX2 | cpu::FMA;
    target.arch == arch::X86_64 && target.features & needed == needed
}

/// What schedules are told of it.
pub const VECTORS: Wide = Wide { vector_bits: 256, has: lower::has };

/// A kernel's function, or why it is declined.
pub fn compile(kernel: &Kernel) -> Result<Function, String> {
    let code = lower::lower(kernel)?;
    let flat = allocate::Flat::new(&code);
    let registers = flat.allocate()?;
    let bytes = encode::encode(&code, &flat, &registers)?;
    Ok(Function { name: kernel.name.clone(), bytes, align: 64, relocs: Vec::new() })
}
