//! The whole compiler on one page: every pass in its order.

use crate::graph::{self, Fuel, Pass};
use crate::loops::{interleave, legalise, math};
use crate::lower::schedule::Machine;
use crate::lower::steps::{self, Report};
use crate::program::Program;
use burin_ir::graph::Graph;
use burin_ir::loops::Kernel;

/// The passes from an imported graph to one that can be lowered. Folding and simplifying come
/// before expansion, while a node is still the op that the model names, and once more behind it.
/// What is quantised is looked for before all, while weights are still seen to be dequantised.
pub const GRAPH_PASSES: &[Pass] = &[
    Pass { name: "dequantise", run: graph::dequantise::run },
    Pass { name: "fold", run: graph::fold::run },
    Pass { name: "simplify", run: graph::simplify::run },
    Pass { name: "batchnorm", run: graph::batchnorm::run },
    Pass { name: "expand", run: graph::expand::run },
    Pass { name: "fold-expanded", run: graph::fold::run },
    Pass { name: "simplify-expanded", run: graph::simplify::run },
    Pass { name: "winograd", run: graph::winograd::run },
    Pass { name: "pad", run: graph::pad::run },
    Pass { name: "quads", run: graph::quads::run },
    Pass { name: "cse", run: graph::cse::run },
    Pass { name: "dce", run: graph::dce::run },
];

/// A pass over a graph for machines of some kind.
#[derive(Clone, Copy)]
pub struct MachinePass {
    /// The pass.
    pub pass: Pass,
    /// Whether it is one for a machine.
    pub is_for: fn(&Machine) -> bool,
}

/// The passes that fit a graph to a machine, each time that it is lowered for one. They leave its constants as
/// they are: code for several machines shares them.
pub const MACHINE_PASSES: &[MachinePass] = &[MachinePass {
    pass: Pass { name: "pairs", run: graph::pairs::run },
    is_for: |machine| machine.wide.is_some_and(|w| !w.dots),
}];

/// All passes over graphs, in their order.
pub fn graph_passes() -> impl Iterator<Item = Pass> {
    GRAPH_PASSES.iter().copied().chain(MACHINE_PASSES.iter().map(|p| p.pass))
}

/// A pass over a kernel.
#[derive(Clone, Copy)]
pub struct KernelPass {
    /// The name.
    pub name: &'static str,
    /// The pass.
    pub run: fn(&mut Kernel),
}

/// The passes from a scheduled kernel to one that every target has instructions for: 16-bit floats
/// become storage first, since functions are only expanded for wider ones.
pub const KERNEL_PASSES: &[KernelPass] = &[
    KernelPass { name: "legalise", run: legalise::run },
    KernelPass { name: "math", run: math::run },
    KernelPass { name: "interleave", run: interleave::run },
];

/// The pass without which nothing can be lowered.
const NEEDED: &str = "expand";

/// An error where one of these is no pass that can be left out.
pub fn check_without(passes: &[String]) -> Result<(), String> {
    let names: Vec<&str> = graph_passes().map(|p| p.name).filter(|n| *n != NEEDED).collect();
    match passes.iter().find(|p| !names.contains(&p.as_str())) {
        Some(wrong) => {
            Err(format!("found \"{wrong}\", expected a pass that can be left out: {}", names.join(", ")))
        }
        None => Ok(()),
    }
}

/// Runs the passes for all machines over a graph, as far as the fuel goes; `after` sees it after each one.
/// Gives what is left of the fuel.
pub fn optimise(
    graph: &mut Graph,
    mut fuel: Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<Fuel, String> {
    GRAPH_PASSES.iter().try_for_each(|pass| run(pass, graph, &mut fuel, after))?;
    Ok(fuel)
}

/// Runs the passes that are for a machine over a graph that is [`optimise`]d.
pub fn fit(
    graph: &mut Graph,
    machine: &Machine,
    mut fuel: Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<(), String> {
    let mut passes = MACHINE_PASSES.iter().filter(|p| (p.is_for)(machine));
    passes.try_for_each(|p| run(&p.pass, graph, &mut fuel, after))
}

fn run(
    pass: &Pass,
    graph: &mut Graph,
    fuel: &mut Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<(), String> {
    if pass.name != NEEDED && fuel.leaves_out(pass.name) {
        return Ok(());
    }
    fuel.pass = pass.name;
    let report = (pass.run)(graph, fuel)?;
    tracing::debug!(pass = pass.name, rewritten = report.rewritten, "ran");
    after(pass.name, graph);
    Ok(())
}

/// A graph lowered for a machine.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph as it was lowered.
    pub graph: Graph,
    /// The program.
    pub program: Program,
    /// What lowering found out; its nodes are those of `graph`.
    pub report: Report,
}

/// Compiles a graph to a program for a machine. The graph is left optimised.
pub fn compile(
    graph: &mut Graph,
    machine: &Machine,
    fuel: Fuel,
    after: &mut dyn FnMut(&str, &Graph),
) -> Result<Lowered, String> {
    let left = optimise(graph, fuel, after)?;
    lower(graph, machine, left)
}

/// Lowers a graph that is [`optimise`]d, with the fuel that this has left.
pub fn lower(graph: &Graph, machine: &Machine, fuel: Fuel) -> Result<Lowered, String> {
    let mut graph = graph.clone();
    fit(&mut graph, machine, fuel, &mut |_, _| ())?;
    let (mut program, report) = steps::lower(&graph, machine)?;
    for kernel in &mut program.kernels {
        for pass in KERNEL_PASSES {
            (pass.run)(kernel);
        }
    }
    Ok(Lowered { graph, program, report })
}
