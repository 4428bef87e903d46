//! Expansions against the functions of the host's `f64`.
//!
//! Each runs with `muladd` contracted and not, on a sample that holds every exponent, both zeros,
//! infinities, NaNs and denormals. The native target's tests run them on every `f32`.

use super::super::columns::{Column, evaluate};
use super::*;
use burin_ir::loops::{Access, BufferDecl, Builder, Val};
use burin_ir::scalar::{self, Scalar};
use cranelift_entity::PrimaryMap;

/// The kernel `out = op(in...)`, expanded.
fn kernel(op: ScalarOp, args: &[DType]) -> Kernel {
    let to = op.result_type(args).expect("a well-typed operation");
    let mut kernel = Kernel {
        name: "k".into(),
        dims: Vec::new(),
        buffers: PrimaryMap::new(),
        values: PrimaryMap::new(),
        body: Vec::new(),
    };
    let mut declare =
        |dtype, access| kernel.buffers.push(BufferDecl { name: "b".into(), dtype, len: 1.into(), access });
    let inputs: Vec<_> = args.iter().map(|&t| declare(t, Access::Read)).collect();
    let out = declare(to, Access::Write);
    let mut b = Builder::of(&mut kernel);
    let values: Vec<Val> = inputs.iter().map(|&i| b.load(i, 0)).collect();
    let value = b.op(op, &values);
    b.store(out, 0, value);
    kernel.body = b.finish();
    run(&mut kernel);
    kernel
}

/// The distance from a result to the reference in last places of the type; none where both are NaN
/// or the same infinity or zero, all where only one is.
fn ulps(found: f64, expected: f64, digits: i32, least: i32, top: f64) -> f64 {
    if found.is_nan() || expected.is_nan() {
        return if found.is_nan() && expected.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if expected == 0.0 {
        let same = found == 0.0 && found.is_sign_negative() == expected.is_sign_negative();
        return if same { 0.0 } else { f64::INFINITY };
    }
    if found == expected {
        return 0.0;
    }
    if expected.is_infinite() && found.is_infinite() {
        return f64::INFINITY;
    }
    // An overflow is the number after the largest one.
    let limit = |v: f64| if v.abs() > top { top.copysign(v) } else { v };
    let exponent = ((expected.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let place = exponent.clamp(least, 1023) - digits;
    let (found, expected) = (limit(found), limit(expected));
    let half = 2f64.powi(place / 2);
    ((found - expected) / half / 2f64.powi(place - place / 2)).abs()
}

/// The distance from a result to the reference in last places of `f32`.
pub(crate) fn ulps_32(found: f32, expected: f64) -> f64 {
    ulps(found as f64, expected, 23, -126, 2f64.powi(128))
}

fn ulps_64(found: f64, expected: f64) -> f64 {
    ulps(found, expected, 52, -1022, f64::INFINITY)
}

/// An odd step through all bits of `f32`, and both ends of every exponent.
pub(crate) fn sample_32() -> Vec<u32> {
    let spread = (0..1 << 15).map(|i: u64| (i * 131071) as u32);
    let ends = (0..512u32).flat_map(|e| [0, 1, 2, 0x7f_fffe, 0x7f_ffff].map(|m| e << 23 | m));
    spread.chain(ends).collect()
}

fn check_32(op: ScalarOp, bound: f64) {
    let kernel = kernel(op, &[DType::F32]);
    let sample = sample_32();
    for fused in [false, true] {
        let column = Column::from_bits(DType::F32, sample.iter().map(|&b| b.into()));
        let Column::F32(found) = evaluate(&kernel, &[column], fused) else {
            panic!("an f32 function gives f32")
        };
        let mut worst = (0.0, 0.0);
        for (&bits, found) in sample.iter().zip(found) {
            let x = f32::from_bits(bits);
            let expected = scalar::apply_wide(op, DType::F32, &[Scalar::F(x as f64)]).as_f64();
            let error = ulps_32(found, expected);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        let (error, at) = worst;
        println!("{op} f32, fused {fused}: {error:.3} ulp at {at:e} ({:#x})", at.to_bits());
        assert!(error <= bound, "{op}({at:e}) is off by {error} ulp (bound {bound}, fused {fused})");
    }
}

macro_rules! bounds_32 {
    ($($name:ident: $op:ident <= $bound:literal;)*) => {
        /// How far each function may be off, in last places.
        pub(crate) const BOUNDS_32: &[(ScalarOp, f64)] = &[$((ScalarOp::$op, $bound)),*];
        $(
        #[test]
        fn $name() {
            check_32(ScalarOp::$op, $bound);
        }
    )* };
}

bounds_32! {
    exp_32: Exp <= 2.0;
    log_32: Log <= 2.0;
    tanh_32: Tanh <= 2.0;
    erf_32: Erf <= 2.0;
    sin_32: Sin <= 2.5;
    cos_32: Cos <= 2.5;
    tan_32: Tan <= 1.0;
    asin_32: Asin <= 1.0;
    acos_32: Acos <= 1.0;
    atan_32: Atan <= 1.0;
    sinh_32: Sinh <= 2.5;
    cosh_32: Cosh <= 2.0;
    asinh_32: Asinh <= 1.0;
    acosh_32: Acosh <= 1.0;
    atanh_32: Atanh <= 1.0;
}

/// `f64` inputs: all exponents with pseudo-random mantissas, more of them near 1, and the ends.
fn sample_64() -> Vec<u64> {
    let mix = |i: u64| {
        let v = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (v ^ (v >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let all = (0..1 << 13).map(mix);
    let near_one = (0..1 << 14).map(move |i| {
        let exponent = 1023 - 30 + (mix(i) >> 7) % 41;
        (mix(i) & 0x800f_ffff_ffff_ffff) | exponent << 52
    });
    let ends = (0..2048u64).flat_map(|e| [0, 1, (1 << 52) - 1].map(|m| e << 52 | m));
    all.chain(near_one).chain(ends.flat_map(|b| [b, b | 1 << 63])).collect()
}

fn check_64(op: ScalarOp, bound: f64) {
    let kernel = kernel(op, &[DType::F64]);
    let bits = sample_64();
    for fused in [false, true] {
        let out = evaluate(&kernel, &[Column::from_bits(DType::F64, bits.iter().copied())], fused);
        let mut worst = (0.0, 0.0);
        for (i, &bits) in bits.iter().enumerate() {
            let x = f64::from_bits(bits);
            let expected = scalar::apply_wide(op, DType::F64, &[Scalar::F(x)]).as_f64();
            let error = ulps_64(f64::from_bits(out.bits(i)), expected);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("{op} f64, fused {fused}: {:.3} ulp at {:e}", worst.0, worst.1);
        assert!(worst.0 <= bound, "{op}({:e}) is off by {} ulp (fused {fused})", worst.1, worst.0);
    }
}

macro_rules! bounds_64 {
    ($($name:ident: $op:ident <= $bound:literal;)*) => { $(
        #[test]
        fn $name() {
            check_64(ScalarOp::$op, $bound);
        }
    )* };
}

// The reference has errors of its own, of up to one place.
bounds_64! {
    exp_64: Exp <= 2.0;
    log_64: Log <= 2.0;
    tanh_64: Tanh <= 3.0;
    erf_64: Erf <= 3.0;
    sin_64: Sin <= 2.0;
    cos_64: Cos <= 2.0;
    tan_64: Tan <= 3.0;
    asin_64: Asin <= 2.0;
    acos_64: Acos <= 2.0;
    atan_64: Atan <= 2.0;
    sinh_64: Sinh <= 3.0;
    cosh_64: Cosh <= 3.0;
    asinh_64: Asinh <= 3.0;
    acosh_64: Acosh <= 3.0;
    atanh_64: Atanh <= 3.0;
}

/// Pairs of operands: special ones with each other, and a spread.
fn pairs(ty: DType) -> [Vec<u64>; 2] {
    let special = [
        0.0,
        1.0,
        2.0,
        3.0,
        0.5,
        1.5,
        2.5,
        1e-45,
        1e-40,
        1e30,
        3e38,
        16777216.0,
        9007199254740993.0,
        1e300,
        5e-324,
        0.999,
        1.001,
        f64::INFINITY,
        f64::NAN,
    ];
    let special: Vec<f64> = special.iter().flat_map(|&v| [v, -v]).collect();
    let bits = |v: f64| scalar::to_bits(Scalar::F(v).cast(ty), ty);
    let mut out = [Vec::new(), Vec::new()];
    for &a in &special {
        for &b in &special {
            out[0].push(bits(a));
            out[1].push(bits(b));
        }
    }
    let sample = sample_64();
    for (i, &a) in sample.iter().enumerate().filter(|(i, _)| i % 4 == 0) {
        let b = sample[(i * 7919 + 13) % sample.len()];
        out[0].push(bits(f64::from_bits(a)));
        out[1].push(bits(f64::from_bits(b)));
    }
    out
}

fn check_pairs(op: ScalarOp, ty: DType, bound: f64) {
    let kernel = kernel(op, &[ty, ty]);
    let pairs = pairs(ty);
    for fused in [false, true] {
        let columns = pairs.clone().map(|c| Column::from_bits(ty, c.into_iter()));
        let out = evaluate(&kernel, &columns, fused);
        let mut worst = (0.0, [0.0; 2]);
        for (i, (a, b)) in pairs[0].iter().zip(&pairs[1]).enumerate() {
            let args = [a, b].map(|bits| scalar::from_bits(*bits, ty));
            let expected = scalar::apply_wide(op, ty, &args).as_f64();
            let found = scalar::from_bits(out.bits(i), ty).as_f64();
            let error =
                if ty == DType::F32 { ulps_32(found as f32, expected) } else { ulps_64(found, expected) };
            if error > worst.0 {
                worst = (error, args.map(Scalar::as_f64));
            }
        }
        println!("{op} {ty}, fused {fused}: {:.3} ulp at {:?}", worst.0, worst.1);
        assert!(worst.0 <= bound, "{op} {ty} of {:?} is off by {} ulp (fused {fused})", worst.1, worst.0);
    }
}

#[test]
fn powers_are_close() {
    check_pairs(ScalarOp::Pow, DType::F32, 1.0);
    check_pairs(ScalarOp::Pow, DType::F64, 2.0);
}

#[test]
fn remainders_are_exact() {
    for op in [ScalarOp::Rem, ScalarOp::Mod] {
        check_pairs(op, DType::F32, 0.5);
        check_pairs(op, DType::F64, 0.0);
    }
}

#[test]
fn integer_powers_are_exact() {
    for ty in DType::of_kernels().filter(|t| t.is_int() && !t.is_storage()) {
        let kernel = kernel(ScalarOp::Pow, &[ty, ty]);
        let values: Vec<i64> =
            vec![0, 1, -1, 2, -2, 3, 5, 7, 10, 31, 33, 63, 64, 127, 1 << 20, i64::MAX, i64::MIN];
        let wrap = |v: i64| scalar::to_bits(scalar::wrap(v, ty), ty);
        let a: Vec<u64> = values.iter().flat_map(|&a| values.iter().map(move |_| wrap(a))).collect();
        let b: Vec<u64> = values.iter().flat_map(|_| values.iter().map(|&b| wrap(b))).collect();
        let columns = [&a, &b].map(|c| Column::from_bits(ty, c.iter().copied()));
        let out = evaluate(&kernel, &columns, false);
        for i in 0..a.len() {
            let args = [a[i], b[i]].map(|v| scalar::from_bits(v, ty));
            let expected = scalar::to_bits(scalar::apply(ScalarOp::Pow, ty, &args), ty);
            assert_eq!(out.bits(i), expected, "{ty}: {args:?}");
        }
    }
}
