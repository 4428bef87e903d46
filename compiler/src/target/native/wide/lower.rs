//! A kernel becomes [`Code`]: its loops, its values as vector registers, and (in [`super::address`])
//! its indices as general registers.
//!
//! What does not change in a loop stands in the block before it, which stays open until the loop is
//! closed. Loads stay where the kernel has them. A kernel that holds anything that this emitter has
//! no code for is declined with the reason.

use super::Level;
use super::address::Indices;
use super::code::{Address, Code, Cond, Inst, Label, UnaryOp, VecOp, Width};
use crate::target::native::kernel::{has_scratch, parallel_loop};
use burin_ir::expr::{Expr, Range};
use burin_ir::loops::{Access, Block, Buf, Kernel, Loop, Op, Stmt, Val, ValType, Yield};
use burin_ir::{DType, ScalarOp};
use cranelift_entity::SecondaryMap;
use regalloc2::VReg;

/// Why a kernel is left to another emitter.
pub type Declined = String;

/// Makes the code of a kernel.
pub fn lower(kernel: &Kernel, level: Level) -> Result<Code, Declined> {
    if let Some(b) = kernel.buffers.values().find(|b| b.dtype != DType::F32) {
        return Err(format!("a buffer of {}", b.dtype));
    }
    let mut code = Code::new(level);
    let entry = code.block();
    let mut lower = Lower {
        kernel,
        indices: Indices::new(code, entry),
        values: SecondaryMap::new(),
        compares: SecondaryMap::new(),
        ranges: SecondaryMap::new(),
        streaming: None,
        constants: SecondaryMap::new(),
    };
    lower.function()?;
    let mut code = lower.indices.code;
    code.drop_unused();
    Ok(code)
}

/// The predicate of a comparison: either is NaN.
const UNORDERED: u8 = 3;

/// Whether there is code for an operation on `f32`: those of [`Lower::scalar`], and functions that
/// are expanded into them.
pub fn has(op: ScalarOp) -> bool {
    use ScalarOp::*;
    let function = matches!(op, Exp | Tanh | Erf | Log | Sinh | Cosh);
    let comparison = matches!(op, Eq | Ne | Lt | Le | Ge | Gt | And | Or | Not | Select);
    let rounding = matches!(op, Round | Floor | Ceil | Trunc);
    let arithmetic = matches!(op, Add | Sub | Mul | Div | Sqrt | MulAdd | Fma | Max | Min | Neg | Abs);
    function || comparison || rounding || arithmetic
}

struct Lower<'a> {
    kernel: &'a Kernel,
    indices: Indices,
    values: SecondaryMap<Val, Option<VReg>>,
    /// Comparisons of floats: which one, of what.
    compares: SecondaryMap<Val, Option<(ScalarOp, [Val; 2])>>,
    /// What is known of values that are indices.
    ranges: SecondaryMap<Val, Option<Range>>,
    /// The buffer that is written past the caches.
    streaming: Option<Buf>,
    /// The bits of values that are the same constant in all lanes.
    constants: SecondaryMap<Val, Option<u32>>,
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
        block.iter().try_for_each(|s| self.statement(s))
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), Declined> {
        match statement {
            Stmt::Let(val, op) => {
                if let Op::Scalar(op @ (ScalarOp::Lt | ScalarOp::Gt), args) = op
                    && self.kernel.values[args[0]].dtype == DType::F32
                {
                    self.compares[*val] = Some((*op, [args[0], args[1]]));
                }
                let v = self.operation(*val, op)?;
                self.values[*val] = Some(v);
            }
            Stmt::Bind(symbol, val) => {
                let v = self.value(*val)?;
                let range = self.ranges[*val].unwrap_or(Range::ALL);
                self.indices.bind(*symbol, v, range);
            }
            Stmt::For(l) => self.repeat(l)?,
            Stmt::If { cond, then, otherwise, yields } => self.branch(cond, then, otherwise, yields)?,
            Stmt::Store { buffer, index, stride, value } => {
                let width = self.width(self.kernel.values[*value])?;
                if width != Width::Scalar && *stride != 1 {
                    return Err("a store with a stride".to_owned());
                }
                let v = self.value(*value)?;
                let at = self.indices.address(*buffer, index, 4)?;
                let streaming = self.streaming == Some(*buffer) && width != Width::Scalar;
                self.push(Inst::Store { v, width, at, streaming });
            }
            Stmt::Prefetch { buffer, index } => {
                let at = self.indices.address(*buffer, index, 4)?;
                self.push(Inst::Prefetch { at });
            }
        }
        Ok(())
    }

    fn value(&self, val: Val) -> Result<VReg, Declined> {
        self.values[val].ok_or_else(|| format!("{val} is used before it is defined"))
    }

    fn width(&self, ty: ValType) -> Result<Width, Declined> {
        let width =
            Width::of(ty.lanes).filter(|w| *w != Width::Zmm || self.indices.code.level == Level::Avx512);
        match (ty.dtype, width) {
            (DType::F32 | DType::I32 | DType::Bool, Some(width)) => Ok(width),
            _ => Err(format!("a value of {} in {} lanes", ty.dtype, ty.lanes)),
        }
    }

    fn operation(&mut self, val: Val, op: &Op) -> Result<VReg, Declined> {
        let ty = self.kernel.values[val];
        if let Op::Index(e) = op {
            self.ranges[val] = Some(self.indices.range(e));
            return self.indices.int(e);
        }
        let width = self.width(ty)?;
        let to = self.indices.code.vector();
        let inst = match op {
            Op::Const(bits) => {
                let bits = if ty.dtype == DType::Bool && *bits != 0 { u32::MAX } else { *bits as u32 };
                self.constants[val] = Some(bits);
                Inst::Constant { to, width, bits }
            }
            Op::Splat(v) => {
                self.constants[val] = self.constants[*v];
                self.width(self.kernel.values[*v])?;
                match (self.constants[*v], self.load_of(*v)) {
                    (Some(bits), _) => Inst::Constant { to, width, bits },
                    (None, Some(at)) => Inst::Broadcast { to, width, at },
                    (None, None) => Inst::Splat { to, width, v: self.value(*v)? },
                }
            }
            Op::Load { buffer, index, stride } => {
                let at = self.indices.address(*buffer, index, 4)?;
                match stride.as_const() {
                    _ if width == Width::Scalar => Inst::Load { to, width, at },
                    Some(1) => Inst::Load { to, width, at },
                    Some(0) => Inst::Broadcast { to, width, at },
                    Some(2) if width != Width::Zmm => Inst::LoadPairs { to, width, at },
                    Some(step) => return self.gather(to, width, at, step),
                    None => return Err("a load with a stride that varies".to_owned()),
                }
            }
            Op::Scalar(op, args) => return self.scalar(*op, args, width),
            Op::Fold(op, v) => return self.fold(op.combine(), *v),
            _ => return Err("an operation across lanes".to_owned()),
        };
        self.push(inst);
        Ok(to)
    }

    /// Elements that lie `step` apart.
    fn gather(&mut self, to: VReg, width: Width, at: Address, step: i64) -> Result<VReg, Declined> {
        // Places count bytes in 32 bits.
        let step = i32::try_from(step).ok().filter(|s| s.checked_mul(64).is_some());
        let step = step.ok_or("a load with a stride of 2^25 or more")?;
        let code = &mut self.indices.code;
        let (base, places, mask) = (code.int(), code.vector(), code.vector());
        self.push(Inst::Place { to: base, at });
        self.push(Inst::Ramp { to: places, width, step });
        self.push(Inst::Gather { to, mask, width, base, places });
        Ok(to)
    }

    /// Where a value has just been loaded from, in the block that is being written.
    fn load_of(&mut self, v: Val) -> Option<Address> {
        let found = self.value(v).ok()?;
        let written = &self.indices.code.blocks[self.indices.here].insts;
        let loads = written.iter().rev().take_while(|i| !matches!(i, Inst::Store { .. }));
        loads.into_iter().find_map(|i| match i {
            Inst::Load { to, at, .. } if *to == found => Some(*at),
            _ => None,
        })
    }

    fn scalar(&mut self, op: ScalarOp, args: &[Val], width: Width) -> Result<VReg, Declined> {
        let v = args.iter().map(|a| self.value(*a)).collect::<Result<Vec<_>, _>>()?;
        match self.kernel.values[args[0]].dtype {
            DType::F32 => self.float(op, args, &v, width),
            DType::I32 => self.integer(op, args, &v, width),
            DType::Bool => self.mask(op, args, &v, width),
            DType::I64 if op == ScalarOp::Cast(DType::F32) => {
                let to = self.indices.code.vector();
                self.push(Inst::FromInt { to, v: v[0] });
                Ok(to)
            }
            other => Err(format!("{op} of {other}")),
        }
    }

    fn float(&mut self, op: ScalarOp, args: &[Val], v: &[VReg], width: Width) -> Result<VReg, Declined> {
        // Predicates of comparisons that signal nothing and hold for no NaN, but for "not equal".
        let two = match op {
            ScalarOp::Add => VecOp::Add,
            ScalarOp::Sub => VecOp::Sub,
            ScalarOp::Mul => VecOp::Mul,
            ScalarOp::Div => VecOp::Div,
            ScalarOp::Eq => VecOp::Compare(0x00),
            ScalarOp::Ne => VecOp::Compare(0x04),
            ScalarOp::Lt => VecOp::Compare(0x11),
            ScalarOp::Le => VecOp::Compare(0x12),
            ScalarOp::Ge => VecOp::Compare(0x1d),
            ScalarOp::Gt => VecOp::Compare(0x1e),
            ScalarOp::Max | ScalarOp::Min => {
                let constant = |i: usize| self.constants[args[i]].map(f32::from_bits);
                return Ok(self.extreme(op, v, [constant(0), constant(1)], width));
            }
            ScalarOp::MulAdd | ScalarOp::Fma => {
                let to = self.indices.code.vector();
                self.push(Inst::MulAdd { to, width, a: v[0], b: v[1], sum: v[2] });
                return Ok(to);
            }
            ScalarOp::Neg => return Ok(self.with_constant(VecOp::Xor, width, v[0], 1 << 31)),
            ScalarOp::Abs => return Ok(self.with_constant(VecOp::And, width, v[0], !(1 << 31))),
            ScalarOp::Sqrt => return Ok(self.unary(UnaryOp::Sqrt, width, v[0])),
            // Modes that raise no "inexact".
            ScalarOp::Round => return Ok(self.unary(UnaryOp::Round(8), width, v[0])),
            ScalarOp::Floor => return Ok(self.unary(UnaryOp::Round(9), width, v[0])),
            ScalarOp::Ceil => return Ok(self.unary(UnaryOp::Round(10), width, v[0])),
            ScalarOp::Trunc => return Ok(self.unary(UnaryOp::Round(11), width, v[0])),
            ScalarOp::Bitcast(DType::I32) => return Ok(v[0]),
            other => return Err(format!("{other} of f32")),
        };
        Ok(self.vec(two, width, v[0], v[1]))
    }

    fn integer(&mut self, op: ScalarOp, args: &[Val], v: &[VReg], width: Width) -> Result<VReg, Declined> {
        let two = match op {
            ScalarOp::Add => VecOp::AddInt,
            ScalarOp::Sub => VecOp::SubInt,
            ScalarOp::And => VecOp::And,
            ScalarOp::Or => VecOp::Or,
            ScalarOp::Xor => VecOp::Xor,
            ScalarOp::Bitcast(DType::F32) => return Ok(v[0]),
            ScalarOp::Shl | ScalarOp::Shr => {
                let by = self.constants[args[1]].filter(|by| *by < 32).ok_or("a shift by what varies")? as u8;
                let left = op == ScalarOp::Shl;
                let op = if left { UnaryOp::ShiftLeft(by) } else { UnaryOp::ShiftRight(by) };
                return Ok(self.unary(op, width, v[0]));
            }
            other => return Err(format!("{other} of i32")),
        };
        Ok(self.vec(two, width, v[0], v[1]))
    }

    fn mask(&mut self, op: ScalarOp, args: &[Val], v: &[VReg], width: Width) -> Result<VReg, Declined> {
        let two = match op {
            ScalarOp::And => VecOp::And,
            ScalarOp::Or => VecOp::Or,
            ScalarOp::Xor => VecOp::Xor,
            ScalarOp::Not => return Ok(self.with_constant(VecOp::Xor, width, v[0], u32::MAX)),
            ScalarOp::Select => {
                // As the instructions have it: the second one unless the comparison holds.
                let extreme = match self.compares[args[0]] {
                    Some((ScalarOp::Lt, of)) if of == args[1..] => Some(VecOp::Min),
                    Some((ScalarOp::Gt, of)) if of == args[1..] => Some(VecOp::Max),
                    _ => None,
                };
                if let Some(op) = extreme {
                    return Ok(self.vec(op, width, v[1], v[2]));
                }
                let to = self.indices.code.vector();
                self.push(Inst::Select { to, width, mask: v[0], yes: v[1], no: v[2] });
                return Ok(to);
            }
            other => return Err(format!("{other} of bool")),
        };
        Ok(self.vec(two, width, v[0], v[1]))
    }

    /// All lanes combined: halves with each other, until one is left.
    fn fold(&mut self, op: ScalarOp, v: Val) -> Result<VReg, Declined> {
        let ty = self.kernel.values[v];
        if ty.dtype != DType::F32 {
            return Err(format!("{op} across lanes of {}", ty.dtype));
        }
        const HALVES: u8 = 0b01_00_11_10;
        const NEIGHBOURS: u8 = 0b10_11_00_01;
        let mut all = self.value(v)?;
        let width = self.width(ty)?;
        for (whole, half) in [(Width::Zmm, Width::Ymm), (Width::Ymm, Width::Xmm)] {
            if width == whole || width == Width::Zmm {
                let high = self.unary(UnaryOp::High, whole, all);
                all = self.combine(op, half, all, high)?;
            }
        }
        for order in [HALVES, NEIGHBOURS] {
            let other = self.unary(UnaryOp::Permute(order), Width::Xmm, all);
            all = self.combine(op, Width::Xmm, all, other)?;
        }
        Ok(all)
    }

    fn combine(&mut self, op: ScalarOp, width: Width, a: VReg, b: VReg) -> Result<VReg, Declined> {
        match op {
            ScalarOp::Add => Ok(self.vec(VecOp::Add, width, a, b)),
            ScalarOp::Mul => Ok(self.vec(VecOp::Mul, width, a, b)),
            ScalarOp::Max | ScalarOp::Min => Ok(self.extreme(op, &[a, b], [None; 2], width)),
            other => Err(format!("{other} across lanes")),
        }
    }

    fn unary(&mut self, op: UnaryOp, width: Width, v: VReg) -> VReg {
        let to = self.indices.code.vector();
        self.push(Inst::Unary { to, op, width, v });
        to
    }

    fn with_constant(&mut self, op: VecOp, width: Width, v: VReg, bits: u32) -> VReg {
        let b = self.indices.code.vector();
        self.push(Inst::Constant { to: b, width, bits });
        self.vec(op, width, v, b)
    }

    /// The greater or lesser of two: NaN if one is, and -0 is less than 0. The instruction answers
    /// its second operand where it cannot tell.
    fn extreme(&mut self, op: ScalarOp, v: &[VReg], constants: [Option<f32>; 2], width: Width) -> VReg {
        let greatest = op == ScalarOp::Max;
        let (raw, merge) = if greatest { (VecOp::Max, VecOp::And) } else { (VecOp::Min, VecOp::Or) };
        let constant = |i: usize| constants[i].filter(|c| !c.is_nan());
        let fixed = (0..2).find_map(|i| constant(i).map(|c| (c, v[i], v[1 - i])));
        match fixed {
            // Only two zeros are equal and differ.
            Some((c, number, other)) if c != 0.0 => self.vec(raw, width, number, other),
            Some((c, zero, other)) if greatest && c.is_sign_positive() => {
                let v = self.vec(raw, width, zero, other);
                self.vec(VecOp::Add, width, v, zero)
            }
            _ => {
                let one = self.vec(raw, width, v[0], v[1]);
                let two = self.vec(raw, width, v[1], v[0]);
                let merged = self.vec(merge, width, one, two);
                let nan = self.vec(VecOp::Compare(UNORDERED), width, v[0], v[1]);
                self.vec(VecOp::Or, width, merged, nan)
            }
        }
    }

    fn vec(&mut self, op: VecOp, width: Width, a: VReg, b: VReg) -> VReg {
        let to = self.indices.code.vector();
        self.push(Inst::Vec { to, op, width, a, b });
        to
    }

    fn repeat(&mut self, l: &Loop) -> Result<(), Declined> {
        if l.extent.as_const().is_some_and(|n| n <= 0) {
            for c in &l.carries {
                self.values[c.result] = Some(self.value(c.init)?);
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
        let inits = l.carries.iter().map(|c| self.value(c.init)).collect::<Result<Vec<_>, _>>()?;
        let before = self.indices.open_loop();
        let entry = self.indices.code.block();
        let body = if sure { entry } else { self.indices.code.block() };
        let var = self.indices.code.int();
        let mut params = vec![var];
        for c in &l.carries {
            self.width(self.kernel.values[c.param])?;
            let v = self.indices.code.vector();
            params.push(v);
            self.values[c.param] = Some(v);
        }
        self.indices.code.blocks[entry].params = params.clone();
        self.indices.here = body;
        self.indices.bind(l.var, var, range);
        self.block(&l.body)?;
        let next = self.indices.code.int();
        self.push(Inst::AddImm { to: next, a: var, by: 1 });
        let nexts = l.carries.iter().map(|c| self.value(c.next));
        let nexts = std::iter::once(Ok(next)).chain(nexts).collect::<Result<Vec<_>, _>>()?;
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
        for (c, v) in l.carries.iter().zip(&results[1..]) {
            let width = self.width(self.kernel.values[c.param])?;
            let to = self.indices.code.vector();
            self.push(Inst::Copy { to, width, v: *v });
            self.values[c.result] = Some(to);
        }
        Ok(())
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
                self.values[y.result] = Some(self.value(if holds { y.then } else { y.otherwise })?);
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
            self.width(self.kernel.values[y.result])?;
            let v = self.indices.code.vector();
            self.indices.code.blocks[exit].params.push(v);
            self.values[y.result] = Some(v);
        }
        self.indices.here = exit;
        Ok(())
    }

    /// One side of a conditional: its last block, and what it yields.
    fn side(&mut self, block: &Block, yields: &[Yield], then: bool) -> Result<(Label, Vec<VReg>), Declined> {
        let mark = self.indices.enter();
        self.block(block)?;
        self.indices.leave(mark);
        let args = yields.iter().map(|y| self.value(if then { y.then } else { y.otherwise }));
        Ok((self.indices.here, args.collect::<Result<Vec<_>, _>>()?))
    }
}
