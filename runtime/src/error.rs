//! What can go wrong when a model is called.

use crate::image::ImageError;
use alloc::string::String;
use core::fmt;

/// Why a model could not be loaded or run. `Display` is one line that says what was found, what was
/// expected, and where.
#[derive(Debug)]
pub enum Error {
    /// The image or the weights cannot be used.
    Image(ImageError),
    /// An entry, input or dimension of that name does not exist, or an input's type, shape or number
    /// does not fit: the caller's fault.
    Input(String),
    /// The model could not compute an answer for these inputs.
    Call {
        /// One of [`abi::code`](crate::abi::code).
        code: i32,
        /// What it means, with node, found and expected.
        message: String,
    },
    /// There is no memory for something.
    Memory {
        /// What the memory is for.
        what: &'static str,
        /// How many bytes.
        bytes: u64,
    },
    /// A file cannot be read or written.
    #[cfg(feature = "std")]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Image(e) => e.fmt(f),
            Error::Input(message) | Error::Call { message, .. } => f.write_str(message),
            Error::Memory { what, bytes } => write!(f, "no memory for {what}: {bytes} bytes"),
            #[cfg(feature = "std")]
            Error::File { path, message } => write!(f, "{}: {message}", path.display()),
        }
    }
}

impl core::error::Error for Error {}

impl From<ImageError> for Error {
    fn from(e: ImageError) -> Error {
        Error::Image(e)
    }
}

#[cfg(feature = "std")]
impl Error {
    /// An error about a file.
    pub fn file(path: &std::path::Path, e: impl fmt::Display) -> Error {
        use alloc::string::ToString;
        Error::File { path: path.to_owned(), message: e.to_string() }
    }
}
