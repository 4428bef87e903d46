//! Models over sequences and maps, from the command line.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, TINY, read_npy};
use serde_json::Value;

/// A field of a protobuf message that holds bytes: a text, or a message.
fn bytes(field: u8, contents: impl AsRef<[u8]>) -> Vec<u8> {
    let contents = contents.as_ref();
    let mut out = vec![field << 3 | 2];
    // Lengths are below 2^14.
    match contents.len() {
        n @ 0..128 => out.push(n as u8),
        n => out.extend([n as u8 & 127 | 128, (n >> 7) as u8]),
    }
    out.extend(contents);
    out
}

/// A field that holds a small number.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// The type `f32[2]`.
fn pair() -> Vec<u8> {
    let shape = bytes(1, number(1, 2));
    bytes(1, [number(1, 1), bytes(2, shape)].concat())
}

fn port(name: &str, ty: Vec<u8>) -> Vec<u8> {
    [bytes(1, name), bytes(2, ty)].concat()
}

/// A model of one node from `x` to `y`.
fn model(x: Vec<u8>, node: Vec<u8>) -> Vec<u8> {
    let graph =
        [bytes(1, node), bytes(2, "g"), bytes(11, port("x", x)), bytes(12, port("y", pair()))].concat();
    let opset = |domain: &str, version| bytes(8, [bytes(1, domain), number(2, version)].concat());
    [number(1, 8), bytes(7, graph), opset("", 17), opset("ai.onnx.ml", 1)].concat()
}

fn node(op: &str, domain: &str, attribute: Option<Vec<u8>>) -> Vec<u8> {
    let attribute = attribute.map(|a| bytes(5, a)).unwrap_or_default();
    [bytes(1, "x"), bytes(2, "y"), bytes(4, op), attribute, bytes(7, domain)].concat()
}

#[test]
fn a_sequence_is_tensors_of_their_own() {
    let folder = Folder::new();
    let sequence = bytes(4, bytes(1, pair()));
    folder.write("sequence.onnx", model(sequence, node("Identity", "", None)));
    folder.npy("a.npy", "(2,)", &[1.0, 2.0]);
    folder.npy("b.npy", "(2,)", &[3.0, 4.0]);
    folder.refused("run sequence.onnx", &["input \"x\"", "it is a sequence", "--length x=N"]);
    folder
        .refused("inspect sequence.onnx --length x=2 --present x=1", &["--present x", "that is an optional"]);
    folder.refused("run sequence.onnx --length x=5000", &["its length must be from 0 to 4096"]);
    for backend in ["jit", "interp", "artifact"] {
        folder.ok(&format!(
            "run sequence.onnx --length x=2 --backend {backend} --input x.0=a.npy --input x.1=b.npy --output-dir {backend}"
        ));
        let output = |i: usize| read_npy(&folder.path(&format!("{backend}/y.{i}.npy")));
        assert_eq!((output(0), output(1)), (vec![1.0, 2.0], vec![3.0, 4.0]), "{backend}");
    }
    folder.write("tiny.burin", TINY);
    folder.refused("inspect tiny.burin --length x=2", &["--length", "for ONNX models"]);
}

#[test]
fn inspect_shows_the_keys_of_maps() {
    let folder = Folder::new();
    // The kind of an attribute, integers, stands in field 20.
    let kind = vec![0xa0, 1, 7];
    let keys = [bytes(1, "classlabels_int64s"), number(8, 5), number(8, 9), kind].concat();
    folder.write("maps.onnx", model(pair(), node("ZipMap", "ai.onnx.ml", Some(keys))));
    let found: Value = serde_json::from_str(&folder.ok("inspect maps.onnx --json")).unwrap();
    let output = &found["outputs"][0];
    assert_eq!((&output["name"], &output["type"]), (&"y".into(), &"f32[1, 2]".into()));
    assert_eq!(output["keys"], serde_json::json!([5, 9]));
    assert!(folder.ok("inspect maps.onnx").contains("y: f32[1, 2], a column for each of [5,9]"));
}
