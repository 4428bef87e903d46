//! A program: what the graph has become once it is lowered, scheduled and planned, and all that a
//! target needs to emit it. A list of kernel calls over buffers whose places are known.
//!
//! Offsets and sizes are expressions over the entry's dimensions and over [`Program::lets`], which
//! are evaluated in order at the start of a call. Buffers that live in the arena at the same time
//! never overlap, whatever the dimensions are.

use crate::packing::Packing;
use burin_ir::graph::Constant;
use burin_ir::loops::Kernel;
use burin_ir::{Expr, Symbol, Tensor, TensorType};

/// A compiled entry.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// The dimensions that a call gives.
    pub dims: Vec<Symbol>,
    /// Symbols defined by expressions over `dims` and earlier ones.
    pub lets: Vec<(Symbol, Expr)>,
    /// What goes in.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
    /// State variables, with the weight that holds their initial value.
    pub states: Vec<(Port, usize)>,
    /// Constants, at their places in the weight segment.
    pub weights: Vec<Weight>,
    /// Bytes of the weight segment.
    pub weight_bytes: u64,
    /// Distinct kernels.
    pub kernels: Vec<Kernel>,
    /// The calls, in order.
    pub steps: Vec<Step>,
    /// Bytes of the arena without scratch.
    pub arena_bytes: Expr,
    /// Bytes of scratch for each worker.
    pub scratch_bytes: Expr,
    /// The names of the graph's nodes, for messages.
    pub nodes: Vec<String>,
}

/// A tensor that goes in, out, or stays.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
}

/// A constant in the weight segment.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Its contents.
    pub constant: Constant,
    /// Its offset in bytes.
    pub offset: u64,
    /// Where its elements go; `None`: row-major.
    pub packing: Option<Packing>,
}

impl Weight {
    /// Its size in the segment.
    pub fn bytes(&self) -> usize {
        let ty = self.constant.ty();
        self.packing.as_ref().map_or_else(|| self.constant.bytes(), |p| p.len * ty.dtype.bytes())
    }

    /// Its contents as they lie in the segment.
    pub fn contents(&self) -> Result<Tensor, String> {
        let plain = match &self.constant {
            Constant::Data(t) => t.clone(),
            computed => computed.materialise()?,
        };
        let Some(packing) = &self.packing else { return Ok(plain) };
        Tensor::from_bytes(plain.dtype(), vec![packing.len], packing.apply(&plain).into())
    }
}

/// Where a buffer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// An input.
    Input(usize),
    /// So many bytes into an output (parts of it are assembled in place).
    Output(usize, Expr),
    /// A state variable.
    State(usize),
    /// So many bytes into the weight segment.
    Weights(u64),
    /// So many bytes into the arena.
    Arena(Expr),
    /// So many bytes into the worker's scratch.
    Scratch(Expr),
}

/// One call of a kernel.
#[derive(Clone, Debug)]
pub struct Step {
    /// The kernel, in [`Program::kernels`].
    pub kernel: usize,
    /// A place for each of the kernel's buffers.
    pub args: Vec<Place>,
    /// A value for each of the kernel's dimensions.
    pub dims: Vec<Expr>,
    /// The number of tasks: the extent of the kernel's parallel loop, or 1 where it has none.
    pub tasks: Expr,
    /// The node that it ends with, in [`Program::nodes`].
    pub node: usize,
    /// Floating-point operations.
    pub flops: Expr,
    /// Bytes read and written, each buffer counted once.
    pub bytes: Expr,
}
