//! Tests of the algebra.

use super::*;

fn s(name: &str) -> Expr {
    Expr::named(name)
}

#[test]
fn canonical_form_decides_equality() {
    let a = (s("n") + 1) * (s("n") - 1);
    assert_eq!(a, s("n") * s("n") - 1);
    assert_eq!(a.to_string(), "n*n - 1");
    assert_eq!((s("a") * -1 + 3).to_string(), "-a + 3");
}

#[test]
fn extremes_absorb_what_they_cannot_exceed() {
    let (x, y) = (s("x"), s("y"));
    assert_eq!(x.maximum(&x.minimum(&y)), x);
    assert_eq!(x.minimum(&(x.maximum(&y) + 2)), x);
    assert_eq!((&x + 1).maximum(&(x.minimum(&64.into()) + 1)), &x + 1);
    assert_eq!(x.minimum(&y).minimum(&x.maximum(&y)), x.minimum(&y));
    assert_ne!(x.maximum(&(x.minimum(&y) + 1)), x);
    assert_ne!(x.maximum(&x.maximum(&y)), x);
}

#[test]
fn quotient_and_remainder_recombine() {
    let x = s("x");
    let d = Expr::constant(7);
    assert_eq!(&d * &x.floor_div(&d) + x.modulo(&d), x);
}

#[test]
fn division_uses_what_is_known() {
    let inner = |sym: Symbol| if sym.name() == "j" { Range::new(0, 3) } else { Range::NON_NEGATIVE };
    let e = s("i") * 4 + s("j");
    assert_eq!(e.floor_div_within(&4.into(), &inner), s("i"));
    assert_eq!(e.modulo(&4.into()).simplify(&inner), s("j"));
    assert_eq!((s("h") * 2 + 6 - 3).floor_div(&2.into()) + 1, s("h") + 2);
}

#[test]
fn a_zero_divisor_gives_zero() {
    let e = (s("a") * s("b")).floor_div(&s("b"));
    assert_eq!(e.eval(&|v| Some(if v.name() == "b" { 0 } else { 5 })), Some(0));
    assert_eq!(floor_div(-7, 2), Some(-4));
    assert_eq!(floor_div(7, -2), Some(-4));
    assert_eq!(floor_div(i64::MIN, -1), None);
}

#[test]
fn bounds_of_a_remainder() {
    let r = s("x").modulo(&8.into());
    assert_eq!(r.bounds(&|_| Range::NON_NEGATIVE), Range::new(0, 7));
    assert_eq!((r * 2 + 1).bounds(&|_| Range::ALL), Range::new(1, 15));
}

#[test]
fn overflow_is_noticed() {
    assert_eq!((s("x") * i64::MAX).eval(&|_| Some(2)), None);
}

#[test]
fn the_least_number_divides_and_is_divided() {
    let by = |k: i64| s("x").floor_div(&k.into());
    assert_eq!(by(i64::MIN).eval(&|_| Some(5)), Some(-1));
    assert_eq!((s("x") * i64::MIN).floor_div(&-&s("x")).eval(&|_| Some(0)), Some(0));
    let r = s("x") + by(1 << 62) * i64::MIN;
    assert_eq!(r.bounds(&|_| Range::NON_NEGATIVE).lo, None);
}
