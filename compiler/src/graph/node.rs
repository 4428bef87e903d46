//! Nodes as fusion and lowering ask for them: what their rows define, which kernels they give, what they
//! are assembled from.

use burin_ir::graph::infer::Cx;
use burin_ir::graph::{Constant, Def, Graph, Node, NodeData, Region, Value, operands};
use burin_ir::ops::{Lower, Meaning, Procedure};
use burin_ir::{Element, Expr, Scalar, Symbol, TensorType};
use std::collections::HashSet;

/// Whether an op's row gives a kernel, or names a function of the host-op library.
pub fn is_procedure(n: &NodeData) -> bool {
    matches!(n.op.meaning, Meaning::Primitive(Lower::Procedure(_) | Lower::Update(_) | Lower::Host))
}

/// Whether that kernel changes the elements of the first operand into the result's.
pub fn is_update(n: &NodeData) -> bool {
    matches!(n.op.meaning, Meaning::Primitive(Lower::Update(_)))
}

/// The kernel that a node's row gives, if its op is a procedure.
pub fn procedure(graph: &Graph, node: Node) -> Result<Option<Procedure>, String> {
    let n = &graph.nodes[node];
    let Meaning::Primitive(Lower::Procedure(build) | Lower::Update(build)) = n.op.meaning else {
        return Ok(None);
    };
    let types: Option<Vec<TensorType>> = n.outputs.iter().map(|v| graph.tensor_type(*v).cloned()).collect();
    let types = types.ok_or_else(|| refuse(graph, node, "a result is no tensor"))?;
    let built = with_cx(graph, node, |cx| build(cx, &types));
    built.map(Some).map_err(|e| refuse(graph, node, &e))
}

/// The values around a region that it uses, in order of their first use; constants are not among them.
pub fn captures(graph: &Graph, region: Region) -> Vec<Value> {
    let (mut own, mut out) = (HashSet::new(), Vec::new());
    capture(graph, region, &mut own, &mut out);
    out
}

fn capture(graph: &Graph, region: Region, own: &mut HashSet<Value>, out: &mut Vec<Value>) {
    let data = &graph.regions[region];
    own.extend(&data.params);
    let note = |v: Value, own: &HashSet<Value>, out: &mut Vec<Value>| {
        if !own.contains(&v) && !matches!(graph.values[v].def, Def::Const(_)) && !out.contains(&v) {
            out.push(v);
        }
    };
    for n in &data.nodes {
        let n = &graph.nodes[*n];
        n.inputs.iter().flatten().for_each(|v| note(*v, own, out));
        n.regions.iter().for_each(|r| capture(graph, *r, own, out));
        own.extend(&n.outputs);
    }
    data.results.iter().for_each(|v| note(*v, own, out));
}

/// The first operand of a node that changes it into the result, and its number of elements.
pub fn changed(graph: &Graph, node: Node) -> Option<(Value, Expr)> {
    let n = &graph.nodes[node];
    let data = n.inputs.first().copied().flatten().filter(|_| is_update(n))?;
    Some((data, graph.tensor_type(data)?.elements()))
}

/// An error that names a node.
pub fn refuse(graph: &Graph, node: Node, why: &str) -> String {
    format!("{} cannot be compiled: {why}", graph.describe(node))
}

/// For an op that only puts its operands side by side (Concat, or Pad with a constant), each
/// operand with its first element's index in the result; the rest is filled with a constant. For one whose
/// kernel changes its first operand into the result, that operand.
pub fn assembled_parts(graph: &Graph, node: Node) -> Option<Vec<(Value, Vec<Expr>)>> {
    let n = &graph.nodes[node];
    let out = graph.tensor_type(*n.outputs.first()?)?;
    if let Some((data, elements)) = changed(graph, node) {
        let some = elements != 0;
        return Some(if some { vec![(data, vec![Expr::ZERO; out.rank()])] } else { Vec::new() });
    }
    match n.op.name {
        "Concat" => {
            let axis = n.attrs.int("axis")?;
            let axis = usize::try_from(if axis < 0 { axis + out.rank() as i64 } else { axis }).ok()?;
            let mut at = vec![Expr::ZERO; out.rank()];
            let mut parts = Vec::new();
            for v in n.inputs.iter().copied().flatten() {
                let ty = graph.tensor_type(v)?;
                // The definition reads nothing of an empty part.
                if ty.elements() != 0 {
                    parts.push((v, at.clone()));
                }
                at[axis] = &at[axis] + ty.shape.get(axis)?;
            }
            Some(parts)
        }
        "Pad" if n.attrs.str("mode") == Some("constant") => {
            let x = n.inputs[0]?;
            let all_axes = n.inputs.get(3).copied().flatten().is_none();
            let pads = graph.values[n.inputs.get(1).copied().flatten()?].known.as_ref()?;
            let pads: Vec<i64> = pads.iter().map(Expr::as_const).collect::<Option<_>>()?;
            fill_value(graph, node)?;
            let fits = all_axes && pads.len() == 2 * out.rank() && pads.iter().all(|p| *p >= 0);
            fits.then(|| vec![(x, pads[..out.rank()].iter().map(|p| (*p).into()).collect())])
        }
        _ => None,
    }
}

/// The constant that an assembled op fills the rest of its result with.
pub fn fill_value(graph: &Graph, node: Node) -> Option<Scalar> {
    let n = &graph.nodes[node];
    if n.op.name != "Pad" {
        return None;
    }
    let dtype = graph.tensor_type(n.outputs[0])?.dtype;
    match n.inputs.get(2).copied().flatten() {
        None => Some(Scalar::I(0).cast(dtype)),
        Some(v) => match graph.constant(v)? {
            Constant::Data(t) if t.len() == 1 => Some(t.get(0)),
            _ => None,
        },
    }
}

/// The definition of one element of a node's result.
pub fn definition(graph: &Graph, node: Node, at: usize) -> Result<Element, String> {
    let ty = graph.tensor_type(graph.nodes[node].outputs[at]);
    let ty = ty.ok_or_else(|| refuse(graph, node, "its result is no tensor"))?;
    let element = with_cx(graph, node, |cx| cx.op.element(cx, at, ty));
    let missing = || Err("it has no compiled form yet; the interpreter runs it".to_owned());
    element.unwrap_or_else(missing).map_err(|e| refuse(graph, node, &e))
}

/// What a node requires to be zero or above and is not known to be: it is checked in each run.
pub fn open_requirements(graph: &Graph, node: Node) -> Result<Vec<Expr>, String> {
    let all = with_cx(graph, node, |cx| cx.op.requirements(cx));
    let all = all.map_err(|e| format!("{}: {e}", graph.describe(node)))?;
    Ok(all.into_iter().filter(|e| e.bounds(&Symbol::range).lo.is_none_or(|lo| lo < 0)).collect())
}

/// Calls `f` with the node as its row's functions see it.
pub fn with_cx<R>(graph: &Graph, node: Node, f: impl FnOnce(&Cx<'_>) -> R) -> R {
    let n = &graph.nodes[node];
    let inputs = operands(graph, &n.inputs);
    let fresh = || Symbol::new("unknown");
    let cx = Cx {
        op: n.op,
        attrs: &n.attrs,
        inputs: &inputs,
        outputs: n.outputs.len(),
        region_results: &[],
        fresh: &fresh,
    };
    f(&cx)
}
