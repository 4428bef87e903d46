//! A kernel becomes [`Code`]: its loops, its values as vector registers, and (in [`super::address`])
//! its indices as general registers.
//!
//! - [`values`]: how a value lies in registers, and the primitive steps on all of its registers.
//! - [`access`]: loads, stores, gathers.
//! - [`arithmetic`]: operations on lanes, and what of them there is ([`has`]); [`dot`]: sums of products of
//!   narrow integers; [`convert`]: from one type to another, [`nearest`]: to unsigned integers by rounding;
//!   [`across`]: from all lanes to one.
//!
//! What does not change in a loop stands in the block before it, which stays open until the loop is
//! closed. Loads stay where the kernel has them. A kernel that holds anything that this emitter has
//! no code for is declined with the reason.

mod access;
mod across;
mod arithmetic;
mod convert;
mod dot;
mod nearest;
mod values;

pub use arithmetic::has;

use super::Level;
use super::address::Indices;
use super::code::{Code, Cond, Inst, Label};
use crate::target::native::kernel::{has_scratch, parallel_loop};
use burin_ir::expr::{Expr, Range};
use burin_ir::loops::{Access, Block, Buf, Kernel, Loop, Op, Stmt, Val, Yield};
use burin_ir::{DType, ScalarOp};
use cranelift_entity::SecondaryMap;
use regalloc2::VReg;
use std::collections::HashMap;
use values::{Parts, Shape, Value};

/// Why a kernel is left to another emitter.
pub type Declined = String;

/// Makes the code of a kernel.
pub fn lower(kernel: &Kernel, level: Level) -> Result<Code, Declined> {
    let mut code = Code::new(level);
    let entry = code.block();
    let mut lower = Lower {
        kernel,
        indices: Indices::new(code, entry),
        values: SecondaryMap::new(),
        compares: SecondaryMap::new(),
        exact: SecondaryMap::new(),
        ranges: SecondaryMap::new(),
        streaming: None,
        constants: SecondaryMap::new(),
        narrow: SecondaryMap::new(),
        halves: HashMap::new(),
        nearest: nearest::Nearest::default(),
    };
    lower.function()?;
    let mut code = lower.indices.code;
    code.drop_unused();
    Ok(code)
}

struct Lower<'a> {
    kernel: &'a Kernel,
    indices: Indices,
    values: SecondaryMap<Val, Option<Value>>,
    /// Comparisons of floats: which one, of what.
    compares: SecondaryMap<Val, Option<(ScalarOp, [Val; 2])>>,
    /// What has been rounded to 16 bits, as it was before: a store rounds as well.
    exact: SecondaryMap<Val, Option<Parts>>,
    /// What is known of values that are indices.
    ranges: SecondaryMap<Val, Option<Range>>,
    /// The buffer that is written past the caches.
    streaming: Option<Buf>,
    /// The bits of values that are the same constant in all lanes, as lanes hold them.
    constants: SecondaryMap<Val, Option<u64>>,
    /// The types that values of `i32` were converted from.
    narrow: SecondaryMap<Val, Option<DType>>,
    /// The bytes of values as halves, where this block or one around it has them.
    halves: HashMap<(Val, dot::Bytes), dot::Halves>,
    /// What has been rounded, and integers made of it.
    nearest: nearest::Nearest,
}

/// Bytes that are more than the caches hold of what will be read again.
const LARGE: i64 = 16 << 20;

/// The buffer that a kernel fills and that is too large for the caches, if all its vectors go to multiples
/// of their width.
fn streamed(kernel: &Kernel) -> Option<Buf> {
    let (large, _) = kernel.buffers.iter().find(|(_, b)| {
        b.access == Access::Write && b.len.as_const().is_some_and(|n| n >= LARGE / b.dtype.bytes() as i64)
    })?;
    fills(&kernel.body, kernel, large).then_some(large)
}

fn fills(block: &Block, kernel: &Kernel, large: Buf) -> bool {
    block.iter().all(|s| match s {
        Stmt::Store { buffer, index, value, .. } if *buffer == large => {
            let lanes = i64::from(kernel.values[*value].lanes);
            let multiple = index.terms().iter().all(|(_, c)| c % lanes == 0);
            multiple && index.constant_term() % lanes == 0
        }
        Stmt::For(l) => l.carries.is_empty() && fills(&l.body, kernel, large),
        Stmt::If { then, otherwise, .. } => fills(then, kernel, large) && fills(otherwise, kernel, large),
        _ => true,
    })
}

impl Lower<'_> {
    fn function(&mut self) -> Result<(), Declined> {
        let to = [(); 4].map(|()| self.indices.code.int());
        let [frame, begin, end, worker] = to;
        self.push(Inst::Enter { to });
        self.indices.open_frame(self.kernel, frame, has_scratch(self.kernel).then_some(worker));
        if let Some(large) = streamed(self.kernel) {
            // Where the caller's memory is not aligned, the same code with ordinary stores.
            let (plain, aligned) = (self.indices.code.block(), self.indices.code.block());
            let cond = Cond::Unaligned(self.indices.start(large));
            self.push(Inst::Branch { cond, yes: plain, no: aligned });
            self.indices.here = aligned;
            self.streaming = Some(large);
            let mark = self.indices.enter();
            self.body(begin, end)?;
            self.indices.leave(mark);
            self.streaming = None;
            self.indices.here = plain;
        }
        self.body(begin, end)
    }

    /// The tasks `begin..end`, and the way out.
    fn body(&mut self, begin: VReg, end: VReg) -> Result<(), Declined> {
        match parallel_loop(self.kernel) {
            Some(l) => self.counted(l, begin, &|v| Cond::NotLess(v, end), false)?,
            None => {
                let (none, body) = (self.indices.code.block(), self.indices.code.block());
                self.push(Inst::Branch { cond: Cond::NotLess(begin, end), yes: none, no: body });
                self.indices.code.blocks[none].insts.push(Inst::Return);
                self.indices.here = body;
                self.block(&self.kernel.body)?;
            }
        }
        if self.streaming.is_some() {
            self.push(Inst::Fence);
        }
        self.push(Inst::Return);
        Ok(())
    }

    fn push(&mut self, inst: Inst) {
        self.indices.push(inst);
    }

    fn block(&mut self, block: &Block) -> Result<(), Declined> {
        let around = self.halves.clone();
        block.iter().try_for_each(|s| self.statement(s))?;
        self.halves = around;
        Ok(())
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), Declined> {
        match statement {
            Stmt::Let(val, op) => {
                if let Op::Scalar(op @ (ScalarOp::Lt | ScalarOp::Gt), args) = op
                    && matches!(self.kernel.values[args[0]].dtype, DType::F32 | DType::F64)
                {
                    self.compares[*val] = Some((*op, [args[0], args[1]]));
                }
                self.narrow[*val] = self.narrow_source(*val, op);
                let v = self.operation(*val, op)?;
                self.values[*val] = Some(v);
            }
            Stmt::Bind(symbol, val) => {
                let (v, range) = self.index_of(*val)?;
                self.indices.bind(*symbol, v, range);
            }
            Stmt::For(l) => self.repeat(l)?,
            Stmt::If { cond, then, otherwise, yields } => self.branch(cond, then, otherwise, yields)?,
            Stmt::Store { buffer, index, stride, value } => self.store(*buffer, index, stride, *value)?,
            Stmt::Prefetch { buffer, index } => {
                let bytes = self.kernel.buffers[*buffer].dtype.bytes() as i64;
                let at = self.indices.address(*buffer, index, bytes)?;
                self.push(Inst::Prefetch { at });
            }
        }
        Ok(())
    }

    /// An integer scalar as an index, and what is known of it.
    fn index_of(&mut self, val: Val) -> Result<(VReg, Range), Declined> {
        let ty = self.kernel.values[val];
        if let Some(Value::General(v)) = self.values[val] {
            return Ok((v, self.ranges[val].unwrap_or(Range::ALL)));
        }
        let narrow_unsigned = ty.dtype.bits() < 64 && ty.dtype.is_unsigned_int();
        let range = if narrow_unsigned { Range::NON_NEGATIVE } else { Range::ALL };
        let to = self.indices.code.int();
        if ty.dtype == DType::I64
            && let Some((at, _)) = self.load_of(val)
        {
            self.push(Inst::Word { to, at });
            return Ok((to, range));
        }
        let parts = self.value(val)?;
        let wide = self.cast(ty.dtype, DType::I64, &parts, ty.lanes)?;
        self.push(Inst::ToGeneral { to, v: wide[0], second: false });
        Ok((to, range))
    }

    fn operation(&mut self, val: Val, op: &Op) -> Result<Value, Declined> {
        let ty = self.kernel.values[val];
        if let Op::Index(e) = op {
            self.ranges[val] = Some(self.indices.range(e));
            return self.indices.int(e).map(Value::General);
        }
        let shape = self.shape(ty)?;
        let parts = match op {
            Op::Const(bits) => {
                let bits = values::lane_bits(ty.dtype, *bits);
                self.constants[val] = Some(bits);
                self.constant(shape, bits)
            }
            Op::Splat(v) => self.splat(val, *v, shape)?,
            Op::Load { buffer, index, stride } => self.load(*buffer, index, stride, ty)?,
            Op::Gather(buffer, places) => self.gather(*buffer, *places, ty)?,
            Op::Ramp(base, step) => self.ramp(base, step, shape)?,
            Op::Scalar(op, args) => self.scalar(val, *op, args)?,
            Op::Fold(op, v) => self.fold(op.combine(), *v)?,
            Op::Lane(v, lane) => self.lane(*v, *lane)?,
            Op::Index(_) => return Err("an index that is no scalar".to_owned()),
        };
        Ok(Value::Parts(parts))
    }

    fn repeat(&mut self, l: &Loop) -> Result<(), Declined> {
        if l.extent.as_const().is_some_and(|n| n <= 0) {
            for c in &l.carries {
                self.values[c.result] = Some(Value::Parts(self.value(c.init)?));
            }
            return Ok(());
        }
        let zero = self.indices.code.int();
        self.push(Inst::Imm { to: zero, value: 0 });
        match l.extent.as_const().and_then(|n| i32::try_from(n).ok()) {
            Some(n) => self.counted(l, zero, &|v| Cond::NotLessThan(v, n), true),
            None => {
                let end = self.indices.int(&l.extent)?;
                self.counted(l, zero, &|v| Cond::NotLess(v, end), false)
            }
        }
    }

    /// A loop that ends when `ended` holds of its variable: tested at the bottom if it is `sure` to run
    /// at all, else at the top.
    fn counted(
        &mut self,
        l: &Loop,
        from: VReg,
        ended: &dyn Fn(VReg) -> Cond,
        sure: bool,
    ) -> Result<(), Declined> {
        let range = self.indices.range_below(&l.extent);
        let inits = self.initial(l)?;
        let before = self.indices.open_loop();
        let entry = self.indices.code.block();
        let body = if sure { entry } else { self.indices.code.block() };
        let var = self.indices.code.int();
        let mut params = vec![var];
        for c in &l.carries {
            let parts = self.fresh(self.shape(self.kernel.values[c.param])?);
            params.extend(parts.iter().copied());
            self.values[c.param] = Some(Value::Parts(parts));
        }
        self.indices.code.blocks[entry].params = params.clone();
        self.indices.here = body;
        self.indices.bind(l.var, var, range);
        self.block(&l.body)?;
        let next = self.indices.code.int();
        self.push(Inst::AddImm { to: next, a: var, by: 1 });
        let carried = self.registers(l.carries.iter().map(|c| c.next))?;
        let nexts: Vec<VReg> = std::iter::once(next).chain(carried).collect();
        let (last, results) = if sure { (self.indices.here, nexts.clone()) } else { (entry, params) };
        let again = if sure { self.indices.code.block() } else { self.indices.here };
        self.indices.code.blocks[again].insts.push(Inst::Jump { to: entry, args: nexts });
        let exit = self.indices.code.block();
        let cond = ended(results[0]);
        let no = if sure { again } else { body };
        self.indices.code.blocks[last].insts.push(Inst::Branch { cond, yes: exit, no });
        let args = std::iter::once(from).chain(inits).collect();
        self.indices.close_loop(before, Inst::Jump { to: entry, args });
        self.indices.here = exit;
        // Under names of their own, so that what follows the loop has no bearing on its registers.
        let mut results = results[1..].iter();
        for c in &l.carries {
            let shape = self.shape(self.kernel.values[c.param])?;
            let mut copies = Parts::new();
            for v in results.by_ref().take(shape.parts) {
                let to = self.indices.code.vector();
                self.push(Inst::Copy { to, width: shape.width, v: *v });
                copies.push(to);
            }
            self.values[c.result] = Some(Value::Parts(copies));
        }
        Ok(())
    }

    /// What a loop's sums begin with. Each zero is made here: kept for all loops, it takes one of their registers, and
    /// a sum that shares its place is spilled with it.
    fn initial(&mut self, l: &Loop) -> Result<Vec<VReg>, Declined> {
        let mut out = Vec::new();
        for c in &l.carries {
            if self.constants[c.init] != Some(0) {
                out.extend(self.value(c.init)?);
                continue;
            }
            let shape = self.shape(self.kernel.values[c.init])?;
            out.extend((0..shape.parts).flat_map(|_| self.constant(Shape { parts: 1, ..shape }, 0)));
        }
        Ok(out)
    }

    /// The registers of values, one behind the other.
    fn registers(&mut self, vals: impl Iterator<Item = Val>) -> Result<Vec<VReg>, Declined> {
        let mut out = Vec::new();
        for val in vals {
            out.extend(self.value(val)?);
        }
        Ok(out)
    }

    fn branch(
        &mut self,
        cond: &[Expr],
        then: &Block,
        otherwise: &Block,
        yields: &[Yield],
    ) -> Result<(), Declined> {
        let open: Vec<&Expr> = cond.iter().filter(|e| e.as_const().is_none_or(|k| k < 0)).collect();
        if open.is_empty() || open.iter().any(|e| e.as_const().is_some()) {
            let holds = open.is_empty();
            self.block(if holds { then } else { otherwise })?;
            for y in yields {
                let v = self.value(if holds { y.then } else { y.otherwise })?;
                self.values[y.result] = Some(Value::Parts(v));
            }
            return Ok(());
        }
        // All before the first branch: what is computed behind one is not known on its other side.
        let signs = open.into_iter().map(|e| self.indices.int(e)).collect::<Result<Vec<_>, _>>()?;
        let mut failed = Vec::new();
        for v in signs {
            let (no, next) = (self.indices.code.block(), self.indices.code.block());
            self.push(Inst::Branch { cond: Cond::Negative(v), yes: no, no: next });
            failed.push(no);
            self.indices.here = next;
        }
        let ends = [self.side(then, yields, true)?, {
            let not = self.indices.code.block();
            for no in failed {
                self.indices.code.blocks[no].insts.push(Inst::Jump { to: not, args: Vec::new() });
            }
            self.indices.here = not;
            self.side(otherwise, yields, false)?
        }];
        let exit = self.indices.code.block();
        for (end, args) in ends {
            self.indices.code.blocks[end].insts.push(Inst::Jump { to: exit, args });
        }
        for y in yields {
            let parts = self.fresh(self.shape(self.kernel.values[y.result])?);
            self.indices.code.blocks[exit].params.extend(parts.iter().copied());
            self.values[y.result] = Some(Value::Parts(parts));
        }
        self.indices.here = exit;
        Ok(())
    }

    /// One side of a conditional: its last block, and what it yields.
    fn side(&mut self, block: &Block, yields: &[Yield], then: bool) -> Result<(Label, Vec<VReg>), Declined> {
        let mark = self.indices.enter();
        self.block(block)?;
        let args = self.registers(yields.iter().map(|y| if then { y.then } else { y.otherwise }))?;
        self.indices.leave(mark);
        Ok((self.indices.here, args))
    }
}
