//! Which CPU features the machine has, in the masks of [`abi::cpu`].
//!
//! A feature counts as present only when the system also saves the registers that it uses.

use crate::abi::{arch, cpu};
use alloc::string::String;

/// The architecture that this program runs on, one of [`arch`]; 0 for all others.
pub const HOST_ARCH: u32 = if cfg!(target_arch = "x86_64") {
    arch::X86_64
} else if cfg!(target_arch = "aarch64") {
    arch::AARCH64
} else if cfg!(target_arch = "riscv64") {
    arch::RISCV64
} else {
    0
};

/// The name of an architecture.
pub fn arch_name(arch: u32) -> &'static str {
    match arch {
        arch::X86_64 => "x86-64",
        arch::AARCH64 => "AArch64",
        arch::RISCV64 => "RISC-V 64",
        _ => "unknown",
    }
}

/// The names of the features in a mask, separated by commas.
pub fn feature_names(mask: u64) -> String {
    let mut out = String::new();
    for (bit, name) in cpu::ALL {
        if mask & bit != 0 {
            if !out.is_empty() {
                out.push_str(", ");
            }
            out.push_str(name);
        }
    }
    out
}

/// The short name of a level of x86-64: `v3` for `x86-64-v3`, `v1` for `x86-64`.
pub fn short_level(level: &str) -> Option<&str> {
    if level == "x86-64" { Some("v1") } else { level.strip_prefix("x86-64-") }
}

/// The features of this machine; empty on all architectures but x86-64, where code uses the
/// baseline only.
#[cfg(not(target_arch = "x86_64"))]
pub fn host_features() -> u64 {
    0
}

/// The features of this machine.
#[cfg(target_arch = "x86_64")]
pub fn host_features() -> u64 {
    x86::features()
}

/// Where CPUID tells of a feature of x86-64 (Intel SDM volume 2, CPUID).
#[derive(Clone, Copy, Debug)]
pub struct Cpuid {
    /// One of [`cpu`].
    pub feature: u64,
    /// The leaf; the subleaf is 0.
    pub leaf: u32,
    /// Which of the answer's registers.
    pub register: Register,
    /// Which of its bits.
    pub bit: u32,
    /// The bits of XCR0 that must be set: register state that the system saves (volume 1, 13.2).
    pub state: u64,
}

/// A register in which CPUID answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // they are called what the CPU calls them
pub enum Register {
    Ebx,
    Ecx,
}

/// The leaf and bit (of ECX) that say that the system has enabled XGETBV, which reads XCR0.
pub const OSXSAVE: (u32, u32) = (1, 27);

/// The features of x86-64.
pub const X86_FEATURES: [Cpuid; 19] = {
    use Register::{Ebx, Ecx};
    use cpu::*;
    const YMM: u64 = 0b110;
    const ZMM: u64 = 0b1110_0110;
    const EXTENDED: u32 = 0x8000_0001;
    const fn at(feature: u64, leaf: u32, register: Register, bit: u32, state: u64) -> Cpuid {
        Cpuid { feature, leaf, register, bit, state }
    }
    [
        at(SSE3, 1, Ecx, 0, 0),
        at(SSSE3, 1, Ecx, 9, 0),
        at(FMA, 1, Ecx, 12, YMM),
        at(SSE41, 1, Ecx, 19, 0),
        at(SSE42, 1, Ecx, 20, 0),
        at(MOVBE, 1, Ecx, 22, 0),
        at(POPCNT, 1, Ecx, 23, 0),
        at(AVX, 1, Ecx, 28, YMM),
        at(F16C, 1, Ecx, 29, YMM),
        at(BMI1, 7, Ebx, 3, 0),
        at(AVX2, 7, Ebx, 5, YMM),
        at(BMI2, 7, Ebx, 8, 0),
        at(AVX512F, 7, Ebx, 16, ZMM),
        at(AVX512DQ, 7, Ebx, 17, ZMM),
        at(AVX512CD, 7, Ebx, 28, ZMM),
        at(AVX512BW, 7, Ebx, 30, ZMM),
        at(AVX512VL, 7, Ebx, 31, ZMM),
        at(AVX512VNNI, 7, Ecx, 11, ZMM),
        at(LZCNT, EXTENDED, Ecx, 5, 0),
    ]
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{OSXSAVE, Register, X86_FEATURES};
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    pub(super) fn features() -> u64 {
        let ask = |leaf: u32| {
            // A leaf above the greatest of its range answers for another one.
            let known = __cpuid(leaf & 0x8000_0000).eax >= leaf;
            known.then(|| __cpuid_count(leaf, 0)).map_or((0, 0), |a| (a.ebx, a.ecx))
        };
        let saved = if ask(OSXSAVE.0).1 >> OSXSAVE.1 & 1 != 0 {
            // SAFETY: OSXSAVE says that the system has enabled XGETBV.
            unsafe { xcr0() }
        } else {
            0
        };
        let mut mask = 0;
        let mut answer = (0, (0, 0));
        for f in X86_FEATURES {
            // Under a virtual machine each question costs a microsecond or more.
            if answer.0 != f.leaf {
                answer = (f.leaf, ask(f.leaf));
            }
            let (ebx, ecx) = answer.1;
            let register = if f.register == Register::Ebx { ebx } else { ecx };
            if register >> f.bit & 1 != 0 && saved & f.state == f.state {
                mask |= f.feature;
            }
        }
        mask
    }

    /// # Safety
    /// The system must have enabled XGETBV.
    #[target_feature(enable = "xsave")]
    unsafe fn xcr0() -> u64 {
        // SAFETY: the caller's promise.
        unsafe { _xgetbv(0) }
    }
}

#[cfg(all(test, feature = "std", target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        macro_rules! same {
            ($($bit:ident $name:tt),*) => {$(
                assert_eq!(host_features() & cpu::$bit != 0, std::is_x86_feature_detected!($name), $name);
            )*};
        }
        same!(SSE3 "sse3", SSSE3 "ssse3", SSE41 "sse4.1", SSE42 "sse4.2", POPCNT "popcnt", AVX "avx",
              AVX2 "avx2", FMA "fma", BMI1 "bmi1", BMI2 "bmi2", LZCNT "lzcnt", F16C "f16c",
              AVX512F "avx512f", AVX512BW "avx512bw", AVX512DQ "avx512dq", AVX512VL "avx512vl",
              AVX512CD "avx512cd", AVX512VNNI "avx512vnni", MOVBE "movbe");
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(feature_names(cpu::AVX2 | cpu::FMA), "avx2, fma");
    }
}
