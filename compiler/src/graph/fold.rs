//! Constant folding: what is known when compiling is not computed at each call.
//!
//! A node whose operands are constants becomes constants: at once where operands and results are
//! small, else [`Constant::Computed`], which is evaluated when the weights are written, so that large
//! ones never have to be held together. A small tensor whose contents are known as numbers, such as
//! the shape of a tensor of constant shape, becomes a constant too.

use super::Report;
use super::rewrite::{Outcome, Rewriter, rewrite};
use burin_ir::graph::{Computed, Constant, Graph, Value, ValueData};
use burin_ir::ops::{self, Effect, OpRow};
use burin_ir::{Attr, Attrs, Scalar, Tensor, TensorType};
use std::sync::Arc;

/// Results of at most so many bytes are evaluated at once.
const SMALL: usize = 64 << 10;
/// Operands of more bytes than this make evaluation lazy.
const SMALL_OPERANDS: usize = 1 << 20;
/// Results that are larger than this and than [`GROWTH`] times the operands stay computed at run time:
/// a weight file of repeated elements costs more than it saves.
const LARGE: usize = 1 << 20;
const GROWTH: usize = 4;

/// Folds constants.
pub fn run(graph: &mut Graph) -> Result<Report, String> {
    rewrite(graph, &mut |r, site| {
        let data = site.data;
        if data.op.effect != Effect::Pure || !data.regions.is_empty() {
            return Ok(Outcome::Keep);
        }
        if site.inputs.iter().flatten().all(|v| r.graph.constant(*v).is_some()) {
            let attrs = data.attrs.0.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
            return Ok(match constants(r, data.op, &site.inputs, attrs, data.outputs.len())? {
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
    let mut results = constants(r, row, &inputs, attrs, 1)??;
    Ok(r.graph.add_constant("", results.swap_remove(0)))
}

/// The results of an op on constants; the inner error is the reason why they are not folded.
#[allow(clippy::type_complexity)]
fn constants(
    r: &mut Rewriter<'_>,
    op: &'static OpRow,
    inputs: &[Option<Value>],
    attrs: Vec<(String, Attr)>,
    outputs: usize,
) -> Result<Result<Vec<Constant>, String>, String> {
    let (attrs, facts) = r.probe(op, inputs, attrs, outputs)?;
    let operands: Vec<Option<Constant>> =
        inputs.iter().map(|v| v.and_then(|v| r.graph.constant(v).cloned())).collect();
    let types: Option<Vec<&TensorType>> =
        facts.iter().map(|f| f.ty.tensor().filter(|t| t.static_shape().is_some())).collect();
    let Some(types) = types else {
        return Ok(small_of_unknown_size(op, &attrs, &operands, outputs));
    };
    Ok(types.iter().enumerate().map(|(i, ty)| constant(op, &attrs, &operands, ty, i)).collect())
}

fn constant(
    op: &'static OpRow,
    attrs: &Attrs,
    operands: &[Option<Constant>],
    ty: &TensorType,
    output: usize,
) -> Result<Constant, String> {
    let c = Computed { ty: ty.clone(), op, attrs: attrs.clone(), inputs: operands.to_vec(), output };
    let lazy = Constant::Computed(Arc::new(c));
    let (taken, given) = (operand_bytes(operands), lazy.bytes());
    if given > LARGE && given > taken.saturating_mul(GROWTH) {
        return Err(format!("the result of {given} bytes is more than {GROWTH} times its operands"));
    }
    if given <= SMALL && taken <= SMALL_OPERANDS { lazy.materialise().map(Constant::Data) } else { Ok(lazy) }
}

/// The results of an op whose result sizes depend on its operands' contents.
fn small_of_unknown_size(
    op: &'static OpRow,
    attrs: &Attrs,
    operands: &[Option<Constant>],
    outputs: usize,
) -> Result<Vec<Constant>, String> {
    if operand_bytes(operands) > SMALL_OPERANDS {
        return Err("the result's size is unknown and the operands are large".into());
    }
    let result = |output: usize| {
        let ty = TensorType { dtype: burin_ir::DType::F32, shape: Vec::new() };
        let c = Computed { ty, op, attrs: attrs.clone(), inputs: operands.to_vec(), output };
        Constant::Computed(Arc::new(c)).materialise().map(Constant::Data)
    };
    (0..outputs).map(result).collect()
}

fn operand_bytes(operands: &[Option<Constant>]) -> usize {
    operands.iter().flatten().map(Constant::bytes).fold(0, usize::saturating_add)
}
