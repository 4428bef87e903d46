//! `burin diff`: compiled code against the evaluator, node by node.
//!
//! Every node is compiled alone and run on the operands that the evaluator has for it, so that one
//! rounding does not show up again in all nodes below. Its results must be within the bounds that
//! its op's row states. Nodes that are alike are compiled once.

use crate::backend::{Backend, Runner};
use crate::failure::Failure;
use crate::inputs::{Inputs, SEED, file_name, write};
use crate::model;
use crate::terminal::{self, Progress};
use burin_ir::compare::{Bound, Report, compare, row_bounds};
use burin_ir::graph::eval::{Event, Operation, eval_with};
use burin_ir::graph::{self, Builder, Constant, Graph, Node};
use burin_ir::{Tensor, TensorType};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

/// Find the first node whose compiled code differs from the evaluator
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
    /// Where to write the graph that shows a difference [default: MODEL-diff.burin]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Larger operands are data, not parameters.
const MAX_PARAMETER: usize = 1024;

/// A graph of one node, and the operands that are its inputs.
struct Single {
    graph: Graph,
    inputs: Vec<Tensor>,
}

/// A node whose code differs.
struct Difference {
    node: String,
    result: usize,
    report: Report,
    single: Single,
}

/// The search so far.
struct Search<'a> {
    graph: &'a Graph,
    /// Compiled nodes by their graphs' text; why there is none where the compiler refused.
    compiled: HashMap<String, Result<Runner, String>>,
    agreed: usize,
    /// Nodes that could not be compared, with the reason.
    left: Vec<(String, String)>,
    found: Option<Difference>,
    /// A mistake of our own ends the search.
    bug: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let graph = model::load(&args.model, &[])?;
    let inputs = Inputs::new(&graph, &args.inputs, &args.dims, args.seed)?;
    if inputs.random {
        eprintln!("{}", inputs.note(&graph, args.seed));
    }
    let of_model = |e: String| Failure::Input(format!("{}: {e}", args.model.display()));
    let progress = Progress::start("comparing");
    let mut search = Search {
        graph: &graph,
        compiled: HashMap::new(),
        agreed: 0,
        left: Vec::new(),
        found: None,
        bug: None,
    };
    let body: HashMap<Node, usize> =
        graph.regions[graph.body].nodes.iter().enumerate().map(|(i, n)| (*n, i + 1)).collect();
    let outputs = eval_with(&graph, &inputs.tensors, &[], &mut |event| {
        if let Some(i) = body.get(&event.node) {
            progress.stage(format!("{i}/{} {}", body.len(), graph.describe(event.node)));
            search.look(event);
        }
    })
    .map_err(|e| of_model(e.to_string()))?
    .outputs;
    drop(progress);
    if let Some(message) = search.bug {
        return Err(Failure::Bug(message));
    }
    terminal::print(&left_text(&search.left))?;
    match search.found {
        Some(d) => {
            let text = show(&d, args)?;
            terminal::print(&text)?;
            Err(Failure::Wrong)
        }
        None => {
            let (nodes, kinds) = (search.agreed, search.compiled.len());
            let whole = whole_model(&graph, &inputs, &outputs)?;
            terminal::print(&format!("{nodes} nodes agree ({kinds} distinct)\n{whole}"))
        }
    }
}

impl Search<'_> {
    /// Compares a node that has just been evaluated, unless a difference is found already.
    fn look(&mut self, event: &Event<'_>) {
        if self.found.is_some() || self.bug.is_some() {
            return;
        }
        let node = self.graph.describe(event.node);
        match self.compare(event) {
            Ok(Some((result, report, single))) => {
                self.found = Some(Difference { node, result, report, single });
            }
            Ok(None) => self.agreed += 1,
            Err(Failure::Bug(message)) => self.bug = Some(format!("{node}: {message}")),
            Err(e) => self.left.push((node, e.message().to_owned())),
        }
    }

    fn compare(&mut self, event: &Event<'_>) -> Result<Option<(usize, Report, Single)>, Failure> {
        let data = &self.graph.nodes[event.node];
        if !data.regions.is_empty() {
            return Err("it has regions".to_owned().into());
        }
        let (single, found) = match self.attempt(event, false) {
            // What the compiler must know may come from data here.
            Err(Failure::Input(reason)) => self.attempt(event, true).map_err(|e| keep_first(reason, e))?,
            other => other?,
        };
        let operation = Operation {
            op: data.op,
            attrs: &data.attrs,
            outputs: data.outputs.len(),
            region_results: &[],
            region: &|_, _| Err("the node has no regions".to_owned()),
        };
        let bounds = row_bounds(&operation, event.inputs, event.outputs)?;
        for (i, ((f, e), bound)) in found.iter().zip(event.outputs).zip(&bounds).enumerate() {
            let report = compare(f, e, bound)?;
            if !report.ok() {
                return Ok(Some((i, report, single)));
            }
        }
        Ok(None)
    }

    /// Compiles the node alone and runs it; `fixed` makes more operands known.
    fn attempt(&mut self, event: &Event<'_>, fixed: bool) -> Result<(Single, Vec<Tensor>), Failure> {
        let single = single(self.graph, event, fixed)?;
        let key = text(&single.graph, &mut Vec::new());
        let runner = match self.compiled.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Runner::new(single.graph.clone(), Backend::Jit, 1) {
                Err(Failure::Bug(m)) => return Err(Failure::Bug(m)),
                other => place.insert(other.map_err(|e| e.message().to_owned())),
            },
        };
        let runner = runner.as_mut().map_err(|e| Failure::Input(e.clone()))?;
        let found = runner.run(&single.inputs, &HashMap::new(), None)?;
        Ok((single, found))
    }
}

/// The failure of a second attempt, told by the first one's reason.
fn keep_first(reason: String, second: Failure) -> Failure {
    match second {
        Failure::Input(_) => Failure::Input(reason),
        other => other,
    }
}

/// The graph of a node alone, on operands of these shapes. Small integer operands that the model
/// knows are constants, and with `fixed` all small integer ones and all small constants are.
fn single(of: &Graph, event: &Event<'_>, fixed: bool) -> Result<Single, String> {
    let data = &of.nodes[event.node];
    let mut graph = Graph::new("diff");
    let mut inputs = Vec::new();
    let mut operands = Vec::new();
    for (i, (v, t)) in data.inputs.iter().zip(event.inputs).enumerate() {
        let (Some(v), Some(t)) = (v, t) else {
            operands.push(None);
            continue;
        };
        let constant = of.constant(*v).is_some();
        let known = match t.dtype().is_float() {
            true => fixed && constant,
            false => fixed || constant || of.values[*v].known.is_some(),
        };
        operands.push(Some(if known && t.len() <= MAX_PARAMETER {
            graph.add_constant("", Constant::Data(t.clone()))
        } else {
            inputs.push(t.clone());
            graph.add_input(&format!("x{i}"), TensorType::new(t.dtype(), t.shape().iter().copied()))
        }));
    }
    let attrs = data.attrs.0.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
    let node = Builder::new(&mut graph).node(data.op, "", operands, attrs, data.outputs.len(), Vec::new())?;
    for (i, v) in graph.nodes[node].outputs.clone().into_iter().enumerate() {
        graph.add_output(&format!("y{i}"), v);
    }
    Ok(Single { graph, inputs })
}

/// A graph's text; large constants go to `weights`, which the text calls `WEIGHTS`.
fn text(graph: &Graph, weights: &mut Vec<u8>) -> String {
    graph::print(graph, &mut |_, c| {
        let at = weights.len() as u64;
        if let Ok(t) = c.materialise() {
            weights.extend_from_slice(t.bytes());
        }
        (WEIGHTS.to_owned(), at)
    })
}

/// Stands for the name of the file of constants.
const WEIGHTS: &str = "diff.weights";

/// Writes the graph that shows a difference, with its inputs, and says what differs.
fn show(d: &Difference, args: &Args) -> Result<String, Failure> {
    let default = || PathBuf::from(format!("{}-diff.burin", model::title(&args.model)));
    let path = args.out.clone().unwrap_or_else(default);
    let folder = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().map_or("diff".into(), |s| s.to_string_lossy().into_owned());
    let fail = |p: &Path, e: std::io::Error| Failure::Input(format!("{}: {e}", p.display()));
    let mut weights = Vec::new();
    let mut graph = text(&d.single.graph, &mut weights);
    if !weights.is_empty() {
        let name = format!("{stem}.weights");
        graph = graph.replace(&format!("file \"{WEIGHTS}\""), &format!("file \"{name}\""));
        let file = folder.join(name);
        std::fs::write(&file, &weights).map_err(|e| fail(&file, e))?;
    }
    std::fs::write(&path, format!("# {}\n{graph}", d.node)).map_err(|e| fail(&path, e))?;
    let mut again = format!("burin diff {}", path.display());
    for (v, t) in d.single.graph.inputs().iter().zip(&d.single.inputs) {
        let name = &d.single.graph.values[*v].name;
        let file = write(folder, &file_name(&format!("{stem}.{name}")), t)?;
        again.push_str(&format!(" --input {name}={}", file.display()));
    }
    Ok(format!(
        "{} differs by up to {} ULPs\n  result {}: {}\n  graph:  {}\n  again:  {again}\n",
        d.node,
        d.report.worst_ulps,
        d.result,
        d.report,
        path.display()
    ))
}

/// The nodes that could not be compared.
fn left_text(left: &[(String, String)]) -> String {
    left.iter().map(|(node, reason)| format!("not compared: {node}: {reason}\n")).collect()
}

/// How far the outputs of the whole model are apart. No bound holds for them: roundings add up.
fn whole_model(graph: &Graph, inputs: &Inputs, expected: &[Tensor]) -> Result<String, Failure> {
    let found = Runner::new(graph.clone(), Backend::Jit, 1)
        .and_then(|mut r| r.run(&inputs.tensors, &inputs.dims, None));
    let found = match found {
        Ok(found) => found,
        Err(Failure::Input(reason)) => return Ok(format!("the whole model cannot be compiled: {reason}\n")),
        Err(e) => return Err(e),
    };
    let mut lines = String::new();
    for ((name, f), e) in graph.output_names.iter().zip(&found).zip(expected) {
        let r = compare(f, e, &Bound::Exact)?;
        lines.push_str(&format!(
            "the whole model's {name}: at most {} ULPs apart, {:e} absolute, {:e} relative\n",
            r.worst_ulps, r.worst_abs, r.worst_rel
        ));
    }
    Ok(lines)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_shows_the_node_again() {
        let folder = tempfile::tempdir().unwrap();
        let index: Vec<String> = (0..300).map(|i| (i % 4).to_string()).collect();
        let text = format!(
            "graph @g(%x: f32[4]) {{\n  %i = const i64[300] [{}]\n  %y = Gather(%x, %i) \"pick\"\n  return %y\n}}",
            index.join(", ")
        );
        let of = graph::parse(&text).unwrap();
        let x = Tensor::new(&[4], &[1f32, 2.0, 3.0, 4.0]);
        let mut difference = None;
        let outputs = eval_with(&of, &[x], &[], &mut |event| {
            let node = of.describe(event.node);
            let one = Tensor::zeros(event.outputs[0].dtype(), event.outputs[0].shape());
            let report = compare(&one, &event.outputs[0], &Bound::Exact).unwrap();
            difference =
                Some(Difference { node, result: 0, report, single: single(&of, event, false).unwrap() });
        })
        .unwrap();
        let out = folder.path().join("shown.burin");
        let args =
            Args { model: "g.burin".into(), inputs: vec![], seed: 1, dims: vec![], out: Some(out.clone()) };
        let said = show(&difference.unwrap(), &args).unwrap();
        assert!(said.starts_with("Gather \"pick\" differs by up to "), "{said}");
        let again = model::load(&out, &[]).unwrap();
        let input = folder.path().join("shown.x0.npy");
        let inputs = Inputs::new(&again, &[("x0".to_owned(), input)], &[], 1).unwrap();
        let mut runner = Runner::new(again, Backend::Interp, 1).unwrap();
        assert_eq!(runner.run(&inputs.tensors, &inputs.dims, None).unwrap(), outputs.outputs);
    }
}
