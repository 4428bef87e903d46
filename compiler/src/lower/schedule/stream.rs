//! Nests without a product: element by element, or a reduction a row.

use super::{Access, Schedule, accesses, can_vectorise};
use crate::lower::nest::{Nest, free_symbols, visit};
use crate::memory::typical;
use burin_ir::{Expr, Symbol, TermKind};

/// Element by element: wide tiles along the vector axis, or a reduction a row.
pub(super) fn stream(nest: &Nest, vector: Option<usize>, s: &mut Schedule) {
    s.kind = "scalar";
    if let Some(tile) = deciding_tile(nest) {
        s.tile = tile;
        s.vector = vector;
        s.kind = if vector.is_some() { "stream" } else { "scalar" };
        return;
    }
    if let Some(v) = vector
        && !prefers_own_variable(nest, v, s.lanes)
    {
        s.vector = Some(v);
        let vectors = nest.axes[v].1.as_const().map_or(4, |n| n / s.lanes as i64);
        s.tile[v] = if has_reduction(nest) { vectors.clamp(1, 2) } else { vectors.clamp(1, 4) };
        s.kind = "stream";
    } else if has_reduction(nest) {
        s.kind = "rows";
    }
}

fn has_reduction(nest: &Nest) -> bool {
    let mut found = false;
    for store in &nest.stores {
        visit(&store.value, &mut |t| found |= matches!(t.kind(), TermKind::Reduce { .. }));
    }
    found
}

/// Whether a reduction that varies along the axis reads contiguously along its own variable and
/// not along the axis: then vectors along its variable are the better ones.
pub(super) fn prefers_own_variable(nest: &Nest, axis: usize, lanes: u16) -> bool {
    let symbol = nest.axes[axis].0;
    let mut prefers = false;
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            let TermKind::Reduce { vars, body, .. } = t.kind() else { return };
            if !free_symbols(t).contains(&symbol) {
                return;
            }
            let Some((inner, extent)) = vars.last() else { return };
            let all = accesses(nest, body, Some(*inner));
            let along_axis = all.iter().all(|a| !a.depends_on(axis) || a.contiguous_along(axis));
            let stride = |a: &Access| a.along_reduction.as_ref().and_then(Expr::as_const);
            let along_own = all.iter().all(|a| matches!(stride(a), Some(0 | 1)))
                && all.iter().any(|a| stride(a) == Some(1))
                && typical(extent) >= 2 * lanes as i64;
            prefers |= !along_axis && along_own && can_vectorise(body, *inner);
        });
    }
    prefers
}

/// Points of the largest tile that is unrolled to decide conditions.
const DECIDED: i64 = 64;

/// A tile that decides all conditions of a nest, where those ask for nothing but the numbers of the
/// tile's points: then what points share is computed once.
fn deciding_tile(nest: &Nest) -> Option<Vec<i64>> {
    let mut conditions = Vec::new();
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            if let TermKind::If { cond, .. } = t.kind() {
                conditions.extend(cond.iter().cloned());
            }
        });
    }
    let mut tile = vec![1; nest.axes.len()];
    for e in &conditions {
        for s in e.symbols() {
            let axis = nest.axes.iter().position(|(a, _)| *a == s)?;
            tile[axis] = tile[axis].max(deciding(e, s, nest.axes[axis].1.as_const()?)?);
        }
    }
    let points: i64 = tile.iter().product();
    (points > 1 && points <= DECIDED).then_some(tile)
}

/// The points of an axis of `n` that an expression tells apart: all, if they are few, or those of a
/// remainder.
fn deciding(e: &Expr, s: Symbol, n: i64) -> Option<i64> {
    const FEW: i64 = 8;
    let remainder = |by: i64| {
        let at = Expr::from(Symbol::new("tile")) * by;
        (0..by).all(|k| e.substitute(&|x| (x == s).then(|| &at + k)).as_const().is_some())
    };
    (2..=FEW).find(|by| remainder(*by)).or((n <= FEW).then_some(n))
}
