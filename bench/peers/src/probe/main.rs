//! What this machine can do at most, and what starting a program costs; one JSON object as answer.
//!
//! It is a program of its own, and small: the peak memory that the system counts for a child process
//! is never below that of the process that started it.

mod copy;
mod fma;
mod launch;
mod touch;

use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: probe fma THREADS SECONDS
       probe copy THREADS SECONDS
       probe touch ARTIFACT ARENA_BYTES TIMES
       probe launch TIMES PROGRAM [ARGUMENT...]";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match answer(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn answer(args: &[&str]) -> Result<Value> {
    match args {
        ["fma", threads, seconds] => fma::peak(threads.parse()?, duration(seconds)?),
        ["copy", threads, seconds] => copy::bandwidth(threads.parse()?, duration(seconds)?),
        ["touch", artifact, arena, times] => touch::time(artifact.as_ref(), arena.parse()?, times.parse()?),
        ["launch", times, program, rest @ ..] => launch::times(times.parse()?, program, rest),
        _ => Err(USAGE.into()),
    }
}

fn duration(seconds: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(seconds.parse()?)?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The sum over that many threads, which start together, of what each measures.
fn together(threads: usize, measure: impl Fn() -> f64 + Sync) -> f64 {
    let barrier = std::sync::Barrier::new(threads);
    std::thread::scope(|s| {
        let work = || {
            barrier.wait();
            measure()
        };
        let running: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        running.into_iter().map(|t| t.join().unwrap_or(f64::NAN)).sum()
    })
}
