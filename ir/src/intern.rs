//! Strings under numbers: a global table that only grows, so that what it hands out lives for ever.

use std::collections::HashMap;
use std::sync::RwLock;

/// Strings in the order in which they were first met, and their numbers.
#[derive(Default)]
struct Table {
    strings: Vec<&'static str>,
    numbers: HashMap<&'static str, u32>,
}

/// A table that threads share. Two strings are the same exactly when their numbers are.
#[derive(Default)]
pub(crate) struct Interner(RwLock<Table>);

impl Interner {
    /// The number of a string.
    pub(crate) fn number_of(&self, string: &str) -> u32 {
        let known = |t: &Table| t.numbers.get(string).copied();
        if let Some(number) = known(&self.0.read().unwrap_or_else(|e| e.into_inner())) {
            return number;
        }
        let mut table = self.0.write().unwrap_or_else(|e| e.into_inner());
        if let Some(number) = known(&table) {
            return number;
        }
        let number = table.strings.len() as u32;
        let string: &'static str = Box::leak(string.to_owned().into_boxed_str());
        table.strings.push(string);
        table.numbers.insert(string, number);
        number
    }

    /// The string of a number; `None` where none has it.
    pub(crate) fn string_of(&self, number: usize) -> Option<&'static str> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).strings.get(number).copied()
    }
}
