//! Sums of products of narrow integers, several in a lane of 32 bits.
//!
//! With VNNI there is an instruction for four bytes, unsigned ones of one operand and signed ones of the
//! other, and one for two signed halves. Without it, halves are multiplied in pairs; bytes become halves
//! first, those at even places and those at odd ones, once for all products of a block. Where the data
//! are halves already, side by side in memory, the weights' bytes are brought into such an order that those
//! at even places are the first two.

use super::values::{Parts, Shape};
use super::{Declined, Lower};
use crate::target::native::wide::Level;
use crate::target::native::wide::code::{DotParts, Inst, Lane, UnaryOp, VecOp, Width};
use burin_ir::loops::{Op, Val};
use burin_ir::{DType, ScalarOp};

/// A value's bytes as halves of the same lanes, as [`Bytes`] says.
pub(super) type Halves = [Parts; 2];

/// How a value's bytes are made halves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Bytes {
    /// Extended by zeros, those at even places apart from those at odd ones.
    Unsigned,
    /// The same, extended by their sign.
    Signed,
    /// Extended by their sign, the first two of a lane apart from the last two.
    SignedPairs,
}

/// The bytes at even places.
const EVEN: u64 = 0x00ff_00ff;

/// The numbers of the first lane's bytes with the two in the middle swapped, and what is added for each lane
/// before, of those in the same 128 bits.
const MIDDLE_SWAPPED: u32 = 0x03_01_02_00;
const EACH_BYTE: u32 = 0x04_04_04_04;

impl Lower<'_> {
    /// `dotbytes(a, b)`, added to a sum where there is one.
    pub(super) fn dot_bytes(&mut self, args: &[Val], v: &[Parts], shape: Shape) -> Result<Parts, Declined> {
        if self.has_dots() {
            let sum = v.get(2).cloned().unwrap_or_else(|| self.constant(shape, 0));
            return Ok(self.dot_add(DotParts::Bytes, shape, [&v[0], &v[1], &sum]));
        }
        let a = self.bytes_as_halves(args[0], &v[0], shape, Bytes::Unsigned);
        let b = self.bytes_as_halves(args[1], &v[1], shape, Bytes::Signed);
        let even = self.vec(VecOp::MulPairs, Lane::I32, shape, &a[0], &b[0]);
        let odd = self.vec(VecOp::MulPairs, Lane::I32, shape, &a[1], &b[1]);
        let dot = self.vec(VecOp::Add, Lane::I32, shape, &even, &odd);
        Ok(v.get(2).map_or(dot.clone(), |sum| self.vec(VecOp::Add, Lane::I32, shape, &dot, sum)))
    }

    /// `dothalves(a, b, c)`, added to a sum where there is one.
    pub(super) fn dot_halves(&mut self, args: &[Val], v: &[Parts], shape: Shape) -> Parts {
        let pairs = self.bytes_as_halves(args[2], &v[2], shape, Bytes::SignedPairs);
        let mut sum = v.get(3).cloned();
        for (halves, bytes) in v.iter().zip(&pairs) {
            let product = if self.has_dots() {
                let sum = sum.take().unwrap_or_else(|| self.constant(shape, 0));
                self.dot_add(DotParts::Halves, shape, [halves, bytes, &sum])
            } else {
                let product = self.vec(VecOp::MulPairs, Lane::I32, shape, halves, bytes);
                match sum.take() {
                    Some(sum) => self.vec(VecOp::Add, Lane::I32, shape, &product, &sum),
                    None => product,
                }
            };
            sum = Some(product);
        }
        sum.unwrap_or_else(|| self.constant(shape, 0))
    }

    /// `a * b + sum` of `i32` that both were narrower before: as a sum of two products of halves, of which
    /// the upper one is zero, since one of the two is unsigned.
    pub(super) fn narrow_multiply_add(&mut self, args: &[Val], v: &[Parts], shape: Shape) -> Option<Parts> {
        let from = [self.narrow[args[0]]?, self.narrow[args[1]]?];
        let fits = |t: DType| matches!(t, DType::U8 | DType::I8 | DType::I16);
        if !from.contains(&DType::U8) || !from.into_iter().all(fits) {
            return None;
        }
        if self.has_dots() {
            return Some(self.dot_add(DotParts::Halves, shape, [&v[0], &v[1], &v[2]]));
        }
        let product = self.vec(VecOp::MulPairs, Lane::I32, shape, &v[0], &v[1]);
        Some(self.vec(VecOp::Add, Lane::I32, shape, &product, &v[2]))
    }

    /// The type that a value of `i32` was converted from, lane by lane.
    pub(super) fn narrow_source(&self, val: Val, op: &Op) -> Option<DType> {
        match op {
            _ if self.kernel.values[val].dtype != DType::I32 => None,
            Op::Scalar(ScalarOp::Cast(_), args) => Some(self.kernel.values[args[0]].dtype),
            Op::Splat(v) => self.narrow[*v],
            _ => None,
        }
    }

    fn has_dots(&self) -> bool {
        self.indices.code.level == Level::Avx512Vnni
    }

    fn dot_add(&mut self, parts: DotParts, shape: Shape, [a, b, sum]: [&Parts; 3]) -> Parts {
        let width = shape.width;
        let each = a.iter().zip(b).zip(sum).map(|((a, b), sum)| {
            let to = self.indices.code.vector();
            self.indices.push(Inst::DotAdd { to, parts, width, a: *a, b: *b, sum: *sum });
            to
        });
        each.collect()
    }

    fn bytes_as_halves(&mut self, val: Val, v: &Parts, shape: Shape, bytes: Bytes) -> Halves {
        if let Some(known) = self.halves.get(&(val, bytes)) {
            return known.clone();
        }
        let lane = Lane::I32;
        let halves = match bytes {
            Bytes::Unsigned => {
                let even = self.with_constant(VecOp::And, lane, shape, v, EVEN);
                [even, self.unary(UnaryOp::HalvesRightZeros(8), lane, shape, v)]
            }
            Bytes::Signed => self.signed_halves(v, shape),
            Bytes::SignedPairs => {
                let swapped = self.middle_swapped(v, shape);
                self.signed_halves(&swapped, shape)
            }
        };
        self.halves.insert((val, bytes), halves.clone());
        halves
    }

    fn signed_halves(&mut self, v: &Parts, shape: Shape) -> Halves {
        let raised = self.unary(UnaryOp::HalvesLeft(8), Lane::I32, shape, v);
        [&raised, v].map(|v| self.unary(UnaryOp::HalvesRight(8), Lane::I32, shape, v))
    }

    /// Each lane with the two bytes in its middle swapped.
    fn middle_swapped(&mut self, v: &Parts, shape: Shape) -> Parts {
        let (width, quarters) = match shape.width {
            Width::Scalar | Width::Xmm => (Width::Xmm, 1),
            Width::Ymm => (Width::Ymm, 2),
            Width::Zmm => (Width::Zmm, 4),
        };
        let words = (0..4 * quarters).map(|lane| MIDDLE_SWAPPED + lane % 4 * EACH_BYTE).collect();
        let order = self.indices.code.vector();
        self.push(Inst::Table { to: order, width, words });
        v.iter().map(|v| self.vec_one(VecOp::OrderBytes, Lane::I32, shape.width, *v, order)).collect()
    }
}
