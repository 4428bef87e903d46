//! Sequences, optionals and maps: what becomes of them, and what is refused.

use super::*;
use crate::import::onnx::{Form, Imported, Keys, Model};

fn tensor_type(elem_type: i32, dims: Option<&[&str]>) -> TypeProto {
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(|d| dim(d)).collect() });
    TypeProto { value: Some(TypeValue::Tensor(TensorTypeProto { elem_type, shape })) }
}

fn sequence_of(of: TypeProto) -> TypeProto {
    TypeProto {
        value: Some(TypeValue::Sequence(Box::new(ElementTypeProto { elem_type: Some(Box::new(of)) }))),
    }
}

fn optional_of(of: TypeProto) -> TypeProto {
    TypeProto {
        value: Some(TypeValue::Optional(Box::new(ElementTypeProto { elem_type: Some(Box::new(of)) }))),
    }
}

fn port(name: &str, ty: TypeProto) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(ty) }
}

fn numbers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 7,
        dims: dims.to_vec(),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn subgraph(name: &str, inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> AttributeProto {
    let ports = |names: &[&str]| names.iter().map(|n| port(n, tensor_type(1, None))).collect();
    let g = GraphProto { node: nodes, input: ports(inputs), output: ports(outputs), ..Default::default() };
    AttributeProto { name: name.into(), kind: attribute_type::GRAPH, g: Some(g), ..Default::default() }
}

/// A model of those inputs and outputs, with small constants `zero` to `four`, a vector `ones`, and `yes`.
fn structured(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> ModelProto {
    let mut m = model(17, &[], nodes, vec![]);
    m.opset_import.push(OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 1 });
    let g = m.graph.as_mut().expect("a graph");
    for (i, name) in ["zero", "one", "two", "three", "four"].into_iter().enumerate() {
        g.initializer.push(numbers(name, &[], &[i as i64]));
    }
    g.initializer.push(floats("ones", &[2], &[1.0, 1.0]));
    g.initializer.push(TensorProto {
        name: "yes".into(),
        data_type: 9,
        int32_data: vec![1],
        ..Default::default()
    });
    g.input = inputs;
    g.output = outputs.iter().map(|o| port(o, tensor_type(1, None))).collect();
    m
}

fn x() -> ValueInfoProto {
    value("x", &["2"])
}

fn imported(m: &ModelProto, options: &Options) -> Result<Imported, String> {
    let model = Model::decode(m.encode_to_vec().into(), "test.onnx", None).expect("decodes");
    let imported = model.import(options).map_err(|e| e.to_string())?;
    burin_ir::graph::verify(&imported.graph).expect("verifies");
    Ok(imported)
}

/// What a model gives, as lists of numbers, by the names of the graph's outputs.
fn run(m: &ModelProto, options: &Options, inputs: &[Tensor]) -> Vec<(String, Vec<f64>)> {
    let graph = imported(m, options).expect("imports").graph;
    let found = eval(&graph, inputs, &[]).expect("evaluates").outputs;
    graph.output_names.into_iter().zip(found.iter().map(Tensor::to_f64s)).collect()
}

fn found(name: &str, values: &[f64]) -> (String, Vec<f64>) {
    (name.to_owned(), values.to_vec())
}

fn pair(a: f32, b: f32) -> Tensor {
    Tensor::new(&[2], &[a, b])
}

#[test]
fn positions_count_from_either_end() {
    let minus = numbers("minus", &[], &[-1]);
    let nodes = vec![
        with(node("SequenceEmpty", &[], &["empty"]), vec![int("dtype", 1)]),
        node("SequenceInsert", &["empty", "x"], &["s1"]),
        node("Neg", &["x"], &["n"]),
        node("SequenceInsert", &["s1", "n", "zero"], &["s2"]),
        node("SequenceInsert", &["s2", "ones", "minus"], &["s3"]),
        node("SequenceAt", &["s3", "minus"], &["last"]),
        node("SequenceErase", &["s3", "zero"], &["s4"]),
        node("SequenceErase", &["s4"], &["s5"]),
        node("SequenceLength", &["s3"], &["length"]),
    ];
    let mut m = structured(vec![x()], nodes, &["s3", "last", "s5", "length"]);
    m.graph.as_mut().expect("a graph").initializer.push(minus);
    let (n, o, p) = (found("s3.0", &[-3.0, -4.0]), found("s3.1", &[1.0, 1.0]), found("s3.2", &[3.0, 4.0]));
    let expected = [n, o, p, found("last", &[3.0, 4.0]), found("s5.0", &[1.0, 1.0]), found("length", &[3.0])];
    assert_eq!(run(&m, &Options::default(), &[pair(3.0, 4.0)]), expected);
}

#[test]
fn tensors_are_split_and_joined() {
    let split = |inputs: &[&str], name: &str, keepdims| {
        with(node("SplitToSequence", inputs, &[name]), vec![int("axis", -1), int("keepdims", keepdims)])
    };
    let nodes = vec![
        split(&["x"], "rows", 0),
        split(&["x", "three"], "parts", 0),
        with(node("ConcatFromSequence", &["rows"], &["columns"]), vec![int("axis", -1), int("new_axis", 1)]),
        with(node("ConcatFromSequence", &["parts"], &["joined"]), vec![int("axis", 0)]),
    ];
    let m = structured(vec![value("x", &["4"])], nodes, &["rows", "parts", "columns", "joined"]);
    let all = [1.0, 2.0, 3.0, 4.0];
    let mut expected: Vec<_> = (0..4).map(|i| found(&format!("rows.{i}"), &all[i..i + 1])).collect();
    expected.extend([found("parts.0", &all[..3]), found("parts.1", &all[3..])]);
    expected.extend([found("columns", &all), found("joined", &all)]);
    let given = Tensor::new(&[4], &[1f32, 2.0, 3.0, 4.0]);
    assert_eq!(run(&m, &Options::default(), &[given]), expected);
    let graph = imported(&m, &Options::default()).expect("imports").graph;
    let ty = |i: usize| graph.values[graph.outputs()[i]].ty.to_string();
    assert_eq!((ty(0), ty(4), ty(6)), ("f32[]".into(), "f32[3]".into(), "f32[4]".into()));
}

#[test]
fn lengths_of_inputs_are_stated() {
    let s = || port("s", sequence_of(tensor_type(1, Some(&["n"]))));
    let m = structured(vec![s()], vec![node("Identity", &["s"], &["y"])], &["y"]);
    let refused = imported(&m, &Options::default()).expect_err("no length is stated");
    assert!(
        refused.contains("input \"s\": it is a sequence") && refused.contains("--length s=N"),
        "{refused}"
    );
    let options = Options { lengths: vec![("s".into(), 2)], ..Options::default() };
    let Imported { graph, inputs, outputs } = imported(&m, &options).expect("imports");
    // Elements may have different sizes.
    let of = |v: &burin_ir::graph::Value| format!("{}: {}", graph.values[*v].name, graph.values[*v].ty);
    assert_eq!(graph.inputs().iter().map(of).collect::<Vec<_>>(), ["s.0: f32[s_0_n]", "s.1: f32[s_1_n]"]);
    assert_eq!((&inputs[0].1, &outputs[0].1), (&Form::Sequence(2), &Form::Sequence(2)));
    let fixed = Options { dims: vec![("n".into(), 2)], ..options.clone() };
    let expected = [found("y.0", &[1.0, 2.0]), found("y.1", &[3.0, 4.0])];
    assert_eq!(run(&m, &fixed, &[pair(1.0, 2.0), pair(3.0, 4.0)]), expected);
    let unknown = Options { lengths: vec![("s".into(), 2), ("t".into(), 2)], ..Options::default() };
    let e = imported(&m, &unknown).expect_err("there is no t");
    assert!(e.contains("--length t: the model has no input of that name that is a sequence"), "{e}");
    let clash = structured(vec![s(), value("s.1", &["2"])], vec![node("Identity", &["s"], &["y"])], &["y"]);
    assert!(imported(&clash, &options).is_err_and(|e| e.contains("tensors named \"s.1\"")));
}

#[test]
fn optionals_among_inputs_are_there_or_not() {
    let o = port("o", optional_of(sequence_of(tensor_type(1, None))));
    let then = subgraph("then_branch", &[], vec![node("OptionalGetElement", &["o"], &["held"])], &["held"]);
    let other =
        subgraph("else_branch", &[], vec![node("SequenceConstruct", &["ones"], &["made"])], &["made"]);
    let nodes = vec![
        node("OptionalHasElement", &["o"], &["there"]),
        with(node("If", &["there"], &["y"]), vec![then, other]),
    ];
    let m = structured(vec![o], nodes, &["y", "there"]);
    let e = imported(&m, &Options::default()).expect_err("not stated");
    assert!(e.contains("--present o=1, or 0"), "{e}");
    let absent = Options { present: vec![("o".into(), false)], ..Options::default() };
    assert_eq!(imported(&m, &absent).expect("imports").inputs[0].1, Form::Absent);
    assert_eq!(run(&m, &absent, &[]), [found("y.0", &[1.0, 1.0]), found("there", &[0.0])]);
    let mut there =
        Options { present: vec![("o".into(), true)], lengths: vec![("o".into(), 1)], ..Options::default() };
    assert!(imported(&m, &there).is_err_and(|e| e.contains("rank is unknown") && e.contains("--shape o.0=")));
    there.shapes = vec![("o.0".into(), vec![DimensionValue::Value(2)])];
    assert_eq!(run(&m, &there, &[pair(5.0, 6.0)]), [found("y.0", &[5.0, 6.0]), found("there", &[1.0])]);
}

#[test]
fn contents_that_structure_follows_from_are_fixed() {
    let nodes = vec![
        node("SequenceConstruct", &["x", "ones"], &["s"]),
        node("Add", &["p", "zero"], &["q"]),
        node("SequenceAt", &["s", "q"], &["y"]),
    ];
    let m = structured(vec![x(), port("p", tensor_type(7, Some(&[])))], nodes, &["y"]);
    let e = imported(&m, &Options::default()).expect_err("the position is unknown");
    assert!(e.contains("node SequenceAt \"n_y\": the position (\"q\") must be known"), "{e}");
    assert!(e.contains("--fix p=VALUES"), "{e}");
    for (p, expected) in [(0, [7.0, 8.0]), (1, [1.0, 1.0])] {
        let options = Options { fixed: vec![("p".into(), vec![p])], ..Options::default() };
        let Imported { graph, inputs, .. } = imported(&m, &options).expect("imports");
        assert_eq!((graph.inputs().len(), &inputs[1].1), (1, &Form::Fixed));
        assert_eq!(run(&m, &options, &[pair(7.0, 8.0)]), [found("y", &expected)]);
    }
    let fix = |name: &str, contents: &[i64]| {
        let options = Options { fixed: vec![(name.into(), contents.to_vec())], ..Options::default() };
        imported(&m, &options).err().unwrap_or_default()
    };
    assert!(fix("x", &[1, 2]).contains("only contents of integers and bools"));
    assert!(fix("p", &[1, 2]).contains("found 2 elements"));
    assert!(fix("p", &[2]).contains("the position 2 is outside a sequence of 2 tensors"));
}

#[test]
fn branches_of_one_structure_are_chosen_in_the_run() {
    let branch = |name: &str, a: &str, b: &str| {
        subgraph(
            name,
            &[],
            vec![node("Exp", &["x"], &["e"]), node("SequenceConstruct", &[a, b], &["r"])],
            &["r"],
        )
    };
    let c = || port("c", tensor_type(9, Some(&[])));
    let nodes = |then, other| {
        vec![with(node("If", &["c"], &["s"]), vec![then, other]), node("SequenceAt", &["s", "one"], &["y"])]
    };
    let alike = nodes(branch("then_branch", "x", "ones"), branch("else_branch", "e", "x"));
    let m = structured(vec![x(), c()], alike, &["y", "s"]);
    for (holds, second) in [(true, [1.0, 1.0]), (false, [3.0, 4.0])] {
        let all = run(&m, &Options::default(), &[pair(3.0, 4.0), Tensor::bools(&[], &[holds])]);
        assert_eq!((&all[0], &all[2]), (&found("y", &second), &found("s.1", &second)));
    }
    let longer =
        subgraph("else_branch", &[], vec![node("SequenceConstruct", &["x", "x", "x"], &["r"])], &["r"]);
    let m = structured(vec![x(), c()], nodes(branch("then_branch", "x", "ones"), longer), &["y"]);
    let e = imported(&m, &Options::default()).expect_err("the lengths differ");
    assert!(
        e.contains("a sequence of 2 tensors or a sequence of 3 tensors") && e.contains("--fix c="),
        "{e}"
    );
    let chosen = Options { fixed: vec![("c".into(), vec![0])], ..Options::default() };
    assert_eq!(run(&m, &chosen, &[pair(3.0, 4.0)]), [found("y", &[3.0, 4.0])]);
}

/// A loop that doubles `x`, collects it in a sequence, and gives the numbers of its iterations besides.
fn doubling(trips: &str, cond: &str, goes_on: NodeProto) -> ModelProto {
    let nodes = vec![
        goes_on,
        node("Add", &["v", "v"], &["v2"]),
        node("SequenceInsert", &["s", "v2"], &["s2"]),
        node("Identity", &["i"], &["number"]),
    ];
    let mut body = subgraph("body", &["i", "c", "v", "s"], nodes, &["go", "v2", "s2", "number"]);
    let declared = &mut body.g.as_mut().expect("a graph").output[3];
    *declared = port("number", tensor_type(7, Some(&[])));
    let nodes = vec![
        node("SequenceConstruct", &["ones"], &["start"]),
        with(node("Loop", &[trips, cond, "x", "start"], &["last", "all", "numbers"]), vec![body]),
    ];
    structured(vec![x(), port("n", tensor_type(7, Some(&[])))], nodes, &["last", "all", "numbers"])
}

#[test]
fn loops_over_sequences_are_unrolled() {
    let x = || [pair(1.0, 2.0), Tensor::new(&[], &[0i64])];
    let always = || node("Identity", &["c"], &["go"]);
    let expected = [
        found("last", &[4.0, 8.0]),
        found("all.0", &[1.0, 1.0]),
        found("all.1", &[2.0, 4.0]),
        found("all.2", &[4.0, 8.0]),
        found("numbers", &[0.0, 1.0]),
    ];
    assert_eq!(run(&doubling("two", "", always()), &Options::default(), &x()), expected);
    let until = node("Less", &["i", "one"], &["go"]);
    assert_eq!(run(&doubling("", "yes", until), &Options::default(), &x()), expected);
    let never = [found("last", &[1.0, 2.0]), found("all.0", &[1.0, 1.0]), found("numbers", &[])];
    assert_eq!(run(&doubling("zero", "", always()), &Options::default(), &x()), never);
    let refused = |m: ModelProto, expected: &str| {
        let e = imported(&m, &Options::default()).expect_err(expected);
        assert!(e.contains(expected), "{expected:?} expected in {e:?}");
    };
    refused(doubling("n", "", always()), "the number of its iterations (\"n\") must be known");
    refused(doubling("", "yes", always()), "the sequence becomes longer than 4096 tensors");
    refused(
        doubling("", "yes", node("Less", &["i", "n"], &["go"])),
        "whether it goes on after iteration 0 must be known",
    );
}

#[test]
fn a_body_is_mapped_over_sequences() {
    let body = subgraph(
        "body",
        &["a", "b"],
        vec![
            node("Add", &["a", "b"], &["sum"]),
            node("Mul", &["sum", "ones"], &["m"]),
            node("Shape", &["a"], &["shape"]),
        ],
        &["m", "shape"],
    );
    let nodes = vec![
        node("SequenceConstruct", &["x", "ones"], &["s"]),
        with(node("SequenceMap", &["s", "x"], &["y", "shapes"]), vec![body]),
    ];
    let m = structured(vec![x()], nodes, &["y", "shapes"]);
    let expected = [
        found("y.0", &[6.0, 8.0]),
        found("y.1", &[4.0, 5.0]),
        found("shapes.0", &[2.0]),
        found("shapes.1", &[2.0]),
    ];
    assert_eq!(run(&m, &Options::default(), &[pair(3.0, 4.0)]), expected);
}

#[test]
fn maps_stay_matrices_with_keys() {
    let zip = |name: &str, attribute: AttributeProto| {
        let mut n = with(node("ZipMap", &[name], &["y"]), vec![attribute]);
        n.domain = "ai.onnx.ml".into();
        n
    };
    let strings = |all: &[&str]| AttributeProto {
        name: "classlabels_strings".into(),
        kind: attribute_type::STRINGS,
        strings: all.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        ..Default::default()
    };
    let m = structured(vec![value("x", &["n", "2"])], vec![zip("x", strings(&["a", "b"]))], &["y"]);
    let Imported { graph, outputs, .. } = imported(&m, &Options::default()).expect("imports");
    assert_eq!(outputs, [("y".to_owned(), Form::Maps(Keys::Texts(vec!["a".into(), "b".into()])))]);
    assert_eq!(
        (&graph.output_names[..], graph.values[graph.outputs()[0]].ty.to_string()),
        (&["y".to_owned()][..], "f32[n, 2]".into())
    );
    let three = zip("x", ints("classlabels_int64s", &[1, 2, 3]));
    let m = structured(vec![x()], vec![three], &["y"]);
    let e = imported(&m, &Options::default()).expect_err("three keys for two columns");
    assert!(e.contains("node ZipMap \"n_y\": input \"x\": found f32[2], expected [N, 3] or [3]"), "{e}");
}

/// The type of a map from keys of one type to tensors of another.
fn map_of(key_type: i32, value_type: i32) -> TypeProto {
    let value_type = Some(Box::new(tensor_type(value_type, None)));
    let map = MapTypeProto { key_type, value_type };
    TypeProto { value: Some(TypeValue::Map(map.encode_to_vec().into())) }
}

fn of_ml(mut n: NodeProto, attributes: Vec<AttributeProto>) -> NodeProto {
    n.domain = "ai.onnx.ml".into();
    with(n, attributes)
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        kind: attribute_type::STRING,
        s: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Default::default()
    }
}

#[test]
fn a_map_that_comes_in_is_a_row() {
    // The vocabulary says the keys: a column for each, in its order.
    let words = AttributeProto {
        name: "string_vocabulary".into(),
        kind: attribute_type::STRINGS,
        strings: ["b", "a", "c"].iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        ..Default::default()
    };
    let vectors = of_ml(node("DictVectorizer", &["m"], &["y"]), vec![words]);
    let m = structured(vec![port("m", map_of(8, 1))], vec![vectors], &["y"]);
    let Imported { inputs, .. } = imported(&m, &Options::default()).expect("imports");
    let keys = Keys::Texts(vec!["b".into(), "a".into(), "c".into()]);
    assert_eq!(inputs, [("m".to_owned(), Form::Maps(keys))]);
    let given = Tensor::new(&[1, 3], &[2f32, 0.0, 5.0]);
    assert_eq!(run(&m, &Options::default(), &[given]), [found("y", &[2.0, 0.0, 5.0])]);
    // Other keys are the user's to state.
    let stated = |keys: Keys| Options { keys: vec![("m".into(), keys)], ..Options::default() };
    let given = || Tensor::new(&[1, 2], &[7f32, 8.0]);
    let options = stated(Keys::Texts(vec!["c".into(), "b".into()]));
    assert_eq!(run(&m, &options, &[given()]), [found("y", &[8.0, 0.0, 7.0])]);
    let wrong = imported(&m, &stated(Keys::Ints(vec![1]))).expect_err("its keys are texts");
    assert!(wrong.contains("its keys are texts, found 1"), "{wrong}");
}

#[test]
fn a_map_becomes_a_tensor() {
    let cast = |attributes| {
        let cast = of_ml(node("CastMap", &["m"], &["y"]), attributes);
        structured(vec![port("m", map_of(7, 1))], vec![cast], &["y"])
    };
    let options = Options { keys: vec![("m".into(), Keys::Ints(vec![3, 1]))], ..Options::default() };
    let given = || Tensor::new(&[1, 2], &[0.5f32, 2.0]);
    assert_eq!(run(&cast(vec![]), &options, &[given()]), [found("y", &[2.0, 0.5])]);
    let sparse = vec![text("map_form", "SPARSE"), int("max_map", 5), text("cast_to", "TO_INT64")];
    assert_eq!(run(&cast(sparse), &options, &[given()]), [found("y", &[0.0, 2.0, 0.0, 0.0, 0.0])]);
    let open = imported(&cast(vec![]), &Options::default()).expect_err("its keys are not known");
    assert!(open.contains("--keys m=A,B,.."), "{open}");
}

#[test]
fn what_is_no_tensor_is_named() {
    let s = || node("SequenceConstruct", &["x", "ones"], &["s"]);
    let refused = |nodes: Vec<NodeProto>, expected: &str| {
        let e = imported(&structured(vec![x()], nodes, &["y"]), &Options::default()).expect_err(expected);
        assert!(e.contains(expected), "{expected:?} expected in {e:?}");
    };
    let message = "node Relu \"n_y\": input \"s\": found a sequence of 2 tensors, expected a tensor";
    refused(vec![s(), node("Relu", &["s"], &["y"])], message);
    refused(
        vec![node("SequenceAt", &["x", "zero"], &["y"])],
        "input \"x\": found a tensor, expected a sequence",
    );
    refused(
        vec![s(), node("SequenceConstruct", &["s"], &["y"])],
        "input \"s\": found a sequence of 2 tensors",
    );
    refused(vec![s(), node("SequenceAt", &["s", "s"], &["y"])], "input \"s\": found a sequence of 2 tensors");
    refused(
        vec![s(), node("SequenceAt", &["s", "two"], &["y"])],
        "the position 2 is outside a sequence of 2",
    );
    refused(vec![s(), node("SequenceInsert", &["s", "x", "three"], &["y"])], "the position 3 is outside");
    refused(
        vec![s(), node("SequenceInsert", &["s", "one"], &["y"])],
        "input \"one\": found elements of i64, expected f32",
    );
    refused(vec![node("SequenceConstruct", &["x", "one"], &["y"])], "input \"one\": found elements of i64");
    refused(vec![node("SequenceConstruct", &[], &["y"])], "it has no inputs");
    let odd = with(node("SequenceEmpty", &[], &["y"]), vec![int("type", 1)]);
    refused(vec![odd], "unknown attribute type");
    let complex = with(node("SequenceEmpty", &[], &["y"]), vec![int("dtype", 14)]);
    refused(vec![complex], "element type complex64 is not supported");
    let empty = || node("SequenceEmpty", &[], &["e"]);
    let joined = |from| with(node("ConcatFromSequence", &[from], &["y"]), vec![int("axis", 0)]);
    refused(vec![empty(), joined("e")], "input \"e\": found an empty sequence");
    refused(
        vec![empty(), node("SequenceErase", &["e"], &["y"])],
        "the position -1 is outside a sequence of 0",
    );
    refused(vec![node("Optional", &[], &["y"])], "neither an input nor the attribute type");
    let none = || {
        let tp = Some(tensor_type(1, None));
        let of = AttributeProto { name: "type".into(), kind: attribute_type::TYPE, tp, ..Default::default() };
        with(node("Optional", &[], &["o"]), vec![of])
    };
    refused(vec![none(), node("OptionalGetElement", &["o"], &["y"])], "the optional is not there");
    refused(vec![none(), node("Relu", &["o"], &["y"])], "input \"o\": found an optional that is not there");
    refused(vec![none(), node("Identity", &["o"], &["y"])], "no outputs, or none that is there");
    let body = subgraph("body", &["a"], vec![node("SequenceConstruct", &["a"], &["r"])], &["r"]);
    refused(
        vec![s(), with(node("SequenceMap", &["s"], &["y"]), vec![body])],
        "body, element 0: found a sequence",
    );
}
