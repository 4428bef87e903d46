//! How a command fails: whose fault it was, and what the user reads about it.

use burin_compiler::artifact::ArtifactError;
use burin_compiler::driver::CompileError;
use burin_compiler::import::onnx::ImportError;
use burin_compiler::target::native::NativeError;
use burin_runtime::Error;
use std::process::ExitCode;

/// The exit code of a wrong answer.
pub(crate) const WRONG: u8 = 1;
/// The exit code of a fault of the input.
pub(crate) const BAD_INPUT: u8 = 2;
/// The exit code of a mistake of our own.
pub(crate) const OUR_BUG: u8 = 70;

const PLEASE_REPORT: &str =
    "this is a mistake in burin: please report it, with the model or the command line that shows it";

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The model's answer was wrong; the command has said how.
    Wrong,
    /// The input was at fault.
    Input(String),
    /// A mistake of our own.
    Bug(String),
    /// Whoever read our output has gone.
    Closed,
}

impl Failure {
    /// Tells the user, and answers the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Wrong => ExitCode::from(WRONG),
            Failure::Closed => ExitCode::SUCCESS,
            Failure::Input(message) => {
                eprintln!("error: {message}");
                ExitCode::from(BAD_INPUT)
            }
            Failure::Bug(message) => {
                eprintln!("internal error: {message}\n{PLEASE_REPORT}");
                ExitCode::from(OUR_BUG)
            }
        }
    }

    /// The same failure, of a file or another thing that is named first.
    pub(crate) fn of(self, what: impl std::fmt::Display) -> Failure {
        match self {
            Failure::Input(m) => Failure::Input(format!("{what}: {m}")),
            Failure::Bug(m) => Failure::Bug(format!("{what}: {m}")),
            other => other,
        }
    }

    /// What went wrong, for a list of failures.
    pub(crate) fn message(&self) -> &str {
        match self {
            Failure::Input(m) | Failure::Bug(m) => m,
            Failure::Wrong | Failure::Closed => "it failed",
        }
    }
}

/// From now on a panic is announced as a mistake of our own, with the place where it happened.
pub(crate) fn announce_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), |l| format!(" at {l}"));
        eprintln!("internal error{place}: {}\n{PLEASE_REPORT}", panic_message(info.payload()));
    }));
}

/// What a panic was given to say.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

/// Messages without a kind of their own are about the input.
impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Input(message)
    }
}

impl From<ImportError> for Failure {
    fn from(e: ImportError) -> Failure {
        Failure::Input(e.to_string())
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Input(e.to_string())
    }
}

impl From<CompileError> for Failure {
    fn from(e: CompileError) -> Failure {
        match e {
            CompileError::Input(m) => Failure::Input(m),
            CompileError::Internal(m) => Failure::Bug(m),
        }
    }
}

impl From<NativeError> for Failure {
    fn from(e: NativeError) -> Failure {
        CompileError::from(e).into()
    }
}

impl From<ArtifactError> for Failure {
    fn from(e: ArtifactError) -> Failure {
        CompileError::from(e).into()
    }
}
