//! Imports, optimises and compiles graphs to native code.
//!
//! [`import`] reads a model; [`driver::compile`] takes its graph through the [`pipeline`] (passes over
//! [`graph`]s, [`lower`]ing to kernels, passes over their [`loops`], [`memory`]) to a
//! [`program::Program`], and that through a [`target`] to machine code; [`artifact`] writes it to files.
//! Programs in Rust have their models compiled by a build script, with [`embed`].
//!
//! ```no_run
//! use burin_compiler::{artifact::object, driver, import::onnx, target::native::levels::TargetSpec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let graph = onnx::import("model.onnx".as_ref(), &onnx::Options::default())?;
//! let target = TargetSpec::new(Some("aarch64-unknown-linux-gnu"), None)?;
//! let compiled = driver::compile(graph, &target, &mut |pass, _| println!("{pass}"))?;
//! object::write(&compiled.artifact(), &target.triple, object::Kind::Object, "model.o".as_ref())?;
//! # Ok(())
//! # }
//! ```

pub mod artifact;
pub mod driver;
pub mod embed;
pub mod graph;
pub mod import;
pub mod interpret;
pub mod loops;
pub mod lower;
pub mod memory;
pub mod packing;
pub mod pipeline;
pub mod program;
pub mod target;
pub mod tensors;
pub mod verify_case;
