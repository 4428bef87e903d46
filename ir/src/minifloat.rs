//! Floating-point types of 8 bits or less: their formats, and the values of their codes.
//!
//! The four `F8` types with a mantissa come from "FP8 Formats for Deep Learning" (Micikevicius and
//! others, 2022: `F8E5M2` with infinities, `F8E4M3FN` without) and "8-bit Numerical Formats for Deep
//! Neural Networks" (Noune and others, 2022: the `FNUZ` types, whose only NaN has the code of the
//! negative zero). `F8E8M0` (powers of two, without zero and sign) and `F4E2M1` are of the "OCP
//! Microscaling Formats (MX) Specification", 1.0.

use crate::dtype::DType;

/// The facts of a type whose codes have a sign, an exponent and a mantissa.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Format {
    /// Digits of the mantissa behind the point.
    pub digits: u32,
    /// What is added to the exponent of a normal number.
    pub bias: i32,
    /// The code of the sign bit alone.
    pub sign: u8,
    /// The code of the largest finite number.
    pub largest: u8,
    /// The code of infinity, where there is one.
    pub infinity: Option<u8>,
    /// The code of NaN; where there is none, of what takes its place: the negative zero.
    pub nan: u8,
    /// Whether there is a negative zero.
    pub negative_zero: bool,
}

/// The format of a type; `None` for [`DType::F8E8M0`] and for all types that are no such floats.
pub const fn format(t: DType) -> Option<Format> {
    let (digits, bias, sign, largest, infinity, nan) = match t {
        DType::F8E4M3FN => (3, 7, 0x80, 0x7e, None, 0x7f),
        DType::F8E4M3FNUZ => (3, 8, 0x80, 0x7f, None, 0x80),
        DType::F8E5M2 => (2, 15, 0x80, 0x7b, Some(0x7c), 0x7e),
        DType::F8E5M2FNUZ => (2, 16, 0x80, 0x7f, None, 0x80),
        DType::F4E2M1 => (1, 1, 0x08, 0x07, None, 0x08),
        _ => return None,
    };
    let negative_zero = nan != sign || matches!(t, DType::F4E2M1);
    Some(Format { digits, bias, sign, largest, infinity, nan, negative_zero })
}

impl Format {
    /// The value of a code without a sign.
    fn magnitude(&self, code: u8) -> f64 {
        let (exponent, fraction) = (i32::from(code >> self.digits), code & ((1 << self.digits) - 1));
        let normal = if exponent > 0 { 1 << self.digits } else { 0 };
        f64::from(fraction + normal) * power(exponent.max(1) - self.bias - self.digits as i32)
    }

    /// The largest finite number.
    pub fn max(&self) -> f64 {
        self.magnitude(self.largest)
    }

    /// What is half way from the largest number to the next one, if there were one.
    pub fn overflow(&self) -> f64 {
        (self.max() + self.magnitude(self.largest + 1)) / 2.0
    }

    /// The exponent of the least normal number.
    pub const fn least_exponent(&self) -> i32 {
        1 - self.bias
    }
}

fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The value of a code.
pub fn decode(code: u8, t: DType) -> f64 {
    let Some(f) = format(t) else {
        return if code == 0xff { f64::NAN } else { power(i32::from(code) - 127) };
    };
    let magnitude = code & (f.sign - 1);
    let special = match f.infinity {
        Some(infinity) if magnitude == infinity => Some(f64::INFINITY),
        _ if magnitude > f.largest || (code == f.nan && !f.negative_zero) => Some(f64::NAN),
        _ => None,
    };
    let value = special.unwrap_or_else(|| f.magnitude(magnitude));
    if code & f.sign != 0 { -value } else { value }
}

/// The code of a value of the type; for any other value, what [`round`] makes of it.
pub fn encode(v: f64, t: DType) -> u8 {
    let Some(f) = format(t) else {
        // The least power is a denormal of f32, in which conversions count.
        return if v == power(-127) { 0 } else { encode_power(v) };
    };
    if v.is_nan() {
        return f.nan;
    }
    let magnitude = match f.infinity {
        Some(infinity) if v.is_infinite() => infinity,
        _ => nearest(&f, v.abs()),
    };
    let negative = v.is_sign_negative() && (magnitude > 0 || f.negative_zero);
    if negative { magnitude | f.sign } else { magnitude }
}

fn nearest(f: &Format, v: f64) -> u8 {
    // The largest number that is not above.
    let (mut below, mut end) = (0, f.largest + 1);
    while end - below > 1 {
        let middle = below + (end - below) / 2;
        if f.magnitude(middle) <= v { below = middle } else { end = middle }
    }
    if below == f.largest {
        return below;
    }
    let middle = (f.magnitude(below) + f.magnitude(below + 1)) / 2.0;
    let up = v > middle || (v == middle && below % 2 == 1);
    below + u8::from(up)
}

fn encode_power(v: f64) -> u8 {
    let bits = (v as f32).to_bits() & 0x7fff_ffff;
    let (exponent, fraction) = ((bits >> 23) as u8, bits & 0x7f_ffff);
    match exponent {
        0xff | 0xfe => exponent,
        e => e + u8::from(fraction > 0),
    }
}

/// The value that a conversion to the type gives: the nearest, of two the one with an even code, and the
/// largest number for what is beyond it, infinities included. `F8E8M0` drops the sign and takes the
/// next power of two that is not less, as ONNX has it: from the exponent and the mantissa of the `f32`.
pub fn round(v: f64, t: DType) -> f64 {
    match format(t) {
        None => decode(encode_power(v), t),
        Some(f) if v.is_infinite() => f.max().copysign(v),
        Some(_) => decode(encode(v, t), t),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [DType; 6] =
        [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0, DType::F4E2M1];

    /// The values of all codes, as `ml_dtypes` 0.6.0 gives them (converted to `f32`).
    const VALUES: &str = include_str!("minifloat/values.txt");

    #[test]
    fn codes_have_the_values_of_ml_dtypes() {
        assert_eq!(VALUES.lines().count(), TYPES.len());
        for line in VALUES.lines() {
            let (name, values) = line.split_once(' ').expect("a type and its values");
            let t: DType = name.parse().expect("a type");
            for (code, expected) in values.split(' ').enumerate() {
                let (expected, found): (f64, f64) =
                    (expected.parse().expect("a number"), decode(code as u8, t));
                let same = expected.to_bits() == found.to_bits() || (expected.is_nan() && found.is_nan());
                assert!(same, "{t} {code:#x} is {found}, expected {expected}");
                if !found.is_nan() {
                    assert_eq!(encode(found, t), code as u8, "{t} {found}");
                }
            }
        }
    }

    /// FNV-1a.
    fn hash(codes: impl Iterator<Item = u8>) -> u64 {
        codes.fold(0xcbf2_9ce4_8422_2325, |h, c| (h ^ u64::from(c)).wrapping_mul(0x100_0000_01b3))
    }

    /// Numbers with every exponent, and with every tie of these types and the next number above it.
    fn singles() -> impl Iterator<Item = f64> {
        (0..1u32 << 18).flat_map(|i| [i << 14, i << 14 | 1]).map(|b| f32::from_bits(b).into())
    }

    /// Hashes of the codes that `onnx` 1.23.2 (`numpy_helper.saturate_cast`, and `to_float8e8m0`
    /// rounding up) gives on `ml_dtypes` 0.6.0 for the numbers above, every NaN counted as 0xff. (It
    /// converts `f64` through `f32` and so rounds twice, which is not done here.)
    const CODES: [(DType, u64); 6] = [
        (DType::F8E4M3FN, 0x8145_ebaf_883e_18a5),
        (DType::F8E4M3FNUZ, 0xeaba_62b4_ab4e_e2a5),
        (DType::F8E5M2, 0xbdeb_dbde_8025_b2a5),
        (DType::F8E5M2FNUZ, 0xd2b3_983a_2726_7725),
        (DType::F8E8M0, 0x3bd4_424e_759b_5325),
        (DType::F4E2M1, 0xa9fb_02ad_9ae1_a12d),
    ];

    #[test]
    fn conversions_are_those_of_onnx() {
        for (t, expected) in CODES {
            let code = |v: f64| if v.is_nan() { 0xff } else { to_code(round(v, t), t) };
            assert_eq!(hash(singles().map(code)), expected, "{t}");
        }
    }

    fn to_code(v: f64, t: DType) -> u8 {
        if v.is_nan() { 0xff } else { encode(v, t) }
    }
}
