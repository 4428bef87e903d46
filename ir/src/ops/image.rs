//! Images put together and cut: Col2Im, CenterCropPad, and MaxUnpool, which undoes MaxPool.

use super::compose::{Built, Inputs, operand};
use super::contract::SUM_TOLERANCE;
use super::rules::{self, ANY, INT, NUMBER, indices};
use super::shape::target;
use super::window::WindowAttrs;
use super::{Lower, Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::element::{Element, ReduceOp, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[
            AttrSpec::new("dilations", AttrKind::Ints, Default::Absent),
            AttrSpec::new("pads", AttrKind::Ints, Default::Absent),
            AttrSpec::new("strides", AttrKind::Ints, Default::Absent),
        ],
        tolerance: SUM_TOLERANCE,
        checks: Some(col2im_checks),
        samples: &[
            "Col2Im(f32[2,12,9], i64[2] = [4, 5], i64[2] = [2, 3])",
            "Col2Im(f64[1,4,12], i64[2] = [5, 6], i64[2] = [2, 2]) \
             {dilations = [2, 1], pads = [1, 0, 1, 2], strides = [2, 2]}",
            "Col2Im(f16[1,3,4], i64[1] = [6], i64[1] = [3])",
            "Col2Im(i32[1,8,8], i64[3] = [3, 3, 3], i64[3] = [2, 2, 2])",
        ],
        ..OpRow::new(
            "Col2Im",
            Some(("", 18)),
            &[one("input"), one("image_shape").known(), one("block_shape").known()],
            col2im_infer,
            Meaning::Primitive(Lower::Element(col2im_element)),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("axes", AttrKind::Ints, Default::Absent)],
        samples: &[
            "CenterCropPad(f32[5,8], i64[2] = [2, 11])",
            "CenterCropPad(i8[5,8,3], i64[1] = [5]) {axes = [-2]}",
            "CenterCropPad(bool[4,3,2], i64[2] = [7, 1]) {axes = [2, 0]}",
        ],
        ..OpRow::new(
            "CenterCropPad",
            Some(("", 18)),
            &[one("input_data"), one("shape").known()],
            fit_infer,
            Meaning::Movement(|cx, _| fit_element(cx, true)),
        )
    },
    // Cuts elements off behind, or adds zeros there: Burin's own.
    OpRow {
        attrs: &[AttrSpec::new("axes", AttrKind::Ints, Default::Absent)],
        samples: &["Fit(f32[5,8], i64[2] = [2, 11])", "Fit(i8[5,8,3], i64[1] = [5]) {axes = [-2]}"],
        ..OpRow::new(
            "Fit",
            None,
            &[one("data"), one("shape").known()],
            fit_infer,
            Meaning::Movement(|cx, _| fit_element(cx, false)),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("kernel_shape", AttrKind::Ints, Default::Required),
            AttrSpec::new("pads", AttrKind::Ints, Default::Absent),
            AttrSpec::new("strides", AttrKind::Ints, Default::Absent),
        ],
        samples: &[
            "MaxUnpool(f32[1,1,2,2], i64[1,1,2,2] = [5, 7, 13, 15]) {kernel_shape = [2, 2], strides = [2, 2]}",
            "MaxUnpool(f64[1,1,2,2], i64[1,1,2,2] = [5, 7, 13, 15], i64[4] = [1, 1, 5, 5]) \
             {kernel_shape = [2, 2], strides = [2, 2]}",
            "MaxUnpool(f32[2,3,4], i64[2,3,4] in 0..30) {kernel_shape = [3], pads = [1, 0], strides = [1]}",
        ],
        ..OpRow::new(
            "MaxUnpool",
            Some(("", 22)),
            &[one("X"), one("I"), opt("output_shape").known()],
            unpool_infer,
            Meaning::Composite(unpool_build),
        )
    },
];

/// Checks Col2Im's image and block sizes, and gives the window's attributes.
fn col2im_window(cx: &Cx<'_>, image: &[Expr], block: &[Expr]) -> Result<WindowAttrs, String> {
    let positive = |n: &Expr| n.as_const().is_none_or(|n| n > 0);
    if image.len() != block.len() || image.is_empty() || !image.iter().chain(block).all(positive) {
        let (image, block) = (rules::show(image), rules::show(block));
        return Err(format!("image_shape is {image} and block_shape {block}, expected positive numbers"));
    }
    WindowAttrs::of(cx.attrs, image.len())
}

/// How many blocks there are along each dimension of the image.
fn col2im_blocks(attrs: &WindowAttrs, image: &[Expr], block: &[Expr]) -> Vec<Expr> {
    let count = |i: usize| {
        let padded = &image[i] + attrs.pads[i].0 + attrs.pads[i].1;
        (padded - (&block[i] - 1) * attrs.dilations[i] - 1).floor_div(&attrs.strides[i].into()) + 1
    };
    (0..image.len()).map(count).collect()
}

fn col2im_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, image, block) = (cx.ty(0)?, target(cx, 1, "image_shape")?, target(cx, 2, "block_shape")?);
    rules::expect("input 0", x.dtype, NUMBER)?;
    let attrs = col2im_window(cx, &image, &block)?;
    let [n, channels, columns] = &x.shape[..] else {
        return Err(format!("input 0 is {x}, expected [N, channels * block, blocks]"));
    };
    let (size, expected) = (Expr::product(&block), Expr::product(&col2im_blocks(&attrs, &image, &block)));
    let differ = |a: &Expr, b: &Expr| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
    if differ(&channels.modulo(&size), &Expr::ZERO) || differ(columns, &expected) {
        return Err(format!("input 0 is {x}, expected [N, a multiple of {size}, {expected}]"));
    }
    let shape = [n.clone(), channels.floor_div(&size)].into_iter().chain(image);
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// There must be as many blocks as an image whose size is read from data has.
fn col2im_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let (image, block) = (target(cx, 1, "image_shape")?, target(cx, 2, "block_shape")?);
    let attrs = col2im_window(cx, &image, &block)?;
    let blocks = Expr::product(&col2im_blocks(&attrs, &image, &block));
    let more = blocks - cx.shape(0)?.last().cloned().unwrap_or(Expr::ONE);
    Ok(vec![-&more, more])
}

/// Each element of the image gathers what blocks hold for it.
fn col2im_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (x, image, block) = (cx.ty(0)?, target(cx, 1, "image_shape")?, target(cx, 2, "block_shape")?);
    let attrs = col2im_window(cx, &image, &block)?;
    let (rank, counts) = (block.len(), col2im_blocks(&attrs, &image, &block));
    let (axes, index) = indices(2 + rank);
    let (mut vars, mut conditions) = (Vec::new(), Vec::new());
    let (mut row, mut column) = (index[1].clone(), Expr::ZERO);
    for d in 0..rank {
        let k = reduction(d);
        vars.push((k, block[d].clone()));
        let at = &index[2 + d] + attrs.pads[d].0 - Expr::from(k) * attrs.dilations[d];
        let nth = at.floor_div(&attrs.strides[d].into());
        if attrs.strides[d] != 1 {
            conditions.push(&nth * attrs.strides[d] - &at);
        }
        conditions.extend([nth.clone(), &counts[d] - 1 - &nth]);
        row = row * &block[d] + Expr::from(k);
        column = column * &counts[d] + nth;
    }
    let value = Term::load(x.dtype, 0, vec![index[0].clone(), row, column]).cast(x.dtype.accumulator());
    let none = value.lit(0.0);
    let sum = Term::reduce(ReduceOp::Sum, vars, Term::when(conditions, value, none));
    Ok(Element { axes, body: sum.cast(x.dtype) })
}

/// The axes whose size changes, with their new sizes.
fn fitted(cx: &Cx<'_>, sizes: &[Expr]) -> Result<Vec<(usize, Expr)>, String> {
    let rank = cx.shape(0)?.len();
    let axes: Vec<usize> = match cx.attrs.ints("axes") {
        None => (0..rank).collect(),
        Some(axes) => axes.iter().map(|a| cx.axis(*a, rank)).collect::<Result<_, _>>()?,
    };
    match axes.len() == sizes.len() {
        true => Ok(axes.into_iter().zip(sizes.iter().cloned()).collect()),
        false => Err(format!("shape has {} numbers, expected {}", sizes.len(), axes.len())),
    }
}

fn fit_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", x.dtype, ANY)?;
    let mut shape = x.shape.clone();
    for (axis, size) in fitted(cx, &target(cx, 1, "shape")?)? {
        if size.as_const().is_some_and(|n| n < 0) {
            return Err(format!("shape has the size {size}, expected 0 or more"));
        }
        shape[axis] = size;
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn fit_element(cx: &Cx<'_>, center: bool) -> Result<Element, String> {
    let x = cx.ty(0)?;
    let (axes, mut index) = indices(x.rank());
    let (mut inside, sizes) = (Vec::new(), target(cx, 1, "shape")?);
    for (axis, size) in fitted(cx, &sizes)? {
        let dim = &x.shape[axis];
        let half = |e: Expr| match center {
            true => e.maximum(&Expr::ZERO).floor_div(&2.into()),
            false => Expr::ZERO,
        };
        let (pad, crop) = (half(&size - dim), half(dim - &size));
        let at = &index[axis] - &pad + crop;
        if !matches!((size.as_const(), dim.as_const()), (Some(size), Some(dim)) if size <= dim) {
            inside.extend([at.clone(), dim - 1 - &at]);
        }
        index[axis] = at;
    }
    let none = Term::constant(x.dtype, Scalar::I(0));
    Ok(Element { axes, body: Term::when(inside, Term::load(x.dtype, 0, index), none) })
}

/// The shape of what MaxPool was applied to, as the window says.
fn unpooled(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let shape = cx.shape(0)?;
    let kernel = cx.attrs.ints("kernel_shape").unwrap_or_default();
    if shape.len() < 3 || kernel.len() != shape.len() - 2 || kernel.iter().any(|k| *k < 1) {
        return Err(format!("kernel_shape is {kernel:?} for an input of shape {}", rules::show(shape)));
    }
    let attrs = WindowAttrs::of(cx.attrs, kernel.len())?;
    let size = |i: usize| {
        let (before, after) = attrs.pads[i];
        (&shape[i + 2] - 1) * attrs.strides[i] + kernel[i] - before - after
    };
    Ok(shape[..2].iter().cloned().chain((0..kernel.len()).map(size)).collect())
}

fn unpool_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, at) = (cx.ty(0)?, cx.ty(1)?);
    rules::expect("input 0", x.dtype, NUMBER)?;
    rules::expect("input 1 (I)", at.dtype, INT)?;
    let shape = unpooled(cx)?;
    if x.rank() != at.rank() {
        return Err(format!("{x} with indices {at}, expected one shape"));
    }
    let shape = match cx.has(2) {
        true => target(cx, 2, "output_shape")?,
        false => shape,
    };
    if shape.len() != x.rank() {
        return Err(format!("output_shape is {}, expected {} numbers", rules::show(&shape), x.rank()));
    }
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

/// Indices count the elements of the shape that the window says; output_shape fills that up with zeros.
fn unpool_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (Some(x), Some(at)) = (operand(inputs, 0), operand(inputs, 1)) else { return Ok(None) };
    let shape = unpooled_shape(cx, b, x)?;
    let zero = Tensor::from_scalars(cx.dtype(0)?, &[1], [Scalar::I(0)]);
    let count = b.op("ReduceProd", &[shape], vec![])?;
    let zeros = b.op("ConstantOfShape", &[count], vec![("value", Attr::Tensor(zero))])?;
    let flat = b.constant(Tensor::new(&[1], &[-1i64]));
    let [x, at] = [x, at].map(|v| b.op("Reshape", &[v, flat], vec![]));
    let filled = b.op("ScatterElements", &[zeros, at?, x?], vec![])?;
    let result = b.op("Reshape", &[filled, shape], vec![])?;
    Ok(Some(vec![match operand(inputs, 2) {
        Some(shape) => b.op("Fit", &[result, shape], vec![])?,
        None => result,
    }]))
}

/// [`unpooled`] as a value.
fn unpooled_shape(cx: &Cx<'_>, b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let kernel = cx.attrs.ints("kernel_shape").unwrap_or_default();
    let attrs = WindowAttrs::of(cx.attrs, kernel.len())?;
    let rest: Vec<i64> = kernel
        .iter()
        .zip(&attrs.pads)
        .map(|(k, (before, after))| k.saturating_sub(*before).saturating_sub(*after))
        .collect();
    let list = |b: &mut Builder<'_>, v: &[i64]| b.constant(Tensor::new(&[v.len()], v));
    let (one, strides, rest) = (list(b, &[1]), list(b, &attrs.strides), list(b, &rest));
    let outer = b.op("Shape", &[x], vec![("end", Attr::Int(2))])?;
    let size = b.op("Shape", &[x], vec![("start", Attr::Int(2))])?;
    let steps = b.op("Sub", &[size, one], vec![])?;
    let reach = b.op("Mul", &[steps, strides], vec![])?;
    let size = b.op("Add", &[reach, rest], vec![])?;
    b.op("Concat", &[outer, size], vec![("axis", Attr::Int(0))])
}
