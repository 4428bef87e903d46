//! Which codes of the assembler an operation has.

use super::tables::*;
use crate::target::native::wide::code::{Conversion, Element, Lane, UnaryOp, VecOp, Width};
use iced_x86::Code as Op;

/// The codes of one operation: VEX for a scalar, 128 and 256 bits; EVEX for these and 512. Registers
/// above 15 and 512 bits need EVEX.
pub(super) struct Codes {
    pub(super) vex: [Op; 3],
    pub(super) evex: [Op; 4],
}

impl Codes {
    pub(super) fn of(&self, width: Width, evex: bool) -> Op {
        let at = match width {
            Width::Scalar => 0,
            Width::Xmm => 1,
            Width::Ymm => 2,
            Width::Zmm => 3,
        };
        if evex || at == 3 { self.evex[at] } else { self.vex[at] }
    }
}

macro_rules! codes {
    ($name:ident: [$($vex:ident),*] [$($evex:ident),*]) => {
        pub(super) const $name: Codes = Codes { vex: [$($vex),*], evex: [$($evex),*] };
    };
}
pub(super) use codes;

/// The codes of an operation on two vectors.
pub(super) fn binary(op: VecOp, lane: Lane) -> &'static Codes {
    let (float, wide) = (matches!(lane, Lane::F32 | Lane::F64), lane.bits() == 64);
    let of = |all: [&'static Codes; 4]| all[usize::from(!float) * 2 + usize::from(wide)];
    let int = |narrow: &'static Codes, double: &'static Codes| if wide { double } else { narrow };
    match op {
        VecOp::Add => of([&ADD, &ADD_64, &ADD_INT, &ADD_INT_64]),
        VecOp::Sub => of([&SUB, &SUB_64, &SUB_INT, &SUB_INT_64]),
        VecOp::Mul => of([&MUL, &MUL_64, &MUL_INT, &MUL_INT_64]),
        VecOp::Div => int(&DIV, &DIV_64),
        VecOp::Max => of([&MAX, &MAX_64, &MAX_INT, &MAX_INT_64]),
        VecOp::Min => of([&MIN, &MIN_64, &MIN_INT, &MIN_INT_64]),
        VecOp::MaxUnsigned => int(&MAX_UNSIGNED, &MAX_UNSIGNED_64),
        VecOp::MinUnsigned => int(&MIN_UNSIGNED, &MIN_UNSIGNED_64),
        VecOp::And => &AND,
        VecOp::Or => &OR,
        VecOp::Xor => &XOR,
        VecOp::ShiftLeft => int(&SHIFT_LEFT_BY, &SHIFT_LEFT_BY_64),
        VecOp::ShiftRight => int(&SHIFT_RIGHT_BY, &SHIFT_RIGHT_BY_64),
        VecOp::ShiftRightZeros => int(&SHIFT_RIGHT_ZEROS_BY, &SHIFT_RIGHT_ZEROS_BY_64),
        VecOp::MulHalves => &MUL_HALVES,
        VecOp::MulPairs => &MUL_PAIRS,
        VecOp::OrderBytes => &ORDER_BYTES,
        VecOp::Compare(_) => int(&COMPARE, &COMPARE_64),
        VecOp::CompareInt(_) => int(&COMPARE_INT, &COMPARE_INT_64),
        VecOp::CompareUnsigned(_) => int(&COMPARE_UNSIGNED, &COMPARE_UNSIGNED_64),
        VecOp::Equal => int(&EQUAL, &EQUAL_64),
        VecOp::Greater => int(&GREATER, &GREATER_64),
        VecOp::Evens => &SHUFFLE,
        VecOp::Pack32 => &PACK_32,
        VecOp::Pack32Unsigned => &PACK_32_UNSIGNED,
        VecOp::Pack16 => &PACK_16,
        VecOp::Pack16Unsigned => &PACK_16_UNSIGNED,
    }
}

/// The codes of an operation on one vector, and its constant.
pub(super) fn unary(op: UnaryOp, lane: Lane) -> (&'static Codes, Option<u8>) {
    let of = |narrow: &'static Codes, wide: &'static Codes| if lane.bits() == 64 { wide } else { narrow };
    match op {
        UnaryOp::Sqrt => (of(&SQRT, &SQRT_64), None),
        UnaryOp::Round(mode) => (of(&ROUND, &ROUND_64), Some(mode)),
        UnaryOp::ShiftLeft(by) => (of(&SHIFT_LEFT, &SHIFT_LEFT_64), Some(by)),
        UnaryOp::ShiftRight(by) => (of(&SHIFT_RIGHT, &SHIFT_RIGHT_64), Some(by)),
        UnaryOp::ShiftRightZeros(by) => (of(&SHIFT_RIGHT_ZEROS, &SHIFT_RIGHT_ZEROS_64), Some(by)),
        UnaryOp::HalvesLeft(by) => (&HALVES_LEFT, Some(by)),
        UnaryOp::HalvesRight(by) => (&HALVES_RIGHT, Some(by)),
        UnaryOp::HalvesRightZeros(by) => (&HALVES_RIGHT_ZEROS, Some(by)),
        UnaryOp::High => (&HIGH, Some(1)),
        UnaryOp::Permute(order) => (&PERMUTE, Some(order)),
        UnaryOp::Order(order) => (&ORDER, Some(order)),
    }
}

/// How wide a conversion's sides are.
pub(super) enum Sides {
    Same,
    /// The source has half of the width.
    Widens,
    /// The source has a quarter of the width.
    WidensTwice,
    /// The result has half of the width.
    Narrows,
}

/// The codes of a conversion.
pub(super) fn conversion(op: Conversion) -> (&'static Codes, Sides) {
    use Conversion::*;
    let of = |lane: Lane, narrow, wide| if lane.bits() == 64 { wide } else { narrow };
    match op {
        FromInt(lane) => (of(lane, &INT_TO_FLOAT, &INT_TO_FLOAT_64), Sides::Same),
        FromUnsigned(lane) => (of(lane, &UNSIGNED_TO_FLOAT, &UNSIGNED_TO_FLOAT_64), Sides::Same),
        ToInt(lane) => (of(lane, &FLOAT_TO_INT, &FLOAT_TO_INT_64), Sides::Same),
        Nearest => (&NEAREST_INT, Sides::Same),
        ToUnsigned(lane) => (of(lane, &FLOAT_TO_UNSIGNED, &FLOAT_TO_UNSIGNED_64), Sides::Same),
        Extend => (&EXTEND_32, Sides::Widens),
        ExtendZeros => (&EXTEND_32_ZEROS, Sides::Widens),
        Truncate => (&TRUNCATE_64, Sides::Narrows),
        Promote => (&PROMOTE, Sides::Widens),
        Demote => (&DEMOTE, Sides::Narrows),
        IntToDouble => (&INT_TO_DOUBLE, Sides::Widens),
        DoubleToInt => (&DOUBLE_TO_INT, Sides::Narrows),
        ToHalf => (&TO_HALF, Sides::Narrows),
        FromHalf => (&FROM_HALF, Sides::Widens),
        Extend8 => (&EXTEND_8, Sides::WidensTwice),
        Extend8Zeros => (&EXTEND_8_ZEROS, Sides::WidensTwice),
        Extend16 => (&EXTEND_16, Sides::Widens),
        Extend16Zeros => (&EXTEND_16_ZEROS, Sides::Widens),
    }
}

/// The codes that load elements and make lanes of them.
pub(super) fn load(element: Element) -> &'static Codes {
    match element {
        Element::I8 => &EXTEND_8,
        Element::U8 => &EXTEND_8_ZEROS,
        Element::I16 => &EXTEND_16,
        Element::U16 | Element::BF16 => &EXTEND_16_ZEROS,
        Element::F16 => &FROM_HALF,
        Element::B32 => &LOAD,
        Element::B64 => &LOAD_64,
    }
}

/// The codes that write one element of memory to all lanes, of its own size.
pub(super) fn broadcast(element: Element) -> &'static Codes {
    match element {
        Element::I8 | Element::U8 => &BROADCAST_8,
        Element::I16 | Element::U16 | Element::F16 | Element::BF16 => &BROADCAST_16,
        Element::B32 => &BROADCAST,
        Element::B64 => &BROADCAST_64,
    }
}

/// The codes of gathers of elements of `bits` at places of `place_bits`.
pub(super) fn gather(bits: u32, place_bits: u32) -> &'static Codes {
    match (bits, place_bits) {
        (32, 32) => &GATHER,
        (64, 32) => &GATHER_64,
        (32, _) => &GATHER_BY_64,
        _ => &GATHER_64_BY_64,
    }
}
