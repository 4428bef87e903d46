//! Calls of the kernels that op rows give, where no formula says what one element of a result is.
//!
//! Such a kernel computes all results of its node at once, from operands and into results that lie
//! row-major and without gaps, with scratch of its own for each worker.

use super::place::{Places, RootId};
use crate::graph::fuse;
use crate::memory::aligned;
use burin_ir::Expr;
use burin_ir::graph::{Graph, Node, Value};
use burin_ir::loops::{Access, Kernel};

/// A call before memory is planned.
pub(super) struct ProcedureCall {
    /// The node.
    pub(super) node: Node,
    /// The kernel.
    pub(super) kernel: Kernel,
    /// The values that it reads, one a buffer.
    pub(super) reads: Vec<Value>,
    /// The roots of the node's results, which follow them.
    pub(super) writes: Vec<RootId>,
}

/// The call of a node's kernel, if its row gives one.
pub(super) fn call(graph: &Graph, places: &Places, node: Node) -> Result<Option<ProcedureCall>, String> {
    let Some(p) = fuse::procedure(graph, node)? else { return Ok(None) };
    let n = &graph.nodes[node];
    let operand = |i: &usize| n.inputs.get(*i).copied().flatten().ok_or("an absent operand is read");
    let reads = p.reads.iter().map(operand).collect::<Result<Vec<Value>, _>>()?;
    let writes = n.outputs.iter().map(|v| places.of(*v).root).collect();
    Ok(Some(ProcedureCall { node, kernel: p.kernel, reads, writes }))
}

impl ProcedureCall {
    /// Where each scratch buffer lies in a worker's scratch, and what they take in all, in bytes.
    pub(super) fn scratch(&self) -> (Vec<Expr>, Expr) {
        let (mut places, mut end) = (Vec::new(), Expr::ZERO);
        for b in self.kernel.buffers.values().filter(|b| b.access == Access::Scratch) {
            places.push(end.clone());
            end = end + aligned(&(&b.len * b.dtype.bytes() as i64));
        }
        (places, end)
    }
}
