//! What Winograd's algorithm loses: against the evaluator, which sums in `f64`, beside what the direct
//! sum of the same convolution loses.

use burin_compiler::driver;
use burin_compiler::graph::Fuel;
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::graph::eval::eval;
use burin_ir::graph::{Constant, Graph};
use burin_ir::random::{Fill, Random};
use burin_ir::{DType, Tensor, TensorType};
use burin_runtime::Session;
use burin_tests::native;

/// A convolution of 3x3 with padding, over normally distributed images and weights.
fn convolution(channels: usize, size: usize) -> (Graph, Tensor) {
    let mut random = Random::new(7);
    let x = random.tensor(DType::F32, &[1, channels, size, size], Fill::Standard);
    let w = random.tensor(DType::F32, &[channels, channels, 3, 3], Fill::Standard);
    let mut graph = Graph::new("convolution");
    let ty = TensorType::new(DType::F32, x.shape().iter().copied());
    let image = graph.add_input("x", ty);
    let weights = graph.add_constant("w", Constant::Data(w));
    let pads = vec![("pads".to_owned(), burin_ir::Attr::Ints(vec![1, 1, 1, 1]))];
    let op = burin_ir::ops::by_name("Conv").expect("there is Conv");
    let mut builder = burin_ir::graph::Builder::new(&mut graph);
    let node = builder.node(op, "conv", vec![Some(image), Some(weights), None], pads, 1, Vec::new());
    let result = graph.nodes[node.expect("fits")].outputs[0];
    graph.add_output("y", result);
    (graph, x)
}

/// The root of the mean square of the differences to the evaluator, and the largest, both relative to
/// the root mean square of the results. `without` names passes to leave out.
fn errors(graph: &Graph, x: &Tensor, without: &[String]) -> (f64, f64) {
    let target = TargetSpec::host().expect("the host is a target");
    let fuel = Fuel::unlimited().without(without);
    let compiled = driver::compile_with(graph.clone(), &target, fuel, &mut |_, _| ()).expect("compiles");
    let winograd = compiled.graph.nodes.values().any(|n| n.op.name == "WinogradOutput");
    assert_eq!(winograd, without.is_empty(), "the pass replaces the convolution");
    let model = compiled.load().expect("loads");
    let found =
        native::run(&mut Session::new(&model).expect("starts"), std::slice::from_ref(x)).expect("runs");
    let expected = eval(graph, std::slice::from_ref(x), &[]).expect("evaluates").outputs;
    let (found, expected) = (found[0].to_f64s(), expected[0].to_f64s());
    let mean =
        |v: &mut dyn Iterator<Item = f64>| (v.map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
    let scale = mean(&mut expected.iter().copied());
    let differences = || found.iter().zip(&expected).map(|(f, e)| f - e);
    let largest = differences().fold(0.0, |m: f64, e| m.max(e.abs()));
    (mean(&mut differences()) / scale, largest / scale)
}

#[test]
fn errors_are_as_stated() {
    // Of tiles of 4 and of 2: channels and sizes for which the pass chooses them.
    for (channels, size, most) in [(64, 28, 8.0), (256, 14, 2.0)] {
        let (graph, x) = convolution(channels, size);
        let (direct, _) = errors(&graph, &x, &["winograd".to_owned()]);
        let (mean, largest) = errors(&graph, &x, &[]);
        println!("{channels} channels: {mean:.2e} (largest {largest:.2e}), direct sum {direct:.2e}");
        assert!(mean <= most * direct, "{channels} channels: {mean:e}, direct sum {direct:e}");
    }
}
