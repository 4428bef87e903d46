//! What happens in a run of a graph, in order, before memory is planned.

use super::drafts::{draft, final_copies};
use super::group::Lowered;
use super::host::{self, HostCall};
use super::level::{Level, Lowering};
use super::place::{Places, RootId};
use super::procedure::{self, ProcedureCall};
use super::regions;
use crate::graph::fuse::{Fate, Fusion};
use crate::graph::node::{is_update, open_requirements};
use burin_ir::graph::{Graph, Node, Value};
use burin_ir::{DType, Expr, Symbol};
use std::collections::HashSet;

/// A kernel call.
pub(super) struct Draft {
    pub(super) lowered: Lowered,
    pub(super) writes: RootId,
    pub(super) offset: Expr,
    pub(super) name: String,
    /// The stored value that this computes or fills a part of.
    pub(super) result: Option<Value>,
    /// Where its one operand was copied to before, if it is not read where it lies.
    pub(super) held: Option<RootId>,
}

/// Something that happens.
pub(super) enum Event {
    /// A kernel runs.
    Call(Draft),
    /// A kernel that an op's row gives runs.
    Procedure(ProcedureCall),
    /// A function of the host-op library runs.
    Host(HostCall),
    /// An element of a value becomes known as a symbol.
    Read(Value, usize, Symbol),
    /// A size that depends on data is computed.
    Let(Symbol, Expr),
    /// What a node of that name wants to be zero or above.
    Check(Expr, String),
    /// An expression's value becomes the one element of a root.
    Store(Expr, RootId, DType),
    /// A root that loses what it held gets so many bytes.
    Alloc(RootId, Expr),
    /// Regions run.
    Control(Box<Control>),
}

/// A node that runs regions.
pub(super) struct Control {
    /// Which, and how often.
    pub(super) kind: Kind,
    /// The regions.
    pub(super) inner: Vec<Inner>,
    /// The outer roots that they write.
    pub(super) writes: Vec<RootId>,
    /// The outer values that they read.
    pub(super) reads: Vec<Value>,
}

/// How regions run.
pub(super) enum Kind {
    /// The first where this is not zero, else the second.
    If(Expr),
    /// The one region for each number below the extent, as long as the last symbol is not zero.
    Loop(Symbol, Expr, Option<Symbol>),
}

/// A region, with the places around it of what it is given.
pub(super) struct Inner {
    /// The region as a graph of its own.
    pub(super) level: Level,
    /// Where its inputs lie: roots, and bytes from their start.
    pub(super) inputs: Vec<(RootId, Expr)>,
    /// The same for its outputs.
    pub(super) outputs: Vec<(RootId, Expr)>,
    /// The same for its states.
    pub(super) states: Vec<(RootId, Expr)>,
    /// The root that its own arena is.
    pub(super) arena: RootId,
}

impl Event {
    /// The values that it reads.
    pub(super) fn reads(&self) -> &[Value] {
        match self {
            Event::Call(d) => &d.lowered.reads,
            Event::Procedure(p) => &p.reads,
            Event::Host(h) => &h.reads,
            Event::Read(v, ..) => std::slice::from_ref(v),
            Event::Control(c) => &c.reads,
            Event::Let(..) | Event::Check(..) | Event::Store(..) | Event::Alloc(..) => &[],
        }
    }

    /// The roots that it reads.
    pub(super) fn reads_roots(&self, places: &Places) -> Vec<RootId> {
        match self {
            Event::Call(Draft { held: Some(root), .. }) => vec![*root],
            _ => self.reads().iter().map(|v| places.of(*v).root).collect(),
        }
    }

    /// The roots that it writes.
    pub(super) fn writes(&self) -> &[RootId] {
        match self {
            Event::Call(d) => std::slice::from_ref(&d.writes),
            Event::Procedure(p) => &p.writes,
            Event::Host(h) => &h.writes,
            Event::Store(_, root, _) | Event::Alloc(root, _) => std::slice::from_ref(root),
            Event::Control(c) => &c.writes,
            Event::Read(..) | Event::Let(..) | Event::Check(..) => &[],
        }
    }

    /// Whether it sets a symbol.
    pub(super) fn sets(&self, symbol: Symbol) -> bool {
        match self {
            Event::Read(_, _, s) | Event::Let(s, _) => *s == symbol,
            Event::Control(c) => c.inner.iter().any(|i| i.level.events.iter().any(|e| e.sets(symbol))),
            _ => false,
        }
    }
}

/// The events of a graph while they are gathered.
pub(super) struct Events<'a> {
    /// The graph.
    pub(super) graph: &'a Graph,
    pub(super) fusion: &'a Fusion,
    pub(super) places: &'a mut Places,
    /// The symbols that are known by now.
    pub(super) known: HashSet<Symbol>,
    /// What is gathered.
    pub(super) all: Vec<Event>,
    /// Roots that get their memory by events of their own.
    pub(super) managed: HashSet<RootId>,
}

impl Events<'_> {
    /// Adds what a run of the graph does, node by node.
    pub(super) fn gather(&mut self, lowering: &mut Lowering<'_>) -> Result<(), String> {
        self.sizes(lowering);
        for node in self.graph.regions[self.graph.body].nodes.clone() {
            self.node(node, lowering)?;
        }
        let mut drafts = Vec::new();
        final_copies(self.graph, self.fusion, self.places, &mut drafts)?;
        self.calls(drafts);
        Ok(())
    }

    fn node(&mut self, node: Node, lowering: &mut Lowering<'_>) -> Result<(), String> {
        let data = &self.graph.nodes[node];
        let open = open_requirements(self.graph, node)?;
        self.all.extend(open.into_iter().map(|e| Event::Check(e, self.graph.describe(node))));
        if !data.regions.is_empty() {
            return regions::control(self, node, lowering)
                .map_err(|e| format!("{} cannot be compiled: {e}", self.graph.describe(node)));
        }
        if let Some(call) = procedure::call(self.graph, self.places, node, &lowering.constant)? {
            if is_update(data) {
                let mut copies = Vec::new();
                draft(self.graph, self.fusion, self.places, data.outputs[0], &mut copies)?;
                self.calls(copies);
            }
            self.all.push(Event::Procedure(call));
            return Ok(());
        }
        if let Some(call) = host::call(self.graph, self.places, node)? {
            self.all.push(Event::Host(call));
            return Ok(());
        }
        if data.op.name == "Read" {
            self.read(node, lowering);
        }
        let mut drafts = Vec::new();
        for v in &data.outputs {
            if matches!(self.fusion.fate(*v), Fate::Stored(_)) {
                draft(self.graph, self.fusion, self.places, *v, &mut drafts)?;
            }
        }
        self.calls(drafts);
        Ok(())
    }

    /// Adds kernel calls. What is empty whatever the dimensions are needs none.
    pub(super) fn calls(&mut self, drafts: Vec<Draft>) {
        let some = |d: &Draft| d.lowered.nest.axes.iter().all(|(_, n)| *n != 0);
        self.all.extend(drafts.into_iter().filter(some).map(Event::Call));
    }

    fn read(&mut self, node: Node, lowering: &mut Lowering<'_>) {
        let data = &self.graph.nodes[node];
        let Some(v) = data.inputs[0].filter(|v| self.fusion.pinned.contains_key(v)) else { return };
        for (i, name) in data.attrs.strs("symbols").unwrap_or_default().iter().enumerate() {
            let symbol = Symbol::new(name);
            self.known.insert(symbol);
            self.all.push(Event::Read(v, i, symbol));
        }
        self.sizes(lowering);
    }

    /// Sets a symbol.
    pub(super) fn set(&mut self, symbol: Symbol, e: Expr) {
        self.known.insert(symbol);
        self.all.push(Event::Let(symbol, e));
    }

    /// Computes the named sizes that are known by now.
    pub(super) fn sizes(&mut self, lowering: &mut Lowering<'_>) {
        let ready = |e: &Expr| e.symbols().iter().all(|s| self.known.contains(s));
        let (now, later) = std::mem::take(&mut lowering.sizes).into_iter().partition(|(_, e)| ready(e));
        lowering.sizes = later;
        let now: Vec<(Symbol, Expr)> = now;
        now.into_iter().for_each(|(s, e)| self.set(s, e));
    }
}

/// Every size must follow from what is known when a graph's run begins, or from what was read since.
pub(super) fn check_symbols(entry: &HashSet<Symbol>, events: &[Event]) -> Result<(), String> {
    let mut known = entry.clone();
    for e in events {
        match e {
            Event::Read(_, _, s) | Event::Let(s, _) => {
                known.insert(*s);
            }
            Event::Control(c) => known.extend(c.inner.iter().flat_map(|i| i.level.sets.iter().copied())),
            Event::Check(..) | Event::Store(..) | Event::Alloc(..) => {}
            Event::Call(d) => {
                let dims = d.lowered.nest.dims().into_iter();
                let symbols = dims.flat_map(|s| d.lowered.named.resolve(&s.into()).symbols());
                check_known(&known, symbols, &d.name)?;
            }
            Event::Host(h) => {
                check_known(&known, h.elements.iter().flat_map(Expr::symbols), &h.name)?;
            }
            Event::Procedure(p) => check_known(&known, p.kernel.dims.iter().copied(), &p.kernel.name)?,
        }
    }
    Ok(())
}

fn check_known(
    known: &HashSet<Symbol>,
    symbols: impl IntoIterator<Item = Symbol>,
    name: &str,
) -> Result<(), String> {
    match symbols.into_iter().find(|s| !known.contains(s)) {
        Some(s) => Err(format!(
            "{name} cannot be compiled: the size {s} depends on data in a way that has no compiled form yet; \
             the interpreter runs it"
        )),
        None => Ok(()),
    }
}
