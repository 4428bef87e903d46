//! Calls of the kernels that op rows give, where no formula says what one element of a result is.
//!
//! Such a kernel computes all results of its node at once, from operands and into results that lie
//! row-major and without gaps, with scratch of its own for each worker. Scratch whose size follows from
//! the inputs' dimensions is there before a run begins, behind the arena; any other is a root of the
//! level, for which memory is asked for right before the call.

use super::place::{Places, Root, RootId};
use super::sizes::follows;
use super::steps::tasks;
use crate::graph::node;
use crate::memory::aligned;
use crate::program::Program;
use burin_ir::graph::{Graph, Node, Value};
use burin_ir::loops::{Access, Kernel};
use burin_ir::{Expr, Symbol};
use std::collections::HashSet;

/// A call before memory is planned.
pub(super) struct ProcedureCall {
    /// The node.
    pub(super) node: Node,
    /// The kernel.
    pub(super) kernel: Kernel,
    /// The values that it reads, one a buffer.
    pub(super) reads: Vec<Value>,
    /// The roots of the node's results, which follow them, and of its scratch, where that is one.
    pub(super) writes: Vec<RootId>,
    /// The root of its scratch, if that depends on data.
    pub(super) scratch: Option<RootId>,
}

/// The call of a node's kernel, if its row gives one. `constant` are the symbols that are known before a
/// run begins.
pub(super) fn call(
    graph: &Graph,
    places: &mut Places,
    node: Node,
    constant: &HashSet<Symbol>,
) -> Result<Option<ProcedureCall>, String> {
    let Some(p) = node::procedure(graph, node)? else { return Ok(None) };
    let n = &graph.nodes[node];
    let operand = |i: &usize| n.inputs.get(*i).copied().flatten().ok_or("an absent operand is read");
    let reads = p.reads.iter().map(operand).collect::<Result<Vec<Value>, _>>()?;
    let mut writes: Vec<RootId> = n.outputs.iter().map(|v| places.of(*v).root).collect();
    let (_, bytes) = scratch(&p.kernel);
    let root = (!follows(&bytes, constant)).then(|| {
        let workers = if tasks(&p.kernel) == 1 { Expr::ONE } else { Program::workers().into() };
        places.roots.push(Root::Arena(bytes * workers));
        places.roots.len() - 1
    });
    writes.extend(root);
    Ok(Some(ProcedureCall { node, kernel: p.kernel, reads, writes, scratch: root }))
}

/// Where each scratch buffer lies in a worker's scratch, and what they take in all, in bytes.
pub(super) fn scratch(kernel: &Kernel) -> (Vec<Expr>, Expr) {
    let (mut places, mut end) = (Vec::new(), Expr::ZERO);
    for b in kernel.buffers.values().filter(|b| b.access == Access::Scratch) {
        places.push(end.clone());
        end = end + aligned(&(&b.len * b.dtype.bytes() as i64));
    }
    (places, end)
}
