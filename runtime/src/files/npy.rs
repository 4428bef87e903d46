//! NumPy's `.npy`.
//!
//! The header is read here rather than by a crate: it is a dictionary of three known keys, and a
//! parser of all Python literals would make up a tenth of a compiled model's executable.
//! Format: NEP 1, "A Simple File Format for NumPy Arrays", versions 1 to 3. NumPy has no bfloat16 and
//! no type below 8 bits: such tensors are written as `f32`, `i8` or `u8`, which hold their values.

use crate::tensor::{DType, Tensor, TensorRef, byte_count};
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The header's end is a multiple of this.
const HEADER_ALIGN: usize = 64;
/// Longer headers are refused: those of numbers have at most some hundred bytes.
const MAX_HEADER: usize = 65536;

/// NumPy's codes of the types that it has.
const CODES: [(DType, &str); 12] = [
    (DType::F64, "<f8"),
    (DType::F32, "<f4"),
    (DType::F16, "<f2"),
    (DType::I64, "<i8"),
    (DType::I32, "<i4"),
    (DType::I16, "<i2"),
    (DType::I8, "|i1"),
    (DType::U64, "<u8"),
    (DType::U32, "<u4"),
    (DType::U16, "<u2"),
    (DType::U8, "|u1"),
    (DType::Bool, "|b1"),
];

/// Reads the array in a file's bytes. What follows it is ignored.
pub fn read(bytes: &[u8]) -> Result<Tensor, String> {
    let (header, data) = read_header(bytes)?;
    if let Some(length) = header.text_length() {
        return read_texts(&header, data, length);
    }
    let dtype = header.dtype()?;
    let expected =
        byte_count(dtype, &header.shape).ok_or_else(|| format!("shape {:?} is too large", header.shape))?;
    let data = data.get(..expected).ok_or_else(|| {
        format!("the file is truncated: found {} bytes of data, expected {expected}", data.len())
    })?;
    let data = if header.fortran {
        Cow::Owned(row_major(data, &header.shape, dtype.bytes()))
    } else {
        Cow::Borrowed(data)
    };
    let mut t = Tensor::from_bytes(dtype, &header.shape, &data).map_err(|e| e.to_string())?;
    if header.code.starts_with('>') {
        t.bytes_mut().chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
    }
    Ok(t)
}

/// An array of texts: of so many characters of four bytes each, those after the last that is not zero apart.
fn read_texts(header: &Header, data: &[u8], length: usize) -> Result<Tensor, String> {
    let count = byte_count(DType::Text, &header.shape).map(|n| n / DType::Text.bytes());
    let width = length.checked_mul(4);
    let sized = width.and_then(|w| Some((w, count?.checked_mul(w)?, count?)));
    let (width, expected, count) = sized.ok_or_else(|| format!("shape {:?} is too large", header.shape))?;
    let data = data.get(..expected).ok_or_else(|| {
        format!("the file is truncated: found {} bytes of data, expected {expected}", data.len())
    })?;
    let data = if header.fortran && width > 0 {
        Cow::Owned(row_major(data, &header.shape, width))
    } else {
        Cow::Borrowed(data)
    };
    let character = |b: &[u8; 4]| {
        let code = if header.code.starts_with('>') { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) };
        char::from_u32(code).ok_or_else(|| format!("found a character of the code {code:#x}"))
    };
    let text = |i: usize| -> Result<String, String> {
        let all: String = data[i * width..(i + 1) * width]
            .as_chunks::<4>()
            .0
            .iter()
            .map(character)
            .collect::<Result<_, _>>()?;
        Ok(all.trim_end_matches('\0').to_owned())
    };
    let texts = (0..count).map(text).collect::<Result<Vec<String>, String>>()?;
    Tensor::from_texts(&header.shape, texts).map_err(|e| e.to_string())
}

/// How many characters the longest text has.
fn longest(texts: &[String]) -> usize {
    // NumPy has no texts of no characters.
    texts.iter().map(|t| t.chars().count()).max().unwrap_or(0).max(1)
}

struct Header {
    /// The type: byte order, kind, bytes.
    code: String,
    /// Whether the first index runs fastest.
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn dtype(&self) -> Result<DType, String> {
        let kind = self.code.trim_start_matches(['<', '>', '|', '=']);
        let known = CODES.iter().find(|c| &c.1[1..] == kind);
        known
            .map(|c| c.0)
            .ok_or_else(|| format!("found elements of type \"{}\", expected numbers or texts", self.code))
    }

    /// The characters of an element that is a text (`<U5`).
    fn text_length(&self) -> Option<usize> {
        self.code.trim_start_matches(['<', '>', '=']).strip_prefix('U')?.parse().ok()
    }

    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    fn parse(text: &str) -> Option<Header> {
        let value = |key: &str| Some(text.split_once(&format!("'{key}':"))?.1.trim_start());
        let code = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
        let order = value("fortran_order")?;
        let fortran = order.starts_with("True");
        if !fortran && !order.starts_with("False") {
            return None;
        }
        let extents = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let extents = extents.split(',').map(str::trim).filter(|e| !e.is_empty());
        // Python 2 wrote long integers with an L.
        let shape: Option<Vec<usize>> = extents.map(|e| e.trim_end_matches('L').parse().ok()).collect();
        Some(Header { code, fortran, shape: shape? })
    }
}

/// The header, and what follows it.
fn read_header(bytes: &[u8]) -> Result<(Header, &[u8]), String> {
    let short = || "not an .npy file: it ends within its header".to_owned();
    let (start, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    if !start.starts_with(MAGIC) {
        return Err("not an .npy file: it does not begin with \\x93NUMPY".to_owned());
    }
    let wide = start[6] > 1;
    let (len, rest) = rest.split_at_checked(if wide { 4 } else { 2 }).ok_or_else(short)?;
    let len = len.iter().rev().fold(0, |n, b| n << 8 | *b as usize);
    if len > MAX_HEADER {
        return Err(format!("the header has {len} bytes, expected at most {MAX_HEADER}"));
    }
    let (text, data) = rest.split_at_checked(len).ok_or_else(short)?;
    let header = core::str::from_utf8(text).ok().and_then(Header::parse);
    let header =
        header.ok_or_else(|| format!("found the header {:?}", String::from_utf8_lossy(text).trim_end()))?;
    Ok((header, data))
}

/// What a file with this tensor begins with. Its [`contents`] follow.
pub fn header(t: TensorRef<'_>) -> Vec<u8> {
    let dtype = written(t.dtype());
    let code = match t.as_texts() {
        Some(texts) => format!("<U{}", longest(texts)),
        None => CODES.iter().find(|c| c.0 == dtype).map_or("|V1", |c| c.1).to_owned(),
    };
    let extents: String = t.shape().iter().map(|d| format!("{d}, ")).collect();
    // As Python prints tuples: a comma follows the only element, but not the last of several.
    let extents = if t.shape().len() == 1 { extents.trim_end() } else { extents.trim_end_matches(", ") };
    let text = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let before = MAGIC.len() + 4;
    let len = (before + text.len() + 1).next_multiple_of(HEADER_ALIGN) - before;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.resize(before + len - 1, b' ');
    out.push(b'\n');
    out
}

/// What follows the [`header`].
pub fn contents(t: TensorRef<'_>) -> Cow<'_, [u8]> {
    if let Some(texts) = t.as_texts() {
        let width = longest(texts);
        let padded = |t: &String| {
            let codes: Vec<u32> = t.chars().map(u32::from).collect();
            (0..width).flat_map(move |i| codes.get(i).copied().unwrap_or(0).to_le_bytes())
        };
        return Cow::Owned(texts.iter().flat_map(padded).collect());
    }
    match written(t.dtype()) {
        DType::F32 if t.dtype() != DType::F32 => {
            Cow::Owned(t.to_f64s().flat_map(|v| (v as f32).to_le_bytes()).collect())
        }
        _ => Cow::Borrowed(t.bytes()),
    }
}

/// The type as which elements are written.
fn written(dtype: DType) -> DType {
    match dtype {
        DType::I4 | DType::I2 => DType::I8,
        DType::U4 | DType::U2 => DType::U8,
        known if CODES.iter().any(|c| c.0 == known) => known,
        _ => DType::F32,
    }
}

/// Writes a file; nothing is left of it on failure.
#[cfg(feature = "std")]
pub fn write_file(path: &std::path::Path, t: TensorRef<'_>) -> Result<(), crate::Error> {
    use std::io::Write;
    let make = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&header(t))?;
        file.write_all(&contents(t))
    };
    make().map_err(|e: std::io::Error| {
        // The failure that is reported is the first one.
        let _ = std::fs::remove_file(path);
        crate::Error::file(path, e)
    })
}

/// Column-major elements, in row-major order.
fn row_major(data: &[u8], shape: &[usize], element: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..data.len() / element {
        let at = index.iter().zip(shape).rev().fold(0, |at, (i, d)| at * d + i) * element;
        out.extend_from_slice(&data[at..at + element]);
        for (i, d) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    out
}
