//! Scatters: a copy of the data with some elements replaced by, or combined with, updates.
//!
//! Updates are applied in order, so that where several fall on one element and nothing is to be
//! combined, the last one stays. An index out of range is refused by the evaluator; compiled code
//! passes the update over.

use super::compose::{Built, Inputs, cast, operand};
use super::contract::SUM_TOLERANCE;
use super::index::elementwise_axis;
use super::put::{REDUCTION, combination, expect_combination, expect_shape};
use super::rules::{self, INT, indices};
use super::{EvalCx, Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp, apply_wide};
use crate::tensor::{Tensor, strides};

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
            Meaning::Composite(scatter_elements_build),
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
            Meaning::Composite(scatter_nd_build),
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

/// Checks what both scatters share, and gives the result.
fn scattered(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    expect_combination(cx)?;
    rules::expect("input 1 (indices)", cx.dtype(1)?, INT)?;
    Ok(vec![cx.ty(0)?.clone().into()])
}

fn scatter_elements_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    elementwise_axis(cx, cx.ty(0)?, cx.ty(1)?)?;
    expect_shape("updates", cx.shape(2)?, cx.shape(1)?)?;
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
    expect_shape("updates", cx.shape(2)?, &expected)?;
    scattered(cx)
}

/// The updates put into the data, along `depth` dimensions behind the first `batch`. 16-bit floats are
/// combined in a wider type, and rounded once.
fn put(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    [data, positions, updates]: [Value; 3],
    (batch, depth): (usize, usize),
) -> Built {
    let dtype = cx.dtype(0)?;
    let sums = matches!(combination(cx)?, Some(ReduceOp::Sum | ReduceOp::Prod));
    let wide = if sums { dtype.accumulator() } else { dtype };
    let (data, updates) = (cast(b, data, wide)?, cast(b, updates, wide)?);
    let reduction = cx.attrs.str("reduction").unwrap_or_default().to_owned();
    let attrs = vec![
        ("batch", Attr::Int(batch as i64)),
        ("depth", Attr::Int(depth as i64)),
        ("reduction", Attr::Str(reduction)),
    ];
    let changed = b.op("Put", &[data, positions, updates], attrs)?;
    Ok(Some(vec![cast(b, changed, dtype)?]))
}

/// The dimensions before the axis in which all of the data is changed are a batch.
fn scatter_elements_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(data), Some(given), Some(updates)] = [0, 1, 2].map(|i| operand(inputs, i)) else {
        return Ok(None);
    };
    let axis = elementwise_axis(cx, cx.ty(0)?, cx.ty(1)?)?;
    let pairs = cx.shape(0)?.iter().zip(cx.shape(1)?).take(axis);
    let (batch, rank) = (pairs.take_while(|(d, i)| d == i).count(), cx.shape(0)?.len());
    let shape = b.op("Shape", &[data], vec![("start", Attr::Int(batch as i64))])?;
    let positions = b.op("FlatIndices", &[given, shape], vec![("axis", Attr::Int(axis as i64))])?;
    put(cx, b, [data, positions, updates], (batch, rank - batch))
}

fn scatter_nd_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(data), Some(given), Some(updates)] = [0, 1, 2].map(|i| operand(inputs, i)) else {
        return Ok(None);
    };
    let depth = nd_depth(cx)?;
    let shape = b.op("Shape", &[data], vec![("end", Attr::Int(depth as i64))])?;
    let positions = b.op("FlatIndices", &[given, shape], vec![])?;
    put(cx, b, [data, positions, updates], (0, depth))
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
