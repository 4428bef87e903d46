//! Recorded cases from outside the repository: real models and the suite of ONNX. Both are looked
//! for in the folder that `BURIN_SHARED` names, or in `../shared` beside the repository; tests skip
//! and say so where they are absent.

use burin_compiler::import::onnx::Options;
use burin_compiler::verify_case::{Agreement, Case, DataSet, Subject};
use burin_ir::Tensor;
use burin_ir::graph::Graph;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The folder's name in the archive, and the archive's.
const SUITE: (&str, &str) = ("suite", "onnx-suite-1.23.2.tar.xz");

/// A file or folder outside the repository; `None`, with a message, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let found = std::env::var_os("BURIN_SHARED").map_or(beside, PathBuf::from).join(path);
    if !found.exists() {
        println!("skipped: there is no {}", found.display());
        return None;
    }
    Some(found)
}

/// A folder of the suite, unpacked below the build folder once; `None`, with a message, where the
/// archive is absent.
///
/// # Panics
/// If the archive cannot be unpacked.
pub fn suite(folder: &str) -> Option<PathBuf> {
    static UNPACKED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let archive = shared(SUITE.1)?;
        Some(unpacked(&archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display())))
    });
    Some(UNPACKED.as_ref()?.join(folder))
}

/// The unpacked suite. It is unpacked under another name and renamed, so that what has the name is
/// complete, whoever else unpacks it at the same time.
fn unpacked(archive: &Path) -> io::Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let place = target.join(SUITE.1.trim_end_matches(".tar.xz"));
    if !place.is_dir() {
        let fresh = tempfile::tempdir_in(&target)?;
        let decoded = lzma_rust2::XzReader::new(io::BufReader::new(File::open(archive)?), true);
        tar::Archive::new(decoded).unpack(&fresh)?;
        if let Err(e) = fs::rename(fresh.path().join(SUITE.0), &place)
            && !place.is_dir()
        {
            return Err(e);
        }
    }
    Ok(place)
}

/// The cases of a folder, with their names, in order.
///
/// # Panics
/// If the folder cannot be read.
pub fn in_folder(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = folder.read_dir().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let named = entries.flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
    let mut cases: Vec<_> = named.filter(|(_, p)| p.join("model.onnx").is_file()).collect();
    cases.sort();
    cases
}

/// A case with all that it records.
pub struct Recorded {
    case: Case,
    /// The model's file.
    pub model: PathBuf,
    /// The model.
    pub graph: Graph,
    /// What the data says of the model.
    pub options: Options,
    /// What goes in, and what must come out.
    pub data: Vec<DataSet>,
}

impl Recorded {
    /// Reads a case.
    pub fn read(folder: &Path) -> Result<Recorded, String> {
        let case = Case::open(folder).map_err(|e| e.to_string())?;
        let subject = case.import().map_err(|e| e.to_string())?;
        let data = case.data_sets.iter().map(|d| subject.read(d).map_err(|e| e.to_string()));
        let data = data.collect::<Result<Vec<_>, _>>()?;
        if data.is_empty() {
            return Err("no data set is recorded".into());
        }
        let Subject { graph, options, .. } = subject;
        Ok(Recorded { model: case.model.clone(), case, graph, options, data })
    }

    /// Runs every data set, and compares with what is recorded.
    pub fn check(
        &self,
        mut run: impl FnMut(&[Tensor]) -> Result<Vec<Tensor>, String>,
    ) -> Result<Agreement, String> {
        let mut all = Agreement::default();
        for set in &self.data {
            let agreement = self.case.check(&self.graph, set, &run(&set.inputs)?)?;
            all.by_rounding |= agreement.by_rounding;
            all.by_property |= agreement.by_property;
        }
        Ok(all)
    }
}
