//! The Rust module of a model that is compiled into a program.
//!
//! One type with `new`, `with_executor` and `forward`, and one with a field for each output. A tensor
//! of constant shape is an array, any other a slice; symbolic dimensions are arguments. Names become
//! identifiers that differ from one another within their scope.

use super::super::driver::Compiled;
use crate::program::{Port, Program};
use burin_ir::{DType, TensorType};
use std::collections::HashSet;
use std::fmt::Write as _;

/// Rust's keywords, and the names that the generated code uses itself.
const TAKEN: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield", "_", "entry", "model", "shapes", "inputs", "outputs",
];

/// Names within a scope.
struct Scope(HashSet<String>);

impl Scope {
    fn new() -> Scope {
        Scope(TAKEN.iter().map(|s| (*s).to_owned()).collect())
    }

    /// An identifier in snake case that is like the name and not taken.
    fn identifier(&mut self, name: &str) -> String {
        let mut wanted = String::new();
        for c in name.chars() {
            let upper_in_word = c.is_ascii_uppercase() && wanted.ends_with(|p: char| p.is_ascii_lowercase());
            if upper_in_word || !c.is_ascii_alphanumeric() && !wanted.ends_with('_') {
                wanted.push('_');
            }
            if c.is_ascii_alphanumeric() {
                wanted.push(c.to_ascii_lowercase());
            }
        }
        let mut wanted = wanted.trim_matches('_').to_owned();
        if wanted.is_empty() || wanted.starts_with(|c: char| c.is_ascii_digit()) {
            wanted.insert(0, 't');
        }
        let mut found = wanted.clone();
        for n in 2.. {
            if self.0.insert(found.clone()) {
                break;
            }
            found = format!("{wanted}_{n}");
        }
        found
    }
}

/// A name in camel case.
fn type_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.map(|w| w[..1].to_ascii_uppercase() + &w[1..]).collect()
}

fn element(ty: &TensorType) -> &'static str {
    match ty.dtype {
        DType::F64 => "f64",
        DType::F32 => "f32",
        DType::F16 => "::burin_runtime::F16",
        DType::BF16 => "::burin_runtime::BF16",
        DType::I64 => "i64",
        DType::I32 => "i32",
        DType::I16 => "i16",
        DType::I8 => "i8",
        DType::U64 => "u64",
        DType::U32 => "u32",
        DType::U16 => "u16",
        DType::U8 => "u8",
        DType::Bool => "bool",
        DType::Text => "String",
        DType::F8E4M3FN => "::burin_runtime::F8E4M3FN",
        DType::F8E4M3FNUZ => "::burin_runtime::F8E4M3FNUZ",
        DType::F8E5M2 => "::burin_runtime::F8E5M2",
        DType::F8E5M2FNUZ => "::burin_runtime::F8E5M2FNUZ",
        DType::F8E8M0 => "::burin_runtime::F8E8M0",
        DType::F4E2M1 => "::burin_runtime::F4E2M1",
        DType::I4 => "::burin_runtime::I4",
        DType::U4 => "::burin_runtime::U4",
        DType::I2 => "::burin_runtime::I2",
        DType::U2 => "::burin_runtime::U2",
    }
}

/// The number of elements of a constant shape.
fn count(port: &Port) -> Result<Option<usize>, String> {
    let Some(shape) = port.ty.static_shape() else { return Ok(None) };
    let elements = burin_ir::tensor::element_count(port.ty.dtype, &shape);
    elements.map(Some).ok_or_else(|| format!("\"{}\" is too large: {}", port.name, port.ty))
}

/// Text for a documentation comment.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The module's text; `name` is the linked symbols'.
pub(super) fn text(compiled: &Compiled, name: &str) -> Result<String, String> {
    let p = &compiled.program;
    let ty = type_name(name);
    let list = |ports: &[Port]| {
        let one = |p: &Port| format!("`{}: {}`", plain(&p.name), p.ty);
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let mut out = String::new();
    let _ = write!(
        out,
        "// Generated from a model by Burin; not to be edited.\n\n\
         /// A compiled model: {} -> {}.\n\
         ///\n\
         /// Its code is for CPUs of the level {}: [`{ty}::new`] takes the best one that there is.\n\
         #[allow(dead_code, unreachable_pub)]\n\
         pub struct {ty} {{\n    session: ::burin_runtime::Session,\n}}\n\n",
        list(&p.inputs),
        list(&p.outputs),
        compiled.levels().iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(" or ")
    );
    let fields = fields(p)?;
    output_type(&mut out, &ty, p, &fields);
    let _ = writeln!(out, "#[allow(dead_code, unreachable_pub)]\nimpl {ty} {{");
    constructors(&mut out, name, !p.states.is_empty());
    forward(&mut out, &ty, p, &fields)?;
    out.push_str("}\n");
    Ok(out)
}

/// A field's name and type for each output.
fn fields(p: &Program) -> Result<Vec<(String, String)>, String> {
    let mut scope = Scope::new();
    let field = |port: &Port| {
        let element = element(&port.ty);
        let ty = match count(port)? {
            _ if port.ty.dtype == DType::Text => "::burin_runtime::typed::Texts".to_owned(),
            Some(n) => format!("::burin_runtime::typed::Array<{element}, {n}>"),
            None => format!("::burin_runtime::typed::Slice<{element}>"),
        };
        Ok((scope.identifier(&port.name), ty))
    };
    p.outputs.iter().map(field).collect()
}

fn output_type(out: &mut String, ty: &str, p: &Program, fields: &[(String, String)]) {
    let _ = write!(
        out,
        "/// What [`{ty}::forward`] computes.\n\
         #[allow(dead_code, unreachable_pub)]\n\
         #[derive(Debug)]\n\
         pub struct {ty}Outputs {{\n"
    );
    for ((field, field_ty), port) in fields.iter().zip(&p.outputs) {
        let _ = writeln!(out, "    /// `{}`: `{}`\n    pub {field}: {field_ty},", plain(&port.name), port.ty);
    }
    out.push_str("}\n\n");
}

fn constructors(out: &mut String, name: &str, has_state: bool) {
    let _ = write!(
        out,
        "    /// The model, running on the calling thread; an error where the CPU lacks what its code needs.\n\
         \x20   pub fn new() -> Result<Self, ::burin_runtime::Error> {{\n\
         \x20       // SAFETY: the library that is linked together with this module defines both.\n\
         \x20       unsafe extern \"C\" {{\n\
         \x20           #[link_name = \"{name}_image\"]\n\
         \x20           static IMAGE: u8;\n\
         \x20           #[link_name = \"{name}_weights\"]\n\
         \x20           static WEIGHTS: u8;\n\
         \x20       }}\n\
         \x20       // SAFETY: the library that is linked together with this module holds both, complete and\n\
         \x20       // constant.\n\
         \x20       let model = unsafe {{ ::burin_runtime::Model::linked(&raw const IMAGE, &raw const WEIGHTS) }}?;\n\
         \x20       Ok(Self {{ session: ::burin_runtime::Session::new(&model)? }})\n\
         \x20   }}\n\n\
         \x20   /// The same with threads: those of a `burin_runtime::Pool`, or the program's own.\n\
         \x20   pub fn with_executor(self, executor: ::std::sync::Arc<dyn ::burin_runtime::Executor>) -> Self {{\n\
         \x20       Self {{ session: self.session.with_executor(executor) }}\n\
         \x20   }}\n\n"
    );
    if has_state {
        out.push_str(
            "    /// Sets the states to their initial values.\n\
             \x20   pub fn reset(&mut self) -> Result<(), ::burin_runtime::Error> {\n\
             \x20       self.session.reset()\n\
             \x20   }\n\n",
        );
    }
}

fn forward(out: &mut String, ty: &str, p: &Program, fields: &[(String, String)]) -> Result<(), String> {
    let mut scope = Scope::new();
    let dims: Vec<String> = p.dims.iter().map(|d| scope.identifier(d.name())).collect();
    let inputs: Vec<String> = p.inputs.iter().map(|i| scope.identifier(&i.name)).collect();
    out.push_str("    /// Runs the model.\n    ///\n");
    for (dim, symbol) in dims.iter().zip(&p.dims) {
        let _ = writeln!(out, "    /// - `{dim}`: the dimension `{symbol}`");
    }
    for (input, port) in inputs.iter().zip(&p.inputs) {
        let _ = writeln!(out, "    /// - `{input}`: `{}: {}`, row-major", plain(&port.name), port.ty);
    }
    out.push_str("    pub fn forward(\n        &mut self,\n");
    for dim in &dims {
        let _ = writeln!(out, "        {dim}: usize,");
    }
    for (input, port) in inputs.iter().zip(&p.inputs) {
        let element = element(&port.ty);
        let _ = match count(port)? {
            Some(n) => writeln!(out, "        {input}: &[{element}; {n}],"),
            None => writeln!(out, "        {input}: &[{element}],"),
        };
    }
    let values: Vec<String> = dims.iter().map(|d| format!("{d} as i64")).collect();
    let given: Vec<String> =
        p.dims.iter().zip(&values).map(|(d, value)| format!("({:?}, {value})", d.name())).collect();
    let shapes = if inputs.is_empty() { "_shapes" } else { "shapes" };
    let _ = writeln!(
        out,
        "    ) -> Result<{ty}Outputs, ::burin_runtime::Error> {{\n\
         \x20       let {shapes} = self.session.plan(0, &[{}])?.inputs;\n\
         \x20       let inputs = [",
        values.join(", ")
    );
    for (i, (input, port)) in inputs.iter().zip(&p.inputs).enumerate() {
        let function = if port.ty.dtype == DType::Text { "texts" } else { "input" };
        let _ = writeln!(
            out,
            "            ::burin_runtime::typed::{function}({:?}, &shapes[{i}], {input})?,",
            port.name
        );
    }
    let _ = writeln!(
        out,
        "        ];\n\
         \x20       let mut outputs = self.session.call(0, &inputs, &[{}], None)?.into_iter();\n\
         \x20       let model = self.session.model();\n\
         \x20       let entry = &model.entries()[0];\n\
         \x20       Ok({ty}Outputs {{",
        given.join(", ")
    );
    for (i, (field, field_ty)) in fields.iter().enumerate() {
        let path = field_ty.replacen('<', "::<", 1);
        let _ = writeln!(out, "            {field}: {path}::next(&entry.outputs[{i}], &mut outputs)?,");
    }
    out.push_str("        })\n    }\n");
    Ok(())
}
