//! Imports, optimises and compiles graphs to native code.

pub mod program;
