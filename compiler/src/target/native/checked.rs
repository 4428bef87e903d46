//! Index expressions with overflow noticed: for sizes, which come from a caller's dimensions.

use super::index::floor_div;
use burin_ir::Symbol;
use burin_ir::expr::{Atom, Expr, Range};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Emits expressions and gathers whether any sum or product overflowed.
pub struct Checked<'s> {
    symbols: &'s mut dyn FnMut(&mut FunctionBuilder<'_>, Symbol) -> Result<Value, String>,
    /// An `i8`, not zero once something has overflowed.
    pub overflow: Value,
}

impl<'s> Checked<'s> {
    /// Nothing emitted yet; `symbols` gives the symbols' values.
    pub fn new(
        b: &mut FunctionBuilder<'_>,
        symbols: &'s mut dyn FnMut(&mut FunctionBuilder<'_>, Symbol) -> Result<Value, String>,
    ) -> Checked<'s> {
        Checked { symbols, overflow: b.ins().iconst(types::I8, 0) }
    }

    fn note(&mut self, b: &mut FunctionBuilder<'_>, bad: Value) {
        self.overflow = b.ins().bor(self.overflow, bad);
    }

    /// `x + y`.
    pub fn add(&mut self, b: &mut FunctionBuilder<'_>, x: Value, y: Value) -> Value {
        let sum = b.ins().iadd(x, y);
        let from_x = b.ins().bxor(x, sum);
        let from_y = b.ins().bxor(y, sum);
        let both = b.ins().band(from_x, from_y);
        let bad = b.ins().icmp_imm_s(IntCC::SignedLessThan, both, 0);
        self.note(b, bad);
        sum
    }

    /// `x * y`.
    pub fn multiply(&mut self, b: &mut FunctionBuilder<'_>, x: Value, y: Value) -> Value {
        let low = b.ins().imul(x, y);
        let high = b.ins().smulhi(x, y);
        let sign = b.ins().sshr_imm_s(low, 63);
        let bad = b.ins().icmp(IntCC::NotEqual, high, sign);
        self.note(b, bad);
        low
    }

    /// The value of an expression.
    pub fn emit(&mut self, b: &mut FunctionBuilder<'_>, e: &Expr) -> Result<Value, String> {
        let mut sum = None;
        for (atoms, coefficient) in e.terms() {
            let mut product = None;
            for atom in atoms {
                let v = self.atom(b, atom)?;
                product = Some(match product {
                    None => v,
                    Some(p) => self.multiply(b, p, v),
                });
            }
            let by = b.ins().iconst(types::I64, *coefficient);
            let term = match product {
                Some(p) if *coefficient == 1 => p,
                Some(p) => self.multiply(b, p, by),
                None => by,
            };
            sum = Some(match sum {
                None => term,
                Some(s) => self.add(b, s, term),
            });
        }
        let constant = b.ins().iconst(types::I64, e.constant_term());
        Ok(match sum {
            None => constant,
            Some(s) if e.constant_term() == 0 => s,
            Some(s) => self.add(b, s, constant),
        })
    }

    fn atom(&mut self, b: &mut FunctionBuilder<'_>, atom: &Atom) -> Result<Value, String> {
        let pair = match atom {
            Atom::Sym(s) => return (self.symbols)(b, *s),
            Atom::Div(p) | Atom::Min(p) | Atom::Max(p) => p,
        };
        let x = self.emit(b, &pair.0)?;
        let y = self.emit(b, &pair.1)?;
        Ok(match atom {
            Atom::Min(_) => b.ins().smin(x, y),
            Atom::Max(_) => b.ins().smax(x, y),
            _ => floor_div(b, x, y, Range::ALL, Range::ALL, pair.1.as_const()),
        })
    }
}
