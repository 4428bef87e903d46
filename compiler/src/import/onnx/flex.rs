//! `FlexAttention`: attention whose scores and probabilities are changed by graphs of the model's own.
//! The importer puts those graphs' nodes between the parts that stand here.

use super::body::{Importer, Site};
use super::structure::Item;
use super::upgrade::{Call, ints};
use burin_ir::graph::{Builder, Value};
use burin_ir::{Attr, DType, Scalar, Tensor};

/// The domain and name of the op.
pub(super) const OP: (&str, &str) = ("ai.onnx.preview", "FlexAttention");

/// A node in the making.
struct Flex {
    v: Value,
    /// The type of the operands and the result.
    dtype: DType,
    /// The type of scores and probabilities.
    precise: DType,
    /// The numbers of heads of queries and of keys.
    heads: (i64, i64),
}

fn cast(b: &mut Builder<'_>, x: Value, to: DType) -> Result<Value, String> {
    if b.ty(x)?.dtype == to { Ok(x) } else { b.op("Cast", &[x], vec![("to", Attr::DType(to))]) }
}

impl Flex {
    /// The scores `[batch, heads, queries, keys]`.
    fn scores(c: &mut Call, b: &mut Builder<'_>) -> Result<(Flex, Value), String> {
        let (q, k, v) = (c.input(0)?, c.input(1)?, c.input(2)?);
        if let Some(x) = [q, k, v].into_iter().find(|x| b.ty(*x).is_ok_and(|t| t.rank() != 4)) {
            return Err(format!("an input is {}, expected four dimensions", b.ty(x)?));
        }
        let dtype = b.ty(q)?.dtype;
        let precise = match c.take_int("softmax_precision", 0)? {
            0 => dtype.accumulator(),
            n => super::tensor::dtype(n).map_err(|e| format!("softmax_precision: {e}"))?,
        };
        let count = |x: Value| {
            let n = b.ty(x)?.shape[1].as_const();
            n.ok_or_else(|| "the numbers of heads must be known when compiling".to_owned())
        };
        let heads = (count(q)?, count(k)?);
        if heads.1 < 1 || heads.0 % heads.1 != 0 {
            return Err(format!("{} heads of queries cannot share {} of keys", heads.0, heads.1));
        }
        let flex = Flex { v, dtype, precise, heads };
        let wide = dtype.accumulator();
        let (q, k) = (cast(b, q, wide)?, cast(b, k, wide)?);
        let factor = match c.take_float("scale")? {
            Some(scale) => b.constant(Tensor::scalar(wide, Scalar::F(scale))),
            None => {
                let size = b.op("Shape", &[q], vec![("start", Attr::Int(3))])?;
                let size = cast(b, size, wide)?;
                let root = b.op("Sqrt", &[size], Vec::new())?;
                b.op("Reciprocal", &[root], Vec::new())?
            }
        };
        let rows = flex.split(b, q, flex.heads.1)?;
        let columns = b.op("Transpose", &[k], vec![("perm", Attr::Ints(vec![0, 1, 3, 2]))])?;
        let products = b.op("MatMul", &[rows, columns], Vec::new())?;
        let products = flex.split(b, products, flex.heads.0)?;
        let scores = b.op("Mul", &[products, factor], Vec::new())?;
        let scores = cast(b, scores, precise)?;
        Ok((flex, scores))
    }

    /// The probabilities of scores.
    fn probabilities(&self, b: &mut Builder<'_>, scores: Value) -> Result<Value, String> {
        b.op("Softmax", &[scores], vec![("axis", Attr::Int(-1))])
    }

    /// The averages of the values.
    fn averages(&self, b: &mut Builder<'_>, probabilities: Value) -> Result<Value, String> {
        let v = cast(b, self.v, self.precise)?;
        let rows = self.split(b, probabilities, self.heads.1)?;
        let y = b.op("MatMul", &[rows, v], Vec::new())?;
        let y = self.split(b, y, self.heads.0)?;
        cast(b, y, self.dtype)
    }

    /// With so many heads: queries that share a head of keys are rows of one product.
    fn split(&self, b: &mut Builder<'_>, x: Value, heads: i64) -> Result<Value, String> {
        if self.heads.0 == self.heads.1 {
            return Ok(x);
        }
        let shape = ints(b, &[0, heads, -1, 0]);
        b.op("Reshape", &[x, shape], Vec::new())
    }
}

impl<'m> Importer<'m, '_> {
    /// The nodes of a FlexAttention, with those of its graphs in place.
    pub(super) fn flex_attention(
        &mut self,
        call: &mut Call,
        site: &Site<'_, 'm>,
    ) -> Result<Vec<Value>, String> {
        let region = site.region;
        let modified = |importer: &mut Self, name: &str, before: Value| {
            if !site.graphs.iter().any(|(n, _)| *n == name) {
                return Ok(before);
            }
            let results = importer.inline(site, name, &[Item::Tensor(before)]);
            let results = results.map_err(|e| format!("{name}: {e}"))?;
            let [after] = &results[..] else { return Err(format!("{name} has {} results", results.len())) };
            let after = after.tensor().map_err(|e| format!("{name}: {e}"))?;
            let b = Builder { graph: &mut importer.graph, region };
            let (found, expected) = (b.ty(after)?, b.ty(before)?);
            if found.dtype != expected.dtype || found.rank() != expected.rank() {
                return Err(format!("{name} gives {found}, expected {expected}"));
            }
            Ok(after)
        };
        let (flex, scores) = Flex::scores(call, &mut Builder { graph: &mut self.graph, region })?;
        let scores = modified(self, "score_mod", scores)?;
        let probabilities = flex.probabilities(&mut Builder { graph: &mut self.graph, region }, scores)?;
        let probabilities = modified(self, "prob_mod", probabilities)?;
        Ok(vec![flex.averages(&mut Builder { graph: &mut self.graph, region }, probabilities)?])
    }
}
