//! Conversions between element types, and ops that pass their operand on.

use super::Tolerance::Exact;
use super::pointwise::{INPUT, row, samples};
use super::rules::{self, ANY, FLOAT};
use super::{Meaning, OpRow, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{self, Element, Term};
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::types::TensorType;

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            AttrSpec::new("to", AttrKind::DType, Default::Required),
            AttrSpec::new("saturate", AttrKind::Int, Default::Int(1)),
            AttrSpec::new("round_mode", AttrKind::Str, Default::Str("up")),
        ],
        ..row(
            "Cast",
            6,
            INPUT,
            |cx| Ok(vec![TensorType::new(cast_target(cx)?, cx.shape(0)?.to_vec()).into()]),
            |cx, t| t[0].cast(cx.attrs.dtype("to").unwrap_or(t[0].dtype())),
            Exact,
            &[
                "Cast(f32[2,3]) {to = i64}",
                "Cast(i64[5]) {to = f16}",
                "Cast(f64[]) {to = u8}",
                "Cast(bool[4]) {to = f32}",
                "Cast(f32[0,3]) {to = bool}",
                "Cast(f64[7]) {to = bf16}",
            ],
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("saturate", AttrKind::Int, Default::Int(1)),
            AttrSpec::new("round_mode", AttrKind::Str, Default::Str("up")),
        ],
        meaning: Meaning::Composite(|cx, b, inputs| {
            let Some(Some(x)) = inputs.first() else { return Ok(None) };
            let to = crate::Attr::DType(cx.dtype(1)?);
            Ok(Some(vec![b.op("Cast", &[*x], vec![("to", to)])?]))
        }),
        ..row(
            "CastLike",
            15,
            &[one("input"), one("target_type")],
            |cx| Ok(vec![TensorType::new(cx.dtype(1)?, cx.shape(0)?.to_vec()).into()]),
            |_, t| t[0].clone(),
            Exact,
            samples!("CastLike": "f32[2,3], i64[]", "i32[4], f16[2]"),
        )
    },
    row(
        "Identity",
        1,
        INPUT,
        rules::same_as_first::<ANY>,
        |_, t| t[0].clone(),
        Exact,
        samples!("Identity": "f32[2,3]", "bool[]", "i64[0]"),
    ),
    OpRow {
        outputs: (1, 2),
        attrs: &[AttrSpec::new("seed", AttrKind::Int, Default::Absent)],
        samples: &[
            "Dropout(f32[2,3])",
            "Dropout(f16[5], f32[]) -> 2",
            "Dropout(f64[], _, bool[] = [false]) -> 2",
        ],
        ..OpRow::new(
            "Dropout",
            Some(("", 12)),
            &[one("data"), opt("ratio"), opt("training_mode")],
            dropout_type,
            Meaning::Movement(dropout),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("to", AttrKind::DType, Default::Required)],
        ..row(
            "BitCast",
            26,
            INPUT,
            bitcast_type,
            |cx, t| match cx.attrs.dtype("to") {
                Some(to) if to != t[0].dtype() => t[0].unary(S::Bitcast(to)),
                _ => t[0].clone(),
            },
            Exact,
            &["BitCast(f32[2,3]) {to = i32}", "BitCast(i16[5]) {to = u16}", "BitCast(bool[3]) {to = u8}"],
        )
    },
];

fn cast_target(cx: &Cx<'_>) -> Result<DType, String> {
    cx.attrs.dtype("to").ok_or_else(|| "attribute to is missing".to_owned())
}

fn bitcast_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (from, to) = (cx.dtype(0)?, cast_target(cx)?);
    if from != to {
        S::Bitcast(to).result_type(&[from])?;
    }
    Ok(vec![TensorType::new(to, cx.shape(0)?.to_vec()).into()])
}

/// Inference only: training would draw a mask.
fn dropout_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("data", cx.dtype(0)?, FLOAT)?;
    match rules::ints_of(cx, 2, "training_mode")?.as_deref() {
        None | Some([0]) => {}
        Some(v) => return Err(format!("training_mode is {v:?}; only inference (false) is supported")),
    }
    let x = cx.ty(0)?.clone();
    let mask = TensorType::new(DType::Bool, x.shape.clone());
    Ok([x, mask].into_iter().take(cx.outputs).map(Info::from).collect())
}

fn dropout(cx: &Cx<'_>, output: usize) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let axes = element::axes(x.rank());
    let body = match output {
        0 => Term::load(x.dtype, 0, axes.iter().map(|a| (*a).into()).collect()),
        _ => Term::constant(DType::Bool, Scalar::B(true)),
    };
    Ok(Element { axes, body })
}
