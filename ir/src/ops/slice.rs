//! Slice: starts, ends, axes and steps may all be constants or integers that a run reads.

use super::axes::Axes;
use super::rules::{self, indices};
use super::{Meaning, OpRow, one, opt};
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::symbol::Symbol;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    checks: Some(checks),
    samples: &[
        "Slice(f32[5,6], i64[2] = [1, -4], i64[2] = [4, 9223372036854775807])",
        "Slice(i32[7], i64[1] = [-1], i64[1] = [-9223372036854775807], i64[1] = [0], i64[1] = [-2])",
        "Slice(f64[3,4,5], i64[1] = [2], i64[1] = [0], i64[1] = [-1])",
        "Slice(bool[2,9], i32[1] = [1], i32[1] = [8], i32[1] = [1], i32[1] = [3])",
        "Slice(f32[0,2], i64[1] = [-1], i64[1] = [-9], i64[1] = [0], i64[1] = [-1])",
        "Slice(f32[4,5], i64[2] in -3..3, i64[2] in -9..9, i64[2] = [-1, 0], i64[2] = [2, -1])",
        "Slice(f32[4,5,3], i64[1] in -9..9, i64[1] in -9..9, i64[1] in -3..3, i64[1] in 1..4)",
        "Slice(i8[6,7], i64[1] in -9..9, i64[1] in -9..9, i64[1] in -2..2, i64[1] in -3..0)",
    ],
    ..OpRow::new(
        "Slice",
        Some(("", 13)),
        &[one("data"), one("starts").known(), one("ends").known(), opt("axes").known(), opt("steps").known()],
        infer,
        Meaning::Movement(element),
    )
}];

/// One sliced dimension: result element `i` is at `start + i * step`.
struct Cut {
    start: Expr,
    step: Expr,
    size: Expr,
}

/// A bound counted from the end where negative, clamped to `lo..=hi`.
fn bound(v: &Expr, dim: &Expr, lo: Expr, hi: Expr) -> Expr {
    // Bounds as great as these stand for "to the end", whatever the dimension is.
    const FAR: i64 = i32::MAX as i64;
    let v = match v.as_const() {
        Some(v) if v >= FAR => return hi,
        Some(v) if v <= -FAR => return lo,
        Some(v) if v < 0 => dim + &v.into(),
        Some(_) => v.clone(),
        None => {
            let range = v.bounds(&Symbol::range);
            match (range.lo, range.hi) {
                (Some(lo), _) if lo >= 0 => v.clone(),
                (_, Some(hi)) if hi < 0 => v + dim,
                _ => v + &(dim * &v.is_negative()),
            }
        }
    };
    v.minimum(&hi).maximum(&lo).simplify(&Symbol::range)
}

/// A dimension from `start` until before `end`.
fn cut(start: &Expr, end: &Expr, step: &Expr, dim: &Expr) -> Cut {
    // Steps back begin at the last element at most, and may end before the first.
    let back = step.as_const().map_or_else(|| step.is_negative(), |s| i64::from(s < 0).into());
    let last = dim - &back;
    let start = bound(start, dim, Expr::ZERO, last.clone());
    let end = bound(end, dim, -&back, last);
    let size = match step.as_const() {
        Some(s) if s > 0 => (end - &start).ceil_div(step),
        Some(s) => (&start - end).ceil_div(&s.checked_neg().unwrap_or(i64::MAX).into()),
        // Of either sign, rounded up all the same.
        None => -&(&start - end).floor_div(step),
    };
    let size = size.maximum(&Expr::ZERO).simplify(&Symbol::range);
    // Of nothing, nothing is taken, though a step back begins at 0 at least.
    let size = if back == 0 { size } else { size.minimum(dim) };
    Cut { start, step: step.clone(), size }
}

/// What a node does to its operand.
struct Slicing {
    axes: Axes,
    steps: Vec<Expr>,
    /// Where each axis starts and ends; absent where that is not known at all.
    ends: Option<Vec<(Expr, Expr)>>,
}

fn slicing(cx: &Cx<'_>) -> Result<Slicing, String> {
    let rank = cx.shape(0)?.len();
    let count = match cx.shape(1)? {
        [n] => n.as_const().ok_or("the number of starts is not known")? as usize,
        s => return Err(format!("input 1 (starts) has shape {}, expected one dimension", rules::show(s))),
    };
    if count > rank {
        return Err(format!("found {count} starts for rank {rank}"));
    }
    let axes = Axes::of(cx, 3, "axes", rank)?.unwrap_or_else(|| Axes::first(count, rank));
    let steps = super::axes::said(cx, 4, "steps")?.unwrap_or_else(|| vec![Expr::ONE; count]);
    let (starts, ends) = (cx.known(1), cx.known(2));
    if axes.len() != count || steps.len() != count || ends.is_some_and(|e| e.len() != count) {
        let (axes, steps) = (axes.len(), steps.len());
        return Err(format!("found {axes} axes and {steps} steps, expected {count} of each, as of ends"));
    }
    if steps.iter().any(|s| *s == 0) {
        return Err(format!("steps are {}, expected none of 0", rules::show(&steps)));
    }
    let ends = starts.zip(ends).map(|(s, e)| s.iter().cloned().zip(e.iter().cloned()).collect());
    Ok(Slicing { axes, steps, ends })
}

impl Slicing {
    /// What happens to a dimension; `None` where it stays. Where the bounds are not known, the size is a
    /// fresh symbol and there is no start.
    fn of(&self, cx: &Cx<'_>, i: usize, dim: &Expr) -> Result<Option<Cut>, String> {
        if self.axes.has(i) == 0 {
            return Ok(None);
        }
        let Some(ends) = &self.ends else {
            return match self.axes.constants() {
                Some(_) => Ok(Some(Cut { start: Expr::ZERO, step: Expr::ONE, size: (cx.fresh)().into() })),
                None => Err("starts or ends are not known, and neither are the axes".into()),
            };
        };
        let cut = |n: usize| cut(&ends[n].0, &ends[n].1, &self.steps[n], dim);
        let size = self.axes.choose(i, |n| cut(n).size, dim);
        Ok(Some(Cut {
            start: self.axes.choose(i, |n| cut(n).start, &Expr::ZERO),
            step: self.axes.choose(i, |n| cut(n).step, &Expr::ONE),
            size: if self.axes.has(i) == 1 { size } else { super::shape::size(&size) },
        }))
    }
}

fn infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (slicing, shape) = (slicing(cx)?, cx.shape(0)?);
    let dim = |(i, d)| Ok::<_, String>(slicing.of(cx, i, d)?.map_or_else(|| d.clone(), |c| c.size));
    let shape = shape.iter().enumerate().map(dim).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![TensorType::new(cx.dtype(0)?, shape).into()])
}

/// Steps that are read must not be 0.
fn checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let Slicing { axes, steps, .. } = slicing(cx)?;
    let open = steps.iter().filter(|s| s.as_const().is_none());
    Ok(axes.checks().into_iter().chain(open.map(|s| -&s.is_zero())).collect())
}

fn element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (slicing, shape) = (slicing(cx)?, cx.shape(0)?);
    if slicing.ends.is_none() {
        return Err("starts or ends depend on data, so that an element's place is not known".into());
    }
    let (axes, mut index) = indices(shape.len());
    for (i, (at, dim)) in index.iter_mut().zip(shape).enumerate() {
        if let Some(c) = slicing.of(cx, i, dim)? {
            *at = &*at * &c.step + c.start;
        }
    }
    Ok(Element { axes, body: Term::load(cx.dtype(0)?, 0, index) })
}
