//! What both text forms share: the lexer, a parser of expressions, types and literals, and the
//! spelling of names and numbers.
//!
//! Tokens are identifiers (`conv`, `cast.f32`, `?3`, `~3`), values (`%x`, `%7`, `%"a b"`), globals
//! (`@main`), numbers, strings and punctuation; `#` starts a comment. A name that is no identifier
//! is written in quotes. As `%` starts a value's name, the remainder of expressions is written with
//! a space after it: `a % b`.
//!
//! Parsing never panics, and takes time and memory in proportion to the text: nesting is bounded by
//! [`MAX_DEPTH`], expressions by [`MAX_EXPR`]. An error says `line:column: found .., expected ..`.

use crate::dtype::DType;
use crate::scalar::{Scalar, from_bits, to_bits};
use crate::strings;
use std::borrow::Cow;
use std::collections::HashMap;

mod parser;

pub use parser::{MAX_DEPTH, MAX_EXPR, ParseError, Parser, Token};

/// Whether a name can stand without quotes wherever an identifier is expected.
fn is_identifier(name: &str) -> bool {
    let rest = name.strip_prefix(['?', '~']).unwrap_or(name);
    let bare = rest.len() == name.len();
    is_word(rest) && !(bare && rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// Whether a name can stand without quotes after `%` or `@`: words joined by single dots.
fn is_word(name: &str) -> bool {
    name.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// A name as it stands after `%` or `@`: in quotes unless it is a word. A name of digits alone is
/// quoted as well, since `%7` is a value that has no name.
pub fn name(name: &str) -> Cow<'_, str> {
    let plain = is_word(name) && !name.bytes().all(|b| b.is_ascii_digit());
    if plain { Cow::Borrowed(name) } else { Cow::Owned(quote(name)) }
}

/// A name as it stands in an expression: in quotes unless it is an identifier.
pub fn identifier(name: &str) -> Cow<'_, str> {
    if is_identifier(name) { Cow::Borrowed(name) } else { Cow::Owned(quote(name)) }
}

/// A string in quotes, escaped as the lexer reads it.
pub fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The shortest text that reads back to the same bits: a number, `inf`, `nan` for the canonical
/// NaN, the bits in hexadecimal for every other NaN, `true` or `false`.
pub fn literal(ty: DType, bits: u64) -> String {
    if ty == DType::Text {
        return quote(strings::text_of(bits as i64).unwrap_or_default());
    }
    let canonical_nan = to_bits(Scalar::F(f64::NAN), ty);
    match from_bits(bits, ty) {
        Scalar::F(v) if v.is_nan() && bits == canonical_nan => "nan".to_owned(),
        Scalar::F(v) if v.is_nan() => format!("{bits:#x}"),
        Scalar::F(v) if ty == DType::F64 => format!("{v:?}"),
        Scalar::F(v) => format!("{:?}", v as f32),
        Scalar::I(v) => v.to_string(),
        Scalar::U(v) => v.to_string(),
        Scalar::B(_) if bits > 1 => format!("{bits:#x}"),
        Scalar::B(v) => v.to_string(),
    }
}

/// Gives every value a name of its own.
#[derive(Default)]
pub struct Names {
    /// The names in use, each with the last number that was appended to it.
    taken: HashMap<String, usize>,
}

impl Names {
    /// The wanted name (`fallback` where it is empty), with a number appended if it is taken.
    pub fn unique(&mut self, wanted: &str, fallback: &str) -> String {
        let base = if wanted.is_empty() { fallback } else { wanted };
        let mut name = base.to_owned();
        while self.taken.contains_key(&name) {
            let n = self.taken.entry(base.to_owned()).or_default();
            *n += 1;
            name = format!("{base}.{n}");
        }
        self.taken.insert(name.clone(), 0);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Expr;

    fn expr(text: &str) -> Result<Expr, String> {
        let mut p = Parser::new(text).map_err(|e| e.to_string())?;
        let e = p.expr().map_err(|e| e.to_string())?;
        p.end().map_err(|e| e.to_string())?;
        Ok(e)
    }

    #[test]
    fn expressions_read_back() {
        for text in [
            "2*a*b + (x / 4) - min(a, b) + 1",
            "-a + 3",
            "0",
            "-9223372036854775808",
            "a - 9223372036854775808",
            "max(a, b)*(x / (y + 1))",
            "\"batch size\" + ?3",
        ] {
            let e = expr(text).expect(text);
            assert_eq!(expr(&e.to_string()).as_ref(), Ok(&e), "{text}");
        }
        assert_eq!(expr("a % 4"), Ok(Expr::named("a").modulo(&4.into())));
        assert_eq!(expr("a mod 4"), expr("a - 4*(a / 4)"));
        assert_eq!(expr("2*(a + b) - (a)"), expr("a + 2*b"));
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(expr("a +\n  )"), Err("2:3: found `)`, expected an expression".to_owned()));
        assert_eq!(expr("a b"), Err("1:3: found `b`, expected the end".to_owned()));
        assert_eq!(
            expr("9223372036854775808"),
            Err("1:1: found 9223372036854775808, expected a 64-bit integer".to_owned())
        );
    }

    #[test]
    fn hostile_expressions_are_refused() {
        assert!(expr(&"(".repeat(100_000)).is_err());
        assert!(expr(&"-".repeat(100_000)).is_err());
        assert!(expr(&vec!["(a + b + c)"; 1000].join("*")).is_err());
        let nested = (0..60).fold("a".to_owned(), |e, _| format!("({e} % b)"));
        assert!(expr(&nested).is_err());
    }

    #[test]
    fn literals_keep_every_bit() {
        let bits =
            [0, 1, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7fa0_0001, 0xffc0_0000, 0x3dcc_cccd];
        for ty in DType::ALL.into_iter().filter(|t| *t != DType::Text) {
            for b in bits.map(|b: u64| b << (ty.bits().saturating_sub(32))) {
                let b = b & (u64::MAX >> (64 - ty.bits()));
                if ty.is_storage()
                    && !from_bits(b, ty).as_f64().is_nan()
                    && to_bits(from_bits(b, ty), ty) != b
                {
                    continue;
                }
                let text = literal(ty, b);
                let mut p = Parser::new(&text).expect("tokens");
                assert_eq!(p.literal(ty), Ok(b), "{ty} {text}");
            }
        }
    }

    #[test]
    fn literals_of_texts_are_strings() {
        let number = strings::number_of("a \"b\"\n") as u64;
        let text = literal(DType::Text, number);
        assert_eq!(text, "\"a \\\"b\\\"\\n\"");
        assert_eq!(Parser::new(&text).expect("tokens").literal(DType::Text), Ok(number));
        assert!(Parser::new("7").expect("tokens").literal(DType::Text).is_err());
    }

    #[test]
    fn names_are_unique() {
        let mut names = Names::default();
        assert_eq!(names.unique("x", ""), "x");
        assert_eq!(names.unique("x.1", ""), "x.1");
        assert_eq!(names.unique("x", ""), "x.2");
        assert_eq!(name("7"), "\"7\"");
        assert_eq!(name("a/b"), "\"a/b\"");
    }
}
