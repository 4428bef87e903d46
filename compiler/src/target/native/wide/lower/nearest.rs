//! Floats that are rounded and moved by an integer to become unsigned integers, as quantisation does it.
//!
//! `cast(round(x) + c)` saturates. Clamping `x` to the bounds less `c` beforehand comes to the same, since
//! these are integers, and then one conversion rounds; `c` is added to the integer, from which a later
//! subtraction takes it away again. NaN becomes the least of the bounds, and 0 with it, as defined.

use super::Lower;
use super::convert::bounds;
use super::values::{Parts, Shape};
use crate::target::native::wide::code::{Conversion, Lane, VecOp};
use burin_ir::loops::Val;
use burin_ir::{DType, ScalarOp};
use cranelift_entity::SecondaryMap;

/// Integers of more than this are not exact beside a fraction.
const MOST: f64 = 65536.0;

#[derive(Default)]
pub(super) struct Nearest {
    /// Values of `f32` that are `round(x) + c`: `x` and `c`.
    rounded: SecondaryMap<Val, Option<(Parts, f64)>>,
    /// Integers that are `i + c`: `i` and `c`.
    moved: SecondaryMap<Val, Option<(Parts, f64)>>,
}

impl Lower<'_> {
    /// Takes note of an operation whose result may be converted later.
    pub(super) fn note_rounded(&mut self, val: Val, op: ScalarOp, args: &[Val], v: &[Parts]) {
        let ty = self.kernel.values[args[0]].dtype;
        self.nearest.rounded[val] = match op {
            ScalarOp::Round if ty == DType::F32 => Some((v[0].clone(), 0.0)),
            ScalarOp::Add if ty == DType::F32 => self.sum_with_integer(args),
            _ => None,
        };
    }

    fn sum_with_integer(&self, args: &[Val]) -> Option<(Parts, f64)> {
        let constant = |v: Val| self.constants[v].map(|bits| f64::from(f32::from_bits(bits as u32)));
        [[0, 1], [1, 0]].into_iter().find_map(|[a, b]| {
            let c = constant(args[b]).filter(|c| c.fract() == 0.0 && c.abs() <= MOST)?;
            let (x, before) = self.nearest.rounded[args[a]].clone()?;
            (before == 0.0).then_some((x, c))
        })
    }

    /// The conversion of such a value.
    pub(super) fn nearest(&mut self, val: Val, from: Val, to: DType, shape: Shape) -> Option<Parts> {
        if !matches!(to, DType::U8 | DType::U16) {
            if to == DType::I32 {
                self.nearest.moved[val] = self.nearest.moved[from].clone();
            }
            return None;
        }
        let (x, c) = self.nearest.rounded[from].clone()?;
        let clamped = self.clamped(Lane::F32, shape, &x, bounds(to).map(|b| b - c));
        let integer = self.convert(Conversion::Nearest, shape, &clamped);
        self.nearest.moved[val] = Some((integer.clone(), c));
        if c == 0.0 {
            return Some(integer);
        }
        let bits = u64::from(c as i32 as u32);
        Some(self.with_constant(VecOp::Add, Lane::I32, shape, &integer, bits))
    }

    /// The difference of such an integer and the constant that has been added to it.
    pub(super) fn moved_back(&self, args: &[Val]) -> Option<Parts> {
        let (integer, c) = self.nearest.moved[args[0]].clone()?;
        (self.constants[args[1]] == Some(u64::from(c as i32 as u32))).then_some(integer)
    }
}
