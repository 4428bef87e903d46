//! From the graph to kernels and a program that calls them.
//!
//! [`crate::graph::fuse`] says which values a kernel computes, [`place`] where stored values lie,
//! [`group`] writes each kernel's definition as a [`nest`], in which [`named`] parts stand for what a call
//! computes once, [`schedule`] chooses how it is run, and
//! [`emit`] writes its loops. [`events`] puts what happens in order, [`regions`] what happens in control
//! flow, [`procedure`] takes the kernels that rows give, [`arena`] gives all of it memory; [`level`] and
//! [`steps`] drive it.

mod arena;
mod drafts;
mod emit;
mod events;
mod extract;
pub mod group;
mod host;
pub mod kernels;
mod level;
mod named;
pub mod nest;
pub mod pack;
pub mod place;
mod procedure;
mod regions;
pub mod schedule;
pub mod sizes;
pub mod steps;
mod texts;
