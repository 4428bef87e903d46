//! GridSample, which reads an image at places given as data, and AffineGrid, which makes such places.
//!
//! Places are in units of half the image, from -1 to 1, and name the last dimension first.

use super::contract::shared;
use super::interpolate::{Tap, clamped, cubic_weight, int, interpolated, linear, within};
use super::rules::{self, CONVERTED, FLOAT, indices};
use super::shape::target;
use super::{Lower, Meaning, OpRow, Tolerance, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::ScalarOp as S;
use crate::types::TensorType;

/// The cubic convolution's parameter that GridSample fixes.
const CUBIC: f64 = -0.75;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            AttrSpec::new("align_corners", AttrKind::Int, Default::Int(0)),
            AttrSpec::new("mode", AttrKind::Str, Default::Str("linear")),
            AttrSpec::new("padding_mode", AttrKind::Str, Default::Str("zeros")),
        ],
        tolerance: Tolerance::Largest(64.0),
        samples: &[
            "GridSample(f32[2,3,4,5], f32[2,6,7,2] in -1.5..1.5)",
            "GridSample(f32[1,2,4,5], f32[1,3,5,2] in -3..3) {padding_mode = \"border\", align_corners = 1}",
            "GridSample(f64[1,2,4,3], f32[1,3,5,2] in -4..4) {padding_mode = \"reflection\"}",
            "GridSample(f32[1,1,4,1], f32[1,3,2,2] in -4..4) {padding_mode = \"reflection\", align_corners = 1}",
            "GridSample(u8[1,2,4,5], f32[1,3,5,2] in -1.5..1.5) {mode = \"nearest\"}",
            "GridSample(f32[1,1,4,5], f32[1,3,5,2] in -3..3) \
             {mode = \"nearest\", padding_mode = \"reflection\", align_corners = 1}",
            "GridSample(f32[1,2,6,5], f32[1,3,5,2] in -1.5..1.5) {mode = \"cubic\"}",
            "GridSample(f32[1,2,6,5], f32[1,3,5,2] in -3..3) {mode = \"cubic\", padding_mode = \"border\"}",
            "GridSample(f16[1,2,3,4,5], f32[1,2,3,2,3] in -1.2..1.2)",
            "GridSample(f32[1,2,0,5], f32[1,3,5,2])",
        ],
        ..OpRow::new(
            "GridSample",
            Some(("", 22)),
            &[one("X"), one("grid")],
            grid_sample_infer,
            Meaning::Primitive(Lower::Element(grid_sample_element)),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("align_corners", AttrKind::Int, Default::Int(0))],
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "AffineGrid(f32[2,2,3], i64[4] = [2, 3, 4, 5])",
            "AffineGrid(f64[1,2,3], i64[4] = [1, 1, 1, 4]) {align_corners = 1}",
            "AffineGrid(f16[2,3,4], i64[5] = [2, 1, 2, 3, 4]) {align_corners = 1}",
        ],
        ..OpRow::new(
            "AffineGrid",
            Some(("", 20)),
            &[one("theta"), one("size").known()],
            affine_grid_infer,
            Meaning::Primitive(Lower::Element(affine_grid_element)),
        )
    },
];

fn grid_sample_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, grid) = (cx.ty(0)?, cx.ty(1)?);
    let nearest = cx.attrs.str("mode") == Some("nearest");
    rules::expect("input 0", x.dtype, if nearest { CONVERTED } else { FLOAT })?;
    rules::expect("input 1 (grid)", grid.dtype, FLOAT)?;
    let spatial = (x.rank() as i64 - 2).max(1);
    let fits = grid.shape.last().is_some_and(|n| n.as_const().is_none_or(|n| n == spatial));
    if x.rank() < 3 || grid.rank() != x.rank() || !fits {
        return Err(format!("{x} is read at {grid}, expected [N, C, ...] and [N, ..., {spatial}]"));
    }
    let batch = shared(&x.shape[0], &grid.shape[0], "the batches of input 0 and input 1 (grid)")?;
    let mut shape = vec![batch, x.shape[1].clone()];
    shape.extend_from_slice(&grid.shape[1..grid.rank() - 1]);
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Where a place lies along a dimension, in elements.
fn unnormalised(place: &Term, dim: &Expr, corners: bool) -> Term {
    let size = Term::index(dim.clone()).cast(place.dtype());
    let whole = match corners {
        true => (place + 1.0) * (size - 1.0),
        false => (place + 1.0) * size - 1.0,
    };
    whole * 0.5
}

/// A place beyond the outermost elements' edges moved to the nearest element.
fn to_border(place: &Term, dim: &Expr, corners: bool) -> Term {
    let last = Term::index(dim - 1).cast(place.dtype());
    let margin = if corners { 0.0 } else { 0.5 };
    let before = place.binary(S::Lt, &place.lit(-margin));
    let behind = place.binary(S::Gt, &(&last + margin));
    before.select(&place.lit(0.0), &behind.select(&last, place))
}

/// The index that an image has which goes on beyond its edges as in a mirror: at the outermost
/// elements' centres with `corners`, else at their edges.
fn reflected(index: &Term, dim: &Expr, corners: bool) -> Term {
    let (period, back) = if corners { ((dim - 1) * 2, 0i64) } else { (dim * 2, 1) };
    let there = index.binary(S::Mod, &Term::index(period.clone()));
    let turned = Term::index(period - back) - &there;
    clamped(&there.binary(S::Min, &turned), dim)
}

/// The neighbours of a place along a dimension.
fn taps(cx: &Cx<'_>, place: Term, dim: &Expr) -> Result<Vec<Tap>, String> {
    let corners = cx.attrs.flag("align_corners");
    let padding = cx.attrs.str("padding_mode").unwrap_or_default();
    let place = if padding == "border" { to_border(&place, dim, corners) } else { place };
    let (base, weights) = match cx.attrs.str("mode") {
        Some("nearest") => (place.unary(S::Round).cast(DType::I64), vec![None]),
        Some("linear") => {
            let (base, weights) = linear(&place);
            (base, weights.map(Some).to_vec())
        }
        Some("cubic") => {
            let floor = place.unary(S::Floor);
            let fraction = &place - &floor;
            let distance = |i: i64| (&fraction - i as f64).unary(S::Abs);
            let weights = (-1..3).map(|i| Some(cubic_weight(&distance(i), CUBIC))).collect();
            ((floor - 1.0).cast(DType::I64), weights)
        }
        other => return Err(format!("mode is {other:?}, expected nearest, linear or cubic")),
    };
    let tap = |(i, weight): (usize, Option<Term>)| {
        let index = if i == 0 { base.clone() } else { &base + &int(i as i64) };
        match padding {
            "zeros" => Ok(Tap { index: clamped(&index, dim), inside: Some(within(&index, dim)), weight }),
            "border" => Ok(Tap { index: clamped(&index, dim), inside: None, weight }),
            "reflection" => Ok(Tap { index: reflected(&index, dim, corners), inside: None, weight }),
            other => Err(format!("padding_mode is {other:?}, expected zeros, border or reflection")),
        }
    };
    weights.into_iter().enumerate().map(tap).collect()
}

fn grid_sample_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (x, grid) = (cx.ty(0)?, cx.ty(1)?);
    let (axes, index) = indices(x.rank());
    let (image, dims) = (&index[..2], &x.shape[2..]);
    let nearest = cx.attrs.str("mode") == Some("nearest");
    // Which element is nearest must not depend on how intermediate results are rounded.
    let wide = if nearest { DType::F64 } else { x.dtype.accumulator() };
    let mut all = Vec::new();
    for (d, dim) in dims.iter().enumerate() {
        let mut at = vec![image[0].clone()];
        at.extend_from_slice(&index[2..]);
        at.push((dims.len() - 1 - d).into());
        let place = Term::load(grid.dtype, 1, at).cast(wide);
        let place = unnormalised(&place, dim, cx.attrs.flag("align_corners"));
        all.push(taps(cx, if nearest { place.cast(grid.dtype) } else { place }, dim)?);
    }
    let value = if nearest { x.dtype } else { wide };
    let load = |at: &[Expr]| Term::load(x.dtype, 0, [image, at].concat()).cast(value);
    Ok(Element { axes, body: interpolated(dims, &all, 0, &load).cast(x.dtype) })
}

/// Checks AffineGrid's operands, and gives the spatial ones of the sizes.
fn affine_sizes<'a>(cx: &Cx<'_>, size: &'a [Expr]) -> Result<&'a [Expr], String> {
    let spatial = size.len() as i64 - 2;
    let expected = [None, Some(spatial), Some(spatial + 1)];
    let found = cx.shape(0)?;
    let fits = found.len() == 3
        && found.iter().zip(expected).all(|(d, e)| e.is_none_or(|e| d.as_const().is_none_or(|d| d == e)));
    if !fits || !(2..=3).contains(&spatial) {
        return Err(format!(
            "theta has shape {} for a size of {} numbers, expected [N, 2, 3] for 4 or [N, 3, 4] for 5",
            rules::show(found),
            size.len()
        ));
    }
    Ok(&size[2..])
}

fn affine_grid_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let theta = cx.ty(0)?;
    rules::expect("input 0 (theta)", theta.dtype, FLOAT)?;
    let size = target(cx, 1, "size")?;
    let sizes = affine_sizes(cx, &size)?;
    let spatial = sizes.len().into();
    let shape = [theta.shape[0].clone()].into_iter().chain(sizes.iter().cloned()).chain([spatial]);
    Ok(vec![TensorType::new(theta.dtype, shape).into()])
}

/// The place of position `at` of a dimension of `size` elements. With `align_corners` the first
/// element is at -1 and the last at 1, where also a single one is.
fn base_place(at: &Expr, size: &Expr, corners: bool, wide: DType) -> Term {
    let number = |e: Expr| Term::index(e).cast(wide);
    let spread = |span: Expr| number(at * 2 - (size - 1)) / number(span);
    match corners {
        false => spread(size.clone()),
        true => {
            let one = Term::constant(wide, crate::scalar::Scalar::F(1.0));
            Term::when(vec![size - 2], spread(size - 1), one)
        }
    }
}

fn affine_grid_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (dtype, size) = (cx.dtype(0)?, target(cx, 1, "size")?);
    let sizes = affine_sizes(cx, &size)?;
    let (axes, index) = indices(sizes.len() + 2);
    let (corners, wide) = (cx.attrs.flag("align_corners"), dtype.accumulator());
    let (row, spatial) = (&index[sizes.len() + 1], sizes.len());
    let theta = |column: usize| {
        let at = vec![index[0].clone(), row.clone(), column.into()];
        Term::load(dtype, 0, at).cast(wide)
    };
    let mut sum = theta(spatial);
    for column in 0..spatial {
        let d = spatial - 1 - column;
        sum = sum + theta(column) * base_place(&index[d + 1], &sizes[d], corners, wide);
    }
    Ok(Element { axes, body: sum.cast(dtype) })
}
