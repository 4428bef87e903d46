//! What the tests share: the file tests' harness and what they can run.

pub mod files;
pub mod runners;
