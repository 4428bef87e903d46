//! What all passes have in common.

use super::Fuel;
use crate::lower::schedule::Machine;
use crate::pipeline::{self, GRAPH_PASSES};
use burin_ir::graph::eval::eval;
use burin_ir::graph::{Builder, Graph, verify};
use burin_ir::{Attr, DType, Tensor, TensorType};

/// A chain of pointwise ops with a constant at each, and a transpose now and then.
fn chain(n: usize) -> Graph {
    let mut g = Graph::new("chain");
    let mut x = g.add_input("x", TensorType::new(DType::F32, [4, 4]));
    let mut b = Builder::new(&mut g);
    for i in 0..n {
        let next = match i % 5 {
            0 => b.op("Relu", &[x], Vec::new()),
            1 => b.op("Transpose", &[x], vec![("perm", Attr::Ints(vec![1, 0]))]),
            2 => b.op("Identity", &[x], Vec::new()),
            _ => {
                let c = b.constant(Tensor::new(&[4, 4], &[i as f32; 16]));
                b.op("Add", &[x, c], Vec::new())
            }
        };
        x = next.expect("the op fits");
    }
    g.add_output("y", x);
    g
}

/// With cost beyond linear, this would take hours.
#[test]
fn long_chains_pass_in_linear_time() {
    let mut g = chain(50_000);
    for p in GRAPH_PASSES {
        (p.run)(&mut g, &mut Fuel::unlimited()).unwrap_or_else(|e| panic!("{}: {e}", p.name));
    }
    verify(&g).expect("still verifies");
    // Every Identity is gone; nothing else can be.
    assert_eq!(g.regions[g.body].nodes.len(), 40_000);
}

/// Constants that are used twice at each step take 2^n evaluations where they are left lazy.
#[test]
fn shared_constants_are_not_evaluated_exponentially() {
    let mut g = Graph::new("doubling");
    let mut x = {
        let mut b = Builder::new(&mut g);
        let mut x = b.constant(Tensor::new(&[200, 100], &[1.0f32; 20_000]));
        for _ in 0..100 {
            x = b.op("Add", &[x, x], Vec::new()).expect("the op fits");
        }
        x
    };
    x = Builder::new(&mut g).op("Relu", &[x], Vec::new()).expect("the op fits");
    g.add_output("y", x);
    super::fold::run(&mut g, &mut Fuel::unlimited()).expect("folds");
    let c = g.constant(g.outputs()[0]).expect("a constant");
    assert_eq!(c.materialise().expect("evaluates").get(0).as_f64(), 2f64.powi(100));
}

/// A group whose definition uses each value twice is 2^n long where it is walked as a tree.
#[test]
fn values_that_a_group_uses_twice_are_not_lowered_exponentially() {
    let mut g = Graph::new("doubling");
    let mut x = g.add_input("x", TensorType::new(DType::F32, [4]));
    for _ in 0..100 {
        x = Builder::new(&mut g).op("Mul", &[x, x], Vec::new()).expect("the op fits");
    }
    g.add_output("y", x);
    let machine = Machine::with_vectors(256, 16);
    let made = pipeline::compile(&mut g, &machine, Fuel::unlimited(), &mut |_, _| ()).expect("compiles");
    let program = made.program;
    assert!(program.kernels.len() < 4, "{} kernels for a hundred nodes", program.kernels.len());
}

/// Each amount of fuel makes one rewrite more than the one before, and all of them compute the same.
#[test]
fn fuel_allows_so_many_rewrites() {
    let left = |fuel: Fuel| {
        let mut g = chain(20);
        pipeline::optimise(&mut g, fuel, &mut |_, _| ()).expect("passes");
        verify(&g).expect("still verifies");
        let x = Tensor::new(&[4, 4], &[-1.5f32; 16]);
        let y = eval(&g, &[x], &[]).expect("evaluates").outputs.remove(0);
        assert_eq!(y.get(0).as_f64(), 8.0 + 9.0 + 13.0 + 14.0 + 18.0 + 19.0 + 3.0 + 4.0);
        g.regions[g.body].nodes.len()
    };
    // One Identity of every five nodes.
    for n in 0..6 {
        assert_eq!(left(Fuel::limited(n)), 20 - n.min(4) as usize, "with fuel for {n}");
    }
    assert_eq!(left(Fuel::unlimited()), 16);
}
