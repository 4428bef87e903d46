//! A network between QuantizeLinear and DequantizeLinear, computed in integers at every CPU level, against the
//! evaluator, which computes it as it is written: bytes may differ by one step where a sum lies within a
//! rounding of a tie, and what is computed from them by as much.

use burin_ir::DType;
use burin_ir::graph::eval::eval;
use burin_ir::graph::{Graph, parse};
use burin_ir::random::{Fill, Random};
use burin_runtime::Session;
use burin_tests::native;

/// What the last product makes of one step of each of its bytes, at most.
const STEP: f64 = 0.025 * 60.0 * 0.003;

fn network() -> Graph {
    parse(include_str!("../data/quantised.txt")).expect("the graph reads")
}

#[test]
fn quantised_networks_compute_what_the_evaluator_does() {
    let graph = network();
    let mut random = Random::new(11);
    for (round, target) in native::levels().into_iter().flat_map(|t| (0..8).map(move |i| (i, t.clone()))) {
        let x = random.tensor(DType::F32, &[2, 3, 6, 6], Fill::Standard);
        let expected = eval(&graph, std::slice::from_ref(&x), &[]).expect("evaluates").outputs;
        let model = native::compile(&graph, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("starts");
        let found = native::run(&mut session, &[x]).expect("runs");
        let differences = |i: usize| -> Vec<f64> {
            let both = found[i].to_f64s().into_iter().zip(expected[i].to_f64s());
            both.map(|(a, b)| (a - b).abs()).collect()
        };
        let (steps, sums) = (differences(0), differences(1));
        let place = format!("round {round} at {target:?}");
        assert!(steps.iter().all(|d| *d <= 1.0), "{place}: bytes differ by more than a step");
        let ties = steps.iter().filter(|d| **d > 0.0).count();
        assert!(ties * 100 <= steps.len(), "{place}: {ties} of {} bytes differ", steps.len());
        let most = 1e-4 + STEP * ties as f64;
        assert!(sums.iter().all(|d| *d <= most), "{place}: sums differ by more than {most}: {sums:?}");
    }
}

/// All of it: nothing but the first quantisation and the last scaling is computed on floats of its own.
#[test]
fn quantised_networks_hold_no_product_of_floats() {
    let target = native::levels().pop().expect("this machine runs a level");
    let compiled = native::compile(&network(), &target).expect("compiles");
    let count = |name: &str| compiled.graph.nodes.values().filter(|n| n.op.name == name).count();
    let live = |name: &str| {
        let body = &compiled.graph.regions[compiled.graph.body].nodes;
        body.iter().filter(|n| compiled.graph.nodes[**n].op.name == name).count()
    };
    assert_eq!((count("Conv"), count("MatMul")), (0, 0));
    assert_eq!((live("IntegerConv"), live("IntegerMatMul")), (3, 1));
    // The one in groups takes its bytes one by one.
    assert_eq!(live("Quads") + live("Pairs"), 3);
}
