//! A model's inputs: from files, or random; and its outputs, to files or to the terminal.

use crate::failure::Failure;
use crate::terminal;
use burin_compiler::tensors::runtime_dtype;
pub(crate) use burin_compiler::tensors::{from_runtime, to_runtime};
use burin_ir::graph::Graph;
use burin_ir::graph::eval::bind_dims;
use burin_ir::{Symbol, Tensor, TensorType};
use burin_runtime::files::{self, summary::Summary};
use burin_runtime::random;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The seed of random inputs where none is given; the same as compiled programs have.
pub(crate) const SEED: u64 = 1;
/// The size of a dimension of random inputs that nothing gives a size.
const SIZE: i64 = 1;

/// What a model is run on.
pub(crate) struct Inputs {
    /// A tensor for each input.
    pub(crate) tensors: Vec<Tensor>,
    /// The dimensions that they have.
    pub(crate) dims: HashMap<Symbol, i64>,
    /// Whether they are random.
    pub(crate) random: bool,
}

impl Inputs {
    /// Reads all inputs from files, or makes all of them at random where no file is given; `dims`
    /// gives dimensions that would be 1 otherwise.
    pub(crate) fn new(
        graph: &Graph,
        given: &[(String, PathBuf)],
        dims: &[(String, i64)],
        seed: u64,
    ) -> Result<Inputs, Failure> {
        check_names(graph, given, dims)?;
        let random = given.is_empty() && !graph.inputs().is_empty();
        let tensors = if random { random_inputs(graph, dims, seed)? } else { read_inputs(graph, given)? };
        let bound = bind_dims(graph, &tensors).map_err(|e| e.to_string())?;
        for (name, size) in dims {
            let found = bound.iter().find(|(s, _)| s.to_string() == *name).map_or(*size, |(_, n)| *n);
            if found != *size {
                return Err(format!("--dim: found {name}={size}, but the inputs' shapes say {found}").into());
            }
        }
        Ok(Inputs { tensors, dims: bound, random })
    }

    /// What to tell the user about random inputs.
    pub(crate) fn note(&self, graph: &Graph, seed: u64) -> String {
        let dims: Vec<String> =
            graph.dims().iter().filter_map(|s| Some(format!("{s}={}", self.dims.get(s)?))).collect();
        let dims = if dims.is_empty() { String::new() } else { format!(", {}", dims.join(", ")) };
        format!("no --input given: running on random tensors (seed {seed}{dims})")
    }
}

fn check_names(graph: &Graph, given: &[(String, PathBuf)], dims: &[(String, i64)]) -> Result<(), Failure> {
    let names: Vec<&str> = graph.inputs().iter().map(|v| graph.values[*v].name.as_str()).collect();
    for (i, (name, _)) in given.iter().enumerate() {
        if !names.contains(&name.as_str()) {
            let all = names.join(", ");
            return Err(
                format!("--input: found \"{name}\", expected one of the model's inputs: {all}").into()
            );
        }
        if given[..i].iter().any(|(n, _)| n == name) {
            return Err(format!("--input: \"{name}\" is given twice").into());
        }
    }
    let known: Vec<String> = graph.dims().iter().map(|s| s.to_string()).collect();
    if let Some((name, _)) = dims.iter().find(|(name, _)| !known.contains(name)) {
        let all = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(format!("--dim: found \"{name}\", expected one of the model's dimensions: {all}").into());
    }
    Ok(())
}

/// The inputs' names and types.
pub(crate) fn ports(graph: &Graph) -> Result<Vec<(&str, &TensorType)>, Failure> {
    let port = |v: &burin_ir::graph::Value| {
        let data = &graph.values[*v];
        let ty = data.ty.tensor();
        let ty = ty.ok_or_else(|| format!("input \"{}\" is {}, expected a tensor", data.name, data.ty))?;
        Ok((data.name.as_str(), ty))
    };
    graph.inputs().iter().map(port).collect()
}

fn read_inputs(graph: &Graph, given: &[(String, PathBuf)]) -> Result<Vec<Tensor>, Failure> {
    let read = |(name, ty): (&str, &TensorType)| {
        let file = given.iter().find(|(n, _)| n == name).map(|(_, f)| f);
        let file =
            file.ok_or_else(|| format!("input \"{name}\" ({ty}) is missing: give --input {name}=FILE"))?;
        Ok(from_runtime(&files::read(file, name)?)?)
    };
    ports(graph)?.into_iter().map(read).collect()
}

fn random_inputs(graph: &Graph, dims: &[(String, i64)], seed: u64) -> Result<Vec<Tensor>, Failure> {
    let size = |s: Symbol| {
        let name = s.to_string();
        Some(dims.iter().find(|(n, _)| *n == name).map_or(SIZE, |(_, n)| *n))
    };
    let make = |(i, (name, ty)): (usize, (&str, &TensorType))| {
        let extents = ty.shape.iter().map(|d| usize::try_from(d.eval(&size)?).ok());
        let shape: Option<Vec<usize>> = extents.collect();
        let shape = shape.ok_or_else(|| {
            format!("input \"{name}\" ({ty}) has no size at these dimensions: give them by --dim")
        })?;
        let dtype = runtime_dtype(ty.dtype);
        let tensor = random::tensor(dtype, &shape, seed.wrapping_add(i as u64));
        Ok(from_runtime(&tensor.map_err(|e| format!("input \"{name}\" ({ty}): {e}"))?)?)
    };
    ports(graph)?.into_iter().enumerate().map(make).collect()
}

/// Writes a tensor as `DIR/NAME.npy`.
pub(crate) fn write(dir: &Path, name: &str, t: &Tensor) -> Result<PathBuf, Failure> {
    let path = dir.join(format!("{}.npy", file_name(name)));
    files::npy::write_file(&path, to_runtime(t)?.view())?;
    Ok(path)
}

/// A name as a file's: what separates folders becomes `_`.
pub(crate) fn file_name(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '/' | '\\' | ':' | '\0') { '_' } else { c }).collect()
}

/// Shows outputs on the terminal, or writes them to a folder and says where.
pub(crate) fn deliver(outputs: &[(String, Tensor)], dir: Option<&Path>) -> Result<(), Failure> {
    let mut text = String::new();
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            for (name, t) in outputs {
                text.push_str(&format!("{name}: {}\n", write(dir, name, t)?.display()));
            }
        }
        None => {
            for (name, t) in outputs {
                text.push_str(&format!("{name}: {}\n", Summary::from(&to_runtime(t)?)));
            }
        }
    }
    terminal::print(&text)
}
