//! Recorded cases of ops that ONNX Runtime defines, or that ONNX had in its first versions: what it
//! computed, the evaluator and native code compute too. `data/onnxruntime/make.py` says how the cases
//! were made.

use burin_ir::graph::eval::eval;
use burin_runtime::Session;
use burin_tests::cases::{self, Recorded};
use burin_tests::native;
use std::path::{Path, PathBuf};

fn check(folder: &Path) -> Result<(), String> {
    let recorded = Recorded::read(folder)?;
    let evaluated = recorded
        .check(|inputs| eval(&recorded.graph, inputs, &[]).map(|o| o.outputs).map_err(|e| e.to_string()));
    evaluated.map_err(|e| format!("evaluator: {e}"))?;
    for target in native::levels() {
        let model = native::compile(&recorded.graph, &target)?.load().map_err(|e| e.to_string())?;
        let mut session = Session::new(&model).map_err(|e| e.to_string())?;
        recorded.check(|inputs| native::run(&mut session, inputs)).map_err(|e| format!("{target:?}: {e}"))?;
    }
    Ok(())
}

#[test]
fn what_onnx_runtime_computes_is_computed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/onnxruntime");
    let cases = cases::in_folder(&folder);
    assert!(cases.len() > 30, "found {} cases only", cases.len());
    let failure = |(name, folder): &(String, PathBuf)| Some(format!("{name}: {}\n", check(folder).err()?));
    let failures: Vec<String> = cases.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.concat());
}
