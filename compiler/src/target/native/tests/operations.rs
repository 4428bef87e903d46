//! Every scalar operation on every type: run against the definition, and compiled for every target.

use super::*;
use crate::pipeline::KERNEL_PASSES;
use burin_ir::Scalar;
use burin_ir::compare::ulps;
use burin_ir::loops::{LoopKind, Op, ValType};
use burin_ir::scalar::{ScalarOp, apply, from_bits, to_bits};
use std::collections::BTreeSet;

/// Whether an earlier pass replaces a type.
fn is_narrow(ty: DType) -> bool {
    matches!(ty, DType::F16 | DType::BF16) || ty.is_storage()
}

/// The types that code is generated for.
fn types() -> impl Iterator<Item = DType> {
    DType::of_kernels().filter(|t| !is_narrow(*t))
}

/// Whether an earlier pass expands an operation.
fn is_expanded(op: ScalarOp, ty: DType) -> bool {
    use ScalarOp::*;
    op.is_transcendental() || op == Pow || (ty.is_float() && matches!(op, Rem | Mod))
}

/// The operand types of an operation on `ty`, where it takes that type and code is generated for it.
fn operands(op: ScalarOp, ty: DType) -> Option<Vec<DType>> {
    let mut args = vec![ty; op.arity()];
    if op == ScalarOp::Select {
        args[0] = DType::Bool;
    }
    (!is_expanded(op, ty) && op.result_type(&args).is_ok()).then_some(args)
}

/// Every operation, conversions to every type among them.
fn operations() -> Vec<ScalarOp> {
    let casts = types().flat_map(|t| [ScalarOp::Cast(t), ScalarOp::Bitcast(t)]);
    ScalarOp::ALL.iter().copied().chain(casts).collect()
}

/// Values at which something may go wrong.
fn edges(ty: DType) -> Vec<Scalar> {
    let floats: &[f64] = &[
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        0.3,
        -0.7,
        1e-40,
        -1e-310,
        3e9,
        -3e9,
        2e19,
        -2e19,
        127.9,
        -128.5,
        255.5,
        8388607.5,
        -4503599627370495.5,
        1e38,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let ints: &[i64] = &[
        0,
        1,
        2,
        3,
        7,
        8,
        31,
        32,
        63,
        64,
        100,
        -1,
        -2,
        -7,
        -100,
        127,
        -128,
        255,
        32767,
        -32768,
        i32::MAX as i64,
        i32::MIN as i64,
        i64::MAX,
        i64::MIN,
        i64::MAX - 511,
        1 << 53,
    ];
    match ty {
        DType::Bool => vec![Scalar::B(false), Scalar::B(true)],
        t if t.is_float() => floats.iter().map(|v| Scalar::F(*v).cast(t)).collect(),
        t => ints.iter().map(|v| Scalar::I(*v).cast(t)).collect(),
    }
}

/// Rows of operands: all pairs, and others behind them that go with both.
fn rows(args: &[DType]) -> Vec<Vec<Scalar>> {
    let all: Vec<Vec<Scalar>> = args.iter().map(|t| edges(*t)).collect();
    let count = all.iter().map(Vec::len).max().unwrap_or(0);
    let mut rows = Vec::new();
    for i in 0..count {
        for j in 0..if args.len() > 1 { count } else { 1 } {
            let pick = [i, j, i * 7 + j * 3, i * 5 + j];
            rows.push(all.iter().zip(pick).map(|(v, k)| v[k % v.len()]).collect());
        }
    }
    rows
}

/// A kernel that applies an operation to `n` rows, `lanes` at a time.
pub(in crate::target::native) fn operation_kernel(
    op: ScalarOp,
    args: &[DType],
    lanes: u16,
    n: usize,
) -> Kernel {
    let out = op.result_type(args).expect("well-typed");
    let len = Expr::from(n);
    let mut buffers: Vec<_> = args.iter().map(|t| ("a", *t, len.clone(), Access::Read)).collect();
    buffers.push(("out", out, len, Access::Write));
    kernel_of(&buffers, &[], |b, ids| {
        let extent = Expr::from(n / lanes as usize);
        b.for_(Symbol::new("i"), extent, LoopKind::Serial, &[], |b, _| {
            let at = Expr::named("i") * lanes as i64;
            let (last, inputs) = ids.split_last().expect("buffers");
            let args: Vec<_> =
                inputs.iter().map(|a| b.load_vector(*a, at.clone(), Expr::ONE, lanes)).collect();
            let v = b.let_(ValType { dtype: out, lanes }, Op::Scalar(op, args));
            b.store_vector(*last, at, Expr::ONE, v);
            Vec::new()
        });
    })
}

/// Both roundings of `muladd`, and what `fma` is. 16-bit floats are `f32` until the result is rounded.
fn answers(op: ScalarOp, ty: DType, row: &[Scalar]) -> Vec<Scalar> {
    let [a, b, c] = [0, 1, 2].map(|i| row.get(i).map_or(0.0, |v| v.as_f64()));
    let once = match ty {
        DType::F64 => a.mul_add(b, c),
        _ => (a as f32).mul_add(b as f32, c as f32) as f64,
    };
    let twice = match ty {
        DType::F64 => a * b + c,
        _ => (a as f32 * b as f32 + c as f32) as f64,
    };
    let [once, twice] = [once, twice].map(|v| Scalar::F(v).cast(ty));
    match op {
        ScalarOp::Fma if ty.is_float() => vec![once],
        ScalarOp::MulAdd if ty.is_float() => vec![once, twice],
        _ => vec![apply(op, ty, row)],
    }
}

fn check(op: ScalarOp, ty: DType, lanes: u16, target: &TargetSpec) {
    let Some(args) = operands(op, ty) else { return };
    if op == ScalarOp::Fma && ty == DType::F64 && !target.fma {
        return;
    }
    let out = op.result_type(&args).expect("well-typed");
    let mut rows = rows(&args);
    while !rows.len().is_multiple_of(lanes as usize) {
        rows.push(rows[0].clone());
    }
    let mut buffers: Vec<Vec<u8>> = (0..args.len())
        .map(|i| {
            let bits = rows.iter().map(|r| to_bits(r[i], args[i]).to_le_bytes());
            bits.flat_map(|b| b[..args[i].bytes()].to_vec()).collect()
        })
        .collect();
    buffers.push(vec![0xa5; rows.len() * out.bytes()]);
    let kernel = operation_kernel(op, &args, lanes, rows.len());
    run(&kernel, target, &mut buffers, &[], (0, 1));
    let result = buffers.pop().expect("the output");
    for (row, bytes) in rows.iter().zip(result.chunks(out.bytes())) {
        let mut bits = [0; 8];
        bits[..bytes.len()].copy_from_slice(bytes);
        let found = from_bits(u64::from_le_bytes(bits), out);
        let expected = answers(op, ty, row);
        assert!(
            expected.iter().any(|e| e.same(found)),
            "{op} on {ty}x{lanes} at {target:?}: {row:?} gave {found:?}, expected {expected:?}"
        );
    }
}

#[test]
fn every_operation_computes_what_it_is_defined_to() {
    for target in runnable() {
        for ty in types() {
            let full = (128 / ty.bits()) as u16;
            for op in operations() {
                for lanes in BTreeSet::from([1, 2, 4, 8, 16, full * 2, full + 1]) {
                    check(op, ty, lanes, &target);
                }
            }
        }
    }
}

#[test]
fn every_operation_compiles_for_every_target() {
    for target in every_target() {
        for ty in types() {
            let full = (128 / ty.bits()) as u16;
            for op in operations() {
                let Some(args) = operands(op, ty) else { continue };
                for lanes in [1, full * 2 + 1] {
                    let kernel = operation_kernel(op, &args, lanes, lanes as usize * 2);
                    let made = kernel::compile(&kernel, &target);
                    if op == ScalarOp::Fma && ty == DType::F64 && !target.fma {
                        assert!(made.is_err(), "f64 fma needs the instruction");
                        continue;
                    }
                    let function = made.unwrap_or_else(|e| panic!("{op} on {ty} for {target:?}: {e}"));
                    link::link(&[function], &target).expect("links");
                }
            }
        }
    }
}

#[test]
fn what_is_not_expanded_is_refused() {
    let target = TargetSpec::host().expect("the host is a target");
    for (op, ty) in [(ScalarOp::Exp, DType::F32), (ScalarOp::Rem, DType::F64), (ScalarOp::Add, DType::F16)] {
        let args = vec![ty; op.arity()];
        let error = kernel::compile(&operation_kernel(op, &args, 1, 1), &target).expect_err("refused");
        assert!(error.to_string().contains("has not been expanded"), "{error}");
    }
}

#[test]
fn shifts_by_equal_amounts() {
    for target in runnable() {
        for ty in types().filter(|t| t.is_int()) {
            for op in [ScalarOp::Shl, ScalarOp::Shr] {
                for amount in [0, 1, 5, ty.bits() as i64 - 1, ty.bits() as i64, 100, -1] {
                    for lanes in BTreeSet::from([4, 8, (256 / ty.bits()) as u16]) {
                        shift_by(op, ty, lanes, amount, &target);
                    }
                }
            }
        }
    }
}

fn shift_by(op: ScalarOp, ty: DType, lanes: u16, amount: i64, target: &TargetSpec) {
    let amount = Scalar::I(amount).cast(ty);
    let len = Expr::from(lanes as i64);
    let buffers = [
        ("x", ty, len.clone(), Access::Read),
        ("by", ty, Expr::ONE, Access::Read),
        ("constant", ty, len.clone(), Access::Write),
        ("loaded", ty, len, Access::Write),
    ];
    let kernel = kernel_of(&buffers, &[], |b, ids| {
        let x = b.load_vector(ids[0], Expr::ZERO, Expr::ONE, lanes);
        let constant = b.const_(ValType { dtype: ty, lanes }, to_bits(amount, ty));
        let by = b.load(ids[1], 0);
        let loaded = b.splat(by, lanes);
        for (amount, out) in [(constant, ids[2]), (loaded, ids[3])] {
            let v = b.op(op, &[x, amount]);
            b.store_vector(out, Expr::ZERO, Expr::ONE, v);
        }
    });
    let values: Vec<Scalar> = edges(ty).into_iter().cycle().take(lanes as usize).collect();
    let pack = |v: &Scalar| to_bits(*v, ty).to_le_bytes()[..ty.bytes()].to_vec();
    let size = lanes as usize * ty.bytes();
    let mut data = vec![values.iter().flat_map(pack).collect(), pack(&amount), vec![0; size], vec![0; size]];
    run(&kernel, target, &mut data, &[], (0, 1));
    let expected: Vec<u8> = values.iter().flat_map(|v| pack(&apply(op, ty, &[*v, amount]))).collect();
    for (out, what) in [(2, "constant"), (3, "loaded")] {
        assert_eq!(data[out], expected, "{op} {ty}x{lanes} by {what} {amount:?} at {target:?}");
    }
}

/// A kernel that chooses between values of one type by a comparison of another.
fn choice_kernel(compared: DType, chosen: DType, lanes: u16, n: usize) -> Kernel {
    let len = Expr::from(n);
    let buffers = [
        ("x", compared, len.clone(), Access::Read),
        ("y", compared, len.clone(), Access::Read),
        ("a", chosen, len.clone(), Access::Read),
        ("b", chosen, len.clone(), Access::Read),
        ("out", chosen, len, Access::Write),
    ];
    kernel_of(&buffers, &[], |b, ids| {
        b.for_(Symbol::new("i"), Expr::from(n / lanes as usize), LoopKind::Serial, &[], |b, _| {
            let at = Expr::named("i") * lanes as i64;
            let args: Vec<_> =
                ids[..4].iter().map(|id| b.load_vector(*id, at.clone(), Expr::ONE, lanes)).collect();
            let less = b.op(ScalarOp::Lt, &args[..2]);
            let v = b.op(ScalarOp::Select, &[less, args[2], args[3]]);
            b.store_vector(ids[4], at, Expr::ONE, v);
            Vec::new()
        });
    })
}

fn check_choice(compared: DType, chosen: DType, lanes: u16, target: &TargetSpec) {
    let n = lanes as usize * 32;
    let pack = |ty: DType, step: usize| {
        let values = edges(ty);
        let value = move |i: usize| values[i * step % values.len()];
        let bytes = |v: Scalar| to_bits(v, ty).to_le_bytes()[..ty.bytes()].to_vec();
        let packed: Vec<u8> = (0..n).flat_map(|i| bytes(value(i))).collect();
        (value, packed)
    };
    let ((x, xs), (y, ys)) = (pack(compared, 1), pack(compared, 3));
    let ((a, as_), (b, bs)) = (pack(chosen, 1), pack(chosen, 5));
    let mut data = vec![xs, ys, as_, bs, vec![0; n * chosen.bytes()]];
    run(&choice_kernel(compared, chosen, lanes, n), target, &mut data, &[], (0, 1));
    for (i, bytes) in data[4].chunks(chosen.bytes()).enumerate() {
        let mut bits = [0; 8];
        bits[..bytes.len()].copy_from_slice(bytes);
        let found = from_bits(u64::from_le_bytes(bits), chosen);
        let less = apply(ScalarOp::Lt, compared, &[x(i), y(i)]).as_bool();
        let expected = if less { a(i) } else { b(i) };
        assert!(
            found.same(expected),
            "{compared} chooses {chosen}x{lanes} at {target:?}: {found:?}, expected {expected:?} for {i}"
        );
    }
}

/// Masks of any width meet data of any width.
#[test]
fn comparisons_choose_values_of_every_other_type() {
    for (compared, chosen) in types().flat_map(|a| types().map(move |b| (a, b))) {
        if compared == DType::Bool {
            continue;
        }
        for lanes in BTreeSet::from([1, 4, 5, 8, 16]) {
            for target in runnable() {
                check_choice(compared, chosen, lanes, &target);
            }
            for target in every_target() {
                let made = kernel::compile(&choice_kernel(compared, chosen, lanes, 32), &target);
                made.unwrap_or_else(|e| panic!("{compared} chooses {chosen} for {target:?}: {e}"));
            }
        }
    }
}

/// How far expanded operations may be from their definition, in units in the last place: the bounds
/// that the passes state, and the rounding of 16-bit results.
const EXPANDED_ULPS: u64 = 4;

/// Runs a kernel of an operation after the passes that expand what no machine has.
fn check_expanded(op: ScalarOp, ty: DType, lanes: u16, target: &TargetSpec) {
    let mut args = vec![ty; op.arity()];
    if op == ScalarOp::Select {
        args[0] = DType::Bool;
    }
    let Ok(out) = op.result_type(&args) else { return };
    if op == ScalarOp::Fma && ty == DType::F64 && !target.fma {
        return;
    }
    let mut rows = rows(&args);
    while !rows.len().is_multiple_of(lanes as usize) {
        rows.push(rows[0].clone());
    }
    let mut kernel = operation_kernel(op, &args, lanes, rows.len());
    for pass in KERNEL_PASSES {
        (pass.run)(&mut kernel);
    }
    if !target.runs_here() {
        let made = kernel::compile(&kernel, target);
        let function = made.unwrap_or_else(|e| panic!("{op} on {ty}x{lanes} for {target:?}: {e}"));
        link::link(&[function], target).expect("links");
        return;
    }
    let bytes = |v: Scalar, ty: DType| to_bits(v, ty).to_le_bytes()[..ty.bytes()].to_vec();
    let column = |i: usize| rows.iter().flat_map(|r| bytes(r[i], args[i])).collect();
    let mut buffers: Vec<Vec<u8>> = (0..args.len()).map(column).collect();
    buffers.push(vec![0xa5; rows.len() * out.bytes()]);
    run(&kernel, target, &mut buffers, &[], (0, 1));
    for (row, found) in rows.iter().zip(buffers[args.len()].chunks(out.bytes())) {
        let mut bits = [0; 8];
        bits[..found.len()].copy_from_slice(found);
        let found = from_bits(u64::from_le_bytes(bits), out);
        let near = |e: &Scalar| e.same(found) || (out.is_float() && ulps(out, *e, found) <= EXPANDED_ULPS);
        let expected = answers(op, ty, row);
        assert!(
            expected.iter().any(near),
            "{op} on {ty}x{lanes} at {target:?}: {row:?} gave {found:?}, expected {expected:?}"
        );
    }
}

/// What earlier passes expand: all operations on narrow types, and functions, powers and remainders
/// on the other types.
#[test]
fn expanded_operations_compute_what_they_are_defined_to() {
    for target in runnable().into_iter().chain(every_target()) {
        for ty in DType::of_kernels() {
            // What becomes of them is code on bytes and `f32`, which other types are compiled for as well.
            if ty.is_storage() && !target.runs_here() {
                continue;
            }
            for op in operations() {
                if is_narrow(ty) || is_expanded(op, ty) {
                    for lanes in BTreeSet::from([1, 4, 8, 16, (256 / ty.bits()) as u16]) {
                        check_expanded(op, ty, lanes, &target);
                    }
                }
            }
        }
    }
}
