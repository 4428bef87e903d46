//! One kernel as one function with the ABI's `TaskFn` signature: `(frame, begin, end, worker)`.
//!
//! The frame is an array of 64-bit words: a pointer for each buffer, then the kernel's dimensions,
//! and, where the kernel has scratch buffers, the bytes between workers' scratch. If the kernel's
//! body is one parallel loop, the function runs its iterations `begin..end`; else it runs the body
//! once, provided that `begin < end`.
//!
//! Loops are tested at the top, and what is carried out of one is what its test sees. Loads may not
//! be moved by Cranelift out of the loop or condition that makes them valid.

use super::NativeError;
use super::access::Place;
use super::function::{self, Function, PTR, memory, words};
use super::index::Scope;
use super::levels::TargetSpec;
use super::ops::Emit;
use super::value::{Parts, Value, part_types};
use crate::loops::halves;
use burin_ir::element::ReduceOp;
use burin_ir::expr::{Expr, Range};
use burin_ir::loops::{Access, Block, Buf, Kernel, Loop, LoopKind, Op, Stmt, Val, ValType, Yield};
use burin_ir::{DType, Symbol};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, BlockArg, InstBuilder, MemFlagsData, types};
use cranelift_entity::{EntityRef, SecondaryMap};
use cranelift_frontend::FunctionBuilder;
use std::borrow::Cow;

/// Compiles a kernel.
pub fn compile(kernel: &Kernel, target: &TargetSpec) -> Result<Function, NativeError> {
    let kernel = &*without_halves(kernel);
    function::build(&kernel.name, words(4, &[]), target, |b, params| generate(b, params, kernel, target))
}

/// The kernel with conversions of 16-bit floats expanded, which Cranelift has on no target.
fn without_halves(kernel: &Kernel) -> Cow<'_, Kernel> {
    if !halves::has_only_conversions(kernel) {
        return Cow::Borrowed(kernel);
    }
    let mut expanded = kernel.clone();
    halves::run(&mut expanded);
    Cow::Owned(expanded)
}

/// The assembly that [`compile`] makes, as Cranelift prints it.
pub fn disassemble(kernel: &Kernel, target: &TargetSpec) -> Result<String, NativeError> {
    let kernel = &*without_halves(kernel);
    function::disassemble(&kernel.name, words(4, &[]), target, |b, params| {
        generate(b, params, kernel, target)
    })
}

/// The number of words in a kernel's frame.
pub fn frame_words(kernel: &Kernel) -> usize {
    kernel.buffers.len() + kernel.dims.len() + usize::from(has_scratch(kernel))
}

/// Whether a kernel has scratch buffers, and with them a last word in its frame.
pub fn has_scratch(kernel: &Kernel) -> bool {
    kernel.buffers.values().any(|b| b.access == Access::Scratch)
}

/// The parallel loop that is the kernel's whole body, if it is one.
pub fn parallel_loop(kernel: &Kernel) -> Option<&Loop> {
    match &kernel.body[..] {
        [Stmt::For(l)] if l.kind == LoopKind::Parallel => Some(l),
        _ => None,
    }
}

fn generate(
    b: &mut FunctionBuilder<'_>,
    params: &[ir::Value],
    kernel: &Kernel,
    target: &TargetSpec,
) -> Result<(), NativeError> {
    let [frame, begin, end, worker] = params else {
        return Err(NativeError::Internal { function: kernel.name.clone(), what: "not a TaskFn".into() });
    };
    let mut generator = Generator {
        emit: Emit { b, target },
        kernel,
        scope: Scope::default(),
        starts: Vec::new(),
        values: SecondaryMap::new(),
        depth: 0,
    };
    generator.open_frame(*frame, *worker);
    generator.run(*begin, *end).map_err(|what| NativeError::Unsupported { kernel: kernel.name.clone(), what })
}

/// The state while a kernel's statements are walked.
struct Generator<'a, 'f> {
    emit: Emit<'a, 'f>,
    kernel: &'a Kernel,
    scope: Scope,
    /// The first byte of each buffer.
    starts: Vec<ir::Value>,
    values: SecondaryMap<Val, Option<Value>>,
    /// How many loops are open.
    depth: usize,
}

/// Where a loop starts, where it stops, and what is known of its variable.
struct Span {
    from: ir::Value,
    to: ir::Value,
    range: Range,
}

impl Generator<'_, '_> {
    /// Loads the frame's words.
    fn open_frame(&mut self, frame: ir::Value, worker: ir::Value) {
        let word = |b: &mut FunctionBuilder<'_>, i: usize| b.ins().load(PTR, memory(), frame, i as i32 * 8);
        let b = &mut *self.emit.b;
        let (buffers, dims) = (self.kernel.buffers.len(), self.kernel.dims.len());
        let scratch = has_scratch(self.kernel).then(|| {
            let stride = word(b, buffers + dims);
            b.ins().imul(worker, stride)
        });
        for (i, decl) in self.kernel.buffers.values().enumerate() {
            let start = word(b, i);
            self.starts.push(match (decl.access, scratch) {
                (Access::Scratch, Some(offset)) => b.ins().iadd(start, offset),
                _ => start,
            });
        }
        for (i, dim) in self.kernel.dims.iter().enumerate() {
            let value = word(b, buffers + i);
            self.scope.bind(*dim, value, 0, dim.range());
        }
    }

    /// The whole function, from after the frame to the return.
    fn run(&mut self, begin: ir::Value, end: ir::Value) -> Result<(), String> {
        match parallel_loop(self.kernel) {
            Some(l) => {
                let span = Span { from: begin, to: end, range: self.range_below(&l.extent) };
                self.counted(l, span)?;
            }
            None => {
                let b = &mut *self.emit.b;
                let (body, exit) = (b.create_block(), b.create_block());
                let any = b.ins().icmp(IntCC::SignedLessThan, begin, end);
                b.ins().brif(any, body, &[], exit, &[]);
                b.switch_to_block(body);
                self.block(&self.kernel.body)?;
                let b = &mut *self.emit.b;
                b.ins().jump(exit, &[]);
                b.switch_to_block(exit);
            }
        }
        self.emit.b.ins().return_(&[]);
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), String> {
        block.iter().try_for_each(|s| self.statement(s))
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), String> {
        match statement {
            Stmt::Let(val, op) => {
                let value = self.operation(op, self.kernel.values[*val])?;
                self.values[*val] = Some(value);
            }
            Stmt::Bind(symbol, val) => self.bind(*symbol, *val)?,
            Stmt::For(l) => self.repeat(l)?,
            Stmt::If { cond, then, otherwise, yields } => self.branch(cond, then, otherwise, yields)?,
            Stmt::Store { buffer, index, stride, value } => {
                let value = self.value(*value)?;
                let at =
                    Place { buffer: *buffer, start: self.start(*buffer), index, stride, flags: memory() };
                self.emit.store(&mut self.scope, &at, &value)?;
            }
            // Cranelift has no instruction for the hint.
            Stmt::Prefetch { .. } => {}
        }
        Ok(())
    }

    /// A load from a buffer that is only read may be placed where its value is first needed, which
    /// keeps registers free and lets it become an instruction's operand. It must not leave the
    /// guard of a loop or conditional under which it is valid: an index that changes with the
    /// innermost loop cannot.
    fn load_flags(&self, buffer: Buf, index: &Expr) -> MemFlagsData {
        let read_only = self.kernel.buffers[buffer].access == Access::Read;
        if read_only && self.depth > 0 && self.scope.depth_of(index) == self.depth {
            memory().with_readonly().with_can_move()
        } else {
            memory()
        }
    }

    fn start(&self, buffer: Buf) -> ir::Value {
        self.starts[buffer.index()]
    }

    fn value(&self, val: Val) -> Result<Value, String> {
        self.values[val].clone().ok_or_else(|| format!("{val} is used before it is defined"))
    }

    fn expr(&mut self, e: &Expr) -> Result<ir::Value, String> {
        self.scope.emit(self.emit.b, e)
    }

    fn operation(&mut self, op: &Op, ty: ValType) -> Result<Value, String> {
        let vector_bits = self.emit.target.vector_bits;
        Ok(match op {
            Op::Const(bits) => Value::constant(self.emit.b, ty, *bits, vector_bits),
            Op::Index(e) => Value::scalar(DType::I64, self.expr(e)?),
            Op::Ramp(base, step) => {
                let lanes = (0..ty.lanes as i64).map(|l| self.expr(&(base + &(step * l))));
                let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
                Value::from_lanes(self.emit.b, ty, ty.dtype.bits(), &lanes, vector_bits)
            }
            Op::Scalar(op, args) => {
                let args = args.iter().map(|a| self.value(*a)).collect::<Result<Vec<_>, _>>()?;
                self.emit.apply(*op, ty, &args.iter().collect::<Vec<_>>())?
            }
            Op::Splat(v) => {
                let scalar = self.value(*v)?.parts[0];
                Value::splat(self.emit.b, ty, ty.dtype.bits(), scalar, vector_bits)
            }
            Op::Load { buffer, index, stride } => {
                let flags = self.load_flags(*buffer, index);
                let at = Place { buffer: *buffer, start: self.start(*buffer), index, stride, flags };
                self.emit.load(&mut self.scope, &at, ty)?
            }
            Op::Gather(buffer, indices) => {
                let indices = self.value(*indices)?;
                self.emit.gather(self.start(*buffer), ty.dtype, &indices)
            }
            Op::Fold(op, v) => {
                let v = self.value(*v)?;
                self.fold(*op, v)?
            }
            Op::Lane(v, lane) => {
                let v = self.value(*v)?;
                Value::scalar(ty.dtype, v.lane(self.emit.b, *lane as usize, vector_bits))
            }
        })
    }

    /// Halves pairwise: lane `l` with lane `l + n / 2`, chunks as long as there are several.
    fn fold(&mut self, op: ReduceOp, v: Value) -> Result<Value, String> {
        let dtype = v.ty.dtype;
        if !v.ty.lanes.is_power_of_two() {
            return Err(format!("a fold of {} lanes, which are not a power of two", v.ty.lanes));
        }
        let vector_bits = self.emit.target.vector_bits;
        let mut v = v;
        while v.parts.len() > 1 && v.chunks(vector_bits) == v.parts.len() {
            let half = v.parts.len() / 2;
            let ty = ValType { dtype, lanes: v.ty.lanes / 2 };
            let side = |parts: &[ir::Value]| Value {
                ty,
                bits: v.bits,
                parts: Parts::from_slice(parts),
                uniform: None,
            };
            let (low, high) = (side(&v.parts[..half]), side(&v.parts[half..]));
            v = self.emit.apply(op.combine(), ty, &[&low, &high])?;
        }
        let mut lanes: Vec<Value> =
            v.lanes(self.emit.b, vector_bits).into_iter().map(|l| Value::scalar(dtype, l)).collect();
        while lanes.len() > 1 {
            let (low, high) = lanes.split_at(lanes.len() / 2);
            let pairs = low.iter().zip(high);
            let ty = ValType::scalar(dtype);
            lanes =
                pairs.map(|(a, b)| self.emit.apply(op.combine(), ty, &[a, b])).collect::<Result<_, _>>()?;
        }
        Ok(lanes.swap_remove(0))
    }

    fn bind(&mut self, symbol: Symbol, val: Val) -> Result<(), String> {
        let v = self.value(val)?;
        let (part, signed) = (v.parts[0], v.ty.dtype.is_signed_int());
        let b = &mut *self.emit.b;
        let narrow = v.ty.dtype.bits() < 64;
        let wide = match (narrow, signed) {
            (false, _) => part,
            (true, true) => b.ins().sextend(types::I64, part),
            (true, false) => b.ins().uextend(types::I64, part),
        };
        let range = if narrow && !signed { Range::NON_NEGATIVE } else { Range::ALL };
        self.scope.bind(symbol, wide, self.depth, range);
        Ok(())
    }

    /// The range of a variable that counts up to an extent.
    fn range_below(&self, extent: &Expr) -> Range {
        Range { lo: Some(0), hi: self.scope.range(extent).hi.map(|hi| hi.saturating_sub(1).max(0)) }
    }

    fn repeat(&mut self, l: &Loop) -> Result<(), String> {
        let range = self.range_below(&l.extent);
        if l.extent.as_const().is_some_and(|n| n <= 0) {
            return self.settle(l.carries.iter().map(|c| (c.result, c.init)));
        }
        let from = self.expr(&Expr::ZERO)?;
        if l.extent == 1 {
            let mark = self.scope.enter();
            self.scope.bind(l.var, from, self.depth, range);
            self.settle(l.carries.iter().map(|c| (c.param, c.init)))?;
            self.block(&l.body)?;
            self.scope.leave(mark);
            return self.settle(l.carries.iter().map(|c| (c.result, c.next)));
        }
        let to = self.expr(&l.extent)?;
        self.counted(l, Span { from, to, range })
    }

    /// Values that are others under a new name.
    fn settle(&mut self, pairs: impl Iterator<Item = (Val, Val)>) -> Result<(), String> {
        let found =
            pairs.map(|(to, from)| Ok((to, self.value(from)?))).collect::<Result<Vec<_>, String>>()?;
        for (to, value) in found {
            self.values[to] = Some(value);
        }
        Ok(())
    }

    /// A loop with its test at the top: so what is carried has one use, by the next turn. Cranelift
    /// folds a load into an instruction only if that one's result, what is computed from it and so
    /// on have one use each. The exit is the branch taken: Cranelift lifts code out of a loop only
    /// while it has not yet come to what follows it, and walks the block that falls through first.
    fn counted(&mut self, l: &Loop, span: Span) -> Result<(), String> {
        let inits: Vec<Val> = l.carries.iter().map(|c| c.init).collect();
        let nexts: Vec<Val> = l.carries.iter().map(|c| c.next).collect();
        let start = self.arguments(&inits)?;
        let [head, body, exit] = [(); 3].map(|()| self.emit.b.create_block());
        let var = self.emit.b.append_block_param(head, types::I64);
        for c in &l.carries {
            self.parameters(head, c.param);
            self.values[c.result] = self.values[c.param].clone();
        }
        let b = &mut *self.emit.b;
        let entry: Vec<BlockArg> = std::iter::once(span.from.into()).chain(start).collect();
        b.ins().jump(head, &entry);
        b.switch_to_block(head);
        let done = b.ins().icmp(IntCC::SignedGreaterThanOrEqual, var, span.to);
        b.ins().brif(done, exit, &[], body, &[]);
        b.switch_to_block(body);
        let mark = self.scope.enter();
        self.depth += 1;
        self.scope.bind(l.var, var, self.depth, span.range);
        self.block(&l.body)?;
        self.depth -= 1;
        self.scope.leave(mark);
        let next = self.arguments(&nexts)?;
        let b = &mut *self.emit.b;
        let counted = b.ins().iadd_imm_s(var, 1);
        let again: Vec<BlockArg> = std::iter::once(counted.into()).chain(next).collect();
        b.ins().jump(head, &again);
        b.switch_to_block(exit);
        Ok(())
    }

    /// The parts of values, in the form in which they cross blocks.
    fn arguments(&mut self, vals: &[Val]) -> Result<Vec<BlockArg>, String> {
        let mut out = Vec::new();
        for val in vals {
            let v = self.value(*val)?.canonical(self.emit.b, self.emit.target.vector_bits);
            out.extend(v.parts.iter().map(|p| BlockArg::from(*p)));
        }
        Ok(out)
    }

    /// Block parameters that receive a value.
    fn parameters(&mut self, block: ir::Block, val: Val) {
        let ty = self.kernel.values[val];
        let types = part_types(ty, self.emit.target.vector_bits);
        let parts: Parts = types.map(|t| self.emit.b.append_block_param(block, t)).collect();
        let uniform = if ty.lanes == 1 { Some(parts[0]) } else { None };
        self.values[val] = Some(Value { ty, bits: ty.dtype.bits(), parts, uniform });
    }

    fn branch(
        &mut self,
        cond: &[Expr],
        then: &Block,
        otherwise: &Block,
        yields: &[Yield],
    ) -> Result<(), String> {
        let open: Vec<&Expr> = cond.iter().filter(|e| e.as_const().is_none_or(|k| k < 0)).collect();
        let decided = match open.iter().any(|e| e.as_const().is_some()) {
            true => Some(false),
            false => open.is_empty().then_some(true),
        };
        if let Some(holds) = decided {
            self.block(if holds { then } else { otherwise })?;
            return self.settle(yields.iter().map(|y| (y.result, if holds { y.then } else { y.otherwise })));
        }
        // All are >= 0 exactly where the sign bit of none is set.
        let mut signs = self.expr(open[0])?;
        for e in &open[1..] {
            let v = self.expr(e)?;
            signs = self.emit.b.ins().bor(signs, v);
        }
        let b = &mut *self.emit.b;
        let [yes, no, exit] = [(); 3].map(|()| b.create_block());
        let holds = b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, signs, 0);
        b.ins().brif(holds, yes, &[], no, &[]);
        for y in yields {
            self.parameters(exit, y.result);
        }
        for (block, body, holds) in [(yes, then, true), (no, otherwise, false)] {
            self.emit.b.switch_to_block(block);
            let mark = self.scope.enter();
            self.block(body)?;
            self.scope.leave(mark);
            let vals: Vec<Val> = yields.iter().map(|y| if holds { y.then } else { y.otherwise }).collect();
            let args = self.arguments(&vals)?;
            self.emit.b.ins().jump(exit, &args);
        }
        self.emit.b.switch_to_block(exit);
        Ok(())
    }
}
