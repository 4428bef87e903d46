//! Places on the stack for what is spilled: as few as there are values in them at once.
//!
//! `regalloc2` looks at few places before it takes a new one, so that many branches behind each other have places
//! of their own. Here places whose contents are never needed at the same time become one: by the linear scan of
//! M. Poletto and V. Sarkar ("Linear scan register allocation", 1999), over blocks in reverse postorder.
//!
//! Why an interval covers all of a place's life: what is read was written by a block that dominates the reader, or
//! by all blocks before the one in which they meet, and such blocks come earlier in that order, unless the way goes
//! back to a loop's head; so what is used in a loop and written outside of it lives as long as the loop.

use super::allocate::Flat;
use regalloc2::{Allocation, Block, Edit, Function, InstOrEdit, Output, RegClass, SpillSlot};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// When a place is in use, and for what.
#[derive(Clone, Copy, Debug)]
struct Interval {
    from: usize,
    to: usize,
    class: RegClass,
}

/// Gives what is spilled new places.
pub(super) fn share(flat: &Flat<'_>, output: &mut Output) {
    let order = reverse_postorder(flat);
    let (mut intervals, bounds) = intervals(flat, output, &order);
    extend_over_loops(&mut intervals, &loops(flat, &order, &bounds));
    let words = |class| flat.spillslot_size(class);
    let mut new = BTreeMap::new();
    let mut next = 0;
    for class in [RegClass::Float, RegClass::Int] {
        let mut of_class: Vec<(usize, Interval)> =
            intervals.iter().filter(|(_, i)| i.class == class).map(|(slot, i)| (*slot, *i)).collect();
        of_class.sort_by_key(|(slot, i)| (i.from, *slot));
        let (mut busy, mut free) = (BinaryHeap::new(), Vec::new());
        for (slot, interval) in of_class {
            while let Some(Reverse((to, place))) = busy.peek().copied()
                && to < interval.from
            {
                busy.pop();
                free.push(place);
            }
            let place = free.pop().unwrap_or_else(|| {
                next += words(class);
                next - words(class)
            });
            busy.push(Reverse((interval.to, place)));
            new.insert(slot, place);
        }
    }
    let moved = |a: &mut Allocation| {
        if let Some(place) = a.as_stack().and_then(|slot| new.get(&slot.index())) {
            *a = Allocation::stack(SpillSlot::new(*place));
        }
    };
    output.allocs.iter_mut().for_each(moved);
    for (_, Edit::Move { from, to }) in &mut output.edits {
        moved(from);
        moved(to);
    }
    output.num_spillslots = next;
}

/// Blocks so that each comes before those that it leads to, but for the heads of loops around it; those that
/// nothing leads to come last.
fn reverse_postorder(flat: &Flat<'_>) -> Vec<Block> {
    let mut seen = vec![false; flat.num_blocks()];
    let mut order = Vec::with_capacity(flat.num_blocks());
    let mut open = vec![(flat.entry_block(), 0)];
    seen[flat.entry_block().index()] = true;
    while let Some((block, at)) = open.last_mut() {
        match flat.block_succs(*block).get(*at) {
            Some(next) => {
                *at += 1;
                if !std::mem::replace(&mut seen[next.index()], true) {
                    open.push((*next, 0));
                }
            }
            None => {
                order.push(*block);
                open.pop();
            }
        }
    }
    order.reverse();
    order.extend((0..flat.num_blocks()).filter(|b| !seen[*b]).map(Block::new));
    order
}

/// From where to where each place is mentioned, and each block goes, by its number.
fn intervals(
    flat: &Flat<'_>,
    output: &Output,
    order: &[Block],
) -> (BTreeMap<usize, Interval>, Vec<(usize, usize)>) {
    let mut intervals: BTreeMap<usize, Interval> = BTreeMap::new();
    let mut bounds = vec![(0, 0); order.len()];
    let mut now = 0;
    for block in order {
        let from = now;
        for item in output.block_insts_and_edits(flat, *block) {
            now += 1;
            let mut mentions = |a: Allocation, class: RegClass| {
                let Some(slot) = a.as_stack() else { return };
                let i = intervals.entry(slot.index()).or_insert(Interval { from: now, to: now, class });
                i.to = now;
            };
            match item {
                InstOrEdit::Edit(Edit::Move { from, to }) => {
                    // One of the two is a register.
                    let class = [from, to].into_iter().find_map(|a| a.as_reg()).map(|r| r.class());
                    mentions(*from, class.unwrap_or(RegClass::Float));
                    mentions(*to, class.unwrap_or(RegClass::Float));
                }
                InstOrEdit::Inst(inst) => {
                    let operands = flat.inst_operands(inst).iter();
                    operands.zip(output.inst_allocs(inst)).for_each(|(o, a)| mentions(*a, o.class()));
                }
            }
        }
        bounds[block.index()] = (from, now);
    }
    (intervals, bounds)
}

/// The loops, each from its head to the last block that leads back to it.
fn loops(flat: &Flat<'_>, order: &[Block], bounds: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let back = |block: &Block| {
        let (from, to) = bounds[block.index()];
        let heads = flat.block_succs(*block).iter().map(|head| bounds[head.index()].0);
        heads.filter(move |head| *head <= from).map(move |head| (head, to)).collect::<Vec<_>>()
    };
    order.iter().flat_map(back).collect()
}

/// What is used in a loop and outside of it lives as long as the loop.
fn extend_over_loops(intervals: &mut BTreeMap<usize, Interval>, loops: &[(usize, usize)]) {
    for i in intervals.values_mut() {
        loop {
            let before = (i.from, i.to);
            for (head, end) in loops {
                let overlaps = i.from <= *end && *head < i.to;
                if overlaps && (i.from <= *head || *end < i.to) {
                    (i.from, i.to) = (i.from.min(*head), i.to.max(*end));
                }
            }
            if (i.from, i.to) == before {
                break;
            }
        }
    }
}
