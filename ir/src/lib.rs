//! What Burin's programs mean: two languages, each with a text form, a verifier and an interpreter,
//! and the rows that say what every op is.
//!
//! - [`graph`]: language 1, SSA over tensors with symbolic shapes.
//! - [`loops`]: language 2, one kernel as a loop nest over flat buffers.
//! - [`compare`]: how far results may be apart, and how far they are.
//! - [`ops`]: one row for each op.
//! - [`element`]: how a row says what one element of its result is; the bridge between the two.
//! - [`strings`]: what elements that are texts stand for.
//! - [`expr`] (with [`index`]), [`scalar`]: the integer and the scalar algebra that both languages share.
//!
//! Nothing here performs I/O, and nothing here is fast on purpose: the evaluator and the loop
//! interpreter are the oracles that compiled code is held against.
#![forbid(unsafe_code)]

pub mod attr;
pub mod compare;
pub mod dtype;
pub mod element;
pub mod expr;
pub mod graph;
pub mod index;
mod intern;
pub mod loops;
pub mod minifloat;
pub mod ops;
pub mod random;
pub mod scalar;
pub mod strings;
pub mod symbol;
pub mod tensor;
pub mod text;
pub mod types;

pub use attr::{Attr, Attrs};
pub use dtype::DType;
pub use element::{Element, ReduceOp, Term, TermKind};
pub use expr::{Expr, Range};
pub use scalar::{Scalar, ScalarOp};
pub use symbol::Symbol;
pub use tensor::Tensor;
pub use types::{TensorType, Type};
