//! Whole programs: planned and run.
