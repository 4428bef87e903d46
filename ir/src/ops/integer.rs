//! Products and convolutions of quantised tensors, computed in integers.
//!
//! All of them come down to one form: `IntegerMatMul` or `IntegerConv` on the narrow integers as they
//! lie in memory, and corrections for zero points that are not zero,
//! `sum((a - za) * (b - zb)) = sum(a * b) - za * sum(b) - zb * sum(a - za)`, of which what belongs to
//! constant weights is constant. Sums are `i32` and wrap, so that the corrections are exact.

use super::compose::{Built, Inputs, cast, operand};
use super::rules;
use super::window::{self, window_attrs};
use super::{BuildFn, Meaning, OpRow, Port, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Arg, Cx, Info};
use crate::graph::{Builder, Constant, Def, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

const CONV: &[AttrSpec] = window_attrs![AttrSpec::new("group", AttrKind::Int, Default::Int(1))];

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        samples: &[
            "MatMulInteger(u8[5,7], i8[7,3])",
            "MatMulInteger(u8[2,3,4] in 0..256, u8[4,5] in 0..256, u8[], u8[] in 100..200)",
            "MatMulInteger(i8[3,4], u8[4,5], i8[3], u8[5])",
            "MatMulInteger(u8[4], i8[2,4,3], u8[1], i8[])",
            "MatMulInteger(u8[2,3,4], u8[2,4,2], u8[2,3,1], u8[2,1,2])",
            "MatMulInteger(u8[4], u8[4], u8[] = [7], u8[] = [0])",
        ],
        ..row(
            "MatMulInteger",
            10,
            &[one("A"), one("B"), opt("a_zero_point"), opt("b_zero_point")],
            matmul_type,
            matmul,
        )
    },
    OpRow {
        attrs: CONV,
        samples: &[
            "ConvInteger(u8[1,3,7,6], i8[4,3,3,3]) {pads = [1, 1, 1, 1], strides = [2, 1]}",
            "ConvInteger(u8[2,4,5,5] in 0..256, u8[4,1,3,3] in 0..256, u8[] in 100..200, u8[4]) \
             {group = 4, auto_pad = \"SAME_UPPER\"}",
            "ConvInteger(i8[1,2,6], u8[3,2,2], i8[1] = [-5], u8[3] = [128, 128, 128]) {pads = [1, 0]}",
            "ConvInteger(u8[1,2,3,3], u8[2,2,2,2], _, u8[] = [7])",
        ],
        ..row(
            "ConvInteger",
            10,
            &[one("x"), one("w"), opt("x_zero_point"), opt("w_zero_point")],
            conv_type,
            conv,
        )
    },
    OpRow {
        samples: &[
            "QLinearMatMul(u8[5,7] in 0..256, f32[] in 0.01..0.02, u8[], i8[7,3] in -128..128, f32[] in 0.01..0.02, i8[], f32[] in 0.1..0.2, i8[])",
            "QLinearMatMul(i8[2,3,4], f16[] in 0.1..0.2, i8[], u8[4,5], f16[5] in 0.1..0.2, u8[5], f16[] in 0.1..0.2, u8[])",
            "QLinearMatMul(u8[3,4], f32[3] in 0.1..0.2, u8[3], u8[4,5], f32[] in 0.1..0.2, u8[], f32[3] in 0.1..0.2, u8[3])",
        ],
        ..row(
            "QLinearMatMul",
            10,
            &[
                one("a"),
                one("a_scale"),
                one("a_zero_point"),
                one("b"),
                one("b_scale"),
                one("b_zero_point"),
                one("y_scale"),
                one("y_zero_point"),
            ],
            linear_matmul_type,
            linear_matmul,
        )
    },
    OpRow {
        attrs: CONV,
        samples: &[
            "QLinearConv(u8[1,3,7,6] in 0..256, f32[] in 0.01..0.02, u8[], i8[4,3,3,3] in -128..128, f32[4] in 0.01..0.02, i8[4], f32[] in 0.1..0.2, u8[], i32[4]) {pads = [1, 1, 1, 1], strides = [2, 1]}",
            "QLinearConv(i8[2,4,5,5], f32[1] in 0.1..0.2, i8[1], u8[4,2,1,1], f32[1] in 0.1..0.2, u8[1], f32[1] in 0.1..0.2, i8[1]) {group = 2}",
            "QLinearConv(u8[1,2,6], f32[] in 0.1..0.2, u8[] = [3], i8[3,2,2], f32[] in 0.1..0.2, i8[] = [0], f32[] in 0.1..0.2, u8[]) {pads = [1, 0]}",
        ],
        ..row(
            "QLinearConv",
            10,
            &[
                one("x"),
                one("x_scale"),
                one("x_zero_point"),
                one("w"),
                one("w_scale"),
                one("w_zero_point"),
                one("y_scale"),
                one("y_zero_point"),
                opt("B"),
            ],
            linear_conv_type,
            linear_conv,
        )
    },
];

const fn row(
    name: &'static str,
    since: i64,
    inputs: &'static [Port],
    rule: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    build: BuildFn,
) -> OpRow {
    OpRow::new(name, Some(("", since)), inputs, rule, Meaning::Composite(build))
}

/// Checks that an operand holds bytes, and that its zero point, where there is one, is of its type.
fn check_bytes(cx: &Cx<'_>, i: usize, zero: usize) -> Result<(), String> {
    let dtype = cx.dtype(i)?;
    if !matches!(dtype, DType::I8 | DType::U8) {
        return Err(format!("input {i} has elements of {dtype}, expected i8 or u8"));
    }
    if cx.has(zero) && cx.dtype(zero)? != dtype {
        return Err(format!(
            "input {zero} has elements of {}, expected {dtype} as input {i}",
            cx.dtype(zero)?
        ));
    }
    Ok(())
}

/// The shape of the result that a row's type rule gives for operands of these types and this node's
/// attributes.
pub(super) fn infer_on(cx: &Cx<'_>, op: &str, operands: &[&TensorType]) -> Result<Vec<Expr>, String> {
    let row = super::by_name(op).ok_or_else(|| format!("there is no op {op}"))?;
    let arg = |t: &&TensorType| Some(Arg { ty: (*t).clone().into(), known: None, data: None });
    let inputs: Vec<Option<Arg>> = operands.iter().map(arg).collect();
    let infos = (row.infer)(&Cx { op: row, inputs: &inputs, outputs: 1, ..*cx })?;
    let ty = infos.first().and_then(|i| i.ty.tensor());
    ty.map(|t| t.shape.clone()).ok_or_else(|| format!("{op} gives no tensor"))
}

/// The result's type, with the shape that another row gives for those two operands.
fn infer_as(cx: &Cx<'_>, op: &str, [a, b]: [usize; 2], dtype: DType) -> Result<Vec<Info>, String> {
    Ok(vec![TensorType::new(dtype, infer_on(cx, op, &[cx.ty(a)?, cx.ty(b)?])?).into()])
}

/// Checks that an operand of a product of matrices, where it is there, is of a shape that gives each row
/// of the first factor an element (a vector then stands for a column), or each column of the second.
pub(super) fn check_lines(cx: &Cx<'_>, i: usize, factor: usize, rows: bool) -> Result<(), String> {
    if !cx.has(i) {
        return Ok(());
    }
    let mut lines = cx.shape(factor)?.to_vec();
    if lines.len() == 1 {
        lines.insert(usize::from(!rows), Expr::ONE);
    }
    let summed = lines.len().checked_sub(if rows { 1 } else { 2 });
    summed.and_then(|k| lines.get_mut(k)).into_iter().for_each(|k| *k = Expr::ONE);
    let shape = match cx.shape(i)? {
        [d] if rows && *d != 1 => vec![d.clone(), Expr::ONE],
        shape => shape.to_vec(),
    };
    rules::check_broadcast(cx, i, &shape, &lines)
}

fn matmul_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_bytes(cx, 0, 2)?;
    check_bytes(cx, 1, 3)?;
    check_lines(cx, 2, 0, true)?;
    check_lines(cx, 3, 1, false)?;
    infer_as(cx, "IntegerMatMul", [0, 1], DType::I32)
}

fn conv_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_bytes(cx, 0, 2)?;
    check_bytes(cx, 1, 3)?;
    check_spread(cx, 2, None)?;
    check_spread(cx, 3, Some(1))?;
    infer_as(cx, "IntegerConv", [0, 1], DType::I32)
}

/// Checks that an operand of a convolution has one element or, where weights are named, one for each
/// channel that they give.
fn check_spread(cx: &Cx<'_>, i: usize, weights: Option<usize>) -> Result<(), String> {
    if !cx.has(i) {
        return Ok(());
    }
    let most = match weights {
        Some(w) => cx.shape(w)?.first().cloned().unwrap_or(Expr::ONE),
        None => Expr::ONE,
    };
    rules::check_broadcast(cx, i, cx.shape(i)?, &[most])
}

/// Checks the scales of a QLinear op.
fn check_scales(cx: &Cx<'_>, scales: [usize; 3]) -> Result<(), String> {
    let first = cx.dtype(scales[0])?;
    if !matches!(first, DType::F32 | DType::F16 | DType::BF16) {
        return Err(format!("input {} has elements of {first}, expected f32, f16 or bf16", scales[0]));
    }
    match scales.into_iter().find(|i| cx.dtype(*i).is_ok_and(|d| d != first)) {
        Some(i) => Err(format!("input {i} has elements of {}, expected {first}", cx.dtype(i)?)),
        None => Ok(()),
    }
}

fn linear_matmul_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_bytes(cx, 0, 2)?;
    check_bytes(cx, 3, 5)?;
    check_scales(cx, [1, 4, 6])?;
    for (i, factor, rows) in
        [(1, 0, true), (2, 0, true), (4, 3, false), (5, 3, false), (6, 0, true), (7, 0, true)]
    {
        check_lines(cx, i, factor, rows)?;
    }
    infer_as(cx, "IntegerMatMul", [0, 3], cx.dtype(7)?)
}

fn linear_conv_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_bytes(cx, 0, 2)?;
    check_bytes(cx, 3, 5)?;
    check_scales(cx, [1, 4, 6])?;
    for (i, weights) in [(1, None), (2, None), (4, Some(3)), (5, Some(3)), (6, None), (7, None), (8, Some(3))]
    {
        check_spread(cx, i, weights)?;
    }
    if cx.has(8) && cx.dtype(8)? != DType::I32 {
        return Err(format!("input 8 (B) has elements of {}, expected i32", cx.dtype(8)?));
    }
    infer_as(cx, "IntegerConv", [0, 3], cx.dtype(7)?)
}

pub(super) fn ints(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

fn rank(b: &Builder<'_>, v: Value) -> Result<usize, String> {
    Ok(b.ty(v)?.rank())
}

/// A zero point that takes part: none that is known to be zero.
fn zero_point(b: &Builder<'_>, v: Option<Value>) -> Option<Value> {
    v.filter(|v| !holds_only(b, *v, 0))
}

/// Whether a value is known to hold that integer alone.
fn holds_only(b: &Builder<'_>, v: Value, n: i64) -> bool {
    let data = &b.graph.values[v];
    match (&data.def, &data.known) {
        (Def::Const(Constant::Data(t)), _) => t.to_i64s().iter().all(|e| *e == n),
        (_, Some(known)) => known.iter().all(|e| e.as_const() == Some(n)),
        _ => false,
    }
}

/// A scale or zero point of the rows of the first operand: a vector stands for a column.
fn of_rows(b: &mut Builder<'_>, v: Value) -> Result<Value, String> {
    let per_row = rank(b, v)? == 1 && b.ty(v)?.shape[0] != 1;
    let last = ints(b, &[1]);
    if per_row { b.op("Unsqueeze", &[v, last], vec![]) } else { Ok(v) }
}

fn sum(b: &mut Builder<'_>, v: Value, axes: &[i64], keep: bool) -> Result<Value, String> {
    let v = cast(b, v, DType::I32)?;
    let axes = ints(b, axes);
    b.op("ReduceSum", &[v, axes], vec![("keepdims", Attr::Int(keep.into()))])
}

/// `a - z` in another type.
fn centred(b: &mut Builder<'_>, a: Value, z: Value, to: DType) -> Result<Value, String> {
    let (a, z) = (cast(b, a, to)?, cast(b, z, to)?);
    b.op("Sub", &[a, z], vec![])
}

/// A product of quantised matrices in `i32`.
pub(super) fn integer_matmul(
    b: &mut Builder<'_>,
    [x, y]: [Value; 2],
    zeros: [Option<Value>; 2],
) -> Result<Value, String> {
    let [zx, zy] = zeros.map(|z| zero_point(b, z));
    if zx.is_none() && zy.is_none() {
        return b.op("IntegerMatMul", &[x, y], vec![]);
    }
    // Vectors become matrices, so that corrections broadcast, and their dimensions are dropped again.
    let (vector_x, vector_y) = (rank(b, x)? == 1, rank(b, y)? == 1);
    let (first, last) = (ints(b, &[0]), ints(b, &[1]));
    let x = if vector_x { b.op("Unsqueeze", &[x, first], vec![])? } else { x };
    let y = if vector_y { b.op("Unsqueeze", &[y, last], vec![])? } else { y };
    let mut product = b.op("IntegerMatMul", &[x, y], vec![])?;
    let mut centred_x = x;
    if let Some(z) = zx {
        let z = of_rows(b, z)?;
        let wide = cast(b, z, DType::I32)?;
        let sums = sum(b, y, &[-2], true)?;
        let correction = b.op("Mul", &[wide, sums], vec![])?;
        product = b.op("Sub", &[product, correction], vec![])?;
        if zy.is_some() {
            centred_x = centred(b, x, z, DType::I32)?;
        }
    }
    if let Some(z) = zy {
        let z = cast(b, z, DType::I32)?;
        let sums = sum(b, centred_x, &[-1], true)?;
        let correction = b.op("Mul", &[sums, z], vec![])?;
        product = b.op("Sub", &[product, correction], vec![])?;
    }
    let dropped: Vec<i64> = [(vector_x, -2), (vector_y, -1)].iter().filter(|d| d.0).map(|d| d.1).collect();
    if dropped.is_empty() {
        return Ok(product);
    }
    let axes = ints(b, &dropped);
    b.op("Squeeze", &[product, axes], vec![])
}

fn matmul(_: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(y), ..] = *inputs else { return Ok(None) };
    Ok(Some(vec![integer_matmul(b, [x, y], [operand(inputs, 2), operand(inputs, 3)])?]))
}

/// A vector over the channels, shaped to broadcast over an image of that rank (or over weights, where
/// `axis` is 0).
fn over_channels(b: &mut Builder<'_>, v: Value, axis: i64, rank: usize) -> Result<Value, String> {
    let axes: Vec<i64> = (1..rank as i64 - axis).collect();
    match b.ty(v)?.rank() {
        0 => Ok(v),
        _ => {
            let axes = ints(b, &axes);
            b.op("Unsqueeze", &[v, axes], vec![])
        }
    }
}

/// A convolution of quantised tensors in `i32`. What lies in the padding stands for zero.
fn integer_conv(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    [x, w]: [Value; 2],
    zeros: [Option<Value>; 2],
) -> Result<Value, String> {
    let [zx, zw] = zeros.map(|z| zero_point(b, z));
    let rank = rank(b, x)?;
    let w = match zw {
        None => w,
        Some(z) => {
            let spread = over_channels(b, z, 0, rank)?;
            let difference = centred(b, w, spread, DType::I16)?;
            let fits = b.ty(w)?.dtype == DType::U8 && holds_only(b, z, 128);
            if fits { cast(b, difference, DType::I8)? } else { difference }
        }
    };
    let (mut x, mut attrs) = (x, cx.attrs.0.clone());
    let mut correction = None;
    if let Some(z) = zx {
        let (image, weights) = (b.ty(x)?.shape.clone(), b.ty(w)?.shape.clone());
        match window::constant_pads(cx.attrs, &image[2..], &weights[2..]) {
            Some(pads) => {
                x = padded(b, x, &pads, z)?;
                attrs.retain(|(n, _)| !matches!(*n, "pads" | "auto_pad"));
                let all: Vec<i64> = (1..rank as i64).collect();
                let sums = sum(b, w, &all, false)?;
                let wide = cast(b, z, DType::I32)?;
                let scaled = b.op("Mul", &[sums, wide], vec![])?;
                correction = Some(over_channels(b, scaled, 1, rank)?);
            }
            None => {
                let z = scalar(b, z)?;
                x = centred(b, x, z, DType::I16)?;
            }
        }
    }
    let attrs = attrs.iter().map(|(n, a)| (*n, a.clone())).collect();
    let product = b.op("IntegerConv", &[x, w], attrs)?;
    match correction {
        Some(c) => b.op("Sub", &[product, c], vec![]),
        None => Ok(product),
    }
}

/// A tensor of one element without its dimension.
pub(super) fn scalar(b: &mut Builder<'_>, v: Value) -> Result<Value, String> {
    let none = ints(b, &[]);
    if rank(b, v)? == 0 { Ok(v) } else { b.op("Reshape", &[v, none], vec![]) }
}

/// An image with so many elements of a value before and after each spatial dimension.
fn padded(b: &mut Builder<'_>, x: Value, pads: &[i64], value: Value) -> Result<Value, String> {
    if pads.iter().all(|p| *p == 0) {
        return Ok(x);
    }
    let (before, after) = pads.split_at(pads.len() / 2);
    let amounts = ints(b, &[&[0, 0], before, &[0, 0], after].concat());
    let value = scalar(b, value)?;
    b.op("Pad", &[x, amounts, value], vec![])
}

fn conv(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(w), ..] = *inputs else { return Ok(None) };
    Ok(Some(vec![integer_conv(cx, b, [x, w], [operand(inputs, 2), operand(inputs, 3)])?]))
}

/// `x_scale * w_scale / y_scale`
pub(super) fn multiplier(b: &mut Builder<'_>, scales: [Value; 3]) -> Result<Value, String> {
    let mut wide = Vec::new();
    for s in scales {
        wide.push(cast(b, s, DType::F32)?);
    }
    let product = b.op("Mul", &wide[..2], vec![])?;
    b.op("Div", &[product, wide[2]], vec![])
}

/// `sums * multiplier`, rounded and moved by the zero point, which stands along an axis where it is a
/// vector.
pub(super) fn requantised(
    b: &mut Builder<'_>,
    sums: Value,
    multiplier: Value,
    zero: Value,
    axis: i64,
) -> Result<Value, String> {
    let real = cast(b, sums, DType::F32)?;
    let steps = b.op("Mul", &[real, multiplier], vec![])?;
    let one = b.constant(Tensor::scalar(DType::F32, Scalar::F(1.0)));
    b.op("QuantizeLinear", &[steps, one, zero], vec![("axis", Attr::Int(axis))])
}

fn linear_matmul(_: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(sx), Some(zx), Some(y), Some(sy), Some(zy), Some(s), Some(z)] = *inputs else {
        return Ok(None);
    };
    let sums = integer_matmul(b, [x, y], [Some(zx), Some(zy)])?;
    let (sx, s) = (of_rows(b, sx)?, of_rows(b, s)?);
    let multiplier = multiplier(b, [sx, sy, s])?;
    Ok(Some(vec![requantised(b, sums, multiplier, z, -2)?]))
}

fn linear_conv(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(sx), Some(zx), Some(w), Some(sw), Some(zw), Some(s), Some(z), ..] = *inputs else {
        return Ok(None);
    };
    let rank = rank(b, x)?;
    let mut sums = integer_conv(cx, b, [x, w], [Some(zx), Some(zw)])?;
    if let Some(bias) = operand(inputs, 8) {
        let bias = over_channels(b, bias, 1, rank)?;
        sums = b.op("Add", &[sums, bias], vec![])?;
    }
    let scale = multiplier(b, [sx, sw, s])?;
    let scale = over_channels(b, scale, 1, rank)?;
    Ok(Some(vec![requantised(b, sums, scale, z, 1)?]))
}
