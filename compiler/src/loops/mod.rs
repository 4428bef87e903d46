//! Passes from kernel to kernel.
//!
//! - [`legalise`]: narrow types become storage, with arithmetic in `f32` or bytes; [`halves`]: conversions of
//!   16-bit floats become arithmetic on bits, for targets that have no instructions for them.
//! - [`math`]: what no machine has an instruction for becomes instructions that it has.
//! - [`rewrite`], [`formula`]: the walk and the notation that both share.

#[cfg(test)]
mod columns;
mod convert;
pub mod formula;
pub mod halves;
pub mod interleave;
pub mod legalise;
pub mod math;
pub mod rewrite;
