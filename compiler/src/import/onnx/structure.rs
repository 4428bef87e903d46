//! What names stand for while a model is imported: tensors, and what is made of tensors.
//!
//! Graphs know tensors alone. Sequences, optionals and maps are taken apart here: how many elements a
//! sequence has, and whether an optional is there, is known wherever it is used, so that the ops over
//! them leave no nodes but those of their elements.

use burin_ir::DType;
use burin_ir::graph::Value;
use std::fmt;
use std::sync::Arc;

/// More elements than this no sequence has.
pub(super) const MAX_LENGTH: usize = 1 << 12;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A tensor.
    Tensor(Value),
    /// Tensors with elements of one type, and any shapes.
    Sequence(Sequence),
    /// A tensor or a sequence, or nothing.
    Optional(Option<Box<Item>>),
    /// For each row of a matrix a map from keys to the row's elements.
    Maps(Arc<Keys>, Value),
}

/// A sequence of tensors.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) dtype: DType,
    pub(super) elements: Vec<Value>,
}

/// The keys of maps, in the order of the columns that hold their values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    /// Integers.
    Ints(Vec<i64>),
    /// Strings.
    Texts(Vec<String>),
}

/// Of which tensors an input or an output of a model consists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// One of its own name.
    Tensor,
    /// So many, named `NAME.0`, `NAME.1` and so on.
    Sequence(usize),
    /// One of its own name: a row for each map, a column for each key.
    Maps(Keys),
    /// None: it is an optional that is not there.
    Absent,
    /// None: it is an input whose contents are fixed.
    Fixed,
}

/// A model's inputs or outputs in order: the name of each, and of which of the graph's it consists.
pub type Ports = Vec<(String, Form)>;

impl Keys {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Keys::Ints(all) => all.len(),
            Keys::Texts(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = match self {
            Keys::Ints(all) => all.iter().map(i64::to_string).collect(),
            Keys::Texts(all) => all.iter().map(|k| format!("{k:?}")).collect(),
        };
        f.write_str(&all.join(", "))
    }
}

impl Item {
    /// The tensor that this is.
    pub(super) fn tensor(&self) -> Result<Value, String> {
        match self {
            Item::Tensor(v) => Ok(*v),
            other => Err(format!("found {other}, expected a tensor")),
        }
    }

    /// The sequence that this is.
    pub(super) fn sequence(&self) -> Result<&Sequence, String> {
        match self {
            Item::Sequence(s) => Ok(s),
            other => Err(format!("found {other}, expected a sequence")),
        }
    }

    /// The tensors that it is made of.
    pub(super) fn leaves(&self) -> &[Value] {
        match self {
            Item::Tensor(v) | Item::Maps(_, v) => std::slice::from_ref(v),
            Item::Sequence(s) => &s.elements,
            Item::Optional(Some(of)) => of.leaves(),
            Item::Optional(None) => &[],
        }
    }

    /// The same of other tensors, of which there must be enough.
    pub(super) fn with_leaves(&self, from: &mut impl Iterator<Item = Value>) -> Option<Item> {
        Some(match self {
            Item::Tensor(_) => Item::Tensor(from.next()?),
            Item::Maps(keys, _) => Item::Maps(keys.clone(), from.next()?),
            Item::Sequence(s) => {
                let elements: Vec<Value> = from.take(s.elements.len()).collect();
                (elements.len() == s.elements.len())
                    .then_some(Item::Sequence(Sequence { dtype: s.dtype, elements }))?
            }
            Item::Optional(Some(of)) => Item::Optional(Some(Box::new(of.with_leaves(from)?))),
            Item::Optional(None) => Item::Optional(None),
        })
    }

    /// Whether both are made alike, whatever the tensors' types.
    pub(super) fn alike(&self, other: &Item) -> bool {
        match (self, other) {
            (Item::Tensor(_), Item::Tensor(_)) | (Item::Optional(None), Item::Optional(None)) => true,
            (Item::Sequence(a), Item::Sequence(b)) => a.elements.len() == b.elements.len(),
            (Item::Maps(a, _), Item::Maps(b, _)) => a == b,
            (Item::Optional(Some(a)), Item::Optional(Some(b))) => a.alike(b),
            _ => false,
        }
    }

    /// Of which tensors it consists where it leaves the model.
    pub(super) fn form(&self) -> Form {
        match self {
            Item::Tensor(_) => Form::Tensor,
            Item::Sequence(s) => Form::Sequence(s.elements.len()),
            Item::Maps(keys, _) => Form::Maps(Keys::clone(keys)),
            Item::Optional(Some(of)) => of.form(),
            Item::Optional(None) => Form::Absent,
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Tensor(_) => f.write_str("a tensor"),
            Item::Sequence(s) if s.elements.len() == 1 => f.write_str("a sequence of 1 tensor"),
            Item::Sequence(s) => write!(f, "a sequence of {} tensors", s.elements.len()),
            Item::Optional(Some(of)) => write!(f, "an optional that holds {of}"),
            Item::Optional(None) => f.write_str("an optional that is not there"),
            Item::Maps(..) => f.write_str("a sequence of maps"),
        }
    }
}
