//! Random graphs of the ops that schedules are made for: a seed gives a graph of one node or a short
//! chain, with sizes at which tiles, panels and tails begin and end.
//!
//! [`Case::new`] draws one of [`KINDS`] and writes its text by a [`Writer`]. Constant weights are
//! constants of the text (`random N`), so that they are packed. A graph has its sizes as numbers;
//! where its text also holds for symbols, [`Case::symbolic`] has a symbol for each size above 1 of
//! each input's free axes, equal sizes sharing one.

mod chains;
mod pointwise;
mod products;
mod reductions;
pub mod rows;
mod types;
mod windows;
mod writer;

use burin_ir::graph::{self, Graph};
use burin_ir::random::{Fill, Random};
use burin_ir::{DType, Symbol, Tensor};
use writer::{Made, Writer};

/// A kind of graphs: its name, how often it is drawn among all, and how it is made.
type Kind = (&'static str, usize, fn(&mut Writer) -> Made);

/// What there is.
const KINDS: &[Kind] = &[
    ("matmul", 14, products::matmul),
    ("matmul of vectors", 4, products::vectors),
    ("gemm", 7, products::gemm),
    ("shared weights", 4, products::shared),
    ("conv", 16, windows::conv),
    ("conv without attributes", 4, windows::plain_conv),
    ("conv of 3x3", 4, windows::three_by_three),
    ("conv transpose", 5, windows::conv_transpose),
    ("max pool", 5, windows::max_pool),
    ("average pool", 5, windows::average_pool),
    ("global pool", 3, reductions::global_pool),
    ("softmax", 6, reductions::softmax),
    ("layer norm", 5, reductions::layer_norm),
    ("norm of channels", 3, reductions::channel_norm),
    ("reduce", 8, reductions::reduce),
    ("pointwise", 6, pointwise::pointwise),
    ("larger than caches", 1, pointwise::large),
    ("residual block", 4, chains::residual),
    ("concatenated convs", 3, chains::concatenated),
    ("padded pool", 3, chains::padded_pool),
    ("conv to matmul", 3, chains::conv_to_matmul),
    ("conv to softmax", 3, chains::conv_to_softmax),
    ("separable conv", 3, chains::separable),
    ("squeeze and excite", 2, chains::squeeze),
    ("gelu", 4, chains::gelu),
    ("attention", 5, chains::attention),
    ("norm and matmul", 3, chains::norm_and_matmul),
    ("perceptron", 3, chains::perceptron),
    ("halves", 8, types::halves),
    ("products of types", 8, types::products),
    ("integers", 10, types::integers),
    ("casts", 8, types::casts),
    ("doubles", 5, types::doubles),
    ("reductions of types", 8, types::reductions),
    ("movement of types", 6, types::movement),
    ("gather", 8, types::gather),
];

/// How often a kind's sizes may be such that the graph is not valid (a window larger than what it
/// slides over, say) before it counts as a mistake of the kind.
const ATTEMPTS: u64 = 50;

/// A graph, with what is drawn for it.
pub struct Case {
    /// What it was made from.
    pub seed: u64,
    /// The name of its kind.
    pub kind: &'static str,
    /// Its text, all sizes as numbers.
    pub text: String,
    /// Its text with symbols for sizes.
    pub symbolic: String,
    /// The types and shapes of its inputs.
    pub types: Vec<(DType, Vec<usize>)>,
}

impl Case {
    /// The case of a seed.
    ///
    /// # Panics
    /// If no sizes make a valid graph.
    pub fn new(seed: u64) -> Case {
        let mut random = Random::new(seed);
        let total = KINDS.iter().map(|k| k.1).sum();
        let mut left = random.below(total);
        let drawn = KINDS.iter().find(|k| match left.checked_sub(k.1) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        let (kind, _, make) = *drawn.unwrap_or(&KINDS[0]);
        let mut why = String::new();
        for attempt in 0..ATTEMPTS {
            let mut writer = Writer::new(Random::new(seed ^ (attempt << 48) ^ 0x5eed));
            match make(&mut writer) {
                Ok(result) => {
                    let (text, symbolic, types) = writer.finish(&result);
                    return Case { seed, kind, text, symbolic, types };
                }
                Err(e) => why = e,
            }
        }
        panic!("seed {seed}: no valid graph of the kind {kind:?}: {why}")
    }

    /// The graph.
    pub fn graph(&self) -> Result<Graph, String> {
        graph::parse(&self.text).map_err(|e| e.to_string())
    }

    /// The graph with symbols; `None` where an op needs a size to be known, or where sizes that are
    /// equal here are not so in general.
    pub fn symbolic_graph(&self) -> Option<Graph> {
        (self.symbolic != self.text).then(|| graph::parse(&self.symbolic).ok()).flatten()
    }

    /// Operands of the case's sizes.
    pub fn inputs(&self) -> Vec<Tensor> {
        self.inputs_of(&self.types)
    }

    /// Operands of the shapes in which every symbol has been given another value; sizes of 0 and 1
    /// and axes that are not free stay.
    pub fn other_inputs(&self, graph: &Graph) -> Vec<Tensor> {
        let mut random = Random::new(self.seed ^ 0x07e4);
        let dims = graph.dims();
        let grows = random.below(dims.len());
        let draw = |(i, s): (usize, &Symbol)| (*s, other_size(*s, i == grows, &mut random));
        let values: Vec<(Symbol, i64)> = dims.iter().enumerate().map(draw).collect();
        let value = |s| values.iter().find(|(d, _)| *d == s).map(|(_, n)| *n);
        let shape = |v: &graph::Value| {
            let ty = graph.tensor_type(*v).map(|t| t.shape.clone()).unwrap_or_default();
            ty.iter().map(|d| d.eval(&value).unwrap_or(1) as usize).collect()
        };
        let dtypes = self.types.iter().map(|(dtype, _)| *dtype);
        let types: Vec<(DType, Vec<usize>)> = dtypes.zip(graph.inputs().iter().map(shape)).collect();
        self.inputs_of(&types)
    }

    fn inputs_of(&self, types: &[(DType, Vec<usize>)]) -> Vec<Tensor> {
        let mut random = Random::new(self.seed ^ 0x1d47a);
        types.iter().map(|(dtype, shape)| random.tensor(*dtype, shape, Fill::Standard)).collect()
    }
}

/// A size near that of a symbol, whose name tells it (`d17`). Only one of a graph's grows, so that
/// the work does not.
fn other_size(symbol: Symbol, grows: bool, random: &mut Random) -> i64 {
    let n: i64 = symbol.to_string().trim_start_matches('d').parse().unwrap_or(2);
    match grows {
        true => n + 1 + random.below(16.min(n as usize)) as i64,
        false => [1, n / 2, n - 1, n, n][random.below(5)],
    }
}
