//! NumPy's `.npy` (read and write) and `.npz` (read).
//!
//! NumPy has no bfloat16: such tensors are written as `f32`, which holds every value of theirs.

use crate::error::Error;
use crate::tensor::{BF16, DType, Tensor, TensorRef, byte_count};
use npyz::{Endianness, NpyHeader, Order, TypeChar, TypeStr, WriteOptions, WriterBuilder};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

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
    let header = NpyHeader::from_reader(&mut *from).map_err(|e| format!("not an .npy file: {e}"))?;
    let npyz::DType::Plain(ty) = header.dtype() else {
        return Err("found an array of records, expected one of numbers".to_owned());
    };
    let dtype =
        element_type(&ty).ok_or_else(|| format!("found elements of type \"{ty}\", expected numbers"))?;
    let shape: Option<Vec<usize>> = header.shape().iter().map(|d| usize::try_from(*d).ok()).collect();
    let sized = shape.and_then(|s| Some((byte_count(dtype, &s)?, s)));
    let (expected, shape) = sized.ok_or_else(|| format!("shape {:?} is too large", header.shape()))?;
    let mut data = Vec::new();
    from.take(expected as u64).read_to_end(&mut data).map_err(|e| e.to_string())?;
    if data.len() < expected {
        return Err(format!(
            "the file is truncated: found {} bytes of data, expected {expected}",
            data.len()
        ));
    }
    if ty.endianness() == Endianness::Big {
        data.chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
    }
    if header.order() == Order::Fortran {
        data = row_major(&data, &shape, dtype.bytes());
    }
    Tensor::from_bytes(dtype, &shape, &data).map_err(|e| e.to_string())
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
    let ty: TypeStr = code.parse().map_err(io::Error::other)?;
    let shape: Vec<u64> = t.shape().iter().map(|d| *d as u64).collect();
    let header = WriteOptions::new_header_only().dtype(npyz::DType::new_scalar(ty)).shape(&shape);
    header.writer(&mut *to).write_header_only()?;
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

fn element_type(ty: &TypeStr) -> Option<DType> {
    let kind = match ty.type_char() {
        c @ (TypeChar::Float | TypeChar::Int | TypeChar::Uint | TypeChar::Bool) => c.to_str(),
        _ => return None,
    };
    let code = format!("{kind}{}", ty.size_field());
    CODES.iter().find(|c| c.1[1..] == code).map(|c| c.0)
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
