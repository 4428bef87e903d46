//! The quantised ops of the domain `com.microsoft`, which ONNX Runtime's quantiser writes.
//!
//! A function of one element becomes a table of its 256 values: where scales are constant, so is the
//! table. Sums and products are of integers, and rounded once; what has other arithmetic in ONNX Runtime
//! may be one step off from it where a real lies in the middle between two.

use super::compose::{Built, Inputs, cast, operand};
use super::integer::{check_lines, infer_on, integer_matmul, ints, multiplier, requantised, scalar};
use super::rules;
use super::window::window_attrs;
use super::{BuildFn, Meaning, OpRow, Port, Tolerance, many, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

const CHANNELS_LAST: AttrSpec = int("channels_last", 0);
const UNARY: &[Port] = &[one("X"), one("X_scale"), opt("X_zero_point"), one("Y_scale"), opt("Y_zero_point")];
const BINARY: &[Port] = &[
    one("A"),
    one("A_scale"),
    opt("A_zero_point"),
    one("B"),
    one("B_scale"),
    opt("B_zero_point"),
    one("C_scale"),
    opt("C_zero_point"),
];

const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        samples: &[
            "QLinearAdd(u8[2,3] in 0..256, f32[] in 0.01..0.1, u8[], u8[3] in 0..256, f32[] in 0.01..0.1, u8[], f32[] in 0.1..0.2, u8[])",
            "QLinearAdd(i8[4], f32[1] in 0.1..0.2, _, i8[4], f32[1] in 0.1..0.2, i8[1], f32[1] in 0.1..0.2)",
        ],
        ..row("QLinearAdd", BINARY, broadcast_type, add)
    },
    OpRow {
        samples: &[
            "QLinearMul(u8[2,3] in 0..256, f32[] in 0.01..0.1, u8[], u8[3] in 0..256, f32[] in 0.01..0.1, u8[], f32[] in 0.1..0.2, u8[])",
            "QLinearMul(i8[4], f32[1] in 0.1..0.2, _, i8[4], f32[1] in 0.1..0.2, i8[1], f32[1] in 0.1..0.2)",
        ],
        ..row("QLinearMul", BINARY, broadcast_type, mul)
    },
    OpRow {
        attrs: window_attrs![int("ceil_mode", 0), int("count_include_pad", 0), CHANNELS_LAST],
        samples: &[
            "QLinearAveragePool(u8[1,3,7,6] in 0..256, f32[] in 0.1..0.2, u8[], f32[] in 0.1..0.2, u8[]) {kernel_shape = [3, 2], pads = [1, 0, 1, 1], strides = [2, 1]}",
            "QLinearAveragePool(i8[1,6,5,2], f32[] in 0.1..0.2, i8[], f32[] in 0.1..0.2) {kernel_shape = [2, 2], channels_last = 1, count_include_pad = 1, pads = [1, 1, 0, 0]}",
        ],
        ..row("QLinearAveragePool", UNARY, average_pool_type, average_pool)
    },
    OpRow {
        attrs: &[CHANNELS_LAST],
        samples: &[
            "QLinearGlobalAveragePool(u8[2,3,5,7] in 0..256, f32[] in 0.1..0.2, u8[], f32[] in 0.1..0.2, u8[])",
            "QLinearGlobalAveragePool(i8[2,5,7,3], f32[] in 0.1..0.2, i8[], f32[] in 0.1..0.2, i8[]) {channels_last = 1}",
        ],
        ..row("QLinearGlobalAveragePool", UNARY, global_type, global_average)
    },
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Required)],
        samples: &[
            "QLinearConcat(f32[] in 0.1..0.2, u8[], u8[2,3] in 0..256, f32[] in 0.1..0.2, u8[], u8[2,1] in 0..256, f32[] in 0.1..0.2, u8[]) {axis = -1}",
        ],
        ..row("QLinearConcat", &[one("Y_scale"), one("Y_zero_point"), many("inputs")], concat_type, concat)
    },
    OpRow {
        samples: &[
            "QLinearSigmoid(u8[2,3] in 0..256, f32[] in 0.01..0.1, u8[], f32[] in 0.003..0.004, u8[])",
            "QLinearSigmoid(i8[4] in -128..128, f32[] = [0.05], _, f32[] = [0.004])",
        ],
        ..row("QLinearSigmoid", UNARY, unary_type, |_, b, i| {
            by_table(b, i, |b, x| b.op("Sigmoid", &[x], vec![]))
        })
    },
    OpRow {
        attrs: &[AttrSpec::new("alpha", AttrKind::Float, Default::Float(0.01))],
        samples: &[
            "QLinearLeakyRelu(u8[2,3] in 0..256, f32[] in 0.01..0.1, u8[] in 100..150, f32[] in 0.01..0.1, u8[])",
            "QLinearLeakyRelu(i8[4] in -128..128, f32[] = [0.05], _, f32[] = [0.04]) {alpha = 0.3}",
        ],
        ..row("QLinearLeakyRelu", UNARY, unary_type, |cx, b, inputs| {
            let alpha = Attr::Float(cx.attrs.float("alpha").unwrap_or_default());
            by_table(b, inputs, |b, x| b.op("LeakyRelu", &[x], vec![("alpha", alpha)]))
        })
    },
    OpRow {
        attrs: &[
            AttrSpec::new("axis", AttrKind::Int, Default::Absent),
            AttrSpec::new("opset", AttrKind::Int, Default::Required),
        ],
        samples: &[
            "QLinearSoftmax(u8[2,5] in 0..256, f32[] in 0.01..0.1, u8[], f32[] in 0.003..0.004, u8[]) {opset = 13}",
            "QLinearSoftmax(i8[2,3,4] in -128..128, f32[] in 0.01..0.1, _, f32[] in 0.003..0.004, i8[]) {opset = 11}",
        ],
        ..row(
            "QLinearSoftmax",
            &[one("X"), one("X_scale"), opt("x_zero_point"), one("y_scale"), one("y_zero_point")],
            unary_type,
            softmax,
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("alpha", AttrKind::Float, Default::Float(1.0)),
            int("transA", 0),
            int("transB", 0),
        ],
        tolerance: Tolerance::Ulps(4),
        samples: &[
            "QGemm(u8[3,4] in 0..256, f32[] in 0.01..0.1, u8[], i8[5,4], f32[5] in 0.01..0.1, i8[5], i32[5], f32[] in 0.1..0.2, u8[]) {transB = 1}",
            "QGemm(u8[4,3], f32[] in 0.01..0.1, u8[], u8[4,5], f32[] in 0.01..0.1, u8[]) {transA = 1, alpha = 0.5}",
        ],
        ..row(
            "QGemm",
            &[
                one("A"),
                one("a_scale"),
                one("a_zero_point"),
                one("B"),
                one("b_scale"),
                one("b_zero_point"),
                opt("C"),
                opt("y_scale"),
                opt("y_zero_point"),
            ],
            gemm_type,
            gemm,
        )
    },
    OpRow {
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "MatMulIntegerToFloat(u8[2,3,4] in 0..256, i8[4,5], f32[] in 0.01..0.1, f32[5] in 0.01..0.1, u8[], i8[5], f32[5])",
            "MatMulIntegerToFloat(i8[3,4], u8[4,5], f32[1] in 0.01..0.1, f32[1] in 0.01..0.1)",
        ],
        ..row(
            "MatMulIntegerToFloat",
            &[
                one("A"),
                one("B"),
                one("a_scale"),
                one("b_scale"),
                opt("a_zero_point"),
                opt("b_zero_point"),
                opt("bias"),
            ],
            |cx| {
                check_bytes(cx, 0)?;
                check_bytes(cx, 1)?;
                check_type(cx, cx.dtype(2)?, &[2, 3, 6])?;
                check_lines(cx, 4, 0, true)?;
                check_lines(cx, 5, 1, false)?;
                let shape = infer_on(cx, "IntegerMatMul", &[cx.ty(0)?, cx.ty(1)?])?;
                check_broadcasts(cx, &[2, 3, 6], &shape)?;
                Ok(vec![TensorType::new(cx.dtype(2)?, shape).into()])
            },
            |_, b, inputs| {
                let [Some(x), Some(y), Some(sx), Some(sy), ..] = *inputs else { return Ok(None) };
                let zeros = [operand(inputs, 4), operand(inputs, 5)];
                Ok(Some(vec![matmul_to_float(b, [x, y], [sx, sy], zeros, operand(inputs, 6))?]))
            },
        )
    },
    OpRow {
        tolerance: Tolerance::Ulps(4),
        samples: &[
            "DynamicQuantizeMatMul(f32[3,4], i8[4,5], f32[5] in 0.01..0.1, i8[5], f32[5])",
            "DynamicQuantizeMatMul(f32[2,3,4], u8[4,5], f32[] in 0.01..0.1, u8[])",
        ],
        ..row(
            "DynamicQuantizeMatMul",
            &[one("A"), one("B"), one("b_scale"), opt("b_zero_point"), opt("bias")],
            |cx| {
                check_type(cx, DType::F32, &[0, 2, 4])?;
                check_bytes(cx, 1)?;
                let a = TensorType::new(DType::U8, cx.shape(0)?.to_vec());
                check_lines(cx, 3, 1, false)?;
                let shape = infer_on(cx, "IntegerMatMul", &[&a, cx.ty(1)?])?;
                check_broadcasts(cx, &[2, 4], &shape)?;
                Ok(vec![TensorType::new(DType::F32, shape).into()])
            },
            dynamic_matmul,
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("K", AttrKind::Int, Default::Required),
            AttrSpec::new("N", AttrKind::Int, Default::Required),
            int("accuracy_level", 0),
            int("bits", 4),
            AttrSpec::new("block_size", AttrKind::Int, Default::Required),
            int("weight_prepacked", 0),
        ],
        // Zero points are subtracted, so that magnitudes of scales and data say nothing of one sum.
        tolerance: Tolerance::Largest(64.0),
        samples: &[
            "MatMulNBits(f32[2,40], u8[3,3,8] in 0..256, f32[3,3], u8[3,2] in 0..256) {K = 40, N = 3, block_size = 16}",
            "MatMulNBits(f16[1,2,32], u8[5,2,16] in 0..256, f16[10], _, _, f16[5]) {K = 32, N = 5, block_size = 16, bits = 8}",
            "MatMulNBits(f32[2,16], u8[4,1,4] in 0..256, f32[4,1], f32[4,1]) {K = 16, N = 4, block_size = 16, bits = 2}",
        ],
        ..row(
            "MatMulNBits",
            &[one("A"), one("B"), one("scales"), opt("zero_points"), opt("g_idx"), opt("bias")],
            nbits_type,
            nbits,
        )
    },
];

const fn row(
    name: &'static str,
    inputs: &'static [Port],
    rule: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    build: BuildFn,
) -> OpRow {
    OpRow::new(name, Some(("com.microsoft", 1)), inputs, rule, Meaning::Composite(build))
}

/// Checks that operands, where they are there, broadcast to a result.
fn check_broadcasts(cx: &Cx<'_>, operands: &[usize], to: &[Expr]) -> Result<(), String> {
    let there = |i: &&usize| cx.has(**i);
    operands.iter().filter(there).try_for_each(|i| rules::check_broadcast(cx, *i, cx.shape(*i)?, to))
}

fn check_bytes(cx: &Cx<'_>, i: usize) -> Result<DType, String> {
    match cx.dtype(i)? {
        dtype @ (DType::I8 | DType::U8) => Ok(dtype),
        other => Err(format!("input {i} has elements of {other}, expected i8 or u8")),
    }
}

/// Checks that scales are `f32` and zero points of the tensor's type, one element each; (scale, zero
/// point) by number.
fn check_parameters(cx: &Cx<'_>, dtype: DType, pairs: &[(usize, usize)]) -> Result<(), String> {
    let wanted = pairs.iter().flat_map(|(s, z)| [(*s, DType::F32), (*z, dtype)]);
    for (i, expected) in wanted.filter(|(i, _)| cx.has(*i)) {
        let ty = cx.ty(i)?;
        if ty.dtype != expected
            || ty.rank() > 1
            || ty.shape.iter().any(|d| d.as_const().is_some_and(|d| d != 1))
        {
            return Err(format!("input {i} is {ty}, expected one element of {expected}"));
        }
    }
    Ok(())
}

/// Checks that operands that are present hold floats of one type.
fn check_type(cx: &Cx<'_>, expected: DType, operands: &[usize]) -> Result<(), String> {
    for i in operands.iter().copied().filter(|i| cx.has(*i)) {
        let found = cx.dtype(i)?;
        rules::expect(&format!("input {i}"), found, rules::FLOAT)?;
        if found != expected {
            return Err(format!("input {i} has elements of {found}, expected {expected}"));
        }
    }
    Ok(())
}

fn broadcast_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = check_bytes(cx, 0)?;
    check_bytes(cx, 3)?;
    check_parameters(cx, dtype, &[(1, 2), (4, 5), (6, 7)])?;
    Ok(vec![TensorType::new(dtype, rules::broadcast_shapes(cx.shape(0)?, cx.shape(3)?)?).into()])
}

fn unary_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_parameters(cx, check_bytes(cx, 0)?, &[(1, 2), (3, 4)])?;
    Ok(vec![cx.ty(0)?.clone().into()])
}

/// `(x - zero_point)` as `i32`.
fn centred(b: &mut Builder<'_>, x: Value, zero: Option<Value>) -> Result<Value, String> {
    let wide = cast(b, x, DType::I32)?;
    let Some(zero) = zero else { return Ok(wide) };
    let zero = scalar(b, zero)?;
    let zero = cast(b, zero, DType::I32)?;
    b.op("Sub", &[wide, zero], vec![])
}

/// `x` as reals.
fn real(b: &mut Builder<'_>, inputs: Inputs<'_>, at: usize) -> Result<Option<Value>, String> {
    let [Some(x), Some(scale)] = [operand(inputs, at), operand(inputs, at + 1)] else { return Ok(None) };
    let all: Vec<Value> = [Some(x), Some(scale), operand(inputs, at + 2)].into_iter().flatten().collect();
    b.op("DequantizeLinear", &all, vec![]).map(Some)
}

/// Reals as steps of a type.
fn quantised(
    b: &mut Builder<'_>,
    x: Value,
    scale: Value,
    zero: Option<Value>,
    dtype: DType,
) -> Result<Value, String> {
    let all: Vec<Value> = [x, scale].into_iter().chain(zero).collect();
    b.op("QuantizeLinear", &all, vec![("output_dtype", Attr::DType(dtype))])
}

fn add(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (Some(x), Some(y)) = (real(b, inputs, 0)?, real(b, inputs, 3)?) else { return Ok(None) };
    let Some(scale) = operand(inputs, 6) else { return Ok(None) };
    let sum = b.op("Add", &[x, y], vec![])?;
    Ok(Some(vec![quantised(b, sum, scale, operand(inputs, 7), cx.dtype(0)?)?]))
}

/// The zero point given, or the constant zero.
fn zero_or(b: &mut Builder<'_>, zero: Option<Value>, dtype: DType) -> Value {
    zero.unwrap_or_else(|| b.constant(Tensor::zeros(dtype, &[])))
}

fn mul(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(sx), _, Some(y), Some(sy), _, Some(s), ..] = *inputs else { return Ok(None) };
    let (x, y) = (centred(b, x, operand(inputs, 2))?, centred(b, y, operand(inputs, 5))?);
    let product = b.op("Mul", &[x, y], vec![])?;
    let zero = zero_or(b, operand(inputs, 7), cx.dtype(0)?);
    let scales = [scalar(b, sx)?, scalar(b, sy)?, scalar(b, s)?];
    let multiplier = multiplier(b, scales)?;
    Ok(Some(vec![requantised(b, product, multiplier, zero, 1)?]))
}

/// A function of one real, as a table of its 256 values.
fn by_table(
    b: &mut Builder<'_>,
    inputs: Inputs<'_>,
    f: impl FnOnce(&mut Builder<'_>, Value) -> Result<Value, String>,
) -> Built {
    let [Some(x), Some(_), _, Some(scale), ..] = *inputs else { return Ok(None) };
    let dtype = b.ty(x)?.dtype;
    let codes = (0..256).map(|c| Scalar::I(if dtype == DType::I8 { i64::from(c as u8 as i8) } else { c }));
    let codes = b.constant(Tensor::from_scalars(dtype, &[256], codes));
    let Some(reals) = real(b, &[&[Some(codes)], &inputs[1..]].concat(), 0)? else { return Ok(None) };
    let values = f(b, reals)?;
    let table = quantised(b, values, scale, operand(inputs, 4), dtype)?;
    let code =
        if dtype == DType::I8 { b.op("BitCast", &[x], vec![("to", Attr::DType(DType::U8))])? } else { x };
    let index = cast(b, code, DType::I32)?;
    Ok(Some(vec![b.op("Gather", &[table, index], vec![])?]))
}

fn softmax(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), _, _, Some(scale), ..] = *inputs else { return Ok(None) };
    let Some(mut reals) = real(b, inputs, 0)? else { return Ok(None) };
    // Before opset 13 all dimensions from the axis on were one.
    let joined = cx.int("opset") < 13;
    let axis = cx.attrs.int("axis").unwrap_or(if joined { 1 } else { -1 });
    if joined {
        reals = b.op("Flatten", &[reals], vec![("axis", Attr::Int(axis))])?;
    }
    let axis = if joined { 1 } else { axis };
    let mut shares = b.op("Softmax", &[reals], vec![("axis", Attr::Int(axis))])?;
    if joined {
        let shape = b.op("Shape", &[x], vec![])?;
        shares = b.op("Reshape", &[shares, shape], vec![("allowzero", Attr::Int(1))])?;
    }
    Ok(Some(vec![quantised(b, shares, scale, operand(inputs, 4), cx.dtype(0)?)?]))
}

/// The order that brings the last dimension to the second place, or back.
fn channels(rank: usize, to_second: bool) -> Attr {
    let mut order: Vec<i64> = (0..rank as i64).collect();
    if to_second {
        order[1..].rotate_right(1)
    } else {
        order[1..].rotate_left(1)
    }
    Attr::Ints(order)
}

/// The type of the image with its channels second.
fn channels_second(cx: &Cx<'_>, dtype: DType) -> Result<TensorType, String> {
    let mut shape = cx.shape(0)?.to_vec();
    if shape.len() < 3 {
        return Err(format!("input 0 is {}, expected an image of rank 3 or more", cx.ty(0)?));
    }
    if cx.attrs.flag("channels_last") {
        shape[1..].rotate_right(1);
    }
    Ok(TensorType::new(dtype, shape))
}

fn channels_back(cx: &Cx<'_>, mut shape: Vec<Expr>) -> Result<Vec<Info>, String> {
    if cx.attrs.flag("channels_last") {
        shape[1..].rotate_left(1);
    }
    Ok(vec![TensorType::new(cx.dtype(0)?, shape).into()])
}

/// Builds on the image with its channels second; the result goes back.
fn on_channels_second(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    x: Value,
    f: impl FnOnce(&mut Builder<'_>, Value) -> Result<Value, String>,
) -> Result<Value, String> {
    if !cx.attrs.flag("channels_last") {
        return f(b, x);
    }
    let rank = b.ty(x)?.rank();
    let x = b.op("Transpose", &[x], vec![("perm", channels(rank, true))])?;
    let y = f(b, x)?;
    b.op("Transpose", &[y], vec![("perm", channels(rank, false))])
}

fn average_pool_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_parameters(cx, check_bytes(cx, 0)?, &[(1, 2), (3, 4)])?;
    let image = channels_second(cx, DType::F32)?;
    channels_back(cx, infer_on(cx, "AveragePool", &[&image])?)
}

fn global_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_parameters(cx, check_bytes(cx, 0)?, &[(1, 2), (3, 4)])?;
    let image = channels_second(cx, DType::F32)?;
    channels_back(cx, infer_on(cx, "GlobalAveragePool", &[&image])?)
}

/// `x * x_scale / y_scale`, rounded and moved by the zero point: of means of centred integers.
fn rescaled(cx: &Cx<'_>, b: &mut Builder<'_>, x: Value, inputs: Inputs<'_>) -> Result<Value, String> {
    let scales = [operand(inputs, 1), operand(inputs, 3)];
    let [Some(sx), Some(s)] = scales else { return Err("a scale is missing".to_owned()) };
    let (sx, s) = (scalar(b, sx)?, scalar(b, s)?);
    let ratio = b.op("Div", &[sx, s], vec![])?;
    let zero = zero_or(b, operand(inputs, 4), cx.dtype(0)?);
    requantised(b, x, ratio, zero, 1)
}

fn average_pool(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let y = on_channels_second(cx, b, x, |b, x| {
        // Sums of integers are exact in f32, and so the mean is rounded once.
        let steps = centred(b, x, operand(inputs, 2))?;
        let steps = cast(b, steps, DType::F32)?;
        let attrs = cx.attrs.0.iter().filter(|(n, _)| *n != "channels_last");
        let mean = b.op("AveragePool", &[steps], attrs.map(|(n, a)| (*n, a.clone())).collect())?;
        rescaled(cx, b, mean, inputs)
    })?;
    Ok(Some(vec![y]))
}

fn global_average(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let y = on_channels_second(cx, b, x, |b, x| {
        let spatial: Vec<i64> = (2..b.ty(x)?.rank() as i64).collect();
        let axes = ints(b, &spatial);
        let steps = centred(b, x, operand(inputs, 2))?;
        let sum = b.op("ReduceSum", &[steps, axes], vec![])?;
        let shape = b.op("Shape", &[x], vec![("start", Attr::Int(2))])?;
        let count = b.op("ReduceProd", &[shape], vec![("keepdims", Attr::Int(0))])?;
        let (sum, count) = (cast(b, sum, DType::F32)?, cast(b, count, DType::F32)?);
        let mean = b.op("Div", &[sum, count], vec![])?;
        rescaled(cx, b, mean, inputs)
    })?;
    Ok(Some(vec![y]))
}

/// Triples of a tensor, its scale and its zero point follow the first two operands.
fn concat_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let count = cx.inputs.len() - 2;
    if count == 0 || !count.is_multiple_of(3) {
        return Err(format!("{count} inputs follow the zero point, expected three for each tensor"));
    }
    let dtype = check_bytes(cx, 2)?;
    check_parameters(cx, dtype, &[(0, 1)])?;
    let mut parts = Vec::new();
    for i in (2..cx.inputs.len()).step_by(3) {
        check_parameters(cx, check_bytes(cx, i)?, &[(i + 1, i + 2)])?;
        parts.push(cx.ty(i)?);
    }
    Ok(vec![TensorType::new(dtype, infer_on(cx, "Concat", &parts)?).into()])
}

fn concat(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(scale), Some(zero), ..] = *inputs else { return Ok(None) };
    let mut parts = Vec::new();
    for part in inputs[2..].chunks(3) {
        let [Some(x), Some(s), Some(z)] = *part else { return Ok(None) };
        if (s, z) == (scale, zero) {
            parts.push(x);
            continue;
        }
        let Some(reals) = real(b, part, 0)? else { return Ok(None) };
        parts.push(quantised(b, reals, scale, Some(zero), cx.dtype(1)?)?);
    }
    Ok(Some(vec![b.op("Concat", &parts, vec![("axis", Attr::Int(cx.int("axis")))])?]))
}

fn gemm_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    check_bytes(cx, 0)?;
    check_bytes(cx, 3)?;
    check_parameters(cx, cx.dtype(0)?, &[(1, 2)])?;
    check_type(cx, DType::F32, &[4, 7])?;
    if cx.has(7) != cx.has(8) {
        return Err("the result's scale and zero point must be given together".to_owned());
    }
    let wide = |i: usize| Ok::<_, String>(TensorType::new(DType::I32, cx.shape(i)?.to_vec()));
    let mut operands = vec![wide(0)?, wide(3)?];
    if cx.has(6) {
        operands.push(cx.ty(6)?.clone());
    }
    let shape = infer_on(cx, "Gemm", &operands.iter().collect::<Vec<_>>())?;
    check_broadcasts(cx, &[4, 5], &shape[1..])?;
    check_broadcasts(cx, &[7, 8], &[Expr::ONE])?;
    let dtype = if cx.has(8) { check_bytes(cx, 8)? } else { DType::F32 };
    Ok(vec![TensorType::new(dtype, shape).into()])
}

fn gemm(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(sx), Some(zx), Some(y), Some(sy), Some(zy), ..] = *inputs else { return Ok(None) };
    let side = |b: &mut Builder<'_>, v: Value, transpose: &str| match cx.attrs.flag(transpose) {
        true => b.op("Transpose", &[v], vec![("perm", Attr::Ints(vec![1, 0]))]),
        false => Ok(v),
    };
    let (x, y) = (side(b, x, "transA")?, side(b, y, "transB")?);
    let mut sums = integer_matmul(b, [x, y], [Some(zx), Some(zy)])?;
    if let Some(c) = operand(inputs, 6) {
        sums = b.op("Add", &[sums, c], vec![])?;
    }
    let sx = scalar(b, sx)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    let alpha = b.constant(Tensor::scalar(DType::F32, Scalar::F(alpha)));
    let sx = b.op("Mul", &[alpha, sx], vec![])?;
    let (Some(s), Some(z)) = (operand(inputs, 7), operand(inputs, 8)) else {
        let scale = b.op("Mul", &[sx, sy], vec![])?;
        let reals = cast(b, sums, DType::F32)?;
        return Ok(Some(vec![b.op("Mul", &[reals, scale], vec![])?]));
    };
    let multiplier = multiplier(b, [sx, sy, s])?;
    Ok(Some(vec![requantised(b, sums, multiplier, z, 1)?]))
}

/// A product of quantised matrices as reals of the scales' type.
fn matmul_to_float(
    b: &mut Builder<'_>,
    factors: [Value; 2],
    scales: [Value; 2],
    zeros: [Option<Value>; 2],
    bias: Option<Value>,
) -> Result<Value, String> {
    let sums = integer_matmul(b, factors, zeros)?;
    let dtype = b.ty(scales[0])?.dtype;
    let scale = b.op("Mul", &scales, vec![])?;
    let (scale, sums) = (cast(b, scale, dtype.accumulator())?, cast(b, sums, dtype.accumulator())?);
    let mut reals = b.op("Mul", &[sums, scale], vec![])?;
    if let Some(bias) = bias {
        let bias = cast(b, bias, dtype.accumulator())?;
        reals = b.op("Add", &[reals, bias], vec![])?;
    }
    cast(b, reals, dtype)
}

fn dynamic_matmul(_: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(y), Some(sy), ..] = *inputs else { return Ok(None) };
    let row = super::by_name("DynamicQuantizeLinear").ok_or("there is no op DynamicQuantizeLinear")?;
    let node = b.node(row, "", vec![Some(x)], Vec::new(), 3, Vec::new())?;
    let [x, sx, zx] = b.graph.nodes[node].outputs[..] else { return Ok(None) };
    let zeros = [Some(zx), operand(inputs, 3)];
    Ok(Some(vec![matmul_to_float(b, [x, y], [sx, sy], zeros, operand(inputs, 4))?]))
}

/// How many blocks a row of weights has.
fn blocks(cx: &Cx<'_>) -> i64 {
    let size = cx.int("block_size").max(1);
    (cx.int("K").max(0) as u64).div_ceil(size as u64) as i64
}

fn nbits_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (k, n, size, bits) = (cx.int("K"), cx.int("N"), cx.int("block_size"), cx.int("bits"));
    if k < 1 || n < 1 || size < 8 || size % 8 != 0 || !matches!(bits, 2 | 4 | 8) {
        return Err(format!(
            "K = {k}, N = {n}, block_size = {size}, bits = {bits}: expected positive sizes, blocks of a multiple of 8 and 2, 4 or 8 bits"
        ));
    }
    if cx.has(4) || cx.attrs.flag("weight_prepacked") {
        return Err("g_idx and prepacked weights are not supported".to_owned());
    }
    let expected = [n, blocks(cx), size / 8 * bits];
    let packed = cx.shape(1)?;
    let fits =
        packed.len() == 3 && packed.iter().zip(expected).all(|(d, e)| d.as_const().is_none_or(|d| d == e));
    if cx.dtype(1)? != DType::U8 || !fits {
        return Err(format!("input 1 (B) is {}, expected u8{expected:?}", cx.ty(1)?));
    }
    check_type(cx, cx.dtype(0)?, &[0, 2, 5])?;
    if cx.has(3) && cx.dtype(3)? != DType::U8 {
        check_type(cx, cx.dtype(0)?, &[3])?;
    }
    let mut shape = cx.shape(0)?.to_vec();
    match shape.last_mut() {
        Some(last) if last.as_const().is_none_or(|d| d == k) => *last = n.into(),
        _ => return Err(format!("input 0 (A) is {}, expected a last dimension of {k}", cx.ty(0)?)),
    }
    Ok(vec![TensorType::new(cx.dtype(0)?, shape).into()])
}

/// The elements of so many bits in bytes, the low bits first, along a new last dimension.
fn unpacked(b: &mut Builder<'_>, packed: Value, bits: i64) -> Result<Value, String> {
    let rank = b.ty(packed)?.rank() as i64;
    let axis = ints(b, &[rank]);
    let mask = b.constant(Tensor::scalar(DType::U8, Scalar::I((1 << bits) - 1)));
    let mut parts = Vec::new();
    for shift in (0..8).step_by(bits as usize) {
        let by = b.constant(Tensor::scalar(DType::U8, Scalar::I(shift)));
        let low = b.op("BitShift", &[packed, by], vec![("direction", Attr::Str("RIGHT".to_owned()))])?;
        let part = b.op("BitwiseAnd", &[low, mask], vec![])?;
        parts.push(b.op("Unsqueeze", &[part, axis], vec![])?);
    }
    b.op("Concat", &parts, vec![("axis", Attr::Int(-1))])
}

/// A tensor with another shape, and of it the first `count` along the last dimension.
fn first_of(b: &mut Builder<'_>, v: Value, shape: &[i64], count: i64) -> Result<Value, String> {
    let target = ints(b, shape);
    let v = b.op("Reshape", &[v, target], vec![])?;
    let (start, end, axis) = (ints(b, &[0]), ints(b, &[count]), ints(b, &[-1]));
    b.op("Slice", &[v, start, end, axis], vec![])
}

fn nbits(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(packed), Some(scales), ..] = *inputs else { return Ok(None) };
    let (k, n, size, bits) = (cx.int("K"), cx.int("N"), cx.int("block_size"), cx.int("bits"));
    let (blocks, dtype) = (blocks(cx), cx.dtype(0)?);
    let wide = dtype.accumulator();
    let each = ints(b, &[n, blocks, 1]);
    let zero = match operand(inputs, 3) {
        None => b.constant(Tensor::scalar(wide, Scalar::I(1 << (bits - 1)))),
        Some(zero) if b.ty(zero)?.dtype == DType::U8 => {
            let zero = unpacked(b, zero, bits)?;
            let zero = first_of(b, zero, &[n, -1], blocks)?;
            let zero = b.op("Reshape", &[zero, each], vec![])?;
            cast(b, zero, wide)?
        }
        Some(zero) => {
            let zero = b.op("Reshape", &[zero, each], vec![])?;
            cast(b, zero, wide)?
        }
    };
    let steps = unpacked(b, packed, bits)?;
    let shape = ints(b, &[n, blocks, size]);
    let steps = b.op("Reshape", &[steps, shape], vec![])?;
    let steps = cast(b, steps, wide)?;
    let centred = b.op("Sub", &[steps, zero], vec![])?;
    let scales = b.op("Reshape", &[scales, each], vec![])?;
    let scales = cast(b, scales, wide)?;
    let weights = b.op("Mul", &[centred, scales], vec![])?;
    let weights = first_of(b, weights, &[n, blocks * size], k)?;
    let weights = b.op("Transpose", &[weights], vec![("perm", Attr::Ints(vec![1, 0]))])?;
    let x = cast(b, x, wide)?;
    let mut y = b.op("MatMul", &[x, weights], vec![])?;
    if let Some(bias) = operand(inputs, 5) {
        let bias = cast(b, bias, wide)?;
        y = b.op("Add", &[y, bias], vec![])?;
    }
    Ok(Some(vec![cast(b, y, dtype)?]))
}
