//! Encoded images: how large they are, and their pixels.
//!
//! The formats are those of ONNX's `ImageDecoder`, told apart by how their bytes begin. What comes out is
//! what Pillow makes of the same bytes, the reference that ONNX records with: alpha is dropped, not
//! blended; of samples wider than 8 bits the upper 8 remain (of gray ones too, which Pillow clips at 255);
//! nothing is turned, but for TIFF's orientation; of several images the first is taken.
//!
//! As `ImageDecoder` has it, bytes that no image begins with are an empty image, of height and width 0. An
//! image whose header is well and whose rest is not has a size and is an error when it is decoded. So is
//! one of more than [`MOST_PIXELS`]; memory is allocated only for what the result has room for.

mod bmp;
mod jpeg;
mod jpeg2000;
mod png;
mod pnm;
mod tiff;
mod webp;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::buffers::{count, one_text, quoted, view_mut};
use crate::{Kind, Op};

/// The ops of this file.
pub(crate) const OPS: &[Op] = &[
    Op {
        name: "ImageSize",
        inputs: &[Kind::U8, Kind::Text],
        outputs: &[Kind::I64],
        call: |inputs, outputs, texts| {
            Channels::named(&one_text(texts, "format", inputs[1])?)?;
            let out = view_mut::<i64>(outputs[0])?;
            count("results", out.len(), 2)?;
            let size = size(inputs[0]).unwrap_or(Size { height: 0, width: 0 });
            size.pixels()?;
            out[0] = size.height as i64;
            out[1] = size.width as i64;
            Ok(())
        },
    },
    Op {
        name: "ImageDecode",
        inputs: &[Kind::U8, Kind::Text],
        outputs: &[Kind::U8],
        call: |inputs, outputs, texts| {
            decode(inputs[0], Channels::named(&one_text(texts, "format", inputs[1])?)?, outputs[0])
        },
    },
];

/// No larger image is taken.
const MOST_PIXELS: usize = 1 << 28;

/// What a pixel of a result consists of.
#[derive(Clone, Copy, PartialEq)]
enum Channels {
    Rgb,
    Bgr,
    Gray,
}

impl Channels {
    fn named(name: &str) -> Result<Self, String> {
        match name {
            "RGB" => Ok(Channels::Rgb),
            "BGR" => Ok(Channels::Bgr),
            "Grayscale" => Ok(Channels::Gray),
            _ => Err(format!("the format is {}, expected \"RGB\", \"BGR\" or \"Grayscale\"", quoted(name))),
        }
    }

    fn count(self) -> usize {
        if self == Channels::Gray { 1 } else { 3 }
    }
}

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size {
    height: usize,
    width: usize,
}

impl Size {
    /// From the numbers of a header, neither of which may be 0.
    fn new(height: impl TryInto<usize>, width: impl TryInto<usize>) -> Result<Self, String> {
        match (height.try_into(), width.try_into()) {
            (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok(Size { height, width }),
            _ => Err("the image has no pixels, or more than can be counted".into()),
        }
    }

    /// How many pixels there are, if they may be that many.
    fn pixels(self) -> Result<usize, String> {
        self.height.checked_mul(self.width).filter(|&n| n <= MOST_PIXELS).ok_or_else(|| {
            format!("the image has {}x{} pixels, more than {MOST_PIXELS}", self.width, self.height)
        })
    }
}

/// What a pixel of a decoded image consists of, each sample a byte.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Samples {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
    /// Full ink is 255.
    Cmyk,
}

impl Samples {
    fn count(self) -> usize {
        match self {
            Samples::Gray => 1,
            Samples::GrayAlpha => 2,
            Samples::Rgb => 3,
            Samples::Rgba | Samples::Cmyk => 4,
        }
    }
}

/// A decoded image, row by row from its top.
struct Image {
    samples: Samples,
    data: Vec<u8>,
}

/// One format.
struct Format {
    name: &'static str,
    is: fn(&[u8]) -> bool,
    /// The size by the header alone.
    size: fn(&[u8]) -> Result<Size, String>,
    /// The pixels, given the size that the header has: not more than [`MOST_PIXELS`].
    decode: fn(&[u8], Size) -> Result<Image, String>,
}

const FORMATS: &[Format] = &[
    Format { name: "JPEG", is: |b| b.starts_with(b"\xff\xd8\xff"), size: jpeg::size, decode: jpeg::decode },
    Format { name: "PNG", is: |b| b.starts_with(b"\x89PNG\r\n\x1a\n"), size: png::size, decode: png::decode },
    Format { name: "BMP", is: |b| b.starts_with(b"BM"), size: bmp::size, decode: bmp::decode },
    Format {
        name: "WebP",
        is: |b| b.starts_with(b"RIFF") && b.get(8..12) == Some(b"WEBP"),
        size: webp::size,
        decode: webp::decode,
    },
    Format {
        name: "TIFF",
        is: |b| [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| b.starts_with(*magic)),
        size: tiff::size,
        decode: tiff::decode,
    },
    Format {
        name: "JPEG 2000",
        is: |b| b.starts_with(b"\0\0\0\x0cjP  \r\n\x87\n") || b.starts_with(b"\xff\x4f\xff\x51"),
        size: jpeg2000::size,
        decode: jpeg2000::decode,
    },
    Format {
        name: "PNM",
        is: |b| matches!(b, [b'P', b'1'..=b'6', c, ..] if c.is_ascii_whitespace()),
        size: pnm::size,
        decode: pnm::decode,
    },
];

fn format_of(encoded: &[u8]) -> Result<&'static Format, String> {
    let found = FORMATS.iter().find(|f| (f.is)(encoded));
    found.ok_or_else(|| {
        let start = &encoded[..encoded.len().min(8)];
        format!("the image begins with {start:02x?}, which no format that is known does")
    })
}

fn size(encoded: &[u8]) -> Result<Size, String> {
    let format = format_of(encoded)?;
    (format.size)(encoded).map_err(|e| format!("{}: {e}", format.name))
}

fn decode(encoded: &[u8], channels: Channels, out: &mut [u8]) -> Result<(), String> {
    let size = match size(encoded) {
        Ok(size) => size,
        Err(_) if out.is_empty() => return Ok(()),
        Err(e) => return Err(e),
    };
    let pixels = size.pixels()?;
    count("results", out.len(), pixels * channels.count())?;
    let format = format_of(encoded)?;
    let image = (format.decode)(encoded, size).map_err(|e| format!("{}: {e}", format.name))?;
    let samples = image.samples.count();
    if image.data.len() != pixels * samples {
        return Err(format!("{}: {} samples were decoded", format.name, image.data.len()));
    }
    for (out, pixel) in out.chunks_exact_mut(channels.count()).zip(image.data.chunks_exact(samples)) {
        let [r, g, b] = match (image.samples, pixel) {
            (Samples::Gray | Samples::GrayAlpha, &[y, ..]) => [y; 3],
            (Samples::Rgb | Samples::Rgba, &[r, g, b, ..]) => [r, g, b],
            (Samples::Cmyk, &[c, m, y, k]) => {
                [c, m, y].map(|ink| (255 - k).saturating_sub(mul(ink, 255 - k)))
            }
            _ => unreachable!("a pixel has as many samples as were counted"),
        };
        match (channels, out) {
            (Channels::Rgb, out) => out.copy_from_slice(&[r, g, b]),
            (Channels::Bgr, out) => out.copy_from_slice(&[b, g, r]),
            (Channels::Gray, out) => out[0] = luma(r, g, b),
        }
    }
    Ok(())
}

/// `a * b / 255`, rounded, as Pillow does it.
fn mul(a: u8, b: u8) -> u8 {
    let x = u32::from(a) * u32::from(b) + 128;
    ((x + (x >> 8)) >> 8) as u8
}

/// The luma of ITU-R 601-2 in fixed point, as Pillow has it. Of equal samples it is that sample.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// A number in a header.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let found = bytes.get(at..).and_then(|b| b.first_chunk());
    found.copied().ok_or_else(|| "the image ends within its header".into())
}

/// Zeroed memory for a number of samples for each pixel.
fn blank(size: Size, samples: Samples) -> Result<Vec<u8>, String> {
    Ok(alloc::vec![0; size.pixels()? * samples.count()])
}

#[cfg(test)]
mod tests;
