//! Functions of single elements over operands that are broadcast, transposed, or read in steps.

use super::writer::{Made, Operand, Writer};

const ONE: [&str; 14] = [
    "Relu",
    "Exp",
    "Tanh",
    "Sigmoid",
    "Erf",
    "Abs",
    "Neg",
    "Floor",
    "Softplus",
    "Gelu",
    "Cos",
    "Sqrt",
    "Elu",
    "HardSwish",
];
const TWO: [&str; 6] = ["Add", "Sub", "Mul", "Div", "Max", "Min"];

pub(super) fn pointwise(g: &mut Writer) -> Made {
    let rank = g.between(1, 4);
    let mut shape: Vec<usize> = (0..rank).map(|_| g.size()).collect();
    g.fit(&mut shape, 20_000);
    let shape: Vec<usize> = shape.into_iter().map(|n| g.or_none(n)).collect();
    let mut y = operand(g, &shape)?;
    for _ in 0..g.between(1, 3) {
        y = match g.chance(45) {
            true => {
                let op = g.pick(&ONE);
                g.op(op, &[&y], "")?
            }
            false => {
                let from = g.between(0, rank);
                let fewer: Vec<usize> =
                    shape[from..].iter().map(|n| if g.chance(25) { 1 } else { *n }).collect();
                let other = operand(g, &fewer)?;
                let op = g.pick(&TWO);
                if g.chance(50) { g.op(op, &[&y, &other], "")? } else { g.op(op, &[&other, &y], "")? }
            }
        };
    }
    Ok(y)
}

/// An operand of that shape: an input or a constant, or one of another shape that is read as it.
fn operand(g: &mut Writer, shape: &[usize]) -> Made {
    let rank = shape.len();
    match g.between(0, 9) {
        0 => Ok(g.constant(shape)),
        1..4 if rank > 1 => {
            let order = g.order(rank);
            let mut turned = vec![0; rank];
            order.iter().zip(shape).for_each(|(from, n)| turned[*from] = *n);
            let x = g.input(&turned);
            g.op("Transpose", &[&x], &format!("perm = {order:?}"))
        }
        4 if rank > 0 => {
            let axis = g.between(0, rank - 1);
            slice(g, shape, axis)
        }
        _ => Ok(g.input(shape)),
    }
}

/// Every second or third element of an axis, from either end.
fn slice(g: &mut Writer, shape: &[usize], axis: usize) -> Made {
    let (step, start) = (g.pick(&[1, 2, 2, 3]), g.between(0, 2));
    let n = shape[axis];
    let size = start + n * step + 1;
    let mut whole = shape.to_vec();
    whole[axis] = size;
    let x: Operand = g.fixed_input(&whole, &[axis]);
    let [from, to, by] = match g.chance(70) {
        true => [start, start + n * step, step].map(|v| v as i64),
        false => [(size - 1 - start) as i64, (size - 1 - start) as i64 - (n * step) as i64, -(step as i64)],
    };
    let [starts, ends, axes, steps] = [from, to, axis as i64, by].map(|v| g.ints(&[v]));
    g.op("Slice", &[&x, &starts, &ends, &axes, &steps], "")
}

/// A result that no cache holds, which is written past them where its vectors are aligned.
pub(super) fn large(g: &mut Writer) -> Made {
    let [m, n] = g.pick(&[[4096, 1024], [2048, 2064], [2100, 2003], [1, 4_194_304], [4_200_001, 1]]);
    let kind = g.between(0, 3);
    if kind == 3 {
        let (a, b) = (g.fixed_input(&[2048, 2], &[0, 1]), g.constant(&[2, 2064]));
        let product = g.op("MatMul", &[&a, &b], "")?;
        return g.op("Relu", &[&product], "");
    }
    let x = g.fixed_input(&[m, n], &[0, 1]);
    match kind {
        0 => g.op("Relu", &[&x], ""),
        1 => g.op("Transpose", &[&x], "perm = [1, 0]"),
        _ => {
            let other = g.constant(&[if n < 5000 { n } else { 1 }]);
            g.op("Add", &[&x, &other], "")
        }
    }
}
