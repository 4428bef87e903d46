//! Code for several levels in one blob: which one its `plan` and `run` choose.
#![cfg(target_arch = "x86_64")]

use super::programs::{chain, plan};
use super::*;
use crate::target::native::compile_levels;
use burin_runtime::abi::{Call, Status, code};
use burin_runtime::cpu::host_features;
use std::ptr::{null, null_mut};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Code for the levels with these features, best first: one adds the weight once to the input, the
/// next twice, and so on, so that what comes out says which one ran. It is compiled for the baseline,
/// so that this machine can run it whatever features it is said to need.
fn levels(features: &[u64]) -> Mapped {
    let target = |mask: &u64| {
        let mut target = TargetSpec::new(Some(TRIPLE), Some("v1")).expect("a level");
        target.features = *mask;
        target
    };
    let made: Vec<_> =
        features.iter().enumerate().map(|(i, mask)| (chain(i + 1, &[1.0]), target(mask))).collect();
    let pairs: Vec<_> = made.iter().map(|(p, t)| (p, t)).collect();
    let compiled = compile_levels(&pairs).expect("compiles");
    assert_eq!(compiled.levels.len(), features.len());
    Mapped::new(&compiled, &TargetSpec::host().expect("host")).expect("maps")
}

/// Runs on a 0; what comes out, or the failure's code.
fn run_with(code: &Mapped, variant: u32) -> Result<f32, Status> {
    let weights = [&[0f32; 16][..], &[1.0]].concat();
    let (x, mut y, mut arena) = ([0f32], [0f32], [0u64; 64]);
    let (inputs, outputs) = ([x.as_ptr().cast::<u8>()], [y.as_mut_ptr().cast::<u8>()]);
    let mut call = Call {
        weights: weights.as_ptr().cast(),
        arena: arena.as_mut_ptr().cast(),
        inputs: inputs.as_ptr(),
        outputs: outputs.as_ptr(),
        output_dims: null_mut(),
        states: null(),
        dims: [1i64].as_ptr(),
        workers: 1,
        variant,
        host: null_mut(),
        parallel_for: None,
        alloc: None,
        host_op: None,
        trace: None,
        status: Status::default(),
    };
    // SAFETY: the buffers are as large as the plan for one row and one worker says.
    match unsafe { code.run(&mut call) } {
        code::OK => Ok(y[0]),
        _ => Err(call.status),
    }
}

#[test]
fn the_best_level_that_the_cpu_has_is_chosen() {
    let host = host_features();
    let beyond = 1 << 62;
    for (features, chosen) in [
        (vec![host, 0], 1),
        (vec![host | beyond, host, 0], 2),
        (vec![u64::MAX, host | beyond, 0], 3),
        (vec![host], 1),
    ] {
        let code = levels(&features);
        let (answer, got, shape) = plan(&code, &[1], 1);
        assert_eq!((answer, got.variant, shape), (code::OK, chosen, vec![1, 1]), "{features:x?}");
        // What the plan has chosen; no choice, and none that there is: asked again.
        for variant in [got.variant, 0, 17, u32::MAX] {
            assert_eq!(run_with(&code, variant).ok(), Some(chosen as f32), "{features:x?} {variant}");
        }
    }
}

#[test]
fn run_takes_the_plans_choice() {
    let code = levels(&[host_features(), 0]);
    assert_eq!(run_with(&code, 2).ok(), Some(2.0));
}

#[test]
fn a_cpu_without_any_level_is_refused_with_what_the_last_one_needs() {
    let (far, near) = (3 << 61, 1 << 61);
    let code = levels(&[host_features() | far, near]);
    let (answer, got, _) = plan(&code, &[1], 1);
    assert_eq!((answer, got.status.code, got.status.found as u64), (code::CPU, code::CPU, near));
    let status = run_with(&code, 0).expect_err("refused");
    assert_eq!((status.code, status.found as u64, status.expected as u64), (code::CPU, near, near));
}

#[test]
fn lists_of_levels_are_ordered_and_checked() {
    let list = |text: &str| {
        let all = TargetSpec::list(Some(TRIPLE), Some(text)).map_err(|e| e.to_string())?;
        Ok::<_, String>(all.into_iter().map(|t| t.level).collect::<Vec<_>>())
    };
    let both = vec!["x86-64-v4".to_owned(), "x86-64-v3".to_owned()];
    assert_eq!(list("v3,v4"), Ok(both.clone()));
    assert_eq!(list("x86-64-v4, v3"), Ok(both));
    assert_eq!(list("v2"), Ok(vec!["x86-64-v2".to_owned()]));
    for (text, part) in [
        ("v3,x86-64-v3", "x86-64-v3 and x86-64-v3 are the same; name each level once"),
        ("v3,", "found an empty CPU level in \"v3,\""),
        ("v3,aarch64", "unknown CPU level \"aarch64\" for x86_64-unknown-linux-gnu"),
        ("v3,v9", "unknown CPU level \"v9\""),
    ] {
        let error = list(text).expect_err("refused");
        assert!(error.contains(part), "{error}");
    }
    let error = TargetSpec::list(Some("aarch64-unknown-linux-gnu"), Some("aarch64,v3")).expect_err("refused");
    assert!(error.to_string().contains("\"v3\" for aarch64-unknown-linux-gnu; there is aarch64"), "{error}");
}
