//! `burin bench`: how fast a model is, kernel by kernel, compiled and interpreted.

use crate::backend::{Backend, Native, Runner, fuel};
use crate::failure::Failure;
use crate::inputs::{Inputs, SEED};
use crate::kernels::{self, Row};
use crate::model;
use crate::peaks::{Figures, Peaks};
use crate::statistics::{self, Times};
use crate::table::{Align, table};
use crate::terminal::{self, Progress, duration, significant};
use burin_compiler::driver::Compiled;
use burin_compiler::lower::steps;
use burin_compiler::pipeline;
use burin_compiler::program::Program;
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::Symbol;
use burin_ir::graph::Graph;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

/// Measure how fast a model is
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX file, or a graph in text form
    model: PathBuf,
    /// Which backends to measure
    #[arg(long, value_delimiter = ',', default_value = "jit")]
    backend: Vec<Backend>,
    /// Threads; 0: one for each CPU
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Runs at most (the evaluator, being slow, may do with fewer)
    #[arg(long, default_value_t = 1000)]
    runs: usize,
    /// Seconds after which no further run is started
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A tensor for an input; random ones otherwise
    #[arg(short, long = "input", value_name = "NAME=FILE", value_parser = model::parse_input)]
    inputs: Vec<(String, PathBuf)>,
    /// Seed of random inputs
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Size of a dimension of random inputs (1 where none is given)
    #[arg(long = "dim", value_name = "NAME=N", value_parser = model::parse_dim)]
    dims: Vec<(String, i64)>,
    #[command(flatten)]
    stated: model::Stated,
    /// Show every kernel, with its share of what this machine reaches, measured and predicted
    #[arg(long)]
    kernels: bool,
    /// One JSON object a line for each backend
    #[arg(long)]
    json: bool,
}

/// Slower runs are not warmed up for.
const SLOW_SECONDS: f64 = 0.5;
/// Runs with a clock around each step.
const TRACED_RUNS: usize = 5;
/// The same where kernels are held against a peak, if time allows.
const KERNEL_RUNS: usize = 50;
/// Kernels that the table shows.
const KERNELS: usize = 15;

/// What was measured of a backend.
#[derive(Serialize)]
struct Measured {
    model: String,
    backend: String,
    threads: usize,
    runs: usize,
    median_ms: f64,
    min_ms: f64,
    p95_ms: f64,
    gflops: f64,
    load_ms: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    kernels: Option<Kernels>,
}

/// Its kernels, and what this machine reaches.
#[derive(Serialize)]
struct Kernels {
    peaks: Figures,
    kernels: Vec<Row>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.runs == 0 {
        return Err("--runs: found 0, expected at least 1".to_owned().into());
    }
    if args.kernels && !args.backend.iter().any(|b| *b != Backend::Interp) {
        return Err("--kernels: found --backend interp, expected jit or artifact".to_owned().into());
    }
    let graph = model::load(&args.model, &[], &args.stated)?;
    let inputs = Inputs::new(&graph, &args.inputs, &args.dims, args.seed)?;
    if inputs.random && !args.json {
        eprintln!("{}", inputs.note(&graph, args.seed));
    }
    let progress = Progress::start("compiling");
    let mut rows = Vec::new();
    let mut kernels = String::new();
    for backend in &args.backend {
        let (measured, table) =
            measure(args, &graph, &inputs, *backend, &progress).map_err(|e| e.of(args.model.display()))?;
        kernels.push_str(&table);
        rows.push(measured);
    }
    drop(progress);
    if args.json {
        let line = |m: &Measured| serde_json::to_string(m).map_err(|e| Failure::Bug(e.to_string()));
        let lines: Vec<String> = rows.iter().map(line).collect::<Result<_, _>>()?;
        return terminal::print(&format!("{}\n", lines.join("\n")));
    }
    terminal::print(&format!("{}{kernels}", comparison(&rows)))
}

fn measure(
    args: &Args,
    graph: &Graph,
    inputs: &Inputs,
    backend: Backend,
    progress: &Progress,
) -> Result<(Measured, String), Failure> {
    progress.stage(format!("{backend}: compiling"));
    let start = Instant::now();
    let mut runner = Runner::new(graph.clone(), backend, args.threads)?;
    let load = start.elapsed().as_secs_f64();
    progress.stage(format!("{backend}: running"));
    let (times, steps) = match &mut runner {
        Runner::Native(native) => {
            let warm = native.time(&inputs.tensors, &inputs.dims, None, &mut |s| s.is_empty())?;
            if warm[0] < SLOW_SECONDS {
                native.time(&inputs.tensors, &inputs.dims, None, &mut |s| {
                    s.iter().sum::<f64>() < 0.1 && s.len() < 100
                })?;
            }
            let times = native.time(&inputs.tensors, &inputs.dims, None, &mut |s| go_on(args, s))?;
            let best = trace(args, native, inputs)?;
            (times, best)
        }
        Runner::Interp(_) => {
            let mut times = Vec::new();
            while go_on(args, &times) {
                let start = Instant::now();
                runner.run(&inputs.tensors, &inputs.dims, None)?;
                times.push(start.elapsed().as_secs_f64());
            }
            (times, Vec::new())
        }
    };
    let flops = match runner.native() {
        Some(native) => flops(&native.compiled.program, &inputs.dims),
        None => interpreted_flops(graph, inputs)?,
    };
    let (kernels, table) = match runner.native() {
        Some(native) if args.kernels => {
            progress.stage(format!("{backend}: measuring this machine"));
            let (kernels, table) = against_peaks(args, native, inputs, &steps)?;
            (Some(kernels), table)
        }
        Some(native) => (None, per_kernel(&native.compiled.program, inputs, &steps)),
        None => (None, String::new()),
    };
    let times = Times::new(times);
    let ms = 1e3;
    let measured = Measured {
        model: model::title(&args.model),
        backend: backend.to_string(),
        threads: if backend == Backend::Interp { 1 } else { threads(args.threads) },
        runs: times.runs(),
        median_ms: times.median() * ms,
        min_ms: times.min() * ms,
        p95_ms: times.percentile(95) * ms,
        gflops: flops as f64 / times.median() / 1e9,
        load_ms: load * ms,
        kernels,
    };
    Ok((measured, table))
}

fn go_on(args: &Args, seconds: &[f64]) -> bool {
    seconds.is_empty() || (seconds.len() < args.runs && seconds.iter().sum::<f64>() < args.seconds)
}

fn threads(asked: usize) -> usize {
    if asked == 0 { std::thread::available_parallelism().map_or(1, |n| n.get()) } else { asked }
}

fn flops(program: &Program, dims: &HashMap<Symbol, i64>) -> u64 {
    statistics::total(program, &statistics::symbols(program, dims), |s| &s.flops)
}

/// What the compiled program would do: rates of both backends then compare as their times do.
fn interpreted_flops(graph: &Graph, inputs: &Inputs) -> Result<u64, Failure> {
    let mut graph = graph.clone();
    pipeline::optimise(&mut graph, fuel()?, &mut |_, _| ())?;
    let (program, _) = steps::lower(&graph, &TargetSpec::host()?.machine())?;
    Ok(flops(&program, &inputs.dims))
}

fn comparison(rows: &[Measured]) -> String {
    use Align::{Left, Right};
    let slowest = rows.iter().map(|r| r.median_ms).fold(0.0, f64::max);
    let mut columns = vec![
        ("model", Left),
        ("backend", Left),
        ("threads", Right),
        ("runs", Right),
        ("median", Right),
        ("min", Right),
        ("p95", Right),
        ("GFLOP/s", Right),
        ("load", Right),
    ];
    if rows.len() > 1 {
        columns.push(("speed", Right));
    }
    let row = |r: &Measured| {
        let time = |ms: f64| duration(ms / 1e3);
        let mut cells = vec![
            r.model.clone(),
            r.backend.clone(),
            r.threads.to_string(),
            r.runs.to_string(),
            time(r.median_ms),
            time(r.min_ms),
            time(r.p95_ms),
            significant(r.gflops),
            time(r.load_ms),
        ];
        if rows.len() > 1 {
            cells.push(format!("{}x", significant(slowest / r.median_ms)));
        }
        cells
    };
    table(&columns, rows.iter().map(row))
}

/// A kernel's share of a run.
#[derive(Clone, Default)]
struct Share {
    calls: usize,
    seconds: f64,
    flops: u64,
    node: String,
}

/// Runs a few times with a clock around each step; the least seconds of each.
fn trace(args: &Args, native: &mut Native, inputs: &Inputs) -> Result<Vec<f64>, Failure> {
    let mut best = vec![f64::INFINITY; native.compiled.program.calls.len()];
    let mut began = Instant::now();
    let mut clock = |step: u32, done: bool| match done {
        false => began = Instant::now(),
        true => {
            if let Some(b) = best.get_mut(step as usize) {
                *b = b.min(began.elapsed().as_secs_f64());
            }
        }
    };
    let most = if args.kernels { KERNEL_RUNS } else { TRACED_RUNS };
    native.time(&inputs.tensors, &inputs.dims, Some(&mut clock), &mut |s| {
        s.len() < TRACED_RUNS || (s.len() < most && s.iter().sum::<f64>() < args.seconds)
    })?;
    Ok(best)
}

/// Every kernel beside what this machine reaches in the same run.
fn against_peaks(
    args: &Args,
    native: &Native,
    inputs: &Inputs,
    seconds: &[f64],
) -> Result<(Kernels, String), Failure> {
    let Compiled { program, report, target, .. } = &native.compiled;
    let mut rows = kernels::rows(program, report, &statistics::symbols(program, &inputs.dims));
    let mut peaks = Peaks::new(target, threads(args.threads))?;
    for (step, seconds) in program.calls.iter().zip(seconds) {
        rows[step.kernel].add_time(*seconds);
    }
    for row in &mut rows {
        row.compare(&mut peaks)?;
    }
    rows.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()).then_with(|| a.kernel.cmp(&b.kernel)));
    let table = kernels::table(&rows);
    let text = format!("\n{table}\n{}{}", peaks.describe(), kernels::legend(program, true));
    Ok((Kernels { peaks: peaks.figures, kernels: rows }, text))
}

/// A table of the kernels that take longest.
fn per_kernel(program: &Program, inputs: &Inputs, best: &[f64]) -> String {
    let symbols = statistics::symbols(program, &inputs.dims);
    let mut shares: HashMap<usize, Share> = HashMap::new();
    for (step, seconds) in program.calls.iter().zip(best.iter().copied()).filter(|(_, s)| s.is_finite()) {
        let share = shares.entry(step.kernel).or_default();
        share.calls += 1;
        share.seconds += seconds;
        share.flops += statistics::value(&step.flops, &symbols);
        if share.node.is_empty() {
            share.node.clone_from(&program.nodes[step.node]);
        }
    }
    let total: f64 = shares.values().map(|s| s.seconds).sum();
    let mut rows: Vec<(usize, Share)> = shares.into_iter().collect();
    rows.sort_by(|(a, x), (b, y)| y.seconds.total_cmp(&x.seconds).then(a.cmp(b)));
    let row = |(kernel, s): &(usize, Share)| {
        vec![
            program.kernels[*kernel].name.clone(),
            s.calls.to_string(),
            duration(s.seconds),
            format!("{:.1}%", 100.0 * s.seconds / total),
            significant(s.flops as f64 / s.seconds / 1e9),
            s.node.clone(),
        ]
    };
    use Align::{Left, Right};
    let columns = [
        ("kernel", Left),
        ("calls", Right),
        ("time", Right),
        ("share", Right),
        ("GFLOP/s", Right),
        ("first node", Left),
    ];
    let mut text = format!("\n{}", table(&columns, rows.iter().take(KERNELS).map(row)));
    if rows.len() > KERNELS {
        let rest: f64 = rows[KERNELS..].iter().map(|(_, s)| s.seconds).sum();
        text.push_str(&format!("and {} more kernels, {} in all\n", rows.len() - KERNELS, duration(rest)));
    }
    text
}
