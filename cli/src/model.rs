//! Reading a MODEL: an ONNX file, or a graph in text form.

use crate::failure::Failure;
use burin_compiler::graph::bind;
use burin_compiler::import::onnx::proto::DimensionValue;
use burin_compiler::import::onnx::{self, Form, Keys};
use burin_ir::graph::{self, Graph};
use burin_ir::{Tensor, TensorType};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Longer texts are refused: graphs are small, and constants may lie in files.
const MAX_TEXT: u64 = 256 << 20;

/// Reads `NAME=N`.
pub(crate) fn parse_dim(text: &str) -> Result<(String, i64), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=N")?;
    let size: i64 = size.parse().map_err(|_| format!("found \"{size}\", expected a whole number"))?;
    if size < 0 {
        return Err(format!("found {size}, expected 0 or more"));
    }
    Ok((name.to_owned(), size))
}

/// Reads `NAME=FILE`.
pub(crate) fn parse_input(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), file.into()))
}

/// What an ONNX model leaves open of its inputs, and has to be known when compiling.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct Stated {
    /// How many tensors NAME.0, NAME.1 and so on an input has that is a sequence
    #[arg(long = "length", value_name = "NAME=N", value_parser = parse_dim)]
    lengths: Vec<(String, i64)>,
    /// Whether an input that is an optional is there (1) or not (0)
    #[arg(long, value_name = "NAME=0|1", value_parser = parse_presence)]
    present: Vec<(String, bool)>,
    /// The shape of an input's tensor of which the model states none: sizes, or names
    #[arg(long = "shape", value_name = "NAME=D,..", value_parser = parse_shape)]
    shapes: Vec<(String, Vec<DimensionValue>)>,
    /// Fix the contents of an input of integers or bools, which is no input then
    #[arg(long = "fix", value_name = "NAME=V,..", value_parser = parse_contents)]
    fixed: Vec<(String, Vec<i64>)>,
    /// The keys of an input that is a map: integers or texts, a column of the input for each
    #[arg(long, value_name = "NAME=A,B,..", value_parser = parse_keys)]
    keys: Vec<(String, Keys)>,
}

impl Stated {
    fn is_empty(&self) -> bool {
        let Stated { lengths, present, shapes, fixed, keys } = self;
        let structure = lengths.is_empty() && present.is_empty() && keys.is_empty();
        structure && shapes.is_empty() && fixed.is_empty()
    }
}

fn parse_presence(text: &str) -> Result<(String, bool), String> {
    match text.rsplit_once('=') {
        Some((name, "1")) => Ok((name.to_owned(), true)),
        Some((name, "0")) => Ok((name.to_owned(), false)),
        _ => Err("expected NAME=0 or NAME=1".to_owned()),
    }
}

/// Reads `NAME=A,B,..`; nothing after the `=` is an empty list.
fn parse_list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<(String, Vec<T>), String> {
    let (name, list) = text.split_once('=').ok_or("expected NAME=A,B,..")?;
    let parts = list.split(',').filter(|_| !list.is_empty());
    Ok((name.to_owned(), parts.map(read).collect::<Result<_, _>>()?))
}

fn parse_shape(text: &str) -> Result<(String, Vec<DimensionValue>), String> {
    parse_list(text, |d| match d.parse::<i64>() {
        Ok(size) if size < 0 => Err(format!("found {size}, expected 0 or more")),
        Ok(size) => Ok(DimensionValue::Value(size)),
        Err(_) if d.is_empty() => Err("found an empty dimension, expected a size or a name".to_owned()),
        Err(_) => Ok(DimensionValue::Param(d.to_owned())),
    })
}

fn parse_contents(text: &str) -> Result<(String, Vec<i64>), String> {
    parse_list(text, |v| match v {
        "false" => Ok(0),
        "true" => Ok(1),
        _ => v.parse().map_err(|_| format!("found \"{v}\", expected a whole number")),
    })
}

/// Integers where all are, else texts.
fn parse_keys(text: &str) -> Result<(String, Keys), String> {
    let (name, all) = parse_list(text, |key| Ok(key.to_owned()))?;
    let integers: Option<Vec<i64>> = all.iter().map(|k| k.parse().ok()).collect();
    Ok((name, integers.map_or(Keys::Texts(all), Keys::Ints)))
}

/// The keys of the outputs that are sequences of maps, by the outputs' names.
pub(crate) type AllKeys = Vec<(String, Keys)>;

/// Reads a model; `dims` become constants.
pub(crate) fn load(path: &Path, dims: &[(String, i64)], stated: &Stated) -> Result<Graph, Failure> {
    Ok(load_with_keys(path, dims, stated)?.0)
}

/// The same, with the keys of its outputs.
pub(crate) fn load_with_keys(
    path: &Path,
    dims: &[(String, i64)],
    stated: &Stated,
) -> Result<(Graph, AllKeys), Failure> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) || !is_text(path)? {
        let Stated { lengths, present, shapes, fixed, keys } = stated.clone();
        let options = onnx::Options { dims: dims.to_vec(), lengths, present, shapes, fixed, keys };
        let imported = onnx::Model::open(path)?.import(&options)?;
        let keys = imported.outputs.into_iter().filter_map(|(name, form)| match form {
            Form::Maps(keys) => Some((name, keys)),
            _ => None,
        });
        return Ok((imported.graph, keys.collect()));
    }
    let of = |e: String| Failure::Input(format!("{}: {e}", path.display()));
    if !stated.is_empty() {
        return Err(of("--length, --present, --shape, --fix and --keys are for ONNX models".to_owned()));
    }
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let files = |name: &str, offset: u64, ty: &TensorType| constant(&folder, name, offset, ty);
    let mut graph = graph::parse_with(&text, &files).map_err(|e| of(e.to_string()))?;
    graph::verify(&graph).map_err(of)?;
    if !dims.is_empty() {
        bind::dims(&mut graph, dims).map_err(of)?;
    }
    Ok((graph, Vec::new()))
}

/// Whether a file without a telling name begins as a graph's text does. An ONNX model begins with
/// a field's tag, which is no letter of `graph` nor a comment's mark.
fn is_text(path: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|f| f.take(256).read_to_end(&mut start));
    read.map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
    let first = start.trim_ascii_start();
    Ok(first.starts_with(b"graph") || first.starts_with(b"#"))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let of = |e: std::io::Error| Failure::Input(format!("{}: {e}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(of)?;
    let bytes = file.metadata().map_err(of)?.len();
    if bytes > MAX_TEXT {
        let message = format!("{}: found {bytes} bytes of text, expected at most {MAX_TEXT}", path.display());
        return Err(Failure::Input(message));
    }
    file.take(MAX_TEXT).read_to_string(&mut text).map_err(of)?;
    Ok(text)
}

/// A constant in a file beside the model; a path that leads elsewhere is refused.
fn constant(folder: &Path, name: &str, offset: u64, ty: &TensorType) -> Result<Tensor, String> {
    if !Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("the constant's file {name:?} leads out of the model's folder"));
    }
    let path = folder.join(name);
    let inside = || Some(path.canonicalize().ok()?.starts_with(folder_or_here(folder).canonicalize().ok()?));
    if inside() == Some(false) {
        return Err(format!("the constant's file {name:?} leads out of the model's folder"));
    }
    let shape = ty.static_shape().ok_or_else(|| format!("a constant of type {ty} has no size"))?;
    let bytes = burin_ir::tensor::element_count(ty.dtype, &shape)
        .ok_or_else(|| format!("a constant of type {ty} is larger than the address space"))?
        * ty.dtype.bytes();
    let of = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = File::open(&path).map_err(of)?;
    let found = file.metadata().map_err(of)?.len();
    if offset.checked_add(bytes as u64).is_none_or(|end| end > found) {
        return Err(format!(
            "{}: found {found} bytes, expected {bytes} bytes of {ty} from {offset} on",
            path.display()
        ));
    }
    let mut data = vec![0; bytes];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut data)).map_err(of)?;
    Tensor::from_bytes(ty.dtype, shape, data.into())
}

fn folder_or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// What a model is called in tables: its file's name.
pub(crate) fn title(path: &Path) -> String {
    let name = |p: &Path| p.file_stem().map(|n| n.to_string_lossy().into_owned());
    match name(path).as_deref() {
        // In the layout of recorded cases it is the folder that has the name.
        Some("model") => path.canonicalize().ok().and_then(|p| name(p.parent()?)),
        _ => name(path),
    }
    .unwrap_or_else(|| path.display().to_string())
}
