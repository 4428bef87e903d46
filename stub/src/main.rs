//! The program around a compiled model: reads tensors, runs the model, shows or writes its outputs.
//!
//! Exit codes: 0 fine, 2 the input was at fault, 70 our own bug. Errors are one line on stderr.
//!
//! It stands on Linux alone (`sys`). Nothing is read, copied or cleared before the first run but what
//! that needs: image and weights are where the system has mapped them.
#![no_std]
#![no_main]

extern crate alloc;

mod args;
mod locator;
mod show;
mod sys;

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use args::Args;
use burin_runtime::files::{self, npy, summary::Summary};
use burin_runtime::model::{Entry, Model, Port};
use burin_runtime::{Error, Image, Segment, Session, Tensor, TensorRef, abi, cpu, random};
use core::ffi::CStr;
use sys::{Errno, clock};

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

/// The whole program; answers its exit code.
fn run(words: &[&'static CStr]) -> u8 {
    match try_run(words) {
        Ok(()) => 0,
        Err(failure) => {
            sys::files::print_error(&format!("error: {}\n", failure.message));
            failure.code
        }
    }
}

fn try_run(words: &[&'static CStr]) -> Result<(), Failure> {
    let Some((image, weights)) = locator::model() else {
        let message = "this program holds no model: `burin build` puts one in".to_owned();
        return Err(Failure { code: OUR_BUG, message });
    };
    let (program, words) = words.split_first().unwrap_or((&c"", &[]));
    let args = args::parse(words)?;
    let model = load(image, weights, args.cpu.as_deref())?;
    let Some(entry) = model.entries().first() else {
        return Err(Failure { code: OUR_BUG, message: "the model has no entry".to_owned() });
    };
    if args.help {
        return print(&show::help(&model, entry, &program.to_string_lossy()));
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
    let mut outputs = session.call(0, &views, &given, None)?;
    if let Some(runs) = args.bench {
        return bench(&mut session, &views, &given, &mut outputs, runs);
    }
    show_outputs(entry, &outputs, &args)
}

/// The model, with the best code that this CPU can run, or that of the level that is asked for.
fn load(image: Segment, weights: Segment, level: Option<&str>) -> Result<Model, Failure> {
    let features = match level {
        None => u64::MAX,
        Some(wanted) => {
            let view = Image::parse((*image).as_ref()).map_err(Error::from)?;
            let level = |v: &abi::Variant| view.text(v.level);
            let named = |l: &str| l == wanted || cpu::short_level(l) == Some(wanted);
            let found = view.variants().find(|v| named(level(v))).ok_or_else(|| {
                let all: Vec<&str> = view.variants().map(|v| level(&v)).collect();
                format!("--cpu: found \"{wanted}\", expected one of the levels: {}", all.join(", "))
            })?;
            let missing = found.cpu_features & !cpu::host_features();
            if missing != 0 {
                let missing = cpu::feature_names(missing);
                return Err(format!("--cpu: this CPU lacks {missing}, which {wanted} needs").into());
            }
            found.cpu_features
        }
    };
    // SAFETY: both are what Burin's compiler made, and never change; the image is executable.
    Ok(unsafe { Model::within(features, image, weights) }?)
}

fn session(model: &Model, args: &Args) -> Result<Session, Failure> {
    let session = Session::new(model)?;
    if args.threads == 1 {
        return Ok(session);
    }
    let team = sys::threads::team(args.threads);
    let team = team.map_err(|e| format!("cannot start {} threads: {e}", args.threads))?;
    Ok(session.with_executor(team))
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
        sys::files::print_error(&format!("no --input: running on random tensors (seed {SEED})\n"));
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
        read(file, &p.name).map_err(|e| format!("{file}: {e}").into())
    };
    entry.inputs.iter().enumerate().map(tensor).collect()
}

/// The tensor in a file, of the kind that its extension says.
fn read(path: &str, name: &str) -> Result<Tensor, String> {
    let place = CString::new(path).map_err(|e| e.to_string())?;
    let bytes = sys::files::read(&place).map_err(|e| e.to_string())?;
    let file = path.rsplit('/').next().unwrap_or(path);
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    files::parse(extension, &bytes, name)
}

fn show_outputs(entry: &Entry, outputs: &[Tensor], args: &Args) -> Result<(), Failure> {
    let mut text = String::new();
    if let Some(dir) = &args.output_dir {
        make_folders(dir)?;
    }
    for (port, t) in entry.outputs.iter().zip(outputs) {
        match &args.output_dir {
            Some(dir) => {
                let path = below(dir, &format!("{}.npy", file_name(&port.name)));
                let parts = [&npy::header(t.view())[..], &npy::contents(t.view())];
                sys::files::write(&path, &parts).map_err(|e| of(&path, e))?;
                text.push_str(&format!("{}: {}\n", port.name, path.to_string_lossy()));
            }
            None => text.push_str(&format!("{}: {}\n", port.name, Summary::from(t))),
        }
    }
    print(&text)
}

/// Makes a folder and those that it lies in.
fn make_folders(path: &CStr) -> Result<(), Failure> {
    let bytes = path.to_bytes();
    let ends = bytes.iter().enumerate().filter(|(i, b)| *i > 0 && **b == b'/').map(|(i, _)| i);
    for end in ends.chain([bytes.len()]) {
        let folder = CString::new(&bytes[..end]).map_err(|e| e.to_string())?;
        sys::files::make_folder(&folder).map_err(|e| of(&folder, e))?;
    }
    Ok(())
}

/// The path of a file in a folder.
fn below(dir: &CStr, file: &str) -> CString {
    let mut path = dir.to_bytes().to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend(file.bytes().filter(|b| *b != 0));
    CString::new(path).unwrap_or_default()
}

fn of(path: &CStr, e: Errno) -> Failure {
    format!("{}: {e}", path.to_string_lossy()).into()
}

/// A name as a file's: what separates folders becomes `_`.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '/' | '\\' | ':' | '\0') { '_' } else { c }).collect()
}

fn bench(
    session: &mut Session,
    inputs: &[TensorRef<'_>],
    given: &[(&str, i64)],
    outputs: &mut Vec<Tensor>,
    runs: usize,
) -> Result<(), Failure> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = clock::now();
        session.call_into(0, inputs, given, None, outputs)?;
        times.push((clock::now() - start) as f64 / 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |fraction: f64| times[((runs - 1) as f64 * fraction + 0.5) as usize];
    print(&format!("{runs} runs: median {:.4} ms  min {:.4} ms  p95 {:.4} ms\n", at(0.5), at(0.0), at(0.95)))
}

/// Prints to stdout. A reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match sys::files::print(text) {
        Ok(()) | Err(Errno::BROKEN_PIPE) => Ok(()),
        Err(e) => Err(format!("cannot write to standard output: {e}").into()),
    }
}
