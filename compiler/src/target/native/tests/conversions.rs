//! Conversions of all numbers of a narrow type, and to narrow floats from around all ties, at every level.

use super::operations::operation_kernel;
use super::*;
use crate::pipeline::KERNEL_PASSES;
use burin_ir::scalar::{ScalarOp, apply, from_bits, to_bits};

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
    for from in DType::ALL.into_iter().filter(|t| t.bits() <= 16 && *t != DType::Bool) {
        // Of types below 8 bits only the bits that their values have.
        let canonical = |b| if from.is_storage() { to_bits(from_bits(b, from), from) } else { b };
        let all: Vec<u64> = (0..1 << from.bits()).map(canonical).collect();
        for to in DType::ALL.into_iter().filter(|t| *t != from) {
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
                let bits = to_bits(burin_ir::Scalar::F(*m), from);
                [bits.saturating_sub(1), bits, bits + 1]
            };
            let mut bits: Vec<u64> = middles.iter().flat_map(around).collect();
            bits.resize(bits.len().next_multiple_of(16), 0);
            check(from, half, &bits);
        }
    }
}
