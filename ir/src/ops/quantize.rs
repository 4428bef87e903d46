//! Conversions between real numbers and the integers (or narrow floats) that stand for them:
//! `real = (quantised - zero_point) * scale`.
//!
//! Scale and zero point are one for the whole tensor, one for each position along an axis, or one
//! for each block of positions along an axis. Everything is computed in the type that ONNX names and
//! rounded where ONNX rounds, so that every backend gives the same bits; the reals of a quantised
//! tensor are therefore never `f64`, which the evaluator would otherwise compute in.

use super::compose::{Built, Inputs, operand};
use super::{Lower, Meaning, OpRow, Port, one, opt};
use super::{convert, rules};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::Builder;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::tensor::Tensor;
use crate::types::TensorType;

const AXIS: AttrSpec = AttrSpec::new("axis", AttrKind::Int, Default::Int(1));
const BLOCK: AttrSpec = AttrSpec::new("block_size", AttrKind::Int, Default::Int(0));
const OUTPUT: AttrSpec = AttrSpec::new("output_dtype", AttrKind::DType, Default::Absent);

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            AXIS,
            BLOCK,
            OUTPUT,
            AttrSpec::new("precision", AttrKind::DType, Default::Absent),
            AttrSpec::new("saturate", AttrKind::Int, Default::Int(1)),
        ],
        samples: &[
            "QuantizeLinear(f32[4,5], f32[] in 0.01..0.1, u8[])",
            "QuantizeLinear(f32[3,4,2], f32[4] in 0.01..0.02, i8[4])",
            "QuantizeLinear(f16[6,3], f16[6] in 0.01..0.1) {axis = -2}",
            "QuantizeLinear(f32[2,7], f32[2,3] in 0.01..0.1, i16[2,3]) {block_size = 3}",
            "QuantizeLinear(i32[5] in -100..100, f32[1] in 0.1..0.9) {output_dtype = i8}",
            "QuantizeLinear(f16[4], f32[] in 0.1..0.2) {precision = f16, output_dtype = u16}",
            "QuantizeLinear(f32[5] = [0.5, 1.5, 2.5, -0.5, 1e30], f32[] = [1.0], u8[] = [3])",
            "QuantizeLinear(f32[0,3], f32[3])",
            "QuantizeLinear(f32[6], f32[] in 0.05..0.2, i4[])",
            "QuantizeLinear(f32[6], f32[1] in 0.1..0.4) {output_dtype = u2}",
            "QuantizeLinear(f32[2,4], f32[4] in 0.001..0.01, f8e4m3fn[4] = [0.0, 0.0, 0.0, 0.0])",
            "QuantizeLinear(f16[9], f16[] in 0.0001..0.0002) {output_dtype = f8e5m2, saturate = 0}",
            "QuantizeLinear(f32[2,6], f8e8m0[2,2] in 0.1..0.9) {output_dtype = f4e2m1, block_size = 3}",
        ],
        ..row("QuantizeLinear", &[one("x"), one("y_scale"), opt("y_zero_point")], quantised, quantise)
    },
    OpRow {
        attrs: &[AXIS, BLOCK, OUTPUT],
        samples: &[
            "DequantizeLinear(u8[4,5], f32[], u8[])",
            "DequantizeLinear(i8[3,4,2], f32[4], i8[4])",
            "DequantizeLinear(i16[2,7], f16[2,3], i16[2,3]) {block_size = 3, axis = -1}",
            "DequantizeLinear(i32[5], f32[1]) {output_dtype = f16}",
            "DequantizeLinear(u16[3,2], bf16[3]) {axis = 0}",
            "DequantizeLinear(u8[3,0], f32[3]) {axis = 0}",
            "DequantizeLinear(i8[3,2], f32[1], i8[]) {axis = 0}",
            "DequantizeLinear(u4[3,2], f16[3], u4[3]) {axis = 0}",
            "DequantizeLinear(f8e4m3fnuz[5], f32[], f8e4m3fnuz[] = [0.0])",
            "DequantizeLinear(f4e2m1[2,6], f8e8m0[2,2]) {block_size = 3, output_dtype = f32}",
        ],
        ..row("DequantizeLinear", &[one("x"), one("x_scale"), opt("x_zero_point")], dequantised, dequantise)
    },
    OpRow {
        outputs: (3, 3),
        samples: &[
            "DynamicQuantizeLinear(f32[3,5]) -> 3",
            "DynamicQuantizeLinear(f32[7] in 2.0..9.0) -> 3",
            "DynamicQuantizeLinear(f32[3] = [0.0, 0.0, 0.0]) -> 3",
        ],
        ..OpRow::new(
            "DynamicQuantizeLinear",
            Some(("", 11)),
            &[one("x")],
            dynamic_type,
            Meaning::Composite(dynamic),
        )
    },
];

const fn row(
    name: &'static str,
    inputs: &'static [Port],
    rule: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    element: fn(&Cx<'_>, usize) -> Result<Element, String>,
) -> OpRow {
    OpRow::new(name, Some(("", 10)), inputs, rule, Meaning::Primitive(Lower::Element(element)))
}

/// Whether a type is one of the reals that are quantised.
fn is_real(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether reals can be quantised to a type.
fn is_quantised(dtype: DType) -> bool {
    dtype.bits() < 32 && !is_real(dtype) && !matches!(dtype, DType::Bool | DType::F8E8M0)
}

fn refuse(what: &str, found: DType, expected: &str) -> Result<(), String> {
    Err(format!("{what} has elements of {found}, expected {expected}"))
}

/// Which element of a scale or zero point goes with an element of the tensor.
enum Granularity {
    /// The only one; its shape has so many dimensions.
    Tensor(usize),
    /// The one of the position along an axis.
    Axis(usize),
    /// The one of the block of so many positions along an axis.
    Block(usize, i64),
}

impl Granularity {
    /// Of input `i`, whose shape is checked. Where a zero point has another than its scale, one of
    /// them has a single element; writers differ in whether that has a dimension.
    fn of(cx: &Cx<'_>, i: usize) -> Result<Granularity, String> {
        let (x, given) = (cx.shape(0)?, cx.shape(i)?);
        let block = cx.attrs.int("block_size").unwrap_or(0);
        if block < 0 {
            return Err(format!("block_size is {block}, expected 0 or more"));
        }
        if given.iter().all(|d| *d == 1) && (given.len() <= 1 || block == 0) {
            return Ok(Granularity::Tensor(given.len()));
        }
        let axis = cx.axis(cx.int("axis"), x.len())?;
        let mut expected = x.to_vec();
        if block > 0 {
            expected[axis] = x[axis].ceil_div(&block.into());
        } else {
            expected = vec![x[axis].clone()];
        }
        let clash =
            |(a, b): (&Expr, &Expr)| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
        if given.len() != expected.len() || given.iter().zip(&expected).any(clash) {
            let (found, expected) = (rules::show(given), rules::show(&expected));
            let port = cx.op.inputs[i].name;
            return Err(format!("input {i} ({port}) has shape {found}, expected {expected}, or one element"));
        }
        Ok(if block > 0 { Granularity::Block(axis, block) } else { Granularity::Axis(axis) })
    }

    /// Those of the scale, and of the zero point where there is one.
    fn check(cx: &Cx<'_>) -> Result<(), String> {
        (1..cx.inputs.len()).filter(|i| cx.has(*i)).try_for_each(|i| Granularity::of(cx, i).map(drop))
    }

    /// Where it stands for the element at `index`.
    fn place(&self, index: &[Expr]) -> Vec<Expr> {
        match self {
            Granularity::Tensor(rank) => vec![Expr::ZERO; *rank],
            Granularity::Axis(axis) => vec![index[*axis].clone()],
            Granularity::Block(axis, size) => {
                let mut place = index.to_vec();
                place[*axis] = place[*axis].floor_div(&(*size).into());
                place
            }
        }
    }
}

/// The element type that QuantizeLinear gives.
fn target(cx: &Cx<'_>) -> Result<DType, String> {
    let declared = cx.attrs.dtype("output_dtype");
    if !cx.has(2) {
        return Ok(declared.unwrap_or(DType::U8));
    }
    let zero = cx.dtype(2)?;
    match declared.filter(|d| *d != zero) {
        Some(d) => Err(format!("output_dtype is {d}, but input 2 (the zero point) has elements of {zero}")),
        None => Ok(zero),
    }
}

fn quantised(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Granularity::check(cx)?;
    for i in [0, 1] {
        let dtype = cx.dtype(i)?;
        if !is_real(dtype) && dtype != DType::I32 && (i == 0 || dtype != DType::F8E8M0) {
            refuse(&format!("input {i}"), dtype, "f32, f16, bf16 or i32")?;
        }
    }
    let to = target(cx)?;
    if !is_quantised(to) {
        refuse("the result", to, "a quantised type")?;
    }
    precision(cx)?;
    Ok(vec![TensorType::new(to, cx.shape(0)?.to_vec()).into()])
}

/// The type in which elements are divided by the scale.
fn precision(cx: &Cx<'_>) -> Result<DType, String> {
    let scale = cx.dtype(1)?;
    match cx.attrs.dtype("precision").unwrap_or(if is_real(scale) { scale } else { DType::F32 }) {
        given if is_real(given) => Ok(given),
        other => Err(format!("precision is {other}, expected f32, f16 or bf16")),
    }
}

fn quantise(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (axes, index) = rules::indices(cx.ty(0)?.rank());
    let place = |i| Ok::<_, String>(Granularity::of(cx, i)?.place(&index));
    let (to, precision) = (target(cx)?, precision(cx)?);
    let mut x = Term::load(cx.dtype(0)?, 0, index.clone()).cast(precision);
    // What divides by one already rounded its quotient.
    if cx.known_floats(1).is_none_or(|s| s.iter().any(|s| *s != 1.0)) {
        x = (x / Term::load(cx.dtype(1)?, 1, place(1)?).cast(precision)).rounded();
    }
    if to.is_minifloat() {
        return Ok(Element { axes, body: convert::term(&x, to, cx.attrs.flag("saturate"), "up") });
    }
    let mut steps = x.unary(S::Round).cast(DType::F32);
    if cx.has(2) {
        // Exact wherever the result does not saturate.
        steps = steps + Term::load(to, 2, place(2)?).cast(DType::F32);
    }
    // A cast to less than 8 bits does not saturate.
    if to.is_storage() {
        let count = f64::from(1 << to.packed_bits());
        let least = if to.is_signed_int() { -count / 2.0 } else { 0.0 };
        let (least, most) = (steps.lit(least), steps.lit(least + count - 1.0));
        steps = steps.binary(S::Max, &least).binary(S::Min, &most);
    }
    Ok(Element { axes, body: steps.cast(to) })
}

fn dequantised(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Granularity::check(cx)?;
    let (x, scale) = (cx.dtype(0)?, cx.dtype(1)?);
    if !is_quantised(x) && x != DType::I32 {
        refuse("input 0", x, "a quantised type or i32")?;
    }
    if !is_real(scale) && scale != DType::F8E8M0 {
        refuse("input 1 (the scale)", scale, "f32, f16, bf16 or f8e8m0")?;
    }
    if cx.has(2) && cx.dtype(2)? != x {
        refuse("input 2 (the zero point)", cx.dtype(2)?, x.name())?;
    }
    let to = cx.attrs.dtype("output_dtype").unwrap_or(scale);
    if !is_real(to) {
        refuse("the result", to, "f32, f16 or bf16")?;
    }
    Ok(vec![TensorType::new(to, cx.shape(0)?.to_vec()).into()])
}

fn dequantise(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (axes, index) = rules::indices(cx.ty(0)?.rank());
    let place = |i| Ok::<_, String>(Granularity::of(cx, i)?.place(&index));
    let (x, scale) = (cx.dtype(0)?, cx.dtype(1)?);
    let to = cx.attrs.dtype("output_dtype").unwrap_or(scale);
    let mut steps = Term::load(x, 0, index.clone());
    // A zero point of 32 bits is zero.
    if cx.has(2) && x.is_int() && x != DType::I32 {
        steps = steps.cast(DType::I32) - Term::load(x, 2, place(2)?).cast(DType::I32);
    }
    let real = steps.cast(DType::F32) * Term::load(scale, 1, place(1)?).cast(DType::F32);
    Ok(Element { axes, body: real.rounded().cast(to) })
}

fn dynamic_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    if x.dtype != DType::F32 {
        refuse("input 0", x.dtype, "f32")?;
    }
    let one = |dtype| TensorType::new(dtype, Vec::<Expr>::new()).into();
    Ok(vec![TensorType::new(DType::U8, x.shape.clone()).into(), one(DType::F32), one(DType::U8)])
}

/// The scale takes the range of the elements, widened to hold zero, to 255 steps; of zeros alone the
/// scale is 1.
fn dynamic(_: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let number = |b: &mut Builder<'_>, v: f32| b.constant(Tensor::scalar(DType::F32, Scalar::F(v.into())));
    let zero = number(b, 0.0);
    let end = |b: &mut Builder<'_>, reduce: &str, choose: &str| {
        let end = b.op(reduce, &[x], vec![("keepdims", crate::Attr::Int(0))])?;
        b.op(choose, &[end, zero], vec![])
    };
    let (least, most) = (end(b, "ReduceMin", "Min")?, end(b, "ReduceMax", "Max")?);
    let range = b.op("Sub", &[most, least], vec![])?;
    let steps = number(b, 255.0);
    let scale = b.op("Div", &[range, steps], vec![])?;
    let one = number(b, 1.0);
    let empty = b.op("Equal", &[range, zero], vec![])?;
    let scale = b.op("Where", &[empty, one, scale], vec![])?;
    let depth = b.op("Neg", &[least], vec![])?;
    let zero_point = b.op("QuantizeLinear", &[depth, scale], vec![])?;
    let y = b.op("QuantizeLinear", &[x, scale, zero_point], vec![])?;
    Ok(Some(vec![y, scale, zero_point]))
}
