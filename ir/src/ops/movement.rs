//! Movement: results whose elements are operands' elements, or a fill value, at other places.
//!
//! Each op is defined by index arithmetic alone; shapes, offsets and counts may be expressions.

use super::axes::Axes;
use super::contract::shared;
use super::gradient;
use super::rules::{self, ANY, indices};
use super::shape::{numbers, read_sizes, size, target};
use super::{Meaning, OpRow, many, one, opt};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::scalar::{Scalar, ScalarOp};
use crate::symbol::Symbol;
use crate::types::TensorType;

const fn required(name: &'static str) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Required)
}

const fn int(name: &'static str, default: i64) -> AttrSpec {
    AttrSpec::new(name, AttrKind::Int, Default::Int(default))
}

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        grad: Some(gradient::passed),
        checks: Some(expand_checks),
        samples: &[
            "Expand(f32[3,1], i64[3] = [2, 1, 4])",
            "Expand(i8[], i64[2] = [2, 3])",
            "Expand(f16[2,3], i64[1] = [1])",
        ],
        ..OpRow::new(
            "Expand",
            Some(("", 13)),
            &[one("input"), one("shape").known()],
            expand_infer,
            Meaning::Movement(expand_element),
        )
    },
    OpRow {
        grad: Some(gradient::transpose),
        attrs: &[AttrSpec::new("perm", AttrKind::Ints, Default::Absent)],
        samples: &[
            "Transpose(f32[3,5])",
            "Transpose(i16[2,3,4]) {perm = [1, 2, 0]}",
            "Transpose(f64[0,3,1])",
        ],
        ..OpRow::new(
            "Transpose",
            Some(("", 25)),
            &[one("data")],
            transpose_infer,
            Meaning::Movement(transpose_element),
        )
    },
    OpRow {
        grad: Some(gradient::concat),
        attrs: &[required("axis")],
        samples: &[
            "Concat(f32[2,3], f32[2,1], f32[2,0]) {axis = 1}",
            "Concat(i64[3]) {axis = 0}",
            "Concat(bool[1,2,2], bool[3,2,2]) {axis = -3}",
        ],
        ..OpRow::new(
            "Concat",
            Some(("", 13)),
            &[many("inputs")],
            concat_infer,
            Meaning::Movement(concat_element),
        )
    },
    OpRow {
        outputs: (1, usize::MAX),
        attrs: &[int("axis", 0), AttrSpec::new("num_outputs", AttrKind::Int, Default::Absent)],
        checks: Some(split_checks),
        samples: &[
            "Split(f32[7,2]) {num_outputs = 3} -> 3",
            "Split(i32[2,6], i64[2] = [4, 2]) {axis = 1} -> 2",
            "Split(f16[4]) {num_outputs = 2} -> 2",
        ],
        ..OpRow::new(
            "Split",
            Some(("", 18)),
            &[one("input"), opt("split").known()],
            split_infer,
            Meaning::Movement(split_element),
        )
    },
    OpRow {
        checks: Some(|cx| Ok(read_sizes(cx, 1))),
        samples: &[
            "Tile(f32[2,3], i64[2] = [2, 1])",
            "Tile(i8[3], i64[1] = [4])",
            "Tile(f64[2,2], i64[2] = [0, 3])",
        ],
        ..OpRow::new(
            "Tile",
            Some(("", 13)),
            &[one("input"), one("repeats").known()],
            tile_infer,
            Meaning::Movement(tile_element),
        )
    },
    OpRow {
        attrs: &[AttrSpec::new("mode", AttrKind::Str, Default::Str("constant"))],
        checks: Some(pad_checks),
        samples: &[
            "Pad(f32[2,3], i64[4] = [1, 0, 2, 3], f32[])",
            "Pad(i32[4], i64[2] = [-1, 2])",
            "Pad(f32[3,4], i64[4] = [1, 5, 2, 1]) {mode = \"reflect\"}",
            "Pad(f16[3,4], i64[2] = [3, 1], _, i64[1] = [-1]) {mode = \"edge\"}",
            "Pad(f64[3,2], i64[4] = [1, 3, 2, 1]) {mode = \"wrap\"}",
            "Pad(f32[4,3,2], i64[2] in 0..4, f32[], i64[1] in -3..3)",
            "Pad(u8[4,3], i64[2] in -1..3, _, i32[1] in -2..2) {mode = \"edge\"}",
        ],
        ..OpRow::new(
            "Pad",
            Some(("", 25)),
            &[one("data"), one("pads").known(), opt("constant_value"), opt("axes").known()],
            pad_infer,
            Meaning::Movement(pad_element),
        )
    },
    OpRow {
        attrs: &[required("blocksize"), AttrSpec::new("mode", AttrKind::Str, Default::Str("DCR"))],
        samples: &[
            "DepthToSpace(f32[1,8,2,3]) {blocksize = 2}",
            "DepthToSpace(i8[2,9,1,2]) {blocksize = 3, mode = \"CRD\"}",
        ],
        ..OpRow::new(
            "DepthToSpace",
            Some(("", 28)),
            &[one("input")],
            depth_to_space_infer,
            Meaning::Movement(depth_to_space_element),
        )
    },
    OpRow {
        attrs: &[required("blocksize"), AttrSpec::new("mode", AttrKind::Str, Default::Str("DCR"))],
        samples: &[
            "SpaceToDepth(f32[1,2,4,6]) {blocksize = 2}",
            "SpaceToDepth(i8[2,3,2,2]) {blocksize = 2, mode = \"CRD\"}",
        ],
        ..OpRow::new(
            "SpaceToDepth",
            Some(("", 28)),
            &[one("input")],
            space_to_depth_infer,
            Meaning::Movement(space_to_depth_element),
        )
    },
    OpRow {
        attrs: &[int("upper", 1)],
        samples: &[
            "Trilu(f32[4,3])",
            "Trilu(i64[2,3,3], i64[] = -1) {upper = 0}",
            "Trilu(bool[3,4], i64[] = 2)",
        ],
        ..OpRow::new(
            "Trilu",
            Some(("", 14)),
            &[one("input"), opt("k")],
            trilu_infer,
            Meaning::Movement(trilu_element),
        )
    },
    OpRow {
        attrs: &[int("batch_axis", 1), int("time_axis", 0)],
        samples: &[
            "ReverseSequence(f32[4,3], i64[3] in 1..5)",
            "ReverseSequence(i32[2,5,2], i64[2] in 0..6) {batch_axis = 0, time_axis = 1}",
        ],
        ..OpRow::new(
            "ReverseSequence",
            Some(("", 28)),
            &[one("input"), one("sequence_lens")],
            reverse_sequence_infer,
            Meaning::Movement(reverse_sequence_element),
        )
    },
];

/// One result of the first operand's type.
fn shaped(cx: &Cx<'_>, shape: Vec<Expr>) -> Result<Vec<Info>, String> {
    Ok(vec![TensorType::new(cx.dtype(0)?, shape).into()])
}

/// The first operand's element at an index, as the element at `axes`.
fn moved(cx: &Cx<'_>, axes: Vec<Symbol>, index: Vec<Expr>) -> Result<Element, String> {
    Ok(Element { axes, body: Term::load(cx.dtype(0)?, 0, index) })
}

fn expand_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let shape = rules::broadcast_shapes(cx.shape(0)?, &target(cx, 1, "shape")?)?;
    shaped(cx, shape)
}

/// Both the operand and the target broadcast to the result.
fn expand_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let (from, target) = (cx.shape(0)?, target(cx, 1, "shape")?);
    let to = rules::broadcast_shapes(from, &target)?;
    let both = [from, &target].into_iter().flat_map(|s| rules::broadcasts(s, &to));
    Ok(both.chain(read_sizes(cx, 1)).collect())
}

fn expand_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let from = cx.shape(0)?;
    let to = rules::broadcast_shapes(from, &target(cx, 1, "shape")?)?;
    let (axes, index) = indices(to.len());
    moved(cx, axes, rules::broadcast_index(from, &to, &index))
}

/// The permutation of Transpose: result dimension `i` is the operand's dimension `perm[i]`.
fn permutation(cx: &Cx<'_>) -> Result<Vec<usize>, String> {
    let rank = cx.shape(0)?.len();
    let Some(perm) = cx.attrs.ints("perm") else { return Ok((0..rank).rev().collect()) };
    let places = perm.iter().map(|p| cx.axis(*p, rank)).collect::<Result<Vec<_>, _>>()?;
    match places.len() == rank && rules::normal_axes(cx, perm, rank).is_ok() {
        true => Ok(places),
        false => Err(format!("perm is {perm:?}, expected each of {rank} axes once")),
    }
}

fn transpose_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let shape = cx.shape(0)?;
    shaped(cx, permutation(cx)?.into_iter().map(|p| shape[p].clone()).collect())
}

fn transpose_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let perm = permutation(cx)?;
    let (axes, index) = indices(perm.len());
    let mut from = index.clone();
    perm.into_iter().zip(index).for_each(|(p, i)| from[p] = i);
    moved(cx, axes, from)
}

fn concat_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::one_dtype(cx)?;
    let mut shape = cx.shape(0)?.to_vec();
    let axis = cx.axis(cx.int("axis"), shape.len())?;
    for i in 1..cx.inputs.len() {
        let other = cx.shape(i)?;
        let clash = |e: String| {
            let (a, b) = (rules::show(&shape), rules::show(other));
            format!("{e}: input {i} has shape {b}, expected {a} but for axis {axis}")
        };
        if other.len() != shape.len() {
            return Err(clash("the ranks differ".into()));
        }
        let dim = |(d, (a, b)): (usize, (&Expr, &Expr))| match d == axis {
            true => Ok(a + b),
            false => shared(a, b, "dimensions").map_err(&clash),
        };
        shape = shape.iter().zip(other).enumerate().map(dim).collect::<Result<_, _>>()?;
    }
    shaped(cx, shape)
}

fn concat_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let rank = cx.shape(0)?.len();
    let axis = cx.axis(cx.int("axis"), rank)?;
    let (axes, index) = indices(rank);
    let mut parts = Vec::new();
    let mut start = Expr::ZERO;
    for i in 0..cx.inputs.len() {
        let size = &cx.shape(i)?[axis];
        let mut from = index.clone();
        from[axis] = &index[axis] - &start;
        start = start + size;
        if *size != 0 {
            parts.push((start.clone(), Term::load(cx.dtype(0)?, i, from)));
        }
    }
    let Some((_, mut body)) = parts.pop() else {
        return Ok(Element { axes, body: Term::constant(cx.dtype(0)?, Scalar::I(0)) });
    };
    for (end, part) in parts.into_iter().rev() {
        body = Term::when(vec![end - 1 - &index[axis]], part, body);
    }
    Ok(Element { axes, body })
}

/// The axis of Split and the sizes of its results.
fn split_sizes(cx: &Cx<'_>) -> Result<(usize, Vec<Expr>), String> {
    let shape = cx.shape(0)?;
    let axis = cx.axis(cx.int("axis"), shape.len())?;
    let (whole, n) = (&shape[axis], cx.outputs as i64);
    if cx.has(1) {
        let sizes = target(cx, 1, "split")?;
        let sum = sizes.iter().fold(Expr::ZERO, |s, x| s + x);
        shared(&sum, whole, "the sum of split and the dimension")?;
        return match sizes.len() == cx.outputs && sizes.iter().all(|s| s.as_const().is_none_or(|s| s >= 0)) {
            true => Ok((axis, sizes)),
            false => Err(format!("split is {}, expected {n} sizes of 0 or more", rules::show(&sizes))),
        };
    }
    if let Some(given) = cx.attrs.int("num_outputs").filter(|g| *g != n) {
        return Err(format!("num_outputs is {given}, but the node has {n} results"));
    }
    let part = whole.ceil_div(&n.into());
    let last = whole - &(&part * (n - 1));
    if last.as_const().is_some_and(|l| l < 0) {
        return Err(format!("axis {axis} has {whole} elements, which {n} results cannot share"));
    }
    let mut sizes = vec![part; cx.outputs - 1];
    sizes.push(last);
    Ok((axis, sizes))
}

fn split_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (axis, sizes) = split_sizes(cx)?;
    let part = |size: Expr| {
        let mut shape = cx.shape(0)?.to_vec();
        shape[axis] = size;
        Ok(TensorType::new(cx.dtype(0)?, shape).into())
    };
    sizes.into_iter().map(part).collect()
}

/// Sizes that are read from data must be those of all there is.
fn split_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let (axis, sizes) = split_sizes(cx)?;
    let left = sizes.iter().fold(cx.shape(0)?[axis].clone(), |left, size| left - size);
    Ok(read_sizes(cx, 1).into_iter().chain([-&left, left]).collect())
}

fn split_element(cx: &Cx<'_>, output: usize) -> Result<Element, String> {
    if cx.has(1) && cx.known(1).is_none() {
        return Err("the sizes depend on data, so that an element's place is not known".into());
    }
    let (axis, sizes) = split_sizes(cx)?;
    let (axes, mut index) = indices(cx.shape(0)?.len());
    index[axis] = sizes[..output].iter().fold(index[axis].clone(), |i, size| i + size);
    moved(cx, axes, index)
}

fn repeats(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let (repeats, rank) = (target(cx, 1, "repeats")?, cx.shape(0)?.len());
    match repeats.len() == rank && repeats.iter().all(|r| r.as_const().is_none_or(|r| r >= 0)) {
        true => Ok(repeats),
        false => Err(format!("repeats are {}, expected {rank} of 0 or more", rules::show(&repeats))),
    }
}

fn tile_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let repeats = repeats(cx)?;
    shaped(cx, cx.shape(0)?.iter().zip(&repeats).map(|(d, r)| d * r).collect())
}

fn tile_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (shape, repeats) = (cx.shape(0)?, repeats(cx)?);
    let (axes, mut index) = indices(shape.len());
    for ((i, d), r) in index.iter_mut().zip(shape).zip(repeats) {
        *i = match (r == 1, *d == 1) {
            (true, _) => i.clone(),
            (_, true) => Expr::ZERO,
            _ => i.modulo(d),
        };
    }
    moved(cx, axes, index)
}

/// The axes that Pad pads.
fn padded_axes(cx: &Cx<'_>) -> Result<Axes, String> {
    let rank = cx.shape(0)?.len();
    Ok(Axes::of(cx, 3, "axes", rank)?.unwrap_or_else(|| Axes::first(rank, rank)))
}

/// The padding before and after each dimension.
fn pads(cx: &Cx<'_>) -> Result<Vec<(Expr, Expr)>, String> {
    let axes = padded_axes(cx)?;
    let (pads, n) = (numbers(cx, 1, "pads")?, axes.len());
    if pads.len() != 2 * n {
        return Err(format!("pads are {}, expected {} of them", rules::show(&pads), 2 * n));
    }
    let of = |i| {
        let side = |first: usize| axes.choose(i, |axis| pads[first + axis].clone(), &Expr::ZERO);
        (side(0), side(n))
    };
    Ok((0..cx.shape(0)?.len()).map(of).collect())
}

/// No more is taken away than there is, and where elements are repeated there are some.
fn pad_checks(cx: &Cx<'_>) -> Result<Vec<Expr>, String> {
    let repeats = cx.attrs.str("mode") != Some("constant");
    let mut all = padded_axes(cx)?.checks();
    for (d, (before, after)) in cx.shape(0)?.iter().zip(pads(cx)?) {
        if repeats && d.as_const().is_none_or(|d| d == 0) {
            let grows = before.maximum(&Expr::ZERO) + after.maximum(&Expr::ZERO);
            all.push(-&(d.is_zero() * grows));
        }
        all.push(before + d + after);
    }
    Ok(all)
}

fn pad_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let shape: Vec<Expr> = cx.shape(0)?.iter().zip(pads(cx)?).map(|(d, (b, a))| size(&(b + d + a))).collect();
    if let Some(d) = shape.iter().find(|d| d.as_const().is_some_and(|d| d < 0)) {
        return Err(format!("padding leaves a dimension of {d} elements"));
    }
    if cx.has(2) && cx.dtype(2)? != cx.dtype(0)? {
        return Err(format!("input 2 has elements of {}, expected {}", cx.dtype(2)?, cx.dtype(0)?));
    }
    match cx.attrs.str("mode") {
        Some("constant" | "reflect" | "edge" | "wrap") => shaped(cx, shape),
        other => Err(format!("mode is {other:?}, expected constant, reflect, edge or wrap")),
    }
}

/// `at`, reflected at the ends of `0..dim` without repeating them, as often as it takes.
fn reflected(at: &Expr, dim: &Expr) -> Expr {
    let period = ((dim - 1) * 2).maximum(&Expr::ONE);
    let at = at.modulo(&period);
    at.minimum(&(period - &at))
}

fn pad_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    if cx.known(1).is_none() {
        return Err("the padding depends on data, so that an element's place is not known".into());
    }
    let (dtype, shape) = (cx.dtype(0)?, cx.shape(0)?);
    let (axes, mut index) = indices(shape.len());
    let mut inside = Vec::new();
    for ((i, dim), (before, after)) in index.iter_mut().zip(shape).zip(pads(cx)?) {
        let grows = |pad: &Expr| pad.bounds(&Symbol::range).hi.is_none_or(|hi| hi > 0);
        let at = &*i - &before;
        *i = match cx.attrs.str("mode") {
            _ if !grows(&before) && !grows(&after) => at,
            Some("reflect") => reflected(&at, dim),
            Some("edge") => at.minimum(&(dim - 1)).maximum(&Expr::ZERO),
            Some("wrap") => at.modulo(dim),
            _ => {
                inside.extend(grows(&before).then(|| at.clone()));
                inside.extend(grows(&after).then(|| dim - 1 - &at));
                at
            }
        };
    }
    let fill = match cx.has(2) {
        true => Term::load(dtype, 2, vec![Expr::ZERO; cx.shape(2)?.len()]),
        false => Term::constant(dtype, Scalar::I(0)),
    };
    Ok(Element { axes, body: Term::when(inside, Term::load(dtype, 0, index), fill) })
}

/// The block size, and whether blocks come before channels in the depth ("DCR").
fn blocks(cx: &Cx<'_>) -> Result<(i64, bool, [Expr; 4]), String> {
    let shape = cx.shape(0)?;
    let [n, c, h, w] = shape else {
        return Err(format!("input 0 has shape {}, expected [N, C, H, W]", rules::show(shape)));
    };
    let size = cx.int("blocksize");
    if !(1..=1 << 15).contains(&size) {
        return Err(format!("blocksize is {size}, expected 1 or more"));
    }
    let first = match cx.attrs.str("mode") {
        Some("DCR") => true,
        Some("CRD") => false,
        other => return Err(format!("mode is {other:?}, expected DCR or CRD")),
    };
    Ok((size, first, [n.clone(), c.clone(), h.clone(), w.clone()]))
}

/// The quotient of a dimension by a block; an error where it does not divide.
fn divided(d: &Expr, by: i64, what: &str) -> Result<Expr, String> {
    match d.as_const() {
        Some(n) if n % by != 0 => Err(format!("{what} has {n} elements, which {by} does not divide")),
        _ => Ok(d.floor_div(&by.into())),
    }
}

/// The depth of channel `c` of `channels` and block element `block` of `size * size`.
fn depth(c: &Expr, block: Expr, channels: &Expr, size: i64, blocks_first: bool) -> Expr {
    if blocks_first { block * channels + c } else { c * (size * size) + block }
}

fn depth_to_space_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (b, _, [n, c, h, w]) = blocks(cx)?;
    shaped(cx, vec![n, divided(&c, b * b, "the channel dimension")?, h * b, w * b])
}

fn depth_to_space_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (b, first, [_, c, ..]) = blocks(cx)?;
    let (axes, index) = indices(4);
    let [n, o, y, x] = &index[..] else { return Err("expected four axes".into()) };
    let by = b.into();
    let block = y.modulo(&by) * b + x.modulo(&by);
    let channels = divided(&c, b * b, "the channel dimension")?;
    let channel = depth(o, block, &channels, b, first);
    moved(cx, axes, vec![n.clone(), channel, y.floor_div(&by), x.floor_div(&by)])
}

fn space_to_depth_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (b, _, [n, c, h, w]) = blocks(cx)?;
    shaped(cx, vec![n, c * (b * b), divided(&h, b, "the height")?, divided(&w, b, "the width")?])
}

fn space_to_depth_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (b, first, [_, c, ..]) = blocks(cx)?;
    let (axes, index) = indices(4);
    let [n, o, y, x] = &index[..] else { return Err("expected four axes".into()) };
    let (channel, block) = match first {
        true => (o.modulo(&c), o.floor_div(&c)),
        false => (o.floor_div(&(b * b).into()), o.modulo(&(b * b).into())),
    };
    let (row, column) = (block.floor_div(&b.into()), block.modulo(&b.into()));
    moved(cx, axes, vec![n.clone(), channel, y * b + row, x * b + column])
}

fn trilu_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let t = cx.ty(0)?;
    if cx.has(1) {
        rules::expect("input 1 (k)", cx.dtype(1)?, rules::INT)?;
    }
    match t.rank() {
        0 | 1 => Err(format!("input 0 has shape {}, expected rank 2 or more", rules::show(&t.shape))),
        _ => rules::same_as_first::<ANY>(cx),
    }
}

fn trilu_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let dtype = cx.dtype(0)?;
    let (axes, index) = indices(cx.shape(0)?.len());
    let [.., row, column] = &index[..] else { return Err("expected a matrix".into()) };
    let half = |k: &Expr| {
        let above = column - row - k;
        let cond = if cx.attrs.flag("upper") { above } else { -&above };
        Term::when(vec![cond], Term::load(dtype, 0, index.clone()), Term::constant(dtype, Scalar::I(0)))
    };
    let body = match (cx.has(1), cx.known(1)) {
        (false, _) => half(&Expr::ZERO),
        (true, Some([k])) => half(k),
        _ => {
            let k = reduction(0);
            let index = vec![Expr::ZERO; cx.shape(1)?.len()];
            Term::bind(k, Term::load(DType::I64, 1, index), half(&k.into()))
        }
    };
    Ok(Element { axes, body })
}

/// The time and batch axes.
fn sequence_axes(cx: &Cx<'_>) -> Result<(usize, usize), String> {
    let rank = cx.shape(0)?.len();
    let (time, batch) = (cx.axis(cx.int("time_axis"), rank)?, cx.axis(cx.int("batch_axis"), rank)?);
    if time == batch {
        return Err(format!("time_axis and batch_axis are both {time}"));
    }
    Ok((time, batch))
}

fn reverse_sequence_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (_, batch) = sequence_axes(cx)?;
    rules::expect("input 1", cx.dtype(1)?, rules::INT)?;
    let [n] = cx.shape(1)? else {
        return Err(format!("input 1 has shape {}, expected one dimension", rules::show(cx.shape(1)?)));
    };
    shared(n, &cx.shape(0)?[batch], "the number of sequence lengths and the batch")?;
    rules::same_as_first::<ANY>(cx)
}

fn reverse_sequence_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (time, batch) = sequence_axes(cx)?;
    let (axes, index) = indices(cx.shape(0)?.len());
    let (length, dtype) = (reduction(0), cx.dtype(0)?);
    // No more than there is: any length reads inside the operand.
    let given = Term::load(cx.dtype(1)?, 1, vec![index[batch].clone()]).cast(DType::I64);
    let most = Term::index(cx.shape(0)?[time].clone());
    let clamped = given.binary(ScalarOp::Min, &most);
    let mut mirrored = index.clone();
    mirrored[time] = Expr::from(length) - 1 - &index[time];
    let cond = vec![mirrored[time].clone()];
    let load = |index| Term::load(dtype, 0, index);
    let body = Term::bind(length, clamped, Term::when(cond, load(mirrored), load(index)));
    Ok(Element { axes, body })
}
