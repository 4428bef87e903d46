//! The verifier of the graph language: checks what the module's documentation says always holds.
//!
//! It trusts nothing that a pass may have written: each node's schema and attributes are checked
//! again, and its types are inferred again from its operands' recorded types.

use super::build::{check_schema, infer_node};
use super::{Def, Graph, Node, Region, Value};
use crate::attr::{self, Attr};
use crate::expr::Expr;
use crate::symbol::Symbol;
use crate::types::Type;
use cranelift_entity::EntitySet;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

/// Checks a graph; an error names the node, what was found and what was expected.
pub fn verify(graph: &Graph) -> Result<(), String> {
    let mut v = Verifier {
        graph,
        visible: EntitySet::new(),
        nodes: EntitySet::new(),
        regions: EntitySet::new(),
        symbols: HashSet::new(),
    };
    for (i, s) in graph.states.iter().enumerate() {
        if !matches!(graph.values.get(s.value).map(|d| &d.def), Some(Def::State(n)) if *n == i) {
            return Err(format!("state {i}: found a value {} defined elsewhere, expected a state", s.value));
        }
        v.visible.insert(s.value);
    }
    v.region(graph.body, 0)?;
    v.ends()
}

struct Verifier<'a> {
    graph: &'a Graph,
    /// The values that may be used here.
    visible: EntitySet<Value>,
    /// The nodes and regions met so far.
    nodes: EntitySet<Node>,
    regions: EntitySet<Region>,
    /// Every symbol of a type so far.
    symbols: HashSet<Symbol>,
}

impl Verifier<'_> {
    /// Checks a region and its results; what it defined is no longer visible after it.
    fn region(&mut self, region: Region, depth: usize) -> Result<(), String> {
        let place = || if depth == 0 { "the graph".to_owned() } else { region.to_string() };
        if self.graph.regions.get(region).is_none() || !self.regions.insert(region) {
            return Err(format!("{}: found it in two places or nowhere, expected once", place()));
        }
        let data = &self.graph.regions[region];
        let mut defined = Vec::new();
        for (i, v) in data.params.iter().enumerate() {
            match self.graph.values.get(*v).map(|d| &d.def) {
                Some(Def::Param(r, n)) if (*r, *n) == (region, i) => {}
                _ => return Err(format!("{}: found parameter {i} ({v}) defined elsewhere", place())),
            }
            self.define(*v, &mut defined);
        }
        for n in &data.nodes {
            let Some(node) = self.graph.nodes.get(*n) else {
                return Err(format!("{}: found {n}, expected a node of the graph", place()));
            };
            self.node(*n, depth).map_err(|e| format!("{}: {e}", self.graph.describe(*n)))?;
            node.outputs.iter().for_each(|v| self.define(*v, &mut defined));
        }
        for v in &data.results {
            self.usable(*v).map_err(|e| format!("result of {}: {e}", place()))?;
        }
        if depth > 0 {
            for v in defined {
                self.visible.remove(v);
            }
        }
        Ok(())
    }

    fn define(&mut self, v: Value, defined: &mut Vec<Value>) {
        self.visible.insert(v);
        defined.push(v);
        let shape = &self.graph.values[v].ty.innermost().shape;
        self.symbols.extend(shape.iter().filter(|d| d.as_const().is_none()).flat_map(Expr::symbols));
    }

    fn usable(&self, v: Value) -> Result<(), String> {
        let Some(data) = self.graph.values.get(v) else {
            return Err(format!("found {v}, expected a value of the graph"));
        };
        let shown =
            if data.name.is_empty() { v.to_string() } else { format!("%{}", crate::text::name(&data.name)) };
        match &data.def {
            Def::Const(c) if data.ty == Type::Tensor(c.ty()) => Ok(()),
            Def::Const(c) => {
                Err(format!("found the constant {shown} recorded as {}, expected {}", data.ty, c.ty()))
            }
            _ if self.visible.contains(v) => Ok(()),
            _ => Err(format!("found {shown}, expected a value defined before in this scope")),
        }
    }

    fn node(&mut self, n: Node, depth: usize) -> Result<(), String> {
        if !self.nodes.insert(n) {
            return Err("found the node in two places, expected one".to_owned());
        }
        let d = &self.graph.nodes[n];
        check_schema(d.op, &d.inputs, d.outputs.len(), d.regions.len())?;
        let given: Vec<(String, Attr)> = d.attrs.named();
        if !same_attrs(&attr::complete(d.op.attrs, given)?, &d.attrs) {
            return Err("found incomplete or unordered attributes, expected those of the schema".to_owned());
        }
        for v in d.inputs.iter().flatten() {
            self.usable(*v)?;
        }
        for (i, v) in d.outputs.iter().enumerate() {
            match self.graph.values.get(*v).map(|d| &d.def) {
                Some(Def::Result(m, k)) if (*m, *k) == (n, i) => {}
                _ => return Err(format!("found result {i} ({v}) defined elsewhere")),
            }
        }
        if depth == crate::text::MAX_DEPTH && !d.regions.is_empty() {
            return Err(format!("found regions deeper than {depth} levels, expected fewer"));
        }
        for r in &d.regions {
            self.region(*r, depth + 1)?;
        }
        self.types(n)
    }

    fn types(&self, n: Node) -> Result<(), String> {
        let d = &self.graph.nodes[n];
        let fresh = Cell::new(0);
        let name = |i: usize| Symbol::new(&format!("?inferred.{i}"));
        let make = || name(fresh.replace(fresh.get() + 1));
        let infos = infer_node(self.graph, d, &make)?;
        let inferred: Vec<Type> = infos.into_iter().map(|i| i.ty).collect();
        let recorded: Vec<Type> = d.outputs.iter().map(|v| self.graph.values[*v].ty.clone()).collect();
        let fresh = (0..fresh.get()).map(name).collect();
        Reconciled::new(&inferred, &recorded, &fresh, &self.symbols).map(|_| ())
    }

    fn ends(&self) -> Result<(), String> {
        let (names, outputs) = (self.graph.output_names.len(), self.graph.outputs().len());
        if names != outputs {
            return Err(format!("the graph: found {names} output names, expected {outputs}"));
        }
        for s in &self.graph.states {
            let name = &self.graph.values[s.value].name;
            self.usable(s.next).map_err(|e| format!("state {name:?}: {e}"))?;
            let ty = &self.graph.values[s.value].ty;
            for found in [&self.graph.values[s.next].ty, &Type::Tensor(s.init.ty())] {
                if found != ty {
                    return Err(format!("state {name:?}: found {found}, expected {ty}"));
                }
            }
        }
        Ok(())
    }
}

/// Equality bit by bit, so that a NaN equals itself.
fn same_attrs(a: &attr::Attrs, b: &attr::Attrs) -> bool {
    let same = |x: &Attr, y: &Attr| match (x, y) {
        (Attr::Float(x), Attr::Float(y)) => x.to_bits() == y.to_bits(),
        (Attr::Floats(x), Attr::Floats(y)) => x.iter().map(|v| v.to_bits()).eq(y.iter().map(|v| v.to_bits())),
        _ => x == y,
    };
    a.0.len() == b.0.len() && a.0.iter().zip(&b.0).all(|(x, y)| x.0 == y.0 && same(&x.1, &y.1))
}

/// Inferred types held against recorded ones: equal, but that a symbol that inference made now is
/// one that was made before.
pub(super) struct Reconciled {
    names: HashMap<Symbol, Symbol>,
}

impl Reconciled {
    /// `fresh` are the symbols that inference made now. Each may stand for one symbol of the
    /// recorded types that is not among those `seen` before this node.
    pub(super) fn new(
        inferred: &[Type],
        recorded: &[Type],
        fresh: &HashSet<Symbol>,
        seen: &HashSet<Symbol>,
    ) -> Result<Reconciled, String> {
        let mut out = Reconciled { names: HashMap::new() };
        for (i, r) in inferred.iter().zip(recorded) {
            for (i, r) in i.innermost().shape.iter().zip(&r.innermost().shape) {
                out.note(i, r, fresh, seen);
            }
        }
        for (k, (i, r)) in inferred.iter().zip(recorded).enumerate() {
            let mut renamed = i.clone();
            for d in &mut renamed.innermost_mut().shape {
                *d = out.rename(d);
            }
            if renamed != *r {
                return Err(format!("found type {r} for result {k}, expected {renamed}"));
            }
        }
        Ok(out)
    }

    /// Notes the names of a dimension's symbols. Of several in one dimension, those made first have the
    /// lesser numbers, in what was recorded as well; a wrong guess shows when the types are compared.
    fn note(&mut self, inferred: &Expr, recorded: &Expr, fresh: &HashSet<Symbol>, seen: &HashSet<Symbol>) {
        let made = |e: &Expr, is_new: &dyn Fn(&Symbol) -> bool| {
            let mut all: Vec<Symbol> = e.symbols().into_iter().filter(is_new).collect();
            all.sort_by_key(|s| (s.name().len(), *s));
            all
        };
        let unnamed = made(inferred, &|s| fresh.contains(s) && !self.names.contains_key(s));
        let taken: HashSet<Symbol> = self.names.values().copied().collect();
        let unused = made(recorded, &|s| !seen.contains(s) && !taken.contains(s));
        if unnamed.len() == unused.len() {
            self.names.extend(unnamed.into_iter().zip(unused));
        }
    }

    /// An expression with the recorded names.
    pub(super) fn rename(&self, e: &Expr) -> Expr {
        if self.names.is_empty() {
            e.clone()
        } else {
            e.substitute(&|s| self.names.get(&s).map(|s| (*s).into()))
        }
    }
}
