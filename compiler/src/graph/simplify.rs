//! Local rewrites that make a node simpler or vanish, and bring ops that differ in name alone to one
//! form. [`RULES`] lists them by op.
//!
//! What a rewrite gives is what the node gave, to the bit: `x + 0.0` stays, since it turns `-0.0` into
//! `0.0`.

use super::fold::constant_op;
use super::node::open_requirements;
use super::rewrite::{Outcome, Rewriter, Site, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Constant, Graph, Value};
use burin_ir::{Attr, Expr, Scalar, Tensor};
use std::collections::HashMap;

type Rewrite = fn(&mut Rewriter<'_>, &Site<'_>) -> Result<Outcome, String>;

const RULES: &[(&str, Rewrite)] = &[
    ("Identity", first_operand),
    ("Dropout", dropout),
    ("Cast", cast),
    ("CastLike", cast),
    ("Transpose", transpose),
    ("Reshape", reshape),
    ("Flatten", reshape),
    ("Squeeze", reshape),
    ("Unsqueeze", reshape),
    ("Expand", unless_changed),
    ("Tile", unless_changed),
    ("Slice", slice),
    ("Pad", pad),
    ("Split", only_operand),
    ("Concat", only_operand),
    ("Max", only_operand),
    ("Min", only_operand),
    ("Sum", only_operand),
    ("Mean", only_operand),
    ("Neg", undo),
    ("Not", undo),
    ("BitwiseNot", undo),
    ("Relu", repeated),
    ("Abs", repeated),
    ("Floor", repeated),
    ("Ceil", repeated),
    ("Round", repeated),
    ("Add", |r, s| neutral(r, s, Neutral { float: -0.0, int: 0, either_side: true })),
    ("Sub", |r, s| neutral(r, s, Neutral { float: 0.0, int: 0, either_side: false })),
    ("Mul", |r, s| neutral(r, s, Neutral { float: 1.0, int: 1, either_side: true })),
    ("Div", |r, s| neutral(r, s, Neutral { float: 1.0, int: 1, either_side: false })),
    ("Pow", |r, s| neutral(r, s, Neutral { float: 1.0, int: 1, either_side: false })),
    ("Where", choose),
    ("Gemm", gemm),
    ("Put", whole_rows),
];

/// Constants of more elements than this are not searched.
const SEARCHED: usize = 1 << 16;

/// Simplifies every node for which there is a rule.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    let rules: HashMap<&str, Rewrite> = RULES.iter().copied().collect();
    rewrite(graph, fuel, &mut |r, site| {
        let Some(rule) = rules.get(site.data.op.name) else { return Ok(Outcome::Keep) };
        if site.data.op.checks.is_some() && !open_requirements(r.old, site.node)?.is_empty() {
            return Ok(Outcome::Declined("it checks what depends on data".into()));
        }
        rule(r, site)
    })
}

/// The operand of that number.
fn operand(site: &Site<'_>, i: usize) -> Option<Value> {
    site.inputs.get(i).copied().flatten()
}

/// The first operand stands for the result.
fn first_operand(_: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    Ok(operand(site, 0).map_or(Outcome::Keep, |x| Outcome::Replace(vec![x])))
}

/// Whether the operand has the type that the (first) result has.
fn same_type(r: &Rewriter<'_>, site: &Site<'_>, x: Value) -> bool {
    r.graph.values[x].ty == r.old.values[site.data.outputs[0]].ty
}

/// An op that leaves its operand as it is where it leaves the type as it is.
fn unless_changed(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    match operand(site, 0) {
        Some(x) if same_type(r, site, x) => Ok(Outcome::Replace(vec![x])),
        _ => Ok(Outcome::Keep),
    }
}

fn cast(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    unless_changed(r, site)
}

/// An op over a list that has one entry, or a split into one part.
fn only_operand(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let one = if site.data.op.name == "Split" { site.data.outputs.len() } else { site.inputs.len() };
    if one == 1 { unless_changed(r, site) } else { Ok(Outcome::Keep) }
}

/// Outside training, nothing is dropped.
fn dropout(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let training = operand(site, 2).map(|t| r.graph.constant(t).and_then(uniform));
    match training {
        None | Some(Some(Scalar::B(false))) => {}
        _ => return Ok(Outcome::Declined("it may be training".into())),
    }
    if site.data.outputs.get(1).is_some_and(|mask| r.uses(*mask) > 0) {
        return Ok(Outcome::Declined("its mask is used".into()));
    }
    let Some(x) = operand(site, 0) else { return Ok(Outcome::Keep) };
    Ok(Outcome::Replace(vec![x]))
}

/// Transposes that follow one another are one; one that moves nothing vanishes.
fn transpose(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let Some(x) = operand(site, 0) else { return Ok(Outcome::Keep) };
    let rank = r.ty(x).map_or(0, |t| t.rank());
    let outer = permutation(site.data.attrs.ints("perm"), rank);
    let inner = r.made_by(x).filter(|d| d.op.name == "Transpose");
    let (from, perm) = match inner.and_then(|d| Some((d.inputs[0]?, permutation(d.attrs.ints("perm"), rank))))
    {
        Some((from, inner)) => (from, outer.iter().map(|a| inner[*a as usize]).collect()),
        None => (x, outer),
    };
    if perm.iter().enumerate().all(|(i, a)| i as i64 == *a) {
        return Ok(Outcome::Replace(vec![from]));
    }
    if from == x {
        return Ok(Outcome::Keep);
    }
    Ok(Outcome::Replace(vec![r.op("Transpose", &[from], vec![("perm", Attr::Ints(perm))])?]))
}

/// The permutation of a Transpose, which reverses the axes by default.
fn permutation(given: Option<&[i64]>, rank: usize) -> Vec<i64> {
    given.map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec)
}

/// Flatten, Squeeze, Unsqueeze and Reshape of a Reshape become a Reshape to a constant shape (with at
/// most one dimension left open), and one that changes nothing vanishes.
fn reshape(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let Some(mut x) = operand(site, 0) else { return Ok(Outcome::Keep) };
    let through = match r.graph.producer(x) {
        Some((n, 0)) if r.graph.nodes[n].op.name == "Reshape" => {
            open_requirements(&r.graph, n)?.is_empty().then(|| r.graph.nodes[n].inputs[0]).flatten()
        }
        _ => None,
    };
    let reshaped = through.is_some();
    x = through.unwrap_or(x);
    if same_type(r, site, x) {
        return Ok(Outcome::Replace(vec![x]));
    }
    let old = site.data.outputs[0];
    let Some(shape) = r.old.tensor_type(old).map(|t| t.shape.clone()) else { return Ok(Outcome::Keep) };
    let Some(target) = target(&shape) else {
        return Ok(Outcome::Declined("more than one dimension is unknown".into()));
    };
    let constant = operand(site, 1).is_some_and(|t| r.graph.constant(t).is_some());
    if site.data.op.name == "Reshape" && !reshaped && constant {
        return Ok(Outcome::Keep);
    }
    let target = r.builder().constant(Tensor::new(&[target.len()], &target));
    // The open dimension must be found to be the one that it was.
    Ok(match r.op("Reshape", &[x, target], vec![("allowzero", Attr::Int(1))]) {
        Ok(result) if same_type(r, site, result) => Outcome::Replace(vec![result]),
        _ => Outcome::Declined("the open dimension would be inferred as another expression".into()),
    })
}

/// A constant shape with at most one open dimension.
fn target(shape: &[Expr]) -> Option<Vec<i64>> {
    let target: Vec<i64> = shape.iter().map(|d| d.as_const().unwrap_or(-1)).collect();
    let open = target.iter().filter(|d| **d == -1).count();
    // With a dimension of zero, an open one cannot be found from the number of elements.
    (open == 0 || (open == 1 && !target.contains(&0))).then_some(target)
}

/// A slice in steps of one that keeps every extent takes all.
fn slice(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let forward = operand(site, 4).is_none_or(|s| known(r, s).is_some_and(|k| k.iter().all(|e| *e == 1)));
    if forward { unless_changed(r, site) } else { Ok(Outcome::Keep) }
}

fn pad(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let none = operand(site, 1).is_some_and(|p| known(r, p).is_some_and(|k| k.iter().all(|e| *e == 0)));
    if none { unless_changed(r, site) } else { Ok(Outcome::Keep) }
}

fn known<'r>(r: &'r Rewriter<'_>, v: Value) -> Option<&'r [Expr]> {
    r.graph.values[v].known.as_deref()
}

/// The operand of the node of the same op that makes the operand.
fn operand_of_same(r: &Rewriter<'_>, site: &Site<'_>) -> Option<Value> {
    r.made_by(operand(site, 0)?).filter(|d| d.op == site.data.op)?.inputs[0]
}

/// An op that undoes itself.
fn undo(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    Ok(operand_of_same(r, site).map_or(Outcome::Keep, |x| Outcome::Replace(vec![x])))
}

/// An op that changes nothing the second time.
fn repeated(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let again = operand_of_same(r, site).and(operand(site, 0));
    Ok(again.map_or(Outcome::Keep, |x| Outcome::Replace(vec![x])))
}

/// What leaves the other operand of a binary op as it is.
struct Neutral {
    float: f64,
    int: i64,
    either_side: bool,
}

fn neutral(r: &mut Rewriter<'_>, site: &Site<'_>, n: Neutral) -> Result<Outcome, String> {
    let [Some(a), Some(b)] = site.inputs[..] else { return Ok(Outcome::Keep) };
    for (x, other) in [(a, b), (b, a)].into_iter().take(if n.either_side { 2 } else { 1 }) {
        let Some(value) = r.graph.constant(other).and_then(uniform) else { continue };
        let is = match value {
            Scalar::F(v) => v == n.float && v.is_sign_negative() == n.float.is_sign_negative(),
            Scalar::I(v) => v == n.int,
            Scalar::U(v) => v == n.int as u64,
            Scalar::B(_) => false,
        };
        if is && same_type(r, site, x) {
            return Ok(Outcome::Replace(vec![x]));
        }
        if matches!(value, Scalar::F(v) if v == 0.0) && site.data.op.name == "Add" {
            return Ok(Outcome::Declined("x + 0.0 turns -0.0 into 0.0".into()));
        }
    }
    Ok(Outcome::Keep)
}

/// The element that all elements of a constant are equal to (in bits).
fn uniform(c: &Constant) -> Option<Scalar> {
    let Constant::Data(t) = c else { return None };
    if t.is_empty() || t.len() > SEARCHED {
        return None;
    }
    let first = &t.bytes()[..t.dtype().bytes()];
    t.bytes().chunks(first.len()).all(|c| c == first).then(|| t.get(0))
}

/// A Where whose condition is the same everywhere.
fn choose(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let condition = operand(site, 0).and_then(|c| r.graph.constant(c).and_then(uniform));
    let taken = match condition {
        Some(Scalar::B(true)) => operand(site, 1),
        Some(Scalar::B(false)) => operand(site, 2),
        _ => None,
    };
    Ok(match taken {
        Some(x) if same_type(r, site, x) => Outcome::Replace(vec![x]),
        Some(_) => Outcome::Declined("the operand that is always taken is broadcast".into()),
        None => Outcome::Keep,
    })
}

/// A constant operand that Gemm transposes is transposed beforehand.
fn gemm(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let mut inputs = site.inputs.clone();
    let mut attrs: Vec<(String, Attr)> = site.data.attrs.named();
    let mut changed = false;
    for (i, flag) in ["transA", "transB"].into_iter().enumerate() {
        let Some(v) = inputs[i].filter(|v| site.data.attrs.flag(flag) && r.graph.constant(*v).is_some())
        else {
            continue;
        };
        inputs[i] = Some(constant_op(r, "Transpose", &[v], vec![("perm", Attr::Ints(vec![1, 0]))])?);
        attrs.iter_mut().filter(|(n, _)| n == flag).for_each(|(_, a)| *a = Attr::Int(0));
        changed = true;
    }
    if !changed {
        return Ok(Outcome::Keep);
    }
    let node = r.builder().node(site.data.op, &site.data.name, inputs, attrs, 1, Vec::new())?;
    Ok(Outcome::Replace(r.graph.nodes[node].outputs.clone()))
}

/// Updates at constant positions, a dimension of which fill whole rows of the data, are rows themselves.
fn whole_rows(r: &mut Rewriter<'_>, site: &Site<'_>) -> Result<Outcome, String> {
    let [Some(data), Some(at), Some(updates)] = site.inputs[..] else { return Ok(Outcome::Keep) };
    let shape: Option<Vec<i64>> = r.ty(data).and_then(|t| t.shape.iter().map(Expr::as_const).collect());
    let constant =
        r.graph.constant(at).filter(|c| c.ty().elements().as_const().is_some_and(|n| n <= SEARCHED as i64));
    let (Some(shape), Some(constant)) = (shape, constant) else { return Ok(Outcome::Keep) };
    let positions = constant.materialise()?;
    let (mut dims, mut rows) = (positions.shape().to_vec(), positions.to_i64s());
    let of = |name: &str| site.data.attrs.int(name).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let (batch, depth) = (of("batch"), of("depth"));
    let mut left = depth;
    while left > 1 && dims.len() > batch {
        let row = shape[batch + left - 1];
        let whole = |part: &[i64]| {
            part[0] >= 0
                && part[0] % row == 0
                && part.iter().zip(part[0]..).all(|(found, next)| *found == next)
        };
        if dims.last().is_none_or(|n| *n as i64 != row)
            || rows.is_empty()
            || !rows.chunks(row as usize).all(whole)
        {
            break;
        }
        rows = rows.chunks(row as usize).map(|part| part[0] / row).collect();
        dims.pop();
        left -= 1;
    }
    if left == depth {
        return Ok(Outcome::Keep);
    }
    let positions = r.graph.add_constant("", Constant::Data(Tensor::new(&dims, &rows)));
    let reduction = site.data.attrs.str("reduction").unwrap_or_default().to_owned();
    let attrs = vec![
        ("batch", Attr::Int(batch as i64)),
        ("depth", Attr::Int(left as i64)),
        ("reduction", Attr::Str(reduction)),
    ];
    Ok(Outcome::Replace(vec![r.op("Put", &[data, positions, updates], attrs)?]))
}
