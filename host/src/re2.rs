//! Patterns in the syntax of RE2, written in the syntax of the `regex` crate.
//!
//! The two are close relatives. Where they differ is what this file is about:
//!
//! - `\d`, `\s`, `\w` and `\b` speak of ASCII in RE2, of all of Unicode there; `\s` has no vertical tab;
//! - RE2 has `\Q...\E`, octal escapes, `\p{^Greek}`, and takes every escaped punctuation mark for itself;
//! - a `[`, `&&`, `--` or `~~` within a class is an operator there, and itself in RE2, as is a `{` that
//!   begins no repetition;
//! - RE2 has no flags but `i`, `m`, `s` and `U`, no repetition of a repetition, and none above 1000.
//!
//! What both have is passed on as it is, mistakes included: the `regex` crate refuses what is left of them.
//! Single bytes (`\C`) cannot be matched, since texts are characters.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// The most often that RE2 lets anything be repeated by a number.
const MOST_REPEATS: u32 = 1000;

/// A pattern of RE2 as one of the `regex` crate.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { rest: pattern, out: String::with_capacity(pattern.len() + 16) };
    // Whether what was read last is a repetition.
    let mut repetition = false;
    while let Some(c) = reader.next() {
        let before = core::mem::take(&mut repetition);
        match c {
            '\\' => reader.escape()?,
            '[' => reader.class()?,
            '(' => reader.group()?,
            '*' | '+' | '?' => {
                reader.out.push(c);
                repetition = true;
            }
            '{' => match reader.counted()? {
                true => repetition = true,
                false => reader.literal('{'),
            },
            c => reader.out.push(c),
        }
        if repetition {
            if before {
                return Err("a repetition is repeated".into());
            }
            if reader.take("?") {
                reader.out.push('?');
            }
        }
    }
    Ok(reader.out)
}

struct Reader<'a> {
    /// What is left to read.
    rest: &'a str,
    out: String,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self, start: &str) -> bool {
        let rest = self.rest.strip_prefix(start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Writes a character that stands for itself.
    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(self.out, "\\x{:02X}", u32::from(c));
        }
    }

    /// What follows a backslash outside of classes.
    fn escape(&mut self) -> Result<(), String> {
        match self.peek() {
            Some('Q') => {
                self.next();
                while !self.take("\\E") {
                    match self.next() {
                        Some(c) => self.literal(c),
                        None => break,
                    }
                }
            }
            Some('b') => {
                self.next();
                self.out.push_str(r"(?-u:\b)");
            }
            Some('B') => {
                self.next();
                self.out.push_str(r"(?-u:\B)");
            }
            Some(c @ ('A' | 'z')) => {
                self.next();
                self.out.push('\\');
                self.out.push(c);
            }
            Some('C') => return Err("single bytes (\\C) cannot be matched".into()),
            _ => {
                if !self.escaped_class()? {
                    let c = self.escaped_char()?;
                    self.literal(c);
                }
            }
        }
        Ok(())
    }

    /// What follows a backslash anywhere, if it is a class.
    fn escaped_class(&mut self) -> Result<bool, String> {
        let class = match self.peek() {
            Some('d') => "[0-9]",
            Some('D') => "[^0-9]",
            Some('s') => r"[\t\n\f\r\x20]",
            Some('S') => r"[^\t\n\f\r\x20]",
            Some('w') => "[0-9A-Za-z_]",
            Some('W') => "[^0-9A-Za-z_]",
            Some(p @ ('p' | 'P')) => {
                self.next();
                return self.property(p == 'P').map(|()| true);
            }
            _ => return Ok(false),
        };
        self.next();
        self.out.push_str(class);
        Ok(true)
    }

    /// What follows `\p`.
    fn property(&mut self, mut negated: bool) -> Result<(), String> {
        let name = if self.take("{") {
            negated ^= self.take("^");
            let (name, rest) = self.rest.split_once('}').ok_or("the name of a Unicode class has no end")?;
            self.rest = rest;
            name
        } else {
            let end = self.peek().map_or(0, char::len_utf8);
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            name
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("there is no Unicode class {name:?}"));
        }
        self.out.push_str(if negated { "\\P{" } else { "\\p{" });
        self.out.push_str(name);
        self.out.push('}');
        Ok(())
    }

    /// What follows a backslash anywhere, as the one character that it stands for.
    fn escaped_char(&mut self) -> Result<char, String> {
        let c = self.next().ok_or("a backslash ends the pattern")?;
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => return self.hexadecimal(),
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => {
                return Err(format!("\\{c} refers to a group, which cannot be matched"));
            }
            '0'..='7' => {
                let mut code = c as u32 - '0' as u32;
                for _ in 0..2 {
                    match self.peek() {
                        Some(digit @ '0'..='7') => code = code * 8 + (digit as u32 - '0' as u32),
                        _ => break,
                    }
                    self.next();
                }
                return character(code);
            }
            c if c.is_ascii_punctuation() || c == ' ' || c.is_ascii_control() => c,
            c => return Err(format!("there is no escape \\{c}")),
        })
    }

    /// What follows `\x`.
    fn hexadecimal(&mut self) -> Result<char, String> {
        let digits = if self.take("{") {
            let (digits, rest) = self.rest.split_once('}').ok_or("\\x{ has no end")?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or("\\x needs two digits")?;
            self.rest = rest;
            digits
        };
        if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!("\\x needs digits, found {digits:?}"));
        }
        character(u32::from_str_radix(digits, 16).map_err(|e| format!("\\x{{{digits}}}: {e}"))?)
    }

    /// What follows `[`.
    fn class(&mut self) -> Result<(), String> {
        const NO_END: &str = "a class has no end";
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        // A `]` that comes first is itself.
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
                // The `regex` crate knows the same names, and would take others for characters.
                if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(format!("there is no class [:{name}:]"));
                }
                let _ = write!(self.out, "[:{name}:]");
                self.rest = rest;
                continue;
            }
            let low = match self.next().ok_or(NO_END)? {
                '\\' if self.escaped_class()? => continue,
                '\\' => self.escaped_char()?,
                c => c,
            };
            self.literal(low);
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
                self.next();
                let high = match self.next().ok_or(NO_END)? {
                    '\\' => self.escaped_char()?,
                    c => c,
                };
                self.out.push('-');
                self.literal(high);
            }
        }
        self.next();
        self.out.push(']');
        Ok(())
    }

    /// What follows `(`: a group, with a name or with flags.
    fn group(&mut self) -> Result<(), String> {
        if self.take("?)") {
            // No flags for nothing.
            return Ok(());
        }
        self.out.push('(');
        if !self.take("?") {
            return Ok(());
        }
        if self.take("P<") || self.take("<") {
            let (name, rest) = self.rest.split_once('>').ok_or("the name of a group has no end")?;
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(format!("a group cannot have the name {name:?}"));
            }
            // Nobody asks for what a group matches, so its name is not passed on.
            self.rest = rest;
            return Ok(());
        }
        self.out.push('?');
        let flags = self.rest.split([':', ')']).next().unwrap_or("");
        match flags.chars().find(|c| !"imsU-".contains(*c)) {
            Some(other) => Err(format!("there is no group (?{other}")),
            None => Ok(()),
        }
    }

    /// What follows `{`, if that begins a repetition.
    fn counted(&mut self) -> Result<bool, String> {
        let Some((inner, rest)) = self.rest.split_once('}') else { return Ok(false) };
        let (least, most) = inner.split_once(',').map_or((inner, None), |(least, most)| (least, Some(most)));
        let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
        if least.is_empty() || !digits(least) || !most.is_none_or(digits) {
            return Ok(false);
        }
        for number in [least, most.unwrap_or("")] {
            if !number.is_empty() && !number.parse().is_ok_and(|n: u32| n <= MOST_REPEATS) {
                return Err(format!("{number} repetitions were asked for, at most {MOST_REPEATS} can be"));
            }
        }
        self.out.push('{');
        self.out.push_str(inner);
        self.out.push('}');
        self.rest = rest;
        Ok(true)
    }
}

/// The names of POSIX's classes.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

fn character(code: u32) -> Result<char, String> {
    char::from_u32(code).ok_or_else(|| format!("there is no character {code:#x}"))
}
