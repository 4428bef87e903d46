//! Language 2: a kernel is a structured loop nest over flat buffers.
//!
//! Values are in SSA form: each [`Val`] is defined once, by a [`Stmt::Let`], as the result or the
//! carried parameter of a loop, or as the result of a conditional, and is visible from there to the
//! end of the enclosing block. Values are scalars or vectors of any width. Loop variables and the
//! kernel's dimensions are [`Symbol`]s, and every bound, stride and index is an [`Expr`] over them.
//!
//! An index counts elements from the buffer's start; every access must be in bounds, which the
//! interpreter checks and compiled code relies on. Buffers of one call do not overlap, with one
//! exception: a written buffer may be the memory of a read one if each element of it is read only
//! to compute the element that is then written there.
//!
//! A kernel's parallel loop may only stand outermost (it is the kernel's whole body); its
//! iterations may run in any order and at once, so they must not write what another one touches
//! (but two of them may write the same values to elements that none reads).

pub mod build;
pub mod interp;
mod parse;
mod print;
mod verify;

pub use build::Builder;
pub use parse::parse;
pub use verify::verify;

use crate::dtype::DType;
use crate::element::ReduceOp;
use crate::expr::Expr;
use crate::scalar::ScalarOp;
use crate::symbol::Symbol;
use cranelift_entity::{PrimaryMap, entity_impl};

/// A value of a kernel. `Display` prints `%3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Val(u32);
entity_impl!(Val, "%");

/// A buffer of a kernel. `Display` prints `buf3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buf(u32);
entity_impl!(Buf, "buf");

/// The type of a value: an element type and a number of lanes, 1 for a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ValType {
    /// The element type.
    pub dtype: DType,
    /// The number of lanes.
    pub lanes: u16,
}

impl ValType {
    /// A scalar.
    pub const fn scalar(dtype: DType) -> ValType {
        ValType { dtype, lanes: 1 }
    }

    /// A vector.
    pub const fn vector(dtype: DType, lanes: u16) -> ValType {
        ValType { dtype, lanes }
    }
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Only reads it.
    Read,
    /// Only writes it; what it held before is not used.
    Write,
    /// Reads and writes it.
    Update,
    /// Private to one worker, of undefined contents at the start of each task.
    Scratch,
}

/// A buffer parameter.
#[derive(Clone, Debug)]
pub struct BufferDecl {
    /// The name in the text form, without `%`.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The number of elements, over the kernel's dimensions.
    pub len: Expr,
    /// What the kernel does with it.
    pub access: Access,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The name in the text form, without `@`.
    pub name: String,
    /// Integers that every call gives, in order, within their [`Symbol::range`].
    pub dims: Vec<Symbol>,
    /// The buffers, in the order of the arguments.
    pub buffers: PrimaryMap<Buf, BufferDecl>,
    /// The type of every value.
    pub values: PrimaryMap<Val, ValType>,
    /// The statements.
    pub body: Block,
}

/// Statements in order.
pub type Block = Vec<Stmt>;

/// How a loop runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoopKind {
    /// One iteration after another.
    Serial,
    /// Iterations are tasks: any order, any worker.
    Parallel,
}

/// A loop-carried value.
#[derive(Clone, Copy, Debug)]
pub struct Carry {
    /// Its value before the first iteration; defined outside.
    pub init: Val,
    /// Its value inside an iteration.
    pub param: Val,
    /// Its value after an iteration; defined in the body.
    pub next: Val,
    /// Its value after the last iteration.
    pub result: Val,
}

/// `for var in 0..extent`, in steps of one. An extent of zero or less runs no iteration.
#[derive(Clone, Debug)]
pub struct Loop {
    /// The variable.
    pub var: Symbol,
    /// The number of iterations.
    pub extent: Expr,
    /// How it runs.
    pub kind: LoopKind,
    /// Values carried from one iteration to the next; none in a parallel loop.
    pub carries: Vec<Carry>,
    /// The statements of one iteration.
    pub body: Block,
}

/// A value that a conditional yields.
#[derive(Clone, Copy, Debug)]
pub struct Yield {
    /// The value of the conditional.
    pub result: Val,
    /// Its value where the condition holds.
    pub then: Val,
    /// Its value elsewhere.
    pub otherwise: Val,
}

/// A statement.
#[derive(Clone, Debug)]
pub enum Stmt {
    /// Defines a value.
    Let(Val, Op),
    /// Gives a symbol to an integer scalar computed from data, for use in indices.
    Bind(Symbol, Val),
    /// A loop.
    For(Loop),
    /// Runs `then` where every expression is zero or above, else `otherwise`.
    If {
        /// All of these are `>= 0`.
        cond: Vec<Expr>,
        /// Where they are.
        then: Block,
        /// Where one is not.
        otherwise: Block,
        /// The values that it yields.
        yields: Vec<Yield>,
    },
    /// Writes a value; lane `l` goes to `index + l * stride`.
    Store {
        /// Where to.
        buffer: Buf,
        /// The first lane's index.
        index: Expr,
        /// Between lanes; 1 for a scalar.
        stride: Expr,
        /// What.
        value: Val,
    },
    /// A hint that elements from this one on will soon be read. The index may lie outside the buffer.
    Prefetch {
        /// Where from.
        buffer: Buf,
        /// The element's index.
        index: Expr,
    },
}

/// How a value is computed.
#[derive(Clone, Debug)]
pub enum Op {
    /// A constant in every lane: the bits of the element type, in the low end.
    Const(u64),
    /// An index expression, as an `i64` scalar.
    Index(Expr),
    /// `base + lane * step`, as a vector of `i64`.
    Ramp(Expr, Expr),
    /// A scalar operation, lane by lane; operands have the result's number of lanes.
    Scalar(ScalarOp, Vec<Val>),
    /// A scalar in every lane.
    Splat(Val),
    /// Elements of a buffer; lane `l` comes from `index + l * stride`.
    Load {
        /// Where from.
        buffer: Buf,
        /// The first lane's index.
        index: Expr,
        /// Between lanes; 1 for a scalar.
        stride: Expr,
    },
    /// Elements of a buffer at `i64` indices given lane by lane.
    Gather(Buf, Val),
    /// All lanes combined into a scalar: halves pairwise until one lane is left (lane `l` with
    /// lane `l + n / 2`), so that the result does not depend on the target.
    Fold(ReduceOp, Val),
    /// One lane, as a scalar.
    Lane(Val, u16),
}
