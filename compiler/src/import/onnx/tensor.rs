//! Constant tensors of ONNX files: in the message, in typed fields, sparse, or in a file beside it.
//!
//! Whatever a file declares, nothing is allocated before the bytes that it needs were found. Raw
//! and external data stay where they are mapped.

use super::proto::{SparseTensorProto, TensorProto};
use burin_ir::tensor::element_count;
use burin_ir::{DType, Scalar, Tensor, scalar};
use bytes::Bytes;
use half::{bf16, f16};
use memmap2::Mmap;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// The most bytes of a sparse constant once it is made dense.
const SPARSE_LIMIT: usize = 1 << 27;

/// The names of ONNX's element types, by number.
const TYPE_NAMES: [&str; 29] = [
    "undefined",
    "float",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "double",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
    "float6e2m3",
    "float6e3m2",
];

/// The element type of an ONNX number.
pub fn dtype(number: i64) -> Result<DType, String> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::Text,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        17 => DType::F8E4M3FN,
        18 => DType::F8E4M3FNUZ,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2FNUZ,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        other => {
            let name = usize::try_from(other).ok().and_then(|i| TYPE_NAMES.get(i));
            return Err(match name {
                Some(name) => format!("element type {name} is not supported"),
                None => format!("element type {other} does not exist"),
            });
        }
    })
}

/// Maps a file into memory.
pub fn map_file(path: &Path) -> std::io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    // SAFETY: the mapping is private and only ever read as bytes, for which every value is valid. As
    // with every mapped file, whoever shortens it while it is in use breaks the process.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

/// Files beside the model that hold constants.
#[derive(Default, Clone)]
pub(super) struct Files {
    /// The model's folder; absent for a model that came from memory.
    folder: Option<PathBuf>,
    mapped: HashMap<String, Bytes>,
}

impl Files {
    pub(super) fn beside(folder: Option<&Path>) -> Files {
        let folder = folder.map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f }.to_owned());
        Files { folder, mapped: HashMap::new() }
    }

    /// The mapped contents of a file that must lie in the model's folder.
    fn get(&mut self, location: &str) -> Result<Bytes, String> {
        if let Some(found) = self.mapped.get(location) {
            return Ok(found.clone());
        }
        let folder = self.folder.as_ref().ok_or_else(|| {
            format!("external data {location:?} needs a model that was read from a file, not from memory")
        })?;
        let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !Path::new(location).components().all(inside) {
            return Err(format!(
                "external data {location:?} must be a relative path inside the model's folder"
            ));
        }
        let io = |e: std::io::Error| format!("external data {location:?}: {e}");
        let root = folder.canonicalize().map_err(io)?;
        let path = root.join(location).canonicalize().map_err(io)?;
        if !path.starts_with(&root) {
            return Err(format!("external data {location:?} leads out of the model's folder"));
        }
        let bytes = map_file(&path).map_err(io)?;
        self.mapped.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

/// The shape and its number of elements, checked.
fn shape_of(dims: &[i64], dtype: DType) -> Result<(Vec<usize>, usize), String> {
    let shape: Vec<usize> = dims
        .iter()
        .map(|d| usize::try_from(*d).map_err(|_| format!("dimension {d} is negative in shape {dims:?}")))
        .collect::<Result<_, _>>()?;
    let count = element_count(dtype, &shape)
        .ok_or_else(|| format!("a tensor {dtype}{shape:?} is larger than the address space"))?;
    Ok((shape, count))
}

/// A tensor with its contents.
pub(super) fn tensor(t: &TensorProto, files: &mut Files) -> Result<Tensor, String> {
    let dtype = dtype(t.data_type.into())?;
    let (shape, count) = shape_of(&t.dims, dtype)?;
    if dtype == DType::Text {
        return texts(t, &shape, count);
    }
    let data = match &t.raw_data {
        _ if t.data_location == 1 => external(t, packed_bytes(dtype, count), files)?,
        // Some writers set an empty `raw_data` beside a typed field.
        Some(raw) if !raw.is_empty() || count == 0 => raw.clone(),
        _ => typed(t, dtype, count)?,
    };
    if dtype.packed_bits() == 8 || dtype.bits() > 8 {
        return normalised(Tensor::from_bytes(dtype, shape, data)?);
    }
    let expected = packed_bytes(dtype, count);
    if data.len() != expected {
        return Err(format!("{dtype}{shape:?} takes {expected} bytes, found {}", data.len()));
    }
    Tensor::from_bytes(dtype, shape, unpacked(dtype, &data, count))
}

/// A tensor of texts, which have a field of their own.
fn texts(t: &TensorProto, shape: &[usize], count: usize) -> Result<Tensor, String> {
    if t.string_data.len() != count {
        return Err(format!("{count} elements expected in string_data, found {}", t.string_data.len()));
    }
    let text = |(i, b): (usize, &Bytes)| {
        std::str::from_utf8(b).map(str::to_owned).map_err(|_| format!("element {i} is not UTF-8"))
    };
    let all = t.string_data.iter().enumerate().map(text).collect::<Result<Vec<String>, String>>()?;
    Ok(Tensor::texts(shape, &all))
}

/// The bytes that so many elements take in a file, where those below 8 bits are packed.
fn packed_bytes(dtype: DType, count: usize) -> usize {
    match dtype.packed_bits() {
        bits @ 0..8 => count.div_ceil((8 / bits) as usize),
        _ => count * dtype.bytes(),
    }
}

/// Elements below 8 bits, a byte each, from bytes that hold several, the low bits first.
fn unpacked(dtype: DType, packed: &[u8], count: usize) -> Bytes {
    let (bits, each) = (dtype.packed_bits(), (8 / dtype.packed_bits()) as usize);
    let of = |i: usize| {
        let code = packed[i / each] >> (i % each * bits as usize) & ((1 << bits) - 1);
        // An integer's sign fills the byte.
        if dtype.is_int() { scalar::to_bits(scalar::wrap(code.into(), dtype), dtype) as u8 } else { code }
    };
    (0..count).map(of).collect::<Vec<u8>>().into()
}

/// A bool is 0 or 1 in a tensor, whatever the file holds.
fn normalised(t: Tensor) -> Result<Tensor, String> {
    if t.dtype() == DType::Bool && t.bytes().iter().any(|b| *b > 1) {
        let bits: Vec<bool> = t.bytes().iter().map(|b| *b != 0).collect();
        return Ok(Tensor::bools(t.shape(), &bits));
    }
    Ok(t)
}

/// The bytes of the typed field that the element type uses.
fn typed(t: &TensorProto, dtype: DType, count: usize) -> Result<Bytes, String> {
    fn pack<T: Copy, const N: usize>(
        field: &str,
        data: &[T],
        count: usize,
        convert: impl Fn(T) -> [u8; N],
    ) -> Result<Bytes, String> {
        if data.len() != count {
            return Err(format!("{count} elements expected in {field}, found {}", data.len()));
        }
        Ok(data.iter().flat_map(|v| convert(*v)).collect::<Vec<u8>>().into())
    }
    let ints = &t.int32_data;
    match dtype {
        DType::F32 => pack("float_data", &t.float_data, count, f32::to_le_bytes),
        DType::F64 => pack("double_data", &t.double_data, count, f64::to_le_bytes),
        DType::I64 => pack("int64_data", &t.int64_data, count, i64::to_le_bytes),
        DType::U64 => pack("uint64_data", &t.uint64_data, count, u64::to_le_bytes),
        DType::U32 => pack("uint64_data", &t.uint64_data, count, |v| (v as u32).to_le_bytes()),
        DType::I32 => pack("int32_data", ints, count, i32::to_le_bytes),
        DType::I16 => pack("int32_data", ints, count, |v| (v as i16).to_le_bytes()),
        DType::U16 => pack("int32_data", ints, count, |v| (v as u16).to_le_bytes()),
        DType::F16 => pack("int32_data", ints, count, |v| f16::from_bits(v as u16).to_le_bytes()),
        DType::BF16 => pack("int32_data", ints, count, |v| bf16::from_bits(v as u16).to_le_bytes()),
        DType::I8 => pack("int32_data", ints, count, |v| (v as i8).to_le_bytes()),
        t if t.packed_bits() < 8 => {
            pack("int32_data", ints, packed_bytes(t, count), |v| (v as u8).to_le_bytes())
        }
        DType::Bool => pack("int32_data", ints, count, |v| [(v != 0) as u8]),
        _ => pack("int32_data", ints, count, |v| (v as u8).to_le_bytes()),
    }
}

/// The mapped bytes of a tensor whose contents are in another file.
fn external(t: &TensorProto, expected: usize, files: &mut Files) -> Result<Bytes, String> {
    let field = |key: &str| t.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| match field(key) {
        Some(v) => v
            .parse::<usize>()
            .map(Some)
            .map_err(|_| format!("external data's {key} is {v:?}, expected a number of bytes")),
        None => Ok(None),
    };
    let location = field("location").ok_or("external data without a location")?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(expected));
    if length != expected {
        return Err(format!("external data of {length} bytes, expected {expected}"));
    }
    let file = files.get(location)?;
    match offset.checked_add(length) {
        Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
        _ => Err(format!(
            "external data {location:?} has {} bytes, expected {length} at offset {offset}",
            file.len()
        )),
    }
}

/// A sparse tensor made dense.
pub(super) fn sparse(t: &SparseTensorProto, files: &mut Files) -> Result<Tensor, String> {
    let (Some(values), Some(indices)) = (&t.values, &t.indices) else {
        return Err("a sparse tensor needs values and indices".into());
    };
    let (values, indices) = (tensor(values, files)?, tensor(indices, files)?);
    let (shape, count) = shape_of(&t.dims, values.dtype())?;
    let each = values.dtype().bytes();
    if count > SPARSE_LIMIT / each {
        let most = SPARSE_LIMIT / each;
        return Err(format!(
            "a sparse tensor of {count} elements; at most {most} of {each} bytes are supported"
        ));
    }
    let linear: Vec<i64> = match indices.shape() {
        [n] if *n == values.len() => indices.to_i64s(),
        [n, rank] if *n == values.len() && *rank == shape.len() && *rank > 0 => {
            let at = |row: &[i64]| {
                let inside = row.iter().zip(&shape).all(|(i, d)| (0..*d as i64).contains(i));
                let flat =
                    row.iter().zip(&shape).fold(0i64, |p, (i, d)| p.wrapping_mul(*d as i64).wrapping_add(*i));
                if inside { flat } else { -1 }
            };
            indices.to_i64s().chunks(*rank).map(at).collect()
        }
        found => return Err(format!("sparse indices of shape {found:?} for {} values", values.len())),
    };
    let zero = Tensor::from_scalars(values.dtype(), &[1], [Scalar::I(0).cast(values.dtype())]);
    let mut dense = zero.bytes().repeat(count);
    for (i, v) in linear.into_iter().zip(values.bytes().chunks(each)) {
        let slot = usize::try_from(i).ok().filter(|i| *i < count).map(|i| &mut dense[i * each..][..each]);
        slot.ok_or_else(|| format!("a sparse index lies outside the shape {shape:?}"))?.copy_from_slice(v);
    }
    Tensor::from_bytes(values.dtype(), shape, dense.into())
}
