//! Element definitions: what one element of an op's result is, as an expression over the elements
//! of its inputs.
//!
//! This is the bridge between the two languages. A row states it once; the evaluator, the symbolic
//! contents of small tensors, fusion (which substitutes one definition into another) and the loop
//! nests all derive from it. An [`Element`] is `out[axes] = body`; a [`Term`] is a typed expression
//! tree that shares sub-trees.
//!
//! Symbols that a term binds (axes, reduction variables, [`TermKind::Bind`]) are local names; who
//! combines two definitions renames them first.

use crate::dtype::DType;
use crate::expr::Expr;
use crate::scalar::{Scalar, ScalarOp, to_bits};
use crate::symbol::Symbol;
use std::sync::Arc;

/// A typed scalar expression. Cloning is cheap; sub-trees are shared.
#[derive(Clone, Debug)]
pub struct Term(Arc<(DType, TermKind)>);

/// The forms of a [`Term`].
#[derive(Clone, Debug)]
pub enum TermKind {
    /// An element of the op's input of that number. The index has one expression a dimension and
    /// must be in bounds wherever the term is evaluated.
    Load {
        /// The number of the input.
        input: usize,
        /// One expression a dimension.
        index: Vec<Expr>,
    },
    /// A constant of the term's type.
    Const(Scalar),
    /// The value of an index expression, as `i64`.
    Index(Expr),
    /// A scalar operation.
    Op(ScalarOp, Vec<Term>),
    /// `then` where every expression of `cond` is zero or above, else `otherwise`. Only the branch
    /// taken is evaluated: loads in `then` need be in bounds only under the condition.
    If {
        /// All of these are `>= 0`.
        cond: Vec<Expr>,
        /// The value where they are.
        then: Term,
        /// The value elsewhere.
        otherwise: Term,
    },
    /// A reduction of `body` over the box of `vars`, in row-major order of them. The accumulator
    /// has the term's type.
    Reduce {
        /// How elements are combined.
        op: ReduceOp,
        /// Variables with their extents, outermost first.
        vars: Vec<(Symbol, Expr)>,
        /// What is combined.
        body: Term,
    },
    /// `body` with the symbol standing for an integer that is computed from data. The producer
    /// guarantees (by clamping or wrapping it in `value`) that indices made from it are in bounds.
    Bind {
        /// The symbol.
        symbol: Symbol,
        /// Its value, of an integer type.
        value: Term,
        /// Where it is used.
        body: Term,
    },
}

/// How a reduction combines elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceOp {
    /// Sum, from 0.
    Sum,
    /// Product, from 1.
    Prod,
    /// Smallest, from the type's greatest value (plus infinity for floats).
    Min,
    /// Largest, from the type's least value (minus infinity for floats).
    Max,
}

impl ReduceOp {
    /// Every reduction.
    pub const ALL: [ReduceOp; 4] = [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Min, ReduceOp::Max];

    /// The reduction of that name.
    pub fn by_name(name: &str) -> Option<ReduceOp> {
        ReduceOp::ALL.into_iter().find(|r| r.name() == name)
    }

    /// The operation that combines two elements.
    pub const fn combine(self) -> ScalarOp {
        match self {
            ReduceOp::Sum => ScalarOp::Add,
            ReduceOp::Prod => ScalarOp::Mul,
            ReduceOp::Min => ScalarOp::Min,
            ReduceOp::Max => ScalarOp::Max,
        }
    }

    /// The value that leaves every other unchanged.
    pub fn identity(self, ty: DType) -> Scalar {
        match self {
            ReduceOp::Sum => Scalar::I(0).cast(ty),
            ReduceOp::Prod => Scalar::I(1).cast(ty),
            ReduceOp::Min if ty.is_float() => Scalar::F(f64::INFINITY),
            ReduceOp::Max if ty.is_float() => Scalar::F(f64::NEG_INFINITY),
            ReduceOp::Min if ty == DType::Bool => Scalar::B(true),
            ReduceOp::Max if ty == DType::Bool => Scalar::B(false),
            ReduceOp::Min if ty == DType::U64 => Scalar::U(u64::MAX),
            ReduceOp::Min => Scalar::F(f64::INFINITY).cast(ty),
            ReduceOp::Max => Scalar::F(f64::NEG_INFINITY).cast(ty),
        }
    }

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Min => "min",
            ReduceOp::Max => "max",
        }
    }
}

/// `out[axes] = body`: the axes' extents are the output's shape.
#[derive(Clone, Debug)]
pub struct Element {
    /// One symbol for each dimension of the output.
    pub axes: Vec<Symbol>,
    /// The element's value.
    pub body: Term,
}

/// The `n`th conventional axis symbol of a definition: `i0`, `i1`, ...
pub fn axis(n: usize) -> Symbol {
    Symbol::new(&format!("i{n}"))
}

/// The first `rank` conventional axis symbols.
pub fn axes(rank: usize) -> Vec<Symbol> {
    (0..rank).map(axis).collect()
}

/// The `n`th conventional reduction symbol of a definition: `k0`, `k1`, ...
pub fn reduction(n: usize) -> Symbol {
    Symbol::new(&format!("k{n}"))
}

impl Term {
    /// A term of a type.
    pub fn new(dtype: DType, kind: TermKind) -> Term {
        Term(Arc::new((dtype, kind)))
    }

    /// The type of its value.
    pub fn dtype(&self) -> DType {
        self.0.0
    }

    /// Its form.
    pub fn kind(&self) -> &TermKind {
        &self.0.1
    }

    /// An address that is the same for shared sub-trees, as a key for memoisation while the term
    /// is alive.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// An element of an input.
    pub fn load(dtype: DType, input: usize, index: Vec<Expr>) -> Term {
        Term::new(dtype, TermKind::Load { input, index })
    }

    /// A constant of a type.
    pub fn constant(dtype: DType, value: Scalar) -> Term {
        Term::new(dtype, TermKind::Const(value.cast(dtype)))
    }

    /// A constant from a value of that very type. (To convert it once more could change it: the least
    /// `f8e8m0` is a denormal of the `f32` that conversions look at.)
    pub fn value(dtype: DType, value: Scalar) -> Term {
        Term::new(dtype, TermKind::Const(value))
    }

    /// A constant of this term's type, from a float.
    pub fn lit(&self, value: f64) -> Term {
        Term::constant(self.dtype(), Scalar::F(value))
    }

    /// The value of an index expression, as `i64`.
    pub fn index(e: impl Into<Expr>) -> Term {
        Term::new(DType::I64, TermKind::Index(e.into()))
    }

    /// A scalar operation.
    ///
    /// # Panics
    /// If the operands' types do not fit it: a defect of the row that builds the term.
    pub fn op(op: ScalarOp, args: &[&Term]) -> Term {
        let types: Vec<DType> = args.iter().map(|a| a.dtype()).collect();
        match op.result_type(&types) {
            Ok(ty) => Term::new(ty, TermKind::Op(op, args.iter().map(|a| (*a).clone()).collect())),
            Err(e) => panic!("{e}"),
        }
    }

    /// One operand.
    pub fn unary(&self, op: ScalarOp) -> Term {
        Term::op(op, &[self])
    }

    /// Two operands.
    pub fn binary(&self, op: ScalarOp, other: &Term) -> Term {
        Term::op(op, &[self, other])
    }

    /// Conversion; nothing where the type is this one.
    pub fn cast(&self, to: DType) -> Term {
        if to == self.dtype() { self.clone() } else { self.unary(ScalarOp::Cast(to)) }
    }

    /// A float rounded to its type here: the evaluator rounds at the end of a term otherwise, compiled
    /// code after each operation anyway.
    pub fn rounded(&self) -> Term {
        self.unary(ScalarOp::Cast(self.dtype()))
    }

    /// `self ? then : otherwise`, both evaluated.
    pub fn select(&self, then: &Term, otherwise: &Term) -> Term {
        Term::op(ScalarOp::Select, &[self, then, otherwise])
    }

    /// `then` where every expression is zero or above, else `otherwise`.
    pub fn when(cond: Vec<Expr>, then: Term, otherwise: Term) -> Term {
        let cond: Vec<Expr> = cond.into_iter().filter(|c| c.as_const().is_none_or(|v| v < 0)).collect();
        if cond.is_empty() {
            return then;
        }
        if cond.iter().any(|c| c.as_const().is_some()) {
            return otherwise;
        }
        Term::new(then.dtype(), TermKind::If { cond, then, otherwise })
    }

    /// A reduction.
    pub fn reduce(op: ReduceOp, vars: Vec<(Symbol, Expr)>, body: Term) -> Term {
        Term::new(body.dtype(), TermKind::Reduce { op, vars, body })
    }

    /// `body` with a symbol for an integer computed from data.
    pub fn bind(symbol: Symbol, value: Term, body: Term) -> Term {
        Term::new(body.dtype(), TermKind::Bind { symbol, value, body })
    }

    /// The bits of a constant term.
    pub fn const_bits(&self) -> Option<u64> {
        match self.kind() {
            TermKind::Const(v) => Some(to_bits(*v, self.dtype())),
            _ => None,
        }
    }

    /// The term with symbols replaced in every index expression, and loads replaced by `load`
    /// (called with the input's number and the index after replacement).
    pub fn map(
        &self,
        symbols: &dyn Fn(Symbol) -> Option<Expr>,
        load: &mut dyn FnMut(DType, usize, Vec<Expr>) -> Term,
    ) -> Term {
        let mut seen = std::collections::HashMap::new();
        self.map_memo(symbols, load, &mut seen)
    }

    fn map_memo(
        &self,
        symbols: &dyn Fn(Symbol) -> Option<Expr>,
        load: &mut dyn FnMut(DType, usize, Vec<Expr>) -> Term,
        seen: &mut std::collections::HashMap<usize, Term>,
    ) -> Term {
        if let Some(t) = seen.get(&self.key()) {
            return t.clone();
        }
        let sub = |es: &[Expr]| es.iter().map(|e| e.substitute(symbols)).collect::<Vec<_>>();
        // A bound symbol may be renamed, never replaced by anything but a symbol.
        let rename = |s: Symbol| symbols(s).and_then(|e| e.as_symbol()).unwrap_or(s);
        let mut go = |t: &Term| t.map_memo(symbols, load, seen);
        let kind = match self.kind() {
            TermKind::Load { input, index } => {
                let t = load(self.dtype(), *input, sub(index));
                seen.insert(self.key(), t.clone());
                return t;
            }
            TermKind::Const(v) => TermKind::Const(*v),
            TermKind::Index(e) => TermKind::Index(e.substitute(symbols)),
            TermKind::Op(op, args) => TermKind::Op(*op, args.iter().map(go).collect()),
            TermKind::If { cond, then, otherwise } => {
                let t = Term::when(sub(cond), go(then), go(otherwise));
                seen.insert(self.key(), t.clone());
                return t;
            }
            TermKind::Reduce { op, vars, body } => TermKind::Reduce {
                op: *op,
                vars: vars.iter().map(|(v, n)| (rename(*v), n.substitute(symbols))).collect(),
                body: go(body),
            },
            TermKind::Bind { symbol, value, body } => {
                TermKind::Bind { symbol: rename(*symbol), value: go(value), body: go(body) }
            }
        };
        let t = Term::new(self.dtype(), kind);
        seen.insert(self.key(), t.clone());
        t
    }

    /// Every symbol that the term binds inside itself (reductions and [`TermKind::Bind`]).
    pub fn bound_symbols(&self) -> Vec<Symbol> {
        let mut out = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut stack = vec![self.clone()];
        while let Some(t) = stack.pop() {
            if !seen.insert(t.key()) {
                continue;
            }
            match t.kind() {
                TermKind::Load { .. } | TermKind::Const(_) | TermKind::Index(_) => {}
                TermKind::Op(_, args) => stack.extend(args.iter().cloned()),
                TermKind::If { then, otherwise, .. } => stack.extend([then.clone(), otherwise.clone()]),
                TermKind::Reduce { vars, body, .. } => {
                    out.extend(vars.iter().map(|(v, _)| *v));
                    stack.push(body.clone());
                }
                TermKind::Bind { symbol, value, body } => {
                    out.push(*symbol);
                    stack.extend([value.clone(), body.clone()]);
                }
            }
        }
        out
    }
}

macro_rules! term_operator {
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl std::ops::$trait<&Term> for &Term {
            type Output = Term;
            fn $method(self, other: &Term) -> Term { self.binary(ScalarOp::$op, other) }
        }
        impl std::ops::$trait<Term> for Term {
            type Output = Term;
            fn $method(self, other: Term) -> Term { self.binary(ScalarOp::$op, &other) }
        }
        impl std::ops::$trait<&Term> for Term {
            type Output = Term;
            fn $method(self, other: &Term) -> Term { self.binary(ScalarOp::$op, other) }
        }
        impl std::ops::$trait<Term> for &Term {
            type Output = Term;
            fn $method(self, other: Term) -> Term { self.binary(ScalarOp::$op, &other) }
        }
        impl std::ops::$trait<f64> for &Term {
            type Output = Term;
            fn $method(self, other: f64) -> Term { self.binary(ScalarOp::$op, &self.lit(other)) }
        }
        impl std::ops::$trait<f64> for Term {
            type Output = Term;
            fn $method(self, other: f64) -> Term { self.binary(ScalarOp::$op, &self.lit(other)) }
        }
    )* };
}
term_operator!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div);

impl std::ops::Neg for &Term {
    type Output = Term;
    fn neg(self) -> Term {
        self.unary(ScalarOp::Neg)
    }
}
