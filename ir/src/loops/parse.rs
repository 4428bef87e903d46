//! The parser of a kernel's text form; [`print`](super::print) shows the form.
//!
//! What it accepts is well-formed, not yet correct: scopes and types are the verifier's business.
//! Values keep the numbers that the text gives them, so that printing gives the same text again.

use super::{Access, Block, Buf, BufferDecl, Carry, Kernel, Loop, LoopKind, Op, Stmt, Val, ValType, Yield};
use crate::dtype::DType;
use crate::element::ReduceOp;
use crate::expr::Expr;
use crate::scalar::ScalarOp;
use crate::text::{ParseError, Parser, Token};
use cranelift_entity::PrimaryMap;
use std::collections::{HashMap, HashSet};

/// Parses one kernel.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut p = KernelParser::new(Parser::new(text)?);
    let kernel = p.kernel()?;
    p.tokens.end()?;
    Ok(kernel)
}

struct KernelParser<'a> {
    tokens: Parser<'a>,
    buffers: PrimaryMap<Buf, BufferDecl>,
    buffer_names: HashMap<String, Buf>,
    values: PrimaryMap<Val, ValType>,
    value_names: HashMap<Token, Val>,
    defined: HashSet<Val>,
}

/// What a value has that is not defined yet, or that no definition uses.
const UNDEFINED: ValType = ValType::scalar(DType::Bool);

type Parsed<T> = Result<T, ParseError>;

impl<'a> KernelParser<'a> {
    fn new(tokens: Parser<'a>) -> KernelParser<'a> {
        let mut values = PrimaryMap::new();
        let mut value_names = HashMap::new();
        // A number past the number of tokens is a name like any other: it must not cost memory.
        let count = tokens.tokens().count();
        let highest = tokens.tokens().filter_map(|t| match t {
            Token::Numbered(n) if canonical(n) => n.parse().ok().filter(|n: &usize| *n < count),
            _ => None,
        });
        for n in 0..highest.max().map_or(0, |n| n + 1) {
            value_names.insert(Token::Numbered(n.to_string()), values.push(UNDEFINED));
        }
        let (buffers, buffer_names, defined) = Default::default();
        KernelParser { tokens, buffers, buffer_names, values, value_names, defined }
    }

    fn kernel(&mut self) -> Parsed<Kernel> {
        self.tokens.expect_word("kernel")?;
        let name = self.tokens.global("a kernel's name such as @main")?;
        self.tokens.expect("(")?;
        while !self.tokens.eat(")") {
            self.buffer_decl()?;
            if !self.tokens.at(")") {
                self.tokens.expect(",")?;
            }
        }
        self.tokens.expect_word("dims")?;
        self.tokens.expect("(")?;
        let dims = self.tokens.list(")", Parser::symbol)?;
        let (body, yields) = self.block()?;
        if !yields.is_empty() {
            return Err(self.tokens.expected("a kernel that yields nothing"));
        }
        let (buffers, values) = (std::mem::take(&mut self.buffers), std::mem::take(&mut self.values));
        Ok(Kernel { name, dims, buffers, values, body })
    }

    fn buffer_decl(&mut self) -> Parsed<()> {
        let mark = self.tokens.mark();
        let name = self.buffer_name()?;
        self.tokens.expect(":")?;
        let word_mark = self.tokens.mark();
        let word = self.tokens.ident("read, write, update or scratch")?;
        let access = Access::ALL.into_iter().find(|a| a.name() == word).ok_or_else(|| {
            self.tokens
                .error_at(mark, format!("found access `{word}`, expected read, write, update or scratch"))
        })?;
        let dtype = self.tokens.dtype()?;
        self.tokens.expect("[")?;
        let len = self.tokens.expr()?;
        self.tokens.expect("]")?;
        let buf = self.buffers.push(BufferDecl { name: name.clone(), dtype, len, access });
        match self.buffer_names.insert(name.clone(), buf) {
            Some(_) => {
                let name = crate::text::name(&name).into_owned();
                Err(self
                    .tokens
                    .error_at(word_mark, format!("found a second buffer %{name}, expected a new name")))
            }
            None => Ok(()),
        }
    }

    fn buffer_name(&mut self) -> Parsed<String> {
        match self.tokens.peek() {
            Token::Value(_) | Token::Numbered(_) => match self.tokens.advance() {
                Token::Value(n) | Token::Numbered(n) => Ok(n),
                _ => Ok(String::new()),
            },
            _ => Err(self.tokens.expected("a buffer such as %x")),
        }
    }

    fn buffer(&mut self) -> Parsed<Buf> {
        let mark = self.tokens.mark();
        let name = self.buffer_name()?;
        self.buffer_names.get(&name).copied().ok_or_else(|| {
            let name = crate::text::name(&name).into_owned();
            self.tokens.error_at(mark, format!("found %{name}, expected one of the kernel's buffers"))
        })
    }

    /// `%buffer[index]` or `%buffer[index; stride]`.
    fn place(&mut self) -> Parsed<(Buf, Expr, Expr)> {
        let buffer = self.buffer()?;
        self.tokens.expect("[")?;
        let index = self.tokens.expr()?;
        let stride = if self.tokens.eat(";") { self.tokens.expr()? } else { Expr::ONE };
        self.tokens.expect("]")?;
        Ok((buffer, index, stride))
    }

    fn value_name(&mut self) -> Parsed<Token> {
        match self.tokens.peek() {
            Token::Value(_) | Token::Numbered(_) => Ok(self.tokens.advance()),
            _ => Err(self.tokens.expected("a value such as %0")),
        }
    }

    fn value(&mut self) -> Parsed<Val> {
        let mark = self.tokens.mark();
        let name = self.value_name()?;
        match self.value_names.get(&name) {
            Some(v) if self.defined.contains(v) => Ok(*v),
            _ => Err(self.tokens.error_at(mark, format!("found {name}, expected a value defined before"))),
        }
    }

    fn values(&mut self) -> Parsed<Vec<Val>> {
        let mut out = vec![self.value()?];
        while self.tokens.eat(",") {
            out.push(self.value()?);
        }
        Ok(out)
    }

    fn define(&mut self, mark: usize, name: Token, ty: ValType) -> Parsed<Val> {
        let shown = name.to_string();
        let v = *self.value_names.entry(name).or_insert_with(|| self.values.push(UNDEFINED));
        self.values[v] = ty;
        if self.defined.insert(v) {
            Ok(v)
        } else {
            let message = format!("found a second definition of {shown}, expected a new name");
            Err(self.tokens.error_at(mark, message))
        }
    }

    /// Statements in braces, and what the `yield` at their end names.
    fn block(&mut self) -> Parsed<(Block, Vec<Val>)> {
        self.tokens.expect("{")?;
        let mut out = Block::new();
        loop {
            if self.tokens.eat("}") {
                return Ok((out, Vec::new()));
            }
            if self.tokens.eat_word("yield") {
                let yields = self.values()?;
                self.tokens.expect("}")?;
                return Ok((out, yields));
            }
            out.push(self.stmt()?);
        }
    }

    /// A block one level deeper.
    fn nested_block(&mut self) -> Parsed<(Block, Vec<Val>)> {
        self.tokens.enter()?;
        let out = self.block();
        self.tokens.leave();
        out
    }

    fn stmt(&mut self) -> Parsed<Stmt> {
        let mark = self.tokens.mark();
        let mut results = Vec::new();
        if matches!(self.tokens.peek(), Token::Value(_) | Token::Numbered(_)) {
            results.push(self.value_name()?);
            while self.tokens.eat(",") {
                results.push(self.value_name()?);
            }
            self.tokens.expect("=")?;
        }
        let word = self.tokens.ident("a statement or `}`")?;
        match &word[..] {
            "for" => self.for_loop(mark, LoopKind::Serial, results),
            "parallel" => self.for_loop(mark, LoopKind::Parallel, results),
            "if" => self.conditional(mark, results),
            "store" | "bind" | "prefetch" if !results.is_empty() => {
                Err(self.tokens.error_at(mark, format!("found results of `{word}`, expected none")))
            }
            "store" => {
                let (buffer, index, stride) = self.place()?;
                self.tokens.expect(",")?;
                Ok(Stmt::Store { buffer, index, stride, value: self.value()? })
            }
            "prefetch" => {
                let (buffer, index, _) = self.place()?;
                Ok(Stmt::Prefetch { buffer, index })
            }
            "bind" => {
                let symbol = self.tokens.symbol()?;
                self.tokens.expect("=")?;
                Ok(Stmt::Bind(symbol, self.value()?))
            }
            _ => match <[Token; 1]>::try_from(results) {
                Ok([name]) => {
                    let (ty, op) = self.op(mark, &word)?;
                    Ok(Stmt::Let(self.define(mark, name, ty)?, op))
                }
                Err(results) => {
                    let n = results.len();
                    Err(self.tokens.error_at(mark, format!("found `{word}` with {n} results, expected 1")))
                }
            },
        }
    }

    fn for_loop(&mut self, mark: usize, kind: LoopKind, results: Vec<Token>) -> Parsed<Stmt> {
        let var = self.tokens.symbol()?;
        self.tokens.expect_word("in")?;
        if self.tokens.int()? != 0 {
            return Err(self.tokens.error_at(mark, "found a loop from another start, expected `0..`"));
        }
        self.tokens.expect("..")?;
        let extent = self.tokens.expr()?;
        let mut heads = Vec::new();
        if self.tokens.eat_word("carry") {
            self.tokens.expect("(")?;
            while !self.tokens.eat(")") {
                let mark = self.tokens.mark();
                let param = self.value_name()?;
                self.tokens.expect("=")?;
                let init = self.value()?;
                heads.push((init, self.define(mark, param, self.values[init])?));
                if !self.tokens.at(")") {
                    self.tokens.expect(",")?;
                }
            }
        }
        let (body, nexts) = self.nested_block()?;
        self.same_number(mark, "carried values", heads.len(), &[results.len(), nexts.len()])?;
        let mut carries = Vec::new();
        for (((init, param), next), result) in heads.into_iter().zip(nexts).zip(results) {
            let result = self.define(mark, result, self.values[init])?;
            carries.push(Carry { init, param, next, result });
        }
        Ok(Stmt::For(Loop { var, extent, kind, carries, body }))
    }

    fn conditional(&mut self, mark: usize, results: Vec<Token>) -> Parsed<Stmt> {
        let mut cond = Vec::new();
        while !self.tokens.at("{") {
            cond.push(self.tokens.expr()?);
            self.tokens.expect(">=")?;
            if self.tokens.int()? != 0 {
                return Err(self
                    .tokens
                    .error_at(mark, "found a condition against another number, expected `>= 0`"));
            }
            if !self.tokens.at("{") {
                self.tokens.expect(",")?;
            }
        }
        let (then, yes) = self.nested_block()?;
        let (otherwise, no) =
            if self.tokens.eat_word("else") { self.nested_block()? } else { Default::default() };
        self.same_number(mark, "results", results.len(), &[yes.len(), no.len()])?;
        let mut yields = Vec::new();
        for ((result, then), otherwise) in results.into_iter().zip(yes).zip(no) {
            let result = self.define(mark, result, self.values[then])?;
            yields.push(Yield { result, then, otherwise });
        }
        Ok(Stmt::If { cond, then, otherwise, yields })
    }

    fn same_number(&self, mark: usize, what: &str, n: usize, others: &[usize]) -> Parsed<()> {
        match others.iter().find(|m| **m != n) {
            Some(m) => {
                Err(self.tokens.error_at(mark, format!("found {m} values for {n} {what}, expected as many")))
            }
            None => Ok(()),
        }
    }

    /// `f32` or `f32x8`.
    fn val_type(&mut self) -> Parsed<ValType> {
        let expected = "a value's type such as f32 or f32x8";
        let parsed = match self.tokens.peek() {
            Token::Ident(word) => match word.rsplit_once('x') {
                Some((d, n)) => d.parse().ok().zip(n.parse().ok()),
                None => word.parse().ok().map(|d| (d, 1)),
            },
            _ => None,
        };
        let (dtype, lanes) = parsed.ok_or_else(|| self.tokens.expected(expected))?;
        self.tokens.advance();
        Ok(ValType { dtype, lanes })
    }

    fn op(&mut self, mark: usize, word: &str) -> Parsed<(ValType, Op)> {
        let scalar = scalar_op(word);
        let fold = word.strip_prefix("fold.").and_then(ReduceOp::by_name);
        let known = ["const", "index", "ramp", "splat", "load", "gather", "lane"].contains(&word);
        if scalar.is_none() && fold.is_none() && !known {
            return Err(self.tokens.error_at(mark, format!("found `{word}`, expected an operation")));
        }
        let ty = self.val_type()?;
        let op = match (word, scalar, fold) {
            (_, Some(op), _) => Op::Scalar(op, self.values()?),
            (_, _, Some(reduce)) => Op::Fold(reduce, self.value()?),
            ("const", ..) => Op::Const(self.tokens.literal(ty.dtype)?),
            ("index", ..) => Op::Index(self.tokens.expr()?),
            ("ramp", ..) => {
                let base = self.tokens.expr()?;
                self.tokens.expect(",")?;
                Op::Ramp(base, self.tokens.expr()?)
            }
            ("splat", ..) => Op::Splat(self.value()?),
            ("load", ..) => {
                let (buffer, index, stride) = self.place()?;
                Op::Load { buffer, index, stride }
            }
            ("gather", ..) => {
                let buffer = self.buffer()?;
                self.tokens.expect("[")?;
                let indices = self.value()?;
                self.tokens.expect("]")?;
                Op::Gather(buffer, indices)
            }
            _ => {
                let v = self.value()?;
                self.tokens.expect(",")?;
                let mark = self.tokens.mark();
                let lane = u16::try_from(self.tokens.unsigned()?).map_err(|_| {
                    self.tokens.error_at(mark, "found a larger number, expected a lane below 65536")
                })?;
                Op::Lane(v, lane)
            }
        };
        Ok((ty, op))
    }
}

/// Whether a number is written as `Display` writes it, so that `%07` is not `%7`.
fn canonical(digits: &str) -> bool {
    digits == "0" || !digits.starts_with('0')
}

/// `add`, `cast.f32`, `bitcast.i32`.
fn scalar_op(word: &str) -> Option<ScalarOp> {
    match word.split_once('.') {
        Some(("cast", ty)) => ty.parse().ok().map(ScalarOp::Cast),
        Some(("bitcast", ty)) => ty.parse().ok().map(ScalarOp::Bitcast),
        _ => ScalarOp::by_name(word),
    }
}
