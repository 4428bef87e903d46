//! Float operations for levels without an instruction for them: rounding to an integer value below
//! SSE4.1, and the fused multiply-add below AVX2. Cranelift would call a library.

use super::ops::Emit;
use super::value;
use burin_ir::scalar::ScalarOp;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, types};

impl Emit<'_, '_> {
    /// Floor, ceiling, truncation or rounding to nearest even, of a scalar or a chunk.
    pub(super) fn round(&mut self, op: ScalarOp, x: ir::Value) -> ir::Value {
        if !self.target.rounding {
            return self.round_by_sums(op, x);
        }
        match op {
            ScalarOp::Floor => self.b.ins().floor(x),
            ScalarOp::Ceil => self.b.ins().ceil(x),
            ScalarOp::Trunc => self.b.ins().trunc(x),
            _ => self.b.ins().nearest(x),
        }
    }

    /// Adding and subtracting 2^p, where p + 1 is the number of significant bits, rounds a smaller
    /// magnitude to nearest even; a comparison then corrects it by one. Magnitudes of 2^p and above
    /// are integers already, and NaN compares false. The sign is put back last, for zeros.
    fn round_by_sums(&mut self, op: ScalarOp, x: ir::Value) -> ir::Value {
        let ty = self.type_of(x);
        let double = ty.lane_type() == types::F64;
        let of = |v: f64| if double { v.to_bits() } else { (v as f32).to_bits() as u64 };
        let limit = value::constant(self.b, ty, of(if double { 2f64.powi(52) } else { 2f64.powi(23) }));
        let one = value::constant(self.b, ty, of(1.0));
        let magnitude = self.b.ins().fabs(x);
        let raised = self.b.ins().fadd(magnitude, limit);
        let nearest = self.b.ins().fsub(raised, limit);
        let rounded = match op {
            ScalarOp::Round => nearest,
            ScalarOp::Trunc => self.step_where(FloatCC::GreaterThan, nearest, magnitude, one, true),
            _ => {
                let signed = self.with_sign(nearest, x);
                let floor = op == ScalarOp::Floor;
                let cc = if floor { FloatCC::GreaterThan } else { FloatCC::LessThan };
                let stepped = self.step_where(cc, signed, x, one, floor);
                self.b.ins().fabs(stepped)
            }
        };
        let signed = self.with_sign(rounded, x);
        let small = self.b.ins().fcmp(FloatCC::LessThan, magnitude, limit);
        self.choose(small, signed, x)
    }

    /// `v` one lower (or higher) where it compares so with `against`.
    fn step_where(
        &mut self,
        cc: FloatCC,
        v: ir::Value,
        against: ir::Value,
        one: ir::Value,
        down: bool,
    ) -> ir::Value {
        let beyond = self.b.ins().fcmp(cc, v, against);
        let stepped = if down { self.b.ins().fsub(v, one) } else { self.b.ins().fadd(v, one) };
        self.choose(beyond, stepped, v)
    }

    /// A float that is not negative, with the sign of `of`.
    fn with_sign(&mut self, v: ir::Value, of: ir::Value) -> ir::Value {
        let ty = self.type_of(v);
        let int = value::as_int(ty);
        let sign = value::constant(self.b, int, 1 << (ty.lane_bits() - 1));
        let of = value::bitcast(self.b, int, of);
        let v = value::bitcast(self.b, int, v);
        let sign = self.b.ins().band(of, sign);
        let bits = self.b.ins().bor(v, sign);
        value::bitcast(self.b, ty, bits)
    }

    /// `x * y + z` rounded once, for `f32` scalars.
    ///
    /// The product is exact in `f64`. The sum is rounded to odd (Boldo and Melquiond, "Emulation of
    /// FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008): where it is
    /// not exact and its last bit is even, it moves one step towards the part that was lost, which
    /// two-sum finds. Rounding that to `f32`, of less than half as many bits, is rounding once.
    pub(super) fn fused(&mut self, x: ir::Value, y: ir::Value, z: ir::Value) -> ir::Value {
        let b = &mut *self.b;
        let [x, y, z] = [x, y, z].map(|v| b.ins().fpromote(types::F64, v));
        let product = b.ins().fmul(x, y);
        let sum = b.ins().fadd(product, z);
        let second = b.ins().fsub(sum, product);
        let first = b.ins().fsub(sum, second);
        let lost_first = b.ins().fsub(product, first);
        let lost_second = b.ins().fsub(z, second);
        let lost = b.ins().fadd(lost_first, lost_second);
        let zero = b.ins().f64const(0.0);
        let bits = value::bitcast(b, types::I64, sum);
        let last = b.ins().band_imm_s(bits, 1);
        let even = b.ins().icmp_imm_s(IntCC::Equal, last, 0);
        let inexact = b.ins().fcmp(FloatCC::OrderedNotEqual, lost, zero);
        let upwards = b.ins().fcmp(FloatCC::GreaterThan, lost, zero);
        let positive = b.ins().fcmp(FloatCC::GreaterThan, sum, zero);
        let away = b.ins().icmp(IntCC::Equal, upwards, positive);
        let out = b.ins().iadd_imm_s(bits, 1);
        let inwards = b.ins().iadd_imm_s(bits, -1);
        let moved = b.ins().select(away, out, inwards);
        let needed = b.ins().band(even, inexact);
        let odd = b.ins().select(needed, moved, bits);
        let odd = value::bitcast(b, types::F64, odd);
        b.ins().fdemote(types::F32, odd)
    }
}
