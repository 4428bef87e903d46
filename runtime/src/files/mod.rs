//! Tensors from and to files: `.npy`, `.npz`, ONNX `TensorProto`; and their statistics. The formats
//! are read from bytes in memory, so that they need no system.

pub mod npy;
pub mod npz;
pub mod pb;
pub mod summary;

use crate::tensor::Tensor;
use alloc::format;
use alloc::string::String;

/// Reads the tensor in a file's bytes, of the kind that the file's extension says: `npy`, `npz` or
/// `pb`. Of an archive with several arrays, the one called `name` is taken.
pub fn parse(extension: &str, bytes: &[u8], name: &str) -> Result<Tensor, String> {
    match &*extension.to_ascii_lowercase() {
        "npy" => npy::read(bytes),
        "npz" => npz::read(bytes, name),
        "pb" => pb::read(bytes),
        other => Err(format!("found a file of kind \".{other}\", expected .npy, .npz or .pb")),
    }
}

/// [`parse`] of a file.
#[cfg(feature = "std")]
pub fn read(path: &std::path::Path, name: &str) -> Result<Tensor, crate::Error> {
    let bytes = std::fs::read(path).map_err(|e| crate::Error::file(path, e))?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    parse(extension, &bytes, name).map_err(|message| crate::Error::file(path, message))
}
