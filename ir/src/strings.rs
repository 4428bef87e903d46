//! Texts as elements of tensors: each has a number, and tensors of [`DType::Text`](crate::DType::Text)
//! hold numbers.
//!
//! Two texts are the same exactly when their numbers are. The table is global and only grows; the empty
//! text is number 0. Numbers depend on what was met first, so that nothing that is written may hold
//! them: compiled models count their own texts anew.

use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

struct Table {
    texts: Vec<&'static str>,
    numbers: HashMap<&'static str, i64>,
}

static TABLE: LazyLock<RwLock<Table>> =
    LazyLock::new(|| RwLock::new(Table { texts: vec![""], numbers: HashMap::from([("", 0)]) }));

/// The number of a text.
pub fn number_of(text: &str) -> i64 {
    let known = |t: &Table| t.numbers.get(text).copied();
    if let Some(number) = known(&TABLE.read().unwrap_or_else(|e| e.into_inner())) {
        return number;
    }
    let mut table = TABLE.write().unwrap_or_else(|e| e.into_inner());
    if let Some(number) = known(&table) {
        return number;
    }
    let number = table.texts.len() as i64;
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    table.texts.push(text);
    table.numbers.insert(text, number);
    number
}

/// The text of a number; `None` where no text has it.
pub fn text_of(number: i64) -> Option<&'static str> {
    let table = TABLE.read().unwrap_or_else(|e| e.into_inner());
    usize::try_from(number).ok().and_then(|n| table.texts.get(n)).copied()
}
