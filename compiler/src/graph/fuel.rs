//! Fuel: how many more rewrites the passes of one compilation may make.
//!
//! A graph that is wrong after some rewrite is right with less fuel, so that a bisection over the
//! amount finds that rewrite. Fuel belongs to one compilation and is handed from pass to pass. Only
//! what a graph can be compiled without takes fuel: optimisations, not the expansion of composites
//! nor the removal of what nothing uses.

/// What is left of it. The default never runs out, and nothing is counted.
#[derive(Clone, Debug, Default)]
pub struct Fuel {
    limit: Option<u64>,
    spent: u64,
    without: Vec<String>,
    /// The pass that is running, for messages.
    pub(crate) pass: &'static str,
}

impl Fuel {
    /// Fuel that never runs out.
    pub fn unlimited() -> Fuel {
        Fuel::default()
    }

    /// Fuel for so many rewrites.
    pub fn limited(rewrites: u64) -> Fuel {
        Fuel { limit: Some(rewrites), ..Fuel::default() }
    }

    /// The same for all passes but these.
    pub fn without(self, passes: &[String]) -> Fuel {
        Fuel { without: passes.to_vec(), ..self }
    }

    /// Whether a pass has none at all.
    pub(crate) fn leaves_out(&self, pass: &str) -> bool {
        self.without.iter().any(|p| p == pass)
    }

    /// Whether one more rewrite may be made, which is then counted and logged.
    pub(crate) fn spend(&mut self, what: impl FnOnce() -> String) -> bool {
        let Some(limit) = self.limit else { return true };
        if self.spent == limit {
            return false;
        }
        self.spent += 1;
        tracing::debug!(rewrite = self.spent, pass = self.pass, node = %what(), "rewrote");
        true
    }
}
