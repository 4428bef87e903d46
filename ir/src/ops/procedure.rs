//! Ops that are a procedure and no formula: a row gives their kernel in the loop language.
//!
//! [`Procedure::kernel`] computes all results of a node at once, from operands that lie in memory
//! row-major and without gaps, as do the results. The kernel of an op that is
//! [`Lower::Update`](super::Lower::Update) does not read the first operand: its elements are what the
//! result holds when the kernel begins. A [`Draft`] declares its buffers; [`merge_sort`] is
//! what sorting ops share.

use crate::dtype::DType;
use crate::expr::Expr;
use crate::graph::infer::Cx;
use crate::loops::{Access, Buf, BufferDecl, Builder, Kernel, LoopKind, Val, ValType};
use crate::scalar::ScalarOp as S;
use crate::symbol::Symbol;
use crate::types::TensorType;

/// Gives a node's kernel, from the node and the types of its results.
pub type ProcedureFn = fn(&Cx<'_>, &[TensorType]) -> Result<Procedure, String>;

/// A node's kernel.
pub struct Procedure {
    /// The operands that it reads, by number.
    pub reads: Vec<usize>,
    /// The kernel. Its buffers are those operands, then all results in order, then scratch; its
    /// dimensions are the symbols of their sizes.
    pub kernel: Kernel,
}

/// A kernel whose buffers are being declared.
pub(super) struct Draft {
    reads: Vec<usize>,
    kernel: Kernel,
}

impl Draft {
    /// A kernel that reads these operands and writes the results of these types; gives their buffers.
    pub(super) fn new(
        cx: &Cx<'_>,
        reads: &[usize],
        results: &[TensorType],
    ) -> Result<(Draft, Vec<Buf>, Vec<Buf>), String> {
        let kernel = Kernel {
            name: cx.op.name.to_lowercase(),
            dims: Vec::new(),
            buffers: Default::default(),
            values: Default::default(),
            body: Vec::new(),
        };
        let mut draft = Draft { reads: reads.to_vec(), kernel };
        let mut from = Vec::new();
        for i in reads {
            let ty = cx.ty(*i)?;
            from.push(draft.buffer(format!("in{i}"), ty.dtype, ty.elements(), Access::Read));
        }
        let mut to = Vec::new();
        for (i, ty) in results.iter().enumerate() {
            to.push(draft.buffer(format!("out{i}"), ty.dtype, ty.elements(), Access::Write));
        }
        let mut sizes: Vec<Symbol> =
            results.iter().flat_map(|t| &t.shape).flat_map(|d| d.symbols()).collect();
        for i in reads {
            sizes.extend(cx.shape(*i)?.iter().flat_map(Expr::symbols));
        }
        sizes.sort_unstable();
        sizes.dedup();
        draft.kernel.dims = sizes;
        Ok((draft, from, to))
    }

    fn buffer(&mut self, name: String, dtype: DType, len: Expr, access: Access) -> Buf {
        self.kernel.buffers.push(BufferDecl { name, dtype, len, access })
    }

    /// Makes a result one that holds the elements of the node's first operand at the start.
    pub(super) fn updates(&mut self, result: Buf) {
        self.kernel.buffers[result].access = Access::Update;
    }

    /// Memory of a task's own.
    pub(super) fn scratch(&mut self, name: &str, dtype: DType, len: Expr) -> Buf {
        self.buffer(name.to_owned(), dtype, len, Access::Scratch)
    }

    /// A body that runs as a task for each value of a symbol below `extent`.
    pub(super) fn tasks(
        mut self,
        task: Symbol,
        extent: Expr,
        body: impl FnOnce(&mut Builder<'_>),
    ) -> Procedure {
        let mut b = Builder::of(&mut self.kernel);
        b.for_(task, extent, LoopKind::Parallel, &[], |b, _| {
            body(b);
            Vec::new()
        });
        self.kernel.body = b.finish();
        Procedure { reads: self.reads, kernel: self.kernel }
    }
}

/// An integer constant.
pub(super) fn int(b: &mut Builder<'_>, v: i64) -> Val {
    b.const_(ValType::scalar(DType::I64), v as u64)
}

/// A symbol of a kernel's own, which no dimension of a model is likely to have.
pub(super) fn symbol(name: &str) -> Symbol {
    Symbol::new(&format!("_{name}"))
}

/// A value under a name, for indices.
pub(super) fn named(b: &mut Builder<'_>, name: &str, value: Val) -> Expr {
    let symbol = symbol(name);
    b.bind(symbol, value);
    symbol.into()
}

/// A serial loop of a body without carried values.
pub(super) fn each(
    b: &mut Builder<'_>,
    name: &str,
    extent: impl Into<Expr>,
    body: impl FnOnce(&mut Builder<'_>, Expr),
) {
    let symbol = symbol(name);
    b.for_(symbol, extent, LoopKind::Serial, &[], |b, _| {
        body(b, symbol.into());
        Vec::new()
    });
}

/// Whether the element of the second number (an `i64`) comes before that of the first one.
pub(super) type Before<'a> = &'a dyn Fn(&mut Builder<'_>, Val, Val) -> Val;

/// Sorts the numbers `0..n` into a buffer of `2 * n` of `i64`, and gives the index there of the first
/// one: runs of doubled length are merged from one half into the other (D. Knuth, "The Art of Computer
/// Programming", volume 3, 5.2.4). What neither comes before the other keeps its order.
pub(super) fn merge_sort(b: &mut Builder<'_>, n: &Expr, order: Buf, before: Before<'_>) -> Expr {
    each(b, "nth", n.clone(), |b, i| {
        let value = b.index(i.clone());
        b.store(order, i, value);
    });
    merge_order(b, n, order, before)
}

/// [`merge_sort`] of the `n` numbers that the buffer begins with.
pub(super) fn merge_order(b: &mut Builder<'_>, n: &Expr, order: Buf, before: Before<'_>) -> Expr {
    // Runs of 2^62 elements are longer than any memory.
    let levels = n.as_const().map_or(62, |n| i64::from(64 - (n - 1).max(0).leading_zeros()));
    let (one, zero) = (int(b, 1), int(b, 0));
    let level = symbol("level");
    let sorted = b.for_(level, levels, LoopKind::Serial, &[one, zero], |b, carried| {
        let [width, from] = [carried[0], carried[1]];
        let (run, start) = (named(b, "run", width), named(b, "start", from));
        let merged = b.if_(
            vec![n - 1 - &run],
            |b| {
                merge_runs(b, n, order, (&run, width), &start, before);
                vec![b.index(n - &start)]
            },
            |_| vec![from],
        );
        vec![b.op(S::Add, &[width, width]), merged[0]]
    });
    named(b, "sorted", sorted[1])
}

/// Merges neighbouring runs of the half of `order` that begins at `start` into the other half.
fn merge_runs(
    b: &mut Builder<'_>,
    n: &Expr,
    order: Buf,
    (run, width): (&Expr, Val),
    start: &Expr,
    before: Before<'_>,
) {
    let (one, last) = (int(b, 1), b.index(n + run * 2 - 1));
    let both = b.op(S::Add, &[width, width]);
    let pairs = b.op(S::Div, &[last, both]);
    let pairs = named(b, "pairs", pairs);
    each(b, "pair", pairs, |b, pair| {
        let low = pair * run * 2;
        let middle = b.index((&low + run).minimum(n));
        let high = b.index((&low + run * 2).minimum(n));
        let first = b.index(low.clone());
        let end = named(b, "end", high);
        let place = symbol("place");
        b.for_(place, &end - &low, LoopKind::Serial, &[first, middle], |b, carried| {
            let [left, right] = [carried[0], carried[1]];
            // What has no element left is compared at its last one, and not taken.
            let (left_end, right_end) = (b.op(S::Sub, &[middle, one]), b.op(S::Sub, &[high, one]));
            let (i, j) = (b.op(S::Min, &[left, left_end]), b.op(S::Min, &[right, right_end]));
            let (i, j) = (named(b, "left", i), named(b, "right", j));
            let (a, c) = (b.load(order, start + &i), b.load(order, start + &j));
            let left_done = b.op(S::Ge, &[left, middle]);
            let right_left = b.op(S::Lt, &[right, high]);
            let comes = before(b, a, c);
            let wanted = b.op(S::Or, &[left_done, comes]);
            let takes_right = b.op(S::And, &[right_left, wanted]);
            let taken = b.op(S::Select, &[takes_right, c, a]);
            b.store(order, n - start + &low + Expr::from(place), taken);
            let (next_left, next_right) = (b.op(S::Add, &[left, one]), b.op(S::Add, &[right, one]));
            vec![
                b.op(S::Select, &[takes_right, left, next_left]),
                b.op(S::Select, &[takes_right, next_right, right]),
            ]
        });
    });
}
