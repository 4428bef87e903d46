//! Derivatives of rows for which none follows from the meaning: see [`crate::graph::derive`].

use super::GradCx;
use super::compose::{cast, operand};
use crate::attr::Attr;
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;

/// The operands' gradients.
type Gradients = Result<Vec<Option<Value>>, String>;

fn list(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

/// The gradient passes as it is to the first operand.
pub(super) fn passed(n: &GradCx<'_>, _: &mut Builder<'_>) -> Gradients {
    Ok(vec![n.given[0]])
}

/// The last two dimensions exchanged.
fn exchanged(b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let rank = b.ty(x)?.rank() as i64;
    let mut perm: Vec<i64> = (0..rank).collect();
    perm.swap(rank as usize - 1, rank as usize - 2);
    b.op("Transpose", &[x], vec![("perm", Attr::Ints(perm))])
}

/// `C = A B`: the gradients are `G B^T` and `A^T G`.
pub(super) fn matmul(n: &GradCx<'_>, b: &mut Builder<'_>) -> Gradients {
    let (Some(x), Some(y), Some(mut g)) = (operand(n.inputs, 0), operand(n.inputs, 1), n.given[0]) else {
        return Ok(vec![None, None]);
    };
    let (row, column) = (n.cx.shape(0)?.len() == 1, n.cx.shape(1)?.len() == 1);
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
pub(super) fn transpose(n: &GradCx<'_>, b: &mut Builder<'_>) -> Gradients {
    let Some(g) = n.given[0] else { return Ok(vec![None]) };
    let rank = n.cx.shape(0)?.len();
    let perm: Vec<i64> = match n.cx.attrs.ints("perm") {
        Some(perm) => perm.to_vec(),
        None => (0..rank as i64).rev().collect(),
    };
    let mut back = vec![0; rank];
    for (to, from) in perm.iter().enumerate() {
        back[n.cx.axis(*from, rank)?] = to as i64;
    }
    Ok(vec![Some(b.op("Transpose", &[g], vec![("perm", Attr::Ints(back))])?)])
}

/// Each operand's part.
pub(super) fn concat(n: &GradCx<'_>, b: &mut Builder<'_>) -> Gradients {
    let Some(g) = n.given[0] else { return Ok(vec![None; n.inputs.len()]) };
    let axis = n.cx.axis(n.cx.int("axis"), n.cx.shape(0)?.len())? as i64;
    let (axes, mut start, mut out) = (list(b, &[axis]), list(b, &[0]), Vec::new());
    for v in n.inputs.iter().flatten() {
        let ends = vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))];
        let size = b.op("Shape", &[*v], ends)?;
        let end = b.op("Add", &[start, size], vec![])?;
        out.push(Some(b.op("Slice", &[g, start, end, axes], vec![])?));
        start = end;
    }
    Ok(out)
}

/// The gradient of a reduction, as it broadcasts to the operand: with the reduced dimensions.
fn kept(n: &GradCx<'_>, b: &mut Builder<'_>, of: Value) -> Result<Value, String> {
    if n.cx.attrs.flag("keepdims") {
        return Ok(of);
    }
    match (operand(n.inputs, 1), n.cx.known(1)) {
        (Some(_), Some([])) | (None, _) if n.cx.attrs.flag("noop_with_empty_axes") => Ok(of),
        (Some(axes), Some([_, ..])) => b.op("Unsqueeze", &[of, axes], vec![]),
        (None, _) | (Some(_), Some([])) => {
            let ones = list(b, &vec![1; n.cx.shape(0)?.len()]);
            b.op("Reshape", &[of, ones], vec![])
        }
        _ => Err("the axes are not known".to_owned()),
    }
}

/// The sum's gradient for each of its elements.
pub(super) fn sum(n: &GradCx<'_>, b: &mut Builder<'_>) -> Gradients {
    let (Some(x), Some(g)) = (operand(n.inputs, 0), n.given[0]) else { return Ok(vec![None]) };
    let g = kept(n, b, g)?;
    let shape = b.op("Shape", &[x], vec![])?;
    Ok(vec![Some(b.op("Expand", &[g, shape], vec![])?)])
}

/// The same over the number of elements.
pub(super) fn mean(n: &GradCx<'_>, b: &mut Builder<'_>) -> Gradients {
    let all = sum(n, b)?;
    let (Some(x), [Some(g)]) = (operand(n.inputs, 0), &all[..]) else { return Ok(vec![None]) };
    let sizes = [b.op("Size", &[x], vec![])?, b.op("Size", &[n.results[0]], vec![])?];
    let count = b.op("Div", &sizes, vec![])?;
    let count = cast(b, count, n.cx.dtype(0)?)?;
    Ok(vec![Some(b.op("Div", &[*g, count], vec![])?)])
}

/// The extreme's gradient, in equal parts for the elements that are the extreme.
pub(super) fn extreme(n: &GradCx<'_>, b: &mut Builder<'_>) -> Gradients {
    let (Some(x), Some(g)) = (operand(n.inputs, 0), n.given[0]) else { return Ok(vec![None]) };
    let (g, result) = (kept(n, b, g)?, kept(n, b, n.results[0])?);
    let chosen = b.op("Equal", &[x, result], vec![])?;
    let chosen = cast(b, chosen, n.cx.dtype(0)?)?;
    let mut attrs = n.cx.attrs.clone();
    attrs.0.iter_mut().filter(|(n, _)| *n == "keepdims").for_each(|(_, a)| *a = Attr::Int(1));
    let operands: Vec<Value> = [Some(chosen), operand(n.inputs, 1)].into_iter().flatten().collect();
    let count = b.op("ReduceSum", &operands, attrs.0.clone())?;
    let part = b.op("Div", &[g, count], vec![])?;
    Ok(vec![Some(b.op("Mul", &[chosen, part], vec![])?)])
}
