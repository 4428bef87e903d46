//! Nodes that end in one kernel: what is fused is compiled together, and run on what the evaluator
//! has for the operands from outside.
//!
//! The groups are those of the lowering: for each stored value the nodes that its kernel computes. An
//! assembled value (of a Concat or a Pad) comes with the kernels that write their results into it in
//! place, but those that read another value of the group. A node alone is no group.

use super::bounds::{Step, bound};
use super::cut::{Piece, Run};
use super::search::{Difference, Search};
use crate::failure::Failure;
use burin_compiler::lower::steps::Report;
use burin_ir::Tensor;
use burin_ir::compare::compare;
use burin_ir::graph::eval::Event;
use burin_ir::graph::{Graph, Node, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Nodes that are computed together.
pub(super) struct Group {
    /// In execution order; the last gives the result.
    nodes: Vec<Node>,
    result: Value,
}

/// The groups of more than one node of a graph that was lowered.
pub(super) fn groups(graph: &Graph, report: &Report) -> Vec<Group> {
    let place: HashMap<Node, usize> =
        graph.regions[graph.body].nodes.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    // By place in execution order.
    let mut kernels: BTreeMap<Value, BTreeSet<usize>> = BTreeMap::new();
    let mut parts: BTreeMap<Value, BTreeSet<Value>> = BTreeMap::new();
    for call in &report.groups {
        let Some(result) = call.result else { continue };
        let producer = graph.producer(result).map(|(n, _)| n);
        let nodes = call.nodes.iter().chain(&producer).filter_map(|n| place.get(n).copied());
        kernels.entry(result).or_default().extend(nodes);
        if let Some(whole) = call.part_of {
            parts.entry(whole).or_default().insert(result);
        }
    }
    let order = &graph.regions[graph.body].nodes;
    let mut groups = Vec::new();
    for (result, own) in &kernels {
        let mut all = own.clone();
        let inside = parts.get(result).into_iter().flatten();
        let reads_inside = |n: &usize| {
            let mut operands = graph.nodes[order[*n]].inputs.iter().flatten();
            operands.any(|v| parts.get(result).is_some_and(|p| p.contains(v)))
        };
        for nodes in inside.filter_map(|p| kernels.get(p)).filter(|k| !k.iter().any(reads_inside)) {
            all.extend(nodes);
        }
        if all.len() > 1 {
            groups.push(Group { nodes: all.into_iter().map(|i| order[i]).collect(), result: *result });
        }
    }
    groups
}

/// Gathers what the evaluator has for each group, and compares a group as soon as its last node has
/// been evaluated.
pub(super) struct Gatherer<'a> {
    graph: &'a Graph,
    groups: &'a [Group],
    of_node: HashMap<Node, Vec<usize>>,
    gathered: HashMap<usize, Vec<Step>>,
}

impl<'a> Gatherer<'a> {
    /// Nothing is evaluated yet.
    pub(super) fn new(graph: &'a Graph, groups: &'a [Group]) -> Gatherer<'a> {
        let mut of_node: HashMap<Node, Vec<usize>> = HashMap::new();
        for (i, g) in groups.iter().enumerate() {
            g.nodes.iter().for_each(|n| of_node.entry(*n).or_default().push(i));
        }
        Gatherer { graph, groups, of_node, gathered: HashMap::new() }
    }

    /// Takes note of a node that has just been evaluated.
    pub(super) fn look(&mut self, event: &Event<'_>, search: &mut Search) {
        for i in self.of_node.get(&event.node).into_iter().flatten() {
            self.gathered.entry(*i).or_default().push(event.into());
            let group = &self.groups[*i];
            if group.nodes.last() == Some(&event.node) {
                let steps = self.gathered.remove(i).unwrap_or_default();
                search.look(|| describe(self.graph, group), |run| check(self.graph, group, &steps, run));
            }
        }
    }
}

/// `Conv "stem" + Relu "act"`.
fn describe(graph: &Graph, group: &Group) -> String {
    let names: Vec<String> = group.nodes.iter().map(|n| graph.describe(*n)).collect();
    names.join(" + ")
}

/// What differs at a group whose nodes were evaluated so.
fn check(graph: &Graph, group: &Group, steps: &[Step], run: Run<'_>) -> Result<Option<Difference>, Failure> {
    let mut tensors: HashMap<Value, Tensor> = HashMap::new();
    for step in steps {
        let operands = graph.nodes[step.node].inputs.iter().zip(&step.inputs);
        tensors.extend(operands.filter_map(|(v, t)| Some(((*v)?, t.clone()?))));
    }
    let results = [group.result];
    let piece = Piece { of: graph, nodes: &group.nodes, results: &results, tensors: &tensors, scalars: true };
    let (cut, found) = piece.run(run)?;
    let last = steps.last().ok_or_else(|| "it has no nodes".to_owned())?;
    let outputs = graph.nodes[last.node].outputs.iter().zip(&last.outputs);
    let expected = outputs.into_iter().find(|(v, _)| **v == group.result).map(|(_, t)| t);
    let expected = expected.ok_or_else(|| "its last node does not give its result".to_owned())?;
    let report = compare(&found[0], expected, &bound(graph, steps, group.result)?)?;
    Ok((!report.ok()).then(|| Difference { what: describe(graph, group), result: 0, report, cut }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::cut::{Codes, Cut};
    use super::*;
    use crate::backend::{Backend, Runner};
    use burin_ir::Scalar;
    use burin_ir::graph::{eval::eval_with, parse};

    /// A kernel that sums products, one that adds to its result in place, and one that pads it.
    const TEXT: &str = "graph @g(%x: f32[2, 3], %w: f32[3, 4]) {
  %pads = const i64[4] [1, 1, 1, 1]
  %m = MatMul(%x, %w) \"product\"
  %r = Relu(%m) \"positive\"
  %p = Pad(%r, %pads) \"frame\"
  %a = Exp(%p) \"growth\"
  %b = Neg(%a) \"decay\"
  return %p, %b
}";

    /// Compares all groups; `change` changes what compiled code gives.
    fn search(change: &dyn Fn(&Cut, Tensor) -> Tensor) -> (usize, Vec<(String, String)>) {
        let runner = Runner::new(parse(TEXT).unwrap(), Backend::Jit, 1).unwrap();
        let compiled = &runner.native().unwrap().compiled;
        let groups = groups(&compiled.graph, &compiled.report);
        let x = Tensor::new(&[2, 3], &[1f32, -2.0, 3.0, 0.5, 1.5, -1.0]);
        let w = Tensor::new(&[3, 4], &[0.25f32; 12]);
        let mut codes = Codes::default();
        let mut found = Vec::new();
        let mut gathered: HashMap<Node, Step> = HashMap::new();
        eval_with(&compiled.graph, &[x, w], &[], &mut |e| {
            gathered.insert(e.node, e.into());
        })
        .unwrap();
        for g in &groups {
            let steps: Vec<Step> = g.nodes.iter().map(|n| gathered.remove(n).unwrap()).collect();
            let mut run = |cut: &Cut| {
                let results = codes.run(cut)?;
                Ok(results.into_iter().map(|t| change(cut, t)).collect())
            };
            if let Some(d) = check(&compiled.graph, g, &steps, &mut run).unwrap() {
                found.push((d.what, d.report.to_string()));
            }
            gathered.extend(steps.into_iter().map(|s| (s.node, s)));
        }
        (groups.len(), found)
    }

    #[test]
    fn groups_are_what_is_fused_and_what_is_written_in_place() {
        let (groups, found) = search(&|_, t| t);
        assert_eq!((groups, found), (3, vec![]));
    }

    #[test]
    fn a_wrong_result_of_a_group_is_found() {
        // The result's last element, by a relative error of 2^-14.
        let (_, found) = search(&|cut, t| {
            let last = t.len() - 1;
            let of = cut.graph.to_string().contains("Neg");
            let wrong = |(i, v): (usize, Scalar)| {
                Scalar::F(if of && i == last { v.as_f64() * (1.0 + 2f64.powi(-14)) } else { v.as_f64() })
            };
            Tensor::from_scalars(t.dtype(), t.shape(), t.scalars().enumerate().map(wrong))
        });
        let [(what, report)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(what, "Exp \"growth\" + Neg \"decay\"");
        assert!(report.starts_with("1 of 24 elements differ, first at [3, 5]"), "{report}");
    }
}
