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
pub mod image;
#[cfg(feature = "std")]
pub mod load;
pub mod model;
#[cfg(feature = "std")]
pub mod pool;
pub mod random;
pub mod session;
pub mod tensor;
pub mod typed;

pub use error::Error;
pub use executor::{Executor, Serial};
pub use image::{Image, ImageError};
pub use model::{Model, Segment};
#[cfg(feature = "std")]
pub use pool::Pool;
pub use session::Session;
pub use tensor::{BF16, DType, Element, F16, Tensor, TensorRef};
