//! A region as a graph of its own: what it uses from around it becomes inputs.

use burin_ir::DType;
use burin_ir::Tensor;
use burin_ir::graph::{Constant, Def, Graph, Node, NodeData, Region, RegionData, State, Value};
use std::collections::HashMap;

/// What a region's values are to the graph that it becomes.
pub(super) struct Roles<'a> {
    /// Values from outside, or parameters, that the graph is given.
    pub inputs: &'a [Value],
    /// Parameters that a run leaves changed, and the results that they become.
    pub states: &'a [(Value, Value)],
    /// Results.
    pub outputs: &'a [Value],
}

/// The graph of a region. Constants stay constants.
pub(super) fn extract(outer: &Graph, region: Region, roles: &Roles<'_>) -> Graph {
    let mut graph = Graph::new(&outer.name);
    graph.fresh_symbols = outer.fresh_symbols;
    let mut copier = Copier { outer, graph, map: HashMap::new() };
    for v in roles.inputs {
        let (name, ty) = (&outer.values[*v].name, outer.values[*v].ty.clone());
        let new = copier.graph.add_input(name, ty);
        copier.graph.values[new].known.clone_from(&outer.values[*v].known);
        copier.map.insert(*v, new);
    }
    for (param, _) in roles.states {
        copier.state(*param);
    }
    let body = copier.graph.body;
    copier.nodes(region, body);
    for (i, (_, next)) in roles.states.iter().enumerate() {
        copier.graph.states[i].next = copier.value(*next);
    }
    for v in roles.outputs {
        let new = copier.value(*v);
        copier.graph.add_output(&outer.values[*v].name, new);
    }
    copier.graph
}

struct Copier<'a> {
    outer: &'a Graph,
    graph: Graph,
    map: HashMap<Value, Value>,
}

impl Copier<'_> {
    /// A state whose initial value whoever runs the region has put in place.
    fn state(&mut self, param: Value) {
        let init = Constant::Data(Tensor::zeros(DType::U8, &[0]));
        let mut data = self.outer.values[param].clone();
        data.def = Def::State(self.graph.states.len());
        let value = self.graph.values.push(data);
        self.graph.states.push(State { value, next: value, init });
        self.map.insert(param, value);
    }

    fn value(&mut self, v: Value) -> Value {
        if let Some(new) = self.map.get(&v) {
            return *new;
        }
        let new = self.graph.values.push(self.outer.values[v].clone());
        self.map.insert(v, new);
        new
    }

    fn nodes(&mut self, from: Region, to: Region) {
        for n in &self.outer.regions[from].nodes {
            self.node(*n, to);
        }
    }

    fn node(&mut self, n: Node, to: Region) {
        let data = &self.outer.nodes[n];
        let inputs = data.inputs.iter().map(|v| v.map(|v| self.value(v))).collect();
        let regions = data.regions.iter().map(|r| self.region(*r)).collect();
        let node = self.graph.nodes.next_key();
        let mut outputs = Vec::new();
        for (i, v) in data.outputs.iter().enumerate() {
            let mut value = self.outer.values[*v].clone();
            value.def = Def::Result(node, i);
            let new = self.graph.values.push(value);
            self.map.insert(*v, new);
            outputs.push(new);
        }
        self.graph.nodes.push(NodeData { inputs, outputs, regions, ..data.clone() });
        self.graph.regions[to].nodes.push(node);
    }

    fn region(&mut self, from: Region) -> Region {
        let to = self.graph.regions.push(RegionData::default());
        for (i, p) in self.outer.regions[from].params.iter().enumerate() {
            let mut data = self.outer.values[*p].clone();
            data.def = Def::Param(to, i);
            let v = self.graph.values.push(data);
            self.graph.regions[to].params.push(v);
            self.map.insert(*p, v);
        }
        self.nodes(from, to);
        self.graph.regions[to].results =
            self.outer.regions[from].results.iter().map(|v| self.value(*v)).collect();
        to
    }
}
