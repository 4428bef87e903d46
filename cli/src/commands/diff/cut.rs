//! Nodes cut out of a graph as a graph of their own, and the code of such graphs.
//!
//! What the nodes take from outside has the shapes that it has at hand, so that a cut has no
//! symbolic dimensions. Cuts that print alike are compiled once.

use crate::backend::{Backend, Runner};
use crate::failure::Failure;
use burin_ir::graph::{self, Builder, Constant, Graph, Node, Value};
use burin_ir::{Tensor, TensorType};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Larger operands are data, not parameters.
const MAX_PARAMETER: usize = 1024;

/// A graph of some nodes alone, and what they take from outside as its inputs.
pub(super) struct Cut {
    pub(super) graph: Graph,
    pub(super) inputs: Vec<Tensor>,
}

/// What is cut out of a graph.
pub(super) struct Piece<'a> {
    pub(super) of: &'a Graph,
    /// In execution order.
    pub(super) nodes: &'a [Node],
    /// The values that leave.
    pub(super) results: &'a [Value],
    /// What every operand from outside holds.
    pub(super) tensors: &'a HashMap<Value, Tensor>,
    /// Whether constants of one element stay constants, as they are in kernels. Otherwise the float
    /// ones become inputs, so that more nodes are alike.
    pub(super) scalars: bool,
}

impl Piece<'_> {
    /// Cuts it out. Small integer operands that the model knows are constants; with `fixed` all small
    /// integer operands and all small constants are.
    fn cut(&self, fixed: bool) -> Result<Cut, String> {
        let mut graph = Graph::new("diff");
        let mut inputs = Vec::new();
        let mut map: HashMap<Value, Value> = HashMap::new();
        for node in self.nodes {
            let data = &self.of.nodes[*node];
            for v in data.inputs.iter().flatten() {
                if map.contains_key(v) {
                    continue;
                }
                let t = self.tensors.get(v).ok_or_else(|| format!("nothing is known of {v}"))?;
                let operand = if self.is_known(*v, t, fixed) {
                    graph.add_constant("", Constant::Data(t.clone()))
                } else {
                    inputs.push(t.clone());
                    let ty = TensorType::new(t.dtype(), t.shape().iter().copied());
                    graph.add_input(&format!("x{}", inputs.len() - 1), ty)
                };
                map.insert(*v, operand);
            }
            let operands = data.inputs.iter().map(|v| v.map(|v| map[&v])).collect();
            let attrs = data.attrs.0.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
            let outputs = data.outputs.len();
            let new = Builder::new(&mut graph).node(data.op, "", operands, attrs, outputs, Vec::new())?;
            map.extend(data.outputs.iter().copied().zip(graph.nodes[new].outputs.iter().copied()));
        }
        for (i, v) in self.results.iter().enumerate() {
            graph.add_output(&format!("y{i}"), map[v]);
        }
        Ok(Cut { graph, inputs })
    }

    fn is_known(&self, v: Value, t: &Tensor, fixed: bool) -> bool {
        let constant = self.of.constant(v).is_some();
        let known = match t.dtype().is_float() {
            true => fixed && constant,
            false => fixed || constant || self.of.values[v].known.is_some(),
        };
        known && t.len() <= MAX_PARAMETER || self.scalars && constant && t.len() == 1
    }

    /// Cuts it out and runs it, making more operands known where it cannot be compiled otherwise:
    /// what the compiler must know may come from data here.
    pub(super) fn run(&self, run: Run<'_>) -> Result<(Cut, Vec<Tensor>), Failure> {
        let mut attempt = |fixed| {
            let cut = self.cut(fixed)?;
            let found = run(&cut)?;
            Ok((cut, found))
        };
        match attempt(false) {
            // A failure of the second attempt is told by the first one's reason.
            Err(Failure::Input(reason)) => attempt(true).map_err(|second| match second {
                Failure::Input(_) => Failure::Input(reason),
                other => other,
            }),
            other => other,
        }
    }
}

/// Runs compiled code of a cut.
pub(super) type Run<'a> = &'a mut dyn FnMut(&Cut) -> Result<Vec<Tensor>, Failure>;

/// Compiled cuts by their text; why there is none where the compiler refused.
#[derive(Default)]
pub(super) struct Codes(HashMap<String, Result<Runner, String>>);

impl Codes {
    /// Compiles a cut, unless one like it was compiled before, and runs it.
    pub(super) fn run(&mut self, cut: &Cut) -> Result<Vec<Tensor>, Failure> {
        let runner = match self.0.entry(text(&cut.graph, &mut Vec::new())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Runner::new(cut.graph.clone(), Backend::Jit, 1) {
                Err(Failure::Bug(m)) => return Err(Failure::Bug(m)),
                other => place.insert(other.map_err(|e| e.message().to_owned())),
            },
        };
        let runner = runner.as_mut().map_err(|e| Failure::Input(e.clone()))?;
        runner.run(&cut.inputs, &HashMap::new(), None)
    }

    /// How many differ.
    pub(super) fn distinct(&self) -> usize {
        self.0.len()
    }
}

/// Stands for the name of the file of constants.
pub(super) const WEIGHTS: &str = "diff.weights";

/// A graph's text; large constants go to `weights`, which the text calls [`WEIGHTS`].
pub(super) fn text(graph: &Graph, weights: &mut Vec<u8>) -> String {
    graph::print(graph, &mut |_, c| {
        let at = weights.len() as u64;
        if let Ok(t) = c.materialise() {
            weights.extend_from_slice(t.bytes());
        }
        (WEIGHTS.to_owned(), at)
    })
}
