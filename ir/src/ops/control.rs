//! Control flow: ops that run the regions of their nodes.
//!
//! Regions see the values around them. A size of a result that is not the same whichever way the node
//! runs becomes a fresh symbol.

use super::rules;
use super::shape::size;
use super::{EvalCx, Lower, Meaning, OpRow, Port, any, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

/// More results than any node of a model has.
const MANY: usize = 1 << 16;
/// A loop without a bound of its own.
const ENDLESS: i64 = i64::MAX;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        regions: 2,
        outputs: (1, MANY),
        eval: Some(if_eval),
        ..OpRow::new(
            "If",
            Some(("", 25)),
            &[one("cond").known()],
            if_infer,
            Meaning::Primitive(Lower::Regions),
        )
    },
    OpRow {
        view: true,
        attrs: &[AttrSpec::new("holds", AttrKind::Int, Default::Int(1))],
        checks: Some(assume_checks),
        samples: &["Assume(f32[2,3], bool[] = true)", "Assume(i8[4], bool[] = false) {holds = 0}"],
        ..OpRow::new(
            "Assume",
            None,
            &[one("data"), one("cond").known()],
            assume_infer,
            Meaning::Movement(assume_element),
        )
    },
    OpRow {
        regions: 1,
        outputs: (1, MANY),
        attrs: &[AttrSpec::new("counted", AttrKind::Int, Default::Int(0))],
        eval: Some(loop_eval),
        ..OpRow::new("Loop", Some(("", 25)), LOOP_INPUTS, loop_infer, Meaning::Primitive(Lower::Regions))
    },
    OpRow {
        regions: 1,
        outputs: (1, MANY),
        attrs: &[
            AttrSpec::new("num_scan_inputs", AttrKind::Int, Default::Required),
            AttrSpec::new("scan_input_directions", AttrKind::Ints, Default::Absent),
            AttrSpec::new("scan_output_directions", AttrKind::Ints, Default::Absent),
        ],
        eval: Some(scan_eval),
        ..OpRow::new("Scan", Some(("", 25)), &[any("inputs")], scan_infer, Meaning::Primitive(Lower::Regions))
    },
];

/// The operand, in a run in which the condition is what it is assumed to be.
fn assume_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 1 (cond)", cx.dtype(1)?, rules::BOOL)?;
    rules::same_as_first::<{ rules::ANY }>(cx)
}

fn assume_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let cond = cx.known(1).and_then(|k| k.first()).ok_or("its condition is not one element")?;
    let wanted = i64::from(cx.attrs.flag("holds"));
    Ok(vec![cond - wanted, -&(cond - wanted)])
}

fn assume_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (axes, index) = rules::indices(cx.shape(0)?.len());
    Ok(Element { axes, body: Term::load(cx.dtype(0)?, 0, index) })
}

const LOOP_INPUTS: &[Port] = &[opt("M").known(), opt("cond").known(), any("v_initial")];

fn tensor(ty: &Type) -> Result<&TensorType, String> {
    ty.tensor().ok_or_else(|| format!("found {ty}, expected a tensor"))
}

/// A type that is one of two: where their sizes differ, it is a size of its own.
fn either(cx: &Cx<'_>, a: &Type, b: &Type, what: &str) -> Result<Info, String> {
    let (a, b) = (tensor(a)?, tensor(b)?);
    if a.dtype != b.dtype || a.rank() != b.rank() {
        return Err(format!("{what}: found {a} and {b}, expected one type and rank"));
    }
    let dim = |(x, y): (&Expr, &Expr)| if x == y { x.clone() } else { (cx.fresh)().into() };
    Ok(TensorType::new(a.dtype, a.shape.iter().zip(&b.shape).map(dim)).into())
}

fn count(cx: &Cx<'_>, expected: usize) -> Result<(), String> {
    match cx.outputs <= expected {
        true => Ok(()),
        false => Err(format!("found {} results, expected at most the {expected} of its region", cx.outputs)),
    }
}

fn if_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0 (cond)", cx.dtype(0)?, rules::BOOL)?;
    let [then, otherwise] = cx.region_results else { return Err("expected two regions".to_owned()) };
    if then.len() != otherwise.len() {
        return Err(format!("found branches with {} and {} results", then.len(), otherwise.len()));
    }
    count(cx, then.len())?;
    let results = then.iter().zip(otherwise).take(cx.outputs).enumerate();
    results.map(|(i, (a, b))| either(cx, a, b, &format!("result {i} of the branches"))).collect()
}

fn if_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let cond = e.input(0);
    if cond.len() != 1 {
        return Err(format!("cond is {cond:?}, expected one element"));
    }
    let mut results = (e.region)(usize::from(!cond.get(0).as_bool()), &[])?;
    results.truncate(e.cx.outputs);
    Ok(results)
}

/// How often a loop runs, where that is known before.
fn trips(cx: &Cx<'_>) -> Option<Expr> {
    let one_of = |i: usize| match cx.has(i) {
        true => cx.known(i).and_then(|k| k.first().cloned()),
        false => Some(Expr::ONE),
    };
    let bound = cx.has(0).then(|| one_of(0)).flatten()?;
    (cx.attrs.flag("counted")).then(|| Some(size(&bound) * one_of(1)?)).flatten()
}

fn loop_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let [results] = cx.region_results else { return Err("expected one region".to_owned()) };
    let carried = cx.inputs.len().saturating_sub(2);
    if results.len() < 1 + carried {
        return Err(format!("its body has {} results, expected {} or more", results.len(), 1 + carried));
    }
    count(cx, results.len() - 1)?;
    let mut infos = Vec::new();
    for (i, next) in results[1..=carried].iter().enumerate() {
        let first = cx.ty(2 + i)?.clone().into();
        infos.push(either(cx, &first, next, &format!("carried value {i}"))?);
    }
    let trips = trips(cx).unwrap_or_else(|| (cx.fresh)().into());
    for scanned in &results[1 + carried..] {
        infos.push(stacked(&trips, scanned)?);
    }
    infos.truncate(cx.outputs);
    Ok(infos)
}

/// As many of a value as a loop runs.
fn stacked(trips: &Expr, ty: &Type) -> Result<Info, String> {
    let ty = tensor(ty)?;
    Ok(TensorType::new(ty.dtype, std::iter::once(trips.clone()).chain(ty.shape.iter().cloned())).into())
}

/// Puts tensors of one shape along a new first axis. Of none, the sizes are those of `like`.
fn stack(parts: &[Tensor], like: &TensorType) -> Result<Tensor, String> {
    let known = || like.shape[1..].iter().map(|d| d.as_const().map_or(0, |d| d.max(0) as usize)).collect();
    let shape: Vec<usize> = parts.first().map_or_else(known, |t| t.shape().to_vec());
    if let Some(other) = parts.iter().find(|t| t.shape() != shape) {
        return Err(format!("found {other:?} among results of shape {shape:?} that are to be joined"));
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|t| t.bytes().iter().copied()).collect();
    Tensor::from_bytes(like.dtype, [&[parts.len()], &shape[..]].concat(), bytes.into())
}

fn loop_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let bound = e.get(0).map_or(ENDLESS, |m| m.get(0).as_i64());
    let mut going = e.get(1).is_none_or(|c| c.get(0).as_bool());
    let mut carried: Vec<Tensor> = (2..e.inputs.len()).map(|i| e.input(i).clone()).collect();
    let mut scanned: Vec<Vec<Tensor>> = Vec::new();
    let mut i = 0;
    while going && i < bound {
        let mut params =
            vec![Tensor::scalar(DType::I64, Scalar::I(i)), Tensor::scalar(DType::Bool, Scalar::I(1))];
        params.append(&mut carried);
        let mut results = (e.region)(0, &params)?.into_iter();
        going = results.next().is_some_and(|c| c.get(0).as_bool());
        carried = results.by_ref().take(params.len() - 2).collect();
        scanned.resize_with(results.len(), Vec::new);
        scanned.iter_mut().zip(results).for_each(|(all, one)| all.push(one));
        i += 1;
    }
    let n = carried.len();
    for (k, ty) in e.outputs.iter().enumerate().skip(n) {
        carried.push(stack(scanned.get(k - n).map_or(&[][..], Vec::as_slice), ty)?);
    }
    carried.truncate(e.cx.outputs);
    Ok(carried)
}

/// The number of a Scan's states, of its scanned inputs, and how often it runs.
fn scanned(cx: &Cx<'_>) -> Result<(usize, usize, Expr), String> {
    let n = usize::try_from(cx.int("num_scan_inputs")).ok().filter(|n| (1..=cx.inputs.len()).contains(n));
    let n = n.ok_or_else(|| {
        format!("num_scan_inputs is {}, of {} inputs", cx.int("num_scan_inputs"), cx.inputs.len())
    })?;
    let states = cx.inputs.len() - n;
    let first = cx.shape(states)?.first().ok_or("a scanned input is a scalar")?;
    Ok((states, n, first.clone()))
}

fn scan_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let [results] = cx.region_results else { return Err("expected one region".to_owned()) };
    let (states, _, trips) = scanned(cx)?;
    if results.len() < states {
        return Err(format!("its body has {} results, expected {states} or more", results.len()));
    }
    count(cx, results.len())?;
    let mut infos = Vec::new();
    for (i, next) in results[..states].iter().enumerate() {
        infos.push(either(cx, &cx.ty(i)?.clone().into(), next, &format!("state {i}"))?);
    }
    for r in &results[states..] {
        infos.push(stacked(&trips, r)?);
    }
    infos.truncate(cx.outputs);
    Ok(infos)
}

/// Whether the input or output of that number is taken from its end.
pub fn reversed(attrs: &crate::attr::Attrs, what: &str, i: usize) -> bool {
    attrs.ints(what).and_then(|d| d.get(i)).is_some_and(|d| *d != 0)
}

fn scan_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (states, n, _) = scanned(e.cx)?;
    let trips = e.input(states).shape()[0];
    let mut carried: Vec<Tensor> = (0..states).map(|i| e.input(i).clone()).collect();
    let mut all: Vec<Vec<Tensor>> = Vec::new();
    for t in 0..trips {
        let mut params = std::mem::take(&mut carried);
        for i in 0..n {
            let from_end = reversed(e.cx.attrs, "scan_input_directions", i);
            params.push(row(e.input(states + i), if from_end { trips - 1 - t } else { t })?);
        }
        let mut results = (e.region)(0, &params)?.into_iter();
        carried = results.by_ref().take(states).collect();
        all.resize_with(results.len(), Vec::new);
        all.iter_mut().zip(results).for_each(|(all, one)| all.push(one));
    }
    for (k, ty) in e.outputs.iter().enumerate().skip(states) {
        let mut parts = all.get(k - states).cloned().unwrap_or_default();
        if reversed(e.cx.attrs, "scan_output_directions", k - states) {
            parts.reverse();
        }
        carried.push(stack(&parts, ty)?);
    }
    carried.truncate(e.cx.outputs);
    Ok(carried)
}

/// The elements at `t` along the first axis.
fn row(t: &Tensor, at: usize) -> Result<Tensor, String> {
    let shape = t.shape().get(1..).unwrap_or_default().to_vec();
    let bytes = shape.iter().product::<usize>() * t.dtype().bytes();
    let all = t.bytes();
    let part = all.get(at * bytes..(at + 1) * bytes).ok_or("the scanned inputs differ in length")?;
    Tensor::from_bytes(t.dtype(), shape, part.to_vec().into())
}
