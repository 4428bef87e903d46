//! The suite of ONNX: the cases of each folder that `data/FOLDER-suite-passing.txt` lists pass, on the
//! evaluator and as native code. `BLESS=1` rewrites the lists with what passes now, and
//! `BURIN_REASONS=1` prints why the others do not.
//!
//! Whole networks, the folder `light`, have tests of their own in `models.rs`.

use burin_compiler::verify_case::Agreement;
use burin_ir::graph::eval::eval;
use burin_runtime::Session;
use burin_tests::cases::{self, Recorded};
use burin_tests::{list, native};
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn evaluate(recorded: &Recorded) -> Result<Agreement, String> {
    recorded.check(|inputs| eval(&recorded.graph, inputs, &[]).map(|o| o.outputs).map_err(|e| e.to_string()))
}

fn compile_and_run(recorded: &Recorded) -> Result<Agreement, String> {
    let target = native::levels().pop().ok_or("this machine runs no level")?;
    let model = native::compile(&recorded.graph, &target)?.load().map_err(|e| e.to_string())?;
    let mut session = Session::new(&model).map_err(|e| e.to_string())?;
    recorded.check(|inputs| native::run(&mut session, inputs))
}

/// A line for each backend with which a case passes, or why it does not.
fn outcomes(name: &str, folder: &Path) -> Vec<(String, Result<Agreement, String>)> {
    type Check = fn(&Recorded) -> Result<Agreement, String>;
    let checks: [(&str, Check); 2] = [("evaluator", evaluate), ("native", compile_and_run)];
    let recorded = catch_unwind(|| Recorded::read(folder)).unwrap_or_else(|_| Err("panic".into()));
    let outcome = |check: Check| {
        let recorded = recorded.as_ref().map_err(String::clone)?;
        catch_unwind(AssertUnwindSafe(|| check(recorded))).unwrap_or_else(|_| Err("panic".into()))
    };
    checks.into_iter().map(|(backend, check)| (format!("{name} {backend}"), outcome(check))).collect()
}

/// Checks every case of a folder, and that none of those that its list names is lost.
fn check(folder: &str, cases: usize) {
    let Some(path) = cases::suite(folder) else { return };
    let found = cases::in_folder(&path);
    assert_eq!(found.len(), cases, "cases in {}", path.display());
    let all: Vec<_> = found.par_iter().flat_map(|(n, p)| outcomes(n, p)).collect();
    let random = all.iter().filter(|(_, o)| o.as_ref().is_ok_and(|a| a.by_property)).count();
    if random > 0 {
        println!("{folder}: {random} draw random numbers, and have the properties of such");
    }
    let all: Vec<_> = all.into_iter().map(|(line, outcome)| (line, outcome.map(|_| ()))).collect();
    list::check(&format!("{folder}-suite-passing.txt"), &all);
}

#[test]
fn single_nodes() {
    check("node", 1884);
}

#[test]
fn small_graphs() {
    check("simple", 23);
}

#[test]
fn operators_exported_by_pytorch() {
    check("pytorch-operator", 35);
}

#[test]
fn modules_exported_by_pytorch() {
    check("pytorch-converted", 82);
}
