//! Poolings: reductions over a sliding window of each channel.

use super::contract::SUM_TOLERANCE;
use super::rules::{self, FLOAT, NUMBER};
use super::window::{self, Fixed, Slide, for_each_run, window_attrs};
use super::{EvalCx, Lower, Meaning, OpRow, Tolerance, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, axes};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::TensorType;

const CEIL: AttrSpec = AttrSpec::new("ceil_mode", AttrKind::Int, Default::Int(0));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        outputs: (1, 2),
        attrs: window_attrs![CEIL, AttrSpec::new("storage_order", AttrKind::Int, Default::Int(0))],
        eval: Some(max_eval),
        samples: &[
            "MaxPool(f32[1,3,7,6]) {kernel_shape = [3, 2], pads = [1, 0, 1, 1], strides = [2, 1]}",
            "MaxPool(u8[2,2,5,5]) {kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1}",
            "MaxPool(f64[1,2,9]) {kernel_shape = [3], dilations = [2], auto_pad = \"SAME_UPPER\"}",
            "MaxPool(f16[1,1,3,4,3]) {kernel_shape = [2, 2, 2]}",
            "MaxPool(f32[2,2,5,5]) {kernel_shape = [3, 3], pads = [1, 1, 1, 1], storage_order = 1} -> 2",
            "MaxPool(u16[2,2,5,5] in 0..3) {kernel_shape = [3, 4], pads = [1, 1, 1, 1], storage_order = 1} -> 2",
        ],
        ..OpRow::new(
            "MaxPool",
            Some(("", 22)),
            &[one("X")],
            max_infer,
            Meaning::Primitive(Lower::Element(max_element)),
        )
    },
    OpRow {
        attrs: window_attrs![CEIL, AttrSpec::new("count_include_pad", AttrKind::Int, Default::Int(0))],
        eval: Some(average_eval),
        tolerance: SUM_TOLERANCE,
        samples: &[
            "AveragePool(f32[1,3,7,6]) {kernel_shape = [3, 2], pads = [1, 0, 1, 1], strides = [2, 1]}",
            "AveragePool(f32[1,2,6,6]) {kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], \
             ceil_mode = 1, count_include_pad = 1}",
            "AveragePool(f64[2,1,9]) {kernel_shape = [3], dilations = [2], auto_pad = \"SAME_LOWER\"}",
            "AveragePool(f16[1,2,4,4]) {kernel_shape = [2, 2]}",
        ],
        ..OpRow::new(
            "AveragePool",
            Some(("", 22)),
            &[one("X")],
            float_infer,
            Meaning::Primitive(Lower::Element(average_element)),
        )
    },
    OpRow {
        attrs: window_attrs![CEIL, AttrSpec::new("p", AttrKind::Int, Default::Int(2))],
        eval: Some(lp_eval),
        tolerance: Tolerance::Ulps(64),
        samples: &[
            "LpPool(f32[1,3,7,6]) {kernel_shape = [3, 2], pads = [1, 0, 1, 1], strides = [2, 1]}",
            "LpPool(f32[1,2,5]) {kernel_shape = [2], p = 1}",
            "LpPool(f64[1,2,5,4]) {kernel_shape = [2, 3], p = 3, auto_pad = \"SAME_UPPER\"}",
        ],
        ..OpRow::new(
            "LpPool",
            Some(("", 22)),
            &[one("X")],
            float_infer,
            Meaning::Primitive(Lower::Element(lp_element)),
        )
    },
];

/// The windows of a node.
fn slides(cx: &Cx<'_>) -> Result<Vec<Slide>, String> {
    let (_, _, spatial) = window::image(cx.shape(0)?)?;
    let kernel = match cx.attrs.ints("kernel_shape") {
        Some(k) if k.len() == spatial.len() && k.iter().all(|k| *k > 0) => k,
        Some(k) => return Err(format!("kernel_shape is {k:?}, expected {} positive numbers", spatial.len())),
        None => return Err("attribute kernel_shape is missing".into()),
    };
    let kernel: Vec<Expr> = kernel.iter().map(|k| (*k).into()).collect();
    window::slides(cx, spatial, &kernel)
}

fn shape(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let outputs = slides(cx)?.into_iter().map(|s| s.output);
    Ok(cx.shape(0)?[..2].iter().cloned().chain(outputs).collect())
}

fn float_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, FLOAT)?;
    Ok(vec![TensorType::new(cx.dtype(0)?, shape(cx)?).into()])
}

fn max_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, NUMBER)?;
    let types = [cx.dtype(0)?, DType::I64];
    types.into_iter().take(cx.outputs).map(|t| Ok(TensorType::new(t, shape(cx)?).into())).collect()
}

/// The reduction of `map(element)` over the window at the positions `axes`; `outside` stands for
/// what lies in the padding. Reduction variables are numbered from `first`.
fn over_window(
    cx: &Cx<'_>,
    (axes, first): (&[Symbol], usize),
    op: ReduceOp,
    outside: Scalar,
    map: impl Fn(&Term, &[Expr]) -> Term,
) -> Result<Term, String> {
    let taps = window::taps(&slides(cx)?, &axes[2..], first);
    let index: Vec<Expr> = axes[..2].iter().map(|s| (*s).into()).chain(taps.position).collect();
    let value = map(&Term::load(cx.dtype(0)?, 0, index.clone()), &index);
    let outside = Term::constant(value.dtype(), outside);
    Ok(window::reduce(op, taps.vars, Term::when(taps.inside, value, outside)))
}

/// The reference reduction over windows: `outside` folded with every element by `f`, which also
/// gets the element's position in its channel. `done` finishes an element of the result, given its
/// position in the output.
fn fold_windows<T: Copy>(
    e: &EvalCx<'_>,
    start: T,
    f: impl Fn(T, f64, usize) -> T,
    done: impl Fn(T, usize, &[Fixed; 3], [usize; 3]) -> T,
) -> Result<Vec<T>, String> {
    let fixed = window::fixed(&slides(e.cx)?)?;
    let [a, b, c] = fixed.map(|f| f.output);
    let plane_in: usize = fixed.iter().map(|f| f.input).product();
    let channels: usize = e.input(0).shape()[..2].iter().product();
    let xs = e.input(0).to_f64s();
    let mut out = vec![start; channels * a * b * c];
    for (channel, out) in out.chunks_exact_mut((a * b * c).max(1)).enumerate() {
        let image = &xs[channel * plane_in..(channel + 1) * plane_in];
        for_each_run(&fixed, |r| {
            for (i, o) in out[r.output..r.output + r.count].iter_mut().enumerate() {
                let at = r.input + i * r.step;
                *o = f(*o, image[at], at);
            }
        });
        for (i, o) in out.iter_mut().enumerate() {
            *o = done(*o, channel, &fixed, [i / (b * c), i / c % b, i % c]);
        }
    }
    Ok(out)
}

fn result(e: &EvalCx<'_>, values: &[f64]) -> Result<Tensor, String> {
    let shape = e.outputs[0].static_shape().ok_or("the result's shape is not known")?;
    Ok(Tensor::from_f64s(e.outputs[0].dtype, &shape, values))
}

fn max_element(cx: &Cx<'_>, output: usize) -> Result<Element, String> {
    let (dtype, axes) = (cx.dtype(0)?, axes(cx.shape(0)?.len()));
    let least = ReduceOp::Max.identity(dtype);
    let max = over_window(cx, (&axes, 0), ReduceOp::Max, least, |x, _| x.clone())?;
    if output == 0 {
        return Ok(Element { axes, body: max });
    }
    // The first position that holds the greatest value, in the order of the elements.
    let none = Scalar::I(i64::MAX);
    let position = |x: &Term, index: &[Expr]| {
        let flat = Term::index(flat_index(cx, index, false));
        x.binary(ScalarOp::Eq, &max).select(&flat, &Term::constant(DType::I64, none))
    };
    let first = over_window(cx, (&axes, axes.len()), ReduceOp::Min, none, position)?;
    let body = match cx.attrs.flag("storage_order") {
        false => first,
        true => {
            let at = Symbol::new("at");
            let index = index_of(cx, at.into());
            Term::bind(at, first, Term::index(flat_index(cx, &index, true)))
        }
    };
    Ok(Element { axes, body })
}

/// The index of the element of the input at a row-major position.
fn index_of(cx: &Cx<'_>, mut at: Expr) -> Vec<Expr> {
    let shape = cx.shape(0).unwrap_or_default();
    let mut index = vec![Expr::ZERO; shape.len()];
    for (i, d) in index.iter_mut().zip(shape).rev() {
        *i = at.modulo(d);
        at = at.floor_div(d);
    }
    index
}

/// The position of an element in the whole input, whose spatial dimensions may be counted column-major,
/// as MaxPool's second result does with storage_order 1.
fn flat_index(cx: &Cx<'_>, index: &[Expr], column_major: bool) -> Expr {
    let shape = cx.shape(0).unwrap_or_default();
    let mut order: Vec<usize> = (0..index.len()).collect();
    if column_major {
        order[2..].reverse();
    }
    order.into_iter().fold(Expr::ZERO, |flat, d| flat * &shape[d] + &index[d])
}

/// The greater of two as [`ScalarOp::Max`] has it.
fn greater(a: f64, b: f64) -> f64 {
    match (a.is_nan(), a == b) {
        (true, _) => a,
        (_, true) => {
            if a.is_sign_negative() {
                b
            } else {
                a
            }
        }
        _ => {
            if a > b {
                a
            } else {
                b
            }
        }
    }
}

fn max_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let start = (f64::NEG_INFINITY, None);
    let best = |(best, first): (f64, Option<usize>), x: f64, at: usize| {
        (greater(best, x), if x > best || first.is_none() { Some(at) } else { first })
    };
    let found = fold_windows(e, start, best, |v, channel, fixed, _| {
        let plane: usize = fixed.iter().map(|f| f.input).product();
        (v.0, v.1.map(|at| at + channel * plane))
    })?;
    let max: Vec<f64> = found.iter().map(|(v, _)| *v).collect();
    let mut out = vec![result(e, &max)?];
    if e.outputs.len() > 1 {
        let indices: Vec<i64> = found.iter().map(|(_, at)| stored_at(e, *at)).collect();
        out.push(Tensor::new(out[0].shape(), &indices));
    }
    Ok(out)
}

/// What [`flat_index`] gives for an element of the input at a row-major position.
fn stored_at(e: &EvalCx<'_>, at: Option<usize>) -> i64 {
    let Some(at) = at else { return i64::MAX };
    let index = index_of(e.cx, at.into());
    flat_index(e.cx, &index, e.cx.attrs.flag("storage_order")).as_const().unwrap_or(i64::MAX)
}

/// How many elements the window at output position `y` averages over, as an expression.
fn counted(s: &Slide, y: &Expr, padded: bool) -> Expr {
    let zero = Expr::ZERO;
    let first = y * s.stride - &s.before;
    let (lo, hi) = if padded { (-&s.before, &s.input + &s.after) } else { (zero.clone(), s.input.clone()) };
    let from = (lo - &first).ceil_div(&s.dilation.into()).maximum(&zero);
    let to = (hi - &first).ceil_div(&s.dilation.into()).minimum(&s.kernel);
    to - from
}

fn average_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (dtype, axes) = (cx.dtype(0)?, axes(cx.shape(0)?.len()));
    let wide = dtype.accumulator();
    let sum = over_window(cx, (&axes, 0), ReduceOp::Sum, Scalar::I(0), |x, _| x.cast(wide))?;
    let padded = cx.attrs.flag("count_include_pad");
    let mut count = Expr::ONE;
    for (s, y) in slides(cx)?.iter().zip(&axes[2..]) {
        let y: Expr = (*y).into();
        let within = s.inside(&s.position(&y, &Expr::ZERO)).is_empty() || (padded && !s.ceil);
        count = count * if within { s.kernel.clone() } else { counted(s, &y, padded) };
    }
    let count = match count.as_const() {
        Some(n) => Term::constant(wide, Scalar::I(n)),
        None => Term::index(count).cast(wide),
    };
    Ok(Element { axes, body: (sum / count).cast(dtype) })
}

fn average_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let padded = e.cx.attrs.flag("count_include_pad");
    let sums = fold_windows(
        e,
        0.0,
        |sum, x, _| sum + x,
        |sum, _, fixed, at| {
            let counts = fixed.iter().zip(at).map(|(f, y)| f.count(y, padded));
            sum / counts.product::<usize>() as f64
        },
    )?;
    Ok(vec![result(e, &sums)?])
}

/// The exponent of LpPool.
fn exponent(cx: &Cx<'_>) -> Result<f64, String> {
    match cx.int("p") {
        p if p > 0 => Ok(p as f64),
        p => Err(format!("p is {p}, expected 1 or more")),
    }
}

fn lp_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (dtype, axes, p) = (cx.dtype(0)?, axes(cx.shape(0)?.len()), exponent(cx)?);
    let power = |x: &Term, _: &[Expr]| {
        let x = x.cast(dtype.accumulator());
        match p {
            1.0 => x.unary(ScalarOp::Abs),
            2.0 => &x * &x,
            _ => x.unary(ScalarOp::Abs).binary(ScalarOp::Pow, &x.lit(p)),
        }
    };
    let sum = over_window(cx, (&axes, 0), ReduceOp::Sum, Scalar::I(0), power)?;
    let root = match p {
        1.0 => sum,
        2.0 => sum.unary(ScalarOp::Sqrt),
        _ => sum.binary(ScalarOp::Pow, &sum.lit(1.0 / p)),
    };
    Ok(Element { axes, body: root.cast(dtype) })
}

fn lp_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let p = exponent(e.cx)?;
    let values = fold_windows(e, 0.0, |s, x, _| s + x.abs().powf(p), |s, _, _, _| s.powf(1.0 / p))?;
    Ok(vec![result(e, &values)?])
}
