//! Random graphs with random sizes: what is compiled computes what the evaluator does, at every CPU
//! level of this machine, with its sizes and with symbols for them, and the same bits with three
//! threads as with one.
//!
//! `BURIN_RANDOM_CASES=N` runs N cases, `BURIN_RANDOM_SEED=S` begins at the seed S; a failure
//! names its seed, so that `BURIN_RANDOM_CASES=1 BURIN_RANDOM_SEED=S` repeats it. With
//! `BURIN_RANDOM_SHOW=1` each case is printed before it runs.
//!
//! A graph of one node must be within the bounds of its row, as in the op matrix; behind several
//! nodes the rows' bounds are carried along ([`burin_tests::bounds`] says how, and why). What Winograd's
//! algorithm computes has a wider bound ([`WINOGRAD`]), and is compiled without it besides.

use burin_compiler::driver::{self, Compiled};
use burin_compiler::graph::Fuel;
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

/// The first seed if none is given: all kinds occur among those behind it.
const FIRST: u64 = 18000;
/// How many cases run without being asked for more: below a minute of one core, not optimised.
const CASES: u64 = 220;

/// How many times the largest bound of any element each element may be off behind Winograd's algorithm:
/// an element comes from all of a tile, which is transformed by factors up to 8 in both directions,
/// so that terms of its neighbours are rounded in it. In thousands of cases it was at most 1.8 times.
const WINOGRAD: f64 = 4.0;

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

    /// The same with the bounds of Winograd's algorithm.
    fn widened(&self) -> Expected {
        let widen = |bound: &Bound| match bound {
            Bound::Each(each) => {
                let largest = each.iter().copied().fold(0.0, f64::max);
                Bound::Each(vec![WINOGRAD * largest; each.len()])
            }
            other => other.clone(),
        };
        let bounds = self.bounds.iter().map(widen).collect();
        Expected { inputs: self.inputs.clone(), outputs: self.outputs.clone(), bounds }
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
    let mut counts = Counts::from([(case.kind.to_owned(), 1)]);
    let mut count = |what: String| *counts.entry(what).or_default() += 1;
    for Variant { name, graph, runs } in variants(case)? {
        for target in levels {
            let run_all = |compiled: Compiled, widen: bool| {
                let model = compiled.load().map_err(|e| e.to_string())?;
                runs.iter().try_for_each(|e| if widen { run(&model, &e.widened()) } else { run(&model, e) })
            };
            let place = |e: String| format!("{name}, {target:?}: {e}");
            let compiled = native::compile(&graph, target).map_err(place)?;
            let winograd = compiled.graph.nodes.values().any(|n| n.op.name == "WinogradOutput");
            run_all(compiled, winograd).map_err(place)?;
            count(format!("{} with {name}", target.level));
            if winograd {
                let fuel = Fuel::unlimited().without(&["winograd".to_owned()]);
                let direct = driver::compile_with(graph.clone(), target, fuel, &mut |_, _| ());
                let direct = direct.map_err(|e| place(e.to_string()))?;
                run_all(direct, false).map_err(|e| place(format!("without Winograd's algorithm: {e}")))?;
                count(format!("{} by Winograd's algorithm and without", target.level));
            }
        }
    }
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
    let (first, cases) = (number("BURIN_RANDOM_SEED").unwrap_or(FIRST), number("BURIN_RANDOM_CASES"));
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
