//! Builds the program around compiled models (`stub/`) and hands its path to `src/stub.rs`.
//!
//! The stub has a workspace and a lock file of its own: it is built for size, statically, by a
//! nested cargo in a target folder below `OUT_DIR`. On systems other than Linux on x86-64 there is
//! no stub, and executables are refused.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a stub that was built before, for packagers who build it once for many builds.
const PREBUILT: &str = "BURIN_PREBUILT_STUB";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    for watched in ["stub/Cargo.toml", "stub/Cargo.lock", "stub/src", "runtime/Cargo.toml", "runtime/src"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rustc-check-cfg=cfg(has_stub)");
    if variable("TARGET") != TRIPLE || variable("HOST") != TRIPLE {
        return;
    }
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    if let Some(program) = env::var_os(PREBUILT) {
        println!("cargo::rustc-cfg=has_stub");
        println!("cargo::rustc-env=BURIN_STUB={}", Path::new(&program).display());
        return;
    }
    let program = build(&root.join("stub"), &PathBuf::from(variable("OUT_DIR")).join("stub"));
    println!("cargo::rustc-cfg=has_stub");
    println!("cargo::rustc-env=BURIN_STUB={}", program.display());
}

fn build(stub: &Path, target: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    // What the outer cargo sets for this script must not reach the inner one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = ["CARGO", "CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR"].contains(&&*text);
        let disturbs = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC"].iter().any(|p| text.starts_with(p));
        if disturbs && !kept && !text.starts_with("CARGO_REGISTR") && !text.starts_with("CARGO_HTTP") {
            cargo.env_remove(&name);
        }
    }
    cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Crelocation-model=static");
    cargo.args(["build", "--release", "--locked", "--target", TRIPLE, "--manifest-path"]);
    cargo.arg(stub.join("Cargo.toml")).arg("--target-dir").arg(target);
    if variable("PROFILE") == "debug" {
        // Quicker to build, larger, otherwise the same program.
        for setting in ["lto=\"off\"", "codegen-units=16", "opt-level=1"] {
            cargo.arg("--config").arg(format!("profile.release.{setting}"));
        }
    }
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("the program around compiled models does not build: {status}"),
        Err(e) => panic!("cannot run {cargo:?}: {e}"),
    }
    target.join(TRIPLE).join("release/burin-stub")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}
