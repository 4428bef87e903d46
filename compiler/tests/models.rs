//! Real models with recorded outputs, on the evaluator, before and after the graph passes. The models are looked for in the folder that
//! `BURIN_SHARED` names, or `../shared` beside the repository; where there are none, the tests skip
//! and say so. `suite` runs every case of the folders that `BURIN_SUITE` lists (separated by `:`), and
//! is run by hand: `BURIN_SUITE=DIR cargo test -p burin-compiler --test models -- --ignored --nocapture`.

use burin_compiler::graph::Fuel;
use burin_compiler::pipeline::graph_passes;
use burin_compiler::verify_case::{Case, Subject};
use burin_ir::Tensor;
use burin_ir::compare::{Bound, compare};
use burin_ir::graph::eval::eval;
use burin_ir::graph::{Graph, verify};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn shared() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    std::env::var_os("BURIN_SHARED").map_or(beside, PathBuf::from)
}

/// Why a result is not the recorded one.
fn difference(found: &Tensor, expected: &Tensor, bound: &Bound) -> Option<String> {
    match compare(found, expected, bound) {
        Err(e) => Some(e),
        Ok(report) => report.first.map(|m| {
            let (wrong, all) = (report.wrong, report.elements);
            format!("{wrong} of {all} elements differ; {:?} is {}, expected {}", m.index, m.found, m.expected)
        }),
    }
}

/// Runs a case as it is imported, and again after the graph passes; gives what is wrong with it.
fn check(folder: &Path) -> Result<(), String> {
    let case = Case::open(folder).map_err(|e| e.to_string())?;
    let subject = case.import().map_err(|e| e.to_string())?;
    let mut graph = subject.graph.clone();
    verify(&graph).map_err(|e| format!("verifier after import: {e}"))?;
    check_answers(&case, &subject, &graph, "imported")?;
    for name in ORDER {
        let pass = graph_passes().find(|p| p.name == *name).ok_or("no such pass")?;
        (pass.run)(&mut graph, &mut Fuel::unlimited()).map_err(|e| format!("{name}: {e}"))?;
        verify(&graph).map_err(|e| format!("verifier after {name}: {e}"))?;
    }
    check_answers(&case, &subject, &graph, "rewritten")
}

/// The passes in an order that exercises each on what the others leave.
const ORDER: &[&str] = &["fold", "simplify", "cse", "batchnorm", "expand", "fold", "simplify", "cse", "dce"];

fn check_answers(case: &Case, subject: &Subject, graph: &Graph, stage: &str) -> Result<(), String> {
    for set in &case.data_sets {
        let data = subject.read(set).map_err(|e| format!("data: {e}"))?;
        let found = eval(graph, &data.inputs, &[]).map_err(|e| format!("{stage}: {e}"))?;
        for (i, (f, e)) in found.outputs.iter().zip(&data.outputs).enumerate() {
            if let Some(d) = difference(f, e, &case.bound(&subject.graph, i, e)) {
                return Err(format!("{stage}: output {i}: {d}"));
            }
        }
    }
    Ok(())
}

fn model(name: &str) {
    let folder = shared().join("models").join(name);
    if !folder.is_dir() {
        println!("skipped: there is no {}", folder.display());
        return;
    }
    check(&folder).unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn digits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits");
    check(&folder).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn mnist() {
    model("mnist");
}

#[test]
fn yolox_nano() {
    model("yolox-nano");
}

#[test]
fn magika() {
    model("magika");
}

#[test]
fn kws() {
    model("kws-int8-qdq");
}

#[test]
fn tinystories() {
    model("tinystories-260k");
}

#[test]
fn forest() {
    model("forest-iris");
}

#[test]
#[ignore = "needs the folders of recorded cases that BURIN_SUITE lists"]
fn suite() {
    let folders = std::env::var("BURIN_SUITE").expect("BURIN_SUITE lists folders of cases");
    let mut cases: Vec<PathBuf> = Vec::new();
    for folder in folders.split(':') {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder}: {e}"));
        cases.extend(entries.flatten().map(|e| e.path()).filter(|p| p.join("model.onnx").is_file()));
    }
    cases.sort();
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut passed = 0;
    for case in &cases {
        let outcome = catch_unwind(|| check(case)).unwrap_or_else(|_| Err("panic".into()));
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match outcome {
            Ok(()) => passed += 1,
            Err(e) => {
                let e = e.split_once(": ").map_or(e.clone(), |(_, rest)| rest.to_owned());
                reasons.entry(e).or_default().push(name);
            }
        }
    }
    for (reason, names) in &reasons {
        println!("{} | {reason} | {}", names.len(), names.join(" "));
    }
    println!("{passed} passed, {} failed", cases.len() - passed);
    assert_eq!(passed, cases.len(), "see the list above");
}
