//! Graphs as text, run on given operands: calls on which the evaluator and compiled code agree, and such
//! that both refuse.

use crate::native;
use burin_ir::graph::{self, Graph, eval};
use burin_ir::{DType, Scalar, Tensor};
use burin_runtime::{Executor, Pool, Serial, Session};
use std::sync::Arc;

/// Floats of either sign.
pub fn floats(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let data: Vec<f32> = (0..n).map(|i| ((i * 7 + 3) % 11) as f32 / 4.0 - 1.0).collect();
    Tensor::new(shape, &data)
}

/// An integer.
pub fn number(v: i64) -> Tensor {
    Tensor::scalar(DType::I64, Scalar::I(v))
}

/// A truth value.
pub fn flag(v: bool) -> Tensor {
    Tensor::scalar(DType::Bool, Scalar::I(v.into()))
}

/// The graph of a text, verified, printed and read back.
///
/// # Panics
/// If that fails.
pub fn parse(text: &str) -> Graph {
    let g = graph::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    graph::verify(&g).unwrap_or_else(|e| panic!("{text}: {e}"));
    // What is printed is read back as the same graph.
    let printed = graph::print(&g, &mut |_, _| panic!("a large constant"));
    let again = graph::parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
    assert_eq!(graph::print(&again, &mut |_, _| panic!("a large constant")), printed);
    g
}

/// A list of integers.
pub fn ints(v: &[i64]) -> Tensor {
    Tensor::new(&[v.len()], v)
}

/// Runs a graph on each set of inputs at every level that this machine has, one session for all, and one
/// more of several threads.
///
/// # Panics
/// If compiled code gives another result than the evaluator.
pub fn agree(text: &str, calls: &[Vec<Tensor>]) {
    let g = parse(text);
    let pool = Arc::new(Pool::new(3).expect("threads"));
    let mut checked = 0;
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let session =
            |workers: Arc<dyn Executor>| Session::new(&model).expect("a session").with_executor(workers);
        let (mut alone, mut shared) = (session(Arc::new(Serial)), session(pool.clone()));
        for inputs in calls {
            let expected = eval::eval(&g, inputs, &[]).expect("evaluates").outputs;
            let found = native::run(&mut alone, inputs).expect("runs");
            let by_several = native::run(&mut shared, inputs).expect("runs on several threads");
            assert!(by_several == found, "{text}\n{inputs:?}: several threads give other bits");
            for (f, e) in found.iter().zip(&expected) {
                assert_eq!((f.shape(), f.dtype()), (e.shape(), e.dtype()), "{text}\n{inputs:?}");
                for (a, b) in f.to_f64s().into_iter().zip(e.to_f64s()) {
                    let near = a == b || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
                    assert!(near, "{text}\n{inputs:?}: {a} for {b}");
                }
            }
            checked += 1;
        }
    }
    assert!(checked > 0, "this machine runs no level");
}

/// Calls that the evaluator and compiled code refuse, the latter by a check of its own.
///
/// # Panics
/// If either gives a result.
pub fn refused(text: &str, calls: &[Vec<Tensor>]) {
    let g = parse(text);
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("a session");
        for inputs in calls {
            assert!(eval::eval(&g, inputs, &[]).is_err(), "{text}\n{inputs:?} is evaluated");
            let e = native::run(&mut session, inputs).expect_err("compiled code refuses");
            assert!(e.contains("out of range"), "{e}");
        }
    }
}
