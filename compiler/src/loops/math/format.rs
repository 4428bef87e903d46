//! What the expansions must know of a floating-point format.

use crate::loops::formula::V;
use burin_ir::DType;

/// Constants of `f32` or `f64`. Those that are multiplied by a reduction's integer have trailing
/// zero bits, so that the product is exact.
pub(super) struct Format {
    dtype: DType,
    /// Bits of the mantissa.
    pub(super) mantissa: i64,
    /// The exponent field of 1.
    pub(super) bias: i64,
    /// `1.5 * 2^mantissa`: its last place is 1.
    pub(super) magic: f64,
    /// Leading bits of `ln 2`.
    pub(super) ln2_high: f64,
    /// The rest of it.
    pub(super) ln2_low: f64,
    /// `e^x / 2` overflows from here on.
    pub(super) exp_top: f64,
    /// `e^x` is zero from here on.
    pub(super) exp_bottom: f64,
    /// `e^-x` is less than half a last place of `e^x` from here on.
    pub(super) tanh_top: f64,
    /// The least normal number.
    pub(super) min_normal: f64,
}

impl Format {
    /// The format of a value.
    pub(super) fn of(x: V<'_>) -> Format {
        match x.dtype() {
            DType::F64 => Format {
                dtype: DType::F64,
                mantissa: 52,
                bias: 1023,
                magic: 1.5 * (1_i64 << 52) as f64,
                ln2_high: LN2_HIGH_64,
                ln2_low: LN2_LOW_64,
                exp_top: 711.0,
                exp_bottom: -746.0,
                tanh_top: 45.0,
                min_normal: f64::MIN_POSITIVE,
            },
            _ => Format {
                dtype: DType::F32,
                mantissa: 23,
                bias: 127,
                magic: 1.5 * (1_i64 << 23) as f64,
                ln2_high: LN2_HIGH_32,
                ln2_low: LN2_LOW_32,
                exp_top: 90.0,
                exp_bottom: -104.0,
                tanh_top: 20.0,
                min_normal: f32::MIN_POSITIVE as f64,
            },
        }
    }

    /// Whether it is `f64`.
    pub(super) fn is_double(&self) -> bool {
        self.dtype == DType::F64
    }

    /// The bits of a number of the format.
    pub(super) fn bits(&self, number: f64) -> i64 {
        if self.is_double() { number.to_bits() as i64 } else { (number as f32).to_bits() as i64 }
    }

    /// The bits of [`Format::magic`].
    pub(super) fn magic_bits(&self) -> i64 {
        self.bits(self.magic)
    }
}

const LN2_HIGH_32: f64 = 0.693359375;
const LN2_LOW_32: f64 = -0.00021219444005469057;
const LN2_HIGH_64: f64 = 0.6931471803691238;
const LN2_LOW_64: f64 = 1.9082149292705877e-10;
