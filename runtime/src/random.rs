//! Seeded random tensors, for trying a model without data. The same seed gives the same tensor on
//! every machine.

use crate::error::Error;
use crate::tensor::{DType, Tensor};

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with that seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 0, variance 1, nearly normal: the sum of four uniform numbers, shifted and scaled.
    pub fn normal(&mut self) -> f64 {
        const SQRT_3: f64 = 1.732_050_807_568_877_2;
        ((0..4).map(|_| self.uniform()).sum::<f64>() - 2.0) * SQRT_3
    }
}

/// Random integers are below this, so that they serve as indices of nearly everything.
const SMALL: u64 = 8;

/// Random texts are one of these, once or twice.
const WORDS: [&str; 4] = ["", "a", "b c", "1"];

/// A random tensor: floats nearly normal with mean 0 and variance 1 (those of 8 bits or less
/// positive), integers from 0 to 7 or the largest, bools even.
pub fn tensor(dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor, Error> {
    let mut t = Tensor::zeros(dtype, shape)?;
    let mut random = Random::new(seed);
    if dtype == DType::Text {
        let word = |i: usize| WORDS[(random.bits() % WORDS.len() as u64) as usize].repeat(1 + i % 2);
        return Tensor::from_texts(shape, (0..shape.iter().product()).map(word).collect());
    }
    for element in t.bytes_mut().chunks_exact_mut(dtype.bytes()) {
        let bits = match dtype {
            DType::F64 => random.normal().to_bits(),
            DType::F32 => (random.normal() as f32).to_bits() as u64,
            // Truncation of the fraction rounds towards zero, which random numbers do not mind.
            DType::BF16 => (random.normal() as f32).to_bits() as u64 >> 16,
            DType::F16 => f16_bits(random.normal() as f32) as u64,
            DType::Bool => random.bits() & 1,
            // Positive numbers of every exponent below that of 2.
            small if small.is_float() => random.bits() % (1 << (small.packed_bits() - 2)),
            small if small.packed_bits() < 8 => random.bits() % (1 << (small.packed_bits() - 1)),
            _ => random.bits() % SMALL,
        };
        element.copy_from_slice(&bits.to_le_bytes()[..element.len()]);
    }
    Ok(t)
}

/// The bits of a number of moderate size as a half, rounded towards zero; tiny ones become zero.
fn f16_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    match (bits >> 23 & 0xff) as i32 - 112 {
        e @ 1..=30 => sign | (e as u16) << 10 | (bits >> 13 & 0x3ff) as u16,
        _ => sign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_near_those_of_the_normal_distribution() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let t = tensor(dtype, &[10_000], 7).expect("small");
            let n = 10_000.0;
            let mean = t.view().to_f64s().sum::<f64>() / n;
            let variance = t.view().to_f64s().map(|v| v * v).sum::<f64>() / n;
            assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{dtype}: {mean} {variance}");
        }
    }

    #[test]
    fn seeds_tell_tensors_apart() {
        let make = |seed| tensor(DType::I64, &[64], seed).expect("small").bytes().to_vec();
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}
