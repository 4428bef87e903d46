//! Texts become numbers: from here on a tensor of texts is one of `i64`.
//!
//! A compiled model counts its own texts, in the order in which constants have them, the empty text
//! first; those that a call brings follow. Equal texts have equal numbers, so that moving and comparing
//! them is all that kernels know of.

use burin_ir::graph::{Constant, Def, Graph};
use burin_ir::{DType, Tensor, Type};
use std::borrow::Cow;
use std::collections::HashMap;

/// A graph in which texts are numbers.
pub(super) struct Numbered<'g> {
    /// The graph. Types of nodes' results are no longer what inference gives.
    pub(super) graph: Cow<'g, Graph>,
    /// The texts that the first numbers stand for; none where the graph has no texts.
    pub(super) texts: Vec<String>,
}

/// Numbers the texts of a graph.
pub(super) fn number(graph: &Graph) -> Result<Numbered<'_>, String> {
    let is_text = |ty: &Type| ty.tensor().is_some_and(|t| t.dtype == DType::Text);
    if let Some(state) = graph.states.iter().find(|s| s.init.ty().dtype == DType::Text) {
        let name = &graph.values[state.value].name;
        return Err(format!("state \"{name}\" holds texts, whose numbers the next call does not know"));
    }
    if !graph.values.values().any(|v| is_text(&v.ty)) {
        return Ok(Numbered { graph: Cow::Borrowed(graph), texts: Vec::new() });
    }
    let mut graph = graph.clone();
    let mut table = Table { texts: vec![String::new()], numbers: HashMap::from([("", 0)]) };
    for data in graph.values.values_mut().filter(|v| is_text(&v.ty)) {
        if let Def::Const(c) = &mut data.def {
            *c = table.renumbered(c)?;
        }
        if let Type::Tensor(t) = &mut data.ty {
            t.dtype = DType::I64;
        }
    }
    Ok(Numbered { graph: Cow::Owned(graph), texts: table.texts })
}

/// The texts met so far.
struct Table {
    texts: Vec<String>,
    numbers: HashMap<&'static str, i64>,
}

impl Table {
    fn renumbered(&mut self, c: &Constant) -> Result<Constant, String> {
        let t = c.materialise()?;
        let mut number = |text: &'static str| {
            *self.numbers.entry(text).or_insert_with(|| {
                self.texts.push(text.to_owned());
                self.texts.len() as i64 - 1
            })
        };
        let numbers: Vec<i64> = t.to_texts().unwrap_or_default().into_iter().map(&mut number).collect();
        Ok(Constant::Data(Tensor::new(t.shape(), &numbers)))
    }
}
