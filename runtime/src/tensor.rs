//! Typed tensors, borrowed and owned.
//!
//! Both are dense and row-major, hold as many bytes as their shape says, and are aligned to their
//! element. Those of texts hold a string for each element instead, and no bytes.

use crate::abi::dtype;
use crate::buffer::Buffer;
use crate::error::Error;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Element types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum DType {
    F64 = dtype::F64,
    F32 = dtype::F32,
    F16 = dtype::F16,
    BF16 = dtype::BF16,
    I64 = dtype::I64,
    I32 = dtype::I32,
    I16 = dtype::I16,
    I8 = dtype::I8,
    U64 = dtype::U64,
    U32 = dtype::U32,
    U16 = dtype::U16,
    U8 = dtype::U8,
    Bool = dtype::BOOL,
    Text = dtype::TEXT,
    F8E4M3FN = dtype::F8E4M3FN,
    F8E4M3FNUZ = dtype::F8E4M3FNUZ,
    F8E5M2 = dtype::F8E5M2,
    F8E5M2FNUZ = dtype::F8E5M2FNUZ,
    F8E8M0 = dtype::F8E8M0,
    F4E2M1 = dtype::F4E2M1,
    I4 = dtype::I4,
    U4 = dtype::U4,
    I2 = dtype::I2,
    U2 = dtype::U2,
}

/// (type, name, bytes), the facts of every type.
const FACTS: [(DType, &str, usize); 24] = [
    (DType::F64, "f64", 8),
    (DType::F32, "f32", 4),
    (DType::F16, "f16", 2),
    (DType::BF16, "bf16", 2),
    (DType::I64, "i64", 8),
    (DType::I32, "i32", 4),
    (DType::I16, "i16", 2),
    (DType::I8, "i8", 1),
    (DType::U64, "u64", 8),
    (DType::U32, "u32", 4),
    (DType::U16, "u16", 2),
    (DType::U8, "u8", 1),
    (DType::Bool, "bool", 1),
    (DType::Text, "text", 8),
    (DType::F8E4M3FN, "f8e4m3fn", 1),
    (DType::F8E4M3FNUZ, "f8e4m3fnuz", 1),
    (DType::F8E5M2, "f8e5m2", 1),
    (DType::F8E5M2FNUZ, "f8e5m2fnuz", 1),
    (DType::F8E8M0, "f8e8m0", 1),
    (DType::F4E2M1, "f4e2m1", 1),
    (DType::I4, "i4", 1),
    (DType::U4, "u4", 1),
    (DType::I2, "i2", 1),
    (DType::U2, "u2", 1),
];

impl DType {
    /// Every element type.
    pub fn all() -> impl Iterator<Item = DType> {
        FACTS.iter().map(|f| f.0)
    }

    fn facts(self) -> (DType, &'static str, usize) {
        FACTS.into_iter().find(|f| f.0 == self).unwrap_or(FACTS[0])
    }

    /// The type of a number of [`dtype`].
    pub fn from_abi(number: u32) -> Option<DType> {
        DType::all().find(|d| d.abi() == number)
    }

    /// Its number in [`dtype`].
    pub const fn abi(self) -> u32 {
        self as u32
    }

    /// Its name, such as `f32`.
    pub fn name(self) -> &'static str {
        self.facts().1
    }

    /// Bits of an element where several lie in a byte, as in ONNX's files.
    pub const fn packed_bits(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 | DType::Text => 64,
            DType::F32 | DType::I32 | DType::U32 => 32,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 16,
            DType::F4E2M1 | DType::I4 | DType::U4 => 4,
            DType::I2 | DType::U2 => 2,
            _ => 8,
        }
    }

    /// Bytes of an element in memory.
    pub fn bytes(self) -> usize {
        self.facts().2
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        use DType::*;
        let wide = matches!(self, F64 | F32 | F16 | BF16);
        wide || matches!(self, F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1)
    }

    /// An element's value; integers beyond 2^53 are rounded.
    ///
    /// # Panics
    /// If there are fewer bytes than the element has.
    pub fn to_f64(self, bytes: &[u8]) -> f64 {
        macro_rules! le {
            ($t:ty) => {{
                let mut b = [0; size_of::<$t>()];
                b.copy_from_slice(&bytes[..size_of::<$t>()]);
                <$t>::from_le_bytes(b)
            }};
        }
        match self {
            DType::F64 => le!(f64),
            DType::F32 => le!(f32) as f64,
            DType::F16 => F16(le!(u16)).to_f32() as f64,
            DType::BF16 => BF16(le!(u16)).to_f32() as f64,
            DType::I64 | DType::Text => le!(i64) as f64,
            DType::I32 => le!(i32) as f64,
            DType::I16 => le!(i16) as f64,
            DType::I8 | DType::I4 | DType::I2 => le!(i8) as f64,
            DType::U64 => le!(u64) as f64,
            DType::U32 => le!(u32) as f64,
            DType::U16 => le!(u16) as f64,
            DType::U8 | DType::Bool | DType::U4 | DType::U2 => bytes[0] as f64,
            small => minifloat(small, bytes[0]) as f64,
        }
    }
}

/// The value of a code of a floating-point type of 8 bits or less; the formats are ONNX's.
fn minifloat(ty: DType, code: u8) -> f32 {
    // The sign's bit, digits of the mantissa, bias of the exponent, codes without sign that are finite.
    let (sign, digits, bias, finite) = match ty {
        DType::F8E8M0 if code == 0xff => return f32::NAN,
        // The least power of two is a denormal.
        DType::F8E8M0 if code == 0 => return f32::from_bits(1 << 22),
        DType::F8E8M0 => return f32::from_bits((code as u32) << 23),
        DType::F8E4M3FNUZ | DType::F8E5M2FNUZ if code == 0x80 => return f32::NAN,
        DType::F8E4M3FN => (0x80, 3, 7, 0x7f),
        DType::F8E4M3FNUZ => (0x80, 3, 8, 0x80),
        DType::F8E5M2 => (0x80, 2, 15, 0x7c),
        DType::F8E5M2FNUZ => (0x80, 2, 16, 0x80),
        _ => (0x08, 1, 1, 0x08),
    };
    let magnitude = code & (sign - 1);
    let value = match magnitude {
        m if m < finite => f32::from_bits((m as u32) << (23 - digits)) * f32::from_bits((254 - bias) << 23),
        0x7c => f32::INFINITY,
        _ => f32::NAN,
    };
    if code & sign != 0 { -value } else { value }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// IEEE 754 binary16, as its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct F16(pub u16);

/// The upper half of an `f32`, as its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct BF16(pub u16);

macro_rules! storage {
    ($($name:ident($bits:ty)),*) => {$(
        /// An element of the type of that name, as the byte in memory; [`DType::to_f64`] has its value.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(pub $bits);
        // SAFETY: a transparent wrapper of one byte.
        unsafe impl Element for $name { const DTYPE: DType = DType::$name; }
    )*};
}
storage!(
    F8E4M3FN(u8),
    F8E4M3FNUZ(u8),
    F8E5M2(u8),
    F8E5M2FNUZ(u8),
    F8E8M0(u8),
    F4E2M1(u8),
    I4(i8),
    U4(u8),
    I2(i8),
    U2(u8)
);

impl F16 {
    /// The value, exactly.
    pub fn to_f32(self) -> f32 {
        let (sign, exponent, fraction) =
            ((self.0 as u32 >> 15) << 31, self.0 >> 10 & 31, self.0 as u32 & 0x3ff);
        let magnitude = match exponent {
            // Denormals are multiples of 2^-24.
            0 => return f32::from_bits((fraction as f32 / 16_777_216.0).to_bits() | sign),
            31 => 0x7f80_0000 | fraction << 13,
            e => (e as u32 + 112) << 23 | fraction << 13,
        };
        f32::from_bits(sign | magnitude)
    }
}

impl BF16 {
    /// The value, exactly.
    pub fn to_f32(self) -> f32 {
        f32::from_bits((self.0 as u32) << 16)
    }
}

/// A Rust type that stores one element.
///
/// # Safety
/// The type must have the size and alignment of the element type, and no padding.
pub unsafe trait Element: Copy + 'static {
    /// The element type it stores.
    const DTYPE: DType;
    /// Whether every bit pattern of the element type is a value of the Rust type.
    const ANY_BITS: bool = true;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => {$(
        // SAFETY: the primitive (or a transparent wrapper of one) of that size.
        unsafe impl Element for $t { const DTYPE: DType = DType::$d; }
    )*};
}
elements!(f64 => F64, f32 => F32, F16 => F16, BF16 => BF16, i64 => I64, i32 => I32, i16 => I16,
          i8 => I8, u64 => U64, u32 => U32, u16 => U16, u8 => U8);
// SAFETY: one byte, 0 or 1.
unsafe impl Element for bool {
    const DTYPE: DType = DType::Bool;
    const ANY_BITS: bool = false;
}

/// The bytes of a shape; `None` where they overflow `isize`.
pub fn byte_count(dtype: DType, shape: &[usize]) -> Option<usize> {
    let n = shape.iter().try_fold(dtype.bytes(), |n, d| n.checked_mul(*d));
    // A zero extent hides an overflow of the others, which would still be a useless shape.
    n.filter(|n| *n <= isize::MAX as usize)
}

/// How messages print a type: `f32[1, 3, 224, 224]`.
pub fn type_text(dtype: DType, shape: &[usize]) -> String {
    format!("{dtype}{shape:?}")
}

fn refuse_texts(dtype: DType) -> Result<(), Error> {
    match dtype {
        DType::Text => {
            Err(Error::Input(String::from("a tensor of texts is not made of bytes: give its texts")))
        }
        _ => Ok(()),
    }
}

fn check_texts(shape: &[usize], found: usize) -> Result<(), Error> {
    let ty = || type_text(DType::Text, shape);
    match byte_count(DType::Text, shape).map(|bytes| bytes / DType::Text.bytes()) {
        Some(n) if n == found => Ok(()),
        Some(n) => Err(Error::Input(format!("{} takes {n} texts, found {found}", ty()))),
        None => Err(Error::Input(format!("{} is too large", ty()))),
    }
}

/// A borrowed tensor.
#[derive(Clone, Copy)]
pub struct TensorRef<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
    texts: &'a [String],
}

impl<'a> TensorRef<'a> {
    /// A tensor over little-endian bytes; an error where their number does not fit the shape or
    /// they are not aligned to the element.
    pub fn from_bytes(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Result<TensorRef<'a>, Error> {
        refuse_texts(dtype)?;
        let expected = byte_count(dtype, shape)
            .ok_or_else(|| Error::Input(format!("{} is too large", type_text(dtype, shape))))?;
        if bytes.len() != expected {
            let ty = type_text(dtype, shape);
            return Err(Error::Input(format!("{ty} takes {expected} bytes, found {}", bytes.len())));
        }
        if expected > 0 && !(bytes.as_ptr() as usize).is_multiple_of(dtype.bytes()) {
            return Err(Error::Input(format!("the bytes of a tensor of {dtype} are not aligned to it")));
        }
        Ok(TensorRef { dtype, shape, bytes, texts: &[] })
    }

    /// A tensor over texts; an error where their number does not fit the shape.
    pub fn from_texts(shape: &'a [usize], texts: &'a [String]) -> Result<TensorRef<'a>, Error> {
        check_texts(shape, texts.len())?;
        Ok(TensorRef { dtype: DType::Text, shape, bytes: &[], texts })
    }

    /// A tensor over elements; an error where their number does not fit the shape.
    pub fn new<T: Element>(shape: &'a [usize], values: &'a [T]) -> Result<TensorRef<'a>, Error> {
        // SAFETY: an element has no padding, so its bytes are initialised.
        let bytes = unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        TensorRef::from_bytes(T::DTYPE, shape, bytes)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The bytes, little-endian; none of a tensor of texts.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The texts; `None` if the elements are numbers.
    pub fn as_texts(&self) -> Option<&'a [String]> {
        (self.dtype == DType::Text).then_some(self.texts)
    }

    /// The elements; `None` if they are of another type (bools also read as `u8`).
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        let same = T::DTYPE == self.dtype || T::DTYPE == DType::U8 && self.dtype == DType::Bool;
        let valid = T::ANY_BITS || self.bytes.iter().all(|b| *b <= 1);
        if !same || !valid {
            return None;
        }
        let n = self.bytes.len() / size_of::<T>();
        if n == 0 {
            return Some(&[]);
        }
        // SAFETY: the constructor has checked size and alignment, and the bits are values of `T`.
        Some(unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast(), n) })
    }

    /// All elements as `f64`; none of a tensor of texts.
    pub fn to_f64s(&self) -> impl ExactSizeIterator<Item = f64> + 'a {
        let dtype = self.dtype;
        self.bytes.chunks_exact(dtype.bytes()).map(move |b| dtype.to_f64(b))
    }
}

impl fmt::Debug for TensorRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// An owned tensor.
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    /// The elements; of a tensor of texts the memory of a call that computes it.
    data: Buffer,
    texts: Vec<String>,
}

impl Tensor {
    /// A tensor of zeros, or of empty texts; an error where it is too large.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor, Error> {
        let bytes = byte_count(dtype, shape)
            .ok_or_else(|| Error::Input(format!("{} is too large", type_text(dtype, shape))))?;
        let data = Buffer::zeroed(bytes).ok_or(Error::Memory { what: "a tensor", bytes: bytes as u64 })?;
        let texts =
            if dtype == DType::Text { vec![String::new(); bytes / dtype.bytes()] } else { Vec::new() };
        Ok(Tensor { dtype, shape: shape.to_vec(), data, texts })
    }

    /// A tensor of texts; an error where their number does not fit the shape.
    pub fn from_texts(shape: &[usize], texts: Vec<String>) -> Result<Tensor, Error> {
        check_texts(shape, texts.len())?;
        let data = Buffer::zeroed(0).ok_or(Error::Memory { what: "a tensor", bytes: 0 })?;
        Ok(Tensor { dtype: DType::Text, shape: shape.to_vec(), data, texts })
    }

    /// A copy of little-endian bytes; an error where their number does not fit the shape.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, Error> {
        refuse_texts(dtype)?;
        if byte_count(dtype, shape) != Some(bytes.len()) {
            let ty = type_text(dtype, shape);
            return Err(Error::Input(format!("{} bytes do not make a tensor {ty}", bytes.len())));
        }
        let mut t = Tensor::zeros(dtype, shape)?;
        t.data.copy_from_slice(bytes);
        Ok(t)
    }

    /// A tensor in that memory; `None` where it is too small.
    pub(crate) fn from_buffer(dtype: DType, shape: &[usize], data: Buffer) -> Option<Tensor> {
        byte_count(dtype, shape).filter(|n| *n <= data.len())?;
        Some(Tensor { dtype, shape: shape.to_vec(), data, texts: Vec::new() })
    }

    /// A copy of elements; an error where their number does not fit the shape.
    pub fn new<T: Element>(shape: &[usize], values: &[T]) -> Result<Tensor, Error> {
        let r = TensorRef::new(shape, values)?;
        Tensor::from_bytes(r.dtype, shape, r.bytes)
    }

    /// A borrow of it.
    pub fn view(&self) -> TensorRef<'_> {
        let bytes = if self.dtype == DType::Text { 0 } else { self.len_bytes() };
        TensorRef { dtype: self.dtype, shape: &self.shape, bytes: &self.data[..bytes], texts: &self.texts }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes, little-endian; none of a tensor of texts.
    pub fn bytes(&self) -> &[u8] {
        self.view().bytes
    }

    /// The bytes, little-endian; none of a tensor of texts.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let n = self.view().bytes.len();
        &mut self.data[..n]
    }

    /// The texts; `None` if the elements are numbers.
    pub fn as_texts(&self) -> Option<&[String]> {
        self.view().as_texts()
    }

    /// The memory in which a call computes the elements.
    pub(crate) fn memory(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Takes the texts of the numbers in that memory.
    pub(crate) fn take_texts(&mut self, mut text: impl FnMut(i64) -> Option<String>) -> bool {
        let n = self.len_bytes();
        let numbers = self.data[..n].as_chunks::<8>().0.iter().map(|b| text(i64::from_le_bytes(*b)));
        let texts: Option<Vec<String>> = numbers.collect();
        let found = texts.is_some();
        self.texts = texts.unwrap_or_default();
        found
    }

    /// The elements; `None` if they are of another type (bools also read as `u8`).
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        self.view().as_slice()
    }

    /// Gives it a shape for whose elements its memory is enough: those at the front are kept, what
    /// follows them is any number.
    pub(crate) fn reshape_within(&mut self, shape: &[usize]) -> bool {
        let fits = byte_count(self.dtype, shape).is_some_and(|n| n <= self.data.len());
        if fits && self.shape != shape {
            self.shape = shape.to_vec();
        }
        fits
    }

    fn len_bytes(&self) -> usize {
        byte_count(self.dtype, &self.shape).unwrap_or(0)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_values() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (1, 2f32.powi(-24)),
            (0x8001, -(2f32.powi(-24))),
            (0x0400, 2f32.powi(-14)),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(F16(bits).to_f32(), value, "{bits:#x}");
        }
        assert!(F16(0x7e00).to_f32().is_nan());
        assert_eq!(BF16(0x3fc0).to_f32(), 1.5);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let e = TensorRef::new(&[2, 2], &[1f32; 3]).expect_err("too few");
        assert_eq!(alloc::format!("{e}"), "f32[2, 2] takes 16 bytes, found 12");
        assert!(Tensor::zeros(DType::F32, &[usize::MAX, 2]).is_err());
    }

    #[test]
    fn elements_are_read_by_type() {
        let t = Tensor::new(&[3], &[true, false, true]).expect("fits");
        assert_eq!(t.as_slice::<u8>(), Some(&[1, 0, 1][..]));
        assert_eq!(t.as_slice::<bool>(), Some(&[true, false, true][..]));
        assert_eq!(t.as_slice::<f32>(), None);
    }
}
