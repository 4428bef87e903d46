//! The samples of every op row on operands all of whose sizes above 1 are read from data during the run:
//! compiled code computes what the evaluator does. `data/sizes-from-data-passing.txt` lists what passes;
//! `BLESS=1` rewrites it, and `BURIN_REASONS=1` prints why the others do not pass.

use burin_ir::compare::compare;
use burin_ir::graph::sample::{Input, Sample};
use burin_ir::graph::{Builder, Constant, Graph};
use burin_ir::ops;
use burin_ir::{Attr, DType, Tensor, TensorType};
use burin_runtime::Session;
use burin_tests::{bounds, list, native};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A graph of a sample's node behind cuts of its operands to sizes that are inputs, one for each extent;
/// and what the inputs are.
fn graph(sample: &Sample) -> Result<(Graph, Vec<Tensor>), String> {
    let mut graph = Graph::new("sample");
    let mut inputs = sample.inputs(5);
    let mut random = inputs.clone().into_iter();
    let mut operands = Vec::new();
    for (i, input) in sample.inputs.iter().enumerate() {
        operands.push(match input {
            None => None,
            Some(Input::Given(t)) => Some(graph.add_constant("", Constant::Data(t.clone()))),
            Some(Input::Random { .. }) => {
                let t = random.next().ok_or("an operand has no contents")?;
                Some(graph.add_input(&format!("x{i}"), TensorType::new(t.dtype(), t.shape().iter().copied())))
            }
        });
    }
    let extents = inputs.iter().flat_map(|t| t.shape().to_vec()).filter(|n| *n > 1);
    let mut sizes = BTreeMap::new();
    for n in extents.collect::<BTreeSet<usize>>() {
        let given = graph.add_input(&format!("n{n}"), TensorType::new(DType::I64, [1]));
        inputs.push(Tensor::new(&[1], &[n as i64]));
        let mut b = Builder::new(&mut graph);
        let name = vec![("symbols", Attr::Strs(vec![format!("~n{n}")]))];
        sizes.insert(n, b.op("Read", &[given], name)?);
    }
    let mut b = Builder::new(&mut graph);
    for (operand, input) in operands.iter_mut().zip(&sample.inputs) {
        let (Some(v), Some(Input::Random { shape, .. })) = (operand, input) else { continue };
        for (axis, n) in shape.iter().enumerate() {
            if let Some(size) = sizes.get(n) {
                *v = b.op("First", &[*v, *size], vec![("axis", Attr::Int(axis as i64))])?;
            }
        }
    }
    let node = b.node(sample.op, "", operands, sample.attrs.clone(), sample.outputs, Vec::new())?;
    for (i, v) in graph.nodes[node].outputs.clone().into_iter().enumerate() {
        graph.add_output(&format!("out{i}"), v);
    }
    Ok((graph, inputs))
}

/// Whether compiled code computes what the evaluator does; `None` where no size is read.
fn check(text: &str) -> Result<Option<()>, String> {
    let sample = Sample::parse(text).map_err(|e| e.to_string())?;
    let (graph, inputs) = graph(&sample)?;
    if inputs.len() == sample.inputs(5).len() {
        return Ok(None);
    }
    let (expected, bounds) = bounds::expect(&graph, &inputs)?;
    let target = native::levels().pop().ok_or("this machine runs no level")?;
    let model = native::compile(&graph, &target)?.load().map_err(|e| e.to_string())?;
    let mut session = Session::new(&model).map_err(|e| e.to_string())?;
    let found = native::run(&mut session, &inputs)?;
    for ((f, e), bound) in found.iter().zip(&expected).zip(&bounds) {
        let report = compare(f, e, bound)?;
        if !report.ok() {
            return Err(report.to_string());
        }
    }
    Ok(Some(()))
}

#[test]
fn samples_of_sizes_from_data_compute_the_same() {
    let texts: Vec<&str> = ops::all().flat_map(|row| row.samples.iter().copied()).collect();
    let outcome = |text: &&str| {
        let checked = catch_unwind(AssertUnwindSafe(|| check(text))).unwrap_or_else(|_| Err("panic".into()));
        checked.map_or_else(
            |e| Some((text.to_string(), Err(e))),
            |done| done.map(|()| (text.to_string(), Ok(()))),
        )
    };
    let all: Vec<_> = texts.par_iter().filter_map(outcome).collect();
    list::check("sizes-from-data-passing.txt", &all);
}
