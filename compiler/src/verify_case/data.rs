//! A case's data sets, and its model as they need it: what types leave open, the lengths of sequences and
//! whether optionals are there, is what the first data set has.
//!
//! Structured values are compared as the tensors that they become. Where the structure of a value follows
//! from contents of inputs, these are fixed, and the data set has no tensor for them any more.

use super::{Case, fault, numbered};
use crate::import::onnx::proto::{DimensionValue, TypeProto, TypeValue, ValueInfoProto};
use crate::import::onnx::{self, Form, ImportError, Keys, Model, Options, Ports, Recorded};
use burin_ir::graph::Graph;
use burin_ir::{DType, Tensor};
use std::path::{Path, PathBuf};

/// What goes into a model and what must come out.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// A tensor for each input of the graph.
    pub inputs: Vec<Tensor>,
    /// A tensor for each output of the graph.
    pub outputs: Vec<Tensor>,
}

/// A case's model.
pub struct Subject {
    /// What it becomes.
    pub graph: Graph,
    /// What the data sets say of it.
    pub options: Options,
    model: Model,
    inputs: Ports,
    outputs: Ports,
}

impl Case {
    /// Imports the model, with the structure that its first data set has.
    pub fn import(&self) -> Result<Subject, ImportError> {
        let model = Model::open(&self.model)?;
        let mut options = Options::default();
        let mut recorded = Vec::new();
        if let Some(first) = self.data_sets.first() {
            recorded = values(first, "input_", model.inputs())?;
            for (input, value) in model.inputs().zip(&recorded) {
                if let Some(ty) = &input.r#type {
                    note(&input.name, ty, value, &mut options);
                }
            }
        }
        loop {
            let e = match model.import(&options) {
                Ok(onnx::Imported { graph, inputs, outputs }) => {
                    return Ok(Subject { graph, options, model, inputs, outputs });
                }
                Err(e) => e,
            };
            let ImportError::Unknown { inputs: wanted, .. } = &e else { return Err(e) };
            let mut all = model.inputs().map(|i| &i.name).zip(&recorded);
            let open = all.find_map(|(name, value)| match value {
                Recorded::Tensor(t) if wanted.contains(name) => Some((name.clone(), t)),
                _ => None,
            });
            let Some((name, t)) = open.filter(|(n, _)| !options.fixed.iter().any(|(f, _)| f == n)) else {
                return Err(e);
            };
            options.shapes.retain(|(n, _)| *n != name);
            options.shapes.push((name.clone(), shape(t)));
            options.fixed.push((name, t.to_i64s()));
        }
    }
}

impl Subject {
    /// The inputs whose contents had to be fixed.
    pub fn fixed(&self) -> Vec<String> {
        self.options.fixed.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Reads a data set, and checks that it has what the model takes and gives.
    pub fn read(&self, folder: &Path) -> Result<DataSet, ImportError> {
        let inputs = values(folder, "input_", self.model.inputs())?;
        let outputs = values(folder, "output_", self.model.outputs())?;
        let mut set = DataSet { inputs: Vec::new(), outputs: Vec::new() };
        for ((name, form), value) in self.inputs.iter().zip(inputs) {
            let of = |e: String| fault(folder, format!("input {name:?}: {e}"));
            match form {
                Form::Fixed => self.check_fixed(name, &value).map_err(of)?,
                form => set.inputs.extend(tensors(value, form, DType::F32).map_err(of)?),
            }
        }
        for ((name, form), value) in self.outputs.iter().zip(outputs) {
            let of = |e: String| fault(folder, format!("output {name:?}: {e}"));
            let own = self.graph.outputs().get(set.outputs.len()).and_then(|v| self.graph.tensor_type(*v));
            let dtype = own.map_or(DType::F32, |t| t.dtype);
            set.outputs.extend(tensors(value, form, dtype).map_err(of)?);
        }
        Ok(set)
    }

    fn check_fixed(&self, name: &str, value: &Recorded) -> Result<(), String> {
        let fixed = self.options.fixed.iter().find(|(n, _)| n == name).map(|(_, contents)| contents);
        match value {
            Recorded::Tensor(t) if Some(&t.to_i64s()) == fixed => Ok(()),
            _ => {
                Err("its contents had to be fixed, and are others here than in the first data set".to_owned())
            }
        }
    }
}

/// The values of `PREFIX0.pb` to `PREFIXn.pb`, one for each port.
fn values<'a>(
    folder: &Path,
    prefix: &str,
    ports: impl Iterator<Item = &'a ValueInfoProto>,
) -> Result<Vec<Recorded>, ImportError> {
    let ports: Vec<_> = ports.collect();
    let mut found = numbered(folder, prefix, ".pb")?;
    found.sort_by_key(|(n, _)| *n);
    let complete = found.iter().enumerate().all(|(i, (n, _))| i == *n);
    if found.len() != ports.len() || !complete {
        let (expected, names) = (ports.len(), found.iter().map(|(n, _)| *n).collect::<Vec<_>>());
        return Err(fault(
            folder,
            format!("expected {expected} files {prefix}N.pb from 0 on, found N = {names:?}"),
        ));
    }
    let untyped = TypeProto { value: None };
    let read = |((_, path), port): (&(usize, PathBuf), &&ValueInfoProto)| {
        onnx::read_value(path, port.r#type.as_ref().unwrap_or(&untyped))
    };
    found.iter().zip(&ports).map(read).collect()
}

/// Notes what a value says of an input that its type leaves open.
fn note(name: &str, ty: &TypeProto, value: &Recorded, options: &mut Options) {
    match (&ty.value, value) {
        (Some(TypeValue::Tensor(t)), Recorded::Tensor(x)) if t.shape.is_none() => {
            options.shapes.push((name.to_owned(), shape(x)));
        }
        (Some(TypeValue::Sequence(of)), Recorded::Sequence(all)) => {
            options.lengths.push((name.to_owned(), all.len() as i64));
            for (i, x) in all.iter().enumerate() {
                if let Some(ty) = of.elem_type.as_deref() {
                    note(&format!("{name}.{i}"), ty, &Recorded::Tensor(x.clone()), options);
                }
            }
        }
        (Some(TypeValue::Optional(of)), Recorded::Optional(held)) => {
            options.present.push((name.to_owned(), held.is_some()));
            if let (Some(held), Some(ty)) = (held, of.elem_type.as_deref()) {
                note(name, ty, held, options);
            }
        }
        _ => {}
    }
}

fn shape(t: &Tensor) -> Vec<DimensionValue> {
    t.shape().iter().map(|d| DimensionValue::Value(*d as i64)).collect()
}

/// The tensors that a value consists of in the form that it has in the graph; `dtype` is the type of
/// what maps hold.
fn tensors(value: Recorded, form: &Form, dtype: DType) -> Result<Vec<Tensor>, String> {
    match (value, form) {
        (Recorded::Optional(Some(held)), form) => tensors(*held, form, dtype),
        (Recorded::Optional(None), Form::Absent) => Ok(Vec::new()),
        (Recorded::Tensor(t), Form::Tensor) => Ok(vec![t]),
        (Recorded::Sequence(all), Form::Sequence(n)) if all.len() == *n => Ok(all),
        (Recorded::Maps(all), Form::Maps(keys)) => Ok(vec![matrix(&all, keys, dtype)?]),
        (value, Form::Tensor) => Err(format!("{value} is recorded, but the model has a tensor")),
        (value, Form::Sequence(n)) => {
            Err(format!("{value} is recorded, but the model has a sequence of {n}"))
        }
        (value, Form::Maps(_)) => Err(format!("{value} is recorded, but the model has a sequence of maps")),
        (value, Form::Absent | Form::Fixed) => {
            Err(format!("{value} is recorded, but the model has none that is there"))
        }
    }
}

/// Maps as rows, their keys in the model's order.
fn matrix(maps: &[(Keys, Vec<Tensor>)], keys: &Keys, dtype: DType) -> Result<Tensor, String> {
    let place = |own: &Keys, k: usize| match (own, keys) {
        (Keys::Ints(own), Keys::Ints(all)) => own.iter().position(|key| *key == all[k]),
        (Keys::Texts(own), Keys::Texts(all)) => own.iter().position(|key| *key == all[k]),
        _ => None,
    };
    let mut elements = Vec::new();
    for (i, (own, values)) in maps.iter().enumerate() {
        for k in 0..keys.len() {
            let value = place(own, k).filter(|_| own.len() == keys.len()).and_then(|at| values.get(at));
            let value = value.filter(|t| t.len() == 1 && t.dtype() == dtype);
            let value = value.ok_or_else(|| {
                format!("map {i} has the keys {own}, expected {keys}, each with one {dtype}")
            })?;
            elements.push(value.get(0));
        }
    }
    Ok(Tensor::from_scalars(dtype, &[maps.len(), keys.len()], elements))
}
