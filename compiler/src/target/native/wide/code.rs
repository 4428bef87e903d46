//! Machine code before its registers are chosen: blocks of x86-64 instructions on virtual registers.
//!
//! Every virtual register is defined once. A block ends with its only [`Inst::Jump`],
//! [`Inst::Branch`] or [`Inst::Return`]; only a jump passes arguments to its target's parameters, so
//! that no edge runs from a block with several successors to one with several predecessors.

use super::Level;
use regalloc2::{Operand, OperandConstraint, OperandKind, OperandPos, PReg, PRegSet, RegClass, VReg};

/// How much of a vector register is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// The first lane.
    Scalar,
    /// 128 bits.
    Xmm,
    /// 256 bits.
    Ymm,
    /// 512 bits.
    Zmm,
}

impl Width {
    /// The width of so many bits.
    pub fn of_bits(bits: u32) -> Option<Width> {
        match bits {
            128 => Some(Width::Xmm),
            256 => Some(Width::Ymm),
            512 => Some(Width::Zmm),
            _ => None,
        }
    }

    /// Half of it, but no less than 128 bits.
    pub fn half(self) -> Width {
        match self {
            Width::Zmm => Width::Ymm,
            _ => Width::Xmm,
        }
    }
}

/// What the lanes of a register hold; masks, which are all ones or all zeros, are integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Lane {
    F32,
    I32,
    F64,
    I64,
}

impl Lane {
    /// Bits of a lane.
    pub fn bits(self) -> u32 {
        match self {
            Lane::F32 | Lane::I32 => 32,
            Lane::F64 | Lane::I64 => 64,
        }
    }
}

/// What an element is in memory, and with it how it becomes a lane and back: of 32 bits, but for the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Element {
    /// A byte that is extended by its sign.
    I8,
    /// A byte that is extended by zeros.
    U8,
    /// Two bytes that are extended by their sign.
    I16,
    /// Two bytes that are extended by zeros.
    U16,
    /// A float of 16 bits, which becomes one of 32.
    F16,
    /// The upper half of a float.
    BF16,
    /// 32 bits as they are.
    B32,
    /// 64 bits as they are.
    B64,
}

impl Element {
    /// Its size in memory.
    pub fn bytes(self) -> i64 {
        match self {
            Element::I8 | Element::U8 => 1,
            Element::I16 | Element::U16 | Element::F16 | Element::BF16 => 2,
            Element::B32 => 4,
            Element::B64 => 8,
        }
    }
}

/// What [`Inst::DotAdd`] multiplies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DotParts {
    /// Four bytes: unsigned ones of the first, signed ones of the second.
    Bytes,
    /// Two signed halves.
    Halves,
}

/// An operation on two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // named as the instructions
pub enum VecOp {
    Add,
    Sub,
    Mul,
    Div,
    /// The greater one; the second one if either is NaN or both are zero.
    Max,
    /// The lesser one; the second one if either is NaN or both are zero.
    Min,
    MaxUnsigned,
    MinUnsigned,
    And,
    Or,
    Xor,
    /// By the second one's integers, each for its lane; 0 by the width or more.
    ShiftLeft,
    /// The same, keeping the sign: all sign bits by the width or more.
    ShiftRight,
    /// The same, with zeros.
    ShiftRightZeros,
    /// The product of the lower halves of each 64 bits.
    MulHalves,
    /// In each lane the sum of the products of its two halves, which are signed.
    MulPairs,
    /// Of each 128 bits of the first the bytes whose numbers the second's bytes are.
    OrderBytes,
    /// A mask of floats, by the instruction's predicate. Lanes of 64 bits give lanes of 32 where there
    /// are mask registers.
    Compare(u8),
    /// The same of signed integers; only with mask registers.
    CompareInt(u8),
    /// The same of unsigned integers; only with mask registers.
    CompareUnsigned(u8),
    /// A mask of integers; only without mask registers.
    Equal,
    /// The same, the first being the greater one.
    Greater,
    /// Of each 128 bits the even lanes of 32 bits: two of the first, two of the second.
    Evens,
    /// Of each 128 bits the lanes of 32 bits as 16 bits, those of the first below those of the second.
    /// They saturate.
    Pack32,
    /// The same, to unsigned integers.
    Pack32Unsigned,
    /// The same of 16 bits.
    Pack16,
    /// The same of 16 bits, to unsigned integers.
    Pack16Unsigned,
}

/// An operation on one vector, with a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnaryOp {
    /// The square root.
    Sqrt,
    /// To an integral value, by the instruction's rounding mode.
    Round(u8),
    /// Each integer's bits by so many places up.
    ShiftLeft(u8),
    /// Down, keeping the sign.
    ShiftRight(u8),
    /// Down, with zeros.
    ShiftRightZeros(u8),
    /// The same of each half of a lane of 32 bits.
    HalvesLeft(u8),
    /// Down, keeping the halves' signs.
    HalvesRight(u8),
    /// Down, with zeros.
    HalvesRightZeros(u8),
    /// The upper half of 256 or 512 bits.
    High,
    /// The lanes of 128 bits in the order that the instruction's constant says.
    Permute(u8),
    /// The 64-bit lanes of 256 bits in that order.
    Order(u8),
}

/// From one kind of lanes to another. The width that goes with it is the wider one's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conversion {
    /// The nearest float of an integer.
    FromInt(Lane),
    /// The same of an unsigned one; only with AVX-512.
    FromUnsigned(Lane),
    /// A float without its fraction; the least integer where none fits.
    ToInt(Lane),
    /// The nearest integer of a float of 32 bits, halves to even; the least integer where none fits.
    Nearest,
    /// To an unsigned integer, the greatest one where none fits; only with AVX-512.
    ToUnsigned(Lane),
    /// 32 bits of an integer to 64.
    Extend,
    /// With zeros.
    ExtendZeros,
    /// The lower half of an integer of 64 bits; only with AVX-512.
    Truncate,
    /// To a float of 64 bits.
    Promote,
    /// To a float of 32 bits.
    Demote,
    /// 32-bit integers to floats of 64 bits.
    IntToDouble,
    /// Floats of 64 bits to 32-bit integers, the least one where none fits.
    DoubleToInt,
    /// To floats of 16 bits, in half of the register.
    ToHalf,
    /// From floats of 16 bits.
    FromHalf,
    /// From 8 bits, by the sign.
    Extend8,
    /// From 8 bits, with zeros.
    Extend8Zeros,
    /// From 16 bits, by the sign.
    Extend16,
    /// From 16 bits, with zeros.
    Extend16Zeros,
}

/// A memory operand: `base + index * scale + offset`.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// A general register.
    pub base: VReg,
    /// Another one, and 1, 2, 4 or 8.
    pub index: Option<(VReg, u8)>,
    /// In bytes.
    pub offset: i32,
}

/// The number of a block.
pub type Label = usize;

/// When a branch is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cond {
    /// The first is not below the second.
    NotLess(VReg, VReg),
    /// The same with a constant.
    NotLessThan(VReg, i32),
    /// It is below zero.
    Negative(VReg),
    /// It is no multiple of 64.
    Unaligned(VReg),
}

/// An instruction, or a few that belong together.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // operands: results are called `to`
pub enum Inst {
    /// The function's four parameters.
    Enter {
        to: [VReg; 4],
    },
    Imm {
        to: VReg,
        value: i64,
    },
    /// A 64-bit word.
    Word {
        to: VReg,
        at: Address,
    },
    Add {
        to: VReg,
        a: VReg,
        b: VReg,
    },
    AddImm {
        to: VReg,
        a: VReg,
        by: i32,
    },
    Mul {
        to: VReg,
        a: VReg,
        b: VReg,
    },
    MulImm {
        to: VReg,
        a: VReg,
        by: i32,
    },
    ShiftLeft {
        to: VReg,
        a: VReg,
        by: u8,
    },
    /// Arithmetic.
    ShiftRight {
        to: VReg,
        a: VReg,
        by: u8,
    },
    /// Unsigned, by what is not zero.
    Divide {
        to: VReg,
        a: VReg,
        b: VReg,
    },
    Least {
        to: VReg,
        a: VReg,
        b: VReg,
    },
    Greatest {
        to: VReg,
        a: VReg,
        b: VReg,
    },
    /// `base ^ other`, bit by bit.
    Xor {
        to: VReg,
        a: VReg,
        b: VReg,
    },
    Load {
        to: VReg,
        element: Element,
        width: Width,
        at: Address,
    },
    /// Every other element, up to the last one that is wanted.
    LoadPairs {
        to: VReg,
        width: Width,
        at: Address,
    },
    /// Lane `l` from `base` plus element `l` of `places`, which count elements of `bits`, as many as the
    /// width has lanes of the wider of both.
    Gather {
        to: VReg,
        /// Overwritten.
        mask: VReg,
        width: Width,
        bits: u32,
        base: VReg,
        places: VReg,
        place_bits: u32,
    },
    /// These words.
    Table {
        to: VReg,
        width: Width,
        words: Vec<u32>,
    },
    /// A vector with an element of 8 or 16 bits of memory in one of its places.
    Insert {
        to: VReg,
        v: VReg,
        bytes: i64,
        place: u8,
        at: Address,
    },
    /// The address itself.
    Place {
        to: VReg,
        at: Address,
    },
    /// One element of memory in all lanes.
    Broadcast {
        to: VReg,
        element: Element,
        width: Width,
        at: Address,
    },
    Store {
        v: VReg,
        element: Element,
        width: Width,
        at: Address,
        /// Past the caches, to a multiple of the width.
        streaming: bool,
    },
    /// Makes streaming stores visible before all later ones.
    Fence,
    /// Into the second-level cache.
    Prefetch {
        at: Address,
    },
    /// The nearest float.
    FromInt {
        to: VReg,
        v: VReg,
    },
    /// A general register in the first 64 bits.
    FromGeneral {
        to: VReg,
        v: VReg,
    },
    /// The first 64 bits, or the second.
    ToGeneral {
        to: VReg,
        v: VReg,
        second: bool,
    },
    /// The same value under another name: what becomes of it does not bear on where the first lies.
    Copy {
        to: VReg,
        width: Width,
        v: VReg,
    },
    /// The first lane in all lanes.
    Splat {
        to: VReg,
        bits: u32,
        width: Width,
        v: VReg,
    },
    /// These bits in all lanes.
    Constant {
        to: VReg,
        lane_bits: u32,
        width: Width,
        bits: u64,
    },
    Vec {
        to: VReg,
        op: VecOp,
        lane: Lane,
        width: Width,
        a: VReg,
        b: VReg,
    },
    Unary {
        to: VReg,
        op: UnaryOp,
        lane: Lane,
        width: Width,
        v: VReg,
    },
    Convert {
        to: VReg,
        op: Conversion,
        width: Width,
        v: VReg,
    },
    /// Two halves of a register.
    Join {
        to: VReg,
        width: Width,
        low: VReg,
        high: VReg,
    },
    /// `yes` where the mask is set, else `no`.
    Select {
        to: VReg,
        width: Width,
        mask: VReg,
        yes: VReg,
        no: VReg,
    },
    /// `sum` and the products of the parts of each lane of 32 bits, which takes the sum's register.
    DotAdd {
        to: VReg,
        parts: DotParts,
        width: Width,
        a: VReg,
        b: VReg,
        sum: VReg,
    },
    /// `a * b + sum`, which takes the sum's register.
    MulAdd {
        to: VReg,
        lane: Lane,
        width: Width,
        a: VReg,
        b: VReg,
        sum: VReg,
    },
    Jump {
        to: Label,
        args: Vec<VReg>,
    },
    Branch {
        cond: Cond,
        yes: Label,
        no: Label,
    },
    Return,
}

/// The general registers of the System V convention's parameters: rdi, rsi, rdx, rcx.
const PARAMETERS: [usize; 4] = [7, 6, 2, 1];
/// rax and rdx, which hold a division's operands.
const RAX: usize = 0;
const RDX: usize = 2;

/// A general register, by its number in instructions.
pub fn general(number: usize) -> PReg {
    PReg::new(number, RegClass::Int)
}

impl Address {
    fn operands(&self, out: &mut Vec<Operand>) {
        out.push(Operand::reg_use(self.base));
        out.extend(self.index.map(|(r, _)| Operand::reg_use(r)));
    }
}

impl Inst {
    /// The registers that it uses and defines, in the order in which the encoder takes them.
    pub fn operands(&self) -> Vec<Operand> {
        let (used, made) = (Operand::reg_use, Operand::reg_def);
        let mut out = Vec::with_capacity(4);
        match self {
            Inst::Enter { to } => {
                out.extend(to.iter().zip(PARAMETERS).map(|(r, p)| Operand::reg_fixed_def(*r, general(p))));
            }
            Inst::Imm { to, .. } | Inst::Constant { to, .. } | Inst::Table { to, .. } => out.push(made(*to)),
            // The instruction wants three different registers.
            Inst::Gather { to, mask, base, places, .. } => {
                let apart =
                    |v: VReg| Operand::new(v, OperandConstraint::Reg, OperandKind::Def, OperandPos::Early);
                out.extend([used(*base), used(*places), apart(*mask), apart(*to)]);
            }
            Inst::Word { to, at }
            | Inst::Place { to, at }
            | Inst::Load { to, at, .. }
            | Inst::LoadPairs { to, at, .. }
            | Inst::Broadcast { to, at, .. } => {
                at.operands(&mut out);
                out.push(made(*to));
            }
            Inst::Prefetch { at } => at.operands(&mut out),
            Inst::Store { v, at, .. } => {
                at.operands(&mut out);
                out.push(used(*v));
            }
            Inst::Insert { to, v, at, .. } => {
                at.operands(&mut out);
                out.extend([used(*v), made(*to)]);
            }
            Inst::Join { to, low, high, .. } => out.extend([used(*low), used(*high), made(*to)]),
            Inst::Add { to, a, b } | Inst::Vec { to, a, b, .. } => {
                out.extend([used(*a), used(*b), made(*to)]);
            }
            Inst::AddImm { to, a, .. } | Inst::MulImm { to, a, .. } => out.extend([used(*a), made(*to)]),
            Inst::Copy { to, v, .. }
            | Inst::Splat { to, v, .. }
            | Inst::FromInt { to, v }
            | Inst::FromGeneral { to, v }
            | Inst::ToGeneral { to, v, .. }
            | Inst::Convert { to, v, .. }
            | Inst::Unary { to, v, .. } => out.extend([used(*v), made(*to)]),
            Inst::ShiftLeft { to, a, .. } | Inst::ShiftRight { to, a, .. } => {
                out.extend([used(*a), Operand::reg_reuse_def(*to, 0)]);
            }
            Inst::Xor { to, a, b }
            | Inst::Mul { to, a, b }
            | Inst::Least { to, a, b }
            | Inst::Greatest { to, a, b } => {
                out.extend([used(*a), used(*b), Operand::reg_reuse_def(*to, 0)]);
            }
            Inst::Divide { to, a, b } => out.extend([
                Operand::reg_fixed_use(*a, general(RAX)),
                Operand::reg_use_at_end(*b),
                Operand::reg_fixed_def(*to, general(RAX)),
            ]),
            Inst::Select { to, mask, yes, no, .. } => {
                out.extend([used(*mask), used(*yes), used(*no), made(*to)]);
            }
            Inst::DotAdd { to, a, b, sum, .. } | Inst::MulAdd { to, a, b, sum, .. } => {
                out.extend([used(*sum), used(*a), used(*b), Operand::reg_reuse_def(*to, 0)]);
            }
            Inst::Branch { cond, .. } => match cond {
                Cond::NotLess(a, b) => out.extend([used(*a), used(*b)]),
                Cond::NotLessThan(a, _) | Cond::Negative(a) | Cond::Unaligned(a) => out.push(used(*a)),
            },
            Inst::Jump { .. } | Inst::Return | Inst::Fence => {}
        }
        out
    }

    /// The registers that it uses, those that a jump passes on among them.
    fn used(&self) -> impl Iterator<Item = VReg> {
        let operands = self.operands().into_iter().filter(|o| o.kind() == OperandKind::Use);
        let args = if let Inst::Jump { args, .. } = self { args.clone() } else { Vec::new() };
        operands.map(|o| o.vreg()).chain(args)
    }

    /// What it makes, if it does nothing else.
    fn made(&self) -> Option<VReg> {
        match self {
            Inst::Load { to, .. }
            | Inst::Constant { to, .. }
            | Inst::FromGeneral { to, .. }
            | Inst::Convert { to, .. }
            | Inst::Join { to, .. }
            | Inst::Insert { to, .. }
            | Inst::Table { to, .. }
            | Inst::Vec { to, .. }
            | Inst::Unary { to, .. }
            | Inst::Select { to, .. }
            | Inst::Splat { to, .. }
            | Inst::Broadcast { to, .. }
            | Inst::Copy { to, .. }
            | Inst::DotAdd { to, .. }
            | Inst::MulAdd { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// Registers that it overwrites besides.
    pub fn clobbers(&self) -> PRegSet {
        match self {
            Inst::Divide { .. } => PRegSet::empty().with(general(RDX)),
            _ => PRegSet::empty(),
        }
    }
}

/// A block.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// What jumps to it pass.
    pub params: Vec<VReg>,
    /// The last one is its end.
    pub insts: Vec<Inst>,
}

/// A function; it starts with the first block, and is laid out in the order of the blocks.
#[derive(Clone, Debug)]
pub struct Code {
    /// The instructions that it may use.
    pub level: Level,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// How many virtual registers there are.
    pub registers: usize,
}

impl Code {
    /// No blocks yet.
    pub fn new(level: Level) -> Code {
        Code { level, blocks: Vec::new(), registers: 0 }
    }

    /// A new general register.
    pub fn int(&mut self) -> VReg {
        self.register(RegClass::Int)
    }

    /// A new vector register.
    pub fn vector(&mut self) -> VReg {
        self.register(RegClass::Float)
    }

    fn register(&mut self, class: RegClass) -> VReg {
        self.registers += 1;
        VReg::new(self.registers - 1, class)
    }

    /// A new block, after all others.
    pub fn block(&mut self) -> Label {
        self.blocks.push(Block::default());
        self.blocks.len() - 1
    }

    /// Removes instructions that do nothing but make what nothing uses.
    pub fn drop_unused(&mut self) {
        let mut uses = vec![0usize; self.registers];
        for inst in self.blocks.iter().flat_map(|b| &b.insts) {
            inst.used().for_each(|r| uses[r.vreg()] += 1);
        }
        for block in self.blocks.iter_mut().rev() {
            let mut kept = Vec::with_capacity(block.insts.len());
            for inst in block.insts.drain(..).rev() {
                match inst.made() {
                    Some(to) if uses[to.vreg()] == 0 => inst.used().for_each(|r| uses[r.vreg()] -= 1),
                    _ => kept.push(inst),
                }
            }
            kept.reverse();
            block.insts = kept;
        }
    }
}
