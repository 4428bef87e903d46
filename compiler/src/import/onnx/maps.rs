//! Maps, and the ops over them. A map is a row of a matrix with a column for each of its keys.
//!
//! A map among a model's inputs has the keys of the DictVectorizer that takes it, or those that the user
//! states; where a call has none of a key, its column is zero.

use super::body::{Importer, Site};
use super::proto::{AttributeProto, MapTypeProto, NodeProto, TypeProto, TypeValue};
use super::structure::{Item, Keys};
use super::tensor;
use super::upgrade::{Call, ints};
use burin_ir::graph::{Builder, Constant, Value};
use burin_ir::{Attr, DType, Tensor, TensorType};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// More columns than this no CastMap makes.
const MAX_COLUMNS: i64 = 1 << 20;

/// The type of the matrix that a map of that declared type is.
pub(super) fn row_type(declared: &Bytes, keys: &Keys) -> Result<TensorType, String> {
    let ty = MapTypeProto::decode(declared.clone()).map_err(|e| format!("not the type of a map: {e}"))?;
    let texts = tensor::dtype(ty.key_type.into())? == DType::Text;
    if texts != matches!(keys, Keys::Texts(_)) {
        let kind = if texts { "texts" } else { "integers" };
        return Err(format!("its keys are {kind}, found {keys}"));
    }
    match ty.value_type.and_then(|t| t.value) {
        Some(TypeValue::Tensor(t)) => {
            Ok(TensorType::new(tensor::dtype(t.elem_type.into())?, [1, keys.len()]))
        }
        _ => Err("it is a map to what is no tensor, which is not supported as an input".to_owned()),
    }
}

/// The keys of the DictVectorizer that takes the map of that name, among those nodes.
pub(super) fn vocabulary(nodes: &[NodeProto], name: &str) -> Option<Keys> {
    let node = nodes.iter().find(|n| n.op_type == "DictVectorizer" && n.input.iter().any(|i| i == name))?;
    let attr = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let text = |b: &Bytes| String::from_utf8(b.to_vec()).ok();
    let texts = |a: &AttributeProto| a.strings.iter().map(text).collect::<Option<Vec<_>>>();
    match (attr("string_vocabulary"), attr("int64_vocabulary")) {
        (Some(a), _) => texts(a).map(Keys::Texts),
        (None, Some(a)) => Some(Keys::Ints(a.ints.clone())),
        (None, None) => None,
    }
}

/// Whether a type is that of a map.
pub(super) fn is_map(ty: &TypeProto) -> bool {
    matches!(ty.value, Some(TypeValue::Map(_)))
}

impl<'m> Importer<'m, '_> {
    /// Maps stay the matrix that they are made of.
    pub(super) fn zip_map(&mut self, call: &mut Call, site: &Site<'_, 'm>) -> Result<Item, String> {
        let keys = taken_keys(call, "classlabels_int64s", "classlabels_strings")?;
        let mut v = site.tensor(0)?;
        let ty = self.graph.tensor_type(v).ok_or("its input is no tensor")?.clone();
        let columns = ty.shape.last().filter(|_| ty.rank() <= 2);
        if columns.is_none_or(|c| *c != keys.len() as i64) {
            let n = keys.len();
            return Err(format!(
                "{}: found {ty}, expected [N, {n}] or [{n}], as there are {n} keys",
                site.name(0)
            ));
        }
        if ty.rank() == 1 {
            let mut b = Builder { graph: &mut self.graph, region: site.region };
            let first = ints(&mut b, &[0]);
            v = b.op("Unsqueeze", &[v, first], Vec::new())?;
        }
        Ok(Item::Maps(Arc::new(keys), v))
    }

    /// The values of the keys of a vocabulary, in its order.
    pub(super) fn dict_vectorizer(&mut self, call: &mut Call, site: &Site<'_, 'm>) -> Result<Item, String> {
        let wanted = taken_keys(call, "int64_vocabulary", "string_vocabulary")?;
        let (keys, v) = maps(site)?;
        let place = |k: usize| match (&wanted, &**keys) {
            (Keys::Ints(all), Keys::Ints(own)) => own.iter().position(|key| *key == all[k]),
            (Keys::Texts(all), Keys::Texts(own)) => own.iter().position(|key| *key == all[k]),
            _ => None,
        };
        let columns: Vec<Option<usize>> = (0..wanted.len()).map(place).collect();
        self.columns(site, v, keys.len(), &columns).map(Item::Tensor)
    }

    /// A map with integers as keys as a tensor: its values in the order of the keys, or each at its key.
    pub(super) fn cast_map(&mut self, call: &mut Call, site: &Site<'_, 'm>) -> Result<Item, String> {
        let form = call.take("map_form").unwrap_or(Attr::Str("DENSE".to_owned()));
        let to = call.take("cast_to").unwrap_or(Attr::Str("TO_FLOAT".to_owned()));
        let most = call.take_int("max_map", 1)?;
        let (keys, v) = maps(site)?;
        let Keys::Ints(own) = &**keys else {
            return Err(format!("{}: found a map with texts as keys, expected integers", site.name(0)));
        };
        let mut order: Vec<usize> = (0..own.len()).collect();
        order.sort_by_key(|i| own[*i]);
        let columns: Vec<Option<usize>> = match &form {
            Attr::Str(form) if form == "DENSE" => order.into_iter().map(Some).collect(),
            Attr::Str(form) if form == "SPARSE" && (0..=MAX_COLUMNS).contains(&most) => {
                (0..most).map(|key| own.iter().position(|k| *k == key)).collect()
            }
            other => {
                return Err(format!("map_form is {other:?} and max_map {most}, expected DENSE or SPARSE"));
            }
        };
        let v = self.columns(site, v, own.len(), &columns)?;
        let to = match &to {
            Attr::Str(to) if to == "TO_FLOAT" => DType::F32,
            Attr::Str(to) if to == "TO_INT64" => DType::I64,
            Attr::Str(to) if to == "TO_STRING" => DType::Text,
            other => return Err(format!("cast_to is {other:?}, expected TO_FLOAT, TO_INT64 or TO_STRING")),
        };
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        let from = b.ty(v)?.dtype;
        let op = if from == DType::Text || to == DType::Text { "CastText" } else { "Cast" };
        Ok(Item::Tensor(b.op(op, &[v], vec![("to", Attr::DType(to))])?))
    }

    /// Columns of a matrix of so many, where there is none zero or the empty text.
    fn columns(
        &mut self,
        site: &Site<'_, 'm>,
        v: Value,
        count: usize,
        columns: &[Option<usize>],
    ) -> Result<Value, String> {
        let mut b = Builder { graph: &mut self.graph, region: site.region };
        // One more, for those that there are not.
        let pads = ints(&mut b, &[0, 0, 0, 1]);
        let padded = b.op("Pad", &[v, pads], Vec::new())?;
        let places: Vec<i64> = columns.iter().map(|c| c.unwrap_or(count) as i64).collect();
        let places = b.graph.add_constant("", Constant::Data(Tensor::new(&[places.len()], &places)));
        b.op("Gather", &[padded, places], vec![("axis", Attr::Int(1))])
    }
}

/// The maps that are the first operand.
fn maps<'s>(site: &'s Site<'_, '_>) -> Result<(&'s Arc<Keys>, Value), String> {
    match site.item(0)? {
        Item::Maps(keys, v) => Ok((keys, *v)),
        other => Err(format!("{}: found {other}, expected a map", site.name(0))),
    }
}

/// Keys that one of two attributes lists.
fn taken_keys(call: &mut Call, integers: &str, texts: &str) -> Result<Keys, String> {
    match (call.take(integers), call.take(texts)) {
        (Some(Attr::Ints(all)), None) => Ok(Keys::Ints(all)),
        (None, Some(Attr::Strs(all))) => Ok(Keys::Texts(all)),
        _ => Err(format!("expected one of the attributes {integers} and {texts}")),
    }
}
