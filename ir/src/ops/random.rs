//! Random numbers: functions of the seed and of an element's index, and of nothing else.
//!
//! The generator is Philox 2x32 with ten rounds (Salmon, Moraes, Dror and Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3", 2011): a bijection of 64-bit counters for each 32-bit key. The key is
//! the seed, the counter the element's row-major index. So every element is computed for itself, in
//! any order and on any number of threads, and **a seed gives the same bits on every target**; uniform
//! numbers between 0 and 1 and comparisons with them are exact, and so are masks. A model draws the
//! same numbers at each call. Nodes without a seed are given different ones when they are imported.

use super::Tolerance::{Exact, Largest, Ulps};
use super::compose::{Body, Built, Inputs};
use super::rules::{self, CONVERTED, FLOAT, INT, NUMBER, indices};
use super::{Effect, Lower, Meaning, OpRow, Port, Tolerance, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::Builder;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::types::TensorType;
use std::f64::consts::TAU;

const SEED: AttrSpec = AttrSpec::new("seed", AttrKind::Float, Default::Absent);
const DTYPE: AttrSpec = AttrSpec::new("dtype", AttrKind::DType, Default::Absent);
const SHAPE: AttrSpec = AttrSpec::new("shape", AttrKind::Ints, Default::Required);

const fn float(name: &'static str, default: f64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Float, Default::Float(default))
}

type Rule = fn(&Cx<'_>) -> Result<Vec<Info>, String>;
type Definition = fn(&Cx<'_>, usize) -> Result<Element, String>;

const fn row(
    name: &'static str,
    since: i64,
    inputs: &'static [Port],
    rule: Rule,
    element: Definition,
    tolerance: Tolerance,
) -> OpRow {
    let meaning = Meaning::Primitive(Lower::Element(element));
    OpRow { effect: Effect::Random, tolerance, ..OpRow::new(name, Some(("", since)), inputs, rule, meaning) }
}

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[SHAPE, DTYPE, SEED, float("low", 0.0), float("high", 1.0)],
        samples: &[
            "RandomUniform() {shape = [3, 17]}",
            "RandomUniform() {shape = [5], dtype = f16, seed = 2.5}",
            "RandomUniform() {shape = [2, 0], dtype = f64, low = -3.0}",
            "RandomUniform() {shape = [40], dtype = bf16, low = -1.0, high = 2.0, seed = 1.0}",
        ],
        ..row("RandomUniform", 1, &[], shaped, uniform_element, Ulps(1))
    },
    OpRow {
        attrs: &[DTYPE, SEED, float("low", 0.0), float("high", 1.0)],
        samples: &[
            "RandomUniformLike(f32[3,17]) {seed = 7.0}",
            "RandomUniformLike(i8[5]) {dtype = f64, high = 10.0}",
        ],
        ..row("RandomUniformLike", 1, &[one("input")], alike, uniform_element, Ulps(1))
    },
    OpRow {
        attrs: &[SHAPE, DTYPE, SEED, float("mean", 0.0), float("scale", 1.0)],
        samples: &[
            "RandomNormal() {shape = [3, 17]}",
            "RandomNormal() {shape = [64], dtype = f16, seed = 2.5, scale = 4.0}",
            "RandomNormal() {shape = [2, 9], dtype = f64, mean = -3.0}",
        ],
        ..row("RandomNormal", 1, &[], shaped, normal_element, Largest(64.0))
    },
    OpRow {
        attrs: &[DTYPE, SEED, float("mean", 0.0), float("scale", 1.0)],
        samples: &["RandomNormalLike(bf16[3,17])", "RandomNormalLike(bool[5]) {dtype = f32, mean = 1.0}"],
        ..row("RandomNormalLike", 1, &[one("input")], alike, normal_element, Largest(64.0))
    },
    OpRow {
        attrs: &[DTYPE, SEED],
        samples: &[
            "Bernoulli(f32[5,9] in 0.0..1.0) {seed = 3.0}",
            "Bernoulli(f64[30] in 0.0..1.0) {dtype = i32}",
            "Bernoulli(f16[7] in 0.0..1.0) {dtype = bool}",
        ],
        ..row("Bernoulli", 15, &[one("input")], bernoulli_type, bernoulli_element, Exact)
    },
    OpRow {
        outputs: (1, 2),
        attrs: &[AttrSpec::new("seed", AttrKind::Int, Default::Absent)],
        samples: &[
            "Dropout(f32[2,3])",
            "Dropout(f16[5], f32[]) -> 2",
            "Dropout(f64[], _, bool[] = [false]) -> 2",
            "Dropout(f32[5,9], f32[] in 0.1..0.9, bool[]) {seed = 4} -> 2",
            "Dropout(f16[33], f64[] = [0.25], bool[] = [true]) -> 2",
            "Dropout(bf16[7], _, bool[] = [true]) {seed = -1}",
        ],
        ..row(
            "Dropout",
            12,
            &[one("data"), opt("ratio"), opt("training_mode")],
            dropout_type,
            dropout_element,
            Ulps(2),
        )
    },
    OpRow {
        attrs: &[DTYPE, SEED, AttrSpec::new("sample_size", AttrKind::Int, Default::Int(1))],
        effect: Effect::Random,
        samples: &[
            "Multinomial(f32[2,5]) {sample_size = 9, seed = 3.0}",
            "Multinomial(f16[3,4]) {dtype = i64}",
        ],
        ..OpRow::new(
            "Multinomial",
            Some(("", 7)),
            &[one("input")],
            multinomial_type,
            Meaning::Composite(multinomial),
        )
    },
];

/// The key that a seed stands for: a float's bits, or an integer's halves.
fn key(cx: &Cx<'_>) -> u32 {
    match cx.attrs.get("seed") {
        Some(Attr::Float(seed)) => (*seed as f32).to_bits(),
        Some(Attr::Int(seed)) => (*seed as u64 ^ (*seed as u64 >> 32)) as u32,
        _ => 0,
    }
}

/// Two numbers of 32 random bits for a counter.
fn philox(counter: Expr, key: u32) -> [Term; 2] {
    const MULTIPLIER: u64 = 0xd256_d193;
    const WEYL: u32 = 0x9e37_79b9;
    let number = |v: u64| Term::constant(DType::U64, Scalar::U(v));
    let low = |t: &Term| t.binary(S::And, &number(u32::MAX.into()));
    let high = |t: &Term| t.binary(S::Shr, &number(32));
    let counter = Term::index(counter).cast(DType::U64);
    let (mut a, mut b) = (low(&counter), high(&counter));
    for round in 0..10 {
        let key = key.wrapping_add(WEYL.wrapping_mul(round));
        let product = a.binary(S::Mul, &number(MULTIPLIER));
        a = high(&product).binary(S::Xor, &number(key.into())).binary(S::Xor, &b);
        b = low(&product);
    }
    [a, b]
}

/// The bits for an element of a shape.
fn bits_at(cx: &Cx<'_>, shape: &[Expr], index: &[Expr]) -> [Term; 2] {
    let flat = shape.iter().zip(index).fold(Expr::ZERO, |flat, (n, i)| flat * n + i);
    philox(flat, key(cx))
}

/// The upper `n` of 32 bits as a float of a type that holds them, times `2^-n`.
fn fraction(bits: &Term, n: u32, dtype: DType) -> Term {
    let shift = Term::constant(DType::U64, Scalar::U((32 - n).into()));
    // As a signed number, which converts in one instruction.
    let whole = if n < 32 { DType::I32 } else { DType::I64 };
    bits.binary(S::Shr, &shift).cast(whole).cast(dtype) * 2f64.powi(-(n as i32))
}

/// A number from 0 to below 1 with as many digits as the type has, in the type it is computed in.
fn unit(bits: &[Term; 2], dtype: DType) -> Term {
    match dtype {
        DType::F64 => {
            let number = |v: u64| Term::constant(DType::U64, Scalar::U(v));
            let all = bits[0].binary(S::Shl, &number(21)).binary(S::Or, &bits[1].binary(S::Shr, &number(11)));
            all.cast(DType::I64).cast(DType::F64) * 2f64.powi(-53)
        }
        DType::F16 => fraction(&bits[0], 11, DType::F32),
        DType::BF16 => fraction(&bits[0], 8, DType::F32),
        _ => fraction(&bits[0], 24, DType::F32),
    }
}

/// `x * scale + shift`; but for `f64`, rounded once.
fn line(x: Term, scale: f64, shift: f64) -> Term {
    if scale == 1.0 && shift == 0.0 {
        return x;
    }
    match x.dtype() {
        DType::F64 => x * scale + shift,
        _ => Term::op(S::Fma, &[&x, &x.lit(scale), &x.lit(shift)]),
    }
}

fn number(cx: &Cx<'_>, name: &str) -> f64 {
    cx.attrs.float(name).unwrap_or_default()
}

fn shaped(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = cx.attrs.dtype("dtype").unwrap_or(DType::F32);
    rules::expect("the result", dtype, FLOAT)?;
    let shape = cx.attrs.ints("shape").unwrap_or_default();
    match shape.iter().find(|n| **n < 0) {
        Some(n) => Err(format!("shape has {n}, expected sizes of 0 or more")),
        None => Ok(vec![TensorType::new(dtype, shape.iter().copied()).into()]),
    }
}

fn alike(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = cx.attrs.dtype("dtype").unwrap_or(cx.dtype(0)?);
    rules::expect("the result", dtype, FLOAT)?;
    Ok(vec![TensorType::new(dtype, cx.shape(0)?.to_vec()).into()])
}

/// The one result's type, whichever of the two rules it is.
fn result(cx: &Cx<'_>) -> Result<TensorType, String> {
    let info = if cx.has(0) { alike(cx)? } else { shaped(cx)? }.remove(0);
    info.ty.tensor().cloned().ok_or_else(|| "random numbers are a tensor".to_owned())
}

fn uniform_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let ty = result(cx)?;
    let (axes, index) = indices(ty.rank());
    let (low, high) = (number(cx, "low"), number(cx, "high"));
    let x = unit(&bits_at(cx, &ty.shape, &index), ty.dtype);
    Ok(Element { axes, body: line(x, high - low, low).cast(ty.dtype) })
}

/// By Box and Muller's method.
fn normal_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let ty = result(cx)?;
    let (axes, index) = indices(ty.rank());
    let bits = bits_at(cx, &ty.shape, &index);
    let (wide, digits) = if ty.dtype == DType::F64 { (DType::F64, 32) } else { (DType::F32, 24) };
    let [first, second] = bits.map(|b| fraction(&b, digits, wide));
    // Above zero, where the logarithm is finite.
    let radius = ((first + 2f64.powi(-(digits as i32))).unary(S::Log) * -2.0).unary(S::Sqrt);
    let x = radius * (second * TAU).unary(S::Cos);
    Ok(Element { axes, body: line(x, number(cx, "scale"), number(cx, "mean")).cast(ty.dtype) })
}

fn bernoulli_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, FLOAT)?;
    let dtype = cx.attrs.dtype("dtype").unwrap_or(cx.dtype(0)?);
    rules::expect("the result", dtype, CONVERTED)?;
    Ok(vec![TensorType::new(dtype, cx.shape(0)?.to_vec()).into()])
}

/// 1 where a number from 0 to 1 is below the probability.
fn bernoulli_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let (axes, index) = indices(x.rank());
    let wide = x.dtype.accumulator();
    let drawn = unit(&bits_at(cx, &x.shape, &index), wide);
    let hit = drawn.binary(S::Lt, &Term::load(x.dtype, 0, index).cast(wide));
    Ok(Element { axes, body: hit.cast(cx.attrs.dtype("dtype").unwrap_or(x.dtype)) })
}

fn dropout_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?.clone();
    rules::expect("data", x.dtype, FLOAT)?;
    for (i, name, types) in [(1, "ratio", NUMBER), (2, "training_mode", rules::BOOL)] {
        if cx.has(i) {
            rules::expect(name, cx.dtype(i)?, types)?;
            if cx.ty(i)?.elements() != 1 {
                return Err(format!("input {i} ({name}) is {}, expected one element", cx.ty(i)?));
            }
        }
    }
    let mask = TensorType::new(DType::Bool, x.shape.clone());
    Ok([x, mask].into_iter().take(cx.outputs).map(Info::from).collect())
}

/// In training, what is drawn below the ratio is dropped, and the rest scaled by what is kept.
fn dropout_element(cx: &Cx<'_>, output: usize) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let (axes, index) = indices(x.rank());
    let data = Term::load(x.dtype, 0, index.clone());
    let scalar = |i: usize| Ok::<_, String>(Term::load(cx.dtype(i)?, i, vec![Expr::ZERO; cx.ty(i)?.rank()]));
    let always = cx.known_ints(2).map(|v| v == [1]);
    if !cx.has(2) || always == Some(false) {
        let kept = Term::constant(DType::Bool, Scalar::B(true));
        return Ok(Element { axes, body: if output == 0 { data } else { kept } });
    }
    let wide = x.dtype.accumulator();
    let ratio = if cx.has(1) { scalar(1)?.cast(wide) } else { Term::constant(wide, Scalar::F(0.5)) };
    let mut kept = unit(&bits_at(cx, &x.shape, &index), wide).binary(S::Ge, &ratio);
    let scale = &ratio.lit(1.0) / &(ratio.lit(1.0) - &ratio);
    let mut scaled = data.cast(wide) * scale;
    if always.is_none() {
        let training = scalar(2)?;
        kept = kept.binary(S::Or, &training.unary(S::Not));
        scaled = training.select(&scaled, &data.cast(wide));
    }
    let body = match output {
        0 => kept.select(&scaled, &scaled.lit(0.0)).cast(x.dtype),
        _ => kept,
    };
    Ok(Element { axes, body })
}

fn multinomial_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, FLOAT)?;
    let dtype = cx.attrs.dtype("dtype").unwrap_or(DType::I32);
    rules::expect("the result", dtype, INT)?;
    match (&x.shape[..], cx.int("sample_size")) {
        ([batch, _], n) if n >= 0 => Ok(vec![TensorType::new(dtype, [batch.clone(), n.into()]).into()]),
        (_, n) => Err(format!("input 0 is {x} and sample_size {n}, expected [batch, classes] and 0 or more")),
    }
}

/// The first class up to which the probabilities sum to more than a random share of their sum.
fn multinomial(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(Some(x)) = inputs.first() else { return Ok(None) };
    let dtype = cx.attrs.dtype("dtype").unwrap_or(DType::I32);
    let mut s = Body::of(b, cx.dtype(0)?);
    let x = s.widen(*x)?;
    let most = s.reduce("ReduceMax", x, &[1])?;
    let shifted = s.op("Sub", &[x, most])?;
    let powers = s.op("Exp", &[shifted])?;
    let total = s.reduce("ReduceSum", powers, &[1])?;
    let axis = s.axes(&[1]);
    let sums = s.op("CumSum", &[powers, axis])?;
    let draws = s.axes(&[1, cx.int("sample_size")]);
    let total = s.op("Expand", &[total, draws])?;
    let seed = cx.attrs.get("seed").map(|seed| ("seed", seed.clone()));
    let share = s.b.op("RandomUniformLike", &[total], seed.into_iter().collect())?;
    let place = s.op("Mul", &[share, total])?;
    let (last, middle) = (s.axes(&[2]), s.axes(&[1]));
    let (place, sums) = (s.op("Unsqueeze", &[place, last])?, s.op("Unsqueeze", &[sums, middle])?);
    let passed = s.op("LessOrEqual", &[sums, place])?;
    let passed = s.b.op("Cast", &[passed], vec![("to", Attr::DType(dtype))])?;
    let class = s.b.op("ReduceSum", &[passed, last], vec![("keepdims", Attr::Int(0))])?;
    // Sums that round differently could pass the last class.
    let classes = s.b.op("Shape", &[x], vec![("start", Attr::Int(1))])?;
    let one = s.axes(&[1]);
    let end = s.op("Sub", &[classes, one])?;
    let end = s.b.op("Cast", &[end], vec![("to", Attr::DType(dtype))])?;
    Ok(Some(vec![s.op("Min", &[class, end])?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::eval::{eval, eval_element};
    use crate::graph::sample::Sample;

    /// The known answers that the authors' library, Random123, is tested with.
    #[test]
    fn the_generator_gives_the_known_answers() {
        for (counter, key, expected) in [
            (0, 0, [0xff1d_ae59, 0x6cd1_0df2]),
            (u64::MAX, u32::MAX, [0x2c3f_628b, 0xab4f_d7ad]),
            (0x85a3_08d3_243f_6a88, 0x1319_8a2e, [0xdd7c_e038, 0xf62a_4c12]),
        ] {
            let found = philox((counter as i64).into(), key).map(|body| {
                let t = eval_element(&Element { axes: Vec::new(), body }, &[], &[]).expect("evaluates");
                t.get(0).as_i64() as u64
            });
            assert_eq!(found, expected);
        }
    }

    fn draw(text: &str) -> Vec<f64> {
        let sample = Sample::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let graph = sample.graph().unwrap_or_else(|e| panic!("{text}: {e}"));
        let outputs = eval(&graph, &sample.inputs(1), &[]).unwrap_or_else(|e| panic!("{text}: {e}")).outputs;
        outputs[0].to_f64s()
    }

    /// Mean and variance of 65,536 numbers, within about five standard deviations of theirs.
    #[test]
    fn numbers_are_distributed_as_they_should() {
        let shape = "shape = [256, 256]";
        for (text, mean, variance) in [
            (format!("RandomUniform() {{{shape}}}"), 0.5, 1.0 / 12.0),
            (format!("RandomUniform() {{{shape}, dtype = f16, low = -1.0, high = 3.0}}"), 1.0, 16.0 / 12.0),
            (format!("RandomUniform() {{{shape}, dtype = f64, seed = 2.0}}"), 0.5, 1.0 / 12.0),
            (format!("RandomNormal() {{{shape}, seed = 9.0}}"), 0.0, 1.0),
            (format!("RandomNormal() {{{shape}, dtype = f64, mean = -2.0, scale = 0.5}}"), -2.0, 0.25),
            ("Bernoulli(f32[65536] in 0.25..0.2500001)".to_owned(), 0.25, 0.1875),
        ] {
            let values = draw(&text);
            let n = values.len() as f64;
            let found = values.iter().sum::<f64>() / n;
            let spread = values.iter().map(|v| (v - found).powi(2)).sum::<f64>() / n;
            assert!((found - mean).abs() < 5.0 * (variance / n).sqrt() + 5e-4, "{text}: mean {found}");
            assert!((spread / variance - 1.0).abs() < 0.03, "{text}: variance {spread}");
        }
        let classes = draw("Multinomial(f64[1,3] = [0.0, 1.0986122886681098, -inf]) {sample_size = 4096}");
        let ones = classes.iter().filter(|c| **c == 1.0).count() as f64 / 4096.0;
        assert!((ones - 0.75).abs() < 0.035 && !classes.contains(&2.0), "{ones} of class 1");
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let of = |seed: &str| draw(&format!("RandomUniform() {{shape = [64], seed = {seed}}}"));
        assert_eq!(of("1.0"), of("1.0"));
        assert!(of("1.0").iter().zip(of("2.0")).all(|(a, b)| *a != b));
    }
}
