//! Derivatives, held against differences of what the evaluator computes, for every row that has any.

use burin_ir::graph::eval::eval;
use burin_ir::graph::sample::Sample;
use burin_ir::graph::{Builder, Constant, Graph, Value, derive};
use burin_ir::random::{Fill, Random};
use burin_ir::{DType, Tensor, ops};
use burin_tests::calls::agree;

/// How many elements of an operand are looked at.
const ELEMENTS: usize = 6;
/// The step of a difference.
const STEP: f64 = 1e-6;

fn is_float(dtype: DType) -> bool {
    dtype.is_float() && !dtype.is_storage()
}

/// The sample in `f64`, with a random multiple of each element of its first result as the result, and the
/// inputs that are derived by. `None` where the node does not exist in `f64`.
fn weighted(sample: &Sample) -> Option<(Graph, Value, Vec<usize>)> {
    let wide = sample.with_operand_types(&|_, t| if is_float(t) { DType::F64 } else { t });
    let mut g = wide.graph().ok()?;
    let y = *g.outputs().first()?;
    let ty = g.tensor_type(y)?.clone();
    let weights = Random::new(3).tensor(DType::F64, &ty.static_shape()?, Fill::Uniform { lo: 0.5, hi: 2.0 });
    if ty.dtype != DType::F64 {
        return None;
    }
    let weights = g.add_constant("", Constant::Data(weights));
    let y = Builder::new(&mut g).op("Mul", &[y, weights], vec![]).ok()?;
    let floats = |v: &Value| g.tensor_type(*v).is_some_and(|t| t.dtype == DType::F64);
    let by: Vec<usize> = (0..g.inputs().len()).filter(|i| floats(&g.inputs()[*i])).collect();
    if by.is_empty() {
        return None;
    }
    let body = g.body;
    g.regions[body].results = vec![y];
    g.output_names.truncate(1);
    Some((g, y, by))
}

fn total(g: &Graph, inputs: &[Tensor]) -> f64 {
    eval(g, inputs, &[]).expect("evaluates").outputs[0].to_f64s().iter().sum()
}

/// The input with one element moved.
fn moved(inputs: &[Tensor], input: usize, at: usize, by: f64) -> Vec<Tensor> {
    let mut inputs = inputs.to_vec();
    let mut values = inputs[input].to_f64s();
    values[at] += by;
    inputs[input] = Tensor::new(inputs[input].shape(), &values);
    inputs
}

/// The first fault of a sample's gradient; `None` where it has none because no derivative is known.
fn check(sample: &Sample) -> Option<Result<(), String>> {
    let (plain, y, by) = weighted(sample)?;
    let mut g = plain.clone();
    let inputs: Vec<Value> = by.iter().map(|i| g.inputs()[*i]).collect();
    let gradients = derive::gradients(&mut Builder::new(&mut g), y, &inputs).ok()?;
    let body = g.body;
    g.regions[body].results.clone_from(&gradients);
    g.output_names = vec![String::new(); gradients.len()];
    let wide = sample.with_operand_types(&|_, t| if is_float(t) { DType::F64 } else { t });
    let data = wide.inputs(11);
    let found = match eval(&g, &data, &[]) {
        Ok(found) => found.outputs,
        Err(e) => return Some(Err(e.to_string())),
    };
    for (i, gradient) in by.iter().zip(found) {
        if gradient.shape() != data[*i].shape() {
            return Some(Err(format!(
                "operand {i}: the gradient is {gradient:?}, the operand {:?}",
                data[*i]
            )));
        }
        let all = gradient.to_f64s();
        for at in (0..all.len()).step_by(all.len().div_ceil(ELEMENTS).max(1)) {
            let sides = [STEP, -STEP].map(|s| total(&plain, &moved(&data, *i, at, s)));
            let expected = (sides[0] - sides[1]) / (2.0 * STEP);
            let near = (all[at] - expected).abs() <= 1e-4 * expected.abs().max(1.0);
            if expected.is_finite() && !near {
                return Some(Err(format!(
                    "operand {i}, element {at}: found {}, expected {expected}",
                    all[at]
                )));
            }
        }
    }
    Some(Ok(()))
}

#[test]
fn derivatives_are_limits_of_differences() {
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for row in ops::all() {
        let mut known = false;
        for text in row.samples {
            let sample = Sample::parse(text).expect("a sample");
            if let Some(outcome) = check(&sample) {
                known = true;
                faults.extend(outcome.err().map(|e| format!("{text}: {e}")));
            }
        }
        rows.extend(known.then_some(row.name));
    }
    println!("{} rows have derivatives: {}", rows.len(), rows.join(", "));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(rows.len() > 80, "few rows have derivatives");
}

#[test]
fn a_network_s_gradient_is_compiled() {
    let text = "graph @net(%x: f32[n, 3], %w: f32[3, 4], %c: f32[4], %t: f32[n, 4]) {
  %h = Gemm(%x, %w, %c)
  %s = Softmax(%h) {axis = -1}
  %d = Sub(%s, %t)
  %q = Mul(%d, %d)
  %l = ReduceMean(%q) {keepdims = 0}
  return %l
}
";
    let mut g = burin_ir::graph::parse(text).expect("valid");
    let (loss, by) = (g.outputs()[0], g.inputs()[..3].to_vec());
    let gradients = derive::gradients(&mut Builder::new(&mut g), loss, &by).expect("derives");
    for (v, name) in gradients.into_iter().zip(["x", "w", "c"]) {
        g.add_output(name, v);
    }
    let text = burin_ir::graph::print(&g, &mut |_, _| panic!("a large constant"));
    let tensor = |seed, shape: &[usize]| Random::new(seed).tensor(DType::F32, shape, Fill::Standard);
    let call = |n| vec![tensor(1, &[n, 3]), tensor(2, &[3, 4]), tensor(3, &[4]), tensor(4, &[n, 4])];
    agree(&text, &[call(5), call(1)]);
}
