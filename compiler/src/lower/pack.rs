//! Packing: in which layout each weight is written.
//!
//! A sum of products reads its weights in vectors along the innermost axis of its result. Weights are
//! written so that these vectors lie one behind the other in the order in which the sum's loops reach
//! them: in panels of [`PANEL`] columns where the data are the same for all columns, and otherwise
//! (each channel has data of its own, or there are fewer columns) with the columns innermost. What is
//! read by kernels that want different layouts, or in any other way, stays row-major.

use super::group::{self, Layout};
use super::nest::visit;
use crate::graph::fuse::{Fate, Fusion};
use crate::graph::layout::{factors, first_load};
use crate::graph::node::{assembled_parts, is_update};
use crate::packing::PANEL;
use burin_ir::graph::{Graph, Value};
use burin_ir::{Expr, Symbol, Term, TermKind};
use std::collections::{HashMap, HashSet};

/// Columns of the narrowest vector.
const LEAST_VECTOR: i64 = 4;

/// The layout of every weight that is not row-major.
pub fn layouts(graph: &Graph, fusion: &Fusion) -> Result<HashMap<Value, Layout>, String> {
    let mut wanted = Wanted(HashMap::new());
    for v in graph.outputs().iter().chain(graph.states.iter().map(|s| &s.next)) {
        wanted.note(*v, None);
    }
    for node in &graph.regions[graph.body].nodes {
        if !graph.nodes[*node].regions.is_empty() {
            graph.nodes[*node].inputs.iter().flatten().for_each(|v| wanted.note(*v, None));
            continue;
        }
        for v in &graph.nodes[*node].outputs {
            match fusion.fate(*v) {
                Fate::View(of) => wanted.note(of, None),
                Fate::Stored(_) => match assembled_parts(graph, *node) {
                    Some(parts) => {
                        // The kernel of a row wants everything row-major.
                        let others = graph.nodes[*node].inputs.iter().skip(1).flatten();
                        others.filter(|_| is_update(&graph.nodes[*node])).for_each(|o| wanted.note(*o, None));
                        for (part, _) in parts {
                            wanted.note_copied(graph, fusion, part)?;
                        }
                    }
                    None => wanted.note_kernel(graph, fusion, *v)?,
                },
                Fate::Dead | Fate::Inlined => {}
            }
        }
    }
    Ok(wanted.0.into_iter().filter_map(|(v, layout)| layout.map(|l| (v, l))).collect())
}

/// What each value is wanted in; `None`: row-major.
struct Wanted(HashMap<Value, Option<Layout>>);

impl Wanted {
    fn note(&mut self, v: Value, layout: Option<Layout>) {
        let all = self.0.entry(v).or_insert_with(|| layout.clone());
        if *all != layout {
            *all = None;
        }
    }

    /// What a kernel reads that copies a part of an assembled value.
    fn note_copied(&mut self, graph: &Graph, fusion: &Fusion, part: Value) -> Result<(), String> {
        let stored = graph.producer(part).is_none() || !matches!(fusion.fate(part), Fate::Inlined);
        let reads = if stored { vec![part] } else { group::definition(graph, fusion, part)?.reads };
        reads.into_iter().for_each(|r| self.note(r, None));
        Ok(())
    }

    fn note_kernel(&mut self, graph: &Graph, fusion: &Fusion, v: Value) -> Result<(), String> {
        if !fusion.contracts(v) {
            self.note_plain(graph, fusion, v);
            return Ok(());
        }
        let kernel = group::definition(graph, fusion, v)?;
        let product = factors(&kernel.term);
        for (number, read) in kernel.reads.iter().enumerate() {
            let weights = product.as_ref().filter(|(_, w)| load_of(w).is_some_and(|(n, _)| n == number));
            let layout = match weights {
                Some((data, w)) if graph.constant(*read).is_some() && loads(&kernel.term, number) == 1 => {
                    packed(graph, fusion, v, &kernel, data, w)
                }
                _ => None,
            };
            self.note(*read, layout);
        }
        Ok(())
    }

    /// A kernel without a product wants everything row-major.
    fn note_plain(&mut self, graph: &Graph, fusion: &Fusion, v: Value) {
        let (mut nodes, mut seen) = (vec![v], HashSet::new());
        while let Some(v) = nodes.pop() {
            if !seen.insert(v) {
                continue;
            }
            let Some((node, _)) = graph.producer(v) else { continue };
            for operand in graph.nodes[node].inputs.iter().copied().flatten() {
                match graph.producer(operand) {
                    None => self.note(operand, None),
                    Some(_) if fusion.fate(operand) == Fate::Inlined => nodes.push(operand),
                    Some(_) => {}
                }
            }
        }
    }
}

fn load_of(t: &Term) -> Option<(usize, &[Expr])> {
    match t.kind() {
        TermKind::Load { input, index } => Some((*input, index)),
        _ => None,
    }
}

/// At how many places a term loads from an operand.
fn loads(t: &Term, operand: usize) -> usize {
    let mut count = 0;
    visit(t, &mut |t| count += usize::from(load_of(t).is_some_and(|(n, _)| n == operand)));
    count
}

/// The layout of the weights `w` of the sum of products that a kernel computes.
fn packed(
    graph: &Graph,
    fusion: &Fusion,
    v: Value,
    kernel: &group::Definition,
    data: &Term,
    w: &Term,
) -> Option<Layout> {
    let (number, index) = load_of(w)?;
    // A panel is wider than a tile of the narrowest vectors of 64-bit elements.
    let ty = graph.tensor_type(kernel.reads[number]).filter(|t| t.dtype.bits() <= 32)?;
    let shape: Vec<i64> = ty.shape.iter().map(Expr::as_const).collect::<Option<_>>()?;
    let innermost = fusion.orders.of(v).map_or(kernel.axes.len().checked_sub(1)?, |o| o[o.len() - 1]);
    let column = kernel.axes[innermost];
    let axis = index.iter().position(|e| e.as_symbol() == Some(column))?;
    let first = first_load(data)?;
    let (operand, place) = load_of(&first)?;
    let flat = flat_index(graph, fusion, kernel.reads[operand], place)?;
    let mut rest = Vec::new();
    for (d, e) in index.iter().enumerate().filter(|(d, _)| *d != axis) {
        // What follows other axes of the result changes most slowly.
        let s = e.as_symbol().or((shape[d] == 1).then_some(column))?;
        let step = if kernel.axes.contains(&s) { i64::MAX } else { step_of(&flat, s)? };
        rest.push((d, step));
    }
    rest.sort_by_key(|(_, step)| std::cmp::Reverse(*step));
    let order: Vec<usize> = rest.into_iter().map(|(d, _)| d).collect();
    if shape[axis] >= PANEL && !place.iter().any(|e| e.mentions(column)) {
        return Some(Layout::panels(&shape, axis, &order));
    }
    // Too few columns for a vector: inner products, each along its own weights.
    let inner_products = shape[axis] < LEAST_VECTOR;
    let order: Vec<usize> = match inner_products {
        true => [axis].into_iter().chain(order).collect(),
        false => order.into_iter().chain([axis]).collect(),
    };
    let layout = Layout::ordered(&ty.shape, &order);
    (layout != Layout::contiguous(&ty.shape)).then_some(layout)
}

/// Where an element of the data lies, as far as its order tells.
fn flat_index(graph: &Graph, fusion: &Fusion, v: Value, at: &[Expr]) -> Option<Expr> {
    let shape = &graph.tensor_type(v)?.shape;
    let layout = match fusion.orders.of(v) {
        Some(order) => Layout::ordered(shape, order),
        None => Layout::contiguous(shape),
    };
    Some(layout.index(at))
}

/// How far the data's index moves with a symbol, at typical sizes.
fn step_of(flat: &Expr, s: Symbol) -> Option<i64> {
    flat.linear_in(s).map(|(a, _)| crate::memory::typical(&a))
}
