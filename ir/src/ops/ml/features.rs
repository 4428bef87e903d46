//! Features and labels made fit for models: picking, scaling, filling, encoding.

use super::linear::class_labels;
use super::{DOMAIN, constant, floats, integers, ints, list, reduced, tensor, widened};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::ops::compose::{Built, Inputs, cast, operand};
use crate::ops::rules::{self, INT, NUMBER, TEXT};
use crate::ops::{Meaning, OpRow, Port, Tolerance, many, one};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::strings;
use crate::tensor::Tensor;
use crate::types::TensorType;

const INPUT: &[Port] = &[one("X")];

const fn row(
    name: &'static str,
    since: i64,
    infer: fn(&Cx<'_>) -> Result<Vec<Info>, String>,
    meaning: Meaning,
) -> OpRow {
    OpRow::new(name, Some((DOMAIN, since)), INPUT, infer, meaning)
}

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        inputs: &[one("X"), one("Y")],
        samples: &[
            "ArrayFeatureExtractor(f32[3,4], i64[1,2] = [3, 1])",
            "ArrayFeatureExtractor(i32[5], i64[3] in 0..5)",
        ],
        ..row("ArrayFeatureExtractor", 1, extract_infer, Meaning::Composite(extract_build))
    },
    OpRow {
        attrs: &[AttrSpec::new("threshold", AttrKind::Float, Default::Float(0.0))],
        samples: &["Binarizer(f32[3,4]) {threshold = 0.5}", "Binarizer(i64[5])"],
        ..row(
            "Binarizer",
            1,
            rules::same_as_first::<NUMBER>,
            Meaning::Pointwise(|cx, t| {
                let limit = t[0].lit(cx.attrs.float("threshold").unwrap_or(0.0));
                t[0].binary(S::Gt, &limit).cast(t[0].dtype())
            }),
        )
    },
    OpRow {
        attrs: &[
            floats("imputed_value_floats"),
            ints("imputed_value_int64s"),
            AttrSpec::new("replaced_value_float", AttrKind::Float, Default::Float(0.0)),
            AttrSpec::new("replaced_value_int64", AttrKind::Int, Default::Int(0)),
        ],
        samples: &[
            "Imputer(i64[3,2]) {imputed_value_int64s = [7, 8], replaced_value_int64 = 1}",
            "Imputer(f32[2,3] = [0.0, 1.0, 2.0, 3.0, 0.0, 1.0]) {imputed_value_floats = [0.5]}",
        ],
        ..row("Imputer", 1, rules::same_as_first::<NUMBER>, Meaning::Composite(impute_build))
    },
    OpRow {
        attrs: &[floats("offset"), floats("scale")],
        tolerance: Tolerance::Ulps(2),
        samples: &[
            "Scaler(f32[2,3]) {offset = [1.0, 2.0, 3.0], scale = [0.5, 2.0, 4.0]}",
            "Scaler(i64[3]) {offset = [1.0], scale = [0.5]}",
        ],
        ..row("Scaler", 1, f32_infer, Meaning::Composite(scale_build))
    },
    OpRow {
        attrs: &[AttrSpec::new("norm", AttrKind::Str, Default::Str("MAX"))],
        tolerance: Tolerance::Largest(64.0),
        samples: &[
            "Normalizer(f32[3,4])",
            "Normalizer(i64[2,3]) {norm = \"L1\"}",
            "Normalizer(f64[5]) {norm = \"L2\"}",
            "Normalizer(f32[2,2] = [0.0, 0.0, 1.0, 0.0]) {norm = \"L2\"}",
        ],
        ..row("Normalizer", 1, f32_infer, Meaning::Composite(normalize_build))
    },
    OpRow {
        inputs: &[many("X")],
        attrs: &[ints("inputdimensions")],
        samples: &[
            "FeatureVectorizer(f32[2,2], i32[2,3]) {inputdimensions = [3, 2]}",
            "FeatureVectorizer(f64[3]) {inputdimensions = [3]}",
        ],
        ..row("FeatureVectorizer", 1, vectorize_infer, Meaning::Composite(vectorize_build))
    },
    OpRow {
        attrs: &[
            ints("cats_int64s"),
            AttrSpec::new("cats_strings", AttrKind::Strs, Default::Absent),
            AttrSpec::new("zeros", AttrKind::Int, Default::Int(1)),
        ],
        samples: &[
            "OneHotEncoder(i64[5] in 0..5) {cats_int64s = [1, 3, 4]}",
            "OneHotEncoder(f32[2,3] in 0..4) {cats_int64s = [0, 2]}",
            "OneHotEncoder(text[2,3]) {cats_strings = [\"b\", \"a\"]}",
        ],
        ..row("OneHotEncoder", 1, one_hot_infer, Meaning::Composite(one_hot_build))
    },
    OpRow {
        attrs: &[
            floats("keys_floats"),
            ints("keys_int64s"),
            AttrSpec::new("keys_strings", AttrKind::Strs, Default::Absent),
            tensor("keys_tensor"),
            floats("values_floats"),
            ints("values_int64s"),
            AttrSpec::new("values_strings", AttrKind::Strs, Default::Absent),
            tensor("values_tensor"),
            AttrSpec::new("default_float", AttrKind::Float, Default::Float(-0.0)),
            AttrSpec::new("default_int64", AttrKind::Int, Default::Int(-1)),
            AttrSpec::new("default_string", AttrKind::Str, Default::Str("_Unused")),
            tensor("default_tensor"),
        ],
        samples: &[
            "LabelEncoder(i64[2,4] in 0..5) {keys_int64s = [1, 3, 1], values_floats = [0.5, 0.25, 4.0]}",
            "LabelEncoder(f32[3] = [1.0, 2.5, 7.0]) {keys_floats = [2.5, 1.0], values_int64s = [5, 6]}",
            "LabelEncoder(text[2,3]) {keys_strings = [\"b\", \"\"], values_floats = [0.5, 2.0]}",
            "LabelEncoder(i64[6] in 0..4) {keys_int64s = [1, 2], values_strings = [\"one\", \"two\"]}",
        ],
        ..row("LabelEncoder", 4, label_infer, Meaning::Composite(label_build))
    },
    OpRow {
        attrs: &[
            ints("cats_int64s"),
            AttrSpec::new("cats_strings", AttrKind::Strs, Default::Required),
            AttrSpec::new("default_int64", AttrKind::Int, Default::Int(-1)),
            AttrSpec::new("default_string", AttrKind::Str, Default::Str("_Unused")),
        ],
        samples: &[
            "CategoryMapper(text[2,3]) {cats_int64s = [7, 8], cats_strings = [\"a\", \"b\"]}",
            "CategoryMapper(i64[5] in 6..9) {cats_int64s = [7, 8], cats_strings = [\"a\", \"b\"]}",
        ],
        ..row("CategoryMapper", 1, category_infer, Meaning::Composite(category_build))
    },
];

/// Floats of the operand's shape.
fn f32_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, NUMBER)?;
    Ok(vec![TensorType::new(DType::F32, cx.shape(0)?.to_vec()).into()])
}

fn extract_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, at) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 1 (Y)", at.dtype, INT)?;
    let Some((_, lead)) = x.shape.split_last() else { return Err("input 0 has no dimension".into()) };
    let mut shape = if lead.is_empty() { vec![Expr::ONE] } else { lead.to_vec() };
    shape.push(Expr::product(&at.shape));
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn extract_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (Some(x), Some(at)) = (operand(inputs, 0), operand(inputs, 1)) else { return Ok(None) };
    let flat = list(b, &[-1]);
    let at = b.op("Reshape", &[at, flat], vec![])?;
    let mut result = b.op("Gather", &[x, at], vec![("axis", Attr::Int(-1))])?;
    if cx.shape(0)?.len() == 1 {
        let first = list(b, &[0]);
        result = b.op("Unsqueeze", &[result, first], vec![])?;
    }
    Ok(Some(vec![result]))
}

fn impute_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let dtype = cx.dtype(0)?;
    let values: Vec<f64> = match dtype.is_float() {
        true => cx.attrs.floats("imputed_value_floats").unwrap_or_default().to_vec(),
        false => integers(cx, "imputed_value_int64s").iter().map(|v| *v as f64).collect(),
    };
    if values.is_empty() {
        return Err(format!("no values are given that replace others of {dtype}"));
    }
    let replaced = cx.attrs.float("replaced_value_float").unwrap_or(0.0);
    let missing = if dtype.is_float() && replaced.is_nan() {
        b.op("IsNaN", &[x], vec![])?
    } else {
        let value =
            if dtype.is_float() { Scalar::F(replaced) } else { Scalar::I(cx.int("replaced_value_int64")) };
        let value = b.constant(Tensor::scalar(dtype, value));
        b.op("Equal", &[x, value], vec![])?
    };
    let values = constant(b, dtype, &[values.len()], &values);
    Ok(Some(vec![b.op("Where", &[missing, values, x], vec![])?]))
}

fn scale_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let mut x = widened(b, x)?;
    let dtype = b.ty(x)?.dtype;
    for (name, op) in [("offset", "Sub"), ("scale", "Mul")] {
        let values = cx.attrs.floats(name).unwrap_or_default();
        if !values.is_empty() {
            let values = constant(b, dtype, &[values.len()], values);
            x = b.op(op, &[x, values], vec![])?;
        }
    }
    Ok(Some(vec![cast(b, x, DType::F32)?]))
}

/// Rows divided by their norm, which of a zero one is taken to be 1.
fn normalize_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let x = widened(b, x)?;
    let norm = match cx.attrs.str("norm") {
        Some("MAX") => reduced(b, "ReduceMax", x, -1, true)?,
        Some("L1") => reduced(b, "ReduceL1", x, -1, true)?,
        Some("L2") => reduced(b, "ReduceL2", x, -1, true)?,
        other => return Err(format!("norm is {other:?}, expected MAX, L1 or L2")),
    };
    let dtype = b.ty(x)?.dtype;
    let (zero, unit) = (super::number(b, dtype, 0.0), super::number(b, dtype, 1.0));
    let none = b.op("Equal", &[norm, zero], vec![])?;
    let norm = b.op("Where", &[none, unit, norm], vec![])?;
    let result = b.op("Div", &[x, norm], vec![])?;
    Ok(Some(vec![cast(b, result, DType::F32)?]))
}

/// The columns that each operand is cut or filled up to.
fn widths<'a>(cx: &'a Cx<'_>) -> Result<&'a [i64], String> {
    let widths = integers(cx, "inputdimensions");
    match widths.len() == cx.inputs.len() && widths.iter().all(|w| *w > 0) {
        true => Ok(widths),
        false => Err(format!("inputdimensions is {widths:?}, expected {} positive numbers", cx.inputs.len())),
    }
}

fn vectorize_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    for i in 0..cx.inputs.len() {
        let t = cx.ty(i)?;
        rules::expect("an input", t.dtype, NUMBER)?;
        if !(1..=2).contains(&t.rank()) {
            return Err(format!("input {i} is {t}, expected one or two dimensions"));
        }
    }
    let first = cx.shape(0)?;
    let rows = if first.len() == 1 { Expr::ONE } else { first[0].clone() };
    let columns = widths(cx)?.iter().fold(Expr::ZERO, |n, w| n + *w);
    Ok(vec![TensorType::new(DType::F32, [rows, columns]).into()])
}

fn vectorize_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (mut parts, first) = (Vec::new(), list(b, &[0]));
    for (i, width) in widths(cx)?.iter().enumerate() {
        let Some(x) = operand(inputs, i) else { return Ok(None) };
        let mut x = cast(b, x, DType::F32)?;
        if cx.shape(i)?.len() == 1 {
            x = b.op("Unsqueeze", &[x, first], vec![])?;
        }
        if b.ty(x)?.shape[1] != *width {
            let width = list(b, &[*width]);
            x = b.op("Fit", &[x, width], vec![("axes", Attr::Ints(vec![1]))])?;
        }
        parts.push(x);
    }
    Ok(Some(vec![b.op("Concat", &parts, vec![("axis", Attr::Int(1))])?]))
}

/// A OneHotEncoder's categories.
fn categories(cx: &Cx<'_>) -> Result<Tensor, String> {
    class_labels(cx, "cats_int64s", "cats_strings")
}

fn one_hot_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let categories = categories(cx)?;
    match categories.dtype() {
        DType::Text => rules::expect("input 0", cx.dtype(0)?, TEXT)?,
        _ => rules::expect("input 0", cx.dtype(0)?, NUMBER)?,
    }
    let mut shape = cx.shape(0)?.to_vec();
    shape.push(categories.len().into());
    Ok(vec![TensorType::new(DType::F32, shape).into()])
}

fn one_hot_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let categories = categories(cx)?;
    let x = cast(b, x, categories.dtype())?;
    let (last, classes) = (list(b, &[-1]), b.constant(categories));
    let x = b.op("Unsqueeze", &[x, last], vec![])?;
    let equal = b.op("Equal", &[x, classes], vec![])?;
    Ok(Some(vec![cast(b, equal, DType::F32)?]))
}

/// One list of a LabelEncoder, whichever attribute gives it.
fn labels(cx: &Cx<'_>, what: &str) -> Result<Tensor, String> {
    if let Some(t) = cx.attrs.tensor(&format!("{what}_tensor")) {
        return Ok(t.reshaped(&[t.len()]));
    }
    if let Some(v) = cx.attrs.floats(&format!("{what}_floats")).filter(|v| !v.is_empty()) {
        return Ok(Tensor::from_f64s(DType::F32, &[v.len()], v));
    }
    class_labels(cx, &format!("{what}_int64s"), &format!("{what}_strings"))
}

fn label_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (keys, values) = (labels(cx, "keys")?, labels(cx, "values")?);
    if keys.dtype() != cx.dtype(0)? || keys.len() != values.len() {
        return Err(format!("{} with keys {keys:?} and values {values:?}", cx.ty(0)?));
    }
    Ok(vec![TensorType::new(values.dtype(), cx.shape(0)?.to_vec()).into()])
}

fn label_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let (keys, values) = (labels(cx, "keys")?, labels(cx, "values")?);
    let default = match cx.attrs.tensor("default_tensor") {
        Some(t) if t.len() == 1 => t.get(0),
        _ if values.dtype() == DType::Text => {
            Scalar::I(strings::number_of(cx.attrs.str("default_string").unwrap_or_default()))
        }
        _ if values.dtype().is_float() => Scalar::F(cx.attrs.float("default_float").unwrap_or(-0.0)),
        _ => Scalar::I(cx.int("default_int64")),
    };
    looked_up(b, x, keys, &values, default)
}

/// The value of the first key that equals an element, or the default.
fn looked_up(b: &mut Builder<'_>, x: Value, keys: Tensor, values: &Tensor, default: Scalar) -> Built {
    let count = keys.len() as i64;
    let table = Tensor::from_scalars(values.dtype(), &[values.len() + 1], values.scalars().chain([default]));
    let (keys, table) = (b.constant(keys), b.constant(table));
    let positions: Vec<i64> = (0..count).collect();
    let (last, positions, none) = (list(b, &[-1]), list(b, &positions), list(b, &[count]));
    let x = b.op("Unsqueeze", &[x, last], vec![])?;
    let equal = b.op("Equal", &[x, keys], vec![])?;
    let found: Value = b.op("Where", &[equal, positions, none], vec![])?;
    let at = reduced(b, "ReduceMin", found, -1, false)?;
    Ok(Some(vec![b.op("Gather", &[table, at], vec![])?]))
}

fn category_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let to = match cx.dtype(0)? {
        DType::Text => DType::I64,
        DType::I64 => DType::Text,
        other => return Err(format!("input 0 has elements of {other}, expected texts or i64")),
    };
    let (numbers, texts) = (integers(cx, "cats_int64s"), cx.attrs.strs("cats_strings").unwrap_or_default());
    match numbers.len() == texts.len() && !texts.is_empty() {
        true => Ok(vec![TensorType::new(to, cx.shape(0)?.to_vec()).into()]),
        false => Err(format!("{} cats_int64s and {} cats_strings", numbers.len(), texts.len())),
    }
}

fn category_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let numbers = class_labels(cx, "cats_int64s", "")?;
    let texts = class_labels(cx, "", "cats_strings")?;
    let word = strings::number_of(cx.attrs.str("default_string").unwrap_or_default());
    match cx.dtype(0)? {
        DType::Text => looked_up(b, x, texts, &numbers, Scalar::I(cx.int("default_int64"))),
        _ => looked_up(b, x, numbers, &texts, Scalar::I(word)),
    }
}
