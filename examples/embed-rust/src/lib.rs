//! The digits model as Rust types: [`Digits`] takes one image, [`AnyDigits`] any number of them.
//!
//! `build.rs` has compiled both; shapes, types and names below are checked by rustc.

use burin_runtime::Error;

mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}
mod any_digits {
    include!(concat!(env!("OUT_DIR"), "/any_digits.rs"));
}

pub use any_digits::{AnyDigits, AnyDigitsOutputs};
pub use digits::{Digits, DigitsOutputs};

/// The most probable digit for an image, and its probability.
pub fn read(model: &mut Digits, image: &[f32; 64]) -> Result<(usize, f32), Error> {
    let outputs = model.forward(image)?;
    let probabilities: &[f32; 10] = &outputs.probabilities;
    let best = (0..10).fold(0, |best, d| if probabilities[d] > probabilities[best] { d } else { best });
    Ok((best, probabilities[best]))
}
