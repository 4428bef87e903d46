//! Subgraphs that are imported once for each time they run: those of a SequenceMap, and of a Loop over
//! what is no tensor.

use super::body::{Importer, Site};
use super::control::graph;
use super::order::captured;
use super::proto::{GraphProto, TypeValue, ValueInfoProto};
use super::structure::{Item, MAX_LENGTH, Sequence};
use super::tensor;
use super::upgrade::ints;
use burin_ir::graph::{Builder, Constant, Value};
use burin_ir::{Attr, DType, Scalar, Tensor};

impl<'m> Importer<'m, '_> {
    /// Whether a Loop has to be unrolled: it carries what is no tensor, or its body sees such a thing
    /// and it is known how often it runs.
    pub(super) fn unrolls(&self, site: &Site<'_, 'm>) -> bool {
        let structured = |i: &Item| !matches!(i, Item::Tensor(_));
        if site.items.iter().skip(2).flatten().any(structured) {
            return true;
        }
        let seen = |g: &GraphProto| {
            captured(g).iter().any(|name| site.scope.get(name).is_ok_and(|i| structured(&i)))
        };
        let counted = site.tensor(0).is_ok_and(|v| self.known_one(v).is_some());
        counted && site.graphs.iter().any(|(_, g)| seen(g))
    }

    /// A Loop's results: its body is imported for each iteration.
    pub(super) fn unroll(&mut self, site: &Site<'_, 'm>) -> Result<Vec<Item>, String> {
        let g = graph(site.graphs, "body")?;
        let bound = self.operand(site, 0, "the number of its iterations")?;
        let mut going = self.operand(site, 1, "its condition")?.is_none_or(|c| c != 0);
        let present = |i: &Option<Item>| i.clone().ok_or("a carried value is absent");
        let mut carried: Vec<Item> = site.items.iter().skip(2).map(present).collect::<Result<_, _>>()?;
        let n = carried.len();
        let joined = g.output.get(1 + n..).ok_or_else(|| {
            format!(
                "body has {} results, expected {} or more: a condition and those carried",
                g.output.len(),
                1 + n
            )
        })?;
        let mut scanned: Vec<Vec<Value>> = vec![Vec::new(); joined.len()];
        let constants = self.constants(g)?;
        let mut i = 0;
        while going && bound.is_none_or(|b| i < b) {
            if i >= MAX_LENGTH as i64 {
                return Err(format!("it runs more than {MAX_LENGTH} times over what is no tensor"));
            }
            self.count()?;
            let number =
                self.graph.add_constant("", Constant::Data(Tensor::scalar(DType::I64, Scalar::I(i))));
            let mut args = vec![Item::Tensor(number), Item::Tensor(self.flag(true))];
            args.append(&mut carried);
            let results = self.inlined(g, &constants, &args, site);
            let mut results = results.map_err(|e| format!("body, iteration {i}: {e}"))?.into_iter();
            let cond = results.next().ok_or("body has no results")?.tensor()?;
            let what = format!("whether it goes on after iteration {i}");
            going = self.known_one(cond).ok_or_else(|| self.must_know(cond, &what))? != 0;
            carried = results.by_ref().take(n).collect();
            for ((all, one), o) in scanned.iter_mut().zip(results).zip(joined) {
                all.push(one.tensor().map_err(|e| format!("body's result {:?}: {e}", o.name))?);
            }
            i += 1;
        }
        for (all, o) in scanned.iter().zip(joined) {
            carried.push(Item::Tensor(self.stacked(all, o, site)?));
        }
        Ok(carried)
    }

    /// Tensors of one shape, one above the other. Of none, the type is the declared one.
    fn stacked(&mut self, all: &[Value], o: &ValueInfoProto, site: &Site<'_, 'm>) -> Result<Value, String> {
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        if all.is_empty() {
            let what =
                || format!("it runs never, and the type of body's result {:?} is not declared", o.name);
            let shape = declared_shape(o).ok_or_else(what)?;
            let shape: Vec<usize> = std::iter::once(0).chain(shape).collect();
            return Ok(b.constant(Tensor::zeros(declared_dtype(o)?, &shape)));
        }
        let first = ints(&mut b, &[0]);
        let rows = all.iter().map(|v| b.op("Unsqueeze", &[*v, first], Vec::new()));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        b.op("Concat", &rows, vec![("axis", Attr::Int(0))])
    }

    /// A SequenceMap's results: its body is imported for each element of the first operand.
    pub(super) fn sequence_map(&mut self, site: &Site<'_, 'm>) -> Result<Vec<Item>, String> {
        let g = graph(site.graphs, "body")?;
        let length = site.sequence(0)?.elements.len();
        let mut columns = Vec::new();
        for i in 0..site.items.len() {
            columns.push(match site.item(i)? {
                Item::Sequence(s) if s.elements.len() == length => s.elements.clone(),
                Item::Sequence(s) => {
                    let n = s.elements.len();
                    return Err(format!(
                        "{}: found a sequence of {n}, expected {length} tensors",
                        site.name(i)
                    ));
                }
                _ => vec![site.tensor(i)?; length],
            });
        }
        let constants = self.constants(g)?;
        let mut results: Vec<Vec<Value>> = vec![Vec::new(); g.output.len()];
        for i in 0..length {
            self.count()?;
            let args: Vec<Item> = columns.iter().map(|c| Item::Tensor(c[i])).collect();
            let fault = |e: String| format!("body, element {i}: {e}");
            let made = self.inlined(g, &constants, &args, site).map_err(fault)?;
            for (all, one) in results.iter_mut().zip(made) {
                all.push(one.tensor().map_err(fault)?);
            }
        }
        let sequence = |(elements, o): (Vec<Value>, &ValueInfoProto)| {
            let own = elements.first().and_then(|v| self.graph.tensor_type(*v)).map(|t| t.dtype);
            let dtype = own.map_or_else(|| declared_dtype(o), Ok)?;
            Ok(Item::Sequence(Sequence { dtype, elements }))
        };
        results.into_iter().zip(&g.output).map(sequence).collect()
    }
}

/// The element type that a tensor is declared to have.
fn declared_dtype(o: &ValueInfoProto) -> Result<DType, String> {
    match o.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(t)) => tensor::dtype(t.elem_type.into()),
        _ => Err(format!("the type of body's result {:?} is not declared", o.name)),
    }
}

/// The shape that a tensor is declared to have, where all of it is.
fn declared_shape(o: &ValueInfoProto) -> Option<Vec<usize>> {
    match o.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(t) => t.shape.as_ref()?.sizes()?.iter().map(|n| usize::try_from(*n).ok()).collect(),
        _ => None,
    }
}
