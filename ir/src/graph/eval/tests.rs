//! Tests of the evaluator on rows made here, with values worked out by hand or taken from NumPy.

use super::*;
use crate::attr::Attr;
use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, axes, axis, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, RegionData};
use crate::ops::{Lower, Meaning, OpRow, many, one};
use crate::scalar::{Scalar, ScalarOp};
use crate::symbol::Symbol;
use crate::types::TensorType;

fn same_type(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    Ok(vec![cx.ty(0)?.clone().into()])
}

fn longest_shape(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (a, b) = (cx.ty(0)?, cx.ty(1)?);
    let lead = b.rank() - a.rank();
    let dim =
        |(i, d): (usize, &Expr)| if i < lead || *d != 1 { d.clone() } else { a.shape[i - lead].clone() };
    Ok(vec![TensorType::new(a.dtype, b.shape.iter().enumerate().map(dim)).into()])
}

static ADD: OpRow = OpRow::new(
    "TestAdd",
    None,
    &[one("A"), one("B")],
    longest_shape,
    Meaning::Pointwise(|_, t| &t[0] + &t[1]),
);

static SCALE: OpRow =
    OpRow::new("TestScale", None, &[one("X")], same_type, Meaning::Pointwise(|_, t| &(&t[0] * 3.0) / 3.0));

static ROTATE: OpRow = OpRow::new(
    "TestRotate",
    None,
    &[one("X")],
    same_type,
    Meaning::Movement(|cx, _| {
        let i = Expr::from(axis(0));
        let load = |e: Expr| Term::load(DType::F32, 0, vec![e]);
        let n = cx.shape(0)?[0].clone();
        Ok(Element { axes: axes(1), body: Term::when(vec![&i - 1], load(&i - 1), load(n - 1)) })
    }),
);

static MATMUL: OpRow = OpRow::new(
    "TestMatMul",
    None,
    &[one("A"), one("B")],
    |cx| Ok(vec![TensorType::new(cx.dtype(0)?, [cx.shape(0)?[0].clone(), cx.shape(1)?[1].clone()]).into()]),
    Meaning::Primitive(Lower::Element(|cx, _| {
        let (i, j, k) = (axis(0).into(), Expr::from(axis(1)), Expr::from(reduction(0)));
        let a = Term::load(cx.dtype(0)?, 0, vec![i, k.clone()]);
        let b = Term::load(cx.dtype(1)?, 1, vec![k, j]);
        let body = Term::reduce(ReduceOp::Sum, vec![(reduction(0), cx.shape(0)?[1].clone())], a * b);
        Ok(Element { axes: axes(2), body })
    })),
);

static PICK: OpRow = OpRow::new(
    "TestPick",
    None,
    &[one("X"), one("I")],
    |cx| Ok(vec![TensorType::new(cx.dtype(0)?, cx.shape(1)?.iter().cloned()).into()]),
    Meaning::Movement(|cx, _| {
        let s = Symbol::new("picked");
        let value = Term::load(cx.dtype(1)?, 1, vec![axis(0).into()]);
        let body = Term::bind(s, value, Term::load(cx.dtype(0)?, 0, vec![s.into()]));
        Ok(Element { axes: axes(1), body })
    }),
);

static TWICE: OpRow = OpRow::new(
    "TestTwice",
    None,
    &[one("X")],
    same_type,
    Meaning::Composite(|_, b, v| {
        let x = v[0].ok_or("no input")?;
        let scaled = b.node(&SCALE, "", vec![Some(x)], vec![], 1, vec![])?;
        let scaled = b.graph.nodes[scaled].outputs[0];
        let sum = b.node(&ADD, "", vec![Some(scaled), Some(x)], vec![], 1, vec![])?;
        Ok(Some(vec![b.graph.nodes[sum].outputs[0]]))
    }),
);

static BARE: OpRow = OpRow::new("TestBare", None, &[one("X")], same_type, Meaning::Primitive(Lower::Regions));

static REPEAT: OpRow = OpRow {
    regions: 1,
    eval: Some(|cx| {
        let mut x = vec![cx.input(0).clone()];
        for _ in 0..3 {
            x = (cx.region)(0, &x)?;
        }
        Ok(x)
    }),
    ..OpRow::new("TestRepeat", None, &[many("X")], same_type, Meaning::Primitive(Lower::Regions))
};

fn node(g: &mut Graph, op: &'static OpRow, inputs: &[Value]) -> Value {
    let inputs = inputs.iter().map(|v| Some(*v)).collect();
    let n =
        Builder::new(g).node(op, "", inputs, Vec::<(String, Attr)>::new(), 1, vec![]).expect("a good node");
    g.nodes[n].outputs[0]
}

/// A graph of one node on inputs of those tensors' types.
fn single(op: &'static OpRow, inputs: &[Tensor]) -> Result<Tensor, EvalError> {
    let mut g = Graph::new("single");
    let values: Vec<Value> = inputs
        .iter()
        .map(|t| g.add_input("", TensorType::new(t.dtype(), t.shape().iter().copied())))
        .collect();
    let out = node(&mut g, op, &values);
    g.add_output("y", out);
    Ok(eval(&g, inputs, &[])?.outputs.remove(0))
}

#[test]
fn pointwise_broadcasts() {
    let a = Tensor::new(&[2, 1], &[10f32, 20.0]);
    let b = Tensor::new(&[2, 1, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = single(&ADD, &[a, b]).expect("it broadcasts");
    assert_eq!(y.shape(), [2, 2, 3]);
    let expected = [11f32, 12., 13., 21., 22., 23., 14., 15., 16., 24., 25., 26.];
    assert_eq!(&y.values::<f32>()[..], expected);
}

#[test]
fn pointwise_rounds_once() {
    // Rounding 3 * x to f32 first would give 0.8999999.
    let x = Tensor::new(&[3000], &vec![0.9f32; 3000]);
    let y = single(&SCALE, &[x]).expect("it runs");
    assert!(y.values::<f32>().iter().all(|v| *v == 0.9));
}

#[test]
fn movement_evaluates_only_the_branch_taken() {
    let x = Tensor::new(&[4], &[1f32, 2.0, 3.0, 4.0]);
    let y = single(&ROTATE, &[x]).expect("it runs");
    assert_eq!(&y.values::<f32>()[..], [4.0, 1.0, 2.0, 3.0]);
    let empty = single(&ROTATE, &[Tensor::new::<f32>(&[0], &[])]).expect("nothing is read");
    assert!(empty.is_empty());
}

#[test]
fn reduction_accumulates_wide() {
    // In f32 the sum would lose the 1.
    let a = Tensor::new(&[1, 3], &[1e8f32, 1.0, -1e8]);
    let b = Tensor::new(&[3, 2], &[1f32, 2.0, 1.0, 2.0, 1.0, 2.0]);
    let y = single(&MATMUL, &[a, b]).expect("it runs");
    assert_eq!(&y.values::<f32>()[..], [1.0, 2.0]);
}

#[test]
fn indices_come_from_data_and_are_checked() {
    let x = Tensor::new(&[3], &[1.5f32, 2.5, 3.5]);
    let y = single(&PICK, &[x.clone(), Tensor::new(&[4], &[2i64, 0, 0, 1])]).expect("in bounds");
    assert_eq!(&y.values::<f32>()[..], [3.5, 1.5, 1.5, 2.5]);
    let e = single(&PICK, &[x, Tensor::new(&[1], &[3i64])]).expect_err("out of bounds").to_string();
    assert!(e.contains("TestPick") && e.contains("index 3") && e.contains("axis 0"), "{e}");
}

#[test]
fn composite_rounds_once() {
    let x = Tensor::new(&[1], &[0.1f32]);
    let y = single(&TWICE, &[x]).expect("it has a body");
    assert_eq!(&y.values::<f32>()[..], [0.2]);
}

#[test]
fn a_primitive_without_semantics_is_named() {
    let e = single(&BARE, &[Tensor::new(&[1], &[0f32])]).expect_err("nothing to run");
    assert!(e.to_string().contains("TestBare"), "{e}");
}

#[test]
fn regions_see_the_values_around_them() {
    let mut g = Graph::new("loop");
    let ty = TensorType::new(DType::F32, [2]);
    let x = g.add_input("x", ty.clone());
    let step = node(&mut g, &SCALE, &[x]);
    let region = g.regions.push(RegionData::default());
    let p = g.add_param(region, "p", ty);
    let mut inner = Builder { graph: &mut g, region };
    let sum = inner.node(&ADD, "", vec![Some(p), Some(step)], vec![], 1, vec![]).expect("a good node");
    g.regions[region].results = vec![g.nodes[sum].outputs[0]];
    let repeat =
        Builder::new(&mut g).node(&REPEAT, "", vec![Some(x)], vec![], 1, vec![region]).expect("good");
    let y = g.nodes[repeat].outputs[0];
    g.add_output("y", y);
    let mut count = 0;
    let x = Tensor::new(&[2], &[1f32, -2.0]);
    let out = eval_with(&g, &[x], &[], &mut |_| count += 1).expect("it runs");
    assert_eq!(&out.outputs[0].values::<f32>()[..], [4.0, -8.0]);
    assert_eq!(count, 5);
}

#[test]
fn states_carry_over() {
    let mut g = Graph::new("counter");
    let x = g.add_input("x", TensorType::new(DType::F32, [1]));
    let s = g.add_state("total", Constant::Data(Tensor::new(&[1], &[0f32])));
    let next = node(&mut g, &ADD, &[s, x]);
    g.states[0].next = next;
    g.add_output("before", s);
    let x = Tensor::new(&[1], &[2f32]);
    let first = eval(&g, std::slice::from_ref(&x), &[]).expect("it runs");
    let second = eval(&g, &[x], &first.states).expect("it runs");
    assert_eq!(second.outputs[0].get(0).as_f64(), 2.0);
    assert_eq!(second.states[0].get(0).as_f64(), 4.0);
}

#[test]
fn computed_constants_materialise() {
    let data = Constant::Data(Tensor::new(&[3], &[1f32, 2.0, 3.0]));
    let computed = |input: Constant| {
        Constant::Computed(std::sync::Arc::new(crate::graph::Computed {
            ty: input.ty(),
            op: &ROTATE,
            attrs: Default::default(),
            inputs: vec![Some(input)],
            output: 0,
        }))
    };
    let t = computed(computed(data)).materialise().expect("constants");
    assert_eq!(&t.values::<f32>()[..], [2.0, 3.0, 1.0]);
}

fn dims_graph() -> Graph {
    let mut g = Graph::new("dims");
    let n = Expr::named("n");
    g.add_input("a", TensorType::new(DType::F32, [&n * 2 + 1, Expr::named("m")]));
    g.add_input("b", TensorType::new(DType::F32, [n * Expr::named("m")]));
    g
}

#[test]
fn dimensions_are_bound_and_checked() {
    let g = dims_graph();
    let zeros = |shape: &[usize]| Tensor::zeros(DType::F32, shape);
    let dims = bind_dims(&g, &[zeros(&[7, 4]), zeros(&[12])]).expect("n = 3, m = 4");
    assert_eq!((dims[&Symbol::new("n")], dims[&Symbol::new("m")]), (3, 4));
    let e = bind_dims(&g, &[zeros(&[7, 4]), zeros(&[11])]).expect_err("11 is not 12").to_string();
    assert!(e.contains("input 1 \"b\"") && e.contains("f32[11]") && e.contains("expected 12"), "{e}");
    let e = bind_dims(&g, &[zeros(&[8, 4]), zeros(&[12])]).expect_err("8 is odd").to_string();
    assert!(e.contains("axis 0 is 8") && e.contains("expected 7"), "{e}");
    let e = bind_dims(&g, &[zeros(&[7])]).expect_err("one is missing").to_string();
    assert!(e.contains("expected 2 inputs, found 1"), "{e}");
}

#[test]
fn a_reduction_may_have_another_extent_at_each_point() {
    // Row i of a triangle: the sum of 1 up to i.
    let k = Term::index(Expr::from(reduction(0)) + 1);
    let body = Term::reduce(ReduceOp::Sum, vec![(reduction(0), axis(0).into())], k);
    let e = Element { axes: axes(1), body: body.unary(ScalarOp::Neg) };
    let t = eval_element(&e, &[5], &[]).expect("it runs");
    assert_eq!(t.to_i64s(), [0, -1, -3, -6, -10]);
    assert_eq!(ReduceOp::Min.identity(DType::I8).as_i64(), Scalar::F(1e9).cast(DType::I8).as_i64());
}
