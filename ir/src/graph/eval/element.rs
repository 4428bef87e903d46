//! Evaluation of element definitions: a [`Term`] compiled to a list of steps, and run for a column
//! of output positions at a time.
//!
//! Floats are carried in `f64` and rounded once, when the result is stored; conversions inside the
//! term round where they stand. A load is checked against every dimension of its operand.

use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, TermKind};
use crate::expr::Expr;
use crate::index::{IndexExpr, Ints};
use crate::scalar::{Scalar, ScalarOp, apply_wide, to_bits};
use crate::symbol::Symbol;
use crate::tensor::{self, Tensor};
use half::{bf16, f16};
use std::collections::HashMap;
use std::rc::Rc;

/// How many positions are evaluated at a time.
const COLUMN: usize = 1024;

/// A term as steps; each defines the column of its number, and the last one's is the result.
struct Block {
    steps: Vec<Step>,
    result: usize,
}

enum Step {
    Load {
        input: usize,
        index: Vec<IndexExpr>,
    },
    Const(Scalar),
    Index(IndexExpr),
    /// With the type of the operands as [`apply_wide`] wants it.
    Op(ScalarOp, DType, Vec<usize>),
    If {
        cond: Vec<IndexExpr>,
        then: Block,
        otherwise: Block,
    },
    Reduce {
        op: ReduceOp,
        dtype: DType,
        vars: Vec<(usize, IndexExpr)>,
        body: Block,
    },
    /// Sets a slot to a column; its own column is empty.
    Bind(usize, usize),
}

/// Compiles terms, giving a slot to each symbol in scope.
struct Compiler {
    scope: Vec<(Symbol, usize)>,
    slots: usize,
}

impl Compiler {
    fn slot(&mut self, s: Symbol) -> usize {
        self.scope.push((s, self.slots));
        self.slots += 1;
        self.slots - 1
    }

    fn expr(&self, e: &Expr) -> Result<IndexExpr, String> {
        let find = |s: Symbol| self.scope.iter().rev().find(|(n, _)| *n == s).map(|(_, i)| *i);
        IndexExpr::new(e, &find)
    }

    fn exprs(&self, es: &[Expr]) -> Result<Vec<IndexExpr>, String> {
        es.iter().map(|e| self.expr(e)).collect()
    }

    fn block(&mut self, t: &Term) -> Result<Block, String> {
        let mut steps = Vec::new();
        let result = self.term(t, &mut steps, &mut HashMap::new())?;
        Ok(Block { steps, result })
    }

    fn term(
        &mut self,
        t: &Term,
        steps: &mut Vec<Step>,
        seen: &mut HashMap<usize, usize>,
    ) -> Result<usize, String> {
        if let Some(i) = seen.get(&t.key()) {
            return Ok(*i);
        }
        let step = match t.kind() {
            TermKind::Load { input, index } => Step::Load { input: *input, index: self.exprs(index)? },
            TermKind::Const(v) => Step::Const(*v),
            TermKind::Index(e) => Step::Index(self.expr(e)?),
            TermKind::Op(op, args) => {
                let ty = args[if *op == ScalarOp::Select { 1 } else { 0 }].dtype();
                let args = args.iter().map(|a| self.term(a, steps, seen)).collect::<Result<_, _>>()?;
                Step::Op(*op, ty, args)
            }
            TermKind::If { cond, then, otherwise } => Step::If {
                cond: self.exprs(cond)?,
                then: self.block(then)?,
                otherwise: self.block(otherwise)?,
            },
            TermKind::Reduce { op, vars, body } => {
                let depth = self.scope.len();
                let mut slots = Vec::new();
                for (v, extent) in vars {
                    let extent = self.expr(extent)?;
                    slots.push((self.slot(*v), extent));
                }
                let body = self.block(body)?;
                self.scope.truncate(depth);
                Step::Reduce { op: *op, dtype: t.dtype(), vars: slots, body }
            }
            TermKind::Bind { symbol, value, body } => {
                let value = self.term(value, steps, seen)?;
                let depth = self.scope.len();
                let slot = self.slot(*symbol);
                steps.push(Step::Bind(slot, value));
                // Terms that stand outside may mean another symbol of the same name.
                let result = self.term(body, steps, &mut HashMap::new())?;
                self.scope.truncate(depth);
                seen.insert(t.key(), result);
                return Ok(result);
            }
        };
        steps.push(step);
        seen.insert(t.key(), steps.len() - 1);
        Ok(steps.len() - 1)
    }
}

/// The points of a column: the slots' values at each.
#[derive(Clone)]
struct Points {
    count: usize,
    slots: Vec<Ints>,
}

impl Points {
    fn pick(&self, points: &[usize]) -> Points {
        Points { count: points.len(), slots: self.slots.iter().map(|s| s.pick(points)).collect() }
    }
}

type Column = Rc<Vec<Scalar>>;

struct Machine<'a> {
    inputs: &'a [Option<Tensor>],
}

impl Machine<'_> {
    fn block(&self, block: &Block, points: &mut Points) -> Result<Column, String> {
        let mut columns: Vec<Column> = Vec::with_capacity(block.steps.len());
        for step in &block.steps {
            let column = match step {
                Step::Load { input, index } => self.load(*input, index, points)?,
                Step::Const(v) => vec![*v; points.count],
                Step::Index(e) => {
                    let e = e.eval_column(&points.slots);
                    (0..points.count).map(|p| Scalar::I(e.get(p))).collect()
                }
                Step::Op(op, ty, args) => {
                    let args: Vec<&[Scalar]> = args.iter().map(|a| &columns[*a][..]).collect();
                    operate(*op, *ty, &args, points.count)
                }
                Step::If { cond, then, otherwise } => self.conditional(cond, then, otherwise, points)?,
                Step::Reduce { op, dtype, vars, body } => self.reduce(*op, *dtype, vars, body, points)?,
                Step::Bind(slot, value) => {
                    points.slots[*slot] = Ints::Each(columns[*value].iter().map(|v| v.as_i64()).collect());
                    Vec::new()
                }
            };
            columns.push(Rc::new(column));
        }
        Ok(columns.swap_remove(block.result))
    }

    fn load(&self, input: usize, index: &[IndexExpr], points: &Points) -> Result<Vec<Scalar>, String> {
        let t = self.inputs.get(input).and_then(Option::as_ref);
        let t = t.ok_or_else(|| format!("an element of the absent input {input} is read"))?;
        if t.rank() != index.len() {
            return Err(format!("input {input} of rank {} is read with {} indices", t.rank(), index.len()));
        }
        let mut place = Ints::Same(0);
        for ((axis, stride), e) in tensor::strides(t.shape()).into_iter().enumerate().zip(index) {
            let i = e.eval_column(&points.slots);
            let extent = t.shape()[axis] as i64;
            if points.count > 0 && !i.all(|i| (0..extent).contains(&i)) {
                let bad = (0..points.count).map(|p| i.get(p)).find(|i| !(0..extent).contains(i));
                let bad = bad.unwrap_or_default();
                return Err(format!(
                    "input {input} is read at index {bad} of axis {axis}, which has {extent}"
                ));
            }
            place = place.add_scaled(&i, stride as i64);
        }
        Ok(gather(t, &place, points.count))
    }

    fn conditional(
        &self,
        cond: &[IndexExpr],
        then: &Block,
        otherwise: &Block,
        points: &mut Points,
    ) -> Result<Vec<Scalar>, String> {
        let conds: Vec<Ints> = cond.iter().map(|c| c.eval_column(&points.slots)).collect();
        let (yes, no): (Vec<usize>, Vec<usize>) =
            (0..points.count).partition(|p| conds.iter().all(|c| c.get(*p) >= 0));
        if no.is_empty() {
            return Ok(self.block(then, points)?.to_vec());
        }
        if yes.is_empty() {
            return Ok(self.block(otherwise, points)?.to_vec());
        }
        let mut out = vec![Scalar::I(0); points.count];
        for (block, some) in [(then, yes), (otherwise, no)] {
            let column = self.block(block, &mut points.pick(&some))?;
            some.iter().zip(column.iter()).for_each(|(p, v)| out[*p] = *v);
        }
        Ok(out)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        dtype: DType,
        vars: &[(usize, IndexExpr)],
        body: &Block,
        points: &mut Points,
    ) -> Result<Vec<Scalar>, String> {
        let mut acc = vec![op.identity(dtype); points.count];
        self.reduce_axis(op, dtype, vars, body, points, &mut acc)?;
        Ok(acc)
    }

    fn reduce_axis(
        &self,
        op: ReduceOp,
        dtype: DType,
        vars: &[(usize, IndexExpr)],
        body: &Block,
        points: &mut Points,
        acc: &mut [Scalar],
    ) -> Result<(), String> {
        let Some(((slot, extent), inner)) = vars.split_first() else {
            let column = self.block(body, points)?;
            for (a, v) in acc.iter_mut().zip(column.iter()) {
                *a = apply_wide(op.combine(), dtype, &[*a, *v]);
            }
            return Ok(());
        };
        let extents = extent.eval_column(&points.slots);
        if points.count == 0 {
            return Ok(());
        }
        let first = extents.get(0);
        if extents.all(|e| e == first) {
            for i in 0..first {
                points.slots[*slot] = Ints::Same(i);
                self.reduce_axis(op, dtype, inner, body, points, acc)?;
            }
            return Ok(());
        }
        for p in 0..points.count {
            let mut one = points.pick(&[p]);
            self.reduce_axis(op, dtype, vars, body, &mut one, &mut acc[p..=p])?;
        }
        Ok(())
    }
}

fn operate(op: ScalarOp, ty: DType, args: &[&[Scalar]], count: usize) -> Vec<Scalar> {
    match *args {
        [a] => a.iter().map(|a| apply_wide(op, ty, &[*a])).collect(),
        [a, b] => a.iter().zip(b).map(|(a, b)| apply_wide(op, ty, &[*a, *b])).collect(),
        _ => (0..count)
            .map(|p| {
                let args: Vec<Scalar> = args.iter().map(|a| a[p]).collect();
                apply_wide(op, ty, &args)
            })
            .collect(),
    }
}

/// The elements of a tensor at the given row-major positions.
fn gather(t: &Tensor, place: &Ints, count: usize) -> Vec<Scalar> {
    let place = match place {
        Ints::Same(i) => return vec![t.get(*i as usize); count],
        Ints::Each(places) => places.iter().map(|i| *i as usize),
    };
    let bytes = &t.bytes()[..];
    match t.dtype() {
        DType::F32 => place.map(|i| Scalar::F(f32::from_le_bytes(word(bytes, i)) as f64)).collect(),
        DType::F64 => place.map(|i| Scalar::F(f64::from_le_bytes(word(bytes, i)))).collect(),
        DType::I64 => place.map(|i| Scalar::I(i64::from_le_bytes(word(bytes, i)))).collect(),
        _ => place.map(|i| t.get(i)).collect(),
    }
}

/// The bytes of element `i`, which may be unaligned.
fn word<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[i * N..(i + 1) * N]);
    out
}

/// Appends scalars to a tensor's bytes, rounded to the type.
fn store(out: &mut Vec<u8>, dtype: DType, values: &[Scalar]) {
    macro_rules! each {
        ($f:expr) => {
            values.iter().for_each(|v| out.extend_from_slice(&$f(v).to_le_bytes()))
        };
    }
    match dtype {
        DType::F64 => each!(|v: &Scalar| v.as_f64()),
        DType::F32 => each!(|v: &Scalar| v.as_f64() as f32),
        DType::F16 => each!(|v: &Scalar| f16::from_f64(v.as_f64())),
        DType::BF16 => each!(|v: &Scalar| bf16::from_f64(v.as_f64())),
        DType::I64 | DType::U64 => each!(|v: &Scalar| v.as_i64()),
        _ => {
            let n = dtype.bytes();
            values.iter().for_each(|v| out.extend_from_slice(&to_bits(*v, dtype).to_le_bytes()[..n]));
        }
    }
}

/// The tensor whose every element the definition gives. `shape` is the result's, and symbols other
/// than the axes must not occur free. An error says which read was out of bounds.
pub fn eval_element(element: &Element, shape: &[usize], inputs: &[Option<Tensor>]) -> Result<Tensor, String> {
    if element.axes.len() != shape.len() {
        return Err(format!("a definition over {} axes for a result of {shape:?}", element.axes.len()));
    }
    let mut compiler = Compiler { scope: Vec::new(), slots: 0 };
    element.axes.iter().for_each(|a| {
        compiler.slot(*a);
    });
    let block = compiler.block(&element.body)?;
    let dtype = element.body.dtype();
    let total = tensor::element_count(dtype, shape)
        .ok_or_else(|| format!("a result {dtype}{shape:?} is larger than the address space"))?;
    let machine = Machine { inputs };
    let mut bytes = Vec::with_capacity(total * dtype.bytes());
    for start in (0..total).step_by(COLUMN) {
        let count = COLUMN.min(total - start);
        let mut slots = positions(shape, start, count);
        slots.resize(compiler.slots, Ints::Same(0));
        let column = machine.block(&block, &mut Points { count, slots })?;
        store(&mut bytes, dtype, &column);
    }
    Tensor::from_bytes(dtype, shape.to_vec(), bytes.into())
}

/// The index along each axis of `count` row-major positions from `start`.
fn positions(shape: &[usize], start: usize, count: usize) -> Vec<Ints> {
    let strides = tensor::strides(shape);
    let last = start + count - 1;
    let axis = |(extent, stride): (&usize, &usize)| {
        let at = |p: usize| ((p / stride) % extent) as i64;
        if start / stride == last / stride {
            return Ints::Same(at(start));
        }
        let mut out = Vec::with_capacity(count);
        let (mut value, mut left) = (at(start) as usize, stride - start % stride);
        while out.len() < count {
            let run = left.min(count - out.len());
            out.resize(out.len() + run, value as i64);
            value = (value + 1) % extent;
            left = *stride;
        }
        Ints::Each(out)
    };
    shape.iter().zip(&strides).map(axis).collect()
}
