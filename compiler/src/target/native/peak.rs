//! Programs that show what a machine can do: as many multiply-adds as its units take, and a plain copy.
//!
//! They are kernels of the loop language, compiled like any other, so that what they reach is what a
//! kernel could reach. Each runs its work [`REPEATS`] times over, a dimension of the program that is large
//! enough to hide what a call costs. They need no input and leave nothing but their arena.

use crate::driver::{self, CompileError};
use crate::pipeline::KERNEL_PASSES;
use crate::program::{Call, Place, Program, Step};
use crate::target::native::levels::TargetSpec;
use burin_ir::loops::{Access, Buf, BufferDecl, Builder, Kernel, LoopKind, ValType};
use burin_ir::{DType, Expr, ScalarOp, Symbol};
use burin_runtime::Model;
use cranelift_entity::PrimaryMap;

/// The dimension that says how often the work is done.
pub const REPEATS: &str = "repeats";

/// Sums at once: enough for two units of four cycles each, and registers for them everywhere.
const SUMS: usize = 12;
/// Vectors of a turn of a copy.
const VECTORS: i64 = 4;

/// A model that runs [`multiply_adds`] operations for each repeat, in vectors of so many `f32`, in each of so
/// many tasks.
pub fn arithmetic(target: &TargetSpec, lanes: u16, tasks: usize) -> Result<Model, CompileError> {
    let ty = ValType::vector(DType::F32, lanes);
    let len = Expr::from(tasks) * i64::from(lanes);
    let kernel = kernel("multiply_adds", &[("out", len.clone(), Access::Write)], |b, ids| {
        let task = Symbol::new("task");
        b.for_(task, tasks, LoopKind::Parallel, &[], |b, _| {
            let (half, one) = (b.number(ty, 0.5), b.number(ty, 1.0));
            let start: Vec<_> = (0..SUMS).map(|i| b.number(ty, i as f64)).collect();
            let sums = b.for_(Symbol::new("r"), Expr::named(REPEATS), LoopKind::Serial, &start, |b, sums| {
                sums.iter().map(|s| b.op(ScalarOp::MulAdd, &[half, one, *s])).collect()
            });
            let all = sums[1..].iter().fold(sums[0], |a, s| b.op(ScalarOp::Add, &[a, *s]));
            b.store_vector(ids[0], Expr::from(task) * i64::from(lanes), Expr::ONE, all);
            Vec::new()
        });
    });
    let step = call(vec![Place::Arena(Expr::ZERO)], tasks);
    load(kernel, vec![step], len * 4, target)
}

/// Floating-point operations of one repeat of [`arithmetic`].
pub fn multiply_adds(lanes: u16, tasks: usize) -> u64 {
    2 * SUMS as u64 * u64::from(lanes) * tasks as u64
}

/// A model that copies for each repeat, twice: from one buffer to another, and back. The bytes of both
/// together are about as many as asked for; [`copied`] says how many.
pub fn copy(target: &TargetSpec, lanes: u16, bytes: u64, tasks: usize) -> Result<Model, CompileError> {
    let turn = VECTORS * i64::from(lanes);
    let turns = turns(lanes, bytes, tasks);
    let len = Expr::from(turn * turns * tasks as i64);
    let buffers = [("from", len.clone(), Access::Read), ("to", len.clone(), Access::Write)];
    let kernel = kernel("copy", &buffers, |b, ids| {
        let (task, t) = (Symbol::new("task"), Symbol::new("t"));
        b.for_(task, tasks, LoopKind::Parallel, &[], |b, _| {
            b.for_(Symbol::new("r"), Expr::named(REPEATS), LoopKind::Serial, &[], |b, _| {
                b.for_(t, turns, LoopKind::Serial, &[], |b, _| {
                    let start = (Expr::from(task) * turns + Expr::from(t)) * turn;
                    let at = |v: i64| &start + v * i64::from(lanes);
                    let all: Vec<_> =
                        (0..VECTORS).map(|v| b.load_vector(ids[0], at(v), Expr::ONE, lanes)).collect();
                    for (v, value) in (0..).zip(all) {
                        b.store_vector(ids[1], at(v), Expr::ONE, value);
                    }
                    Vec::new()
                });
                Vec::new()
            });
            Vec::new()
        });
    });
    let (first, second) = (Place::Arena(Expr::ZERO), Place::Arena(&len * 4));
    let steps = vec![call(vec![second.clone(), first.clone()], tasks), call(vec![first, second], tasks)];
    load(kernel, steps, len * 8, target)
}

/// Bytes that one repeat of [`copy`] reads and writes.
pub fn copied(lanes: u16, bytes: u64, tasks: usize) -> u64 {
    let one_way = 4 * (VECTORS * i64::from(lanes) * turns(lanes, bytes, tasks)) as u64 * tasks as u64;
    2 * 2 * one_way
}

/// Turns of a task's loop for buffers that hold so many bytes together.
fn turns(lanes: u16, bytes: u64, tasks: usize) -> i64 {
    let turn = 2 * 4 * VECTORS as u64 * u64::from(lanes) * tasks as u64;
    i64::try_from(bytes / turn).unwrap_or(i64::MAX).max(1)
}

fn kernel(
    name: &str,
    buffers: &[(&str, Expr, Access)],
    body: impl FnOnce(&mut Builder<'_>, &[Buf]),
) -> Kernel {
    let mut map = PrimaryMap::new();
    let declare = |(name, len, access): &(&str, Expr, Access)| BufferDecl {
        name: (*name).to_owned(),
        dtype: DType::F32,
        len: len.clone(),
        access: *access,
    };
    let ids: Vec<Buf> = buffers.iter().map(|b| map.push(declare(b))).collect();
    let dims = vec![Symbol::new(REPEATS)];
    let mut kernel =
        Kernel { name: name.to_owned(), dims, buffers: map, values: PrimaryMap::new(), body: Vec::new() };
    let mut builder = Builder::of(&mut kernel);
    body(&mut builder, &ids);
    kernel.body = builder.finish();
    KERNEL_PASSES.iter().for_each(|pass| (pass.run)(&mut kernel));
    kernel
}

fn call(args: Vec<Place>, tasks: usize) -> Call {
    Call {
        kernel: 0,
        args,
        dims: vec![Expr::named(REPEATS)],
        tasks: tasks.into(),
        shared: Expr::ZERO,
        scratch: Expr::ZERO,
        node: 0,
        flops: Expr::ZERO,
        bytes: Expr::ZERO,
    }
}

fn load(kernel: Kernel, calls: Vec<Call>, arena: Expr, target: &TargetSpec) -> Result<Model, CompileError> {
    let program = Program {
        name: kernel.name.clone(),
        dims: vec![Symbol::new(REPEATS)],
        nodes: vec![kernel.name.clone()],
        kernels: vec![kernel],
        blocks: vec![(0..calls.len()).map(Step::Call).collect()],
        calls,
        arena_bytes: arena,
        ..Program::default()
    };
    driver::load(&program, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burin_runtime::Session;

    #[test]
    fn every_width_of_this_machine_runs() {
        let target = TargetSpec::host().expect("the host is a target");
        let bits = target.machine().wide.map_or(target.vector_bits, |w| w.vector_bits).max(32);
        for lanes in [16u16, 8, 4, 1].into_iter().filter(|l| u32::from(*l) * 32 <= bits) {
            for model in [arithmetic(&target, lanes, 2), copy(&target, lanes, 5000, 2)] {
                let model = model.expect("it compiles");
                let mut session = Session::new(&model).expect("a session");
                assert!(session.call(0, &[], &[(REPEATS, 3)], None).expect("it runs").is_empty());
            }
        }
        assert_eq!((multiply_adds(16, 1), copied(16, 4096, 1), copied(4, 1, 1)), (384, 8192, 256));
    }
}
