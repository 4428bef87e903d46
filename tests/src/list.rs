//! Lists of what passes, in `data/`: what a list names must pass, and what passes anew is told.
//! `BLESS=1` rewrites them, and `BURIN_REASONS=1` prints why what fails does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Whether lists are to be rewritten.
pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v == "1")
}

/// Compares outcomes with a list.
///
/// # Panics
/// If something listed does not pass, or the list cannot be read or written.
pub fn check(file: &str, all: Vec<(String, Result<(), String>)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file);
    let passing: BTreeSet<&str> = all.iter().filter(|(_, o)| o.is_ok()).map(|(line, _)| &line[..]).collect();
    if blessing() {
        let text: String = passing.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&path, text).expect("the list can be written");
    }
    let listed = fs::read_to_string(&path).expect("the list of what passes");
    let listed: BTreeSet<&str> = listed.lines().collect();
    println!("{file}: {} of {} pass", passing.len(), all.len());
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
    assert!(lost.is_empty(), "{} of {file} pass no more:\n{}", lost.len(), lost.concat());
}
