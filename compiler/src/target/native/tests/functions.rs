//! The expanded functions of one operand in native code, against the host's `f64`: on a sample at
//! every level that this machine runs. `BURIN_EXHAUSTIVE` names functions, or is 1 for all: those run on
//! every `f32` instead, at the machine's own level, in about a minute each.

use super::operations::operation_kernel;
use super::*;
use crate::loops::math::tests::{BOUNDS_32, sample_32, ulps_32};
use crate::pipeline::KERNEL_PASSES;
use burin_ir::Scalar;
use burin_ir::scalar::{ScalarOp, apply_wide};
use rayon::prelude::*;

/// Elements that the kernel computes at a time.
const CHUNK: usize = 1 << 14;

/// The greatest error over inputs, a chunk at a time, and where it is.
fn worst(
    op: ScalarOp,
    target: &TargetSpec,
    chunks: usize,
    input: impl Fn(usize) -> u32 + Sync,
) -> (f64, f32) {
    let mut kernel = operation_kernel(op, &[DType::F32], 8, CHUNK);
    for pass in KERNEL_PASSES {
        (pass.run)(&mut kernel);
    }
    let code = mapped(&kernel, target);
    let of_chunk = |c: usize| {
        let x: Vec<f32> = (0..CHUNK).map(|i| f32::from_bits(input(c * CHUNK + i))).collect();
        let mut found = vec![0f32; CHUNK];
        let frame = [x.as_ptr() as u64, found.as_mut_ptr() as u64];
        // SAFETY: the frame has a pointer for each of the two buffers, of a chunk's elements each.
        unsafe { code.kernel(0)(frame.as_ptr(), 0, 1, 0) };
        let mut worst = (0.0, 0.0);
        for (&x, found) in x.iter().zip(found) {
            let expected = apply_wide(op, DType::F32, &[Scalar::F(x as f64)]).as_f64();
            // Most results are the nearest ones, and exact counting is slow.
            if found.to_bits() != (expected as f32).to_bits() {
                let error = ulps_32(found, expected);
                worst = if error > worst.0 { (error, x) } else { worst };
            }
        }
        worst
    };
    let greater = |a: (f64, f32), b: (f64, f32)| if b.0 > a.0 { b } else { a };
    (0..chunks).into_par_iter().map(of_chunk).reduce(|| (0.0, 0.0), greater)
}

#[test]
fn functions_are_within_their_bounds() {
    let named = std::env::var("BURIN_EXHAUSTIVE").ok();
    let exhaustive = named.is_some();
    let is_named = |op: &ScalarOp| match named.as_deref() {
        None | Some("1") => true,
        Some(names) => names.split(',').any(|n| n == op.name()),
    };
    let sample = sample_32();
    let targets = runnable();
    let mut over = Vec::new();
    for target in &targets[..if exhaustive { 1 } else { targets.len() }] {
        for (op, bound) in BOUNDS_32.iter().filter(|(op, _)| is_named(op)) {
            let (error, at) = if exhaustive {
                worst(*op, target, (1 << 32) / CHUNK, |i| i as u32)
            } else {
                let chunks = sample.len().div_ceil(CHUNK);
                worst(*op, target, chunks, |i| sample.get(i).copied().unwrap_or(0))
            };
            let what = format!("{op} f32 at {target:?}: {error:.3} ulp at {at:e} ({:#x})", at.to_bits());
            println!("{what}");
            if error > *bound {
                over.push(format!("{what}, bound {bound}"));
            }
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}
