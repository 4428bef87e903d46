//! Convolutions of one to three spatial dimensions, with groups.
//!
//! Compiled code accumulates in [`accumulator`](crate::DType::accumulator), the reference in `f64`.

use super::contract::{SUM_TOLERANCE, Sums, narrow_integers, shared};
use super::rules::{self, FLOAT};
use super::window::{self, Slide, for_each_run, window_attrs};
use super::{EvalCx, Lower, Meaning, OpRow, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, axes, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: window_attrs![AttrSpec::new("group", AttrKind::Int, Default::Int(1))],
        eval: Some(conv_eval),
        tolerance: SUM_TOLERANCE,
        samples: &[
            "Conv(f32[1,3,7,6], f32[4,3,3,3], f32[4]) {pads = [1, 1, 1, 1], strides = [2, 1]}",
            "Conv(f32[2,4,5,5], f32[4,1,3,3]) {group = 4, auto_pad = \"SAME_LOWER\", strides = [2, 2]}",
            "Conv(f32[1,4,9], f32[6,2,2], f32[6]) {group = 2, dilations = [3]}",
            "Conv(f64[1,2,3,4,5], f64[3,2,2,1,2])",
            "Conv(f16[1,5,3,3], f16[2,5,1,1])",
            "Conv(f32[0,2,4,4], f32[1,2,2,2])",
        ],
        ..OpRow::new(
            "Conv",
            Some(("", 22)),
            &[one("X"), one("W"), opt("B")],
            conv_infer,
            Meaning::Primitive(Lower::Element(conv_element)),
        )
    },
    // What integer convolutions of every schema come down to, as `IntegerMatMul` is for products.
    OpRow {
        attrs: window_attrs![AttrSpec::new("group", AttrKind::Int, Default::Int(1))],
        eval: Some(conv_eval),
        samples: &[
            "IntegerConv(u8[1,3,7,6] in 0..256, i8[4,3,3,3] in -128..128) {pads = [1, 1, 1, 1], strides = [2, 1]}",
            "IntegerConv(i8[2,4,5,5], i16[4,1,3,3]) {group = 4, auto_pad = \"SAME_LOWER\", strides = [2, 2]}",
            "IntegerConv(u8[1,4,9], u8[6,2,2]) {group = 2, dilations = [3]}",
            "IntegerConv(u8[1,5,3,3], i8[16,5,1,1])",
            "IntegerConv(i32[1,3,5,4] in -2147483648..2147483648, i32[19,3,3,2] in -2147483648..2147483648)",
            "IntegerConv(u32[1,6,5,4] in 0..4294967296, i32[19,3,3,2] in -2147483648..2147483648)",
        ],
        ..OpRow::new(
            "IntegerConv",
            None,
            &[one("X"), one("W")],
            integer_conv_infer,
            Meaning::Primitive(Lower::Element(conv_element)),
        )
    },
];

/// A convolution's sizes.
struct Conv {
    batch: Expr,
    /// Channels of the result.
    channels: Expr,
    group: i64,
    /// Channels of the weights.
    depth: Expr,
    /// Channels of the input that one channel of the result sees.
    inputs: Expr,
    slides: Vec<Slide>,
}

impl Conv {
    fn of(cx: &Cx<'_>) -> Result<Conv, String> {
        let (batch, inputs, spatial) = window::image(cx.shape(0)?)?;
        let weights = cx.shape(1)?;
        let [channels, depth, kernel @ ..] = weights else {
            return Err(format!("input 1 (W) has shape {}, expected rank 3 to 5", rules::show(weights)));
        };
        if kernel.len() != spatial.len() {
            let (x, w) = (rules::show(cx.shape(0)?), rules::show(weights));
            return Err(format!("input 0 has shape {x} and input 1 (W) {w}, expected the same rank"));
        }
        check_kernel(cx, kernel)?;
        let group = cx.int("group");
        if group < 1 || channels.as_const().is_some_and(|c| c % group != 0) {
            return Err(format!("group is {group}, which does not divide {channels} result channels"));
        }
        let seen = depth * Sums::of(cx, "IntegerConv")?.data;
        shared(inputs, &(&seen * group), "the channels of input 0, and of input 1 (W) times group,")?;
        if cx.has(2) {
            let b = cx.shape(2)?;
            let [n] = b else {
                return Err(format!("input 2 (B) has shape {}, expected [{channels}]", rules::show(b)));
            };
            shared(n, channels, "the elements of input 2 (B) and the result's channels")?;
        }
        let slides = window::slides(cx, spatial, kernel)?;
        let (batch, channels, depth) = (batch.clone(), channels.clone(), depth.clone());
        Ok(Conv { batch, channels, group, depth, inputs: seen, slides })
    }

    fn shape(&self) -> Vec<Expr> {
        let spatial = self.slides.iter().map(|s| s.output.clone());
        [self.batch.clone(), self.channels.clone()].into_iter().chain(spatial).collect()
    }

    /// The input channel that result channel `o` meets at its own one `c`.
    fn input_channel(&self, o: &Expr, c: &Expr) -> Expr {
        if self.group == 1 {
            return c.clone();
        }
        let group = o.floor_div(&self.channels.floor_div(&self.group.into()));
        group * &self.inputs + c
    }
}

/// The attribute kernel_shape repeats what the weights say.
fn check_kernel(cx: &Cx<'_>, kernel: &[Expr]) -> Result<(), String> {
    let Some(given) = cx.attrs.ints("kernel_shape") else { return Ok(()) };
    let fits = |(g, k): (&i64, &Expr)| k.as_const().is_none_or(|k| k == *g);
    if given.len() == kernel.len() && given.iter().zip(kernel).all(fits) {
        return Ok(());
    }
    Err(format!("kernel_shape is {given:?}, but input 1 (W) has a kernel of {}", rules::show(kernel)))
}

fn conv_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = rules::one_dtype(cx)?;
    rules::expect("input 0", dtype, FLOAT)?;
    Ok(vec![TensorType::new(dtype, Conv::of(cx)?.shape()).into()])
}

fn integer_conv_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Ok(vec![TensorType::new(narrow_integers(cx)?, Conv::of(cx)?.shape()).into()])
}

fn conv_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (conv, sums) = (Conv::of(cx)?, Sums::of(cx, "IntegerConv")?);
    let axes = axes(2 + conv.slides.len());
    let (n, o): (Expr, Expr) = (axes[0].into(), axes[1].into());
    let (mut vars, mut c) = (Vec::new(), Expr::ZERO);
    if conv.depth != 1 {
        vars.push((reduction(0), conv.depth.clone()));
        c = reduction(0).into();
    }
    let taps = window::taps(&conv.slides, &axes[2..], vars.len());
    vars.extend(taps.vars);
    let load = |input, index: [Expr; 2], rest: Vec<Expr>| {
        let index = index.into_iter().chain(rest).collect();
        Ok::<_, String>(Term::load(cx.dtype(input)?, input, index).cast(sums.wide))
    };
    let data = |number| {
        let channel = conv.input_channel(&o, &(&c * sums.data + number));
        let x = load(0, [n.clone(), channel], taps.position.clone())?;
        let zero = x.lit(0.0);
        Ok(Term::when(taps.inside.clone(), x, zero))
    };
    let product = sums.product_of(data, load(1, [o.clone(), c.clone()], taps.kernel)?)?;
    let mut sum = window::reduce(ReduceOp::Sum, vars, product);
    if cx.has(2) {
        sum = sum + Term::load(sums.dtype, 2, vec![o]).cast(sums.wide);
    }
    Ok(Element { axes, body: sum.cast(sums.dtype) })
}

fn conv_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let conv = Conv::of(e.cx)?;
    let fixed = window::fixed(&conv.slides)?;
    let (x, w) = (e.input(0), e.input(1));
    let operands = Sums::of(e.cx, "IntegerConv")?.narrow([x, w], [1, 1])?;
    let (x, w) = operands.as_ref().map_or((x, w), |[x, w]| (x, w));
    let shape = e.outputs[0].static_shape().ok_or("the result's shape is not known")?;
    let (channels, depth) = (shape[1], w.shape()[1]);
    let taps: usize = w.shape()[2..].iter().product();
    let plane_in: usize = x.shape()[2..].iter().product();
    let plane_out: usize = shape[2..].iter().product();
    let per_group = channels / conv.group as usize;
    let (xs, ws) = (x.to_f64s(), w.to_f64s());
    let bias = e.get(2).map(Tensor::to_f64s);
    let mut out = vec![0.0; shape.iter().product()];
    for (at, out) in out.chunks_exact_mut(plane_out.max(1)).enumerate() {
        let (n, o) = (at / channels, at % channels);
        out.fill(bias.as_ref().map_or(0.0, |b| b[o]));
        for c in 0..depth {
            let channel = n * x.shape()[1] + o / per_group * depth + c;
            let image = &xs[channel * plane_in..(channel + 1) * plane_in];
            let kernel = &ws[(o * depth + c) * taps..(o * depth + c + 1) * taps];
            for_each_run(&fixed, |r| {
                let weight = kernel[r.tap];
                let inputs = image[r.input..].iter().step_by(r.step);
                for (o, x) in out[r.output..r.output + r.count].iter_mut().zip(inputs) {
                    *o += weight * x;
                }
            });
        }
    }
    if e.outputs[0].dtype == DType::I32 {
        // Sums of narrow integers are exact in f64; they wrap.
        let sums = out.iter().map(|v| Scalar::I(*v as i64));
        return Ok(vec![Tensor::from_scalars(DType::I32, &shape, sums)]);
    }
    Ok(vec![Tensor::from_f64s(x.dtype(), &shape, &out)])
}
