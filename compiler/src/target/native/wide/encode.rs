//! Instructions with their registers as bytes. Encodings come from `iced-x86`; jumps are written
//! here, with 32-bit distances.

use super::allocate::{CALLEE_SAVED, Flat};
use super::code::{Address, Code, Cond, Inst, Label, UnaryOp, VecOp, Width};
use iced_x86::{Code as Op, Encoder, IcedError, Instruction, MemoryOperand, Register};
use regalloc2::{Allocation, Edit, Function, InstOrEdit, Output, RegClass};
use std::collections::{BTreeSet, HashMap};

const GENERAL: [Register; 16] = {
    use Register::*;
    [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15]
};
const GENERAL_32: [Register; 16] = {
    use Register::*;
    [EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, R8D, R9D, R10D, R11D, R12D, R13D, R14D, R15D]
};
const XMM: [Register; 16] = {
    use Register::*;
    [XMM0, XMM1, XMM2, XMM3, XMM4, XMM5, XMM6, XMM7, XMM8, XMM9, XMM10, XMM11, XMM12, XMM13, XMM14, XMM15]
};
const YMM: [Register; 16] = {
    use Register::*;
    [YMM0, YMM1, YMM2, YMM3, YMM4, YMM5, YMM6, YMM7, YMM8, YMM9, YMM10, YMM11, YMM12, YMM13, YMM14, YMM15]
};

/// The bytes of a function, without references to anything outside.
pub fn encode(code: &Code, flat: &Flat<'_>, registers: &Output) -> Result<Vec<u8>, String> {
    let mut out = Bytes {
        encoder: Encoder::new(64),
        bytes: Vec::new(),
        starts: vec![0; code.blocks.len()],
        jumps: Vec::new(),
        constants: Vec::new(),
        saved: saved(registers),
        stack: (registers.num_spillslots * 8).next_multiple_of(16) as i32,
    };
    out.function(code, flat, registers)?;
    Ok(out.bytes)
}

/// The callee-saved registers that are used.
fn saved(registers: &Output) -> Vec<usize> {
    let moved = registers.edits.iter().flat_map(|(_, Edit::Move { from, to })| [*from, *to]);
    let used: BTreeSet<usize> = registers
        .allocs
        .iter()
        .copied()
        .chain(moved)
        .filter_map(Allocation::as_reg)
        .filter(|r| r.class() == RegClass::Int)
        .map(|r| r.hw_enc())
        .collect();
    CALLEE_SAVED.into_iter().filter(|r| used.contains(r)).collect()
}

struct Bytes {
    encoder: Encoder,
    bytes: Vec<u8>,
    /// Where each block starts.
    starts: Vec<usize>,
    /// Where a 32-bit distance to a block is to be written.
    jumps: Vec<(usize, Label)>,
    /// Where a 32-bit distance to a constant is to be written, and its bits.
    constants: Vec<(usize, u32)>,
    saved: Vec<usize>,
    /// Bytes for spilled values.
    stack: i32,
}

/// The registers of an instruction's operands, taken in the order of [`Inst::operands`].
struct Operands<'a>(std::slice::Iter<'a, Allocation>);

impl Operands<'_> {
    fn number(&mut self) -> usize {
        let register = self.0.next().and_then(|a| a.as_reg());
        register.unwrap_or_else(|| unreachable!("every operand is constrained to a register")).hw_enc()
    }

    fn general(&mut self) -> Register {
        GENERAL[self.number()]
    }

    fn vector(&mut self, width: Width) -> Register {
        vector(self.number(), width)
    }

    fn memory(&mut self, at: &Address) -> MemoryOperand {
        let base = self.general();
        let (index, scale) = match at.index {
            Some((_, scale)) => (self.general(), scale.into()),
            None => (Register::None, 1),
        };
        memory(base, index, scale, at.offset)
    }
}

fn vector(number: usize, width: Width) -> Register {
    if width == Width::Ymm { YMM[number] } else { XMM[number] }
}

fn memory(base: Register, index: Register, scale: u32, offset: i32) -> MemoryOperand {
    let size = u32::from(offset != 0);
    MemoryOperand::new(base, index, scale, offset.into(), size, false, Register::None)
}

/// One of an instruction's three widths.
fn by_width(width: Width, codes: [Op; 3]) -> Op {
    match width {
        Width::Scalar => codes[0],
        Width::Xmm => codes[1],
        Width::Ymm => codes[2],
    }
}

fn vec_code(op: VecOp, width: Width) -> Op {
    use Op::*;
    let codes = match op {
        VecOp::Add => [VEX_Vaddss_xmm_xmm_xmmm32, VEX_Vaddps_xmm_xmm_xmmm128, VEX_Vaddps_ymm_ymm_ymmm256],
        VecOp::Sub => [VEX_Vsubss_xmm_xmm_xmmm32, VEX_Vsubps_xmm_xmm_xmmm128, VEX_Vsubps_ymm_ymm_ymmm256],
        VecOp::Mul => [VEX_Vmulss_xmm_xmm_xmmm32, VEX_Vmulps_xmm_xmm_xmmm128, VEX_Vmulps_ymm_ymm_ymmm256],
        VecOp::Div => [VEX_Vdivss_xmm_xmm_xmmm32, VEX_Vdivps_xmm_xmm_xmmm128, VEX_Vdivps_ymm_ymm_ymmm256],
        VecOp::Max => [VEX_Vmaxss_xmm_xmm_xmmm32, VEX_Vmaxps_xmm_xmm_xmmm128, VEX_Vmaxps_ymm_ymm_ymmm256],
        VecOp::Min => [VEX_Vminss_xmm_xmm_xmmm32, VEX_Vminps_xmm_xmm_xmmm128, VEX_Vminps_ymm_ymm_ymmm256],
        VecOp::And => [VEX_Vandps_xmm_xmm_xmmm128, VEX_Vandps_xmm_xmm_xmmm128, VEX_Vandps_ymm_ymm_ymmm256],
        VecOp::Or => [VEX_Vorps_xmm_xmm_xmmm128, VEX_Vorps_xmm_xmm_xmmm128, VEX_Vorps_ymm_ymm_ymmm256],
        VecOp::Xor => [VEX_Vxorps_xmm_xmm_xmmm128, VEX_Vxorps_xmm_xmm_xmmm128, VEX_Vxorps_ymm_ymm_ymmm256],
        VecOp::AddInt => [VEX_Vpaddd_xmm_xmm_xmmm128, VEX_Vpaddd_xmm_xmm_xmmm128, VEX_Vpaddd_ymm_ymm_ymmm256],
        VecOp::SubInt => [VEX_Vpsubd_xmm_xmm_xmmm128, VEX_Vpsubd_xmm_xmm_xmmm128, VEX_Vpsubd_ymm_ymm_ymmm256],
        VecOp::Compare(_) => {
            [VEX_Vcmpss_xmm_xmm_xmmm32_imm8, VEX_Vcmpps_xmm_xmm_xmmm128_imm8, VEX_Vcmpps_ymm_ymm_ymmm256_imm8]
        }
    };
    by_width(width, codes)
}

impl Bytes {
    fn put(&mut self, inst: Result<Instruction, IcedError>) -> Result<(), String> {
        let fail = |e: IcedError| format!("encoding: {e}");
        self.encoder.encode(&inst.map_err(fail)?, 0).map_err(fail)?;
        let bytes = self.encoder.take_buffer();
        self.bytes.extend(bytes);
        Ok(())
    }

    fn function(&mut self, code: &Code, flat: &Flat<'_>, registers: &Output) -> Result<(), String> {
        for r in self.saved.clone() {
            self.put(Instruction::with1(Op::Push_r64, GENERAL[r]))?;
        }
        if self.stack > 0 {
            self.put(Instruction::with2(Op::Sub_rm64_imm32, Register::RSP, self.stack))?;
        }
        for label in 0..code.blocks.len() {
            self.starts[label] = self.bytes.len();
            for item in registers.block_insts_and_edits(flat, regalloc2::Block::new(label)) {
                match item {
                    InstOrEdit::Edit(Edit::Move { from, to }) => self.transfer(*from, *to)?,
                    InstOrEdit::Inst(number) => {
                        let mut operands = Operands(registers.inst_allocs(number).iter());
                        self.inst(flat.inst(number), &mut operands, label)?;
                    }
                }
            }
        }
        debug_assert_eq!(self.starts.len(), flat.num_blocks());
        for (at, to) in std::mem::take(&mut self.jumps) {
            let distance = self.starts[to] as i32 - (at as i32 + 4);
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.pool();
        Ok(())
    }

    /// The constants, each once, behind the code.
    fn pool(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0xcc);
        let mut places = HashMap::new();
        for (at, bits) in std::mem::take(&mut self.constants) {
            let place = *places.entry(bits).or_insert_with(|| {
                self.bytes.extend(bits.to_le_bytes());
                self.bytes.len() - 4
            });
            let distance = place as i32 - (at as i32 + 4);
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
    }

    fn slot(&self, a: Allocation) -> Option<MemoryOperand> {
        a.as_stack().map(|s| memory(Register::RSP, Register::None, 1, s.index() as i32 * 8))
    }

    /// A move between registers and the stack.
    fn transfer(&mut self, from: Allocation, to: Allocation) -> Result<(), String> {
        if from == to {
            return Ok(());
        }
        let class = from.as_reg().or(to.as_reg()).map_or(RegClass::Int, |r| r.class());
        let name = |a: Allocation| a.as_reg().map(|r| r.hw_enc());
        let float = class == RegClass::Float;
        let register = |n: usize| if float { YMM[n] } else { GENERAL[n] };
        self.put(match (name(from), name(to)) {
            (Some(from), Some(to)) if float => {
                Instruction::with2(Op::VEX_Vmovaps_ymm_ymmm256, register(to), register(from))
            }
            (Some(from), Some(to)) => Instruction::with2(Op::Mov_r64_rm64, register(to), register(from)),
            (Some(from), None) => {
                let code = if float { Op::VEX_Vmovups_ymmm256_ymm } else { Op::Mov_rm64_r64 };
                Instruction::with2(code, self.slot(to).unwrap_or_default(), register(from))
            }
            (None, Some(to)) => {
                let code = if float { Op::VEX_Vmovups_ymm_ymmm256 } else { Op::Mov_r64_rm64 };
                Instruction::with2(code, register(to), self.slot(from).unwrap_or_default())
            }
            (None, None) => return Err("a move between two places of the stack".to_owned()),
        })
    }

    fn inst(&mut self, inst: &Inst, r: &mut Operands<'_>, label: Label) -> Result<(), String> {
        match inst {
            Inst::Enter { .. } => Ok(()),
            Inst::Jump { to, .. } => self.jump(*to, label + 1),
            Inst::Branch { cond, yes, no } => {
                let taken = self.compare(*cond, r)?;
                self.bytes.extend([0x0f, taken]);
                self.distance(*yes);
                self.jump(*no, label + 1)
            }
            Inst::Return => self.leave(),
            Inst::Imm { .. }
            | Inst::Word { .. }
            | Inst::Add { .. }
            | Inst::AddImm { .. }
            | Inst::Mul { .. }
            | Inst::MulImm { .. }
            | Inst::ShiftLeft { .. }
            | Inst::ShiftRight { .. }
            | Inst::Divide { .. }
            | Inst::Least { .. }
            | Inst::Greatest { .. } => self.integer(inst, r),
            _ => self.vector(inst, r),
        }
    }

    fn integer(&mut self, inst: &Inst, r: &mut Operands<'_>) -> Result<(), String> {
        match inst {
            Inst::Imm { value, .. } => {
                let n = r.number();
                match u32::try_from(*value) {
                    Ok(v) => self.put(Instruction::with2(Op::Mov_r32_imm32, GENERAL_32[n], v)),
                    Err(_) => self.put(Instruction::with2(Op::Mov_r64_imm64, GENERAL[n], *value)),
                }
            }
            Inst::Word { at, .. } => {
                let at = r.memory(at);
                self.put(Instruction::with2(Op::Mov_r64_rm64, r.general(), at))
            }
            Inst::Add { .. } => {
                let at = memory(r.general(), r.general(), 1, 0);
                self.put(Instruction::with2(Op::Lea_r64_m, r.general(), at))
            }
            Inst::AddImm { by, .. } => {
                let at = memory(r.general(), Register::None, 1, *by);
                self.put(Instruction::with2(Op::Lea_r64_m, r.general(), at))
            }
            Inst::MulImm { by, .. } => {
                let a = r.general();
                self.put(Instruction::with3(Op::Imul_r64_rm64_imm32, r.general(), a, *by))
            }
            Inst::Mul { .. } => {
                let (_, b, to) = (r.general(), r.general(), r.general());
                self.put(Instruction::with2(Op::Imul_r64_rm64, to, b))
            }
            Inst::ShiftLeft { by, .. } | Inst::ShiftRight { by, .. } => {
                let left = matches!(inst, Inst::ShiftLeft { .. });
                let code = if left { Op::Shl_rm64_imm8 } else { Op::Sar_rm64_imm8 };
                let (_, to) = (r.general(), r.general());
                self.put(Instruction::with2(code, to, u32::from(*by)))
            }
            Inst::Divide { .. } => {
                let (_, b) = (r.general(), r.general());
                self.put(Instruction::with2(Op::Xor_r32_rm32, Register::EDX, Register::EDX))?;
                self.put(Instruction::with1(Op::Div_rm64, b))
            }
            _ => {
                let (_, b, to) = (r.general(), r.general(), r.general());
                self.put(Instruction::with2(Op::Cmp_r64_rm64, to, b))?;
                let least = matches!(inst, Inst::Least { .. });
                let code = if least { Op::Cmovg_r64_rm64 } else { Op::Cmovl_r64_rm64 };
                self.put(Instruction::with2(code, to, b))
            }
        }
    }

    fn vector(&mut self, inst: &Inst, r: &mut Operands<'_>) -> Result<(), String> {
        use Op::*;
        match inst {
            Inst::Load { width, at, .. } => {
                let at = r.memory(at);
                let codes = [VEX_Vmovss_xmm_m32, VEX_Vmovups_xmm_xmmm128, VEX_Vmovups_ymm_ymmm256];
                self.put(Instruction::with2(by_width(*width, codes), r.vector(*width), at))
            }
            Inst::LoadPairs { width, at, .. } => {
                let first = r.memory(at);
                let to = r.vector(*width);
                // The second half overlaps the first, so that it ends with the last element wanted.
                let lanes = if *width == Width::Ymm { 8 } else { 4 };
                let mut second = first;
                second.displacement += (lanes - 1) * 4;
                second.displ_size = 1;
                let codes = [VEX_Vmovss_xmm_m32, VEX_Vmovups_xmm_xmmm128, VEX_Vmovups_ymm_ymmm256];
                self.put(Instruction::with2(by_width(*width, codes), to, first))?;
                // Even ones of the first, odd ones of the second, within each 128 bits.
                const PICK: u32 = 0b11_01_10_00;
                if *width == Width::Xmm {
                    return self.put(Instruction::with4(
                        VEX_Vshufps_xmm_xmm_xmmm128_imm8,
                        to,
                        to,
                        second,
                        PICK,
                    ));
                }
                self.put(Instruction::with4(VEX_Vshufps_ymm_ymm_ymmm256_imm8, to, to, second, PICK))?;
                self.put(Instruction::with3(VEX_Vpermpd_ymm_ymmm256_imm8, to, to, PICK))
            }
            Inst::Broadcast { width, at, .. } => {
                let at = r.memory(at);
                let codes = [VEX_Vmovss_xmm_m32, VEX_Vbroadcastss_xmm_m32, VEX_Vbroadcastss_ymm_m32];
                self.put(Instruction::with2(by_width(*width, codes), r.vector(*width), at))
            }
            Inst::Store { width, at, .. } => {
                let at = r.memory(at);
                let codes = [VEX_Vmovss_m32_xmm, VEX_Vmovups_xmmm128_xmm, VEX_Vmovups_ymmm256_ymm];
                self.put(Instruction::with2(by_width(*width, codes), at, r.vector(*width)))
            }
            Inst::Splat { width, .. } => {
                let v = r.vector(Width::Xmm);
                self.splat(*width, r.number(), v)
            }
            Inst::Constant { bits: 0, .. } => {
                let to = r.vector(Width::Xmm);
                self.put(Instruction::with3(VEX_Vxorps_xmm_xmm_xmmm128, to, to, to))
            }
            Inst::Constant { width, bits, .. } => {
                let codes = [VEX_Vmovss_xmm_m32, VEX_Vbroadcastss_xmm_m32, VEX_Vbroadcastss_ymm_m32];
                let at = MemoryOperand::with_base_displ(Register::RIP, 0);
                self.put(Instruction::with2(by_width(*width, codes), r.vector(*width), at))?;
                // The distance is the instruction's last part.
                self.constants.push((self.bytes.len() - 4, *bits));
                Ok(())
            }
            Inst::Vec { op, width, .. } => {
                let (a, b, to) = (r.vector(*width), r.vector(*width), r.vector(*width));
                let code = vec_code(*op, *width);
                if let VecOp::Compare(predicate) = op {
                    return self.put(Instruction::with4(code, to, a, b, u32::from(*predicate)));
                }
                self.put(Instruction::with3(code, to, a, b))
            }
            Inst::Unary { op, width, .. } => {
                let v = r.vector(*width);
                let to = if *op == UnaryOp::High { Width::Xmm } else { *width };
                self.unary(*op, *width, r.vector(to), v)
            }
            Inst::FromInt { .. } => {
                let v = r.general();
                let to = r.vector(Width::Xmm);
                // The other lanes come from a register; zeros, so that it waits for no other value.
                self.put(Instruction::with3(VEX_Vxorps_xmm_xmm_xmmm128, to, to, to))?;
                self.put(Instruction::with3(VEX_Vcvtsi2ss_xmm_xmm_rm64, to, to, v))
            }
            Inst::Select { width, .. } => {
                let [mask, yes, no, to] = [(); 4].map(|()| r.vector(*width));
                let codes = [
                    VEX_Vblendvps_xmm_xmm_xmmm128_xmm,
                    VEX_Vblendvps_xmm_xmm_xmmm128_xmm,
                    VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
                ];
                self.put(Instruction::with4(by_width(*width, codes), to, no, yes, mask))
            }
            Inst::MulAdd { width, .. } => {
                let (_, a, b, to) = (r.number(), r.vector(*width), r.vector(*width), r.vector(*width));
                let codes = [
                    VEX_Vfmadd231ss_xmm_xmm_xmmm32,
                    VEX_Vfmadd231ps_xmm_xmm_xmmm128,
                    VEX_Vfmadd231ps_ymm_ymm_ymmm256,
                ];
                self.put(Instruction::with3(by_width(*width, codes), to, a, b))
            }
            _ => Err("not a vector instruction".to_owned()),
        }
    }

    fn unary(&mut self, op: UnaryOp, width: Width, to: Register, v: Register) -> Result<(), String> {
        use Op::*;
        let (codes, by) = match op {
            UnaryOp::Sqrt if width == Width::Scalar => {
                return self.put(Instruction::with3(VEX_Vsqrtss_xmm_xmm_xmmm32, to, v, v));
            }
            UnaryOp::Sqrt => {
                let codes = [INVALID, VEX_Vsqrtps_xmm_xmmm128, VEX_Vsqrtps_ymm_ymmm256];
                return self.put(Instruction::with2(by_width(width, codes), to, v));
            }
            UnaryOp::Round(mode) if width == Width::Scalar => {
                let mode = u32::from(mode);
                return self.put(Instruction::with4(VEX_Vroundss_xmm_xmm_xmmm32_imm8, to, v, v, mode));
            }
            UnaryOp::Round(mode) => {
                ([INVALID, VEX_Vroundps_xmm_xmmm128_imm8, VEX_Vroundps_ymm_ymmm256_imm8], mode)
            }
            UnaryOp::High => {
                return self.put(Instruction::with3(VEX_Vextractf128_xmmm128_ymm_imm8, to, v, 1));
            }
            UnaryOp::Permute(order) => {
                ([VEX_Vpermilps_xmm_xmmm128_imm8, VEX_Vpermilps_xmm_xmmm128_imm8, INVALID], order)
            }
            UnaryOp::ShiftLeft(by) => {
                ([VEX_Vpslld_xmm_xmm_imm8, VEX_Vpslld_xmm_xmm_imm8, VEX_Vpslld_ymm_ymm_imm8], by)
            }
            UnaryOp::ShiftRight(by) => {
                ([VEX_Vpsrad_xmm_xmm_imm8, VEX_Vpsrad_xmm_xmm_imm8, VEX_Vpsrad_ymm_ymm_imm8], by)
            }
        };
        self.put(Instruction::with3(by_width(width, codes), to, v, u32::from(by)))
    }

    /// The first lane of `v` in all lanes of a register.
    fn splat(&mut self, width: Width, to: usize, v: Register) -> Result<(), String> {
        match width {
            Width::Scalar if XMM[to] == v => Ok(()),
            Width::Scalar => self.put(Instruction::with2(Op::VEX_Vmovaps_xmm_xmmm128, XMM[to], v)),
            Width::Xmm => self.put(Instruction::with2(Op::VEX_Vbroadcastss_xmm_xmm, XMM[to], v)),
            Width::Ymm => self.put(Instruction::with2(Op::VEX_Vbroadcastss_ymm_xmm, YMM[to], v)),
        }
    }

    /// A comparison; answers the second byte of the jump that is taken where the condition holds.
    fn compare(&mut self, cond: Cond, r: &mut Operands<'_>) -> Result<u8, String> {
        const NOT_LESS: u8 = 0x8d;
        const SIGN: u8 = 0x88;
        let a = r.general();
        match cond {
            Cond::NotLess(..) => {
                self.put(Instruction::with2(Op::Cmp_r64_rm64, a, r.general()))?;
                Ok(NOT_LESS)
            }
            Cond::NotLessThan(_, limit) => {
                self.put(Instruction::with2(Op::Cmp_rm64_imm32, a, limit))?;
                Ok(NOT_LESS)
            }
            Cond::Negative(_) => {
                self.put(Instruction::with2(Op::Test_rm64_r64, a, a))?;
                Ok(SIGN)
            }
        }
    }

    /// A jump, where the block does not follow at once.
    fn jump(&mut self, to: Label, next: Label) -> Result<(), String> {
        if to != next {
            self.bytes.push(0xe9);
            self.distance(to);
        }
        Ok(())
    }

    fn distance(&mut self, to: Label) {
        self.jumps.push((self.bytes.len(), to));
        self.bytes.extend([0; 4]);
    }

    fn leave(&mut self) -> Result<(), String> {
        // Other code mixes in legacy SSE instructions, which are slow while upper halves are set.
        self.put(Ok(Instruction::with(Op::VEX_Vzeroupper)))?;
        if self.stack > 0 {
            self.put(Instruction::with2(Op::Add_rm64_imm32, Register::RSP, self.stack))?;
        }
        for r in self.saved.clone().into_iter().rev() {
            self.put(Instruction::with1(Op::Pop_r64, GENERAL[r]))?;
        }
        self.put(Ok(Instruction::with(Op::Retnq)))
    }
}
