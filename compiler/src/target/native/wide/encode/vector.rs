//! Instructions on vectors.

use super::codes::{self, Codes, Sides};
use super::{Bytes, Op, Operands, tables};
use crate::target::native::wide::Encoding;
use crate::target::native::wide::code::{
    Address, Conversion, DotParts, Element, Inst, Lane, UnaryOp, VecOp, Width,
};
use iced_x86::{Instruction, MemoryOperand, Register};

/// The mask register that comparisons pass through on their way to lanes.
const MASK: Register = Register::K1;

/// The rounding of conversions to floats of 16 bits: to nearest, halves to even.
const NEAREST: u32 = 0;

impl Bytes {
    fn code(&self, codes: &Codes, width: Width) -> Op {
        codes.of(width, self.encoding == Encoding::Evex)
    }

    pub(super) fn vector(&mut self, inst: &Inst, r: &mut Operands<'_>) -> Result<(), String> {
        match inst {
            Inst::Load { element, width, at, .. } => self.load(*element, *width, at, r),
            Inst::LoadPairs { width, at, .. } => self.load_pairs(*width, at, r),
            Inst::Table { width, words, .. } => {
                let at = MemoryOperand::with_base_displ(Register::RIP, 0);
                self.put(Instruction::with2(self.code(&tables::LOAD, *width), r.vector(*width), at))?;
                self.constants.push((self.bytes.len() - 4, words.clone()));
                Ok(())
            }
            Inst::Gather { width, bits, place_bits, .. } => self.gather(*width, *bits, *place_bits, r),
            Inst::Insert { bytes, place, at, .. } => {
                let at = r.memory(at);
                let (v, to) = (r.vector(Width::Xmm), r.vector(Width::Xmm));
                let code = match (bytes, self.encoding) {
                    (1, Encoding::Vex) => Op::VEX_Vpinsrb_xmm_xmm_r32m8_imm8,
                    (1, Encoding::Evex) => Op::EVEX_Vpinsrb_xmm_xmm_r32m8_imm8,
                    (_, Encoding::Vex) => Op::VEX_Vpinsrw_xmm_xmm_r32m16_imm8,
                    (_, Encoding::Evex) => Op::EVEX_Vpinsrw_xmm_xmm_r32m16_imm8,
                };
                self.put(Instruction::with4(code, to, v, at, u32::from(*place)))
            }
            Inst::Broadcast { element, width, at, .. } => self.broadcast(*element, *width, at, r),
            Inst::Store { element, width, at, streaming, .. } => {
                let at = r.memory(at);
                self.store(*element, *width, at, *streaming, r)
            }
            Inst::FromGeneral { .. } => {
                let v = r.general();
                let evex = self.encoding == Encoding::Evex;
                let code = if evex { Op::EVEX_Vmovq_xmm_rm64 } else { Op::VEX_Vmovq_xmm_rm64 };
                self.put(Instruction::with2(code, r.vector(Width::Xmm), v))
            }
            Inst::ToGeneral { second, .. } => {
                let v = r.vector(Width::Xmm);
                let to = r.general();
                self.put(match (second, self.encoding) {
                    (false, Encoding::Vex) => Instruction::with2(Op::VEX_Vmovq_rm64_xmm, to, v),
                    (false, Encoding::Evex) => Instruction::with2(Op::EVEX_Vmovq_rm64_xmm, to, v),
                    (true, Encoding::Vex) => Instruction::with3(Op::VEX_Vpextrq_rm64_xmm_imm8, to, v, 1),
                    (true, Encoding::Evex) => Instruction::with3(Op::EVEX_Vpextrq_rm64_xmm_imm8, to, v, 1),
                })
            }
            Inst::Copy { width, .. } => {
                let (v, to) = (r.vector(*width), r.vector(*width));
                if to == v {
                    return Ok(());
                }
                self.put(Instruction::with2(self.code(&tables::MOVE, *width), to, v))
            }
            Inst::Prefetch { at } => {
                let at = r.memory(at);
                self.put(Instruction::with1(Op::Prefetcht1_m8, at))
            }
            Inst::Splat { bits, width, .. } => {
                let v = r.vector(Width::Xmm);
                let to = r.vector(*width);
                if to == v && *width == Width::Scalar {
                    return Ok(());
                }
                let codes = if *bits == 64 { &tables::SPLAT_64 } else { &tables::SPLAT };
                self.put(Instruction::with2(self.code(codes, *width), to, v))
            }
            Inst::Constant { lane_bits, width, bits, .. } => self.constant(*width, *lane_bits, *bits, r),
            Inst::Vec { op, lane, width, .. } => {
                let (a, b) = (r.vector(*width), r.vector(*width));
                match op {
                    VecOp::Compare(by) | VecOp::CompareInt(by) | VecOp::CompareUnsigned(by) => {
                        let codes = codes::binary(*op, *lane);
                        return self.compare_lanes((codes, *by), (*lane, *width), [a, b], r);
                    }
                    VecOp::Evens => {
                        const EVENS: u32 = 0b10_00_10_00;
                        let code = self.code(codes::binary(*op, *lane), *width);
                        return self.put(Instruction::with4(code, r.vector(*width), a, b, EVENS));
                    }
                    _ => {}
                }
                let code = self.code(codes::binary(*op, *lane), *width);
                self.put(Instruction::with3(code, r.vector(*width), a, b))
            }
            Inst::Unary { op, lane, width, .. } => self.unary(*op, *lane, *width, r),
            Inst::Convert { op, width, .. } => self.convert(*op, *width, r),
            Inst::Join { width, .. } => {
                let (low, high, to) = (r.vector(*width), r.vector(width.half()), r.vector(*width));
                self.put(Instruction::with4(self.code(&tables::JOIN, *width), to, low, high, 1))
            }
            Inst::FromInt { .. } => {
                let v = r.general();
                let to = r.vector(Width::Xmm);
                let code = match self.encoding {
                    Encoding::Vex => Op::VEX_Vcvtsi2ss_xmm_xmm_rm64,
                    Encoding::Evex => Op::EVEX_Vcvtsi2ss_xmm_xmm_rm64_er,
                };
                // The other lanes come from a register; zeros, so that it waits for no other value.
                self.zero(to)?;
                self.put(Instruction::with3(code, to, to, v))
            }
            Inst::Select { width, .. } => {
                let [mask, yes, no, to] = [(); 4].map(|()| r.vector(*width));
                self.select(*width, [mask, yes, no, to])
            }
            Inst::DotAdd { parts, width, .. } => {
                let (_, a, b, to) = (r.number(), r.vector(*width), r.vector(*width), r.vector(*width));
                let codes = if *parts == DotParts::Bytes { &tables::DOT_BYTES } else { &tables::DOT_HALVES };
                self.put(Instruction::with3(self.code(codes, *width), to, a, b))
            }
            Inst::MulAdd { lane, width, .. } => {
                let (_, a, b, to) = (r.number(), r.vector(*width), r.vector(*width), r.vector(*width));
                let codes = if *lane == Lane::F64 { &tables::MUL_ADD_64 } else { &tables::MUL_ADD };
                self.put(Instruction::with3(self.code(codes, *width), to, a, b))
            }
            _ => Err("not a vector instruction".to_owned()),
        }
    }

    fn zero(&mut self, to: Register) -> Result<(), String> {
        self.put(Instruction::with3(self.code(&tables::XOR, Width::Xmm), to, to, to))
    }

    fn constant(
        &mut self,
        width: Width,
        lane_bits: u32,
        bits: u64,
        r: &mut Operands<'_>,
    ) -> Result<(), String> {
        if bits == 0 {
            return self.zero(r.vector(Width::Xmm));
        }
        let at = MemoryOperand::with_base_displ(Register::RIP, 0);
        let (codes, words) = match lane_bits {
            64 => (&tables::BROADCAST_64, vec![bits as u32, (bits >> 32) as u32]),
            _ => (&tables::BROADCAST, vec![bits as u32]),
        };
        self.put(Instruction::with2(self.code(codes, width), r.vector(width), at))?;
        // The distance is the instruction's last part.
        self.constants.push((self.bytes.len() - 4, words));
        Ok(())
    }

    fn load(
        &mut self,
        element: Element,
        width: Width,
        at: &Address,
        r: &mut Operands<'_>,
    ) -> Result<(), String> {
        // Instructions that extend read no less than 32 bits.
        if width == Width::Scalar && element.bytes() < 4 {
            return self.broadcast(element, Width::Xmm, at, r);
        }
        let at = r.memory(at);
        let to = r.vector(width);
        self.put(Instruction::with2(self.code(codes::load(element), width), to, at))?;
        self.raise(element, width, to)
    }

    /// What is left to do where extended bits are the upper half of a float.
    fn raise(&mut self, element: Element, width: Width, to: Register) -> Result<(), String> {
        match element {
            Element::BF16 => self.put(Instruction::with3(self.code(&tables::SHIFT_LEFT, width), to, to, 16)),
            _ => Ok(()),
        }
    }

    fn broadcast(
        &mut self,
        element: Element,
        width: Width,
        at: &Address,
        r: &mut Operands<'_>,
    ) -> Result<(), String> {
        let at = r.memory(at);
        let number = r.number();
        let to = super::vector(number, width);
        let codes = codes::broadcast(element);
        if element.bytes() >= 4 {
            return self.put(Instruction::with2(self.code(codes, width), to, at));
        }
        // As many as there are lanes, side by side; then these are extended.
        let narrow = if element.bytes() == 1 { Width::Xmm } else { width.half() };
        let some = super::vector(number, narrow);
        self.put(Instruction::with2(self.code(codes, narrow), some, at))?;
        let wide = if width == Width::Scalar { Width::Xmm } else { width };
        self.put(Instruction::with2(self.code(codes::load(element), wide), to, some))?;
        self.raise(element, wide, to)
    }

    fn store(
        &mut self,
        element: Element,
        width: Width,
        at: MemoryOperand,
        streaming: bool,
        r: &mut Operands<'_>,
    ) -> Result<(), String> {
        let v = r.vector(width);
        let evex = self.encoding == Encoding::Evex;
        let scalar = width == Width::Scalar;
        let codes = match element {
            Element::B32 | Element::B64 if streaming => &tables::STREAM,
            Element::B32 => &tables::STORE,
            Element::B64 => &tables::STORE_64,
            Element::I8 | Element::U8 if scalar => {
                let vex = Op::VEX_Vpextrb_r32m8_xmm_imm8;
                let code = if evex { Op::EVEX_Vpextrb_r32m8_xmm_imm8 } else { vex };
                return self.put(Instruction::with3(code, at, v, 0));
            }
            _ if scalar => {
                let vex = Op::VEX_Vpextrw_r32m16_xmm_imm8;
                let code = if evex { Op::EVEX_Vpextrw_r32m16_xmm_imm8 } else { vex };
                return self.put(Instruction::with3(code, at, v, 0));
            }
            Element::I8 | Element::U8 => &tables::TRUNCATE_TO_8,
            Element::I16 | Element::U16 => &tables::TRUNCATE_TO_16,
            Element::F16 => {
                let code = self.code(&tables::TO_HALF, width);
                return self.put(Instruction::with3(code, at, v, NEAREST));
            }
            Element::BF16 => return Err("a store of bf16 that has not been expanded".to_owned()),
        };
        self.put(Instruction::with2(self.code(codes, width), at, v))
    }

    fn convert(&mut self, op: Conversion, width: Width, r: &mut Operands<'_>) -> Result<(), String> {
        // Scalars pass with their neighbours.
        let width = if width == Width::Scalar { Width::Xmm } else { width };
        let (codes, sides) = codes::conversion(op);
        let (from, to) = match sides {
            Sides::Same => (width, width),
            Sides::Widens => (width.half(), width),
            Sides::WidensTwice => (Width::Xmm, width),
            Sides::Narrows => (width, width.half()),
        };
        let (v, to) = (r.vector(from), r.vector(to));
        let code = self.code(codes, width);
        self.put(match op {
            Conversion::ToHalf => Instruction::with3(code, to, v, NEAREST),
            _ => Instruction::with2(code, to, v),
        })
    }

    fn load_pairs(&mut self, width: Width, at: &Address, r: &mut Operands<'_>) -> Result<(), String> {
        let first = r.memory(at);
        let to = r.vector(width);
        // The second half overlaps the first, so that it ends with the last element wanted.
        let lanes = if width == Width::Ymm { 8 } else { 4 };
        let mut second = first;
        second.displacement += (lanes - 1) * 4;
        second.displ_size = 1;
        self.put(Instruction::with2(self.code(&tables::LOAD, width), to, first))?;
        // Even ones of the first, odd ones of the second, within each 128 bits.
        const PICK: u32 = 0b11_01_10_00;
        self.put(Instruction::with4(self.code(&tables::SHUFFLE, width), to, to, second, PICK))?;
        if width == Width::Xmm {
            return Ok(());
        }
        let code = match self.encoding {
            Encoding::Vex => Op::VEX_Vpermpd_ymm_ymmm256_imm8,
            Encoding::Evex => Op::EVEX_Vpermpd_ymm_k1z_ymmm256b64_imm8,
        };
        self.put(Instruction::with3(code, to, to, PICK))
    }

    fn gather(
        &mut self,
        width: Width,
        bits: u32,
        place_bits: u32,
        r: &mut Operands<'_>,
    ) -> Result<(), String> {
        let base = r.general();
        let side = |own: u32, other: u32| if own < other { width.half() } else { width };
        let places = r.vector(side(place_bits, bits));
        let data = side(bits, place_bits);
        let [mask, to] = [(); 2].map(|()| r.vector(data));
        let at = MemoryOperand::with_base_index_scale(base, places, bits / 8);
        let codes = codes::gather(bits, place_bits);
        // All lanes; the instruction clears the mask as it goes.
        if self.encoding == Encoding::Vex {
            self.put(Instruction::with3(tables::ALL_ONES.of(data, false), mask, mask, mask))?;
            return self.put(Instruction::with3(codes.of(width, false), to, at, mask));
        }
        self.put(Instruction::with3(Op::VEX_Kxnorw_kr_kr_kr, MASK, MASK, MASK))?;
        let gather = Instruction::with2(codes.of(width, true), to, at).map(|mut i| {
            i.set_op_mask(MASK);
            i
        });
        self.put(gather)
    }

    fn unary(&mut self, op: UnaryOp, lane: Lane, width: Width, r: &mut Operands<'_>) -> Result<(), String> {
        let v = r.vector(width);
        let to = r.vector(match (op, width) {
            (UnaryOp::High, Width::Zmm) => Width::Ymm,
            (UnaryOp::High, _) => Width::Xmm,
            _ => width,
        });
        let (codes, constant) = codes::unary(op, lane);
        let code = self.code(codes, width);
        // Scalars take their upper lanes from a register.
        let merges = width == Width::Scalar && matches!(op, UnaryOp::Sqrt | UnaryOp::Round(_));
        self.put(match constant.map(u32::from) {
            Some(c) if merges => Instruction::with4(code, to, v, v, c),
            None if merges => Instruction::with3(code, to, v, v),
            Some(c) => Instruction::with3(code, to, v, c),
            None => Instruction::with2(code, to, v),
        })
    }

    fn compare_lanes(
        &mut self,
        (codes, predicate): (&Codes, u8),
        (lane, width): (Lane, Width),
        [a, b]: [Register; 2],
        r: &mut Operands<'_>,
    ) -> Result<(), String> {
        let code = self.code(codes, width);
        if self.encoding == Encoding::Vex {
            return self.put(Instruction::with4(code, r.vector(width), a, b, u32::from(predicate)));
        }
        self.put(Instruction::with4(code, MASK, a, b, u32::from(predicate)))?;
        let lanes = if lane.bits() == 64 { width.half() } else { width };
        let to = r.vector(lanes);
        self.put(Instruction::with2(self.code(&tables::LANES_OF_MASK, lanes), to, MASK))
    }

    fn select(&mut self, width: Width, [mask, yes, no, to]: [Register; 4]) -> Result<(), String> {
        if self.encoding == Encoding::Vex {
            return self.put(Instruction::with4(self.code(&tables::BLEND, width), to, no, yes, mask));
        }
        // `to` is the first of the three; the constant is the table of which one is taken.
        let (second, third, table) = if to == yes {
            (mask, no, 0b1110_0010_u32)
        } else if to == no {
            (mask, yes, 0b1011_1000)
        } else {
            if to != mask {
                self.put(Instruction::with2(self.code(&tables::MOVE, width), to, mask))?;
            }
            (yes, no, 0b1100_1010)
        };
        self.put(Instruction::with4(self.code(&tables::TERNARY, width), to, second, third, table))
    }
}
