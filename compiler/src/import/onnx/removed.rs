//! Ops that ONNX had in its first versions and removed, which old exports still hold, as ops of today.

use super::fused::number;
use super::upgrade::{Call, Outcome, ints};
use burin_ir::graph::{Builder, Value};
use burin_ir::{Attr, Tensor};

/// `x * scale + shift`, where numbers that change nothing are left out.
fn line(b: &mut Builder<'_>, x: Value, scale: f64, shift: f64) -> Result<Value, String> {
    let mut y = x;
    for (op, v, neutral) in [("Mul", scale, 1.0), ("Add", shift, 0.0)] {
        if v != neutral {
            let v = number(b, x, v)?;
            y = b.op(op, &[y, v], Vec::new())?;
        }
    }
    Ok(y)
}

/// `alpha * x + beta`
pub(super) fn affine(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let (scale, shift) = (c.take_float("alpha")?.unwrap_or(1.0), c.take_float("beta")?.unwrap_or(0.0));
    Ok(Some(vec![line(b, c.input(0)?, scale, shift)?]))
}

/// `scale * x`
pub(super) fn scale(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let scale = c.take_float("scale")?.unwrap_or(1.0);
    Ok(Some(vec![line(b, c.input(0)?, scale, 0.0)?]))
}

/// `alpha * log(1 + exp(beta * x))`
pub(super) fn parametric_softplus(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let (alpha, beta) = (c.take_float("alpha")?.unwrap_or(1.0), c.take_float("beta")?.unwrap_or(1.0));
    let inner = line(b, c.input(0)?, beta, 0.0)?;
    let y = b.op("Softplus", &[inner], Vec::new())?;
    Ok(Some(vec![line(b, y, alpha, 0.0)?]))
}

/// `alpha * tanh(beta * x)`
pub(super) fn scaled_tanh(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let (alpha, beta) = (c.take_float("alpha")?.unwrap_or(1.0), c.take_float("beta")?.unwrap_or(1.0));
    let inner = line(b, c.input(0)?, beta, 0.0)?;
    let y = b.op("Tanh", &[inner], Vec::new())?;
    Ok(Some(vec![line(b, y, alpha, 0.0)?]))
}

/// `scale * x + bias`, with a bias for each channel.
pub(super) fn image_scaler(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let scale = c.take_float("scale")?.unwrap_or(1.0);
    let bias = c.take_floats("bias")?;
    let x = c.input(0)?;
    let y = line(b, x, scale, 0.0)?;
    if bias.is_empty() {
        return Ok(Some(vec![y]));
    }
    let bias = b.constant(Tensor::from_f64s(b.ty(x)?.dtype, &[bias.len(), 1, 1], &bias));
    Ok(Some(vec![b.op("Add", &[y, bias], Vec::new())?]))
}

/// A part of an image: without the border or, where a size is given, of that size from the border on.
pub(super) fn crop(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let x = c.input(0)?;
    let border = c.take_ints("border")?.unwrap_or_default();
    let (&[left, top, right, bottom], 4) = (&border[..], b.ty(x)?.rank()) else {
        return Err(format!("border is {border:?} and input 0 {}, expected four of each", b.ty(x)?));
    };
    let ends = match c.take_ints("scale")?.as_deref() {
        Some(&[height, width]) => [top.saturating_add(height), left.saturating_add(width)],
        None | Some([]) => {
            [if bottom > 0 { -bottom } else { i64::MAX }, if right > 0 { -right } else { i64::MAX }]
        }
        Some(other) => return Err(format!("scale is {other:?}, expected height and width")),
    };
    let (starts, ends, axes) = (ints(b, &[top, left]), ints(b, &ends), ints(b, &[2, 3]));
    Ok(Some(vec![b.op("Slice", &[x, starts, ends, axes], Vec::new())?]))
}

/// Scales of height and width, before they were scales of all dimensions.
pub(super) fn upsample(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    if let (Some(height), Some(width)) = (c.take_float("height_scale")?, c.take_float("width_scale")?) {
        c.set("scales", Attr::Floats(vec![1.0, 1.0, height, width]));
    }
    if let Some(Attr::Str(mode)) = c.attr("mode")
        && mode == "bilinear"
    {
        c.attrs.retain(|(name, _)| name != "mode");
        c.set("mode", Attr::Str("linear".to_owned()));
    }
    Ok(None)
}
