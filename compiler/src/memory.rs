//! Memory planning: lifetimes become places in the arena.
//!
//! Buffers are placed, largest first (and in a few other orders, of which the best is kept), at the
//! lowest place that no buffer alive at the same time occupies. Sizes may be expressions of
//! dimensions. The plan is then made for typical sizes, and what it fixes is only which of two
//! buffers that are alive together lies below the other: a buffer's offset is the greatest end of
//! those below it, as an expression. No two such buffers overlap for any dimensions, and for
//! constant sizes the expressions are constants.

use burin_ir::{Expr, Symbol};
use burin_runtime::abi::ALIGN;
use std::collections::BTreeSet;

/// Size that is assumed for a dimension that is not constant.
pub const TYPICAL_DIM: i64 = 64;

/// A buffer to place.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Its size.
    pub bytes: Expr,
    /// The first step that writes it.
    pub first: usize,
    /// The last step that touches it.
    pub last: usize,
}

/// Where everything is.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// An offset for each buffer, over dimensions and `lets`.
    pub offsets: Vec<Expr>,
    /// Names for offsets that are not constant, in order of definition.
    pub lets: Vec<(Symbol, Expr)>,
    /// Bytes of the arena.
    pub total: Expr,
    /// Bytes of the arena at typical dimensions.
    pub typical_total: i64,
    /// The largest sum of bytes alive at one step, at typical dimensions: no plan can be smaller.
    pub typical_bound: i64,
}

/// Larger values are taken to be this, which is more than any memory has, so that sums and products of a few
/// do not overflow.
const LARGEST: i64 = 1 << 48;

/// A number for an expression: with every dimension of typical size.
pub fn typical(e: &Expr) -> i64 {
    e.eval(&|_| Some(TYPICAL_DIM)).unwrap_or(LARGEST).clamp(0, LARGEST)
}

/// Rounds up to the arena's alignment.
pub fn aligned(bytes: &Expr) -> Expr {
    let align = Expr::from(ALIGN);
    bytes.ceil_div(&align) * &align
}

/// Places buffers. The names of [`Plan::lets`] begin with `name`.
pub fn plan(buffers: &[Buffer], name: &str) -> Plan {
    let sizes: Vec<i64> = buffers.iter().map(|b| typical(&aligned(&b.bytes)).max(ALIGN as i64)).collect();
    let together = Together::new(buffers);
    let span = |i: usize| (buffers[i].last - buffers[i].first + 1) as i64;
    let keys: [&dyn Fn(usize) -> (i64, i64); 4] = [
        &|i| (-sizes[i], buffers[i].first as i64),
        &|i| (-sizes[i].saturating_mul(span(i)), buffers[i].first as i64),
        &|i| (buffers[i].first as i64, -sizes[i]),
        &|i| (-span(i), -sizes[i]),
    ];
    let best = keys
        .iter()
        .map(|key| {
            let mut order: Vec<usize> = (0..buffers.len()).collect();
            order.sort_by_key(|i| key(*i));
            place(&order, &sizes, &together)
        })
        .min_by_key(|places| end(places, &sizes));
    let places = best.unwrap_or_default();
    let mut plan = symbolic(buffers, name, &sizes, &places, &together);
    plan.typical_total = end(&places, &sizes);
    plan.typical_bound = bound(buffers);
    plan
}

fn end(places: &[i64], sizes: &[i64]) -> i64 {
    places.iter().zip(sizes).map(|(p, s)| p + s).max().unwrap_or(0)
}

/// Which buffers are alive at each step.
struct Together<'a> {
    buffers: &'a [Buffer],
    alive: Vec<Vec<usize>>,
}

impl<'a> Together<'a> {
    fn new(buffers: &'a [Buffer]) -> Together<'a> {
        let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
        let mut alive = vec![Vec::new(); steps];
        for (i, b) in buffers.iter().enumerate() {
            alive[b.first..=b.last].iter_mut().for_each(|a| a.push(i));
        }
        Together { buffers, alive }
    }

    fn with(&self, i: usize) -> BTreeSet<usize> {
        let b = &self.buffers[i];
        self.alive[b.first..=b.last].iter().flatten().copied().filter(|j| *j != i).collect()
    }
}

/// First fit in the order given.
fn place(order: &[usize], sizes: &[i64], together: &Together<'_>) -> Vec<i64> {
    let mut places = vec![-1; sizes.len()];
    for &i in order {
        let mut taken: Vec<(i64, i64)> = together
            .with(i)
            .into_iter()
            .filter(|j| places[*j] >= 0)
            .map(|j| (places[j], places[j] + sizes[j]))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if at + sizes[i] <= from {
                break;
            }
            at = at.max(to);
        }
        places[i] = at;
    }
    places
}

fn symbolic(
    buffers: &[Buffer],
    prefix: &str,
    sizes: &[i64],
    places: &[i64],
    together: &Together<'_>,
) -> Plan {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|i| (places[*i], *i));
    let mut plan = Plan { offsets: vec![Expr::ZERO; buffers.len()], ..Plan::default() };
    for &i in &order {
        let below = together.with(i).into_iter().filter(|j| places[*j] + sizes[*j] <= places[i]);
        let offset =
            below.fold(Expr::ZERO, |at, j| at.maximum(&(&plan.offsets[j] + &aligned(&buffers[j].bytes))));
        plan.offsets[i] = if offset.as_const().is_some() || offset.as_symbol().is_some() {
            offset
        } else {
            let name = Symbol::new(&format!("{prefix}.{i}"));
            plan.lets.push((name, offset));
            name.into()
        };
        plan.total = plan.total.maximum(&(&plan.offsets[i] + &aligned(&buffers[i].bytes)));
    }
    plan
}

fn bound(buffers: &[Buffer]) -> i64 {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let mut change = vec![0i64; steps + 1];
    for b in buffers {
        let bytes = typical(&b.bytes);
        change[b.first] += bytes;
        change[b.last + 1] -= bytes;
    }
    let mut alive = 0;
    change.iter().fold(0, |most, c| {
        alive += c;
        most.max(alive)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: Expr, first: usize, last: usize) -> Buffer {
        Buffer { bytes, first, last }
    }

    #[test]
    fn a_chain_takes_two_buffers() {
        let chain: Vec<Buffer> = (0..100).map(|i| buffer(256.into(), i, i + 1)).collect();
        let plan = plan(&chain, "arena");
        assert_eq!(plan.total, 512);
        assert_eq!(plan.typical_bound, 512);
        assert!(plan.lets.is_empty());
    }

    #[test]
    fn symbolic_buffers_never_overlap() {
        let n = Expr::named("n");
        let m = Expr::named("m");
        let all = [
            buffer(&n * 4, 0, 2),
            buffer(&m * 12, 1, 3),
            buffer(&n * 100, 2, 4),
            buffer(Expr::from(640), 3, 5),
            buffer(&n * &m, 4, 5),
        ];
        let plan = plan(&all, "arena");
        for (n, m) in [(1, 1), (64, 64), (1, 1000), (1000, 1), (17, 3)] {
            let mut at = std::collections::HashMap::new();
            at.insert(Symbol::new("n"), n);
            at.insert(Symbol::new("m"), m);
            for (s, e) in &plan.lets {
                let v = e.eval(&|s| at.get(&s).copied()).expect("lets are in order");
                at.insert(*s, v);
            }
            let value = |e: &Expr| e.eval(&|s| at.get(&s).copied()).expect("known symbols");
            for i in 0..all.len() {
                for j in 0..i {
                    let apart = all[i].last < all[j].first || all[j].last < all[i].first;
                    let (a, b) = (value(&plan.offsets[i]), value(&plan.offsets[j]));
                    let (sa, sb) = (value(&all[i].bytes), value(&all[j].bytes));
                    assert!(apart || a + sa <= b || b + sb <= a, "{i} and {j} overlap at n={n} m={m}");
                    assert!(a + sa <= value(&plan.total));
                }
            }
        }
    }
}
