//! Sine, cosine and tangent.
//!
//! `|x| = q pi/2 + r`. Up to some thousands (`f32`) or some hundred thousands (`f64`) the reduction
//! is W. J. Cody and W. Waite's, with parts of `pi/2` so short that their products with `q` are
//! exact without a fused multiplication. Where any lane is larger, a branch at run time computes
//! M. H. Payne and R. N. Hanek's reduction ("Radian reduction for trigonometric functions", 1983)
//! as well: the argument's integer times 192 bits of `2/pi`, modulo 4; 192 bits leave more than 70
//! beyond the closest approach of any `f64` to a multiple of `pi/2`. A lane's result is the same
//! whatever the other lanes hold.

use super::coefficients::{COS_32, COS_64, SIN_32, SIN_64, TWO_OVER_PI};
use super::double::Double;
use super::format::Format;
use crate::loops::formula::V;
use burin_ir::{DType, Symbol};
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// `pi/2` in parts of 11 bits.
const PARTS_32: [f64; 5] =
    [1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.5632829192545614e-12, 6.123234262925839e-17];
/// `pi/2` in parts of 33 bits.
const PARTS_64: [f64; 4] =
    [1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32];
/// What [`FRAC_PI_2`] lacks.
const PI_2_LOW: f64 = 6.123233995736766e-17;

/// A reduced argument: the quadrant in the low bits of `quadrant`, the rest as `r + low`.
struct Angle<'f> {
    quadrant: V<'f>,
    r: V<'f>,
    low: Option<V<'f>>,
}

/// The sine.
pub(super) fn sin(x: V<'_>, symbol: Symbol) -> V<'_> {
    let angle = reduce(x.abs(), symbol);
    let (sin, cos) = (sin_kernel(&angle), cos_kernel(&angle));
    let value = odd(angle.quadrant).select(cos, sin);
    value.flip(second_bit(x, angle.quadrant) ^ x.sign())
}

/// The cosine.
pub(super) fn cos(x: V<'_>, symbol: Symbol) -> V<'_> {
    let angle = reduce(x.abs(), symbol);
    let (sin, cos) = (sin_kernel(&angle), cos_kernel(&angle));
    let value = odd(angle.quadrant).select(sin, cos);
    value.flip(second_bit(x, angle.quadrant + 1_i64))
}

/// The tangent of an `f64`.
pub(super) fn tan(x: V<'_>, symbol: Symbol) -> V<'_> {
    let angle = reduce(x.abs(), symbol);
    let (sin, cos) = (sin_kernel(&angle), cos_kernel(&angle));
    let odd = odd(angle.quadrant);
    let value = odd.select(-cos, sin) / odd.select(sin, cos);
    value.flip(x.sign())
}

fn odd(quadrant: V<'_>) -> V<'_> {
    (quadrant & 1_i64).ne(0_i64)
}

/// The quadrant's second bit at the place of the sign.
fn second_bit<'f>(x: V<'f>, quadrant: V<'f>) -> V<'f> {
    (quadrant & 2_i64) << i64::from(x.dtype().bits() - 2)
}

fn sin_kernel<'f>(angle: &Angle<'f>) -> V<'f> {
    let r = angle.r;
    let z = r * r;
    match angle.low {
        None => r.muladd(z * z.poly(&SIN_32), r),
        Some(low) => {
            // sin(r + low) = sin r + low cos r.
            let cube = z * r;
            let rest = z * z.poly(&SIN_64[1..]);
            r + (cube * SIN_64[0] + (cube * rest + low * (r.number(1.0) - z * 0.5)))
        }
    }
}

fn cos_kernel<'f>(angle: &Angle<'f>) -> V<'f> {
    let r = angle.r;
    let z = r * r;
    let half = z * 0.5;
    let top = half.number(1.0) - half;
    // The rounding error of 1 - z/2 is added back.
    let lost = (top.number(1.0) - top) - half;
    match angle.low {
        None => top + (z * z).muladd(z.poly(&COS_32), lost),
        Some(low) => top + (lost + ((z * z) * z.poly(&COS_64) - r * low)),
    }
}

/// Reduces a number that is not negative.
fn reduce<'f>(a: V<'f>, symbol: Symbol) -> Angle<'f> {
    let format = Format::of(a);
    let sum = a.muladd(FRAC_2_PI, format.magic);
    let (q, quadrant) = (sum - format.magic, sum.to_int());
    if format.is_double() {
        let (r, low) = cody_waite_64(a, q);
        let large = a.gt(LARGE_64);
        let all = || {
            let (quadrant_2, far) = payne_hanek(a);
            vec![large.select(quadrant_2, quadrant), large.select(far.high, r), large.select(far.low, low)]
        };
        let out = large.if_any(symbol, r, all, &[quadrant, r, low]);
        return Angle { quadrant: out[0], r: out[1], low: Some(out[2]) };
    }
    let r = cody_waite_32(a, q);
    let large = a.gt(LARGE_32);
    let all = || {
        let (quadrant_2, far) = payne_hanek(a.cast(DType::F64));
        vec![large.select(quadrant_2.cast(DType::I32), quadrant), large.select(far.high.cast(DType::F32), r)]
    };
    let out = large.if_any(symbol, r, all, &[quadrant, r]);
    Angle { quadrant: out[0], r: out[1], low: None }
}

/// Below these, `q` has at most 13 or 20 bits.
const LARGE_32: f64 = 12000.0;
const LARGE_64: f64 = 1_600_000.0;

/// The first two steps are exact; the last three parts matter by rounding errors only.
fn cody_waite_32<'f>(a: V<'f>, q: V<'f>) -> V<'f> {
    let r = q.muladd(-PARTS_32[1], q.muladd(-PARTS_32[0], a));
    let last = q.muladd(PARTS_32[4], q * PARTS_32[3]);
    q.muladd(-PARTS_32[2], r) - last
}

fn cody_waite_64<'f>(a: V<'f>, q: V<'f>) -> (V<'f>, V<'f>) {
    let first = a - q * PARTS_64[0];
    let second = Double::sum(first, q * -PARTS_64[1]);
    let third = Double::sum(second.high, q * -PARTS_64[2]);
    let low = (second.low + third.low) - q * PARTS_64[3];
    let r = third.high + low;
    (r, (third.high - r) + low)
}

/// The quadrant (`i64`) and the rest of a large positive `f64`. Of infinity and NaN: NaN.
fn payne_hanek<'f>(a: V<'f>) -> (V<'f>, Double<'f>) {
    let bits = a.to_int();
    // a = mantissa * 2^(exponent - 1075). The window starts at the bit of 2/pi whose product with
    // 2^(exponent - 1075) weighs 2; what is above it are multiples of 4.
    let exponent = bits >> 52_i64;
    let start = (exponent - (1075 + 2 - 64)).cast(DType::U64);
    let mantissa = ((bits & 0xf_ffff_ffff_ffff_i64) | 0x10_0000_0000_0000_i64).cast(DType::U64);
    let window = window(start);
    let [top, middle] = product(mantissa, &window);
    // Rounds to the nearest quadrant; what is left is signed.
    let rounded = top + (1_i64 << 61);
    let quadrant = (rounded >> 62_i64).cast(DType::I64);
    let rest = (rounded & ((1_i64 << 62) - 1)).cast(DType::I64) - (1_i64 << 61);
    let word = |v: V<'f>, scale: i32| v.cast(DType::I64).cast(DType::F64) * 2f64.powi(scale);
    let upper = Double::sum(word(rest >> 32_i64, -30), word(rest & 0xffff_ffff_i64, -62));
    let lower = word(middle >> 32_i64, -94) + word(middle & 0xffff_ffff_i64, -126);
    let fraction = Double::sum(upper.high, upper.low + lower);
    let angle = fraction.product(Double::constant(a, FRAC_PI_2, PI_2_LOW));
    let finite = a.is_finite();
    (quadrant, Double { high: finite.select(angle.high, f64::NAN), low: angle.low })
}

/// The 192 bits of [`TWO_OVER_PI`] from bit `start` (`u64`) on, as three words, highest first.
fn window(start: V<'_>) -> [V<'_>; 3] {
    // A barrel shifter over words: after each step, only what later steps may reach is kept.
    let mut words: Vec<V<'_>> = TWO_OVER_PI.iter().map(|&w| start.bits(w)).collect();
    for step in [16, 8, 4, 2, 1] {
        let shifted = (start & (step as i64 * 64)).ne(0_i64);
        let at = |i: usize| words.get(i).copied().unwrap_or_else(|| start.bits(0));
        words = (0..3 + step).map(|i| shifted.select(at(i + step), at(i))).collect();
    }
    let up = start & 63_i64;
    let down = up.number(64_i64) - up;
    [0, 1, 2].map(|i| (words[i] << up) | (words[i + 1] >> down))
}

/// The upper two words of `mantissa * window` modulo `2^192`, by digits of 32 bits.
fn product<'f>(mantissa: V<'f>, window: &[V<'f>; 3]) -> [V<'f>; 2] {
    let low = |v: V<'f>| v & 0xffff_ffff_i64;
    let high = |v: V<'f>| v >> 32_i64;
    let (m0, m1) = (low(mantissa), high(mantissa));
    let digits =
        [low(window[2]), high(window[2]), low(window[1]), high(window[1]), low(window[0]), high(window[0])];
    let mut carry = mantissa.number(0_i64);
    let mut out = Vec::new();
    for i in 0..6 {
        let a = m0 * digits[i];
        let b = if i > 0 { m1 * digits[i - 1] } else { m1.number(0_i64) };
        let sum = low(a) + low(b) + carry;
        carry = high(sum) + high(a) + high(b);
        out.push(low(sum));
    }
    [(out[5] << 32_i64) | out[4], (out[3] << 32_i64) | out[2]]
}
