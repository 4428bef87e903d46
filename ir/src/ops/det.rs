//! Determinants, by elimination with pivots.

use super::procedure::{Draft, Procedure, each, named, symbol};
use super::rules::{self, FLOAT};
use super::{EvalCx, Lower, Meaning, OpRow, Tolerance, one};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::loops::{Buf, Builder, LoopKind, Val, ValType};
use crate::scalar::ScalarOp as S;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    eval: Some(det_eval),
    tolerance: Tolerance::RowLengths(64.0),
    samples: &[
        "Det(f32[2,3,4,4])",
        "Det(f64[3,3])",
        "Det(f16[2,1,1])",
        "Det(f32[2,2,2] = [0.0, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0])",
        "Det(f32[2,0,0])",
    ],
    ..OpRow::new(
        "Det",
        Some(("", 22)),
        &[one("X")],
        det_infer,
        Meaning::Primitive(Lower::Procedure(det_procedure)),
    )
}];

fn det_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, FLOAT)?;
    match &x.shape[..] {
        [batch @ .., n, m] if n == m || n.as_const().is_none() || m.as_const().is_none() => {
            Ok(vec![TensorType::new(x.dtype, batch.to_vec()).into()])
        }
        _ => Err(format!("input 0 is {x}, expected square matrices")),
    }
}

/// Elimination with the largest of all that is left as pivot.
fn det_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let x = e.input(0);
    let n = x.shape()[x.rank() - 1];
    let shape = &x.shape()[..x.rank() - 2];
    let (all, count) = (x.to_f64s(), shape.iter().product());
    let det = |m: usize| {
        let mut a: Vec<Vec<f64>> =
            (0..n).map(|r| all[(m * n + r) * n..(m * n + r + 1) * n].to_vec()).collect();
        let mut det = 1.0;
        for c in 0..n {
            let places = (c..n).flat_map(|r| (c..n).map(move |k| (r, k)));
            let pivot = places.max_by(|p, q| a[p.0][p.1].abs().total_cmp(&a[q.0][q.1].abs()));
            let Some((row, column)) = pivot else { break };
            a.swap(c, row);
            a.iter_mut().for_each(|r| r.swap(c, column));
            det *= if (row == c) == (column == c) { a[c][c] } else { -a[c][c] };
            for r in c + 1..n {
                let factor = if a[c][c] == 0.0 { 0.0 } else { a[r][c] / a[c][c] };
                let pivot = a[c].clone();
                a[r].iter_mut().zip(&pivot).skip(c).for_each(|(v, p)| *v -= factor * p);
            }
        }
        det
    };
    let values: Vec<f64> = (0..count).map(det).collect();
    Ok(vec![Tensor::from_f64s(x.dtype(), shape, &values)])
}

const WIDE: ValType = ValType::scalar(DType::F64);

/// Each matrix is a task, which eliminates in a copy of it in `f64`.
fn det_procedure(cx: &Cx<'_>, results: &[TensorType]) -> Result<Procedure, String> {
    let x = cx.ty(0)?;
    let n = x.shape[x.rank() - 1].clone();
    let (mut draft, from, to) = Draft::new(cx, &[0], results)?;
    let matrix = draft.scratch("matrix", DType::F64, &n * &n);
    let task = symbol("matrix");
    let dtype = x.dtype;
    Ok(draft.tasks(task, results[0].elements(), |b| {
        each(b, "element", &n * &n, |b, i| {
            let value = b.load(from[0], Expr::from(task) * &n * &n + &i);
            let value = if dtype == DType::F64 { value } else { b.op(S::Cast(DType::F64), &[value]) };
            b.store(matrix, i, value);
        });
        let one = b.number(WIDE, 1.0);
        let column = symbol("column");
        let det = b.for_(column, n.clone(), LoopKind::Serial, &[one], |b, carried| {
            vec![eliminate(b, matrix, &n, &Expr::from(column), carried[0])]
        });
        let det = if dtype == DType::F64 { det[0] } else { b.op(S::Cast(dtype), &[det[0]]) };
        b.store(to[0], task, det);
    }))
}

/// Brings the largest element of a column to the diagonal and takes its row off those below; gives the
/// determinant so far.
fn eliminate(b: &mut Builder<'_>, matrix: Buf, n: &Expr, c: &Expr, det: Val) -> Val {
    let (zero, none) = (b.number(WIDE, 0.0), b.number(WIDE, -1.0));
    let start = b.index(c.clone());
    let row = symbol("row");
    let found = b.for_(row, n - c, LoopKind::Serial, &[none, start], |b, carried| {
        let at = c + Expr::from(row);
        let value = b.load(matrix, &at * n + c);
        let size = b.op(S::Abs, &[value]);
        let better = b.op(S::Gt, &[size, carried[0]]);
        let at = b.index(at);
        vec![b.op(S::Select, &[better, size, carried[0]]), b.op(S::Select, &[better, at, carried[1]])]
    });
    let pivot_row = named(b, "pivot", found[1]);
    each(b, "swapped", n - c, |b, k| {
        let (upper, lower) = (c * n + c + &k, &pivot_row * n + c + &k);
        let (first, second) = (b.load(matrix, upper.clone()), b.load(matrix, lower.clone()));
        b.store(matrix, upper, second);
        b.store(matrix, lower, first);
    });
    let pivot = b.load(matrix, c * n + c);
    let singular = b.op(S::Eq, &[pivot, zero]);
    each(b, "below", n - c - 1, |b, r| {
        let row = (c + 1 + &r) * n + c;
        let value = b.load(matrix, row.clone());
        let factor = b.op(S::Div, &[value, pivot]);
        let factor = b.op(S::Select, &[singular, zero, factor]);
        each(b, "right", n - c, |b, k| {
            let (own, other) = (b.load(matrix, &row + &k), b.load(matrix, c * n + c + &k));
            let product = b.op(S::Mul, &[factor, other]);
            let left = b.op(S::Sub, &[own, product]);
            b.store(matrix, &row + &k, left);
        });
    });
    let moved = b.op(S::Ne, &[found[1], start]);
    let turned = b.op(S::Neg, &[pivot]);
    let factor = b.op(S::Select, &[moved, turned, pivot]);
    b.op(S::Mul, &[det, factor])
}
