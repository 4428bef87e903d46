//! The portable formats PBM, PGM and PPM, as texts and as bytes.

use alloc::format;
use alloc::string::String;

use super::{Image, Samples, Size, blank};

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Passes over whitespace, and comments from `#` to the end of the line.
    fn skip(&mut self) {
        while let Some(&c) = self.0.first() {
            if c == b'#' {
                while !matches!(self.next(), None | Some(b'\n' | b'\r')) {}
            } else if c.is_ascii_whitespace() {
                self.next();
            } else {
                break;
            }
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        self.skip();
        let mut number: Option<usize> = None;
        while let Some(c @ b'0'..=b'9') = self.0.first() {
            let longer =
                number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(usize::from(c - b'0')));
            number = Some(longer.ok_or("a number is too large")?);
            self.next();
        }
        number.ok_or_else(|| "a number is missing".into())
    }

    /// A sample of one bit, which need not be apart from the next one.
    fn digit(&mut self) -> Result<usize, String> {
        self.skip();
        match self.next() {
            Some(c @ (b'0' | b'1')) => Ok(usize::from(c - b'0')),
            _ => Err("a digit is missing, 0 or 1".into()),
        }
    }
}

/// What the header says.
struct Header<'a> {
    kind: u8,
    size: Size,
    most: usize,
    data: Reader<'a>,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let kind = bytes.get(1).copied().unwrap_or(0);
        let mut reader = Reader(bytes.get(2..).unwrap_or(&[]));
        let width = reader.number()?;
        let height = reader.number()?;
        let most = if matches!(kind, b'1' | b'4') { 1 } else { reader.number()? };
        if !(1..=65535).contains(&most) {
            return Err(format!("the largest sample is {most}, expected 1 to 65535"));
        }
        // One character of whitespace stands before the samples.
        reader.next();
        Ok(Header { kind, size: Size::new(height, width)?, most, data: reader })
    }
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    Header::read(bytes).map(|header| header.size)
}

pub(super) fn decode(bytes: &[u8], size: Size) -> Result<Image, String> {
    let Header { kind, most, data: mut reader, .. } = Header::read(bytes)?;
    let samples = if matches!(kind, b'3' | b'6') { Samples::Rgb } else { Samples::Gray };
    let mut data = blank(size, samples)?;
    let short =
        |expected: usize| format!("{} bytes of pixels were found, expected {expected}", reader.0.len());
    match kind {
        b'4' => {
            let stride = size.width.div_ceil(8);
            let packed = reader.0.get(..stride * size.height).ok_or_else(|| short(stride * size.height))?;
            for (row, packed) in data.chunks_exact_mut(size.width).zip(packed.chunks_exact(stride)) {
                for (i, out) in row.iter_mut().enumerate() {
                    *out = if packed[i / 8] >> (7 - i % 8) & 1 == 1 { 0 } else { 255 };
                }
            }
        }
        b'5' | b'6' => {
            let width = if most > 255 { 2 } else { 1 };
            let wide = reader.0.get(..data.len() * width).ok_or_else(|| short(data.len() * width))?;
            for (out, sample) in data.iter_mut().zip(wide.chunks_exact(width)) {
                *out = scaled(sample.iter().fold(0, |all, &byte| all << 8 | usize::from(byte)), most);
            }
        }
        b'1' => {
            for out in &mut data {
                *out = if reader.digit()? == 1 { 0 } else { 255 };
            }
        }
        _ => {
            for out in &mut data {
                *out = scaled(reader.number()?, most);
            }
        }
    }
    Ok(Image { samples, data })
}

/// A sample as one of at most 255; half-way, the even one.
fn scaled(sample: usize, most: usize) -> u8 {
    let exact = sample.min(most) * 255;
    let (below, left) = (exact / most, exact % most);
    let up = 2 * left > most || (2 * left == most && below % 2 == 1);
    (below + usize::from(up)) as u8
}
