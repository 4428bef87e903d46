//! The cases of single nodes in the suite of ONNX: those that `data/node-suite-passing.txt` lists
//! pass, on the evaluator and as native code. `BLESS=1` rewrites the list with what passes now.

use burin_ir::graph::eval::eval;
use burin_runtime::Session;
use burin_tests::cases::{self, Recorded};
use burin_tests::native;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn evaluate(recorded: &Recorded) -> Result<(), String> {
    recorded.check(|inputs| eval(&recorded.graph, inputs, &[]).map(|o| o.outputs).map_err(|e| e.to_string()))
}

fn compile_and_run(recorded: &Recorded) -> Result<(), String> {
    let target = native::levels().pop().ok_or("this machine runs no level")?;
    let model = native::compile(&recorded.graph, &target)?.load().map_err(|e| e.to_string())?;
    let mut session = Session::new(&model).map_err(|e| e.to_string())?;
    recorded.check(|inputs| native::run(&mut session, inputs))
}

/// A line for each backend with which a case passes, or why it does not.
fn outcomes(name: &str, folder: &Path) -> Vec<(String, Result<(), String>)> {
    type Check = fn(&Recorded) -> Result<(), String>;
    let checks: [(&str, Check); 2] = [("evaluator", evaluate), ("native", compile_and_run)];
    let recorded = catch_unwind(|| Recorded::read(folder)).unwrap_or_else(|_| Err("panic".into()));
    let outcome = |check: Check| {
        let recorded = recorded.as_ref().map_err(String::clone)?;
        catch_unwind(AssertUnwindSafe(|| check(recorded))).unwrap_or_else(|_| Err("panic".into()))
    };
    checks.into_iter().map(|(backend, check)| (format!("{name} {backend}"), outcome(check))).collect()
}

#[test]
fn what_has_passed_passes() {
    let Some(folder) = cases::suite("node") else { return };
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/node-suite-passing.txt");
    let all: Vec<_> = cases::in_folder(&folder).par_iter().flat_map(|(n, p)| outcomes(n, p)).collect();
    let passing: BTreeSet<&str> = all.iter().filter(|(_, o)| o.is_ok()).map(|(line, _)| &line[..]).collect();
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        let text: String = passing.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&list, text).expect("the list can be written");
    }
    let listed = fs::read_to_string(&list).expect("the list of what passes");
    let listed: BTreeSet<&str> = listed.lines().collect();
    println!("{} of {} pass", passing.len(), all.len());
    for line in passing.difference(&listed) {
        println!("passes now, BLESS=1 lists it: {line}");
    }
    if std::env::var_os("BURIN_REASONS").is_some() {
        for (line, outcome) in &all {
            if let Err(e) = outcome {
                println!("{line}: {e}");
            }
        }
    }
    let lost: Vec<String> = listed
        .difference(&passing)
        .map(|line| match all.iter().find(|(l, _)| l == line) {
            Some((_, Err(e))) => format!("{line}: {e}\n"),
            _ => format!("{line}: there is no such case\n"),
        })
        .collect();
    assert!(lost.is_empty(), "{} cases pass no more:\n{}", lost.len(), lost.concat());
}
