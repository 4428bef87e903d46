//! Recorded cases in the ONNX test layout: a folder with `model.onnx` (or one model of another name)
//! and, for each data set, a folder `test_data_set_N` of `input_M.pb` and `output_M.pb`; a file `tol`
//! may hold `rtol atol`.
//!
//! Files belong to the model's inputs (those that are no initializers) and outputs by position, and hold
//! what their declared types say: tensors, sequences, optionals, or sequences of maps ([`data`]). Results
//! that are random are held to what must hold of them ([`draws`]) in place of what is recorded.

mod data;
mod draws;

pub use data::{DataSet, Subject};

use crate::import::onnx::ImportError;
use burin_ir::compare::{Bound, compare};
use burin_ir::graph::{Graph, Value};
use burin_ir::{DType, Tensor};
use std::io;
use std::path::{Path, PathBuf};

/// The relative tolerance of a case that states none.
pub const DEFAULT_RTOL: f64 = 1e-3;
/// The absolute tolerance of a case that states none.
pub const DEFAULT_ATOL: f64 = 1e-7;

/// How many roundings to `f32` of a tensor's largest element its record may be off by. The engine
/// that wrote the records misses them by more on another machine (3.4e-5 where the largest element is
/// about 7, some 80 roundings), so no tighter bound could be held by anyone.
const SUM_ROUNDINGS: f64 = 64.0;

/// A folder in the test layout.
#[derive(Clone, Debug)]
pub struct Case {
    /// The model's file.
    pub model: PathBuf,
    /// The folders of the data sets, in the order of their numbers.
    pub data_sets: Vec<PathBuf>,
    /// By how much of the expected value a value may be off.
    pub rtol: f64,
    /// By how much a value may be off besides.
    pub atol: f64,
    /// Whether the case states its tolerances itself.
    pub stated: bool,
}

/// How results agree with a record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agreement {
    /// An element is further off than `rtol` and `atol`, but not further than the record's own
    /// rounding (see [`Case::bound`]).
    pub by_rounding: bool,
    /// A result is random: it was held to what must hold of it, not to its record.
    pub by_property: bool,
}

impl Case {
    /// Looks into a folder; nothing but `tol` is read yet.
    pub fn open(folder: &Path) -> Result<Case, ImportError> {
        let model = model_of(folder)?;
        let mut data_sets = numbered(folder, "test_data_set_", "")?;
        data_sets.sort_by_key(|(n, _)| *n);
        let stated = tolerances(&folder.join("tol"))?;
        let (rtol, atol) = stated.unwrap_or((DEFAULT_RTOL, DEFAULT_ATOL));
        let data_sets = data_sets.into_iter().map(|(_, p)| p).collect();
        Ok(Case { model, data_sets, rtol, atol, stated: stated.is_some() })
    }

    /// How far a result may be from what is expected. What was recorded is itself rounded, in sums
    /// whose terms are as large as the tensor's largest elements: a case that states no tolerances
    /// allows so many roundings of such an element, without which an element near zero, where terms
    /// cancel, would have to be more exact than its record. A result that the model itself rounds to
    /// steps may be one of them off, since the last bit of a sum decides near the middle between two;
    /// the engine that wrote the records differs from itself by as much when it optimises less.
    pub fn bound(&self, graph: &Graph, output: usize, expected: &Tensor) -> Bound {
        let dtype = expected.dtype();
        let mut atol = self.atol;
        if !self.stated && dtype.is_float() {
            let largest = expected.to_f64s().into_iter().map(f64::abs).filter(|v| v.is_finite());
            let rounding = (SUM_ROUNDINGS * DType::F32.unit_roundoff()).max(2.0 * dtype.unit_roundoff());
            atol = atol.max(largest.fold(0.0, f64::max) * rounding).max(step(graph, output));
        }
        Bound::Close { rtol: self.rtol, atol }
    }

    /// Compares results with a data set's; the error says which output differs, and how.
    pub fn check(&self, graph: &Graph, data: &DataSet, found: &[Tensor]) -> Result<Agreement, String> {
        if found.len() != data.outputs.len() {
            return Err(format!("{} results, expected {}", found.len(), data.outputs.len()));
        }
        let mut agreement = Agreement::default();
        for (i, (f, e)) in found.iter().zip(&data.outputs).enumerate() {
            let fault = |e: String| format!("output \"{}\": {e}", graph.output_names[i]);
            if let Some(checked) = draws::check(graph, data, found, i) {
                checked.map_err(fault)?;
                agreement.by_property = true;
                continue;
            }
            let report = compare(f, e, &self.bound(graph, i, e)).map_err(fault)?;
            if !report.ok() {
                return Err(fault(report.to_string()));
            }
            let plain = Bound::Close { rtol: self.rtol, atol: self.atol };
            agreement.by_rounding |= !compare(f, e, &plain)?.ok();
        }
        Ok(agreement)
    }
}

/// The distance between the values that an output can have where the model rounds it to steps; else 0.
fn step(graph: &Graph, output: usize) -> f64 {
    let made_by = |v: Option<Value>, op: &str| {
        let node = &graph.nodes[graph.producer(v?)?.0];
        (node.op.name == op).then_some(node)
    };
    let scale = || {
        let real = made_by(graph.outputs().get(output).copied(), "DequantizeLinear")?;
        made_by(real.inputs[0], "QuantizeLinear")?;
        let scale = graph.constant(real.inputs[1]?)?.materialise().ok()?;
        Some(scale.to_f64s().into_iter().map(f64::abs).fold(0.0, f64::max))
    };
    // Rounded up, as differences of the values are.
    scale().unwrap_or(0.0) * (1.0 + 4.0 * f64::from(f32::EPSILON))
}

/// `model.onnx`, or where there is none the only file `*.onnx`.
fn model_of(folder: &Path) -> Result<PathBuf, ImportError> {
    let usual = folder.join("model.onnx");
    if usual.is_file() {
        return Ok(usual);
    }
    let io = |source| ImportError::Io { path: folder.to_owned(), source };
    let paths: io::Result<Vec<PathBuf>> =
        folder.read_dir().map_err(io)?.map(|e| e.map(|e| e.path())).collect();
    let mut models: Vec<PathBuf> =
        paths.map_err(io)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    match (models.pop(), models.len()) {
        (Some(model), 0) => Ok(model),
        (None, _) => Err(fault(folder, "there is no model.onnx in it".into())),
        (_, n) => Err(fault(folder, format!("{} files *.onnx, and none is model.onnx", n + 1))),
    }
}

/// The entries `PREFIX<number>SUFFIX` of a folder.
fn numbered(folder: &Path, prefix: &str, suffix: &str) -> Result<Vec<(usize, PathBuf)>, ImportError> {
    let io = |source: io::Error| ImportError::Io { path: folder.to_owned(), source };
    let mut out = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok());
        out.extend(number.map(|n| (n, entry.path())));
    }
    Ok(out)
}

/// `rtol atol` from a file; `None` where there is none.
fn tolerances(path: &Path) -> Result<Option<(f64, f64)>, ImportError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ImportError::Io { path: path.to_owned(), source }),
    };
    let numbers: Vec<f64> = text.split_whitespace().map_while(|w| w.parse().ok()).collect();
    match numbers[..] {
        [rtol, atol] if rtol >= 0.0 && atol >= 0.0 => Ok(Some((rtol, atol))),
        _ => Err(fault(path, format!("expected two numbers, rtol and atol, found {:?}", text.trim()))),
    }
}

fn fault(path: &Path, message: String) -> ImportError {
    ImportError::Model { file: path.display().to_string(), message }
}
