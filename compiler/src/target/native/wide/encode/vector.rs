//! Instructions on vectors.

use super::codes::{self, Codes};
use super::{Bytes, Op, Operands};
use crate::target::native::wide::Level;
use crate::target::native::wide::code::{Address, Inst, UnaryOp, VecOp, Width};
use iced_x86::{Instruction, MemoryOperand, Register};

/// The mask register that comparisons pass through on their way to lanes.
const MASK: Register = Register::K1;

impl Bytes {
    fn code(&self, codes: &Codes, width: Width) -> Op {
        codes.of(width, self.level == Level::Avx512)
    }

    pub(super) fn vector(&mut self, inst: &Inst, r: &mut Operands<'_>) -> Result<(), String> {
        match inst {
            Inst::Load { width, at, .. } => {
                let at = r.memory(at);
                self.put(Instruction::with2(self.code(&codes::LOAD, *width), r.vector(*width), at))
            }
            Inst::LoadPairs { width, at, .. } => self.load_pairs(*width, at, r),
            Inst::Ramp { width, step, .. } => {
                let at = MemoryOperand::with_base_displ(Register::RIP, 0);
                self.put(Instruction::with2(self.code(&codes::LOAD, *width), r.vector(*width), at))?;
                let words = (0..width.lanes() as i32).map(|l| (l * step) as u32).collect();
                self.constants.push((self.bytes.len() - 4, words));
                Ok(())
            }
            Inst::Gather { width, .. } => self.gather(*width, r),
            Inst::Broadcast { width, at, .. } => {
                let at = r.memory(at);
                self.put(Instruction::with2(self.code(&codes::BROADCAST, *width), r.vector(*width), at))
            }
            Inst::Store { width, at, streaming, .. } => {
                let at = r.memory(at);
                let codes = if *streaming { &codes::STREAM } else { &codes::STORE };
                self.put(Instruction::with2(self.code(codes, *width), at, r.vector(*width)))
            }
            Inst::Copy { width, .. } => {
                let (v, to) = (r.vector(*width), r.vector(*width));
                if to == v {
                    return Ok(());
                }
                self.put(Instruction::with2(self.code(&codes::MOVE, *width), to, v))
            }
            Inst::Prefetch { at } => {
                let at = r.memory(at);
                self.put(Instruction::with1(Op::Prefetcht1_m8, at))
            }
            Inst::Splat { width, .. } => {
                let v = r.vector(Width::Xmm);
                let to = r.vector(*width);
                if to == v && *width == Width::Scalar {
                    return Ok(());
                }
                self.put(Instruction::with2(self.code(&codes::SPLAT, *width), to, v))
            }
            Inst::Constant { width, bits, .. } => self.constant(*width, *bits, r),
            Inst::Vec { op, width, .. } => {
                let (a, b, to) = (r.vector(*width), r.vector(*width), r.vector(*width));
                if let VecOp::Compare(predicate) = op {
                    return self.compare_lanes(*predicate, *width, [a, b, to]);
                }
                self.put(Instruction::with3(self.code(codes::binary(*op), *width), to, a, b))
            }
            Inst::Unary { op, width, .. } => self.unary(*op, *width, r),
            Inst::FromInt { .. } => {
                let v = r.general();
                let to = r.vector(Width::Xmm);
                let code = match self.level {
                    Level::Avx2 => Op::VEX_Vcvtsi2ss_xmm_xmm_rm64,
                    Level::Avx512 => Op::EVEX_Vcvtsi2ss_xmm_xmm_rm64_er,
                };
                // The other lanes come from a register; zeros, so that it waits for no other value.
                self.zero(to)?;
                self.put(Instruction::with3(code, to, to, v))
            }
            Inst::Select { width, .. } => {
                let [mask, yes, no, to] = [(); 4].map(|()| r.vector(*width));
                self.select(*width, [mask, yes, no, to])
            }
            Inst::MulAdd { width, .. } => {
                let (_, a, b, to) = (r.number(), r.vector(*width), r.vector(*width), r.vector(*width));
                self.put(Instruction::with3(self.code(&codes::MUL_ADD, *width), to, a, b))
            }
            _ => Err("not a vector instruction".to_owned()),
        }
    }

    fn zero(&mut self, to: Register) -> Result<(), String> {
        self.put(Instruction::with3(self.code(&codes::XOR, Width::Xmm), to, to, to))
    }

    fn constant(&mut self, width: Width, bits: u32, r: &mut Operands<'_>) -> Result<(), String> {
        if bits == 0 {
            return self.zero(r.vector(Width::Xmm));
        }
        let at = MemoryOperand::with_base_displ(Register::RIP, 0);
        self.put(Instruction::with2(self.code(&codes::BROADCAST, width), r.vector(width), at))?;
        // The distance is the instruction's last part.
        self.constants.push((self.bytes.len() - 4, vec![bits]));
        Ok(())
    }

    fn load_pairs(&mut self, width: Width, at: &Address, r: &mut Operands<'_>) -> Result<(), String> {
        let first = r.memory(at);
        let to = r.vector(width);
        // The second half overlaps the first, so that it ends with the last element wanted.
        let lanes = if width == Width::Ymm { 8 } else { 4 };
        let mut second = first;
        second.displacement += (lanes - 1) * 4;
        second.displ_size = 1;
        self.put(Instruction::with2(self.code(&codes::LOAD, width), to, first))?;
        // Even ones of the first, odd ones of the second, within each 128 bits.
        const PICK: u32 = 0b11_01_10_00;
        self.put(Instruction::with4(self.code(&codes::SHUFFLE, width), to, to, second, PICK))?;
        if width == Width::Xmm {
            return Ok(());
        }
        let code = match self.level {
            Level::Avx2 => Op::VEX_Vpermpd_ymm_ymmm256_imm8,
            Level::Avx512 => Op::EVEX_Vpermpd_ymm_k1z_ymmm256b64_imm8,
        };
        self.put(Instruction::with3(code, to, to, PICK))
    }

    fn gather(&mut self, width: Width, r: &mut Operands<'_>) -> Result<(), String> {
        let base = r.general();
        let [places, mask, to] = [(); 3].map(|()| r.vector(width));
        let at = MemoryOperand::with_base_index_scale(base, places, 4);
        // All lanes; the instruction clears the mask as it goes.
        if self.level == Level::Avx2 {
            self.put(Instruction::with3(codes::ALL_ONES.of(width, false), mask, mask, mask))?;
            return self.put(Instruction::with3(codes::GATHER.of(width, false), to, at, mask));
        }
        self.put(Instruction::with3(Op::VEX_Kxnorw_kr_kr_kr, MASK, MASK, MASK))?;
        let gather = Instruction::with2(codes::GATHER.of(width, true), to, at).map(|mut i| {
            i.set_op_mask(MASK);
            i
        });
        self.put(gather)
    }

    fn unary(&mut self, op: UnaryOp, width: Width, r: &mut Operands<'_>) -> Result<(), String> {
        let v = r.vector(width);
        let to = r.vector(match (op, width) {
            (UnaryOp::High, Width::Zmm) => Width::Ymm,
            (UnaryOp::High, _) => Width::Xmm,
            _ => width,
        });
        let (codes, constant) = codes::unary(op);
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
        predicate: u8,
        width: Width,
        [a, b, to]: [Register; 3],
    ) -> Result<(), String> {
        let code = self.code(&codes::COMPARE, width);
        if self.level == Level::Avx2 {
            return self.put(Instruction::with4(code, to, a, b, u32::from(predicate)));
        }
        self.put(Instruction::with4(code, MASK, a, b, u32::from(predicate)))?;
        self.put(Instruction::with2(self.code(&codes::LANES_OF_MASK, width), to, MASK))
    }

    fn select(&mut self, width: Width, [mask, yes, no, to]: [Register; 4]) -> Result<(), String> {
        if self.level == Level::Avx2 {
            return self.put(Instruction::with4(self.code(&codes::BLEND, width), to, no, yes, mask));
        }
        // `to` is the first of the three; the constant is the table of which one is taken.
        let (second, third, table) = if to == yes {
            (mask, no, 0b1110_0010_u32)
        } else if to == no {
            (mask, yes, 0b1011_1000)
        } else {
            if to != mask {
                self.put(Instruction::with2(self.code(&codes::MOVE, width), to, mask))?;
            }
            (yes, no, 0b1100_1010)
        };
        self.put(Instruction::with4(self.code(&codes::TERNARY, width), to, second, third, table))
    }
}
