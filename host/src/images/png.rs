//! PNG, by the crate `png`.

use alloc::string::{String, ToString};
use std::io::Cursor;

use ::png::{BitDepth, ColorType, Decoder, Limits, Reader, Transformations};

use super::{Image, Samples, Size, blank};

/// How much memory of its own a decoder may have beside rows.
const MOST_BYTES: usize = 64 << 20;

fn reader(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>, String> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MOST_BYTES });
    // Texts and profiles have no part in pixels, and may be large.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.read_info().map_err(|e| e.to_string())
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    let reader = reader(bytes)?;
    Size::new(reader.info().height, reader.info().width)
}

pub(super) fn decode(bytes: &[u8], size: Size) -> Result<Image, String> {
    let mut reader = reader(bytes)?;
    let samples = match reader.output_color_type() {
        (ColorType::Grayscale, BitDepth::Eight) => Samples::Gray,
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => Samples::GrayAlpha,
        (ColorType::Rgb, BitDepth::Eight) => Samples::Rgb,
        (ColorType::Rgba, BitDepth::Eight) => Samples::Rgba,
        (color, depth) => return Err(alloc::format!("{color:?} of {depth:?} bits is not known")),
    };
    let mut data = blank(size, samples)?;
    reader.next_frame(&mut data).map_err(|e| e.to_string())?;
    Ok(Image { samples, data })
}
