//! Ops over sequences that hand a state on from one call to the next.

use super::compose::{Body, Built, Inputs, cast, operand};
use super::contract::{SUM_TOLERANCE, shared};
use super::rules::{self, FLOAT};
use super::{Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::graph::Builder;
use crate::graph::infer::{Cx, Info};
use crate::types::TensorType;

/// The rows of this family.
pub const ROWS: &[OpRow] = &[OpRow {
    outputs: (1, 2),
    attrs: &[AttrSpec::new("activation", AttrKind::Str, Default::Str("none"))],
    tolerance: SUM_TOLERANCE,
    samples: &[
        "CausalConvWithState(f32[2,3,7], f32[3,1,4]) -> 2",
        "CausalConvWithState(f16[1,4,2], f16[4,1,4], f16[4], f16[1,4,3]) {activation = \"silu\"} -> 2",
        "CausalConvWithState(f32[2,3,5], f32[3,1,1], f32[3]) {activation = \"swish\"} -> 2",
        "CausalConvWithState(bf16[1,2,6], bf16[2,1,3], _, bf16[1,2,2])",
    ],
    ..OpRow::new(
        "CausalConvWithState",
        Some(("", 27)),
        &[one("input"), one("weight"), opt("bias"), opt("past_state")],
        causal_conv_type,
        Meaning::Composite(causal_conv),
    )
}];

/// The window of a causal convolution.
fn window(cx: &Cx<'_>) -> Result<i64, String> {
    let weight = cx.ty(1)?;
    match &weight.shape[..] {
        [_, one, k] if one.as_const().is_none_or(|n| n == 1) => {
            let k = k.as_const().filter(|k| *k > 0);
            k.ok_or_else(|| format!("input 1 is {weight}, expected a known window of 1 or more"))
        }
        _ => Err(format!("input 1 is {weight}, expected [channels, 1, window]")),
    }
}

/// How many channels there are, each with a filter of its own.
fn channels_of(cx: &Cx<'_>) -> Result<i64, String> {
    let weight = cx.ty(1)?;
    weight.shape[0]
        .as_const()
        .ok_or_else(|| format!("input 1 is {weight}, expected a known number of channels"))
}

fn causal_conv_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0", rules::one_dtype(cx)?, FLOAT)?;
    let [batch, channels, _] = &x.shape[..] else {
        return Err(format!("input 0 is {x}, expected [batch, channels, length]"));
    };
    let state = TensorType::new(x.dtype, [batch.clone(), channels.clone(), (window(cx)? - 1).into()]);
    shared(channels, &channels_of(cx)?.into(), "the channels of inputs 0 and 1")?;
    if cx.has(3) {
        let past = cx.ty(3)?;
        if past.rank() != 3 {
            return Err(format!("input 3 (past_state) is {past}, expected {state}"));
        }
        for (a, b) in past.shape.iter().zip(&state.shape) {
            shared(a, b, "the sizes of past_state and of what it stands for")?;
        }
    }
    match cx.attrs.str("activation") {
        Some("none" | "silu" | "swish") => {}
        other => return Err(format!("activation is {other:?}, expected none, silu or swish")),
    }
    Ok([x.clone(), state].into_iter().take(cx.outputs).map(Info::from).collect())
}

fn causal_conv(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let [Some(x), Some(weight), ..] = inputs else { return Ok(None) };
    let (dtype, before) = (cx.dtype(0)?, window(cx)? - 1);
    let channels = channels_of(cx)?;
    let mut s = Body::of(b, dtype);
    let line = match operand(inputs, 3) {
        Some(past) => s.b.op("Concat", &[past, *x], vec![("axis", Attr::Int(2))])?,
        None => {
            let pads = s.axes(&[0, 0, before, 0, 0, 0]);
            s.op("Pad", &[*x, pads])?
        }
    };
    let (wide, weight) = (s.widen(line)?, s.widen(*weight)?);
    let bias = operand(inputs, 2).map(|v| s.widen(v)).transpose()?;
    let group = vec![("group", Attr::Int(channels))];
    let mut y = s.op_with("Conv", &[Some(wide), Some(weight), bias], group)?;
    if cx.attrs.str("activation") != Some("none") {
        y = s.op("Swish", &[y])?;
    }
    // From the end; where nothing is kept, from behind it.
    let start = if before > 0 { -before } else { i64::MAX };
    let state = s.slice(line, 2, (start, i64::MAX, 1))?;
    Ok(Some([cast(s.b, y, dtype)?, state].into_iter().take(cx.outputs).collect()))
}
