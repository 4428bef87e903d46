//! Language 1: SSA over tensors.
//!
//! A [`Graph`] has a body [`Region`] of nodes in execution order. Each [`Value`] is defined once: as
//! a region's parameter, a node's result, a constant, or a state variable. Nested regions (of If,
//! Loop and Scan) see the values of the regions around them. Shapes are expressions over symbols;
//! the symbols of the inputs' shapes are the graph's dimensions and are given at each call.
//!
//! What always holds (and [`verify`] checks): operands are defined before use in the same or an
//! enclosing region; every node fits its row's schema; every value's type is what its row infers.

mod build;
pub mod derive;
pub mod eval;
pub mod infer;
mod known;
mod literal;
mod parse;
mod print;
pub mod sample;
mod verify;

pub use build::{Builder, operands};
pub use literal::{Files, MAX_GENERATED};
pub use parse::{parse, parse_with};
pub use print::{INLINE_ELEMENTS, Sink, print};
pub use verify::verify;

use crate::attr::Attrs;
use crate::expr::Expr;
use crate::ops::OpRow;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use bytes::Bytes;
use cranelift_entity::{PrimaryMap, entity_impl};
use std::sync::Arc;

/// A value of a graph. `Display` prints `%3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u32);
entity_impl!(Value, "%");

/// A node of a graph. `Display` prints `node3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u32);
entity_impl!(Node, "node");

/// A region of a graph. `Display` prints `region3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(u32);
entity_impl!(Region, "region");

/// A dataflow graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The name in the text form, without `@`.
    pub name: String,
    /// Every value ever made; those that nothing refers to are dead.
    pub values: PrimaryMap<Value, ValueData>,
    /// Every node ever made; those that stand in no region are dead.
    pub nodes: PrimaryMap<Node, NodeData>,
    /// Every region.
    pub regions: PrimaryMap<Region, RegionData>,
    /// The outermost region: its parameters are the inputs, its results the outputs.
    pub body: Region,
    /// The names of the outputs, in order.
    pub output_names: Vec<String>,
    /// State variables: their initial constants, and what they hold after a call.
    pub states: Vec<State>,
    /// How many symbols were made for sizes that depend on data. A copy of the graph goes on
    /// counting from here, so that types that it takes over never clash with new ones. The next
    /// one is this number after a `?`.
    pub fresh_symbols: u32,
}

/// A state variable: read as `value`, and set to `next` at the end of a call.
#[derive(Clone, Debug)]
pub struct State {
    /// Its value at the start of a call ([`Def::State`]).
    pub value: Value,
    /// Its value after the call.
    pub next: Value,
    /// Its value before the first call.
    pub init: Constant,
}

/// A value's facts.
#[derive(Clone, Debug)]
pub struct ValueData {
    /// A name from the model, for messages and the text form; may be empty.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Where it is defined.
    pub def: Def,
    /// The contents of a small integer (or bool) tensor as expressions, row-major, where they are
    /// known; its shape is then constant.
    pub known: Option<Arc<[Expr]>>,
}

/// Where a value is defined.
#[derive(Clone, Debug)]
pub enum Def {
    /// The region's parameter of that number.
    Param(Region, usize),
    /// The node's result of that number.
    Result(Node, usize),
    /// A constant.
    Const(Constant),
    /// The state variable of that number.
    State(usize),
}

/// A constant tensor of known shape, whose contents may stay in a mapped file.
#[derive(Clone, Debug)]
pub enum Constant {
    /// The contents, possibly a slice of a mapped file.
    Data(Tensor),
    /// Contents that are computed when they are asked for, so that a folded weight never has to be
    /// held: the op applied to constants. Has one result.
    Computed(Arc<Computed>),
}

/// An op applied to constants.
#[derive(Clone, Debug)]
pub struct Computed {
    /// The type of the result, with a constant shape.
    pub ty: TensorType,
    /// The op.
    pub op: &'static OpRow,
    /// Its attributes.
    pub attrs: Attrs,
    /// Its inputs.
    pub inputs: Vec<Option<Constant>>,
    /// Which of the op's results.
    pub output: usize,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeData {
    /// The name that the model gives it, for messages; may be empty.
    pub name: String,
    /// What it does.
    pub op: &'static OpRow,
    /// Its attributes, complete.
    pub attrs: Attrs,
    /// Its operands; an optional one may be absent.
    pub inputs: Vec<Option<Value>>,
    /// Its results.
    pub outputs: Vec<Value>,
    /// Its regions (If: then, else; Loop and Scan: body).
    pub regions: Vec<Region>,
}

/// A region.
#[derive(Clone, Debug, Default)]
pub struct RegionData {
    /// Its parameters.
    pub params: Vec<Value>,
    /// Its nodes in execution order.
    pub nodes: Vec<Node>,
    /// Its results.
    pub results: Vec<Value>,
}

impl Constant {
    /// Its type, with a constant shape.
    pub fn ty(&self) -> TensorType {
        match self {
            Constant::Data(t) => TensorType::new(t.dtype(), t.shape().iter().copied()),
            Constant::Computed(c) => c.ty.clone(),
        }
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Constant::Data(t) => t.bytes().len(),
            Constant::Computed(c) => {
                c.ty.static_shape().map_or(0, |s| s.iter().product::<usize>() * c.ty.dtype.bytes())
            }
        }
    }
}

impl From<Bytes> for Constant {
    fn from(b: Bytes) -> Constant {
        Constant::Data(Tensor::new(&[b.len()], &b))
    }
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        let mut regions = PrimaryMap::new();
        let body = regions.push(RegionData::default());
        Graph {
            name: name.to_owned(),
            values: PrimaryMap::new(),
            nodes: PrimaryMap::new(),
            regions,
            body,
            output_names: Vec::new(),
            states: Vec::new(),
            fresh_symbols: 0,
        }
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: &str, ty: impl Into<Type>) -> Value {
        self.add_param(self.body, name, ty)
    }

    /// Adds a parameter to a region.
    pub fn add_param(&mut self, region: Region, name: &str, ty: impl Into<Type>) -> Value {
        let def = Def::Param(region, self.regions[region].params.len());
        let v = self.values.push(ValueData { name: name.to_owned(), ty: ty.into(), def, known: None });
        self.regions[region].params.push(v);
        v
    }

    /// Adds a constant. The contents of a small integer one become known.
    pub fn add_constant(&mut self, name: &str, c: Constant) -> Value {
        let known = infer::known_contents(&c);
        let ty = c.ty().into();
        self.values.push(ValueData { name: name.to_owned(), ty, def: Def::Const(c), known })
    }

    /// Adds a state variable that keeps its value until [`Graph::states`]' `next` is changed.
    pub fn add_state(&mut self, name: &str, init: Constant) -> Value {
        let def = Def::State(self.states.len());
        let ty = init.ty().into();
        let value = self.values.push(ValueData { name: name.to_owned(), ty, def, known: None });
        self.states.push(State { value, next: value, init });
        value
    }

    /// Adds an output.
    pub fn add_output(&mut self, name: &str, value: Value) {
        self.regions[self.body].results.push(value);
        self.output_names.push(name.to_owned());
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Value] {
        &self.regions[self.body].params
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Value] {
        &self.regions[self.body].results
    }

    /// The tensor type of a value; `None` for sequences and optionals.
    pub fn tensor_type(&self, v: Value) -> Option<&TensorType> {
        self.values[v].ty.tensor()
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, v: Value) -> Option<&Constant> {
        match &self.values[v].def {
            Def::Const(c) => Some(c),
            _ => None,
        }
    }

    /// The node and number of result that a value is, if it is one.
    pub fn producer(&self, v: Value) -> Option<(Node, usize)> {
        match self.values[v].def {
            Def::Result(n, i) => Some((n, i)),
            _ => None,
        }
    }

    /// How messages name a node: `Conv "layer1.0"`.
    pub fn describe(&self, n: Node) -> String {
        let d = &self.nodes[n];
        if d.name.is_empty() { format!("{} {n}", d.op.name) } else { format!("{} \"{}\"", d.op.name, d.name) }
    }

    /// The symbols of the inputs' shapes, in order of first appearance: the dimensions that a call
    /// must give.
    pub fn dims(&self) -> Vec<crate::Symbol> {
        let mut out = Vec::new();
        for v in self.inputs() {
            for d in self.tensor_type(*v).into_iter().flat_map(|t| &t.shape) {
                for s in d.symbols() {
                    if !out.contains(&s) {
                        out.push(s);
                    }
                }
            }
        }
        out
    }
}
