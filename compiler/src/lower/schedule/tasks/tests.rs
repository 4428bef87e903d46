//! What is divided among threads, and what is not.

use super::*;
use crate::graph::Fuel;
use crate::lower::nest::{NestBuffer, Store};
use crate::lower::schedule::choose;
use crate::pipeline::{self, Lowered};
use crate::target::native::levels::TargetSpec;
use burin_ir::loops::Access;
use burin_ir::{DType, Expr, ReduceOp, Term};

fn machine() -> Machine {
    TargetSpec::new(Some("x86_64-unknown-linux-gnu"), Some("x86-64-v4")).expect("a level").machine()
}

fn lowered(lines: &[&str]) -> Lowered {
    let text = format!("graph @g({}) {{\n{}\n}}\n", lines[0], lines[1..].join("\n"));
    let mut graph = burin_ir::graph::parse(&text).expect("a graph");
    pipeline::compile(&mut graph, &machine(), Fuel::unlimited(), &mut |_, _| ()).expect("it lowers")
}

/// Schedules of a graph's kernels, as they are printed.
fn schedules(lines: &[&str]) -> Vec<String> {
    lowered(lines).report.groups.iter().map(|g| g.schedule.clone()).collect()
}

/// The number of tasks of the last kernel at a size of all dimensions, and whether threads share them.
fn tasks_at(lowered: &Lowered, size: i64) -> (i64, bool) {
    let call = lowered.program.calls.last().expect("a call");
    let lets = &lowered.program.lets;
    fn at(e: &Expr, lets: &[(Symbol, Expr)], size: i64) -> Option<i64> {
        e.eval(&|s| match lets.iter().find(|(name, _)| *name == s) {
            Some((_, value)) => at(value, lets, size),
            None => Some(size),
        })
    }
    let value = |e: &Expr| at(e, lets, size).expect("a size");
    (value(&call.tasks), value(&call.shared) >= 0)
}

/// The schedule of `[rows, k] * [k, columns]`, whose columns are the first axis, as channels are in a graph.
fn product(rows: i64, columns: i64, k: i64) -> Schedule {
    let (j, i, l) = (Symbol::new("j"), Symbol::new("i"), Symbol::new("l"));
    let buffer = |len: i64, access| NestBuffer { dtype: DType::F32, len: len.into(), access, panels: None };
    let a = Term::load(DType::F32, 0, vec![Expr::from(i) * k + Expr::from(l)]);
    let b = Term::load(DType::F32, 1, vec![Expr::from(l) * columns + Expr::from(j)]);
    let value = Term::reduce(ReduceOp::Sum, vec![(l, k.into())], a * b);
    let sizes = [(rows * k, Access::Read), (k * columns, Access::Read), (rows * columns, Access::Write)];
    let mut nest = Nest {
        name: "product".to_owned(),
        axes: vec![(j, columns.into()), (i, rows.into())],
        buffers: sizes.map(|(len, access)| buffer(len, access)).to_vec(),
        stores: vec![Store { buffer: 2, index: Expr::from(i) * columns + Expr::from(j), value }],
    };
    nest.normalise();
    choose(&nest, &machine())
}

#[test]
fn threads_divide_rows_even_where_vectors_are_walked_outside() {
    let s = product(196, 384, 64);
    assert_eq!((s.vector, s.order[0].axis()), (Some(0), 1), "{s}");
}

#[test]
fn weights_beyond_the_second_level_cache_are_read_once() {
    let s = product(49, 2048, 512);
    assert_eq!((s.vector, s.order[0]), (Some(0), Level::Tiles(0)), "{s}");
}

#[test]
fn threads_share_no_kernel_that_is_known_to_be_small() {
    let relu = |n: usize| schedules(&[&format!("%x: f32[{n}, 64]"), "%y = Relu(%x)", "return %y"]).remove(0);
    assert!(relu(8).contains("[|"), "{}", relu(8));
    assert!(!relu(1 << 14).contains("[|"), "{}", relu(1 << 14));
}

#[test]
fn whether_threads_share_a_kernel_follows_from_the_size_of_each_call() {
    let relu = lowered(&["%x: f32[n, 64]", "%y = Relu(%x)", "return %y"]);
    assert!(!tasks_at(&relu, 1).1);
    let (tasks, shared) = tasks_at(&relu, 1 << 16);
    assert!(shared && tasks >= ENOUGH, "{tasks} tasks");
}

#[test]
fn a_batch_of_one_has_tasks() {
    let lines = ["%x: f32[n, 64, 56, 56], %w: f32[64, 64, 3, 3]", "%y = Conv(%x, %w)", "return %y"];
    let (tasks, shared) = tasks_at(&lowered(&lines), 1);
    assert!(shared && tasks >= ENOUGH, "{tasks} tasks");
}

#[test]
fn a_sum_of_everything_is_computed_once() {
    let lines = ["%x: f32[1, 1048576]", "%y = Softmax(%x)", "return %y"];
    let all = schedules(&lines);
    assert!(all.iter().all(|s| s.contains("[|")), "{all:?}");
    // One row for each task.
    let all = schedules(&["%x: f32[4096, 4096]", "%y = Softmax(%x)", "return %y"]);
    assert!(all.iter().all(|s| s.contains("[a |") || s.contains("[a/")), "{all:?}");
}
