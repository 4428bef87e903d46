//! WebP, lossy and lossless, by the crate `image-webp`; of an animation, the first frame.

use alloc::string::{String, ToString};
use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{Image, Samples, Size, blank};

fn decoder(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, String> {
    WebPDecoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    let (width, height) = decoder(bytes)?.dimensions();
    Size::new(height, width)
}

pub(super) fn decode(bytes: &[u8], size: Size) -> Result<Image, String> {
    let mut decoder = decoder(bytes)?;
    let samples = if decoder.has_alpha() { Samples::Rgba } else { Samples::Rgb };
    let mut data = blank(size, samples)?;
    decoder.read_image(&mut data).map_err(|e| e.to_string())?;
    Ok(Image { samples, data })
}
