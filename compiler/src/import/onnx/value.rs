//! Recorded contents of inputs and outputs, in the files of the ONNX test layout: what a file holds
//! follows from the declared type, since nothing in the file says it.

use super::proto::{
    ElementTypeProto, MapProto, OptionalProto, SequenceProto, TensorProto, TypeProto, TypeValue,
    element_kind as kind,
};
use super::structure::Keys;
use super::tensor::{self, Files};
use burin_ir::Tensor;
use bytes::Bytes;
use prost::Message;
use std::fmt;

/// What a file holds.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence of tensors.
    Sequence(Vec<Tensor>),
    /// An optional.
    Optional(Option<Box<Recorded>>),
    /// A sequence of maps, each with a tensor for each key.
    Maps(Vec<(Keys, Vec<Tensor>)>),
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recorded::Tensor(_) => f.write_str("a tensor"),
            Recorded::Sequence(all) => write!(f, "a sequence of {}", all.len()),
            Recorded::Optional(Some(of)) => write!(f, "{of}"),
            Recorded::Optional(None) => f.write_str("an optional that is not there"),
            Recorded::Maps(all) => write!(f, "a sequence of {} maps", all.len()),
        }
    }
}

/// Decodes a file that holds a value of that type.
pub(super) fn decode(bytes: Bytes, ty: &TypeProto, files: &mut Files) -> Result<Recorded, String> {
    fn message<M: Message + Default>(bytes: Bytes, what: &str) -> Result<M, String> {
        M::decode(bytes).map_err(|e| format!("not an ONNX {what}: {e}"))
    }
    match &ty.value {
        Some(TypeValue::Sequence(of)) => sequence(&message(bytes, "sequence")?, of, files),
        Some(TypeValue::Optional(of)) => optional(&message(bytes, "optional")?, of, files),
        Some(TypeValue::Tensor(_)) | None => {
            let t: TensorProto = message(bytes, "tensor")?;
            tensor::tensor(&t, files).map(Recorded::Tensor)
        }
        Some(_) => Err("recorded values are read of tensors, sequences and optionals alone".to_owned()),
    }
}

fn tensors(all: &[TensorProto], files: &mut Files) -> Result<Vec<Tensor>, String> {
    let element = |(i, t)| tensor::tensor(t, files).map_err(|e| format!("element {i}: {e}"));
    all.iter().enumerate().map(element).collect()
}

fn sequence(s: &SequenceProto, of: &ElementTypeProto, files: &mut Files) -> Result<Recorded, String> {
    let declared = of.elem_type.as_ref().and_then(|t| t.value.as_ref());
    match (declared, s.elem_type) {
        (Some(TypeValue::Tensor(_)), kind::UNDEFINED | kind::TENSOR) if s.map_values.is_empty() => {
            Ok(Recorded::Sequence(tensors(&s.tensor_values, files)?))
        }
        (Some(TypeValue::Map(_)), kind::UNDEFINED | kind::MAP) if s.tensor_values.is_empty() => {
            let each = |(i, m)| map(m, files).map_err(|e| format!("map {i}: {e}"));
            Ok(Recorded::Maps(s.map_values.iter().enumerate().map(each).collect::<Result<_, _>>()?))
        }
        (_, found) => Err(format!(
            "a sequence of elements of kind {found}, expected what the model declares: tensors or maps"
        )),
    }
}

fn optional(o: &OptionalProto, of: &ElementTypeProto, files: &mut Files) -> Result<Recorded, String> {
    let held =
        match (of.elem_type.as_ref().and_then(|t| t.value.as_ref()), &o.tensor_value, &o.sequence_value) {
            (Some(TypeValue::Tensor(_)), Some(t), None) => Some(Recorded::Tensor(tensor::tensor(t, files)?)),
            (Some(TypeValue::Sequence(of)), None, Some(s)) => Some(sequence(s, of, files)?),
            (_, None, None) if matches!(o.elem_type, kind::UNDEFINED | kind::TENSOR | kind::SEQUENCE) => None,
            _ => {
                return Err(
                    "the optional does not hold what the model declares: a tensor or a sequence".to_owned()
                );
            }
        };
    Ok(Recorded::Optional(held.map(Box::new)))
}

fn map(m: &MapProto, files: &mut Files) -> Result<(Keys, Vec<Tensor>), String> {
    let text = |b: &Bytes| String::from_utf8(b.to_vec()).map_err(|_| "a key is not UTF-8".to_owned());
    let keys = match m.string_keys.is_empty() {
        true => Keys::Ints(m.keys.clone()),
        false => Keys::Texts(m.string_keys.iter().map(text).collect::<Result<_, _>>()?),
    };
    let values = m.values.as_ref().map_or(&[][..], |v| v.tensor_values.as_slice());
    if values.len() != keys.len() {
        return Err(format!("{} keys and {} values", keys.len(), values.len()));
    }
    Ok((keys, tensors(values, files)?))
}
