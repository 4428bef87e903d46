//! Every node alone: compiled, and run on the operands that the evaluator has for it, so that one
//! rounding does not show up again in all nodes below. Its results must be within its row's bounds.

use super::bounds::operation;
use super::cut::{Piece, Run};
use super::search::Difference;
use crate::failure::Failure;
use burin_ir::Tensor;
use burin_ir::compare::{compare, row_bounds};
use burin_ir::graph::eval::Event;
use burin_ir::graph::{Graph, Value};
use std::collections::HashMap;

/// What differs at a node that has just been evaluated.
pub(super) fn look(graph: &Graph, event: &Event<'_>, run: Run<'_>) -> Result<Option<Difference>, Failure> {
    let data = &graph.nodes[event.node];
    if !data.regions.is_empty() {
        return Err("it has regions".to_owned().into());
    }
    let operands = data.inputs.iter().zip(event.inputs);
    let tensors: HashMap<Value, Tensor> = operands.filter_map(|(v, t)| Some(((*v)?, t.clone()?))).collect();
    let piece =
        Piece { of: graph, nodes: &[event.node], results: &data.outputs, tensors: &tensors, scalars: false };
    let (cut, found) = piece.run(run)?;
    let bounds = row_bounds(&operation(graph, event.node), event.inputs, event.outputs)?;
    for (result, ((f, e), bound)) in found.iter().zip(event.outputs).zip(&bounds).enumerate() {
        let report = compare(f, e, bound)?;
        if !report.ok() {
            return Ok(Some(Difference { what: graph.describe(event.node), result, report, cut }));
        }
    }
    Ok(None)
}
