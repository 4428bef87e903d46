//! How long it takes to touch each page of an artifact's weights and of a fresh arena once: what no
//! first run can do without.

use crate::{Result, median};
use burin_runtime::load;
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const PAGE: usize = 4096;

pub(crate) fn time(artifact: &Path, arena_bytes: usize, times: usize) -> Result<Value> {
    let mut taken = Vec::new();
    let mut weight_bytes = 0;
    for _ in 0..times {
        // Mapped anew each time, since pages that were touched stay mapped.
        // SAFETY: the driver hands over what `burin build` has just written.
        let model = unsafe { load::load(artifact) }?;
        let weights = model.weights();
        let mut arena = memmap2::MmapMut::map_anon(arena_bytes.max(1))?;
        let start = Instant::now();
        let sum = weights.iter().step_by(PAGE).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        black_box(sum);
        arena.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        taken.push(start.elapsed().as_secs_f64() * 1e3);
        weight_bytes = weights.len();
    }
    Ok(json!({ "median_ms": median(taken), "weight_bytes": weight_bytes }))
}
