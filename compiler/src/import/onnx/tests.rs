//! Small models made through the messages, what they become, and what is refused.

mod structured;

use super::proto::*;
use super::{ImportError, Options, import, import_bytes};
use burin_ir::graph::eval::eval;
use burin_ir::graph::{Constant, Graph};
use burin_ir::{Attr, DType, Tensor};
use bytes::Bytes;
use prost::Message;

fn opset(version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: String::new(), version }
}

fn dim(d: &str) -> DimensionProto {
    let value = match d.parse() {
        Ok(n) => Some(DimensionValue::Value(n)),
        Err(_) if d == "?" => None,
        Err(_) => Some(DimensionValue::Param(d.into())),
    };
    DimensionProto { value }
}

fn value(name: &str, dims: &[&str]) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: dims.iter().map(|d| dim(d)).collect() });
    let tensor = TypeValue::Tensor(TensorTypeProto { elem_type: 1, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value: Some(tensor) }) }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    NodeProto {
        op_type: op.into(),
        name: format!("n_{}", outputs[0]),
        input: owned(inputs),
        output: owned(outputs),
        ..Default::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), kind: attribute_type::INT, i: Some(i), ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        kind: attribute_type::INTS,
        ints: ints.to_vec(),
        ..Default::default()
    }
}

fn with(mut n: NodeProto, attributes: Vec<AttributeProto>) -> NodeProto {
    n.attribute = attributes;
    n
}

fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let raw: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    let raw_data = Some(raw.into());
    TensorProto { name: name.into(), data_type: 1, dims: dims.to_vec(), raw_data, ..Default::default() }
}

/// A model with input `x` of the given shape and output `y`.
fn model(version: i64, x: &[&str], nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        name: "test".into(),
        node: nodes,
        initializer: constants,
        input: vec![value("x", x)],
        output: vec![value("y", x)],
        ..Default::default()
    };
    ModelProto { ir_version: 8, opset_import: vec![opset(version)], graph: Some(graph), ..Default::default() }
}

fn load(m: &ModelProto) -> Result<Graph, String> {
    load_with(m, &[])
}

fn load_with(m: &ModelProto, dims: &[(&str, i64)]) -> Result<Graph, String> {
    let dims = dims.iter().map(|(n, v)| (n.to_string(), *v)).collect();
    let options = Options { dims, ..Options::default() };
    import_bytes(m.encode_to_vec().into(), "test.onnx", None, &options).map_err(|e| e.to_string())
}

fn ops(g: &Graph) -> Vec<&str> {
    g.regions[g.body].nodes.iter().map(|n| g.nodes[*n].op.name).collect()
}

fn refused(m: &ModelProto, expected: &str) {
    match load(m) {
        Err(e) => assert!(e.contains(expected), "{expected:?} expected in {e:?}"),
        Ok(_) => panic!("accepted, though expected: {expected}"),
    }
}

#[test]
fn dimensions_keep_their_names() {
    let m = model(18, &["batch", "?", "3"], vec![node("Relu", &["x"], &["y"])], vec![]);
    let ty = |g: &Graph| g.values[g.outputs()[0]].ty.to_string();
    assert_eq!(ty(&load(&m).expect("imports")), "f32[batch, x_d1, 3]");
    assert_eq!(ty(&load_with(&m, &[("batch", 2), ("x_d1", 7)]).expect("imports")), "f32[2, 7, 3]");
    let e = load_with(&m, &[("time", 2)]).expect_err("no such dimension");
    assert!(e.contains("no dimension time; its dimensions are: batch, x_d1"), "{e}");
}

#[test]
fn dimensions_of_different_names_stay_different() {
    let m = model(18, &["a b", "a_b", "a b"], vec![node("Relu", &["x"], &["y"])], vec![]);
    let g = load(&m).expect("imports");
    assert_eq!(g.values[g.outputs()[0]].ty.to_string(), "f32[a_b, a_b_v2, a_b]");
}

#[test]
fn dimensions_that_may_be_one_are_not_squeezed() {
    let m = model(18, &["batch", "1"], vec![node("Squeeze", &["x"], &["y"])], vec![]);
    let g = load(&m).expect("imports");
    assert_eq!(g.values[g.outputs()[0]].ty.to_string(), "f32[batch]");
    let run = |n| eval(&g, &[Tensor::zeros(DType::F32, &[n, 1])], &[]).map(|o| o.outputs[0].shape().to_vec());
    assert_eq!(run(2).expect("it runs"), [2]);
    let e = run(1).expect_err("the dimension would have to be dropped").to_string();
    assert!(e.contains("Assume"), "{e}");
}

#[test]
fn operands_have_as_many_elements_as_they_must() {
    let nodes = vec![with(node("Split", &["x", "parts"], &["y", "z"]), vec![int("axis", 0)])];
    let mut m = model(18, &["n"], nodes, vec![]);
    let mut parts = value("parts", &["count"]);
    if let Some(TypeValue::Tensor(t)) = parts.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.elem_type = 7;
    }
    m.graph.as_mut().expect("a graph").input.push(parts);
    let g = load(&m).expect("imports");
    let x = Tensor::zeros(DType::F32, &[5]);
    let run = |parts: &[i64]| eval(&g, &[x.clone(), Tensor::new(&[parts.len()], parts)], &[]);
    assert_eq!(run(&[3, 2]).expect("it runs").outputs[0].shape(), [3]);
    assert!(run(&[3, 1, 1]).is_err(), "there are two results");
}

#[test]
fn nodes_may_stand_in_any_order() {
    let nodes = vec![node("Relu", &["t"], &["y"]), node("Exp", &["s"], &["t"]), node("Abs", &["x"], &["s"])];
    assert_eq!(ops(&load(&model(18, &["2"], nodes, vec![])).expect("imports")), ["Abs", "Exp", "Relu"]);
}

#[test]
fn initializers_listed_as_inputs_are_constants() {
    let mut m =
        model(7, &["2"], vec![node("Add", &["x", "w"], &["y"])], vec![floats("w", &[2], &[1.0, 2.0])]);
    m.graph.as_mut().expect("a graph").input.push(value("w", &["2"]));
    let g = load(&m).expect("imports");
    assert_eq!(g.inputs().len(), 1);
}

#[test]
fn weights_are_slices_of_the_file() {
    let m = model(18, &["2"], vec![node("Add", &["x", "w"], &["y"])], vec![floats("w", &[2], &[1.0, 2.0])]);
    let file = Bytes::from(m.encode_to_vec());
    let g = import_bytes(file.clone(), "test.onnx", None, &Options::default()).expect("imports");
    let weight = g.values.values().find_map(|v| match &v.def {
        burin_ir::graph::Def::Const(Constant::Data(t)) => Some(t.bytes().clone()),
        _ => None,
    });
    assert!(file.as_ptr_range().contains(&weight.expect("a weight").as_ptr()));
}

#[test]
fn typed_fields_are_converted() {
    let halves = TensorProto {
        name: "w".into(),
        data_type: 10,
        dims: vec![2],
        int32_data: vec![0x3c00, 0xc000],
        ..Default::default()
    };
    let t = super::tensor::tensor(&halves, &mut super::tensor::Files::default()).expect("a tensor");
    assert_eq!((t.dtype(), t.to_f64s()), (DType::F16, vec![1.0, -2.0]));
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let axis = AttributeProto {
        name: "alpha".into(),
        kind: attribute_type::FLOAT,
        ref_attr_name: "slope".into(),
        ..Default::default()
    };
    let f = FunctionProto {
        name: "Twice".into(),
        domain: "mine".into(),
        input: vec!["a".into()],
        output: vec!["c".into()],
        attribute: vec!["slope".into()],
        node: vec![with(node("LeakyRelu", &["a"], &["b"]), vec![axis]), node("Exp", &["b"], &["c"])],
        opset_import: vec![opset(18)],
        ..Default::default()
    };
    let slope = AttributeProto {
        name: "slope".into(),
        kind: attribute_type::FLOAT,
        f: Some(0.5),
        ..Default::default()
    };
    let mut call = with(node("Twice", &["x"], &["y"]), vec![slope]);
    call.domain = "mine".into();
    let mut m = model(18, &["2"], vec![call], vec![]);
    m.functions.push(f);
    let g = load(&m).expect("imports");
    assert_eq!(ops(&g), ["LeakyRelu", "Exp"]);
    let leaky = g.regions[g.body].nodes[0];
    assert_eq!(g.nodes[leaky].attrs.get("alpha"), Some(&Attr::Float(0.5)));
}

#[test]
fn endless_functions_are_refused() {
    let mut call = node("F", &["a"], &["b"]);
    call.domain = "mine".into();
    let f = FunctionProto {
        name: "F".into(),
        domain: "mine".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![call.clone()],
        ..Default::default()
    };
    call.input = vec!["x".into()];
    call.output = vec!["y".into()];
    let mut m = model(18, &["2"], vec![call], vec![]);
    m.functions.push(f);
    refused(&m, "more than 48 deep");
}

#[test]
fn what_is_wrong_is_named() {
    let relu = || node("Relu", &["x"], &["y"]);
    refused(&model(29, &["2"], vec![relu()], vec![]), "opset 29 of ai.onnx, expected 1 to 28");
    refused(&model(29, &["2"], vec![relu()], vec![]), "opset 29");
    refused(&model(18, &["-2"], vec![relu()], vec![]), "input \"x\": dimension 0 is -2");
    let huge = i64::MAX.to_string();
    refused(&model(18, &[&huge, &huge], vec![relu()], vec![]), "larger than the address space");
    let unknown = node("Frobnicate", &["x"], &["y"]);
    let message = "node Frobnicate \"n_y\": op Frobnicate of domain ai.onnx, version 18, is not supported";
    refused(&model(18, &["2"], vec![unknown], vec![]), message);
    let cycle =
        vec![node("Add", &["x", "b"], &["a"]), node("Exp", &["a"], &["b"]), node("Relu", &["b"], &["y"])];
    refused(&model(18, &["2"], cycle, vec![]), "a cycle through");
    refused(
        &model(18, &["2"], vec![node("Relu", &["z"], &["y"])], vec![]),
        "node Relu \"n_y\": input \"z\" is not defined",
    );
    refused(&model(18, &["2"], vec![relu(), relu()], vec![]), "value \"y\" is defined twice");
    let short = floats("w", &[3], &[1.0]);
    refused(
        &model(18, &["2"], vec![relu()], vec![short]),
        "initializer \"w\": f32[3] takes 12 bytes, found 4",
    );
    let negative = floats("w", &[-1], &[]);
    refused(&model(18, &["2"], vec![relu()], vec![negative]), "dimension -1 is negative");
    let mut unranked = model(18, &["2"], vec![relu()], vec![]);
    let tensor = TypeValue::Tensor(TensorTypeProto { elem_type: 1, shape: None });
    unranked.graph.as_mut().expect("a graph").input[0].r#type = Some(TypeProto { value: Some(tensor) });
    refused(&unranked, "input \"x\": its rank is unknown");
}

/// A model in a folder, whose constant `w` is at `location`.
fn external(folder: &std::path::Path, location: &str, offset: usize) -> Result<Graph, ImportError> {
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let w = TensorProto {
        name: "w".into(),
        data_type: 1,
        dims: vec![2],
        data_location: 1,
        external_data: vec![entry("location", location.into()), entry("offset", offset.to_string())],
        ..Default::default()
    };
    let m = model(18, &["2"], vec![node("Add", &["x", "w"], &["y"])], vec![w]);
    let path = folder.join("model.onnx");
    std::fs::write(&path, m.encode_to_vec()).expect("writes");
    import(&path, &Options::default())
}

#[test]
fn external_data_stays_in_the_folder() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("w.bin"), [0u8; 16]).expect("writes");
    std::fs::write(outer.path().join("secret"), [0u8; 16]).expect("writes");
    external(&folder, "w.bin", 8).expect("imports");
    let refused = |location: &str, offset, expected: &str| {
        let e = external(&folder, location, offset).expect_err(location).to_string();
        assert!(e.contains(expected), "{expected:?} expected in {e:?}");
    };
    refused("w.bin", 9, "has 16 bytes, expected 8 at offset 9");
    refused("w.bin", usize::MAX, "has 16 bytes");
    refused("../secret", 0, "must be a relative path inside");
    refused("/etc/hostname", 0, "must be a relative path inside");
    refused("none.bin", 0, "none.bin");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outer.path().join("secret"), folder.join("link")).expect("links");
        refused("link", 0, "leads out of the model's folder");
    }
}

/// Older versions of ops that read their arguments from attributes.
#[test]
fn older_versions_are_rewritten() {
    let inputs = |version, n: NodeProto, dims: &[&str]| {
        let g = load(&model(version, dims, vec![n], vec![])).expect("imports");
        let last = *g.regions[g.body].nodes.last().expect("a node");
        (g.nodes[last].inputs.len(), g.values[g.outputs()[0]].ty.to_string(), ops(&g).join(" "))
    };
    let clip = node("Clip", &["x"], &["y"]);
    assert_eq!(inputs(7, clip, &["2"]), (3, "f32[2]".into(), "Clip".into()));
    let slice = with(node("Slice", &["x"], &["y"]), vec![ints("starts", &[1]), ints("ends", &[3])]);
    assert_eq!(inputs(9, slice, &["5", "4"]), (3, "f32[2, 4]".into(), "Slice".into()));
    let mean = with(node("ReduceMean", &["x"], &["y"]), vec![ints("axes", &[1]), int("keepdims", 0)]);
    assert_eq!(inputs(13, mean, &["5", "4"]), (2, "f32[5]".into(), "ReduceMean".into()));
    let softmax = || node("Softmax", &["x"], &["y"]);
    assert_eq!(inputs(11, softmax(), &["5", "4"]), (1, "f32[5, 4]".into(), "Softmax".into()));
    assert_eq!(inputs(11, softmax(), &["5", "4", "3"]).2, "Flatten Softmax Reshape");
    assert_eq!(inputs(11, softmax(), &["5", "4", "1"]).2, "Softmax");
    assert_eq!(inputs(13, softmax(), &["5", "4", "3"]).2, "Softmax");
}

/// Training below opset 14 has results that no longer exist: the batch's own statistics.
#[test]
fn old_training_keeps_its_five_results() {
    let vector = || floats("v", &[3], &[1.0, 2.0, 3.0]);
    let names = ["y", "mean", "variance", "batch_mean", "batch_variance"];
    let norm = node("BatchNormalization", &["x", "v", "v", "v", "v"], &names);
    let mut m = model(9, &["2", "3"], vec![norm], vec![vector()]);
    let outputs = &mut m.graph.as_mut().expect("a graph").output;
    *outputs = names.iter().map(|n| value(n, &["3"])).collect();
    let g = load(&m).expect("imports");
    assert_eq!(ops(&g).join(" "), "BatchNormalization BatchNormalization");
    let x = burin_ir::Tensor::new(&[2, 3], &[1f32, 2.0, 3.0, 3.0, 6.0, 9.0]);
    let found = burin_ir::graph::eval::eval(&g, &[x], &[]).expect("evaluates").outputs;
    // momentum * v + 0.1 * the batch's mean [2, 4, 6] and variance [1, 4, 9].
    let running = |batch: [f64; 3]| [1.0, 2.0, 3.0].into_iter().zip(batch).map(|(v, b)| 0.9 * v + 0.1 * b);
    let expected: [Vec<f64>; 4] = [
        running([2.0, 4.0, 6.0]).collect(),
        running([1.0, 4.0, 9.0]).collect(),
        vec![2.0, 4.0, 6.0],
        vec![1.0, 4.0, 9.0],
    ];
    for (t, e) in found[1..].iter().zip(expected) {
        assert!(t.to_f64s().iter().zip(&e).all(|(a, b)| (a - b).abs() < 1e-6), "{:?} for {e:?}", t.to_f64s());
    }
}

#[test]
fn random_ops_without_seeds_get_different_ones() {
    let draw = |from: &str, to: &str| node("RandomUniformLike", &[from], &[to]);
    let seeded = AttributeProto {
        name: "seed".into(),
        kind: attribute_type::FLOAT,
        f: Some(7.5),
        ..Default::default()
    };
    let nodes = vec![draw("x", "a"), with(draw("a", "b"), vec![seeded]), draw("b", "y")];
    let g = load(&model(22, &["2"], nodes, vec![])).expect("imports");
    let seeds: Vec<f64> =
        g.regions[g.body].nodes.iter().filter_map(|n| g.nodes[*n].attrs.float("seed")).collect();
    assert!(seeds.len() == 3 && seeds[1] == 7.5 && seeds[0] != seeds[2], "{seeds:?}");
}

/// A generator of pseudo-random numbers (splitmix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Whatever happens to a file's bytes, it is imported or refused.
fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), kind: attribute_type::FLOAT, f: Some(f), ..Default::default() }
}

fn float_list(name: &str, floats: &[f32]) -> AttributeProto {
    let floats = floats.to_vec();
    AttributeProto { name: name.into(), kind: attribute_type::FLOATS, floats, ..Default::default() }
}

/// What a model of opset 1 gives for an input of `1, 2, ..` of that shape.
fn early(shape: &[usize], n: NodeProto, constants: Vec<TensorProto>) -> Result<Vec<f64>, String> {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    let graph = load(&model(1, &dims, vec![n], constants))?;
    let elements: Vec<f32> = (1..=shape.iter().product::<usize>()).map(|v| v as f32).collect();
    let found = eval(&graph, &[Tensor::new(shape, &elements)], &[]).map_err(|e| e.to_string())?;
    Ok(found.outputs[0].to_f64s())
}

#[test]
fn operands_broadcast_from_an_axis_before_opset_7() {
    let add = |axis| with(node("Add", &["x", "b"], &["y"]), vec![int("broadcast", 1), int("axis", axis)]);
    let b = || vec![floats("b", &[2], &[10.0, 20.0])];
    assert_eq!(early(&[2, 2, 1], add(1), b()), Ok(vec![11.0, 22.0, 13.0, 24.0]));
    assert_eq!(early(&[2, 2, 1], add(0), b()), Ok(vec![11.0, 12.0, 23.0, 24.0]));
    assert!(early(&[2, 2, 1], add(3), b()).is_err_and(|e| e.contains("axis 3")));
    let slope = vec![floats("b", &[2], &[-1.0, -2.0])];
    let prelu = node("PRelu", &["x", "b"], &["y"]);
    assert_eq!(early(&[1, 2, 2], prelu, slope), Ok(vec![1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn ops_that_were_dropped_are_made_of_others() {
    let one = |op, attributes| with(node(op, &["x"], &["y"]), attributes);
    let affine = one("Affine", vec![float("alpha", 2.0), float("beta", 1.0)]);
    assert_eq!(early(&[3], affine, vec![]), Ok(vec![3.0, 5.0, 7.0]));
    assert_eq!(early(&[2], one("Scale", vec![float("scale", 3.0)]), vec![]), Ok(vec![3.0, 6.0]));
    let scaler = one("ImageScaler", vec![float("scale", 2.0), float_list("bias", &[10.0, 20.0])]);
    assert_eq!(early(&[1, 2, 1, 2], scaler, vec![]), Ok(vec![12.0, 14.0, 26.0, 28.0]));
    let crop = |attributes| early(&[1, 1, 3, 3], one("Crop", attributes), vec![]);
    assert_eq!(crop(vec![ints("border", &[1, 0, 0, 1])]), Ok(vec![2.0, 3.0, 5.0, 6.0]));
    assert_eq!(crop(vec![ints("border", &[0, 1, 0, 0]), ints("scale", &[2, 1])]), Ok(vec![4.0, 7.0]));
    let tanh = early(&[1], one("ScaledTanh", vec![float("alpha", 2.0), float("beta", 0.5)]), vec![]);
    assert!(tanh.is_ok_and(|v| (v[0] - 2.0 * 0.5f64.tanh()).abs() < 1e-6));
    let plus = early(&[1], one("ParametricSoftplus", vec![float("alpha", 3.0), float("beta", 2.0)]), vec![]);
    assert!(plus.is_ok_and(|v| (v[0] - 3.0 * 2f64.exp().ln_1p()).abs() < 1e-5));
}

#[test]
fn training_before_opset_7_is_refused() {
    let dropout = |test| with(node("Dropout", &["x"], &["y"]), vec![int("is_test", test)]);
    assert_eq!(early(&[2], dropout(1), vec![]), Ok(vec![1.0, 2.0]));
    assert!(early(&[2], dropout(0), vec![]).is_err_and(|e| e.contains("is_test = 0")));
}

#[test]
fn mutated_files_never_panic() {
    let nodes = vec![
        with(node("Transpose", &["x"], &["t"]), vec![ints("perm", &[1, 0])]),
        node("MatMul", &["t", "w"], &["m"]),
        node("Add", &["m", "w"], &["a"]),
        with(node("Softmax", &["a"], &["s"]), vec![int("axis", 1)]),
        with(node("Slice", &["s"], &["c"]), vec![ints("starts", &[0]), ints("ends", &[1])]),
        with(node("ReduceSum", &["c"], &["r"]), vec![ints("axes", &[1])]),
        node("Relu", &["r"], &["y"]),
    ];
    let w = floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let valid = model(9, &["2", "n"], nodes, vec![w]).encode_to_vec();
    let mut random = Random(1);
    for round in 0..3000 {
        let mut bytes = valid.clone();
        for _ in 0..1 + round % 4 {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = random.below(256) as u8,
                2 => bytes[at] ^= 1 << random.below(8),
                _ => {
                    let from = random.below(bytes.len());
                    bytes[at] = bytes[from];
                }
            }
        }
        let _ = import_bytes(bytes.into(), "mutated.onnx", None, &Options::default());
    }
}
