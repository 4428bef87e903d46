//! Narrow types become storage: `f16`, `bf16` and floats of 8 bits or less are `f32` between loads and
//! stores, integers below 8 bits are bytes.
//!
//! After the pass a value of a 16-bit float type is only ever loaded and then cast to `f32`, or cast from
//! `f32` to be stored, or to be cast back, which rounds it; [`halves`](super::halves) makes operations on
//! bits of these casts where there are no instructions for them. No value and no buffer has a narrower
//! type: a buffer of such floats is declared `u8` (its size stays), one of integers `i8` or `u8`, and they
//! are converted by operations on bits at once ([`convert`](super::convert)).
//!
//! What stands for a value of a narrow float is an `f32` that the type can hold, being rounded after each
//! operation. Rounding an `f32` result again is innocuous for `+ - * /` and square roots, as
//! 24 >= 2 * 11 + 2 (S. A. Figueroa, "When is double rounding innocuous?", 1995); `fma`, 64-bit floats and
//! wide integers are rounded from `f64`, as [`scalar`](burin_ir::scalar) says.

use super::convert::{self, pack, unpack, wrap};
use super::formula::{Scope, V};
use super::rewrite::rewrite;
use burin_ir::loops::{Buf, Builder, Kernel, Op, Stmt, Val, ValType};
use burin_ir::{DType, ReduceOp, ScalarOp, scalar};
use cranelift_entity::PrimaryMap;
use std::cell::RefCell;
use std::collections::HashMap;

/// Legalises a kernel.
pub fn run(kernel: &mut Kernel) {
    let types = kernel.values.clone();
    let stored: Vec<DType> = kernel.buffers.values().map(|b| b.dtype).collect();
    if !types.values().map(|t| t.dtype).chain(stored.iter().copied()).any(is_narrow) {
        return;
    }
    for ty in kernel.values.values_mut() {
        ty.dtype = if is_float(ty.dtype) { DType::F32 } else { bits_of(ty.dtype) };
    }
    for buffer in kernel.buffers.values_mut().filter(|b| !is_half(b.dtype)) {
        buffer.dtype = bits_of(buffer.dtype);
    }
    let mut pass = Pass { types, stored, made: HashMap::new(), halves: RefCell::default() };
    rewrite(kernel, &mut |builder, stmt| pass.stmt(builder, stmt));
}

/// Whether values of this type are 16-bit floats.
pub(super) fn is_half(ty: DType) -> bool {
    matches!(ty, DType::F16 | DType::BF16)
}

/// Whether values of this type are floats that become `f32`.
fn is_float(ty: DType) -> bool {
    is_half(ty) || ty.is_minifloat()
}

/// Whether this is an integer that becomes a byte.
fn is_small(ty: DType) -> bool {
    ty.is_storage() && ty.is_int()
}

/// Whether the pass replaces the type.
fn is_narrow(ty: DType) -> bool {
    is_float(ty) || is_small(ty)
}

/// The integer type that has as many bits as elements take in memory.
fn bits_of(ty: DType) -> DType {
    match ty {
        DType::F16 | DType::BF16 => DType::U16,
        DType::I4 | DType::I2 => DType::I8,
        t if t.is_storage() => DType::U8,
        other => other,
    }
}

struct Pass {
    /// The values' types before the pass.
    types: PrimaryMap<Val, ValType>,
    /// The buffers' types before the pass.
    stored: Vec<DType>,
    /// The narrow types of values that stand in the place of others.
    made: HashMap<Val, DType>,
    /// The 16-bit floats that `f32` values were cast from: what is stored where they are.
    halves: RefCell<HashMap<Val, Val>>,
}

impl Pass {
    fn stmt(&mut self, builder: &mut Builder<'_>, stmt: Stmt) -> Option<Val> {
        match stmt {
            Stmt::Let(value, op) => {
                let to = self.types[value];
                let replaced = self.define(builder, value, op);
                if let Some(new) = replaced.filter(|_| is_narrow(to.dtype)) {
                    self.made.insert(new, to.dtype);
                }
                return replaced;
            }
            Stmt::Store { buffer, index, stride, value } if is_float(self.stored(buffer)) => {
                let to = self.stored(buffer);
                let scope = Scope::new(builder);
                let wide = scope.value(value);
                let value = match self.halves.borrow().get(&value) {
                    _ if !is_half(to) => pack(wide, to).val(),
                    Some(known) => *known,
                    None => wide.cast(to).val(),
                };
                builder.push(Stmt::Store { buffer, index, stride, value });
            }
            other => builder.push(other),
        }
        None
    }

    /// The `f32` of what has been loaded, or made, as a narrow float or its bits.
    fn widened<'f>(&self, narrow: V<'f>, from: DType) -> V<'f> {
        if !is_half(from) {
            return unpack(narrow, from);
        }
        let wide = narrow.cast(DType::F32);
        self.halves.borrow_mut().insert(wide.val(), narrow.val());
        wide
    }

    /// An `f32` or `f64` rounded to a narrow float, as an `f32`.
    fn round<'f>(&self, x: V<'f>, to: DType) -> V<'f> {
        match x.dtype() {
            DType::F32 if is_half(to) => self.widened(x.cast(to), to),
            _ => convert::round(x, to),
        }
    }

    fn stored(&self, buffer: Buf) -> DType {
        self.stored[buffer.as_u32() as usize]
    }

    /// The narrow type that a value stands for.
    fn narrow(&self, value: Val) -> Option<DType> {
        let ty = self.made.get(&value).copied().or_else(|| self.types.get(value).map(|t| t.dtype));
        ty.filter(|&t| is_narrow(t))
    }

    fn define(&self, builder: &mut Builder<'_>, value: Val, op: Op) -> Option<Val> {
        let ValType { dtype: to, lanes } = self.types[value];
        match op {
            Op::Scalar(op, args) if is_narrow(to) || args.iter().any(|&a| self.narrow(a).is_some()) => {
                let scope = Scope::new(builder);
                let args: Vec<V<'_>> = args.iter().map(|&a| scope.value(a)).collect();
                Some(self.scalar(op, &args, to).val())
            }
            Op::Const(bits) if is_float(to) => {
                let number = scalar::from_bits(bits, to);
                builder.define(value, Op::Const(scalar::to_bits(number, DType::F32)));
                None
            }
            Op::Load { buffer, index, stride } if is_float(to) => {
                let bits = builder.load_vector(buffer, index, stride, lanes);
                Some(self.widened(Scope::new(builder).value(bits), to).val())
            }
            Op::Gather(buffer, indices) if is_float(to) => {
                let bits = builder.gather(buffer, indices);
                Some(self.widened(Scope::new(builder).value(bits), to).val())
            }
            Op::Fold(op @ (ReduceOp::Sum | ReduceOp::Prod), vector) if is_float(to) => {
                Some(self.fold(builder, op.combine(), vector, to))
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
            Cast(_) if is_small(to) => wrap(x, to),
            Cast(_) if !is_float(to) => x.cast(to),
            Cast(_) => match x.dtype() {
                // 8 bits saturate once more.
                DType::F32 if self.narrow(x.val()) == Some(to) && !to.is_minifloat() => x,
                DType::I32 | DType::U32 | DType::I64 | DType::U64 => self.round(x.cast(DType::F64), to),
                DType::F64 => self.round(x, to),
                // Eight bits fit into sixteen.
                DType::I8 | DType::U8 | DType::Bool if !to.is_minifloat() => x.cast(DType::F32),
                _ => self.round(x.cast(DType::F32), to),
            },
            Bitcast(_) => {
                // A value may stand for a narrow float and for its `f32` too: the size tells which.
                let narrow = self.narrow(x.val()).filter(|_| to.bits() < 32);
                let bits = match narrow {
                    Some(from) if is_half(from) => x.cast(from).bitcast(DType::U16),
                    Some(from) if is_float(from) => pack(x, from),
                    _ => x,
                };
                match to {
                    t if is_half(t) => self.widened(bits.bitcast(t), t),
                    t if is_float(t) => unpack(bits.bitcast(bits_of(t)), t),
                    t if is_small(t) => wrap(bits, t),
                    t => bits.bitcast(t),
                }
            }
            Fma if is_float(to) => {
                let wide: Vec<V<'f>> = args[1..].iter().map(|a| a.cast(DType::F64)).collect();
                self.round(x.cast(DType::F64).muladd(wide[0], wide[1]), to)
            }
            _ => {
                let exact = x.op(op, &args[1..]);
                if is_float(to) && !keeps_precision(op) { self.round(exact, to) } else { exact }
            }
        }
    }

    /// All lanes combined in the order of [`Op::Fold`], rounded after each step.
    fn fold(&self, builder: &mut Builder<'_>, op: ScalarOp, vector: Val, to: DType) -> Val {
        let mut lanes: Vec<Val> = (0..builder.ty(vector).lanes).map(|l| builder.lane(vector, l)).collect();
        let scope = Scope::new(builder);
        while lanes.len() > 1 {
            let (low, high) = lanes.split_at(lanes.len() / 2);
            let pair =
                |(&a, &b): (&Val, &Val)| self.round(scope.value(a).op(op, &[scope.value(b)]), to).val();
            lanes = low.iter().zip(high).map(pair).collect();
        }
        lanes[0]
    }
}

/// Whether the result has no more significant bits than the operands, so that it needs no rounding.
fn keeps_precision(op: ScalarOp) -> bool {
    use ScalarOp::*;
    matches!(op, Neg | Abs | Floor | Ceil | Trunc | Round | Min | Max | Rem | Select)
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
        super::super::halves::run(&mut kernel);
        assert!(kernel.values.values().all(|t| !is_narrow(t.dtype)), "{op} {args:?}: {kernel}");
        (kernel, to)
    }

    /// Holds the legalised operation against its definition on these operands, given by bits.
    fn check(op: ScalarOp, args: &[DType], operands: &[Vec<u64>]) {
        let (kernel, to) = kernel(op, args);
        let stored = |&t: &DType| bits_of(t);
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

    /// The bits that values of the type have.
    fn canonical(ty: DType, bits: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let canonical = |b| if ty.is_storage() { scalar::to_bits(scalar::from_bits(b, ty), ty) } else { b };
        bits.into_iter().map(canonical).collect()
    }

    #[test]
    fn every_narrow_value_converts_to_every_type_and_back() {
        for narrow in DType::of_kernels().filter(|&t| is_narrow(t)) {
            let all = canonical(narrow, 0..1 << narrow.bits());
            for other in DType::of_kernels() {
                check(ScalarOp::Cast(other), &[narrow], std::slice::from_ref(&all));
                let samples = canonical(other, sample(other.bits(), 1 << 14));
                check(ScalarOp::Cast(narrow), &[other], &[samples]);
                // The bits of a NaN are not kept.
                let numbers = |ty: DType| {
                    let is_number = |b: &u64| !scalar::from_bits(*b, ty).as_f64().is_nan();
                    canonical(ty, 0..1 << ty.bits()).into_iter().filter(is_number).collect()
                };
                for (from, to) in [(narrow, other), (other, narrow)] {
                    if ScalarOp::Bitcast(to).result_type(&[from]).is_ok() {
                        check(ScalarOp::Bitcast(to), &[from], &[numbers(from)]);
                    }
                }
            }
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
        for small in DType::of_kernels().filter(|t| t.is_minifloat()) {
            // Around every midpoint, and around what is beyond the largest number.
            let codes = 0..1 << small.packed_bits();
            let mut values: Vec<f64> = codes.map(|c| scalar::from_bits(c, small).as_f64().abs()).collect();
            values.retain(|v| v.is_finite());
            values.sort_by(f64::total_cmp);
            values.push(values[values.len() - 1] * 1.5);
            let beside = |v: f64| [-1, 0, 1].map(|d| v.to_bits().wrapping_add_signed(d));
            let middles = values.windows(2).flat_map(|w| beside((w[0] + w[1]) / 2.0));
            let bits: Vec<u64> = middles.flat_map(|b| [b, b | 1 << 63]).collect();
            check(ScalarOp::Cast(small), &[DType::F64], std::slice::from_ref(&bits));
            let narrow = bits.iter().map(|&b| (f64::from_bits(b) as f32).to_bits() as u64).collect();
            check(ScalarOp::Cast(small), &[DType::F32], &[narrow]);
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
