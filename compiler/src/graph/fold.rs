//! Constant folding: what is known when compiling is not computed at each call.
//!
//! A node whose operands are constants becomes constants: at once where operands and results are
//! small, else [`Constant::Computed`], which is evaluated when the weights are written, so that large
//! ones never have to be held together. What repeats few elements stays computed at run time, but as the
//! weights of a sum of products, which are packed. A small tensor whose contents are known as numbers, such as
//! the shape of a tensor of constant shape, becomes a constant too.

use super::rewrite::{Outcome, Rewriter, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::eval::{Operation, eval_op};
use burin_ir::graph::{Computed, Constant, Graph, Value, ValueData};
use burin_ir::ops::{self, Effect, OpRow, Tolerance};
use burin_ir::{Attr, Attrs, Scalar, Tensor};
use std::collections::HashSet;
use std::sync::Arc;

/// Results of at most so many bytes are evaluated at once.
const SMALL: usize = 64 << 10;
/// Operands of more bytes than this make evaluation lazy.
const SMALL_OPERANDS: usize = 1 << 20;
/// Results that are larger than this and than [`GROWTH`] times the operands stay computed at run time:
/// a weight file of repeated elements costs more than it saves. Weights of sums of products are worth it
/// up to [`WEIGHTS`], since they are read in the order in which they are packed.
const LARGE: usize = 1 << 20;
const WEIGHTS: usize = 1 << 30;
const GROWTH: usize = 4;
/// Computed constants of more ops than this are evaluated at once: each use of one computes it anew.
const MAX_OPS: usize = 64;

/// Folds constants.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    let weights = weights(graph);
    rewrite(graph, fuel, &mut |r, site| {
        let data = site.data;
        if data.op.effect != Effect::Pure || !data.regions.is_empty() {
            return Ok(Outcome::Keep);
        }
        if site.inputs.iter().flatten().all(|v| r.graph.constant(*v).is_some()) {
            let attrs = data.attrs.named();
            let large = if data.outputs.iter().any(|v| weights.contains(v)) { WEIGHTS } else { LARGE };
            return Ok(match constants(r, data.op, &site.inputs, attrs, data.outputs.len(), large)? {
                Ok(results) => {
                    let pairs = data.outputs.iter().zip(results);
                    Outcome::Replace(pairs.map(|(old, c)| r.constant_for(*old, c)).collect())
                }
                Err(reason) => Outcome::Declined(reason),
            });
        }
        // The operands may be known better than in the old graph, so that the results are as well.
        let known: Option<Vec<Constant>> = data.outputs.iter().map(|v| contents(&r.old.values[*v])).collect();
        Ok(match known {
            Some(all) => {
                let pairs = data.outputs.iter().zip(all);
                Outcome::Replace(pairs.map(|(old, c)| r.constant_for(*old, c)).collect())
            }
            None => Outcome::Keep,
        })
    })
}

/// What sums of products read besides their first operands, through ops that leave elements in order.
fn weights(graph: &Graph) -> HashSet<Value> {
    let mut all = HashSet::new();
    for node in graph.regions[graph.body].nodes.iter().rev().map(|n| &graph.nodes[*n]) {
        if matches!(node.op.tolerance, Tolerance::Sum(_)) {
            all.extend(node.inputs.iter().skip(1).flatten());
        } else if node.op.view && node.outputs.iter().any(|v| all.contains(v)) {
            all.extend(node.inputs.first().copied().flatten());
        }
    }
    all
}

/// The contents of a value that are known as numbers.
fn contents(v: &ValueData) -> Option<Constant> {
    let shape = v.ty.tensor()?.static_shape()?;
    let numbers: Option<Vec<i64>> = v.known.as_ref()?.iter().map(|e| e.as_const()).collect();
    let numbers = numbers.filter(|n| n.len() == shape.iter().product::<usize>())?;
    let dtype = v.ty.tensor()?.dtype;
    Some(Constant::Data(Tensor::from_scalars(dtype, &shape, numbers.into_iter().map(Scalar::I))))
}

/// An op of one result on constants, as a constant: `op` is a row's name.
pub(super) fn constant_op(
    r: &mut Rewriter<'_>,
    op: &str,
    inputs: &[Value],
    attrs: Vec<(&str, Attr)>,
) -> Result<Value, String> {
    let row = ops::by_name(op).ok_or_else(|| format!("there is no op {op}"))?;
    let inputs: Vec<Option<Value>> = inputs.iter().map(|v| Some(*v)).collect();
    let attrs = attrs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
    let mut results = constants(r, row, &inputs, attrs, 1, LARGE)??;
    Ok(r.graph.add_constant("", results.swap_remove(0)))
}

/// The results of an op on constants; the inner error is the reason why they are not folded. What is
/// `large` may not repeat its operands' elements.
#[allow(clippy::type_complexity)]
fn constants(
    r: &mut Rewriter<'_>,
    op: &'static OpRow,
    inputs: &[Option<Value>],
    attrs: Vec<(String, Attr)>,
    outputs: usize,
    large: usize,
) -> Result<Result<Vec<Constant>, String>, String> {
    let (attrs, facts) = r.probe(op, inputs, attrs, outputs)?;
    let operands: Vec<Option<Constant>> =
        inputs.iter().map(|v| v.and_then(|v| r.graph.constant(v).cloned())).collect();
    let taken = operands.iter().flatten().map(Constant::bytes).fold(0, usize::saturating_add);
    let lazy: Option<Vec<Constant>> = facts
        .iter()
        .enumerate()
        .map(|(output, f)| {
            let ty = f.ty.tensor().filter(|t| t.static_shape().is_some())?.clone();
            let c = Computed { ty, op, attrs: attrs.clone(), inputs: operands.clone(), output };
            Some(Constant::Computed(Arc::new(c)))
        })
        .collect();
    let Some(lazy) = lazy else {
        if taken > SMALL_OPERANDS {
            return Ok(Err("the result's size is unknown and the operands are large".into()));
        }
        return Ok(evaluate(op, &attrs, &operands, outputs));
    };
    let given = lazy.iter().map(Constant::bytes).fold(0, usize::saturating_add);
    if given > large && given > taken.saturating_mul(GROWTH) {
        return Ok(Err(format!("the result of {given} bytes is more than {GROWTH} times its operands")));
    }
    let small = given <= SMALL && taken <= SMALL_OPERANDS;
    let deep = lazy.iter().any(|c| ops_in(c, MAX_OPS + 1) > MAX_OPS);
    Ok(if small || deep { evaluate(op, &attrs, &operands, outputs) } else { Ok(lazy) })
}

/// The results of an op, evaluated.
fn evaluate(
    op: &'static OpRow,
    attrs: &Attrs,
    operands: &[Option<Constant>],
    outputs: usize,
) -> Result<Vec<Constant>, String> {
    let tensors: Vec<Option<Tensor>> = operands
        .iter()
        .map(|c| c.as_ref().map(Constant::materialise).transpose())
        .collect::<Result<_, _>>()?;
    let region = &|_, _: &[Tensor]| Err("it has no regions".to_owned());
    let operation = Operation { op, attrs, outputs, region_results: &[], region };
    Ok(eval_op(&operation, &tensors)?.into_iter().map(Constant::Data).collect())
}

/// How many ops it takes to compute a constant, shared ones counted as often as they are used;
/// counting ends at `limit`.
fn ops_in(c: &Constant, limit: usize) -> usize {
    let Constant::Computed(c) = c else { return 0 };
    let mut count = 1;
    for input in c.inputs.iter().flatten() {
        if count >= limit {
            break;
        }
        count += ops_in(input, limit - count);
    }
    count
}
