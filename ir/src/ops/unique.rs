//! Unique: the distinct elements of a tensor, or its distinct slices along an axis.
//!
//! Elements are compared as numbers, or as texts, NaN being equal to itself and above all others; slices in the order
//! of their first elements that differ. `Distinct` sorts the numbers of the items and tells where each kind
//! occurs first; the rest is gathered.

use super::choose::{fill, flat};
use super::compose::{Built, Inputs, operand, results};
use super::procedure::{Draft, Procedure, int, merge_sort, named, symbol};
use super::rules;
use super::sort::comes_first;
use super::{EvalCx, Lower, Meaning, OpRow, one};
use crate::attr::{Attr, AttrKind, AttrSpec, Attrs, Default};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::loops::{self, Buf, LoopKind, Val};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::symbol::Symbol;
use crate::tensor::Tensor;
use crate::types::TensorType;
use std::cmp::Ordering;

const AXIS: AttrSpec = AttrSpec::new("axis", AttrKind::Int, Default::Absent);
const SORTED: AttrSpec = AttrSpec::new("sorted", AttrKind::Int, Default::Int(1));

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        outputs: (1, 4),
        attrs: &[AXIS, SORTED],
        samples: &[
            "Unique(f32[9] in -2..2) -> 4",
            "Unique(i64[3,4] in 0..3) {sorted = 0} -> 4",
            "Unique(i8[5,2] in 0..2) {axis = 0} -> 4",
            "Unique(f16[2,6,2] in 0..2) {axis = -2, sorted = 0} -> 4",
            "Unique(f64[7] = [nan, 1.0, -0.0, nan, 0.0, -inf, 1.0]) -> 4",
            "Unique(bool[6])",
            "Unique(text[9]) -> 4",
            "Unique(text[2,5]) {axis = 1, sorted = 0} -> 4",
            "Unique(u64[0]) -> 4",
        ],
        ..OpRow::new("Unique", Some(("", 11)), &[one("X")], unique_infer, Meaning::Composite(unique_build))
    },
    OpRow {
        outputs: (4, 4),
        attrs: &[AXIS, SORTED],
        eval: Some(distinct_eval),
        samples: &[
            "Distinct(i32[12] in 0..5) -> 4",
            "Distinct(f32[12] in -2..2) {sorted = 0} -> 4",
            "Distinct(f32[2,9,2] in 0..2) {axis = 1} -> 4",
            "Distinct(bf16[7,0]) {axis = 0, sorted = 0} -> 4",
        ],
        ..OpRow::new(
            "Distinct",
            None,
            &[one("X")],
            distinct_infer,
            Meaning::Primitive(Lower::Procedure(distinct_procedure)),
        )
    },
];

fn unique_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let x = cx.ty(0)?;
    rules::expect("input 0 (X)", x.dtype, rules::COMPARED)?;
    let n = Items::of(cx)?.count;
    let size: Expr = (cx.fresh)().into();
    let mut shape = vec![size.clone()];
    if let Some(axis) = cx.attrs.int("axis") {
        shape = x.shape.clone();
        shape[cx.axis(axis, x.rank())?] = size.clone();
    }
    let numbers = [size.clone(), n, size].map(|n| TensorType::new(DType::I64, [n]));
    let types = [TensorType::new(x.dtype, shape)].into_iter().chain(numbers);
    Ok(types.take(cx.outputs).map(Info::from).collect())
}

fn unique_build(cx: &Cx<'_>, b: &mut crate::graph::Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let Attrs(given) = cx.attrs;
    let attrs = given.iter().map(|(n, a)| (*n, a.clone())).collect();
    // Kinds of texts are in the order of texts, which their numbers do not tell.
    let compared = if cx.dtype(0)? == DType::Text { b.op("TextRank", &[x], vec![])? } else { x };
    let found = results(b, "Distinct", &[Some(compared)], attrs, 4)?;
    let first = b.op("First", &[found[0], found[3]], vec![])?;
    let (x, axis) = match cx.attrs.int("axis") {
        None => (flat(b, x)?, 0),
        Some(axis) => (x, axis),
    };
    let y = b.op("Gather", &[x, first], vec![("axis", Attr::Int(axis))])?;
    let counts = b.op("First", &[found[2], found[3]], vec![])?;
    Ok(Some([y, first, found[1], counts].into_iter().take(cx.outputs).collect()))
}

/// What is compared with one another: elements, or slices along an axis.
struct Items {
    /// How many there are.
    count: Expr,
    /// The elements of one: so many runs of so many that lie side by side.
    runs: Expr,
    run: Expr,
}

impl Items {
    fn of(cx: &Cx<'_>) -> Result<Items, String> {
        let x = cx.ty(0)?;
        let Some(axis) = cx.attrs.int("axis") else {
            return Ok(Items { count: x.elements(), runs: Expr::ONE, run: Expr::ONE });
        };
        let axis = cx.axis(axis, x.rank())?;
        let (runs, run) = (Expr::product(&x.shape[..axis]), Expr::product(&x.shape[axis + 1..]));
        Ok(Items { count: x.shape[axis].clone(), runs, run })
    }
}

/// The number of the first item of each kind; the kind of each item; how many items each kind has; and how
/// many kinds there are. What is behind the last kind is zero.
fn distinct_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0 (X)", cx.dtype(0)?, rules::COMPUTED)?;
    let n = Items::of(cx)?.count;
    Ok([n.clone(), n.clone(), n, Expr::ONE].map(|n| TensorType::new(DType::I64, [n]).into()).into())
}

fn compare(a: Scalar, b: Scalar) -> Ordering {
    match (a, b) {
        (Scalar::F(a), Scalar::F(b)) => a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (Scalar::U(a), Scalar::U(b)) => a.cmp(&b),
        (a, b) => a.as_i64().cmp(&b.as_i64()),
    }
}

fn distinct_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let (x, items) = (e.input(0), Items::of(e.cx)?);
    let size = |e: &Expr| e.as_const().map(|n| n as usize).ok_or("a size is not known");
    let (n, runs, run) = (size(&items.count)?, size(&items.runs)?, size(&items.run)?);
    let all: Vec<Vec<Scalar>> =
        (0..n).map(|i| (0..runs * run).map(|k| x.get((k / run * n + i) * run + k % run)).collect()).collect();
    let order = |a: usize, b: usize| {
        let pairs = all[a].iter().zip(&all[b]).map(|(a, b)| compare(*a, *b));
        pairs.fold(Ordering::Equal, Ordering::then)
    };
    let equal = |a: usize, b: usize| order(a, b) == Ordering::Equal;
    let mut first: Vec<usize> = (0..n).filter(|i| !(0..*i).any(|j| equal(j, *i))).collect();
    if e.cx.attrs.flag("sorted") {
        first.sort_by(|a, b| order(*a, *b));
    }
    let kind = |i: usize| first.iter().position(|f| equal(*f, i)).unwrap_or(0) as i64;
    let kinds: Vec<i64> = (0..n).map(kind).collect();
    let counts = (0..first.len()).map(|k| kinds.iter().filter(|kind| **kind == k as i64).count() as i64);
    let filled = |numbers: Vec<i64>| {
        let rest = n - numbers.len();
        Tensor::new(&[n], &numbers.into_iter().chain(std::iter::repeat_n(0, rest)).collect::<Vec<_>>())
    };
    let number = Tensor::new(&[1], &[first.len() as i64]);
    let counts = filled(counts.collect());
    Ok(vec![filled(first.iter().map(|i| *i as i64).collect()), filled(kinds), counts, number])
}

type Loops<'a> = loops::Builder<'a>;

impl Items {
    /// 1 where the second of two items comes before the first one, -1 where it comes behind it, and 0 where
    /// they are equal.
    fn order(&self, b: &mut Loops<'_>, x: Buf, first: Val, second: Val) -> Val {
        let (first, second) = (named(b, "first", first), named(b, "second", second));
        let one = |b: &mut Loops<'_>, outer: &Expr, inner: &Expr| {
            let place = |i: &Expr| (outer * &self.count + i) * &self.run + inner;
            let (first, second) = (b.load(x, place(&first)), b.load(x, place(&second)));
            let (before, behind) = (comes_first(b, first, second, true), comes_first(b, second, first, true));
            let (more, less, same) = (int(b, 1), int(b, -1), int(b, 0));
            let rest = b.op(S::Select, &[behind, less, same]);
            b.op(S::Select, &[before, more, rest])
        };
        if self.runs == 1 && self.run == 1 {
            return one(b, &Expr::ZERO, &Expr::ZERO);
        }
        let (zero, outer, inner) = (int(b, 0), symbol("outer"), symbol("inner"));
        let undecided = |b: &mut Loops<'_>, so_far: Val| {
            // Of either sign, which the name says.
            let order = Symbol::new("~order");
            b.bind(order, so_far);
            vec![Expr::from(order), -&Expr::from(order)]
        };
        let found = b.for_(outer, self.runs.clone(), LoopKind::Serial, &[zero], |b, carried| {
            b.for_(inner, self.run.clone(), LoopKind::Serial, carried, |b, carried| {
                let so_far = carried[0];
                let open = undecided(b, so_far);
                b.if_(open, |b| vec![one(b, &outer.into(), &inner.into())], |_| vec![so_far])
            })
        });
        found[0]
    }
}

/// Where the procedure's results lie.
struct Written {
    first: Buf,
    kinds: Buf,
    counts: Buf,
}

fn distinct_procedure(cx: &Cx<'_>, types: &[TensorType]) -> Result<Procedure, String> {
    let items = Items::of(cx)?;
    let n = items.count.clone();
    let (mut draft, from, to) = Draft::new(cx, &[0], types)?;
    let order = draft.scratch("order", DType::I64, &n * 2);
    let written = Written { first: to[0], kinds: to[1], counts: to[2] };
    let sorted = cx.attrs.flag("sorted");
    let notes = match sorted {
        true => None,
        false => Some(["leads", "sizes", "ranks"].map(|name| draft.scratch(name, DType::I64, n.clone()))),
    };
    Ok(draft.tasks(symbol("task"), Expr::ONE, |b| {
        let start = merge_sort(b, &n, order, &|b, first, second| {
            let (order, one) = (items.order(b, from[0], first, second), int(b, 1));
            b.op(S::Eq, &[order, one])
        });
        let number = match notes {
            None => kinds_in_order(b, &items, from[0], (order, &start), &written, true),
            Some([leads, sizes, ranks]) => {
                let noted = Written { first: ranks, kinds: leads, counts: sizes };
                kinds_in_order(b, &items, from[0], (order, &start), &noted, false);
                kinds_as_they_come(b, &n, &noted, &written)
            }
        };
        fill(b, (written.first, &Expr::ZERO), (number, &n), 0);
        fill(b, (written.counts, &Expr::ZERO), (number, &n), 0);
        b.store(to[3], Expr::ZERO, number);
    }))
}

/// Goes over the sorted items, and gives the number of kinds. Kinds are numbered as they come or, where
/// they are not to be `numbered`, by their first items.
fn kinds_in_order(
    b: &mut Loops<'_>,
    items: &Items,
    x: Buf,
    (order, start): (Buf, &Expr),
    to: &Written,
    numbered: bool,
) -> Val {
    let (zero, one, none) = (int(b, 0), int(b, 1), int(b, -1));
    let nth = symbol("nth");
    // The kind, its first item, and how many of it there were; at the start there was none.
    let found = b.for_(nth, items.count.clone(), LoopKind::Serial, &[none, zero, zero], |b, carried| {
        let [kind, lead, count] = [carried[0], carried[1], carried[2]];
        let item = b.load(order, start + Expr::from(nth));
        let differs = items.order(b, x, lead, item);
        let differs = b.op(S::Ne, &[differs, zero]);
        let none_yet = b.op(S::Eq, &[count, zero]);
        let new = b.op(S::Or, &[differs, none_yet]);
        let (next, more) = (b.op(S::Add, &[kind, one]), b.op(S::Add, &[count, one]));
        let kind = b.op(S::Select, &[new, next, kind]);
        let lead = b.op(S::Select, &[new, item, lead]);
        let count = b.op(S::Select, &[new, one, more]);
        let number = if numbered { kind } else { lead };
        let (place, at) = (named(b, "kind", number), named(b, "item", item));
        b.store(to.first, place.clone(), lead);
        b.store(to.counts, place, count);
        b.store(to.kinds, at, number);
        vec![kind, lead, count]
    });
    b.op(S::Add, &[found[0], one])
}

/// Numbers kinds in the order in which they occur first, and gives their number.
fn kinds_as_they_come(b: &mut Loops<'_>, n: &Expr, noted: &Written, to: &Written) -> Val {
    let (zero, one) = (int(b, 0), int(b, 1));
    let item = symbol("item");
    let found = b.for_(item, n.clone(), LoopKind::Serial, &[zero], |b, carried| {
        let number = carried[0];
        let lead = b.load(noted.kinds, item);
        let lead = named(b, "lead", lead);
        let next = b.if_(
            vec![&lead - Expr::from(item)],
            |b| {
                let (place, own) = (named(b, "kind", number), b.index(item));
                let size = b.load(noted.counts, item);
                b.store(to.first, place.clone(), own);
                b.store(to.counts, place, size);
                b.store(noted.first, item, number);
                vec![b.op(S::Add, &[number, one])]
            },
            |_| vec![number],
        );
        let kind = b.load(noted.first, lead);
        b.store(to.kinds, item, kind);
        next
    });
    found[0]
}
