//! Walking a kernel and replacing its statements, one after another.
//!
//! The structure (loops, conditionals) stays; each [`Stmt::Let`], [`Stmt::Bind`] and
//! [`Stmt::Store`] is handed to a function that appends what shall stand in its place. Where a
//! value is replaced by another one, all later uses follow.

use burin_ir::loops::{Block, Builder, Carry, Kernel, Loop, Op, Stmt, Val, Yield};
use std::collections::HashMap;

/// Rebuilds a kernel. `replace` gets every statement but loops and conditionals, its operands
/// being already the replaced ones, and appends to the builder what stands in its place (the
/// statement itself where nothing is to change). It returns the value to use instead of the one
/// that the statement defined, if another.
pub fn rewrite(kernel: &mut Kernel, replace: &mut dyn FnMut(&mut Builder<'_>, Stmt) -> Option<Val>) {
    let body = std::mem::take(&mut kernel.body);
    let mut builder = Builder::of(kernel);
    let mut walk = Walk { replaced: HashMap::new(), replace };
    walk.block(&mut builder, body);
    let body = builder.finish();
    kernel.body = body;
}

struct Walk<'r> {
    replaced: HashMap<Val, Val>,
    replace: &'r mut dyn FnMut(&mut Builder<'_>, Stmt) -> Option<Val>,
}

impl Walk<'_> {
    fn now(&self, value: Val) -> Val {
        self.replaced.get(&value).copied().unwrap_or(value)
    }

    fn nested(&mut self, builder: &mut Builder<'_>, block: Block) -> Block {
        builder.nested(|b| self.block(b, block)).0
    }

    fn block(&mut self, builder: &mut Builder<'_>, block: Block) {
        for stmt in block {
            self.stmt(builder, stmt);
        }
    }

    fn stmt(&mut self, builder: &mut Builder<'_>, stmt: Stmt) {
        match stmt {
            Stmt::Let(value, op) => {
                let op = self.operands(op);
                if let Some(other) = (self.replace)(builder, Stmt::Let(value, op)) {
                    self.replaced.insert(value, other);
                }
            }
            Stmt::Bind(symbol, value) => {
                let value = self.now(value);
                (self.replace)(builder, Stmt::Bind(symbol, value));
            }
            Stmt::Store { buffer, index, stride, value } => {
                let value = self.now(value);
                (self.replace)(builder, Stmt::Store { buffer, index, stride, value });
            }
            Stmt::Prefetch { .. } => builder.push(stmt),
            Stmt::For(l) => {
                let body = self.nested(builder, l.body);
                let carries =
                    l.carries.iter().map(|c| Carry { init: self.now(c.init), next: self.now(c.next), ..*c });
                builder.push(Stmt::For(Loop { carries: carries.collect(), body, ..l }));
            }
            Stmt::If { cond, then, otherwise, yields } => {
                let then = self.nested(builder, then);
                let otherwise = self.nested(builder, otherwise);
                let yields = yields.iter().map(|y| Yield {
                    then: self.now(y.then),
                    otherwise: self.now(y.otherwise),
                    ..*y
                });
                let yields = yields.collect();
                builder.push(Stmt::If { cond, then, otherwise, yields });
            }
        }
    }

    fn operands(&self, op: Op) -> Op {
        match op {
            Op::Scalar(op, args) => Op::Scalar(op, args.into_iter().map(|a| self.now(a)).collect()),
            Op::Splat(v) => Op::Splat(self.now(v)),
            Op::Gather(buffer, v) => Op::Gather(buffer, self.now(v)),
            Op::Fold(op, v) => Op::Fold(op, self.now(v)),
            Op::Lane(v, lane) => Op::Lane(self.now(v), lane),
            op @ (Op::Const(_) | Op::Index(_) | Op::Ramp(..) | Op::Load { .. }) => op,
        }
    }
}
