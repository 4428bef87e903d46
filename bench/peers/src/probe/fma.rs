//! The peak of fused multiply-adds in `f32`: independent chains in registers, nothing else.

use crate::{Result, median, together};
use serde_json::{Value, json};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Steps of all chains between two looks at the clock.
const STEPS: usize = 20_000;

/// A function that takes [`STEPS`] steps, and its floating-point operations a step.
type Kernel = (&'static str, fn(), usize);

pub(crate) fn peak(threads: usize, time: Duration) -> Result<Value> {
    let mut kernels: Vec<Kernel> = Vec::new();
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has what the function needs.
        kernels.push(("avx2", || unsafe { avx2() }, AVX2_CHAINS * 8 * 2));
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: as above.
        kernels.push(("avx512", || unsafe { avx512() }, AVX512_CHAINS * 16 * 2));
    }
    let each = time / kernels.len().max(1) as u32;
    let mut answer = json!({});
    let mut best = 0.0;
    for (name, run, flops) in kernels {
        let gflops = together(threads, || rate(run, flops, each));
        answer[name] = gflops.into();
        best = f64::max(best, gflops);
    }
    answer["gflops"] = best.into();
    Ok(answer)
}

fn rate(run: fn(), flops: usize, time: Duration) -> f64 {
    let (begin, mut rates) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let start = Instant::now();
        run();
        rates.push((STEPS * flops) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    median(rates)
}

/// More chains than latency times units ask for; with the factor and the addend they fill the registers.
const AVX2_CHAINS: usize = 12;
const AVX512_CHAINS: usize = 24;

#[target_feature(enable = "avx2,fma")]
fn avx2() {
    let (factor, addend) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
    let mut chains = [addend; AVX2_CHAINS];
    for _ in 0..STEPS {
        for c in &mut chains {
            *c = _mm256_fmadd_ps(*c, factor, addend);
        }
    }
    black_box(chains);
}

#[target_feature(enable = "avx512f")]
fn avx512() {
    let (factor, addend) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
    let mut chains = [addend; AVX512_CHAINS];
    for _ in 0..STEPS {
        for c in &mut chains {
            *c = _mm512_fmadd_ps(*c, factor, addend);
        }
    }
    black_box(chains);
}
