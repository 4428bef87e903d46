//! The embedded models give the answers that were recorded when the model was trained.
#![allow(clippy::unwrap_used)]

use burin_runtime::Pool;
use embed_rust::{AnyDigits, Digits, read};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Floats of an `.npy` file of `f32`s: they follow the header, whose length stands at its start.
fn floats(file: &str) -> Vec<f32> {
    let path = format!("{}/../digits/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let data = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[data..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-6 + 1e-5 * e, "found {found:?}, expected {expected:?}");
    }
}

#[test]
fn one_image_at_a_time() {
    let (images, expected) = (floats("images.npy"), floats("images_expected.npy"));
    let mut model = Digits::new().unwrap();
    for (digit, (image, expected)) in images.chunks_exact(64).zip(expected.chunks_exact(10)).enumerate() {
        let image: &[f32; 64] = image.try_into().unwrap();
        let outputs = model.forward(image).unwrap();
        assert_eq!(outputs.probabilities.shape(), [1, 10]);
        assert_near(&*outputs.probabilities, expected);
        assert_eq!(read(&mut model, image).unwrap().0, digit);
    }
}

#[test]
fn any_number_of_images() {
    let (images, expected) = (floats("images.npy"), floats("images_expected.npy"));
    let mut model = AnyDigits::new().unwrap();
    for n in [1, 10, 3, 0] {
        let outputs = model.forward(n, &images[..64 * n]).unwrap();
        assert_eq!(outputs.probabilities.shape(), [n, 10]);
        assert_near(&outputs.probabilities, &expected[..10 * n]);
    }
}

#[test]
fn threads_change_nothing() {
    let images = floats("images.npy");
    let alone = AnyDigits::new().unwrap().forward(10, &images).unwrap();
    let pool = Arc::new(Pool::new(2).unwrap());
    let mut threaded = AnyDigits::new().unwrap().with_executor(pool);
    let bits = |v: &[f32]| v.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&threaded.forward(10, &images).unwrap().probabilities), bits(&alone.probabilities));
}

#[test]
fn wrong_sizes_are_refused() {
    let e = AnyDigits::new().unwrap().forward(2, &[0.0; 64]).unwrap_err();
    assert_eq!(e.to_string(), "input \"image\": found 64 elements, expected f32[2, 1, 8, 8]");
    assert!(AnyDigits::new().unwrap().forward(usize::MAX, &[]).is_err());
}

#[test]
fn the_program_reads_a_drawing() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_embed-rust"));
    let out = program.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("is a 7"), "{text}");
}
