//! Numbers as texts and texts as numbers, as ONNX's `Cast` has them.
//!
//! A float's text is plain notation (no exponent) with the fewest digits from which a float of its width can
//! be had again, and at least one behind the point; infinities and what is no number are `INF`, `-INF` and
//! `NaN`. Texts are read in plain or scientific notation, those three in any case, whitespace around them
//! aside. `Cast` leaves open what a fraction is as an integer: it is cut off.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;
use core::str::FromStr;

use crate::buffers::{count, quoted, text, view, view_mut};
use crate::{Kind, Op, Texts};

/// The ops of this file.
pub(crate) const OPS: &[Op] = &[
    Op {
        name: "TextOfInt",
        inputs: &[Kind::I64],
        outputs: &[Kind::Text],
        call: |inputs, outputs, texts| write(view(inputs[0])?, outputs, texts, |x: i64| x.to_string()),
    },
    Op {
        // A value is one of 32 bits, widened.
        name: "TextOfFloat32",
        inputs: &[Kind::F64],
        outputs: &[Kind::Text],
        call: |inputs, outputs, texts| write(view(inputs[0])?, outputs, texts, |x: f64| plain(x, x as f32)),
    },
    Op {
        name: "TextOfFloat64",
        inputs: &[Kind::F64],
        outputs: &[Kind::Text],
        call: |inputs, outputs, texts| write(view(inputs[0])?, outputs, texts, |x: f64| plain(x, x)),
    },
    Op {
        name: "TextToFloat",
        inputs: &[Kind::Text],
        outputs: &[Kind::F64],
        call: |inputs, outputs, texts| read(view(inputs[0])?, view_mut(outputs[0])?, texts, float),
    },
    Op {
        name: "TextToInt",
        inputs: &[Kind::Text],
        outputs: &[Kind::I64],
        call: |inputs, outputs, texts| read(view(inputs[0])?, view_mut(outputs[0])?, texts, int),
    },
];

fn write<T: Copy>(
    x: &[T],
    outputs: &mut [&mut [u8]],
    texts: &mut dyn Texts,
    show: impl Fn(T) -> String,
) -> Result<(), String> {
    let out = view_mut::<i64>(outputs[0])?;
    count("results", out.len(), x.len())?;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = texts.number(&show(x));
    }
    Ok(())
}

fn read<T>(
    x: &[i64],
    out: &mut [T],
    texts: &dyn Texts,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(), String> {
    count("results", out.len(), x.len())?;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = parse(text(texts, x)?)?;
    }
    Ok(())
}

/// The text of `x`, with the digits of `own`, which is the same value in its own width.
fn plain<T: Display + FromStr + PartialEq>(x: f64, own: T) -> String {
    if x.is_nan() {
        return "NaN".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.to_string();
    }
    // Without a precision this is a shortest text that gives the value back, never with an exponent.
    let shown = own.to_string();
    let Some((_, fraction)) = shown.split_once('.') else { return shown + ".0" };
    // Half-way between two of them NumPy takes the even one, as does a precision.
    let even = format!("{own:.*}", fraction.len());
    if even.parse().is_ok_and(|back: T| back == own) { even } else { shown }
}

fn float(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| format!("{} is no number", quoted(text)))
}

fn int(text: &str) -> Result<i64, String> {
    if let Ok(x) = text.trim().parse() {
        return Ok(x);
    }
    let x = float(text)?;
    // Both bounds are floats; the greatest integer is not.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if (-BOUND..BOUND).contains(&x) {
        Ok(x as i64)
    } else {
        Err(format!("{} is no integer of 64 bits", quoted(text)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    use crate::by_name;
    use crate::testing::{Table, map};

    fn shown(op: &str, x: &[f64]) -> Vec<String> {
        let mut t = Table::default();
        let mut out = vec![-1i64; x.len()];
        let outputs: &mut [&mut [u8]] = &mut [bytemuck::cast_slice_mut(&mut out)];
        by_name(op).expect(op).call(&[bytemuck::cast_slice(x)], outputs, &mut t).expect(op);
        t.texts(&out)
    }

    fn floats(x: &[&str]) -> Result<Vec<f64>, String> {
        let mut t = Table::default();
        let x = t.numbers(x);
        let mut out = vec![-1f64; x.len()];
        let outputs: &mut [&mut [u8]] = &mut [bytemuck::cast_slice_mut(&mut out)];
        by_name("TextToFloat").expect("an op").call(&[bytemuck::cast_slice(&x)], outputs, &mut t)?;
        Ok(out)
    }

    fn ints(x: &[&str]) -> Result<Vec<i64>, String> {
        let mut t = Table::default();
        let x = t.numbers(x);
        map("TextToInt", &x, &[], x.len(), &mut t)
    }

    // NumPy's texts of the same values, but for exponents.
    #[test]
    fn writes_floats_with_the_fewest_digits() {
        let third = f64::from(1.0f32 / 3.0);
        assert_eq!(
            shown("TextOfFloat32", &[f64::from(0.1f32), third, f64::from(314.15926f32), 1.0, -0.0]),
            ["0.1", "0.33333334", "314.15927", "1.0", "-0.0"]
        );
        assert_eq!(
            shown("TextOfFloat64", &[0.1, 1.0 / 3.0, 0.1 + 0.2, 314.15926, -2.0]),
            ["0.1", "0.3333333333333333", "0.30000000000000004", "314.15926", "-2.0"]
        );
        assert_eq!(
            shown("TextOfFloat32", &[f64::from(1e-7f32), 16777216.0, 1e20, 4063688.25, 499492.625]),
            ["0.0000001", "16777216.0", "100000000000000000000.0", "4063688.2", "499492.62"]
        );
    }

    #[test]
    fn writes_what_is_not_finite() {
        for op in ["TextOfFloat32", "TextOfFloat64"] {
            let x = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN];
            assert_eq!(shown(op, &x), ["INF", "-INF", "NaN", "NaN"]);
        }
    }

    #[test]
    fn writes_ints() {
        let mut t = Table::default();
        let out = map("TextOfInt", &[0, -5, i64::MAX, i64::MIN], &[], 4, &mut t).expect("texts");
        assert_eq!(t.texts(&out), ["0", "-5", "9223372036854775807", "-9223372036854775808"]);
    }

    // The spellings that the documentation of Cast lists.
    #[test]
    fn reads_floats() {
        assert_eq!(
            floats(&["314.15926", "1000", "1e-5", "1E8", " -.5 ", "+2."]),
            Ok(vec![314.15926, 1000.0, 0.00001, 1e8, -0.5, 2.0])
        );
        let x = floats(&["+INF", "INF", "-INF", "inf", "NaN", "nan"]).expect("floats");
        assert_eq!(x[..4], [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY]);
        assert!(x[4].is_nan() && x[5].is_nan());
        assert_eq!(floats(&["1", "Hello World!"]), Err("TextToFloat: \"Hello World!\" is no number".into()));
        assert_eq!(floats(&[""]), Err("TextToFloat: \"\" is no number".into()));
    }

    #[test]
    fn reads_ints() {
        assert_eq!(ints(&["1000", "-7", "+3", "100.5", "-1.9", "1e3"]), Ok(vec![1000, -7, 3, 100, -1, 1000]));
        let ends = ints(&["9223372036854775807", "-9223372036854775808", "-9.223372036854775808e18"]);
        assert_eq!(ends, Ok(vec![i64::MAX, i64::MIN, i64::MIN]));
        for none in ["9223372036854775808", "1e19", "INF", "NaN"] {
            assert_eq!(ints(&[none]), Err(alloc::format!("TextToInt: {none:?} is no integer of 64 bits")));
        }
        assert_eq!(ints(&["1,000"]), Err("TextToInt: \"1,000\" is no number".into()));
    }
}
