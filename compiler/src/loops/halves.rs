//! Conversions of 16-bit floats as arithmetic on bits, for code without instructions for them.
//!
//! The pass takes kernels that [`legalise`](super::legalise) has left: after it no value and no buffer
//! has a 16-bit float type, but `u16` in its place. Conversions are those of [`convert`](super::convert).

use super::convert::{pack, round, unpack};
use super::formula::Scope;
use super::interleave;
use super::legalise::is_half;
use super::rewrite::rewrite;
use burin_ir::loops::{Block, Builder, Kernel, Op, Stmt, Val, ValType};
use burin_ir::{DType, ScalarOp};
use cranelift_entity::PrimaryMap;
use std::collections::{HashMap, HashSet};

/// Whether a kernel holds 16-bit floats, and nothing is done with them but conversions.
pub fn has_only_conversions(kernel: &Kernel) -> bool {
    let mut types = kernel.buffers.values().map(|b| b.dtype).chain(kernel.values.values().map(|v| v.dtype));
    types.any(is_half) && converts_only(&kernel.body, kernel)
}

fn converts_only(block: &Block, kernel: &Kernel) -> bool {
    block.iter().all(|stmt| match stmt {
        Stmt::Let(_, Op::Scalar(ScalarOp::Cast(_) | ScalarOp::Bitcast(_), _)) => true,
        Stmt::Let(_, Op::Scalar(_, args)) => !args.iter().any(|a| is_half(kernel.values[*a].dtype)),
        Stmt::For(l) => converts_only(&l.body, kernel),
        Stmt::If { then, otherwise, .. } => converts_only(then, kernel) && converts_only(otherwise, kernel),
        _ => true,
    })
}

/// Rewrites a kernel, if it is one that [`legalise`](super::legalise) has left.
pub fn run(kernel: &mut Kernel) {
    if !has_only_conversions(kernel) {
        return;
    }
    let mut as_bits = HashSet::new();
    note_bits(&kernel.body, &mut as_bits);
    let types = kernel.values.clone();
    for ty in kernel.values.values_mut().filter(|ty| is_half(ty.dtype)) {
        ty.dtype = DType::U16;
    }
    for buffer in kernel.buffers.values_mut().filter(|b| is_half(b.dtype)) {
        buffer.dtype = DType::U16;
    }
    let mut pass = Pass { types, as_bits, rounded: HashMap::new(), made: HashMap::new() };
    rewrite(kernel, &mut |builder, stmt| pass.stmt(builder, stmt));
    interleave::run(kernel);
}

/// Values that anything but a cast takes.
fn note_bits(block: &Block, out: &mut HashSet<Val>) {
    for stmt in block {
        match stmt {
            Stmt::Let(_, Op::Scalar(ScalarOp::Cast(_), _)) => {}
            Stmt::Let(_, op) => out.extend(interleave::operands(op)),
            Stmt::Store { value, .. } => {
                out.insert(*value);
            }
            Stmt::For(l) => {
                out.extend(l.carries.iter().flat_map(|c| [c.init, c.next]));
                note_bits(&l.body, out);
            }
            Stmt::If { then, otherwise, yields, .. } => {
                out.extend(yields.iter().flat_map(|y| [y.then, y.otherwise]));
                note_bits(then, out);
                note_bits(otherwise, out);
            }
            Stmt::Bind(..) | Stmt::Prefetch { .. } => {}
        }
    }
}

struct Pass {
    /// The values' types before the pass.
    types: PrimaryMap<Val, ValType>,
    /// Values whose bits are wanted.
    as_bits: HashSet<Val>,
    /// The `f32` that a cast to 16 bits was rounded to.
    rounded: HashMap<Val, Val>,
    /// The 16-bit float types of values that stand in the place of others.
    made: HashMap<Val, DType>,
}

impl Pass {
    fn stmt(&mut self, builder: &mut Builder<'_>, stmt: Stmt) -> Option<Val> {
        let Stmt::Let(value, Op::Scalar(op, args)) = &stmt else {
            builder.push(stmt);
            return None;
        };
        let (x, to) = (args[0], self.types[*value].dtype);
        let from = self.made.get(&x).copied().or_else(|| self.types.get(x).map(|t| t.dtype));
        let from = from.filter(|t| is_half(*t));
        let scope = Scope::new(builder);
        let made = match (op, from) {
            (ScalarOp::Cast(_), Some(from)) => match self.rounded.get(&x) {
                Some(known) => scope.value(*known).val(),
                None => unpack(scope.value(x), from).val(),
            },
            (ScalarOp::Cast(_), None) if is_half(to) => {
                let rounded = round(scope.value(x), to);
                if self.as_bits.contains(value) {
                    pack(rounded, to).val()
                } else {
                    self.rounded.insert(*value, rounded.val());
                    return None;
                }
            }
            // Under names of their own: the integer stays one, and the float.
            (ScalarOp::Bitcast(_), _) if is_half(to) => (scope.value(x).bitcast(DType::U16) | 0_i64).val(),
            (ScalarOp::Bitcast(_), Some(_)) => (scope.value(x).bitcast(DType::U16) | 0_i64).bitcast(to).val(),
            _ => {
                builder.push(stmt);
                return None;
            }
        };
        if is_half(to) {
            self.made.insert(made, to);
        }
        Some(made)
    }
}
