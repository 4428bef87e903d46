//! The `plan` and `run` functions around a program's kernels.
//!
//! Both keep a table of 64-bit integers on their stack: the call's dimensions, the number of workers, then
//! the program's `lets`. So that the time to compile stays linear in the length of the program, what is long is
//! cut into functions of at most [`PER_FUNCTION`] pieces that take the table's address: those that
//! evaluate `lets`, and those that run steps ([`steps`](super::steps)). All calls of kernels go through one
//! function, which does the tracing and chooses between the caller's `parallel_for` and a plain call.
//!
//! Sums and products in `lets`, output shapes and arena sizes are checked for overflow. What is
//! computed within a step (offsets, task counts) is bounded by those, and is not checked again.
//!
//! Neither asks the CPU whether it has what the code needs: [`choose`](super::choose) does.
//!
//! The arena: the buffers' part, rounded up to the ABI's alignment, then one scratch area for each
//! worker, whose size is rounded up as well. A call of one task runs it as worker 0.

use super::NativeError;
use super::checked::Checked;
use super::function::{self, Function, PTR, import, memory, words};
use super::levels::TargetSpec;
use super::steps::{self, Steps};
use crate::program::{Port, Program, Step};
use burin_ir::Symbol;
use burin_ir::expr::Expr;
use burin_runtime::abi::{ALIGN, Call, Plan, Status, code};
use core::mem::offset_of;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, BlockArg, InstBuilder, Signature, StackSlot, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use std::collections::HashMap;
use std::ops::Range;

/// How many `lets` or steps go into one function.
const PER_FUNCTION: usize = 64;

/// A function around the kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `(call, frame, kernel, tasks, step)`: one call of a kernel.
    Invoke,
    /// `(table) -> overflow`: a stretch of `lets`.
    Lets(usize),
    /// `(call, table) -> code`: a stretch of steps.
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
    pub(super) program: &'a Program,
    target: &'a TargetSpec,
    /// The number of the program's first kernel in the blob; the others follow, then the entry.
    first: usize,
    /// Where each symbol is in the table.
    table: HashMap<Symbol, usize>,
    /// The stretches of steps that are functions, block after block: a block's number, and which of its
    /// steps.
    chunks: Vec<(usize, Range<usize>)>,
}

/// Where a call's structure has what `plan` and `run` have in common.
pub(super) struct Layout {
    pub(super) name: &'static str,
    dims: usize,
    workers: usize,
    status: usize,
}

pub(super) const PLAN: Layout = Layout {
    name: "plan",
    dims: offset_of!(Plan, dims),
    workers: offset_of!(Plan, workers),
    status: offset_of!(Plan, status),
};
pub(super) const RUN: Layout = Layout {
    name: "run",
    dims: offset_of!(Call, dims),
    workers: offset_of!(Call, workers),
    status: offset_of!(Call, status),
};

impl<'a> Entry<'a> {
    /// The entry of a program whose kernels begin at the number `first` in the blob.
    pub fn new(program: &'a Program, target: &'a TargetSpec, first: usize) -> Entry<'a> {
        let given = program.dims.iter().copied().chain([Program::workers()]);
        let lets = program.lets.iter().map(|(s, _)| *s);
        let mut table = HashMap::new();
        for s in given.chain(lets).chain(program.set_by_steps()) {
            let next = table.len();
            table.entry(s).or_insert(next);
        }
        let stretches = |(block, steps): (usize, &Vec<Step>)| {
            let n = steps.len();
            (0..n)
                .step_by(PER_FUNCTION)
                .map(move |at| (block, at..n.min(at + PER_FUNCTION)))
                .collect::<Vec<_>>()
        };
        let chunks = program.blocks.iter().enumerate().flat_map(stretches).collect();
        Entry { program, target, first, table, chunks }
    }

    /// The functions, in the order in which they follow the kernels.
    pub fn functions(&self) -> Vec<Part> {
        let lets = self.program.lets.len().div_ceil(PER_FUNCTION);
        let mut parts = SINGLE.to_vec();
        parts.extend((0..lets).map(Part::Lets));
        parts.extend((0..self.chunks.len()).map(Part::Steps));
        parts
    }

    /// The number of a function in the blob.
    pub(super) fn number(&self, part: Part) -> usize {
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

    pub(super) fn signature(part: Part) -> Signature {
        match part {
            Part::Invoke => words(6, &[]),
            Part::Lets(_) => words(1, &[types::I8]),
            Part::Steps(_) => words(2, &[types::I32]),
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
    pub(super) fn look_up(
        &self,
        b: &mut FunctionBuilder<'_>,
        table: Value,
        s: Symbol,
    ) -> Result<Value, String> {
        let at = self.place_of(s)?;
        Ok(b.ins().load(types::I64, memory(), table, at))
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

    /// What `plan` and `run` begin with: the dimensions checked and copied with the number of workers, the
    /// `lets` evaluated.
    /// Answers the table's address.
    fn prologue(&self, b: &mut FunctionBuilder<'_>, call: Value, layout: &Layout) -> Value {
        let slot = words_on_stack(b, self.table.len() + self.program.slots);
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
        let workers = b.ins().load(types::I32, memory(), call, layout.workers as i32);
        let workers = b.ins().uextend(types::I64, workers);
        b.ins().store(memory(), workers, table, self.table[&Program::workers()] as i32 * 8);
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
        let mut extents = |b: &mut FunctionBuilder<'_>, ports: &[Port], unbounded: &dyn Fn(usize) -> bool| {
            let mut all = Vec::new();
            for (i, port) in ports.iter().enumerate() {
                if unbounded(i) {
                    all.extend(port.ty.shape.iter().map(|_| b.ins().iconst(types::I64, 0)));
                    continue;
                }
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
        let inputs = extents(b, &self.program.inputs, &|_| false)?;
        let outputs = extents(b, &self.program.outputs, &|i| self.program.unbounded(i))?;
        let scratch = aligned(&self.program.scratch_bytes) * Expr::from(Program::workers());
        let total = checked.emit(b, &(aligned(&self.program.arena_bytes) + scratch))?;
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

    fn run_body(&self, b: &mut FunctionBuilder<'_>, call: Value) -> Result<(), String> {
        let table = self.prologue(b, call, &RUN);
        for part in self.parts_of(0) {
            let f = import(b, self.number(part), Self::signature(part));
            let inst = b.ins().call(f, &[call, table]);
            let answered = b.inst_results(inst)[0];
            steps::return_unless_ok(b, answered);
        }
        self.found_extents(b, call, table)?;
        succeed(b, call, &RUN);
        Ok(())
    }

    /// Tells the caller the extents of outputs that depend on data.
    fn found_extents(&self, b: &mut FunctionBuilder<'_>, call: Value, table: Value) -> Result<(), String> {
        let mut symbols = |b: &mut FunctionBuilder<'_>, s| self.look_up(b, table, s);
        let mut checked = Checked::new(b, &mut symbols);
        let mut at = 0;
        let mut found = Vec::new();
        for (i, port) in self.program.outputs.iter().enumerate() {
            if self.program.unbounded(i) {
                for (k, extent) in port.ty.shape.iter().enumerate() {
                    found.push((at + k, checked.emit(b, extent)?));
                }
            }
            at += port.ty.rank();
        }
        if !found.is_empty() {
            let dims = b.ins().load(PTR, memory(), call, offset_of!(Call, output_dims) as i32);
            for (i, v) in found {
                b.ins().store(memory(), v, dims, i as i32 * 8);
            }
        }
        Ok(())
    }

    /// A stretch of steps.
    fn steps(&self, b: &mut FunctionBuilder<'_>, params: &[Value], chunk: usize) -> Result<(), String> {
        let (block, range) = &self.chunks[chunk];
        let steps = &self.program.blocks[*block][range.clone()];
        let mut emit = Steps::new(self, b, params, steps);
        steps.iter().try_for_each(|s| emit.step(b, s))?;
        let ok = b.ins().iconst(types::I32, i64::from(code::OK));
        b.ins().return_(&[ok]);
        Ok(())
    }

    /// The functions that hold a block's steps.
    pub(super) fn parts_of(&self, block: usize) -> impl Iterator<Item = Part> {
        let from = self.chunks.partition_point(|(b, _)| *b < block);
        let to = self.chunks.partition_point(|(b, _)| *b <= block);
        (from..to).map(Part::Steps)
    }

    /// Where a symbol is in the table, in bytes.
    pub(super) fn place_of(&self, s: Symbol) -> Result<i32, String> {
        let i = self.table.get(&s).ok_or_else(|| format!("the symbol {s} is not defined"))?;
        Ok(*i as i32 * 8)
    }

    /// Where the address of a slot is in the table, in bytes.
    pub(super) fn place_of_slot(&self, slot: usize) -> i32 {
        (self.table.len() + slot) as i32 * 8
    }
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

pub(super) fn words_on_stack(b: &mut FunctionBuilder<'_>, words: usize) -> StackSlot {
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

/// One call of a kernel: `(call, frame, kernel, tasks, shared, step)`. Its tasks are shared if there are several, the
/// caller has several workers, and `shared` is zero or above.
fn invoke(b: &mut FunctionBuilder<'_>, params: &[Value]) -> Result<(), String> {
    let [call, frame, kernel, tasks, shared, step] = *params else { return Err("six parameters".to_owned()) };
    let host = b.ins().load(PTR, memory(), call, offset_of!(Call, host) as i32);
    let step = b.ins().ireduce(types::I32, step);
    trace(b, call, host, step, 0);
    let parallel = b.ins().load(PTR, memory(), call, offset_of!(Call, parallel_for) as i32);
    let workers = b.ins().load(types::I32, memory(), call, offset_of!(Call, workers) as i32);
    let [ask, many, alone, together, done] = [(); 5].map(|()| b.create_block());
    b.ins().brif(parallel, ask, &[], alone, &[]);
    b.switch_to_block(ask);
    let crowd = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, workers, 1);
    b.ins().brif(crowd, many, &[], alone, &[]);
    b.switch_to_block(many);
    let several = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, tasks, 1);
    let pays = b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, shared, 0);
    let both = b.ins().band(several, pays);
    b.ins().brif(both, together, &[], alone, &[]);
    b.switch_to_block(alone);
    let zero = b.ins().iconst(types::I64, 0);
    call_pointer(b, kernel, &[frame, zero, tasks, zero], &[]);
    b.ins().jump(done, &[]);
    b.switch_to_block(together);
    call_pointer(b, parallel, &[host, kernel, frame, tasks], &[]);
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
    call_pointer(b, callback, &[host, step, done], &[]);
    b.ins().jump(next, &[]);
    b.switch_to_block(next);
}

/// Calls a function by its address.
pub(super) fn call_pointer(
    b: &mut FunctionBuilder<'_>,
    function: Value,
    args: &[Value],
    results: &[Type],
) -> ir::Inst {
    let types: Vec<Type> = args.iter().map(|a| b.func.dfg.value_type(*a)).collect();
    let mut signature = words(0, results);
    signature.params = types.into_iter().map(ir::AbiParam::new).collect();
    let signature = b.import_signature(signature);
    b.ins().call_indirect(signature, function, args)
}
