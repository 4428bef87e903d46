//! `burin build`: compiles a model to a file.
//!
//! The file appears under its name only when it is complete; on failure nothing is left behind.

use crate::backend::fuel;
use crate::failure::Failure;
use crate::model;
use crate::table::facts;
use crate::terminal::{self, Progress, bytes, duration};
use burin::stub;
use burin_compiler::artifact::object::Kind;
use burin_compiler::artifact::{exe, header, object, sharedlib};
use burin_compiler::driver::{self, Compiled};
use burin_compiler::memory::TYPICAL_DIM;
use burin_compiler::target::native::levels::TargetSpec;
use burin_runtime::abi::arch;
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Compile a model to an executable, an object file or a library
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX file, or a graph in text form
    model: PathBuf,
    /// The file to write
    #[arg(short, long)]
    out: PathBuf,
    /// What to write; beside all but an executable goes a C header
    #[arg(long, default_value = "exe")]
    emit: Emit,
    /// The machine and system to compile for, such as aarch64-unknown-linux-gnu [default: this one]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// The CPU level: x86-64 (v1), x86-64-v2 (v2), x86-64-v3 (v3), x86-64-v4 (v4), native; or several,
    /// such as v3,v4, of which the best one is taken where the model is loaded [default: x86-64-v3 on
    /// x86-64]
    #[arg(long, value_name = "LEVEL,..")]
    cpu: Option<String>,
    /// Give a symbolic dimension of the inputs a fixed size
    #[arg(long = "dim", value_name = "NAME=N", value_parser = model::parse_dim)]
    dims: Vec<(String, i64)>,
    #[command(flatten)]
    stated: model::Stated,
}

/// What a build makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Emit {
    /// A program that runs on its own
    Exe,
    /// An object file to link
    Obj,
    /// An archive with the object file
    Staticlib,
    /// A shared library
    Sharedlib,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    let targets = TargetSpec::list(args.target.as_deref(), args.cpu.as_deref())?;
    targets.iter().try_for_each(|target| refuse_early(args, target))?;
    let of_model = |e: Failure| e.of(args.model.display());
    let progress = Progress::start("reading the model");
    let mut graph = model::load(&args.model, &args.dims, &args.stated)?;
    let nodes = graph.regions[graph.body].nodes.len();
    graph.name = model::title(&args.model);
    progress.stage("optimising");
    let compiled = driver::compile_levels(graph, &targets, fuel()?, &mut |pass, _| {
        progress.stage(format!("optimising: {pass}"))
    })
    .map_err(|e| of_model(e.into()))?;
    progress.stage(format!("writing {} of weights", bytes(compiled.program.weight_bytes)));
    let header = write(args, &compiled)?;
    drop(progress);
    let size = std::fs::metadata(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?.len();
    summary(args, &compiled, nodes, size, header.as_deref(), start.elapsed().as_secs_f64())
}

/// What can be said before anything is compiled.
fn refuse_early(args: &Args, target: &TargetSpec) -> Result<(), Failure> {
    let linux = target.triple.operating_system == target_lexicon::OperatingSystem::Linux;
    if args.emit == Emit::Exe && (target.arch != arch::X86_64 || !linux) {
        return Err(format!(
            "no executable can be made for {}: found --emit exe, which needs x86_64-unknown-linux-gnu; \
             use --emit obj or staticlib and link the model into a program",
            target.triple
        )
        .into());
    }
    if args.emit == Emit::Exe && stub::bytes().is_none() {
        return Err("this burin was built on a system where it cannot make executables; \
                    use --emit obj, staticlib or sharedlib"
            .to_owned()
            .into());
    }
    let folder = args.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if args.out.file_name().is_none() || (args.out.exists() && !args.out.is_file()) {
        let message = format!("--out: {} is no regular file, expected a file's name", args.out.display());
        return Err(message.into());
    }
    if !folder.is_dir() {
        return Err(format!("--out: there is no folder {}", folder.display()).into());
    }
    if same_file(&args.model, &args.out) {
        return Err(format!("--out: {} is the model itself", args.out.display()).into());
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Writes the artifact, and the header where there is one, whose path it answers.
fn write(args: &Args, compiled: &Compiled) -> Result<Option<PathBuf>, Failure> {
    let (artifact, triple, out) = (compiled.artifact(), &compiled.target.triple, &args.out);
    match args.emit {
        Emit::Exe => {
            let stub = stub::bytes().ok_or_else(|| Failure::Bug("the stub has gone".into()))?;
            exe::write(&artifact, stub, out)?;
            return Ok(None);
        }
        Emit::Obj => object::write(&artifact, triple, Kind::Object, out)?,
        Emit::Staticlib => object::write(&artifact, triple, Kind::Archive, out)?,
        Emit::Sharedlib => sharedlib::write(&artifact, triple, out)?,
    }
    let path = out.with_extension("h");
    if let Err(e) = header::write(&artifact, &path) {
        // The failure that is reported is the first one.
        let _ = std::fs::remove_file(out);
        return Err(e.into());
    }
    Ok(Some(path))
}

fn summary(
    args: &Args,
    compiled: &Compiled,
    nodes: usize,
    size: u64,
    header: Option<&Path>,
    seconds: f64,
) -> Result<(), Failure> {
    let p = &compiled.program;
    let at: String = p.dims.iter().map(|d| format!(" at {d}={TYPICAL_DIM}")).collect();
    let arena = format!("{}{at}", bytes(compiled.report.arena.0.max(0) as u64));
    let port = |p: &burin_compiler::program::Port| format!("{}: {}", p.name, p.ty);
    let ports = |all: &[burin_compiler::program::Port]| all.iter().map(port).collect::<Vec<_>>().join(", ");
    let kernels = format!("{nodes} nodes -> {} kernel calls of {} kernels", p.calls.len(), p.kernels.len());
    let mut rows = vec![
        ("model", p.name.clone()),
        ("inputs", ports(&p.inputs)),
        ("outputs", ports(&p.outputs)),
        ("kernels", kernels),
        ("arena", arena),
        ("weights", bytes(p.weight_bytes)),
        ("code", bytes(compiled.code.text.len() as u64)),
        ("target", format!("{}, CPU level {}", compiled.target.triple, compiled.levels().join(" and "))),
    ];
    if let Some(h) = header {
        rows.push(("header", h.display().to_string()));
    }
    let line = format!("{} ({}) in {}\n", args.out.display(), bytes(size), duration(seconds));
    terminal::print(&format!("{line}{}", facts(&rows)))
}
