//! The exponential and the hyperbolic functions, for `f32` and `f64`.
//!
//! `x = k ln 2 + r` by the two-step reduction of W. J. Cody and W. Waite ("Software manual for the
//! elementary functions", 1980): the first part of `ln 2` has so few bits that its product with `k`
//! is exact without a fused multiplication. `k` is rounded by adding a number whose last place is
//! 1, and is read from the sum's bits.

use super::coefficients::{EXP_32, EXP_64, TANH_32};
use super::format::Format;
use crate::loops::formula::V;

/// `e^x = 2^k (1 + tail)`, with `k` in the low bits of `sum`.
struct Reduced<'f> {
    /// The bits of [`Format::magic`] plus `k`.
    sum: V<'f>,
    tail: V<'f>,
}

fn reduce<'f>(x: V<'f>, format: &Format) -> Reduced<'f> {
    let sum = x.muladd(std::f64::consts::LOG2_E, format.magic);
    let k = sum - format.magic;
    let r = k.muladd(-format.ln2_low, k.muladd(-format.ln2_high, x));
    let q = r.poly(if format.is_double() { &EXP_64 } else { &EXP_32 });
    Reduced { sum: sum.to_int(), tail: (r * r).muladd(q, r) }
}

/// `e^x` times `2^scale`, for a scale of 0 or -1.
///
/// The power of two is applied in two halves, each a normal number, so that results overflow to
/// infinity and underflow through the denormals to zero, rounded once. What is beyond them is zero
/// without such a product, which processors take long for (a masked softmax is full of them).
pub(super) fn exp_scaled(x: V<'_>, scale: i64) -> V<'_> {
    let format = Format::of(x);
    let gone = x.lt(format.exp_bottom);
    let zero = x.number(0.0);
    let Reduced { sum, tail } = reduce(gone.select(zero, x.at_most(format.exp_top)), &format);
    let exponent = sum + (2 * format.bias + scale - format.magic_bits());
    let half = exponent >> 1_i64;
    let low = (half << format.mantissa).to_float();
    let high = ((exponent - half) << format.mantissa).to_float();
    gone.select(zero, ((tail + 1.0) * low) * high)
}

/// `e^x`.
pub(super) fn exp(x: V<'_>) -> V<'_> {
    exp_scaled(x, 0)
}

/// `e^x` where neither it nor its reciprocal is near the ends of the normal range.
pub(super) fn exp_normal(x: V<'_>) -> V<'_> {
    let format = Format::of(x);
    let Reduced { sum, tail } = reduce(x, &format);
    let power = ((sum + (format.bias - format.magic_bits())) << format.mantissa).to_float();
    power.muladd(tail, power)
}

/// `e^x - 1` for `0 <= x <= format.exp_top - 20`; smaller results keep their relative precision.
fn expm1(x: V<'_>) -> V<'_> {
    let format = Format::of(x);
    let Reduced { sum, tail } = reduce(x, &format);
    let power = ((sum + (format.bias - format.magic_bits())) << format.mantissa).to_float();
    power.muladd(tail, power - 1.0)
}

/// The hyperbolic tangent: `t / (t + 2)` with `t = e^(2|x|) - 1`, and the sign of `x`. In `f32` a
/// polynomial where the three roundings of that would show.
pub(super) fn tanh(x: V<'_>) -> V<'_> {
    let format = Format::of(x);
    let magnitude = x.abs();
    let t = expm1((magnitude + magnitude).at_most(format.tanh_top));
    let quotient = t / (t + 2.0);
    if format.is_double() {
        return quotient.with_sign(x.sign());
    }
    let square = magnitude * magnitude;
    let near = (magnitude * square).muladd(square.poly(&TANH_32), magnitude);
    magnitude.gt(0.625).select(quotient, near).with_sign(x.sign())
}

/// The hyperbolic sine: `(t + t / (t + 1)) / 2` with `t = e^|x| - 1` where `e^-|x|` counts,
/// `e^|x| / 2` beyond.
pub(super) fn sinh(x: V<'_>) -> V<'_> {
    let magnitude = x.abs();
    let top = Format::of(x).tanh_top;
    let t = expm1(magnitude.at_most(top));
    let near = (t + t / (t + 1.0)) * 0.5;
    magnitude.gt(top).select(exp_scaled(magnitude, -1), near).with_sign(x.sign())
}

/// The hyperbolic cosine: `h + 1 / (4 h)` with `h = e^|x| / 2`.
pub(super) fn cosh(x: V<'_>) -> V<'_> {
    let half = exp_scaled(x.abs(), -1);
    half + half.number(0.25) / half
}
