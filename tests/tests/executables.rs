//! What executables do beside running the model: their command line, the files they read and write,
//! their threads, and how small they are.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

use burin_compiler::artifact::exe;
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::graph;
use burin_runtime::files::npy;
use burin_runtime::{Tensor, TensorRef};
use burin_tests::native;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};

/// Large enough for loops of many tasks.
const MODEL: &str = "graph @product(%x: f32[rows, 96], %y: f32[96, 320]) {
  %p = MatMul(%x, %y)
  %r = Relu(%p)
  %s = ReduceSum(%x) {keepdims = 1}
  return %r, %s
}
";

struct Program {
    dir: tempfile::TempDir,
    weight_bytes: u64,
    _alone: MutexGuard<'static, ()>,
}

/// One test at a time: a process that starts while another test writes its program inherits the open
/// file, and what is open for writing cannot be run.
static ALONE: Mutex<()> = Mutex::new(());

impl Program {
    fn new() -> Program {
        let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let dir = tempfile::tempdir().unwrap();
        let target = TargetSpec::new(None, None).unwrap();
        let compiled = native::compile(&graph::parse(MODEL).unwrap(), &target).unwrap();
        let path = dir.path().join("product");
        exe::write(&compiled.artifact(), burin::stub::bytes().unwrap(), &path).unwrap();
        Program { dir, weight_bytes: compiled.program.weight_bytes, _alone: alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.path("product"));
        command.args(line.split_whitespace()).current_dir(self.dir.path());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Its standard output; it must succeed.
    fn ok(&self, line: &str) -> String {
        let out = self.run(line);
        assert_eq!(out.status.code(), Some(0), "{line}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// Writes `x.npy` (ones) and `y.npy` (rising numbers).
    fn inputs(&self) {
        let ones = Tensor::new(&[2, 96], &[1f32; 192]).unwrap();
        let rising: Vec<f32> = (0..96 * 320).map(|i| (i % 320) as f32).collect();
        npy::write_file(&self.path("x.npy"), ones.view()).unwrap();
        npy::write_file(&self.path("y.npy"), TensorRef::new(&[96, 320], &rising).unwrap()).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn npy_values(path: &Path) -> Vec<f64> {
    npy::read(&fs::read(path).unwrap()).unwrap().view().to_f64s().collect()
}

#[test]
fn it_is_small() {
    let program = Program::new();
    let bytes = fs::metadata(program.path("product")).unwrap().len() - program.weight_bytes;
    assert!(bytes <= 640 << 10, "{bytes} bytes beyond the weights");
}

#[test]
fn options_are_read_in_all_their_forms() {
    let program = Program::new();
    program.inputs();
    let expected = program.ok("--input x=x.npy --input y=y.npy");
    assert!(expected.contains("f32[2, 320]  min 0  max 30624 (at 319)"), "{expected}");
    for line in
        ["-i x=x.npy -i y=y.npy", "-ix=x.npy -i=y=y.npy", "--input=x=x.npy --input=y=y.npy --threads=2"]
    {
        assert_eq!(program.ok(line), expected, "{line}");
    }
    assert_eq!(program.ok("-hix=x.npy"), program.ok("--help"));
    let needs = program.ok("--info --dim rows=3 --dim=rows=5");
    assert!(needs.lines().any(|l| l.starts_with("with --dim")), "{needs}");
    for (line, part) in [
        ("--input", "--input: expected a value"),
        ("-o", "--output-dir: expected a value"),
        ("--input x", "expected NAME=FILE"),
        ("--dim rows=-1", "\"rows\" is -1"),
        ("--dim rows=x", "expected a number"),
        ("--info=yes", "--info: found the value \"yes\", expected none"),
        ("-x", "invalid option \"-x\""),
        ("--bench 0", "found 0 runs"),
        ("model", "unexpected argument \"model\""),
        ("--", "unexpected argument \"--\""),
        ("--input x=x.npy", "input \"y\" (f32[96, 320]) is missing"),
        ("--input x=x.npy --input y=x.npy", "input \"y\": found f32[2, 96], expected f32[96, 320]"),
        ("--input x=. --input y=y.npy", ".: Is a directory (os error 21)"),
        ("--input x=none.npy --input y=y.npy", "none.npy: No such file or directory (os error 2)"),
        ("--input x=product --input y=y.npy", "expected .npy, .npz or .pb"),
        ("--output-dir x.npy", "Not a directory"),
    ] {
        let out = program.run(line);
        let message = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{line}: {message}");
        assert!(message.lines().any(|l| l.starts_with("error: ") && l.contains(part)), "{line}: {message}");
    }
}

#[test]
fn inputs_come_from_files_of_all_kinds_and_pipes() {
    let program = Program::new();
    program.inputs();
    let expected = program.ok("-i x=x.npy -i y=y.npy");
    // A TensorProto: dims, data_type, raw_data.
    let raw = [1f32; 192].map(f32::to_le_bytes).concat();
    let head = [0x0a, 2, 2, 96, 0x10, 1, 0x4a, 0x80, 6];
    fs::write(program.path("x.pb"), [&head[..], &raw].concat()).unwrap();
    assert_eq!(program.ok("-i x=x.pb -i y=y.npy"), expected);
    std::os::unix::fs::symlink("/dev/stdin", program.path("pipe.npy")).unwrap();
    let mut child = program.command("-i x=x.npy -i y=pipe.npy");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(program.path("y.npy")).unwrap()).unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
}

#[test]
fn outputs_go_into_folders_that_are_made() {
    let program = Program::new();
    program.inputs();
    let printed = program.ok("-i x=x.npy -i y=y.npy -o a/b/c/");
    assert_eq!(printed, "r: a/b/c/r.npy\ns: a/b/c/s.npy\n");
    assert_eq!(npy_values(&program.path("a/b/c/s.npy")), [192.0]);
    let odd = std::ffi::OsStr::from_bytes(b"not\xffutf8");
    let out = program.command("-i x=x.npy -i y=y.npy -o").arg(odd).output().unwrap();
    assert!(
        out.status.success() && program.path("").join(odd).join("r.npy").exists(),
        "{}",
        text(&out.stderr)
    );
    // Nothing is left of a file that does not fit.
    let limited = "trap '' XFSZ; ulimit -f 1; exec ./product --dim rows=99 -o full";
    let out = Command::new("sh").args(["-c", limited]).current_dir(program.path("")).output().unwrap();
    let message = text(&out.stderr);
    assert!(out.status.code() == Some(2) && message.contains("full/r.npy: File too large"), "{message}");
    assert_eq!(fs::read_dir(program.path("full")).unwrap().count(), 0);
}

#[test]
fn threads_compute_the_same() {
    let program = Program::new();
    program.ok("--dim rows=300 -o one");
    for threads in ["2", "5", "0"] {
        program.ok(&format!("--dim rows=300 --threads {threads} --output-dir some"));
        for output in ["r.npy", "s.npy"] {
            let read = |dir: &str| fs::read(program.path(dir).join(output)).unwrap();
            assert!(read("one") == read("some"), "{output} differs on {threads} threads");
        }
    }
    assert!(program.ok("--dim rows=50 --threads 3 --bench 200").starts_with("200 runs: median"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let program = Program::new();
    let mut child = program.command("--help").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let closed = "exec ./product -o out >&- 2>&-";
    let status = Command::new("sh").args(["-c", closed]).current_dir(program.path("")).status().unwrap();
    // What is printed must not end up in a file that took the descriptor's place.
    assert!(status.success() && npy::read(&fs::read(program.path("out/r.npy")).unwrap()).is_ok());
}
