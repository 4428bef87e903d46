//! Dead code: nodes that no output and no state needs are dropped, and with them the values and
//! constants that only they used. Random and host ops have no effect but their results.

use super::rewrite::{Outcome, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::Graph;

/// Drops what nothing needs, for which no fuel is taken.
pub fn run(graph: &mut Graph, _: &mut Fuel) -> Result<Report, String> {
    let count = |g: &Graph| g.regions.values().map(|r| r.nodes.len()).sum::<usize>();
    let before = count(graph);
    let mut report = rewrite(graph, &mut Fuel::unlimited(), &mut |_, _| Ok(Outcome::Keep))?;
    report.rewritten = before - count(graph);
    Ok(report)
}
