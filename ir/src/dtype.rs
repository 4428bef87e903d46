//! Element types of tensors, and the machine-independent facts about them.

use std::fmt;
use std::str::FromStr;

/// The type of one tensor element.
///
/// Storage is little-endian. Arithmetic on `F16` and `BF16` is done in `f32` and rounded after each
/// operation. The types from `F8E4M3FN` to `U2` have no arithmetic ([`DType::is_storage`]): they are moved
/// and converted. In memory an element of a type below 8 bits takes one byte, of which integers
/// fill the high bits with their sign and floats with zeros; several to a byte they lie only in files.
/// An element of `Text` is the number of a text ([`crate::strings`]), in 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F4E2M1,
    I4,
    U4,
    I2,
    U2,
    Text,
}

impl DType {
    /// Every element type.
    pub const ALL: [DType; 24] = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I64,
        DType::I32,
        DType::I16,
        DType::I8,
        DType::U64,
        DType::U32,
        DType::U16,
        DType::U8,
        DType::Bool,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
        DType::I4,
        DType::U4,
        DType::I2,
        DType::U2,
        DType::Text,
    ];

    /// The element types that kernels have: all but texts, which are numbers there.
    pub fn of_kernels() -> impl Iterator<Item = DType> {
        DType::ALL.into_iter().filter(|t| *t != DType::Text)
    }

    /// Width of one element in memory in bits.
    pub const fn bits(self) -> u32 {
        match self {
            DType::F64 | DType::I64 | DType::U64 | DType::Text => 64,
            DType::F32 | DType::I32 | DType::U32 => 32,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 16,
            _ => 8,
        }
    }

    /// Width of one element in bits where several lie in a byte, as in ONNX's files.
    pub const fn packed_bits(self) -> u32 {
        match self {
            DType::F4E2M1 | DType::I4 | DType::U4 => 4,
            DType::I2 | DType::U2 => 2,
            other => other.bits(),
        }
    }

    /// Whether elements are only moved and converted: there is no arithmetic on them.
    pub const fn is_storage(self) -> bool {
        self.is_minifloat() || self.packed_bits() < 8
    }

    /// Whether this is one of the floating-point types of 8 bits or less.
    pub const fn is_minifloat(self) -> bool {
        use DType::*;
        matches!(self, F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1)
    }

    /// Width of one element in bytes.
    pub const fn bytes(self) -> usize {
        self.bits() as usize / 8
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16) || self.is_minifloat()
    }

    /// Whether this is an integer type (`Bool` and `Text` are not).
    pub const fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool | DType::Text)
    }

    /// Whether elements are integers or truth values, which sizes and positions may follow from.
    pub const fn is_whole(self) -> bool {
        self.is_int() || matches!(self, DType::Bool)
    }

    /// Whether this is a signed integer type.
    pub const fn is_signed_int(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::I4 | DType::I2)
    }

    /// Whether this is an unsigned integer type.
    pub const fn is_unsigned_int(self) -> bool {
        self.is_int() && !self.is_signed_int()
    }

    /// The name in the text forms.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::I16 => "i16",
            DType::I8 => "i8",
            DType::U64 => "u64",
            DType::U32 => "u32",
            DType::U16 => "u16",
            DType::U8 => "u8",
            DType::Bool => "bool",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F4E2M1 => "f4e2m1",
            DType::I4 => "i4",
            DType::U4 => "u4",
            DType::I2 => "i2",
            DType::U2 => "u2",
            DType::Text => "text",
        }
    }

    /// The type in which a sum or product over many elements of this type is accumulated by
    /// compiled code: `f32` for floats of 16 bits or less, the type itself for all others.
    pub const fn accumulator(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            other if other.is_minifloat() => DType::F32,
            other => other,
        }
    }

    /// Unit roundoff `u` of a floating-point type (half the distance from 1 to the next value
    /// above it); zero for all other types.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F64 => f64::EPSILON / 2.0,
            DType::F32 => (f32::EPSILON / 2.0) as f64,
            DType::F16 => 1.0 / 2048.0,
            DType::BF16 => 1.0 / 256.0,
            DType::F8E4M3FN | DType::F8E4M3FNUZ => 1.0 / 16.0,
            DType::F8E5M2 | DType::F8E5M2FNUZ => 1.0 / 8.0,
            DType::F4E2M1 => 1.0 / 4.0,
            DType::F8E8M0 => 1.0 / 2.0,
            _ => 0.0,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        DType::ALL.into_iter().find(|d| d.name() == s).ok_or(())
    }
}
