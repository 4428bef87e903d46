//! Tensors from and to files: `.npy`, `.npz`, ONNX `TensorProto`; and their statistics.

pub mod npy;
pub mod pb;
pub mod summary;

use crate::error::Error;
use crate::tensor::Tensor;
use std::path::Path;

/// Reads the tensor in a file, of the kind that its extension says: `.npy`, `.npz` or `.pb`. Of an
/// archive with several arrays, the one called `name` is taken.
pub fn read(path: &Path, name: &str) -> Result<Tensor, Error> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
    let result = match extension.as_str() {
        "npy" => npy::read(&mut std::io::BufReader::new(file)),
        "npz" => npy::read_archive(file, name),
        "pb" => std::fs::read(path).map_err(|e| e.to_string()).and_then(|bytes| pb::read(&bytes)),
        other => Err(format!("found a file of kind \".{other}\", expected .npy, .npz or .pb")),
    };
    result.map_err(|message| Error::file(path, message))
}
