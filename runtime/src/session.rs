//! A session: a model with all that the caller owns for it (arena, states, threads).
//!
//! Sessions of one model are independent of each other and may run at the same time. Before compiled
//! code runs, every input's type and shape, the plan's answer and every buffer's size have been
//! checked against each other.

use crate::abi::{self, Call, Plan, Status, code};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::executor::{self, Executor, Serial};
use crate::host::Library;
use crate::model::{Entry, Model, Port};
use crate::tensor::{DType, Tensor, TensorRef, byte_count, type_text};
use crate::texts::Texts;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::c_void;

/// What a call with certain dimensions needs.
#[derive(Clone, PartialEq, Debug)]
pub struct Needs {
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// The shapes of the inputs.
    pub inputs: Vec<Vec<usize>>,
    /// The shapes of the outputs, or their upper bounds.
    pub outputs: Vec<Vec<usize>>,
}

/// Follows the steps of a call: (number of the step, whether it is done).
pub type Trace<'a> = &'a mut dyn FnMut(u32, bool);

/// A model that can be called.
pub struct Session {
    model: Model,
    executor: Arc<dyn Executor>,
    arena: Buffer,
    states: Vec<Buffer>,
    /// Memory that calls have asked for, by slot; those of outputs are handed over after each call.
    slots: Vec<Option<Buffer>>,
    /// The texts of the last call.
    texts: Texts,
    library: Library,
    /// The last plan: entry, dimensions, workers, answer.
    planned: Option<(usize, Vec<i64>, u32, Needs)>,
}

impl Session {
    /// A session on the calling thread alone, its states at their initial values.
    pub fn new(model: &Model) -> Result<Session, Error> {
        let mut session = Session {
            model: model.clone(),
            executor: Arc::new(Serial),
            arena: allocate(0, "the arena")?,
            states: Vec::new(),
            slots: Vec::new(),
            texts: Texts::of(&model.image()),
            library: Library::of(model)?,
            planned: None,
        };
        session.reset()?;
        Ok(session)
    }

    /// The same with an executor.
    pub fn with_executor(mut self, executor: Arc<dyn Executor>) -> Session {
        self.executor = executor;
        self
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Sets the states to their initial values.
    pub fn reset(&mut self) -> Result<(), Error> {
        let weights = self.model.weights();
        let initial = |p: &Port| {
            let bytes = p.shape_with(&[]).and_then(|s| byte_count(p.dtype, &s)).unwrap_or(0);
            // `Image::parse` has checked that the initial value lies in the weights.
            let value = &weights[p.init as usize..p.init as usize + bytes];
            Buffer::copy_of(value).ok_or(Error::Memory { what: "a state", bytes: bytes as u64 })
        };
        let states: Result<Vec<Buffer>, Error> = self.model.states().iter().map(initial).collect();
        self.states = states?;
        Ok(())
    }

    /// The state of that number.
    pub fn state(&self, number: usize) -> Option<Tensor> {
        let port = self.model.states().get(number)?;
        Tensor::from_bytes(port.dtype, &port.shape_with(&[])?, &self.states[number]).ok()
    }

    /// Sets the state of that number.
    pub fn set_state(&mut self, number: usize, value: TensorRef<'_>) -> Result<(), Error> {
        let port = self.model.states().get(number);
        let port = port.ok_or_else(|| Error::Input(format!("the model has no state number {number}")))?;
        if !port.accepts(value.dtype(), value.shape()) {
            return Err(mismatch("state", port, value.dtype(), value.shape()));
        }
        self.states[number].copy_from_slice(value.bytes());
        Ok(())
    }

    /// Calls the model's first entry.
    pub fn run(&mut self, inputs: &[TensorRef<'_>]) -> Result<Vec<Tensor>, Error> {
        self.call(0, inputs, &[], None)
    }

    /// Calls an entry. `dims` gives dimensions by name that the inputs' shapes do not: those that
    /// occur in expressions only.
    pub fn call(
        &mut self,
        entry: usize,
        inputs: &[TensorRef<'_>],
        dims: &[(&str, i64)],
        trace: Option<Trace<'_>>,
    ) -> Result<Vec<Tensor>, Error> {
        let mut outputs = Vec::new();
        self.call_into(entry, inputs, dims, trace, &mut outputs)?;
        Ok(outputs)
    }

    /// The same into tensors of an earlier call, whose memory is used again where it is large enough:
    /// neither asked for nor cleared each time. On failure they hold anything.
    pub fn call_into(
        &mut self,
        entry: usize,
        inputs: &[TensorRef<'_>],
        dims: &[(&str, i64)],
        trace: Option<Trace<'_>>,
        outputs: &mut Vec<Tensor>,
    ) -> Result<(), Error> {
        let model = self.model.clone();
        let e = get_entry(&model, entry)?;
        let dims = bind(e, inputs, dims)?;
        let needs = self.plan(entry, &dims)?;
        for ((port, t), expected) in e.inputs.iter().zip(inputs).zip(&needs.inputs) {
            if t.shape() != expected {
                let (found, expected) = (type_text(t.dtype(), t.shape()), type_text(port.dtype, expected));
                let name = &port.name;
                return Err(Error::Input(format!("input \"{name}\": found {found}, expected {expected}")));
            }
        }
        if self.arena.len() < usize::try_from(needs.arena_bytes).unwrap_or(usize::MAX) {
            // The old one goes first, so that both need not fit at once.
            self.arena = allocate(0, "the arena")?;
            self.arena = allocate(needs.arena_bytes, "the arena")?;
        }
        make_room(outputs, e, &needs)?;
        self.execute(&model, e, inputs, &dims, outputs, trace)
    }

    /// What a call of an entry with these dimensions (in the order of [`Entry::dims`]) needs.
    pub fn plan(&mut self, entry: usize, dims: &[i64]) -> Result<Needs, Error> {
        let workers = worker_count(&*self.executor);
        if let Some((e, d, w, needs)) = &self.planned
            && (*e, d.as_slice(), *w) == (entry, dims, workers)
        {
            return Ok(needs.clone());
        }
        let e = get_entry(&self.model, entry)?;
        if dims.len() != e.dims.len() {
            let (found, expected) = (dims.len(), e.dims.len());
            return Err(Error::Input(format!("found {found} dimensions, expected {expected}")));
        }
        let mut input_dims = vec![0i64; e.inputs.iter().map(|p| p.shape.len()).sum()];
        let mut output_dims = vec![0i64; e.outputs.iter().map(|p| p.shape.len()).sum()];
        let mut plan = Plan {
            dims: dims.as_ptr(),
            workers,
            variant: 0,
            arena_bytes: 0,
            input_dims: input_dims.as_mut_ptr(),
            output_dims: output_dims.as_mut_ptr(),
            status: Status::default(),
        };
        // SAFETY: the model's maker vouches for the code; the arrays are as long as the ABI wants.
        let answer = unsafe { (e.plan)(&mut plan) };
        if answer != code::OK {
            return Err(self.failure(e, answer, plan.status));
        }
        let needs = Needs {
            arena_bytes: plan.arena_bytes,
            inputs: split(&e.inputs, &input_dims)?,
            outputs: split(&e.outputs, &output_dims)?,
        };
        self.planned = Some((entry, dims.to_vec(), workers, needs.clone()));
        Ok(needs)
    }

    fn execute(
        &mut self,
        model: &Model,
        e: &Entry,
        inputs: &[TensorRef<'_>],
        dims: &[i64],
        outputs: &mut [Tensor],
        trace: Option<Trace<'_>>,
    ) -> Result<(), Error> {
        let mut output_dims: Vec<i64> = outputs.iter().flat_map(|t| t.shape()).map(|d| *d as i64).collect();
        self.texts.begin();
        let mut number = |text: &String| self.texts.number_of(text);
        let texts = inputs.iter().filter_map(TensorRef::as_texts);
        // In the order of the inputs that are texts, for as long as the call.
        let numbers: Vec<Vec<i64>> = texts.map(|all| all.iter().map(&mut number).collect()).collect();
        let mut numbered = numbers.iter();
        let pointer = |t: &TensorRef<'_>| match t.as_texts().and_then(|_| numbered.next()) {
            Some(numbers) => numbers.as_ptr().cast(),
            None => t.bytes().as_ptr(),
        };
        let input_ptrs: Vec<*const u8> = inputs.iter().map(pointer).collect();
        let pointer = |(t, p): (&mut Tensor, &Port)| {
            if p.unbounded { core::ptr::null_mut() } else { t.memory().as_mut_ptr() }
        };
        let output_ptrs: Vec<*mut u8> = outputs.iter_mut().zip(&e.outputs).map(pointer).collect();
        let state_ptrs: Vec<*mut u8> = self.states.iter_mut().map(|s| s.as_mut_ptr()).collect();
        let executor = self.executor.clone();
        let workers = worker_count(&*executor);
        let traced = trace.is_some();
        self.slots.resize_with(e.slots, || None);
        let mut host = Host {
            executor: &*executor,
            trace,
            slots: &mut self.slots,
            texts: &mut self.texts,
            library: &self.library,
            failure: String::new(),
        };
        let mut call = Call {
            weights: model.weights().as_ptr(),
            arena: self.arena.as_mut_ptr(),
            inputs: input_ptrs.as_ptr(),
            outputs: output_ptrs.as_ptr(),
            output_dims: output_dims.as_mut_ptr(),
            states: state_ptrs.as_ptr(),
            dims: dims.as_ptr(),
            workers,
            variant: 0,
            host: (&raw mut host).cast(),
            parallel_for: (workers > 1).then_some(executor::parallel_for as abi::ParallelForFn),
            alloc: (e.slots > 0).then_some(alloc_slot as abi::AllocFn),
            host_op: Some(call_host_op as abi::HostFn),
            trace: traced.then_some(trace_step as abi::TraceFn),
            status: Status::default(),
        };
        // SAFETY: the model's maker vouches for the code. Inputs and outputs have the sizes that the
        // plan gave for these dimensions, the arena has those for these dimensions and workers, the
        // weights are the image's, and all are alive and borrowed for the call.
        let answer = unsafe { (e.run)(&mut call) };
        let failure = host.failure;
        if answer == code::HOST {
            let node = self.model.node(call.status.node as u64);
            return Err(Error::Call { code: answer, message: format!("node \"{node}\": {failure}") });
        }
        if answer != code::OK {
            return Err(self.failure(e, answer, call.status));
        }
        let shapes = split(&e.outputs, &output_dims)?;
        for (i, ((t, shape), port)) in outputs.iter_mut().zip(&shapes).zip(&e.outputs).enumerate() {
            let memory = self.slots.get_mut(i).and_then(Option::take);
            finish_output(t, shape, port, memory)?;
            if port.dtype == DType::Text && !t.take_texts(|n| self.texts.string_of(n)) {
                let message = format!("output \"{}\" has an element that is no text", port.name);
                return Err(Error::Call { code: code::HOST, message });
            }
        }
        Ok(())
    }

    fn failure(&self, e: &Entry, answer: i32, s: Status) -> Error {
        let (found, expected) = (s.found, s.expected);
        let message = match answer {
            code::BAD_DIM => {
                let name = e.dims.get(s.node as usize).map_or("?", String::as_str);
                return Error::Input(format!(
                    "dimension \"{name}\" is {found}: it must be from 0 to {expected}"
                ));
            }
            code::TOO_LARGE => String::from("these dimensions make a tensor larger than the address space"),
            code::OUT_OF_RANGE => {
                let node = self.model.node(s.node as u64);
                format!("node \"{node}\": a value is out of range: found {found}, expected {expected}")
            }
            code::NO_MEMORY => {
                format!("there is no memory for {found} bytes whose number depends on the data")
            }
            other => format!("the model answered the unknown code {other}"),
        };
        Error::Call { code: answer, message }
    }
}

/// What the callbacks reach. The executor comes first: `host` is read as a pointer to it.
#[repr(C)]
struct Host<'e, 't> {
    executor: &'e dyn Executor,
    trace: Option<Trace<'t>>,
    slots: &'e mut [Option<Buffer>],
    texts: &'e mut Texts,
    library: &'e Library,
    /// What a host op complains of.
    failure: String,
}

/// Memory that a slot has already is used again where it is enough.
///
/// # Safety
/// `host` is the [`Host`] of the call, and nothing else uses its `slots` meanwhile.
unsafe extern "C" fn alloc_slot(host: *mut c_void, slot: u32, bytes: u64) -> *mut u8 {
    // SAFETY: the caller's promise; only this field is borrowed.
    let slots = unsafe { &mut *(*host.cast::<Host<'_, '_>>()).slots };
    let Ok(bytes) = usize::try_from(bytes) else { return core::ptr::null_mut() };
    let Some(slot) = slots.get_mut(slot as usize) else { return core::ptr::null_mut() };
    if slot.as_ref().is_none_or(|b| b.len() < bytes) {
        // The old one goes first, so that both need not fit at once.
        *slot = None;
        *slot = Buffer::zeroed(bytes);
    }
    slot.as_mut().map_or(core::ptr::null_mut(), |b| b.as_mut_ptr())
}

/// # Safety
/// `host` is the [`Host`] of the call, nothing else uses its texts meanwhile, and `frame` is that of a call of
/// the function of that number.
unsafe extern "C" fn call_host_op(host: *mut c_void, op: u32, frame: *const u64) -> i32 {
    // SAFETY: the caller's promise.
    let host = unsafe { &mut *host.cast::<Host<'_, '_>>() };
    // SAFETY: the caller's promise.
    match unsafe { host.library.call(op, frame, host.texts) } {
        Ok(()) => 0,
        Err(message) => {
            host.failure = message;
            1
        }
    }
}

/// # Safety
/// `host` is the [`Host`] of the call, and nothing else uses its `trace` meanwhile.
unsafe extern "C" fn trace_step(host: *mut c_void, step: u32, done: u32) {
    // SAFETY: the caller's promise; only this field is borrowed.
    if let Some(trace) = unsafe { &mut (*host.cast::<Host<'_, '_>>()).trace } {
        trace(step, done != 0);
    }
}

/// Makes the tensors ones for an entry's outputs, of the memory that they have where it is enough.
fn make_room(outputs: &mut Vec<Tensor>, e: &Entry, needs: &Needs) -> Result<(), Error> {
    outputs.truncate(e.outputs.len());
    for (i, (port, shape)) in e.outputs.iter().zip(&needs.outputs).enumerate() {
        let Some(t) = outputs.get_mut(i) else {
            outputs.push(Tensor::zeros(port.dtype, shape)?);
            continue;
        };
        // The memory of an output without bound is asked for during the call.
        if port.unbounded || t.dtype() != port.dtype || !t.reshape_within(shape) {
            *t = Tensor::zeros(port.dtype, shape)?;
        }
    }
    Ok(())
}

/// Gives an output the shape and memory that it turned out to have.
fn finish_output(t: &mut Tensor, shape: &[usize], port: &Port, memory: Option<Buffer>) -> Result<(), Error> {
    if let Some(memory) = memory {
        if let Some(whole) = Tensor::from_buffer(port.dtype, shape, memory) {
            *t = whole;
            return Ok(());
        }
    } else if t.reshape_within(shape) {
        return Ok(());
    }
    let message = format!("output \"{}\" is larger than the memory for it", port.name);
    Err(Error::Call { code: code::TOO_LARGE, message })
}

fn get_entry(model: &Model, entry: usize) -> Result<&Entry, Error> {
    model.entries().get(entry).ok_or_else(|| Error::Input(format!("the model has no entry number {entry}")))
}

fn worker_count(executor: &dyn Executor) -> u32 {
    u32::try_from(executor.workers()).unwrap_or(u32::MAX).max(1)
}

fn allocate(bytes: u64, what: &'static str) -> Result<Buffer, Error> {
    let memory = usize::try_from(bytes).ok().and_then(Buffer::zeroed);
    memory.ok_or(Error::Memory { what, bytes })
}

/// Cuts the extents of all ports into shapes.
fn split(ports: &[Port], extents: &[i64]) -> Result<Vec<Vec<usize>>, Error> {
    let mut rest = extents.iter();
    let shape = |p: &Port| rest.by_ref().take(p.shape.len()).map(|d| usize::try_from(*d).ok()).collect();
    let shapes: Option<Vec<Vec<usize>>> = ports.iter().map(shape).collect();
    shapes.ok_or_else(|| Error::Input(String::from("these dimensions make a tensor with a negative extent")))
}

fn mismatch(what: &str, port: &Port, dtype: DType, shape: &[usize]) -> Error {
    let found = type_text(dtype, shape);
    Error::Input(format!("{what} \"{}\": found {found}, expected {port}", port.name))
}

/// Checks the inputs against an entry's ports, and binds its dimensions from their shapes and from
/// `given`.
pub fn bind(e: &Entry, inputs: &[TensorRef<'_>], given: &[(&str, i64)]) -> Result<Vec<i64>, Error> {
    if inputs.len() != e.inputs.len() {
        let names: Vec<&str> = e.inputs.iter().map(|p| p.name.as_str()).collect();
        let (found, expected, names) = (inputs.len(), e.inputs.len(), names.join(", "));
        return Err(Error::Input(format!("found {found} inputs, expected {expected} ({names})")));
    }
    let mut dims: Vec<Option<i64>> = vec![None; e.dims.len()];
    for (name, value) in given {
        let known = e.dims.iter().position(|d| d == name);
        let number = known.ok_or_else(|| {
            Error::Input(format!("there is no dimension \"{name}\"; there are: {}", e.dims.join(", ")))
        })?;
        dims[number] = Some(*value);
    }
    for (port, t) in e.inputs.iter().zip(inputs) {
        if !port.accepts(t.dtype(), t.shape()) {
            return Err(mismatch("input", port, t.dtype(), t.shape()));
        }
        for (d, n) in port.shape.iter().zip(t.shape()) {
            let Some(number) = d.symbol else { continue };
            let found = *n as i64;
            let expected = *dims[number].get_or_insert(found);
            if found != expected {
                let (name, text) = (&port.name, &d.text);
                let ty = type_text(t.dtype(), t.shape());
                return Err(Error::Input(format!(
                    "input \"{name}\": found {ty}, expected {port}: \"{text}\" is {expected} elsewhere"
                )));
            }
        }
    }
    let missing = |(d, name): (&Option<i64>, &String)| {
        d.ok_or_else(|| Error::Input(format!("no input gives the dimension \"{name}\": give it by name")))
    };
    dims.iter().zip(&e.dims).map(missing).collect()
}
