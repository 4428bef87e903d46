//! Loads, links and runs models that Burin compiled.
//!
//! - [`abi`]: the C ABI of compiled code.
//! - [`image`]: checked views over a compiled image.
//! - [`model`], [`session`]: a model with its weights, and what a caller needs to run it.
//! - [`executor`]: who runs the parallel tasks; [`pool`] is a small thread pool, a host's own plugs
//!   in by the same trait.
//! - [`tensor`], [`buffer`]: tensors in and out; [`typed`]: those of models that are compiled into a
//!   program, whose types rustc checks.
//! - `load`: models from files; `files`: tensors from and to files.
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! # fn main() -> Result<(), burin_runtime::Error> {
//! use burin_runtime::{Session, TensorRef, load};
//!
//! // SAFETY: the file is one that `burin build` wrote, and nobody changes it meanwhile.
//! let model = unsafe { load::load("digits".as_ref()) }?;
//! let image = [0f32; 64];
//! let outputs = Session::new(&model)?.run(&[TensorRef::new(&[1, 1, 8, 8], &image)?])?;
//! println!("{:?}", outputs[0].as_slice::<f32>());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! ```
//!
//! The core needs `alloc` and nothing else. Compiled code is called in `session` alone, and only
//! after the image's structure, its ABI version, its architecture and the CPU have been checked.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod abi;
pub mod buffer;
pub mod cpu;
pub mod error;
pub mod executor;
#[cfg(feature = "files")]
pub mod files;
mod host;
pub mod image;
#[cfg(feature = "std")]
pub mod load;
pub mod model;
pub mod pool;
pub mod random;
pub mod session;
pub mod tensor;
mod texts;
pub mod typed;

pub use error::Error;
pub use executor::{Executor, Serial};
pub use image::{Image, ImageError};
pub use model::{Model, Segment};
#[cfg(feature = "std")]
pub use pool::Pool;
pub use session::Session;
pub use tensor::{BF16, DType, Element, F16, Tensor, TensorRef};
pub use tensor::{F4E2M1, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, I2, I4, U2, U4};
