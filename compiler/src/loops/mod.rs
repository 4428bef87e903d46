//! Passes from kernel to kernel.
//!
//! - [`legalise`]: 16-bit floats become `f32` arithmetic on 16-bit storage.
//! - [`math`]: what no machine has an instruction for becomes instructions that it has.
//! - [`rewrite`], [`formula`]: the walk and the notation that both share.

#[cfg(test)]
mod columns;
pub mod formula;
pub mod interleave;
pub mod legalise;
pub mod math;
pub mod rewrite;
