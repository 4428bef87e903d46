//! Data of products of bytes as 16-bit halves, for machines that have no instruction for such products.
//!
//! There bytes become halves before they are multiplied ([`super::quads`]), those of the data once for each
//! block of columns. Here what computes the data stores them as halves: `Pairs` of them are what a product
//! takes (`ScalarOp::DotHalves`), the same memory under another type. All other uses take bytes of them.
//!
//! Left as they are: data that come from outside or are moved to where they are read, and such whose last
//! quad is not full.

use super::node::{assembled_parts, definition, fill_value, is_procedure};
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Graph, Node, NodeData, Value};
use burin_ir::ops::quads;
use burin_ir::{Attr, DType, Tensor, TermKind};
use std::collections::{HashMap, HashSet};

/// Stores data as halves.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    let widened = widened(graph);
    let mut halves = HashMap::new();
    rewrite(graph, fuel, &mut |r, site| {
        if let Some((data, axis)) = quads_of_data(r.old, site.data)
            && let Some(of) = halves.get(&r.value(data)).copied()
        {
            let pairs = r.op("Pairs", &[of], vec![("axis", Attr::Int(axis))])?;
            let inputs = [Some(pairs)].into_iter().chain(site.inputs[1..].iter().copied()).collect();
            return node(r, site, inputs).map(Outcome::Replace);
        }
        if site.data.outputs.len() == 1 && widened.contains(&site.data.outputs[0]) {
            return stored(r, site, &mut halves);
        }
        on_bytes(r, site, &halves)
    })
}

/// What the quads of a product's data are made of, and along which dimension.
fn quads_of_data(graph: &Graph, product: &NodeData) -> Option<(Value, i64)> {
    if !matches!(product.op.name, "IntegerConv" | "IntegerMatMul") {
        return None;
    }
    let quads = &graph.nodes[graph.producer(product.inputs[0]?)?.0];
    let axis = quads.attrs.int("axis").filter(|_| quads.op.name == "Quads")?;
    quads.inputs[0].map(|data| (data, axis))
}

/// Results of computations that products' quads are made of, padded or not, and what is padded.
fn widened(graph: &Graph) -> HashSet<Value> {
    let mut out = HashSet::new();
    for (data, axis) in graph.nodes.values().filter_map(|n| quads_of_data(graph, n)) {
        if !is_whole(graph, data, axis) {
            continue;
        }
        let mut chain = vec![data];
        while let Some(image) = padded(graph, chain[chain.len() - 1]) {
            chain.push(image);
        }
        let computed = graph.producer(chain[chain.len() - 1]).is_some_and(|(node, _)| computes(graph, node));
        if computed {
            out.extend(chain);
        }
    }
    out
}

/// Whether unsigned bytes along a dimension are whole quads.
fn is_whole(graph: &Graph, v: Value, axis: i64) -> bool {
    let Some(ty) = graph.tensor_type(v) else { return false };
    let axis = if axis < 0 { axis + ty.rank() as i64 } else { axis };
    let extent = usize::try_from(axis).ok().and_then(|a| ty.shape.get(a)).and_then(|n| n.as_const());
    ty.dtype == DType::U8 && extent.is_some_and(|n| n % quads::count(ty.dtype) == 0)
}

/// What a value is with constants around it.
fn padded(graph: &Graph, v: Value) -> Option<Value> {
    let (node, _) = graph.producer(v)?;
    let written_around = assembled_parts(graph, node).is_some() && fill_value(graph, node).is_some();
    graph.nodes[node].inputs[0].filter(|_| written_around)
}

/// Whether a node's elements are computed, not moved, by a kernel that could store them as halves.
fn computes(graph: &Graph, node: Node) -> bool {
    let n = &graph.nodes[node];
    let alone = n.outputs.len() == 1 && n.regions.is_empty() && !is_procedure(n);
    alone
        && assembled_parts(graph, node).is_none()
        && definition(graph, node, 0).is_ok_and(|e| !matches!(e.body.kind(), TermKind::Load { .. }))
}

/// A result as halves, and as the bytes of these.
fn stored(
    r: &mut Rewriter<'_>,
    site: &Site<'_>,
    halves: &mut HashMap<Value, Value>,
) -> Result<Outcome, String> {
    let image = site.inputs.first().copied().flatten().and_then(|v| halves.get(&v).copied());
    let wide = match (site.data.op.name, image) {
        ("Pad", Some(image)) => {
            let fill = fill_value(r.old, site.node).ok_or("padding by what is no constant")?;
            let fill = r.builder().constant(Tensor::scalar(DType::U16, fill.cast(DType::U16)));
            node(r, site, vec![Some(image), site.inputs[1], Some(fill)])?[0]
        }
        // What is padded could not be stored so.
        ("Pad", None) => return on_bytes(r, site, halves),
        _ => {
            let inputs = bytes_of(r, site, halves)?;
            let bytes = node(r, site, inputs)?[0];
            cast(r, bytes, DType::U16)?
        }
    };
    let bytes = cast(r, wide, DType::U8)?;
    halves.insert(bytes, wide);
    Ok(Outcome::Replace(vec![bytes]))
}

/// A node of which operands are stored as halves: each use has bytes of its own, so that they are computed
/// where they are used.
fn on_bytes(
    r: &mut Rewriter<'_>,
    site: &Site<'_>,
    halves: &HashMap<Value, Value>,
) -> Result<Outcome, String> {
    let stored = |v: &Value| halves.contains_key(v);
    if !site.inputs.iter().flatten().any(stored) || !site.data.regions.is_empty() {
        return Ok(Outcome::Keep);
    }
    let inputs = bytes_of(r, site, halves)?;
    node(r, site, inputs).map(Outcome::Replace)
}

fn bytes_of(
    r: &mut Rewriter<'_>,
    site: &Site<'_>,
    halves: &HashMap<Value, Value>,
) -> Result<Vec<Option<Value>>, String> {
    let operand = |v: &Option<Value>| match v.and_then(|v| halves.get(&v).copied()) {
        Some(wide) => cast(r, wide, DType::U8).map(Some),
        None => Ok(*v),
    };
    site.inputs.iter().map(operand).collect()
}

fn cast(r: &mut Rewriter<'_>, v: Value, to: DType) -> Result<Value, String> {
    r.op("Cast", &[v], vec![("to", Attr::DType(to))])
}

/// The node on other operands.
fn node(r: &mut Rewriter<'_>, site: &Site<'_>, inputs: Vec<Option<Value>>) -> Result<Vec<Value>, String> {
    let (data, attrs) = (site.data, site.data.attrs.named());
    let made = r.builder().node(data.op, &data.name, inputs, attrs, data.outputs.len(), Vec::new())?;
    Ok(r.graph.nodes[made].outputs.clone())
}
