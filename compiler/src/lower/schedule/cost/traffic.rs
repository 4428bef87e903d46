//! Bytes that a nest's loops ask of whatever lies beyond a cache.
//!
//! Every load and store walks some of the loops: the levels of the schedule, the points of a register
//! tile, and the reductions around it. Let `at` be the outermost level from which on everything that the
//! loops touch fits in the cache together. Then an access takes its footprint of the next level
//! outwards, in which what that level does not walk is found again, once for each turn of all levels
//! further out. Accesses of one buffer walk the same data; the one that takes most counts.

use super::turns;
use crate::lower::nest::{Nest, children, free_symbols, step_along};
use crate::lower::schedule::{Level, Schedule};
use crate::memory::typical;
use crate::packing::PANEL;
use burin_ir::{Expr, Symbol, Term, TermKind};
use std::collections::{BTreeSet, HashSet};

/// What comes at once.
const LINE: f64 = 64.0;

/// A load or a store.
struct Walk {
    buffer: usize,
    element: f64,
    /// Bytes of the whole buffer.
    whole: f64,
    /// The distance of neighbours along each axis that it depends on; `None`: not known.
    axes: Vec<(usize, Option<f64>)>,
    /// The axis along which the buffer lies in panels, and the distance of those.
    panels: Option<(usize, f64)>,
    /// The distances along variables of reductions, with their extents.
    vars: Vec<(f64, Option<f64>)>,
    /// How many of the outer levels run it again.
    depth: usize,
}

/// Bytes of all that is touched.
pub(super) fn touched(nest: &Nest, s: &Schedule) -> f64 {
    by_buffer(nest, &walks(nest, s), |w| footprint(nest, s, w, 0))
}

/// Bytes from beyond a cache of so much room.
pub(super) fn beyond(nest: &Nest, s: &Schedule, room: i64) -> f64 {
    let walks = walks(nest, s);
    let turns = turns(nest, s);
    let levels = s.order.len();
    let touched = |from: usize| by_buffer(nest, &walks, |w| footprint(nest, s, w, from));
    if touched(0) <= room as f64 {
        return 0.0;
    }
    let at = (1..=levels).find(|l| touched(*l) <= room as f64).unwrap_or(levels + 1);
    by_buffer(nest, &walks, |w| {
        let again = (0..at - 1).filter(|l| *l < w.depth).map(|l| turns[l]);
        footprint(nest, s, w, at - 1) * again.product::<f64>()
    })
}

/// The sum over all buffers of the most that one of its accesses takes.
fn by_buffer(nest: &Nest, walks: &[Walk], takes: impl Fn(&Walk) -> f64) -> f64 {
    let of = |b: usize| walks.iter().filter(|w| w.buffer == b).map(&takes).fold(0.0, f64::max);
    (0..nest.buffers.len()).map(of).sum()
}

/// Bytes that the levels from one on touch in one turn of those outside.
fn footprint(nest: &Nest, s: &Schedule, w: &Walk, from: usize) -> f64 {
    let in_panels = |axis: usize| w.panels.filter(|(a, _)| *a == axis).map(|(_, distance)| distance);
    let axes = w.axes.iter().flat_map(|(a, step)| {
        let n = points_within(nest, s, *a, from);
        match in_panels(*a) {
            Some(distance) => [(n.min(PANEL as f64), *step), ((n / PANEL as f64).max(1.0), Some(distance))],
            None => [(n, *step), (1.0, None)],
        }
    });
    let walked = axes.chain(w.vars.iter().copied()).filter(|(n, _)| *n > 1.0);
    let (known, unknown): (Vec<_>, Vec<_>) = walked.partition(|(_, step)| step.is_some());
    let mut known: Vec<(f64, f64)> = known.into_iter().filter_map(|(n, step)| Some((n, step?))).collect();
    known.sort_by(|a, b| a.1.total_cmp(&b.1));
    let whole = w.whole.max(w.element);
    // Elements that lie apart take a line each, but no more lines than there are.
    let each = known.first().map_or(1.0, |(_, step)| *step) * w.element;
    let bytes = merged(&known) * unknown.iter().map(|(n, _)| n).product::<f64>();
    (bytes * each.min(LINE).max(w.element)).min(whole)
}

/// The places that walks of these lengths and steps reach together, the nearest steps first: windows of
/// neighbours overlap, and rows may follow each other.
fn merged(walks: &[(f64, f64)]) -> f64 {
    let mut apart: Vec<(f64, f64)> = Vec::new();
    for (n, step) in walks {
        match apart.last_mut() {
            Some((count, unit)) if step % *unit == 0.0 && step / *unit <= *count => {
                *count += (n - 1.0) * (step / *unit);
            }
            _ => apart.push((*n, *step)),
        }
    }
    apart.iter().map(|(n, _)| n).product()
}

/// How many points of an axis the levels from one on walk.
fn points_within(nest: &Nest, s: &Schedule, axis: usize, from: usize) -> f64 {
    let all = typical(&nest.axes[axis].1).max(1) as f64;
    let lanes = if s.vector == Some(axis) { f64::from(s.lanes) } else { 1.0 };
    let tile = s.tile[axis].max(1) as f64 * lanes;
    let inside = s.order.iter().enumerate().filter(|(_, l)| l.axis() == axis);
    let mut walked = all;
    for (at, level) in inside {
        match level {
            _ if at >= from => return walked,
            Level::Blocks(_, tiles) => walked = walked.min(*tiles as f64 * tile),
            Level::Tiles(_) => walked = walked.min(tile),
        }
    }
    walked
}

/// Every load and store.
fn walks(nest: &Nest, s: &Schedule) -> Vec<Walk> {
    let mut out = Vec::new();
    for store in &nest.stores {
        let all: BTreeSet<Symbol> = nest.axes.iter().map(|(a, _)| *a).collect();
        out.push(walk(nest, s, store.buffer, &store.index, &[], &all));
        loads(nest, s, &store.value, (&[], None), &mut HashSet::new(), &mut out);
    }
    out
}

/// The loads of a term, inside reductions of these variables, the outermost of which depends on these
/// symbols.
fn loads(
    nest: &Nest,
    s: &Schedule,
    t: &Term,
    (vars, reduction): (&[(Symbol, Expr)], Option<&BTreeSet<Symbol>>),
    seen: &mut HashSet<usize>,
    out: &mut Vec<Walk>,
) {
    if !seen.insert(t.key()) {
        return;
    }
    match t.kind() {
        TermKind::Load { input, index } => {
            let own = free_symbols(t);
            out.push(walk(nest, s, *input, &index[0], vars, reduction.unwrap_or(&own)));
        }
        TermKind::Reduce { vars: more, body, .. } => {
            let own = free_symbols(t);
            let vars = [vars, more].concat();
            loads(nest, s, body, (&vars, reduction.or(Some(&own))), seen, out);
        }
        _ => children(t).into_iter().for_each(|c| loads(nest, s, c, (vars, reduction), seen, out)),
    }
}

fn walk(
    nest: &Nest,
    s: &Schedule,
    buffer: usize,
    index: &Expr,
    vars: &[(Symbol, Expr)],
    runs_with: &BTreeSet<Symbol>,
) -> Walk {
    let step = |along: Symbol| step_along(index, along).map(|e| typical_distance(&e));
    let moves = |along: &Symbol| step(*along) != Some(0.0);
    let element = nest.buffers[buffer].dtype.bytes() as f64;
    let axes = nest.axes.iter().enumerate().filter(|(_, (a, _))| moves(a));
    let vars = vars.iter().filter(|(v, _)| moves(v));
    let across = |(_, (a, _)): &(usize, &(Symbol, Expr))| moves(a) && index.linear_in(*a).is_none();
    let panels = nest.buffers[buffer].panels.and_then(|distance| {
        nest.axes.iter().enumerate().find(across).map(|(axis, _)| (axis, distance as f64))
    });
    let depth = s.order.iter().rposition(|l| runs_with.contains(&nest.axes[l.axis()].0));
    Walk {
        buffer,
        element,
        whole: typical(&nest.buffers[buffer].len) as f64 * element,
        panels,
        axes: axes.map(|(i, (a, _))| (i, step(*a))).collect(),
        vars: vars.map(|(v, n)| (typical(n).max(1) as f64, step(*v))).collect(),
        depth: depth.map_or(0, |l| l + 1),
    }
}

/// How far apart two elements are.
fn typical_distance(e: &Expr) -> f64 {
    typical(e).max(typical(&-e)) as f64
}
