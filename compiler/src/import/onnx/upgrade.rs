//! Older op versions: everything that changed in ONNX's op schemas, in one place: here since opset 7,
//! in [`early`] before it.
//!
//! Op rows know the newest schema alone. [`RULES`] lists, for each op whose schema changed, the
//! version below which a node must be rewritten and how. A rule changes the call in place, or builds
//! other nodes and gives their results. Rules of one op stand in the order in which they apply;
//! versions that only admit more types or name the defaults of new attributes need none.

mod early;

use super::{fused, removed, texts};
use burin_ir::graph::{Builder, Constant, Value};
use burin_ir::{Attr, DType, Expr, Scalar, Tensor, ops};

/// A node of the file before it is one of the graph.
pub(super) struct Call {
    pub(super) op: String,
    pub(super) domain: String,
    /// The opset version of the domain that the node is written for.
    pub(super) version: i64,
    pub(super) inputs: Vec<Option<Value>>,
    pub(super) attrs: Vec<(String, Attr)>,
    pub(super) outputs: usize,
}

/// The results, where a rule has built them; `None` where the call itself goes on.
pub(super) type Outcome = Result<Option<Vec<Value>>, String>;

struct Rule {
    op: &'static str,
    /// The version from which on the rule no longer applies.
    below: i64,
    rewrite: fn(&mut Call, &mut Builder<'_>) -> Outcome,
}

const fn rule(op: &'static str, below: i64, rewrite: fn(&mut Call, &mut Builder<'_>) -> Outcome) -> Rule {
    Rule { op, below, rewrite }
}

/// Below no version: the op is one of today no more.
const ANY: i64 = i64::MAX;

const RULES: &[Rule] = &[
    rule("Squeeze", 13, axes_to_input),
    rule("Unsqueeze", 13, axes_to_input),
    rule("ReduceSum", 13, axes_to_input),
    rule("ReduceL1", 18, axes_to_input),
    rule("ReduceL2", 18, axes_to_input),
    rule("ReduceLogSum", 18, axes_to_input),
    rule("ReduceLogSumExp", 18, axes_to_input),
    rule("ReduceMax", 18, axes_to_input),
    rule("ReduceMean", 18, axes_to_input),
    rule("ReduceMin", 18, axes_to_input),
    rule("ReduceProd", 18, axes_to_input),
    rule("ReduceSumSquare", 18, axes_to_input),
    rule("Slice", 10, slice),
    rule("Split", 13, |c, b| ints_to_input(c, b, "split", 1)),
    rule("Split", 18, split_evenly),
    rule("TopK", 10, top_k),
    rule("Clip", 11, clip),
    rule("Pad", 11, pad),
    rule("Dropout", 12, dropout),
    rule("Upsample", 7, removed::upsample),
    rule("Upsample", 9, |c, b| floats_to_input(c, b, "scales", 1)),
    // Upsample is the older name of what Resize did first, and goes on as such.
    rule("Upsample", 10, |c, _| renamed(c, "Resize")),
    rule("Resize", 11, resize),
    rule("Resize", 13, resize_empty_inputs),
    rule("Scatter", 11, |c, _| renamed(c, "ScatterElements")),
    rule("Softmax", 13, flattened),
    rule("LogSoftmax", 13, flattened),
    rule("Hardmax", 13, flattened),
    rule("BatchNormalization", 9, batch_norm_spatial),
    rule("BatchNormalization", 14, batch_norm_results),
    rule("GroupNormalization", 21, group_norm),
    rule("RoiAlign", 16, |c, _| defaulted(c, "coordinate_transformation_mode", "output_half_pixel")),
    rule("GridSample", 20, grid_sample),
    rule("DFT", 20, dft),
    rule("Affine", ANY, removed::affine),
    rule("Crop", ANY, removed::crop),
    rule("ImageScaler", ANY, removed::image_scaler),
    rule("ParametricSoftplus", ANY, removed::parametric_softplus),
    rule("Scale", ANY, removed::scale),
    rule("ScaledTanh", ANY, removed::scaled_tanh),
    // ONNX Runtime's, though in ONNX's domain.
    rule("SimplifiedLayerNormalization", ANY, fused::simplified_layer_norm),
];

/// Every rule, in the order in which those of one op apply.
fn rules() -> impl Iterator<Item = &'static Rule> {
    early::RULES.iter().chain(RULES)
}

/// The versions of an op of `ai.onnx` below which its nodes are rewritten, the greatest first.
pub(super) fn boundaries(op: &str) -> Vec<i64> {
    let mut all: Vec<i64> = rules().filter(|r| r.op == op).map(|r| r.below).collect();
    all.sort_unstable_by_key(|v| std::cmp::Reverse(*v));
    all.dedup();
    all
}

/// Ops of `com.microsoft` that ONNX has taken over since.
const SAME_AS_ONNX: &[&str] = &["QuantizeLinear", "DequantizeLinear"];

/// Rewrites a call to the newest schema.
pub(super) fn apply(call: &mut Call, b: &mut Builder<'_>) -> Outcome {
    if call.domain == "com.microsoft" && SAME_AS_ONNX.contains(&call.op.as_str()) {
        call.domain.clear();
        return Ok(None);
    }
    if call.domain == fused::DOMAIN {
        return fused::apply(call, b);
    }
    if let Some(results) = texts::apply(call, b)? {
        return Ok(Some(results));
    }
    if !call.domain.is_empty() {
        return Ok(None);
    }
    // Below opset 6 a node said which operands may be overwritten.
    call.take("consumed_inputs");
    for rule in rules() {
        if rule.op == call.op
            && call.version < rule.below
            && let Some(results) = (rule.rewrite)(call, b)?
        {
            return Ok(Some(results));
        }
    }
    Ok(None)
}

impl Call {
    pub(super) fn attr(&self, name: &str) -> Option<&Attr> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Attr> {
        let i = self.attrs.iter().position(|(n, _)| n == name)?;
        Some(self.attrs.remove(i).1)
    }

    pub(super) fn take_int(&mut self, name: &str, default: i64) -> Result<i64, String> {
        match self.take(name) {
            None => Ok(default),
            Some(Attr::Int(v)) => Ok(v),
            Some(other) => Err(format!("attribute {name} is {:?}, expected Int", other.kind())),
        }
    }

    pub(super) fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Ints(v)) => Ok(Some(v)),
            Some(other) => Err(format!("attribute {name} is {:?}, expected Ints", other.kind())),
        }
    }

    pub(super) fn take_float(&mut self, name: &str) -> Result<Option<f64>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Float(v)) => Ok(Some(v)),
            Some(other) => Err(format!("attribute {name} is {:?}, expected Float", other.kind())),
        }
    }

    pub(super) fn take_floats(&mut self, name: &str) -> Result<Vec<f64>, String> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Attr::Floats(v)) => Ok(v),
            Some(Attr::Ints(v)) if v.is_empty() => Ok(Vec::new()),
            Some(other) => Err(format!("attribute {name} is {:?}, expected Floats", other.kind())),
        }
    }

    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Attr::Str(v)) => Ok(Some(v)),
            Some(other) => Err(format!("attribute {name} is {:?}, expected Str", other.kind())),
        }
    }

    pub(super) fn rename(&mut self, to: &str) {
        to.clone_into(&mut self.op);
    }

    /// A node of one result with the call's attributes, and other operands.
    pub(super) fn node(
        &self,
        b: &mut Builder<'_>,
        op: &str,
        inputs: Vec<Option<Value>>,
    ) -> Result<Value, String> {
        let row = ops::by_name(op).ok_or_else(|| format!("there is no op {op}"))?;
        let node = b.node(row, "", inputs, self.attrs.clone(), 1, Vec::new())?;
        Ok(b.graph.nodes[node].outputs[0])
    }

    pub(super) fn set(&mut self, name: &str, value: Attr) {
        self.attrs.push((name.to_owned(), value));
    }

    pub(super) fn input(&self, i: usize) -> Result<Value, String> {
        self.optional(i).ok_or_else(|| format!("input {i} is missing"))
    }

    pub(super) fn optional(&self, i: usize) -> Option<Value> {
        self.inputs.get(i).copied().flatten()
    }

    /// Sets an input that the older version did not have.
    pub(super) fn set_input(&mut self, i: usize, v: Value) {
        if self.inputs.len() <= i {
            self.inputs.resize(i + 1, None);
        }
        self.inputs[i] = Some(v);
    }
}

/// A constant of small integers, as shapes and axes are.
pub(super) fn ints(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

fn ints_to_input(c: &mut Call, b: &mut Builder<'_>, name: &str, i: usize) -> Outcome {
    if let Some(values) = c.take_ints(name)? {
        let v = ints(b, &values);
        c.set_input(i, v);
    }
    Ok(None)
}

fn floats_to_input(c: &mut Call, b: &mut Builder<'_>, name: &str, i: usize) -> Outcome {
    match c.take(name) {
        Some(Attr::Floats(v)) => {
            let values: Vec<f32> = v.iter().map(|v| *v as f32).collect();
            let v = b.constant(Tensor::new(&[values.len()], &values));
            c.set_input(i, v);
            Ok(None)
        }
        _ => Err(format!("attribute {name} is missing, expected floats")),
    }
}

fn axes_to_input(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    ints_to_input(c, b, "axes", 1)
}

fn renamed(c: &mut Call, to: &str) -> Outcome {
    c.rename(to);
    Ok(None)
}

/// Gives an attribute the default that it had in the older version.
fn defaulted(c: &mut Call, name: &str, value: &str) -> Outcome {
    if c.attr(name).is_none() {
        c.set(name, Attr::Str(value.to_owned()));
    }
    Ok(None)
}

/// Gives an attribute a default that it had in the older version.
fn defaulted_float(c: &mut Call, name: &str, value: f64) {
    if c.attr(name).is_none() {
        c.set(name, Attr::Float(value));
    }
}

fn renamed_attr(c: &mut Call, from: &str, to: &str) -> Outcome {
    if let Some(value) = c.take(from) {
        c.set(to, value);
    }
    Ok(None)
}

fn slice(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    for (i, name) in ["starts", "ends", "axes"].into_iter().enumerate() {
        ints_to_input(c, b, name, i + 1)?;
    }
    Ok(None)
}

/// Without sizes, an older split is into as many equal parts as there are results.
fn split_evenly(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    if c.inputs.get(1).copied().flatten().is_none() && c.attr("num_outputs").is_none() {
        c.set("num_outputs", Attr::Int(c.outputs as i64));
    }
    Ok(None)
}

fn top_k(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let k = c.take_int("k", -1)?;
    let k = ints(b, &[k]);
    c.set_input(1, k);
    Ok(None)
}

/// The bounds were attributes, by default the range of `f32`.
fn clip(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let dtype = b.ty(c.input(0)?)?.dtype;
    for (i, (name, default)) in [("min", f32::MIN), ("max", f32::MAX)].into_iter().enumerate() {
        let bound = c.take_float(name)?.unwrap_or(default.into());
        let v = b.constant(Tensor::scalar(dtype, Scalar::F(bound)));
        c.set_input(i + 1, v);
    }
    Ok(None)
}

fn pad(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let dtype = b.ty(c.input(0)?)?.dtype;
    ints_to_input(c, b, "pads", 1)?;
    let value = c.take_float("value")?.unwrap_or(0.0);
    let v = b.constant(Tensor::scalar(dtype, Scalar::F(value)));
    c.set_input(2, v);
    Ok(None)
}

/// The ratio matters in training only, but a row sees it; the mask had the data's type below 10.
fn dropout(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    if let Some(ratio) = c.take_float("ratio")? {
        let v = b.constant(Tensor::scalar(DType::F32, Scalar::F(ratio)));
        c.set_input(1, v);
    }
    if c.outputs < 2 || c.version >= 10 {
        return Ok(None);
    }
    let x = c.input(0)?;
    let dtype = b.ty(x)?.dtype;
    let row = ops::by_name("Dropout").ok_or("there is no op Dropout")?;
    let node = b.node(row, "", c.inputs.clone(), Vec::new(), 2, Vec::new())?;
    let [result, mask] = b.graph.nodes[node].outputs[..] else {
        return Err("Dropout has two results".into());
    };
    Ok(Some(vec![result, b.op("Cast", &[mask], vec![("to", Attr::DType(dtype))])?]))
}

/// Output positions were scaled without an offset, and `nearest` rounded down.
fn resize(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    c.inputs.insert(c.inputs.len().min(1), None);
    c.set("coordinate_transformation_mode", Attr::Str("asymmetric".into()));
    c.set("nearest_mode", Attr::Str("floor".into()));
    Ok(None)
}

/// Inputs that could not be left out yet were given as empty tensors.
fn resize_empty_inputs(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    for v in c.inputs.iter_mut().skip(1) {
        let empty = |v: Value| b.graph.constant(v).is_some_and(|k| k.bytes() == 0);
        if v.is_some_and(empty) {
            *v = None;
        }
    }
    Ok(None)
}

/// Softmax, LogSoftmax and Hardmax worked on a matrix: all dimensions from the axis on as one.
fn flattened(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let x = c.input(0)?;
    let shape = b.ty(x)?.shape.clone();
    let given = c.take_int("axis", 1)?;
    let axis = if given < 0 { given + shape.len() as i64 } else { given };
    let axis = usize::try_from(axis).ok().filter(|a| *a <= shape.len());
    let axis = axis.ok_or_else(|| format!("axis {given} is out of range for rank {}", shape.len()))?;
    if axis < shape.len() && shape[axis + 1..].iter().all(|d| *d == 1) {
        c.set("axis", Attr::Int(axis as i64));
        return Ok(None);
    }
    let matrix = b.op("Flatten", &[x], vec![("axis", Attr::Int(axis as i64))])?;
    let result = b.op(&c.op, &[matrix], vec![("axis", Attr::Int(1))])?;
    let fixed: Option<Vec<i64>> = shape.iter().map(Expr::as_const).collect();
    let target = match fixed {
        Some(dims) => ints(b, &dims),
        None => b.op("Shape", &[x], Vec::new())?,
    };
    Ok(Some(vec![b.op("Reshape", &[result, target], vec![("allowzero", Attr::Int(1))])?]))
}

fn batch_norm_spatial(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    match c.take_int("spatial", 1)? {
        0 => Err("spatial = 0 (statistics for every position) is not supported".into()),
        _ => Ok(None),
    }
}

/// More than one result meant training. The last two were the batch's own statistics, which are what
/// running ones become without momentum.
fn batch_norm_results(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    if c.outputs == 1 {
        return Ok(None);
    }
    let row = ops::by_name("BatchNormalization").ok_or("there is no op BatchNormalization")?;
    let mut attrs = c.attrs.clone();
    attrs.push(("training_mode".to_owned(), Attr::Int(1)));
    let node = b.node(row, "", c.inputs.clone(), attrs.clone(), 3, Vec::new())?;
    let mut results = b.graph.nodes[node].outputs.clone();
    if c.outputs > 3 {
        attrs.retain(|(name, _)| name != "momentum");
        attrs.push(("momentum".to_owned(), Attr::Float(0.0)));
        let node = b.node(row, "", c.inputs.clone(), attrs, 3, Vec::new())?;
        results.extend(&b.graph.nodes[node].outputs[1..]);
    }
    results.truncate(c.outputs);
    Ok(Some(results))
}

/// Scale and bias were given for each group and are now given for each channel.
fn group_norm(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let channels = b.ty(c.input(0)?)?.shape.get(1).and_then(Expr::as_const);
    let groups = match c.attr("num_groups") {
        Some(Attr::Int(n)) if *n > 0 => *n,
        _ => return Err("attribute num_groups is missing or not positive".into()),
    };
    let channels =
        channels.filter(|n| n % groups == 0).ok_or("the channels do not divide into the groups")?;
    for i in [1, 2] {
        let v = c.input(i)?;
        let last = ints(b, &[1]);
        let column = b.op("Unsqueeze", &[v, last], Vec::new())?;
        let spread = ints(b, &[groups, channels / groups]);
        let all = b.op("Expand", &[column, spread], Vec::new())?;
        let flat = ints(b, &[channels]);
        let v = b.op("Reshape", &[all, flat], Vec::new())?;
        c.set_input(i, v);
    }
    Ok(None)
}

/// The modes have other names now.
fn grid_sample(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    let mode = match c.take("mode") {
        Some(Attr::Str(m)) if m == "bicubic" => "cubic".to_owned(),
        Some(Attr::Str(m)) if m != "bilinear" => m,
        _ => "linear".to_owned(),
    };
    c.set("mode", Attr::Str(mode));
    Ok(None)
}

/// The axis was an attribute, by default 1.
fn dft(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let axis = c.take_int("axis", 1)?;
    let axis = b.graph.add_constant("", Constant::Data(Tensor::scalar(DType::I64, Scalar::I(axis))));
    c.set_input(2, axis);
    Ok(None)
}
