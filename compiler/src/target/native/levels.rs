//! Architectures and CPU levels: the one place that says which instructions may be used.
//!
//! A level names every one of its features, because Cranelift's flags do not imply one another.
//! Within [`X86_LEVELS`] each level holds the features of the one before it. In a list of levels
//! ([`TargetSpec::list`]) each holds the features of the one behind it, so that the first that a CPU
//! has is the best.

use super::{NativeError, wide};
use crate::lower::schedule::Machine;
use burin_runtime::abi::{arch, cpu};
use burin_runtime::cpu::{feature_names, host_features, short_level};
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use std::sync::Arc;
use target_lexicon::{Architecture, BinaryFormat, Triple};

/// A level of x86-64, with the features that it adds to the one before.
struct Level {
    name: &'static str,
    adds: u64,
}

/// The levels of the x86-64 psABI.
const X86_LEVELS: [Level; 4] = [
    Level { name: "x86-64", adds: 0 },
    Level { name: "x86-64-v2", adds: cpu::SSE3 | cpu::SSSE3 | cpu::SSE41 | cpu::SSE42 | cpu::POPCNT },
    Level {
        name: "x86-64-v3",
        adds: cpu::AVX | cpu::AVX2 | cpu::FMA | cpu::BMI1 | cpu::BMI2 | cpu::LZCNT | cpu::F16C | cpu::MOVBE,
    },
    Level {
        name: "x86-64-v4",
        adds: cpu::AVX512F | cpu::AVX512BW | cpu::AVX512CD | cpu::AVX512DQ | cpu::AVX512VL,
    },
];

/// Cranelift's flag for each feature that it knows.
const X86_FLAGS: [(u64, &str); 15] = [
    (cpu::SSE3, "has_sse3"),
    (cpu::SSSE3, "has_ssse3"),
    (cpu::SSE41, "has_sse41"),
    (cpu::SSE42, "has_sse42"),
    (cpu::POPCNT, "has_popcnt"),
    (cpu::AVX, "has_avx"),
    (cpu::AVX2, "has_avx2"),
    (cpu::FMA, "has_fma"),
    (cpu::BMI1, "has_bmi1"),
    (cpu::BMI2, "has_bmi2"),
    (cpu::LZCNT, "has_lzcnt"),
    (cpu::AVX512F, "has_avx512f"),
    (cpu::AVX512DQ, "has_avx512dq"),
    (cpu::AVX512VL, "has_avx512vl"),
    (cpu::AVX512VNNI, "has_avx512vnni"),
];

/// The level of an object or executable where none is asked for.
pub const DEFAULT_X86_LEVEL: &str = "x86-64-v3";

/// The name of the level that is whatever this machine has.
pub const NATIVE: &str = "native";

/// What code is made for.
#[derive(Clone)]
pub struct TargetSpec {
    /// The machine and the system.
    pub triple: Triple,
    /// The level's name.
    pub level: String,
    /// Bits of the vectors that code is made of; 0: scalars only.
    pub vector_bits: u32,
    /// Whether there is an instruction for a fused multiply-add.
    pub fma: bool,
    /// Whether there are instructions that round a float to an integer value.
    pub rounding: bool,
    /// The features that the CPU must have: a mask of [`cpu`].
    pub features: u64,
    /// One of [`arch`].
    pub arch: u32,
    /// Cranelift's side of it.
    pub isa: OwnedTargetIsa,
}

impl std::fmt::Debug for TargetSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.triple, self.level)
    }
}

impl TargetSpec {
    /// This machine, with all that it can do.
    pub fn host() -> Result<TargetSpec, NativeError> {
        TargetSpec::new(None, Some(NATIVE))
    }

    /// What schedules are chosen for.
    pub fn machine(&self) -> Machine {
        let x86 = self.arch == arch::X86_64;
        let registers = if x86 { 16 } else { 32 };
        // Cranelift has only those of x86's three forms that overwrite a factor.
        Machine {
            overwrites_factor: x86,
            wide: wide::Level::of(self).map(wide::Level::vectors),
            ..Machine::with_vectors(self.vector_bits, registers)
        }
    }

    /// A triple (`None`: this machine) and a level (`None`: the triple's default). An error names
    /// what there is.
    pub fn new(triple: Option<&str>, level: Option<&str>) -> Result<TargetSpec, NativeError> {
        let triple = match triple {
            None => Triple::host(),
            Some(text) => text.parse().map_err(|e| {
                NativeError::Target(format!(
                    "unknown target {text:?} ({e}); give a triple such as {}",
                    EXAMPLES.join(", ")
                ))
            })?,
        };
        match triple.architecture {
            Architecture::X86_64 => TargetSpec::x86(triple, level.unwrap_or(DEFAULT_X86_LEVEL)),
            Architecture::Aarch64(_) => {
                if triple.binary_format == BinaryFormat::Coff {
                    return Err(NativeError::Target(format!(
                        "no code can be made for {triple}: Windows on AArch64 is not supported; \
                         build for x86_64-pc-windows-msvc"
                    )));
                }
                TargetSpec::single(triple, level, "aarch64", arch::AARCH64, 128)
            }
            Architecture::Riscv64(_) => TargetSpec::single(triple, level, "riscv64", arch::RISCV64, 0),
            other => Err(NativeError::Target(format!(
                "no code can be made for the architecture {other} of {triple}; there are x86_64, aarch64 and \
                 riscv64 (for example {})",
                EXAMPLES.join(", ")
            ))),
        }
    }

    /// A triple and a list of levels, separated by commas and in any order; best first. An error says
    /// which of them do not go together.
    pub fn list(triple: Option<&str>, levels: Option<&str>) -> Result<Vec<TargetSpec>, NativeError> {
        let Some(text) = levels.filter(|l| l.contains(',')) else {
            return Ok(vec![TargetSpec::new(triple, levels)?]);
        };
        let mut all = Vec::new();
        for level in text.split(',').map(str::trim) {
            if level.is_empty() {
                return Err(NativeError::Target(format!(
                    "found an empty CPU level in {text:?}, expected levels separated by commas, such as v3,v4"
                )));
            }
            all.push(TargetSpec::new(triple, Some(level))?);
        }
        all.sort_by_key(|t| std::cmp::Reverse(t.features.count_ones()));
        for pair in all.windows(2) {
            let [better, worse] = pair else { continue };
            refuse_unordered(better, worse)
                .map_err(|why| NativeError::Target(format!("found the CPU levels {text}: {why}")))?;
        }
        Ok(all)
    }

    fn x86(triple: Triple, level: &str) -> Result<TargetSpec, NativeError> {
        let mut names = X86_LEVELS.iter().map(|l| l.name);
        let level = names.find(|name| short_level(name) == Some(level)).unwrap_or(level);
        let features = if level == NATIVE {
            native_features(&triple)?
        } else {
            let at = X86_LEVELS.iter().position(|l| l.name == level).ok_or_else(|| {
                let names: Vec<&str> = X86_LEVELS.iter().map(|l| l.name).collect();
                NativeError::Target(format!(
                    "unknown CPU level {level:?} for {triple}; there are {} (short: v1 to v4) and {NATIVE}",
                    names.join(", ")
                ))
            })?;
            X86_LEVELS[..=at].iter().fold(0, |mask, l| mask | l.adds)
        };
        let flags: Vec<&str> =
            X86_FLAGS.iter().filter(|(bit, _)| features & bit != 0).map(|(_, flag)| *flag).collect();
        Ok(TargetSpec {
            level: level.to_owned(),
            vector_bits: 128,
            fma: features & cpu::FMA != 0 && features & cpu::AVX != 0,
            rounding: features & cpu::SSE41 != 0,
            features,
            arch: arch::X86_64,
            isa: make_isa(&triple, &flags)?,
            triple,
        })
    }

    /// The same triple at the level that all its machines have.
    pub fn baseline(&self) -> Result<TargetSpec, NativeError> {
        match self.arch {
            arch::X86_64 => TargetSpec::x86(self.triple.clone(), X86_LEVELS[0].name),
            _ => Ok(self.clone()),
        }
    }

    /// An architecture with one level.
    fn single(
        triple: Triple,
        level: Option<&str>,
        name: &str,
        arch: u32,
        vector_bits: u32,
    ) -> Result<TargetSpec, NativeError> {
        match level {
            None => {}
            Some(l) if l == name => {}
            Some(NATIVE) if triple.architecture == Triple::host().architecture => {}
            Some(other) => {
                return Err(NativeError::Target(format!(
                    "unknown CPU level {other:?} for {triple}; there is {name}"
                )));
            }
        }
        // Cranelift is not asked for compressed instructions: rv64g runs on every rv64gc.
        let flags: &[&str] = if arch == arch::RISCV64 { &["has_m", "has_a", "has_f", "has_d"] } else { &[] };
        Ok(TargetSpec {
            level: name.to_owned(),
            vector_bits,
            fma: true,
            rounding: true,
            features: 0,
            arch,
            isa: make_isa(&triple, flags)?,
            triple,
        })
    }

    /// Whether this process can run the code.
    pub fn runs_here(&self) -> bool {
        self.triple.architecture == Triple::host().architecture && self.features & !host_features() == 0
    }
}

/// An error unless one level has all the features of another, and more.
fn refuse_unordered(better: &TargetSpec, worse: &TargetSpec) -> Result<(), String> {
    let (a, b) = (&better.level, &worse.level);
    if better.features == worse.features {
        return Err(format!("{a} and {b} are the same; name each level once"));
    }
    match worse.features & !better.features {
        0 => Ok(()),
        beyond => Err(format!(
            "{b} needs features that {a} does not need ({}), expected levels of which each holds the next",
            feature_names(beyond)
        )),
    }
}

/// Triples to name in messages.
const EXAMPLES: [&str; 6] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-pc-windows-msvc",
    "x86_64-apple-darwin",
    "aarch64-unknown-linux-gnu",
    "aarch64-apple-darwin",
    "riscv64gc-unknown-linux-gnu",
];

fn make_isa(triple: &Triple, flags: &[&str]) -> Result<OwnedTargetIsa, NativeError> {
    let fail =
        |e: &dyn std::fmt::Display| NativeError::Target(format!("no code generator for {triple}: {e}"));
    let mut shared = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    // All references stay within the blob and are relative to the instruction, so that the code is
    // position-independent; `is_pic` would send function addresses through a global offset table.
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("preserve_frame_pointers", "false"),
        ("enable_verifier", verifier),
        ("enable_nan_canonicalization", "false"),
        ("tls_model", "none"),
    ] {
        shared.set(name, value).map_err(|e| fail(&e))?;
    }
    let mut builder = isa::lookup(triple.clone()).map_err(|e| fail(&e))?;
    for flag in flags {
        builder.enable(flag).map_err(|e| fail(&e))?;
    }
    let isa: Arc<dyn isa::TargetIsa> = builder.finish(settings::Flags::new(shared)).map_err(|e| fail(&e))?;
    Ok(isa)
}

fn native_features(triple: &Triple) -> Result<u64, NativeError> {
    if triple.architecture != Triple::host().architecture {
        return Err(NativeError::Target(format!(
            "the CPU level {NATIVE} is this machine's ({}), but the target is {triple}; name a level",
            Triple::host()
        )));
    }
    Ok(host_features())
}
