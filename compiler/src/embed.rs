//! Compiles a model while a Rust program is built, and gives the program a typed API to it.
//!
//! In the program's build script:
//!
//! ```no_run
//! fn main() -> Result<(), burin_compiler::embed::EmbedError> {
//!     burin_compiler::embed::Model::from_file("digits.onnx").dim("batch", 1).compile()
//! }
//! ```
//!
//! and in the program, which depends on `burin-runtime` alone:
//!
//! ```ignore
//! mod digits {
//!     include!(concat!(env!("OUT_DIR"), "/digits.rs"));
//! }
//!
//! let mut digits = digits::Digits::new()?;
//! let outputs = digits.forward(&image)?; // image: [f32; 64]
//! let probabilities: &[f32; 10] = &outputs.probabilities;
//! ```
//!
//! What is written to cargo's `OUT_DIR`: `libburin_NAME.a`, an archive with code and weights, and
//! `NAME.rs`, the API ([`bindings`]). No C compiler and no linker is needed for them, and nothing is
//! loaded when the program runs: the model is linked into it.

mod bindings;

use crate::artifact::header::c_name;
use crate::artifact::object::{self, Kind};
use crate::artifact::output;
use crate::driver::{self, Compiled};
use crate::graph::Fuel;
use crate::import::onnx;
use crate::target::native::levels::TargetSpec;
use burin_ir::graph::Graph;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why a model could not be compiled into a program.
pub struct EmbedError(String);

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The message, for that is what a build script's `main` prints of an error.
impl fmt::Debug for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EmbedError {}

/// A model to be compiled into a program.
#[derive(Clone, Debug)]
pub struct Model {
    source: Source,
    name: Option<String>,
    options: onnx::Options,
    cpu: Option<String>,
    watched: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Graph(Box<Graph>),
}

/// The files that were written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The Rust module.
    pub module: PathBuf,
    /// The archive with code and weights.
    pub library: PathBuf,
}

impl Model {
    /// A model in an ONNX file. A relative path counts from the folder of the crate's `Cargo.toml`.
    pub fn from_file(path: impl Into<PathBuf>) -> Model {
        Model::new(Source::File(path.into()))
    }

    /// A graph that the build script has made, named by [`Graph::name`].
    pub fn from_graph(graph: Graph) -> Model {
        Model::new(Source::Graph(Box::new(graph)))
    }

    fn new(source: Source) -> Model {
        Model { source, name: None, options: onnx::Options::default(), cpu: None, watched: Vec::new() }
    }

    /// The name: of the module's file, in camel case of its type, and of the linked symbols, which
    /// must differ from those of other models in the same program. Without it: the file's name.
    pub fn name(mut self, name: impl Into<String>) -> Model {
        self.name = Some(name.into());
        self
    }

    /// Fixes a symbolic dimension of the inputs. Shapes without symbolic dimensions become arrays,
    /// whose sizes rustc checks; for others the API takes and gives slices.
    pub fn dim(mut self, name: impl Into<String>, size: i64) -> Model {
        self.options.dims.push((name.into(), size));
        self
    }

    /// How many tensors `NAME.0`, `NAME.1` and so on an input of an ONNX model has that is a sequence.
    pub fn length(mut self, name: impl Into<String>, length: i64) -> Model {
        self.options.lengths.push((name.into(), length));
        self
    }

    /// Whether an input of an ONNX model that is an optional is there.
    pub fn present(mut self, name: impl Into<String>, there: bool) -> Model {
        self.options.present.push((name.into(), there));
        self
    }

    /// The shape of an input's tensor of which an ONNX model states none.
    pub fn shape(mut self, name: impl Into<String>, sizes: &[i64]) -> Model {
        let sizes = sizes.iter().map(|n| onnx::proto::DimensionValue::Value(*n)).collect();
        self.options.shapes.push((name.into(), sizes));
        self
    }

    /// Fixes the contents of an ONNX model's input of integers or bools, which is no input then.
    pub fn fix(mut self, name: impl Into<String>, contents: &[i64]) -> Model {
        self.options.fixed.push((name.into(), contents.to_vec()));
        self
    }

    /// The keys of an input of an ONNX model that is a map.
    pub fn keys(mut self, name: impl Into<String>, keys: onnx::Keys) -> Model {
        self.options.keys.push((name.into(), keys));
        self
    }

    /// The CPU level, or several such as `v3,v4`, of which the best one is taken that the CPU has where
    /// the program runs; as for `burin build --cpu`. Without it: the target's default.
    pub fn cpu(mut self, levels: impl Into<String>) -> Model {
        self.cpu = Some(levels.into());
        self
    }

    /// One more file that the model depends on, such as one with its external data: cargo compiles
    /// the model again when it changes.
    pub fn watch(mut self, path: impl Into<PathBuf>) -> Model {
        self.watched.push(path.into());
        self
    }

    /// Compiles for the target that cargo builds for, writes to `OUT_DIR`, and tells cargo what to
    /// link. For build scripts.
    pub fn compile(self) -> Result<(), EmbedError> {
        let variable = |name: &str| {
            let value = std::env::var_os(name).and_then(|v| v.into_string().ok());
            value.ok_or_else(|| {
                EmbedError(format!("{name} is not set: a model is compiled into a program by a build script"))
            })
        };
        let (folder, triple) = (PathBuf::from(variable("OUT_DIR")?), variable("TARGET")?);
        for path in self.files() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        // A build script without such a line is run again whenever any file of the crate changes.
        println!("cargo::rerun-if-changed=build.rs");
        let name = self.symbol()?;
        self.compile_to(&folder, &triple)?;
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static=burin_{name}");
        Ok(())
    }

    /// Compiles for a target and writes to a folder: what [`Model::compile`] does, without cargo.
    pub fn compile_to(self, folder: &Path, triple: &str) -> Result<Written, EmbedError> {
        let name = self.symbol()?;
        let targets = TargetSpec::list(Some(triple), self.cpu.as_deref()).map_err(|e| self.fail(&e))?;
        let mut graph = self.graph()?;
        graph.name.clone_from(&name);
        let compiled = driver::compile_levels(graph, &targets, Fuel::unlimited(), &mut |_, _| {});
        let compiled = compiled.map_err(|e| self.fail(&e))?;
        self.write(&compiled, &name, folder)
    }

    fn write(&self, compiled: &Compiled, name: &str, folder: &Path) -> Result<Written, EmbedError> {
        let triple = &compiled.target.triple;
        // Microsoft's linker looks for libraries without the prefix.
        let msvc = triple.environment == target_lexicon::Environment::Msvc;
        let library =
            folder.join(if msvc { format!("burin_{name}.lib") } else { format!("libburin_{name}.a") });
        let module = folder.join(format!("{name}.rs"));
        let text = bindings::text(compiled, name).map_err(|e| self.fail(&e))?;
        object::write(&compiled.artifact(), triple, Kind::Archive, &library).map_err(|e| self.fail(&e))?;
        let put = |file: &mut std::fs::File| {
            file.write_all(text.as_bytes()).map_err(crate::artifact::ArtifactError::io(&module))
        };
        output::write(&module, false, put).map_err(|e| self.fail(&e))?;
        Ok(Written { module, library })
    }

    fn graph(&self) -> Result<Graph, EmbedError> {
        match &self.source {
            Source::File(path) => onnx::import(path, &self.options).map_err(|e| EmbedError(e.to_string())),
            Source::Graph(graph) => {
                let mut graph = Graph::clone(graph);
                let onnx::Options { dims, lengths, present, shapes, fixed, keys } = &self.options;
                let structure = lengths.is_empty() && present.is_empty() && keys.is_empty();
                if !structure || !shapes.is_empty() || !fixed.is_empty() {
                    return Err(self.fail(&"length, present, shape, fix and keys are for ONNX models"));
                }
                if !dims.is_empty() {
                    crate::graph::bind::dims(&mut graph, dims).map_err(|e| self.fail(&e))?;
                }
                Ok(graph)
            }
        }
    }

    /// The name as linkers and Rust take it.
    fn symbol(&self) -> Result<String, EmbedError> {
        let of_file = |p: &PathBuf| p.file_stem().map(|s| s.to_string_lossy().into_owned());
        let name = match (&self.name, &self.source) {
            (Some(name), _) => name.clone(),
            (None, Source::File(path)) => of_file(path).unwrap_or_default(),
            (None, Source::Graph(graph)) => graph.name.clone(),
        };
        match name.chars().any(|c| c.is_ascii_alphanumeric()) {
            true => Ok(c_name(&name)),
            false => {
                Err(self.fail(&format!("found the name \"{name}\", expected one with a letter or digit")))
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let own = match &self.source {
            Source::File(path) => Some(path),
            Source::Graph(_) => None,
        };
        own.into_iter().chain(&self.watched)
    }

    /// An error about this model.
    fn fail(&self, why: &dyn fmt::Display) -> EmbedError {
        match &self.source {
            Source::File(path) => EmbedError(format!("{}: {why}", path.display())),
            Source::Graph(graph) => EmbedError(format!("graph @{}: {why}", graph.name)),
        }
    }
}

#[cfg(test)]
mod tests;
