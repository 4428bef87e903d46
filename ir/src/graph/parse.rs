//! The parser of a graph's text form; [`print`](super::print) shows the form.
//!
//! Every node goes through [`Builder::node`], so that types are inferred; where the text gives
//! types as well, they are checked, and the names that they give to sizes that depend on data are
//! kept. Values of a region are visible in it and in the regions within.

use super::literal::{self, Contents, Files};
use super::verify::Reconciled;
use super::{Builder, Computed, Constant, Graph, Node, Region, RegionData, State, Value};
use crate::attr;
use crate::graph::infer::{self, Arg, Cx};
use crate::ops::{self, OpRow};
use crate::symbol::Symbol;
use crate::text::{ParseError, Parser, Token};
use crate::types::{TensorType, Type};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type Parsed<T> = Result<T, ParseError>;

/// Parses a graph whose constants all stand in the text.
pub fn parse(text: &str) -> Parsed<Graph> {
    parse_with(text, &|file, _, _| Err(format!("found the file {file:?}, expected a text without files")))
}

/// Parses a graph; `files` finds the constants that lie in files.
pub fn parse_with(text: &str, files: Files<'_>) -> Parsed<Graph> {
    let tokens = Parser::new(text)?;
    let mut graph = Graph::new("");
    // Inference must not make a symbol that the text uses for something else.
    let taken = tokens.tokens().filter_map(|t| match t {
        Token::Ident(s) | Token::Str(s) => s.strip_prefix(['?', Symbol::DATA])?.parse::<u32>().ok(),
        _ => None,
    });
    graph.fresh_symbols = taken.max().map_or(0, |n| n.saturating_add(1).min(u32::MAX / 2));
    let contents = Contents::new(files);
    let mut p =
        GraphParser { tokens, graph, scopes: vec![HashMap::new()], contents, symbols: HashSet::new() };
    p.graph()?;
    p.tokens.end()?;
    Ok(p.graph)
}

struct GraphParser<'a> {
    tokens: Parser<'a>,
    graph: Graph,
    scopes: Vec<HashMap<Token, Value>>,
    contents: Contents<'a>,
    /// Every symbol of a type so far.
    symbols: HashSet<Symbol>,
}

impl GraphParser<'_> {
    fn graph(&mut self) -> Parsed<()> {
        self.tokens.expect_word("graph")?;
        self.graph.name = self.tokens.global("a graph's name such as @main")?;
        let body = self.graph.body;
        self.params(body)?;
        self.tokens.expect("{")?;
        let mut nexts = Vec::new();
        while self.tokens.eat_word("state") {
            nexts.push(self.state()?);
        }
        while !self.tokens.eat_word("return") {
            self.stmt(body)?;
        }
        while !self.tokens.eat("}") {
            self.output()?;
            if !self.tokens.at("}") {
                self.tokens.expect(",")?;
            }
        }
        for (i, (mark, name)) in nexts.into_iter().enumerate() {
            let State { value, .. } = self.graph.states[i];
            let next = self.lookup(mark, &name)?;
            let (ty, found) = (&self.graph.values[value].ty, &self.graph.values[next].ty);
            if ty != found {
                return Err(self
                    .tokens
                    .error_at(mark, format!("found {name} of type {found}, expected {ty}")));
            }
            self.graph.states[i].next = next;
        }
        Ok(())
    }

    /// `%s = type contents next %t`; answers where and what the next value is.
    fn state(&mut self) -> Parsed<(usize, Token)> {
        let mark = self.tokens.mark();
        let name = self.name()?;
        self.tokens.expect("=")?;
        let init = self.constant()?;
        let value = self.graph.add_state(&given_name(&name), init);
        self.bind(mark, name, value)?;
        self.tokens.expect_word("next")?;
        Ok((self.tokens.mark(), self.name()?))
    }

    fn output(&mut self) -> Parsed<()> {
        let mark = self.tokens.mark();
        let name = self.name()?;
        let value = self.lookup(mark, &name)?;
        let output = match (self.tokens.eat_word("as"), name) {
            (true, _) => self.tokens.string("an output's name")?,
            (false, Token::Numbered(n) | Token::Value(n)) => n,
            (false, other) => other.to_string(),
        };
        self.graph.add_output(&output, value);
        Ok(())
    }

    fn params(&mut self, region: Region) -> Parsed<()> {
        self.tokens.expect("(")?;
        while !self.tokens.eat(")") {
            let mark = self.tokens.mark();
            let name = self.name()?;
            self.tokens.expect(":")?;
            let ty = self.tokens.ty()?;
            self.see(&ty);
            let value = self.graph.add_param(region, &given_name(&name), ty);
            self.bind(mark, name, value)?;
            if !self.tokens.at(")") {
                self.tokens.expect(",")?;
            }
        }
        Ok(())
    }

    fn see(&mut self, ty: &Type) {
        self.symbols.extend(ty.innermost().shape.iter().flat_map(|d| d.symbols()));
    }

    fn name(&mut self) -> Parsed<Token> {
        match self.tokens.peek() {
            Token::Value(_) | Token::Numbered(_) => Ok(self.tokens.advance()),
            _ => Err(self.tokens.expected("a value such as %x")),
        }
    }

    fn bind(&mut self, mark: usize, name: Token, value: Value) -> Parsed<()> {
        if self.scopes.iter().any(|s| s.contains_key(&name)) {
            let message = format!("found a second definition of {name}, expected a new name");
            return Err(self.tokens.error_at(mark, message));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, value);
        }
        Ok(())
    }

    fn lookup(&self, mark: usize, name: &Token) -> Parsed<Value> {
        let found = self.scopes.iter().rev().find_map(|s| s.get(name)).copied();
        found.ok_or_else(|| {
            self.tokens.error_at(mark, format!("found {name}, expected a value defined before in this scope"))
        })
    }

    /// A node or a constant.
    fn stmt(&mut self, region: Region) -> Parsed<()> {
        let mut results = Vec::new();
        if matches!(self.tokens.peek(), Token::Value(_) | Token::Numbered(_)) {
            loop {
                results.push((self.tokens.mark(), self.name()?));
                if !self.tokens.eat(",") {
                    break;
                }
            }
            self.tokens.expect("=")?;
        }
        let mark = self.tokens.mark();
        let word = self.tokens.ident("a node, a constant, or the end of the region")?;
        if word == "const" {
            let c = self.constant()?;
            return match <[_; 1]>::try_from(results) {
                Ok([(mark, name)]) => {
                    let value = self.graph.add_constant(&given_name(&name), c);
                    self.bind(mark, name, value)
                }
                Err(all) => Err(self
                    .tokens
                    .error_at(mark, format!("found {} names for a constant, expected 1", all.len()))),
            };
        }
        let op = self.row(mark, &word)?;
        let node = self.node(region, mark, op, results.len())?;
        for ((mark, name), value) in results.into_iter().zip(self.graph.nodes[node].outputs.clone()) {
            self.graph.values[value].name = given_name(&name);
            self.bind(mark, name, value)?;
        }
        Ok(())
    }

    fn row(&self, mark: usize, name: &str) -> Parsed<&'static OpRow> {
        ops::by_name(name).ok_or_else(|| {
            self.tokens.error_at(mark, format!("found the op {name}, expected one that has a row"))
        })
    }

    fn node(&mut self, region: Region, mark: usize, op: &'static OpRow, outputs: usize) -> Parsed<Node> {
        let mut inputs = Vec::new();
        self.tokens.expect("(")?;
        while !self.tokens.eat(")") {
            let mark = self.tokens.mark();
            if self.tokens.eat_word("_") {
                inputs.push(None);
            } else {
                let name = self.name()?;
                inputs.push(Some(self.lookup(mark, &name)?));
            }
            if !self.tokens.at(")") {
                self.tokens.expect(",")?;
            }
        }
        let attrs = literal::attrs(&mut self.tokens, op.attrs)?;
        let name = match self.tokens.peek() {
            Token::Str(_) => self.tokens.string("a node's name")?,
            _ => String::new(),
        };
        let types_mark = self.tokens.mark();
        let mut types = Vec::new();
        if self.tokens.eat(":") {
            types.push(self.tokens.ty()?);
            while self.tokens.eat(",") {
                types.push(self.tokens.ty()?);
            }
        }
        let mut regions = Vec::new();
        while self.tokens.eat_word("region") {
            self.tokens.enter()?;
            self.scopes.push(HashMap::new());
            regions.push(self.region()?);
            self.scopes.pop();
            self.tokens.leave();
        }
        let first_fresh = self.graph.fresh_symbols;
        let node = Builder { graph: &mut self.graph, region }
            .node(op, &name, inputs, attrs, outputs, regions)
            .map_err(|e| self.tokens.error_at(mark, e))?;
        self.check_types(types_mark, node, first_fresh, types)?;
        Ok(node)
    }

    fn region(&mut self) -> Parsed<Region> {
        let region = self.graph.regions.push(RegionData::default());
        self.params(region)?;
        self.tokens.expect("{")?;
        while !self.tokens.eat_word("yield") {
            self.stmt(region)?;
        }
        while !self.tokens.eat("}") {
            let mark = self.tokens.mark();
            let name = self.name()?;
            let value = self.lookup(mark, &name)?;
            self.graph.regions[region].results.push(value);
            if !self.tokens.at("}") {
                self.tokens.expect(",")?;
            }
        }
        Ok(region)
    }

    /// Holds the types in the text against those inferred, and takes over the names of sizes that
    /// inference could only give a fresh symbol.
    fn check_types(&mut self, mark: usize, node: Node, first_fresh: u32, given: Vec<Type>) -> Parsed<()> {
        let outputs = self.graph.nodes[node].outputs.clone();
        if !given.is_empty() {
            if given.len() != outputs.len() {
                let message = format!("found {} types, expected {}", given.len(), outputs.len());
                return Err(self.tokens.error_at(mark, message));
            }
            let fresh: HashSet<Symbol> =
                (first_fresh..self.graph.fresh_symbols).map(|n| Symbol::new(&format!("?{n}"))).collect();
            let inferred: Vec<Type> = outputs.iter().map(|v| self.graph.values[*v].ty.clone()).collect();
            let reconciled = Reconciled::new(&inferred, &given, &fresh, &self.symbols)
                .map_err(|e| self.tokens.error_at(mark, e))?;
            for (v, ty) in outputs.iter().zip(given) {
                let value = &mut self.graph.values[*v];
                value.ty = ty;
                value.known = value.known.take().map(|k| k.iter().map(|e| reconciled.rename(e)).collect());
            }
        }
        for v in outputs {
            let ty = self.graph.values[v].ty.clone();
            self.see(&ty);
        }
        Ok(())
    }

    /// A type and contents.
    fn constant(&mut self) -> Parsed<Constant> {
        let ty = self.tokens.tensor_type()?;
        if self.tokens.eat_word("compute") {
            self.tokens.enter()?;
            let c = self.computed(ty)?;
            self.tokens.leave();
            return Ok(c);
        }
        Ok(Constant::Data(self.contents.parse(&mut self.tokens, &ty)?))
    }

    fn computed(&mut self, ty: TensorType) -> Parsed<Constant> {
        let mark = self.tokens.mark();
        let word = self.tokens.ident("an op")?;
        let op = self.row(mark, &word)?;
        let mut inputs = Vec::new();
        self.tokens.expect("(")?;
        while !self.tokens.eat(")") {
            inputs.push(if self.tokens.eat_word("_") { None } else { Some(self.constant()?) });
            if !self.tokens.at(")") {
                self.tokens.expect(",")?;
            }
        }
        let attrs = literal::attrs(&mut self.tokens, op.attrs)?;
        let mut output = 0;
        if self.tokens.eat_word("result") {
            let (mark, n) = (self.tokens.mark(), self.tokens.unsigned()?);
            output = usize::try_from(n).ok().filter(|n| *n < op.outputs.1).ok_or_else(|| {
                self.tokens.error_at(mark, format!("found result {n}, expected one of {}", op.outputs.1))
            })?;
        }
        let outputs = op.outputs.0.max(output + 1);
        compute(op, attrs, inputs, ty, (output, outputs))
            .map(|c| Constant::Computed(Arc::new(c)))
            .map_err(|e| self.tokens.error_at(mark, e))
    }
}

/// An op applied to constants, checked like a node.
fn compute(
    op: &'static OpRow,
    attrs: Vec<(String, attr::Attr)>,
    inputs: Vec<Option<Constant>>,
    ty: TensorType,
    (output, outputs): (usize, usize),
) -> Result<Computed, String> {
    let present: Vec<Option<()>> = inputs.iter().map(|i| i.as_ref().map(|_| ())).collect();
    super::build::check_schema(op, &present, outputs, 0)?;
    let attrs = attr::complete(op.attrs, attrs).map_err(|e| format!("{}: {e}", op.name))?;
    let arg = |c: &Constant| {
        let data = match c {
            Constant::Data(t) => Some(t.clone()),
            Constant::Computed(_) => None,
        };
        Arg { ty: c.ty().into(), known: infer::known_contents(c), data }
    };
    let args: Vec<Option<Arg>> = inputs.iter().map(|c| c.as_ref().map(arg)).collect();
    let fresh = || Symbol::new("?");
    let cx = Cx { op, attrs: &attrs, inputs: &args, outputs, region_results: &[], fresh: &fresh };
    let infos = infer::infer(&cx)?;
    match infos.get(output).map(|i| &i.ty) {
        Some(Type::Tensor(t)) if *t == ty => Ok(Computed { ty, op, attrs, inputs, output }),
        Some(t) => Err(format!("found type {ty}, expected {t}")),
        None => Err(format!("found result {output} of {}, expected one that it has", op.name)),
    }
}

/// The name that a value gets: none for `%7`.
fn given_name(name: &Token) -> String {
    match name {
        Token::Value(n) => n.clone(),
        _ => String::new(),
    }
}
