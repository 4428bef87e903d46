//! Types of graph values: tensors with symbolic shapes, and room for what is not a tensor.

use crate::dtype::DType;
use crate::expr::Expr;
use std::fmt;

/// The most bytes that a tensor may have by its constant dimensions, those of 0 counted as 1: what the
/// largest address space holds, and far enough from the ends of `i64` for sums and products of a few sizes.
const MOST_BYTES: i64 = 1 << 48;
/// The most dimensions, which are as many as NumPy's arrays and PyTorch's tensors may have: indices and strides
/// of more take long to compute with.
const MOST_DIMENSIONS: usize = 64;
/// The most monomials that the number of elements may come to, if none of them meet: all strides and sizes
/// are made of it.
const MOST_TERMS: usize = 1 << 14;

/// The element type and shape of a tensor. A dimension is an expression over the graph's symbols.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The extent of each dimension, outermost first.
    pub shape: Vec<Expr>,
}

impl TensorType {
    /// A type with that shape.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = impl Into<Expr>>) -> TensorType {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn elements(&self) -> Expr {
        Expr::product(&self.shape)
    }

    /// What the elements take in memory, in bytes.
    pub fn bytes(&self) -> Expr {
        self.elements() * self.dtype.bytes() as i64
    }

    /// An error where there are too many dimensions, the constant ones alone make the tensor larger than any
    /// memory, or so many are sums that their product is too long.
    pub fn check_size(&self) -> Result<(), String> {
        if self.rank() > MOST_DIMENSIONS {
            return Err(format!(
                "a tensor has {} dimensions, expected at most {MOST_DIMENSIONS}",
                self.rank()
            ));
        }
        let mut sizes = self.shape.iter().filter_map(Expr::as_const).map(|d| d.max(1));
        let bytes = sizes.try_fold(self.dtype.bytes() as i64, i64::checked_mul);
        let terms = |d: &Expr| (d.terms().len() + usize::from(d.constant_term() != 0)).max(1);
        let terms = self.shape.iter().fold(1, |n: usize, d| n.saturating_mul(terms(d)));
        if terms > MOST_TERMS {
            return Err(format!(
                "the number of elements of {self} is a sum of {terms} products, expected at most {MOST_TERMS}"
            ));
        }
        match bytes.is_some_and(|n| n <= MOST_BYTES) {
            true => Ok(()),
            false => {
                Err(format!("{self} is larger than the address space, expected at most {MOST_BYTES} bytes"))
            }
        }
    }

    /// The shape in numbers, where every dimension is a constant.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.as_const().and_then(|d| usize::try_from(d).ok())).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// The type of a graph value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A sequence of values of one type.
    Sequence(Box<Type>),
    /// A value that may be absent.
    Optional(Box<Type>),
}

impl Type {
    /// The tensor's type, if this is one.
    pub fn tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The tensor type at the bottom, in however many sequences and optionals.
    pub fn innermost(&self) -> &TensorType {
        match self {
            Type::Tensor(t) => t,
            Type::Sequence(t) | Type::Optional(t) => t.innermost(),
        }
    }

    /// [`Type::innermost`], to be changed.
    pub fn innermost_mut(&mut self) -> &mut TensorType {
        match self {
            Type::Tensor(t) => t,
            Type::Sequence(t) | Type::Optional(t) => t.innermost_mut(),
        }
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Type {
        Type::Tensor(t)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Sequence(t) => write!(f, "seq({t})"),
            Type::Optional(t) => write!(f, "optional({t})"),
        }
    }
}
