//! The error function: a polynomial below 1, and above it `1 - e^-p(x)` with a polynomial for
//! `-log(erfc x)`, where the error of the exponential counts little.

use super::coefficients::{ERF_SMALL_32, ERF_SMALL_64, ERF_TAIL_32, ERF_TAIL_64};
use super::exponential::exp_normal;
use super::format::Format;
use crate::loops::formula::V;

/// The error function.
pub(super) fn erf(x: V<'_>) -> V<'_> {
    let (small, tail, top): (&[f64], &[f64], f64) = if Format::of(x).is_double() {
        (&ERF_SMALL_64, &ERF_TAIL_64, 6.0)
    } else {
        (&ERF_SMALL_32, &ERF_TAIL_32, 4.0)
    };
    let a = x.abs();
    let near = a.muladd((a * a).poly(small), a);
    let u = a.at_most(top) - 1.0;
    let far = a.number(1.0) - exp_normal(-u.poly(tail));
    a.lt(1.0).select(near, far).with_sign(x.sign())
}
