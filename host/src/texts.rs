//! Texts from texts, one by one: joined, and in upper or lower case; and their order.
//!
//! Case is Unicode's, and so is the order: by the codes of characters, with no regard to a language.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::buffers::{count, one, text, view, view_mut};
use crate::{Kind, Op, Texts};

/// The ops of this file.
pub(crate) const OPS: &[Op] = &[
    Op {
        name: "TextConcat",
        inputs: &[Kind::Text, Kind::Text],
        outputs: &[Kind::Text],
        call: |inputs, outputs, texts| {
            concat(view(inputs[0])?, view(inputs[1])?, view_mut(outputs[0])?, texts)
        },
    },
    Op {
        name: "TextCase",
        inputs: &[Kind::Text, Kind::I64],
        outputs: &[Kind::Text],
        call: |inputs, outputs, texts| {
            case(view(inputs[0])?, one("mode", inputs[1])?, view_mut(outputs[0])?, texts)
        },
    },
    Op {
        name: "TextRank",
        inputs: &[Kind::Text],
        outputs: &[Kind::I64],
        call: |inputs, outputs, texts| rank(view(inputs[0])?, view_mut(outputs[0])?, texts),
    },
];

fn concat(a: &[i64], b: &[i64], out: &mut [i64], texts: &mut dyn Texts) -> Result<(), String> {
    count("second texts", b.len(), a.len())?;
    count("results", out.len(), a.len())?;
    let mut joined = String::new();
    for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
        joined.clear();
        joined.push_str(text(texts, a)?);
        joined.push_str(text(texts, b)?);
        *out = texts.number(&joined);
    }
    Ok(())
}

fn case(x: &[i64], mode: i64, out: &mut [i64], texts: &mut dyn Texts) -> Result<(), String> {
    count("results", out.len(), x.len())?;
    let change: fn(&str) -> String = match mode {
        0 => |s| s.into(),
        1 => str::to_lowercase,
        2 => str::to_uppercase,
        _ => return Err(format!("the mode is {mode}, expected 0 (as it is), 1 (lower) or 2 (upper)")),
    };
    for (out, &x) in out.iter_mut().zip(x) {
        let changed = change(text(texts, x)?);
        *out = texts.number(&changed);
    }
    Ok(())
}

/// The place of each text among the distinct ones in order.
fn rank(x: &[i64], out: &mut [i64], texts: &mut dyn Texts) -> Result<(), String> {
    count("results", out.len(), x.len())?;
    let all = x.iter().map(|x| text(texts, *x)).collect::<Result<Vec<&str>, String>>()?;
    let mut distinct = all.clone();
    distinct.sort_unstable();
    distinct.dedup();
    for (out, text) in out.iter_mut().zip(&all) {
        *out = distinct.partition_point(|t| t < text) as i64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Table, map};

    #[test]
    fn joins_texts() {
        let mut t = Table::default();
        assert_eq!(t.run("TextConcat", &[&["abc", "def"], &[".com", ".net"]], &[]), ["abc.com", "def.net"]);
        assert_eq!(t.run("TextConcat", &[&["abc", ""], &["", "abc"]], &[]), ["abc", "abc"]);
        assert_eq!(t.run("TextConcat", &[&["的"], &["中"]], &[]), ["的中"]);
        let both_empty = t.run("TextConcat", &[&[""], &[""]], &[]);
        assert_eq!(both_empty, [""]);
    }

    #[test]
    fn changes_case() {
        let mut t = Table::default();
        assert_eq!(t.run("TextCase", &[&["Monday", "ÀÉ", "ß"]], &[2]), ["MONDAY", "ÀÉ", "SS"]);
        assert_eq!(t.run("TextCase", &[&["Monday", "ÀÉ", "ΟΔΟΣ"]], &[1]), ["monday", "àé", "οδος"]);
        assert_eq!(t.run("TextCase", &[&["Monday", ""]], &[0]), ["Monday", ""]);
        let e = map("TextCase", &[0], &[&[3]], 1, &mut t).expect_err("no such mode");
        assert_eq!(e, "TextCase: the mode is 3, expected 0 (as it is), 1 (lower) or 2 (upper)");
    }

    #[test]
    fn ranks_texts() {
        let mut t = Table::default();
        let x = ["b", "", "a", "b", "é", "Z"].map(|text| crate::Texts::number(&mut t, text));
        assert_eq!(map("TextRank", &x, &[], 6, &mut t), Ok(alloc::vec![3, 0, 2, 3, 4, 1]));
    }

    #[test]
    fn numbers_without_a_text_are_errors() {
        let e = map("TextCase", &[7], &[&[1]], 1, &mut Table::default()).expect_err("no text");
        assert_eq!(e, "TextCase: no text has the number 7");
    }
}
