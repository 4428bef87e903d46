//! Orders: which values keep their dimensions in memory in another order than the graph's.
//!
//! A sum of products is computed in vectors along its *column axis*, the one that indexes the
//! weights and not the data (the channels of a convolution's result); where it lies innermost, vectors
//! are stored whole, and weights are read in the order in which they are packed. So a convolution's
//! result has its channels last, and so has whatever follows it position by position (activations,
//! poolings, sums, padding, concatenation). Everything else is row-major. An order changes how fast
//! a program is and never what it computes: indices go through [`crate::lower::group::Layout`].
//!
//! Where an order ends (an output of the model, a change of shape) elements are copied once; what
//! [`Orders::changes`] counts.

use super::node::definition;
use burin_ir::graph::{Constant, Graph, Node, Value};
use burin_ir::ops::Meaning;
use burin_ir::{Element, Expr, ReduceOp, ScalarOp, Symbol, Term, TermKind};
use std::collections::{HashMap, HashSet};

/// Fewer columns are not worth a layout of their own.
const LEAST_COLUMNS: i64 = 8;

/// The values that are not row-major, each with its dimensions from the outermost to the innermost.
#[derive(Clone, Debug, Default)]
pub struct Orders(HashMap<Value, Vec<usize>>);

/// What is known of values on the way through the graph.
#[derive(Default)]
struct Known {
    /// The images of convolutions.
    images: HashSet<Value>,
    /// Elements of a value with an order, moved to other places.
    moved: HashSet<Value>,
}

impl Orders {
    /// Decides the order of every node's results; those that are pinned lie row-major.
    pub fn assign(graph: &Graph, pinned: &dyn Fn(Value) -> bool) -> Result<Orders, String> {
        let mut orders = Orders::default();
        let nodes = &graph.regions[graph.body].nodes;
        let convolutions =
            nodes.iter().map(|n| &graph.nodes[*n]).filter(|n| matches!(n.op.name, "Conv" | "IntegerConv"));
        let images = convolutions.filter_map(|n| n.inputs[0]).collect();
        let mut known = Known { images, ..Known::default() };
        for node in nodes {
            let n = &graph.nodes[*node];
            for (at, v) in n.outputs.iter().enumerate() {
                if pinned(*v) || !n.regions.is_empty() {
                    continue;
                }
                if let Some(order) = orders.choose(graph, *node, at, &known)? {
                    orders.0.insert(*v, order);
                }
            }
            let from_ordered = |v: &Value| orders.0.contains_key(v) || known.moved.contains(v);
            if matches!(n.op.meaning, Meaning::Movement(_)) && n.inputs.iter().flatten().any(from_ordered) {
                known.moved.extend(&n.outputs);
            }
        }
        Ok(orders)
    }

    /// A value's order; `None`: row-major.
    pub fn of(&self, v: Value) -> Option<&[usize]> {
        self.0.get(&v).map(Vec::as_slice)
    }

    /// How many values have an order of their own.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many uses of a value with an order of its own make a copy of it.
    pub fn changes(&self, graph: &Graph) -> usize {
        let nodes = graph.regions[graph.body].nodes.iter();
        let views = nodes.map(|n| &graph.nodes[*n]).filter(|n| n.op.view).filter_map(|n| n.inputs[0]);
        views.chain(graph.outputs().iter().copied()).filter(|v| self.0.contains_key(v)).count()
    }

    fn choose(
        &self,
        graph: &Graph,
        node: Node,
        at: usize,
        known: &Known,
    ) -> Result<Option<Vec<usize>>, String> {
        let n = &graph.nodes[node];
        let Some(ty) = graph.tensor_type(n.outputs[at]).filter(|t| t.rank() >= 3) else { return Ok(None) };
        // Nothing but the order of its products says where the channels are.
        if n.op.name == "WinogradOutput" {
            return Ok(Some(vec![0, 2, 3, 1]));
        }
        // An image whose channels were last before they were moved about, and are wanted last again.
        let comes_from = |v: &Value| self.0.contains_key(v) || known.moved.contains(v);
        let is_moved =
            matches!(n.op.meaning, Meaning::Movement(_)) && n.inputs.iter().flatten().any(comes_from);
        if is_moved && n.op.view && known.images.contains(&n.outputs[at]) && ty.shape[1] != 1 {
            return Ok(Some([0].into_iter().chain(2..ty.rank()).chain([1]).collect()));
        }
        let same_rank = |v: Value| graph.tensor_type(v).is_some_and(|t| t.rank() == ty.rank());
        let ordered =
            n.inputs.iter().enumerate().find_map(|(i, v)| {
                v.filter(|v| same_rank(*v)).and_then(|v| self.of(v)).map(|order| (i, order))
            });
        let order = match (&n.op.meaning, ordered) {
            (Meaning::Pointwise(_), Some((_, order))) => order.to_vec(),
            (Meaning::Pointwise(_), None) => return Ok(None),
            // Without a product or an ordered operand there is nothing to look for.
            (_, None) if !n.inputs.iter().flatten().any(|v| graph.constant(*v).is_some()) => return Ok(None),
            _ => {
                let Ok(element) = definition(graph, node, at) else { return Ok(None) };
                match (column_axis(graph, node, &element), ordered) {
                    (Some(axis), _) => {
                        (0..ty.rank()).filter(|d| *d != axis).chain([axis]).collect::<Vec<_>>()
                    }
                    (None, Some((operand, order))) if keeps_positions(&element, operand) => order.to_vec(),
                    _ => return Ok(None),
                }
            }
        };
        let shape = &ty.shape;
        let long: Vec<usize> = order.iter().copied().filter(|d| shape[*d] != 1).collect();
        Ok((!long.is_sorted()).then_some(order))
    }
}

/// The axis of a sum of products by constants that the constants' index has and the data's has not, if
/// it is not the last one and long enough.
fn column_axis(graph: &Graph, node: Node, e: &Element) -> Option<usize> {
    let (data, weights) = factors(&e.body)?;
    let input = |t: &Term| match t.kind() {
        TermKind::Load { input, .. } => graph.nodes[node].inputs.get(*input).copied().flatten(),
        _ => None,
    };
    let constant = input(&weights).and_then(|v| graph.constant(v))?;
    let data = first_load(&data)?;
    let (TermKind::Load { index, .. }, TermKind::Load { index: place, .. }) = (weights.kind(), data.kind())
    else {
        return None;
    };
    let mentions = |index: &[Expr], s: Symbol| index.iter().any(|e| e.mentions(s));
    let candidates = || e.axes.iter().enumerate().filter(|(_, s)| mentions(index, **s));
    let (axis, symbol) = candidates().find(|(_, s)| !mentions(place, **s))?;
    let at = index.iter().position(|e| e.as_symbol() == Some(*symbol))?;
    (columns(constant, at) >= LEAST_COLUMNS && axis + 1 != e.axes.len()).then_some(axis)
}

fn columns(constant: &Constant, dim: usize) -> i64 {
    constant.ty().shape.get(dim).and_then(Expr::as_const).unwrap_or(0)
}

/// The factors of the sum of products in a term, the one that is a single load last.
pub fn factors(t: &Term) -> Option<(Term, Term)> {
    let mut found = None;
    crate::lower::nest::visit(t, &mut |t| {
        if let (None, TermKind::Reduce { op: ReduceOp::Sum, body, .. }) = (&found, t.kind()) {
            found = product(body);
        }
    });
    found
}

fn product(body: &Term) -> Option<(Term, Term)> {
    let TermKind::Op(op, args) = uncast(body).kind() else { return None };
    op.accumulating()?;
    let (a, b) = (uncast(args.first()?), uncast(args.last()?));
    let is_load = |t: &Term| matches!(t.kind(), TermKind::Load { .. });
    first_load(a)?;
    first_load(b)?;
    match (is_load(a), is_load(b)) {
        (_, true) => Some((a.clone(), b.clone())),
        (true, false) => Some((b.clone(), a.clone())),
        _ => None,
    }
}

fn uncast(t: &Term) -> &Term {
    match t.kind() {
        TermKind::Op(ScalarOp::Cast(_), args) => uncast(&args[0]),
        _ => t,
    }
}

/// The first load in a term.
pub fn first_load(t: &Term) -> Option<Term> {
    match t.kind() {
        TermKind::Load { .. } => Some(t.clone()),
        _ => crate::lower::nest::children(t).into_iter().find_map(first_load),
    }
}

/// Whether every load of an operand stays at its place: each dimension's index follows the same axis
/// of the result, or none.
fn keeps_positions(e: &Element, operand: usize) -> bool {
    let mut keeps = true;
    crate::lower::nest::visit(&e.body, &mut |t| {
        if let TermKind::Load { input, index } = t.kind()
            && *input == operand
        {
            keeps &= index.len() == e.axes.len()
                && index
                    .iter()
                    .enumerate()
                    .all(|(d, i)| e.axes.iter().enumerate().all(|(other, s)| other == d || !i.mentions(*s)));
        }
    });
    keeps
}

/// Whether a sum of products reads an operand along its columns (the result's last axis) and for
/// enough rows that a copy of the operand pays in which its columns lie side by side, `source` being
/// what renames the operand's elements.
pub fn wants_columns(graph: &Graph, node: Node, operand: usize, source: Node) -> bool {
    const ROWS: i64 = 8;
    let Ok(product) = definition(graph, node, 0) else { return false };
    let Some((a, b)) = factors(&product.body) else { return false };
    let [Some(a), Some(b)] = [first_load(&a), first_load(&b)] else { return false };
    let load = |t: &Term| match t.kind() {
        TermKind::Load { input, index } => Some((*input, index.clone())),
        _ => None,
    };
    let both = [load(&a), load(&b)];
    let Some((_, index)) = both.iter().flatten().find(|(input, _)| *input == operand) else { return false };
    let other = both.iter().flatten().find(|(input, _)| *input != operand);
    let Some(column) = product.axes.last() else { return false };
    let mentions = |index: &[Expr], s: Symbol| index.iter().any(|e| e.mentions(s));
    let is_columns = mentions(index, *column) && other.is_some_and(|(_, i)| !mentions(i, *column));
    let shape = graph.tensor_type(graph.nodes[node].outputs[0]).map_or(&[][..], |t| &t.shape);
    let rows = product.axes.iter().zip(shape).filter(|(s, _)| *s != column && !mentions(index, **s));
    let rows: i64 = rows.map(|(_, n)| crate::memory::typical(n)).fold(1, i64::saturating_mul);
    if !is_columns || rows < ROWS {
        return false;
    }
    let Ok(renaming) = definition(graph, source, 0) else { return false };
    let TermKind::Load { index: from, .. } = renaming.body.kind() else { return false };
    let at = |s: Symbol| renaming.axes.iter().position(|a| *a == s).and_then(|d| index.get(d).cloned());
    from.last().is_some_and(|e| !e.substitute(&at).mentions(*column))
        && mentions(from, renaming.axes[renaming.axes.len() - 1])
}
