//! Tensors whose element type, and where it is constant their number of elements, rustc knows: what
//! the typed API of a model that is compiled into a program is made of.

use crate::error::Error;
use crate::model::Port;
use crate::tensor::{Element, Tensor, TensorRef, byte_count, type_text};
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

/// A tensor of `T`s; it dereferences to its elements, row-major.
pub struct Slice<T> {
    tensor: Tensor,
    element: PhantomData<T>,
}

/// A tensor of exactly `N` `T`s; it dereferences to them, row-major.
pub struct Array<T, const N: usize>(Slice<T>);

/// An input of a call over its elements; an error names it where their number does not fit.
pub fn input<'a, T: Element>(
    name: &str,
    shape: &'a [usize],
    values: &'a [T],
) -> Result<TensorRef<'a>, Error> {
    let expected = byte_count(T::DTYPE, shape).map(|bytes| bytes / T::DTYPE.bytes());
    if expected != Some(values.len()) {
        let (ty, found) = (type_text(T::DTYPE, shape), values.len());
        return Err(Error::Input(format!("input \"{name}\": found {found} elements, expected {ty}")));
    }
    TensorRef::new(shape, values)
}

/// An input of a call over its texts; an error names it where their number does not fit.
pub fn texts<'a>(name: &str, shape: &'a [usize], values: &'a [String]) -> Result<TensorRef<'a>, Error> {
    TensorRef::from_texts(shape, values).map_err(|e| Error::Input(format!("input \"{name}\": {e}")))
}

/// A tensor of texts; it dereferences to them, row-major.
pub struct Texts(Tensor);

impl Texts {
    /// The next of a call's outputs; an error where it is of another type than the port says.
    pub fn next(port: &Port, outputs: &mut impl Iterator<Item = Tensor>) -> Result<Texts, Error> {
        let tensor = outputs.next().filter(|t| t.as_texts().is_some());
        tensor.map(Texts).ok_or_else(|| wrong(port, String::from("texts")))
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The tensor without its static type.
    pub fn into_tensor(self) -> Tensor {
        self.0
    }
}

impl Deref for Texts {
    type Target = [String];

    fn deref(&self) -> &[String] {
        self.0.as_texts().unwrap_or_default()
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.0)?;
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Element> Slice<T> {
    /// The next of a call's outputs; an error where it is of another type than the port says.
    pub fn next(port: &Port, outputs: &mut impl Iterator<Item = Tensor>) -> Result<Slice<T>, Error> {
        let fits = |t: &Tensor| t.as_slice::<T>().is_some();
        let tensor = outputs.next().filter(fits);
        let tensor = tensor.ok_or_else(|| wrong(port, format!("elements of {}", T::DTYPE)))?;
        Ok(Slice { tensor, element: PhantomData })
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    /// The tensor without its static type.
    pub fn into_tensor(self) -> Tensor {
        self.tensor
    }
}

impl<T: Element, const N: usize> Array<T, N> {
    /// The next of a call's outputs; an error where it is of another type than the port says or does
    /// not have `N` elements.
    pub fn next(port: &Port, outputs: &mut impl Iterator<Item = Tensor>) -> Result<Array<T, N>, Error> {
        let slice = Slice::next(port, outputs)?;
        if slice.len() != N {
            return Err(wrong(port, format!("{N} elements, found {}", slice.len())));
        }
        Ok(Array(slice))
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The tensor without its static type.
    pub fn into_tensor(self) -> Tensor {
        self.0.tensor
    }
}

/// The API was generated from another model than the one that is linked.
fn wrong(port: &Port, expected: alloc::string::String) -> Error {
    Error::Input(format!("output \"{}\" is {port}, expected {expected}", port.name))
}

impl<T: Element> Deref for Slice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // `next` has seen that they are of this type, and nothing has changed them since.
        self.tensor.as_slice().unwrap_or(&[])
    }
}

impl<T: Element, const N: usize> Deref for Array<T, N> {
    type Target = [T; N];

    fn deref(&self) -> &[T; N] {
        match self.0.first_chunk() {
            Some(all) => all,
            None => unreachable!("`next` has counted the elements"),
        }
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for Slice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.tensor)?;
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Element + fmt::Debug, const N: usize> fmt::Debug for Array<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dim;
    use crate::tensor::DType;
    use alloc::string::ToString;
    use alloc::vec;

    fn port() -> Port {
        let dim = |n: usize| Dim { extent: Some(n), text: n.to_string(), symbol: None };
        let (name, shape) = ("y".to_string(), vec![dim(2), dim(2)]);
        Port { name, dtype: DType::F32, shape, unbounded: false, init: 0 }
    }

    fn outputs() -> impl Iterator<Item = Tensor> {
        Tensor::new(&[2, 2], &[1f32, 2.0, 3.0, 4.0]).into_iter()
    }

    #[test]
    fn outputs_have_the_static_type() {
        let y = Array::<f32, 4>::next(&port(), &mut outputs()).expect("fits");
        assert_eq!((*y, y.shape()), ([1.0, 2.0, 3.0, 4.0], &[2, 2][..]));
        let y = Slice::<f32>::next(&port(), &mut outputs()).expect("fits");
        assert_eq!((y.len(), y.shape()), (4, &[2, 2][..]));
    }

    #[test]
    fn other_outputs_are_refused() {
        let e = Array::<f32, 3>::next(&port(), &mut outputs()).expect_err("too many");
        assert_eq!(e.to_string(), "output \"y\" is f32[2, 2], expected 3 elements, found 4");
        let e = Slice::<i64>::next(&port(), &mut outputs()).expect_err("floats");
        assert_eq!(e.to_string(), "output \"y\" is f32[2, 2], expected elements of i64");
    }

    #[test]
    fn texts_are_told_from_numbers() {
        let words = vec!["a".to_string(), String::new()];
        let tensor = Tensor::from_texts(&[2], words.clone()).expect("fits");
        let y = Texts::next(&port(), &mut [tensor].into_iter()).expect("texts");
        assert_eq!((&*y, y.shape()), (&words[..], &[2][..]));
        let e = Texts::next(&port(), &mut outputs()).expect_err("floats");
        assert_eq!(e.to_string(), "output \"y\" is f32[2, 2], expected texts");
        let e = texts("x", &[3], &words).map(|_| ()).expect_err("too few");
        assert!(e.to_string().starts_with("input \"x\": "), "{e}");
    }

    #[test]
    fn inputs_are_counted() {
        let e = input("x", &[2, 3], &[1f32; 5]).expect_err("too few");
        assert_eq!(e.to_string(), "input \"x\": found 5 elements, expected f32[2, 3]");
        assert!(input("x", &[2, 3], &[1f32; 6]).is_ok());
    }
}
