//! From all lanes of a value to one.

use super::values::{Parts, Shape, lane_of};
use super::{Declined, Lower};
use crate::target::native::wide::code::{Lane, UnaryOp, Width};
use burin_ir::ScalarOp;
use burin_ir::loops::{Val, ValType};
use smallvec::smallvec;

impl Lower<'_> {
    /// All lanes combined: halves with each other, until one is left.
    pub(super) fn fold(&mut self, op: ScalarOp, v: Val) -> Result<Parts, Declined> {
        const HALVES: u8 = 0b01_00_11_10;
        const NEIGHBOURS: u8 = 0b10_11_00_01;
        let ty = self.kernel.values[v];
        let mut all = self.value(v)?;
        let mut shape = self.shape(ty)?;
        let lane = lane_of(ty.dtype);
        while shape.lanes > 1 {
            let lanes = shape.lanes / 2;
            let other = match shape.width {
                _ if shape.parts == 2 => all.pop().map(|high| smallvec![high]).unwrap_or_default(),
                Width::Scalar | Width::Xmm => {
                    let order = if u32::from(lanes) * shape.bits == 64 { HALVES } else { NEIGHBOURS };
                    self.unary(UnaryOp::Permute(order), Lane::F32, shape, &all)
                }
                _ => self.unary(UnaryOp::High, lane, shape, &all),
            };
            let half =
                if shape.parts == 2 || shape.width == Width::Xmm { shape.width } else { shape.width.half() };
            shape = Shape { width: half, parts: 1, lanes, ..shape };
            all = self.apply(op, ty.dtype, &[all, other], &[None; 2], shape)?;
        }
        Ok(all)
    }

    /// One lane as a scalar.
    pub(super) fn lane(&mut self, v: Val, lane: u16) -> Result<Parts, Declined> {
        let ty = self.kernel.values[v];
        let parts = self.value(v)?;
        let (chunk, within) = self.chunk(&parts, ty, lane)?;
        Ok(self.front(chunk, lane_of(ty.dtype).bits(), within))
    }

    /// A lane of 128 bits in the first place.
    pub(super) fn front(&mut self, chunk: Parts, bits: u32, lane: u16) -> Parts {
        if lane == 0 {
            return chunk;
        }
        const UPPER_HALF: u8 = 0b11_10_11_10;
        let order = if bits == 64 { UPPER_HALF } else { lane as u8 };
        let shape = Shape { width: Width::Xmm, parts: 1, bits: 32, lanes: 4 };
        self.unary(UnaryOp::Permute(order), Lane::F32, shape, &chunk)
    }

    /// The 128 bits that a lane is in, and its number there.
    pub(super) fn chunk(&mut self, parts: &Parts, ty: ValType, lane: u16) -> Result<(Parts, u16), Declined> {
        let shape = self.shape(ty)?;
        let per_part = shape.lanes / shape.parts as u16;
        let mut v = parts[usize::from(lane / per_part)];
        let (mut lane, mut lanes, mut width) = (lane % per_part, per_part, shape.width);
        while matches!(width, Width::Ymm | Width::Zmm) {
            lanes /= 2;
            if lane >= lanes {
                v = self.unary_one(UnaryOp::High, Lane::I32, width, v);
                lane -= lanes;
            }
            width = width.half();
        }
        Ok((smallvec![v], lane))
    }
}
