//! Interleaves independent chains of arithmetic, such as the same function of several vectors.
//!
//! Processors look ahead only so far: one long chain behind another leaves them waiting. Within each
//! run of definitions, the next statement is the first one, in the order given, whose operands are
//! ready by then ([`latency`], two results a cycle); so only as many chains are mixed as it takes to
//! fill the waiting, and registers are not held longer than that. Loads count as ready at once, since
//! they wait for nothing, and constants stand before their first use.
//!
//! What is computed does not change: operations and operands stay, and the order of a run is free.

use burin_ir::ScalarOp;
use burin_ir::loops::{Block, Kernel, Op, Stmt, Val};
use std::collections::HashMap;

/// How far ahead of the first statement left to place a run is searched.
const WINDOW: usize = 400;
/// Results a cycle.
const WIDTH: u32 = 2;

/// Interleaves every run of definitions of a kernel.
pub fn run(kernel: &mut Kernel) {
    let body = std::mem::take(&mut kernel.body);
    kernel.body = block(body);
}

fn block(statements: Block) -> Block {
    let mut out = Vec::with_capacity(statements.len());
    let mut run = Vec::new();
    for mut s in statements {
        match &mut s {
            Stmt::Let(v, op) => {
                run.push((*v, op.clone()));
                continue;
            }
            Stmt::For(l) => l.body = block(std::mem::take(&mut l.body)),
            Stmt::If { then, otherwise, .. } => {
                *then = block(std::mem::take(then));
                *otherwise = block(std::mem::take(otherwise));
            }
            Stmt::Bind(..) | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
        }
        out.extend(ordered(std::mem::take(&mut run)));
        out.push(s);
    }
    out.extend(ordered(run));
    out
}

/// Cycles until a result can be used.
fn latency(op: &Op) -> u32 {
    match op {
        Op::Const(_) | Op::Index(_) | Op::Ramp(..) | Op::Load { .. } | Op::Gather(..) | Op::Splat(_) => 0,
        Op::Scalar(ScalarOp::Div | ScalarOp::Sqrt, _) => 12,
        Op::Scalar(..) => 4,
        Op::Fold(..) | Op::Lane(..) => 12,
    }
}

/// The values that an operation takes.
pub fn operands(op: &Op) -> &[Val] {
    match op {
        Op::Scalar(_, args) => args,
        Op::Splat(v) | Op::Gather(_, v) | Op::Fold(_, v) | Op::Lane(v, _) => std::slice::from_ref(v),
        Op::Const(_) | Op::Index(_) | Op::Ramp(..) | Op::Load { .. } => &[],
    }
}

/// A run of definitions in a better order.
fn ordered(run: Vec<(Val, Op)>) -> Vec<Stmt> {
    // Sums of products are in the best order already: as many sums side by side as registers hold. What
    // converts their operands stays beside them, as loads do.
    let count = |of: &dyn Fn(&Op) -> bool| run.iter().filter(|(_, op)| of(op)).count();
    let products = count(&|op| matches!(op, Op::Scalar(ScalarOp::MulAdd, _)));
    let casts = count(&|op| matches!(op, Op::Scalar(ScalarOp::Cast(_), _)));
    let all = count(&|op| latency(op) > 0) - products;
    let others = if products > 0 { all - casts } else { all };
    if others < 4 || others * 4 < products {
        return run.into_iter().map(|(v, op)| Stmt::Let(v, op)).collect();
    }
    let number: HashMap<Val, usize> = run.iter().enumerate().map(|(i, (v, _))| (*v, i)).collect();
    let of: Vec<Vec<usize>> = run
        .iter()
        .map(|(_, op)| operands(op).iter().filter_map(|v| number.get(v).copied()).collect())
        .collect();
    let is_const = |i: usize| matches!(run[i].1, Op::Const(_));
    // When each is ready, once it is placed.
    let mut ready: Vec<Option<u32>> = vec![None; run.len()];
    let mut order = Vec::with_capacity(run.len());
    let (mut first, mut cycle, mut issued) = (0, 0, 0);
    while first < run.len() {
        if ready[first].is_some() || is_const(first) {
            first += 1;
            continue;
        }
        // The first that can start now, or else the one that can start soonest.
        let mut best = (u32::MAX, first);
        for i in (first..run.len()).take(WINDOW).filter(|i| ready[*i].is_none() && !is_const(*i)) {
            let start = of[i].iter().filter(|o| !is_const(**o)).try_fold(0, |at, o| Some(at.max(ready[*o]?)));
            let Some(start) = start.map(|s| s.max(cycle)) else { continue };
            if start < best.0 {
                best = (start, i);
            }
            if start == cycle {
                break;
            }
        }
        let (start, i) = best;
        if start > cycle {
            (cycle, issued) = (start, 0);
        }
        for o in &of[i] {
            if ready[*o].is_none() {
                ready[*o] = Some(0);
                order.push(*o);
            }
        }
        ready[i] = Some(cycle + latency(&run[i].1));
        order.push(i);
        if latency(&run[i].1) > 0 {
            issued += 1;
            if issued == WIDTH {
                (cycle, issued) = (cycle + 1, 0);
            }
        }
    }
    // Constants that only other runs use.
    order.extend((0..run.len()).filter(|i| ready[*i].is_none()));
    let mut run: Vec<Option<(Val, Op)>> = run.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| run[i].take()).map(|(v, op)| Stmt::Let(v, op)).collect()
}
