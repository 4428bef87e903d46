//! Tensors with contents: what the evaluator computes on and what constants hold.

use crate::dtype::DType;
use crate::scalar::{Scalar, from_bits, to_bits};
use crate::strings;
use bytes::Bytes;
use half::{bf16, f16};
use std::borrow::Cow;
use std::fmt;

/// A dense, row-major tensor of known shape. Cloning shares the data, which may lie in a mapped
/// file and need not be aligned.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
}

/// A Rust type that stores one element of a [`DType`].
pub trait Element: bytemuck::Pod {
    /// The element type it stores.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i16 => I16,
          i8 => I8, u64 => U64, u32 => U32, u16 => U16, u8 => U8);

/// The number of elements of a shape; `None` where it or its size in bytes overflows `isize`.
pub fn element_count(dtype: DType, shape: &[usize]) -> Option<usize> {
    let n = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    (n.checked_mul(dtype.bytes())? <= isize::MAX as usize).then_some(n)
}

impl Tensor {
    /// A tensor over little-endian bytes; an error where their number does not fit the shape.
    pub fn from_bytes(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Tensor, String> {
        let expected = element_count(dtype, &shape)
            .ok_or_else(|| format!("a tensor {dtype}{shape:?} is larger than the address space"))?
            * dtype.bytes();
        if data.len() != expected {
            return Err(format!("{dtype}{shape:?} takes {expected} bytes, found {}", data.len()));
        }
        Ok(Tensor { dtype, shape, data })
    }

    /// A tensor of the given elements.
    ///
    /// # Panics
    /// If their number does not fit the shape.
    pub fn new<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "elements of {shape:?}");
        let data = Bytes::copy_from_slice(bytemuck::cast_slice(values));
        Tensor { dtype: T::DTYPE, shape: shape.to_vec(), data }
    }

    /// A tensor of bools.
    ///
    /// # Panics
    /// If their number does not fit the shape.
    pub fn bools(shape: &[usize], values: &[bool]) -> Tensor {
        let mut t = Tensor::new(shape, &values.iter().map(|b| *b as u8).collect::<Vec<_>>());
        t.dtype = DType::Bool;
        t
    }

    /// A tensor of the given texts.
    ///
    /// # Panics
    /// If their number does not fit the shape.
    pub fn texts(shape: &[usize], texts: &[impl AsRef<str>]) -> Tensor {
        let numbers: Vec<i64> = texts.iter().map(|t| strings::number_of(t.as_ref())).collect();
        let mut t = Tensor::new(shape, &numbers);
        t.dtype = DType::Text;
        t
    }

    /// The elements as texts; `None` where they are numbers.
    pub fn to_texts(&self) -> Option<Vec<&'static str>> {
        let texts = || self.scalars().map(|n| strings::text_of(n.as_i64()).unwrap_or_default()).collect();
        (self.dtype == DType::Text).then(texts)
    }

    /// A tensor of the given scalars, converted to `dtype` as [`Scalar::cast`] does.
    ///
    /// # Panics
    /// If their number does not fit the shape.
    pub fn from_scalars(dtype: DType, shape: &[usize], values: impl IntoIterator<Item = Scalar>) -> Tensor {
        let mut data = Vec::new();
        for v in values {
            data.extend_from_slice(&to_bits(v.cast(dtype), dtype).to_le_bytes()[..dtype.bytes()]);
        }
        assert_eq!(data.len(), shape.iter().product::<usize>() * dtype.bytes(), "elements of {shape:?}");
        Tensor { dtype, shape: shape.to_vec(), data: data.into() }
    }

    /// A tensor of the given numbers, rounded or converted to `dtype` as [`Scalar::cast`] does.
    ///
    /// # Panics
    /// If their number does not fit the shape.
    pub fn from_f64s(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
        match dtype {
            DType::F64 => Tensor::new(shape, values),
            DType::F32 => Tensor::new(shape, &values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
            _ => Tensor::from_scalars(dtype, shape, values.iter().map(|v| Scalar::F(*v))),
        }
    }

    /// A tensor whose elements are all zero.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>() * dtype.bytes();
        Tensor { dtype, shape: shape.to_vec(), data: vec![0; n].into() }
    }

    /// A tensor without dimensions.
    pub fn scalar(dtype: DType, value: Scalar) -> Tensor {
        Tensor::from_scalars(dtype, &[], [value])
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' bytes, little-endian, row-major.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The elements; copied only where the bytes are not aligned.
    ///
    /// # Panics
    /// If the tensor does not store elements of this type (bools read as `u8`).
    pub fn values<T: Element>(&self) -> Cow<'_, [T]> {
        let fits = self.dtype == T::DTYPE || (self.dtype == DType::Bool && T::DTYPE == DType::U8);
        assert!(fits, "a tensor of {} read as {}", self.dtype, T::DTYPE);
        match bytemuck::try_cast_slice(&self.data) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.data)),
        }
    }

    /// The element at a row-major position.
    ///
    /// # Panics
    /// If the position is past the end.
    pub fn get(&self, i: usize) -> Scalar {
        let n = self.dtype.bytes();
        let mut bits = [0; 8];
        bits[..n].copy_from_slice(&self.data[i * n..(i + 1) * n]);
        from_bits(u64::from_le_bytes(bits), self.dtype)
    }

    /// All elements in row-major order.
    pub fn scalars(&self) -> impl Iterator<Item = Scalar> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// All elements as `f64`.
    pub fn to_f64s(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => self.values::<f32>().iter().map(|v| *v as f64).collect(),
            DType::F64 => self.values::<f64>().into_owned(),
            _ => self.scalars().map(Scalar::as_f64).collect(),
        }
    }

    /// All elements as `i64`.
    pub fn to_i64s(&self) -> Vec<i64> {
        self.scalars().map(Scalar::as_i64).collect()
    }

    /// The same elements with another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshaped(&self, shape: &[usize]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), self.len(), "reshape of {:?} to {shape:?}", self.shape);
        Tensor { dtype: self.dtype, shape: shape.to_vec(), data: self.data.clone() }
    }

    /// Every element converted to another type.
    pub fn cast(&self, to: DType) -> Tensor {
        if to == self.dtype {
            return self.clone();
        }
        Tensor::from_scalars(to, &self.shape, self.scalars())
    }
}

/// Row-major strides of a shape, in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
