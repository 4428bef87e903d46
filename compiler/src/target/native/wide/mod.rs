//! The emitter for vectors of 256 bits on x86-64 with AVX2 and FMA, where Cranelift stops at 128.
//!
//! - [`lower`], with [`address`]: a kernel becomes instructions on virtual registers ([`code`]).
//! - [`allocate`]: `regalloc2` chooses their registers.
//! - [`encode`]: the bytes.
//!
//! It takes kernels of `f32` alone, of the operations that [`lower::has`] names; what it declines,
//! Cranelift compiles. What it has taken it must finish: a fault after that is an internal error.

pub mod address;
pub mod allocate;
pub mod code;
pub mod encode;
pub mod lower;

#[cfg(test)]
mod tests;

use super::NativeError;
use super::function::Function;
use super::levels::TargetSpec;
use crate::lower::schedule::Wide;
use burin_runtime::abi::{arch, cpu};
use code::Code;

/// Whether a target has what the emitter's instructions need.
pub fn fits(target: &TargetSpec) -> bool {
    let needed = cpu::AVX2 | cpu::FMA;
    target.arch == arch::X86_64 && target.features & needed == needed
}

/// What schedules are told of it.
pub const VECTORS: Wide = Wide { vector_bits: 256, has: lower::has };

/// The function of a kernel that [`lower::lower`] has taken.
pub fn assemble(name: &str, code: &Code) -> Result<Function, NativeError> {
    let fault = |what| NativeError::Internal { function: name.to_owned(), what };
    let flat = allocate::Flat::new(code);
    let registers = flat.allocate().map_err(fault)?;
    let bytes = encode::encode(code, &flat, &registers).map_err(fault)?;
    Ok(Function { name: name.to_owned(), bytes, align: 64, relocs: Vec::new() })
}
