//! `burin diff`: compiled code against the evaluator, a piece of the model at a time.
//!
//! First every node alone ([`nodes`]), then the nodes that share a kernel ([`groups`]): what is wrong
//! only there is a mistake of fusing. Each piece runs on the operands that the evaluator has for it,
//! so that its own error shows and no other. Pieces that are alike are compiled once.

mod bounds;
mod cut;
mod groups;
mod nodes;
mod search;
mod show;

use crate::backend::{Backend, Runner};
use crate::failure::Failure;
use crate::inputs::{Inputs, SEED};
use crate::model;
use crate::terminal::{self, Progress};
use burin_ir::Tensor;
use burin_ir::compare::{Bound, compare};
use burin_ir::graph::eval::{Event, eval_with};
use burin_ir::graph::{Graph, Node};
use search::{Difference, Search};
use std::collections::HashMap;
use std::path::PathBuf;

/// Find the first node, or nodes in one kernel, whose compiled code differs from the evaluator
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX file, or a graph in text form
    model: PathBuf,
    /// A tensor for an input; random ones otherwise
    #[arg(short, long = "input", value_name = "NAME=FILE", value_parser = model::parse_input)]
    inputs: Vec<(String, PathBuf)>,
    /// Seed of random inputs
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Size of a dimension of random inputs (1 where none is given)
    #[arg(long = "dim", value_name = "NAME=N", value_parser = model::parse_dim)]
    dims: Vec<(String, i64)>,
    #[command(flatten)]
    stated: model::Stated,
    /// Where to write the graph that shows a difference [default: MODEL-diff.burin]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let graph = model::load(&args.model, &[], &args.stated)?;
    let inputs = Inputs::new(&graph, &args.inputs, &args.dims, args.seed)?;
    if inputs.random {
        eprintln!("{}", inputs.note(&graph, args.seed));
    }
    let of_model = |e: Failure| e.of(args.model.display());
    let mut search = Search::default();
    let look = &mut |e: &Event<'_>| search.look(|| graph.describe(e.node), |run| nodes::look(&graph, e, run));
    let expected = evaluate(&graph, &inputs, look).map_err(of_model)?;
    tell(search.finish("nodes")?, args)?;
    let mut whole = match Runner::new(graph.clone(), Backend::Jit, 1) {
        Ok(runner) => runner,
        Err(Failure::Input(reason)) => {
            return terminal::print(&format!("the whole model cannot be compiled: {reason}\n"));
        }
        Err(e) => return Err(e),
    };
    if let Some(native) = whole.native() {
        let lowered = &native.compiled.graph;
        let groups = groups::groups(lowered, &native.compiled.report);
        let mut gatherer = groups::Gatherer::new(lowered, &groups);
        let mut search = Search::default();
        evaluate(lowered, &inputs, &mut |e| gatherer.look(e, &mut search)).map_err(of_model)?;
        tell(search.finish("groups")?, args)?;
    }
    let found = whole.run(&inputs.tensors, &inputs.dims, None)?;
    terminal::print(&distances(&graph, &found, &expected)?)
}

/// Evaluates a graph, and shows the nodes of its body as they come.
fn evaluate(
    graph: &Graph,
    inputs: &Inputs,
    look: &mut dyn FnMut(&Event<'_>),
) -> Result<Vec<Tensor>, Failure> {
    let progress = Progress::start("comparing");
    let body: HashMap<Node, usize> =
        graph.regions[graph.body].nodes.iter().enumerate().map(|(i, n)| (*n, i + 1)).collect();
    let outputs = eval_with(graph, &inputs.tensors, &[], &mut |event| {
        if let Some(i) = body.get(&event.node) {
            progress.stage(format!("{i}/{} {}", body.len(), graph.describe(event.node)));
            look(event);
        }
    });
    Ok(outputs.map_err(|e| e.to_string())?.outputs)
}

/// Tells what a search has found; a difference ends the command.
fn tell((text, found): (String, Option<Difference>), args: &Args) -> Result<(), Failure> {
    terminal::print(&text)?;
    let Some(difference) = found else { return Ok(()) };
    terminal::print(&show::show(&difference, args)?)?;
    Err(Failure::Wrong)
}

/// How far the outputs of the whole model are apart. No bound holds for them: roundings add up.
fn distances(graph: &Graph, found: &[Tensor], expected: &[Tensor]) -> Result<String, Failure> {
    let mut lines = String::new();
    for ((name, f), e) in graph.output_names.iter().zip(found).zip(expected) {
        let r = compare(f, e, &Bound::Exact)?;
        lines.push_str(&format!(
            "the whole model's {name}: at most {} ULPs apart, {:e} absolute, {:e} relative\n",
            r.worst_ulps, r.worst_abs, r.worst_rel
        ));
    }
    Ok(lines)
}
