//! Statistics of a tensor, for people to look at.

use crate::tensor::{Tensor, TensorRef, type_text};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// How many of the first values are kept.
const FIRST: usize = 8;

/// A tensor's type and statistics.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// The type, such as `f32[1, 1000]`.
    pub ty: String,
    /// Elements that are numbers.
    pub numbers: usize,
    /// Elements that are NaN.
    pub nans: usize,
    /// The least number; infinity where there is none.
    pub min: f64,
    /// The greatest number; minus infinity where there is none.
    pub max: f64,
    /// The mean of the numbers; 0 where there is none.
    pub mean: f64,
    /// The row-major position of the greatest number.
    pub argmax: usize,
    /// The first values.
    pub first: Vec<f64>,
    /// The first texts, of a tensor of texts.
    pub texts: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

impl Summary {
    /// Those of a tensor.
    pub fn of(t: TensorRef<'_>) -> Summary {
        let mut s = Summary {
            ty: type_text(t.dtype(), t.shape()),
            numbers: 0,
            nans: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            argmax: 0,
            first: t.to_f64s().take(FIRST).collect(),
            texts: t.as_texts().unwrap_or_default().iter().take(FIRST).cloned().collect(),
            more: t.to_f64s().len().max(t.as_texts().unwrap_or_default().len()) > FIRST,
        };
        for (i, v) in t.to_f64s().enumerate() {
            if v.is_nan() {
                s.nans += 1;
                continue;
            }
            s.numbers += 1;
            s.mean += v;
            s.min = s.min.min(v);
            if v > s.max {
                (s.max, s.argmax) = (v, i);
            }
        }
        s.mean /= s.numbers.max(1) as f64;
        s
    }
}

impl From<&Tensor> for Summary {
    fn from(t: &Tensor) -> Summary {
        Summary::of(t.view())
    }
}

/// Six significant digits, without trailing zeros: `0.25`, `-1.5`, `3.21000e-12`.
fn number(v: f64) -> String {
    if v == v as i64 as f64 && v.abs() < 1e9 || !v.is_finite() {
        return format!("{v}");
    }
    let scientific = format!("{v:.5e}");
    let exponent = scientific.rsplit('e').next().and_then(|e| e.parse::<i32>().ok()).unwrap_or(0);
    if !(-4..9).contains(&exponent) {
        return scientific;
    }
    let text = format!("{v:.*}", (5 - exponent).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ty)?;
        if self.numbers > 1 {
            let (min, max, mean) = (number(self.min), number(self.max), number(self.mean));
            write!(f, "  min {min}  max {max} (at {})  mean {mean}", self.argmax)?;
        }
        if self.nans > 0 {
            write!(f, "  NaN {}", self.nans)?;
        }
        let numbers = self.first.iter().map(|v| number(*v));
        let first: Vec<String> = numbers.chain(self.texts.iter().map(|t| format!("{t:?}"))).collect();
        write!(f, "  [{}{}]", first.join(", "), if self.more { ", ..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn statistics() {
        let values: Vec<f32> = (0..10).map(|v| v as f32 / 4.0).chain([f32::NAN]).collect();
        let t = Tensor::new(&[11], &values).expect("fits");
        let expected = "f32[11]  min 0  max 2.25 (at 9)  mean 1.125  NaN 1  [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, ...]";
        assert_eq!(Summary::from(&t).to_string(), expected);
    }

    #[test]
    fn numbers() {
        for (v, text) in [
            (0.1, "0.1"),
            (-12345.678, "-12345.7"),
            (1e-12, "1.00000e-12"),
            (3.0, "3"),
            (-0.99999999, "-1"),
            (123456.7, "123457"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(v), text);
        }
    }
}
