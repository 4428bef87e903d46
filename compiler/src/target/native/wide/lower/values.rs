//! How a value lies in vector registers, and steps that do the same to all of them.
//!
//! Lanes have 32 bits, but for types of 64. Narrower integers are kept extended, as their type says;
//! floats of 16 bits are the floats of 32 that they stand for; bools are masks, all ones or all zeros, of
//! 32 bits. A value of 64-bit lanes that one register does not hold lies in two, the lower lanes first.

use super::{Declined, Lower};
use crate::target::native::wide::Encoding;
use crate::target::native::wide::code::{Conversion, Inst, Lane, UnaryOp, VecOp, Width};
use burin_ir::loops::{Val, ValType};
use burin_ir::{DType, scalar};
use regalloc2::VReg;
use smallvec::{SmallVec, smallvec};

/// The registers of a value.
pub(super) type Parts = SmallVec<[VReg; 2]>;

/// Where a value is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// An `i64` scalar in a general register.
    General(VReg),
    /// In vector registers.
    Parts(Parts),
}

/// The registers that a value takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) width: Width,
    pub(super) parts: usize,
    /// Bits of a lane.
    pub(super) bits: u32,
    /// All lanes.
    pub(super) lanes: u16,
}

/// What lanes of a type hold.
pub(super) fn lane_of(dtype: DType) -> Lane {
    match dtype {
        DType::F64 => Lane::F64,
        DType::I64 | DType::U64 => Lane::I64,
        DType::F32 | DType::F16 | DType::BF16 => Lane::F32,
        _ => Lane::I32,
    }
}

/// What a lane holds of a type's number with these bits.
pub(super) fn lane_bits(dtype: DType, bits: u64) -> u64 {
    match dtype {
        DType::Bool => {
            if bits == 0 {
                0
            } else {
                u64::from(u32::MAX)
            }
        }
        DType::F16 | DType::BF16 => scalar::to_bits(scalar::from_bits(bits, dtype), DType::F32),
        DType::I8 | DType::I16 => scalar::from_bits(bits, dtype).as_i64() as u64 & u64::from(u32::MAX),
        _ => bits & (u64::MAX >> (64 - dtype.bits())),
    }
}

impl Lower<'_> {
    /// How a value of a type lies in registers; none for more lanes than two registers hold.
    pub(super) fn shape(&self, ty: ValType) -> Result<Shape, Declined> {
        let (lanes, bits) = (ty.lanes, if ty.dtype.bits() == 64 { 64 } else { 32 });
        let most = self.indices.code.level.vector_bits();
        let all = u32::from(lanes) * bits;
        let found = match Width::of_bits(all.min(most)) {
            _ if lanes == 1 => Some((Width::Scalar, 1)),
            _ if lanes == 2 => Some((Width::Xmm, 1)),
            Some(width) if all <= most => Some((width, 1)),
            Some(width) if all == 2 * most && bits == 64 => Some((width, 2)),
            _ => None,
        };
        let (width, parts) = found.ok_or_else(|| format!("a value of {} in {lanes} lanes", ty.dtype))?;
        Ok(Shape { width, parts, bits, lanes })
    }

    /// The shape of as many lanes of 32 bits, or of 64.
    pub(super) fn shape_of(&self, lanes: u16, bits: u32) -> Result<Shape, Declined> {
        let dtype = if bits == 64 { DType::I64 } else { DType::I32 };
        self.shape(ValType { dtype, lanes })
    }

    /// Whether comparisons give mask registers, and there are the instructions of AVX-512.
    pub(super) fn has_masks(&self) -> bool {
        self.indices.code.level.encoding() == Encoding::Evex
    }

    /// A value in vector registers.
    pub(super) fn value(&mut self, val: Val) -> Result<Parts, Declined> {
        match self.values[val].clone() {
            Some(Value::Parts(parts)) => Ok(parts),
            Some(Value::General(v)) => {
                let to = self.indices.code.vector();
                self.push(Inst::FromGeneral { to, v });
                Ok(smallvec![to])
            }
            None => Err(format!("{val} is used before it is defined")),
        }
    }

    /// New registers.
    pub(super) fn fresh(&mut self, shape: Shape) -> Parts {
        (0..shape.parts).map(|_| self.indices.code.vector()).collect()
    }

    /// The same bits in all lanes.
    pub(super) fn constant(&mut self, shape: Shape, bits: u64) -> Parts {
        let to = self.indices.code.vector();
        self.push(Inst::Constant { to, lane_bits: shape.bits, width: shape.width, bits });
        smallvec![to; shape.parts]
    }

    pub(super) fn vec(&mut self, op: VecOp, lane: Lane, shape: Shape, a: &Parts, b: &Parts) -> Parts {
        a.iter().zip(b).map(|(a, b)| self.vec_one(op, lane, shape.width, *a, *b)).collect()
    }

    pub(super) fn vec_one(&mut self, op: VecOp, lane: Lane, width: Width, a: VReg, b: VReg) -> VReg {
        let to = self.indices.code.vector();
        self.push(Inst::Vec { to, op, lane, width, a, b });
        to
    }

    /// An operation whose second operand is the same in all lanes.
    pub(super) fn with_constant(
        &mut self,
        op: VecOp,
        lane: Lane,
        shape: Shape,
        v: &Parts,
        bits: u64,
    ) -> Parts {
        let b = self.constant(shape, bits);
        self.vec(op, lane, shape, v, &b)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, lane: Lane, shape: Shape, v: &Parts) -> Parts {
        v.iter().map(|v| self.unary_one(op, lane, shape.width, *v)).collect()
    }

    pub(super) fn unary_one(&mut self, op: UnaryOp, lane: Lane, width: Width, v: VReg) -> VReg {
        let to = self.indices.code.vector();
        self.push(Inst::Unary { to, op, lane, width, v });
        to
    }

    /// `yes` where the mask, of lanes as wide, is set.
    pub(super) fn choose(&mut self, shape: Shape, mask: &Parts, yes: &Parts, no: &Parts) -> Parts {
        let each = mask.iter().zip(yes).zip(no);
        each.map(|((mask, yes), no)| {
            let to = self.indices.code.vector();
            self.push(Inst::Select { to, width: shape.width, mask: *mask, yes: *yes, no: *no });
            to
        })
        .collect()
    }

    /// A conversion between lanes of one width.
    pub(super) fn convert(&mut self, op: Conversion, shape: Shape, v: &Parts) -> Parts {
        v.iter().map(|v| self.convert_one(op, shape.width, *v)).collect()
    }

    pub(super) fn convert_one(&mut self, op: Conversion, width: Width, v: VReg) -> VReg {
        let to = self.indices.code.vector();
        self.push(Inst::Convert { to, op, width, v });
        to
    }

    /// Lanes of 32 bits to as many of 64.
    pub(super) fn widen(&mut self, op: Conversion, v: &Parts, lanes: u16) -> Result<Parts, Declined> {
        let to = self.shape_of(lanes, 64)?;
        let mut halves = v.clone();
        if to.parts == 2 {
            halves.push(self.unary_one(UnaryOp::High, Lane::I32, to.width, v[0]));
        }
        Ok(self.convert(op, to, &halves))
    }

    /// Lanes of 64 bits to as many of 32.
    pub(super) fn narrow(&mut self, op: Conversion, v: &Parts, lanes: u16) -> Result<Parts, Declined> {
        let from = self.shape_of(lanes, 64)?;
        if op == Conversion::Truncate && !self.has_masks() {
            return Ok(self.evens(v, from));
        }
        let halves = self.convert(op, from, v);
        Ok(self.joined(&halves, from.width))
    }

    /// Two halves of a register of that width, or one that is all there is.
    pub(super) fn joined(&mut self, halves: &Parts, width: Width) -> Parts {
        let [low, high] = halves[..] else { return halves.clone() };
        let to = self.indices.code.vector();
        self.push(Inst::Join { to, width, low, high });
        smallvec![to]
    }

    /// The lower halves of 64-bit lanes, without an instruction of its own for it.
    fn evens(&mut self, v: &Parts, from: Shape) -> Parts {
        let pair = |s: &mut Self, a, b, width| s.vec_one(VecOp::Evens, Lane::F32, width, a, b);
        match (v[..].as_ref(), from.width) {
            (&[low, high], width) => {
                // Of each 128 bits two of the first and two of the second.
                const MIDDLE: u8 = 0b11_01_10_00;
                let mixed = pair(self, low, high, width);
                smallvec![self.unary_one(UnaryOp::Order(MIDDLE), Lane::I64, width, mixed)]
            }
            (_, Width::Scalar) => v.clone(),
            (_, Width::Xmm) => smallvec![pair(self, v[0], v[0], Width::Xmm)],
            _ => {
                let high = self.unary_one(UnaryOp::High, Lane::I64, from.width, v[0]);
                smallvec![pair(self, v[0], high, Width::Xmm)]
            }
        }
    }

    /// A mask of 32-bit lanes for lanes of a shape.
    pub(super) fn mask_for(&mut self, shape: Shape, mask: &Parts) -> Result<Parts, Declined> {
        if shape.bits == 64 { self.widen(Conversion::Extend, mask, shape.lanes) } else { Ok(mask.clone()) }
    }

    /// The mask of a comparison of lanes.
    pub(super) fn compare(
        &mut self,
        op: VecOp,
        lane: Lane,
        shape: Shape,
        a: &Parts,
        b: &Parts,
    ) -> Result<Parts, Declined> {
        let masks = self.vec(op, lane, shape, a, b);
        match (shape.bits, self.has_masks()) {
            (32, _) => Ok(masks),
            (_, true) => Ok(self.joined(&masks, shape.width)),
            _ => self.narrow(Conversion::Truncate, &masks, shape.lanes),
        }
    }
}
