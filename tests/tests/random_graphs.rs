//! Random graphs over all op rows: native code computes what the evaluator does, with sizes as numbers
//! and with symbols for them. (`random_shapes.rs` has the ops that schedules are made for, at sizes
//! where tiles and panels end.)
//!
//! `BURIN_RANDOM_GRAPHS=N` runs N graphs, `BURIN_RANDOM_SEED=S` begins at the seed S. What fails is
//! shrunk, and printed as a file test that can be put into `tests/files/graphs`. With
//! `BURIN_RANDOM_SHOW=1` each graph is printed before it runs, for those that end the process.

use burin_compiler::target::native::levels::TargetSpec;
use burin_tests::agree::{Program, Verdict};
use burin_tests::native;
use burin_tests::random::rows::Plan;
use burin_tests::reduce::reduce;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many graphs run without being asked for more.
const GRAPHS: u64 = 700;
/// The first seed if none is given.
const FIRST: u64 = 1;
/// How many failures are shrunk and shown.
const SHOWN: usize = 8;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A seed's graphs, with their names.
fn programs(seed: u64) -> Vec<(&'static str, Program)> {
    let plan = Plan::new(seed);
    let program = |graph| Program { graph, fills: plan.fills(), seed };
    let mut all = Vec::new();
    all.extend(plan.build(&|_| None).ok().map(|g| ("sizes", program(g))));
    all.extend(plan.symbolic().map(|g| ("symbols", program(g))));
    all.retain(|(_, p)| !p.graph.outputs().is_empty());
    all
}

fn check(program: &Program, levels: &[TargetSpec]) -> Result<Verdict, String> {
    catch_unwind(AssertUnwindSafe(|| program.check(levels))).unwrap_or_else(|_| Err("it panics".to_owned()))
}

/// A failure, with what it is shrunk to.
fn shrunk(program: &Program, levels: &[TargetSpec]) -> String {
    let reduced = reduce(program, &|p| check(p, levels).is_err());
    let why = check(&reduced, levels).err().unwrap_or_default();
    format!("{why}\n{}", reduced.text())
}

#[test]
fn random_graphs_compute_what_the_evaluator_does() {
    let all = native::levels();
    let first = number("BURIN_RANDOM_SEED").unwrap_or(FIRST);
    let show = std::env::var_os("BURIN_RANDOM_SHOW").is_some();
    let seeds = first..first + number("BURIN_RANDOM_GRAPHS").unwrap_or(GRAPHS);
    let outcomes: Vec<_> = seeds
        .into_par_iter()
        .flat_map_iter(|seed| {
            // Another graph finds more than another level of the same.
            let levels = [all[seed as usize % all.len()].clone()];
            programs(seed).into_iter().map(move |(kind, p)| {
                if show {
                    println!("seed {seed} with {kind}, {levels:?}\n{}", p.text());
                }
                let outcome = check(&p, &levels);
                (seed, kind, outcome.map_err(|e| (e, p, levels.clone())))
            })
        })
        .collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for (seed, kind, outcome) in outcomes {
        match outcome {
            Ok(verdict) => *counts.entry(format!("{verdict:?} with {kind}")).or_default() += 1,
            Err((e, p, levels)) => failures.push((seed, kind, e, p, levels)),
        }
    }
    counts.iter().for_each(|(what, n)| println!("{n:6} {what}"));
    let shown = failures
        .iter()
        .take(SHOWN)
        .map(|(seed, kind, e, p, levels)| format!("seed {seed} with {kind}: {e}\n{}\n", shrunk(p, levels)));
    let shown: String = shown.collect();
    let rest: String = failures
        .iter()
        .skip(SHOWN)
        .map(|(seed, kind, e, ..)| format!("seed {seed} with {kind}: {e}\n"))
        .collect();
    assert!(failures.is_empty(), "{} graphs fail:\n{shown}{rest}", failures.len());
}
