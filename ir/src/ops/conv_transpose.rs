//! Transposed convolution: the derivative of a convolution with respect to its input, as a layer.
//!
//! Each result element gathers the products that a scatter from the input would add to it: kernel
//! position `k` takes input position `x` to result position `x * stride + k * dilation - before`.

use super::contract::{SUM_TOLERANCE, shared};
use super::rules::{self, FLOAT, indices};
use super::window::{self, AutoPad, WindowAttrs, window_attrs};
use super::{Lower, Meaning, OpRow, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::element::{Element, ReduceOp, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    attrs: window_attrs![
        AttrSpec::new("group", AttrKind::Int, Default::Int(1)),
        AttrSpec::new("output_padding", AttrKind::Ints, Default::Absent),
        AttrSpec::new("output_shape", AttrKind::Ints, Default::Absent),
    ],
    tolerance: SUM_TOLERANCE,
    samples: &[
        "ConvTranspose(f32[1,2,3,4], f32[2,3,3,2], f32[3]) {strides = [2, 3], pads = [1, 0, 0, 1]}",
        "ConvTranspose(f32[1,4,5], f32[4,2,3]) {group = 2, dilations = [2], strides = [2], output_padding = [1]}",
        "ConvTranspose(f64[2,1,3,3], f64[1,2,3,3]) {auto_pad = \"SAME_UPPER\", strides = [2, 2]}",
        "ConvTranspose(f16[1,2,3], f16[2,1,1])",
    ],
    ..OpRow::new(
        "ConvTranspose",
        Some(("", 22)),
        &[one("X"), one("W"), opt("B")],
        conv_transpose_infer,
        Meaning::Primitive(Lower::Element(conv_transpose_element)),
    )
}];

/// One spatial dimension.
struct Spread {
    input: Expr,
    output: Expr,
    kernel: Expr,
    stride: i64,
    dilation: i64,
    before: Expr,
}

struct ConvTranspose {
    batch: Expr,
    /// Channels of the result in one group.
    channels: Expr,
    /// Channels of the input in one group.
    depth: Expr,
    group: i64,
    spatial: Vec<Spread>,
}

impl ConvTranspose {
    fn of(cx: &Cx<'_>) -> Result<ConvTranspose, String> {
        let (batch, inputs, spatial) = window::image(cx.shape(0)?)?;
        let weights = cx.shape(1)?;
        let kernel = match weights {
            [_, _, kernel @ ..] if kernel.len() == spatial.len() => kernel,
            w => {
                return Err(format!(
                    "input 1 (W) has shape {}, expected the rank of input 0",
                    rules::show(w)
                ));
            }
        };
        let (group, channels) = (cx.int("group"), &weights[1]);
        let whole = shared(inputs, &weights[0], "the channels of input 0 and input 1 (W)")?;
        if group < 1 || whole.as_const().is_some_and(|c| c % group != 0) {
            return Err(format!("group is {group}, which does not divide {whole} channels"));
        }
        if cx.has(2) {
            let b = cx.shape(2)?;
            let [n] = b else { return Err(format!("input 2 (B) has shape {}", rules::show(b))) };
            shared(n, &(channels * group), "the elements of input 2 (B) and the result's channels")?;
        }
        let spatial = spreads(cx, spatial, kernel)?;
        let depth = whole.floor_div(&group.into());
        Ok(ConvTranspose { batch: batch.clone(), channels: channels.clone(), depth, group, spatial })
    }
}

fn spreads(cx: &Cx<'_>, input: &[Expr], kernel: &[Expr]) -> Result<Vec<Spread>, String> {
    let attrs = WindowAttrs::of(cx.attrs, input.len())?;
    let list = |name: &str| match cx.attrs.ints(name) {
        Some(v) if v.len() != input.len() || v.iter().any(|v| *v < 0) => {
            Err(format!("{name} is {v:?}, expected {} numbers of 0 or more", input.len()))
        }
        other => Ok(other),
    };
    let (extra, shape) = (list("output_padding")?, list("output_shape")?);
    let of = |i: usize| {
        let (stride, dilation) = (attrs.strides[i], attrs.dilations[i]);
        let full = (&input[i] - 1) * stride + extra.map_or(0, |e| e[i]) + (&kernel[i] - 1) * dilation + 1;
        let same = matches!(attrs.auto, AutoPad::SameUpper | AutoPad::SameLower);
        let chosen = match shape {
            Some(shape) => Some(Expr::from(shape[i])),
            None => same.then(|| &input[i] * stride),
        };
        let (before, output) = match chosen {
            None => (attrs.pads[i].0.into(), full - attrs.pads[i].0 - attrs.pads[i].1),
            Some(output) => {
                let total = full - &output;
                let half = total.floor_div(&2.into());
                (if attrs.auto == AutoPad::SameUpper { half } else { total - &half }, output)
            }
        };
        if output.as_const().is_some_and(|n| n < 0) {
            return Err(format!("padding leaves spatial dimension {i} with {output} elements"));
        }
        Ok(Spread { input: input[i].clone(), output, kernel: kernel[i].clone(), stride, dilation, before })
    };
    (0..input.len()).map(of).collect()
}

fn conv_transpose_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = rules::one_dtype(cx)?;
    rules::expect("input 0", dtype, FLOAT)?;
    let c = ConvTranspose::of(cx)?;
    let spatial = c.spatial.into_iter().map(|s| s.output);
    let shape: Vec<Expr> = [c.batch, c.channels * c.group].into_iter().chain(spatial).collect();
    Ok(vec![TensorType::new(dtype, shape).into()])
}

fn conv_transpose_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (conv, dtype) = (ConvTranspose::of(cx)?, cx.dtype(0)?);
    let wide = dtype.accumulator();
    let (axes, index) = indices(2 + conv.spatial.len());
    let (n, o) = (&index[0], &index[1]);
    let group = if conv.group == 1 { Expr::ZERO } else { o.floor_div(&conv.channels) };
    let mut vars = vec![(reduction(0), conv.depth.clone())];
    let channel = &group * &conv.depth + Expr::from(reduction(0));
    let (mut x, mut w) = (vec![n.clone(), channel.clone()], vec![channel, o - &(group * &conv.channels)]);
    let mut meets = Vec::new();
    for (i, s) in conv.spatial.iter().enumerate() {
        let k = reduction(i + 1);
        vars.push((k, s.kernel.clone()));
        let spread = &index[i + 2] + &s.before - Expr::from(k) * s.dilation;
        let at = spread.floor_div(&s.stride.into());
        if s.stride != 1 {
            meets.push(&at * s.stride - &spread);
        }
        meets.extend([at.clone(), &s.input - 1 - &at]);
        x.push(at);
        w.push(k.into());
    }
    let x = Term::load(dtype, 0, x).cast(wide);
    let zero = x.lit(0.0);
    let product = Term::when(meets, x, zero) * Term::load(dtype, 1, w).cast(wide);
    let mut sum = Term::reduce(ReduceOp::Sum, vars, product);
    if cx.has(2) {
        sum = sum + Term::load(dtype, 2, vec![o.clone()]).cast(wide);
    }
    Ok(Element { axes, body: sum.cast(dtype) })
}
