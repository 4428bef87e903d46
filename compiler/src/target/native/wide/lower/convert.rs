//! Conversions between types, as [`burin_ir::scalar`] defines them: floats to integers saturate, with 0 for
//! NaN; integers wrap; all that is not zero is true.

use super::arithmetic::float_bits;
use super::values::{Parts, Shape, lane_of};
use super::{Declined, Lower};
use crate::target::native::wide::code::{Conversion, Lane, UnaryOp, VecOp};
use burin_ir::{DType, ScalarOp};

/// Predicates of comparisons of floats.
const NOT_EQUAL: u8 = 0x04;
const ORDERED: u8 = 0x07;
const AT_LEAST: u8 = 0x1d;

/// 2^52, whose last place is 1: the low bits of its sum with a smaller integer are that integer.
const ONES_AT: f64 = 4503599627370496.0;
/// What the upper half of a 64-bit integer counts.
const HALF: f64 = 4294967296.0;

impl Lower<'_> {
    /// A value of so many lanes in another type.
    pub(super) fn cast(&mut self, from: DType, to: DType, v: &Parts, lanes: u16) -> Result<Parts, Declined> {
        if from == to {
            return Ok(v.clone());
        }
        let bits = |t: DType| if t.bits() == 64 { 64 } else { 32 };
        let (source, target) = (self.shape_of(lanes, bits(from))?, self.shape_of(lanes, bits(to))?);
        match (from, to) {
            (DType::Bool, _) => self.of_mask(to, v, target),
            (_, DType::Bool) => self.mask_of(from, v, source),
            (DType::F16 | DType::BF16, _) => self.cast(DType::F32, to, v, lanes),
            (DType::F32, DType::F16) => {
                let half = self.convert(Conversion::ToHalf, source, v);
                Ok(self.convert(Conversion::FromHalf, source, &half))
            }
            (DType::F32, DType::BF16) => self.rounded_to_upper_half(v, source),
            (_, DType::F16 | DType::BF16) => Err(format!("a cast of {from} to {to}")),
            (DType::F32, DType::F64) => self.widen(Conversion::Promote, v, lanes),
            (DType::F64, DType::F32) => self.narrow(Conversion::Demote, v, lanes),
            (DType::F32, _) if to.bits() == 64 => {
                let wide = self.widen(Conversion::Promote, v, lanes)?;
                self.cast(DType::F64, to, &wide, lanes)
            }
            (DType::F32, _) => self.float_to_int(to, v, source),
            (DType::F64, DType::I64 | DType::U64) => self.double_to_long(to, v, source),
            (DType::F64, _) => self.double_to_int(to, v, source),
            (_, DType::F32) if from.bits() == 64 => {
                let double = self.long_to_double(from, v, source);
                self.narrow(Conversion::Demote, &double, lanes)
            }
            (_, DType::F32) => Ok(self.int_to_float(from, v, source)),
            (DType::I64 | DType::U64, DType::F64) => Ok(self.long_to_double(from, v, source)),
            (DType::U32, DType::F64) => {
                let wide = self.widen(Conversion::ExtendZeros, v, lanes)?;
                Ok(self.long_to_double(DType::U64, &wide, target))
            }
            (_, DType::F64) => self.widen(Conversion::IntToDouble, v, lanes),
            _ => self.int_to_int(from, to, v, lanes),
        }
    }

    fn int_to_int(&mut self, from: DType, to: DType, v: &Parts, lanes: u16) -> Result<Parts, Declined> {
        let narrow = self.shape_of(lanes, 32)?;
        Ok(match (from.bits() == 64, to.bits() == 64) {
            (true, true) => v.clone(),
            (false, true) if from.is_signed_int() => self.widen(Conversion::Extend, v, lanes)?,
            (false, true) => self.widen(Conversion::ExtendZeros, v, lanes)?,
            (true, false) => {
                let low = self.narrow(Conversion::Truncate, v, lanes)?;
                self.wrap(to, narrow, low)
            }
            (false, false) => {
                // What a narrower type keeps, a wider one may keep as it is.
                let fits = from.bits() < to.bits() && (to.is_signed_int() || from.is_unsigned_int());
                if fits { v.clone() } else { self.wrap(to, narrow, v.clone()) }
            }
        })
    }

    fn of_mask(&mut self, to: DType, v: &Parts, shape: Shape) -> Result<Parts, Declined> {
        let one = match to {
            DType::F16 | DType::BF16 => float_bits(Lane::F32, 1.0),
            t if t.is_float() => float_bits(lane_of(t), 1.0),
            _ => 1,
        };
        let mask = self.mask_for(shape, v)?;
        Ok(self.with_constant(VecOp::And, lane_of(to), shape, &mask, one))
    }

    fn mask_of(&mut self, from: DType, v: &Parts, shape: Shape) -> Result<Parts, Declined> {
        let zero = self.constant(shape, 0);
        if from.is_float() {
            return self.compare(VecOp::Compare(NOT_EQUAL), lane_of(from), shape, v, &zero);
        }
        self.int_compare(ScalarOp::Ne, from, shape, v, &zero)
    }

    /// `f32` rounded to the upper half of its bits, to nearest even; a NaN becomes one that stays it.
    fn rounded_to_upper_half(&mut self, v: &Parts, shape: Shape) -> Result<Parts, Declined> {
        let lane = Lane::I32;
        let last = self.unary(UnaryOp::ShiftRightZeros(16), lane, shape, v);
        let odd = self.with_constant(VecOp::And, lane, shape, &last, 1);
        let less = self.with_constant(VecOp::Add, lane, shape, &odd, 0x7fff);
        let sum = self.vec(VecOp::Add, lane, shape, v, &less);
        let rounded = self.with_constant(VecOp::And, lane, shape, &sum, 0xffff_0000);
        let quiet = self.constant(shape, 0x7fc0_0000);
        let number = self.compare(VecOp::Compare(ORDERED), Lane::F32, shape, v, v)?;
        Ok(self.choose(shape, &number, &rounded, &quiet))
    }

    fn int_to_float(&mut self, from: DType, v: &Parts, shape: Shape) -> Parts {
        let lane = Lane::I32;
        match (from, self.has_masks()) {
            (DType::U32, true) => self.convert(Conversion::FromUnsigned(lane), shape, v),
            (DType::U32, false) => {
                // Both halves exactly; their sum is rounded once.
                let high = self.unary(UnaryOp::ShiftRightZeros(16), lane, shape, v);
                let low = self.with_constant(VecOp::And, lane, shape, v, 0xffff);
                let high = self.convert(Conversion::FromInt(lane), shape, &high);
                let low = self.convert(Conversion::FromInt(lane), shape, &low);
                let unit = float_bits(Lane::F32, 65536.0);
                let high = self.with_constant(VecOp::Mul, Lane::F32, shape, &high, unit);
                self.vec(VecOp::Add, Lane::F32, shape, &high, &low)
            }
            _ => self.convert(Conversion::FromInt(lane), shape, v),
        }
    }

    /// A float within bounds, the lower one for NaN.
    pub(super) fn clamped(&mut self, lane: Lane, shape: Shape, v: &Parts, bounds: [f64; 2]) -> Parts {
        let [low, high] = bounds.map(|b| float_bits(lane, b));
        let v = self.with_constant(VecOp::Max, lane, shape, v, low);
        self.with_constant(VecOp::Min, lane, shape, &v, high)
    }

    /// A float with 0 in the place of NaN.
    fn without_nan(&mut self, lane: Lane, shape: Shape, v: &Parts) -> Result<Parts, Declined> {
        let number = self.compare(VecOp::Compare(ORDERED), lane, shape, v, v)?;
        let number = self.mask_for(shape, &number)?;
        Ok(self.vec(VecOp::And, lane, shape, v, &number))
    }

    fn float_to_int(&mut self, to: DType, v: &Parts, shape: Shape) -> Result<Parts, Declined> {
        let lane = Lane::F32;
        Ok(match to {
            DType::I32 => {
                // Too large ones give the least integer, whose inverse is the greatest.
                let v = self.without_nan(lane, shape, v)?;
                let int = self.convert(Conversion::ToInt(lane), shape, &v);
                let limit = self.constant(shape, float_bits(lane, 2147483648.0));
                let large = self.compare(VecOp::Compare(AT_LEAST), lane, shape, &v, &limit)?;
                self.vec(VecOp::Xor, lane, shape, &int, &large)
            }
            DType::U32 if self.has_masks() => {
                let v = self.with_constant(VecOp::Max, lane, shape, v, 0);
                self.convert(Conversion::ToUnsigned(lane), shape, &v)
            }
            DType::U32 => {
                let wide = self.widen(Conversion::Promote, v, shape.lanes)?;
                let from = self.shape_of(shape.lanes, 64)?;
                self.double_to_int(to, &wide, from)?
            }
            _ => {
                let v = if to.is_signed_int() { self.without_nan(lane, shape, v)? } else { v.clone() };
                let v = self.clamped(lane, shape, &v, bounds(to));
                self.convert(Conversion::ToInt(lane), shape, &v)
            }
        })
    }

    /// To at most 32 bits.
    fn double_to_int(&mut self, to: DType, v: &Parts, shape: Shape) -> Result<Parts, Declined> {
        let lane = Lane::F64;
        let v = if to.is_signed_int() { self.without_nan(lane, shape, v)? } else { v.clone() };
        let v = self.clamped(lane, shape, &v, bounds(to));
        if to != DType::U32 {
            return self.narrow(Conversion::DoubleToInt, &v, shape.lanes);
        }
        // The upper half of them lies below zero.
        let whole = self.unary(UnaryOp::Round(11), lane, shape, &v);
        let lower = self.with_constant(VecOp::Sub, lane, shape, &whole, 2147483648f64.to_bits());
        let int = self.narrow(Conversion::DoubleToInt, &lower, shape.lanes)?;
        let narrow = self.shape_of(shape.lanes, 32)?;
        Ok(self.with_constant(VecOp::Xor, Lane::I32, narrow, &int, 1 << 31))
    }

    fn long_to_double(&mut self, from: DType, v: &Parts, shape: Shape) -> Parts {
        let signed = from == DType::I64;
        if self.has_masks() {
            let op =
                if signed { Conversion::FromInt(Lane::I64) } else { Conversion::FromUnsigned(Lane::I64) };
            return self.convert(op, shape, v);
        }
        // Both halves exactly, as the low bits of 2^52; their sum is rounded once.
        let lane = Lane::I64;
        let number = |s: &mut Self, bits: &Parts, less: f64| {
            let float = s.with_constant(VecOp::Or, lane, shape, bits, ONES_AT.to_bits());
            s.with_constant(VecOp::Sub, Lane::F64, shape, &float, less.to_bits())
        };
        let low = self.with_constant(VecOp::And, lane, shape, v, u64::from(u32::MAX));
        let low = number(self, &low, ONES_AT);
        let high = self.unary(UnaryOp::ShiftRightZeros(32), lane, shape, v);
        let high = if signed {
            let high = self.with_constant(VecOp::Xor, lane, shape, &high, 1 << 31);
            number(self, &high, ONES_AT + HALF / 2.0)
        } else {
            number(self, &high, ONES_AT)
        };
        let high = self.with_constant(VecOp::Mul, Lane::F64, shape, &high, HALF.to_bits());
        self.vec(VecOp::Add, Lane::F64, shape, &high, &low)
    }

    fn double_to_long(&mut self, to: DType, v: &Parts, shape: Shape) -> Result<Parts, Declined> {
        let (lane, signed) = (Lane::F64, to == DType::I64);
        let limit: f64 = if signed { 9223372036854775808.0 } else { 18446744073709551616.0 };
        if self.has_masks() && !signed {
            let v = self.with_constant(VecOp::Max, lane, shape, v, 0);
            return Ok(self.convert(Conversion::ToUnsigned(lane), shape, &v));
        }
        let v = self.without_nan(lane, shape, v)?;
        let int = if self.has_masks() {
            self.convert(Conversion::ToInt(lane), shape, &v)
        } else {
            let least: f64 = if signed { -limit } else { 0.0 };
            let v = self.with_constant(VecOp::Max, lane, shape, &v, least.to_bits());
            let whole = self.unary(UnaryOp::Round(11), lane, shape, &v);
            // The upper half rounded down, what is left of it below 2^32, and both as the low bits of 2^52.
            let unit = (1.0 / HALF).to_bits();
            let high = self.with_constant(VecOp::Mul, lane, shape, &whole, unit);
            let high = self.unary(UnaryOp::Round(9), lane, shape, &high);
            let covered = self.with_constant(VecOp::Mul, lane, shape, &high, HALF.to_bits());
            let low = self.vec(VecOp::Sub, lane, shape, &whole, &covered);
            let raised = if signed { ONES_AT + HALF / 2.0 } else { ONES_AT };
            let high = self.with_constant(VecOp::Add, lane, shape, &high, raised.to_bits());
            let high = self.unary(UnaryOp::ShiftLeft(32), Lane::I64, shape, &high);
            let high =
                if signed { self.with_constant(VecOp::Xor, Lane::I64, shape, &high, 1 << 63) } else { high };
            let low = self.with_constant(VecOp::Add, lane, shape, &low, ONES_AT.to_bits());
            let low = self.with_constant(VecOp::And, Lane::I64, shape, &low, u64::from(u32::MAX));
            self.vec(VecOp::Or, Lane::I64, shape, &high, &low)
        };
        let limit = self.constant(shape, limit.to_bits());
        let large = self.compare(VecOp::Compare(AT_LEAST), lane, shape, &v, &limit)?;
        let large = self.mask_for(shape, &large)?;
        if self.has_masks() {
            // The least integer, whose inverse is the greatest.
            return Ok(self.vec(VecOp::Xor, Lane::I64, shape, &int, &large));
        }
        let most = self.constant(shape, if signed { i64::MAX as u64 } else { u64::MAX });
        Ok(self.choose(shape, &large, &most, &int))
    }
}

/// The least and the greatest number of an integer type of at most 32 bits.
pub(super) fn bounds(ty: DType) -> [f64; 2] {
    let size = 2f64.powi(ty.bits() as i32);
    if ty.is_signed_int() { [-size / 2.0, size / 2.0 - 1.0] } else { [0.0, size - 1.0] }
}
