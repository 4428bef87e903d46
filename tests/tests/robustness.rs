//! Feeds damaged texts to the parsers and damaged models to the importer and, where it takes one, to the
//! compiler: they answer or refuse; they never panic, hang, or take memory beyond a bound.
//!
//! Cases are seeded. Each test runs for as long as [`SECONDS`] at most, or `BURIN_FUZZ_SECONDS=N` for
//! just so long, from the seed `BURIN_FUZZ_SEED=S` on. A failure names its seed; where the process
//! itself dies, `BURIN_FUZZ_SHOW=1` names each seed before it runs. `BURIN_FUZZ_KEEP=FILE` writes each model
//! there before it is read.

use burin_compiler::import::onnx::proto::TypeValue;
use burin_compiler::import::onnx::{self, Model, Options};
use burin_ir::graph::{self, sample::Sample};
use burin_ir::loops;
use burin_ir::random::Random;
use burin_tests::memory::Counting;
use burin_tests::{cases, damage, native};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: Counting = Counting::new();

/// Memory is counted for the whole process, so that one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// For how long a test runs that is not asked for more.
const SECONDS: u64 = 12;
/// How many cases it runs at most, not asked for more.
const CASES: u64 = 3000;
/// How long one case may take, on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(30);
/// How many bytes one case may hold beside what it is made from. (Whatever may be folded is below a
/// MiB, and code is in the tens of KiB.)
const MOST: usize = 256 << 20;
/// The stack of a thread of Rust's library, as those are in which a library's user calls.
const STACK: usize = 2 << 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How the cases of a test came out.
#[derive(Default)]
struct Counts {
    taken: u64,
    refused: u64,
}

/// Runs cases, each from a seed of its own, and panics at the first that panics, hangs or takes too much
/// memory. A case says whether what it fed was taken.
fn run_cases(name: &str, case: impl Fn(&mut Random) -> bool + Send + 'static) -> Counts {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let asked = number("BURIN_FUZZ_SECONDS");
    let first = number("BURIN_FUZZ_SEED").unwrap_or(20);
    let cases = if asked.is_some() { u64::MAX } else { CASES };
    let end = Instant::now() + Duration::from_secs(asked.unwrap_or(SECONDS));
    let show = std::env::var_os("BURIN_FUZZ_SHOW").is_some();
    let (send, receive) = mpsc::channel();
    let (allow, allowed) = mpsc::channel();
    let worker = move || {
        // The seed comes over the channel, so that who waits knows it.
        for seed in allowed {
            if show {
                println!("seed {seed}");
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Random::new(seed))));
            if send.send(outcome.map_err(|_| "it panics, see above")).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(worker).expect("a thread");
    let mut counts = Counts::default();
    for seed in (first..).take(cases as usize) {
        if Instant::now() >= end {
            break;
        }
        let held = MEMORY.start();
        allow.send(seed).expect("the worker waits");
        let fail = |what: &str| panic!("{name}, seed {seed}: {what}");
        match receive.recv_timeout(LIMIT) {
            Ok(Ok(true)) => counts.taken += 1,
            Ok(Ok(false)) => counts.refused += 1,
            Ok(Err(e)) => fail(e),
            Err(_) => fail(&format!("it is not done after {LIMIT:?}")),
        }
        let most = MEMORY.most().saturating_sub(held);
        if most > MOST {
            fail(&format!("it held {} MiB, expected at most {}", most >> 20, MOST >> 20));
        }
    }
    println!("{name}: {} taken, {} refused", counts.taken, counts.refused);
    counts
}

/// The texts that are damaged: every program of the file tests that parses, and a sample.
fn texts() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
    let sample = "Gemm(f32[3, 4] in -1.0..1.0, f32[4, 5], _) {alpha = 0.5} -> 1";
    let mut out = Vec::new();
    for language in ["graph", "loops"] {
        for entry in std::fs::read_dir(folder.join(language)).expect("a folder of file tests") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file test");
            // Whole programs: what stands between the rules.
            out.extend(
                text.split("----\n").map(|case| case.split("====\n").next().unwrap_or(case).to_owned()),
            );
        }
    }
    out.retain(|text| graph::parse(text).is_ok() || loops::parse(text).is_ok());
    assert!(out.len() > 5, "found {} programs only", out.len());
    out.push(sample.to_owned());
    out
}

/// Whether one of the parsers takes a text.
fn read_text(text: &str) -> bool {
    let _ = Sample::parse(text).map(|s| s.graph());
    if let Ok(g) = graph::parse(text) {
        // What the parser takes is well-formed, and prints.
        assert_eq!(graph::verify(&g), Ok(()), "{text}");
        assert!(g.to_string().starts_with("graph"));
        return true;
    }
    let Ok(k) = loops::parse(text) else { return false };
    let _ = loops::verify(&k);
    assert_eq!(loops::parse(&k.to_string()).map(|k| k.to_string()), Ok(k.to_string()), "{text}");
    true
}

#[test]
fn damaged_texts_are_refused_or_read() {
    let texts = texts();
    let counts =
        run_cases("texts", move |random| read_text(&damage::text(&texts[random.below(texts.len())], random)));
    assert!(counts.taken > 100 && counts.refused > 100, "few cases of both outcomes");
}

/// The files that are damaged: the suite's models of a few nodes where it is there, and one of ours.
fn models() -> Vec<Vec<u8>> {
    /// Larger models take longer, and hold nothing else.
    const LARGEST: u64 = 20_000;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/digits.onnx");
    let mut paths = vec![own];
    for folder in ["node", "simple", "pytorch-operator"] {
        let Some(folder) = cases::suite(folder) else { continue };
        let models = cases::in_folder(&folder).into_iter().map(|(_, p)| p.join("model.onnx"));
        paths.extend(models.filter(|p| p.metadata().is_ok_and(|m| m.len() < LARGEST)));
    }
    paths.iter().map(|p| std::fs::read(p).expect("a model")).collect()
}

/// Two tensors in every sequence among a model's inputs, and every optional there.
fn structure(model: &Model) -> Options {
    let mut options = Options::default();
    for input in model.inputs() {
        let mut ty = input.r#type.as_ref().and_then(|t| t.value.as_ref());
        if let Some(TypeValue::Optional(of)) = ty {
            options.present.push((input.name.clone(), true));
            ty = of.elem_type.as_ref().and_then(|t| t.value.as_ref());
        }
        if matches!(ty, Some(TypeValue::Sequence(_))) {
            options.lengths.push((input.name.clone(), 2));
        }
    }
    options
}

/// Whether the importer and the compiler take a model. What the importer takes verifies.
fn compile_model(bytes: Vec<u8>) -> bool {
    if let Some(file) = std::env::var_os("BURIN_FUZZ_KEEP") {
        std::fs::write(file, &bytes).expect("a file that can be written");
    }
    let Ok(model) = Model::decode(bytes.into(), "damaged", None) else { return false };
    let Ok(onnx::Imported { graph, .. }) = model.import(&structure(&model)) else { return false };
    assert_eq!(graph::verify(&graph), Ok(()), "what is imported verifies");
    let target = native::levels().pop().expect("a level");
    native::compile(&graph, &target).is_ok()
}

#[test]
fn models_with_damaged_bytes_are_refused_or_compiled() {
    let models = models();
    let counts = run_cases("bytes of models", move |random| {
        compile_model(damage::bytes(&models[random.below(models.len())], random))
    });
    assert!(counts.refused > 20, "few cases are refused");
}

#[test]
fn models_with_damaged_fields_are_refused_or_compiled() {
    let models = models();
    let counts = run_cases("fields of models", move |random| {
        let model = &models[random.below(models.len())];
        compile_model(damage::wire::damage(model, random).expect("a model is a message"))
    });
    assert!(counts.taken > 5 && counts.refused > 20, "few cases of both outcomes");
}
