//! Artifacts: what `burin build` leaves behind.
//!
//! A compiled model is one [`image`] (descriptor, tables, code) and one weight segment
//! ([`weights`]). The writers put the same two into different files: an executable ([`exe`]), an
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

use crate::program::Program;
use std::path::{Path, PathBuf};

/// A compiled model, ready to be written.
#[derive(Clone, Copy, Debug)]
pub struct Artifact<'a> {
    /// What was compiled.
    pub program: &'a Program,
    /// Its code.
    pub code: CodeRef<'a>,
    /// What it was compiled for.
    pub machine: Machine<'a>,
}

/// Position-independent machine code without imports.
#[derive(Clone, Copy, Debug)]
pub struct CodeRef<'a> {
    /// The bytes.
    pub text: &'a [u8],
    /// What the address of the first byte must be a multiple of.
    pub align: usize,
    /// Offset of the ABI's `PlanFn`.
    pub plan: usize,
    /// Offset of the ABI's `RunFn`.
    pub run: usize,
}

/// What code was made for.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// One of [`burin_runtime::abi::arch`].
    pub arch: u32,
    /// The features that the CPU must have, a mask of [`burin_runtime::abi::cpu`].
    pub features: u64,
    /// The level's name.
    pub level: &'a str,
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
