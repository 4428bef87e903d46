//! What the families share to build composites: a builder that carries the type floats are
//! computed in (`f32` for the 16-bit ones), so that a body rounds to them once, at its end.

use crate::attr::Attr;
use crate::dtype::DType;
use crate::graph::infer::Cx;
use crate::graph::{Builder, Value};
use crate::ops;
use crate::scalar::Scalar;
use crate::tensor::Tensor;

/// A composite's operands.
pub(super) type Inputs<'a> = &'a [Option<Value>];
/// What a composite's builder gives.
pub(super) type Built = Result<Option<Vec<Value>>, String>;

/// Builds the body of a composite: the builder, and the type that floats are computed in.
pub(super) struct Body<'a, 'b> {
    /// Where nodes are added.
    pub(super) b: &'a mut Builder<'b>,
    wide: DType,
}

impl Body<'_, '_> {
    /// Builds with the first operand (in the wide type), and gives the result the operand's type.
    pub(super) fn build(
        b: &mut Builder<'_>,
        inputs: Inputs<'_>,
        build: impl FnOnce(&mut Body<'_, '_>, Value) -> Result<Value, String>,
    ) -> Built {
        let Some(x) = operand(inputs, 0) else { return Ok(None) };
        let dtype = b.ty(x)?.dtype;
        let mut body = Body { b, wide: dtype.accumulator() };
        let x = body.widen(x)?;
        let result = build(&mut body, x)?;
        Ok(Some(vec![cast(b, result, dtype)?]))
    }

    /// Builds with floats of that type.
    pub(super) fn of<'a, 'b>(b: &'a mut Builder<'b>, dtype: DType) -> Body<'a, 'b> {
        Body { b, wide: dtype.accumulator() }
    }

    pub(super) fn widen(&mut self, x: Value) -> Result<Value, String> {
        cast(self.b, x, self.wide)
    }

    pub(super) fn op(&mut self, op: &str, inputs: &[Value]) -> Result<Value, String> {
        self.b.op(op, inputs, vec![])
    }

    /// An op with attributes, and operands that may be absent.
    pub(super) fn op_with(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: Vec<(&str, Attr)>,
    ) -> Result<Value, String> {
        Ok(results(self.b, op, inputs, attrs, 1)?[0])
    }

    /// The same elements under another shape, in ONNX's notation: 0 keeps a dimension, -1 takes what
    /// remains.
    pub(super) fn reshape(&mut self, x: Value, shape: &[i64]) -> Result<Value, String> {
        let shape = self.axes(shape);
        self.op("Reshape", &[x, shape])
    }

    pub(super) fn transpose(&mut self, x: Value, perm: &[i64]) -> Result<Value, String> {
        self.b.op("Transpose", &[x], vec![("perm", Attr::Ints(perm.to_vec()))])
    }

    /// The elements of an axis from `start` to `end` by `step`.
    pub(super) fn slice(
        &mut self,
        x: Value,
        axis: i64,
        (start, end, step): (i64, i64, i64),
    ) -> Result<Value, String> {
        let [start, end, axis, step] = [start, end, axis, step].map(|v| self.axes(&[v]));
        self.op("Slice", &[x, start, end, axis, step])
    }

    pub(super) fn number(&mut self, v: f64) -> Value {
        self.b.constant(Tensor::scalar(self.wide, Scalar::F(v)))
    }

    pub(super) fn axes(&mut self, axes: &[i64]) -> Value {
        self.b.constant(Tensor::new(&[axes.len()], axes))
    }

    /// A reduction that keeps the dimensions; over no axis, it is the operand's elements one by one.
    pub(super) fn reduce(&mut self, op: &str, x: Value, axes: &[i64]) -> Result<Value, String> {
        let axes = self.axes(axes);
        self.b.op(op, &[x, axes], vec![("noop_with_empty_axes", Attr::Int(1))])
    }

    /// A vector with an element for each channel, as it broadcasts to the shape of `x`.
    pub(super) fn channels(&mut self, v: Value, x: Value) -> Result<Value, String> {
        let v = self.widen(v)?;
        let axes: Vec<i64> = (1..self.b.ty(x)?.rank() as i64 - 1).collect();
        if axes.is_empty() {
            return Ok(v);
        }
        let axes = self.axes(&axes);
        self.op("Unsqueeze", &[v, axes])
    }

    /// The deviations from the mean over the axes, the mean, and the variance.
    pub(super) fn moments(&mut self, x: Value, axes: &[i64]) -> Result<(Value, Value, Value), String> {
        let mean = self.reduce("ReduceMean", x, axes)?;
        let deviation = self.op("Sub", &[x, mean])?;
        let squares = self.op("Mul", &[deviation, deviation])?;
        Ok((deviation, mean, self.reduce("ReduceMean", squares, axes)?))
    }

    /// `1 / sqrt(v + epsilon)`
    pub(super) fn inverse_root(&mut self, v: Value, cx: &Cx<'_>) -> Result<Value, String> {
        let epsilon = self.number(cx.attrs.float("epsilon").unwrap_or_default());
        let sum = self.op("Add", &[v, epsilon])?;
        let root = self.op("Sqrt", &[sum])?;
        self.op("Reciprocal", &[root])
    }

    /// `x * scale + bias` with vectors over the channels.
    pub(super) fn scale_channels(&mut self, x: Value, inputs: Inputs<'_>) -> Result<Value, String> {
        let mut x = x;
        for (i, op) in [(1, "Mul"), (2, "Add")] {
            if let Some(v) = operand(inputs, i) {
                let v = self.channels(v, x)?;
                x = self.op(op, &[x, v])?;
            }
        }
        Ok(x)
    }
}

/// The results of a node of several, with operands that may be absent.
pub(super) fn results(
    b: &mut Builder<'_>,
    op: &str,
    inputs: &[Option<Value>],
    attrs: Vec<(&str, Attr)>,
    count: usize,
) -> Result<Vec<Value>, String> {
    let row = ops::by_name(op).ok_or_else(|| format!("there is no op {op}"))?;
    let attrs = attrs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
    let node = b.node(row, "", inputs.to_vec(), attrs, count, Vec::new())?;
    Ok(b.graph.nodes[node].outputs.clone())
}

pub(super) fn operand(inputs: Inputs<'_>, i: usize) -> Option<Value> {
    inputs.get(i).copied().flatten()
}

/// The axes from `first` to the last.
pub(super) fn axes_from(first: usize, cx: &Cx<'_>) -> Result<Vec<i64>, String> {
    Ok((first as i64..cx.ty(0)?.rank() as i64).collect())
}

/// A conversion, if one is needed.
pub(super) fn cast(b: &mut Builder<'_>, x: Value, to: DType) -> Result<Value, String> {
    if b.ty(x)?.dtype == to { Ok(x) } else { b.op("Cast", &[x], vec![("to", Attr::DType(to))]) }
}
