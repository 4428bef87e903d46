//! Matrix products.

use super::writer::{Made, Operand, Writer};

/// Two operands of rank 2 or more: batches that are broadcast, operands that come transposed, and
/// what is often fused behind a product.
pub(super) fn matmul(g: &mut Writer) -> Made {
    let work = g.work();
    let ranks = g.pick(&[0, 0, 0, 1, 1, 2]);
    let mut batch: Vec<usize> = (0..ranks).map(|_| g.between(1, 5)).collect();
    let [m, k, n] = g.sizes(work / batch.iter().product::<usize>());
    let [m, k, n] = [m, k, n].map(|s| g.or_none(s));
    if let Some(first) = batch.first_mut() {
        *first = g.or_none(*first);
    }
    let fewer = broadcast(g, &batch);
    let (first, second) =
        g.pick(&[(true, false), (false, true), (false, true), (false, true), (false, false)]);
    let (of_a, of_b) = if g.chance(80) { (&batch, &fewer) } else { (&fewer, &batch) };
    let a = matrix(g, of_a, [m, k], first)?;
    let b = matrix(g, of_b, [k, n], second)?;
    let product = g.op("MatMul", &[&a, &b], "")?;
    behind(g, product)
}

/// One or both operands a vector.
pub(super) fn vectors(g: &mut Writer) -> Made {
    let [m, k] = g.sizes(100_000);
    let [m, k] = [m, k].map(|s| g.or_none(s));
    let batch = if g.chance(30) { vec![g.between(2, 4)] } else { Vec::new() };
    let matrix_first = g.chance(50);
    let [constant_a, constant_b] = [15, 50].map(|p| g.chance(p));
    let with = |dims: [usize; 2]| [&batch[..], &dims].concat();
    let (a, b) = match (g.chance(15), matrix_first) {
        (true, _) => (vec![k], vec![k]),
        (_, true) => (with([m, k]), vec![k]),
        (_, false) => (vec![k], with([k, m])),
    };
    let (a, b) = (g.weights(constant_a && !constant_b, &a), g.weights(constant_b, &b));
    g.op("MatMul", &[&a, &b], "")
}

pub(super) fn gemm(g: &mut Writer) -> Made {
    let work = g.work();
    let [m, k, n] = g.sizes(work);
    let [m, k, n] = [m, k, n].map(|s| g.or_none(s));
    let [turned_a, turned_b] = [30, 50].map(|p| g.chance(p));
    let constant = g.chance(65);
    let a = g.input(&if turned_a { [k, m] } else { [m, k] });
    let b = g.weights(constant, &if turned_b { [n, k] } else { [k, n] });
    let mut attrs = format!("transA = {}, transB = {}", u8::from(turned_a), u8::from(turned_b));
    if g.chance(25) {
        attrs += &format!(", alpha = {:?}, beta = {:?}", g.pick(&[0.5, -2.0, 1.0]), g.pick(&[1.0, -0.25]));
    }
    let bias = match g.between(0, 5) {
        0 => return g.op("Gemm", &[&a, &b], &attrs),
        1 => vec![],
        2 => vec![m, 1],
        3 => vec![m, n],
        _ => vec![n],
    };
    let c = g.weights(constant, &bias);
    let y = g.op("Gemm", &[&a, &b, &c], &attrs)?;
    if g.chance(40) { g.op("Relu", &[&y], "") } else { Ok(y) }
}

/// Weights that two products read, one of them perhaps in another order, and a product of an operand
/// with itself.
pub(super) fn shared(g: &mut Writer) -> Made {
    let [m, k, n] = g.sizes(200_000);
    if g.chance(25) {
        let x = g.input(&[m, k]);
        let y = g.op("Transpose", &[&x], "perm = [1, 0]")?;
        return if g.chance(50) { g.op("MatMul", &[&x, &y], "") } else { g.op("MatMul", &[&y, &x], "") };
    }
    let x = g.fixed_input(&[m, k], &[1]);
    let w = g.constant(&[k, n]);
    let a = g.op("MatMul", &[&x, &w], "")?;
    match g.between(0, 2) {
        0 => {
            let z = g.fixed_input(&[m, k], &[1]);
            let b = g.op("MatMul", &[&z, &w], "")?;
            g.op("Mul", &[&a, &b], "")
        }
        1 => {
            let turned = g.op("Transpose", &[&w], "perm = [1, 0]")?;
            let b = g.op("MatMul", &[&a, &turned], "")?;
            g.op("Add", &[&b, &x], "")
        }
        _ => {
            let b = g.op("ReduceSum", &[&w], "")?;
            g.op("Add", &[&a, &b], "")
        }
    }
}

/// A matrix behind batches; sometimes it comes in another order of its axes.
fn matrix(g: &mut Writer, batch: &[usize], [rows, columns]: [usize; 2], constant: bool) -> Made {
    let shape = [batch, &[rows, columns]].concat();
    if g.chance(65) {
        return Ok(g.weights(constant, &shape));
    }
    let rank = shape.len();
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    if g.chance(40) {
        order = g.order(rank);
    }
    let mut turned = vec![0; rank];
    for (i, from) in order.iter().enumerate() {
        turned[*from] = shape[i];
    }
    let x = g.weights(constant, &turned);
    g.op("Transpose", &[&x], &format!("perm = {order:?}"))
}

/// The batch of an operand that is broadcast to that batch.
fn broadcast(g: &mut Writer, batch: &[usize]) -> Vec<usize> {
    let from = if g.chance(40) { batch.len() } else { g.between(0, batch.len()) };
    batch[from..].iter().map(|n| if g.chance(15) { 1 } else { *n }).collect()
}

/// What stands behind a product.
fn behind(g: &mut Writer, y: Operand) -> Made {
    let n = *y.shape.last().ok_or("a product without axes")?;
    let y = match g.between(0, 9) {
        0..4 => return Ok(y),
        4..7 => {
            let bias = g.constant(&[n]);
            g.op("Add", &[&y, &bias], "")?
        }
        7 => {
            let scale = g.number(0.125);
            g.op("Mul", &[&y, &scale], "")?
        }
        _ => {
            let other = g.input(&y.shape);
            g.op("Add", &[&other, &y], "")?
        }
    };
    let function = g.pick(&["", "Relu", "Tanh", "Sigmoid", "Softplus"]);
    if function.is_empty() { Ok(y) } else { g.op(function, &[&y], "") }
}
