//! Reads ONNX models, opset 1 to 28.
//!
//! A model goes through four steps, a file each: [`proto`] decodes the messages without copying
//! weights, [`inputs`] gives types and symbolic dimensions to the inputs, [`body`] puts the nodes in
//! order, resolves names and inlines functions, and [`upgrade`] rewrites nodes of older op versions
//! to the newest schema, which is the only one that the op rows know.
//!
//! What always holds: a file is never trusted. Every size is checked before anything is allocated
//! for it, depth is limited, and whatever is wrong becomes an [`ImportError`] that names the file and,
//! inside it, the node or value.

mod attention;
mod attrs;
mod body;
mod control;
mod flex;
mod fused;
mod inputs;
mod order;
pub mod proto;
mod removed;
pub mod tensor;
#[cfg(test)]
mod tests;
mod upgrade;

use burin_ir::Tensor;
use burin_ir::graph::Graph;
use bytes::Bytes;
use prost::Message;
use proto::{ModelProto, OperatorSetIdProto, TensorProto};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The op versions of `ai.onnx` that are read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// The versions of an op of `ai.onnx` below which its nodes are rewritten to the newest schema, the
/// greatest first.
pub fn rewritten_below(op: &str) -> Vec<i64> {
    upgrade::boundaries(op)
}

/// Why a model cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file's contents are at fault.
    #[error("{file}: {message}")]
    Model {
        /// The file, or what stands for it.
        file: String,
        /// The node or value, what was found, and what was expected.
        message: String,
    },
}

/// Choices of the user.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sizes for symbolic dimensions of the inputs, by name (`--dim NAME=N`).
    pub dims: Vec<(String, i64)>,
}

/// Reads a model. Weights stay in the mapped file.
pub fn import(path: &Path, options: &Options) -> Result<Graph, ImportError> {
    let file = path.display().to_string();
    let bytes = map(path)?;
    import_bytes(bytes, &file, path.parent(), options)
}

/// Reads a model from memory. `file` stands for it in messages; external data is looked for in
/// `folder`.
pub fn import_bytes(
    bytes: Bytes,
    file: &str,
    folder: Option<&Path>,
    options: &Options,
) -> Result<Graph, ImportError> {
    let fault = |message: String| ImportError::Model { file: file.to_owned(), message };
    let model = ModelProto::decode(bytes).map_err(|e| fault(format!("not an ONNX model: {e}")))?;
    let files = tensor::Files::beside(folder);
    body::import_model(&model, &files, options).map_err(fault)
}

/// Reads a file that holds one tensor (`.pb`).
pub fn read_tensor(path: &Path) -> Result<Tensor, ImportError> {
    let bytes = map(path)?;
    let fault = |message: String| ImportError::Model { file: path.display().to_string(), message };
    let proto = TensorProto::decode(bytes).map_err(|e| fault(format!("not an ONNX tensor: {e}")))?;
    tensor::tensor(&proto, &mut tensor::Files::beside(path.parent())).map_err(fault)
}

fn map(path: &Path) -> Result<Bytes, ImportError> {
    tensor::map_file(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })
}

/// A domain's name as rows spell it.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// The version of each domain that a model or a function imports.
#[derive(Clone, Debug, Default)]
struct Opsets(HashMap<String, i64>);

impl Opsets {
    fn new(imports: &[OperatorSetIdProto]) -> Result<Opsets, String> {
        let all: HashMap<String, i64> =
            imports.iter().map(|o| (domain(&o.domain).to_owned(), o.version)).collect();
        match all.get("") {
            Some(v) if !OPSETS.contains(v) => {
                Err(format!("opset {v} of ai.onnx, expected {} to {}", OPSETS.start(), OPSETS.end()))
            }
            _ => Ok(Opsets(all)),
        }
    }

    fn version(&self, domain: &str) -> Option<i64> {
        self.0.get(domain).copied()
    }
}
