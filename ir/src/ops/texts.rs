//! Texts: joined, split, matched, brought into a normal form, read and written.
//!
//! Tensors of texts hold their numbers, so that moving and comparing texts needs nothing of its own. What
//! looks into them calls the host-op library ([`Lower::Host`]); ONNX's ops over texts are composites over
//! such calls, which see operands of one shape and know the sizes of their results.

use super::compose::{Built, Inputs, operand};
use super::rules::{self, TEXT};
use super::shape::target;
use super::{Effect, Lower, Meaning, OpRow, Port, one};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// A call of the host-op library: effect and meaning are those of all of them.
pub(super) const fn host(
    name: &'static str,
    inputs: &'static [Port],
    infer: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    samples: &'static [&'static str],
) -> OpRow {
    let meaning = Meaning::Primitive(Lower::Host);
    OpRow { effect: Effect::Host, samples, ..OpRow::new(name, None, inputs, infer, meaning) }
}

const fn text_op(
    name: &'static str,
    since: i64,
    inputs: &'static [Port],
    infer: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    meaning: Meaning,
) -> OpRow {
    OpRow { effect: Effect::Host, ..OpRow::new(name, Some(("", since)), inputs, infer, meaning) }
}

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        samples: &["StringConcat(text[2,3], text[3])", "StringConcat(text[], text[0])"],
        ..text_op(
            "StringConcat",
            20,
            &[one("X"), one("Y")],
            rules::pointwise::<TEXT>,
            Meaning::Composite(concat_build),
        )
    },
    OpRow {
        outputs: (2, 2),
        attrs: &[
            AttrSpec::new("delimiter", AttrKind::Str, Default::Str("")),
            AttrSpec::new("maxsplit", AttrKind::Int, Default::Absent),
        ],
        samples: &[
            "StringSplit(text[2] = [\"a b\", \" c \"]) -> 2",
            "StringSplit(text[2,1] = [\"a.b.c\", \"\"]) {delimiter = \".\", maxsplit = 1} -> 2",
            "StringSplit(text[0]) -> 2",
        ],
        ..text_op("StringSplit", 20, &[one("X")], split_infer, Meaning::Composite(split_build))
    },
    OpRow {
        attrs: &[
            AttrSpec::new("case_change_action", AttrKind::Str, Default::Str("NONE")),
            AttrSpec::new("is_case_sensitive", AttrKind::Int, Default::Int(0)),
            AttrSpec::new("locale", AttrKind::Str, Default::Absent),
            AttrSpec::new("stopwords", AttrKind::Strs, Default::Absent),
        ],
        samples: &[
            "StringNormalizer(text[4]) {stopwords = [\"A\", \"\"]}",
            "StringNormalizer(text[1,3]) {case_change_action = \"UPPER\"}",
            "StringNormalizer(text[2] = [\"b\", \"b\"]) {is_case_sensitive = 1, stopwords = [\"b\"]}",
        ],
        ..text_op("StringNormalizer", 10, &[one("X")], normal_infer, Meaning::Composite(normal_build))
    },
    OpRow {
        attrs: &[AttrSpec::new("pattern", AttrKind::Str, Default::Required)],
        samples: &["RegexFullMatch(text[2,3]) {pattern = \"a.?\"}"],
        ..text_op(
            "RegexFullMatch",
            20,
            &[one("X")],
            |cx| elementwise(cx, DType::Bool),
            Meaning::Composite(|cx, b, inputs| {
                let Some(x) = operand(inputs, 0) else { return Ok(None) };
                let pattern = word(b, cx.attrs.str("pattern").unwrap_or_default());
                Ok(Some(vec![b.op("TextMatches", &[x, pattern], vec![])?]))
            }),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("to", AttrKind::DType, Default::Required)],
        samples: &[
            "CastText(text[3] = [\"1.5\", \"-2e3\", \"7\"]) {to = f32}",
            "CastText(text[2] = [\"12\", \"-3\"]) {to = i8}",
            "CastText(f32[3] = [0.5, -2.0, 1e10]) {to = text}",
            "CastText(i16[2]) {to = text}",
            "CastText(bool[2]) {to = text}",
        ],
        effect: Effect::Host,
        ..OpRow::new("CastText", None, &[one("input")], cast_infer, Meaning::Composite(cast_build))
    },
    host(
        "TextConcat",
        &[one("a"), one("b")],
        |cx| elementwise(cx, DType::Text),
        &["TextConcat(text[4], text[4])"],
    ),
    host(
        "TextCase",
        &[one("x"), one("mode")],
        |cx| elementwise(cx, DType::Text),
        &["TextCase(text[4], i64[1] = [2])", "TextCase(text[2,2], i64[1] = [1])"],
    ),
    host("TextRank", &[one("x")], |cx| elementwise(cx, DType::I64), &["TextRank(text[2,4])"]),
    host(
        "TextPieces",
        &[one("x"), one("separator"), one("limit")],
        |cx| elementwise(cx, DType::I64),
        &["TextPieces(text[4], text[1] = [\"b\"], i64[1] = [-1])"],
    ),
    host(
        "TextSplit",
        &[one("x"), one("separator"), one("limit"), one("size").known()],
        |cx| {
            let mut shape = cx.shape(0)?.to_vec();
            shape.extend(target(cx, 3, "size")?);
            Ok(vec![TensorType::new(DType::Text, shape).into()])
        },
        &["TextSplit(text[4], text[1] = [\"\"], i64[1] = [-1], i64[1] = [2])"],
    ),
    host(
        "TextMatches",
        &[one("x"), one("pattern")],
        |cx| elementwise(cx, DType::Bool),
        &["TextMatches(text[5], text[1] = [\"[a-b]+\"])"],
    ),
    host("TextOfInt", &[one("x")], |cx| written(cx, DType::I64), &["TextOfInt(i64[4])"]),
    host(
        "TextOfFloat32",
        &[one("x")],
        |cx| written(cx, DType::F64),
        &["TextOfFloat32(f64[2] = [0.5, -2.0])"],
    ),
    host("TextOfFloat64", &[one("x")], |cx| written(cx, DType::F64), &["TextOfFloat64(f64[2] = [0.1, nan])"]),
    host(
        "TextToFloat",
        &[one("x")],
        |cx| elementwise(cx, DType::F64),
        &["TextToFloat(text[2] = [\"0.1\", \"-INF\"])"],
    ),
    host("TextToInt", &[one("x")], |cx| elementwise(cx, DType::I64), &["TextToInt(text[1] = [\"-17\"])"]),
];

/// A constant of one text.
pub(super) fn word(b: &mut Builder<'_>, text: &str) -> Value {
    b.constant(Tensor::texts(&[1], &[text]))
}

fn number(b: &mut Builder<'_>, n: i64) -> Value {
    b.constant(Tensor::new(&[1], &[n]))
}

/// One result of that element type and the shape of the first operand, which has texts.
fn elementwise(cx: &Cx<'_>, dtype: DType) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, TEXT)?;
    Ok(vec![TensorType::new(dtype, cx.shape(0)?.to_vec()).into()])
}

/// Texts of the first operand's shape, which has numbers of that type.
fn written(cx: &Cx<'_>, from: DType) -> Result<Vec<Info>, String> {
    if cx.dtype(0)? != from {
        return Err(format!("input 0 is {}, expected elements of {from}", cx.ty(0)?));
    }
    Ok(vec![TensorType::new(DType::Text, cx.shape(0)?.to_vec()).into()])
}

fn concat_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (Some(x), Some(y)) = (operand(inputs, 0), operand(inputs, 1)) else { return Ok(None) };
    let whole = rules::broadcast(cx)?;
    let mut parts = [x, y];
    for (i, part) in parts.iter_mut().enumerate() {
        // The function sees operands of the result's shape.
        if cx.shape(i)? != whole {
            let other = b.op("Shape", &[if i == 0 { y } else { x }], vec![])?;
            *part = b.op("Expand", &[*part, other], vec![])?;
        }
    }
    Ok(Some(vec![b.op("TextConcat", &parts, vec![])?]))
}

fn split_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, TEXT)?;
    let counts = TensorType::new(DType::I64, cx.shape(0)?.to_vec());
    let mut pieces = TensorType::new(DType::Text, cx.shape(0)?.to_vec());
    pieces.shape.push((cx.fresh)().into());
    Ok(vec![pieces.into(), counts.into()])
}

/// The pieces of all texts are counted first, since the largest count is a size of the result.
fn split_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let separator = word(b, cx.attrs.str("delimiter").unwrap_or_default());
    let limit = number(b, cx.attrs.int("maxsplit").unwrap_or(-1));
    let counts = b.op("TextPieces", &[x, separator, limit], vec![])?;
    let (list, none) = (number(b, -1), number(b, 0));
    let all = b.op("Reshape", &[counts, list], vec![])?;
    let all = b.op("Concat", &[all, none], vec![("axis", Attr::Int(0))])?;
    let most = b.op("ReduceMax", &[all, none], vec![("keepdims", Attr::Int(1))])?;
    let pieces = b.op("TextSplit", &[x, separator, limit, most], vec![])?;
    Ok(Some(vec![pieces, counts]))
}

/// A StringNormalizer's stop words, if there are any.
fn stopwords<'a>(cx: &'a Cx<'_>) -> Option<&'a [String]> {
    cx.attrs.strs("stopwords").filter(|all| !all.is_empty())
}

fn normal_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, TEXT)?;
    let mut shape = cx.shape(0)?.to_vec();
    match &mut shape[..] {
        [size] => remaining(cx, size),
        [one, size] if one.as_const().is_none_or(|n| n == 1) => remaining(cx, size),
        _ => return Err(format!("input 0 is {}, expected a shape [C] or [1, C]", cx.ty(0)?)),
    }
    Ok(vec![TensorType::new(DType::Text, shape).into()])
}

fn remaining(cx: &Cx<'_>, size: &mut Expr) {
    if stopwords(cx).is_some() {
        *size = (cx.fresh)().into();
    }
}

/// Where nothing remains, the result is one empty text.
fn normal_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(mut x) = operand(inputs, 0) else { return Ok(None) };
    let case = |b: &mut Builder<'_>, x: Value, mode: i64| {
        let mode = number(b, mode);
        b.op("TextCase", &[x, mode], vec![])
    };
    let axis = cx.ty(0)?.rank() as i64 - 1;
    if let Some(words) = stopwords(cx) {
        let sensitive = cx.attrs.flag("is_case_sensitive");
        let words: Vec<String> =
            words.iter().map(|w| if sensitive { w.clone() } else { w.to_lowercase() }).collect();
        let compared = if sensitive { x } else { case(b, x, 1)? };
        let (words, list) = (b.constant(Tensor::texts(&[words.len()], &words)), number(b, -1));
        let compared = b.op("Reshape", &[compared, list], vec![])?;
        let compared = b.op("Unsqueeze", &[compared, list], vec![])?;
        let equal = b.op("Equal", &[compared, words], vec![])?;
        let equal = b.op("Cast", &[equal], vec![("to", Attr::DType(DType::I32))])?;
        let stopped = b.op("ReduceMax", &[equal, list], vec![("keepdims", Attr::Int(0))])?;
        let none = b.constant(Tensor::new(&[1], &[0i32]));
        let kept = b.op("Equal", &[stopped, none], vec![])?;
        let kept = b.op("Compress", &[x, kept], vec![("axis", Attr::Int(axis))])?;
        let ends = vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))];
        let (size, least) = (b.op("Shape", &[kept], ends)?, number(b, 1));
        let size = b.op("Max", &[size, least], vec![])?;
        x = b.op("Fit", &[kept, size], vec![("axes", Attr::Ints(vec![axis]))])?;
    }
    match cx.attrs.str("case_change_action") {
        Some("LOWER") => x = case(b, x, 1)?,
        Some("UPPER") => x = case(b, x, 2)?,
        Some("NONE") => {}
        other => return Err(format!("case_change_action is {other:?}, expected LOWER, UPPER or NONE")),
    }
    Ok(Some(vec![x]))
}

fn cast_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (from, to) = (cx.dtype(0)?, cx.attrs.dtype("to").ok_or("attribute to is missing")?);
    match (from, to) {
        (DType::Text, DType::Text) => {}
        (DType::Text, t) | (t, DType::Text) => rules::expect("the number", t, rules::COMPUTED)?,
        _ => return Err(format!("found {from} and {to}, expected a text on one side")),
    }
    Ok(vec![TensorType::new(to, cx.shape(0)?.to_vec()).into()])
}

/// A conversion between texts and numbers, through the widest numbers.
fn cast_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let (from, to) = (cx.dtype(0)?, cx.attrs.dtype("to").unwrap_or(DType::Text));
    let cast = super::compose::cast;
    Ok(Some(vec![match (from, to) {
        (DType::Text, DType::Text) => x,
        (DType::Text, to) => {
            let read = if to.is_float() { "TextToFloat" } else { "TextToInt" };
            let read = b.op(read, &[x], vec![])?;
            cast(b, read, to)?
        }
        (DType::Bool, _) => {
            let [yes, no] = ["True", "False"].map(|t| word(b, t));
            let whole = b.op("Shape", &[x], vec![])?;
            let [yes, no] = [b.op("Expand", &[yes, whole], vec![])?, b.op("Expand", &[no, whole], vec![])?];
            b.op("Where", &[x, yes, no], vec![])?
        }
        (from, _) if from.is_float() => {
            let write = if from == DType::F64 { "TextOfFloat64" } else { "TextOfFloat32" };
            let x = cast(b, x, DType::F64)?;
            b.op(write, &[x], vec![])?
        }
        _ => {
            let x = cast(b, x, DType::I64)?;
            b.op("TextOfInt", &[x], vec![])?
        }
    }]))
}
