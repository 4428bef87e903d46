//! Building the statements of a kernel, one block at a time.
//!
//! A [`Builder`] appends to a block of its own and makes the values' types as it goes, so that what
//! it builds is well-typed by construction; [`Builder::finish`] hands the block over. Operands that
//! do not fit one another are a mistake of the caller, and panic.

use super::{Block, Buf, BufferDecl, Carry, Kernel, Loop, LoopKind, Op, Stmt, Val, ValType, Yield};
use crate::dtype::DType;
use crate::element::ReduceOp;
use crate::expr::Expr;
use crate::scalar::ScalarOp;
use crate::symbol::Symbol;
use cranelift_entity::PrimaryMap;

/// Appends statements to a block. It borrows a kernel's values and buffers, not its body.
pub struct Builder<'k> {
    values: &'k mut PrimaryMap<Val, ValType>,
    buffers: &'k PrimaryMap<Buf, BufferDecl>,
    block: Block,
}

impl<'k> Builder<'k> {
    /// A builder of an empty block for a kernel that has these values and buffers.
    pub fn new(
        values: &'k mut PrimaryMap<Val, ValType>,
        buffers: &'k PrimaryMap<Buf, BufferDecl>,
    ) -> Builder<'k> {
        Builder { values, buffers, block: Block::new() }
    }

    /// A builder of an empty block for a kernel; the kernel's body is not touched.
    pub fn of(kernel: &'k mut Kernel) -> Builder<'k> {
        Builder::new(&mut kernel.values, &kernel.buffers)
    }

    /// The statements built.
    pub fn finish(self) -> Block {
        self.block
    }

    /// The type of a value.
    pub fn ty(&self, value: Val) -> ValType {
        self.values[value]
    }

    /// A buffer's declaration.
    pub fn buffer(&self, buffer: Buf) -> &BufferDecl {
        &self.buffers[buffer]
    }

    /// A new value without a definition.
    pub fn fresh(&mut self, ty: ValType) -> Val {
        self.values.push(ty)
    }

    /// Appends a statement.
    pub fn push(&mut self, stmt: Stmt) {
        self.block.push(stmt);
    }

    /// Defines a new value.
    pub fn let_(&mut self, ty: ValType, op: Op) -> Val {
        let value = self.fresh(ty);
        self.define(value, op);
        value
    }

    /// Defines a value that exists already, such as one whose definition is being replaced.
    pub fn define(&mut self, value: Val, op: Op) {
        self.block.push(Stmt::Let(value, op));
    }

    /// A constant in every lane, given by the bits of one.
    pub fn const_(&mut self, ty: ValType, bits: u64) -> Val {
        self.let_(ty, Op::Const(bits))
    }

    /// A number in every lane, rounded or wrapped to the element type.
    pub fn number(&mut self, ty: ValType, number: f64) -> Val {
        let value = crate::Scalar::F(number).cast(ty.dtype);
        self.const_(ty, crate::scalar::to_bits(value, ty.dtype))
    }

    /// An index expression as an `i64` scalar.
    pub fn index(&mut self, index: impl Into<Expr>) -> Val {
        self.let_(ValType::scalar(DType::I64), Op::Index(index.into()))
    }

    /// `base + lane * step` as a vector of `i64`.
    pub fn ramp(&mut self, base: Expr, step: Expr, lanes: u16) -> Val {
        self.let_(ValType::vector(DType::I64, lanes), Op::Ramp(base, step))
    }

    /// A scalar operation, lane by lane.
    pub fn op(&mut self, op: ScalarOp, args: &[Val]) -> Val {
        let lanes = self.ty(args[0]).lanes;
        assert!(args.iter().all(|&a| self.ty(a).lanes == lanes), "{op}: operands differ in lanes");
        let types: Vec<DType> = args.iter().map(|&a| self.ty(a).dtype).collect();
        match op.result_type(&types) {
            Ok(dtype) => self.let_(ValType { dtype, lanes }, Op::Scalar(op, args.to_vec())),
            Err(why) => panic!("{why}"),
        }
    }

    /// A scalar in every lane of a vector; the scalar itself for one lane.
    pub fn splat(&mut self, scalar: Val, lanes: u16) -> Val {
        if lanes == 1 {
            return scalar;
        }
        let ty = ValType::vector(self.ty(scalar).dtype, lanes);
        self.let_(ty, Op::Splat(scalar))
    }

    /// One element of a buffer.
    pub fn load(&mut self, buffer: Buf, index: impl Into<Expr>) -> Val {
        self.load_vector(buffer, index.into(), Expr::from(1), 1)
    }

    /// Elements of a buffer, `stride` apart.
    pub fn load_vector(&mut self, buffer: Buf, index: Expr, stride: Expr, lanes: u16) -> Val {
        let ty = ValType::vector(self.buffers[buffer].dtype, lanes);
        self.let_(ty, Op::Load { buffer, index, stride })
    }

    /// Elements of a buffer at `i64` indices given lane by lane.
    pub fn gather(&mut self, buffer: Buf, indices: Val) -> Val {
        let ty = ValType::vector(self.buffers[buffer].dtype, self.ty(indices).lanes);
        self.let_(ty, Op::Gather(buffer, indices))
    }

    /// All lanes combined into a scalar.
    pub fn fold(&mut self, op: ReduceOp, vector: Val) -> Val {
        let ty = ValType::scalar(self.ty(vector).dtype);
        self.let_(ty, Op::Fold(op, vector))
    }

    /// One lane as a scalar.
    pub fn lane(&mut self, vector: Val, lane: u16) -> Val {
        let ty = ValType::scalar(self.ty(vector).dtype);
        self.let_(ty, Op::Lane(vector, lane))
    }

    /// Gives a symbol to an integer scalar, for use in indices.
    pub fn bind(&mut self, symbol: Symbol, value: Val) {
        self.push(Stmt::Bind(symbol, value));
    }

    /// Writes one element.
    pub fn store(&mut self, buffer: Buf, index: impl Into<Expr>, value: Val) {
        self.store_vector(buffer, index.into(), Expr::from(1), value);
    }

    /// Writes the lanes of a value, `stride` apart.
    pub fn store_vector(&mut self, buffer: Buf, index: Expr, stride: Expr, value: Val) {
        self.push(Stmt::Store { buffer, index, stride, value });
    }

    /// Puts another block in the place of the one that is being built, and returns the latter.
    pub fn replace_block(&mut self, block: Block) -> Block {
        std::mem::replace(&mut self.block, block)
    }

    /// The statements that `body` appends, as a block of their own, and what it returns.
    pub fn nested<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> (Block, R) {
        let outer = self.replace_block(Block::new());
        let out = body(self);
        (self.replace_block(outer), out)
    }

    /// A loop. `body` gets the carried values inside an iteration and returns as many: those after
    /// it. The results are their values after the last iteration.
    pub fn for_(
        &mut self,
        var: Symbol,
        extent: impl Into<Expr>,
        kind: LoopKind,
        inits: &[Val],
        body: impl FnOnce(&mut Self, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let params: Vec<Val> = inits.iter().map(|&v| self.fresh(self.ty(v))).collect();
        let (body, nexts) = self.nested(|b| body(b, &params));
        self.loop_(
            Loop { var, extent: extent.into(), kind, carries: Vec::new(), body },
            inits,
            &params,
            &nexts,
        )
    }

    /// A loop whose body is built already: its carries are made from their first values, their
    /// values inside an iteration and those after it. The results are those after the last one.
    pub fn loop_(&mut self, mut l: Loop, inits: &[Val], params: &[Val], nexts: &[Val]) -> Vec<Val> {
        assert_eq!(nexts.len(), inits.len(), "a loop's body returns a value for each carried one");
        let results: Vec<Val> = inits.iter().map(|&v| self.fresh(self.ty(v))).collect();
        l.carries = (0..inits.len())
            .map(|i| Carry { init: inits[i], param: params[i], next: nexts[i], result: results[i] })
            .collect();
        self.push(Stmt::For(l));
        results
    }

    /// A conditional: `then` where every expression is zero or above, else `otherwise`. Both return
    /// as many values, of the same types; the results are those of the one that ran.
    pub fn if_(
        &mut self,
        cond: Vec<Expr>,
        then: impl FnOnce(&mut Self) -> Vec<Val>,
        otherwise: impl FnOnce(&mut Self) -> Vec<Val>,
    ) -> Vec<Val> {
        let (then, yes) = self.nested(then);
        let (otherwise, no) = self.nested(otherwise);
        assert_eq!(yes.len(), no.len(), "both sides of a conditional yield as many values");
        let results: Vec<Val> = yes.iter().map(|&v| self.fresh(self.ty(v))).collect();
        let yields =
            (0..yes.len()).map(|i| Yield { result: results[i], then: yes[i], otherwise: no[i] }).collect();
        self.push(Stmt::If { cond, then, otherwise, yields });
        results
    }
}
