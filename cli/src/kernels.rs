//! The distinct kernels of a program as rows: how each is run, what the cost model says of it, and,
//! where it was measured, its share of what the machine reaches.

use crate::failure::Failure;
use crate::peaks::Peaks;
use crate::statistics;
use crate::table::{self, Align};
use crate::terminal::{bytes, count, duration, significant};
use burin_compiler::lower::schedule::cost::{Peak, Prediction};
use burin_compiler::lower::steps::Report;
use burin_compiler::memory::TYPICAL_DIM;
use burin_compiler::program::Program;
use burin_ir::Symbol;
use serde::Serialize;
use std::collections::HashMap;

/// A distinct kernel; figures are those of one call.
#[derive(Serialize)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) kernel: String,
    calls: usize,
    schedule: String,
    lanes: u16,
    flops: u64,
    bytes: u64,
    /// What its shares are of.
    peak: String,
    predicted: f64,
    limit: String,
    #[serde(flatten)]
    measured: Option<Measured>,
    #[serde(skip)]
    prediction: Prediction,
    /// The node of its first call.
    node: String,
    /// Of all calls; 0 where none was measured.
    #[serde(skip)]
    seconds: f64,
}

/// What was measured of a kernel.
#[derive(Serialize)]
struct Measured {
    /// The mean of its calls.
    ms: f64,
    gflops: f64,
    gb_per_s: f64,
    measured: f64,
}

/// The distinct kernels of a program that has these sizes, in its order.
pub(crate) fn rows(program: &Program, report: &Report, symbols: &HashMap<Symbol, i64>) -> Vec<Row> {
    let row = |(number, kernel): (usize, &burin_ir::loops::Kernel)| {
        let mut calls = program.calls.iter().zip(&report.groups).filter(|(s, _)| s.kernel == number);
        let (step, group) = calls.next()?;
        let p = group.prediction;
        Some(Row {
            kernel: kernel.name.clone(),
            calls: 1 + calls.count(),
            schedule: group.schedule.clone(),
            lanes: p.lanes,
            flops: statistics::value(&step.flops, symbols),
            bytes: (statistics::value(&step.bytes, symbols) as f64 * p.touches).round() as u64,
            peak: p.peak.to_string(),
            predicted: p.share,
            limit: p.limit.to_string(),
            measured: None,
            prediction: p,
            node: program.nodes[step.node].clone(),
            seconds: 0.0,
        })
    };
    program.kernels.iter().enumerate().filter_map(row).collect()
}

impl Row {
    /// Adds the seconds of one of its calls.
    pub(crate) fn add_time(&mut self, seconds: f64) {
        if seconds.is_finite() {
            self.seconds += seconds;
        }
    }

    /// The seconds of all its calls.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Holds its times against what the machine reaches.
    pub(crate) fn compare(&mut self, peaks: &mut Peaks) -> Result<(), Failure> {
        let seconds = self.seconds / self.calls as f64;
        if seconds <= 0.0 {
            return Ok(());
        }
        let rate = |n: u64| n as f64 / seconds / 1e9;
        let (gflops, gb_per_s) = (rate(self.flops), rate(self.bytes));
        let measured = match self.prediction.peak {
            Peak::MultiplyAdds => gflops / peaks.multiply_adds(self.lanes)?,
            Peak::Copy => gb_per_s / peaks.copy(self.bytes)?,
        };
        self.measured = Some(Measured { ms: seconds * 1e3, gflops, gb_per_s, measured });
        Ok(())
    }
}

/// The rows as a table; the columns of what was measured only where something was.
pub(crate) fn table(rows: &[Row]) -> String {
    use Align::{Left, Right};
    let measured = rows.iter().any(|r| r.measured.is_some());
    let total: f64 = rows.iter().map(Row::seconds).sum();
    let mut columns = vec![("kernel", Left), ("calls", Right), ("schedule", Left), ("lanes", Right)];
    columns.extend([("FLOPs", Right), ("bytes", Right)]);
    if measured {
        columns.extend([("time", Right), ("of run", Right), ("GFLOP/s", Right), ("measured", Right)]);
    }
    columns.extend([("predicted", Right), ("of", Left), ("limit", Left), ("first node", Left)]);
    let percent = |share: f64| format!("{}%", significant(100.0 * share));
    let row = |r: &Row| {
        let mut cells = vec![r.kernel.clone(), r.calls.to_string(), r.schedule.clone(), r.lanes.to_string()];
        cells.extend([count(r.flops as f64), bytes(r.bytes)]);
        if measured {
            let none = || ["-"; 4].map(str::to_owned);
            cells.extend(r.measured.as_ref().map_or_else(none, |m| {
                let time = duration(m.ms / 1e3);
                [time, percent(r.seconds / total), significant(m.gflops), percent(m.measured)]
            }));
        }
        cells.extend([percent(r.predicted), r.peak.clone(), r.limit.clone(), r.node.clone()]);
        cells
    };
    table::table(&columns, rows.iter().map(row))
}

const LEGEND: &str = "\
FLOPs, bytes and times are of one call; bytes count once what is touched.
schedule   the kind; how many points of which axes are computed together (axes are a, b and so on from
           the outermost, and b2x16 are 2 vectors of 16 lanes along b); in brackets the loops from the
           outermost, of which those before | are tasks (without | all), and a/6 walks blocks of 6 tiles
           along a
kind       contract: register tiles of a product; window: a product whose columns have data of their own;
           dot: products in vectors along the sum; stream: element by element in vectors; rows: a
           reduction a row; scalar: one by one
predicted  by the cost model, as a share of FMA (two multiply-adds a cycle at these lanes) or of copy (a
           plain copy of as many bytes; for kernels without products, and those that memory limits)
limit      what the model says a kernel waits for most: multiply-adds, arithmetic, loads (and stores),
           instructions, latency, cache (bytes from the second level), memory (beyond it), or the call
";

/// What the columns mean; what was measured where `measured`.
pub(crate) fn legend(program: &Program, measured: bool) -> String {
    let mut text = LEGEND.to_owned();
    if measured {
        text.push_str("measured   the same share of what this machine reached in this run\n");
    }
    if !program.dims.is_empty() {
        let dims: Vec<String> = program.dims.iter().map(|d| format!("{d} = {TYPICAL_DIM}")).collect();
        text.push_str(&format!("Predictions are made at typical sizes ({}).\n", dims.join(", ")));
    }
    text
}
