//! The naive evaluator of graphs: the oracle that compiled code is held against.
//!
//! Each node is evaluated from its row alone: the row's type rule on the concrete operands, and then
//! the row's `eval` or what derives from its meaning. Floats are computed in `f64` and rounded once
//! for each node. What a node gives is checked against its inferred type, and tensors are dropped
//! after their last use.

mod dims;
mod element;
mod host;
mod node;

pub use dims::bind_dims;
pub use element::eval_element;
pub use node::{Operation, composite_body, eval_op};

use crate::graph::{Constant, Def, Graph, Node, Region, Value};
use crate::tensor::Tensor;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Why a graph could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// The node as messages name it, or the input that does not fit.
    pub place: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for EvalError {}

/// What a call gives.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The graph's outputs, in order.
    pub outputs: Vec<Tensor>,
    /// The state variables after the call, in order.
    pub states: Vec<Tensor>,
}

/// A node that has just been evaluated. Nodes of regions come as often as they run.
pub struct Event<'a> {
    /// The node.
    pub node: Node,
    /// Its operands, as the node lists them.
    pub inputs: &'a [Option<Tensor>],
    /// Its results, as the node lists them.
    pub outputs: &'a [Tensor],
}

/// What is called after each node.
pub type Hook<'a> = &'a mut dyn FnMut(&Event<'_>);

/// Evaluates a graph. `states` are the state variables' values; where there are none, they start
/// from their initial constants.
pub fn eval(graph: &Graph, inputs: &[Tensor], states: &[Tensor]) -> Result<Outputs, EvalError> {
    eval_with(graph, inputs, states, &mut |_| ())
}

/// [`eval`] with a hook that is called after each node.
pub fn eval_with(
    graph: &Graph,
    inputs: &[Tensor],
    states: &[Tensor],
    hook: Hook<'_>,
) -> Result<Outputs, EvalError> {
    bind_dims(graph, inputs)?;
    let states = starting_states(graph, states)?;
    let walk = Walk { graph, states: &states, hook: RefCell::new(hook), uses: RefCell::default() };
    let extra: Vec<Value> = graph.states.iter().map(|s| s.next).collect();
    let mut results = walk.region(graph.body, inputs, &extra, None)?;
    let states = results.split_off(graph.outputs().len());
    Ok(Outputs { outputs: results, states })
}

fn starting_states(graph: &Graph, given: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let error = |i: usize, message| {
        let name = &graph.values[graph.states[i].value].name;
        EvalError { place: format!("state {i} \"{name}\""), message }
    };
    if given.is_empty() {
        let init = |(i, s): (usize, &crate::graph::State)| s.init.materialise().map_err(|e| error(i, e));
        return graph.states.iter().enumerate().map(init).collect();
    }
    if given.len() != graph.states.len() {
        let message = format!("expected {} state variables, found {}", graph.states.len(), given.len());
        return Err(EvalError { place: format!("graph @{}", graph.name), message });
    }
    for (i, (state, t)) in graph.states.iter().zip(given).enumerate() {
        let ty = state.init.ty();
        if ty.dtype != t.dtype() || ty.static_shape().as_deref() != Some(t.shape()) {
            return Err(error(i, format!("found {t:?}, expected {ty}")));
        }
    }
    Ok(given.to_vec())
}

/// What a region's nodes see: its own values, and those of the regions around it.
struct Scope<'a> {
    values: HashMap<Value, Tensor>,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn get(&self, v: Value) -> Option<&Tensor> {
        self.values.get(&v).or_else(|| self.outer?.get(v))
    }
}

/// For each node of a region, the values of that region that nothing after it uses.
type LastUses = HashMap<Node, Vec<Value>>;

struct Walk<'a, 'h> {
    graph: &'a Graph,
    states: &'a [Tensor],
    hook: RefCell<Hook<'h>>,
    uses: RefCell<HashMap<Region, std::rc::Rc<LastUses>>>,
}

impl Walk<'_, '_> {
    /// The region's results, followed by the values of `extra`.
    fn region(
        &self,
        region: Region,
        params: &[Tensor],
        extra: &[Value],
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<Tensor>, EvalError> {
        let data = &self.graph.regions[region];
        if data.params.len() != params.len() {
            let message = format!("{region} takes {} values, found {}", data.params.len(), params.len());
            return Err(EvalError { place: format!("graph @{}", self.graph.name), message });
        }
        let values = data.params.iter().copied().zip(params.iter().cloned()).collect();
        let mut scope = Scope { values, outer };
        let last =
            self.uses.borrow_mut().entry(region).or_insert_with(|| self.last_uses(region, extra)).clone();
        for node in &data.nodes {
            let outputs = self.node(*node, &scope)?;
            scope.values.extend(self.graph.nodes[*node].outputs.iter().copied().zip(outputs));
            for v in last.get(node).into_iter().flatten() {
                scope.values.remove(v);
            }
        }
        let fetch = |v: &Value| {
            self.value(*v, &scope).map_err(|message| EvalError { place: format!("result {v}"), message })
        };
        data.results.iter().chain(extra).map(fetch).collect()
    }

    fn node(&self, node: Node, scope: &Scope<'_>) -> Result<Vec<Tensor>, EvalError> {
        let data = &self.graph.nodes[node];
        let error = |message| EvalError { place: self.graph.describe(node), message };
        let operand = |v: &Option<Value>| v.map(|v| self.value(v, scope)).transpose();
        let inputs: Vec<Option<Tensor>> =
            data.inputs.iter().map(operand).collect::<Result<_, _>>().map_err(error)?;
        // An error inside a region names the node there, not only the one that holds the region.
        let run = |i: usize, params: &[Tensor]| {
            let region = data.regions.get(i).ok_or_else(|| format!("there is no region {i}"))?;
            self.region(*region, params, &[], Some(scope)).map_err(|e| e.to_string())
        };
        let region_results: Vec<Vec<_>> = data
            .regions
            .iter()
            .map(|r| {
                let results = self.graph.regions[*r].results.iter();
                results.map(|v| self.graph.values[*v].ty.clone()).collect()
            })
            .collect();
        let operation = Operation {
            op: data.op,
            attrs: &data.attrs,
            outputs: data.outputs.len(),
            region_results: &region_results,
            region: &run,
        };
        let outputs = eval_op(&operation, &inputs).map_err(error)?;
        (self.hook.borrow_mut())(&Event { node, inputs: &inputs, outputs: &outputs });
        Ok(outputs)
    }

    fn value(&self, v: Value, scope: &Scope<'_>) -> Result<Tensor, String> {
        match &self.graph.values[v].def {
            Def::Const(c) => c.materialise(),
            Def::State(i) => Ok(self.states[*i].clone()),
            _ => scope.get(v).cloned().ok_or_else(|| format!("{v} is used before it is defined")),
        }
    }

    fn last_uses(&self, region: Region, extra: &[Value]) -> std::rc::Rc<LastUses> {
        let data = &self.graph.regions[region];
        let mut seen: HashSet<Value> = data.results.iter().chain(extra).copied().collect();
        let mut out = LastUses::new();
        for node in data.nodes.iter().rev() {
            let mut used = Vec::new();
            self.collect_uses(*node, &mut used);
            // Results that nothing uses are dropped as well.
            used.extend(&self.graph.nodes[*node].outputs);
            used.retain(|v| seen.insert(*v));
            out.insert(*node, used);
        }
        out.into()
    }

    /// The operands of a node and of everything in its regions.
    fn collect_uses(&self, node: Node, out: &mut Vec<Value>) {
        let data = &self.graph.nodes[node];
        out.extend(data.inputs.iter().flatten());
        for region in &data.regions {
            let inner = &self.graph.regions[*region];
            out.extend(&inner.results);
            inner.nodes.iter().for_each(|n| self.collect_uses(*n, out));
        }
    }
}

impl Constant {
    /// The contents; computed ones by the row's semantics. Nothing is kept, so that memory stays
    /// within a few times the largest constant that takes part.
    pub fn materialise(&self) -> Result<Tensor, String> {
        let c = match self {
            Constant::Data(t) => return Ok(t.clone()),
            Constant::Computed(c) => c,
        };
        let inputs: Vec<Option<Tensor>> = c
            .inputs
            .iter()
            .map(|i| i.as_ref().map(Constant::materialise).transpose())
            .collect::<Result<_, _>>()?;
        let operation = Operation {
            op: c.op,
            attrs: &c.attrs,
            outputs: (c.output + 1).max(c.op.outputs.0),
            region_results: &[],
            region: &|_, _| Err("a constant has no regions".into()),
        };
        let mut results = eval_op(&operation, &inputs).map_err(|e| format!("constant {}: {e}", c.op.name))?;
        Ok(results.swap_remove(c.output))
    }
}

#[cfg(test)]
mod tests;
