//! Comparing results: how far two tensors are apart, and whether that is within a bound.
//!
//! NaNs are alike whatever their bits, and an infinity is near nothing but itself.

use crate::attr::{Attr, Attrs};
use crate::dtype::DType;
use crate::graph::eval::{Operation, eval_op};
use crate::ops::Tolerance;
use crate::scalar::{Scalar, to_bits};
use crate::strings;
use crate::tensor::{Tensor, strides};
use std::fmt;

/// How far apart elements may be.
#[derive(Clone, PartialEq, Debug)]
pub enum Bound {
    /// Not at all; zeros must have the same sign.
    Exact,
    /// Floats so many ULPs of their type, zeros of both signs being one number, or so many times
    /// [`least_ulp`]; integers not at all.
    Ulps(u64),
    /// Each element so much, in row-major order.
    Each(Vec<f64>),
    /// `|found - expected| <= atol + rtol * |expected|`, as NumPy's `allclose` has it.
    Close {
        /// The part relative to what is expected.
        rtol: f64,
        /// The absolute part.
        atol: f64,
    },
}

/// An element that is not within its bound.
#[derive(Clone, PartialEq, Debug)]
pub struct Mismatch {
    /// Its index along each dimension.
    pub index: Vec<usize>,
    /// What it is: a number, or a text in quotes.
    pub found: String,
    /// What it should be.
    pub expected: String,
}

/// How two tensors compare.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The number of elements.
    pub elements: usize,
    /// Whether they are texts, between which there are no distances.
    pub texts: bool,
    /// How many are not within the bound.
    pub wrong: usize,
    /// The first of those.
    pub first: Option<Mismatch>,
    /// The greatest distance in ULPs (for integers the greatest difference). A NaN beside a number
    /// counts as [`u64::MAX`].
    pub worst_ulps: u64,
    /// The greatest difference; infinite where only one of two is finite.
    pub worst_abs: f64,
    /// The greatest difference relative to what is expected.
    pub worst_rel: f64,
}

impl Report {
    /// Whether every element is within its bound.
    pub fn ok(&self) -> bool {
        self.wrong == 0
    }
}

/// `2 of 6 elements differ, first at [0, 1]: found 1.5, expected 1 (worst: ...)`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { elements, texts, wrong, worst_ulps, worst_abs, worst_rel, .. } = self;
        match &self.first {
            Some(m) => write!(
                f,
                "{wrong} of {elements} elements differ, first at {:?}: found {}, expected {}",
                m.index, m.found, m.expected
            )?,
            None => write!(f, "all {elements} elements agree")?,
        }
        if *texts {
            return Ok(());
        }
        write!(f, " (worst: {worst_ulps} ULPs, {worst_abs:e} absolute, {worst_rel:e} relative)")
    }
}

/// The distance between two values of a type: for floats the number of steps from one
/// representable value to the next, for integers the difference.
pub fn ulps(dtype: DType, a: Scalar, b: Scalar) -> u64 {
    if !dtype.is_float() {
        return match (a, b) {
            (Scalar::U(a), Scalar::U(b)) => a.abs_diff(b),
            _ => a.as_i64().abs_diff(b.as_i64()),
        };
    }
    match (a.as_f64().is_nan(), b.as_f64().is_nan()) {
        (true, true) => 0,
        (false, false) => ordered(dtype, a).abs_diff(ordered(dtype, b)),
        _ => u64::MAX,
    }
}

/// The place of a float among all of its type, counted from zero.
fn ordered(dtype: DType, v: Scalar) -> i64 {
    let bits = to_bits(v, dtype);
    let sign = 1u64 << (dtype.bits() - 1);
    let magnitude = (bits & (sign - 1)) as i64;
    if bits & sign != 0 { -magnitude } else { magnitude }
}

/// Compares two tensors; an error where their types or shapes differ, or the bound has another
/// number of elements.
pub fn compare(found: &Tensor, expected: &Tensor, bound: &Bound) -> Result<Report, String> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        return Err(format!("found {found:?}, expected {expected:?}"));
    }
    if let Bound::Each(bounds) = bound
        && bounds.len() != expected.len()
    {
        return Err(format!("{} bounds for the elements of {expected:?}", bounds.len()));
    }
    let mut report = Report {
        elements: expected.len(),
        texts: expected.dtype() == DType::Text,
        wrong: 0,
        first: None,
        worst_ulps: 0,
        worst_abs: 0.0,
        worst_rel: 0.0,
    };
    for (i, (f, e)) in found.scalars().zip(expected.scalars()).enumerate() {
        if f.same(e) {
            continue;
        }
        // Texts are equal or not: how far their numbers are apart means nothing.
        let text = report.texts;
        let distance = if text { u64::MAX } else { ulps(expected.dtype(), f, e) };
        let (abs, size) = if text { (f64::INFINITY, 1.0) } else { (difference(f, e), e.as_f64().abs()) };
        report.worst_ulps = report.worst_ulps.max(distance);
        report.worst_abs = report.worst_abs.max(abs);
        report.worst_rel = report.worst_rel.max(if abs == 0.0 { 0.0 } else { abs / size });
        let near = match bound {
            Bound::Exact => false,
            Bound::Ulps(n) => {
                let least = *n as f64 * least_ulp(expected.dtype());
                expected.dtype().is_float() && (distance <= *n || abs <= least)
            }
            Bound::Each(bounds) => abs <= bounds[i] && abs.is_finite(),
            Bound::Close { rtol, atol } => abs <= atol + rtol * size && abs.is_finite(),
        };
        if !near {
            report.wrong += 1;
            report.first.get_or_insert_with(|| Mismatch {
                index: unravel(i, expected.shape()),
                found: shown(found, f),
                expected: shown(expected, e),
            });
        }
    }
    Ok(report)
}

fn shown(t: &Tensor, element: Scalar) -> String {
    match t.dtype() {
        DType::Text => format!("{:?}", strings::text_of(element.as_i64()).unwrap_or_default()),
        _ => element.as_f64().to_string(),
    }
}

/// `|a - b|`; infinite where one of them is NaN or only one is infinite.
fn difference(a: Scalar, b: Scalar) -> f64 {
    let d = match (a, b) {
        (Scalar::I(a), Scalar::I(b)) => return a.abs_diff(b) as f64,
        (Scalar::U(a), Scalar::U(b)) => return a.abs_diff(b) as f64,
        _ => (a.as_f64() - b.as_f64()).abs(),
    };
    if d.is_nan() { f64::INFINITY } else { d }
}

fn unravel(i: usize, shape: &[usize]) -> Vec<usize> {
    strides(shape).iter().zip(shape).map(|(s, n)| i / s % n).collect()
}

/// The bound that a node's row states for each of its results. For [`Tolerance::Sum`] and those of the
/// largest element the node is evaluated in `f64` on the absolute values of its float operands
/// and float attributes, which gives the sum of the terms' magnitudes; integer results are exact.
pub fn row_bounds(
    o: &Operation<'_>,
    inputs: &[Option<Tensor>],
    expected: &[Tensor],
) -> Result<Vec<Bound>, String> {
    // With it, the measure is the largest element, which counts as so much at least.
    let (c, largest) = match o.op.tolerance {
        Tolerance::Exact => return Ok(vec![Bound::Exact; expected.len()]),
        Tolerance::Ulps(n) => return Ok(vec![Bound::Ulps(n.into()); expected.len()]),
        Tolerance::Sum(c) => (c, None),
        Tolerance::Largest(c) => (c, Some(0.0)),
        Tolerance::LargestOrOne(c) => (c, Some(1.0)),
        Tolerance::RowLengths(c) => {
            let of = inputs[0].as_ref().ok_or("a matrix is absent")?;
            let (u, tiny) = (of.dtype().unit_roundoff(), smallest(of.dtype()));
            let products = matrices(of).map(|rows| rows.iter().map(|r| length(r)).product::<f64>());
            return Ok(vec![Bound::Each(products.map(|all| c * (u * all + tiny)).collect())]);
        }
    };
    if expected.iter().all(|t| !t.dtype().is_float()) {
        return Ok(vec![Bound::Exact; expected.len()]);
    }
    let magnitude = |t: &Tensor| {
        let abs = t.scalars().map(|v| Scalar::F(v.as_f64().abs()));
        if t.dtype().is_float() { Tensor::from_scalars(DType::F64, t.shape(), abs) } else { t.clone() }
    };
    let magnitudes: Vec<Option<Tensor>> = inputs.iter().map(|t| t.as_ref().map(magnitude)).collect();
    let attrs = absolute_attrs(o.attrs);
    let sums = eval_op(&Operation { attrs: &attrs, ..*o }, &magnitudes)?;
    let bounds = |(sum, e): (&Tensor, &Tensor)| {
        let u = e.dtype().unit_roundoff();
        if u == 0.0 {
            return Bound::Exact;
        }
        // A result is at least rounded itself, and tiny ones are rounded to a denormal.
        let tiny = smallest(e.dtype());
        let bound = |s: f64| c * (u * s + tiny);
        let sums = sum.to_f64s().into_iter().zip(e.to_f64s()).map(|(s, e)| s.abs().max(e.abs()));
        if let Some(least) = largest {
            let alike = magnitudes.iter().zip(inputs).enumerate().filter_map(|(i, (m, t))| {
                let fits = |t: &&Tensor| t.dtype() == e.dtype() && (i == 0 || t.shape() == e.shape());
                t.as_ref().filter(fits).and(m.as_ref())
            });
            let operands = alike.flat_map(Tensor::to_f64s);
            let all = sums.chain(operands).fold(least, f64::max);
            return Bound::Each(vec![bound(all); e.len()]);
        }
        Bound::Each(sums.map(bound).collect())
    };
    Ok(sums.iter().zip(expected).map(bounds).collect())
}

fn absolute_attrs(attrs: &Attrs) -> Attrs {
    let one = |a: &Attr| match a {
        Attr::Float(v) => Attr::Float(v.abs()),
        Attr::Floats(v) => Attr::Floats(v.iter().map(|v| v.abs()).collect()),
        Attr::DType(d) if d.is_float() => Attr::DType(DType::F64),
        other => other.clone(),
    };
    Attrs(attrs.0.iter().map(|(n, a)| (*n, one(a))).collect())
}

/// The rows of each matrix of a tensor.
pub fn matrices(t: &Tensor) -> impl Iterator<Item = Vec<Vec<f64>>> {
    let (rank, elements) = (t.rank(), t.to_f64s());
    let (rows, columns) = (t.shape()[rank - 2], t.shape()[rank - 1]);
    let count: usize = t.shape()[..rank - 2].iter().product();
    (0..count).map(move |m| {
        let row = |r: usize| elements[(m * rows + r) * columns..][..columns].to_vec();
        (0..rows).map(row).collect()
    })
}

/// A vector's length.
pub fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The least that counts as an ULP. Functions are products of others, one of which may be so small that its
/// own ULPs are steps of denormals (`x / (1 + exp(-x))` of -100), each a part of the product that grows with the
/// other factor: up to 1024 times. Types of 16 bits are computed in `f32`, which has no such factors.
pub fn least_ulp(dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F64 => 1024.0 * smallest(dtype),
        _ => 0.0,
    }
}

/// How far apart numbers of a type like `v` are at most: between one and two unit roundoffs of it, and no less
/// than [`least_ulp`].
pub fn ulp_near(dtype: DType, v: f64) -> f64 {
    2.0 * dtype.unit_roundoff() * v.abs() + least_ulp(dtype).max(smallest(dtype))
}

/// The smallest number above zero.
fn smallest(dtype: DType) -> f64 {
    crate::scalar::from_bits(1, dtype).as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use half::f16;

    fn distance(a: f32, b: f32) -> u64 {
        ulps(DType::F32, Scalar::F(a as f64), Scalar::F(b as f64))
    }

    #[test]
    fn distances_count_representable_steps() {
        assert_eq!(distance(1.0, f32::from_bits(1.0f32.to_bits() + 3)), 3);
        assert_eq!(distance(-f32::from_bits(2), f32::from_bits(1)), 3);
        assert_eq!(distance(0.0, -0.0), 0);
        assert_eq!(distance(f32::MAX, f32::INFINITY), 1);
        assert_eq!(distance(f32::NAN, f32::NAN), 0);
        assert_eq!(distance(f32::NAN, 1.0), u64::MAX);
        let (a, b) = (f16::from_bits(0x3c00), f16::from_bits(0x3c01));
        assert_eq!(ulps(DType::F16, Scalar::F(a.to_f64()), Scalar::F(b.to_f64())), 1);
        assert_eq!(ulps(DType::U64, Scalar::U(u64::MAX), Scalar::U(0)), u64::MAX);
        assert_eq!(ulps(DType::F64, Scalar::F(f64::MAX), Scalar::F(f64::MIN)), 2 * 0x7fef_ffff_ffff_ffff);
    }

    fn check(found: &[f32], expected: &[f32], bound: Bound) -> Report {
        let t = |v: &[f32]| Tensor::new(&[v.len() / 2, 2], v);
        compare(&t(found), &t(expected), &bound).expect("equal shapes")
    }

    #[test]
    fn closeness_is_numpys() {
        let close = |f: f32, e: f32| check(&[f, 0.0], &[e, 0.0], Bound::Close { rtol: 0.5, atol: 0.25 }).ok();
        // np.allclose([found], [expected], rtol=0.5, atol=0.25, equal_nan=True)
        assert!(close(1.75, 4.0) && !close(1.5, 4.0) && close(6.25, 4.0) && !close(6.5, 4.0));
        assert!(close(f32::NAN, f32::NAN) && !close(f32::NAN, 1.0) && !close(1.0, f32::NAN));
        assert!(close(f32::INFINITY, f32::INFINITY) && !close(1.0, f32::INFINITY));
        assert!(!close(f32::NEG_INFINITY, f32::INFINITY) && !close(f32::INFINITY, 1.0));
    }

    #[test]
    fn texts_are_equal_or_not() {
        let (a, b) = (Tensor::texts(&[2], &["a", "b"]), Tensor::texts(&[2], &["a", "c"]));
        let wide = Bound::Close { rtol: 1e9, atol: 1e9 };
        let r = compare(&a, &b, &wide).expect("equal shapes");
        assert_eq!(r.to_string(), "1 of 2 elements differ, first at [1]: found \"b\", expected \"c\"");
        assert!(compare(&a, &a, &Bound::Exact).expect("equal shapes").ok());
    }

    #[test]
    fn the_report_names_the_first_and_the_worst() {
        let r = check(&[1.0, 2.0, 3.5, 8.0], &[1.0, 2.0, 3.0, 4.0], Bound::Ulps(1));
        assert_eq!((r.wrong, r.worst_abs, r.worst_rel), (2, 4.0, 1.0));
        assert_eq!(r.first, Some(Mismatch { index: vec![1, 0], found: "3.5".into(), expected: "3".into() }));
        assert!(r.to_string().starts_with("2 of 4 elements differ, first at [1, 0]: found 3.5, expected 3"));
        assert!(check(&[0.0, 1.0], &[-0.0, 1.0], Bound::Ulps(0)).ok());
        assert!(!check(&[0.0, 1.0], &[-0.0, 1.0], Bound::Exact).ok());
        let e = compare(&Tensor::zeros(DType::F32, &[2]), &Tensor::zeros(DType::F32, &[3]), &Bound::Exact);
        assert_eq!(e, Err("found f32[2], expected f32[3]".into()));
    }

    #[test]
    fn sums_bound_by_the_terms_magnitudes() {
        let a = Tensor::new(&[1, 3], &[1e8f32, 1.0, -1e8]);
        let b = Tensor::new(&[3, 1], &[1f32, -1.0, 1.0]);
        let op = ops::by_name("MatMul").expect("a row");
        let Tolerance::Sum(c) = op.tolerance else { panic!("a contraction is bounded by its terms") };
        let o = Operation {
            op,
            attrs: &Attrs::default(),
            outputs: 1,
            region_results: &[],
            region: &|_, _| Err("no regions".into()),
        };
        let inputs = [Some(a), Some(b)];
        let expected = eval_op(&o, &inputs).expect("it runs");
        assert_eq!(expected[0].to_f64s(), [-1.0]);
        let bounds = row_bounds(&o, &inputs, &expected).expect("it has sums");
        let Bound::Each(each) = &bounds[0] else { panic!("a bound for each element") };
        let sum = 2e8 + 1.0;
        assert!((each[0] / (c * sum * 2f64.powi(-24)) - 1.0).abs() < 1e-6);
    }
}
