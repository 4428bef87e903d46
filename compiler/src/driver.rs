//! From a graph to code that can be run or written: the one way that every user of the compiler goes.
//!
//! [`compile`] runs the pipeline and makes native code; [`Compiled::artifact`] is what the writers of
//! [`artifact`](crate::artifact) take, and [`Compiled::load`] maps the same image into this process,
//! so that what runs at once and what is written are the same bytes (but for the weights' id, which
//! tells files apart).

use crate::artifact::{Artifact, ArtifactError, CodeRef, Machine, image, weights};
use crate::graph::Fuel;
use crate::lower::steps::Report;
use crate::pipeline;
use crate::program::Program;
use crate::target::native::levels::TargetSpec;
use crate::target::native::link::Code;
use crate::target::native::{self, NativeError};
use burin_ir::graph::Graph;
use burin_runtime::{Model, load};
use memmap2::{Mmap, MmapMut};
use std::sync::Arc;

/// Why a graph could not be compiled, by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The model or what was asked for.
    #[error("{0}")]
    Input(String),
    /// The compiler itself.
    #[error("{0}")]
    Internal(String),
}

impl From<NativeError> for CompileError {
    fn from(e: NativeError) -> CompileError {
        match e {
            NativeError::Target(_) | NativeError::Call(_) => CompileError::Input(e.to_string()),
            NativeError::Unsupported { .. } | NativeError::Internal { .. } | NativeError::Map(_) => {
                CompileError::Internal(e.to_string())
            }
        }
    }
}

impl From<ArtifactError> for CompileError {
    fn from(e: ArtifactError) -> CompileError {
        match e {
            ArtifactError::Io { .. } | ArtifactError::Refused(_) => CompileError::Input(e.to_string()),
            ArtifactError::Internal(_) => CompileError::Internal(e.to_string()),
        }
    }
}

/// A compiled graph.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph as it was lowered.
    pub graph: Graph,
    /// Its program.
    pub program: Program,
    /// What lowering found out.
    pub report: Report,
    /// The machine code.
    pub code: Code,
    /// What it was made for.
    pub target: TargetSpec,
}

/// Compiles a graph; `after` sees it after each pass.
pub fn compile(
    graph: Graph,
    target: &TargetSpec,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<Compiled, CompileError> {
    compile_with(graph, target, Fuel::unlimited(), after)
}

/// [`compile`] with the rewrites that the fuel is enough for.
pub fn compile_with(
    mut graph: Graph,
    target: &TargetSpec,
    fuel: Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<Compiled, CompileError> {
    let (program, report) =
        pipeline::compile(&mut graph, &target.machine(), fuel, after).map_err(CompileError::Input)?;
    let code = native::compile(&program, target)?;
    Ok(Compiled { graph, program, report, code, target: target.clone() })
}

impl Compiled {
    /// What the writers take.
    pub fn artifact(&self) -> Artifact<'_> {
        artifact(&self.program, &self.code, &self.target)
    }

    /// The model in this process, its weights in memory; an error where this machine cannot run it.
    pub fn load(&self) -> Result<Model, CompileError> {
        load_code(&self.program, &self.code, &self.target)
    }
}

/// A program that is ready, compiled into this process; an error where this machine cannot run it.
pub fn load(program: &Program, target: &TargetSpec) -> Result<Model, CompileError> {
    load_code(program, &native::compile(program, target)?, target)
}

fn artifact<'a>(program: &'a Program, code: &'a Code, target: &'a TargetSpec) -> Artifact<'a> {
    Artifact {
        program,
        code: CodeRef { text: &code.text, align: code.align, plan: code.plan, run: code.run },
        machine: Machine { arch: target.arch, features: target.features, level: &target.level },
    }
}

fn load_code(program: &Program, code: &Code, target: &TargetSpec) -> Result<Model, CompileError> {
    let image = image::build(&artifact(program, code, target))?;
    let weights = weights_of(program)?;
    let fail = |e: burin_runtime::Error| CompileError::Input(e.to_string());
    let code = load::executable(&image.bytes).map_err(fail)?;
    // SAFETY: the image is the compiler's own, mapped executable, and neither segment is changed.
    unsafe { Model::new(code, Arc::new(weights)) }.map_err(fail)
}

/// The weight segment, which nobody can write to any more.
fn weights_of(program: &Program) -> Result<Mmap, CompileError> {
    let bytes = weights::segment_bytes(program)?;
    let fail = |e: std::io::Error| {
        CompileError::Input(format!("there is no memory for {bytes} bytes of weights: {e}"))
    };
    let size = usize::try_from(bytes).map_err(|e| fail(std::io::Error::other(e)))?;
    let mut memory = MmapMut::map_anon(size).map_err(fail)?;
    weights::fill_segment(program, &mut memory)?;
    memory.make_read_only().map_err(fail)
}
