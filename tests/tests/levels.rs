//! Artifacts with code for several CPU levels: the best one that the CPU has is run, all read the same
//! weights, and all compute the same within what their arithmetic differs by.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

use burin_compiler::artifact::{bundle, exe, image, sharedlib};
use burin_compiler::driver::{self, Compiled};
use burin_compiler::graph::Fuel;
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::graph;
use burin_runtime::cpu::host_features;
use burin_runtime::{Error, Model, Session, Tensor, load, random};
use std::path::Path;
use std::process::{Command, Output};

/// With a weight that is packed.
const MODEL: &str = "graph @layer(%x: f32[rows, 48]) {
  %w = const f32[48, 37] splat 0.25
  %b = const f32[37] splat -1
  %p = MatMul(%x, %w)
  %s = Add(%p, %b)
  %r = Relu(%s)
  return %r
}
";

fn compiled(levels: &str) -> Compiled {
    let targets = TargetSpec::list(None, Some(levels)).unwrap();
    let graph = graph::parse(MODEL).unwrap();
    driver::compile_levels(graph, &targets, Fuel::unlimited(), &mut |_, _| ()).unwrap()
}

fn features(level: &str) -> u64 {
    TargetSpec::new(None, Some(level)).unwrap().features
}

/// The best of these levels that this machine has.
fn best<'a>(levels: &[&'a str]) -> Option<&'a str> {
    levels.iter().rev().find(|l| features(l) & !host_features() == 0).copied()
}

fn answer(model: &Model) -> Vec<f32> {
    let x = random::tensor(burin_runtime::DType::F32, &[5, 48], 7).unwrap();
    let y = Session::new(model).unwrap().run(&[x.view()]).unwrap();
    y[0].as_slice::<f32>().unwrap().to_vec()
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-5 * e.abs().max(1.0), "found {f}, expected {e}");
    }
}

/// # Panics
/// If the file is none that was just written.
fn load_within(features: u64, path: &Path) -> Result<Model, Error> {
    // SAFETY: just written.
    unsafe { load::load_within(features, path) }
}

#[test]
fn files_hold_the_code_for_each_level_over_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (two, one) = (compiled("v1,v3"), compiled("v1"));
    let expected = answer(&one.load().unwrap());
    let (a, b) = (image::build(&two.artifact()).unwrap(), image::build(&one.artifact()).unwrap());
    assert!(a.bytes.len() > b.bytes.len() && two.program.weight_bytes == one.program.weight_bytes);
    let [bundled, shared, program] = ["layer.burin", "liblayer.so", "layer"].map(|n| dir.path().join(n));
    bundle::write(&two.artifact(), &bundled).unwrap();
    sharedlib::write(&two.artifact(), &two.target.triple, &shared).unwrap();
    exe::write(&two.artifact(), burin::stub::bytes().unwrap(), &program).unwrap();
    if let Err(e) = Command::new("strip").arg(&program).output() {
        eprintln!("not stripped: {e}");
    }
    for path in [bundled, shared, program] {
        let model = load_within(u64::MAX, &path).unwrap();
        assert_eq!(model.cpu_level(), best(&["x86-64", "x86-64-v3"]).unwrap());
        assert_near(&answer(&model), &expected);
        let lower = load_within(features("v2"), &path).unwrap();
        assert_eq!(lower.cpu_level(), "x86-64");
        assert_eq!(answer(&lower), expected);
    }
}

#[test]
fn a_machine_without_avx512_runs_the_level_below() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer.burin");
    bundle::write(&compiled("v3,v4").artifact(), &path).unwrap();
    let Some(level) = best(&["x86-64-v3", "x86-64-v4"]) else {
        return eprintln!("skipped: this machine has not the level x86-64-v3");
    };
    let model = load_within(u64::MAX, &path).unwrap();
    assert_eq!(model.cpu_level(), level);
    let lower = load_within(features("v3"), &path).unwrap();
    assert_eq!(lower.cpu_level(), "x86-64-v3");
    assert_near(&answer(&lower), &answer(&model));
    let e = load_within(features("v2"), &path).unwrap_err().to_string();
    assert!(e.contains("layer.burin: this CPU lacks avx, avx2, fma, "), "{e}");
}

#[test]
fn what_is_built_does_not_depend_on_the_order_of_the_levels() {
    let [a, b] = ["v3,v4", "x86-64-v4,x86-64-v3"].map(|l| image::build(&compiled(l).artifact()).unwrap());
    assert!(a.bytes == b.bytes);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_executable_runs_the_level_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("layer");
    let compiled = compiled("v1,v2,v4");
    exe::write(&compiled.artifact(), burin::stub::bytes().unwrap(), &program).unwrap();
    let run = |args: &[&str]| -> Output { Command::new(&program).args(args).output().unwrap() };
    let info = text(&run(&["--info"]).stdout);
    let in_use: Vec<&str> = info.lines().filter(|l| l.contains("in use")).collect();
    let best = best(&["x86-64", "x86-64-v2", "x86-64-v4"]).unwrap();
    assert!(in_use.len() == 1 && in_use[0].starts_with(&format!("CPU        {best}, in use")), "{info}");
    for level in ["x86-64", "x86-64-v2", "x86-64-v4"] {
        assert!(info.contains(&format!("CPU        {level}")), "{info}");
    }
    let lower = text(&run(&["--cpu", "v1", "--info"]).stdout);
    assert!(lower.contains("CPU        x86-64, in use\n"), "{lower}");
    let read = |name: &str, level: &str| -> Tensor {
        let out = dir.path().join(name);
        let done = run(&["--dim", "rows=3", "--cpu", level, "-o", out.to_str().unwrap()]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        burin_runtime::files::npy::read(&std::fs::read(out.join("r.npy")).unwrap()).unwrap()
    };
    let (base, chosen) = (read("base", "x86-64"), read("chosen", best));
    assert_near(chosen.as_slice::<f32>().unwrap(), base.as_slice::<f32>().unwrap());
    let refused = run(&["--cpu", "v3"]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        message.contains("found \"v3\", expected one of the levels: x86-64-v4, x86-64-v2, x86-64"),
        "{message}"
    );
}
