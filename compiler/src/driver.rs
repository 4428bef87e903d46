//! From a graph to code that can be run or written: the one way that every user of the compiler goes.
//!
//! [`compile`] runs the pipeline and makes native code, [`compile_levels`] for several CPU levels at
//! once: the graph is optimised once, what comes after is done for each level. [`Compiled::artifact`] is what the writers of
//! [`artifact`](crate::artifact) take, and [`Compiled::load`] maps the same image into this process,
//! so that what runs at once and what is written are the same bytes (but for the weights' id, which
//! tells files apart).

use crate::artifact::{Artifact, ArtifactError, CodeRef, Variant, image, weights};
use crate::graph::Fuel;
use crate::lower::steps::Report;
use crate::pipeline::{self, Lowered};
use crate::program::Program;
use crate::target::native::levels::TargetSpec;
use crate::target::native::{self, Code, NativeError};
use burin_ir::graph::Graph;
use burin_runtime::{Model, load};
use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;
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
    /// The graph as it was lowered for the best level.
    pub graph: Graph,
    /// Its program for that level.
    pub program: Program,
    /// What lowering found out.
    pub report: Report,
    /// What the program was made for.
    pub target: TargetSpec,
    /// What the graph is for the other levels, best first.
    pub others: Vec<Level>,
    /// The machine code for all levels.
    pub code: Code,
}

/// A graph lowered for a CPU level.
#[derive(Clone, Debug)]
pub struct Level {
    /// The program, and what it was made from.
    pub lowered: Lowered,
    /// What the program was made for.
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
    graph: Graph,
    target: &TargetSpec,
    fuel: Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<Compiled, CompileError> {
    compile_levels(graph, std::slice::from_ref(target), fuel, after)
}

/// [`compile_with`] for several levels, as [`TargetSpec::list`] orders them.
pub fn compile_levels(
    mut graph: Graph,
    targets: &[TargetSpec],
    fuel: Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<Compiled, CompileError> {
    let left = pipeline::optimise(&mut graph, fuel, after).map_err(CompileError::Input)?;
    let lower = |target: &TargetSpec| -> Result<Level, String> {
        let lowered = pipeline::lower(&graph, &target.machine(), left.clone())?;
        Ok(Level { lowered, target: target.clone() })
    };
    let levels: Result<Vec<Level>, String> = targets.par_iter().map(lower).collect();
    let levels = levels.map_err(CompileError::Input)?;
    let programs: Vec<(&Program, &TargetSpec)> =
        levels.iter().map(|l| (&l.lowered.program, &l.target)).collect();
    let code = native::compile_levels(&programs)?;
    let mut levels = levels.into_iter();
    let Some(Level { lowered: Lowered { graph, program, report }, target }) = levels.next() else {
        return Err(CompileError::Internal("code for no CPU level".to_owned()));
    };
    Ok(Compiled { graph, program, report, target, others: levels.collect(), code })
}

impl Compiled {
    /// What the writers take.
    pub fn artifact(&self) -> Artifact<'_> {
        let others = self.others.iter().map(|l| (&l.lowered.program, &l.target));
        artifact([(&self.program, &self.target)].into_iter().chain(others), &self.code)
    }

    /// The levels' names, best first.
    pub fn levels(&self) -> Vec<&str> {
        [&self.target].into_iter().chain(self.others.iter().map(|l| &l.target)).map(|t| &*t.level).collect()
    }

    /// The model in this process, its weights in memory; an error where this machine cannot run it.
    pub fn load(&self) -> Result<Model, CompileError> {
        load_code(self.artifact(), &self.program)
    }
}

/// A program that is ready, compiled into this process; an error where this machine cannot run it.
pub fn load(program: &Program, target: &TargetSpec) -> Result<Model, CompileError> {
    let code = native::compile(program, target)?;
    load_code(artifact([(program, target)].into_iter(), &code), program)
}

/// What the writers take of programs for some levels, in the order of the code's.
fn artifact<'a>(
    levels: impl Iterator<Item = (&'a Program, &'a TargetSpec)> + Clone,
    code: &'a Code,
) -> Artifact<'a> {
    let arch = levels.clone().next().map_or(0, |(_, target)| target.arch);
    let variants = levels.zip(&code.levels).map(|((program, target), made)| Variant {
        program,
        features: target.features,
        level: &target.level,
        plan: made.plan,
        run: made.run,
    });
    Artifact {
        arch,
        variants: variants.collect(),
        code: CodeRef { text: &code.text, align: code.align, plan: code.plan, run: code.run },
    }
}

fn load_code(artifact: Artifact<'_>, program: &Program) -> Result<Model, CompileError> {
    let image = image::build(&artifact)?;
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
