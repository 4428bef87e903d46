//! Common subexpressions: of nodes in one region that do the same to the same operands, the first
//! serves for all; equal constants are one.

use super::rewrite::{Outcome, rewrite_aliased};
use super::{Fuel, Report};
use burin_ir::attr::{Attr, Attrs};
use burin_ir::graph::{Constant, Def, Graph, Node, Region, Value};
use burin_ir::ops::Effect;
use burin_ir::{DType, TensorType};
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Constants of more bytes than this are equal only where they are the same bytes in memory.
const COMPARED_BYTES: usize = 1 << 12;

/// Unites equal nodes and equal constants.
pub fn run(graph: &mut Graph, fuel: &mut Fuel) -> Result<Report, String> {
    let mut aliases = equal_constants(graph);
    aliases.retain(|(v, first)| fuel.spend(|| format!("constant {v}, for which {first} stands")));
    let mut seen: HashMap<(Region, u64), Vec<Node>> = HashMap::new();
    rewrite_aliased(graph, &aliases, fuel, &mut |r, site| {
        let data = site.data;
        if data.op.effect != Effect::Pure || !data.regions.is_empty() {
            return Ok(Outcome::Keep);
        }
        let key = (r.region, hash_of(data.op.name, &data.attrs, &site.inputs));
        let same = seen.get(&key).into_iter().flatten().find(|n| {
            let n = &r.graph.nodes[**n];
            n.op == data.op
                && n.inputs == site.inputs
                && n.attrs == data.attrs
                && n.outputs.len() == data.outputs.len()
        });
        if let Some(n) = same {
            return Ok(Outcome::Replace(r.graph.nodes[*n].outputs.clone()));
        }
        // The node is copied next, under the next key.
        seen.entry(key).or_default().push(r.graph.nodes.next_key());
        Ok(Outcome::Keep)
    })
}

fn hash_of(op: &str, attrs: &Attrs, inputs: &[Option<Value>]) -> u64 {
    let mut h = DefaultHasher::new();
    (op, inputs).hash(&mut h);
    for (name, value) in &attrs.0 {
        name.hash(&mut h);
        match value {
            Attr::Int(v) => v.hash(&mut h),
            Attr::Ints(v) => v.hash(&mut h),
            Attr::Float(v) => v.to_bits().hash(&mut h),
            Attr::Str(v) => v.hash(&mut h),
            _ => {}
        }
    }
    h.finish()
}

/// What tells constants apart.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    Contents(DType, &'a [usize], &'a [u8]),
    Memory(TensorType, *const u8),
}

/// Constants, each with an earlier one that is equal.
fn equal_constants(graph: &Graph) -> Vec<(Value, Value)> {
    let mut first: HashMap<Identity<'_>, Value> = HashMap::new();
    let mut aliases = Vec::new();
    for (v, data) in graph.values.iter() {
        let Def::Const(c) = &data.def else { continue };
        let identity = match c {
            Constant::Data(t) if t.bytes().len() <= COMPARED_BYTES => {
                Identity::Contents(t.dtype(), t.shape(), t.bytes())
            }
            Constant::Data(t) => Identity::Memory(c.ty(), t.bytes().as_ptr()),
            Constant::Computed(c) => Identity::Memory(c.ty.clone(), Arc::as_ptr(c).cast()),
        };
        match first.entry(identity) {
            Entry::Occupied(f) => aliases.push((v, *f.get())),
            Entry::Vacant(slot) => {
                slot.insert(v);
            }
        }
    }
    aliases
}
