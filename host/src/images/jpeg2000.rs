//! JPEG 2000, as a codestream or in a JP2 file, by the crate `hayro-jpeg2000`.
//!
//! The decoder allocates memory for every component and every tile that a header counts. So both are
//! counted here first.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext};

use super::{Image, Samples, Size, number};

/// Tiles are numbered in 16 bits.
const MOST_TILES: u64 = 1 << 16;

fn open(bytes: &[u8]) -> Result<hayro_jpeg2000::Image<'_>, String> {
    for stream in codestreams(bytes) {
        check(stream)?;
    }
    // Otherwise whatever is missing would be gray or blurred.
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    hayro_jpeg2000::Image::new(bytes, &settings).map_err(|e| e.to_string())
}

/// All codestreams of a file, which is one itself or consists of boxes.
fn codestreams(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.starts_with(b"\xff\x4f") {
        return alloc::vec![bytes];
    }
    let mut streams = Vec::new();
    let mut rest = bytes;
    while let (Ok(length), Ok(kind)) = (number(rest, 0).map(u32::from_be_bytes), number::<4>(rest, 4)) {
        let (head, length) = match (length, number(rest, 8).map(u64::from_be_bytes)) {
            (0, _) => (8, rest.len()),
            (1, Ok(length)) => (16, usize::try_from(length).unwrap_or(usize::MAX)),
            (length, _) => (8, length as usize),
        };
        // A box that is longer than the file is the rest of it.
        let end = length.min(rest.len());
        if end < head {
            break;
        }
        if &kind == b"jp2c" {
            streams.push(&rest[head..end]);
        }
        rest = &rest[end..];
    }
    streams
}

/// That a codestream has no more tiles and components than an image may have.
fn check(stream: &[u8]) -> Result<(), String> {
    // Behind the markers SOC and SIZ, a length and the capabilities.
    let u32_at = |i: usize| number(stream, 8 + 4 * i).map(|b| u64::from(u32::from_be_bytes(b)));
    let tiles = |axis: usize| -> Result<u64, String> {
        let (size, tile, offset) = (u32_at(axis)?, u32_at(4 + axis)?, u32_at(6 + axis)?);
        if tile == 0 {
            return Err("a tile has no pixels".into());
        }
        Ok(size.saturating_sub(offset).div_ceil(tile))
    };
    let tiles = tiles(0)?.saturating_mul(tiles(1)?);
    if tiles > MOST_TILES {
        return Err(format!("the image has {tiles} tiles, more than {MOST_TILES}"));
    }
    let components = u16::from_be_bytes(number(stream, 40)?);
    if !(1..=4).contains(&components) {
        return Err(format!("pixels have {components} components, expected 1 to 4"));
    }
    Ok(())
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    let image = open(bytes)?;
    Size::new(image.height(), image.width())
}

pub(super) fn decode(bytes: &[u8], size: Size) -> Result<Image, String> {
    let image = open(bytes)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|e| e.to_string())?;
    let components = decoded.components();
    let pixels = size.pixels()?;
    let samples = match (components.len(), image.color_space()) {
        (1, _) => Samples::Gray,
        (2, _) => Samples::GrayAlpha,
        (3, _) => Samples::Rgb,
        (4, ColorSpace::CMYK) if !image.has_alpha() => Samples::Cmyk,
        (4, _) => Samples::Rgba,
        (other, _) => return Err(format!("pixels of {other} components were decoded")),
    };
    if let Some(other) = components.iter().find(|c| c.samples().len() != pixels) {
        return Err(format!("a component has {} samples", other.samples().len()));
    }
    let count = samples.count();
    let mut data = alloc::vec![0; pixels * count];
    for (i, component) in components.iter().enumerate() {
        let bits = component.bit_depth();
        let most = ((1u64 << bits) - 1) as f32;
        for (out, &sample) in data[i..].iter_mut().step_by(count).zip(component.samples()) {
            // Halves go to the even side, as they do when integers are made of coefficients.
            let whole = sample.clamp(0.0, most).round_ties_even() as u64;
            *out = if bits > 8 { whole >> (bits - 8) } else { whole << (8 - bits) } as u8;
        }
    }
    Ok(Image { samples, data })
}
