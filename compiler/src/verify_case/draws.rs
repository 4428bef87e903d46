//! Results that are drawn at random: no record can say what they are, only what must hold of them.
//!
//! - `Bernoulli` gives 0 or 1, never one whose probability is 0, and as many ones as the sum of the
//!   probabilities says; a comparison of uniform numbers from 0 to 1 with probabilities is the same.
//! - `Dropout` in training gives 0 or the operand's element times `1 / (1 - ratio)`, its mask says
//!   which of the two, and as many are kept as the ratio says.
//!
//! Numbers of ones are held to [`DEVIATIONS`]. The operands that say what must hold have to be inputs
//! or constants of the graph.

use super::{DataSet, depends_on};
use burin_ir::graph::{Def, Graph, NodeData, Value};
use burin_ir::ops::Effect;
use burin_ir::{DType, Tensor};

/// How many standard deviations a number of ones may be off: one draw in a million is further off.
const DEVIATIONS: f64 = 5.0;
/// The ratio of a dropout that states none.
const DROPOUT_RATIO: f64 = 0.5;

/// Checks output `i` if it is drawn at random; `None` where the graph determines it.
pub(super) fn check(graph: &Graph, data: &DataSet, found: &[Tensor], i: usize) -> Option<Result<(), String>> {
    let recorded = Recorded { graph, data };
    let v = graph.outputs()[i];
    recorded.is_drawn(v).then(|| {
        let (f, e) = (&found[i], &data.outputs[i]);
        if f.dtype() != e.dtype() || f.shape() != e.shape() {
            return Err(format!("found {f:?}, expected random numbers as {e:?}"));
        }
        recorded.property(v, found, i)
    })
}

/// A graph with what goes into it.
struct Recorded<'a> {
    graph: &'a Graph,
    data: &'a DataSet,
}

impl Recorded<'_> {
    /// Whether a value depends on random numbers.
    fn is_drawn(&self, v: Value) -> bool {
        depends_on(self.graph, v, |node| self.draws(node))
    }

    fn draws(&self, node: &NodeData) -> bool {
        match node.op.name {
            // It draws in training only, and nothing where nothing is dropped.
            "Dropout" => {
                let trains = self.operand(node, 2).is_some_and(|t| t.to_f64s() == [1.0]);
                trains && self.ratio(node) != Some(0.0)
            }
            _ => node.op.effect == Effect::Random,
        }
    }

    /// An operand that is an input or a constant of the graph.
    fn operand(&self, node: &NodeData, i: usize) -> Option<Tensor> {
        let v = (*node.inputs.get(i)?)?;
        match &self.graph.values[v].def {
            Def::Param(region, i) if *region == self.graph.body => self.data.inputs.get(*i).cloned(),
            Def::Const(c) => c.materialise().ok(),
            _ => None,
        }
    }

    fn ratio(&self, node: &NodeData) -> Option<f64> {
        match node.inputs.get(1).copied().flatten() {
            Some(_) => self.operand(node, 1)?.to_f64s().first().copied(),
            None => Some(DROPOUT_RATIO),
        }
    }

    fn property(&self, v: Value, found: &[Tensor], i: usize) -> Result<(), String> {
        let unknown = "its elements are random numbers, and it is not known what must hold of them";
        let (n, result) = self.graph.producer(v).ok_or(unknown)?;
        let node = &self.graph.nodes[n];
        match (node.op.name, result) {
            ("Cast", _) => self.property(node.inputs[0].ok_or(unknown)?, found, i),
            ("Bernoulli", _) => {
                let p = self.operand(node, 0).ok_or(unknown)?;
                is_bernoulli(&found[i], p.to_f64s())
            }
            ("Greater" | "Less", _) => is_bernoulli(&found[i], self.rates(node).ok_or(unknown)?),
            ("Dropout", 0) => {
                let mask = node.outputs.get(1).and_then(|mask| self.found(*mask, found));
                let (x, ratio) = self.operand(node, 0).zip(self.ratio(node)).ok_or(unknown)?;
                is_dropout(&found[i], mask, &x, ratio)
            }
            ("Dropout", _) => {
                let kept = 1.0 - self.ratio(node).ok_or(unknown)?;
                is_bernoulli(&found[i], vec![kept; found[i].len()])
            }
            _ => Err(unknown.to_owned()),
        }
    }

    /// What was found for a value that is an output.
    fn found<'f>(&self, v: Value, found: &'f [Tensor]) -> Option<&'f Tensor> {
        found.get(self.graph.outputs().iter().position(|o| *o == v)?)
    }

    /// How probably each element of a comparison with uniform numbers from 0 to 1 holds.
    fn rates(&self, node: &NodeData) -> Option<Vec<f64>> {
        let uniform = |i: usize| {
            let (n, _) = self.graph.producer((*node.inputs.get(i)?)?)?;
            let made = &self.graph.nodes[n];
            let float = |name| made.attrs.float(name);
            let range = float("low").unwrap_or(0.0) == 0.0 && float("high").unwrap_or(1.0) == 1.0;
            (made.op.name.starts_with("RandomUniform") && range).then_some(())
        };
        let below = node.op.name == "Less";
        let (p, drawn_below) = match (uniform(0), uniform(1)) {
            (Some(()), None) => (self.operand(node, 1)?, below),
            (None, Some(())) => (self.operand(node, 0)?, !below),
            _ => return None,
        };
        let rate = |p: f64| if drawn_below { p } else { 1.0 - p };
        Some(p.to_f64s().into_iter().map(rate).collect())
    }
}

/// Each element is 1 with its probability, else 0.
fn is_bernoulli(found: &Tensor, rates: Vec<f64>) -> Result<(), String> {
    if rates.len() != found.len() {
        return Err(format!("{} probabilities for {} elements", rates.len(), found.len()));
    }
    let values = found.to_f64s();
    for (i, (v, p)) in values.iter().zip(&rates).enumerate() {
        let possible = (*v == 1.0 && *p > 0.0) || (*v == 0.0 && *p < 1.0);
        if !possible {
            return Err(format!("element {i} is {v}, expected 0 or 1, and 1 with probability {p}"));
        }
    }
    has_rate(values.iter().filter(|v| **v == 1.0).count(), &rates)
}

/// Each element is 0 or the operand's, scaled, as the mask says if there is one.
fn is_dropout(found: &Tensor, mask: Option<&Tensor>, x: &Tensor, ratio: f64) -> Result<(), String> {
    let scale = 1.0 / (1.0 - ratio);
    let rounding = 4.0 * found.dtype().unit_roundoff().max(DType::F32.unit_roundoff());
    let mask = mask.map(Tensor::to_f64s);
    if x.len() != found.len() || mask.as_ref().is_some_and(|m| m.len() != found.len()) {
        return Err(format!("{} elements of {} operands", found.len(), x.len()));
    }
    let (mut kept, mut rates) = (0, Vec::new());
    for (i, (f, x)) in found.to_f64s().into_iter().zip(x.to_f64s()).enumerate() {
        let whole = (f - x * scale).abs() <= rounding * (x * scale).abs();
        let fits = match mask.as_ref().map(|m| m[i] != 0.0) {
            Some(true) => whole,
            Some(false) => f == 0.0,
            None => whole || f == 0.0,
        };
        if !fits {
            let shown = mask.as_ref().map_or(String::new(), |m| format!(" with the mask {}", m[i]));
            return Err(format!("element {i} is {f}{shown}, expected 0 or {} of {x}", x * scale));
        }
        if x != 0.0 {
            kept += usize::from(f != 0.0);
            rates.push(1.0 - ratio);
        }
    }
    has_rate(kept, &rates)
}

/// The number of ones is as probable as it should be.
fn has_rate(ones: usize, rates: &[f64]) -> Result<(), String> {
    let mean: f64 = rates.iter().sum();
    let deviation = rates.iter().map(|p| p * (1.0 - p)).sum::<f64>().sqrt();
    let off = (ones as f64 - mean).abs();
    if off > DEVIATIONS * deviation + 1e-6 {
        let n = rates.len();
        return Err(format!("{ones} of {n} elements are kept or 1, expected about {mean:.1}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::new(&[values.len()], values)
    }

    #[test]
    fn ones_come_as_often_as_their_probabilities_say() {
        let ones = |n: usize| f32s(&(0..100).map(|i| f32::from(i < n)).collect::<Vec<_>>());
        for (n, fits) in [(30, true), (10, true), (0, false), (100, false), (60, false)] {
            assert_eq!(is_bernoulli(&ones(n), vec![0.3; 100]).is_ok(), fits, "{n} of 100 at 0.3");
        }
        assert!(is_bernoulli(&f32s(&[0.0, 1.0]), vec![0.0, 1.0]).is_ok());
        assert!(is_bernoulli(&f32s(&[1.0, 1.0]), vec![0.0, 1.0]).is_err(), "one of probability 0");
        assert!(is_bernoulli(&f32s(&[0.0, 0.0]), vec![0.0, 1.0]).is_err(), "zero of probability 1");
        assert!(is_bernoulli(&f32s(&[0.5]), vec![0.5]).is_err(), "neither 0 nor 1");
    }

    #[test]
    fn dropout_keeps_scaled_elements_where_the_mask_is_true() {
        let x = f32s(&[1.0, 2.0, 3.0, 4.0]);
        let mask = Tensor::bools(&[4], &[true, false, true, false]);
        let dropped = |y: &[f32], mask| is_dropout(&f32s(y), mask, &x, 0.5);
        assert_eq!(dropped(&[2.0, 0.0, 6.0, 0.0], Some(&mask)), Ok(()));
        assert_eq!(dropped(&[2.0, 0.0, 0.0, 8.0], None), Ok(()));
        assert!(dropped(&[2.0, 0.0, 0.0, 8.0], Some(&mask)).is_err(), "another mask");
        assert!(dropped(&[1.0, 0.0, 3.0, 0.0], Some(&mask)).is_err(), "not scaled");
        let many = f32s(&[1.0; 100]);
        assert!(is_dropout(&f32s(&[2.0; 100]), None, &many, 0.5).is_err(), "nothing is dropped");
    }
}
