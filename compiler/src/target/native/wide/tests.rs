//! What the emitter must make of contractions, whatever the machine that the tests run on. That its
//! code computes what kernels say is tested with the other emitter's, in [`super::super::tests`].

use super::allocate::Flat;
use super::code::Inst;
use super::*;
use crate::graph::fuel::Fuel;
use crate::pipeline::{self, KERNEL_PASSES};
use crate::target::native::tests::operations::operation_kernel;
use burin_ir::graph;
use burin_ir::loops::Kernel;
use burin_ir::{DType, ScalarOp};
use regalloc2::{Block, Edit, InstOrEdit};

/// The kernels of a graph, as they are scheduled for AVX2.
fn kernels(text: &str) -> Vec<Kernel> {
    let target = TargetSpec::new(Some("x86_64-unknown-linux-gnu"), Some("x86-64-v3")).expect("a target");
    let mut graph = graph::parse(text).expect("a graph");
    let fuel = Fuel::unlimited();
    let made = pipeline::compile(&mut graph, &target.machine(), fuel, &mut |_, _| ()).expect("compiles");
    made.program.kernels.into_iter().collect()
}

/// Moves in the blocks that hold multiply-adds, and how many of those there are.
fn moves_beside_products(kernel: &Kernel) -> (usize, usize) {
    let code = lower::lower(kernel, Level::Avx2).expect("is taken");
    let flat = Flat::new(&code);
    let registers = flat.allocate().expect("has registers");
    let (mut moves, mut products) = (0, 0);
    for (i, block) in code.blocks.iter().enumerate() {
        let here = block.insts.iter().filter(|i| matches!(i, Inst::MulAdd { .. })).count();
        // Fewer are a bias or an epilogue.
        if here < 4 {
            continue;
        }
        products += here;
        for item in registers.block_insts_and_edits(&flat, Block::new(i)) {
            if let InstOrEdit::Edit(Edit::Move { from, to }) = item {
                moves += usize::from(from != to);
            }
        }
    }
    (moves, products)
}

#[test]
fn products_keep_their_sums_in_registers() {
    for text in [
        "graph @g(%a: f32[64, 96], %b: f32[96, 80]) {\n  %y = MatMul(%a, %b)\n  return %y\n}",
        "graph @g(%a: f32[7, 131], %b: f32[131, 41]) {\n  %y = MatMul(%a, %b)\n  %z = Relu(%y)\n  return %z\n}",
        "graph @g(%a: f32[m, 96], %b: f32[96, 80]) {\n  %y = MatMul(%a, %b)\n  return %y\n}",
        "graph @g(%x: f32[1, 32, 14, 14], %w: f32[64, 32, 1, 1]) {\n  %y = Conv(%x, %w)\n  return %y\n}",
        "graph @g(%x: f32[1, 8, 20, 20], %w: f32[16, 8, 3, 3]) {\n  %y = Conv(%x, %w)\n  return %y\n}",
        "graph @g(%a: f16[64, 96], %b: f16[96, 80]) {\n  %y = MatMul(%a, %b)\n  return %y\n}",
        "graph @g(%a: f64[64, 96], %b: f64[96, 80]) {\n  %y = MatMul(%a, %b)\n  return %y\n}",
        "graph @g(%x: f16[1, 8, 20, 20], %w: f16[16, 8, 3, 3]) {\n  %y = Conv(%x, %w)\n  return %y\n}",
    ] {
        let products =
            kernels(text).iter().map(moves_beside_products).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!(products.0, 0, "moves among {} products of {text}", products.1);
        assert!(products.1 >= 4, "{text}");
    }
}

/// Branches behind each other spill to the same places: each of these cosines has one for large arguments.
#[test]
fn what_is_spilled_shares_places() {
    let text = "graph @g(%x: f32[6, 6, 1, 2, 2, 17]) {\n  %a = WinogradOutput(%x) {tile = 4, shape = [7, 5]}\n  \
                %y = Cos(%a)\n  return %y\n}";
    for kernel in kernels(text) {
        let code = lower::lower(&kernel, Level::Avx2).expect("is taken");
        let words = Flat::new(&code).allocate().expect("has registers").num_spillslots;
        assert!(words * 8 < 64 << 10, "{} needs {words} words", kernel.name);
    }
}

/// Every operation that schedules are told of, on every type.
#[test]
fn what_there_is_is_taken() {
    let casts = DType::of_kernels().flat_map(|t| [ScalarOp::Cast(t), ScalarOp::Bitcast(t)]);
    let operations: Vec<ScalarOp> = ScalarOp::ALL.iter().copied().chain(casts).collect();
    for level in [Level::Avx2, Level::Avx512, Level::Avx512Vnni] {
        for (ty, op) in DType::of_kernels().flat_map(|t| operations.iter().map(move |o| (t, *o))) {
            let mut args = vec![ty; op.arity()];
            if op == ScalarOp::Select {
                args[0] = DType::Bool;
            }
            if !lower::has(op, ty) || op.result_type(&args).is_err() {
                continue;
            }
            for lanes in [1, 2, 4, 8, 16].into_iter().filter(|l| *l <= level.vector_bits() as u16 / 32) {
                let mut kernel = operation_kernel(op, &args, lanes, lanes.into());
                KERNEL_PASSES.iter().for_each(|pass| (pass.run)(&mut kernel));
                let code = lower::lower(&kernel, level);
                let code = code.unwrap_or_else(|e| panic!("{op} of {ty}x{lanes} for {level:?}: {e}"));
                assemble("f", &code).unwrap_or_else(|e| panic!("{op} of {ty}x{lanes} for {level:?}: {e}"));
            }
        }
    }
}

#[test]
fn what_is_declined_is_named() {
    let kernels = kernels("graph @g(%a: i64[64], %b: i64[64]) {\n  %y = Div(%a, %b)\n  return %y\n}");
    assert_eq!(lower::lower(&kernels[0], Level::Avx2).expect_err("is declined"), "div of i64");
}
