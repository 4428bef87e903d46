//! What the model says of nests whose limits are known.

use super::*;
use crate::graph::Fuel;
use crate::lower::nest::{NestBuffer, Store};
use crate::lower::schedule::{Level, choose};
use crate::packing::PANEL;
use crate::pipeline;
use crate::target::native::levels::TargetSpec;
use burin_ir::loops::Access;
use burin_ir::{DType, Expr, ReduceOp, Symbol, Term};

fn machine(level: &str) -> Machine {
    TargetSpec::new(Some("x86_64-unknown-linux-gnu"), Some(level)).expect("a level").machine()
}

/// The predictions of a graph's kernels.
fn predicted(lines: &[&str], level: &str) -> Vec<Prediction> {
    let text = format!("graph @g({}) {{\n{}\n}}\n", lines[0], lines[1..].join("\n"));
    let mut graph = burin_ir::graph::parse(&text).expect("a graph");
    let lowered = pipeline::compile(&mut graph, &machine(level), Fuel::unlimited(), &mut |_, _| ());
    lowered.expect("it lowers").report.groups.iter().map(|g| g.prediction).collect()
}

/// `[m, k] * [k, n]`, the right one in panels or row-major.
fn product(m: i64, n: i64, k: i64, panels: bool) -> Nest {
    let (i, j, l) = (Symbol::new("i"), Symbol::new("j"), Symbol::new("l"));
    let buffer = |len: i64, access| NestBuffer { dtype: DType::F32, len: len.into(), access, panels: None };
    let a = Term::load(DType::F32, 0, vec![Expr::from(i) * k + Expr::from(l)]);
    let column = |of: Expr| if panels { of.modulo(&PANEL.into()) } else { of };
    let panel = Expr::from(j).floor_div(&PANEL.into()) * (PANEL * k);
    let start = if panels { panel + Expr::from(l) * PANEL } else { Expr::from(l) * n };
    let b = Term::load(DType::F32, 1, vec![start + column(j.into())]);
    let value = Term::reduce(ReduceOp::Sum, vec![(l, k.into())], a * b);
    let mut nest = Nest {
        name: "product".to_owned(),
        axes: vec![(i, m.into()), (j, n.into())],
        buffers: vec![buffer(m * k, Access::Read), buffer(k * n, Access::Read), buffer(m * n, Access::Write)],
        stores: vec![Store { buffer: 2, index: Expr::from(i) * n + Expr::from(j), value }],
    };
    nest.buffers[1].panels = panels.then_some(PANEL * k);
    nest.normalise();
    nest
}

#[test]
fn a_large_product_is_limited_by_its_multiply_adds() {
    for (level, lanes) in [("x86-64-v3", 8), ("x86-64-v4", 16)] {
        let all = predicted(
            &["%x: f32[1024, 1024], %w: f32[1024, 1024]", "%y = MatMul(%x, %w)", "return %y"],
            level,
        );
        let [p] = all[..] else { panic!("{all:?}") };
        assert_eq!((p.limit, p.peak, p.lanes), (Limit::MultiplyAdds, Peak::MultiplyAdds, lanes));
        assert!(p.share > 0.9 && p.share < 1.0, "{p:?}");
        // Both operands and the result at least, which lie beyond both caches.
        assert!(p.beyond_l2 >= 12e6 && p.beyond_l1 > p.beyond_l2, "{p:?}");
    }
}

#[test]
fn rows_that_lie_pages_apart_are_few_in_a_tile() {
    let rows = |k: i64| {
        let nest = product(512, 512, k, true);
        choose(&nest, &machine("x86-64-v4")).tile[0]
    };
    assert!(rows(1024) <= 8, "a page: {} rows", rows(1024));
    assert!(rows(1000) > 8, "no page: {} rows", rows(1000));
}

#[test]
fn a_product_with_a_vector_is_limited_by_memory() {
    let all = predicted(
        &["%x: f32[1, 2048], %w: f32[2048, 2048]", "%y = MatMul(%x, %w)", "return %y"],
        "x86-64-v4",
    );
    let p = all[0];
    assert_eq!((p.limit, p.peak), (Limit::Memory, Peak::Copy), "{p:?}");
    // Each weight once.
    let weights = 4.0 * 2048.0 * 2048.0;
    assert!(p.beyond_l2 >= weights && p.beyond_l2 < 1.1 * weights, "{p:?}");
}

#[test]
fn weights_in_panels_are_as_many_bytes() {
    let machine = machine("x86-64-v4");
    let nest = product(1, 2048, 1024, true);
    let p = predict(&nest, &choose(&nest, &machine), &machine);
    let weights = 4.0 * 2048.0 * 1024.0;
    assert_eq!(p.limit, Limit::Memory, "{p:?}");
    assert!(p.beyond_l2 >= weights && p.beyond_l2 < 1.1 * weights && p.touches == 1.0, "{p:?}");
}

#[test]
fn windows_that_overlap_are_read_once() {
    let lines =
        ["%x: f32[1, 64, 30, 30], %w: f32[64, 1, 3, 3]", "%y = Conv(%x, %w) {group = 64}", "return %y"];
    for p in predicted(&lines, "x86-64-v4") {
        assert!(p.beyond_l1 < 2.0 * 4.0 * 64.0 * 30.0 * 30.0 * 2.0, "{p:?}");
    }
}

#[test]
fn a_pointwise_chain_is_limited_by_memory_unless_it_fits() {
    let chain = |n: usize| {
        let head = format!("%x: f32[{n}], %y: f32[{n}]");
        let lines = [&head[..], "%a = Mul(%x, %y)", "%b = Relu(%a)", "%c = Add(%b, %x)", "return %c"];
        predicted(&lines, "x86-64-v4")[0]
    };
    let p = chain(1 << 22);
    assert_eq!((p.limit, p.peak, p.beyond_l2), (Limit::Memory, Peak::Copy, 3.0 * 4.0 * 4194304.0));
    assert!(p.share > 0.95, "{p:?}");
    let p = chain(1 << 14);
    assert_eq!((p.limit, p.beyond_l2), (Limit::Cache, 0.0), "{p:?}");
    assert_eq!(chain(16).limit, Limit::Call);
}

#[test]
fn functions_are_limited_by_arithmetic_and_a_lone_sum_by_its_latency() {
    let p = predicted(&["%x: f32[65536]", "%y = Tanh(%x)", "return %y"], "x86-64-v4")[0];
    assert_eq!((p.limit, p.peak), (Limit::Arithmetic, Peak::Copy));
    // Four columns: one vector of 128 bits, and no row beside it to compute meanwhile.
    let p =
        predicted(&["%x: f32[1, 4096], %w: f32[4096, 4]", "%y = MatMul(%x, %w)", "return %y"], "x86-64-v4")
            [0];
    assert_eq!(p.limit, Limit::Latency, "{p:?}");
}

#[test]
fn columns_that_are_walked_across_cost_a_line_each() {
    let rows = |n: usize| {
        let lines = [&format!("%x: f32[{n}, {n}]")[..], "%y = Transpose(%x) {perm = [1, 0]}", "return %y"];
        predicted(&lines, "x86-64-v4")[0]
    };
    let p = rows(2048);
    assert!(p.beyond_l1 > 2.0 * 4.0 * 2048.0 * 2048.0, "{p:?}");
}

#[test]
fn the_closed_form_of_blocked_products_agrees_with_the_walk_of_their_loops() {
    let machine = machine("x86-64-v3");
    for (m, n, k) in
        [(2048, 2048, 512), (512, 4096, 1024), (4096, 256, 2048), (96, 8192, 1024), (8192, 64, 64)]
    {
        let nest = product(m, n, k, false);
        let s = choose(&nest, &machine);
        assert_eq!(s.kind, "contract");
        let seen = vectors_of(&nest, &s, &machine);
        // More than schedules count on, so that neither is at the edge.
        let room = seen.l2_bytes;
        let (data, weights, result) = (4 * m * k, 4 * k * n, 4 * m * n);
        let (rows_inside, v) = (s.order.last() != Some(&Level::Tiles(1)), s.tile[1] * i64::from(s.lanes));
        let blocks = s.order.iter().find_map(|l| match l {
            Level::Blocks(0, tiles) => Some((m + s.tile[0] * tiles - 1) / (s.tile[0] * tiles)),
            _ => None,
        });
        let expected = match rows_inside {
            true => Streams { data, weights, tiles: n / v, room }.bytes(blocks.unwrap_or(1)),
            // The weights stay.
            false => data + weights,
        };
        let found = traffic::beyond(&nest, &s, room) - result as f64;
        let ratio = found / expected as f64;
        assert!((0.85..1.15).contains(&ratio), "{m} {n} {k} {s}: {found} for {expected}");
    }
}
