//! The memory of a run: which roots lie in the arena, how long each is needed, and what has a slot.
//!
//! A root whose size follows from the inputs' dimensions has a place in the arena, or is an output of
//! the caller's. Any other has a slot, for which memory is asked for right before it is first written;
//! one slot serves several roots, one after another.

use super::events::Event;
use super::kernels::Use;
use super::place::{Places, Root, RootId};
use super::sizes::follows;
use crate::memory::{self, Buffer};
use burin_ir::graph::Graph;
use burin_ir::{Expr, Symbol};
use std::collections::{HashMap, HashSet};

/// Memory that is asked for during a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// A slot of the level's own.
    Own(usize),
    /// That of whoever wants the output of that number.
    Output(usize),
}

/// Where the roots of a run lie.
pub(super) struct Memory {
    /// The arena.
    pub(super) plan: memory::Plan,
    /// For each root in the arena its number in the plan.
    pub(super) buffers: HashMap<RootId, usize>,
    /// For each root with a slot: which one, and its size in bytes.
    pub(super) slot_of: HashMap<RootId, (Slot, Expr)>,
    /// How many slots of its own there are.
    pub(super) slots: usize,
    /// The roots with a slot, after the event that first writes them, in the order of events.
    starts: Vec<(usize, RootId)>,
}

/// The first and the last event that touch a root.
type Life = (usize, usize);

impl Memory {
    /// Plans for a run of a graph. `known` are the symbols that do not change while the arena is there;
    /// `allocates` says of each output whether its memory is asked for here, and `managed` roots get
    /// theirs by events of their own.
    pub(super) fn plan(
        graph: &Graph,
        places: &Places,
        (events, uses): (&[Event], &[Option<Use>]),
        known: &HashSet<Symbol>,
        allocates: &[bool],
        managed: &HashSet<RootId>,
        name: Symbol,
    ) -> Memory {
        let (lives, order) = lives(places, events);
        let mut memory = slotted(graph, places, known, allocates, &order, &lives);
        memory.starts.retain(|(_, root)| !managed.contains(root));
        let in_arena =
            |r: &RootId| matches!(places.roots[*r], Root::Arena(_)) && !memory.slot_of.contains_key(r);
        let in_arena: Vec<RootId> = order.into_iter().filter(in_arena).collect();
        (memory.buffers, memory.plan) = arena(places, events, uses, in_arena, lives, name);
        memory
    }

    /// The roots that get memory in a slot right before an event, with their sizes in bytes.
    pub(super) fn allocs(&self, event: usize) -> impl Iterator<Item = (RootId, &Expr)> {
        let from = self.starts.partition_point(|(at, _)| *at < event);
        let now = self.starts[from..].iter().take_while(move |(at, _)| *at == event);
        now.map(|(_, root)| (*root, &self.slot_of[root].1))
    }
}

/// How long each root is needed, and the roots in the order in which that begins.
fn lives(places: &Places, events: &[Event]) -> (HashMap<RootId, Life>, Vec<RootId>) {
    let mut lives: HashMap<RootId, Life> = HashMap::new();
    let mut order = Vec::new();
    for (at, event) in events.iter().enumerate() {
        for root in event.reads_roots(places).into_iter().chain(event.writes().iter().copied()) {
            lives.entry(root).and_modify(|l| l.1 = at).or_insert_with(|| {
                order.push(root);
                (at, at)
            });
        }
    }
    (lives, order)
}

/// The bytes of a root of the call's own.
fn size(graph: &Graph, places: &Places, root: RootId) -> Option<Expr> {
    match &places.roots[root] {
        Root::Arena(bytes) => Some(bytes.clone()),
        Root::Output(i) => Some(graph.tensor_type(graph.outputs()[*i])?.bytes()),
        Root::Input(_) | Root::State(_) | Root::Weight(_) => None,
    }
}

fn slotted(
    graph: &Graph,
    places: &Places,
    known: &HashSet<Symbol>,
    allocates: &[bool],
    order: &[RootId],
    lives: &HashMap<RootId, Life>,
) -> Memory {
    let mut out = Memory {
        plan: memory::Plan::default(),
        buffers: HashMap::new(),
        slot_of: HashMap::new(),
        slots: 0,
        starts: Vec::new(),
    };
    // Until which event each slot is taken.
    let mut taken: Vec<usize> = Vec::new();
    for root in order {
        let Some(bytes) = size(graph, places, *root) else { continue };
        let (first, last) = lives[root];
        let slot = match &places.roots[*root] {
            Root::Output(i) if allocates[*i] => Slot::Output(*i),
            Root::Arena(_) if !follows(&bytes, known) => {
                let free = taken.iter().position(|until| *until < first);
                let number = free.unwrap_or(taken.len());
                taken.resize(taken.len().max(number + 1), last);
                taken[number] = last;
                Slot::Own(number)
            }
            _ => continue,
        };
        out.slot_of.insert(*root, (slot, bytes));
        out.starts.push((first, *root));
    }
    out.slots = taken.len();
    out
}

/// Places in the arena; a root that may take over another's memory becomes the same buffer.
fn arena(
    places: &Places,
    events: &[Event],
    uses: &[Option<Use>],
    order: Vec<RootId>,
    mut lives: HashMap<RootId, Life>,
    name: Symbol,
) -> (HashMap<RootId, usize>, memory::Plan) {
    let size = |r: RootId| match &places.roots[r] {
        Root::Arena(bytes) => bytes.clone(),
        _ => Expr::ZERO,
    };
    let own: HashSet<RootId> = order.iter().copied().collect();
    let mut joined: HashMap<RootId, RootId> = HashMap::new();
    for (at, (event, used)) in events.iter().zip(uses).enumerate() {
        let (Event::Call(d), Some(used)) = (event, used) else { continue };
        let starts = own.contains(&d.writes) && lives.get(&d.writes).is_some_and(|l| l.0 == at);
        if !starts || d.offset != 0 || d.held.is_some() {
            continue;
        }
        let root = |b: usize| {
            let read = places.of(d.lowered.reads[b]).root;
            *joined.get(&read).unwrap_or(&read)
        };
        for b in &used.in_place {
            let read = places.of(d.lowered.reads[*b]);
            let source = root(*b);
            // The same memory may be read as another value too, at other elements.
            let elsewhere = (0..d.lowered.reads.len()).any(|i| {
                let fits = used.in_place.contains(&i) && places.of(d.lowered.reads[i]).offset == 0;
                !fits && root(i) == source
            });
            if elsewhere {
                continue;
            }
            let ends = own.contains(&source) && lives.get(&source).is_some_and(|l| l.1 == at);
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
    (numbers, memory::plan(&buffers, name.name()))
}
