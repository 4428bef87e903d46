//! Classical machine learning: the ops of the domain `ai.onnx.ml`, whose models are attributes.
//!
//! All are composites: coefficients, tables and trees become constant operands of other ops. Where the
//! specification leaves a result open, it is what ONNX Runtime gives.

pub mod features;
mod forest;
pub mod linear;
mod scores;
pub mod svm;
#[cfg(test)]
mod tests;
pub mod trees;

use super::compose::cast;
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::graph::infer::Cx;
use crate::graph::{Builder, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;

/// The domain.
const DOMAIN: &str = "ai.onnx.ml";

const fn floats(name: &'static str) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Floats, Default::Absent)
}

const fn ints(name: &'static str) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Ints, Default::Absent)
}

const fn tensor(name: &'static str) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Tensor, Default::Absent)
}

const POST_TRANSFORM: AttrSpec = AttrSpec::new("post_transform", AttrKind::Str, Default::Str("NONE"));

/// The type that features are computed in: floats of 16 bits and integers as `f32`.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The features of a node's first operand in their [`wide`] type.
fn widened(b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let to = wide(b.ty(x)?.dtype);
    cast(b, x, to)
}

/// A constant of a type from floats.
fn constant(b: &mut Builder<'_>, dtype: DType, shape: &[usize], values: &[f64]) -> Value {
    b.constant(Tensor::from_f64s(dtype, shape, values))
}

/// A constant of one number.
fn number(b: &mut Builder<'_>, dtype: DType, value: f64) -> Value {
    b.constant(Tensor::scalar(dtype, Scalar::F(value)))
}

/// A constant list of integers.
fn list(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

/// A reduction over one axis.
fn reduced(b: &mut Builder<'_>, op: &str, x: Value, axis: i64, keep: bool) -> Result<Value, String> {
    let axes = list(b, &[axis]);
    b.op(op, &[x, axes], vec![("keepdims", Attr::Int(keep.into()))])
}

/// An attribute of floats, given as a list or as a tensor under the name with `_as_tensor` behind it.
fn numbers(cx: &Cx<'_>, name: &str) -> Vec<f64> {
    match (cx.attrs.floats(name), cx.attrs.tensor(&format!("{name}_as_tensor"))) {
        (Some(v), _) if !v.is_empty() => v.to_vec(),
        (_, Some(t)) => t.to_f64s(),
        _ => Vec::new(),
    }
}

/// An attribute of integers; empty where it is absent.
fn integers<'a>(cx: &'a Cx<'_>, name: &str) -> &'a [i64] {
    cx.attrs.ints(name).unwrap_or_default()
}
