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
use burin_ir::graph::{Graph, NodeData, Value};
use burin_ir::ops::Tolerance;
use burin_ir::{DType, Tensor};
use std::collections::HashSet;
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

/// How many ULPs a result in a 16-bit float may be from its record, where it is rounded on the way. The
/// engine that wrote the records rounds to the type after every step, also within an op (exponentials,
/// their sum and the quotients of a softmax), where others round once. The suite's own comparison allows
/// as much of `bfloat16`.
const NARROW_ULPS: f64 = 2.0;

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

    /// How far a result may be from what is expected. What was recorded is itself rounded, and where
    /// the model rounds on the way, no result can be held to more than its record is worth:
    ///
    /// - In a 16-bit type it may be [`NARROW_ULPS`] off.
    /// - In a wider one a sum has terms as large as the tensor's largest elements, and it may be one
    ///   rounding of such an element off: the element near zero, where terms cancel, is not more exact.
    ///   A case that states no tolerances allows [`SUM_ROUNDINGS`] of them.
    /// - A result that the model itself rounds to steps may be one of them off, since the last bit of a
    ///   sum decides near the middle between two; the engine that wrote the records differs from itself by
    ///   as much when it optimises less.
    pub fn bound(&self, graph: &Graph, output: usize, expected: &Tensor) -> Bound {
        let dtype = expected.dtype();
        let (mut rtol, mut atol) = (self.rtol, self.atol);
        let largest = || {
            let all = expected.to_f64s().into_iter().map(f64::abs).filter(|v| v.is_finite());
            all.fold(0.0, f64::max)
        };
        if rounds(graph, output) {
            match dtype {
                DType::F16 | DType::BF16 => rtol = rtol.max(NARROW_ULPS * 2.0 * dtype.unit_roundoff()),
                DType::F32 | DType::F64 => atol = atol.max(largest() * dtype.unit_roundoff()),
                _ => {}
            }
        }
        if !self.stated && dtype.is_float() {
            let rounding = (SUM_ROUNDINGS * DType::F32.unit_roundoff()).max(2.0 * dtype.unit_roundoff());
            atol = atol.max(largest() * rounding).max(step(graph, output));
        }
        Bound::Close { rtol, atol }
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

/// Whether an output depends on a value that is rounded. What is converted is not: it has one value.
fn rounds(graph: &Graph, output: usize) -> bool {
    let rounded = |n: &NodeData| !matches!(n.op.tolerance, Tolerance::Exact);
    graph.outputs().get(output).is_some_and(|v| depends_on(graph, *v, rounded))
}

/// Whether something holds of a node that a value depends on.
fn depends_on(graph: &Graph, v: Value, holds: impl Fn(&NodeData) -> bool) -> bool {
    let (mut todo, mut seen) = (vec![v], HashSet::new());
    while let Some(v) = todo.pop() {
        let Some((n, _)) = graph.producer(v).filter(|(n, _)| seen.insert(*n)) else { continue };
        if holds(&graph.nodes[n]) {
            return true;
        }
        todo.extend(graph.nodes[n].inputs.iter().flatten());
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound on the first output of a graph where a case states the usual tolerances.
    fn bound(text: &str, expected: &Tensor) -> (f64, f64) {
        let graph = burin_ir::graph::parse(text).expect("a graph");
        let (rtol, atol) = (DEFAULT_RTOL, DEFAULT_ATOL);
        let case = Case { model: PathBuf::new(), data_sets: Vec::new(), rtol, atol, stated: true };
        match case.bound(&graph, 0, expected) {
            Bound::Close { rtol, atol } => (rtol, atol),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_rounded_on_the_way_is_held_to_what_its_record_is_worth() {
        let graph = |ty: &str, op: &str| {
            format!("graph @g(%x: {ty}) {{\n  %0 = {op}(%x) : {ty}\n  return %0 as \"y\"\n}}\n")
        };
        let narrow = |ty: &str, op: &str, dtype| bound(&graph(ty, op), &Tensor::zeros(dtype, &[2]));
        assert_eq!(narrow("bf16[2]", "Exp", DType::BF16), (2f64.powi(-6), DEFAULT_ATOL));
        assert_eq!(narrow("f16[2]", "Exp", DType::F16), (2f64.powi(-9), DEFAULT_ATOL));
        assert_eq!(narrow("bf16[2]", "Relu", DType::BF16), (DEFAULT_RTOL, DEFAULT_ATOL));
        let large = Tensor::new(&[2], &[1e-9f32, -64.0]);
        assert_eq!(bound(&graph("f32[2]", "Exp"), &large), (DEFAULT_RTOL, 2f64.powi(-18)));
        assert_eq!(bound(&graph("f32[2]", "Relu"), &large), (DEFAULT_RTOL, DEFAULT_ATOL));
    }
}
