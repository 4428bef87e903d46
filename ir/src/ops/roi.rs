//! Pooling of regions of interest: boxes of images, given as data, resampled to one size.

use super::contract::shared;
use super::interpolate::{Tap, clamped, int, interpolated};
use super::rules::{self, FLOAT, INT, indices};
use super::{Lower, Meaning, OpRow, Tolerance, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::ScalarOp as S;
use crate::types::TensorType;

const SCALE: AttrSpec = AttrSpec::new("spatial_scale", AttrKind::Float, Default::Float(1.0));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            AttrSpec::new("coordinate_transformation_mode", AttrKind::Str, Default::Str("half_pixel")),
            AttrSpec::new("mode", AttrKind::Str, Default::Str("avg")),
            AttrSpec::new("output_height", AttrKind::Int, Default::Int(1)),
            AttrSpec::new("output_width", AttrKind::Int, Default::Int(1)),
            AttrSpec::new("sampling_ratio", AttrKind::Int, Default::Int(0)),
            SCALE,
        ],
        tolerance: Tolerance::Largest(256.0),
        samples: &[
            "RoiAlign(f32[2,3,6,7], f32[5,4] in 0..6, i64[5] in 0..2) \
             {output_height = 2, output_width = 3, sampling_ratio = 2}",
            "RoiAlign(f32[1,2,6,7], f32[2,4] = [0.3, 1.2, 5.1, 4.3, -1.0, 2.0, 9.0, 3.0], i64[2] = [0, 0]) \
             {output_height = 2, output_width = 2, coordinate_transformation_mode = \"output_half_pixel\"}",
            "RoiAlign(f64[2,1,6,7], f64[2,4] = [1.3, 1.2, 5.1, 4.4, 3.0, 2.0, 3.0, 3.0], i64[2] = [1, 0]) \
             {mode = \"max\", output_height = 3, output_width = 1, spatial_scale = 0.5}",
        ],
        ..OpRow::new(
            "RoiAlign",
            Some(("", 22)),
            &[one("X"), one("rois"), one("batch_indices")],
            align_infer,
            Meaning::Primitive(Lower::Element(align_element)),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("pooled_shape", AttrKind::Ints, Default::Required), SCALE],
        samples: &[
            "MaxRoiPool(f32[2,3,6,7], f32[2,5] = [0.0, 0.4, 0.6, 2.6, 3.6, 1.0, 2.0, 2.0, 9.0, 9.0]) \
             {pooled_shape = [2, 3]}",
            "MaxRoiPool(f64[1,2,6,7], f64[1,5] = [0.0, 2.0, 1.0, 12.0, 6.0]) \
             {pooled_shape = [3, 2], spatial_scale = 0.5}",
        ],
        ..OpRow::new(
            "MaxRoiPool",
            Some(("", 22)),
            &[one("X"), one("rois")],
            max_infer,
            Meaning::Primitive(Lower::Element(max_element)),
        )
    },
];

/// The result: so many boxes of the images' channels at a size.
fn pooled(cx: &Cx<'_>, columns: i64, size: [i64; 2]) -> Result<TensorType, String> {
    let (x, rois) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 0", x.dtype, FLOAT)?;
    let fits = rois.rank() == 2 && rois.shape[1].as_const().is_none_or(|n| n == columns);
    if x.rank() != 4 || !fits || x.dtype != rois.dtype {
        return Err(format!("{x} with regions {rois}, expected [N, C, H, W] and [R, {columns}] of one type"));
    }
    if size.iter().any(|n| *n < 1) {
        return Err(format!("the result's size is {size:?}, expected positive numbers"));
    }
    Ok(TensorType::new(x.dtype, [rois.shape[0].clone(), x.shape[1].clone(), size[0].into(), size[1].into()]))
}

fn align_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 2 (batch_indices)", cx.dtype(2)?, INT)?;
    let ty = pooled(cx, 4, [cx.int("output_height"), cx.int("output_width")])?;
    let [n] = cx.shape(2)? else { return Err("batch_indices has more than one dimension".into()) };
    shared(&ty.shape[0], n, "the regions of input 1 (rois) and input 2 (batch_indices)")?;
    Ok(vec![ty.into()])
}

/// One dimension of a region: where it starts, and how far its bins are apart.
struct Span {
    start: Term,
    bin: Term,
    /// Samples in a bin, an `i64`.
    samples: Term,
}

/// The samples of a bin along one dimension: two neighbours of the place, the place being clamped to
/// the image, and no value where it is more than one element away from it.
fn align_taps(span: &Span, bin: &Expr, sample: &Expr, dim: &Expr) -> Vec<Tap> {
    let number = |e: Expr| Term::index(e).cast(span.start.dtype());
    let count = span.samples.cast(span.start.dtype());
    let within_bin = (number(sample.clone()) + 0.5) * &span.bin / count;
    let place = &span.start + &(number(bin.clone()) * &span.bin) + within_bin;
    let size = number(dim.clone());
    let inside = place.binary(S::Ge, &place.lit(-1.0)).binary(S::And, &place.binary(S::Le, &size));
    let place = place.binary(S::Max, &place.lit(0.0)).binary(S::Min, &(size - 1.0));
    let base = place.unary(S::Floor);
    let fraction = &place - &base;
    let index = base.cast(DType::I64);
    let tap = |index: Term, weight: Term| Tap {
        index: clamped(&index, dim),
        inside: None,
        weight: Some(inside.select(&weight, &weight.lit(0.0))),
    };
    vec![tap(index.clone(), fraction.lit(1.0) - &fraction), tap(&index + &int(1), fraction)]
}

/// Binds the number of image that a region is of.
fn of_image(image: &Term, count: &Expr, body: Term) -> Term {
    let none = body.lit(0.0);
    Term::bind(reduction(0), clamped(image, count), Term::when(vec![count - 1], body, none))
}

fn align_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let wide = x.dtype.accumulator();
    let (axes, index) = indices(4);
    let roi = |column: i64| Term::load(x.dtype, 1, vec![index[0].clone(), column.into()]).cast(wide);
    let whole_pixel = match cx.attrs.str("coordinate_transformation_mode") {
        Some("half_pixel") => false,
        Some("output_half_pixel") => true,
        other => {
            return Err(format!(
                "coordinate_transformation_mode is {other:?}, expected half_pixel or output_half_pixel"
            ));
        }
    };
    let (scale, ratio) = (cx.attrs.float("spatial_scale").unwrap_or(1.0), cx.int("sampling_ratio"));
    let edge = |column: i64| {
        let at = roi(column) * scale;
        if whole_pixel { at } else { at - 0.5 }
    };
    let span = |first: i64, bins: i64| {
        let start = edge(first);
        let mut size = edge(first + 2) - &start;
        if whole_pixel {
            size = size.binary(S::Max, &size.lit(1.0));
        }
        let bin = size / (start.lit(bins as f64));
        let samples = match ratio {
            1.. => int(ratio),
            _ => bin.unary(S::Ceil).cast(DType::I64).binary(S::Max, &int(0)),
        };
        Span { start, bin, samples }
    };
    // Columns are x before y.
    let spans = [span(1, cx.int("output_height")), span(0, cx.int("output_width"))];
    let counts = [reduction(1), reduction(2)];
    let extent = |d: usize| if ratio > 0 { Expr::from(ratio) } else { counts[d].into() };
    let vars = vec![(reduction(3), extent(0)), (reduction(4), extent(1))];
    let dims = &x.shape[2..];
    let taps: Vec<Vec<Tap>> =
        (0..2).map(|d| align_taps(&spans[d], &index[2 + d], &Expr::from(vars[d].0), &dims[d])).collect();
    let image = Expr::from(reduction(0));
    let load =
        |at: &[Expr]| Term::load(x.dtype, 0, [&[image.clone(), index[1].clone()], at].concat()).cast(wide);
    let total = spans[0].samples.binary(S::Mul, &spans[1].samples);
    let value = match cx.attrs.str("mode") {
        Some("avg") => {
            let sum = Term::reduce(ReduceOp::Sum, vars, interpolated(dims, &taps, 5, &load));
            sum / total.binary(S::Max, &int(1)).cast(wide)
        }
        Some("max") => {
            let largest = Term::reduce(ReduceOp::Max, vars, weighted_largest(dims, taps, &load));
            total.binary(S::Gt, &int(0)).select(&largest, &largest.lit(0.0))
        }
        other => return Err(format!("mode is {other:?}, expected avg or max")),
    };
    let value = match ratio {
        1.. => value,
        _ => (0..2).fold(value, |v, d| Term::bind(counts[d], spans[d].samples.clone(), v)),
    };
    let batch = Term::load(cx.dtype(2)?, 2, vec![index[0].clone()]).cast(DType::I64);
    Ok(Element { axes, body: of_image(&batch, &x.shape[0], value).cast(x.dtype) })
}

/// The largest of a sample's four weighted neighbours, which is what the mode "max" compares.
fn weighted_largest(dims: &[Expr], taps: Vec<Vec<Tap>>, load: &dyn Fn(&[Expr]) -> Term) -> Term {
    let mut largest: Option<Term> = None;
    let mut rows = taps.into_iter();
    let (ys, xs) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
    for y in &ys {
        for x in &xs {
            let one = |t: &Tap| {
                vec![Tap { index: t.index.clone(), inside: t.inside.clone(), weight: t.weight.clone() }]
            };
            let value = interpolated(dims, &[one(y), one(x)], 5, load);
            largest = Some(match largest {
                Some(l) => l.binary(S::Max, &value),
                None => value,
            });
        }
    }
    largest.unwrap_or_else(|| load(&[Expr::ZERO, Expr::ZERO]))
}

/// The size of MaxRoiPool's result.
fn pooled_shape(cx: &Cx<'_>) -> Result<[i64; 2], String> {
    let given = cx.attrs.ints("pooled_shape").unwrap_or_default();
    given.try_into().map_err(|_| format!("pooled_shape is {given:?}, expected two numbers"))
}

fn max_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Ok(vec![pooled(cx, 5, pooled_shape(cx)?)?.into()])
}

fn max_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (x, bins) = (cx.ty(0)?, pooled_shape(cx)?);
    let wide = x.dtype.accumulator();
    let (axes, index) = indices(4);
    let roi = |column: i64| Term::load(x.dtype, 1, vec![index[0].clone(), column.into()]).cast(wide);
    let scale = cx.attrs.float("spatial_scale").unwrap_or(1.0);
    // Halves are rounded away from zero.
    let edge = |column: i64| {
        let at = roi(column) * scale;
        let size = (at.unary(S::Abs) + 0.5).unary(S::Floor);
        at.binary(S::Lt, &at.lit(0.0)).select(&-&size, &size)
    };
    let mut vars = Vec::new();
    let (mut starts, mut counts) = (Vec::new(), Vec::new());
    for d in 0..2 {
        let dim = &x.shape[2 + d];
        let (start, end) = (edge(2 - d as i64), edge(4 - d as i64));
        let size = (end - &start + 1.0).binary(S::Max, &start.lit(1.0));
        let bin = size / start.lit(bins[d] as f64);
        let limit = |n: Expr, round: S| {
            let at = (Term::index(n).cast(wide) * &bin).unary(round) + &start;
            let at = at.cast(DType::I64).binary(S::Max, &int(0));
            at.binary(S::Min, &Term::index(dim.clone()))
        };
        let first = limit(index[2 + d].clone(), S::Floor);
        let count = limit(&index[2 + d] + 1, S::Ceil) - &first;
        starts.push((reduction(1 + d), first));
        counts.push((reduction(3 + d), count));
        vars.push((reduction(5 + d), Expr::from(reduction(3 + d))));
    }
    let at: Vec<Expr> = (0..2).map(|d| Expr::from(starts[d].0) + Expr::from(vars[d].0)).collect();
    let place = [&[Expr::from(reduction(0)), index[1].clone()], &at[..]].concat();
    let largest = Term::reduce(ReduceOp::Max, vars, Term::load(x.dtype, 0, place));
    // A bin without elements is 0.
    let some = |d: usize| Expr::from(counts[d].0) - 1;
    let none = largest.lit(0.0);
    let value = Term::when(vec![some(0), some(1)], largest, none);
    let value = starts.into_iter().chain(counts).fold(value, |v, (s, n)| Term::bind(s, n, v));
    let batch = roi(0).cast(DType::I64);
    Ok(Element { axes, body: of_image(&batch, &x.shape[0], value) })
}
