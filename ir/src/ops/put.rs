//! Scattering at flat positions: what all scatters become.
//!
//! `FlatIndices` makes of indices along dimensions a position among the rows that they span, counted
//! row-major, or -1 where an index is out of range. `Put` changes a copy of its data at such positions, one
//! update after another; what lies outside is passed over. So the work is linear in data and updates, and
//! the arithmetic of indices is an element-wise op, which is folded where they are constants.

use super::procedure::{Draft, Procedure, each, named, symbol};
use super::rules::{self, INT, indices};
use super::shape::target;
use super::{EvalCx, Lower, Meaning, OpRow, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::loops::{Buf, Builder};
use crate::scalar::{Scalar, ScalarOp, apply_wide};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::TensorType;
use std::sync::Arc;

/// How updates are combined with what is there.
pub(super) const REDUCTION: AttrSpec = AttrSpec::new("reduction", AttrKind::Str, Default::Str("none"));

/// A task changes so many elements of a row at most.
const BLOCK: i64 = 1024;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Absent)],
        checks: Some(flat_indices_checks),
        samples: &[
            "FlatIndices(i64[5,2] in -4..5, i64[2] = [4, 3])",
            "FlatIndices(i32[2,3,4] in -5..5, i64[2] = [3, 4]) {axis = 2}",
            "FlatIndices(u8[3] in 0..9, i64[1] = [7]) {axis = 0}",
            "FlatIndices(i64[3,0], i64[0] = [])",
        ],
        ..OpRow::new(
            "FlatIndices",
            None,
            &[one("indices"), one("shape").known()],
            flat_indices_infer,
            Meaning::Primitive(Lower::Element(flat_indices_element)),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("batch", AttrKind::Int, Default::Int(0)),
            AttrSpec::new("depth", AttrKind::Int, Default::Int(1)),
            REDUCTION,
        ],
        eval: Some(put_eval),
        checks: Some(put_checks),
        tolerance: super::contract::SUM_TOLERANCE,
        samples: &[
            "Put(f32[4,3], i64[5] in -1..6, f32[5,3])",
            "Put(f16[2,3,4], i64[2,7] in -1..13, f16[2,7]) {batch = 1, depth = 2}",
            "Put(f32[6], i64[2,9] in 0..6, f32[2,9]) {reduction = \"add\"}",
            "Put(i32[2,3,2], i64[2,4] in 0..3, i32[2,4,2]) {batch = 1, reduction = \"max\"}",
            "Put(u8[2,3], i64[4] in 0..6, u8[4]) {depth = 2, reduction = \"mul\"}",
            "Put(f64[3,2], i64[0], f64[0,2]) {reduction = \"min\"}",
            "Put(f32[3,1500], i64[5] in -1..4, f32[5,1500])",
            "Put(i16[2,2,1100], i64[2,3] in 0..2, i16[2,3,1100]) {batch = 1, reduction = \"add\"}",
        ],
        ..OpRow::new(
            "Put",
            None,
            &[one("data"), one("positions"), one("updates")],
            put_infer,
            Meaning::Primitive(Lower::Update(put_procedure)),
        )
    },
];

/// How updates are combined; `None`: they replace.
pub(super) fn combination(cx: &Cx<'_>) -> Result<Option<ReduceOp>, String> {
    match cx.attrs.str("reduction") {
        Some("none") => Ok(None),
        Some("add") => Ok(Some(ReduceOp::Sum)),
        Some("mul") => Ok(Some(ReduceOp::Prod)),
        Some("min") => Ok(Some(ReduceOp::Min)),
        Some("max") => Ok(Some(ReduceOp::Max)),
        other => Err(format!("reduction is {other:?}, expected none, add, mul, min or max")),
    }
}

/// Checks that updates can be combined with the data.
pub(super) fn expect_combination(cx: &Cx<'_>) -> Result<(), String> {
    let (data, updates) = (cx.dtype(0)?, cx.dtype(2)?);
    let op = combination(cx)?;
    if op.is_some() {
        rules::expect("data", data, rules::COMPUTED)?;
    }
    if data != updates {
        return Err(format!("data has elements of {data}, updates of {updates}"));
    }
    match op {
        Some(ReduceOp::Sum) if data == DType::Bool => Err("bools cannot be added".into()),
        _ => Ok(()),
    }
}

/// Checks a shape; only constants can be wrong here.
pub(super) fn expect_shape(what: &str, found: &[Expr], expected: &[Expr]) -> Result<(), String> {
    let differ =
        |(a, b): (&Expr, &Expr)| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
    if found.len() == expected.len() && !found.iter().zip(expected).any(differ) {
        return Ok(());
    }
    Err(format!("{what} have shape {}, expected {}", rules::show(found), rules::show(expected)))
}

/// The dimensions that the indices span, and of ScatterElements the indices' axis among their own.
fn spanned(cx: &Cx<'_>) -> Result<(Vec<Expr>, Option<usize>), String> {
    let (given, shape) = (cx.ty(0)?, target(cx, 1, "shape")?);
    rules::expect("input 0 (indices)", given.dtype, INT)?;
    let Some(axis) = cx.attrs.int("axis") else {
        return match given.shape.last() {
            Some(n) if *n == shape.len() as i64 => Ok((shape, None)),
            _ => Err(format!("indices are {given} for the dimensions {}", rules::show(&shape))),
        };
    };
    let axis = cx.axis(axis, given.rank())?;
    match given.rank().checked_sub(shape.len()) {
        Some(batch) if batch <= axis => Ok((shape, Some(axis))),
        _ => Err(format!("indices are {given} along axis {axis} of the dimensions {}", rules::show(&shape))),
    }
}

fn flat_indices_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (_, axis) = spanned(cx)?;
    let shape = cx.shape(0)?;
    let kept = if axis.is_some() { shape.len() } else { shape.len() - 1 };
    Ok(vec![TensorType::new(DType::I64, shape[..kept].to_vec()).into()])
}

/// Besides the axis, indices lie within the dimensions.
fn flat_indices_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let (shape, axis) = spanned(cx)?;
    let Some(axis) = axis else { return Ok(Vec::new()) };
    let given = cx.shape(0)?;
    let batch = given.len() - shape.len();
    let others = given.iter().enumerate().skip(batch).zip(&shape).filter(|((n, _), _)| *n != axis);
    Ok(others.map(|((_, g), d)| d - g).collect())
}

fn flat_indices_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (shape, axis) = spanned(cx)?;
    let given = cx.ty(0)?;
    let (axes, index) = indices(if axis.is_some() { given.rank() } else { given.rank() - 1 });
    let (zero, mut inside) = (Term::index(0), Term::constant(DType::Bool, Scalar::B(true)));
    let mut position = zero.clone();
    for (n, d) in shape.iter().enumerate() {
        let extent = Term::index(d.clone());
        let at = match axis {
            // Along all others an index stays where it is.
            Some(axis) if axis != given.rank() - shape.len() + n => {
                Term::index(index[given.rank() - shape.len() + n].clone())
            }
            _ => {
                let own = if axis.is_some() { None } else { Some(Expr::from(n)) };
                let from = index.iter().cloned().chain(own).collect();
                let at = super::index::wrapped(&Term::load(given.dtype, 0, from), d);
                let low = at.binary(ScalarOp::Ge, &zero);
                let both = low.binary(ScalarOp::And, &at.binary(ScalarOp::Lt, &extent));
                inside =
                    if inside.const_bits().is_some() { both } else { inside.binary(ScalarOp::And, &both) };
                at
            }
        };
        position = if n == 0 { at } else { position * &extent + at };
    }
    let none = Term::constant(DType::I64, Scalar::I(-1));
    Ok(Element { axes, body: inside.select(&position, &none) })
}

/// How the dimensions of Put's operands fall apart.
struct Parts {
    /// How many of the data's dimensions are shared with the positions.
    batch: usize,
    /// Where the dimensions of a row begin in the data.
    inner: usize,
    /// The shape that the updates must have.
    updates: Vec<Expr>,
}

fn parts(cx: &Cx<'_>) -> Result<Parts, String> {
    let (data, at) = (cx.shape(0)?, cx.ty(1)?);
    let of = |name: &str| usize::try_from(cx.int(name)).ok();
    let sizes = of("batch").zip(of("depth")).filter(|(b, d)| b + d <= data.len() && *b <= at.rank());
    let Some((batch, depth)) = sizes else {
        let data = rules::show(data);
        return Err(format!("data has shape {data}, which has no such batch and depth; positions are {at}"));
    };
    if at.dtype != DType::I64 {
        return Err(format!("input 1 (positions) is {at}, expected elements of i64"));
    }
    let inner = batch + depth;
    Ok(Parts { batch, inner, updates: at.shape.iter().chain(&data[inner..]).cloned().collect() })
}

fn put_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let p = parts(cx)?;
    expect_shape("positions", &cx.shape(1)?[..p.batch], &cx.shape(0)?[..p.batch])?;
    expect_shape("updates", cx.shape(2)?, &p.updates)?;
    expect_combination(cx)?;
    Ok(vec![Info { ty: cx.ty(0)?.clone().into(), known: put_known(cx, &p)? }])
}

/// All of the operands' dimensions that must be equal are.
fn put_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let p = parts(cx)?;
    let batch = cx.shape(1)?[..p.batch].iter().zip(cx.shape(0)?);
    let pairs = batch.chain(cx.shape(2)?.iter().zip(&p.updates));
    let differences = pairs.filter(|(a, b)| a != b).map(|(a, b)| a - b);
    Ok(differences.flat_map(|d| [-&d, d]).collect())
}

/// The elements on which an update of a row of `inner` elements falls, out of the `total` rows of one of
/// the batch, for each update in order: where it begins in the data and in the updates.
fn falls(
    positions: &[i64],
    batch: usize,
    total: usize,
    inner: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let each = positions.len() / batch.max(1);
    positions.iter().enumerate().filter_map(move |(n, p)| {
        let row = usize::try_from(*p).ok().filter(|p| *p < total)?;
        Some(((n / each * total + row) * inner, n * inner))
    })
}

/// The contents of the result where those of all operands are known and updates replace or are added.
fn put_known(cx: &Cx<'_>, p: &Parts) -> Result<Option<Arc<[Expr]>>, String> {
    let (Some(data), Some(positions), Some(updates)) = (cx.known(0), cx.known_ints(1), cx.known(2)) else {
        return Ok(None);
    };
    let add = combination(cx)?;
    let plain = match add {
        None => true,
        Some(op) => op == ReduceOp::Sum && matches!(cx.dtype(0)?, DType::I32 | DType::I64),
    };
    let (Some(shape), true) = (cx.ty(0)?.static_shape(), plain) else { return Ok(None) };
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (batch, total) = (product(&shape[..p.batch]), product(&shape[p.batch..p.inner]));
    let inner = product(&shape[p.inner..]);
    let mut out = data.to_vec();
    for (to, from) in falls(&positions, batch, total, inner) {
        for i in 0..inner {
            let (Some(old), Some(new)) = (out.get_mut(to + i), updates.get(from + i)) else {
                return Ok(None);
            };
            *old = if add.is_some() { &*old + new } else { new.clone() };
        }
    }
    Ok(Some(out.into()))
}

fn put_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (data, positions, updates) = (e.input(0), e.input(1), e.input(2));
    let (p, op) = (parts(e.cx)?, combination(e.cx)?);
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (batch, total) = (product(&data.shape()[..p.batch]), product(&data.shape()[p.batch..p.inner]));
    let inner = product(&data.shape()[p.inner..]);
    let mut out: Vec<Scalar> = data.scalars().collect();
    for (to, from) in falls(&positions.to_i64s(), batch, total, inner) {
        for i in 0..inner {
            let (at, u) = (&mut out[to + i], updates.get(from + i));
            *at = match op {
                None => u,
                Some(op) => apply_wide(op.combine(), data.dtype(), &[*at, u]),
            };
        }
    }
    Ok(vec![Tensor::from_scalars(data.dtype(), data.shape(), out)])
}

/// A task goes over all updates of one of the batch, and changes a block of their rows.
fn put_procedure(cx: &Cx<'_>, results: &[TensorType]) -> Result<Procedure, String> {
    let (p, op) = (parts(cx)?, combination(cx)?);
    let (data, at) = (cx.shape(0)?, cx.shape(1)?);
    let (batch, total) = (Expr::product(&data[..p.batch]), Expr::product(&data[p.batch..p.inner]));
    let (inner, count) = (Expr::product(&data[p.inner..]), Expr::product(&at[p.batch..]));
    let (mut draft, from, to) = Draft::new(cx, &[1, 2], results)?;
    draft.updates(to[0]);
    let whole = inner.as_const().is_some_and(|n| n <= BLOCK);
    let blocks = if whole { Expr::ONE } else { inner.ceil_div(&BLOCK.into()) };
    let task = symbol("task");
    Ok(draft.tasks(task, &batch * &blocks, |b| {
        let (nth, block) = match (whole, batch == 1) {
            (true, _) => (Expr::from(task), Expr::ZERO),
            (false, true) => (Expr::ZERO, Expr::from(task)),
            (false, false) => {
                let (at, by) = (b.index(task), b.index(blocks.clone()));
                let nth = b.op(ScalarOp::Div, &[at, by]);
                let nth = named(b, "nth", nth);
                (nth.clone(), Expr::from(task) - nth * &blocks)
            }
        };
        let start = block * BLOCK;
        let width = if whole { inner.clone() } else { (&inner - &start).minimum(&BLOCK.into()) };
        each(b, "update", count.clone(), |b, i| {
            let update = &nth * &count + &i;
            let position = b.load(from[0], update.clone());
            // Of either sign, which the name says.
            let row = Symbol::new("~position");
            b.bind(row, position);
            let inside = vec![row.into(), &total - 1 - Expr::from(row)];
            let put = |b: &mut Builder<'_>| {
                let place = (&nth * &total + Expr::from(row)) * &inner + &start;
                row_of(b, &width, (from[1], &(update * &inner + &start)), (to[0], &place), op);
                Vec::new()
            };
            b.if_(inside, put, |_| Vec::new());
        });
    }))
}

/// Puts elements that lie side by side in one buffer into another, or combines them with what is there.
fn row_of(
    b: &mut Builder<'_>,
    width: &Expr,
    (from, source): (Buf, &Expr),
    (to, place): (Buf, &Expr),
    op: Option<ReduceOp>,
) {
    let one = |b: &mut Builder<'_>, i: Expr| {
        let mut value = b.load(from, source + &i);
        if let Some(op) = op {
            let old = b.load(to, place + &i);
            value = b.op(op.combine(), &[old, value]);
        }
        b.store(to, place + &i, value);
    };
    match width.as_const() {
        Some(1) => one(b, Expr::ZERO),
        _ => each(b, "element", width.clone(), one),
    }
}
