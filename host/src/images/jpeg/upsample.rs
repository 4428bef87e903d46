//! Components of a lower resolution at that of the image.
//!
//! Where a component has half the samples along an axis, each new sample is three quarters of the nearest
//! old one and a quarter of the second; halves are rounded up and down in turns, so that there is no drift.
//! At the edges, and for other resolutions, samples are repeated. That is libjpeg-turbo's "fancy upsampling",
//! with its conditions.

use super::Component;

/// Row `y` of the image, of a component that has one sample for `across` times `down` of it.
pub(super) fn row(component: &Component, across: usize, down: usize, y: usize, out: &mut [u8]) {
    let line = |y: usize| {
        let y = y.min(component.height - 1);
        &component.plane[y * component.stride()..][..component.width]
    };
    let near = line(y / down);
    // The second row of a pair lies nearer to the one below.
    let first = y.is_multiple_of(2);
    let far = if first { line((y / 2).saturating_sub(1)) } else { line(y / 2 + 1) };
    let wide = component.width > 2;
    match (across, down) {
        (1, 1) => out.copy_from_slice(&near[..out.len()]),
        (2, 1) if wide => {
            let at = |x: usize| u32::from(near[x]);
            halves(out, component.width, |x, other, right| match other {
                None => at(x),
                Some(other) => (3 * at(x) + at(other) + if right { 2 } else { 1 }) >> 2,
            });
        }
        (1, 2) => {
            let bias = if first { 1 } else { 2 };
            for (out, (&near, &far)) in out.iter_mut().zip(near.iter().zip(far)) {
                *out = ((3 * u32::from(near) + u32::from(far) + bias) >> 2) as u8;
            }
        }
        (2, 2) if wide => {
            let at = |x: usize| 3 * u32::from(near[x]) + u32::from(far[x]);
            halves(out, component.width, |x, other, right| {
                (3 * at(x) + at(other.unwrap_or(x)) + if right { 7 } else { 8 }) >> 4
            });
        }
        _ => {
            for (x, out) in out.iter_mut().enumerate() {
                *out = near[x / across];
            }
        }
    }
}

/// Two new samples for each of `width` old ones: of `x` and, unless that is beyond the edge, the one on the
/// same side.
fn halves(out: &mut [u8], width: usize, value: impl Fn(usize, Option<usize>, bool) -> u32) {
    for (i, out) in out.iter_mut().enumerate() {
        let (x, right) = (i / 2, i % 2 == 1);
        let other = if right { Some(x + 1).filter(|&x| x < width) } else { x.checked_sub(1) };
        *out = value(x, other, right) as u8;
    }
}
