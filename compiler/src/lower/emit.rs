//! Writes the loops of a nest as its schedule says.
//!
//! All points of a register tile are computed together: [`Emitter::terms`] takes one term at many
//! [`Position`]s and gives a value for each. A reduction becomes one loop nest that carries an
//! accumulator for each position (unroll and jam), and since every value is numbered by what it
//! computes, positions that share an operand share its load. Every value is placed in the outermost
//! loop in which its operands are defined (loop-invariant code motion by construction), but for
//! loads below a [`Scope::barrier`], which only run if their loop or branch does.

mod index;
mod outer;
mod reduce;

use super::nest::{Bounds, Nest, children, free_symbols};
use super::schedule::Schedule;
use burin_ir::loops::{Block, BufferDecl, Kernel, Loop, LoopKind, Op, Stmt, Val, ValType, Yield};
use burin_ir::scalar::{apply, from_bits, to_bits};
use burin_ir::{DType, Expr, Range, ScalarOp, Symbol, Term, TermKind};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// Points for which what follows reductions is computed together: so many chains of arithmetic keep
/// a core busy (two results a cycle, each four cycles later).
const AT_ONCE: usize = 8;

/// A point of the tile: what each symbol stands for, and the symbol along which it is a vector.
#[derive(Clone, Debug)]
struct Position {
    at: Rc<Vec<(Symbol, Expr)>>,
    vector: Option<(Symbol, u16)>,
    id: usize,
}

/// An open block.
#[derive(Default)]
struct Scope {
    block: Block,
    numbered: HashMap<Number, Val>,
    terms: HashMap<(usize, usize), Val>,
    bound: HashMap<Val, Symbol>,
    /// Loads may not move out of this block: it may not run at all.
    barrier: bool,
}

/// What a value computes, for value numbering.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Number {
    Const(DType, u64, u16),
    Index(Expr),
    Ramp(Expr, Expr, u16),
    Load(usize, Expr, Expr, u16),
    Gather(usize, Val),
    Op(ScalarOp, Vec<Val>),
    Splat(Val, u16),
}

/// What tells positions apart: the indices of the axes, and the axis that is a vector.
type PositionKey = (Vec<(Symbol, Expr)>, Option<(Symbol, u16)>);

pub(super) struct Emitter<'a> {
    nest: &'a Nest,
    schedule: &'a Schedule,
    kernel: Kernel,
    buffers: Vec<burin_ir::loops::Buf>,
    scopes: Vec<Scope>,
    value_depth: HashMap<Val, usize>,
    symbol_depth: HashMap<Symbol, usize>,
    /// The bits of scalar constants.
    constants: HashMap<Val, u64>,
    /// Symbols bound to vectors of indices.
    vector_symbols: HashMap<Symbol, Val>,
    positions: HashMap<PositionKey, usize>,
    /// The tiles that an outer level has chosen, by axis.
    blocks: HashMap<usize, outer::Block>,
    free: HashMap<usize, Rc<BTreeSet<Symbol>>>,
    bounds: Bounds,
    /// Loads and splats stay at this depth or below.
    pinned: usize,
    /// The depth of the task loop's body: a kernel with tasks has nothing outside it.
    floor: usize,
    next_symbol: usize,
}

/// The kernel of a nest. Its dimensions are the nest's, in the order of their names.
pub(super) fn emit(nest: &Nest, schedule: &Schedule) -> Kernel {
    let mut kernel = Kernel {
        name: nest.name.clone(),
        dims: nest.dims().into_iter().collect(),
        buffers: Default::default(),
        values: Default::default(),
        body: Vec::new(),
    };
    let buffers = nest
        .buffers
        .iter()
        .enumerate()
        .map(|(i, b)| {
            let name = format!("b{i}");
            kernel.buffers.push(BufferDecl { name, dtype: b.dtype, len: b.len.clone(), access: b.access })
        })
        .collect();
    let mut emitter = Emitter {
        nest,
        schedule,
        kernel,
        buffers,
        scopes: vec![Scope::default()],
        value_depth: HashMap::new(),
        symbol_depth: HashMap::new(),
        constants: HashMap::new(),
        vector_symbols: HashMap::new(),
        positions: HashMap::new(),
        blocks: HashMap::new(),
        free: HashMap::new(),
        bounds: nest.bounds(),
        pinned: 0,
        floor: 0,
        next_symbol: 0,
    };
    emitter.outer();
    let top = emitter.scopes.pop().unwrap_or_default();
    emitter.kernel.body = top.block;
    emitter.kernel
}

impl Emitter<'_> {
    fn stores(&mut self, positions: &[Position]) {
        let pin = self.pin_depth();
        let outer_pin = std::mem::replace(&mut self.pinned, pin);
        let nest = self.nest;
        for store in &nest.stores {
            // Reductions are loops that all points share; what is made of their results follows for some
            // of them at a time, so that few values are held and none is waited for.
            for reduction in outer_reductions(&store.value) {
                self.terms(&reduction, positions);
            }
            for some in positions.chunks(AT_ONCE) {
                let values = self.terms(&store.value, some);
                for (p, value) in some.iter().zip(values) {
                    let (index, stride) = self.along(&store.index, p);
                    let lanes = p.vector.map_or(1, |(_, l)| l);
                    let value = self.widen(value, lanes);
                    let buffer = self.buffers[store.buffer];
                    self.push(Stmt::Store { buffer, index, stride: stride.unwrap_or(Expr::ONE), value });
                }
            }
        }
        self.pinned = outer_pin;
    }

    fn pin_depth(&self) -> usize {
        if self.schedule.pin { self.scopes.len() - 1 } else { 0 }
    }

    /// The term's value at each position: a vector where the position is one and the term varies
    /// along it, else a scalar.
    fn terms(&mut self, t: &Term, positions: &[Position]) -> Vec<Val> {
        let free = self.free_of(t);
        let own: Vec<Position> = positions.iter().map(|p| self.restrict(p, &free)).collect();
        let mut todo: Vec<Position> = Vec::new();
        for p in &own {
            if self.known(t, p).is_none() && !todo.iter().any(|q| q.id == p.id) {
                todo.push(p.clone());
            }
        }
        if !todo.is_empty() {
            let values = self.compute(t, &todo);
            for (p, v) in todo.iter().zip(values) {
                let depth = self.depth_of(v);
                self.scopes[depth].terms.insert((t.key(), p.id), v);
            }
        }
        own.iter().map(|p| self.known(t, p).unwrap_or_else(|| unreachable!("computed above"))).collect()
    }

    fn known(&self, t: &Term, p: &Position) -> Option<Val> {
        self.scopes.iter().rev().find_map(|s| s.terms.get(&(t.key(), p.id)).copied())
    }

    fn compute(&mut self, t: &Term, todo: &[Position]) -> Vec<Val> {
        match t.kind() {
            TermKind::Const(v) => {
                let bits = to_bits(*v, t.dtype());
                todo.iter().map(|_| self.constant(t.dtype(), bits, 1)).collect()
            }
            TermKind::Index(e) => todo.iter().map(|p| self.index_value(e, p)).collect(),
            TermKind::Load { input, index } => {
                todo.iter().map(|p| self.load(t.dtype(), *input, &index[0], p)).collect()
            }
            TermKind::Op(op, args) => {
                let args: Vec<Vec<Val>> = args.iter().map(|a| self.terms(a, todo)).collect();
                let at = |i: usize| args.iter().map(|a| a[i]).collect::<Vec<_>>();
                (0..todo.len()).map(|i| self.op(*op, &at(i))).collect()
            }
            TermKind::If { cond, then, otherwise } => self.conditional(cond, then, otherwise, todo),
            TermKind::Bind { symbol, value, body } => {
                todo.iter().map(|p| self.bind(*symbol, value, body, p)).collect()
            }
            TermKind::Reduce { op, vars, body } => self.reduce(*op, vars, body, t, todo),
        }
    }

    /// A conditional, once for all positions whose condition is the same.
    fn conditional(&mut self, cond: &[Expr], then: &Term, otherwise: &Term, todo: &[Position]) -> Vec<Val> {
        let conds: Vec<Vec<Expr>> =
            todo.iter().map(|p| cond.iter().map(|e| self.along(e, p).0).collect()).collect();
        if let Some(values) = self.decided(&conds, then, otherwise, todo) {
            return values;
        }
        let mut out: Vec<Option<Val>> = vec![None; todo.len()];
        for i in 0..todo.len() {
            if out[i].is_some() {
                continue;
            }
            let same: Vec<usize> = (i..todo.len()).filter(|j| conds[*j] == conds[i]).collect();
            let group: Vec<Position> = same.iter().map(|j| todo[*j].clone()).collect();
            let (then_block, a) = self.branch(then, &group);
            let (otherwise_block, b) = self.branch(otherwise, &group);
            let yields: Vec<Yield> = a
                .into_iter()
                .zip(b)
                .map(|(then, otherwise)| {
                    let result = self.value(self.kernel.values[then]);
                    Yield { result, then, otherwise }
                })
                .collect();
            for (j, y) in same.iter().zip(&yields) {
                out[*j] = Some(y.result);
            }
            let cond = conds[i].clone();
            self.push(Stmt::If { cond, then: then_block, otherwise: otherwise_block, yields });
        }
        out.into_iter().map(|v| v.unwrap_or_else(|| unreachable!("every position is in a group"))).collect()
    }

    /// Where every position decides the condition, no branch is left, and what both sides compute is
    /// shared with all others.
    fn decided(
        &mut self,
        conds: &[Vec<Expr>],
        then: &Term,
        otherwise: &Term,
        todo: &[Position],
    ) -> Option<Vec<Val>> {
        let holds = |c: &Vec<Expr>| {
            let known = c.iter().map(|e| e.as_const().map(|n| n >= 0));
            known.reduce(|a, b| match (a, b) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            })
        };
        let sides: Vec<bool> = conds.iter().map(|c| holds(c).unwrap_or(Some(true))).collect::<Option<_>>()?;
        let mut out = vec![None; todo.len()];
        for (side, term) in [(true, then), (false, otherwise)] {
            let which: Vec<usize> = (0..todo.len()).filter(|i| sides[*i] == side).collect();
            let group: Vec<Position> = which.iter().map(|i| todo[*i].clone()).collect();
            let values = if group.is_empty() { Vec::new() } else { self.terms(term, &group) };
            for (i, v) in which.into_iter().zip(values) {
                out[i] = Some(v);
            }
        }
        out.into_iter().collect()
    }

    fn branch(&mut self, t: &Term, group: &[Position]) -> (Block, Vec<Val>) {
        self.open(true);
        let values = self.terms(t, group);
        let lanes = |p: &Position| p.vector.map_or(1, |(_, l)| l);
        let values = group.iter().zip(values).map(|(p, v)| self.widen(v, lanes(p))).collect();
        (self.close(), values)
    }

    fn bind(&mut self, symbol: Symbol, value: &Term, body: &Term, p: &Position) -> Val {
        let v = self.terms(value, std::slice::from_ref(p))[0];
        let v = if self.kernel.values[v].dtype == DType::I64 {
            v
        } else {
            self.op(ScalarOp::Cast(DType::I64), &[v])
        };
        let depth = self.depth_of(v);
        let name = match self.scopes[depth].bound.get(&v) {
            Some(s) => *s,
            None => {
                let name = self.fresh("at");
                self.bounds.range(name, Range::ALL);
                if self.kernel.values[v].lanes == 1 {
                    self.scopes[depth].block.push(Stmt::Bind(name, v));
                } else {
                    self.vector_symbols.insert(name, v);
                }
                self.symbol_depth.insert(name, depth);
                self.scopes[depth].bound.insert(v, name);
                name
            }
        };
        let mut at = p.at.as_ref().clone();
        at.push((symbol, name.into()));
        let inner = self.position(at, p.vector);
        self.terms(body, &[inner])[0]
    }

    fn op(&mut self, op: ScalarOp, args: &[Val]) -> Val {
        let lanes = args.iter().map(|a| self.kernel.values[*a].lanes).max().unwrap_or(1);
        let args: Vec<Val> = args.iter().map(|a| self.widen(*a, lanes)).collect();
        let types: Vec<DType> = args.iter().map(|a| self.kernel.values[*a].dtype).collect();
        let dtype = op.result_type(&types).unwrap_or_else(|e| unreachable!("{e}"));
        if let Some(bits) = self.decided_bits(op, &args, &types).filter(|_| lanes == 1) {
            return self.constant(dtype, bits, 1);
        }
        let depth = args.iter().map(|a| self.depth_of(*a)).max().unwrap_or(self.floor);
        let ty = ValType::vector(dtype, lanes);
        self.number(Number::Op(op, args.clone()), Op::Scalar(op, args), ty, depth)
    }

    /// The bits of an operation on constants, but of one that compiled code approximates.
    fn decided_bits(&self, op: ScalarOp, args: &[Val], types: &[DType]) -> Option<u64> {
        if op.is_transcendental() || op == ScalarOp::Pow {
            return None;
        }
        let of = |(v, t): (&Val, &DType)| self.constants.get(v).map(|bits| from_bits(*bits, *t));
        let numbers: Vec<_> = args.iter().zip(types).map(of).collect::<Option<_>>()?;
        let dtype = op.result_type(types).ok()?;
        let operand = if op == ScalarOp::Select { types[1] } else { types[0] };
        Some(to_bits(apply(op, operand, &numbers), dtype))
    }

    /// The value in all lanes of a vector.
    fn widen(&mut self, v: Val, lanes: u16) -> Val {
        let ty = self.kernel.values[v];
        if ty.lanes == lanes {
            return v;
        }
        let depth = self.depth_of(v).max(self.pinned);
        self.number(Number::Splat(v, lanes), Op::Splat(v), ValType::vector(ty.dtype, lanes), depth)
    }

    fn constant(&mut self, dtype: DType, bits: u64, lanes: u16) -> Val {
        let ty = ValType::vector(dtype, lanes);
        let v = self.number(Number::Const(dtype, bits, lanes), Op::Const(bits), ty, self.floor);
        if lanes == 1 {
            self.constants.insert(v, bits);
        }
        v
    }

    fn is_known(&self, number: &Number) -> bool {
        self.scopes.iter().any(|s| s.numbered.contains_key(number))
    }

    /// The value so numbered, defined at `depth` if it is new.
    fn number(&mut self, number: Number, op: Op, ty: ValType, depth: usize) -> Val {
        if let Some(v) = self.scopes.iter().find_map(|s| s.numbered.get(&number)) {
            return *v;
        }
        let v = self.kernel.values.push(ty);
        self.value_depth.insert(v, depth);
        self.scopes[depth].block.push(Stmt::Let(v, op));
        self.scopes[depth].numbered.insert(number, v);
        v
    }

    /// A value that a statement of the innermost block will define.
    fn value(&mut self, ty: ValType) -> Val {
        let v = self.kernel.values.push(ty);
        self.value_depth.insert(v, self.scopes.len() - 1);
        v
    }

    fn depth_of(&self, v: Val) -> usize {
        self.value_depth.get(&v).copied().unwrap_or(self.floor)
    }

    fn free_of(&mut self, t: &Term) -> Rc<BTreeSet<Symbol>> {
        self.free.entry(t.key()).or_insert_with(|| Rc::new(free_symbols(t))).clone()
    }

    /// The position as far as a term with these free symbols can tell.
    fn restrict(&mut self, p: &Position, free: &BTreeSet<Symbol>) -> Position {
        let at = p.at.iter().filter(|(s, _)| free.contains(s)).cloned().collect();
        let varies = |v: &(Symbol, u16)| {
            free.contains(&v.0)
                || p.at.iter().any(|(s, e)| {
                    free.contains(s) && e.as_symbol().is_some_and(|e| self.vector_symbols.contains_key(&e))
                })
        };
        let vector = p.vector.filter(varies);
        self.position(at, vector)
    }

    fn position(&mut self, mut at: Vec<(Symbol, Expr)>, vector: Option<(Symbol, u16)>) -> Position {
        at.sort();
        let next = self.positions.len();
        let id = *self.positions.entry((at.clone(), vector)).or_insert(next);
        Position { at: Rc::new(at), vector, id }
    }

    fn fresh(&mut self, what: &str) -> Symbol {
        self.next_symbol += 1;
        Symbol::new(&format!("{what}{}", self.next_symbol))
    }

    fn push(&mut self, s: Stmt) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.block.push(s);
        }
    }

    fn open(&mut self, barrier: bool) {
        self.scopes.push(Scope { barrier, ..Scope::default() });
    }

    fn close(&mut self) -> Block {
        self.scopes.pop().map(|s| s.block).unwrap_or_default()
    }

    /// Runs `f` with the blocks below `depth` set aside, so that what it emits lands there.
    fn at_depth<R>(&mut self, depth: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        let aside = self.scopes.split_off(depth + 1);
        let result = f(self);
        self.scopes.extend(aside);
        result
    }

    /// The depth of the innermost block that may not run.
    fn barrier(&self) -> usize {
        self.scopes.iter().rposition(|s| s.barrier).unwrap_or(0)
    }

    /// A loop of `count` iterations that carries values; no loop where the count is one.
    fn repeat(
        &mut self,
        count: &Expr,
        init: &[Val],
        f: impl FnOnce(&mut Self, Expr, Vec<Val>) -> Vec<Val>,
    ) -> Vec<Val> {
        self.repeat_from(count, !self.bounds.runs(count), init, f)
    }

    /// [`Emitter::repeat`]; loads that the loop's variable does not bear on stay inside if `barrier`.
    fn repeat_from(
        &mut self,
        count: &Expr,
        barrier: bool,
        init: &[Val],
        f: impl FnOnce(&mut Self, Expr, Vec<Val>) -> Vec<Val>,
    ) -> Vec<Val> {
        if *count == 1 {
            return f(self, Expr::ZERO, init.to_vec());
        }
        let var = self.fresh("t");
        self.bounds.variable(var, count);
        self.open(barrier);
        self.symbol_depth.insert(var, self.scopes.len() - 1);
        let params: Vec<Val> = init.iter().map(|v| self.value(self.kernel.values[*v])).collect();
        let next = f(self, var.into(), params.clone());
        let body = self.close();
        let carries = init
            .iter()
            .zip(params)
            .zip(next)
            .map(|((init, param), next)| {
                let result = self.value(self.kernel.values[*init]);
                burin_ir::loops::Carry { init: *init, param, next, result }
            })
            .collect::<Vec<_>>();
        let results = carries.iter().map(|c| c.result).collect();
        self.push(Stmt::For(Loop { var, extent: count.clone(), kind: LoopKind::Serial, carries, body }));
        results
    }
}

/// The reductions in a term that always run and that no other one holds.
fn outer_reductions(t: &Term) -> Vec<Term> {
    fn go(t: &Term, seen: &mut HashSet<usize>, out: &mut Vec<Term>) {
        if !seen.insert(t.key()) {
            return;
        }
        match t.kind() {
            TermKind::Reduce { .. } => out.push(t.clone()),
            TermKind::If { .. } | TermKind::Bind { .. } => {}
            _ => children(t).into_iter().for_each(|c| go(c, seen, out)),
        }
    }
    let mut out = Vec::new();
    go(t, &mut HashSet::new(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::super::nest::{NestBuffer, Store};
    use super::super::schedule::{Machine, choose};
    use super::*;
    use burin_ir::ReduceOp;
    use burin_ir::loops::Access;

    #[test]
    fn a_product_becomes_register_tiles() {
        let (m, n, k) = (Symbol::new("m"), Symbol::new("n"), Symbol::new("k"));
        let buffer =
            |len: i64, access| NestBuffer { dtype: DType::F32, len: len.into(), access, panels: None };
        let a = Term::load(DType::F32, 0, vec![Expr::from(m) * 32 + Expr::from(k)]);
        let b = Term::load(DType::F32, 1, vec![Expr::from(k) * 50 + Expr::from(n)]);
        let value = Term::reduce(ReduceOp::Sum, vec![(k, 32.into())], a * b);
        let mut nest = Nest {
            name: "product".to_owned(),
            axes: vec![(m, 10.into()), (n, 50.into())],
            buffers: vec![buffer(320, Access::Read), buffer(1600, Access::Read), buffer(500, Access::Write)],
            stores: vec![Store { buffer: 2, index: Expr::from(m) * 50 + Expr::from(n), value }],
        };
        nest.normalise();
        let machine = Machine::with_vectors(128, 16);
        let schedule = choose(&nest, &machine);
        assert_eq!(schedule.kind, "contract");
        let kernel = emit(&nest, &schedule);
        burin_ir::loops::verify(&kernel).expect("what is emitted verifies");
        assert_eq!(nest.flops(), 2 * 10 * 50 * 32);
    }
}
