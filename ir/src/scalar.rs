//! Scalar operations: what they are called, how they are typed, and what they mean.
//!
//! They are shared by the pointwise op rows (through [`crate::element`]) and by the loop language,
//! where they also apply lane by lane to vectors. **Every operation is total**; [`apply`] defines
//! the one result for each operand:
//!
//! - integer arithmetic wraps; division or remainder by zero is 0; `MIN / -1` is `MIN`, its
//!   remainder 0;
//! - a shift by the width or more gives 0 (`Shr` of a negative signed value: -1);
//! - float to integer truncates and saturates, NaN gives 0; integer to integer wraps, and so does
//!   what a float gives as `i32` where the integer has less than 8 bits; anything to bool is `!= 0`
//!   (NaN is true);
//! - conversion to a [`minifloat`] saturates;
//! - `Min` and `Max` of floats give NaN if either operand is NaN, and take -0 for less than +0;
//! - `Mod` has the sign of the divisor, `Rem` the sign of the dividend (both by zero: 0 for
//!   integers, NaN for floats);
//! - `MulAdd(a, b, c)` is `a * b + c` rounded once or twice; `Fma` is rounded once;
//! - `DotBytes(a, b)` is the sum of the four products of the bytes of `a`, unsigned, and of `b`, signed,
//!   both `i32`; `DotBytesAdd(a, b, c)` adds it to `c`, and wraps;
//! - `DotHalves(a, b, c)` is the same of four signed halves, those of `a` before those of `b`, and of the
//!   signed bytes of `c`, all three `i32`; it wraps, and so does `DotHalvesAdd(a, b, c, d)`, which adds it to
//!   `d`;
//! - comparisons with NaN are false, but for `Ne`;
//! - integer `Pow` with a negative exponent is what exact division gives, truncated: 0, 1 or -1.

use crate::dtype::DType;
use crate::minifloat;
use std::fmt;

macro_rules! scalar_ops {
    ($($group:ident($arity:literal) { $($(#[$doc:meta])* $name:ident = $text:literal,)* })*) => {
        /// A scalar operation. The type in [`ScalarOp::Cast`] is the result's; all other
        /// operations take it from their operands.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum ScalarOp {
            $($($(#[$doc])* $name,)*)*
            /// Conversion to a type.
            Cast(DType),
            /// The same bits as another type of the same width.
            Bitcast(DType),
        }

        impl ScalarOp {
            /// Every operation but the conversions.
            pub const ALL: &[ScalarOp] = &[$($(ScalarOp::$name,)*)*];

            /// The name in the text form.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(ScalarOp::$name => $text,)*)*
                    ScalarOp::Cast(_) => "cast",
                    ScalarOp::Bitcast(_) => "bitcast",
                }
            }

            /// How many operands an operation takes at most.
            pub const MOST_OPERANDS: usize = 4;

            /// How many operands it takes.
            pub const fn arity(self) -> usize {
                match self {
                    $($(ScalarOp::$name => $arity,)*)*
                    ScalarOp::Cast(_) | ScalarOp::Bitcast(_) => 1,
                }
            }
        }
    };
}

scalar_ops! {
    Unary(1) {
        /// `-x` (wraps for integers).
        Neg = "neg",
        /// `|x|` (`MIN` stays `MIN`).
        Abs = "abs",
        /// Bitwise, or logical for bool.
        Not = "not",
        /// Square root, correctly rounded.
        Sqrt = "sqrt",
        /// Towards minus infinity.
        Floor = "floor",
        /// Towards plus infinity.
        Ceil = "ceil",
        /// Towards zero.
        Trunc = "trunc",
        /// To nearest, halves to even.
        Round = "round",
        /// `e^x`.
        Exp = "exp",
        /// Natural logarithm; NaN below zero.
        Log = "log",
        /// Sine.
        Sin = "sin",
        /// Cosine.
        Cos = "cos",
        /// Tangent.
        Tan = "tan",
        /// Inverse sine.
        Asin = "asin",
        /// Inverse cosine.
        Acos = "acos",
        /// Inverse tangent.
        Atan = "atan",
        /// Hyperbolic sine.
        Sinh = "sinh",
        /// Hyperbolic cosine.
        Cosh = "cosh",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Inverse hyperbolic sine.
        Asinh = "asinh",
        /// Inverse hyperbolic cosine.
        Acosh = "acosh",
        /// Inverse hyperbolic tangent.
        Atanh = "atanh",
        /// The error function.
        Erf = "erf",
        /// Whether a float is NaN; a bool.
        IsNan = "isnan",
    }
    Binary(2) {
        /// `a + b`.
        Add = "add",
        /// `a - b`.
        Sub = "sub",
        /// `a * b`; logical and for bool.
        Mul = "mul",
        /// `a / b`; integers truncate.
        Div = "div",
        /// Remainder with the sign of `a`.
        Rem = "rem",
        /// Remainder with the sign of `b`.
        Mod = "mod",
        /// The smaller.
        Min = "min",
        /// The larger.
        Max = "max",
        /// Bitwise and.
        And = "and",
        /// Bitwise or.
        Or = "or",
        /// Bitwise exclusive or.
        Xor = "xor",
        /// Shift left.
        Shl = "shl",
        /// Shift right, arithmetic for signed types.
        Shr = "shr",
        /// `a` to the power `b`.
        Pow = "pow",
        /// The sum of the products of the bytes of two `i32`: of `a` unsigned, of `b` signed.
        DotBytes = "dotbytes",
        /// `a == b`, a bool.
        Eq = "eq",
        /// `a != b`, a bool.
        Ne = "ne",
        /// `a < b`, a bool.
        Lt = "lt",
        /// `a <= b`, a bool.
        Le = "le",
        /// `a > b`, a bool.
        Gt = "gt",
        /// `a >= b`, a bool.
        Ge = "ge",
    }
    Ternary(3) {
        /// `c ? a : b` with a bool first.
        Select = "select",
        /// `a * b + c`, rounded once or twice.
        MulAdd = "muladd",
        /// `a * b + c`, rounded once.
        Fma = "fma",
        /// `dotbytes(a, b) + c`
        DotBytesAdd = "dotbytesadd",
        /// The sum of the products of the signed halves of two `i32` and the signed bytes of a third.
        DotHalves = "dothalves",
    }
    Quaternary(4) {
        /// `dothalves(a, b, c) + d`
        DotHalvesAdd = "dothalvesadd",
    }
}

impl ScalarOp {
    /// The operation of that name; conversions need the type beside it.
    pub fn by_name(name: &str) -> Option<ScalarOp> {
        ScalarOp::ALL.iter().copied().find(|o| o.name() == name)
    }

    /// Whether the result is a bool whatever the operands are.
    pub const fn is_predicate(self) -> bool {
        use ScalarOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge | IsNan)
    }

    /// For what multiplies its operands: the operation that adds the product to a sum as well.
    pub const fn accumulating(self) -> Option<ScalarOp> {
        match self {
            ScalarOp::Mul => Some(ScalarOp::MulAdd),
            ScalarOp::DotBytes => Some(ScalarOp::DotBytesAdd),
            ScalarOp::DotHalves => Some(ScalarOp::DotHalvesAdd),
            _ => None,
        }
    }

    /// Whether this is a function that compiled code expands into polynomials (see the compiler's
    /// `loops/math`), so that its result is within some ULPs and not correctly rounded.
    pub const fn is_transcendental(self) -> bool {
        use ScalarOp::*;
        matches!(
            self,
            Exp | Log
                | Sin
                | Cos
                | Tan
                | Asin
                | Acos
                | Atan
                | Sinh
                | Cosh
                | Tanh
                | Asinh
                | Acosh
                | Atanh
                | Erf
        )
    }

    /// The result's type; an error says which operand does not fit.
    pub fn result_type(self, args: &[DType]) -> Result<DType, String> {
        use ScalarOp::*;
        if args.len() != self.arity() {
            return Err(format!("{} takes {} operands, found {}", self.name(), self.arity(), args.len()));
        }
        let same = |of: &[DType]| match of.iter().find(|t| **t != of[0]) {
            Some(t) => Err(format!("{} needs operands of one type, found {} and {t}", self.name(), of[0])),
            None => Ok(of[0]),
        };
        let need = |ok: bool, what: &str| {
            if ok { Ok(()) } else { Err(format!("{} needs {what}, found {}", self.name(), args[0])) }
        };
        let conversion = matches!(self, Cast(_) | Bitcast(_) | Select);
        if let Some(t) = args.iter().find(|t| t.is_storage() && !conversion) {
            return Err(format!("{} needs a type that has arithmetic, found {t}", self.name()));
        }
        if args.contains(&DType::Text) && !matches!(self, Select | Eq | Ne) {
            return Err(format!("{} needs numbers, found text", self.name()));
        }
        match self {
            Cast(DType::Text) => Err("a number is no text".to_owned()),
            Cast(to) => Ok(to),
            Bitcast(to) => {
                let same_width = to.packed_bits() == args[0].packed_bits();
                need(same_width && !matches!(to, DType::Bool | DType::Text), "a type of the same width")?;
                Ok(to)
            }
            Select => {
                need(args[0] == DType::Bool, "a bool first")?;
                same(&args[1..])
            }
            IsNan => {
                need(args[0].is_float(), "a float")?;
                Ok(DType::Bool)
            }
            Eq | Ne | Lt | Le | Gt | Ge => same(args).map(|_| DType::Bool),
            Neg | Abs | Add | Sub | Div | Rem | Mod | Pow | MulAdd => {
                need(args[0] != DType::Bool, "a number")?;
                same(args)
            }
            Mul | Min | Max => same(args),
            DotBytes | DotBytesAdd | DotHalves | DotHalvesAdd => {
                need(args[0] == DType::I32, "operands of i32")?;
                same(args)
            }
            And | Or | Xor | Not => {
                need(!args[0].is_float(), "integers or bools")?;
                same(args)
            }
            Shl | Shr => {
                need(args[0].is_int(), "integers")?;
                same(args)
            }
            _ => {
                need(args[0].is_float(), "floats")?;
                same(args)
            }
        }
    }
}

impl fmt::Display for ScalarOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScalarOp::Cast(t) => write!(f, "cast.{t}"),
            ScalarOp::Bitcast(t) => write!(f, "bitcast.{t}"),
            op => f.write_str(op.name()),
        }
    }
}

/// One scalar value, wide enough for every type: floats as `f64`, signed integers and bools as
/// `i64`, unsigned integers as `u64`.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// A float of any width.
    F(f64),
    /// A signed integer of any width.
    I(i64),
    /// An unsigned integer of any width.
    U(u64),
    /// A bool.
    B(bool),
}

impl Scalar {
    /// The number as a float.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::F(v) => v,
            Scalar::I(v) => v as f64,
            Scalar::U(v) => v as f64,
            Scalar::B(v) => v as u8 as f64,
        }
    }

    /// The number as a signed integer: floats truncate and saturate, unsigned ones wrap.
    pub fn as_i64(self) -> i64 {
        match self {
            Scalar::F(v) => v as i64,
            Scalar::I(v) => v,
            Scalar::U(v) => v as i64,
            Scalar::B(v) => v as i64,
        }
    }

    /// Whether it is not zero (NaN is not).
    pub fn as_bool(self) -> bool {
        match self {
            Scalar::F(v) => v != 0.0,
            Scalar::I(v) => v != 0,
            Scalar::U(v) => v != 0,
            Scalar::B(v) => v,
        }
    }

    /// Conversion to a type, as [`ScalarOp::Cast`] defines it.
    pub fn cast(self, to: DType) -> Scalar {
        match to {
            DType::Bool => Scalar::B(self.as_bool()),
            t if t.is_float() => Scalar::F(round_to(self.as_f64(), t)),
            t => match self {
                Scalar::F(v) => saturate(v, t),
                Scalar::I(v) => wrap(v, t),
                Scalar::U(v) => wrap(v as i64, t),
                Scalar::B(v) => wrap(v as i64, t),
            },
        }
    }

    /// The same value and type, bit for bit (NaNs are alike whatever their bits).
    pub fn same(self, other: Scalar) -> bool {
        match (self, other) {
            (Scalar::F(a), Scalar::F(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (Scalar::I(a), Scalar::I(b)) => a == b,
            (Scalar::U(a), Scalar::U(b)) => a == b,
            (Scalar::B(a), Scalar::B(b)) => a == b,
            _ => false,
        }
    }
}

/// Rounds to a floating-point type, to nearest even. `i64 as f64` rounds first, which is innocuous
/// only for `F64`; casts of 64-bit integers to narrower floats go through [`Scalar::cast`], and the
/// double rounding that results is what compiled code does as well.
pub fn round_to(v: f64, t: DType) -> f64 {
    match t {
        DType::F32 => v as f32 as f64,
        DType::F16 => round_binary(v, 10, -14, half::f16::MAX.to_f64()),
        DType::BF16 => round_binary(v, 7, -126, half::bf16::MAX.to_f64()),
        t if t.is_minifloat() => minifloat::round(v, t),
        _ => v,
    }
}

/// Rounds once, to nearest even, to a type with so many binary digits after the point, this least
/// normal exponent and this largest number (the conversions of `half` drop an `f64`'s low bits
/// before they look for ties). The sum with a power of two whose last place is the result's rounds.
fn round_binary(v: f64, digits: u64, least: i64, largest: f64) -> f64 {
    if v.is_nan() {
        return v;
    }
    let magnitude = v.abs().min(largest * 2.0);
    let exponent = (magnitude.to_bits() >> 52).max((least + 1023) as u64);
    let power = f64::from_bits((exponent + 52 - digits) << 52);
    let rounded = (magnitude + power) - power;
    if rounded > largest { f64::INFINITY.copysign(v) } else { rounded.copysign(v) }
}

fn saturate(v: f64, t: DType) -> Scalar {
    match t {
        DType::I64 => Scalar::I(v as i64),
        DType::I32 => Scalar::I(v as i32 as i64),
        DType::I16 => Scalar::I(v as i16 as i64),
        DType::I8 => Scalar::I(v as i8 as i64),
        DType::U64 => Scalar::U(v as u64),
        DType::U32 => Scalar::U(v as u32 as u64),
        DType::U16 => Scalar::U(v as u16 as u64),
        DType::U8 => Scalar::U(v as u8 as u64),
        narrow => wrap(v as i32 as i64, narrow),
    }
}

/// An integer wrapped to a type.
pub fn wrap(v: i64, t: DType) -> Scalar {
    match t {
        DType::I64 | DType::Text => Scalar::I(v),
        DType::I32 => Scalar::I(v as i32 as i64),
        DType::I16 => Scalar::I(v as i16 as i64),
        DType::I8 => Scalar::I(v as i8 as i64),
        DType::U64 => Scalar::U(v as u64),
        DType::U32 => Scalar::U(v as u32 as u64),
        DType::U16 => Scalar::U(v as u16 as u64),
        DType::Bool => Scalar::B(v != 0),
        DType::I4 | DType::I2 => Scalar::I(v << (64 - t.packed_bits()) >> (64 - t.packed_bits())),
        DType::U4 | DType::U2 => Scalar::U(v as u64 & ((1 << t.packed_bits()) - 1)),
        _ => Scalar::U(v as u8 as u64),
    }
}

/// The result of an operation on operands of type `ty` (for [`ScalarOp::Select`] the type of the
/// last two), rounded to the result's type.
///
/// Operands must fit [`ScalarOp::result_type`].
pub fn apply(op: ScalarOp, ty: DType, args: &[Scalar]) -> Scalar {
    match apply_wide(op, ty, args) {
        // What there is on storage types but conversions selects.
        Scalar::F(v)
            if ty.is_float()
                && !ty.is_storage()
                && !matches!(op, ScalarOp::Cast(_) | ScalarOp::Bitcast(_)) =>
        {
            Scalar::F(round_to(v, ty))
        }
        other => other,
    }
}

/// [`apply`] without the rounding of a float result to `ty`: everything is carried in `f64`. The
/// graph's evaluator rounds once, at the end of a pointwise expression.
pub fn apply_wide(op: ScalarOp, ty: DType, args: &[Scalar]) -> Scalar {
    use ScalarOp::*;
    match op {
        Cast(to) => args[0].cast(to),
        Bitcast(to) => from_bits(to_bits(args[0], ty), to),
        Select => args[if args[0].as_bool() { 1 } else { 2 }],
        _ if ty.is_float() => {
            let f = |i: usize| args[i].as_f64();
            match args.len() {
                1 => float_unary(op, f(0)),
                2 => float_binary(op, f(0), f(1)),
                _ => Scalar::F(match (op, ty) {
                    (Fma | MulAdd, DType::F64) => libm::fma(f(0), f(1), f(2)),
                    // Exact in f64 before the sum for all narrower types.
                    _ => f(0) * f(1) + f(2),
                }),
            }
        }
        _ if ty == DType::Bool => bool_op(op, args),
        _ if ty.is_unsigned_int() => unsigned_op(op, ty, args),
        _ => signed_op(op, ty, args),
    }
}

fn float_unary(op: ScalarOp, x: f64) -> Scalar {
    use ScalarOp::*;
    Scalar::F(match op {
        Neg => -x,
        Abs => x.abs(),
        Sqrt => x.sqrt(),
        Floor => x.floor(),
        Ceil => x.ceil(),
        Trunc => x.trunc(),
        Round => x.round_ties_even(),
        Exp => x.exp(),
        Log => x.ln(),
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Asin => x.asin(),
        Acos => x.acos(),
        Atan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Tanh => x.tanh(),
        Asinh => libm::asinh(x),
        // Below 1 libm's has no meaning.
        Acosh => {
            if x < 1.0 {
                f64::NAN
            } else {
                libm::acosh(x)
            }
        }
        Atanh => libm::atanh(x),
        Erf => libm::erf(x),
        IsNan => return Scalar::B(x.is_nan()),
        _ => f64::NAN,
    })
}

fn float_binary(op: ScalarOp, a: f64, b: f64) -> Scalar {
    use ScalarOp::*;
    Scalar::F(match op {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Rem => a % b,
        Mod => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        Min | Max if a.is_nan() || b.is_nan() => f64::NAN,
        Min if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        Max if a == b => {
            if a.is_sign_negative() {
                b
            } else {
                a
            }
        }
        Min => a.min(b),
        Max => a.max(b),
        Pow => a.powf(b),
        Eq => return Scalar::B(a == b),
        Ne => return Scalar::B(a != b),
        Lt => return Scalar::B(a < b),
        Le => return Scalar::B(a <= b),
        Gt => return Scalar::B(a > b),
        Ge => return Scalar::B(a >= b),
        _ => f64::NAN,
    })
}

fn bool_op(op: ScalarOp, args: &[Scalar]) -> Scalar {
    use ScalarOp::*;
    let a = args[0].as_bool();
    let b = args.get(1).is_some_and(|v| v.as_bool());
    Scalar::B(match op {
        Not => !a,
        And | Mul | Min => a & b,
        Or | Max => a | b,
        Xor | Ne => a ^ b,
        Eq => a == b,
        Lt => !a & b,
        Le => a <= b,
        Gt => a & !b,
        Ge => a >= b,
        _ => false,
    })
}

fn signed_op(op: ScalarOp, ty: DType, args: &[Scalar]) -> Scalar {
    use ScalarOp::*;
    let a = args[0].as_i64();
    let b = args.get(1).map_or(0, |v| v.as_i64());
    let in_width = (0..ty.bits() as i64).contains(&b);
    let v = match op {
        Neg => a.wrapping_neg(),
        Abs => a.wrapping_abs(),
        Not => !a,
        Add => a.wrapping_add(b),
        Sub => a.wrapping_sub(b),
        Mul => a.wrapping_mul(b),
        Div => {
            if b == 0 {
                0
            } else {
                a.wrapping_div(b)
            }
        }
        Rem => {
            if b == 0 {
                0
            } else {
                a.wrapping_rem(b)
            }
        }
        Mod => {
            let r = if b == 0 { 0 } else { a.wrapping_rem(b) };
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        }
        Min => a.min(b),
        Max => a.max(b),
        And => a & b,
        Or => a | b,
        Xor => a ^ b,
        Shl if in_width => a << b,
        Shl => 0,
        Shr => {
            if in_width {
                a >> b
            } else if a < 0 {
                -1
            } else {
                0
            }
        }
        Pow => pow_signed(a, b),
        MulAdd | Fma => a.wrapping_mul(b).wrapping_add(args[2].as_i64()),
        DotBytes => dot_bytes(a, b),
        DotBytesAdd => dot_bytes(a, b).wrapping_add(args[2].as_i64()),
        DotHalves => dot_halves([a, b], args[2].as_i64()),
        DotHalvesAdd => dot_halves([a, b], args[2].as_i64()).wrapping_add(args[3].as_i64()),
        Eq => return Scalar::B(a == b),
        Ne => return Scalar::B(a != b),
        Lt => return Scalar::B(a < b),
        Le => return Scalar::B(a <= b),
        Gt => return Scalar::B(a > b),
        Ge => return Scalar::B(a >= b),
        _ => 0,
    };
    wrap(v, ty)
}

/// What [`ScalarOp::DotBytes`] is of two `i32`.
fn dot_bytes(a: i64, b: i64) -> i64 {
    let pairs = (a as u32).to_le_bytes().into_iter().zip((b as u32).to_le_bytes());
    pairs.map(|(a, b)| i64::from(a) * i64::from(b as i8)).sum()
}

/// What [`ScalarOp::DotHalves`] is of three `i32`, but that it does not wrap.
fn dot_halves(halves: [i64; 2], bytes: i64) -> i64 {
    let halves = halves.into_iter().flat_map(|v| [v as i16, (v >> 16) as i16]);
    halves.zip((bytes as u32).to_le_bytes()).map(|(a, b)| i64::from(a) * i64::from(b as i8)).sum()
}

fn pow_signed(base: i64, exponent: i64) -> i64 {
    match (base, exponent) {
        (_, 0..) => pow_wrapping(base as u64, exponent as u64) as i64,
        (1, _) => 1,
        (-1, e) => {
            if e % 2 == 0 {
                1
            } else {
                -1
            }
        }
        _ => 0,
    }
}

fn pow_wrapping(mut base: u64, mut exponent: u64) -> u64 {
    let mut out = 1u64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = out.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    out
}

fn unsigned_op(op: ScalarOp, ty: DType, args: &[Scalar]) -> Scalar {
    use ScalarOp::*;
    let a = args[0].as_i64() as u64;
    let b = args.get(1).map_or(0, |v| v.as_i64() as u64);
    let in_width = b < ty.bits() as u64;
    let v = match op {
        Neg => a.wrapping_neg(),
        Abs => a,
        Not => !a,
        Add => a.wrapping_add(b),
        Sub => a.wrapping_sub(b),
        Mul => a.wrapping_mul(b),
        Div => a.checked_div(b).unwrap_or(0),
        Rem | Mod => a.checked_rem(b).unwrap_or(0),
        Min => a.min(b),
        Max => a.max(b),
        And => a & b,
        Or => a | b,
        Xor => a ^ b,
        Shl if in_width => a << b,
        Shl => 0,
        Shr if in_width => a >> b,
        Shr => 0,
        Pow => pow_wrapping(a, b),
        MulAdd | Fma => a.wrapping_mul(b).wrapping_add(args[2].as_i64() as u64),
        Eq => return Scalar::B(a == b),
        Ne => return Scalar::B(a != b),
        Lt => return Scalar::B(a < b),
        Le => return Scalar::B(a <= b),
        Gt => return Scalar::B(a > b),
        Ge => return Scalar::B(a >= b),
        _ => 0,
    };
    wrap(v as i64, ty)
}

/// The bits of a value of type `ty`, in the low end.
pub fn to_bits(v: Scalar, ty: DType) -> u64 {
    match ty {
        DType::F64 => v.as_f64().to_bits(),
        DType::F32 => (v.as_f64() as f32).to_bits() as u64,
        DType::F16 => half::f16::from_f64(round_to(v.as_f64(), ty)).to_bits() as u64,
        DType::BF16 => half::bf16::from_f64(round_to(v.as_f64(), ty)).to_bits() as u64,
        t if t.is_minifloat() => minifloat::encode(v.as_f64(), t).into(),
        _ => (v.as_i64() as u64) & (u64::MAX >> (64 - ty.bits())),
    }
}

/// The value of type `ty` with those bits.
pub fn from_bits(bits: u64, ty: DType) -> Scalar {
    match ty {
        DType::F64 => Scalar::F(f64::from_bits(bits)),
        DType::F32 => Scalar::F(f32::from_bits(bits as u32) as f64),
        DType::F16 => Scalar::F(half::f16::from_bits(bits as u16).to_f64()),
        DType::BF16 => Scalar::F(half::bf16::from_bits(bits as u16).to_f64()),
        t if t.is_minifloat() => Scalar::F(minifloat::decode(bits as u8, t)),
        _ => wrap(bits as i64, ty),
    }
}
