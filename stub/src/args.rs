//! The command line.

use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is asked for.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) help: bool,
    pub(crate) info: bool,
    /// (input, file).
    pub(crate) inputs: Vec<(String, PathBuf)>,
    /// (dimension, extent).
    pub(crate) dims: Vec<(String, i64)>,
    pub(crate) output_dir: Option<PathBuf>,
    pub(crate) bench: Option<usize>,
    /// 0: one for each CPU.
    pub(crate) threads: usize,
}

/// Reads the command line.
pub(crate) fn parse() -> Result<Args, String> {
    read(lexopt::Parser::from_env())
}

fn read(mut parser: lexopt::Parser) -> Result<Args, String> {
    let mut args = Args { threads: 1, ..Args::default() };
    let fail = |e: lexopt::Error| e.to_string();
    while let Some(arg) = parser.next().map_err(fail)? {
        match arg {
            Short('h') | Long("help") => args.help = true,
            Long("info") => args.info = true,
            Short('i') | Long("input") => {
                let (name, file) = pair("--input", "FILE", parser.value().map_err(fail)?)?;
                args.inputs.push((name, file.into()));
            }
            Long("dim") => {
                let (name, extent) = pair("--dim", "N", parser.value().map_err(fail)?)?;
                args.dims.push((name, number("--dim", &extent)?));
            }
            Short('o') | Long("output-dir") => args.output_dir = Some(parser.value().map_err(fail)?.into()),
            Long("bench") => args.bench = Some(number("--bench", &text(parser.value().map_err(fail)?)?)?),
            Long("threads") => args.threads = number("--threads", &text(parser.value().map_err(fail)?)?)?,
            other => return Err(format!("{}; see --help", other.unexpected())),
        }
    }
    if args.bench == Some(0) {
        return Err("--bench: found 0 runs, expected at least 1".to_owned());
    }
    Ok(args)
}

fn text(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|v| format!("\"{}\" is not UTF-8", v.display()))
}

fn pair(option: &str, what: &str, value: OsString) -> Result<(String, String), String> {
    let value = text(value)?;
    match value.split_once('=') {
        Some((name, rest)) => Ok((name.to_owned(), rest.to_owned())),
        None => Err(format!("{option}: found \"{value}\", expected NAME={what}")),
    }
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option}: found \"{value}\", expected a number"))
}
