//! Conversions of all numbers of a narrow type, and to narrow floats from around all ties, at every level.

use super::operations::operation_kernel;
use super::*;
use crate::pipeline::KERNEL_PASSES;
use burin_ir::loops::{LoopKind, ValType};
use burin_ir::scalar::{Scalar, ScalarOp, apply, from_bits, to_bits};

/// Holds a conversion in native code, with vectors and without, against its definition.
fn check(from: DType, to: DType, bits: &[u64]) {
    let op = ScalarOp::Cast(to);
    let value = |b: &u64| from_bits(*b, from);
    let expected: Vec<_> = bits.iter().map(|b| apply(op, from, &[value(b)])).collect();
    let input: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()[..from.bytes()].to_vec()).collect();
    for (target, lanes) in runnable().into_iter().flat_map(|t| [1, 8, 16].map(|l| (t.clone(), l))) {
        let mut kernel = operation_kernel(op, &[from], lanes, bits.len());
        KERNEL_PASSES.iter().for_each(|pass| (pass.run)(&mut kernel));
        let mut buffers = vec![input.clone(), vec![0xa5; bits.len() * to.bytes()]];
        run(&kernel, &target, &mut buffers, &[], (0, 1));
        for ((b, expected), found) in bits.iter().zip(&expected).zip(buffers[1].chunks(to.bytes())) {
            let mut raw = [0; 8];
            raw[..found.len()].copy_from_slice(found);
            let found = from_bits(u64::from_le_bytes(raw), to);
            assert!(
                expected.same(found),
                "{from} to {to} x{lanes} at {target:?}: {:?} gave {found:?}, expected {expected:?}",
                value(b)
            );
        }
    }
}

#[test]
fn all_narrow_numbers_become_every_type() {
    for from in DType::of_kernels().filter(|t| t.bits() <= 16 && *t != DType::Bool) {
        // Of types below 8 bits only the bits that their values have.
        let canonical = |b| if from.is_storage() { to_bits(from_bits(b, from), from) } else { b };
        let all: Vec<u64> = (0..1 << from.bits()).map(canonical).collect();
        for to in DType::of_kernels().filter(|t| *t != from) {
            check(from, to, &all);
        }
    }
}

#[test]
fn floats_are_rounded_to_halves_once() {
    for half in [DType::F16, DType::BF16] {
        // Around every midpoint of neighbours, by one place of the wide type to both sides.
        let middle = |h: u64| {
            let [a, b] = [h, h + 1].map(|h| from_bits(h, half).as_f64());
            a / 2.0 + b / 2.0
        };
        let middles: Vec<f64> = (0..0xffff).filter(|h| h & 0x7fff != 0x7fff).map(middle).collect();
        for from in [DType::F32, DType::F64] {
            let around = |m: &f64| {
                let bits = to_bits(Scalar::F(*m), from);
                [bits.saturating_sub(1), bits, bits + 1]
            };
            let mut bits: Vec<u64> = middles.iter().flat_map(around).collect();
            bits.resize(bits.len().next_multiple_of(16), 0);
            check(from, half, &bits);
        }
    }
}

/// What quantises: `cast(round(x) + c)` saturates, and `c` may be taken away from it again.
#[test]
fn floats_are_quantised_to_the_nearest_step() {
    let edges = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 126.5, 127.5, 128.5, 254.5, 255.49, 255.5, 1e9, -1e9, 3e38];
    let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE];
    let mut xs: Vec<f32> = edges.iter().flat_map(|x| [*x, -x]).chain(special).collect();
    xs.resize(xs.len().next_multiple_of(16), 7.25);
    for (to, c, target) in [DType::U8, DType::U16, DType::I8, DType::I32]
        .into_iter()
        .flat_map(|to| [0i64, 3, 128, 255].map(|c| (to, c)))
        .flat_map(|(to, c)| runnable().into_iter().map(move |t| (to, c, t)))
    {
        let add = Scalar::F(c as f64);
        let expected: Vec<i64> = xs
            .iter()
            .map(|x| {
                let rounded = apply(ScalarOp::Round, DType::F32, &[Scalar::F(f64::from(*x))]);
                apply(ScalarOp::Add, DType::F32, &[rounded, add]).cast(to).as_i64()
            })
            .collect();
        let len = Expr::from(xs.len());
        let buffers = [
            ("x", DType::F32, len.clone(), Access::Read),
            ("q", to, len.clone(), Access::Write),
            ("steps", DType::I32, len, Access::Write),
        ];
        let kernel = kernel_of(&buffers, &[], |b, ids| {
            let extent = Expr::from(xs.len() / 16);
            b.for_(Symbol::new("i"), extent, LoopKind::Serial, &[], |b, _| {
                let at = Expr::named("i") * 16;
                let x = b.load_vector(ids[0], at.clone(), Expr::ONE, 16);
                let of = |dtype, v| (ValType::vector(dtype, 16), to_bits(v, dtype));
                let (ty, bits) = of(DType::F32, add);
                let by = b.const_(ty, bits);
                let (ty, bits) = of(DType::I32, Scalar::I(c));
                let by_int = b.const_(ty, bits);
                let rounded = b.op(ScalarOp::Round, &[x]);
                let moved = b.op(ScalarOp::Add, &[rounded, by]);
                let q = b.op(ScalarOp::Cast(to), &[moved]);
                b.store_vector(ids[1], at.clone(), Expr::ONE, q);
                let wide = b.op(ScalarOp::Cast(DType::I32), &[q]);
                let steps = b.op(ScalarOp::Sub, &[wide, by_int]);
                b.store_vector(ids[2], at, Expr::ONE, steps);
                Vec::new()
            });
        });
        let bytes = xs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut data = vec![bytes, vec![0; xs.len() * to.bytes()], vec![0; xs.len() * 4]];
        run(&kernel, &target, &mut data, &[], (0, 1));
        for (((q, steps), x), expected) in
            data[1].chunks(to.bytes()).zip(data[2].chunks(4)).zip(&xs).zip(&expected)
        {
            let int = |bytes: &[u8], ty| {
                let mut raw = [0; 8];
                raw[..bytes.len()].copy_from_slice(bytes);
                from_bits(u64::from_le_bytes(raw), ty).as_i64()
            };
            let (q, steps) = (int(q, to), int(steps, DType::I32));
            let wrapped = expected.wrapping_sub(c) as i32;
            assert_eq!((q, steps), (*expected, i64::from(wrapped)), "{x} to {to} + {c} at {target:?}");
        }
    }
}
