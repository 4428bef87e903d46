//! The command line.

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::str::FromStr;

/// What is asked for.
pub(crate) struct Args {
    pub(crate) help: bool,
    pub(crate) info: bool,
    /// (input, file).
    pub(crate) inputs: Vec<(String, String)>,
    /// (dimension, extent).
    pub(crate) dims: Vec<(String, i64)>,
    /// Need not be UTF-8.
    pub(crate) output_dir: Option<CString>,
    pub(crate) bench: Option<usize>,
    /// A CPU level's name.
    pub(crate) cpu: Option<String>,
    /// 0: one for each CPU.
    pub(crate) threads: usize,
}

/// Options of one letter, with their names.
const LETTERS: [(u8, &str); 3] = [(b'h', "--help"), (b'i', "--input"), (b'o', "--output-dir")];

/// Reads the command line, the program's name apart.
pub(crate) fn parse(words: &[&'static CStr]) -> Result<Args, String> {
    let mut args = Args {
        help: false,
        info: false,
        inputs: Vec::new(),
        dims: Vec::new(),
        output_dir: None,
        bench: None,
        cpu: None,
        threads: 1,
    };
    let mut words = Words { rest: words, attached: None, option: String::new() };
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix(b"--").filter(|l| !l.is_empty()) {
            let equals = long.iter().position(|b| *b == b'=').unwrap_or(long.len());
            words.attached = long.get(equals + 1..);
            words.option = shown(&word[..equals + 2]);
            args.option(&mut words)?;
            if let Some(value) = words.attached {
                return Err(format!("{}: found the value {:?}, expected none", words.option, shown(value)));
            }
        } else if let Some(letters) = word.strip_prefix(b"-").filter(|l| !l.is_empty() && **l != *b"-") {
            words.attached = Some(letters);
            while let Some([letter, rest @ ..]) = words.attached {
                let value = rest.strip_prefix(b"=").unwrap_or(rest);
                words.attached = Some(value).filter(|v| !v.is_empty());
                let known = LETTERS.iter().find(|(l, _)| l == letter);
                words.option = known.map_or_else(|| format!("-{}", *letter as char), |k| k.1.to_owned());
                args.option(&mut words)?;
            }
        } else {
            return Err(format!("unexpected argument {:?}; see --help", shown(word)));
        }
    }
    if args.bench == Some(0) {
        return Err("--bench: found 0 runs, expected at least 1".to_owned());
    }
    Ok(args)
}

impl Args {
    fn option(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        match &*words.option {
            "--help" => self.help = true,
            "--info" => self.info = true,
            "--input" => self.inputs.push(words.pair("FILE")?),
            "--dim" => {
                let (name, extent) = words.pair("N")?;
                self.dims.push((name, number("--dim", &extent)?));
            }
            "--output-dir" => self.output_dir = CString::new(words.value()?).ok(),
            "--bench" => self.bench = Some(number("--bench", &words.text()?)?),
            "--cpu" => self.cpu = Some(words.text()?),
            "--threads" => self.threads = number("--threads", &words.text()?)?,
            other => return Err(format!("invalid option \"{other}\"; see --help")),
        }
        Ok(())
    }
}

/// The words that are left, and the option that is being read.
struct Words<'a> {
    rest: &'a [&'static CStr],
    /// What follows the option in its own word.
    attached: Option<&'static [u8]>,
    option: String,
}

impl Words<'_> {
    fn next(&mut self) -> Option<&'static [u8]> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first.to_bytes())
    }

    /// The option's value: the rest of its word, or the next word.
    fn value(&mut self) -> Result<&'static [u8], String> {
        let value = self.attached.take().or_else(|| self.next());
        value.ok_or_else(|| format!("{}: expected a value; see --help", self.option))
    }

    fn text(&mut self) -> Result<String, String> {
        let value = self.value()?;
        let text = core::str::from_utf8(value).map_err(|_| format!("\"{}\" is not UTF-8", shown(value)))?;
        Ok(text.to_owned())
    }

    fn pair(&mut self, what: &str) -> Result<(String, String), String> {
        let value = self.text()?;
        match value.split_once('=') {
            Some((name, rest)) => Ok((name.to_owned(), rest.to_owned())),
            None => Err(format!("{}: found \"{value}\", expected NAME={what}", self.option)),
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_string()
}

fn number<T: FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option}: found \"{value}\", expected a number"))
}
