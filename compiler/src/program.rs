//! A program: what the graph has become once it is lowered, scheduled and planned, and all that a
//! target needs to emit it. Blocks of steps, most of them calls of kernels, over buffers whose places
//! are known.
//!
//! Offsets and sizes are expressions over symbols: the entry's dimensions, the number of workers,
//! [`Program::lets`], which are evaluated in order at the start of a call, and those that steps set, each
//! before its first use.
//! Buffers that live in the arena at the same time never overlap, whatever the dimensions are. What has
//! a size that depends on data lies in a slot, for which memory is asked for during the run.

use crate::packing::Packing;
use burin_ir::graph::Constant;
use burin_ir::loops::Kernel;
use burin_ir::{DType, Expr, Symbol, Tensor, TensorType};

/// A compiled entry.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// The dimensions that a call gives.
    pub dims: Vec<Symbol>,
    /// Symbols defined by expressions over `dims`, [`Program::workers`] and earlier ones.
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
    /// The calls of kernels, in the order in which they stand in `blocks`.
    pub calls: Vec<Call>,
    /// The calls of functions of the host-op library.
    pub host_calls: Vec<HostCall>,
    /// The names of those functions, each once.
    pub host_ops: Vec<&'static str>,
    /// What the first numbers of texts stand for, the empty text first; none where no tensor has texts.
    pub texts: Vec<String>,
    /// What a run does: the first block, which refers to the others.
    pub blocks: Vec<Vec<Step>>,
    /// How many slots there are; the first ones are the outputs', whether they need one or not.
    pub slots: usize,
    /// Bytes of the arena without scratch.
    pub arena_bytes: Expr,
    /// Bytes of scratch for each worker, where its size does not depend on data.
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

impl Place {
    /// The place so many bytes further on.
    pub fn at(&self, bytes: &Expr) -> Place {
        let mut place = self.clone();
        match &mut place {
            Place::Input(_, e)
            | Place::Output(_, e)
            | Place::Slot(_, e)
            | Place::State(_, e)
            | Place::Weights(e)
            | Place::Arena(e)
            | Place::Scratch(e) => *e = &*e + bytes,
        }
        place
    }
}

impl Program {
    /// The symbol of the number of workers, which is set before all others but the dimensions.
    pub fn workers() -> Symbol {
        Symbol::new("?workers")
    }

    /// The symbols that steps set, in the order of the blocks.
    pub fn set_by_steps(&self) -> impl Iterator<Item = Symbol> {
        self.blocks.iter().flatten().filter_map(|s| match s {
            Step::Read(r) => Some(r.symbol),
            Step::Let(s, _) => Some(*s),
            Step::Loop(l) => Some(l.counter),
            Step::Call(_)
            | Step::Host(_)
            | Step::Check(_)
            | Step::Store(..)
            | Step::Alloc(..)
            | Step::If { .. } => None,
        })
    }

    /// Whether an output's size is known only after a run.
    pub fn unbounded(&self, output: usize) -> bool {
        let given = |s: &Symbol| self.dims.contains(s);
        self.outputs[output].ty.shape.iter().any(|d| !d.symbols().iter().all(given))
    }
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
    /// So many bytes into an input.
    Input(usize, Expr),
    /// So many bytes into an output (parts of it are assembled in place), whose size follows from the
    /// inputs' dimensions.
    Output(usize, Expr),
    /// So many bytes into a slot.
    Slot(usize, Expr),
    /// So many bytes into a state variable.
    State(usize, Expr),
    /// So many bytes into the weight segment.
    Weights(Expr),
    /// So many bytes into the arena.
    Arena(Expr),
    /// So many bytes into the worker's scratch.
    Scratch(Expr),
}

/// What a run does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Runs a kernel: a number in [`Program::calls`].
    Call(usize),
    /// Calls a function of the host-op library: a number in [`Program::host_calls`].
    Host(usize),
    /// Sets a symbol to an integer or bool element in memory.
    Read(Read),
    /// Sets a symbol to the value of an expression, which may not overflow.
    Let(Symbol, Expr),
    /// Refuses the call where an expression is below zero.
    Check(Check),
    /// Writes the value of an expression to memory, as an integer or bool element.
    Store(Expr, Place, DType),
    /// Asks for memory for a slot; what it held is lost.
    Alloc(usize, Expr),
    /// Runs one of two blocks.
    If {
        /// The first one runs where this is not zero.
        cond: Expr,
        /// The first one.
        then: usize,
        /// The other one.
        otherwise: usize,
    },
    /// Runs a block for each number from zero on.
    Loop(Loop),
}

/// An integer or bool element that becomes a symbol's value.
#[derive(Clone, Debug)]
pub struct Read {
    /// The symbol.
    pub symbol: Symbol,
    /// Where its tensor is.
    pub place: Place,
    /// How many bytes into it.
    pub offset: usize,
    /// Its type.
    pub dtype: DType,
}

/// Something that must be zero or above.
#[derive(Clone, Debug)]
pub struct Check {
    /// What.
    pub value: Expr,
    /// The node that wants it, in [`Program::nodes`].
    pub node: usize,
}

/// A loop of steps.
#[derive(Clone, Debug)]
pub struct Loop {
    /// The number of the iteration.
    pub counter: Symbol,
    /// Iterations are fewer than this, or as many.
    pub extent: Expr,
    /// There is no further one where this is zero.
    pub going: Option<Symbol>,
    /// The block.
    pub body: usize,
}

/// One call of a function of the host-op library.
#[derive(Clone, Debug)]
pub struct HostCall {
    /// The function, in [`Program::host_ops`].
    pub op: usize,
    /// Its inputs and then its outputs: where they are, and how many elements they have.
    pub args: Vec<(Place, Expr)>,
    /// The node, in [`Program::nodes`].
    pub node: usize,
}

/// One call of a kernel.
#[derive(Clone, Debug)]
pub struct Call {
    /// The kernel, in [`Program::kernels`].
    pub kernel: usize,
    /// A place for each of the kernel's buffers.
    pub args: Vec<Place>,
    /// A value for each of the kernel's dimensions.
    pub dims: Vec<Expr>,
    /// The number of tasks: the extent of the kernel's parallel loop, or 1 where it has none.
    pub tasks: Expr,
    /// Zero or above where it pays that threads share the tasks.
    pub shared: Expr,
    /// The bytes between the scratch of one worker and that of the next: all that one of them has. The
    /// arguments are worker 0's. A call of one task needs no other.
    pub scratch: Expr,
    /// The node that it ends with, in [`Program::nodes`].
    pub node: usize,
    /// Floating-point operations.
    pub flops: Expr,
    /// Bytes read and written, each buffer counted once.
    pub bytes: Expr,
}
