//! NumPy's `.npy` (read and write) and `.npz` (read).
//!
//! The header is read here rather than by a crate: it is a dictionary of three known keys, and a
//! parser of all Python literals would make up a tenth of a compiled model's executable.
//! Format: NEP 1, "A Simple File Format for NumPy Arrays", versions 1 to 3. NumPy has no bfloat16:
//! such tensors are written as `f32`, which holds every value of theirs.

use crate::error::Error;
use crate::tensor::{BF16, DType, Tensor, TensorRef, byte_count};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

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

/// Reads an array.
pub fn read(from: &mut impl Read) -> Result<Tensor, String> {
    let header = read_header(from)?;
    let dtype = header.dtype()?;
    let expected =
        byte_count(dtype, &header.shape).ok_or_else(|| format!("shape {:?} is too large", header.shape))?;
    let mut data = Vec::new();
    from.take(expected as u64).read_to_end(&mut data).map_err(|e| e.to_string())?;
    if data.len() < expected {
        return Err(format!(
            "the file is truncated: found {} bytes of data, expected {expected}",
            data.len()
        ));
    }
    if header.code.starts_with('>') {
        data.chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
    }
    if header.fortran {
        data = row_major(&data, &header.shape, dtype.bytes());
    }
    Tensor::from_bytes(dtype, &header.shape, &data).map_err(|e| e.to_string())
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
            .ok_or_else(|| format!("found elements of type \"{}\", expected numbers", self.code))
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

fn read_header(from: &mut impl Read) -> Result<Header, String> {
    let bad = |e: io::Error| format!("not an .npy file: {e}");
    let mut start = [0; 8];
    from.read_exact(&mut start).map_err(bad)?;
    if !start.starts_with(MAGIC) {
        return Err("not an .npy file: it does not begin with \\x93NUMPY".to_owned());
    }
    let mut len = [0; 4];
    let wide = start[6] > 1;
    from.read_exact(&mut len[..if wide { 4 } else { 2 }]).map_err(bad)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_HEADER {
        return Err(format!("the header has {len} bytes, expected at most {MAX_HEADER}"));
    }
    let mut text = vec![0; len];
    from.read_exact(&mut text).map_err(bad)?;
    let header = std::str::from_utf8(&text).ok().and_then(Header::parse);
    header.ok_or_else(|| format!("found the header {:?}", String::from_utf8_lossy(&text).trim_end()))
}

/// Reads an array from an `.npz` archive: the one called `name`, or the only one that there is.
pub fn read_archive(from: impl Read + Seek, name: &str) -> Result<Tensor, String> {
    let mut archive = zip::ZipArchive::new(from).map_err(|e| format!("not an .npz file: {e}"))?;
    let names: Result<Vec<String>, _> = archive.file_names().map(|n| n.map(|n| n.into_owned())).collect();
    let names = names.map_err(|e| format!("not an .npz file: {e}"))?;
    let wanted = format!("{name}.npy");
    let file = match &names[..] {
        [only] => only,
        all => all.iter().find(|n| **n == wanted).ok_or_else(|| {
            let all: Vec<&str> = all.iter().map(|n| n.trim_end_matches(".npy")).collect();
            format!("found the arrays {}, expected one called {name}", all.join(", "))
        })?,
    };
    let mut entry = archive.by_name(file).map_err(|e| format!("{file}: {e}"))?;
    read(&mut entry).map_err(|e| format!("{file}: {e}"))
}

/// Writes an array.
pub fn write(to: &mut impl Write, t: TensorRef<'_>) -> io::Result<()> {
    let dtype = if t.dtype() == DType::BF16 { DType::F32 } else { t.dtype() };
    let code = CODES.iter().find(|c| c.0 == dtype).map_or("|V1", |c| c.1);
    let extents: String = t.shape().iter().map(|d| format!("{d}, ")).collect();
    // As Python prints tuples: a comma follows the only element, but not the last of several.
    let extents = if t.shape().len() == 1 { extents.trim_end() } else { extents.trim_end_matches(", ") };
    let text = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let before = MAGIC.len() + 4;
    let len = (before + text.len() + 1).next_multiple_of(HEADER_ALIGN) - before;
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&(len as u16).to_le_bytes())?;
    writeln!(to, "{text:<width$}", width = len - 1)?;
    match t.as_slice::<BF16>() {
        Some(values) => values.iter().try_for_each(|v| to.write_all(&v.to_f32().to_le_bytes())),
        None => to.write_all(t.bytes()),
    }
}

/// Writes a file; nothing is left of it on failure.
pub fn write_file(path: &Path, t: TensorRef<'_>) -> Result<(), Error> {
    let make = || {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        write(&mut file, t)?;
        file.flush()
    };
    make().map_err(|e| {
        // The failure that is reported is the first one.
        let _ = std::fs::remove_file(path);
        Error::file(path, e)
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
