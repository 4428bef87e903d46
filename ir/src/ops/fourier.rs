//! Discrete Fourier transforms: DFT, and STFT over the frames of a signal.
//!
//! A transform is a product with a matrix of cosines and sines. A complex number is two elements side
//! by side, and so are the matrix's rows and columns: signals `[..., n, p]` are taken as rows
//! `[..., n * p]` of the product, with `p = 1` for real ones. Burin's own ops make the matrix and the
//! frames. Angles are whole fractions of a turn, which are reduced exactly.

use super::axes::Axes;
use super::compose::{Body, Built, Inputs, cast, operand};
use super::rules::{self, FLOAT, INT, indices};
use super::shape::size;
use super::{Lower, Meaning, OpRow, Tolerance, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::TensorType;

const fn flag(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

/// Terms have both signs, whatever those of the operands.
const TOLERANCE: Tolerance = Tolerance::Largest(64.0);

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[flag("inverse", 0), flag("onesided", 0)],
        tolerance: TOLERANCE,
        samples: &[
            "DFT(f32[2,10,3,1], _, i64[] = 1)",
            "DFT(f32[3,8,2])",
            "DFT(f64[2,7,2], _, i64[] = -2) {inverse = 1}",
            "DFT(f32[2,9,1], i64[] = 6) {onesided = 1}",
            "DFT(f32[2,5,1], i64[] = 8)",
            "DFT(f32[2,5,2]) {inverse = 1, onesided = 1}",
            "DFT(f64[3,4,2], i64[] = 7, i64[] = 1) {inverse = 1, onesided = 1}",
            "DFT(f16[1,6,2])",
            "DFT(f32[2,5,3,1], _, i64[] in -4..-1)",
            "DFT(f32[2,9,1], i64[] = 6, i64[1] in 0..2) {onesided = 1}",
            "DFT(f64[4,4,2], _, i64[] in 0..2) {inverse = 1, onesided = 1}",
        ],
        ..OpRow::new(
            "DFT",
            Some(("", 20)),
            &[one("input"), opt("dft_length").known(), opt("axis").known()],
            dft_infer,
            Meaning::Composite(dft_build),
        )
    },
    OpRow {
        attrs: &[flag("onesided", 1)],
        tolerance: TOLERANCE,
        samples: &[
            "STFT(f32[2,20,1], i64[] = 4, f32[8])",
            "STFT(f32[1,21,2], i64[] = 5, _, i64[] = 6) {onesided = 0}",
            "STFT(f64[1,16,1], i64[] = 8, f64[16], i64[] = 16) {onesided = 0}",
        ],
        ..OpRow::new(
            "STFT",
            Some(("", 17)),
            &[one("signal"), one("frame_step").known(), opt("window"), opt("frame_length").known()],
            stft_infer,
            Meaning::Composite(stft_build),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("dtype", AttrKind::DType, Default::Required),
            flag("complex", 1),
            flag("inverse", 0),
            flag("onesided", 0),
        ],
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "DftMatrix(i64[] = 6) {dtype = f32}",
            "DftMatrix(i64[] = 7) {dtype = f64, complex = 0, onesided = 1}",
            "DftMatrix(i64[] = 5) {dtype = f32, inverse = 1}",
            "DftMatrix(i64[] = 8) {dtype = f64, inverse = 1, onesided = 1}",
        ],
        ..OpRow::new(
            "DftMatrix",
            None,
            &[one("length").known()],
            matrix_infer,
            Meaning::Primitive(Lower::Element(matrix_element)),
        )
    },
    OpRow {
        samples: &["Frames(f32[2,11,3], i64[] = 3, i64[] = 4)", "Frames(i8[1,6], i64[] = 1, i64[] = 6)"],
        ..OpRow::new(
            "Frames",
            None,
            &[one("signal"), one("step").known(), one("length").known()],
            frames_infer,
            Meaning::Movement(frames_element),
        )
    },
];

/// The one number that an operand holds, which must be known when compiling.
fn scalar(cx: &Cx<'_>, i: usize, what: &str) -> Result<Expr, String> {
    rules::expect(&format!("input {i} ({what})"), cx.dtype(i)?, INT)?;
    match cx.known(i) {
        Some([n]) => Ok(n.clone()),
        Some(other) => Err(format!("{what} is {}, expected one number", rules::show(other))),
        None => Err(format!("input {i} ({what}) must be known when compiling: make it a constant")),
    }
}

/// One of [`scalar`]'s that is above 0.
fn positive(cx: &Cx<'_>, i: usize, what: &str) -> Result<Expr, String> {
    let n = scalar(cx, i, what)?;
    match n.as_const() {
        Some(c) if c < 1 => Err(format!("{what} is {c}, expected 1 or more")),
        Some(_) => Ok(n),
        // What is read from data is not divided by where it is 0.
        None => Ok(n.maximum(&Expr::ONE).simplify(&Symbol::range)),
    }
}

/// Half of a spectrum that is symmetric.
fn half(length: &Expr) -> Expr {
    length.floor_div(&2.into()) + 1
}

/// What a DFT node is to do.
struct Transform {
    axis: Axes,
    /// Its length.
    length: Expr,
    /// Elements along the axis.
    along: Expr,
    /// Those that are read.
    input: Expr,
    /// Elements along the axis of the result.
    output: Expr,
    /// Whether the operand is complex.
    complex: bool,
    /// Whether the result is.
    complex_result: bool,
}

impl Transform {
    fn of(cx: &Cx<'_>) -> Result<Transform, String> {
        let x = cx.ty(0)?;
        rules::expect("input 0", x.dtype, FLOAT)?;
        let parts = x.shape.last().and_then(Expr::as_const);
        let complex = match parts {
            Some(1) => false,
            Some(2) if x.rank() > 1 => true,
            _ => return Err(format!("input 0 is {x}, expected a last dimension of 1 or 2")),
        };
        let axis = match Axes::of(cx, 2, "axis", x.rank())? {
            Some(axis) if axis.len() != 1 => return Err("axis is not one number".into()),
            Some(axis) => axis,
            None => Axes::new(cx, vec![(-2).into()], x.rank())?,
        };
        if axis.has(x.rank() - 1) == 1 {
            return Err(format!("axis {} is the one of real and imaginary parts", x.rank() - 1));
        }
        let (inverse, onesided) = (cx.attrs.flag("inverse"), cx.attrs.flag("onesided"));
        let back = inverse && onesided;
        if back && !complex {
            return Err(format!("input 0 is {x}, but a spectrum to be inverted is complex"));
        }
        let dims = x.shape.iter().enumerate();
        let along = dims.fold(Expr::ZERO, |sum, (i, d)| sum + axis.has(i) * d);
        let length = match cx.has(1) {
            true => positive(cx, 1, "dft_length")?,
            false if back => (&along - 1) * 2,
            false => along.clone(),
        };
        if length.as_const().is_some_and(|n| n < 1) {
            return Err(format!("the transform's length is {length}, expected 1 or more"));
        }
        let input = if back { half(&length) } else { length.clone() };
        let output = if onesided && !inverse { half(&length) } else { length.clone() };
        Ok(Transform { axis, length, along, input, output, complex, complex_result: !back })
    }
}

fn dft_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (t, shape) = (Transform::of(cx)?, cx.shape(0)?);
    let dim = |(i, d): (usize, &Expr)| match t.axis.constants() {
        Some(_) => t.axis.choose(i, |_| t.output.clone(), d),
        None => size(&t.axis.choose(i, |_| t.output.clone(), d)),
    };
    let dims = shape[..shape.len() - 1].iter().enumerate().map(dim);
    let shape = dims.chain([(1 + i64::from(t.complex_result)).into()]);
    Ok(vec![TensorType::new(cx.dtype(0)?, shape).into()])
}

/// A constant list of integers.
fn ints(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

/// A length as a value: a constant, or else what `known` gives.
fn length_value(
    body: &mut Body<'_, '_>,
    length: &Expr,
    known: impl FnOnce(&mut Body<'_, '_>) -> Result<Value, String>,
) -> Result<Value, String> {
    match length.as_const() {
        Some(n) => Ok(body.b.constant(Tensor::scalar(DType::I64, Scalar::I(n)))),
        None => known(body),
    }
}

/// The size of a dimension, counted from the end.
fn dimension(body: &mut Body<'_, '_>, x: Value, from_end: usize) -> Result<Value, String> {
    let at = (body.b.ty(x)?.rank() - from_end) as i64;
    body.b.op("Shape", &[x], vec![("start", Attr::Int(at)), ("end", Attr::Int(at + 1))])
}

/// A transform along the dimension before the last one.
fn transformed(
    body: &mut Body<'_, '_>,
    x: Value,
    length: Value,
    (complex, inverse, onesided): (bool, bool, bool),
) -> Result<Value, String> {
    let dtype = body.b.ty(x)?.dtype;
    let attr = |v: bool| Attr::Int(v.into());
    let attrs = vec![
        ("dtype", Attr::DType(dtype)),
        ("complex", attr(complex)),
        ("inverse", attr(inverse)),
        ("onesided", attr(onesided)),
    ];
    let matrix = body.b.op("DftMatrix", &[length], attrs)?;
    let rank = body.b.ty(x)?.rank();
    let mut lead = vec![0; rank - 2];
    lead.push(-1);
    let rows = ints(body.b, &lead);
    let rows = body.op("Reshape", &[x, rows])?;
    let product = body.op("MatMul", &[rows, matrix])?;
    lead.push(if inverse && onesided { 1 } else { 2 });
    let shape = ints(body.b, &lead);
    body.op("Reshape", &[product, shape])
}

fn dft_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let t = Transform::of(cx)?;
    let rank = cx.shape(0)?.len();
    let Some(axis) = t.axis.constants().map(|axes| axes[0]) else {
        return dft_of_three(cx, b, inputs, 1 + i64::from(t.complex_result));
    };
    let kind = (t.complex, cx.attrs.flag("inverse"), cx.attrs.flag("onesided"));
    Body::build(b, inputs, |body, x| {
        // The axis goes to the place before the last, and back.
        let mut order: Vec<i64> = (0..rank as i64).collect();
        order[axis..rank - 1].rotate_left(1);
        let swap = |body: &mut Body<'_, '_>, x: Value, order: &[i64]| match order.is_sorted() {
            true => Ok(x),
            false => body.b.op("Transpose", &[x], vec![("perm", Attr::Ints(order.to_vec()))]),
        };
        let x = swap(body, x, &order)?;
        let length = length_value(body, &t.length, |body| match operand(inputs, 1) {
            Some(length) => Ok(length),
            None => {
                let size = dimension(body, x, 2)?;
                if t.complex_result {
                    return Ok(size);
                }
                let (one, two) = (ints(body.b, &[1]), ints(body.b, &[2]));
                let size = body.op("Sub", &[size, one])?;
                body.op("Mul", &[size, two])
            }
        })?;
        let given = operand(inputs, 1).filter(|_| t.complex_result);
        let x = fitted(body, x, &t.along, &t.input, given)?;
        let result = transformed(body, x, length, kind)?;
        order = (0..rank as i64).collect();
        order[axis..rank - 1].rotate_right(1);
        swap(body, result, &order)
    })
}

/// A transform along an axis that a run reads is one along the middle of three, `[before, axis, after]`.
fn dft_of_three(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>, parts: i64) -> Built {
    let (rank, given) = (cx.shape(0)?.len() as i64, cx.shape(0)?.last().and_then(Expr::as_const));
    let (Some(axis), Some(given)) = (operand(inputs, 2), given) else { return Ok(None) };
    let attrs: Vec<(&str, Attr)> = cx.attrs.0.iter().map(|(name, a)| (*name, a.clone())).collect();
    Body::build(b, inputs, |body, x| {
        let axis = body.reshape(axis, &[1])?;
        let axis = cast(body.b, axis, DType::I64)?;
        let [zero, one, all] = [0, 1, rank].map(|v| ints(body.b, &[v]));
        let places = ints(body.b, &(0..rank - 1).collect::<Vec<_>>());
        let (from_end, shifted) = (body.op("Less", &[axis, zero])?, body.op("Add", &[axis, all])?);
        let axis = body.op("Where", &[from_end, shifted, axis])?;
        let is = body.op("Equal", &[places, axis])?;
        let found = body.b.op("ReduceMax", &[is], vec![("keepdims", Attr::Int(0))])?;
        let x = body.op("Assume", &[x, found])?;
        let dims = body.b.op("Shape", &[x], vec![("end", Attr::Int(rank - 1))])?;
        let mut three = Vec::new();
        for which in [body.op("Less", &[places, axis])?, is, body.op("Greater", &[places, axis])?] {
            let chosen = body.op("Where", &[which, dims, one])?;
            let size = body.op("ReduceProd", &[chosen])?;
            let size = body.b.read(size)?;
            three.push(body.op("Max", &[size, zero])?);
        }
        three.push(ints(body.b, &[given]));
        let exact = vec![("allowzero", Attr::Int(1))];
        let list = body.b.op("Concat", &three, vec![("axis", Attr::Int(0))])?;
        let x = body.b.op("Reshape", &[x, list], exact.clone())?;
        let operands =
            [Some(x), operand(inputs, 1), Some(body.b.constant(Tensor::scalar(DType::I64, Scalar::I(1))))];
        let result = body.op_with("DFT", &operands, attrs)?;
        let length = dimension(body, result, 3)?;
        let dims = body.op("Where", &[is, length, dims])?;
        let dims = body.b.read(dims)?;
        let parts = ints(body.b, &[parts]);
        let list = body.b.op("Concat", &[dims, parts], vec![("axis", Attr::Int(0))])?;
        body.b.op("Reshape", &[result, list], exact)
    })
}

/// The elements along the dimension before the last cut off, or zeros added, up to another size.
/// `given` is the length as a value, which is the size unless half of a spectrum is read.
fn fitted(
    body: &mut Body<'_, '_>,
    x: Value,
    from: &Expr,
    to: &Expr,
    given: Option<Value>,
) -> Result<Value, String> {
    if from == to {
        return Ok(x);
    }
    let size = match (to.as_const(), given) {
        (Some(n), _) => ints(body.b, &[n]),
        (None, Some(length)) => {
            let list = ints(body.b, &[-1]);
            body.op("Reshape", &[length, list])?
        }
        _ => return Err(format!("{from} elements are transformed as {to}, expected a constant")),
    };
    body.b.op("Fit", &[x, size], vec![("axes", Attr::Ints(vec![-2]))])
}

fn matrix_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = cx.attrs.dtype("dtype").unwrap_or(DType::F32);
    rules::expect("dtype", dtype, FLOAT)?;
    let length = positive(cx, 0, "length")?;
    let (complex, back) = (cx.attrs.flag("complex"), cx.attrs.flag("inverse"));
    let onesided = cx.attrs.flag("onesided");
    let parts = |n: Expr, complex: bool| if complex { n * 2 } else { n };
    let spectrum = if onesided { half(&length) } else { length.clone() };
    let (rows, columns) = if back { (spectrum, length) } else { (length, spectrum) };
    let shape = [parts(rows, complex), parts(columns, !(back && onesided))];
    Ok(vec![TensorType::new(dtype, shape).into()])
}

/// Row `n` and column `k` are `e^(-2 pi i n k / length)`, of which real and imaginary parts take one
/// another to theirs: the cosine of the angle, turned back or forth by a quarter where they differ.
/// The inverse turns the other way and divides by the length; from half of a symmetric spectrum, all
/// but the first and the middle element count twice.
fn matrix_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (length, dtype) = (positive(cx, 0, "length")?, cx.attrs.dtype("dtype").unwrap_or(DType::F32));
    let (inverse, onesided) = (cx.attrs.flag("inverse"), cx.attrs.flag("onesided"));
    let (axes, index) = indices(2);
    let split = |i: &Expr, complex: bool| match complex {
        true => (i.floor_div(&2.into()), i.modulo(&2.into())),
        false => (i.clone(), Expr::ZERO),
    };
    let (n, from) = split(&index[0], cx.attrs.flag("complex"));
    let (k, to) = split(&index[1], !(inverse && onesided));
    let quarter = if inverse { from - to } else { to - from };
    let turn = (&n * &k * 4 + quarter * &length).modulo(&(&length * 4));
    let whole = Term::index(&length * 4).cast(DType::F64);
    let angle = Term::index(turn).cast(DType::F64) * std::f64::consts::TAU / &whole;
    let mut value = angle.unary(S::Cos);
    if inverse {
        value = value * 4.0 / whole;
    }
    if inverse && onesided {
        let twice = &value * 2.0;
        // Neither the first element nor, for an even length, the last one.
        let inner = vec![&n - 1, &length - 1 - &n * 2];
        value = Term::when(inner, twice, value);
    }
    Ok(Element { axes, body: value.cast(dtype) })
}

/// Frame `f` holds the elements of a signal `[batch, n, ...]` from `f * step` on.
fn frames_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    let (step, length) = (positive(cx, 1, "step")?, positive(cx, 2, "length")?);
    let [batch, n, rest @ ..] = &x.shape[..] else {
        return Err(format!("the signal is {x}, expected [batch, length, ...]"));
    };
    let count = (n - &length).floor_div(&step) + 1;
    if count.as_const().is_some_and(|n| n < 1) {
        return Err(format!("a frame of {length} elements is longer than the signal {x}"));
    }
    let shape = [batch.clone(), count, length].into_iter().chain(rest.iter().cloned());
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn frames_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (x, step) = (cx.ty(0)?, positive(cx, 1, "step")?);
    let (axes, index) = indices(x.rank() + 1);
    let mut from = vec![index[0].clone(), &index[1] * &step + &index[2]];
    from.extend_from_slice(&index[3..]);
    Ok(Element { axes, body: Term::load(x.dtype, 0, from) })
}

/// STFT's length of a frame, and how many of its elements are transformed to.
fn frame_length(cx: &Cx<'_>) -> Result<Expr, String> {
    let x = cx.ty(0)?;
    let window = if cx.has(2) { Some(cx.shape(2)?) } else { None };
    let length = match (cx.has(3), window) {
        (true, _) => positive(cx, 3, "frame_length")?,
        (false, Some([n])) => n.clone(),
        (false, Some(s)) => return Err(format!("input 2 (window) has shape {}", rules::show(s))),
        (false, None) => x.shape.get(1).cloned().ok_or("input 0 has no length")?,
    };
    if let Some([n]) = window
        && let (Some(a), Some(b)) = (n.as_const(), length.as_const())
        && a != b
    {
        return Err(format!("the window has {a} elements, a frame {b}"));
    }
    Ok(length)
}

fn stft_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, FLOAT)?;
    let parts = x.shape.get(2).map_or(Some(1), Expr::as_const);
    let (Some(parts @ 1..=2), 2..=3) = (parts, x.rank()) else {
        return Err(format!("input 0 is {x}, expected [batch, length, 1 or 2]"));
    };
    let onesided = cx.attrs.flag("onesided");
    if onesided && parts == 2 {
        return Err("the spectrum of a complex signal is not symmetric: onesided must be 0".into());
    }
    let (step, length) = (positive(cx, 1, "frame_step")?, frame_length(cx)?);
    let count = (&x.shape[1] - &length).floor_div(&step) + 1;
    let bins = if onesided { half(&length) } else { length };
    Ok(vec![TensorType::new(x.dtype, [x.shape[0].clone(), count, bins, 2.into()]).into()])
}

fn stft_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (rank, length) = (cx.shape(0)?.len(), frame_length(cx)?);
    let complex = rank == 3 && cx.shape(0)?[2] == 2;
    let onesided = cx.attrs.flag("onesided");
    let Some(step) = operand(inputs, 1) else { return Ok(None) };
    Body::build(b, inputs, |body, x| {
        let length = length_value(body, &length, |body| match (operand(inputs, 3), operand(inputs, 2)) {
            (Some(length), _) => Ok(length),
            (None, Some(window)) => dimension(body, window, 1),
            (None, None) => dimension(body, x, rank - 1),
        })?;
        let mut frames = body.op("Frames", &[x, step, length])?;
        let last = body.axes(&[-1]);
        if rank == 2 {
            frames = body.op("Unsqueeze", &[frames, last])?;
        }
        if let Some(window) = operand(inputs, 2) {
            let window = body.widen(window)?;
            let window = body.op("Unsqueeze", &[window, last])?;
            frames = body.op("Mul", &[frames, window])?;
        }
        transformed(body, frames, length, (complex, false, onesided))
    })
}
