//! Interned names for symbolic dimensions and loop variables.
//!
//! Two symbols are the same exactly when their names are. The table is global and only grows; a
//! program holds a few hundred distinct names at most, since every pass takes its names from a
//! counter of its own.

use crate::expr::Range;
use crate::intern::Interner;
use std::fmt;
use std::sync::LazyLock;

/// A name such as `batch` or `i0`. `Display` prints the name, in quotes if it is no
/// identifier of the text forms.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Symbol(u32);

static TABLE: LazyLock<Interner> = LazyLock::new(Interner::default);

impl Symbol {
    /// The symbol of that name.
    pub fn new(name: &str) -> Symbol {
        Symbol(TABLE.number_of(name))
    }

    /// What it may stand for: dimensions and other sizes are zero or above. An integer that is read from
    /// data, whose name begins with [`Symbol::DATA`], may be any.
    pub fn range(self) -> Range {
        if self.name().starts_with(Symbol::DATA) { Range::ALL } else { Range::NON_NEGATIVE }
    }

    /// What the names of integers that are read from data begin with.
    pub const DATA: char = '~';
    /// What the names of sizes begin with that change from one iteration of a loop to the next.
    pub const VARYING: &str = "?v";

    /// The name.
    pub fn name(self) -> &'static str {
        // Every symbol has its number from the table.
        TABLE.string_of(self.0 as usize).unwrap_or_default()
    }
}

/// Symbols are ordered by name, so that canonical forms do not depend on the order of interning.
impl Ord for Symbol {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if self.0 == other.0 { std::cmp::Ordering::Equal } else { self.name().cmp(other.name()) }
    }
}

impl PartialOrd for Symbol {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::identifier(self.name()))
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
