//! Windows that slide over the spatial dimensions of an image batch `[N, C, ...]`: what
//! convolutions and poolings share.
//!
//! Output position `y` and kernel position `k` meet at the input position
//! `y * stride + k * dilation - before`, which may lie outside the input where there is padding.

use super::rules;
use crate::attr::Attrs;
use crate::element::{ReduceOp, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::Cx;
use crate::symbol::Symbol;

/// The attribute schema of a sliding window, and more attributes.
macro_rules! window_attrs {
    ($($more:expr),* $(,)?) => {
        &[
            AttrSpec::new("auto_pad", AttrKind::Str, Default::Str("NOTSET")),
            AttrSpec::new("dilations", AttrKind::Ints, Default::Absent),
            AttrSpec::new("kernel_shape", AttrKind::Ints, Default::Absent),
            AttrSpec::new("pads", AttrKind::Ints, Default::Absent),
            AttrSpec::new("strides", AttrKind::Ints, Default::Absent),
            $($more),*
        ]
    };
}
pub(super) use window_attrs;

/// A window over one spatial dimension.
#[derive(Clone, Debug)]
pub(super) struct Slide {
    /// The input's extent.
    pub(super) input: Expr,
    /// The output's extent.
    pub(super) output: Expr,
    /// The kernel's extent.
    pub(super) kernel: Expr,
    /// The step from one output position to the next.
    pub(super) stride: i64,
    /// The step from one kernel position to the next.
    pub(super) dilation: i64,
    /// Padding before the first element.
    pub(super) before: Expr,
    /// Padding after the last element.
    pub(super) after: Expr,
    /// Whether the last window may reach beyond the padding.
    pub(super) ceil: bool,
}

/// The window's attributes, checked: one entry a spatial dimension.
pub(super) struct WindowAttrs {
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    pub(super) pads: Vec<(i64, i64)>,
    pub(super) auto: AutoPad,
}

/// How padding is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AutoPad {
    /// As the attribute `pads` says.
    Explicit,
    /// As much as gives `ceil(input / stride)`; the odd one after.
    SameUpper,
    /// The same with the odd one before.
    SameLower,
    /// None.
    Valid,
}

impl WindowAttrs {
    pub(super) fn of(attrs: &Attrs, rank: usize) -> Result<WindowAttrs, String> {
        let list = |name: &str, default: i64, count: usize, least: i64| match attrs.ints(name) {
            None => Ok(vec![default; count]),
            Some(v) if v.len() == count && v.iter().all(|x| *x >= least) => Ok(v.to_vec()),
            Some(v) => Err(format!("{name} is {v:?}, expected {count} numbers of {least} or more")),
        };
        let auto = match attrs.str("auto_pad") {
            None | Some("" | "NOTSET") => AutoPad::Explicit,
            Some("SAME_UPPER") => AutoPad::SameUpper,
            Some("SAME_LOWER") => AutoPad::SameLower,
            Some("VALID") => AutoPad::Valid,
            Some(other) => {
                return Err(format!(
                    "auto_pad is {other:?}, expected NOTSET, SAME_UPPER, SAME_LOWER or VALID"
                ));
            }
        };
        let pads = list("pads", 0, 2 * rank, 0)?;
        let pads = match auto {
            AutoPad::Explicit => (0..rank).map(|i| (pads[i], pads[i + rank])).collect(),
            _ => vec![(0, 0); rank],
        };
        let (strides, dilations) = (list("strides", 1, rank, 1)?, list("dilations", 1, rank, 1)?);
        Ok(WindowAttrs { strides, dilations, pads, auto })
    }

    /// Padding before and after dimension `i`, whose window reaches over `reach` elements.
    fn padding(&self, i: usize, input: &Expr, reach: &Expr) -> (Expr, Expr) {
        if !matches!(self.auto, AutoPad::SameUpper | AutoPad::SameLower) {
            return (self.pads[i].0.into(), self.pads[i].1.into());
        }
        let stride = self.strides[i];
        let output = input.ceil_div(&stride.into());
        let total = ((output - 1) * stride + reach - input).maximum(&Expr::ZERO);
        let half = total.floor_div(&2.into());
        let rest = total - &half;
        if self.auto == AutoPad::SameUpper { (half, rest) } else { (rest, half) }
    }
}

/// The padding of a window over these spatial dimensions: that before each, then that after each.
/// None where it depends on what is not constant, or the windows reach beyond it.
pub fn constant_pads(attrs: &Attrs, input: &[Expr], kernel: &[Expr]) -> Option<Vec<i64>> {
    let window = WindowAttrs::of(attrs, input.len()).ok()?;
    if attrs.flag("ceil_mode") && window.auto == AutoPad::Explicit {
        return None;
    }
    let of = |i: usize| {
        let reach = (&kernel[i] - 1) * window.dilations[i] + 1;
        let (before, after) = window.padding(i, &input[i], &reach);
        Some((before.as_const()?, after.as_const()?))
    };
    let (before, after): (Vec<i64>, Vec<i64>) =
        (0..input.len()).map(of).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    Some([before, after].concat())
}

/// The windows of a node over the spatial dimensions `input`.
pub(super) fn slides(cx: &Cx<'_>, input: &[Expr], kernel: &[Expr]) -> Result<Vec<Slide>, String> {
    let attrs = WindowAttrs::of(cx.attrs, input.len())?;
    let ceil = cx.attrs.flag("ceil_mode") && attrs.auto == AutoPad::Explicit;
    let of = |i: usize| {
        let (stride, dilation) = (attrs.strides[i], attrs.dilations[i]);
        let (input, kernel) = (input[i].clone(), kernel[i].clone());
        let reach = (&kernel - 1) * dilation + 1;
        let (before, after) = attrs.padding(i, &input, &reach);
        let room = &input + &before + &after - &reach;
        let output = match attrs.auto {
            AutoPad::SameUpper | AutoPad::SameLower => input.ceil_div(&stride.into()),
            // A window that would start in the padding after the input is left out.
            _ if ceil => {
                let last = (&input + &before - 1).floor_div(&stride.into());
                room.ceil_div(&stride.into()).minimum(&last) + 1
            }
            _ => room.floor_div(&stride.into()) + 1,
        };
        match output.as_const() {
            Some(n) if n < 0 || room.as_const().is_some_and(|r| r < 0 && !ceil) => Err(format!(
                "the window of {reach} elements does not fit spatial dimension {i} of {input} elements \
                 with padding {before} and {after}"
            )),
            _ => Ok(Slide { input, output, kernel, stride, dilation, before, after, ceil }),
        }
    };
    (0..input.len()).map(of).collect()
}

impl Slide {
    /// The input position where output position `y` and kernel position `k` meet.
    pub(super) fn position(&self, y: &Expr, k: &Expr) -> Expr {
        y * self.stride + k * self.dilation - &self.before
    }

    /// What must be zero or above for a position to be inside the input: nothing where no window
    /// can leave it.
    pub(super) fn inside(&self, position: &Expr) -> Vec<Expr> {
        let ranges = |s: Symbol| s.range();
        let mut out = Vec::new();
        if self.before.bounds(&ranges).hi.is_none_or(|hi| hi > 0) {
            out.push(position.clone());
        }
        let last = self.position(&(&self.output - 1), &(&self.kernel - 1));
        let slack = (&self.input - 1 - last).bounds(&ranges).lo;
        let stays = slack.is_some_and(|lo| lo >= 0) || (self.after == 0 && !self.ceil);
        if !stays {
            out.push(&self.input - 1 - position);
        }
        out
    }
}

/// The spatial dimensions of one application of the kernel, for an element definition.
pub(super) struct Taps {
    /// The kernel's positions as reduction variables; those of a single element are left out.
    pub(super) vars: Vec<(Symbol, Expr)>,
    /// Where each dimension is read.
    pub(super) position: Vec<Expr>,
    /// The kernel position in each dimension.
    pub(super) kernel: Vec<Expr>,
    /// Zero or above where the positions lie inside the input.
    pub(super) inside: Vec<Expr>,
}

/// The kernel applied at the output positions `at`, with reduction variables numbered from `first`.
pub(super) fn taps(slides: &[Slide], at: &[Symbol], first: usize) -> Taps {
    let mut out = Taps { vars: vec![], position: vec![], kernel: vec![], inside: vec![] };
    for (s, y) in slides.iter().zip(at) {
        let mut k = Expr::ZERO;
        if s.kernel != 1 {
            let var = reduction(first + out.vars.len());
            out.vars.push((var, s.kernel.clone()));
            k = var.into();
        }
        let position = s.position(&(*y).into(), &k);
        out.inside.extend(s.inside(&position));
        out.position.push(position);
        out.kernel.push(k);
    }
    out
}

/// A reduction; the body itself where there is nothing to go over.
pub(super) fn reduce(op: ReduceOp, vars: Vec<(Symbol, Expr)>, body: Term) -> Term {
    if vars.is_empty() { body } else { Term::reduce(op, vars, body) }
}

/// A window over one spatial dimension in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Fixed {
    /// The output positions at which kernel position `k` meets the input.
    fn outputs(&self, k: usize) -> std::ops::Range<usize> {
        let at = k * self.dilation;
        let lo = self.before.saturating_sub(at).div_ceil(self.stride);
        match (self.input + self.before).checked_sub(at + 1) {
            Some(room) => lo..(room / self.stride + 1).min(self.output),
            None => 0..0,
        }
    }

    /// How many kernel positions lie inside the input at output position `y`; with `padded`, inside
    /// the input and its padding.
    pub(super) fn count(&self, y: usize, padded: bool) -> usize {
        let inside = match padded {
            true => 0..self.before + self.input + self.after,
            false => self.before..self.before + self.input,
        };
        (0..self.kernel).filter(|k| inside.contains(&(y * self.stride + k * self.dilation))).count()
    }

    /// The input position of output `y` and kernel position `k`, which meet.
    fn meets(&self, y: usize, k: usize) -> usize {
        y * self.stride + k * self.dilation - self.before
    }
}

/// The windows in numbers, as three dimensions of which leading ones may be single elements. A
/// window of one element that does not skip any is flattened to a single dimension.
pub(super) fn fixed(slides: &[Slide]) -> Result<[Fixed; 3], String> {
    const SINGLE: Fixed =
        Fixed { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };
    let number = |e: &Expr| {
        let n = e.as_const().and_then(|n| usize::try_from(n).ok());
        n.ok_or_else(|| format!("the extent {e} is not a number"))
    };
    let mut out = [SINGLE; 3];
    let lead = 3 - slides.len();
    for (f, s) in out[lead..].iter_mut().zip(slides) {
        *f = Fixed {
            input: number(&s.input)?,
            output: number(&s.output)?,
            kernel: number(&s.kernel)?,
            stride: s.stride as usize,
            dilation: s.dilation as usize,
            before: number(&s.before)?,
            after: number(&s.after)?,
        };
    }
    if out.iter().all(|f| f.kernel == 1 && f.stride == 1 && f.before + f.after == 0 && f.input == f.output) {
        let n = out.iter().map(|f| f.input).product();
        out = [SINGLE, SINGLE, Fixed { input: n, output: n, ..SINGLE }];
    }
    Ok(out)
}

/// A run of output elements with the input elements that one kernel element takes them to.
pub(super) struct Run {
    /// The kernel element.
    pub(super) tap: usize,
    /// The first output element.
    pub(super) output: usize,
    /// The first input element.
    pub(super) input: usize,
    /// How many output elements there are, one beside the other.
    pub(super) count: usize,
    /// The step from one input element to the next.
    pub(super) step: usize,
}

/// Calls `f` for every pair of an input and an output element that meet, grouped into runs.
/// Elements are counted within one channel.
pub(super) fn for_each_run([a, b, c]: &[Fixed; 3], mut f: impl FnMut(Run)) {
    for ka in 0..a.kernel {
        for kb in 0..b.kernel {
            for kc in 0..c.kernel {
                let tap = (ka * b.kernel + kb) * c.kernel + kc;
                let xs = c.outputs(kc);
                if xs.is_empty() {
                    continue;
                }
                for z in a.outputs(ka) {
                    for y in b.outputs(kb) {
                        let output = (z * b.output + y) * c.output + xs.start;
                        let input = (a.meets(z, ka) * b.input + b.meets(y, kb)) * c.input;
                        let input = input + c.meets(xs.start, kc);
                        f(Run { tap, output, input, count: xs.len(), step: c.stride });
                    }
                }
            }
        }
    }
}

/// The batch, channel and spatial dimensions of an image batch of one to three spatial dimensions.
pub(super) fn image(shape: &[Expr]) -> Result<(&Expr, &Expr, &[Expr]), String> {
    match shape {
        [n, c, spatial @ ..] if (1..=3).contains(&spatial.len()) => Ok((n, c, spatial)),
        _ => Err(format!("input 0 has shape {}, expected [N, C, ...] of rank 3 to 5", rules::show(shape))),
    }
}
