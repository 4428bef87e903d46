//! From a graph in which everything is expanded to a [`Program`]: fusion, places, kernels, memory.

use super::emit;
use super::group::{self, Layout, Lowered};
use super::nest::Nest;
use super::place::{Places, Root, RootId};
use super::schedule::cost::{Prediction, predict};
use super::schedule::{Machine, Schedule, choose};
use crate::graph::fuse::{self, Fate, Fusion, assembled_parts, fill_value};
use crate::memory::{self, Buffer};
use crate::packing::{PANEL, Packing};
use crate::program::{Place, Port, Program, Step, Weight};
use burin_ir::graph::{Constant, Graph, Node, Value};
use burin_ir::loops::{Access, Kernel, LoopKind, Stmt};
use burin_ir::{Expr, TensorType, TermKind};
use burin_runtime::abi::ALIGN;
use std::collections::HashMap;

/// What lowering found out, for people.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// For each kernel call: the nodes that were fused into it.
    pub groups: Vec<Group>,
    /// Nodes whose results stand in memory, with the reason why they were not fused into their user.
    pub declined: Vec<(String, &'static str)>,
    /// Bytes of the arena at typical dimensions, and the most that is alive at one step.
    pub arena: (i64, i64),
    /// How many values have an order of their own, and how many uses of them make a copy in another.
    pub orders: (usize, usize),
}

/// The nodes behind one kernel call.
#[derive(Clone, Debug)]
pub struct Group {
    /// The kernel's name.
    pub kernel: String,
    /// Its schedule, as [`Schedule`] prints it.
    pub schedule: String,
    /// What the cost model says of it.
    pub prediction: Prediction,
    /// The nodes of the graph as it is lowered, in execution order.
    pub nodes: Vec<Node>,
    /// The stored value that the call computes, or a part of which it fills; none where it copies
    /// what is there into an output or a state.
    pub result: Option<Value>,
    /// The assembled value that the result is written into, in place.
    pub part_of: Option<Value>,
}

/// A kernel call before memory is planned.
struct Draft {
    lowered: Lowered,
    writes: RootId,
    offset: Expr,
    name: String,
    /// The stored value that this computes or fills a part of.
    result: Option<Value>,
}

/// Lowers a graph.
pub fn lower(graph: &Graph, machine: &Machine) -> Result<(Program, Report), String> {
    let fusion = fuse::run(graph)?;
    let mut places = Places::new(graph, &fusion)?;
    for v in graph.values.keys() {
        places.place_constant(graph, v);
    }
    let mut drafts = Vec::new();
    for node in &graph.regions[graph.body].nodes {
        for v in &graph.nodes[*node].outputs {
            if matches!(fusion.fate(*v), Fate::Stored(_)) {
                draft(graph, &fusion, &places, *v, &mut drafts)?;
            }
        }
    }
    final_copies(graph, &fusion, &mut places, &mut drafts)?;
    // What is empty whatever the dimensions are needs no kernel.
    drafts.retain(|d| d.lowered.nest.axes.iter().all(|(_, n)| *n != 0));
    refuse_unknown_sizes(graph, &drafts)?;
    let mut report = declined(graph, &fusion);
    report.orders = (fusion.orders.count(), fusion.orders.changes(graph));
    let mut kernels = Kernels::new(machine);
    let calls: Vec<Call> = drafts.iter().map(|d| kernels.of(&d.lowered.nest, &d.name)).collect();
    let (roots, plan) = plan_memory(&places, &drafts, &calls);
    report.arena = (plan.typical_total, plan.typical_bound);
    let mut program = ports(graph);
    program.lets = plan.lets.clone();
    program.arena_bytes = plan.total.clone();
    let weights = place_weights(graph, &places, &drafts, &mut program)?;
    for (d, call) in drafts.iter().zip(&calls) {
        let place = |root: RootId, offset: &Expr, bytes: usize| -> Result<Place, String> {
            let offset = offset * (bytes as i64);
            Ok(match &places.roots[root] {
                Root::Input(i) => Place::Input(*i),
                Root::State(i) => Place::State(*i),
                Root::Output(i) => Place::Output(*i, offset),
                Root::Weight(v) => Place::Weights(weights[v]),
                Root::Arena(_) => Place::Arena(&plan.offsets[roots[&root]] + &offset),
            })
        };
        let mut args = Vec::new();
        for v in &d.lowered.reads {
            let p = places.of(*v);
            args.push(place(p.root, &p.offset, dtype_bytes(graph, *v))?);
        }
        let nest = &d.lowered.nest;
        let written = nest.buffers.last().map_or(1, |b| b.dtype.bytes());
        args.push(place(d.writes, &d.offset, written)?);
        let kernel = &kernels.made[call.kernel];
        report.groups.push(Group {
            kernel: kernel.name.clone(),
            schedule: kernels.schedules[call.kernel].to_string(),
            prediction: kernels.predictions[call.kernel],
            nodes: d.lowered.nodes.clone(),
            result: d.result,
            part_of: d.result.and_then(|v| places.part_of(v)),
        });
        program.nodes.push(d.name.clone());
        program.steps.push(Step {
            kernel: call.kernel,
            args,
            dims: kernel.dims.iter().map(|s| (*s).into()).collect(),
            tasks: tasks(kernel),
            node: program.nodes.len() - 1,
            flops: nest.flops(),
            bytes: nest.buffers.iter().fold(Expr::ZERO, |s, b| s + &b.len * (b.dtype.bytes() as i64)),
        });
    }
    program.kernels = kernels.made;
    Ok((program, report))
}

/// Sizes must follow from the inputs' dimensions.
fn refuse_unknown_sizes(graph: &Graph, drafts: &[Draft]) -> Result<(), String> {
    let dims = graph.dims();
    for d in drafts {
        if let Some(s) = d.lowered.nest.dims().into_iter().find(|s| !dims.contains(s)) {
            return Err(format!(
                "{} cannot be compiled: the size {s} depends on data and not on the inputs' dimensions \
                 alone; the interpreter runs it",
                d.name
            ));
        }
    }
    Ok(())
}

fn dtype_bytes(graph: &Graph, v: Value) -> usize {
    graph.tensor_type(v).map_or(1, |t| t.dtype.bytes())
}

/// The number of tasks of a kernel: the extent of its parallel loop.
fn tasks(kernel: &Kernel) -> Expr {
    match &kernel.body[..] {
        [Stmt::For(l)] if l.kind == LoopKind::Parallel => l.extent.clone(),
        _ => Expr::ONE,
    }
}

/// The kernels of one stored value: its own, or the copies and fills that assemble it.
fn draft(
    graph: &Graph,
    fusion: &Fusion,
    places: &Places,
    v: Value,
    out: &mut Vec<Draft>,
) -> Result<(), String> {
    let Some((node, _)) = graph.producer(v) else { return Ok(()) };
    let name = graph.describe(node);
    let fail = |e: String| if e.contains(&name) { e } else { format!("{name}: {e}") };
    let p = places.of(v);
    let Some(parts) = assembled_parts(graph, node) else {
        let lowered = group::lower(graph, fusion, places, v).map_err(fail)?;
        out.push(Draft { lowered, writes: p.root, offset: p.offset.clone(), name, result: Some(v) });
        return Ok(());
    };
    for (part, start) in &parts {
        if places.is_part_of(*part, v) {
            continue;
        }
        let (root, offset, layout) = places.part(v, start);
        let lowered = group::copy(graph, fusion, places, *part, &layout).map_err(fail)?;
        out.push(Draft { lowered, writes: root, offset, name: name.clone(), result: Some(v) });
    }
    if let Some(value) = fill_value(graph, node) {
        let ty = graph.tensor_type(v).ok_or("a padded value is no tensor")?;
        let (part, start) = &parts[0];
        let inner = graph.tensor_type(*part).ok_or("a padded operand is no tensor")?;
        for (corner, shape) in border(ty, &inner.shape, start) {
            let (root, offset, layout) = places.part(v, &corner);
            let lowered = group::fill(ty.dtype, value, &shape, &layout);
            out.push(Draft { lowered, writes: root, offset, name: name.clone(), result: Some(v) });
        }
    }
    Ok(())
}

/// The boxes (corner and shape) around an inner box that fill the rest of a tensor.
fn border(ty: &TensorType, inner: &[Expr], start: &[Expr]) -> Vec<(Vec<Expr>, Vec<Expr>)> {
    let mut out = Vec::new();
    let zero = vec![Expr::ZERO; inner.len()];
    for d in 0..inner.len() {
        let end = &start[d] + &inner[d];
        for (from, size) in [(Expr::ZERO, start[d].clone()), (end.clone(), &ty.shape[d] - &end)] {
            if size == 0 {
                continue;
            }
            let mut corner = [&start[..d], &zero[d..]].concat();
            let mut shape = [&inner[..d], &ty.shape[d..]].concat();
            (corner[d], shape[d]) = (from, size);
            out.push((corner, shape));
        }
    }
    out
}

/// Copies into outputs and states what could not be computed there.
fn final_copies(
    graph: &Graph,
    fusion: &Fusion,
    places: &mut Places,
    out: &mut Vec<Draft>,
) -> Result<(), String> {
    let mut copy_to = |places: &mut Places, v: Value, root: Root, name: &str| -> Result<(), String> {
        let ty = graph.tensor_type(v).ok_or_else(|| format!("{name} is no tensor"))?;
        let layout = Layout::contiguous(&ty.shape);
        let lowered = group::copy(graph, fusion, places, v, &layout)?;
        places.roots.push(root);
        let writes = places.roots.len() - 1;
        out.push(Draft { lowered, writes, offset: Expr::ZERO, name: name.to_owned(), result: None });
        Ok(())
    };
    for (i, v) in graph.outputs().iter().enumerate() {
        if !places.direct_outputs.contains(&i) {
            copy_to(places, *v, Root::Output(i), &format!("output {}", graph.output_names[i]))?;
        }
    }
    // A state's next value may be another state's present one: all are read before any is written.
    let mut held = Vec::new();
    for (i, s) in graph.states.iter().enumerate() {
        if s.next == s.value {
            continue;
        }
        let name = format!("state {}", graph.values[s.value].name);
        let from = &places.roots[places.of(s.next).root];
        if matches!(from, Root::State(_)) {
            let ty = graph.tensor_type(s.next).ok_or("a state is no tensor")?;
            let bytes = ty.elements() * ty.dtype.bytes() as i64;
            copy_to(places, s.next, Root::Arena(bytes), &name)?;
            held.push((i, Some(places.roots.len() - 1), name));
        } else {
            held.push((i, None, name));
        }
    }
    for (i, from, name) in held {
        let next = graph.states[i].next;
        if let Some(root) = from {
            places.move_to(next, root);
        }
        copy_to(places, next, Root::State(i), &name)?;
    }
    Ok(())
}

fn declined(graph: &Graph, fusion: &Fusion) -> Report {
    let mut report = Report::default();
    for node in &graph.regions[graph.body].nodes {
        for v in &graph.nodes[*node].outputs {
            if let Fate::Stored(why) = fusion.fate(*v) {
                report.declined.push((graph.describe(*node), why));
            }
        }
    }
    report
}

/// A kernel and what its step must know of it.
struct Call {
    kernel: usize,
    /// Reading buffers whose memory the written one may take over.
    in_place: Vec<usize>,
}

/// Distinct kernels: equal nests share one.
struct Kernels<'a> {
    machine: &'a Machine,
    made: Vec<Kernel>,
    schedules: Vec<Schedule>,
    predictions: Vec<Prediction>,
    by_nest: HashMap<String, usize>,
}

impl<'a> Kernels<'a> {
    fn new(machine: &'a Machine) -> Kernels<'a> {
        let (made, schedules, predictions) = (Vec::new(), Vec::new(), Vec::new());
        Kernels { machine, made, schedules, predictions, by_nest: HashMap::new() }
    }

    fn of(&mut self, nest: &Nest, name: &str) -> Call {
        let key = format!("{:?} {:?} {:?}", nest.axes, nest.buffers, nest.stores);
        let kernel = match self.by_nest.get(&key) {
            Some(k) => *k,
            None => {
                let schedule = choose(nest, self.machine);
                let mut kernel = emit::emit(nest, &schedule);
                kernel.name = format!("{}_{}", nest.name, self.made.len());
                tracing::debug!(kernel = kernel.name, node = name, kind = schedule.kind, "emitted");
                self.made.push(kernel);
                self.predictions.push(predict(nest, &schedule, self.machine));
                self.schedules.push(schedule);
                self.by_nest.insert(key, self.made.len() - 1);
                self.made.len() - 1
            }
        };
        let schedule = &self.schedules[kernel];
        let in_place = if schedule.overlap { Vec::new() } else { in_place(nest) };
        Call { kernel, in_place }
    }
}

/// Buffers that are read only at the very element that is then written.
fn in_place(nest: &Nest) -> Vec<usize> {
    let [store] = &nest.stores[..] else { return Vec::new() };
    let written = &nest.buffers[store.buffer];
    let mut fits: Vec<bool> = nest
        .buffers
        .iter()
        .map(|b| b.access == Access::Read && b.dtype.bytes() == written.dtype.bytes() && b.len == written.len)
        .collect();
    super::nest::visit(&store.value, &mut |t| {
        if let TermKind::Load { input, index } = t.kind() {
            fits[*input] &= index[0] == store.index;
        }
    });
    (0..fits.len()).filter(|i| fits[*i]).collect()
}

/// Lifetimes of the roots in the arena; a root that may take over another's memory becomes the
/// same buffer. Gives each arena root's number in the plan.
fn plan_memory(places: &Places, drafts: &[Draft], calls: &[Call]) -> (HashMap<RootId, usize>, memory::Plan) {
    let mut lives: HashMap<RootId, (usize, usize)> = HashMap::new();
    let mut order = Vec::new();
    for (step, d) in drafts.iter().enumerate() {
        let touched = d.lowered.reads.iter().map(|v| places.of(*v).root).chain([d.writes]);
        for root in touched.filter(|r| matches!(places.roots[*r], Root::Arena(_))) {
            lives.entry(root).and_modify(|l| l.1 = step).or_insert_with(|| {
                order.push(root);
                (step, step)
            });
        }
    }
    let size = |r: RootId| match &places.roots[r] {
        Root::Arena(bytes) => bytes.clone(),
        _ => Expr::ZERO,
    };
    let mut joined: HashMap<RootId, RootId> = HashMap::new();
    for (step, (d, call)) in drafts.iter().zip(calls).enumerate() {
        let starts = lives.get(&d.writes).is_some_and(|l| l.0 == step);
        if !starts || d.offset != 0 {
            continue;
        }
        for b in &call.in_place {
            let read = places.of(d.lowered.reads[*b]);
            let source = *joined.get(&read.root).unwrap_or(&read.root);
            let ends = lives.get(&source).is_some_and(|l| l.1 == step);
            if ends && read.offset == 0 && size(source) == size(d.writes) && source != d.writes {
                joined.insert(d.writes, source);
                let last = lives[&d.writes].1;
                lives.entry(source).and_modify(|l| l.1 = last);
                break;
            }
        }
    }
    let mut numbers = HashMap::new();
    let mut buffers = Vec::new();
    for root in order {
        if let Some(source) = joined.get(&root) {
            let n = numbers[source];
            numbers.insert(root, n);
            continue;
        }
        let (first, last) = lives[&root];
        numbers.insert(root, buffers.len());
        buffers.push(Buffer { bytes: size(root), first, last });
    }
    (numbers, memory::plan(&buffers))
}

/// The program's outside: dimensions, inputs, outputs, states.
fn ports(graph: &Graph) -> Program {
    let port = |v: Value, name: &str| {
        let ty = graph
            .tensor_type(v)
            .cloned()
            .unwrap_or(TensorType { dtype: burin_ir::DType::F32, shape: vec![] });
        Port { name: name.to_owned(), ty }
    };
    let named = |v: Value| port(v, &graph.values[v].name);
    Program {
        name: graph.name.clone(),
        dims: graph.dims(),
        inputs: graph.inputs().iter().map(|v| named(*v)).collect(),
        outputs: graph.outputs().iter().zip(&graph.output_names).map(|(v, n)| port(*v, n)).collect(),
        ..Program::default()
    }
}

/// Gives every constant that a kernel reads, and every state's initial value, a place in the
/// weight segment.
fn place_weights(
    graph: &Graph,
    places: &Places,
    drafts: &[Draft],
    program: &mut Program,
) -> Result<HashMap<Value, u64>, String> {
    let mut out = HashMap::new();
    let add = |program: &mut Program, name: String, constant: &Constant, packing: Option<Packing>| {
        let offset = program.weight_bytes;
        let weight = Weight { name, constant: constant.clone(), offset, packing };
        program.weight_bytes = (offset + weight.bytes() as u64).next_multiple_of(ALIGN as u64);
        program.weights.push(weight);
        offset
    };
    for v in drafts.iter().flat_map(|d| &d.lowered.reads) {
        if let Root::Weight(w) = places.roots[places.of(*v).root]
            && !out.contains_key(&w)
        {
            let constant = graph.constant(w).ok_or("a weight is no constant")?;
            let name = graph.values[w].name.clone();
            let name = if name.is_empty() { format!("weight{}", program.weights.len()) } else { name };
            let packing = packing(&places.of(*v).layout, &constant.ty().shape)?;
            let offset = add(program, name, constant, packing);
            out.insert(w, offset);
        }
    }
    for s in &graph.states {
        let name = graph.values[s.value].name.clone();
        add(program, name.clone(), &s.init, None);
        let ty = graph.tensor_type(s.value).cloned().ok_or("a state is no tensor")?;
        let weight = program.weights.len() - 1;
        program.states.push((Port { name, ty }, weight));
    }
    Ok(out)
}

/// A weight's layout in numbers; none where it is row-major.
fn packing(layout: &Layout, shape: &[Expr]) -> Result<Option<Packing>, String> {
    if *layout == Layout::contiguous(shape) {
        return Ok(None);
    }
    let number =
        |e: &Expr| e.as_const().and_then(|n| usize::try_from(n).ok()).ok_or("a weight's size varies");
    let strides = layout.strides.iter().map(number).collect::<Result<_, _>>()?;
    let panels = layout.panels.as_ref().map(|p| (p.axis, PANEL as usize, p.stride as usize));
    Ok(Some(Packing { strides, panels, len: number(&layout.span(shape))? }))
}
