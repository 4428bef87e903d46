//! Arithmetic on unevaluated sums of two floats, for twice the precision.
//!
//! Nothing here relies on a fused multiplication: sums are D. E. Knuth's, products T. J. Dekker's
//! ("A floating-point technique for extending the available precision", 1971).

use crate::loops::formula::V;
use std::ops::Neg;

/// `high + low`, with `low` at most half a last place of `high`.
#[derive(Clone, Copy)]
pub(super) struct Double<'f> {
    pub(super) high: V<'f>,
    pub(super) low: V<'f>,
}

impl<'f> From<V<'f>> for Double<'f> {
    fn from(high: V<'f>) -> Double<'f> {
        Double { high, low: high.number(0.0) }
    }
}

impl Neg for Double<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        Double { high: -self.high, low: -self.low }
    }
}

impl<'f> Double<'f> {
    /// A constant of the type of `like`.
    pub(super) fn constant(like: V<'f>, high: f64, low: f64) -> Double<'f> {
        Double { high: like.number(high), low: like.number(low) }
    }

    /// `a + b`, exactly.
    pub(super) fn sum(a: V<'f>, b: V<'f>) -> Double<'f> {
        let high = a + b;
        let part = high - a;
        Double { high, low: (a - (high - part)) + (b - part) }
    }

    /// `a + b` where `a` is zero or has the larger exponent.
    fn quick_sum(a: V<'f>, b: V<'f>) -> Double<'f> {
        let high = a + b;
        Double { high, low: b - (high - a) }
    }

    /// `a * b` of `f64` below `2^996`, exactly but for underflow.
    pub(super) fn exact_product(a: V<'f>, b: V<'f>) -> Double<'f> {
        let high = a * b;
        let ((a1, a2), (b1, b2)) = (halves(a), halves(b));
        let low = ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2;
        Double { high, low }
    }

    /// The sum.
    pub(super) fn plus(self, other: Double<'f>) -> Double<'f> {
        let sum = Double::sum(self.high, other.high);
        let low = Double::sum(self.low, other.low);
        let upper = Double::quick_sum(sum.high, sum.low + low.high);
        Double::quick_sum(upper.high, upper.low + low.low)
    }

    /// The product.
    pub(super) fn product(self, other: Double<'f>) -> Double<'f> {
        let exact = Double::exact_product(self.high, other.high);
        let low = exact.low + (self.high * other.low + self.low * other.high);
        Double::quick_sum(exact.high, low)
    }

    /// The product with a power of two.
    pub(super) fn scaled(self, power: f64) -> Double<'f> {
        Double { high: self.high * power, low: self.low * power }
    }

    /// The quotient.
    pub(super) fn quotient(self, divisor: Double<'f>) -> Double<'f> {
        let high = self.high / divisor.high;
        let back = Double::exact_product(high, divisor.high);
        let rest = ((self.high - back.high) - back.low) + self.low - high * divisor.low;
        Double::quick_sum(high, rest / divisor.high)
    }
}

/// An `f64` as a sum of two numbers of 26 bits.
fn halves(x: V<'_>) -> (V<'_>, V<'_>) {
    let up = x * 134217729.0;
    let high = up - (up - x);
    (high, x - high)
}
