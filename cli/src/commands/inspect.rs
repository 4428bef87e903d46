//! `burin inspect`: what becomes of a model, known before it ever runs.

use crate::backend::fuel;
use crate::failure::Failure;
use crate::kernels;
use crate::model;
use crate::statistics;
use crate::table::{Align, facts, table};
use crate::terminal::{self, bytes, count};
use burin_compiler::import::onnx::Keys;
use burin_compiler::lower::steps::Report;
use burin_compiler::memory::TYPICAL_DIM;
use burin_compiler::pipeline::{self, Lowered};
use burin_compiler::program::Program;
use burin_compiler::target::native::{self, levels::TargetSpec};
use burin_ir::Symbol;
use burin_ir::graph::Graph;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Show what becomes of a model: nodes, kernels, memory, work
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX file, or a graph in text form
    model: PathBuf,
    /// Everything as one JSON object
    #[arg(long)]
    json: bool,
    /// Print the graph after a pass instead ("import": before all passes)
    #[arg(long, value_name = "PASS")]
    dump_after: Option<String>,
    /// Print the distinct kernels instead: how each is run, and what the cost model says of it
    #[arg(long)]
    kernels: bool,
    /// Print the kernels' loops instead
    #[arg(long, conflicts_with_all = ["json", "kernels"])]
    loops: bool,
    /// Give a symbolic dimension of the inputs a fixed size
    #[arg(long = "dim", value_name = "NAME=N", value_parser = model::parse_dim)]
    dims: Vec<(String, i64)>,
    #[command(flatten)]
    stated: model::Stated,
    /// The machine and system to compile for [default: this one]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// The CPU level, or several as for `build`, of which the best one is shown in full [default: native
    /// on this machine]
    #[arg(long, value_name = "LEVEL,..")]
    cpu: Option<String>,
}

/// The name of the state before all passes.
const IMPORT: &str = "import";

#[derive(Serialize)]
struct Inspection {
    model: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    dims: Vec<String>,
    nodes: usize,
    ops: BTreeMap<&'static str, usize>,
    values: Vec<Node>,
    groups: Vec<Group>,
    declined: Vec<Declined>,
    /// The calls of the host-op library.
    host_calls: Vec<HostCall>,
    kernels: usize,
    memory: Memory,
    /// Values whose dimensions lie in another order than the graph's, and uses of them that copy.
    reordered: usize,
    order_changes: usize,
    flops: u64,
    bytes_moved: u64,
    weights: usize,
    weight_bytes: u64,
    /// The CPU levels, best first: everything else is said of the first one.
    levels: Vec<Level>,
    /// The sizes that symbolic dimensions are taken to have in all figures.
    at: BTreeMap<String, i64>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    r#type: String,
    /// Of a sequence of maps, whose values are the columns: their keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Value>,
}

/// A node of the model, with its results' types.
#[derive(Serialize)]
struct Node {
    node: String,
    types: Vec<String>,
}

#[derive(Serialize)]
struct Group {
    kernel: String,
    schedule: String,
    /// Which emitter makes its code; why not the one for wide vectors.
    code: String,
    nodes: Vec<String>,
    flops: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Declined {
    node: String,
    reason: &'static str,
}

/// A node that no code was made for: a function of the host-op library runs instead.
#[derive(Serialize)]
struct HostCall {
    node: String,
    function: &'static str,
}

/// What differs from one CPU level to another.
#[derive(Serialize)]
struct Level {
    level: String,
    kernels: usize,
    arena_bytes: i64,
}

#[derive(Serialize)]
struct Memory {
    arena_bytes: i64,
    live_bound_bytes: i64,
    ratio: f64,
    scratch_bytes_per_worker: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (mut graph, keys) = model::load_with_keys(&args.model, &args.dims, &args.stated)?;
    let of_model = |e: String| Failure::Input(format!("{}: {e}", args.model.display()));
    let level = args.cpu.as_deref().or(args.target.is_none().then_some("native"));
    let targets = TargetSpec::list(args.target.as_deref(), level)?;
    let Some((target, others)) = targets.split_first() else {
        return Err(Failure::Bug("a list without a CPU level".to_owned()));
    };
    if let Some(wanted) = &args.dump_after {
        return dump(graph, wanted, args, target).and_then(|text| terminal::print(&text));
    }
    let imported = graph.clone();
    let left = pipeline::optimise(&mut graph, fuel()?, &mut |_, _| ()).map_err(of_model)?;
    let lower = |t: &TargetSpec| pipeline::lower(&graph, &t.machine(), left.clone()).map_err(of_model);
    let Lowered { graph: lowered, program, report } = lower(target)?;
    if args.loops {
        let all: String = program.kernels.iter().map(|k| format!("{k}\n")).collect();
        return terminal::print(&all);
    }
    if args.kernels {
        return print_kernels(args, &program, &report);
    }
    let mut levels = vec![level_of(target, &program, &report)];
    for other in others {
        let made = lower(other)?;
        levels.push(level_of(other, &made.program, &made.report));
    }
    let mut found = inspection(args, target, (&imported, &lowered), &program, report, levels);
    for port in &mut found.outputs {
        port.keys = keys.iter().find(|(name, _)| *name == port.name).map(|(_, keys)| json(keys));
    }
    if args.json {
        let text = serde_json::to_string_pretty(&found).map_err(|e| Failure::Bug(e.to_string()))?;
        return terminal::print(&format!("{text}\n"));
    }
    terminal::print(&show(&found))
}

/// The distinct kernels, at typical sizes.
fn print_kernels(args: &Args, program: &Program, report: &Report) -> Result<(), Failure> {
    let rows = kernels::rows(program, report, &statistics::symbols(program, &typical_dims(program)));
    if args.json {
        let text = serde_json::to_string_pretty(&rows).map_err(|e| Failure::Bug(e.to_string()))?;
        return terminal::print(&format!("{text}\n"));
    }
    terminal::print(&format!("{}\n{}", kernels::table(&rows), kernels::legend(program, false)))
}

fn typical_dims(program: &Program) -> HashMap<Symbol, i64> {
    program.dims.iter().map(|d| (*d, TYPICAL_DIM)).collect()
}

fn json(keys: &Keys) -> Value {
    match keys {
        Keys::Ints(all) => all.as_slice().into(),
        Keys::Texts(all) => all.as_slice().into(),
    }
}

/// The graph's text after a pass.
fn dump(mut graph: Graph, wanted: &str, args: &Args, target: &TargetSpec) -> Result<String, Failure> {
    let names: Vec<&str> = [IMPORT].into_iter().chain(pipeline::graph_passes().map(|p| p.name)).collect();
    if !names.contains(&wanted) {
        let all = names.join(", ");
        return Err(format!("--dump-after: found \"{wanted}\", expected one of: {all}").into());
    }
    if wanted == IMPORT {
        return Ok(graph.to_string());
    }
    let mut text = None;
    let mut keep = |pass: &str, g: &Graph| {
        if pass == wanted {
            text = Some(g.to_string());
        }
    };
    let result = pipeline::optimise(&mut graph, fuel()?, &mut keep)
        .and_then(|left| pipeline::fit(&mut graph, &target.machine(), left, &mut keep));
    match (text, result) {
        (Some(text), _) => Ok(text),
        (None, Err(e)) => Err(format!("{}: {e}", args.model.display()).into()),
        (None, Ok(())) => {
            let level = &target.level;
            Err(format!("--dump-after: the pass {wanted} is not run for the CPU level {level}").into())
        }
    }
}

fn level_of(target: &TargetSpec, program: &Program, report: &Report) -> Level {
    Level { level: target.level.clone(), kernels: program.kernels.len(), arena_bytes: report.arena.0 }
}

fn inspection(
    args: &Args,
    target: &TargetSpec,
    (imported, lowered): (&Graph, &Graph),
    program: &Program,
    report: Report,
    levels: Vec<Level>,
) -> Inspection {
    let dims = typical_dims(program);
    let symbols = statistics::symbols(program, &dims);
    let port = |p: &burin_compiler::program::Port| Port {
        name: p.name.clone(),
        r#type: p.ty.to_string(),
        keys: None,
    };
    let mut ops = BTreeMap::new();
    let mut values = Vec::new();
    for n in &imported.regions[imported.body].nodes {
        let data = &imported.nodes[*n];
        *ops.entry(data.op.name).or_insert(0) += 1;
        let types = data.outputs.iter().map(|v| imported.values[*v].ty.to_string()).collect();
        values.push(Node { node: imported.describe(*n), types });
    }
    let group = |(g, s): (burin_compiler::lower::kernels::Group, &burin_compiler::program::Call)| Group {
        kernel: g.kernel,
        schedule: g.schedule,
        code: match native::wide_vectors(&program.kernels[s.kernel], target) {
            Ok(()) => "wide".to_owned(),
            Err(why) => format!("Cranelift ({why})"),
        },
        nodes: g.nodes.iter().map(|n| lowered.describe(*n)).collect(),
        flops: statistics::value(&s.flops, &symbols),
        bytes: statistics::value(&s.bytes, &symbols),
    };
    let host_call = |h: &burin_compiler::program::HostCall| HostCall {
        node: program.nodes[h.node].clone(),
        function: program.host_ops[h.op],
    };
    let (arena, bound) = report.arena;
    Inspection {
        model: model::title(&args.model),
        inputs: program.inputs.iter().map(port).collect(),
        outputs: program.outputs.iter().map(port).collect(),
        dims: program.dims.iter().map(|d| d.to_string()).collect(),
        nodes: values.len(),
        ops,
        values,
        groups: report.groups.into_iter().zip(&program.calls).map(group).collect(),
        declined: report.declined.into_iter().map(|(node, reason)| Declined { node, reason }).collect(),
        host_calls: program.host_calls.iter().map(host_call).collect(),
        kernels: program.kernels.len(),
        memory: Memory {
            arena_bytes: arena,
            live_bound_bytes: bound,
            ratio: if bound == 0 { 1.0 } else { arena as f64 / bound as f64 },
            scratch_bytes_per_worker: statistics::value(&program.scratch_bytes, &symbols),
        },
        reordered: report.orders.0,
        order_changes: report.orders.1,
        flops: statistics::total(program, &symbols, |s| &s.flops),
        bytes_moved: statistics::total(program, &symbols, |s| &s.bytes),
        weights: program.weights.len(),
        weight_bytes: program.weight_bytes,
        levels,
        at: dims.iter().map(|(s, n)| (s.to_string(), *n)).collect(),
    }
}

fn show(i: &Inspection) -> String {
    use Align::{Left, Right};
    let port = |p: &Port| {
        let keys = p.keys.as_ref().map_or(String::new(), |keys| format!(", a column for each of {keys}"));
        format!("{}: {}{keys}", p.name, p.r#type)
    };
    let ports = |all: &[Port]| all.iter().map(port).collect::<Vec<_>>().join(", ");
    let ops: Vec<String> = i.ops.iter().map(|(op, n)| format!("{op} {n}")).collect();
    let mut text = String::from("Nodes\n");
    let node = |n: &Node| vec![format!("  {}", n.node), n.types.join(", ")];
    text.push_str(&table(&[("  node", Left), ("type", Left)], i.values.iter().map(node)));
    let group = |g: &Group| {
        vec![
            format!("  {}", g.kernel),
            g.schedule.clone(),
            g.code.clone(),
            count(g.flops as f64),
            bytes(g.bytes),
            g.nodes.join(" + "),
        ]
    };
    let columns = [
        ("  kernel", Left),
        ("schedule", Left),
        ("code", Left),
        ("FLOPs", Right),
        ("moved", Right),
        ("nodes", Left),
    ];
    if !i.groups.is_empty() {
        text.push_str("\nKernel calls\n");
        text.push_str(&table(&columns, i.groups.iter().map(group)));
    }
    if !i.host_calls.is_empty() {
        text.push_str("\nCalls of the host-op library\n");
        let row = |h: &HostCall| vec![format!("  {}", h.node), h.function.to_owned()];
        text.push_str(&table(&[("  node", Left), ("function", Left)], i.host_calls.iter().map(row)));
    }
    if !i.declined.is_empty() {
        text.push_str("\nNot fused\n");
        let row = |d: &Declined| vec![format!("  {}", d.node), d.reason.to_owned()];
        text.push_str(&table(&[("  node", Left), ("reason", Left)], i.declined.iter().map(row)));
    }
    let at = match i.at.len() {
        0 => String::new(),
        _ => {
            let all: Vec<String> = i.at.iter().map(|(d, n)| format!("{d}={n}")).collect();
            format!(" at {}", all.join(", "))
        }
    };
    let memory = format!(
        "{} for at most {} alive at once (ratio {:.3}){at}",
        bytes(i.memory.arena_bytes.max(0) as u64),
        bytes(i.memory.live_bound_bytes.max(0) as u64),
        i.memory.ratio
    );
    let level = |l: &Level| {
        format!("{} ({} kernels, arena {})", l.level, l.kernels, bytes(l.arena_bytes.max(0) as u64))
    };
    let levels = i.levels.iter().map(level).collect::<Vec<_>>().join(", ");
    let layouts = match i.reordered {
        0 => "all row-major".to_owned(),
        n => format!("{n} values with their channels last, copied at {} uses", i.order_changes),
    };
    let rows = [
        ("model", i.model.clone()),
        ("inputs", ports(&i.inputs)),
        ("outputs", ports(&i.outputs)),
        ("nodes", format!("{} ({})", i.nodes, ops.join(", "))),
        ("kernels", format!("{} calls of {} kernels", i.groups.len(), i.kernels)),
        ("arena", memory),
        ("scratch", format!("{} for each worker", bytes(i.memory.scratch_bytes_per_worker))),
        ("layouts", layouts),
        ("FLOPs", format!("{}{at}", count(i.flops as f64))),
        ("moved", format!("{}{at}", bytes(i.bytes_moved))),
        ("weights", format!("{} in {} tensors", bytes(i.weight_bytes), i.weights)),
        ("CPU", levels),
    ];
    text.push_str(&format!("\nSummary\n{}", facts(&rows)));
    text
}
