//! The loops around a register tile: tasks, blocks, tiles.
//!
//! An axis is cut into [`Piece`]s: tiles of full size, and narrower ones for the rest. A level of tiles
//! walks all pieces of its axis, one behind the other; a level of blocks chooses some of the full tiles
//! (and the last block the rest besides), which the axis' level of tiles further inside then walks.

use super::{Emitter, Position};
use crate::lower::schedule::Level;
use burin_ir::loops::{Loop, LoopKind, Stmt};
use burin_ir::{Expr, Range};

/// A run of equal tiles along an axis: tile `t` covers `base + t * step + offset` for each slot.
pub(super) struct Piece {
    pub(super) base: Expr,
    pub(super) count: Expr,
    pub(super) step: i64,
    pub(super) slots: Vec<(i64, u16)>,
}

/// Full tiles of an axis that a level of blocks has chosen.
#[derive(Clone)]
pub(super) struct Block {
    first: Expr,
    count: Expr,
    /// Zero or above in the last block.
    is_last: Expr,
}

/// How often a level's loop runs, for each piece of its axis.
type Turns = Vec<Expr>;

impl Emitter<'_> {
    /// The task loop, and below it the other loops.
    pub(super) fn outer(&mut self) {
        let start = self.position(Vec::new(), None);
        let levels = self.schedule.parallel;
        if levels == 0 {
            return self.level(0, vec![start]);
        }
        let turns: Vec<Turns> = (0..levels).map(|l| self.turns(l)).collect();
        let totals: Vec<Expr> = turns.iter().map(|b| b.iter().fold(Expr::ZERO, |s, n| s + n)).collect();
        let task = self.fresh("task");
        let extent = Expr::product(&totals);
        self.bounds.variable(task, &extent);
        self.open(true);
        self.floor = 1;
        self.symbol_depth.insert(task, 1);
        let mut rest = Expr::from(task);
        let mut at = vec![Expr::ZERO; levels];
        for l in (1..levels).rev() {
            // In the form from which anyone can see that it is a remainder.
            let remainder = rest.modulo(&totals[l]);
            let quotient = self.name_index(rest.floor_div(&totals[l]), Range::NON_NEGATIVE);
            let most = totals[l].as_const().map(|n| n - 1);
            at[l] = self.name_index(remainder, Range { lo: Some(0), hi: most });
            rest = quotient;
        }
        at[0] = rest;
        self.task_level(0, vec![start], &turns, &at);
        let body = self.close();
        let run = Loop { var: task, extent, kind: LoopKind::Parallel, carries: Vec::new(), body };
        self.push(Stmt::For(run));
    }

    /// The tasks of a parallel level: each full tile or block is one, and the rest of an axis is one
    /// more.
    fn turns(&self, level: usize) -> Turns {
        let pieces = self.pieces_of(self.schedule.order[level].axis());
        if let Level::Blocks(_, per) = self.schedule.order[level] {
            return vec![blocks(&pieces, per)];
        }
        // That counts are never negative is plain only from how they were made.
        let some = |n: &Expr| n.maximum(&Expr::ZERO).minimum(&Expr::ONE);
        let rest = |p: &Piece| if p.count.as_const().is_some() { Expr::ONE } else { some(&p.count) };
        pieces.iter().enumerate().map(|(i, p)| if i == 0 { p.count.clone() } else { rest(p) }).collect()
    }

    /// One level of the task loop: finds what a task's index stands for there.
    fn task_level(&mut self, level: usize, positions: Vec<Position>, turns: &[Turns], at: &[Expr]) {
        if level == turns.len() {
            return self.level(level, positions);
        }
        match self.schedule.order[level] {
            Level::Blocks(axis, per) => self.in_block(axis, per, &at[level].clone(), |e| {
                e.task_level(level + 1, positions, turns, at);
            }),
            Level::Tiles(_) => self.task_piece(level, 0, Expr::ZERO, positions, turns, at),
        }
    }

    fn task_piece(
        &mut self,
        level: usize,
        which: usize,
        before: Expr,
        positions: Vec<Position>,
        turns: &[Turns],
        at: &[Expr],
    ) {
        let axis = self.schedule.order[level].axis();
        let pieces = self.pieces_of(axis);
        let here = |e: &mut Self, positions: Vec<Position>| {
            let piece = &pieces[which];
            let (first, count) = match which {
                0 => (&at[level] - &before, Expr::ONE),
                _ => (Expr::ZERO, piece.count.clone()),
            };
            e.repeat(&count, &[], |e, t, _| {
                let inner = e.spread(&positions, axis, piece, &(&first + &t));
                e.task_level(level + 1, inner, turns, at);
                Vec::new()
            });
        };
        if which + 1 == pieces.len() {
            return here(self, positions);
        }
        let upto = before.clone() + &turns[level][which];
        self.open(true);
        here(self, positions.clone());
        let then = self.close();
        self.open(true);
        self.task_piece(level, which + 1, upto.clone(), positions, turns, at);
        let otherwise = self.close();
        let cond = vec![upto - &at[level] - 1];
        self.push(Stmt::If { cond, then, otherwise, yields: Vec::new() });
    }

    /// The loops from `level` inwards, and the stores.
    fn level(&mut self, level: usize, positions: Vec<Position>) {
        let Some(this) = self.schedule.order.get(level).copied() else { return self.stores(&positions) };
        let axis = this.axis();
        let pieces = self.pieces_of(axis);
        if let Level::Blocks(_, per) = this {
            self.repeat(&blocks(&pieces, per), &[], |e, b, _| {
                e.in_block(axis, per, &b, |e| e.level(level + 1, positions));
                Vec::new()
            });
            return;
        }
        // One condition for all pieces, so that what is the same for all of them (a reduction for each
        // row, say) is computed once before, and not for each tile.
        let extent = self.nest.axes[axis].1.clone();
        let guarded = pieces.len() > 1 && !self.bounds.runs(&extent);
        if guarded {
            self.open(true);
        }
        self.pieces(level, axis, &pieces, guarded, &positions);
        if guarded {
            let then = self.close();
            let cond = vec![extent - 1];
            self.push(Stmt::If { cond, then, otherwise: Vec::new(), yields: Vec::new() });
        }
    }

    /// The tiles of an axis, or of the block of it that is chosen, known to have some if `guarded`.
    fn pieces(&mut self, level: usize, axis: usize, pieces: &[Piece], guarded: bool, positions: &[Position]) {
        let block = self.blocks.get(&axis).cloned();
        for (i, piece) in pieces.iter().enumerate() {
            let (first, count) = match (&block, i) {
                (Some(b), 0) => (b.first.clone(), b.count.clone()),
                _ => (Expr::ZERO, piece.count.clone()),
            };
            let rest_of = block.as_ref().filter(|b| i > 0 && !self.bounds.at_least(&b.is_last, 0));
            if rest_of.is_some() {
                self.open(true);
            }
            let barrier = !guarded && !self.bounds.runs(&count);
            self.repeat_from(&count, barrier, &[], |e, t, _| {
                let inner = e.spread(positions, axis, piece, &(&first + &t));
                e.level(level + 1, inner);
                Vec::new()
            });
            if let Some(b) = rest_of {
                let then = self.close();
                let cond = vec![b.is_last.clone()];
                self.push(Stmt::If { cond, then, otherwise: Vec::new(), yields: Vec::new() });
            }
        }
    }

    /// Runs `f` with one block of an axis chosen.
    fn in_block(&mut self, axis: usize, per: i64, number: &Expr, f: impl FnOnce(&mut Self)) {
        let pieces = self.pieces_of(axis);
        let first = number * per;
        let left = &pieces[0].count - &first;
        let count = self.bounds.simplify(&left.minimum(&per.into()));
        let is_last = self.bounds.simplify(&(number - &blocks(&pieces, per) + 1));
        let outer = self.blocks.insert(axis, Block { first, count, is_last });
        f(self);
        match outer {
            Some(block) => self.blocks.insert(axis, block),
            None => self.blocks.remove(&axis),
        };
    }

    /// Each position, at each slot of a tile.
    fn spread(&mut self, positions: &[Position], axis: usize, piece: &Piece, tile: &Expr) -> Vec<Position> {
        let symbol = self.nest.axes[axis].0;
        let base = &piece.base + &(tile * piece.step);
        let mut out = Vec::new();
        for p in positions {
            for (offset, lanes) in &piece.slots {
                let mut at = p.at.as_ref().clone();
                at.push((symbol, &base + *offset));
                let vector = if *lanes > 1 { Some((symbol, *lanes)) } else { p.vector };
                out.push(self.position(at, vector));
            }
        }
        out
    }

    /// The pieces of an axis: there is at least one, and the first one is of full tiles if any is.
    fn pieces_of(&self, axis: usize) -> Vec<Piece> {
        let extent = &self.nest.axes[axis].1;
        let lanes = if self.schedule.vector == Some(axis) { self.schedule.lanes } else { 1 };
        let (tile, lane_count) = (self.schedule.tile[axis].max(1), lanes as i64);
        let full: Vec<(i64, u16)> = (0..tile).map(|k| (k * lane_count, lanes)).collect();
        let width = tile * lane_count;
        let Some(n) = extent.as_const() else {
            // Rows that are left are taken a few at a time, then one by one.
            let few = (tile + 2) / 3;
            let between = if lanes > 1 {
                (vec![(0, lanes)], lane_count)
            } else {
                ((0..few).map(|k| (k, 1)).collect(), few)
            };
            let narrow = narrower(lanes).map(|l| (vec![(0, l)], l as i64));
            let widths: Vec<_> =
                [(full, width), between].into_iter().chain(narrow).chain([(vec![(0, 1)], 1)]).collect();
            return split_extent(extent, &widths);
        };
        let (whole, rest) = (n / width, n % width);
        let mut out = Vec::new();
        if whole > 0 {
            out.push(Piece { base: Expr::ZERO, count: whole.into(), step: width, slots: full });
        }
        if rest > 0 || whole == 0 {
            let mut slots: Vec<(i64, u16)> =
                (0..rest / lane_count).map(|k| (k * lane_count, lanes)).collect();
            let from = rest - rest % lane_count;
            slots.extend(self.last_vectors(from, rest, n, lanes));
            let count = if rest > 0 { Expr::ONE } else { Expr::ZERO };
            out.push(Piece { base: (whole * width).into(), count, step: width, slots });
        }
        out
    }

    /// Vectors for the elements `from..end`, fewer than `lanes`, that are left of an axis of `n`: one
    /// that overlaps what is there already, or narrower ones, which stay in the same panel.
    fn last_vectors(&self, from: i64, end: i64, n: i64, lanes: u16) -> Vec<(i64, u16)> {
        if from < end && self.schedule.overlap && !self.schedule.panels && n >= lanes as i64 {
            return vec![(end - lanes as i64, lanes)];
        }
        let mut at = from;
        let mut out = Vec::new();
        for l in narrower(lanes) {
            let width = l as i64;
            if end - at >= width {
                out.push((at, l));
                at += width;
            }
            if at < end && self.schedule.overlap && end - width >= from {
                out.push((end - width, l));
                at = end;
            }
        }
        out.extend((at..end).map(|k| (k, 1)));
        out
    }
}

/// How many blocks of `per` full tiles an axis has: at least one, which then holds the rest alone.
fn blocks(pieces: &[Piece], per: i64) -> Expr {
    let full = pieces[0].count.ceil_div(&per.into());
    full.maximum(&Expr::ONE)
}

/// Vectors of fewer lanes, down to four: the widths of 128 bits and more of 32-bit elements.
fn narrower(lanes: u16) -> impl Iterator<Item = u16> {
    std::iter::successors(Some(lanes / 2), |l| Some(l / 2)).take_while(|l| *l >= 4)
}

/// Cuts an extent that is not constant into pieces of falling widths.
pub(super) fn split_extent(extent: &Expr, widths: &[(Vec<(i64, u16)>, i64)]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut base = Expr::ZERO;
    for (slots, width) in widths {
        if out.last().is_some_and(|p| p.step <= *width) {
            continue;
        }
        let count = (extent - &base).floor_div(&(*width).into());
        let covered = &count * &Expr::constant(*width);
        out.push(Piece { base: base.clone(), count, step: *width, slots: slots.clone() });
        base = base + covered;
        if *width == 1 {
            break;
        }
    }
    out
}
