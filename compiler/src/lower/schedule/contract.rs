//! Sums of products: register tiles, and the order in which they are walked.
//!
//! By the model of [`cost`](super::cost),
//! - the tile is the one with the fewest cycles over all tiles of the nest, remainders included
//!   ([`tile_cost`]);
//! - loops keep a panel of weights in the second-level cache while they walk the data, all of it
//!   or as much as stays in that cache too ([`loop_order`]).

use super::cost::{Sizes, Streams, Tile, room, tile_cost};
use super::stream::prefers_own_variable;
use super::{Contraction, Level, Machine, Multiply, Schedule};
use crate::lower::nest::Nest;
use crate::memory::typical;
use crate::packing::PANEL;

pub(super) fn contract(
    nest: &Nest,
    machine: &Machine,
    c: &Contraction,
    vector: Option<usize>,
    s: &mut Schedule,
) {
    let Some(v) = vector.filter(|v| !prefers_own_variable(nest, *v, s.lanes)) else {
        return dot(nest, c, s);
    };
    s.vector = Some(v);
    s.overlap = true;
    s.panels = c.loads.iter().any(|l| l.panels && l.depends_on(v));
    // Rows: axes along which what is loaded in vectors stays the same, the innermost ones first.
    let shared = |axis: usize| axis != v && c.loads.iter().all(|l| !l.depends_on(v) || !l.depends_on(axis));
    let rows: Vec<usize> = (0..nest.axes.len()).rev().filter(|a| shared(*a)).collect();
    let Some(row) = rows.first().copied() else { return window(nest, machine, c, v, s) };
    let size = |a: Option<&usize>| a.map_or(1, |a| typical(&nest.axes[*a].1));
    let sizes = Sizes {
        rows: size(Some(&row)),
        outer_rows: size(rows.get(1)),
        columns: typical(&nest.axes[v].1),
        lanes: s.lanes as i64,
        panels: s.panels,
        steps: [Some(&row), rows.get(1)].map(|a| c.row_step(v, a)),
        converts: c.converts(v),
        multiply: c.multiply(machine),
    };
    let tile = register_tile(&sizes, machine);
    (s.tile[row], s.tile[v]) = (tile.rows, tile.vectors);
    if let Some(outer) = rows.get(1) {
        s.tile[*outer] = tile.outer_rows;
    }
    s.pin = true;
    s.kind = "contract";
    s.order = loop_order(nest, machine, c, &rows, v, s);
}

impl Contraction {
    /// Whether what is loaded, along the columns or not, has less than 32 bits.
    pub(super) fn converts(&self, v: usize) -> [bool; 2] {
        [false, true].map(|columns| self.loads.iter().any(|l| l.depends_on(v) == columns && l.element < 4))
    }

    /// Bytes from one row of the data to the next along an axis.
    fn row_step(&self, v: usize, axis: Option<&usize>) -> i64 {
        let Some(data) = self.loads.iter().find(|l| !l.depends_on(v)) else { return 0 };
        let step = axis.and_then(|a| data.strides[*a].as_ref());
        step.map_or(0, |s| typical(s).saturating_mul(data.element))
    }
}

/// Each column has data of its own (a window for each channel): points along another axis share the
/// weights, and what their windows have in common.
fn window(nest: &Nest, machine: &Machine, c: &Contraction, v: usize, s: &mut Schedule) {
    s.kind = "window";
    let vectors = (typical(&nest.axes[v].1) / s.lanes as i64).max(1);
    let contiguous = c.loads.iter().all(|l| !l.depends_on(v) || l.contiguous_along(v));
    let shares = |a: usize| a != v && c.loads.iter().any(|l| !l.depends_on(a));
    let along = (0..nest.axes.len()).rev().find(|a| shares(*a)).filter(|_| contiguous);
    // Sums, and as many loads, at once.
    let room = machine.registers as i64 / 3;
    match along {
        Some(a) if typical(&nest.axes[a].1) > 1 => {
            s.tile[a] = typical(&nest.axes[a].1).min(room.min(7));
            s.tile[v] = (room / s.tile[a]).clamp(1, vectors.min(2));
            s.pin = true;
        }
        _ => s.tile[v] = vectors.min(room + 1).min(8),
    }
    if s.panels {
        let panel = (PANEL / s.lanes as i64).max(1);
        s.tile[v] = (s.tile[v] / panel * panel).max(panel);
    }
}

/// Inner products: both operands are contiguous along the reduction. Four rows share each load.
fn dot(nest: &Nest, c: &Contraction, s: &mut Schedule) {
    s.kind = "dot";
    s.reduce_unroll = 1;
    s.pin = true;
    let mut room = 8;
    for axis in (0..nest.axes.len()).rev() {
        let reuses = c.loads.iter().any(|l| !l.depends_on(axis));
        if reuses && nest.axes[axis].1 != 1 && room > 1 {
            s.tile[axis] = if room == 8 { 4 } else { 2 };
            room /= s.tile[axis];
        }
    }
    if room == 8 {
        s.reduce_unroll = 4;
    }
}

/// Vectors of the widest tile of several rows: wider panels leave the rows too little of the cache.
const MOST_VECTORS: i64 = 4;

/// More blocks of rows are not tried.
const MOST_BLOCKS: i64 = 1 << 16;

/// The register tile with the least estimated cycles for the whole.
fn register_tile(sizes: &Sizes, machine: &Machine) -> Tile {
    let registers = machine.registers as i64;
    // Besides sums and one row of vectors: a broadcast, its copy, and one to spare.
    let in_halves = i64::from(sizes.multiply != Multiply::Once);
    let others = 2 + i64::from(machine.overwrites_factor) + in_halves;
    // Bytes become two vectors of halves.
    let each = 1 + in_halves;
    let mut best = (i64::MAX, Tile { rows: 1, outer_rows: 1, vectors: 1 });
    for vectors in 1..=registers / 2 {
        let straddles = sizes.panels && sizes.columns > PANEL && vectors * sizes.lanes % PANEL != 0;
        let wide = vectors > MOST_VECTORS && sizes.rows * sizes.outer_rows > 1;
        if straddles || wide || (vectors - 1) * sizes.lanes >= sizes.columns.max(1) {
            continue;
        }
        for rows in 1..=registers.min(sizes.rows.max(1)) {
            for outer_rows in 1..=4.min(sizes.outer_rows.max(1)) {
                let r = rows * outer_rows;
                if r * vectors + vectors * each + others > registers {
                    break;
                }
                let tile = Tile { rows, outer_rows, vectors };
                let cost = tile_cost(sizes, tile, machine);
                if cost < best.0 {
                    best = (cost, tile);
                }
            }
        }
    }
    best.1
}

/// The order of loops. Axes that neither operand shares come first. Then, the fewest bytes being
/// streamed again: the data are walked for each panel of weights if they stay in the second-level
/// cache, else block by block, or tile by tile where all weights stay there.
fn loop_order(
    nest: &Nest,
    m: &Machine,
    c: &Contraction,
    rows: &[usize],
    v: usize,
    s: &mut Schedule,
) -> Vec<Level> {
    let natural: Vec<usize> = (0..nest.axes.len()).filter(|a| rows.contains(a)).collect();
    let others = (0..nest.axes.len()).filter(|a| *a != v && !rows.contains(a));
    let mut order: Vec<Level> = others.clone().map(Level::Tiles).collect();
    let size = |a: usize| typical(&nest.axes[a].1).max(1);
    // Operands' bytes for one point of the other axes.
    let bytes = |of_columns: bool| -> i64 {
        let matching = c.loads.iter().filter(|l| l.depends_on(v) == of_columns);
        let each = matching.map(|l| {
            let shared =
                others.clone().filter(|a| l.depends_on(*a)).map(size).fold(1i64, i64::saturating_mul);
            l.bytes / shared.max(1)
        });
        each.sum()
    };
    let (data, weights) = (bytes(false), bytes(true));
    let width = s.tile[v] * s.lanes as i64;
    let tiles = (size(v) / width).max(1);
    let room = room(m);
    let inner = natural.iter().map(|a| Level::Tiles(*a));
    // Data that are walked tile by tile are read once, weights from the cache each time.
    if weights <= room / 2 && data > room / 2 {
        order.extend(inner);
        order.push(Level::Tiles(v));
        return order;
    }
    let count = |a: usize| (size(a) + s.tile[a] - 1) / s.tile[a];
    // Blocks of the outermost axis of rows of which a tile stays in the cache; those before are walked
    // outside.
    let (mut at, mut data) = (0, data);
    while at + 1 < natural.len() && (count(natural[at]) == 1 || data / count(natural[at]) > room / 2) {
        data /= count(natural[at]);
        at += 1;
    }
    let axis = natural[at];
    let count = count(axis);
    let streams = Streams { data, weights, tiles, room };
    let blocks = (1..=count.min(MOST_BLOCKS)).min_by_key(|b| streams.bytes(*b)).unwrap_or(1);
    let block = (count + blocks - 1) / blocks;
    order.extend(natural[..at].iter().map(|a| Level::Tiles(*a)));
    if block < count {
        order.push(Level::Blocks(axis, block));
    }
    order.push(Level::Tiles(v));
    // While the data are walked for some panels, the next ones can arrive.
    if s.panels && weights > room / 2 && count > 1 {
        s.prefetch = (width / PANEL).max(1);
    }
    order.extend(natural[at..].iter().map(|a| Level::Tiles(*a)));
    order
}
