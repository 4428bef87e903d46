//! Type inference: what a row's functions see of a node, and the contents of small tensors that
//! travel through it as expressions.

use crate::attr::Attrs;
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::Constant;
use crate::ops::OpRow;
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::sync::Arc;

/// Tensors of more elements than this have no known contents.
pub const KNOWN_LIMIT: usize = 1024;

/// What is known of an operand.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Its type.
    pub ty: Type,
    /// Its contents as expressions, where they are known.
    pub known: Option<Arc<[Expr]>>,
    /// Its contents, where it is a constant whose data is at hand.
    pub data: Option<Tensor>,
}

/// A node as its row's functions see it.
pub struct Cx<'a> {
    /// The row.
    pub op: &'static OpRow,
    /// The node's attributes, complete.
    pub attrs: &'a Attrs,
    /// The operands; trailing absent ones may be missing.
    pub inputs: &'a [Option<Arg>],
    /// How many results the node has.
    pub outputs: usize,
    /// The types of the results of each region of the node.
    pub region_results: &'a [Vec<Type>],
    /// Makes a symbol for a size that depends on data.
    pub fresh: &'a dyn Fn() -> Symbol,
}

/// A result's type, with its contents where the rule knows them.
pub struct Info {
    /// The type.
    pub ty: Type,
    /// The contents.
    pub known: Option<Arc<[Expr]>>,
}

impl From<TensorType> for Info {
    fn from(t: TensorType) -> Info {
        Info { ty: t.into(), known: None }
    }
}

impl Cx<'_> {
    /// The operand of that number, if present.
    pub fn arg(&self, i: usize) -> Option<&Arg> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Whether the operand of that number is present.
    pub fn has(&self, i: usize) -> bool {
        self.arg(i).is_some()
    }

    /// The tensor type of an operand that must be there.
    pub fn ty(&self, i: usize) -> Result<&TensorType, String> {
        match self.arg(i) {
            Some(a) => a.ty.tensor().ok_or_else(|| format!("input {i} is {}, expected a tensor", a.ty)),
            None => Err(format!("input {i} is missing")),
        }
    }

    /// The element type of an operand that must be there.
    pub fn dtype(&self, i: usize) -> Result<DType, String> {
        Ok(self.ty(i)?.dtype)
    }

    /// The shape of an operand that must be there.
    pub fn shape(&self, i: usize) -> Result<&[Expr], String> {
        Ok(&self.ty(i)?.shape)
    }

    /// The contents of an operand, where they are known.
    pub fn known(&self, i: usize) -> Option<&[Expr]> {
        self.arg(i)?.known.as_deref()
    }

    /// The contents of an operand as integers, where they are known and constant.
    pub fn known_ints(&self, i: usize) -> Option<Vec<i64>> {
        self.known(i)?.iter().map(Expr::as_const).collect()
    }

    /// The contents of an operand that is a constant, as floats.
    pub fn known_floats(&self, i: usize) -> Option<Vec<f64>> {
        self.arg(i)?.data.as_ref().map(Tensor::to_f64s)
    }

    /// A required integer attribute (the schema guarantees its presence).
    pub fn int(&self, name: &str) -> i64 {
        self.attrs.int(name).unwrap_or_default()
    }

    /// An axis attribute or value, counted from the end when negative, checked against a rank.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, String> {
        let a = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(a) {
            Ok(a) if a < rank => Ok(a),
            _ => Err(format!("axis {axis} is out of range for rank {rank}")),
        }
    }
}

/// The contents of a small constant of integers or bools as expressions.
pub fn known_contents(c: &Constant) -> Option<Arc<[Expr]>> {
    let Constant::Data(t) = c else { return None };
    let small = t.len() <= KNOWN_LIMIT && t.dtype().is_whole();
    small.then(|| t.to_i64s().into_iter().map(Expr::from).collect())
}

/// The results of a node: the row's type rule, and then the contents of small integer results,
/// which the op's meaning gives by being applied to expressions.
pub fn infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let mut infos = infer_types(cx)?;
    let unknown = |i: &Info| if i.known.is_none() { i.ty.tensor().cloned() } else { None };
    let types: Vec<Option<TensorType>> = infos.iter().map(unknown).collect();
    let types: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
    for (info, known) in infos.iter_mut().zip(super::known::derive(cx, &types)) {
        info.known = info.known.take().or(known);
    }
    Ok(infos)
}

/// [`infer`] without contents beyond those that the row's type rule gives.
pub fn infer_types(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let infos = (cx.op.infer)(cx).map_err(|e| format!("{}: {e}", cx.op.name))?;
    if infos.len() != cx.outputs {
        return Err(format!("{} has {} results, the node names {}", cx.op.name, infos.len(), cx.outputs));
    }
    for info in &infos {
        info.ty.innermost().check_size().map_err(|e| format!("{}: {e}", cx.op.name))?;
    }
    Ok(infos)
}
