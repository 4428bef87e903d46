//! Linear models: a product with coefficients, intercepts, and what is made of the scores.

use super::scores::{self, Second};
use super::{DOMAIN, POST_TRANSFORM, constant, floats, integers, ints, widened};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::ops::compose::{Built, Inputs, cast, operand};
use crate::ops::rules::{self, NUMBER};
use crate::ops::{Meaning, OpRow, Tolerance, one};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            AttrSpec::new("coefficients", AttrKind::Floats, Default::Required),
            floats("intercepts"),
            POST_TRANSFORM,
            AttrSpec::new("targets", AttrKind::Int, Default::Int(1)),
        ],
        tolerance: Tolerance::Largest(64.0),
        samples: &[
            "LinearRegressor(f32[3,2]) {coefficients = [0.5, -0.25], intercepts = [1.0]}",
            "LinearRegressor(f64[3,2]) {coefficients = [0.5, -0.25, 1.0, 2.0], targets = 2, post_transform = \"SOFTMAX\"}",
        ],
        ..OpRow::new(
            "LinearRegressor",
            Some((DOMAIN, 1)),
            &[one("X")],
            regressor_infer,
            Meaning::Composite(regressor_build),
        )
    },
    OpRow {
        outputs: (1, 2),
        attrs: &[
            ints("classlabels_ints"),
            AttrSpec::new("classlabels_strings", AttrKind::Strs, Default::Absent),
            AttrSpec::new("coefficients", AttrKind::Floats, Default::Required),
            floats("intercepts"),
            AttrSpec::new("multi_class", AttrKind::Int, Default::Int(0)),
            POST_TRANSFORM,
        ],
        tolerance: Tolerance::Largest(64.0),
        samples: &[
            "LinearClassifier(f32[5,2]) {classlabels_ints = [3, 4], coefficients = [0.5, -0.25], \
             intercepts = [0.125], post_transform = \"LOGISTIC\"} -> 2",
            "LinearClassifier(i64[4,2]) {classlabels_ints = [3, 4], coefficients = [0.5, -0.25]} -> 2",
            "LinearClassifier(f32[5,2]) {classlabels_ints = [3, 4, 7], \
             coefficients = [0.5, -0.25, 1.0, 0.75, -1.0, 0.0], intercepts = [0.125, 0.0, 0.5], \
             post_transform = \"SOFTMAX_ZERO\"} -> 2",
        ],
        ..OpRow::new(
            "LinearClassifier",
            Some((DOMAIN, 1)),
            &[one("X")],
            classifier_infer,
            Meaning::Composite(classifier_build),
        )
    },
];

/// The rows of features of a node's operand: their number, and how many features one has.
pub(super) fn features<'a>(cx: &'a Cx<'_>) -> Result<(Expr, &'a Expr), String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, NUMBER)?;
    match &x.shape[..] {
        [f] => Ok((Expr::ONE, f)),
        [n, f] => Ok((n.clone(), f)),
        _ => Err(format!("input 0 is {x}, expected [rows, features]")),
    }
}

/// The features as a matrix in a float type.
pub(super) fn matrix(b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let x = widened(b, x)?;
    if b.ty(x)?.rank() == 2 {
        return Ok(x);
    }
    let first = super::list(b, &[0]);
    b.op("Unsqueeze", &[x, first], vec![])
}

/// Columns of a table `[columns, rows]` as a constant matrix `[rows, columns]`.
pub(super) fn transposed(b: &mut Builder<'_>, dtype: DType, table: &[f64], columns: usize) -> Value {
    let rows = table.len() / columns.max(1);
    let at = |i: usize| table[i % columns * rows + i / columns];
    let values: Vec<f64> = (0..rows * columns).map(at).collect();
    constant(b, dtype, &[rows, columns], &values)
}

/// How many scores a row of features gets, of which the coefficients say `count`, where it is known.
fn score_count(cx: &Cx<'_>, count: Option<usize>) -> Result<usize, String> {
    let coefficients = cx.attrs.floats("coefficients").unwrap_or_default().len();
    let (_, width) = features(cx)?;
    let width = width.as_const().and_then(|w| usize::try_from(w).ok()).filter(|w| *w > 0);
    let count = match (count, width) {
        (Some(count), _) => count,
        (None, Some(width)) => coefficients / width,
        (None, None) => return Err("the number of features must be known when compiling".into()),
    };
    let fits =
        count > 0 && width.is_none_or(|w| w * count == coefficients) && coefficients.is_multiple_of(count);
    let intercepts = cx.attrs.floats("intercepts").unwrap_or_default().len();
    match fits && (intercepts == 0 || intercepts == count) {
        true => Ok(count),
        false => Err(format!(
            "{coefficients} coefficients and {intercepts} intercepts for {count} scores of {}",
            cx.ty(0)?
        )),
    }
}

/// `x * coefficients + intercepts`, as `[rows, scores]`.
fn product(cx: &Cx<'_>, b: &mut Builder<'_>, x: Value, count: usize) -> Result<Value, String> {
    let x = matrix(b, x)?;
    let dtype = b.ty(x)?.dtype;
    let coefficients = transposed(b, dtype, cx.attrs.floats("coefficients").unwrap_or_default(), count);
    let scores = b.op("MatMul", &[x, coefficients], vec![])?;
    match cx.attrs.floats("intercepts") {
        Some(v) if !v.is_empty() => {
            let v = constant(b, dtype, &[v.len()], v);
            b.op("Add", &[scores, v], vec![])
        }
        _ => Ok(scores),
    }
}

fn targets(cx: &Cx<'_>) -> Result<usize, String> {
    let targets = usize::try_from(cx.int("targets")).ok();
    score_count(cx, Some(targets.ok_or("targets is negative")?))
}

fn regressor_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Ok(vec![TensorType::new(DType::F32, [features(cx)?.0, targets(cx)?.into()]).into()])
}

fn regressor_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let scores = product(cx, b, x, targets(cx)?)?;
    let scores = scores::transformed(b, scores, cx.attrs.str("post_transform").unwrap_or("NONE"))?;
    Ok(Some(vec![cast(b, scores, DType::F32)?]))
}

/// A classifier's labels, integers or texts.
pub(super) fn class_labels(cx: &Cx<'_>, ints: &str, texts: &str) -> Result<Tensor, String> {
    match (integers(cx, ints), cx.attrs.strs(texts).unwrap_or_default()) {
        ([], []) => Err(format!("attributes {ints} and {texts} are missing, expected one of them")),
        (labels, []) => Ok(Tensor::new(&[labels.len()], labels)),
        ([], labels) => Ok(Tensor::texts(&[labels.len()], labels)),
        _ => Err(format!("found both of the attributes {ints} and {texts}, expected one of them")),
    }
}

/// A classifier's results: a label for each row, and its scores.
pub(super) fn classified(cx: &Cx<'_>, rows: Expr, labels: &Tensor, scores: usize) -> Vec<Info> {
    let label = TensorType::new(labels.dtype(), [rows.clone()]).into();
    let scores = TensorType::new(DType::F32, [rows, scores.into()]).into();
    [label, scores].into_iter().take(cx.outputs).collect()
}

/// The labels, and how many scores the coefficients give: one may stand for two classes.
fn classes(cx: &Cx<'_>) -> Result<(Tensor, usize), String> {
    let labels = class_labels(cx, "classlabels_ints", "classlabels_strings")?;
    let intercepts = cx.attrs.floats("intercepts").map(<[f64]>::len).filter(|n| *n > 0);
    let count = score_count(cx, intercepts)?;
    match count == labels.len() || (count == 1 && labels.len() == 2) {
        true => Ok((labels, count)),
        false => Err(format!("{count} scores for {} labels", labels.len())),
    }
}

fn classifier_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (rows, _) = features(cx)?;
    let labels = classes(cx)?.0;
    Ok(classified(cx, rows, &labels, labels.len()))
}

fn classifier_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let (labels, count) = classes(cx)?;
    let transform = cx.attrs.str("post_transform").unwrap_or("NONE");
    let scores = product(cx, b, x, count)?;
    let (label, scores) = match (labels.len(), count) {
        (2, 1) => {
            let label = scores::above(b, scores, 0.0, labels)?;
            (label, scores::both(b, scores, Second::Complement, transform)?)
        }
        _ => (scores::greatest(b, scores, labels)?, scores::transformed(b, scores, transform)?),
    };
    let scores = cast(b, scores, DType::F32)?;
    Ok(Some([label, scores].into_iter().take(cx.outputs).collect()))
}
