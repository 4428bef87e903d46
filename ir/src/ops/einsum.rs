//! Einsum: a sum of products over named dimensions.
//!
//! Every label of the equation is one variable: a result axis where the output names it, and a
//! reduction variable elsewhere. `...` stands for dimensions that broadcast, counted from the end.

use super::contract::SUM_TOLERANCE;
use super::rules::{self, NUMBER};
use super::{Lower, Meaning, OpRow, many};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::element::{Element, ReduceOp, Term, axes, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::symbol::Symbol;
use crate::types::TensorType;
use std::collections::BTreeMap;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    attrs: &[AttrSpec::new("equation", AttrKind::Str, Default::Required)],
    tolerance: SUM_TOLERANCE,
    samples: &[
        "Einsum(f32[2,3,4], f32[2,4,5]) {equation = \"bij, bjk -> bik\"}",
        "Einsum(f64[3,3]) {equation = \"ii\"}",
        "Einsum(f32[2,1,3], f32[4,3]) {equation = \"...i,...i->...\"}",
        "Einsum(i32[2,3], i32[3], i32[4]) {equation = \"ab,b,c->ca\"}",
        "Einsum(f16[2,3]) {equation = \"ij->ji\"}",
    ],
    ..OpRow::new(
        "Einsum",
        Some(("", 12)),
        &[many("Inputs")],
        einsum_infer,
        Meaning::Primitive(Lower::Element(einsum_element)),
    )
}];

/// A name for a dimension.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// One of those that `...` stands for, counted from the end.
    Rest(usize),
    Letter(char),
}

/// An equation applied to operands of known ranks.
struct Equation {
    /// One label for each dimension of each operand.
    inputs: Vec<Vec<Label>>,
    output: Vec<Label>,
    /// The extent of each label.
    extents: BTreeMap<Label, Expr>,
}

/// The labels of a term in which `...` stands for `rest` dimensions.
fn labels(term: &str, rest: usize) -> Result<Vec<Label>, String> {
    let (before, after) = term.split_once("...").unwrap_or((term, ""));
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => Ok(Label::Letter(c)),
        false => Err(format!("the equation has {c:?}, expected letters, commas, ... and ->")),
    };
    let mut out = before.chars().map(letter).collect::<Result<Vec<_>, _>>()?;
    if term.contains("...") {
        out.extend((0..rest).rev().map(Label::Rest));
    }
    for c in after.chars() {
        out.push(letter(c)?);
    }
    Ok(out)
}

impl Equation {
    fn of(cx: &Cx<'_>) -> Result<Equation, String> {
        let text: String = cx.attrs.str("equation").unwrap_or_default().split_whitespace().collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != cx.inputs.len() {
            return Err(format!(
                "the equation {text:?} has {} terms for {} operands",
                terms.len(),
                cx.inputs.len()
            ));
        }
        let (mut inputs, mut extents) = (Vec::new(), BTreeMap::<Label, Expr>::new());
        for (i, term) in terms.into_iter().enumerate() {
            let shape = cx.shape(i)?;
            let letters = term.chars().filter(|c| *c != '.').count();
            let found = labels(term, shape.len().saturating_sub(letters))?;
            if found.len() != shape.len() {
                return Err(format!(
                    "the term {term:?} does not fit input {i} of shape {}",
                    rules::show(shape)
                ));
            }
            for (label, d) in found.iter().zip(shape) {
                let known = extents.get(label).unwrap_or(d);
                let clash = || format!("input {i} has {d} elements for a dimension of {known} in {text:?}");
                let merged = rules::broadcast_dim(known, d).ok_or_else(clash)?;
                extents.insert(*label, merged);
            }
            inputs.push(found);
        }
        let rest = extents.keys().filter(|l| matches!(l, Label::Rest(_))).count();
        let output = match right {
            Some(right) => labels(right, rest)?,
            None => implicit(&inputs, &extents),
        };
        for (i, label) in output.iter().enumerate() {
            if !extents.contains_key(label) || output[..i].contains(label) {
                return Err(format!(
                    "the output of {text:?} must name each dimension of the inputs once at most"
                ));
            }
        }
        Ok(Equation { inputs, output, extents })
    }
}

/// The output of an equation that gives none: what `...` stands for, and then the letters that
/// stand once, in alphabetical order.
fn implicit(inputs: &[Vec<Label>], extents: &BTreeMap<Label, Expr>) -> Vec<Label> {
    let once = |l: &&Label| inputs.iter().flatten().filter(|m| m == l).count() == 1;
    let (rest, letters): (Vec<&Label>, Vec<&Label>) =
        extents.keys().partition(|l| matches!(l, Label::Rest(_)));
    rest.into_iter().rev().chain(letters.into_iter().filter(once)).copied().collect()
}

fn einsum_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let dtype = rules::one_dtype(cx)?;
    rules::expect("input 0", dtype, NUMBER)?;
    let e = Equation::of(cx)?;
    Ok(vec![TensorType::new(dtype, e.output.iter().map(|l| e.extents[l].clone())).into()])
}

fn einsum_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (e, dtype) = (Equation::of(cx)?, cx.dtype(0)?);
    let axes = axes(e.output.len());
    let mut symbols: BTreeMap<Label, Symbol> = e.output.iter().copied().zip(axes.iter().copied()).collect();
    let mut vars = Vec::new();
    for (label, extent) in &e.extents {
        symbols.entry(*label).or_insert_with(|| {
            let var = reduction(vars.len());
            vars.push((var, extent.clone()));
            var
        });
    }
    let mut product: Option<Term> = None;
    for (i, labels) in e.inputs.iter().enumerate() {
        let place = |(l, d): (&Label, &Expr)| {
            let at = Expr::from(symbols[l]);
            if *d == e.extents[l] { at } else { at.minimum(&(d - 1)) }
        };
        let index = labels.iter().zip(cx.shape(i)?).map(place).collect();
        let factor = Term::load(dtype, i, index).cast(dtype.accumulator());
        product = Some(match product {
            Some(p) => p * factor,
            None => factor,
        });
    }
    let product = product.ok_or("there are no operands")?;
    let sum = if vars.is_empty() { product } else { Term::reduce(ReduceOp::Sum, vars, product) };
    Ok(Element { axes, body: sum.cast(dtype) })
}
