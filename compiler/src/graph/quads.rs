//! Integer products of bytes take them four by four: both operands of `IntegerMatMul` and `IntegerConv`
//! become `Quads` along the dimension that is summed over, of which one operation multiplies and adds four
//! pairs (`ScalarOp::DotBytes`). Weights are packed when they are written; data are the same memory under
//! another type where the dimension is the innermost one (see [`super::fuse`]), and copied elsewhere.
//!
//! The operation wants unsigned data and signed weights. Signed data are moved up by 128 before, and
//! 128 times the sums of the weights are subtracted behind. What has other types keeps a lane for each
//! product.

use super::fold::constant_op;
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Graph, Value};
use burin_ir::{Attr, DType, Scalar, Tensor};

/// Fewer products than this are not worth a lane of four.
const LEAST: i64 = 3;

/// What moves signed bytes to unsigned ones.
pub(super) const HALF: i64 = 128;

/// Replaces products.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    rewrite(graph, fuel, &mut |r, site| {
        let product = match site.data.op.name {
            "IntegerConv" => Product::conv(r, site),
            "IntegerMatMul" => Product::matmul(r, site),
            _ => return Ok(Outcome::Keep),
        };
        match product {
            Ok(product) => product.replace(r, site),
            Err(why) => Ok(Outcome::Declined(why.to_owned())),
        }
    })
}

/// A product that has the right form.
struct Product {
    data: Value,
    weights: Value,
    /// The dimensions that are summed over.
    data_axis: i64,
    weights_axis: i64,
    /// All dimensions of the weights but that of the columns.
    summed: Vec<i64>,
    /// The shape of one element for each column, which broadcasts over the result.
    spread: Vec<i64>,
    signed: bool,
}

impl Product {
    fn conv(r: &Rewriter<'_>, site: &Site<'_>) -> Result<Product, &'static str> {
        let [Some(data), Some(weights)] = site.inputs[..] else { return Err("an operand is absent") };
        if site.data.attrs.int("group") != Some(1) {
            return Err("a convolution in groups");
        }
        let shape = static_weights(r, weights)?;
        let rank = shape.len() as i64;
        let spread = [shape[0]].into_iter().chain((2..rank).map(|_| 1)).collect();
        let summed = (1..rank).collect();
        let axes = Product { data, weights, data_axis: 1, weights_axis: 1, summed, spread, signed: false };
        axes.checked(r, shape[1])
    }

    fn matmul(r: &Rewriter<'_>, site: &Site<'_>) -> Result<Product, &'static str> {
        let [Some(data), Some(weights)] = site.inputs[..] else { return Err("an operand is absent") };
        let [depth, columns] = static_weights(r, weights)?[..] else {
            return Err("weights of another rank than 2");
        };
        let (summed, spread) = (vec![0], vec![columns]);
        let axes = Product { data, weights, data_axis: -1, weights_axis: 0, summed, spread, signed: false };
        axes.checked(r, depth)
    }

    /// With the types known, and fit.
    fn checked(self, r: &Rewriter<'_>, depth: i64) -> Result<Product, &'static str> {
        let dtype = |v: Value| r.ty(v).map(|t| t.dtype);
        match (dtype(self.data), dtype(self.weights)) {
            _ if depth < LEAST => Err("too few products for each result"),
            (Some(DType::U8), Some(DType::I8)) => Ok(self),
            (Some(DType::I8), Some(DType::I8)) => Ok(Product { signed: true, ..self }),
            _ => Err("weights that are not signed bytes, or data that are no bytes"),
        }
    }

    fn replace(&self, r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
        let along = |axis: i64| vec![("axis", Attr::Int(axis))];
        let data = if self.signed { unsigned(r, self.data)? } else { self.data };
        let data = r.op("Quads", &[data], along(self.data_axis))?;
        let weights = constant_op(r, "Quads", &[self.weights], along(self.weights_axis))?;
        let attrs = site.data.attrs.named();
        let inputs = vec![Some(data), Some(weights)];
        let node = r.builder().node(site.data.op, &site.data.name, inputs, attrs, 1, Vec::new())?;
        let product = r.graph.nodes[node].outputs[0];
        if !self.signed {
            return Ok(Outcome::Replace(vec![product]));
        }
        let moved = self.moved(r)?;
        Ok(Outcome::Replace(vec![r.op("Sub", &[product, moved], Vec::new())?]))
    }

    /// What data that are moved up add to each column: 128 times the sum of its weights.
    fn moved(&self, r: &mut Rewriter<'_>) -> Result<Value, String> {
        let wide = constant_op(r, "Cast", &[self.weights], vec![("to", Attr::DType(DType::I32))])?;
        let axes = r.builder().constant(Tensor::new(&[self.summed.len()], &self.summed));
        let sums = constant_op(r, "ReduceSum", &[wide, axes], vec![("keepdims", Attr::Int(0))])?;
        let half = r.builder().constant(Tensor::scalar(DType::I32, Scalar::I(HALF)));
        let moved = constant_op(r, "Mul", &[sums, half], Vec::new())?;
        let shape = r.builder().constant(Tensor::new(&[self.spread.len()], &self.spread));
        constant_op(r, "Reshape", &[moved, shape], Vec::new())
    }
}

/// The shape of constant weights.
fn static_weights(r: &Rewriter<'_>, weights: Value) -> Result<Vec<i64>, &'static str> {
    let shape = r.graph.constant(weights).and_then(|c| c.ty().static_shape());
    let shape = shape.ok_or("weights that are not constant")?;
    Ok(shape.into_iter().map(|n| n as i64).collect())
}

/// Signed bytes, moved up.
fn unsigned(r: &mut Rewriter<'_>, bytes: Value) -> Result<Value, String> {
    let wide = r.op("Cast", &[bytes], vec![("to", Attr::DType(DType::I32))])?;
    let half = r.builder().constant(Tensor::scalar(DType::I32, Scalar::I(HALF)));
    let moved = r.op("Add", &[wide, half], Vec::new())?;
    r.op("Cast", &[moved], vec![("to", Attr::DType(DType::U8))])
}
