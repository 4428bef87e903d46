//! What the tests of all families run ops with.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::{Texts, by_name};

/// Texts in a list; a number is a place in it.
pub(crate) struct Table(Vec<String>);

impl Default for Table {
    fn default() -> Self {
        Table(vec![String::new()])
    }
}

impl Texts for Table {
    fn text(&self, number: i64) -> Option<&str> {
        self.0.get(usize::try_from(number).ok()?).map(String::as_str)
    }

    fn number(&mut self, text: &str) -> i64 {
        let known = self.0.iter().position(|t| t == text);
        known.unwrap_or_else(|| {
            self.0.push(text.to_string());
            self.0.len() - 1
        }) as i64
    }
}

impl Table {
    pub(crate) fn numbers(&mut self, texts: &[&str]) -> Vec<i64> {
        texts.iter().map(|t| self.number(t)).collect()
    }

    pub(crate) fn texts(&self, numbers: &[i64]) -> Vec<String> {
        numbers.iter().map(|&n| self.text(n).expect("a number that was given").to_string()).collect()
    }

    /// Runs an op whose first inputs are texts, whose last, if any, are numbers, and whose result has as many texts as
    /// the first.
    pub(crate) fn run(&mut self, op: &str, texts: &[&[&str]], numbers: &[i64]) -> Vec<String> {
        let texts: Vec<Vec<i64>> = texts.iter().map(|t| self.numbers(t)).collect();
        let mut rest: Vec<&[i64]> = texts[1..].iter().map(|t| &t[..]).collect();
        if !numbers.is_empty() {
            rest.push(numbers);
        }
        let out = map(op, &texts[0], &rest, texts[0].len(), self).expect(op);
        self.texts(&out)
    }
}

/// Runs an op whose buffers all hold `i64`.
pub(crate) fn map(
    op: &str,
    x: &[i64],
    rest: &[&[i64]],
    results: usize,
    texts: &mut Table,
) -> Result<Vec<i64>, String> {
    let mut inputs: Vec<&[u8]> = vec![bytemuck::cast_slice(x)];
    inputs.extend(rest.iter().map(|r| bytemuck::cast_slice::<i64, u8>(r)));
    // Not 0, the empty text's number, to see that every element is written.
    let mut out = vec![-1i64; results];
    by_name(op).expect(op).call(&inputs, &mut [bytemuck::cast_slice_mut(&mut out)], texts)?;
    Ok(out)
}
