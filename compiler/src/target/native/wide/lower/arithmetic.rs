//! Operations on lanes.

use super::values::{Parts, Shape, lane_of};
use super::{Declined, Lower};
use crate::target::native::wide::code::{Conversion, Inst, Lane, UnaryOp, VecOp};
use burin_ir::loops::Val;
use burin_ir::{DType, ScalarOp};

/// The predicate of a comparison of floats: either is NaN.
const UNORDERED: u8 = 3;

/// Whether there is code for an operation on operands of a type (for [`ScalarOp::Select`]: the type of what
/// is chosen from), or an earlier pass makes it of operations for which there is.
pub fn has(op: ScalarOp, ty: DType) -> bool {
    use ScalarOp::*;
    match op {
        Div | Rem | Mod if ty.is_int() => ty.bits() <= 32,
        Pow if ty.is_int() => false,
        Bitcast(to) => !is_half(to) && !is_half(ty) && ty != DType::Bool,
        _ => true,
    }
}

fn is_half(ty: DType) -> bool {
    matches!(ty, DType::F16 | DType::BF16)
}

/// The sign bit of a lane.
fn sign(shape: Shape) -> u64 {
    1 << (shape.bits - 1)
}

/// All bits of a lane.
fn ones(shape: Shape) -> u64 {
    u64::MAX >> (64 - shape.bits)
}

/// A lane's bits of a float.
pub(super) fn float_bits(lane: Lane, v: f64) -> u64 {
    if lane == Lane::F64 { v.to_bits() } else { u64::from((v as f32).to_bits()) }
}

impl Lower<'_> {
    /// An operation of the kernel.
    pub(super) fn scalar(&mut self, val: Val, op: ScalarOp, args: &[Val]) -> Result<Parts, Declined> {
        let lanes = self.kernel.values[val].lanes;
        let from = self.kernel.values[args[0]];
        if let ScalarOp::Cast(to) = op {
            if let (Some(super::Value::General(v)), DType::F32) = (self.values[args[0]].clone(), to) {
                let to = self.indices.code.vector();
                self.push(Inst::FromInt { to, v });
                return Ok([to].into_iter().collect());
            }
            let shape = self.shape(from)?;
            if let Some(integer) = self.nearest(val, args[0], to, shape) {
                return Ok(integer);
            }
            let v = self.value(args[0])?;
            if is_half(to) {
                self.exact[val] = Some(v.clone());
            }
            return self.cast(from.dtype, to, &v, lanes);
        }
        let mut parts = Vec::with_capacity(args.len());
        for a in args {
            parts.push(self.value(*a)?);
        }
        if let ScalarOp::Select = op {
            return self.select(args, &parts);
        }
        self.note_rounded(val, op, args, &parts);
        match op {
            ScalarOp::Sub if from.dtype == DType::I32 => {
                if let Some(integer) = self.moved_back(args) {
                    return Ok(integer);
                }
            }
            ScalarOp::DotBytes | ScalarOp::DotBytesAdd => {
                let shape = self.shape(from)?;
                return self.dot_bytes(args, &parts, shape);
            }
            ScalarOp::DotHalves | ScalarOp::DotHalvesAdd => {
                let shape = self.shape(from)?;
                return Ok(self.dot_halves(args, &parts, shape));
            }
            ScalarOp::MulAdd if from.dtype == DType::I32 => {
                let shape = self.shape(from)?;
                if let Some(sum) = self.narrow_multiply_add(args, &parts, shape) {
                    return Ok(sum);
                }
            }
            _ => {}
        }
        let constants: Vec<Option<u64>> = args.iter().map(|a| self.constants[*a]).collect();
        let shape = self.shape(from)?;
        self.apply(op, from.dtype, &parts, &constants, shape)
    }

    /// An operation on operands of a type, some of which may be known constants.
    pub(super) fn apply(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        v: &[Parts],
        constants: &[Option<u64>],
        shape: Shape,
    ) -> Result<Parts, Declined> {
        match dtype {
            DType::Bool => self.mask(op, v, shape),
            DType::F32 | DType::F64 => self.float(op, dtype, v, constants, shape),
            t if t.is_int() => self.integer(op, dtype, v, constants, shape),
            other => Err(format!("{op} of {other}")),
        }
    }

    fn select(&mut self, args: &[Val], v: &[Parts]) -> Result<Parts, Declined> {
        let ty = self.kernel.values[args[1]];
        let shape = self.shape(ty)?;
        // As the instructions have it: the second one unless the comparison holds.
        let extreme = match self.compares[args[0]] {
            Some((ScalarOp::Lt, of)) if of == args[1..] => Some(VecOp::Min),
            Some((ScalarOp::Gt, of)) if of == args[1..] => Some(VecOp::Max),
            _ => None,
        };
        if let Some(op) = extreme {
            return Ok(self.vec(op, lane_of(ty.dtype), shape, &v[1], &v[2]));
        }
        let mask = self.mask_for(shape, &v[0])?;
        Ok(self.choose(shape, &mask, &v[1], &v[2]))
    }

    fn float(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        v: &[Parts],
        constants: &[Option<u64>],
        shape: Shape,
    ) -> Result<Parts, Declined> {
        let lane = lane_of(dtype);
        // Predicates of comparisons that signal nothing and hold for no NaN, but for "not equal".
        let two = match op {
            ScalarOp::Add => VecOp::Add,
            ScalarOp::Sub => VecOp::Sub,
            ScalarOp::Mul => VecOp::Mul,
            ScalarOp::Div => VecOp::Div,
            ScalarOp::Eq => return self.compare(VecOp::Compare(0x00), lane, shape, &v[0], &v[1]),
            ScalarOp::Ne => return self.compare(VecOp::Compare(0x04), lane, shape, &v[0], &v[1]),
            ScalarOp::Lt => return self.compare(VecOp::Compare(0x11), lane, shape, &v[0], &v[1]),
            ScalarOp::Le => return self.compare(VecOp::Compare(0x12), lane, shape, &v[0], &v[1]),
            ScalarOp::Ge => return self.compare(VecOp::Compare(0x1d), lane, shape, &v[0], &v[1]),
            ScalarOp::Gt => return self.compare(VecOp::Compare(0x1e), lane, shape, &v[0], &v[1]),
            ScalarOp::IsNan => {
                return self.compare(VecOp::Compare(UNORDERED), lane, shape, &v[0], &v[0]);
            }
            ScalarOp::Max | ScalarOp::Min => {
                let number = |bits: u64| match lane {
                    Lane::F64 => f64::from_bits(bits),
                    _ => f64::from(f32::from_bits(bits as u32)),
                };
                let constant = |i: usize| constants[i].map(number);
                return Ok(self.extreme(op, lane, v, [constant(0), constant(1)], shape));
            }
            ScalarOp::MulAdd | ScalarOp::Fma => {
                let each = v[0].iter().zip(&v[1]).zip(&v[2]);
                let sums = each.map(|((a, b), sum)| {
                    let to = self.indices.code.vector();
                    let (a, b, sum) = (*a, *b, *sum);
                    self.indices.push(Inst::MulAdd { to, lane, width: shape.width, a, b, sum });
                    to
                });
                return Ok(sums.collect());
            }
            ScalarOp::Neg => return Ok(self.with_constant(VecOp::Xor, lane, shape, &v[0], sign(shape))),
            ScalarOp::Abs => {
                return Ok(self.with_constant(VecOp::And, lane, shape, &v[0], ones(shape) ^ sign(shape)));
            }
            ScalarOp::Sqrt => return Ok(self.unary(UnaryOp::Sqrt, lane, shape, &v[0])),
            // Modes that raise no "inexact".
            ScalarOp::Round => return Ok(self.unary(UnaryOp::Round(8), lane, shape, &v[0])),
            ScalarOp::Floor => return Ok(self.unary(UnaryOp::Round(9), lane, shape, &v[0])),
            ScalarOp::Ceil => return Ok(self.unary(UnaryOp::Round(10), lane, shape, &v[0])),
            ScalarOp::Trunc => return Ok(self.unary(UnaryOp::Round(11), lane, shape, &v[0])),
            ScalarOp::Bitcast(to) if to.bits() == shape.bits => return Ok(v[0].clone()),
            other => return Err(format!("{other} of {dtype}")),
        };
        Ok(self.vec(two, lane, shape, &v[0], &v[1]))
    }

    /// The greater or lesser of two: NaN if one is, and -0 is less than 0. The instruction answers
    /// its second operand where it cannot tell.
    fn extreme(
        &mut self,
        op: ScalarOp,
        lane: Lane,
        v: &[Parts],
        constants: [Option<f64>; 2],
        shape: Shape,
    ) -> Parts {
        let greatest = op == ScalarOp::Max;
        let (raw, merge) = if greatest { (VecOp::Max, VecOp::And) } else { (VecOp::Min, VecOp::Or) };
        let constant = |i: usize| constants[i].filter(|c| !c.is_nan());
        let fixed = (0..2).find_map(|i| constant(i).map(|c| (c, &v[i], &v[1 - i])));
        match fixed {
            // Only two zeros are equal and differ.
            Some((c, number, other)) if c != 0.0 => self.vec(raw, lane, shape, number, other),
            Some((c, zero, other)) if greatest && c.is_sign_positive() => {
                let v = self.vec(raw, lane, shape, zero, other);
                self.vec(VecOp::Add, lane, shape, &v, zero)
            }
            _ => {
                let one = self.vec(raw, lane, shape, &v[0], &v[1]);
                let two = self.vec(raw, lane, shape, &v[1], &v[0]);
                let merged = self.vec(merge, lane, shape, &one, &two);
                let nan = self.unordered(lane, shape, &v[0], &v[1]);
                self.vec(VecOp::Or, lane, shape, &merged, &nan)
            }
        }
    }

    /// All ones, of the lanes' own width, where either is NaN.
    fn unordered(&mut self, lane: Lane, shape: Shape, a: &Parts, b: &Parts) -> Parts {
        let masks = self.vec(VecOp::Compare(UNORDERED), lane, shape, a, b);
        if shape.bits == 64 && self.has_masks() {
            return self.convert(Conversion::Extend, shape, &masks);
        }
        masks
    }

    fn integer(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        v: &[Parts],
        constants: &[Option<u64>],
        shape: Shape,
    ) -> Result<Parts, Declined> {
        let lane = lane_of(dtype);
        let made = match op {
            ScalarOp::Add => self.vec(VecOp::Add, lane, shape, &v[0], &v[1]),
            ScalarOp::Sub => self.vec(VecOp::Sub, lane, shape, &v[0], &v[1]),
            ScalarOp::Mul => self.product(lane, shape, &v[0], &v[1]),
            ScalarOp::MulAdd | ScalarOp::Fma => {
                let product = self.product(lane, shape, &v[0], &v[1]);
                self.vec(VecOp::Add, lane, shape, &product, &v[2])
            }
            ScalarOp::Neg => self.negative(lane, shape, &v[0]),
            ScalarOp::Abs if dtype.is_unsigned_int() => return Ok(v[0].clone()),
            ScalarOp::Abs => {
                let negative = self.negative(lane, shape, &v[0]);
                self.int_extreme(ScalarOp::Max, dtype, shape, &v[0], &negative)
            }
            ScalarOp::Not => self.with_constant(VecOp::Xor, lane, shape, &v[0], ones(shape)),
            ScalarOp::Min | ScalarOp::Max => return Ok(self.int_extreme(op, dtype, shape, &v[0], &v[1])),
            ScalarOp::And => return Ok(self.vec(VecOp::And, lane, shape, &v[0], &v[1])),
            ScalarOp::Or => return Ok(self.vec(VecOp::Or, lane, shape, &v[0], &v[1])),
            ScalarOp::Xor => return Ok(self.vec(VecOp::Xor, lane, shape, &v[0], &v[1])),
            ScalarOp::Shl | ScalarOp::Shr => self.shift(op, dtype, v, constants[1], shape),
            ScalarOp::Eq | ScalarOp::Ne | ScalarOp::Lt | ScalarOp::Le | ScalarOp::Gt | ScalarOp::Ge => {
                return self.int_compare(op, dtype, shape, &v[0], &v[1]);
            }
            ScalarOp::Div | ScalarOp::Rem | ScalarOp::Mod if shape.bits == 32 => {
                self.division(op, dtype, shape, v)?
            }
            ScalarOp::Bitcast(to) if to.bits() == dtype.bits() && !is_half(to) => {
                return Ok(self.wrap(to, shape, v[0].clone()));
            }
            other => return Err(format!("{other} of {dtype}")),
        };
        Ok(self.wrap(dtype, shape, made))
    }

    /// Integers of 32 bits as a narrower type keeps them.
    pub(super) fn wrap(&mut self, dtype: DType, shape: Shape, v: Parts) -> Parts {
        match dtype {
            DType::U8 | DType::U16 => {
                let all = (1 << dtype.bits()) - 1;
                self.with_constant(VecOp::And, Lane::I32, shape, &v, all)
            }
            DType::I8 | DType::I16 => {
                let by = 32 - dtype.bits() as u8;
                let up = self.unary(UnaryOp::ShiftLeft(by), Lane::I32, shape, &v);
                self.unary(UnaryOp::ShiftRight(by), Lane::I32, shape, &up)
            }
            _ => v,
        }
    }

    fn negative(&mut self, lane: Lane, shape: Shape, v: &Parts) -> Parts {
        let zero = self.constant(shape, 0);
        self.vec(VecOp::Sub, lane, shape, &zero, v)
    }

    /// The product; of 64 bits by products of halves where there is no instruction.
    pub(super) fn product(&mut self, lane: Lane, shape: Shape, a: &Parts, b: &Parts) -> Parts {
        if shape.bits == 32 || self.has_masks() {
            return self.vec(VecOp::Mul, lane, shape, a, b);
        }
        let high = |s: &mut Self, v| s.unary(UnaryOp::ShiftRightZeros(32), lane, shape, v);
        let (a_high, b_high) = (high(self, a), high(self, b));
        let one = self.vec(VecOp::MulHalves, lane, shape, &a_high, b);
        let two = self.vec(VecOp::MulHalves, lane, shape, a, &b_high);
        let crossed = self.vec(VecOp::Add, lane, shape, &one, &two);
        let crossed = self.unary(UnaryOp::ShiftLeft(32), lane, shape, &crossed);
        let low = self.vec(VecOp::MulHalves, lane, shape, a, b);
        self.vec(VecOp::Add, lane, shape, &low, &crossed)
    }

    fn int_extreme(&mut self, op: ScalarOp, dtype: DType, shape: Shape, a: &Parts, b: &Parts) -> Parts {
        let lane = lane_of(dtype);
        let greatest = op == ScalarOp::Max;
        if shape.bits == 64 && !self.has_masks() {
            let mask = self.greater(dtype, shape, a, b);
            let (yes, no) = if greatest { (a, b) } else { (b, a) };
            return self.choose(shape, &mask, yes, no);
        }
        let op = match (greatest, dtype) {
            (true, DType::U32 | DType::U64) => VecOp::MaxUnsigned,
            (false, DType::U32 | DType::U64) => VecOp::MinUnsigned,
            (true, _) => VecOp::Max,
            (false, _) => VecOp::Min,
        };
        self.vec(op, lane, shape, a, b)
    }

    /// The mask, of the lanes' own width, of which the first is the greater one; without mask registers.
    fn greater(&mut self, dtype: DType, shape: Shape, a: &Parts, b: &Parts) -> Parts {
        let lane = lane_of(dtype);
        if !matches!(dtype, DType::U32 | DType::U64) {
            return self.vec(VecOp::Greater, lane, shape, a, b);
        }
        // Order of unsigned numbers is that of signed ones with the other sign.
        let flip = |s: &mut Self, v| s.with_constant(VecOp::Xor, lane, shape, v, sign(shape));
        let (a, b) = (flip(self, a), flip(self, b));
        self.vec(VecOp::Greater, lane, shape, &a, &b)
    }

    pub(super) fn int_compare(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        shape: Shape,
        a: &Parts,
        b: &Parts,
    ) -> Result<Parts, Declined> {
        let lane = lane_of(dtype);
        if self.has_masks() {
            let predicate = match op {
                ScalarOp::Eq => 0,
                ScalarOp::Lt => 1,
                ScalarOp::Le => 2,
                ScalarOp::Ne => 4,
                ScalarOp::Ge => 5,
                _ => 6,
            };
            let unsigned = matches!(dtype, DType::U32 | DType::U64);
            let by = if unsigned { VecOp::CompareUnsigned(predicate) } else { VecOp::CompareInt(predicate) };
            return self.compare(by, lane, shape, a, b);
        }
        let (masks, inverted) = match op {
            ScalarOp::Eq | ScalarOp::Ne => (self.vec(VecOp::Equal, lane, shape, a, b), op == ScalarOp::Ne),
            ScalarOp::Gt | ScalarOp::Le => (self.greater(dtype, shape, a, b), op == ScalarOp::Le),
            _ => (self.greater(dtype, shape, b, a), op == ScalarOp::Ge),
        };
        let masks = match shape.bits {
            64 => self.narrow(Conversion::Truncate, &masks, shape.lanes)?,
            _ => masks,
        };
        let flags = self.shape_of(shape.lanes, 32)?;
        Ok(if inverted { self.inverted(flags, &masks) } else { masks })
    }

    fn inverted(&mut self, shape: Shape, mask: &Parts) -> Parts {
        self.with_constant(VecOp::Xor, Lane::I32, shape, mask, ones(shape))
    }

    fn shift(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        v: &[Parts],
        constant: Option<u64>,
        shape: Shape,
    ) -> Parts {
        let lane = lane_of(dtype);
        let left = op == ScalarOp::Shl;
        let signed = !left && dtype.is_signed_int();
        let lacking = signed && shape.bits == 64 && !self.has_masks();
        // Numbers that are not negative are shifted alike; the others are those with all bits inverted.
        let mirror = lacking.then(|| {
            let zero = self.constant(shape, 0);
            self.vec(VecOp::Greater, lane, shape, &zero, &v[0])
        });
        let v0 = match &mirror {
            Some(m) => self.vec(VecOp::Xor, lane, shape, &v[0], m),
            None => v[0].clone(),
        };
        let arithmetic = signed && !lacking;
        let shifted = match constant {
            Some(by) if by < u64::from(dtype.bits()) => {
                let by = by as u8;
                let op = match (left, arithmetic) {
                    (true, _) => UnaryOp::ShiftLeft(by),
                    (_, true) => UnaryOp::ShiftRight(by),
                    _ => UnaryOp::ShiftRightZeros(by),
                };
                self.unary(op, lane, shape, &v0)
            }
            Some(_) if arithmetic => self.unary(UnaryOp::ShiftRight(shape.bits as u8 - 1), lane, shape, &v0),
            Some(_) => self.constant(shape, 0),
            None => {
                let op = match (left, arithmetic) {
                    (true, _) => VecOp::ShiftLeft,
                    (_, true) => VecOp::ShiftRight,
                    _ => VecOp::ShiftRightZeros,
                };
                self.vec(op, lane, shape, &v0, &v[1])
            }
        };
        match &mirror {
            Some(m) => self.vec(VecOp::Xor, lane, shape, &shifted, m),
            None => shifted,
        }
    }

    /// Quotients of integers of at most 32 bits, by floats of 64, whose quotients are near enough: one that
    /// is no integer is farther from the next than their rounding.
    fn division(&mut self, op: ScalarOp, dtype: DType, shape: Shape, v: &[Parts]) -> Result<Parts, Declined> {
        let lanes = shape.lanes;
        let wide = self.shape_of(lanes, 64)?;
        let (a, b) =
            (self.cast(dtype, DType::F64, &v[0], lanes)?, self.cast(dtype, DType::F64, &v[1], lanes)?);
        let quotient = self.vec(VecOp::Div, Lane::F64, wide, &a, &b);
        let quotient = if dtype == DType::U32 {
            self.cast(DType::F64, DType::U32, &quotient, lanes)?
        } else {
            // -2^31 / -1 has no integer, and becomes -2^31.
            self.narrow(Conversion::DoubleToInt, &quotient, lanes)?
        };
        let zero = self.constant(shape, 0);
        let some = self.int_compare(ScalarOp::Ne, DType::I32, shape, &v[1], &zero)?;
        let quotient = self.vec(VecOp::And, Lane::I32, shape, &quotient, &some);
        if op == ScalarOp::Div {
            return Ok(quotient);
        }
        let product = self.product(Lane::I32, shape, &quotient, &v[1]);
        let rest = self.vec(VecOp::Sub, Lane::I32, shape, &v[0], &product);
        let rest = self.vec(VecOp::And, Lane::I32, shape, &rest, &some);
        if op == ScalarOp::Rem || dtype.is_unsigned_int() {
            return Ok(rest);
        }
        // The divisor is added where there is a rest of the other sign.
        let signs = self.vec(VecOp::Xor, Lane::I32, shape, &rest, &v[1]);
        let differ = self.unary(UnaryOp::ShiftRight(31), Lane::I32, shape, &signs);
        let left = self.int_compare(ScalarOp::Ne, DType::I32, shape, &rest, &zero)?;
        let adds = self.vec(VecOp::And, Lane::I32, shape, &differ, &left);
        let adds = self.vec(VecOp::And, Lane::I32, shape, &adds, &v[1]);
        Ok(self.vec(VecOp::Add, Lane::I32, shape, &rest, &adds))
    }

    fn mask(&mut self, op: ScalarOp, v: &[Parts], shape: Shape) -> Result<Parts, Declined> {
        use ScalarOp::*;
        let lane = Lane::I32;
        Ok(match op {
            And | Mul | Min => self.vec(VecOp::And, lane, shape, &v[0], &v[1]),
            Or | Max => self.vec(VecOp::Or, lane, shape, &v[0], &v[1]),
            Xor | Ne => self.vec(VecOp::Xor, lane, shape, &v[0], &v[1]),
            Not => self.inverted(shape, &v[0]),
            Eq => {
                let differ = self.vec(VecOp::Xor, lane, shape, &v[0], &v[1]);
                self.inverted(shape, &differ)
            }
            Lt | Le | Gt | Ge => {
                let (low, high) = if matches!(op, Lt | Le) { (0, 1) } else { (1, 0) };
                let not = self.inverted(shape, &v[low]);
                let merge = if matches!(op, Lt | Gt) { VecOp::And } else { VecOp::Or };
                self.vec(merge, lane, shape, &not, &v[high])
            }
            Bitcast(to) if to.bits() == 8 => self.cast(DType::Bool, to, &v[0], shape.lanes)?,
            other => return Err(format!("{other} of bool")),
        })
    }
}
