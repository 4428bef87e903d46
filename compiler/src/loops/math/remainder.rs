//! Remainders of floats, exact; `f32` through `f64`.
//!
//! Long division by digits of 26 bits: each step subtracts `q d` with `d` the divisor times a power
//! of two and `q` the quotient rounded to an integer, so that what is left is at most `d / 2` and
//! every product and difference is exact. The number of steps follows from the exponents, at run
//! time: one or two for operands of similar size.

use crate::loops::formula::V;
use burin_ir::{DType, ScalarOp, Symbol};

/// Bits of a quotient's digit.
const DIGIT: i64 = 24;

/// `Rem` (the sign of `x`) or `Mod` (the sign of `y`).
pub(super) fn remainder<'f>(op: ScalarOp, x: V<'f>, y: V<'f>, symbols: [Symbol; 2]) -> V<'f> {
    if x.dtype() == DType::F32 {
        return remainder(op, x.cast(DType::F64), y.cast(DType::F64), symbols).cast(DType::F32);
    }
    let truncated = rem(x, y, symbols);
    if op == ScalarOp::Rem {
        return truncated;
    }
    let differ = truncated.lt(0.0).ne(y.lt(0.0));
    let moved = differ.select(truncated + y, truncated);
    truncated.eq(0.0).select(truncated, moved)
}

fn rem<'f>(x: V<'f>, y: V<'f>, [bound, var]: [Symbol; 2]) -> V<'f> {
    let divisor = y.abs();
    let (finite, positive) = (x.is_finite(), divisor.gt(0.0));
    let proper = finite & positive & divisor.lt(f64::INFINITY);
    let b = proper.select(divisor, 1.0);
    let a = proper.select(x.abs(), 0.0);
    let low = exponent(b);
    let gap = exponent(a) - low;
    let gap = gap.gt(0_i64).select(gap, 0_i64);
    let steps = gap.cast(DType::F64).highest().cast(DType::I64).bind(bound);
    let out = V::repeat(var, steps.floor_div(&DIGIT.into()) + 1, &[a], |carried| {
        let r = carried[0];
        let up = exponent(r.abs()) - (low + DIGIT);
        let d = scaled(b, up.gt(0_i64).select(up, 0_i64));
        let q = (r / d).round();
        let upper = (d.to_int() & !0x7ff_ffff_i64).to_float();
        vec![(r - q * upper) - q * (d - upper)]
    });
    let r = out[0].lt(0.0).select(out[0] + b, out[0]).with_sign(x.sign());
    let improper = finite.select(divisor.eq(f64::INFINITY).select(x, f64::NAN), f64::NAN);
    proper.select(r, improper)
}

/// The exponent of the leading digit, from an arbitrary origin; small for zero.
fn exponent(a: V<'_>) -> V<'_> {
    let tiny = a.lt(f64::MIN_POSITIVE);
    let normal = tiny.select(a * 2f64.powi(54), a);
    (normal.to_int() >> 52_i64) - tiny.select(normal.to_int().number(54_i64), 0_i64)
}

/// `b * 2^up`, for `0 <= up < 3000`, by three factors in range.
fn scaled<'f>(b: V<'f>, up: V<'f>) -> V<'f> {
    let mut out = b;
    let mut left = up;
    for _ in 0..3 {
        let part = left.lt(1000_i64).select(left, 1000_i64);
        out = out * ((part + 1023_i64) << 52_i64).to_float();
        left = left - part;
    }
    out
}
