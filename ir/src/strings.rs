//! Texts as elements of tensors: each has a number, and tensors of [`DType::Text`](crate::DType::Text)
//! hold numbers.
//!
//! Two texts are the same exactly when their numbers are. The table is global and only grows; the empty
//! text is number 0. Numbers depend on what was met first, so that nothing that is written may hold
//! them: compiled models count their own texts anew.

use crate::intern::Interner;
use std::sync::LazyLock;

static TABLE: LazyLock<Interner> = LazyLock::new(|| {
    let table = Interner::default();
    table.number_of("");
    table
});

/// The number of a text.
pub fn number_of(text: &str) -> i64 {
    TABLE.number_of(text).into()
}

/// The text of a number; `None` where no text has it.
pub fn text_of(number: i64) -> Option<&'static str> {
    TABLE.string_of(usize::try_from(number).ok()?)
}
