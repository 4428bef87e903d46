//! Graphs of elements other than `f32`, and of several types at once.

use super::writer::{Made, Operand, Writer};
use burin_ir::DType;

const HALVES: [DType; 2] = [DType::F16, DType::BF16];
const INTEGERS: [DType; 8] =
    [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64];

fn any_type(g: &mut Writer) -> DType {
    let all: Vec<DType> = INTEGERS.into_iter().chain(HALVES).chain([DType::F32, DType::F64]).collect();
    g.pick(&all)
}

fn shape(g: &mut Writer, limit: usize) -> Vec<usize> {
    let rank = g.between(1, 3);
    let mut shape: Vec<usize> = (0..rank).map(|_| g.size()).collect();
    g.fit(&mut shape, limit);
    shape
}

/// An operand for one of that shape: as large, or one that is broadcast.
fn beside(g: &mut Writer, dtype: DType, shape: &[usize]) -> Operand {
    let mut own = shape.to_vec();
    if g.chance(30) {
        let axis = g.between(0, own.len() - 1);
        own[axis] = 1;
    }
    let from = if g.chance(20) { own.len() - 1 } else { 0 };
    g.typed_input(dtype, &own[from..], &[])
}

fn cast(g: &mut Writer, x: &Operand, to: DType) -> Made {
    g.op("Cast", &[x], &format!("to = {to}"))
}

/// Some operations on one type.
fn chain(g: &mut Writer, dtype: DType, one: &[&str], two: &[&str]) -> Made {
    let shape = shape(g, 20_000);
    let mut x = g.typed_input(dtype, &shape, &[]);
    for _ in 0..g.between(1, 4) {
        x = if g.chance(40) && !one.is_empty() {
            let op = g.pick(one);
            g.op(op, &[&x], "")?
        } else {
            let op = g.pick(two);
            let y = beside(g, dtype, &shape);
            if g.chance(50) { g.op(op, &[&x, &y], "")? } else { g.op(op, &[&y, &x], "")? }
        };
    }
    Ok(x)
}

pub(super) fn halves(g: &mut Writer) -> Made {
    let dtype = g.pick(&HALVES);
    chain(g, dtype, &["Relu", "Abs", "Neg", "Floor", "Ceil"], &["Add", "Sub", "Mul", "Max", "Min"])
}

pub(super) fn doubles(g: &mut Writer) -> Made {
    let one = ["Relu", "Abs", "Neg", "Floor", "Exp", "Tanh", "Sigmoid", "Sqrt", "Erf"];
    chain(g, DType::F64, &one, &["Add", "Sub", "Mul", "Div", "Max", "Min"])
}

pub(super) fn integers(g: &mut Writer) -> Made {
    let dtype = g.pick(&INTEGERS);
    let two = ["Add", "Sub", "Mul", "Max", "Min", "BitwiseAnd", "BitwiseOr", "BitwiseXor"];
    if g.chance(25) {
        let shape = shape(g, 20_000);
        let (x, y) = (g.typed_input(dtype, &shape, &[]), beside(g, dtype, &shape));
        return match g.between(0, 3) {
            0 => g.op("Div", &[&x, &y], ""),
            1 => g.op("Mod", &[&x, &y], ""),
            2 => {
                let way = g.pick(&["LEFT", "RIGHT"]);
                g.op("BitShift", &[&x, &y], &format!("direction = \"{way}\""))
            }
            _ => {
                let compare = g.pick(&["Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual"]);
                let flags = g.op(compare, &[&x, &y], "")?;
                if g.chance(40) {
                    return Ok(flags);
                }
                let other = any_type(g);
                let (a, b) = (beside(g, other, &shape), beside(g, other, &shape));
                g.op("Where", &[&flags, &a, &b], "")
            }
        };
    }
    chain(g, dtype, &["Neg", "Abs", "BitwiseNot"], &two)
}

/// From one type to another, with sums in each.
pub(super) fn casts(g: &mut Writer) -> Made {
    let shape = shape(g, 20_000);
    let first = any_type(g);
    let mut x = g.typed_input(first, &shape, &[]);
    for _ in 0..g.between(1, 3) {
        let to = any_type(g);
        x = cast(g, &x, to)?;
        if g.chance(60) {
            let y = beside(g, to, &shape);
            x = g.op("Add", &[&x, &y], "")?;
        }
    }
    Ok(x)
}

pub(super) fn products(g: &mut Writer) -> Made {
    let dtype =
        g.pick(&[DType::F16, DType::F16, DType::BF16, DType::F64, DType::I32, DType::U32, DType::I64]);
    if dtype.is_float() && dtype != DType::BF16 && g.chance(40) {
        let [c, m] = [g.channels(), g.channels()];
        let mut spatial = [(); 2].map(|()| g.size().clamp(3, 33));
        g.fit(&mut spatial, (200_000 / (c * m)).max(16));
        let [h, w] = spatial.map(|s| s.max(3));
        let k = g.pick(&[1, 1, 3]);
        let x = g.typed_input(dtype, &[1, c, h, w], &[1]);
        let (w, bias) = (g.typed_constant(dtype, &[m, c, k, k]), g.typed_constant(dtype, &[m]));
        let p = k / 2;
        let y = g.op("Conv", &[&x, &w, &bias], &format!("pads = [{p}, {p}, {p}, {p}]"))?;
        return if g.chance(50) { g.op("Relu", &[&y], "") } else { Ok(y) };
    }
    let [m, k, n] = g.sizes(200_000);
    let a = g.typed_input(dtype, &[m, k], &[1]);
    let b = if g.chance(60) { g.typed_constant(dtype, &[k, n]) } else { g.typed_input(dtype, &[k, n], &[]) };
    g.op("MatMul", &[&a, &b], "")
}

pub(super) fn reductions(g: &mut Writer) -> Made {
    let dtype = g.pick(&[
        DType::F16,
        DType::F64,
        DType::I32,
        DType::I64,
        DType::U32,
        DType::U64,
        DType::I8,
        DType::U8,
    ]);
    let shape = shape(g, 20_000);
    let x = g.typed_input(dtype, &shape, &[]);
    if dtype.is_float() && g.chance(30) {
        return g.op("Softmax", &[&x], "axis = -1");
    }
    let (axis, keep) = (g.between(0, shape.len() - 1), g.between(0, 1));
    let axes = g.ints(&[axis as i64]);
    let op = g.pick(&["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd"]);
    g.op(op, &[&x, &axes], &format!("keepdims = {keep}"))
}

pub(super) fn movement(g: &mut Writer) -> Made {
    let dtype = if g.chance(20) { DType::Bool } else { any_type(g) };
    let shape = shape(g, 20_000);
    let x = g.typed_input(dtype, &shape, &[]);
    let order = g.order(shape.len());
    let y = g.op("Transpose", &[&x], &format!("perm = {order:?}"))?;
    match g.between(0, 2) {
        0 => g.op("Concat", &[&y, &y], "axis = -1"),
        1 if dtype != DType::Bool => cast(g, &y, DType::F32),
        _ => Ok(y),
    }
}

/// Rows or elements at places that data give. Integers drawn are from -8 to below 8.
pub(super) fn gather(g: &mut Writer) -> Made {
    let dtype = if g.chance(50) { DType::F32 } else { any_type(g) };
    let [mut rows, columns] = g.sizes(5_000);
    rows = rows.max(8);
    let x = g.typed_input(dtype, &[rows, columns], &[0, 1]);
    let which = g.pick(&[DType::I64, DType::I64, DType::I32]);
    let count = g.size().min(64);
    if g.chance(30) {
        let at = g.typed_input(which, &[count, columns], &[1]);
        return g.op("GatherElements", &[&x, &at], "axis = 0");
    }
    let at = g.typed_input(which, &[count], &[]);
    if columns >= 8 && g.chance(40) {
        return g.op("Gather", &[&x, &at], "axis = 1");
    }
    let y = g.op("Gather", &[&x, &at], "axis = 0")?;
    if dtype.is_float() && g.chance(50) { g.op("Neg", &[&y], "") } else { Ok(y) }
}
