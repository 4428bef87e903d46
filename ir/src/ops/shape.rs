//! Shapes as values, other shapes for the same elements, and tensors made from a shape.
//!
//! A target shape is taken from its operand's known contents; where they depend on data, each of
//! its dimensions becomes a fresh symbol.

use super::axes::{Axes, said};
use super::compose::{Body, Built, cast, operand};
use super::rules::{self, ANY, NUMBER};
use super::{EvalCx, Lower, Meaning, OpRow, Tolerance, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term, axes};
use crate::expr::{Expr, Range};
use crate::graph::infer::{Cx, Info, KNOWN_LIMIT};
use crate::graph::{Builder, Value};
use crate::scalar::Scalar;
use crate::symbol::Symbol;
use crate::tensor::{Tensor, element_count};
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[AttrSpec::new("allowzero", AttrKind::Int, Default::Int(0))],
        view: true,
        checks: Some(reshape_checks),
        samples: &[
            "Reshape(f32[2,3,4], i64[2] = [6, 4])",
            "Reshape(i32[2,3,4], i64[3] = [0, -1, 2])",
            "Reshape(u8[0,3], i64[2] = [0, 7]) {allowzero = 1}",
            "Reshape(f16[1], i64[0] = [])",
        ],
        ..OpRow::new(
            "Reshape",
            Some(("", 25)),
            &[one("data"), one("shape").known()],
            reshape_infer,
            Meaning::Movement(view_element),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("symbols", AttrKind::Strs, Default::Required)],
        view: true,
        samples: &[
            "Read(i64[2] = [3, -1]) {symbols = [\"~0\", \"~1\"]}",
            "Read(i32[] = 7) {symbols = [\"~2\"]}",
        ],
        ..OpRow::new("Read", None, &[one("data")], read_infer, Meaning::Movement(view_element))
    },
    OpRow {
        attrs: &[AttrSpec::new("axis", AttrKind::Int, Default::Int(1))],
        view: true,
        samples: &["Flatten(f32[2,3,4])", "Flatten(i8[2,3,4]) {axis = -1}", "Flatten(bool[3,0]) {axis = 0}"],
        ..OpRow::new(
            "Flatten",
            Some(("", 25)),
            &[one("input")],
            flatten_infer,
            Meaning::Movement(view_element),
        )
    },
    OpRow {
        view: true,
        checks: Some(squeeze_checks),
        samples: &[
            "Squeeze(f32[1,3,1])",
            "Squeeze(i64[1,3,1,2], i64[1] = [-2])",
            "Squeeze(f32[1,1,1], i64[1] in -3..3)",
        ],
        ..OpRow::new(
            "Squeeze",
            Some(("", 25)),
            &[one("data"), opt("axes").known()],
            squeeze_infer,
            Meaning::Movement(squeeze_element),
        )
    },
    OpRow {
        view: true,
        checks: Some(|cx| Ok(unsqueezed_axes(cx)?.checks())),
        samples: &[
            "Unsqueeze(f32[3,2], i64[2] = [0, -1])",
            "Unsqueeze(bool[], i64[1] = [0])",
            "Unsqueeze(i16[3,2], i64[1] in -3..3)",
        ],
        ..OpRow::new(
            "Unsqueeze",
            Some(("", 25)),
            &[one("data"), one("axes").known()],
            unsqueeze_infer,
            Meaning::Movement(unsqueeze_element),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("start", AttrKind::Int, Default::Int(0)),
            AttrSpec::new("end", AttrKind::Int, Default::Absent),
        ],
        samples: &[
            "Shape(f32[2,3,4])",
            "Shape(i8[2,0,4]) {start = -2}",
            "Shape(f64[2,3]) {start = 1, end = 1}",
        ],
        ..OpRow::new(
            "Shape",
            Some(("", 25)),
            &[one("data")],
            shape_infer,
            Meaning::Movement(contents_element),
        )
    },
    OpRow {
        samples: &["Size(f32[2,3,4])", "Size(bool[])"],
        ..OpRow::new("Size", Some(("", 25)), &[one("data")], size_infer, Meaning::Movement(contents_element))
    },
    OpRow {
        attrs: &[AttrSpec::new("value", AttrKind::Tensor, Default::Absent)],
        checks: Some(|cx| Ok(read_sizes(cx, 0))),
        eval: Some(constant_of_shape_eval),
        samples: &["ConstantOfShape(i64[2] = [2, 3])", "ConstantOfShape(i64[0] = [])"],
        ..OpRow::new(
            "ConstantOfShape",
            Some(("", 25)),
            &[one("input").known()],
            constant_of_shape_infer,
            Meaning::Movement(constant_of_shape_element),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("stash_type", AttrKind::Int, Default::Int(1))],
        tolerance: Tolerance::Ulps(2),
        open: Some(range_open),
        samples: &[
            "Range(i64[] = 2, i64[] = 11, i64[] = 3)",
            "Range(i32[] = 5, i32[] = -5, i32[] = -2)",
            "Range(f32[] = 0.5, f32[] = 3.0, f32[] = 0.25)",
            "Range(i64[] = 3, i64[] = 3, i64[] = 1)",
            "Range(f32[] in 0.0..1.0, f32[] in 3.0..9.0, f32[] in 0.5..1.5)",
            "Range(f64[1] in -2.0..-1.0, f64[] in -9.0..-5.0, f64[1] in -1.5..-0.5)",
            "Range(i64[] in -3..3, i64[] in 0..9, i64[] in 1..4)",
        ],
        ..OpRow::new(
            "Range",
            Some(("", 27)),
            &[one("start").known(), one("limit").known(), one("delta").known()],
            range_infer,
            Meaning::Primitive(Lower::Element(range_element)),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("dtype", AttrKind::DType, Default::Absent),
            AttrSpec::new("k", AttrKind::Int, Default::Int(0)),
        ],
        samples: &["EyeLike(f32[3,4])", "EyeLike(i32[4,2]) {k = -1, dtype = f64}"],
        ..OpRow::new(
            "EyeLike",
            Some(("", 22)),
            &[one("input")],
            eye_like_infer,
            Meaning::Movement(eye_like_element),
        )
    },
];

/// The operand itself, whose contents have names from here on: what depends on them can be said as
/// expressions. Where they are known, they need none.
fn read_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let ty = cx.ty(0)?;
    rules::expect("input 0", ty.dtype, rules::INT | rules::BOOL)?;
    let names = cx.attrs.strs("symbols").unwrap_or_default();
    if ty.elements() != names.len() as i64 {
        return Err(format!("found {} symbols for {ty}, expected one for each element", names.len()));
    }
    let known = match cx.known(0) {
        Some(known) => known.to_vec(),
        None => names.iter().map(|n| Symbol::new(n).into()).collect(),
    };
    Ok(vec![Info { ty: ty.clone().into(), known: Some(known.into()) }])
}

/// A number as a size: itself, but that what is read from data is none below zero. A negative
/// constant stays, for whoever refuses it.
pub(super) fn size(e: &Expr) -> Expr {
    match e.as_const() {
        Some(_) => e.clone(),
        None => e.maximum(&Expr::ZERO).simplify(&Symbol::range),
    }
}

/// What of an operand's contents depends on data, each of which must be a size.
pub(super) fn read_sizes(cx: &Cx<'_>, i: usize) -> Vec<Expr> {
    let known = cx.known(i).unwrap_or_default();
    known.iter().filter(|e| e.as_const().is_none()).cloned().collect()
}

/// The contents of a one-dimensional operand that says sizes: see [`numbers`].
pub(super) fn target(cx: &Cx<'_>, i: usize, what: &str) -> Result<Vec<Expr>, String> {
    Ok(numbers(cx, i, what)?.iter().map(size).collect())
}

/// The contents of a one-dimensional operand that says numbers of either sign: as far as they are known,
/// and else a fresh symbol for each element.
pub(super) fn numbers(cx: &Cx<'_>, i: usize, what: &str) -> Result<Vec<Expr>, String> {
    rules::expect(&format!("input {i} ({what})"), cx.dtype(i)?, rules::INT)?;
    if let Some(known) = cx.known(i) {
        return Ok(known.to_vec());
    }
    match cx.shape(i)? {
        [n] => match n.as_const() {
            Some(n) if (0..=KNOWN_LIMIT as i64).contains(&n) => {
                Ok((0..n).map(|_| (cx.fresh)().into()).collect())
            }
            _ => Err(format!("input {i} ({what}) has {n} elements, expected a constant number of them")),
        },
        s => Err(format!("input {i} ({what}) has shape {}, expected one dimension", rules::show(s))),
    }
}

/// Divides a number of elements by a factor of it. Where the factor is zero there is nothing to
/// be divided, so that it is taken to be positive.
fn exact_div(dims: &[Expr], by: &[Expr]) -> Result<Expr, String> {
    let (mut dims, mut rest) = (dims.to_vec(), Vec::new());
    for d in by {
        match dims.iter().position(|e| e == d) {
            Some(i) => drop(dims.swap_remove(i)),
            None => rest.push(d.clone()),
        }
    }
    let (total, by) = (Expr::product(&dims), Expr::product(&rest));
    let quotient = total.floor_div_within(&by, &|_| Range { lo: Some(1), hi: None });
    match (total.as_const(), by.as_const()) {
        (Some(t), Some(b)) if b == 0 || t % b != 0 => Err(format!("{t} elements cannot be divided by {b}")),
        _ => Ok(quotient),
    }
}

fn reshape_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let data = cx.ty(0)?;
    if let Some(shape) = named_shape(cx, &data.shape)? {
        return Ok(vec![TensorType::new(data.dtype, shape).into()]);
    }
    let given = target(cx, 1, "shape")?;
    let mut shape = Vec::new();
    let mut inferred = None;
    for (i, d) in given.iter().enumerate() {
        match d.as_const() {
            Some(0) if !cx.attrs.flag("allowzero") => match data.shape.get(i) {
                Some(d) => shape.push(d.clone()),
                None => return Err(format!("shape has 0 at {i}, but the data has rank {}", data.rank())),
            },
            Some(-1) if inferred.is_some() => {
                return Err(format!("shape is {}, expected at most one -1", rules::show(&given)));
            }
            Some(-1) => {
                inferred = Some(i);
                shape.push(Expr::ONE);
            }
            Some(n) if n < 0 => return Err(format!("shape has {n} at {i}, expected -1 or more")),
            _ => shape.push(d.clone()),
        }
    }
    let clash = |e: String| {
        format!("{e}: data has shape {}, the target is {}", rules::show(&data.shape), rules::show(&given))
    };
    if let Some(i) = inferred {
        shape[i] = exact_div(&data.shape, &shape).map_err(clash)?;
    }
    if let (Some(from), Some(to)) = (data.elements().as_const(), Expr::product(&shape).as_const())
        && from != to
    {
        return Err(clash(format!("the numbers of elements differ ({from} and {to})")));
    }
    Ok(vec![TensorType::new(data.dtype, shape).into()])
}

/// More sizes of a shape that is read make expressions too long.
const MOST_READ: usize = 12;
/// Longer sizes of what is reshaped do so as well: each size of the result holds their product.
const LONGEST: usize = 1000;

/// The result's shape where an element of the target is read from data, so that any of them may turn
/// out to be 0 (the operand's dimension) or -1 (what is left).
fn named_shape(cx: &Cx<'_>, from: &[Expr]) -> Result<Option<Vec<Expr>>, String> {
    let Some(given) = cx.known(1) else { return Ok(None) };
    if given.iter().all(|e| e.bounds(&Symbol::range).lo.is_some()) {
        return Ok(None);
    }
    if given.len() > MOST_READ {
        return Err(format!(
            "shape has {} sizes, some of which depend on data; at most {MOST_READ} may",
            given.len()
        ));
    }
    let length: usize = from.iter().chain(given).map(Expr::length).sum();
    if length > LONGEST {
        return Err(format!(
            "shape depends on data, and so do the sizes of what is reshaped, in {length} steps; at most \
             {LONGEST} are followed"
        ));
    }
    let copied = |(i, e): (usize, &Expr)| match from.get(i) {
        Some(d) if !cx.attrs.flag("allowzero") => e + &(e.is_zero() * d),
        _ => e.clone(),
    };
    let given: Vec<Expr> = given.iter().enumerate().map(copied).collect();
    // One that is -1 counts once.
    let count = |e: &Expr| e.maximum(&-e).simplify(&Symbol::range);
    let others: Vec<Expr> = given.iter().map(count).collect();
    let left = Expr::product(from).floor_div_within(&Expr::product(&others), &Symbol::range);
    Ok(Some(given.iter().map(|e| size(&(e - &(e.minimum(&Expr::ZERO) * (&left + 1))))).collect()))
}

/// A shape read from data must have as many elements as the operand.
fn reshape_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let data = cx.ty(0)?;
    let infos = reshape_infer(cx)?;
    let to = infos[0].ty.tensor().ok_or("the result is no tensor")?;
    let more = to.elements() - data.elements();
    // What is below -1 means nothing.
    let given = cx.known(1).unwrap_or_default().iter().filter(|e| e.as_const().is_none());
    Ok([-&more, more].into_iter().chain(given.map(|e| e + 1)).collect())
}

fn flatten_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let t = cx.ty(0)?;
    // One axis more than the rank is allowed: everything before it.
    let at = match cx.int("axis") {
        a if a == t.rank() as i64 => t.rank(),
        a => cx.axis(a, t.rank())?,
    };
    let (rows, columns) = t.shape.split_at(at);
    Ok(vec![TensorType::new(t.dtype, [Expr::product(rows), Expr::product(columns)]).into()])
}

fn squeeze_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let t = cx.ty(0)?;
    let ones = || (0..t.rank()).filter(|i| t.shape[*i] == 1).map(Expr::from).collect();
    let axes = match Axes::of(cx, 1, "axes", t.rank())? {
        Some(axes) => axes,
        None => Axes::new(cx, ones(), t.rank())?,
    };
    for (i, d) in t.shape.iter().enumerate() {
        if axes.has(i) == 1 && d.as_const().is_some_and(|d| d != 1) {
            return Err(format!("axis {i} has {d} elements, expected 1"));
        }
        if !cx.has(1) && d.as_const().is_none() {
            return Err(format!("axes are absent, and whether dimension {i} ({d}) is 1 is not known"));
        }
    }
    Ok(vec![TensorType::new(t.dtype, axes.reduced(&t.shape, false)).into()])
}

/// Of axes that are read, an element's place says as much as the order of elements does.
fn squeeze_element(cx: &Cx<'_>, output: usize) -> Result<Element, String> {
    let rank = cx.shape(0)?.len();
    match Axes::of(cx, 1, "axes", rank)?.filter(|axes| axes.constants().is_none()) {
        Some(read) => {
            let (axes, index) = rules::indices(rank - read.len());
            Ok(Element { axes, body: Term::load(cx.dtype(0)?, 0, read.with_axes(&index)) })
        }
        None => view_element(cx, output),
    }
}

/// What is dropped must be 1.
fn squeeze_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let shape = cx.shape(0)?;
    let Some(axes) = Axes::of(cx, 1, "axes", shape.len())? else { return Ok(Vec::new()) };
    let one = |(i, d): (usize, &Expr)| axes.has(i) * ((d - 1).is_zero() - Expr::ONE);
    let dropped = shape.iter().enumerate().filter(|(_, d)| **d != 1).map(one);
    Ok(axes.checks().into_iter().chain(dropped).collect())
}

/// The axes of the result that are new.
fn unsqueezed_axes(cx: &Cx<'_>) -> Result<Axes, String> {
    let axes = said(cx, 1, "axes")?.ok_or("input 1 (axes) is missing")?;
    let rank = cx.ty(0)?.rank() + axes.len();
    Axes::new(cx, axes, rank)
}

fn unsqueeze_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let t = cx.ty(0)?;
    let shape = unsqueezed_axes(cx)?.inserted(&t.shape);
    Ok(vec![TensorType::new(t.dtype, shape).into()])
}

fn unsqueeze_element(cx: &Cx<'_>, output: usize) -> Result<Element, String> {
    let new = unsqueezed_axes(cx)?;
    if new.constants().is_some() {
        return view_element(cx, output);
    }
    let (axes, index) = rules::indices(cx.shape(0)?.len() + new.len());
    Ok(Element { axes, body: Term::load(cx.dtype(0)?, 0, new.without_axes(&index)) })
}

/// The first operand's elements in the same order under the result's shape.
fn view_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    if cx.op.name == "Reshape" && cx.known(1).is_none() {
        return Err("the shape depends on data, so that an element's place is not known".into());
    }
    let t = cx.ty(0)?;
    let infos = (cx.op.infer)(cx)?;
    let to = &infos[0].ty.tensor().ok_or("the result is no tensor")?.shape;
    let axes = axes(to.len());
    let body = Term::load(t.dtype, 0, view_index(&t.shape, to, &axes));
    Ok(Element { axes, body })
}

/// Where the element at `axes` of shape `to` lies in shape `from`, when both hold the same elements
/// in row-major order. Runs of dimensions with equal products are taken by themselves, so that
/// index arithmetic stays within them.
pub(super) fn view_index(from: &[Expr], to: &[Expr], axes: &[Symbol]) -> Vec<Expr> {
    let ranges = |s: Symbol| match axes.iter().position(|a| *a == s) {
        Some(i) => Range { lo: Some(0), hi: to[i].as_const().map(|d| d - 1) },
        None => s.range(),
    };
    let prefix = |shape: &[Expr], n: usize| Expr::product(&shape[..n]);
    let cut = |(a, b): (usize, usize)| {
        let later =
            (a..=from.len()).flat_map(|i| (b..=to.len()).map(move |j| (i, j))).filter(|p| *p != (a, b));
        let equal = later.filter(|(i, j)| prefix(from, *i) == prefix(to, *j));
        equal.min_by_key(|(i, j)| i + j).unwrap_or((from.len(), to.len()))
    };
    let (mut at, mut out) = ((0, 0), Vec::new());
    while at != (from.len(), to.len()) {
        let next = cut(at);
        let (source, dims) = (&from[at.0..next.0], &to[at.1..next.1]);
        let places = axes[at.1..next.1].iter().zip(dims);
        let flat = places.fold(Expr::ZERO, |flat, (i, d)| flat * d + Expr::from(*i));
        for (n, d) in source.iter().enumerate() {
            let quotient = flat.floor_div_within(&Expr::product(&source[n + 1..]), &ranges);
            let index = if n == 0 { quotient } else { quotient.modulo(d) };
            out.push(if *d == 1 { Expr::ZERO } else { index.simplify(&ranges) });
        }
        at = next;
    }
    out
}

/// A result of type `i64` whose contents are known.
fn known(shape: &[i64], contents: Vec<Expr>) -> Vec<Info> {
    let ty = TensorType::new(DType::I64, shape.iter().copied());
    vec![Info { ty: ty.into(), known: Some(contents.into()) }]
}

fn shape_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let shape = cx.shape(0)?;
    let rank = shape.len() as i64;
    let place = |v: i64| if v < 0 { v + rank } else { v }.clamp(0, rank) as usize;
    let (start, end) = (place(cx.int("start")), place(cx.attrs.int("end").unwrap_or(rank)));
    let dims = shape[start..end.max(start)].to_vec();
    Ok(known(&[dims.len() as i64], dims))
}

fn size_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Ok(known(&[], vec![cx.ty(0)?.elements()]))
}

/// The contents that the type rule knows.
fn contents_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let info = (cx.op.infer)(cx)?.swap_remove(0);
    let contents = info.known.ok_or("the contents are not known")?;
    let axes = axes(info.ty.tensor().map_or(0, TensorType::rank));
    let Some((last, rest)) = contents.split_last() else {
        return Ok(Element { axes, body: Term::constant(DType::I64, Scalar::I(0)) });
    };
    let mut body = Term::index(last.clone());
    for (i, e) in rest.iter().enumerate().rev() {
        body = Term::when(vec![Expr::from(i) - Expr::from(axes[0])], Term::index(e.clone()), body);
    }
    Ok(Element { axes, body })
}

/// The element that ConstantOfShape repeats.
fn fill(cx: &Cx<'_>) -> Result<Term, String> {
    match cx.attrs.tensor("value") {
        None => Ok(Term::constant(DType::F32, Scalar::F(0.0))),
        Some(t) if t.len() == 1 => Ok(Term::value(t.dtype(), t.get(0))),
        Some(t) => Err(format!("value is {t:?}, expected one element")),
    }
}

fn constant_of_shape_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let shape = target(cx, 0, "shape")?;
    match shape.iter().find(|d| d.as_const().is_some_and(|d| d < 0)) {
        Some(d) => Err(format!("the shape has {d}, expected 0 or more")),
        None => Ok(vec![TensorType::new(fill(cx)?.dtype(), shape).into()]),
    }
}

fn constant_of_shape_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let rank = match (cx.known(0), cx.shape(0)?) {
        (Some(shape), _) => shape.len() as i64,
        (None, [n]) => n.as_const().ok_or("the rank of the result is not known")?,
        _ => return Err("the rank of the result is not known".into()),
    };
    Ok(Element { axes: axes(rank as usize), body: fill(cx)? })
}

/// Whole weights may be made so, for which an element's definition is too slow to evaluate.
fn constant_of_shape_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let ty = &e.outputs[0];
    let shape = ty.static_shape().ok_or("the result's shape is not known")?;
    let n =
        element_count(ty.dtype, &shape).ok_or_else(|| format!("{ty} is larger than the address space"))?;
    let value = e.cx.attrs.tensor("value").map_or(Scalar::I(0).cast(ty.dtype), |t| t.get(0));
    Ok(vec![Tensor::from_scalars(ty.dtype, &shape, std::iter::repeat_n(value, n))])
}

/// The number of elements of a range.
fn range_len(cx: &Cx<'_>) -> Result<Expr, String> {
    let unknown = || Ok((cx.fresh)().into());
    if cx.dtype(0)?.is_float() {
        let value = |i| cx.known_floats(i).and_then(|v| v.first().copied());
        let (Some(start), Some(limit), Some(delta)) = (value(0), value(1), value(2)) else {
            return unknown();
        };
        let n = ((limit - start) / delta).ceil().max(0.0);
        // Beyond 2^53 the number itself is no longer exact.
        return match n <= 9e15 {
            true => Ok(Expr::from(n as i64)),
            false => Err(format!("a range from {start} to {limit} in steps of {delta} has no end")),
        };
    }
    let value = |i| cx.known(i).and_then(|v| v.first().cloned());
    let (Some(start), Some(limit), Some(delta)) = (value(0), value(1), value(2)) else { return unknown() };
    let n = match delta.as_const() {
        Some(0) => return Err("delta is 0, expected another number".into()),
        Some(d) if d > 0 => (limit - start).ceil_div(&delta),
        Some(d) => (start - limit).ceil_div(&d.saturating_neg().into()),
        // Either sign, rounded up all the same.
        None => -&(start - limit).floor_div_within(&delta, &Symbol::range),
    };
    Ok(n.maximum(&Expr::ZERO).simplify(&Symbol::range))
}

fn range_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = rules::one_dtype(cx)?;
    rules::expect("input 0", dtype, NUMBER)?;
    for i in 0..3 {
        if cx.ty(i)?.elements().as_const().is_some_and(|n| n != 1) {
            return Err(format!("input {i} has shape {}, expected one element", rules::show(cx.shape(i)?)));
        }
    }
    let n = range_len(cx)?;
    let contents = match (n.as_const(), cx.known(0), cx.known(2)) {
        (Some(n), Some([start]), Some([delta])) if n <= KNOWN_LIMIT as i64 => {
            Some((0..n).map(|i| start + &(delta * i)).collect())
        }
        _ => None,
    };
    Ok(vec![Info { ty: TensorType::new(dtype, [n]).into(), known: contents }])
}

fn range_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (dtype, axes) = (cx.dtype(0)?, axes(1));
    let scalar = |i: usize| -> Result<Term, String> {
        let index = vec![Expr::ZERO; cx.shape(i)?.len()];
        Ok(Term::load(dtype, i, index).cast(dtype.accumulator()))
    };
    let (start, delta) = (scalar(0)?, scalar(2)?);
    let place = Term::index(axes[0]).cast(delta.dtype());
    Ok(Element { body: (start + place * delta).cast(dtype), axes })
}

/// Floats between which there are as many steps as a run finds: positions from zero on, scaled.
fn range_open(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: &[Option<Value>]) -> Built {
    let dtype = cx.dtype(0)?;
    if !dtype.is_float() || range_len(cx)?.as_const().is_some() {
        return Ok(None);
    }
    let mut body = Body::of(b, dtype);
    let [start, limit, delta] = [0, 1, 2].map(|i| operand(inputs, i));
    let mut scalar = |v: Option<Value>, to| {
        let v = body.reshape(v.ok_or("an operand is missing")?, &[])?;
        cast(body.b, v, to)
    };
    let [from, to, by] = [scalar(start, DType::F64)?, scalar(limit, DType::F64)?, scalar(delta, DType::F64)?];
    let wide = dtype.accumulator();
    let (start, delta) = (scalar(start, wide)?, scalar(delta, wide)?);
    let distance = body.op("Sub", &[to, from])?;
    let steps = body.op("Div", &[distance, by])?;
    let steps = body.op("Ceil", &[steps])?;
    let count = cast(body.b, steps, DType::I64)?;
    let [zero, one] = [0, 1].map(|v| body.b.constant(Tensor::scalar(DType::I64, Scalar::I(v))));
    let places = body.op("Range", &[zero, count, one])?;
    let places = cast(body.b, places, wide)?;
    let offsets = body.op("Mul", &[places, delta])?;
    let all = body.op("Add", &[start, offsets])?;
    Ok(Some(vec![cast(body.b, all, dtype)?]))
}

fn eye_like_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let t = cx.ty(0)?;
    let dtype = cx.attrs.dtype("dtype").unwrap_or(t.dtype);
    rules::expect("input 0", t.dtype, ANY)?;
    rules::expect("the result", dtype, rules::CONVERTED)?;
    match t.rank() {
        2 => Ok(vec![TensorType::new(dtype, t.shape.clone()).into()]),
        _ => Err(format!("input 0 has shape {}, expected a matrix", rules::show(&t.shape))),
    }
}

fn eye_like_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let dtype = cx.attrs.dtype("dtype").unwrap_or(cx.dtype(0)?);
    let axes = axes(2);
    let above = Expr::from(axes[1]) - Expr::from(axes[0]) - cx.int("k");
    let of = |v| Term::constant(dtype, Scalar::I(v));
    Ok(Element { body: Term::when(vec![above.clone(), -&above], of(1), of(0)), axes })
}
