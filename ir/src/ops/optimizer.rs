//! Optimizers: one step of training, on any number of tensors at once.
//!
//! Operands stand in groups after the learning rate and the count of updates: all tensors, then all
//! gradients, then what is accumulated; results likewise. What is computed of rate and count alone is
//! computed in `f64`, where `1 - beta^T` keeps its digits.

use super::Tolerance::Largest;
use super::compose::{Body, Built, Inputs, cast};
use super::rules::{self, FLOAT, INT};
use super::{BuildFn, Meaning, OpRow, Port, many, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;

const fn float(name: &'static str, default: f64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Float, Default::Float(default))
}

const fn required(name: &'static str, kind: AttrKind) -> AttrSpec {
    AttrSpec::new(name, kind, Default::Required)
}

const PORTS: &[Port] = &[one("R"), one("T"), many("inputs")];

const fn row(name: &'static str, rule: fn(&Cx<'_>) -> Result<Vec<Info>, String>, build: BuildFn) -> OpRow {
    OpRow {
        outputs: (1, usize::MAX),
        tolerance: Largest(32.0),
        ..OpRow::new(name, Some(("ai.onnx.preview.training", 1)), PORTS, rule, Meaning::Composite(build))
    }
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[float("decay_factor", 0.0), float("epsilon", 1e-6), float("norm_coefficient", 0.0)],
        samples: &[
            "Adagrad(f32[], i64[] = 3, f32[2,3], f32[2,3], f32[2,3] in 0.5..2.0) {decay_factor = 0.1, norm_coefficient = 0.01} -> 2",
            "Adagrad(f64[1], i64[], f32[2], f64[3], f32[2], f64[3], f32[2] in 0.5..2.0, f64[3] in 0.5..2.0) -> 4",
        ],
        ..row("Adagrad", |cx| steps_type(cx, 3), |cx, b, i| steps(cx, b, i, 3, adagrad))
    },
    OpRow {
        attrs: &[
            float("alpha", 0.9),
            float("beta", 0.999),
            float("epsilon", 1e-6),
            float("norm_coefficient", 0.0),
            float("norm_coefficient_post", 0.0),
        ],
        samples: &[
            "Adam(f32[], i64[] = 3, f32[2,3], f32[2,3], f32[2,3], f32[2,3] in 0.5..2.0) {norm_coefficient = 0.01, norm_coefficient_post = 0.1} -> 3",
            "Adam(f32[], i64[1] in 0..2, f32[2], f64[3], f32[2], f64[3], f32[2], f64[3], f32[2] in 0.5..2.0, f64[3] in 0.5..2.0) -> 6",
        ],
        ..row("Adam", |cx| steps_type(cx, 4), |cx, b, i| steps(cx, b, i, 4, adam))
    },
    OpRow {
        attrs: &[
            required("alpha", AttrKind::Float),
            required("beta", AttrKind::Float),
            required("mode", AttrKind::Str),
            required("norm_coefficient", AttrKind::Float),
        ],
        samples: &[
            "Momentum(f32[], i64[] in 0..2, f32[2,3], f32[2,3], f32[2,3]) {alpha = 0.9, beta = 0.5, mode = \"standard\", norm_coefficient = 0.01} -> 2",
            "Momentum(f64[], i64[1], f32[2], f64[3], f32[2], f64[3], f32[2], f64[3]) {alpha = 0.9, beta = 0.5, mode = \"nesterov\", norm_coefficient = 0.0} -> 4",
        ],
        ..row("Momentum", momentum_type, |cx, b, i| steps(cx, b, i, 3, momentum))
    },
];

/// How many tensors are optimized, of which each has `groups` operands.
fn count(cx: &Cx<'_>, groups: usize) -> Result<usize, String> {
    let operands = cx.inputs.len() - 2;
    if !operands.is_multiple_of(groups) || cx.outputs != operands / groups * (groups - 1) {
        let results = cx.outputs;
        return Err(format!(
            "{operands} tensors and {results} results, expected {groups} and {} each",
            groups - 1
        ));
    }
    Ok(operands / groups)
}

fn steps_type(cx: &Cx<'_>, groups: usize) -> Result<Vec<Info>, String> {
    let n = count(cx, groups)?;
    rules::expect("input 0 (R)", cx.dtype(0)?, FLOAT)?;
    rules::expect("input 1 (T)", cx.dtype(1)?, INT)?;
    for i in [0, 1] {
        if cx.ty(i)?.elements() != 1 {
            return Err(format!("input {i} is {}, expected one element", cx.ty(i)?));
        }
    }
    for i in 2..cx.inputs.len() {
        let (found, expected) = (cx.ty(i)?, cx.ty(2 + (i - 2) % n)?);
        if !matches!(found.dtype, DType::F32 | DType::F64) {
            return Err(format!("input {i} has elements of {}, expected f32 or f64", found.dtype));
        }
        if found != expected {
            return Err(format!("input {i} is {found}, expected {expected} as the tensor that it is of"));
        }
    }
    (0..cx.outputs).map(|i| Ok(cx.ty(2 + i % n)?.clone().into())).collect()
}

fn momentum_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    match cx.attrs.str("mode") {
        Some("standard" | "nesterov") => steps_type(cx, 3),
        other => Err(format!("mode is {other:?}, expected standard or nesterov")),
    }
}

/// One tensor's step: from its operands (the first the tensor, the second the gradient with what is
/// added for the norm) to its results.
type Step = fn(&mut Stepper<'_, '_, '_>, &[Value]) -> Result<Vec<Value>, String>;

/// What the steps of a node share.
struct Stepper<'a, 'b, 'c> {
    s: Body<'a, 'b>,
    cx: &'c Cx<'c>,
    /// The learning rate, in `f64`.
    rate: Value,
    /// The count of updates, in `f64`.
    count: Value,
}

fn steps(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>, groups: usize, step: Step) -> Built {
    let n = count(cx, groups)?;
    let given: Option<Vec<Value>> = inputs.iter().copied().collect();
    let Some(given) = given else { return Ok(None) };
    let mut results = vec![Vec::new(); groups - 1];
    for i in 0..n {
        let dtype = cx.dtype(2 + i)?;
        let mut s = Body::of(b, dtype);
        let mut scalar = |v: Value| {
            let v = cast(s.b, v, DType::F64)?;
            s.reshape(v, &[])
        };
        let (rate, count) = (scalar(given[0])?, scalar(given[1])?);
        let mut one = Stepper { s, cx, rate, count };
        let mut operands: Vec<Value> = (0..groups).map(|g| given[2 + g * n + i]).collect();
        operands[1] = one.sum([("norm_coefficient", operands[0]), ("", operands[1])])?;
        for (group, v) in results.iter_mut().zip(step(&mut one, &operands)?) {
            group.push(v);
        }
    }
    Ok(Some(results.concat()))
}

impl Stepper<'_, '_, '_> {
    fn attr(&self, name: &str) -> f64 {
        if name.is_empty() { 1.0 } else { self.cx.attrs.float(name).unwrap_or_default() }
    }

    /// A number of the tensor's type.
    fn number(&mut self, v: f64) -> Value {
        self.s.number(v)
    }

    fn scalar(&mut self, v: f64) -> Value {
        self.s.b.constant(Tensor::scalar(DType::F64, Scalar::F(v)))
    }

    /// A number computed in `f64`, in the type of the tensor.
    fn narrow(&mut self, v: Value, like: Value) -> Result<Value, String> {
        let to = self.s.b.ty(like)?.dtype;
        cast(self.s.b, v, to)
    }

    /// The sum of tensors times attributes; the empty name is 1.
    fn sum(&mut self, [a, b]: [(&str, Value); 2]) -> Result<Value, String> {
        let (a, b) = ((self.attr(a.0), a.1), (self.attr(b.0), b.1));
        self.mix([a, b])
    }

    /// The sum of tensors times numbers.
    fn mix(&mut self, parts: [(f64, Value); 2]) -> Result<Value, String> {
        let mut scaled = [parts[0].1; 2];
        for (to, (factor, v)) in scaled.iter_mut().zip(parts) {
            let factor = self.number(factor);
            *to = self.s.op("Mul", &[v, factor])?;
        }
        self.s.op("Add", &scaled)
    }

    /// `x - rate * direction`
    fn moved(&mut self, x: Value, rate: Value, direction: Value) -> Result<Value, String> {
        let rate = self.narrow(rate, x)?;
        let step = self.s.op("Mul", &[rate, direction])?;
        self.s.op("Sub", &[x, step])
    }

    /// `v / (sqrt(h) + epsilon)`
    fn adapted(&mut self, v: Value, h: Value) -> Result<Value, String> {
        let root = self.s.op("Sqrt", &[h])?;
        let epsilon = self.number(self.attr("epsilon"));
        let divisor = self.s.op("Add", &[root, epsilon])?;
        self.s.op("Div", &[v, divisor])
    }

    /// Whether there was an update before.
    fn started(&mut self) -> Result<Value, String> {
        let zero = self.scalar(0.0);
        self.s.op("Greater", &[self.count, zero])
    }

    /// `1 - attribute^T`
    fn remainder(&mut self, name: &str) -> Result<Value, String> {
        let (base, one) = (self.scalar(self.attr(name)), self.scalar(1.0));
        let power = self.s.op("Pow", &[base, self.count])?;
        self.s.op("Sub", &[one, power])
    }
}

fn adagrad(o: &mut Stepper<'_, '_, '_>, operands: &[Value]) -> Result<Vec<Value>, String> {
    let [x, g, h] = operands[..] else { return Err("adagrad has three operands".into()) };
    let (decay, one) = (o.scalar(o.attr("decay_factor")), o.scalar(1.0));
    let decayed = o.s.op("Mul", &[o.count, decay])?;
    let divisor = o.s.op("Add", &[decayed, one])?;
    let rate = o.s.op("Div", &[o.rate, divisor])?;
    let squares = o.s.op("Mul", &[g, g])?;
    let h = o.s.op("Add", &[h, squares])?;
    let direction = o.adapted(g, h)?;
    Ok(vec![o.moved(x, rate, direction)?, h])
}

fn adam(o: &mut Stepper<'_, '_, '_>, operands: &[Value]) -> Result<Vec<Value>, String> {
    let [x, g, v, h] = operands[..] else { return Err("adam has four operands".into()) };
    let (alpha, beta) = (o.attr("alpha"), o.attr("beta"));
    let v = o.mix([(alpha, v), (1.0 - alpha, g)])?;
    let squares = o.s.op("Mul", &[g, g])?;
    let h = o.mix([(beta, h), (1.0 - beta, squares)])?;
    let (first, second) = (o.remainder("alpha")?, o.remainder("beta")?);
    let root = o.s.op("Sqrt", &[second])?;
    let raised = o.s.op("Mul", &[o.rate, root])?;
    let corrected = o.s.op("Div", &[raised, first])?;
    let started = o.started()?;
    let rate = o.s.op("Where", &[started, corrected, o.rate])?;
    let direction = o.adapted(v, h)?;
    let x = o.moved(x, rate, direction)?;
    let left = o.number(1.0 - o.attr("norm_coefficient_post"));
    Ok(vec![o.s.op("Mul", &[x, left])?, v, h])
}

fn momentum(o: &mut Stepper<'_, '_, '_>, operands: &[Value]) -> Result<Vec<Value>, String> {
    let [x, g, v] = operands[..] else { return Err("momentum has three operands".into()) };
    let started = o.started()?;
    let (beta, one) = (o.number(o.attr("beta")), o.number(1.0));
    let beta = o.s.op("Where", &[started, beta, one])?;
    let fresh = o.s.op("Mul", &[g, beta])?;
    let v = o.sum([("alpha", v), ("", fresh)])?;
    let direction = match o.cx.attrs.str("mode") {
        Some("nesterov") => o.sum([("", g), ("alpha", v)])?,
        _ => v,
    };
    Ok(vec![o.moved(x, o.rate, direction)?, v])
}
