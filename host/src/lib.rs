//! The functions of models that cannot be loop nests: over texts, regular expressions and encoded images.
//!
//! [`by_name`] finds an [`Op`], and [`Op::call`] runs it over buffers. Buffers are flat: who calls has
//! broadcast them, and the number of elements follows from the length in bytes. A text is a number that
//! [`Texts`] gives; the empty text's is 0 in every run.
//!
//! No input makes an op panic, and none makes it allocate more than in proportion to its buffers: what
//! does not fit is an error that says what was found and what was expected. After an error the contents
//! of outputs are unspecified. An op has no state: equal inputs give equal outputs.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "images")]
extern crate std;

mod buffers;
#[cfg(feature = "images")]
mod images;
mod numbers;
mod re2;
mod regex;
mod split;
mod texts;

use alloc::format;
use alloc::string::String;

/// The texts of a run: tensors of texts hold numbers.
pub trait Texts {
    /// The text that a number stands for; `None` where there is none.
    fn text(&self, number: i64) -> Option<&str>;
    /// The number of a text, equal for equal texts. The empty text's is 0.
    fn number(&mut self, text: &str) -> i64;
}

/// What the elements of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A text, as the `i64` that stands for it.
    Text,
    /// A signed integer of 64 bits.
    I64,
    /// A byte.
    U8,
    /// A byte that is 0 or 1.
    Bool,
    /// A float of 64 bits.
    F64,
}

impl Kind {
    /// How many bytes an element has.
    pub const fn size(self) -> usize {
        match self {
            Kind::Text | Kind::I64 | Kind::F64 => 8,
            Kind::U8 | Kind::Bool => 1,
        }
    }

    fn fits(self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Kind::Text | Kind::I64 => buffers::view::<i64>(bytes).map(drop),
            Kind::F64 => buffers::view::<f64>(bytes).map(drop),
            Kind::U8 | Kind::Bool => Ok(()),
        }
    }
}

/// What does an op's work, over buffers whose number, alignment and whole elements have been seen to.
type Call = fn(&[&[u8]], &mut [&mut [u8]], &mut dyn Texts) -> Result<(), String>;

/// One function of the library.
#[derive(Debug)]
pub struct Op {
    /// What it is found by.
    pub name: &'static str,
    /// The kinds of its inputs, in order.
    pub inputs: &'static [Kind],
    /// The kinds of its outputs, in order.
    pub outputs: &'static [Kind],
    call: Call,
}

impl Op {
    /// Runs the op: reads `inputs`, and writes every byte of `outputs`. Buffers hold elements of the op's
    /// kinds in the machine's byte order, and lie at multiples of their elements' size.
    pub fn call(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        texts: &mut dyn Texts,
    ) -> Result<(), String> {
        let counts =
            [("inputs", inputs.len(), self.inputs.len()), ("outputs", outputs.len(), self.outputs.len())];
        for (what, found, expected) in counts {
            buffers::count(what, found, expected).map_err(|e| format!("{}: {e}", self.name))?;
        }
        for (i, (kind, bytes)) in self.inputs.iter().zip(inputs).enumerate() {
            kind.fits(bytes).map_err(|e| format!("{}: input {i} {e}", self.name))?;
        }
        for (i, (kind, bytes)) in self.outputs.iter().zip(outputs.iter()).enumerate() {
            kind.fits(bytes).map_err(|e| format!("{}: output {i} {e}", self.name))?;
        }
        (self.call)(inputs, outputs, texts).map_err(|e| format!("{}: {e}", self.name))
    }
}

/// The tables of the families.
const FAMILIES: &[&[Op]] = &[
    texts::OPS,
    split::OPS,
    regex::OPS,
    numbers::OPS,
    #[cfg(feature = "images")]
    images::OPS,
];

/// Every op that this build of the library has.
pub fn all() -> impl Iterator<Item = &'static Op> {
    FAMILIES.iter().copied().flatten()
}

/// The op of a name; `None` where this build of the library has none.
pub fn by_name(name: &str) -> Option<&'static Op> {
    all().find(|op| op.name == name)
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::testing::Table;
    use super::*;
    use alloc::vec;

    #[test]
    fn names_are_unique() {
        for op in all() {
            assert_eq!(all().filter(|o| o.name == op.name).count(), 1, "{}", op.name);
            assert_eq!(by_name(op.name).map(|o| o.name), Some(op.name));
        }
        assert!(by_name("Add").is_none());
    }

    #[test]
    fn buffers_that_do_not_fit_are_errors() {
        let op = by_name("TextConcat").expect("an op");
        let mut texts = Table::default();
        let words = vec![0i64; 3];
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        let mut out = vec![0i64; 3];
        let out: &mut [u8] = bytemuck::cast_slice_mut(&mut out);

        let e = op.call(&[bytes], &mut [&mut *out], &mut texts).expect_err("an input is missing");
        assert_eq!(e, "TextConcat: 1 inputs were given, 2 expected");
        let e = op.call(&[&bytes[..12], bytes], &mut [&mut *out], &mut texts).expect_err("half an element");
        assert_eq!(e, "TextConcat: input 0 has 12 bytes, expected a multiple of 8");
        let e = op.call(&[&bytes[1..9], bytes], &mut [&mut *out], &mut texts).expect_err("misaligned");
        assert_eq!(e, "TextConcat: input 0 lies at an address that is no multiple of 8");
        let e = op.call(&[bytes, bytes], &mut [&mut out[..8]], &mut texts).expect_err("a short output");
        assert_eq!(e, "TextConcat: 1 results were given, 3 expected");
        let empty = &bytes[1..1];
        op.call(&[empty, empty], &mut [&mut out[3..3]], &mut texts).expect("no elements lie anywhere");
    }
}
