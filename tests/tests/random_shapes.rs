//! Random graphs with random sizes: what is compiled computes what the evaluator does, at every CPU
//! level of this machine, with its sizes and with symbols for them, and the same bits with three
//! threads as with one.
//!
//! `BURIN_RANDOM_CASES=N` runs N cases, `BURIN_RANDOM_SEED=S` begins at another seed than 0; a failure
//! names its seed, so that `BURIN_RANDOM_CASES=1 BURIN_RANDOM_SEED=S` repeats it. With
//! `BURIN_RANDOM_SHOW=1` each case is printed before it runs.
//!
//! A graph of one node must be within the bounds of its row, as in the op matrix; behind several
//! nodes the rows' bounds are carried along ([`burin_tests::bounds`] says how, and why).

use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::Tensor;
use burin_ir::compare::{Bound, compare};
use burin_ir::graph::Graph;
use burin_runtime::{Executor, Model, Pool, Session};
use burin_tests::random::Case;
use burin_tests::{bounds, native};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How many cases run without being asked for more: below a minute of one core, not optimised.
const CASES: u64 = 300;

/// Operands, the evaluator's results, and how far compiled code may be from them.
struct Expected {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    bounds: Vec<Bound>,
}

impl Expected {
    fn new(graph: &Graph, inputs: Vec<Tensor>) -> Result<Expected, String> {
        let (outputs, bounds) = bounds::expect(graph, &inputs)?;
        Ok(Expected { inputs, outputs, bounds })
    }

    fn check(&self, found: &[Tensor]) -> Result<(), String> {
        for ((f, e), bound) in found.iter().zip(&self.outputs).zip(&self.bounds) {
            let report = compare(f, e, bound)?;
            if !report.ok() {
                return Err(report.to_string());
            }
        }
        Ok(())
    }
}

/// Three workers on the calling thread, who take turns at single tasks, the last task first: no
/// order of tasks and no share of them may matter.
struct Backwards;

impl Executor for Backwards {
    fn workers(&self) -> usize {
        3
    }

    fn parallel_for(&self, tasks: usize, task: &(dyn Fn(usize, usize, usize) + Sync)) {
        (0..tasks).rev().for_each(|i| task(i, i + 1, i % 3));
    }
}

/// Runs on one thread, on three, and backwards.
fn run(model: &Model, expected: &Expected) -> Result<(), String> {
    let session = || Session::new(model).map_err(|e| e.to_string());
    let alone = native::run(&mut session()?, &expected.inputs)?;
    expected.check(&alone)?;
    let pool: Arc<dyn Executor> = Arc::new(Pool::new(3).map_err(|e| e.to_string())?);
    for (threads, executor) in [("three threads", pool), ("tasks in another order", Arc::new(Backwards))] {
        let found = native::run(&mut session()?.with_executor(executor), &expected.inputs)?;
        if found != alone {
            return Err(format!("{threads} give other bits than one thread"));
        }
    }
    Ok(())
}

/// What was compiled and run, by variant and level.
type Counts = BTreeMap<String, usize>;

/// A graph of a case, and what it is run on.
struct Variant {
    name: &'static str,
    graph: Graph,
    runs: Vec<Expected>,
}

fn variants(case: &Case) -> Result<Vec<Variant>, String> {
    let graph = case.graph()?;
    let runs = vec![Expected::new(&graph, case.inputs())?];
    let mut all = vec![Variant { name: "sizes", graph, runs }];
    if let Some(graph) = case.symbolic_graph() {
        let mut runs = vec![Expected::new(&graph, case.inputs())?];
        // Other sizes need not be valid (a window may be larger than what it slides over).
        runs.extend(Expected::new(&graph, case.other_inputs(&graph)).ok());
        all.push(Variant { name: "symbols", graph, runs });
    }
    Ok(all)
}

fn check(case: &Case, levels: &[TargetSpec]) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for Variant { name, graph, runs } in variants(case)? {
        for target in levels {
            let place = |e: String| format!("{name}, {target:?}: {e}");
            let model = native::compile(&graph, target).map_err(place)?.load();
            let model = model.map_err(|e| place(e.to_string()))?;
            for (i, expected) in runs.iter().enumerate() {
                run(&model, expected).map_err(|e| place(format!("run {i}: {e}")))?;
                *counts.entry(format!("{} with {name}", target.level)).or_default() += 1;
            }
        }
    }
    *counts.entry(case.kind.to_owned()).or_default() += 1;
    Ok(counts)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn outcome(seed: u64, levels: &[TargetSpec]) -> Result<Counts, String> {
    let case = catch_unwind(|| Case::new(seed)).map_err(|_| format!("seed {seed}: no case\n"))?;
    if std::env::var_os("BURIN_RANDOM_SHOW").is_some() {
        println!("seed {seed}, {}\n{}", case.kind, case.text);
    }
    let checked = catch_unwind(AssertUnwindSafe(|| check(&case, levels)));
    let checked = checked.unwrap_or_else(|_| Err("it panics, see above".to_owned()));
    checked.map_err(|e| format!("seed {seed}, {}: {e}\n{}", case.kind, case.text))
}

#[test]
fn random_graphs_compute_what_the_evaluator_does() {
    let (first, cases) = (number("BURIN_RANDOM_SEED").unwrap_or(0), number("BURIN_RANDOM_CASES"));
    let levels = native::levels();
    let seeds = first..first + cases.unwrap_or(CASES);
    let outcomes: Vec<_> = seeds.into_par_iter().map(|seed| outcome(seed, &levels)).collect();
    let mut counts = Counts::new();
    let mut failures = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(c) => c.into_iter().for_each(|(what, n)| *counts.entry(what).or_default() += n),
            Err(e) => failures.push(e),
        }
    }
    counts.iter().for_each(|(what, n)| println!("{n:6} {what}"));
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.concat());
}
