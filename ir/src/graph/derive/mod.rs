//! Derivatives of graphs: reverse accumulation (S. Linnainmaa, 1976).
//!
//! From a value on, the nodes before it are walked backwards; each hands the gradient of its results on
//! to its operands. What a node does to gradients stands in its row ([`OpRow::grad`]), or follows from
//! its meaning: pointwise ops by the derivatives of scalar operations ([`formula`]), views by another
//! view, composites by their bodies. Gradients have the types of what they belong to; integers and bools
//! have none. Regions are not walked into.
//!
//! [`OpRow::grad`]: crate::ops::OpRow::grad

mod formula;

use super::{Builder, Node, Value};
use crate::attr::Attr;
use crate::dtype::DType;
use crate::ops::{GradCx, Meaning};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// The gradients of the sum of a value's elements by other values, as new nodes at the end of the
/// builder's region, in which everything between must be; zeros where it does not depend on them.
pub fn gradients(b: &mut Builder<'_>, of: Value, by: &[Value]) -> Result<Vec<Value>, String> {
    let dtype = b.ty(of)?.dtype;
    if !is_differentiable(dtype) {
        return Err(format!("a value of {dtype} has no gradient, expected a float"));
    }
    let nodes = b.graph.regions[b.region].nodes.clone();
    let ones = like(b, of, 1.0)?;
    let mut walk = Walk { by: by.iter().copied().collect(), gradients: HashMap::from([(of, ones)]) };
    walk.nodes(b, &nodes, walk.by.clone())?;
    by.iter()
        .map(|v| match walk.gradients.get(v) {
            Some(g) => Ok(*g),
            None => like(b, *v, 0.0),
        })
        .collect()
}

fn is_differentiable(dtype: DType) -> bool {
    dtype.is_float() && !dtype.is_storage()
}

/// A tensor of a value's type that holds one number.
fn like(b: &mut Builder<'_>, v: Value, number: f64) -> Result<Value, String> {
    let dtype = b.ty(v)?.dtype;
    let number = b.constant(Tensor::scalar(dtype, Scalar::F(number)));
    let shape = b.op("Shape", &[v], vec![])?;
    b.op("Expand", &[number, shape], vec![])
}

struct Walk {
    /// The values by which is derived.
    by: HashSet<Value>,
    gradients: HashMap<Value, Value>,
}

impl Walk {
    /// Walks nodes, the last one first. Of the values before them those that depend on what is derived by
    /// are given.
    fn nodes(
        &mut self,
        b: &mut Builder<'_>,
        nodes: &[Node],
        mut depends: HashSet<Value>,
    ) -> Result<(), String> {
        for node in nodes {
            let data = &b.graph.nodes[*node];
            if data.inputs.iter().flatten().any(|v| depends.contains(v)) {
                depends.extend(&data.outputs);
            }
        }
        for node in nodes.iter().rev() {
            let data = &b.graph.nodes[*node];
            // What is derived by counts as given.
            let reached = data.outputs.iter().any(|v| self.gradients.contains_key(v) && !self.by.contains(v));
            if reached && data.outputs.iter().any(|v| depends.contains(v)) {
                self.node(b, *node, &depends).map_err(|e| format!("{}: {e}", b.graph.describe(*node)))?;
            }
        }
        Ok(())
    }

    fn node(&mut self, b: &mut Builder<'_>, node: Node, depends: &HashSet<Value>) -> Result<(), String> {
        let data = b.graph.nodes[node].clone();
        let given: Vec<Option<Value>> = data.outputs.iter().map(|v| self.gradients.get(v).copied()).collect();
        let wanted: Vec<bool> = data.inputs.iter().map(|v| v.is_some_and(|v| depends.contains(&v))).collect();
        let found = match (data.op.grad, data.op.meaning) {
            (Some(grad), _) => {
                let (inputs, results) = (&data.inputs[..], &data.outputs[..]);
                b.with_node(&data, |b, cx| grad(&GradCx { cx, inputs, results, given: &given }, b))?
            }
            (None, Meaning::Pointwise(terms)) => match given[..] {
                [Some(g)] => formula::pointwise(b, &data, terms, g, &wanted)?,
                _ => return Ok(()),
            },
            (None, _) if data.op.view => vec![viewed(b, data.inputs[0], given[0])?],
            (None, Meaning::Composite(_)) => return self.body(b, &data, &given, depends),
            _ => return Err("its derivative is not known".to_owned()),
        };
        for ((v, g), wanted) in data.inputs.iter().zip(found).zip(wanted) {
            if let (Some(v), Some(g), true) = (v, g, wanted) {
                self.add(b, *v, g)?;
            }
        }
        Ok(())
    }

    /// Walks the body of a composite. Its nodes compute the results a second time, which the common ones are
    /// found to be when the node itself is expanded.
    fn body(
        &mut self,
        b: &mut Builder<'_>,
        data: &super::NodeData,
        given: &[Option<Value>],
        depends: &HashSet<Value>,
    ) -> Result<(), String> {
        let first = b.graph.regions[b.region].nodes.len();
        let results = b.expand(data, &data.inputs)?.ok_or("its derivative is not known")?;
        let nodes = b.graph.regions[b.region].nodes[first..].to_vec();
        // The body may hand on an operand as it is.
        for (result, g) in results.iter().zip(given) {
            if let Some(g) = g {
                self.add(b, *result, *g)?;
            }
        }
        self.nodes(b, &nodes, depends.clone())
    }

    /// Adds to a value's gradient.
    fn add(&mut self, b: &mut Builder<'_>, v: Value, g: Value) -> Result<(), String> {
        if !is_differentiable(b.ty(v)?.dtype) {
            return Ok(());
        }
        let g = unbroadcast(b, g, v)?;
        let sum = match self.gradients.get(&v) {
            Some(before) => b.op("Add", &[*before, g], vec![])?,
            None => g,
        };
        self.gradients.insert(v, sum);
        Ok(())
    }
}

/// The gradient of a view's operand: the same elements under its shape.
fn viewed(b: &mut Builder<'_>, x: Option<Value>, g: Option<Value>) -> Result<Option<Value>, String> {
    let (Some(x), Some(g)) = (x, g) else { return Ok(None) };
    let shape = b.op("Shape", &[x], vec![])?;
    b.op("Reshape", &[g, shape], vec![("allowzero", Attr::Int(1))]).map(Some)
}

/// The gradient of a value that was broadcast to the shape that its gradient has: summed along the
/// dimensions that it was stretched in.
fn unbroadcast(b: &mut Builder<'_>, g: Value, v: Value) -> Result<Value, String> {
    let (from, to) = (b.ty(g)?.shape.clone(), b.ty(v)?.shape.clone());
    if from == to {
        return Ok(g);
    }
    let lead = from.len().checked_sub(to.len()).ok_or("a gradient has fewer dimensions than its value")?;
    let mut axes: Vec<i64> = (0..lead as i64).collect();
    for (i, (wide, own)) in from[lead..].iter().zip(&to).enumerate() {
        match (wide == own, own.as_const()) {
            (true, _) => {}
            (false, Some(1)) => axes.push((lead + i) as i64),
            (false, _) => {
                return Err(format!("it is not known whether the dimension {own} is broadcast to {wide}"));
            }
        }
    }
    let sum = if axes.is_empty() { g } else { summed(b, g, &axes)? };
    let shape = b.op("Shape", &[v], vec![])?;
    b.op("Reshape", &[sum, shape], vec![("allowzero", Attr::Int(1))])
}

fn summed(b: &mut Builder<'_>, x: Value, axes: &[i64]) -> Result<Value, String> {
    let axes = b.constant(Tensor::new(&[axes.len()], axes));
    b.op("ReduceSum", &[x, axes], vec![("keepdims", Attr::Int(1))])
}
