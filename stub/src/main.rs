//! The program around a compiled model: reads tensors, runs the model, shows or writes its outputs.
//!
//! Exit codes: 0 fine, 2 the input was at fault, 70 our own bug. Errors are one line on stderr.

mod args;
mod locator;
mod show;

use args::Args;
use burin_runtime::files::{self, summary::Summary};
use burin_runtime::model::{Entry, Model, Port};
use burin_runtime::{Error, Pool, Session, Tensor, TensorRef, random};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const BAD_INPUT: u8 = 2;
const OUR_BUG: u8 = 70;
/// Seeds of random inputs count up from here.
const SEED: u64 = 1;

struct Failure {
    code: u8,
    message: String,
}

/// Messages without a kind of their own say what is wrong with the command line.
impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { code: BAD_INPUT, message }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure { code: BAD_INPUT, message: e.to_string() }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run() -> Result<(), Failure> {
    let Some(model) = locator::model() else {
        let message = "this program holds no model: `burin build` puts one in".to_owned();
        return Err(Failure { code: OUR_BUG, message });
    };
    let model = model?;
    let args = args::parse()?;
    let Some(entry) = model.entries().first() else {
        return Err(Failure { code: OUR_BUG, message: "the model has no entry".to_owned() });
    };
    if args.help {
        let program = std::env::args().next().unwrap_or_else(|| model.name().to_owned());
        return print(&show::help(&model, entry, &program));
    }
    if args.info {
        let mut text = show::info(&model, entry);
        if !args.dims.is_empty() {
            let needs = session(&model, &args)?.plan(0, &dims(entry, &args)?)?;
            text.push_str(&format!("with --dim {} bytes of arena\n", needs.arena_bytes));
        }
        return print(&text);
    }
    let inputs = inputs(entry, &args)?;
    let views: Vec<TensorRef<'_>> = inputs.iter().map(Tensor::view).collect();
    // A dimension that inputs give must agree with the command line; the session checks.
    let given: Vec<(&str, i64)> = args.dims.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let mut session = session(&model, &args)?;
    let outputs = session.call(0, &views, &given, None)?;
    if let Some(runs) = args.bench {
        return bench(&mut session, &views, &given, runs);
    }
    show_outputs(entry, &outputs, &args)
}

fn session(model: &Model, args: &Args) -> Result<Session, Failure> {
    let session = Session::new(model)?;
    if args.threads == 1 {
        return Ok(session);
    }
    let pool = Pool::new(args.threads).map_err(|e| format!("cannot start {} threads: {e}", args.threads))?;
    Ok(session.with_executor(Arc::new(pool)))
}

/// The dimensions that the command line gives, 1 where it does not.
fn dims(entry: &Entry, args: &Args) -> Result<Vec<i64>, Failure> {
    if let Some((name, _)) = args.dims.iter().find(|(name, _)| !entry.dims.contains(name)) {
        let all = if entry.dims.is_empty() { "none".to_owned() } else { entry.dims.join(", ") };
        return Err(format!("--dim: found \"{name}\", expected one of the dimensions: {all}").into());
    }
    if let Some((name, n)) = args.dims.iter().find(|(_, n)| *n < 0) {
        return Err(format!("--dim: \"{name}\" is {n}, expected 0 or more").into());
    }
    let given = |d: &String| args.dims.iter().rev().find(|(name, _)| name == d).map_or(1, |(_, n)| *n);
    Ok(entry.dims.iter().map(given).collect())
}

fn inputs(entry: &Entry, args: &Args) -> Result<Vec<Tensor>, Failure> {
    let dims = dims(entry, args)?;
    let names = || entry.inputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    let known = |name: &str| entry.inputs.iter().any(|p| p.name == name);
    if let Some((name, _)) = args.inputs.iter().find(|(name, _)| !known(name)) {
        return Err(format!("--input: found \"{name}\", expected one of the inputs: {}", names()).into());
    }
    if args.inputs.is_empty() && !entry.inputs.is_empty() {
        eprintln!("no --input: running on random tensors (seed {SEED})");
    }
    let tensor = |(i, p): (usize, &Port)| -> Result<Tensor, Failure> {
        if args.inputs.is_empty() {
            let shape = p.shape_with(&dims).ok_or_else(|| {
                format!("input \"{}\" has the shape {p}, for which no random tensor can be made", p.name)
            })?;
            return Ok(random::tensor(p.dtype, &shape, SEED + i as u64)?);
        }
        let file = args.inputs.iter().rev().find(|(name, _)| *name == p.name);
        let (_, file) = file.ok_or_else(|| format!("input \"{}\" ({p}) is missing: give --input", p.name))?;
        Ok(files::read(file, &p.name)?)
    };
    entry.inputs.iter().enumerate().map(tensor).collect()
}

fn show_outputs(entry: &Entry, outputs: &[Tensor], args: &Args) -> Result<(), Failure> {
    let mut text = String::new();
    if let Some(dir) = &args.output_dir {
        std::fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
    }
    for (port, t) in entry.outputs.iter().zip(outputs) {
        match &args.output_dir {
            Some(dir) => {
                let path = dir.join(format!("{}.npy", file_name(&port.name)));
                files::npy::write_file(&path, t.view())?;
                text.push_str(&format!("{}: {}\n", port.name, path.display()));
            }
            None => text.push_str(&format!("{}: {}\n", port.name, Summary::from(t))),
        }
    }
    print(&text)
}

/// A name as a file's: what separates folders becomes `_`.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '/' | '\\' | ':' | '\0') { '_' } else { c }).collect()
}

fn bench(
    session: &mut Session,
    inputs: &[TensorRef<'_>],
    given: &[(&str, i64)],
    runs: usize,
) -> Result<(), Failure> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        session.call(0, inputs, given, None)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |fraction: f64| times[((runs - 1) as f64 * fraction).round() as usize];
    print(&format!("{runs} runs: median {:.4} ms  min {:.4} ms  p95 {:.4} ms\n", at(0.5), at(0.0), at(0.95)))
}

/// Prints to stdout. A reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {e}").into())
        }
        _ => Ok(()),
    }
}
