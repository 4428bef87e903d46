//! Artifacts: what `burin build` leaves behind.
//!
//! A compiled model is one [`image`] (descriptor, tables, code for one or several CPU levels) and one
//! weight segment ([`weights`]), which all levels read. The writers put the same two into different files: an executable ([`exe`]), an
//! object file or an archive of one ([`object`]), a shared library ([`sharedlib`]), a bundle for the
//! runtime to load ([`bundle`]). Beside each but the executable goes a C header ([`header`]).
//!
//! Invariants: weights are streamed from where they are to the file and never held as a whole;
//! a file appears under its name only when it is complete ([`output`]); nothing in an artifact
//! depends on the time, the machine or the number of threads that made it.

pub mod bundle;
pub mod elf;
pub mod exe;
pub mod header;
pub mod image;
pub mod object;
pub mod output;
pub mod sharedlib;
pub mod weights;

use crate::program::{Port, Program, Weight};
use std::path::{Path, PathBuf};

/// A compiled model, ready to be written.
#[derive(Clone, Debug)]
pub struct Artifact<'a> {
    /// One of [`burin_runtime::abi::arch`].
    pub arch: u32,
    /// What its program is for each CPU level, best first; never empty.
    pub variants: Vec<Variant<'a>>,
    /// The code of all of them.
    pub code: CodeRef<'a>,
}

/// What a model is compiled to for a CPU level.
#[derive(Clone, Copy, Debug)]
pub struct Variant<'a> {
    /// What was compiled.
    pub program: &'a Program,
    /// The features that the CPU must have, a mask of [`burin_runtime::abi::cpu`].
    pub features: u64,
    /// The level's name.
    pub level: &'a str,
    /// Offset of its `PlanFn` in the code.
    pub plan: usize,
    /// Offset of its `RunFn` in the code.
    pub run: usize,
}

/// Position-independent machine code without imports.
#[derive(Clone, Copy, Debug)]
pub struct CodeRef<'a> {
    /// The bytes.
    pub text: &'a [u8],
    /// What the address of the first byte must be a multiple of.
    pub align: usize,
    /// Offset of the `PlanFn` that chooses a variant.
    pub plan: usize,
    /// Offset of the `RunFn` that chooses a variant.
    pub run: usize,
}

impl<'a> Artifact<'a> {
    /// The best level's program. All have the same inputs, outputs, states, dimensions and weights;
    /// steps, kernels and arena are its own.
    pub fn program(&self) -> Result<&'a Program, ArtifactError> {
        let nothing = || ArtifactError::Internal("an artifact without code".to_owned());
        Ok(self.variants.first().ok_or_else(nothing)?.program)
    }

    /// The names of the CPU levels.
    pub fn levels(&self) -> String {
        self.variants.iter().map(|v| v.level).collect::<Vec<_>>().join(" and ")
    }

    /// Bytes of the arena for one worker that are enough for every level, where that is a constant,
    /// else 0.
    pub fn constant_arena_bytes(&self) -> u64 {
        self.variants.iter().map(|v| image::constant_arena_bytes(v.program)).max().unwrap_or(0)
    }

    /// An error where the levels' programs differ in what they must have in common.
    fn check(&self) -> Result<(), ArtifactError> {
        let Some((first, rest)) = self.variants.split_first() else { return Ok(()) };
        for other in rest {
            if let Some(what) = difference(first.program, other.program) {
                let (a, b) = (first.level, other.level);
                return Err(ArtifactError::Internal(format!(
                    "the programs for {a} and {b} differ in {what}"
                )));
            }
        }
        Ok(())
    }
}

/// What two programs differ in that the levels of one model have in common.
fn difference(a: &Program, b: &Program) -> Option<String> {
    let port = |x: &Port, y: &Port| x.name == y.name && x.ty == y.ty;
    let ports = |x: &[Port], y: &[Port]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| port(x, y));
    let states = a.states.len() == b.states.len()
        && a.states.iter().zip(&b.states).all(|((x, init), (y, other))| port(x, y) && init == other);
    let weight = |x: &Weight, y: &Weight| {
        let same = (&x.name, x.offset, &x.packing) == (&y.name, y.offset, &y.packing);
        same && x.constant.ty() == y.constant.ty()
    };
    let weights = a.weights.len() == b.weights.len() && a.weight_bytes == b.weight_bytes;
    if let Some((x, y)) = a.weights.iter().zip(&b.weights).find(|(x, y)| !weight(x, y)) {
        return Some(format!("the weight \"{}\": the other one is \"{}\" at {}", x.name, y.name, y.offset));
    }
    let parts = [
        (weights, "the number or size of their weights"),
        (a.name == b.name && a.dims == b.dims, "their names or dimensions"),
        (ports(&a.inputs, &b.inputs), "their inputs"),
        (ports(&a.outputs, &b.outputs), "their outputs"),
        (states, "their states"),
    ];
    parts.iter().find(|(same, _)| !same).map(|(_, what)| (*what).to_owned())
}

/// Why an artifact could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// This kind of artifact cannot be made for this model or target.
    #[error("{0}")]
    Refused(String),
    /// A mistake of the compiler itself.
    #[error("internal error: {0}")]
    Internal(String),
}

impl ArtifactError {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> ArtifactError + '_ {
        move |source| ArtifactError::Io { path: path.to_owned(), source }
    }
}
