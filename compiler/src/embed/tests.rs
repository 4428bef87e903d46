//! The generated modules' texts, and what is refused. That they compile and run is tested by
//! `examples/embed-rust`.

use super::*;
use burin_ir::graph;

fn embed(text: &str, name: &str) -> (Written, String) {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let graph = graph::parse(text).expect("parses");
    let model = Model::from_graph(graph).name(name);
    let written = model.compile_to(&folder, "x86_64-unknown-linux-gnu").expect("compiles");
    let text = std::fs::read_to_string(&written.module).expect("was written");
    assert!(std::fs::read(&written.library).expect("was written").starts_with(b"!<arch>\n"));
    std::fs::remove_dir_all(&folder).expect("can be removed");
    (written, text)
}

#[test]
fn constant_shapes_become_arrays() {
    let (written, text) = embed(
        "graph @g(%x: f32[2, 3], %flag: bool[]) {\n  %y = Relu(%x) : f32[2, 3]\n  %n = Not(%flag)\n  \
         return %y as \"Result:0\", %n as \"type\"\n}",
        "my-model",
    );
    assert!(written.module.ends_with("my_model.rs") && written.library.ends_with("libburin_my_model.a"));
    for expected in [
        "pub struct MyModel {",
        "        x: &[f32; 6],\n        flag: &[bool; 1],\n    ) -> Result<MyModelOutputs",
        "    pub result_0: ::burin_runtime::typed::Array<f32, 6>,",
        // `type` is a keyword.
        "    pub type_2: ::burin_runtime::typed::Array<bool, 1>,",
        "#[link_name = \"my_model_image\"]",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}

#[test]
fn symbolic_dimensions_become_arguments() {
    let (_, text) = embed("graph @g(%x: f32[n, 2]) {\n  %y = Relu(%x) : f32[n, 2]\n  return %y\n}", "g");
    for expected in ["        n: usize,\n        x: &[f32],\n", "&[(\"n\", n as i64)]", "typed::Slice<f32>"] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}

#[test]
fn code_for_several_levels_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph =
        graph::parse("graph @g(%x: f32[2]) {\n  %y = Relu(%x) : f32[2]\n  return %y\n}").expect("parses");
    let model = Model::from_graph(graph).cpu("v3,v4");
    let written = model.clone().compile_to(folder.path(), "x86_64-unknown-linux-gnu").expect("compiles");
    let text = std::fs::read_to_string(&written.module).expect("was written");
    assert!(text.contains("CPUs of the level `x86-64-v4` or `x86-64-v3`: [`G::new`]"), "{text}");
    let e = model.compile_to(folder.path(), "aarch64-unknown-linux-gnu").expect_err("no such levels");
    assert!(e.to_string().contains("unknown CPU level \"v3\""), "{e}");
}

#[test]
fn mistakes_name_the_model() {
    let folder = Path::new("nowhere");
    let e =
        Model::from_file("missing.onnx").compile_to(folder, "x86_64-unknown-linux-gnu").expect_err("absent");
    assert!(e.to_string().contains("missing.onnx"), "{e}");
    let e = Model::from_file("m.onnx").compile_to(folder, "z80-unknown-none").expect_err("no such target");
    assert!(e.to_string().starts_with("m.onnx: unknown target"), "{e}");
    let e = Model::from_file("m.onnx").name("!").compile_to(folder, "z80-unknown-none").expect_err("no name");
    assert!(e.to_string().contains("expected one with a letter or digit"), "{e}");
}
