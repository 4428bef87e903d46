//! Shrinks a graph that fails to a smaller one that fails too: outputs are left out, results become
//! outputs or inputs, and nodes are passed by, for as long as any of it keeps the failure.

use crate::agree::Program;
use burin_ir::graph::{Builder, Def, Graph, Node, Value};
use burin_ir::random::Fill;
use std::collections::{HashMap, HashSet};

/// How often a smaller graph is looked for at most.
const ATTEMPTS: usize = 400;

/// The smallest program that is found for which `fails` holds, as it does for the one given.
pub fn reduce(program: &Program, fails: &dyn Fn(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut attempts = 0;
    'smaller: loop {
        for change in changes(&best.graph) {
            let Some(smaller) = change.apply(&best).filter(|p| size(p) < size(&best)) else { continue };
            attempts += 1;
            if attempts > ATTEMPTS {
                return best;
            }
            if fails(&smaller) {
                best = smaller;
                continue 'smaller;
            }
        }
        return best;
    }
}

/// What is to become smaller: nodes first, then outputs, then inputs.
fn size(p: &Program) -> (usize, usize, usize) {
    let g = &p.graph;
    (g.regions[g.body].nodes.len(), g.outputs().len(), g.inputs().len())
}

/// A change that may make a graph smaller.
#[derive(Default)]
struct Change {
    outputs: Vec<Value>,
    /// Values that become inputs.
    cut: HashSet<Value>,
    /// Values in whose place others stand.
    alias: HashMap<Value, Value>,
}

/// The changes to try, those that leave least first.
fn changes(g: &Graph) -> Vec<Change> {
    let mut all = Vec::new();
    let nodes = &g.regions[g.body].nodes;
    let results = |n: &Node| g.nodes[*n].outputs.clone();
    let outputs = g.outputs().to_vec();
    all.extend(outputs.iter().map(|v| Change { outputs: vec![*v], ..Change::default() }));
    for v in nodes.iter().flat_map(results) {
        all.push(Change { outputs: vec![v], ..Change::default() });
    }
    for n in nodes.iter().rev() {
        all.push(Change {
            outputs: outputs.clone(),
            cut: results(n).into_iter().collect(),
            ..Change::default()
        });
    }
    for n in nodes {
        let node = &g.nodes[*n];
        for (result, operand) in node.outputs.iter().zip(node.inputs.iter().flatten()) {
            if g.values[*result].ty == g.values[*operand].ty {
                let alias = HashMap::from([(*result, *operand)]);
                all.push(Change { outputs: outputs.clone(), alias, ..Change::default() });
            }
        }
    }
    all
}

impl Change {
    /// The changed program without what nothing uses; `None` where it is not valid.
    fn apply(&self, from: &Program) -> Option<Program> {
        let old = &from.graph;
        let mut copy = Rebuild {
            change: self,
            from,
            graph: Graph::new(&old.name),
            fills: Vec::new(),
            map: HashMap::new(),
        };
        let live = copy.live();
        for (i, v) in old.inputs().iter().enumerate() {
            if live.contains(v) {
                copy.input(*v, from.fills[i]);
            }
        }
        for v in old.values.keys().filter(|v| self.cut.contains(v) && live.contains(v)) {
            // A symbol of its own could not be given a size.
            let simple =
                old.tensor_type(v)?.shape.iter().all(|d| d.as_const().is_some() || d.as_symbol().is_some());
            simple.then(|| copy.input(v, Fill::Standard))?;
        }
        for n in &old.regions[old.body].nodes {
            if old.nodes[*n].outputs.iter().any(|v| live.contains(v) && !self.cut.contains(v)) {
                copy.node(*n)?;
            }
        }
        for (i, v) in self.outputs.iter().enumerate() {
            let v = copy.value(*v)?;
            copy.graph.add_output(&format!("y{i}"), v);
        }
        Some(Program { graph: copy.graph, fills: copy.fills, seed: from.seed })
    }

    fn source(&self, mut v: Value) -> Value {
        while let Some(other) = self.alias.get(&v) {
            v = *other;
        }
        v
    }
}

struct Rebuild<'a> {
    change: &'a Change,
    from: &'a Program,
    graph: Graph,
    fills: Vec<Fill>,
    map: HashMap<Value, Value>,
}

impl Rebuild<'_> {
    /// The values that the outputs need.
    fn live(&self) -> HashSet<Value> {
        let old = &self.from.graph;
        let mut live = HashSet::new();
        let mut todo = self.change.outputs.clone();
        while let Some(v) = todo.pop() {
            let v = self.change.source(v);
            if live.insert(v)
                && !self.change.cut.contains(&v)
                && let Some((n, _)) = old.producer(v)
            {
                todo.extend(old.nodes[n].inputs.iter().flatten());
            }
        }
        live
    }

    fn input(&mut self, v: Value, fill: Fill) {
        let name = format!("x{}", self.fills.len());
        let new = self.graph.add_input(&name, self.from.graph.values[v].ty.clone());
        self.map.insert(v, new);
        self.fills.push(fill);
    }

    fn node(&mut self, n: Node) -> Option<()> {
        let data = &self.from.graph.nodes[n];
        let mut operands = Vec::new();
        for v in &data.inputs {
            operands.push(match v {
                Some(v) => Some(self.value(*v)?),
                None => None,
            });
        }
        let attrs = data.attrs.0.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
        let mut b = Builder::new(&mut self.graph);
        let node = b.node(data.op, "", operands, attrs, data.outputs.len(), Vec::new()).ok()?;
        for (old, new) in data.outputs.iter().zip(self.graph.nodes[node].outputs.clone()) {
            // One that was cut stays an input.
            self.map.entry(*old).or_insert(new);
        }
        Some(())
    }

    /// What a value has become; constants are copied when they are first asked for.
    fn value(&mut self, v: Value) -> Option<Value> {
        let v = self.change.source(v);
        if let Some(new) = self.map.get(&v) {
            return Some(*new);
        }
        let Def::Const(c) = &self.from.graph.values[v].def else { return None };
        let new = self.graph.add_constant("", c.clone());
        self.map.insert(v, new);
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burin_ir::graph::parse;

    #[test]
    fn what_does_not_matter_goes() {
        let text = "graph @g(%x: f32[4], %z: f32[4]) {
            %a = Exp(%x)
            %b = Neg(%a)
            %c = Abs(%b)
            %d = Add(%c, %z)
            %e = Sqrt(%z)
            return %d, %e
        }";
        let graph = parse(text).expect("a graph");
        let program = Program { graph, fills: vec![Fill::Standard; 2], seed: 0 };
        let fails = |p: &Program| p.graph.to_string().contains("Abs");
        let reduced = reduce(&program, &fails).graph;
        let nodes = &reduced.regions[reduced.body].nodes;
        assert_eq!(nodes.len(), 1, "{reduced}");
        assert_eq!((reduced.inputs().len(), reduced.outputs().len()), (1, 1), "{reduced}");
    }
}
