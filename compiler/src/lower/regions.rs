//! Nodes with regions as events: If, Loop and Scan.
//!
//! Each region becomes a level of its own. What a loop carries are the level's states; they lie where the
//! node's results do, and begin as copies of the operands. The elements of a scanned operand or result
//! are places in it that move on with each iteration.
//!
//! A loop that ends by a condition and collects results has room for all that it may collect, or runs twice;
//! so does one that collects what has a size that is known only within.

use super::events::{Control, Draft, Event, Events, Inner, Kind};
use super::extract::{Roles, extract};
use super::group::{self, Layout};
use super::level::{Entry, Level, Lowering};
use super::place::{Places, Root, RootId};
use super::sizes::follows;
use crate::graph::node::captures;
use crate::memory::typical;
use burin_ir::graph::{Graph, Node, NodeData, Region, Value};
use burin_ir::ops::control::reversed;
use burin_ir::{DType, Expr, Symbol, TensorType};
use std::collections::HashSet;

/// The events of a node with regions.
pub(super) fn control(e: &mut Events<'_>, node: Node, lowering: &mut Lowering<'_>) -> Result<(), String> {
    let graph = e.graph;
    let data = &graph.nodes[node];
    match data.op.name {
        "If" => branches(e, data, lowering),
        "Loop" => looped(e, data, lowering),
        "Scan" => scanned(e, data, lowering),
        other => Err(format!("there is no lowering of the regions of {other}")),
    }
}

fn tensor(graph: &Graph, v: Value) -> Result<&TensorType, String> {
    graph.tensor_type(v).ok_or_else(|| format!("found {}, expected a tensor", graph.values[v].ty))
}

/// The roots of values, and where in them they begin.
fn places(e: &Events<'_>, values: &[Value]) -> Result<Vec<(RootId, Expr)>, String> {
    let place = |v: &Value| -> Result<(RootId, Expr), String> {
        let p = e.places.of(*v);
        Ok((p.root, &p.offset * tensor(e.graph, *v)?.dtype.bytes() as i64))
    };
    values.iter().map(place).collect()
}

/// A new root of a level that is an inner one's arena. What its offsets need is known before.
fn arena(e: &mut Events<'_>, level: &Level, lowering: &mut Lowering<'_>) -> RootId {
    for (s, offset) in &level.memory.plan.lets {
        if follows(offset, &lowering.constant) {
            lowering.constant.insert(*s);
            lowering.lets.push((*s, offset.clone()));
            e.known.insert(*s);
        } else {
            e.set(*s, offset.clone());
        }
    }
    e.places.roots.push(Root::Arena(level.memory.plan.total.clone()));
    e.places.roots.len() - 1
}

/// Symbols for what differs between the sizes of a result and those inside: `(outer, inner)`.
fn renamed(outer: &TensorType, inner: &TensorType) -> Vec<(Symbol, Expr)> {
    let pairs = outer.shape.iter().zip(&inner.shape).filter(|(a, b)| a != b);
    pairs.filter_map(|(a, b)| Some((a.as_symbol()?, b.clone()))).collect()
}

fn branches(e: &mut Events<'_>, data: &NodeData, lowering: &mut Lowering<'_>) -> Result<(), String> {
    let graph = e.graph;
    let cond = data.inputs[0].and_then(|v| graph.values[v].known.clone());
    let cond = cond.and_then(|k| k.first().cloned()).ok_or("its condition is not one element")?;
    let mut control =
        Control { kind: Kind::If(cond), inner: Vec::new(), writes: Vec::new(), reads: Vec::new() };
    let entry = e.known.clone();
    let mut sets = Vec::new();
    for region in &data.regions {
        let captured = captures(graph, *region);
        let results: Vec<Value> =
            graph.regions[*region].results.iter().copied().take(data.outputs.len()).collect();
        let inner = extract(graph, *region, &Roles { inputs: &captured, states: &[], outputs: &results });
        let mut names = Vec::new();
        for (outer, result) in data.outputs.iter().zip(&results) {
            names.extend(renamed(tensor(graph, *outer)?, tensor(graph, *result)?));
        }
        let outer_bytes = |v: &Value| tensor(graph, *v).map(TensorType::bytes);
        let sizes: Vec<Expr> = data.outputs.iter().map(outer_bytes).collect::<Result<_, _>>()?;
        let mut told = |events: &mut Events<'_>, _: &mut Lowering<'_>| {
            names.iter().for_each(|(s, size)| events.set(*s, size.clone()));
            Ok(names.iter().map(|(s, _)| *s).collect())
        };
        let level = Level::new(
            inner,
            Entry {
                known: entry.clone(),
                varying: Vec::new(),
                allocates: sizes.iter().map(|b| !follows(b, &entry)).collect(),
                before: &|_| {},
                after: &mut told,
            },
            lowering,
        )?;
        sets.extend(level.sets.iter().copied());
        let arena = arena(e, &level, lowering);
        control.reads.extend(&captured);
        control.writes.push(arena);
        let (inputs, outputs) = (places(e, &captured)?, places(e, &data.outputs)?);
        // Memory for what has other sizes in the two branches is asked for inside.
        let inside = outputs.iter().zip(&sizes).filter(|(_, b)| !follows(b, &entry));
        e.managed.extend(inside.map(|((root, _), _)| *root));
        control.inner.push(Inner { level, inputs, outputs, states: Vec::new(), arena });
    }
    control.writes.extend(places(e, &data.outputs)?.into_iter().map(|(root, _)| root));
    e.all.push(Event::Control(Box::new(control)));
    e.known.extend(sets);
    e.sizes(lowering);
    Ok(())
}

/// What Loop and Scan have in common.
struct Repeated {
    region: Region,
    counter: Symbol,
    extent: Expr,
    going: Option<Symbol>,
    /// Is set to how often it ran.
    trips: Option<Symbol>,
    /// Parameters whose one element is an expression: of a Loop the number of the iteration, and
    /// whether it goes on.
    cells: Vec<(Value, Expr, DType)>,
    /// A parameter that says whether it goes on, with the result that it becomes.
    cond: Option<(Value, Value, Expr)>,
    /// Carried: operand, parameter, result of the region, result of the node.
    carried: Vec<[Value; 4]>,
    /// Scanned operands with the parameters that are their elements, and whether from their end.
    scanned: Vec<(Value, Value, bool)>,
    /// Results of the region with the results of the node whose elements they are.
    stacked: Vec<(Value, Value, bool)>,
    /// Sizes of those that are known only within, with what they must be.
    expected: Vec<(Symbol, Symbol)>,
}

impl Repeated {
    fn of_loop(graph: &Graph, data: &NodeData, lowering: &mut Lowering<'_>) -> Result<Repeated, String> {
        let region = data.regions[0];
        let (params, results) = (&graph.regions[region].params, &graph.regions[region].results);
        let known = |i: usize| -> Result<Option<Expr>, String> {
            let Some(v) = data.inputs.get(i).copied().flatten() else { return Ok(None) };
            let first = graph.values[v].known.as_ref().and_then(|k| k.first().cloned());
            first.map(Some).ok_or_else(|| format!("input {i} is not one element"))
        };
        let (bound, cond) = (known(0)?, known(1)?.unwrap_or(Expr::ONE));
        let counted = data.attrs.flag("counted") && bound.is_some();
        let bound = bound.unwrap_or(Expr::constant(i64::MAX));
        let operands: Vec<Value> = data.inputs.iter().skip(2).copied().flatten().collect();
        let n = operands.len();
        if data.outputs.len() < n {
            return Err(format!("it has {} results, expected {n} or more", data.outputs.len()));
        }
        let counter = lowering.name("i");
        let mut cells = vec![(params[0], counter.into(), DType::I64)];
        if counted {
            cells.push((params[1], Expr::ONE, DType::Bool));
        }
        let rows = results[1 + n..].iter().zip(&data.outputs[n..]);
        Ok(Repeated {
            region,
            counter,
            extent: if counted { bound.maximum(&Expr::ZERO) * &cond } else { bound },
            going: (!counted).then(|| lowering.name("going")),
            trips: None,
            cells,
            cond: (!counted).then(|| (params[1], results[0], cond)),
            carried: (0..n).map(|k| [operands[k], params[2 + k], results[1 + k], data.outputs[k]]).collect(),
            scanned: Vec::new(),
            stacked: rows.map(|(r, out)| (*r, *out, false)).collect(),
            expected: Vec::new(),
        })
    }

    fn of_scan(graph: &Graph, data: &NodeData, lowering: &mut Lowering<'_>) -> Result<Repeated, String> {
        let region = data.regions[0];
        let (params, results) = (&graph.regions[region].params, &graph.regions[region].results);
        let operands: Vec<Value> = data.inputs.iter().copied().flatten().collect();
        let scans = data.attrs.int("num_scan_inputs").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let n = operands.len().checked_sub(scans).ok_or("it scans more inputs than it has")?;
        if data.outputs.len() < n || scans == 0 {
            return Err(format!("it has {} results, expected {n} or more", data.outputs.len()));
        }
        let from_end = |what: &str, i: usize| reversed(&data.attrs, what, i);
        let extent = tensor(graph, operands[n])?.shape.first().cloned().ok_or("it scans a scalar")?;
        let rows = results[n..].iter().zip(&data.outputs[n..]).enumerate();
        Ok(Repeated {
            region,
            counter: lowering.name("i"),
            extent,
            going: None,
            trips: None,
            cells: Vec::new(),
            cond: None,
            carried: (0..n).map(|k| [operands[k], params[k], results[k], data.outputs[k]]).collect(),
            scanned: (0..scans)
                .map(|k| (operands[n + k], params[n + k], from_end("scan_input_directions", k)))
                .collect(),
            stacked: rows.map(|(k, (r, out))| (*r, *out, from_end("scan_output_directions", k))).collect(),
            expected: Vec::new(),
        })
    }

    /// The same loop, of which is known how often it runs.
    fn run_times(mut self, trips: Symbol) -> Repeated {
        if let Some((param, ..)) = self.cond.take() {
            self.cells.push((param, Expr::ONE, DType::Bool));
        }
        Repeated { extent: trips.into(), going: None, ..self }
    }

    /// The sizes of collected results that are not known before, and do not change from one to the next.
    fn open(&self, e: &Events<'_>) -> Result<Vec<Symbol>, String> {
        let mut out = Vec::new();
        for (result, ..) in &self.stacked {
            let sizes = tensor(e.graph, *result)?.shape.iter().filter_map(Expr::as_symbol);
            let within = |s: &Symbol| !e.known.contains(s) && !s.name().starts_with(Symbol::VARYING);
            out.extend(sizes.filter(within));
        }
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }

    /// The sizes of carried values that change, by what they begin with.
    fn varying(&self, graph: &Graph) -> Result<Vec<(Symbol, Expr)>, String> {
        let mut out = Vec::new();
        for [operand, param, ..] in &self.carried {
            let (first, param) = (tensor(graph, *operand)?, tensor(graph, *param)?);
            let pairs = param.shape.iter().zip(&first.shape);
            let own = pairs.filter_map(|(p, f)| Some((p.as_symbol()?, f.clone())));
            out.extend(own.filter(|(s, _)| s.name().starts_with(Symbol::VARYING)));
        }
        Ok(out)
    }
}

/// A root of one element that holds an expression's value.
fn cell(e: &mut Events<'_>, value: Option<Expr>, dtype: DType) -> RootId {
    e.places.roots.push(Root::Arena(Expr::from(dtype.bytes() as i64)));
    let root = e.places.roots.len() - 1;
    if let Some(value) = value {
        e.all.push(Event::Store(value, root, dtype));
    }
    root
}

/// Copies an operand to where the result lies that it is the first value of.
fn begin(e: &mut Events<'_>, operand: Value, result: Value, varies: bool) -> Result<RootId, String> {
    let (graph, root) = (e.graph, e.places.of(result).root);
    let ty = tensor(graph, operand)?;
    if varies {
        e.managed.insert(root);
        e.all.push(Event::Alloc(root, ty.bytes()));
    }
    let lowered = group::copy(graph, e.fusion, e.places, operand, &Layout::contiguous(&ty.shape))?;
    let name = "the first value of a loop".to_owned();
    e.calls(vec![Draft { lowered, writes: root, offset: Expr::ZERO, name, result: None, held: None }]);
    Ok(root)
}

/// Memory for all that a loop may collect is asked for up to so many bytes at typical dimensions.
const ROOM: i64 = 64 << 20;

/// A Loop. How much it collects is known only at its end if it ends by a condition: there is room for as
/// much as it may be then or, where that is too much, it runs twice, at first to be counted.
fn looped(e: &mut Events<'_>, data: &NodeData, lowering: &mut Lowering<'_>) -> Result<(), String> {
    let graph = e.graph;
    let mut r = Repeated::of_loop(graph, data, lowering)?;
    let open = r.open(e)?;
    if r.stacked.is_empty() || r.going.is_none() && open.is_empty() {
        return repeated(e, r, lowering);
    }
    let counted = r.going.is_none();
    let trips = lowering.name("trips");
    r.trips = Some(trips);
    let (mut rooms, mut lengths) = (Vec::new(), Vec::new());
    for (result, out, _) in &r.stacked {
        rooms.push((*out, r.extent.maximum(&Expr::ZERO) * tensor(graph, *result)?.bytes()));
        lengths.extend(tensor(graph, *out)?.shape.first().and_then(Expr::as_symbol).filter(|_| !counted));
    }
    let all = rooms.iter().map(|(_, bytes)| typical(bytes)).fold(0, i64::saturating_add);
    if open.is_empty() && follows(&r.extent, &lowering.constant) && all <= ROOM {
        for (out, bytes) in rooms {
            let (root, _) = places(e, &[out])?.swap_remove(0);
            e.managed.insert(root);
            e.all.push(Event::Alloc(root, bytes));
        }
        repeated(e, r, lowering)?;
        lengths.iter().for_each(|s| e.set(*s, trips.into()));
    } else {
        let again = |e: &mut Events<'_>, lowering: &mut Lowering<'_>| {
            lengths.iter().for_each(|s| e.set(*s, trips.into()));
            e.sizes(lowering);
            Ok(Repeated::of_loop(graph, data, lowering)?.run_times(trips))
        };
        twice(e, r, &open, again, lowering)?;
    }
    e.sizes(lowering);
    Ok(())
}

/// A Scan.
fn scanned(e: &mut Events<'_>, data: &NodeData, lowering: &mut Lowering<'_>) -> Result<(), String> {
    let graph = e.graph;
    let r = Repeated::of_scan(graph, data, lowering)?;
    let open = r.open(e)?;
    if open.is_empty() {
        return repeated(e, r, lowering);
    }
    twice(e, r, &open, |_, lowering| Repeated::of_scan(graph, data, lowering), lowering)
}

/// A loop that runs at first without collecting anything, to find out how much that is, and then `again`.
/// Of `open` sizes of what it collects the last values found are expected of all.
fn twice(
    e: &mut Events<'_>,
    mut r: Repeated,
    open: &[Symbol],
    again: impl FnOnce(&mut Events<'_>, &mut Lowering<'_>) -> Result<Repeated, String>,
    lowering: &mut Lowering<'_>,
) -> Result<(), String> {
    // Sizes within are computed anew.
    let sizes = lowering.sizes.clone();
    r.stacked.clear();
    // What they follow from is known behind the loop as well, for sizes that follow from it too.
    let of = |s: &Symbol| {
        sizes.iter().find(|(name, _)| name == s).map_or_else(Default::default, |(_, e)| e.symbols())
    };
    let mut within: Vec<Symbol> = open.iter().flat_map(of).chain(open.iter().copied()).collect();
    within.retain(|s| !e.known.contains(s));
    // Those of a loop that never runs. Within, they are not known before they are computed.
    e.all.extend(within.iter().map(|s| Event::Let(*s, Expr::ZERO)));
    repeated(e, r, lowering)?;
    lowering.sizes.clone_from(&sizes);
    let mut r = again(e, lowering)?;
    for s in open {
        let expected = lowering.name("row");
        e.set(expected, (*s).into());
        r.expected.push((*s, expected));
    }
    repeated(e, r, lowering)?;
    if !open.is_empty() {
        lowering.sizes = sizes.into_iter().filter(|(s, _)| !open.contains(s)).collect();
        e.known.extend(within);
        e.sizes(lowering);
    }
    Ok(())
}

fn repeated(e: &mut Events<'_>, r: Repeated, lowering: &mut Lowering<'_>) -> Result<(), String> {
    let graph = e.graph;
    let entry = e.known.clone();
    let varying = r.varying(graph)?;
    let varies = |ty: &TensorType| {
        ty.shape.iter().any(|d| d.symbols().iter().any(|s| varying.iter().any(|(v, _)| v == s)))
    };
    varying.iter().for_each(|(s, first)| e.all.push(Event::Let(*s, first.clone())));
    r.trips.iter().for_each(|s| e.all.push(Event::Let(*s, Expr::ZERO)));
    let cells: Vec<RootId> = r.cells.iter().map(|(_, _, dtype)| cell(e, None, *dtype)).collect();
    let mut states = Vec::new();
    let mut state_places = Vec::new();
    if let Some((param, result, first)) = &r.cond {
        states.push((*param, *result));
        state_places.push((cell(e, Some(first.clone()), DType::Bool), Expr::ZERO));
    }
    if let (Some(going), Some((_, _, first))) = (r.going, &r.cond) {
        e.all.push(Event::Let(going, first.clone()));
    }
    for [operand, param, result, out] in &r.carried {
        states.push((*param, *result));
        let root = begin(e, *operand, *out, varies(tensor(graph, *param)?))?;
        state_places.push((root, Expr::ZERO));
    }
    let captured = captures(graph, r.region);
    let mut inputs: Vec<Value> = r.cells.iter().map(|(p, ..)| *p).collect();
    inputs.extend(r.scanned.iter().map(|(_, p, _)| *p));
    inputs.extend(&captured);
    let outputs: Vec<Value> = r.stacked.iter().map(|(inner, ..)| *inner).collect();
    let inner = extract(graph, r.region, &Roles { inputs: &inputs, states: &states, outputs: &outputs });
    let level = body(inner, &r, &entry, &varying, varies, lowering)?;
    let row = |v: Value, ty: &TensorType, from_end: bool, e: &Events<'_>| -> Result<(RootId, Expr), String> {
        let at = if from_end { &r.extent - 1 - Expr::from(r.counter) } else { r.counter.into() };
        let expected = |d: &Expr| r.expected.iter().find(|(s, _)| d.as_symbol() == Some(*s));
        let size = |d: &Expr| expected(d).map_or_else(|| d.clone(), |(_, n)| (*n).into());
        let row = TensorType::new(ty.dtype, ty.shape.iter().map(size));
        if !row.shape.iter().all(|d| follows(d, &entry)) {
            return Err(format!("the elements {ty} that it scans or collects vary in size"));
        }
        let (root, start) = places(e, &[v])?.swap_remove(0);
        Ok((root, start + at * row.bytes()))
    };
    let mut input_places: Vec<(RootId, Expr)> = cells.into_iter().map(|c| (c, Expr::ZERO)).collect();
    for (operand, param, from_end) in &r.scanned {
        input_places.push(row(*operand, tensor(graph, *param)?, *from_end, e)?);
    }
    input_places.extend(places(e, &captured)?);
    let mut output_places = Vec::new();
    for (result, out, from_end) in &r.stacked {
        output_places.push(row(*out, tensor(graph, *result)?, *from_end, e)?);
    }
    let arena = arena(e, &level, lowering);
    let written = [&output_places, &state_places, &input_places[..r.cells.len()].to_vec()];
    let mut writes: Vec<RootId> = written.into_iter().flatten().map(|(root, _)| *root).collect();
    writes.push(arena);
    let mut reads = captured;
    reads.extend(r.scanned.iter().map(|(operand, ..)| *operand));
    let inner = Inner { level, inputs: input_places, outputs: output_places, states: state_places, arena };
    let kind = Kind::Loop(r.counter, r.extent.clone(), r.going);
    e.all.push(Event::Control(Box::new(Control { kind, inner: vec![inner], writes, reads })));
    e.known.extend(varying.iter().map(|(s, _)| *s).chain(r.trips));
    for [_, param, _, out] in &r.carried {
        for (outer, inner) in renamed(tensor(graph, *out)?, tensor(graph, *param)?) {
            e.set(outer, inner);
        }
    }
    e.sizes(lowering);
    Ok(())
}

/// The level of a loop's body.
fn body(
    inner: Graph,
    r: &Repeated,
    entry: &HashSet<Symbol>,
    varying: &[(Symbol, Expr)],
    varies: impl Fn(&TensorType) -> bool,
    lowering: &mut Lowering<'_>,
) -> Result<Level, String> {
    let before = |events: &mut Events<'_>| {
        for (i, (_, value, dtype)) in r.cells.iter().enumerate() {
            let root = events.places.of(events.graph.inputs()[i]).root;
            events.all.push(Event::Store(value.clone(), root, *dtype));
        }
    };
    let first = usize::from(r.cond.is_some());
    let mut after = |events: &mut Events<'_>, lowering: &mut Lowering<'_>| {
        let graph = events.graph;
        for (size, expected) in &r.expected {
            fits(events, *size, *expected)?;
        }
        let mut sizes = Vec::new();
        for (i, s) in graph.states.iter().enumerate().skip(first) {
            let (now, next) = (tensor(graph, s.value)?, tensor(graph, s.next)?);
            if varies(now) {
                sizes.extend(renamed(now, next));
                grow(events, i, next.bytes());
            }
        }
        // All are read before any is set.
        let temporary: Vec<(Symbol, Symbol)> =
            sizes.iter().map(|(s, _)| (*s, lowering.name("next"))).collect();
        for ((_, size), (_, name)) in sizes.iter().zip(&temporary) {
            events.set(*name, size.clone());
        }
        for (s, name) in temporary {
            events.set(s, name.into());
        }
        if let Some(trips) = r.trips {
            events.set(trips, Expr::from(r.counter) + 1);
        }
        if let Some(going) = r.going {
            events.all.push(Event::Read(graph.states[0].value, 0, going));
        }
        Ok(Vec::new())
    };
    let mut symbols: Vec<Symbol> = varying.iter().map(|(s, _)| *s).collect();
    symbols.extend([r.counter].into_iter().chain(r.trips));
    let allocates = vec![false; inner.outputs().len()];
    let entry =
        Entry { known: entry.clone(), varying: symbols, allocates, before: &before, after: &mut after };
    Level::new(inner, entry, lowering)
}

/// Gives a state whose size changes its memory right before its next value is copied there.
fn grow(events: &mut Events<'_>, state: usize, bytes: Expr) {
    let own = |e: &Event, places: &Places| match e {
        Event::Call(d) if places.roots[d.writes] == Root::State(state) => Some(d.writes),
        _ => None,
    };
    let found = events.all.iter().enumerate().find_map(|(i, e)| Some((i, own(e, events.places)?)));
    if let Some((i, root)) = found {
        events.all.insert(i, Event::Alloc(root, bytes));
    }
}

/// Has a run refused in which a size of what is collected is not what is expected, before any of it is
/// written.
fn fits(events: &mut Events<'_>, size: Symbol, expected: Symbol) -> Result<(), String> {
    let graph = events.graph;
    let known = events.all.iter().rposition(|e| e.sets(size));
    let known = known.ok_or_else(|| format!("the size {size} of what it collects is not computed within"))?;
    let mut has_it = Vec::new();
    for v in graph.outputs() {
        has_it.push(tensor(graph, *v)?.shape.iter().any(|d| d.as_symbol() == Some(size)));
    }
    let roots = &events.places.roots;
    let output = |root: &RootId| matches!(roots[*root], Root::Output(i) if has_it[i]);
    if events.all[..=known].iter().any(|e| e.writes().iter().any(output)) {
        return Err(format!("what it collects is written before its size {size} is known"));
    }
    let differs = Expr::from(size) - Expr::from(expected);
    let check = |e: Expr| Event::Check(e, "the size of what a loop collects".to_owned());
    events.all.splice(known + 1..known + 1, [check(-&differs), check(differs)]);
    Ok(())
}
