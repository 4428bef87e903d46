//! The bandwidth of copies between buffers that no cache holds: bytes read plus bytes written.

use crate::{Result, median, together};
use serde_json::{Value, json};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of the source, over all threads: as many as the pointwise model that is held against it reads.
/// Caches of a shared machine hold more of less, and what they hold is not constant.
const BYTES: usize = 64 << 20;

type Way = fn(&[f32], &mut [f32]);

/// The best of three ways: `memcpy`, plain vectors, and stores that pass the caches by.
pub(crate) fn bandwidth(threads: usize, time: Duration) -> Result<Value> {
    let mut ways: Vec<(&str, Way)> = vec![("memcpy", |from, to| to.copy_from_slice(from))];
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has what the functions need.
        ways.push(("vectors", |from, to| unsafe { vectors(from, to) }));
        // SAFETY: as above.
        ways.push(("streamed", |from, to| unsafe { streamed(from, to) }));
    }
    let each = time / ways.len() as u32;
    let len = BYTES / threads / size_of::<f32>();
    let mut answer = json!({});
    let mut best = 0.0;
    for (name, way) in ways {
        let gbs = together(threads, || {
            let (from, mut to) = (vec![1.0; len], vec![2.0; len]);
            rate(way, &from, &mut to, each)
        });
        answer[name] = gbs.into();
        best = f64::max(best, gbs);
    }
    answer["gbs"] = best.into();
    Ok(answer)
}

fn rate(way: Way, from: &[f32], to: &mut [f32], time: Duration) -> f64 {
    let (begin, mut rates) = (Instant::now(), Vec::new());
    while rates.len() < 3 || begin.elapsed() < time {
        let start = Instant::now();
        way(black_box(from), to);
        black_box(&to);
        rates.push(2.0 * size_of_val(from) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    median(rates)
}

#[target_feature(enable = "avx2")]
fn vectors(from: &[f32], to: &mut [f32]) {
    for (from, to) in from.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
        // SAFETY: both chunks hold a vector.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_loadu_ps(from.as_ptr())) };
    }
}

#[target_feature(enable = "avx2")]
fn streamed(from: &[f32], to: &mut [f32]) {
    // Such stores must be aligned; what is cut off at both ends is nothing to the time.
    let skip = to.as_ptr().align_offset(32);
    for (from, to) in from[skip..].chunks_exact(8).zip(to[skip..].chunks_exact_mut(8)) {
        // SAFETY: both chunks hold a vector, and `to` is aligned to it.
        unsafe { _mm256_stream_ps(to.as_mut_ptr(), _mm256_loadu_ps(from.as_ptr())) };
    }
    _mm_sfence();
}
