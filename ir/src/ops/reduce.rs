//! Reductions over axes, positions of extremes, and running sums.
//!
//! `ReduceSum`, `ReduceProd`, `ReduceMax`, `ReduceMin` and `ReduceMean` are primitive; the others
//! are built from them. Sums and products are carried in `f64` by the evaluator and in
//! [`DType::accumulator`] by compiled code; those of integers wrap. A reduction over no element
//! gives the operation's neutral value (a mean: NaN, or 0 for integers).

use super::Tolerance::{Exact, Sum, Ulps};
use super::axes::Axes;
use super::compose::cast;
use super::gradient;
use super::rules::{self, BOOL, NUMBER, Types};
use super::{EvalCx, Lower, Meaning, OpRow, Port, Tolerance, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{self, Element, ReduceOp, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp as S, apply_wide};
use crate::tensor::{self, Tensor};
use crate::types::TensorType;

/// What has a least and a greatest element.
const ORDERED: Types = NUMBER | BOOL;
const INPUTS: &[Port] = &[one("data"), opt("axes").known()];
const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}
const ATTRS: &[AttrSpec] = &[int("keepdims", 1), int("noop_with_empty_axes", 0)];

type Rule = fn(&Cx<'_>) -> Result<Vec<Info>, String>;

const fn row(name: &'static str, since: i64, rule: Rule, meaning: Meaning, tolerance: Tolerance) -> OpRow {
    OpRow {
        attrs: ATTRS,
        tolerance,
        checks: Some(|cx| Ok(reduced_axes(cx)?.checks())),
        ..OpRow::new(name, Some(("", since)), INPUTS, rule, meaning)
    }
}

/// Samples of a reduction.
macro_rules! samples {
    ($name:literal, $float:literal, $int:literal) => {
        &[
            concat!($name, "(f32[3,5,7] ", $float, ", i64[1] = [1])"),
            concat!($name, "(f16[2,3] ", $float, ", i64[2] = [-1, 0]) {keepdims = 0}"),
            concat!($name, "(f64[4] ", $float, ")"),
            concat!($name, "(f32[2,3] ", $float, ") {noop_with_empty_axes = 1}"),
            concat!($name, "(f32[2,0,3] ", $float, ", i64[1] = [1]) {keepdims = 0}"),
            concat!($name, "(", $int, ", i64[1] = [0])"),
            concat!($name, "(f32[3,5,2] ", $float, ", i64[1] in -3..3)"),
            concat!($name, "(f16[3,4] ", $float, ", i32[1] in -2..2) {keepdims = 0}"),
        ]
    };
}

/// A primitive reduction.
macro_rules! primitive {
    ($name:literal, $since:literal, $types:ident, $op:ident, $mean:literal, $tolerance:expr, $int:literal, $grad:expr) => {
        OpRow {
            grad: $grad,
            eval: Some(|e| reduce(e, ReduceOp::$op, $mean)),
            samples: samples!($name, "", $int),
            ..row(
                $name,
                $since,
                reduced_type::<$types>,
                Meaning::Primitive(Lower::Element(|cx, _| reduced_element(cx, ReduceOp::$op, $mean))),
                $tolerance,
            )
        }
    };
}

/// A reduction built from others.
macro_rules! composite {
    ($name:literal, $types:ident, $build:expr, $range:literal, $int:literal) => {
        OpRow {
            samples: samples!($name, $range, $int),
            ..row(
                $name,
                18,
                reduced_type::<$types>,
                Meaning::Composite(|cx, b, inputs| {
                    let build: fn(&mut Reduction<'_, '_, '_>, Value) -> Result<Value, String> = $build;
                    Reduction::build(cx, b, inputs, build)
                }),
                Sum(32.0),
            )
        }
    };
}

/// A running reduction along an axis.
macro_rules! running {
    ($name:literal, $since:literal, $op:ident) => {
        OpRow {
            attrs: &[int("exclusive", 0), int("reverse", 0)],
            eval: Some(|e| run(e, ReduceOp::$op)),
            checks: Some(|cx| Ok(running_axis(cx)?.checks())),
            tolerance: Sum(16.0),
            samples: &[
                concat!($name, "(f32[3,5], i64[] = [1])"),
                concat!($name, "(f16[7], i32[] = [0]) {exclusive = 1}"),
                concat!($name, "(i64[2,3,4], i64[] = [-2]) {reverse = 1}"),
                concat!($name, "(f64[0,4], i64[] = [0]) {exclusive = 1, reverse = 1}"),
                concat!($name, "(f32[3,4,2], i64[] in -3..3) {reverse = 1}"),
            ],
            ..OpRow::new(
                $name,
                Some(("", $since)),
                &[one("x"), one("axis").known()],
                running_type,
                Meaning::Primitive(Lower::Element(|cx, _| running_element(cx, ReduceOp::$op))),
            )
        }
    };
}

/// The position of an extreme along an axis.
macro_rules! position {
    ($name:literal, $op:ident) => {
        OpRow {
            attrs: &[int("axis", 0), int("keepdims", 1), int("select_last_index", 0)],
            eval: Some(|e| find(e, ReduceOp::$op)),
            samples: &[
                concat!($name, "(f32[3,5]) {axis = 1}"),
                concat!($name, "(f16[17]) {keepdims = 0}"),
                concat!($name, "(i64[2,7,3] in 0..3) {axis = -2, select_last_index = 1}"),
                concat!($name, "(u8[4,9] in 0..3) {axis = -1, keepdims = 0}"),
            ],
            ..OpRow::new(
                $name,
                Some(("", 12)),
                &[one("data")],
                position_type,
                Meaning::Primitive(Lower::Element(|cx, _| position_element(cx, ReduceOp::$op))),
            )
        }
    };
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    primitive!("ReduceSum", 13, NUMBER, Sum, false, Sum(16.0), "i32[3,4]", Some(gradient::sum)),
    primitive!("ReduceMean", 18, NUMBER, Sum, true, Sum(16.0), "i64[3,4]", Some(gradient::mean)),
    primitive!("ReduceMax", 18, ORDERED, Max, false, Exact, "u8[3,4]", Some(gradient::extreme)),
    primitive!("ReduceMin", 18, ORDERED, Min, false, Exact, "bool[3,4]", Some(gradient::extreme)),
    primitive!("ReduceProd", 18, NUMBER, Prod, false, Ulps(32), "i32[3,4]", None),
    composite!(
        "ReduceL1",
        NUMBER,
        |r, x| {
            let size = r.b.op("Abs", &[x], vec![])?;
            r.again("ReduceSum", size)
        },
        "",
        "i32[3,4]"
    ),
    composite!(
        "ReduceL2",
        NUMBER,
        |r, x| {
            let x = r.float(x)?;
            let squares = r.squares(x)?;
            r.b.op("Sqrt", &[squares], vec![])
        },
        "",
        "i32[3,4]"
    ),
    composite!("ReduceSumSquare", NUMBER, |r, x| r.squares(x), "", "i32[3,4]"),
    composite!(
        "ReduceLogSum",
        NUMBER,
        |r, x| {
            let x = r.float(x)?;
            let sum = r.again("ReduceSum", x)?;
            r.b.op("Log", &[sum], vec![])
        },
        "in 2..9",
        "i32[3,4] in 2..9"
    ),
    composite!(
        "ReduceLogSumExp",
        NUMBER,
        |r, x| {
            let x = r.float(x)?;
            r.log_sum_exp(x)
        },
        "in 1..4",
        "i32[3,4] in 1..4"
    ),
    position!("ArgMax", Max),
    position!("ArgMin", Min),
    running!("CumSum", 11, Sum),
    running!("CumProd", 26, Prod),
];

/// The axes that a node reduces: those of the operand `axes`; if that is absent or empty all, or none
/// with `noop_with_empty_axes`.
fn reduced_axes(cx: &Cx<'_>) -> Result<Axes, String> {
    let rank = cx.ty(0)?.rank();
    match Axes::of(cx, 1, "axes", rank)? {
        Some(axes) if axes.len() > 0 => Ok(axes),
        _ if cx.attrs.flag("noop_with_empty_axes") => Ok(Axes::first(0, rank)),
        _ => Ok(Axes::first(rank, rank)),
    }
}

fn reduced_type<const TYPES: Types>(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("data", x.dtype, TYPES)?;
    let shape = reduced_axes(cx)?.reduced(&x.shape, cx.attrs.flag("keepdims"));
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// The axis symbols of a reduction's result, and the index of the operand's element: reduced
/// dimensions by a reduction symbol, which come with their extents.
struct ReductionBox {
    axes: Vec<crate::Symbol>,
    index: Vec<Expr>,
    vars: Vec<(crate::Symbol, Expr)>,
}

fn reduction_box(shape: &[Expr], reduced: &[usize], keepdims: bool) -> ReductionBox {
    let mut out = ReductionBox { axes: Vec::new(), index: Vec::new(), vars: Vec::new() };
    for (i, d) in shape.iter().enumerate() {
        let inside = reduced.binary_search(&i).is_ok();
        if !inside || keepdims {
            out.axes.push(element::axis(out.axes.len()));
        }
        let symbol = match out.axes.last() {
            Some(axis) if !inside => *axis,
            _ => element::reduction(out.vars.len()),
        };
        if inside {
            out.vars.push((symbol, d.clone()));
        }
        out.index.push(symbol.into());
    }
    out
}

/// [`reduction_box`] for axes that are read: a reduction symbol for each of them.
fn open_box(shape: &[Expr], axes: &Axes, keepdims: bool) -> ReductionBox {
    let (symbols, kept) = rules::indices(if keepdims { shape.len() } else { shape.len() - axes.len() });
    let index = if keepdims { kept } else { axes.with_axes(&kept) };
    let mut out = ReductionBox { axes: symbols, index, vars: Vec::new() };
    for n in 0..axes.len() {
        let symbol = element::reduction(n);
        let along = shape.iter().enumerate().map(|(i, d)| axes.is(n, i) * d);
        // The maximum is one factor, where products of sums would become long.
        out.vars.push((symbol, along.fold(Expr::ZERO, |sum, d| sum + d).maximum(&Expr::ZERO)));
        for (i, at) in out.index.iter_mut().enumerate() {
            *at = &*at + &(axes.is(n, i) * Expr::from(symbol));
        }
    }
    out
}

fn reduced_element(cx: &Cx<'_>, op: ReduceOp, mean: bool) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let (axes, keepdims) = (reduced_axes(cx)?, cx.attrs.flag("keepdims"));
    let (shape, count) = match axes.constants() {
        Some(axes) => {
            let shape = reduction_box(&x.shape, &axes, keepdims);
            let count = Expr::product(shape.vars.iter().map(|(_, n)| n));
            (shape, Term::index(count))
        }
        None => {
            let shape = open_box(&x.shape, &axes, keepdims);
            let sizes = shape.vars.iter().map(|(_, n)| Term::index(n.clone()));
            let count = sizes.reduce(|count, n| count * n).unwrap_or_else(|| Term::index(1));
            (shape, count)
        }
    };
    let item = Term::load(x.dtype, 0, shape.index).cast(x.dtype.accumulator());
    let total = if shape.vars.is_empty() { item } else { Term::reduce(op, shape.vars, item) };
    let value = if mean { &total / &count.cast(total.dtype()) } else { total };
    Ok(Element { axes: shape.axes, body: value.cast(x.dtype) })
}

/// Row-major strides of the reduced shape, with 0 for the reduced dimensions; and its elements.
fn reduced_strides(shape: &[usize], axes: &[usize]) -> (Vec<usize>, usize) {
    let kept = |i: usize| axes.binary_search(&i).is_err();
    let sizes: Vec<usize> = shape.iter().enumerate().map(|(i, d)| if kept(i) { *d } else { 1 }).collect();
    let strides = tensor::strides(&sizes).into_iter().enumerate();
    (strides.map(|(i, s)| if kept(i) { s } else { 0 }).collect(), sizes.iter().product())
}

fn reduce(e: &EvalCx<'_>, op: ReduceOp, mean: bool) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let axes = reduced_axes(e.cx)?.constants().ok_or("the axes are not known")?;
    let (strides, elements) = reduced_strides(x.shape(), &axes);
    let mut totals = vec![op.identity(x.dtype()); elements];
    let mut values = x.scalars();
    rules::for_each_offset(x.shape(), &strides, |o| {
        if let Some(v) = values.next() {
            totals[o] = apply_wide(op.combine(), x.dtype(), &[totals[o], v]);
        }
    });
    if mean {
        let count: usize = axes.iter().map(|a| x.shape()[*a]).product();
        let count = if x.dtype().is_float() { Scalar::F(count as f64) } else { Scalar::I(count as i64) };
        for t in &mut totals {
            *t = apply_wide(S::Div, x.dtype(), &[*t, count]);
        }
    }
    Ok(vec![Tensor::from_scalars(x.dtype(), &result_shape(e)?, totals)])
}

/// The shape of the first result, which the operands' concrete types give in numbers.
pub(super) fn result_shape(e: &EvalCx<'_>) -> Result<Vec<usize>, String> {
    let ty = &e.outputs[0];
    ty.static_shape().ok_or_else(|| format!("{} has a result of unknown shape {ty}", e.cx.op.name))
}

/// Builds a composite reduction: the node whose axes and attributes its parts share.
struct Reduction<'a, 'b, 'c> {
    cx: &'a Cx<'b>,
    b: &'a mut Builder<'c>,
    axes: Option<Value>,
}

impl Reduction<'_, '_, '_> {
    /// Applies `build` to the operand (16-bit floats as `f32`), and converts to the result's type.
    fn build(
        cx: &Cx<'_>,
        b: &mut Builder<'_>,
        inputs: &[Option<Value>],
        build: fn(&mut Reduction<'_, '_, '_>, Value) -> Result<Value, String>,
    ) -> Result<Option<Vec<Value>>, String> {
        let Some(x) = inputs.first().copied().flatten() else { return Ok(None) };
        let dtype = b.ty(x)?.dtype;
        let axes = inputs.get(1).copied().flatten();
        let wide = cast(b, x, dtype.accumulator())?;
        let result = build(&mut Reduction { cx, b, axes }, wide)?;
        Ok(Some(vec![cast(b, result, dtype)?]))
    }

    /// The operand as floats.
    fn float(&mut self, x: Value) -> Result<Value, String> {
        let dtype = self.b.ty(x)?.dtype;
        cast(self.b, x, if dtype.is_float() { dtype } else { DType::F64 })
    }

    /// A reduction of `x` over the same axes.
    fn reduce(&mut self, op: &str, x: Value, keepdims: bool) -> Result<Value, String> {
        let inputs: Vec<Value> = std::iter::once(x).chain(self.axes).collect();
        let noop = self.cx.int("noop_with_empty_axes");
        let attrs = vec![("keepdims", Attr::Int(keepdims as i64)), ("noop_with_empty_axes", Attr::Int(noop))];
        self.b.op(op, &inputs, attrs)
    }

    /// A reduction of `x` with the same axes and attributes.
    fn again(&mut self, op: &str, x: Value) -> Result<Value, String> {
        self.reduce(op, x, self.cx.attrs.flag("keepdims"))
    }

    fn squares(&mut self, x: Value) -> Result<Value, String> {
        let squares = self.b.op("Mul", &[x, x], vec![])?;
        self.again("ReduceSum", squares)
    }

    /// `m + log(sum(e^(x - m)))` with the maximum `m`, or 0 for an infinite one: then the plain
    /// formula gives what is right.
    fn log_sum_exp(&mut self, x: Value) -> Result<Value, String> {
        let most = self.reduce("ReduceMax", x, true)?;
        let infinite = self.b.op("IsInf", &[most], vec![])?;
        let zero = Tensor::scalar(self.b.ty(x)?.dtype, Scalar::F(0.0));
        let zero = self.b.constant(zero);
        let shift = self.b.op("Where", &[infinite, zero, most], vec![])?;
        let shifted = self.b.op("Sub", &[x, shift], vec![])?;
        let powers = self.b.op("Exp", &[shifted], vec![])?;
        let sum = self.reduce("ReduceSum", powers, true)?;
        let log = self.b.op("Log", &[sum], vec![])?;
        let result = self.b.op("Add", &[log, shift], vec![])?;
        let axes = reduced_axes(self.cx)?;
        if self.cx.attrs.flag("keepdims") || axes.len() == 0 {
            return Ok(result);
        }
        let axes = match (axes.constants(), self.axes) {
            (None, Some(read)) => read,
            (axes, _) => {
                let axes: Vec<i64> = axes.unwrap_or_default().iter().map(|a| *a as i64).collect();
                self.b.constant(Tensor::new(&[axes.len()], &axes))
            }
        };
        self.b.op("Squeeze", &[result, axes], vec![])
    }
}

fn position_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("data", x.dtype, NUMBER)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    if x.shape[axis] == 0 {
        return Err(format!("axis {axis} of {x} has no element whose position could be given"));
    }
    let shape = rules::reduced_shape(&x.shape, &[axis], cx.attrs.flag("keepdims"));
    Ok(vec![TensorType::new(DType::I64, shape).into()])
}

fn position_element(cx: &Cx<'_>, op: ReduceOp) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    let shape = reduction_box(&x.shape, &[axis], cx.attrs.flag("keepdims"));
    let body = position_term(x, axis, &shape.index, op, cx.attrs.flag("select_last_index"));
    Ok(Element { axes: shape.axes, body })
}

/// The least (with `last`, the greatest) position along an axis whose element is the extreme or
/// NaN: with a NaN, the extreme is NaN and equals nothing. `index` says where on the other axes.
pub(super) fn position_term(x: &TensorType, axis: usize, index: &[Expr], op: ReduceOp, last: bool) -> Term {
    let extent = x.shape[axis].clone();
    let at = |k| {
        let mut index = index.to_vec();
        index[axis] = Expr::from(k);
        Term::load(x.dtype, 0, index)
    };
    let (inner, outer) = (element::reduction(0), element::reduction(1));
    let extreme = Term::reduce(op, vec![(inner, extent.clone())], at(inner));
    let item = at(outer);
    let mut found = item.binary(S::Eq, &extreme);
    if x.dtype.is_float() {
        found = found.binary(S::Or, &item.unary(S::IsNan));
    }
    let (choose, none) =
        if last { (ReduceOp::Max, Expr::constant(-1)) } else { (ReduceOp::Min, extent.clone()) };
    let candidate = found.select(&Term::index(outer), &Term::index(none));
    Term::reduce(choose, vec![(outer, extent)], candidate)
}

fn find(e: &EvalCx<'_>, op: ReduceOp) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let axis = e.cx.axis(e.cx.int("axis"), x.rank())?;
    let found = positions(x, axis, op, e.cx.attrs.flag("select_last_index"));
    Ok(vec![Tensor::new(&result_shape(e)?, &found)])
}

/// [`position_term`] for every lane along the axis, in row-major order of the other axes.
pub(super) fn positions(x: &Tensor, axis: usize, op: ReduceOp, last: bool) -> Vec<i64> {
    let better = if op == ReduceOp::Max { S::Gt } else { S::Lt };
    let is_nan = |v: Scalar| v.as_f64().is_nan();
    let (strides, elements) = reduced_strides(x.shape(), &[axis]);
    let mut best: Vec<Option<(Scalar, i64)>> = vec![None; elements];
    let inner = tensor::strides(x.shape())[axis];
    let (mut values, mut position) = (x.scalars(), 0);
    rules::for_each_offset(x.shape(), &strides, |o| {
        let Some(v) = values.next() else { return };
        let k = (position / inner % x.shape()[axis]) as i64;
        position += 1;
        let replace = best[o].is_none_or(|(b, _)| {
            let holds = |op| apply_wide(op, x.dtype(), &[v, b]).as_bool();
            let equal = holds(S::Eq) || (is_nan(v) && is_nan(b));
            (last && equal) || (!is_nan(b) && (is_nan(v) || holds(better)))
        });
        if replace {
            best[o] = Some((v, k));
        }
    });
    best.into_iter().flatten().map(|(_, k)| k).collect()
}

fn running_axis(cx: &Cx<'_>) -> Result<Axes, String> {
    match Axes::of(cx, 1, "axis", cx.ty(0)?.rank())? {
        Some(axes) if axes.len() == 1 => Ok(axes),
        other => Err(format!("axis has {} elements, expected one", other.map_or(0, |a| a.len()))),
    }
}

fn running_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    running_axis(cx)?;
    rules::same_as_first::<NUMBER>(cx)
}

/// A reduction over the whole axis, guarded: element `k` counts where it is not after (with
/// `reverse`, not before) the result's.
fn running_element(cx: &Cx<'_>, op: ReduceOp) -> Result<Element, String> {
    let (x, axis) = (cx.ty(0)?, running_axis(cx)?);
    let (axes, index) = rules::indices(x.rank());
    let k = element::reduction(0);
    let (mut from, mut here, mut extent) = (index.clone(), Expr::ZERO, Expr::ZERO);
    for (i, at) in index.iter().enumerate() {
        let along = axis.has(i);
        here = here + &along * at;
        extent = extent + &along * &x.shape[i];
        from[i] = at + &(along * (Expr::from(k) - at));
    }
    let distance = if cx.attrs.flag("reverse") { Expr::from(k) - here } else { here - Expr::from(k) };
    let guard = distance - i64::from(cx.attrs.flag("exclusive"));
    let item = Term::load(x.dtype, 0, from).cast(x.dtype.accumulator());
    let neutral = Term::constant(item.dtype(), op.identity(item.dtype()));
    let body = Term::when(vec![guard], item, neutral);
    let total = Term::reduce(op, vec![(k, extent)], body);
    Ok(Element { axes, body: total.cast(x.dtype) })
}

fn run(e: &EvalCx<'_>, op: ReduceOp) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let axis = running_axis(e.cx)?.constants().ok_or("the axis is not known")?[0];
    let (n, stride) = (x.shape()[axis], tensor::strides(x.shape())[axis]);
    let (exclusive, reverse) = (e.cx.attrs.flag("exclusive"), e.cx.attrs.flag("reverse"));
    let mut out: Vec<Scalar> = x.scalars().collect();
    // Every lane starts at an element whose index along the axis is zero.
    for start in (0..out.len()).filter(|i| i / stride % n == 0) {
        let mut total = op.identity(x.dtype());
        for step in 0..n {
            let at = start + stride * if reverse { n - 1 - step } else { step };
            let next = apply_wide(op.combine(), x.dtype(), &[total, out[at]]);
            out[at] = if exclusive { total } else { next };
            total = next;
        }
    }
    Ok(vec![Tensor::from_scalars(x.dtype(), x.shape(), out)])
}
