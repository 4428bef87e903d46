//! Attributes: the compile-time arguments of an op, and the schema that a row gives for them.

use crate::dtype::DType;
use crate::tensor::Tensor;

/// An attribute's value.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Attr {
    Int(i64),
    Float(f64),
    Str(String),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Strs(Vec<String>),
    DType(DType),
    Tensor(Tensor),
}

/// The kind of an attribute's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AttrKind {
    Int,
    Float,
    Str,
    Ints,
    Floats,
    Strs,
    DType,
    Tensor,
}

impl Attr {
    /// The kind of this value.
    pub fn kind(&self) -> AttrKind {
        match self {
            Attr::Int(_) => AttrKind::Int,
            Attr::Float(_) => AttrKind::Float,
            Attr::Str(_) => AttrKind::Str,
            Attr::Ints(_) => AttrKind::Ints,
            Attr::Floats(_) => AttrKind::Floats,
            Attr::Strs(_) => AttrKind::Strs,
            Attr::DType(_) => AttrKind::DType,
            Attr::Tensor(_) => AttrKind::Tensor,
        }
    }
}

/// What an attribute is when a node does not give it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Default {
    /// The node must give it.
    Required,
    /// It stays absent, and the op says what that means.
    Absent,
    Int(i64),
    Float(f64),
    Str(&'static str),
}

/// The schema of one attribute. Names are ONNX's.
#[derive(Clone, Copy, Debug)]
pub struct AttrSpec {
    /// The name.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: AttrKind,
    /// What it is when a node does not give it.
    pub default: Default,
}

impl AttrSpec {
    /// An attribute with a default.
    pub const fn new(name: &'static str, kind: AttrKind, default: Default) -> AttrSpec {
        AttrSpec { name, kind, default }
    }
}

/// A node's attributes, in the order of the row's schema, without those that are absent. Defaults
/// are filled in when the node is made, so that a reader never repeats them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Attrs(pub Vec<(&'static str, Attr)>);

impl Attrs {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// An integer, if present.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Attr::Int(v)) => Some(*v),
            _ => None,
        }
    }

    /// All of them with names of their own, as [`Builder::node`](crate::graph::Builder::node) takes them.
    pub fn named(&self) -> Vec<(String, Attr)> {
        self.0.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect()
    }

    /// A flag: present and not zero.
    pub fn flag(&self, name: &str) -> bool {
        self.int(name).is_some_and(|v| v != 0)
    }

    /// A float, if present.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(Attr::Float(v)) => Some(*v),
            _ => None,
        }
    }

    /// A string, if present.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Attr::Str(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of integers, if present.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.get(name) {
            Some(Attr::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of floats, if present.
    pub fn floats(&self, name: &str) -> Option<&[f64]> {
        match self.get(name) {
            Some(Attr::Floats(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of strings, if present.
    pub fn strs(&self, name: &str) -> Option<&[String]> {
        match self.get(name) {
            Some(Attr::Strs(v)) => Some(v),
            _ => None,
        }
    }

    /// An element type, if present.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match self.get(name) {
            Some(Attr::DType(v)) => Some(*v),
            _ => None,
        }
    }

    /// A tensor, if present.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.get(name) {
            Some(Attr::Tensor(v)) => Some(v),
            _ => None,
        }
    }
}

/// Checks given attributes against a schema and fills in the defaults.
pub fn complete(schema: &[AttrSpec], mut given: Vec<(String, Attr)>) -> Result<Attrs, String> {
    let mut out = Attrs::default();
    for spec in schema {
        let found = given.iter().position(|(n, _)| n == spec.name).map(|i| given.swap_remove(i).1);
        let value = match (found, spec.default) {
            (Some(v), _) if v.kind() == spec.kind => v,
            (Some(v), _) => {
                return Err(format!("attribute {} is {:?}, expected {:?}", spec.name, v.kind(), spec.kind));
            }
            (None, Default::Required) => return Err(format!("attribute {} is missing", spec.name)),
            (None, Default::Absent) => continue,
            (None, Default::Int(v)) => Attr::Int(v),
            (None, Default::Float(v)) => Attr::Float(v),
            (None, Default::Str(v)) => Attr::Str(v.to_owned()),
        };
        out.0.push((spec.name, value));
    }
    match given.first() {
        Some((name, _)) => Err(format!("unknown attribute {name}")),
        None => Ok(out),
    }
}
