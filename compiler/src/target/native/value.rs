//! How a value of the loop language lies in Cranelift's values.
//!
//! A scalar is one Cranelift scalar; a bool is an `i8` of 0 or 1; the 16-bit floats are their bits.
//! A vector is as many 128-bit vectors ("chunks") as its lanes fill, and a scalar for each lane that
//! is left over; where the target has no vectors, a scalar for each lane.
//!
//! A vector of bools has no width of its own: its chunks are masks (all ones or all zeros in each
//! lane) whose lanes are as wide as the data they were compared from, [`Value::bits`]. They are
//! brought to the width of the data they meet, and to 8 bits where they are carried by a loop,
//! yielded by a conditional, or stored. Left-over lanes are scalar bools.

use burin_ir::DType;
use burin_ir::loops::ValType;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, ConstantData, InstBuilder, MemFlagsData, Type, types};
use cranelift_frontend::FunctionBuilder;
use smallvec::SmallVec;

/// Bits of a chunk.
const CHUNK_BITS: u32 = 128;

/// The Cranelift values of one value.
pub type Parts = SmallVec<[ir::Value; 4]>;

/// A value of the loop language in code.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: ValType,
    /// Bits of a lane; for a vector of bools those of its mask.
    pub bits: u32,
    /// Chunks, then left-over lanes.
    pub parts: Parts,
    /// The scalar that is in every lane, where that is known.
    pub uniform: Option<ir::Value>,
}

/// The Cranelift type of a scalar.
pub fn scalar_type(dtype: DType) -> Type {
    match dtype {
        DType::F64 => types::F64,
        DType::F32 => types::F32,
        DType::I64 | DType::U64 => types::I64,
        DType::I32 | DType::U32 => types::I32,
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => types::I16,
        _ => types::I8,
    }
}

/// The integer type of that many bits.
pub fn int_type(bits: u32) -> Type {
    match bits {
        64 => types::I64,
        32 => types::I32,
        16 => types::I16,
        _ => types::I8,
    }
}

/// The type of a chunk with lanes of that many bits: masks for bools.
pub fn chunk_type(dtype: DType, bits: u32) -> Type {
    let lane = if dtype == DType::Bool { int_type(bits) } else { scalar_type(dtype) };
    lane.by(CHUNK_BITS / bits).unwrap_or(types::I8X16)
}

/// The integer type that is as wide as `ty`, lane by lane.
pub fn as_int(ty: Type) -> Type {
    let lane = int_type(ty.lane_bits());
    if ty.is_vector() { lane.by(ty.lane_count()).unwrap_or(lane) } else { lane }
}

/// How many chunks, and how many lanes are left over.
pub fn split(lanes: u32, bits: u32, vector_bits: u32) -> (usize, usize) {
    if lanes == 1 || vector_bits < CHUNK_BITS {
        return (0, lanes as usize);
    }
    let per_chunk = CHUNK_BITS / bits;
    ((lanes / per_chunk) as usize, (lanes % per_chunk) as usize)
}

/// The same bits as another type of the same size.
pub fn bitcast(b: &mut FunctionBuilder<'_>, ty: Type, v: ir::Value) -> ir::Value {
    if b.func.dfg.value_type(v) == ty {
        return v;
    }
    let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
    b.ins().bitcast(ty, flags, v)
}

/// A constant scalar from the bits of its type.
pub fn scalar_constant(b: &mut FunctionBuilder<'_>, ty: Type, bits: u64) -> ir::Value {
    match ty {
        types::F64 => b.ins().f64const(f64::from_bits(bits)),
        types::F32 => b.ins().f32const(f32::from_bits(bits as u32)),
        _ => {
            let shift = 64 - ty.bits();
            b.ins().iconst(ty, ((bits << shift) >> shift) as i64)
        }
    }
}

/// A constant in every lane of `ty` (which may be a scalar), from the bits of a lane.
pub fn constant(b: &mut FunctionBuilder<'_>, ty: Type, bits: u64) -> ir::Value {
    if !ty.is_vector() {
        return scalar_constant(b, ty, bits);
    }
    let lane = &bits.to_le_bytes()[..ty.lane_bits() as usize / 8];
    let data: ConstantData = lane.repeat(ty.lane_count() as usize).into();
    let handle = b.func.dfg.constants.insert(data);
    b.ins().vconst(ty, handle)
}

/// A scalar bool from a lane of a mask.
fn mask_to_bool(b: &mut FunctionBuilder<'_>, v: ir::Value) -> ir::Value {
    b.ins().icmp_imm_s(IntCC::NotEqual, v, 0)
}

/// A mask's lane of that many bits from a scalar bool.
fn bool_to_mask(b: &mut FunctionBuilder<'_>, v: ir::Value, bits: u32) -> ir::Value {
    let wide = if bits > 8 { b.ins().uextend(int_type(bits), v) } else { v };
    b.ins().ineg(wide)
}

impl Value {
    /// A scalar.
    pub fn scalar(dtype: DType, v: ir::Value) -> Value {
        Value {
            ty: ValType::scalar(dtype),
            bits: dtype.bits(),
            parts: SmallVec::from_slice(&[v]),
            uniform: Some(v),
        }
    }

    /// The number of chunks among the parts.
    pub fn chunks(&self, vector_bits: u32) -> usize {
        split(self.ty.lanes as u32, self.bits, vector_bits).0
    }

    /// One lane as a scalar.
    pub fn lane(&self, b: &mut FunctionBuilder<'_>, lane: usize, vector_bits: u32) -> ir::Value {
        if let Some(v) = self.uniform {
            return v;
        }
        let chunks = self.chunks(vector_bits);
        let per_chunk = (CHUNK_BITS / self.bits) as usize;
        if lane >= chunks * per_chunk {
            return self.parts[chunks + lane - chunks * per_chunk];
        }
        let v = b.ins().extractlane(self.parts[lane / per_chunk], (lane % per_chunk) as u8);
        if self.ty.dtype == DType::Bool { mask_to_bool(b, v) } else { v }
    }

    /// All lanes as scalars.
    pub fn lanes(&self, b: &mut FunctionBuilder<'_>, vector_bits: u32) -> Vec<ir::Value> {
        (0..self.ty.lanes as usize).map(|l| self.lane(b, l, vector_bits)).collect()
    }

    /// A value from scalars, one for each lane; `bits` is the width of a bool's mask.
    pub fn from_lanes(
        b: &mut FunctionBuilder<'_>,
        ty: ValType,
        bits: u32,
        lanes: &[ir::Value],
        vector_bits: u32,
    ) -> Value {
        let (chunks, _) = split(ty.lanes as u32, bits, vector_bits);
        let per_chunk = (CHUNK_BITS / bits) as usize;
        let mut parts = Parts::new();
        for chunk in lanes.chunks(per_chunk).take(chunks) {
            parts.push(assemble(b, ty.dtype, bits, chunk));
        }
        parts.extend_from_slice(&lanes[chunks * per_chunk..]);
        Value { ty, bits, parts, uniform: None }
    }

    /// The same scalar in every lane.
    pub fn splat(
        b: &mut FunctionBuilder<'_>,
        ty: ValType,
        bits: u32,
        scalar: ir::Value,
        vector_bits: u32,
    ) -> Value {
        let (chunks, rest) = split(ty.lanes as u32, bits, vector_bits);
        let mut parts = Parts::new();
        if chunks > 0 {
            let lane = if ty.dtype == DType::Bool { bool_to_mask(b, scalar, bits) } else { scalar };
            let chunk = b.ins().splat(chunk_type(ty.dtype, bits), lane);
            parts.resize(chunks, chunk);
        }
        parts.resize(chunks + rest, scalar);
        Value { ty, bits, parts, uniform: Some(scalar) }
    }

    /// The same constant in every lane, from its bits.
    pub fn constant(b: &mut FunctionBuilder<'_>, ty: ValType, bits_of: u64, vector_bits: u32) -> Value {
        let bits = ty.dtype.bits();
        let (chunks, rest) = split(ty.lanes as u32, bits, vector_bits);
        let scalar = scalar_constant(b, scalar_type(ty.dtype), bits_of);
        let mut parts = Parts::new();
        if chunks > 0 {
            let lane = if ty.dtype == DType::Bool && bits_of != 0 { u64::MAX } else { bits_of };
            let chunk = constant(b, chunk_type(ty.dtype, bits), lane);
            parts.resize(chunks, chunk);
        }
        parts.resize(chunks + rest, scalar);
        Value { ty, bits, parts, uniform: Some(scalar) }
    }

    /// A vector of bools with masks of another width; anything else unchanged.
    pub fn with_mask(&self, b: &mut FunctionBuilder<'_>, bits: u32, vector_bits: u32) -> Value {
        if self.ty.dtype != DType::Bool || self.bits == bits || self.ty.lanes == 1 {
            return self.clone();
        }
        if vector_bits < CHUNK_BITS {
            return Value { bits, ..self.clone() };
        }
        if let Some(s) = self.uniform {
            return Value::splat(b, self.ty, bits, s, vector_bits);
        }
        let whole = |w: u32| (self.ty.lanes as u32 * w).is_multiple_of(CHUNK_BITS);
        if whole(bits) && whole(self.bits) {
            return self.resize_masks(b, bits);
        }
        let lanes = self.lanes(b, vector_bits);
        Value::from_lanes(b, self.ty, bits, &lanes, vector_bits)
    }

    /// Narrows or widens masks that fill their chunks, a factor of two at a time.
    fn resize_masks(&self, b: &mut FunctionBuilder<'_>, bits: u32) -> Value {
        let mut out = self.clone();
        while out.bits > bits {
            let narrow = |p: &[ir::Value]| match out.bits {
                64 => low_halves(b, p[0], p[1]),
                _ => b.ins().snarrow(p[0], p[1]),
            };
            out.parts = out.parts.chunks(2).map(narrow).collect();
            out.bits /= 2;
        }
        while out.bits < bits {
            let halves = |v: &ir::Value| [b.ins().swiden_low(*v), b.ins().swiden_high(*v)];
            out.parts = out.parts.iter().flat_map(halves).collect();
            out.bits *= 2;
        }
        out
    }

    /// In the form in which values cross blocks: bools with 8-bit masks.
    pub fn canonical(&self, b: &mut FunctionBuilder<'_>, vector_bits: u32) -> Value {
        self.with_mask(b, self.ty.dtype.bits(), vector_bits)
    }
}

/// The types of the parts of a value in canonical form.
pub fn part_types(ty: ValType, vector_bits: u32) -> impl Iterator<Item = Type> {
    let bits = ty.dtype.bits();
    let (chunks, rest) = split(ty.lanes as u32, bits, vector_bits);
    let chunk = std::iter::repeat_n(chunk_type(ty.dtype, bits), chunks);
    chunk.chain(std::iter::repeat_n(scalar_type(ty.dtype), rest))
}

/// The low halves of the lanes of two `i64x2`, which x86 has no narrowing instruction for.
fn low_halves(b: &mut FunctionBuilder<'_>, first: ir::Value, second: ir::Value) -> ir::Value {
    let [first, second] = [first, second].map(|v| bitcast(b, types::I8X16, v));
    let lanes: Vec<u8> = (0..32).filter(|i| i % 8 < 4).collect();
    let mask = b.func.dfg.immediates.push(lanes.into());
    let narrow = b.ins().shuffle(first, second, mask);
    bitcast(b, types::I32X4, narrow)
}

/// A chunk from its lanes.
fn assemble(b: &mut FunctionBuilder<'_>, dtype: DType, bits: u32, lanes: &[ir::Value]) -> ir::Value {
    let ty = chunk_type(dtype, bits);
    let lanes: SmallVec<[ir::Value; 16]> =
        lanes.iter().map(|v| if dtype == DType::Bool { bool_to_mask(b, *v, bits) } else { *v }).collect();
    if lanes.iter().all(|l| *l == lanes[0]) {
        return b.ins().splat(ty, lanes[0]);
    }
    let mut chunk = match bits {
        32 | 64 => b.ins().scalar_to_vector(ty, lanes[0]),
        _ => b.ins().splat(ty, lanes[0]),
    };
    for (i, lane) in lanes.iter().enumerate().skip(1) {
        chunk = b.ins().insertlane(chunk, *lane, i as u8);
    }
    chunk
}
