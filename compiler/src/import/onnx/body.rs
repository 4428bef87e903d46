//! Nodes: names are resolved, functions inlined, subgraphs become regions, and every node is added
//! through the graph's builder, which checks it against its row and infers its results.

use super::assumed;
use super::attrs;
use super::boundary::Inputs;
use super::control::{Graphs, Guesses};
use super::flex;
use super::inputs::identifier;
use super::order::{describe, order};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, attribute_type};
use super::structure::{Item, Ports, Sequence};
use super::tensor::{self, Files};
use super::upgrade::{self, Call};
use super::{Imported, Opsets, Options, domain};
use burin_ir::graph::{Builder, Constant, Graph, Region, Value};
use burin_ir::ops::{self, Effect, OpRow};
use burin_ir::{Attr, DType, Scalar, Tensor};
use std::collections::HashMap;
use std::sync::LazyLock;

/// How deep functions may call functions.
const MAX_DEPTH: usize = 48;
/// How many nodes a model may have once its functions are inlined.
const MAX_NODES: usize = 1 << 22;

/// What a decoded model becomes. Where the branches of a condition differ in more than sizes, one of
/// them is guessed, and the first guesses that the rest of the model fits are kept.
pub(super) fn import_model(
    model: &ModelProto,
    files: &Files,
    options: &Options,
) -> Result<Imported, Refusal> {
    let mut guesses = Guesses::default();
    let mut first = None;
    loop {
        match attempt(model, files.clone(), options, &mut guesses) {
            Ok(imported) => return Ok(imported),
            Err(e) if guesses.next() => drop(first.get_or_insert(e)),
            Err(e) => return Err(first.unwrap_or(e)),
        }
    }
}

/// Why a model is not imported.
pub(super) struct Refusal {
    pub(super) message: String,
    /// Inputs without whose contents the structure of a value is not known.
    pub(super) wanted: Vec<String>,
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(message: T) -> Refusal {
        Refusal { message: message.into(), wanted: Vec::new() }
    }
}

fn attempt(
    model: &ModelProto,
    files: Files,
    options: &Options,
    guesses: &mut Guesses,
) -> Result<Imported, Refusal> {
    let proto = model.graph.as_ref().ok_or("not an ONNX model: it has no graph")?;
    let opsets = Opsets::new(&model.opset_import)?;
    if opsets.0.is_empty() {
        return Err("not an ONNX model: it imports no opset".into());
    }
    let key = |f: &'_ FunctionProto| (domain(&f.domain).to_owned(), f.name.clone(), f.overload.clone());
    let functions = model.functions.iter().map(|f| (key(f), f)).collect();
    let graph = Graph::new(&identifier(&proto.name));
    let mut importer = Importer { graph, files, functions, nodes: 0, guesses, wanted: Vec::new() };
    let env = Env { opsets, bindings: HashMap::new(), depth: 0 };
    match importer.model(proto, options, &env) {
        Ok((inputs, outputs)) => Ok(Imported { graph: importer.graph, inputs, outputs }),
        Err(message) => Err(Refusal { message, wanted: importer.wanted }),
    }
}

/// What the nodes of the model, or of one call of a function, are read against.
pub(super) struct Env<'m> {
    opsets: Opsets,
    /// A function's attributes, as the call gives them.
    bindings: HashMap<&'m str, &'m AttributeProto>,
    depth: usize,
}

/// What each name of a graph stands for; nothing where it is an absent operand of a function.
pub(super) type Names<'a> = HashMap<&'a str, Option<Item>>;

/// The names that nodes of one graph see.
#[derive(Default)]
pub(super) struct Scope<'a> {
    pub(super) names: Names<'a>,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub(super) fn define(&mut self, name: &'a str, item: Option<Item>) -> Result<(), String> {
        match self.names.insert(name, item) {
            Some(_) => Err(format!("value {name:?} is defined twice")),
            None => Ok(()),
        }
    }

    fn lookup(&self, name: &str) -> Result<Option<Item>, String> {
        let mut scope = Some(self);
        while let Some(s) = scope {
            if let Some(found) = s.names.get(name) {
                return Ok(found.clone());
            }
            scope = s.outer;
        }
        Err(format!("{name:?} is not defined: no node, input or initializer has that name"))
    }

    pub(super) fn get(&self, name: &str) -> Result<Item, String> {
        self.lookup(name)?.ok_or_else(|| format!("{name:?} is absent"))
    }
}

/// A node with what is around it.
pub(super) struct Site<'s, 'm> {
    pub(super) node: &'m NodeProto,
    pub(super) items: &'s [Option<Item>],
    pub(super) graphs: &'s Graphs<'m>,
    pub(super) scope: &'s Scope<'s>,
    pub(super) env: &'s Env<'m>,
    pub(super) region: Region,
}

impl Site<'_, '_> {
    /// How messages name an operand.
    pub(super) fn name(&self, i: usize) -> String {
        format!("input {:?}", self.node.input.get(i).map_or("", String::as_str))
    }

    /// An operand that must be there.
    pub(super) fn item(&self, i: usize) -> Result<&Item, String> {
        let found = self.items.get(i).and_then(Option::as_ref);
        found.ok_or_else(|| format!("input {i} is missing"))
    }

    /// An operand that must be a tensor.
    pub(super) fn tensor(&self, i: usize) -> Result<Value, String> {
        self.item(i)?.tensor().map_err(|e| format!("{}: {e}", self.name(i)))
    }

    /// An operand that must be a sequence.
    pub(super) fn sequence(&self, i: usize) -> Result<&Sequence, String> {
        self.item(i)?.sequence().map_err(|e| format!("{}: {e}", self.name(i)))
    }

    /// All operands, which must be tensors where they are there.
    fn tensors(&self) -> Result<Vec<Option<Value>>, String> {
        let each = |(i, item): (usize, &Option<Item>)| item.as_ref().map(|_| self.tensor(i)).transpose();
        self.items.iter().enumerate().map(each).collect()
    }
}

/// Every row that stands for an ONNX op, by domain and name.
fn row(domain: &str, name: &str) -> Option<&'static OpRow> {
    static INDEX: LazyLock<HashMap<(&str, &str), &OpRow>> =
        LazyLock::new(|| ops::all().filter_map(|r| Some(((r.onnx?.0, r.name), r))).collect());
    INDEX.get(&(domain, name)).copied()
}

pub(super) struct Importer<'m, 'g> {
    pub(super) graph: Graph,
    files: Files,
    functions: HashMap<(String, String, String), &'m FunctionProto>,
    /// How many nodes were read so far.
    nodes: usize,
    pub(super) guesses: &'g mut Guesses,
    /// Inputs of the model whose contents would have to be known.
    pub(super) wanted: Vec<String>,
}

impl<'m> Importer<'m, '_> {
    /// The model's own graph; gives of which tensors its inputs and outputs consist.
    fn model(
        &mut self,
        proto: &'m GraphProto,
        options: &Options,
        env: &Env<'m>,
    ) -> Result<(Ports, Ports), String> {
        let mut scope = Scope::default();
        self.initializers(proto, &mut scope)?;
        let (mut all, mut inputs) = (Inputs::new(options, proto), Vec::new());
        for i in proto.given() {
            let (item, form) = self.input(i, &mut all)?;
            scope.define(&i.name, Some(item))?;
            inputs.push((i.name.clone(), form));
        }
        all.check_stated()?;
        self.nodes(&proto.node, &mut scope, env, self.graph.body)?;
        Ok((inputs, self.outputs(&proto.output, &scope)?))
    }

    pub(super) fn initializers(&mut self, g: &'m GraphProto, scope: &mut Scope<'m>) -> Result<(), String> {
        let fault = |name: &str, e: String| format!("initializer {name:?}: {e}");
        for t in &g.initializer {
            let data = tensor::tensor(t, &mut self.files).map_err(|e| fault(&t.name, e))?;
            let v = self.graph.add_constant(&t.name, Constant::Data(data));
            scope.define(&t.name, Some(Item::Tensor(v)))?;
        }
        for t in &g.sparse_initializer {
            let name = t.values.as_ref().map_or("", |v| v.name.as_str());
            let data = tensor::sparse(t, &mut self.files).map_err(|e| fault(name, e))?;
            let v = self.graph.add_constant(name, Constant::Data(data));
            scope.define(name, Some(Item::Tensor(v)))?;
        }
        Ok(())
    }

    pub(super) fn nodes<'a>(
        &mut self,
        nodes: &'m [NodeProto],
        scope: &mut Scope<'a>,
        env: &Env<'m>,
        region: Region,
    ) -> Result<(), String>
    where
        'm: 'a,
    {
        for i in order(nodes)? {
            let n = &nodes[i];
            self.count()?;
            let results =
                self.node(n, scope, env, region).map_err(|e| format!("node {}: {e}", describe(n)))?;
            for (name, item) in n.output.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
                if let Item::Tensor(v) = item
                    && self.graph.values[v].name.is_empty()
                {
                    self.graph.values[v].name.clone_from(name);
                }
                scope.define(name, Some(item))?;
            }
        }
        Ok(())
    }

    /// Counts what is imported, and refuses too much of it.
    pub(super) fn count(&mut self) -> Result<(), String> {
        self.nodes += 1;
        match self.nodes <= MAX_NODES {
            true => Ok(()),
            false => Err(format!("the model has more than {MAX_NODES} nodes with its functions inlined")),
        }
    }

    /// Adds what a node of the file stands for; gives its results.
    fn node(
        &mut self,
        n: &'m NodeProto,
        scope: &Scope<'_>,
        env: &Env<'m>,
        region: Region,
    ) -> Result<Vec<Item>, String> {
        let items: Vec<Option<Item>> = n
            .input
            .iter()
            .map(|i| if i.is_empty() { Ok(None) } else { scope.lookup(i).map_err(|e| format!("input {e}")) })
            .collect::<Result<_, _>>()?;
        let domain = domain(&n.domain);
        let key = (domain.to_owned(), n.op_type.clone(), n.overload.clone());
        if let Some(f) = self.functions.get(&key).copied() {
            return self.call(n, f, &items, env, region);
        }
        let Some(version) = env.opsets.version(domain) else {
            let shown = if domain.is_empty() { "ai.onnx" } else { domain };
            return Err(format!("the op is of domain {shown}, of which no opset is imported"));
        };
        let (attrs, graphs) = self.attributes(n, env)?;
        if domain.is_empty() && n.op_type == "Constant" {
            let v = self.graph.add_constant("", Constant::Data(constant(attrs)?));
            return Ok(vec![Item::Tensor(v)]);
        }
        let outputs = n.output.iter().rposition(|o| !o.is_empty()).map_or(1, |i| i + 1);
        let (op, domain) = (n.op_type.clone(), domain.to_owned());
        let mut call = Call { op, domain, version, inputs: Vec::new(), attrs, outputs };
        let site = Site { node: n, items: &items, graphs: &graphs, scope, env, region };
        if let Some(results) = self.resolve(&mut call, &site)? {
            return Ok(results);
        }
        match (call.domain.as_str(), call.op.as_str()) {
            ("", "Loop") if self.unrolls(&site) => return self.unroll(&site),
            ("", "If") => {
                call.inputs = site.tensors()?;
                return self.branch(&call, &site);
            }
            _ => call.inputs = site.tensors()?,
        }
        Ok(self.tensor_node(call, &site)?.into_iter().map(Item::Tensor).collect())
    }

    /// Adds what a node over tensors stands for.
    fn tensor_node(&mut self, mut call: Call, site: &Site<'_, 'm>) -> Result<Vec<Value>, String> {
        let region = site.region;
        if flex::OP == (&call.domain, &call.op) {
            return self.flex_attention(&mut call, site);
        }
        let mut builder = Builder { graph: &mut self.graph, region };
        if let Some(results) = upgrade::apply(&mut call, &mut builder)? {
            return Ok(results);
        }
        assumed::apply(&mut call, &mut builder)?;
        let Some(row) = row(&call.domain, &call.op) else {
            let shown = if call.domain.is_empty() { "ai.onnx" } else { &call.domain };
            return Err(format!(
                "op {} of domain {shown}, version {}, is not supported",
                call.op, call.version
            ));
        };
        if row.name == "Scan" && call.version < 9 {
            return self.batched_scan(row, call, site);
        }
        let back = match row.name {
            "Scan" => self.scan_along_first_axes(&mut call, region)?,
            _ => None,
        };
        let regions = self.regions(row, &mut call, site)?;
        attrs::conform(row.attrs, &mut call.attrs)?;
        if row.effect == Effect::Random {
            attrs::seed(row.attrs, &mut call.attrs, self.nodes);
        }
        let mut builder = Builder { graph: &mut self.graph, region };
        let node = builder
            .node(row, &site.node.name, call.inputs, call.attrs, call.outputs, regions)
            .map_err(|e| e.strip_prefix(&format!("{}: ", row.name)).map_or(e.clone(), str::to_owned))?;
        let results = self.graph.nodes[node].outputs.clone();
        match back {
            Some(axes) => self.scanned_along(results, &axes, region),
            None => Ok(results),
        }
    }

    /// A node's attributes: values, and graphs.
    #[allow(clippy::type_complexity)]
    fn attributes(
        &mut self,
        n: &'m NodeProto,
        env: &Env<'m>,
    ) -> Result<(Vec<(String, Attr)>, Vec<(&'m str, &'m GraphProto)>), String> {
        let (mut values, mut graphs) = (Vec::new(), Vec::new());
        for a in &n.attribute {
            let Some(bound) = bound(a, env) else { continue };
            match (attrs::kind_of(bound), &bound.g) {
                (attribute_type::GRAPH, Some(g)) => graphs.push((a.name.as_str(), g)),
                // Of an optional that is not there; what it would hold bears on nothing.
                (attribute_type::TYPE, _) if n.op_type == "Optional" => {}
                _ => values.push((a.name.clone(), attrs::decode(bound, &mut self.files)?)),
            }
        }
        Ok((values, graphs))
    }

    /// Inlines a function.
    fn call(
        &mut self,
        n: &'m NodeProto,
        f: &'m FunctionProto,
        inputs: &[Option<Item>],
        env: &Env<'m>,
        region: Region,
    ) -> Result<Vec<Item>, String> {
        if env.depth >= MAX_DEPTH {
            return Err(format!("functions call one another more than {MAX_DEPTH} deep"));
        }
        if inputs.len() > f.input.len() {
            return Err(format!("the function takes {} inputs, found {}", f.input.len(), inputs.len()));
        }
        let opsets =
            if f.opset_import.is_empty() { env.opsets.clone() } else { Opsets::new(&f.opset_import)? };
        let mut bindings: HashMap<&str, &AttributeProto> =
            f.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
        bindings.extend(n.attribute.iter().filter_map(|a| Some((a.name.as_str(), bound(a, env)?))));
        let inner = Env { opsets, bindings, depth: env.depth + 1 };
        let mut scope = Scope::default();
        for (i, name) in f.input.iter().enumerate() {
            scope.define(name, inputs.get(i).cloned().flatten())?;
        }
        self.nodes(&f.node, &mut scope, &inner, region)?;
        f.output.iter().map(|o| scope.get(o).map_err(|e| format!("the function's output {e}"))).collect()
    }
}

/// The attribute itself or, in a function, the caller's that it refers to; `None` where the caller
/// gives none.
fn bound<'m>(a: &'m AttributeProto, env: &Env<'m>) -> Option<&'m AttributeProto> {
    if a.ref_attr_name.is_empty() { Some(a) } else { env.bindings.get(a.ref_attr_name.as_str()).copied() }
}

/// The tensor of a Constant node, from whichever attribute holds it.
fn constant(mut attrs: Vec<(String, Attr)>) -> Result<Tensor, String> {
    if attrs.len() != 1 {
        return Err(format!("a constant has one attribute, found {}", attrs.len()));
    }
    let (name, value) = attrs.remove(0);
    let floats = |v: &[f64]| v.iter().map(|v| Scalar::F(*v)).collect::<Vec<_>>();
    let ints = |v: &[i64]| v.iter().map(|v| Scalar::I(*v)).collect::<Vec<_>>();
    Ok(match (name.as_str(), value) {
        ("value" | "sparse_value", Attr::Tensor(t)) => t,
        ("value_float", Attr::Float(v)) => Tensor::scalar(DType::F32, Scalar::F(v)),
        ("value_int", Attr::Int(v)) => Tensor::scalar(DType::I64, Scalar::I(v)),
        ("value_floats", Attr::Floats(v)) => Tensor::from_scalars(DType::F32, &[v.len()], floats(&v)),
        ("value_string", Attr::Str(v)) => Tensor::texts(&[], &[v]),
        ("value_strings", Attr::Strs(v)) => Tensor::texts(&[v.len()], &v),
        ("value_strings", Attr::Ints(v)) if v.is_empty() => Tensor::zeros(DType::Text, &[0]),
        ("value_floats", Attr::Ints(v)) if v.is_empty() => Tensor::zeros(DType::F32, &[0]),
        ("value_ints", Attr::Ints(v)) => Tensor::from_scalars(DType::I64, &[v.len()], ints(&v)),
        (name, value) => {
            return Err(format!("a constant of attribute {name} ({:?}) is not supported", value.kind()));
        }
    })
}
