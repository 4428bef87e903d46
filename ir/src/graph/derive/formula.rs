//! Derivatives of pointwise ops: their scalar expression as nodes, walked backwards.
//!
//! At a jump (of Floor, or where a comparison changes) the derivative is taken to be that of the side on
//! which the point lies; where Min and Max tie, the first operand counts. The absolute value of zero has
//! the derivative 0.

use super::super::{Builder, NodeData, Value};
use crate::attr::Attr;
use crate::dtype::DType;
use crate::element::{Term, TermKind};
use crate::graph::infer::Cx;
use crate::scalar::{Scalar, ScalarOp as S};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// The gradients of the operands of a pointwise node, of those that are wanted.
pub(super) fn pointwise(
    b: &mut Builder<'_>,
    node: &NodeData,
    terms: fn(&Cx<'_>, &[Term]) -> Term,
    gradient: Value,
    wanted: &[bool],
) -> Result<Vec<Option<Value>>, String> {
    let mut loads = Vec::new();
    for (i, v) in node.inputs.iter().enumerate() {
        if let Some(v) = v {
            loads.push(Term::load(b.ty(*v)?.dtype, i, Vec::new()));
        }
    }
    let body = b.with_node(node, |_, cx| Ok(terms(cx, &loads)))?;
    let mut f = Formula {
        b,
        node,
        wanted,
        values: HashMap::new(),
        order: Vec::new(),
        depending: HashSet::new(),
        seen: HashSet::new(),
    };
    f.visit(&body);
    let mut gradients: HashMap<usize, Value> = HashMap::from([(body.key(), gradient)]);
    let mut found = vec![None; node.inputs.len()];
    for t in std::mem::take(&mut f.order).iter().rev() {
        let Some(g) = gradients.get(&t.key()).copied() else { continue };
        match t.kind() {
            TermKind::Load { input, .. } => found[*input] = Some(g),
            TermKind::Op(op, args) => {
                for (arg, g) in args.iter().zip(f.handed_on(*op, t, args, g)?) {
                    let Some(g) = g.filter(|_| f.depending.contains(&arg.key())) else { continue };
                    let sum = match gradients.get(&arg.key()) {
                        Some(before) => f.op("Add", &[*before, g])?,
                        None => g,
                    };
                    gradients.insert(arg.key(), sum);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

struct Formula<'a, 'b> {
    b: &'a mut Builder<'b>,
    node: &'a NodeData,
    wanted: &'a [bool],
    /// What terms were computed, by their keys.
    values: HashMap<usize, Value>,
    /// The float terms that depend on operands whose gradient is wanted, each after those that it reads.
    order: Vec<Term>,
    /// Their keys.
    depending: HashSet<usize>,
    seen: HashSet<usize>,
}

impl Formula<'_, '_> {
    /// Whether a term depends on an operand whose gradient is wanted.
    fn visit(&mut self, t: &Term) -> bool {
        if !self.seen.insert(t.key()) {
            return self.depending.contains(&t.key());
        }
        let depends = match t.kind() {
            TermKind::Load { input, .. } => self.wanted[*input],
            TermKind::Op(_, args) => args.iter().fold(false, |any, a| self.visit(a) || any),
            _ => false,
        };
        let counts = depends && t.dtype().is_float();
        if counts {
            self.order.push(t.clone());
            self.depending.insert(t.key());
        }
        counts
    }

    fn op(&mut self, op: &str, args: &[Value]) -> Result<Value, String> {
        self.b.op(op, args, vec![])
    }

    fn number(&mut self, dtype: DType, v: f64) -> Value {
        self.b.constant(Tensor::scalar(dtype, Scalar::F(v)))
    }

    /// The value of a term.
    fn value(&mut self, t: &Term) -> Result<Value, String> {
        if let Some(v) = self.values.get(&t.key()) {
            return Ok(*v);
        }
        let v = match t.kind() {
            TermKind::Load { input, .. } => self.node.inputs[*input].ok_or("an absent operand is read")?,
            TermKind::Const(c) => self.b.constant(Tensor::scalar(t.dtype(), *c)),
            TermKind::Op(op, args) => {
                let args: Vec<Value> = args.iter().map(|a| self.value(a)).collect::<Result<_, _>>()?;
                self.applied(*op, t.dtype(), &args)?
            }
            _ => return Err("its derivative is not known".to_owned()),
        };
        self.values.insert(t.key(), v);
        Ok(v)
    }

    /// A scalar operation as nodes.
    fn applied(&mut self, op: S, dtype: DType, args: &[Value]) -> Result<Value, String> {
        let logical = dtype == DType::Bool;
        let name = match op {
            S::Cast(to) => return self.b.op("Cast", args, vec![("to", Attr::DType(to))]),
            S::Rem => return self.b.op("Mod", args, vec![("fmod", Attr::Int(1))]),
            S::MulAdd | S::Fma => {
                let product = self.op("Mul", &args[..2])?;
                return self.op("Add", &[product, args[2]]);
            }
            S::Ne => {
                let equal = self.op("Equal", args)?;
                return self.op("Not", &[equal]);
            }
            S::Trunc => {
                let zero = self.number(dtype, 0.0);
                let below = self.op("Less", &[args[0], zero])?;
                let sides = [self.op("Ceil", args)?, self.op("Floor", args)?];
                return self.op("Where", &[below, sides[0], sides[1]]);
            }
            S::Neg => "Neg",
            S::Abs => "Abs",
            S::Not => "Not",
            S::Sqrt => "Sqrt",
            S::Floor => "Floor",
            S::Ceil => "Ceil",
            S::Round => "Round",
            S::Exp => "Exp",
            S::Log => "Log",
            S::Sin => "Sin",
            S::Cos => "Cos",
            S::Tan => "Tan",
            S::Asin => "Asin",
            S::Acos => "Acos",
            S::Atan => "Atan",
            S::Sinh => "Sinh",
            S::Cosh => "Cosh",
            S::Tanh => "Tanh",
            S::Asinh => "Asinh",
            S::Acosh => "Acosh",
            S::Atanh => "Atanh",
            S::Erf => "Erf",
            S::IsNan => "IsNaN",
            S::Add => "Add",
            S::Sub => "Sub",
            S::Mul => "Mul",
            S::Div => "Div",
            S::Mod => "Mod",
            S::Min => "Min",
            S::Max => "Max",
            S::Pow => "Pow",
            S::And if logical => "And",
            S::Or if logical => "Or",
            S::Xor if logical => "Xor",
            S::Eq => "Equal",
            S::Lt => "Less",
            S::Le => "LessOrEqual",
            S::Gt => "Greater",
            S::Ge => "GreaterOrEqual",
            S::Select => "Where",
            other => return Err(format!("the derivative of {} is not known", other.name())),
        };
        self.op(name, args)
    }

    /// What an operation hands on of its gradient to each of its operands.
    fn handed_on(
        &mut self,
        op: S,
        whole: &Term,
        args: &[Term],
        g: Value,
    ) -> Result<Vec<Option<Value>>, String> {
        let two = |a, b| Ok(vec![Some(a), Some(b)]);
        match op {
            S::Add => two(g, g),
            S::Sub => two(g, self.op("Neg", &[g])?),
            S::Mul => {
                let (a, b) = (self.value(&args[0])?, self.value(&args[1])?);
                two(self.op("Mul", &[g, b])?, self.op("Mul", &[g, a])?)
            }
            S::Div => {
                let (b, quotient) = (self.value(&args[1])?, self.value(whole)?);
                let first = self.op("Div", &[g, b])?;
                let product = self.op("Mul", &[first, quotient])?;
                two(first, self.op("Neg", &[product])?)
            }
            S::MulAdd | S::Fma => {
                let (a, b) = (self.value(&args[0])?, self.value(&args[1])?);
                Ok(vec![Some(self.op("Mul", &[g, b])?), Some(self.op("Mul", &[g, a])?), Some(g)])
            }
            S::Pow => self.of_power(whole, args, g),
            S::Rem | S::Mod => {
                // The remainder is `a - n b` with an integer `n`.
                let [a, b, rest] = [self.value(&args[0])?, self.value(&args[1])?, self.value(whole)?];
                let multiple = self.op("Sub", &[rest, a])?;
                let times = self.op("Div", &[multiple, b])?;
                two(g, self.op("Mul", &[g, times])?)
            }
            S::Min | S::Max => {
                let (a, b) = (self.value(&args[0])?, self.value(&args[1])?);
                let first = self.op(if op == S::Min { "LessOrEqual" } else { "GreaterOrEqual" }, &[a, b])?;
                self.either(first, whole.dtype(), g, 0)
            }
            S::Select => {
                let chosen = self.value(&args[0])?;
                self.either(chosen, whole.dtype(), g, 1)
            }
            S::Cast(_) if args[0].dtype().is_float() => {
                Ok(vec![Some(self.b.op("Cast", &[g], vec![("to", Attr::DType(args[0].dtype()))])?)])
            }
            _ => Ok(vec![match args {
                [x] => self.slope(op, whole, x)?.map(|s| self.op("Mul", &[g, s])).transpose()?,
                _ => None,
            }]),
        }
    }

    /// The gradient for one of two operands, and zero for the other, after so many that get none.
    fn either(
        &mut self,
        first: Value,
        dtype: DType,
        g: Value,
        before: usize,
    ) -> Result<Vec<Option<Value>>, String> {
        let zero = self.number(dtype, 0.0);
        let (a, b) = (self.op("Where", &[first, g, zero])?, self.op("Where", &[first, zero, g])?);
        Ok([vec![None; before], vec![Some(a), Some(b)]].concat())
    }

    /// `d(a^b) = b a^(b - 1) da + log(a) a^b db`, where the base of what is zero has no logarithm.
    fn of_power(&mut self, whole: &Term, args: &[Term], g: Value) -> Result<Vec<Option<Value>>, String> {
        let [a, b] = [self.value(&args[0])?, self.value(&args[1])?];
        let exponent = args[1].dtype();
        let one = self.b.constant(Tensor::from_scalars(exponent, &[], [Scalar::F(1.0)]));
        let less = self.op("Sub", &[b, one])?;
        let power = self.op("Pow", &[a, less])?;
        let factor = self.b.op("Cast", &[b], vec![("to", Attr::DType(args[0].dtype()))])?;
        let slope = self.op("Mul", &[factor, power])?;
        let first = self.op("Mul", &[g, slope])?;
        if !self.depending.contains(&args[1].key()) {
            return Ok(vec![Some(first), None]);
        }
        let (log, power) = (self.op("Log", &[a])?, self.value(whole)?);
        let slope = self.op("Mul", &[log, power])?;
        let zero = self.number(args[0].dtype(), 0.0);
        let none = self.op("Equal", &[power, zero])?;
        let slope = self.op("Where", &[none, zero, slope])?;
        Ok(vec![Some(first), Some(self.op("Mul", &[g, slope])?)])
    }

    /// The derivative of a function of one operand; `None` where it is zero.
    fn slope(&mut self, op: S, whole: &Term, x: &Term) -> Result<Option<Value>, String> {
        let dtype = whole.dtype();
        let one = self.number(dtype, 1.0);
        // `1 / sqrt(sign x^2 + c)`
        let root = |f: &mut Self, sign: f64, c: f64| {
            let v = f.value(x)?;
            let (sign, c) = (f.number(dtype, sign), f.number(dtype, c));
            let square = f.op("Mul", &[v, v])?;
            let square = f.op("Mul", &[square, sign])?;
            let sum = f.op("Add", &[square, c])?;
            let root = f.op("Sqrt", &[sum])?;
            f.op("Reciprocal", &[root])
        };
        Ok(Some(match op {
            S::Neg => self.number(dtype, -1.0),
            S::Abs => {
                let v = self.value(x)?;
                self.op("Sign", &[v])?
            }
            S::Sqrt => {
                let (half, v) = (self.number(dtype, 0.5), self.value(whole)?);
                self.op("Div", &[half, v])?
            }
            S::Exp => self.value(whole)?,
            S::Log => {
                let v = self.value(x)?;
                self.op("Reciprocal", &[v])?
            }
            S::Sin | S::Sinh | S::Cosh => {
                let v = self.value(x)?;
                self.op(
                    if op == S::Sin {
                        "Cos"
                    } else if op == S::Sinh {
                        "Cosh"
                    } else {
                        "Sinh"
                    },
                    &[v],
                )?
            }
            S::Cos => {
                let v = self.value(x)?;
                let sine = self.op("Sin", &[v])?;
                self.op("Neg", &[sine])?
            }
            S::Tan | S::Tanh => {
                let v = self.value(whole)?;
                let square = self.op("Mul", &[v, v])?;
                self.op(if op == S::Tan { "Add" } else { "Sub" }, &[one, square])?
            }
            S::Asin => root(self, -1.0, 1.0)?,
            S::Acos => {
                let slope = root(self, -1.0, 1.0)?;
                self.op("Neg", &[slope])?
            }
            S::Asinh => root(self, 1.0, 1.0)?,
            S::Acosh => root(self, 1.0, -1.0)?,
            S::Atan | S::Atanh => {
                let v = self.value(x)?;
                let square = self.op("Mul", &[v, v])?;
                let sum = self.op(if op == S::Atan { "Add" } else { "Sub" }, &[one, square])?;
                self.op("Reciprocal", &[sum])?
            }
            S::Erf => {
                let v = self.value(x)?;
                let square = self.op("Mul", &[v, v])?;
                let least = self.op("Neg", &[square])?;
                let power = self.op("Exp", &[least])?;
                let factor = self.number(dtype, std::f64::consts::FRAC_2_SQRT_PI);
                self.op("Mul", &[power, factor])?
            }
            S::Floor | S::Ceil | S::Trunc | S::Round | S::IsNan | S::Not | S::Cast(_) => return Ok(None),
            other => return Err(format!("the derivative of {} is not known", other.name())),
        }))
    }
}
