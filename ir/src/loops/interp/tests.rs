//! Tests of the interpreter on kernels in text form, with values worked out by hand.

use super::*;

fn kernel(text: &str) -> Kernel {
    super::super::parse(text).expect("a well-formed kernel")
}

fn floats(values: &[f32]) -> Storage {
    Storage::from(&Tensor::new(&[values.len()], values))
}

fn ints(values: &[i64]) -> Storage {
    Storage::from(&Tensor::new(&[values.len()], values))
}

fn to_vec(s: &Storage) -> Vec<f64> {
    s.to_tensor(&[s.len()]).expect("a vector").to_f64s()
}

const SUM: &str = "kernel @sum(%x: read f32[n*4], %y: write f32[n]) dims(n) {
  parallel i in 0..n {
    %0 = const f32 0.0
    %3 = for j in 0..4 carry (%1 = %0) {
      %2 = load f32 %x[4*i + j]
      %4 = add f32 %1, %2
      yield %4
    }
    store %y[i], %3
  }
}";

#[test]
fn loops_carry_values() {
    let x = floats(&[1., 2., 3., 4., 10., 20., 30., 40.]);
    let mut buffers = [x, floats(&[-1.0; 2])];
    run(&kernel(SUM), &[2], &mut buffers, None).expect("it runs");
    assert_eq!(to_vec(&buffers[1]), [10.0, 100.0]);
}

#[test]
fn a_range_runs_only_its_iterations() {
    let x = floats(&[1.; 16]);
    let mut buffers = [x, floats(&[-1.0; 4])];
    run(&kernel(SUM), &[4], &mut buffers, Some((1, 3))).expect("it runs");
    assert_eq!(to_vec(&buffers[1]), [-1.0, 4.0, 4.0, -1.0]);
    let e = run(&kernel(SUM), &[4], &mut buffers, Some((3, 5))).expect_err("past the end");
    assert!(e.contains("@sum") && e.contains("3..5") && e.contains("0..4"), "{e}");
}

#[test]
fn each_operation_rounds_to_its_type() {
    // 2^24 + 1 is no f32: added one by one the ones are lost, which f64 would keep.
    let mut buffers = [floats(&[16777216.0, 1.0, 1.0, 0.0]), floats(&[0.0])];
    run(&kernel(SUM), &[1], &mut buffers, None).expect("it runs");
    assert_eq!(to_vec(&buffers[1]), [16777216.0]);
}

#[test]
fn accesses_are_checked_against_the_declared_length() {
    let k = kernel(
        "kernel @off(%x: read f32[n], %y: write f32[n]) dims(n) {
  for i in 0..n {
    %0 = load f32 %x[i + 1]
    store %y[i], %0
  }
}",
    );
    // The storage is larger than declared, which does not make the access right.
    let mut buffers = [floats(&[0.0; 9]), floats(&[0.0; 9])];
    let e = run(&k, &[3], &mut buffers, None).expect_err("x[3] is out of bounds");
    assert!(
        e.contains("@off") && e.contains("index 3") && e.contains("%x") && e.contains("3 elements"),
        "{e}"
    );
    let e = run(&k, &[-1], &mut buffers, None).expect_err("a negative dimension");
    assert!(e.contains("n is -1"), "{e}");
    let e = run(&k, &[10], &mut buffers, None).expect_err("storage too small");
    assert!(e.contains("9 elements of f32") && e.contains("expected 10"), "{e}");
}

#[test]
fn lanes_fold_halves_pairwise() {
    let k = kernel(
        "kernel @fold(%x: read f32[16], %y: write f32[2], %z: write i64[4]) dims() {
  %0 = load f32x8 %x[0; 2]
  %1 = fold.sum f32 %0
  store %y[0], %1
  %2 = lane f32 %0, 3
  store %y[1], %2
  %3 = ramp i64x4 7, -2
  store %z[3; -1], %3
}",
    );
    // (1e8 - 1e8) + (3 + 5) + ((2 + 4) + (0 + 0)); from left to right in f32 the 2 and the 3 would
    // be lost.
    let mut x = [9.0f32; 16];
    for (l, v) in [1e8f32, 2.0, 3.0, 0.0, -1e8, 4.0, 5.0, 0.0].into_iter().enumerate() {
        x[2 * l] = v;
    }
    let mut buffers = [floats(&x), floats(&[0.0; 2]), ints(&[0; 4])];
    run(&k, &[], &mut buffers, None).expect("it runs");
    assert_eq!(to_vec(&buffers[1]), [14.0, 0.0]);
    assert_eq!(to_vec(&buffers[2]), [1.0, 3.0, 5.0, 7.0]);
    let odd = [1., 2., 3., 4., 5.].map(Scalar::F).to_vec();
    assert_eq!(fold(ReduceOp::Sum, DType::F32, odd).as_f64(), 15.0);
}

#[test]
fn conditionals_and_bound_symbols() {
    let k = kernel(
        "kernel @pick(%i: read i64[4], %x: read f32[m], %y: write f32[4]) dims(m) {
  for j in 0..4 {
    %0 = load i64 %i[j]
    bind s = %0
    %1 = if s >= 0, m - s - 1 >= 0 {
      %2 = load f32 %x[s]
      yield %2
    } else {
      %3 = const f32 -1.0
      yield %3
    }
    store %y[j], %1
  }
}",
    );
    let mut buffers = [ints(&[1, -1, 0, 2]), floats(&[5.0, 6.0]), floats(&[0.0; 4])];
    run(&k, &[2], &mut buffers, None).expect("it runs");
    assert_eq!(to_vec(&buffers[2]), [6.0, -1.0, 5.0, -1.0]);
}

#[test]
fn carries_are_set_all_at_once() {
    let k = kernel(
        "kernel @swap(%y: write i64[2]) dims(n) {
  %0 = index i64 1
  %1 = index i64 2
  %2, %3 = for i in 0..n carry (%4 = %0, %5 = %1) {
    yield %5, %4
  }
  store %y[0], %2
  store %y[1], %3
}",
    );
    let mut buffers = [ints(&[0; 2])];
    run(&k, &[3], &mut buffers, None).expect("it runs");
    assert_eq!(to_vec(&buffers[0]), [2.0, 1.0]);
    run(&k, &[0], &mut buffers, None).expect("it runs");
    assert_eq!(to_vec(&buffers[0]), [1.0, 2.0]);
}

#[test]
fn dependent_iterations_show_in_the_order() {
    let k = kernel(
        "kernel @chain(%x: update f32[n + 1]) dims(n) {
  parallel i in 0..n {
    %0 = load f32 %x[i]
    store %x[i + 1], %0
  }
}",
    );
    let start = [floats(&[1.0, 2.0, 3.0])];
    let (mut forward, mut backward) = (start.clone(), start);
    run(&k, &[2], &mut forward, None).expect("it runs");
    run_in_order(&k, &[2], &mut backward, None, Order::Backward).expect("it runs");
    assert_eq!(to_vec(&forward[0]), [1.0, 1.0, 1.0]);
    assert_eq!(to_vec(&backward[0]), [1.0, 1.0, 2.0]);
}

#[test]
fn scratch_does_not_survive_a_task() {
    let k = kernel(
        "kernel @leak(%s: scratch i64[1], %y: write i64[2]) dims() {
  parallel i in 0..2 {
    %0 = load i64 %s[0]
    store %y[i], %0
    %1 = index i64 7
    store %s[0], %1
  }
}",
    );
    let mut buffers = [ints(&[0]), ints(&[0; 2])];
    run(&k, &[], &mut buffers, None).expect("it runs");
    let y = to_vec(&buffers[1]);
    assert_eq!(y[0], y[1]);
    assert_ne!(y[1], 7.0);
}
