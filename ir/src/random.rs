//! Seeded random tensors: the same seed gives the same elements on every machine.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", 2014).

use crate::dtype::DType;
use crate::scalar::Scalar;
use crate::strings;
use crate::tensor::Tensor;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Which values a random tensor holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fill {
    /// Floats from the standard normal distribution, integers from -8 (0 if unsigned) to below 8,
    /// bools.
    Standard,
    /// Uniform from `lo` to below `hi`; integers, and bools from their numbers, are rounded down.
    Uniform {
        /// The least value.
        lo: f64,
        /// What every value is below.
        hi: f64,
    },
}

impl Random {
    /// The stream of that seed.
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

    /// Uniform in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`; 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// From the standard normal distribution (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    fn scalar(&mut self, ty: DType, fill: Fill) -> Scalar {
        match fill {
            _ if ty == DType::Text => {
                Scalar::I(strings::number_of(["", "a", "b", "ab", "Ä 1"][self.below(5)]))
            }
            Fill::Standard if ty.is_float() => Scalar::F(self.normal()),
            Fill::Standard if ty == DType::Bool => Scalar::B(self.bits() & 1 == 1),
            Fill::Standard if ty.is_signed_int() => Scalar::I(self.below(16) as i64 - 8),
            Fill::Standard => Scalar::I(self.below(8) as i64),
            Fill::Uniform { lo, hi } => {
                let v = lo + (hi - lo) * self.unit();
                Scalar::F(if ty.is_float() { v } else { v.floor() })
            }
        }
    }

    /// A tensor of random elements.
    pub fn tensor(&mut self, ty: DType, shape: &[usize], fill: Fill) -> Tensor {
        let n = shape.iter().product::<usize>();
        let values: Vec<Scalar> = (0..n).map(|_| self.scalar(ty, fill)).collect();
        Tensor::from_scalars(ty, shape, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_elements() {
        // The first outputs of SplitMix64 for seed 0, from its authors' reference implementation.
        let mut r = Random::new(0);
        assert_eq!([r.bits(), r.bits()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn values_stay_in_their_range() {
        let mut r = Random::new(7);
        let t = r.tensor(DType::I8, &[1000], Fill::Standard).to_i64s();
        assert_eq!((t.iter().min(), t.iter().max()), (Some(&-8), Some(&7)));
        let t = r.tensor(DType::U8, &[1000], Fill::Uniform { lo: 2.0, hi: 5.0 }).to_i64s();
        assert_eq!((t.iter().min(), t.iter().max()), (Some(&2), Some(&4)));
        let t = r.tensor(DType::F32, &[4000], Fill::Standard).to_f64s();
        assert!(t.iter().sum::<f64>().abs() / 4000.0 < 0.1);
        let variance = t.iter().map(|v| v * v).sum::<f64>() / 4000.0;
        assert!((0.9..1.1).contains(&variance), "{variance}");
    }
}
