//! `burin run`: runs a model once, on tensors from files or on random ones.

use crate::backend::{Backend, Runner};
use crate::failure::Failure;
use crate::inputs::{Inputs, SEED, deliver};
use crate::model;
use crate::terminal::Progress;
use std::path::PathBuf;

/// Run a model on tensors from files, or on random ones
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX file, or a graph in text form
    model: PathBuf,
    /// Compiled code, or the evaluator
    #[arg(long, default_value = "jit")]
    backend: Backend,
    /// A tensor for an input: .npy, .npz or ONNX .pb (repeat for each input)
    #[arg(short, long = "input", value_name = "NAME=FILE", value_parser = model::parse_input)]
    inputs: Vec<(String, PathBuf)>,
    /// Write the outputs to this folder as .npy instead of showing their statistics
    #[arg(short, long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Threads; 0: one for each CPU
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seed of random inputs
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Size of a dimension of random inputs (1 where none is given)
    #[arg(long = "dim", value_name = "NAME=N", value_parser = model::parse_dim)]
    dims: Vec<(String, i64)>,
    #[command(flatten)]
    stated: model::Stated,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let graph = model::load(&args.model, &[], &args.stated)?;
    let inputs = Inputs::new(&graph, &args.inputs, &args.dims, args.seed)?;
    let names = graph.output_names.clone();
    if inputs.random {
        eprintln!("{}", inputs.note(&graph, args.seed));
    }
    let of_model = |e: Failure| e.of(args.model.display());
    let progress = Progress::start("compiling");
    let mut runner = Runner::new(graph, args.backend, args.threads).map_err(of_model)?;
    progress.stage("running");
    let outputs = runner.run(&inputs.tensors, &inputs.dims, None).map_err(of_model)?;
    drop(progress);
    let outputs: Vec<_> = names.into_iter().zip(outputs).collect();
    deliver(&outputs, args.output_dir.as_deref())
}
