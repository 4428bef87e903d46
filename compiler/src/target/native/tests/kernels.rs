//! Loops, carried values, conditionals, addresses and accesses, run natively.

use super::*;
use burin_ir::loops::{LoopKind, ValType};
use burin_ir::{ReduceOp, ScalarOp};
use std::time::Instant;

const F32: DType = DType::F32;

fn e(name: &str) -> Expr {
    Expr::named(name)
}

fn sym(name: &str) -> Symbol {
    Symbol::new(name)
}

fn iota(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 - 3.0).collect()
}

#[test]
fn a_carried_sum_over_a_symbolic_extent() {
    let buffers = [("x", F32, e("n"), Access::Read), ("out", F32, Expr::ONE, Access::Write)];
    let kernel = kernel_of(&buffers, &["n"], |b, ids| {
        let zero = b.number(ValType::scalar(F32), 0.0);
        let sum = b.for_(sym("i"), e("n"), LoopKind::Serial, &[zero], |b, acc| {
            let x = b.load(ids[0], e("i"));
            vec![b.op(ScalarOp::Add, &[acc[0], x])]
        });
        b.store(ids[1], 0, sum[0]);
    });
    for n in [0usize, 1, 2, 7] {
        let mut data = vec![bytes_of(&iota(n.max(1))), vec![0xff; 4]];
        run(&kernel, &TargetSpec::host().expect("host"), &mut data, &[n as i64], (0, 1));
        assert_eq!(numbers::<f32>(&data[1]), [iota(n).iter().sum::<f32>()]);
        // No tasks: nothing is written.
        let mut data = vec![bytes_of(&iota(n.max(1))), vec![0xff; 4]];
        run(&kernel, &TargetSpec::host().expect("host"), &mut data, &[n as i64], (0, 0));
        assert_eq!(data[1], [0xff; 4]);
    }
}

#[test]
fn a_parallel_loop_runs_only_its_range() {
    let buffers = [("x", F32, e("n") * 4, Access::Read), ("out", F32, e("n"), Access::Write)];
    let kernel = kernel_of(&buffers, &["n"], |b, ids| {
        b.for_(sym("i"), e("n"), LoopKind::Parallel, &[], |b, _| {
            let v = b.load_vector(ids[0], e("i") * 4, Expr::ONE, 4);
            let sum = b.fold(ReduceOp::Sum, v);
            b.store(ids[1], e("i"), sum);
            Vec::new()
        });
    });
    let mut data = vec![bytes_of(&iota(40)), bytes_of(&[0f32; 10])];
    run(&kernel, &TargetSpec::host().expect("host"), &mut data, &[10], (2, 5));
    let sum = |i: usize| iota(40)[i * 4..i * 4 + 4].iter().sum::<f32>();
    let expected = [0.0, 0.0, sum(2), sum(3), sum(4), 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(numbers::<f32>(&data[1]), expected);
}

#[test]
fn scratch_is_each_workers_own() {
    let buffers = [("s", F32, Expr::from(4), Access::Scratch), ("out", F32, e("n"), Access::Write)];
    let kernel = kernel_of(&buffers, &["n"], |b, ids| {
        b.for_(sym("i"), e("n"), LoopKind::Parallel, &[], |b, _| {
            let i = b.index(e("i"));
            let v = b.op(ScalarOp::Cast(F32), &[i]);
            b.store(ids[0], 1, v);
            let w = b.load(ids[0], 1);
            b.store(ids[1], e("i"), w);
            Vec::new()
        });
    });
    let target = TargetSpec::host().expect("host");
    let code = mapped(&kernel, &target);
    let (mut scratch, mut out) = ([-1f32; 12], [0f32; 3]);
    let frame = [scratch.as_mut_ptr() as u64, out.as_mut_ptr() as u64, 3, 16];
    for worker in 0..3 {
        // SAFETY: scratch holds three workers' four elements, and the output three.
        unsafe { code.kernel(0)(frame.as_ptr(), worker, worker + 1, worker) };
    }
    assert_eq!(out, [0.0, 1.0, 2.0]);
    assert_eq!([scratch[1], scratch[5], scratch[9]], [0.0, 1.0, 2.0]);
    assert_eq!(scratch.iter().filter(|v| **v == -1.0).count(), 9);
}

#[test]
fn conditions_guard_loads_and_yield_vectors() {
    // A one-dimensional padding by 2 on each side, with vectors of bools carried through it.
    let buffers = [("x", F32, e("n"), Access::Read), ("out", F32, e("n") + 4, Access::Write)];
    let kernel = kernel_of(&buffers, &["n"], |b, ids| {
        b.for_(sym("i"), e("n") + 4, LoopKind::Serial, &[], |b, _| {
            let inside = vec![e("i") - 2, e("n") + 1 - e("i")];
            let v = b.if_(
                inside,
                |b| vec![b.load(ids[0], e("i") - 2)],
                |b| vec![b.number(ValType::scalar(F32), -9.0)],
            );
            b.store(ids[1], e("i"), v[0]);
            Vec::new()
        });
    });
    for n in [0usize, 1, 5] {
        let mut data = vec![bytes_of(&iota(n)), bytes_of(&vec![0f32; n + 4])];
        run(&kernel, &TargetSpec::host().expect("host"), &mut data, &[n as i64], (0, 1));
        let mut expected = vec![-9.0; 2];
        expected.extend(iota(n));
        expected.extend([-9.0; 2]);
        assert_eq!(numbers::<f32>(&data[1]), expected);
    }
}

#[test]
fn masks_cross_blocks_and_widths() {
    let len = Expr::from(8);
    let buffers = [
        ("x", F32, len.clone(), Access::Read),
        ("y", DType::F64, len.clone(), Access::Read),
        ("any", DType::Bool, len.clone(), Access::Write),
        ("chosen", DType::F64, len, Access::Write),
    ];
    let kernel = kernel_of(&buffers, &[], |b, ids| {
        let none = b.const_(ValType::vector(DType::Bool, 8), 0);
        let zero = b.number(ValType::vector(F32, 8), 0.0);
        let any = b.for_(sym("i"), 2, LoopKind::Serial, &[none], |b, acc| {
            let x = b.load_vector(ids[0], Expr::ZERO, Expr::ONE, 8);
            let positive = b.op(ScalarOp::Gt, &[x, zero]);
            vec![b.op(ScalarOp::Or, &[acc[0], positive])]
        });
        b.store_vector(ids[2], Expr::ZERO, Expr::ONE, any[0]);
        let y = b.load_vector(ids[1], Expr::ZERO, Expr::ONE, 8);
        let negative = b.op(ScalarOp::Neg, &[y]);
        let chosen = b.op(ScalarOp::Select, &[any[0], y, negative]);
        b.store_vector(ids[3], Expr::ZERO, Expr::ONE, chosen);
    });
    let y: Vec<f64> = (1..9).map(f64::from).collect();
    for target in runnable() {
        let mut data = vec![bytes_of(&iota(8)), bytes_of(&y), vec![7; 8], vec![0; 64]];
        run(&kernel, &target, &mut data, &[], (0, 1));
        assert_eq!(data[2], [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(numbers::<f64>(&data[3]), [-1.0, -2.0, -3.0, -4.0, 5.0, 6.0, 7.0, 8.0]);
    }
}

#[test]
fn strides_gathers_ramps_and_lanes() {
    let buffers = [
        ("x", F32, Expr::from(64), Access::Read),
        ("out", F32, Expr::from(64), Access::Write),
        ("at", DType::I64, Expr::from(6), Access::Write),
    ];
    let kernel = kernel_of(&buffers, &["s"], |b, ids| {
        let strided = b.load_vector(ids[0], Expr::from(1), e("s"), 6);
        b.store_vector(ids[1], Expr::from(0), Expr::from(2), strided);
        let same = b.load_vector(ids[0], Expr::from(5), Expr::ZERO, 6);
        b.store_vector(ids[1], Expr::from(12), Expr::ONE, same);
        let ramp = b.ramp(e("s"), e("s") * 2, 6);
        b.store_vector(ids[2], Expr::ZERO, Expr::ONE, ramp);
        let gathered = b.gather(ids[0], ramp);
        b.store_vector(ids[1], Expr::from(18), Expr::ONE, gathered);
        let lane = b.lane(gathered, 5);
        b.store(ids[1], 24, lane);
    });
    for target in runnable() {
        let mut data = vec![bytes_of(&iota(64)), bytes_of(&[0f32; 64]), vec![0; 48]];
        run(&kernel, &target, &mut data, &[5], (0, 1));
        let out = numbers::<f32>(&data[1]);
        let at = |i: i64| i as f32 - 3.0;
        for l in 0..6 {
            assert_eq!(out[l as usize * 2], at(1 + 5 * l));
            assert_eq!(out[12 + l as usize], at(5));
            assert_eq!(out[18 + l as usize], at(5 + 10 * l));
        }
        assert_eq!(out[24], at(55));
        assert_eq!(numbers::<i64>(&data[2]), [5, 15, 25, 35, 45, 55]);
    }
}

#[test]
fn index_arithmetic_is_that_of_expressions() {
    let exprs = [
        e("a").floor_div(&e("b")),
        e("c").floor_div(&Expr::from(4)),
        e("c").floor_div(&Expr::from(3)),
        e("a").floor_div(&Expr::from(7)),
        e("c").floor_div(&(e("b") - 1)),
        e("c").modulo(&Expr::from(5)),
        e("a").minimum(&e("c")),
        e("a").maximum(&(e("b") * 2)),
        e("a") * e("b") * 3 - e("c") * e("a") + 11,
    ];
    let count = exprs.len();
    let buffers =
        [("in", DType::I64, Expr::ONE, Access::Read), ("out", DType::I64, Expr::from(count), Access::Write)];
    let kernel = kernel_of(&buffers, &["a", "b"], |b, ids| {
        let c = b.load(ids[0], 0);
        b.bind(sym("c"), c);
        for (i, e) in exprs.iter().enumerate() {
            let v = b.index(e.clone());
            b.store(ids[1], i as i64, v);
        }
    });
    let target = TargetSpec::host().expect("host");
    for (a, b, c) in [(17, 5, -9), (0, 0, 0), (100, 1, 23), (6, 0, -1), (13, 2, i64::MIN / 8)] {
        let mut data = vec![bytes_of(&[c]), vec![0; count * 8]];
        run(&kernel, &target, &mut data, &[a, b], (0, 1));
        let of = |s: Symbol| {
            Some(match s.name() {
                "a" => a,
                "b" => b,
                _ => c,
            })
        };
        for (e, found) in exprs.iter().zip(numbers::<i64>(&data[1])) {
            if let Some(expected) = e.eval(&of) {
                assert_eq!(found, expected, "{e} for a={a} b={b} c={c}");
            }
        }
    }
}

/// `out[m, n] = a[m, k] * packed b`, in tiles of 4 rows and 3 vectors of 4 columns; `b` is packed in
/// panels of 12 columns.
fn matmul(m: i64, n: i64, k: i64) -> Kernel {
    let buffers = [
        ("a", F32, Expr::from(m * k), Access::Read),
        ("b", F32, Expr::from(n * k), Access::Read),
        ("out", F32, Expr::from(m * n), Access::Write),
    ];
    kernel_of(&buffers, &[], |b, ids| {
        b.for_(sym("p"), n / 12, LoopKind::Serial, &[], |b, _| {
            b.for_(sym("i"), m / 4, LoopKind::Serial, &[], |b, _| {
                let zero = b.number(ValType::vector(F32, 4), 0.0);
                let sums = b.for_(sym("k"), k, LoopKind::Serial, &[zero; 12], |b, acc| {
                    let cols: Vec<_> = (0..3)
                        .map(|c| {
                            let at = e("p") * (12 * k) + e("k") * 12 + c * 4;
                            b.load_vector(ids[1], at, Expr::ONE, 4)
                        })
                        .collect();
                    let mut out = Vec::new();
                    for r in 0..4 {
                        let at = e("i") * (4 * k) + e("k") + r * k;
                        let a = b.load_vector(ids[0], at, Expr::ZERO, 4);
                        for c in 0..3 {
                            out.push(b.op(ScalarOp::MulAdd, &[a, cols[c], acc[r as usize * 3 + c]]));
                        }
                    }
                    out
                });
                for r in 0..4 {
                    for c in 0..3 {
                        let at = e("i") * (4 * n) + e("p") * 12 + (r * n + c * 4);
                        b.store_vector(ids[2], at, Expr::ONE, sums[(r * 3 + c) as usize]);
                    }
                }
                Vec::new()
            });
            Vec::new()
        });
    })
}

#[test]
fn a_tiled_matrix_product() {
    let (m, n, k) = (8usize, 24usize, 17usize);
    let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32).collect();
    let b: Vec<f32> = (0..n * k).map(|i| (i % 5) as f32).collect();
    for target in runnable() {
        let mut data = vec![bytes_of(&a), bytes_of(&b), vec![0; m * n * 4]];
        run(&matmul(m as i64, n as i64, k as i64), &target, &mut data, &[], (0, 1));
        for (at, found) in numbers::<f32>(&data[2]).into_iter().enumerate() {
            let (i, j) = (at / n, at % n);
            let column = |k_: usize| b[(j / 12) * 12 * k + k_ * 12 + j % 12];
            let expected: f32 = (0..k).map(|k_| a[i * k + k_] * column(k_)).sum();
            assert_eq!(found, expected, "at {i}, {j}");
        }
    }
}

/// `cargo test -p burin-compiler --release -- --ignored speed --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed_of_a_tiled_matrix_product() {
    let (m, n, k) = (384i64, 384i64, 384i64);
    let target = TargetSpec::host().expect("host");
    let kernel = matmul(m, n, k);
    println!("{}", kernel::disassemble(&kernel, &target).expect("compiles"));
    let code = mapped(&kernel, &target);
    let (a, b) = (vec![1f32; (m * k) as usize], vec![1f32; (n * k) as usize]);
    let mut out = vec![0f32; (m * n) as usize];
    let frame = [a.as_ptr() as u64, b.as_ptr() as u64, out.as_mut_ptr() as u64];
    let best = (0..50).map(|_| {
        let start = Instant::now();
        // SAFETY: the buffers are as long as the kernel declares.
        unsafe { code.kernel(0)(frame.as_ptr(), 0, 1, 0) };
        start.elapsed().as_secs_f64()
    });
    let best = best.fold(f64::INFINITY, f64::min);
    println!("{:.1} GFLOP/s", 2.0 * (m * n * k) as f64 / best / 1e9);
    assert_eq!(out[0], k as f32);
}
