//! Tensors and attribute values in the text form: `[1.0, 2.0]`, `splat 0.5`, `random 7`,
//! `file "w.bin" 0`, `{axis = 1, to = f32}`.
//!
//! What a text makes larger than itself (`splat`, `random`) is bounded by [`MAX_GENERATED`].

use crate::attr::{Attr, AttrKind, AttrSpec};
use crate::dtype::DType;
use crate::random::{Fill, Random};
use crate::tensor::{self, Tensor};
use crate::text::{self, ParseError, Parser, Token};
use crate::types::TensorType;
use std::fmt::Write;

/// How many bytes one text may generate by `splat` and `random`.
pub const MAX_GENERATED: usize = 1 << 28;

/// Finds the contents of a constant that lies in a file: given the reference as it stands in the
/// text, the offset in bytes, and the constant's type.
pub type Files<'a> = &'a dyn Fn(&str, u64, &TensorType) -> Result<Tensor, String>;

/// Reads tensors, with what they may refer to.
pub(crate) struct Contents<'a> {
    files: Files<'a>,
    generated: usize,
}

impl<'a> Contents<'a> {
    pub(crate) fn new(files: Files<'a>) -> Contents<'a> {
        Contents { files, generated: 0 }
    }

    /// What follows a constant's type.
    pub(crate) fn parse(&mut self, p: &mut Parser<'_>, ty: &TensorType) -> Result<Tensor, ParseError> {
        let mark = p.mark();
        let (shape, elements) = static_shape(p, ty)?;
        match p.peek().clone() {
            Token::Ident(word) if word == "splat" => {
                p.advance();
                let bits = p.literal(ty.dtype)?;
                self.generate(p, mark, elements * ty.dtype.bytes())?;
                let bytes = bits.to_le_bytes()[..ty.dtype.bytes()].repeat(elements);
                Tensor::from_bytes(ty.dtype, shape, bytes.into()).map_err(|e| p.error_at(mark, e))
            }
            Token::Ident(word) if word == "random" => {
                p.advance();
                let seed = p.unsigned()?;
                self.generate(p, mark, elements * ty.dtype.bytes())?;
                Ok(Random::new(seed).tensor(ty.dtype, &shape, Fill::Standard))
            }
            Token::Ident(word) if word == "file" => {
                p.advance();
                let name = p.string("a file's name in quotes")?;
                let offset = p.unsigned()?;
                let t = (self.files)(&name, offset, ty).map_err(|e| p.error_at(mark, e))?;
                if t.dtype() != ty.dtype || t.shape() != shape {
                    return Err(p.error_at(mark, format!("found {t:?} in {name:?}, expected {ty}")));
                }
                Ok(t)
            }
            Token::Ident(word) if word == "elided" => Err(p.error_at(
                mark,
                "found a constant whose contents were left out when it was printed, expected contents; \
                 print it with a place for large constants",
            )),
            _ => list(p, ty),
        }
    }

    fn generate(&mut self, p: &Parser<'_>, mark: usize, bytes: usize) -> Result<(), ParseError> {
        self.generated = self.generated.saturating_add(bytes);
        if self.generated <= MAX_GENERATED {
            return Ok(());
        }
        let message = format!("found more than {MAX_GENERATED} bytes of generated constants, expected fewer");
        Err(p.error_at(mark, message))
    }
}

fn static_shape(p: &Parser<'_>, ty: &TensorType) -> Result<(Vec<usize>, usize), ParseError> {
    let shape = ty.static_shape();
    let counted = shape.and_then(|s| tensor::element_count(ty.dtype, &s).map(|n| (s, n)));
    counted.ok_or_else(|| {
        p.error_at(
            p.mark(),
            format!("found a constant of type {ty}, expected a constant shape that fits in memory"),
        )
    })
}

/// Elements in (possibly nested) brackets, or a single one without.
pub(crate) fn list(p: &mut Parser<'_>, ty: &TensorType) -> Result<Tensor, ParseError> {
    let mark = p.mark();
    let (shape, expected) = static_shape(p, ty)?;
    let mut data = Vec::new();
    elements(p, ty.dtype, &mut data)?;
    let found = data.len() / ty.dtype.bytes();
    if found != expected {
        return Err(p.error_at(mark, format!("found {found} elements, expected {expected} for {ty}")));
    }
    Tensor::from_bytes(ty.dtype, shape, data.into()).map_err(|e| p.error_at(mark, e))
}

fn elements(p: &mut Parser<'_>, ty: DType, out: &mut Vec<u8>) -> Result<(), ParseError> {
    if !p.eat("[") {
        let bits = p.literal(ty)?;
        out.extend_from_slice(&bits.to_le_bytes()[..ty.bytes()]);
        return Ok(());
    }
    p.enter()?;
    p.list("]", |p| elements(p, ty, out))?;
    p.leave();
    Ok(())
}

/// The contents as the parser reads them: one number for all elements where they are equal, else
/// all of them.
pub(crate) fn print(t: &Tensor) -> String {
    let width = t.dtype().bytes();
    let bits = |element: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(element);
        u64::from_le_bytes(bytes)
    };
    let literal = |element: &[u8]| text::literal(t.dtype(), bits(element));
    let mut all = t.bytes().chunks_exact(width);
    match all.len() {
        1 if t.rank() == 0 => t.bytes().chunks_exact(width).map(literal).collect(),
        5.. if is_splat(t) => format!("splat {}", all.next().map(literal).unwrap_or_default()),
        _ => format!("[{}]", all.map(literal).collect::<Vec<_>>().join(", ")),
    }
}

/// Whether all elements have the same bits.
pub(crate) fn is_splat(t: &Tensor) -> bool {
    let width = t.dtype().bytes();
    !t.is_empty() && t.bytes().chunks_exact(width).all(|e| e == &t.bytes()[..width])
}

/// Attributes in braces, read as the schema says where it knows them; none where there are no
/// braces.
pub(crate) fn attrs(p: &mut Parser<'_>, schema: &[AttrSpec]) -> Result<Vec<(String, Attr)>, ParseError> {
    if !p.eat("{") {
        return Ok(Vec::new());
    }
    p.list("}", |p| {
        let name = p.ident("an attribute's name")?;
        p.expect("=")?;
        let kind = schema.iter().find(|s| s.name == name).map(|s| s.kind);
        Ok((name, attr(p, kind)?))
    })
}

fn attr(p: &mut Parser<'_>, kind: Option<AttrKind>) -> Result<Attr, ParseError> {
    match p.peek().clone() {
        Token::Str(s) => {
            p.advance();
            Ok(Attr::Str(s))
        }
        Token::Ident(word) if word.parse::<DType>().is_ok() => {
            let dtype = p.dtype()?;
            if !p.at("[") {
                return Ok(Attr::DType(dtype));
            }
            p.expect("[")?;
            let ty = TensorType { dtype, shape: p.list("]", Parser::expr)? };
            p.eat("=");
            // Attributes are small: they neither refer to files nor are generated.
            let none = |_: &str, _: u64, _: &TensorType| {
                Err("found a file in an attribute, expected a list".to_owned())
            };
            Ok(Attr::Tensor(Contents::new(&none).parse(p, &ty)?))
        }
        Token::Punct("[") => {
            p.advance();
            attr_list(p, kind)
        }
        _ => Ok(match number(p, kind == Some(AttrKind::Float))? {
            Number::Int(v) => Attr::Int(v),
            Number::Float(v) => Attr::Float(v),
        }),
    }
}

enum Number {
    Int(i64),
    Float(f64),
}

fn number(p: &mut Parser<'_>, float: bool) -> Result<Number, ParseError> {
    let is_int = match p.peek() {
        Token::Punct("-") => matches!(p.peek_second(), Token::Int(_)),
        token => matches!(token, Token::Int(_)),
    };
    if is_int && !float { p.int().map(Number::Int) } else { p.float().map(Number::Float) }
}

fn attr_list(p: &mut Parser<'_>, kind: Option<AttrKind>) -> Result<Attr, ParseError> {
    let strings = matches!(p.peek(), Token::Str(_)) || kind == Some(AttrKind::Strs);
    if strings {
        return Ok(Attr::Strs(p.list("]", |p| p.string("a string"))?));
    }
    let all = p.list("]", |p| number(p, kind == Some(AttrKind::Floats)))?;
    let ints: Option<Vec<i64>> =
        all.iter().map(|n| if let Number::Int(v) = n { Some(*v) } else { None }).collect();
    Ok(match ints {
        Some(_) if kind == Some(AttrKind::Floats) => Attr::Floats(Vec::new()),
        Some(ints) => Attr::Ints(ints),
        None => Attr::Floats(
            all.iter()
                .map(|n| match n {
                    Number::Int(v) => *v as f64,
                    Number::Float(v) => *v,
                })
                .collect(),
        ),
    })
}

/// An attribute's value as the parser reads it.
pub(crate) fn print_attr(a: &Attr) -> String {
    let float = |v: &f64| text::literal(DType::F64, v.to_bits());
    fn list<T>(all: &[T], show: impl Fn(&T) -> String) -> String {
        format!("[{}]", all.iter().map(show).collect::<Vec<_>>().join(", "))
    }
    match a {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => float(v),
        Attr::Str(s) => text::quote(s),
        Attr::Ints(all) => list(all, i64::to_string),
        Attr::Floats(all) => list(all, float),
        Attr::Strs(all) => list(all, |s| text::quote(s)),
        Attr::DType(d) => d.to_string(),
        Attr::Tensor(t) => {
            let mut out = String::new();
            let ty = TensorType::new(t.dtype(), t.shape().iter().copied());
            // Writing to a string cannot fail.
            let _ = write!(out, "{ty} {}", print(t));
            out
        }
    }
}
