//! Evaluation of one op on concrete operands: by the row's `eval`, or by what derives from its
//! meaning.

use super::{eval_element, host};
use crate::attr::{Attr, Attrs};
use crate::dtype::DType;
use crate::element::{Element, Term, axes, axis};
use crate::expr::Expr;
use crate::graph::infer::{self, Arg, Cx};
use crate::graph::{Builder, Constant, Graph, Value};
use crate::ops::{EvalCx, Lower, Meaning, OpRow, RegionFn};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::cell::Cell;

/// An op to be evaluated.
pub struct Operation<'a> {
    /// The row.
    pub op: &'static OpRow,
    /// The attributes, complete.
    pub attrs: &'a Attrs,
    /// How many results are asked for.
    pub outputs: usize,
    /// The types of the results of each region.
    pub region_results: &'a [Vec<Type>],
    /// Evaluates a region.
    pub region: RegionFn<'a>,
}

/// Evaluates an op on operands; trailing absent ones may be missing.
pub fn eval_op(o: &Operation<'_>, inputs: &[Option<Tensor>]) -> Result<Vec<Tensor>, String> {
    let args: Vec<Option<Arg>> = inputs.iter().map(|t| t.as_ref().map(concrete_arg)).collect();
    let next = Cell::new(0);
    let fresh = || {
        next.set(next.get() + 1);
        Symbol::new(&format!("result_size{}", next.get()))
    };
    let cx = Cx {
        op: o.op,
        attrs: o.attrs,
        inputs: &args,
        outputs: o.outputs,
        region_results: o.region_results,
        fresh: &fresh,
    };
    let types = infer::infer_types(&cx)?.into_iter().map(|i| match i.ty {
        Type::Tensor(t) => Ok(t),
        other => Err(format!("a result is {other}, and only tensors can be evaluated")),
    });
    let types: Vec<TensorType> = types.collect::<Result<_, _>>()?;
    if let Some(found) = o.op.requirements(&cx)?.iter().filter_map(Expr::as_const).find(|v| *v < 0) {
        return Err(format!("a value is out of range: found {found}, expected 0 or more"));
    }
    let results = match (o.op.eval, o.op.meaning) {
        (Some(eval), _) => eval(&EvalCx { cx: &cx, inputs, outputs: &types, region: o.region })?,
        (None, Meaning::Pointwise(f)) => vec![pointwise(&cx, f, inputs, &types[0])?],
        (None, Meaning::Movement(_)) if o.op.view => vec![view(inputs, &types[0])?],
        (None, Meaning::Movement(f) | Meaning::Primitive(Lower::Element(f))) => {
            let one = |(i, ty): (usize, &TensorType)| eval_element(&f(&cx, i)?, &concrete(ty)?, inputs);
            types.iter().enumerate().map(one).collect::<Result<_, _>>()?
        }
        (None, Meaning::Composite(_)) => composite(&cx, inputs, &types)?,
        (None, Meaning::Primitive(Lower::Host)) => {
            let sizes = types.iter().map(|t| Ok((t.dtype, concrete(t)?)));
            host::call(o.op, inputs, &sizes.collect::<Result<Vec<_>, String>>()?)?
        }
        (None, Meaning::Primitive(_)) => {
            return Err(format!("{} has no reference semantics", o.op.name));
        }
    };
    check_results(o.op, &types, &results)?;
    Ok(results)
}

fn concrete_arg(t: &Tensor) -> Arg {
    let c = Constant::Data(t.clone());
    Arg { ty: c.ty().into(), known: infer::known_contents(&c), data: Some(t.clone()) }
}

/// The result's shape in numbers.
fn concrete(ty: &TensorType) -> Result<Vec<usize>, String> {
    ty.static_shape()
        .ok_or_else(|| format!("the result {ty} has a size that depends on data, or a negative one"))
}

/// What was computed is what was inferred: anything else is a defect of the row.
fn check_results(op: &OpRow, types: &[TensorType], results: &[Tensor]) -> Result<(), String> {
    if types.len() != results.len() {
        return Err(format!("{} gave {} results, expected {}", op.name, results.len(), types.len()));
    }
    for (i, (ty, t)) in types.iter().zip(results).enumerate() {
        let dims = ty.shape.iter().zip(t.shape());
        let fits = |(d, n): (&Expr, &usize)| d.as_const().is_none_or(|d| d == *n as i64);
        if ty.dtype != t.dtype() || ty.rank() != t.rank() || !dims.into_iter().all(fits) {
            return Err(format!("result {i} of {} is {t:?}, but was inferred as {ty}", op.name));
        }
    }
    Ok(())
}

fn view(inputs: &[Option<Tensor>], ty: &TensorType) -> Result<Tensor, String> {
    let t = inputs.first().and_then(Option::as_ref).ok_or("input 0 is missing")?;
    let shape = concrete(ty)?;
    if shape.iter().product::<usize>() != t.len() {
        return Err(format!("{t:?} cannot be viewed as {ty}: the numbers of elements differ"));
    }
    Ok(t.reshaped(&shape))
}

/// Neighbouring axes that every operand either spans or broadcasts are joined, so that most
/// expressions run over one axis.
fn pointwise(
    cx: &Cx<'_>,
    f: fn(&Cx<'_>, &[Term]) -> Term,
    inputs: &[Option<Tensor>],
    ty: &TensorType,
) -> Result<Tensor, String> {
    let shape = concrete(ty)?;
    let mut joined: Vec<usize> = Vec::new();
    let mut spans: Vec<Vec<bool>> = Vec::new();
    for (i, n) in shape.iter().enumerate() {
        let span =
            inputs.iter().flatten().map(|t| spans_axis(t, &shape, i)).collect::<Result<Vec<_>, _>>()?;
        match (spans.last(), joined.last_mut()) {
            (Some(before), Some(last)) if *before == span => *last *= n,
            _ => {
                joined.push(*n);
                spans.push(span);
            }
        }
    }
    let (mut terms, mut operands) = (Vec::new(), Vec::new());
    for (p, t) in inputs.iter().flatten().enumerate() {
        let index = |i: usize| if spans[i][p] { axis(i).into() } else { Expr::ZERO };
        terms.push(Term::load(t.dtype(), p, (0..joined.len()).map(index).collect()));
        let extents: Vec<usize> = joined.iter().zip(&spans).map(|(n, s)| if s[p] { *n } else { 1 }).collect();
        operands.push(Some(t.reshaped(&extents)));
    }
    let body = f(cx, &terms);
    if body.dtype() != ty.dtype {
        return Err(format!("{} gives {}, but was inferred as {ty}", cx.op.name, body.dtype()));
    }
    let element = Element { axes: axes(joined.len()), body };
    Ok(eval_element(&element, &joined, &operands)?.reshaped(&shape))
}

/// Whether an operand's elements differ along that axis of the shape that it is broadcast to.
fn spans_axis(t: &Tensor, shape: &[usize], i: usize) -> Result<bool, String> {
    let clash = || format!("{t:?} does not broadcast to {shape:?}");
    if t.rank() > shape.len() {
        return Err(clash());
    }
    match (i + t.rank()).checked_sub(shape.len()).map(|a| t.shape()[a]) {
        None => Ok(false),
        Some(n) if n == shape[i] => Ok(true),
        Some(1) => Ok(false),
        Some(_) => Err(clash()),
    }
}

/// Evaluates a composite's body: on `f64` operands where the body can be built for them, so that
/// only the end is rounded, else on the operands as they are.
fn composite(cx: &Cx<'_>, inputs: &[Option<Tensor>], types: &[TensorType]) -> Result<Vec<Tensor>, String> {
    let narrow = |d: DType| d.is_float() && d != DType::F64 && !d.is_storage();
    let floats: Vec<DType> = inputs.iter().flatten().map(Tensor::dtype).filter(|d| narrow(*d)).collect();
    if !floats.is_empty() {
        let wide = |t: &Tensor| if narrow(t.dtype()) { t.cast(DType::F64) } else { t.clone() };
        let wide: Vec<Option<Tensor>> = inputs.iter().map(|t| t.as_ref().map(wide)).collect();
        let mut attrs = cx.attrs.clone();
        for (_, a) in &mut attrs.0 {
            if matches!(a, Attr::DType(d) if floats.contains(d)) {
                *a = Attr::DType(DType::F64);
            }
        }
        let args: Vec<Option<Arg>> = wide.iter().map(|t| t.as_ref().map(concrete_arg)).collect();
        // A type rule inside that refuses f64 is no error: the body is then built as declared.
        if let Ok(Some(body)) = composite_body(&Cx { attrs: &attrs, inputs: &args, ..*cx }) {
            return run_body(&body, &wide, types);
        }
    }
    match composite_body(cx)? {
        Some(body) => run_body(&body, inputs, types),
        None => Err(format!("{} has no body for these operands and no reference semantics", cx.op.name)),
    }
}

/// A composite's body as a graph with an input for each operand that is present; `None` where the
/// op is no composite or its builder declines.
pub fn composite_body(cx: &Cx<'_>) -> Result<Option<Graph>, String> {
    let Meaning::Composite(build) = cx.op.meaning else { return Ok(None) };
    let mut graph = Graph::new(cx.op.name);
    let mut values: Vec<Option<Value>> = Vec::new();
    for arg in cx.inputs {
        values.push(arg.as_ref().map(|a| {
            let v = graph.add_input("", a.ty.clone());
            graph.values[v].known = a.known.clone();
            v
        }));
    }
    let Some(results) = build(cx, &mut Builder::new(&mut graph), &values)? else { return Ok(None) };
    results.into_iter().for_each(|v| graph.add_output("", v));
    Ok(Some(graph))
}

fn run_body(body: &Graph, inputs: &[Option<Tensor>], types: &[TensorType]) -> Result<Vec<Tensor>, String> {
    let given: Vec<Tensor> = inputs.iter().flatten().cloned().collect();
    let results = super::eval(body, &given, &[]).map_err(|e| format!("in its body, {e}"))?.outputs;
    Ok(results.into_iter().zip(types).map(|(t, ty)| t.cast(ty.dtype)).collect())
}
