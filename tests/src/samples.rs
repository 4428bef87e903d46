//! The samples of the op rows, with operands and with what the evaluator makes of them.

use burin_ir::compare::{Bound, row_bounds};
use burin_ir::graph::eval::{Operation, bind_dims, eval};
use burin_ir::graph::sample::Sample;
use burin_ir::graph::{Constant, Graph};
use burin_ir::ops::{self, Meaning};
use burin_ir::random::Random;
use burin_ir::{DType, Scalar, Tensor};
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Every sample of every row, with its text.
///
/// # Panics
/// If one does not parse.
pub fn all() -> Vec<(&'static str, Sample)> {
    let parse = |text: &&'static str| match Sample::parse(text) {
        Ok(sample) => (*text, sample),
        Err(e) => panic!("{text}: {e}"),
    };
    ops::all().flat_map(|row| row.samples).map(parse).collect()
}

/// Checks every sample, in parallel, and reports all that fail: in `Err`, or in a panic.
///
/// # Panics
/// If one fails.
pub fn check_all(check: impl Fn(&str, &Sample) -> Result<(), String> + Sync) {
    let failure = |(text, sample): &(&str, Sample)| {
        let outcome = catch_unwind(AssertUnwindSafe(|| check(text, sample)));
        let error = outcome.unwrap_or_else(|_| Err("it panics, see above".into())).err()?;
        Some(format!("{text}\n  {error}\n"))
    };
    let failures: Vec<String> = all().par_iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{} samples fail:\n{}", failures.len(), failures.concat());
}

/// Operands for a sample, and the results that its row defines for them.
pub struct Expected {
    /// The graph's inputs.
    pub inputs: Vec<Tensor>,
    /// The results of the evaluator.
    pub outputs: Vec<Tensor>,
    /// How far compiled code may be from them.
    pub bounds: Vec<Bound>,
}

/// How many seeds [`expect`] makes operands from; the last ones have special values where the op
/// works on elements.
pub const SEEDS: u64 = 5;

/// Operands of that seed, with their results.
pub fn expect(sample: &Sample, seed: u64) -> Result<Expected, String> {
    let graph = sample.graph()?;
    let mut inputs = sample.inputs(seed);
    if seed >= 2 && matches!(sample.op.meaning, Meaning::Pointwise(_)) {
        let mut random = Random::new(seed);
        inputs = inputs.iter().map(|t| with_special_values(t, &mut random)).collect();
    }
    let outputs = eval(&graph, &inputs, &[]).map_err(|e| e.to_string())?.outputs;
    let bounds = bounds(&graph, &inputs, &outputs)?;
    Ok(Expected { inputs, outputs, bounds })
}

/// The bounds of the row of a graph of one node, but for those before it that read its operands.
fn bounds(graph: &Graph, inputs: &[Tensor], outputs: &[Tensor]) -> Result<Vec<Bound>, String> {
    let node = &graph.nodes[*graph.regions[graph.body].nodes.last().ok_or("a sample without a node")?];
    let mut given = inputs.iter();
    let operand = |v: &Option<_>| match v.map(|v| graph.constant(v)) {
        None => None,
        Some(Some(Constant::Data(t))) => Some(t.clone()),
        Some(_) => given.next().cloned(),
    };
    let operands: Vec<Option<Tensor>> = node.inputs.iter().map(operand).collect();
    let operation = Operation {
        op: node.op,
        attrs: &node.attrs,
        outputs: node.outputs.len(),
        region_results: &[],
        region: &|_, _| Err("a sample has no regions".into()),
    };
    row_bounds(&operation, &operands, outputs)
}

/// The tensor with about half of its elements replaced by those at which functions are special.
fn with_special_values(t: &Tensor, random: &mut Random) -> Tensor {
    let special = special_values(t.dtype());
    let mut pick = |v| if random.bits() & 1 == 0 { v } else { special[random.below(special.len())] };
    let values: Vec<Scalar> = t.scalars().map(&mut pick).collect();
    Tensor::from_scalars(t.dtype(), t.shape(), values)
}

/// NaN, infinities, both zeros, the smallest and the largest numbers, and where rounding ties.
fn special_values(dtype: DType) -> Vec<Scalar> {
    let floats: &[f64] = &[
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -2.5,
        1e-40,
        -1e-7,
        3e38,
        -60000.0,
        88.5,
        -104.0,
    ];
    match dtype {
        DType::Text => ["", "a", "A b", "1"].map(|t| Scalar::I(burin_ir::strings::number_of(t))).into(),
        DType::Bool => vec![Scalar::B(false), Scalar::B(true)],
        t if t.is_float() => floats.iter().map(|v| Scalar::F(*v).cast(t)).collect(),
        t => {
            let top = if t.is_signed_int() { t.bits() - 1 } else { t.bits() };
            let max = u64::MAX >> (64 - top);
            [0, 1, 2, 7, max, max - 1, max.wrapping_add(1), u64::MAX]
                .map(|bits| burin_ir::scalar::from_bits(bits, t))
                .into()
        }
    }
}

/// The values of a graph's dimensions, in their order, from its inputs.
pub fn dims(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<i64>, String> {
    let bound = bind_dims(graph, inputs).map_err(|e| e.to_string())?;
    graph.dims().iter().map(|s| bound.get(s).copied().ok_or_else(|| format!("{s} is not bound"))).collect()
}
