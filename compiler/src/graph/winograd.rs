//! Convolutions of 3x3 with a stride of 1 become Winograd's, where that is faster: tiles of the image and
//! the weights are transformed, multiplied as a batch of matrices, and transformed back (see
//! `ops/winograd.rs`). The transformed weights are constants.
//!
//! Its error against `f64`, as a root mean square over normally distributed data: with tiles of 4 about
//! 4 times that of the direct sum (1.7e-6 of the results' for 64 channels), with tiles of 2 no more than
//! that (5e-7 for 256 channels); `tests/tests/winograd.rs` holds it to twice that. `--without winograd`
//! leaves it out.

use super::fold::constant_op;
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Graph, Value};
use burin_ir::ops::constant_pads;
use burin_ir::{Attr, DType, Expr, Scalar, Tensor};

/// Multiply-adds that a core makes while one byte of weights arrives from memory.
const PER_BYTE: f64 = 13.0;
/// ... and while an element of a transformed tile is made, written, and read again.
const PER_ELEMENT: f64 = 32.0;

/// Replaces convolutions.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    rewrite(graph, fuel, &mut |r, site| match site.data.op.name {
        "Conv" => match Conv::of(r, site) {
            Some(conv) => conv.replace(r, site),
            None => Ok(Outcome::Keep),
        },
        _ => Ok(Outcome::Keep),
    })
}

/// A convolution that has the right form.
struct Conv {
    image: Value,
    weights: Value,
    /// Typical, where it is not constant.
    batch: i64,
    batch_size: Expr,
    /// Channels of the image and of the result.
    depth: i64,
    channels: i64,
    /// Height and width of the result.
    size: [i64; 2],
    /// Padding before height and width.
    before: [i64; 2],
    /// Height and width of the image.
    image_size: [i64; 2],
}

impl Conv {
    fn of(r: &Rewriter<'_>, site: &Site<'_>) -> Option<Conv> {
        let (image, weights) = (site.inputs[0]?, site.inputs[1]?);
        let (x, w) = (r.ty(image)?, r.ty(weights)?);
        let attrs = &site.data.attrs;
        let ones = |name: &str| attrs.ints(name).is_none_or(|a| a.iter().all(|n| *n == 1));
        let plain = ones("strides") && ones("dilations") && attrs.int("group") == Some(1);
        let (shape, kernel) = (w.static_shape()?, x.shape.get(2..)?);
        let constant = r.graph.constant(weights).is_some() && x.dtype == DType::F32;
        let [channels, depth, 3, 3] = shape[..] else { return None };
        if !plain || !constant || kernel.len() != 2 {
            return None;
        }
        let pads = constant_pads(attrs, kernel, &w.shape[2..])?;
        let image_size = [kernel[0].as_const()?, kernel[1].as_const()?];
        let size = |d: usize| image_size[d].checked_add(pads[d])?.checked_add(pads[d + 2])?.checked_sub(2);
        Some(Conv {
            image,
            weights,
            batch: crate::memory::typical(&x.shape[0]).max(1),
            batch_size: x.shape[0].clone(),
            depth: depth as i64,
            channels: channels as i64,
            size: [size(0)?, size(1)?],
            before: [pads[0], pads[1]],
            image_size,
        })
    }

    fn tiles(&self, tile: i64) -> [i64; 2] {
        self.size.map(|n| n / tile + i64::from(n % tile != 0))
    }

    /// What a tile size costs, in multiply-adds.
    fn cost(&self, tile: i64) -> f64 {
        let square = ((tile + 2) * (tile + 2)) as f64;
        let [depth, channels] = [self.depth, self.channels].map(|n| n as f64);
        let points = self.tiles(tile).iter().fold(self.batch as f64, |p, n| p * *n as f64) * square;
        let products = points * depth * channels * 2.0;
        let moved = points * (depth + channels) * PER_ELEMENT;
        (products + moved).max(square * depth * channels * 4.0 * PER_BYTE)
    }

    fn direct_cost(&self) -> f64 {
        let each = 9.0 * self.depth as f64 * self.channels as f64;
        let positions = self.size.iter().fold(self.batch as f64, |p, n| p * *n as f64);
        (positions * each * 2.0).max(each * 4.0 * PER_BYTE)
    }

    fn replace(&self, r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
        let declined = |why: &str| Ok(Outcome::Declined(why.to_owned()));
        if self.size.iter().any(|n| *n < 1) || self.depth.min(self.channels) < 16 {
            return declined("a convolution with few channels");
        }
        let tile = if self.cost(4) <= self.cost(2) { 4 } else { 2 };
        if self.cost(tile) * 5.0 > self.direct_cost() * 4.0 {
            return declined("the direct sum is as fast");
        }
        let (name, square) = (&site.data.name, (tile + 2) * (tile + 2));
        let tile_attr = || vec![("tile", Attr::Int(tile))];
        let padded = self.padded(r, tile)?;
        let tiles = r.op("WinogradInput", &[padded], tile_attr())?;
        let weights = constant_op(r, "WinogradWeights", &[self.weights], tile_attr())?;
        let weights = reshape(r, weights, &[square, self.depth, self.channels])?;
        // The batch may be a symbol: its dimension is the one that follows from the others.
        let [th, tw] = self.tiles(tile);
        let rows = self.batch_size.as_const().map_or(-1, |n| n * th * tw);
        let tiles = reshape(r, tiles, &[square, rows, self.depth])?;
        let products = r.op("MatMul", &[tiles, weights], Vec::new())?;
        let batch = self.batch_size.as_const().unwrap_or(-1);
        let products = reshape(r, products, &[tile + 2, tile + 2, batch, th, tw, self.channels])?;
        let mut attrs = tile_attr();
        attrs.push(("shape", Attr::Ints(self.size.to_vec())));
        let attrs = attrs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        let op = burin_ir::ops::by_name("WinogradOutput").ok_or("there is no op WinogradOutput")?;
        let node = r.builder().node(op, name, vec![Some(products)], attrs, 1, Vec::new())?;
        let result = r.graph.nodes[node].outputs[0];
        let Some(bias) = site.inputs.get(2).copied().flatten() else {
            return Ok(Outcome::Replace(vec![result]));
        };
        let bias = reshape(r, bias, &[self.channels, 1, 1])?;
        Ok(Outcome::Replace(vec![r.op("Add", &[result, bias], Vec::new())?]))
    }

    /// The image with its padding, and as much more as fills the last tiles.
    fn padded(&self, r: &mut Rewriter<'_>, tile: i64) -> Result<Value, String> {
        let tiles = self.tiles(tile);
        let after = [0, 1].map(|d| tiles[d] * tile + 2 - self.image_size[d] - self.before[d]);
        if self.before == [0, 0] && after == [0, 0] {
            return Ok(self.image);
        }
        let amounts = [0, 0, self.before[0], self.before[1], 0, 0, after[0], after[1]];
        let amounts = r.builder().constant(Tensor::new(&[8], &amounts));
        let zero = r.builder().constant(Tensor::scalar(DType::F32, Scalar::F(0.0)));
        let mode = vec![("mode", Attr::Str("constant".to_owned()))];
        r.op("Pad", &[self.image, amounts, zero], mode)
    }
}

fn reshape(r: &mut Rewriter<'_>, v: Value, shape: &[i64]) -> Result<Value, String> {
    let constant = r.graph.constant(v).is_some();
    let shape = r.builder().constant(Tensor::new(&[shape.len()], shape));
    match constant {
        true => constant_op(r, "Reshape", &[v, shape], Vec::new()),
        false => r.op("Reshape", &[v, shape], Vec::new()),
    }
}
