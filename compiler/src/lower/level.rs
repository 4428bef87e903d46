//! A graph on its way to steps: the whole one, or a region as a graph of its own.

use super::arena::Memory;
use super::events::{Event, Events, check_symbols};
use super::kernels::{Kernels, Use};
use super::place::Places;
use crate::graph::fuse::{self, Fusion};
use burin_ir::graph::Graph;
use burin_ir::{Expr, Symbol};
use std::collections::HashSet;

/// What the levels of one program share while they are lowered.
pub(super) struct Lowering<'m> {
    /// Their kernels.
    pub(super) kernels: Kernels<'m>,
    /// Named sizes that are not computed yet.
    pub(super) sizes: Vec<(Symbol, Expr)>,
    /// Symbols that are known from the beginning of a call: its dimensions, and `lets`.
    pub(super) constant: HashSet<Symbol>,
    /// Symbols that follow from dimensions alone, in order.
    pub(super) lets: Vec<(Symbol, Expr)>,
    /// How many names were made.
    pub(super) names: usize,
}

impl Lowering<'_> {
    /// A symbol of its own.
    pub(super) fn name(&mut self, what: &str) -> Symbol {
        self.names += 1;
        Symbol::new(&format!("?{what}{}", self.names))
    }
}

/// A graph with its events, and where all that it stores lies.
pub(super) struct Level {
    pub(super) graph: Graph,
    pub(super) fusion: Fusion,
    pub(super) places: Places,
    pub(super) events: Vec<Event>,
    /// For each event that is a call: its kernel.
    pub(super) uses: Vec<Option<Use>>,
    pub(super) memory: Memory,
    /// The symbols that it sets and that are known after it.
    pub(super) sets: Vec<Symbol>,
}

/// Adds events at the end of a level's; gives the symbols that it sets and that are known after it.
pub(super) type After<'a> = dyn FnMut(&mut Events<'_>, &mut Lowering<'_>) -> Result<Vec<Symbol>, String> + 'a;

/// What a level is told from outside.
pub(super) struct Entry<'a> {
    /// The symbols that are known when it begins, and stay as they are.
    pub(super) known: HashSet<Symbol>,
    /// Those that are known and change each time that it runs.
    pub(super) varying: Vec<Symbol>,
    /// For each output: whether it asks for the output's memory itself.
    pub(super) allocates: Vec<bool>,
    /// Adds events before and after the graph's own.
    pub(super) before: &'a dyn Fn(&mut Events<'_>),
    pub(super) after: &'a mut After<'a>,
}

impl Level {
    /// Decides all that can be decided without knowing where what comes from outside lies.
    pub(super) fn new(graph: Graph, entry: Entry<'_>, lowering: &mut Lowering<'_>) -> Result<Level, String> {
        let fusion = fuse::run(&graph)?;
        let mut places = Places::new(&graph, &fusion, &entry.known)?;
        for v in graph.values.keys() {
            places.place_constant(&graph, v);
        }
        let known = entry.known.iter().chain(&entry.varying).copied().collect();
        let mut events = Events {
            graph: &graph,
            fusion: &fusion,
            places: &mut places,
            known,
            all: Vec::new(),
            managed: HashSet::new(),
        };
        (entry.before)(&mut events);
        events.gather(lowering)?;
        let sets = (entry.after)(&mut events, lowering)?;
        let (managed, all) = (events.managed, events.all);
        check_symbols(&entry.known.iter().chain(&entry.varying).copied().collect(), &all)?;
        let use_of = |e: &Event| match e {
            Event::Call(d) => Some(lowering.kernels.of(&d.lowered.nest, &d.name)),
            Event::Procedure(p) => Some(lowering.kernels.given(&p.kernel)),
            _ => None,
        };
        let uses: Vec<Option<Use>> = all.iter().map(use_of).collect();
        let name = lowering.name("arena");
        let fixed = entry.known.union(&lowering.constant).copied().collect();
        let memory = Memory::plan(&graph, &places, (&all, &uses), &fixed, &entry.allocates, &managed, name);
        Ok(Level { graph, fusion, places, events: all, uses, memory, sets })
    }
}
