//! Targets: what turns a [`Program`](crate::program::Program) into something that runs.

pub mod native;
