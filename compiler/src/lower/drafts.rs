//! Kernel calls before memory is planned: for each stored value its own kernel, or the copies and fills
//! that assemble it; and at the end what could not be computed where it is wanted.

use super::events::Draft;
use super::group::{self, Layout};
use super::place::{Places, Root, RootId};
use crate::graph::fuse::Fusion;
use crate::graph::node::{assembled_parts, fill_value};
use burin_ir::graph::{Graph, Value};
use burin_ir::{Expr, TensorType};

/// The kernels of one stored value: its own, or the copies and fills that assemble it.
pub(super) fn draft(
    graph: &Graph,
    fusion: &Fusion,
    places: &Places,
    v: Value,
    out: &mut Vec<Draft>,
) -> Result<(), String> {
    let Some((node, _)) = graph.producer(v) else { return Ok(()) };
    let name = graph.describe(node);
    let fail = |e: String| if e.contains(&name) { e } else { format!("{name}: {e}") };
    let p = places.of(v);
    let Some(parts) = assembled_parts(graph, node) else {
        let lowered = group::lower(graph, fusion, places, v).map_err(fail)?;
        out.push(Draft {
            lowered,
            writes: p.root,
            offset: p.offset.clone(),
            name,
            result: Some(v),
            held: None,
        });
        return Ok(());
    };
    for (part, start) in &parts {
        if places.is_part_of(*part, v) {
            continue;
        }
        let (root, offset, layout) = places.part(v, start);
        let lowered = group::copy(graph, fusion, places, *part, &layout).map_err(fail)?;
        out.push(Draft { lowered, writes: root, offset, name: name.clone(), result: Some(v), held: None });
    }
    if let Some(value) = fill_value(graph, node) {
        let ty = graph.tensor_type(v).ok_or("a padded value is no tensor")?;
        let (part, start) = &parts[0];
        let inner = graph.tensor_type(*part).ok_or("a padded operand is no tensor")?;
        for (corner, shape) in border(ty, &inner.shape, start) {
            let (root, offset, layout) = places.part(v, &corner);
            let lowered = group::fill(ty.dtype, value, &shape, &layout);
            out.push(Draft {
                lowered,
                writes: root,
                offset,
                name: name.clone(),
                result: Some(v),
                held: None,
            });
        }
    }
    Ok(())
}

/// The boxes (corner and shape) around an inner box that fill the rest of a tensor.
fn border(ty: &TensorType, inner: &[Expr], start: &[Expr]) -> Vec<(Vec<Expr>, Vec<Expr>)> {
    let mut out = Vec::new();
    let zero = vec![Expr::ZERO; inner.len()];
    for d in 0..inner.len() {
        let end = &start[d] + &inner[d];
        for (from, size) in [(Expr::ZERO, start[d].clone()), (end.clone(), &ty.shape[d] - &end)] {
            if size == 0 {
                continue;
            }
            let mut corner = [&start[..d], &zero[d..]].concat();
            let mut shape = [&inner[..d], &ty.shape[d..]].concat();
            (corner[d], shape[d]) = (from, size);
            out.push((corner, shape));
        }
    }
    out
}

/// Copies into outputs and states what could not be computed there.
pub(super) fn final_copies(
    graph: &Graph,
    fusion: &Fusion,
    places: &mut Places,
    out: &mut Vec<Draft>,
) -> Result<(), String> {
    let mut copy_to = |places: &mut Places,
                       v: Value,
                       held: Option<RootId>,
                       root: Root,
                       name: &str|
     -> Result<(), String> {
        let ty = graph.tensor_type(v).ok_or_else(|| format!("{name} is no tensor"))?;
        let layout = Layout::contiguous(&ty.shape);
        let lowered = group::copy(graph, fusion, places, v, &layout)?;
        places.roots.push(root);
        let writes = places.roots.len() - 1;
        out.push(Draft { lowered, writes, offset: Expr::ZERO, name: name.to_owned(), result: None, held });
        Ok(())
    };
    for (i, v) in graph.outputs().iter().enumerate() {
        if !places.direct_outputs.contains(&i) {
            copy_to(places, *v, None, Root::Output(i), &format!("output {}", graph.output_names[i]))?;
        }
    }
    // A state's next value may be another state's present one: all are read before any is written.
    let mut held = Vec::new();
    for (i, s) in graph.states.iter().enumerate() {
        if s.next == s.value {
            continue;
        }
        let name = format!("state {}", graph.values[s.value].name);
        let from = &places.roots[places.of(s.next).root];
        if matches!(from, Root::State(_)) {
            let ty = graph.tensor_type(s.next).ok_or("a state is no tensor")?;
            copy_to(places, s.next, None, Root::Arena(ty.bytes()), &name)?;
            held.push((i, Some(places.roots.len() - 1), name));
        } else {
            held.push((i, None, name));
        }
    }
    for (i, from, name) in held {
        copy_to(places, graph.states[i].next, from, Root::State(i), &name)?;
    }
    Ok(())
}
