//! What this machine reaches, measured by kernels that the compiler makes
//! ([`peak`](burin_compiler::target::native::peak)): each figure when it is first asked for.

use crate::failure::Failure;
use crate::terminal::{bytes, significant};
use burin_compiler::target::native::levels::TargetSpec;
use burin_compiler::target::native::peak;
use burin_runtime::{Model, Pool, Session};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Seconds of a measured call at least, and how many there are, of which the fastest counts.
const SECONDS: f64 = 4e-3;
const CALLS: usize = 25;
/// Lanes of the narrowest vectors; what has fewer is held against a part of them.
const LEAST_LANES: u16 = 4;
/// Copies of more bytes are no slower.
const MOST_BYTES: u64 = 256 << 20;

/// What was measured.
#[derive(Serialize, Default)]
pub(crate) struct Figures {
    /// By the lanes of vectors of `f32`.
    gflops_of_lanes: BTreeMap<u16, f64>,
    /// By the bytes that are read and written.
    gb_per_s_of_bytes: BTreeMap<u64, f64>,
}

/// The machine on which it is measured.
pub(crate) struct Peaks {
    target: TargetSpec,
    lanes: u16,
    threads: usize,
    pool: Option<Arc<Pool>>,
    /// What was measured so far.
    pub(crate) figures: Figures,
}

impl Peaks {
    /// Measures on so many threads.
    pub(crate) fn new(target: &TargetSpec, threads: usize) -> Result<Peaks, Failure> {
        let bits = target.machine().wide.map_or(target.vector_bits, |w| w.vector_bits);
        let start = || Pool::new(threads).map_err(|e| format!("cannot start {threads} threads: {e}"));
        let pool = (threads > 1).then(start).transpose()?.map(Arc::new);
        let lanes = (bits / 32).max(1) as u16;
        Ok(Peaks { target: target.clone(), lanes, threads, pool, figures: Figures::default() })
    }

    /// GFLOP/s of multiply-adds in vectors of so many lanes.
    pub(crate) fn multiply_adds(&mut self, lanes: u16) -> Result<f64, Failure> {
        let whole = lanes.clamp(LEAST_LANES.min(self.lanes), self.lanes);
        let known = self.figures.gflops_of_lanes.get(&whole).copied();
        let rate = match known {
            Some(rate) => rate,
            None => {
                let model = peak::arithmetic(&self.target, whole, self.threads)?;
                let rate = self.rate(&model, peak::multiply_adds(whole, self.threads))?;
                self.figures.gflops_of_lanes.insert(whole, rate);
                rate
            }
        };
        Ok(rate * f64::from(lanes) / f64::from(whole))
    }

    /// GB/s of a copy that reads and writes about so many bytes.
    pub(crate) fn copy(&mut self, wanted: u64) -> Result<f64, Failure> {
        // To one part in eight.
        let unit = (wanted.clamp(1 << 10, MOST_BYTES) + 1).next_power_of_two() >> 4;
        let size = wanted.clamp(1 << 10, MOST_BYTES).next_multiple_of(unit);
        if let Some(rate) = self.figures.gb_per_s_of_bytes.get(&size) {
            return Ok(*rate);
        }
        let model = peak::copy(&self.target, self.lanes, size, self.threads)?;
        let rate = self.rate(&model, peak::copied(self.lanes, size, self.threads))?;
        self.figures.gb_per_s_of_bytes.insert(size, rate);
        Ok(rate)
    }

    /// Thousand millions a second of what each repeat does so many of.
    fn rate(&self, model: &Model, of_repeat: u64) -> Result<f64, Failure> {
        let mut session = Session::new(model)?;
        if let Some(pool) = &self.pool {
            session = session.with_executor(pool.clone());
        }
        let mut time = |repeats: i64| -> Result<f64, Failure> {
            let start = Instant::now();
            session.call(0, &[], &[(peak::REPEATS, repeats)], None)?;
            Ok(start.elapsed().as_secs_f64())
        };
        // The first call meets memory that has not been touched.
        time(1)?;
        let mut repeats = 1;
        while time(repeats)? < SECONDS {
            repeats *= 2;
        }
        let mut best = f64::INFINITY;
        for _ in 0..CALLS {
            best = best.min(time(repeats)?);
        }
        Ok(of_repeat as f64 * repeats as f64 / best / 1e9)
    }

    /// What was measured, for people.
    pub(crate) fn describe(&self) -> String {
        let lanes = self.figures.gflops_of_lanes.iter().rev();
        let lanes: Vec<String> = lanes.map(|(l, r)| format!("{} at {l} lanes", significant(*r))).collect();
        let sizes = &self.figures.gb_per_s_of_bytes;
        let ends = sizes.iter().take(1).chain(sizes.iter().skip(1).last());
        let copies: Vec<String> =
            ends.map(|(b, r)| format!("{} of {}", significant(*r), bytes(*b))).collect();
        let threads =
            if self.threads == 1 { "one thread".to_owned() } else { format!("{} threads", self.threads) };
        let mut text = format!("This machine, {threads}:");
        let none = || "none asked for".to_owned();
        let or_none = |all: Vec<String>| if all.is_empty() { none() } else { all.join(", ") };
        text.push_str(&format!(" GFLOP/s of multiply-adds: {};", or_none(lanes)));
        text.push_str(&format!(" GB/s of copies: {}\n", or_none(copies)));
        text
    }
}
