//! Inverses of matrices, by Gauss and Jordan's elimination with the largest pivot of each column.
//!
//! Each step stands in the body, so that the size must be known and is bounded. A matrix without an
//! inverse gives numbers that are not finite.

use super::Tolerance::Largest;
use super::compose::{Body, Built, Inputs, cast};
use super::rules::{self, FLOAT};
use super::{Meaning, OpRow, one};
use crate::attr::Attr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;

/// How many rows a matrix may have.
pub const MAX_ROWS: i64 = 64;

/// The rows of this family.
pub const ROWS: &[OpRow] = &[OpRow {
    // What is lost goes with the condition of the matrix, which for random ones is rarely above 1000.
    tolerance: Largest(4096.0),
    samples: &["Inverse(f32[3,3])", "Inverse(f64[2,2,4,4])", "Inverse(f16[5,1,1])", "Inverse(f32[2,0,0])"],
    ..OpRow::new(
        "Inverse",
        Some(("com.microsoft", 1)),
        &[one("X")],
        inverse_type,
        Meaning::Composite(inverse),
    )
}];

/// The number of rows and columns.
fn rows(cx: &Cx<'_>) -> Result<i64, String> {
    let x = cx.ty(0)?;
    match &x.shape[..] {
        [.., a, b] if a == b => match a.as_const() {
            Some(n) if n <= MAX_ROWS => Ok(n),
            _ => Err(format!("input 0 is {x}, expected a known number of rows up to {MAX_ROWS}")),
        },
        _ => Err(format!("input 0 is {x}, expected square matrices")),
    }
}

fn inverse_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rows(cx)?;
    rules::same_as_first::<FLOAT>(cx)
}

fn inverse(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(Some(x)) = inputs.first() else { return Ok(None) };
    let n = rows(cx)?;
    let (down, across) = (cx.ty(0)?.rank() as i64 - 2, cx.ty(0)?.rank() as i64 - 1);
    let mut s = Body::of(b, cx.dtype(0)?);
    let x = s.widen(*x)?;
    let wide = s.b.ty(x)?.dtype;
    let size = n as usize;
    let unit = (0..size * size).map(|i| f64::from(i / size == i % size)).collect::<Vec<_>>();
    let unit = s.b.constant(Tensor::from_f64s(wide, &[size, size], &unit));
    let shape = s.b.op("Shape", &[x], Vec::new())?;
    let unit = s.op("Expand", &[unit, shape])?;
    let mut both = s.b.op("Concat", &[x, unit], vec![("axis", Attr::Int(across))])?;
    let numbers = s.b.constant(Tensor::new(&[size, 1], &(0..n).collect::<Vec<i64>>()));
    for i in 0..n {
        let here = s.axes(&[i]);
        let is_here = s.op("Equal", &[numbers, here])?;
        both = exchanged(&mut s, both, (i, n), [numbers, here, is_here])?;
        let row = s.slice(both, down, (i, i + 1, 1))?;
        let pivot = s.slice(row, across, (i, i + 1, 1))?;
        let row = s.op("Div", &[row, pivot])?;
        let factors = s.slice(both, across, (i, i + 1, 1))?;
        let taken = s.op("Mul", &[factors, row])?;
        let rest = s.op("Sub", &[both, taken])?;
        both = s.op("Where", &[is_here, row, rest])?;
    }
    let y = s.slice(both, across, (n, 2 * n, 1))?;
    Ok(Some(vec![cast(s.b, y, cx.dtype(0)?)?]))
}

/// The rows with row `i` exchanged for the one from there on whose element in column `i` is largest.
fn exchanged(
    s: &mut Body<'_, '_>,
    both: Value,
    (i, n): (i64, i64),
    [numbers, here, is_here]: [Value; 3],
) -> Result<Value, String> {
    let (down, across) = (s.b.ty(both)?.rank() as i64 - 2, s.b.ty(both)?.rank() as i64 - 1);
    let column = s.slice(both, across, (i, i + 1, 1))?;
    let below = s.slice(column, down, (i, n, 1))?;
    let sizes = s.op("Abs", &[below])?;
    let largest = s.b.op("ArgMax", &[sizes], vec![("axis", Attr::Int(down))])?;
    let largest = s.op("Add", &[largest, here])?;
    let is_largest = s.op("Equal", &[numbers, largest])?;
    let from = s.op("Where", &[is_largest, here, numbers])?;
    let from = s.op("Where", &[is_here, largest, from])?;
    let shape = s.b.op("Shape", &[both], Vec::new())?;
    let from = s.op("Expand", &[from, shape])?;
    s.b.op("GatherElements", &[both, from], vec![("axis", Attr::Int(down))])
}
