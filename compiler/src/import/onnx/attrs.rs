//! Attributes: from the file's messages, in the form that the file gives them, to those of a row.

use super::proto::{AttributeProto, attribute_type as kind};
use super::tensor::{self, Files};
use burin_ir::Attr;
use burin_ir::attr::{AttrKind, AttrSpec};
use bytes::Bytes;

/// The attribute's kind; older writers leave it out, and then the field that is set tells.
pub(super) fn kind_of(a: &AttributeProto) -> i32 {
    match a.kind {
        kind::UNDEFINED if a.f.is_some() => kind::FLOAT,
        kind::UNDEFINED if a.i.is_some() => kind::INT,
        kind::UNDEFINED if a.s.is_some() => kind::STRING,
        kind::UNDEFINED if a.t.is_some() => kind::TENSOR,
        kind::UNDEFINED if a.g.is_some() => kind::GRAPH,
        kind::UNDEFINED if !a.floats.is_empty() => kind::FLOATS,
        kind::UNDEFINED if !a.strings.is_empty() => kind::STRINGS,
        kind::UNDEFINED => kind::INTS,
        given => given,
    }
}

/// The attribute's value, as the file has it: element types are still numbers.
pub(super) fn decode(a: &AttributeProto, files: &mut Files) -> Result<Attr, String> {
    let fault = |e: String| format!("attribute {}: {e}", a.name);
    let text = |b: &Bytes| String::from_utf8(b.to_vec()).map_err(|_| fault("is not UTF-8".into()));
    Ok(match kind_of(a) {
        kind::FLOAT => Attr::Float(a.f.unwrap_or_default().into()),
        kind::INT => Attr::Int(a.i.unwrap_or_default()),
        kind::STRING => Attr::Str(text(a.s.as_ref().unwrap_or(&Bytes::new()))?),
        kind::FLOATS => Attr::Floats(a.floats.iter().map(|v| f64::from(*v)).collect()),
        kind::INTS => Attr::Ints(a.ints.clone()),
        kind::STRINGS => Attr::Strs(a.strings.iter().map(text).collect::<Result<_, _>>()?),
        kind::TENSOR => {
            let t = a.t.as_ref().ok_or_else(|| fault("has no tensor".into()))?;
            Attr::Tensor(tensor::tensor(t, files).map_err(fault)?)
        }
        kind::SPARSE_TENSOR => {
            let t = a.sparse_tensor.as_ref().ok_or_else(|| fault("has no tensor".into()))?;
            Attr::Tensor(tensor::sparse(t, files).map_err(fault)?)
        }
        other => return Err(fault(format!("attributes of kind {other} are not supported"))),
    })
}

/// Gives attributes the form that the row's schema wants: numbers become element types, and an
/// empty list, whose kind some writers leave out, becomes one of the right kind. An undefined element
/// type is one that is not given.
pub(super) fn conform(schema: &[AttrSpec], attrs: &mut Vec<(String, Attr)>) -> Result<(), String> {
    let kind = |name: &str| schema.iter().find(|s| s.name == name).map(|s| s.kind);
    attrs.retain(|(n, a)| *a != Attr::Int(0) || kind(n) != Some(AttrKind::DType));
    for (name, value) in attrs {
        let Some(spec) = schema.iter().find(|s| s.name == name) else { continue };
        let conformed = match (spec.kind, &*value) {
            (AttrKind::DType, Attr::Int(n)) => {
                Attr::DType(tensor::dtype(*n).map_err(|e| format!("attribute {name}: {e}"))?)
            }
            (AttrKind::Floats, Attr::Ints(v)) if v.is_empty() => Attr::Floats(Vec::new()),
            (AttrKind::Strs, Attr::Ints(v)) if v.is_empty() => Attr::Strs(Vec::new()),
            _ => continue,
        };
        *value = conformed;
    }
    Ok(())
}

/// Gives a random op that has no seed one of its own, so that two of them draw different numbers.
pub(super) fn seed(schema: &[AttrSpec], attrs: &mut Vec<(String, Attr)>, number: usize) {
    if attrs.iter().any(|(name, _)| name == "seed") {
        return;
    }
    let seed = match schema.iter().find(|s| s.name == "seed").map(|s| s.kind) {
        Some(AttrKind::Int) => Attr::Int(number as i64),
        Some(AttrKind::Float) => Attr::Float(number as f64),
        _ => return,
    };
    attrs.push(("seed".to_owned(), seed));
}
