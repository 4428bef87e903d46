//! Runs one model in one system, as its driver asks, one JSON object a line.
//!
//! The first line on standard input is a [`Job`]; the answer says that the model is loaded. Then come
//! [`Command`]s, each with its answer. What fails is answered with `{"error": ..}`, and ends the program.

mod systems;

use burin_runtime::{Tensor, files};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{Lines, StdinLock};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use systems::System;

/// What to load.
#[derive(Deserialize)]
struct Job {
    system: String,
    /// An ONNX file; for Burin, a file that it built.
    model: PathBuf,
    threads: usize,
    /// The shared library of a system that is not compiled in.
    library: Option<PathBuf>,
    /// Names and `.npy` files, in the model's order.
    inputs: Vec<(String, PathBuf)>,
    /// Names, in the model's order.
    outputs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    /// The median of the runs in so many seconds.
    Measure(f64),
    /// Writes the outputs of one run into these files.
    Save(Vec<PathBuf>),
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match serve(std::io::stdin().lines()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("{}", json!({ "error": e.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn serve(mut lines: Lines<StdinLock<'static>>) -> Result<()> {
    let Some(first) = lines.next() else { return Ok(()) };
    let job: Job = serde_json::from_str(&first?)?;
    let read =
        |(name, path): &(String, PathBuf)| Ok(Input { name: name.clone(), tensor: files::read(path, name)? });
    let inputs: Vec<Input> = job.inputs.iter().map(read).collect::<Result<_>>()?;
    let start = Instant::now();
    let mut system = systems::load(&job, inputs)?;
    // The first run is part of getting ready: some systems pack weights in it.
    system.run()?;
    let mut ready = json!({ "ready_ms": milliseconds(start.elapsed()) });
    for (name, value) in system.facts() {
        ready[name] = value.into();
    }
    println!("{ready}");
    for line in lines {
        let answer = match serde_json::from_str(&line?)? {
            Command::Measure(seconds) => measure(&mut *system, seconds)?,
            Command::Save(paths) => save(&mut *system, &paths)?,
        };
        println!("{answer}");
    }
    Ok(())
}

/// A named tensor that goes in.
struct Input {
    name: String,
    tensor: Tensor,
}

fn measure(system: &mut dyn System, seconds: f64) -> Result<Value> {
    // A tenth of the time warms up caches, clocks and sleeping threads.
    let begin = Instant::now();
    system.run()?;
    while begin.elapsed().as_secs_f64() < seconds / 10.0 {
        system.run()?;
    }
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        system.run()?;
        times.push(milliseconds(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({ "median_ms": times[times.len() / 2], "min_ms": times[0], "runs": times.len() }))
}

fn save(system: &mut dyn System, paths: &[PathBuf]) -> Result<Value> {
    system.run()?;
    for (i, path) in paths.iter().enumerate() {
        write(path, &system.output(i)?)?;
    }
    Ok(json!({ "saved": paths.len() }))
}

fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    Ok(files::npy::write_file(path, tensor.view())?)
}

fn milliseconds(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
