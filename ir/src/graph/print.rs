//! The text form of a graph, which [`parse`](super::parse) reads back.
//!
//! ```text
//! graph @main(%x: f32[batch, 784]) {
//!   state %count = i64[] 0 next %more
//!   %w = const f32[784, 10] file "main.weights" 0
//!   %y = MatMul(%x, %w) "layer1" : f32[batch, 10]
//!   %z = Softmax(%y) {axis = -1} : f32[batch, 10]
//!   ...
//!   return %z as "probabilities"
//! }
//! ```
//!
//! A constant stands before the first node of the body that uses it. A node's regions follow it as
//! `region (%p: f32[n]) { .. yield %q }`, one after another. A value without a name is printed as a
//! number that counts such values in the order of the text; the text is therefore the same for
//! graphs that differ only in ids and in what is dead.

use super::{Constant, Graph, Node, Region, Value, literal};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::tensor::Tensor;
use crate::text::{self, Names};
use cranelift_entity::{EntityRef, EntitySet, SecondaryMap};
use std::collections::HashMap;
use std::fmt;

/// Constants of more elements than this are not printed inline (unless all are equal).
pub const INLINE_ELEMENTS: usize = 256;

/// Whether a constant is printed inline. Texts are: their numbers mean nothing in a file.
fn is_inline(t: &Tensor) -> bool {
    t.len() <= INLINE_ELEMENTS || t.dtype() == DType::Text || literal::is_splat(t)
}

/// Stores a large constant when its graph is printed: given a name and the constant, answers the
/// file's name as it is to stand in the text, and the offset in bytes.
pub type Sink<'a> = &'a mut dyn FnMut(&str, &Constant) -> (String, u64);

/// Prints with the contents of large constants left out; such a text shows the graph, but the
/// parser refuses it. [`print()`] keeps them.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Printer::new(self, None).graph())
    }
}

/// Prints a graph whose large constants go to files.
pub fn print(graph: &Graph, sink: Sink<'_>) -> String {
    Printer::new(graph, Some(sink)).graph()
}

struct Printer<'a> {
    graph: &'a Graph,
    /// The constants to print before a node of the body (`None`: before its end).
    constants: HashMap<Option<Node>, Vec<Value>>,
    names: SecondaryMap<Value, String>,
    sink: Option<Sink<'a>>,
    out: String,
    indent: usize,
}

impl<'a> Printer<'a> {
    fn new(graph: &'a Graph, sink: Option<Sink<'a>>) -> Printer<'a> {
        let constants = place_constants(graph);
        let names = name_values(graph, &constants);
        Printer { graph, constants, names, sink, out: String::new(), indent: 1 }
    }

    fn graph(mut self) -> String {
        let params = self.params(self.graph.body);
        self.out = format!("graph @{}({params}) {{\n", text::name(&self.graph.name));
        for s in &self.graph.states {
            let name = self.name(s.value);
            let contents = self.constant(&name, &s.init);
            let line = format!("state {name} = {contents} next {}", self.name(s.next));
            self.line(&line);
        }
        self.nodes(self.graph.body);
        self.print_constants(None);
        let outputs: Vec<String> = self
            .graph
            .outputs()
            .iter()
            .enumerate()
            .map(|(i, v)| {
                let name = self.name(*v);
                match self.graph.output_names.get(i) {
                    Some(n) if format!("%{}", text::name(n)) != name => {
                        format!("{name} as {}", text::quote(n))
                    }
                    _ => name,
                }
            })
            .collect();
        self.line(format!("return {}", outputs.join(", ")).trim_end());
        self.out.push_str("}\n");
        self.out
    }

    fn line(&mut self, line: &str) {
        self.out.extend(std::iter::repeat_n("  ", self.indent));
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// A value with its sigil.
    fn name(&self, v: Value) -> String {
        match self.names[v].as_str() {
            "" => format!("%undefined.{}", v.index()),
            name => format!("%{name}"),
        }
    }

    fn list(&self, values: &[Value]) -> String {
        values.iter().map(|v| self.name(*v)).collect::<Vec<_>>().join(", ")
    }

    fn params(&self, region: Region) -> String {
        let param = |v: &Value| format!("{}: {}", self.name(*v), self.graph.values[*v].ty);
        self.graph.regions[region].params.iter().map(param).collect::<Vec<_>>().join(", ")
    }

    fn nodes(&mut self, region: Region) {
        for n in &self.graph.regions[region].nodes {
            self.print_constants(Some(*n));
            self.node(*n);
        }
    }

    fn print_constants(&mut self, before: Option<Node>) {
        for v in self.constants.remove(&before).unwrap_or_default() {
            if let Some(c) = self.graph.constant(v) {
                let name = self.name(v);
                let contents = self.constant(&name, c);
                self.line(&format!("{name} = const {contents}"));
            }
        }
    }

    fn node(&mut self, n: Node) {
        let d = &self.graph.nodes[n];
        let mut line = String::new();
        if !d.outputs.is_empty() {
            line = format!("{} = ", self.list(&d.outputs));
        }
        let operand = |v: &Option<Value>| v.map_or("_".to_owned(), |v| self.name(v));
        let operands: Vec<String> = d.inputs.iter().map(operand).collect();
        line += &format!("{}({}){}", d.op.name, operands.join(", "), attributes(&d.attrs));
        if !d.name.is_empty() {
            line += &format!(" {}", text::quote(&d.name));
        }
        if !d.outputs.is_empty() {
            let types: Vec<String> = d.outputs.iter().map(|v| self.graph.values[*v].ty.to_string()).collect();
            line += &format!(" : {}", types.join(", "));
        }
        self.line(&line);
        for r in &d.regions {
            self.line(&format!("region ({}) {{", self.params(*r)));
            self.indent += 1;
            self.nodes(*r);
            let results = self.list(&self.graph.regions[*r].results);
            self.line(format!("yield {results}").trim_end());
            self.indent -= 1;
            self.line("}");
        }
    }

    /// A constant's type and contents.
    fn constant(&mut self, name: &str, c: &Constant) -> String {
        let ty = c.ty();
        match c {
            Constant::Data(t) if is_inline(t) => {
                format!("{ty} {}", literal::print(t))
            }
            Constant::Data(_) => match &mut self.sink {
                Some(sink) => {
                    let (file, offset) = sink(name.trim_start_matches('%').trim_matches('"'), c);
                    format!("{ty} file {} {offset}", text::quote(&file))
                }
                None => format!("{ty} elided {} bytes", c.bytes()),
            },
            Constant::Computed(c) => {
                let mut inputs = Vec::new();
                for (i, input) in c.inputs.iter().enumerate() {
                    inputs.push(match input {
                        Some(input) => self.constant(&format!("{name}.{i}"), input),
                        None => "_".to_owned(),
                    });
                }
                let result = if c.output == 0 { String::new() } else { format!(" result {}", c.output) };
                format!("{ty} compute {}({}){}{result}", c.op.name, inputs.join(", "), attributes(&c.attrs))
            }
        }
    }
}

/// ` {name = value, ..}`, or nothing.
fn attributes(attrs: &Attrs) -> String {
    if attrs.0.is_empty() {
        return String::new();
    }
    let all: Vec<String> = attrs
        .0
        .iter()
        .map(|(n, a)| format!("{} = {}", text::identifier(n), literal::print_attr(a)))
        .collect();
    format!(" {{{}}}", all.join(", "))
}

/// Each constant that is used, under the first node of the body that uses it.
fn place_constants(graph: &Graph) -> HashMap<Option<Node>, Vec<Value>> {
    let mut seen = EntitySet::new();
    let mut out: HashMap<Option<Node>, Vec<Value>> = HashMap::new();
    let mut place = |before: Option<Node>, v: Value| {
        if graph.constant(v).is_some() && seen.insert(v) {
            out.entry(before).or_default().push(v);
        }
    };
    for top in &graph.regions[graph.body].nodes {
        visit(graph, *top, &mut |v| place(Some(*top), v));
    }
    let ends = graph.states.iter().map(|s| s.next).chain(graph.outputs().iter().copied());
    ends.for_each(|v| place(None, v));
    out
}

/// Calls `f` for every value that a node or its regions use.
fn visit(graph: &Graph, n: Node, f: &mut dyn FnMut(Value)) {
    let d = &graph.nodes[n];
    d.inputs.iter().flatten().for_each(|v| f(*v));
    for r in &d.regions {
        graph.regions[*r].nodes.iter().for_each(|n| visit(graph, *n, f));
        graph.regions[*r].results.iter().for_each(|v| f(*v));
    }
}

/// Every value's name, without the sigil, in the order of the text.
fn name_values(graph: &Graph, constants: &HashMap<Option<Node>, Vec<Value>>) -> SecondaryMap<Value, String> {
    let mut order: Vec<Value> = graph.states.iter().map(|s| s.value).collect();
    fn region(
        graph: &Graph,
        r: Region,
        constants: &HashMap<Option<Node>, Vec<Value>>,
        order: &mut Vec<Value>,
    ) {
        order.extend(&graph.regions[r].params);
        for n in &graph.regions[r].nodes {
            order.extend(constants.get(&Some(*n)).into_iter().flatten());
            order.extend(&graph.nodes[*n].outputs);
            graph.nodes[*n].regions.iter().for_each(|r| region(graph, *r, constants, order));
        }
    }
    region(graph, graph.body, constants, &mut order);
    order.extend(constants.get(&None).into_iter().flatten());
    let mut names = Names::default();
    let mut out: SecondaryMap<Value, String> = SecondaryMap::new();
    let mut count = 0;
    for v in order {
        if !out[v].is_empty() {
            continue;
        }
        out[v] = match graph.values[v].name.as_str() {
            "" => {
                count += 1;
                (count - 1).to_string()
            }
            name => text::name(&names.unique(name, "")).into_owned(),
        };
    }
    out
}
