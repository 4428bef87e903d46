//! The program `burin`: reads the command line, runs a command, and answers with an exit code.
//!
//! Exit codes: 0 fine; 1 the model's answer was wrong (`verify`, `diff`); 2 the input was at fault,
//! with one message that says what is wrong; 70 a mistake of our own. Whatever panics is a mistake
//! of our own, and the message asks for a report.

mod backend;
mod commands;
mod failure;
mod inputs;
mod kernels;
mod model;
mod peaks;
mod statistics;
mod table;
mod terminal;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Graphs nest, and so do the walks over them: this is enough for any file that is accepted.
const STACK_BYTES: usize = 256 << 20;

/// Compiles machine-learning models to native code that needs no framework.
#[derive(Parser)]
#[command(name = "burin", version, arg_required_else_help = true, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show what the compiler does on stderr (BURIN_LOG filters it).
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Leave a pass out, such as "winograd" (which trades exactness for speed).
    #[arg(long, global = true, value_name = "PASS")]
    without: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    Build(commands::build::Args),
    Run(commands::run::Args),
    Bench(commands::bench::Args),
    Inspect(commands::inspect::Args),
    Diff(commands::diff::Args),
    Verify(commands::verify::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    failure::announce_panics();
    let main = std::thread::Builder::new().name("main".into()).stack_size(STACK_BYTES);
    match main
        .spawn(|| backend::leave_out(cli.without).and_then(|()| run(cli.command)))
        .map(|thread| thread.join())
    {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(failure))) => failure.report(),
        Ok(Err(_panic)) => ExitCode::from(failure::OUR_BUG),
        Err(e) => Failure::Input(format!("cannot start a thread: {e}")).report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Build(args) => commands::build::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
    }
}

fn log_to_stderr(verbose: bool) {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let stated = std::env::var("BURIN_LOG").ok().and_then(|f| f.parse().ok());
    let filter = stated.unwrap_or_else(|| Targets::new().with_default(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false).without_time();
    tracing_subscriber::registry().with(lines).with(filter).init();
}
