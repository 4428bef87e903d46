//! Dynamic variants of the suite of ONNX: every case of `node` with symbols in place of its inputs'
//! dimensions, compiled, and run on what is recorded. `data/dynamic-suite-passing.txt` lists what
//! passes, and with which symbols, and `data/dynamic-suite-exceptions.txt` what does not, and why; `BLESS=1`
//! rewrites both, and `BURIN_REASONS=1` prints the reasons in full.

use burin_runtime::Session;
use burin_tests::cases::{self, Recorded};
use burin_tests::dynamic::{self, Symbols};
use burin_tests::{list, native};
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn check(recorded: &Recorded, symbols: Symbols) -> Result<Option<()>, String> {
    let Some(graph) = dynamic::import(&recorded.model, &recorded.options, symbols)? else { return Ok(None) };
    let target = native::levels().pop().ok_or("this machine runs no level")?;
    let model = native::compile(&graph, &target)?.load().map_err(|e| e.to_string())?;
    let mut session = Session::new(&model).map_err(|e| e.to_string())?;
    recorded.check(|inputs| native::run(&mut session, inputs)).map(|_| Some(()))
}

/// With which symbols a case passes, the most general that it does with, or why with none; `None` for
/// a case without dimensions.
fn outcome(name: &str, folder: &Path) -> Option<(String, Result<(), String>)> {
    let recorded = match Recorded::read(folder) {
        Ok(recorded) => recorded,
        Err(e) => return Some((name.to_owned(), Err(format!("as it is: {e}")))),
    };
    let mut reasons = Vec::new();
    for symbols in Symbols::ALL {
        let checked = catch_unwind(AssertUnwindSafe(|| check(&recorded, symbols)));
        match checked.unwrap_or_else(|_| Err("panic".into())) {
            Ok(Some(())) => return Some((format!("{name} {}", symbols.name()), Ok(()))),
            Ok(None) if reasons.is_empty() => return None,
            // Nothing of it is open with these.
            Ok(None) => {}
            Err(e) => reasons.push(format!("{}: {e}", symbols.name())),
        }
    }
    Some((name.to_owned(), Err(reasons.join("; "))))
}

/// The last reason without names and numbers, so that equal ones stand together.
fn kind(reason: &str) -> String {
    let last = reason.rsplit("; ").next().unwrap_or(reason);
    let quoted = last.split('"').step_by(2).collect::<Vec<_>>().join("_");
    let words = quoted
        .split(' ')
        .filter(|w| !w.contains("/"))
        .map(|w| if w.chars().any(|c| c.is_ascii_digit() || c == '%') { "_" } else { w });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_dynamic_computes_what_is_recorded() {
    let Some(folder) = cases::suite("node") else { return };
    let all = cases::in_folder(&folder);
    let total = all.len();
    let all: Vec<_> = all.par_iter().filter_map(|(n, p)| outcome(n, p)).collect();
    println!("{} cases have no dimensions", total - all.len());
    for symbols in Symbols::ALL {
        let with = all.iter().filter(|(line, o)| o.is_ok() && line.ends_with(symbols.name())).count();
        println!("{with} pass with the symbols {:?}", symbols.name());
    }
    list::check("dynamic-suite-passing.txt", &all);
    let failing = all.iter().filter_map(|(name, o)| Some((&name[..], kind(o.as_ref().err()?))));
    list::check_exceptions("dynamic-suite-exceptions.txt", &failing.collect::<Vec<_>>());
}
