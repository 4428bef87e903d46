//! JPEG: baseline, extended and progressive, of 8 bits, coded by Huffman's method.
//!
//! ONNX asks for the chroma of libjpeg-turbo, and records are made with it. Decoders differ in what the
//! standard leaves open, by a few levels of 255; so this one computes what libjpeg-turbo does, to the
//! bit, where a file is whole: its exact integer transformation ([`idct`]), its upsampling ([`upsample`])
//! and its colors ([`color`]).
//!
//! Lossless files, arithmetic coding and samples of 12 bits are refused. So is damage that can be seen: a
//! code that no table has, data that end before the image does. No such image comes out in parts.

mod color;
mod idct;
mod scan;
mod upsample;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Image, Samples, Size, blank, number};
use color::Space;
pub(super) use color::rgb;
use scan::{Scan, Table};

/// Coefficients of a block, row by row.
const BLOCK: usize = 64;

/// Where the coefficients of a file lie in a block.
const ZIGZAG: [u8; BLOCK] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// More scans than refining every bit of every coefficient by itself would take are made to take time.
const MOST_SCANS: usize = 1000;

/// One channel of the image, at its own resolution.
struct Component {
    id: u8,
    /// How many samples it has along each axis for as many as the finest component's.
    across: usize,
    down: usize,
    /// Which table its steps of quantisation are in, and these, once a scan has them.
    table: usize,
    steps: Option<[u16; BLOCK]>,
    /// Its size in samples.
    width: usize,
    height: usize,
    /// How many blocks a row has, with those that fill up the last unit.
    blocks_across: usize,
    /// What refining scans need, of every block: empty where blocks come whole.
    coefficients: Vec<[i16; BLOCK]>,
    /// Samples, row by row of `8 * blocks_across`.
    plane: Vec<u8>,
}

impl Component {
    fn stride(&self) -> usize {
        8 * self.blocks_across
    }

    /// Writes the samples of a block.
    fn put(&mut self, block: usize, coefficients: &[i16; BLOCK]) {
        let stride = self.stride();
        let at = block / self.blocks_across * 8 * stride + block % self.blocks_across * 8;
        idct::block(coefficients, self.steps.as_ref().unwrap_or(&[0; BLOCK]), &mut self.plane[at..], stride);
    }
}

/// What the markers have said.
struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    quantisation: [Option<[u16; BLOCK]>; 4],
    /// Tables of codes: of the coefficients that are means of blocks, and of the others.
    means: [Option<Table>; 4],
    others: [Option<Table>; 4],
    /// How many units lie between two restarts; 0 for no restarts.
    restart: usize,
    jfif: bool,
    /// The transformation that Adobe's marker names.
    adobe: Option<u8>,
    frame: Option<Frame>,
}

/// The header of the frame and its components.
struct Frame {
    size: Size,
    progressive: bool,
    /// The most samples of any component along each axis of a unit.
    across: usize,
    down: usize,
    components: Vec<Component>,
}

pub(super) fn size(bytes: &[u8]) -> Result<Size, String> {
    let mut decoder = Decoder::new(bytes);
    loop {
        match decoder.marker()? {
            (0xc0..=0xc2, body) => return Frame::header(body),
            (0xd9 | 0xda, _) => return Err("there is no header of a frame".into()),
            other => decoder.told(other)?,
        }
    }
}

pub(super) fn decode(bytes: &[u8], _: Size) -> Result<Image, String> {
    let mut decoder = Decoder::new(bytes);
    let mut scans = 0;
    loop {
        match decoder.marker() {
            Ok((0xc0..=0xc2, _)) if decoder.frame.is_some() => return Err("there is a second frame".into()),
            Ok((kind @ 0xc0..=0xc2, body)) => decoder.frame = Some(Frame::new(body, kind == 0xc2)?),
            Ok((0xda, body)) => {
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(format!("there are more than {MOST_SCANS} scans"));
                }
                decoder.scan(body)?;
            }
            Ok((0xd9, _)) => break,
            Ok(other) => decoder.told(other)?,
            // Files that only lack their end are common.
            Err(_) if scans > 0 && decoder.at >= bytes.len() => break,
            Err(e) => return Err(e),
        }
    }
    let space = Space::of(&decoder)?;
    decoder.frame.ok_or("there is no header of a frame")?.image(space)
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Decoder {
            bytes,
            at: 2,
            quantisation: [None; 4],
            means: [const { None }; 4],
            others: [const { None }; 4],
            restart: 0,
            jfif: false,
            adobe: None,
            frame: None,
        }
    }

    /// The next marker and what belongs to it.
    fn marker(&mut self) -> Result<(u8, &'a [u8]), String> {
        // What stands between segments is passed over.
        let kind = loop {
            let rest = self.bytes.get(self.at..).unwrap_or(&[]);
            let Some(skip) = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff)) else {
                self.at = self.bytes.len();
                return Err("the image has no end".into());
            };
            self.at += skip + 2;
            let kind = rest[skip + 1];
            // Restarts belong to scans; the other ones have no meaning here.
            if !matches!(kind, 0x01 | 0xd0..=0xd8) {
                break kind;
            }
        };
        if kind == 0xd9 {
            return Ok((kind, &[]));
        }
        let length = usize::from(u16::from_be_bytes(number(self.bytes, self.at)?));
        let body = self.bytes.get(self.at + 2..self.at + length).ok_or("a segment is cut off")?;
        self.at += length;
        Ok((kind, body))
    }

    /// Takes in what a segment says that is neither frame nor scan.
    fn told(&mut self, (kind, mut body): (u8, &'a [u8])) -> Result<(), String> {
        const SHORT: &str = "a table is cut off";
        match kind {
            0xdb => {
                while let Some((&head, rest)) = body.split_first() {
                    let wide = usize::from(head >> 4) + 1;
                    let table = self.quantisation.get_mut(usize::from(head & 15)).filter(|_| wide <= 2);
                    let table = table.ok_or_else(|| format!("there is no quantisation table {head:#x}"))?;
                    let (steps, rest) = rest.split_at_checked(BLOCK * wide).ok_or(SHORT)?;
                    let mut natural = [0; BLOCK];
                    for (step, &at) in steps.chunks_exact(wide).zip(&ZIGZAG) {
                        natural[usize::from(at)] = step.iter().fold(0, |all, &b| all << 8 | u16::from(b));
                    }
                    *table = Some(natural);
                    body = rest;
                }
            }
            0xc4 => {
                while let Some((&head, rest)) = body.split_first() {
                    let tables = if head >> 4 == 0 { &mut self.means } else { &mut self.others };
                    let table = tables.get_mut(usize::from(head & 15)).filter(|_| head >> 4 <= 1);
                    let table = table.ok_or_else(|| format!("there is no table of codes {head:#x}"))?;
                    let (counts, rest) = rest.split_first_chunk().ok_or(SHORT)?;
                    let codes = counts.iter().map(|&n| usize::from(n)).sum();
                    let (values, rest) = rest.split_at_checked(codes).ok_or(SHORT)?;
                    *table = Some(Table::new(counts, values)?);
                    body = rest;
                }
            }
            0xdd => self.restart = usize::from(u16::from_be_bytes(number(body, 0)?)),
            0xe0 if body.starts_with(b"JFIF\0") => self.jfif = true,
            0xee if body.starts_with(b"Adobe") => self.adobe = body.get(11).copied().or(self.adobe),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(format!("the method of coding {:#04x} is not known", kind));
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a scan: its header, then its data.
    fn scan(&mut self, body: &[u8]) -> Result<(), String> {
        let frame = self.frame.as_mut().ok_or("a scan comes before the header of the frame")?;
        let scan = Scan::new(body, frame)?;
        for &(i, ..) in &scan.parts {
            let component = &mut frame.components[i];
            if component.steps.is_none() {
                let steps = self.quantisation[component.table];
                component.steps = Some(steps.ok_or("a quantisation table is missing")?);
            }
        }
        let read = scan.read(frame, &self.means, &self.others, self.restart, &self.bytes[self.at..])?;
        self.at += read;
        Ok(())
    }
}

impl Frame {
    /// The size, by the header of the frame.
    fn header(body: &[u8]) -> Result<Size, String> {
        match body {
            [8, y1, y0, x1, x0, ..] => {
                Size::new(u16::from_be_bytes([*y1, *y0]), u16::from_be_bytes([*x1, *x0]))
            }
            [bits, ..] => Err(format!("samples of {bits} bits are not known")),
            [] => Err("the header of the frame is cut off".into()),
        }
    }

    fn new(body: &[u8], progressive: bool) -> Result<Self, String> {
        let size = Self::header(body)?;
        size.pixels()?;
        let (count, parts) = body.get(5..).and_then(|b| b.split_first()).ok_or("the frame is cut off")?;
        let (parts, []) = parts.as_chunks::<3>() else { return Err("the frame is cut off".into()) };
        if parts.len() != usize::from(*count) || !matches!(count, 1 | 3 | 4) {
            return Err(format!("the frame has {count} components, expected 1, 3 or 4"));
        }
        let factor = |nibble: u8| match nibble {
            1..=4 => Ok(usize::from(nibble)),
            _ => Err(format!("the sampling factor {nibble} is none of 1 to 4")),
        };
        let factors: Vec<(usize, usize)> = parts
            .iter()
            .map(|p| Ok((factor(p[1] >> 4)?, factor(p[1] & 15)?)))
            .collect::<Result<_, String>>()?;
        let across = factors.iter().map(|f| f.0).max().unwrap_or(1);
        let down = factors.iter().map(|f| f.1).max().unwrap_or(1);
        let mut components = Vec::with_capacity(parts.len());
        for (&[id, _, table], (own_across, own_down)) in parts.iter().zip(factors) {
            if across % own_across != 0 || down % own_down != 0 {
                return Err("a component's samples do not divide those of another".into());
            }
            let blocks_across = size.width.div_ceil(8 * across) * own_across;
            let blocks_down = size.height.div_ceil(8 * down) * own_down;
            let blocks = blocks_across * blocks_down;
            components.push(Component {
                id,
                across: own_across,
                down: own_down,
                table: usize::from(table & 3),
                steps: None,
                width: (size.width * own_across).div_ceil(across),
                height: (size.height * own_down).div_ceil(down),
                blocks_across,
                coefficients: if progressive { vec![[0; BLOCK]; blocks] } else { Vec::new() },
                plane: vec![0; blocks * BLOCK],
            });
        }
        Ok(Frame { size, progressive, across, down, components })
    }

    /// The pixels, once all scans are read.
    fn image(mut self, space: Space) -> Result<Image, String> {
        for component in &mut self.components {
            if component.steps.is_none() {
                return Err("a component is in no scan".into());
            }
            let coefficients = core::mem::take(&mut component.coefficients);
            for (i, block) in coefficients.iter().enumerate() {
                component.put(i, block);
            }
        }
        let samples = space.samples();
        let mut data = blank(self.size, samples)?;
        let row = samples.count() * self.size.width;
        let mut channels = vec![vec![0u8; self.size.width]; self.components.len()];
        for (y, out) in data.chunks_exact_mut(row).enumerate() {
            for (channel, component) in channels.iter_mut().zip(&self.components) {
                upsample::row(
                    component,
                    self.across / component.across,
                    self.down / component.down,
                    y,
                    channel,
                );
            }
            space.row(&channels, out);
        }
        Ok(Image { samples, data })
    }
}
