//! The mechanism of every graph pass: a walk that copies a graph, node by node in execution order,
//! while a rule decides what each node becomes.
//!
//! Every replacement takes fuel; without fuel, a node is copied.
//!
//! What always holds: nodes that nothing needs are not copied; every operand that a rule sees is a
//! value of the new graph, already rewritten; a copied node whose operands are as they were keeps its
//! results' types, and any other is inferred again, so that what a pass finds out (a constant shape,
//! say) reaches everything behind it.

use super::{Fuel, Report};
use burin_ir::attr::Attrs;
use burin_ir::graph::{Builder, Constant, Def, Graph, Node, NodeData, Region, RegionData, Value, ValueData};
use burin_ir::ops::OpRow;
use burin_ir::{Attr, Expr, Symbol, TensorType};
use std::collections::HashMap;
use std::mem;

/// What a rule makes of a node.
pub enum Outcome {
    /// It is copied.
    Keep,
    /// These values of the new graph stand for its results.
    Replace(Vec<Value>),
    /// It is copied; the reason why it could not be rewritten.
    Declined(String),
}

/// A node of the old graph, on its way.
pub struct Site<'a> {
    /// The node.
    pub node: Node,
    /// Its data, with the operands of the old graph.
    pub data: &'a NodeData,
    /// Its operands in the new graph.
    pub inputs: Vec<Option<Value>>,
}

/// Decides about a node. Nodes with regions are shown before their regions are copied.
pub type Rule<'a> = &'a mut dyn FnMut(&mut Rewriter<'_>, &Site<'_>) -> Result<Outcome, String>;

/// Copies a graph.
pub struct Rewriter<'a> {
    /// The old graph.
    pub old: &'a Graph,
    /// The new graph, as far as it has come.
    pub graph: Graph,
    /// The region of the new graph that nodes are appended to.
    pub region: Region,
    map: Vec<Option<Value>>,
    uses: Vec<u32>,
    live: Vec<bool>,
    report: Report,
    fuel: &'a mut Fuel,
}

/// Rewrites a graph by a rule.
pub fn rewrite(graph: &mut Graph, fuel: &mut Fuel, rule: Rule<'_>) -> Result<Report, String> {
    rewrite_aliased(graph, &[], fuel, rule)
}

/// Rewrites a graph by a rule; the first of each pair of values is replaced by the second, which is a
/// constant.
pub fn rewrite_aliased(
    graph: &mut Graph,
    aliases: &[(Value, Value)],
    fuel: &mut Fuel,
    rule: Rule<'_>,
) -> Result<Report, String> {
    let (uses, live) = liveness(graph);
    let mut new = Graph::new(&graph.name);
    new.fresh_symbols = graph.fresh_symbols;
    new.output_names.clone_from(&graph.output_names);
    let region = new.body;
    let map = vec![None; graph.values.len()];
    let mut r = Rewriter { old: graph, graph: new, region, map, uses, live, report: Report::default(), fuel };
    for s in &graph.states {
        let v = r.graph.add_state(&graph.values[s.value].name, s.init.clone());
        r.map[index(s.value)] = Some(v);
    }
    for (from, to) in aliases {
        r.map[index(*from)] = Some(r.value(*to));
    }
    r.region_body(graph.body, region, &HashMap::new(), rule)?;
    for i in 0..graph.states.len() {
        r.graph.states[i].next = r.value(graph.states[i].next);
    }
    let Rewriter { graph: new, report, .. } = r;
    *graph = new;
    Ok(report)
}

fn index(v: Value) -> usize {
    v.as_u32() as usize
}

/// How often each value is used by what is live, and which nodes are.
fn liveness(graph: &Graph) -> (Vec<u32>, Vec<bool>) {
    let mut uses = vec![0u32; graph.values.len()];
    let mut live = vec![false; graph.nodes.len()];
    for s in &graph.states {
        uses[index(s.next)] += 1;
    }
    live_region(graph, graph.body, &mut uses, &mut live);
    (uses, live)
}

fn live_region(graph: &Graph, region: Region, uses: &mut [u32], live: &mut [bool]) {
    let data = &graph.regions[region];
    data.results.iter().for_each(|v| uses[index(*v)] += 1);
    for n in data.nodes.iter().rev() {
        let node = &graph.nodes[*n];
        if node.outputs.iter().all(|v| uses[index(*v)] == 0) {
            continue;
        }
        live[n.as_u32() as usize] = true;
        node.inputs.iter().flatten().for_each(|v| uses[index(*v)] += 1);
        node.regions.iter().for_each(|r| live_region(graph, *r, uses, live));
    }
}

impl Rewriter<'_> {
    /// Appends to the region at hand.
    pub fn builder(&mut self) -> Builder<'_> {
        Builder { graph: &mut self.graph, region: self.region }
    }

    /// Adds a node of one result.
    pub fn op(&mut self, op: &str, inputs: &[Value], attrs: Vec<(&str, Attr)>) -> Result<Value, String> {
        self.builder().op(op, inputs, attrs)
    }

    /// What a value of the old graph has become. Constants are copied when they are first asked for.
    ///
    /// # Panics
    /// If its node was not visited yet: the old graph did not verify.
    pub fn value(&mut self, v: Value) -> Value {
        if let Some(new) = self.map[index(v)] {
            return new;
        }
        let data = &self.old.values[v];
        assert!(matches!(data.def, Def::Const(_)), "{v} is used before it is defined");
        let new = self.graph.values.push(data.clone());
        self.map[index(v)] = Some(new);
        new
    }

    /// How often the old graph's value is used.
    pub fn uses(&self, old: Value) -> u32 {
        self.uses[index(old)]
    }

    /// The node of the new graph that makes a value, if it is one's only or first result.
    pub fn made_by(&self, v: Value) -> Option<&NodeData> {
        match self.graph.values[v].def {
            Def::Result(n, 0) => Some(&self.graph.nodes[n]),
            _ => None,
        }
    }

    /// The type of a value of the new graph, if it is a tensor.
    pub fn ty(&self, v: Value) -> Option<&TensorType> {
        self.graph.tensor_type(v)
    }

    /// Infers the results of an op without adding a node: its complete attributes, and its results'
    /// facts.
    pub fn probe(
        &mut self,
        op: &'static OpRow,
        inputs: &[Option<Value>],
        attrs: Vec<(String, Attr)>,
        outputs: usize,
    ) -> Result<(Attrs, Vec<ValueData>), String> {
        let node = self.builder().node(op, "", inputs.to_vec(), attrs, outputs, Vec::new())?;
        self.graph.regions[self.region].nodes.pop();
        let data = &self.graph.nodes[node];
        Ok((data.attrs.clone(), data.outputs.iter().map(|v| self.graph.values[*v].clone()).collect()))
    }

    /// Adds a constant under the name of a value of the old graph.
    pub fn constant_for(&mut self, old: Value, c: Constant) -> Value {
        self.graph.add_constant(&self.old.values[old].name.clone(), c)
    }

    /// `sizes` are those of the parameters' types that have become others.
    fn region_body(
        &mut self,
        from: Region,
        to: Region,
        sizes: &HashMap<Symbol, Expr>,
        rule: Rule<'_>,
    ) -> Result<(), String> {
        let outer = mem::replace(&mut self.region, to);
        let old = self.old;
        for (i, p) in old.regions[from].params.iter().enumerate() {
            let mut data = old.values[*p].clone();
            data.def = Def::Param(to, i);
            if !sizes.is_empty() {
                let shape = &mut data.ty.innermost_mut().shape;
                shape.iter_mut().for_each(|d| *d = d.substitute(&|s| sizes.get(&s).cloned()));
            }
            let v = self.graph.values.push(data);
            self.graph.regions[to].params.push(v);
            self.map[index(*p)] = Some(v);
        }
        for n in &old.regions[from].nodes {
            if self.live[n.as_u32() as usize] {
                self.node(*n, rule).map_err(|e| format!("node {}: {e}", old.describe(*n)))?;
            }
        }
        self.graph.regions[to].results = old.regions[from].results.iter().map(|v| self.value(*v)).collect();
        self.region = outer;
        Ok(())
    }

    fn node(&mut self, node: Node, rule: Rule<'_>) -> Result<(), String> {
        let data = &self.old.nodes[node];
        let inputs: Vec<Option<Value>> = data.inputs.iter().map(|v| v.map(|v| self.value(v))).collect();
        let site = Site { node, data, inputs };
        let (old, before) = (self.old, self.graph.regions[self.region].nodes.len());
        let results = match rule(self, &site)? {
            Outcome::Replace(_) if !self.fuel.spend(|| old.describe(node)) => {
                // What the rule has built is left where nothing uses it.
                self.graph.regions[self.region].nodes.truncate(before);
                self.copy(&site, rule)?
            }
            Outcome::Replace(values) => {
                self.report.rewritten += 1;
                self.inherit_name(data, before);
                values
            }
            Outcome::Declined(reason) => {
                self.report.decline(reason, || old.describe(node));
                self.copy(&site, rule)?
            }
            Outcome::Keep => self.copy(&site, rule)?,
        };
        for (old, new) in data.outputs.iter().zip(&results) {
            let name = &self.old.values[*old].name;
            let own = &mut self.graph.values[*new];
            if own.name.is_empty() && matches!(own.def, Def::Result(..)) {
                own.name.clone_from(name);
            }
            self.map[index(*old)] = Some(*new);
        }
        Ok(())
    }

    /// Messages about nodes that a rule has built name the node that they stand for.
    fn inherit_name(&mut self, data: &NodeData, before: usize) {
        let Graph { regions, nodes, .. } = &mut self.graph;
        for n in &regions[self.region].nodes[before..] {
            if nodes[*n].name.is_empty() {
                nodes[*n].name.clone_from(&data.name);
            }
        }
    }

    /// The symbols in the shapes of a node's operands for which something else stands now.
    fn changed_sizes(&self, site: &Site<'_>) -> HashMap<Symbol, Expr> {
        let mut changed = HashMap::new();
        for (old, new) in site.data.inputs.iter().zip(&site.inputs) {
            let (Some(old), Some(new)) = (old, new) else { continue };
            let (Some(old), Some(new)) = (self.old.tensor_type(*old), self.ty(*new)) else { continue };
            for (a, b) in old.shape.iter().zip(&new.shape).filter(|(a, b)| a != b) {
                changed.extend(a.as_symbol().map(|s| (s, b.clone())));
            }
        }
        changed
    }

    fn copy(&mut self, site: &Site<'_>, rule: Rule<'_>) -> Result<Vec<Value>, String> {
        let data = site.data;
        let mut regions = Vec::new();
        let mut same = self.same_operands(site);
        let sizes = if data.regions.is_empty() { HashMap::new() } else { self.changed_sizes(site) };
        for r in &data.regions {
            let to = self.graph.regions.push(RegionData::default());
            self.region_body(*r, to, &sizes, rule)?;
            let (before, after) = (&self.old.regions[*r].results, &self.graph.regions[to].results);
            let ty = |(a, b): (&Value, &Value)| self.old.values[*a].ty == self.graph.values[*b].ty;
            same &= before.iter().zip(after).all(ty);
            regions.push(to);
        }
        if !same {
            let attrs = data.attrs.named();
            let (inputs, outputs) = (site.inputs.clone(), data.outputs.len());
            let n = self.builder().node(data.op, &data.name, inputs, attrs, outputs, regions)?;
            return Ok(self.graph.nodes[n].outputs.clone());
        }
        let node = self.graph.nodes.next_key();
        let result =
            |(i, v): (usize, &Value)| ValueData { def: Def::Result(node, i), ..self.old.values[*v].clone() };
        let outputs: Vec<ValueData> = data.outputs.iter().enumerate().map(result).collect();
        let outputs: Vec<Value> = outputs.into_iter().map(|v| self.graph.values.push(v)).collect();
        let copy =
            NodeData { inputs: site.inputs.clone(), outputs: outputs.clone(), regions, ..data.clone() };
        self.graph.nodes.push(copy);
        self.graph.regions[self.region].nodes.push(node);
        Ok(outputs)
    }

    /// Whether inference would see what it saw before.
    fn same_operands(&self, site: &Site<'_>) -> bool {
        let data = |v: &ValueData| matches!(v.def, Def::Const(Constant::Data(_)));
        site.data.inputs.iter().flatten().zip(site.inputs.iter().flatten()).all(|(old, new)| {
            let (a, b) = (&self.old.values[*old], &self.graph.values[*new]);
            a.ty == b.ty && a.known == b.known && data(a) == data(b)
        })
    }
}
