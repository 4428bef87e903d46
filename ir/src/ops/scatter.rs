//! Scatters: a copy of the data with some elements replaced by, or combined with, updates.
//!
//! The definition of one element goes over all updates that may fall on it. Where several do and
//! nothing is to be combined, the last one stays, whatever order they are looked at in.

use super::contract::SUM_TOLERANCE;
use super::index::{elementwise_axis, wrapped};
use super::rules::{self, INT, indices};
use super::{EvalCx, Lower, Meaning, OpRow, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp, apply_wide};
use crate::symbol::Symbol;
use crate::tensor::{Tensor, strides};

const REDUCTION: AttrSpec = AttrSpec::new("reduction", AttrKind::Str, Default::Str("none"));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Int(0)), REDUCTION],
        eval: Some(scatter_elements_eval),
        tolerance: SUM_TOLERANCE,
        samples: &[
            "ScatterElements(f32[4,3], i64[2,3] in -4..4, f32[2,3])",
            "ScatterElements(f16[2,5], i32[1,4] in 0..5, f16[1,4]) {axis = 1, reduction = \"add\"}",
            "ScatterElements(i32[6], i64[9] in 0..6, i32[9]) {reduction = \"max\"}",
        ],
        ..OpRow::new(
            "ScatterElements",
            Some(("", 18)),
            &[one("data"), one("indices"), one("updates")],
            scatter_elements_infer,
            Meaning::Primitive(Lower::Element(scatter_elements_element)),
        )
    },
    OpRow {
        attrs: &[REDUCTION],
        eval: Some(scatter_nd_eval),
        tolerance: SUM_TOLERANCE,
        samples: &[
            "ScatterND(f32[4,3,2], i64[5,2] in -3..3, f32[5,2])",
            "ScatterND(i64[7], i64[2,3,1] in 0..7, i64[2,3]) {reduction = \"mul\"}",
            "ScatterND(f64[3,2], i64[4,1] in 0..3, f64[4,2]) {reduction = \"min\"}",
        ],
        ..OpRow::new(
            "ScatterND",
            Some(("", 18)),
            &[one("data"), one("indices"), one("updates")],
            scatter_nd_infer,
            Meaning::Primitive(Lower::Element(scatter_nd_element)),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("axis", AttrKind::Int, Default::Int(-2)),
            AttrSpec::new("mode", AttrKind::Str, Default::Str("linear")),
        ],
        samples: &[
            "TensorScatter(f32[2,3,7,4], f32[2,3,2,4], i64[2] in 0..6)",
            "TensorScatter(i8[3,5,2], i8[3,4,2], i64[3] in 0..9) {mode = \"circular\"}",
            "TensorScatter(f16[2,5,3], f16[2,2,3]) {axis = 1}",
            "TensorScatter(bool[2,4], bool[2,0], i64[2] in 0..4) {axis = -1}",
        ],
        ..OpRow::new(
            "TensorScatter",
            Some(("", 24)),
            &[one("past_cache"), one("update"), opt("write_indices")],
            tensor_scatter_infer,
            Meaning::Movement(tensor_scatter_element),
        )
    },
];

/// How updates are combined; `None`: they replace.
fn combination(cx: &Cx<'_>) -> Result<Option<ReduceOp>, String> {
    match cx.attrs.str("reduction") {
        Some("none") => Ok(None),
        Some("add") => Ok(Some(ReduceOp::Sum)),
        Some("mul") => Ok(Some(ReduceOp::Prod)),
        Some("min") => Ok(Some(ReduceOp::Min)),
        Some("max") => Ok(Some(ReduceOp::Max)),
        other => Err(format!("reduction is {other:?}, expected none, add, mul, min or max")),
    }
}

/// Checks what both scatters share, and gives the result.
fn scattered(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    if combination(cx)?.is_some() {
        rules::expect("data", cx.dtype(0)?, rules::COMPUTED)?;
    }
    let (data, updates) = (cx.ty(0)?, cx.ty(2)?);
    rules::expect("input 1 (indices)", cx.dtype(1)?, INT)?;
    if data.dtype != updates.dtype {
        return Err(format!("data has elements of {}, updates of {}", data.dtype, updates.dtype));
    }
    let sum = matches!(combination(cx)?, Some(ReduceOp::Sum));
    if sum && data.dtype == DType::Bool {
        return Err("bools cannot be added".into());
    }
    Ok(vec![data.clone().into()])
}

/// Checks the updates' shape.
fn expect_updates(cx: &Cx<'_>, expected: &[Expr]) -> Result<(), String> {
    let found = cx.shape(2)?;
    let differ =
        |(a, b): (&Expr, &Expr)| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
    if found.len() == expected.len() && !found.iter().zip(expected).any(differ) {
        return Ok(());
    }
    Err(format!("updates have shape {}, expected {}", rules::show(found), rules::show(expected)))
}

fn scatter_elements_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    elementwise_axis(cx, cx.ty(0)?, cx.ty(1)?)?;
    expect_updates(cx, cx.shape(1)?)?;
    scattered(cx)
}

/// The dimensions that one index of ScatterND spans.
fn nd_depth(cx: &Cx<'_>) -> Result<usize, String> {
    let (data, indices) = (cx.shape(0)?, cx.shape(1)?);
    match indices.last().and_then(Expr::as_const) {
        Some(n) if (0..=data.len() as i64).contains(&n) => Ok(n as usize),
        _ => Err(format!(
            "data has shape {} and indices {}, expected as many indices as there are dimensions at most",
            rules::show(data),
            rules::show(indices)
        )),
    }
}

fn scatter_nd_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let depth = nd_depth(cx)?;
    let (data, indices) = (cx.shape(0)?, cx.shape(1)?);
    let expected: Vec<Expr> = indices[..indices.len() - 1].iter().chain(&data[depth..]).cloned().collect();
    expect_updates(cx, &expected)?;
    scattered(cx)
}

/// The updates that may fall on one element.
struct Candidates {
    /// They are gone through by these variables.
    vars: Vec<(Symbol, Expr)>,
    /// Whether one falls on the element; a bool.
    hits: Term,
    /// The update.
    index: Vec<Expr>,
}

/// The result's element: the data's, replaced by or combined with the updates that hit it.
fn combined(cx: &Cx<'_>, index: Vec<Expr>, c: Candidates) -> Result<Term, String> {
    let dtype = cx.dtype(0)?;
    let data = Term::load(dtype, 0, index);
    let update = |index| Term::load(dtype, 2, index);
    let Some(op) = combination(cx)? else {
        // The position of the last update that hits, or -1.
        let flat = c.vars.iter().fold(Expr::ZERO, |flat, (v, n)| flat * n + Expr::from(*v));
        let none = Term::constant(DType::I64, Scalar::I(-1));
        let last = Term::reduce(ReduceOp::Max, c.vars.clone(), c.hits.select(&Term::index(flat), &none));
        let found = reduction(c.vars.len());
        let mut rest = Expr::from(found);
        let mut places = Vec::new();
        for (n, (v, extent)) in c.vars.iter().enumerate().rev() {
            let at = if n == 0 { rest.clone() } else { rest.modulo(extent) };
            rest = rest.floor_div(extent);
            places.push((*v, at));
        }
        let place = |s: Symbol| places.iter().find(|(v, _)| *v == s).map(|(_, e)| e.clone());
        let index = c.index.iter().map(|e| e.substitute(&place)).collect();
        let replaced = Term::when(vec![found.into()], update(index), data);
        return Ok(Term::bind(found, last, replaced));
    };
    let wide = dtype.accumulator();
    let neutral = Term::constant(wide, op.identity(wide));
    let value = c.hits.select(&update(c.index).cast(wide), &neutral);
    let all = Term::reduce(op, c.vars, value);
    Ok(data.cast(wide).binary(op.combine(), &all).cast(dtype))
}

fn scatter_elements_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (data, given) = (cx.ty(0)?, cx.ty(1)?);
    let axis = elementwise_axis(cx, data, given)?;
    let (axes, index) = indices(data.rank());
    let k = reduction(0);
    let mut from = index.clone();
    from[axis] = k.into();
    // Elements beyond the updates in any other dimension stay as they are.
    let mut within = Vec::new();
    for (n, (d, u)) in data.shape.iter().zip(&given.shape).enumerate() {
        if n != axis && d != u {
            within.push(u - 1 - &index[n]);
        }
    }
    let place = wrapped(&Term::load(given.dtype, 1, from.clone()), &data.shape[axis]);
    let hits = place.binary(ScalarOp::Eq, &Term::index(index[axis].clone()));
    let vars = vec![(k, given.shape[axis].clone())];
    let changed = combined(cx, index.clone(), Candidates { vars, hits, index: from })?;
    let same = Term::load(data.dtype, 0, index);
    Ok(Element { axes, body: Term::when(within, changed, same) })
}

fn scatter_nd_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let depth = nd_depth(cx)?;
    let (data, given) = (cx.ty(0)?, cx.ty(1)?);
    let (axes, index) = indices(data.rank());
    let outer = &given.shape[..given.rank() - 1];
    let vars: Vec<(Symbol, Expr)> =
        outer.iter().enumerate().map(|(n, d)| (reduction(n), d.clone())).collect();
    let place: Vec<Expr> = vars.iter().map(|(v, _)| (*v).into()).collect();
    let mut hits = Term::constant(DType::Bool, Scalar::B(true));
    for (n, i) in index.iter().take(depth).enumerate() {
        let at = place.iter().cloned().chain([n.into()]).collect();
        let at = wrapped(&Term::load(given.dtype, 1, at), &data.shape[n]);
        let hit = at.binary(ScalarOp::Eq, &Term::index(i.clone()));
        hits = if n == 0 { hit } else { hits.binary(ScalarOp::And, &hit) };
    }
    let from = place.into_iter().chain(index[depth..].iter().cloned()).collect();
    Ok(Element { axes, body: combined(cx, index, Candidates { vars, hits, index: from })? })
}

/// Applies updates in order: `place` gives the element of the result on which an update falls.
fn scatter(e: &EvalCx<'_>, place: impl Fn(usize) -> Result<usize, String>) -> Result<Vec<Tensor>, String> {
    let (data, updates) = (e.input(0), e.input(2));
    let op = combination(e.cx)?;
    let mut out: Vec<Scalar> = data.scalars().collect();
    for (i, u) in updates.scalars().enumerate() {
        let at = &mut out[place(i)?];
        *at = match op {
            None => u,
            Some(op) => apply_wide(op.combine(), data.dtype(), &[*at, u]),
        };
    }
    Ok(vec![Tensor::from_scalars(data.dtype(), data.shape(), out)])
}

/// An index within a dimension, counted from the end where negative.
fn checked(index: i64, extent: usize) -> Result<usize, String> {
    let at = if index < 0 { index + extent as i64 } else { index };
    match usize::try_from(at) {
        Ok(at) if at < extent => Ok(at),
        _ => Err(format!("index {index} is out of range for a dimension of {extent}")),
    }
}

fn scatter_elements_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (data, given) = (e.input(0), e.input(1));
    let axis = e.cx.axis(e.cx.int("axis"), data.rank())?;
    let (from, to) = (strides(given.shape()), strides(data.shape()));
    scatter(e, |i| {
        let mut at = 0;
        for n in 0..given.rank() {
            let own = i / from[n] % given.shape()[n];
            at += to[n] * if n == axis { checked(given.get(i).as_i64(), data.shape()[n])? } else { own };
        }
        Ok(at)
    })
}

fn scatter_nd_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (data, given) = (e.input(0), e.input(1));
    let depth = given.shape()[given.rank() - 1];
    let inner: usize = data.shape()[depth..].iter().product();
    scatter(e, |i| {
        let mut at = 0;
        for n in 0..depth {
            at = at * data.shape()[n] + checked(given.get(i / inner * depth + n).as_i64(), data.shape()[n])?;
        }
        Ok(at * inner + i % inner)
    })
}

/// The axis along which an update is written; never the batch's.
fn cache_axis(cx: &Cx<'_>) -> Result<usize, String> {
    match cx.axis(cx.int("axis"), cx.ty(0)?.rank())? {
        0 => Err("axis is the one of the batch, expected another".into()),
        axis => Ok(axis),
    }
}

fn tensor_scatter_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (cache, update, axis) = (cx.ty(0)?, cx.ty(1)?, cache_axis(cx)?);
    let fits = |(i, (a, b)): (usize, (&Expr, &Expr))| match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) if i == axis => b <= a,
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let pairs = cache.shape.iter().zip(&update.shape).enumerate();
    if cache.dtype != update.dtype || cache.rank() != update.rank() || !pairs.into_iter().all(fits) {
        return Err(format!("the update {update} does not fit into the cache {cache} along axis {axis}"));
    }
    if cx.has(2) {
        rules::expect("input 2 (write_indices)", cx.dtype(2)?, INT)?;
        if cx.ty(2)?.rank() != 1 {
            return Err(format!("input 2 (write_indices) is {}, expected one dimension", cx.ty(2)?));
        }
    }
    match cx.attrs.str("mode") {
        Some("linear" | "circular") => Ok(vec![cache.clone().into()]),
        other => Err(format!("mode is {other:?}, expected linear or circular")),
    }
}

/// The update's element where the distance from the place of writing is below the update's length.
fn tensor_scatter_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (cache, axis) = (cx.ty(0)?, cache_axis(cx)?);
    let (axes, index) = indices(cache.rank());
    let length = &cx.shape(1)?[axis];
    let past = Term::load(cache.dtype, 0, index.clone());
    let update = |at: Expr| {
        let mut index = index.clone();
        index[axis] = at;
        Term::load(cache.dtype, 1, index)
    };
    if !cx.has(2) {
        let body = Term::when(vec![length - &index[axis] - 1], update(index[axis].clone()), past);
        return Ok(Element { axes, body });
    }
    let start = Term::load(cx.dtype(2)?, 2, vec![index[0].clone()]).cast(DType::I64);
    let mut distance = Term::index(index[axis].clone()) - start;
    if cx.attrs.str("mode") == Some("circular") {
        distance = distance.binary(ScalarOp::Mod, &Term::index(cache.shape[axis].clone()));
    }
    let (zero, last) = (Term::index(0), Term::index(length - 1));
    let reached =
        distance.binary(ScalarOp::Ge, &zero).binary(ScalarOp::And, &distance.binary(ScalarOp::Le, &last));
    let place = reduction(0);
    let clamped = distance.binary(ScalarOp::Min, &last).binary(ScalarOp::Max, &zero);
    let written = Term::when(vec![length - 1], update(place.into()), past.clone());
    let body = Term::bind(place, clamped, reached.select(&written, &past));
    Ok(Element { axes, body })
}
