//! Choosing by truth values: NonZero and Compress.
//!
//! How many elements are chosen depends on data. `Chosen` gives the places of all of them in a result of
//! the largest size that it can have, together with their number; `First` takes so many, the number being
//! read in the run; and what was wanted follows by index arithmetic.

use super::compose::{Built, Inputs, cast, operand, results};
use super::procedure::{Draft, Procedure, each, int, named, symbol};
use super::rules::{self, BOOL, CONVERTED, INT, indices};
use super::shape::{read_sizes, target};
use super::{EvalCx, Lower, Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::loops::{self, Buf, LoopKind, Val};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::tensor::{Tensor, strides};
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        eval: Some(non_zero_eval),
        samples: &[
            "NonZero(bool[3,4])",
            "NonZero(i32[5])",
            "NonZero(f32[])",
            "NonZero(bf16[2,3,2] in -2..2)",
            "NonZero(u8[2,0,3])",
            "NonZero(f64[2,3] = [0.0, -0.0, nan, 1e-300, 0.0, -inf])",
        ],
        ..OpRow::new(
            "NonZero",
            Some(("", 13)),
            &[one("X")],
            non_zero_infer,
            Meaning::Composite(non_zero_build),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Absent)],
        eval: Some(compress_eval),
        samples: &[
            "Compress(f32[4,2], bool[3]) {axis = 0}",
            "Compress(i8[2,3], bool[6])",
            "Compress(f16[2,3,5], bool[5]) {axis = -1}",
            "Compress(bool[3,2], bool[2]) {axis = 1}",
            "Compress(f32[3,0], bool[0])",
        ],
        ..OpRow::new(
            "Compress",
            Some(("", 28)),
            &[one("input"), one("condition")],
            compress_infer,
            Meaning::Composite(compress_build),
        )
    },
    OpRow {
        outputs: (2, 2),
        eval: Some(chosen_eval),
        checks: Some(|cx| {
            let most = if cx.has(1) { target(cx, 1, "limit")? } else { Vec::new() };
            Ok(most.iter().map(|n| n - cx.ty(0).map_or(Expr::ZERO, TensorType::elements)).collect())
        }),
        samples: &[
            "Chosen(bool[2,5]) -> 2",
            "Chosen(bool[]) -> 2",
            "Chosen(bool[7], i64[1] = [9]) -> 2",
            "Chosen(bool[0]) -> 2",
        ],
        ..OpRow::new(
            "Chosen",
            None,
            &[one("mask"), opt("limit").known()],
            chosen_infer,
            Meaning::Primitive(Lower::Procedure(chosen_procedure)),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Int(0))],
        checks: Some(|cx| {
            let (axis, size) = first(cx)?;
            Ok(read_sizes(cx, 1).into_iter().chain([&cx.shape(0)?[axis] - size]).collect())
        }),
        samples: &["First(f32[5,2], i64[1] = [3])", "First(i8[2,4], i64[1] = [0]) {axis = 1}"],
        ..OpRow::new(
            "First",
            None,
            &[one("data"), one("count").known()],
            first_infer,
            Meaning::Movement(first_element),
        )
    },
    OpRow {
        samples: &[
            "Unravel(i64[4] in 0..24, i64[3] = [2, 3, 4])",
            "Unravel(i64[3] in 0..5, i64[1] = [5])",
            "Unravel(i64[2] in 0..1, i64[0] = [])",
        ],
        ..OpRow::new(
            "Unravel",
            None,
            &[one("positions"), one("shape").known()],
            unravel_infer,
            Meaning::Primitive(Lower::Element(unravel_element)),
        )
    },
];

fn non_zero_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, CONVERTED)?;
    Ok(vec![TensorType::new(DType::I64, [Expr::from(x.rank()), (cx.fresh)().into()]).into()])
}

fn non_zero_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let found: Vec<usize> = (0..x.len()).filter(|i| x.get(*i).as_bool()).collect();
    let dims = strides(x.shape()).into_iter().zip(x.shape());
    let rows = dims.flat_map(|(s, d)| found.iter().map(move |i| (i / s % d) as i64));
    Ok(vec![Tensor::new(&[x.rank(), found.len()], &rows.collect::<Vec<_>>())])
}

fn non_zero_build(_: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let mask = cast(b, x, DType::Bool)?;
    let places = where_holds(b, mask, None)?;
    let shape = b.op("Shape", &[x], vec![])?;
    Ok(Some(vec![b.op("Unravel", &[places, shape], vec![])?]))
}

/// The places, row-major, where a mask holds; one of more elements than the limit is refused.
pub(super) fn where_holds(b: &mut Builder<'_>, mask: Value, limit: Option<Value>) -> Result<Value, String> {
    let chosen = results(b, "Chosen", &[Some(mask), limit], vec![], 2)?;
    b.op("First", &chosen, vec![])
}

fn compress_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let data = cx.ty(0)?;
    rules::expect("input 1 (condition)", cx.dtype(1)?, BOOL)?;
    let size: Expr = (cx.fresh)().into();
    let shape = match cx.attrs.int("axis") {
        None => vec![size],
        Some(axis) => {
            let mut shape = data.shape.clone();
            shape[cx.axis(axis, data.rank())?] = size;
            shape
        }
    };
    Ok(vec![TensorType::new(data.dtype, shape).into()])
}

fn compress_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (x, condition) = (e.input(0), e.input(1));
    let (mut shape, axis) = match e.cx.attrs.int("axis") {
        None => (vec![x.len()], 0),
        Some(axis) => (x.shape().to_vec(), e.cx.axis(axis, x.rank())?),
    };
    if condition.len() > shape[axis] {
        return Err(format!("condition has {} elements, the axis {}", condition.len(), shape[axis]));
    }
    let inner: usize = shape[axis + 1..].iter().product();
    let extent = shape[axis];
    let keeps = |i: &usize| {
        let at = i / inner % extent;
        at < condition.len() && condition.get(at).as_bool()
    };
    let kept: Vec<Scalar> = (0..x.len()).filter(keeps).map(|i| x.get(i)).collect();
    shape[axis] = condition.scalars().filter(|c| c.as_bool()).count();
    Ok(vec![Tensor::from_scalars(x.dtype(), &shape, kept)])
}

fn compress_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (Some(x), Some(condition)) = (operand(inputs, 0), operand(inputs, 1)) else { return Ok(None) };
    let (x, axis) = match cx.attrs.int("axis") {
        None => (flat(b, x)?, 0),
        Some(axis) => (x, cx.axis(axis, cx.ty(0)?.rank())? as i64),
    };
    let ends = vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))];
    let limit = b.op("Shape", &[x], ends)?;
    let places = where_holds(b, condition, Some(limit))?;
    Ok(Some(vec![b.op("Gather", &[x, places], vec![("axis", Attr::Int(axis))])?]))
}

/// A tensor's elements as a vector.
pub(super) fn flat(b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let shape = b.constant(Tensor::new(&[1], &[-1i64]));
    b.op("Reshape", &[x, shape], vec![])
}

fn chosen_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0 (mask)", cx.dtype(0)?, BOOL)?;
    let vector = |n: Expr| TensorType::new(DType::I64, [n]).into();
    Ok(vec![vector(cx.ty(0)?.elements()), vector(Expr::ONE)])
}

/// Places are followed by zeros.
fn chosen_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let mask = e.input(0);
    let mut places: Vec<i64> = (0..mask.len()).filter(|i| mask.get(*i).as_bool()).map(|i| i as i64).collect();
    let count = places.len() as i64;
    places.resize(mask.len(), 0);
    Ok(vec![Tensor::new(&[mask.len()], &places), Tensor::new(&[1], &[count])])
}

fn chosen_procedure(cx: &Cx<'_>, types: &[TensorType]) -> Result<Procedure, String> {
    let n = cx.ty(0)?.elements();
    let (draft, from, to) = Draft::new(cx, &[0], types)?;
    Ok(draft.tasks(symbol("task"), Expr::ONE, |b| {
        let found = gather_numbers(b, &n, to[0], &|b, i| b.load(from[0], i.clone()));
        fill(b, (to[0], &Expr::ZERO), (found, &n), 0);
        b.store(to[1], Expr::ZERO, found);
    }))
}

/// Writes the numbers below `n` for which `holds` gives a true bool, one behind the other, and gives how
/// many there are.
pub(super) fn gather_numbers(
    b: &mut loops::Builder<'_>,
    n: &Expr,
    to: Buf,
    holds: &dyn Fn(&mut loops::Builder<'_>, &Expr) -> Val,
) -> Val {
    let (zero, item) = (int(b, 0), symbol("item"));
    let found = b.for_(item, n.clone(), LoopKind::Serial, &[zero], |b, carried| {
        let holds = holds(b, &item.into());
        // Written in any case: the next one that holds takes the place of one that does not.
        let (place, number) = (named(b, "place", carried[0]), b.index(item));
        b.store(to, place, number);
        let one = b.op(S::Cast(DType::I64), &[holds]);
        vec![b.op(S::Add, &[carried[0], one])]
    });
    found[0]
}

/// Fills a buffer of `i64` behind its first `done` elements from a place on, up to `n`.
pub(super) fn fill(
    b: &mut loops::Builder<'_>,
    (to, place): (Buf, &Expr),
    (done, n): (Val, &Expr),
    value: i64,
) {
    let (done, value) = (named(b, &format!("done{}", to.as_u32()), done), int(b, value));
    each(b, "rest", n - &done, |b, i| b.store(to, place + &done + i, value));
}

/// First's axis and the size that it cuts it to.
fn first(cx: &Cx<'_>) -> Result<(usize, Expr), String> {
    let axis = cx.axis(cx.int("axis"), cx.ty(0)?.rank())?;
    match &target(cx, 1, "count")?[..] {
        [size] => Ok((axis, size.clone())),
        other => Err(format!("count is {}, expected one number", rules::show(other))),
    }
}

fn first_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (axis, size) = first(cx)?;
    let mut ty = cx.ty(0)?.clone();
    ty.shape[axis] = size;
    Ok(vec![ty.into()])
}

fn first_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let data = cx.ty(0)?;
    let (axes, index) = indices(data.rank());
    Ok(Element { axes, body: Term::load(data.dtype, 0, index) })
}

fn unravel_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (at, shape) = (cx.ty(0)?, target(cx, 1, "shape")?);
    rules::expect("input 0 (positions)", at.dtype, INT)?;
    match &at.shape[..] {
        [n] => Ok(vec![TensorType::new(DType::I64, [shape.len().into(), n.clone()]).into()]),
        _ => Err(format!("input 0 (positions) is {at}, expected one dimension")),
    }
}

/// A position as an index along each dimension.
fn unravel_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (at, shape) = (cx.ty(0)?, target(cx, 1, "shape")?);
    let (axes, index) = indices(2);
    let position = Term::load(at.dtype, 0, vec![index[1].clone()]).cast(DType::I64);
    let along = |n: usize| {
        let quotient = match Expr::product(&shape[n + 1..]) {
            stride if stride == 1 => position.clone(),
            stride => position.binary(S::Div, &Term::index(stride)),
        };
        if n == 0 { quotient } else { quotient.binary(S::Rem, &Term::index(shape[n].clone())) }
    };
    let Some(last) = shape.len().checked_sub(1) else {
        return Ok(Element { axes, body: Term::index(0) });
    };
    let body = (0..last)
        .rev()
        .fold(along(last), |rest, n| Term::when(vec![Expr::from(n) - &index[0]], along(n), rest));
    Ok(Element { axes, body })
}
