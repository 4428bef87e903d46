//! How a nest is run: which axis is the vector axis, how many points of which axes are computed
//! together in registers, in which order the axes are walked, and what is a task.
//!
//! The choice is a small model that can be read: for contractions it counts, for each tile shape,
//! the instructions of one step of the reduction (six a cycle, two of them multiply-adds and two of
//! them loads, and never less than the latency of a multiply-add), and for each loop order the bytes that are streamed again.
//! Nothing here changes what is computed; [`super::emit`] follows the schedule.

use super::nest::{Nest, children, free_symbols, visit};
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
    /// First-level data cache of a core.
    pub l1_bytes: i64,
    /// Second-level cache of a core.
    pub l2_bytes: i64,
    /// Wider vectors, which not all code can be made of.
    pub wide: Option<Wide>,
}

/// Vectors that only nests of `f32` have, and of these operations.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    /// Width of a register.
    pub vector_bits: u32,
    /// Whether there is code for an operation.
    pub has: fn(ScalarOp) -> bool,
}

impl Machine {
    /// What is assumed of a core that has vectors of that width: the caches of a small server core
    /// of the last years, so that code made on one machine does not differ from another's.
    pub const fn with_vectors(vector_bits: u32, registers: u32) -> Machine {
        Machine {
            vector_bits,
            registers,
            overwrites_factor: false,
            l1_bytes: 32 << 10,
            l2_bytes: 512 << 10,
            wide: None,
        }
    }
}

/// How a nest is run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The axes, outermost loop first.
    pub order: Vec<usize>,
    /// For each axis (by its number in the nest) how many points are computed together: rows, or
    /// vectors on the vector axis.
    pub tile: Vec<i64>,
    /// The vector axis.
    pub vector: Option<usize>,
    /// Lanes of a vector; also of reductions that are vectorised along their own variable.
    pub lanes: u16,
    /// Vectors that a reduction along its own variable accumulates in.
    pub reduce_unroll: i64,
    /// How many of the outermost loops become tasks.
    pub parallel: usize,
    /// How many tiles of the outermost loop are one task.
    pub grain: i64,
    /// Whether what is loaded for a tile stays inside the tile's loop (so that operands of an
    /// epilogue do not occupy registers during the reduction).
    pub pin: bool,
    /// Whether the last vector may overlap the one before, computing some points twice.
    pub overlap: bool,
    /// What kind of schedule this is, for people.
    pub kind: &'static str,
}

/// One load of the hot term.
struct Access {
    /// Change of the index from one point of the axis to the next, by axis; `None`: not linear.
    strides: Vec<Option<Expr>>,
    /// Change of the index with the innermost reduction variable.
    along_reduction: Option<Expr>,
    bytes: i64,
}

/// The reduction that dominates the nest: a sum of products.
struct Contraction {
    loads: Vec<Access>,
}

/// Size that is assumed for a dimension that is not constant.
const TYPICAL_DIM: i64 = 64;

/// Chooses a schedule: one of wide vectors, if the nest is made of what they can do.
pub fn choose(nest: &Nest, machine: &Machine) -> Schedule {
    if let Some(wide) = &machine.wide
        && is_made_of(nest, wide)
    {
        // An axis may be too short for the widest vectors.
        for vector_bits in [wide.vector_bits, machine.vector_bits] {
            let machine = Machine { vector_bits, overwrites_factor: false, wide: None, ..*machine };
            let schedule = choose_within(nest, &machine);
            if loads_whole_vectors(nest, schedule.vector) {
                return schedule;
            }
        }
    }
    choose_within(nest, machine)
}

/// Whether all values of a nest are `f32`, made by operations that there are for wide vectors.
fn is_made_of(nest: &Nest, wide: &Wide) -> bool {
    let mut fits = nest.buffers.iter().all(|b| b.dtype == DType::F32);
    for store in &nest.stores {
        visit(&store.value, &mut |t| {
            fits &= match t.kind() {
                // A mean divides by an extent.
                TermKind::Op(ScalarOp::Cast(DType::F32), args) => {
                    matches!(args[0].kind(), TermKind::Index(_))
                }
                TermKind::Op(op, _) => matches!(t.dtype(), DType::F32 | DType::Bool) && (wide.has)(*op),
                TermKind::Reduce { op, .. } => (wide.has)(op.combine()),
                TermKind::Index(e) => nest.axes.iter().all(|(s, _)| !e.mentions(*s)),
                TermKind::Bind { .. } => false,
                TermKind::Const(_) | TermKind::Load { .. } | TermKind::If { .. } => true,
            };
        });
    }
    fits
}

/// Whether every load along the vector axis is of whole vectors, of every other element of them, or
/// of the same element; without such an axis, along the innermost variables of reductions.
fn loads_whole_vectors(nest: &Nest, axis: Option<usize>) -> bool {
    let mut whole = true;
    let mut check = |t: &Term, along: Symbol| {
        visit(t, &mut |t| {
            if let TermKind::Load { index, .. } = t.kind() {
                whole &= index[0].linear_in(along).is_some_and(|(a, _)| matches!(a.as_const(), Some(0..=2)));
            }
        });
    };
    for store in &nest.stores {
        match axis {
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

/// The schedule for a machine of one vector width.
fn choose_within(nest: &Nest, machine: &Machine) -> Schedule {
    let lanes = lanes(nest, machine);
    let natural: Vec<usize> = (0..nest.axes.len()).collect();
    let mut schedule = Schedule {
        order: natural,
        tile: vec![1; nest.axes.len()],
        vector: None,
        lanes,
        reduce_unroll: 4,
        parallel: usize::from(!nest.axes.is_empty()),
        grain: 1,
        pin: false,
        overlap: false,
        kind: "scalar",
    };
    if nest.axes.is_empty() {
        return schedule;
    }
    let vector = vector_axis(nest, lanes);
    match contraction(nest) {
        Some(c) => contract(nest, machine, &c, vector, &mut schedule),
        None => stream(nest, vector, &mut schedule),
    }
    tasks(nest, &mut schedule);
    schedule
}

fn typical(e: &Expr) -> i64 {
    e.eval(&|_| Some(TYPICAL_DIM)).unwrap_or(i64::MAX).max(0)
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
            let TermKind::Op(ScalarOp::Mul, args) = uncast(body).kind() else { return };
            if !args.iter().all(has_load) {
                return;
            }
            let free = free_symbols(t);
            let work: i64 =
                nest.axes.iter().filter(|(s, _)| free.contains(s)).map(|(_, n)| typical(n)).product();
            let all_axes = nest.axes.iter().all(|(s, _)| free.contains(s));
            if all_axes && found.as_ref().is_none_or(|(w, _)| work > *w) {
                let inner = vars.last().map(|(s, _)| *s);
                found = Some((work, Contraction { loads: accesses(nest, body, inner) }));
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
        let stride = |s: Symbol| index[0].linear_in(s).map(|(a, _)| a);
        let buffer = &nest.buffers[*input];
        out.push(Access {
            strides: nest.axes.iter().map(|(s, _)| stride(*s)).collect(),
            along_reduction: inner.and_then(stride),
            bytes: typical(&buffer.len).saturating_mul(buffer.dtype.bytes() as i64),
        });
    });
    out
}

impl Contraction {
    /// Whether neighbours along an axis share what is loaded (a window slides over it).
    fn reuses(&self, axis: usize) -> bool {
        self.loads
            .iter()
            .any(|l| l.contiguous_along(axis) && l.along_reduction.as_ref().is_some_and(|s| *s == 1))
    }
}

impl Access {
    fn depends_on(&self, axis: usize) -> bool {
        self.strides[axis].as_ref().is_none_or(|s| *s != 0)
    }

    fn contiguous_along(&self, axis: usize) -> bool {
        self.strides[axis].as_ref().is_some_and(|s| *s == 1)
    }
}

/// Element by element: wide tiles along the vector axis, or a reduction a row.
fn stream(nest: &Nest, vector: Option<usize>, s: &mut Schedule) {
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
fn prefers_own_variable(nest: &Nest, axis: usize, lanes: u16) -> bool {
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

fn contract(nest: &Nest, machine: &Machine, c: &Contraction, vector: Option<usize>, s: &mut Schedule) {
    let Some(v) = vector.filter(|v| !prefers_own_variable(nest, *v, s.lanes)) else {
        return dot(nest, c, s);
    };
    s.vector = Some(v);
    s.overlap = true;
    // Rows: the longest axis along which what is loaded in vectors stays the same.
    let shared = |axis: usize| axis != v && c.loads.iter().all(|l| !l.depends_on(v) || !l.depends_on(axis));
    let row = (0..nest.axes.len()).filter(|a| shared(*a)).max_by_key(|a| typical(&nest.axes[*a].1));
    let columns = typical(&nest.axes[v].1);
    let Some(row) = row else {
        let vectors = (columns / s.lanes as i64).max(1);
        s.tile[v] = vectors.min(machine.registers as i64 / 2).min(if c.reuses(v) { 4 } else { 8 });
        s.kind = "window";
        return;
    };
    let rows = typical(&nest.axes[row].1);
    let (r, n) = register_tile(rows, columns, s.lanes as i64, machine);
    (s.tile[row], s.tile[v]) = (r, n);
    s.pin = true;
    s.kind = "contract";
    s.order = loop_order(nest, machine, c, row, v, s);
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

/// Rows and vectors of the register tile with the least estimated cycles for the whole.
fn register_tile(rows: i64, columns: i64, lanes: i64, machine: &Machine) -> (i64, i64) {
    let mut best = (i64::MAX, (1, 1));
    // Besides accumulators and one row of vectors: a splat, its copy, and a vector that two steps
    // share where windows overlap.
    let others = 2 + i64::from(machine.overwrites_factor);
    for n in 1..=6 {
        for r in 1..=12 {
            let used = r * n + n + others;
            if used > machine.registers as i64 || r > rows.max(1) || (n - 1) * lanes >= columns.max(1) {
                continue;
            }
            let cost = tile_cost(rows, columns, lanes, (r, n), machine);
            if cost < best.0 {
                best = (cost, (r, n));
            }
        }
    }
    best.1
}

/// Sixths of a cycle of one reduction step over all tiles.
fn tile_cost(rows: i64, columns: i64, lanes: i64, (r, n): (i64, i64), machine: &Machine) -> i64 {
    let step = |r: i64, n: i64| if r * n == 0 { 0 } else { step_cost(r, n, machine) };
    let width = n * lanes;
    let tail = (columns % width + lanes - 1) / lanes;
    let row_of = |r: i64| columns / width * step(r, n) + step(r, tail);
    rows / r * row_of(r) + row_of(rows % r)
}

/// Sixths of a cycle of one reduction step of a tile: six instructions are issued a cycle, two of
/// them multiply-adds and two of them loads, and a sum is ready four cycles after the one before.
fn step_cost(r: i64, n: i64, machine: &Machine) -> i64 {
    const LATENCY: i64 = 24;
    // A splat that is used once is loaded as one.
    let splats = if n == 1 { r } else { 2 * r };
    let copies = if machine.overwrites_factor { r * (n - 1) + r * n } else { 0 };
    let issued = r * n + n + splats + copies;
    (3 * r * n).max(3 * (r + n)).max(issued).max(LATENCY) + 3
}

/// The order of loops that streams the fewest bytes again.
fn loop_order(nest: &Nest, m: &Machine, c: &Contraction, row: usize, v: usize, s: &Schedule) -> Vec<usize> {
    let others: Vec<usize> = (0..nest.axes.len()).filter(|a| *a != row && *a != v).collect();
    let tiles = |a: usize, per: i64| (typical(&nest.axes[a].1) + per - 1) / per.max(1);
    let row_tiles = tiles(row, s.tile[row]);
    let vector_tiles = tiles(v, s.tile[v] * s.lanes as i64);
    let bytes = |with: usize, without: usize| -> i64 {
        let matching = c.loads.iter().filter(|l| l.depends_on(with) && !l.depends_on(without));
        matching.map(|l| l.bytes).sum()
    };
    let (row_bytes, vector_bytes) = (bytes(row, v), bytes(v, row));
    let repeats: i64 = others
        .iter()
        .filter(|a| c.loads.iter().any(|l| l.depends_on(row) && !l.depends_on(v) && !l.depends_on(**a)))
        .map(|a| typical(&nest.axes[*a].1))
        .product();
    // What fits a cache is streamed from it at a fraction of the cost.
    let stream = |size: i64, times: i64| {
        let weight = if size <= m.l1_bytes / 2 {
            1
        } else if size <= m.l2_bytes / 2 {
            3
        } else {
            10
        };
        size.saturating_mul(times).saturating_mul(weight)
    };
    let outer_row = stream(vector_bytes, row_tiles).saturating_add(stream(row_bytes, 1));
    let inner_row =
        stream(row_bytes, repeats.saturating_mul(vector_tiles)).saturating_add(stream(vector_bytes, 1));
    let mut order = others.clone();
    if outer_row < inner_row {
        order.insert(0, row);
        order.push(v);
    } else {
        order.extend([v, row]);
    }
    order
}

/// Tasks: the outermost loops, enough of them to balance, none too small.
fn tasks(nest: &Nest, s: &mut Schedule) {
    const ENOUGH: i64 = 16;
    const POINTS: i64 = 1 << 14;
    let count = |level: usize| {
        let axis = s.order[level];
        let per = s.tile[axis] * if s.vector == Some(axis) { s.lanes as i64 } else { 1 };
        ((typical(&nest.axes[axis].1) + per - 1) / per).max(1)
    };
    let levels = s.order.len();
    let mut total = count(0);
    while s.parallel < levels && total < ENOUGH && !hoists_between(nest, s) {
        total *= count(s.parallel);
        s.parallel += 1;
    }
    // A loop of tiny tasks becomes a loop of blocks.
    if s.parallel == 1 {
        let points: i64 = nest.axes.iter().map(|(_, n)| typical(n).max(1)).fold(1, i64::saturating_mul);
        let work = typical(&nest.flops()).max(points);
        let each = (work / count(0)).max(1);
        s.grain = (POINTS / each).clamp(1, count(0));
    }
}

/// Whether something is computed for a point of the outer loops and used along the next one:
/// making that one a task as well would compute it again.
fn hoists_between(nest: &Nest, s: &Schedule) -> bool {
    let inner: Vec<Symbol> = s.order[s.parallel..].iter().map(|a| nest.axes[*a].0).collect();
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
