//! Reading at places that are data: gathers, selections.
//!
//! An index may be negative (from the end). It is wrapped and then clamped into bounds, so that any
//! data is safe to read with.

use super::compose::{Built, cast};
use super::contract::shared;
use super::rules::{self, INT, NUMBER, indices};
use super::shape::{read_sizes, size};
use super::{Meaning, OpRow, one};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp};
use crate::symbol::Symbol;
use crate::types::TensorType;

const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[int("axis", 0)],
        samples: &[
            "Gather(f32[5,3], i64[2,2] in -5..5)",
            "Gather(i8[2,4,3], i32[] in 0..4) {axis = 1}",
            "Gather(f16[3,2], i64[0]) {axis = -1}",
            "Gather(bool[4], i64[3] = [0, -1, 2])",
        ],
        ..OpRow::new(
            "Gather",
            Some(("", 13)),
            &[one("data"), one("indices")],
            gather_infer,
            Meaning::Movement(gather_element),
        )
    },
    OpRow {
        attrs: &[int("axis", 0)],
        samples: &[
            "GatherElements(f32[4,3], i64[2,3] in -4..4)",
            "GatherElements(i32[2,3,4], i32[2,2,6] in 0..4) {axis = 2}",
        ],
        ..OpRow::new(
            "GatherElements",
            Some(("", 13)),
            &[one("data"), one("indices")],
            gather_elements_infer,
            Meaning::Movement(gather_elements_element),
        )
    },
    OpRow {
        attrs: &[int("batch_dims", 0)],
        samples: &[
            "GatherND(f32[4,3,2], i64[5,2] in -3..3)",
            "GatherND(u8[2,3,4], i64[2,1] in 0..3) {batch_dims = 1}",
            "GatherND(f64[3,3], i64[2] in 0..3)",
        ],
        ..OpRow::new(
            "GatherND",
            Some(("", 13)),
            &[one("data"), one("indices")],
            gather_nd_infer,
            Meaning::Movement(gather_nd_element),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Int(-1))],
        checks: Some(|cx| Ok(read_sizes(cx, 1))),
        open: Some(one_hot_open),
        samples: &[
            "OneHot(i64[4] in -3..5, i64[] = 5, f32[2])",
            "OneHot(i32[2,2] in 0..3, i64[1] = [3], i8[2]) {axis = 1}",
            "OneHot(f32[3] in -2.0..3.0, f32[] in 1.0..6.0, i32[2]) {axis = 0}",
            "OneHot(i64[2,2] in -3..3, i64[] in 0..6, f16[2])",
        ],
        ..OpRow::new(
            "OneHot",
            Some(("", 28)),
            &[one("indices"), one("depth").known(), one("values")],
            one_hot_infer,
            Meaning::Movement(one_hot_element),
        )
    },
];

/// An index from data, of a dimension: from the end where negative.
pub(super) fn wrapped(index: &Term, dim: &Expr) -> Term {
    let index = index.cast(DType::I64);
    let zero = Term::constant(DType::I64, Scalar::I(0));
    let from_end = index.binary(ScalarOp::Add, &Term::index(dim.clone()));
    index.binary(ScalarOp::Lt, &zero).select(&from_end, &index)
}

/// `body` with `symbol` standing for an index from data, which is wrapped and clamped into `0..dim`.
/// Where the dimension may be 0, nothing is read and the value is 0.
fn at(symbol: Symbol, index: &Term, dim: &Expr, body: Term) -> Term {
    let bound = |e: Expr| Term::index(e);
    let clamped =
        wrapped(index, dim).binary(ScalarOp::Min, &bound(dim - 1)).binary(ScalarOp::Max, &bound(Expr::ZERO));
    let none = Term::constant(body.dtype(), Scalar::I(0));
    Term::bind(symbol, clamped, Term::when(vec![dim - 1], body, none))
}

fn gather_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (data, indices) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 1 (indices)", indices.dtype, INT)?;
    let axis = cx.axis(cx.int("axis"), data.rank())?;
    if let (Some(n), Some(known)) = (data.shape[axis].as_const(), cx.known_ints(1))
        && let Some(i) = known.iter().find(|i| !(-n..n).contains(*i))
    {
        return Err(format!("index {i} is out of range for axis {axis} of {n} elements"));
    }
    let mut shape = data.shape.clone();
    shape.splice(axis..=axis, indices.shape.iter().cloned());
    Ok(vec![TensorType::new(data.dtype, shape).into()])
}

fn gather_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (data, indices_type) = (cx.ty(0)?, cx.ty(1)?);
    let (axis, inner) = (cx.axis(cx.int("axis"), data.rank())?, indices_type.rank());
    let (axes, index) = indices(data.rank() + inner - 1);
    let place = index[axis..axis + inner].to_vec();
    let load = |i: Expr| {
        let mut from = index.clone();
        from.splice(axis..axis + inner, [i]);
        Term::load(data.dtype, 0, from)
    };
    let dim = &data.shape[axis];
    // A single constant index needs no look at the data: the result is a slice of the operand.
    if let Some([i]) = cx.known_ints(1).as_deref()
        && let Some(n) = dim.as_const()
    {
        return Ok(Element { axes, body: load(Expr::from(if *i < 0 { i + n } else { *i })) });
    }
    let given = Term::load(indices_type.dtype, 1, place);
    let body = at(reduction(0), &given, dim, load(reduction(0).into()));
    Ok(Element { axes, body })
}

fn gather_elements_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (data, indices) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 1 (indices)", indices.dtype, INT)?;
    elementwise_axis(cx, data, indices)?;
    Ok(vec![TensorType::new(data.dtype, indices.shape.clone()).into()])
}

/// The axis of GatherElements and ScatterElements: in all others the indices lie within the data.
pub(super) fn elementwise_axis(
    cx: &Cx<'_>,
    data: &TensorType,
    indices: &TensorType,
) -> Result<usize, String> {
    let (d, i) = (rules::show(&data.shape), rules::show(&indices.shape));
    if data.rank() != indices.rank() {
        return Err(format!("data has shape {d} and indices {i}, expected the same rank"));
    }
    let axis = cx.axis(cx.int("axis"), data.rank())?;
    for (n, (d_n, i_n)) in data.shape.iter().zip(&indices.shape).enumerate() {
        let larger = matches!((d_n.as_const(), i_n.as_const()), (Some(d), Some(i)) if i > d);
        if n != axis && larger {
            return Err(format!("indices have shape {i}, which is larger than the data's, {d}, at axis {n}"));
        }
    }
    Ok(axis)
}

fn gather_elements_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (data, given) = (cx.ty(0)?, cx.ty(1)?);
    let axis = elementwise_axis(cx, data, given)?;
    let (axes, index) = indices(data.rank());
    let mut from = index.clone();
    for ((f, d), i) in from.iter_mut().zip(&data.shape).zip(&given.shape) {
        let within = d == i || matches!((d.as_const(), i.as_const()), (Some(d), Some(i)) if i <= d);
        if !within {
            *f = f.minimum(&(d - 1));
        }
    }
    from[axis] = reduction(0).into();
    let load = Term::load(data.dtype, 0, from);
    let body = at(reduction(0), &Term::load(given.dtype, 1, index), &data.shape[axis], load);
    Ok(Element { axes, body })
}

/// GatherND's number of batch dimensions, and how many dimensions an index spans.
fn nd_depth(cx: &Cx<'_>) -> Result<(usize, usize), String> {
    let (data, indices) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 1 (indices)", indices.dtype, INT)?;
    let batch = cx.int("batch_dims");
    let depth = indices.shape.last().and_then(Expr::as_const);
    match (usize::try_from(batch), depth.and_then(|d| usize::try_from(d).ok())) {
        (Ok(b), Some(d)) if b < indices.rank() && b + d <= data.rank() => Ok((b, d)),
        _ => Err(format!(
            "data has shape {}, indices {} and batch_dims is {batch}, expected as many indices as there are \
             dimensions at most",
            rules::show(&data.shape),
            rules::show(&indices.shape)
        )),
    }
}

fn gather_nd_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (batch, depth) = nd_depth(cx)?;
    let (data, indices) = (cx.ty(0)?, cx.ty(1)?);
    let mut shape = Vec::new();
    for (d, i) in data.shape.iter().zip(&indices.shape).take(batch) {
        shape.push(shared(d, i, "batch dimensions")?);
    }
    shape.extend_from_slice(&indices.shape[batch..indices.rank() - 1]);
    shape.extend_from_slice(&data.shape[batch + depth..]);
    Ok(vec![TensorType::new(data.dtype, shape).into()])
}

fn gather_nd_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (batch, depth) = nd_depth(cx)?;
    let (data, given) = (cx.ty(0)?, cx.ty(1)?);
    let outer = given.rank() - 1;
    let (axes, index) = indices(outer + data.rank() - batch - depth);
    let mut from = index[..batch].to_vec();
    from.extend((0..depth).map(|n| Expr::from(reduction(n))));
    from.extend_from_slice(&index[outer..]);
    let mut body = Term::load(data.dtype, 0, from);
    for n in (0..depth).rev() {
        let place = index[..outer].iter().cloned().chain([n.into()]).collect();
        let given = Term::load(given.dtype, 1, place);
        body = at(reduction(n), &given, &data.shape[batch + n], body);
    }
    Ok(Element { axes, body })
}

/// OneHot's depth where it is known; it may be of any number type.
fn one_hot_depth(cx: &Cx<'_>) -> Option<Expr> {
    let float = || cx.known_floats(1)?.first().map(|d| Expr::from(*d as i64));
    cx.known(1).and_then(|k| k.first().map(size)).or_else(float)
}

fn one_hot_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0 (indices)", cx.dtype(0)?, NUMBER)?;
    rules::expect("input 1 (depth)", cx.dtype(1)?, NUMBER)?;
    let mut shape = cx.shape(0)?.to_vec();
    let axis = cx.axis(cx.int("axis"), shape.len() + 1)?;
    let depth = one_hot_depth(cx).unwrap_or_else(|| (cx.fresh)().into());
    if depth.as_const().is_some_and(|d| d < 0) {
        return Err(format!("depth is {depth}, expected 0 or more"));
    }
    shape.insert(axis, depth);
    match cx.shape(2)? {
        [n] if n.as_const().is_none_or(|n| n == 2) => Ok(vec![TensorType::new(cx.dtype(2)?, shape).into()]),
        s => Err(format!("input 2 (values) has shape {}, expected [2]", rules::show(s))),
    }
}

/// A depth that is a float is converted.
fn one_hot_open(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: &[Option<Value>]) -> Built {
    let (Some(indices), Some(depth), Some(values)) = (inputs[0], inputs[1], inputs[2]) else {
        return Ok(None);
    };
    if one_hot_depth(cx).is_some() || !cx.dtype(1)?.is_float() {
        return Ok(None);
    }
    let depth = cast(b, depth, DType::I64)?;
    let axis = vec![("axis", Attr::Int(cx.int("axis")))];
    Ok(Some(vec![b.op("OneHot", &[indices, depth, values], axis)?]))
}

fn one_hot_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let rank = cx.shape(0)?.len() + 1;
    let axis = cx.axis(cx.int("axis"), rank)?;
    let (axes, mut index) = indices(rank);
    let place = Term::index(index.remove(axis));
    let given = Term::load(cx.dtype(0)?, 0, index).cast(DType::I64);
    let depth = match one_hot_depth(cx) {
        Some(d) => Term::index(d),
        None => Term::load(cx.dtype(1)?, 1, vec![Expr::ZERO; cx.shape(1)?.len()]).cast(DType::I64),
    };
    let negative = given.binary(ScalarOp::Lt, &Term::constant(DType::I64, Scalar::I(0)));
    let given = negative.select(&(&given + &depth), &given);
    let value = |n: i64| Term::load(cx.dtype(2).unwrap_or(DType::F32), 2, vec![n.into()]);
    Ok(Element { axes, body: place.binary(ScalarOp::Eq, &given).select(&value(1), &value(0)) })
}
