//! Conversions between `f32` or `f64` and narrow types, as arithmetic on bits, since no code generator
//! has them for every target.
//!
//! They round to nearest even and keep denormals, infinities and the sign of zero as far as the type
//! has them; what is beyond the largest number of 16 bits becomes infinity, and of 8 bits or less that
//! number. Every NaN becomes the quiet one.

use super::formula::V;
use burin_ir::minifloat::{self, Format};
use burin_ir::{DType, scalar};

/// An `f32` or `f64` rounded to a narrow float, as an `f32`.
///
/// Adding and subtracting a power of two whose last bit is the result's last bit rounds to nearest
/// even in the unit itself (T. J. Dekker, "A floating-point technique for extending the available
/// precision", 1971). For `bf16` that power overflows in `f32`; there the bits are rounded.
pub(super) fn round(x: V<'_>, to: DType) -> V<'_> {
    if to == DType::F8E8M0 {
        return unpack_power(next_power(x.cast(DType::F32)));
    }
    if to == DType::BF16 && x.dtype() == DType::F32 {
        return round_bits(x);
    }
    // Digits after the point, the exponent of the least normal number, and the largest number.
    let (digits, least, largest) = match (to, minifloat::format(to)) {
        (_, Some(f)) => (f.digits.into(), f.least_exponent().into(), f.max()),
        (DType::F16, _) => (10_i64, -14_i64, f64::from(half::f16::MAX.to_f32())),
        _ => (7, -126, f64::from(half::bf16::MAX.to_f32())),
    };
    let (mantissa, bias) = if x.dtype() == DType::F64 { (52, 1023) } else { (23, 127) };
    // Infinity is brought within reach of the power; a NaN stays one, whatever its power.
    let magnitude = x.abs().at_most(largest * 2.0);
    let exponent = magnitude.to_int() & ((2 * bias + 1_i64) << mantissa);
    let floor = exponent.number((least + bias) << mantissa);
    let exponent = floor.gt(exponent).select(floor, exponent);
    let power = (exponent + ((mantissa - digits) << mantissa)).to_float();
    let rounded = (magnitude + power) - power;
    let beyond = if to.is_minifloat() { largest } else { f64::INFINITY };
    let rounded = rounded.gt(largest).select(rounded.number(beyond), rounded);
    match minifloat::format(to) {
        Some(f) if !f.negative_zero => {
            let negative = rounded.number(0.0) - rounded;
            x.lt(0.0).select(negative, rounded).cast(DType::F32)
        }
        // What takes the place of NaN is a zero.
        Some(f) if f.nan == f.sign => {
            let zero = rounded.number(-0.0);
            x.ne(x).select(zero, rounded.with_sign(x.sign())).cast(DType::F32)
        }
        _ => rounded.with_sign(x.sign()).cast(DType::F32),
    }
}

/// An `f32` rounded to `bf16`: half of the last place, less one where the last digit is even, is
/// added to the bits, and what is below that place is cut off.
fn round_bits(x: V<'_>) -> V<'_> {
    let bits = x.to_int();
    let even = (bits >> 16_i64) & 1_i64;
    let rounded = ((bits + (even + 0x7fff_i64)) & !0xffff_i64).to_float();
    x.ne(x).select(x, rounded)
}

/// The bits (`u16` or `u8`) of an `f32` that the narrow type can hold.
pub(super) fn pack(x: V<'_>, to: DType) -> V<'_> {
    let magnitude = x.abs();
    let (bits, nan, width) = match (to, minifloat::format(to)) {
        (DType::F8E8M0, _) => {
            let exponent = magnitude.to_int() >> 23_i64;
            return x.ne(x).select(exponent.number(0xff_i64), exponent).cast(DType::U8);
        }
        (_, Some(f)) => return pack_small(x, &f),
        (DType::BF16, _) => (magnitude.to_int() >> 16_i64, 0x7fc0_i64, DType::U16),
        _ => {
            let normal = (magnitude.to_int() >> 13_i64) - ((127 - 15) << 10_i64);
            // The last place of 1/2 is the least f16: the sum's bits count them.
            let denormal = (magnitude + 0.5).to_int() - 0x3f00_0000_i64;
            let least = f64::from(half::f16::MIN_POSITIVE.to_f32());
            let finite = magnitude.lt(least).select(denormal, normal);
            let bits = magnitude.eq(f64::INFINITY).select(finite.number(0x7c00_i64), finite);
            (bits, 0x7e00, DType::U16)
        }
    };
    let bits = x.ne(x).select(bits.number(nan), bits);
    let sign = (x.to_int() >> 16_i64) & 0x8000_i64;
    (bits | sign).cast(width)
}

/// [`pack`] for floats with a sign of 8 bits or less.
fn pack_small<'f>(x: V<'f>, f: &Format) -> V<'f> {
    let (magnitude, digits, bias) = (x.abs(), i64::from(f.digits), i64::from(f.bias));
    let normal = (magnitude.to_int() >> (23 - digits)) - ((127 - bias) << digits);
    // A number whose last place is the least one of the type: the sum's bits count those.
    let unit = i64::from(f.least_exponent()) - digits + 23;
    let denormal = (magnitude + 2f64.powi(unit as i32)).to_int() - ((unit + 127) << 23);
    let least = 2f64.powi(f.least_exponent());
    let mut bits = magnitude.lt(least).select(denormal, normal);
    if let Some(infinity) = f.infinity {
        bits = magnitude.eq(f64::INFINITY).select(bits.number(i64::from(infinity)), bits);
    }
    let shift = if f.sign == 0x80 { 24 } else { 28 };
    let sign = (x.to_int() >> shift) & i64::from(f.sign);
    let signed = if f.negative_zero { bits | sign } else { x.lt(0.0).select(bits | sign, bits) };
    x.ne(x).select(bits.number(i64::from(f.nan)), signed).cast(DType::U8)
}

/// The `f32` that the bits (`u16` or `u8`) of a narrow float stand for.
pub(super) fn unpack(bits: V<'_>, from: DType) -> V<'_> {
    let bits = bits.cast(DType::I32);
    match (from, minifloat::format(from)) {
        (DType::F8E8M0, _) => return unpack_power(bits),
        (_, Some(f)) => return unpack_small(bits, &f),
        (DType::BF16, _) => return (bits << 16_i64).to_float(),
        _ => {}
    }
    let magnitude = bits & 0x7fff_i64;
    let shifted = magnitude << 13_i64;
    // The exponent's bias differs by 112; the product is exact, of denormals as well.
    let finite = shifted.to_float() * 2f64.powi(127 - 15);
    let special = (shifted | 0x7f80_0000_i64).to_float();
    let value = magnitude.ge(0x7c00_i64).select(special, finite);
    value.with_sign((bits & 0x8000_i64) << 16_i64)
}

/// [`unpack`] for floats with a sign of 8 bits or less.
fn unpack_small<'f>(bits: V<'f>, f: &Format) -> V<'f> {
    let magnitude = bits & i64::from(f.sign - 1);
    let shifted = magnitude << (23 - i64::from(f.digits));
    let finite = shifted.to_float() * 2f64.powi(127 - f.bias);
    let value = match f.infinity {
        Some(infinity) => {
            let special = (shifted | 0x7f80_0000_i64).to_float();
            magnitude.ge(i64::from(infinity)).select(special, finite)
        }
        None if f.negative_zero && f.nan < f.sign => {
            magnitude.eq(i64::from(f.nan)).select(finite.number(f64::NAN), finite)
        }
        None => finite,
    };
    let shift = if f.sign == 0x80 { 24_i64 } else { 28 };
    let signed = value.with_sign((bits & i64::from(f.sign)) << shift);
    if f.negative_zero { signed } else { bits.eq(i64::from(f.nan)).select(signed.number(f64::NAN), signed) }
}

/// The exponent's bits of the power of two that ONNX takes for an `f32`: the next one that is not less
/// than its magnitude, as far as there is one; 0xff for what is not finite.
fn next_power(x: V<'_>) -> V<'_> {
    let bits = x.abs().to_int();
    let (exponent, fraction) = (bits >> 23_i64, bits & 0x7f_ffff_i64);
    let up = fraction.gt(0_i64).select(exponent + 1_i64, exponent);
    exponent.ge(0xfe_i64).select(exponent, up)
}

/// The power of two (or NaN) of a code.
fn unpack_power(code: V<'_>) -> V<'_> {
    let power = (code << 23_i64).to_float();
    let power = code.eq(0_i64).select(power.number(2f64.powi(-127)), power);
    code.eq(0xff_i64).select(power.number(f64::NAN), power)
}

/// A value as an integer below 8 bits, in a byte: its low bits.
pub(super) fn wrap(x: V<'_>, to: DType) -> V<'_> {
    let wide = x.cast(DType::I32);
    let byte = scalar::to_bits(scalar::wrap(-1, to), to);
    if to.is_signed_int() {
        let shift = i64::from(32 - to.packed_bits());
        return ((wide << shift) >> shift).cast(DType::I8);
    }
    (wide & byte as i64).cast(DType::U8)
}
