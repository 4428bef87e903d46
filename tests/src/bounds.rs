//! How far compiled code may be from the evaluator on a graph of several nodes.
//!
//! The evaluator rounds after every node, and each node may add what its row states. What a node's
//! operands may be off by is carried through it, to first order: each operand is moved alone, in
//! `f64`, so that moves of less than an ULP count, and the effects of all operands add up. All of them are
//! moved at once as well: their effect is more where each alone has none.
//!
//! - Rows that are linear in each operand ([`LINEAR`]) are evaluated on magnitudes, so that no
//!   terms cancel: what comes out is a bound.
//! - Softmax and its logarithm have a formula: moves of like signs cancel in them. So have determinants,
//!   which few moves bring where they are largest.
//! - Others are evaluated with the operand moved up, down, to zero where that is within reach (quotients
//!   have a pole there: what may be anything has an infinite bound), less far, and by signs that vary.
//!   For pointwise and movement rows an element depends on one element, and the last is not needed; a
//!   factor of [`MARGIN`] is for what so few moves do not show of the rest. What moves far, and as far by
//!   less than the error (waves, steps and poles), may be anything. Where the row's own bound is that of
//!   the largest element, so are the effects.
//!
//! The scores of Attention are rounded where a mask is added, whatever is inherited ([`beside_mask`]).
//!
//! Where nothing is inherited, the bound is the row's own; else an ULP is added, since both sides
//! round what they have. [`NORMS`] subtract means. The magnitudes by which their rows are bounded
//! cancel there too, and where operands are nearly equal to their mean, its rounding is most of the
//! error: what they read counts as off by [`MEAN_ULPS`], even where it is exact.

use burin_ir::compare::{Bound, length, matrices, row_bounds, ulp_near};
use burin_ir::graph::eval::{Event, Operation, eval_op, eval_with};
use burin_ir::graph::{Graph, Node, Value};
use burin_ir::ops::{Meaning, OpRow, Tolerance};
use burin_ir::{Attr, Attrs, DType, Scalar, Tensor};
use std::collections::HashMap;

/// What the effects of moves are multiplied by where an element depends on many.
const MARGIN: f64 = 2.0;

/// A part of an error that is no fraction of it: waves have lengths.
const LESS: f64 = 0.618_034;

/// What is moved by more than this part of it, or of 1, is moved far.
const FAR: f64 = 0.01;

/// Rows that are linear in each operand.
const LINEAR: [&str; 8] = [
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceSum",
    "ReduceMean",
];

/// Rows that subtract means.
const NORMS: [&str; 5] = [
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "MeanVarianceNormalization",
];

/// How far means and deviations may be rounded, as ULPs of what they are made from: a sum of
/// partial sums, a division, a subtraction.
const MEAN_ULPS: u64 = 4;

/// The results of a graph, and how far each may be missed.
pub fn expect(graph: &Graph, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<Bound>), String> {
    let mut carried = Carried { graph, errors: HashMap::new(), own: HashMap::new() };
    let mut outcome = Ok(());
    let mut hook = |e: &Event<'_>| {
        if outcome.is_ok() {
            outcome = carried.node(e);
        }
    };
    let outputs = eval_with(graph, inputs, &[], &mut hook).map_err(|e| e.to_string())?.outputs;
    outcome?;
    let bound = |v: &Value| match (carried.own.get(v), carried.errors.get(v)) {
        (Some(own), _) => own.clone(),
        (None, Some(errors)) => Bound::Each(errors.clone()),
        (None, None) => Bound::Exact,
    };
    Ok((outputs, graph.outputs().iter().map(bound).collect()))
}

struct Carried<'a> {
    graph: &'a Graph,
    /// How far each element may be off, of the values that may be.
    errors: HashMap<Value, Vec<f64>>,
    /// The row's bound of values that inherit nothing.
    own: HashMap<Value, Bound>,
}

impl Carried<'_> {
    fn node(&mut self, e: &Event<'_>) -> Result<(), String> {
        let o = operation(self.graph, e.node);
        let own = beside_mask(&o, e, row_bounds(&o, e.inputs, e.outputs)?);
        let inherited = self.inherited(&o, e)?;
        let results = self.graph.nodes[e.node].outputs.clone();
        for (i, ((v, t), own)) in results.into_iter().zip(e.outputs).zip(own).enumerate() {
            let of_row = errors(&own, t);
            let Some(inherited) = inherited.as_ref().map(|all| &all[i]) else {
                self.own.insert(v, own);
                of_row.map(|errors| self.errors.insert(v, errors));
                continue;
            };
            let mut all = errors(&Bound::Ulps(1), t).ok_or("an integer depends on a rounded number")?;
            for part in of_row.iter().chain([inherited]) {
                all.iter_mut().zip(part).for_each(|(a, p)| *a += p);
            }
            self.errors.insert(v, all);
        }
        Ok(())
    }

    /// What the operands' errors do to each element of each result; `None` where they have none.
    fn inherited(&self, o: &Operation<'_>, e: &Event<'_>) -> Result<Option<Vec<Vec<f64>>>, String> {
        let operands = self.graph.nodes[e.node].inputs.iter().enumerate();
        let errors = |(i, v): (usize, &Option<Value>)| {
            let errors = v.and_then(|v| self.operand_errors(o.op, v, e.inputs[i].as_ref()?));
            errors.map(|errors| Wrong { operand: i, errors })
        };
        let wrong: Vec<Wrong> = operands.filter_map(errors).collect();
        let Some((first, others)) = wrong.split_first() else { return Ok(None) };
        let mut all = effects(o, e.inputs, std::slice::from_ref(first))?;
        for one in others.chunks(1) {
            combine(&mut all, &effects(o, e.inputs, one)?, |a, e| a + e);
        }
        if others.is_empty() {
            return Ok(Some(all));
        }
        // Where both factors of a product vanish, it is off by the product of their errors.
        for signs in [[1.0, 1.0], [1.0, -1.0]] {
            let turned = |(w, sign): (&Wrong, f64)| Wrong {
                operand: w.operand,
                errors: w.errors.iter().map(|e| e * sign).collect(),
            };
            let together: Vec<Wrong> = wrong.iter().zip(signs.into_iter().cycle()).map(turned).collect();
            combine(&mut all, &effects(o, e.inputs, &together)?, f64::max);
        }
        Ok(Some(all))
    }

    /// How far each element of an operand is to be moved; `None` where it is exact.
    fn operand_errors(&self, op: &OpRow, v: Value, t: &Tensor) -> Option<Vec<f64>> {
        let inherited = self.errors.get(&v);
        if !NORMS.contains(&op.name) {
            return inherited.cloned();
        }
        let mut all = errors(&Bound::Ulps(MEAN_ULPS), t)?;
        inherited.into_iter().for_each(|e| all.iter_mut().zip(e).for_each(|(a, e)| *a += e));
        Some(all)
    }
}

/// Attention adds a mask to its scores, of which nothing is left where the mask is large: weights are off by the
/// rounding of that sum. Where a row's largest mask lies counts; what is far below it has no weight.
fn beside_mask(o: &Operation<'_>, e: &Event<'_>, own: Vec<Bound>) -> Vec<Bound> {
    let operand = |i: usize| e.inputs.get(i).and_then(Option::as_ref);
    let Some(mask) = operand(3).filter(|m| o.op.name == "Attention" && m.dtype() != DType::Bool) else {
        return own;
    };
    let largest = |all: &[f64]| all.iter().copied().filter(|m| m.is_finite()).reduce(f64::max);
    let keys = mask.shape().last().copied().unwrap_or(1).max(1);
    let masks = mask.to_f64s();
    let off = masks.chunks(keys).filter_map(largest).map(|m| ulp_near(DType::F32, m)).fold(0.0, f64::max);
    // Both sides' weights add up to 1: no more than 2 is between them.
    let weights = (2.0 * off).exp_m1().min(2.0);
    let values = [operand(2), operand(5)].into_iter().flatten().flat_map(Tensor::to_f64s);
    // The result, what is kept of keys and values, and scores or weights.
    let more = [weights * values.map(f64::abs).fold(0.0, f64::max), 0.0, 0.0, off + weights];
    let widen = |((bound, t), more): ((Bound, &Tensor), f64)| match errors(&bound, t) {
        Some(errors) if more > 0.0 => Bound::Each(errors.into_iter().map(|e| e + more).collect()),
        _ => bound,
    };
    own.into_iter().zip(e.outputs).zip(more).map(widen).collect()
}

/// A node's op, for the evaluator.
fn operation(graph: &Graph, node: Node) -> Operation<'_> {
    let data = &graph.nodes[node];
    Operation {
        op: data.op,
        attrs: &data.attrs,
        outputs: data.outputs.len(),
        region_results: &[],
        region: &|_, _| Err("the node has no regions".to_owned()),
    }
}

/// How far a bound lets each element be from its value; `None` where it must be that value.
fn errors(bound: &Bound, t: &Tensor) -> Option<Vec<f64>> {
    let u = t.dtype().unit_roundoff();
    match bound {
        Bound::Exact => None,
        Bound::Ulps(n) => {
            (u > 0.0).then(|| t.to_f64s().into_iter().map(|v| *n as f64 * ulp_near(t.dtype(), v)).collect())
        }
        Bound::Each(each) => Some(each.clone()),
        Bound::Close { rtol, atol } => Some(t.to_f64s().iter().map(|v| atol + rtol * v.abs()).collect()),
    }
}

/// An operand that may be off, and how far each of its elements is moved.
struct Wrong {
    operand: usize,
    errors: Vec<f64>,
}

/// Combines what is found for each element with what was.
fn combine(all: &mut [Vec<f64>], more: &[Vec<f64>], by: fn(f64, f64) -> f64) {
    for (a, m) in all.iter_mut().zip(more) {
        a.iter_mut().zip(m).for_each(|(a, m)| *a = by(*a, *m));
    }
}

/// What operands' errors, all at once, do to each element of each result.
fn effects(o: &Operation<'_>, inputs: &[Option<Tensor>], wrong: &[Wrong]) -> Result<Vec<Vec<f64>>, String> {
    match (o.op.name, wrong) {
        ("Softmax" | "LogSoftmax", [w]) => return softmax_effects(o, inputs, &w.errors),
        ("Det", [w]) => {
            let matrix = inputs[w.operand].as_ref().ok_or("an operand that is absent has errors")?;
            return Ok(vec![det_effects(matrix, &w.errors)]);
        }
        _ => {}
    }
    let linear = LINEAR.contains(&o.op.name);
    let attrs = if linear { absolute_attrs(o.attrs) } else { o.attrs.clone() };
    let o = Operation { attrs: &attrs, ..*o };
    let wide = |t: &Tensor| match t.dtype().is_float() {
        true if linear => map(&t.cast(DType::F64), |_, v| v.abs()),
        true => t.cast(DType::F64),
        false => t.clone(),
    };
    let mut inputs: Vec<Option<Tensor>> = inputs.iter().map(|t| t.as_ref().map(wide)).collect();
    let base = inputs.clone();
    let still = eval_op(&o, &inputs)?;
    let mut farthest = |moves: &[Move]| {
        let mut most: Vec<Vec<f64>> = still.iter().map(|t| vec![0.0; t.len()]).collect();
        for to in moves {
            for Wrong { operand, errors } in wrong {
                let base = base[*operand].as_ref().ok_or("an operand that is absent has errors")?;
                inputs[*operand] = Some(map(base, |i, v| to(i, v, errors[i])));
            }
            note_distances(&mut most, &eval_op(&o, &inputs)?, &still);
        }
        Ok::<_, String>(most)
    };
    if linear {
        return farthest(&MOVES[..1]);
    }
    let alone = by_elements(o.op);
    let mut most = farthest(if alone { &MOVES[..3] } else { &MOVES })?;
    let less = farthest(&LESS_MOVES)?;
    let results = still.iter().flat_map(Tensor::to_f64s);
    for ((m, less), y) in most.iter_mut().flatten().zip(less.into_iter().flatten()).zip(results) {
        *m = m.max(less);
        let far = *m > FAR * y.abs().max(1.0);
        *m *= match alone {
            true if far && less > 0.8 * *m => f64::INFINITY,
            true => 1.0,
            false => MARGIN,
        };
    }
    if matches!(o.op.tolerance, Tolerance::Largest(_) | Tolerance::LargestOrOne(_)) {
        for m in &mut most {
            let largest = m.iter().copied().fold(0.0, f64::max);
            m.fill(largest);
        }
    }
    Ok(most)
}

/// `d y_i = y_i (d x_i - sum_j y_j d x_j)`, and the `y_j` sum up to 1. The logarithm's lacks the first
/// factor.
fn softmax_effects(
    o: &Operation<'_>,
    inputs: &[Option<Tensor>],
    errors: &[f64],
) -> Result<Vec<Vec<f64>>, String> {
    let most = errors.iter().copied().fold(0.0, f64::max);
    let factor = |y: f64| if o.op.name == "Softmax" { y } else { 1.0 };
    let of = |y: Tensor| y.to_f64s().into_iter().zip(errors).map(|(y, e)| factor(y) * (e + most)).collect();
    Ok(eval_op(o, inputs)?.into_iter().map(of).collect())
}

/// A determinant is linear in each row, and no greater than the product of the rows' lengths (Hadamard).
fn det_effects(x: &Tensor, errors: &[f64]) -> Vec<f64> {
    let moves = Tensor::from_f64s(DType::F64, x.shape(), errors);
    let both = matrices(x).zip(matrices(&moves));
    let effect = |(rows, moves): (Vec<Vec<f64>>, Vec<Vec<f64>>)| {
        // Of those before a row, and of what it and they add.
        let lengths = rows.iter().zip(&moves).map(|(r, m)| (length(r), length(m)));
        lengths.fold((1.0, 0.0), |(all, added), (r, m)| (all * r, added * (r + m) + all * m)).1
    };
    both.map(effect).collect()
}

/// Raises each element's distance to that of two results.
fn note_distances(most: &mut [Vec<f64>], moved: &[Tensor], still: &[Tensor]) {
    for ((most, moved), still) in most.iter_mut().zip(moved).zip(still) {
        for ((m, a), b) in most.iter_mut().zip(moved.to_f64s()).zip(still.to_f64s()) {
            *m = m.max(distance(a, b));
        }
    }
}

/// How far apart two results are; infinitely where one of them is no number.
fn distance(a: f64, b: f64) -> f64 {
    let d = if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() };
    if d.is_nan() { f64::INFINITY } else { d }
}

/// Where an element is moved that has a place, a value and an error.
type Move = fn(usize, f64, f64) -> f64;

const MOVES: [Move; 4] = [
    |_, v, e| v + e,
    |_, v, e| v - e,
    |_, v, e| if v.abs() <= e { 0.0 } else { v },
    |i, v, e| v + varying_sign(i) * e,
];

/// Moves by [`LESS`].
const LESS_MOVES: [Move; 2] = [|_, v, e| v + LESS * e, |_, v, e| v - LESS * e];

/// Whether an element of a result depends on one element of each operand.
fn by_elements(op: &OpRow) -> bool {
    matches!(op.meaning, Meaning::Pointwise(_) | Meaning::Movement(_))
}

/// Signs without a pattern that indices could have.
fn varying_sign(i: usize) -> f64 {
    let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if bits >> 63 == 0 { 1.0 } else { -1.0 }
}

fn map(t: &Tensor, f: impl Fn(usize, f64) -> f64) -> Tensor {
    let values = t.scalars().enumerate().map(|(i, v)| Scalar::F(f(i, v.as_f64())));
    Tensor::from_scalars(t.dtype(), t.shape(), values)
}

fn absolute_attrs(attrs: &Attrs) -> Attrs {
    let one = |a: &Attr| match a {
        Attr::Float(v) => Attr::Float(v.abs()),
        other => other.clone(),
    };
    Attrs(attrs.0.iter().map(|(n, a)| (*n, one(a))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burin_ir::graph::parse;

    fn expected(body: &str, x: &[f32]) -> (Vec<f64>, Bound) {
        let graph =
            parse(&format!("graph @g(%x: f32[{}]) {{\n{body}  return %y\n}}", x.len())).expect("parses");
        let (outputs, mut bounds) = expect(&graph, &[Tensor::new(&[x.len()], x)]).expect("evaluates");
        (outputs[0].to_f64s(), bounds.remove(0))
    }

    fn each(bound: Bound) -> Vec<f64> {
        match bound {
            Bound::Each(each) => each,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_node_has_the_bound_of_its_row() {
        assert!(matches!(expected("  %y = Exp(%x)\n", &[1.0]).1, Bound::Ulps(_)));
        assert_eq!(expected("  %a = Neg(%x)\n  %y = Relu(%a)\n", &[1.0]).1, Bound::Exact);
    }

    #[test]
    fn a_sum_inherits_the_errors_of_all_terms() {
        let Bound::Ulps(n) = expected("  %y = Exp(%x)\n", &[0.0]).1 else { panic!("Exp counts ULPs") };
        let (_, bound) = expected("  %a = Exp(%x)\n  %y = ReduceSum(%a) {keepdims = 0}\n", &[0.0, 0.0, 0.0]);
        let inherited = 3.0 * n as f64 * 2f64.powi(-23);
        let found = each(bound)[0];
        assert!(found > inherited && found < inherited + 64.0 * 3.0 * 2f64.powi(-24), "{found}");
    }

    #[test]
    fn a_norm_of_numbers_near_their_mean_may_be_further_off() {
        let text = "  %w = const f32[2] splat 1.0\n  %y = LayerNormalization(%x, %w)\n";
        let of = |x: [f32; 2]| each(expected(text, &x).1)[0];
        let (far, near) = (of([-1.0, 1.0]), of([1.0, 1.0001]));
        assert!(far < 1e-4 && near > 1e-5 && near > 4.0 * far, "{far} {near}");
    }

    #[test]
    fn a_quotient_by_what_may_be_zero_may_be_anything() {
        let text =
            "  %a = Exp(%x)\n  %one = const f32[1] splat 1.0\n  %b = Sub(%a, %one)\n  %y = Reciprocal(%b)\n";
        let of = |x: f32| each(expected(text, &[x]).1)[0];
        assert!(of(2e-7).is_infinite() && of(0.5).is_finite());
    }

    #[test]
    fn scores_beside_a_large_mask_are_rounded_with_it() {
        let of = |mask: f32| {
            let text = format!(
                "graph @g(%x: f32[1, 1, 2, 1]) {{\n  %m = const f32[2, 2] splat {mask:?}\n  \
                 %y = Attention(%x, %x, %x, %m) {{scale = 1.0}}\n  return %y\n}}"
            );
            let graph = parse(&text).expect("parses");
            let x = Tensor::new(&[1, 1, 2, 1], &[0.5f32, -0.25]);
            each(expect(&graph, &[x]).expect("evaluates").1.remove(0))[0]
        };
        assert!(of(1.0) < 1e-4 && of(1.5e7) > 0.5, "{} {}", of(1.0), of(1.5e7));
    }

    #[test]
    fn errors_of_a_difference_do_not_cancel() {
        let text = "  %a = Exp(%x)\n  %b = Exp(%a)\n  %y = Sub(%b, %b)\n";
        let (y, bound) = expected(text, &[0.5]);
        assert_eq!(y, [0.0]);
        assert!(each(bound)[0] > 2.0 * 2f64.powi(-22), "both operands are off");
    }
}
