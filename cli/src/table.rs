//! Tables on the terminal: a line of titles, then rows; numbers stand right.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Table};

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a line of titles.
pub(crate) fn table(columns: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut t = Table::new();
    t.load_style(NOTHING);
    t.set_header(columns.iter().map(|(title, _)| Cell::new(title).add_attribute(Attribute::Bold)));
    t.add_rows(rows);
    for (i, (_, align)) in columns.iter().enumerate() {
        if let Some(c) = t.column_mut(i) {
            let side = if *align == Align::Right { CellAlignment::Right } else { CellAlignment::Left };
            c.set_cell_alignment(side);
        }
    }
    format!("{}\n", t.trim_fmt())
}

/// Facts, one a line: a title and what it is.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
    rows.iter().map(|(title, what)| format!("  {title:width$}  {what}\n")).collect()
}
