//! A notation for expansions: arithmetic on [`V`] appends loop-language statements to a builder.
//!
//! `x * 2.0 + y` is two statements and a constant. A constant has the type and the lanes of the
//! operand that it meets; equal constants of a block are made once. `Add` and `Mul` are rounded
//! each; only [`V::muladd`] may be contracted.

use burin_ir::loops::{Block, Builder, Loop, LoopKind, Op, Val, ValType};
use burin_ir::{DType, Expr, ReduceOp, Scalar, ScalarOp, Symbol, scalar};
use std::cell::RefCell;

/// Where formulas append to.
pub struct Scope<'b, 'k> {
    builder: RefCell<&'b mut Builder<'k>>,
    constants: RefCell<Vec<(ValType, u64, Val)>>,
}

trait Emit {
    fn ty(&self, value: Val) -> ValType;
    fn let_(&self, ty: ValType, op: Op) -> Val;
    fn op(&self, op: ScalarOp, args: &[Val]) -> Val;
    fn fold(&self, op: ReduceOp, vector: Val) -> Val;
    fn branch(&self, symbol: Symbol, flag: Val, then: &dyn Fn() -> Vec<Val>, otherwise: &[Val]) -> Vec<Val>;
    fn repeat(&self, var: Symbol, extent: Expr, init: &[Val], body: &dyn Fn(&[Val]) -> Vec<Val>) -> Vec<Val>;
    fn bind(&self, symbol: Symbol, value: Val);
}

impl<'b, 'k> Scope<'b, 'k> {
    /// Formulas that append to this builder.
    pub fn new(builder: &'b mut Builder<'k>) -> Scope<'b, 'k> {
        Scope { builder: RefCell::new(builder), constants: RefCell::default() }
    }

    /// A value that exists already.
    pub fn value(&self, value: Val) -> V<'_> {
        V { emit: self, val: value }
    }

    /// The statements of `body` on their own; constants made there are not used after it.
    fn nested<R>(&self, body: impl FnOnce() -> R) -> (Block, R) {
        let known = self.constants.borrow().len();
        let outer = self.builder.borrow_mut().replace_block(Vec::new());
        let out = body();
        self.constants.borrow_mut().truncate(known);
        (self.builder.borrow_mut().replace_block(outer), out)
    }
}

impl Emit for Scope<'_, '_> {
    fn ty(&self, value: Val) -> ValType {
        self.builder.borrow().ty(value)
    }

    fn let_(&self, ty: ValType, op: Op) -> Val {
        let Op::Const(bits) = op else { return self.builder.borrow_mut().let_(ty, op) };
        let mut constants = self.constants.borrow_mut();
        if let Some(&(.., known)) = constants.iter().find(|&&(t, b, _)| t == ty && b == bits) {
            return known;
        }
        let val = self.builder.borrow_mut().const_(ty, bits);
        constants.push((ty, bits, val));
        val
    }

    fn op(&self, op: ScalarOp, args: &[Val]) -> Val {
        self.builder.borrow_mut().op(op, args)
    }

    fn fold(&self, op: ReduceOp, vector: Val) -> Val {
        self.builder.borrow_mut().fold(op, vector)
    }

    fn bind(&self, symbol: Symbol, value: Val) {
        self.builder.borrow_mut().bind(symbol, value);
    }

    fn branch(&self, symbol: Symbol, flag: Val, then: &dyn Fn() -> Vec<Val>, otherwise: &[Val]) -> Vec<Val> {
        self.bind(symbol, flag);
        let (block, values) = self.nested(then);
        let mut builder = self.builder.borrow_mut();
        let yes = |b: &mut Builder<'_>| {
            b.replace_block(block);
            values
        };
        builder.if_(vec![Expr::from(symbol) - 1], yes, |_| otherwise.to_vec())
    }

    fn repeat(&self, var: Symbol, extent: Expr, init: &[Val], body: &dyn Fn(&[Val]) -> Vec<Val>) -> Vec<Val> {
        let params: Vec<Val> = {
            let mut builder = self.builder.borrow_mut();
            init.iter()
                .map(|&v| {
                    let ty = builder.ty(v);
                    builder.fresh(ty)
                })
                .collect()
        };
        let (body, next) = self.nested(|| body(&params));
        let l = Loop { var, extent, kind: LoopKind::Serial, carries: Vec::new(), body };
        self.builder.borrow_mut().loop_(l, init, &params, &next)
    }
}

/// A value in a formula.
#[derive(Clone, Copy)]
pub struct V<'f> {
    emit: &'f (dyn Emit + 'f),
    val: Val,
}

/// What may stand beside a [`V`]: another one, or a number that takes its type.
pub trait Operand<'f> {
    /// This operand as a value of the type of `like`.
    fn beside(self, like: V<'f>) -> V<'f>;
}

impl<'f> Operand<'f> for V<'f> {
    fn beside(self, _: V<'f>) -> V<'f> {
        self
    }
}

impl<'f> Operand<'f> for f64 {
    fn beside(self, like: V<'f>) -> V<'f> {
        like.bits(scalar::to_bits(Scalar::F(self).cast(like.dtype()), like.dtype()))
    }
}

/// An integer that takes its neighbour's type.
impl<'f> Operand<'f> for i64 {
    fn beside(self, like: V<'f>) -> V<'f> {
        like.bits(scalar::to_bits(Scalar::I(self).cast(like.dtype()), like.dtype()))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl<'f, T: Operand<'f>> std::ops::$trait<T> for V<'f> {
            type Output = V<'f>;
            fn $method(self, other: T) -> V<'f> {
                self.op(ScalarOp::$op, &[other.beside(self)])
            }
        }
    )* };
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor, Shl shl Shl, Shr shr Shr);

impl std::ops::Neg for V<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.op(ScalarOp::Neg, &[])
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident($($arg:ident),*) = $op:ident;)*) => { $(
        $(#[$doc])*
        pub fn $method(self $(, $arg: impl Operand<'f>)*) -> V<'f> {
            self.op(ScalarOp::$op, &[$($arg.beside(self)),*])
        }
    )* };
}

impl<'f> V<'f> {
    /// Whether a float is neither infinite nor NaN.
    #[expect(clippy::eq_op, reason = "infinities and NaN less themselves are NaN, not zero")]
    pub fn is_finite(self) -> V<'f> {
        (self - self).eq(0.0)
    }

    methods! {
        /// `|self|`.
        abs() = Abs;
        /// The square root.
        sqrt() = Sqrt;
        /// Towards minus infinity.
        floor() = Floor;
        /// Towards zero.
        trunc() = Trunc;
        /// To nearest, halves to even.
        round() = Round;
        /// `self < other`.
        lt(other) = Lt;
        /// `self <= other`.
        le(other) = Le;
        /// `self > other`.
        gt(other) = Gt;
        /// `self >= other`.
        ge(other) = Ge;
        /// `self == other`.
        eq(other) = Eq;
        /// `self != other`.
        ne(other) = Ne;
        /// `self * factor + addend`, rounded once or twice.
        muladd(factor, addend) = MulAdd;
    }

    /// The value.
    pub fn val(self) -> Val {
        self.val
    }

    /// The element type.
    pub fn dtype(self) -> DType {
        self.emit.ty(self.val).dtype
    }

    /// A value beside this one.
    pub fn other(self, val: Val) -> V<'f> {
        V { val, ..self }
    }

    /// An operation with this as the first operand.
    pub fn op(self, op: ScalarOp, rest: &[V<'f>]) -> V<'f> {
        let args: Vec<Val> = std::iter::once(self).chain(rest.iter().copied()).map(|v| v.val).collect();
        self.other(self.emit.op(op, &args))
    }

    /// A constant of this value's type.
    pub fn bits(self, bits: u64) -> V<'f> {
        self.other(self.emit.let_(self.emit.ty(self.val), Op::Const(bits)))
    }

    /// A number of this value's type.
    pub fn number(self, number: impl Operand<'f>) -> V<'f> {
        number.beside(self)
    }

    /// Conversion.
    pub fn cast(self, to: DType) -> V<'f> {
        if to == self.dtype() { self } else { self.op(ScalarOp::Cast(to), &[]) }
    }

    /// The same bits as another type.
    pub fn bitcast(self, to: DType) -> V<'f> {
        if to == self.dtype() { self } else { self.op(ScalarOp::Bitcast(to), &[]) }
    }

    /// A float's bits as a signed integer.
    pub fn to_int(self) -> V<'f> {
        self.bitcast(if self.dtype() == DType::F64 { DType::I64 } else { DType::I32 })
    }

    /// The float with the bits of this integer.
    pub fn to_float(self) -> V<'f> {
        self.bitcast(if self.dtype().bits() == 64 { DType::F64 } else { DType::F32 })
    }

    /// A float's sign bit, in place, as a signed integer.
    pub fn sign(self) -> V<'f> {
        self.to_int() & (1_i64 << (self.dtype().bits() - 1))
    }

    /// A float whose sign bit is clear, with such a sign bit set.
    pub fn with_sign(self, sign: V<'f>) -> V<'f> {
        (self.to_int() | sign).to_float()
    }

    /// A float with its sign flipped where such a sign bit is set.
    pub fn flip(self, sign: V<'f>) -> V<'f> {
        (self.to_int() ^ sign).to_float()
    }

    /// `self ? yes : no`, for a bool; a number takes the type of the other one.
    pub fn select(self, yes: V<'f>, no: impl Operand<'f>) -> V<'f> {
        self.op(ScalarOp::Select, &[yes, no.beside(yes)])
    }

    /// `top` where this is larger; NaN stays.
    pub fn at_most(self, top: f64) -> V<'f> {
        let top = top.beside(self);
        top.lt(self).select(top, self)
    }

    /// `low` where this is smaller; NaN stays.
    pub fn at_least(self, low: f64) -> V<'f> {
        let low = low.beside(self);
        low.gt(self).select(low, self)
    }

    /// The polynomial with these coefficients, lowest first, by Horner's rule.
    pub fn poly(self, coefficients: &[f64]) -> V<'f> {
        let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
        rest.iter().rev().fold(last.beside(self), |acc, &c| acc.muladd(self, c))
    }

    /// Whether `flag` holds in any lane decides, at run time, between computing `then` and taking
    /// `otherwise`; the values of one lane must not depend on the branch that others make it take. The lanes'
    /// flags are combined in the type of `like`.
    pub fn if_any(
        self,
        symbol: Symbol,
        like: V<'f>,
        then: impl Fn() -> Vec<V<'f>>,
        otherwise: &[V<'f>],
    ) -> Vec<V<'f>> {
        let one = like.number(1.0);
        let flag = self.select(one, 0.0);
        let any = flag.highest().cast(DType::I64);
        let otherwise: Vec<Val> = otherwise.iter().map(|v| v.val).collect();
        let run = || then().into_iter().map(|v| v.val).collect();
        self.emit.branch(symbol, any.val, &run, &otherwise).into_iter().map(|v| self.other(v)).collect()
    }

    /// The greatest lane, as a scalar.
    pub fn highest(self) -> V<'f> {
        if self.emit.ty(self.val).lanes == 1 {
            return self;
        }
        self.other(self.emit.fold(ReduceOp::Max, self.val))
    }

    /// Binds a symbol to this integer scalar.
    pub fn bind(self, symbol: Symbol) -> Expr {
        self.emit.bind(symbol, self.val);
        Expr::from(symbol)
    }

    /// A serial loop over carried values.
    pub fn repeat(
        var: Symbol,
        extent: Expr,
        init: &[V<'f>],
        body: impl Fn(&[V<'f>]) -> Vec<V<'f>>,
    ) -> Vec<V<'f>> {
        let like = init[0];
        let vals: Vec<Val> = init.iter().map(|v| v.val).collect();
        let run = |params: &[Val]| {
            let params: Vec<V<'f>> = params.iter().map(|&v| like.other(v)).collect();
            body(&params).into_iter().map(|v| v.val).collect()
        };
        like.emit.repeat(var, extent, &vals, &run).into_iter().map(|v| like.other(v)).collect()
    }
}
