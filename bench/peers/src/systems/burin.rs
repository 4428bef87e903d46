//! Burin: the artifact is called through its C ABI, as a C program would, with the runtime's thread
//! pool. `Session` would allocate new outputs in each call.

use super::System;
use crate::{Input, Job, Result};
use burin_runtime::abi::{self, Call, Plan, PlanFn, RunFn, Status, TaskFn, code};
use burin_runtime::buffer::Buffer;
use burin_runtime::model::Model;
use burin_runtime::{Executor, Pool, Tensor, TensorRef, load, session};
use std::ffi::c_void;

pub(super) struct Burin {
    model: Model,
    run: RunFn,
    pool: Option<Pool>,
    arena: Buffer,
    dims: Vec<i64>,
    output_dims: Vec<i64>,
    outputs: Vec<Tensor>,
    input_pointers: Vec<*const u8>,
    output_pointers: Vec<*mut u8>,
    _inputs: Vec<Input>,
}

impl Burin {
    pub(super) fn load(job: &Job, inputs: Vec<Input>) -> Result<Burin> {
        // SAFETY: the driver hands over what `burin build` has just written.
        let model = unsafe { load::load(&job.model) }?;
        let entry = model.entries().first().ok_or("the model has no entry")?;
        if !model.states().is_empty() || entry.slots > 0 {
            return Err("models with state, or outputs without a known size, are not measured".into());
        }
        let views: Vec<TensorRef<'_>> = inputs.iter().map(|i| i.tensor.view()).collect();
        let dims = session::bind(entry, &views, &[])?;

        let image = model.image();
        let raw = image.code(&model.variant()).next().ok_or("the model has no code")?;
        let at = |offset: u64| image.bytes().as_ptr().wrapping_add(offset as usize);
        // SAFETY: the loader has checked the image and mapped it executable; these are the offsets of
        // its functions.
        let (plan, run) = unsafe {
            let plan = std::mem::transmute::<*const u8, PlanFn>(at(raw.plan));
            (plan, std::mem::transmute::<*const u8, RunFn>(at(raw.run)))
        };

        let mut output_dims = vec![0; entry.outputs.iter().map(|p| p.shape.len()).sum()];
        let mut need = Plan {
            dims: dims.as_ptr(),
            workers: job.threads as u32,
            variant: 0,
            arena_bytes: 0,
            input_dims: std::ptr::null_mut(),
            output_dims: output_dims.as_mut_ptr(),
            status: Status::default(),
        };
        // SAFETY: the arrays are as long as the entry says.
        check(unsafe { plan(&mut need) }, need.status)?;
        let mut rest = output_dims.iter().map(|d| *d as usize);
        let mut outputs = Vec::new();
        for port in &entry.outputs {
            let shape: Vec<usize> = rest.by_ref().take(port.shape.len()).collect();
            outputs.push(Tensor::zeros(port.dtype, &shape)?);
        }
        Ok(Burin {
            run,
            pool: if job.threads > 1 { Some(Pool::new(job.threads)?) } else { None },
            arena: Buffer::zeroed(need.arena_bytes as usize).ok_or("no memory for the arena")?,
            input_pointers: inputs.iter().map(|i| i.tensor.bytes().as_ptr()).collect(),
            output_pointers: outputs.iter_mut().map(|t| t.bytes_mut().as_mut_ptr()).collect(),
            dims,
            output_dims,
            outputs,
            _inputs: inputs,
            model,
        })
    }
}

impl System for Burin {
    fn run(&mut self) -> Result<()> {
        let mut call = Call {
            weights: self.model.weights().as_ptr(),
            arena: self.arena.as_mut_ptr(),
            inputs: self.input_pointers.as_ptr(),
            outputs: self.output_pointers.as_ptr(),
            output_dims: self.output_dims.as_mut_ptr(),
            states: std::ptr::null(),
            dims: self.dims.as_ptr(),
            workers: self.pool.as_ref().map_or(1, |p| p.workers() as u32),
            variant: 0,
            host: self.pool.as_ref().map_or(std::ptr::null_mut(), |p| (&raw const *p).cast_mut().cast()),
            parallel_for: self.pool.as_ref().map(|_| parallel_for as abi::ParallelForFn),
            alloc: None,
            host_op: None,
            trace: None,
            status: Status::default(),
        };
        // SAFETY: inputs have been checked against the entry; outputs and arena have the sizes that the
        // plan gave for these dimensions and workers.
        check(unsafe { (self.run)(&mut call) }, call.status)
    }

    fn output(&mut self, number: usize) -> Result<Tensor> {
        let t = self.outputs.get(number).ok_or("there is no such output")?;
        Ok(Tensor::from_bytes(t.dtype(), t.shape(), t.bytes())?)
    }

    fn facts(&self) -> Vec<(&'static str, u64)> {
        let head = self.model.image().descriptor().weight_bytes;
        vec![("weight_bytes", head), ("arena_bytes", self.arena.len() as u64)]
    }
}

fn check(answer: i32, status: Status) -> Result<()> {
    if answer == code::OK { Ok(()) } else { Err(format!("Burin: code {answer}, {status:?}").into()) }
}

/// A kernel's frame, which all workers read.
struct Frame(*const u64);
// SAFETY: it is only read while the tasks run.
unsafe impl Sync for Frame {}

impl Frame {
    fn get(&self) -> *const u64 {
        self.0
    }
}

/// The ABI's `parallel_for`.
///
/// # Safety
/// `host` points at a live [`Pool`], and `task` may be called with `frame` as the ABI says.
unsafe extern "C" fn parallel_for(host: *mut c_void, task: TaskFn, frame: *const u64, tasks: i64) {
    // SAFETY: `run` has passed its pool, which outlives the call.
    let pool = unsafe { &*host.cast_const().cast::<Pool>() };
    let frame = Frame(frame);
    // SAFETY: the pool covers each task once, with worker numbers below those of the call.
    pool.parallel_for(tasks as usize, &|begin, end, worker| unsafe {
        task(frame.get(), begin as i64, end as i64, worker as i64)
    });
}
