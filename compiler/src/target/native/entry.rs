//! The `plan` and `run` functions around a program's kernels.
//!
//! Both keep a table of 64-bit integers on their stack: the call's dimensions, then the program's
//! `lets`. So that the time to compile stays linear in the length of the program, what is long is
//! cut into functions of at most [`PER_FUNCTION`] pieces that take the table's address: those that
//! evaluate `lets`, and those that make the calls of kernels. All calls of kernels go through one
//! function, which does the tracing and chooses between the caller's `parallel_for` and a plain call.
//!
//! Sums and products in `lets`, output shapes and arena sizes are checked for overflow. What is
//! computed within a step (offsets, task counts) is bounded by those, and is not checked again.
//!
//! Neither asks the CPU whether it has what the code needs: [`choose`](super::choose) does.
//!
//! The arena: the buffers' part, rounded up to the ABI's alignment, then one scratch area for each
//! worker, whose size is rounded up as well.

use super::NativeError;
use super::checked::Checked;
use super::function::{self, Function, PTR, import, memory, words};
use super::index::Scope;
use super::kernel::{frame_words, has_scratch};
use super::levels::TargetSpec;
use crate::program::{Place, Port, Program, Step};
use burin_ir::Symbol;
use burin_ir::expr::{Expr, Range};
use burin_runtime::abi::{ALIGN, Call, Plan, Status, code};
use core::mem::offset_of;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, BlockArg, InstBuilder, Signature, StackSlot, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use std::collections::{BTreeSet, HashMap};

/// How many `lets` or steps go into one function.
const PER_FUNCTION: usize = 64;

/// A function around the kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `(call, frame, kernel, tasks, step)`: one call of a kernel.
    Invoke,
    /// `(table) -> overflow`: a stretch of `lets`.
    Lets(usize),
    /// `(call, table)`: a stretch of steps.
    Steps(usize),
    /// The ABI's `PlanFn`.
    Plan,
    /// The ABI's `RunFn`.
    Run,
}

/// The parts of which there is one each.
const SINGLE: [Part; 3] = [Part::Invoke, Part::Plan, Part::Run];

/// What is needed to compile a program's entry.
pub struct Entry<'a> {
    program: &'a Program,
    target: &'a TargetSpec,
    /// The number of the program's first kernel in the blob; the others follow, then the entry.
    first: usize,
    /// Where each symbol is in the table.
    table: HashMap<Symbol, usize>,
}

/// Where a call's structure has what `plan` and `run` have in common.
pub(super) struct Layout {
    pub(super) name: &'static str,
    dims: usize,
    status: usize,
}

pub(super) const PLAN: Layout =
    Layout { name: "plan", dims: offset_of!(Plan, dims), status: offset_of!(Plan, status) };
pub(super) const RUN: Layout =
    Layout { name: "run", dims: offset_of!(Call, dims), status: offset_of!(Call, status) };

impl<'a> Entry<'a> {
    /// The entry of a program whose kernels begin at the number `first` in the blob.
    pub fn new(program: &'a Program, target: &'a TargetSpec, first: usize) -> Entry<'a> {
        let symbols = program.dims.iter().chain(program.lets.iter().map(|(s, _)| s));
        Entry { program, target, first, table: symbols.enumerate().map(|(i, s)| (*s, i)).collect() }
    }

    /// The functions, in the order in which they follow the kernels.
    pub fn functions(&self) -> Vec<Part> {
        let lets = self.program.lets.len().div_ceil(PER_FUNCTION);
        let steps = self.program.steps.len().div_ceil(PER_FUNCTION);
        let mut parts = SINGLE.to_vec();
        parts.extend((0..lets).map(Part::Lets));
        parts.extend((0..steps).map(Part::Steps));
        parts
    }

    /// The number of a function in the blob.
    fn number(&self, part: Part) -> usize {
        let lets = self.program.lets.len().div_ceil(PER_FUNCTION);
        self.first
            + self.program.kernels.len()
            + match part {
                Part::Lets(i) => SINGLE.len() + i,
                Part::Steps(i) => SINGLE.len() + lets + i,
                one => SINGLE.iter().position(|p| *p == one).unwrap_or(SINGLE.len()),
            }
    }

    /// The number of the program's first kernel in the blob.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The number of `plan` in the blob.
    pub fn plan(&self) -> usize {
        self.number(Part::Plan)
    }

    /// The number of `run` in the blob.
    pub fn run(&self) -> usize {
        self.number(Part::Run)
    }

    fn signature(part: Part) -> Signature {
        match part {
            Part::Invoke => words(5, &[]),
            Part::Lets(_) => words(1, &[types::I8]),
            Part::Steps(_) => words(2, &[]),
            Part::Plan | Part::Run => words(1, &[types::I32]),
        }
    }

    fn name(part: Part) -> String {
        match part {
            Part::Invoke => "invoke".to_owned(),
            Part::Plan => PLAN.name.to_owned(),
            Part::Run => RUN.name.to_owned(),
            Part::Lets(i) => format!("lets.{i}"),
            Part::Steps(i) => format!("steps.{i}"),
        }
    }

    /// Compiles one of the functions.
    pub fn compile(&self, part: Part) -> Result<Function, NativeError> {
        let name = Self::name(part);
        function::build(&name, Self::signature(part), self.target, |b, params| {
            match part {
                Part::Invoke => invoke(b, params),
                Part::Lets(i) => self.lets(b, params, i),
                Part::Steps(i) => self.steps(b, params, i),
                Part::Plan => self.plan_body(b, params[0]),
                Part::Run => self.run_body(b, params[0]),
            }
            .map_err(|what| NativeError::Internal { function: name.clone(), what })
        })
    }

    /// The value of a symbol, from the table.
    fn look_up(&self, b: &mut FunctionBuilder<'_>, table: Value, s: Symbol) -> Result<Value, String> {
        let i = self.table.get(&s).ok_or_else(|| format!("the symbol {s} is not defined"))?;
        Ok(b.ins().load(types::I64, memory(), table, *i as i32 * 8))
    }

    fn lets(&self, b: &mut FunctionBuilder<'_>, params: &[Value], part: usize) -> Result<(), String> {
        let table = params[0];
        let mut symbols = |b: &mut FunctionBuilder<'_>, s| self.look_up(b, table, s);
        let mut checked = Checked::new(b, &mut symbols);
        for (symbol, e) in self.program.lets.chunks(PER_FUNCTION).nth(part).unwrap_or_default() {
            let v = checked.emit(b, e)?;
            b.ins().store(memory(), v, table, self.table[symbol] as i32 * 8);
        }
        let overflow = checked.overflow;
        b.ins().return_(&[overflow]);
        Ok(())
    }

    /// What `plan` and `run` begin with: the dimensions checked and copied, the `lets` evaluated.
    /// Answers the table's address.
    fn prologue(&self, b: &mut FunctionBuilder<'_>, call: Value, layout: &Layout) -> Value {
        let slot = words_on_stack(b, self.table.len());
        let table = b.ins().stack_addr(PTR, slot, 0);
        let dims = b.ins().load(PTR, memory(), call, layout.dims as i32);
        let bad_dim = b.create_block();
        let found = b.append_block_param(bad_dim, types::I64);
        let number = b.append_block_param(bad_dim, types::I32);
        for i in 0..self.program.dims.len() {
            let v = b.ins().load(types::I64, memory(), dims, i as i32 * 8);
            b.ins().store(memory(), v, table, i as i32 * 8);
            let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, v, 0);
            let i = b.ins().iconst(types::I32, i as i64);
            let next = b.create_block();
            b.ins().brif(negative, bad_dim, &[BlockArg::from(v), BlockArg::from(i)], next, &[]);
            b.switch_to_block(next);
        }
        let mut overflow = b.ins().iconst(types::I8, 0);
        for i in 0..self.program.lets.len().div_ceil(PER_FUNCTION) {
            let f = import(b, self.number(Part::Lets(i)), Self::signature(Part::Lets(i)));
            let inst = b.ins().call(f, &[table]);
            let bad = b.inst_results(inst)[0];
            overflow = b.ins().bor(overflow, bad);
        }
        self.refuse_overflow(b, call, layout, overflow);
        let here = b.current_block();
        b.switch_to_block(bad_dim);
        let zero = b.ins().iconst(types::I64, 0);
        answer(b, call, layout, code::BAD_DIM, number, found, zero);
        if let Some(here) = here {
            b.switch_to_block(here);
        }
        table
    }

    /// Returns with `TOO_LARGE` where `overflow` is not zero.
    fn refuse_overflow(&self, b: &mut FunctionBuilder<'_>, call: Value, layout: &Layout, overflow: Value) {
        let (refused, next) = (b.create_block(), b.create_block());
        b.ins().brif(overflow, refused, &[], next, &[]);
        b.switch_to_block(refused);
        let none = b.ins().iconst(types::I32, 0);
        let zero = b.ins().iconst(types::I64, 0);
        answer(b, call, layout, code::TOO_LARGE, none, zero, zero);
        b.switch_to_block(next);
    }

    fn plan_body(&self, b: &mut FunctionBuilder<'_>, plan: Value) -> Result<(), String> {
        let table = self.prologue(b, plan, &PLAN);
        let mut symbols = |b: &mut FunctionBuilder<'_>, s| self.look_up(b, table, s);
        let mut checked = Checked::new(b, &mut symbols);
        let mut least = b.ins().iconst(types::I64, 0);
        let mut extents = |b: &mut FunctionBuilder<'_>, ports: &[Port]| {
            let mut all = Vec::new();
            for port in ports {
                let mut bytes = b.ins().iconst(types::I64, port.ty.dtype.bytes() as i64);
                for extent in &port.ty.shape {
                    let v = checked.emit(b, extent)?;
                    least = b.ins().smin(least, v);
                    bytes = checked.multiply(b, bytes, v);
                    all.push(v);
                }
            }
            Ok::<_, String>(all)
        };
        let inputs = extents(b, &self.program.inputs)?;
        let outputs = extents(b, &self.program.outputs)?;
        let total = self.arena(b, plan, &mut checked)?;
        let overflow = checked.overflow;
        self.refuse_overflow(b, plan, &PLAN, overflow);
        self.refuse_negative(b, plan, least);
        let wanted = b.ins().load(PTR, memory(), plan, offset_of!(Plan, input_dims) as i32);
        let (fill, next) = (b.create_block(), b.create_block());
        b.ins().brif(wanted, fill, &[], next, &[]);
        b.switch_to_block(fill);
        store_all(b, wanted, &inputs);
        b.ins().jump(next, &[]);
        b.switch_to_block(next);
        let out = b.ins().load(PTR, memory(), plan, offset_of!(Plan, output_dims) as i32);
        store_all(b, out, &outputs);
        b.ins().store(memory(), total, plan, offset_of!(Plan, arena_bytes) as i32);
        succeed(b, plan, &PLAN);
        Ok(())
    }

    /// Returns with `OUT_OF_RANGE` where the least extent is below zero.
    fn refuse_negative(&self, b: &mut FunctionBuilder<'_>, plan: Value, least: Value) {
        let negative = b.ins().icmp_imm_s(IntCC::SignedLessThan, least, 0);
        let (refused, next) = (b.create_block(), b.create_block());
        b.ins().brif(negative, refused, &[], next, &[]);
        b.switch_to_block(refused);
        let none = b.ins().iconst(types::I32, 0);
        let zero = b.ins().iconst(types::I64, 0);
        answer(b, plan, &PLAN, code::OUT_OF_RANGE, none, least, zero);
        b.switch_to_block(next);
    }

    /// Bytes of the whole arena.
    fn arena(
        &self,
        b: &mut FunctionBuilder<'_>,
        plan: Value,
        checked: &mut Checked<'_>,
    ) -> Result<Value, String> {
        let buffers = checked.emit(b, &aligned(&self.program.arena_bytes))?;
        let scratch = checked.emit(b, &aligned(&self.program.scratch_bytes))?;
        let workers = b.ins().load(types::I32, memory(), plan, offset_of!(Plan, workers) as i32);
        let workers = b.ins().uextend(types::I64, workers);
        let scratch = checked.multiply(b, scratch, workers);
        Ok(checked.add(b, buffers, scratch))
    }

    fn run_body(&self, b: &mut FunctionBuilder<'_>, call: Value) -> Result<(), String> {
        let table = self.prologue(b, call, &RUN);
        for i in 0..self.program.steps.len().div_ceil(PER_FUNCTION) {
            let f = import(b, self.number(Part::Steps(i)), Self::signature(Part::Steps(i)));
            b.ins().call(f, &[call, table]);
        }
        succeed(b, call, &RUN);
        Ok(())
    }

    fn steps(&self, b: &mut FunctionBuilder<'_>, params: &[Value], part: usize) -> Result<(), String> {
        let steps = self.program.steps.chunks(PER_FUNCTION).nth(part).unwrap_or_default();
        let (call, table) = (params[0], params[1]);
        let mut scope = Scope::default();
        for s in self.symbols(steps) {
            let v = self.look_up(b, table, s)?;
            let known = self.program.dims.contains(&s);
            scope.bind(s, v, 0, if known { Range::NON_NEGATIVE } else { Range::ALL });
        }
        let most = steps.iter().map(|s| frame_words(&self.program.kernels[s.kernel])).max();
        let slot = words_on_stack(b, most.unwrap_or(0));
        let frame = b.ins().stack_addr(PTR, slot, 0);
        let field = |b: &mut FunctionBuilder<'_>, at: usize| b.ins().load(PTR, memory(), call, at as i32);
        let bases = Bases {
            inputs: field(b, offset_of!(Call, inputs)),
            outputs: field(b, offset_of!(Call, outputs)),
            states: field(b, offset_of!(Call, states)),
            weights: field(b, offset_of!(Call, weights)),
            arena: field(b, offset_of!(Call, arena)),
        };
        let invoke = import(b, self.number(Part::Invoke), Self::signature(Part::Invoke));
        for (i, step) in steps.iter().enumerate() {
            for (word, v) in self.frame(b, &mut scope, step, &bases)?.into_iter().enumerate() {
                b.ins().store(memory(), v, frame, word as i32 * 8);
            }
            let kernel = import(b, self.first + step.kernel, words(4, &[]));
            let kernel = b.ins().func_addr(PTR, kernel);
            let tasks = scope.emit(b, &step.tasks)?;
            let number = b.ins().iconst(types::I64, (part * PER_FUNCTION + i) as i64);
            b.ins().call(invoke, &[call, frame, kernel, tasks, number]);
        }
        b.ins().return_(&[]);
        Ok(())
    }

    /// The symbols that steps need, in the order of the table.
    fn symbols(&self, steps: &[Step]) -> BTreeSet<Symbol> {
        let mut all = BTreeSet::new();
        for step in steps {
            let places = step.args.iter().filter_map(|p| match p {
                Place::Arena(e) | Place::Scratch(e) | Place::Output(_, e) => Some(e),
                _ => None,
            });
            for e in step.dims.iter().chain([&step.tasks]).chain(places) {
                all.extend(e.symbols());
            }
            if has_scratch(&self.program.kernels[step.kernel]) {
                all.extend(self.program.arena_bytes.symbols());
                all.extend(self.program.scratch_bytes.symbols());
            }
        }
        all
    }

    /// The words of a step's frame.
    fn frame(
        &self,
        b: &mut FunctionBuilder<'_>,
        scope: &mut Scope,
        step: &Step,
        bases: &Bases,
    ) -> Result<Vec<Value>, String> {
        let kernel = &self.program.kernels[step.kernel];
        if step.args.len() != kernel.buffers.len() || step.dims.len() != kernel.dims.len() {
            return Err(format!("a step's arguments do not fit the kernel {}", kernel.name));
        }
        let mut frame = Vec::with_capacity(frame_words(kernel));
        for place in &step.args {
            let listed = |b: &mut FunctionBuilder<'_>, list: Value, i: &usize| {
                b.ins().load(PTR, memory(), list, *i as i32 * 8)
            };
            frame.push(match place {
                Place::Input(i) => listed(b, bases.inputs, i),
                Place::Output(i, e) => {
                    let start = listed(b, bases.outputs, i);
                    offset_by(b, scope, start, e)?
                }
                Place::State(i) => listed(b, bases.states, i),
                Place::Weights(offset) => b.ins().iadd_imm_s(bases.weights, *offset as i64),
                Place::Arena(e) => offset_by(b, scope, bases.arena, e)?,
                Place::Scratch(e) => {
                    let e = &aligned(&self.program.arena_bytes) + e;
                    offset_by(b, scope, bases.arena, &e)?
                }
            });
        }
        for dim in &step.dims {
            frame.push(scope.emit(b, dim)?);
        }
        if has_scratch(kernel) {
            frame.push(scope.emit(b, &aligned(&self.program.scratch_bytes))?);
        }
        Ok(frame)
    }
}

/// The pointers of a call.
struct Bases {
    inputs: Value,
    outputs: Value,
    states: Value,
    weights: Value,
    arena: Value,
}

fn offset_by(b: &mut FunctionBuilder<'_>, scope: &mut Scope, base: Value, e: &Expr) -> Result<Value, String> {
    if let Some(k) = e.as_const() {
        return Ok(b.ins().iadd_imm_s(base, k));
    }
    let offset = scope.emit(b, e)?;
    Ok(b.ins().iadd(base, offset))
}

/// Stores words one after another.
fn store_all(b: &mut FunctionBuilder<'_>, at: Value, words: &[Value]) {
    for (i, v) in words.iter().enumerate() {
        b.ins().store(memory(), *v, at, i as i32 * 8);
    }
}

/// A size rounded up to the ABI's alignment.
pub fn aligned(bytes: &Expr) -> Expr {
    bytes.ceil_div(&Expr::from(ALIGN)) * ALIGN as i64
}

fn words_on_stack(b: &mut FunctionBuilder<'_>, words: usize) -> StackSlot {
    let bytes = words.max(1) as u32 * 8;
    b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3))
}

/// Fills in the status and returns its code.
pub(super) fn answer(
    b: &mut FunctionBuilder<'_>,
    call: Value,
    layout: &Layout,
    code: i32,
    node: Value,
    found: Value,
    expected: Value,
) {
    let code = b.ins().iconst(types::I32, code as i64);
    for (v, at) in [
        (code, offset_of!(Status, code)),
        (node, offset_of!(Status, node)),
        (found, offset_of!(Status, found)),
        (expected, offset_of!(Status, expected)),
    ] {
        b.ins().store(memory(), v, call, (layout.status + at) as i32);
    }
    b.ins().return_(&[code]);
}

fn succeed(b: &mut FunctionBuilder<'_>, call: Value, layout: &Layout) {
    let none = b.ins().iconst(types::I32, 0);
    let zero = b.ins().iconst(types::I64, 0);
    answer(b, call, layout, code::OK, none, zero, zero);
}

/// One call of a kernel: `(call, frame, kernel, tasks, step)`.
fn invoke(b: &mut FunctionBuilder<'_>, params: &[Value]) -> Result<(), String> {
    let [call, frame, kernel, tasks, step] = *params else { return Err("five parameters".to_owned()) };
    let host = b.ins().load(PTR, memory(), call, offset_of!(Call, host) as i32);
    let step = b.ins().ireduce(types::I32, step);
    trace(b, call, host, step, 0);
    let parallel = b.ins().load(PTR, memory(), call, offset_of!(Call, parallel_for) as i32);
    let workers = b.ins().load(types::I32, memory(), call, offset_of!(Call, workers) as i32);
    let [ask, many, alone, shared, done] = [(); 5].map(|()| b.create_block());
    b.ins().brif(parallel, ask, &[], alone, &[]);
    b.switch_to_block(ask);
    let crowd = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, workers, 1);
    b.ins().brif(crowd, many, &[], alone, &[]);
    b.switch_to_block(many);
    let several = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, tasks, 1);
    b.ins().brif(several, shared, &[], alone, &[]);
    b.switch_to_block(alone);
    let zero = b.ins().iconst(types::I64, 0);
    call_pointer(b, kernel, &[frame, zero, tasks, zero]);
    b.ins().jump(done, &[]);
    b.switch_to_block(shared);
    call_pointer(b, parallel, &[host, kernel, frame, tasks]);
    b.ins().jump(done, &[]);
    b.switch_to_block(done);
    trace(b, call, host, step, 1);
    b.ins().return_(&[]);
    Ok(())
}

/// Calls the caller's `trace`, if there is one.
fn trace(b: &mut FunctionBuilder<'_>, call: Value, host: Value, step: Value, done: i64) {
    let callback = b.ins().load(PTR, memory(), call, offset_of!(Call, trace) as i32);
    let (traced, next) = (b.create_block(), b.create_block());
    b.ins().brif(callback, traced, &[], next, &[]);
    b.switch_to_block(traced);
    let done = b.ins().iconst(types::I32, done);
    call_pointer(b, callback, &[host, step, done]);
    b.ins().jump(next, &[]);
    b.switch_to_block(next);
}

/// Calls a function that returns nothing.
fn call_pointer(b: &mut FunctionBuilder<'_>, function: Value, args: &[Value]) {
    let types: Vec<Type> = args.iter().map(|a| b.func.dfg.value_type(*a)).collect();
    let mut signature = words(0, &[]);
    signature.params = types.into_iter().map(ir::AbiParam::new).collect();
    let signature = b.import_signature(signature);
    b.ins().call_indirect(signature, function, args);
}
