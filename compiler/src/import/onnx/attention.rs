//! The attention ops of `com.microsoft` as ONNX's own: heads are split, masks brought to one form, and
//! caches put together.
//!
//! Refused are what only other engines' own loops use: buffers that past and present share, beams,
//! quantised caches, sinks, and packed batches.

use super::fused::{counted, number, plus};
use super::upgrade::{Call, Outcome, ints};
use burin_ir::graph::{Builder, Value};
use burin_ir::{Attr, DType, Expr};

/// More heads than any model has.
const MAX_HEADS: i64 = 1 << 16;

/// Refuses attributes other than the given values, and inputs that are not supported.
fn refuse(c: &mut Call, attrs: &[(&str, i64)], inputs: &[(usize, &str)]) -> Result<(), String> {
    for (name, expected) in attrs {
        let found = c.take_int(name, *expected)?;
        if found != *expected {
            return Err(format!("{name} is {found}, only {expected} is supported"));
        }
    }
    match inputs.iter().find(|(i, _)| c.optional(*i).is_some()) {
        Some((i, name)) => Err(format!("input {i} ({name}) is not supported")),
        None => Ok(()),
    }
}

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`.
fn split_heads(b: &mut Builder<'_>, x: Value, heads: i64) -> Result<Value, String> {
    let shape = ints(b, &[0, 0, heads, -1]);
    let apart = b.op("Reshape", &[x, shape], Vec::new())?;
    b.op("Transpose", &[apart], vec![("perm", Attr::Ints(vec![0, 2, 1, 3]))])
}

/// `[batch, heads, length, size]` as `[batch, length, heads * size]`.
fn join_heads(b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let rows = b.op("Transpose", &[x], vec![("perm", Attr::Ints(vec![0, 2, 1, 3]))])?;
    let shape = ints(b, &[0, 0, -1]);
    b.op("Reshape", &[rows, shape], Vec::new())
}

/// Parts of these sizes along an axis.
fn parts(b: &mut Builder<'_>, x: Value, axis: i64, sizes: &[i64]) -> Result<Vec<Value>, String> {
    let axis = ints(b, &[axis]);
    let mut start: i64 = 0;
    let mut out = Vec::new();
    for n in sizes {
        let [from, to] = [start, start.saturating_add(*n)].map(|v| ints(b, &[v]));
        out.push(b.op("Slice", &[x, from, to, axis], Vec::new())?);
        start = start.saturating_add(*n);
    }
    Ok(out)
}

/// The index along an axis, which vanishes.
fn at(b: &mut Builder<'_>, x: Value, axis: i64, index: i64) -> Result<Value, String> {
    let index = b.constant(burin_ir::Tensor::scalar(DType::I64, burin_ir::Scalar::I(index)));
    b.op("Gather", &[x, index], vec![("axis", Attr::Int(axis))])
}

fn known(e: Option<&Expr>, what: &str) -> Result<i64, String> {
    e.and_then(Expr::as_const).ok_or_else(|| format!("{what} must be known when compiling"))
}

/// One size of a tensor as a tensor of one element.
fn size(b: &mut Builder<'_>, x: Value, axis: i64) -> Result<Value, String> {
    b.op("Shape", &[x], vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))])
}

/// What an attention node is made of once heads are split: `[batch, heads, length, size]`.
struct Parts {
    q: Value,
    k: Value,
    v: Value,
    past: Option<(Value, Value)>,
}

impl Parts {
    /// How many keys there are, those of the past included.
    fn total(&self, b: &mut Builder<'_>) -> Result<Value, String> {
        let new = size(b, self.k, 2)?;
        match self.past {
            Some((past, _)) => {
                let past = size(b, past, 2)?;
                b.op("Add", &[past, new], Vec::new())
            }
            None => Ok(new),
        }
    }

    /// The results `[batch, length, heads * size]`, keys and values.
    fn attend(
        self,
        b: &mut Builder<'_>,
        mask: Option<Value>,
        attrs: Vec<(&str, Attr)>,
    ) -> Result<[Value; 3], String> {
        let row = burin_ir::ops::by_name("Attention").ok_or("there is no op Attention")?;
        let mut inputs = vec![Some(self.q), Some(self.k), Some(self.v), mask];
        if let Some((k, v)) = self.past {
            inputs.extend([Some(k), Some(v)]);
        }
        let attrs = attrs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        let node = b.node(row, "", inputs, attrs, 3, Vec::new())?;
        let [y, k, v] = b.graph.nodes[node].outputs[..] else {
            return Err("Attention has three results".into());
        };
        Ok([join_heads(b, y)?, k, v])
    }
}

/// The scale, where one is set.
fn scale(c: &mut Call) -> Result<Vec<(&'static str, Attr)>, String> {
    let scale = c.take_float("scale")?.filter(|s| *s != 0.0);
    Ok(scale.map(|s| ("scale", Attr::Float(s))).into_iter().collect())
}

/// A key padding mask in any of its forms as what is added to the scores: 0, or `filter` for a key that
/// is not to be seen.
fn padding(b: &mut Builder<'_>, mask: Value, parts: &Parts, filter: f64) -> Result<Value, String> {
    let ty = b.ty(mask)?.clone();
    let batch = b.ty(parts.q)?.shape.first().cloned().ok_or("the queries are a scalar")?;
    let seen = match &ty.shape[..] {
        [n] => {
            let total = parts.total(b)?;
            let places = counted(b, total)?;
            let mask = b.op("Cast", &[mask], vec![("to", Attr::DType(DType::I64))])?;
            let column = ints(b, &[-1, 1]);
            let bound = |b: &mut Builder<'_>, v: Value| b.op("Reshape", &[v, column], Vec::new());
            let seen = if *n == batch {
                let ends = bound(b, mask)?;
                b.op("Less", &[places, ends], Vec::new())?
            } else if *n == &batch * 2 && batch.as_const().is_some() {
                let n = known(Some(&batch), "the batch")?;
                let halves = self::parts(b, mask, 0, &[n, n])?;
                let (ends, starts) = (bound(b, halves[0])?, bound(b, halves[1])?);
                let before = b.op("Less", &[places, ends], Vec::new())?;
                let after = b.op("GreaterOrEqual", &[places, starts], Vec::new())?;
                b.op("And", &[before, after], Vec::new())?
            } else {
                return Err(format!("a mask {ty} for a batch of {batch} is not supported"));
            };
            let axes = ints(b, &[1, 2]);
            b.op("Unsqueeze", &[seen, axes], Vec::new())?
        }
        shape @ ([_, _] | [_, _, _]) => {
            let seen = b.op("Cast", &[mask], vec![("to", Attr::DType(DType::Bool))])?;
            let axes = ints(b, if shape.len() == 2 { &[1, 2] } else { &[1] });
            b.op("Unsqueeze", &[seen, axes], Vec::new())?
        }
        _ => return Err(format!("a mask {ty} is not supported, expected one to three dimensions")),
    };
    let (zero, hidden) = (number(b, parts.q, 0.0)?, number(b, parts.q, filter)?);
    b.op("Where", &[seen, zero, hidden], Vec::new())
}

/// The mask that both of the multi-head ops add to the scores.
fn mask(c: &mut Call, b: &mut Builder<'_>, parts: &Parts, at: [usize; 2]) -> Result<Option<Value>, String> {
    let filter = c.take_float("mask_filter_value")?.unwrap_or(-10000.0);
    let bias = c.optional(at[1]);
    match c.optional(at[0]) {
        Some(m) => {
            let m = padding(b, m, parts, filter)?;
            plus(b, m, bias).map(Some)
        }
        None => Ok(bias),
    }
}

/// `Attention`: queries, keys and values are projected from one input.
pub(super) fn packed(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    refuse(c, &[("do_rotary", 0), ("past_present_share_buffer", 0)], &[(6, "past_sequence_length")])?;
    c.take_int("rotary_embedding_dim", 0)?;
    let heads = c.take_int("num_heads", 0)?;
    let causal = c.take_int("unidirectional", 0)?;
    let weights = c.input(1)?;
    let width = known(b.ty(weights)?.shape.last(), "the size of the weights")?;
    let sizes = c.take_ints("qkv_hidden_sizes")?.unwrap_or_else(|| vec![width / 3; 3]);
    let sum = sizes.iter().fold(0, |sum: i64, n| sum.saturating_add(*n));
    if sizes.len() != 3 || sum != width || sizes.iter().any(|n| *n < 1) {
        return Err(format!("qkv_hidden_sizes are {sizes:?}, expected three that sum to {width}"));
    }
    let projected = b.op("MatMul", &[c.input(0)?, weights], Vec::new())?;
    let projected = plus(b, projected, c.optional(2))?;
    let mut split = parts(b, projected, 2, &sizes)?;
    for x in &mut split {
        *x = split_heads(b, *x, heads)?;
    }
    let past = match c.optional(4) {
        Some(past) => Some((at(b, past, 0, 0)?, at(b, past, 0, 1)?)),
        None => None,
    };
    let parts = Parts { q: split[0], k: split[1], v: split[2], past };
    let mask = mask(c, b, &parts, [3, 5])?;
    let mut attrs = scale(c)?;
    attrs.push(("is_causal", Attr::Int(causal)));
    let [y, k, v] = parts.attend(b, mask, attrs)?;
    if c.outputs == 1 {
        return Ok(Some(vec![y]));
    }
    let first = ints(b, &[0]);
    let [k, v] = [b.op("Unsqueeze", &[k, first], Vec::new())?, b.op("Unsqueeze", &[v, first], Vec::new())?];
    Ok(Some(vec![y, b.op("Concat", &[k, v], vec![("axis", Attr::Int(0))])?]))
}

/// `MultiHeadAttention`: queries, keys and values may be packed, and biases of projections added.
pub(super) fn multi_head(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    refuse(c, &[], &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    if c.outputs > 3 {
        return Err("the fourth result (qk) is not supported".into());
    }
    let heads = c.take_int("num_heads", 0)?;
    let causal = c.take_int("unidirectional", 0)?;
    let query = c.input(0)?;
    // [batch, length, heads, parts, size] holds several of them.
    let apart = |b: &mut Builder<'_>, x: Value, i: i64| {
        let part = at(b, x, 3, i)?;
        b.op("Transpose", &[part], vec![("perm", Attr::Ints(vec![0, 2, 1, 3]))])
    };
    let [q, k, v] = if b.ty(query)?.rank() == 5 {
        [apart(b, query, 0)?, apart(b, query, 1)?, apart(b, query, 2)?]
    } else {
        let key = c.input(1)?;
        let [q, k, v] = match b.ty(key)?.rank() {
            5 => [query, apart(b, key, 0)?, apart(b, key, 1)?],
            _ => [query, key, c.input(2)?],
        };
        let biases = match c.optional(3) {
            Some(bias) => {
                let width = |b: &Builder<'_>, v: Value| match b.ty(v)?.shape[..].split_last() {
                    Some((last, lead)) if lead.len() == 2 => known(Some(last), "the hidden size"),
                    _ => Err("a bias with split heads is not supported".to_owned()),
                };
                let sizes = [width(b, q)?, width(b, k)?, width(b, v)?];
                parts(b, bias, 0, &sizes)?.into_iter().map(Some).collect()
            }
            None => vec![None; 3],
        };
        let mut out = [q, k, v];
        for (x, bias) in out.iter_mut().zip(biases) {
            *x = plus(b, *x, bias)?;
            if b.ty(*x)?.rank() == 3 {
                *x = split_heads(b, *x, heads)?;
            }
        }
        out
    };
    let past = c.optional(6).zip(c.optional(7));
    let parts = Parts { q, k, v, past };
    let mask = mask(c, b, &parts, [4, 5])?;
    let mut attrs = scale(c)?;
    attrs.push(("is_causal", Attr::Int(causal)));
    let results = parts.attend(b, mask, attrs)?;
    Ok(Some(results.into_iter().take(c.outputs).collect()))
}

/// `GroupQueryAttention`: causal, over a cache that grows by what is new. Sequences of a batch may
/// differ in length: each one's new keys are written behind its own past.
pub(super) fn group_query(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let attrs = [
        ("smooth_softmax", 0),
        ("qk_output", 0),
        ("sliding_window_cache", 0),
        ("kv_cache_bit_width", 0),
        ("causal", 1),
    ];
    let inputs = [
        (11, "head_sink"),
        (12, "k_scale"),
        (13, "v_scale"),
        (14, "q_norm_weight"),
        (15, "k_norm_weight"),
        (16, "query_seqlens"),
    ];
    refuse(c, &attrs, &inputs)?;
    let (heads, kv_heads) = (c.take_int("num_heads", 0)?, c.take_int("kv_num_heads", 0)?);
    let rotate = c.take_int("do_rotary", 0)? != 0;
    let interleaved = c.take_int("rotary_interleaved", 0)?;
    let window = c.take_int("local_window_size", -1)?;
    if [heads, kv_heads].iter().any(|n| !(1..=MAX_HEADS).contains(n)) {
        return Err(format!("num_heads is {heads} and kv_num_heads {kv_heads}, expected 1 to {MAX_HEADS}"));
    }
    let [mut q, mut k, v] = match (c.optional(1), c.optional(2)) {
        (Some(k), Some(v)) => [c.input(0)?, k, v],
        _ => {
            let all = c.input(0)?;
            let width = known(b.ty(all)?.shape.last(), "the size of what is packed")?;
            let size = width / (heads + 2 * kv_heads);
            let split = parts(b, all, 2, &[heads * size, kv_heads * size, kv_heads * size])?;
            [split[0], split[1], split[2]]
        }
    };
    // How long each sequence is at the end, and how long it was.
    let ends = b.op("Cast", &[c.input(5)?], vec![("to", Attr::DType(DType::I64))])?;
    let flat = ints(b, &[-1]);
    let ends = b.op("Reshape", &[ends, flat], Vec::new())?;
    let (zero, one) = (ints(b, &[0]), ints(b, &[1]));
    let ends = b.op("Add", &[ends, one], Vec::new())?;
    let new = size(b, q, 1)?;
    let pasts = b.op("Sub", &[ends, new], Vec::new())?;
    let pasts = b.op("Max", &[pasts, zero], Vec::new())?;
    let column = ints(b, &[-1, 1]);
    let starts = b.op("Reshape", &[pasts, column], Vec::new())?;
    let places = counted(b, new)?;
    let positions = b.op("Add", &[starts, places], Vec::new())?;
    if rotate {
        let at = c.optional(9).unwrap_or(positions);
        for (x, heads) in [(&mut q, heads), (&mut k, kv_heads)] {
            let (cos, sin) = (c.input(7)?, c.input(8)?);
            let size = known(b.ty(*x)?.shape.last(), "the hidden size")? / heads;
            let turned = known(b.ty(cos)?.shape.last(), "the size of cos_cache")?.saturating_mul(2);
            let attrs = vec![
                ("num_heads", Attr::Int(heads)),
                ("interleaved", Attr::Int(interleaved)),
                ("rotary_embedding_dim", Attr::Int(if turned == size { 0 } else { turned })),
            ];
            *x = b.op("RotaryEmbedding", &[*x, cos, sin, at], attrs)?;
        }
    }
    let q = split_heads(b, q, heads)?;
    let [mut k, mut v] = [split_heads(b, k, kv_heads)?, split_heads(b, v, kv_heads)?];
    if let Some((past_k, past_v)) = c.optional(3).zip(c.optional(4)) {
        for (x, past) in [(&mut k, past_k), (&mut v, past_v)] {
            let room = b.op("Concat", &[past, *x], vec![("axis", Attr::Int(2))])?;
            *x = b.op("TensorScatter", &[room, *x, pasts], vec![("axis", Attr::Int(2))])?;
        }
    }
    let total = size(b, k, 2)?;
    let keys = counted(b, total)?;
    let last = ints(b, &[2]);
    let own = b.op("Unsqueeze", &[positions, last], Vec::new())?;
    let mut seen = b.op("LessOrEqual", &[keys, own], Vec::new())?;
    // A window counts the query's own place.
    if window > 0 {
        let window = ints(b, &[window]);
        let first = b.op("Sub", &[own, window], Vec::new())?;
        let near = b.op("Greater", &[keys, first], Vec::new())?;
        seen = b.op("And", &[seen, near], Vec::new())?;
    }
    let middle = ints(b, &[1]);
    let mut mask = b.op("Unsqueeze", &[seen, middle], Vec::new())?;
    if let Some(bias) = c.optional(10) {
        let hidden = number(b, bias, f64::NEG_INFINITY)?;
        mask = b.op("Where", &[mask, bias, hidden], Vec::new())?;
    }
    let mut attrs = scale(c)?;
    attrs.extend(c.take_float("softcap")?.map(|s| ("softcap", Attr::Float(s))));
    let results = Parts { q, k, v, past: None }.attend(b, Some(mask), attrs)?;
    Ok(Some(results.into_iter().take(c.outputs).collect()))
}
