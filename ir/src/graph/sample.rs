//! The text of [`OpRow::samples`]: one node with its operands' types.
//!
//! ```text
//! Gemm(f32[3, 4], f32[4, 5], _) {alpha = 0.5}
//! Reshape(f32[2, 6], i64[2] = [3, -1])
//! Split(f32[6] in -1.0..1.0) {axis = 0} -> 2
//! ```
//!
//! An input is `_` (absent), a type (seeded random elements: normal floats, small integers, bools),
//! `type in lo..hi` (uniform, `hi` excluded), or `type = [elements]`, which inference knows. What
//! follows `->` is the number of results, 1 if it is not said.

use super::literal;
use crate::attr::Attr;
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::{Builder, Constant, Graph};
use crate::ops::{self, OpRow};
use crate::random::{Fill, Random};
use crate::symbol::Symbol;
use crate::tensor::{self, Tensor};
use crate::text::{Names, ParseError, Parser};
use crate::types::TensorType;

/// A sample node.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The row.
    pub op: &'static OpRow,
    /// Its operands; an absent one is `None`.
    pub inputs: Vec<Option<Input>>,
    /// Its attributes, without those that have their defaults.
    pub attrs: Vec<(String, Attr)>,
    /// The number of its results.
    pub outputs: usize,
}

/// An operand of a sample.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// An input of the graph, with seeded random elements.
    Random {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// What its elements are.
        fill: Fill,
    },
    /// A constant.
    Given(Tensor),
}

impl Sample {
    /// Parses a sample.
    pub fn parse(text: &str) -> Result<Sample, ParseError> {
        let mut p = Parser::new(text)?;
        let mark = p.mark();
        let name = p.ident("an op")?;
        let op = ops::by_name(&name)
            .ok_or_else(|| p.error_at(mark, format!("found the op {name}, expected one that has a row")))?;
        p.expect("(")?;
        let inputs = p.list(")", input)?;
        let attrs = literal::attrs(&mut p, op.attrs)?;
        let outputs = if p.eat("->") { p.unsigned()? as usize } else { 1 };
        p.end()?;
        Ok(Sample { op, inputs, attrs, outputs })
    }

    /// A graph of that node alone. Inputs are named as the row names them, given contents are
    /// constants, and every result is an output, `out0` and so on.
    pub fn graph(&self) -> Result<Graph, String> {
        self.build(&|_| None)
    }

    /// [`Sample::graph`] with a symbol in place of every size above 1 of the inputs without given
    /// contents, and what the symbols stand for. Equal sizes get one symbol; sizes of 0 and 1 stay,
    /// as they decide broadcasting. An error where the op needs a size to be known.
    pub fn symbolic_graph(&self) -> Result<(Graph, Vec<(Symbol, i64)>), String> {
        let symbol = |n: usize| Symbol::new(&format!("d{n}"));
        let graph = self.build(&|n| (n > 1).then(|| symbol(n)))?;
        let mut dims = Vec::new();
        for n in self.inputs.iter().flatten().filter_map(Input::random_shape).flatten() {
            if *n > 1 && !dims.contains(&(symbol(*n), *n as i64)) {
                dims.push((symbol(*n), *n as i64));
            }
        }
        Ok((graph, dims))
    }

    /// The sample with other element types, by the operands' numbers; given contents are cast.
    pub fn with_operand_types(&self, to: &dyn Fn(usize, DType) -> DType) -> Sample {
        let mut sample = self.clone();
        for (i, input) in sample.inputs.iter_mut().enumerate() {
            match input {
                Some(Input::Random { dtype, .. }) => *dtype = to(i, *dtype),
                Some(Input::Given(t)) => *t = t.cast(to(i, t.dtype())),
                None => {}
            }
        }
        sample
    }

    /// Tensors for the graph's inputs, in order.
    pub fn inputs(&self, seed: u64) -> Vec<Tensor> {
        let mut random = Random::new(seed);
        let mut out = Vec::new();
        for input in self.inputs.iter().flatten() {
            if let Input::Random { dtype, shape, fill } = input {
                out.push(random.tensor(*dtype, shape, *fill));
            }
        }
        out
    }

    fn build(&self, symbol: &dyn Fn(usize) -> Option<Symbol>) -> Result<Graph, String> {
        let mut graph = Graph::new("sample");
        let mut names = Names::default();
        let mut operands = Vec::new();
        for (i, input) in self.inputs.iter().enumerate() {
            let port = self.op.inputs.get(i).or(self.op.inputs.last()).map_or("in", |p| p.name);
            operands.push(input.as_ref().map(|input| match input {
                Input::Random { dtype, shape, .. } => {
                    let dim = |n: &usize| symbol(*n).map_or(Expr::from(*n), Expr::from);
                    let name = names.unique(port, "in");
                    graph.add_input(&name, TensorType::new(*dtype, shape.iter().map(dim)))
                }
                Input::Given(t) => graph.add_constant("", Constant::Data(t.clone())),
            }));
        }
        let node = Builder::new(&mut graph).node(
            self.op,
            "",
            operands,
            self.attrs.clone(),
            self.outputs,
            Vec::new(),
        )?;
        for (i, v) in graph.nodes[node].outputs.clone().into_iter().enumerate() {
            graph.add_output(&format!("out{i}"), v);
        }
        Ok(graph)
    }
}

impl Input {
    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            Input::Random { dtype, .. } => *dtype,
            Input::Given(t) => t.dtype(),
        }
    }

    fn random_shape(&self) -> Option<&Vec<usize>> {
        match self {
            Input::Random { shape, .. } => Some(shape),
            Input::Given(_) => None,
        }
    }
}

fn input(p: &mut Parser<'_>) -> Result<Option<Input>, ParseError> {
    if p.eat_word("_") {
        return Ok(None);
    }
    let mark = p.mark();
    let ty = p.tensor_type()?;
    if p.eat("=") {
        return Ok(Some(Input::Given(literal::list(p, &ty)?)));
    }
    let shape = ty.static_shape().filter(|s| {
        tensor::element_count(ty.dtype, s).is_some_and(|n| n * ty.dtype.bytes() <= literal::MAX_GENERATED)
    });
    let Some(shape) = shape else {
        return Err(
            p.error_at(mark, format!("found {ty}, expected a type of constant shape that fits in memory"))
        );
    };
    let mut fill = Fill::Standard;
    if p.eat_word("in") {
        let lo = p.float()?;
        p.expect("..")?;
        fill = Fill::Uniform { lo, hi: p.float()? };
    }
    Ok(Some(Input::Random { dtype: ty.dtype, shape, fill }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_becomes_a_graph() {
        let s = Sample::parse("MatMul(f32[5, 7], f32[7, 3] in 0.0..2.0)").expect("a sample");
        let g = s.graph().expect("a graph");
        assert_eq!(g.tensor_type(g.outputs()[0]), Some(&TensorType::new(DType::F32, [5, 3])));
        let inputs = s.inputs(1);
        assert_eq!(inputs.iter().map(Tensor::shape).collect::<Vec<_>>(), [&[5, 7], &[7, 3]]);
        assert!(inputs[1].to_f64s().iter().all(|v| (0.0..2.0).contains(v)));
        let (g, dims) = s.symbolic_graph().expect("a symbolic graph");
        assert_eq!(g.tensor_type(g.outputs()[0]).map(ToString::to_string).as_deref(), Some("f32[d5, d3]"));
        assert_eq!(dims.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [5, 7, 3]);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| Sample::parse(text).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(error("Nothing(f32[2])"), "1:1: found the op Nothing, expected one that has a row");
        assert_eq!(error("MatMul(f32[2] = [1.0])"), "1:17: found 1 elements, expected 2 for f32[2]");
        assert!(error("MatMul(f32[n], f32[2])").contains("constant shape"));
    }
}
