//! Indices, loads and gathers at a position.

use super::{Emitter, Number, Position};
use burin_ir::expr::Atom;
use burin_ir::loops::{Op, Stmt, Val, ValType};
use burin_ir::{DType, Expr, Range, ScalarOp, Symbol};

/// What stands for a symbol `by` elements further on.
fn next(symbol: Symbol, by: i64) -> impl Fn(Symbol) -> Option<Expr> {
    move |s| (s == symbol).then(|| Expr::from(s) + by)
}

/// The one step from each of the expressions to the next.
fn steps(all: &[Expr]) -> Option<Expr> {
    let step = &all[1] - &all[0];
    all.windows(2).all(|w| &w[1] - &w[0] == step).then_some(step)
}

impl Emitter<'_> {
    /// The expression at a position (at its first lane), and its change from lane to lane; `None`
    /// where the position is a vector along which it is not linear.
    pub(super) fn along(&mut self, e: &Expr, p: &Position) -> (Expr, Option<Expr>) {
        let at = |s: Symbol| p.at.iter().find(|(a, _)| *a == s).map(|(_, e)| e.clone());
        let here = |e: &Expr| self.bounds.simplify(&e.substitute(&at));
        let stride = match p.vector {
            None => Some(Expr::ONE),
            Some((s, lanes)) => match e.linear_in(s) {
                Some((a, _)) => Some(here(&a)),
                None => {
                    steps(&(0..lanes as i64).map(|l| here(&e.substitute(&next(s, l)))).collect::<Vec<_>>())
                }
            },
        };
        (here(e), stride)
    }

    /// Gives a name to an index expression, so that it is computed once.
    pub(super) fn name_index(&mut self, e: Expr, range: Range) -> Expr {
        if e.as_const().is_some() || e.as_symbol().is_some() {
            return e;
        }
        let depth = self.depth_of_expr(&e);
        let v = self.number(Number::Index(e.clone()), Op::Index(e), ValType::scalar(DType::I64), depth);
        if let Some(s) = self.scopes[depth].bound.get(&v) {
            return (*s).into();
        }
        let name = self.fresh("at");
        self.bounds.range(name, range);
        self.scopes[depth].block.push(Stmt::Bind(name, v));
        self.scopes[depth].bound.insert(v, name);
        self.symbol_depth.insert(name, depth);
        name.into()
    }

    pub(super) fn depth_of_expr(&self, e: &Expr) -> usize {
        e.symbols()
            .iter()
            .filter_map(|s| self.symbol_depth.get(s).copied())
            .max()
            .unwrap_or(0)
            .max(self.floor)
    }

    /// An index expression as an `i64` value.
    pub(super) fn index_value(&mut self, e: &Expr, p: &Position) -> Val {
        let (base, stride) = self.along(e, p);
        let in_vectors = self.mentions_vector(&base);
        match (p.vector, stride) {
            (Some((_, lanes)), Some(step)) if !in_vectors => {
                if step == 0 {
                    return self.scalar_index(base);
                }
                let depth = self.depth_of_expr(&base).max(self.depth_of_expr(&step));
                let number = Number::Ramp(base.clone(), step.clone(), lanes);
                self.number(number, Op::Ramp(base, step), ValType::vector(DType::I64, lanes), depth)
            }
            (Some((_, lanes)), _) => self.index_vector(e, p, lanes),
            (None, _) => self.scalar_index(base),
        }
    }

    fn scalar_index(&mut self, e: Expr) -> Val {
        let depth = self.depth_of_expr(&e);
        self.number(Number::Index(e.clone()), Op::Index(e), ValType::scalar(DType::I64), depth)
    }

    fn mentions_vector(&self, e: &Expr) -> bool {
        !self.vector_symbols.is_empty() && e.symbols().iter().any(|s| self.vector_symbols.contains_key(s))
    }

    pub(super) fn load(&mut self, dtype: DType, input: usize, index: &Expr, p: &Position) -> Val {
        let (base, stride) = self.along(index, p);
        let lanes = p.vector.map_or(1, |(_, l)| l);
        let in_vectors = self.mentions_vector(&base);
        let floor = self.barrier().max(self.pinned);
        let buffer = self.buffers[input];
        let ty = ValType::vector(dtype, lanes);
        if let (Some(stride), false) = (stride, in_vectors) {
            // The same element in every lane is one scalar.
            if lanes > 1 && stride == 0 {
                let scalar = self.scalar_load(dtype, input, base);
                return self.widen(scalar, lanes);
            }
            let depth = self.depth_of_expr(&base).max(self.depth_of_expr(&stride)).max(floor);
            let number = Number::Load(input, base.clone(), stride.clone(), lanes);
            if let Some(panel) = self.nest.buffers[input].panels
                && self.schedule.prefetch > 0
                && !self.is_known(&number)
            {
                let index = &base + panel * self.schedule.prefetch;
                self.scopes[depth].block.push(Stmt::Prefetch { buffer, index });
            }
            return self.number(number, Op::Load { buffer, index: base, stride }, ty, depth);
        }
        let at = self.index_vector(index, p, lanes);
        let depth = self.depth_of(at).max(floor);
        self.number(Number::Gather(input, at), Op::Gather(buffer, at), ty, depth)
    }

    fn scalar_load(&mut self, dtype: DType, input: usize, index: Expr) -> Val {
        let depth = self.depth_of_expr(&index).max(self.barrier()).max(self.pinned);
        let number = Number::Load(input, index.clone(), Expr::ONE, 1);
        let op = Op::Load { buffer: self.buffers[input], index, stride: Expr::ONE };
        self.number(number, op, ValType::scalar(dtype), depth)
    }

    /// An index expression in lanes, computed by vector arithmetic: for expressions that are not
    /// linear along the vector, or that hold indices computed from data in lanes.
    fn index_vector(&mut self, e: &Expr, p: &Position, lanes: u16) -> Val {
        let constant = |x: &mut Self, c: i64| x.constant(DType::I64, c as u64, 1);
        let mut sum = constant(self, e.constant_term());
        for (atoms, c) in e.terms() {
            let mut product = constant(self, *c);
            for atom in atoms {
                let factor = self.atom_vector(atom, p, lanes);
                product = self.op(ScalarOp::Mul, &[product, factor]);
            }
            sum = self.op(ScalarOp::Add, &[sum, product]);
        }
        self.widen(sum, lanes)
    }

    fn atom_vector(&mut self, atom: &Atom, p: &Position, lanes: u16) -> Val {
        let both =
            |x: &mut Self, d: &(Expr, Expr)| (x.index_vector(&d.0, p, lanes), x.index_vector(&d.1, p, lanes));
        match atom {
            Atom::Sym(s) => {
                let (here, _) = self.along(&(*s).into(), p);
                match here.as_symbol().and_then(|s| self.vector_symbols.get(&s)) {
                    Some(v) => *v,
                    None => self.index_value(&(*s).into(), p),
                }
            }
            Atom::Div(d) => {
                // Truncating division of what is left after the floor remainder is floor division.
                let (n, by) = both(self, d);
                let rest = self.op(ScalarOp::Mod, &[n, by]);
                let whole = self.op(ScalarOp::Sub, &[n, rest]);
                self.op(ScalarOp::Div, &[whole, by])
            }
            Atom::Min(d) | Atom::Max(d) => {
                let (a, b) = both(self, d);
                let op = if matches!(atom, Atom::Min(_)) { ScalarOp::Min } else { ScalarOp::Max };
                self.op(op, &[a, b])
            }
        }
    }
}
