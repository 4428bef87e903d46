//! Activation functions of one operand: scalar expressions in forms that stay accurate, so that a
//! result is within a few ULPs of the true value also where the textbook formula cancels or
//! overflows.
//!
//! The 16-bit floats are computed in `f32` and rounded once.

use super::Tolerance::{Exact, Sum, Ulps};
use super::pointwise::{INPUT, X, row, samples};
use super::rules::{self, FLOAT, NUMBER};
use super::{OpRow, Port, Tolerance, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::element::Term;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::ScalarOp as S;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

const fn float(name: &'static str, default: f64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Float, Default::Float(default))
}

/// An activation of floats: `$body` is computed on an element in the type that sums are carried in.
macro_rules! activation {
    ($name:literal, $since:literal, $inputs:expr, [$($attr:expr),*], $tolerance:expr, $body:expr) => {
        OpRow {
            attrs: &[$($attr),*],
            ..activation(
                $name,
                $since,
                $inputs,
                |cx, t| {
                    let body: fn(&Cx<'_>, &Term) -> Term = $body;
                    body(cx, &t[0].cast(t[0].dtype().accumulator())).cast(t[0].dtype())
                },
                $tolerance,
                samples!($name: "f32[2,3]", "f16[17]", "f64[]", "bf16[0,3]"),
            )
        }
    };
}

const fn activation(
    name: &'static str,
    since: i64,
    inputs: &'static [Port],
    terms: fn(&Cx<'_>, &[Term]) -> Term,
    tolerance: Tolerance,
    samples: &'static [&'static str],
) -> OpRow {
    row(name, since, inputs, rules::same_as_first::<FLOAT>, terms, tolerance, samples)
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    row(
        "Relu",
        6,
        X,
        rules::same_as_first::<NUMBER>,
        |_, t| t[0].binary(S::Max, &t[0].lit(0.0)),
        Exact,
        samples!("Relu": "f32[2,3]", "i32[5]", "f16[]", "f64[0]"),
    ),
    activation!("LeakyRelu", 6, X, [float("alpha", 0.01)], Ulps(1), |cx, x| {
        below(x, 0.0).select(&(x * number(cx, "alpha")), x)
    }),
    activation!("Elu", 6, X, [float("alpha", 1.0)], Ulps(8), |cx, x| {
        below(x, 0.0).select(&(exp_minus_1(x) * number(cx, "alpha")), x)
    }),
    activation!(
        "Selu",
        6,
        X,
        [float("alpha", 1.673_263_192_176_818_8), float("gamma", 1.050_701_022_148_132_3)],
        Ulps(8),
        |cx, x| {
            let negative = exp_minus_1(x) * number(cx, "alpha");
            below(x, 0.0).select(&negative, x) * number(cx, "gamma")
        }
    ),
    activation!("Celu", 12, X, [float("alpha", 1.0)], Ulps(8), |cx, x| {
        let alpha = number(cx, "alpha");
        below(x, 0.0).select(&(exp_minus_1(&(x / alpha)) * alpha), x)
    }),
    activation!("Sigmoid", 6, X, [], Ulps(6), |_, x| sigmoid(x)),
    activation!("HardSigmoid", 6, X, [float("alpha", 0.2), float("beta", 0.5)], Sum(4.0), |cx, x| {
        let line = Term::op(S::MulAdd, &[x, &x.lit(number(cx, "alpha")), &x.lit(number(cx, "beta"))]);
        clamp(&line, 0.0, 1.0)
    }),
    activation!("HardSwish", 14, X, [], Ulps(4), |_, x| x * clamp(&((x + 3.0) / 6.0), 0.0, 1.0)),
    activation!("Mish", 18, X, [], Ulps(8), |_, x| mish(x)),
    activation!("Softplus", 1, X, [], Ulps(8), |_, x| {
        // log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), and log(1 + y) = 2 atanh(y / (2 + y)).
        let y = (-&x.unary(S::Abs)).unary(S::Exp);
        let log = (&y / (&y + 2.0)).unary(S::Atanh) * 2.0;
        x.binary(S::Max, &x.lit(0.0)) + log
    }),
    activation!("Softsign", 1, INPUT, [], Ulps(2), |_, x| x / (x.unary(S::Abs) + 1.0)),
    activation!("ThresholdedRelu", 10, X, [float("alpha", 1.0)], Exact, |cx, x| {
        x.binary(S::Gt, &x.lit(number(cx, "alpha"))).select(x, &x.lit(0.0))
    }),
    OpRow {
        attrs: &[AttrSpec::new("approximate", AttrKind::Str, Default::Str("none"))],
        infer: gelu_type,
        samples: &[
            "Gelu(f32[2,3])",
            "Gelu(f16[17]) {approximate = \"tanh\"}",
            "Gelu(f64[]) {approximate = \"tanh\"}",
            "Gelu(bf16[0,3])",
        ],
        ..activation!("Gelu", 20, X, [], Sum(8.0), |cx, x| match cx.attrs.str("approximate") {
            Some("tanh") => {
                // (1 + tanh z) / 2 is the sigmoid of 2 z, which does not cancel.
                let cubic = x * x * x * 0.044715 + x;
                x * sigmoid(&(cubic * (2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2)))
            }
            // Halved first: the double of a large operand is infinite.
            _ => ((x * FRAC_1_SQRT_2).unary(S::Erf) + 1.0) * (x * 0.5),
        })
    },
    activation!("Swish", 24, X, [float("alpha", 1.0)], Ulps(8), |cx, x| {
        x * sigmoid(&(x * number(cx, "alpha")))
    }),
    OpRow {
        attrs: &[float("alpha", 1.0)],
        ..row(
            "SwiGLU",
            28,
            &[one("A"), one("B")],
            gated_type,
            |cx, t| {
                let [gate, value] = [&t[0], &t[1]].map(|t| t.cast(t.dtype().accumulator()));
                (&gate * &sigmoid(&(&gate * number(cx, "alpha"))) * value).cast(t[0].dtype())
            },
            Ulps(8),
            &[
                "SwiGLU(f32[2,3], f32[2,3])",
                "SwiGLU(f16[17], f16[17]) {alpha = 1.7}",
                "SwiGLU(bf16[0,3], bf16[0,3])",
                "SwiGLU(f64[], f64[]) {alpha = -1.0}",
            ],
        )
    },
    OpRow {
        attrs: &[float("lambd", 0.5), float("bias", 0.0)],
        ..row(
            "Shrink",
            9,
            INPUT,
            rules::same_as_first::<NUMBER>,
            |cx, t| {
                let (x, bias) = (&t[0], number(cx, "bias"));
                let lambda = x.lit(number(cx, "lambd"));
                let zero = x.lit(0.0);
                let above = x.binary(S::Gt, &lambda).select(&(x - bias), &zero);
                // An unsigned element is never below the negated threshold, which would wrap.
                if x.dtype().is_unsigned_int() {
                    return above;
                }
                x.binary(S::Lt, &-&lambda).select(&(x + bias), &above)
            },
            Exact,
            &["Shrink(f32[2,3])", "Shrink(f64[7]) {bias = 0.5, lambd = 1.0}", "Shrink(i32[5] in -3..4)"],
        )
    },
];

fn number(cx: &Cx<'_>, name: &str) -> f64 {
    cx.attrs.float(name).unwrap_or_default()
}

fn below(x: &Term, bound: f64) -> Term {
    x.binary(S::Lt, &x.lit(bound))
}

fn clamp(x: &Term, low: f64, high: f64) -> Term {
    x.binary(S::Max, &x.lit(low)).binary(S::Min, &x.lit(high))
}

/// `e^x - 1` as `tanh(x / 2) (e^x + 1)`, which does not cancel near zero. For `x` that is not large.
fn exp_minus_1(x: &Term) -> Term {
    (x * 0.5).unary(S::Tanh) * (x.unary(S::Exp) + 1.0)
}

/// One result of floats like both operands, which do not broadcast.
fn gated_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::one_dtype(cx)?;
    let (a, b) = (cx.ty(0)?, cx.ty(1)?);
    let differ = |(a, b): (&Expr, &Expr)| a != b && a.as_const().is_some() && b.as_const().is_some();
    if a.rank() != b.rank() || a.shape.iter().zip(&b.shape).any(differ) {
        return Err(format!("inputs are {a} and {b}, expected equal shapes"));
    }
    rules::same_as_first::<FLOAT>(cx)
}

/// `1 / (1 + e^-x)`; the exponential is taken of `-|x|`, so that it neither overflows nor loses the
/// small results.
fn sigmoid(x: &Term) -> Term {
    let y = (-&x.unary(S::Abs)).unary(S::Exp);
    below(x, 0.0).select(&y, &x.lit(1.0)) / (&y + 1.0)
}

/// `x tanh(log(1 + e^x))`: with `n = e^-|x|` the tanh is `(1 + 2n) / (1 + 2n + 2n^2)` or, below
/// zero, `(n^2 + 2n) / (n^2 + 2n + 2)`.
fn mish(x: &Term) -> Term {
    let n = (-&x.unary(S::Abs)).unary(S::Exp);
    let negative = below(x, 0.0);
    let top = negative.select(&(&n * (&n + 2.0)), &(&n * 2.0 + 1.0));
    let rest = negative.select(&x.lit(2.0), &(&n * &n * 2.0));
    x * (&top / (&top + &rest))
}

fn gelu_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    match cx.attrs.str("approximate") {
        Some("none" | "tanh") => rules::same_as_first::<FLOAT>(cx),
        other => Err(format!("approximate is {other:?}, expected \"none\" or \"tanh\"")),
    }
}
