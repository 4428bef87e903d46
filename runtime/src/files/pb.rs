//! ONNX's `TensorProto` (onnx.proto3), as the test data of models has it.
//!
//! One message with nine fields of interest is read here rather than by a crate; Protocol Buffers'
//! encoding is described in "Encoding" of its documentation.

use crate::tensor::{DType, Tensor, byte_count, type_text};
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Numbers of the fields.
mod field {
    pub(super) const DIMS: u64 = 1;
    pub(super) const DATA_TYPE: u64 = 2;
    pub(super) const FLOAT_DATA: u64 = 4;
    pub(super) const INT32_DATA: u64 = 5;
    pub(super) const STRING_DATA: u64 = 6;
    pub(super) const INT64_DATA: u64 = 7;
    pub(super) const RAW_DATA: u64 = 9;
    pub(super) const DOUBLE_DATA: u64 = 10;
    pub(super) const UINT64_DATA: u64 = 11;
    pub(super) const DATA_LOCATION: u64 = 14;
}

/// A field's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    /// 4 or 8 bytes, or as many as their length says.
    Bytes(&'a [u8]),
}

/// Reads a message, field by field.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(part)
    }

    /// A number in groups of 7 bits, of which the last has no high bit.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            number |= (byte as u64 & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Bytes(self.bytes(8)?),
            2 => {
                let len = self.number()?;
                Value::Bytes(self.bytes(usize::try_from(len).ok()?)?)
            }
            5 => Value::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl Value<'_> {
    fn number(self) -> Option<u64> {
        if let Value::Number(n) = self { Some(n) } else { None }
    }

    /// Hands over the numbers of a repeated field: one, or many packed into bytes.
    fn numbers(self, mut each: impl FnMut(u64)) -> Option<()> {
        let mut packed = match self {
            Value::Number(n) => {
                each(n);
                return Some(());
            }
            Value::Bytes(bytes) => Fields(bytes),
        };
        while !packed.0.is_empty() {
            each(packed.number()?);
        }
        Some(())
    }
}

/// The fields that hold the contents of numeric tensors.
#[derive(Default)]
struct TensorProto<'a> {
    dims: Vec<i64>,
    data_type: u64,
    data_location: u64,
    raw: &'a [u8],
    /// What is in fields of elements: the field's number, and its values.
    typed: Vec<(u64, Value<'a>)>,
}

impl<'a> TensorProto<'a> {
    fn parse(bytes: &'a [u8]) -> Option<TensorProto<'a>> {
        let mut p = TensorProto::default();
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            match fields.field()? {
                (field::DIMS, v) => v.numbers(|n| p.dims.push(n as i64))?,
                (field::DATA_TYPE, v) => p.data_type = v.number()?,
                (field::DATA_LOCATION, v) => p.data_location = v.number()?,
                (field::RAW_DATA, Value::Bytes(raw)) => p.raw = raw,
                other => p.typed.push(other),
            }
        }
        Some(p)
    }

    /// The contents from the field that onnx.proto3 prescribes for the type: narrow types lie in
    /// wider elements, of which the low bytes are kept.
    fn elements(&self, dtype: DType) -> Option<Vec<u8>> {
        let wanted = match dtype {
            DType::F32 => field::FLOAT_DATA,
            DType::F64 => field::DOUBLE_DATA,
            DType::I64 => field::INT64_DATA,
            DType::U32 | DType::U64 => field::UINT64_DATA,
            _ => field::INT32_DATA,
        };
        let mut out = Vec::new();
        for (_, value) in self.typed.iter().filter(|(number, _)| *number == wanted) {
            match (dtype, value) {
                (DType::F32 | DType::F64, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
                (DType::F32 | DType::F64, _) => return None,
                (_, v) => v.numbers(|n| out.extend_from_slice(&n.to_le_bytes()[..dtype.bytes()]))?,
            }
        }
        Some(out)
    }
}

impl TensorProto<'_> {
    /// The elements of a tensor of texts.
    fn texts(&self) -> Result<Vec<String>, String> {
        let all = self.typed.iter().filter(|(number, _)| *number == field::STRING_DATA);
        let text = |(_, v): &(u64, Value<'_>)| match v {
            Value::Bytes(bytes) => core::str::from_utf8(bytes).ok().map(ToOwned::to_owned),
            Value::Number(_) => None,
        };
        let texts: Option<Vec<String>> = all.map(text).collect();
        texts.ok_or_else(|| "an element of a tensor of strings is not UTF-8".to_owned())
    }
}

/// The bytes that `count` elements take where those below 8 bits are packed.
fn packed_bytes(dtype: DType, count: usize) -> Option<usize> {
    Some(count.checked_mul(dtype.packed_bits())?.div_ceil(8))
}

/// Elements below 8 bits, a byte each, from bytes that hold several, the low bits first.
fn unpacked(dtype: DType, packed: &[u8], count: usize) -> Vec<u8> {
    let (bits, each) = (dtype.packed_bits(), 8 / dtype.packed_bits());
    let element = |i: usize| {
        let high = packed[i / each] << (8 - bits - i % each * bits);
        let shift = 8 - bits;
        if matches!(dtype, DType::I4 | DType::I2) { ((high as i8) >> shift) as u8 } else { high >> shift }
    };
    (0..count).map(element).collect()
}

/// Reads the tensor in a file's bytes; its name is dropped.
pub fn read(bytes: &[u8]) -> Result<Tensor, String> {
    let broken = || "not an ONNX TensorProto".to_owned();
    let p = TensorProto::parse(bytes).ok_or_else(broken)?;
    let known = u32::try_from(p.data_type).ok().and_then(DType::from_abi);
    let dtype = known.ok_or_else(|| {
        format!("found a tensor of ONNX type {}, expected one of a type that is known", p.data_type)
    })?;
    if p.data_location != 0 {
        return Err("found a tensor whose data is in another file, expected it here".to_owned());
    }
    let shape: Option<Vec<usize>> = p.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let sized = shape.and_then(|s| Some((byte_count(dtype, &s)?, s)));
    let (bytes, shape) = sized.ok_or_else(|| format!("shape {:?} is negative or too large", p.dims))?;
    if dtype == DType::Text {
        return Tensor::from_texts(&shape, p.texts()?).map_err(|e| e.to_string());
    }
    let data = match p.raw {
        [] => Cow::Owned(p.elements(dtype).ok_or_else(broken)?),
        raw => Cow::Borrowed(raw),
    };
    let count = bytes / dtype.bytes();
    let expected = packed_bytes(dtype, count).ok_or_else(broken)?;
    if data.len() != expected {
        let ty = type_text(dtype, &shape);
        return Err(format!("{ty} takes {expected} bytes, found {}", data.len()));
    }
    let data = if dtype.packed_bits() < 8 { Cow::Owned(unpacked(dtype, &data, count)) } else { data };
    Tensor::from_bytes(dtype, &shape, &data).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn number(mut n: u64, out: &mut Vec<u8>) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    fn with_number(mut message: Vec<u8>, field: u64, n: u64) -> Vec<u8> {
        number(field << 3, &mut message);
        number(n, &mut message);
        message
    }

    fn with_bytes(mut message: Vec<u8>, field: u64, bytes: &[u8]) -> Vec<u8> {
        number(field << 3 | 2, &mut message);
        number(bytes.len() as u64, &mut message);
        message.extend_from_slice(bytes);
        message
    }

    fn values(message: &[u8]) -> Vec<f64> {
        read(message).expect("valid").view().to_f64s().collect()
    }

    #[test]
    fn narrow_types_lie_in_wider_fields() {
        // f16[2], its elements packed and one by one.
        let head = || with_number(with_bytes(Vec::new(), field::DIMS, &[2]), field::DATA_TYPE, 10);
        let mut packed = Vec::new();
        [0x3c00, 0xc000].into_iter().for_each(|n| number(n, &mut packed));
        assert_eq!(values(&with_bytes(head(), field::INT32_DATA, &packed)), [1.0, -2.0]);
        let single = with_number(head(), field::INT32_DATA, 0x3c00);
        assert_eq!(values(&with_number(single, field::INT32_DATA, 0xc000)), [1.0, -2.0]);
    }

    #[test]
    fn elements_below_a_byte_are_unpacked() {
        // i4[3] and u2[5], in raw bytes and in the field of integers.
        let head =
            |n: u64, ty: u64| with_number(with_number(Vec::new(), field::DIMS, n), field::DATA_TYPE, ty);
        let raw = with_bytes(head(3, 22), field::RAW_DATA, &[0x8f, 0x07]);
        assert_eq!(values(&raw), [-1.0, -8.0, 7.0]);
        let typed =
            with_number(with_number(head(5, 25), field::INT32_DATA, 0b11_10_01_00), field::INT32_DATA, 2);
        assert_eq!(values(&typed), [0.0, 1.0, 2.0, 3.0, 2.0]);
    }

    #[test]
    fn fields_come_in_any_order() {
        let message = with_bytes(Vec::new(), field::FLOAT_DATA, &1.5f32.to_le_bytes());
        let message = with_bytes(with_number(message, field::DATA_TYPE, 1), 8, b"a name");
        assert_eq!(values(&message), [1.5]);
        let message = with_number(with_number(Vec::new(), field::INT64_DATA, u64::MAX), field::DATA_TYPE, 7);
        assert_eq!(values(&message), [-1.0]);
    }

    #[test]
    fn bad_tensors_are_refused() {
        let with = |dim: i64, raw: &[u8]| {
            let message = with_number(Vec::new(), field::DATA_TYPE, 1);
            with_bytes(with_number(message, field::DIMS, dim as u64), field::RAW_DATA, raw)
        };
        let large = with_number(with(i64::MAX, &[]), field::DIMS, 9);
        let elsewhere = with_number(with(1, &[]), field::DATA_LOCATION, 1);
        for (message, part) in [
            (with(3, &[0; 8]), "f32[3] takes 12 bytes, found 8"),
            (with(-1, &[0; 8]), "negative"),
            (large, "too large"),
            (elsewhere, "in another file"),
            (with_number(Vec::new(), field::DATA_TYPE, 14), "ONNX type 14"),
            (vec![0xff; 9], "not an ONNX TensorProto"),
            (vec![field::RAW_DATA as u8 * 8 + 2, 200], "not an ONNX TensorProto"),
        ] {
            let e = read(&message).expect_err(part);
            assert!(e.contains(part), "{e}");
        }
    }
}
