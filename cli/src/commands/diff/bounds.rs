//! How far the result of several nodes in one kernel may be from the evaluator's.
//!
//! The evaluator rounds after every node, and so does a kernel: what they may differ by is what the
//! rows of the nodes state. So a result behind exact nodes alone is exact. Behind others the bounds
//! are carried along: each inner result is moved as far as its row's bound allows (up, down, and by
//! signs that vary), the nodes behind it are evaluated again, and what that does to an element of the
//! result is what this node may do to it. An element's bound is
//!
//! ```text
//! the bound of the last node's row + 2 * sum over inner nodes of what they do to it + one ULP
//! ```
//!
//! where the factor is for what three directions do not show. For integers and bools it is 1 and
//! there is no ULP, so that they are exact wherever none of the moves changes them.

use burin_ir::compare::{Bound, row_bounds, ulp_near};
use burin_ir::graph::eval::{Event, Operation, eval_op};
use burin_ir::graph::{Graph, Node, Value};
use burin_ir::{Scalar, Tensor};
use std::collections::HashMap;

/// What the moves' effects are multiplied by for floats.
const MARGIN: f64 = 2.0;

/// A node as it was evaluated.
pub(super) struct Step {
    pub(super) node: Node,
    pub(super) inputs: Vec<Option<Tensor>>,
    pub(super) outputs: Vec<Tensor>,
}

impl From<&Event<'_>> for Step {
    fn from(e: &Event<'_>) -> Step {
        Step { node: e.node, inputs: e.inputs.to_vec(), outputs: e.outputs.to_vec() }
    }
}

/// A node's op, for the evaluator.
pub(super) fn operation(graph: &Graph, node: Node) -> Operation<'_> {
    let data = &graph.nodes[node];
    Operation {
        op: data.op,
        attrs: &data.attrs,
        outputs: data.outputs.len(),
        region_results: &[],
        region: &|_, _| Err("the node has no regions".to_owned()),
    }
}

/// The bound of a result of the last of some nodes, of which each was evaluated alone.
pub(super) fn bound(graph: &Graph, steps: &[Step], result: Value) -> Result<Bound, String> {
    let (last, inner) = steps.split_last().ok_or("there are no nodes")?;
    let number = graph.nodes[last.node].outputs.iter().position(|v| *v == result);
    let number = number.ok_or("the last node does not give the result")?;
    let expected = &last.outputs[number];
    let mut effects: Option<Vec<f64>> = None;
    for (i, step) in inner.iter().enumerate() {
        let bounds = row_bounds(&operation(graph, step.node), &step.inputs, &step.outputs)?;
        for ((v, t), bound) in graph.nodes[step.node].outputs.iter().zip(&step.outputs).zip(&bounds) {
            let Some(errors) = errors(bound, t) else { continue };
            let of_this = effect(graph, &steps[i + 1..], (*v, t), &errors, (result, expected))?;
            let all = effects.get_or_insert_with(|| vec![0.0; expected.len()]);
            all.iter_mut().zip(of_this).for_each(|(a, e)| *a += e);
        }
    }
    let own = row_bounds(&operation(graph, last.node), &last.inputs, &last.outputs)?.swap_remove(number);
    let Some(effects) = effects else { return Ok(own) };
    let own = errors(&own, expected).unwrap_or_else(|| vec![0.0; expected.len()]);
    let rounding = errors(&Bound::Ulps(1), expected);
    let each = |i: usize| match &rounding {
        Some(ulp) => own[i] + MARGIN * effects[i] + ulp[i],
        None => own[i] + effects[i],
    };
    Ok(Bound::Each((0..expected.len()).map(each).collect()))
}

/// How far a bound lets each element be from its value; `None` where it must be that value.
fn errors(bound: &Bound, t: &Tensor) -> Option<Vec<f64>> {
    let u = t.dtype().unit_roundoff();
    match bound {
        Bound::Exact => None,
        Bound::Ulps(n) => {
            (u > 0.0).then(|| t.to_f64s().into_iter().map(|v| *n as f64 * ulp_near(t.dtype(), v)).collect())
        }
        Bound::Each(each) => Some(each.clone()),
        Bound::Close { rtol, atol } => Some(t.to_f64s().iter().map(|v| atol + rtol * v.abs()).collect()),
    }
}

/// How far each element of the result gets from what is expected when a value is moved by so much.
fn effect(
    graph: &Graph,
    behind: &[Step],
    (value, t): (Value, &Tensor),
    errors: &[f64],
    (result, expected): (Value, &Tensor),
) -> Result<Vec<f64>, String> {
    let mut most = vec![0.0f64; expected.len()];
    let signs: [fn(usize) -> f64; 3] = [|_| 1.0, |_| -1.0, varying_sign];
    for sign in signs {
        let moved = t.scalars().zip(errors).enumerate();
        let moved = moved.map(|(i, (v, e))| Scalar::F(v.as_f64() + sign(i) * e));
        let moved = Tensor::from_scalars(t.dtype(), t.shape(), moved);
        let mut changed = HashMap::from([(value, moved)]);
        for step in behind {
            evaluate_again(graph, step, &mut changed)?;
        }
        let Some(found) = changed.get(&result) else { break };
        if found.shape() != expected.shape() {
            return Err("a rounding changes the result's shape".to_owned());
        }
        for (m, (f, e)) in most.iter_mut().zip(found.scalars().zip(expected.scalars())) {
            *m = m.max(distance(f, e));
        }
    }
    Ok(most)
}

/// Signs without a pattern that indices could have.
fn varying_sign(i: usize) -> f64 {
    let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if bits >> 63 == 0 { 1.0 } else { -1.0 }
}

/// Evaluates a node on what has changed of its operands, if any has.
fn evaluate_again(graph: &Graph, step: &Step, changed: &mut HashMap<Value, Tensor>) -> Result<(), String> {
    let data = &graph.nodes[step.node];
    if !data.inputs.iter().flatten().any(|v| changed.contains_key(v)) {
        return Ok(());
    }
    let now = |(v, t): (&Option<Value>, &Option<Tensor>)| {
        v.and_then(|v| changed.get(&v).cloned()).or_else(|| t.clone())
    };
    let inputs: Vec<Option<Tensor>> = data.inputs.iter().zip(&step.inputs).map(now).collect();
    let outputs = eval_op(&operation(graph, step.node), &inputs)?;
    changed.extend(data.outputs.iter().copied().zip(outputs));
    Ok(())
}

/// `|a - b|`; infinite where one of them is NaN or only one is infinite.
fn distance(a: Scalar, b: Scalar) -> f64 {
    if a.same(b) {
        return 0.0;
    }
    let d = (a.as_f64() - b.as_f64()).abs();
    if d.is_nan() { f64::INFINITY } else { d }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burin_ir::graph::{eval::eval_with, parse};

    fn bound_of(text: &str, inputs: &[Tensor]) -> (Bound, Tensor) {
        let graph = parse(text).unwrap();
        let mut steps = Vec::new();
        let outputs = eval_with(&graph, inputs, &[], &mut |e| steps.push(Step::from(e))).unwrap().outputs;
        (bound(&graph, &steps, graph.outputs()[0]).unwrap(), outputs[0].clone())
    }

    fn each(bound: Bound) -> Vec<f64> {
        match bound {
            Bound::Each(each) => each,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exact_nodes_are_exact_together() {
        let text = "graph @g(%x: f32[2]) {\n  %a = Add(%x, %x)\n  %y = Relu(%a)\n  return %y\n}";
        assert_eq!(bound_of(text, &[Tensor::new(&[2], &[1f32, -2.0])]).0, Bound::Exact);
    }

    #[test]
    fn an_inner_error_is_carried_to_the_result() {
        let text = "graph @g(%x: f32[2]) {
  %w = const f32[2] [3, 8]
  %a = Exp(%x)
  %y = Mul(%a, %w)
  return %y
}";
        let (bound, y) = bound_of(text, &[Tensor::new(&[2], &[0f32, 1.0])]);
        let (alone, _) = bound_of(
            "graph @g(%x: f32[2]) {\n  %a = Exp(%x)\n  return %a\n}",
            &[Tensor::new(&[2], &[0f32, 1.0])],
        );
        let Bound::Ulps(n) = alone else { panic!("{alone:?}") };
        for (b, y) in each(bound).iter().zip(y.to_f64s()) {
            let inner = n as f64 * 2f64.powi(-23) * y;
            assert!(*b >= 2.0 * inner && *b < 3.0 * inner + 1e-6, "{b} of {y}");
        }
    }

    #[test]
    fn integers_are_exact_where_no_rounding_tips_them() {
        let text = "graph @g(%x: f32[2]) {
  %a = Exp(%x)
  %y = Cast(%a) {to = i32}
  return %y
}";
        // e^0 = 1 may fall below 1; e^1 = 2.7 stays 2.
        assert_eq!(each(bound_of(text, &[Tensor::new(&[2], &[0f32, 1.0])]).0), [1.0, 0.0]);
    }
}
