//! A nest: a fused group as one set of axes and the elements that are stored for each point of
//! them, with every load and store at a flat index. It says what is computed and nothing of how;
//! [`super::schedule`] decides that and [`super::emit`] writes the loops.
//!
//! [`Nest::normalise`] brings equal computations to equal nests: axes of extent one vanish, axes
//! that index expressions divide are split, and neighbours that every access walks as one are merged.

use crate::memory::typical;
use crate::packing::PANEL;
use burin_ir::loops::Access;
use burin_ir::{DType, Expr, Range, ScalarOp, Symbol, Term, TermKind};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a kernel computes.
#[derive(Clone, Debug)]
pub struct Nest {
    /// The kernel's name.
    pub name: String,
    /// The axes with their extents, outermost first in memory order of the first store.
    pub axes: Vec<(Symbol, Expr)>,
    /// The buffers; [`TermKind::Load`]'s input and [`Store::buffer`] count them.
    pub buffers: Vec<NestBuffer>,
    /// What is written at each point.
    pub stores: Vec<Store>,
}

impl Nest {
    /// A text that two nests share only where they are equal but for their names.
    pub fn text(&self) -> String {
        let mut out = format!("{:?} {:?}", self.axes, self.buffers);
        let mut numbers = HashMap::new();
        for store in &self.stores {
            text(&store.value, &mut numbers, &mut out);
            out.push_str(&format!(
                "store {} {:?} #{};",
                store.buffer,
                store.index,
                numbers[&store.value.key()]
            ));
        }
        out
    }
}

/// A buffer of a nest.
#[derive(Clone, Debug, PartialEq)]
pub struct NestBuffer {
    /// The element type.
    pub dtype: DType,
    /// The number of elements that accesses may span.
    pub len: Expr,
    /// What the nest does with it.
    pub access: Access,
    /// The elements from one panel to the next, where it lies in panels (see
    /// [`super::group::Layout`]): indices divide by their width, and vectors go along no more than one.
    pub panels: Option<i64>,
}

/// One element written at each point of the axes.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where to.
    pub buffer: usize,
    /// The flat index.
    pub index: Expr,
    /// What; its loads have one index expression each.
    pub value: Term,
}

/// What is known of symbols inside a nest: axes and reduction variables lie below their extents,
/// and dimensions are at least 1. A dimension may be 0 all the same: loops over it then never reach
/// the bodies whose indices were simplified so, and [`Bounds::runs`], which decides what may be
/// loaded ahead of a loop, does not assume it.
#[derive(Clone, Debug, Default)]
pub struct Bounds(HashMap<Symbol, Range>);

impl Bounds {
    /// Records the variable of a loop.
    pub fn variable(&mut self, symbol: Symbol, extent: &Expr) {
        let hi = extent.bounds(&|s| self.of(s)).hi.map(|n| n - 1);
        self.0.insert(symbol, Range { lo: Some(0), hi });
    }

    /// Records a value of which nothing but its range is known.
    pub fn range(&mut self, symbol: Symbol, range: Range) {
        self.0.insert(symbol, range);
    }

    /// What is known of a symbol; those never recorded are dimensions.
    pub fn of(&self, symbol: Symbol) -> Range {
        self.0.get(&symbol).copied().unwrap_or_else(|| match symbol.range() {
            Range { lo: Some(_), hi } => Range { lo: Some(1), hi },
            any => any,
        })
    }

    /// Simplifies under these bounds.
    pub fn simplify(&self, e: &Expr) -> Expr {
        e.simplify(&|s| self.of(s))
    }

    /// Whether a loop of that extent runs at all, even where a dimension is 0.
    pub fn runs(&self, extent: &Expr) -> bool {
        let of = |s: Symbol| self.0.get(&s).copied().unwrap_or_else(|| s.range());
        extent.bounds(&of).lo.is_some_and(|lo| lo >= 1)
    }

    /// Whether the expression is at least `least` for all values.
    pub fn at_least(&self, e: &Expr, least: i64) -> bool {
        e.bounds(&|s| self.of(s)).lo.is_some_and(|lo| lo >= least)
    }
}

impl Nest {
    /// What is known of the nest's symbols.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::default();
        for (s, n) in &self.axes {
            bounds.variable(*s, n);
        }
        for store in &self.stores {
            collect_bounds(&store.value, &mut bounds, &mut HashSet::new());
        }
        bounds
    }

    /// Every symbol that is neither an axis nor bound by a term: the kernel's dimensions.
    pub fn dims(&self) -> BTreeSet<Symbol> {
        let mut out = BTreeSet::new();
        let mut bound: HashSet<Symbol> = self.axes.iter().map(|(s, _)| *s).collect();
        out.extend(self.axes.iter().flat_map(|(_, n)| n.symbols()));
        out.extend(self.buffers.iter().flat_map(|b| b.len.symbols()));
        for store in &self.stores {
            out.extend(store.index.symbols());
            bound.extend(store.value.bound_symbols());
            visit(&store.value, &mut |t| for_each_expr(t, &mut |e| out.extend(e.symbols())));
        }
        out.retain(|s| !bound.contains(s));
        out
    }

    /// Brings the nest to its normal form.
    pub fn normalise(&mut self) {
        self.simplify();
        self.drop_units();
        self.split_divided();
        self.order_reductions();
        self.merge();
    }

    fn rewrite(&mut self, f: &dyn Fn(Symbol) -> Option<Expr>) {
        let bounds = self.bounds();
        for store in &mut self.stores {
            store.index = bounds.simplify(&store.index.substitute(f));
            store.value = substitute(&store.value, f, &bounds);
        }
    }

    fn simplify(&mut self) {
        self.rewrite(&|_| None);
    }

    fn drop_units(&mut self) {
        let unit = |n: &Expr| *n == 1;
        let mut gone: HashSet<Symbol> = self.axes.iter().filter(|(_, n)| unit(n)).map(|(s, _)| *s).collect();
        self.axes.retain(|(_, n)| !unit(n));
        for store in &self.stores {
            visit(&store.value, &mut |t| {
                if let TermKind::Reduce { vars, .. } = t.kind() {
                    gone.extend(vars.iter().filter(|(_, n)| unit(n)).map(|(s, _)| *s));
                }
            });
        }
        if gone.is_empty() {
            return;
        }
        for store in &mut self.stores {
            store.value = rebuild(&store.value, &mut |t| match t.kind() {
                TermKind::Reduce { op, vars, body } => {
                    let vars: Vec<_> = vars.iter().filter(|(_, n)| !unit(n)).cloned().collect();
                    let kept =
                        if vars.is_empty() { body.clone() } else { Term::reduce(*op, vars, body.clone()) };
                    Some(kept)
                }
                _ => None,
            });
        }
        self.rewrite(&|s| gone.contains(&s).then_some(Expr::ZERO));
    }

    /// Splits an axis `i` of extent `n` into `(hi, lo)` where accesses hold `i / c` and `c` divides
    /// `n`, so that the division disappears.
    fn split_divided(&mut self) {
        for round in 0..8 {
            let Some((at, by)) = self.divided_axis() else { return };
            let (symbol, extent) = self.axes[at].clone();
            let hi = Symbol::new(&format!("{symbol}h{round}"));
            let lo = Symbol::new(&format!("{symbol}l{round}"));
            let c = Expr::constant(by);
            self.axes.splice(at..=at, [(hi, extent.floor_div(&c)), (lo, c)]);
            let joined = Expr::from(hi) * by + Expr::from(lo);
            self.rewrite(&|s| (s == symbol).then(|| joined.clone()));
        }
    }

    fn divided_axis(&self) -> Option<(usize, i64)> {
        let mut found = None;
        let mut look = |e: &Expr| {
            for_each_division(e, &mut |n, c| {
                let axis = n.as_symbol().and_then(|s| self.axes.iter().position(|(a, _)| *a == s));
                if let (Some(at), None) = (axis, found)
                    && self.axes[at].1.modulo(&Expr::constant(c)) == 0
                    && self.axes[at].1 != c
                {
                    found = Some((at, c));
                }
            });
        };
        for store in &self.stores {
            look(&store.index);
            visit(&store.value, &mut |t| match t.kind() {
                // Vectors keep to a panel each.
                TermKind::Load { input, .. } if self.buffers[*input].panels.is_some() => {}
                _ => for_each_expr(t, &mut look),
            });
        }
        found
    }

    /// Puts the variables of each reduction into the order in which the first load that follows one
    /// of them walks memory, so that neighbours can be merged and the innermost one is contiguous.
    fn order_reductions(&mut self) {
        for store in &mut self.stores {
            store.value = rebuild(&store.value, &mut |t| {
                let TermKind::Reduce { op, vars, body } = t.kind() else { return None };
                let step = |e: &Expr, s: Symbol| e.linear_in(s).map_or(0, |(a, _)| typical(&a).abs());
                let mut steps: Option<Vec<i64>> = None;
                visit(body, &mut |t| {
                    if let TermKind::Load { index, .. } = t.kind()
                        && steps.is_none()
                    {
                        let all: Vec<i64> = vars.iter().map(|(s, _)| step(&index[0], *s)).collect();
                        steps = all.iter().all(|s| *s > 0).then_some(all);
                    }
                });
                let steps = steps.filter(|s| !s.is_sorted_by(|a, b| a >= b))?;
                let mut order: Vec<usize> = (0..vars.len()).collect();
                order.sort_by_key(|i| std::cmp::Reverse(steps[*i]));
                let vars = order.into_iter().map(|i| vars[i].clone()).collect();
                Some(Term::reduce(*op, vars, body.clone()))
            });
        }
    }

    /// Merges neighbouring axes, and neighbouring variables of each reduction, that every access
    /// walks as one.
    fn merge(&mut self) {
        let mut at = self.axes.len();
        while at > 1 {
            at -= 1;
            let ((a, n_a), (b, n_b)) = (self.axes[at - 1].clone(), self.axes[at].clone());
            let fits = self
                .stores
                .iter()
                .all(|s| walks_as_one(&s.index, a, b, &n_b) && term_walks_as_one(&s.value, a, b, &n_b));
            if fits {
                self.axes.splice(at - 1..=at, [(b, n_a * n_b)]);
                self.rewrite(&|s| (s == a).then_some(Expr::ZERO));
            }
        }
        let bounds = self.bounds();
        for store in &mut self.stores {
            store.value = rebuild(&store.value, &mut |t| match t.kind() {
                TermKind::Reduce { op, vars, body } => {
                    let (vars, body) = merge_reduction(vars.clone(), body.clone(), &bounds);
                    Some(Term::reduce(*op, vars, body))
                }
                _ => None,
            });
        }
    }

    /// Points of all axes together.
    pub fn points(&self) -> Expr {
        Expr::product(self.axes.iter().map(|(_, n)| n))
    }

    /// Arithmetic operations of one run, a multiply-add counted as two, and casts, comparisons and
    /// index arithmetic not at all.
    pub fn flops(&self) -> Expr {
        let points = self.points();
        let mut sum = Expr::ZERO;
        let extents: BTreeMap<Symbol, Expr> = self.axes.iter().cloned().collect();
        for store in &self.stores {
            sum = sum + term_flops(&store.value, &points, &extents, &mut HashSet::new());
        }
        sum
    }
}

/// Counts each shared sub-term once, at the points over which it varies.
fn term_flops(t: &Term, points: &Expr, axes: &BTreeMap<Symbol, Expr>, seen: &mut HashSet<usize>) -> Expr {
    if !seen.insert(t.key()) {
        return Expr::ZERO;
    }
    match t.kind() {
        TermKind::Load { .. } | TermKind::Const(_) | TermKind::Index(_) => Expr::ZERO,
        TermKind::Op(op, args) => {
            let own = match op {
                ScalarOp::Cast(_) | ScalarOp::Bitcast(_) => 0,
                ScalarOp::MulAdd | ScalarOp::Fma => 2,
                op if op.is_predicate() => 0,
                _ if t.dtype().is_float() => 1,
                _ => 0,
            };
            args.iter().fold(points * own, |s, a| s + term_flops(a, points, axes, seen))
        }
        TermKind::If { then, otherwise, .. } => {
            term_flops(then, points, axes, seen) + term_flops(otherwise, points, axes, seen)
        }
        TermKind::Bind { value, body, .. } => {
            term_flops(value, points, axes, seen) + term_flops(body, points, axes, seen)
        }
        TermKind::Reduce { vars, body, .. } => {
            let free = free_symbols(t);
            let outer = Expr::product(axes.iter().filter(|(s, _)| free.contains(s)).map(|(_, n)| n));
            let mut inner = axes.clone();
            inner.extend(vars.iter().cloned());
            let points = outer * Expr::product(vars.iter().map(|(_, n)| n));
            let own = if t.dtype().is_float() { points.clone() } else { Expr::ZERO };
            own + term_flops(body, &points, &inner, seen)
        }
    }
}

/// Every symbol that occurs in the term and is not bound inside it.
pub fn free_symbols(t: &Term) -> BTreeSet<Symbol> {
    let mut out = BTreeSet::new();
    visit(t, &mut |t| for_each_expr(t, &mut |e| out.extend(e.symbols())));
    for s in t.bound_symbols() {
        out.remove(&s);
    }
    out
}

/// Calls `f` for every distinct sub-term.
pub fn visit(t: &Term, f: &mut dyn FnMut(&Term)) {
    fn go(t: &Term, f: &mut dyn FnMut(&Term), seen: &mut HashSet<usize>) {
        if !seen.insert(t.key()) {
            return;
        }
        f(t);
        for child in children(t) {
            go(child, f, seen);
        }
    }
    go(t, f, &mut HashSet::new());
}

/// A text that two terms share only where they are equal. Each distinct sub-term is written once and
/// named by its number after that: as a tree, a term whose sub-terms are shared is exponentially
/// longer.
fn text(t: &Term, numbers: &mut HashMap<usize, usize>, out: &mut String) {
    if let Some(n) = numbers.get(&t.key()) {
        out.push_str(&format!("#{n};"));
        return;
    }
    children(t).into_iter().for_each(|child| text(child, numbers, out));
    let own = match t.kind() {
        TermKind::Load { input, index } => format!("load {input} {index:?}"),
        TermKind::Const(c) => format!("const {c:?}"),
        TermKind::Index(e) => format!("index {e:?}"),
        TermKind::Op(op, args) => format!("{op:?} {}", args.len()),
        TermKind::If { cond, .. } => format!("if {cond:?}"),
        TermKind::Reduce { op, vars, .. } => format!("reduce {op:?} {vars:?}"),
        TermKind::Bind { symbol, .. } => format!("bind {symbol:?}"),
    };
    numbers.insert(t.key(), numbers.len());
    out.push_str(&format!("{own} {};", t.dtype()));
}

/// The direct sub-terms.
pub fn children(t: &Term) -> Vec<&Term> {
    match t.kind() {
        TermKind::Load { .. } | TermKind::Const(_) | TermKind::Index(_) => Vec::new(),
        TermKind::Op(_, args) => args.iter().collect(),
        TermKind::If { then, otherwise, .. } => vec![then, otherwise],
        TermKind::Reduce { body, .. } => vec![body],
        TermKind::Bind { value, body, .. } => vec![value, body],
    }
}

/// Calls `f` for every index expression that stands directly in the term.
pub fn for_each_expr(t: &Term, f: &mut dyn FnMut(&Expr)) {
    match t.kind() {
        TermKind::Load { index, .. } => index.iter().for_each(f),
        TermKind::Index(e) => f(e),
        TermKind::If { cond, .. } => cond.iter().for_each(f),
        TermKind::Reduce { vars, .. } => vars.iter().for_each(|(_, n)| f(n)),
        TermKind::Const(_) | TermKind::Op(..) | TermKind::Bind { .. } => {}
    }
}

fn for_each_division(e: &Expr, f: &mut dyn FnMut(&Expr, i64)) {
    use burin_ir::expr::Atom;
    for atom in e.terms().iter().flat_map(|(atoms, _)| atoms) {
        match atom {
            Atom::Sym(_) => {}
            Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => {
                if let (Atom::Div(_), Some(c)) = (atom, d.1.as_const())
                    && c > 1
                {
                    f(&d.0, c);
                }
                for_each_division(&d.0, f);
                for_each_division(&d.1, f);
            }
        }
    }
}

fn collect_bounds(t: &Term, bounds: &mut Bounds, seen: &mut HashSet<usize>) {
    if !seen.insert(t.key()) {
        return;
    }
    match t.kind() {
        TermKind::Reduce { vars, .. } => vars.iter().for_each(|(s, n)| bounds.variable(*s, n)),
        // What is computed from data lies in the tensor that it indexes: never negative.
        TermKind::Bind { symbol, .. } => bounds.range(*symbol, Range::ALL),
        _ => {}
    }
    for c in children(t) {
        collect_bounds(c, bounds, seen);
    }
}

/// Rebuilds a term bottom-up; where `f` answers a term it replaces the one given.
pub fn rebuild(t: &Term, f: &mut dyn FnMut(&Term) -> Option<Term>) -> Term {
    fn go(t: &Term, f: &mut dyn FnMut(&Term) -> Option<Term>, seen: &mut HashMap<usize, Term>) -> Term {
        if let Some(done) = seen.get(&t.key()) {
            return done.clone();
        }
        let kind = match t.kind() {
            TermKind::Load { .. } | TermKind::Const(_) | TermKind::Index(_) => None,
            TermKind::Op(op, args) => Some(TermKind::Op(*op, args.iter().map(|a| go(a, f, seen)).collect())),
            TermKind::If { cond, then, otherwise } => Some(TermKind::If {
                cond: cond.clone(),
                then: go(then, f, seen),
                otherwise: go(otherwise, f, seen),
            }),
            TermKind::Reduce { op, vars, body } => {
                Some(TermKind::Reduce { op: *op, vars: vars.clone(), body: go(body, f, seen) })
            }
            TermKind::Bind { symbol, value, body } => {
                Some(TermKind::Bind { symbol: *symbol, value: go(value, f, seen), body: go(body, f, seen) })
            }
        };
        let new = kind.map_or_else(|| t.clone(), |k| Term::new(t.dtype(), k));
        let new = f(&new).unwrap_or(new);
        seen.insert(t.key(), new.clone());
        new
    }
    go(t, f, &mut HashMap::new())
}

/// Replaces symbols in every index expression and simplifies what results.
fn substitute(t: &Term, f: &dyn Fn(Symbol) -> Option<Expr>, bounds: &Bounds) -> Term {
    let sub = |e: &Expr| bounds.simplify(&e.substitute(f));
    rebuild(t, &mut |t| match t.kind() {
        TermKind::Load { input, index } => {
            Some(Term::load(t.dtype(), *input, index.iter().map(&sub).collect()))
        }
        TermKind::Index(e) => Some(Term::index(sub(e))),
        // Every operation rounds its result.
        TermKind::Op(ScalarOp::Cast(to), args) if *to == args[0].dtype() => Some(args[0].clone()),
        TermKind::If { cond, then, otherwise } => {
            // A condition that the bounds decide is dropped, or decides the whole.
            let holds = |e: &Expr| bounds.at_least(e, 0);
            let cond: Vec<Expr> = cond.iter().map(&sub).filter(|e| !holds(e)).collect();
            Some(Term::when(cond, then.clone(), otherwise.clone()))
        }
        TermKind::Reduce { op, vars, body } => {
            let vars = vars.iter().map(|(s, n)| (*s, sub(n))).collect();
            Some(Term::reduce(*op, vars, body.clone()))
        }
        _ => None,
    })
}

/// How an index changes from one value of a symbol to the next within a panel; `None` where that
/// varies.
pub fn step_along(e: &Expr, s: Symbol) -> Option<Expr> {
    if let Some((step, _)) = e.linear_in(s) {
        return Some(step);
    }
    let (panel, lane) = (Symbol::new("panel"), Symbol::new("lane"));
    let at = Expr::from(panel) * PANEL + Expr::from(lane);
    let within = |x: Symbol| if x == lane { Range::new(0, PANEL - 1) } else { x.range() };
    let e = e.substitute(&|x| (x == s).then(|| at.clone())).simplify(&within);
    e.linear_in(lane).map(|(step, _)| step)
}

/// Whether `e` walks `a` (outer) and `b` (inner, of extent `n_b`) as one index.
fn walks_as_one(e: &Expr, a: Symbol, b: Symbol, n_b: &Expr) -> bool {
    match (e.linear_in(a), e.linear_in(b)) {
        (Some((ca, _)), Some((cb, _))) => ca == &cb * n_b && !cb.mentions(a) && !ca.mentions(b),
        _ => false,
    }
}

fn term_walks_as_one(t: &Term, a: Symbol, b: Symbol, n_b: &Expr) -> bool {
    let mut fits = true;
    visit(t, &mut |t| match t.kind() {
        TermKind::Load { index, .. } => fits &= index.iter().all(|e| walks_as_one(e, a, b, n_b)),
        _ => for_each_expr(t, &mut |e| fits &= !e.mentions(a) && !e.mentions(b)),
    });
    fits
}

fn merge_reduction(
    mut vars: Vec<(Symbol, Expr)>,
    mut body: Term,
    bounds: &Bounds,
) -> (Vec<(Symbol, Expr)>, Term) {
    let mut at = vars.len();
    while at > 1 {
        at -= 1;
        let ((a, n_a), (b, n_b)) = (vars[at - 1].clone(), vars[at].clone());
        if term_walks_as_one(&body, a, b, &n_b) {
            vars.splice(at - 1..=at, [(b, n_a * n_b)]);
            let mut wider = bounds.clone();
            wider.variable(b, &vars[at - 1].1);
            body = substitute(&body, &|s| (s == a).then_some(Expr::ZERO), &wider);
        }
    }
    (vars, body)
}
