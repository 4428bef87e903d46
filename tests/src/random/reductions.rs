//! Reductions, and what normalises by them.

use super::writer::{Made, Writer};

/// A shape of rank 1 to 4; sizes of 0 are rare.
fn shape(g: &mut Writer, least: usize) -> Vec<usize> {
    let rank = g.between(least, 4);
    let mut shape: Vec<usize> = (0..rank).map(|_| g.size()).collect();
    g.fit(&mut shape, 20_000);
    shape.into_iter().map(|n| g.or_none(n)).collect()
}

/// An axis counted from the front or the back.
fn axis(g: &mut Writer, rank: usize) -> i64 {
    let axis = g.between(0, rank - 1) as i64;
    if g.chance(30) { axis - rank as i64 } else { axis }
}

pub(super) fn global_pool(g: &mut Writer) -> Made {
    let (n, c) = (g.batch(), g.channels());
    let axes = g.between(1, 3);
    let mut spatial: Vec<usize> = (0..axes).map(|_| g.size()).collect();
    g.fit(&mut spatial, 20_000 / (n.max(1) * c));
    let x = g.input(&[&[n, c], &spatial[..]].concat());
    let op = g.pick(&["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"]);
    g.op(op, &[&x], "")
}

pub(super) fn softmax(g: &mut Writer) -> Made {
    let shape = shape(g, 1);
    let axis = axis(g, shape.len());
    let x = g.input(&shape);
    let op = g.pick(&["Softmax", "Softmax", "Softmax", "LogSoftmax"]);
    let y = g.op(op, &[&x], &format!("axis = {axis}"))?;
    if !g.chance(25) {
        return Ok(y);
    }
    let order = g.order(shape.len());
    g.op("Transpose", &[&y], &format!("perm = {order:?}"))
}

pub(super) fn layer_norm(g: &mut Writer) -> Made {
    let shape = shape(g, 1);
    let axis = if g.chance(60) { shape.len() - 1 } else { g.between(0, shape.len() - 1) };
    let constant = g.chance(60);
    let fixed: Vec<usize> = if constant { (axis..shape.len()).collect() } else { Vec::new() };
    let x = g.fixed_input(&shape, &fixed);
    let scale = g.weights(constant, &shape[axis..]);
    let attrs = format!("axis = {axis}");
    if g.chance(30) {
        return g.op("LayerNormalization", &[&x, &scale], &attrs);
    }
    let bias = g.weights(constant, &shape[axis..]);
    g.op("LayerNormalization", &[&x, &scale, &bias], &attrs)
}

/// What normalises images, the channels' scales and biases given.
pub(super) fn channel_norm(g: &mut Writer) -> Made {
    let n = g.pick(&[1, 1, 2, 3]);
    let groups = g.pick(&[1, 2, 3, 4]);
    let c = groups * g.pick(&[1, 2, 3, 4, 8, 11, 16]);
    let axes = g.between(1, 2);
    let mut spatial: Vec<usize> = (0..axes).map(|_| g.size()).collect();
    g.fit(&mut spatial, 10_000 / (n * c));
    let x = g.fixed_input(&[&[n, c], &spatial[..]].concat(), &[1]);
    let (scale, bias) = (g.constant(&[c]), g.constant(&[c]));
    match g.between(0, 2) {
        0 => g.op("InstanceNormalization", &[&x, &scale, &bias], ""),
        1 => g.op("GroupNormalization", &[&x, &scale, &bias], &format!("num_groups = {groups}")),
        _ => {
            let (mean, variance) = (g.constant(&[c]), g.same(&[c], 1.5));
            g.op("BatchNormalization", &[&x, &scale, &bias, &mean, &variance], "")
        }
    }
}

pub(super) fn reduce(g: &mut Writer) -> Made {
    let shape = shape(g, 1);
    let axes: Vec<i64> = {
        let order = g.order(shape.len());
        let n = g.between(1, shape.len());
        order[..n].iter().map(|a| *a as i64).collect()
    };
    let keep = u8::from(g.chance(50));
    let mut x = g.input(&shape);
    // What is reduced is often computed on the way.
    match g.between(0, 5) {
        0 => x = g.op("Mul", &[&x, &x], "")?,
        1 => x = g.op("Relu", &[&x], "")?,
        _ => {}
    }
    let op = g.pick(&["ReduceSum", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMax", "ReduceMin"]);
    let attrs = format!("keepdims = {keep}");
    if g.chance(10) {
        return g.op(op, &[&x], &attrs);
    }
    let axes = g.ints(&axes);
    g.op(op, &[&x, &axes], &attrs)
}
