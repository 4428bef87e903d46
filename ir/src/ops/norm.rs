//! Normalisations over batches, layers, groups and windows of channels, and the global poolings.
//!
//! They are composites of reductions and pointwise ops (but for the windows), computed in `f32` for
//! the 16-bit floats. A variance is the mean of the squared deviations, never
//! a difference of means.

use super::Tolerance::{Exact, Largest, Sum, Ulps};
use super::compose::{Body, Built, Inputs, axes_from, cast, operand};
use super::rules::{self, FLOAT};
use super::softmax::along_axis;
use super::{BuildFn, Lower, Meaning, OpRow, Port, Tolerance, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{self, Element, ReduceOp, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::ScalarOp as S;
use crate::types::TensorType;

type Rule = fn(&Cx<'_>) -> Result<Vec<Info>, String>;

const EPSILON: AttrSpec = float("epsilon", 1e-5);
const SCALE_BIAS: &[Port] = &[one("input"), one("scale"), one("B")];

const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

const fn float(name: &'static str, default: f64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Float, Default::Float(default))
}

/// A composite's row.
pub(super) const fn composite(
    name: &'static str,
    since: i64,
    inputs: &'static [Port],
    rule: Rule,
    build: BuildFn,
    tolerance: Tolerance,
) -> OpRow {
    OpRow { tolerance, ..OpRow::new(name, Some(("", since)), inputs, rule, Meaning::Composite(build)) }
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        outputs: (1, 3),
        attrs: &[EPSILON, float("momentum", 0.9), int("training_mode", 0)],
        samples: &[
            "BatchNormalization(f32[2,3,4,5], f32[3], f32[3], f32[3], f32[3] in 0.5..2.0)",
            "BatchNormalization(f16[2,7], f16[7], f16[7], f32[7], f32[7] in 0.5..2.0) {epsilon = 0.01}",
            "BatchNormalization(f64[1,2,0], f64[2], f64[2], f64[2], f64[2] in 0.5..2.0)",
            "BatchNormalization(f32[2,3,4,5], f32[3], f32[3], f32[3], f32[3] in 0.5..2.0) {training_mode = 1} -> 3",
            "BatchNormalization(f16[5,7], f16[7], f16[7], f32[7], f32[7] in 0.5..2.0) {training_mode = 1, momentum = 0.25} -> 3",
        ],
        ..composite(
            "BatchNormalization",
            9,
            &[one("X"), one("scale"), one("B"), one("input_mean"), one("input_var")],
            batch_type,
            batch,
            Largest(64.0),
        )
    },
    OpRow {
        outputs: (1, 3),
        attrs: &[int("axis", -1), EPSILON, int("stash_type", 1)],
        samples: &[
            "LayerNormalization(f32[2,3,17], f32[17], f32[17]) -> 3",
            "LayerNormalization(f16[4,5,6], f16[5,6]) {axis = 1}",
            "LayerNormalization(f64[7], f64[], f64[7]) {epsilon = 0.5} -> 2",
        ],
        ..composite(
            "LayerNormalization",
            17,
            &[one("X"), one("Scale"), opt("B")],
            layer_type,
            layer,
            Largest(64.0),
        )
    },
    OpRow {
        attrs: &[int("axis", -1), EPSILON, int("stash_type", 1)],
        samples: &[
            "RMSNormalization(f32[2,3,17], f32[17])",
            "RMSNormalization(f16[4,5,6], f16[5,6]) {axis = 1}",
            "RMSNormalization(f64[7], f64[])",
        ],
        ..composite(
            "RMSNormalization",
            23,
            &[one("X"), one("scale")],
            scaled_type,
            root_mean_square,
            Sum(32.0),
        )
    },
    OpRow {
        attrs: &[EPSILON],
        samples: &[
            "InstanceNormalization(f32[2,3,5,7], f32[3], f32[3])",
            "InstanceNormalization(f16[1,2,9], f16[2], f16[2])",
            "InstanceNormalization(f64[0,2,3], f64[2], f64[2])",
        ],
        ..composite("InstanceNormalization", 6, SCALE_BIAS, channel_type, instance, Largest(64.0))
    },
    OpRow {
        attrs: &[
            EPSILON,
            AttrSpec::new("num_groups", AttrKind::Int, Default::Required),
            int("stash_type", 1),
        ],
        samples: &[
            "GroupNormalization(f32[2,6,5,3], f32[6], f32[6]) {num_groups = 3}",
            "GroupNormalization(f16[1,4,9], f16[4], f16[4]) {num_groups = 2}",
            "GroupNormalization(f64[2,3,1], f64[3], f64[3]) {num_groups = 1}",
        ],
        ..composite(
            "GroupNormalization",
            21,
            &[one("X"), one("scale"), one("bias")],
            group_type,
            group,
            Largest(64.0),
        )
    },
    OpRow {
        attrs: &[
            float("alpha", 1e-4),
            float("beta", 0.75),
            float("bias", 1.0),
            AttrSpec::new("size", AttrKind::Int, Default::Required),
        ],
        tolerance: Ulps(32),
        samples: &[
            "LRN(f32[2,7,3,2]) {size = 3}",
            "LRN(f16[1,3,5]) {size = 4, alpha = 0.5, beta = 0.5, bias = 2.0}",
            "LRN(f64[1,2]) {size = 5}",
        ],
        ..OpRow::new(
            "LRN",
            Some(("", 1)),
            &[one("X")],
            response_type,
            Meaning::Primitive(Lower::Element(response_element)),
        )
    },
    OpRow {
        attrs: &[int("axis", -1), int("p", 2)],
        samples: &[
            "LpNormalization(f32[2,3])",
            "LpNormalization(f16[3,7]) {axis = 0, p = 1}",
            "LpNormalization(f64[2,0])",
        ],
        ..composite("LpNormalization", 1, &[one("input")], lp_type, lp, Ulps(32))
    },
    OpRow {
        attrs: &[AttrSpec::new("axes", AttrKind::Ints, Default::Absent)],
        samples: &[
            "MeanVarianceNormalization(f32[2,3,5,4])",
            "MeanVarianceNormalization(f16[3,7]) {axes = [1]}",
            "MeanVarianceNormalization(f64[2,3,5]) {axes = [0, -1]}",
        ],
        ..composite(
            "MeanVarianceNormalization",
            9,
            &[one("X")],
            mean_variance_type,
            mean_variance,
            Largest(64.0),
        )
    },
    OpRow {
        samples: &[
            "GlobalAveragePool(f32[2,3,5,7])",
            "GlobalAveragePool(f16[1,2,9])",
            "GlobalAveragePool(f64[2,3])",
        ],
        ..composite("GlobalAveragePool", 1, &[one("X")], global_type, global_average, Sum(32.0))
    },
    OpRow {
        samples: &["GlobalMaxPool(f32[2,3,5,7])", "GlobalMaxPool(f16[1,2,9])", "GlobalMaxPool(f64[2,3])"],
        ..composite("GlobalMaxPool", 1, &[one("X")], global_type, global_max, Exact)
    },
    OpRow {
        attrs: &[int("p", 2)],
        samples: &[
            "GlobalLpPool(f32[2,3,5,7])",
            "GlobalLpPool(f16[1,2,9]) {p = 1}",
            "GlobalLpPool(f64[2,3,4]) {p = 3}",
        ],
        ..composite("GlobalLpPool", 2, &[one("X")], global_lp_type, global_lp, Ulps(32))
    },
];

/// Checks that an operand is a vector of one element for each channel (dimension 1 of input 0).
fn check_channels(cx: &Cx<'_>, i: usize) -> Result<(), String> {
    let x = cx.ty(0)?;
    let v = cx.ty(i)?;
    rules::expect(&format!("input {i}"), v.dtype, FLOAT)?;
    if x.rank() < 2 {
        return Err(format!("input 0 is {x}, expected at least two dimensions"));
    }
    let fits = v.rank() == 1
        && (v.shape[0] == x.shape[1] || v.shape[0].as_const().is_none() || x.shape[1].as_const().is_none());
    if fits { Ok(()) } else { Err(format!("input {i} is {v}, expected a vector of {} channels", x.shape[1])) }
}

fn channel_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    (1..cx.inputs.len()).try_for_each(|i| check_channels(cx, i))?;
    rules::same_as_first::<FLOAT>(cx)
}

/// In training, the new running statistics follow.
fn batch_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    if cx.outputs > 1 && !cx.attrs.flag("training_mode") {
        return Err(format!("training_mode is not set, but there are {} results", cx.outputs));
    }
    let mut infos = channel_type(cx)?;
    for i in (3..5).take(cx.outputs - 1) {
        infos.push(cx.ty(i)?.clone().into());
    }
    Ok(infos)
}

fn group_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let infos = channel_type(cx)?;
    let (groups, channels) = (cx.int("num_groups"), &cx.shape(0)?[1]);
    match channels.as_const() {
        Some(c) if groups < 1 || c % groups != 0 => {
            Err(format!("{c} channels cannot be divided into {groups} groups (num_groups)"))
        }
        None if groups < 1 => Err(format!("num_groups is {groups}, expected at least 1")),
        _ => Ok(infos),
    }
}

/// One result like the first operand, to which the others broadcast.
fn scaled_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    cx.axis(cx.int("axis"), x.rank())?;
    for i in (1..cx.inputs.len()).filter(|i| cx.has(*i)) {
        rules::expect(&format!("input {i}"), cx.dtype(i)?, FLOAT)?;
        if rules::broadcast_shapes(&x.shape, cx.shape(i)?)?.len() != x.rank() {
            return Err(format!("input {i} is {}, which has more dimensions than {x}", cx.ty(i)?));
        }
    }
    rules::same_as_first::<FLOAT>(cx)
}

/// The type of the statistics: `stash_type` is ONNX's number of `f32` or `bf16`.
fn stash(cx: &Cx<'_>) -> Result<DType, String> {
    match cx.int("stash_type") {
        1 => Ok(DType::F32),
        16 => Ok(DType::BF16),
        other => Err(format!("stash_type is {other}, expected 1 (f32) or 16 (bf16)")),
    }
}

fn layer_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    let mut infos = scaled_type(cx)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    let axes: Vec<usize> = (axis..x.rank()).collect();
    let statistic = TensorType::new(stash(cx)?, rules::reduced_shape(&x.shape, &axes, true));
    infos.extend((1..cx.outputs).map(|_| statistic.clone().into()));
    Ok(infos)
}

fn response_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, size) = (cx.ty(0)?, cx.int("size"));
    if x.rank() < 2 || size < 1 {
        return Err(format!("size is {size} and input 0 {x}, expected a size of 1 or more and channels"));
    }
    rules::same_as_first::<FLOAT>(cx)
}

fn lp_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    match cx.int("p") {
        1 | 2 => along_axis(cx),
        p => Err(format!("p is {p}, expected 1 or 2")),
    }
}

fn mean_variance_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::normal_axes(cx, mean_variance_axes(cx), cx.ty(0)?.rank())?;
    rules::same_as_first::<FLOAT>(cx)
}

fn mean_variance_axes<'a>(cx: &'a Cx<'_>) -> &'a [i64] {
    cx.attrs.ints("axes").unwrap_or(&[0, 2, 3])
}

fn global_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, FLOAT)?;
    if x.rank() < 2 {
        return Err(format!("input 0 is {x}, expected at least two dimensions"));
    }
    let axes: Vec<usize> = (2..x.rank()).collect();
    Ok(vec![TensorType::new(x.dtype, rules::reduced_shape(&x.shape, &axes, true)).into()])
}

fn global_lp_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    if cx.int("p") < 1 {
        return Err(format!("p is {}, expected 1 or more", cx.int("p")));
    }
    global_type(cx)
}

fn batch(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [_, Some(scale), Some(bias), Some(mean), Some(variance)] = inputs else { return Ok(None) };
    let training = cx.attrs.flag("training_mode");
    let axes: Vec<i64> = (0..cx.ty(0)?.rank() as i64).filter(|a| *a != 1).collect();
    let mut running = Vec::new();
    let built = Body::build(b, inputs, |s, x| {
        let (deviation, inverse) = if training {
            let (deviation, now, spread) = s.moments(x, &axes)?;
            for (i, v) in [(3, now), (4, spread)].into_iter().take(cx.outputs - 1) {
                running.push(drifted(s, cx, i, [[*mean, *variance][i - 3], v])?);
            }
            (deviation, s.inverse_root(spread, cx)?)
        } else {
            let variance = s.widen(*variance)?;
            let inverse = s.inverse_root(variance, cx)?;
            let mean = s.channels(*mean, x)?;
            (s.op("Sub", &[x, mean])?, s.channels(inverse, x)?)
        };
        let scale = s.channels(*scale, x)?;
        let factor = s.op("Mul", &[scale, inverse])?;
        let scaled = s.op("Mul", &[deviation, factor])?;
        let bias = s.channels(*bias, x)?;
        s.op("Add", &[scaled, bias])
    })?;
    Ok(built.map(|mut results| {
        results.extend(running);
        results
    }))
}

/// A running statistic of the channels, moved towards the batch's own.
fn drifted(s: &mut Body<'_, '_>, cx: &Cx<'_>, input: usize, [old, now]: [Value; 2]) -> Result<Value, String> {
    let momentum = cx.attrs.float("momentum").unwrap_or_default();
    let (kept, moved) = (s.number(momentum), s.number(1.0 - momentum));
    let (old, now) = (s.widen(old)?, s.reshape(now, &[-1])?);
    let (old, now) = (s.op("Mul", &[old, kept])?, s.op("Mul", &[now, moved])?);
    let sum = s.op("Add", &[old, now])?;
    cast(s.b, sum, cx.dtype(input)?)
}

fn layer(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let axes = axes_from(cx.axis(cx.int("axis"), cx.ty(0)?.rank())?, cx)?;
    let statistics = stash(cx)?;
    let mut rest = Vec::new();
    let built = Body::build(b, inputs, |s, x| {
        let (deviation, mean, variance) = s.moments(x, &axes)?;
        let inverse = s.inverse_root(variance, cx)?;
        for v in [mean, inverse].into_iter().take(cx.outputs - 1) {
            rest.push(cast(s.b, v, statistics)?);
        }
        let mut y = s.op("Mul", &[deviation, inverse])?;
        for (i, op) in [(1, "Mul"), (2, "Add")] {
            if let Some(v) = operand(inputs, i) {
                let v = s.widen(v)?;
                y = s.op(op, &[y, v])?;
            }
        }
        Ok(y)
    })?;
    Ok(built.map(|mut results| {
        results.extend(rest);
        results
    }))
}

fn root_mean_square(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let axes = axes_from(cx.axis(cx.int("axis"), cx.ty(0)?.rank())?, cx)?;
    let Some(scale) = operand(inputs, 1) else { return Ok(None) };
    Body::build(b, inputs, |s, x| {
        let squares = s.op("Mul", &[x, x])?;
        let mean = s.reduce("ReduceMean", squares, &axes)?;
        let inverse = s.inverse_root(mean, cx)?;
        let scale = s.widen(scale)?;
        let y = s.op("Mul", &[x, inverse])?;
        s.op("Mul", &[y, scale])
    })
}

fn instance(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let axes = axes_from(2, cx)?;
    Body::build(b, inputs, |s, x| {
        let (deviation, _, variance) = s.moments(x, &axes)?;
        let inverse = s.inverse_root(variance, cx)?;
        let y = s.op("Mul", &[deviation, inverse])?;
        s.scale_channels(y, inputs)
    })
}

fn group(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    Body::build(b, inputs, |s, x| {
        // 0 keeps the batch dimension, -1 takes what remains.
        let grouped = s.axes(&[0, cx.int("num_groups"), -1]);
        let groups = s.op("Reshape", &[x, grouped])?;
        let (deviation, _, variance) = s.moments(groups, &[2])?;
        let inverse = s.inverse_root(variance, cx)?;
        let y = s.op("Mul", &[deviation, inverse])?;
        let shape = s.op("Shape", &[x])?;
        let y = s.op("Reshape", &[y, shape])?;
        s.scale_channels(y, inputs)
    })
}

/// `x / (bias + alpha / size * sum(x^2))^beta` over a window of channels.
fn response_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let number = |name: &str| cx.attrs.float(name).unwrap_or_default();
    let size = cx.int("size");
    let axes = element::axes(x.rank());
    let k = element::reduction(0);
    let wide = x.dtype.accumulator();
    let mut index: Vec<Expr> = axes.iter().map(|a| (*a).into()).collect();
    let here = Term::load(x.dtype, 0, index.clone()).cast(wide);
    let channel = &index[1] + &Expr::from(k) - (size - 1) / 2;
    let guard = vec![channel.clone(), &x.shape[1] - &channel - 1];
    index[1] = channel;
    let item = Term::load(x.dtype, 0, index).cast(wide);
    let squares = Term::when(guard, &item * &item, here.lit(0.0));
    let sum = Term::reduce(ReduceOp::Sum, vec![(k, Expr::from(size))], squares);
    let base = sum * (number("alpha") / size as f64) + number("bias");
    let body = &here / &base.binary(S::Pow, &here.lit(number("beta")));
    Ok(Element { axes, body: body.cast(x.dtype) })
}

/// A lane of zeros stays zeros.
fn lp(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    Body::build(b, inputs, |s, x| {
        let op = if cx.int("p") == 1 { "ReduceL1" } else { "ReduceL2" };
        let norm = s.reduce(op, x, &[cx.int("axis")])?;
        let (zero, one) = (s.number(0.0), s.number(1.0));
        let none = s.op("Equal", &[norm, zero])?;
        let divisor = s.op("Where", &[none, one, norm])?;
        s.op("Div", &[x, divisor])
    })
}

/// The standard deviation is kept from zero by ONNX's 1e-9, which is not in the variance.
fn mean_variance(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    Body::build(b, inputs, |s, x| {
        let (deviation, _, variance) = s.moments(x, mean_variance_axes(cx))?;
        let root = s.op("Sqrt", &[variance])?;
        let tiny = s.number(1e-9);
        let divisor = s.op("Add", &[root, tiny])?;
        s.op("Div", &[deviation, divisor])
    })
}

fn global_average(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let axes = axes_from(2, cx)?;
    Body::build(b, inputs, |s, x| s.reduce("ReduceMean", x, &axes))
}

fn global_max(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let axes = axes_from(2, cx)?;
    Body::build(b, inputs, |s, x| s.reduce("ReduceMax", x, &axes))
}

fn global_lp(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let axes = axes_from(2, cx)?;
    Body::build(b, inputs, |s, x| match cx.int("p") {
        1 => s.reduce("ReduceL1", x, &axes),
        2 => s.reduce("ReduceL2", x, &axes),
        p => {
            let (power, root) = (s.number(p as f64), s.number(1.0 / p as f64));
            let size = s.op("Abs", &[x])?;
            let powers = s.op("Pow", &[size, power])?;
            let sum = s.reduce("ReduceSum", powers, &axes)?;
            s.op("Pow", &[sum, root])
        }
    })
}
