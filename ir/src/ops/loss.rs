//! Losses of classifications: how improbable the labels are, as a sum, a mean or one by one.
//!
//! Labels out of range are clamped into it, so that any data is safe to read with; those of
//! `ignore_index` count for nothing.

use super::Tolerance::{Largest, Sum};
use super::compose::{Body, Built, Inputs, cast, operand};
use super::contract::shared;
use super::rules::{self, FLOAT};
use super::{Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

const ATTRS: &[AttrSpec] = &[
    AttrSpec::new("ignore_index", AttrKind::Int, Default::Absent),
    AttrSpec::new("reduction", AttrKind::Str, Default::Str("mean")),
];

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: ATTRS,
        tolerance: Sum(32.0),
        samples: &[
            "NegativeLogLikelihoodLoss(f32[4,5], i64[4] in 0..5)",
            "NegativeLogLikelihoodLoss(f16[2,3,4,2], i32[2,4,2] in 0..3, f16[3] in 0.5..2.0) {reduction = \"sum\"}",
            "NegativeLogLikelihoodLoss(f32[3,5], i64[3] in 0..5, f32[5] in 0.5..2.0) {ignore_index = 2}",
            "NegativeLogLikelihoodLoss(f64[2,3,2], i64[2,2] in 0..3) {reduction = \"none\", ignore_index = -1}",
            "NegativeLogLikelihoodLoss(bf16[5,3], i64[5] in 0..3) {ignore_index = 0}",
        ],
        ..OpRow::new(
            "NegativeLogLikelihoodLoss",
            Some(("", 12)),
            &[one("input"), one("target"), opt("weight")],
            loss_type,
            Meaning::Composite(negative_log_likelihood),
        )
    },
    OpRow {
        outputs: (1, 2),
        attrs: ATTRS,
        tolerance: Largest(64.0),
        samples: &[
            "SoftmaxCrossEntropyLoss(f32[4,5], i64[4] in 0..5) -> 2",
            "SoftmaxCrossEntropyLoss(f16[2,3,4], i32[2,4] in 0..3, f16[3] in 0.5..2.0) {reduction = \"sum\"}",
            "SoftmaxCrossEntropyLoss(f64[2,3,2,2], i64[2,2,2] in 0..3) {reduction = \"none\", ignore_index = 1} -> 2",
            "SoftmaxCrossEntropyLoss(f32[5,3], i64[5] in 0..3, f32[3] in 0.5..2.0) {ignore_index = 7}",
        ],
        ..OpRow::new(
            "SoftmaxCrossEntropyLoss",
            Some(("", 12)),
            &[one("scores"), one("labels"), opt("weights")],
            loss_type,
            Meaning::Composite(softmax_cross_entropy),
        )
    },
];

fn loss_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, labels) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 0", x.dtype, FLOAT)?;
    rules::expect("input 1", labels.dtype, rules::INT)?;
    let [batch, classes, rest @ ..] = &x.shape[..] else {
        return Err(format!("input 0 is {x}, expected two dimensions or more"));
    };
    let places: Vec<_> = [batch].into_iter().chain(rest).cloned().collect();
    if labels.rank() != places.len() {
        return Err(format!("input 1 is {labels}, expected a label for each of {}", rules::show(&places)));
    }
    for (a, b) in places.iter().zip(&labels.shape) {
        shared(a, b, "the sizes of inputs 0 and 1")?;
    }
    if cx.has(2) {
        let weights = cx.ty(2)?;
        let [n] = &weights.shape[..] else {
            return Err(format!("input 2 is {weights}, expected a weight for each class"));
        };
        shared(classes, n, "the numbers of classes and of weights")?;
    }
    let shape = match cx.attrs.str("reduction") {
        Some("none") => places,
        Some("sum" | "mean") => Vec::new(),
        other => return Err(format!("reduction is {other:?}, expected none, sum or mean")),
    };
    let loss = TensorType::new(x.dtype, shape);
    Ok([loss, x.clone()].into_iter().take(cx.outputs).map(Info::from).collect())
}

fn negative_log_likelihood(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(labels), ..] = inputs else { return Ok(None) };
    let mut s = Body::of(b, cx.dtype(0)?);
    let x = s.widen(*x)?;
    let loss = loss(cx, &mut s, [x, *labels], operand(inputs, 2))?;
    Ok(Some(vec![cast(s.b, loss, cx.dtype(0)?)?]))
}

fn softmax_cross_entropy(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(labels), ..] = inputs else { return Ok(None) };
    let dtype = cx.dtype(0)?;
    let mut s = Body::of(b, dtype);
    let x = s.widen(*x)?;
    let logs = s.b.op("LogSoftmax", &[x], vec![("axis", Attr::Int(1))])?;
    let loss = loss(cx, &mut s, [logs, *labels], operand(inputs, 2))?;
    let results = [cast(s.b, loss, dtype)?, cast(s.b, logs, dtype)?];
    Ok(Some(results.into_iter().take(cx.outputs).collect()))
}

/// The loss of log-probabilities `[batch, classes, ...]` for labels `[batch, ...]`.
fn loss(
    cx: &Cx<'_>,
    s: &mut Body<'_, '_>,
    [logs, labels]: [Value; 2],
    weights: Option<Value>,
) -> Result<Value, String> {
    let dtype = cx.dtype(1)?;
    let mut labels = labels;
    let mut ignored = None;
    if let Some(index) = cx.attrs.int("ignore_index") {
        let label =
            |s: &mut Body<'_, '_>, v: i64| s.b.constant(Tensor::scalar(dtype, Scalar::I(v).cast(dtype)));
        let (index, first) = (label(s, index), label(s, 0));
        let hits = s.op("Equal", &[labels, index])?;
        // It need not be one of the classes.
        labels = s.op("Where", &[hits, first, labels])?;
        ignored = Some(hits);
    }
    let classes = s.axes(&[1]);
    let column = s.op("Unsqueeze", &[labels, classes])?;
    let picked = s.b.op("GatherElements", &[logs, column], vec![("axis", Attr::Int(1))])?;
    let picked = s.op("Squeeze", &[picked, classes])?;
    let mut loss = s.op("Neg", &[picked])?;
    let mut counts = None;
    if let Some(weights) = weights {
        let of_labels = s.b.op("Gather", &[weights, labels], vec![("axis", Attr::Int(0))])?;
        let of_labels = s.widen(of_labels)?;
        loss = s.op("Mul", &[loss, of_labels])?;
        counts = Some(of_labels);
    }
    if let Some(ignored) = ignored {
        let zero = s.number(0.0);
        loss = s.op("Where", &[ignored, zero, loss])?;
        let each = counts.unwrap_or_else(|| s.number(1.0));
        counts = Some(s.op("Where", &[ignored, zero, each])?);
    }
    let mut total = |op: &str, x: Value| s.b.op(op, &[x], vec![("keepdims", Attr::Int(0))]);
    match (cx.attrs.str("reduction"), counts) {
        (Some("none"), _) => Ok(loss),
        (Some("sum"), _) => total("ReduceSum", loss),
        (_, None) => total("ReduceMean", loss),
        (_, Some(counts)) => {
            let (sum, counts) = (total("ReduceSum", loss)?, total("ReduceSum", counts)?);
            s.op("Div", &[sum, counts])
        }
    }
}
