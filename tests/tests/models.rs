//! Whole models, from outside the repository: compiled code gives what is recorded, in this process
//! and from a file, the same bits with one thread and with two, and to two callers at once.

use burin_compiler::artifact::bundle;
use burin_ir::Tensor;
use burin_ir::graph::eval::eval;
use burin_runtime::{Model, Pool, Session, load};
use burin_tests::cases::{self, Recorded};
use burin_tests::native;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What a model's data sets give in a session.
fn outputs(recorded: &Recorded, mut session: Session) -> Result<Vec<Vec<Tensor>>, String> {
    recorded.data.iter().map(|set| native::run(&mut session, &set.inputs)).collect()
}

fn session(model: &Model) -> Result<Session, String> {
    Session::new(model).map_err(|e| e.to_string())
}

fn same(found: &[Vec<Tensor>], expected: &[Vec<Tensor>], what: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} gives other bits")) }
}

/// Everything that must hold of a compiled model.
fn check_compiled(recorded: &Recorded, folder: &Path) -> Result<(), String> {
    let target = native::levels().pop().ok_or("this machine runs no level")?;
    let start = Instant::now();
    let compiled = native::compile(&recorded.graph, &target)?;
    let model = compiled.load().map_err(|e| e.to_string())?;
    let compiling = start.elapsed();

    let mut alone = session(&model)?;
    let start = Instant::now();
    recorded.check(|inputs| native::run(&mut alone, inputs))?;
    println!("{}: compiled in {compiling:.1?}, ran in {:.1?}", folder.display(), start.elapsed());
    let expected = outputs(recorded, session(&model)?)?;

    let pool = Arc::new(Pool::new(2).map_err(|e| e.to_string())?);
    let found = outputs(recorded, session(&model)?.with_executor(pool))?;
    same(&found, &expected, "the model on two threads")?;

    let both = std::thread::scope(|scope| {
        let call = || session(&model).and_then(|s| outputs(recorded, s));
        let calls = [scope.spawn(call), scope.spawn(call)];
        calls.map(|c| c.join().unwrap_or_else(|_| Err("a caller panics".into())))
    });
    for found in both {
        same(&found?, &expected, "one of two calls at once")?;
    }

    let temporary = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = temporary.path().join("model.bundle");
    bundle::write(&compiled.artifact(), &file).map_err(|e| e.to_string())?;
    // SAFETY: the compiler has just written the file, and nothing else knows of it.
    let model = unsafe { load::load(&file) }.map_err(|e| e.to_string())?;
    same(&outputs(recorded, session(&model)?)?, &expected, "the model from a file")
}

fn check(folder: &Path, evaluated: bool) {
    let checked = Recorded::read(folder).and_then(|recorded| {
        if evaluated {
            let start = Instant::now();
            recorded.check(|inputs| {
                eval(&recorded.graph, inputs, &[]).map(|found| found.outputs).map_err(|e| e.to_string())
            })?;
            println!("{}: evaluated in {:.1?}", folder.display(), start.elapsed());
        }
        check_compiled(&recorded, folder)
    });
    checked.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
}

/// Trained models; the importer's tests evaluate them.
#[test]
fn real_models() {
    for name in ["mnist", "yolox-nano", "magika", "tinystories-260k", "kws-int8-qdq", "forest-iris"] {
        if let Some(folder) = cases::shared("models").map(|m| m.join(name)) {
            check(&folder, false);
        }
    }
}

/// Whole networks of the suite. The evaluator takes those that it is done with in seconds.
#[test]
fn light_models() {
    let Some(folder) = cases::suite("light") else { return };
    let all = cases::in_folder(&folder);
    assert_eq!(all.len(), 9, "networks in {}", folder.display());
    for (name, case) in all {
        check(&case, ["light_shufflenet", "light_squeezenet"].contains(&&name[..]));
    }
}
