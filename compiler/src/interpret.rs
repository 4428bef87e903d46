//! The interpreter of programs: runs every step by the loop interpreter over memory laid out as
//! planned. It is the oracle between the graph's evaluator and native code: what differs here is
//! wrong in lowering or planning, what differs only beyond it is wrong in code generation.

use crate::program::{Call, HostCall, Loop, Place, Program, Read, Step};
use burin_host::Texts as _;
use burin_ir::loops::Access;
use burin_ir::loops::interp::{self, Storage};
use burin_ir::{DType, Expr, Scalar, Symbol, Tensor};
use std::collections::HashMap;

/// Memory of a call.
struct Memory {
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
    states: Vec<Vec<u8>>,
    weights: Vec<u8>,
    slots: Vec<Vec<u8>>,
    arena: Vec<u8>,
    scratch: Vec<u8>,
    symbols: HashMap<Symbol, i64>,
    texts: Texts,
}

/// The texts of a call: the program's, then those that are met.
struct Texts(Vec<String>);

impl burin_host::Texts for Texts {
    fn text(&self, number: i64) -> Option<&str> {
        usize::try_from(number).ok().and_then(|n| self.0.get(n)).map(String::as_str)
    }

    fn number(&mut self, text: &str) -> i64 {
        let known = self.0.iter().position(|t| t == text);
        known.unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        }) as i64
    }
}

impl Texts {
    /// The bytes of a tensor in a call's memory, where texts have other numbers.
    fn enter(&mut self, t: &Tensor) -> Vec<u8> {
        match t.to_texts() {
            Some(all) => all.iter().flat_map(|text| self.number(text).to_le_bytes()).collect(),
            None => t.bytes().to_vec(),
        }
    }

    /// A tensor of the bytes in a call's memory.
    fn leave(&self, dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Tensor, String> {
        if dtype != DType::Text {
            return Tensor::from_bytes(dtype, shape, bytes.into());
        }
        let numbers = Tensor::from_bytes(DType::I64, shape, bytes.into())?;
        let texts: Option<Vec<&str>> = numbers.to_i64s().into_iter().map(|n| self.text(n)).collect();
        Ok(Tensor::texts(numbers.shape(), &texts.ok_or("an element is the number of no text")?))
    }
}

/// Runs a program. `dims` are the values of [`Program::dims`]. The arena is filled with a pattern
/// first, so that nothing that was never written is used unnoticed.
pub fn run(program: &Program, dims: &[i64], inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut symbols: HashMap<Symbol, i64> = program.dims.iter().copied().zip(dims.iter().copied()).collect();
    symbols.insert(Program::workers(), 1);
    for (s, e) in &program.lets {
        let v = value(e, &symbols)?;
        symbols.insert(*s, v);
    }
    let bytes = |e: &Expr| -> Result<Vec<u8>, String> { Ok(vec![0xA5; size(value(e, &symbols)?)?]) };
    let mut weights = vec![0; size(program.weight_bytes as i64)?];
    for w in &program.weights {
        put(&mut weights, w.offset as usize, w.contents()?.bytes());
    }
    let mut states = Vec::new();
    for (_, w) in &program.states {
        states.push(program.weights[*w].contents()?.bytes().to_vec());
    }
    let mut outputs = Vec::new();
    for (i, o) in program.outputs.iter().enumerate() {
        let needed = if program.unbounded(i) { Expr::ZERO } else { o.ty.bytes() };
        outputs.push(bytes(&needed)?);
    }
    let mut texts = Texts(program.texts.clone());
    let mut memory = Memory {
        inputs: inputs.iter().map(|t| texts.enter(t)).collect(),
        outputs,
        states,
        weights,
        slots: vec![Vec::new(); program.slots],
        arena: bytes(&program.arena_bytes)?,
        scratch: bytes(&program.scratch_bytes)?,
        symbols,
        texts,
    };
    if !program.blocks.is_empty() {
        memory.block(program, 0)?;
    }
    let mut out = Vec::new();
    for (i, o) in program.outputs.iter().enumerate() {
        let from = if program.unbounded(i) { &mut memory.slots } else { &mut memory.outputs };
        let mut data = std::mem::take(&mut from[i]);
        // A slot may be larger than what it holds in the end.
        data.truncate(size(value(&o.ty.bytes(), &memory.symbols)?)?);
        let shape = o.ty.shape.iter().map(|d| size(value(d, &memory.symbols)?)).collect::<Result<_, _>>()?;
        out.push(memory.texts.leave(o.ty.dtype, shape, data)?);
    }
    Ok(out)
}

fn value(e: &Expr, symbols: &HashMap<Symbol, i64>) -> Result<i64, String> {
    e.eval(&|s| symbols.get(&s).copied()).ok_or_else(|| format!("{e} has no value"))
}

fn size(v: i64) -> Result<usize, String> {
    usize::try_from(v).map_err(|_| format!("a size is {v}"))
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Memory {
    fn block(&mut self, program: &Program, block: usize) -> Result<(), String> {
        program.blocks[block].iter().try_for_each(|s| self.step(program, s))
    }

    fn step(&mut self, program: &Program, step: &Step) -> Result<(), String> {
        match step {
            Step::Call(number) => {
                let call = &program.calls[*number];
                self.call(program, call).map_err(|e| format!("{}: {e}", program.nodes[call.node]))?;
            }
            Step::Host(number) => {
                let call = &program.host_calls[*number];
                self.host(program, call).map_err(|e| format!("{}: {e}", program.nodes[call.node]))?;
            }
            Step::Read(read) => self.read(read)?,
            Step::Let(symbol, e) => {
                self.symbols.insert(*symbol, value(e, &self.symbols)?);
            }
            Step::Check(check) => {
                let found = value(&check.value, &self.symbols)?;
                if found < 0 {
                    let (node, what) = (&program.nodes[check.node], &check.value);
                    return Err(format!("{node}: {what} is {found}, expected 0 or more"));
                }
            }
            Step::Store(e, place, dtype) => {
                let v = value(e, &self.symbols)?;
                let element = Tensor::scalar(*dtype, Scalar::I(v));
                let at = self.offset(place)?;
                let memory = self.region(place);
                if at + dtype.bytes() > memory.len() {
                    return Err(format!("{place:?} does not hold an element"));
                }
                put(memory, at, element.bytes());
            }
            Step::Alloc(slot, bytes) => {
                self.slots[*slot] = vec![0xA5; size(value(bytes, &self.symbols)?)?];
            }
            Step::If { cond, then, otherwise } => {
                let holds = value(cond, &self.symbols)? != 0;
                self.block(program, if holds { *then } else { *otherwise })?;
            }
            Step::Loop(l) => self.repeat(program, l)?,
        }
        Ok(())
    }

    fn repeat(&mut self, program: &Program, l: &Loop) -> Result<(), String> {
        let extent = value(&l.extent, &self.symbols)?;
        for i in 0..extent {
            if l.going.is_some_and(|s| self.symbols.get(&s) == Some(&0)) {
                break;
            }
            self.symbols.insert(l.counter, i);
            self.block(program, l.body)?;
        }
        Ok(())
    }

    fn read(&mut self, read: &Read) -> Result<(), String> {
        let at = self.offset(&read.place)? + read.offset;
        let bytes = self.region(&read.place).get(at..at + read.dtype.bytes());
        let bytes = bytes
            .ok_or_else(|| format!("{:?} does not hold what {} is read from", read.place, read.symbol))?;
        let element = Tensor::from_bytes(read.dtype, vec![], bytes.to_vec().into())?;
        self.symbols.insert(read.symbol, element.to_i64s()[0]);
        Ok(())
    }

    fn call(&mut self, program: &Program, step: &Call) -> Result<(), String> {
        let kernel = &program.kernels[step.kernel];
        let dims = step.dims.iter().map(|d| value(d, &self.symbols)).collect::<Result<Vec<_>, _>>()?;
        let of = |s: Symbol| kernel.dims.iter().position(|d| *d == s).map(|i| dims[i]);
        let mut ranges = Vec::new();
        let mut buffers = Vec::new();
        for (decl, place) in kernel.buffers.values().zip(&step.args) {
            let len = decl.len.eval(&of).ok_or("a buffer's length has no value")?;
            let at = self.offset(place)?;
            let bytes = size(len.max(0))? * decl.dtype.bytes();
            let memory = self.region(place);
            let slice = memory.get(at..at + bytes).ok_or_else(|| {
                format!("{place:?} holds {} bytes, the kernel takes {bytes} from {at}", memory.len())
            })?;
            let shape = vec![bytes / decl.dtype.bytes()];
            buffers.push(Storage::from(&Tensor::from_bytes(decl.dtype, shape, slice.to_vec().into())?));
            ranges.push(at);
        }
        interp::run(kernel, &dims, &mut buffers, None)?;
        for (((decl, place), at), buffer) in kernel.buffers.values().zip(&step.args).zip(ranges).zip(buffers)
        {
            if matches!(decl.access, Access::Write | Access::Update) {
                let t = buffer.to_tensor(&[buffer.len()])?;
                put(self.region(place), at, t.bytes());
            }
        }
        Ok(())
    }

    fn host(&mut self, program: &Program, step: &HostCall) -> Result<(), String> {
        let name = program.host_ops[step.op];
        let function = burin_host::by_name(name).ok_or_else(|| format!("there is no function {name}"))?;
        let kinds: Vec<usize> = function.inputs.iter().chain(function.outputs).map(|k| k.size()).collect();
        let (mut memory, mut ranges) = (Vec::new(), Vec::new());
        for ((place, elements), bytes) in step.args.iter().zip(&kinds) {
            let (at, len) = (self.offset(place)?, size(value(elements, &self.symbols)?)? * bytes);
            let region = self.region(place);
            let held =
                region.get(at..at + len).ok_or_else(|| format!("{place:?} does not hold {len} bytes"))?;
            // As aligned as every element wants it.
            let mut words = vec![0u64; len.div_ceil(8)];
            bytemuck::cast_slice_mut(&mut words)[..len].copy_from_slice(held);
            memory.push(words);
            ranges.push(at..at + len);
        }
        let mut slices: Vec<&mut [u8]> = memory
            .iter_mut()
            .zip(&ranges)
            .map(|(w, r)| &mut bytemuck::cast_slice_mut(w)[..r.len()])
            .collect();
        let mut outputs = slices.split_off(function.inputs.len());
        let inputs: Vec<&[u8]> = slices.iter().map(|s| &**s).collect();
        function.call(&inputs, &mut outputs, &mut self.texts)?;
        let first = function.inputs.len();
        for (((place, _), range), words) in step.args.iter().zip(ranges).zip(memory).skip(first) {
            let n = range.len();
            put(self.region(place), range.start, &bytemuck::cast_slice(&words)[..n]);
        }
        Ok(())
    }

    fn offset(&self, place: &Place) -> Result<usize, String> {
        match place {
            Place::Input(_, e)
            | Place::State(_, e)
            | Place::Weights(e)
            | Place::Output(_, e)
            | Place::Slot(_, e)
            | Place::Arena(e)
            | Place::Scratch(e) => size(value(e, &self.symbols)?),
        }
    }

    fn region(&mut self, place: &Place) -> &mut Vec<u8> {
        match place {
            Place::Input(i, _) => &mut self.inputs[*i],
            Place::Output(i, _) => &mut self.outputs[*i],
            Place::Slot(i, _) => &mut self.slots[*i],
            Place::State(i, _) => &mut self.states[*i],
            Place::Weights(_) => &mut self.weights,
            Place::Arena(_) => &mut self.arena,
            Place::Scratch(_) => &mut self.scratch,
        }
    }
}
