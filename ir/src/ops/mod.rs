//! The op rows: everything that is to be said of an op stands in its row, and nowhere else.
//!
//! A family of ops is one file with a `ROWS` table; [`FAMILIES`] lists them. `ARCHITECTURE.md` has
//! the recipe for adding one.

pub mod activation;
pub mod attention;
mod axes;
pub mod choose;
mod compose;
pub mod contract;
pub mod control;
pub mod conv;
pub mod conv_transpose;
pub mod convert;
pub mod decode;
pub mod deform;
pub mod det;
pub mod einsum;
pub mod fourier;
mod gradient;
pub mod grid;
pub mod image;
pub mod index;
pub mod integer;
mod interpolate;
pub mod inverse;
pub mod loss;
pub mod ml;
pub mod movement;
pub mod ngrams;
pub mod norm;
pub mod optimizer;
pub mod pointwise;
pub mod pool;
pub mod procedure;
pub mod put;
pub mod qlinear;
pub mod quads;
pub mod quantize;
pub mod random;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod rnn;
pub mod roi;
pub mod rotary;
pub mod rules;
pub mod scatter;
pub mod shape;
pub mod signal;
pub mod slice;
pub mod softmax;
pub mod sort;
pub mod suppress;
#[cfg(test)]
mod tests;
pub mod texts;
pub mod unique;
mod window;
pub mod winograd;

pub use procedure::{Procedure, ProcedureFn};
pub use window::constant_pads;

use crate::attr::AttrSpec;
use crate::element::{self, Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;
use crate::types::TensorType;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// Every family's rows.
#[rustfmt::skip]
pub const FAMILIES: &[&[OpRow]] = &[
    activation::ROWS,
    attention::ROWS,
    rotary::ROWS,
    recurrent::ROWS,
    loss::ROWS,
    random::ROWS,
    optimizer::ROWS,
    inverse::ROWS,
    convert::ROWS,
    norm::ROWS,
    pointwise::ROWS,
    reduce::ROWS,
    softmax::ROWS,
    contract::ROWS,
    einsum::ROWS,
    conv::ROWS,
    conv_transpose::ROWS,
    winograd::ROWS,
    pool::ROWS,
    quantize::ROWS,
    integer::ROWS,
    qlinear::ROWS,
    quads::ROWS,
    shape::ROWS,
    movement::ROWS,
    slice::ROWS,
    index::ROWS,
    scatter::ROWS,
    put::ROWS,
    choose::ROWS,
    sort::ROWS,
    unique::ROWS,
    suppress::ROWS,
    det::ROWS,
    resize::ROWS,
    control::ROWS,
    rnn::ROWS,
    grid::ROWS,
    roi::ROWS,
    deform::ROWS,
    image::ROWS,
    signal::ROWS,
    fourier::ROWS,
    texts::ROWS,
    ngrams::ROWS,
    decode::ROWS,
    ml::features::ROWS,
    ml::linear::ROWS,
    ml::svm::ROWS,
    ml::trees::ROWS,
];

/// Everything that is to be said of an op. Make one with [`OpRow::new`] and the `with` methods'
/// struct update: `OpRow { samples: &[..], ..OpRow::new(..) }`.
pub struct OpRow {
    /// The name in the text form; ONNX's, where ONNX has the op.
    pub name: &'static str,
    /// The ONNX domain (empty for `ai.onnx`) and the first opset version whose schema is this
    /// row's. Older versions are rewritten by the importer. `None`: the op is Burin's own.
    pub onnx: Option<(&'static str, i64)>,
    /// Inputs by name; see [`Port`].
    pub inputs: &'static [Port],
    /// The least and the greatest number of results.
    pub outputs: (usize, usize),
    /// The attribute schema.
    pub attrs: &'static [AttrSpec],
    /// The type rule: the results' types from the operands' types and known contents. `Cx::outputs`
    /// results are expected.
    pub infer: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    /// What the op computes.
    pub meaning: Meaning,
    /// Overrides the evaluation that derives from `meaning`.
    pub eval: Option<EvalFn>,
    /// Builds the derivative. Absent where it derives from `meaning` or there is none.
    pub grad: Option<GradFn>,
    /// Whether the result holds the first operand's elements in the same row-major order, under
    /// another shape: compiled code then needs no copy. Only for [`Meaning::Movement`].
    pub view: bool,
    /// What must be zero or above besides what follows from the meaning: see [`OpRow::requirements`].
    pub checks: Option<ChecksFn>,
    /// For a row that is no composite: a sub-graph that computes the same where floats that are known only
    /// in a run bear on types. It makes integers of them, which can be read. `None` for other operands.
    pub open: Option<BuildFn>,
    /// What it does besides computing its results.
    pub effect: Effect,
    /// How many regions a node has.
    pub regions: usize,
    /// Error bound against the evaluator, in ULPs of the result (pointwise ops) or, for reductions
    /// and contractions, in multiples of `u * sum(|terms|)`.
    pub tolerance: Tolerance,
    /// Sample nodes for the matrix test, in the text form of [`crate::graph::sample`].
    pub samples: &'static [&'static str],
}

/// An input of a row's schema.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// ONNX's name.
    pub name: &'static str,
    /// Whether it may be absent, or repeats.
    pub arity: Arity,
    /// Whether its contents bear on types, or on where elements lie: where they depend on data, they
    /// are given names ([`shape`]'s `Read`).
    pub known: bool,
}

impl Port {
    /// The input as one whose contents bear on types, or on where elements lie.
    pub const fn known(self) -> Port {
        Port { known: true, ..self }
    }
}

/// How often an input stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arity {
    /// Once.
    One,
    /// Once or not at all.
    Optional,
    /// As often as one likes, at least once; only for the last.
    Many,
    /// The same, or not at all.
    Any,
}

/// An input that must be there.
pub const fn one(name: &'static str) -> Port {
    Port { name, arity: Arity::One, known: false }
}

/// An input that may be absent.
pub const fn opt(name: &'static str) -> Port {
    Port { name, arity: Arity::Optional, known: false }
}

/// An input that repeats.
pub const fn many(name: &'static str) -> Port {
    Port { name, arity: Arity::Many, known: false }
}

/// An input that repeats or may be absent.
pub const fn any(name: &'static str) -> Port {
    Port { name, arity: Arity::Any, known: false }
}

/// Operands with contents, as `eval` sees them.
pub struct EvalCx<'a> {
    /// The node, with the operands' concrete types and contents.
    pub cx: &'a Cx<'a>,
    /// The operands; trailing absent ones may be missing.
    pub inputs: &'a [Option<Tensor>],
    /// The results' types as inferred from the concrete operands; a size that depends on data is
    /// a symbol here.
    pub outputs: &'a [TensorType],
    /// Evaluates the node's region of that number with the given parameters, and gives its results.
    pub region: RegionFn<'a>,
}

/// Evaluates a region of the node at hand.
pub type RegionFn<'a> = &'a dyn Fn(usize, &[Tensor]) -> Result<Vec<Tensor>, String>;

impl EvalCx<'_> {
    /// An operand that must be there (the schema was checked before).
    ///
    /// # Panics
    /// If it is absent.
    pub fn input(&self, i: usize) -> &Tensor {
        self.get(i).unwrap_or_else(|| panic!("{} input {i} is absent", self.cx.op.name))
    }

    /// An operand, if present.
    pub fn get(&self, i: usize) -> Option<&Tensor> {
        self.inputs.get(i).and_then(Option::as_ref)
    }
}

/// Reference semantics: naive, accumulating in `f64` and rounding once.
pub type EvalFn = fn(&EvalCx<'_>) -> Result<Vec<Tensor>, String>;
/// One element of a result (of the number given) from the operands' elements.
pub type ElementFn = fn(&Cx<'_>, usize) -> Result<Element, String>;
/// Builds a sub-graph; `None` declines, and then the row must say more.
pub type BuildFn = fn(&Cx<'_>, &mut Builder<'_>, &[Option<Value>]) -> Result<Option<Vec<Value>>, String>;
/// What must be zero or above.
pub type ChecksFn = fn(&Cx<'_>) -> Result<Vec<Expr>, String>;
/// Builds a derivative: the operands' gradients, each of the shape of its operand or of one that it was
/// broadcast to.
pub type GradFn = fn(&GradCx<'_>, &mut Builder<'_>) -> Result<Vec<Option<Value>>, String>;

/// A node, as its derivative sees it.
pub struct GradCx<'a> {
    /// The node.
    pub cx: &'a Cx<'a>,
    /// The operands.
    pub inputs: &'a [Option<Value>],
    /// The results.
    pub results: &'a [Value],
    /// The results' gradients, where they have any.
    pub given: &'a [Option<Value>],
}

/// What an op computes.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// Each element of the one result from the elements at the same (broadcast) position of the
    /// operands. The terms given are those elements, one for each operand that is present, in
    /// order; the term returned has the result's type.
    /// Evaluation, gradient, symbolic contents and loops derive from it.
    Pointwise(fn(&Cx<'_>, &[Term]) -> Term),
    /// Each element of a result is an element of an operand (or a fill value), found by index
    /// arithmetic. Evaluation, symbolic contents and loops derive from it.
    Movement(ElementFn),
    /// A sub-graph of other ops. Evaluation (in `f64`) and loops derive from it.
    Composite(BuildFn),
    /// Reference semantics (in `OpRow::eval`) and how it is compiled.
    Primitive(Lower),
}

/// How a primitive is compiled.
#[derive(Clone, Copy)]
pub enum Lower {
    /// From the definition of one element.
    Element(ElementFn),
    /// By running the node's regions: the op is one that the lowering of control flow knows.
    Regions,
    /// By a kernel of the loop language that the row gives.
    Procedure(ProcedureFn),
    /// By such a kernel that changes the elements of the first operand into those of the one result,
    /// which has its type.
    Update(ProcedureFn),
    /// By the function of the row's name in the host-op library, over flat tensors. It takes as many of the
    /// first operands as it has inputs; what follows them says the sizes of results.
    Host,
}

/// What an op does besides computing its results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: equal operands give equal results.
    Pure,
    /// It draws random numbers.
    Random,
    /// It calls the host-op library.
    Host,
}

/// How far compiled code may be from the evaluator.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tolerance {
    /// Not at all, for any type.
    Exact,
    /// By so many ULPs of the result for floats, or of [`least_ulp`](crate::compare::least_ulp) where those are
    /// less; integers are exact.
    Ulps(u32),
    /// By `c * u * sum(|terms|)`, where the evaluator is run on absolute values to get the sum.
    Sum(f64),
    /// By `c * u` times the largest of all such sums, of the first operand, and of those of the result's
    /// shape: where a mean or a step is subtracted, or operands are positions, absolute values say nothing of
    /// one element's terms.
    Largest(f64),
    /// The same, or by `c * u` where that is more: `1 - z` has terms of 1, however little comes of it.
    LargestOrOne(f64),
    /// By `c * u` times the product of the lengths of a matrix's rows, which no determinant exceeds
    /// (Hadamard), however much cancels in it.
    RowLengths(f64),
}

impl OpRow {
    /// A pure op with one result and no attributes, exact, without samples.
    pub const fn new(
        name: &'static str,
        onnx: Option<(&'static str, i64)>,
        inputs: &'static [Port],
        infer: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
        meaning: Meaning,
    ) -> OpRow {
        OpRow {
            name,
            onnx,
            inputs,
            outputs: (1, 1),
            attrs: &[],
            infer,
            meaning,
            eval: None,
            grad: None,
            view: false,
            checks: None,
            open: None,
            effect: Effect::Pure,
            regions: 0,
            tolerance: Tolerance::Exact,
            samples: &[],
        }
    }
}

impl OpRow {
    /// What builds a sub-graph for a node, if anything does.
    pub fn body(&self) -> Option<BuildFn> {
        match self.meaning {
            Meaning::Composite(build) => Some(build),
            _ => self.open,
        }
    }

    /// What must be zero or above: a call in which one is not is refused.
    pub fn requirements(&self, cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
        let mut all = self.checks.map_or_else(|| Ok(Vec::new()), |f| f(cx))?;
        if let Meaning::Pointwise(_) = self.meaning {
            let to = rules::broadcast(cx)?;
            for i in (0..cx.inputs.len()).filter(|i| cx.has(*i)) {
                all.extend(rules::broadcasts(cx.shape(i)?, &to));
            }
        }
        Ok(all)
    }

    /// The definition of one element of a result of that type, for a row that has one: from its
    /// meaning, or for a pointwise row from the broadcast of its operands.
    pub fn element(&self, cx: &Cx<'_>, output: usize, ty: &TensorType) -> Option<Result<Element, String>> {
        match self.meaning {
            Meaning::Movement(f) | Meaning::Primitive(Lower::Element(f)) => Some(f(cx, output)),
            Meaning::Pointwise(f) => Some(pointwise_element(cx, f, ty)),
            Meaning::Composite(_)
            | Meaning::Primitive(Lower::Procedure(_) | Lower::Update(_) | Lower::Regions | Lower::Host) => {
                None
            }
        }
    }
}

fn pointwise_element(
    cx: &Cx<'_>,
    f: fn(&Cx<'_>, &[Term]) -> Term,
    ty: &TensorType,
) -> Result<Element, String> {
    let axes = element::axes(ty.rank());
    let index: Vec<Expr> = axes.iter().map(|a| (*a).into()).collect();
    let mut terms = Vec::new();
    for i in (0..cx.inputs.len()).filter(|i| cx.has(*i)) {
        let from = cx.ty(i)?;
        if from.rank() > ty.rank() {
            return Err(format!("input {i} {from} does not broadcast to {ty}"));
        }
        terms.push(Term::load(from.dtype, i, rules::broadcast_index(&from.shape, &ty.shape, &index)));
    }
    Ok(Element { axes, body: f(cx, &terms) })
}

/// Rows are compared by name, which is unique.
impl PartialEq for OpRow {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for OpRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every row.
pub fn all() -> impl Iterator<Item = &'static OpRow> {
    FAMILIES.iter().flat_map(|f| f.iter())
}

/// The row of that name.
pub fn by_name(name: &str) -> Option<&'static OpRow> {
    static INDEX: LazyLock<HashMap<&str, &OpRow>> = LazyLock::new(|| all().map(|r| (r.name, r)).collect());
    INDEX.get(name).copied()
}
