//! Reading a MODEL: an ONNX file, or a graph in text form.

use crate::failure::Failure;
use burin_compiler::graph::bind;
use burin_compiler::import::onnx;
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

/// Reads a model; `dims` become constants.
pub(crate) fn load(path: &Path, dims: &[(String, i64)]) -> Result<Graph, Failure> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) || !is_text(path)? {
        let options = onnx::Options { dims: dims.to_vec() };
        return Ok(onnx::import(path, &options)?);
    }
    let of = |e: String| Failure::Input(format!("{}: {e}", path.display()));
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let files = |name: &str, offset: u64, ty: &TensorType| constant(&folder, name, offset, ty);
    let mut graph = graph::parse_with(&text, &files).map_err(|e| of(e.to_string()))?;
    graph::verify(&graph).map_err(of)?;
    if !dims.is_empty() {
        bind::dims(&mut graph, dims).map_err(of)?;
    }
    Ok(graph)
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
