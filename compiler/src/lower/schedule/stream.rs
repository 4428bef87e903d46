//! Nests without a product: element by element, or a reduction a row.

use super::{Access, Schedule, accesses, can_vectorise};
use crate::lower::nest::{Nest, free_symbols, visit};
use crate::memory::typical;
use burin_ir::{Expr, TermKind};

/// Element by element: wide tiles along the vector axis, or a reduction a row.
pub(super) fn stream(nest: &Nest, vector: Option<usize>, s: &mut Schedule) {
    s.kind = "scalar";
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
