//! The fused ops of `com.microsoft`, which ONNX Runtime's optimizer and exporters of language models
//! write, as what they were fused from.
//!
//! [`RULES`] lists them. A rule gives the results of the nodes it builds, or changes the call into one
//! of ONNX's own. What came out of fusing is not kept as such: fusion is decided anew for each target.

use super::upgrade::{Call, Outcome, ints};
use burin_ir::graph::{Builder, Value};
use burin_ir::{Attr, DType, Scalar, Tensor};

/// The domain.
pub(super) const DOMAIN: &str = "com.microsoft";

type Rule = fn(&mut Call, &mut Builder<'_>) -> Outcome;

const RULES: &[(&str, Rule)] = &[
    ("Gelu", |_, _| Ok(None)),
    ("FastGelu", |c, b| gelu(c, b, "tanh")),
    ("BiasGelu", |c, b| gelu(c, b, "none")),
    ("QuickGelu", quick_gelu),
    ("BiasAdd", bias_add),
    ("LayerNormalization", |_, _| Ok(None)),
    ("SimplifiedLayerNormalization", simplified_layer_norm),
    ("SkipLayerNormalization", |c, b| skip_norm(c, b, "LayerNormalization")),
    ("SkipSimplifiedLayerNormalization", |c, b| skip_norm(c, b, "RMSNormalization")),
    ("EmbedLayerNormalization", embed_layer_norm),
    ("RotaryEmbedding", rotary),
    ("Attention", super::attention::packed),
    ("MultiHeadAttention", super::attention::multi_head),
    ("GroupQueryAttention", super::attention::group_query),
    ("FusedMatMul", matmul),
    ("TransposeMatMul", matmul),
    ("FusedGemm", gemm),
    ("GemmFastGelu", gemm_gelu),
    ("FusedConv", conv),
    ("NhwcConv", nhwc_conv),
];

/// Rewrites a call of the domain.
pub(super) fn apply(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let Some((_, rule)) = RULES.iter().find(|(name, _)| *name == c.op) else { return Ok(None) };
    c.domain.clear();
    rule(c, b)
}

/// A number as a tensor's elements are.
pub(super) fn number(b: &mut Builder<'_>, like: Value, v: f64) -> Result<Value, String> {
    let dtype = b.ty(like)?.dtype;
    Ok(b.constant(Tensor::scalar(dtype, Scalar::F(v).cast(dtype))))
}

/// `x` and, where there is one, another operand added to it.
pub(super) fn plus(b: &mut Builder<'_>, x: Value, other: Option<Value>) -> Result<Value, String> {
    match other {
        Some(other) => b.op("Add", &[x, other], Vec::new()),
        None => Ok(x),
    }
}

fn gelu(c: &mut Call, b: &mut Builder<'_>, approximate: &str) -> Outcome {
    let x = plus(b, c.input(0)?, c.optional(1))?;
    Ok(Some(vec![b.op("Gelu", &[x], vec![("approximate", Attr::Str(approximate.to_owned()))])?]))
}

fn quick_gelu(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let alpha = c.take_float("alpha")?.unwrap_or(f64::from(1.702f32));
    Ok(Some(vec![b.op("Swish", &[c.input(0)?], vec![("alpha", Attr::Float(alpha))])?]))
}

fn bias_add(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let x = b.op("Add", &[c.input(0)?, c.input(1)?], Vec::new())?;
    Ok(Some(vec![plus(b, x, c.optional(2))?]))
}

/// A layer's normalisation by its root mean square. Its inverse, which only training reads, is not to
/// be had.
pub(super) fn simplified_layer_norm(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    if c.outputs > 1 {
        return Err("the results for training (from the second on) are not supported".into());
    }
    c.rename("RMSNormalization");
    Ok(None)
}

/// `norm(input + skip + bias)`; the fourth result is the sum.
fn skip_norm(c: &mut Call, b: &mut Builder<'_>, norm: &str) -> Outcome {
    let layer = norm == "LayerNormalization";
    let epsilon = c.take_float("epsilon")?.unwrap_or(1e-12);
    let (beta, bias) = if layer { (c.optional(3), c.optional(4)) } else { (None, c.optional(3)) };
    let sum = b.op("Add", &[c.input(0)?, c.input(1)?], Vec::new())?;
    let sum = plus(b, sum, bias)?;
    let operands: Vec<Value> = [sum, c.input(2)?].into_iter().chain(beta).collect();
    let attrs = vec![("axis", Attr::Int(-1)), ("epsilon", Attr::Float(epsilon))];
    let y = b.op(norm, &operands, attrs)?;
    let mut results = vec![y];
    if c.outputs > 1 {
        results.extend(statistics(b, sum, layer, epsilon)?);
        results.push(sum);
    }
    results.truncate(c.outputs);
    Ok(Some(results))
}

/// The mean along the last axis, and one over the root of the variance; without centring, of the mean of
/// the squares.
fn statistics(b: &mut Builder<'_>, x: Value, centred: bool, epsilon: f64) -> Result<[Value; 2], String> {
    let axis = ints(b, &[-1]);
    let mean = b.op("ReduceMean", &[x, axis], Vec::new())?;
    let deviation = if centred { b.op("Sub", &[x, mean], Vec::new())? } else { x };
    let squares = b.op("Mul", &[deviation, deviation], Vec::new())?;
    let variance = b.op("ReduceMean", &[squares, axis], Vec::new())?;
    let epsilon = number(b, variance, epsilon)?;
    let sum = b.op("Add", &[variance, epsilon], Vec::new())?;
    let root = b.op("Sqrt", &[sum], Vec::new())?;
    Ok([mean, b.op("Reciprocal", &[root], Vec::new())?])
}

/// The normalised sum of words', positions' and segments' embeddings.
fn embed_layer_norm(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let epsilon = c.take_float("epsilon")?.unwrap_or(1e-12);
    let ids = c.input(0)?;
    let words = b.op("Gather", &[c.input(2)?, ids], Vec::new())?;
    let positions = match c.optional(8) {
        Some(at) => b.op("Gather", &[c.input(3)?, at], Vec::new())?,
        None => {
            let length = b.op("Shape", &[ids], vec![("start", Attr::Int(1))])?;
            let [start, axis] = [ints(b, &[0]), ints(b, &[0])];
            b.op("Slice", &[c.input(3)?, start, length, axis], Vec::new())?
        }
    };
    let mut sum = b.op("Add", &[words, positions], Vec::new())?;
    if let (Some(at), Some(table)) = (c.optional(1), c.optional(4)) {
        let segments = b.op("Gather", &[table, at], Vec::new())?;
        sum = b.op("Add", &[sum, segments], Vec::new())?;
    }
    let attrs = vec![("axis", Attr::Int(-1)), ("epsilon", Attr::Float(epsilon))];
    let y = b.op("LayerNormalization", &[sum, c.input(5)?, c.input(6)?], attrs)?;
    let axis = ints(b, &[1]);
    let counted = c.optional(7).unwrap_or(ids);
    let counted = b.op("Cast", &[counted], vec![("to", Attr::DType(DType::I32))])?;
    let mut lengths = b.op("ReduceSum", &[counted, axis], vec![("keepdims", Attr::Int(0))])?;
    if c.optional(7).is_none() {
        let zero = number(b, lengths, 0.0)?;
        lengths = b.op("Mul", &[lengths, zero], Vec::new())?;
    }
    Ok(Some([y, lengths, sum].into_iter().take(c.outputs).collect()))
}

fn rotary(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    if c.take_int("is_packed_batching", 0)? != 0 {
        return Err("is_packed_batching = 1 (batches of different lengths) is not supported".into());
    }
    if c.take_float("scale")?.is_some_and(|s| s != 1.0) {
        return Err("a scale other than 1 is not supported".into());
    }
    let (x, cos) = (c.input(0)?, c.input(2)?);
    let shape = b.ty(x)?.shape.clone();
    let heads = c.take_int("num_heads", 0)?;
    if shape.len() == 3 {
        let pairs = b.ty(cos)?.shape.last().and_then(|n| n.as_const()).filter(|n| *n > 0);
        let hidden = shape[2].as_const();
        let heads = match (heads, hidden, pairs) {
            (0, Some(hidden), Some(pairs)) => hidden / (2 * pairs),
            (n, _, _) => n,
        };
        c.set("num_heads", Attr::Int(heads));
    }
    let mut positions = c.input(1)?;
    if b.ty(positions)?.rank() < 2 {
        // One place, from which on the positions of all sequences count.
        let axis = shape.len() as i64 - 2;
        let attrs = vec![("start", Attr::Int(axis)), ("end", Attr::Int(axis + 1))];
        let length = b.op("Shape", &[x], attrs)?;
        let places = counted(b, length)?;
        let first = ints(b, &[1, 1]);
        let first = b.op("Reshape", &[positions, first], Vec::new())?;
        let all = b.op("Add", &[first, places], Vec::new())?;
        let batch = b.op("Shape", &[x], vec![("end", Attr::Int(1))])?;
        let shape = b.op("Concat", &[batch, length], vec![("axis", Attr::Int(0))])?;
        positions = b.op("Expand", &[all, shape], Vec::new())?;
    }
    c.inputs = vec![Some(x), Some(cos), Some(c.input(3)?), Some(positions)];
    Ok(None)
}

/// 0, 1, 2, ... up to a length that a tensor of one element holds.
pub(super) fn counted(b: &mut Builder<'_>, length: Value) -> Result<Value, String> {
    let [zero, one] = [0, 1].map(|v| b.constant(Tensor::scalar(DType::I64, Scalar::I(v))));
    let scalar = ints(b, &[]);
    let length = b.op("Reshape", &[length, scalar], Vec::new())?;
    b.op("Range", &[zero, length, one], Vec::new())
}

/// The same with the last two dimensions exchanged or, with `batch`, the first behind all but the last.
fn side(b: &mut Builder<'_>, x: Value, matrix: bool, batch: bool) -> Result<Value, String> {
    let rank = b.ty(x)?.rank();
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    if batch && rank > 2 {
        let first = perm.remove(0);
        perm.insert(rank - 2, first);
    }
    if matrix && rank > 1 {
        perm.swap(rank - 2, rank - 1);
    }
    if perm.is_sorted() { Ok(x) } else { b.op("Transpose", &[x], vec![("perm", Attr::Ints(perm))]) }
}

fn matmul(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let mut flag = |name: &str| c.take_int(name, 0).map(|v| v != 0);
    let (a_matrix, a_batch) = (flag("transA")?, flag("transBatchA")?);
    let (b_matrix, b_batch) = (flag("transB")?, flag("transBatchB")?);
    let left = side(b, c.input(0)?, a_matrix, a_batch)?;
    let right = side(b, c.input(1)?, b_matrix, b_batch)?;
    let product = b.op("MatMul", &[left, right], Vec::new())?;
    Ok(Some(vec![match c.take_float("alpha")? {
        None | Some(1.0) => product,
        Some(alpha) => {
            let alpha = number(b, product, alpha)?;
            b.op("Mul", &[product, alpha], Vec::new())?
        }
    }]))
}

/// An activation by its name, as fused convolutions and products have it at their end.
fn activated(b: &mut Builder<'_>, x: Value, name: &str, params: &[f64]) -> Result<Value, String> {
    let param = |i: usize, default: f64| Attr::Float(params.get(i).copied().unwrap_or(default));
    let attrs = match name {
        "" => return Ok(x),
        "Clip" => {
            let low = number(b, x, params.first().copied().unwrap_or(f32::MIN.into()))?;
            let high = number(b, x, params.get(1).copied().unwrap_or(f32::MAX.into()))?;
            return b.op("Clip", &[x, low, high], Vec::new());
        }
        "Relu" | "Sigmoid" | "Tanh" | "Softplus" | "Softsign" | "HardSwish" => Vec::new(),
        "LeakyRelu" | "ThresholdedRelu" | "Elu" => {
            let default = if name == "LeakyRelu" { f64::from(0.01f32) } else { 1.0 };
            vec![("alpha", param(0, default))]
        }
        "HardSigmoid" => vec![("alpha", param(0, f64::from(0.2f32))), ("beta", param(1, 0.5))],
        other => return Err(format!("the activation {other} is not supported")),
    };
    b.op(name, &[x], attrs)
}

fn gemm(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let activation = c.take_text("activation")?.unwrap_or_default();
    let mut params = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        params.extend(c.take_float(name)?);
    }
    let operands: Vec<Value> = c.inputs.iter().copied().flatten().collect();
    let attrs = std::mem::take(&mut c.attrs);
    let y = b.op("Gemm", &operands, attrs.iter().map(|(n, a)| (&n[..], a.clone())).collect())?;
    Ok(Some(vec![activated(b, y, &activation, &params)?]))
}

fn gemm_gelu(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let product = b.op("MatMul", &[c.input(0)?, c.input(1)?], Vec::new())?;
    let x = plus(b, product, c.optional(2))?;
    Ok(Some(vec![b.op("Gelu", &[x], vec![("approximate", Attr::Str("tanh".to_owned()))])?]))
}

/// `activation(Conv(x, w, b) + z)`
fn conv(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let activation = c.take_text("activation")?.unwrap_or_default();
    let params = c.take_floats("activation_params")?;
    let inputs = [Some(c.input(0)?), Some(c.input(1)?), c.optional(2)];
    let y = c.node(b, "Conv", inputs.to_vec())?;
    let y = plus(b, y, c.optional(3))?;
    Ok(Some(vec![activated(b, y, &activation, &params)?]))
}

/// A convolution of images whose channels are last; weights are as usual.
fn nhwc_conv(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let x = c.input(0)?;
    let rank = b.ty(x)?.rank() as i64;
    if rank < 3 {
        return Err(format!("input 0 is {}, expected three dimensions or more", b.ty(x)?));
    }
    let first: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let last: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let x = b.op("Transpose", &[x], vec![("perm", Attr::Ints(first))])?;
    let y = c.node(b, "Conv", vec![Some(x), Some(c.input(1)?), c.optional(2)])?;
    Ok(Some(vec![b.op("Transpose", &[y], vec![("perm", Attr::Ints(last))])?]))
}
