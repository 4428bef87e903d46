//! From graph to kernels.
pub mod emit;
pub mod nest;
pub mod schedule;
