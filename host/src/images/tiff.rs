//! TIFF, by the crate `tiff`: of several images the first, turned as its orientation says.
//!
//! The crate declines palettes. Their indices are read as gray, from a copy of the file that says so.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::{ByteOrder, Tag};
use ::tiff::{ColorType, TiffError};

use super::{Image, Samples, Size, jpeg, number};

/// How many bytes of memory a pixel may take while it is decoded.
const MOST_BYTES: usize = 16;

/// The kind of a file's colors (`PhotometricInterpretation`) that is indices of a palette.
const PALETTE: u16 = 3;

struct Reader<'a> {
    decoder: Decoder<Cursor<Cow<'a, [u8]>>>,
    /// The size of the image as it lies in the file.
    stored: Size,
    orientation: u16,
    palette: bool,
}

fn say(error: TiffError) -> String {
    error.to_string()
}

impl<'a> Reader<'a> {
    fn new(bytes: Cow<'a, [u8]>) -> Result<Self, String> {
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(say)?;
        let (width, height) = decoder.dimensions().map_err(say)?;
        let mut tag = |tag| decoder.find_tag_unsigned::<u16>(tag).ok().flatten();
        let orientation = tag(Tag::Orientation).unwrap_or(1);
        let palette = tag(Tag::PhotometricInterpretation) == Some(PALETTE);
        Ok(Reader { decoder, stored: Size::new(height, width)?, orientation, palette })
    }

    /// Whether rows become columns.
    fn transposed(&self) -> bool {
        (5..=8).contains(&self.orientation)
    }

    fn size(&self) -> Size {
        let Size { height, width } = self.stored;
        if self.transposed() { Size { height: width, width: height } } else { self.stored }
    }
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    Reader::new(bytes.into()).map(|reader| reader.size())
}

pub(super) fn decode(bytes: &[u8], size: Size) -> Result<Image, String> {
    let mut reader = Reader::new(bytes.into())?;
    if reader.palette {
        let place = reader.decoder.ifd_pointer().ok_or("there is no directory")?.0;
        let gray = gray(bytes, place, reader.decoder.byte_order())?;
        reader = Reader { palette: true, ..Reader::new(gray.into())? };
    }
    let mut limits = Limits::default();
    // Palettes and the like are counted as well.
    limits.decoding_buffer_size = size.pixels()? * MOST_BYTES + limits.ifd_value_size;
    limits.intermediate_buffer_size = limits.decoding_buffer_size + bytes.len();
    reader.decoder = reader.decoder.with_limits(limits);
    let image = stored(&mut reader)?;
    Ok(if reader.orientation > 1 { turned(&image, &reader) } else { image })
}

/// The image as it lies in the file.
fn stored(reader: &mut Reader<'_>) -> Result<Image, String> {
    let Size { height, width } = reader.stored;
    let decoder = &mut reader.decoder;
    let color = decoder.colortype().map_err(say)?;
    let bits = usize::from(color.bit_depth());
    let count = usize::from(color.num_samples());
    let samples = match color {
        ColorType::Gray(_) if reader.palette => Samples::Rgb,
        ColorType::Gray(_) => Samples::Gray,
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => Samples::GrayAlpha,
        ColorType::RGB(_) | ColorType::YCbCr(_) => Samples::Rgb,
        ColorType::RGBA(_) => Samples::Rgba,
        ColorType::CMYK(_) => Samples::Cmyk,
        other => return Err(format!("{other:?} is not known")),
    };
    let mut decoded = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut decoded).map_err(say)?;
    let read: Vec<u8> = match decoded {
        DecodingResult::U8(all) => all,
        DecodingResult::U16(all) => all.into_iter().map(|sample| (sample >> 8) as u8).collect(),
        _ => return Err("samples that are not of 8 or 16 bits without a sign are not known".into()),
    };
    // Planes of one sample each, or one plane of all.
    let (planes, within) = if layout.planes > 1 { (count, 1) } else { (1, count) };
    let packed = bits < 8;
    let row = if packed { (width * within * bits).div_ceil(8) } else { width * within };
    if !matches!(bits, 1 | 2 | 4 | 8 | 16) || read.len() != planes * height * row {
        return Err(format!("{} samples of {bits} bits were decoded", read.len()));
    }
    let at = |plane: usize, y: usize, i: usize| {
        let row = &read[(plane * height + y) * row..][..row];
        if packed { row[i * bits / 8] >> (8 - bits - i * bits % 8) & ((1 << bits) - 1) } else { row[i] }
    };
    let palette = if reader.palette { Some(palette(decoder, bits)?) } else { None };
    let mut data = Vec::with_capacity(width * height * samples.count());
    for y in 0..height {
        for x in 0..width {
            if let Some(palette) = &palette {
                data.extend_from_slice(&palette[usize::from(at(0, y, x))]);
                continue;
            }
            for sample in 0..count {
                let value = if planes > 1 { at(sample, y, x) } else { at(0, y, x * count + sample) };
                data.push(if packed { value * (255 / ((1u16 << bits) - 1) as u8) } else { value });
            }
        }
    }
    if let ColorType::YCbCr(_) = color {
        for pixel in data.as_chunks_mut().0 {
            let [y, cb, cr] = *pixel;
            *pixel = jpeg::rgb(y, cb, cr);
        }
    }
    Ok(Image { samples, data })
}

/// A copy of a file, the colors of whose directory at `place` are gray.
fn gray(bytes: &[u8], place: u64, order: ByteOrder) -> Result<Vec<u8>, String> {
    let little = matches!(order, ByteOrder::LittleEndian);
    let u16_at =
        |at: usize| number(bytes, at).map(if little { u16::from_le_bytes } else { u16::from_be_bytes });
    let big = u16_at(2)? == 43;
    // How long the number of entries, an entry, and a value within an entry are.
    let (count, entry, value) = if big { (8, 20, 8) } else { (2, 12, 4) };
    let start =
        usize::try_from(place).ok().and_then(|p| p.checked_add(count)).ok_or("there is no directory")?;
    for at in (start..bytes.len()).step_by(entry) {
        if u16_at(at)? != Tag::PhotometricInterpretation.to_u16() {
            continue;
        }
        let mut copy = bytes.to_vec();
        let behind = at + entry;
        let value = copy.get_mut(behind - value..behind).ok_or("the directory is cut off")?;
        // 1, as a number of 16 bits, or of 32.
        value.fill(0);
        let last = if u16_at(at + 2)? == 3 { 1 } else { 3 };
        value[if little { 0 } else { last }] = 1;
        return Ok(copy);
    }
    Err("the directory says nothing of colors".into())
}

/// The colors of indices of so many bits, the upper halves of 16 bits.
fn palette(decoder: &mut Decoder<Cursor<Cow<'_, [u8]>>>, bits: usize) -> Result<Vec<[u8; 3]>, String> {
    if bits > 8 {
        return Err(format!("palettes of {bits} bits are not known"));
    }
    let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(say)?;
    let colors = 1 << bits;
    if map.len() != 3 * colors {
        return Err(format!("the palette has {} numbers, expected {}", map.len(), 3 * colors));
    }
    Ok((0..colors).map(|i| [0, 1, 2].map(|c| (map[c * colors + i] >> 8) as u8)).collect())
}

/// An image turned as its orientation says.
fn turned(image: &Image, reader: &Reader<'_>) -> Image {
    let Size { height, width } = reader.stored;
    let to = reader.size();
    let count = image.samples.count();
    let mut data = vec![0; image.data.len()];
    for (i, out) in data.chunks_exact_mut(count).enumerate() {
        let (y, x) = (i / to.width, i % to.width);
        let (y, x) = if reader.transposed() { (x, y) } else { (y, x) };
        // Which of the stored rows and columns are the image's first ones.
        let y = if matches!(reader.orientation, 3 | 4 | 6 | 7) { height - 1 - y } else { y };
        let x = if matches!(reader.orientation, 2 | 3 | 7 | 8) { width - 1 - x } else { x };
        out.copy_from_slice(&image.data[(y * width + x) * count..][..count]);
    }
    Image { samples: image.samples, data }
}
