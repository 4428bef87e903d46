//! Support vector machines: sums of kernel functions of a row and the support vectors (C. Chang and
//! C. Lin, "LIBSVM: a library for support vector machines", 2011).
//!
//! A classifier of `k` classes has a function for each pair of them, of which each votes for one.
//! Without support vectors, a machine is linear. Probabilities are given for two classes only.

use super::linear::{class_labels, classified, features, matrix, transposed};
use super::scores::{self, Second};
use super::{DOMAIN, POST_TRANSFORM, constant, floats, integers, ints, number, reduced};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::ops::compose::{Built, Inputs, cast, operand};
use crate::ops::{Meaning, OpRow, Tolerance, one};
use crate::tensor::Tensor;
use crate::types::TensorType;

const KERNEL: AttrSpec = AttrSpec::new("kernel_type", AttrKind::Str, Default::Str("LINEAR"));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            floats("coefficients"),
            floats("kernel_params"),
            KERNEL,
            AttrSpec::new("n_supports", AttrKind::Int, Default::Int(0)),
            AttrSpec::new("one_class", AttrKind::Int, Default::Int(0)),
            POST_TRANSFORM,
            floats("rho"),
            floats("support_vectors"),
        ],
        tolerance: Tolerance::Largest(256.0),
        samples: &[
            "SVMRegressor(f32[5,2]) {kernel_type = \"RBF\", kernel_params = [0.5, 0.0, 3.0], n_supports = 2, \
             support_vectors = [1.0, 2.0, 3.0, 4.0], coefficients = [0.5, -0.75], rho = [0.25]}",
            "SVMRegressor(f64[5,2]) {kernel_type = \"POLY\", kernel_params = [0.5, 0.25, 3.0], n_supports = 2, \
             support_vectors = [1.0, 2.0, 3.0, 4.0], coefficients = [0.5, -0.75], rho = [0.25]}",
            "SVMRegressor(f32[5,2]) {coefficients = [0.5, -0.75], rho = [0.25], one_class = 1}",
        ],
        ..OpRow::new(
            "SVMRegressor",
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
            floats("coefficients"),
            floats("kernel_params"),
            KERNEL,
            POST_TRANSFORM,
            floats("prob_a"),
            floats("prob_b"),
            floats("rho"),
            floats("support_vectors"),
            ints("vectors_per_class"),
        ],
        tolerance: Tolerance::Largest(256.0),
        samples: &[
            "SVMClassifier(f32[5,2]) {kernel_type = \"RBF\", kernel_params = [0.5, 0.0, 3.0], \
             support_vectors = [1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 0.5], vectors_per_class = [2, 2], \
             coefficients = [0.5, 0.75, -0.5, -1.0], rho = [0.25], classlabels_ints = [5, 6], \
             post_transform = \"LOGISTIC\"} -> 2",
            "SVMClassifier(f32[4,2]) {kernel_type = \"LINEAR\", support_vectors = [1.0, 2.0, -1.0, 0.0], \
             vectors_per_class = [1, 1], coefficients = [0.5, -0.5], rho = [0.25], classlabels_ints = [5, 6], \
             prob_a = [-1.5], prob_b = [0.25]} -> 2",
            "SVMClassifier(f64[5,2]) {kernel_type = \"SIGMOID\", kernel_params = [0.5, 0.125, 3.0], \
             support_vectors = [1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 0.5], vectors_per_class = [2, 1, 1], \
             coefficients = [0.5, 0.75, -0.5, -1.0, 0.25, 0.125, -1.0, 0.5], rho = [0.25, -0.125, 0.5], \
             classlabels_ints = [5, 6, 9], post_transform = \"SOFTMAX\"} -> 2",
            "SVMClassifier(f32[5,2]) {coefficients = [0.5, 0.75, -0.5, -1.0, 0.25, 0.125], rho = [0.25], \
             classlabels_ints = [5, 6, 9]} -> 2",
        ],
        ..OpRow::new(
            "SVMClassifier",
            Some((DOMAIN, 1)),
            &[one("X")],
            classifier_infer,
            Meaning::Composite(classifier_build),
        )
    },
];

fn given<'a>(cx: &'a Cx<'_>, name: &str) -> &'a [f64] {
    cx.attrs.floats(name).unwrap_or_default()
}

/// The kernel function of every row with every support vector, `[rows, vectors]`.
fn kernel(cx: &Cx<'_>, b: &mut Builder<'_>, x: Value, vectors: usize) -> Result<Value, String> {
    let (table, dtype) = (given(cx, "support_vectors"), b.ty(x)?.dtype);
    let parameter = |i: usize| given(cx, "kernel_params").get(i).copied().unwrap_or(0.0);
    let (gamma, offset) = (number(b, dtype, parameter(0)), number(b, dtype, parameter(1)));
    let scaled = |b: &mut Builder<'_>| {
        let vectors = transposed(b, dtype, table, vectors);
        let product = b.op("MatMul", &[x, vectors], vec![])?;
        let scaled = b.op("Mul", &[product, gamma], vec![])?;
        b.op("Add", &[scaled, offset], vec![])
    };
    match cx.attrs.str("kernel_type") {
        Some("LINEAR") => {
            let vectors = transposed(b, dtype, table, vectors);
            b.op("MatMul", &[x, vectors], vec![])
        }
        Some("POLY") => {
            let (base, degree) = (scaled(b)?, number(b, dtype, parameter(2).trunc()));
            b.op("Pow", &[base, degree], vec![])
        }
        Some("SIGMOID") => {
            let x = scaled(b)?;
            b.op("Tanh", &[x], vec![])
        }
        Some("RBF") => {
            let vectors = constant(b, dtype, &[vectors, table.len() / vectors], table);
            let middle = super::list(b, &[1]);
            let x = b.op("Unsqueeze", &[x, middle], vec![])?;
            let apart = b.op("Sub", &[x, vectors], vec![])?;
            let square = reduced(b, "ReduceSumSquare", apart, -1, false)?;
            let scaled = b.op("Mul", &[square, gamma], vec![])?;
            let least = b.op("Neg", &[scaled], vec![])?;
            b.op("Exp", &[least], vec![])
        }
        other => Err(format!("kernel_type is {other:?}, expected LINEAR, POLY, RBF or SIGMOID")),
    }
}

/// Checks that so many support vectors fit the features, and gives their number.
fn supports(cx: &Cx<'_>, count: i64) -> Result<usize, String> {
    let (table, width) = (given(cx, "support_vectors").len(), features(cx)?.1.as_const());
    let count = usize::try_from(count).map_err(|_| format!("{count} support vectors"))?;
    let fits = |c: usize| table % c == 0 && width.is_none_or(|w| table as i64 == w * c as i64);
    match count == 0 || fits(count) {
        true => Ok(count),
        false => Err(format!("{table} numbers of {count} support vectors for {}", cx.ty(0)?)),
    }
}

fn regressor_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (rows, width) = features(cx)?;
    let count = supports(cx, cx.int("n_supports"))?;
    let (found, rho) = (given(cx, "coefficients").len(), given(cx, "rho").len());
    let fits = if count > 0 { found == count } else { width.as_const().is_none_or(|w| w == found as i64) };
    if !fits || rho != 1 || cx.attrs.str("post_transform") != Some("NONE") {
        return Err(format!(
            "{found} coefficients, {rho} rho and the post_transform {:?} for {}",
            cx.attrs.str("post_transform"),
            cx.ty(0)?
        ));
    }
    Ok(vec![TensorType::new(DType::F32, [rows, Expr::ONE]).into()])
}

fn regressor_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let x = matrix(b, x)?;
    let (dtype, count) = (b.ty(x)?.dtype, supports(cx, cx.int("n_supports"))?);
    let terms = if count > 0 { kernel(cx, b, x, count)? } else { x };
    let coefficients = transposed(b, dtype, given(cx, "coefficients"), 1);
    let product = b.op("MatMul", &[terms, coefficients], vec![])?;
    let rho = number(b, dtype, given(cx, "rho")[0]);
    let mut result = b.op("Add", &[product, rho], vec![])?;
    if cx.attrs.flag("one_class") {
        let [zero, inside, outside] = [0.0, 1.0, -1.0].map(|v| number(b, dtype, v));
        let above = b.op("Greater", &[result, zero], vec![])?;
        result = b.op("Where", &[above, inside, outside], vec![])?;
    }
    Ok(Some(vec![cast(b, result, DType::F32)?]))
}

/// A classifier's shape.
struct Machine {
    labels: Tensor,
    /// The pairs of classes, none for a linear machine.
    pairs: Vec<(usize, usize)>,
    vectors: usize,
    probabilities: bool,
}

impl Machine {
    fn of(cx: &Cx<'_>) -> Result<Machine, String> {
        let labels = class_labels(cx, "classlabels_ints", "classlabels_strings")?;
        let (k, per_class) = (labels.len(), integers(cx, "vectors_per_class"));
        let total = per_class.iter().try_fold(0i64, |sum, n| if *n < 0 { None } else { sum.checked_add(*n) });
        let vectors = supports(cx, total.unwrap_or(-1))?;
        let pairs: Vec<(usize, usize)> = match vectors {
            0 => Vec::new(),
            _ => (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j))).collect(),
        };
        let probabilities = vectors > 0 && !given(cx, "prob_a").is_empty();
        if probabilities && k != 2 {
            return Err(format!("probabilities of {k} classes are not supported, expected 2 classes"));
        }
        let (coefficients, rho) = (given(cx, "coefficients").len(), given(cx, "rho").len());
        let fits = match vectors {
            0 => rho == 1 && coefficients % k == 0,
            _ => rho == pairs.len() && per_class.len() == k && coefficients == (k - 1) * vectors,
        };
        let fits = fits && (!probabilities || given(cx, "prob_a").len() == given(cx, "prob_b").len());
        match fits && k > 1 {
            true => Ok(Machine { labels, pairs, vectors, probabilities }),
            false => Err(format!(
                "{coefficients} coefficients and {rho} rho for {k} classes and {vectors} support vectors"
            )),
        }
    }

    /// How many scores a row has.
    fn scores(&self) -> usize {
        if self.vectors == 0 || self.labels.len() == 2 { self.labels.len() } else { self.pairs.len() }
    }

    /// The pairs' functions as a matrix of coefficients, by pair and support vector.
    fn coefficients(&self, cx: &Cx<'_>) -> Vec<f64> {
        let (given, per_class) = (given(cx, "coefficients"), integers(cx, "vectors_per_class"));
        let start = |class: usize| per_class[..class].iter().sum::<i64>() as usize;
        let mut out = vec![0.0; self.pairs.len() * self.vectors];
        for (p, (i, j)) in self.pairs.iter().enumerate() {
            for (class, row) in [(*i, j - 1), (*j, *i)] {
                for v in start(class)..start(class) + per_class[class] as usize {
                    out[p * self.vectors + v] = given[row * self.vectors + v];
                }
            }
        }
        out
    }

    /// The label that gets most votes: a pair's function above 0 votes for its first class.
    fn elected(&self, b: &mut Builder<'_>, scores: Value) -> Result<Value, String> {
        let (dtype, k) = (b.ty(scores)?.dtype, self.labels.len());
        let (mut first, mut second) = (vec![0.0; k * self.pairs.len()], vec![0.0; k]);
        for (p, (i, j)) in self.pairs.iter().enumerate() {
            first[p * k + i] = 1.0;
            first[p * k + j] = -1.0;
            second[*j] += 1.0;
        }
        let zero = number(b, dtype, 0.0);
        let above = b.op("Greater", &[scores, zero], vec![])?;
        let above = cast(b, above, dtype)?;
        let first = constant(b, dtype, &[self.pairs.len(), k], &first);
        let second = constant(b, dtype, &[k], &second);
        let votes = b.op("MatMul", &[above, first], vec![])?;
        let votes = b.op("Add", &[votes, second], vec![])?;
        scores::greatest(b, votes, self.labels.clone())
    }
}

fn classifier_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (rows, _) = features(cx)?;
    let machine = Machine::of(cx)?;
    Ok(classified(cx, rows, &machine.labels, machine.scores()))
}

fn classifier_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let (machine, x) = (Machine::of(cx)?, matrix(b, x)?);
    let (dtype, transform) = (b.ty(x)?.dtype, cx.attrs.str("post_transform").unwrap_or("NONE"));
    let (terms, table, columns) = match machine.vectors {
        0 => (x, given(cx, "coefficients").to_vec(), machine.labels.len()),
        n => (kernel(cx, b, x, n)?, machine.coefficients(cx), machine.pairs.len()),
    };
    let table = transposed(b, dtype, &table, columns);
    let rho = constant(b, dtype, &[given(cx, "rho").len()], given(cx, "rho"));
    let product = b.op("MatMul", &[terms, table], vec![])?;
    let scores = b.op("Add", &[product, rho], vec![])?;
    let label = match machine.vectors {
        0 => scores::greatest(b, scores, machine.labels.clone())?,
        _ => machine.elected(b, scores)?,
    };
    let scores = if machine.probabilities {
        let both = probabilities(cx, b, scores)?;
        scores::transformed(b, both, transform)?
    } else if machine.pairs.len() == 1 {
        let second = if transform == "NONE" { Second::Negation } else { Second::Complement };
        scores::both(b, scores, second, transform)?
    } else {
        scores::transformed(b, scores, transform)?
    };
    let scores = cast(b, scores, DType::F32)?;
    Ok(Some([label, scores].into_iter().take(cx.outputs).collect()))
}

/// The probabilities of two classes from their function, `[rows, 1]` (J. Platt, 1999), kept away from
/// 0 and 1.
fn probabilities(cx: &Cx<'_>, b: &mut Builder<'_>, score: Value) -> Result<Value, String> {
    let dtype = b.ty(score)?.dtype;
    let (slope, offset) = (given(cx, "prob_a")[0], given(cx, "prob_b")[0]);
    let [slope, offset, least, most, one] =
        [-slope, -offset, 1e-7, 1.0 - 1e-7, 1.0].map(|v| number(b, dtype, v));
    let scaled = b.op("Mul", &[score, slope], vec![])?;
    let shifted = b.op("Add", &[scaled, offset], vec![])?;
    let first = b.op("Sigmoid", &[shifted], vec![])?;
    let first = b.op("Max", &[first, least], vec![])?;
    let first = b.op("Min", &[first, most], vec![])?;
    let second = b.op("Sub", &[one, first], vec![])?;
    b.op("Concat", &[first, second], vec![("axis", Attr::Int(1))])
}
