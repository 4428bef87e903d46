//! From the graph to kernels and a program that calls them.
//!
//! [`crate::graph::fuse`] says which values a kernel computes, [`place`] where stored values lie,
//! [`group`] writes each kernel's definition as a [`nest`], [`schedule`] chooses how it is run, and
//! [`emit`] writes its loops; [`steps`] drives all of it.

mod arena;
mod emit;
pub mod group;
pub mod nest;
pub mod pack;
pub mod place;
pub mod schedule;
pub mod sizes;
pub mod steps;
