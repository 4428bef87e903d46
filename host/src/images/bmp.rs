//! BMP: plain, in palettes or fields of bits, or as runs.
//!
//! Fields narrower than 8 bits are scaled with their fractions cut off. What no run reaches has the first
//! color of the palette, and colors that the palette lacks are black.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Image, Samples, Size, blank, number};

/// What the header says.
struct Header {
    size: Size,
    /// Whether the first row is the top one.
    from_top: bool,
    bits: usize,
    method: Method,
    palette: Vec<[u8; 3]>,
    /// Where the pixels begin.
    data: usize,
}

enum Method {
    /// Indices of the palette.
    Palette,
    /// Runs of such indices.
    Runs,
    /// The bits of red, green and blue within a pixel.
    Fields([u32; 3]),
}

const BYTES: [u32; 3] = [0x00ff_0000, 0x0000_ff00, 0x0000_00ff];

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let u16_at = |at| number(bytes, at).map(u16::from_le_bytes);
        let u32_at = |at| number(bytes, at).map(u32::from_le_bytes);
        let data = u32_at(10)? as usize;
        let length = u32_at(14)? as usize;
        let (width, height, planes_at) = match length {
            12 => (i32::from(u16_at(18)?), i32::from(u16_at(20)?), 22),
            40.. => (u32_at(18)? as i32, u32_at(22)? as i32, 26),
            _ => return Err(format!("the header has {length} bytes, expected 12, or 40 and more")),
        };
        let bits = usize::from(u16_at(planes_at + 2)?);
        let (compression, colors) = if length == 12 { (0, 0) } else { (u32_at(30)?, u32_at(46)? as usize) };
        let method = match (compression, bits) {
            (0, 1 | 2 | 4 | 8) => Method::Palette,
            (1, 8) | (2, 4) => Method::Runs,
            (0, 16) => Method::Fields([0x7c00, 0x03e0, 0x001f]),
            (0, 24 | 32) => Method::Fields(BYTES),
            // The masks lie behind the shortest header, and within longer ones at the same place.
            (3 | 6, 16 | 32) => Method::Fields([u32_at(54)?, u32_at(58)?, u32_at(62)?]),
            _ => return Err(format!("pixels of {bits} bits by method {compression} are not known")),
        };
        let mut palette = Vec::new();
        if !matches!(method, Method::Fields(_)) {
            let most = 1 << bits;
            let colors = if colors == 0 { most } else { colors.min(most) };
            let entry = if length == 12 { 3 } else { 4 };
            // Entries end where pixels begin, or the header's length would have to be trusted with them.
            let start = length.saturating_add(14);
            let entries = bytes.get(start..data.min(bytes.len())).unwrap_or(&[]);
            palette.extend(entries.chunks_exact(entry).take(colors).map(|e| [e[2], e[1], e[0]]));
        }
        let size = Size::new(height.unsigned_abs(), width)?;
        Ok(Header { size, from_top: height < 0, bits, method, palette, data })
    }

    fn color(&self, index: u8) -> [u8; 3] {
        self.palette.get(usize::from(index)).copied().unwrap_or_default()
    }
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    Header::read(bytes).map(|header| header.size)
}

pub(super) fn decode(bytes: &[u8], size: Size) -> Result<Image, String> {
    let header = Header::read(bytes)?;
    let encoded = bytes.get(header.data..).unwrap_or(&[]);
    let Size { height, width } = size;
    // Rows of whole words.
    let stride = (width * header.bits).div_ceil(32) * 4;
    let plain = || {
        let rows = encoded.get(..stride * height);
        rows.ok_or_else(|| {
            format!("{} bytes of pixels were found, expected {}", encoded.len(), stride * height)
        })
    };
    let mut data = blank(size, Samples::Rgb)?;
    let rows = data.chunks_exact_mut(width * 3);
    match header.method {
        Method::Palette => {
            let per_byte = 8 / header.bits;
            let mask = ((1u32 << header.bits) - 1) as u8;
            for (row, packed) in rows.zip(plain()?.chunks_exact(stride)) {
                for (i, out) in row.as_chunks_mut().0.iter_mut().enumerate() {
                    let shift = (per_byte - 1 - i % per_byte) * header.bits;
                    *out = header.color((packed[i / per_byte] >> shift) & mask);
                }
            }
        }
        Method::Runs => {
            let indices = runs(encoded, size, header.bits == 4)?;
            for (out, index) in data.as_chunks_mut().0.iter_mut().zip(indices) {
                *out = header.color(index);
            }
        }
        Method::Fields(masks) => {
            let fields = masks.map(Field::new);
            for (row, packed) in rows.zip(plain()?.chunks_exact(stride)) {
                for (out, pixel) in row.chunks_exact_mut(3).zip(packed.chunks_exact(header.bits / 8)) {
                    let pixel = pixel.iter().rev().fold(0, |all, &byte| all << 8 | u32::from(byte));
                    for (out, field) in out.iter_mut().zip(&fields) {
                        *out = field.of(pixel);
                    }
                }
            }
        }
    }
    if !header.from_top {
        turn_over(&mut data, width * 3);
    }
    Ok(Image { samples: Samples::Rgb, data })
}

/// The bits of one color within a pixel.
struct Field {
    shift: u32,
    most: u32,
}

impl Field {
    fn new(mask: u32) -> Self {
        let shift = if mask == 0 { 0 } else { mask.trailing_zeros() };
        Field { shift, most: mask >> shift }
    }

    fn of(&self, pixel: u32) -> u8 {
        let value = u64::from(pixel >> self.shift & self.most);
        // A field without bits is black.
        (value * 255).checked_div(u64::from(self.most)).unwrap_or(0) as u8
    }
}

/// The indices that runs stand for, in the order of the file's rows.
fn runs(encoded: &[u8], Size { height, width }: Size, nibbles: bool) -> Result<Vec<u8>, String> {
    let mut out = alloc::vec![0u8; height * width];
    let (mut x, mut y) = (0, 0);
    let mut bytes = encoded.iter().copied();
    let mut next = || bytes.next().ok_or("the runs end before the image does");
    // Where a run leaves its row, the rest of it is nowhere.
    let mut put = |x: usize, y: usize, index: u8| {
        if x < width && y < height {
            out[y * width + x] = index;
        }
    };
    let nibble = |byte: u8, i: usize| match (nibbles, i % 2) {
        (false, _) => byte,
        (true, 0) => byte >> 4,
        (true, _) => byte & 15,
    };
    while y < height {
        match (next()?, next()?) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => break,
            (0, 2) => (x, y) = (x + usize::from(next()?), y + usize::from(next()?)),
            (0, length) => {
                let length = usize::from(length);
                let mut byte = 0;
                for i in 0..length {
                    if !nibbles || i % 2 == 0 {
                        byte = next()?;
                    }
                    put(x + i, y, nibble(byte, i));
                }
                x += length;
                // Their bytes come in pairs.
                if (if nibbles { length.div_ceil(2) } else { length }) % 2 == 1 {
                    next()?;
                }
            }
            (length, byte) => {
                let length = usize::from(length);
                for i in 0..length {
                    put(x + i, y, nibble(byte, i));
                }
                x += length;
            }
        }
    }
    Ok(out)
}

/// Puts the last row first.
fn turn_over(data: &mut [u8], stride: usize) {
    let mut rows = data.chunks_exact_mut(stride);
    while let (Some(first), Some(last)) = (rows.next(), rows.next_back()) {
        first.swap_with_slice(last);
    }
}
