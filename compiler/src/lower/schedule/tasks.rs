//! Tasks: the outermost levels, enough of them to balance, none too small.

use super::{Level, Schedule};
use crate::lower::nest::{Nest, free_symbols, visit};
use crate::memory::typical;
use burin_ir::{Symbol, TermKind};

/// So many tasks keep the threads of a small machine evenly busy.
const ENOUGH: i64 = 16;
/// Points, or operations, of the smallest task that is worth one.
const POINTS: i64 = 1 << 14;

/// Chooses which levels are tasks. Where the outermost one has many tiny tiles, it becomes blocks.
pub(super) fn tasks(nest: &Nest, s: &mut Schedule) {
    let mut total = count(nest, s, 0);
    while s.parallel < s.order.len() && total < ENOUGH && !in_block(s, s.parallel) && !hoists_between(nest, s)
    {
        total *= count(nest, s, s.parallel);
        s.parallel += 1;
    }
    if s.parallel == 1
        && let Level::Tiles(axis) = s.order[0]
    {
        let points: i64 = nest.axes.iter().map(|(_, n)| typical(n).max(1)).fold(1, i64::saturating_mul);
        let work = typical(&nest.flops()).max(points);
        let tiles = count(nest, s, 0);
        let block = (POINTS / (work / tiles).max(1)).clamp(1, tiles);
        if block > 1 {
            s.order.insert(0, Level::Blocks(axis, block));
        }
    }
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

/// Whether something is computed for a point of the outer loops and used along the next one:
/// making that one a task as well would compute it again.
fn hoists_between(nest: &Nest, s: &Schedule) -> bool {
    let inner: Vec<Symbol> = s.order[s.parallel..].iter().map(|l| nest.axes[l.axis()].0).collect();
    let mut found = false;
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            if matches!(t.kind(), TermKind::Reduce { .. }) {
                let free = free_symbols(t);
                found |= !inner.iter().all(|i| free.contains(i));
            }
        });
    }
    found
}
