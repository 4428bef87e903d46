//! Tests of the rows: their samples, the agreement of what a row says twice, and values from NumPy.

use super::*;
use crate::DType;
use crate::graph::eval::{eval, eval_element};
use crate::graph::infer::Arg;
use crate::graph::sample::Sample;
use crate::graph::{Constant, infer};

fn evaluate(text: &str) -> Vec<Tensor> {
    let sample = Sample::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let graph = sample.graph().unwrap_or_else(|e| panic!("{text}: {e}"));
    eval(&graph, &sample.inputs(7), &[]).unwrap_or_else(|e| panic!("{text}: {e}")).outputs
}

#[test]
fn operands_that_no_meaning_fits_are_refused() {
    for text in [
        "Attention(f32[1,2,2,8], f32[1,2,4,8], f32[1,2,4,8], _, _, _, i64[])",
        "EyeLike(text[3,4])",
        "Trilu(text[3,3], text[])",
    ] {
        assert!(Sample::parse(text).expect("a sample").graph().is_err(), "{text}");
    }
}

/// Every sample's node can be built and evaluated, and where it can be built with symbolic sizes,
/// that gives the same results.
#[test]
fn heads_that_cannot_share_are_refused() {
    for (q, k, fits) in [(6, 3, true), (3, 3, true), (0, 3, false), (4, 3, false), (3, 0, false)] {
        let text = format!("Attention(f32[1,{q},2,4], f32[1,{k},2,4], f32[1,{k},2,4])");
        let taken = Sample::parse(&text).expect("a sample").graph().is_ok();
        assert_eq!(taken, fits, "{text}");
    }
}

#[test]
fn samples_evaluate() {
    for row in all() {
        assert!(!row.samples.is_empty() || row.regions > 0, "{row:?} has no samples");
        for text in row.samples {
            let sample = Sample::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(sample.op, row, "{text} stands in the row {row:?}");
            let expected = evaluate(text);
            if let Ok((graph, _)) = sample.symbolic_graph() {
                let found = eval(&graph, &sample.inputs(7), &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
                assert_eq!(found.outputs, expected, "{text} with symbolic sizes");
            }
        }
    }
}

/// Where a row has both reference semantics and the definition of an element, they agree.
#[test]
fn elements_agree_with_reference_semantics() {
    for row in all() {
        let Meaning::Primitive(Lower::Element(element)) = row.meaning else { continue };
        if row.eval.is_none() {
            continue;
        }
        for text in row.samples {
            let sample = Sample::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let graph = sample.graph().unwrap_or_else(|e| panic!("{text}: {e}"));
            // Before it stand those that read its operands.
            let node = &graph.nodes[*graph.regions[graph.body].nodes.last().expect("a node")];
            let mut given = sample.inputs(7).into_iter();
            let mut operand = |v: Value| match graph.constant(v) {
                Some(Constant::Data(t)) => Some(t.clone()),
                _ => given.next(),
            };
            let operands: Vec<Option<Tensor>> =
                node.inputs.iter().map(|v| v.and_then(&mut operand)).collect();
            let arg = |t: &Tensor| {
                let c = Constant::Data(t.clone());
                Arg { ty: c.ty().into(), known: infer::known_contents(&c), data: Some(t.clone()) }
            };
            let args: Vec<Option<Arg>> = operands.iter().map(|t| t.as_ref().map(arg)).collect();
            let fresh = || panic!("{text} makes a symbol");
            let cx = Cx {
                op: row,
                attrs: &node.attrs,
                inputs: &args,
                outputs: node.outputs.len(),
                region_results: &[],
                fresh: &fresh,
            };
            for (i, expected) in evaluate(text).iter().enumerate() {
                let body = element(&cx, i).unwrap_or_else(|e| panic!("{text}: {e}"));
                let found = eval_element(&body, expected.shape(), &operands);
                let found = found.unwrap_or_else(|e| panic!("{text}: {e}"));
                let close = |(a, b): (f64, f64)| {
                    a == b || (a - b).abs() <= 1e-3 * b.abs() || a.is_nan() && b.is_nan()
                };
                let mut pairs = found.to_f64s().into_iter().zip(expected.to_f64s());
                assert!(pairs.all(close), "{text}: {:?}, expected {:?}", found.to_f64s(), expected.to_f64s());
            }
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &[&[f64]]) {
    let found = evaluate(text);
    assert_eq!(found.len(), expected.len(), "results of {text}");
    for (t, e) in found.iter().zip(expected) {
        let values = t.to_f64s();
        let close =
            |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 1e-13 * b.abs() || a.is_nan() && b.is_nan();
        assert!(
            values.len() == e.len() && values.iter().zip(*e).all(close),
            "{text}: found {values:?}, expected {e:?}"
        );
    }
}

/// On values where textbook formulas overflow or cancel; expected values from NumPy's `log1p`,
/// `expm1` and `logaddexp` in double precision.
#[test]
fn activations_stay_accurate() {
    let x = "f64[7] = [-30.0, -2.5, -0.0001, 0.0, 0.0001, 2.5, 30.0]";
    let on = |op: &str, attrs: &str, expected: &[f64]| check(&format!("{op}({x}) {attrs}"), &[expected]);
    on(
        "Softplus",
        "",
        &[
            9.357622968839737e-14,
            0.07888973429254963,
            0.6930971818099453,
            std::f64::consts::LN_2,
            0.6931971818099453,
            2.5788897342925496,
            30.000000000000092,
        ],
    );
    on(
        "Sigmoid",
        "",
        &[
            9.35762296883931e-14,
            0.07585818002124355,
            0.4999750000000209,
            0.5,
            0.5000249999999792,
            0.9241418199787564,
            0.9999999999999064,
        ],
    );
    on(
        "Mish",
        "",
        &[
            -2.807286890651921e-12,
            -0.19681620390653332,
            -5.9996799984004584e-05,
            0.0,
            6.000319998399541e-05,
            2.471392304557881,
            30.0,
        ],
    );
    on(
        "Elu",
        "{alpha = 2.0}",
        &[-1.9999999999998128, -1.8358300027522025, -0.00019999000033332502, 0.0, 0.0001, 2.5, 30.0],
    );
    on(
        "Celu",
        "{alpha = 0.5}",
        &[-0.5, -0.49663102650045726, -9.999000066663334e-05, 0.0, 0.0001, 2.5, 30.0],
    );
    on(
        "Swish",
        "{alpha = 2.0}",
        &[
            -2.626953228808956e-25,
            -0.016732127310712136,
            -4.9995000000016675e-05,
            0.0,
            5.000499999998334e-05,
            2.483267872689288,
            30.0,
        ],
    );
    check(
        "Gelu(f64[3] = [-2.5, 0.0001, 2.5]) {approximate = \"tanh\"}",
        &[&[-0.015084266089998577, 5.000398942279734e-05, 2.484915733910001]],
    );
    check(
        "Gelu(f64[3] = [-2.5, 0.0001, 2.5])",
        &[&[-0.015524163314440398, 5.000398942279737e-05, 2.4844758366855597]],
    );
}

#[test]
fn pointwise_ops_follow_onnx() {
    check("Mod(i64[4] = [-7, 7, -7, 7], i64[4] = [3, -3, -3, 0])", &[&[2.0, -2.0, -1.0, 0.0]]);
    check(
        "Mod(f32[3] = [-4.3, 7.2, 5.0], f32[3] = [2.0, -3.0, 8.0]) {fmod = 1}",
        &[&[-0.3000001907348633, 1.1999998092651367, 5.0]],
    );
    check("Pow(i32[3] = [1, 2, 3], f32[3] = [4.0, 5.0, 6.0])", &[&[1.0, 32.0, 729.0]]);
    check("Pow(f32[3] = [1.5, 2.0, 3.0], i64[3] = [2, -1, 0])", &[&[2.25, 0.5, 1.0]]);
    check("Cast(f32[4] = [300.0, -5.5, 2.5, 255.9]) {to = u8}", &[&[255.0, 0.0, 2.0, 255.0]]);
    check("Clip(f32[3] = [-2.0, 0.5, 9.0], _, f32[] = [1.0])", &[&[-2.0, 0.5, 1.0]]);
    check("Clip(f32[3] = [-2.0, 0.5, 9.0], f32[] = [3.0], f32[] = [1.0])", &[&[1.0, 1.0, 1.0]]);
    check("Sign(i8[3] = [-3, 0, 9])", &[&[-1.0, 0.0, 1.0]]);
    check("Round(f32[4] = [0.5, 1.5, -2.5, 2.4])", &[&[0.0, 2.0, -2.0, 2.0]]);
    check("Shrink(f32[3] = [-2.0, 0.25, 2.0]) {bias = 1.5, lambd = 1.5}", &[&[-0.5, 0.0, 0.5]]);
    check("BitShift(u8[3] = [16, 4, 1], u8[3] = [1, 2, 9]) {direction = \"RIGHT\"}", &[&[8.0, 1.0, 0.0]]);
    check("Mean(f32[2] = [1.0, 4.0], f32[] = [2.0])", &[&[1.5, 3.0]]);
    check("Dropout(f32[2] = [1.0, 4.0]) -> 2", &[&[1.0, 4.0], &[1.0, 1.0]]);
}

#[test]
fn reductions_follow_onnx() {
    let a = "f64[2,3] = [1.5, -2.0, 3.25, 0.5, 4.0, -1.0]";
    check(&format!("ReduceLogSumExp({a}, i64[1] = [1])"), &[&[3.4146848248243513, 4.036269565124779]]);
    check("ReduceLogSumExp(f32[2] = [1000.0, 1000.0])", &[&[1000.6931762695313]]);
    check(
        &format!("ReduceL2({a}, i64[1] = [0]) {{keepdims = 0}}"),
        &[&[1.5811388300841898, 4.47213595499958, 3.400367627183861]],
    );
    check("ReduceMean(i32[4] = [-1, -2, -2, -2])", &[&[-1.0]]);
    check("ReduceSum(i8[2] = [100, 100])", &[&[-56.0]]);
    check("ReduceL1(f32[3] = [-1.0, 2.0, -4.0]) {noop_with_empty_axes = 1}", &[&[1.0, 2.0, 4.0]]);
    check("ReduceMax(f32[2,0], i64[1] = [1]) {keepdims = 0}", &[&[f64::NEG_INFINITY; 2]]);
    check("ReduceMin(u8[2,0], i64[1] = [1]) {keepdims = 0}", &[&[255.0; 2]]);
    check("ReduceLogSumExp(f32[1,0], i64[1] = [1]) {keepdims = 0}", &[&[f64::NEG_INFINITY]]);
    check("ArgMax(f32[6] = [1.0, 9.0, 9.0, 2.0, 9.0, 0.0])", &[&[1.0]]);
    check("ArgMax(f32[6] = [1.0, 9.0, 9.0, 2.0, 9.0, 0.0]) {select_last_index = 1}", &[&[4.0]]);
    check("ArgMin(f32[2,2] = [1.0, 9.0, 1.0, 0.0]) {keepdims = 0}", &[&[0.0, 1.0]]);
    check("CumSum(i32[3] = [1, 2, 3], i64[] = [0]) {exclusive = 1, reverse = 1}", &[&[5.0, 3.0, 0.0]]);
}

#[test]
fn normalisations_follow_onnx() {
    let a = "f64[2,3] = [1.5, -2.0, 3.25, 0.5, 4.0, -1.0]";
    check(
        &format!("Softmax({a})"),
        &[&[
            0.1473882783930259,
            0.004450740354589625,
            0.8481609812523845,
            0.029121761537478405,
            0.9643802951468597,
            0.006497943315661941,
        ]],
    );
    check("Softmax(f32[2] = [1000.0, 1000.0])", &[&[0.5, 0.5]]);
    check(
        &format!("LayerNormalization({a}, f64[3] = [1.0, 2.0, 3.0], f64[3] = [0.5, 0.0, -0.5])"),
        &[&[
            0.7672609614054402,
            -2.672609614054401,
            2.7071315368652815,
            0.18177744886152175,
            2.7048916846770648,
            -3.6026698736001634,
        ]],
    );
    check(
        &format!("RMSNormalization({a}, f64[] = [2.0])"),
        &[&[
            1.2672588882163773,
            -1.6896785176218365,
            2.745727591135484,
            0.417028465480859,
            3.336227723846872,
            -0.834056930961718,
        ]],
    );
    check("Hardmax(f32[2,3] = [3.0, 0.0, 3.0, 1.0, 2.0, 0.0])", &[&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]);
    check(
        "LpNormalization(f32[2,2] = [3.0, 4.0, 0.0, 0.0])",
        &[&[0.6000000238418579, 0.800000011920929, 0.0, 0.0]],
    );
}

#[test]
fn mistakes_are_named() {
    let error = |text: &str| match Sample::parse(text).map(|s| s.graph()) {
        Ok(Err(e)) => e,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(error("Add(f32[2,3], f32[4])"), "Add: shapes [2, 3] and [4] do not broadcast");
    assert_eq!(error("Add(f32[2], i64[2])"), "Add: input 0 has elements of f32, input 1 of i64");
    assert_eq!(error("Exp(i64[2])"), "Exp: input 0 has elements of i64, expected a float");
    assert_eq!(
        error("ReduceSum(f32[2], i64[65])"),
        "ReduceSum: input 1 (axes) is i64[65], expected few elements of a known number"
    );
    assert_eq!(error("Softmax(f32[2]) {axis = 1}"), "Softmax: axis 1 is out of range for rank 1");
    assert_eq!(error("Dropout(f32[2], f32[2])"), "Dropout: input 1 (ratio) is f32[2], expected one element");
}

/// Nodes of `com.microsoft` and what ONNX Runtime 1.32 gives for them (CPU, without optimisations), a
/// line each.
const ONNX_RUNTIME: &str = include_str!("qlinear/values.txt");

#[test]
fn quantised_ops_follow_onnx_runtime() {
    assert!(ONNX_RUNTIME.lines().count() > 20);
    for line in ONNX_RUNTIME.lines() {
        let (text, expected) = line.split_once(" => ").expect("a node and its result");
        let numbers = expected.trim_matches(['[', ']']).split(", ").map(|n| n.parse().expect("a number"));
        let expected: Vec<f64> = numbers.collect();
        let found = &evaluate(text)[0];
        let bound = if found.dtype().is_float() { 1e-4 } else { 0.0 };
        assert_eq!(found.len(), expected.len(), "{text}");
        for (f, e) in found.to_f64s().into_iter().zip(&expected) {
            assert!(
                (f - e).abs() <= bound * e.abs().max(1.0),
                "{text}: {:?}, expected {expected:?}",
                found.to_f64s()
            );
        }
    }
}

/// No row computes with types that have no arithmetic: where its type rule takes one, its definition
/// of an element can be made, which panics otherwise.
#[test]
fn storage_types_are_only_moved_and_converted() {
    for row in all() {
        for text in row.samples {
            let sample = Sample::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let own: std::collections::BTreeSet<_> =
                sample.inputs.iter().flatten().map(|i| i.dtype()).collect();
            for (own, storage) in own.iter().flat_map(|o| DType::ALL.map(|t| (*o, t))) {
                if !storage.is_storage() {
                    continue;
                }
                let changed = sample.with_operand_types(&|_, t| if t == own { storage } else { t });
                let Ok(graph) = changed.graph() else { continue };
                let Some(node) = graph.regions[graph.body].nodes.first().map(|n| &graph.nodes[*n]) else {
                    continue;
                };
                // What it gives is the matrix's matter.
                let _ = eval(&graph, &changed.inputs(7), &[]);
                let arg = |v: Value| {
                    let d = &graph.values[v];
                    Arg { ty: d.ty.clone(), known: d.known.clone(), data: None }
                };
                let args: Vec<Option<Arg>> = node.inputs.iter().map(|v| v.map(arg)).collect();
                let cx = Cx {
                    op: row,
                    attrs: &node.attrs,
                    inputs: &args,
                    outputs: node.outputs.len(),
                    region_results: &[],
                    fresh: &|| crate::symbol::Symbol::new("unknown"),
                };
                for (i, v) in node.outputs.iter().enumerate() {
                    if let Some(ty) = graph.tensor_type(*v) {
                        let _ = row.element(&cx, i, ty);
                    }
                }
            }
        }
    }
}
