//! C headers: the ABI (`burin.h`, in full, under its own guard) and what is particular to a model.

use super::{Artifact, ArtifactError, output};
use crate::program::{Port, Program};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// The ABI in C; [`burin_runtime::abi`] in Rust says the same.
const ABI: &str = include_str!("burin.h");

/// A name as a C identifier.
pub fn c_name(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "model_");
    }
    out
}

/// Writes the header.
pub fn write(a: &Artifact<'_>, path: &Path) -> Result<(), ArtifactError> {
    let text = text(a)?;
    output::write(path, false, |file| file.write_all(text.as_bytes()).map_err(ArtifactError::io(path)))
}

/// The header's text.
pub fn text(a: &Artifact<'_>) -> Result<String, ArtifactError> {
    let p = a.program()?;
    let name = c_name(&p.name);
    let upper = name.to_ascii_uppercase();
    let mut out = format!("/* The model \"{}\", compiled by Burin for {}.\n\n", comment(&p.name), a.levels());
    usage(&mut out, p, &name, &upper);
    let _ = write!(out, " */\n#ifndef {upper}_H\n#define {upper}_H\n\n{ABI}\n");
    let mut constant = |suffix: &str, value: u64| {
        let _ = writeln!(out, "#define {upper}_{suffix} {value}");
    };
    constant("INPUTS", p.inputs.len() as u64);
    constant("OUTPUTS", p.outputs.len() as u64);
    constant("STATES", p.states.len() as u64);
    constant("DIMS", p.dims.len() as u64);
    constant("INPUT_RANKS", p.inputs.iter().map(|i| i.ty.rank() as u64).sum());
    constant("OUTPUT_RANKS", p.outputs.iter().map(|o| o.ty.rank() as u64).sum());
    if a.constant_arena_bytes() > 0 {
        constant("ARENA_BYTES", a.constant_arena_bytes());
    }
    let states: Vec<Port> = p.states.iter().map(|s| s.0.clone()).collect();
    for (kind, ports) in [("INPUT", &p.inputs), ("OUTPUT", &p.outputs), ("STATE", &states)] {
        for (i, port) in ports.iter().enumerate() {
            let (port_name, ty) = (c_name(&port.name).to_ascii_uppercase(), &port.ty);
            let _ =
                writeln!(out, "#define {upper}_{kind}_{port_name} {i} /* {}: {ty} */", comment(&port.name));
        }
    }
    for (i, d) in p.dims.iter().enumerate() {
        let _ = writeln!(out, "#define {upper}_DIM_{} {i}", c_name(d.name()).to_ascii_uppercase());
    }
    // Lists for the initialiser of an array: in the order of their numbers.
    let texts: Vec<&str> = p.texts.iter().map(String::as_str).collect();
    for (what, all) in [("TEXTS", &texts), ("HOST_OPS", &p.host_ops)] {
        if !all.is_empty() {
            let list: Vec<String> = all.iter().map(|t| literal(t)).collect();
            let _ = writeln!(out, "#define {upper}_{what} {}", list.join(", "));
        }
    }
    let _ = write!(
        out,
        "\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\
         extern const unsigned char {name}_image[];\n\
         extern const unsigned char {name}_weights[];\n\
         BURIN_CALL int32_t {name}_plan(burin_plan *plan);\n\
         BURIN_CALL int32_t {name}_run(burin_call *call);\n\
         #ifdef __cplusplus\n}}\n#endif\n#endif\n"
    );
    Ok(out)
}

/// A string literal of C, in ASCII.
fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for b in text.bytes() {
        let plain = (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'"' | b'\\' | b'?');
        match plain {
            true => out.push(b.into()),
            // Three digits end an octal escape, whatever follows.
            false => out.push_str(&format!("\\{b:03o}")),
        }
    }
    out.push('"');
    out
}

fn usage(out: &mut String, p: &Program, name: &str, upper: &str) {
    for port in &p.inputs {
        let _ = writeln!(out, "   input  {}: {}", comment(&port.name), port.ty);
    }
    for port in &p.outputs {
        let _ = writeln!(out, "   output {}: {}", comment(&port.name), port.ty);
    }
    let list = |n: usize, what: &str| (0..n).map(|i| format!("{what}{i}")).collect::<Vec<_>>().join(", ");
    let dims: Vec<&str> = p.dims.iter().map(|d| d.name()).collect();
    let dims = if dims.is_empty() { "0".to_owned() } else { dims.join(", ") };
    let alloc = if p.slots > 0 { ", .alloc = alloc" } else { "" };
    let host_op = if p.host_ops.is_empty() { "" } else { ", .host_op = host_op" };
    let _ = write!(
        out,
        "\n   int64_t dims[] = {{{dims}}}, shapes[{upper}_OUTPUT_RANKS + 1];\n\
         \x20  burin_plan plan = {{.dims = dims, .workers = 1, .output_dims = shapes}};\n\
         \x20  if ({name}_plan(&plan)) return 1;\n\
         \x20  void *arena = aligned_alloc(BURIN_ALIGN, (plan.arena_bytes | (BURIN_ALIGN - 1)) + 1);\n\
         \x20  const void *inputs[] = {{{}}};\n\
         \x20  void *outputs[] = {{{}}};\n\
         \x20  burin_call call = {{.weights = {name}_weights, .arena = arena, .inputs = inputs, .outputs = outputs,\n\
         \x20                     .output_dims = shapes, .dims = dims, .workers = 1,\n\
         \x20                     .variant = plan.variant{alloc}{host_op}}};\n\
         \x20  if ({name}_run(&call)) return 1;\n\n\
         \x20  {name}_plan chooses the code for the best level named above that the CPU has, and answers\n\
         \x20  BURIN_CPU where it has none. {name}_run takes that choice from call.variant; without it, it\n\
         \x20  asks the CPU again each time, which may take longer than the model.\n",
        list(p.inputs.len(), "input"),
        list(p.outputs.len(), "output"),
    );
    if p.slots > 0 {
        let slots = p.slots;
        let _ = writeln!(
            out,
            "\n   Sizes depend on the data: alloc(host, slot, bytes) must give memory for each of {slots} slots. Those\n\
             \x20  below {upper}_OUTPUTS are outputs, whose pointers stay NULL above and whose extents are in shapes\n\
             \x20  after the run; the others are free again then."
        );
    }
}

/// Text that cannot end a comment.
fn comment(text: &str) -> String {
    text.replace("*/", "* /").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_speaks_of_the_runtime_s_abi() {
        let version = format!("#define BURIN_ABI_VERSION {}\n", burin_runtime::abi::ABI_VERSION);
        assert!(ABI.contains(&version), "{version} is not in burin.h");
    }

    #[test]
    fn literals_are_those_of_c() {
        assert_eq!(literal("a \"b\" \\ ??= é\n1"), r#""a \042b\042 \134 \077\077= \303\251\0121""#);
    }
}
