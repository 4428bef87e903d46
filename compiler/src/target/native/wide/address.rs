//! Indices as general registers, each computed in the outermost loop in which it is known.
//!
//! Sums are built from the outermost loop's terms inwards, so that what an inner loop adds to is
//! already there; a memory operand takes the innermost term and the constant.

use super::code::{Address, Code, Inst, Label};
use super::lower::Declined;
use burin_ir::Symbol;
use burin_ir::expr::{Atom, Expr, Range};
use burin_ir::loops::{Access, Buf, Kernel};
use regalloc2::VReg;
use std::collections::HashMap;

/// The terms of a sum: products of atoms, and their coefficients.
type Terms = Vec<(Vec<Atom>, i64)>;

/// What a symbol is.
#[derive(Clone, Copy)]
struct Binding {
    register: VReg,
    /// How many loops it is inside of.
    depth: usize,
    range: Range,
}

/// What has been computed: a sum, or the address of a buffer plus so many bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(Option<Buf>, Terms);

/// The code so far, with the symbols and index values that are known where it stands.
pub struct Indices {
    /// The code.
    pub code: Code,
    /// The block that is being written.
    pub here: Label,
    /// For each open loop, the block before it.
    before: Vec<Label>,
    symbols: HashMap<Symbol, Binding>,
    known: HashMap<Key, VReg>,
    /// The keys of `known`, with the depth at which each was computed, in order.
    order: Vec<(Key, usize)>,
    /// The first byte of each buffer.
    starts: Vec<VReg>,
}

impl Indices {
    /// No symbols yet.
    pub fn new(code: Code, here: Label) -> Indices {
        Indices {
            code,
            here,
            before: Vec::new(),
            symbols: HashMap::new(),
            known: HashMap::new(),
            order: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// The first byte of a buffer.
    pub fn start(&self, buffer: Buf) -> VReg {
        use cranelift_entity::EntityRef;
        self.starts[buffer.index()]
    }

    /// Adds to the block that is being written.
    pub fn push(&mut self, inst: Inst) {
        self.code.blocks[self.here].insts.push(inst);
    }

    /// Adds where so many loops are open.
    fn push_at(&mut self, depth: usize, inst: Inst) {
        let block = self.before.get(depth).copied().unwrap_or(self.here);
        self.code.blocks[block].insts.push(inst);
    }

    /// Loads the frame's words: buffers, dimensions, and the bytes between workers' scratch.
    pub fn open_frame(&mut self, kernel: &Kernel, frame: VReg, worker: Option<VReg>) {
        let word = |x: &mut Indices, i: usize| {
            let to = x.code.int();
            x.push(Inst::Word { to, at: Address { base: frame, index: None, offset: i as i32 * 8 } });
            to
        };
        let offset = worker.map(|worker| {
            let stride = word(self, kernel.buffers.len() + kernel.dims.len());
            let to = self.code.int();
            self.push(Inst::Mul { to, a: worker, b: stride });
            to
        });
        for (i, decl) in kernel.buffers.values().enumerate() {
            let start = word(self, i);
            let start = match offset.filter(|_| decl.access == Access::Scratch) {
                Some(offset) => self.sum(self.before.len(), start, offset),
                None => start,
            };
            self.starts.push(start);
        }
        for (i, dim) in kernel.dims.iter().enumerate() {
            let register = word(self, kernel.buffers.len() + i);
            self.bind(*dim, register, dim.range());
        }
    }

    /// Gives a symbol its value, known from here on.
    pub fn bind(&mut self, symbol: Symbol, register: VReg, range: Range) {
        let depth = self.before.len();
        self.symbols.insert(symbol, Binding { register, depth, range });
    }

    /// The range of a variable that counts up to an extent.
    pub fn range_below(&self, extent: &Expr) -> Range {
        Range { lo: Some(0), hi: self.range(extent).hi.map(|hi| hi.saturating_sub(1).max(0)) }
    }

    /// What is known of an index.
    pub fn range(&self, e: &Expr) -> Range {
        e.bounds(&|s| self.symbols.get(&s).map_or(Range::ALL, |b| b.range))
    }

    /// Opens the block before a loop, in which the loop's constants are computed.
    pub fn open_loop(&mut self) -> Label {
        let before = self.code.block();
        self.push(Inst::Jump { to: before, args: Vec::new() });
        self.before.push(before);
        before
    }

    /// Ends the block before a loop, whose body is complete.
    pub fn close_loop(&mut self, before: Label, enter: Inst) {
        self.before.pop();
        self.code.blocks[before].insts.push(enter);
        self.forget(0, self.before.len() + 1);
    }

    /// A mark to [`Indices::leave`] to.
    pub fn enter(&self) -> usize {
        self.order.len()
    }

    /// Forgets what was computed since the mark inside a conditional.
    pub fn leave(&mut self, mark: usize) {
        self.forget(mark, self.before.len());
    }

    /// Forgets what was computed since the mark where so many loops were open, or more.
    fn forget(&mut self, mark: usize, depth: usize) {
        let known = &mut self.known;
        let mut at = 0;
        self.order.retain(|(key, d)| {
            at += 1;
            let stays = at <= mark || *d < depth;
            if !stays {
                known.remove(key);
            }
            stays
        });
    }

    /// The value of an index.
    pub fn int(&mut self, e: &Expr) -> Result<VReg, Declined> {
        let constant = e.constant_term();
        if e.terms().is_empty() {
            let to = self.code.int();
            self.push(Inst::Imm { to, value: constant });
            return Ok(to);
        }
        let (sum, depth) = self.known_sum(None, self.inwards(e.terms()))?;
        self.plus(depth, sum, constant)
    }

    /// A memory operand for an element of a buffer.
    pub fn address(&mut self, buffer: Buf, index: &Expr, bytes: i64) -> Result<Address, Declined> {
        use cranelift_entity::EntityRef;
        let start = self.starts[buffer.index()];
        let offset = index.constant_term().checked_mul(bytes).and_then(|k| i32::try_from(k).ok());
        let offset = offset.ok_or("an offset of 2 GiB or more")?;
        let scaled = |(a, c): (_, i64)| Some((a, c.checked_mul(bytes)?));
        let terms: Option<Terms> = self.inwards(index.terms()).into_iter().map(scaled).collect();
        let terms = terms.ok_or("a step that overflows")?;
        if terms.is_empty() {
            return Ok(Address { base: start, index: None, offset });
        }
        let innermost = self.before.len();
        let inner = terms.iter().position(|(a, _)| self.depth(a) == innermost).unwrap_or(terms.len());
        let outer: Terms = terms[..inner].to_vec();
        let base = if outer.is_empty() { start } else { self.known_sum(Some(buffer), outer)?.0 };
        let index = match &terms[inner..] {
            [] => None,
            [(atoms, c)] if matches!(c, 1 | 2 | 4 | 8) => {
                Some((self.product(innermost, atoms, 1)?, *c as u8))
            }
            several => Some((self.known_sum(None, several.to_vec())?.0, 1)),
        };
        Ok(Address { base, index, offset })
    }

    /// A sum (and the start of a buffer), and the depth at which it is known.
    fn known_sum(&mut self, buffer: Option<Buf>, terms: Terms) -> Result<(VReg, usize), Declined> {
        use cranelift_entity::EntityRef;
        let depth = terms.last().map_or(0, |(a, _)| self.depth(a));
        let key = Key(buffer, terms);
        if let Some(v) = self.known.get(&key) {
            return Ok((*v, depth));
        }
        let inner = key.1.iter().position(|(a, _)| self.depth(a) == depth).unwrap_or(0);
        let mut sum = match (inner, buffer) {
            (0, None) => None,
            (0, Some(b)) => Some(self.starts[b.index()]),
            _ => Some(self.known_sum(buffer, key.1[..inner].to_vec())?.0),
        };
        for (atoms, c) in &key.1[inner..] {
            let term = self.product(depth, atoms, *c)?;
            sum = Some(match sum {
                None => term,
                Some(s) => self.sum(depth, s, term),
            });
        }
        let sum = sum.ok_or("an empty sum")?;
        self.known.insert(key.clone(), sum);
        self.order.push((key, depth));
        Ok((sum, depth))
    }

    /// Terms, those of outer loops first.
    fn inwards(&self, terms: &[(Vec<Atom>, i64)]) -> Terms {
        let mut terms = terms.to_vec();
        terms.sort_by_key(|(atoms, _)| self.depth(atoms));
        terms
    }

    /// How many loops the innermost of the symbols is inside of.
    fn depth(&self, atoms: &[Atom]) -> usize {
        let of = |e: &Expr| e.terms().iter().map(|(a, _)| self.depth(a)).max().unwrap_or(0);
        let atom = |a: &Atom| match a {
            Atom::Sym(s) => self.symbols.get(s).map_or(0, |b| b.depth),
            Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => of(&d.0).max(of(&d.1)),
        };
        atoms.iter().map(atom).max().unwrap_or(0)
    }

    fn sum(&mut self, depth: usize, a: VReg, b: VReg) -> VReg {
        let to = self.code.int();
        self.push_at(depth, Inst::Add { to, a, b });
        to
    }

    fn plus(&mut self, depth: usize, a: VReg, by: i64) -> Result<VReg, Declined> {
        if by == 0 {
            return Ok(a);
        }
        let to = self.code.int();
        match i32::try_from(by) {
            Ok(by) => self.push_at(depth, Inst::AddImm { to, a, by }),
            Err(_) => {
                let b = self.imm(depth, by);
                self.push_at(depth, Inst::Add { to, a, b });
            }
        }
        Ok(to)
    }

    fn imm(&mut self, depth: usize, value: i64) -> VReg {
        let to = self.code.int();
        self.push_at(depth, Inst::Imm { to, value });
        to
    }

    fn product(&mut self, depth: usize, atoms: &[Atom], by: i64) -> Result<VReg, Declined> {
        let mut product = None;
        for atom in atoms {
            let a = self.atom(depth, atom)?;
            product = Some(match product {
                None => a,
                Some(b) => {
                    let to = self.code.int();
                    self.push_at(depth, Inst::Mul { to, a: b, b: a });
                    to
                }
            });
        }
        let Some(a) = product else { return Ok(self.imm(depth, by)) };
        if by == 1 {
            return Ok(a);
        }
        let to = self.code.int();
        match (by.count_ones(), i32::try_from(by)) {
            (1, _) if by > 0 => {
                self.push_at(depth, Inst::ShiftLeft { to, a, by: by.trailing_zeros() as u8 });
            }
            (_, Ok(by)) => self.push_at(depth, Inst::MulImm { to, a, by }),
            _ => {
                let b = self.imm(depth, by);
                self.push_at(depth, Inst::Mul { to, a, b });
            }
        }
        Ok(to)
    }

    fn atom(&mut self, depth: usize, atom: &Atom) -> Result<VReg, Declined> {
        let pair = match atom {
            Atom::Sym(s) => {
                let bound = self.symbols.get(s).map(|b| b.register);
                return bound.ok_or_else(|| format!("the symbol {s} is not defined"));
            }
            Atom::Div(p) | Atom::Min(p) | Atom::Max(p) => p.clone(),
        };
        let a = self.operand(depth, &pair.0)?;
        if let Atom::Div(_) = atom {
            return self.quotient(depth, a, &pair.0, &pair.1);
        }
        let b = self.operand(depth, &pair.1)?;
        let to = self.code.int();
        self.push_at(
            depth,
            match atom {
                Atom::Min(_) => Inst::Least { to, a, b },
                _ => Inst::Greatest { to, a, b },
            },
        );
        Ok(to)
    }

    /// An index that is part of another one, where so many loops are open.
    fn operand(&mut self, depth: usize, e: &Expr) -> Result<VReg, Declined> {
        if e.terms().is_empty() {
            return Ok(self.imm(depth, e.constant_term()));
        }
        let (sum, at) = self.known_sum(None, self.inwards(e.terms()))?;
        self.plus(at, sum, e.constant_term())
    }

    /// A quotient rounded down, 0 where the divisor is.
    fn quotient(&mut self, depth: usize, a: VReg, n: &Expr, d: &Expr) -> Result<VReg, Declined> {
        let constant = d.as_const().filter(|d| *d > 0);
        if let Some(by) = constant.filter(|by| by.count_ones() == 1) {
            let to = self.code.int();
            self.push_at(depth, Inst::ShiftRight { to, a, by: by.trailing_zeros() as u8 });
            return Ok(to);
        }
        let natural = |r: Range| r.lo.is_some_and(|lo| lo >= 0);
        if !natural(self.range(d)) {
            return Err("a division by what may be negative".to_owned());
        }
        // A negative number is divided as its inverse, of which the quotient is the inverse as well.
        let sign = (!natural(self.range(n))).then(|| {
            let to = self.code.int();
            self.push_at(depth, Inst::ShiftRight { to, a, by: 63 });
            to
        });
        let a = self.inverted_by(depth, a, sign);
        let quotient = self.natural_quotient(depth, a, d, constant.is_some())?;
        Ok(self.inverted_by(depth, quotient, sign))
    }

    fn inverted_by(&mut self, depth: usize, a: VReg, sign: Option<VReg>) -> VReg {
        let Some(b) = sign else { return a };
        let to = self.code.int();
        self.push_at(depth, Inst::Xor { to, a, b });
        to
    }

    /// A quotient of what is not negative.
    fn natural_quotient(
        &mut self,
        depth: usize,
        a: VReg,
        d: &Expr,
        constant: bool,
    ) -> Result<VReg, Declined> {
        let b = self.operand(depth, d)?;
        let to = self.code.int();
        if constant {
            self.push_at(depth, Inst::Divide { to, a, b });
            return Ok(to);
        }
        let (one, safe) = (self.imm(depth, 1), self.code.int());
        self.push_at(depth, Inst::Greatest { to: safe, a: b, b: one });
        self.push_at(depth, Inst::Divide { to, a, b: safe });
        let (some, product) = (self.code.int(), self.code.int());
        self.push_at(depth, Inst::Least { to: some, a: b, b: one });
        self.push_at(depth, Inst::Mul { to: product, a: to, b: some });
        Ok(product)
    }
}
