//! Resize: interpolation along chosen axes, one axis inside the other.
//!
//! A result position maps to a place in the operand that is a rational number of sizes and
//! positions, since every float scale is one. It is kept as a quotient of integer expressions, so
//! that rounding to the nearest element and the weights' fractions are exact, whatever the sizes.
//! Only `tf_crop_and_resize` with its float region is computed in `f64`. Scales that are known only in
//! a run are read as multiples of [`UNIT`], Burin's own operand `ratios`.

use super::compose::{Body, Built, Inputs, cast, operand};
use super::interpolate::cubic_weight;
use super::rules::{self, NUMBER, indices};
use super::shape::{read_sizes, size};
use super::{Lower, Meaning, OpRow, Tolerance, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, reduction};
use crate::expr::{Expr, Range};
use crate::graph::Builder;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp};
use crate::symbol::Symbol;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    attrs: &[
        AttrSpec::new("antialias", AttrKind::Int, Default::Int(0)),
        AttrSpec::new("axes", AttrKind::Ints, Default::Absent),
        AttrSpec::new("coordinate_transformation_mode", AttrKind::Str, Default::Str("half_pixel")),
        AttrSpec::new("cubic_coeff_a", AttrKind::Float, Default::Float(-0.75)),
        AttrSpec::new("exclude_outside", AttrKind::Int, Default::Int(0)),
        AttrSpec::new("extrapolation_value", AttrKind::Float, Default::Float(0.0)),
        AttrSpec::new("keep_aspect_ratio_policy", AttrKind::Str, Default::Str("stretch")),
        AttrSpec::new("mode", AttrKind::Str, Default::Str("nearest")),
        AttrSpec::new("nearest_mode", AttrKind::Str, Default::Str("round_prefer_floor")),
    ],
    // A weight is the difference of a coordinate and its whole part, so that its error is that of the
    // coordinate, however small the weight.
    // The terms of cubic weights are far larger than their sum.
    tolerance: Tolerance::Largest(64.0),
    samples: &[
        "Resize(f32[1,2,3,4], _, f32[4] = [1.0, 1.0, 2.0, 2.0]) \
         {coordinate_transformation_mode = \"asymmetric\", nearest_mode = \"floor\"}",
        "Resize(u8[1,1,5,4], _, _, i64[2] = [3, 7]) {axes = [2, 3]}",
        "Resize(f32[1,2,4,5], _, f32[4] = [1.0, 1.0, 1.5, 0.6]) {mode = \"linear\"}",
        "Resize(f64[1,1,4,4], _, _, i64[4] = [1, 1, 9, 3]) {mode = \"cubic\", exclude_outside = 1}",
        "Resize(f32[1,1,6,9], _, _, i64[2] = [3, 4]) {mode = \"linear\", antialias = 1, axes = [2, 3]}",
        "Resize(f16[2,3,5], _, f32[1] = [2.0]) {mode = \"linear\", axes = [2], \
         coordinate_transformation_mode = \"align_corners\"}",
        "Resize(f32[1,2,4,5], _, f32[2] in 0.4..2.5) {mode = \"linear\", axes = [2, 3]}",
        "Resize(u8[2,5,4], _, _, i64[2] in 1..9) {axes = [2, 1]}",
        "Resize(f32[3,6], _, _, i64[2] in 1..9) {mode = \"cubic\", antialias = 1}",
        "Resize(f64[2,7], _, f32[1] in 0.3..1.8) {mode = \"linear\", antialias = 1, axes = [1]}",
        "Resize(f32[4,5], _, _, i64[2] in 1..9) {keep_aspect_ratio_policy = \"not_larger\"}",
        "Resize(f32[1,4,5], f32[4] in 0.0..1.0, _, i64[2] = [3, 6]) {axes = [1, 2], \
         mode = \"linear\", coordinate_transformation_mode = \"tf_crop_and_resize\"}",
        "Resize(f32[5], _, f32[1] in 0.2..2.0) {mode = \"linear\", \
         coordinate_transformation_mode = \"pytorch_half_pixel\"}",
        "Resize(f32[5], _, f32[1] in 0.2..2.0) {mode = \"cubic\", exclude_outside = 1, \
         coordinate_transformation_mode = \"align_corners\"}",
        "Resize(f32[5], _, f32[1] in 0.2..2.0) {mode = \"linear\", \
         coordinate_transformation_mode = \"half_pixel_symmetric\"}",
    ],
    checks: Some(checks),
    open: Some(open),
    ..OpRow::new(
        "Resize",
        Some(("", 19)),
        &[one("X"), opt("roi"), opt("scales"), opt("sizes").known(), opt("ratios").known()],
        resize_infer,
        Meaning::Primitive(Lower::Element(resize_element)),
    )
}];

/// The part of one that scales which are read are multiples of.
const UNIT: i64 = 1 << 32;
/// A filter reads no more elements than twice this.
const REACH: i64 = 65;
/// Filters of all axes together read no more than this: each stands in the definition of an element, of which a
/// kernel holds several.
const NEIGHBOURS: i64 = 1 << 8;

/// Parts of one that results between integers are multiples of before they become integers.
const TIES: f64 = 1024.0;

/// One axis that is resized, by the scale `p / q`.
#[derive(Clone)]
struct Axis {
    axis: usize,
    p: Expr,
    q: Expr,
    input: Expr,
    output: Expr,
    /// The region of the operand, in units of its extent.
    roi: Region,
}

impl Axis {
    /// Whether anything happens along it.
    fn changes(&self) -> bool {
        self.p != self.q || self.input != self.output || self.roi != Region::ALL
    }
}

/// A part of an operand's dimension.
#[derive(Clone, PartialEq)]
enum Region {
    /// From one place to another.
    Known(f64, f64),
    /// The same, by the places in the operand `roi` where they stand.
    Read(i64, i64),
}

impl Region {
    const ALL: Region = Region::Known(0.0, 1.0);

    /// Where it begins, and so many times its width.
    fn terms(&self, cx: &Cx<'_>, times: f64) -> Result<(Term, Term), String> {
        match *self {
            Region::Known(start, end) => Ok((float(start), float((end - start) * times))),
            Region::Read(start, end) => {
                let dtype = cx.dtype(1)?;
                let [start, end] =
                    [start, end].map(|i| Term::load(dtype, 1, vec![i.into()]).cast(DType::F64));
                let width = end - &start;
                Ok((start, if times == 1.0 { width } else { width * times }))
            }
        }
    }
}

/// A positive float as `p / q`: `q` is a power of two.
fn ratio(scale: f64) -> Result<(i64, i64), String> {
    let (mut p, mut q) = (scale, 1i64);
    while p.fract() != 0.0 && q < 1 << 40 {
        p *= 2.0;
        q *= 2;
    }
    match scale > 0.0 && p < (1i64 << 40) as f64 {
        true => Ok((p as i64, q)),
        false => Err(format!("a scale is {scale}, expected a number above 0 within reason")),
    }
}

/// `p / q` without common factors, as far as they are seen.
fn reduced(p: Expr, q: Expr) -> (Expr, Expr) {
    if let (Some(a), Some(b @ 1..)) = (p.as_const(), q.as_const()) {
        let (mut x, mut y) = (a, b);
        while y != 0 {
            (x, y) = (y, x % y);
        }
        return ((a / x).into(), (b / x).into());
    }
    let whole = p.floor_div_within(&q, &|_| Range { lo: Some(1), hi: None });
    if &whole * &q == p { (whole, Expr::ONE) } else { (p, q) }
}

/// Whether an operand is present and not empty: an empty one counts as absent.
fn given(cx: &Cx<'_>, i: usize) -> bool {
    cx.ty(i).is_ok_and(|t| t.elements() != 0)
}

/// The axes, as the attribute says.
fn axes(cx: &Cx<'_>) -> Result<Vec<usize>, String> {
    let rank = cx.shape(0)?.len();
    match cx.attrs.ints("axes") {
        None => Ok((0..rank).collect()),
        Some(axes) => axes.iter().map(|a| cx.axis(*a, rank)).collect(),
    }
}

/// Every axis with its sizes, or `None` where they depend on scales that are not known.
fn resized(cx: &Cx<'_>) -> Result<Option<Vec<Axis>>, String> {
    let (shape, axes) = (cx.shape(0)?, axes(cx)?);
    let input = |n: usize| shape[axes[n]].clone();
    let fits = |i: usize, what: &str| match cx.ty(i)?.elements() {
        found if found == axes.len() as i64 => Ok(()),
        found => Err(format!("input {i} ({what}) has {found} elements, expected {}", axes.len())),
    };
    let parts: Vec<(Expr, Expr, Expr)> = match (given(cx, 2), given(cx, 3), given(cx, 4)) {
        (true, false, false) => {
            fits(2, "scales")?;
            rules::expect("input 2 (scales)", cx.dtype(2)?, rules::FLOAT)?;
            let Some(scales) = cx.known_floats(2) else { return Ok(None) };
            let part = |(n, scale): (usize, &f64)| {
                let (p, q) = ratio(*scale)?;
                let output = (input(n) * p).floor_div(&q.into());
                Ok((p.into(), q.into(), output))
            };
            scales.iter().enumerate().map(part).collect::<Result<_, String>>()?
        }
        (false, true, false) => {
            fits(3, "sizes")?;
            rules::expect("input 3 (sizes)", cx.dtype(3)?, rules::INT)?;
            let sizes = cx.known(3).ok_or("input 3 (sizes) is not known")?;
            let sizes: Vec<Expr> = sizes.iter().map(size).collect();
            match kept_aspect(cx, &sizes, &axes)? {
                None => sizes.iter().enumerate().map(|(n, s)| (s.clone(), input(n), s.clone())).collect(),
                Some((p, q)) => {
                    let output = |n: usize| (input(n) * (&p * 2) + &q).floor_div(&(&q * 2));
                    (0..axes.len()).map(|n| (p.clone(), q.clone(), output(n))).collect()
                }
            }
        }
        (false, false, true) => {
            fits(4, "ratios")?;
            let ratios = cx.known(4).ok_or("input 4 (ratios) is not known")?;
            let output = |n: usize| size(&(input(n) * &ratios[n]).floor_div(&UNIT.into()));
            (0..axes.len()).map(|n| (ratios[n].clone(), UNIT.into(), output(n))).collect()
        }
        _ => return Err("expected either scales or sizes".into()),
    };
    if let Some((.., o)) = parts.iter().find(|(.., o)| o.as_const().is_some_and(|o| o < 0)) {
        return Err(format!("a size is {o}, expected 0 or more"));
    }
    let roi = regions(cx, axes.len())?;
    let axis = |(n, (p, q, output))| {
        let (p, q) = reduced(p, q);
        Axis { axis: axes[n], p, q, input: input(n), output, roi: roi[n].clone() }
    };
    let all: Vec<Axis> = parts.into_iter().enumerate().map(axis).collect();
    let n = all.iter().filter(|a| a.changes()).count();
    if (2 * reach(cx)?).max(1).checked_pow(n as u32).is_none_or(|all| all > NEIGHBOURS) {
        return Err(format!(
            "{n} axes are interpolated at once, which reads more than {NEIGHBOURS} elements for each"
        ));
    }
    Ok(Some(all))
}

/// The one scale of all axes where the aspect ratio is to be kept: the least or greatest of theirs.
fn kept_aspect(cx: &Cx<'_>, sizes: &[Expr], axes: &[usize]) -> Result<Option<(Expr, Expr)>, String> {
    let larger = match cx.attrs.str("keep_aspect_ratio_policy") {
        Some("stretch") => return Ok(None),
        Some("not_larger") => false,
        Some("not_smaller") => true,
        other => {
            return Err(format!(
                "keep_aspect_ratio_policy is {other:?}, expected stretch, not_larger or not_smaller"
            ));
        }
    };
    let shape = cx.shape(0)?;
    let mut best: Option<(Expr, Expr)> = None;
    for (size, axis) in sizes.iter().zip(axes) {
        let d = &shape[*axis];
        best = Some(match best {
            None => (size.clone(), d.clone()),
            Some((p, q)) => {
                let more = size * &q - &p * d;
                let better = if larger { -&more } else { more }.is_negative();
                (&p + &(&better * &(size - &p)), &q + &(better * (d - &q)))
            }
        });
    }
    Ok(best)
}

/// The region of each axis.
fn regions(cx: &Cx<'_>, count: usize) -> Result<Vec<Region>, String> {
    if cx.attrs.str("coordinate_transformation_mode") != Some("tf_crop_and_resize") {
        return Ok(vec![Region::ALL; count]);
    }
    let roi = cx.ty(1)?;
    rules::expect("input 1 (roi)", roi.dtype, rules::FLOAT)?;
    if roi.rank() != 1 || roi.elements() != 2 * count as i64 {
        return Err(format!("input 1 (roi) is {roi}, expected {} elements", 2 * count));
    }
    Ok(match cx.known_floats(1) {
        Some(roi) => (0..count).map(|n| Region::Known(roi[n], roi[n + count])).collect(),
        None => (0..count).map(|n| Region::Read(n as i64, (n + count) as i64)).collect(),
    })
}

/// Sizes that are read are zero or above, scales are above zero, no filter reads too much, and nothing
/// is made of nothing.
fn checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let Some(axes) = resized(cx)? else { return Ok(Vec::new()) };
    let mut all = read_sizes(cx, 3);
    all.extend(read_sizes(cx, 4).iter().map(|p| p - 1));
    for a in axes.iter().filter(|a| a.changes()) {
        all.push(-&(a.input.is_zero() * a.output.minimum(&Expr::ONE)));
        if cx.attrs.flag("antialias") && (a.p.as_const().is_none() || a.q.as_const().is_none()) {
            all.push(Expr::from(REACH) - widened(a, reach(cx)?));
        }
    }
    Ok(all)
}

/// Scales that are known only in a run become integers.
fn open(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(scales) = operand(inputs, 2).filter(|_| given(cx, 2) && cx.known_floats(2).is_none()) else {
        return Ok(None);
    };
    let mut body = Body::of(b, DType::F64);
    let (scales, unit) = (body.widen(scales)?, body.number(UNIT as f64));
    let ratios = body.op("Mul", &[scales, unit])?;
    let ratios = cast(body.b, ratios, DType::I64)?;
    let attrs = cx.attrs.0.iter().map(|(name, a)| (*name, a.clone())).collect();
    let operands = [operand(inputs, 0), operand(inputs, 1), None, None, Some(ratios)];
    Ok(Some(vec![body.op_with("Resize", &operands, attrs)?]))
}

fn resize_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let t = cx.ty(0)?;
    if cx.attrs.str("mode") != Some("nearest") {
        rules::expect("input 0", t.dtype, NUMBER)?;
    }
    let mut shape = t.shape.clone();
    match resized(cx)? {
        Some(axes) => axes.into_iter().for_each(|a| shape[a.axis] = a.output),
        None => axes(cx)?.into_iter().for_each(|a| shape[a] = (cx.fresh)().into()),
    }
    Ok(vec![TensorType::new(t.dtype, shape).into()])
}

/// A place in the operand.
enum Place {
    /// A quotient of integers.
    Exact(Expr, Expr),
    /// A float, of type `f64`.
    Float(Term),
}

fn float(v: f64) -> Term {
    Term::constant(DType::F64, Scalar::F(v))
}

/// Whether an axis has one element after it is resized: 1 or 0.
fn is_single(a: &Axis) -> Expr {
    let more = if a.q == a.input { &a.p - 1 } else { &a.p * &a.input - &a.q };
    match (a.p.as_const(), a.q.as_const()) {
        // No whole size is the quotient.
        (Some(p @ 1..), Some(q)) if q % p != 0 => Expr::ZERO,
        _ => more.is_zero().simplify(&Symbol::range),
    }
}

/// Where result position `y` lies in the operand.
fn place(cx: &Cx<'_>, a: &Axis, y: &Expr) -> Result<Place, String> {
    let (p, q, n, single) = (&a.p, &a.q, &a.input, is_single(a));
    let center = (y * 2 + 1) * q;
    let half = || (&center - p, p * 2);
    let (numerator, denominator) = match cx.attrs.str("coordinate_transformation_mode").unwrap_or_default() {
        "asymmetric" => (y * q, p.clone()),
        "align_corners" if single == 1 => (Expr::ZERO, Expr::ONE),
        // With sizes the scale is output / input, which makes the quotient simpler. Of one element, both
        // of its parts are zero.
        "align_corners" if p == &a.output && q == n => (y * &(n - 1), p - 1),
        "align_corners" => (y * &(n - 1) * q, p * n - q),
        "half_pixel" => half(),
        // Of one element it is -1/2, else as with half_pixel.
        "pytorch_half_pixel" => {
            let (numerator, denominator) = half();
            let change = |v: Expr, to: i64| &v + &(&single * &(Expr::from(to) - &v));
            (change(numerator, -1), change(denominator, 2))
        }
        "half_pixel_symmetric" => (n * p - &a.output * q + &center - p, p * 2),
        "tf_half_pixel_for_nn" => (center, p * 2),
        "tf_crop_and_resize" => {
            let size = |e: Expr| Term::index(e).cast(DType::F64);
            let last = size(n - 1);
            let ((start, part), (_, half)) = (a.roi.terms(cx, 1.0)?, a.roi.terms(cx, 0.5)?);
            let width = size(n * p) / size(q.clone());
            let many = size(y.clone()) * part * &last / (width - 1.0);
            let whole = Term::when(vec![single - 1], half * &last, many);
            return Ok(Place::Float(whole + start * last));
        }
        other => return Err(format!("coordinate_transformation_mode is {other:?}, which is unknown")),
    };
    Ok(Place::Exact(numerator, denominator))
}

/// How a place is rounded to the nearest element.
fn nearest(cx: &Cx<'_>, at: &Place) -> Result<Result<Expr, Term>, String> {
    let mode = cx.attrs.str("nearest_mode").unwrap_or_default();
    let unknown = || format!("nearest_mode is {mode:?}, which is unknown");
    Ok(match at {
        Place::Exact(n, d) => Ok(match mode {
            "floor" => n.floor_div(d),
            "ceil" => n.ceil_div(d),
            "round_prefer_floor" => (n * 2 - d).ceil_div(&(d * 2)),
            "round_prefer_ceil" => (n * 2 + d).floor_div(&(d * 2)),
            _ => return Err(unknown()),
        }),
        Place::Float(x) => Err(match mode {
            "floor" => x.unary(ScalarOp::Floor),
            "ceil" => x.unary(ScalarOp::Ceil),
            "round_prefer_floor" => (x - 0.5).unary(ScalarOp::Ceil),
            "round_prefer_ceil" => (x + 0.5).unary(ScalarOp::Floor),
            _ => return Err(unknown()),
        }),
    })
}

/// The interpolation weights of one axis: neighbour `first + i` of the place's integer part has the
/// weight `weights[i]`, given the place's fraction.
struct Filter {
    first: i64,
    weights: Vec<Term>,
}

/// The weight of an element at `distance` from the place; a triangle for "linear".
fn kernel(cx: &Cx<'_>, distance: &Term) -> Term {
    let x = distance.unary(ScalarOp::Abs);
    if cx.attrs.str("mode") == Some("linear") {
        return (x.lit(1.0) - &x).binary(ScalarOp::Max, &x.lit(0.0));
    }
    cubic_weight(&x, cx.attrs.float("cubic_coeff_a").unwrap_or(-0.75))
}

/// How far the kernel reaches.
fn reach(cx: &Cx<'_>) -> Result<i64, String> {
    match cx.attrs.str("mode") {
        Some("linear") => Ok(1),
        Some("cubic") => Ok(2),
        Some("nearest") => Ok(0),
        other => Err(format!("mode is {other:?}, expected nearest, linear or cubic")),
    }
}

/// How far a kernel of that reach does if it is widened for a scale below 1.
fn widened(a: &Axis, reach: i64) -> Expr {
    (&a.q * reach).ceil_div(&a.p).maximum(&reach.into())
}

fn filter(cx: &Cx<'_>, a: &Axis, fraction: &Term) -> Result<Filter, String> {
    let reach = reach(cx)? as f64;
    let mut scale = 1.0;
    if let (true, Some(p), Some(q @ 1..)) = (cx.attrs.flag("antialias"), a.p.as_const(), a.q.as_const()) {
        scale = (p as f64 / q as f64).min(1.0);
    }
    let first = (-reach / scale).floor() as i64 + 1;
    if first <= -REACH {
        return Err(format!("a scale of {scale} with antialias reads too many elements"));
    }
    // Between an element and the next there are as many neighbours on either side.
    let distance = |i: i64| (fraction.lit(i as f64) - fraction) * scale;
    let weights: Vec<Term> = (first..2 - first).map(|i| kernel(cx, &distance(i))).collect();
    Ok(Filter { first, weights: if scale < 1.0 { normalised(weights) } else { weights } })
}

/// Weights divided by their sum.
fn normalised(weights: Vec<Term>) -> Vec<Term> {
    let Some(sum) = weights.iter().cloned().reduce(|a, b| a + b) else { return weights };
    weights.iter().map(|w| w / &sum).collect()
}

/// What an element definition of Resize is built from.
struct Interpolation<'a> {
    cx: &'a Cx<'a>,
    dtype: DType,
    /// The type that is computed in.
    wide: DType,
    axes: Vec<Axis>,
    y: Vec<Expr>,
    ranges: Vec<(Symbol, Range)>,
}

impl Interpolation<'_> {
    /// The value with axes from `depth` on interpolated; `index` has those before in place.
    fn value(&self, depth: usize, index: Vec<Expr>) -> Result<Term, String> {
        let Some(a) = self.axes.get(depth) else {
            return Ok(Term::load(self.dtype, 0, index).cast(self.wide));
        };
        let y = &self.y[a.axis];
        let at = place(self.cx, a, y)?;
        let inner = |i: Expr| {
            let mut index = index.clone();
            index[a.axis] = i;
            self.value(depth + 1, index)
        };
        let value = match self.cx.attrs.str("mode") {
            Some("nearest") => match self.nearest(a, y, &at)? {
                Ok(i) => inner(i)?,
                Err(x) => {
                    let symbol = reduction(depth);
                    let last = Term::index(&a.input - 1);
                    let zero = Term::constant(DType::I64, Scalar::I(0));
                    let i = x.cast(DType::I64).binary(ScalarOp::Min, &last).binary(ScalarOp::Max, &zero);
                    Term::bind(symbol, i, inner(symbol.into())?)
                }
            },
            _ => self.weighted(depth, a, &at, &inner)?,
        };
        let Place::Float(x) = at else { return Ok(value) };
        // Outside the operand there is the extrapolation value.
        let last = Term::index(&a.input - 1).cast(DType::F64);
        let outside =
            x.binary(ScalarOp::Lt, &float(0.0)).binary(ScalarOp::Or, &x.binary(ScalarOp::Gt, &last));
        let beyond = value.lit(self.cx.attrs.float("extrapolation_value").unwrap_or(0.0));
        Ok(outside.select(&beyond, &value))
    }

    fn clamped(&self, i: &Expr, a: &Axis) -> Expr {
        let range =
            |s: Symbol| self.ranges.iter().find(|(n, _)| *n == s).map_or_else(|| s.range(), |(_, r)| *r);
        i.minimum(&(&a.input - 1)).maximum(&Expr::ZERO).simplify(&range)
    }

    fn nearest(&self, a: &Axis, y: &Expr, at: &Place) -> Result<Result<Expr, Term>, String> {
        let rounded = nearest(self.cx, at)?;
        let coordinates = self.cx.attrs.str("coordinate_transformation_mode").unwrap_or_default();
        let rounding = self.cx.attrs.str("nearest_mode").unwrap_or_default();
        // A whole scale repeats each element, and never leaves the operand.
        let repeats = match coordinates {
            "asymmetric" | "tf_half_pixel_for_nn" => rounding == "floor",
            "half_pixel" | "pytorch_half_pixel" => rounding.starts_with("round"),
            _ => false,
        };
        if repeats && a.q == 1 && a.input != 1 {
            return Ok(Ok(y.floor_div(&a.p)));
        }
        Ok(rounded.map(|i| self.clamped(&i, a)))
    }

    fn weighted(
        &self,
        depth: usize,
        a: &Axis,
        at: &Place,
        inner: &dyn Fn(Expr) -> Result<Term, String>,
    ) -> Result<Term, String> {
        let (base, fraction, bound) = match at {
            Place::Exact(n, d) => {
                let base = n.floor_div(d);
                let rest = Term::index(n - &(d * &base)).cast(self.wide);
                let whole = Term::index(d.maximum(&Expr::ONE)).cast(self.wide);
                (base, rest / whole, None)
            }
            Place::Float(x) => {
                let floor = x.unary(ScalarOp::Floor);
                let symbol = reduction(depth);
                // Far outside, where the value is not used, the index must not overflow.
                let near = floor.binary(ScalarOp::Max, &float(-1e9)).binary(ScalarOp::Min, &float(1e9));
                (symbol.into(), (x - &floor).cast(self.wide), Some((symbol, near.cast(DType::I64))))
            }
        };
        let known = a.p.as_const().is_some() && a.q.as_const().is_some();
        if self.cx.attrs.flag("antialias") && !known {
            let sum = self.widened(depth, a, (&base, &fraction), inner)?;
            return Ok(match bound {
                Some((symbol, value)) => Term::bind(symbol, value, sum),
                None => sum,
            });
        }
        let Filter { first, mut weights } = filter(self.cx, a, &fraction)?;
        let neighbour = |i: usize| &base + &(first + i as i64).into();
        if self.cx.attrs.flag("exclude_outside") {
            let inside = |(i, w): (usize, &Term)| {
                let at = neighbour(i);
                Term::when(vec![at.clone(), &a.input - 1 - &at], w.clone(), w.lit(0.0))
            };
            weights = normalised(weights.iter().enumerate().map(inside).collect());
        }
        let mut sum: Option<Term> = None;
        for (i, w) in weights.iter().enumerate() {
            let term = inner(self.clamped(&neighbour(i), a))? * w;
            sum = Some(match sum {
                Some(sum) => sum + term,
                None => term,
            });
        }
        let sum = sum.ok_or("a filter without weights")?;
        Ok(match bound {
            Some((symbol, value)) => Term::bind(symbol, value, sum),
            None => sum,
        })
    }
}

impl Interpolation<'_> {
    /// The value along an axis whose scale is known only in a run, with as many neighbours as it wants.
    fn widened(
        &self,
        depth: usize,
        a: &Axis,
        (base, fraction): (&Expr, &Term),
        inner: &dyn Fn(Expr) -> Result<Term, String>,
    ) -> Result<Term, String> {
        let reach = widened(a, reach(self.cx)?);
        let symbol = reduction(self.y.len() + depth);
        let step = Expr::from(symbol) + 1 - &reach;
        let size = |e: &Expr| Term::index(e.clone()).cast(DType::F64);
        let scale = (size(&a.p) / size(&a.q)).binary(ScalarOp::Min, &float(1.0)).cast(self.wide);
        let distance = (Term::index(step.clone()).cast(self.wide) - fraction) * scale;
        let (mut weight, at) = (kernel(self.cx, &distance), base + &step);
        if self.cx.attrs.flag("exclude_outside") {
            let inside = vec![at.clone(), &a.input - 1 - &at];
            weight = Term::when(inside, weight.clone(), weight.lit(0.0));
        }
        let item = inner(self.clamped(&at, a))? * &weight;
        let sum = |of: Term| Term::reduce(ReduceOp::Sum, vec![(symbol, &reach * 2)], of);
        Ok(sum(item) / sum(weight))
    }
}

fn resize_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let t = cx.ty(0)?;
    let mut resized = resized(cx)?.ok_or("scales or sizes depend on data")?;
    let mut extents = t.shape.clone();
    resized.iter().for_each(|a| extents[a.axis] = a.output.clone());
    resized.retain(Axis::changes);
    let nearest = cx.attrs.str("mode") == Some("nearest");
    let (axes, y) = indices(t.rank());
    let ranges =
        axes.iter().zip(&extents).map(|(s, d)| (*s, Range { lo: Some(0), hi: d.as_const().map(|d| d - 1) }));
    let wide = match (nearest, t.dtype.is_float()) {
        (true, _) => t.dtype,
        (_, true) => t.dtype.accumulator(),
        _ => DType::F32,
    };
    let ranges = ranges.collect();
    let body = Interpolation { cx, dtype: t.dtype, wide, axes: resized, y: y.clone(), ranges }.value(0, y)?;
    let body = match wide.is_float() && !t.dtype.is_float() {
        // Between integers ties are common: what rounding leaves of one is taken off first.
        true => ((body * TIES).unary(ScalarOp::Round) * (1.0 / TIES)).unary(ScalarOp::Round),
        false => body,
    };
    Ok(Element { axes, body: body.cast(t.dtype) })
}
