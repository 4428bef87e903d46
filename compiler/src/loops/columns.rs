//! A fast evaluator for tests of expansions: one scalar kernel over many inputs at once.
//!
//! A column holds one scalar value for each input; every operation is a loop over native numbers.
//! The kernel's loads from buffer `b` read column `b`, whatever the index; what it stores last is
//! the result. Both sides of a conditional are evaluated, since its condition may differ by input.
//! `MulAdd` is rounded once or twice, as asked.

use burin_ir::loops::{Block, Kernel, Op, Stmt, Val};
use burin_ir::{DType, Expr, Scalar, ScalarOp, Symbol, scalar};
use std::collections::HashMap;
use std::rc::Rc;

/// One value for each input.
#[derive(Clone, Debug)]
pub(super) enum Column {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    /// Any other type, as bits.
    Bits(DType, Vec<u64>),
}

impl Column {
    /// A column of values given by their bits.
    pub(super) fn from_bits(ty: DType, bits: impl Iterator<Item = u64>) -> Column {
        match ty {
            DType::F32 => Column::F32(bits.map(|b| f32::from_bits(b as u32)).collect()),
            DType::F64 => Column::F64(bits.map(f64::from_bits).collect()),
            DType::I32 => Column::I32(bits.map(|b| b as i32).collect()),
            DType::I64 => Column::I64(bits.map(|b| b as i64).collect()),
            DType::Bool => Column::Bool(bits.map(|b| b != 0).collect()),
            _ => Column::Bits(ty, bits.collect()),
        }
    }

    /// The bits of one value.
    pub(super) fn bits(&self, i: usize) -> u64 {
        match self {
            Column::F32(v) => v[i].to_bits() as u64,
            Column::F64(v) => v[i].to_bits(),
            Column::I32(v) => v[i] as u32 as u64,
            Column::I64(v) => v[i] as u64,
            Column::Bool(v) => v[i] as u64,
            Column::Bits(_, v) => v[i],
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Column::F32(_) => DType::F32,
            Column::F64(_) => DType::F64,
            Column::I32(_) => DType::I32,
            Column::I64(_) => DType::I64,
            Column::Bool(_) => DType::Bool,
            Column::Bits(ty, _) => *ty,
        }
    }

    fn scalar(&self, i: usize) -> Scalar {
        scalar::from_bits(self.bits(i), self.dtype())
    }
}

/// Evaluates a kernel on columns of equal length.
pub(super) fn evaluate(kernel: &Kernel, inputs: &[Column], fused: bool) -> Column {
    let len = match &inputs[0] {
        Column::F32(v) => v.len(),
        Column::F64(v) => v.len(),
        Column::I32(v) => v.len(),
        Column::I64(v) => v.len(),
        Column::Bool(v) => v.len(),
        Column::Bits(_, v) => v.len(),
    };
    let mut run =
        Run { kernel, inputs, fused, len, values: HashMap::new(), symbols: HashMap::new(), out: None };
    run.block(&kernel.body);
    Rc::unwrap_or_clone(run.out.expect("the kernel stores its result"))
}

struct Run<'a> {
    kernel: &'a Kernel,
    inputs: &'a [Column],
    fused: bool,
    len: usize,
    values: HashMap<Val, Rc<Column>>,
    symbols: HashMap<Symbol, Rc<Column>>,
    out: Option<Rc<Column>>,
}

impl Run<'_> {
    fn block(&mut self, block: &Block) {
        for stmt in block {
            self.stmt(stmt);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(value, op) => {
                let column = self.op(*value, op);
                self.values.insert(*value, column);
            }
            Stmt::Bind(symbol, value) => {
                self.symbols.insert(*symbol, self.values[value].clone());
            }
            Stmt::Store { value, .. } => self.out = Some(self.values[value].clone()),
            Stmt::Prefetch { .. } => {}
            Stmt::For(l) => {
                // Inputs that ask for fewer iterations than the others keep their values.
                let extents = self.index(&l.extent);
                for c in &l.carries {
                    self.values.insert(c.param, self.values[&c.init].clone());
                }
                let most = extents.iter().copied().max().unwrap_or(0);
                for step in 0..most {
                    self.symbols.insert(l.var, Rc::new(Column::I64(vec![step; self.len])));
                    self.block(&l.body);
                    let runs: Vec<bool> = extents.iter().map(|&e| step < e).collect();
                    let next: Vec<_> = l.carries.iter().map(|c| self.pick(&runs, c.next, c.param)).collect();
                    for (c, next) in l.carries.iter().zip(next) {
                        self.values.insert(c.param, next);
                    }
                }
                for c in &l.carries {
                    self.values.insert(c.result, self.values[&c.param].clone());
                }
            }
            Stmt::If { cond, then, otherwise, yields } => {
                let mut holds = vec![true; self.len];
                for e in cond {
                    self.index(e).iter().zip(&mut holds).for_each(|(v, h)| *h &= *v >= 0);
                }
                let (all, any) = (holds.iter().all(|&h| h), holds.iter().any(|&h| h));
                if any {
                    self.block(then);
                }
                if !all {
                    self.block(otherwise);
                }
                for y in yields {
                    let value = match (all, any) {
                        (true, _) => self.values[&y.then].clone(),
                        (_, false) => self.values[&y.otherwise].clone(),
                        _ => self.pick(&holds, y.then, y.otherwise),
                    };
                    self.values.insert(y.result, value);
                }
            }
        }
    }

    fn pick(&self, first: &[bool], a: Val, b: Val) -> Rc<Column> {
        let cond = Column::Bool(first.to_vec());
        Rc::new(apply(ScalarOp::Select, &[&cond, &self.values[&a], &self.values[&b]], self.fused))
    }

    fn index(&self, e: &Expr) -> Vec<i64> {
        let at = |i: usize| e.eval(&|s| self.symbols.get(&s).map(|c| c.scalar(i).as_i64()));
        let used: Vec<&Rc<Column>> = e.symbols().iter().filter_map(|s| self.symbols.get(s)).collect();
        let one = |c: &&Rc<Column>| matches!(&***c, Column::I64(v) if v.iter().all(|x| *x == v[0]));
        if used.iter().all(one) {
            return vec![at(0).expect("bound symbols"); self.len];
        }
        (0..self.len).map(|i| at(i).expect("bound symbols")).collect()
    }

    fn op(&self, value: Val, op: &Op) -> Rc<Column> {
        let ty = self.kernel.values[value].dtype;
        Rc::new(match op {
            Op::Const(bits) => Column::from_bits(ty, std::iter::repeat_n(*bits, self.len)),
            Op::Index(e) => Column::I64(self.index(e)),
            Op::Load { buffer, .. } => self.inputs[buffer.as_u32() as usize].clone(),
            Op::Scalar(op, args) => {
                let args: Vec<&Column> = args.iter().map(|a| &*self.values[a]).collect();
                apply(*op, &args, self.fused)
            }
            other => panic!("not an operation of scalar expansions: {other:?}"),
        })
    }
}

fn map<A: Copy, R>(a: &[A], f: impl Fn(A) -> R) -> Vec<R> {
    a.iter().map(|&a| f(a)).collect()
}

fn zip<A: Copy, R>(a: &[A], b: &[A], f: impl Fn(A, A) -> R) -> Vec<R> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

fn choose<A: Copy>(c: &[bool], a: &[A], b: &[A]) -> Vec<A> {
    c.iter().zip(a.iter().zip(b)).map(|(&c, (&a, &b))| if c { a } else { b }).collect()
}

fn apply(op: ScalarOp, args: &[&Column], fused: bool) -> Column {
    use Column::*;
    use ScalarOp as S;
    macro_rules! float {
        ($kind:ident, $a:expr) => {
            match (op, args) {
                (S::Abs, _) => return $kind(map($a, |a| a.abs())),
                (S::Neg, _) => return $kind(map($a, |a| -a)),
                (S::Sqrt, _) => return $kind(map($a, |a| a.sqrt())),
                (S::MulAdd, [_, $kind(b), $kind(c)]) => {
                    let terms = $a.iter().zip(b).zip(c);
                    return $kind(if fused {
                        terms.map(|((a, b), c)| a.mul_add(*b, *c)).collect()
                    } else {
                        terms.map(|((a, b), c)| a * b + c).collect()
                    });
                }
                (S::Add, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a + b)),
                (S::Sub, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a - b)),
                (S::Mul, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a * b)),
                (S::Div, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a / b)),
                _ => {}
            }
        };
    }
    macro_rules! int {
        ($kind:ident, $a:expr) => {
            match (op, args) {
                (S::Add, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a.wrapping_add(b))),
                (S::Sub, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a.wrapping_sub(b))),
                (S::Mul, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a.wrapping_mul(b))),
                (S::And, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a & b)),
                (S::Or, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a | b)),
                (S::Xor, [_, $kind(b)]) => return $kind(zip($a, b, |a, b| a ^ b)),
                _ => {}
            }
        };
    }
    macro_rules! compare {
        ($kind:ident, $a:expr) => {
            match (op, args) {
                (S::Lt, [_, $kind(b)]) => return Bool(zip($a, b, |a, b| a < b)),
                (S::Le, [_, $kind(b)]) => return Bool(zip($a, b, |a, b| a <= b)),
                (S::Gt, [_, $kind(b)]) => return Bool(zip($a, b, |a, b| a > b)),
                (S::Ge, [_, $kind(b)]) => return Bool(zip($a, b, |a, b| a >= b)),
                (S::Eq, [_, $kind(b)]) => return Bool(zip($a, b, |a, b| a == b)),
                (S::Ne, [_, $kind(b)]) => return Bool(zip($a, b, |a, b| a != b)),
                _ => {}
            }
        };
    }
    match args[0] {
        F32(a) => {
            float!(F32, a);
            compare!(F32, a);
        }
        F64(a) => {
            float!(F64, a);
            compare!(F64, a);
        }
        I32(a) => {
            int!(I32, a);
            compare!(I32, a);
        }
        I64(a) => {
            int!(I64, a);
            compare!(I64, a);
        }
        _ => {}
    }
    match (op, args) {
        (S::Bitcast(DType::I32), [F32(a)]) => I32(map(a, |a| a.to_bits() as i32)),
        (S::Bitcast(DType::F32), [I32(a)]) => F32(map(a, |a| f32::from_bits(a as u32))),
        (S::Bitcast(DType::I64), [F64(a)]) => I64(map(a, |a| a.to_bits() as i64)),
        (S::Bitcast(DType::F64), [I64(a)]) => F64(map(a, |a| f64::from_bits(a as u64))),
        (S::Cast(DType::F64), [F32(a)]) => F64(map(a, f64::from)),
        (S::Cast(DType::F32), [F64(a)]) => F32(map(a, |a| a as f32)),
        (S::Cast(DType::F32), [I32(a)]) => F32(map(a, |a| a as f32)),
        (S::Cast(DType::I64), [F32(a)]) => I64(map(a, |a| a as i64)),
        (S::Select, [Bool(c), F32(a), F32(b)]) => F32(choose(c, a, b)),
        (S::Select, [Bool(c), F64(a), F64(b)]) => F64(choose(c, a, b)),
        (S::Select, [Bool(c), I32(a), I32(b)]) => I32(choose(c, a, b)),
        (S::Select, [Bool(c), I64(a), I64(b)]) => I64(choose(c, a, b)),
        (S::Select, [Bool(c), Bool(a), Bool(b)]) => Bool(choose(c, a, b)),
        (S::And, [Bool(a), Bool(b)]) => Bool(zip(a, b, |a, b| a & b)),
        (S::Or, [Bool(a), Bool(b)]) => Bool(zip(a, b, |a, b| a | b)),
        (S::Shl, [I32(a), I32(b)]) => I32(zip(a, b, |a, b| a.checked_shl(b as u32).unwrap_or(0))),
        (S::Shr, [I32(a), I32(b)]) => I32(zip(a, b, |a, b| a >> (b as u32).min(31))),
        (S::Shl, [I64(a), I64(b)]) => I64(zip(a, b, |a, b| a.checked_shl(b as u32).unwrap_or(0))),
        (S::Shr, [I64(a), I64(b)]) => I64(zip(a, b, |a, b| a >> (b as u64).min(63))),
        _ => by_scalars(op, args),
    }
}

/// Any operation, through its definition.
fn by_scalars(op: ScalarOp, args: &[&Column]) -> Column {
    let types: Vec<DType> = args.iter().map(|a| a.dtype()).collect();
    let result = op.result_type(&types).expect("a well-typed kernel");
    let ty = if op == ScalarOp::Select { types[1] } else { types[0] };
    let len = match args[0] {
        Column::F32(v) => v.len(),
        Column::F64(v) => v.len(),
        Column::I32(v) => v.len(),
        Column::I64(v) => v.len(),
        Column::Bool(v) => v.len(),
        Column::Bits(_, v) => v.len(),
    };
    let one = |i: usize| {
        let values: Vec<Scalar> = args.iter().map(|a| a.scalar(i)).collect();
        scalar::to_bits(scalar::apply(op, ty, &values), result)
    };
    Column::from_bits(result, (0..len).map(one))
}
