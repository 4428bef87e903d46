//! What a node takes for granted of sizes that are not known: it is said in the graph, and a run in which
//! it does not hold is refused.
//!
//! - Squeeze without axes drops the dimensions that have one element. Ranks are known when compiling, so
//!   that a dimension of an unknown size is one that is not dropped.
//! - An operand that must have one element for each dimension or result (Resize, Split) has as many,
//!   whatever its type says.

use super::upgrade::{Call, ints};
use burin_ir::Attr;
use burin_ir::graph::{Builder, Value};

/// Says what a node of the newest schema takes for granted.
pub(super) fn apply(c: &mut Call, b: &mut Builder<'_>) -> Result<(), String> {
    match (c.domain.as_str(), c.op.as_str()) {
        ("", "Squeeze") if c.optional(1).is_none() => squeeze(c, b),
        ("", "Resize") => {
            let count = match c.attr("axes") {
                Some(Attr::Ints(axes)) => axes.len(),
                _ => b.ty(c.input(0)?)?.rank(),
            };
            [(1, 2 * count), (2, count), (3, count)].into_iter().try_for_each(|(i, n)| counted(c, b, i, n))
        }
        ("", "Split") => counted(c, b, 1, c.outputs),
        _ => Ok(()),
    }
}

/// Gives axes to a Squeeze that has none, if it cannot say them itself.
fn squeeze(c: &mut Call, b: &mut Builder<'_>) -> Result<(), String> {
    let mut x = c.input(0)?;
    let shape = b.ty(x)?.shape.clone();
    if shape.iter().all(|d| d.as_const().is_some()) {
        return Ok(());
    }
    let one = ints(b, &[1]);
    for axis in (0..).zip(&shape).filter(|(_, d)| d.as_const().is_none()).map(|(axis, _)| axis) {
        let one_axis = vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))];
        let size = b.op("Shape", &[x], one_axis)?;
        let dropped = b.op("Equal", &[size, one], Vec::new())?;
        x = b.op("Assume", &[x, dropped], vec![("holds", Attr::Int(0))])?;
    }
    let ones: Vec<i64> = (0..).zip(&shape).filter(|(_, d)| **d == 1).map(|(axis, _)| axis).collect();
    if ones.is_empty() {
        c.rename("Identity");
        c.inputs = vec![Some(x)];
    } else {
        c.inputs = vec![Some(x), Some(ints(b, &ones))];
    }
    Ok(())
}

/// Gives an operand of one dimension the number of elements that it must have, where it is not known.
fn counted(c: &mut Call, b: &mut Builder<'_>, i: usize, count: usize) -> Result<(), String> {
    let is_open = |b: &Builder<'_>, v: Value| {
        b.ty(v).is_ok_and(|t| matches!(&t.shape[..], [n] if n.as_const().is_none()))
    };
    if let Some(v) = c.optional(i).filter(|v| is_open(b, *v)) {
        let shape = ints(b, &[count as i64]);
        c.inputs[i] = Some(b.op("Reshape", &[v, shape], Vec::new())?);
    }
    Ok(())
}
