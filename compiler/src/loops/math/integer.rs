//! Powers of integers.

use crate::loops::formula::V;
use burin_ir::Symbol;

/// `x` to the power `y` by repeated squaring, one bit of `y` an iteration: the result wraps. A
/// negative exponent gives what division would: 1 and -1 stay of magnitude 1, all else is 0.
pub(super) fn pow<'f>(x: V<'f>, y: V<'f>, var: Symbol) -> V<'f> {
    let ty = x.dtype();
    let (one, zero) = (x.number(1_i64), x.number(0_i64));
    let out = V::repeat(var, i64::from(ty.bits()).into(), &[one, x, y], |carried| {
        let [power, base, exponent] = [carried[0], carried[1], carried[2]];
        let bit = (exponent & 1_i64).ne(0_i64);
        vec![bit.select(power * base, power), base * base, exponent >> 1_i64]
    });
    if !ty.is_signed_int() {
        return out[0];
    }
    let unit = x.eq(-1_i64).select((y & 1_i64).ne(0_i64).select(x, one), x.eq(1_i64).select(one, zero));
    y.lt(0_i64).select(unit, out[0])
}
