//! What classifiers and regressors do with their scores: post transforms, and the choice of a class.

use super::{list, number, reduced};
use crate::attr::Attr;
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;

/// How a classifier of two classes completes a single score `s`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// The scores are `1 - s` and `s`.
    Complement,
    /// The scores are `-s` and `s`.
    Negation,
}

/// Scores `[n, classes]` after the transform of that name.
pub(super) fn transformed(b: &mut Builder<'_>, scores: Value, name: &str) -> Result<Value, String> {
    match name {
        "NONE" => Ok(scores),
        "LOGISTIC" => b.op("Sigmoid", &[scores], vec![]),
        "SOFTMAX" => b.op("Softmax", &[scores], vec![("axis", Attr::Int(-1))]),
        "SOFTMAX_ZERO" => softmax_zero(b, scores),
        "PROBIT" => probit(b, scores),
        other => Err(format!(
            "post_transform is {other}, expected NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT"
        )),
    }
}

/// Softmax, with scores that are as good as 0 kept there.
fn softmax_zero(b: &mut Builder<'_>, scores: Value) -> Result<Value, String> {
    let dtype = b.ty(scores)?.dtype;
    let most = reduced(b, "ReduceMax", scores, -1, true)?;
    let (tiny, zero, half) = (number(b, dtype, 1e-7), number(b, dtype, 0.0), number(b, dtype, 0.5));
    let size = b.op("Abs", &[scores], vec![])?;
    let counts = b.op("Greater", &[size, tiny], vec![])?;
    let shifted = b.op("Sub", &[scores, most], vec![])?;
    let power = b.op("Exp", &[shifted], vec![])?;
    let least = b.op("Neg", &[most], vec![])?;
    let least = b.op("Exp", &[least], vec![])?;
    let small = b.op("Mul", &[scores, least], vec![])?;
    let terms = b.op("Where", &[counts, power, small], vec![])?;
    let sum = reduced(b, "ReduceSum", terms, -1, true)?;
    let none = b.op("Equal", &[sum, zero], vec![])?;
    let parts = b.op("Div", &[terms, sum], vec![])?;
    b.op("Where", &[none, half, parts], vec![])
}

/// The normal distribution's quantiles, by an inverse of the error function that is right to two or
/// three digits (S. Winitzki, "A handy approximation for the error function and its inverse", 2008).
fn probit(b: &mut Builder<'_>, scores: Value) -> Result<Value, String> {
    const A: f64 = 0.147;
    let dtype = b.ty(scores)?.dtype;
    let [one, two, root] = [1.0, 2.0, std::f64::consts::SQRT_2].map(|v| number(b, dtype, v));
    let [half, by, offset] = [0.5, 1.0 / A, 2.0 / (std::f64::consts::PI * A)].map(|v| number(b, dtype, v));
    let doubled = b.op("Mul", &[scores, two], vec![])?;
    let x = b.op("Sub", &[doubled, one], vec![])?;
    let (below, above) = (b.op("Sub", &[one, x], vec![])?, b.op("Add", &[one, x], vec![])?);
    let product = b.op("Mul", &[below, above], vec![])?;
    let log = b.op("Log", &[product], vec![])?;
    let halved = b.op("Mul", &[log, half], vec![])?;
    let v = b.op("Add", &[halved, offset], vec![])?;
    let (square, rest) = (b.op("Mul", &[v, v], vec![])?, b.op("Mul", &[log, by], vec![])?);
    let inner = b.op("Sub", &[square, rest], vec![])?;
    let inner = b.op("Sqrt", &[inner], vec![])?;
    let inner = b.op("Sub", &[inner, v], vec![])?;
    let size = b.op("Sqrt", &[inner], vec![])?;
    let sign = b.op("Sign", &[x], vec![])?;
    let size = b.op("Mul", &[size, root], vec![])?;
    b.op("Mul", &[size, sign], vec![])
}

/// The scores of two classes from those of one, `[n, 1]`. Transforms over several scores leave them
/// as they are, as ONNX Runtime does; LOGISTIC gives the probabilities of `-s` and `s`.
pub(super) fn both(
    b: &mut Builder<'_>,
    score: Value,
    second: Second,
    transform: &str,
) -> Result<Value, String> {
    let first = match (second, transform) {
        (_, "PROBIT") => return Err("PROBIT of a single score of two classes has no second one".into()),
        (Second::Negation, _) | (_, "LOGISTIC") => b.op("Neg", &[score], vec![])?,
        (Second::Complement, _) => {
            let dtype = b.ty(score)?.dtype;
            let one = number(b, dtype, 1.0);
            b.op("Sub", &[one, score], vec![])?
        }
    };
    let scores = b.op("Concat", &[first, score], vec![("axis", Attr::Int(1))])?;
    if transform == "LOGISTIC" { b.op("Sigmoid", &[scores], vec![]) } else { Ok(scores) }
}

/// The label of each row's greatest score.
pub(super) fn greatest(b: &mut Builder<'_>, scores: Value, labels: Tensor) -> Result<Value, String> {
    let attrs = vec![("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))];
    let at = b.op("ArgMax", &[scores], attrs)?;
    let labels = b.constant(labels);
    b.op("Gather", &[labels, at], vec![])
}

/// One of two labels for each row of scores `[n, 1]`: the second where the score is above a limit.
pub(super) fn above(b: &mut Builder<'_>, score: Value, limit: f64, labels: Tensor) -> Result<Value, String> {
    let dtype = b.ty(score)?.dtype;
    let (limit, last) = (number(b, dtype, limit), list(b, &[1]));
    let holds = b.op("Greater", &[score, limit], vec![])?;
    let holds = b.op("Squeeze", &[holds, last], vec![])?;
    let one = |i: usize| Tensor::from_scalars(labels.dtype(), &[1], [labels.get(i)]);
    let (no, yes) = (b.constant(one(0)), b.constant(one(1)));
    b.op("Where", &[holds, yes, no], vec![])
}
