//! Axes that an operand says: constants, or integers that a run reads.
//!
//! What is asked of them is an expression, a constant where they are constants. For axes that are read
//! it is made of indicators, which are 1 or 0, so that an op's type rule and definition speak of axes of
//! either kind. How many axes there are is known always.

use super::rules;
use super::shape::size;
use crate::expr::Expr;
use crate::graph::infer::Cx;
use crate::symbol::Symbol;

/// Of a tensor of more dimensions than this, axes must be constants: sizes are sums over subsets of the
/// dimensions.
const MOST_DIMENSIONS: usize = 8;

/// Axes of a tensor.
pub(super) struct Axes {
    rank: usize,
    /// From 0 to below the rank, or counted from the end where negative.
    given: Vec<Expr>,
}

/// The contents of an operand that says axes; `None` where it is absent.
pub(super) fn said(cx: &Cx<'_>, i: usize, what: &str) -> Result<Option<Vec<Expr>>, String> {
    if !cx.has(i) {
        return Ok(None);
    }
    let ty = cx.ty(i)?;
    rules::expect(&format!("input {i} ({what})"), ty.dtype, rules::INT)?;
    match cx.known(i) {
        Some(known) => Ok(Some(known.to_vec())),
        None if ty.elements() == 0 => Ok(Some(Vec::new())),
        None => Err(format!("input {i} ({what}) is {ty}, expected few elements of a known number")),
    }
}

impl Axes {
    /// The axes of a tensor of that rank; those that are constants are checked.
    pub(super) fn new(cx: &Cx<'_>, given: Vec<Expr>, rank: usize) -> Result<Axes, String> {
        let numbers: Vec<i64> = given.iter().filter_map(Expr::as_const).collect();
        rules::normal_axes(cx, &numbers, rank)?;
        if given.len() > rank {
            return Err(format!("found {} axes for rank {rank}", given.len()));
        }
        if numbers.len() < given.len() && rank > MOST_DIMENSIONS {
            return Err(format!("axes of a tensor of rank {rank} must be known when compiling"));
        }
        Ok(Axes { rank, given })
    }

    /// What an operand says, if it is present: see [`said`].
    pub(super) fn of(cx: &Cx<'_>, i: usize, what: &str, rank: usize) -> Result<Option<Axes>, String> {
        said(cx, i, what)?.map(|given| Axes::new(cx, given, rank)).transpose()
    }

    /// The first axes of a tensor of that rank.
    pub(super) fn first(count: usize, rank: usize) -> Axes {
        Axes { rank, given: (0..count).map(Expr::from).collect() }
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.given.len()
    }

    /// The axes in order, where they are constants.
    pub(super) fn constants(&self) -> Option<Vec<usize>> {
        let normal = |e: &Expr| {
            let a = e.as_const()?;
            Some(if a < 0 { a + self.rank as i64 } else { a } as usize)
        };
        let mut all = self.given.iter().map(normal).collect::<Option<Vec<_>>>()?;
        all.sort_unstable();
        Some(all)
    }

    /// The dimension that axis `n` is.
    fn normal(&self, n: usize) -> Expr {
        let given = &self.given[n];
        given + &(given.is_negative() * self.rank as i64)
    }

    /// Whether axis `n` is dimension `i`: 1 or 0.
    pub(super) fn is(&self, n: usize, i: usize) -> Expr {
        (self.normal(n) - Expr::from(i)).is_zero()
    }

    /// Whether dimension `i` is among them: 1 or 0.
    pub(super) fn has(&self, i: usize) -> Expr {
        let times = (0..self.len()).fold(Expr::ZERO, |sum, n| sum + self.is(n, i));
        times.minimum(&Expr::ONE).simplify(&Symbol::range)
    }

    /// A value for dimension `i`: that of the axis which it is, or another.
    pub(super) fn choose(&self, i: usize, of_axis: impl Fn(usize) -> Expr, otherwise: &Expr) -> Expr {
        let open = |n: &usize| self.is(*n, i) != 0;
        let chosen = (0..self.len()).filter(open).map(|n| (self.is(n, i), of_axis(n)));
        chosen.fold(otherwise.clone(), |sum, (is, v)| if is == 1 { v } else { sum + is * (v - otherwise) })
    }

    /// Whether dimension `i` is the one of number `j` among those that are not axes: 1 or 0.
    fn is_other(&self, i: usize, j: usize) -> Expr {
        // More than `j` others lie up to dimension `i`, but not before it.
        let more = |end: usize| {
            let axes = (0..self.len()).map(|n| (self.normal(n) - Expr::from(end)).is_negative());
            let others = axes.fold(Expr::from(end), |others, axis| others - axis);
            (others - Expr::from(j)).maximum(&Expr::ZERO).minimum(&Expr::ONE)
        };
        more(i + 1) - more(i)
    }

    /// The dimensions that may be number `j` among those that are not axes.
    fn candidates(&self, j: usize) -> std::ops::RangeInclusive<usize> {
        j..=(j + self.len()).min(self.rank.saturating_sub(1))
    }

    /// A shape of the axes' tensor without them, or with 1 in their place.
    pub(super) fn reduced(&self, shape: &[Expr], keepdims: bool) -> Vec<Expr> {
        if let Some(axes) = self.constants() {
            return rules::reduced_shape(shape, &axes, keepdims);
        }
        if keepdims {
            let dim = |(i, d): (usize, &Expr)| size(&(d - &(self.has(i) * (d - 1))));
            return shape.iter().enumerate().map(dim).collect();
        }
        let dim =
            |j: usize| self.candidates(j).fold(Expr::ZERO, |sum, i| sum + self.is_other(i, j) * &shape[i]);
        (0..self.rank - self.len()).map(|j| size(&dim(j))).collect()
    }

    /// The shape of the axes' tensor: 1 along them, and another shape's dimensions in order elsewhere.
    pub(super) fn inserted(&self, shape: &[Expr]) -> Vec<Expr> {
        if let Some(axes) = self.constants() {
            let mut dims = shape.iter().cloned();
            let dim = |i| if axes.contains(&i) { Expr::ONE } else { dims.next().unwrap_or(Expr::ONE) };
            return (0..self.rank).map(dim).collect();
        }
        let others = self.with_axes(shape).into_iter().enumerate();
        others.map(|(i, other)| size(&(self.has(i) + other))).collect()
    }

    /// The index in the axes' tensor, 0 along them, given the index without the axes.
    pub(super) fn with_axes(&self, index: &[Expr]) -> Vec<Expr> {
        let at = |i: usize| {
            let some = index.iter().enumerate().filter(|(j, _)| self.candidates(*j).contains(&i));
            some.fold(Expr::ZERO, |sum, (j, at)| sum + self.is_other(i, j) * at)
        };
        (0..self.rank).map(at).collect()
    }

    /// The index without the axes, given that in their tensor.
    pub(super) fn without_axes(&self, index: &[Expr]) -> Vec<Expr> {
        let at =
            |j: usize| self.candidates(j).fold(Expr::ZERO, |sum, i| sum + self.is_other(i, j) * &index[i]);
        (0..self.rank - self.len()).map(at).collect()
    }

    /// What must be zero or above: there are as many dimensions among them as there are axes, so that
    /// none is out of range or stands twice.
    pub(super) fn checks(&self) -> Vec<Expr> {
        match self.constants() {
            Some(_) => Vec::new(),
            None => vec![(0..self.rank).fold(-&Expr::from(self.len()), |n, i| n + self.has(i))],
        }
    }
}
