//! The op Gradient: names of values say what is derived by what; the derivative becomes nodes.

use super::body::{Importer, Site};
use super::structure::Item;
use super::upgrade::Call;
use burin_ir::Attr;
use burin_ir::graph::{Builder, Node, Value, derive};
use std::collections::{HashMap, HashSet};

impl Importer<'_, '_> {
    /// The gradients of the value `y` by the values `xs`, at the points that the operands give to these and
    /// to `zs`.
    pub(super) fn gradient(&mut self, call: &mut Call, site: &Site<'_, '_>) -> Result<Vec<Item>, String> {
        let mut names = |what: &str| match call.take(what) {
            Some(Attr::Strs(names)) => Ok(names),
            None => Ok(Vec::new()),
            Some(other) => Err(format!("attribute {what} is {:?}, expected Strs", other.kind())),
        };
        let (xs, zs) = (names("xs")?, names("zs")?);
        let Some(Attr::Str(y)) = call.take("y") else { return Err("attribute y is missing".to_owned()) };
        let (found, expected) = (site.items.len(), xs.len() + zs.len());
        if found != expected || xs.is_empty() {
            return Err(format!("found {found} inputs, expected {expected}: one for each name in xs and zs"));
        }
        let value = |name: &String| site.scope.get(name)?.tensor().map_err(|e| format!("{name:?}: {e}"));
        let named = xs.iter().chain(&zs).map(value).collect::<Result<Vec<Value>, String>>()?;
        let given = (0..expected).map(|i| site.tensor(i)).collect::<Result<Vec<Value>, String>>()?;
        let mut y = value(&y)?;
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        if named != given {
            y = recomputed(&mut b, y, named.into_iter().zip(given.iter().copied()).collect())?;
        }
        let gradients = derive::gradients(&mut b, y, &given[..xs.len()])?;
        Ok(gradients.into_iter().map(Item::Tensor).collect())
    }
}

/// A value as it is where others stand for some that it is computed from: the nodes between once more.
fn recomputed(b: &mut Builder<'_>, y: Value, mut stands_for: HashMap<Value, Value>) -> Result<Value, String> {
    let nodes: Vec<Node> = b.graph.regions[b.region].nodes.clone();
    let mut needed = HashSet::from([y]);
    for node in nodes.iter().rev().map(|n| &b.graph.nodes[*n]) {
        if node.outputs.iter().any(|v| needed.contains(v) && !stands_for.contains_key(v)) {
            needed.extend(node.inputs.iter().flatten());
        }
    }
    for node in nodes {
        let data = b.graph.nodes[node].clone();
        let wanted = data.outputs.iter().any(|v| needed.contains(v));
        let changes = data.inputs.iter().flatten().any(|v| stands_for.contains_key(v));
        let given = data.outputs.iter().any(|v| stands_for.contains_key(v));
        if !wanted || !changes || given {
            continue;
        }
        if !data.regions.is_empty() {
            return Err(format!("{} is computed anew, which is not supported", b.graph.describe(node)));
        }
        let inputs = data.inputs.iter().map(|v| v.map(|v| *stands_for.get(&v).unwrap_or(&v))).collect();
        let again =
            b.node(data.op, &data.name, inputs, data.attrs.named(), data.outputs.len(), Vec::new())?;
        let again = b.graph.nodes[again].outputs.clone();
        stands_for.extend(data.outputs.into_iter().zip(again));
    }
    Ok(*stands_for.get(&y).unwrap_or(&y))
}
