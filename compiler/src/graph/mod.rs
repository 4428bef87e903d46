//! Passes over graphs: one file each, all through the one mechanism of [`rewrite`].
//!
//! A pass takes a graph that verifies and leaves one that verifies and computes the same. Its cost
//! grows linearly with the graph (with a logarithm at most).

pub mod batchnorm;
pub mod bind;
pub mod cse;
pub mod dce;
pub mod dequantise;
pub mod expand;
pub mod fold;
pub mod fuel;
pub mod fuse;
pub mod layout;
pub mod node;
pub mod pad;
pub mod pairs;
pub mod quads;
pub mod rewrite;
pub mod simplify;
#[cfg(test)]
mod tests;
pub mod winograd;

use burin_ir::graph::Graph;
pub use fuel::Fuel;
use std::collections::BTreeMap;

/// What a pass did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many nodes were rewritten.
    pub rewritten: usize,
    /// Why nodes that resemble what the pass rewrites were left: a reason, how often it was met, and
    /// the first node of which it holds.
    pub declined: BTreeMap<String, (usize, String)>,
}

/// A pass: its name, as file tests and `--dump-after` know it, and what it does. An error is the
/// model's fault (a shape that only now turns out not to fit, say) and names the node.
#[derive(Clone, Copy)]
pub struct Pass {
    /// The name.
    pub name: &'static str,
    /// The pass.
    pub run: fn(&mut Graph, &mut Fuel) -> Result<Report, String>,
}

impl Report {
    /// Notes why a node was left.
    pub fn decline(&mut self, reason: String, node: impl FnOnce() -> String) {
        self.declined.entry(reason).or_insert_with(|| (0, node())).0 += 1;
    }
}
