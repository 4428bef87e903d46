//! NonMaxSuppression: of boxes that overlap those with the best scores.
//!
//! `Suppress` picks the boxes of each class of each batch, best first, into room for as many as there can
//! be; the picks of all classes are then put one behind the other. Overlaps are computed in `f32`,
//! operation by operation, here as in compiled code: what is picked depends on every bit.

use super::choose::{fill, flat, gather_numbers, where_holds};
use super::compose::{Built, Inputs, results};
use super::procedure::{Draft, Procedure, each, int, merge_order, named, symbol};
use super::sort::comes_first;
use super::{EvalCx, Lower, Meaning, OpRow, Port, one, opt};
use crate::attr::{Attr, AttrKind, AttrSpec, Attrs, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::loops::{self, Buf, LoopKind, Val, ValType};
use crate::scalar::{Scalar, ScalarOp as S, apply};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::TensorType;

const CENTER: AttrSpec = AttrSpec::new("center_point_box", AttrKind::Int, Default::Int(0));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[CENTER],
        samples: &[
            "NonMaxSuppression(f32[2,7,4] in 0.0..1.0, f32[2,3,7], i64[1] = [4], f32[1] = [0.3], f32[1] = [0.1])",
            "NonMaxSuppression(f32[1,6,4], f32[1,2,6], i64[] in 1..9, f32[] in 0.0..1.0) {center_point_box = 1}",
            "NonMaxSuppression(f32[1,3,4], f32[1,1,3])",
            "NonMaxSuppression(f32[1,0,4], f32[1,2,0], i64[1] = [3])",
        ],
        ..OpRow::new(
            "NonMaxSuppression",
            Some(("", 11)),
            INPUTS,
            picked_infer,
            Meaning::Composite(picked_build),
        )
    },
    OpRow {
        attrs: &[CENTER],
        eval: Some(suppress_eval),
        checks: Some(suppress_checks),
        samples: &[
            "Suppress(f32[2,7,4], f32[2,3,7], i64[1] = [4], f32[1] = [0.3], f32[1] = [0.1])",
            "Suppress(f32[1,9,4], f32[1,2,9] in 0..3, i64[1] in 1..9, f32[] in 0.0..1.0, _) {center_point_box = 1}",
        ],
        ..OpRow::new(
            "Suppress",
            None,
            SIZED,
            suppress_infer,
            Meaning::Primitive(Lower::Procedure(suppress_procedure)),
        )
    },
];

const INPUTS: &[Port] = &[
    one("boxes"),
    one("scores"),
    opt("max_output_boxes_per_class"),
    opt("iou_threshold"),
    opt("score_threshold"),
];

/// How many are picked at most bears on the size of the result.
const SIZED: &[Port] = &[INPUTS[0], INPUTS[1], INPUTS[2].known(), INPUTS[3], INPUTS[4]];

/// The numbers of batches, of classes and of boxes.
fn sizes(cx: &Cx<'_>) -> Result<[Expr; 3], String> {
    let (boxes, scores) = (cx.ty(0)?, cx.ty(1)?);
    for (i, dtype) in [DType::F32, DType::F32, DType::I64, DType::F32, DType::F32].into_iter().enumerate() {
        if cx.has(i) && cx.dtype(i)? != dtype {
            return Err(format!("input {i} is {}, expected elements of {dtype}", cx.ty(i)?));
        }
        if i > 1 && cx.has(i) && cx.ty(i)?.elements().as_const().is_some_and(|n| n != 1) {
            return Err(format!("input {i} is {}, expected one element", cx.ty(i)?));
        }
    }
    let fits = |a: &Expr, b: &Expr| a.as_const().zip(b.as_const()).is_none_or(|(a, b)| a == b);
    match (&boxes.shape[..], &scores.shape[..]) {
        ([batches, n, four], [b, classes, m])
            if fits(batches, b) && fits(n, m) && four.as_const().is_none_or(|n| n == 4) =>
        {
            Ok([batches.clone(), classes.clone(), n.clone()])
        }
        _ => Err(format!("boxes are {boxes} and scores {scores}, expected [B, N, 4] and [B, C, N]")),
    }
}

fn picked_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    sizes(cx)?;
    Ok(vec![TensorType::new(DType::I64, [(cx.fresh)().into(), Expr::from(3)]).into()])
}

/// Of each pick the batch, the class and the box.
fn picked_build(cx: &Cx<'_>, b: &mut crate::graph::Builder<'_>, inputs: Inputs<'_>) -> Built {
    if inputs.len() < 2 {
        return Ok(None);
    }
    let Attrs(given) = cx.attrs;
    let attrs = given.iter().map(|(n, a)| (*n, a.clone())).collect();
    let picks = results(b, "Suppress", inputs, attrs, 1)?[0];
    let zero = b.constant(Tensor::scalar(DType::I64, Scalar::I(0)));
    let mask = b.op("GreaterOrEqual", &[picks, zero], vec![])?;
    let places = where_holds(b, mask, None)?;
    let shape = b.op("Shape", &[picks], vec![])?;
    let all = b.op("Unravel", &[places, shape], vec![])?;
    let [start, end] = [0, 2].map(|n| b.constant(Tensor::new(&[1], &[n])));
    let class = b.op("Slice", &[all, start, end], vec![])?;
    let picks = flat(b, picks)?;
    let boxes = b.op("Gather", &[picks, places], vec![])?;
    let boxes = b.op("Unsqueeze", &[boxes, start], vec![])?;
    let rows = b.op("Concat", &[class, boxes], vec![("axis", Attr::Int(0))])?;
    Ok(Some(vec![b.op("Transpose", &[rows], vec![])?]))
}

/// For each class of each batch, the numbers of the picked boxes, then -1.
fn suppress_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let [batches, classes, n] = sizes(cx)?;
    let most = match (cx.has(2), cx.known(2)) {
        (false, _) => Expr::ZERO,
        (true, Some([most])) => n.minimum(&most.maximum(&Expr::ZERO)).simplify(&Symbol::range),
        (true, _) => n,
    };
    Ok(vec![TensorType::new(DType::I64, [batches, classes, most]).into()])
}

/// Batches and boxes are as many in the scores, and limits are single numbers.
fn suppress_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let (boxes, scores) = (cx.shape(0)?, cx.shape(1)?);
    let mut differences = vec![&boxes[0] - &scores[0], &boxes[1] - &scores[2], &boxes[2] - 4];
    for i in (2..cx.inputs.len()).filter(|i| cx.has(*i)) {
        differences.push(cx.ty(i)?.elements() - 1);
    }
    Ok(differences.into_iter().filter(|d| *d != 0).flat_map(|d| [-&d, d]).collect())
}

type Loops<'a> = loops::Builder<'a>;

/// Arithmetic in `f32`: numbers, or values of a kernel.
trait Floats {
    type Value: Copy;
    fn op(&mut self, op: S, args: &[Self::Value]) -> Self::Value;
    fn number(&mut self, n: f64) -> Self::Value;
}

struct Numbers;

impl Floats for Numbers {
    type Value = Scalar;

    fn op(&mut self, op: S, args: &[Scalar]) -> Scalar {
        let bools = matches!(args[0], Scalar::B(_));
        apply(op, if bools { DType::Bool } else { DType::F32 }, args)
    }

    fn number(&mut self, n: f64) -> Scalar {
        Scalar::F(n).cast(DType::F32)
    }
}

impl Floats for Loops<'_> {
    type Value = Val;

    fn op(&mut self, op: S, args: &[Val]) -> Val {
        Loops::op(self, op, args)
    }

    fn number(&mut self, n: f64) -> Val {
        Loops::number(self, ValType::scalar(DType::F32), n)
    }
}

/// The corners of a box: the lower and upper bound along each of two axes.
fn corners<F: Floats>(f: &mut F, [a, b, c, d]: [F::Value; 4], center: bool) -> [[F::Value; 2]; 2] {
    if center {
        let half = f.number(0.5);
        return [(a, c), (b, d)].map(|(middle, size)| {
            let reach = f.op(S::Mul, &[size, half]);
            [f.op(S::Sub, &[middle, reach]), f.op(S::Add, &[middle, reach])]
        });
    }
    [(a, c), (b, d)].map(|(p, q)| [f.op(S::Min, &[p, q]), f.op(S::Max, &[p, q])])
}

/// Whether two boxes share more than the given part of what they cover together.
fn overlap<F: Floats>(
    f: &mut F,
    a: [F::Value; 4],
    b: [F::Value; 4],
    limit: F::Value,
    center: bool,
) -> F::Value {
    let (a, b) = (corners(f, a, center), corners(f, b, center));
    let zero = f.number(0.0);
    let area = |f: &mut F, [[l, u], [m, v]]: [[F::Value; 2]; 2]| {
        let (x, y) = (f.op(S::Sub, &[u, l]), f.op(S::Sub, &[v, m]));
        (x, y, f.op(S::Mul, &[x, y]))
    };
    let mut shared = a;
    for ((s, p), q) in shared.iter_mut().zip(a).zip(b) {
        *s = [f.op(S::Max, &[p[0], q[0]]), f.op(S::Min, &[p[1], q[1]])];
    }
    let (x, y, shared) = area(f, shared);
    let (first, second) = (area(f, a).2, area(f, b).2);
    let sum = f.op(S::Add, &[first, second]);
    let union = f.op(S::Sub, &[sum, shared]);
    let part = f.op(S::Div, &[shared, union]);
    let mut holds = f.op(S::Gt, &[part, limit]);
    for size in [x, y, first, second, union] {
        let positive = f.op(S::Gt, &[size, zero]);
        holds = f.op(S::And, &[holds, positive]);
    }
    holds
}

fn suppress_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (boxes, scores) = (e.input(0), e.input(1));
    let shape = e.outputs[0].static_shape().ok_or("a size is not known")?;
    let (classes, n) = (scores.shape()[1], scores.shape()[2]);
    let most = e.get(2).map_or(0, |t| t.get(0).as_i64());
    let limit = e.get(3).map_or(Scalar::F(0.0), |t| t.get(0));
    let center = e.cx.attrs.flag("center_point_box");
    let mut picks = Vec::new();
    for class in 0..shape[0] * classes {
        let score = |i: usize| scores.get(class * n + i).as_f64();
        let corner = |i: usize| [0, 1, 2, 3].map(|k| boxes.get((class / classes * n + i) * 4 + k));
        let wanted = |i: &usize| match e.get(4) {
            Some(t) => score(*i) > t.get(0).as_f64(),
            None => !score(*i).is_nan(),
        };
        let mut order: Vec<usize> = (0..n).filter(wanted).collect();
        order.sort_by(|a, b| score(*b).partial_cmp(&score(*a)).unwrap_or(std::cmp::Ordering::Equal));
        let mut chosen: Vec<usize> = Vec::new();
        for i in order {
            let hit = |j: &usize| overlap(&mut Numbers, corner(i), corner(*j), limit, center).as_bool();
            if (chosen.len() as i64) < most && !chosen.iter().any(hit) {
                chosen.push(i);
            }
        }
        let numbers = chosen.iter().map(|i| *i as i64).chain(std::iter::repeat(-1));
        picks.extend(numbers.take(shape[2]));
    }
    Ok(vec![Tensor::new(&shape, &picks)])
}

/// What the loops of a class work on.
struct Class {
    boxes: Buf,
    /// The batch's first box.
    base: Expr,
    /// The boxes that were picked.
    chosen: Buf,
    /// The part of an overlap that is too much.
    limit: Val,
    center: bool,
}

/// Each class of each batch is a task.
fn suppress_procedure(cx: &Cx<'_>, types: &[TensorType]) -> Result<Procedure, String> {
    let [batches, classes, n] = sizes(cx)?;
    let most = types[0].shape[2].clone();
    let reads: Vec<usize> = (0..5).filter(|i| cx.has(*i)).collect();
    let (mut draft, from, to) = Draft::new(cx, &reads, types)?;
    let order = draft.scratch("order", DType::I64, &n * 2);
    let chosen = draft.scratch("chosen", DType::I64, n.clone());
    let given = |i: usize| reads.iter().position(|r| *r == i).map(|at| from[at]);
    let center = cx.attrs.flag("center_point_box");
    let task = symbol("class");
    Ok(draft.tasks(task, &batches * &classes, |b| {
        let (class, by) = (b.index(task), b.index(classes.clone()));
        let batch = b.op(S::Div, &[class, by]);
        let batch = named(b, "batch", batch);
        let zero = b.number(ValType::scalar(DType::F32), 0.0);
        let limit = given(3).map_or(zero, |f| b.load(f, Expr::ZERO));
        let least = given(4).map(|f| b.load(f, Expr::ZERO));
        let scores = Expr::from(task) * &n;
        let found = gather_numbers(b, &n, order, &|b, i| {
            let score = b.load(from[1], &scores + i);
            match least {
                Some(least) => b.op(S::Gt, &[score, least]),
                None => b.op(S::Eq, &[score, score]),
            }
        });
        let count = named(b, "count", found);
        let sorted = merge_order(b, &count, order, &|b, first, second| {
            let (i, j) = (named(b, "first", first), named(b, "second", second));
            let (first, second) = (b.load(from[1], &scores + i), b.load(from[1], &scores + j));
            comes_first(b, first, second, false)
        });
        let room = b.index(most.clone());
        let allowed = given(2).map(|f| b.load(f, Expr::ZERO)).map_or(room, |m| b.op(S::Min, &[m, room]));
        let c = Class { boxes: from[0], base: batch * &n, chosen, limit, center };
        let kept = c.pick(b, (order, &sorted), &count, allowed);
        let place = Expr::from(task) * &most;
        let picked = named(b, "kept", kept);
        each(b, "pick", picked, |b, i| {
            let number = b.load(chosen, i.clone());
            b.store(to[0], &place + i, number);
        });
        fill(b, (to[0], &place), (kept, &most), -1);
    }))
}

impl Class {
    /// Picks what is not suppressed by what was picked before, as many as are allowed; gives their number.
    fn pick(&self, b: &mut Loops<'_>, (order, sorted): (Buf, &Expr), count: &Expr, allowed: Val) -> Val {
        let (zero, one) = (int(b, 0), int(b, 1));
        let nth = symbol("nth");
        let kept = b.for_(nth, count.clone(), LoopKind::Serial, &[zero], |b, carried| {
            let kept = carried[0];
            let left = b.op(S::Sub, &[allowed, kept]);
            // Of either sign, which the name says.
            let room = Symbol::new("~room");
            b.bind(room, left);
            let pick = |b: &mut Loops<'_>| {
                let item = b.load(order, sorted + Expr::from(nth));
                let number = named(b, "number", item);
                let own = self.corners(b, &number);
                let so_far = named(b, "sofar", kept);
                let hits = self.hits(b, own, &so_far);
                let hit = named(b, "hit", hits);
                b.if_(
                    vec![-&hit],
                    |b| {
                        b.store(self.chosen, so_far.clone(), item);
                        vec![b.op(S::Add, &[kept, one])]
                    },
                    |_| vec![kept],
                )
            };
            b.if_(vec![Expr::from(room) - 1], pick, |_| vec![kept])
        });
        kept[0]
    }

    /// How many of the picked boxes overlap a box too much.
    fn hits(&self, b: &mut Loops<'_>, own: [Val; 4], so_far: &Expr) -> Val {
        let (zero, other) = (int(b, 0), symbol("other"));
        let hits = b.for_(other, so_far.clone(), LoopKind::Serial, &[zero], |b, carried| {
            let number = b.load(self.chosen, other);
            let number = named(b, "chosen", number);
            let corners = self.corners(b, &number);
            let hit = overlap(b, own, corners, self.limit, self.center);
            let hit = b.op(S::Cast(DType::I64), &[hit]);
            vec![b.op(S::Add, &[carried[0], hit])]
        });
        hits[0]
    }

    fn corners(&self, b: &mut Loops<'_>, number: &Expr) -> [Val; 4] {
        [0, 1, 2, 3].map(|k| b.load(self.boxes, (&self.base + number) * 4 + k))
    }
}
