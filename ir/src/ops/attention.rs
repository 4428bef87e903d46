//! Attention: a softmax of scaled products, by which values are averaged.
//!
//! `Attention` is a composite: the products of queries and keys, what is added to them, the softmax
//! and the product with the values. Queries that share a head of keys are rows of one product, so that
//! keys and values are never repeated in memory. It is computed in `f32` for the 16-bit floats, and in
//! the type that `softmax_precision` asks for where that is wider.
//!
//! Which keys a query sees is one formula, that of `AttentionBias`, which of queries and keys takes the
//! sizes alone: 0 or the mask's number where it does, minus infinity where it does not. A query that sees no key at all gets zeros.

use super::Tolerance::{Exact, Largest};
use super::compose::{Body, Built, Inputs, cast, operand};
use super::contract::shared;
use super::rules::{self, CONVERTED, FLOAT, indices};
use super::{Lower, Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::types::TensorType;

const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

const CAUSAL: AttrSpec = int("is_causal", 0);
const LEFT: AttrSpec = int("left_window_size", -1);
const RIGHT: AttrSpec = int("right_window_size", -1);

/// The rows of this family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        outputs: (1, 4),
        attrs: &[
            CAUSAL,
            AttrSpec::new("q_num_heads", AttrKind::Int, Default::Absent),
            AttrSpec::new("kv_num_heads", AttrKind::Int, Default::Absent),
            LEFT,
            RIGHT,
            int("qk_matmul_output_mode", 0),
            AttrSpec::new("scale", AttrKind::Float, Default::Absent),
            AttrSpec::new("softcap", AttrKind::Float, Default::Float(0.0)),
            AttrSpec::new("softmax_precision", AttrKind::DType, Default::Absent),
        ],
        tolerance: Largest(256.0),
        samples: &[
            "Attention(f32[2,3,4,8], f32[2,3,6,8], f32[2,3,6,5])",
            "Attention(f32[1,4,3,8], f32[1,2,5,8], f32[1,2,5,8], bool[3,5]) {qk_matmul_output_mode = 3} -> 4",
            "Attention(f16[2,4,12], f16[2,7,6], f16[2,7,4], f16[4,7]) {q_num_heads = 4, kv_num_heads = 2}",
            "Attention(f32[1,2,3,4], f32[1,2,2,4], f32[1,2,2,4], _, f32[1,2,5,4], f32[1,2,5,4]) {is_causal = 1, qk_matmul_output_mode = 2} -> 4",
            "Attention(f32[2,2,3,4], f32[2,2,6,4], f32[2,2,6,4], f32[2,1,3,4], _, _, i64[2] in 0..5) {is_causal = 1}",
            "Attention(f64[1,2,4,3], f64[1,2,5,3], f64[1,2,5,3], i32[5]) {scale = 0.5, softcap = 2.0, qk_matmul_output_mode = 1} -> 4",
            "Attention(f32[1,1,6,4], f32[1,1,6,4], f16[1,1,6,4]) {left_window_size = 1, right_window_size = 2}",
            "Attention(bf16[2,2,3,4], bf16[2,2,3,4], bf16[2,2,3,4], _, _, _, i32[2] in 1..4) {left_window_size = 1, softmax_precision = f64}",
            "Attention(f32[1,2,3,4], f32[1,2,0,4], f32[1,2,0,4]) {is_causal = 1}",
        ],
        ..OpRow::new(
            "Attention",
            Some(("", 23)),
            &[
                one("Q"),
                one("K"),
                one("V"),
                opt("attn_mask"),
                opt("past_key"),
                opt("past_value"),
                opt("nonpad_kv_seqlen"),
            ],
            attention_type,
            Meaning::Composite(attention),
        )
    },
    OpRow {
        attrs: &[CAUSAL, LEFT, RIGHT],
        tolerance: Exact,
        samples: &[
            "AttentionBias(f32[2,3,4,8], f32[2,3,5,8], bool[4,5])",
            "AttentionBias(f32[2,3,4,8], f32[2,1,6,8], f32[2,1,1,3], i64[2] in 0..7) {is_causal = 1, left_window_size = 2}",
            "AttentionBias(f16[1,2,4,9], f16[1,2,6,9], _, _, i64[1] = [2]) {is_causal = 1}",
            "AttentionBias(f64[1,1,7,2], f64[1,1,7,2], i8[7]) {left_window_size = 1, right_window_size = 0}",
        ],
        ..OpRow::new(
            "AttentionBias",
            None,
            &[one("queries"), one("keys"), opt("mask"), opt("lengths"), opt("past_length")],
            bias_type,
            Meaning::Primitive(Lower::Element(bias_element)),
        )
    },
];

/// The sizes of queries, keys or values: `[batch, heads, length, size]`.
pub(super) struct Heads {
    pub(super) batch: Expr,
    pub(super) heads: Expr,
    pub(super) length: Expr,
    pub(super) size: Expr,
}

impl Heads {
    /// From an operand of four dimensions, or of three that hold as many heads side by side.
    pub(super) fn of(cx: &Cx<'_>, i: usize, heads: Option<i64>) -> Result<Heads, String> {
        let ty = cx.ty(i)?;
        match &ty.shape[..] {
            [batch, heads, length, size] => {
                let [batch, heads, length, size] = [batch, heads, length, size].map(Expr::clone);
                Ok(Heads { batch, heads, length, size })
            }
            [batch, length, hidden] => {
                let n = heads.filter(|n| *n > 0);
                let n = n.ok_or("q_num_heads and kv_num_heads must be given for inputs of rank 3")?;
                if hidden.as_const().is_some_and(|h| h % n != 0) {
                    return Err(format!("input {i} is {ty}, whose last dimension {n} heads do not divide"));
                }
                let size = hidden.floor_div(&n.into());
                Ok(Heads { batch: batch.clone(), heads: n.into(), length: length.clone(), size })
            }
            _ => Err(format!("input {i} is {ty}, expected three or four dimensions")),
        }
    }
}

/// How many heads of queries share one of keys.
pub(super) fn sharing(queries: &Expr, keys: &Expr) -> Result<i64, String> {
    match (queries.as_const(), keys.as_const()) {
        _ if queries == keys => Ok(1),
        (Some(q), Some(k)) if q > 0 && k > 0 && q % k == 0 => Ok(q / k),
        (Some(q), Some(k)) => Err(format!("{q} heads of queries cannot share {k} heads of keys")),
        _ => Err(format!("there are {queries} heads of queries and {keys} of keys, expected known numbers")),
    }
}

/// The sizes of queries, keys and values, checked against one another, and the length of the past.
struct Sizes {
    q: Heads,
    k: Heads,
    v: Heads,
    past: Option<Expr>,
}

impl Sizes {
    fn of(cx: &Cx<'_>) -> Result<Sizes, String> {
        let rank = cx.ty(0)?.rank();
        if let Some(i) = [1, 2].into_iter().find(|i| cx.ty(*i).is_ok_and(|t| t.rank() != rank)) {
            return Err(format!("input 0 has rank {rank}, input {i} rank {}", cx.ty(i)?.rank()));
        }
        let heads = |i, name| Heads::of(cx, i, cx.attrs.int(name));
        let (q, k) = (heads(0, "q_num_heads")?, heads(1, "kv_num_heads")?);
        let v = heads(2, "kv_num_heads")?;
        sharing(&q.heads, &k.heads)?;
        for (a, b, what) in [
            (&q.batch, &k.batch, "the batches of queries and keys"),
            (&q.batch, &v.batch, "the batches of queries and values"),
            (&q.size, &k.size, "the sizes of heads of queries and keys"),
            (&k.heads, &v.heads, "the numbers of heads of keys and values"),
            (&k.length, &v.length, "the lengths of keys and values"),
        ] {
            shared(a, b, what)?;
        }
        if cx.has(4) != cx.has(5) {
            return Err("past_key and past_value must be given together".into());
        }
        if cx.has(4) && cx.has(6) {
            return Err("nonpad_kv_seqlen cannot be given together with past_key".into());
        }
        let past = if cx.has(4) { Some(Heads::of(cx, 4, None)?.length) } else { None };
        Ok(Sizes { q, k, v, past })
    }

    fn total(&self) -> Expr {
        self.past.as_ref().map_or_else(|| self.k.length.clone(), |p| p + &self.k.length)
    }
}

fn attention_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let s = Sizes::of(cx)?;
    for i in [0, 1, 2] {
        rules::expect(&format!("input {i}"), cx.dtype(i)?, FLOAT)?;
    }
    if cx.dtype(0)? != cx.dtype(1)? {
        return Err(format!("input 0 has elements of {}, input 1 of {}", cx.dtype(0)?, cx.dtype(1)?));
    }
    if cx.has(6) {
        rules::expect("input 6 (nonpad_kv_seqlen)", cx.dtype(6)?, rules::SIGNED)?;
        if cx.ty(6)?.rank() != 1 {
            return Err(format!(
                "input 6 (nonpad_kv_seqlen) is {}, expected one dimension, the batch",
                cx.ty(6)?
            ));
        }
    }
    windows(cx)?;
    if !(0..=3).contains(&cx.int("qk_matmul_output_mode")) {
        let mode = cx.int("qk_matmul_output_mode");
        return Err(format!("qk_matmul_output_mode is {mode}, expected 0 to 3"));
    }
    if cx.has(3) && cx.ty(3)?.rank() > 4 {
        return Err(format!("input 3 (attn_mask) is {}, expected four dimensions at most", cx.ty(3)?));
    }
    let total = s.total();
    let Heads { batch, heads, length, .. } = s.q;
    let y = match cx.ty(0)?.rank() {
        3 => vec![batch.clone(), length.clone(), &heads * &s.v.size],
        _ => vec![batch.clone(), heads.clone(), length.clone(), s.v.size.clone()],
    };
    let (t1, t2) = (cx.dtype(0)?, cx.dtype(2)?);
    let types = [
        TensorType::new(t1, y),
        TensorType::new(t1, vec![batch.clone(), s.k.heads.clone(), total.clone(), s.k.size]),
        TensorType::new(t2, vec![batch.clone(), s.k.heads, total.clone(), s.v.size]),
        TensorType::new(t1, vec![batch, heads, length, total]),
    ];
    Ok(types.into_iter().take(cx.outputs).map(Info::from).collect())
}

/// The bounds of the window before and after a query's own place; `None`: there is none.
fn windows(cx: &Cx<'_>) -> Result<[Option<i64>; 2], String> {
    let one = |name: &str| match cx.int(name) {
        -1 => Ok(None),
        // Beyond any length.
        n if n >= 0 => Ok(Some(n.min(1 << 40))),
        n => Err(format!("{name} is {n}, expected -1 or more")),
    };
    Ok([one("left_window_size")?, one("right_window_size")?])
}

/// What is computed of scores, besides which keys are seen.
pub(super) struct Scoring {
    /// Factor of the products; `None`: that which keeps their variance, `1 / sqrt(size)`.
    pub(super) scale: Option<f64>,
    /// The products stay below this; 0: any.
    pub(super) softcap: f64,
    /// How many heads of queries share one of keys.
    pub(super) sharing: i64,
    /// Which of the scores is wanted besides, as `qk_matmul_output_mode` numbers them.
    pub(super) mode: i64,
    /// The type of the softmax, at least.
    pub(super) precision: Option<DType>,
}

impl Scoring {
    /// Scores without anything out of the ordinary.
    pub(super) fn plain(sharing: i64, scale: Option<f64>) -> Scoring {
        Scoring { scale, softcap: 0.0, sharing, mode: 0, precision: None }
    }
}

/// The factor of products of queries `[batch, heads, length, size]`: a given one, or `1 / sqrt(size)`.
pub(super) fn factor(s: &mut Body<'_, '_>, q: Value, given: Option<f64>) -> Result<Value, String> {
    let size = s.b.ty(q)?.shape[3].as_const().map(|n| 1.0 / (n as f64).sqrt());
    if let Some(scale) = given.or(size) {
        return Ok(s.number(scale));
    }
    let size = s.b.op("Shape", &[q], vec![("start", Attr::Int(3))])?;
    let size = s.widen(size)?;
    let root = s.op("Sqrt", &[size])?;
    s.op("Reciprocal", &[root])
}

/// The averages of the values `[batch, heads, length, size]`, and the scores that are wanted. A query
/// of which the bias hides all keys gets zeros.
pub(super) fn attend(
    s: &mut Body<'_, '_>,
    [q, k, v]: [Value; 3],
    bias: Option<Value>,
    scoring: &Scoring,
) -> Result<(Value, Value), String> {
    let heads = s.b.ty(q)?.shape[1].clone();
    let split = |s: &mut Body<'_, '_>, x: Value, from: i64| match scoring.sharing {
        1 => Ok(x),
        n => {
            let heads = heads.as_const().ok_or("the number of heads must be known")?;
            s.reshape(x, &[0, if from == 0 { heads / n } else { heads }, -1, 0])
        }
    };
    let columns = s.transpose(k, &[0, 1, 3, 2])?;
    let rows = split(s, q, 0)?;
    let products = s.op("MatMul", &[rows, columns])?;
    let products = split(s, products, 1)?;
    let factor = factor(s, q, scoring.scale)?;
    let mut scores = s.op("Mul", &[products, factor])?;
    let mut wanted = scores;
    if scoring.softcap > 0.0 {
        let cap = s.number(scoring.softcap);
        let ratio = s.op("Div", &[scores, cap])?;
        let bent = s.op("Tanh", &[ratio])?;
        scores = s.op("Mul", &[bent, cap])?;
    }
    if scoring.mode == 1 {
        wanted = scores;
    }
    if let Some(bias) = bias {
        scores = s.op("Add", &[scores, bias])?;
    }
    if scoring.mode == 2 {
        wanted = scores;
    }
    let wide = s.b.ty(scores)?.dtype;
    let precise = scoring.precision.filter(|p| p.bits() > wide.bits()).unwrap_or(wide);
    let precise = cast(s.b, scores, precise)?;
    let softmax = s.b.op("Softmax", &[precise], vec![("axis", Attr::Int(-1))])?;
    let mut weights = cast(s.b, softmax, wide)?;
    if let Some(bias) = bias {
        let most = s.reduce("ReduceMax", bias, &[-1])?;
        let (nothing, zero) = (s.number(f64::NEG_INFINITY), s.number(0.0));
        let blind = s.op("Equal", &[most, nothing])?;
        weights = s.op("Where", &[blind, zero, weights])?;
    }
    if scoring.mode == 3 {
        wanted = weights;
    }
    let rows = split(s, weights, 0)?;
    let y = s.op("MatMul", &[rows, v])?;
    Ok((split(s, y, 1)?, wanted))
}

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`.
pub(super) fn split_heads(s: &mut Body<'_, '_>, x: Value, heads: i64) -> Result<Value, String> {
    let apart = s.reshape(x, &[0, 0, heads, -1])?;
    s.transpose(apart, &[0, 2, 1, 3])
}

/// `[batch, heads, length, size]` as `[batch, length, heads * size]`.
pub(super) fn join_heads(s: &mut Body<'_, '_>, x: Value) -> Result<Value, String> {
    let rows = s.transpose(x, &[0, 2, 1, 3])?;
    s.reshape(rows, &[0, 0, -1])
}

/// What came before along the third dimension, where there is any, and then `x`.
pub(super) fn after(s: &mut Body<'_, '_>, past: Option<Value>, x: Value) -> Result<Value, String> {
    match past {
        Some(past) => s.b.op("Concat", &[past, x], vec![("axis", Attr::Int(2))]),
        None => Ok(x),
    }
}

fn attention(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let sizes = Sizes::of(cx)?;
    let [Some(q), Some(k), Some(v), ..] = inputs else { return Ok(None) };
    let (t1, t2) = (cx.dtype(0)?, cx.dtype(2)?);
    let mut scoring = Scoring::plain(sharing(&sizes.q.heads, &sizes.k.heads)?, cx.attrs.float("scale"));
    scoring.softcap = cx.attrs.float("softcap").unwrap_or_default();
    scoring.mode = cx.int("qk_matmul_output_mode");
    scoring.precision = cx.attrs.dtype("softmax_precision");
    let three = cx.ty(0)?.rank() == 3;
    let mut s = Body::of(b, t1);
    let mut parts = [*q, *k, *v];
    if three {
        for (x, name) in parts.iter_mut().zip(["q_num_heads", "kv_num_heads", "kv_num_heads"]) {
            *x = split_heads(&mut s, *x, cx.int(name))?;
        }
    }
    let [q, k, v] = parts;
    let (k, v) = (after(&mut s, operand(inputs, 4), k)?, after(&mut s, operand(inputs, 5), v)?);
    let [q, wide_k, wide_v] = [s.widen(q)?, s.widen(k)?, s.widen(v)?];
    let bias = bias(cx, &mut s, inputs, q, wide_k)?;
    let (y, scores) = attend(&mut s, [q, wide_k, wide_v], bias, &scoring)?;
    let y = if three { join_heads(&mut s, y)? } else { y };
    let results = [cast(s.b, y, t1)?, cast(s.b, k, t1)?, cast(s.b, v, t2)?, cast(s.b, scores, t1)?];
    Ok(Some(results.into_iter().take(cx.outputs).collect()))
}

/// What is added to the scores of queries and keys `[batch, heads, length, size]`, if anything.
fn bias(
    cx: &Cx<'_>,
    s: &mut Body<'_, '_>,
    inputs: Inputs<'_>,
    q: Value,
    k: Value,
) -> Result<Option<Value>, String> {
    let rules = ["is_causal", "left_window_size", "right_window_size"];
    let limited = cx.attrs.flag("is_causal") || windows(cx)?.iter().any(Option::is_some);
    if !limited && !cx.has(3) && !cx.has(6) {
        return Ok(None);
    }
    let past = match operand(inputs, 4) {
        None => None,
        Some(p) => Some(s.b.op("Shape", &[p], vec![("start", Attr::Int(2)), ("end", Attr::Int(3))])?),
    };
    let attrs = rules.map(|name| (name, Attr::Int(cx.int(name)))).to_vec();
    let operands = [Some(q), Some(k), operand(inputs, 3), operand(inputs, 6), past];
    Ok(Some(s.op_with("AttentionBias", &operands, attrs)?))
}

fn bias_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = cx.dtype(0)?;
    rules::expect("input 0", dtype, FLOAT)?;
    let (q, k) = (Heads::of(cx, 0, None)?, Heads::of(cx, 1, None)?);
    windows(cx)?;
    let mut lead = [Expr::ONE, Expr::ONE];
    if cx.has(2) {
        let mask = cx.ty(2)?;
        rules::expect("input 2 (mask)", mask.dtype, CONVERTED)?;
        for (at, d) in mask.shape.iter().rev().skip(2).enumerate() {
            *lead.iter_mut().rev().nth(at).ok_or_else(|| format!("the mask is {mask}"))? = d.clone();
        }
    }
    for (i, name) in [(3, "input 3 (lengths)"), (4, "input 4 (past_length)")] {
        if cx.has(i) {
            rules::expect(name, cx.dtype(i)?, rules::INT)?;
        }
    }
    if cx.has(3) {
        lead[0] = q.batch;
    }
    let shape: Vec<Expr> = lead.into_iter().chain([q.length, k.length]).collect();
    Ok(vec![TensorType::new(dtype, shape).into()])
}

fn bias_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let out = bias_type(cx)?.remove(0);
    let out = out.ty.tensor().ok_or("a bias is a tensor")?.clone();
    let (axes, index) = indices(4);
    let dtype = out.dtype;
    let hidden = Term::constant(dtype, Scalar::F(f64::NEG_INFINITY));
    let mut body = Term::constant(dtype, Scalar::F(0.0));
    let (i, j) = (&index[2], &index[3]);
    if cx.has(2) {
        let mask = cx.ty(2)?;
        // A mask may be shorter than the keys are many; those beyond its end are not seen.
        let inner = mask.rank().saturating_sub(1);
        let (shape, lead) = (&out.shape[..3], &index[..3]);
        let mut at = rules::broadcast_index(&mask.shape[..inner], shape, lead);
        let mut inside = Vec::new();
        if let Some(n) = mask.shape.last() {
            at.push(j.clone());
            inside.push(n - j - 1);
        }
        let value = Term::load(mask.dtype, 2, at);
        let value = match mask.dtype {
            DType::Bool => value.select(&body, &hidden),
            _ => value.cast(dtype),
        };
        let covered = mask.shape.last().is_none_or(|n| *n == out.shape[3]);
        body = if covered { value } else { Term::when(inside, value, hidden.clone()) };
    }
    let [left, right] = windows(cx)?;
    // A key's place less the least, and the greatest less a key's place, but for the query's own
    // place in the sequence, which may depend on data.
    let last = if cx.attrs.flag("is_causal") { Some(0) } else { None };
    let last = last.into_iter().chain(right).min();
    if cx.has(3) {
        let length = Term::load(cx.dtype(3)?, 3, vec![index[0].clone()]).cast(DType::I64);
        let ahead = j - i + &out.shape[2];
        let mut seen = Term::index(j.clone()).binary(S::Lt, &length);
        for (bound, op) in [(last.map(|n| -n), S::Le), (left, S::Ge)] {
            if let Some(n) = bound {
                seen = seen.binary(S::And, &Term::index(&ahead + n).binary(op, &length));
            }
        }
        body = seen.select(&body, &hidden);
    } else {
        let past = match cx.known(4) {
            Some([n]) => n.clone(),
            None if cx.has(4) => return Err("input 4 (past_length) must be known when compiling".into()),
            _ => Expr::ZERO,
        };
        let place = i + &past;
        let bounds = last.map(|n| &place - j + n).into_iter().chain(left.map(|n| j - &place + n));
        body = Term::when(bounds.collect(), body, hidden);
    }
    Ok(Element { axes, body })
}
