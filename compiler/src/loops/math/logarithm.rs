//! Logarithms, what is made of them, and powers of floats.
//!
//! `x = 2^k (1 + f)` with `1 + f` between the roots of 1/2 and 2, read from the bits. For `f32`
//! `log(1 + f)` is a polynomial; for `f64` one of `s = f / (2 + f)`, as in FDLIBM's `e_log.c`
//! (Sun Microsystems, 1993).

use super::coefficients::{LOG_32, LOG_64};
use super::double::Double;
use super::exponential;
use super::format::Format;
use crate::loops::formula::V;
use burin_ir::DType;

/// `k` and `f` of a positive number.
fn split<'f>(x: V<'f>, format: &Format) -> (V<'f>, V<'f>) {
    let root = format.bits(std::f64::consts::FRAC_1_SQRT_2);
    let tiny = x.lt(format.min_normal);
    // Denormals are scaled into the normal range.
    let up = format.mantissa + 2;
    let scaled = tiny.select(x * (1_i64 << up) as f64, x);
    let bits = scaled.to_int() - root;
    let one_plus_f = ((bits & ((1_i64 << format.mantissa) - 1)) + root).to_float();
    let magic = tiny.select(x.number(format.magic + up as f64), format.magic);
    let k = ((bits >> format.mantissa) + format.magic_bits()).to_float() - magic;
    (k, one_plus_f - 1.0)
}

/// The natural logarithm of a positive finite number.
fn log_positive(x: V<'_>) -> V<'_> {
    let format = Format::of(x);
    let (k, f) = split(x, &format);
    let square = f * f;
    let tail = if format.is_double() {
        let half = square * 0.5;
        let s = f / (f + 2.0);
        let z = s * s;
        let t = s * (half + z * z.poly(&LOG_64));
        (t + k * format.ln2_low) - half
    } else {
        let t = (f * square) * f.poly(&LOG_32);
        square.muladd(-0.5, k.muladd(format.ln2_low, t))
    };
    k.muladd(format.ln2_high, f + tail)
}

/// The natural logarithm: minus infinity of zero, NaN below it.
pub(super) fn log(x: V<'_>) -> V<'_> {
    let finite = x.lt(f64::INFINITY).select(log_positive(x), x);
    let outside = x.eq(0.0).select(x.number(f64::NEG_INFINITY), f64::NAN);
    x.le(0.0).select(outside, finite)
}

/// `log(1 + x)` for `x >= 0` or `f64` NaN: the rounding error of `1 + x` is made good to first
/// order (W. Kahan's device, as in FDLIBM's `s_log1p.c`).
fn log1p(x: V<'_>) -> V<'_> {
    let sum = x + 1.0;
    let error = x.ge(1.0).select(x.number(1.0) - (sum - x), x - (sum - 1.0));
    let out = log_positive(sum) + error / sum;
    x.lt(f64::INFINITY).select(out, x)
}

/// The inverse hyperbolic sine: `log1p(a + a^2 / (1 + sqrt(1 + a^2)))`, `log a + log 2` where the
/// square swamps 1.
pub(super) fn asinh(x: V<'_>) -> V<'_> {
    let a = x.abs();
    let near = a.at_most(LARGE);
    let square = near * near;
    let small = near + square / ((square + 1.0).sqrt() + 1.0);
    logarithmic(a, small).with_sign(x.sign())
}

/// The inverse hyperbolic cosine: `log1p(t + sqrt(2 t + t^2))` with `t = x - 1`; NaN below 1.
pub(super) fn acosh(x: V<'_>) -> V<'_> {
    let t = x.at_most(LARGE) - 1.0;
    let inside = logarithmic(x, t + (t + t + t * t).sqrt());
    x.lt(1.0).select(x.number(f64::NAN), inside)
}

/// From here on `x^2 + 1` is `x^2` and `x - 1` is `x` as far as a logarithm can see.
const LARGE: f64 = 268435456.0;

/// `log1p(y)` or, for large `x`, `log(2 x)`, at the cost of one logarithm.
fn logarithmic<'f>(x: V<'f>, y: V<'f>) -> V<'f> {
    let large = x.gt(LARGE);
    let sum = y + 1.0;
    let error = y.ge(1.0).select(y.number(1.0) - (sum - y), y - (sum - 1.0));
    let out = log_positive(large.select(x, sum));
    let rest = large.select(x.number(std::f64::consts::LN_2), error / sum);
    // Tiny results are y itself, which the sum with zero keeps.
    x.lt(f64::INFINITY).select(out + rest, x)
}

/// The inverse hyperbolic tangent: `log1p(2 a / (1 - a)) / 2`; infinite at 1, NaN beyond.
pub(super) fn atanh(x: V<'_>) -> V<'_> {
    let a = x.abs();
    let inside = log1p((a + a) / (a.number(1.0) - a)) * 0.5;
    a.gt(1.0).select(x.number(f64::NAN), inside).with_sign(x.sign())
}

/// `log x` of a positive finite `f64` to about 68 bits: `2 s + 2/3 s^3` is carried in two words,
/// and what is left of the series is below `2^-14` of it.
fn log_double(x: V<'_>) -> Double<'_> {
    let format = Format::of(x);
    let (k, f) = split(x, &format);
    let s = Double::from(f).quotient(Double::sum(f, f.number(2.0)));
    let square = s.product(s);
    let cube = square.product(s);
    let z = square.high;
    let mut rest = LOG_64;
    rest[0] -= 2.0 / 3.0;
    let rest = cube.high * z.poly(&rest);
    let series = s.scaled(2.0).plus(cube.product(Double::constant(f, 2.0 / 3.0, 3.700743415417188e-17)));
    let series = series.plus(Double::from(rest));
    let whole = Double::sum(k * format.ln2_high, k * format.ln2_low);
    let tail = k * LN2_THIRD;
    whole.plus(series).plus(Double::from(tail))
}

/// What the two parts of `ln 2` leave.
const LN2_THIRD: f64 = 1.1612227229362532e-26;

/// `x` to the power `y`, with the special cases of C's `pow` (IEEE 754-2008, 9.2.1).
///
/// `f32` goes through `f64`; there the logarithm is carried in two words.
pub(super) fn pow<'f>(x: V<'f>, y: V<'f>) -> V<'f> {
    if x.dtype() == DType::F32 {
        let (wide, exponent) = (x.cast(DType::F64), y.cast(DType::F64));
        let product = exponent * log(wide.abs());
        return special_cases(wide, exponent, exponential::exp(product)).cast(DType::F32);
    }
    let a = x.abs();
    // Any number in the place of zero, infinity and NaN, which the plain product is for.
    let is_proper = a.is_finite() & a.gt(0.0);
    let log = log_double(is_proper.select(a, 1.0));
    let limited = y.at_most(1e300).at_least(-1e300);
    let product = log.product(Double::from(limited));
    let in_range = product.high.abs().lt(1000.0) & is_proper;
    let correction = in_range.select(product.low, 0.0);
    let power = exponential::exp(in_range.select(product.high, y * self::log(a)));
    // An infinite or vanished power must not meet the correction.
    let finite = power.is_finite().select(power.muladd(correction, power), power);
    special_cases(x, y, finite)
}

/// From `|x|^y` to `x^y`.
fn special_cases<'f>(x: V<'f>, y: V<'f>, power: V<'f>) -> V<'f> {
    let whole = y.floor().eq(y);
    let half = y * 0.5;
    let odd = half.floor().ne(half);
    let negative = (x.sign().number(0_i64)).ne(x.sign());
    let power = x.abs().eq(1.0).select(y.eq(y).select(x.number(1.0), y), power);
    let signed = negative.select(odd.select(-power, power), power);
    // A fraction is neither odd nor even: zero and infinity keep no sign, other numbers have no root.
    let fraction = x.is_finite().select(x.ne(0.0).select(x.number(f64::NAN), power), power);
    let of_negative = whole.select(signed, fraction);
    let out = negative.select(of_negative, power);
    // NaN compares unequal to itself; what follows outranks it.
    let out = x.ne(x).select(x, out);
    let out = y.ne(y).select(y, out);
    let one = x.number(1.0);
    x.eq(1.0).select(one, y.eq(0.0).select(one, out))
}
