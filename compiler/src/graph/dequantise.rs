//! Products between QuantizeLinear and DequantizeLinear are computed in integers.
//!
//! - Conv, MatMul and Gemm of dequantised data by dequantised constant weights become ConvInteger or
//!   MatMulInteger, whose sums of `i32` are exact, scaled behind: `sum(x w) sx sw` where the model has
//!   `sum((x sx) (w sw))`.
//! - What only moves elements, MaxPool, and looking rows up is done on the bytes; a tensor that is
//!   dequantised only to be quantised by the same scale again is left as it is.
//! - Signed bytes that are only dequantised become unsigned ones, as instructions want them.
//! - A tensor computed from dequantised ones is quantised by a multiplication: the reciprocal of the scale
//!   is a constant. A result that lies within a rounding of a tie may differ by one step.
//!
//! Scales and zero points have to be constants, and those of data one for the whole tensor.

use super::fold::constant_op;
use super::quads::HALF;
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Constant, Graph, Value};
use burin_ir::ops::{Meaning, by_name};
use burin_ir::{Attr, DType, Scalar, Tensor};
use std::collections::HashSet;

/// How many ops back from QuantizeLinear a dequantised tensor, and what it is scaled by, is looked for.
const REACH: usize = 6;

/// Rewrites a quantised graph.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    let dequantised = only_dequantised(graph);
    rewrite(graph, fuel, &mut |r, site| {
        let replaced = match site.data.op.name {
            "QuantizeLinear" => quantise(r, site, dequantised.contains(&site.data.outputs[0]))?,
            "DequantizeLinear" => dequantise_moved(r, site)?,
            "Conv" => conv(r, site)?,
            "MatMul" => matmul(r, site)?,
            "Gemm" => gemm(r, site)?,
            _ => on_bytes(r, site)?,
        };
        Ok(replaced.map_or(Outcome::Keep, |v| Outcome::Replace(vec![v])))
    })
}

/// The values that DequantizeLinear alone uses.
fn only_dequantised(graph: &Graph) -> HashSet<Value> {
    let (mut yes, mut no) = (HashSet::new(), HashSet::new());
    for (_, region) in graph.regions.iter() {
        no.extend(&region.results);
        for n in region.nodes.iter().map(|n| &graph.nodes[*n]) {
            for (i, v) in n.inputs.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i, v))) {
                if n.op.name == "DequantizeLinear" && i == 0 {
                    yes.insert(v)
                } else {
                    no.insert(v)
                };
            }
        }
    }
    no.extend(graph.states.iter().map(|s| s.next));
    yes.retain(|v| !no.contains(v));
    yes
}

/// A tensor of bytes, and what its elements stand for: `(bytes - zero) * scale`.
#[derive(Clone)]
struct Quantised {
    bytes: Value,
    scale: Value,
    zero: Option<Value>,
    axis: i64,
}

impl Quantised {
    /// What a DequantizeLinear to `f32` makes a value from, if its scale and zero point are constants.
    fn of(r: &Rewriter<'_>, v: Value) -> Option<Quantised> {
        let made = r.made_by(v).filter(|n| n.op.name == "DequantizeLinear")?;
        let input = |i: usize| made.inputs.get(i).copied().flatten();
        let (bytes, scale) = (input(0)?, input(1)?);
        let byte = matches!(r.ty(bytes)?.dtype, DType::U8 | DType::I8);
        let blocked = made.attrs.int("block_size").is_some_and(|n| n != 0);
        let constant = |v: Option<Value>| v.is_none_or(|v| r.graph.constant(v).is_some());
        let f32 = r.ty(v)?.dtype == DType::F32 && r.ty(scale)?.dtype == DType::F32;
        let fits = byte && f32 && !blocked && constant(Some(scale)) && constant(input(2));
        let axis = made.attrs.int("axis").unwrap_or(1);
        fits.then_some(Quantised { bytes, scale, zero: input(2), axis })
    }

    /// Data: one scale for all.
    fn data(r: &Rewriter<'_>, v: Value) -> Option<Quantised> {
        Quantised::of(r, v).filter(|q| is_single(r, q.scale) && q.zero.is_none_or(|z| is_single(r, z)))
    }

    /// Constant weights, with one scale and zero point for all or one for each element of the dimension
    /// `axis`.
    fn weights(r: &Rewriter<'_>, v: Value, axis: i64) -> Option<Quantised> {
        let q = Quantised::of(r, v).filter(|q| r.graph.constant(q.bytes).is_some())?;
        let rank = r.ty(q.bytes)?.rank() as i64;
        let along = if q.axis < 0 { q.axis + rank } else { q.axis };
        let single = is_single(r, q.scale) && q.zero.is_none_or(|z| is_single(r, z));
        (single || along == axis).then_some(q)
    }
}

fn is_single(r: &Rewriter<'_>, v: Value) -> bool {
    r.ty(v).is_some_and(|t| t.elements() == 1)
}

/// The only element of a constant.
fn single(r: &Rewriter<'_>, v: Value) -> Option<Scalar> {
    match r.graph.constant(v)? {
        Constant::Data(t) if t.len() == 1 => Some(t.get(0)),
        _ => None,
    }
}

fn scalar(r: &mut Rewriter<'_>, dtype: DType, v: Scalar) -> Value {
    r.builder().constant(Tensor::scalar(dtype, v))
}

/// A node of an op that may lack operands.
fn node(
    r: &mut Rewriter<'_>,
    op: &str,
    inputs: Vec<Option<Value>>,
    attrs: Vec<(String, Attr)>,
) -> Result<Value, String> {
    let op = by_name(op).ok_or_else(|| format!("there is no op {op}"))?;
    let node = r.builder().node(op, "", inputs, attrs, 1, Vec::new())?;
    Ok(r.graph.nodes[node].outputs[0])
}

/// The sums of products of an integer op, whose zero points are single numbers or vectors.
fn sums(
    r: &mut Rewriter<'_>,
    op: &str,
    [x, w]: [&Quantised; 2],
    attrs: Vec<(String, Attr)>,
) -> Result<Value, String> {
    let mut zeros = Vec::new();
    for q in [x, w] {
        zeros.push(q.zero.map(|z| spread(r, z, 0)).transpose()?);
    }
    node(r, op, [Some(x.bytes), Some(w.bytes)].into_iter().chain(zeros).collect(), attrs)
}

/// Sums of `i32`, scaled by both scales; weights' scales lie along a dimension with `behind` more behind it.
fn scaled(
    r: &mut Rewriter<'_>,
    sums: Value,
    [x, w]: [&Quantised; 2],
    behind: usize,
) -> Result<Value, String> {
    let both = constant_op(r, "Mul", &[x.scale, w.scale], Vec::new())?;
    let both = spread(r, both, behind)?;
    let real = r.op("Cast", &[sums], vec![("to", Attr::DType(DType::F32))])?;
    r.op("Mul", &[real, both], Vec::new())
}

/// A constant vector (or single element) with so many dimensions of one behind it.
fn spread(r: &mut Rewriter<'_>, v: Value, behind: usize) -> Result<Value, String> {
    let count =
        r.ty(v).and_then(|t| t.elements().as_const()).ok_or("a scale or zero point of unknown size")?;
    let shape: Vec<i64> = match count {
        1 => Vec::new(),
        _ => [count].into_iter().chain((0..behind).map(|_| 1)).collect(),
    };
    let shape = r.builder().constant(Tensor::new(&[shape.len()], &shape));
    constant_op(r, "Reshape", &[v, shape], Vec::new())
}

fn conv(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Option<Value>, String> {
    let (Some(x), Some(w)) = (site.inputs[0], site.inputs[1]) else { return Ok(None) };
    let (Some(x), Some(w)) = (Quantised::data(r, x), Quantised::weights(r, w, 0)) else { return Ok(None) };
    let spatial = r.ty(w.bytes).map_or(0, |t| t.rank()).saturating_sub(2);
    let sums = sums(r, "ConvInteger", [&x, &w], site.data.attrs.named())?;
    let real = scaled(r, sums, [&x, &w], spatial)?;
    let Some(bias) = site.inputs.get(2).copied().flatten() else { return Ok(Some(real)) };
    let channels = r.ty(bias).and_then(|t| t.shape[0].as_const()).ok_or("a bias of unknown size")?;
    let shape: Vec<i64> = [channels].into_iter().chain((0..spatial).map(|_| 1)).collect();
    let shape = r.builder().constant(Tensor::new(&[shape.len()], &shape));
    let bias = r.op("Reshape", &[bias, shape], Vec::new())?;
    r.op("Add", &[real, bias], Vec::new()).map(Some)
}

fn matmul(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Option<Value>, String> {
    let (Some(x), Some(w)) = (site.inputs[0], site.inputs[1]) else { return Ok(None) };
    let (Some(x), Some(w)) = (Quantised::data(r, x), Quantised::weights(r, w, 1)) else { return Ok(None) };
    product(r, &x, &w)
}

fn product(r: &mut Rewriter<'_>, x: &Quantised, w: &Quantised) -> Result<Option<Value>, String> {
    if r.ty(w.bytes).is_none_or(|t| t.rank() != 2) {
        return Ok(None);
    }
    let sums = sums(r, "MatMulInteger", [x, w], Vec::new())?;
    scaled(r, sums, [x, w], 0).map(Some)
}

fn gemm(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Option<Value>, String> {
    let attrs = &site.data.attrs;
    let plain = ["alpha", "beta"].into_iter().all(|a| attrs.float(a) == Some(1.0)) && !attrs.flag("transA");
    let (Some(x), Some(w), true) = (site.inputs[0], site.inputs[1], plain) else { return Ok(None) };
    let transposed = attrs.flag("transB");
    let (x, w) = (Quantised::data(r, x), Quantised::weights(r, w, i64::from(!transposed)));
    let (Some(x), Some(mut w)) = (x, w) else { return Ok(None) };
    if transposed {
        let perm = vec![("perm", Attr::Ints(vec![1, 0]))];
        w.bytes = constant_op(r, "Transpose", &[w.bytes], perm)?;
    }
    let Some(real) = product(r, &x, &w)? else { return Ok(None) };
    match site.inputs.get(2).copied().flatten() {
        Some(c) => r.op("Add", &[real, c], Vec::new()).map(Some),
        None => Ok(Some(real)),
    }
}

/// QuantizeLinear by one constant scale: nothing where it takes back a DequantizeLinear; a multiplication
/// where the tensor comes from dequantised ones; to unsigned bytes where they are only dequantised.
fn quantise(r: &mut Rewriter<'_>, site: &Site<'_>, only_dequantised: bool) -> Result<Option<Value>, String> {
    let (Some(x), Some(scale)) = (site.inputs[0], site.inputs[1]) else { return Ok(None) };
    let zero = site.inputs.get(2).copied().flatten();
    let Some(to) = r.ty(*zero.as_ref().unwrap_or(&x)).map(|t| t.dtype) else { return Ok(None) };
    let to = if zero.is_some() { to } else { site.data.attrs.dtype("output_dtype").unwrap_or(DType::U8) };
    // Of another scale the reciprocal is no number, or moves what bounds a value to its other side.
    let step = single(r, scale).map(Scalar::as_f64).filter(|s| *s >= f64::from(f32::MIN_POSITIVE));
    let single_precision = |v: Value| r.ty(v).is_some_and(|t| t.dtype == DType::F32);
    let precision = site.data.attrs.dtype("precision").unwrap_or(DType::F32);
    let plain = matches!(to, DType::U8 | DType::I8)
        && single_precision(x)
        && single_precision(scale)
        && precision == DType::F32;
    let (Some(step), Some(at), true) = (step, zero.map_or(Some(Scalar::I(0)), |z| single(r, z)), plain)
    else {
        return Ok(None);
    };
    let at = at.as_i64();
    if let Some(q) = Quantised::data(r, x) {
        let own_zero = q.zero.map_or(Some(0), |z| single(r, z).map(Scalar::as_i64));
        let same_step = single(r, q.scale).map(Scalar::as_f64) == Some(step);
        match r.ty(q.bytes).map(|t| t.dtype) {
            Some(from) if from == to && same_step && own_zero == Some(at) => return Ok(Some(q.bytes)),
            Some(DType::U8) if to == DType::I8 && same_step && own_zero == Some(at + HALF) => {
                return moved_down(r, q.bytes).map(Some);
            }
            _ => {}
        }
    }
    let signed = to == DType::I8 && only_dequantised;
    let multiplied = step != 1.0 && from_integers(r, x, REACH);
    if !signed && !multiplied {
        return Ok(None);
    }
    let (mut x, mut scale) = (x, scale);
    if multiplied {
        x = times(r, x, 1.0 / step, REACH)?;
        scale = scalar(r, DType::F32, Scalar::F(1.0));
    }
    let zero = match signed {
        true => scalar(r, DType::U8, Scalar::I(at + HALF)),
        false => scalar(r, to, Scalar::I(at)),
    };
    let bytes = node(r, "QuantizeLinear", vec![Some(x), Some(scale), Some(zero)], Vec::new())?;
    Ok(Some(if signed { moved_down(r, bytes)? } else { bytes }))
}

/// A tensor times a positive number, which goes into constants that it is scaled by already.
fn times(r: &mut Rewriter<'_>, v: Value, by: f64, reach: usize) -> Result<Value, String> {
    let factor = scalar(r, DType::F32, Scalar::F(by));
    if r.graph.constant(v).is_some() {
        return constant_op(r, "Mul", &[v, factor], Vec::new());
    }
    let made = r.made_by(v).filter(|_| is_scaled(r, v, reach));
    let Some((op, mut inputs, attrs)) = made.map(|n| (n.op.name, n.inputs.clone(), n.attrs.named())) else {
        return r.op("Mul", &[v, factor], Vec::new());
    };
    // Which operands are scaled in its place; the others stay.
    let scaled: &[usize] = match op {
        "Mul" | "DequantizeLinear" => &[1],
        "Add" => &[0, 1],
        _ => &[0],
    };
    for i in scaled {
        let operand = inputs[*i].ok_or("an operand is absent")?;
        inputs[*i] = Some(times(r, operand, by, reach.saturating_sub(1))?);
    }
    node(r, op, inputs, attrs)
}

/// Whether a number can go into a constant that a value is scaled by, or is.
fn is_scaled(r: &Rewriter<'_>, v: Value, reach: usize) -> bool {
    let constant = |v: Option<Value>| v.is_some_and(|v| r.graph.constant(v).is_some());
    if constant(Some(v)) || Quantised::data(r, v).is_some() {
        return true;
    }
    let Some(reach) = reach.checked_sub(1) else { return false };
    r.made_by(v).is_some_and(|n| match n.op.name {
        "Mul" => constant(n.inputs[1]),
        "Reshape" => constant(n.inputs[0]),
        "Relu" => n.inputs[0].is_some_and(|x| is_scaled(r, x, reach)),
        "Add" => n.inputs.iter().flatten().all(|x| is_scaled(r, *x, reach)),
        _ => false,
    })
}

/// Whether a value of `f32` is computed element by element from dequantised ones.
fn from_integers(r: &Rewriter<'_>, v: Value, reach: usize) -> bool {
    let Some(made) = r.made_by(v) else { return false };
    match made.op.name {
        "DequantizeLinear" => true,
        "Cast" => {
            let sums = made.inputs[0].and_then(|v| r.made_by(v));
            sums.is_some_and(|n| matches!(n.op.name, "ConvInteger" | "MatMulInteger"))
        }
        _ if reach > 0 && matches!(made.op.meaning, Meaning::Pointwise(_)) => {
            made.inputs.iter().flatten().any(|v| from_integers(r, *v, reach - 1))
        }
        _ => false,
    }
}

/// Unsigned bytes as the signed ones that they stand for.
fn moved_down(r: &mut Rewriter<'_>, bytes: Value) -> Result<Value, String> {
    let wide = r.op("Cast", &[bytes], vec![("to", Attr::DType(DType::I32))])?;
    let half = scalar(r, DType::I32, Scalar::I(HALF));
    let moved = r.op("Sub", &[wide, half], Vec::new())?;
    r.op("Cast", &[moved], vec![("to", Attr::DType(DType::I8))])
}

/// The unsigned bytes that [`moved_down`] has made a value from.
fn moved_up(r: &Rewriter<'_>, v: Value) -> Option<Value> {
    let operand = |v: Value, op: &str| r.made_by(v).filter(|n| n.op.name == op).and_then(|n| n.inputs[0]);
    let difference = operand(v, "Cast").filter(|_| r.ty(v).is_some_and(|t| t.dtype == DType::I8))?;
    let half = r.made_by(difference)?.inputs.get(1).copied().flatten()?;
    let bytes = operand(operand(difference, "Sub")?, "Cast")?;
    let by_half = single(r, half).is_some_and(|h| h.as_i64() == HALF);
    (by_half && r.ty(bytes)?.dtype == DType::U8).then_some(bytes)
}

/// DequantizeLinear of bytes that have been moved down: of those that they were before.
fn dequantise_moved(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Option<Value>, String> {
    let Some(bytes) = site.inputs[0].and_then(|v| moved_up(r, v)) else { return Ok(None) };
    let zero = site.inputs.get(2).copied().flatten();
    let Some(at) = zero.map_or(Some(Scalar::I(0)), |z| single(r, z)) else { return Ok(None) };
    let zero = scalar(r, DType::U8, Scalar::I(at.as_i64() + HALF));
    node(r, "DequantizeLinear", vec![Some(bytes), site.inputs[1], Some(zero)], site.data.attrs.named())
        .map(Some)
}

/// An op that only chooses among elements, on the bytes: scales are positive, so that the greatest one
/// stays the greatest. Constants are left to folding, but for what is looked up in them by data.
fn on_bytes(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Option<Value>, String> {
    let looked_up = match site.data.op.name {
        "MaxPool" | "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze" => false,
        "Gather" => site.inputs[1].is_some_and(|i| r.graph.constant(i).is_none()),
        _ => return Ok(None),
    };
    let Some(q) = site.inputs[0].and_then(|x| Quantised::data(r, x)) else { return Ok(None) };
    let positive = single(r, q.scale).is_some_and(|s| s.as_f64() > 0.0);
    let folded = r.graph.constant(q.bytes).is_some() && !looked_up;
    if site.data.outputs.len() != 1 || !positive || folded {
        return Ok(None);
    }
    let mut inputs = site.inputs.clone();
    inputs[0] = Some(q.bytes);
    let bytes = node(r, site.data.op.name, inputs, site.data.attrs.named())?;
    node(r, "DequantizeLinear", vec![Some(bytes), Some(q.scale), q.zero], Vec::new()).map(Some)
}
