//! Compiled code mapped into this process and called.
//!
//! [`Mapped`] holds code and hands out its functions. [`Jit`] is a program with its code, its
//! weights in memory, and the plainest way to run it on tensors: one call at a time, on the calling
//! thread, with fresh memory for each. Sessions, threads and images are the runtime's.

use super::levels::TargetSpec;
use super::{Code, NativeError, compile};
use crate::program::{Port, Program};
use burin_ir::tensor::element_count;
use burin_ir::{Symbol, Tensor};
use burin_runtime::abi::{Call, Plan, PlanFn, RunFn, Status, TaskFn};
use burin_runtime::buffer::Buffer;
use bytes::Bytes;
use memmap2::{Mmap, MmapMut};
use std::collections::HashMap;
use std::ptr::null_mut;

/// Code that can be called, for as long as this lives.
#[derive(Debug)]
pub struct Mapped {
    memory: Mmap,
    plan: usize,
    run: usize,
    kernels: Vec<usize>,
}

impl Mapped {
    /// Maps code whose best level is `target`; an error if this CPU cannot run it.
    pub fn new(code: &Code, target: &TargetSpec) -> Result<Mapped, NativeError> {
        if !target.runs_here() {
            return Err(NativeError::Target(format!("this machine cannot run code for {target:?}")));
        }
        let mut memory = MmapMut::map_anon(code.text.len().max(1))?;
        memory[..code.text.len()].copy_from_slice(&code.text);
        let memory = memory.make_exec()?;
        let best = code.levels.first().map_or(&[][..], |level| &level.kernels);
        let kernels = best.iter().map(|k| k.offset).collect();
        Ok(Mapped { memory, plan: code.plan, run: code.run, kernels })
    }

    fn at(&self, offset: usize) -> *const u8 {
        self.memory[offset..].as_ptr()
    }

    /// Calls the program's `plan`.
    ///
    /// # Safety
    /// The plan's pointers must be valid for what the program's dimensions and outputs need.
    pub unsafe fn plan(&self, plan: &mut Plan) -> i32 {
        // SAFETY: the code at this offset was compiled as a `PlanFn`; the caller vouches for the rest.
        unsafe { std::mem::transmute::<*const u8, PlanFn>(self.at(self.plan))(plan) }
    }

    /// Calls the program's `run`.
    ///
    /// # Safety
    /// All buffers must be as the ABI demands and as large as the plan for these dimensions says.
    pub unsafe fn run(&self, call: &mut Call) -> i32 {
        // SAFETY: the code at this offset was compiled as a `RunFn`; the caller vouches for the rest.
        unsafe { std::mem::transmute::<*const u8, RunFn>(self.at(self.run))(call) }
    }

    /// A kernel, by its number in the program. It must not be called after `self` is gone.
    pub fn kernel(&self, number: usize) -> TaskFn {
        // SAFETY: the code at this offset was compiled as a `TaskFn`; calling it is unsafe in turn.
        unsafe { std::mem::transmute::<*const u8, TaskFn>(self.at(self.kernels[number])) }
    }
}

/// A compiled program in this process.
pub struct Jit {
    code: Mapped,
    dims: Vec<Symbol>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    states: Vec<(Port, usize)>,
    /// Offset and size of each weight.
    spans: Vec<(usize, usize)>,
    weights: Buffer,
}

impl Jit {
    /// Compiles a program for this machine and packs its weights into memory.
    pub fn new(program: &Program, target: &TargetSpec) -> Result<Jit, NativeError> {
        let code = Mapped::new(&compile(program, target)?, target)?;
        let mut weights = memory(program.weight_bytes, "the weights")?;
        let mut spans = Vec::with_capacity(program.weights.len());
        for w in &program.weights {
            let t = w.constant.materialise();
            let t = t.map_err(|e| NativeError::Call(format!("the weight {:?}: {e}", w.name)))?;
            let (at, bytes) = (w.offset as usize, t.bytes());
            let place = at.checked_add(bytes.len()).and_then(|end| weights.get_mut(at..end));
            let outside = || NativeError::Call(format!("the weight {:?} is outside its segment", w.name));
            place.ok_or_else(outside)?.copy_from_slice(bytes);
            spans.push((at, bytes.len()));
        }
        Ok(Jit {
            code,
            dims: program.dims.clone(),
            inputs: program.inputs.clone(),
            outputs: program.outputs.clone(),
            states: program.states.clone(),
            spans,
            weights,
        })
    }

    /// Runs the program once, its states at their initial values. Dimensions are those of the
    /// inputs' shapes; an error says which input does not fit.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, NativeError> {
        let dims = self.bind(inputs)?;
        let (arena_bytes, shapes) = self.plan(&dims, inputs)?;
        let mut arena = memory(arena_bytes, "the arena")?;
        let mut outputs = Vec::with_capacity(shapes.len());
        for (port, shape) in self.outputs.iter().zip(&shapes) {
            let count = element_count(port.ty.dtype, shape).unwrap_or(usize::MAX);
            let bytes = count.saturating_mul(port.ty.dtype.bytes());
            outputs.push(memory(bytes as u64, &format!("the output {:?}", port.name))?);
        }
        // Inputs are copied only where their bytes are not aligned to their elements.
        let mut copies = Vec::new();
        let mut in_pointers = Vec::with_capacity(inputs.len());
        for t in inputs {
            if (t.bytes().as_ptr() as usize).is_multiple_of(t.dtype().bytes()) {
                in_pointers.push(t.bytes().as_ptr());
            } else {
                let copy = Buffer::copy_of(t.bytes());
                let copy = copy.ok_or_else(|| NativeError::Call("no memory for an input".to_owned()))?;
                in_pointers.push(copy.as_ptr());
                copies.push(copy);
            }
        }
        let mut states = Vec::with_capacity(self.states.len());
        for (port, weight) in &self.states {
            let (at, len) = self.spans[*weight];
            let state = Buffer::copy_of(&self.weights[at..at + len]);
            states.push(state.ok_or_else(|| NativeError::Call(format!("no memory for {:?}", port.name)))?);
        }
        let out_pointers: Vec<*mut u8> = outputs.iter_mut().map(|o| o.as_mut_ptr()).collect();
        let state_pointers: Vec<*mut u8> = states.iter_mut().map(|s| s.as_mut_ptr()).collect();
        let mut extents: Vec<i64> = shapes.iter().flatten().map(|d| *d as i64).collect();
        let mut call = Call {
            weights: self.weights.as_ptr(),
            arena: arena.as_mut_ptr(),
            inputs: in_pointers.as_ptr(),
            outputs: out_pointers.as_ptr(),
            output_dims: extents.as_mut_ptr(),
            states: state_pointers.as_ptr(),
            dims: dims.as_ptr(),
            workers: 1,
            variant: 0,
            host: null_mut(),
            parallel_for: None,
            alloc: None,
            host_op: None,
            trace: None,
            status: Status::default(),
        };
        // SAFETY: every buffer has the size that the plan gave for these dimensions, and the inputs
        // have the shapes that it named.
        let code = unsafe { self.code.run(&mut call) };
        refuse(code, &call.status)?;
        drop(copies);
        let tensors = self.outputs.iter().zip(shapes).zip(&outputs).map(|((port, shape), bytes)| {
            let bytes = Bytes::copy_from_slice(bytes);
            Tensor::from_bytes(port.ty.dtype, shape, bytes).map_err(NativeError::Call)
        });
        tensors.collect()
    }

    /// The dimensions' values, from every input extent that is one by itself.
    fn bind(&self, inputs: &[Tensor]) -> Result<Vec<i64>, NativeError> {
        if inputs.len() != self.inputs.len() {
            let (found, expected) = (inputs.len(), self.inputs.len());
            return Err(NativeError::Call(format!("found {found} inputs, expected {expected}")));
        }
        let mut known: HashMap<Symbol, i64> = HashMap::new();
        for (port, t) in self.inputs.iter().zip(inputs) {
            if t.dtype() != port.ty.dtype || t.rank() != port.ty.rank() {
                return Err(mismatch(port, t));
            }
            for (extent, found) in port.ty.shape.iter().zip(t.shape()) {
                if let Some(s) = extent.as_symbol() {
                    known.entry(s).or_insert(*found as i64);
                }
            }
        }
        let of = |s: &Symbol| {
            let why = || NativeError::Call(format!("no input has the dimension {s} as an extent of its own"));
            known.get(s).copied().ok_or_else(why)
        };
        self.dims.iter().map(of).collect()
    }

    /// Bytes of the arena and the outputs' shapes, after a check of the inputs'.
    fn plan(&self, dims: &[i64], inputs: &[Tensor]) -> Result<(u64, Vec<Vec<usize>>), NativeError> {
        let count = |ports: &[Port]| ports.iter().map(|p| p.ty.rank()).sum();
        let mut expected: Vec<i64> = vec![0; count(&self.inputs)];
        let mut extents: Vec<i64> = vec![0; count(&self.outputs)];
        let mut plan = Plan {
            dims: dims.as_ptr(),
            workers: 1,
            variant: 0,
            arena_bytes: 0,
            input_dims: expected.as_mut_ptr(),
            output_dims: extents.as_mut_ptr(),
            status: Status::default(),
        };
        // SAFETY: there is room for every dimension of every input and output.
        let code = unsafe { self.code.plan(&mut plan) };
        refuse(code, &plan.status)?;
        let mut expected = expected.into_iter();
        for (port, t) in self.inputs.iter().zip(inputs) {
            let shape: Vec<i64> = expected.by_ref().take(t.rank()).collect();
            if t.shape().iter().map(|d| *d as i64).ne(shape) {
                return Err(mismatch(port, t));
            }
        }
        let mut extents = extents.into_iter().map(|d| d as usize);
        let shapes = self.outputs.iter().map(|p| extents.by_ref().take(p.ty.rank()).collect());
        Ok((plan.arena_bytes, shapes.collect()))
    }
}

fn mismatch(port: &Port, t: &Tensor) -> NativeError {
    NativeError::Call(format!("input {:?}: found {t:?}, expected {}", port.name, port.ty))
}

fn memory(bytes: u64, what: &str) -> Result<Buffer, NativeError> {
    let buffer = usize::try_from(bytes).ok().and_then(Buffer::zeroed);
    buffer.ok_or_else(|| NativeError::Call(format!("no memory for {what} ({bytes} bytes)")))
}

fn refuse(code: i32, status: &Status) -> Result<(), NativeError> {
    match code {
        0 => Ok(()),
        _ => Err(NativeError::Call(format!("the compiled code answered {status:?}"))),
    }
}
