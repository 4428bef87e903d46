//! `burin verify`: recorded cases, run and compared.
//!
//! Every case counts as passed, failed or skipped. A case is skipped only where it has nothing to
//! compare with; a model that cannot be read, compiled or run is a failure.

use crate::backend::{Backend, Runner};
use crate::failure::{Failure, panic_message};
use crate::terminal::{self, Progress};
use burin_compiler::graph::bind;
use burin_compiler::verify_case::Case;
use burin_ir::Tensor;
use burin_ir::graph::Graph;
use burin_ir::graph::eval::bind_dims;
use burin_ir::ops::Effect;
use serde::Serialize;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Run recorded cases (folders in the ONNX test layout) and compare
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Cases, or folders of cases
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// How the models are run
    #[arg(long, default_value = "jit")]
    backend: Backend,
    /// Threads; 0: one for each CPU
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// One JSON object a line for each case, and one with the counts
    #[arg(long)]
    json: bool,
}

/// Larger inputs are data, not parameters.
const MAX_PARAMETER: usize = 1024;
/// How deep folders of cases are searched.
const MAX_DEPTH: usize = 4;

/// How a case passed.
#[derive(Default)]
struct Passed {
    /// The names of inputs whose contents had to be known at compile time.
    fixed: Vec<String>,
    /// Whether an element is further off than `rtol` and `atol`, but not further than the record's
    /// own rounding (see [`Case::bound`]).
    by_rounding: bool,
    /// Whether results are random, and were held to what must hold of them.
    by_property: bool,
    /// The ops that call the host-op library, each once.
    host_ops: Vec<&'static str>,
}

/// What came of a case.
enum Outcome {
    Passed(Passed),
    Failed(String),
    Skipped(String),
    /// It showed a mistake of our own.
    Bug(String),
}

#[derive(Serialize)]
struct Line<'a> {
    case: String,
    backend: String,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    inputs_fixed: &'a [String],
    seconds: f64,
}

#[derive(Default, Serialize)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Passed only with parameters known at compile time.
    with_fixed_inputs: usize,
    /// Passed only because the records' own rounding is allowed for.
    by_rounding: usize,
    /// Passed because what must hold of random results does.
    by_property: usize,
    /// Passed with calls of the host-op library: how many, and how many for each op.
    with_host_ops: usize,
    host_ops: BTreeMap<&'static str, usize>,
    #[serde(skip)]
    bugs: usize,
    skip_reasons: BTreeMap<String, usize>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut cases = Vec::new();
    for dir in &args.dirs {
        let before = cases.len();
        find(dir, MAX_DEPTH, &mut cases)?;
        if cases.len() == before {
            return Err(format!(
                "{}: found no case in it, expected folders with a model.onnx and test_data_set_N",
                dir.display()
            )
            .into());
        }
    }
    let mut counts = Counts::default();
    let progress = Progress::start("verifying");
    for (i, folder) in cases.iter().enumerate() {
        progress.stage(format!("{}/{} {}", i + 1, cases.len(), folder.display()));
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(folder, args)))
            .unwrap_or_else(|panic| Outcome::Bug(panic_message(&*panic)));
        let line = counts.note(folder, &outcome, args, start.elapsed().as_secs_f64())?;
        if !line.is_empty() {
            progress.clear_for(|| terminal::print(&line))?;
        }
    }
    drop(progress);
    terminal::print(&counts.last(args)?)?;
    match (counts.bugs, counts.failed) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::Wrong),
        (n, _) => Err(Failure::Bug(format!("{n} of the failures are panics or errors of the compiler"))),
    }
}

/// The cases in or below a folder, in the order of their names. A folder is a case if it holds a
/// model's file, or data sets.
fn find(dir: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::Input(format!("{}: {e}", dir.display()));
    let mut below = Vec::new();
    for entry in dir.read_dir().map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            below.push(path);
        }
    }
    let data_set =
        |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("test_data_set_"));
    if dir.join("model.onnx").is_file() || below.iter().any(data_set) {
        out.push(dir.to_owned());
        return Ok(());
    }
    below.sort();
    if depth > 0 {
        below.iter().try_for_each(|d| find(d, depth - 1, out))?;
    }
    Ok(())
}

fn check(folder: &Path, args: &Args) -> Outcome {
    let case = match Case::open(folder) {
        Ok(case) => case,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    if case.data_sets.is_empty() {
        return Outcome::Skipped("no data set".to_owned());
    }
    match check_case(&case, args) {
        Ok(passed) => Outcome::Passed(passed),
        Err(Failure::Bug(m)) => Outcome::Bug(m),
        Err(e) => Outcome::Failed(e.message().to_owned()),
    }
}

/// Runs all data sets.
fn check_case(case: &Case, args: &Args) -> Result<Passed, Failure> {
    let subject = case.import()?;
    let graph = &subject.graph;
    let mut general: Option<Result<Runner, Failure>> = None;
    let mut passed = Passed { fixed: subject.fixed(), host_ops: host_ops(graph), ..Passed::default() };
    for set in &case.data_sets {
        let data = subject.read(set)?;
        let dims = bind_dims(graph, &data.inputs).map_err(|e| e.to_string())?;
        let runner = general.get_or_insert_with(|| Runner::new(graph.clone(), args.backend, args.threads));
        let found = match runner {
            Ok(runner) => runner.run(&data.inputs, &dims, None)?,
            Err(_) => {
                let parameters = parameters(&data.inputs);
                let Some(mut runner) = fixed_runner(graph, &parameters, args) else {
                    return Err(general.and_then(Result::err).unwrap_or(Failure::Wrong));
                };
                let names = parameters.iter().map(|(i, _)| graph.values[graph.inputs()[*i]].name.clone());
                passed.fixed = subject.fixed().into_iter().chain(names).collect();
                runner.run(&data.inputs, &dims, None)?
            }
        };
        let agreement = case.check(graph, &data, &found)?;
        passed.by_rounding |= agreement.by_rounding;
        passed.by_property |= agreement.by_property;
    }
    Ok(passed)
}

/// The ops of a graph that call the host-op library.
fn host_ops(graph: &Graph) -> Vec<&'static str> {
    let nodes = graph.regions.values().flat_map(|r| &r.nodes).map(|n| graph.nodes[*n].op);
    let mut names: Vec<&str> = nodes.filter(|op| op.effect == Effect::Host).map(|op| op.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Inputs that may be parameters (axes, a shape) rather than data: small ones of integers or bools.
fn parameters(inputs: &[Tensor]) -> Vec<(usize, Tensor)> {
    let small = |(_, t): &(usize, &Tensor)| !t.dtype().is_float() && t.len() <= MAX_PARAMETER;
    inputs.iter().enumerate().filter(small).map(|(i, t)| (i, t.clone())).collect()
}

/// A runner of the graph with parameters known; `None` where that does not help.
fn fixed_runner(graph: &Graph, parameters: &[(usize, Tensor)], args: &Args) -> Option<Runner> {
    if parameters.is_empty() {
        return None;
    }
    let mut graph = graph.clone();
    bind::contents(&mut graph, parameters).ok()?;
    Runner::new(graph, args.backend, args.threads).ok()
}

impl Counts {
    /// Counts a case; the line that is printed about it, if any.
    fn note(
        &mut self,
        folder: &Path,
        outcome: &Outcome,
        args: &Args,
        seconds: f64,
    ) -> Result<String, Failure> {
        let mut inputs_fixed: &[String] = &[];
        let (status, reason) = match outcome {
            Outcome::Passed(p) => {
                self.passed += 1;
                self.with_fixed_inputs += !p.fixed.is_empty() as usize;
                self.by_rounding += p.by_rounding as usize;
                self.by_property += p.by_property as usize;
                self.with_host_ops += !p.host_ops.is_empty() as usize;
                for op in &p.host_ops {
                    *self.host_ops.entry(op).or_insert(0) += 1;
                }
                inputs_fixed = &p.fixed;
                ("passed", None)
            }
            Outcome::Failed(reason) => {
                self.failed += 1;
                ("failed", Some(reason.as_str()))
            }
            Outcome::Bug(reason) => {
                self.failed += 1;
                self.bugs += 1;
                ("failed", Some(reason.as_str()))
            }
            Outcome::Skipped(reason) => {
                self.skipped += 1;
                *self.skip_reasons.entry(reason.clone()).or_insert(0) += 1;
                ("skipped", Some(reason.as_str()))
            }
        };
        if args.json {
            let (case, backend) = (folder.display().to_string(), args.backend.to_string());
            let line = Line { case, backend, status, reason, inputs_fixed, seconds };
            return json_line(&line);
        }
        let bug = if matches!(outcome, Outcome::Bug(_)) { "internal error: " } else { "" };
        Ok(reason.map_or(String::new(), |r| format!("{status}: {}: {bug}{r}\n", folder.display())))
    }

    /// What is printed at the end.
    fn last(&self, args: &Args) -> Result<String, Failure> {
        if args.json {
            return json_line(self);
        }
        let mut text = String::new();
        if self.with_fixed_inputs > 0 {
            text.push_str(&format!(
                "note: {} of the passed ones were compiled with their integer inputs known\n",
                self.with_fixed_inputs
            ));
        }
        if self.by_rounding > 0 {
            text.push_str(&format!(
                "note: {} of the passed ones have elements beyond the default rtol and atol, \
                 within the rounding of what was recorded\n",
                self.by_rounding
            ));
        }
        if self.by_property > 0 {
            text.push_str(&format!(
                "note: {} of the passed ones draw random numbers, of which type, shape and rate were checked\n",
                self.by_property
            ));
        }
        if self.with_host_ops > 0 {
            let ops: Vec<String> = self.host_ops.iter().map(|(op, n)| format!("{op}: {n}")).collect();
            text.push_str(&format!(
                "note: {} of the passed ones call the host-op library ({})\n",
                self.with_host_ops,
                ops.join(", ")
            ));
        }
        if self.skipped > 0 {
            let reasons: Vec<String> = self.skip_reasons.iter().map(|(r, n)| format!("{r}: {n}")).collect();
            text.push_str(&format!("{} skipped ({})\n", self.skipped, reasons.join(", ")));
        }
        text.push_str(&format!("{} passed, {} failed\n", self.passed, self.failed));
        Ok(text)
    }
}

fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map(|s| format!("{s}\n")).map_err(|e| Failure::Bug(e.to_string()))
}
