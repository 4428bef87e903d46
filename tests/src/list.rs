//! Lists of what passes, in `data/`: what a list names must pass, and what passes anew is told.
//! `BLESS=1` rewrites them, and `BURIN_REASONS=1` prints why what fails does.
//!
//! Exceptions are lists of what does not pass, by their reasons: they name it all, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file)
}

/// Whether lists are to be rewritten.
pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v == "1")
}

/// Compares outcomes with a list.
///
/// # Panics
/// If something listed does not pass, or the list cannot be read or written.
pub fn check(file: &str, all: &[(String, Result<(), String>)]) {
    let path = path(file);
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
        for (line, outcome) in all {
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

/// Compares what does not pass, with a reason each, with a list of exceptions: the cases of a reason stand
/// below it.
///
/// # Panics
/// If the list names anything else, or under another reason, or cannot be read or written.
pub fn check_exceptions(file: &str, all: &[(&str, String)]) {
    let path = path(file);
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (case, reason) in all {
        reasons.entry(reason).or_default().insert(case);
    }
    let section = |(reason, cases): (&&str, &BTreeSet<&str>)| {
        format!("{reason}\n{}", cases.iter().map(|case| format!("    {case}\n")).collect::<String>())
    };
    let text: String = reasons.iter().map(section).collect();
    if blessing() {
        fs::write(&path, &text).expect("the list can be written");
    }
    let listed = fs::read_to_string(&path).expect("the list of exceptions");
    let (listed, found) = (pairs(&listed), pairs(&text));
    let said = |verb: &str, (case, reason): &(&str, &str)| format!("{verb} {case}: {reason}\n");
    let gone = listed.difference(&found).map(|pair| said("no more:", pair));
    let fresh = found.difference(&listed).map(|pair| said("not listed:", pair));
    let wrong: String = gone.chain(fresh).collect();
    assert!(wrong.is_empty(), "{file} is not what does not pass, BLESS=1 rewrites it:\n{wrong}");
}

/// The cases of a list of exceptions, with their reasons.
fn pairs(text: &str) -> BTreeSet<(&str, &str)> {
    let mut reason = "";
    let mut all = BTreeSet::new();
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(case) => drop(all.insert((case, reason))),
            None => reason = line,
        }
    }
    all
}
