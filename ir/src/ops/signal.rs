//! Windows for signals, and the weights of the mel scale.

use super::rules::{self, FLOAT, INT, NUMBER, indices};
use super::shape;
use super::{Lower, Meaning, OpRow, Port, Tolerance, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::types::TensorType;

const DATATYPE: AttrSpec = AttrSpec::new("output_datatype", AttrKind::DType, Default::Absent);

/// A sum of cosines over a window.
macro_rules! window {
    ($name:literal, $weights:expr) => {
        OpRow {
            attrs: &[DATATYPE, AttrSpec::new("periodic", AttrKind::Int, Default::Int(1))],
            tolerance: Tolerance::Largest(16.0),
            samples: &[
                concat!($name, "(i64[] = 10)"),
                concat!($name, "(i32[] = 7) {periodic = 0, output_datatype = f64}"),
                concat!($name, "(i64[] = 33) {output_datatype = f16}"),
                concat!($name, "(i64[] = 0)"),
            ],
            ..OpRow::new(
                $name,
                Some(("", 17)),
                &[one("size").known()],
                window_infer,
                Meaning::Primitive(Lower::Element(|cx, _| window_element(cx, &$weights))),
            )
        }
    };
}

/// The family.
pub const ROWS: &[OpRow] = &[
    window!("HannWindow", [0.5, -0.5]),
    window!("HammingWindow", [25.0 / 46.0, -21.0 / 46.0]),
    window!("BlackmanWindow", [0.42, -0.5, 0.08]),
    OpRow {
        attrs: &[DATATYPE],
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "MelWeightMatrix(i64[] = 8, i64[] = 16, i64[] = 8192, f32[] = 0.0, f32[] = 4096.0)",
            "MelWeightMatrix(i32[] = 5, i32[] = 65, i32[] = 16000, f64[] = 80.5, f64[] = 7600.0) \
             {output_datatype = f64}",
        ],
        ..OpRow::new(
            "MelWeightMatrix",
            Some(("", 17)),
            MEL,
            mel_infer,
            Meaning::Primitive(Lower::Element(mel)),
        )
    },
];

const MEL: &[Port] = &[
    one("num_mel_bins").known(),
    one("dft_length").known(),
    one("sample_rate"),
    one("lower_edge_hertz"),
    one("upper_edge_hertz"),
];

fn datatype(cx: &Cx<'_>) -> DType {
    cx.attrs.dtype("output_datatype").unwrap_or(DType::F32)
}

/// A size given by an operand of one element; a fresh symbol where it depends on data.
fn size(cx: &Cx<'_>, i: usize, what: &str) -> Result<Expr, String> {
    rules::expect(&format!("input {i} ({what})"), cx.dtype(i)?, INT)?;
    match cx.known(i) {
        Some([n]) if n.as_const().is_none_or(|n| n >= 0) => Ok(shape::size(n)),
        Some(other) => Err(format!("{what} is {}, expected one number of 0 or more", rules::show(other))),
        None => Ok((cx.fresh)().into()),
    }
}

/// The one element of an operand as `f64`.
fn number(cx: &Cx<'_>, i: usize) -> Result<Term, String> {
    let t = cx.ty(i)?;
    Ok(Term::load(t.dtype, i, vec![Expr::ZERO; t.rank()]).cast(DType::F64))
}

fn window_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("output_datatype", datatype(cx), NUMBER)?;
    Ok(vec![TensorType::new(datatype(cx), [size(cx, 0, "size")?]).into()])
}

/// `sum of weights[k] * cos(2 pi k n / period)`.
fn window_element(cx: &Cx<'_>, weights: &[f64]) -> Result<Element, String> {
    let (axes, index) = indices(1);
    let size = number(cx, 0)?;
    let period = if cx.attrs.flag("periodic") { size } else { size - 1.0 };
    let turn = Term::index(index[0].clone()).cast(DType::F64) * std::f64::consts::TAU / period;
    let mut sum = turn.lit(weights[0]);
    for (k, weight) in weights.iter().enumerate().skip(1) {
        sum = sum + (&turn * k as f64).unary(S::Cos) * *weight;
    }
    Ok(Element { axes, body: sum.cast(datatype(cx)) })
}

fn mel_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("output_datatype", datatype(cx), NUMBER)?;
    rules::expect("input 3 (lower_edge_hertz)", cx.dtype(3)?, FLOAT)?;
    let (bins, length) = (size(cx, 0, "num_mel_bins")?, size(cx, 1, "dft_length")?);
    Ok(vec![TensorType::new(datatype(cx), [length.floor_div(&2.into()) + 1, bins]).into()])
}

/// Triangles of height 1 over the spectrum's bins, whose feet are the neighbours' tops; tops lie at
/// equal distances on the mel scale, `2595 log10(1 + hertz / 700)`.
fn mel(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (axes, index) = indices(2);
    let float = |v: f64| Term::constant(DType::F64, Scalar::F(v));
    let per_mel = std::f64::consts::LN_10 / 2595.0;
    let to_mel = |hertz: Term| (hertz / float(700.0) + 1.0).unary(S::Log) / float(per_mel);
    let (low, high) = (to_mel(number(cx, 3)?), to_mel(number(cx, 4)?));
    let step = (high - &low) / (number(cx, 0)? + 2.0);
    let (length, rate) = (number(cx, 1)? + 1.0, number(cx, 2)?);
    // The spectrum's bin of the top with that number, a whole `f64`.
    let top = |n: Expr| {
        let mel = Term::index(n).cast(DType::F64) * &step + &low;
        let hertz = ((mel * per_mel).unary(S::Exp) - 1.0) * 700.0;
        (&length * &hertz / &rate).unary(S::Floor)
    };
    let (left, center, right) = (top(index[1].clone()), top(&index[1] + 1), top(&index[1] + 2));
    let at = Term::index(index[0].clone()).cast(DType::F64);
    let zero = float(0.0);
    let rising = (&at - &left) / (&center - &left);
    let rising = at.binary(S::Eq, &center).select(&float(1.0), &rising);
    let is_left = at.binary(S::Ge, &left).binary(S::And, &at.binary(S::Le, &center));
    let falling = (&right - &at) / (&right - &center);
    let is_right = at.binary(S::Ge, &center).binary(S::And, &at.binary(S::Lt, &right));
    let body = is_right.select(&falling, &is_left.select(&rising, &zero));
    Ok(Element { axes, body: body.cast(datatype(cx)) })
}
