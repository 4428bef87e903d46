//! Short chains whose nodes are fused, written in place, or stored in a layout of their own.

use super::writer::{Made, Operand, Writer};

/// A convolution of images by constant weights, with a bias.
fn conv(g: &mut Writer, x: &Operand, m: usize, k: usize, attrs: &str) -> Made {
    let w = g.constant(&[m, x.shape[1], k, k]);
    let bias = g.constant(&[m]);
    g.op("Conv", &[x, &w, &bias], attrs)
}

/// A convolution that keeps the images' size.
fn same_conv(g: &mut Writer, x: &Operand, m: usize, k: usize) -> Made {
    let p = k / 2;
    conv(g, x, m, k, &format!("pads = [{p}, {p}, {p}, {p}]"))
}

/// Images that a convolution of so many channels and so large a window may work on.
fn images(g: &mut Writer, c: usize, work: usize) -> Operand {
    let work = g.pick(&[work, work, work * 4]);
    let n = g.pick(&[1, 1, 1, 2, 3]);
    let mut spatial = [(); 2].map(|()| g.size().clamp(5, 65));
    g.fit(&mut spatial, 100_000usize.min(work / (n * c * c * 9)).max(49));
    let [h, w] = spatial.map(|s| s.max(5));
    g.fixed_input(&[n, c, h, w], &[1])
}

fn few_channels(g: &mut Writer) -> usize {
    g.pick(&[1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 32, 33])
}

fn relu6(g: &mut Writer, x: &Operand) -> Made {
    let (low, high) = (g.number(0.0), g.number(6.0));
    g.op("Clip", &[x, &low, &high], "")
}

pub(super) fn residual(g: &mut Writer) -> Made {
    let c = few_channels(g);
    let x = images(g, c, 300_000);
    let (k, second) = (g.pick(&[1, 3, 3]), g.pick(&[1, 3]));
    let inner = few_channels(g);
    let a = same_conv(g, &x, inner, k)?;
    let a = g.op("Relu", &[&a], "")?;
    let b = same_conv(g, &a, c, second)?;
    let sum = if g.chance(50) { g.op("Add", &[&b, &x], "")? } else { g.op("Add", &[&x, &b], "")? };
    g.op("Relu", &[&sum], "")
}

pub(super) fn concatenated(g: &mut Writer) -> Made {
    let c = few_channels(g);
    let x = images(g, c, 300_000);
    let branches = g.between(2, 3);
    let mut parts = Vec::new();
    for _ in 0..branches {
        let (m, k) = (few_channels(g), g.pick(&[1, 1, 3]));
        let y = same_conv(g, &x, m, k)?;
        parts.push(if g.chance(60) { g.op("Relu", &[&y], "")? } else { y });
    }
    if g.chance(25) {
        parts.push(x);
    }
    let all = g.op("Concat", &parts.iter().collect::<Vec<_>>(), "axis = 1")?;
    let (m, k) = (few_channels(g), g.pick(&[1, 3]));
    same_conv(g, &all, m, k)
}

pub(super) fn padded_pool(g: &mut Writer) -> Made {
    let c = g.pick(&[1, 3, 8, 16]);
    let x = images(g, c, 300_000);
    let m = few_channels(g);
    let y = same_conv(g, &x, m, 3)?;
    let y = g.op("Relu", &[&y], "")?;
    let [before, after] = [(); 2].map(|()| g.between(0, 2) as i64);
    let pads = g.ints(&[0, 0, before, before, 0, 0, after, after]);
    let value = g.number(0.0);
    let y = g.op("Pad", &[&y, &pads, &value], "")?;
    let (k, s) = (g.pick(&[2, 3]), g.pick(&[1, 2]));
    let y = g.op("MaxPool", &[&y], &format!("kernel_shape = [{k}, {k}], strides = [{s}, {s}]"))?;
    let (m, k) = (few_channels(g), g.pick(&[1, 3]));
    same_conv(g, &y, m, k)
}

pub(super) fn conv_to_matmul(g: &mut Writer) -> Made {
    let c = g.pick(&[1, 3, 8, 16]);
    let x = images(g, c, 200_000);
    let (m, k) = (few_channels(g), g.pick(&[1, 3]));
    let y = same_conv(g, &x, m, k)?;
    let y = g.op("Relu", &[&y], "")?;
    let pixels = y.shape[2] * y.shape[3];
    let columns = g.pick(&[1, 10, 16, 17, 33]);
    if g.chance(40) {
        let flat = g.op("Flatten", &[&y], "axis = 1")?;
        let w = g.constant(&[columns, m * pixels]);
        let bias = g.constant(&[columns]);
        return g.op("Gemm", &[&flat, &w, &bias], "transB = 1");
    }
    let shape = g.ints(&[0, m as i64, -1]);
    let rows = g.op("Reshape", &[&y, &shape], "")?;
    if g.chance(50) {
        let w = g.constant(&[pixels, columns]);
        return g.op("MatMul", &[&rows, &w], "");
    }
    let turned = g.op("Transpose", &[&rows], "perm = [0, 2, 1]")?;
    let w = g.constant(&[m, columns]);
    g.op("MatMul", &[&turned, &w], "")
}

pub(super) fn conv_to_softmax(g: &mut Writer) -> Made {
    let c = g.pick(&[1, 3, 8, 16]);
    let x = images(g, c, 200_000);
    let (m, k) = (few_channels(g), g.pick(&[1, 3]));
    let y = same_conv(g, &x, m, k)?;
    let order = if g.chance(50) { vec![0, 2, 3, 1] } else { g.order(4) };
    let y = g.op("Transpose", &[&y], &format!("perm = {order:?}"))?;
    let axis = if g.chance(50) { 3 } else { g.between(0, 3) };
    g.op("Softmax", &[&y], &format!("axis = {axis}"))
}

pub(super) fn separable(g: &mut Writer) -> Made {
    let c = few_channels(g);
    let x = images(g, c, 200_000);
    let inner = few_channels(g);
    let y = same_conv(g, &x, inner, 1)?;
    let y = relu6(g, &y)?;
    let (k, s) = (g.pick(&[3, 3, 5]), g.pick(&[1, 1, 2]));
    let (w, bias) = (g.constant(&[inner, 1, k, k]), g.constant(&[inner]));
    let p = k / 2;
    let attrs = format!("group = {inner}, pads = [{p}, {p}, {p}, {p}], strides = [{s}, {s}]");
    let y = g.op("Conv", &[&y, &w, &bias], &attrs)?;
    let y = relu6(g, &y)?;
    let y = same_conv(g, &y, c, 1)?;
    if s == 1 { g.op("Add", &[&x, &y], "") } else { Ok(y) }
}

pub(super) fn squeeze(g: &mut Writer) -> Made {
    let c = few_channels(g);
    let x = images(g, c, 300_000);
    let y = same_conv(g, &x, c, 3)?;
    let mean = g.op("GlobalAveragePool", &[&y], "")?;
    let inner = few_channels(g);
    let a = same_conv(g, &mean, inner, 1)?;
    let a = g.op("Relu", &[&a], "")?;
    let a = same_conv(g, &a, c, 1)?;
    let a = g.op("Sigmoid", &[&a], "")?;
    g.op("Mul", &[&y, &a], "")
}

/// As exporters write it: `x * 0.5 * (1 + erf(x / sqrt(2)))`.
pub(super) fn gelu(g: &mut Writer) -> Made {
    let work = g.work();
    let [m, k, n] = g.sizes(work);
    let batch = g.chance(40);
    let shape = if batch { vec![g.between(1, 3), m, k] } else { vec![m, k] };
    let x = g.fixed_input(&shape, &[shape.len() - 1]);
    let (w, bias) = (g.constant(&[k, n]), g.constant(&[n]));
    let y = g.op("MatMul", &[&x, &w], "")?;
    let y = g.op("Add", &[&y, &bias], "")?;
    let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|v| g.number(v));
    let a = g.op("Div", &[&y, &root], "")?;
    let a = g.op("Erf", &[&a], "")?;
    let a = g.op("Add", &[&a, &one], "")?;
    let a = g.op("Mul", &[&y, &a], "")?;
    g.op("Mul", &[&a, &half], "")
}

/// A head's rows: an input, or the columns of a projection.
fn heads(g: &mut Writer, [b, h, s, d]: [usize; 4], projected: bool) -> Made {
    if !projected {
        return Ok(g.fixed_input(&[b, h, s, d], &[1, 3]));
    }
    let x = g.fixed_input(&[b, s, h * d], &[2]);
    let (w, bias) = (g.constant(&[h * d, h * d]), g.constant(&[h * d]));
    let y = g.op("MatMul", &[&x, &w], "")?;
    let y = g.op("Add", &[&y, &bias], "")?;
    let shape = g.ints(&[0, -1, h as i64, d as i64]);
    let y = g.op("Reshape", &[&y, &shape], "")?;
    g.op("Transpose", &[&y], "perm = [0, 2, 1, 3]")
}

pub(super) fn attention(g: &mut Writer) -> Made {
    let (b, h) = (g.between(1, 2), g.between(1, 4));
    let d = g.pick(&[4, 7, 8, 16, 17, 32, 33]);
    let [s, t] = g.sizes(400_000 / (b * h * d));
    let t = if g.chance(60) { s } else { t };
    let projected = g.chance(40) && b * s.max(t) * h * d * h * d < 1_000_000;
    let q = heads(g, [b, h, s, d], projected)?;
    let [k, v] = [heads(g, [b, h, t, d], projected)?, heads(g, [b, h, t, d], projected)?];
    let k = g.op("Transpose", &[&k], "perm = [0, 1, 3, 2]")?;
    let scores = g.op("MatMul", &[&q, &k], "")?;
    let scale = g.number(1.0 / (d as f32).sqrt());
    let scores = g.op("Mul", &[&scores, &scale], "")?;
    let mask = match g.between(0, 3) {
        0 => None,
        1 => Some(vec![b, 1, 1, t]),
        2 => Some(vec![s, t]),
        _ => Some(vec![b, h, s, t]),
    };
    let scores = match mask {
        Some(shape) => {
            let mask = g.input(&shape);
            g.op("Add", &[&scores, &mask], "")?
        }
        None => scores,
    };
    let weights = g.op("Softmax", &[&scores], "axis = -1")?;
    let y = g.op("MatMul", &[&weights, &v], "")?;
    if g.chance(50) {
        return Ok(y);
    }
    let y = g.op("Transpose", &[&y], "perm = [0, 2, 1, 3]")?;
    let shape = g.ints(&[0, -1, (h * d) as i64]);
    g.op("Reshape", &[&y, &shape], "")
}

pub(super) fn norm_and_matmul(g: &mut Writer) -> Made {
    let [m, k] = g.sizes(6_000);
    let x = g.fixed_input(&[m, k], &[1]);
    let (w, bias) = (g.constant(&[k, k]), g.constant(&[k]));
    let y = g.op("MatMul", &[&x, &w], "")?;
    let y = g.op("Add", &[&y, &bias], "")?;
    let y = g.op("Add", &[&y, &x], "")?;
    let (scale, bias) = (g.constant(&[k]), g.constant(&[k]));
    let y = g.op("LayerNormalization", &[&y, &scale, &bias], "")?;
    if g.chance(40) {
        return Ok(y);
    }
    let n = g.channels();
    let w = g.constant(&[k, n]);
    g.op("MatMul", &[&y, &w], "")
}

pub(super) fn perceptron(g: &mut Writer) -> Made {
    let [m, k, n] = g.sizes(300_000);
    let x = g.fixed_input(&[m, k], &[1]);
    let (w, bias) = (g.constant(&[n, k]), g.constant(&[n]));
    let y = g.op("Gemm", &[&x, &w, &bias], "transB = 1")?;
    let function = g.pick(&["Relu", "Tanh", "Sigmoid"]);
    let y = g.op(function, &[&y], "")?;
    let columns = g.channels();
    let (w, bias) = (g.constant(&[columns, n]), g.constant(&[columns]));
    let y = g.op("Gemm", &[&y, &w, &bias], "transB = 1")?;
    if g.chance(50) { g.op("Softmax", &[&y], "axis = 1") } else { Ok(y) }
}
