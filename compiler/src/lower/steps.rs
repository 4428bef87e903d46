//! From a graph in which everything is expanded to a [`Program`]: fusion, places, kernels, memory.

use super::arena::Slot;
use super::events::{Control, Draft, Event, Inner, Kind};
use super::group::Layout;
use super::host::{self, HostCall};
use super::kernels::{Group, Kernels};
use super::level::{Entry, Level, Lowering};
use super::named::Named;
use super::place::{Root, RootId};
use super::procedure::{self, ProcedureCall};
use super::schedule::Machine;
use super::sizes;
use super::texts;
use crate::graph::fuse::{Fate, Fusion};
use crate::packing::{PANEL, Packing};
use crate::program::{Call, Check, Loop, Place, Port, Program, Read, Step, Weight};
use burin_ir::graph::{Constant, Graph, Value};
use burin_ir::loops::{Access, Kernel, LoopKind, Stmt};
use burin_ir::{DType, Expr, TensorType};
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

/// Lowers a graph.
pub fn lower(graph: &Graph, machine: &Machine) -> Result<(Program, Report), String> {
    let texts::Numbered { graph: numbered, texts } = texts::number(graph)?;
    let host_ops = host::functions(graph);
    let sizes::Named { graph: named, sizes } = sizes::name(&numbered);
    let mut program = Program { texts, host_ops, ..ports(&named, graph) };
    let graph = named;
    let constant = program.dims.iter().copied().collect();
    let mut lowering =
        Lowering { kernels: Kernels::new(machine), sizes, constant, lets: Vec::new(), names: 0 };
    let unbounded = |i: usize| program.unbounded(i);
    let entry = Entry {
        known: graph.dims().into_iter().collect(),
        varying: Vec::new(),
        allocates: (0..graph.outputs().len()).map(unbounded).collect(),
        before: &|_| {},
        after: &mut |_, _| Ok(Vec::new()),
    };
    let level = Level::new(graph.into_owned(), entry, &mut lowering)?;
    let mut report = declined(&level.graph, &level.fusion);
    report.orders = (level.fusion.orders.count(), level.fusion.orders.changes(&level.graph));
    report.arena = (level.memory.plan.typical_total, level.memory.plan.typical_bound);
    program.lets = std::mem::take(&mut lowering.lets);
    program.lets.extend(level.memory.plan.lets.iter().cloned());
    program.arena_bytes = level.memory.plan.total.clone();
    let place = |i: usize| {
        if program.unbounded(i) { Place::Slot(i, Expr::ZERO) } else { Place::Output(i, Expr::ZERO) }
    };
    let outside = Outside {
        inputs: (0..program.inputs.len()).map(|i| Place::Input(i, Expr::ZERO)).collect(),
        outputs: (0..program.outputs.len()).map(place).collect(),
        states: (0..level.graph.states.len()).map(|i| Place::State(i, Expr::ZERO)).collect(),
        arena: Place::Arena(Expr::ZERO),
    };
    let outputs = program.outputs.len();
    let slotted = (0..outputs).any(|i| program.unbounded(i));
    program.blocks.push(Vec::new());
    let mut writer =
        Writer { program, report, kernels: &lowering.kernels, slots: outputs, weights: HashMap::new() };
    let steps = writer.level(&level, &outside)?;
    let Writer { mut program, report, slots, .. } = writer;
    program.blocks[0] = steps;
    program.slots = if slotted || slots > outputs { slots } else { 0 };
    place_states(&level.graph, &mut program)?;
    program.kernels = lowering.kernels.made;
    Ok((program, report))
}

/// Where what a level gets from outside lies.
struct Outside {
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    states: Vec<Place>,
    arena: Place,
}

/// Writes steps.
struct Writer<'a> {
    program: Program,
    report: Report,
    kernels: &'a Kernels<'a>,
    /// How many slots are taken.
    slots: usize,
    /// Constants that have a place: by their memory, and how they are packed.
    weights: HashMap<(*const u8, usize, String), u64>,
}

/// A level, the places around it, and the number of its first slot.
struct Site<'a> {
    level: &'a Level,
    outside: &'a Outside,
    first_slot: usize,
    weights: HashMap<Value, u64>,
}

impl Site<'_> {
    /// A place in a root.
    fn place(&self, root: RootId, bytes: &Expr) -> Place {
        let memory = &self.level.memory;
        match (&self.level.places.roots[root], memory.slot_of.get(&root)) {
            (_, Some((Slot::Own(n), _))) => Place::Slot(self.first_slot + n, bytes.clone()),
            (Root::Input(i), _) => self.outside.inputs[*i].at(bytes),
            (Root::State(i), _) => self.outside.states[*i].at(bytes),
            (Root::Output(i), _) => self.outside.outputs[*i].at(bytes),
            (Root::Weight(v), _) => Place::Weights(Expr::from(self.weights[v] as i64) + bytes.clone()),
            (Root::Arena(_), _) => {
                self.outside.arena.at(&(&memory.plan.offsets[memory.buffers[&root]] + bytes))
            }
        }
    }

    /// The place of a value.
    fn value(&self, v: Value) -> Place {
        let p = self.level.places.of(v);
        self.place(p.root, &(&p.offset * (dtype_of(&self.level.graph, v).bytes() as i64)))
    }

    /// The slot that a root's memory is asked for in.
    fn slot(&self, root: RootId) -> Result<usize, String> {
        match self.place(root, &Expr::ZERO) {
            Place::Slot(n, _) => Ok(n),
            other => Err(format!("found {other:?}, expected a slot")),
        }
    }
}

impl Writer<'_> {
    /// The steps of a level.
    fn level(&mut self, level: &Level, outside: &Outside) -> Result<Vec<Step>, String> {
        let first_slot = self.slots;
        self.slots += level.memory.slots;
        let weights = self.place_weights(level)?;
        let site = Site { level, outside, first_slot, weights };
        let mut steps = Vec::new();
        for (at, event) in level.events.iter().enumerate() {
            for (root, bytes) in level.memory.allocs(at) {
                steps.push(Step::Alloc(site.slot(root)?, bytes.clone()));
            }
            steps.push(match event {
                Event::Let(symbol, e) => Step::Let(*symbol, e.clone()),
                Event::Read(v, element, symbol) => {
                    let dtype = dtype_of(&level.graph, *v);
                    let (symbol, place) = (*symbol, site.value(*v));
                    Step::Read(Read { symbol, place, offset: element * dtype.bytes(), dtype })
                }
                Event::Check(value, name) => {
                    Step::Check(Check { value: value.clone(), node: self.node_name(name) })
                }
                Event::Store(e, root, dtype) => {
                    Step::Store(e.clone(), site.place(*root, &Expr::ZERO), *dtype)
                }
                Event::Alloc(root, bytes) => Step::Alloc(site.slot(*root)?, bytes.clone()),
                Event::Call(d) => {
                    let used = level.uses[at].as_ref().ok_or("a call without a kernel")?;
                    self.call(&site, d, used.kernel)
                }
                Event::Procedure(p) => {
                    let used = level.uses[at].as_ref().ok_or("a call without a kernel")?;
                    self.procedure(&site, p, used.kernel)
                }
                Event::Host(h) => self.host(&site, h)?,
                Event::Control(control) => self.control(&site, control)?,
            });
        }
        Ok(steps)
    }

    fn node_name(&mut self, name: &str) -> usize {
        self.program.nodes.push(name.to_owned());
        self.program.nodes.len() - 1
    }

    fn call(&mut self, site: &Site<'_>, d: &Draft, number: usize) -> Step {
        let nest = &d.lowered.nest;
        let mut args: Vec<Place> = match d.held {
            Some(root) => vec![site.place(root, &Expr::ZERO)],
            None => d.lowered.reads.iter().map(|v| site.value(*v)).collect(),
        };
        let written = nest.buffers.last().map_or(1, |b| b.dtype.bytes() as i64);
        args.push(site.place(d.writes, &(&d.offset * written)));
        self.report.groups.push(self.kernels.group(number, &d.lowered.nodes, d.result, &site.level.places));
        let named = &d.lowered.named;
        let shared = nest.points() - self.kernels.schedules[number].shared_from;
        self.kernel(number, args, &d.name, [nest.flops(), shared], named)
    }

    /// The call of a kernel that a row gives.
    fn procedure(&mut self, site: &Site<'_>, p: &ProcedureCall, number: usize) -> Step {
        let results = &site.level.graph.nodes[p.node].outputs;
        let (scratch, bytes) = procedure::scratch(&p.kernel);
        if p.scratch.is_none() {
            self.program.scratch_bytes = self.program.scratch_bytes.maximum(&bytes);
        }
        let own = |at: Expr| match p.scratch {
            Some(root) => site.place(root, &at),
            None => Place::Scratch(at),
        };
        let tensors = p.reads.iter().chain(results).map(|v| site.value(*v));
        let args = tensors.chain(scratch.into_iter().map(own)).collect();
        let group = self.kernels.group(number, &[p.node], results.first().copied(), &site.level.places);
        self.report.groups.push(group);
        let name = site.level.graph.describe(p.node);
        self.kernel(number, args, &name, [Expr::ZERO; 2], &Named::default())
    }

    /// The call of a function of the host-op library.
    fn host(&mut self, site: &Site<'_>, h: &HostCall) -> Result<Step, String> {
        let op =
            self.program.host_ops.iter().position(|o| *o == h.op).ok_or("a call of an unknown function")?;
        let places = h.reads.iter().chain(&h.results).map(|v| site.value(*v));
        let args = places.zip(h.elements.iter().cloned()).collect();
        let node = self.node_name(&h.name);
        self.program.host_calls.push(crate::program::HostCall { op, args, node });
        Ok(Step::Host(self.program.host_calls.len() - 1))
    }

    /// A call, with its floating-point operations, and what says whether threads share it.
    fn kernel(
        &mut self,
        number: usize,
        args: Vec<Place>,
        name: &str,
        [flops, shared]: [Expr; 2],
        named: &Named,
    ) -> Step {
        let kernel = &self.kernels.made[number];
        let kept = kernel.buffers.values().filter(|b| b.access != Access::Scratch);
        let call = Call {
            kernel: number,
            args,
            dims: kernel.dims.iter().map(|s| named.resolve(&(*s).into())).collect(),
            tasks: named.resolve(&tasks(kernel)),
            shared: named.resolve(&shared),
            scratch: procedure::scratch(kernel).1,
            node: self.node_name(name),
            flops: named.resolve(&flops),
            bytes: named.resolve(&kept.fold(Expr::ZERO, |s, b| s + &b.len * (b.dtype.bytes() as i64))),
        };
        self.program.calls.push(call);
        Step::Call(self.program.calls.len() - 1)
    }

    fn control(&mut self, site: &Site<'_>, control: &Control) -> Result<Step, String> {
        let blocks: Vec<usize> =
            control.inner.iter().map(|inner| self.region(site, inner)).collect::<Result<_, _>>()?;
        Ok(match (&control.kind, &blocks[..]) {
            (Kind::If(cond), [then, otherwise]) => {
                Step::If { cond: cond.clone(), then: *then, otherwise: *otherwise }
            }
            (Kind::Loop(counter, extent, going), [body]) => {
                Step::Loop(Loop { counter: *counter, extent: extent.clone(), going: *going, body: *body })
            }
            _ => return Err("a number of regions that does not fit".to_owned()),
        })
    }

    /// The block of a region.
    fn region(&mut self, site: &Site<'_>, inner: &Inner) -> Result<usize, String> {
        let places = |of: &[(RootId, Expr)]| of.iter().map(|(r, e)| site.place(*r, e)).collect();
        let outside = Outside {
            inputs: places(&inner.inputs),
            outputs: places(&inner.outputs),
            states: places(&inner.states),
            arena: site.place(inner.arena, &Expr::ZERO),
        };
        // What is inside is not among the nodes that people are told of.
        let told = self.report.groups.len();
        let block = self.program.blocks.len();
        self.program.blocks.push(Vec::new());
        self.program.blocks[block] = self.level(&inner.level, &outside)?;
        for group in &mut self.report.groups[told..] {
            (group.nodes, group.result, group.part_of) = (Vec::new(), None, None);
        }
        Ok(block)
    }

    /// Gives every constant that a level reads a place in the weight segment.
    fn place_weights(&mut self, level: &Level) -> Result<HashMap<Value, u64>, String> {
        let mut out = HashMap::new();
        for v in level.events.iter().flat_map(Event::reads) {
            if let Root::Weight(w) = level.places.roots[level.places.of(*v).root]
                && !out.contains_key(&w)
            {
                let constant = level.graph.constant(w).ok_or("a weight is no constant")?;
                let packing = packing(&level.places.of(w).layout, &constant.ty().shape)?;
                let known = match constant {
                    Constant::Data(t) => Some((t.bytes().as_ptr(), t.bytes().len(), format!("{packing:?}"))),
                    Constant::Computed(_) => None,
                };
                let shared = known.as_ref().and_then(|k| self.weights.get(k)).copied();
                let offset = match shared {
                    Some(offset) => offset,
                    None => add_weight(&mut self.program, &level.graph.values[w].name, constant, packing),
                };
                self.weights.extend(known.map(|k| (k, offset)));
                out.insert(w, offset);
            }
        }
        Ok(out)
    }
}

/// The number of tasks of a kernel: the extent of its parallel loop.
pub(super) fn tasks(kernel: &Kernel) -> Expr {
    match &kernel.body[..] {
        [Stmt::For(l)] if l.kind == LoopKind::Parallel => l.extent.clone(),
        _ => Expr::ONE,
    }
}

fn dtype_of(graph: &Graph, v: Value) -> DType {
    graph.tensor_type(v).map_or(DType::U8, |t| t.dtype)
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

/// The program's outside: dimensions, inputs, outputs, states. Element types are those of the model.
fn ports(graph: &Graph, model: &Graph) -> Program {
    let port = |v: Value, name: &str| {
        let shape = graph.tensor_type(v).map_or_else(Vec::new, |t| t.shape.clone());
        Port { name: name.to_owned(), ty: TensorType { dtype: dtype_of(model, v), shape } }
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

/// Adds a constant to the weight segment; gives its offset.
fn add_weight(program: &mut Program, name: &str, constant: &Constant, packing: Option<Packing>) -> u64 {
    let name = if name.is_empty() { format!("weight{}", program.weights.len()) } else { name.to_owned() };
    let offset = program.weight_bytes;
    let weight = Weight { name, constant: constant.clone(), offset, packing };
    program.weight_bytes = (offset + weight.bytes() as u64).next_multiple_of(ALIGN as u64);
    program.weights.push(weight);
    offset
}

/// Gives every state's initial value a place in the weight segment.
fn place_states(graph: &Graph, program: &mut Program) -> Result<(), String> {
    for s in &graph.states {
        let name = &graph.values[s.value].name;
        add_weight(program, name, &s.init, None);
        let ty = graph.tensor_type(s.value).cloned().ok_or("a state is no tensor")?;
        let weight = program.weights.len() - 1;
        program.states.push((Port { name: name.clone(), ty }, weight));
    }
    Ok(())
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
