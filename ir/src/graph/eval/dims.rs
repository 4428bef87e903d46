//! Binding the dimensions of a call: the inputs' shapes matched against the declared types.

use super::EvalError;
use crate::expr::Expr;
use crate::graph::Graph;
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::TensorType;
use std::collections::HashMap;

/// The value of every dimension, in the order of [`Graph::dims`] as far as it is determined: first
/// those that stand alone somewhere, then those of which some dimension is a multiple plus a
/// constant; all other dimensions are then checked. An error names the input, what was found and
/// what was expected.
pub fn bind_dims(graph: &Graph, inputs: &[Tensor]) -> Result<HashMap<Symbol, i64>, EvalError> {
    let declared = graph.inputs();
    if declared.len() != inputs.len() {
        let message = format!("expected {} inputs, found {}", declared.len(), inputs.len());
        return Err(EvalError { place: format!("graph @{}", graph.name), message });
    }
    let mut pairs = Vec::new();
    for (i, (v, t)) in declared.iter().zip(inputs).enumerate() {
        let place = format!("input {i} \"{}\"", graph.values[*v].name);
        let error = |message| EvalError { place: place.clone(), message };
        let ty = graph.tensor_type(*v);
        let ty = ty.ok_or_else(|| error(format!("found a tensor, expected {}", graph.values[*v].ty)))?;
        if ty.dtype != t.dtype() || ty.rank() != t.rank() {
            return Err(error(format!("found {t:?}, expected {ty}")));
        }
        pairs.push((place, ty, t));
    }
    let mut dims = HashMap::new();
    for (_, ty, t) in &pairs {
        for (d, n) in ty.shape.iter().zip(t.shape()) {
            if let Some(s) = d.as_symbol() {
                dims.entry(s).or_insert(*n as i64);
            }
        }
    }
    while bind_linear(&pairs, &mut dims) {}
    for (place, ty, t) in &pairs {
        check(ty, t, &dims).map_err(|message| EvalError { place: place.clone(), message })?;
    }
    Ok(dims)
}

/// Solves one dimension such as `2*n + 1` for its one unbound symbol; false where there is none.
fn bind_linear(pairs: &[(String, &TensorType, &Tensor)], dims: &mut HashMap<Symbol, i64>) -> bool {
    for (_, ty, t) in pairs {
        for (d, n) in ty.shape.iter().zip(t.shape()) {
            let known = |s: Symbol| dims.get(&s).map(|v| Expr::constant(*v));
            let d = d.substitute(&known);
            let symbols = d.symbols();
            let Some(s) = symbols.first().filter(|_| symbols.len() == 1) else { continue };
            let Some((a, b)) = d.linear_in(*s) else { continue };
            let (Some(a), Some(b)) = (a.as_const(), b.as_const()) else { continue };
            let rest = *n as i64 - b;
            if a != 0 && rest % a == 0 {
                dims.insert(*s, rest / a);
                return true;
            }
        }
    }
    false
}

fn check(ty: &TensorType, t: &Tensor, dims: &HashMap<Symbol, i64>) -> Result<(), String> {
    for (axis, (d, n)) in ty.shape.iter().zip(t.shape()).enumerate() {
        let value = d.eval(&|s| dims.get(&s).copied());
        if value == Some(*n as i64) {
            continue;
        }
        let mut bound: Vec<String> =
            d.symbols().iter().filter_map(|s| Some(format!("{s} = {}", dims.get(s)?))).collect();
        bound.insert(0, format!("found {t:?}, expected {ty}"));
        let expected = value.map_or("undetermined".to_owned(), |v| v.to_string());
        return Err(format!("{}: axis {axis} is {n}, expected {expected}", bound.join(", ")));
    }
    Ok(())
}
