//! Building graphs: adding a node checks it against its row and infers its results.

use crate::attr::{self, Attr};
use crate::graph::infer::{Arg, Cx, Info};
use crate::graph::{Constant, Def, Graph, Node, NodeData, Region, Value, ValueData};
use crate::ops::{self, Arity, OpRow};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::cell::Cell;

/// Operands of more elements than this get no names for their contents.
const MAX_NAMED: i64 = 64;
/// How many symbols a composite's builder may make for itself, besides those of its nodes.
const BODY_SYMBOLS: u32 = 8;

/// Appends nodes to a region of a graph.
pub struct Builder<'a> {
    /// The graph.
    pub graph: &'a mut Graph,
    /// The region.
    pub region: Region,
}

impl<'a> Builder<'a> {
    /// A builder that appends to the graph's body.
    pub fn new(graph: &'a mut Graph) -> Builder<'a> {
        let region = graph.body;
        Builder { graph, region }
    }

    /// Adds a node of one result. `op` is a row's name.
    pub fn op(&mut self, op: &str, inputs: &[Value], attrs: Vec<(&str, Attr)>) -> Result<Value, String> {
        let inputs: Vec<Option<Value>> = inputs.iter().map(|v| Some(*v)).collect();
        let attrs = attrs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        let row = ops::by_name(op).ok_or_else(|| format!("there is no op {op}"))?;
        let node = self.node(row, "", inputs, attrs, 1, Vec::new())?;
        Ok(self.graph.nodes[node].outputs[0])
    }

    /// Adds a constant.
    pub fn constant(&mut self, t: Tensor) -> Value {
        self.graph.add_constant("", Constant::Data(t))
    }

    /// The tensor type of a value.
    pub fn ty(&self, v: Value) -> Result<&TensorType, String> {
        self.graph.tensor_type(v).ok_or_else(|| format!("{} is no tensor", self.graph.values[v].ty))
    }

    /// Adds a node: checks the operands and attributes against the row, and infers the results.
    pub fn node(
        &mut self,
        op: &'static OpRow,
        name: &str,
        mut inputs: Vec<Option<Value>>,
        attrs: Vec<(String, Attr)>,
        outputs: usize,
        regions: Vec<Region>,
    ) -> Result<Node, String> {
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        check_schema(op, &inputs, outputs, regions.len())?;
        self.name_contents(op, &mut inputs)?;
        let attrs = attr::complete(op.attrs, attrs).map_err(|e| format!("{}: {e}", op.name))?;
        let args = operands(self.graph, &inputs);
        let infos = self.with_cx(op, &attrs, &args, outputs, &regions, |_, cx| super::infer::infer(cx))?;
        let node = self.graph.nodes.next_key();
        let results = infos
            .into_iter()
            .enumerate()
            .map(|(i, info)| {
                let def = Def::Result(node, i);
                self.graph.values.push(ValueData { name: String::new(), ty: info.ty, def, known: info.known })
            })
            .collect();
        let data = NodeData { name: name.to_owned(), op, attrs, inputs, outputs: results, regions };
        self.graph.nodes.push(data);
        self.graph.regions[self.region].nodes.push(node);
        Ok(node)
    }

    /// Puts a `Read` before operands whose contents the row wants to know.
    fn name_contents(&mut self, op: &'static OpRow, inputs: &mut [Option<Value>]) -> Result<(), String> {
        for (port, input) in op.inputs.iter().zip(inputs).filter(|(p, _)| p.known) {
            if let Some(v) = input {
                *v = self.read(*v).map_err(|e| format!("{} ({}): {e}", op.name, port.name))?;
            }
        }
        Ok(())
    }

    /// A value whose contents have names, by a `Read`, where they depend on data and are few integers of a
    /// known number; others as they are.
    pub fn read(&mut self, v: Value) -> Result<Value, String> {
        let data = &self.graph.values[v];
        let count = data.ty.tensor().and_then(|t| t.dtype.is_whole().then(|| t.elements().as_const())?);
        let few = count.filter(|n| data.known.is_none() && (1..=MAX_NAMED).contains(n));
        let Some(n) = few.map(|n| n as u32) else { return Ok(v) };
        let first = self.graph.fresh_symbols;
        self.graph.fresh_symbols += n;
        let names = (first..first + n).map(|i| format!("{}{i}", Symbol::DATA)).collect();
        self.op("Read", &[v], vec![("symbols", Attr::Strs(names))])
    }

    /// Builds the body of a node on other operands; `None` where its op has none or the builder
    /// declines.
    pub fn expand(
        &mut self,
        node: &NodeData,
        inputs: &[Option<Value>],
    ) -> Result<Option<Vec<Value>>, String> {
        let Some(build) = node.op.body() else { return Ok(None) };
        let args = operands(self.graph, inputs);
        self.with_cx(node.op, &node.attrs, &args, node.outputs.len(), &node.regions, |b, cx| {
            // The builder's own symbols come first, then those of the nodes that it adds.
            b.graph.fresh_symbols += BODY_SYMBOLS;
            build(cx, b, inputs)
        })
    }

    /// Calls `f` with a node of the graph as its row's functions see it.
    pub(super) fn with_node<T>(
        &mut self,
        node: &NodeData,
        f: impl FnOnce(&mut Self, &Cx<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let args = operands(self.graph, &node.inputs);
        self.with_cx(node.op, &node.attrs, &args, node.outputs.len(), &node.regions, f)
    }

    /// Calls `f` with the node as its row's functions see it.
    fn with_cx<T>(
        &mut self,
        op: &'static OpRow,
        attrs: &attr::Attrs,
        args: &[Option<Arg>],
        outputs: usize,
        regions: &[Region],
        f: impl FnOnce(&mut Self, &Cx<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let region_results = region_results(self.graph, regions);
        let next = Cell::new(self.graph.fresh_symbols);
        let fresh = || Symbol::new(&format!("?{}", next.replace(next.get() + 1)));
        let cx = Cx { op, attrs, inputs: args, outputs, region_results: &region_results, fresh: &fresh };
        let result = f(self, &cx);
        self.graph.fresh_symbols = self.graph.fresh_symbols.max(next.get());
        result
    }
}

/// The results that a node of the graph would have.
pub(super) fn infer_node(
    graph: &Graph,
    node: &NodeData,
    fresh: &dyn Fn() -> Symbol,
) -> Result<Vec<Info>, String> {
    super::infer::infer(&Cx {
        op: node.op,
        attrs: &node.attrs,
        inputs: &operands(graph, &node.inputs),
        outputs: node.outputs.len(),
        region_results: &region_results(graph, &node.regions),
        fresh,
    })
}

/// What is known of a node's operands.
pub fn operands(graph: &Graph, inputs: &[Option<Value>]) -> Vec<Option<Arg>> {
    let arg = |v: Value| {
        let d = &graph.values[v];
        let data = match &d.def {
            Def::Const(Constant::Data(t)) => Some(t.clone()),
            _ => None,
        };
        Arg { ty: d.ty.clone(), known: d.known.clone(), data }
    };
    inputs.iter().map(|v| v.map(arg)).collect()
}

/// The types of the results of a node's regions.
fn region_results(graph: &Graph, regions: &[Region]) -> Vec<Vec<Type>> {
    let ty = |v: &Value| graph.values[*v].ty.clone();
    regions.iter().map(|r| graph.regions[*r].results.iter().map(ty).collect()).collect()
}

/// Checks the numbers of operands, results and regions against a row.
pub(super) fn check_schema<T>(
    op: &OpRow,
    inputs: &[Option<T>],
    outputs: usize,
    regions: usize,
) -> Result<(), String> {
    check_arity(op, inputs)?;
    let (least, most) = op.outputs;
    if !(least..=most).contains(&outputs) {
        return Err(format!("{} has {least} to {most} results, found {outputs}", op.name));
    }
    if regions != op.regions {
        return Err(format!("{} has {} regions, found {regions}", op.name, op.regions));
    }
    Ok(())
}

/// Checks the number and presence of operands against a row.
fn check_arity<T>(op: &OpRow, inputs: &[Option<T>]) -> Result<(), String> {
    let many = op.inputs.last().is_some_and(|p| matches!(p.arity, Arity::Many | Arity::Any));
    if inputs.len() > op.inputs.len() && !many {
        return Err(format!("{} takes at most {} inputs, found {}", op.name, op.inputs.len(), inputs.len()));
    }
    for (i, port) in op.inputs.iter().enumerate() {
        let absent = inputs.get(i).is_none_or(Option::is_none);
        if absent && !matches!(port.arity, Arity::Optional | Arity::Any) {
            return Err(format!("{} needs its input {i} ({})", op.name, port.name));
        }
    }
    match inputs.iter().skip(op.inputs.len()).position(Option::is_none) {
        Some(i) => Err(format!("{} input {} may not be absent", op.name, i + op.inputs.len())),
        None => Ok(()),
    }
}
