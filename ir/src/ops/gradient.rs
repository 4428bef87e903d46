//! Derivatives of rows for which none follows from the meaning: see [`crate::graph::derive`].
//!
//! A gradient that is given back may have the shape to which its operand was broadcast: who asked for it
//! sums it up.

use super::compose::{Inputs, operand};
use crate::attr::Attr;
use crate::graph::infer::Cx;
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;

/// The operands' gradients.
type Gradients = Result<Vec<Option<Value>>, String>;

fn list(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

/// The gradient passes as it is to the first operand.
pub(super) fn passed(
    _: &Cx<'_>,
    _: &mut Builder<'_>,
    _: Inputs<'_>,
    _: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    Ok(vec![given[0]])
}

/// The last two dimensions exchanged.
fn exchanged(b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let rank = b.ty(x)?.rank() as i64;
    let mut perm: Vec<i64> = (0..rank).collect();
    perm.swap(rank as usize - 1, rank as usize - 2);
    b.op("Transpose", &[x], vec![("perm", Attr::Ints(perm))])
}

/// `C = A B`: the gradients are `G B^T` and `A^T G`.
pub(super) fn matmul(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    inputs: Inputs<'_>,
    _: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    let (Some(x), Some(y), Some(mut g)) = (operand(inputs, 0), operand(inputs, 1), given[0]) else {
        return Ok(vec![None, None]);
    };
    let (row, column) = (cx.shape(0)?.len() == 1, cx.shape(1)?.len() == 1);
    // A vector is a matrix of one row, or of one column, whose dimension the result lacks.
    let (first, last) = (list(b, &[0]), list(b, &[-1]));
    let x = if row { b.op("Unsqueeze", &[x, first], vec![])? } else { x };
    let y = if column { b.op("Unsqueeze", &[y, last], vec![])? } else { y };
    if column {
        g = b.op("Unsqueeze", &[g, last], vec![])?;
    }
    if row {
        let before_last = list(b, &[-2]);
        g = b.op("Unsqueeze", &[g, before_last], vec![])?;
    }
    let (x, y) = (exchanged(b, x)?, exchanged(b, y)?);
    let of_x = b.op("MatMul", &[g, y], vec![])?;
    let mut of_y = b.op("MatMul", &[x, g], vec![])?;
    if column {
        of_y = b.op("Squeeze", &[of_y, last], vec![])?;
    }
    Ok(vec![Some(of_x), Some(of_y)])
}

/// The order undone.
pub(super) fn transpose(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    _: Inputs<'_>,
    _: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    let Some(g) = given[0] else { return Ok(vec![None]) };
    let rank = cx.shape(0)?.len();
    let perm: Vec<i64> = match cx.attrs.ints("perm") {
        Some(perm) => perm.to_vec(),
        None => (0..rank as i64).rev().collect(),
    };
    let mut back = vec![0; rank];
    for (to, from) in perm.iter().enumerate() {
        back[cx.axis(*from, rank)?] = to as i64;
    }
    Ok(vec![Some(b.op("Transpose", &[g], vec![("perm", Attr::Ints(back))])?)])
}

/// Each operand's part.
pub(super) fn concat(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    inputs: Inputs<'_>,
    _: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    let Some(g) = given[0] else { return Ok(vec![None; inputs.len()]) };
    let axis = cx.axis(cx.int("axis"), cx.shape(0)?.len())? as i64;
    let (axes, mut start, mut out) = (list(b, &[axis]), list(b, &[0]), Vec::new());
    for v in inputs.iter().flatten() {
        let ends = vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))];
        let size = b.op("Shape", &[*v], ends)?;
        let end = b.op("Add", &[start, size], vec![])?;
        out.push(Some(b.op("Slice", &[g, start, end, axes], vec![])?));
        start = end;
    }
    Ok(out)
}

/// The gradient of a reduction, as it broadcasts to the operand: with the reduced dimensions.
fn kept(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>, of: Value) -> Result<Value, String> {
    if cx.attrs.flag("keepdims") {
        return Ok(of);
    }
    match (operand(inputs, 1), cx.known(1)) {
        (Some(_), Some([])) | (None, _) if cx.attrs.flag("noop_with_empty_axes") => Ok(of),
        (Some(axes), Some([_, ..])) => b.op("Unsqueeze", &[of, axes], vec![]),
        (None, _) | (Some(_), Some([])) => {
            let ones = list(b, &vec![1; cx.shape(0)?.len()]);
            b.op("Reshape", &[of, ones], vec![])
        }
        _ => Err("the axes are not known".to_owned()),
    }
}

/// The sum's gradient for each of its elements.
pub(super) fn sum(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    inputs: Inputs<'_>,
    _: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    let (Some(x), Some(g)) = (operand(inputs, 0), given[0]) else { return Ok(vec![None]) };
    let g = kept(cx, b, inputs, g)?;
    let shape = b.op("Shape", &[x], vec![])?;
    Ok(vec![Some(b.op("Expand", &[g, shape], vec![])?)])
}

/// The same over the number of elements.
pub(super) fn mean(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    inputs: Inputs<'_>,
    results: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    let all = sum(cx, b, inputs, results, given)?;
    let (Some(x), [Some(g)]) = (operand(inputs, 0), &all[..]) else { return Ok(vec![None]) };
    let sizes = [b.op("Size", &[x], vec![])?, b.op("Size", &[results[0]], vec![])?];
    let count = b.op("Div", &sizes, vec![])?;
    let count = super::compose::cast(b, count, cx.dtype(0)?)?;
    Ok(vec![Some(b.op("Div", &[*g, count], vec![])?)])
}

/// The extreme's gradient, in equal parts for the elements that are the extreme.
pub(super) fn extreme(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    inputs: Inputs<'_>,
    results: &[Value],
    given: &[Option<Value>],
) -> Gradients {
    let (Some(x), Some(g)) = (operand(inputs, 0), given[0]) else { return Ok(vec![None]) };
    let (g, result) = (kept(cx, b, inputs, g)?, kept(cx, b, inputs, results[0])?);
    let chosen = b.op("Equal", &[x, result], vec![])?;
    let chosen = super::compose::cast(b, chosen, cx.dtype(0)?)?;
    let mut attrs = cx.attrs.clone();
    attrs.0.iter_mut().filter(|(n, _)| *n == "keepdims").for_each(|(_, a)| *a = Attr::Int(1));
    let operands: Vec<Value> = [Some(chosen), operand(inputs, 1)].into_iter().flatten().collect();
    let count = b.op("ReduceSum", &operands, attrs.0.clone())?;
    let part = b.op("Div", &[g, count], vec![])?;
    Ok(vec![Some(b.op("Mul", &[chosen, part], vec![])?)])
}
