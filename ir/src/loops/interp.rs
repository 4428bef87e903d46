//! The interpreter of kernels: the oracle for every backend.
//!
//! Scalar operations are [`scalar::apply`], lane by lane. Every access is checked against the
//! declared length of its buffer. Iterations of a parallel loop run one after the other, forwards
//! or backwards: a kernel whose results differ between the two has dependent iterations. Scratch is
//! filled with a pattern before each of them, so that nothing of the one before can be used.

use super::{Access, Block, Buf, Kernel, Loop, LoopKind, Op, Stmt, Val};
use crate::dtype::DType;
use crate::element::ReduceOp;
use crate::expr::Expr;
use crate::index::IndexExpr;
use crate::scalar::{self, Scalar, ScalarOp, from_bits, to_bits};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use cranelift_entity::SecondaryMap;

/// A buffer's contents.
#[derive(Clone, PartialEq, Debug)]
pub struct Storage {
    dtype: DType,
    bytes: Vec<u8>,
}

impl Storage {
    /// So many elements, all zero.
    pub fn zeros(dtype: DType, len: usize) -> Storage {
        Storage { dtype, bytes: vec![0; len * dtype.bytes()] }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The contents as a tensor; an error where their number does not fit the shape.
    pub fn to_tensor(&self, shape: &[usize]) -> Result<Tensor, String> {
        Tensor::from_bytes(self.dtype, shape.to_vec(), self.bytes.clone().into())
    }

    fn get(&self, i: usize) -> Scalar {
        let n = self.dtype.bytes();
        let mut bits = [0; 8];
        bits[..n].copy_from_slice(&self.bytes[i * n..(i + 1) * n]);
        from_bits(u64::from_le_bytes(bits), self.dtype)
    }

    fn set(&mut self, i: usize, v: Scalar) {
        let n = self.dtype.bytes();
        self.bytes[i * n..(i + 1) * n].copy_from_slice(&to_bits(v, self.dtype).to_le_bytes()[..n]);
    }
}

impl From<&Tensor> for Storage {
    fn from(t: &Tensor) -> Storage {
        Storage { dtype: t.dtype(), bytes: t.bytes().to_vec() }
    }
}

/// The order in which the iterations of a parallel loop run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// From the first to the last.
    #[default]
    Forward,
    /// From the last to the first.
    Backward,
}

/// Runs a kernel. `dims` are its dimensions in order; `buffers` has one storage for each of its
/// buffers, scratch included, of at least the declared length. `range` selects iterations of the
/// parallel loop (all of them, where absent). Errors name the kernel.
pub fn run(
    kernel: &Kernel,
    dims: &[i64],
    buffers: &mut [Storage],
    range: Option<(i64, i64)>,
) -> Result<(), String> {
    run_in_order(kernel, dims, buffers, range, Order::Forward)
}

/// [`run`] with the iterations of the parallel loop in the given order.
pub fn run_in_order(
    kernel: &Kernel,
    dims: &[i64],
    buffers: &mut [Storage],
    range: Option<(i64, i64)>,
    order: Order,
) -> Result<(), String> {
    let mut result = || {
        check_dims(kernel, dims)?;
        let mut compiler = Compiler::new(kernel);
        let body = compiler.block(&kernel.body)?;
        let lens = check_buffers(kernel, dims, buffers, &compiler)?;
        let mut slots = dims.to_vec();
        slots.resize(compiler.slots, 0);
        let values = vec![Scalar::I(0); compiler.lanes];
        let mut machine = Machine { kernel, slots, values, buffers, lens };
        machine.tasks(&body, range, order)
    };
    result().map_err(|e| format!("kernel @{}: {e}", kernel.name))
}

fn check_dims(kernel: &Kernel, dims: &[i64]) -> Result<(), String> {
    if dims.len() != kernel.dims.len() {
        return Err(format!("expected {} dimensions, found {}", kernel.dims.len(), dims.len()));
    }
    // What is read from data may be any integer.
    let below = |s: &Symbol, v: i64| s.range().lo.is_some_and(|lo| v < lo);
    match kernel.dims.iter().zip(dims).find(|(s, v)| below(s, **v)) {
        Some((s, v)) => Err(format!("the dimension {s} is {v}, which is negative")),
        None => Ok(()),
    }
}

/// The declared length of each buffer.
fn check_buffers(
    kernel: &Kernel,
    dims: &[i64],
    buffers: &[Storage],
    compiler: &Compiler<'_>,
) -> Result<Vec<usize>, String> {
    if buffers.len() != kernel.buffers.len() {
        return Err(format!("expected {} buffers, found {}", kernel.buffers.len(), buffers.len()));
    }
    let mut lens = Vec::new();
    for (decl, found) in kernel.buffers.values().zip(buffers) {
        let len = compiler.expr(&decl.len)?.eval(dims).and_then(|n| usize::try_from(n).ok());
        let len =
            len.ok_or_else(|| format!("the length {} of buffer %{} is out of range", decl.len, decl.name))?;
        if found.dtype != decl.dtype || found.len() < len {
            let (name, dtype) = (&decl.name, decl.dtype);
            let found = format!("{} elements of {}", found.len(), found.dtype);
            return Err(format!("buffer %{name} has {found}, expected {len} of {dtype}"));
        }
        lens.push(len);
    }
    Ok(lens)
}

/// The lanes of a value among all values' lanes.
#[derive(Clone, Copy, Default)]
struct Lanes {
    start: usize,
    count: usize,
}

impl Lanes {
    fn range(self) -> std::ops::Range<usize> {
        self.start..self.start + self.count
    }
}

enum Step {
    Let(Lanes, Compute),
    Bind(usize, Lanes),
    For(For),
    If { cond: Vec<IndexExpr>, then: Vec<Step>, otherwise: Vec<Step>, yields: Vec<[Lanes; 3]> },
    Store { buffer: Buf, index: IndexExpr, stride: IndexExpr, value: Lanes },
}

struct For {
    slot: usize,
    extent: IndexExpr,
    parallel: bool,
    /// Initial value, parameter, next value, result.
    carries: Vec<[Lanes; 4]>,
    body: Vec<Step>,
}

enum Compute {
    Const(Scalar),
    Index(IndexExpr),
    Ramp(IndexExpr, IndexExpr),
    /// With the type of the operands as [`scalar::apply`] wants it.
    Scalar(ScalarOp, DType, Vec<Lanes>),
    Splat(Lanes),
    Load {
        buffer: Buf,
        index: IndexExpr,
        stride: IndexExpr,
    },
    Gather(Buf, Lanes),
    Fold(ReduceOp, DType, Lanes),
    Lane(Lanes, u16),
}

/// Gives a slot to each symbol and a place to each value.
struct Compiler<'k> {
    kernel: &'k Kernel,
    scope: Vec<(Symbol, usize)>,
    slots: usize,
    places: SecondaryMap<Val, Lanes>,
    lanes: usize,
}

impl<'k> Compiler<'k> {
    fn new(kernel: &'k Kernel) -> Compiler<'k> {
        let (mut places, mut lanes) = (SecondaryMap::new(), 0);
        for (v, ty) in kernel.values.iter() {
            places[v] = Lanes { start: lanes, count: ty.lanes as usize };
            lanes += ty.lanes as usize;
        }
        let scope = kernel.dims.iter().copied().zip(0..).collect();
        Compiler { kernel, scope, slots: kernel.dims.len(), places, lanes }
    }

    fn slot(&mut self, s: Symbol) -> usize {
        self.scope.push((s, self.slots));
        self.slots += 1;
        self.slots - 1
    }

    fn expr(&self, e: &Expr) -> Result<IndexExpr, String> {
        IndexExpr::new(e, &|s| self.scope.iter().rev().find(|(n, _)| *n == s).map(|(_, i)| *i))
    }

    /// A block; what it binds goes out of scope at its end.
    fn block(&mut self, block: &Block) -> Result<Vec<Step>, String> {
        let depth = self.scope.len();
        let runs = block.iter().filter(|s| !matches!(s, Stmt::Prefetch { .. }));
        let steps = runs.map(|s| self.stmt(s)).collect();
        self.scope.truncate(depth);
        steps
    }

    fn stmt(&mut self, s: &Stmt) -> Result<Step, String> {
        Ok(match s {
            Stmt::Let(v, op) => Step::Let(self.places[*v], self.compute(*v, op)?),
            Stmt::Bind(s, v) => Step::Bind(self.slot(*s), self.places[*v]),
            Stmt::For(l) => Step::For(self.for_(l)?),
            Stmt::If { cond, then, otherwise, yields } => Step::If {
                cond: cond.iter().map(|c| self.expr(c)).collect::<Result<_, _>>()?,
                then: self.block(then)?,
                otherwise: self.block(otherwise)?,
                yields: yields
                    .iter()
                    .map(|y| [y.result, y.then, y.otherwise].map(|v| self.places[v]))
                    .collect(),
            },
            Stmt::Store { buffer, index, stride, value } => Step::Store {
                buffer: *buffer,
                index: self.expr(index)?,
                stride: self.expr(stride)?,
                value: self.places[*value],
            },
            Stmt::Prefetch { .. } => return Err("a hint is nothing to run".to_owned()),
        })
    }

    fn for_(&mut self, l: &Loop) -> Result<For, String> {
        let extent = self.expr(&l.extent)?;
        let depth = self.scope.len();
        let slot = self.slot(l.var);
        let body = self.block(&l.body)?;
        self.scope.truncate(depth);
        let carry = |c: &super::Carry| [c.init, c.param, c.next, c.result].map(|v| self.places[v]);
        let carries = l.carries.iter().map(carry).collect();
        Ok(For { slot, extent, parallel: l.kind == LoopKind::Parallel, carries, body })
    }

    fn compute(&self, v: Val, op: &Op) -> Result<Compute, String> {
        let ty = self.kernel.values[v];
        Ok(match op {
            Op::Const(bits) => Compute::Const(from_bits(*bits, ty.dtype)),
            Op::Index(e) => Compute::Index(self.expr(e)?),
            Op::Ramp(base, step) => Compute::Ramp(self.expr(base)?, self.expr(step)?),
            Op::Scalar(op, args) => {
                let of = self.kernel.values[args[if *op == ScalarOp::Select { 1 } else { 0 }]].dtype;
                Compute::Scalar(*op, of, args.iter().map(|a| self.places[*a]).collect())
            }
            Op::Splat(a) => Compute::Splat(self.places[*a]),
            Op::Load { buffer, index, stride } => {
                Compute::Load { buffer: *buffer, index: self.expr(index)?, stride: self.expr(stride)? }
            }
            Op::Gather(buffer, at) => Compute::Gather(*buffer, self.places[*at]),
            Op::Fold(op, a) => Compute::Fold(*op, ty.dtype, self.places[*a]),
            Op::Lane(a, lane) => Compute::Lane(self.places[*a], *lane),
        })
    }
}

struct Machine<'a> {
    kernel: &'a Kernel,
    slots: Vec<i64>,
    values: Vec<Scalar>,
    buffers: &'a mut [Storage],
    /// The declared length of each buffer.
    lens: Vec<usize>,
}

impl Machine<'_> {
    fn tasks(&mut self, body: &[Step], range: Option<(i64, i64)>, order: Order) -> Result<(), String> {
        let [Step::For(l)] = body else { return self.whole(body, range) };
        if !l.parallel {
            return self.whole(body, range);
        }
        let extent = self.eval(&l.extent)?;
        let (begin, end) = range.unwrap_or((0, extent));
        if begin < 0 || end > extent.max(0) {
            return Err(format!("the iterations {begin}..{end} are not within 0..{extent}"));
        }
        for i in begin..end {
            self.slots[l.slot] = if order == Order::Forward { i } else { end - 1 - (i - begin) };
            self.spoil_scratch();
            self.block(&l.body)?;
        }
        Ok(())
    }

    /// A kernel without a parallel loop is one task.
    fn whole(&mut self, body: &[Step], range: Option<(i64, i64)>) -> Result<(), String> {
        match range {
            None | Some((0, 1)) => {
                self.spoil_scratch();
                self.block(body)
            }
            Some((begin, end)) => Err(format!("the iterations {begin}..{end} are not its one task 0..1")),
        }
    }

    fn spoil_scratch(&mut self) {
        for (decl, storage) in self.kernel.buffers.values().zip(self.buffers.iter_mut()) {
            if decl.access == Access::Scratch {
                storage.bytes.fill(0xA5);
            }
        }
    }

    fn eval(&self, e: &IndexExpr) -> Result<i64, String> {
        e.eval(&self.slots).ok_or_else(|| "an index expression overflows".to_owned())
    }

    fn block(&mut self, steps: &[Step]) -> Result<(), String> {
        steps.iter().try_for_each(|s| self.step(s))
    }

    fn step(&mut self, s: &Step) -> Result<(), String> {
        match s {
            Step::Let(to, compute) => self.compute(*to, compute)?,
            Step::Bind(slot, v) => self.slots[*slot] = self.values[v.start].as_i64(),
            Step::For(l) => self.for_(l)?,
            Step::If { cond, then, otherwise, yields } => {
                let mut holds = true;
                for c in cond {
                    holds &= self.eval(c)? >= 0;
                }
                self.block(if holds { then } else { otherwise })?;
                for [result, then, otherwise] in yields {
                    self.copy(if holds { *then } else { *otherwise }, *result);
                }
            }
            Step::Store { buffer, index, stride, value } => {
                let (index, stride) = (self.eval(index)?, self.eval(stride)?);
                for (l, v) in value.range().enumerate() {
                    let at = self.check(*buffer, index.saturating_add(stride.saturating_mul(l as i64)))?;
                    self.buffers[buffer.as_u32() as usize].set(at, self.values[v]);
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: Lanes, to: Lanes) {
        self.values.copy_within(from.range(), to.start);
    }

    fn for_(&mut self, l: &For) -> Result<(), String> {
        let extent = self.eval(&l.extent)?;
        for [init, param, _, _] in &l.carries {
            self.copy(*init, *param);
        }
        let mut next: Vec<Scalar> = Vec::new();
        for i in 0..extent {
            self.slots[l.slot] = i;
            self.block(&l.body)?;
            // All at once: a next value may be another carry's parameter.
            next.clear();
            l.carries.iter().for_each(|c| next.extend_from_slice(&self.values[c[2].range()]));
            let mut rest = &next[..];
            for [_, param, _, _] in &l.carries {
                let (mine, others) = rest.split_at(param.count);
                self.values[param.range()].copy_from_slice(mine);
                rest = others;
            }
        }
        for [_, param, _, result] in &l.carries {
            self.copy(*param, *result);
        }
        Ok(())
    }

    /// The index as a place in the buffer, if it is in bounds.
    fn check(&self, buffer: Buf, index: i64) -> Result<usize, String> {
        let len = self.lens[buffer.as_u32() as usize];
        match usize::try_from(index) {
            Ok(i) if i < len => Ok(i),
            _ => {
                let name = &self.kernel.buffers[buffer].name;
                Err(format!("index {index} is out of bounds of buffer %{name}, which has {len} elements"))
            }
        }
    }

    fn read(&self, buffer: Buf, index: i64) -> Result<Scalar, String> {
        Ok(self.buffers[buffer.as_u32() as usize].get(self.check(buffer, index)?))
    }

    fn compute(&mut self, to: Lanes, c: &Compute) -> Result<(), String> {
        match c {
            Compute::Const(v) => self.values[to.range()].fill(*v),
            Compute::Index(e) => self.values[to.start] = Scalar::I(self.eval(e)?),
            Compute::Ramp(base, step) => {
                let (base, step) = (self.eval(base)?, self.eval(step)?);
                for l in 0..to.count {
                    self.values[to.start + l] = Scalar::I(base.wrapping_add(step.wrapping_mul(l as i64)));
                }
            }
            Compute::Scalar(op, ty, args) => {
                let mut operands = [Scalar::I(0); ScalarOp::MOST_OPERANDS];
                for l in 0..to.count {
                    for (o, a) in operands.iter_mut().zip(args) {
                        *o = self.values[a.start + l];
                    }
                    self.values[to.start + l] = scalar::apply(*op, *ty, &operands[..args.len()]);
                }
            }
            Compute::Splat(a) => {
                let v = self.values[a.start];
                self.values[to.range()].fill(v);
            }
            Compute::Load { buffer, index, stride } => {
                let (index, stride) = (self.eval(index)?, self.eval(stride)?);
                for l in 0..to.count {
                    let at = index.saturating_add(stride.saturating_mul(l as i64));
                    self.values[to.start + l] = self.read(*buffer, at)?;
                }
            }
            Compute::Gather(buffer, at) => {
                for l in 0..to.count {
                    self.values[to.start + l] = self.read(*buffer, self.values[at.start + l].as_i64())?;
                }
            }
            Compute::Fold(op, ty, a) => {
                let lanes = self.values[a.range()].to_vec();
                self.values[to.start] = fold(*op, *ty, lanes);
            }
            Compute::Lane(a, lane) => self.values[to.start] = self.values[a.start + *lane as usize],
        }
        Ok(())
    }
}

/// All lanes combined as [`Op::Fold`] says. Of an odd number the last lane waits for the next round.
fn fold(op: ReduceOp, ty: DType, mut lanes: Vec<Scalar>) -> Scalar {
    while lanes.len() > 1 {
        let half = lanes.len() / 2;
        let odd = (lanes.len() % 2 == 1).then(|| lanes[2 * half]);
        let combine = |l: usize| scalar::apply(op.combine(), ty, &[lanes[l], lanes[l + half]]);
        lanes = (0..half).map(combine).chain(odd).collect();
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
