//! Models made dynamic: the same model with symbols in place of its inputs' dimensions.

use burin_compiler::import::onnx::proto::{
    DimensionProto, DimensionValue, ModelProto, TensorTypeProto, TypeValue,
};
use burin_compiler::import::onnx::{self, Options};
use burin_ir::graph::Graph;
use prost::Message;
use std::collections::HashSet;
use std::path::Path;

/// Which dimensions get symbols, and which share one: in the order in which less and less is left open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symbols {
    /// Each dimension of each input has a symbol of its own.
    Own,
    /// Equal sizes share a symbol, as where an op demands that they are equal; sizes of 0 and 1 stay
    /// numbers, since they decide broadcasting.
    Shared,
    /// As `Shared`, but tensors of integers keep the sizes of their last dimensions, which say ranks (of a
    /// shape, of axes, of positions).
    Ranks,
}

impl Symbols {
    /// All, the most general first.
    pub const ALL: [Symbols; 3] = [Symbols::Own, Symbols::Shared, Symbols::Ranks];

    /// The name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Symbols::Own => "own",
            Symbols::Shared => "shared",
            Symbols::Ranks => "ranks",
        }
    }
}

/// A model of a file with symbols in place of sizes; `None` where its inputs have no dimension that
/// would get one. `options` says what types leave open.
pub fn import(path: &Path, options: &Options, symbols: Symbols) -> Result<Option<Graph>, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut model = ModelProto::decode(&bytes[..]).map_err(|e| e.to_string())?;
    if !make_symbolic(&mut model, options, symbols) {
        return Ok(None);
    }
    let file = path.display().to_string();
    let bytes = model.encode_to_vec().into();
    onnx::import_bytes(bytes, &file, path.parent(), options).map(Some).map_err(|e| e.to_string())
}

/// Puts symbols in place of sizes; whether there was any.
fn make_symbolic(model: &mut ModelProto, options: &Options, symbols: Symbols) -> bool {
    let Some(graph) = &mut model.graph else { return false };
    let mut constants: HashSet<&str> = graph.initializer.iter().map(|t| &t.name[..]).collect();
    constants.extend(options.fixed.iter().map(|(name, _)| &name[..]));
    let mut any = false;
    for input in graph.input.iter_mut().filter(|i| !constants.contains(&i.name[..])) {
        if let Some(TypeValue::Tensor(t)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            any |= of_tensor(&input.name, t, symbols);
        }
    }
    any
}

fn of_tensor(input: &str, t: &mut TensorTypeProto, symbols: Symbols) -> bool {
    /// The numbers of int32 and int64 in ONNX.
    const INTEGERS: [i32; 2] = [6, 7];
    let dims: &mut [DimensionProto] = t.shape.as_mut().map_or(&mut [], |s| &mut s.dim);
    let ranks = symbols == Symbols::Ranks && INTEGERS.contains(&t.elem_type);
    let open = dims.len() - usize::from(ranks).min(dims.len());
    let mut any = false;
    for (axis, dim) in dims[..open].iter_mut().enumerate() {
        let name = match (symbols, &dim.value) {
            (Symbols::Own, _) => format!("{input}_axis{axis}"),
            (_, Some(DimensionValue::Value(n))) if *n > 1 => format!("size{n}"),
            (_, Some(DimensionValue::Param(_)) | None) => format!("{input}_axis{axis}"),
            _ => continue,
        };
        dim.value = Some(DimensionValue::Param(name));
        any = true;
    }
    any
}
