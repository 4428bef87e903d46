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

/// Intel SDM volume 2, CPUID; volume 1, 13.2 for what XGETBV says.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::abi::cpu::*;
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    /// Which register state a feature needs the system to save.
    #[derive(Clone, Copy, PartialEq)]
    enum Needs {
        Nothing,
        Ymm,
        Zmm,
    }
    use Needs::*;

    /// (feature, bit, needs) of leaf 1's ECX.
    const LEAF1_ECX: [(u64, u32, Needs); 9] = [
        (SSE3, 0, Nothing),
        (SSSE3, 9, Nothing),
        (FMA, 12, Ymm),
        (SSE41, 19, Nothing),
        (SSE42, 20, Nothing),
        (MOVBE, 22, Nothing),
        (POPCNT, 23, Nothing),
        (AVX, 28, Ymm),
        (F16C, 29, Ymm),
    ];
    /// Of leaf 7's EBX.
    const LEAF7_EBX: [(u64, u32, Needs); 8] = [
        (BMI1, 3, Nothing),
        (AVX2, 5, Ymm),
        (BMI2, 8, Nothing),
        (AVX512F, 16, Zmm),
        (AVX512DQ, 17, Zmm),
        (AVX512CD, 28, Zmm),
        (AVX512BW, 30, Zmm),
        (AVX512VL, 31, Zmm),
    ];
    /// Of leaf 7's ECX.
    const LEAF7_ECX: [(u64, u32, Needs); 1] = [(AVX512VNNI, 11, Zmm)];
    /// Of leaf 0x8000_0001's ECX.
    const EXTENDED_ECX: [(u64, u32, Needs); 1] = [(LZCNT, 5, Nothing)];

    const OSXSAVE: u32 = 1 << 27;
    const XCR0_YMM: u64 = 0b110;
    const XCR0_ZMM: u64 = 0b1110_0110;

    pub(super) fn features() -> u64 {
        let (max, max_extended) = (__cpuid(0).eax, __cpuid(0x8000_0000).eax);
        let leaf1 = __cpuid(1).ecx;
        let xcr0 = if leaf1 & OSXSAVE != 0 {
            // SAFETY: OSXSAVE says that the system has enabled XGETBV.
            unsafe { xcr0() }
        } else {
            0
        };
        let collect = |register: u32, table: &[(u64, u32, Needs)]| {
            let saved = |needs| match needs {
                Nothing => true,
                Ymm => xcr0 & XCR0_YMM == XCR0_YMM,
                Zmm => xcr0 & XCR0_ZMM == XCR0_ZMM,
            };
            let has = |(f, bit, needs): &(u64, u32, Needs)| {
                if register >> bit & 1 != 0 && saved(*needs) { *f } else { 0 }
            };
            table.iter().map(has).fold(0, |a, b| a | b)
        };
        let mut mask = collect(leaf1, &LEAF1_ECX);
        if max >= 7 {
            let leaf7 = __cpuid_count(7, 0);
            mask |= collect(leaf7.ebx, &LEAF7_EBX) | collect(leaf7.ecx, &LEAF7_ECX);
        }
        if max_extended >= 0x8000_0001 {
            mask |= collect(__cpuid(0x8000_0001).ecx, &EXTENDED_ECX);
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
