//! Reductions: one loop nest for all positions of a tile, each with its accumulator.

use super::outer::{Piece, split_extent};
use super::{Emitter, Number, Position};
use crate::lower::schedule::can_vectorise;
use burin_ir::loops::{Op, Val, ValType};
use burin_ir::scalar::to_bits;
use burin_ir::{DType, Expr, ReduceOp, ScalarOp, Symbol, Term, TermKind};

/// Innermost variables of constant extent are unrolled while the reduction's body stands at most
/// so many times.
const UNROLLED_BODIES: i64 = 256;
/// ... or so many times where it is computed under conditions, each of which makes blocks of code that all
/// values stay alive over ...
const UNROLLED_BRANCHES: i64 = 96;
/// ... and one position's accumulator is updated at most so many times in a row.
const UNROLLED_STEPS: i64 = 27;
/// Sums of squares, and of terms that are no products, are taken in blocks of blocks, of so many
/// terms each, so that errors grow with the logarithm of their number (Higham, Accuracy and
/// Stability of Numerical Algorithms, 4.2). The terms of other products have both signs.
const BLOCKS: [i64; 3] = [512, 64, 8];

/// One turn of a reduction's loop: the new values of the accumulators.
type Turn<'a, E> = &'a mut dyn FnMut(&mut E, &Expr, Vec<Val>) -> Vec<Val>;

/// A reduction being emitted.
struct Reduction<'a> {
    op: ReduceOp,
    vars: &'a [(Symbol, Expr)],
    body: &'a Term,
    dtype: DType,
    /// The variables from this one on are unrolled.
    unrolled: usize,
}

impl Reduction<'_> {
    /// Whether it is a sum of floats that are no products, but for squares.
    fn is_plain_sum(&self) -> bool {
        let product = match self.body.kind() {
            TermKind::Op(ScalarOp::Mul, args) => !is_same(&args[0], &args[1]),
            _ => false,
        };
        self.op == ReduceOp::Sum && self.dtype.is_float() && !product
    }
}

/// Whether two terms load and compute the same.
fn is_same(a: &Term, b: &Term) -> bool {
    match (a.kind(), b.kind()) {
        (TermKind::Load { input: a, index: i }, TermKind::Load { input: b, index: j }) => (a, i) == (b, j),
        (TermKind::Op(a, x), TermKind::Op(b, y)) => a == b && x.iter().zip(y).all(|(x, y)| is_same(x, y)),
        _ => a.key() == b.key(),
    }
}

/// Whether a term, or an operand of it down to that depth, is computed under a condition.
fn has_condition(t: &Term, depth: usize) -> bool {
    match t.kind() {
        TermKind::If { .. } => true,
        TermKind::Op(_, args) => depth > 0 && args.iter().any(|a| has_condition(a, depth - 1)),
        _ => false,
    }
}

impl Emitter<'_> {
    pub(super) fn reduce(
        &mut self,
        op: ReduceOp,
        vars: &[(Symbol, Expr)],
        body: &Term,
        whole: &Term,
        todo: &[Position],
    ) -> Vec<Val> {
        let varies = |p: &Position| p.at.iter().any(|(s, _)| vars.iter().any(|(_, n)| n.mentions(*s)));
        if !todo.iter().any(varies) {
            return self.reduce_over(op, vars, body, whole, todo);
        }
        // Extents that are computed from data may differ from point to point.
        let one = |p: &Position| {
            let vars: Vec<_> = vars.iter().map(|(s, n)| (*s, self.along(n, p).0)).collect();
            self.reduce_over(op, &vars, body, whole, std::slice::from_ref(p))[0]
        };
        todo.iter().map(one).collect()
    }

    /// A reduction over extents that are the same at all positions.
    fn reduce_over(
        &mut self,
        op: ReduceOp,
        vars: &[(Symbol, Expr)],
        body: &Term,
        whole: &Term,
        todo: &[Position],
    ) -> Vec<Val> {
        let symbols = todo.iter().flat_map(|p| p.at.iter()).map(|(_, e)| self.depth_of_expr(e));
        let extents = vars.iter().map(|(_, n)| self.depth_of_expr(n));
        let depth = symbols.chain(extents).max().unwrap_or(0).max(self.floor);
        let depth = depth.max(self.barrier()).max(self.pinned);
        let most = if has_condition(body, 4) { UNROLLED_BRANCHES } else { UNROLLED_BODIES };
        let mut steps = 1;
        let mut unrolled = vars.len();
        while unrolled > 0
            && let Some(n) = vars[unrolled - 1].1.as_const().map(|n| n.saturating_mul(steps))
            && n <= UNROLLED_STEPS
            && n.saturating_mul(todo.len() as i64) <= most
        {
            steps = n;
            unrolled -= 1;
        }
        let r = Reduction { op, vars, body, dtype: whole.dtype(), unrolled };
        self.at_depth(depth, |e| {
            let in_own_vectors = todo.iter().all(|p| p.vector.is_none()) && e.has_own_vectors(&r);
            if in_own_vectors { e.reduce_in_vectors(&r, todo) } else { e.reduce_plainly(&r, todo) }
        })
    }

    /// Whether vectors along the innermost variable pay: they load contiguously and fill.
    fn has_own_vectors(&self, r: &Reduction<'_>) -> bool {
        let lanes = self.own_lanes(r);
        let Some((var, extent)) = r.vars.last() else { return false };
        if lanes < 2 || r.unrolled < r.vars.len() || extent.as_const().is_some_and(|n| n < lanes as i64) {
            return false;
        }
        let (mut contiguous, mut constant) = (false, true);
        super::super::nest::visit(r.body, &mut |t| {
            if let TermKind::Load { index, .. } = t.kind()
                && let Some((step, _)) = index[0].linear_in(*var)
            {
                contiguous |= step == 1;
                constant &= step.as_const().is_some();
            }
        });
        contiguous && constant && can_vectorise(r.body, *var)
    }

    fn own_lanes(&self, r: &Reduction<'_>) -> u16 {
        if r.dtype.bits() > 32 {
            self.schedule.lanes.min(2).max(self.schedule.lanes / 2)
        } else {
            self.schedule.lanes
        }
    }

    fn identity(&mut self, r: &Reduction<'_>, lanes: u16) -> Val {
        let bits = to_bits(r.op.identity(r.dtype), r.dtype);
        self.constant(r.dtype, bits, lanes)
    }

    fn reduce_plainly(&mut self, r: &Reduction<'_>, todo: &[Position]) -> Vec<Val> {
        let init: Vec<Val> = todo.iter().map(|p| self.identity(r, p.vector.map_or(1, |(_, l)| l))).collect();
        self.plain_level(r, 0, todo.to_vec(), init)
    }

    fn plain_level(&mut self, r: &Reduction<'_>, level: usize, at: Vec<Position>, acc: Vec<Val>) -> Vec<Val> {
        let Some((var, extent)) = r.vars.get(level) else {
            return self.accumulate(r, &at, acc);
        };
        if let (Some(n), true) = (extent.as_const(), level >= r.unrolled) {
            return (0..n).fold(acc, |acc, i| {
                let inner = self.with(&at, *var, &i.into(), None);
                let acc = self.plain_level(r, level + 1, inner, acc);
                if self.schedule.kind == "contract" {
                    self.forget_loads();
                }
                acc
            });
        }
        self.in_blocks(r, extent, acc, &mut |e, i, acc| {
            let inner = e.with(&at, *var, i, None);
            e.apart(r, level + 1 < r.unrolled, acc, |e, acc| e.plain_level(r, level + 1, inner, acc))
        })
    }

    /// Lets later terms load again what has been loaded here: where sums fill the registers, what
    /// neighbouring steps share would be spilled.
    fn forget_loads(&mut self) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.numbered.retain(|n, _| !matches!(n, Number::Load(..) | Number::Splat(..)));
            scope.terms.clear();
        }
    }

    /// A loop of a reduction whose every turn adds to the accumulators.
    fn in_blocks(
        &mut self,
        r: &Reduction<'_>,
        count: &Expr,
        acc: Vec<Val>,
        turn: Turn<'_, Self>,
    ) -> Vec<Val> {
        let blocks: &[i64] = match (r.is_plain_sum(), count.as_const()) {
            (false, _) => &[],
            (true, Some(n)) => &BLOCKS[BLOCKS.iter().filter(|b| 2 * **b > n).count()..],
            // Each block takes a loop more, for what is left of it.
            (true, None) => &BLOCKS[1..],
        };
        self.block_level(r, &Expr::ZERO, count, blocks, acc, turn)
    }

    fn block_level(
        &mut self,
        r: &Reduction<'_>,
        from: &Expr,
        count: &Expr,
        blocks: &[i64],
        acc: Vec<Val>,
        turn: Turn<'_, Self>,
    ) -> Vec<Val> {
        let Some((block, smaller)) = blocks.split_first() else {
            return self.repeat(count, &acc, |e, i, acc| turn(e, &(from + &i), acc));
        };
        let whole = count.floor_div(&(*block).into());
        let covered = &whole * *block;
        let acc = self.repeat(&whole, &acc, |e, t, acc| {
            let start = from + &(&t * *block);
            e.apart(r, true, acc, |e, acc| e.block_level(r, &start, &(*block).into(), smaller, acc, turn))
        });
        let rest = count - &covered;
        if rest == 0 {
            return acc;
        }
        let start = from + &covered;
        self.apart(r, true, acc, |e, acc| e.block_level(r, &start, &rest, smaller, acc, turn))
    }

    /// What `part` adds up, begun anew and added to the accumulators at once, if the reduction is a
    /// sum that is taken in blocks and `apart`; else accumulated on.
    fn apart(
        &mut self,
        r: &Reduction<'_>,
        apart: bool,
        acc: Vec<Val>,
        part: impl FnOnce(&mut Self, Vec<Val>) -> Vec<Val>,
    ) -> Vec<Val> {
        if !apart || !r.is_plain_sum() {
            return part(self, acc);
        }
        let zeros = acc.iter().map(|v| self.identity(r, self.kernel.values[*v].lanes)).collect();
        let parts = part(self, zeros);
        acc.iter().zip(parts).map(|(a, b)| self.op(r.op.combine(), &[*a, b])).collect()
    }

    fn with(&mut self, at: &[Position], var: Symbol, e: &Expr, vector: Option<u16>) -> Vec<Position> {
        at.iter()
            .map(|p| {
                let mut inner = p.at.as_ref().clone();
                inner.push((var, e.clone()));
                self.position(inner, vector.map(|l| (var, l)).or(p.vector))
            })
            .collect()
    }

    /// One step: combines the body at each position into its accumulator; a product into a sum as
    /// a multiply-add.
    fn accumulate(&mut self, r: &Reduction<'_>, at: &[Position], acc: Vec<Val>) -> Vec<Val> {
        if let (ReduceOp::Sum, TermKind::Op(product, args)) = (r.op, r.body.kind())
            && let Some(multiply_add) = product.accumulating()
        {
            let factors: Vec<Vec<Val>> = args.iter().map(|a| self.terms(a, at)).collect();
            let mut sums = acc.clone();
            for i in self.by_splat(&factors[0], &factors[factors.len() - 1]) {
                let factors = factors.iter().map(|f| f[i]).collect();
                sums[i] = self.multiply_add(multiply_add, factors, acc[i]);
            }
            return sums;
        }
        let values = self.terms(r.body, at);
        (0..acc.len()).map(|i| self.op(r.op.combine(), &[acc[i], values[i]])).collect()
    }

    /// The order of products in which those that share a factor in all lanes follow each other: then
    /// one register holds those factors in turn.
    fn by_splat(&self, a: &[Val], b: &[Val]) -> Vec<usize> {
        let scalar = |v: Val| (self.kernel.values[v].lanes == 1).then_some(v);
        let mut order: Vec<usize> = (0..a.len()).collect();
        order.sort_by_key(|i| scalar(a[*i]).or(scalar(b[*i])));
        order
    }

    /// The factors' product, added to a sum. A factor that is the same in all lanes stands first, if either
    /// may: where the instruction overwrites its first operand, that is the one that the next row does not
    /// need.
    fn multiply_add(&mut self, op: ScalarOp, mut factors: Vec<Val>, sum: Val) -> Val {
        if op == ScalarOp::MulAdd {
            factors.sort_by_key(|v| self.kernel.values[*v].lanes);
        }
        factors.push(sum);
        self.op(op, &factors)
    }

    /// Accumulates in vectors along the innermost variable, and the rest of it in a scalar; then
    /// folds. The accumulators of a position are `unroll` vectors and one scalar.
    fn reduce_in_vectors(&mut self, r: &Reduction<'_>, todo: &[Position]) -> Vec<Val> {
        let lanes = self.own_lanes(r);
        let extent = r.vars[r.vars.len() - 1].1.clone();
        let room = extent.as_const().map_or(i64::MAX, |n| n / lanes as i64);
        let unroll = self.schedule.reduce_unroll.min(room).max(1);
        let mut init = Vec::new();
        for _ in todo {
            for _ in 0..unroll {
                init.push(self.identity(r, lanes));
            }
            init.push(self.identity(r, 1));
        }
        let acc = self.vector_level(r, 0, todo.to_vec(), init, (lanes, unroll));
        let per = unroll as usize + 1;
        acc.chunks(per)
            .map(|acc| {
                let (vectors, rest) = acc.split_at(per - 1);
                let all = vectors[1..].iter().fold(vectors[0], |a, b| self.op(r.op.combine(), &[a, *b]));
                let folded = self.value(ValType::scalar(r.dtype));
                self.push(burin_ir::loops::Stmt::Let(folded, Op::Fold(r.op, all)));
                self.op(r.op.combine(), &[folded, rest[0]])
            })
            .collect()
    }

    fn vector_level(
        &mut self,
        r: &Reduction<'_>,
        level: usize,
        at: Vec<Position>,
        acc: Vec<Val>,
        (lanes, unroll): (u16, i64),
    ) -> Vec<Val> {
        let (var, extent) = &r.vars[level];
        if level + 1 < r.vars.len() {
            return self.in_blocks(r, extent, acc, &mut |e, i, acc| {
                let inner = e.with(&at, *var, i, None);
                e.apart(r, true, acc, |e, acc| e.vector_level(r, level + 1, inner, acc, (lanes, unroll)))
            });
        }
        let width = lanes as i64;
        let full: Vec<(i64, u16)> = (0..unroll).map(|u| (u * width, lanes)).collect();
        let mut widths = vec![(full, width * unroll)];
        if unroll > 1 {
            widths.push((vec![(0, lanes)], width));
        }
        widths.push((vec![(0, 1)], 1));
        let per = unroll as usize + 1;
        split_extent(extent, &widths)
            .into_iter()
            .fold(acc, |acc, piece| self.vector_piece(r, *var, &at, acc, &piece, per))
    }

    fn vector_piece(
        &mut self,
        r: &Reduction<'_>,
        var: Symbol,
        at: &[Position],
        acc: Vec<Val>,
        piece: &Piece,
        per: usize,
    ) -> Vec<Val> {
        if piece.count == 0 {
            return acc;
        }
        self.in_blocks(r, &piece.count, acc, &mut |e, t, mut acc| {
            for (slot, (offset, lanes)) in piece.slots.iter().enumerate() {
                let index = &piece.base + &(t * piece.step) + *offset;
                let vector = (*lanes > 1).then_some(*lanes);
                let inner = e.with(at, var, &index, vector);
                // Scalars accumulate apart from the vectors, behind them.
                let which = if *lanes > 1 { slot } else { per - 1 };
                let mine: Vec<Val> = acc.iter().skip(which).step_by(per).copied().collect();
                for (i, v) in e.accumulate(r, &inner, mine).into_iter().enumerate() {
                    acc[i * per + which] = v;
                }
            }
            acc
        })
    }
}
