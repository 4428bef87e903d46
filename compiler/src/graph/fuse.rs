//! Fusion: decides which values get memory of their own and which are computed inside the kernels
//! that use them.
//!
//! The unit is the value. Going through them from last to first, a value is **inlined** if every
//! use ends in one and the same kernel and nothing is computed more often than before, or if it
//! only names other elements (a transposition, a slice); it is a **view** if it holds another
//! value's elements in the same order; else it is **stored**, and the kernel that computes it is
//! its own. For each value that could not be inlined the reason is kept.
//!
//! What always holds: a value under a reduction that reads it more than once, or a second sum of
//! products in one kernel, is stored; a view's operand is stored.

use super::layout::{self, Orders};
use super::node::{assembled_parts, captures, changed, definition, is_procedure, is_update, refuse};
use crate::lower::nest::{children, visit};
use burin_ir::graph::{Def, Graph, Node, Value};
use burin_ir::ops::Meaning;
use burin_ir::ops::quads;
use burin_ir::{Element, Expr, ReduceOp, ScalarOp, Term, TermKind};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// Why a sum of products is stored where another one is.
const SUM_BEFORE: &str = "its kernel has a sum of products already";

/// Kernels of more nodes than this are cut, so that compile time stays linear in the graph.
const GROUP_LIMIT: usize = 48;

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// Nothing uses it.
    Dead,
    /// Computed inside the kernels that use it.
    Inlined,
    /// Another value's elements in the same order, under another shape.
    View(Value),
    /// Has memory of its own, filled by its own kernel. The reason says why it was not inlined.
    Stored(&'static str),
}

/// The fate of every node result of the graph's body.
pub struct Fusion {
    fates: HashMap<Value, Fate>,
    /// The orders in which values lie in memory.
    pub orders: Orders,
    /// For stored values: how many nodes their kernel holds.
    pub group_sizes: HashMap<Value, usize>,
    /// Values that something else than a kernel uses, and why they are stored, row-major.
    pub pinned: HashMap<Value, &'static str>,
    /// For stored values: whether their kernel holds a sum of products.
    sums: HashMap<Value, bool>,
}

/// A use of a value by a node.
struct Use {
    by: Value,
    operand: usize,
}

/// What fusing needs to know of the definition of a value.
struct Facts {
    /// How often each operand's elements are read in all, by operand.
    reads: HashMap<usize, Expr>,
    /// Only names other elements: no arithmetic, no condition, no index from data.
    renames: bool,
    /// Holds a reduction of its own.
    reduces: bool,
    /// Holds a sum of products.
    contracts: bool,
    /// Element by element over broadcast operands; see [`is_positional`].
    pointwise: bool,
    /// Its parts are written in place (see [`assembled_parts`]).
    assembled: bool,
}

impl Facts {
    /// Those of a value that begins as a copy of its first operand, which has so many elements.
    fn of_parts(elements: Expr) -> Facts {
        Facts {
            reads: HashMap::from([(0, elements)]),
            renames: false,
            reduces: false,
            contracts: false,
            pointwise: false,
            assembled: true,
        }
    }
}

impl Fusion {
    /// The fate of a value; inputs, constants and states are always stored.
    pub fn fate(&self, v: Value) -> Fate {
        self.fates.get(&v).cloned().unwrap_or(Fate::Stored("it comes from outside"))
    }

    /// The values that may be changed where they lie, since one node that runs uses them, and nothing else
    /// them or a part of them.
    pub fn changeable(&self, graph: &Graph) -> HashSet<Value> {
        let nodes = &graph.regions[graph.body].nodes;
        let runs = |n: &&Node| !graph.nodes[**n].outputs.iter().all(|o| self.fate(*o) == Fate::Dead);
        let mut counts: HashMap<Value, usize> = HashMap::new();
        for v in nodes.iter().filter(runs).flat_map(|n| graph.nodes[*n].inputs.iter().flatten()) {
            *counts.entry(*v).or_insert(0) += 1;
        }
        // What comes later says why a value is pinned; the result of a procedure is so at first.
        counts.retain(|v, n| *n == 1 && self.pinned.get(v).is_none_or(|why| *why == PROCEDURE));
        for v in graph.outputs().iter().chain(graph.states.iter().map(|s| &s.next)) {
            counts.remove(v);
        }
        let in_parts = |v: &Value| {
            let node = graph.producer(*v).map(|(n, _)| n);
            node.is_some_and(|n| !is_update(&graph.nodes[n]) && assembled_parts(graph, n).is_some())
        };
        counts.into_keys().filter(|v| !in_parts(v)).collect()
    }

    /// Makes a kernel of its own of inlined values that follow each other, which ends in the last one.
    fn cut(&mut self, chain: &[Value], ends_in: &mut HashMap<Value, (Value, bool)>) -> Option<Value> {
        let end = *chain.last()?;
        let (before, _) = *ends_in.get(&end)?;
        *self.group_sizes.entry(before).or_insert(1) -= chain.len();
        self.group_sizes.insert(end, chain.len());
        self.sums.insert(end, false);
        self.fates.insert(end, Fate::Stored("a sum of products is narrowest after it"));
        ends_in.extend(chain.iter().map(|v| (*v, (end, false))));
        Some(end)
    }

    /// Whether a stored value's kernel holds a sum of products.
    pub fn contracts(&self, v: Value) -> bool {
        self.sums.get(&v).copied().unwrap_or(false)
    }
}

/// The operands of `Read` nodes that name anything, and what regions and the kernels of rows use.
fn pinned(graph: &Graph) -> HashMap<Value, &'static str> {
    let mut pinned = HashMap::new();
    for n in graph.regions[graph.body].nodes.iter().map(|n| &graph.nodes[*n]) {
        if n.op.name == "Read" {
            let unknown = n.inputs.iter().flatten().filter(|v| graph.values[**v].known.is_none());
            pinned.extend(unknown.map(|v| (*v, "sizes are read from it")));
        }
        if is_procedure(n) {
            let read = n.inputs.iter().skip(usize::from(is_update(n)));
            pinned.extend(read.flatten().map(|v| (*v, "a kernel of a row reads it")));
            pinned.extend(n.outputs.iter().map(|v| (*v, PROCEDURE)));
        }
        if !n.regions.is_empty() {
            pinned.extend(n.inputs.iter().flatten().map(|v| (*v, "a region uses it")));
            pinned.extend(n.outputs.iter().map(|v| (*v, "a region computes it")));
            let inside = n.regions.iter().flat_map(|r| captures(graph, *r));
            pinned.extend(inside.map(|v| (v, "a region uses it")));
        }
    }
    pinned
}

/// Why the results of a procedure are stored.
const PROCEDURE: &str = "its op is a kernel of its own";

/// Decides the fate of every value.
pub fn run(graph: &Graph) -> Result<Fusion, String> {
    let pinned = pinned(graph);
    let orders = Orders::assign(graph, &|v| pinned.contains_key(&v))?;
    let mut fusion =
        Fusion { fates: HashMap::new(), orders, group_sizes: HashMap::new(), pinned, sums: HashMap::new() };
    let mut facts: HashMap<Value, Facts> = HashMap::new();
    let mut uses: HashMap<Value, Vec<Use>> = HashMap::new();
    let mut kept: HashMap<Value, &'static str> = HashMap::new();
    for v in graph.outputs() {
        kept.insert(*v, "it is an output");
    }
    for s in &graph.states {
        kept.insert(s.next, "it is a state's next value");
    }
    for (v, why) in &fusion.pinned {
        kept.entry(*v).or_insert(why);
    }
    // The kernel that an inlined value ends in, and whether a reduction reads it there.
    let mut ends_in: HashMap<Value, (Value, bool)> = HashMap::new();
    for node in graph.regions[graph.body].nodes.iter().rev() {
        for (at, v) in graph.nodes[*node].outputs.iter().enumerate() {
            if !graph.nodes[*node].regions.is_empty() {
                // What nothing uses is computed all the same.
                fusion.fates.insert(*v, Fate::Stored("a region computes it"));
                continue;
            }
            if is_procedure(&graph.nodes[*node]) {
                fusion.fates.insert(*v, Fate::Stored(PROCEDURE));
                if let Some((data, elements)) = changed(graph, *node) {
                    // The first operand is what is assembled where the result lies.
                    facts.insert(*v, Facts::of_parts(elements));
                    fusion.group_sizes.insert(*v, 1);
                    ends_in.insert(*v, (*v, false));
                    uses.entry(data).or_default().push(Use { by: *v, operand: 0 });
                }
                continue;
            }
            let used = uses.get(v).is_some_and(|u| !u.is_empty());
            if !used && !kept.contains_key(v) || graph.values[*v].known.is_some() && !kept.contains_key(v) {
                fusion.fates.insert(*v, Fate::Dead);
                continue;
            }
            let (own, operands) = facts_of(graph, *node, at)?;
            let mut decision = match kept.get(v) {
                Some(why) => Err(*why),
                None => decide(graph, &fusion, &facts, &uses[v], *v, &own, &ends_in),
            };
            if decision == Err(SUM_BEFORE) {
                let chain = narrowing(graph, &fusion, &facts, &uses, *v);
                if let Some(end) = fusion.cut(&chain, &mut ends_in) {
                    decision = Ok(Some((end, false)));
                }
            }
            let view = viewed(graph, &fusion.orders, *node).filter(|_| !kept.contains_key(v));
            let fate = match (decision, view) {
                (Err(why), None) => {
                    ends_in.insert(*v, (*v, false));
                    fusion.sums.insert(*v, own.contracts);
                    fusion.group_sizes.insert(*v, 1);
                    Fate::Stored(why)
                }
                (_, Some(of)) => Fate::View(of),
                (Ok(None), None) => Fate::Inlined,
                (Ok(Some((end, reduced))), None) => {
                    ends_in.insert(*v, (end, reduced || own.reduces));
                    if own.contracts {
                        fusion.sums.insert(end, true);
                    }
                    *fusion.group_sizes.entry(end).or_insert(1) += 1;
                    Fate::Inlined
                }
            };
            fusion.fates.insert(*v, fate);
            for (operand, of) in operands {
                uses.entry(of).or_default().push(Use { by: *v, operand });
            }
            facts.insert(*v, own);
        }
    }
    Ok(fusion)
}

/// What is made of a value alone, position by position and inlined, up to where it is narrowest; nothing
/// where the value itself is.
fn narrowing(
    graph: &Graph,
    fusion: &Fusion,
    facts: &HashMap<Value, Facts>,
    uses: &HashMap<Value, Vec<Use>>,
    v: Value,
) -> Vec<Value> {
    let bits = |v: Value| graph.tensor_type(v).map_or(0, |t| t.dtype.bits());
    let (mut chain, mut at, mut narrowest) = (Vec::new(), v, (bits(v), 0));
    while let Some([u]) = uses.get(&at).map(Vec::as_slice) {
        let alone = graph.producer(u.by).is_some_and(|(node, _)| {
            let operands = graph.nodes[node].inputs.iter().flatten();
            operands.filter(|o| **o != at).all(|o| graph.constant(*o).is_some())
        });
        let inlined = fusion.fate(u.by) == Fate::Inlined && facts[&u.by].pointwise;
        if !alone || !inlined || shape(graph, u.by) != shape(graph, v) {
            break;
        }
        at = u.by;
        chain.push(at);
        if bits(at) < narrowest.0 {
            narrowest = (bits(at), chain.len());
        }
    }
    chain.truncate(narrowest.1);
    chain
}

/// The operand whose memory a node's only result is, under another shape or, several integers in one
/// element, another type.
fn viewed(graph: &Graph, orders: &Orders, node: Node) -> Option<Value> {
    let n = &graph.nodes[node];
    let (of, v) = (n.inputs.first().copied().flatten()?, *n.outputs.first()?);
    if n.op.view {
        // Both have their elements in row-major order.
        return [of, v].into_iter().all(|v| orders.of(v).is_none()).then_some(of);
    }
    if !is_retyped(graph, v) || orders.of(of) != orders.of(v) {
        return None;
    }
    let shape = shape(graph, of)?;
    let axis = n.attrs.int("axis")?;
    let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok()?;
    let innermost = orders.of(of).map_or(shape.len().checked_sub(1)?, |o| o[o.len() - 1]);
    let count = graph.tensor_type(of).map(|t| quads::count(t.dtype))?;
    let whole = shape[axis].as_const().is_some_and(|n| n % count == 0);
    // What callers bring may begin anywhere.
    (axis == innermost && whole && graph.producer(of).is_some()).then_some(of)
}

/// Whether a value's elements are each several ones of another one.
pub fn is_retyped(graph: &Graph, v: Value) -> bool {
    graph.producer(v).is_some_and(|(node, _)| matches!(graph.nodes[node].op.name, "Quads" | "Pairs"))
}

/// The kernel that the value can be inlined into and whether a reduction reads it there, or the
/// reason why not. `None`: it only names elements, in several kernels or more than once, and so its
/// operand must be stored.
#[allow(clippy::too_many_arguments)] // the whole state of the decision, read only
fn decide(
    graph: &Graph,
    fusion: &Fusion,
    facts: &HashMap<Value, Facts>,
    uses: &[Use],
    v: Value,
    own: &Facts,
    ends_in: &HashMap<Value, (Value, bool)>,
) -> Result<Option<(Value, bool)>, &'static str> {
    if own.assembled {
        return Err("its parts are written in place");
    }
    let mut end = None;
    let mut reduced = false;
    let mut passes_on = true;
    for u in uses {
        match fusion.fate(u.by) {
            Fate::View(_) => return Err("a view needs it in memory"),
            Fate::Dead => continue,
            Fate::Inlined | Fate::Stored(_) => {}
        }
        let by = &facts[&u.by];
        if by.assembled && !own.renames {
            return Err("it is written in place into what it is a part of");
        }
        let once = same_count(graph, v, by.reads.get(&u.operand));
        let target = ends_in.get(&u.by).copied();
        if own.renames {
            let copied = || {
                let (node, source) = (graph.producer(u.by)?.0, graph.producer(v)?.0);
                Some(layout::wants_columns(graph, node, u.operand, source))
            };
            if by.contracts && fusion.orders.of(v).is_some() {
                return Err("a product reads it with its channels last");
            }
            if by.contracts && copied().unwrap_or(false) {
                return Err("a product reads it along its columns, which lie side by side in a copy");
            }
            passes_on &= once && target.is_some_and(|(e, _)| end.is_none_or(|x| x == e));
            end = target.map(|(e, _)| e).or(end);
            reduced |= target.is_some_and(|(_, r)| r) || by.reduces;
            continue;
        }
        let Some((e, r)) = target else { return Err("what uses it reads it in several places") };
        if end.is_some_and(|x| x != e) {
            return Err("several kernels use it");
        }
        end = Some(e);
        reduced |= r || by.reduces;
        let hoisted = by.pointwise && leads(graph, v, u.by);
        if !once && !hoisted {
            return Err("its elements are read more than once");
        }
        if own.reduces {
            let in_place = by.pointwise && (shape(graph, v) == shape(graph, u.by) || hoisted);
            if !in_place {
                return Err("a reduction cannot move into what rearranges or reduces it");
            }
            if own.contracts && (!once || r || by.reduces) {
                return Err("a sum of products would be computed again");
            }
            if r && (once && !hoisted || hoisted && !leads_kernel(graph, v, e)) {
                return Err("a reduction would be computed inside another");
            }
        }
    }
    if own.renames && !passes_on {
        return Ok(None);
    }
    let Some(end) = end else { return Err("nothing that runs uses it") };
    if own.contracts && fusion.contracts(end) {
        return Err(SUM_BEFORE);
    }
    if own.contracts && shape(graph, v) != shape(graph, end) {
        return Err("a sum of products must have its kernel's shape");
    }
    if fusion.group_sizes.get(&end).copied().unwrap_or(0) >= GROUP_LIMIT {
        return Err("its kernel is large enough");
    }
    Ok(Some((end, reduced)))
}

fn shape(graph: &Graph, v: Value) -> Option<&[Expr]> {
    graph.tensor_type(v).map(|t| &t.shape[..])
}

fn same_count(graph: &Graph, v: Value, reads: Option<&Expr>) -> bool {
    reads.is_some_and(|r| graph.tensor_type(v).is_some_and(|t| t.elements() == *r))
}

/// Whether `v` varies only along leading dimensions of its pointwise user, and is one along the
/// others: it is then computed once in an outer loop.
fn leads(graph: &Graph, v: Value, user: Value) -> bool {
    let (Some(a), Some(b)) = (shape(graph, v), shape(graph, user)) else { return false };
    if a.len() != b.len() {
        return a.iter().all(|d| *d == 1);
    }
    varying(a) == &b[..varying(a).len()]
}

/// Whether what `v` varies along are leading dimensions of its kernel's result as well, so that no
/// reduction in between runs along one of them.
fn leads_kernel(graph: &Graph, v: Value, end: Value) -> bool {
    let (Some(a), Some(b)) = (shape(graph, v), shape(graph, end)) else { return false };
    b.starts_with(varying(a))
}

/// The dimensions before the last ones that are 1.
fn varying(shape: &[Expr]) -> &[Expr] {
    &shape[..shape.iter().rposition(|d| *d != 1).map_or(0, |i| i + 1)]
}

/// The facts of a node's result and the node's operands as (number, value).
fn facts_of(graph: &Graph, node: Node, at: usize) -> Result<(Facts, Vec<(usize, Value)>), String> {
    let n = &graph.nodes[node];
    let out = n.outputs[at];
    let ty = graph.tensor_type(out).ok_or_else(|| refuse(graph, node, "its result is no tensor"))?;
    let operand = |i: usize| n.inputs.get(i).copied().flatten();
    let is_stored_data =
        |v: &Value| graph.values[*v].known.is_none() || !matches!(graph.values[*v].def, Def::Result(..));
    if matches!(n.op.meaning, Meaning::Pointwise(_)) {
        let all =
            (0..n.inputs.len()).filter_map(|i| operand(i).map(|v| (i, v))).filter(|(_, v)| is_stored_data(v));
        let reads = (0..n.inputs.len()).map(|i| (i, ty.elements())).collect();
        let facts = Facts {
            reads,
            renames: false,
            reduces: false,
            contracts: false,
            pointwise: true,
            assembled: false,
        };
        return Ok((facts, all.collect()));
    }
    let element = definition(graph, node, at)?;
    let mut facts = Facts {
        reads: HashMap::new(),
        renames: matches!(element.body.kind(), TermKind::Load { .. }),
        reduces: false,
        contracts: false,
        pointwise: false,
        assembled: assembled_parts(graph, node).is_some(),
    };
    let points = ty.elements();
    scan(&element.body, &points, &mut facts);
    facts.pointwise = !facts.renames && !facts.reduces && is_positional(graph, node, &element, &ty.shape);
    let all: Vec<(usize, Value)> = {
        let mut read: Vec<usize> = facts.reads.keys().copied().collect();
        read.sort_unstable();
        read.into_iter()
            .filter_map(|i| operand(i).map(|v| (i, v)))
            .filter(|(_, v)| is_stored_data(v))
            .collect()
    };
    Ok((facts, all))
}

fn scan(t: &Term, points: &Expr, facts: &mut Facts) {
    match t.kind() {
        TermKind::Load { input, .. } => {
            let sum = facts.reads.entry(*input).or_default();
            *sum = &*sum + points;
        }
        TermKind::Reduce { op, vars, body } => {
            facts.reduces = true;
            facts.contracts |= *op == ReduceOp::Sum && is_product(body);
            let points = points * &Expr::product(vars.iter().map(|(_, n)| n));
            scan(body, &points, facts);
        }
        _ => children(t).into_iter().for_each(|c| scan(c, points, facts)),
    }
}

/// Whether a definition without reductions reads each operand at the position of the element alone,
/// along every dimension that the operand has in common with the result.
fn is_positional(graph: &Graph, node: Node, e: &Element, result: &[Expr]) -> bool {
    let mut positional = true;
    visit(&e.body, &mut |t| match t.kind() {
        TermKind::Load { input, index } => {
            let from = graph.nodes[node].inputs.get(*input).copied().flatten().and_then(|v| shape(graph, v));
            let own = |d: usize| index[d].as_symbol() == Some(e.axes[d]);
            let fits =
                |from: &[Expr]| (0..from.len()).all(|d| from[d] != result[d] || own(d) || from[d] == 1);
            let within = |from: &[Expr]| match from.len().cmp(&result.len()) {
                Ordering::Less => true,
                Ordering::Equal => fits(from),
                Ordering::Greater => false,
            };
            positional &= from.is_some_and(within);
        }
        TermKind::If { .. } | TermKind::Bind { .. } => positional = false,
        _ => {}
    });
    positional
}

fn is_product(body: &Term) -> bool {
    match body.kind() {
        TermKind::Op(ScalarOp::Cast(_), args) => is_product(&args[0]),
        TermKind::Op(op, args) if op.accumulating().is_some() => args.iter().all(|a| {
            let mut loads = false;
            visit(a, &mut |t| loads |= matches!(t.kind(), TermKind::Load { .. }));
            loads
        }),
        _ => false,
    }
}
