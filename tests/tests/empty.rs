//! Models with symbolic dimensions, called with dimensions of 0: compiled code touches nothing that is
//! not there, and answers as the evaluator does.

use burin_ir::graph::{self, eval};
use burin_ir::{DType, Tensor};
use burin_runtime::Session;
use burin_tests::native;

const MODEL: &str = "graph @empty(%x: f32[m, n], %w: f32[n, k], %b: f32[m, 1]) {
  %s = ReduceSum(%x) {keepdims = 1}
  %c = Add(%x, %b)
  %d = Softmax(%c) {axis = -1}
  %p = MatMul(%d, %w)
  %r = Relu(%p)
  return %s, %c, %r
}
";

#[test]
fn dimensions_of_zero_are_sizes_like_others() {
    let g = graph::parse(MODEL).expect("parses");
    let mut checked = 0;
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("a session");
        for (m, n, k) in [(0, 0, 0), (3, 0, 5), (0, 4, 5), (3, 4, 0), (1, 1, 1), (3, 9, 17)] {
            let inputs = [[m, n], [n, k], [m, 1]].map(|s| {
                let data: Vec<f32> = (0..s[0] * s[1]).map(|i| i as f32 / 8.0 - 1.0).collect();
                Tensor::new(&s, &data)
            });
            let found = native::run(&mut session, &inputs).expect("runs");
            let expected = eval::eval(&g, &inputs, &[]).expect("evaluates").outputs;
            for (f, e) in found.iter().zip(&expected) {
                assert_eq!((f.shape(), f.dtype()), (e.shape(), DType::F32), "m={m} n={n} k={k}");
                for (a, b) in f.to_f64s().into_iter().zip(e.to_f64s()) {
                    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "m={m} n={n} k={k}: {a} for {b}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "this machine runs no level");
}

/// What has no elements is computed by nothing, and is no part of what others are put together to.
#[test]
fn parts_of_no_elements_are_left_out() {
    let text = "graph @parts(%x: f32[2, 4]) {
  %zero = const i64[1] [4]
  %end = const i64[1] [9]
  %axis = const i64[1] [1]
  %r = Relu(%x)
  %none = Slice(%r, %zero, %end, %axis)
  %e = Exp(%none)
  %y = Concat(%r, %e, %r) {axis = 1}
  return %y
}
";
    let g = graph::parse(text).expect("parses");
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("a session");
        let x = Tensor::new(&[2, 4], &[1f32, -2.0, 3.0, -4.0, -5.0, 6.0, -7.0, 8.0]);
        let found = native::run(&mut session, &[x]).expect("runs");
        let row = [1.0, 0.0, 3.0, 0.0, 1.0, 0.0, 3.0, 0.0, 0.0, 6.0, 0.0, 8.0, 0.0, 6.0, 0.0, 8.0];
        assert_eq!(found[0].to_f64s(), row);
    }
}
