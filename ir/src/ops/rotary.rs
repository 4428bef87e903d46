//! Rotary positional embeddings: pairs of a head's elements, turned by an angle of the position.
//!
//! A pair is an element of the first half of what is turned and the one at the same place of the
//! second half or, interleaved, two neighbours. Elements beyond `rotary_embedding_dim` stay.

use super::Tolerance::Largest;
use super::attention::Heads;
use super::compose::{Body, Built, Inputs, cast, operand};
use super::rules::{self, FLOAT};
use super::{Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};

/// The rows of this family.
pub const ROWS: &[OpRow] = &[OpRow {
    attrs: &[
        AttrSpec::new("interleaved", AttrKind::Int, Default::Int(0)),
        AttrSpec::new("num_heads", AttrKind::Int, Default::Absent),
        AttrSpec::new("rotary_embedding_dim", AttrKind::Int, Default::Int(0)),
    ],
    tolerance: Largest(8.0),
    samples: &[
        "RotaryEmbedding(f32[2,3,4,8], f32[9,4], f32[9,4], i64[2,4] in 0..9)",
        "RotaryEmbedding(f32[2,4,24], f32[2,4,2], f32[2,4,2]) {num_heads = 3, rotary_embedding_dim = 4}",
        "RotaryEmbedding(f16[1,2,5,6], f16[1,5,3], f16[1,5,3]) {interleaved = 1}",
        "RotaryEmbedding(bf16[1,5,16], bf16[7,3], bf16[7,3], i64[1,5] in 0..7) {num_heads = 2, rotary_embedding_dim = 6, interleaved = 1}",
    ],
    ..OpRow::new(
        "RotaryEmbedding",
        Some(("", 23)),
        &[one("X"), one("cos_cache"), one("sin_cache"), opt("position_ids")],
        rotary_type,
        Meaning::Composite(rotary),
    )
}];

/// How many pairs of a head are turned.
fn pairs(cx: &Cx<'_>) -> Result<i64, String> {
    let size = Heads::of(cx, 0, cx.attrs.int("num_heads"))?.size;
    let turned = match cx.int("rotary_embedding_dim") {
        0 => size.as_const().ok_or("the size of a head must be known when compiling")?,
        n => n,
    };
    let fits = size.as_const().is_none_or(|n| turned <= n);
    if turned < 0 || turned % 2 != 0 || !fits {
        return Err(format!("{turned} elements of heads of {size} cannot be turned in pairs"));
    }
    Ok(turned / 2)
}

fn rotary_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let pairs = pairs(cx)?;
    for i in [1, 2] {
        let (found, cache) = (cx.dtype(i)?, cx.ty(i)?);
        if found != cx.dtype(0)? {
            return Err(format!("input 0 has elements of {}, input {i} of {found}", cx.dtype(0)?));
        }
        let rank = if cx.has(3) { 2 } else { 3 };
        let last = cache.shape.last().filter(|_| cache.rank() == rank);
        if last.is_none_or(|n| n.as_const().is_some_and(|n| n != pairs)) {
            return Err(format!("input {i} is {cache}, expected rank {rank} and {pairs} elements a row"));
        }
    }
    if cx.has(3) {
        rules::expect("input 3 (position_ids)", cx.dtype(3)?, rules::INT)?;
        if cx.ty(3)?.rank() != 2 {
            return Err(format!("input 3 (position_ids) is {}, expected two dimensions", cx.ty(3)?));
        }
    }
    rules::same_as_first::<FLOAT>(cx)
}

fn rotary(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(cos), Some(sin), ..] = inputs else { return Ok(None) };
    let mut s = Body::of(b, cx.dtype(0)?);
    let three = cx.ty(0)?.rank() == 3;
    // Heads stand before positions, or after them where they were side by side.
    let (x, heads) = if three { (s.reshape(*x, &[0, 0, cx.int("num_heads"), -1])?, 2) } else { (*x, 1) };
    let angle = |s: &mut Body<'_, '_>, cache: Value| {
        let rows = match operand(inputs, 3) {
            Some(ids) => s.op("Gather", &[cache, ids])?,
            None => cache,
        };
        let axis = s.axes(&[heads]);
        let rows = s.op("Unsqueeze", &[rows, axis])?;
        s.widen(rows)
    };
    let (cos, sin) = (angle(&mut s, *cos)?, angle(&mut s, *sin)?);
    let turned = turn(&mut s, x, [cos, sin], pairs(cx)?, cx.attrs.flag("interleaved"))?;
    Ok(Some(vec![if three { s.reshape(turned, &[0, 0, -1])? } else { turned }]))
}

/// Turns the first `pairs` pairs of the last of four dimensions by angles that broadcast to them.
pub(super) fn turn(
    s: &mut Body<'_, '_>,
    x: Value,
    [cos, sin]: [Value; 2],
    pairs: i64,
    interleaved: bool,
) -> Result<Value, String> {
    let dtype = s.b.ty(x)?.dtype;
    let spans = if interleaved {
        [(0, 2 * pairs, 2), (1, 2 * pairs, 2)]
    } else {
        [(0, pairs, 1), (pairs, 2 * pairs, 1)]
    };
    let mut halves = [x, x];
    for (half, span) in halves.iter_mut().zip(spans) {
        *half = s.slice(x, 3, span)?;
        *half = s.widen(*half)?;
    }
    let mut sides = Vec::new();
    for (factors, op) in [([cos, sin], "Sub"), ([sin, cos], "Add")] {
        let [a, b] = [s.op("Mul", &[halves[0], factors[0]])?, s.op("Mul", &[halves[1], factors[1]])?];
        let side = s.op(op, &[a, b])?;
        sides.push(cast(s.b, side, dtype)?);
    }
    if interleaved {
        let last = s.axes(&[4]);
        for side in &mut sides {
            *side = s.op("Unsqueeze", &[*side, last])?;
        }
        let both = s.b.op("Concat", &sides, vec![("axis", Attr::Int(4))])?;
        sides = vec![s.reshape(both, &[0, 0, 0, -1])?];
    }
    sides.push(s.slice(x, 3, (2 * pairs, i64::MAX, 1))?);
    s.b.op("Concat", &sides, vec![("axis", Attr::Int(3))])
}
