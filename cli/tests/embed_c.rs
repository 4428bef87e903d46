//! `examples/embed-c`: a C program with a model linked into it, for this machine and for AArch64.
//! A test skips, and says so, where the C compiler or the emulator that it needs is missing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: there is no {program}");
    }
    found
}

fn done(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// Builds the model and the program around it, and checks what the program says.
fn link_and_run(options: &[&str], compiler: &str, emulator: Option<&str>) {
    if !is_installed(compiler) || !emulator.is_none_or(is_installed) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (object, program) = (folder.path().join("digits.o"), folder.path().join("digits"));
    let mut build = Command::new(env!("CARGO_BIN_EXE_burin"));
    build.arg("build").arg(examples().join("digits/digits.onnx"));
    build.args(["--emit", "obj", "-o"]).arg(&object);
    done(build.args(options));
    let mut cc = Command::new(compiler);
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]);
    // An emulator has no shared libraries of the other machine at hand.
    cc.args(emulator.map(|_| "-static")).arg("-I").arg(folder.path());
    done(cc.arg(examples().join("embed-c/main.c")).arg(&object).arg("-o").arg(&program));
    let mut run = match emulator {
        Some(emulator) => Command::new(emulator),
        None => Command::new(&program),
    };
    let out = done(run.args(emulator.map(|_| &program)));
    let text = String::from_utf8(out.stdout).unwrap();
    for expected in ["drawing 0 is a 7, ", "drawing 1 is a 0, ", "a batch of -1 is refused"] {
        assert!(text.contains(expected), "{expected:?} is not in: {text}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn on_this_machine() {
    link_and_run(&[], "gcc", None);
}

/// The best level that the CPU has is chosen; `x86-64` is one that each has.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn with_code_for_every_cpu_level() {
    link_and_run(&["--cpu=v1,v3,v4,v2"], "gcc", None);
}

#[test]
fn on_aarch64() {
    link_and_run(&["--target=aarch64-unknown-linux-gnu"], "aarch64-linux-gnu-gcc", Some("qemu-aarch64"));
}
