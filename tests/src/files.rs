//! File tests: text in, text out.
//!
//! A file (`.txt` or `.burin`) holds one or more cases:
//!
//! ```text
//! # test: parse-print
//! graph @main(%x: f32[2]) {
//!   return %x
//! }
//! ====
//! graph @main(%x: f32[2]) {
//!   return %x
//! }
//! ```
//!
//! The header names a runner (`# test: NAME`), a pass (`# pass: NAME`), the CPU level that code is shown
//! for (`# wide: LEVEL`) or the operands of native code (`# native: SEED, FILL, ...`); the input follows it, then a line of `=` signs, then what the runner
//! is to answer. Between cases stands a line of `-` signs. A runner that fails answers `error: ` and
//! the message, whose line numbers count from the case's header. With `BLESS=1` in the environment
//! the expected parts are rewritten instead of compared.

use similar::TextDiff;
use std::fs;
use std::path::{Path, PathBuf};

/// Answers for the input of a case, or says what is wrong with it.
pub type Runner = Box<dyn Fn(&str) -> Result<String, String>>;

/// Finds what a header names: the key (`test`, `pass`, `wide` or `native`) and the name.
pub type Registry<'a> = &'a dyn Fn(&str, &str) -> Option<Runner>;

/// One case of a file.
struct Case<'a> {
    /// The header and the input.
    input: &'a str,
    expected: &'a str,
}

/// Runs every file under a folder; the answer is how many cases there were. An error holds the
/// differences of every file that failed.
pub fn run_folder(folder: &Path, registry: Registry<'_>, bless: bool) -> Result<usize, String> {
    let mut files = Vec::new();
    collect(folder, &mut files).map_err(|e| format!("{}: {e}", folder.display()))?;
    files.sort();
    let (mut cases, mut failures) = (0, String::new());
    for file in files {
        match run_file(&file, registry, bless) {
            Ok(n) => cases += n,
            Err(e) => failures += &format!("{}:\n{e}\n", file.display()),
        }
    }
    if failures.is_empty() { Ok(cases) } else { Err(failures) }
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "txt" || e == "burin") {
            out.push(path);
        }
    }
    Ok(())
}

fn run_file(file: &Path, registry: Registry<'_>, bless: bool) -> Result<usize, String> {
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let mut rewritten = Vec::new();
    let mut failures = String::new();
    for case in cases(&text) {
        let found = run_case(&case, registry)?;
        if !bless && found != case.expected {
            failures += &difference(case.expected, &found);
        }
        rewritten.push(format!("{}====\n{found}", case.input));
    }
    let n = rewritten.len();
    let rewritten = rewritten.join("----\n");
    if bless && rewritten != text {
        fs::write(file, rewritten).map_err(|e| e.to_string())?;
    }
    if failures.is_empty() { Ok(n) } else { Err(failures) }
}

/// Whether a line is nothing but four or more of a character.
fn is_rule(line: &str, of: char) -> bool {
    let line = line.trim_end();
    line.len() >= 4 && line.chars().all(|c| c == of)
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let mut out = Vec::new();
    // Where the case starts, and where its input ends and its expected part starts.
    let (mut start, mut rule) = (0, None);
    let mut at = 0;
    let mut case = |start: usize, rule: Option<(usize, usize)>, end: usize| {
        let (input_end, expected) = rule.unwrap_or((end, end));
        out.push(Case { input: &text[start..input_end], expected: &text[expected..end] });
    };
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if rule.is_none() && is_rule(line, '=') {
            rule = Some((at, next));
        } else if is_rule(line, '-') {
            case(start, rule.take(), at);
            start = next;
        }
        at = next;
    }
    case(start, rule, at);
    out
}

fn run_case(case: &Case<'_>, registry: Registry<'_>) -> Result<String, String> {
    let header = case.input.lines().next().unwrap_or_default();
    let named = header.strip_prefix("# ").and_then(|h| h.split_once(": "));
    let (key, name) = named.ok_or_else(|| {
        format!("found the header {header:?}, expected `# test: NAME`, `# pass: NAME`, `# wide: LEVEL` or `# native: SEED`")
    })?;
    let runner = registry(key, name.trim())
        .ok_or_else(|| format!("found {key} {name:?}, expected one that exists"))?;
    let mut found = runner(case.input).unwrap_or_else(|e| format!("error: {e}"));
    if !found.is_empty() && !found.ends_with('\n') {
        found.push('\n');
    }
    Ok(found)
}

fn difference(expected: &str, found: &str) -> String {
    TextDiff::from_lines(expected, found).unified_diff().header("expected", "found").to_string()
}
