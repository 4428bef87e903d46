//! Type rules and index arithmetic that the families share.
//!
//! Shapes broadcast as in NumPy: aligned at the end, a dimension of 1 stretches. Every rule gives
//! an error that names what was found and what was expected; none panics on operands that a model
//! file may hold.

use crate::dtype::DType;
use crate::element::axes;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::symbol::Symbol;
use crate::types::TensorType;

/// A set of element types, as the bits below.
pub type Types = u8;
/// The floating-point types.
pub const FLOAT: Types = 1;
/// The signed integers.
pub const SIGNED: Types = 2;
/// The unsigned integers.
pub const UNSIGNED: Types = 4;
/// The truth values.
pub const BOOL: Types = 8;
/// The types without arithmetic.
pub const STORAGE: Types = 16;
/// All integers.
pub const INT: Types = SIGNED | UNSIGNED;
/// All numbers.
pub const NUMBER: Types = FLOAT | INT;
/// The types that are computed with.
pub const COMPUTED: Types = NUMBER | BOOL;
/// The texts.
pub const TEXT: Types = 32;
/// The types that convert to one another.
pub const CONVERTED: Types = COMPUTED | STORAGE;
/// The types whose elements are equal or not.
pub const COMPARED: Types = COMPUTED | TEXT;
/// Every type: for ops that only move elements.
pub const ANY: Types = CONVERTED | TEXT;

/// Checks that a type is in a set; `what` names the operand.
pub fn expect(what: &str, dtype: DType, types: Types) -> Result<(), String> {
    let bit = match dtype {
        DType::Bool => BOOL,
        DType::Text => TEXT,
        t if t.is_storage() => STORAGE,
        t if t.is_float() => FLOAT,
        t if t.is_signed_int() => SIGNED,
        _ => UNSIGNED,
    };
    if types & bit != 0 {
        return Ok(());
    }
    let names = [(FLOAT, "a float"), (SIGNED, "a signed integer"), (UNSIGNED, "an unsigned integer")];
    let more = [(BOOL, "a bool"), (STORAGE, "a type of 8 bits or less"), (TEXT, "a text")];
    let names = names.iter().chain(&more);
    let names: Vec<&str> = names.filter(|(b, _)| types & b != 0).map(|(_, n)| *n).collect();
    Err(format!("{what} has elements of {dtype}, expected {}", names.join(" or ")))
}

/// A shape as messages print it.
pub fn show(shape: &[Expr]) -> String {
    let dims: Vec<String> = shape.iter().map(Expr::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The dimension to which two broadcast: equal ones stay, a constant other than 1 wins, and of two
/// symbolic ones the larger (at run time one of them is 1 or they are equal). `None` where two
/// constants clash.
pub fn broadcast_dim(a: &Expr, b: &Expr) -> Option<Expr> {
    match (a.as_const(), b.as_const()) {
        _ if a == b => Some(a.clone()),
        (Some(1), _) => Some(b.clone()),
        (_, Some(1)) => Some(a.clone()),
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some(a.clone()),
        (None, Some(_)) => Some(b.clone()),
        (None, None) => Some(a.maximum(b)),
    }
}

/// The shape to which two broadcast.
pub fn broadcast_shapes(a: &[Expr], b: &[Expr]) -> Result<Vec<Expr>, String> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let lead = long.len() - short.len();
    let mut out = long[..lead].to_vec();
    for (x, y) in long[lead..].iter().zip(short) {
        let clash = || format!("shapes {} and {} do not broadcast", show(a), show(b));
        out.push(broadcast_dim(x, y).ok_or_else(clash)?);
    }
    Ok(out)
}

/// The shape to which all operands that are present broadcast.
pub fn broadcast(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let mut out = Vec::new();
    for i in (0..cx.inputs.len()).filter(|i| cx.has(*i)) {
        out = broadcast_shapes(&out, cx.shape(i)?)?;
    }
    Ok(out)
}

/// What is zero where a shape broadcasts to another, for each dimension in which that is open, and below
/// zero elsewhere.
pub fn broadcasts(from: &[Expr], to: &[Expr]) -> Vec<Expr> {
    let lead = to.len().saturating_sub(from.len());
    let differs = |a: &Expr, b: &Expr| Expr::ONE - (a - b).is_zero();
    let clash = |(d, t): (&Expr, &Expr)| -(&(differs(d, t) * differs(d, &Expr::ONE)));
    from.iter().zip(&to[lead..]).filter(|(d, t)| d != t && **d != 1).map(clash).collect()
}

/// Checks that an operand, seen under the shape `from`, broadcasts to another, as far as sizes are known.
pub fn check_broadcast(cx: &Cx<'_>, i: usize, from: &[Expr], to: &[Expr]) -> Result<(), String> {
    match broadcast_shapes(from, to) {
        Ok(whole) if whole.len() == to.len() && whole.iter().zip(to).all(|(w, t)| *t != 1 || *w == 1) => {
            Ok(())
        }
        _ => Err(format!(
            "input {i} has shape {}, expected one that broadcasts to {}",
            show(cx.shape(i)?),
            show(to)
        )),
    }
}

/// The index at which an operand of shape `from` is read for the element `index` of the shape `to`
/// that it broadcasts to: aligned at the end, clamped where a dimension is or may be 1.
pub fn broadcast_index(from: &[Expr], to: &[Expr], index: &[Expr]) -> Vec<Expr> {
    let lead = index.len() - from.len();
    let clamp = |(at, d): (usize, &Expr)| {
        let i = &index[lead + at];
        match d.as_const() {
            Some(1) => Expr::ZERO,
            None if to[lead + at] != *d => i.minimum(&(d - 1)),
            _ => i.clone(),
        }
    };
    from.iter().enumerate().map(clamp).collect()
}

/// The axes of a result of that rank, and the same as expressions.
pub fn indices(rank: usize) -> (Vec<Symbol>, Vec<Expr>) {
    let axes = axes(rank);
    let index = axes.iter().map(|a| (*a).into()).collect();
    (axes, index)
}

/// Checks that all operands that are present have elements of one type, and gives it.
pub fn one_dtype(cx: &Cx<'_>) -> Result<DType, String> {
    let first = cx.dtype(0)?;
    for i in (1..cx.inputs.len()).filter(|i| cx.has(*i)) {
        if cx.dtype(i)? != first {
            return Err(format!("input 0 has elements of {first}, input {i} of {}", cx.dtype(i)?));
        }
    }
    Ok(first)
}

/// One result of the operands' one type and broadcast shape.
pub fn pointwise<const TYPES: Types>(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = one_dtype(cx)?;
    expect("input 0", dtype, TYPES)?;
    Ok(vec![TensorType::new(dtype, broadcast(cx)?).into()])
}

/// One result of bools and of the broadcast shape, from operands of one type.
pub fn predicate<const TYPES: Types>(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    expect("input 0", one_dtype(cx)?, TYPES)?;
    Ok(vec![TensorType::new(DType::Bool, broadcast(cx)?).into()])
}

/// One result of the first operand's type and shape.
pub fn same_as_first<const TYPES: Types>(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    expect("input 0", cx.dtype(0)?, TYPES)?;
    Ok(vec![cx.ty(0)?.clone().into()])
}

/// Axes counted from the end where negative, checked, sorted and without repetition.
pub fn normal_axes(cx: &Cx<'_>, axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut out = axes.iter().map(|a| cx.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    match out.windows(2).find(|w| w[0] == w[1]) {
        Some(w) => Err(format!("axis {} stands twice in {axes:?}", w[0])),
        None => Ok(out),
    }
}

/// The contents of an operand that the compiler must know, as integers; `None` where it is absent.
pub fn ints_of(cx: &Cx<'_>, i: usize, what: &str) -> Result<Option<Vec<i64>>, String> {
    if !cx.has(i) {
        return Ok(None);
    }
    let unknown = || format!("input {i} ({what}) must be known when compiling: make it a constant");
    cx.known_ints(i).map(Some).ok_or_else(unknown)
}

/// A shape without the given sorted axes, or with 1 in their place.
pub fn reduced_shape(shape: &[Expr], axes: &[usize], keepdims: bool) -> Vec<Expr> {
    let dims = shape.iter().enumerate();
    let keep = |(i, d): (usize, &Expr)| match axes.binary_search(&i) {
        Err(_) => Some(d.clone()),
        Ok(_) => keepdims.then_some(Expr::ONE),
    };
    dims.filter_map(keep).collect()
}

/// Calls `f` with the offset of every element of `shape` in row-major order, where a step along
/// dimension `i` adds `strides[i]`.
pub fn for_each_offset(shape: &[usize], strides: &[usize], mut f: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let (mut index, mut offset) = (vec![0; shape.len()], 0);
    loop {
        f(offset);
        let mut d = shape.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            index[d] += 1;
            offset += strides[d];
            if index[d] < shape[d] {
                break;
            }
            offset -= strides[d] * shape[d];
            index[d] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_end() {
        let (n, m) = (Expr::named("n"), Expr::named("m"));
        let shape = |a: &[Expr], b: &[Expr]| broadcast_shapes(a, b).map(|s| show(&s));
        assert_eq!(shape(&[n.clone(), 1.into()], &[5.into()]), Ok("[n, 5]".into()));
        assert_eq!(shape(&[4.into()], &[3.into(), n.clone()]), Ok("[3, 4]".into()));
        assert_eq!(shape(std::slice::from_ref(&n), std::slice::from_ref(&m)), Ok("[max(m, n)]".into()));
        assert_eq!(shape(&[], &[0.into()]), Ok("[0]".into()));
        assert_eq!(
            shape(&[2.into(), 3.into()], &[4.into()]),
            Err("shapes [2, 3] and [4] do not broadcast".into())
        );
    }

    #[test]
    fn offsets_walk_in_row_major_order() {
        let walk = |shape: &[usize], strides: &[usize]| {
            let mut out = Vec::new();
            for_each_offset(shape, strides, |o| out.push(o));
            out
        };
        assert_eq!(walk(&[2, 3], &[1, 2]), [0, 2, 4, 1, 3, 5]);
        assert_eq!(walk(&[2, 2], &[0, 1]), [0, 1, 0, 1]);
        assert_eq!(walk(&[], &[]), [0]);
        assert_eq!(walk(&[3, 0], &[0, 1]), [0usize; 0]);
    }
}
