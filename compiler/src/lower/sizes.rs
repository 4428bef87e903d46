//! Sizes that depend on data: each gets a symbol of its own, so that shapes, strides and loop bounds
//! stay as simple as those of dimensions, and the expression behind it is computed once in a run.

use burin_ir::graph::Graph;
use burin_ir::{Expr, Symbol, Type};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// A graph whose sizes are constants, expressions of its dimensions, or single symbols.
pub struct Named<'g> {
    /// The graph. Its types are no longer what inference gives.
    pub graph: Cow<'g, Graph>,
    /// The symbols, with what they stand for: expressions of what is read from data.
    pub sizes: Vec<(Symbol, Expr)>,
}

/// Names sizes that depend on data.
pub fn name(graph: &Graph) -> Named<'_> {
    let dims: HashSet<Symbol> = graph.dims().into_iter().collect();
    let unnamed = |e: &Expr| e.as_symbol().is_none() && e.symbols().iter().any(|s| !dims.contains(s));
    let mut names: HashMap<Expr, Symbol> = HashMap::new();
    let mut sizes = Vec::new();
    for data in graph.values.values() {
        let Type::Tensor(t) = &data.ty else { continue };
        for e in t.shape.iter().filter(|e| unnamed(e)) {
            names.entry(e.clone()).or_insert_with(|| {
                let symbol = Symbol::new(&format!("?{}", graph.fresh_symbols as usize + sizes.len()));
                sizes.push((symbol, e.clone()));
                symbol
            });
        }
    }
    if sizes.is_empty() {
        return Named { graph: Cow::Borrowed(graph), sizes };
    }
    let renamed = |e: &Expr| names.get(e).map_or_else(|| e.clone(), |s| (*s).into());
    let mut graph = graph.clone();
    for data in graph.values.values_mut() {
        if let Type::Tensor(t) = &mut data.ty {
            t.shape = t.shape.iter().map(&renamed).collect();
        }
        data.known = data.known.take().map(|k| k.iter().map(&renamed).collect());
    }
    graph.fresh_symbols += sizes.len() as u32;
    Named { graph: Cow::Owned(graph), sizes }
}

/// Whether an expression follows from these symbols alone.
pub fn follows(e: &Expr, known: &HashSet<Symbol>) -> bool {
    e.symbols().iter().all(|s| known.contains(s))
}
