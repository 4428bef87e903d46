//! The ways to run a model: by the graph evaluator, as code in this process, and as an artifact that
//! is written, loaded and run.

use crate::failure::Failure;
use crate::inputs::{from_runtime, to_runtime};
use burin_compiler::artifact::bundle;
use burin_compiler::driver::{self, Compiled};
use burin_compiler::graph::Fuel;
use burin_compiler::pipeline;
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::graph::Graph;
use burin_ir::graph::eval::eval;
use burin_ir::{Symbol, Tensor};
use burin_runtime::session::Trace;
use burin_runtime::{Model, Pool, Session, TensorRef, load};
use clap::ValueEnum;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

/// How a model is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Backend {
    /// Code compiled in memory.
    Jit,
    /// The naive evaluator of graphs, against which everything else is held.
    Interp,
    /// Code and weights written to a file, loaded through the runtime.
    Artifact,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Jit => "jit",
            Backend::Interp => "interp",
            Backend::Artifact => "artifact",
        })
    }
}

/// A model that can be run.
pub(crate) enum Runner {
    /// By the evaluator.
    Interp(Box<Graph>),
    /// As native code.
    Native(Box<Native>),
}

/// A model as native code.
pub(crate) struct Native {
    session: Session,
    /// What was compiled.
    pub(crate) compiled: Compiled,
    /// Holds the artifact's file for as long as it is mapped.
    _folder: Option<TempDir>,
}

impl Runner {
    /// Makes a graph ready to run; 0 threads means one for each CPU.
    pub(crate) fn new(graph: Graph, backend: Backend, threads: usize) -> Result<Runner, Failure> {
        if backend == Backend::Interp {
            return Ok(Runner::Interp(Box::new(graph)));
        }
        let compiled = driver::compile_with(graph, &TargetSpec::host()?, fuel()?, &mut |_, _| ())?;
        let (model, folder) = match backend {
            Backend::Artifact => {
                let (model, folder) = written(&compiled)?;
                (model, Some(folder))
            }
            _ => (compiled.load()?, None),
        };
        let mut session = Session::new(&model)?;
        if threads != 1 {
            let pool = Pool::new(threads).map_err(|e| format!("cannot start {threads} threads: {e}"))?;
            session = session.with_executor(Arc::new(pool));
        }
        Ok(Runner::Native(Box::new(Native { session, compiled, _folder: folder })))
    }

    /// Runs on inputs that fit, with these dimensions.
    pub(crate) fn run(
        &mut self,
        inputs: &[Tensor],
        dims: &HashMap<Symbol, i64>,
        trace: Option<Trace<'_>>,
    ) -> Result<Vec<Tensor>, Failure> {
        match self {
            Runner::Interp(graph) => Ok(eval(graph, inputs, &[]).map_err(|e| e.to_string())?.outputs),
            Runner::Native(native) => native.run(inputs, dims, trace),
        }
    }

    /// The native code, if that is what runs.
    pub(crate) fn native(&self) -> Option<&Native> {
        match self {
            Runner::Native(n) => Some(n),
            Runner::Interp(_) => None,
        }
    }
}

impl Native {
    fn run(
        &mut self,
        inputs: &[Tensor],
        dims: &HashMap<Symbol, i64>,
        trace: Option<Trace<'_>>,
    ) -> Result<Vec<Tensor>, Failure> {
        let inputs = inputs.iter().map(to_runtime).collect::<Result<Vec<_>, _>>()?;
        let views: Vec<TensorRef<'_>> = inputs.iter().map(|t| t.view()).collect();
        let names: Vec<(String, i64)> = self.known_dims(dims);
        let names: Vec<(&str, i64)> = names.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.session.reset()?;
        let outputs = self.session.call(0, &views, &names, trace)?;
        outputs.iter().map(|t| Ok(from_runtime(t)?)).collect()
    }

    /// Runs many times on the same tensors; answers the seconds of each run, states going on from
    /// one to the next and outputs in the same memory. `go_on` is asked before each run.
    pub(crate) fn time(
        &mut self,
        inputs: &[Tensor],
        dims: &HashMap<Symbol, i64>,
        mut trace: Option<Trace<'_>>,
        go_on: &mut dyn FnMut(&[f64]) -> bool,
    ) -> Result<Vec<f64>, Failure> {
        let inputs = inputs.iter().map(to_runtime).collect::<Result<Vec<_>, _>>()?;
        let views: Vec<TensorRef<'_>> = inputs.iter().map(|t| t.view()).collect();
        let names: Vec<(String, i64)> = self.known_dims(dims);
        let names: Vec<(&str, i64)> = names.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let (mut seconds, mut outputs) = (Vec::new(), Vec::new());
        while go_on(&seconds) {
            let start = std::time::Instant::now();
            let trace: Option<Trace<'_>> = match &mut trace {
                Some(trace) => Some(trace),
                None => None,
            };
            self.session.call_into(0, &views, &names, trace, &mut outputs)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }

    /// Those dimensions that the entry asks for.
    fn known_dims(&self, dims: &HashMap<Symbol, i64>) -> Vec<(String, i64)> {
        let wanted = self.session.model().entries().first().map_or(&[][..], |e| &e.dims);
        let named = dims.iter().map(|(s, v)| (s.to_string(), *v));
        named.filter(|(n, _)| wanted.contains(n)).collect()
    }
}

/// The rewrites that each compilation may make: as many as the variable `BURIN_FUEL` says, so that
/// one that breaks a model can be found by bisection; all where it is not set.
pub(crate) fn fuel() -> Result<Fuel, Failure> {
    let without = LEFT_OUT.get().map_or(&[][..], Vec::as_slice);
    let Some(amount) = std::env::var_os("BURIN_FUEL") else { return Ok(Fuel::unlimited().without(without)) };
    let rewrites = amount.to_str().and_then(|n| n.parse().ok());
    let wrong = || format!("BURIN_FUEL: found {amount:?}, expected a number of rewrites").into();
    rewrites.map(|n| Fuel::limited(n).without(without)).ok_or_else(wrong)
}

/// The passes that the command line leaves out of every compilation.
static LEFT_OUT: OnceLock<Vec<String>> = OnceLock::new();

/// Leaves passes out of every compilation from now on.
pub(crate) fn leave_out(passes: Vec<String>) -> Result<(), Failure> {
    pipeline::check_without(&passes).map_err(|e| format!("--without: {e}"))?;
    LEFT_OUT.get_or_init(|| passes);
    Ok(())
}

/// Writes a bundle to a temporary folder, and loads it.
fn written(compiled: &Compiled) -> Result<(Model, TempDir), Failure> {
    let folder = tempfile::tempdir().map_err(|e| format!("cannot make a temporary folder: {e}"))?;
    let path = folder.path().join("model.burin");
    bundle::write(&compiled.artifact(), &path)?;
    // SAFETY: the file has just been written by the compiler, in a folder that only this process
    // uses, and the folder lives as long as the model.
    let model = unsafe { load::load(&path) }?;
    Ok((model, folder))
}
