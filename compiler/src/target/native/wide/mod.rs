//! The emitter for vectors of 256 and 512 bits on x86-64 ([`Level`]), where Cranelift stops at 128.
//!
//! - [`lower`], with [`address`]: a kernel becomes instructions on virtual registers ([`code`]).
//! - [`allocate`]: `regalloc2` chooses their registers, [`slots`] the places of what has none.
//! - [`encode`]: the bytes.
//!
//! It takes kernels of all element types, of the operations that [`lower::has`] names; what it declines,
//! Cranelift compiles. What it has taken it must finish: a fault after that is an internal error.

pub mod address;
pub mod allocate;
pub mod code;
pub mod encode;
pub mod lower;
mod slots;

#[cfg(test)]
mod tests;

use super::NativeError;
use super::function::{Function, check_frame};
use super::levels::TargetSpec;
use crate::lower::schedule::Wide;
use burin_runtime::abi::{arch, cpu};
use code::Code;

/// The instructions that the emitter may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// 256 bits, 16 registers: AVX2, FMA and F16C.
    Avx2,
    /// 512 bits, 32 registers: AVX-512 as x86-64-v4 has it (F, BW, DQ, VL).
    Avx512,
    /// The same with sums of products of bytes (VNNI).
    Avx512Vnni,
}

/// How instructions are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// 16 registers, and masks in vector registers.
    Vex,
    /// 32 registers, and mask registers.
    Evex,
}

impl Level {
    /// The greatest level that a target has all instructions of.
    pub fn of(target: &TargetSpec) -> Option<Level> {
        let has = |needed: u64| target.arch == arch::X86_64 && target.features & needed == needed;
        let avx2 = cpu::AVX2 | cpu::FMA | cpu::F16C;
        let avx512 = avx2 | cpu::AVX512F | cpu::AVX512BW | cpu::AVX512DQ | cpu::AVX512VL;
        let all =
            [(Level::Avx512Vnni, avx512 | cpu::AVX512VNNI), (Level::Avx512, avx512), (Level::Avx2, avx2)];
        all.into_iter().find(|(_, needed)| has(*needed)).map(|(level, _)| level)
    }

    /// How its instructions are encoded.
    pub const fn encoding(self) -> Encoding {
        match self {
            Level::Avx2 => Encoding::Vex,
            Level::Avx512 | Level::Avx512Vnni => Encoding::Evex,
        }
    }

    /// Bits of the widest vector register.
    pub const fn vector_bits(self) -> u32 {
        match self.encoding() {
            Encoding::Vex => 256,
            Encoding::Evex => 512,
        }
    }

    /// How many vector registers there are.
    pub const fn registers(self) -> usize {
        match self.encoding() {
            Encoding::Vex => 16,
            Encoding::Evex => 32,
        }
    }

    /// What schedules are told of it.
    pub fn vectors(self) -> Wide {
        // Cores with AVX-512 have 1 MiB or more.
        let l2_bytes = if self.encoding() == Encoding::Evex { 1 << 20 } else { 512 << 10 };
        Wide {
            vector_bits: self.vector_bits(),
            registers: self.registers() as u32,
            l2_bytes,
            dots: self == Level::Avx512Vnni,
            has: lower::has,
        }
    }
}

/// The function of a kernel that [`lower::lower`] has taken.
pub fn assemble(name: &str, code: &Code) -> Result<Function, NativeError> {
    let fault = |what| NativeError::Internal { function: name.to_owned(), what };
    let flat = allocate::Flat::new(code);
    let registers = flat.allocate().map_err(fault)?;
    check_frame(name, registers.num_spillslots * 8)?;
    let bytes = encode::encode(code, &flat, &registers).map_err(fault)?;
    Ok(Function { name: name.to_owned(), bytes, align: 64, relocs: Vec::new() })
}
