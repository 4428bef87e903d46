//! What is wrong with the input is said in one message, with exit code 2, and leaves no file behind.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, TINY, digits};

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("tiny.burin", TINY);
    folder
}

#[test]
fn command_lines() {
    let folder = folder();
    folder.refused("frobnicate", &["frobnicate"]);
    folder.refused("run", &["MODEL"]);
    folder.refused("run missing.onnx", &["missing.onnx", "No such file"]);
    folder.refused("run tiny.burin --backend gpu", &["gpu", "jit", "interp"]);
    folder.refused("run tiny.burin --input x", &["NAME=FILE"]);
    folder.refused("run tiny.burin --dim batch=-3", &["-3", "0 or more"]);
    folder.refused("run tiny.burin --dim batch=many", &["many", "whole number"]);
    folder.refused("run tiny.burin --dim width=3", &["width", "batch"]);
    folder.refused("bench tiny.burin --runs 0", &["--runs", "at least 1"]);
    folder.refused("inspect tiny.burin --dump-after frob", &["frob", "expand"]);
    folder.refused("verify nowhere", &["nowhere"]);
    std::fs::create_dir(folder.path("empty")).unwrap();
    folder.refused("verify empty", &["empty", "no case"]);
}

#[test]
fn broken_models() {
    let folder = folder();
    let whole = std::fs::read(digits().join("digits.onnx")).unwrap();
    for cut in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        folder.write("cut.onnx", &whole[..cut]);
        folder.refused("run cut.onnx", &["cut.onnx"]);
    }
    // Flipped bits may leave a model that is as good as another; what must not happen is a panic.
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        folder.write("flipped.onnx", bytes);
        let out = folder.line("run flipped.onnx --backend interp");
        assert!(matches!(out.status.code(), Some(0 | 2)), "byte {at}: {}", common::stderr(&out));
    }
    let text = |body: &str| folder.write("bad.burin", body);
    text("graph @g(%x: f32[2]) {\n  %y = Frob(%x)\n  return %y\n}");
    folder.refused("run bad.burin", &["bad.burin", "2:", "Frob"]);
    text("graph @g(%x: f32[2]) {\n  %y = MatMul(%x, %x) : f32[3]\n  return %y\n}");
    folder.refused("run bad.burin", &["bad.burin", "2:", "f32[3]"]);
    text("graph @g(%x: f32[2, 3]) {\n  %y = MatMul(%x, %x)\n  return %y\n}");
    folder.refused("run bad.burin", &["bad.burin", "2:", "MatMul"]);
    text("graph @g(%x: f32[2]) {\n  %y = Add(%x, %z)\n  %z = Add(%x, %y)\n  return %z\n}");
    folder.refused("run bad.burin", &["bad.burin", "2:", "z"]);
    text("graph @g() {\n  %y = const f32[2] file \"../secret\" 0\n  return %y\n}");
    folder.refused("run bad.burin", &["bad.burin", "../secret", "out of the model's folder"]);
    text("graph @g() {\n  %y = const f32[2] file \"bad.burin\" 60\n  return %y\n}");
    folder.refused("run bad.burin", &["bad.burin", "expected 8 bytes"]);
}

#[test]
fn inputs_that_do_not_fit() {
    let folder = folder();
    folder.npy("wide.npy", "(1, 5)", &[0.0; 5]);
    folder.npy("flat.npy", "(4,)", &[0.0; 4]);
    folder.npy("short.npy", "(1, 4)", &[0.0; 3]);
    folder.npy("x.npy", "(1, 4)", &[0.0; 4]);
    folder.write("x.txt", "0 0 0 0");
    for backend in ["jit", "interp"] {
        let run = |args: &str, parts: &[&str]| {
            folder.refused(&format!("run tiny.burin --backend {backend} {args}"), parts);
        };
        run("--input x=wide.npy", &["\"x\"", "f32[1, 5]", "f32[batch, 4]"]);
        run("--input x=flat.npy", &["\"x\"", "f32[4]", "f32[batch, 4]"]);
        run("--input x=short.npy", &["short.npy", "truncated"]);
        run("--input x=x.txt", &["x.txt", ".npy"]);
        run("--input x=missing.npy", &["missing.npy"]);
        run("--input y=x.npy", &["\"y\"", "expected one of the model's inputs: x"]);
        run("--input x=x.npy --input x=x.npy", &["\"x\"", "twice"]);
        run("--input x=x.npy --dim batch=2", &["batch=2", "1"]);
        run("--dim batch=4000000000000000", &["bytes"]);
        run("--dim batch=9000000000000000000", &["batch"]);
    }
    folder.write("two.burin", "graph @g(%a: f32[2], %b: f32[2]) {\n  %c = Add(%a, %b)\n  return %c\n}");
    folder.npy("a.npy", "(2,)", &[0.0; 2]);
    folder.refused("run two.burin --input a=a.npy", &["\"b\"", "missing"]);
}

#[test]
fn builds_that_cannot_be_leave_nothing() {
    let folder = folder();
    let build = |args: &str, parts: &[&str]| {
        folder.refused(&format!("build tiny.burin {args}"), parts);
        assert_eq!(folder.names(), ["tiny.burin"], "{args}");
    };
    build("-o nowhere/tiny", &["nowhere"]);
    build("-o tiny --cpu z80", &["z80", "x86-64-v3"]);
    build("-o tiny --target moon", &["moon"]);
    build("-o tiny --target aarch64-unknown-linux-gnu", &["aarch64", "--emit obj"]);
    build("-o tiny --dim width=3", &["width", "batch"]);
    build("-o tiny.burin", &["the model itself"]);
    build("-o .", &["regular file"]);
    folder.refused("build missing.burin -o tiny", &["missing.burin"]);
    assert_eq!(folder.names(), ["tiny.burin"]);
}

/// A device must never be replaced by a file; the folder's own pipe stands for one.
#[test]
#[cfg(unix)]
fn what_is_no_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = folder();
    let made = std::process::Command::new("mkfifo").arg(folder.path("pipe")).status().unwrap();
    assert!(made.success());
    folder.refused("build tiny.burin -o pipe", &["pipe", "regular file"]);
    assert!(folder.path("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!(folder.names(), ["pipe", "tiny.burin"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_the_inputs_fault() {
    let folder = folder();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_burin"))
        .args(["run", "tiny.burin"])
        .current_dir(folder.path(""))
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", common::stderr(&out));
    assert!(common::stderr(&out).contains("cannot write to stdout"));
}

/// A limit on the size of files fails a write in its middle, as a disk does that has no room left.
#[test]
#[cfg(target_os = "linux")]
fn a_build_that_finds_no_room_leaves_nothing() {
    let folder = folder();
    let limited = format!("trap '' XFSZ; ulimit -f 64; exec {} \"$@\"", env!("CARGO_BIN_EXE_burin"));
    let out = std::process::Command::new("sh")
        .args(["-c", &limited, "sh", "build", "tiny.burin", "-o", "tiny"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", common::stderr(&out));
    assert!(common::stderr(&out).contains("error: tiny: File too large"), "{}", common::stderr(&out));
    assert_eq!(folder.names(), ["tiny.burin"]);
}
