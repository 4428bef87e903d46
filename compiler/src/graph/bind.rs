//! Fixes what a caller knows beforehand: sizes of symbolic dimensions, and contents of inputs.
//!
//! Every node is inferred again, so that what becomes constant reaches everything behind it. Inputs
//! stay inputs, whatever is fixed, so that a call looks the same.

use super::rewrite::{Outcome, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Constant, Graph, Value, verify};
use burin_ir::{Expr, Symbol, Tensor, Type};
use std::collections::HashMap;

/// Gives dimensions of the inputs a size each, by name. An error names a dimension that there is
/// not, or whose size is negative.
pub fn dims(graph: &mut Graph, sizes: &[(String, i64)]) -> Result<Report, String> {
    let known = graph.dims();
    let mut chosen: HashMap<Symbol, Expr> = HashMap::new();
    for (name, size) in sizes {
        let symbol = known.iter().find(|s| s.to_string() == *name).ok_or_else(|| {
            let all: Vec<String> = known.iter().map(|s| s.to_string()).collect();
            let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            format!("found the dimension \"{name}\", expected one of the model's: {all}")
        })?;
        if *size < 0 {
            return Err(format!("dimension \"{name}\" is {size}, expected 0 or more"));
        }
        chosen.insert(*symbol, Expr::constant(*size));
    }
    for v in graph.inputs().to_vec() {
        if let Type::Tensor(t) = &mut graph.values[v].ty {
            t.shape = t.shape.iter().map(|d| d.substitute(&|s| chosen.get(&s).cloned())).collect();
        }
    }
    inferred_again(graph, &[])
}

/// Makes the contents of inputs known, by their numbers; the inputs' shapes become the tensors'.
pub fn contents(graph: &mut Graph, inputs: &[(usize, Tensor)]) -> Result<Report, String> {
    for (i, t) in inputs {
        let v = *graph.inputs().get(*i).ok_or_else(|| format!("there is no input number {i}"))?;
        graph.values[v].ty = Constant::Data(t.clone()).ty().into();
    }
    inferred_again(graph, inputs)
}

fn inferred_again(graph: &mut Graph, fixed: &[(usize, Tensor)]) -> Result<Report, String> {
    let mut constants: HashMap<Value, Value> = HashMap::new();
    let report = rewrite(graph, &mut Fuel::unlimited(), &mut |r, site| {
        let mut inputs = site.inputs.clone();
        for v in inputs.iter_mut().flatten() {
            let number = r.graph.inputs().iter().position(|p| p == v);
            let Some((_, t)) = fixed.iter().find(|(i, _)| Some(*i) == number) else { continue };
            let name = r.graph.values[*v].name.clone();
            *v = *constants
                .entry(*v)
                .or_insert_with(|| r.graph.add_constant(&name, Constant::Data(t.clone())));
        }
        let data = site.data;
        if !data.regions.is_empty() {
            return Ok(Outcome::Keep);
        }
        let attrs = data.attrs.named();
        let node = r.builder().node(data.op, &data.name, inputs, attrs, data.outputs.len(), Vec::new())?;
        Ok(Outcome::Replace(r.graph.nodes[node].outputs.clone()))
    })?;
    verify(graph)?;
    Ok(report)
}
