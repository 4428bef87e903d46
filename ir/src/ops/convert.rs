//! Conversions between element types, and ops that pass their operand on.

use super::Tolerance::Exact;
use super::pointwise::{INPUT, row, samples};
use super::rules::{self, ANY, CONVERTED};
use super::{Meaning, OpRow, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::Term;
use crate::graph::infer::{Cx, Info};
use crate::minifloat;
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
            |cx| cast_type(cx, cast_target(cx)?),
            |cx, t| {
                let to = cx.attrs.dtype("to").unwrap_or(t[0].dtype());
                term(&t[0], to, cx.attrs.flag("saturate"), cx.attrs.str("round_mode").unwrap_or("up"))
            },
            Exact,
            &[
                "Cast(f32[2,3]) {to = i64}",
                "Cast(i64[5]) {to = f16}",
                "Cast(f64[]) {to = u8}",
                "Cast(bool[4]) {to = f32}",
                "Cast(f32[0,3]) {to = bool}",
                "Cast(f64[7]) {to = bf16}",
                "Cast(f32[9] in -600.0..600.0) {to = f8e4m3fn}",
                "Cast(f32[9] in -600.0..600.0) {to = f8e4m3fn, saturate = 0}",
                "Cast(f16[9] in -9e4..9e4) {to = f8e5m2, saturate = 0}",
                "Cast(f64[9] in -500.0..500.0) {to = f8e4m3fnuz, saturate = 0}",
                "Cast(i32[9] in -90000..90000) {to = f8e5m2fnuz}",
                "Cast(f32[9] in -9.0..9.0) {to = f8e8m0, round_mode = \"nearest\"}",
                "Cast(bf16[9] in 0.0..9.0) {to = f8e8m0, round_mode = \"down\"}",
                "Cast(f32[9] in -9.0..9.0) {to = f4e2m1}",
                "Cast(f8e4m3fn[9]) {to = f16}",
                "Cast(f8e8m0[9]) {to = i64}",
                "Cast(f32[9] in -20.0..20.0) {to = i4}",
                "Cast(i64[9] in -20..20) {to = u4}",
                "Cast(u4[9]) {to = i2}",
                "Cast(i2[9]) {to = bool}",
                "Cast(i4[9]) {to = f8e4m3fn}",
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
            let mut attrs = vec![("to", crate::Attr::DType(cx.dtype(1)?))];
            attrs.extend(cx.attrs.0.iter().cloned());
            Ok(Some(vec![b.op("Cast", &[*x], attrs)?]))
        }),
        ..row(
            "CastLike",
            15,
            &[one("input"), one("target_type")],
            |cx| cast_type(cx, cx.dtype(1)?),
            |_, t| t[0].clone(),
            Exact,
            samples!("CastLike": "f32[2,3], i64[]", "i32[4], f16[2]", "f32[4], f8e5m2[2]"),
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

/// A conversion. Only floats of 8 bits or less have a choice: without `saturate`, what is beyond the
/// largest number becomes an infinity or a NaN; `round_mode` is of powers of two.
pub(super) fn term(x: &Term, to: DType, saturate: bool, round_mode: &str) -> Term {
    let wide = |x: &Term| {
        if x.dtype().is_storage() || !x.dtype().is_float() { x.cast(DType::F32) } else { x.clone() }
    };
    match minifloat::format(to) {
        _ if x.dtype() == to => x.clone(),
        None if to == DType::F8E8M0 && (!saturate || round_mode != "up") => {
            power_of_two(&x.cast(DType::F32), saturate, round_mode).cast(to)
        }
        // Without a NaN there is nothing else to become.
        Some(f) if !saturate && to != DType::F4E2M1 => {
            let (x, converted) = (wide(x), x.cast(to));
            let code = |code: u8| Term::constant(DType::U8, Scalar::U(code.into())).unary(S::Bitcast(to));
            let beyond = match f.infinity {
                Some(infinity) => {
                    x.binary(S::Lt, &x.lit(0.0)).select(&code(infinity | f.sign), &code(infinity))
                }
                None => code(f.nan),
            };
            let (size, limit) = (x.unary(S::Abs), x.lit(f.overflow()));
            // A tie goes to the number of the even code, which may be the one that there is not.
            let over = size.binary(if f.largest % 2 == 0 { S::Gt } else { S::Ge }, &limit);
            over.select(&beyond, &converted)
        }
        _ => x.cast(to),
    }
}

/// The power of two that stands for an `f32`: its sign is dropped and its exponent kept, or increased
/// as ONNX says. Beyond the largest power is infinity.
fn power_of_two(x: &Term, saturate: bool, round_mode: &str) -> Term {
    let bits = x.unary(S::Bitcast(DType::I32));
    let int = |v: i64| Term::constant(DType::I32, Scalar::I(v));
    let (fraction, exponent) = (bits.binary(S::And, &int(0x7f_ffff)), bits.binary(S::And, &int(0x7f80_0000)));
    let increased = match round_mode {
        "down" => exponent.clone(),
        "nearest" => {
            // Halves go up, but for those of denormals, which have the least exponent.
            let is_normal = exponent.binary(S::Gt, &int(0)).cast(DType::I32);
            let up = (fraction + is_normal).binary(S::Gt, &int(0x40_0000));
            up.select(&(&exponent + &int(0x80_0000)), &exponent)
        }
        _ => fraction.binary(S::Gt, &int(0)).select(&(&exponent + &int(0x80_0000)), &exponent),
    };
    let special = exponent.binary(S::Eq, &int(0x7f80_0000));
    let most = if saturate { int(0x7f00_0000) } else { int(0x7f80_0000) };
    let kept = increased.binary(S::Min, &most);
    special.select(&exponent, &kept).unary(S::Bitcast(DType::F32))
}

fn cast_type(cx: &Cx<'_>, to: DType) -> Result<Vec<Info>, String> {
    match cx.attrs.str("round_mode") {
        None | Some("up" | "down" | "nearest") => {}
        Some(other) => return Err(format!("round_mode is {other:?}, expected up, down or nearest")),
    }
    rules::expect("input 0", cx.dtype(0)?, CONVERTED)?;
    rules::expect("the result", to, CONVERTED)?;
    Ok(vec![TensorType::new(to, cx.shape(0)?.to_vec()).into()])
}

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
