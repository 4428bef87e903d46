//! Several integers in one element: neighbours along a dimension become the bytes of one `i32` (`Quads`), or
//! the halves of one `u32` (`Pairs`), the first one the lowest, and zeros fill the last. Burin's own ops: the
//! compiler puts them before integer products, which then sum four products at once (see `IntegerMatMul` and
//! `IntegerConv`). Where the dimension is the innermost one in memory, it is the same memory under another
//! type.

use super::{EvalCx, Lower, Meaning, OpRow, one, rules};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term, axes};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Bits of what the integers become.
const BITS: u32 = 32;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Required)],
        eval: Some(eval),
        samples: &[
            "Quads(u8[2,8,3] in 0..256) {axis = 1}",
            "Quads(i8[3,7] in -128..128) {axis = -1}",
            "Quads(u8[1,3,2,2] in 0..256) {axis = 1}",
            "Quads(u8[2,0]) {axis = 1}",
        ],
        ..OpRow::new("Quads", None, &[one("bytes")], infer, Meaning::Primitive(Lower::Element(element)))
    },
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Required)],
        eval: Some(eval),
        samples: &["Pairs(u16[2,8,3] in 0..65536) {axis = 1}", "Pairs(u16[3,7] in 0..65536) {axis = -1}"],
        ..OpRow::new("Pairs", None, &[one("halves")], infer, Meaning::Primitive(Lower::Element(element)))
    },
];

/// How many integers of a type an element holds.
pub fn count(of: DType) -> i64 {
    i64::from(BITS / of.bits())
}

fn infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = cx.dtype(0)?;
    let to = match (cx.op.name, dtype) {
        ("Quads", DType::U8 | DType::I8) => DType::I32,
        ("Pairs", DType::U16) => DType::U32,
        ("Quads", _) => return Err(format!("input 0 has elements of {dtype}, expected i8 or u8")),
        _ => return Err(format!("input 0 has elements of {dtype}, expected u16")),
    };
    let mut shape = cx.shape(0)?.to_vec();
    let axis = axis(cx)?;
    shape[axis] = shape[axis].ceil_div(&count(dtype).into());
    Ok(vec![TensorType::new(to, shape).into()])
}

fn axis(cx: &Cx<'_>) -> Result<usize, String> {
    let axes = rules::normal_axes(cx, &[cx.int("axis")], cx.shape(0)?.len())?;
    Ok(axes[0])
}

fn element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (shape, axis, from) = (cx.shape(0)?, axis(cx)?, cx.dtype(0)?);
    let (to, count) = (if from == DType::U16 { DType::U32 } else { DType::I32 }, count(from));
    let whole = shape[axis].as_const().is_some_and(|n| n % count == 0);
    let constant = |v: i64| Term::constant(to, Scalar::I(v).cast(to));
    let (axes, zero) = (axes(shape.len()), constant(0));
    let part = |number: i64| {
        let mut index: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
        index[axis] = &index[axis] * count + number;
        let inside = &shape[axis] - &index[axis] - 1;
        let bits = Term::load(from, 0, index).cast(to);
        let low = bits.binary(ScalarOp::And, &constant((1 << from.bits()) - 1));
        let places = i64::from(from.bits()) * number;
        let raised = low.binary(ScalarOp::Shl, &constant(places));
        let checked = number > 0 && !whole;
        if checked { Term::when(vec![inside], raised, zero.clone()) } else { raised }
    };
    let body = (1..count).fold(part(0), |body, number| body.binary(ScalarOp::Or, &part(number)));
    Ok(Element { axes, body })
}

fn eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (x, axis) = (e.input(0), axis(e.cx)?);
    let shape = e.outputs[0].static_shape().ok_or("the result's shape is not known")?;
    let bytes = x.dtype().bytes();
    let inner: usize = shape[axis + 1..].iter().product();
    let (count, per, wholes) = (x.shape()[axis], BITS as usize / 8 / bytes, shape[axis]);
    let mut out = vec![0u32; shape.iter().product()];
    for (row, part) in x.bytes().chunks_exact((inner * bytes).max(1)).enumerate() {
        let (outer, at) = (row / count, row % count);
        let to = (outer * wholes + at / per) * inner;
        for (out, part) in out[to..to + inner].iter_mut().zip(part.chunks_exact(bytes)) {
            let bits = part.iter().rev().fold(0, |bits, b| bits << 8 | u32::from(*b));
            *out |= bits << (8 * bytes * (at % per));
        }
    }
    let bytes: Vec<u8> = out.into_iter().flat_map(u32::to_le_bytes).collect();
    Ok(vec![Tensor::from_bytes(e.outputs[0].dtype, shape, bytes.into())?])
}

/// Elements of 32 bits taken apart along a dimension, into integers of a type.
pub(super) fn taken_apart(x: &Tensor, into: DType, axis: usize) -> Result<Tensor, String> {
    let per = count(into) as usize;
    let bytes = into.bytes();
    let mut shape = x.shape().to_vec();
    let inner: usize = shape[axis + 1..].iter().product();
    shape[axis] *= per;
    let mut out = Vec::with_capacity(x.bytes().len());
    for row in x.bytes().chunks_exact((4 * inner).max(1)) {
        for number in 0..per {
            let parts = row.chunks_exact(4).flat_map(|whole| &whole[number * bytes..(number + 1) * bytes]);
            out.extend(parts.copied());
        }
    }
    Tensor::from_bytes(into, shape, out.into())
}
