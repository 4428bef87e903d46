//! Instructions with their registers as bytes. Encodings come from `iced-x86`; jumps are written
//! here, with 32-bit distances.

mod codes;
mod tables;
mod vector;

use super::Encoding;
use super::allocate::{CALLEE_SAVED, Flat};
use super::code::{Address, Code, Cond, Inst, Label, Width};
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
/// The bytes of a function, without references to anything outside.
pub fn encode(code: &Code, flat: &Flat<'_>, registers: &Output) -> Result<Vec<u8>, String> {
    let mut out = Bytes {
        encoding: code.level.encoding(),
        encoder: Encoder::new(64),
        bytes: Vec::new(),
        starts: vec![0; code.blocks.len()],
        only_jumps: (0..code.blocks.len()).map(|b| only_jumps(b, flat, registers)).collect(),
        skipped: None,
        jumps: Vec::new(),
        constants: Vec::new(),
        saved: saved(registers),
        stack: (registers.num_spillslots * 8).next_multiple_of(16) as i32,
    };
    out.function(code, flat, registers)?;
    Ok(out.bytes)
}

/// Where a block goes that moves no registers and does nothing else.
fn only_jumps(block: Label, flat: &Flat<'_>, registers: &Output) -> Option<Label> {
    let mut items = registers.block_insts_and_edits(flat, regalloc2::Block::new(block));
    match (items.next(), items.next()) {
        (Some(InstOrEdit::Inst(number)), None) => match flat.inst(number) {
            Inst::Jump { to, .. } => Some(*to),
            _ => None,
        },
        _ => None,
    }
}

/// The second byte of the jump that is taken where another one is not.
fn opposite(jump: u8) -> u8 {
    jump ^ 1
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
    encoding: Encoding,
    encoder: Encoder,
    bytes: Vec<u8>,
    /// Where each block starts.
    starts: Vec<usize>,
    /// Where a block goes that does nothing else.
    only_jumps: Vec<Option<Label>>,
    /// The block that nothing goes through.
    skipped: Option<Label>,
    /// Where a 32-bit distance to a block is to be written.
    jumps: Vec<(usize, Label)>,
    /// Where a 32-bit distance to a constant is to be written, and its words.
    constants: Vec<(usize, Vec<u32>)>,
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

/// A vector register; a scalar lies in the first lane of 128 bits.
fn vector(number: usize, width: Width) -> Register {
    let first = match width {
        Width::Scalar | Width::Xmm => Register::XMM0,
        Width::Ymm => Register::YMM0,
        Width::Zmm => Register::ZMM0,
    };
    first + number as u32
}

fn memory(base: Register, index: Register, scale: u32, offset: i32) -> MemoryOperand {
    let size = u32::from(offset != 0);
    MemoryOperand::new(base, index, scale, offset.into(), size, false, Register::None)
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
            if self.skipped == Some(label) {
                continue;
            }
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
        for (at, words) in std::mem::take(&mut self.constants) {
            let place = *places.entry(words).or_insert_with_key(|words| {
                let place = self.bytes.len();
                self.bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
                place
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
        let (width, evex) = match self.encoding {
            Encoding::Vex => (Width::Ymm, false),
            Encoding::Evex => (Width::Zmm, true),
        };
        let register = |n: usize| if float { vector(n, width) } else { GENERAL[n] };
        let code = |of: &codes::Codes, general: Op| if float { of.of(width, evex) } else { general };
        self.put(match (name(from), name(to)) {
            (Some(from), Some(to)) => {
                Instruction::with2(code(&tables::MOVE, Op::Mov_r64_rm64), register(to), register(from))
            }
            (Some(from), None) => {
                let code = code(&tables::STORE, Op::Mov_rm64_r64);
                Instruction::with2(code, self.slot(to).unwrap_or_default(), register(from))
            }
            (None, Some(to)) => {
                let code = code(&tables::LOAD, Op::Mov_r64_rm64);
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
                // A loop's end: back to its start, and on where it is over.
                if let Some(start) = self.only_jumps[*no]
                    && *no == label + 1
                    && *yes == label + 2
                {
                    self.bytes.extend([0x0f, opposite(taken)]);
                    self.distance(start);
                    self.skipped = Some(*no);
                    return Ok(());
                }
                self.bytes.extend([0x0f, taken]);
                self.distance(*yes);
                self.jump(*no, label + 1)
            }
            Inst::Return => self.leave(),
            Inst::Fence => self.put(Ok(Instruction::with(Op::Sfence))),
            Inst::Imm { .. }
            | Inst::Place { .. }
            | Inst::Word { .. }
            | Inst::Add { .. }
            | Inst::AddImm { .. }
            | Inst::Mul { .. }
            | Inst::MulImm { .. }
            | Inst::ShiftLeft { .. }
            | Inst::ShiftRight { .. }
            | Inst::Divide { .. }
            | Inst::Xor { .. }
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
            Inst::Place { at, .. } => {
                let at = r.memory(at);
                self.put(Instruction::with2(Op::Lea_r64_m, r.general(), at))
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
            Inst::Xor { .. } => {
                let (_, b, to) = (r.general(), r.general(), r.general());
                self.put(Instruction::with2(Op::Xor_r64_rm64, to, b))
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

    /// A comparison; answers the second byte of the jump that is taken where the condition holds.
    fn compare(&mut self, cond: Cond, r: &mut Operands<'_>) -> Result<u8, String> {
        const NOT_LESS: u8 = 0x8d;
        const SIGN: u8 = 0x88;
        const NOT_ZERO: u8 = 0x85;
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
            Cond::Unaligned(_) => {
                self.put(Instruction::with2(Op::Test_rm64_imm32, a, 63))?;
                Ok(NOT_ZERO)
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
