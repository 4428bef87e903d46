//! Places: which values share memory, and how each lies in it.
//!
//! A **root** is a piece of memory: an input, an output, a state variable, a weight, or a buffer in
//! the arena. Every stored value and view lies in a root, at an offset and with strides. A view
//! shares its operand's elements. What Concat and Pad assemble is written in place: their operands
//! lie in a part of the result, where nothing prevents it, and are copied there otherwise. The same goes
//! for what the kernel of a row changes into its result, if that is of use to nothing else.

use super::group::{Layout, Layouts};
use super::pack;
use super::sizes::follows;
use crate::graph::fuse::{Fate, Fusion, is_retyped};
use crate::graph::node::{self, assembled_parts};
use burin_ir::graph::{Def, Graph, Value};
use burin_ir::{Expr, Symbol, TensorType};
use std::collections::{HashMap, HashSet};

/// A piece of memory, in [`Places::roots`].
pub type RootId = usize;

/// What a root is.
#[derive(Clone, Debug, PartialEq)]
pub enum Root {
    /// An input of the graph.
    Input(usize),
    /// An output of the graph.
    Output(usize),
    /// A state variable.
    State(usize),
    /// A constant.
    Weight(Value),
    /// A buffer in the arena, of so many bytes.
    Arena(Expr),
}

/// Where a value lies.
#[derive(Clone, Debug)]
pub struct Placed {
    /// In which root.
    pub root: RootId,
    /// Elements from the root's start.
    pub offset: Expr,
    /// How its elements lie from there.
    pub layout: Layout,
    /// Whether it fills its root.
    pub whole: bool,
}

/// A part of an assembled value: from where it starts in it.
#[derive(Clone, Debug)]
struct Part {
    of: Value,
    start: Vec<Expr>,
}

/// Where every stored value and view lies.
pub struct Places {
    /// The pieces of memory.
    pub roots: Vec<Root>,
    placed: HashMap<Value, Placed>,
    parts: HashMap<Value, Part>,
    /// How weights are packed.
    packed: HashMap<Value, Layout>,
    /// Outputs that lie in their own root already; the others are copied at the end.
    pub direct_outputs: HashSet<usize>,
}

impl Layouts for Places {
    fn layout(&self, v: Value) -> Layout {
        self.placed[&v].layout.clone()
    }
}

impl Places {
    /// Where a stored value or view lies.
    pub fn of(&self, v: Value) -> &Placed {
        &self.placed[&v]
    }

    /// Whether a value was put into the part of an assembled value that it makes up.
    pub fn is_part_of(&self, v: Value, of: Value) -> bool {
        self.part_of(v) == Some(of)
    }

    /// The assembled value that a value is written into, in place.
    pub fn part_of(&self, v: Value) -> Option<Value> {
        self.parts.get(&v).map(|p| p.of)
    }

    /// Where the part of an assembled value lies that starts at `start`.
    pub fn part(&self, of: Value, start: &[Expr]) -> (RootId, Expr, Layout) {
        let p = &self.placed[&of];
        (p.root, &p.offset + &p.layout.index(start), p.layout.clone())
    }

    /// Decides where everything lies; `known` are the symbols that are known from the beginning.
    pub fn new(graph: &Graph, fusion: &Fusion, known: &HashSet<Symbol>) -> Result<Places, String> {
        let mut places = Places {
            roots: Vec::new(),
            placed: HashMap::new(),
            parts: HashMap::new(),
            packed: pack::layouts(graph, fusion)?,
            direct_outputs: HashSet::new(),
        };
        let viewed = viewed_values(graph, fusion);
        let pinned: HashSet<Value> = graph
            .outputs()
            .iter()
            .copied()
            .chain(graph.states.iter().map(|s| s.next))
            .chain(fusion.pinned.keys().copied())
            .collect();
        let changeable = fusion.changeable(graph);
        for node in &graph.regions[graph.body].nodes {
            let changes = node::is_update(&graph.nodes[*node]);
            let free = |v: Value| if changes { changeable.contains(&v) } else { !pinned.contains(&v) };
            for v in &graph.nodes[*node].outputs {
                places.claim_parts(graph, fusion, *v, (&viewed, &free), known);
            }
        }
        let outputs = places.output_roots(graph, fusion);
        for (i, v) in graph.inputs().iter().enumerate() {
            places.place_root(graph, *v, Root::Input(i), None);
        }
        for (i, s) in graph.states.iter().enumerate() {
            places.place_root(graph, s.value, Root::State(i), None);
        }
        // A part's whole comes after it in execution order, but must have its place before.
        for node in graph.regions[graph.body].nodes.iter().rev() {
            for v in &graph.nodes[*node].outputs {
                if matches!(fusion.fate(*v), Fate::Stored(_)) {
                    places.place_stored(graph, fusion, *v, &outputs);
                }
            }
        }
        for node in &graph.regions[graph.body].nodes {
            for v in &graph.nodes[*node].outputs {
                if let Fate::View(of) = fusion.fate(*v) {
                    places.place_view(graph, fusion, *v, of);
                }
            }
        }
        Ok(places)
    }

    /// Ensures a place for a constant.
    pub fn place_constant(&mut self, graph: &Graph, v: Value) {
        if matches!(graph.values[v].def, Def::Const(_)) && !self.placed.contains_key(&v) {
            let packed = self.packed.get(&v).cloned();
            self.place_root(graph, v, Root::Weight(v), packed);
        }
    }

    /// Puts a value into a root of its own, row-major if no layout is given.
    fn place_root(&mut self, graph: &Graph, v: Value, root: Root, layout: Option<Layout>) {
        let Some(ty) = graph.tensor_type(v) else { return };
        let layout = layout.unwrap_or_else(|| Layout::contiguous(&ty.shape));
        self.roots.push(root);
        let placed = Placed { root: self.roots.len() - 1, offset: Expr::ZERO, layout, whole: true };
        self.placed.insert(v, placed);
    }

    /// Makes the operands of an assembled value its parts, where they can be written in place.
    fn claim_parts(
        &mut self,
        graph: &Graph,
        fusion: &Fusion,
        whole: Value,
        (viewed, free): (&HashMap<Value, bool>, &dyn Fn(Value) -> bool),
        known: &HashSet<Symbol>,
    ) {
        let Some((node, _)) = graph.producer(whole) else { return };
        if !matches!(fusion.fate(whole), Fate::Stored(_)) {
            return;
        }
        let Some(parts) = assembled_parts(graph, node) else { return };
        // When a part is computed, the size of the whole may not be known.
        let known = |t: &TensorType| t.shape.iter().all(|d| follows(d, known));
        if !graph.tensor_type(whole).is_some_and(known) {
            return;
        }
        let times = |v: Value| parts.iter().filter(|(p, _)| *p == v).count();
        for (v, start) in &parts {
            let own_kernel = graph.producer(*v).is_some() && matches!(fusion.fate(*v), Fate::Stored(_));
            let free = !self.parts.contains_key(v) && free(*v) && times(*v) == 1;
            // What lies in a part with gaps, or in another order, cannot be seen under another shape.
            let dense = fusion.orders.of(whole).is_none() && dense_part(graph, *v, whole);
            // Nor can it be seen under another type, which has no elements between four bytes.
            let plain = viewed.get(v).is_none_or(|retyped| dense && !retyped);
            if own_kernel && free && plain {
                self.parts.insert(*v, Part { of: whole, start: start.clone() });
            }
        }
    }

    /// The stored values that are outputs, or the memory behind one.
    fn output_roots(&mut self, graph: &Graph, fusion: &Fusion) -> HashMap<Value, usize> {
        let mut out = HashMap::new();
        for (i, v) in graph.outputs().iter().enumerate() {
            let mut base = *v;
            while let Fate::View(of) = fusion.fate(base) {
                base = of;
            }
            let stored = graph.producer(base).is_some() && matches!(fusion.fate(base), Fate::Stored(_));
            let row_major = fusion.orders.of(base).is_none();
            if stored && row_major && !self.parts.contains_key(&base) && !out.contains_key(&base) {
                out.insert(base, i);
                self.direct_outputs.insert(i);
            }
        }
        out
    }

    fn place_stored(&mut self, graph: &Graph, fusion: &Fusion, v: Value, outputs: &HashMap<Value, usize>) {
        let Some(ty) = graph.tensor_type(v) else { return };
        if let Some(part) = self.parts.get(&v).cloned() {
            let (root, offset, layout) = self.part(part.of, &part.start);
            self.placed.insert(v, Placed { root, offset, layout, whole: false });
            return;
        }
        let root = outputs.get(&v).map_or(Root::Arena(ty.bytes()), |i| Root::Output(*i));
        let layout = fusion.orders.of(v).map(|order| Layout::ordered(&ty.shape, order));
        self.place_root(graph, v, root, layout);
    }

    fn place_view(&mut self, graph: &Graph, fusion: &Fusion, v: Value, of: Value) {
        self.place_constant(graph, of);
        let Some(ty) = graph.tensor_type(v) else { return };
        let Some(base) = self.placed.get(&of) else { return };
        let layout = match fusion.orders.of(v) {
            Some(order) => Layout::ordered(&ty.shape, order),
            None => Layout::contiguous(&ty.shape),
        };
        self.placed.insert(v, Placed { layout, ..base.clone() });
    }
}

/// The values that are seen under another shape, and whether under another type.
fn viewed_values(graph: &Graph, fusion: &Fusion) -> HashMap<Value, bool> {
    let mut out = HashMap::new();
    for node in &graph.regions[graph.body].nodes {
        for v in &graph.nodes[*node].outputs {
            if let Fate::View(of) = fusion.fate(*v) {
                *out.entry(of).or_insert(false) |= is_retyped(graph, *v);
            }
        }
    }
    out
}

/// Whether a part of `whole` with the shape of `v` lies without gaps: only leading dimensions of
/// extent one come before the first one that differs.
fn dense_part(graph: &Graph, v: Value, whole: Value) -> bool {
    let (Some(part), Some(whole)) = (graph.tensor_type(v), graph.tensor_type(whole)) else { return false };
    let differs = part.shape.iter().zip(&whole.shape).rposition(|(a, b)| a != b);
    differs.is_none_or(|last| part.shape[..last].iter().all(|d| *d == 1))
}
