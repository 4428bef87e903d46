//! Imports, optimises and compiles graphs to native code.

pub mod artifact;
pub mod driver;
pub mod embed;
pub mod graph;
pub mod import;
pub mod loops;
pub mod interpret;
pub mod lower;
pub mod memory;
pub mod pipeline;
pub mod program;
pub mod target;
pub mod verify_case;

/// Every pass over graphs, by name.
pub fn passes() -> &'static [graph::Pass] {
    graph::PASSES
}
