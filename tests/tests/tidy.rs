//! The house rules that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below a folder, build output apart.
fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                sources(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The text of every Rust file, with its path from the root.
fn texts(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    sources(&root().join(folder), &mut files);
    let show = |p: &Path| p.strip_prefix(root()).unwrap_or(p).display().to_string();
    files.iter().map(|p| (show(p), fs::read_to_string(p).expect("a source file"))).collect()
}

/// The crates of this workspace that a crate depends on, tests apart.
fn dependencies(krate: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
    let mut section = "";
    let mut out = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        if section.ends_with("dependencies]")
            && !section.contains("dev-")
            && let Some(rest) = line.strip_prefix("burin-")
        {
            out.push(rest.split(['.', ' ', '=']).next().unwrap_or(rest).to_owned());
        }
    }
    out
}

#[test]
fn crates_point_one_way() {
    let allowed = [
        ("host", &[][..]),
        ("ir", &["host"]),
        ("runtime", &["host"]),
        ("compiler", &["host", "ir", "runtime"]),
        ("cli", &["ir", "compiler", "runtime"]),
    ];
    for (krate, allowed) in allowed {
        for d in dependencies(krate) {
            assert!(allowed.contains(&&d[..]), "{krate} depends on {d}, expected one of {allowed:?}");
        }
    }
    assert!(dependencies("compiler").contains(&"ir".to_owned()), "the manifests were not read");
}

#[test]
fn the_languages_have_no_unsafe_code() {
    let lib = fs::read_to_string(root().join("ir/src/lib.rs")).expect("the crate's root");
    assert!(lib.contains("#![forbid(unsafe_code)]"), "ir/src/lib.rs does not forbid unsafe code");
}

#[test]
fn every_file_says_what_it_is() {
    let all = texts(".");
    assert!(all.len() > 20, "found {} files only", all.len());
    let silent: Vec<&str> =
        all.iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| &path[..]).collect();
    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:?}");
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = texts(".")
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 800)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "these files have more than 800 lines: {long:?}");
}
