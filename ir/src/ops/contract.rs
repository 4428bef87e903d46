//! Contractions: products summed over a shared dimension.
//!
//! Compiled code accumulates in [`accumulator`](crate::DType::accumulator), the reference in `f64` (floats) or in
//! wrapping `i64` (integers, where the order of a sum does not matter).

use super::gradient;
use super::quads::taken_apart;
use super::rules::{self, NUMBER};
use super::{EvalCx, Lower, Meaning, OpRow, Tolerance, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, axes, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::scalar::{Scalar, ScalarOp};
use crate::tensor::{Tensor, strides};
use crate::types::TensorType;

/// How far a sum of products may be from the reference, in multiples of `u * sum(|terms|)`.
pub(super) const SUM_TOLERANCE: Tolerance = Tolerance::Sum(16.0);

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        eval: Some(matmul_eval),
        grad: Some(gradient::matmul),
        tolerance: SUM_TOLERANCE,
        samples: &[
            "MatMul(f32[5,7], f32[7,3])",
            "MatMul(f32[2,1,3,4], f32[3,4,5])",
            "MatMul(f64[6], f64[6])",
            "MatMul(i32[2,3,4], i32[4])",
            "MatMul(f32[4], f32[2,4,3])",
            "MatMul(f16[3,17], f16[17,2])",
            "MatMul(f32[3,0], f32[0,2])",
        ],
        ..OpRow::new(
            "MatMul",
            Some(("", 13)),
            &[one("A"), one("B")],
            matmul_infer,
            Meaning::Primitive(Lower::Element(matmul_element)),
        )
    },
    // What integer matrix products of every schema come down to: `i32` sums of products of narrow
    // integers, whose zero points are dealt with outside (see `integer`). Operands of `i32` hold four
    // bytes in each element (see `quads`), unsigned ones those of A, signed ones those of B. An A of `u32`
    // holds two signed halves in each, so that there are twice as many.
    OpRow {
        eval: Some(matmul_eval),
        samples: &[
            "IntegerMatMul(u8[5,7] in 0..256, i8[7,3] in -128..128)",
            "IntegerMatMul(i8[2,1,3,4], u8[3,4,5])",
            "IntegerMatMul(i16[6], u8[6])",
            "IntegerMatMul(u8[3,0], u8[0,2])",
            "IntegerMatMul(i32[5,7] in -2147483648..2147483648, i32[7,19] in -2147483648..2147483648)",
            "IntegerMatMul(u32[2,5,6] in 0..4294967296, i32[3,19] in -2147483648..2147483648)",
        ],
        ..OpRow::new(
            "IntegerMatMul",
            None,
            &[one("A"), one("B")],
            integer_matmul_infer,
            Meaning::Primitive(Lower::Element(matmul_element)),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("alpha", AttrKind::Float, Default::Float(1.0)),
            AttrSpec::new("beta", AttrKind::Float, Default::Float(1.0)),
            AttrSpec::new("transA", AttrKind::Int, Default::Int(0)),
            AttrSpec::new("transB", AttrKind::Int, Default::Int(0)),
        ],
        tolerance: SUM_TOLERANCE,
        samples: &[
            "Gemm(f32[5,7], f32[7,3])",
            "Gemm(f32[7,5], f32[3,7], f32[3]) {alpha = 0.5, beta = 2.0, transA = 1, transB = 1}",
            "Gemm(f64[2,3], f64[3,4], f64[2,1]) {beta = -1.0}",
        ],
        ..OpRow::new(
            "Gemm",
            Some(("", 13)),
            &[one("A"), one("B"), opt("C")],
            gemm_infer,
            Meaning::Composite(gemm_build),
        )
    },
];

/// The dimension that two operands share; an error where they are different constants.
pub(super) fn shared(a: &Expr, b: &Expr, what: &str) -> Result<Expr, String> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) if x != y => Err(format!("{what} differ: {x} and {y}")),
        (None, Some(_)) => Ok(b.clone()),
        _ => Ok(a.clone()),
    }
}

/// A matrix product's parts: the result's shape is `batch + row + column`.
struct MatMul {
    batch: Vec<Expr>,
    row: Option<Expr>,
    column: Option<Expr>,
    /// The rows of B.
    depth: Expr,
}

impl MatMul {
    fn of(cx: &Cx<'_>) -> Result<MatMul, String> {
        let (a, b) = (cx.shape(0)?, cx.shape(1)?);
        let ([.., ka], [.., _]) = (a, b) else {
            return Err(format!(
                "operands have shapes {} and {}, expected rank 1 or more",
                rules::show(a),
                rules::show(b)
            ));
        };
        let kb = &b[b.len().saturating_sub(2)];
        let data = Sums::of(cx, "IntegerMatMul")?.data;
        let depth = shared(ka, &(kb * data), "the inner dimensions")
            .map_err(|e| format!("{e} (shapes {} and {})", rules::show(a), rules::show(b)))?;
        let depth = if data == 1 { depth } else { kb.clone() };
        let lead = |s: &[Expr]| s[..s.len().saturating_sub(2)].to_vec();
        Ok(MatMul {
            batch: rules::broadcast_shapes(&lead(a), &lead(b))?,
            row: (a.len() > 1).then(|| a[a.len() - 2].clone()),
            column: (b.len() > 1).then(|| b[b.len() - 1].clone()),
            depth,
        })
    }

    fn shape(&self) -> Vec<Expr> {
        self.batch.iter().chain(&self.row).chain(&self.column).cloned().collect()
    }
}

fn matmul_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = rules::one_dtype(cx)?;
    rules::expect("input 0", dtype, NUMBER)?;
    Ok(vec![TensorType::new(dtype, MatMul::of(cx)?.shape()).into()])
}

/// Checks that operands are integers whose products `i32` holds, or several in each element, and gives
/// the type of their sums.
pub(super) fn narrow_integers(cx: &Cx<'_>) -> Result<DType, String> {
    if matches!((cx.dtype(0)?, cx.dtype(1)?), (DType::I32 | DType::U32, DType::I32)) {
        return Ok(DType::I32);
    }
    for i in [0, 1] {
        let dtype = cx.dtype(i)?;
        if !dtype.is_int() || dtype.bits() > 16 {
            return Err(format!("input {i} has elements of {dtype}, expected an integer of 8 or 16 bits"));
        }
    }
    Ok(DType::I32)
}

fn integer_matmul_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Ok(vec![TensorType::new(narrow_integers(cx)?, MatMul::of(cx)?.shape()).into()])
}

/// How a contraction sums.
pub(super) struct Sums {
    /// The result's type.
    pub(super) dtype: DType,
    /// The sums'.
    pub(super) wide: DType,
    /// What makes the products.
    pub(super) product: ScalarOp,
    /// How many elements of the data meet one of the weights: they are the product's first operands.
    pub(super) data: i64,
}

impl Sums {
    /// Those of the first operand's type, or of narrow integers where the row says so.
    pub(super) fn of(cx: &Cx<'_>, integer: &str) -> Result<Sums, String> {
        let dtype = cx.dtype(0)?;
        if cx.op.name != integer {
            return Ok(Sums { dtype, wide: dtype.accumulator(), product: ScalarOp::Mul, data: 1 });
        }
        let (product, data) = match dtype {
            DType::I32 => (ScalarOp::DotBytes, 1),
            DType::U32 => (ScalarOp::DotHalves, 2),
            _ => (ScalarOp::Mul, 1),
        };
        Ok(Sums { dtype: DType::I32, wide: DType::I32, product, data })
    }

    /// The product of the data that `data` loads, by number, and a weight.
    pub(super) fn product_of(
        &self,
        data: impl Fn(i64) -> Result<Term, String>,
        weight: Term,
    ) -> Result<Term, String> {
        let mut operands = (0..self.data).map(data).collect::<Result<Vec<_>, _>>()?;
        operands.push(weight);
        Ok(Term::op(self.product, &operands.iter().collect::<Vec<_>>()))
    }

    /// Data and weights of which elements hold several numbers, with an element for each, along the dimensions
    /// that are summed over.
    pub(super) fn narrow(&self, of: [&Tensor; 2], axes: [usize; 2]) -> Result<Option<[Tensor; 2]>, String> {
        let data = match self.product {
            ScalarOp::DotBytes => DType::U8,
            ScalarOp::DotHalves => DType::I16,
            _ => return Ok(None),
        };
        Ok(Some([taken_apart(of[0], data, axes[0])?, taken_apart(of[1], DType::I8, axes[1])?]))
    }
}

fn matmul_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let parts = MatMul::of(cx)?;
    let (sums, k) = (Sums::of(cx, "IntegerMatMul")?, reduction(0));
    let axes = axes(parts.shape().len());
    let index: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let (batch, matrix) = index.split_at(parts.batch.len());
    let of = |shape: &[Expr], tail: Vec<Expr>| {
        let mut index = rules::broadcast_index(&shape[..shape.len() - tail.len()], &parts.batch, batch);
        index.extend(tail);
        index
    };
    let row = parts.row.is_some().then(|| matrix[0].clone());
    let column = parts.column.is_some().then(|| matrix[matrix.len() - 1].clone());
    let load = |input, tail| {
        let index = of(cx.shape(input)?, tail);
        Ok::<_, String>(Term::load(cx.dtype(input)?, input, index).cast(sums.wide))
    };
    let weight = load(1, [k.into()].into_iter().chain(column).collect())?;
    let data = |n| load(0, row.clone().into_iter().chain([Expr::from(k) * sums.data + n]).collect());
    let product = sums.product_of(data, weight)?;
    let sum = Term::reduce(ReduceOp::Sum, vec![(k, parts.depth)], product);
    Ok(Element { axes, body: sum.cast(sums.dtype) })
}

/// `out[m, n] += a[m, k] * b[k, n]` over row-major slices.
fn product<T: Copy>(
    out: &mut [T],
    (a, b): (&[T], &[T]),
    (depth, columns): (usize, usize),
    muladd: impl Fn(T, T, T) -> T,
) {
    for (row, out) in out.chunks_exact_mut(columns).enumerate() {
        for k in 0..depth {
            let x = a[row * depth + k];
            for (o, y) in out.iter_mut().zip(&b[k * columns..(k + 1) * columns]) {
                *o = muladd(x, *y, *o);
            }
        }
    }
}

/// Every product of a batch of matrices.
fn batched<T: Copy>(
    (a, b): (&Tensor, &Tensor),
    (x, y): (&[T], &[T]),
    shape: &[usize],
    zero: T,
    muladd: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    let depth = a.shape()[a.rank() - 1];
    let rows = if a.rank() > 1 { a.shape()[a.rank() - 2] } else { 1 };
    let columns = if b.rank() > 1 { b.shape()[b.rank() - 1] } else { 1 };
    let mut out = vec![zero; shape.iter().product()];
    if out.is_empty() {
        return out;
    }
    let batch = &shape[..shape.len() - usize::from(a.rank() > 1) - usize::from(b.rank() > 1)];
    let (steps_a, steps_b) = (batch_steps(a, batch.len()), batch_steps(b, batch.len()));
    for (n, out) in out.chunks_exact_mut(rows * columns).enumerate() {
        let at = |steps: &[usize]| -> usize {
            let places = strides(batch).into_iter().zip(batch).map(|(s, d)| n / s % d);
            places.zip(steps).map(|(i, s)| i * s).sum()
        };
        let (i, j) = (at(&steps_a) * rows * depth, at(&steps_b) * depth * columns);
        let operands = (&x[i..i + rows * depth], &y[j..j + depth * columns]);
        product(out, operands, (depth, columns), &muladd);
    }
    out
}

/// How many matrices lie between neighbours along each batch dimension; 0 where it is stretched.
fn batch_steps(t: &Tensor, rank: usize) -> Vec<usize> {
    let own = &t.shape()[..t.rank().saturating_sub(2)];
    let mut steps = vec![0; rank - own.len()];
    steps.extend(strides(own).iter().zip(own).map(|(s, d)| if *d == 1 { 0 } else { *s }));
    steps
}

fn matmul_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (a, b) = (e.input(0), e.input(1));
    let dtype = e.outputs[0].dtype;
    let shape = e.outputs[0].static_shape().ok_or("the result's shape is not known")?;
    Ok(vec![if dtype.is_float() {
        let values = batched((a, b), (&a.to_f64s(), &b.to_f64s()), &shape, 0.0, |x, y, s| x * y + s);
        Tensor::from_f64s(dtype, &shape, &values)
    } else {
        let operands =
            Sums::of(e.cx, "IntegerMatMul")?.narrow([a, b], [a.rank() - 1, b.rank().max(2) - 2])?;
        let (a, b) = operands.as_ref().map_or((a, b), |[a, b]| (a, b));
        let muladd = |x: i64, y: i64, s: i64| x.wrapping_mul(y).wrapping_add(s);
        let values = batched((a, b), (&a.to_i64s(), &b.to_i64s()), &shape, 0, muladd);
        Tensor::from_scalars(dtype, &shape, values.into_iter().map(Scalar::I))
    }])
}

fn gemm_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = rules::one_dtype(cx)?;
    rules::expect("input 0", dtype, NUMBER)?;
    let sides = |i: usize, transpose: &str| match (cx.shape(i)?, cx.attrs.flag(transpose)) {
        ([a, b], false) | ([b, a], true) => Ok((a.clone(), b.clone())),
        (s, _) => Err(format!("input {i} has shape {}, expected a matrix", rules::show(s))),
    };
    let ((rows, ka), (kb, columns)) = (sides(0, "transA")?, sides(1, "transB")?);
    shared(&ka, &kb, "the inner dimensions")?;
    let shape = vec![rows, columns];
    if cx.has(2) {
        let c = cx.shape(2)?;
        let fits = c.len() <= 2
            && rules::broadcast_shapes(c, &shape)?
                .iter()
                .zip(&shape)
                .all(|(x, y)| x == y || x.as_const().is_none() || y.as_const().is_none());
        if !fits {
            let (c, s) = (rules::show(c), rules::show(&shape));
            return Err(format!("input 2 (C) has shape {c}, which does not broadcast to {s}"));
        }
    }
    Ok(vec![TensorType::new(dtype, shape).into()])
}

fn gemm_build(
    cx: &Cx<'_>,
    b: &mut Builder<'_>,
    inputs: &[Option<Value>],
) -> Result<Option<Vec<Value>>, String> {
    let dtype = cx.dtype(0)?;
    let [Some(x), Some(y), rest @ ..] = inputs else { return Ok(None) };
    let side = |b: &mut Builder<'_>, v: Value, transpose: &str| match cx.attrs.flag(transpose) {
        true => b.op("Transpose", &[v], vec![("perm", Attr::Ints(vec![1, 0]))]),
        false => Ok(v),
    };
    let scaled = |b: &mut Builder<'_>, v: Value, factor: &str| match cx.attrs.float(factor) {
        None | Some(1.0) => Ok(v),
        Some(f) => {
            let f = b.constant(Tensor::scalar(dtype, Scalar::F(f)));
            b.op("Mul", &[v, f], vec![])
        }
    };
    let (x, y) = (side(b, *x, "transA")?, side(b, *y, "transB")?);
    let product = b.op("MatMul", &[x, y], vec![])?;
    let mut out = scaled(b, product, "alpha")?;
    if let [Some(c)] = rest {
        let c = scaled(b, *c, "beta")?;
        out = b.op("Add", &[out, c], vec![])?;
    }
    Ok(Some(vec![out]))
}
