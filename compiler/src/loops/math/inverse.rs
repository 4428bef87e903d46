//! Inverse sine, cosine and tangent of `f64`.
//!
//! The range reductions are those of S. L. Moshier's Cephes (`atan.c`, `asin.c`, 1989).

use super::coefficients::{ASIN_64, ATAN_64};
use crate::loops::formula::V;
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

/// What [`FRAC_PI_2`] lacks.
const PI_2_LOW: f64 = 6.123233995736766e-17;
/// The tangents of `pi/8` and `3 pi/8`.
const TAN_EIGHTH: f64 = 0.41421356237309503;
const TAN_THREE_EIGHTHS: f64 = 2.414213562373095;

/// The inverse tangent.
pub(super) fn atan(x: V<'_>) -> V<'_> {
    let a = x.abs();
    let one = a.number(1.0);
    // a = tan(offset + atan t), with the offset 0, pi/4 or pi/2.
    let (middle, large) = (a.gt(TAN_EIGHTH), a.gt(TAN_THREE_EIGHTHS));
    let numerator = large.select(a.number(-1.0), middle.select(a - 1.0, a));
    let denominator = large.select(a, middle.select(a + 1.0, one));
    let offset = large.select(a.number(FRAC_PI_2), middle.select(a.number(FRAC_PI_4), 0.0));
    let offset_low = large.select(a.number(PI_2_LOW), middle.select(a.number(PI_2_LOW / 2.0), 0.0));
    let t = numerator / denominator;
    let z = t * t;
    let tail = (t * z).muladd(z.poly(&ATAN_64), offset_low);
    (offset + (t + tail)).with_sign(x.sign())
}

/// `asin t - t` for `0 <= t <= 1/2`, from `t` and its square.
fn asin_tail<'f>(t: V<'f>, z: V<'f>) -> V<'f> {
    (t * z) * z.poly(&ASIN_64)
}

/// `|x|`, whether it is above 1/2, and `t + tail`: the inverse sine of it, or there of
/// `sqrt((1 - |x|) / 2)`, which is half the inverse cosine. The root carries its error in `tail`.
fn halved<'f>(x: V<'f>) -> (V<'f>, V<'f>, V<'f>) {
    let a = x.abs();
    let far = a.gt(0.5);
    let z = far.select((a.number(1.0) - a) * 0.5, a * a);
    let t = far.select(z.sqrt(), a);
    // sqrt z = t + (z - t^2) / (2 t), with t^2 exact by its upper half.
    let up = (t.to_int() & !0xffff_ffff_i64).to_float();
    let error = ((z - up * up) / (t + up)) - (t - up);
    let fix = far.select(t.gt(0.0).select(error, 0.0), 0.0);
    (far, t, asin_tail(t, z) + fix)
}

/// The inverse sine; NaN beyond 1.
pub(super) fn asin(x: V<'_>) -> V<'_> {
    let (far, t, tail) = halved(x);
    let near = t + tail;
    let beyond = (t.number(FRAC_PI_2) - (t + t)) - ((tail + tail) - PI_2_LOW);
    far.select(beyond, near).with_sign(x.sign())
}

/// The inverse cosine; NaN beyond 1.
pub(super) fn acos(x: V<'_>) -> V<'_> {
    let (far, t, tail) = halved(x);
    let sign = x.sign();
    let negative = x.lt(0.0);
    let doubled = (t + tail) * 2.0;
    let mirrored = (t.number(2.0 * FRAC_PI_2) - (t + t)) - ((tail + tail) - 2.0 * PI_2_LOW);
    let beyond = negative.select(mirrored, doubled);
    let near = t.number(FRAC_PI_2) - (t.flip(sign) + (tail.flip(sign) - PI_2_LOW));
    far.select(beyond, near)
}
