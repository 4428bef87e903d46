//! Softmax and its kin: distributions along an axis.
//!
//! The maximum is subtracted before the exponential, which therefore never overflows.

use super::Tolerance::{LargestOrOne, Ulps};
use super::compose::{Body, Built, Inputs};
use super::norm::composite;
use super::reduce::{position_term, positions};
use super::rules::{self, FLOAT};
use super::{EvalCx, Lower, Meaning, OpRow, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::element::{self, Element, ReduceOp, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::tensor::{self, Tensor};

const AXIS: &[AttrSpec] = &[AttrSpec::new("axis", AttrKind::Int, Default::Int(-1))];

/// What the difference to the greatest input loses by rounding, its exponential is off by, relatively:
/// that of -104, below which there is nothing, by as many places.
const SOFTMAX: super::Tolerance = Ulps(128);

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: AXIS,
        samples: &["Softmax(f32[2,3])", "Softmax(f16[3,17]) {axis = 0}", "Softmax(f64[2,0,3]) {axis = 1}"],
        ..composite("Softmax", 13, &[one("input")], along_axis, softmax, SOFTMAX)
    },
    // Near zero, where one element has nearly all of the sum, only the absolute error is small.
    OpRow {
        attrs: AXIS,
        samples: &[
            "LogSoftmax(f32[2,3])",
            "LogSoftmax(f16[3,17]) {axis = 0}",
            "LogSoftmax(f64[2,0,3]) {axis = 1}",
        ],
        ..composite("LogSoftmax", 13, &[one("input")], along_axis, log_softmax, LargestOrOne(16.0))
    },
    OpRow {
        attrs: AXIS,
        eval: Some(hardmax),
        samples: &["Hardmax(f32[2,3])", "Hardmax(f16[3,7,2]) {axis = 1}", "Hardmax(f64[0,3])"],
        ..OpRow::new(
            "Hardmax",
            Some(("", 13)),
            &[one("input")],
            along_axis,
            Meaning::Primitive(Lower::Element(hardmax_element)),
        )
    },
];

/// One result like the operand, of floats, with a valid `axis`.
pub(super) fn along_axis(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    cx.axis(cx.int("axis"), cx.ty(0)?.rank())?;
    rules::same_as_first::<FLOAT>(cx)
}

/// `x - max(x)` along the axis, its exponential, and the sum of that.
fn powers(s: &mut Body<'_, '_>, x: Value, axis: i64) -> Result<(Value, Value, Value), String> {
    let most = s.reduce("ReduceMax", x, &[axis])?;
    let shifted = s.op("Sub", &[x, most])?;
    let powers = s.op("Exp", &[shifted])?;
    let sum = s.reduce("ReduceSum", powers, &[axis])?;
    Ok((shifted, powers, sum))
}

fn softmax(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    Body::build(b, inputs, |s, x| {
        let (_, powers, sum) = powers(s, x, cx.int("axis"))?;
        s.op("Div", &[powers, sum])
    })
}

fn log_softmax(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    Body::build(b, inputs, |s, x| {
        let (shifted, _, sum) = powers(s, x, cx.int("axis"))?;
        let log = s.op("Log", &[sum])?;
        s.op("Sub", &[shifted, log])
    })
}

/// 1 at the first place of the maximum along the axis, 0 elsewhere.
fn hardmax_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    let axes = element::axes(x.rank());
    let index: Vec<Expr> = axes.iter().map(|a| (*a).into()).collect();
    let first = position_term(x, axis, &index, ReduceOp::Max, false);
    let here = first.binary(S::Eq, &Term::index(axes[axis]));
    Ok(Element { axes, body: here.cast(x.dtype) })
}

fn hardmax(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let axis = e.cx.axis(e.cx.int("axis"), x.rank())?;
    let (n, stride) = (x.shape()[axis], tensor::strides(x.shape())[axis]);
    let mut out = vec![Scalar::F(0.0); x.len()];
    for (lane, k) in positions(x, axis, ReduceOp::Max, false).into_iter().enumerate() {
        let (outer, inner) = (lane / stride, lane % stride);
        out[(outer * n + k as usize) * stride + inner] = Scalar::F(1.0);
    }
    Ok(vec![Tensor::from_scalars(x.dtype(), x.shape(), out)])
}
