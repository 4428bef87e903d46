//! Bytes four by four: neighbours along a dimension become the bytes of one `i32`, the first one the lowest,
//! and zeros fill the last. Burin's own op: the compiler puts it before integer products whose operands are
//! bytes, which then sum four products at once (see `IntegerMatMul` and `IntegerConv`). Where the
//! dimension is the innermost one in memory, it is the same memory under another type.

use super::{EvalCx, Lower, Meaning, OpRow, one, rules};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term, axes};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// How many bytes an element takes.
pub const BYTES: i64 = 4;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Required)],
    eval: Some(eval),
    samples: &[
        "Quads(u8[2,8,3] in 0..256) {axis = 1}",
        "Quads(i8[3,7] in -128..128) {axis = -1}",
        "Quads(u8[1,3,2,2] in 0..256) {axis = 1}",
        "Quads(u8[2,0]) {axis = 1}",
    ],
    ..OpRow::new("Quads", None, &[one("bytes")], infer, Meaning::Primitive(Lower::Element(element)))
}];

fn infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    if !matches!(cx.dtype(0)?, DType::U8 | DType::I8) {
        return Err(format!("input 0 has elements of {}, expected i8 or u8", cx.dtype(0)?));
    }
    let mut shape = cx.shape(0)?.to_vec();
    let axis = axis(cx)?;
    shape[axis] = shape[axis].ceil_div(&BYTES.into());
    Ok(vec![TensorType::new(DType::I32, shape).into()])
}

fn axis(cx: &Cx<'_>) -> Result<usize, String> {
    let axes = rules::normal_axes(cx, &[cx.int("axis")], cx.shape(0)?.len())?;
    Ok(axes[0])
}

fn element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (shape, axis) = (cx.shape(0)?, axis(cx)?);
    let (axes, zero) = (axes(shape.len()), Term::constant(DType::I32, Scalar::I(0)));
    let whole = shape[axis].as_const().is_some_and(|n| n % BYTES == 0);
    let byte = |number: i64| {
        let mut index: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
        index[axis] = &index[axis] * BYTES + number;
        let inside = &shape[axis] - &index[axis] - 1;
        let bits = Term::load(cx.dtype(0)?, 0, index).cast(DType::I32);
        let low = bits.binary(ScalarOp::And, &Term::constant(DType::I32, Scalar::I(0xff)));
        let raised = low.binary(ScalarOp::Shl, &Term::constant(DType::I32, Scalar::I(8 * number)));
        let checked = number > 0 && !whole;
        Ok::<_, String>(if checked { Term::when(vec![inside], raised, zero.clone()) } else { raised })
    };
    let mut body = byte(0)?;
    for number in 1..BYTES {
        body = body.binary(ScalarOp::Or, &byte(number)?);
    }
    Ok(Element { axes, body })
}

fn eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (x, axis) = (e.input(0), axis(e.cx)?);
    let shape = e.outputs[0].static_shape().ok_or("the result's shape is not known")?;
    let inner: usize = shape[axis + 1..].iter().product();
    let (count, quads) = (x.shape()[axis], shape[axis]);
    let mut out = vec![0u32; shape.iter().product()];
    for (row, bytes) in x.bytes().chunks_exact(inner.max(1)).enumerate() {
        let (outer, at) = (row / count, row % count);
        let (quad, byte) = (at / BYTES as usize, at % BYTES as usize);
        let to = (outer * quads + quad) * inner;
        for (out, b) in out[to..to + inner].iter_mut().zip(bytes) {
            *out |= u32::from(*b) << (8 * byte);
        }
    }
    let bytes: Vec<u8> = out.into_iter().flat_map(u32::to_le_bytes).collect();
    Ok(vec![Tensor::from_bytes(DType::I32, shape, bytes.into())?])
}
