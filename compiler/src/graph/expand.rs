//! Composites become their bodies, through their rows' builders, until only pointwise, movement and
//! primitive nodes are left, or composites that the caller keeps because the target has a kernel. So do
//! nodes whose types depend on floats that are known only in a run, where their rows have bodies for that.

use super::rewrite::{Outcome, rewrite};
use super::{Fuel, Report};
use burin_ir::graph::{Graph, NodeData};
use burin_ir::ops::Meaning;

/// How deep composites may stand in composites.
const MAX_DEPTH: usize = 16;

/// Expands every composite, for which no fuel is taken: none can be lowered.
pub fn run(graph: &mut Graph, _: &mut Fuel) -> Result<Report, String> {
    run_except(graph, &|_, _| false)
}

/// Expands every composite but those that `keep` answers for.
pub fn run_except(graph: &mut Graph, keep: &dyn Fn(&Graph, &NodeData) -> bool) -> Result<Report, String> {
    let mut total = 0;
    for _ in 0..MAX_DEPTH {
        let mut report = rewrite(graph, &mut Fuel::unlimited(), &mut |r, site| {
            if site.data.op.body().is_none() || keep(r.old, site.data) {
                return Ok(Outcome::Keep);
            }
            let composite = matches!(site.data.op.meaning, Meaning::Composite(_));
            Ok(match r.builder().expand(site.data, &site.inputs)? {
                Some(results) => Outcome::Replace(results),
                None if !composite => Outcome::Keep,
                None => Outcome::Declined(format!(
                    "the body of {} cannot be built for its operands",
                    site.data.op.name
                )),
            })
        })?;
        total += report.rewritten;
        if report.rewritten == 0 {
            report.rewritten = total;
            return Ok(report);
        }
    }
    Err(format!("composites stand in composites more than {MAX_DEPTH} deep"))
}
