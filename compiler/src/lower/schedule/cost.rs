//! The cost model: what a nest costs under a schedule, in cycles of one core, and what limits it.
//!
//! Schedules are chosen by it, and `burin inspect --kernels` shows it. It is small enough to be worked
//! through by hand:
//! - *Instructions.* A cycle starts two arithmetic operations on vectors ([`work`] lists those that
//!   take longer), two loads, one store, and six instructions in all. The slowest of these resources
//!   is what a loop takes, and a turn of a loop takes half a cycle besides.
//! - *Latency.* A sum waits four cycles for its last term: a turn of a reduction takes no less, however
//!   many sums are made at once ([`step`]).
//! - *Caches.* What the loops inside some level touch stays in a cache if all of it fits there; what the
//!   next level outwards does not walk is then found there again ([`traffic`]). Bytes from beyond the first
//!   cache come at [`L2_RATE`], from beyond the second one at [`L3_RATE`] or [`MEMORY_RATE`], by how much
//!   the nest touches in all.
//! - *Sets.* Rows of a tile that lie whole pages apart drive each other out of the first-level cache
//!   ([`Sizes`]); a tile of fewer rows is chosen then.
//! - *Together.* Instructions and transfers overlap: a kernel takes the longest of them, and [`CALL`].
//!
//! What it leaves out: misses of translation buffers, other conflicts in a cache's sets, vectors that straddle
//! lines, threads, and what earlier kernels have left in the caches: a nest that fits is found there.
//! Dimensions have their typical sizes.

mod traffic;
mod work;

#[cfg(test)]
mod tests;

use super::{Machine, Multiply, Schedule, contraction, is_made_of, loads_whole_vectors};
use crate::lower::nest::Nest;
use crate::memory::typical;
use std::collections::BTreeSet;

/// Sixths of a cycle: the unit of costs.
const CYCLE: i64 = 6;
/// From one multiply-add to the next that adds to its sum.
const LATENCY: i64 = 4 * CYCLE;
/// What a turn of a loop costs besides.
const TURN: i64 = 3;
/// What a broadcast costs besides whose line the others of its set drive out of the first-level cache.
const EVICTED: i64 = CYCLE;
/// Lines of 64 bytes that a set of the first-level cache holds, and sets.
const WAYS: usize = 8;
const SETS: i64 = 64;
/// Cycles to begin and end a call of a kernel.
const CALL: f64 = 150.0;
/// Bytes of the first-level cache.
const L1_BYTES: i64 = 32 << 10;
/// Bytes a cycle from the second-level cache.
const L2_RATE: f64 = 32.0;
/// Bytes a cycle from beyond it, where a nest touches no more than [`L3_BYTES`].
const L3_RATE: f64 = 24.0;
/// Bytes a cycle from memory.
const MEMORY_RATE: f64 = 8.0;
/// Bytes of the third-level cache that one kernel may count on.
const L3_BYTES: f64 = (16 << 20) as f64;

/// What is predicted of a kernel, at typical sizes of dynamic dimensions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// Cycles of one core.
    pub cycles: f64,
    /// The part of its buffers' bytes that it touches: all but where it fills a part, or gathers.
    pub touches: f64,
    /// Bytes from beyond the first-level cache.
    pub beyond_l1: f64,
    /// Bytes from beyond the second-level cache.
    pub beyond_l2: f64,
    /// Lanes of the vectors that most of its instructions work on.
    pub lanes: u16,
    /// What the kernel waits for most.
    pub limit: Limit,
    /// What it is held against.
    pub peak: Peak,
    /// Its share of that peak.
    pub share: f64,
}

/// What limits a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The units that multiply and add, busy with products.
    MultiplyAdds,
    /// The same units, busy with anything else.
    Arithmetic,
    /// Loads and stores, wherever the data are.
    Loads,
    /// The number of instructions.
    Instructions,
    /// Terms of a sum that wait for each other.
    Latency,
    /// Bytes from the second-level cache.
    Cache,
    /// Bytes from beyond the second-level cache.
    Memory,
    /// Beginning and ending the call.
    Call,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Limit::MultiplyAdds => "multiply-adds",
            Limit::Arithmetic => "arithmetic",
            Limit::Loads => "loads",
            Limit::Instructions => "instructions",
            Limit::Latency => "latency",
            Limit::Cache => "cache",
            Limit::Memory => "memory",
            Limit::Call => "call",
        })
    }
}

/// What a kernel is held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peak {
    /// Two multiply-adds a cycle on vectors of the kernel's lanes.
    MultiplyAdds,
    /// The bytes a second of a plain copy that reads and writes as many: for kernels without products,
    /// and those that memory limits.
    Copy,
}

impl std::fmt::Display for Peak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Peak::MultiplyAdds { "FMA" } else { "copy" })
    }
}

/// What is predicted of a nest that is run as the schedule says.
pub fn predict(nest: &Nest, s: &Schedule, machine: &Machine) -> Prediction {
    let machine = &vectors_of(nest, s, machine);
    let work = work::count(nest, s, machine);
    let touched = traffic::touched(nest, s);
    let beyond = |room| traffic::beyond(nest, s, room);
    let (beyond_l1, beyond_l2) = (beyond(L1_BYTES), beyond(machine.l2_bytes));
    let candidates = [
        (work.cycles, work.limit),
        (beyond_l1 / L2_RATE, Limit::Cache),
        (beyond_l2 / memory_rate(touched), Limit::Memory),
    ];
    let (longest, limit) = candidates.into_iter().fold(candidates[0], |a, b| if b.0 > a.0 { b } else { a });
    let cycles = longest + CALL;
    let limit = if longest < CALL { Limit::Call } else { limit };
    let peak = match contraction(nest).is_some() && limit != Limit::Memory {
        true => Peak::MultiplyAdds,
        false => Peak::Copy,
    };
    let least = match peak {
        Peak::MultiplyAdds => typical(&nest.flops()) as f64 / (4.0 * f64::from(work.lanes)),
        Peak::Copy => copy_cycles(touched, machine),
    };
    let share = least / cycles;
    let touches = touched / bytes(nest).max(1.0);
    Prediction { cycles, touches, beyond_l1, beyond_l2, lanes: work.lanes, limit, peak, share }
}

/// The machine as code for the schedule sees it.
fn vectors_of(nest: &Nest, s: &Schedule, machine: &Machine) -> Machine {
    match &machine.wide {
        Some(w) if is_made_of(nest, w) && loads_whole_vectors(nest, s) => Machine {
            vector_bits: 32 * u32::from(s.lanes),
            registers: w.registers,
            l2_bytes: w.l2_bytes,
            overwrites_factor: false,
            dots: w.dots,
            wide: None,
        },
        _ => *machine,
    }
}

/// Bytes of all buffers.
fn bytes(nest: &Nest) -> f64 {
    nest.buffers.iter().map(|b| typical(&b.len) as f64 * b.dtype.bytes() as f64).sum()
}

/// Cycles of a copy that reads and writes so many bytes.
fn copy_cycles(bytes: f64, machine: &Machine) -> f64 {
    let vector = f64::from(machine.vector_bits.max(32)) / 8.0;
    if bytes <= L1_BYTES as f64 {
        bytes / 2.0 / vector
    } else if bytes <= machine.l2_bytes as f64 {
        bytes / L2_RATE
    } else {
        bytes / memory_rate(bytes)
    }
}

/// Bytes a cycle from beyond the second-level cache, for what touches so many bytes.
fn memory_rate(bytes: f64) -> f64 {
    if bytes <= L3_BYTES { L3_RATE } else { MEMORY_RATE }
}

/// Bytes of the second-level cache that schedules count on.
pub(super) fn room(machine: &Machine) -> i64 {
    machine.l2_bytes * 3 / 4
}

/// What a loop needs of each resource, in sixths of a cycle.
#[derive(Clone, Copy, Default, Debug)]
struct Work {
    arithmetic: f64,
    loads: f64,
    stores: f64,
    issued: f64,
    /// Terms of a sum that follow each other.
    waits: f64,
    turns: f64,
}

impl Work {
    /// The longest of them, and what the loop costs besides.
    fn sixths(&self) -> f64 {
        let Work { arithmetic, loads, stores, issued, waits, turns } = *self;
        [arithmetic, loads, stores, issued, waits].into_iter().fold(0.0, f64::max) + turns
    }

    /// Which of them is the longest.
    fn limit(&self, arithmetic: Limit) -> Limit {
        let all = [
            (self.arithmetic, arithmetic),
            (self.loads.max(self.stores), Limit::Loads),
            (self.waits, Limit::Latency),
            (self.issued, Limit::Instructions),
        ];
        all.into_iter().fold(all[0], |a, b| if b.0 > a.0 { b } else { a }).1
    }
}

/// A register tile: rows of one or two axes, and vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) rows: i64,
    pub(super) outer_rows: i64,
    pub(super) vectors: i64,
}

/// The sizes that tiles cover.
pub(super) struct Sizes {
    pub(super) rows: i64,
    pub(super) outer_rows: i64,
    pub(super) columns: i64,
    pub(super) lanes: i64,
    /// Whether vectors may not straddle panels.
    pub(super) panels: bool,
    /// Bytes from one row of the data to the next, and from one outer row to the next.
    pub(super) steps: [i64; 2],
    /// Whether data, and weights, are converted as they are loaded.
    pub(super) converts: [bool; 2],
    /// How products are made.
    pub(super) multiply: Multiply,
}

impl Sizes {
    /// Whether rows of a tile lie so many pages apart that more of them fall into one set of the
    /// first-level cache than it holds.
    fn crowds(&self, rows: i64, outer_rows: i64) -> bool {
        let line = |i: i64| ((i % rows) * self.steps[0] + (i / rows) * self.steps[1]) / 64;
        let lines: BTreeSet<i64> = (0..rows * outer_rows).map(line).collect();
        let mut sets = [0; SETS as usize];
        lines.into_iter().for_each(|l| sets[l.rem_euclid(SETS) as usize] += 1);
        sets.iter().any(|lines| *lines > WAYS)
    }
}

/// The cost of one reduction step over all tiles.
pub(super) fn tile_cost(sizes: &Sizes, tile: Tile, machine: &Machine) -> i64 {
    let parts = |n: i64, per: i64| [(n / per, per), (1, n % per)];
    let width = tile.vectors * sizes.lanes;
    let tail = (sizes.columns % width + sizes.lanes - 1) / sizes.lanes;
    let columns = [(sizes.columns / width, tile.vectors), (1, tail)];
    let mut sum = 0i64;
    for (outer, r2) in parts(sizes.outer_rows, tile.outer_rows) {
        for (inner, r1) in parts(sizes.rows, tile.rows) {
            for (blocks, n) in columns {
                if r1 * r2 * n > 0 {
                    let evicted = if sizes.crowds(r1, r2) { EVICTED * r1 * r2 } else { 0 };
                    let each = step(r1 * r2, n, sizes, machine).sixths() as i64 + evicted;
                    let times = outer.saturating_mul(inner).saturating_mul(blocks);
                    sum = sum.saturating_add(times.saturating_mul(each));
                }
            }
        }
    }
    sum
}

/// One reduction step of a tile of `r` rows and `n` vectors: `r n` multiply-adds, `n` vector loads and
/// `r` broadcasts, each of which may need a conversion. Four bytes are two pairs of halves: a vector of
/// them takes three instructions, or four where their order is that of memory.
fn step(r: i64, n: i64, sizes: &Sizes, machine: &Machine) -> Work {
    // Where the sum's register is not kept, vectors are copied and sums moved; a splat takes two.
    let copies = if machine.overwrites_factor { r * (n - 1) + r * n + r * i64::from(n > 1) } else { 0 };
    let converts = sizes.converts.map(i64::from);
    let (products, conversions, broadcasts) = match sizes.multiply {
        Multiply::Once => (r * n, r * converts[0] + n * converts[1], r),
        Multiply::Bytes => (4 * r * n, 2 * r + 3 * n, r),
        Multiply::Halves => (4 * r * n, 4 * n, 2 * r),
    };
    let two_a_cycle = |count: i64| (CYCLE / 2 * count) as f64;
    Work {
        arithmetic: two_a_cycle(products + conversions),
        loads: two_a_cycle(broadcasts + n),
        stores: 0.0,
        issued: (products + n + broadcasts + copies + conversions) as f64,
        waits: LATENCY as f64,
        turns: TURN as f64,
    }
}

/// What a product reads: data that are the same for all columns, and weights.
pub(super) struct Streams {
    /// Bytes of the data.
    pub(super) data: i64,
    /// Bytes of the weights.
    pub(super) weights: i64,
    /// Tiles that the columns are cut into.
    pub(super) tiles: i64,
    /// Bytes that stay in the cache.
    pub(super) room: i64,
}

impl Streams {
    /// The bytes from beyond the cache if the data are walked in so many blocks, tile by tile of the
    /// columns within each: what [`traffic`] finds for that order, in a form that can be asked for
    /// every number of blocks.
    pub(super) fn bytes(&self, blocks: i64) -> i64 {
        let Streams { data, weights, tiles, room } = *self;
        let stays = data / blocks + weights / tiles <= room;
        blocks.saturating_mul(weights).saturating_add(if stays { data } else { data.saturating_mul(tiles) })
    }
}

/// How often each level's loop runs within the one around it; parts of a tile count as such.
fn turns(nest: &Nest, s: &Schedule) -> Vec<f64> {
    let blocks = |axis: usize, per: i64| (tiles(nest, s, axis) / per.max(1) as f64).max(1.0);
    let mut around: Vec<f64> = vec![1.0; nest.axes.len()];
    let mut out = Vec::with_capacity(s.order.len());
    for level in &s.order {
        let axis = level.axis();
        let all = match *level {
            super::Level::Blocks(_, per) => blocks(axis, per).ceil(),
            super::Level::Tiles(_) => (tiles(nest, s, axis) / around[axis]).max(1.0),
        };
        around[axis] *= all;
        out.push(all);
    }
    out
}

/// Tiles of an axis.
fn tiles(nest: &Nest, s: &Schedule, axis: usize) -> f64 {
    (points(nest, s, axis) / s.tile[axis].max(1) as f64).max(1.0)
}

/// Points of an axis, or vectors along it.
fn points(nest: &Nest, s: &Schedule, axis: usize) -> f64 {
    let extent = typical(&nest.axes[axis].1).max(1) as f64;
    if s.vector == Some(axis) { (extent / f64::from(s.lanes)).ceil() } else { extent }
}
