//! Tasks: the outermost levels, enough of them to balance, none too small; none in a small kernel.
//!
//! Threads take neighbouring tasks. Where kernels that follow each other all divide rows, a thread finds in its
//! own caches most of what it reads, and no two of them write to lines that alternate, which prefetching would
//! carry from core to core: so rows come first even where vectors would be walked outside ([`rows_first`]).

#[cfg(test)]
mod tests;

use super::cost::{predict, room};
use super::{Level, Machine, Schedule, accesses};
use crate::lower::nest::{Nest, free_symbols, visit};
use crate::memory::typical;
use burin_ir::{Symbol, TermKind};
use std::collections::BTreeSet;

/// So many tasks keep the threads of a small machine evenly busy.
const ENOUGH: i64 = 16;
/// Cycles that a kernel takes for it to pay that threads share it: to begin and to end together costs them about
/// half as much, and what they write lies in the caches of several cores then.
const SHARED: f64 = 6000.0;
/// Cycles of the smallest task that is worth one.
const TASK: f64 = 1000.0;

/// Chooses which levels are tasks, and from which size on threads share them: none, if it is known to be smaller.
/// Where the outermost level has many tiny tiles, it becomes blocks.
pub(super) fn tasks(nest: &Nest, machine: &Machine, s: &mut Schedule) {
    let sums = sums(nest);
    rows_first(nest, machine, &sums, s);
    let cycles = predict(nest, s, machine).cycles;
    s.shared_from = (SHARED * typical(&nest.points()) as f64 / cycles) as i64;
    let small = nest.points().as_const().is_some_and(|n| n < s.shared_from);
    // Terms that each task would sum anew: few beside the points of the nest, or there are no tasks.
    let outside = sums.iter().filter(|sum| sum.is_outside(nest, s, 0));
    let repeated = outside.map(|sum| sum.terms.unwrap_or(i64::MAX)).fold(0, i64::saturating_add);
    if small || repeated.saturating_mul(ENOUGH) > typical(&nest.points()) {
        s.parallel = 0;
        return;
    }
    let repeats = |s: &Schedule| sums.iter().any(|sum| sum.is_outside(nest, s, s.parallel));
    // How often a level's loop runs at least: dimensions may be 1.
    let least = |s: &Schedule, level: usize| match nest.axes[s.order[level].axis()].1.as_const() {
        Some(_) => count(nest, s, level),
        None => 1,
    };
    let (mut total, mut most) = (least(s, 0), count(nest, s, 0));
    while s.parallel < s.order.len() && total < ENOUGH && !in_block(s, s.parallel) && !repeats(s) {
        most = most.saturating_mul(count(nest, s, s.parallel));
        if TASK * most as f64 > cycles {
            break;
        }
        total = total.saturating_mul(least(s, s.parallel));
        s.parallel += 1;
    }
    if s.parallel == 1
        && let Level::Tiles(axis) = s.order[0]
    {
        let tiles = count(nest, s, 0);
        let worth = (TASK * tiles as f64 / cycles) as i64;
        let few = if repeated > 0 { (tiles + ENOUGH - 1) / ENOUGH } else { 1 };
        let block = worth.max(few).clamp(1, tiles);
        if block > 1 {
            s.order.insert(0, Level::Blocks(axis, block));
        }
    }
}

/// A reduction that no other one encloses.
struct Sum {
    free: BTreeSet<Symbol>,
    /// How many terms it has, where that is known.
    terms: Option<i64>,
}

impl Sum {
    /// Whether it is the same for all of a level and those inside it: each task of that level computes it.
    fn is_outside(&self, nest: &Nest, s: &Schedule, level: usize) -> bool {
        !s.order[level..].iter().any(|l| self.free.contains(&nest.axes[l.axis()].0))
    }
}

/// The sums of all stores.
fn sums(nest: &Nest) -> Vec<Sum> {
    let mut out = Vec::new();
    for store in &nest.stores {
        let mut bound = BTreeSet::new();
        visit(&store.value, &mut |t| {
            if let TermKind::Reduce { vars, .. } = t.kind() {
                bound.extend(vars.iter().map(|(s, _)| *s));
            }
        });
        visit(&store.value, &mut |t| {
            let TermKind::Reduce { vars, .. } = t.kind() else { return };
            let free = free_symbols(t);
            if free.is_disjoint(&bound) {
                let terms =
                    vars.iter().try_fold(1i64, |n, (_, extent)| Some(n.saturating_mul(extent.as_const()?)));
                out.push(Sum { free, terms });
            }
        });
    }
    out
}

/// Puts rows around the vectors' axis where that is the outermost: of the first axis with several tiles, these or
/// blocks of them; of a dimension, which may be 1, only if there is no other. Not where what does not vary along the
/// rows would suffer: what is read anew for each block, as weights are, has to stay in the second-level cache, and no
/// sum is computed again.
fn rows_first(nest: &Nest, machine: &Machine, sums: &[Sum], s: &mut Schedule) {
    if s.vector.is_none_or(|v| s.order[0] != Level::Tiles(v)) {
        return;
    }
    let several = |l: &usize| count(nest, s, *l) > 1;
    let known = |l: &usize| several(l) && nest.axes[s.order[*l].axis()].1.as_const().is_some();
    let mut inner = 1..s.order.len();
    let Some(level) = inner.clone().find(known).or_else(|| inner.find(several)) else { return };
    let Level::Tiles(row) = s.order[level] else { return };
    let loads = nest.stores.iter().flat_map(|store| accesses(nest, &store.value, None));
    let again = loads.filter(|l| !l.depends_on(row)).map(|l| l.bytes).fold(0, i64::saturating_add);
    if again > room(machine) || !sums.iter().all(|sum| sum.free.contains(&nest.axes[row].0)) {
        return;
    }
    let block = (count(nest, s, level) + ENOUGH - 1) / ENOUGH;
    let rows = if block > 1 { Level::Blocks(row, block) } else { s.order.remove(level) };
    s.order.insert(0, rows);
}

/// How often a level's loop runs, at typical sizes.
fn count(nest: &Nest, s: &Schedule, level: usize) -> i64 {
    let axis = s.order[level].axis();
    let per = s.tile[axis] * if s.vector == Some(axis) { s.lanes as i64 } else { 1 };
    let tiles = (typical(&nest.axes[axis].1) + per - 1) / per;
    match s.order[level] {
        Level::Tiles(_) => tiles.max(1),
        Level::Blocks(_, block) => ((tiles + block - 1) / block).max(1),
    }
}

/// Whether a level walks the tiles of a block.
fn in_block(s: &Schedule, level: usize) -> bool {
    let axis = s.order[level].axis();
    s.order[..level].iter().any(|l| l.axis() == axis)
}
