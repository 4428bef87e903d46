//! What changed before opset 7: broadcasting was asked for, shapes were attributes, types had names,
//! and whether a node trains was its attribute. Ops that were dropped then are made of others.

use super::{Call, Outcome, Rule, defaulted_float, ints, ints_to_input, renamed_attr, rule};
use burin_ir::graph::{Builder, Value};
use burin_ir::{Attr, DType, Expr, Scalar, Tensor};

pub(super) const RULES: &[Rule] = &[
    rule("Add", 7, broadcast),
    rule("Sub", 7, broadcast),
    rule("Mul", 7, broadcast),
    rule("Div", 7, broadcast),
    rule("Pow", 7, broadcast),
    rule("And", 7, broadcast),
    rule("Or", 7, broadcast),
    rule("Xor", 7, broadcast),
    rule("Equal", 7, broadcast),
    rule("Greater", 7, broadcast),
    rule("Less", 7, broadcast),
    rule("Gemm", 7, |c, _| dropped(c, "broadcast")),
    rule("PRelu", 7, slope_of_channels),
    rule("BatchNormalization", 7, |c, _| inference_only(c)),
    rule("Dropout", 7, |c, _| inference_only(c)),
    rule("LSTM", 7, |c, _| dropped(c, "output_sequence")),
    rule("GRU", 7, |c, _| dropped(c, "output_sequence")),
    rule("RNN", 7, |c, _| dropped(c, "output_sequence")),
    rule("Upsample", 7, scales_of_sides),
    rule("Cast", 6, named_type),
    rule("Tile", 6, tile_along),
    rule("Selu", 6, |c, _| {
        defaulted_float(c, "alpha", 1.6732);
        defaulted_float(c, "gamma", 1.0507);
        Ok(None)
    }),
    rule("Reshape", 5, |c, b| ints_to_input(c, b, "shape", 1)),
    rule("Concat", 4, |c, _| {
        if c.attr("axis").is_none() {
            c.set("axis", Attr::Int(1));
        }
        Ok(None)
    }),
    rule("Pad", 2, |c, _| renamed_attr(c, "paddings", "pads")),
    rule("LpPool", 2, |c, _| whole_power(c)),
    rule("GlobalLpPool", 2, |c, _| whole_power(c)),
    rule("Affine", 10, affine),
    rule("ScaledTanh", 10, scaled_tanh),
    rule("ParametricSoftplus", 10, parametric_softplus),
    rule("Scale", 10, scale),
    rule("ImageScaler", 10, image_scaler),
    rule("Crop", 10, crop),
];

fn dropped(c: &mut Call, name: &str) -> Outcome {
    c.take(name);
    Ok(None)
}

/// The second operand stood for dimensions of the first from `axis` on, or for the last ones.
fn broadcast(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let (asked, axis) = (c.take_int("broadcast", 0)?, c.take("axis"));
    let Some(Attr::Int(axis)) = axis else { return Ok(None) };
    let (x, y) = (c.input(0)?, c.input(1)?);
    let (rank, own) = (b.ty(x)?.rank() as i64, b.ty(y)?.rank() as i64);
    let first = if axis < 0 { axis + rank } else { axis };
    if asked == 0 || !(0..=rank - own).contains(&first) {
        let wanted = "with broadcast = 1 and where the second operand has room";
        return Err(format!("axis {axis} for operands of ranks {rank} and {own}, expected one {wanted}"));
    }
    let y = with_trailing_ones(b, y, own..rank - first)?;
    c.set_input(1, y);
    Ok(None)
}

/// A value with further dimensions of 1, whose numbers are given.
fn with_trailing_ones(b: &mut Builder<'_>, v: Value, axes: std::ops::Range<i64>) -> Result<Value, String> {
    if axes.is_empty() {
        return Ok(v);
    }
    let axes = ints(b, &axes.collect::<Vec<_>>());
    b.op("Unsqueeze", &[v, axes], Vec::new())
}

/// A slope for each channel was a vector.
fn slope_of_channels(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let (x, slope) = (c.input(0)?, c.input(1)?);
    let rank = b.ty(x)?.rank() as i64;
    let is_vector = b.ty(slope)?.rank() == 1 && b.ty(slope)?.shape[0] != 1;
    if is_vector && rank > 2 {
        let slope = with_trailing_ones(b, slope, 1..rank - 1)?;
        c.set_input(1, slope);
    }
    Ok(None)
}

fn inference_only(c: &mut Call) -> Outcome {
    match c.take_int("is_test", 0)? {
        0 => Err("is_test = 0 (training) below opset 7 is not supported".into()),
        _ => Ok(None),
    }
}

/// The scales of an image's height and width were attributes of their own.
fn scales_of_sides(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    let (height, width) = (c.take_float("height_scale")?, c.take_float("width_scale")?);
    let (height, width) = height.zip(width).ok_or("height_scale or width_scale is missing")?;
    c.set("scales", Attr::Floats(vec![1.0, 1.0, height, width]));
    Ok(None)
}

/// Types had the names of `TensorProto`'s enumeration.
fn named_type(c: &mut Call, _: &mut Builder<'_>) -> Outcome {
    let Some(Attr::Str(name)) = c.take("to") else {
        return Err("attribute to is missing or is no string".into());
    };
    let dtype = match name.as_str() {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "FLOAT16" => DType::F16,
        "INT8" => DType::I8,
        "INT16" => DType::I16,
        "INT32" => DType::I32,
        "INT64" => DType::I64,
        "UINT8" => DType::U8,
        "UINT16" => DType::U16,
        "UINT32" => DType::U32,
        "UINT64" => DType::U64,
        "BOOL" => DType::Bool,
        _ => return Err(format!("attribute to is {name:?}, expected a type such as \"FLOAT\"")),
    };
    c.set("to", Attr::DType(dtype));
    Ok(None)
}

/// One axis was repeated, both said by inputs.
fn tile_along(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let known = |b: &Builder<'_>, i: usize, what: &str| {
        let v = c.input(i)?;
        let known = b.graph.values[v].known.as_ref().and_then(|k| k.first()?.as_const());
        known.ok_or_else(|| format!("input {i} ({what}) below opset 6 must be a constant number"))
    };
    let (tiles, axis) = (known(b, 1, "tiles")?, known(b, 2, "axis")?);
    let rank = b.ty(c.input(0)?)?.rank();
    let mut repeats = vec![1; rank];
    let at = usize::try_from(axis).ok().and_then(|a| repeats.get_mut(a));
    *at.ok_or_else(|| format!("axis {axis} is out of range for rank {rank}"))? = tiles;
    let repeats = ints(b, &repeats);
    c.inputs.truncate(1);
    c.set_input(1, repeats);
    Ok(None)
}

fn whole_power(c: &mut Call) -> Outcome {
    if let Some(Attr::Float(p)) = c.attr("p") {
        let p = *p;
        if p.fract() != 0.0 {
            return Err(format!("p = {p}, expected a whole number"));
        }
        c.take("p");
        c.set("p", Attr::Int(p as i64));
    }
    Ok(None)
}

/// A number of the type of the call's first operand.
fn number(c: &Call, b: &mut Builder<'_>, v: f64) -> Result<Value, String> {
    let dtype = b.ty(c.input(0)?)?.dtype;
    Ok(b.constant(Tensor::scalar(dtype, Scalar::F(v))))
}

/// The first operand times a float attribute.
fn times(c: &mut Call, b: &mut Builder<'_>, name: &str, default: f64) -> Result<Value, String> {
    let factor = c.take_float(name)?.unwrap_or(default);
    let factor = number(c, b, factor)?;
    b.op("Mul", &[c.input(0)?, factor], Vec::new())
}

fn affine(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let scaled = times(c, b, "alpha", 1.0)?;
    let beta = c.take_float("beta")?.unwrap_or(0.0);
    let beta = number(c, b, beta)?;
    Ok(Some(vec![b.op("Add", &[scaled, beta], Vec::new())?]))
}

fn scaled_tanh(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let inner = times(c, b, "beta", 1.0)?;
    let tanh = b.op("Tanh", &[inner], Vec::new())?;
    let alpha = c.take_float("alpha")?.unwrap_or(1.0);
    let alpha = number(c, b, alpha)?;
    Ok(Some(vec![b.op("Mul", &[tanh, alpha], Vec::new())?]))
}

fn parametric_softplus(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let inner = times(c, b, "beta", 1.0)?;
    let plus = b.op("Softplus", &[inner], Vec::new())?;
    let alpha = c.take_float("alpha")?.unwrap_or(1.0);
    let alpha = number(c, b, alpha)?;
    Ok(Some(vec![b.op("Mul", &[plus, alpha], Vec::new())?]))
}

fn scale(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    Ok(Some(vec![times(c, b, "scale", 1.0)?]))
}

/// An image `[n, c, h, w]` times a scale, and a bias for each channel.
fn image_scaler(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let dtype = b.ty(c.input(0)?)?.dtype;
    let scaled = times(c, b, "scale", 1.0)?;
    let bias = match c.take("bias") {
        Some(Attr::Floats(v)) => v,
        _ => return Err("attribute bias is missing, expected a float for each channel".into()),
    };
    let bias = b.constant(Tensor::from_f64s(dtype, &[bias.len(), 1, 1], &bias));
    Ok(Some(vec![b.op("Add", &[scaled, bias], Vec::new())?]))
}

/// An image without its border `[left, top, right, bottom]`, or from the border on so much as `scale`
/// says (`[height, width]`).
fn crop(c: &mut Call, b: &mut Builder<'_>) -> Outcome {
    let x = c.input(0)?;
    let border = c.take_ints("border")?.filter(|v| v.len() == 4);
    let border = border.ok_or("attribute border is missing, expected left, top, right and bottom")?;
    let sides: Vec<Expr> = b.ty(x)?.shape.iter().skip(2).cloned().collect();
    let [height, width] = &sides[..] else { return Err("expected an image [n, c, h, w]".into()) };
    let ends = match c.take_ints("scale")?.as_deref() {
        Some([h, w]) => [border[1].saturating_add(*h), border[0].saturating_add(*w)],
        None | Some([]) => {
            let known = |side: &Expr| side.as_const().ok_or("the image's sides must be constant");
            [known(height)?.saturating_sub(border[3]), known(width)?.saturating_sub(border[2])]
        }
        Some(other) => return Err(format!("scale {other:?}, expected height and width")),
    };
    let (starts, ends) = (ints(b, &[border[1], border[0]]), ints(b, &ends));
    let axes = ints(b, &[2, 3]);
    Ok(Some(vec![b.op("Slice", &[x, starts, ends, axes], Vec::new())?]))
}
