//! The order of nodes: files may list them in any order; a graph lists them in execution order.

use super::proto::{GraphProto, NodeProto};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// The most nodes of a cycle that a message names.
const CYCLE_SHOWN: usize = 8;

/// How messages name a node of the file: `Conv "layer1"`.
pub(super) fn describe(n: &NodeProto) -> String {
    let first = n.output.first().map_or("", String::as_str);
    match (n.name.is_empty(), first.is_empty()) {
        (false, _) => format!("{} {:?}", n.op_type, n.name),
        (true, false) => format!("{} (of {first:?})", n.op_type),
        (true, true) => n.op_type.clone(),
    }
}

/// The positions of the nodes in an order in which every node follows those that it uses; the
/// file's own order where that does already. Errors name a value that is defined twice and the
/// nodes of a cycle.
pub(super) fn order(nodes: &[NodeProto]) -> Result<Vec<usize>, String> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, n) in nodes.iter().enumerate() {
        for o in n.output.iter().filter(|o| !o.is_empty()) {
            if let Some(before) = producer.insert(o, i) {
                let (a, b) = (describe(&nodes[before]), describe(n));
                return Err(format!("value {o:?} is defined twice, by {a} and by {b}"));
            }
        }
    }
    let mut waiting = vec![0usize; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, n) in nodes.iter().enumerate() {
        let from: HashSet<usize> = uses(n).into_iter().filter_map(|u| producer.get(u).copied()).collect();
        waiting[i] = from.len();
        from.into_iter().for_each(|p| users[p].push(i));
    }
    let ready = waiting.iter().enumerate().filter(|(_, w)| **w == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(i, _)| Reverse(i)).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        sorted.push(i);
        for u in &users[i] {
            waiting[*u] -= 1;
            if waiting[*u] == 0 {
                ready.push(Reverse(*u));
            }
        }
    }
    if sorted.len() < nodes.len() {
        return Err(cycle(nodes, &producer, &waiting));
    }
    Ok(sorted)
}

/// The names that a node uses, those that its subgraphs take from around them included.
fn uses(n: &NodeProto) -> Vec<&str> {
    let mut out: Vec<&str> = n.input.iter().map(String::as_str).filter(|u| !u.is_empty()).collect();
    for g in n.attribute.iter().filter_map(|a| a.g.as_ref()) {
        out.extend(captured(g));
    }
    out
}

/// The names that a subgraph uses and does not define.
pub(super) fn captured(g: &GraphProto) -> Vec<&str> {
    let mut own: HashSet<&str> = g.input.iter().map(|i| i.name.as_str()).collect();
    own.extend(g.initializer.iter().map(|i| i.name.as_str()));
    own.extend(g.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let used = g.node.iter().flat_map(uses).chain(g.output.iter().map(|o| o.name.as_str()));
    used.filter(|u| !own.contains(u)).collect()
}

/// The message for nodes that wait for one another: walks back from one of them until it meets a
/// node again.
fn cycle(nodes: &[NodeProto], producer: &HashMap<&str, usize>, waiting: &[usize]) -> String {
    let back = |i: usize| {
        uses(&nodes[i]).into_iter().filter_map(|u| producer.get(u).copied()).find(|p| waiting[*p] > 0)
    };
    let mut path: Vec<usize> = Vec::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut at = waiting.iter().position(|w| *w > 0);
    while let Some(i) = at {
        if let Some(start) = seen.insert(i, path.len()) {
            path.drain(..start);
            break;
        }
        path.push(i);
        at = back(i);
    }
    path.reverse();
    let more = if path.len() > CYCLE_SHOWN { ", ..." } else { "" };
    let names: Vec<String> = path.iter().take(CYCLE_SHOWN).map(|i| describe(&nodes[*i])).collect();
    format!("the graph has a cycle through {}{more}", names.join(", "))
}
