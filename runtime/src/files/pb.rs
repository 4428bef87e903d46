//! ONNX's `TensorProto` (onnx.proto3), as the test data of models has it.

use crate::tensor::{DType, Tensor, byte_count};
use prost::Message;

/// The fields of `TensorProto` that hold the contents of numeric tensors.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// Reads a tensor; its name is dropped.
pub fn read(bytes: &[u8]) -> Result<Tensor, String> {
    let p = TensorProto::decode(bytes).map_err(|e| format!("not an ONNX TensorProto: {e}"))?;
    let known = u32::try_from(p.data_type).ok().and_then(DType::from_abi);
    let dtype =
        known.ok_or_else(|| format!("found a tensor of ONNX type {}, expected numbers", p.data_type))?;
    if p.data_location != 0 {
        return Err("found a tensor whose data is in another file, expected it here".to_owned());
    }
    let shape: Option<Vec<usize>> = p.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let sized = shape.and_then(|s| Some((byte_count(dtype, &s)?, s)));
    let (expected, shape) = sized.ok_or_else(|| format!("shape {:?} is negative or too large", p.dims))?;
    let data = if p.raw_data.is_empty() { typed_data(&p, dtype) } else { p.raw_data };
    if data.len() != expected {
        let ty = crate::tensor::type_text(dtype, &shape);
        return Err(format!("{ty} takes {expected} bytes, found {}", data.len()));
    }
    Tensor::from_bytes(dtype, &shape, &data).map_err(|e| e.to_string())
}

/// The contents from the field that onnx.proto3 prescribes for the type: narrow types lie in wider
/// elements, of which the low bytes are kept.
fn typed_data(p: &TensorProto, dtype: DType) -> Vec<u8> {
    macro_rules! low_bytes {
        ($field:expr) => {
            $field.iter().flat_map(|v| v.to_le_bytes().into_iter().take(dtype.bytes())).collect()
        };
    }
    match dtype {
        DType::F32 => low_bytes!(p.float_data),
        DType::F64 => low_bytes!(p.double_data),
        DType::I64 => low_bytes!(p.int64_data),
        DType::U32 | DType::U64 => low_bytes!(p.uint64_data),
        _ => low_bytes!(p.int32_data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_types_lie_in_wider_fields() {
        let p = TensorProto {
            dims: vec![2],
            data_type: 10,
            int32_data: vec![0x3c00, 0xc000],
            ..Default::default()
        };
        let t = read(&p.encode_to_vec()).expect("valid");
        assert_eq!(t.view().to_f64s().collect::<Vec<_>>(), [1.0, -2.0]);
    }

    #[test]
    fn bad_tensors_are_refused() {
        let with = |dims, raw_data| TensorProto { dims, data_type: 1, raw_data, ..Default::default() };
        for (p, part) in [
            (with(vec![3], vec![0; 8]), "f32[3] takes 12 bytes, found 8"),
            (with(vec![-1], vec![0; 8]), "negative"),
            (with(vec![i64::MAX, 9], vec![]), "too large"),
            (TensorProto { data_type: 8, ..Default::default() }, "ONNX type 8"),
        ] {
            let e = read(&p.encode_to_vec()).expect_err(part);
            assert!(e.contains(part), "{e}");
        }
        assert!(read(&[0xff; 9]).is_err());
    }
}
