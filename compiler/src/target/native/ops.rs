//! Scalar operations as code, on scalars and on vectors.
//!
//! [`Emit::apply`] brings the operands into one layout and works part by part. Most operations are
//! the same Cranelift instructions for a scalar and for a chunk, so [`Emit::part`] serves both;
//! what [`in_chunks`] does not list is done lane by lane. Transcendental functions, powers, and
//! float remainders are expanded into these operations by an earlier pass, as is all arithmetic on
//! 16-bit floats.

use super::levels::TargetSpec;
use super::value::{self, Parts, Value};
use burin_ir::DType;
use burin_ir::loops::ValType;
use burin_ir::scalar::ScalarOp;
use burin_runtime::abi::{arch, cpu};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, Opcode, Type, ValueDef, types};
use cranelift_frontend::FunctionBuilder;

/// A function under construction, and the target that it is for.
pub struct Emit<'a, 'f> {
    /// Where instructions go.
    pub b: &'a mut FunctionBuilder<'f>,
    /// What may be used.
    pub target: &'a TargetSpec,
}

/// Whether Cranelift has instructions for an operation on chunks of `ty` (for
/// [`ScalarOp::Select`]: of the data). Shifts count as such by amounts that are equal in all lanes.
fn in_chunks(op: ScalarOp, ty: DType, target: &TargetSpec) -> bool {
    use ScalarOp::*;
    let x86_lacks = |feature: u64| target.arch == arch::X86_64 && target.features & feature == 0;
    match op {
        _ if ty == DType::Bool => true,
        Fma if ty.is_float() => target.fma,
        Div => ty.is_float(),
        Rem | Mod | Pow => false,
        Mul | MulAdd | Fma => ty.is_float() || matches!(ty.bits(), 16 | 32),
        Eq | Ne | Lt | Le | Gt | Ge | Min | Max => ty.is_float() || ty.bits() < 64 || !x86_lacks(cpu::SSE42),
        Abs => ty.is_float() || ty.bits() < 64 || !x86_lacks(cpu::SSE41),
        Shl | Shr => ty.is_unsigned_int() || ty.bits() < 64 || op == Shl || !x86_lacks(cpu::SSE42),
        _ => true,
    }
}

impl Emit<'_, '_> {
    /// The result of an operation of type `ty`; an error says what should have been expanded before.
    pub fn apply(&mut self, op: ScalarOp, ty: ValType, args: &[&Value]) -> Result<Value, String> {
        let operand = match op {
            ScalarOp::Select => args[1].ty.dtype,
            _ => args[0].ty.dtype,
        };
        match op {
            ScalarOp::Cast(to) => return self.cast(args[0], to),
            // A bool's bits are 0 or 1, whatever its mask is.
            ScalarOp::Bitcast(to) if operand == DType::Bool => return self.cast(args[0], to),
            _ => {}
        }
        if matches!(operand, DType::F16 | DType::BF16)
            || operand.is_storage() && !matches!(op, ScalarOp::Select | ScalarOp::Bitcast(_))
        {
            return Err(format!("{op} on {operand} has not been expanded"));
        }
        // A bool has the width of the mask that it comes with; all others their own.
        let bits = if operand == DType::Bool { args[args.len() - 1].bits } else { operand.bits() };
        let vector_bits = self.target.vector_bits;
        let args: Vec<Value> = args.iter().map(|a| a.with_mask(self.b, bits, vector_bits)).collect();
        let (chunks, rest) = value::split(ty.lanes as u32, bits, vector_bits);
        let shift = matches!(op, ScalarOp::Shl | ScalarOp::Shr);
        let mut parts = Parts::new();
        if chunks > 0 && shift && args[1].uniform.is_some() && in_chunks(op, operand, self.target) {
            let amount = args[1].lane(self.b, 0, vector_bits);
            for i in 0..chunks {
                parts.push(self.shift_chunk(op, operand, args[0].parts[i], amount));
            }
        } else if chunks > 0 && !shift && in_chunks(op, operand, self.target) {
            for i in 0..chunks {
                let chunk: Parts = args.iter().map(|a| a.parts[i]).collect();
                parts.push(self.part(op, operand, &chunk)?);
            }
        } else {
            let count = if chunks > 0 { ty.lanes as usize } else { 0 };
            let mut lanes = Vec::with_capacity(count);
            for l in 0..count {
                let lane: Parts = args.iter().map(|a| a.lane(self.b, l, vector_bits)).collect();
                lanes.push(self.part(op, operand, &lane)?);
            }
            if chunks > 0 {
                return Ok(Value::from_lanes(self.b, ty, bits, &lanes, vector_bits));
            }
        }
        for i in chunks..chunks + rest {
            let scalar: Parts = args.iter().map(|a| a.parts[i]).collect();
            parts.push(self.part(op, operand, &scalar)?);
        }
        let uniform = if ty.lanes == 1 { Some(parts[0]) } else { None };
        Ok(Value { ty, bits, parts, uniform })
    }

    /// One scalar, or one chunk of an operation that [`in_chunks`] lists, with operands of `ty`.
    fn part(&mut self, op: ScalarOp, ty: DType, args: &[ir::Value]) -> Result<ir::Value, String> {
        use ScalarOp::*;
        let vector = self.type_of(args[args.len() - 1]).is_vector();
        match op {
            Select => return Ok(self.choose(args[0], args[1], args[2])),
            Bitcast(to) => {
                let from = self.type_of(args[0]);
                let to = value::scalar_type(to);
                let to = if from.is_vector() { to.by(from.lane_count()).unwrap_or(to) } else { to };
                return Ok(value::bitcast(self.b, to, args[0]));
            }
            _ => {}
        }
        let made = match ty {
            DType::Bool => self.on_bools(op, args, vector),
            t if t.is_float() => self.on_floats(op, t, args),
            t => self.on_integers(op, t, args, vector),
        };
        made.ok_or_else(|| format!("{op} on {ty} has not been expanded"))
    }

    /// The type of a Cranelift value.
    pub fn type_of(&self, v: ir::Value) -> Type {
        self.b.func.dfg.value_type(v)
    }

    /// The number, if `v` is an integer constant.
    fn known(&self, v: ir::Value) -> Option<i64> {
        let ValueDef::Result(inst, _) = self.b.func.dfg.value_def(v) else { return None };
        match self.b.func.dfg.insts[inst] {
            ir::InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits()),
            _ => None,
        }
    }

    /// The float, if `v` is a constant, whether scalar or in every lane.
    fn known_float(&self, v: ir::Value) -> Option<f64> {
        let ValueDef::Result(inst, _) = self.b.func.dfg.value_def(v) else { return None };
        match self.b.func.dfg.insts[inst] {
            ir::InstructionData::UnaryIeee32 { imm, .. } => Some(f32::from_bits(imm.bits()) as f64),
            ir::InstructionData::UnaryIeee64 { imm, .. } => Some(f64::from_bits(imm.bits())),
            ir::InstructionData::UnaryConst { opcode: Opcode::Vconst, constant_handle } => {
                let bytes = self.b.func.dfg.constants.get(constant_handle).as_slice();
                let ty = self.type_of(v);
                let lane = ty.lane_bits() as usize / 8;
                if bytes.chunks(lane).any(|c| c != &bytes[..lane]) {
                    return None;
                }
                match ty.lane_type() {
                    types::F32 => Some(f32::from_le_bytes(bytes[..4].try_into().ok()?) as f64),
                    types::F64 => Some(f64::from_le_bytes(bytes[..8].try_into().ok()?)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// `condition ? x : y`, for a scalar bool or a mask.
    pub fn choose(&mut self, condition: ir::Value, x: ir::Value, y: ir::Value) -> ir::Value {
        let ty = self.type_of(x);
        if !ty.is_vector() {
            return self.b.ins().select(condition, x, y);
        }
        let mask = value::bitcast(self.b, ty, condition);
        self.b.ins().bitselect(mask, x, y)
    }

    fn on_bools(&mut self, op: ScalarOp, args: &[ir::Value], vector: bool) -> Option<ir::Value> {
        use ScalarOp::*;
        let invert = |b: &mut FunctionBuilder<'_>, v| {
            if vector { b.ins().bnot(v) } else { b.ins().bxor_imm_s(v, 1) }
        };
        let x = args[0];
        let y = args.get(1).copied().unwrap_or(x);
        Some(match op {
            Not => invert(self.b, x),
            And | Mul | Min => self.b.ins().band(x, y),
            Or | Max => self.b.ins().bor(x, y),
            Xor | Ne => self.b.ins().bxor(x, y),
            Eq => {
                let differ = self.b.ins().bxor(x, y);
                invert(self.b, differ)
            }
            Lt | Gt => {
                let (less, more) = if op == Lt { (x, y) } else { (y, x) };
                let not = invert(self.b, less);
                self.b.ins().band(not, more)
            }
            Le | Ge => {
                let (less, more) = if op == Le { (x, y) } else { (y, x) };
                let not = invert(self.b, less);
                self.b.ins().bor(not, more)
            }
            _ => return None,
        })
    }

    fn on_floats(&mut self, op: ScalarOp, ty: DType, args: &[ir::Value]) -> Option<ir::Value> {
        use ScalarOp::*;
        let x = args[0];
        let y = args.get(1).copied().unwrap_or(x);
        if let Some(cc) = float_comparison(op) {
            return Some(self.b.ins().fcmp(cc, x, y));
        }
        Some(match op {
            Neg => self.b.ins().fneg(x),
            Abs => self.b.ins().fabs(x),
            Sqrt => self.b.ins().sqrt(x),
            Floor | Ceil | Trunc | Round => self.round(op, x),
            Add => self.b.ins().fadd(x, y),
            Sub => self.b.ins().fsub(x, y),
            Mul => self.b.ins().fmul(x, y),
            Div => self.b.ins().fdiv(x, y),
            Min | Max => self.extremum(op == Max, x, y),
            MulAdd | Fma if self.target.fma => self.b.ins().fma(x, y, args[2]),
            MulAdd => {
                let product = self.b.ins().fmul(x, y);
                self.b.ins().fadd(product, args[2])
            }
            Fma if ty == DType::F32 => self.fused(x, y, args[2]),
            _ => return None,
        })
    }

    /// The smaller or the larger of two floats, NaN where one is, with -0 below +0.
    ///
    /// x86's own instruction answers its second operand where either is NaN or both are zero, which
    /// is right as it stands when the other operand is a constant; Cranelift's `fmin` and `fmax` do
    /// the rest in nine instructions.
    fn extremum(&mut self, max: bool, x: ir::Value, y: ir::Value) -> ir::Value {
        let (variable, constant, number) = match (self.known_float(x), self.known_float(y)) {
            (_, Some(k)) => (x, y, k),
            (Some(k), _) => (y, x, k),
            _ => (x, y, f64::NAN),
        };
        let awkward = number.is_nan() || (number == 0.0 && !max && number.is_sign_negative());
        if self.target.arch != arch::X86_64 || awkward {
            return if max { self.b.ins().fmax(x, y) } else { self.b.ins().fmin(x, y) };
        }
        let (less, more) = if max { (variable, constant) } else { (constant, variable) };
        let condition = self.b.ins().fcmp(FloatCC::LessThan, less, more);
        let chosen = self.choose(condition, constant, variable);
        if max && number == 0.0 && number.is_sign_positive() {
            // max(-0, +0): -0 + 0 is +0, and the sum changes nothing else.
            return self.b.ins().fadd(chosen, constant);
        }
        chosen
    }

    fn on_integers(
        &mut self,
        op: ScalarOp,
        ty: DType,
        args: &[ir::Value],
        vector: bool,
    ) -> Option<ir::Value> {
        use ScalarOp::*;
        let signed = ty.is_signed_int();
        let x = args[0];
        let y = args.get(1).copied().unwrap_or(x);
        if let Some(cc) = int_comparison(op, signed) {
            return Some(self.b.ins().icmp(cc, x, y));
        }
        Some(match op {
            Neg => self.b.ins().ineg(x),
            Abs if !signed => x,
            Abs => self.b.ins().iabs(x),
            Not => self.b.ins().bnot(x),
            Add => self.b.ins().iadd(x, y),
            Sub => self.b.ins().isub(x, y),
            Mul => self.b.ins().imul(x, y),
            MulAdd | Fma => {
                let product = self.b.ins().imul(x, y);
                self.b.ins().iadd(product, args[2])
            }
            DotBytes => self.dot_bytes(x, y),
            DotBytesAdd => {
                let dot = self.dot_bytes(x, y);
                self.b.ins().iadd(dot, args[2])
            }
            DotHalves => self.dot_halves_by_bytes([x, y], args[2]),
            DotHalvesAdd => {
                let dot = self.dot_halves_by_bytes([x, y], args[2]);
                self.b.ins().iadd(dot, args[3])
            }
            Min if signed => self.b.ins().smin(x, y),
            Max if signed => self.b.ins().smax(x, y),
            Min => self.b.ins().umin(x, y),
            Max => self.b.ins().umax(x, y),
            And => self.b.ins().band(x, y),
            Or => self.b.ins().bor(x, y),
            Xor => self.b.ins().bxor(x, y),
            _ if vector => return None,
            Shl | Shr => self.shift(op, ty, x, y),
            Div | Rem | Mod => self.divide(op, signed, x, y),
            _ => return None,
        })
    }

    /// The sum of the products of bytes, of `x` unsigned, of `y` signed. In vectors, bytes become halves of
    /// lanes, those at even places and those at odd ones, of which each pair of products is one operation.
    fn dot_bytes(&mut self, x: ir::Value, y: ir::Value) -> ir::Value {
        let ty = self.type_of(x);
        if !ty.is_vector() {
            let low = self.b.ins().iconst(ty, 0xff);
            return self.times_bytes(y, |s, byte| {
                let moved = s.b.ins().ushr_imm_u(x, 8 * byte);
                s.b.ins().band(moved, low)
            });
        }
        let halves = types::I16.by(ty.lane_count() * 2).unwrap_or(types::I16X8);
        let [x, y] = [x, y].map(|v| value::bitcast(self.b, halves, v));
        let scalar = self.b.ins().iconst(types::I16, 0xff);
        let low = self.b.ins().splat(halves, scalar);
        let raised = self.b.ins().ishl_imm_s(y, 8);
        let even = (self.b.ins().band(x, low), self.b.ins().sshr_imm_s(raised, 8));
        let odd = (self.b.ins().ushr_imm_u(x, 8), self.b.ins().sshr_imm_s(y, 8));
        let [even, odd] = [even, odd].map(|(a, b)| self.dot_halves(a, b));
        self.b.ins().iadd(even, odd)
    }

    /// The sum of the products of the signed bytes of a scalar and what there is for each of them.
    fn times_bytes(&mut self, bytes: ir::Value, factor: impl Fn(&mut Self, i64) -> ir::Value) -> ir::Value {
        let product = |s: &mut Self, byte: i64| {
            let a = factor(s, byte);
            let raised = s.b.ins().ishl_imm_s(bytes, 24 - 8 * byte);
            let b = s.b.ins().sshr_imm_s(raised, 24);
            s.b.ins().imul(a, b)
        };
        let first = product(self, 0);
        (1..4).fold(first, |sum, byte| {
            let next = product(self, byte);
            self.b.ins().iadd(sum, next)
        })
    }

    /// The sum of the products of the signed halves of two operands and the signed bytes of `y`.
    fn dot_halves_by_bytes(&mut self, x: [ir::Value; 2], y: ir::Value) -> ir::Value {
        let ty = self.type_of(y);
        if !ty.is_vector() {
            return self.times_bytes(y, |s, byte| {
                let raised = s.b.ins().ishl_imm_s(x[byte as usize / 2], 16 - byte % 2 * 16);
                s.b.ins().sshr_imm_s(raised, 16)
            });
        }
        let halves = types::I16.by(ty.lane_count() * 2).unwrap_or(types::I16X8);
        // The bytes at even places, and those at odd ones; then the first two of a lane, and the last two.
        let bytes = value::bitcast(self.b, halves, y);
        let raised = self.b.ins().ishl_imm_s(bytes, 8);
        let parts = [raised, bytes].map(|v| self.b.ins().sshr_imm_s(v, 8));
        let [even, odd] = parts.map(|v| value::bitcast(self.b, ty, v));
        let scalar = self.b.ins().iconst(types::I32, 0xffff);
        let low = self.b.ins().splat(ty, scalar);
        let (first, second) = (self.b.ins().band(even, low), self.b.ins().ishl_imm_s(odd, 16));
        let (third, fourth) = (self.b.ins().ushr_imm_u(even, 16), self.b.ins().band_not(odd, low));
        let pairs = [self.b.ins().bor(first, second), self.b.ins().bor(third, fourth)];
        let [a, b] = [(x[0], pairs[0]), (x[1], pairs[1])].map(|(x, y)| {
            let [x, y] = [x, y].map(|v| value::bitcast(self.b, halves, v));
            self.dot_halves(x, y)
        });
        self.b.ins().iadd(a, b)
    }

    /// The sum of the two products of the signed halves of each lane.
    fn dot_halves(&mut self, a: ir::Value, b: ir::Value) -> ir::Value {
        let low = [a, b].map(|v| self.b.ins().swiden_low(v));
        let high = [a, b].map(|v| self.b.ins().swiden_high(v));
        let [low, high] = [low, high].map(|[a, b]| self.b.ins().imul(a, b));
        self.b.ins().iadd_pairwise(low, high)
    }

    /// A quotient or remainder that never traps: the divisor is 1 where it is 0 or (signed) -1.
    fn divide(&mut self, op: ScalarOp, signed: bool, x: ir::Value, y: ir::Value) -> ir::Value {
        let ty = self.type_of(x);
        let zero = self.b.ins().iconst(ty, 0);
        let one = self.b.ins().iconst(ty, 1);
        let by_zero = self.b.ins().icmp_imm_s(IntCC::Equal, y, 0);
        if !signed {
            let safe = self.b.ins().select(by_zero, one, y);
            if op == ScalarOp::Div {
                let q = self.b.ins().udiv(x, safe);
                return self.b.ins().select(by_zero, zero, q);
            }
            return self.b.ins().urem(x, safe);
        }
        let by_minus = self.b.ins().icmp_imm_s(IntCC::Equal, y, -1);
        let special = self.b.ins().bor(by_zero, by_minus);
        let safe = self.b.ins().select(special, one, y);
        if op == ScalarOp::Div {
            let q = self.b.ins().sdiv(x, safe);
            let negative = self.b.ins().ineg(x);
            let q = self.b.ins().select(by_minus, negative, q);
            return self.b.ins().select(by_zero, zero, q);
        }
        let r = self.b.ins().srem(x, safe);
        if op == ScalarOp::Rem {
            return r;
        }
        let signs = self.b.ins().bxor(r, y);
        let differ = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, r, 0);
        let fix = self.b.ins().band(differ, some);
        let fixed = self.b.ins().iadd(r, y);
        self.b.ins().select(fix, fixed, r)
    }

    /// A scalar shift; by the width or more it leaves only the sign.
    fn shift(&mut self, op: ScalarOp, ty: DType, x: ir::Value, by: ir::Value) -> ir::Value {
        let bits = ty.bits() as i64;
        let inside = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, by, bits);
        let lane = self.type_of(by);
        if op == ScalarOp::Shr && ty.is_signed_int() {
            let most = self.b.ins().iconst(lane, bits - 1);
            let by = self.b.ins().select(inside, by, most);
            return self.b.ins().sshr(x, by);
        }
        let shifted = if op == ScalarOp::Shl { self.b.ins().ishl(x, by) } else { self.b.ins().ushr(x, by) };
        let zero = self.b.ins().iconst(lane, 0);
        self.b.ins().select(inside, shifted, zero)
    }

    /// A shift of a whole chunk by one scalar amount.
    fn shift_chunk(&mut self, op: ScalarOp, ty: DType, x: ir::Value, by: ir::Value) -> ir::Value {
        let bits = ty.bits() as i64;
        let arithmetic = op == ScalarOp::Shr && ty.is_signed_int();
        let lane = self.type_of(by);
        let constant = self.known(by).map(|k| (0..bits).contains(&k));
        let inside = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, by, bits);
        if arithmetic {
            let by = match constant {
                Some(true) => by,
                Some(false) => self.b.ins().iconst(lane, bits - 1),
                None => {
                    let most = self.b.ins().iconst(lane, bits - 1);
                    self.b.ins().select(inside, by, most)
                }
            };
            return self.b.ins().sshr(x, by);
        }
        let shifted = if op == ScalarOp::Shl { self.b.ins().ishl(x, by) } else { self.b.ins().ushr(x, by) };
        match constant {
            Some(true) => shifted,
            Some(false) => value::constant(self.b, self.b.func.dfg.value_type(x), 0),
            None => {
                let all = self.b.ins().iconst(lane, (u64::MAX >> (64 - bits)) as i64);
                let none = self.b.ins().iconst(lane, 0);
                let keep = self.b.ins().select(inside, all, none);
                let chunk = self.type_of(x);
                let mask = self.b.ins().splat(chunk, keep);
                self.b.ins().band(shifted, mask)
            }
        }
    }
}

fn float_comparison(op: ScalarOp) -> Option<FloatCC> {
    use ScalarOp::*;
    Some(match op {
        Eq => FloatCC::Equal,
        Ne => FloatCC::NotEqual,
        Lt => FloatCC::LessThan,
        Le => FloatCC::LessThanOrEqual,
        Gt => FloatCC::GreaterThan,
        Ge => FloatCC::GreaterThanOrEqual,
        IsNan => FloatCC::Unordered,
        _ => return None,
    })
}

fn int_comparison(op: ScalarOp, signed: bool) -> Option<IntCC> {
    use ScalarOp::*;
    Some(match (op, signed) {
        (Eq, _) => IntCC::Equal,
        (Ne, _) => IntCC::NotEqual,
        (Lt, true) => IntCC::SignedLessThan,
        (Le, true) => IntCC::SignedLessThanOrEqual,
        (Gt, true) => IntCC::SignedGreaterThan,
        (Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (Lt, false) => IntCC::UnsignedLessThan,
        (Le, false) => IntCC::UnsignedLessThanOrEqual,
        (Gt, false) => IntCC::UnsignedGreaterThan,
        (Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
        _ => return None,
    })
}
