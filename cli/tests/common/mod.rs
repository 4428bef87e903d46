//! Running the program `burin`, in a folder of its own for each test.
#![allow(dead_code, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A small model, with a dimension that is not fixed.
pub(crate) const TINY: &str = "graph @tiny(%x: f32[batch, 4]) {
  %w = const f32[4, 3] [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
  %y = MatMul(%x, %w)
  %z = Relu(%y)
  return %z as \"answer\"
}
";

/// A folder that is removed at the end.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; answers its name.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Writes an array of `f32`.
    pub(crate) fn npy(&self, name: &str, shape: &str, values: &[f32]) -> PathBuf {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((padded as u16).to_le_bytes());
        bytes.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        self.write(name, bytes)
    }

    /// The names of what is in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = self.0.path().read_dir().unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs `burin` in this folder.
    pub(crate) fn burin<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.command(args).output().unwrap()
    }

    /// `burin` in this folder, about to run.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burin"));
        command.args(args).current_dir(self.0.path());
        command
    }

    /// Runs `burin` with words of a line.
    pub(crate) fn line(&self, line: &str) -> Output {
        self.burin(line.split_whitespace())
    }

    /// Runs `burin`, which must succeed; its stdout.
    pub(crate) fn ok(&self, line: &str) -> String {
        let out = self.line(line);
        assert_eq!(out.status.code(), Some(0), "{line}: {}", stderr(&out));
        stdout(&out)
    }

    /// Runs `burin`, which must refuse its input with one message that holds all these parts.
    pub(crate) fn refused(&self, line: &str, parts: &[&str]) {
        let out = self.line(line);
        let message = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "{line}: {message}{}", stdout(&out));
        assert_eq!(message.matches("error:").count(), 1, "{line}: {message}");
        assert!(!message.contains("panicked") && !message.contains("internal"), "{line}: {message}");
        for part in parts {
            assert!(message.contains(part), "{line}: expected {part:?} in {message}");
        }
    }
}

pub(crate) fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub(crate) fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The example's folder: a trained model with recorded cases.
pub(crate) fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").canonicalize().unwrap()
}

/// The elements of an `.npy` file of `f32`.
pub(crate) fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let at = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[at..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}
