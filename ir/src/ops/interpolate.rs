//! Reading an image at places that are data: what GridSample, DeformConv and RoiAlign share.
//!
//! Along each spatial dimension a place has some neighbours, its [`Tap`]s. What the image holds there
//! is the sum over all combinations of them, each weighted with the product of its taps' weights. A
//! tap's index is always in bounds, whatever the data is.

use crate::dtype::DType;
use crate::element::Term;
use crate::expr::Expr;
use crate::scalar::{Scalar, ScalarOp as S};
use crate::symbol::Symbol;

/// A neighbour of a place along one dimension.
pub(super) struct Tap {
    /// Its index, an `i64` within the dimension.
    pub(super) index: Term,
    /// Where this does not hold (a bool), the image is taken to be 0.
    pub(super) inside: Option<Term>,
    /// Its weight; none where it is 1.
    pub(super) weight: Option<Term>,
}

/// An integer constant.
pub(super) fn int(v: i64) -> Term {
    Term::constant(DType::I64, Scalar::I(v))
}

/// An `i64` clamped into a dimension; 0 for a dimension of 0.
pub(super) fn clamped(index: &Term, dim: &Expr) -> Term {
    index.binary(S::Min, &Term::index(dim - 1)).binary(S::Max, &int(0))
}

/// Whether an `i64` is an index of a dimension.
pub(super) fn within(index: &Term, dim: &Expr) -> Term {
    let below = index.binary(S::Lt, &Term::index(dim.clone()));
    index.binary(S::Ge, &int(0)).binary(S::And, &below)
}

impl Tap {
    /// The element `index`, or 0 outside the dimension.
    pub(super) fn or_zero(index: &Term, dim: &Expr, weight: Option<Term>) -> Tap {
        Tap { index: clamped(index, dim), inside: Some(within(index, dim)), weight }
    }
}

/// The two neighbours of a place for linear interpolation: the first one's index (an `i64`), and the
/// weights of both.
pub(super) fn linear(place: &Term) -> (Term, [Term; 2]) {
    let base = place.unary(S::Floor);
    let fraction = place - &base;
    (base.cast(DType::I64), [fraction.lit(1.0) - &fraction, fraction])
}

/// The weight of an element at a distance of 0 or more from the place (R. Keys, "Cubic convolution
/// interpolation for digital image processing", 1981).
pub(super) fn cubic_weight(x: &Term, a: f64) -> Term {
    let below = |limit: f64| x.binary(S::Lt, &x.lit(limit));
    let near = ((x * (a + 2.0) - (a + 3.0)) * x) * x + 1.0;
    let far = ((x * a - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    below(1.0).select(&near, &below(2.0).select(&far, &x.lit(0.0)))
}

/// What an image of these spatial dimensions holds at a place, given by its taps along each of them.
/// `load` gives the element at a spatial index, in the type of the weights; symbols numbered from
/// `first` are used (see [`crate::element::reduction`]).
pub(super) fn interpolated(
    dims: &[Expr],
    taps: &[Vec<Tap>],
    first: usize,
    load: &dyn Fn(&[Expr]) -> Term,
) -> Term {
    let mut symbols: Vec<Vec<Symbol>> = Vec::new();
    let mut next = first;
    for some in taps {
        symbols.push((next..next + some.len()).map(crate::element::reduction).collect());
        next += some.len();
    }
    let sum = combined(taps, &symbols, &mut Vec::new(), load);
    let zero = sum.lit(0.0);
    let body = Term::when(dims.iter().map(|d| d - 1).collect(), sum, zero);
    let all = symbols.iter().flatten().zip(taps.iter().flatten());
    all.fold(body, |body, (s, tap)| Term::bind(*s, tap.index.clone(), body))
}

/// The weighted sum over the taps of the dimensions behind those whose index is chosen.
fn combined(
    taps: &[Vec<Tap>],
    symbols: &[Vec<Symbol>],
    index: &mut Vec<Expr>,
    load: &dyn Fn(&[Expr]) -> Term,
) -> Term {
    let depth = index.len();
    let Some(some) = taps.get(depth) else { return load(index) };
    let mut sum: Option<Term> = None;
    for (tap, symbol) in some.iter().zip(&symbols[depth]) {
        index.push((*symbol).into());
        let mut value = combined(taps, symbols, index, load);
        index.pop();
        if let Some(inside) = &tap.inside {
            value = inside.select(&value, &value.lit(0.0));
        }
        if let Some(weight) = &tap.weight {
            value = value * weight;
        }
        sum = Some(match sum {
            Some(sum) => sum + value,
            None => value,
        });
    }
    sum.unwrap_or_else(|| load(index))
}
