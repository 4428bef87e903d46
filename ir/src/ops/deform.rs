//! DeformConv: a convolution that reads each of its window's elements at a place of its own, which is
//! moved by an offset from data (X. Zhu et al., "Deformable ConvNets v2", 2018).
//!
//! It is a product of the weights with what is read, which Burin's own op DeformColumns
//! gathers: from an image `[N, C, ...]` the elements `[N, C, kernel..., output...]`.

use super::compose::{Built, Inputs, operand};
use super::interpolate::{Tap, int, interpolated, linear};
use super::rules::{self, FLOAT, indices};
use super::window::{self, Slide, window_attrs};
use super::{Lower, Meaning, OpRow, Tolerance, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Offsets move what is read, so that absolute values of operands say nothing of one element.
const TOLERANCE: Tolerance = Tolerance::Largest(64.0);
const OFFSET_GROUP: AttrSpec = AttrSpec::new("offset_group", AttrKind::Int, Default::Int(1));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: window_attrs![AttrSpec::new("group", AttrKind::Int, Default::Int(1)), OFFSET_GROUP],
        tolerance: TOLERANCE,
        samples: &[
            "DeformConv(f32[1,2,5,6], f32[3,2,2,2], f32[1,8,4,5])",
            "DeformConv(f32[2,4,5,5], f32[4,2,3,2], f32[2,24,3,2], f32[4], f32[2,12,3,2]) \
             {group = 2, offset_group = 2, pads = [1, 0, 1, 0], strides = [2, 2], dilations = [1, 2], \
             kernel_shape = [3, 2]}",
            "DeformConv(f64[1,1,4,4], f64[1,1,2,2], f64[1,8,3,3], _, f64[1,4,3,3])",
        ],
        ..OpRow::new(
            "DeformConv",
            Some(("", 22)),
            &[one("X"), one("W"), one("offset"), opt("B"), opt("mask")],
            deform_infer,
            Meaning::Composite(deform_build),
        )
    },
    OpRow {
        attrs: window_attrs![OFFSET_GROUP],
        tolerance: TOLERANCE,
        samples: &[
            "DeformColumns(f32[1,2,5,6], f32[1,8,4,5]) {kernel_shape = [2, 2]}",
            "DeformColumns(f32[2,4,5,5], f32[2,24,5,2], f32[2,12,5,2]) \
             {kernel_shape = [3, 2], offset_group = 2, pads = [1, 0, 1, 0], strides = [1, 2], dilations = [1, 2]}",
        ],
        ..OpRow::new(
            "DeformColumns",
            None,
            &[one("X"), one("offset"), opt("mask")],
            columns_infer,
            Meaning::Primitive(Lower::Element(columns_element)),
        )
    },
];

/// The kernel's extents: those of the attribute, or those of the weights.
fn kernel(cx: &Cx<'_>) -> Result<Vec<i64>, String> {
    if let Some(k) = cx.attrs.ints("kernel_shape") {
        return Ok(k.to_vec());
    }
    let weights = cx.shape(1)?.iter().skip(2).map(Expr::as_const);
    weights.collect::<Option<_>>().ok_or_else(|| "the kernel's size must be known when compiling".into())
}

fn deform_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, w, offset) = (cx.ty(0)?, cx.ty(1)?, cx.ty(2)?);
    rules::expect("input 0", x.dtype, FLOAT)?;
    let spatial = x.rank().saturating_sub(2);
    if spatial == 0 || w.rank() != x.rank() || kernel(cx)?.len() != spatial || offset.rank() != x.rank() {
        return Err(format!("{x} with weights {w} and offsets {offset}, expected three of one rank above 2"));
    }
    let (group, fixed) = (cx.int("group"), |e: &Expr| e.as_const());
    let (channels, depth, outputs) = (fixed(&x.shape[1]), fixed(&w.shape[1]), fixed(&w.shape[0]));
    let divides = outputs.is_none_or(|o| group > 0 && o % group == 0);
    let meets = matches!((channels, depth), (Some(c), Some(d)) if c != d * group);
    if group < 1 || !divides || meets {
        return Err(format!("group is {group}, which does not fit {x} with weights {w}"));
    }
    let shape = [x.shape[0].clone(), w.shape[0].clone()].into_iter().chain(offset.shape[2..].to_vec());
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn constant(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

/// The value under a shape of these numbers and then those of some values.
fn reshaped(b: &mut Builder<'_>, x: Value, lead: &[i64], rest: &[Value]) -> Result<Value, String> {
    let mut parts = vec![constant(b, lead)];
    parts.extend(rest);
    let shape = match rest {
        [] => parts[0],
        _ => b.op("Concat", &parts, vec![("axis", Attr::Int(0))])?,
    };
    b.op("Reshape", &[x, shape], vec![])
}

fn deform_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let (Some(x), Some(w), Some(offset)) = (operand(inputs, 0), operand(inputs, 1), operand(inputs, 2))
    else {
        return Ok(None);
    };
    let (rank, group) = (cx.ty(0)?.rank(), cx.int("group"));
    let names = ["auto_pad", "dilations", "pads", "strides", "offset_group"];
    let mut attrs: Vec<(&str, Attr)> =
        names.iter().filter_map(|n| Some((*n, cx.attrs.get(n)?.clone()))).collect();
    attrs.push(("kernel_shape", Attr::Ints(kernel(cx)?)));
    let operands: Vec<Value> = [x, offset].into_iter().chain(operand(inputs, 4)).collect();
    let columns = b.op("DeformColumns", &operands, attrs)?;
    let size = b.op("Shape", &[offset], vec![("start", Attr::Int(2))])?;
    // Of each group the channels and the kernel's elements as one, and all places as one.
    let columns = reshaped(b, columns, &[0, group, -1], &[size])?;
    let columns = reshaped(b, columns, &[0, 0, 0, -1], &[])?;
    let rows = b.op("Flatten", &[w], vec![("axis", Attr::Int(1))])?;
    let first = constant(b, &[0]);
    let rows = b.op("Unsqueeze", &[rows, first], vec![])?;
    let rows = reshaped(b, rows, &[group, -1, 0], &[])?;
    let product = b.op("MatMul", &[rows, columns], vec![])?;
    let outputs = b.op("Shape", &[w], vec![("end", Attr::Int(1))])?;
    let mut result = reshaped(b, product, &[0], &[outputs, size])?;
    if let Some(bias) = operand(inputs, 3) {
        let axes: Vec<i64> = (1..rank as i64 - 1).collect();
        let axes = constant(b, &axes);
        let bias = b.op("Unsqueeze", &[bias, axes], vec![])?;
        result = b.op("Add", &[result, bias], vec![])?;
    }
    Ok(Some(vec![result]))
}

/// DeformColumns' windows, one a spatial dimension, and its kernel's extents.
fn slides(cx: &Cx<'_>) -> Result<(Vec<Slide>, Vec<i64>), String> {
    let (_, _, spatial) = window::image(cx.shape(0)?)?;
    let kernel = cx.attrs.ints("kernel_shape").unwrap_or_default();
    if kernel.len() != spatial.len() || kernel.iter().any(|k| *k < 1) {
        return Err(format!("kernel_shape is {kernel:?}, expected {} positive numbers", spatial.len()));
    }
    let sizes: Vec<Expr> = kernel.iter().map(|k| (*k).into()).collect();
    Ok((window::slides(cx, spatial, &sizes)?, kernel.to_vec()))
}

fn columns_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", rules::one_dtype(cx)?, FLOAT)?;
    let (slides, kernel) = slides(cx)?;
    let groups = cx.int("offset_group");
    if groups < 1 || x.shape[1].as_const().is_some_and(|c| c % groups != 0) {
        return Err(format!("offset_group is {groups}, which does not divide {} channels", x.shape[1]));
    }
    let taps = kernel.iter().fold(Expr::from(groups), |n, k| n * *k);
    let outputs: Vec<Expr> = slides.iter().map(|s| s.output.clone()).collect();
    for (i, channels) in [(1, &taps * slides.len() as i64), (2, taps)].into_iter().filter(|(i, _)| cx.has(*i))
    {
        let found = cx.shape(i)?;
        let expected: Vec<Expr> =
            [x.shape[0].clone(), channels].into_iter().chain(outputs.iter().cloned()).collect();
        let differs =
            |(a, b): (&Expr, &Expr)| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
        if found.len() != expected.len() || found.iter().zip(&expected).any(differs) {
            let (found, expected) = (rules::show(found), rules::show(&expected));
            return Err(format!("input {i} has shape {found}, expected {expected}"));
        }
    }
    let kernel = kernel.into_iter().map(Expr::from);
    let shape = x.shape[..2].iter().cloned().chain(kernel).chain(outputs);
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn columns_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (x, (slides, kernel)) = (cx.ty(0)?, slides(cx)?);
    let (wide, spatial) = (x.dtype.accumulator(), slides.len());
    let (axes, index) = indices(2 + 2 * spatial);
    let (image, taps, at) = (&index[..2], &index[2..2 + spatial], &index[2 + spatial..]);
    // Neighbouring channels share their offsets.
    let group = match cx.int("offset_group") {
        1 => Expr::ZERO,
        groups => image[1].floor_div(&x.shape[1].floor_div(&groups.into())),
    };
    let tap = kernel.iter().zip(taps).fold(group, |flat, (n, k)| flat * *n + k);
    let from = |input: usize, channel: Expr| {
        let place = [&[image[0].clone(), channel], at].concat();
        Term::load(x.dtype, input, place).cast(wide)
    };
    let mut all = Vec::new();
    for (d, s) in slides.iter().enumerate() {
        let offset = from(1, &tap * (spatial as i64) + d as i64);
        let place = Term::index(s.position(&at[d], &taps[d])).cast(wide) + offset;
        let (base, [first, second]) = linear(&place);
        let next = &base + &int(1);
        all.push(vec![
            Tap::or_zero(&base, &s.input, Some(first)),
            Tap::or_zero(&next, &s.input, Some(second)),
        ]);
    }
    let load = |at: &[Expr]| Term::load(x.dtype, 0, [image, at].concat()).cast(wide);
    let mut value = interpolated(&x.shape[2..], &all, 0, &load);
    if cx.has(2) {
        value = value * from(2, tap);
    }
    Ok(Element { axes, body: value.cast(x.dtype) })
}
