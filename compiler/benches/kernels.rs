//! Times of compiled kernels on this machine, one thread: `cargo bench -p burin-compiler`, with part of a
//! name to choose some. Tests compile this program and run none of it.

use burin_compiler::driver;
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::TensorType;
use burin_runtime::{Session, Tensor, TensorRef};
use divan::Bencher;
use divan::counter::ItemsCount;
use std::fmt;

/// A graph of one kernel, or a few that belong together.
struct Case {
    name: &'static str,
    inputs: &'static str,
    /// Shapes of the constants `%w0`, `%w1` and so on.
    weights: &'static [&'static [usize]],
    lines: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "product_384",
        inputs: "%x: f32[384, 384]",
        weights: &[&[384, 384]],
        lines: "%y = MatMul(%x, %w0)",
    },
    Case {
        name: "conv_3x3",
        inputs: "%x: f32[1, 64, 58, 58]",
        weights: &[&[64, 64, 3, 3]],
        lines: "%y = Conv(%x, %w0)",
    },
    Case {
        name: "conv_depthwise",
        inputs: "%x: f32[1, 144, 58, 58]",
        weights: &[&[144, 1, 3, 3]],
        lines: "%y = Conv(%x, %w0) {group = 144}",
    },
    Case {
        name: "softmax",
        inputs: "%x: f32[1536, 128]",
        weights: &[],
        lines: "%y = Softmax(%x) {axis = -1}",
    },
    Case {
        name: "layer_norm",
        inputs: "%x: f32[128, 384]",
        weights: &[&[384], &[384]],
        lines: "%y = LayerNormalization(%x, %w0, %w1) {axis = -1}",
    },
    Case {
        name: "exp_chain",
        inputs: "%x: f32[262144]",
        weights: &[],
        lines: "%a = Neg(%x)\n%b = Exp(%a)\n%c = Add(%b, %x)\n%y = Exp(%c)",
    },
    Case {
        name: "transpose",
        inputs: "%x: f32[512, 768]",
        weights: &[],
        lines: "%y = Transpose(%x) {perm = [1, 0]}",
    },
];

impl Case {
    /// The graph's text.
    fn text(&self) -> String {
        let mut text = format!("graph @{}({}) {{\n", self.name, self.inputs);
        for (number, shape) in self.weights.iter().enumerate() {
            let values = numbers(shape.iter().product());
            let values: Vec<String> = values.iter().map(f32::to_string).collect();
            text.push_str(&format!("%w{number} = const f32{shape:?} [{}]\n", values.join(", ")));
        }
        text + self.lines + "\nreturn %y\n}\n"
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn main() {
    // Cargo says so where it measures; in tests it is enough that all this compiles.
    if std::env::args().any(|a| a == "--bench") {
        divan::main();
    }
}

/// Calls a compiled graph on the same tensors, results in the same memory.
#[divan::bench(args = CASES)]
fn kernel(bencher: Bencher<'_, '_>, case: &Case) {
    let graph = burin_ir::graph::parse(&case.text()).expect("the graph is well-formed");
    let target = TargetSpec::host().expect("the host is a target");
    let compiled = driver::compile(graph, &target, &mut |_, _| ()).expect("it compiles");
    let flops: i64 = compiled.program.calls.iter().filter_map(|s| s.flops.as_const()).sum();
    let model = compiled.load().expect("it loads");
    let mut session = Session::new(&model).expect("a session");
    let inputs: Vec<Tensor> = compiled.program.inputs.iter().map(|p| tensor(&p.ty)).collect();
    let views: Vec<TensorRef<'_>> = inputs.iter().map(|t| t.view()).collect();
    let mut outputs = Vec::new();
    bencher
        .counter(ItemsCount::new(flops as u64))
        .bench_local(|| session.call_into(0, &views, &[], None, &mut outputs).expect("it runs"));
}

/// An input of constant shape.
fn tensor(ty: &TensorType) -> Tensor {
    let shape: Vec<usize> = ty.shape.iter().filter_map(|n| n.as_const()).map(|n| n as usize).collect();
    Tensor::new(&shape, &numbers(shape.iter().product())).expect("as many numbers as the shape says")
}

/// Numbers around zero, the same each time.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 17) % 1009) as f32 / 504.0 - 1.0).collect()
}
