//! Encoded images: ImageDecoder.
//!
//! The host-op library decodes them. An image's size is asked for first, since the result has it.

use super::compose::{Built, Inputs, operand};
use super::shape::target;
use super::texts::{host, word};
use super::{Effect, Meaning, OpRow, one};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::Builder;
use crate::graph::infer::{Cx, Info};
use crate::types::TensorType;

/// Samples have a PNM image of one row: a red and a blue pixel.
macro_rules! sample {
    ($op:literal, $rest:literal) => {
        concat!($op, "(u8[17] = [80, 54, 10, 50, 32, 49, 10, 50, 53, 53, 10, 255, 0, 0, 0, 0, 255]", $rest)
    };
}

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        effect: Effect::Host,
        attrs: &[AttrSpec::new("pixel_format", AttrKind::Str, Default::Str("RGB"))],
        samples: &[sample!("ImageDecoder", ")"), sample!("ImageDecoder", ") {pixel_format = \"Grayscale\"}")],
        ..OpRow::new(
            "ImageDecoder",
            Some(("", 20)),
            &[one("encoded_stream")],
            |cx| {
                encoded(cx)?;
                let sizes = [(); 2].map(|()| Expr::from((cx.fresh)()));
                pixels(cx, &sizes)
            },
            Meaning::Composite(build),
        )
    },
    host(
        "ImageSize",
        &[one("encoded_stream"), one("format")],
        |cx| {
            encoded(cx)?;
            Ok(vec![TensorType::new(DType::I64, [2]).into()])
        },
        &[sample!("ImageSize", ", text[1] = [\"RGB\"])")],
    ),
    OpRow {
        attrs: &[AttrSpec::new("pixel_format", AttrKind::Str, Default::Str("RGB"))],
        ..host(
            "ImageDecode",
            &[one("encoded_stream"), one("format"), one("size").known()],
            |cx| {
                encoded(cx)?;
                pixels(cx, &target(cx, 2, "size")?)
            },
            &[sample!("ImageDecode", ", text[1] = [\"RGB\"], i64[2] = [1, 2])")],
        )
    },
];

fn encoded(cx: &Cx<'_>) -> Result<(), String> {
    match cx.ty(0)? {
        TensorType { dtype: DType::U8, shape } if shape.len() == 1 => Ok(()),
        other => Err(format!("input 0 is {other}, expected the bytes of a file, u8[n]")),
    }
}

/// Pixels of an image of that height and width.
fn pixels(cx: &Cx<'_>, size: &[Expr]) -> Result<Vec<Info>, String> {
    let channels = match cx.attrs.str("pixel_format") {
        Some("RGB" | "BGR") => 3,
        Some("Grayscale") => 1,
        other => return Err(format!("pixel_format is {other:?}, expected RGB, BGR or Grayscale")),
    };
    let shape = size.iter().cloned().chain([channels.into()]);
    Ok(vec![TensorType::new(DType::U8, shape).into()])
}

fn build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let name = cx.attrs.str("pixel_format").unwrap_or("RGB");
    let format = word(b, name);
    let size = b.op("ImageSize", &[x, format], vec![])?;
    let attrs = vec![("pixel_format", Attr::Str(name.to_owned()))];
    Ok(Some(vec![b.op("ImageDecode", &[x, format, size], attrs)?]))
}
