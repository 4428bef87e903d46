//! Graphs as native code in this process, run on the oracles' tensors.

use burin_compiler::driver::{self, Compiled};
use burin_compiler::target::native::levels::{NATIVE, TargetSpec};
use burin_compiler::tensors::{from_runtime, to_runtime};
use burin_ir::Tensor;
use burin_ir::graph::Graph;
use burin_runtime::{Session, TensorRef};

/// Every CPU level that this machine can run, the least first.
///
/// # Panics
/// If a level is not known.
pub fn levels() -> Vec<TargetSpec> {
    let x86 = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", NATIVE];
    let names = if cfg!(target_arch = "x86_64") { &x86[..] } else { &x86[4..] };
    let level = |name: &&str| match TargetSpec::new(None, Some(name)) {
        Ok(target) => target,
        Err(e) => panic!("{e}"),
    };
    names.iter().map(level).filter(TargetSpec::runs_here).collect()
}

/// Compiles a copy of a graph.
pub fn compile(graph: &Graph, target: &TargetSpec) -> Result<Compiled, String> {
    driver::compile(graph.clone(), target, &mut |_, _| ()).map_err(|e| e.to_string())
}

/// Runs a model on tensors.
pub fn run(session: &mut Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let owned = inputs.iter().map(|t| to_runtime(t).map_err(|e| e.to_string()));
    let owned = owned.collect::<Result<Vec<_>, String>>()?;
    let views: Vec<TensorRef<'_>> = owned.iter().map(burin_runtime::Tensor::view).collect();
    let outputs = session.run(&views).map_err(|e| e.to_string())?;
    outputs.iter().map(from_runtime).collect()
}
