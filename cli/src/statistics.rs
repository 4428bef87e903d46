//! Statistics of repeated runs, and what a program does at given dimensions.

use burin_compiler::program::Program;
use burin_ir::{Expr, Symbol};
use std::collections::HashMap;

/// Times of runs in seconds, sorted.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Of at least one run.
    pub(crate) fn new(mut seconds: Vec<f64>) -> Times {
        seconds.sort_by(f64::total_cmp);
        Times(seconds)
    }

    /// How many runs there were.
    pub(crate) fn runs(&self) -> usize {
        self.0.len()
    }

    /// The time that so many of hundred runs do not exceed (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// The least.
    pub(crate) fn min(&self) -> f64 {
        self.percentile(0)
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        let n = self.0.len();
        if n % 2 == 1 { self.percentile(50) } else { (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0 }
    }
}

/// A program's symbols at given dimensions; what cannot be computed is left out.
pub(crate) fn symbols(program: &Program, dims: &HashMap<Symbol, i64>) -> HashMap<Symbol, i64> {
    let mut known = dims.clone();
    for (s, e) in &program.lets {
        if let Some(v) = e.eval(&|s| known.get(&s).copied()) {
            known.insert(*s, v);
        }
    }
    known
}

/// The value of a size; 0 where it is not known.
pub(crate) fn value(e: &Expr, symbols: &HashMap<Symbol, i64>) -> u64 {
    e.eval(&|s| symbols.get(&s).copied()).and_then(|v| u64::try_from(v).ok()).unwrap_or(0)
}

/// The sum of a size over all steps.
pub(crate) fn total(
    program: &Program,
    symbols: &HashMap<Symbol, i64>,
    of: impl Fn(&burin_compiler::program::Call) -> &Expr,
) -> u64 {
    program.calls.iter().map(|s| value(of(s), symbols)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let t = Times::new((1..=20).rev().map(f64::from).collect());
        assert_eq!((t.min(), t.percentile(95), t.percentile(100), t.median()), (1.0, 19.0, 20.0, 10.5));
        let one = Times::new(vec![3.0]);
        assert_eq!((one.min(), one.median(), one.percentile(95)), (3.0, 3.0, 3.0));
    }
}
