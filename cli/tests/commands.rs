//! What the commands do for those who use them as meant.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, TINY, digits, read_npy, stderr, stdout};
use serde_json::Value;
use std::process::Command;

/// `[1, 2, 3, 4] * w` by hand: the first row of a product.
const ROW: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
const ANSWER: [f32; 3] = [70.0, 80.0, 90.0];

const LAYERS: &str = "graph @layers(%x: f32[n, 4]) {
  %v = const f32[4, 4] [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
  %w = const f32[4, 4] [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]
  %pads = const i64[4] [1, 1, 1, 1]
  %a = MatMul(%x, %v)
  %b = Tanh(%a)
  %c = MatMul(%b, %w)
  %d = Tanh(%c)
  %e = Pad(%d, %pads)
  return %e
}
";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("tiny.burin", TINY);
    folder.npy("x.npy", "(1, 4)", &ROW);
    folder
}

#[test]
fn help_names_every_command() {
    let help = Folder::new().ok("--help");
    for command in ["build", "run", "bench", "inspect", "diff", "verify"] {
        assert!(help.contains(command), "{help}");
        assert!(Folder::new().ok(&format!("{command} --help")).contains("Usage: burin"));
    }
}

#[test]
fn run_computes_the_same_on_both_backends() {
    let folder = folder();
    for backend in ["jit", "interp", "artifact"] {
        folder.ok(&format!("run tiny.burin --backend {backend} --input x=x.npy --output-dir {backend}"));
        assert_eq!(read_npy(&folder.path(&format!("{backend}/answer.npy"))), ANSWER, "{backend}");
    }
}

#[test]
fn run_without_inputs_takes_seeded_random_ones() {
    let folder = folder();
    let run = |line: &str| folder.ok(&format!("run tiny.burin {line}"));
    assert_eq!(run("--seed 7"), run("--seed 7 --backend interp"));
    assert_ne!(run("--seed 7"), run("--seed 8"));
    assert!(run("--dim batch=5").starts_with("answer: f32[5, 3]"));
}

#[test]
fn bench_writes_an_object_for_each_backend() {
    let folder = folder();
    let text = folder.ok("bench tiny.burin --backend interp,jit --threads 2 --runs 3 --json");
    let backends: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(backends.len(), 2);
    for (object, name) in backends.iter().zip(["interp", "jit"]) {
        let mut fields: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        let expected =
            ["backend", "gflops", "load_ms", "median_ms", "min_ms", "model", "p95_ms", "runs", "threads"];
        assert_eq!(fields, expected);
        assert_eq!((object["backend"].as_str(), object["model"].as_str()), (Some(name), Some("tiny")));
        assert_eq!(object["runs"], 3);
        assert_eq!(object["threads"], if name == "jit" { 2 } else { 1 });
        let number = |field: &str| object[field].as_f64().unwrap();
        assert!(0.0 < number("min_ms") && number("min_ms") <= number("median_ms"));
        assert!(number("median_ms") <= number("p95_ms"));
    }
    let table = folder.ok("bench tiny.burin --backend interp,jit --runs 3");
    assert!(table.contains("GFLOP/s") && table.contains("interp") && table.contains("kernel"), "{table}");
}

#[test]
fn bench_holds_kernels_against_the_machine() {
    let folder = folder();
    folder.write(
        "two.burin",
        "graph @two(%x: f32[64, 64]) {\n%y = MatMul(%x, %x)\n%s = Softmax(%y)\nreturn %s\n}\n",
    );
    let object: Value =
        serde_json::from_str(&folder.ok("bench two.burin --kernels --runs 3 --seconds 0.1 --json")).unwrap();
    let rows = object["kernels"].as_array().unwrap();
    assert!(rows.len() >= 2);
    let product = rows.iter().find(|r| r["peak"] == "FMA").unwrap();
    assert_eq!(product["flops"], 2 * 64 * 64 * 64);
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(number("ms") > 0.0 && number("measured") > 0.0 && number("predicted") > 0.0, "{row}");
    }
    let figures = &object["peaks"];
    assert!(!figures["gflops_of_lanes"].as_object().unwrap().is_empty(), "{figures}");
    assert!(!figures["gb_per_s_of_bytes"].as_object().unwrap().is_empty(), "{figures}");
    let table = folder.ok("bench two.burin --kernels --runs 3 --seconds 0.1");
    for part in ["measured", "predicted", "GFLOP/s of multiply-adds", "limit"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    folder.refused("bench two.burin --kernels --backend interp", &["--kernels", "expected jit"]);
}

#[test]
fn inspect_tells_what_becomes_of_a_model() {
    let folder = folder();
    let object: Value = serde_json::from_str(&folder.ok("inspect tiny.burin --json --dim batch=2")).unwrap();
    assert_eq!(object["nodes"], 2);
    assert_eq!(object["inputs"][0]["type"], "f32[2, 4]");
    assert_eq!(object["outputs"][0]["name"], "answer");
    // Two rows of three sums of four products.
    assert!(object["flops"].as_u64().unwrap() >= 2 * 3 * 4 * 2);
    let memory = &object["memory"];
    assert!(memory["arena_bytes"].as_i64() >= memory["live_bound_bytes"].as_i64());
    assert!(folder.ok("inspect tiny.burin").contains("MatMul"));
    assert!(folder.ok("inspect tiny.burin --loops").contains("kernel @"));
    let table = folder.ok("inspect tiny.burin --kernels");
    let parts = ["schedule", "predicted", "limit", "Relu", "typical sizes (batch = "];
    parts.iter().for_each(|part| assert!(table.contains(part), "{part}: {table}"));
    let rows: Value =
        serde_json::from_str(&folder.ok("inspect tiny.burin --kernels --json --dim batch=2")).unwrap();
    let row = &rows.as_array().unwrap()[0];
    assert_eq!((row["calls"].as_u64(), row["limit"].as_str()), (Some(1), Some("call")));
    assert!(row["predicted"].as_f64().unwrap() > 0.0 && row["measured"].is_null(), "{row}");
}

#[test]
fn inspect_dumps_graphs_that_can_be_read_again() {
    let folder = folder();
    for pass in ["import", "expand", "dce"] {
        folder.write("again.burin", folder.ok(&format!("inspect tiny.burin --dump-after {pass}")));
        folder.ok(&format!("run again.burin --input x=x.npy --output-dir {pass}"));
        assert_eq!(read_npy(&folder.path(&format!("{pass}/answer.npy"))), ANSWER);
    }
}

#[test]
fn diff_finds_agreement() {
    let folder = folder();
    let said = folder.ok("diff tiny.burin --input x=x.npy");
    assert!(said.starts_with("2 nodes agree (2 distinct)\n1 groups agree (1 distinct)\n"), "{said}");
    assert!(said.contains("the whole model's answer: at most 0 ULPs apart"), "{said}");
    assert_eq!(folder.names(), ["tiny.burin", "x.npy"]);
    // Layers that are alike, with weights of their own, and a kernel that writes into a frame.
    folder.write("layers.burin", LAYERS);
    let said = folder.ok("diff layers.burin --dim n=3");
    assert!(said.contains(" nodes agree") && said.contains("3 groups agree (2 distinct)"), "{said}");
}

/// By how many rewrites are allowed, a bisection finds the one that breaks a model.
#[test]
fn fuel_is_counted_in_rewrites() {
    let folder = folder();
    let lines = ["%a = Identity(%x) \"first\"", "%b = Relu(%a)", "%c = Relu(%b) \"again\"", "return %c"];
    folder.write("same.burin", format!("graph @same(%x: f32[2]) {{\n{}\n}}\n", lines.join("\n")));
    let left = |fuel: &str| {
        let line = "inspect same.burin --dump-after dce -v".split(' ');
        let out = folder.command(line).env("BURIN_FUEL", fuel).env("NO_COLOR", "1").output().unwrap();
        (stdout(&out).matches(" = ").count(), stderr(&out))
    };
    assert_eq!(left("0").0, 3);
    let (nodes, log) = left("1");
    assert!(nodes == 2 && log.contains("rewrite=1") && log.contains("Identity \"first\""), "{log}");
    let (nodes, log) = left("9");
    assert!(nodes == 1 && log.contains("rewrite=2") && !log.contains("rewrite=3"), "{log}");
    assert!(left("many").1.contains("BURIN_FUEL: found \"many\", expected a number of rewrites"));
}

#[test]
fn verify_counts_what_passes_and_what_fails() {
    let folder = Folder::new();
    let copy = |to: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let files = ["digits.onnx", "test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb"];
        for (file, name) in files.into_iter().zip(["model.onnx", files[1], files[2]]) {
            let mut bytes = std::fs::read(digits().join(file)).unwrap();
            if name == files[2] {
                change(&mut bytes);
            }
            folder.write(&format!("cases/{to}/{name}"), bytes);
        }
    };
    copy("right", &|_| ());
    for backend in ["jit", "interp", "artifact"] {
        assert_eq!(folder.ok(&format!("verify cases --backend {backend}")), "1 passed, 0 failed\n");
    }
    // The record's last byte is the exponent of its last float: what is expected is now far off.
    copy("wrong", &|bytes| *bytes.last_mut().unwrap() ^= 0x40);
    std::fs::create_dir_all(folder.path("cases/empty")).unwrap();
    std::fs::copy(digits().join("digits.onnx"), folder.path("cases/empty/model.onnx")).unwrap();
    let out = folder.line("verify cases");
    let text = stdout(&out);
    assert_eq!(out.status.code(), Some(1), "{text}{}", stderr(&out));
    assert!(
        text.contains("failed: cases/wrong: output \"probabilities\": 1 of 10 elements differ"),
        "{text}"
    );
    assert!(text.ends_with("1 skipped (no data set: 1)\n1 passed, 1 failed\n"), "{text}");
    let lines = stdout(&folder.line("verify cases --json"));
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[3]["passed"], &lines[3]["failed"]), (&1.into(), &1.into()));
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn an_executable_runs_by_itself() {
    let folder = folder();
    let summary = folder.ok("build tiny.burin -o tiny");
    assert!(summary.contains("2 nodes") && summary.contains("x86-64-v3"), "{summary}");
    let run = |args: &[&str]| {
        let out = Command::new(folder.path("tiny")).args(args).env_clear().output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        stdout(&out)
    };
    let (input, dir) = (format!("x={}", folder.path("x.npy").display()), folder.path("out"));
    run(&["--input", &input, "--output-dir", dir.to_str().unwrap()]);
    assert_eq!(read_npy(&dir.join("answer.npy")), ANSWER);
    assert!(run(&["--info"]).contains("f32[batch, 4]"));
    // The same seed gives the same tensors to `burin run` and to the executable.
    assert_eq!(run(&[]), folder.ok("run tiny.burin"));
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn one_executable_has_code_for_several_levels() {
    let folder = folder();
    let summary = folder.ok("build tiny.burin -o tiny --cpu v1,v4");
    assert!(summary.contains("CPU level x86-64-v4 and x86-64\n"), "{summary}");
    for line in ["-o best", "-o base --cpu v1"] {
        let mut run = Command::new(folder.path("tiny"));
        run.args(["--input", "x=x.npy"]).args(line.split(' ')).current_dir(folder.path(""));
        let out = run.output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    }
    assert_eq!(read_npy(&folder.path("best/answer.npy")), ANSWER);
    assert_eq!(read_npy(&folder.path("base/answer.npy")), ANSWER);
    let text = folder.ok("inspect tiny.burin --cpu v3,v2 --target x86_64-unknown-linux-gnu");
    assert!(text.contains("x86-64-v3 (1 kernels, ") && text.contains(", x86-64-v2 (1 kernels, "), "{text}");
    folder.refused("build tiny.burin -o t --cpu v3,x86-64-v3", &["v3,x86-64-v3", "name each level once"]);
    folder.refused("build tiny.burin -o t --cpu v3,aarch64", &["unknown CPU level \"aarch64\""]);
}

#[test]
fn libraries_come_with_a_header() {
    let folder = folder();
    folder.ok("build tiny.burin -o tiny.o --emit obj --target aarch64-unknown-linux-gnu");
    assert_eq!(folder.names(), ["tiny.burin", "tiny.h", "tiny.o", "x.npy"]);
    assert!(std::fs::read_to_string(folder.path("tiny.h")).unwrap().contains("tiny_image"));
    for (kind, file) in [("staticlib", "libtiny.a"), ("sharedlib", "libtiny.so")] {
        let folder = self::folder();
        folder.ok(&format!("build tiny.burin -o {file} --emit {kind}"));
        assert_eq!(folder.names().len(), 4, "{:?}", folder.names());
        assert!(folder.path(file).metadata().unwrap().len() > 0);
    }
}
