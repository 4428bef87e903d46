//! Index expressions compiled for the interpreters: an [`Expr`] whose symbols have become numbered
//! slots, evaluated for one point or for a column of points at once.
//!
//! Division is [`floor_div`], as [`Expr`] defines it.

use crate::expr::{Atom, Expr, floor_div};
use crate::symbol::Symbol;

/// An [`Expr`] over slots.
#[derive(Clone, Debug)]
pub struct IndexExpr {
    constant: i64,
    /// Slots with their coefficients.
    linear: Vec<(usize, i64)>,
    /// All other monomials with their coefficients.
    rest: Vec<(i64, Vec<Factor>)>,
}

#[derive(Clone, Debug)]
enum Factor {
    Slot(usize),
    Div(Box<(IndexExpr, IndexExpr)>),
    Min(Box<(IndexExpr, IndexExpr)>),
    Max(Box<(IndexExpr, IndexExpr)>),
}

/// One integer for each point of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Ints {
    /// The same for all points.
    Same(i64),
    /// One for each.
    Each(Vec<i64>),
}

impl Ints {
    /// The integer of one point.
    pub fn get(&self, point: usize) -> i64 {
        match self {
            Ints::Same(v) => *v,
            Ints::Each(v) => v[point],
        }
    }

    /// The integers of some of the points.
    pub fn pick(&self, points: &[usize]) -> Ints {
        match self {
            Ints::Same(v) => Ints::Same(*v),
            Ints::Each(v) => Ints::Each(points.iter().map(|p| v[*p]).collect()),
        }
    }

    /// Whether every point's integer satisfies a predicate.
    pub fn all(&self, f: impl Fn(i64) -> bool) -> bool {
        match self {
            Ints::Same(v) => f(*v),
            Ints::Each(v) => v.iter().all(|v| f(*v)),
        }
    }

    fn zip(self, other: &Ints, f: impl Fn(i64, i64) -> i64) -> Ints {
        match (self, other) {
            (Ints::Same(a), Ints::Same(b)) => Ints::Same(f(a, *b)),
            (Ints::Same(a), Ints::Each(b)) => Ints::Each(b.iter().map(|b| f(a, *b)).collect()),
            (Ints::Each(mut a), Ints::Same(b)) => {
                a.iter_mut().for_each(|a| *a = f(*a, *b));
                Ints::Each(a)
            }
            (Ints::Each(mut a), Ints::Each(b)) => {
                a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b));
                Ints::Each(a)
            }
        }
    }

    /// `self + other * factor`, wrapping: a result that overflows is out of every bound.
    pub fn add_scaled(self, other: &Ints, factor: i64) -> Ints {
        self.zip(other, |a, b| a.wrapping_add(b.wrapping_mul(factor)))
    }
}

impl IndexExpr {
    /// Compiles an expression; an error names a symbol that has no slot.
    pub fn new(e: &Expr, slot: &dyn Fn(Symbol) -> Option<usize>) -> Result<IndexExpr, String> {
        let mut out = IndexExpr { constant: e.constant_term(), linear: Vec::new(), rest: Vec::new() };
        for (atoms, c) in e.terms() {
            let factors = atoms.iter().map(|a| Factor::new(a, slot)).collect::<Result<Vec<_>, _>>()?;
            match &factors[..] {
                [Factor::Slot(s)] => out.linear.push((*s, *c)),
                _ => out.rest.push((*c, factors)),
            }
        }
        Ok(out)
    }

    /// The value at one point; `None` where it overflows.
    pub fn eval(&self, slots: &[i64]) -> Option<i64> {
        let mut sum = self.constant;
        for (s, c) in &self.linear {
            sum = sum.checked_add(slots[*s].checked_mul(*c)?)?;
        }
        for (c, factors) in &self.rest {
            let mut product = *c;
            for f in factors {
                product = product.checked_mul(f.eval(slots)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// The values at a column of points.
    pub fn eval_column(&self, slots: &[Ints]) -> Ints {
        let mut sum = Ints::Same(self.constant);
        for (s, c) in &self.linear {
            sum = sum.add_scaled(&slots[*s], *c);
        }
        for (c, factors) in &self.rest {
            let start = Ints::Same(*c);
            let product =
                factors.iter().fold(start, |p, f| p.zip(&f.eval_column(slots), |a, b| a.wrapping_mul(b)));
            sum = sum.add_scaled(&product, 1);
        }
        sum
    }
}

impl Factor {
    fn new(a: &Atom, slot: &dyn Fn(Symbol) -> Option<usize>) -> Result<Factor, String> {
        let pair = |p: &(Expr, Expr)| -> Result<_, String> {
            Ok(Box::new((IndexExpr::new(&p.0, slot)?, IndexExpr::new(&p.1, slot)?)))
        };
        Ok(match a {
            Atom::Sym(s) => Factor::Slot(slot(*s).ok_or_else(|| format!("the symbol {s} has no value"))?),
            Atom::Div(p) => Factor::Div(pair(p)?),
            Atom::Min(p) => Factor::Min(pair(p)?),
            Atom::Max(p) => Factor::Max(pair(p)?),
        })
    }

    fn eval(&self, slots: &[i64]) -> Option<i64> {
        match self {
            Factor::Slot(s) => Some(slots[*s]),
            Factor::Div(p) => floor_div(p.0.eval(slots)?, p.1.eval(slots)?),
            Factor::Min(p) => Some(p.0.eval(slots)?.min(p.1.eval(slots)?)),
            Factor::Max(p) => Some(p.0.eval(slots)?.max(p.1.eval(slots)?)),
        }
    }

    fn eval_column(&self, slots: &[Ints]) -> Ints {
        let both = |p: &(IndexExpr, IndexExpr), f: &dyn Fn(i64, i64) -> i64| {
            p.0.eval_column(slots).zip(&p.1.eval_column(slots), f)
        };
        match self {
            Factor::Slot(s) => slots[*s].clone(),
            // The one quotient that overflows is out of every bound, like any other overflow.
            Factor::Div(p) => both(p, &|a, b| floor_div(a, b).unwrap_or(i64::MIN)),
            Factor::Min(p) => both(p, &i64::min),
            Factor::Max(p) => both(p, &i64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_agrees_with_single_points() {
        let (x, y) = (Expr::named("x"), Expr::named("y"));
        let e =
            (&x * 3 - &y).floor_div(&4.into()) * &y + x.minimum(&y) - x.modulo(&5.into()).maximum(&2.into());
        let slot = |s: Symbol| ["x", "y"].iter().position(|n| *n == s.name());
        let compiled = IndexExpr::new(&e, &slot).expect("both symbols have slots");
        let xs: Vec<i64> = (-9..9).collect();
        let column = compiled.eval_column(&[Ints::Each(xs.clone()), Ints::Same(7)]);
        for (i, x) in xs.iter().enumerate() {
            let expected = e.eval(&|s| Some(if s.name() == "x" { *x } else { 7 }));
            assert_eq!(compiled.eval(&[*x, 7]), expected);
            assert_eq!(Some(column.get(i)), expected);
        }
        // 3 * 5 - 7 = 8, 8 / 4 * 7 = 14, min 5, 5 % 5 = 0: 14 + 5 - 2.
        assert_eq!(compiled.eval(&[5, 7]), Some(17));
    }

    #[test]
    fn a_symbol_without_a_slot_is_named() {
        let e = IndexExpr::new(&Expr::named("batch"), &|_| None);
        assert!(e.expect_err("no slot").contains("batch"));
    }
}
