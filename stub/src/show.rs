//! What the program says of itself.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use burin_runtime::cpu;
use burin_runtime::model::{Entry, Model, Port};
use core::fmt::Write;

/// The text of `--help`.
pub(crate) fn help(model: &Model, entry: &Entry, program: &str) -> String {
    let mut out = format!("Runs the model \"{}\", compiled by Burin.\n\n", model.name());
    let _ = writeln!(out, "Usage: {program} [OPTIONS]\n");
    ports(&mut out, "Inputs", &entry.inputs);
    ports(&mut out, "Outputs", &entry.outputs);
    out.push_str("Options:\n");
    let first = entry.inputs.first().map_or("NAME", |p| &p.name);
    for (option, text) in [
        (format!("-i, --input {first}=FILE"), "an input's tensor: .npy, .npz or ONNX .pb; all or none"),
        ("    --dim NAME=N".to_owned(), "a dimension, where inputs are random (1 if not given)"),
        ("-o, --output-dir DIR".to_owned(), "writes the outputs there as .npy"),
        ("    --bench N".to_owned(), "runs N times and prints how long it took"),
        ("    --threads N".to_owned(), "threads to run on; 0: one for each CPU (default 1)"),
        ("    --cpu LEVEL".to_owned(), "the code for this CPU level, not for the best that there is"),
        ("    --info".to_owned(), "says what the model is and needs"),
        ("-h, --help".to_owned(), "prints this"),
    ] {
        let needless = option.contains("--dim") && entry.dims.is_empty()
            || option.contains("--cpu") && model.image().variants().len() == 1;
        if needless {
            continue;
        }
        let _ = writeln!(out, "  {option:<24}  {text}");
    }
    if !entry.dims.is_empty() {
        let _ = writeln!(out, "\nDimensions: {}", entry.dims.join(", "));
    }
    out.push_str("\nWithout --input the model runs on seeded random tensors.\n");
    out
}

/// The text of `--info`.
pub(crate) fn info(model: &Model, entry: &Entry) -> String {
    let image = model.image();
    let head = image.descriptor();
    let mut out = format!("model      {}\n", model.name());
    for p in &entry.inputs {
        let _ = writeln!(out, "input      {}: {p}", p.name);
    }
    for p in &entry.outputs {
        let _ = writeln!(out, "output     {}: {p}", p.name);
    }
    for p in model.states() {
        let _ = writeln!(out, "state      {}: {p}", p.name);
    }
    if !entry.dims.is_empty() {
        let _ = writeln!(out, "dimensions {}", entry.dims.join(", "));
    }
    let arena = match entry.arena_bytes {
        Some(bytes) => format!("{bytes} bytes for one thread"),
        None if entry.dims.is_empty() => "0 bytes".to_owned(),
        None => "depends on the dimensions; --dim tells".to_owned(),
    };
    let _ = writeln!(out, "arena      {arena}");
    let _ = writeln!(out, "weights    {} bytes in {} tensors", head.weight_bytes, image.weights().len());
    let _ = writeln!(out, "code       {} bytes, {} steps", head.image_bytes, image.steps(entry.steps).len());
    for v in image.variants() {
        let (level, features) = (image.text(v.level), cpu::feature_names(v.cpu_features));
        let needs = if features.is_empty() { String::new() } else { format!(" ({features})") };
        let used = if image.variants().len() > 1 && level == model.cpu_level() { ", in use" } else { "" };
        let _ = writeln!(out, "CPU        {level}{used}{needs}");
    }
    let _ = writeln!(out, "ABI        {}", head.abi_version);
    out
}

fn ports(out: &mut String, title: &str, ports: &[Port]) {
    if ports.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title}:");
    let width = ports.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
    for p in ports {
        let _ = writeln!(out, "  {:<width$}  {p}", p.name);
    }
    out.push('\n');
}
