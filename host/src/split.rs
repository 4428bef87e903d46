//! Texts in pieces, as Python's `str.split(separator, limit)` cuts them.
//!
//! With a separator, it stands between any two pieces, which may be empty. Without one (the empty text),
//! pieces are what stands between runs of whitespace, and none is empty. A limit is how often a text is
//! cut at most, from its start; what is left is one more piece, cut off from the whitespace before it alone.
//!
//! A text has as many pieces as `TextPieces` says; `TextSplit` writes the same pieces.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::buffers::{count, one, one_text, quoted, text, view, view_mut};
use crate::{Kind, Op, Texts};

/// The ops of this file.
pub(crate) const OPS: &[Op] = &[
    Op {
        name: "TextPieces",
        inputs: &[Kind::Text, Kind::Text, Kind::I64],
        outputs: &[Kind::I64],
        call: |inputs, outputs, texts| {
            let cut = Cut::new(inputs, texts)?;
            let (x, out) = (view::<i64>(inputs[0])?, view_mut::<i64>(outputs[0])?);
            count("results", out.len(), x.len())?;
            for (out, &x) in out.iter_mut().zip(x) {
                *out = cut.pieces(text(texts, x)?).count() as i64;
            }
            Ok(())
        },
    },
    Op {
        name: "TextSplit",
        inputs: &[Kind::Text, Kind::Text, Kind::I64],
        outputs: &[Kind::Text],
        call: |inputs, outputs, texts| {
            let cut = Cut::new(inputs, texts)?;
            split(view(inputs[0])?, &cut, view_mut(outputs[0])?, texts)
        },
    },
];

/// How texts are cut.
struct Cut {
    separator: String,
    limit: usize,
}

impl Cut {
    /// From the second and the third input.
    fn new(inputs: &[&[u8]], texts: &dyn Texts) -> Result<Self, String> {
        let separator = one_text(texts, "separator", inputs[1])?;
        // As in Python, every negative limit is none.
        let limit = usize::try_from(one("limit", inputs[2])?).unwrap_or(usize::MAX);
        Ok(Cut { separator, limit })
    }

    fn pieces<'a>(&'a self, text: &'a str) -> Pieces<'a> {
        Pieces { separator: &self.separator, left: self.limit, rest: Some(text) }
    }
}

/// The pieces of a text, from its start.
struct Pieces<'a> {
    separator: &'a str,
    /// How often the rest may be cut.
    left: usize,
    /// `None` behind the last piece.
    rest: Option<&'a str>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut rest = self.rest?;
        let cut = if self.separator.is_empty() {
            rest = rest.trim_start_matches(is_whitespace);
            if rest.is_empty() {
                self.rest = None;
                return None;
            }
            rest.split_once(is_whitespace)
        } else {
            rest.split_once(self.separator)
        };
        match cut {
            Some((piece, behind)) if self.left > 0 => {
                self.left -= 1;
                self.rest = Some(behind);
                Some(piece)
            }
            _ => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}

/// Python's whitespace: Unicode's, and the four separators of ASCII.
fn is_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn split(x: &[i64], cut: &Cut, out: &mut [i64], texts: &mut dyn Texts) -> Result<(), String> {
    let wide = if x.is_empty() { 0 } else { out.len() / x.len() };
    if wide * x.len() != out.len() {
        return Err(format!("{} results were given, expected a multiple of {}", out.len(), x.len()));
    }
    for (i, &x) in x.iter().enumerate() {
        let row = &mut out[i * wide..][..wide];
        let whole = text(texts, x)?.to_string();
        let pieces: Vec<&str> = cut.pieces(&whole).take(wide + 1).collect();
        if pieces.len() > wide {
            let found = cut.pieces(&whole).count();
            return Err(format!("{} has {found} pieces, room is for {wide}", quoted(&whole)));
        }
        for (out, piece) in row.iter_mut().zip(pieces.into_iter().chain(core::iter::repeat(""))) {
            *out = texts.number(piece);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use crate::testing::{Table, map};

    fn split(x: &[&str], separator: &str, limit: i64) -> (Vec<i64>, Vec<String>) {
        let mut t = Table::default();
        let x = t.numbers(x);
        let separator = t.numbers(&[separator]);
        let counts = map("TextPieces", &x, &[&separator, &[limit]], x.len(), &mut t).expect("counts");
        let wide = counts.iter().copied().max().unwrap_or(0) as usize;
        let pieces = map("TextSplit", &x, &[&separator, &[limit]], x.len() * wide, &mut t).expect("pieces");
        (counts, t.texts(&pieces))
    }

    #[test]
    fn cuts_at_separators() {
        let (counts, pieces) = split(&["abc.com", "def.net"], ".", -1);
        assert_eq!((&counts[..], pieces.join(" ")), (&[2, 2][..], "abc com def net".into()));
        let (counts, pieces) = split(&["o-n-n--x-", "o-n----nx"], "-", -1);
        assert_eq!(counts, [6, 6]);
        assert_eq!(pieces, ["o", "n", "n", "", "x", "", "o", "n", "", "", "", "nx"]);
        let (counts, pieces) = split(&["", "a, b"], ", ", -1);
        assert_eq!((&counts[..], pieces.join("|")), (&[1, 2][..], "||a|b".into()));
    }

    #[test]
    fn cuts_at_runs_of_whitespace() {
        let (counts, pieces) = split(&["  hello   world !", " hello \t\n world   ! ", " ", ""], "", -1);
        assert_eq!(counts, [3, 3, 0, 0]);
        assert_eq!(pieces, ["hello", "world", "!", "hello", "world", "!", "", "", "", "", "", ""]);
    }

    // What Python 3 prints.
    #[test]
    fn cuts_no_more_often_than_the_limit() {
        let (counts, pieces) = split(&["hello world", "def.net", "o n n x", "the quick brown fox"], "", 2);
        assert_eq!(counts, [2, 1, 3, 3]);
        assert_eq!(pieces.join("|"), "hello|world||def.net|||o|n|n x|the|quick|brown fox");
        assert_eq!(split(&["  a  b  c  "], "", 1).1, ["a", "b  c  "]);
        assert_eq!(split(&["  a b "], "", 0).1, ["a b "]);
        assert_eq!(split(&["a "], "", 1).1, ["a"]);
        assert_eq!(split(&["a--b-c"], "-", 1).1, ["a", "-b-c"]);
        assert_eq!(split(&["a-b"], "-", 0).1, ["a-b"]);
    }

    #[test]
    fn texts_that_do_not_fit_are_errors() {
        let mut t = Table::default();
        let (x, comma) = (t.numbers(&["a,b,c", "d"]), t.numbers(&[","]));
        let e = map("TextSplit", &x, &[&comma, &[-1]], 4, &mut t).expect_err("too little room");
        assert_eq!(e, "TextSplit: \"a,b,c\" has 3 pieces, room is for 2");
        let e = map("TextSplit", &x, &[&comma, &[-1]], 5, &mut t).expect_err("no whole rows");
        assert_eq!(e, "TextSplit: 5 results were given, expected a multiple of 2");
        let e = map("TextPieces", &x, &[&[], &[-1]], 2, &mut t).expect_err("no separator");
        assert_eq!(e, "TextPieces: 0 values were given for the separator, 1 expected");
        assert_eq!(map("TextSplit", &[], &[&comma, &[-1]], 0, &mut t), Ok(Vec::new()));
    }
}
