//! Reads ONNX models, opset 1 to 28.
//!
//! A model goes through four steps, a file each: [`proto`] decodes the messages without copying
//! weights, [`inputs`] gives types and symbolic dimensions to the inputs, [`body`] puts the nodes in
//! order, resolves names and inlines functions, and [`upgrade`] rewrites nodes of older op versions
//! to the newest schema, which is the only one that the op rows know; [`assumed`] says what nodes take for
//! granted.
//!
//! Graphs know tensors alone. What a model makes of them, sequences, optionals and maps ([`structure`]),
//! is resolved on the way: by the ops over them ([`sequences`]), by control flow ([`control`],
//! [`unroll`]), and at the model's inputs and outputs ([`boundary`]).
//!
//! What always holds: a file is never trusted. Every size is checked before anything is allocated
//! for it, depth is limited, and whatever is wrong becomes an [`ImportError`] that names the file and,
//! inside it, the node or value.

mod assumed;
mod attention;
mod attrs;
mod body;
mod boundary;
mod contents;
mod control;
mod flex;
mod fused;
mod gradient;
mod inputs;
mod maps;
mod order;
pub mod proto;
mod removed;
mod sequences;
mod structure;
pub mod tensor;
#[cfg(test)]
mod tests;
mod texts;
mod unroll;
mod upgrade;
mod value;

pub use sequences::OPS as RESOLVED;
pub use structure::{Form, Keys, Ports};
pub use value::Recorded;

use burin_ir::graph::Graph;
use bytes::Bytes;
use prost::Message;
use proto::{DimensionValue, GraphProto, ModelProto, OperatorSetIdProto, TypeProto, ValueInfoProto};
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
    /// The structure of a value follows from contents of inputs, which are not known.
    #[error("{file}: {message}")]
    Unknown {
        /// The file, or what stands for it.
        file: String,
        /// The node or value, and what to fix.
        message: String,
        /// The inputs whose contents would have to be fixed.
        inputs: Vec<String>,
    },
}

/// Choices of the user.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sizes for symbolic dimensions of the inputs, by name (`--dim NAME=N`).
    pub dims: Vec<(String, i64)>,
    /// Lengths of the inputs that are sequences, by name (`--length NAME=N`).
    pub lengths: Vec<(String, i64)>,
    /// Whether the inputs that are optionals are there, by name (`--present NAME=1`, or 0).
    pub present: Vec<(String, bool)>,
    /// Shapes of input tensors where the model gives none, by name (`--shape NAME=D,..`).
    pub shapes: Vec<(String, Vec<DimensionValue>)>,
    /// Contents of inputs of integers or bools, by name (`--fix NAME=V,..`): they are inputs no more.
    pub fixed: Vec<(String, Vec<i64>)>,
    /// The keys of inputs that are maps, by name, where no DictVectorizer says them (`--keys NAME=A,B,..`).
    pub keys: Vec<(String, Keys)>,
}

/// A model's file, decoded.
pub struct Model {
    proto: ModelProto,
    /// The file, or what stands for it in messages.
    file: String,
    folder: Option<PathBuf>,
}

/// What a model becomes.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// The model's inputs.
    pub inputs: Ports,
    /// The model's outputs.
    pub outputs: Ports,
}

impl Model {
    /// Decodes a file. Weights stay in the mapped file.
    pub fn open(path: &Path) -> Result<Model, ImportError> {
        Model::decode(map(path)?, &path.display().to_string(), path.parent())
    }

    /// Decodes a model in memory. `file` stands for it in messages; external data is looked for in
    /// `folder`.
    pub fn decode(bytes: Bytes, file: &str, folder: Option<&Path>) -> Result<Model, ImportError> {
        let proto = ModelProto::decode(bytes).map_err(|e| ImportError::Model {
            file: file.to_owned(),
            message: format!("not an ONNX model: {e}"),
        })?;
        Ok(Model { proto, file: file.to_owned(), folder: folder.map(Path::to_owned) })
    }

    /// What the model becomes.
    pub fn import(&self, options: &Options) -> Result<Imported, ImportError> {
        let files = tensor::Files::beside(self.folder.as_deref());
        body::import_model(&self.proto, &files, options).map_err(|e| {
            let (file, message) = (self.file.clone(), e.message);
            match e.wanted.is_empty() {
                true => ImportError::Model { file, message },
                false => ImportError::Unknown { file, message, inputs: e.wanted },
            }
        })
    }

    /// The inputs that a caller gives, with their declared types.
    pub fn inputs(&self) -> impl Iterator<Item = &ValueInfoProto> {
        self.proto.graph.iter().flat_map(GraphProto::given)
    }

    /// The outputs, with their declared types.
    pub fn outputs(&self) -> impl Iterator<Item = &ValueInfoProto> {
        self.proto.graph.iter().flat_map(|g| &g.output)
    }
}

/// Reads a model. Weights stay in the mapped file.
pub fn import(path: &Path, options: &Options) -> Result<Graph, ImportError> {
    Ok(Model::open(path)?.import(options)?.graph)
}

/// Reads a model from memory. `file` stands for it in messages; external data is looked for in
/// `folder`.
pub fn import_bytes(
    bytes: Bytes,
    file: &str,
    folder: Option<&Path>,
    options: &Options,
) -> Result<Graph, ImportError> {
    Ok(Model::decode(bytes, file, folder)?.import(options)?.graph)
}

/// Reads a file that holds a value of a declared type (`.pb`).
pub fn read_value(path: &Path, ty: &TypeProto) -> Result<Recorded, ImportError> {
    let fault = |message: String| ImportError::Model { file: path.display().to_string(), message };
    value::decode(map(path)?, ty, &mut tensor::Files::beside(path.parent())).map_err(fault)
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
