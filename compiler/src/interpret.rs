//! The interpreter of programs: runs every step by the loop interpreter over memory laid out as
//! planned. It is the oracle between the graph's evaluator and native code: what differs here is
//! wrong in lowering or planning, what differs only beyond it is wrong in code generation.

use crate::program::{Place, Program, Step};
use burin_ir::loops::Access;
use burin_ir::loops::interp::{self, Storage};
use burin_ir::{Expr, Symbol, Tensor};
use std::collections::HashMap;

/// Memory of a call.
struct Memory {
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
    states: Vec<Vec<u8>>,
    weights: Vec<u8>,
    arena: Vec<u8>,
    scratch: Vec<u8>,
    symbols: HashMap<Symbol, i64>,
}

/// Runs a program. `dims` are the values of [`Program::dims`]. The arena is filled with a pattern
/// first, so that nothing that was never written is used unnoticed.
pub fn run(program: &Program, dims: &[i64], inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut symbols: HashMap<Symbol, i64> = program.dims.iter().copied().zip(dims.iter().copied()).collect();
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
    for o in &program.outputs {
        outputs.push(bytes(&(o.ty.elements() * o.ty.dtype.bytes() as i64))?);
    }
    let mut memory = Memory {
        inputs: inputs.iter().map(|t| t.bytes().to_vec()).collect(),
        outputs,
        states,
        weights,
        arena: bytes(&program.arena_bytes)?,
        scratch: bytes(&program.scratch_bytes)?,
        symbols,
    };
    for step in &program.steps {
        memory.step(program, step).map_err(|e| format!("{}: {e}", program.nodes[step.node]))?;
    }
    let mut out = Vec::new();
    for (o, data) in program.outputs.iter().zip(memory.outputs) {
        let shape = o.ty.shape.iter().map(|d| size(value(d, &memory.symbols)?)).collect::<Result<_, _>>()?;
        out.push(Tensor::from_bytes(o.ty.dtype, shape, data.into())?);
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
    fn step(&mut self, program: &Program, step: &Step) -> Result<(), String> {
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

    fn offset(&self, place: &Place) -> Result<usize, String> {
        match place {
            Place::Input(_) | Place::State(_) => Ok(0),
            Place::Weights(at) => Ok(*at as usize),
            Place::Output(_, e) | Place::Arena(e) | Place::Scratch(e) => size(value(e, &self.symbols)?),
        }
    }

    fn region(&mut self, place: &Place) -> &mut Vec<u8> {
        match place {
            Place::Input(i) => &mut self.inputs[*i],
            Place::Output(i, _) => &mut self.outputs[*i],
            Place::State(i) => &mut self.states[*i],
            Place::Weights(_) => &mut self.weights,
            Place::Arena(_) => &mut self.arena,
            Place::Scratch(_) => &mut self.scratch,
        }
    }
}
