//! Loads and stores: contiguous lanes chunk by chunk, a stride of 0 as one scalar in every lane,
//! any other stride lane by lane.
//!
//! A bool in memory is a byte; any byte but 0 reads as true, and 0 or 1 is written.

use super::function::memory;
use super::index::Scope;
use super::ops::Emit;
use super::value::{self, Parts, Value, chunk_type, scalar_type};
use burin_ir::loops::{Buf, ValType};
use burin_ir::{DType, Expr};
use burin_runtime::abi::{arch, cpu};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData};

/// Where an access goes: a buffer with its pointer, and the elements.
pub struct Place<'a> {
    /// The buffer.
    pub buffer: Buf,
    /// Its first byte.
    pub start: ir::Value,
    /// The first lane's element.
    pub index: &'a Expr,
    /// Elements between lanes.
    pub stride: &'a Expr,
    /// How the access is done.
    pub flags: MemFlagsData,
}

/// An address in code, with a constant offset.
type Address = (ir::Value, i32);

impl Emit<'_, '_> {
    /// The address of a lane.
    fn address(
        &mut self,
        scope: &mut Scope,
        at: &Place<'_>,
        dtype: DType,
        lane: usize,
    ) -> Result<Address, String> {
        let bytes = dtype.bytes() as i64;
        let index = if lane == 0 { at.index.clone() } else { at.index + &(at.stride * lane as i64) };
        scope.address(self.b, (at.buffer, at.start), &index, bytes)
    }

    /// A load of that type.
    pub fn load(&mut self, scope: &mut Scope, at: &Place<'_>, ty: ValType) -> Result<Value, String> {
        let vector_bits = self.target.vector_bits;
        let first = self.address(scope, at, ty.dtype, 0)?;
        if ty.lanes == 1 {
            let v = self.load_scalar(ty.dtype, first, at.flags);
            return Ok(Value::scalar(ty.dtype, v));
        }
        match at.stride.as_const() {
            Some(0) => {
                let v = self.load_scalar(ty.dtype, first, at.flags);
                Ok(Value::splat(self.b, ty, ty.dtype.bits(), v, vector_bits))
            }
            Some(1) => Ok(self.load_contiguous(ty, first, at.flags)),
            _ => {
                let mut lanes = Vec::with_capacity(ty.lanes as usize);
                for l in 0..ty.lanes as usize {
                    let address = self.address(scope, at, ty.dtype, l)?;
                    lanes.push(self.load_scalar(ty.dtype, address, at.flags));
                }
                Ok(Value::from_lanes(self.b, ty, ty.dtype.bits(), &lanes, vector_bits))
            }
        }
    }

    fn load_scalar(&mut self, dtype: DType, (base, offset): Address, flags: MemFlagsData) -> ir::Value {
        let v = self.b.ins().load(scalar_type(dtype), flags, base, offset);
        if dtype == DType::Bool { self.b.ins().icmp_imm_s(IntCC::NotEqual, v, 0) } else { v }
    }

    fn load_contiguous(&mut self, ty: ValType, (base, offset): Address, flags: MemFlagsData) -> Value {
        let bits = ty.dtype.bits();
        let (chunks, rest) = value::split(ty.lanes as u32, bits, self.target.vector_bits);
        let chunk = chunk_type(ty.dtype, bits);
        let mut parts = Parts::new();
        // Cranelift folds a load into `cmpps` and `cmppd` as if they took any address; without AVX they
        // fault where it is no multiple of 16. A load of integers is not folded into them.
        let loaded = if self.target.arch == arch::X86_64 && self.target.features & cpu::AVX == 0 {
            chunk.as_int()
        } else {
            chunk
        };
        for i in 0..chunks {
            let v = self.b.ins().load(loaded, flags, base, offset + i as i32 * 16);
            let v = value::bitcast(self.b, chunk, v);
            parts.push(if ty.dtype == DType::Bool {
                let zero = value::constant(self.b, chunk, 0);
                self.b.ins().icmp(IntCC::NotEqual, v, zero)
            } else {
                v
            });
        }
        for i in 0..rest {
            let at = offset + (chunks * 16 + i * ty.dtype.bytes()) as i32;
            parts.push(self.load_scalar(ty.dtype, (base, at), flags));
        }
        Value { ty, bits, parts, uniform: None }
    }

    /// Elements at `i64` indices given lane by lane.
    pub fn gather(&mut self, start: ir::Value, dtype: DType, indices: &Value) -> Value {
        let vector_bits = self.target.vector_bits;
        let ty = ValType { dtype, lanes: indices.ty.lanes };
        let mut lanes = Vec::with_capacity(ty.lanes as usize);
        for index in indices.lanes(self.b, vector_bits) {
            let bytes = self.b.ins().ishl_imm_s(index, dtype.bytes().trailing_zeros() as i64);
            let address = self.b.ins().iadd(start, bytes);
            lanes.push(self.load_scalar(dtype, (address, 0), memory()));
        }
        if ty.lanes == 1 {
            return Value::scalar(dtype, lanes[0]);
        }
        Value::from_lanes(self.b, ty, dtype.bits(), &lanes, vector_bits)
    }

    /// A store.
    pub fn store(&mut self, scope: &mut Scope, at: &Place<'_>, v: &Value) -> Result<(), String> {
        let dtype = v.ty.dtype;
        let vector_bits = self.target.vector_bits;
        let v = v.canonical(self.b, vector_bits);
        if v.ty.lanes > 1 && *at.stride != 1 {
            for (l, lane) in v.lanes(self.b, vector_bits).into_iter().enumerate() {
                let (base, offset) = self.address(scope, at, dtype, l)?;
                self.b.ins().store(memory(), lane, base, offset);
            }
            return Ok(());
        }
        let (base, mut offset) = self.address(scope, at, dtype, 0)?;
        let chunks = v.chunks(vector_bits);
        for (i, part) in v.parts.iter().enumerate() {
            let mut part = *part;
            if i < chunks && dtype == DType::Bool {
                let ones = value::constant(self.b, chunk_type(dtype, 8), 1);
                part = self.b.ins().band(part, ones);
            }
            self.b.ins().store(memory(), part, base, offset);
            offset += if i < chunks { 16 } else { dtype.bytes() as i32 };
        }
        Ok(())
    }
}
