//! Instructions of a nest: how often each term is computed, and what that takes.
//!
//! [`emit`](crate::lower::emit) computes a term in the outermost loop where it is defined, once for all
//! points of the register tile that share it; here its evaluations are counted by the same rule, without
//! writing the loops. Each reduction is a part, and what is left another: parts follow each other.

use super::{CYCLE, LATENCY, Limit, Sizes, TURN, Tile, Work, points, step, tile_cost, turns};
use crate::lower::nest::{Nest, children, free_symbols, step_along, visit};
use crate::lower::schedule::{Machine, Multiply, Schedule, contraction, uncast};
use crate::memory::typical;
use burin_ir::{Expr, ReduceOp, ScalarOp, Symbol, Term, TermKind};
use std::collections::{BTreeSet, HashSet};

/// Innermost variables of a reduction are unrolled up to so many steps, which then share loads.
const UNROLLED: i64 = 27;
/// A store a cycle, and two loads.
const STORE: f64 = CYCLE as f64;
const LOAD: f64 = CYCLE as f64 / 2.0;

/// What all instructions take.
pub(super) struct Total {
    pub(super) cycles: f64,
    pub(super) limit: Limit,
    /// Lanes of the part that takes longest.
    pub(super) lanes: u16,
}

/// A loop among those of a nest.
struct Part {
    sixths: f64,
    limit: Limit,
    lanes: u16,
}

/// Reductions around a term.
#[derive(Clone, Default)]
struct Scope {
    vars: Vec<(Symbol, i64)>,
    /// How many of the outer levels run it again.
    depth: usize,
    /// The variable that vectors go along, if no axis.
    vector: Option<Symbol>,
}

struct Counter<'a> {
    nest: &'a Nest,
    s: &'a Schedule,
    machine: &'a Machine,
    turns: Vec<f64>,
    seen: HashSet<usize>,
    /// The sum of products that register tiles were chosen for.
    hot: Option<usize>,
    parts: Vec<Part>,
}

/// Counts a nest's instructions.
pub(super) fn count(nest: &Nest, s: &Schedule, machine: &Machine) -> Total {
    let hot = contraction(nest).filter(|_| s.kind == "contract").map(|c| c.key);
    let (turns, seen) = (turns(nest, s), HashSet::new());
    let mut c = Counter { nest, s, machine, turns, seen, hot, parts: Vec::new() };
    let mut rest = Work::default();
    let tiles: f64 = c.turns.iter().product();
    for store in &nest.stores {
        c.term(&store.value, &Scope::default(), &mut rest);
        let all: Vec<usize> = (0..nest.axes.len()).collect();
        let stores = tiles * c.tile_points(&all);
        rest.stores += STORE * stores;
        rest.issued += stores;
    }
    rest.turns = TURN as f64 * tiles;
    let lanes = if s.vector.is_some() { s.lanes } else { 1 };
    c.parts.push(Part { sixths: rest.sixths(), limit: rest.limit(Limit::Arithmetic), lanes });
    let sixths: f64 = c.parts.iter().map(|p| p.sixths).sum();
    let longest = c.parts.iter().max_by(|a, b| a.sixths.total_cmp(&b.sixths));
    let (limit, lanes) = longest.map_or((Limit::Call, 1), |p| (p.limit, p.lanes));
    Total { cycles: sixths / CYCLE as f64, limit, lanes }
}

impl Counter<'_> {
    /// Adds a term, each shared one once.
    fn term(&mut self, t: &Term, scope: &Scope, work: &mut Work) {
        if !self.seen.insert(t.key()) {
            return;
        }
        match t.kind() {
            TermKind::Const(_) | TermKind::Index(_) => {}
            TermKind::Load { index, .. } => self.load(&index[0], &free_symbols(t), scope, work),
            TermKind::Reduce { op, vars, body } => self.reduce(t, *op, vars, body, scope),
            TermKind::Op(op, args) => {
                args.iter().for_each(|a| self.term(a, scope, work));
                let runs = self.runs(&free_symbols(t), scope);
                work.arithmetic += runs * takes(*op);
                work.issued += runs * (takes(*op) / LOAD).max(1.0);
            }
            _ => children(t).into_iter().for_each(|c| self.term(c, scope, work)),
        }
    }

    /// Vectors of elements that are not neighbours are picked together lane by lane.
    fn load(&mut self, index: &Expr, free: &BTreeSet<Symbol>, scope: &Scope, work: &mut Work) {
        let axis = self.s.vector.map(|v| self.nest.axes[v].0);
        let lanes = f64::from(self.s.lanes);
        let each = match scope.vector.or(axis).filter(|v| free.contains(v)) {
            None => 1.0,
            Some(v) => match step_along(index, v).and_then(|e| e.as_const()) {
                Some(0 | 1) => 1.0,
                Some(2) => 2.0,
                _ => lanes,
            },
        };
        let runs = self.distinct(index, free, scope).unwrap_or_else(|| self.runs(free, scope));
        work.loads += LOAD * runs * each;
        work.issued += runs * each;
        if each > 1.0 {
            work.arithmetic += LOAD * runs * each;
        }
    }

    /// A reduction, as a part of its own.
    fn reduce(&mut self, t: &Term, op: ReduceOp, vars: &[(Symbol, Expr)], body: &Term, outer: &Scope) {
        let free = free_symbols(t);
        let mut scope = outer.clone();
        scope.vars.extend(vars.iter().map(|(v, n)| (*v, typical(n).max(1))));
        scope.depth = self.depth(&free).max(outer.depth);
        let along_axis = self.s.vector.is_some_and(|v| free.contains(&self.nest.axes[v].0));
        scope.vector = vars.last().filter(|v| !along_axis && self.fills(v, body)).map(|(v, _)| *v);
        let product = match uncast(body).kind() {
            TermKind::Op(product, args) if product.accumulating().is_some() && op == ReduceOp::Sum => {
                Some(args)
            }
            _ => None,
        };
        let arithmetic = if product.is_some() { Limit::MultiplyAdds } else { Limit::Arithmetic };
        let lanes = if along_axis || scope.vector.is_some() { self.s.lanes } else { 1 };
        if self.hot == Some(t.key()) {
            let (sixths, work) = self.tiled(&scope);
            self.parts.push(Part { sixths, limit: work.limit(arithmetic), lanes });
            return;
        }
        let mut work = Work::default();
        match product {
            Some(args) => args.iter().for_each(|a| self.term(a, &scope, &mut work)),
            None => self.term(body, &scope, &mut work),
        }
        let mut inner = free.clone();
        inner.extend(scope.vars.iter().map(|(v, _)| *v));
        let terms = self.runs(&inner, &scope);
        work.arithmetic += terms * takes(op.combine());
        work.issued += terms;
        let own = scope.vector.map_or(1.0, |_| self.s.reduce_unroll.max(1) as f64);
        let steps = terms / (self.tile_points(&self.axes_in(&free)) * own);
        work.waits = steps * LATENCY as f64;
        let together = self.unrolled(&scope).iter().fold(1, |all: i64, (_, n)| all.saturating_mul(*n));
        work.turns = steps * TURN as f64 / together as f64;
        self.parts.push(Part { sixths: work.sixths(), limit: work.limit(arithmetic), lanes });
    }

    /// The sum of products that register tiles were chosen for: all of it, and one step of a tile.
    fn tiled(&self, scope: &Scope) -> (f64, Work) {
        let (s, nest) = (self.s, self.nest);
        let size = |a: Option<&usize>| a.map_or(1, |a| typical(&nest.axes[*a].1).max(1));
        let tile = |a: Option<&usize>| a.map_or(1, |a| s.tile[*a]);
        let rows: Vec<usize> =
            (0..nest.axes.len()).rev().filter(|a| s.vector != Some(*a) && s.tile[*a] > 1).collect();
        let v = s.vector.as_ref();
        let t = Tile { rows: tile(rows.first()), outer_rows: tile(rows.get(1)), vectors: tile(v) };
        let contraction = contraction(nest);
        let sizes = Sizes {
            rows: size(rows.first()),
            outer_rows: size(rows.get(1)),
            columns: size(v),
            lanes: i64::from(s.lanes),
            panels: s.panels,
            // The tile was chosen with its conflicts in view.
            steps: [0; 2],
            converts: contraction.as_ref().zip(s.vector).map_or([false; 2], |(c, v)| c.converts(v)),
            multiply: contraction.as_ref().map_or(Multiply::Once, |c| c.multiply(self.machine)),
        };
        let covered = |a: &usize| s.vector != Some(*a) && !rows.iter().take(2).any(|r| r == a);
        let others = (0..nest.axes.len()).filter(covered).map(|a| typical(&nest.axes[a].1).max(1));
        let steps = scope.vars.iter().map(|(_, n)| *n).chain(others).map(|n| n as f64).product::<f64>();
        let sixths = tile_cost(&sizes, t, self.machine) as f64 * steps;
        (sixths, step(t.rows * t.outer_rows, t.vectors, &sizes, self.machine))
    }

    /// How often a term is computed that depends on these symbols.
    fn runs(&self, free: &BTreeSet<Symbol>, scope: &Scope) -> f64 {
        let steps = match scope.vars.iter().rposition(|(v, _)| free.contains(v)) {
            Some(last) => scope.vars[..=last].iter().map(|v| self.steps(v, scope)).product(),
            None => 1.0,
        };
        self.outside(free, scope) * self.tile_points(&self.axes_in(free)) * steps
    }

    /// Turns of the levels around a term.
    fn outside(&self, free: &BTreeSet<Symbol>, scope: &Scope) -> f64 {
        let varies = scope.vars.iter().any(|(v, _)| free.contains(v));
        let depth = if varies { scope.depth } else { self.depth(free) };
        self.turns[..depth].iter().product()
    }

    /// [`Counter::runs`] of a load whose points in a tile and steps of an unrolled window overlap.
    fn distinct(&self, index: &Expr, free: &BTreeSet<Symbol>, scope: &Scope) -> Option<f64> {
        let unrolled = self.unrolled(scope);
        if !unrolled.iter().any(|(v, _)| free.contains(v)) {
            return None;
        }
        let mut places = BTreeSet::from([0]);
        let mut spread = |n: i64, step: i64| {
            places = places.iter().flat_map(|p| (0..n).map(move |i| p + i * step)).collect();
        };
        let along = |v: Symbol| step_along(index, v).and_then(|e| e.as_const());
        for axis in self.axes_in(free) {
            let lanes = if self.s.vector == Some(axis) { i64::from(self.s.lanes) } else { 1 };
            spread(self.tile_points(&[axis]).ceil() as i64, along(self.nest.axes[axis].0)? * lanes);
        }
        for (v, n) in unrolled {
            spread(*n, along(*v)?);
        }
        let looped = &scope.vars[..scope.vars.len() - unrolled.len()];
        let steps: f64 = looped.iter().map(|v| self.steps(v, scope)).product();
        Some(self.outside(free, scope) * steps * places.len() as f64)
    }

    /// The innermost variables, whose steps stand one behind the other.
    fn unrolled<'s>(&self, scope: &'s Scope) -> &'s [(Symbol, i64)] {
        let mut steps = 1;
        let fits = |(v, n): &&(Symbol, i64)| {
            steps = i64::saturating_mul(steps, *n);
            scope.vector != Some(*v) && steps <= UNROLLED
        };
        let count = scope.vars.iter().rev().take_while(fits).count();
        &scope.vars[scope.vars.len() - count..]
    }

    fn steps(&self, (v, n): &(Symbol, i64), scope: &Scope) -> f64 {
        let lanes = if scope.vector == Some(*v) { f64::from(self.s.lanes) } else { 1.0 };
        (*n as f64 / lanes).ceil()
    }

    fn axes_in(&self, free: &BTreeSet<Symbol>) -> Vec<usize> {
        (0..self.nest.axes.len()).filter(|a| free.contains(&self.nest.axes[*a].0)).collect()
    }

    /// Points (or vectors) of a tile along some axes.
    fn tile_points(&self, axes: &[usize]) -> f64 {
        let of = |a: &usize| (self.s.tile[*a].max(1) as f64).min(points(self.nest, self.s, *a));
        axes.iter().map(of).product()
    }

    /// The number of levels up to the innermost one that walks any of these symbols.
    fn depth(&self, free: &BTreeSet<Symbol>) -> usize {
        let walks = |l: &crate::lower::schedule::Level| free.contains(&self.nest.axes[l.axis()].0);
        self.s.order.iter().rposition(walks).map_or(0, |l| l + 1)
    }

    /// Whether vectors along a reduction's variable load neighbours, and fill.
    fn fills(&self, (var, extent): &(Symbol, Expr), body: &Term) -> bool {
        let (mut neighbours, mut known) = (false, true);
        visit(body, &mut |t| {
            if let TermKind::Load { index, .. } = t.kind() {
                let step = step_along(&index[0], *var).and_then(|e| e.as_const());
                neighbours |= step == Some(1);
                known &= step.is_some();
            }
        });
        neighbours && known && typical(extent) >= i64::from(self.s.lanes)
    }
}

/// Sixths of a cycle that an operation occupies both arithmetic units for; functions are polynomials.
fn takes(op: ScalarOp) -> f64 {
    use ScalarOp::*;
    let cycles = match op {
        Cast(_) | Bitcast(_) => 0.5,
        Div | Sqrt => 6.0,
        Exp => 7.0,
        Log | Sin | Cos | Sinh | Cosh => 12.0,
        Tanh | Erf => 16.0,
        Tan | Asin | Acos | Atan | Asinh | Acosh | Atanh | Pow | Rem | Mod => 30.0,
        _ => 0.5,
    };
    cycles * CYCLE as f64
}
