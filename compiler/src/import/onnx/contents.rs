//! Contents that must be known while a model is imported, since lengths and structure follow from them;
//! and what to say where they are not.

use super::body::{Importer, Site};
use burin_ir::Tensor;
use burin_ir::graph::{Constant, Def, Value};
use std::collections::HashSet;

impl<'m> Importer<'m, '_> {
    /// The one element of a value, where it is known.
    pub(super) fn known_one(&self, v: Value) -> Option<i64> {
        match self.graph.values[v].known.as_deref()? {
            [one] => one.as_const(),
            _ => None,
        }
    }

    /// The one element of a node's operand, which must be known; `None` where the operand is absent.
    pub(super) fn operand(
        &mut self,
        site: &Site<'_, 'm>,
        i: usize,
        what: &str,
    ) -> Result<Option<i64>, String> {
        if !matches!(site.items.get(i), Some(Some(_))) {
            return Ok(None);
        }
        let v = site.tensor(i)?;
        let what = format!("{what} ({:?})", site.node.input[i]);
        self.known_one(v).map(Some).ok_or_else(|| self.must_know(v, &what))
    }

    /// The message that contents must be known; notes the inputs of the model that would have to be
    /// fixed for that.
    pub(super) fn must_know(&mut self, v: Value, what: &str) -> String {
        let must = format!("{what} must be known when compiling");
        let elements = self.graph.tensor_type(v).and_then(|t| t.elements().as_const());
        if let Some(n) = elements.filter(|n| *n != 1) {
            return format!("{what} has {n} elements, expected 1");
        }
        if let Some([one]) = self.graph.values[v].known.as_deref() {
            let dims = self.graph.dims();
            let symbols = one.symbols();
            if symbols.iter().all(|s| dims.contains(s)) {
                let dims: Vec<String> = symbols.iter().map(|s| format!("--dim {s}=N")).collect();
                return format!("{must}, and is {one}: give {}", dims.join(" "));
            }
        }
        let Some(inputs) = self.inputs_behind(v) else {
            return format!("{must}, and depends on data");
        };
        let names: Vec<String> = inputs.iter().map(|i| self.graph.values[*i].name.clone()).collect();
        let fixes: Vec<String> = names.iter().map(|n| format!("--fix {n}=VALUES")).collect();
        self.wanted.extend(names);
        format!("{must}, and follows from inputs: give {}", fixes.join(" "))
    }

    /// The inputs of the model that a value follows from, if these are all, and integers or bools.
    fn inputs_behind(&self, v: Value) -> Option<Vec<Value>> {
        let (mut todo, mut seen, mut found) = (vec![v], HashSet::new(), Vec::new());
        while let Some(v) = todo.pop() {
            if !seen.insert(v) {
                continue;
            }
            match &self.graph.values[v].def {
                Def::Param(region, _) => {
                    let dtype = self.graph.tensor_type(v)?.dtype;
                    let fixable = *region == self.graph.body && dtype.is_whole();
                    fixable.then(|| found.push(v))?;
                }
                Def::Result(n, _) if self.graph.nodes[*n].regions.is_empty() => {
                    todo.extend(self.graph.nodes[*n].inputs.iter().flatten());
                }
                Def::Const(_) => {}
                Def::Result(..) | Def::State(_) => return None,
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// A constant that holds or does not.
    pub(super) fn flag(&mut self, holds: bool) -> Value {
        self.graph.add_constant("", Constant::Data(Tensor::bools(&[], &[holds])))
    }
}
