//! Scales and shifts behind a convolution move into its weights and bias.
//!
//! A batch normalisation with constant statistics is a scale and a shift for each channel; so is a
//! Mul, Div, Add or Sub by a constant that differs along the channels alone. Where the convolution's
//! weights are constant and its result has no other use, the new weights and bias are constants,
//! computed when the weights are written.

use super::fold::constant_op;
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Graph, NodeData, Value};
use burin_ir::{Attr, DType, Scalar, Tensor};

/// Folds scales and shifts into convolutions.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    rewrite(graph, fuel, &mut |r, site| match site.data.op.name {
        "BatchNormalization" => batch_norm(r, site),
        "Mul" | "Div" | "Add" | "Sub" => per_channel(r, site),
        _ => Ok(Outcome::Keep),
    })
}

/// A convolution whose weights can be changed.
struct Conv {
    data: NodeData,
    /// The axis of the weights that runs over the output channels.
    axis: usize,
    rank: usize,
    channels: usize,
}

/// The convolution that makes operand `i` of a node, or why there is none that can be changed.
/// `None`: the operand is not made by a convolution.
fn conv(r: &Rewriter<'_>, site: &Site<'_>, i: usize) -> Option<Result<Conv, String>> {
    let (old, new) = (site.data.inputs.get(i).copied()??, site.inputs[i]?);
    let data = r.made_by(new)?;
    let axis = match data.op.name {
        "Conv" => 0,
        "ConvTranspose" => 1,
        _ => return None,
    };
    let reason = |e: &str| Some(Err(e.to_owned()));
    if r.uses(old) != 1 {
        return reason("the convolution's result has other uses");
    }
    let constant =
        |i: usize| data.inputs.get(i).copied().flatten().is_none_or(|v| r.graph.constant(v).is_some());
    if !constant(1) || !constant(2) {
        return reason("the convolution's weights are not constant");
    }
    if axis == 1 && data.attrs.int("group") != Some(1) {
        return reason("a transposed convolution in groups");
    }
    let weights = data.inputs[1].and_then(|w| r.ty(w)?.static_shape());
    let Some(shape) = weights else { return reason("the weights' shape is unknown") };
    Some(Ok(Conv { data: data.clone(), axis, rank: shape.len(), channels: shape[axis] }))
}

impl Conv {
    /// A vector over the channels, shaped to be broadcast over the weights.
    fn spread(&self, r: &mut Rewriter<'_>, v: Value) -> Result<Value, String> {
        let mut shape = vec![1i64; self.rank];
        shape[self.axis] = self.channels as i64;
        let shape = r.builder().constant(Tensor::new(&[shape.len()], &shape));
        constant_op(r, "Reshape", &[v, shape], Vec::new())
    }

    /// The convolution with other weights and bias.
    fn with(&self, r: &mut Rewriter<'_>, weights: Value, bias: Option<Value>) -> Result<Outcome, String> {
        let attrs = self.data.attrs.named();
        let inputs = vec![self.data.inputs[0], Some(weights), bias];
        let node = r.builder().node(self.data.op, &self.data.name, inputs, attrs, 1, Vec::new())?;
        Ok(Outcome::Replace(r.graph.nodes[node].outputs.clone()))
    }

    fn weights(&self) -> Option<Value> {
        self.data.inputs[1]
    }

    fn bias(&self) -> Option<Value> {
        self.data.inputs.get(2).copied().flatten()
    }
}

/// `(x - mean) / sqrt(var + epsilon) * scale + shift` behind a convolution.
fn batch_norm(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let conv = match conv(r, site, 0) {
        None => return Ok(Outcome::Keep),
        Some(Err(reason)) => return Ok(Outcome::Declined(reason)),
        Some(Ok(conv)) => conv,
    };
    if site.data.outputs.len() != 1 || site.data.attrs.flag("training_mode") {
        return Ok(Outcome::Declined("the normalisation is for training".into()));
    }
    let all: Option<Vec<Value>> = site.inputs.iter().copied().collect();
    let constant = |v: &Value| r.graph.constant(*v).is_some();
    let (Some([_, scale, shift, mean, var]), Some(weights)) = (all.as_deref(), conv.weights()) else {
        return Ok(Outcome::Declined("the normalisation lacks an operand".into()));
    };
    if ![scale, shift, mean, var].into_iter().all(constant) {
        return Ok(Outcome::Declined("the normalisation's statistics are not constant".into()));
    }
    let dtype = r.ty(*var).map_or(DType::F32, |t| t.dtype);
    let same = [*scale, *shift, *mean, weights].iter().all(|v| r.ty(*v).is_some_and(|t| t.dtype == dtype));
    if !same {
        return Ok(Outcome::Declined("the statistics are of another type than the weights".into()));
    }
    let epsilon = site.data.attrs.float("epsilon").unwrap_or_default();
    let epsilon = r.builder().constant(Tensor::scalar(dtype, Scalar::F(epsilon)));
    let var = constant_op(r, "Add", &[*var, epsilon], Vec::new())?;
    let deviation = constant_op(r, "Sqrt", &[var], Vec::new())?;
    let factor = constant_op(r, "Div", &[*scale, deviation], Vec::new())?;
    let spread = conv.spread(r, factor)?;
    let weights = constant_op(r, "Mul", &[weights, spread], Vec::new())?;
    let centred = match conv.bias() {
        Some(bias) => constant_op(r, "Sub", &[bias, *mean], Vec::new())?,
        None => constant_op(r, "Neg", &[*mean], Vec::new())?,
    };
    let scaled = constant_op(r, "Mul", &[centred, factor], Vec::new())?;
    let bias = constant_op(r, "Add", &[scaled, *shift], Vec::new())?;
    conv.with(r, weights, Some(bias))
}

/// A Mul, Div, Add or Sub by a constant that differs along the channels alone.
fn per_channel(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let op = site.data.op.name;
    let commutes = matches!(op, "Mul" | "Add");
    let [Some(a), Some(b)] = site.inputs[..] else { return Ok(Outcome::Keep) };
    let (position, other) = match (r.graph.constant(a), r.graph.constant(b)) {
        (None, Some(_)) => (0, b),
        (Some(_), None) if commutes => (1, a),
        _ => return Ok(Outcome::Keep),
    };
    let conv = match conv(r, site, position) {
        None => return Ok(Outcome::Keep),
        Some(Err(reason)) => return Ok(Outcome::Declined(reason)),
        Some(Ok(conv)) => conv,
    };
    let Some(vector) = channel_vector(r, &conv, other)? else {
        return Ok(Outcome::Declined("the constant differs along more than the channels".into()));
    };
    let Some(weights) = conv.weights() else { return Ok(Outcome::Keep) };
    if matches!(op, "Mul" | "Div") {
        let spread = conv.spread(r, vector)?;
        let weights = constant_op(r, op, &[weights, spread], Vec::new())?;
        let bias = conv.bias().map(|b| constant_op(r, op, &[b, vector], Vec::new())).transpose()?;
        return conv.with(r, weights, bias);
    }
    let bias = match (conv.bias(), op) {
        (Some(bias), _) => constant_op(r, op, &[bias, vector], Vec::new())?,
        (None, "Sub") => constant_op(r, "Neg", &[vector], Vec::new())?,
        (None, _) => vector,
    };
    conv.with(r, weights, Some(bias))
}

/// A constant operand as a vector over the channels, where it is one (or the same for all) and does
/// not widen the result.
fn channel_vector(r: &mut Rewriter<'_>, conv: &Conv, v: Value) -> Result<Option<Value>, String> {
    let Some(ty) = r.ty(v).cloned() else { return Ok(None) };
    let Some(shape) = ty.static_shape().filter(|s| s.len() <= conv.rank) else { return Ok(None) };
    // Axis 1 of the result runs over the channels.
    let channel = (1 + shape.len()).checked_sub(conv.rank);
    let plain = |(i, d): (usize, &usize)| *d == 1 || (Some(i) == channel && *d == conv.channels);
    if !shape.iter().enumerate().all(plain) {
        return Ok(None);
    }
    let count = shape.iter().product::<usize>() as i64;
    let flat = r.builder().constant(Tensor::new(&[1], &[count]));
    let flat = constant_op(r, "Reshape", &[v, flat], vec![("allowzero", Attr::Int(1))])?;
    if count as usize == conv.channels {
        return Ok(Some(flat));
    }
    let all = r.builder().constant(Tensor::new(&[1], &[conv.channels as i64]));
    constant_op(r, "Expand", &[flat, all], Vec::new()).map(Some)
}
