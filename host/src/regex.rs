//! Whether texts match a pattern of RE2, each as a whole.
//!
//! Matching takes time in proportion to the text for any pattern: there are no references to groups and
//! nothing that looks ahead.

use alloc::format;
use alloc::string::{String, ToString};

use regex::Regex;

use crate::buffers::{count, one_text, quoted, text, view};
use crate::re2::translate;
use crate::{Kind, Op};

/// The ops of this file.
pub(crate) const OPS: &[Op] = &[Op {
    name: "TextMatches",
    inputs: &[Kind::Text, Kind::Text],
    outputs: &[Kind::Bool],
    call: |inputs, outputs, texts| {
        let pattern = one_text(texts, "pattern", inputs[1])?;
        let regex =
            whole(&pattern).map_err(|e| format!("the pattern {} is invalid: {e}", quoted(&pattern)))?;
        let x = view::<i64>(inputs[0])?;
        count("results", outputs[0].len(), x.len())?;
        for (out, &x) in outputs[0].iter_mut().zip(x) {
            *out = regex.is_match(text(texts, x)?).into();
        }
        Ok(())
    },
}];

/// What matches the texts that match a pattern of RE2 as a whole.
fn whole(pattern: &str) -> Result<Regex, String> {
    let pattern = translate(pattern)?;
    let compile = |pattern: &str| Regex::new(pattern).map_err(|e| reason(&e));
    // By itself as well: a parenthesis too many would close the group that is put around it.
    compile(&pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

/// The last line of an error's message, which says what is wrong; the lines before show the translation.
fn reason(error: &regex::Error) -> String {
    let message = error.to_string();
    let last = message.lines().last().unwrap_or("");
    last.strip_prefix("error: ").unwrap_or(last).to_string()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    use crate::by_name;
    use crate::testing::Table;

    fn matches(pattern: &str, x: &[&str]) -> Result<Vec<bool>, String> {
        let mut t = Table::default();
        let (x, pattern) = (t.numbers(x), t.numbers(&[pattern]));
        let mut out = vec![9u8; x.len()];
        by_name("TextMatches").expect("an op").call(
            &[bytemuck::cast_slice(&x), bytemuck::cast_slice(&pattern)],
            &mut [&mut out],
            &mut t,
        )?;
        assert!(out.iter().all(|&b| b < 2));
        Ok(out.into_iter().map(|b| b == 1).collect())
    }

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(matches(pattern, &[text]), Ok(vec![expected]), "{text:?} by {pattern:?}");
            }
        }
    }

    // The cases of ONNX's own suite.
    #[test]
    fn matches_whole_texts() {
        let sites = ["www.google.com", "www.facebook.com", "www.bbc.co.uk"];
        assert_eq!(matches(r"www\.[\w.-]+\.\bcom\b", &sites), Ok(vec![true, true, false]));
        let mail = r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)";
        let texts = ["account@gmail.com", "account@hotmail.com", "not email", "account2@yahoo.com"];
        assert_eq!(matches(mail, &texts), Ok(vec![true, false, false, true]));
        assert_eq!(matches(mail, &[]), Ok(vec![]));
        check("a|ab", &["a", "ab"], &["abc", "b", ""]);
        check("", &[""], &["a", "\n"]);
        check("a$", &["a"], &["a\n"]);
        check("a.c", &["abc", "aéc"], &["a\nc"]);
        check("(?s)a.c", &["a\nc"], &[]);
        check("(?P<x>a)(?<x>b)(?i:c)(?)", &["abc", "abC"], &["aBc"]);
    }

    // By the description of RE2's syntax.
    #[test]
    fn short_classes_are_of_ascii() {
        check(r"\d+", &["123"], &["١٢٣", ""]);
        check(r"\w+", &["a_1"], &["é"]);
        check(r"[^\W\d]+", &["ab_"], &["a1", "é"]);
        check(r"\s", &[" ", "\t", "\n", "\x0c", "\r"], &["\x0b", "\u{a0}"]);
        check(r"\S\D\W", &["\x0b١é"], &["  a"]);
        check(r".\bé.*", &["aé"], &["éé"]);
        check(r"é\Bé", &["éé"], &[]);
        check(r"(?i)é\pL[[:upper:]]", &["Éßq"], &["Éß1"]);
        check(r"\p{Greek}+\P{^Lu}\p{^Lu}", &["αβΓδ"], &["αβΓΔ"]);
    }

    #[test]
    fn escapes_stand_for_characters() {
        check(r"\Qa.b[\E+", &["a.b[", "a.b[["], &["axb["]);
        check(r"\101\x42\x{43}\07", &["ABC\x07"], &[]);
        check(r"\<\!\-\_\ \#", &["<!-_ #"], &[]);
        check(r"[\x41-\x43\101\n]+", &["ABC\n"], &["D"]);
        check(r"\Aa\z", &["a"], &["aa"]);
    }

    #[test]
    fn classes_have_no_operators() {
        check("[a[b]+", &["a[b"], &["]"]);
        check("[]a]+", &["]a"], &["[a"]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[a&&b]+", &["a&b"], &[]);
        check("[a~~b-]+", &["a~b-"], &[]);
        check("[+--]+", &["+,-"], &["."]);
        check("[[:alpha:][:^ascii:]]+", &["aé"], &["1"]);
        check("[[:]+", &["[:"], &["a"]);
    }

    #[test]
    fn braces_that_repeat_nothing_are_themselves() {
        check("a{,2}", &["a{,2}"], &["a", "aa"]);
        check("{x}", &["{x}"], &[]);
        check("a{2}", &["aa"], &["a", "aaa"]);
        check("a{2,}?", &["aa", "aaa"], &["a"]);
    }

    #[test]
    fn patterns_that_are_none_are_errors() {
        let wrong = |pattern: &str| matches(pattern, &[]).expect_err(pattern);
        assert_eq!(wrong("a(b"), "TextMatches: the pattern \"a(b\" is invalid: unclosed group");
        assert_eq!(
            wrong(r"(a)\1"),
            "TextMatches: the pattern \"(a)\\\\1\" is invalid: \\1 refers to a group, which cannot be matched"
        );
        let others = [
            "a)(b",
            "a)|(b",
            "*a",
            "a**",
            "a{2}{3}",
            "a{1001}",
            "(?x)a",
            "(?=a)",
            "(?<=a)b",
            r"\C",
            r"\8",
            r"\y",
            r"\é",
            "\\",
            "[a",
            "[",
            r"[\b]",
            "[b-a]",
            "[[:name:]]",
            r"\p{Alphabetic}",
            r"\p",
            r"\p{L",
            r"\x4",
            r"\x{110000}",
            r"\x{",
            "(?",
            "(?P<a.b>c)",
            "(?P<>c)",
            "(?P<a",
            "(((((a{100}){100}){100}){100}){100})",
        ];
        for pattern in others {
            assert!(wrong(pattern).starts_with("TextMatches: the pattern"), "{pattern}");
        }
    }
}
