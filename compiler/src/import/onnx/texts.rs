//! Nodes over texts that files write in another way than rows have them: conversions, and the first form
//! of label encoders.

use super::upgrade::{Call, Outcome};
use burin_ir::graph::Builder;
use burin_ir::{Attr, DType};

/// The domain of classical machine learning.
const ML: &str = "ai.onnx.ml";

/// Rewrites a call, where it is one of those.
pub(super) fn apply(call: &mut Call, b: &mut Builder<'_>) -> Outcome {
    match (call.domain.as_str(), call.op.as_str()) {
        ("", "Cast" | "CastLike") => cast(call, b),
        (ML, "LabelEncoder") if call.version < 2 => {
            classes_to_categories(call);
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// A conversion from or to texts; numbers are left alone.
fn cast(call: &Call, b: &mut Builder<'_>) -> Outcome {
    let Some(Some(x)) = call.inputs.first().copied() else { return Ok(None) };
    let to = match (call.attr("to"), call.inputs.get(1).copied().flatten()) {
        (Some(Attr::Int(n)), _) => super::tensor::dtype(*n)?,
        (_, Some(like)) => b.ty(like)?.dtype,
        _ => return Ok(None),
    };
    if to != DType::Text && b.ty(x)?.dtype != DType::Text {
        return Ok(None);
    }
    Ok(Some(vec![b.op("CastText", &[x], vec![("to", Attr::DType(to))])?]))
}

/// Version 1 maps a list of texts to its positions, and back.
fn classes_to_categories(call: &mut Call) {
    if let Some(Attr::Strs(classes)) = call.take("classes_strings") {
        "CategoryMapper".clone_into(&mut call.op);
        call.attrs.push(("cats_int64s".to_owned(), Attr::Ints((0..classes.len() as i64).collect())));
        call.attrs.push(("cats_strings".to_owned(), Attr::Strs(classes)));
    }
}
