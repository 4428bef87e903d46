//! From the coefficients of a block to its samples: libjpeg's exact integer transformation (`islow`), by
//! Loeffler, Ligtenberg and Moschytz, with 13 bits of fraction.

use super::BLOCK;

const FRACTION: u32 = 13;
/// Bits of fraction that columns keep.
const BETWEEN: u32 = 2;

const fn fixed(x: f64) -> i64 {
    (x * (1 << FRACTION) as f64 + 0.5) as i64
}

/// Writes the 8 by 8 samples of a block, in rows that lie `stride` apart.
pub(super) fn block(coefficients: &[i16; BLOCK], steps: &[u16; BLOCK], out: &mut [u8], stride: usize) {
    let sample = |x: i64| (x + 128).clamp(0, 255) as u8;
    let at = |i: usize| i64::from(coefficients[i]) * i64::from(steps[i]);
    if coefficients[1..].iter().all(|&c| c == 0) {
        // What the sums below come to.
        let mean = sample((at(0) + 4) >> 3);
        for row in out.chunks_mut(stride).take(8) {
            row[..8].fill(mean);
        }
        return;
    }
    let mut columns = [0i64; BLOCK];
    for x in 0..8 {
        let column = line([0, 8, 16, 24, 32, 40, 48, 56].map(|y| at(y + x)), FRACTION - BETWEEN);
        for (y, value) in column.into_iter().enumerate() {
            columns[8 * y + x] = value;
        }
    }
    // Eight times what the standard's transformation gives.
    for (row, out) in columns.as_chunks().0.iter().zip(out.chunks_mut(stride)) {
        for (out, x) in out.iter_mut().zip(line(*row, FRACTION + BETWEEN + 3)) {
            *out = sample(x);
        }
    }
}

/// The transformation of one line, without its last `shift` bits, rounded.
fn line(c: [i64; 8], shift: u32) -> [i64; 8] {
    // The even part.
    let z1 = (c[2] + c[6]) * fixed(0.541196100);
    let t2 = z1 - c[6] * fixed(1.847759065);
    let t3 = z1 + c[2] * fixed(0.765366865);
    let t0 = (c[0] + c[4]) << FRACTION;
    let t1 = (c[0] - c[4]) << FRACTION;
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

    // The odd part.
    let [t0, t1, t2, t3] = [c[7], c[5], c[3], c[1]];
    let z5 = (t0 + t2 + t1 + t3) * fixed(1.175875602);
    let z1 = -(t0 + t3) * fixed(0.899976223);
    let z2 = -(t1 + t2) * fixed(2.562915447);
    let z3 = z5 - (t0 + t2) * fixed(1.961570560);
    let z4 = z5 - (t1 + t3) * fixed(0.390180644);
    let odd = [
        t3 * fixed(1.501321110) + z1 + z4,
        t2 * fixed(3.072711026) + z2 + z3,
        t1 * fixed(2.053119869) + z2 + z4,
        t0 * fixed(0.298631336) + z1 + z3,
    ];

    let mut out = [0; 8];
    let half = 1 << (shift - 1);
    for i in 0..4 {
        out[i] = (even[i] + odd[i] + half) >> shift;
        out[7 - i] = (even[i] - odd[i] + half) >> shift;
    }
    out
}
