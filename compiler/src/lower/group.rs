//! A stored value's kernel: its definition with everything inlined that fusion put into it, over
//! the memory of the stored values that it reads.

use super::named::Named;
use super::nest::{Nest, NestBuffer, Store};
use crate::graph::fuse::{Fate, Fusion};
use crate::graph::node;
use crate::packing::PANEL;
use burin_ir::graph::{Constant, Graph, Node, Value};
use burin_ir::loops::Access;
use burin_ir::tensor::strides;
use burin_ir::{DType, Expr, Scalar, Symbol, Term};
use std::collections::HashMap;

/// A dimension that is cut into blocks of [`PANEL`], each of which lies together.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    /// The dimension. Its elements lie side by side within a block.
    pub axis: usize,
    /// From one block to the next, in elements.
    pub stride: i64,
}

/// How a stored value's elements lie in its buffer: element `index` is `sum(index * strides)`
/// elements behind the place that the step gives to the kernel, where a dimension that is cut into
/// panels counts with the panels' stride and its index within the panel instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// One stride a dimension, in elements.
    pub strides: Vec<Expr>,
    /// The dimension that is cut into panels, if one is.
    pub panels: Option<Panels>,
}

impl Layout {
    /// Row-major.
    pub fn contiguous(shape: &[Expr]) -> Layout {
        Layout::ordered(shape, &(0..shape.len()).collect::<Vec<_>>())
    }

    /// Without gaps, the dimensions from the outermost to the innermost in this order.
    pub fn ordered(shape: &[Expr], order: &[usize]) -> Layout {
        let mut strides = vec![Expr::ONE; shape.len()];
        let mut inner = Expr::ONE;
        for d in order.iter().rev() {
            strides[*d] = inner.clone();
            inner = &inner * &shape[*d];
        }
        Layout { strides, panels: None }
    }

    /// One dimension in panels, which hold the others in this order; the last panel is filled up.
    pub fn panels(shape: &[i64], axis: usize, order: &[usize]) -> Layout {
        let mut strides = vec![Expr::ONE; shape.len()];
        let mut inner = PANEL;
        for d in order.iter().rev() {
            strides[*d] = inner.into();
            inner *= shape[*d];
        }
        Layout { strides, panels: Some(Panels { axis, stride: inner }) }
    }

    /// The flat index of an element.
    pub fn index(&self, at: &[Expr]) -> Expr {
        let panels = self.panels.as_ref();
        let plain = |d: usize| panels.is_none_or(|p| p.axis != d);
        let sum = (0..at.len()).filter(|d| plain(*d)).fold(Expr::ZERO, |s, d| s + &self.strides[d] * &at[d]);
        let Some(p) = panels else { return sum };
        let panel = at[p.axis].floor_div(&PANEL.into());
        sum + &at[p.axis] + panel * (p.stride - PANEL)
    }

    /// Elements from the first to behind the last, which lie in a whole panel.
    pub fn span(&self, shape: &[Expr]) -> Expr {
        if let Some(p) = &self.panels {
            return shape[p.axis].ceil_div(&PANEL.into()) * p.stride;
        }
        let last: Vec<Expr> = shape.iter().map(|n| n - &Expr::ONE).collect();
        self.index(&last) + 1
    }
}

/// Where values lie, as far as the lowering of kernels needs to know.
pub trait Layouts {
    /// The layout of a stored value or view.
    fn layout(&self, v: Value) -> Layout;

    /// The index of a load of an element.
    fn place(&self, v: Value, at: &[Expr]) -> Vec<Expr> {
        vec![self.layout(v).index(at)]
    }
}

/// Before layouts are chosen: loads keep one index a dimension.
struct Unplaced;

impl Layouts for Unplaced {
    fn layout(&self, _: Value) -> Layout {
        Layout { strides: Vec::new(), panels: None }
    }

    fn place(&self, _: Value, at: &[Expr]) -> Vec<Expr> {
        at.to_vec()
    }
}

/// What a kernel computes, whatever the layouts: loads have one index for each dimension.
pub struct Definition {
    /// The axes of the result.
    pub axes: Vec<Symbol>,
    /// One element.
    pub term: Term,
    /// The stored values that it reads, by the numbers of its loads.
    pub reads: Vec<Value>,
}

/// The definition of a stored value over the stored values that its kernel reads.
pub fn definition(graph: &Graph, fusion: &Fusion, v: Value) -> Result<Definition, String> {
    let ty = graph.tensor_type(v).ok_or("a stored value is no tensor")?;
    let axes: Vec<Symbol> = (0..ty.rank()).map(|i| Symbol::new(&format!("a{i}"))).collect();
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let mut inliner = Inliner::new(graph, fusion, &Unplaced);
    let term = inliner.define(v, &at)?;
    Ok(Definition { axes, term, reads: inliner.reads })
}

/// A kernel's nest, and the values behind its buffers (the result's comes last).
pub struct Lowered {
    /// What it computes.
    pub nest: Nest,
    /// The stored values (or views) that it reads, one a buffer.
    pub reads: Vec<Value>,
    /// The nodes that it computes.
    pub nodes: Vec<Node>,
    /// What its symbols stand for that are not known outside.
    pub named: Named,
}

/// Builds the nest of a stored value.
pub fn lower(graph: &Graph, fusion: &Fusion, layouts: &dyn Layouts, v: Value) -> Result<Lowered, String> {
    let ty = graph.tensor_type(v).ok_or("a stored value is no tensor")?;
    let axes: Vec<Symbol> = (0..ty.rank()).map(|i| Symbol::new(&format!("a{i}"))).collect();
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let mut inliner = Inliner::new(graph, fusion, layouts);
    let value = inliner.define(v, &at)?;
    finish(inliner, v, axes, &ty.shape, value)
}

/// Builds the nest that copies a value, wherever it comes from, into a place of another layout.
pub fn copy(
    graph: &Graph,
    fusion: &Fusion,
    layouts: &dyn Layouts,
    v: Value,
    to: &Layout,
) -> Result<Lowered, String> {
    let ty = graph.tensor_type(v).ok_or("a copied value is no tensor")?;
    let axes: Vec<Symbol> = (0..ty.rank()).map(|i| Symbol::new(&format!("a{i}"))).collect();
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let mut inliner = Inliner::new(graph, fusion, layouts);
    let value = inliner.element(v, at)?;
    build(inliner, "copy".to_owned(), axes, &ty.shape, value, to)
}

/// Builds the nest that fills a box of the given shape with a value of the type.
pub fn fill(dtype: DType, value: Scalar, shape: &[Expr], to: &Layout) -> Lowered {
    let axes: Vec<Symbol> = (0..shape.len()).map(|i| Symbol::new(&format!("a{i}"))).collect();
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let buffers = vec![NestBuffer { dtype, len: to.span(shape), access: Access::Write, panels: None }];
    let value = Term::value(dtype, value);
    let mut nest = Nest {
        name: "fill".to_owned(),
        axes: axes.into_iter().zip(shape.iter().cloned()).collect(),
        buffers,
        stores: vec![Store { buffer: 0, index: to.index(&at), value }],
    };
    nest.normalise();
    Lowered { nest, reads: Vec::new(), nodes: Vec::new(), named: Named::default() }
}

fn finish(
    inliner: Inliner<'_>,
    v: Value,
    axes: Vec<Symbol>,
    shape: &[Expr],
    value: Term,
) -> Result<Lowered, String> {
    let name =
        inliner.graph.producer(v).map_or("value", |(n, _)| inliner.graph.nodes[n].op.name).to_lowercase();
    let layout = inliner.layouts.layout(v);
    build(inliner, name, axes, shape, value, &layout)
}

fn build(
    inliner: Inliner<'_>,
    name: String,
    axes: Vec<Symbol>,
    shape: &[Expr],
    value: Term,
    to: &Layout,
) -> Result<Lowered, String> {
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let mut buffers = Vec::new();
    for v in &inliner.reads {
        let ty = inliner.graph.tensor_type(*v).ok_or("an operand is no tensor")?;
        let layout = inliner.layouts.layout(*v);
        let (len, panels) = (layout.span(&ty.shape), layout.panels.as_ref().map(|p| p.stride));
        buffers.push(NestBuffer { dtype: ty.dtype, len, access: Access::Read, panels });
    }
    let dtype = value.dtype();
    buffers.push(NestBuffer { dtype, len: to.span(shape), access: Access::Write, panels: None });
    let store = Store { buffer: buffers.len() - 1, index: to.index(&at), value };
    let axes = axes.into_iter().zip(shape.iter().cloned()).collect();
    let mut nest = Nest { name, axes, buffers, stores: vec![store] };
    nest.normalise();
    let mut nodes = inliner.nodes;
    nodes.sort();
    nodes.dedup();
    Ok(Lowered { nest, reads: inliner.reads, nodes, named: inliner.named })
}

/// Substitutes definitions into one another.
struct Inliner<'a> {
    graph: &'a Graph,
    fusion: &'a Fusion,
    layouts: &'a dyn Layouts,
    reads: Vec<Value>,
    nodes: Vec<Node>,
    /// One term for each value and index, so that what is shared stays shared.
    done: HashMap<(Value, Vec<Expr>), Term>,
    fresh: usize,
    named: Named,
}

impl<'a> Inliner<'a> {
    fn new(graph: &'a Graph, fusion: &'a Fusion, layouts: &'a dyn Layouts) -> Inliner<'a> {
        Inliner {
            graph,
            fusion,
            layouts,
            reads: Vec::new(),
            nodes: Vec::new(),
            done: HashMap::new(),
            fresh: 0,
            named: Named::default(),
        }
    }

    /// The element of a value at an index: a load, or its definition.
    fn element(&mut self, v: Value, at: Vec<Expr>) -> Result<Term, String> {
        let key = (v, at);
        if let Some(t) = self.done.get(&key) {
            return Ok(t.clone());
        }
        let term = self.make(v, &key.1)?;
        self.done.insert(key, term.clone());
        Ok(term)
    }

    fn make(&mut self, v: Value, at: &[Expr]) -> Result<Term, String> {
        let ty = self.graph.tensor_type(v).ok_or("an operand is no tensor")?.clone();
        if at.len() != ty.rank() {
            return Err(format!("{v} is {ty}, and is read as if it had {} dimensions", at.len()));
        }
        if let Some(t) = self.small_constant(v, ty.dtype) {
            return Ok(t);
        }
        if let (Some(known), true) = (&self.graph.values[v].known, self.graph.producer(v).is_some()) {
            return known_element(
                known,
                &ty.static_shape().ok_or("known contents of a symbolic shape")?,
                ty.dtype,
                at,
            );
        }
        match self.fusion.fate(v) {
            Fate::Inlined => self.define(v, at),
            Fate::View(_) | Fate::Stored(_) => {
                let number = self.reads.iter().position(|r| *r == v).unwrap_or_else(|| {
                    self.reads.push(v);
                    self.reads.len() - 1
                });
                Ok(Term::load(ty.dtype, number, self.layouts.place(v, at)))
            }
            Fate::Dead => Err(format!("{v} is used but was found dead")),
        }
    }

    /// A constant of one element, as a constant of the kernel.
    fn small_constant(&self, v: Value, dtype: DType) -> Option<Term> {
        match self.graph.constant(v)? {
            // The value as it is: a conversion would saturate an infinity of 8 bits.
            Constant::Data(t) if t.len() == 1 => Some(Term::value(dtype, t.get(0))),
            _ => None,
        }
    }

    /// The definition of a value's element, with its operands' elements in it.
    fn define(&mut self, v: Value, at: &[Expr]) -> Result<Term, String> {
        let (node, result) = self.graph.producer(v).ok_or("a value without a producer is not stored")?;
        let e = self.named.element(node::definition(self.graph, node, result)?);
        self.nodes.push(node);
        let mut names: HashMap<Symbol, Expr> = e.axes.iter().copied().zip(at.iter().cloned()).collect();
        for s in e.body.bound_symbols() {
            self.fresh += 1;
            names.insert(s, Symbol::new(&format!("r{}", self.fresh)).into());
        }
        let inputs = self.graph.nodes[node].inputs.clone();
        let mut failure = None;
        let body = e.body.map(&|s| names.get(&s).cloned(), &mut |dtype, input, index| {
            let operand = inputs.get(input).copied().flatten();
            match operand.ok_or("an absent operand is read".to_owned()).and_then(|o| self.element(o, index)) {
                Ok(t) => t,
                Err(e) => {
                    failure.get_or_insert(e);
                    Term::constant(dtype, Scalar::I(0))
                }
            }
        });
        match failure {
            Some(e) => Err(e),
            None => Ok(body),
        }
    }
}

/// An element of a tensor whose contents are expressions.
fn known_element(known: &[Expr], shape: &[usize], dtype: DType, at: &[Expr]) -> Result<Term, String> {
    let flat = strides(shape).iter().zip(at).fold(Expr::ZERO, |s, (stride, i)| s + i * (*stride as i64));
    let value = |e: &Expr| Term::index(e.clone()).cast(dtype);
    if let Some(i) = flat.as_const() {
        let e = usize::try_from(i).ok().and_then(|i| known.get(i));
        return e.map(value).ok_or_else(|| "an index outside known contents".to_owned());
    }
    let (last, rest) = known.split_last().ok_or("known contents without elements")?;
    Ok(rest.iter().enumerate().rev().fold(value(last), |otherwise, (i, e)| {
        let is = &flat - &Expr::from(i);
        Term::when(vec![-&is], value(e), otherwise)
    }))
}
