//! Integer expressions over symbols: the algebra of dimensions, strides, loop bounds and indices.
//!
//! An [`Expr`] is a polynomial with integer coefficients in canonical form: a constant and a sorted
//! list of distinct monomials, each a sorted product of [`Atom`]s with a non-zero coefficient. Two
//! expressions that are equal as polynomials are therefore `==`. Floor division, `min` and `max`
//! are atoms. There is no remainder: `a % b` is `a - b * (a / b)`, so that `b * (a / b) + a % b`
//! is `a` without any rule for it.
//!
//! Division rounds towards minus infinity, and a division by zero is zero. Coefficients that
//! overflow saturate; [`Expr::eval`] answers `None` on overflow, and every size that a program
//! uses is checked through it.

use crate::symbol::Symbol;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops;

/// How deep minima and maxima within each other are compared.
const DEPTH: usize = 4;

/// A factor of a monomial.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Atom {
    /// A symbol.
    Sym(Symbol),
    /// Floor division.
    Div(Box<(Expr, Expr)>),
    /// The smaller of two.
    Min(Box<(Expr, Expr)>),
    /// The larger of two.
    Max(Box<(Expr, Expr)>),
}

/// An integer expression in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Expr {
    terms: Vec<(Vec<Atom>, i64)>,
    constant: i64,
}

/// An inclusive range of integers; `None` is unbounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The least value, if there is one.
    pub lo: Option<i64>,
    /// The greatest value, if there is one.
    pub hi: Option<i64>,
}

impl Range {
    /// Every integer.
    pub const ALL: Range = Range { lo: None, hi: None };
    /// Zero and above: what a dimension can be.
    pub const NON_NEGATIVE: Range = Range { lo: Some(0), hi: None };

    /// `lo..=hi`.
    pub const fn new(lo: i64, hi: i64) -> Range {
        Range { lo: Some(lo), hi: Some(hi) }
    }

    fn map2(a: Option<i64>, b: Option<i64>, f: impl Fn(i64, i64) -> Option<i64>) -> Option<i64> {
        f(a?, b?)
    }

    /// What lies in both.
    fn and(self, o: Range) -> Range {
        let tighter = |a: Option<i64>, b: Option<i64>, f: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(f(a, b)),
            (a, b) => a.or(b),
        };
        Range { lo: tighter(self.lo, o.lo, i64::max), hi: tighter(self.hi, o.hi, i64::min) }
    }

    fn plus(self, o: Range) -> Range {
        Range {
            lo: Self::map2(self.lo, o.lo, i64::checked_add),
            hi: Self::map2(self.hi, o.hi, i64::checked_add),
        }
    }

    fn scaled(self, k: i64) -> Range {
        let (lo, hi) = (self.lo.and_then(|v| v.checked_mul(k)), self.hi.and_then(|v| v.checked_mul(k)));
        if k < 0 { Range { lo: hi, hi: lo } } else { Range { lo, hi } }
    }

    fn times(self, o: Range) -> Range {
        if let (Some(a), Some(b), Some(c), Some(d)) = (self.lo, self.hi, o.lo, o.hi) {
            let all = [a.checked_mul(c), a.checked_mul(d), b.checked_mul(c), b.checked_mul(d)];
            if all.iter().any(Option::is_none) {
                return Range::ALL;
            }
            let all = all.map(|v| v.unwrap_or(0));
            return Range { lo: all.iter().min().copied(), hi: all.iter().max().copied() };
        }
        match (self.lo, o.lo) {
            (Some(a), Some(c)) if a >= 0 && c >= 0 => Range { lo: a.checked_mul(c), hi: None },
            _ => Range::ALL,
        }
    }
}

/// What is known of a symbol's values.
pub type Ranges<'a> = &'a dyn Fn(Symbol) -> Range;

impl Expr {
    /// A constant.
    pub const fn constant(value: i64) -> Expr {
        Expr { terms: Vec::new(), constant: value }
    }

    /// Zero.
    pub const ZERO: Expr = Expr::constant(0);
    /// One.
    pub const ONE: Expr = Expr::constant(1);

    /// A symbol of that name.
    pub fn named(name: &str) -> Expr {
        Symbol::new(name).into()
    }

    fn atom(atom: Atom) -> Expr {
        Expr { terms: vec![(vec![atom], 1)], constant: 0 }
    }

    /// The value, if this is a constant.
    pub fn as_const(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The symbol, if this is exactly one.
    pub fn as_symbol(&self) -> Option<Symbol> {
        match (&self.terms[..], self.constant) {
            ([(atoms, 1)], 0) => match &atoms[..] {
                [Atom::Sym(s)] => Some(*s),
                _ => None,
            },
            _ => None,
        }
    }

    /// The monomials with their coefficients, without the constant.
    pub fn terms(&self) -> &[(Vec<Atom>, i64)] {
        &self.terms
    }

    /// The constant term.
    pub fn constant_term(&self) -> i64 {
        self.constant
    }

    fn push(&mut self, atoms: Vec<Atom>, coefficient: i64) {
        if coefficient == 0 {
            return;
        }
        if atoms.is_empty() {
            self.constant = self.constant.saturating_add(coefficient);
            return;
        }
        match self.terms.binary_search_by(|(a, _)| a.cmp(&atoms)) {
            Ok(i) => {
                self.terms[i].1 = self.terms[i].1.saturating_add(coefficient);
                if self.terms[i].1 == 0 {
                    self.terms.remove(i);
                }
            }
            Err(i) => self.terms.insert(i, (atoms, coefficient)),
        }
    }

    fn times(&self, other: &Expr) -> Expr {
        if let Some(k) = other.as_const() {
            return self.scaled(k);
        }
        if let Some(k) = self.as_const() {
            return other.scaled(k);
        }
        let mut out = Expr::default();
        let one = |e: &Expr| {
            let mut all = e.terms.clone();
            all.push((Vec::new(), e.constant));
            all
        };
        for (a, ca) in one(self) {
            for (b, cb) in one(other) {
                let mut atoms: Vec<Atom> = a.iter().chain(&b).cloned().collect();
                atoms.sort();
                out.push(atoms, ca.saturating_mul(cb));
            }
        }
        out
    }

    fn scaled(&self, k: i64) -> Expr {
        if k == 0 {
            return Expr::ZERO;
        }
        Expr {
            terms: self.terms.iter().map(|(a, c)| (a.clone(), c.saturating_mul(k))).collect(),
            constant: self.constant.saturating_mul(k),
        }
    }

    /// Splits `self` into `divisor * q + r` by moving every monomial that the divisor divides into
    /// `q`. For a constant divisor the constant of `r` lies in `0..divisor`.
    fn split_by(&self, divisor: &Expr) -> (Expr, Expr) {
        let (mut q, mut r) = (Expr::default(), Expr::default());
        match divisor.as_const() {
            Some(d) => {
                for (atoms, c) in &self.terms {
                    if c % d == 0 {
                        q.push(atoms.clone(), c / d);
                    } else {
                        r.push(atoms.clone(), *c);
                    }
                }
                q.constant = self.constant.div_euclid(d);
                r.constant = self.constant.rem_euclid(d);
            }
            None => {
                let ([(by, k)], 0) = (&divisor.terms[..], divisor.constant) else {
                    return (q, self.clone());
                };
                r.constant = self.constant;
                for (atoms, c) in &self.terms {
                    match remove_all(atoms, by) {
                        Some(rest) if c.checked_rem(*k) == Some(0) => q.push(rest, c / k),
                        _ => r.push(atoms.clone(), *c),
                    }
                }
            }
        }
        (q, r)
    }

    /// `self / divisor`, rounded towards minus infinity; zero when the divisor is zero.
    pub fn floor_div(&self, divisor: &Expr) -> Expr {
        self.floor_div_within(divisor, &|_| Range::ALL)
    }

    /// [`Expr::floor_div`], using what is known of the symbols.
    pub fn floor_div_within(&self, divisor: &Expr, ranges: Ranges<'_>) -> Expr {
        match divisor.as_const() {
            Some(0) => return Expr::ZERO,
            Some(1) => return self.clone(),
            Some(-1) => return self.scaled(-1),
            Some(d) if d < 0 => {
                return self.scaled(-1).floor_div_within(&Expr::constant(d.saturating_neg()), ranges);
            }
            Some(d) => {
                if let Some(n) = self.as_const() {
                    return n.div_euclid(d).into();
                }
            }
            None if self == divisor && divisor.is_positive(ranges) => return Expr::ONE,
            None if *self == Expr::ZERO => return Expr::ZERO,
            None => {}
        }
        // With a symbolic divisor that may be zero, d * q / d is not q.
        if divisor.as_const().is_none() && !divisor.is_positive(ranges) {
            return Expr::atom(Atom::Div(Box::new((self.clone(), divisor.clone()))));
        }
        let (q, r) = self.split_by(divisor);
        let fits = r.bounds(ranges).lo.is_some_and(|lo| lo >= 0)
            && (divisor - &r).bounds(ranges).lo.is_some_and(|lo| lo >= 1);
        if r == Expr::ZERO || fits {
            return q;
        }
        // (x / a + c) / b is (x + a c) / (a b) for positive constants: one division instead of two.
        if let (Some(d), [(atoms, 1)], c) = (divisor.as_const(), &r.terms[..], r.constant)
            && let [Atom::Div(inner)] = &atoms[..]
            && let Some(a) = inner.1.as_const()
            && a > 0
            && let Some(ad) = a.checked_mul(d)
        {
            let n = &inner.0 + &Expr::constant(a.saturating_mul(c));
            return q + n.floor_div_within(&Expr::constant(ad), ranges);
        }
        q + Expr::atom(Atom::Div(Box::new((r, divisor.clone()))))
    }

    /// `self / divisor`, rounded up.
    pub fn ceil_div(&self, divisor: &Expr) -> Expr {
        (self + divisor - Expr::ONE).floor_div(divisor)
    }

    /// The remainder of [`Expr::floor_div`], which has the divisor's sign.
    pub fn modulo(&self, divisor: &Expr) -> Expr {
        self - &(divisor * &self.floor_div(divisor))
    }

    /// 1 where it is zero, else 0.
    pub fn is_zero(&self) -> Expr {
        (Expr::ONE - self.maximum(&-self)).maximum(&Expr::ZERO)
    }

    /// 1 where it is below zero, else 0.
    pub fn is_negative(&self) -> Expr {
        -&self.minimum(&Expr::ZERO).maximum(&Expr::constant(-1))
    }

    /// The smaller of two.
    pub fn minimum(&self, other: &Expr) -> Expr {
        if other.is_at_least(self, DEPTH) {
            return self.clone();
        }
        if self.is_at_least(other, DEPTH) {
            return other.clone();
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Expr::atom(Atom::Min(Box::new((a.clone(), b.clone()))))
    }

    /// The larger of two.
    pub fn maximum(&self, other: &Expr) -> Expr {
        if self.is_at_least(other, DEPTH) {
            return self.clone();
        }
        if other.is_at_least(self, DEPTH) {
            return other.clone();
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Expr::atom(Atom::Max(Box::new((a.clone(), b.clone()))))
    }

    /// Whether no value of the symbols makes this less than the other, as far as their form tells: `x` is no
    /// less than `min(x, y)`, and `max(x, y)` no less than `x`.
    fn is_at_least(&self, other: &Expr, depth: usize) -> bool {
        if let Some(d) = (self - other).as_const() {
            return d >= 0;
        }
        let Some(depth) = depth.checked_sub(1) else { return false };
        let above = self.extreme().is_some_and(|(atom, k, pair)| {
            let mut sides = [&pair.0, &pair.1].into_iter().map(|e| (e + k).is_at_least(other, depth));
            if matches!(atom, Atom::Max(_)) { sides.any(|s| s) } else { sides.all(|s| s) }
        });
        above
            || other.extreme().is_some_and(|(atom, k, pair)| {
                let mut sides = [&pair.0, &pair.1].into_iter().map(|e| self.is_at_least(&(e + k), depth));
                if matches!(atom, Atom::Min(_)) { sides.any(|s| s) } else { sides.all(|s| s) }
            })
    }

    /// The minimum or maximum that this is but for a constant, the constant, and of which two.
    fn extreme(&self) -> Option<(&Atom, i64, &(Expr, Expr))> {
        let [(atoms, 1)] = &self.terms[..] else { return None };
        match &atoms[..] {
            [atom @ (Atom::Min(pair) | Atom::Max(pair))] => Some((atom, self.constant, pair)),
            _ => None,
        }
    }

    fn is_positive(&self, ranges: Ranges<'_>) -> bool {
        self.bounds(ranges).lo.is_some_and(|lo| lo >= 1)
    }

    /// A range that holds every value of this expression (not always the tightest).
    pub fn bounds(&self, ranges: Ranges<'_>) -> Range {
        let mut all = Range::new(self.constant, self.constant);
        for (atoms, c) in &self.terms {
            let product = atoms.iter().map(|a| a.bounds(ranges)).fold(Range::new(1, 1), Range::times);
            all = all.plus(product.scaled(*c));
        }
        // A remainder x - c * (x / c) lies in 0..c, which plain interval arithmetic cannot see.
        for (atoms, m) in &self.terms {
            if let [Atom::Div(d)] = &atoms[..]
                && let Some(c) = d.1.as_const()
                && c > 0
                && m % c == 0
            {
                let k = -(m / c);
                let rest = self - &Expr { terms: vec![(atoms.clone(), *m)], constant: 0 } - d.0.scaled(k);
                if rest.terms.len() < self.terms.len() {
                    all = all.and(Range::new(0, c - 1).scaled(k).plus(rest.bounds(ranges)));
                }
            }
        }
        all
    }

    /// How many names and numbers stand in it, those within divisions, minima and maxima included: what it
    /// costs to walk through it.
    pub fn length(&self) -> usize {
        let of = |a: &Atom| match a {
            Atom::Sym(_) => 1,
            Atom::Div(pair) | Atom::Min(pair) | Atom::Max(pair) => pair.0.length() + pair.1.length(),
        };
        1 + self.terms.iter().map(|(atoms, _)| 1 + atoms.iter().map(of).sum::<usize>()).sum::<usize>()
    }

    /// Rebuilds the expression, resolving divisions, minima and maxima that the ranges decide.
    pub fn simplify(&self, ranges: Ranges<'_>) -> Expr {
        if self.terms.iter().all(|(a, _)| a.iter().all(|a| matches!(a, Atom::Sym(_)))) {
            return self.clone();
        }
        self.rebuild(&mut |atom| match atom {
            Atom::Sym(s) => (*s).into(),
            Atom::Div(d) => d.0.simplify(ranges).floor_div_within(&d.1.simplify(ranges), ranges),
            Atom::Min(m) | Atom::Max(m) => {
                let (a, b) = (m.0.simplify(ranges), m.1.simplify(ranges));
                let least = matches!(atom, Atom::Min(_));
                let difference = (&a - &b).bounds(ranges);
                match (difference.lo, difference.hi) {
                    (_, Some(hi)) if hi <= 0 => {
                        if least {
                            a
                        } else {
                            b
                        }
                    }
                    (Some(lo), _) if lo >= 0 => {
                        if least {
                            b
                        } else {
                            a
                        }
                    }
                    _ if least => a.minimum(&b),
                    _ => a.maximum(&b),
                }
            }
        })
    }

    fn rebuild(&self, f: &mut dyn FnMut(&Atom) -> Expr) -> Expr {
        let mut out = Expr::constant(self.constant);
        for (atoms, c) in &self.terms {
            let product = atoms.iter().fold(Expr::constant(*c), |p, a| p.times(&f(a)));
            out = out + product;
        }
        out
    }

    /// Replaces by what `f` makes of it each largest part without the symbols that `local` answers for: sums
    /// that stand alone or are factors of products, here or within divisions, minima and maxima.
    pub fn map_free(&self, local: &dyn Fn(Symbol) -> bool, f: &mut dyn FnMut(Expr) -> Expr) -> Expr {
        let mut by_factors: BTreeMap<Vec<Atom>, Expr> = BTreeMap::new();
        by_factors.insert(Vec::new(), Expr::constant(self.constant));
        for (atoms, c) in &self.terms {
            let (own, free) = atoms.iter().cloned().partition(|a| Expr::atom(a.clone()).any_symbol(local));
            by_factors.entry(own).or_default().push(free, *c);
        }
        let mut out = Expr::ZERO;
        for (factors, sum) in by_factors {
            let sum = if sum.terms.is_empty() { sum } else { f(sum) };
            out = out + factors.iter().fold(sum, |p, a| p.times(&a.map_free(local, f)));
        }
        out
    }

    /// Whether a symbol occurs of which this holds.
    pub fn any_symbol(&self, holds: &dyn Fn(Symbol) -> bool) -> bool {
        self.terms.iter().flat_map(|(a, _)| a).any(|atom| match atom {
            Atom::Sym(s) => holds(*s),
            Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => d.0.any_symbol(holds) || d.1.any_symbol(holds),
        })
    }

    /// Replaces symbols for which `f` has an expression.
    pub fn substitute(&self, f: &dyn Fn(Symbol) -> Option<Expr>) -> Expr {
        if self.terms.is_empty() {
            return self.clone();
        }
        self.rebuild(&mut |atom| match atom {
            Atom::Sym(s) => f(*s).unwrap_or_else(|| (*s).into()),
            Atom::Div(d) => d.0.substitute(f).floor_div(&d.1.substitute(f)),
            Atom::Min(m) => m.0.substitute(f).minimum(&m.1.substitute(f)),
            Atom::Max(m) => m.0.substitute(f).maximum(&m.1.substitute(f)),
        })
    }

    /// The value where `f` knows every symbol and nothing overflows.
    pub fn eval(&self, f: &dyn Fn(Symbol) -> Option<i64>) -> Option<i64> {
        let mut sum = self.constant;
        for (atoms, c) in &self.terms {
            let mut product = *c;
            for a in atoms {
                let v = match a {
                    Atom::Sym(s) => f(*s)?,
                    Atom::Div(d) => floor_div(d.0.eval(f)?, d.1.eval(f)?)?,
                    Atom::Min(m) => m.0.eval(f)?.min(m.1.eval(f)?),
                    Atom::Max(m) => m.0.eval(f)?.max(m.1.eval(f)?),
                };
                product = product.checked_mul(v)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// Every symbol that occurs.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut out = BTreeSet::new();
        self.collect_symbols(&mut out);
        out
    }

    fn collect_symbols(&self, out: &mut BTreeSet<Symbol>) {
        for atom in self.terms.iter().flat_map(|(a, _)| a) {
            match atom {
                Atom::Sym(s) => {
                    out.insert(*s);
                }
                Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => {
                    d.0.collect_symbols(out);
                    d.1.collect_symbols(out);
                }
            }
        }
    }

    /// Whether the symbol occurs.
    pub fn mentions(&self, symbol: Symbol) -> bool {
        self.any_symbol(&|s| s == symbol)
    }

    /// `(a, b)` with `self == a * symbol + b` and the symbol in neither; `None` where the
    /// expression is not linear in it.
    pub fn linear_in(&self, symbol: Symbol) -> Option<(Expr, Expr)> {
        let (mut a, mut b) = (Expr::default(), Expr::constant(self.constant));
        for (atoms, c) in &self.terms {
            match remove_all(atoms, &[Atom::Sym(symbol)]) {
                Some(rest) => a.push(rest, *c),
                None => b.push(atoms.clone(), *c),
            }
        }
        (!a.mentions(symbol) && !b.mentions(symbol)).then_some((a, b))
    }

    /// The product of many.
    pub fn product<'a>(factors: impl IntoIterator<Item = &'a Expr>) -> Expr {
        factors.into_iter().fold(Expr::ONE, |p, f| p.times(f))
    }
}

/// Floor division as [`Expr`] defines it; `None` on overflow.
pub fn floor_div(a: i64, b: i64) -> Option<i64> {
    if b == 0 {
        return Some(0);
    }
    let q = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
}

/// `atoms` less those in `by` (a multiset difference); `None` where one is missing.
fn remove_all(atoms: &[Atom], by: &[Atom]) -> Option<Vec<Atom>> {
    let mut rest = atoms.to_vec();
    for b in by {
        let i = rest.iter().position(|a| a == b)?;
        rest.remove(i);
    }
    Some(rest)
}

impl Atom {
    /// [`Expr::map_free`] of the parts.
    fn map_free(&self, local: &dyn Fn(Symbol) -> bool, f: &mut dyn FnMut(Expr) -> Expr) -> Expr {
        let mut both = |d: &(Expr, Expr)| (d.0.map_free(local, f), d.1.map_free(local, f));
        match self {
            Atom::Sym(s) => (*s).into(),
            Atom::Div(d) => {
                let (n, by) = both(d);
                n.floor_div(&by)
            }
            Atom::Min(d) => {
                let (a, b) = both(d);
                a.minimum(&b)
            }
            Atom::Max(d) => {
                let (a, b) = both(d);
                a.maximum(&b)
            }
        }
    }

    fn bounds(&self, ranges: Ranges<'_>) -> Range {
        match self {
            Atom::Sym(s) => ranges(*s),
            Atom::Div(d) => match d.1.as_const() {
                Some(c) if c > 0 => {
                    let n = d.0.bounds(ranges);
                    Range { lo: n.lo.map(|v| v.div_euclid(c)), hi: n.hi.map(|v| v.div_euclid(c)) }
                }
                _ => {
                    let (n, by) = (d.0.bounds(ranges), d.1.bounds(ranges));
                    match (n.lo, by.lo) {
                        (Some(a), Some(b)) if a >= 0 && b >= 0 => Range { lo: Some(0), hi: n.hi },
                        _ => Range::ALL,
                    }
                }
            },
            Atom::Min(m) => {
                let (a, b) = (m.0.bounds(ranges), m.1.bounds(ranges));
                let hi = match (a.hi, b.hi) {
                    (Some(x), Some(y)) => Some(x.min(y)),
                    (x, y) => x.or(y),
                };
                Range { lo: Range::map2(a.lo, b.lo, |x, y| Some(x.min(y))), hi }
            }
            Atom::Max(m) => {
                let (a, b) = (m.0.bounds(ranges), m.1.bounds(ranges));
                let lo = match (a.lo, b.lo) {
                    (Some(x), Some(y)) => Some(x.max(y)),
                    (x, y) => x.or(y),
                };
                // A magnitude, the larger of a number and its negative.
                let size = m.0.terms.len() == m.1.terms.len() && m.0 == -&m.1;
                let lo = if size { lo.max(Some(0)) } else { lo };
                Range { lo, hi: Range::map2(a.hi, b.hi, |x, y| Some(x.max(y))) }
            }
        }
    }
}

impl From<i64> for Expr {
    fn from(v: i64) -> Expr {
        Expr::constant(v)
    }
}

impl From<i32> for Expr {
    fn from(v: i32) -> Expr {
        Expr::constant(v as i64)
    }
}

impl From<usize> for Expr {
    fn from(v: usize) -> Expr {
        Expr::constant(i64::try_from(v).unwrap_or(i64::MAX))
    }
}

impl From<Symbol> for Expr {
    fn from(s: Symbol) -> Expr {
        Expr::atom(Atom::Sym(s))
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, |$a:ident, $b:ident| $body:expr) => {
        impl ops::$trait<&Expr> for &Expr {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr {
                let ($a, $b) = (self, other);
                $body
            }
        }
        impl ops::$trait<Expr> for Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr {
                ops::$trait::$method(&self, &other)
            }
        }
        impl ops::$trait<&Expr> for Expr {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr {
                ops::$trait::$method(&self, other)
            }
        }
        impl ops::$trait<Expr> for &Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr {
                ops::$trait::$method(self, &other)
            }
        }
        impl ops::$trait<i64> for &Expr {
            type Output = Expr;
            fn $method(self, other: i64) -> Expr {
                ops::$trait::$method(self, &Expr::constant(other))
            }
        }
        impl ops::$trait<i64> for Expr {
            type Output = Expr;
            fn $method(self, other: i64) -> Expr {
                ops::$trait::$method(&self, &Expr::constant(other))
            }
        }
    };
}

operator!(Add, add, |a, b| {
    let mut out = a.clone();
    out.constant = out.constant.saturating_add(b.constant);
    for (atoms, c) in &b.terms {
        out.push(atoms.clone(), *c);
    }
    out
});
operator!(Sub, sub, |a, b| a + &b.scaled(-1));
operator!(Mul, mul, |a, b| a.times(b));

impl ops::Neg for &Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self.scaled(-1)
    }
}

impl PartialEq<i64> for Expr {
    fn eq(&self, other: &i64) -> bool {
        self.as_const() == Some(*other)
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Prints `2*a*b + i - 1`; the text form's parser reads it back.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (atoms, c) in &self.terms {
            sign(f, *c, &mut first)?;
            if c.unsigned_abs() != 1 {
                write!(f, "{}*", c.unsigned_abs())?;
            }
            for (i, a) in atoms.iter().enumerate() {
                if i > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{a}")?;
            }
        }
        match (first, self.constant.cmp(&0)) {
            (true, _) => write!(f, "{}", self.constant),
            (false, Ordering::Equal) => Ok(()),
            (false, _) => {
                sign(f, self.constant, &mut first)?;
                write!(f, "{}", self.constant.unsigned_abs())
            }
        }
    }
}

fn sign(f: &mut fmt::Formatter<'_>, c: i64, first: &mut bool) -> fmt::Result {
    f.write_str(match (std::mem::take(first), c < 0) {
        (true, true) => "-",
        (true, false) => "",
        (false, true) => " - ",
        (false, false) => " + ",
    })
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => write!(f, "{s}"),
            Atom::Div(d) => write!(f, "({} / {})", Grouped(&d.0), Grouped(&d.1)),
            Atom::Min(m) => write!(f, "min({}, {})", m.0, m.1),
            Atom::Max(m) => write!(f, "max({}, {})", m.0, m.1),
        }
    }
}

struct Grouped<'a>(&'a Expr);

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_const().is_some_and(|c| c >= 0) || self.0.as_symbol().is_some() {
            write!(f, "{}", self.0)
        } else {
            write!(f, "({})", self.0)
        }
    }
}

#[cfg(test)]
mod tests;
