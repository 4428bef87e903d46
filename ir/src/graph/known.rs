//! The contents of small integer results as expressions: an op's meaning applied to expressions
//! instead of numbers.
//!
//! This is what keeps a model dynamic that computes its own shapes. It is conservative: symbols are
//! known to be zero or above (but for integers read from data, [`Symbol::range`]), and where that does
//! not decide a branch or a rounding, the contents stay unknown; a comparison becomes an expression that
//! is 0 or 1. 32-bit and 64-bit integers are taken not to overflow, as sizes do not.

use crate::dtype::DType;
use crate::element::{Element, ReduceOp, Term, TermKind};
use crate::expr::{Atom, Expr, Range};
use crate::graph::eval::{self, Operation};
use crate::graph::infer::{Arg, Cx, KNOWN_LIMIT};
use crate::ops::Effect;
use crate::scalar::{self, Scalar, ScalarOp};
use crate::symbol::Symbol;
use crate::tensor::{Tensor, strides};
use crate::types::TensorType;
use std::collections::HashMap;
use std::sync::Arc;

/// Contents of more factors than this, in one element, are given up.
const SIZE_LIMIT: usize = 200;
/// Reductions of more elements than this, for one result, are given up.
const WORK_LIMIT: usize = 64 * KNOWN_LIMIT;

/// Whether the contents of a tensor of that type can be known, and then its shape.
fn small_ints(ty: &TensorType) -> Option<Vec<usize>> {
    let shape = ty.static_shape()?;
    let small = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))? <= KNOWN_LIMIT;
    (small && ty.dtype.is_whole()).then_some(shape)
}

/// The contents of a node's results of those types, where they can be derived.
pub(super) fn derive(cx: &Cx<'_>, types: &[Option<&TensorType>]) -> Vec<Option<Arc<[Expr]>>> {
    let wanted: Vec<Option<Vec<usize>>> = types.iter().map(|t| small_ints((*t)?)).collect();
    if wanted.iter().all(Option::is_none) || cx.op.effect != Effect::Pure || cx.op.regions > 0 {
        return vec![None; types.len()];
    }
    if let Some(folded) = fold(cx) {
        let contents = |t: Tensor| t.to_i64s().into_iter().map(Expr::from).collect();
        return folded.into_iter().zip(&wanted).map(|(t, w)| w.as_ref().map(|_| contents(t))).collect();
    }
    let one = |(i, shape): (usize, &Option<Vec<usize>>)| symbolic(cx, i, types[i]?, shape.as_deref()?);
    wanted.iter().enumerate().map(one).collect()
}

/// Evaluates a node whose operands are all small constants.
fn fold(cx: &Cx<'_>) -> Option<Vec<Tensor>> {
    let mut inputs = Vec::new();
    for arg in cx.inputs {
        let Some(arg) = arg else {
            inputs.push(None);
            continue;
        };
        let ty = arg.ty.tensor()?;
        let t = match &arg.data {
            Some(t) => t.clone(),
            None => {
                let ints = arg.known.as_deref()?.iter().map(|e| e.as_const().map(Scalar::I));
                Tensor::from_scalars(ty.dtype, &ty.static_shape()?, ints.collect::<Option<Vec<_>>>()?)
            }
        };
        if t.len() > KNOWN_LIMIT {
            return None;
        }
        inputs.push(Some(t));
    }
    let operation = Operation {
        op: cx.op,
        attrs: cx.attrs,
        outputs: cx.outputs,
        region_results: &[],
        region: &|_, _| Err("a pure op without regions".into()),
    };
    // An op without semantics, or operands that it refuses, leave the contents unknown; whoever
    // evaluates the node hears why.
    eval::eval_op(&operation, &inputs).ok()
}

fn symbolic(cx: &Cx<'_>, output: usize, ty: &TensorType, shape: &[usize]) -> Option<Arc<[Expr]>> {
    // Without any known operand only an op that speaks of shapes could give known contents, and
    // those say so in their type rule.
    cx.inputs.iter().flatten().find(|a| a.known.is_some())?;
    if cx.op.view && output == 0 {
        return cx.arg(0)?.known.clone();
    }
    if let Some(body) = eval::composite_body(cx).ok().flatten() {
        let known = body.values[body.outputs()[output]].known.clone()?;
        // A symbol that the body made for itself would mean something else outside.
        let given = |s: &Symbol| cx.inputs.iter().flatten().any(|a| mentions(a, *s));
        return known.iter().all(|e| e.symbols().iter().all(given)).then_some(known);
    }
    let element = cx.op.element(cx, output, ty)?.ok()?;
    contents(cx, &element, shape)
}

fn mentions(arg: &Arg, s: Symbol) -> bool {
    let shape = arg.ty.tensor().map_or(&[][..], |t| &t.shape);
    shape.iter().chain(arg.known.as_deref().unwrap_or_default()).any(|e| e.mentions(s))
}

/// Every element of a definition as an expression.
fn contents(cx: &Cx<'_>, element: &Element, shape: &[usize]) -> Option<Arc<[Expr]>> {
    let strides = strides(shape);
    let total: usize = shape.iter().product();
    let mut machine = Machine { cx, scope: HashMap::new(), work: 0 };
    let mut out = Vec::with_capacity(total);
    for p in 0..total {
        for ((a, n), s) in element.axes.iter().zip(shape).zip(&strides) {
            machine.scope.insert(*a, Expr::from(p / s % n));
        }
        out.push(machine.term(&element.body)?);
    }
    Some(out.into())
}

struct Machine<'a> {
    cx: &'a Cx<'a>,
    /// What the symbols in scope stand for.
    scope: HashMap<Symbol, Expr>,
    work: usize,
}

impl Machine<'_> {
    fn expr(&self, e: &Expr) -> Expr {
        e.substitute(&|s| self.scope.get(&s).cloned())
    }

    fn term(&mut self, t: &Term) -> Option<Expr> {
        self.work += 1;
        if self.work > WORK_LIMIT {
            return None;
        }
        let e = match t.kind() {
            TermKind::Load { input, index } => {
                let arg = self.cx.arg(*input)?;
                let (known, shape) = (arg.known.as_deref()?, arg.ty.tensor()?.static_shape()?);
                let mut place = 0;
                for (e, n) in index.iter().zip(&shape) {
                    let i = usize::try_from(self.expr(e).as_const()?).ok().filter(|i| i < n)?;
                    place = place * n + i;
                }
                known.get(place)?.clone()
            }
            TermKind::Const(_) if t.dtype().is_float() => return None,
            TermKind::Const(v) => v.as_i64().into(),
            TermKind::Index(e) => self.expr(e),
            TermKind::Op(op, args) => {
                let types: Vec<DType> = args.iter().map(Term::dtype).collect();
                if types.iter().any(|t| t.is_float()) {
                    return None;
                }
                let args = args.iter().map(|a| self.term(a)).collect::<Option<Vec<_>>>()?;
                operate(*op, &types, &args)?
            }
            TermKind::If { cond, then, otherwise } => {
                let signs: Vec<Option<bool>> = cond.iter().map(|c| decide(&self.expr(c))).collect();
                if signs.iter().all(|s| *s == Some(true)) {
                    self.term(then)?
                } else if signs.contains(&Some(false)) {
                    self.term(otherwise)?
                } else {
                    return None;
                }
            }
            TermKind::Reduce { op, vars, body } => {
                let start = Expr::from(op.identity(t.dtype()).as_i64());
                self.reduce(*op, t.dtype(), vars, body, start, &mut true)?
            }
            TermKind::Bind { symbol, value, body } => {
                let value = self.term(value)?;
                let before = self.scope.insert(*symbol, value);
                let result = self.term(body);
                self.restore(*symbol, before);
                result?
            }
        };
        (size(&e) <= SIZE_LIMIT).then_some(e)
    }

    fn restore(&mut self, s: Symbol, before: Option<Expr>) {
        match before {
            Some(e) => self.scope.insert(s, e),
            None => self.scope.remove(&s),
        };
    }

    /// `first` is whether nothing has been combined yet: the first element then stands for itself,
    /// so that the identity of `Min` and `Max` does not stay in the result.
    fn reduce(
        &mut self,
        op: ReduceOp,
        dtype: DType,
        vars: &[(Symbol, Expr)],
        body: &Term,
        mut acc: Expr,
        first: &mut bool,
    ) -> Option<Expr> {
        let Some(((var, extent), inner)) = vars.split_first() else {
            let v = self.term(body)?;
            return if std::mem::take(first) {
                Some(v)
            } else {
                operate(op.combine(), &[dtype; 2], &[acc, v])
            };
        };
        let extent = self.expr(extent).as_const()?;
        let before = self.scope.get(var).cloned();
        for i in 0..extent {
            self.scope.insert(*var, i.into());
            acc = self.reduce(op, dtype, inner, body, acc, first)?;
        }
        self.restore(*var, before);
        Some(acc)
    }
}

fn bounds(e: &Expr) -> Range {
    e.bounds(&Symbol::range)
}

fn at_least(e: &Expr, n: i64) -> bool {
    bounds(e).lo.is_some_and(|lo| lo >= n)
}

/// Whether an expression is zero or above, where that is certain.
fn decide(e: &Expr) -> Option<bool> {
    let b = bounds(e);
    match (b.lo, b.hi) {
        (Some(0..), _) => Some(true),
        (_, Some(..0)) => Some(false),
        _ => None,
    }
}

/// The number of factors in an expression.
fn size(e: &Expr) -> usize {
    let factor = |a: &Atom| match a {
        Atom::Sym(_) => 1,
        Atom::Div(p) | Atom::Min(p) | Atom::Max(p) => 1 + size(&p.0) + size(&p.1),
    };
    e.terms().iter().map(|(atoms, _)| atoms.iter().map(factor).sum::<usize>()).sum()
}

/// A scalar operation on expressions; `None` where its result is no expression.
fn operate(op: ScalarOp, types: &[DType], args: &[Expr]) -> Option<Expr> {
    use ScalarOp::*;
    let ty = types[if op == Select { 1 } else { 0 }];
    if let Some(ints) = args.iter().map(Expr::as_const).collect::<Option<Vec<i64>>>() {
        return constant(op, types, &ints);
    }
    match op {
        Select => return select(types[1], &args[0], &args[1], &args[2]),
        And if ty == DType::Bool => return Some(&args[0] * &args[1]),
        Or if ty == DType::Bool => return Some(&args[0] + &args[1] - &args[0] * &args[1]),
        Xor if ty == DType::Bool => return Some(nonzero(&(&args[0] - &args[1]))),
        Not if ty == DType::Bool => return Some(not(&args[0])),
        Eq | Ne | Lt | Le | Gt | Ge => return Some(compare(op, &args[0], &args[1])),
        Cast(DType::Bool) => return Some(nonzero(&args[0])),
        _ => {}
    }
    let wide = |t: DType| matches!(t, DType::I64 | DType::I32);
    let from_bool = ty == DType::Bool && matches!(op, Cast(_));
    if !wide(ty) && !from_bool {
        return None;
    }
    let a = &args[0];
    Some(match op {
        Neg => -a,
        Abs => match decide(a)? {
            true => a.clone(),
            false => -a,
        },
        Cast(to) if wide(to) => a.clone(),
        Add => a + &args[1],
        Sub => a - &args[1],
        Mul => a * &args[1],
        MulAdd => a * &args[1] + &args[2],
        Min => a.minimum(&args[1]).simplify(&Symbol::range),
        Max => a.maximum(&args[1]).simplify(&Symbol::range),
        Div => truncated_quotient(a, &args[1])?,
        // By a divisor of zero the scalar operation gives zero, and the difference would be `a`.
        Mod if at_least(&args[1], 0) => (a - &(&args[1] * &floor_div(a, &args[1]))) * nonzero(&args[1]),
        Rem if at_least(&args[1], 0) => {
            (a - &(&args[1] * &truncated_quotient(a, &args[1])?)) * nonzero(&args[1])
        }
        _ => return None,
    })
}

fn constant(op: ScalarOp, types: &[DType], ints: &[i64]) -> Option<Expr> {
    if matches!(op, ScalarOp::Cast(t) | ScalarOp::Bitcast(t) if t.is_float()) {
        return None;
    }
    let args: Vec<Scalar> = ints.iter().zip(types).map(|(v, t)| scalar::wrap(*v, *t)).collect();
    let ty = types[if op == ScalarOp::Select { 1 } else { 0 }];
    Some(scalar::apply(op, ty, &args).as_i64().into())
}

fn floor_div(a: &Expr, b: &Expr) -> Expr {
    a.floor_div_within(b, &Symbol::range)
}

/// A quotient that truncates is one that rounds down where it is exact or neither is negative.
fn truncated_quotient(a: &Expr, b: &Expr) -> Option<Expr> {
    let q = floor_div(a, b);
    let exact = b.as_const().is_some_and(|b| b != 0) && &q * b == *a;
    (exact || (at_least(a, 0) && at_least(b, 0))).then_some(q)
}

/// One of two by a condition of 0 or 1.
fn select(ty: DType, cond: &Expr, then: &Expr, otherwise: &Expr) -> Option<Expr> {
    match cond.as_const() {
        Some(0) => Some(otherwise.clone()),
        Some(_) => Some(then.clone()),
        None if then == otherwise => Some(then.clone()),
        None => matches!(ty, DType::I64 | DType::I32).then(|| otherwise + &(cond * &(then - otherwise))),
    }
}

/// A comparison as 0 or 1.
fn compare(op: ScalarOp, a: &Expr, b: &Expr) -> Expr {
    match op {
        ScalarOp::Ge => not(&positive(&(b - a))),
        ScalarOp::Le => not(&positive(&(a - b))),
        ScalarOp::Lt => positive(&(b - a)),
        ScalarOp::Gt => positive(&(a - b)),
        ScalarOp::Eq => not(&nonzero(&(a - b))),
        _ => nonzero(&(a - b)),
    }
}

/// 1 for 0, 0 for 1.
fn not(e: &Expr) -> Expr {
    &Expr::ONE - e
}

/// Whether an expression is above zero.
fn positive(e: &Expr) -> Expr {
    match decide(&(e - 1)) {
        Some(holds) => (holds as i64).into(),
        None => clamped(&e.maximum(&Expr::ZERO)),
    }
}

/// Whether an expression is not zero.
fn nonzero(e: &Expr) -> Expr {
    let range = bounds(e);
    match (e.as_const(), range.lo, range.hi) {
        (Some(v), _, _) => ((v != 0) as i64).into(),
        (_, Some(1..), _) | (_, _, Some(..=-1)) => Expr::ONE,
        _ => clamped(&e.maximum(&-e)),
    }
}

/// At most 1.
fn clamped(e: &Expr) -> Expr {
    e.minimum(&Expr::ONE).simplify(&Symbol::range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{axes, axis, reduction};
    use crate::graph::{Builder, Constant, Graph, Value};
    use crate::ops::{self, Meaning, OpRow, one};

    fn n() -> Expr {
        Expr::named("n")
    }

    fn int(op: ScalarOp, a: Expr, b: Expr) -> Option<String> {
        operate(op, &[DType::I64; 2], &[a, b]).map(|e| e.to_string())
    }

    #[test]
    fn arithmetic_stays_exact() {
        assert_eq!(int(ScalarOp::Mul, n() + 1, n()), Some("n + n*n".into()));
        assert_eq!(int(ScalarOp::Div, n() * 6, 3.into()), Some("2*n".into()));
        assert_eq!(int(ScalarOp::Div, n() * -6, 3.into()), Some("-2*n".into()));
        assert_eq!(int(ScalarOp::Div, n() + 1, 2.into()), Some("((n + 1) / 2)".into()));
        assert_eq!(int(ScalarOp::Div, n() - 1, 2.into()), None);
        assert_eq!(int(ScalarOp::Mod, n() * 4 + 3, 4.into()), Some("3".into()));
        let rest = operate(ScalarOp::Mod, &[DType::I64; 2], &[7.into(), n()]).expect("an expression");
        assert_eq!([0, 4].map(|at| rest.eval(&|_| Some(at))), [Some(0), Some(3)]);
        assert_eq!(int(ScalarOp::Max, n(), (-1).into()), Some("n".into()));
        assert_eq!(int(ScalarOp::Div, 7.into(), (-2).into()), Some("-3".into()));
    }

    #[test]
    fn comparisons_are_decided_where_certain_and_else_computed() {
        assert_eq!(int(ScalarOp::Eq, n(), (-1).into()), Some("0".into()));
        let value = |op, b: i64, at: i64| {
            let e = operate(op, &[DType::I64; 2], &[n(), b.into()]).expect("an expression");
            e.eval(&|_| Some(at)).expect("a value")
        };
        for (at, b) in [(0, 0), (0, 3), (3, 3), (4, 3), (9, 3), (2, -2)] {
            assert_eq!(value(ScalarOp::Eq, b, at), i64::from(at == b), "{at} = {b}");
            assert_eq!(value(ScalarOp::Ne, b, at), i64::from(at != b), "{at} != {b}");
            assert_eq!(value(ScalarOp::Lt, b, at), i64::from(at < b), "{at} < {b}");
            assert_eq!(value(ScalarOp::Le, b, at), i64::from(at <= b), "{at} <= {b}");
            assert_eq!(value(ScalarOp::Gt, b, at), i64::from(at > b), "{at} > {b}");
            assert_eq!(value(ScalarOp::Ge, b, at), i64::from(at >= b), "{at} >= {b}");
        }
        assert_eq!(int(ScalarOp::Ge, n(), 0.into()), Some("1".into()));
        assert_eq!(int(ScalarOp::Lt, n(), 0.into()), Some("0".into()));
        assert_eq!(int(ScalarOp::Lt, n(), n() + 1), Some("1".into()));
        let c = compare(ScalarOp::Eq, &n(), &3.into());
        assert_eq!(select(DType::I64, &c, &1.into(), &1.into()), Some(1.into()));
        assert_eq!(select(DType::I8, &c, &1.into(), &2.into()), None);
        let chosen = select(DType::I64, &c, &(n() * 2), &7.into()).expect("an expression");
        assert_eq!([2, 3].map(|at| chosen.eval(&|_| Some(at))), [Some(7), Some(6)]);
    }

    /// `[x[last], x[0], ..]` by data-dependent indices, and then the product of all of `x`.
    static SHUFFLE: OpRow = OpRow::new(
        "TestShuffle",
        None,
        &[one("X"), one("I")],
        |cx| Ok(vec![TensorType::new(DType::I64, [cx.shape(1)?[0].clone() + 1]).into()]),
        Meaning::Movement(|cx, _| {
            let load = |input, e: Expr| Term::load(DType::I64, input, vec![e]);
            let (i, s, k) = (Expr::from(axis(0)), Symbol::new("at"), reduction(0));
            let picked = Term::bind(s, load(1, i.clone()), load(0, s.into()));
            let extent = cx.shape(0)?[0].clone();
            let product = Term::reduce(ReduceOp::Prod, vec![(k, extent)], load(0, k.into()));
            let inside = cx.shape(1)?[0].clone() - 1 - &i;
            Ok(Element { axes: axes(1), body: Term::when(vec![inside], picked, product) })
        }),
    );

    fn node(g: &mut Graph, op: &'static OpRow, inputs: &[Value]) -> Value {
        let inputs = inputs.iter().map(|v| Some(*v)).collect();
        let n = Builder::new(g).node(op, "", inputs, vec![], 1, vec![]).expect("a good node");
        g.nodes[n].outputs[0]
    }

    fn show(g: &Graph, v: Value) -> String {
        format!("{:?}", g.values[v].known.as_deref().expect("known contents"))
    }

    #[test]
    fn contents_travel_through_nodes() {
        let mut g = Graph::new("shapes");
        let x = g.add_input("x", TensorType::new(DType::I64, [2]));
        g.values[x].known = Some([n(), Expr::from(4)].into());
        let i = g.add_constant("", Constant::Data(Tensor::new(&[3], &[1i64, 0, 1])));
        let shuffled = node(&mut g, &SHUFFLE, &[x, i]);
        assert_eq!(show(&g, shuffled), "[4, n, 4, 4*n]");
        let two = g.add_constant("", Constant::Data(Tensor::scalar(DType::I64, Scalar::I(2))));
        let mul = ops::by_name("Mul").expect("a row");
        let doubled = node(&mut g, mul, &[shuffled, two]);
        assert_eq!(show(&g, doubled), "[8, 2*n, 8, 8*n]");
        let unknown = g.add_input("y", TensorType::new(DType::I64, [1]));
        let out = node(&mut g, mul, &[shuffled, unknown]);
        assert!(g.values[out].known.is_none());
    }

    #[test]
    fn constants_fold_through_evaluation() {
        let mut g = Graph::new("constants");
        let c = |g: &mut Graph, v: &[i64]| g.add_constant("", Constant::Data(Tensor::new(&[v.len()], v)));
        let (a, b) = (c(&mut g, &[7, -7, 7]), c(&mut g, &[2]));
        let out = node(&mut g, ops::by_name("Div").expect("a row"), &[a, b]);
        assert_eq!(show(&g, out), "[3, -3, 3]");
    }

    #[test]
    fn large_contents_are_given_up() {
        let many: Expr = (0..30).fold(Expr::ONE, |e, i| e + Expr::named(&format!("d{i}")));
        let mut g = Graph::new("large");
        let x = g.add_input("x", TensorType::new(DType::I64, [1]));
        g.values[x].known = Some([many].into());
        let mul = ops::by_name("Mul").expect("a row");
        let square = node(&mut g, mul, &[x, x]);
        assert!(g.values[square].known.is_none());
    }

    #[test]
    fn narrow_integers_may_wrap() {
        assert_eq!(operate(ScalarOp::Add, &[DType::I8; 2], &[n(), 1.into()]), None);
        assert_eq!(operate(ScalarOp::Cast(DType::I32), &[DType::I64], &[n()]), Some(n()));
        assert_eq!(operate(ScalarOp::Cast(DType::F32), &[DType::I64], &[3.into()]), None);
    }
}
