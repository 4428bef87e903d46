//! Artifacts of a small model whose code is written by hand: `y = x + w` over four floats.
//!
//! So these tests hold the writers, the loader and the stub to the ABI, whatever the compiler makes.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

use burin_compiler::artifact::{
    Artifact, CodeRef, Variant, bundle, exe, header, image, object, sharedlib, weights,
};
use burin_compiler::program::{Port, Program, Weight};
use burin_ir::graph::Constant;
use burin_ir::{DType, Expr, Tensor, TensorType};
use burin_runtime::abi::{arch, cpu};
use burin_runtime::image::Image;
use burin_runtime::{Error, Executor, ImageError, Pool, Session, TensorRef, load};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

/// `plan`: input_dims[0] = output_dims[0] = 4, arena_bytes = 64. `run`: four floats from inputs[0]
/// and from the weights, added, to outputs[0].
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x48, 0x8b, 0x47, 0x18,                         // mov rax, [rdi + Plan::input_dims]
    0x48, 0xc7, 0x00, 4, 0, 0, 0,                   // mov qword [rax], 4
    0x48, 0x8b, 0x47, 0x20,                         // mov rax, [rdi + Plan::output_dims]
    0x48, 0xc7, 0x00, 4, 0, 0, 0,                   // mov qword [rax], 4
    0x48, 0xc7, 0x47, 0x10, 64, 0, 0, 0,            // mov qword [rdi + Plan::arena_bytes], 64
    0x31, 0xc0, 0xc3,                               // xor eax, eax; ret
    0x48, 0x8b, 0x47, 0x10,                         // mov rax, [rdi + Call::inputs]
    0x48, 0x8b, 0x00, 0x0f, 0x10, 0x00,             // mov rax, [rax]; movups xmm0, [rax]
    0x48, 0x8b, 0x07, 0x0f, 0x10, 0x08,             // mov rax, [rdi + Call::weights]; movups xmm1, [rax]
    0x0f, 0x58, 0xc1,                               // addps xmm0, xmm1
    0x48, 0x8b, 0x47, 0x18,                         // mov rax, [rdi + Call::outputs]
    0x48, 0x8b, 0x00, 0x0f, 0x11, 0x00,             // mov rax, [rax]; movups [rax], xmm0
    0x31, 0xc0, 0xc3,                               // xor eax, eax; ret
];
const RUN: usize = 33;

fn program() -> Program {
    let port = |name: &str| Port { name: name.into(), ty: TensorType::new(DType::F32, [4]) };
    let weight = Tensor::new(&[4], &[10f32, 20.0, 30.0, 40.0]);
    Program {
        name: "adder".into(),
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        weights: vec![Weight {
            name: "w".into(),
            constant: Constant::Data(weight),
            offset: 0,
            packing: None,
        }],
        weight_bytes: 16,
        arena_bytes: Expr::constant(64),
        nodes: vec!["add".into()],
        ..Program::default()
    }
}

fn artifact(program: &Program) -> Artifact<'_> {
    Artifact {
        arch: arch::X86_64,
        variants: vec![Variant { program, features: cpu::SSE3, level: "x86-64", plan: 0, run: RUN }],
        code: CodeRef { text: CODE, align: 64, plan: 0, run: RUN },
    }
}

fn bundled(dir: &Path) -> PathBuf {
    let path = dir.join("adder.bundle");
    bundle::write(&artifact(&program()), &path).unwrap();
    path
}

fn run_in(session: &mut Session) -> Vec<f32> {
    let x = [1f32, 2.0, 3.0, 4.0];
    let y = session.run(&[TensorRef::new(&[4], &x).unwrap()]).unwrap();
    y[0].as_slice::<f32>().unwrap().to_vec()
}

const Y: [f32; 4] = [11.0, 22.0, 33.0, 44.0];

#[test]
fn an_image_says_what_the_program_says() {
    let built = image::build(&artifact(&program())).unwrap();
    let image = Image::parse(&built.bytes).unwrap();
    let variant = image.variants().next().unwrap();
    let nodes: Vec<&str> = image.texts(variant.nodes).collect();
    assert_eq!((image.name(), image.text(variant.level), &nodes[..]), ("adder", "x86-64", &["add"][..]));
    let entry = image.entries().next().unwrap();
    let code = image.code(&variant).next().unwrap();
    assert_eq!((image.text(entry.name), code.arena_bytes), ("forward", 64));
    assert_eq!((code.plan % 64, code.run), (0, code.plan + RUN as u64));
    let x = image.ports(entry.inputs).next().unwrap();
    assert_eq!((image.text(x.name), image.dims(x.shape).next().unwrap().extent), ("x", 4));
    let w = image.weights().next().unwrap();
    assert_eq!((image.text(w.name), w.offset, w.bytes), ("w", 0, 16));
}

#[test]
fn bad_images_are_refused() {
    let built = image::build(&artifact(&program())).unwrap().bytes;
    let parse = |bytes: &[u8]| Image::parse(bytes).err();
    assert_eq!(parse(b"something else entirely"), Some(ImageError::NotAnImage));
    let mut other = built.clone();
    other[8] = 99;
    let e = parse(&other).unwrap();
    assert_eq!(e, ImageError::Version { found: 99 });
    assert!(e.to_string().contains("ABI version 99"), "{e}");
    for cut in 0..built.len() {
        assert!(parse(&built[..cut]).is_some(), "{cut} bytes");
    }
    // Whatever a byte of the descriptor and the tables becomes, nothing panics.
    for i in 0..built.len() - CODE.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut flipped = built.clone();
            flipped[i] = value;
            if let Ok(image) = Image::parse(&flipped) {
                let _ = image.entries().flat_map(|e| image.ports(e.inputs)).count();
            }
        }
    }
}

#[test]
fn a_bundle_loads_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    // SAFETY: just written.
    let model = unsafe { load::load(&bundled(dir.path())) }.unwrap();
    let mut session = Session::new(&model).unwrap();
    assert_eq!(run_in(&mut session), Y);
    let pool: Arc<dyn Executor> = Arc::new(Pool::new(2).unwrap());
    let mut other = Session::new(&model).unwrap().with_executor(pool);
    assert_eq!(run_in(&mut other), Y);
    let wrong = session.run(&[TensorRef::new(&[1, 4], &[0f32; 4]).unwrap()]).unwrap_err();
    assert_eq!(wrong.to_string(), "input \"x\": found f32[1, 4], expected f32[4]");
    assert!(session.run(&[]).unwrap_err().to_string().contains("found 0 inputs, expected 1 (x)"));
}

#[test]
fn outputs_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    // SAFETY: just written.
    let model = unsafe { load::load(&bundled(dir.path())) }.unwrap();
    let mut session = Session::new(&model).unwrap();
    let x = [1f32, 2.0, 3.0, 4.0];
    let inputs = [TensorRef::new(&[4], &x).unwrap()];
    let large = burin_runtime::Tensor::new(&[2, 9], &[7f32; 18]).unwrap();
    let other = burin_runtime::Tensor::new(&[4], &[7i32; 4]).unwrap();
    for (mut outputs, again) in [(vec![large], true), (vec![other], false), (vec![], false)] {
        let before = outputs.first().map(|t| t.bytes().as_ptr());
        session.call_into(0, &inputs, &[], None, &mut outputs).unwrap();
        assert_eq!((outputs[0].shape(), outputs[0].as_slice::<f32>()), (&[4][..], Some(&Y[..])));
        assert!(!again || before == Some(outputs[0].bytes().as_ptr()));
    }
}

#[test]
fn sessions_of_one_model_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // SAFETY: just written.
    let model = unsafe { load::load(&bundled(dir.path())) }.unwrap();
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let mut session = Session::new(&model).unwrap();
                (0..100).for_each(|_| assert_eq!(run_in(&mut session), Y));
            });
        }
    });
}

#[test]
fn damaged_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = bundled(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        // SAFETY: its code is never called.
        unsafe { load::load(&path) }.unwrap_err().to_string()
    };
    let cut = refused(&whole[..whole.len() - 1]);
    assert!(cut.contains("adder.bundle") && cut.contains("truncated"), "{cut}");
    let mut others = whole.clone();
    *others.last_chunk_mut::<64>().unwrap() = [7; 64];
    refused(&others);
    assert!(refused(b"").contains("adder.bundle"));
}

#[test]
fn a_cpu_that_lacks_features_is_named() {
    let p = program();
    let mut a = artifact(&p);
    a.variants[0].features = 1 << 63 | cpu::SSE3;
    let built = image::build(&a).unwrap();
    let e = Image::parse(&built.bytes).unwrap().choose(burin_runtime::cpu::host_features()).unwrap_err();
    assert_eq!(e, ImageError::Cpu { missing: 1 << 63 });
    a.arch = arch::AARCH64;
    let built = image::build(&a).unwrap();
    let e = Image::parse(&built.bytes).unwrap().choose(u64::MAX).unwrap_err();
    assert!(e.to_string().contains("compiled for AArch64, this machine is x86-64"), "{e}");
}

#[test]
fn the_first_level_that_the_features_are_enough_for_is_chosen() {
    let p = program();
    let mut a = artifact(&p);
    let level = |features, level| Variant { features, level, ..a.variants[0] };
    let (v3, v4) = (cpu::AVX2 | cpu::FMA, cpu::AVX2 | cpu::FMA | cpu::AVX512F);
    a.variants = vec![level(v4, "x86-64-v4"), level(v3, "x86-64-v3")];
    let built = image::build(&a).unwrap();
    let image = Image::parse(&built.bytes).unwrap();
    let names: Vec<&str> = image.variants().map(|v| image.text(v.level)).collect();
    assert_eq!(names, ["x86-64-v4", "x86-64-v3"]);
    for (features, chosen) in [
        (u64::MAX, Ok(0)),
        (v4, Ok(0)),
        (v3 | cpu::AVX512BW, Ok(1)),
        (v3, Ok(1)),
        (cpu::AVX512F | cpu::FMA, Err(cpu::AVX2)),
        (0, Err(v3)),
    ] {
        assert_eq!(image.choose(features), chosen.map_err(|missing| ImageError::Cpu { missing }));
    }
    let message = image.choose(cpu::FMA).unwrap_err().to_string();
    assert!(message.starts_with("this CPU lacks avx2, which"), "{message}");
    // Whatever the descriptor and the tables become, nothing panics.
    for i in 0..built.bytes.len() - CODE.len() {
        let mut flipped = built.bytes.clone();
        flipped[i] ^= 0x41;
        if let Ok(image) = Image::parse(&flipped) {
            let _ = image.choose(u64::MAX);
        }
    }
}

#[test]
fn levels_that_differ_in_their_weights_are_refused() {
    let p = program();
    let changes: [fn(&mut Program); 4] = [
        |p| p.weights[0].offset = 64,
        |p| p.weights[0].name = "v".into(),
        |p| p.weights.clear(),
        |p| p.outputs[0].name = "z".into(),
    ];
    for (change, part) in
        changes.iter().zip(["the weight \"w\"", "the other one is \"v\"", "number or size", "outputs"])
    {
        let mut other = program();
        change(&mut other);
        let mut a = artifact(&p);
        a.variants.push(Variant { program: &other, features: 0, level: "lower", ..a.variants[0] });
        let e = image::build(&a).unwrap_err().to_string();
        let start = "internal error: the programs for x86-64 and lower differ in ";
        assert!(e.starts_with(start) && e.contains(part), "{e}");
    }
}

#[test]
fn nothing_is_left_of_a_failed_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut p = program();
    p.weights[0].offset = 1;
    assert!(weights::fill_segment(&p, &mut [0; 128]).is_err());
    let path = dir.path().join("out");
    assert!(bundle::write(&artifact(&p), &path).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let e = bundle::write(&artifact(&program()), &dir.path().join("none/out")).unwrap_err();
    assert!(e.to_string().contains("none/out"), "{e}");
}

fn executable(dir: &Path) -> PathBuf {
    let path = dir.join("adder");
    exe::write(&artifact(&program()), burin::stub::bytes().unwrap(), &path).unwrap();
    path
}

fn call(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the executable on a file in its own folder, and compares what it prints.
fn answers(program: &Path, input: &Path) {
    let out = call(program, &["--input", &format!("x={}", input.display())]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let expected = "y: f32[4]  min 11  max 44 (at 3)  mean 27.5  [11, 22, 33, 44]\n";
    assert_eq!(text(&out.stdout), expected);
}

fn input(dir: &Path) -> PathBuf {
    let path = dir.join("x.npy");
    let x = [1f32, 2.0, 3.0, 4.0];
    burin_runtime::files::npy::write_file(&path, TensorRef::new(&[4], &x).unwrap()).unwrap();
    path
}

#[test]
fn an_executable_explains_itself_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let exe = executable(dir.path());
    answers(&exe, &input(dir.path()));
    let help = text(&call(&exe, &["--help"]).stdout);
    assert!(
        help.contains("\"adder\"") && help.contains("x  f32[4]") && help.contains("--input x=FILE"),
        "{help}"
    );
    let info = text(&call(&exe, &["--info"]).stdout);
    for part in ["output     y: f32[4]", "64 bytes for one thread", "x86-64 (sse3)", "16 bytes in 1 tensors"]
    {
        assert!(info.contains(part), "{info}");
    }
    let random = call(&exe, &[]);
    assert!(text(&random.stderr).contains("random tensors"));
    let bench = call(&exe, &["--bench", "3", "--threads", "2"]);
    assert!(text(&bench.stdout).starts_with("3 runs: median"), "{}", text(&bench.stderr));
    let written = dir.path().join("out");
    call(&exe, &["--output-dir", written.to_str().unwrap()]);
    assert!(written.join("y.npy").exists());
}

#[test]
fn an_executable_refuses_bad_input() {
    let dir = tempfile::tempdir().unwrap();
    let exe = executable(dir.path());
    let wrong = dir.path().join("wrong.npy");
    burin_runtime::files::npy::write_file(&wrong, TensorRef::new(&[2], &[0f64; 2]).unwrap()).unwrap();
    let wrong = format!("x={}", wrong.display());
    for (args, part) in [
        (&["--input", &*wrong][..], "input \"x\": found f64[2], expected f32[4]"),
        (&["--input", "x=none.npy"], "none.npy"),
        (&["--input", "z=none.npy"], "expected one of the inputs: x"),
        (&["--dim", "n=3"], "found \"n\""),
        (&["--bench", "many"], "expected a number"),
        (&["--what"], "--what"),
    ] {
        let out = call(&exe, args);
        let message = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.lines().any(|l| l.starts_with("error: ") && l.contains(part)), "{args:?}: {message}");
    }
}

#[test]
fn an_executable_survives_strip_and_loads_as_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let exe = executable(dir.path());
    // SAFETY: just written.
    let load = |path: &Path| -> Result<_, Error> { unsafe { load::load(path) } };
    assert_eq!(run_in(&mut Session::new(&load(&exe).unwrap()).unwrap()), Y);
    match Command::new("strip").arg(&exe).output() {
        Ok(out) => assert!(out.status.success(), "{}", text(&out.stderr)),
        Err(e) => return eprintln!("skipped: strip: {e}"),
    }
    answers(&exe, &input(dir.path()));
    assert_eq!(run_in(&mut Session::new(&load(&exe).unwrap()).unwrap()), Y);
}

#[test]
fn an_executable_needs_nothing_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let exe = executable(dir.path());
    let out = match Command::new("chroot").arg(dir.path()).args(["/adder", "--output-dir", "/out"]).output() {
        Ok(out) if text(&out.stderr).contains("cannot change root") => {
            return eprintln!("skipped: chroot needs root");
        }
        Ok(out) => out,
        Err(e) => return eprintln!("skipped: chroot: {e}"),
    };
    assert!(out.status.success() && dir.path().join("out/y.npy").exists(), "{}", text(&out.stderr));
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(dir.path()).status();
    let place = dir.path().to_str().unwrap();
    if !mount(&["--bind", place]).is_ok_and(|s| s.success()) {
        return eprintln!("skipped: mount needs root");
    }
    let read_only = mount(&["-o", "remount,ro,bind"]).is_ok_and(|s| s.success());
    let out = call(&exe, &["--info"]);
    let _ = Command::new("umount").arg(dir.path()).status();
    assert!(!read_only || out.status.success(), "{}", text(&out.stderr));
}

/// Calls the model as the header says.
const MAIN: &str = r#"
#include "adder.h"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    float x[4] = {1, 2, 3, 4}, y[4];
    int64_t shapes[ADDER_OUTPUT_RANKS + 1], in[ADDER_INPUT_RANKS + 1], dims[1] = {0};
    burin_plan plan = {.dims = dims, .workers = 1, .input_dims = in, .output_dims = shapes};
    if (adder_plan(&plan) || plan.arena_bytes != ADDER_ARENA_BYTES || shapes[ADDER_OUTPUT_Y] != 4) return 1;
    const void *inputs[] = {x};
    void *outputs[] = {y};
    burin_call call = {.weights = adder_weights, .arena = aligned_alloc(BURIN_ALIGN, plan.arena_bytes),
                       .inputs = inputs, .outputs = outputs, .output_dims = shapes, .dims = dims, .workers = 1,
                       .variant = plan.variant};
    if (adder_run(&call)) return 2;
    printf("%g %g %g %g\n", y[0], y[1], y[2], y[3]);
    return 0;
}
"#;

#[test]
fn c_links_objects_archives_and_shared_libraries() {
    let dir = tempfile::tempdir().unwrap();
    let (p, system) = (program(), target_lexicon::Triple::host());
    let a = artifact(&p);
    let at = |name: &str| dir.path().join(name);
    header::write(&a, &at("adder.h")).unwrap();
    std::fs::write(at("main.c"), MAIN).unwrap();
    object::write(&a, &system, object::Kind::Object, &at("adder.o")).unwrap();
    object::write(&a, &system, object::Kind::Archive, &at("libadder.a")).unwrap();
    sharedlib::write(&a, &system, &at("libadder.so")).unwrap();
    // SAFETY: just written.
    let model = unsafe { load::load(&at("libadder.so")) }.unwrap();
    assert_eq!(run_in(&mut Session::new(&model).unwrap()), Y);
    for library in ["adder.o", "libadder.a", "libadder.so"] {
        let mut cc = Command::new("cc");
        cc.current_dir(dir.path()).args([
            "-Wall",
            "-Werror",
            "main.c",
            library,
            "-Wl,-rpath,.",
            "-o",
            "main",
        ]);
        let out = match cc.output() {
            Ok(out) => out,
            Err(e) => return eprintln!("skipped: cc: {e}"),
        };
        assert!(out.status.success(), "{library}: {}", text(&out.stderr));
        let out = Command::new("./main").current_dir(dir.path()).output().unwrap();
        assert_eq!(
            (out.status.code(), text(&out.stdout)),
            (Some(0), "11 22 33 44\n".to_owned()),
            "{library}"
        );
    }
}

#[test]
fn objects_come_out_for_every_system() {
    let dir = tempfile::tempdir().unwrap();
    let p = program();
    let path = dir.path().join("out");
    for (system, machine, magic) in [
        ("aarch64-unknown-linux-gnu", arch::AARCH64, &b"\x7fELF"[..]),
        ("riscv64gc-unknown-linux-gnu", arch::RISCV64, b"\x7fELF"),
        ("x86_64-apple-darwin", arch::X86_64, b"\xcf\xfa\xed\xfe"),
        ("aarch64-apple-darwin", arch::AARCH64, b"\xcf\xfa\xed\xfe"),
        ("x86_64-pc-windows-msvc", arch::X86_64, b"\x64\x86"),
    ] {
        let triple: target_lexicon::Triple = system.parse().unwrap();
        let mut a = artifact(&p);
        a.arch = machine;
        a.variants[0].features = 0;
        object::write(&a, &triple, object::Kind::Object, &path).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(magic), "{system}");
        object::write(&a, &triple, object::Kind::Archive, &path).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"!<arch>\n"), "{system}");
        let shared = sharedlib::write(&a, &triple, &path);
        assert_eq!(shared.is_ok(), magic == b"\x7fELF", "{system}");
    }
}

#[test]
fn a_segment_in_memory_is_the_one_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut p = program();
    // Out of order, with a hole, zeros, and more than one block.
    let data: Vec<u8> = (0..400_000).map(|i| if i / 70_000 == 1 { 0 } else { i as u8 }).collect();
    for (name, offset, data) in [("long", 192, &data[..]), ("short", 64, &data[..65]), ("none", 192, &[])] {
        let constant = Constant::Data(Tensor::new(&[data.len()], data));
        p.weights.push(Weight { name: name.into(), constant, offset, packing: None });
    }
    p.weight_bytes = 192 + 400_000;
    let bytes = weights::segment_bytes(&p).unwrap() as usize;
    let mut memory = vec![0; bytes];
    weights::fill_segment(&p, &mut memory).unwrap();
    let path = dir.path().join("segment");
    let id = weights::write_segment(&p, &mut std::fs::File::create(&path).unwrap(), &path).unwrap();
    let file = std::fs::read(&path).unwrap();
    let (file, tail) = file.split_at(bytes - 64);
    assert_eq!((file, &id.to_le_bytes()[..]), (&memory[..bytes - 64], &tail[..8]));
    assert_eq!(memory[bytes - 64..], [0; 64]);
    p.weights[1].offset = 0;
    let e = weights::fill_segment(&p, &mut memory).unwrap_err();
    assert!(e.to_string().contains("overlaps"), "{e}");
}

/// A model with far more zeros than the disk should hold.
#[test]
fn zero_weights_take_no_room() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let mut p = program();
    let zeros = Tensor::zeros(DType::U8, &[64 << 20]);
    p.weights.push(Weight { name: "z".into(), constant: Constant::Data(zeros), offset: 64, packing: None });
    p.weight_bytes = 64 + (64 << 20);
    let path = dir.path().join("sparse");
    bundle::write(&artifact(&p), &path).unwrap();
    let file = std::fs::metadata(&path).unwrap();
    assert!(file.len() > 64 << 20 && file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
    // SAFETY: just written.
    let model = unsafe { load::load(&path) }.unwrap();
    assert_eq!(run_in(&mut Session::new(&model).unwrap()), Y);
}
