//! Ops that sort.

use super::procedure::{Draft, Procedure, each, merge_sort, named, symbol};
use super::rules;
use super::shape::{read_sizes, target};
use super::{EvalCx, Lower, Meaning, OpRow, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::loops::{Builder, Val};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::tensor::Tensor;
use crate::types::TensorType;

const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    outputs: (2, 2),
    attrs: &[int("axis", -1), int("largest", 1), int("sorted", 1)],
    eval: Some(top_k_eval),
    checks: Some(|cx| {
        let (n, k) = lengths(cx)?;
        Ok(read_sizes(cx, 1).into_iter().chain([n - k]).collect())
    }),
    samples: &[
        "TopK(f32[3,7], i64[1] = [3]) -> 2",
        "TopK(i32[4,2], i64[1] = [2]) {axis = 0, largest = 0} -> 2",
        "TopK(f16[2,33,3] in 0..5, i64[1] = [33]) {axis = 1} -> 2",
        "TopK(u64[5], i64[1] = [0]) -> 2",
        "TopK(f64[2,3] = [nan, 1.0, nan, -0.0, 0.0, -inf], i64[1] = [2]) {largest = 0} -> 2",
    ],
    ..OpRow::new(
        "TopK",
        Some(("", 24)),
        &[one("X"), one("K").known()],
        top_k_infer,
        Meaning::Primitive(Lower::Procedure(top_k_procedure)),
    )
}];

/// The elements along the axis, and how many of them are taken.
fn lengths(cx: &Cx<'_>) -> Result<(Expr, Expr), String> {
    let x = cx.ty(0)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    match &target(cx, 1, "K")?[..] {
        [k] => Ok((x.shape[axis].clone(), k.clone())),
        other => Err(format!("K is {}, expected one number", rules::show(other))),
    }
}

fn top_k_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0 (X)", x.dtype, rules::NUMBER)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    let (n, k) = lengths(cx)?;
    if let (Some(k), Some(n)) = (k.as_const(), n.as_const())
        && !(0..=n).contains(&k)
    {
        return Err(format!("K is {k}, but axis {axis} has {n} elements"));
    }
    let mut shape = x.shape.clone();
    shape[axis] = k;
    Ok(vec![TensorType::new(x.dtype, shape.clone()).into(), TensorType::new(DType::I64, shape).into()])
}

/// Equal elements come in the order of their indices; NaN counts as greater than all numbers.
fn top_k_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let axis = e.cx.axis(e.cx.int("axis"), x.rank())?;
    let shape = e.outputs[0].static_shape().ok_or("K is not known")?;
    let (extent, k) = (x.shape()[axis], shape[axis]);
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let compare = |a: Scalar, b: Scalar| match (a, b) {
        (Scalar::F(a), Scalar::F(b)) => a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (Scalar::U(a), Scalar::U(b)) => a.cmp(&b),
        (a, b) => a.as_i64().cmp(&b.as_i64()),
    };
    let largest = e.cx.attrs.flag("largest");
    let mut chosen = vec![0; outer * k * inner];
    for o in 0..outer {
        for i in 0..inner {
            let at = |n: usize| (o * extent + n) * inner + i;
            let mut order: Vec<usize> = (0..extent).collect();
            order.sort_by(|a, b| {
                let by = compare(x.get(at(*a)), x.get(at(*b)));
                if largest { by.reverse() } else { by }
            });
            order
                .into_iter()
                .take(k)
                .enumerate()
                .for_each(|(n, from)| chosen[(o * k + n) * inner + i] = from);
        }
    }
    let place = |(n, from): (usize, &usize)| x.get((n / inner / k * extent + from) * inner + n % inner);
    let values = Tensor::from_scalars(x.dtype(), &shape, chosen.iter().enumerate().map(place));
    let places: Vec<i64> = chosen.iter().map(|i| *i as i64).collect();
    Ok(vec![values, Tensor::new(&shape, &places)])
}

/// Whether the second of two elements comes before the first: it is greater or, for `smallest`, less.
/// NaN counts as greater than all numbers.
pub(super) fn comes_first(b: &mut Builder<'_>, first: Val, second: Val, smallest: bool) -> Val {
    let (greater, lesser) = if smallest { (first, second) } else { (second, first) };
    let by_value = b.op(S::Gt, &[greater, lesser]);
    if !b.ty(first).dtype.is_float() {
        return by_value;
    }
    let (nan, other) = (b.op(S::IsNan, &[greater]), b.op(S::IsNan, &[lesser]));
    let number = b.op(S::Not, &[other]);
    let only = b.op(S::And, &[nan, number]);
    b.op(S::Or, &[by_value, only])
}

/// Each lane along the axis is a task, which sorts it.
fn top_k_procedure(cx: &Cx<'_>, results: &[TensorType]) -> Result<Procedure, String> {
    let x = cx.ty(0)?;
    let axis = cx.axis(cx.int("axis"), x.rank())?;
    let smallest = !cx.attrs.flag("largest");
    let (n, k) = (x.shape[axis].clone(), results[0].shape[axis].clone());
    let outer = Expr::product(&x.shape[..axis]);
    let inner = Expr::product(&x.shape[axis + 1..]);
    let (mut draft, from, to) = Draft::new(cx, &[0], results)?;
    let order = draft.scratch("order", DType::I64, &n * 2);
    let lane = symbol("lane");
    Ok(draft.tasks(lane, &outer * &inner, |b| {
        let (row, column) = if inner == 1 {
            (Expr::from(lane), Expr::ZERO)
        } else {
            let (at, by) = (b.index(lane), b.index(inner.clone()));
            let row = b.op(S::Div, &[at, by]);
            let row = named(b, "row", row);
            (row.clone(), Expr::from(lane) - row * &inner)
        };
        let place = |i: &Expr, extent: &Expr| (&row * extent + i) * &inner + &column;
        let sorted = merge_sort(b, &n, order, &|b, first, second| {
            let (i, j) = (named(b, "first", first), named(b, "second", second));
            let (first, second) = (b.load(from[0], place(&i, &n)), b.load(from[0], place(&j, &n)));
            comes_first(b, first, second, smallest)
        });
        each(b, "chosen", k.minimum(&n), |b, i| {
            let found = b.load(order, &sorted + &i);
            let at = named(b, "found", found);
            let value = b.load(from[0], place(&at, &n));
            b.store(to[0], place(&i, &k), value);
            b.store(to[1], place(&i, &k), found);
        });
    }))
}
