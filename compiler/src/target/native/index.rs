//! Index expressions as 64-bit integer code.
//!
//! Sums are built from the outermost loop's terms inwards, and products likewise, so that every
//! partial result that does not change in a loop is a value of its own: Cranelift shares equal
//! ones and lifts them out of the loops. Arithmetic wraps; sizes have been checked before.

use burin_ir::Symbol;
use burin_ir::expr::{Atom, Expr, Range};
use burin_ir::loops::Buf;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use std::collections::HashMap;

/// What a symbol is at this point of the code.
#[derive(Clone, Copy)]
struct Binding {
    value: Value,
    /// How many loops it is inside of.
    depth: usize,
    range: Range,
}

/// The symbols that are visible, and the expressions that have been computed and are still valid.
#[derive(Default)]
pub struct Scope {
    symbols: HashMap<Symbol, Binding>,
    /// Values of expressions (no buffer), and addresses of elements of a buffer.
    known: HashMap<Option<Buf>, HashMap<Expr, Value>>,
    /// The keys of `known`, in the order of their insertion.
    order: Vec<(Option<Buf>, Expr)>,
}

impl Scope {
    /// Gives a symbol its value.
    pub fn bind(&mut self, symbol: Symbol, value: Value, depth: usize, range: Range) {
        self.symbols.insert(symbol, Binding { value, depth, range });
    }

    /// A mark to [`Scope::leave`] to.
    pub fn enter(&self) -> usize {
        self.order.len()
    }

    /// Forgets everything computed since the mark: its code does not dominate what follows.
    pub fn leave(&mut self, mark: usize) {
        for (of, e) in self.order.drain(mark..) {
            self.known.get_mut(&of).and_then(|m| m.remove(&e));
        }
    }

    /// The range of an expression's values.
    pub fn range(&self, e: &Expr) -> Range {
        e.bounds(&|s| self.symbols.get(&s).map_or(Range::ALL, |b| b.range))
    }

    /// How many loops the expression's innermost symbol is inside of.
    pub fn depth_of(&self, e: &Expr) -> usize {
        e.terms().iter().flat_map(|(atoms, _)| atoms).map(|a| self.depth(a)).max().unwrap_or(0)
    }

    fn depth(&self, atom: &Atom) -> usize {
        let of = |e: &Expr| e.terms().iter().flat_map(|(a, _)| a).map(|a| self.depth(a)).max().unwrap_or(0);
        match atom {
            Atom::Sym(s) => self.symbols.get(s).map_or(0, |b| b.depth),
            Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => of(&d.0).max(of(&d.1)),
        }
    }

    /// Code for an expression; an error names a symbol that is not bound.
    pub fn emit(&mut self, b: &mut FunctionBuilder<'_>, e: &Expr) -> Result<Value, String> {
        if let Some(k) = e.as_const() {
            return Ok(b.ins().iconst(types::I64, k));
        }
        if let Some(v) = self.recall(None, e) {
            return Ok(v);
        }
        let mut sum = None;
        for (atoms, coefficient) in self.inwards(e) {
            let term = self.product(b, &atoms, coefficient)?;
            sum = Some(match sum {
                None => term,
                Some(s) => b.ins().iadd(s, term),
            });
        }
        let constant = e.constant_term();
        let value = match sum {
            None => b.ins().iconst(types::I64, constant),
            Some(s) if constant == 0 => s,
            Some(s) => b.ins().iadd_imm_s(s, constant),
        };
        self.remember(None, e, value);
        Ok(value)
    }

    /// Code for the address `start + index * bytes` of an element of a buffer, added term by term
    /// from the outermost inwards: a value, and an offset that is left to the access. Neighbours
    /// that differ by a constant share the value.
    pub fn address(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        buffer: (Buf, Value),
        index: &Expr,
        bytes: i64,
    ) -> Result<(Value, i32), String> {
        let constant = index.constant_term();
        let offset = constant.checked_mul(bytes).and_then(|k| i32::try_from(k).ok());
        let (varying, offset) = match offset {
            Some(k) if k < i32::MAX - 4096 => (index - &Expr::constant(constant), k),
            _ => (index.clone(), 0),
        };
        if let Some(v) = self.recall(Some(buffer.0), &varying) {
            return Ok((v, offset));
        }
        let scaled = &varying * bytes;
        let mut sum = buffer.1;
        for (atoms, coefficient) in self.inwards(&scaled) {
            let term = self.product(b, &atoms, coefficient)?;
            sum = b.ins().iadd(sum, term);
        }
        if scaled.constant_term() != 0 {
            sum = b.ins().iadd_imm_s(sum, scaled.constant_term());
        }
        self.remember(Some(buffer.0), &varying, sum);
        Ok((sum, offset))
    }

    fn recall(&self, of: Option<Buf>, e: &Expr) -> Option<Value> {
        self.known.get(&of)?.get(e).copied()
    }

    fn remember(&mut self, of: Option<Buf>, e: &Expr, value: Value) {
        if self.known.entry(of).or_default().insert(e.clone(), value).is_none() {
            self.order.push((of, e.clone()));
        }
    }

    /// The terms, those of outer loops first.
    fn inwards(&self, e: &Expr) -> Vec<(Vec<Atom>, i64)> {
        let mut terms = e.terms().to_vec();
        terms.sort_by_key(|(atoms, _)| atoms.iter().map(|a| self.depth(a)).max());
        terms
    }

    fn product(&mut self, b: &mut FunctionBuilder<'_>, atoms: &[Atom], by: i64) -> Result<Value, String> {
        let mut atoms = atoms.to_vec();
        atoms.sort_by_key(|a| self.depth(a));
        let mut product = None;
        for atom in &atoms {
            let value = self.atom(b, atom)?;
            product = Some(match product {
                None => times(b, value, by),
                Some(p) => b.ins().imul(p, value),
            });
        }
        Ok(product.unwrap_or_else(|| b.ins().iconst(types::I64, by)))
    }

    fn atom(&mut self, b: &mut FunctionBuilder<'_>, atom: &Atom) -> Result<Value, String> {
        if let Atom::Sym(s) = atom {
            let bound = self.symbols.get(s).map(|b| b.value);
            return bound.ok_or_else(|| format!("the symbol {s} is not defined"));
        }
        let pair = match atom {
            Atom::Div(p) | Atom::Min(p) | Atom::Max(p) => p,
            Atom::Sym(_) => return Err("a symbol".to_owned()),
        };
        let x = self.emit(b, &pair.0)?;
        let y = self.emit(b, &pair.1)?;
        Ok(match atom {
            Atom::Min(_) => b.ins().smin(x, y),
            Atom::Max(_) => b.ins().smax(x, y),
            _ => {
                let (n, d) = (self.range(&pair.0), self.range(&pair.1));
                floor_div(b, x, y, n, d, pair.1.as_const())
            }
        })
    }
}

/// `value * by`, as a shift where it can be one: address modes take those.
fn times(b: &mut FunctionBuilder<'_>, value: Value, by: i64) -> Value {
    match by {
        1 => value,
        -1 => b.ins().ineg(value),
        k if k > 0 && k.count_ones() == 1 => b.ins().ishl_imm_s(value, k.trailing_zeros() as i64),
        k => b.ins().imul_imm_s(value, k),
    }
}

/// Division rounded towards minus infinity, zero where the divisor is: never traps.
pub fn floor_div(
    b: &mut FunctionBuilder<'_>,
    x: Value,
    y: Value,
    x_range: Range,
    y_range: Range,
    constant: Option<i64>,
) -> Value {
    let natural = |r: Range| r.lo.is_some_and(|lo| lo >= 0);
    if let Some(d) = constant
        && d > 0
    {
        if d.count_ones() == 1 {
            return b.ins().sshr_imm_s(x, d.trailing_zeros() as i64);
        }
        if natural(x_range) {
            return b.ins().udiv(x, y);
        }
        return floored(b, x, y);
    }
    let one = b.ins().iconst(types::I64, 1);
    let zero = b.ins().iconst(types::I64, 0);
    let by_zero = b.ins().icmp_imm_s(IntCC::Equal, y, 0);
    if natural(x_range) && natural(y_range) {
        let safe = b.ins().select(by_zero, one, y);
        let q = b.ins().udiv(x, safe);
        return b.ins().select(by_zero, zero, q);
    }
    // -1 is kept from the instruction too: the least integer has no negative.
    let by_minus = b.ins().icmp_imm_s(IntCC::Equal, y, -1);
    let special = b.ins().bor(by_zero, by_minus);
    let safe = b.ins().select(special, one, y);
    let q = floored(b, x, safe);
    let negative = b.ins().ineg(x);
    let q = b.ins().select(by_minus, negative, q);
    b.ins().select(by_zero, zero, q)
}

/// Floor division by what is neither 0 nor -1.
fn floored(b: &mut FunctionBuilder<'_>, x: Value, y: Value) -> Value {
    let q = b.ins().sdiv(x, y);
    let whole = b.ins().imul(q, y);
    let r = b.ins().isub(x, whole);
    // One less where the remainder is not zero and has not the divisor's sign.
    let signs = b.ins().bxor(r, y);
    let differ = b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
    let some = b.ins().icmp_imm_s(IntCC::NotEqual, r, 0);
    let less = b.ins().band(differ, some);
    let less = b.ins().uextend(types::I64, less);
    b.ins().isub(q, less)
}
