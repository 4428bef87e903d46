//! Whole programs: planned and run, with their failures, threads and traces.

use super::*;
use crate::program::{self, Place, Port, Program, Step, Weight};
use crate::target::native::compile;
use crate::target::native::jit::Jit;
use burin_ir::graph::Constant;
use burin_ir::loops::LoopKind;
use burin_ir::{ScalarOp, Tensor, TensorType};
use burin_runtime::abi::{Call, Plan, Status, TaskFn, code};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

fn e(name: &str) -> Expr {
    Expr::named(name)
}

/// `out[i] = x[i] + y[i]`, in parallel, through scratch.
fn add() -> Kernel {
    let buffers = [
        ("x", DType::F32, e("len"), Access::Read),
        ("y", DType::F32, e("len"), Access::Read),
        ("tmp", DType::F32, Expr::ONE, Access::Scratch),
        ("out", DType::F32, e("len"), Access::Write),
    ];
    kernel_of(&buffers, &["len"], |b, ids| {
        b.for_(Symbol::new("i"), e("len"), LoopKind::Parallel, &[], |b, _| {
            let x = b.load(ids[0], e("i"));
            let y = b.load(ids[1], e("i"));
            let sum = b.op(ScalarOp::Add, &[x, y]);
            b.store(ids[2], 0, sum);
            let sum = b.load(ids[2], 0);
            b.store(ids[3], e("i"), sum);
            Vec::new()
        });
    })
}

fn port(name: &str, shape: Vec<Expr>) -> Port {
    Port { name: name.to_owned(), ty: TensorType::new(DType::F32, shape) }
}

/// A chain of `steps` additions of a weight to `x: f32[rows, cols]`, between two arena buffers; the
/// size is a `let`.
pub(super) fn chain(steps: usize, weight: &[f32]) -> Program {
    let at = |i: usize| Place::Arena(e("bytes") * (i % 2) as i64);
    let call = |i: usize| program::Call {
        kernel: 0,
        args: vec![
            if i == 0 { Place::Input(0, Expr::ZERO) } else { at(i - 1) },
            Place::Weights(Expr::from(64)),
            Place::Scratch(Expr::from(4)),
            if i + 1 == steps { Place::Output(0, Expr::ZERO) } else { at(i) },
        ],
        dims: vec![e("total")],
        tasks: e("total"),
        shared: Expr::ZERO,
        scratch: Expr::from(64),
        node: i,
        flops: e("total"),
        bytes: e("total") * 12,
    };
    Program {
        name: "chain".into(),
        dims: vec![Symbol::new("rows")],
        lets: vec![
            (Symbol::new("total"), e("rows") * weight.len() as i64),
            (Symbol::new("bytes"), (e("total") * 4).ceil_div(&Expr::from(64)) * 64),
        ],
        inputs: vec![port("x", vec![e("rows"), weight.len().into()])],
        outputs: vec![port("y", vec![e("rows"), weight.len().into()])],
        weights: vec![Weight {
            name: "w".into(),
            constant: Constant::Data(Tensor::new(&[weight.len()], weight)),
            offset: 64,
            packing: None,
        }],
        weight_bytes: 64 + 4 * weight.len() as u64,
        kernels: vec![add()],
        calls: (0..steps).map(call).collect(),
        blocks: vec![(0..steps).map(Step::Call).collect()],
        arena_bytes: e("bytes") * 2,
        scratch_bytes: Expr::from(8),
        ..Program::default()
    }
}

#[test]
fn a_chain_longer_than_one_function() {
    let target = TargetSpec::host().expect("host");
    let jit = Jit::new(&chain(150, &[0.5, 1.0, 2.0]), &target).expect("compiles");
    let x = Tensor::new(&[1, 3], &[1f32, 2.0, 3.0]);
    let y = jit.run(&[x]).expect("runs");
    assert_eq!(y[0].shape(), [1, 3]);
    assert_eq!(*y[0].values::<f32>(), [76.0, 152.0, 303.0]);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let target = TargetSpec::host().expect("host");
    let jit = Jit::new(&chain(1, &[0.5, 1.0, 2.0]), &target).expect("compiles");
    for (input, what) in [
        (Tensor::new(&[1, 4], &[0f32; 4]), "input \"x\": found f32[1, 4], expected f32[rows, 3]"),
        (Tensor::new(&[3], &[0f32; 3]), "input \"x\": found f32[3], expected f32[rows, 3]"),
        (Tensor::new(&[1, 3], &[0i32; 3]), "input \"x\": found i32[1, 3], expected f32[rows, 3]"),
    ] {
        assert_eq!(jit.run(&[input]).expect_err("refused").to_string(), what);
    }
    assert_eq!(jit.run(&[]).expect_err("refused").to_string(), "found 0 inputs, expected 1");
}

pub(super) fn plan(code: &Mapped, dims: &[i64], workers: u32) -> (i32, Plan, Vec<i64>) {
    let mut out = vec![0; 2];
    let mut plan = Plan {
        dims: dims.as_ptr(),
        workers,
        variant: 0,
        arena_bytes: 0,
        input_dims: null_mut(),
        output_dims: out.as_mut_ptr(),
        status: Status::default(),
    };
    // SAFETY: there is one dimension, and one output of rank 2.
    let answer = unsafe { code.plan(&mut plan) };
    (answer, plan, out)
}

#[test]
fn plans_and_refusals() {
    let target = TargetSpec::host().expect("host");
    let compiled = compile(&chain(2, &[1.0, 2.0, 3.0]), &target).expect("compiles");
    let code = Mapped::new(&compiled, &target).expect("maps");
    let (answer, got, out) = plan(&code, &[10], 3);
    assert_eq!((answer, got.status.code), (code::OK, code::OK));
    assert_eq!((got.arena_bytes, out), (2 * 128 + 3 * 64, vec![10, 3]));
    let (answer, got, _) = plan(&code, &[-4], 1);
    assert_eq!((answer, got.status.found, got.status.node), (code::BAD_DIM, -4, 0));
    let (answer, ..) = plan(&code, &[i64::MAX / 3], 1);
    assert_eq!(answer, code::TOO_LARGE);
    let (answer, ..) = plan(&code, &[i64::MAX / 16], 1);
    assert_eq!(answer, code::TOO_LARGE);
}

/// Asked for every feature, and for more than there are, the code names the same ones as the host
/// side does. Nothing but the question runs, so that the level does not matter.
#[cfg(target_arch = "x86_64")]
#[test]
fn plan_refuses_a_cpu_that_lacks_features() {
    let mut target = TargetSpec::host().expect("host");
    target.features = u64::MAX;
    let compiled = compile(&chain(2, &[1.0, 2.0, 3.0]), &target).expect("compiles");
    let host = TargetSpec::host().expect("host");
    let code = Mapped::new(&compiled, &host).expect("maps");
    let (answer, got, _) = plan(&code, &[10], 1);
    assert_eq!((answer, got.status.code), (code::CPU, code::CPU));
    assert_eq!(got.status.found as u64, !burin_runtime::cpu::host_features());
    assert_eq!(got.arena_bytes, 0);
}

/// Runs tasks backwards, one by one, alternating between two workers, and counts calls.
unsafe extern "C" fn backwards(host: *mut c_void, task: TaskFn, frame: *const u64, tasks: i64) {
    // SAFETY: the host is the test's list of events.
    unsafe { (*host.cast::<Vec<(u32, u32)>>()).push((99, tasks as u32)) };
    for i in (0..tasks).rev() {
        // SAFETY: the compiled code gave the task with its frame.
        unsafe { task(frame, i, i + 1, i % 2) };
    }
}

unsafe extern "C" fn note(host: *mut c_void, step: u32, done: u32) {
    // SAFETY: the host is the test's list of events.
    unsafe { (*host.cast::<Vec<(u32, u32)>>()).push((step, done)) };
}

#[test]
fn callbacks_are_called() {
    let target = TargetSpec::host().expect("host");
    let compiled = compile(&chain(2, &[1.0, 2.0, 3.0]), &target).expect("compiles");
    let code = Mapped::new(&compiled, &target).expect("maps");
    let mut arena = vec![0u64; 64];
    let mut events: Vec<(u32, u32)> = Vec::new();
    let weights = [&[0f32; 16][..], &[1.0, 2.0, 3.0]].concat();
    let (x, mut y) = ([10f32, 20.0, 30.0], [0f32; 3]);
    let (inputs, outputs) = ([x.as_ptr().cast::<u8>()], [y.as_mut_ptr().cast::<u8>()]);
    let mut call = Call {
        weights: weights.as_ptr().cast(),
        arena: arena.as_mut_ptr().cast(),
        inputs: inputs.as_ptr(),
        outputs: outputs.as_ptr(),
        output_dims: null_mut(),
        states: null(),
        dims: [1i64].as_ptr(),
        workers: 2,
        variant: 0,
        host: (&raw mut events).cast(),
        parallel_for: Some(backwards),
        alloc: None,
        host_op: None,
        trace: Some(note),
        status: Status::default(),
    };
    // SAFETY: all buffers are as large as the plan for one row and two workers says.
    assert_eq!(unsafe { code.run(&mut call) }, code::OK);
    assert_eq!(y, [12.0, 24.0, 36.0]);
    assert_eq!(events, [(0, 0), (99, 3), (0, 1), (1, 0), (99, 3), (1, 1)]);
}

#[test]
fn code_is_the_same_for_any_number_of_threads_and_needs_nothing_from_outside() {
    let program = chain(70, &[1.0, 2.0]);
    for target in every_target() {
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a pool");
        let one = pool(1).install(|| compile(&program, &target)).expect("compiles");
        let four = pool(4).install(|| compile(&program, &target)).expect("compiles");
        assert_eq!(one.text, four.text, "{target:?}");
        assert_eq!(one.levels[0].kernels.len(), 1);
    }
}

#[test]
fn unknown_targets_and_levels_are_refused_with_what_there_is() {
    for (triple, level, part) in [
        (Some("nonsense"), None, "aarch64-unknown-linux-gnu"),
        (Some("x86_64-unknown-linux-gnu"), Some("x86-64-v9"), "x86-64-v4 (short: v1 to v4) and native"),
        (Some("aarch64-unknown-linux-gnu"), Some("x86-64-v3"), "there is aarch64"),
        (Some("aarch64-pc-windows-msvc"), None, "Windows on AArch64"),
        (Some("i686-unknown-linux-gnu"), None, "there are x86_64, aarch64 and riscv64"),
    ] {
        let error = TargetSpec::new(triple, level).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}
