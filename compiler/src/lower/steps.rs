//! From a graph in which everything is expanded to a [`Program`]: fusion, places, kernels, memory.

use super::arena::Memory;
use super::emit;
use super::group::{self, Layout, Lowered};
use super::nest::Nest;
use super::place::{Places, Root, RootId};
use super::schedule::cost::{Prediction, predict};
use super::schedule::{Machine, Schedule, choose};
use super::sizes;
use crate::graph::fuse::{self, Fate, Fusion, assembled_parts, fill_value};
use crate::packing::{PANEL, Packing};
use crate::program::{Call, Check, Place, Port, Program, Read, Step, Weight};
use burin_ir::graph::{Constant, Graph, Node, Value};
use burin_ir::loops::{Access, Kernel, LoopKind, Stmt};
use burin_ir::{DType, Expr, Symbol, TensorType, TermKind};
use burin_runtime::abi::ALIGN;
use std::collections::{HashMap, HashSet};

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
pub(super) struct Draft {
    pub(super) lowered: Lowered,
    pub(super) writes: RootId,
    pub(super) offset: Expr,
    name: String,
    /// The stored value that this computes or fills a part of.
    result: Option<Value>,
}

/// What happens in a run, in order, before memory is planned.
pub(super) enum Event {
    /// A kernel runs.
    Call(Draft),
    /// An element of a value becomes known as a symbol.
    Read(Value, usize, Symbol),
    /// A size that depends on data is computed.
    Let(Symbol, Expr),
    /// What a node of that name wants to be zero or above.
    Check(Expr, String),
}

impl Event {
    /// The values that it reads.
    pub(super) fn reads(&self) -> &[Value] {
        match self {
            Event::Call(d) => &d.lowered.reads,
            Event::Read(v, ..) => std::slice::from_ref(v),
            Event::Let(..) | Event::Check(..) => &[],
        }
    }

    /// The root that it writes.
    pub(super) fn writes(&self) -> Option<RootId> {
        match self {
            Event::Call(d) => Some(d.writes),
            Event::Read(..) | Event::Let(..) | Event::Check(..) => None,
        }
    }
}

/// Lowers a graph.
pub fn lower(graph: &Graph, machine: &Machine) -> Result<(Program, Report), String> {
    let sizes::Named { graph, sizes } = sizes::name(graph);
    let graph = &*graph;
    let fusion = fuse::run(graph)?;
    let mut places = Places::new(graph, &fusion)?;
    for v in graph.values.keys() {
        places.place_constant(graph, v);
    }
    let events = events(graph, &fusion, &mut places, sizes)?;
    check_symbols(graph, &events)?;
    let mut report = declined(graph, &fusion);
    report.orders = (fusion.orders.count(), fusion.orders.changes(graph));
    let mut kernels = Kernels::new(machine);
    let uses: Vec<Option<Use>> = events
        .iter()
        .map(|e| match e {
            Event::Call(d) => Some(kernels.of(&d.lowered.nest, &d.name)),
            _ => None,
        })
        .collect();
    let memory = Memory::plan(graph, &places, &events, &uses);
    report.arena = (memory.plan.typical_total, memory.plan.typical_bound);
    let mut program = ports(graph);
    program.lets = memory.plan.lets.clone();
    program.arena_bytes = memory.plan.total.clone();
    program.slots = memory.slots;
    let weights = place_weights(graph, &places, &events, &mut program)?;
    let place = |root: RootId, offset: &Expr, dtype: DType| -> Place {
        let offset = offset * (dtype.bytes() as i64);
        match (&places.roots[root], memory.slot_of.get(&root)) {
            (_, Some((slot, _))) => Place::Slot(*slot, offset),
            (Root::Input(i), _) => Place::Input(*i),
            (Root::State(i), _) => Place::State(*i),
            (Root::Output(i), _) => Place::Output(*i, offset),
            (Root::Weight(v), _) => Place::Weights(weights[v]),
            (Root::Arena(_), _) => Place::Arena(&memory.plan.offsets[memory.buffers[&root]] + &offset),
        }
    };
    let mut steps = Vec::new();
    for (at, (event, kernel_use)) in events.iter().zip(&uses).enumerate() {
        steps.extend(memory.allocs(at).map(|(slot, bytes)| Step::Alloc(slot, bytes.clone())));
        match event {
            Event::Let(symbol, e) => steps.push(Step::Let(*symbol, e.clone())),
            Event::Read(v, element, symbol) => {
                let (p, dtype) = (places.of(*v), dtype_of(graph, *v));
                let (symbol, place) = (*symbol, place(p.root, &p.offset, dtype));
                steps.push(Step::Read(Read { symbol, place, offset: element * dtype.bytes(), dtype }));
            }
            Event::Check(value, name) => {
                program.nodes.push(name.clone());
                steps.push(Step::Check(Check { value: value.clone(), node: program.nodes.len() - 1 }));
            }
            Event::Call(d) => {
                let Some(used) = kernel_use else { continue };
                let nest = &d.lowered.nest;
                let from = d.lowered.reads.iter().map(|v| (places.of(*v), dtype_of(graph, *v)));
                let mut args: Vec<Place> = from.map(|(p, dtype)| place(p.root, &p.offset, dtype)).collect();
                let written = nest.buffers.last().map_or(DType::U8, |b| b.dtype);
                args.push(place(d.writes, &d.offset, written));
                report.groups.push(kernels.group(used.kernel, d, &places));
                program.nodes.push(d.name.clone());
                let kernel = &kernels.made[used.kernel];
                program.calls.push(Call {
                    kernel: used.kernel,
                    args,
                    dims: kernel.dims.iter().map(|s| (*s).into()).collect(),
                    tasks: tasks(kernel),
                    node: program.nodes.len() - 1,
                    flops: nest.flops(),
                    bytes: nest.buffers.iter().fold(Expr::ZERO, |s, b| s + &b.len * (b.dtype.bytes() as i64)),
                });
                steps.push(Step::Call(program.calls.len() - 1));
            }
        }
    }
    program.blocks = vec![steps];
    program.kernels = kernels.made;
    Ok((program, report))
}

/// What a run of the graph does, node by node.
fn events(
    graph: &Graph,
    fusion: &Fusion,
    places: &mut Places,
    mut sizes: Vec<(Symbol, Expr)>,
) -> Result<Vec<Event>, String> {
    let mut known: HashSet<Symbol> = graph.dims().into_iter().collect();
    let mut events = Vec::new();
    let mut drafts = Vec::new();
    // What is empty whatever the dimensions are needs no kernel.
    let flush = |drafts: &mut Vec<Draft>, events: &mut Vec<Event>| {
        let some = |d: &Draft| d.lowered.nest.axes.iter().all(|(_, n)| *n != 0);
        events.extend(drafts.drain(..).filter(some).map(Event::Call));
    };
    for node in &graph.regions[graph.body].nodes {
        let data = &graph.nodes[*node];
        if data.op.name == "Read"
            && let Some(v) = data.inputs[0].filter(|v| fusion.read.contains(v))
        {
            let named = data.attrs.strs("symbols").unwrap_or_default().iter().map(|s| Symbol::new(s));
            for (i, symbol) in named.enumerate() {
                known.insert(symbol);
                events.push(Event::Read(v, i, symbol));
            }
            let ready = |e: &Expr| e.symbols().iter().all(|s| known.contains(s));
            let (now, later) = sizes.into_iter().partition(|(_, e)| ready(e));
            sizes = later;
            events.extend(now.into_iter().map(|(s, e): (Symbol, Expr)| Event::Let(s, e)));
        }
        if let Some(checks) = data.op.checks {
            let wanted =
                fuse::with_cx(graph, *node, checks).map_err(|e| format!("{}: {e}", graph.describe(*node)))?;
            let open = wanted.into_iter().filter(|e| e.bounds(&Symbol::range).lo.is_none_or(|lo| lo < 0));
            events.extend(open.map(|e| Event::Check(e, graph.describe(*node))));
        }
        for v in &data.outputs {
            if matches!(fusion.fate(*v), Fate::Stored(_)) {
                draft(graph, fusion, places, *v, &mut drafts)?;
            }
        }
        flush(&mut drafts, &mut events);
    }
    final_copies(graph, fusion, places, &mut drafts)?;
    flush(&mut drafts, &mut events);
    Ok(events)
}

/// Every size must follow from the inputs' dimensions, or from what was read before.
fn check_symbols(graph: &Graph, events: &[Event]) -> Result<(), String> {
    let mut known: HashSet<Symbol> = graph.dims().into_iter().collect();
    for e in events {
        match e {
            Event::Read(_, _, s) | Event::Let(s, _) => {
                known.insert(*s);
            }
            Event::Check(..) => {}
            Event::Call(d) => {
                if let Some(s) = d.lowered.nest.dims().into_iter().find(|s| !known.contains(s)) {
                    return Err(format!(
                        "{} cannot be compiled: the size {s} depends on data in a way that has no compiled \
                         form yet; the interpreter runs it",
                        d.name
                    ));
                }
            }
        }
    }
    Ok(())
}

fn dtype_of(graph: &Graph, v: Value) -> DType {
    graph.tensor_type(v).map_or(DType::U8, |t| t.dtype)
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

/// A kernel and what a call of it must know.
pub(super) struct Use {
    kernel: usize,
    /// Reading buffers whose memory the written one may take over.
    pub(super) in_place: Vec<usize>,
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

    fn of(&mut self, nest: &Nest, name: &str) -> Use {
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
        Use { kernel, in_place }
    }

    /// What people are told of a call.
    fn group(&self, kernel: usize, d: &Draft, places: &Places) -> Group {
        Group {
            kernel: self.made[kernel].name.clone(),
            schedule: self.schedules[kernel].to_string(),
            prediction: self.predictions[kernel],
            nodes: d.lowered.nodes.clone(),
            result: d.result,
            part_of: d.result.and_then(|v| places.part_of(v)),
        }
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
    events: &[Event],
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
    for v in events.iter().flat_map(Event::reads) {
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
