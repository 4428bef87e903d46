//! The matrix over all op rows: for every sample of every row, what was inferred is what is
//! evaluated, inference with symbolic sizes agrees with inference in numbers, and what is compiled
//! computes what the evaluator does, within the row's bounds: as a program on the loop interpreter,
//! and as native code at every CPU level of this machine. (`samples.rs` has their text form.)

use burin_compiler::graph::Fuel;
use burin_compiler::lower::schedule::Machine;
use burin_compiler::{interpret, pipeline};
use burin_ir::compare::compare;
use burin_ir::graph::Graph;
use burin_ir::graph::eval::eval;
use burin_ir::graph::sample::Sample;
use burin_ir::{Expr, Symbol, Tensor, TensorType};
use burin_runtime::Session;
use burin_tests::native;
use burin_tests::samples::{self, Expected};
use std::collections::BTreeSet;

/// The rows that the compiler refuses, in order.
const REFUSED: &[&str] = &[];

/// The samples that it refuses besides when their sizes are symbols.
const REFUSED_SYMBOLIC: &[&str] = &[];

fn output_types(graph: &Graph) -> Vec<TensorType> {
    graph.outputs().iter().filter_map(|v| graph.tensor_type(*v).cloned()).collect()
}

#[test]
fn inferred_types_are_the_evaluated_ones() {
    for (text, sample) in samples::all() {
        let graph = sample.graph().unwrap_or_else(|e| panic!("{text}: {e}"));
        let found = eval(&graph, &sample.inputs(3), &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
        for (ty, t) in output_types(&graph).iter().zip(&found.outputs) {
            let fits = |(d, n): (&Expr, &usize)| d.as_const().is_none_or(|d| d == *n as i64);
            assert_eq!(ty.dtype, t.dtype(), "{text}");
            assert_eq!(ty.rank(), t.rank(), "{text}");
            assert!(ty.shape.iter().zip(t.shape()).all(fits), "{text}: inferred {ty}, evaluated {t:?}");
        }
    }
}

#[test]
fn known_contents_are_the_evaluated_ones() {
    for (text, sample) in samples::all() {
        let graph = sample.graph().unwrap_or_else(|e| panic!("{text}: {e}"));
        let found = eval(&graph, &sample.inputs(3), &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
        for (v, t) in graph.outputs().iter().zip(&found.outputs) {
            let Some(known) = &graph.values[*v].known else { continue };
            let expected: Vec<Expr> = t.to_i64s().into_iter().map(Expr::from).collect();
            assert_eq!(known[..], expected[..], "{text}");
        }
    }
}

#[test]
fn symbolic_inference_agrees_with_numbers() {
    let mut checked = 0;
    for (text, sample) in samples::all() {
        // Some ops need a size to be known; they say so.
        let Ok((symbolic, dims)) = sample.symbolic_graph() else { continue };
        let graph = sample.graph().unwrap_or_else(|e| panic!("{text}: {e}"));
        let value = |s: Symbol| dims.iter().find(|(d, _)| *d == s).map(|(_, n)| *n);
        for (s, ty) in output_types(&symbolic).iter().zip(output_types(&graph)) {
            assert_eq!(s.dtype, ty.dtype, "{text}");
            assert_eq!(s.rank(), ty.rank(), "{text}: {s}, {ty}");
            for (s, d) in s.shape.iter().zip(&ty.shape) {
                // A size that depends on data has a symbol that no input has.
                if s.symbols().iter().all(|s| value(*s).is_some()) {
                    assert_eq!(s.eval(&value), d.as_const(), "{text}: {s} stands for {d}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100, "only {checked} dimensions were checked");
}

/// Why results are not what is expected.
fn disagreement(found: &[Tensor], e: &Expected) -> Result<(), String> {
    if found.len() != e.outputs.len() {
        return Err(format!("{} results, expected {}", found.len(), e.outputs.len()));
    }
    for (i, ((f, x), bound)) in found.iter().zip(&e.outputs).zip(&e.bounds).enumerate() {
        let report = compare(f, x, bound)?;
        if !report.ok() {
            return Err(format!("result {i}: {report}"));
        }
    }
    Ok(())
}

/// The graphs of a sample that compile: with its sizes, and with symbols for them where the op allows
/// it.
fn variants(text: &str, sample: &Sample) -> Result<Vec<(&'static str, Graph)>, String> {
    if REFUSED.contains(&sample.op.name) {
        return Ok(Vec::new());
    }
    let mut graphs = vec![("with its sizes", sample.graph()?)];
    if !REFUSED_SYMBOLIC.contains(&text) {
        graphs.extend(sample.symbolic_graph().ok().map(|(g, _)| ("with symbolic sizes", g)));
    }
    Ok(graphs)
}

/// The machine of the loop interpreter's programs.
fn machine() -> Machine {
    Machine::with_vectors(128, 16)
}

#[test]
fn programs_compute_what_the_evaluator_does() {
    samples::check_all(|text, sample| {
        for (variant, mut graph) in variants(text, sample)? {
            let compiled = pipeline::compile(&mut graph, &machine(), Fuel::unlimited(), &mut |_, _| ());
            let program = compiled.map_err(|e| format!("{variant}: refused: {e}"))?.program;
            for seed in 0..samples::SEEDS {
                let e = samples::expect(sample, seed)?;
                let dims = samples::dims(&graph, &e.inputs)?;
                let found =
                    interpret::run(&program, &dims, &e.inputs).map_err(|e| format!("{variant}: {e}"))?;
                disagreement(&found, &e).map_err(|d| format!("{variant}, seed {seed}: {d}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn native_code_computes_what_the_evaluator_does() {
    let levels = native::levels();
    samples::check_all(|text, sample| {
        let expected = (0..samples::SEEDS).map(|seed| samples::expect(sample, seed));
        let expected = expected.collect::<Result<Vec<_>, _>>()?;
        for (variant, graph) in variants(text, sample)? {
            for target in &levels {
                let place = format!("{variant}, {target:?}");
                let model = native::compile(&graph, target)?.load().map_err(|e| format!("{place}: {e}"))?;
                let mut session = Session::new(&model).map_err(|e| format!("{place}: {e}"))?;
                for (seed, e) in expected.iter().enumerate() {
                    let found = native::run(&mut session, &e.inputs).map_err(|e| format!("{place}: {e}"))?;
                    disagreement(&found, e).map_err(|d| format!("{place}, seed {seed}: {d}"))?;
                }
            }
        }
        Ok(())
    });
}

/// So that no row falls out of the tests above unseen.
#[test]
fn what_is_refused_is_listed() {
    let refuses = |graph: Result<Graph, String>| {
        graph.is_ok_and(|mut g| {
            pipeline::compile(&mut g, &machine(), Fuel::unlimited(), &mut |_, _| ()).is_err()
        })
    };
    let mut rows = BTreeSet::new();
    let mut symbolic = Vec::new();
    for (text, sample) in samples::all() {
        if refuses(sample.graph()) {
            rows.insert(sample.op.name);
        } else if refuses(sample.symbolic_graph().map(|(g, _)| g)) {
            symbolic.push(text);
        }
    }
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), REFUSED);
    assert_eq!(symbolic, REFUSED_SYMBOLIC);
}
