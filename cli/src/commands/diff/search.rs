//! A search through nodes, or through groups of them, for the first that differs.

use super::cut::{Codes, Cut, Run};
use crate::failure::Failure;
use burin_ir::compare::Report;

/// What differs: nodes alone, or in one kernel.
pub(super) struct Difference {
    /// The nodes, as messages name them.
    pub(super) what: String,
    /// The number of the result.
    pub(super) result: usize,
    pub(super) report: Report,
    pub(super) cut: Cut,
}

/// The search so far.
#[derive(Default)]
pub(super) struct Search {
    codes: Codes,
    agreed: usize,
    /// What could not be compared, with the reason.
    left: Vec<(String, String)>,
    found: Option<Difference>,
    /// A mistake of our own ends the search.
    bug: Option<String>,
}

impl Search {
    /// Compares what is named so, unless the search is over.
    pub(super) fn look(
        &mut self,
        what: impl FnOnce() -> String,
        compare: impl FnOnce(Run<'_>) -> Result<Option<Difference>, Failure>,
    ) {
        if self.found.is_some() || self.bug.is_some() {
            return;
        }
        match compare(&mut |cut| self.codes.run(cut)) {
            Ok(None) => self.agreed += 1,
            Ok(found) => self.found = found,
            Err(Failure::Bug(message)) => self.bug = Some(format!("{}: {message}", what())),
            Err(e) => self.left.push((what(), e.message().to_owned())),
        }
    }

    /// What is to be told of what could not be compared and of how many agree, and the difference.
    pub(super) fn finish(self, kind: &str) -> Result<(String, Option<Difference>), Failure> {
        if let Some(message) = self.bug {
            return Err(Failure::Bug(message));
        }
        let mut text: String =
            self.left.iter().map(|(what, reason)| format!("not compared: {what}: {reason}\n")).collect();
        if self.found.is_none() {
            text.push_str(&format!("{} {kind} agree ({} distinct)\n", self.agreed, self.codes.distinct()));
        }
        Ok((text, self.found))
    }
}
