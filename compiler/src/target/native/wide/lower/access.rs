//! Loads, stores and gathers, and values that are the same or in steps from lane to lane.

use super::values::{Parts, Shape, lane_of};
use super::{Declined, Lower, Value};
use crate::target::native::wide::code::{Address, Conversion, Element, Inst, Lane, UnaryOp, VecOp, Width};
use burin_ir::expr::Expr;
use burin_ir::loops::{Buf, Val, ValType};
use burin_ir::{DType, ScalarOp};
use regalloc2::VReg;
use smallvec::smallvec;

/// How an element of a type lies in memory.
fn element_of(dtype: DType) -> Element {
    match dtype {
        DType::I8 | DType::I4 | DType::I2 => Element::I8,
        DType::I16 => Element::I16,
        DType::U16 => Element::U16,
        DType::F16 => Element::F16,
        DType::BF16 => Element::BF16,
        DType::I32 | DType::U32 | DType::F32 => Element::B32,
        DType::I64 | DType::U64 | DType::F64 => Element::B64,
        // All others take a byte.
        _ => Element::U8,
    }
}

/// An address so many bytes further on.
fn further(at: Address, bytes: i64) -> Result<Address, Declined> {
    let offset = i64::from(at.offset).checked_add(bytes).and_then(|o| i32::try_from(o).ok());
    Ok(Address { offset: offset.ok_or("an offset of 2 GiB or more")?, ..at })
}

impl Lower<'_> {
    pub(super) fn load(
        &mut self,
        buffer: Buf,
        index: &Expr,
        stride: &Expr,
        ty: ValType,
    ) -> Result<Parts, Declined> {
        let element = element_of(ty.dtype);
        let shape = self.shape(ty)?;
        let at = self.indices.address(buffer, index, element.bytes())?;
        let loaded = match stride.as_const() {
            _ if ty.lanes == 1 => self.whole(element, at, shape)?,
            Some(1) => self.whole(element, at, shape)?,
            Some(0) => self.broadcast(element, at, shape),
            Some(2) if element == Element::B32 && shape.width != Width::Zmm && ty.lanes > 2 => {
                let to = self.indices.code.vector();
                self.push(Inst::LoadPairs { to, width: shape.width, at });
                smallvec![to]
            }
            Some(step) if element.bytes() >= 4 => self.apart(element, at, step, shape)?,
            _ => {
                let step = self.indices.int(stride)?;
                self.in_steps(element, at, step, shape)?
            }
        };
        self.as_mask(ty.dtype, loaded, shape)
    }

    /// Bytes as a mask, if that is what they are.
    fn as_mask(&mut self, dtype: DType, v: Parts, shape: Shape) -> Result<Parts, Declined> {
        if dtype != DType::Bool {
            return Ok(v);
        }
        let zero = self.constant(shape, 0);
        self.int_compare(ScalarOp::Gt, DType::I32, shape, &v, &zero)
    }

    fn broadcast(&mut self, element: Element, at: Address, shape: Shape) -> Parts {
        let to = self.indices.code.vector();
        self.push(Inst::Broadcast { to, element, width: shape.width, at });
        smallvec![to; shape.parts]
    }

    /// Elements side by side.
    fn whole(&mut self, element: Element, at: Address, shape: Shape) -> Result<Parts, Declined> {
        let (element, width) = match (element, shape.lanes) {
            // Two lanes of 32 bits are one of 64.
            (Element::B32, 2) => (Element::B64, Width::Scalar),
            (e, 2) if e.bytes() < 4 => return self.inserted(e, &[at, further(at, e.bytes())?], shape),
            (e, _) => (e, shape.width),
        };
        let mut parts = Parts::new();
        for part in 0..shape.parts {
            let bytes = i64::from(shape.lanes) / shape.parts as i64 * element.bytes();
            let at = further(at, part as i64 * bytes)?;
            let to = self.indices.code.vector();
            self.push(Inst::Load { to, element, width, at });
            parts.push(to);
        }
        Ok(parts)
    }

    /// Elements of 32 or 64 bits that lie a constant number of them apart.
    fn apart(&mut self, element: Element, at: Address, step: i64, shape: Shape) -> Result<Parts, Declined> {
        // Places count elements in 32 bits, and bytes that the instruction counts must stay within them.
        let step = i32::try_from(step).ok().filter(|s| s.checked_mul(128).is_some());
        let step = step.ok_or("a load with a stride of 2^24 or more")?;
        let lanes = (usize::from(shape.lanes) / shape.parts) as i32;
        let mut parts = Parts::new();
        for part in 0..shape.parts as i64 {
            let at = further(at, part * i64::from(lanes) * i64::from(step) * element.bytes())?;
            let base = self.place(at);
            let (places, width) = (self.indices.code.vector(), shape.width);
            let table = if shape.bits == 64 { width.half() } else { width };
            let mut words: Vec<u32> = (0..lanes).map(|l| (l * step) as u32).collect();
            words.resize(words.len().max(4), 0);
            self.push(Inst::Table { to: places, width: table, words });
            parts.push(self.gathered(base, places, (width, shape.bits, 32)));
        }
        Ok(parts)
    }

    fn place(&mut self, at: Address) -> VReg {
        let to = self.indices.code.int();
        self.push(Inst::Place { to, at });
        to
    }

    fn gathered(&mut self, base: VReg, places: VReg, (width, bits, place_bits): (Width, u32, u32)) -> VReg {
        let (to, mask) = (self.indices.code.vector(), self.indices.code.vector());
        self.push(Inst::Gather { to, mask, width, bits, base, places, place_bits });
        to
    }

    /// Elements that lie a number of them apart that is in a register, or that are narrow.
    fn in_steps(
        &mut self,
        element: Element,
        at: Address,
        step: VReg,
        shape: Shape,
    ) -> Result<Parts, Declined> {
        if element.bytes() < 4 {
            let all = self.in_row(element, at, step, shape.lanes);
            return self.inserted(element, &all, shape);
        }
        let base = self.place(at);
        let wide = self.shape_of(shape.lanes, 64)?;
        let step_wide = self.indices.code.vector();
        self.push(Inst::FromGeneral { to: step_wide, v: step });
        let steps = self.splat_register(&smallvec![step_wide], wide);
        let lanes = self.counted_lanes(wide);
        let places = self.product(Lane::I64, wide, &steps, &lanes);
        self.gather_at(element, base, &places, shape)
    }

    /// The addresses of so many elements that lie `step` of them apart.
    fn in_row(&mut self, element: Element, at: Address, step: VReg, lanes: u16) -> Vec<Address> {
        let mut base = self.place(at);
        let scaled = self.indices.code.int();
        let by = element.bytes().trailing_zeros() as u8;
        self.push(Inst::ShiftLeft { to: scaled, a: step, by });
        let mut all = vec![Address { base, index: None, offset: 0 }];
        for _ in 1..lanes {
            let to = self.indices.code.int();
            self.push(Inst::Add { to, a: base, b: scaled });
            base = to;
            all.push(Address { base, index: None, offset: 0 });
        }
        all
    }

    /// The lanes' numbers, in 64 bits.
    fn counted_lanes(&mut self, wide: Shape) -> Parts {
        let per = u32::from(wide.lanes) / wide.parts as u32;
        let mut parts = Parts::new();
        for part in 0..wide.parts as u32 {
            let to = self.indices.code.vector();
            let mut words: Vec<u32> = (0..per).flat_map(|l| [part * per + l, 0]).collect();
            words.resize(words.len().max(4), 0);
            let width = if wide.width == Width::Scalar { Width::Xmm } else { wide.width };
            self.push(Inst::Table { to, width, words });
            parts.push(to);
        }
        parts
    }

    /// Elements of 32 or 64 bits at places of 64, which count them.
    fn gather_at(
        &mut self,
        element: Element,
        base: VReg,
        places: &Parts,
        shape: Shape,
    ) -> Result<Parts, Declined> {
        let wide = self.shape_of(shape.lanes, 64)?;
        let bits = element.bytes() as u32 * 8;
        let width = if wide.width == Width::Scalar { Width::Xmm } else { wide.width };
        let parts: Parts = places.iter().map(|p| self.gathered(base, *p, (width, bits, 64))).collect();
        Ok(if bits == 64 { parts } else { self.joined(&parts, wide.width) })
    }

    /// Narrow elements from anywhere, one by one.
    fn inserted(&mut self, element: Element, all: &[Address], shape: Shape) -> Result<Parts, Declined> {
        // As many as 128 bits hold, or as one extension makes of them.
        let most = if element.bytes() == 1 { 16 } else { 8 };
        let mut halves = Parts::new();
        for some in all.chunks(most) {
            let whole = Shape { width: Width::Xmm, parts: 1, bits: 32, lanes: 4 };
            let mut v = self.constant(whole, 0)[0];
            for (place, at) in some.iter().enumerate() {
                let to = self.indices.code.vector();
                self.push(Inst::Insert { to, v, bytes: element.bytes(), place: place as u8, at: *at });
                v = to;
            }
            let width = match some.len() {
                16 => Width::Zmm,
                8 => Width::Ymm,
                _ => Width::Xmm,
            };
            halves.push(self.extended(element, width, v));
        }
        Ok(self.joined(&halves, shape.width))
    }

    /// Elements of 8 or 16 bits at the front of a register as lanes.
    fn extended(&mut self, element: Element, width: Width, v: VReg) -> VReg {
        let by = match element {
            Element::I8 => Conversion::Extend8,
            Element::U8 => Conversion::Extend8Zeros,
            Element::I16 => Conversion::Extend16,
            Element::F16 => Conversion::FromHalf,
            _ => Conversion::Extend16Zeros,
        };
        let v = self.convert_one(by, width, v);
        match element {
            Element::BF16 => self.unary_one(UnaryOp::ShiftLeft(16), Lane::I32, width, v),
            _ => v,
        }
    }

    /// Elements at indices that lanes hold.
    pub(super) fn gather(&mut self, buffer: Buf, places: Val, ty: ValType) -> Result<Parts, Declined> {
        let element = element_of(ty.dtype);
        let shape = self.shape(ty)?;
        let from = self.kernel.values[places];
        let start = self.indices.start(buffer);
        let at = self.value(places)?;
        let loaded = if element.bytes() >= 4 && ty.lanes > 1 {
            self.gather_at(element, start, &at, shape)?
        } else {
            let mut all = Vec::new();
            for lane in 0..ty.lanes {
                let (chunk, within) = self.chunk(&at, from, lane)?;
                let to = self.indices.code.int();
                self.push(Inst::ToGeneral { to, v: chunk[0], second: within == 1 });
                let scale = element.bytes() as u8;
                all.push(Address { base: start, index: Some((to, scale)), offset: 0 });
            }
            match all[..] {
                [at] => self.whole(element, at, shape)?,
                _ => self.inserted(element, &all, shape)?,
            }
        };
        self.as_mask(ty.dtype, loaded, shape)
    }

    /// A scalar in all lanes.
    pub(super) fn splat(&mut self, val: Val, v: Val, shape: Shape) -> Result<Parts, Declined> {
        if let Some(bits) = self.constants[v] {
            self.constants[val] = Some(bits);
            return Ok(self.constant(shape, bits));
        }
        if let Some((at, element)) = self.load_of(v) {
            return Ok(self.broadcast(element, at, shape));
        }
        let v = self.value(v)?;
        Ok(self.splat_register(&v, shape))
    }

    fn splat_register(&mut self, v: &Parts, shape: Shape) -> Parts {
        let to = self.indices.code.vector();
        self.push(Inst::Splat { to, bits: shape.bits, width: shape.width, v: v[0] });
        smallvec![to; shape.parts]
    }

    /// `base + lane * step`.
    pub(super) fn ramp(&mut self, base: &Expr, step: &Expr, shape: Shape) -> Result<Parts, Declined> {
        let [base, step] = [base, step].map(|e| self.indices.int(e));
        let [base, step] = [base?, step?].map(|v| {
            let to = self.indices.code.vector();
            self.push(Inst::FromGeneral { to, v });
            self.splat_register(&smallvec![to], shape)
        });
        let lanes = self.counted_lanes(shape);
        let steps = self.product(Lane::I64, shape, &step, &lanes);
        Ok(self.vec(VecOp::Add, Lane::I64, shape, &base, &steps))
    }

    /// Where a value has just been loaded from, in the block that is being written, and how.
    pub(super) fn load_of(&self, v: Val) -> Option<(Address, Element)> {
        let Some(Value::Parts(parts)) = &self.values[v] else { return None };
        let [found] = parts[..] else { return None };
        let written = &self.indices.code.blocks[self.indices.here].insts;
        let loads = written.iter().rev().take_while(|i| !matches!(i, Inst::Store { .. }));
        loads.into_iter().find_map(|i| match i {
            Inst::Load { to, at, element, width: Width::Scalar } if *to == found => Some((*at, *element)),
            _ => None,
        })
    }

    pub(super) fn store(
        &mut self,
        buffer: Buf,
        index: &Expr,
        stride: &Expr,
        value: Val,
    ) -> Result<(), Declined> {
        let ty = self.kernel.values[value];
        let element = element_of(ty.dtype);
        let shape = self.shape(ty)?;
        let v = match (self.exact[value].clone(), element) {
            (Some(exact), Element::F16) => exact,
            _ => self.value(value)?,
        };
        let at = self.indices.address(buffer, index, element.bytes())?;
        let v = match ty.dtype {
            DType::Bool => self.with_constant(VecOp::And, Lane::I32, shape, &v, 1),
            DType::BF16 => self.unary(UnaryOp::ShiftRightZeros(16), Lane::I32, shape, &v),
            _ => v,
        };
        let element = if element == Element::BF16 { Element::U16 } else { element };
        if ty.lanes == 1 || *stride == 1 {
            let streaming = self.streaming == Some(buffer) && ty.lanes > 1;
            return self.store_whole(element, at, &v, shape, streaming);
        }
        // Lane by lane.
        let step = self.indices.int(stride)?;
        let scalar = Shape { width: Width::Scalar, parts: 1, bits: shape.bits, lanes: 1 };
        for (lane, at) in (0..).zip(self.in_row(element, at, step, ty.lanes)) {
            let one = self.lane_of_parts(&v, ty, lane)?;
            self.store_whole(element, at, &one, scalar, false)?;
        }
        Ok(())
    }

    /// Lanes side by side.
    fn store_whole(
        &mut self,
        element: Element,
        at: Address,
        v: &Parts,
        shape: Shape,
        streaming: bool,
    ) -> Result<(), Declined> {
        let scalar = shape.lanes == 1;
        let (element, width, v) = match element {
            Element::B32 if shape.lanes == 2 => (Element::B64, Width::Scalar, v.clone()),
            Element::B32 | Element::B64 => (element, shape.width, v.clone()),
            Element::F16 if scalar => {
                (Element::U16, Width::Scalar, self.convert(Conversion::ToHalf, shape, v))
            }
            _ if scalar => (element, Width::Scalar, v.clone()),
            Element::F16 if shape.lanes == 2 => {
                let half = self.convert(Conversion::ToHalf, shape, v);
                (Element::B32, Width::Scalar, half)
            }
            Element::F16 => (element, shape.width, v.clone()),
            _ if self.has_masks() && shape.lanes > 2 => (element, shape.width, v.clone()),
            _ => self.packed(element, v, shape),
        };
        let streaming = streaming && matches!(element, Element::B32 | Element::B64) && shape.lanes > 2;
        let bytes = i64::from(shape.lanes) / shape.parts as i64 * element.bytes();
        for (part, v) in v.iter().enumerate() {
            let at = further(at, part as i64 * bytes)?;
            self.push(Inst::Store { v: *v, element, width, at, streaming });
        }
        Ok(())
    }

    /// Lanes of 32 bits as 8 or 16 bits side by side, and how these are then stored.
    fn packed(&mut self, element: Element, v: &Parts, shape: Shape) -> (Element, Width, Parts) {
        let unsigned = matches!(element, Element::U8 | Element::U16);
        let (two, one) = if unsigned {
            (VecOp::Pack32Unsigned, VecOp::Pack16Unsigned)
        } else {
            (VecOp::Pack32, VecOp::Pack16)
        };
        let high = match shape.width {
            Width::Ymm => self.unary_one(UnaryOp::High, Lane::I32, shape.width, v[0]),
            _ => v[0],
        };
        let words = self.vec_one(two, Lane::I32, Width::Xmm, v[0], high);
        if element.bytes() == 2 {
            return match shape.lanes {
                8 => (Element::B32, Width::Xmm, smallvec![words]),
                4 => (Element::B64, Width::Scalar, smallvec![words]),
                _ => (Element::B32, Width::Scalar, smallvec![words]),
            };
        }
        let bytes = self.vec_one(one, Lane::I32, Width::Xmm, words, words);
        match shape.lanes {
            8 => (Element::B64, Width::Scalar, smallvec![bytes]),
            4 => (Element::B32, Width::Scalar, smallvec![bytes]),
            _ => (Element::U16, Width::Scalar, smallvec![bytes]),
        }
    }

    /// One lane, in the first place.
    fn lane_of_parts(&mut self, v: &Parts, ty: ValType, lane: u16) -> Result<Parts, Declined> {
        let (chunk, within) = self.chunk(v, ty, lane)?;
        Ok(self.front(chunk, lane_of(ty.dtype).bits(), within))
    }
}
