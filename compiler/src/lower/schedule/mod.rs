//! How a nest is run: which axis is the vector axis, how many points of which axes are computed
//! together in registers, in which order the axes are walked, and what is a task.
//!
//! The choice is a small model that can be read: [`contract`] for sums of products, [`stream`] for
//! everything else, [`tasks`] for what runs in parallel, by the costs of [`cost`]. Nothing here changes
//! what is computed; [`super::emit`] follows the schedule.

mod contract;
pub mod cost;
mod stream;
mod tasks;

use super::nest::{Nest, children, free_symbols, step_along, visit};
use crate::memory::typical;
use burin_ir::expr::Atom;
use burin_ir::{DType, Expr, ReduceOp, ScalarOp, Symbol, Term, TermKind};

/// What the schedule needs to know of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Width of a vector register; 0 where only scalar code can be made.
    pub vector_bits: u32,
    /// Number of vector registers.
    pub registers: u32,
    /// Whether a multiply-add overwrites one of its factors, not the sum: what the factor is needed
    /// for again is a copy, and so is every sum from one turn of a loop to the next.
    pub overwrites_factor: bool,
    /// Whether one instruction multiplies and adds four pairs of bytes in each lane; else bytes become
    /// halves of lanes, and products are made of these.
    pub dots: bool,
    /// Second-level cache of a core.
    pub l2_bytes: i64,
    /// Wider vectors, which not all code can be made of.
    pub wide: Option<Wide>,
}

/// Vectors that nests of these operations have.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    /// Width of a register.
    pub vector_bits: u32,
    /// Number of registers.
    pub registers: u32,
    /// See [`Machine::dots`].
    pub dots: bool,
    /// Second-level cache of the cores that have them.
    pub l2_bytes: i64,
    /// Whether there is code for an operation on operands of a type.
    pub has: fn(ScalarOp, DType) -> bool,
}

impl Machine {
    /// What is assumed of a core that has vectors of that width: the caches of a small server core
    /// of the last years, so that code made on one machine does not differ from another's.
    pub const fn with_vectors(vector_bits: u32, registers: u32) -> Machine {
        let (overwrites_factor, dots) = (false, false);
        Machine { vector_bits, registers, overwrites_factor, dots, l2_bytes: 512 << 10, wide: None }
    }
}

/// A level of the loops around a register tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Over blocks of so many tiles of an axis, whose tiles are walked further inside.
    Blocks(usize, i64),
    /// Over the tiles of an axis, or of the block of it that an outer level has chosen.
    Tiles(usize),
}

impl Level {
    /// The axis.
    pub fn axis(self) -> usize {
        match self {
            Level::Blocks(axis, _) | Level::Tiles(axis) => axis,
        }
    }
}

/// How a nest is run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The levels, outermost first: tiles of every axis once, and blocks of some before.
    pub order: Vec<Level>,
    /// For each axis (by its number in the nest) how many points are computed together: rows, or
    /// vectors on the vector axis.
    pub tile: Vec<i64>,
    /// The vector axis.
    pub vector: Option<usize>,
    /// Lanes of a vector; also of reductions that are vectorised along their own variable.
    pub lanes: u16,
    /// Vectors that a reduction along its own variable accumulates in.
    pub reduce_unroll: i64,
    /// How many of the outermost levels become tasks; no tiles of a block among them.
    pub parallel: usize,
    /// How many points a nest must have for it to pay that threads share its tasks.
    pub shared_from: i64,
    /// Whether what is loaded for a tile stays inside the tile's loop (so that operands of an
    /// epilogue do not occupy registers during the reduction).
    pub pin: bool,
    /// Whether the last vector may overlap the one before, computing some points twice.
    pub overlap: bool,
    /// Whether what is loaded along the vector axis lies in panels, which no vector may leave.
    pub panels: bool,
    /// How many panels ahead of those that are loaded more are prefetched; 0: none.
    pub prefetch: i64,
    /// What kind of schedule this is, for people.
    pub kind: &'static str,
}

impl std::fmt::Display for Schedule {
    /// The kind, the tile as points of each axis that it covers (`x16` are the lanes of a vector), and the
    /// levels from the outermost: those before `|` are tasks, all where there is none.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        let tile = self.tile.iter().enumerate().filter(|(a, n)| **n > 1 || self.vector == Some(*a));
        for (a, n) in tile {
            write!(f, " {}{n}", axis_name(a))?;
            if self.vector == Some(a) {
                write!(f, "x{}", self.lanes)?;
            }
        }
        write!(f, " [")?;
        for (i, level) in self.order.iter().enumerate() {
            if i == self.parallel {
                write!(f, "|")?;
            }
            match level {
                Level::Blocks(a, n) => write!(f, "{}/{n} ", axis_name(*a))?,
                Level::Tiles(a) => write!(f, "{} ", axis_name(*a))?,
            }
        }
        write!(f, "]")
    }
}

/// `a`, `b` and so on.
fn axis_name(axis: usize) -> char {
    char::from(b'a' + (axis % 26) as u8)
}

/// One load of the hot term.
struct Access {
    /// Change of the index from one point of the axis to the next, by axis; `None`: not linear.
    strides: Vec<Option<Expr>>,
    /// Change of the index with the innermost reduction variable.
    along_reduction: Option<Expr>,
    /// Bytes of an element, and of the whole buffer.
    element: i64,
    bytes: i64,
    panels: bool,
}

/// The reduction that dominates the nest: a sum of products.
struct Contraction {
    /// [`Term::key`] of the reduction.
    key: usize,
    loads: Vec<Access>,
    /// What makes each product.
    product: ScalarOp,
}

/// How a machine makes a product and adds it to a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Multiply {
    /// By one instruction.
    Once,
    /// Four bytes of either operand become two pairs of halves, which are multiplied and added apart.
    Bytes,
    /// The data are such halves already.
    Halves,
}

impl Contraction {
    fn multiply(&self, machine: &Machine) -> Multiply {
        match self.product {
            ScalarOp::DotBytes if !machine.dots => Multiply::Bytes,
            ScalarOp::DotHalves => Multiply::Halves,
            _ => Multiply::Once,
        }
    }
}

/// Chooses a schedule: one of wide vectors, if the nest is made of what they can do.
pub fn choose(nest: &Nest, machine: &Machine) -> Schedule {
    let wide = machine.wide.as_ref().filter(|w| is_made_of(nest, w));
    wide.and_then(|w| choose_wide(nest, machine, w)).unwrap_or_else(|| choose_within(nest, machine))
}

/// The schedule of the widest vectors that an axis is long enough for; inner products, whose vectors
/// go along the reduction, only where no width does better.
fn choose_wide(nest: &Nest, machine: &Machine, wide: &Wide) -> Option<Schedule> {
    let Wide { registers, l2_bytes, dots, .. } = *wide;
    let overwrites_factor = false;
    let widths = std::iter::successors(Some(wide.vector_bits), |bits| Some(bits / 2));
    let schedules: Vec<Schedule> = widths
        .take_while(|bits| *bits >= machine.vector_bits)
        .map(|vector_bits| Machine { vector_bits, registers, l2_bytes, overwrites_factor, dots, wide: None })
        .map(|m| choose_within(nest, &m))
        .filter(|s| loads_whole_vectors(nest, s))
        .collect();
    let best = schedules.iter().find(|s| s.vector.is_some()).or(schedules.first());
    best.cloned()
}

/// Whether all operations of a nest are such that there are for wide vectors.
fn is_made_of(nest: &Nest, wide: &Wide) -> bool {
    let mut fits = true;
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            fits &= match t.kind() {
                TermKind::Op(op, args) => {
                    let operand = if *op == ScalarOp::Select { 1 } else { 0 };
                    (wide.has)(*op, args[operand].dtype())
                }
                TermKind::Reduce { op, .. } => (wide.has)(op.combine(), t.dtype()),
                _ => true,
            };
        });
    }
    fits
}

/// Whether every load along the vector axis is of whole vectors, of elements in even steps or at indices that
/// lanes can compute, or of the same element; without such an axis, along the innermost variables of
/// reductions.
fn loads_whole_vectors(nest: &Nest, schedule: &Schedule) -> bool {
    let mut whole = true;
    // Every other element is picked out of two vectors, but not of 512 bits.
    let fits = |step: i64| step != 2 || schedule.lanes <= 8;
    let mut check = |t: &Term, along: Symbol| {
        visit(t, &mut |t| {
            if let TermKind::Load { index, .. } = t.kind() {
                whole &= match step_along(&index[0], along) {
                    Some(step) => step.as_const().is_none_or(fits),
                    None => !divides(&index[0]),
                };
            }
        });
    };
    for store in &nest.stores {
        match schedule.vector {
            Some(axis) => check(&store.value, nest.axes[axis].0),
            None => visit(&store.value, &mut |t| {
                if let TermKind::Reduce { vars, body, .. } = t.kind()
                    && let Some((inner, _)) = vars.last()
                {
                    check(body, *inner);
                }
            }),
        }
    }
    whole
}

/// Whether an expression holds a quotient.
fn divides(e: &Expr) -> bool {
    let of = |a: &Atom| match a {
        Atom::Sym(_) => false,
        Atom::Div(_) => true,
        Atom::Min(pair) | Atom::Max(pair) => divides(&pair.0) || divides(&pair.1),
    };
    e.terms().iter().any(|(atoms, _)| atoms.iter().any(of))
}

/// The schedule for a machine of one vector width.
fn choose_within(nest: &Nest, machine: &Machine) -> Schedule {
    let lanes = lanes(nest, machine);
    let mut schedule = Schedule {
        order: (0..nest.axes.len()).map(Level::Tiles).collect(),
        tile: vec![1; nest.axes.len()],
        vector: None,
        lanes,
        reduce_unroll: 4,
        parallel: usize::from(!nest.axes.is_empty()),
        shared_from: 0,
        pin: false,
        overlap: false,
        panels: false,
        prefetch: 0,
        kind: "scalar",
    };
    if nest.axes.is_empty() {
        return schedule;
    }
    let vector = vector_axis(nest, lanes);
    match contraction(nest) {
        Some(c) => contract::contract(nest, machine, &c, vector, &mut schedule),
        None => stream::stream(nest, vector, &mut schedule),
    }
    tasks::tasks(nest, machine, &mut schedule);
    schedule
}

/// Lanes that fill a register with the widest floating-point (or else stored) type of the nest.
fn lanes(nest: &Nest, machine: &Machine) -> u16 {
    let mut bits = 0;
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            if t.dtype().is_float() {
                bits = bits.max(t.dtype().bits().max(32));
            }
        });
        if bits == 0 {
            bits = store.value.dtype().bits().max(32);
        }
    }
    (machine.vector_bits / bits.max(32)).max(1) as u16
}

/// The axis along which all stores are contiguous, if terms can be computed in vectors along it.
fn vector_axis(nest: &Nest, lanes: u16) -> Option<usize> {
    if lanes < 2 {
        return None;
    }
    let fits = |&at: &usize| {
        let (symbol, extent) = &nest.axes[at];
        let long_enough = extent.as_const().is_none_or(|n| n >= lanes as i64);
        long_enough
            && nest.stores.iter().all(|s| {
                let contiguous = s.index.linear_in(*symbol).is_some_and(|(a, _)| a == 1);
                contiguous && can_vectorise(&s.value, *symbol)
            })
    };
    (0..nest.axes.len()).rev().find(fits)
}

/// Whether a term can be computed for consecutive values of a symbol at once: nothing branches on
/// it or loops over an extent that depends on it.
pub fn can_vectorise(t: &Term, symbol: Symbol) -> bool {
    // What is computed from data along the axis differs from lane to lane as well.
    let mut varying = vec![symbol];
    let mut before = 0;
    while before < varying.len() {
        before = varying.len();
        visit(t, &mut |t| {
            if let TermKind::Bind { symbol, value, .. } = t.kind()
                && !varying.contains(symbol)
                && free_symbols(value).iter().any(|s| varying.contains(s))
            {
                varying.push(*symbol);
            }
        });
    }
    let varies = |e: &Expr| varying.iter().any(|s| e.mentions(*s));
    let mut fits = true;
    visit(t, &mut |t| match t.kind() {
        TermKind::If { cond, .. } => fits &= !cond.iter().any(varies),
        TermKind::Reduce { vars, .. } => fits &= !vars.iter().any(|(_, n)| varies(n)),
        _ => {}
    });
    fits
}

/// The sum of products with the most work, if there is one that reuses an operand or fills a window.
fn contraction(nest: &Nest) -> Option<Contraction> {
    let mut found: Option<(i64, Contraction)> = None;
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            let TermKind::Reduce { op: ReduceOp::Sum, vars, body } = t.kind() else { return };
            let TermKind::Op(op, args) = uncast(body).kind() else { return };
            if op.accumulating().is_none() || !args.iter().all(has_load) {
                return;
            }
            let free = free_symbols(t);
            let own = nest.axes.iter().filter(|(s, _)| free.contains(s)).map(|(_, n)| typical(n));
            let work = own.fold(1i64, i64::saturating_mul);
            let all_axes = nest.axes.iter().all(|(s, _)| free.contains(s));
            if all_axes && found.as_ref().is_none_or(|(w, _)| work > *w) {
                let inner = vars.last().map(|(s, _)| *s);
                let loads = accesses(nest, body, inner);
                found = Some((work, Contraction { key: t.key(), loads, product: *op }));
            }
        });
    }
    found.map(|(_, c)| c)
}

fn uncast(t: &Term) -> &Term {
    match t.kind() {
        TermKind::Op(ScalarOp::Cast(_), args) => uncast(&args[0]),
        _ => t,
    }
}

fn has_load(t: &Term) -> bool {
    matches!(t.kind(), TermKind::Load { .. }) || children(t).into_iter().any(has_load)
}

fn accesses(nest: &Nest, body: &Term, inner: Option<Symbol>) -> Vec<Access> {
    let mut out = Vec::new();
    visit(body, &mut |t| {
        let TermKind::Load { input, index } = t.kind() else { return };
        let stride = |s: Symbol| step_along(&index[0], s);
        let buffer = &nest.buffers[*input];
        out.push(Access {
            panels: buffer.panels.is_some(),
            strides: nest.axes.iter().map(|(s, _)| stride(*s)).collect(),
            along_reduction: inner.and_then(stride),
            element: buffer.dtype.bytes() as i64,
            bytes: typical(&buffer.len).saturating_mul(buffer.dtype.bytes() as i64),
        });
    });
    out
}

impl Access {
    fn depends_on(&self, axis: usize) -> bool {
        self.strides[axis].as_ref().is_none_or(|s| *s != 0)
    }

    fn contiguous_along(&self, axis: usize) -> bool {
        self.strides[axis].as_ref().is_some_and(|s| *s == 1)
    }
}
