//! The systems that are compared, each with its cheapest way to call a model again and again: inputs
//! are handed over once where that is possible, and outputs are written to the same memory.

mod burin;
mod onnxruntime;
mod openvino;
mod rten;
mod tract;

use crate::{Input, Job, Result};
use burin_runtime::Tensor;
use std::path::Path;

/// A loaded model with its inputs.
pub(crate) trait System {
    /// One call.
    fn run(&mut self) -> Result<()>;

    /// The output of that number, as the last call left it.
    fn output(&mut self, number: usize) -> Result<Tensor>;

    /// Numbers about the loaded model.
    fn facts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

pub(crate) fn load(job: &Job, inputs: Vec<Input>) -> Result<Box<dyn System>> {
    Ok(match job.system.as_str() {
        "burin" => Box::new(burin::Burin::load(job, inputs)?),
        "onnxruntime" => Box::new(onnxruntime::OnnxRuntime::load(job, library(job)?, inputs)?),
        "openvino" => Box::new(openvino::OpenVino::load(job, library(job)?, inputs)?),
        "rten" => Box::new(rten::Rten::load(job, inputs)?),
        "tract" => Box::new(tract::Tract::load(job, inputs)?),
        other => return Err(format!("there is no system {other}").into()),
    })
}

fn library(job: &Job) -> Result<&Path> {
    job.library.as_deref().ok_or_else(|| format!("{} needs a library", job.system).into())
}
