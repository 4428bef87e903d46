//! The steps of a run as code: a function for each stretch of a block.
//!
//! Symbols and the addresses of slots are kept in a table of 64-bit words that all functions of a run
//! share. A function loads a symbol when it first needs it, and forgets what it has loaded where
//! another function may have set it.
//!
//! Every function answers a code of the ABI; what is not success ends the run, with the call's status
//! filled in.

use super::checked::Checked;
use super::entry::{Entry, Part, RUN, aligned, answer, call_pointer, words_on_stack};
use super::function::{PTR, import, memory, words};
use super::index::Scope;
use super::kernel::{frame_words, has_scratch};
use crate::program::{Call as KernelCall, Loop, Place, Read, Step};
use burin_ir::expr::Expr;
use burin_ir::{DType, Symbol};
use burin_runtime::abi::{Call, code};
use core::mem::offset_of;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, FuncRef, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use std::collections::HashSet;

/// A function that runs steps, while it is written.
pub struct Steps<'a, 'e> {
    entry: &'a Entry<'e>,
    call: Value,
    table: Value,
    /// Room for the frame of any of its calls.
    frame: Value,
    invoke: FuncRef,
    bases: Bases,
    scope: Scope,
    /// The symbols in scope.
    loaded: HashSet<Symbol>,
}

/// The pointers of a call.
struct Bases {
    inputs: Value,
    outputs: Value,
    states: Value,
    weights: Value,
    arena: Value,
}

impl<'a, 'e> Steps<'a, 'e> {
    /// The beginning of a function of those parameters that runs steps.
    pub fn new(
        entry: &'a Entry<'e>,
        b: &mut FunctionBuilder<'_>,
        params: &[Value],
        steps: &[Step],
    ) -> Steps<'a, 'e> {
        let (call, table) = (params[0], params[1]);
        let kernels = &entry.program.kernels;
        let calls = steps.iter().filter_map(|s| match s {
            Step::Call(n) => Some(frame_words(&kernels[entry.program.calls[*n].kernel])),
            Step::Host(n) => Some(2 * entry.program.host_calls[*n].args.len()),
            _ => None,
        });
        let slot = words_on_stack(b, calls.max().unwrap_or(0));
        let field = |b: &mut FunctionBuilder<'_>, at: usize| b.ins().load(PTR, memory(), call, at as i32);
        Steps {
            entry,
            call,
            table,
            frame: b.ins().stack_addr(PTR, slot, 0),
            invoke: import(b, entry.number(Part::Invoke), Entry::signature(Part::Invoke)),
            bases: Bases {
                inputs: field(b, offset_of!(Call, inputs)),
                outputs: field(b, offset_of!(Call, outputs)),
                states: field(b, offset_of!(Call, states)),
                weights: field(b, offset_of!(Call, weights)),
                arena: field(b, offset_of!(Call, arena)),
            },
            scope: Scope::default(),
            loaded: HashSet::new(),
        }
    }

    /// Code for a step.
    pub fn step(&mut self, b: &mut FunctionBuilder<'_>, step: &Step) -> Result<(), String> {
        match step {
            Step::Call(number) => self.kernel(b, *number),
            Step::Host(number) => self.host(b, *number),
            Step::Read(read) => self.read(b, read),
            Step::Let(symbol, e) => {
                let v = self.checked(b, e)?;
                self.set(b, *symbol, v)
            }
            Step::Check(check) => {
                let v = self.checked(b, &check.value)?;
                let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, v, 0);
                let node = check.node as i64;
                self.refuse(b, negative, code::OUT_OF_RANGE, node, v);
                Ok(())
            }
            Step::Store(e, place, dtype) => {
                let v = self.value(b, e)?;
                let at = self.place(b, place)?;
                let v = match dtype.bytes() {
                    1 => b.ins().ireduce(types::I8, v),
                    2 => b.ins().ireduce(types::I16, v),
                    4 => b.ins().ireduce(types::I32, v),
                    _ => v,
                };
                b.ins().store(memory(), v, at, 0);
                Ok(())
            }
            Step::Alloc(slot, bytes) => self.alloc(b, *slot, bytes),
            Step::If { cond, then, otherwise } => self.either(b, cond, [*then, *otherwise]),
            Step::Loop(l) => self.repeat(b, l),
        }
    }

    /// Code for an expression whose sums and products do not overflow.
    fn value(&mut self, b: &mut FunctionBuilder<'_>, e: &Expr) -> Result<Value, String> {
        for s in e.symbols() {
            if self.loaded.insert(s) {
                let v = self.entry.look_up(b, self.table, s)?;
                self.scope.bind(s, v, 0, s.range());
            }
        }
        self.scope.emit(b, e)
    }

    /// The same for any expression: the run ends where one overflows.
    fn checked(&mut self, b: &mut FunctionBuilder<'_>, e: &Expr) -> Result<Value, String> {
        let (entry, table) = (self.entry, self.table);
        let mut symbols = |b: &mut FunctionBuilder<'_>, s| entry.look_up(b, table, s);
        let mut checked = Checked::new(b, &mut symbols);
        let v = checked.emit(b, e)?;
        let overflow = checked.overflow;
        let zero = b.ins().iconst(types::I64, 0);
        self.refuse(b, overflow, code::TOO_LARGE, 0, zero);
        Ok(v)
    }

    /// Ends the run where a condition holds.
    fn refuse(&self, b: &mut FunctionBuilder<'_>, bad: Value, code: i32, node: i64, found: Value) {
        let (refused, next) = (b.create_block(), b.create_block());
        b.ins().brif(bad, refused, &[], next, &[]);
        b.switch_to_block(refused);
        let node = b.ins().iconst(types::I32, node);
        let zero = b.ins().iconst(types::I64, 0);
        answer(b, self.call, &RUN, code, node, found, zero);
        b.switch_to_block(next);
    }

    fn set(&mut self, b: &mut FunctionBuilder<'_>, symbol: Symbol, v: Value) -> Result<(), String> {
        let at = self.entry.place_of(symbol)?;
        b.ins().store(memory(), v, self.table, at);
        // What was computed from an earlier value is no longer right.
        if self.loaded.contains(&symbol) {
            self.forget();
        }
        self.loaded.insert(symbol);
        self.scope.bind(symbol, v, 0, symbol.range());
        Ok(())
    }

    fn forget(&mut self) {
        self.scope = Scope::default();
        self.loaded.clear();
    }

    fn read(&mut self, b: &mut FunctionBuilder<'_>, read: &Read) -> Result<(), String> {
        let at = self.place(b, &read.place)?;
        let ty = match read.dtype.bytes() {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            _ => types::I64,
        };
        let v = b.ins().load(ty, memory(), at, read.offset as i32);
        let v = match ty {
            types::I64 => v,
            _ if read.dtype.is_signed_int() => b.ins().sextend(types::I64, v),
            _ => b.ins().uextend(types::I64, v),
        };
        let v = if read.dtype == DType::Bool {
            let some = b.ins().icmp_imm_s(IntCC::NotEqual, v, 0);
            b.ins().uextend(types::I64, some)
        } else {
            v
        };
        self.set(b, read.symbol, v)
    }

    fn alloc(&mut self, b: &mut FunctionBuilder<'_>, slot: usize, bytes: &Expr) -> Result<(), String> {
        let bytes = self.checked(b, bytes)?;
        let function = b.ins().load(PTR, memory(), self.call, offset_of!(Call, alloc) as i32);
        let zero = b.ins().iconst(types::I64, 0);
        let none = b.ins().icmp_imm_s(IntCC::Equal, function, 0);
        self.refuse(b, none, code::NO_MEMORY, 0, zero);
        let host = b.ins().load(PTR, memory(), self.call, offset_of!(Call, host) as i32);
        let number = b.ins().iconst(types::I32, slot as i64);
        let given = call_pointer(b, function, &[host, number, bytes], &[PTR]);
        let memory_at = b.inst_results(given)[0];
        let none = b.ins().icmp_imm_s(IntCC::Equal, memory_at, 0);
        self.refuse(b, none, code::NO_MEMORY, 0, bytes);
        b.ins().store(memory(), memory_at, self.table, self.entry.place_of_slot(slot));
        Ok(())
    }

    /// A call of the host-op library, over the places and the numbers of elements of its operands.
    fn host(&mut self, b: &mut FunctionBuilder<'_>, number: usize) -> Result<(), String> {
        let step = &self.entry.program.host_calls[number];
        for (i, (place, elements)) in step.args.iter().enumerate() {
            let (at, count) = (self.place(b, place)?, self.value(b, elements)?);
            b.ins().store(memory(), at, self.frame, i as i32 * 16);
            b.ins().store(memory(), count, self.frame, i as i32 * 16 + 8);
        }
        let (node, zero) = (step.node as i64, b.ins().iconst(types::I64, 0));
        let function = b.ins().load(PTR, memory(), self.call, offset_of!(Call, host_op) as i32);
        let none = b.ins().icmp_imm_s(IntCC::Equal, function, 0);
        self.refuse(b, none, code::HOST, node, zero);
        let host = b.ins().load(PTR, memory(), self.call, offset_of!(Call, host) as i32);
        let op = b.ins().iconst(types::I32, step.op as i64);
        let answered = call_pointer(b, function, &[host, op, self.frame], &[types::I32]);
        let answered = b.inst_results(answered)[0];
        self.refuse(b, answered, code::HOST, node, zero);
        Ok(())
    }

    /// The steps of a block, which other functions hold.
    fn block(&mut self, b: &mut FunctionBuilder<'_>, block: usize) {
        for part in self.entry.parts_of(block) {
            let f = import(b, self.entry.number(part), Entry::signature(part));
            let inst = b.ins().call(f, &[self.call, self.table]);
            let answered = b.inst_results(inst)[0];
            return_unless_ok(b, answered);
        }
    }

    fn either(&mut self, b: &mut FunctionBuilder<'_>, cond: &Expr, blocks: [usize; 2]) -> Result<(), String> {
        let cond = self.value(b, cond)?;
        let [then, otherwise, done] = [(); 3].map(|()| b.create_block());
        b.ins().brif(cond, then, &[], otherwise, &[]);
        for (at, block) in [then, otherwise].into_iter().zip(blocks) {
            b.switch_to_block(at);
            self.block(b, block);
            b.ins().jump(done, &[]);
        }
        b.switch_to_block(done);
        self.forget();
        Ok(())
    }

    fn repeat(&mut self, b: &mut FunctionBuilder<'_>, l: &Loop) -> Result<(), String> {
        let extent = self.value(b, &l.extent)?;
        let [head, body, done] = [(); 3].map(|()| b.create_block());
        let counter = b.append_block_param(head, types::I64);
        let zero = b.ins().iconst(types::I64, 0);
        b.ins().jump(head, &[BlockArg::from(zero)]);
        b.switch_to_block(head);
        let mut more = b.ins().icmp(IntCC::SignedLessThan, counter, extent);
        if let Some(going) = l.going {
            let going = self.entry.look_up(b, self.table, going)?;
            let going = b.ins().icmp_imm_s(IntCC::NotEqual, going, 0);
            more = b.ins().band(more, going);
        }
        b.ins().brif(more, body, &[], done, &[]);
        b.switch_to_block(body);
        let at = self.entry.place_of(l.counter)?;
        b.ins().store(memory(), counter, self.table, at);
        self.block(b, l.body);
        let next = b.ins().iadd_imm_s(counter, 1);
        b.ins().jump(head, &[BlockArg::from(next)]);
        b.switch_to_block(done);
        self.forget();
        Ok(())
    }

    fn kernel(&mut self, b: &mut FunctionBuilder<'_>, number: usize) -> Result<(), String> {
        let step = &self.entry.program.calls[number];
        for (word, v) in self.frame_of(b, step)?.into_iter().enumerate() {
            b.ins().store(memory(), v, self.frame, word as i32 * 8);
        }
        let kernel = import(b, self.entry.first() + step.kernel, words(4, &[]));
        let kernel = b.ins().func_addr(PTR, kernel);
        let tasks = self.value(b, &step.tasks)?;
        let shared = self.value(b, &step.shared)?;
        let number = b.ins().iconst(types::I64, number as i64);
        b.ins().call(self.invoke, &[self.call, self.frame, kernel, tasks, shared, number]);
        Ok(())
    }

    /// The words of a call's frame.
    fn frame_of(&mut self, b: &mut FunctionBuilder<'_>, step: &KernelCall) -> Result<Vec<Value>, String> {
        let kernel = &self.entry.program.kernels[step.kernel];
        if step.args.len() != kernel.buffers.len() || step.dims.len() != kernel.dims.len() {
            return Err(format!("a step's arguments do not fit the kernel {}", kernel.name));
        }
        let mut frame = Vec::with_capacity(frame_words(kernel));
        for place in &step.args {
            frame.push(self.place(b, place)?);
        }
        for dim in &step.dims {
            frame.push(self.value(b, dim)?);
        }
        if has_scratch(kernel) {
            frame.push(self.value(b, &step.scratch)?);
        }
        Ok(frame)
    }

    /// The address of a place.
    fn place(&mut self, b: &mut FunctionBuilder<'_>, place: &Place) -> Result<Value, String> {
        let listed = |b: &mut FunctionBuilder<'_>, list: Value, i: &usize| {
            b.ins().load(PTR, memory(), list, *i as i32 * 8)
        };
        let (base, offset) = match place {
            Place::Input(i, e) => (listed(b, self.bases.inputs, i), e.clone()),
            Place::State(i, e) => (listed(b, self.bases.states, i), e.clone()),
            Place::Output(i, e) => (listed(b, self.bases.outputs, i), e.clone()),
            Place::Slot(i, e) => {
                let at = self.entry.place_of_slot(*i);
                (b.ins().load(PTR, memory(), self.table, at), e.clone())
            }
            Place::Weights(e) => (self.bases.weights, e.clone()),
            Place::Arena(e) => (self.bases.arena, e.clone()),
            Place::Scratch(e) => (self.bases.arena, &aligned(&self.entry.program.arena_bytes) + e),
        };
        if let Some(k) = offset.as_const() {
            return Ok(b.ins().iadd_imm_s(base, k));
        }
        let offset = self.value(b, &offset)?;
        Ok(b.ins().iadd(base, offset))
    }
}

/// Goes on where a function has answered success, else answers the same.
pub fn return_unless_ok(b: &mut FunctionBuilder<'_>, answered: Value) {
    let (failed, next) = (b.create_block(), b.create_block());
    b.ins().brif(answered, failed, &[], next, &[]);
    b.switch_to_block(failed);
    b.ins().return_(&[answered]);
    b.switch_to_block(next);
}
