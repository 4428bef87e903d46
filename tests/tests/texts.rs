//! Tensors of texts: moved and compared by compiled code, looked into by the host-op library.

use burin_compiler::artifact::exe;
use burin_compiler::driver::{self, Compiled};
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::Tensor;
use burin_ir::graph::{self, Graph};
use burin_runtime as runtime;
use burin_runtime::{Session, TensorRef};
use burin_tests::calls::agree;

fn compile(text: &str) -> Compiled {
    let graph: Graph = graph::parse(text).expect("valid");
    driver::compile(graph, &TargetSpec::host().expect("this machine"), &mut |_, _| ()).expect("compiles")
}

fn texts(shape: &[usize], all: &[&str]) -> Tensor {
    Tensor::texts(shape, all)
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|t| (*t).to_owned()).collect()
}

#[test]
fn texts_are_moved_and_compared() {
    let text = "graph @moved(%x: text[n, 2], %at: i64[m]) {
  %names = const text[3] [\"red\", \"green\", \"\"]
  %last = const i64[1] [-1]
  %t = Transpose(%x)
  %r = Gather(%t, %at) {axis = 1}
  %u = Unsqueeze(%x, %last)
  %e = Equal(%u, %names)
  %c = Concat(%x, %x) {axis = 0}
  return %r, %e, %c
}
";
    let x = texts(&[3, 2], &["red", "blue", "", "green", "red", "grün"]);
    let none = vec![texts(&[0, 2], &[]), Tensor::new(&[0], &[0i64; 0])];
    agree(text, &[vec![x, Tensor::new(&[4], &[2i64, 0, 0, 1])], none]);
}

#[test]
fn a_branch_and_a_loop_carry_texts() {
    let text = "graph @carried(%x: text[n], %c: bool[], %n: i64[]) {
  %dash = const text[1] [\"-\"]
  %upper = const i64[1] [2]
  %r = If(%c) region () {
    %u = TextCase(%x, %upper)
    yield %u
  } region () {
    %j = StringConcat(%x, %dash)
    yield %j
  }
  %go = const bool[] true
  %s = Loop(%n, %go, %r) {counted = 1} region (%i: i64[], %g: bool[], %v: text[n]) {
    %w = StringConcat(%v, %x)
    yield %g, %w
  }
  return %s
}
";
    let x = || texts(&[2], &["ab", ""]);
    let call = |(c, n): (bool, i64)| vec![x(), Tensor::bools(&[], &[c]), Tensor::new(&[], &[n])];
    agree(text, &[(true, 2), (false, 3), (true, 0)].map(call));
}

#[test]
fn what_a_program_sees() {
    let compiled = compile(
        "graph @seen(%x: text[n]) {
  %y = StringNormalizer(%x) {case_change_action = \"UPPER\", stopwords = [\"the\"]}
  %k = LabelEncoder(%x) {keys_strings = [\"a\", \"b\"], values_int64s = [10, 20]}
  %s, %c = StringSplit(%y)
  return %y, %k, %s, %c
}
",
    );
    let model = compiled.load().expect("loads");
    assert_eq!(model.entries()[0].inputs[0].to_string(), "text[n]");
    let mut session = Session::new(&model).expect("a session");
    // Sessions forget the texts of a call when the next one begins.
    for _ in 0..2 {
        let x = strings(&["a", "The", "x y", "b", "ß"]);
        let out = session.run(&[TensorRef::from_texts(&[5], &x).expect("fits")]).expect("runs");
        assert_eq!(out[0].as_texts(), Some(&strings(&["A", "X Y", "B", "SS"])[..]));
        assert_eq!(out[1].as_slice::<i64>(), Some(&[10, -1, -1, 20, -1][..]));
        assert_eq!((out[2].shape(), out[2].as_texts().map(|t| t[3].as_str())), (&[4, 2][..], Some("Y")));
        assert_eq!(out[3].as_slice::<i64>(), Some(&[1, 2, 1, 1][..]));
        let none = strings(&["THE"]);
        let out = session.run(&[TensorRef::from_texts(&[1], &none).expect("fits")]).expect("runs");
        assert_eq!((out[0].shape(), out[0].as_texts()), (&[1][..], Some(&strings(&[""])[..])));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let wrong = TensorRef::from_texts(&[3], &[]).map(drop).expect_err("too few");
    assert_eq!(wrong.to_string(), "text[3] takes 3 texts, found 0");
    assert!(runtime::Tensor::from_bytes(runtime::DType::Text, &[1], &[0; 8]).is_err());
    let number = "graph @number(%x: text[n]) {\n  %y = CastText(%x) {to = f32}\n  return %y\n}\n";
    agree(number, &[vec![texts(&[3], &["1.5", "-2", "1e3"])]]);
    let mut session = Session::new(&compile(number).load().expect("loads")).expect("a session");
    let x = strings(&["one"]);
    let e = session.run(&[TensorRef::from_texts(&[1], &x).expect("fits")]).expect_err("no number");
    assert!(e.to_string().contains("\"one\""), "{e}");
    let pattern = "graph @p(%x: text[n]) {\n  %y = RegexFullMatch(%x) {pattern = \"a(\"}\n  return %y\n}\n";
    let mut session = Session::new(&compile(pattern).load().expect("loads")).expect("a session");
    let e = session.run(&[TensorRef::from_texts(&[1], &x).expect("fits")]).expect_err("no pattern");
    assert!(e.to_string().contains("a("), "{e}");
}

#[test]
fn executables_do_not_hold_the_library() {
    let compiled = compile("graph @c(%x: text[2]) {\n  %y = StringConcat(%x, %x)\n  return %y\n}\n");
    let folder = tempfile::tempdir().expect("a folder");
    let e = exe::write(&compiled.artifact(), b"", &folder.path().join("c")).expect_err("refused");
    assert!(e.to_string().contains("TextConcat"), "{e}");
}
