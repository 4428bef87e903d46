//! Conversions between element types: floats to integers truncate and saturate with NaN to 0,
//! integers wrap, anything to bool is `!= 0`.
//!
//! 64-bit integers go to `f32` through `f64`, as the definition says. Conversions that Cranelift
//! has for whole chunks are listed in [`Emit::cast_chunks`]; the others are done lane by lane.

use super::ops::Emit;
use super::value::{self, Parts, Value, scalar_type};
use burin_ir::DType;
use burin_ir::loops::ValType;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, types};

impl Emit<'_, '_> {
    /// A value converted to another element type.
    pub(super) fn cast(&mut self, v: &Value, to: DType) -> Result<Value, String> {
        let from = v.ty.dtype;
        if from == to {
            return Ok(v.clone());
        }
        if [from, to].iter().any(|t| matches!(t, DType::F16 | DType::BF16) || t.is_storage()) {
            return Err(format!("the cast of {from} to {to} has not been expanded"));
        }
        let vector_bits = self.target.vector_bits;
        let ty = ValType { dtype: to, lanes: v.ty.lanes };
        if v.ty.lanes == 1 {
            let out = self.cast_scalar(v.parts[0], from, to);
            return Ok(Value::scalar(to, out));
        }
        if let Some(s) = v.uniform {
            let out = self.cast_scalar(s, from, to);
            return Ok(Value::splat(self.b, ty, to.bits(), out, vector_bits));
        }
        // A mask takes the width of what it becomes, and becomes a mask of the width it had.
        let bits = match (from, to) {
            (_, DType::Bool) => from.bits(),
            _ => to.bits(),
        };
        let v = v.with_mask(self.b, bits, vector_bits);
        let chunks = v.chunks(vector_bits);
        if v.bits == bits && chunks > 0 {
            let made: Option<Parts> =
                v.parts[..chunks].iter().map(|p| self.cast_chunk(*p, from, to)).collect();
            if let Some(mut parts) = made {
                for lane in &v.parts[chunks..] {
                    parts.push(self.cast_scalar(*lane, from, to));
                }
                return Ok(Value { ty, bits, parts, uniform: None });
            }
        }
        if let Some(parts) = self.cast_widening(&v, to) {
            return Ok(Value { ty, bits, parts, uniform: None });
        }
        let lanes = v.lanes(self.b, vector_bits);
        let lanes: Vec<ir::Value> = lanes.into_iter().map(|l| self.cast_scalar(l, from, to)).collect();
        Ok(Value::from_lanes(self.b, ty, bits, &lanes, vector_bits))
    }

    /// Between types of one width, a chunk at a time; `None` where there is no such instruction.
    fn cast_chunk(&mut self, v: ir::Value, from: DType, to: DType) -> Option<ir::Value> {
        let ty = self.type_of(v);
        Some(match (from, to) {
            (DType::Bool, _) => {
                let one = match to {
                    DType::F32 => 1f32.to_bits() as u64,
                    DType::F64 => 1f64.to_bits(),
                    _ => 1,
                };
                let ones = value::constant(self.b, ty, one);
                let masked = self.b.ins().band(v, ones);
                let lanes = scalar_type(to).by(ty.lane_count())?;
                value::bitcast(self.b, lanes, masked)
            }
            (DType::I64 | DType::U64, DType::Bool) => return None,
            (_, DType::Bool) => {
                let zero = value::constant(self.b, ty, 0);
                if from.is_float() {
                    self.b.ins().fcmp(FloatCC::NotEqual, v, zero)
                } else {
                    self.b.ins().icmp(IntCC::NotEqual, v, zero)
                }
            }
            (DType::I32, DType::F32) => self.b.ins().fcvt_from_sint(types::F32X4, v),
            (DType::U32, DType::F32) => self.b.ins().fcvt_from_uint(types::F32X4, v),
            (DType::F32, DType::I32) => self.b.ins().fcvt_to_sint_sat(types::I32X4, v),
            (DType::F32, DType::U32) => self.b.ins().fcvt_to_uint_sat(types::I32X4, v),
            (a, b) if a.is_int() && b.is_int() && a.bits() == b.bits() => v,
            _ => return None,
        })
    }

    /// Integers to wider integers where all lanes are in chunks, doubling the width step by step.
    fn cast_widening(&mut self, v: &Value, to: DType) -> Option<Parts> {
        let from = v.ty.dtype;
        let whole = v.chunks(self.target.vector_bits) == v.parts.len();
        if !(from.is_int() && to.is_int() && from.bits() < to.bits() && whole) {
            return None;
        }
        let mut parts = v.parts.clone();
        let mut bits = from.bits();
        while bits < to.bits() {
            let mut wide = Parts::new();
            for p in parts {
                if from.is_signed_int() {
                    wide.push(self.b.ins().swiden_low(p));
                    wide.push(self.b.ins().swiden_high(p));
                } else {
                    wide.push(self.b.ins().uwiden_low(p));
                    wide.push(self.b.ins().uwiden_high(p));
                }
            }
            (parts, bits) = (wide, bits * 2);
        }
        Some(parts)
    }

    fn cast_scalar(&mut self, v: ir::Value, from: DType, to: DType) -> ir::Value {
        if from == to {
            return v;
        }
        match (from.is_float(), to.is_float()) {
            (true, true) => match to {
                DType::F64 => self.b.ins().fpromote(types::F64, v),
                _ => self.b.ins().fdemote(types::F32, v),
            },
            (true, false) => self.float_to_int(v, to),
            (false, true) => self.int_to_float(v, from, to),
            (false, false) if to == DType::Bool => self.b.ins().icmp_imm_s(IntCC::NotEqual, v, 0),
            (false, false) => self.resize(v, from.is_signed_int(), to.bits()),
        }
    }

    /// An integer cut or extended to that many bits.
    fn resize(&mut self, v: ir::Value, signed: bool, bits: u32) -> ir::Value {
        let to = value::int_type(bits);
        match self.type_of(v).bits() {
            from if from > bits => self.b.ins().ireduce(to, v),
            from if from == bits => v,
            _ if signed => self.b.ins().sextend(to, v),
            _ => self.b.ins().uextend(to, v),
        }
    }

    fn float_to_int(&mut self, v: ir::Value, to: DType) -> ir::Value {
        let (low, high) = match to {
            DType::Bool => {
                let zero = value::scalar_constant(self.b, self.b.func.dfg.value_type(v), 0);
                return self.b.ins().fcmp(FloatCC::NotEqual, v, zero);
            }
            DType::I64 | DType::I32 => return self.b.ins().fcvt_to_sint_sat(scalar_type(to), v),
            DType::U64 | DType::U32 => return self.b.ins().fcvt_to_uint_sat(scalar_type(to), v),
            DType::I16 => (i16::MIN as i64, i16::MAX as i64),
            DType::I8 => (i8::MIN as i64, i8::MAX as i64),
            DType::U16 => (0, u16::MAX as i64),
            _ => (0, u8::MAX as i64),
        };
        let wide = self.b.ins().fcvt_to_sint_sat(types::I32, v);
        let low = value::scalar_constant(self.b, types::I32, low as u64);
        let high = value::scalar_constant(self.b, types::I32, high as u64);
        let wide = self.b.ins().smax(wide, low);
        let wide = self.b.ins().smin(wide, high);
        self.b.ins().ireduce(scalar_type(to), wide)
    }

    fn int_to_float(&mut self, v: ir::Value, from: DType, to: DType) -> ir::Value {
        // Narrow integers are extended first, since not every target converts them as they are.
        let v = if from.bits() < 32 { self.resize(v, from.is_signed_int(), 32) } else { v };
        let direct = if from.bits() == 64 { types::F64 } else { scalar_type(to) };
        let float = if from.is_signed_int() || from.bits() < 32 {
            self.b.ins().fcvt_from_sint(direct, v)
        } else {
            self.b.ins().fcvt_from_uint(direct, v)
        };
        if direct == scalar_type(to) { float } else { self.b.ins().fdemote(types::F32, float) }
    }
}
