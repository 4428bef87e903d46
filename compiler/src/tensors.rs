//! Tensors have two homes, the languages' and the runtime's; both hold the same elements.

use crate::artifact::image::abi_dtype;
use burin_ir::{DType, Tensor};
use burin_runtime as runtime;

/// The same element type, for the runtime.
pub fn runtime_dtype(d: DType) -> runtime::DType {
    let same = runtime::DType::from_abi(abi_dtype(d));
    same.unwrap_or_else(|| unreachable!("the runtime has every element type of the ABI"))
}

/// The same tensor, for the compiler.
pub fn from_runtime(t: &runtime::Tensor) -> Result<Tensor, String> {
    if let Some(texts) = t.as_texts() {
        return Ok(Tensor::texts(t.shape(), texts));
    }
    let dtype = DType::ALL.into_iter().find(|d| abi_dtype(*d) == t.dtype().abi());
    let dtype = dtype.ok_or_else(|| format!("found elements of type {}", t.dtype()))?;
    Tensor::from_bytes(dtype, t.shape().to_vec(), t.bytes().to_vec().into())
}

/// The same tensor, for the runtime. Its bytes are aligned, wherever those given lie.
pub fn to_runtime(t: &Tensor) -> Result<runtime::Tensor, runtime::Error> {
    match t.to_texts() {
        Some(all) => runtime::Tensor::from_texts(t.shape(), all.into_iter().map(str::to_owned).collect()),
        None => runtime::Tensor::from_bytes(runtime_dtype(t.dtype()), t.shape(), t.bytes()),
    }
}
