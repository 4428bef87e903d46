//! Calls of the host-op library. Like the kernels that rows give, its functions want operands and results
//! that lie row-major and without gaps; they are told how many elements each has.

use super::place::{Places, RootId};
use burin_ir::Expr;
use burin_ir::graph::{Graph, Node, Value};
use burin_ir::ops::{Lower, Meaning, OpRow};

/// A call before memory is planned.
pub(super) struct HostCall {
    /// The function.
    pub(super) op: &'static str,
    /// What messages call the node.
    pub(super) name: String,
    /// The values that it reads.
    pub(super) reads: Vec<Value>,
    /// The values that it computes.
    pub(super) results: Vec<Value>,
    /// Their roots.
    pub(super) writes: Vec<RootId>,
    /// How many elements each of them has, operands first.
    pub(super) elements: Vec<Expr>,
}

fn is_call(op: &OpRow) -> bool {
    matches!(op.meaning, Meaning::Primitive(Lower::Host))
}

/// The functions that a graph calls, each once. What calls them says their numbers, which are the same for
/// all CPU levels, since they follow from the graph alone.
pub(super) fn functions(graph: &Graph) -> Vec<&'static str> {
    let mut names = Vec::new();
    for node in graph.regions.values().flat_map(|r| &r.nodes) {
        let op = graph.nodes[*node].op;
        if is_call(op) && !names.contains(&op.name) {
            names.push(op.name);
        }
    }
    names
}

/// The call that a node is, if it is one.
pub(super) fn call(graph: &Graph, places: &Places, node: Node) -> Result<Option<HostCall>, String> {
    let n = &graph.nodes[node];
    if !is_call(n.op) {
        return Ok(None);
    }
    let function = burin_host::by_name(n.op.name)
        .ok_or_else(|| format!("{}: the host-op library has no such function", graph.describe(node)))?;
    let reads: Vec<Value> = n.inputs.iter().take(function.inputs.len()).copied().flatten().collect();
    let results = n.outputs.clone();
    let elements = reads.iter().chain(&results).map(|v| graph.tensor_type(*v).map(|t| t.elements()));
    Ok(Some(HostCall {
        op: n.op.name,
        name: graph.describe(node),
        writes: results.iter().map(|v| places.of(*v).root).collect(),
        elements: elements.collect::<Option<_>>().ok_or("an operand is no tensor")?,
        reads,
        results,
    }))
}
