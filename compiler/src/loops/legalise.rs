//! `f16` and `bf16` become storage: 16-bit values in memory, `f32` arithmetic between.
//!
//! After the pass no value and no buffer has a 16-bit float type. A buffer of one is declared
//! `u16` in the kernel (its size stays); a value of one is an `f32` that the 16-bit type can hold,
//! being rounded after each operation. Rounding an `f32` result again is innocuous for `+ - * /`
//! and square roots, as 24 >= 2 * 11 + 2 (S. A. Figueroa, "When is double rounding innocuous?",
//! 1995); `fma`, 64-bit floats and wide integers are rounded from `f64`, as
//! [`scalar`](burin_ir::scalar) says.
//!
//! Conversions are arithmetic on bits, since no code generator has them for every target; they
//! round to nearest even and keep denormals, infinities and the sign of zero. Every NaN becomes
//! the quiet one.

use super::formula::{Scope, V};
use super::rewrite::rewrite;
use burin_ir::loops::{Buf, Builder, Kernel, Op, Stmt, Val, ValType};
use burin_ir::{DType, ReduceOp, ScalarOp, scalar};
use cranelift_entity::PrimaryMap;
use std::collections::HashMap;

/// Legalises a kernel.
pub fn run(kernel: &mut Kernel) {
    let types = kernel.values.clone();
    let stored: Vec<DType> = kernel.buffers.values().map(|b| b.dtype).collect();
    if !types.values().map(|t| t.dtype).chain(stored.iter().copied()).any(is_half) {
        return;
    }
    for ty in kernel.values.values_mut().filter(|ty| is_half(ty.dtype)) {
        ty.dtype = DType::F32;
    }
    for buffer in kernel.buffers.values_mut().filter(|b| is_half(b.dtype)) {
        buffer.dtype = DType::U16;
    }
    let mut pass = Pass { types, stored, made: HashMap::new() };
    rewrite(kernel, &mut |builder, stmt| pass.stmt(builder, stmt));
}

/// Whether values of this type are 16-bit floats.
fn is_half(ty: DType) -> bool {
    matches!(ty, DType::F16 | DType::BF16)
}

struct Pass {
    /// The values' types before the pass.
    types: PrimaryMap<Val, ValType>,
    /// The buffers' types before the pass.
    stored: Vec<DType>,
    /// The 16-bit float types of values that stand in the place of others.
    made: HashMap<Val, DType>,
}

impl Pass {
    fn stmt(&mut self, builder: &mut Builder<'_>, stmt: Stmt) -> Option<Val> {
        match stmt {
            Stmt::Let(value, op) => {
                let to = self.types[value];
                let replaced = self.define(builder, value, op);
                if let Some(new) = replaced.filter(|_| is_half(to.dtype)) {
                    self.made.insert(new, to.dtype);
                }
                return replaced;
            }
            Stmt::Store { buffer, index, stride, value } if is_half(self.stored(buffer)) => {
                let value = pack(Scope::new(builder).value(value), self.stored(buffer)).val();
                builder.push(Stmt::Store { buffer, index, stride, value });
            }
            other => builder.push(other),
        }
        None
    }

    fn stored(&self, buffer: Buf) -> DType {
        self.stored[buffer.as_u32() as usize]
    }

    /// The 16-bit float type that a value stands for.
    fn half(&self, value: Val) -> Option<DType> {
        let ty = self.made.get(&value).copied().or_else(|| self.types.get(value).map(|t| t.dtype));
        ty.filter(|&t| is_half(t))
    }

    fn define(&self, builder: &mut Builder<'_>, value: Val, op: Op) -> Option<Val> {
        let ValType { dtype: to, lanes } = self.types[value];
        match op {
            Op::Scalar(op, args) if is_half(to) || args.iter().any(|&a| self.half(a).is_some()) => {
                let scope = Scope::new(builder);
                let args: Vec<V<'_>> = args.iter().map(|&a| scope.value(a)).collect();
                Some(self.scalar(op, &args, to).val())
            }
            Op::Const(bits) if is_half(to) => {
                let number = scalar::from_bits(bits, to);
                builder.define(value, Op::Const(scalar::to_bits(number, DType::F32)));
                None
            }
            Op::Load { buffer, index, stride } if is_half(to) => {
                let bits = builder.load_vector(buffer, index, stride, lanes);
                Some(unpack(Scope::new(builder).value(bits), to).val())
            }
            Op::Gather(buffer, indices) if is_half(to) => {
                let bits = builder.gather(buffer, indices);
                Some(unpack(Scope::new(builder).value(bits), to).val())
            }
            Op::Fold(op @ (ReduceOp::Sum | ReduceOp::Prod), vector) if is_half(to) => {
                Some(fold(builder, op.combine(), vector, to))
            }
            other => {
                builder.define(value, other);
                None
            }
        }
    }

    fn scalar<'f>(&self, op: ScalarOp, args: &[V<'f>], to: DType) -> V<'f> {
        use ScalarOp::*;
        let x = args[0];
        match op {
            Cast(_) if !is_half(to) => x.cast(to),
            Cast(_) => match x.dtype() {
                DType::I32 | DType::U32 | DType::I64 | DType::U64 => round(x.cast(DType::F64), to),
                DType::F32 if self.half(x.val()) == Some(to) => x,
                DType::F64 => round(x, to),
                DType::F32 | DType::I16 | DType::U16 => round(x.cast(DType::F32), to),
                // Eight bits fit.
                _ => x.cast(DType::F32),
            },
            Bitcast(_) => {
                // A value may stand for a 16-bit float and for its `f32` too: the size tells which.
                let bits = match self.half(x.val()).filter(|_| to.bits() == 16) {
                    Some(from) => pack(x, from),
                    None => x,
                };
                if is_half(to) { unpack(bits.bitcast(DType::U16), to) } else { bits.bitcast(to) }
            }
            Fma if is_half(to) => {
                let wide: Vec<V<'f>> = args[1..].iter().map(|a| a.cast(DType::F64)).collect();
                round(x.cast(DType::F64).muladd(wide[0], wide[1]), to)
            }
            _ => {
                let exact = x.op(op, &args[1..]);
                if is_half(to) && !keeps_precision(op) { round(exact, to) } else { exact }
            }
        }
    }
}

/// Whether the result has no more significant bits than the operands, so that it needs no rounding.
fn keeps_precision(op: ScalarOp) -> bool {
    use ScalarOp::*;
    matches!(op, Neg | Abs | Floor | Ceil | Trunc | Round | Min | Max | Rem | Select)
}

/// All lanes combined in the order of [`Op::Fold`], rounded after each step.
fn fold(builder: &mut Builder<'_>, op: ScalarOp, vector: Val, to: DType) -> Val {
    let mut lanes: Vec<Val> = (0..builder.ty(vector).lanes).map(|l| builder.lane(vector, l)).collect();
    let scope = Scope::new(builder);
    while lanes.len() > 1 {
        let (low, high) = lanes.split_at(lanes.len() / 2);
        let pair = |(&a, &b): (&Val, &Val)| round(scope.value(a).op(op, &[scope.value(b)]), to).val();
        lanes = low.iter().zip(high).map(pair).collect();
    }
    lanes[0]
}

/// An `f32` or `f64` rounded to a 16-bit type, as an `f32`.
///
/// Adding and subtracting a power of two whose last bit is the result's last bit rounds to nearest
/// even in the unit itself (T. J. Dekker, "A floating-point technique for extending the available
/// precision", 1971). For `bf16` that power overflows in `f32`; there the bits are rounded.
fn round(x: V<'_>, to: DType) -> V<'_> {
    if to == DType::BF16 && x.dtype() == DType::F32 {
        return round_bits(x);
    }
    // Digits after the point, the exponent of the least normal number, and the largest number.
    let (digits, least, largest) = match to {
        DType::F16 => (10, -14, f64::from(half::f16::MAX.to_f32())),
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
    let rounded = rounded.gt(largest).select(rounded.number(f64::INFINITY), rounded);
    rounded.with_sign(x.sign()).cast(DType::F32)
}

/// An `f32` rounded to `bf16`: half of the last place, less one where the last digit is even, is
/// added to the bits, and what is below that place is cut off.
fn round_bits(x: V<'_>) -> V<'_> {
    let bits = x.to_int();
    let even = (bits >> 16_i64) & 1_i64;
    let rounded = ((bits + (even + 0x7fff_i64)) & !0xffff_i64).to_float();
    x.ne(x).select(x, rounded)
}

/// The bits (`u16`) of an `f32` that the 16-bit type can hold.
fn pack(x: V<'_>, to: DType) -> V<'_> {
    let magnitude = x.abs();
    let (bits, nan) = if to == DType::BF16 {
        (magnitude.to_int() >> 16_i64, 0x7fc0_i64)
    } else {
        let normal = (magnitude.to_int() >> 13_i64) - ((127 - 15) << 10_i64);
        // The last place of 1/2 is the least f16: the sum's bits count them.
        let denormal = (magnitude + 0.5).to_int() - 0x3f00_0000_i64;
        let finite = magnitude.lt(f64::from(half::f16::MIN_POSITIVE.to_f32())).select(denormal, normal);
        (magnitude.eq(f64::INFINITY).select(finite.number(0x7c00_i64), finite), 0x7e00)
    };
    let bits = x.ne(x).select(bits.number(nan), bits);
    let sign = (x.to_int() >> 16_i64) & 0x8000_i64;
    (bits | sign).cast(DType::U16)
}

/// The `f32` that the bits (`u16`) of a 16-bit float stand for.
fn unpack(bits: V<'_>, from: DType) -> V<'_> {
    let bits = bits.cast(DType::I32);
    if from == DType::BF16 {
        return (bits << 16_i64).to_float();
    }
    let magnitude = bits & 0x7fff_i64;
    let shifted = magnitude << 13_i64;
    // The exponent's bias differs by 112; the product is exact, of denormals as well.
    let finite = shifted.to_float() * 2f64.powi(127 - 15);
    let special = (shifted | 0x7f80_0000_i64).to_float();
    let value = magnitude.ge(0x7c00_i64).select(special, finite);
    value.with_sign((bits & 0x8000_i64) << 16_i64)
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Column, evaluate};
    use super::*;
    use burin_ir::loops::{Access, BufferDecl};

    /// The kernel `out = op(in...)`, after the pass.
    fn kernel(op: ScalarOp, args: &[DType]) -> (Kernel, DType) {
        let to = op.result_type(args).expect("a well-typed operation");
        let mut kernel = Kernel {
            name: "k".into(),
            dims: Vec::new(),
            buffers: PrimaryMap::new(),
            values: PrimaryMap::new(),
            body: Vec::new(),
        };
        let mut declare = |dtype, access| {
            kernel.buffers.push(BufferDecl { name: "b".into(), dtype, len: 1.into(), access })
        };
        let inputs: Vec<Buf> = args.iter().map(|&t| declare(t, Access::Read)).collect();
        let out = declare(to, Access::Write);
        let mut b = Builder::of(&mut kernel);
        let values: Vec<Val> = inputs.iter().map(|&i| b.load(i, 0)).collect();
        let value = b.op(op, &values);
        b.store(out, 0, value);
        kernel.body = b.finish();
        run(&mut kernel);
        assert!(kernel.values.values().all(|t| !is_half(t.dtype)));
        (kernel, to)
    }

    /// Holds the legalised operation against its definition on these operands, given by bits.
    fn check(op: ScalarOp, args: &[DType], operands: &[Vec<u64>]) {
        let (kernel, to) = kernel(op, args);
        let stored = |&t: &DType| if is_half(t) { DType::U16 } else { t };
        let columns: Vec<Column> = args
            .iter()
            .zip(operands)
            .map(|(t, bits)| Column::from_bits(stored(t), bits.iter().copied()))
            .collect();
        let out = evaluate(&kernel, &columns, true);
        let ty = if op == ScalarOp::Select { args[1] } else { args[0] };
        for i in 0..operands[0].len() {
            let values: Vec<_> =
                args.iter().zip(operands).map(|(&t, bits)| scalar::from_bits(bits[i], t)).collect();
            let expected = scalar::apply(op, ty, &values);
            let found = scalar::from_bits(out.bits(i), to);
            assert!(
                expected.same(found),
                "{op} {args:?} of {values:?}: expected {expected:?}, found {found:?}"
            );
        }
    }

    /// Bits that hold every exponent and both ends of every mantissa, and pseudo-random ones.
    fn sample(bits: u32, count: u64) -> Vec<u64> {
        let mask = u64::MAX >> (64 - bits);
        let steps = (0..count).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let random = steps.map(|v| (v ^ (v >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> (64 - bits));
        let edges =
            (0..bits).flat_map(|i| [1 << i, (1 << i) - 1, mask << i, !(1 << i)]).map(|v: u64| v & mask);
        random.chain(edges).collect()
    }

    #[test]
    fn every_half_converts_to_every_type_and_back() {
        for half in [DType::F16, DType::BF16] {
            let all: Vec<u64> = (0..=0xffff).collect();
            for other in DType::ALL {
                check(ScalarOp::Cast(other), &[half], std::slice::from_ref(&all));
                check(ScalarOp::Cast(half), &[other], &[sample(other.bits(), 1 << 14)]);
            }
            let numbers = all.iter().copied().filter(|&b| !scalar::from_bits(b, half).as_f64().is_nan());
            check(ScalarOp::Bitcast(DType::I16), &[half], &[numbers.collect()]);
            check(ScalarOp::Bitcast(half), &[DType::U16], std::slice::from_ref(&all));
        }
    }

    #[test]
    fn wide_floats_are_rounded_once_at_ties() {
        for half in [DType::F16, DType::BF16] {
            // Around every midpoint of neighbours, by one place of the wide type to both sides.
            let mid = |h: u64| {
                let (a, b) = (scalar::from_bits(h, half).as_f64(), scalar::from_bits(h + 1, half).as_f64());
                let middle = a / 2.0 + b / 2.0;
                [middle.to_bits().wrapping_sub(1), middle.to_bits(), middle.to_bits() + 1]
            };
            let bits: Vec<u64> = (0..0xfffe).filter(|h| h & 0x7fff != 0x7fff).flat_map(mid).collect();
            check(ScalarOp::Cast(half), &[DType::F64], std::slice::from_ref(&bits));
            let narrow = bits.iter().map(|&b| (f64::from_bits(b) as f32).to_bits() as u64).collect();
            check(ScalarOp::Cast(half), &[DType::F32], &[narrow]);
        }
    }

    #[test]
    fn arithmetic_is_rounded_after_each_operation() {
        use ScalarOp::*;
        for half in [DType::F16, DType::BF16] {
            let (a, mut b) = (sample(16, 1 << 14), sample(16, 1 << 14));
            b.rotate_left(777);
            let mut c = b.clone();
            c.rotate_left(5);
            for op in [Neg, Abs, Sqrt, Floor, Ceil, Trunc, Round, IsNan] {
                check(op, &[half], std::slice::from_ref(&a));
            }
            for op in [Add, Sub, Mul, Div, Rem, Min, Max, Eq, Ne, Lt, Le, Gt, Ge] {
                check(op, &[half, half], &[a.clone(), b.clone()]);
            }
            check(Fma, &[half; 3], &[a.clone(), b.clone(), c.clone()]);
            let flags = a.iter().map(|v| v & 1).collect();
            check(Select, &[DType::Bool, half, half], &[flags, b, c]);
        }
    }
}
