//! Ops over sequences that hand a state on from one call to the next.
//!
//! `LinearAttention` goes from token to token, each of which stands in its body: the number of tokens
//! must be known, and is bounded by [`MAX_TOKENS`]. Generation has one.

use super::Tolerance::Largest;
use super::attention::{Heads, factor, join_heads, sharing, split_heads};
use super::compose::{Body, Built, Inputs, cast, operand};
use super::contract::{SUM_TOLERANCE, shared};
use super::rules::{self, FLOAT};
use super::{Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::types::TensorType;

/// The rows of this family.
pub const ROWS: &[OpRow] = &[CAUSAL_CONV, LINEAR_ATTENTION];

const CAUSAL_CONV: OpRow = OpRow {
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
};

const LINEAR_ATTENTION: OpRow = OpRow {
    outputs: (1, 2),
    attrs: &[
        // A hint for engines that go through sequences in chunks.
        AttrSpec::new("chunk_size", AttrKind::Int, Default::Int(64)),
        AttrSpec::new("kv_num_heads", AttrKind::Int, Default::Required),
        AttrSpec::new("q_num_heads", AttrKind::Int, Default::Required),
        AttrSpec::new("scale", AttrKind::Float, Default::Float(0.0)),
        AttrSpec::new("update_rule", AttrKind::Str, Default::Str("gated_delta")),
    ],
    tolerance: Largest(64.0),
    samples: &[
        "LinearAttention(f32[2,3,8], f32[2,3,8], f32[2,3,6]) {q_num_heads = 2, kv_num_heads = 2, update_rule = \"linear\"} -> 2",
        "LinearAttention(f32[1,2,12], f32[1,2,6], f32[1,2,4], f32[1,2,3,2], f32[1,2,6] in -2.0..0.0) {q_num_heads = 4, kv_num_heads = 2, update_rule = \"gated\", scale = 0.5} -> 2",
        "LinearAttention(f16[1,3,4], f16[1,3,4], f16[1,3,4], f32[1,1,4,4], _, f16[1,3,1] in 0.0..1.0) {q_num_heads = 1, kv_num_heads = 1, update_rule = \"delta\"} -> 2",
        "LinearAttention(f32[2,1,8], f32[2,1,8], f32[2,1,6], f32[2,2,4,3], f32[2,1,2] in -2.0..0.0, f32[2,1,2] in 0.0..1.0) {q_num_heads = 2, kv_num_heads = 2}",
    ],
    ..OpRow::new(
        "LinearAttention",
        Some(("", 27)),
        &[one("query"), one("key"), one("value"), opt("past_state"), opt("decay"), opt("beta")],
        linear_attention_type,
        Meaning::Composite(linear_attention),
    )
};

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

/// How many tokens a recurrence may go over.
pub const MAX_TOKENS: i64 = 256;

/// The sizes of a linear attention.
struct Linear {
    q: Heads,
    k: Heads,
    v: Heads,
    tokens: i64,
}

impl Linear {
    fn of(cx: &Cx<'_>) -> Result<Linear, String> {
        // Whether the state decays, and whether what it holds for a key is corrected.
        let (decays, corrects) = match cx.attrs.str("update_rule") {
            Some("linear") => (false, false),
            Some("gated") => (true, false),
            Some("delta") => (false, true),
            Some("gated_delta") => (true, true),
            other => {
                return Err(format!(
                    "update_rule is {other:?}, expected linear, gated, delta or gated_delta"
                ));
            }
        };
        for (i, name, wanted) in [(4, "decay", decays), (5, "beta", corrects)] {
            if cx.has(i) != wanted {
                let must = if wanted { "must" } else { "may not" };
                return Err(format!("input {i} ({name}) {must} be given for this update_rule"));
            }
        }
        if let Some(i) = (0..3).find(|i| cx.ty(*i).is_ok_and(|t| t.rank() != 3)) {
            return Err(format!("input {i} is {}, expected three dimensions", cx.ty(i)?));
        }
        let (heads, pairs) = (cx.attrs.int("q_num_heads"), cx.attrs.int("kv_num_heads"));
        let (q, k, v) = (Heads::of(cx, 0, heads)?, Heads::of(cx, 1, pairs)?, Heads::of(cx, 2, pairs)?);
        sharing(&q.heads, &k.heads)?;
        shared(&q.size, &k.size, "the sizes of heads of queries and keys")?;
        let length = shared(&shared(&q.length, &k.length, "lengths")?, &v.length, "lengths")?;
        let tokens = length.as_const().filter(|n| *n <= MAX_TOKENS);
        let tokens = tokens
            .ok_or_else(|| format!("there are {length} tokens, expected at most {MAX_TOKENS}, known"))?;
        Ok(Linear { q, k, v, tokens })
    }
}

fn linear_attention_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let l = Linear::of(cx)?;
    for i in (0..6).filter(|i| cx.has(*i)) {
        rules::expect(&format!("input {i}"), cx.dtype(i)?, FLOAT)?;
    }
    let batch = l.q.batch;
    let y = TensorType::new(cx.dtype(0)?, [batch.clone(), l.q.length, &l.q.heads * &l.v.size]);
    let held = cx.dtype(if cx.has(3) { 3 } else { 0 })?;
    let state = TensorType::new(held, [batch, l.k.heads.clone(), l.k.size.clone(), l.v.size]);
    if cx.has(3) {
        let past = cx.ty(3)?;
        if past.rank() != 4 {
            return Err(format!("input 3 (past_state) is {past}, expected {state}"));
        }
        for (a, b) in past.shape.iter().zip(&state.shape) {
            shared(a, b, "the sizes of past_state and of what it stands for")?;
        }
    }
    for (i, each) in [(4, &l.k.heads * &l.k.size), (5, 1.into())] {
        if cx.has(i) {
            let ty = cx.ty(i)?;
            let fits = ty.shape.last().is_some_and(|n| *n == l.k.heads || *n == each);
            if ty.rank() != 3 || !fits {
                let (a, b) = (&l.k.heads, &each);
                return Err(format!("input {i} is {ty}, expected three dimensions, the last {a} or {b}"));
            }
        }
    }
    Ok([y, state].into_iter().take(cx.outputs).map(Info::from).collect())
}

/// For each token `state = exp(decay) * state + key x value`, where of the value what the state holds
/// for the key may be taken off first; the result is `scale * query * state`.
fn linear_attention(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let l = Linear::of(cx)?;
    let [Some(q), Some(k), Some(v), ..] = inputs else { return Ok(None) };
    let (heads, pairs) = (cx.int("q_num_heads"), cx.int("kv_num_heads"));
    // A state of more digits than the tokens keeps them.
    let held = cx.dtype(if cx.has(3) { 3 } else { 0 })?;
    let mut s = Body::of(b, if held == DType::F64 { held } else { cx.dtype(0)? });
    let mut split = |x: Value, n: i64| {
        let x = s.widen(x)?;
        split_heads(&mut s, x, n)
    };
    let (q, k, v) = (split(*q, heads)?, split(*k, pairs)?, split(*v, pairs)?);
    // One number a head, where there are not as many as the head's size.
    let gate = operand(inputs, 4).map(|g| split(g, pairs)).transpose()?;
    let beta = operand(inputs, 5).zip(cx.ty(5).ok().and_then(|t| t.shape.last()?.as_const()));
    let beta = beta.map(|(v, n)| split(v, n)).transpose()?;
    let scale = factor(&mut s, q, cx.attrs.float("scale").filter(|scale| *scale != 0.0))?;
    let (columns, q) = (s.transpose(k, &[0, 1, 3, 2])?, s.op("Mul", &[q, scale])?);
    let gate = match gate {
        Some(g) => {
            let factor = s.op("Exp", &[g])?;
            Some(s.transpose(factor, &[0, 1, 3, 2])?)
        }
        None => None,
    };
    let mut state = operand(inputs, 3).map(|past| s.widen(past)).transpose()?;
    let mut results = Vec::new();
    for t in 0..l.tokens {
        let span = (t, t + 1, 1);
        if let (Some(held), Some(gate)) = (state, gate) {
            let factor = s.slice(gate, 3, span)?;
            state = Some(s.op("Mul", &[held, factor])?);
        }
        let mut value = s.slice(v, 2, span)?;
        if let Some(beta) = beta {
            if let Some(held) = state {
                let key = s.slice(k, 2, span)?;
                let found = s.op("MatMul", &[key, held])?;
                value = s.op("Sub", &[value, found])?;
            }
            let rate = s.slice(beta, 2, span)?;
            value = s.op("Mul", &[value, rate])?;
        }
        let column = s.slice(columns, 3, span)?;
        let mut next = s.op("Mul", &[column, value])?;
        if let Some(held) = state {
            next = s.op("Add", &[held, next])?;
        }
        state = Some(next);
        // The heads of queries that share one of keys are rows of one product.
        let query = s.slice(q, 2, span)?;
        let rows = s.reshape(query, &[0, pairs, heads / pairs, -1])?;
        let read = s.op("MatMul", &[rows, next])?;
        results.push(s.reshape(read, &[0, heads, 1, -1])?);
    }
    if l.tokens == 0 {
        // As many heads, of no tokens.
        results = vec![s.b.op("Concat", &vec![v; (heads / pairs) as usize], vec![("axis", Attr::Int(1))])?];
    }
    let y = s.b.op("Concat", &results, vec![("axis", Attr::Int(2))])?;
    let y = join_heads(&mut s, y)?;
    let state = match state {
        Some(state) => state,
        None => s.op("MatMul", &[columns, v])?,
    };
    let results = [cast(s.b, y, cx.dtype(0)?)?, cast(s.b, state, held)?];
    Ok(Some(results.into_iter().take(cx.outputs).collect()))
}
