//! Arithmetic, comparisons, logic, elementary functions and selection: each element of
//! the result is a scalar expression of the operands' elements at the same broadcast position.
//!
//! Operands have one element type unless a row says otherwise; the expression is exact or within
//! the row's ULPs of it.

use super::Tolerance::{Exact, Sum, Ulps};
use super::rules::{self, BOOL, COMPARED, FLOAT, INT, NUMBER, SIGNED, broadcast};
use super::{Meaning, OpRow, Port, Tolerance, many, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::Term;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::types::TensorType;

type Rule = fn(&Cx<'_>) -> Result<Vec<Info>, String>;
type Terms = fn(&Cx<'_>, &[Term]) -> Term;

/// One input, which some schemas call `X` and others `input`.
pub(super) const X: &[Port] = &[one("X")];
pub(super) const INPUT: &[Port] = &[one("input")];
const A_B: &[Port] = &[one("A"), one("B")];

/// A row of a scalar expression.
pub(super) const fn row(
    name: &'static str,
    since: i64,
    inputs: &'static [Port],
    rule: Rule,
    terms: Terms,
    tolerance: Tolerance,
    samples: &'static [&'static str],
) -> OpRow {
    let base = OpRow::new(name, Some(("", since)), inputs, rule, Meaning::Pointwise(terms));
    OpRow { tolerance, samples, ..base }
}

/// Samples of one op: `samples!("Exp": "f32[2,3]", "f16[5]")` gives `Exp(f32[2,3])` and `Exp(f16[5])`.
macro_rules! samples {
    ($name:literal: $($operands:literal),+ $(,)?) => { &[$(concat!($name, "(", $operands, ")")),+] };
}
pub(super) use samples;

/// A function of one float, by a scalar operation.
macro_rules! function {
    ($name:literal, $since:literal, $inputs:expr, $op:ident, $tolerance:expr) => {
        function!($name, $since, $inputs, $op, $tolerance, "f32[2,3]", "f16[5]", "f64[]", "bf16[0,3]")
    };
    ($name:literal, $since:literal, $inputs:expr, $op:ident, $tolerance:expr, $($sample:literal),+) => {
        row(
            $name,
            $since,
            $inputs,
            rules::pointwise::<FLOAT>,
            |_, t| t[0].unary(S::$op),
            $tolerance,
            samples!($name: $($sample),+),
        )
    };
}

/// An exact operation on two operands of a set of types, by a scalar operation.
macro_rules! binary {
    ($name:literal, $since:literal, $rule:expr, $op:ident: $($sample:literal),+) => {
        row($name, $since, A_B, $rule, |_, t| t[0].binary(S::$op, &t[1]), Exact, samples!($name: $($sample),+))
    };
}

/// A comparison of two operands of one type.
macro_rules! compare {
    ($name:literal, $since:literal, $types:ident, $op:ident) => {
        row(
            $name,
            $since,
            A_B,
            rules::predicate::<$types>,
            |_, t| t[0].binary(S::$op, &t[1]),
            Exact,
            samples!($name: "f32[2,3], f32[3]", "i64[4] in 0..3, i64[4] in 0..3", "u8[2,1], u8[1,3]", "f16[], f16[0]"),
        )
    };
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    binary!("Add", 7, rules::pointwise::<NUMBER>, Add: "f32[2,3], f32[3]", "i64[4], i64[4]", "f16[2,1], f16[1,3]", "f64[], f64[0]"),
    binary!("Sub", 7, rules::pointwise::<NUMBER>, Sub: "f32[2,3], f32[3]", "i32[4], i32[]", "bf16[2,1], bf16[1,3]", "u8[5], u8[5]"),
    binary!("Mul", 7, rules::pointwise::<NUMBER>, Mul: "f32[2,3], f32[3]", "i16[4], i16[4]", "f16[2,1], f16[1,3]", "f64[], f64[0]"),
    binary!("Div", 7, rules::pointwise::<NUMBER>, Div: "f32[2,3], f32[3]", "i32[4], i32[4]", "f16[2,1], f16[1,3]", "u64[7], u64[]"),
    OpRow {
        attrs: &[AttrSpec::new("fmod", AttrKind::Int, Default::Int(0))],
        ..row(
            "Mod",
            10,
            A_B,
            rules::pointwise::<NUMBER>,
            |cx, t| t[0].binary(if cx.attrs.flag("fmod") { S::Rem } else { S::Mod }, &t[1]),
            Exact,
            &[
                "Mod(i64[2,3], i64[3])",
                "Mod(i8[7], i8[7]) {fmod = 1}",
                "Mod(f32[2,3], f32[3]) {fmod = 1}",
                "Mod(f64[5], f64[])",
            ],
        )
    },
    row(
        "Pow",
        7,
        &[one("X"), one("Y")],
        power_type,
        |_, t| power(&t[0], &t[1]),
        Ulps(8),
        samples!("Pow": "f32[2,3] in 0..4, f32[3]", "f32[4], i64[4] in -3..4", "i32[5], i32[] in 0..5", "i64[3] in 1..9, f32[3] in 0..3"),
    ),
    row(
        "Neg",
        6,
        X,
        rules::pointwise::<{ FLOAT | SIGNED }>,
        |_, t| -&t[0],
        Exact,
        samples!("Neg": "f32[2,3]", "i8[5]", "f16[]"),
    ),
    row(
        "Abs",
        6,
        X,
        rules::pointwise::<NUMBER>,
        |_, t| t[0].unary(S::Abs),
        Exact,
        samples!("Abs": "f32[2,3]", "i64[5]", "u8[4]", "bf16[0]"),
    ),
    row(
        "Sign",
        9,
        INPUT,
        rules::pointwise::<NUMBER>,
        |_, t| sign(&t[0]),
        Exact,
        samples!("Sign": "f32[2,3]", "i32[5] in -2..3", "u16[4]"),
    ),
    row(
        "Reciprocal",
        6,
        X,
        rules::pointwise::<FLOAT>,
        |_, t| t[0].lit(1.0) / &t[0],
        Exact,
        samples!("Reciprocal": "f32[2,3]", "f16[5]", "f64[]"),
    ),
    function!("Sqrt", 6, X, Sqrt, Exact, "f32[2,3] in 0..9", "f16[5]", "f64[]"),
    function!("Floor", 6, X, Floor, Exact),
    function!("Ceil", 6, X, Ceil, Exact),
    function!("Round", 11, X, Round, Exact),
    function!("Exp", 6, INPUT, Exp, Ulps(4)),
    function!("Log", 6, INPUT, Log, Ulps(4), "f32[2,3] in 0..9", "f16[5] in 0..9", "f64[]"),
    function!("Sin", 7, INPUT, Sin, Ulps(4)),
    function!("Cos", 7, INPUT, Cos, Ulps(4)),
    function!("Tan", 7, INPUT, Tan, Ulps(4)),
    function!("Asin", 7, INPUT, Asin, Ulps(4), "f32[2,3] in -1..1", "f16[5]", "f64[]"),
    function!("Acos", 7, INPUT, Acos, Ulps(4), "f32[2,3] in -1..1", "f16[5]", "f64[]"),
    function!("Atan", 7, INPUT, Atan, Ulps(4)),
    function!("Sinh", 9, INPUT, Sinh, Ulps(4)),
    function!("Cosh", 9, INPUT, Cosh, Ulps(4)),
    function!("Tanh", 6, INPUT, Tanh, Ulps(4)),
    function!("Asinh", 9, INPUT, Asinh, Ulps(4)),
    function!("Acosh", 9, INPUT, Acosh, Ulps(4), "f32[2,3] in 1..9", "f16[5] in 1..9", "f64[]"),
    function!("Atanh", 9, INPUT, Atanh, Ulps(4), "f32[2,3] in -1..1", "f16[5]", "f64[]"),
    row(
        "Erf",
        9,
        INPUT,
        rules::pointwise::<FLOAT>,
        |_, t| t[0].unary(S::Erf),
        Ulps(4),
        samples!("Erf": "f32[2,3]", "f16[5]", "f64[]"),
    ),
    row(
        "IsNaN",
        9,
        X,
        rules::predicate::<FLOAT>,
        |_, t| t[0].unary(S::IsNan),
        Exact,
        samples!("IsNaN": "f32[2,3]", "f16[5]", "f64[]"),
    ),
    OpRow {
        attrs: &[
            AttrSpec::new("detect_negative", AttrKind::Int, Default::Int(1)),
            AttrSpec::new("detect_positive", AttrKind::Int, Default::Int(1)),
        ],
        ..row(
            "IsInf",
            10,
            X,
            rules::predicate::<FLOAT>,
            is_infinite,
            Exact,
            &["IsInf(f32[2,3])", "IsInf(f16[5]) {detect_negative = 0}", "IsInf(f64[]) {detect_positive = 0}"],
        )
    },
    row(
        "Not",
        1,
        X,
        rules::pointwise::<BOOL>,
        |_, t| t[0].unary(S::Not),
        Exact,
        samples!("Not": "bool[2,3]", "bool[]", "bool[0]"),
    ),
    binary!("And", 7, rules::pointwise::<BOOL>, And: "bool[2,3], bool[3]", "bool[2,1], bool[1,3]", "bool[], bool[0]"),
    binary!("Or", 7, rules::pointwise::<BOOL>, Or: "bool[2,3], bool[3]", "bool[2,1], bool[1,3]", "bool[], bool[0]"),
    binary!("Xor", 7, rules::pointwise::<BOOL>, Xor: "bool[2,3], bool[3]", "bool[2,1], bool[1,3]", "bool[], bool[0]"),
    binary!("BitwiseAnd", 18, rules::pointwise::<INT>, And: "i32[2,3], i32[3]", "u8[5], u8[5]", "i64[], i64[0]"),
    binary!("BitwiseOr", 18, rules::pointwise::<INT>, Or: "i32[2,3], i32[3]", "u8[5], u8[5]", "i64[], i64[0]"),
    binary!("BitwiseXor", 18, rules::pointwise::<INT>, Xor: "i32[2,3], i32[3]", "u8[5], u8[5]", "i64[], i64[0]"),
    row(
        "BitwiseNot",
        18,
        X,
        rules::pointwise::<INT>,
        |_, t| t[0].unary(S::Not),
        Exact,
        samples!("BitwiseNot": "i32[2,3]", "u8[5]", "i64[]"),
    ),
    OpRow {
        attrs: &[AttrSpec::new("direction", AttrKind::Str, Default::Required)],
        ..row(
            "BitShift",
            11,
            &[one("X"), one("Y")],
            shift_type,
            |cx, t| {
                t[0].binary(if cx.attrs.str("direction") == Some("LEFT") { S::Shl } else { S::Shr }, &t[1])
            },
            Exact,
            &[
                "BitShift(u8[2,3], u8[3] in 0..10) {direction = \"LEFT\"}",
                "BitShift(u32[4], u32[] in 0..40) {direction = \"RIGHT\"}",
                "BitShift(i64[4], i64[4] in 0..70) {direction = \"RIGHT\"}",
            ],
        )
    },
    compare!("Equal", 7, COMPARED, Eq),
    compare!("Less", 7, NUMBER, Lt),
    compare!("LessOrEqual", 12, NUMBER, Le),
    compare!("Greater", 7, NUMBER, Gt),
    compare!("GreaterOrEqual", 12, NUMBER, Ge),
    row(
        "Where",
        9,
        &[one("condition"), one("X"), one("Y")],
        where_type,
        |_, t| t[0].select(&t[1], &t[2]),
        Exact,
        samples!("Where": "bool[2,3], f32[3], f32[]", "bool[], i64[4], i64[4]", "bool[2,1], f16[1,3], f16[2,3]", "bool[0], bool[], bool[]"),
    ),
    row(
        "Min",
        6,
        &[many("data_0")],
        rules::pointwise::<NUMBER>,
        |_, t| fold(t, S::Min),
        Exact,
        samples!("Min": "f32[2,3], f32[3], f32[]", "i64[4]", "u8[2,1], u8[1,3]"),
    ),
    row(
        "Max",
        6,
        &[many("data_0")],
        rules::pointwise::<NUMBER>,
        |_, t| fold(t, S::Max),
        Exact,
        samples!("Max": "f32[2,3], f32[3], f32[]", "i64[4]", "u8[2,1], u8[1,3]"),
    ),
    row(
        "Sum",
        6,
        &[many("data_0")],
        rules::pointwise::<NUMBER>,
        |_, t| sum(t, false),
        Sum(4.0),
        samples!("Sum": "f32[2,3], f32[3], f32[]", "f16[4]", "f64[2,1], f64[1,3]"),
    ),
    row(
        "Mean",
        6,
        &[many("data_0")],
        rules::pointwise::<NUMBER>,
        |_, t| sum(t, true),
        Sum(4.0),
        samples!("Mean": "f32[2,3], f32[3], f32[]", "f16[4]", "f64[2,1], f64[1,3]"),
    ),
    row(
        "Clip",
        11,
        &[one("input"), opt("min"), opt("max")],
        rules::pointwise::<NUMBER>,
        clip,
        Exact,
        samples!("Clip": "f32[2,3], f32[] in -1..0, f32[] in 0..1", "i32[5], _, i32[]", "f16[0], f16[]", "u8[4]"),
    ),
    row(
        "PRelu",
        7,
        &[one("X"), one("slope")],
        rules::pointwise::<NUMBER>,
        |_, t| {
            let negative = t[0].binary(S::Lt, &t[0].lit(0.0));
            negative.select(&(&t[0] * &t[1]), &t[0])
        },
        Exact,
        samples!("PRelu": "f32[2,3], f32[3]", "f16[2,3,1], f16[3,1]", "i32[4], i32[]"),
    ),
];

fn power_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, NUMBER)?;
    rules::expect("input 1", cx.dtype(1)?, NUMBER)?;
    Ok(vec![TensorType::new(cx.dtype(0)?, broadcast(cx)?).into()])
}

/// The power has the base's type. Two integers are taken as `i64`; an integer base with a float
/// exponent goes through `f64`.
fn power(base: &Term, exponent: &Term) -> Term {
    let via = match (base.dtype(), exponent.dtype()) {
        (b, e) if b == e => b,
        (b, e) if b.is_float() && e.is_float() => {
            if b.bits() >= e.bits() {
                b
            } else {
                e
            }
        }
        (b, _) if b.is_float() => b.accumulator(),
        (_, e) if e.is_float() => DType::F64,
        _ => DType::I64,
    };
    base.cast(via).binary(S::Pow, &exponent.cast(via)).cast(base.dtype())
}

/// Zeros and NaN are their own sign.
fn sign(x: &Term) -> Term {
    let zero = x.lit(0.0);
    let negative = x.binary(S::Lt, &zero).select(&x.lit(-1.0), x);
    x.binary(S::Gt, &zero).select(&x.lit(1.0), &negative)
}

fn is_infinite(cx: &Cx<'_>, t: &[Term]) -> Term {
    let equals = |x: &Term, v: f64| x.binary(S::Eq, &x.lit(v));
    match (cx.attrs.flag("detect_negative"), cx.attrs.flag("detect_positive")) {
        (true, true) => equals(&t[0].unary(S::Abs), f64::INFINITY),
        (true, false) => equals(&t[0], f64::NEG_INFINITY),
        (false, true) => equals(&t[0], f64::INFINITY),
        (false, false) => Term::constant(DType::Bool, Scalar::B(false)),
    }
}

fn shift_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    match cx.attrs.str("direction") {
        Some("LEFT" | "RIGHT") => rules::pointwise::<INT>(cx),
        other => Err(format!("direction is {other:?}, expected \"LEFT\" or \"RIGHT\"")),
    }
}

fn where_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("condition", cx.dtype(0)?, BOOL)?;
    let (x, y) = (cx.dtype(1)?, cx.dtype(2)?);
    if x != y {
        return Err(format!("X has elements of {x}, Y of {y}"));
    }
    Ok(vec![TensorType::new(x, broadcast(cx)?).into()])
}

fn fold(t: &[Term], op: S) -> Term {
    t[1..].iter().fold(t[0].clone(), |a, b| a.binary(op, b))
}

/// The sum of the operands or, with `mean`, that over their number.
fn sum(t: &[Term], mean: bool) -> Term {
    let wide: Vec<Term> = t.iter().map(|x| x.cast(x.dtype().accumulator())).collect();
    let sum = fold(&wide, S::Add);
    let value = if mean { sum / t.len() as f64 } else { sum };
    value.cast(t[0].dtype())
}

fn clip(cx: &Cx<'_>, t: &[Term]) -> Term {
    let mut bounds = t[1..].iter();
    let mut x = t[0].clone();
    for (input, op) in [(1, S::Max), (2, S::Min)] {
        if let (true, Some(bound)) = (cx.has(input), bounds.as_slice().first()) {
            x = x.binary(op, bound);
            bounds.next();
        }
    }
    x
}
