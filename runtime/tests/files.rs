//! Files that NumPy wrote (`tests/data`), read, and written again byte for byte.

use burin_runtime::files::{self, npy, npz};
use burin_runtime::{BF16, DType, Tensor};
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", name].iter().collect()
}

fn read(name: &str) -> (DType, Vec<usize>, Vec<f64>) {
    let t = files::read(&data(name), "x").expect(name);
    (t.dtype(), t.shape().to_vec(), t.view().to_f64s().collect())
}

fn written(t: &Tensor) -> Vec<u8> {
    [npy::header(t.view()), npy::contents(t.view()).into_owned()].concat()
}

#[test]
fn arrays_of_numpy() {
    let quarters = || (0..6).map(|v| v as f64 / 4.0).collect::<Vec<_>>();
    assert_eq!(read("f32_2x3.npy"), (DType::F32, vec![2, 3], quarters()));
    assert_eq!(read("f16_fortran_2x3.npy"), (DType::F16, vec![2, 3], quarters()));
    assert_eq!(read("i64_big_endian_3.npy"), (DType::I64, vec![3], vec![1.0, -2.0, 2f64.powi(40)]));
    assert_eq!(read("bool_scalar.npy"), (DType::Bool, vec![], vec![1.0]));
    for deflated_or_stored in ["two.npz", "stored.npz"] {
        assert_eq!(read(deflated_or_stored), (DType::F64, vec![2], vec![1.5, 2.5]));
    }
    // With sizes and offsets of 64 bits, as archives above 4 GiB have them, and a comment.
    assert_eq!(read("zip64.npz"), (DType::F32, vec![2], vec![1.5, 2.5]));
}

#[test]
fn damaged_archives_are_refused_and_never_misread() {
    for name in ["two.npz", "stored.npz", "zip64.npz"] {
        let whole = std::fs::read(data(name)).expect(name);
        let expected = npz::read(&whole, "x").expect(name).bytes().to_vec();
        for cut in 0..whole.len() - 4 {
            assert!(npz::read(&whole[..cut], "x").is_err(), "{name} of {cut} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                // What is damaged may be of no account, such as a file's date.
                if let Ok(t) = npz::read(&damaged, "x") {
                    assert_eq!(t.bytes(), expected, "{name} with {value} at {at}");
                }
            }
        }
    }
}

#[test]
fn what_is_written_is_what_numpy_writes() {
    for name in ["f32_2x3.npy", "bool_scalar.npy"] {
        let t = files::read(&data(name), "").expect(name);
        assert_eq!(written(&t), std::fs::read(data(name)).expect(name), "{name}");
    }
}

#[test]
fn bfloat16_becomes_f32() {
    let t = Tensor::new(&[2], &[BF16(0x3fc0), BF16(0xc000)]).expect("fits");
    let again = npy::read(&written(&t)).expect("own file");
    assert_eq!(again.as_slice::<f32>(), Some(&[1.5, -2.0][..]));
}

#[test]
fn bad_files_are_named() {
    let message = |name: &str, wanted| files::read(&data(name), wanted).expect_err(name).to_string();
    assert!(message("none.npy", "").contains("none.npy"));
    assert!(message("complex_1.npy", "").contains("found elements of type"));
    assert!(message("two.npz", "z").contains("found the arrays x, y, expected one called z"));
    let whole = std::fs::read(data("f32_2x3.npy")).expect("data");
    for cut in 0..whole.len() {
        assert!(npy::read(&whole[..cut]).is_err(), "{cut} bytes");
    }
}
