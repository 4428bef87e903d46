//! Recurrent layers: RNN, GRU and LSTM, as scans over time whose gates are one product for each step.
//!
//! What the inputs give to the gates does not depend on the state: it is one product over the whole
//! sequence, before the scan. A sequence that is shorter than the longest leaves the state as it is
//! beyond its end, and its results there are zero; backwards, it begins at its own end.

use super::Tolerance::LargestOrOne;
use super::compose::{Built, Inputs, cast, operand};
use super::rules::{self, FLOAT};
use super::{Meaning, OpRow, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, RegionData, Value};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

const fn attr(name: &'static str, kind: AttrKind, default: Default) -> AttrSpec {
    AttrSpec::new(name, kind, default)
}

// What the layers have in common.
const ALPHA: AttrSpec = attr("activation_alpha", AttrKind::Floats, Default::Absent);
const BETA: AttrSpec = attr("activation_beta", AttrKind::Floats, Default::Absent);
const ACTIVATIONS: AttrSpec = attr("activations", AttrKind::Strs, Default::Absent);
const CLIP: AttrSpec = attr("clip", AttrKind::Float, Default::Absent);
const DIRECTION: AttrSpec = attr("direction", AttrKind::Str, Default::Str("forward"));
const HIDDEN_SIZE: AttrSpec = attr("hidden_size", AttrKind::Int, Default::Absent);
const LAYOUT: AttrSpec = attr("layout", AttrKind::Int, Default::Int(0));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        outputs: (1, 2),
        attrs: &[ALPHA, BETA, ACTIVATIONS, CLIP, DIRECTION, HIDDEN_SIZE, LAYOUT],
        tolerance: LargestOrOne(32.0),
        samples: &[
            "RNN(f32[3,2,4], f32[1,5,4], f32[1,5,5]) -> 2",
            "RNN(f32[3,2,4], f32[2,5,4], f32[2,5,5], f32[2,10], i32[2] = [3, 1], f32[2,2,5]) \
             {direction = \"bidirectional\", clip = 0.5, activations = [\"Relu\", \"Sigmoid\"]} -> 2",
        ],
        ..OpRow::new(
            "RNN",
            Some(("", 22)),
            &[one("X"), one("W"), one("R"), opt("B"), opt("sequence_lens"), opt("initial_h")],
            |cx| infer(cx, 1),
            Meaning::Composite(|cx, b, inputs| layer(cx, b, inputs, &RNN)),
        )
    },
    OpRow {
        outputs: (1, 2),
        attrs: &[
            ALPHA,
            BETA,
            ACTIVATIONS,
            CLIP,
            DIRECTION,
            HIDDEN_SIZE,
            LAYOUT,
            attr("linear_before_reset", AttrKind::Int, Default::Int(0)),
        ],
        tolerance: LargestOrOne(32.0),
        samples: &[
            "GRU(f32[3,2,4], f32[1,15,4], f32[1,15,5]) -> 2",
            "GRU(f32[3,2,4], f32[1,15,4], f32[1,15,5], f32[1,30], i32[2] = [1, 3]) \
             {linear_before_reset = 1, direction = \"reverse\"} -> 2",
        ],
        ..OpRow::new(
            "GRU",
            Some(("", 22)),
            &[one("X"), one("W"), one("R"), opt("B"), opt("sequence_lens"), opt("initial_h")],
            |cx| infer(cx, 3),
            Meaning::Composite(|cx, b, inputs| layer(cx, b, inputs, &GRU)),
        )
    },
    OpRow {
        outputs: (1, 3),
        attrs: &[
            ALPHA,
            BETA,
            ACTIVATIONS,
            CLIP,
            DIRECTION,
            HIDDEN_SIZE,
            attr("input_forget", AttrKind::Int, Default::Int(0)),
            LAYOUT,
        ],
        tolerance: LargestOrOne(32.0),
        samples: &[
            "LSTM(f32[3,2,4], f32[1,20,4], f32[1,20,5]) -> 3",
            "LSTM(f32[2,3,4], f32[1,20,4], f32[1,20,5], f32[1,40], _, f32[2,1,5], f32[2,1,5], f32[1,15]) \
             {layout = 1, input_forget = 1} -> 3",
        ],
        ..OpRow::new(
            "LSTM",
            Some(("", 22)),
            &[
                one("X"),
                one("W"),
                one("R"),
                opt("B"),
                opt("sequence_lens"),
                opt("initial_h"),
                opt("initial_c"),
                opt("P"),
            ],
            |cx| infer(cx, 4),
            Meaning::Composite(|cx, b, inputs| layer(cx, b, inputs, &LSTM)),
        )
    },
];

/// What tells the layers apart.
struct Kind {
    gates: i64,
    /// How many states there are: the hidden one, and an LSTM's cell.
    states: usize,
    /// The activations of a direction where none are given.
    activations: &'static [&'static str],
    cell: fn(&mut Step<'_, '_, '_>) -> Result<Vec<Value>, String>,
}

const RNN: Kind = Kind { gates: 1, states: 1, activations: &["Tanh"], cell: rnn };
const GRU: Kind = Kind { gates: 3, states: 1, activations: &["Sigmoid", "Tanh"], cell: gru };
const LSTM: Kind = Kind { gates: 4, states: 2, activations: &["Sigmoid", "Tanh", "Tanh"], cell: lstm };

/// Which directions a layer runs in: for each whether backwards.
fn directions(cx: &Cx<'_>) -> Result<&'static [bool], String> {
    match cx.attrs.str("direction") {
        Some("forward") => Ok(&[false]),
        Some("reverse") => Ok(&[true]),
        Some("bidirectional") => Ok(&[false, true]),
        other => Err(format!("direction is {other:?}, expected forward, reverse or bidirectional")),
    }
}

/// `[X's length, its batch, hidden size]`
fn sizes(cx: &Cx<'_>, gates: i64) -> Result<[Expr; 3], String> {
    let n = directions(cx)?.len() as i64;
    let (x, w, r) = (cx.shape(0)?, cx.shape(1)?, cx.shape(2)?);
    let ([a, b, input], [d, g, i], [e, h, hidden]) = (x, w, r) else {
        return Err("X, W and R must have three dimensions each".to_owned());
    };
    let is = |d: &Expr, n: &Expr| d == n || d.as_const().is_none() || n.as_const().is_none();
    let gated = hidden * gates;
    if ![(d, &n.into()), (e, &n.into()), (g, &gated), (h, &gated), (i, input)].iter().all(|(a, b)| is(a, b)) {
        let shown: Vec<String> = [x, w, r].iter().map(|s| rules::show(s)).collect();
        return Err(format!(
            "X, W and R have shapes {}, expected [length, batch, I], [{n}, {gates} * H, I], [{n}, {gates} * H, H]",
            shown.join(", ")
        ));
    }
    let (length, batch) = if cx.attrs.flag("layout") { (b, a) } else { (a, b) };
    Ok([length.clone(), batch.clone(), hidden.clone()])
}

fn infer(cx: &Cx<'_>, gates: i64) -> Result<Vec<Info>, String> {
    let dtype = cx.dtype(0)?;
    rules::expect("input 0 (X)", dtype, FLOAT)?;
    for i in [1, 2, 3, 5, 6, 7].into_iter().filter(|i| cx.has(*i)) {
        if cx.dtype(i)? != dtype {
            return Err(format!("input {i} has elements of {}, expected {dtype}", cx.dtype(i)?));
        }
    }
    let [length, batch, hidden] = sizes(cx, gates)?;
    let n = Expr::from(directions(cx)?.len());
    let (all, last) = match cx.attrs.flag("layout") {
        true => (vec![batch.clone(), length, n.clone(), hidden.clone()], [batch, n, hidden]),
        false => (vec![length, n.clone(), batch.clone(), hidden.clone()], [n, batch, hidden]),
    };
    let mut infos = vec![TensorType::new(dtype, all).into()];
    infos.extend((1..cx.outputs).map(|_| TensorType::new(dtype, last.clone()).into()));
    Ok(infos)
}

/// The name of an activation, and its constants alpha and beta where they are given.
type Activation = (String, Option<f64>, Option<f64>);

/// A step of the scan while its nodes are added.
struct Step<'a, 'b, 'c> {
    cx: &'a Cx<'c>,
    b: &'a mut Builder<'b>,
    /// What the inputs give to the gates, `[batch, gates * hidden]`.
    gates: Value,
    /// The states, `[batch, hidden]`.
    states: Vec<Value>,
    /// `[hidden, gates * hidden]`
    r: Value,
    /// What is added to the products with the state, where it cannot be added before.
    rb: Option<Value>,
    peepholes: Option<Value>,
    /// The hidden size, one element.
    hidden: Value,
    /// The activations of this direction: names, and their two constants.
    activations: Vec<Activation>,
}

impl Step<'_, '_, '_> {
    fn op(&mut self, op: &str, inputs: &[Value]) -> Result<Value, String> {
        self.b.op(op, inputs, vec![])
    }

    fn number(&mut self, v: f64) -> Result<Value, String> {
        let dtype = self.b.ty(self.gates)?.dtype;
        Ok(self.b.constant(Tensor::scalar(dtype, Scalar::F(v))))
    }

    /// Columns `from..to` of as many hidden sizes.
    fn columns(&mut self, v: Value, from: i64, to: i64) -> Result<Value, String> {
        columns(self.b, v, -1, self.hidden, [from, to])
    }

    /// The activation of that number of a gate's sum.
    fn activate(&mut self, which: usize, mut x: Value) -> Result<Value, String> {
        if let Some(limit) = self.cx.attrs.float("clip").filter(|c| *c > 0.0) {
            let (low, high) = (self.number(-limit)?, self.number(limit)?);
            x = self.op("Clip", &[x, low, high])?;
        }
        let (name, alpha, beta) = self.activations[which].clone();
        let with = |names: &[(&'static str, Option<f64>)]| -> Vec<(&'static str, Attr)> {
            names.iter().filter_map(|(n, v)| Some((*n, Attr::Float((*v)?)))).collect()
        };
        match name.to_ascii_lowercase().as_str() {
            "sigmoid" => self.op("Sigmoid", &[x]),
            "tanh" => self.op("Tanh", &[x]),
            "relu" => self.op("Relu", &[x]),
            "softsign" => self.op("Softsign", &[x]),
            "softplus" => self.op("Softplus", &[x]),
            "elu" => self.b.op("Elu", &[x], with(&[("alpha", alpha)])),
            "leakyrelu" => self.b.op("LeakyRelu", &[x], with(&[("alpha", alpha)])),
            "thresholdedrelu" => self.b.op("ThresholdedRelu", &[x], with(&[("alpha", alpha)])),
            "hardsigmoid" => self.b.op("HardSigmoid", &[x], with(&[("alpha", alpha), ("beta", beta)])),
            "affine" => {
                let (a, b) = (self.number(alpha.unwrap_or(1.0))?, self.number(beta.unwrap_or(0.0))?);
                let scaled = self.op("Mul", &[x, a])?;
                self.op("Add", &[scaled, b])
            }
            "scaledtanh" => {
                let (a, b) = (self.number(alpha.unwrap_or(1.0))?, self.number(beta.unwrap_or(1.0))?);
                let inside = self.op("Mul", &[x, b])?;
                let tanh = self.op("Tanh", &[inside])?;
                self.op("Mul", &[tanh, a])
            }
            _ => Err(format!("there is no activation {name}")),
        }
    }

    /// The gates' sums of the hidden state.
    fn sums(&mut self) -> Result<Value, String> {
        let product = self.op("MatMul", &[self.states[0], self.r])?;
        self.op("Add", &[self.gates, product])
    }
}

fn rnn(s: &mut Step<'_, '_, '_>) -> Result<Vec<Value>, String> {
    let sums = s.sums()?;
    Ok(vec![s.activate(0, sums)?])
}

fn gru(s: &mut Step<'_, '_, '_>) -> Result<Vec<Value>, String> {
    let h = s.states[0];
    let last = s.columns(s.gates, 2, 3)?;
    let (zr, candidate) = if s.cx.attrs.flag("linear_before_reset") {
        let product = s.op("MatMul", &[h, s.r])?;
        let (first, inner) = (s.columns(s.gates, 0, 2)?, s.columns(product, 0, 2)?);
        let zr = s.op("Add", &[first, inner])?;
        let zr = s.activate(0, zr)?;
        let r = s.columns(zr, 1, 2)?;
        let mut own = s.columns(product, 2, 3)?;
        if let Some(rb) = s.rb {
            own = s.op("Add", &[own, rb])?;
        }
        let own = s.op("Mul", &[r, own])?;
        (zr, s.op("Add", &[last, own])?)
    } else {
        let (weights, others) = (s.columns(s.r, 0, 2)?, s.columns(s.r, 2, 3)?);
        let product = s.op("MatMul", &[h, weights])?;
        let first = s.columns(s.gates, 0, 2)?;
        let zr = s.op("Add", &[first, product])?;
        let zr = s.activate(0, zr)?;
        let r = s.columns(zr, 1, 2)?;
        let kept = s.op("Mul", &[r, h])?;
        let own = s.op("MatMul", &[kept, others])?;
        (zr, s.op("Add", &[last, own])?)
    };
    let candidate = s.activate(1, candidate)?;
    let z = s.columns(zr, 0, 1)?;
    // `(1 - z) * candidate + z * h`
    let one = s.number(1.0)?;
    let rest = s.op("Sub", &[one, z])?;
    let (new, old) = (s.op("Mul", &[rest, candidate])?, s.op("Mul", &[z, h])?);
    Ok(vec![s.op("Add", &[new, old])?])
}

fn lstm(s: &mut Step<'_, '_, '_>) -> Result<Vec<Value>, String> {
    let c = s.states[1];
    let sums = s.sums()?;
    // In the order of the weights: input, output, forget, cell.
    let peep = |s: &mut Step<'_, '_, '_>, gate: Value, which: i64, c: Value| -> Result<Value, String> {
        let Some(p) = s.peepholes else { return Ok(gate) };
        let p = s.columns(p, which, which + 1)?;
        let seen = s.op("Mul", &[p, c])?;
        s.op("Add", &[gate, seen])
    };
    let input = s.columns(sums, 0, 1)?;
    let input = peep(s, input, 0, c)?;
    let input = s.activate(0, input)?;
    let forget = if s.cx.attrs.flag("input_forget") {
        let one = s.number(1.0)?;
        s.op("Sub", &[one, input])?
    } else {
        let forget = s.columns(sums, 2, 3)?;
        let forget = peep(s, forget, 2, c)?;
        s.activate(0, forget)?
    };
    let candidate = s.columns(sums, 3, 4)?;
    let candidate = s.activate(1, candidate)?;
    let (kept, new) = (s.op("Mul", &[forget, c])?, s.op("Mul", &[input, candidate])?);
    let c = s.op("Add", &[kept, new])?;
    let output = s.columns(sums, 1, 2)?;
    let output = peep(s, output, 1, c)?;
    let output = s.activate(0, output)?;
    let shown = s.activate_plain(2, c)?;
    Ok(vec![s.op("Mul", &[output, shown])?, c])
}

impl Step<'_, '_, '_> {
    /// [`Step::activate`] of what is no gate's sum, which is not clipped.
    fn activate_plain(&mut self, which: usize, x: Value) -> Result<Value, String> {
        let mut attrs = self.cx.attrs.clone();
        attrs.0.retain(|(n, _)| *n != "clip");
        let cx = Cx { attrs: &attrs, ..*self.cx };
        let mut plain = Step {
            cx: &cx,
            b: &mut *self.b,
            states: Vec::new(),
            activations: self.activations.clone(),
            ..*self
        };
        plain.activate(which, x)
    }
}

/// Elements from one multiple of a size to another along an axis.
fn columns(
    b: &mut Builder<'_>,
    v: Value,
    axis: i64,
    size: Value,
    [from, to]: [i64; 2],
) -> Result<Value, String> {
    let [from, to, axis] = [from, to, axis].map(|i| axes_constant(b, &[i]));
    let (from, to) = (b.op("Mul", &[size, from], vec![])?, b.op("Mul", &[size, to], vec![])?);
    b.op("Slice", &[v, from, to, axis], vec![])
}

fn axes_constant(b: &mut Builder<'_>, axes: &[i64]) -> Value {
    b.constant(Tensor::new(&[axes.len()], axes))
}

/// A direction's part of an operand whose first dimension is the direction's.
fn of_direction(b: &mut Builder<'_>, v: Value, d: usize) -> Result<Value, String> {
    let one = axes_constant(b, &[1]);
    let part = columns(b, v, 0, one, [d as i64, d as i64 + 1])?;
    let axes = axes_constant(b, &[0]);
    b.op("Squeeze", &[part, axes], vec![])
}

fn transposed(b: &mut Builder<'_>, v: Value, perm: &[i64]) -> Result<Value, String> {
    b.op("Transpose", &[v], vec![("perm", Attr::Ints(perm.to_vec()))])
}

/// The activations of a direction, with their constants: lists of those that take any.
fn activations(cx: &Cx<'_>, kind: &Kind, d: usize) -> Result<Vec<Activation>, String> {
    let n = kind.activations.len();
    let given = cx.attrs.strs("activations").map(<[String]>::to_vec).unwrap_or_default();
    let names: Vec<String> = match given.len() {
        0 => kind.activations.iter().map(|a| (*a).to_owned()).collect(),
        len if len >= (d + 1) * n => given[d * n..(d + 1) * n].to_vec(),
        len => return Err(format!("activations are {len}, expected {n} for each direction")),
    };
    let constant = |name: &str, i: usize| cx.attrs.floats(name).and_then(|f| f.get(d * n + i)).copied();
    let all = names.into_iter().enumerate();
    Ok(all.map(|(i, a)| (a, constant("activation_alpha", i), constant("activation_beta", i))).collect())
}

/// A layer: its directions side by side.
fn layer(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>, kind: &Kind) -> Built {
    sizes(cx, kind.gates)?;
    let first = operand(inputs, 0).ok_or("input 0 (X) is missing")?;
    let dtype = b.ty(first)?.dtype;
    let wide = dtype.accumulator();
    let by_batch = cx.attrs.flag("layout");
    let x = cast(b, first, wide)?;
    let x = if by_batch { transposed(b, x, &[1, 0, 2])? } else { x };
    let weights = operand(inputs, 2).ok_or("input 2 (R) is missing")?;
    let hidden = b.op("Shape", &[weights], vec![("start", Attr::Int(2))])?;
    let mut rows = Vec::new();
    let mut lasts: Vec<Vec<Value>> = vec![Vec::new(); kind.states];
    for (d, backwards) in directions(cx)?.iter().enumerate() {
        let side = Side { cx, inputs, kind, d, backwards: *backwards, hidden, x, wide, by_batch };
        let mut results = side.build(b)?;
        let all = results.pop().ok_or("a scan without results")?;
        let axis = axes_constant(b, &[1]);
        rows.push(b.op("Unsqueeze", &[all, axis], vec![])?);
        for (to, v) in lasts.iter_mut().zip(results) {
            let axis = axes_constant(b, &[0]);
            to.push(b.op("Unsqueeze", &[v, axis], vec![])?);
        }
    }
    let y = b.op("Concat", &rows, vec![("axis", Attr::Int(1))])?;
    let y = if by_batch { transposed(b, y, &[2, 0, 1, 3])? } else { y };
    let mut results = vec![cast(b, y, dtype)?];
    for last in lasts {
        let v = b.op("Concat", &last, vec![("axis", Attr::Int(0))])?;
        let v = if by_batch { transposed(b, v, &[1, 0, 2])? } else { v };
        results.push(cast(b, v, dtype)?);
    }
    results.truncate(cx.outputs);
    Ok(Some(results))
}

/// One direction of a layer.
struct Side<'a, 'c> {
    cx: &'a Cx<'c>,
    inputs: Inputs<'a>,
    kind: &'a Kind,
    d: usize,
    backwards: bool,
    /// The hidden size, one element.
    hidden: Value,
    /// `[length, batch, inputs]`
    x: Value,
    wide: DType,
    by_batch: bool,
}

impl Side<'_, '_> {
    /// The direction's part of an operand.
    fn part(&self, b: &mut Builder<'_>, i: usize) -> Result<Option<Value>, String> {
        let Some(v) = operand(self.inputs, i) else { return Ok(None) };
        let v = cast(b, v, self.wide)?;
        of_direction(b, v, self.d).map(Some)
    }

    /// What a state begins with.
    fn initial(&self, b: &mut Builder<'_>, i: usize) -> Result<Value, String> {
        if let Some(v) = operand(self.inputs, i) {
            let v = cast(b, v, self.wide)?;
            let v = if self.by_batch { transposed(b, v, &[1, 0, 2])? } else { v };
            return of_direction(b, v, self.d);
        }
        let batch = b.op("Shape", &[self.x], vec![("start", Attr::Int(1)), ("end", Attr::Int(2))])?;
        let shape = b.op("Concat", &[batch, self.hidden], vec![("axis", Attr::Int(0))])?;
        self.zeros(b, shape)
    }

    fn zeros(&self, b: &mut Builder<'_>, shape: Value) -> Result<Value, String> {
        let zero = Tensor::scalar(self.wide, Scalar::F(0.0)).reshaped(&[1]);
        b.op("ConstantOfShape", &[shape], vec![("value", Attr::Tensor(zero))])
    }

    /// The last states, and the hidden states of all steps.
    fn build(&self, b: &mut Builder<'_>) -> Result<Vec<Value>, String> {
        let n = self.kind.gates;
        let part =
            |b: &mut Builder<'_>, v: Value, from: i64, to: i64| columns(b, v, 0, self.hidden, [from, to]);
        let w = self.part(b, 1)?.ok_or("input 1 (W) is missing")?;
        let r = self.part(b, 2)?.ok_or("input 2 (R) is missing")?;
        let (w, r) = (transposed(b, w, &[1, 0])?, transposed(b, r, &[1, 0])?);
        let mut gates = b.op("MatMul", &[self.x, w], vec![])?;
        let mut rb = None;
        if let Some(bias) = self.part(b, 3)? {
            let (of_inputs, mut of_state) = (part(b, bias, 0, n)?, part(b, bias, n, 2 * n)?);
            gates = b.op("Add", &[gates, of_inputs], vec![])?;
            if self.cx.attrs.flag("linear_before_reset") {
                // The last gate's goes into what is reset.
                rb = Some(part(b, of_state, n - 1, n)?);
                let zero = self.zeros(b, self.hidden)?;
                let rest = part(b, of_state, 0, n - 1)?;
                of_state = b.op("Concat", &[rest, zero], vec![("axis", Attr::Int(0))])?;
            }
            gates = b.op("Add", &[gates, of_state], vec![])?;
        }
        let peepholes = self.part(b, 7)?;
        let states: Vec<Value> =
            (0..self.kind.states).map(|i| self.initial(b, 5 + i)).collect::<Result<_, _>>()?;
        let mut scanned = vec![gates];
        let lengths = match operand(self.inputs, 4) {
            Some(lengths) => {
                scanned.push(self.steps(b)?);
                let lengths = cast(b, lengths, DType::I64)?;
                let axis = axes_constant(b, &[1]);
                Some(b.op("Unsqueeze", &[lengths, axis], vec![])?)
            }
            None => None,
        };
        let activations = activations(self.cx, self.kind, self.d)?;
        scan(b, &states, &scanned, self.backwards, |b, params| {
            let (now, row) = params.split_at(states.len());
            let (cx, hidden) = (self.cx, self.hidden);
            let mut step = Step {
                cx,
                b: &mut *b,
                gates: row[0],
                states: now.to_vec(),
                r,
                rb,
                peepholes,
                hidden,
                activations: activations.clone(),
            };
            let mut next = (self.kind.cell)(&mut step)?;
            let mut shown = next[0];
            if let Some(lengths) = lengths {
                let inside = b.op("Less", &[row[1], lengths], vec![])?;
                for (new, old) in next.iter_mut().zip(now) {
                    *new = b.op("Where", &[inside, *new, *old], vec![])?;
                }
                let zero = b.constant(Tensor::scalar(self.wide, Scalar::F(0.0)));
                shown = b.op("Where", &[inside, next[0], zero], vec![])?;
            }
            Ok((next, shown))
        })
    }

    /// The numbers of the steps, `[length]`.
    fn steps(&self, b: &mut Builder<'_>) -> Result<Value, String> {
        let length = b.op("Shape", &[self.x], vec![("start", Attr::Int(0)), ("end", Attr::Int(1))])?;
        let axes = axes_constant(b, &[0]);
        let length = b.op("Squeeze", &[length, axes], vec![])?;
        let [zero, one] = [0, 1].map(|v| b.constant(Tensor::scalar(DType::I64, Scalar::I(v))));
        b.op("Range", &[zero, length, one], vec![])
    }
}

/// A scan over rows: gives the last states, and then what each step shows.
fn scan(
    b: &mut Builder<'_>,
    states: &[Value],
    scanned: &[Value],
    backwards: bool,
    body: impl FnOnce(&mut Builder<'_>, &[Value]) -> Result<(Vec<Value>, Value), String>,
) -> Result<Vec<Value>, String> {
    let region = b.graph.regions.push(RegionData::default());
    let mut params = Vec::new();
    for v in states {
        let ty = b.ty(*v)?.clone();
        params.push(b.graph.add_param(region, "", ty));
    }
    for v in scanned {
        let mut ty = b.ty(*v)?.clone();
        ty.shape.remove(0);
        params.push(b.graph.add_param(region, "", ty));
    }
    let mut inner = Builder { graph: &mut *b.graph, region };
    let (next, shown) = body(&mut inner, &params)?;
    let mut results = Vec::new();
    for (new, old) in next.into_iter().zip(&params) {
        results.push(like(&mut inner, new, *old)?);
    }
    results.push(shown);
    let outputs = results.len();
    b.graph.regions[region].results = results;
    let direction = i64::from(backwards);
    let attrs = vec![
        ("num_scan_inputs".to_owned(), Attr::Int(scanned.len() as i64)),
        ("scan_input_directions".to_owned(), Attr::Ints(vec![direction; scanned.len()])),
        ("scan_output_directions".to_owned(), Attr::Ints(vec![direction])),
    ];
    let inputs = states.iter().chain(scanned).map(|v| Some(*v)).collect();
    let row = super::by_name("Scan").ok_or("there is no op Scan")?;
    let node = b.node(row, "", inputs, attrs, outputs, vec![region])?;
    Ok(b.graph.nodes[node].outputs.clone())
}

/// A value under the shape of another that has as many elements.
fn like(b: &mut Builder<'_>, v: Value, other: Value) -> Result<Value, String> {
    if b.ty(v)?.shape == b.ty(other)?.shape {
        return Ok(v);
    }
    let shape = b.op("Shape", &[other], vec![])?;
    b.op("Reshape", &[v, shape], vec![("allowzero", Attr::Int(1))])
}
