//! Imports, optimises and compiles graphs to native code.

pub mod graph;
pub mod import;
pub mod loops;
pub mod lower;
pub mod program;
pub mod verify_case;
