//! The ops over sequences, optionals, maps and names: they are resolved while a model is imported, for which
//! lengths and positions have to be known.

use super::body::{Importer, Site};
use super::proto::NodeProto;
use super::structure::{Item, MAX_LENGTH, Sequence};
use super::tensor;
use super::upgrade::{Call, ints};
use burin_ir::graph::{Builder, Constant, Value};
use burin_ir::{Attr, DType, Expr, ops};

/// The ops that are resolved here, by domain and name: they have no rows.
pub const OPS: &[(&str, &str)] = &[
    ("", "ConcatFromSequence"),
    ("", "Optional"),
    ("", "OptionalGetElement"),
    ("", "OptionalHasElement"),
    ("", "SequenceAt"),
    ("", "SequenceConstruct"),
    ("", "SequenceEmpty"),
    ("", "SequenceErase"),
    ("", "SequenceInsert"),
    ("", "SequenceLength"),
    ("", "SequenceMap"),
    ("", "SplitToSequence"),
    ("ai.onnx.ml", "CastMap"),
    ("ai.onnx.ml", "DictVectorizer"),
    ("ai.onnx.ml", "ZipMap"),
    ("ai.onnx.preview.training", "Gradient"),
];

impl<'m> Importer<'m, '_> {
    /// The results of an op over what is no tensor; `None` for every other op.
    pub(super) fn resolve(
        &mut self,
        call: &mut Call,
        site: &Site<'_, 'm>,
    ) -> Result<Option<Vec<Item>>, String> {
        if !OPS.contains(&(&call.domain, &call.op)) {
            return Ok(match site.items {
                [Some(item)] if call.op == "Identity" && call.domain.is_empty() => match item {
                    Item::Tensor(_) => None,
                    _ => Some(vec![item.clone()]),
                },
                _ => None,
            });
        }
        let one = match call.op.as_str() {
            "SequenceConstruct" => self.construct(site)?,
            "SequenceEmpty" => {
                let dtype =
                    tensor::dtype(call.take_int("dtype", 1)?).map_err(|e| format!("attribute dtype: {e}"))?;
                Item::Sequence(Sequence { dtype, elements: Vec::new() })
            }
            "SequenceInsert" => self.insert(site)?,
            "SequenceErase" => {
                let mut s = site.sequence(0)?.clone();
                let at = self.position(site, 1, s.elements.len())?;
                s.elements.remove(at);
                Item::Sequence(s)
            }
            "SequenceAt" => {
                let s = site.sequence(0)?;
                Item::Tensor(s.elements[self.position(site, 1, s.elements.len())?])
            }
            "SequenceLength" => {
                let n = site.sequence(0)?.elements.len() as i64;
                let n = burin_ir::Tensor::scalar(DType::I64, burin_ir::Scalar::I(n));
                Item::Tensor(self.graph.add_constant("", Constant::Data(n)))
            }
            "SplitToSequence" => self.split(call, site)?,
            "ConcatFromSequence" => self.concat(call, site)?,
            "SequenceMap" => return self.sequence_map(site).map(Some),
            "DictVectorizer" => self.dict_vectorizer(call, site)?,
            "CastMap" => self.cast_map(call, site)?,
            "Gradient" => return self.gradient(call, site).map(Some),
            "Optional" => optional(site)?,
            "OptionalHasElement" => {
                let there = !matches!(site.items.first(), None | Some(None | Some(Item::Optional(None))));
                Item::Tensor(self.flag(there))
            }
            "OptionalGetElement" => match site.item(0)? {
                Item::Optional(Some(of)) => Item::clone(of),
                Item::Optional(None) => return Err(format!("{}: the optional is not there", site.name(0))),
                item => item.clone(),
            },
            _ => self.zip_map(call, site)?,
        };
        match call.attrs.first() {
            Some((name, _)) => Err(format!("unknown attribute {name}")),
            None => Ok(Some(vec![one])),
        }
    }

    fn construct(&mut self, site: &Site<'_, 'm>) -> Result<Item, String> {
        let all: Result<Vec<Value>, String> = (0..site.items.len()).map(|i| site.tensor(i)).collect();
        let elements = all?;
        let first = elements.first().ok_or("it has no inputs, expected 1 or more")?;
        let dtype = self.dtype(*first)?;
        for (i, v) in elements.iter().enumerate() {
            self.expect_dtype(*v, dtype).map_err(|e| format!("{}: {e}", site.name(i)))?;
        }
        Ok(Item::Sequence(Sequence { dtype, elements }))
    }

    fn insert(&mut self, site: &Site<'_, 'm>) -> Result<Item, String> {
        let mut s = site.sequence(0)?.clone();
        let v = site.tensor(1)?;
        self.expect_dtype(v, s.dtype).map_err(|e| format!("{}: {e}", site.name(1)))?;
        let n = s.elements.len();
        if n >= MAX_LENGTH {
            return Err(format!("the sequence becomes longer than {MAX_LENGTH} tensors"));
        }
        // A position is one of those between elements, which are one more.
        let at = match self.operand(site, 2, "the position")? {
            None => n,
            Some(at) if (-(n as i64)..0).contains(&at) => (at + n as i64) as usize,
            Some(at) => usize::try_from(at).ok().filter(|at| *at <= n).ok_or_else(|| outside(at, n))?,
        };
        s.elements.insert(at, v);
        Ok(Item::Sequence(s))
    }

    /// The element that an operand says, counted from the end where it is negative; the last one where
    /// it is absent.
    fn position(&mut self, site: &Site<'_, 'm>, i: usize, length: usize) -> Result<usize, String> {
        let given = self.operand(site, i, "the position")?.unwrap_or(-1);
        let from_start = if given < 0 { given.saturating_add(length as i64) } else { given };
        usize::try_from(from_start).ok().filter(|at| *at < length).ok_or_else(|| outside(given, length))
    }

    fn split(&mut self, call: &mut Call, site: &Site<'_, 'm>) -> Result<Item, String> {
        let (given, keeps) = (call.take_int("axis", 0)?, call.take_int("keepdims", 1)? != 0);
        let x = site.tensor(0)?;
        let ty = self.graph.tensor_type(x).ok_or("its input is no tensor")?.clone();
        let rank = ty.rank() as i64;
        let axis = if given < 0 { given + rank } else { given };
        let size = usize::try_from(axis).ok().and_then(|a| ty.shape.get(a));
        let size = size.ok_or_else(|| format!("axis {given} is out of range for rank {rank}"))?;
        let parts = match site.items.get(1) {
            Some(Some(_)) => self.parts(site, size)?,
            _ => {
                let n = self.fixed_size(size)?;
                let mut b = Builder { graph: &mut self.graph, region: site.region };
                (ints(&mut b, &vec![1; n]), n)
            }
        };
        let elements = self.split_into(x, axis, parts, site)?;
        let squeezed = !keeps && !matches!(site.items.get(1), Some(Some(_)));
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        let axes = ints(&mut b, &[axis]);
        let squeeze = |v: Value| if squeezed { b.op("Squeeze", &[v, axes], Vec::new()) } else { Ok(v) };
        let elements = elements.into_iter().map(squeeze).collect::<Result<_, _>>()?;
        Ok(Item::Sequence(Sequence { dtype: ty.dtype, elements }))
    }

    /// The sizes that the operand `split` says, and how many they are.
    fn parts(&mut self, site: &Site<'_, 'm>, size: &Expr) -> Result<(Value, usize), String> {
        let v = site.tensor(1)?;
        let shape = &self.graph.tensor_type(v).ok_or("split is no tensor")?.shape;
        if let [count] = shape.as_slice() {
            let count = count.clone();
            return Ok((v, self.fixed_size(&count)?));
        }
        let each = self.known_one(v).ok_or_else(|| self.must_know(v, "the size of the parts"))?;
        if each < 1 {
            return Err(format!("{}: found {each}, expected 1 or more", site.name(1)));
        }
        let n = self.fixed_size(size)? as i64;
        let sizes: Vec<i64> = (0..n).step_by(each as usize).map(|at| each.min(n - at)).collect();
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        Ok((ints(&mut b, &sizes), sizes.len()))
    }

    fn split_into(
        &mut self,
        x: Value,
        axis: i64,
        (sizes, n): (Value, usize),
        site: &Site<'_, 'm>,
    ) -> Result<Vec<Value>, String> {
        if n == 0 {
            return Ok(Vec::new());
        }
        let row = ops::by_name("Split").ok_or("there is no op Split")?;
        let attrs = vec![("axis".to_owned(), Attr::Int(axis))];
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        let node = b.node(row, &site.node.name, vec![Some(x), Some(sizes)], attrs, n, Vec::new())?;
        Ok(self.graph.nodes[node].outputs.clone())
    }

    /// A size that says how long a sequence is.
    fn fixed_size(&self, size: &Expr) -> Result<usize, String> {
        let n = size.as_const().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
            let names: Vec<String> = size.symbols().iter().map(|s| format!("--dim {s}=N")).collect();
            format!(
                "the length of the sequence is {size}, which must be known when compiling: {}",
                names.join(" ")
            )
        })?;
        match n <= MAX_LENGTH {
            true => Ok(n),
            false => Err(format!("a sequence of {n} tensors; at most {MAX_LENGTH} are supported")),
        }
    }

    fn concat(&mut self, call: &mut Call, site: &Site<'_, 'm>) -> Result<Item, String> {
        let axis = match call.take("axis") {
            Some(Attr::Int(axis)) => axis,
            _ => return Err("attribute axis is missing, expected an integer".to_owned()),
        };
        let added = call.take_int("new_axis", 0)? != 0;
        let s = site.sequence(0)?;
        if s.elements.is_empty() {
            return Err(format!("{}: found an empty sequence, expected 1 tensor or more", site.name(0)));
        }
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        let axes = ints(&mut b, &[axis]);
        let spread = |v: &Value| if added { b.op("Unsqueeze", &[*v, axes], Vec::new()) } else { Ok(*v) };
        let parts = s.elements.iter().map(spread).collect::<Result<Vec<_>, _>>()?;
        Ok(Item::Tensor(b.op("Concat", &parts, vec![("axis", Attr::Int(axis))])?))
    }

    fn dtype(&self, v: Value) -> Result<DType, String> {
        self.graph.tensor_type(v).map(|t| t.dtype).ok_or_else(|| "an operand is no tensor".to_owned())
    }

    fn expect_dtype(&self, v: Value, expected: DType) -> Result<(), String> {
        let found = self.dtype(v)?;
        match found == expected {
            true => Ok(()),
            false => Err(format!("found elements of {found}, expected {expected} as in the sequence")),
        }
    }
}

fn optional(site: &Site<'_, '_>) -> Result<Item, String> {
    match site.items.first() {
        Some(Some(item @ (Item::Tensor(_) | Item::Sequence(_)))) => {
            Ok(Item::Optional(Some(Box::new(item.clone()))))
        }
        Some(Some(other)) => Err(format!("{}: found {other}, expected a tensor or a sequence", site.name(0))),
        _ if has_type(site.node) => Ok(Item::Optional(None)),
        _ => Err("it has neither an input nor the attribute type".to_owned()),
    }
}

fn has_type(n: &NodeProto) -> bool {
    n.attribute.iter().any(|a| a.name == "type")
}

fn outside(at: i64, length: usize) -> String {
    format!("the position {at} is outside a sequence of {length} tensors")
}
