//! Padding of sliding windows becomes an op of its own, so that no window has to ask whether it has
//! left the image. The padded image is written in place by what computes the image (see
//! [`crate::lower::place`]), so that the only cost is its border.

use super::Report;
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use burin_ir::graph::Graph;
use burin_ir::{Attr, DType, Scalar, Tensor};

/// Moves explicit padding out of convolutions and poolings.
pub fn run(graph: &mut Graph) -> Result<Report, String> {
    rewrite(graph, &mut |r, site| match site.data.op.name {
        "Conv" => separate(r, site, Scalar::I(0)),
        "MaxPool" if site.data.outputs.len() == 1 => separate(r, site, Scalar::F(f64::NEG_INFINITY)),
        "AveragePool" if site.data.attrs.flag("count_include_pad") => separate(r, site, Scalar::I(0)),
        _ => Ok(Outcome::Keep),
    })
}

/// The node with its image padded by `fill` beforehand.
fn separate(r: &mut Rewriter<'_>, site: &Site<'_>, fill: Scalar) -> Result<Outcome, String> {
    let attrs = &site.data.attrs;
    let Some(pads) = attrs.ints("pads").map(<[i64]>::to_vec) else { return Ok(Outcome::Keep) };
    let implied = attrs.str("auto_pad").is_some_and(|a| a != "NOTSET") || attrs.flag("ceil_mode");
    if pads.iter().all(|p| *p == 0) {
        return Ok(Outcome::Keep);
    }
    if implied || pads.iter().any(|p| *p < 0) {
        return Ok(Outcome::Declined("its padding depends on sizes".to_owned()));
    }
    let Some(image) = site.inputs[0] else { return Ok(Outcome::Keep) };
    let Some(ty) = r.ty(image).cloned() else { return Ok(Outcome::Keep) };
    if !ty.dtype.is_float() && ty.dtype != DType::I32 && site.data.op.name != "MaxPool" {
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
        .map(|(n, a)| {
            let none = Attr::Ints(vec![0; pads.len()]);
            ((*n).to_owned(), if *n == "pads" { none } else { a.clone() })
        })
        .collect();
    let mut inputs = site.inputs.to_vec();
    inputs[0] = Some(padded);
    let node = r.builder().node(site.data.op, &site.data.name, inputs, attrs, 1, Vec::new())?;
    Ok(Outcome::Replace(r.graph.nodes[node].outputs.clone()))
}
