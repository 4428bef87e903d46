//! The lexer and the parser of what both text forms share. Consumes tokens from left to right; a
//! method that fails leaves the parser where the error is.

use crate::dtype::DType;
use crate::expr::{Atom, Expr};
use crate::scalar::{Scalar, to_bits};
use crate::strings;
use crate::symbol::Symbol;
use crate::types::{TensorType, Type};
use std::fmt;

/// How deep brackets, blocks and regions nest at most.
pub const MAX_DEPTH: usize = 64;

/// How many atoms an expression has at most, counting those within atoms.
pub const MAX_EXPR: usize = 1024;

/// What is wrong with a text, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What was found, and what was expected.
    pub message: String,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Token {
    /// An identifier or keyword.
    Ident(String),
    /// `%7`: a value that has no name.
    Numbered(String),
    /// `%x` or `%"x y"`.
    Value(String),
    /// `@x` or `@"x y"`.
    Global(String),
    /// An integer without a sign, decimal or `0x` hexadecimal.
    Int(String),
    /// A number with a fraction or an exponent, without a sign.
    Float(String),
    /// A string, unescaped.
    Str(String),
    /// Punctuation.
    Punct(&'static str),
    /// After the last token.
    End,
}

const PUNCTUATION: [&str; 20] =
    ["->", "..", ">=", "(", ")", "[", "]", "{", "}", ",", ":", ";", "=", "+", "-", "*", "/", "%", "<", ">"];

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Ident(s) => write!(f, "`{s}`"),
            Token::Numbered(s) => write!(f, "%{s}"),
            Token::Value(s) => write!(f, "%{}", super::name(s)),
            Token::Global(s) => write!(f, "@{}", super::name(s)),
            Token::Int(s) | Token::Float(s) => f.write_str(s),
            Token::Str(s) => f.write_str(&super::quote(s)),
            Token::Punct(p) => write!(f, "`{p}`"),
            Token::End => f.write_str("the end"),
        }
    }
}

fn error_at(text: &str, offset: usize, message: impl Into<String>) -> ParseError {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    ParseError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: message.into(),
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        error_at(self.text, self.at, message)
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest().trim_start();
            self.at = self.text.len() - rest.len();
            if !rest.starts_with('#') {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    /// Takes words of letters, digits and `_`, joined by single dots.
    fn word(&mut self) -> &'a str {
        let bytes = self.rest().as_bytes();
        let part_of = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let mut n = 0;
        while part_of(bytes.get(n)) || (n > 0 && bytes.get(n) == Some(&b'.') && part_of(bytes.get(n + 1))) {
            n += 1;
        }
        self.take(n)
    }

    fn take(&mut self, n: usize) -> &'a str {
        let out = &self.rest()[..n];
        self.at += n;
        out
    }

    fn number(&mut self) -> Token {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        if bytes.starts_with(b"0x") {
            let n = bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
            return Token::Int(self.take(2 + n).to_owned());
        }
        let (mut n, mut float) = (digits(0), false);
        if bytes.get(n) == Some(&b'.') && digits(n + 1) > 0 {
            n += 1 + digits(n + 1);
            float = true;
        }
        if matches!(bytes.get(n), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(n + 1), Some(b'+' | b'-')));
            let exponent = bytes.get(n + 1 + sign..).map_or(0, |_| digits(n + 1 + sign));
            if exponent > 0 {
                n += 1 + sign + exponent;
                float = true;
            }
        }
        let text = self.take(n).to_owned();
        if float { Token::Float(text) } else { Token::Int(text) }
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        let unterminated = || error_at(self.text, start, "found a string without end, expected `\"`");
        let mut out = String::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += 1 + i + 1;
                    return Ok(out);
                }
                '\\' => match chars.next().ok_or_else(unterminated)?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    c @ ('"' | '\\') => out.push(c),
                    'u' => {
                        let code: String = chars
                            .by_ref()
                            .map(|(_, c)| c)
                            .skip_while(|c| *c == '{')
                            .take_while(|c| *c != '}')
                            .collect();
                        let c = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                        out.push(c.ok_or_else(|| {
                            error_at(
                                self.text,
                                start + 1 + i,
                                "found an unknown character code, expected `\\u{hex}`",
                            )
                        })?);
                    }
                    c => {
                        let message =
                            format!("found the escape `\\{c}`, expected one of \\\" \\\\ \\n \\t \\u{{hex}}");
                        return Err(error_at(self.text, start + 1 + i, message));
                    }
                },
                c => out.push(c),
            }
        }
        Err(unterminated())
    }

    /// The name after `%` or `@`, and whether it was quoted; `None` where there is none.
    fn sigil_name(&mut self) -> Result<Option<(String, bool)>, ParseError> {
        self.at += 1;
        if self.rest().starts_with('"') {
            return Ok(Some((self.string()?, true)));
        }
        let word = self.word();
        Ok((!word.is_empty()).then(|| (word.to_owned(), false)))
    }

    fn token(&mut self) -> Result<Token, ParseError> {
        let Some(c) = self.rest().chars().next() else { return Ok(Token::End) };
        Ok(match c {
            '%' => match self.sigil_name()? {
                Some((n, false)) if n.bytes().all(|b| b.is_ascii_digit()) => Token::Numbered(n),
                Some((n, _)) => Token::Value(n),
                None => Token::Punct("%"),
            },
            '@' => match self.sigil_name()? {
                Some((n, _)) => Token::Global(n),
                None => return Err(self.error("found `@` alone, expected a name after it")),
            },
            '"' => Token::Str(self.string()?),
            '0'..='9' => self.number(),
            'a'..='z' | 'A'..='Z' | '_' => Token::Ident(self.word().to_owned()),
            mark @ ('?' | '~') => {
                self.at += 1;
                let word = self.word();
                if word.is_empty() {
                    return Err(self.error(format!("found `{mark}` alone, expected a name after it")));
                }
                Token::Ident(format!("{mark}{word}"))
            }
            c => match PUNCTUATION.iter().find(|p| self.rest().starts_with(**p)) {
                Some(p) => {
                    self.at += p.len();
                    Token::Punct(p)
                }
                None => return Err(self.error(format!("found the character {c:?}, expected a token"))),
            },
        })
    }
}

/// A parser over the tokens of a text.
pub struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Splits a text into tokens.
    pub fn new(text: &'a str) -> Result<Parser<'a>, ParseError> {
        let mut lexer = Lexer { text, at: 0 };
        let mut tokens = Vec::new();
        loop {
            lexer.skip_blanks();
            let at = lexer.at;
            let token = lexer.token()?;
            let end = token == Token::End;
            tokens.push((token, at));
            if end {
                return Ok(Parser { text, tokens, at: 0, depth: 0 });
            }
        }
    }

    /// Every token of the text, the last of which is [`Token::End`].
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().map(|(t, _)| t)
    }

    /// The next token.
    pub fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    /// The token after the next one.
    pub fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    /// Takes the next token; [`Token::End`] stays.
    pub fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// A place to report errors at: that of the next token.
    pub fn mark(&self) -> usize {
        self.tokens[self.at].1
    }

    /// An error at a place that [`Parser::mark`] gave.
    pub fn error_at(&self, mark: usize, message: impl Into<String>) -> ParseError {
        error_at(self.text, mark, message)
    }

    /// An error at the next token: `found X, expected ..`.
    pub fn expected(&self, what: &str) -> ParseError {
        self.error_at(self.mark(), format!("found {}, expected {what}", self.peek()))
    }

    /// Goes one level deeper, until [`Parser::leave`]; an error beyond [`MAX_DEPTH`].
    pub fn enter(&mut self) -> Result<(), ParseError> {
        if self.depth == MAX_DEPTH {
            let message = format!("found nesting deeper than {MAX_DEPTH} levels, expected less");
            return Err(self.error_at(self.mark(), message));
        }
        self.depth += 1;
        Ok(())
    }

    /// Comes back from [`Parser::enter`].
    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        self.enter()?;
        let out = rule(self);
        self.leave();
        out
    }

    /// Whether the next token is this punctuation.
    pub fn at(&self, punct: &str) -> bool {
        matches!(self.peek(), Token::Punct(p) if *p == punct)
    }

    /// Takes this punctuation if it is next.
    pub fn eat(&mut self, punct: &str) -> bool {
        let found = self.at(punct);
        if found {
            self.advance();
        }
        found
    }

    /// Takes this punctuation.
    pub fn expect(&mut self, punct: &str) -> Result<(), ParseError> {
        if self.eat(punct) { Ok(()) } else { Err(self.expected(&format!("`{punct}`"))) }
    }

    /// Whether the next token is this word.
    pub fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Ident(w) if w == word)
    }

    /// Takes this word if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    /// Takes this word.
    pub fn expect_word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.eat_word(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// Takes an identifier.
    pub fn ident(&mut self, what: &str) -> Result<String, ParseError> {
        match self.peek() {
            Token::Ident(_) => match self.advance() {
                Token::Ident(s) => Ok(s),
                _ => Ok(String::new()),
            },
            _ => Err(self.expected(what)),
        }
    }

    /// Takes a string.
    pub fn string(&mut self, what: &str) -> Result<String, ParseError> {
        let Token::Str(s) = self.peek() else { return Err(self.expected(what)) };
        let s = s.clone();
        self.advance();
        Ok(s)
    }

    /// Takes a global's name.
    pub fn global(&mut self, what: &str) -> Result<String, ParseError> {
        let Token::Global(s) = self.peek() else { return Err(self.expected(what)) };
        let s = s.clone();
        self.advance();
        Ok(s)
    }

    /// Fails unless the text ends here.
    pub fn end(&self) -> Result<(), ParseError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// Items with commas between them up to the closing punctuation, which is taken; a comma may
    /// stand before it.
    pub fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut out = Vec::new();
        while !self.eat(close) {
            out.push(item(self)?);
            if !self.at(close) && !self.eat(",") {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
        Ok(out)
    }

    /// Takes an integer without a sign.
    pub fn unsigned(&mut self) -> Result<u64, ParseError> {
        match self.peek() {
            Token::Int(s) => {
                let value = parse_unsigned(s).ok_or_else(|| self.expected("a 64-bit integer"))?;
                self.advance();
                Ok(value)
            }
            _ => Err(self.expected("an integer")),
        }
    }

    /// Takes an integer with or without a minus.
    pub fn int(&mut self) -> Result<i64, ParseError> {
        let negative = self.eat("-");
        self.signed(negative)
    }

    fn signed(&mut self, negative: bool) -> Result<i64, ParseError> {
        let mark = self.mark();
        let found = self.peek().to_string();
        let magnitude = self.unsigned()? as i128;
        i64::try_from(if negative { -magnitude } else { magnitude })
            .map_err(|_| self.error_at(mark, format!("found {found}, expected a 64-bit integer")))
    }

    /// Takes a number as a float.
    pub fn float(&mut self) -> Result<f64, ParseError> {
        let bits = self.literal(DType::F64)?;
        Ok(f64::from_bits(bits))
    }

    /// Takes a literal of an element type, and gives its bits: see [`super::literal`].
    pub fn literal(&mut self, ty: DType) -> Result<u64, ParseError> {
        let mark = self.mark();
        let negative = self.eat("-");
        let token = self.advance();
        let bits = match &token {
            // Hexadecimal gives bits, decimal a number.
            Token::Int(s) if s.starts_with("0x") && !negative => {
                parse_unsigned(s).filter(|b| *b <= u64::MAX >> (64 - ty.bits()))
            }
            Token::Int(s) | Token::Float(s) | Token::Ident(s) if ty.is_float() => float_bits(s, ty, negative),
            Token::Ident(s) if ty == DType::Bool && !negative => match &s[..] {
                "true" => Some(1),
                "false" => Some(0),
                _ => None,
            },
            Token::Str(s) if ty == DType::Text && !negative => Some(strings::number_of(s) as u64),
            Token::Int(s) if ty.is_int() => int_bits(s, ty, negative),
            _ => None,
        };
        bits.ok_or_else(|| {
            let sign = if negative { "-" } else { "" };
            let what = if ty == DType::Text { "a string in quotes as an element" } else { "a number" };
            self.error_at(mark, format!("found {sign}{token}, expected {what} of type {ty}"))
        })
    }

    /// Takes an element type.
    pub fn dtype(&mut self) -> Result<DType, ParseError> {
        match self.peek() {
            Token::Ident(s) => {
                let ty = s.parse().map_err(|()| self.expected("an element type such as f32"))?;
                self.advance();
                Ok(ty)
            }
            _ => Err(self.expected("an element type such as f32")),
        }
    }

    /// Takes a type: `f32[n, 3]`, `seq(f32[n])` or `optional(..)`.
    pub fn ty(&mut self) -> Result<Type, ParseError> {
        let wrap: fn(Box<Type>) -> Type = match self.peek() {
            Token::Ident(s) if s == "seq" => Type::Sequence,
            Token::Ident(s) if s == "optional" => Type::Optional,
            _ => return Ok(Type::Tensor(self.tensor_type()?)),
        };
        self.advance();
        self.expect("(")?;
        let inner = self.nested(Parser::ty)?;
        self.expect(")")?;
        Ok(wrap(Box::new(inner)))
    }

    /// Takes a tensor type such as `f32[batch, 784]`.
    pub fn tensor_type(&mut self) -> Result<TensorType, ParseError> {
        let dtype = self.dtype()?;
        self.expect("[")?;
        Ok(TensorType { dtype, shape: self.list("]", Parser::expr)? })
    }

    /// Takes a symbol: an identifier or a string.
    pub fn symbol(&mut self) -> Result<Symbol, ParseError> {
        match self.peek() {
            Token::Ident(s) | Token::Str(s) => {
                let symbol = Symbol::new(s);
                self.advance();
                Ok(symbol)
            }
            _ => Err(self.expected("a symbol")),
        }
    }

    /// Takes an expression: sums, products, floor divisions, remainders (`a % b` or `a mod b`),
    /// `min(..)`, `max(..)`, brackets.
    pub fn expr(&mut self) -> Result<Expr, ParseError> {
        self.nested(|p| {
            let negative = p.eat("-");
            let mut sum = p.product(negative)?;
            loop {
                let mark = p.mark();
                let negative = match p.peek() {
                    Token::Punct("+") => false,
                    Token::Punct("-") => true,
                    _ => return Ok(sum),
                };
                p.advance();
                let term = p.product(negative)?;
                sum = p.bounded(mark, sum + term)?;
            }
        })
    }

    /// Factors; the sign belongs to the first one.
    fn product(&mut self, negative: bool) -> Result<Expr, ParseError> {
        let mut product = match self.peek() {
            Token::Int(_) => self.signed(negative)?.into(),
            _ if negative => -&self.primary()?,
            _ => self.primary()?,
        };
        loop {
            let mark = self.mark();
            let divide: fn(&Expr, &Expr) -> Expr = match self.peek() {
                Token::Punct("*") => |a, b| a * b,
                Token::Punct("/") => Expr::floor_div,
                Token::Punct("%") => Expr::modulo,
                Token::Ident(w) if w == "mod" => Expr::modulo,
                _ => return Ok(product),
            };
            self.advance();
            let by = self.primary()?;
            // What the product of two sums would take, before it is made.
            let (a, b) = (size(&product), size(&by));
            if a * (by.terms().len() + 1) + b * (product.terms().len() + 1) > 4 * MAX_EXPR {
                return Err(self.too_large(mark));
            }
            product = self.bounded(mark, divide(&product, &by))?;
        }
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        match self.peek() {
            Token::Int(_) => Ok(self.int()?.into()),
            Token::Ident(w)
                if matches!(&w[..], "min" | "max") && *self.peek_second() == Token::Punct("(") =>
            {
                let least = w == "min";
                let mark = self.mark();
                self.advance();
                self.advance();
                let a = self.expr()?;
                self.expect(",")?;
                let b = self.expr()?;
                self.expect(")")?;
                self.bounded(mark, if least { a.minimum(&b) } else { a.maximum(&b) })
            }
            Token::Ident(_) | Token::Str(_) => Ok(self.symbol()?.into()),
            Token::Punct("(") => {
                self.advance();
                let e = self.expr()?;
                self.expect(")")?;
                Ok(e)
            }
            _ => Err(self.expected("an expression")),
        }
    }

    fn bounded(&self, mark: usize, e: Expr) -> Result<Expr, ParseError> {
        if size(&e) > MAX_EXPR { Err(self.too_large(mark)) } else { Ok(e) }
    }

    fn too_large(&self, mark: usize) -> ParseError {
        self.error_at(
            mark,
            format!("found an expression of more than {MAX_EXPR} atoms, expected a smaller one"),
        )
    }
}

/// The number of atoms, counting those within atoms.
fn size(e: &Expr) -> usize {
    let atom = |a: &Atom| match a {
        Atom::Sym(_) => 1,
        Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => 1 + size(&d.0) + size(&d.1),
    };
    e.terms().iter().map(|(atoms, _)| atoms.iter().map(atom).sum::<usize>() + 1).sum::<usize>() + 1
}

fn parse_unsigned(s: &str) -> Option<u64> {
    match s.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => s.parse().ok(),
    }
}

fn float_bits(s: &str, ty: DType, negative: bool) -> Option<u64> {
    if !s.starts_with(|c: char| c.is_ascii_digit()) && !matches!(s, "inf" | "nan") {
        return None;
    }
    let text = if negative { format!("-{s}") } else { s.to_owned() };
    // Rounded once from the decimal: f32 through f64 would round twice.
    match ty {
        DType::F32 if s != "nan" => text.parse::<f32>().ok().map(|v| v.to_bits() as u64),
        // Every number of 8 bits is one of f32, as which it is written.
        t if t.is_minifloat() => text.parse::<f32>().ok().map(|v| to_bits(Scalar::F(v.into()), ty)),
        _ => text.parse::<f64>().ok().map(|v| to_bits(Scalar::F(v), ty)),
    }
}

fn int_bits(s: &str, ty: DType, negative: bool) -> Option<u64> {
    let magnitude = parse_unsigned(s)? as i128;
    let value = if negative { -magnitude } else { magnitude };
    let bits = ty.packed_bits();
    let range =
        if ty.is_signed_int() { -(1i128 << (bits - 1))..1i128 << (bits - 1) } else { 0..1i128 << bits };
    range.contains(&value).then_some(value as u64 & (u64::MAX >> (64 - ty.bits())))
}
