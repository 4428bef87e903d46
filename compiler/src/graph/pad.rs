//! Padding of sliding windows becomes an op of its own, so that no window has to ask whether it has
//! left the image. The padded image is written in place by what computes the image (see
//! [`crate::lower::place`]), so that the only cost is its border.

use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::Graph;
use burin_ir::ops::constant_pads;
use burin_ir::{Attr, DType, Expr, Scalar, Tensor};

/// Moves padding of a constant number of elements out of convolutions and poolings.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    rewrite(graph, fuel, &mut |r, site| match site.data.op.name {
        "Conv" | "IntegerConv" => separate(r, site, Scalar::I(0)),
        "MaxPool" if site.data.outputs.len() == 1 => separate(r, site, Scalar::F(f64::NEG_INFINITY)),
        "AveragePool" if site.data.attrs.flag("count_include_pad") => separate(r, site, Scalar::I(0)),
        _ => Ok(Outcome::Keep),
    })
}

/// The node with its image padded by `fill` beforehand.
fn separate(r: &mut Rewriter<'_>, site: &Site<'_>, fill: Scalar) -> Result<Outcome, String> {
    let Some(image) = site.inputs[0] else { return Ok(Outcome::Keep) };
    let Some(ty) = r.ty(image).cloned() else { return Ok(Outcome::Keep) };
    let attrs = &site.data.attrs;
    let weights = site.inputs.get(1).copied().flatten().and_then(|w| r.ty(w));
    let kernel: Vec<Expr> = match (attrs.ints("kernel_shape"), weights) {
        (Some(shape), _) => shape.iter().map(|n| (*n).into()).collect(),
        (None, Some(w)) if w.shape.len() == ty.shape.len() => w.shape[2..].to_vec(),
        _ => return Ok(Outcome::Keep),
    };
    let Some(pads) = constant_pads(attrs, &ty.shape[2..], &kernel) else {
        return Ok(Outcome::Declined("its padding depends on sizes".to_owned()));
    };
    if pads.iter().all(|p| *p == 0) {
        return Ok(Outcome::Keep);
    }
    if !ty.dtype.is_float()
        && ty.dtype != DType::I32
        && !matches!(site.data.op.name, "MaxPool" | "IntegerConv")
    {
        return Ok(Outcome::Keep);
    }
    let spatial = pads.len() / 2;
    let side = |half: &[i64]| [&[0, 0], half].concat();
    let all = [side(&pads[..spatial]), side(&pads[spatial..])].concat();
    let amounts = r.builder().constant(Tensor::new(&[all.len()], &all));
    let value = r.builder().constant(Tensor::scalar(ty.dtype, fill.cast(ty.dtype)));
    let mode = vec![("mode", Attr::Str("constant".to_owned()))];
    let padded = r.op("Pad", &[image, amounts, value], mode)?;
    let attrs = attrs
        .0
        .iter()
        .filter(|(n, _)| !matches!(*n, "pads" | "auto_pad"))
        .map(|(n, a)| ((*n).to_owned(), a.clone()))
        .collect();
    let mut inputs = site.inputs.to_vec();
    inputs[0] = Some(padded);
    let node = r.builder().node(site.data.op, &site.data.name, inputs, attrs, 1, Vec::new())?;
    Ok(Outcome::Replace(r.graph.nodes[node].outputs.clone()))
}
