//! The colors that channels stand for.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Decoder, Samples};

/// What the channels of a file are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Space {
    Gray,
    Rgb,
    /// Luma, and chroma around 128.
    Ycc,
    /// Inks, of which 255 is none, as Adobe's programs write them.
    Cmyk,
    /// The same, the first three as luma and chroma.
    Ycck,
}

impl Space {
    /// As libjpeg guesses it: by markers, then by the names of the components.
    pub(super) fn of(decoder: &Decoder<'_>) -> Result<Self, String> {
        let frame = decoder.frame.as_ref().ok_or("there is no header of a frame")?;
        let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
        Ok(match (&ids[..], decoder.adobe) {
            ([_], _) => Space::Gray,
            ([_, _, _], _) if decoder.jfif => Space::Ycc,
            ([_, _, _], Some(0)) => Space::Rgb,
            ([b'R', b'G', b'B'], None) => Space::Rgb,
            ([_, _, _], _) => Space::Ycc,
            (_, Some(2)) => Space::Ycck,
            _ => Space::Cmyk,
        })
    }

    pub(super) fn samples(self) -> Samples {
        match self {
            Space::Gray => Samples::Gray,
            Space::Rgb | Space::Ycc => Samples::Rgb,
            Space::Cmyk | Space::Ycck => Samples::Cmyk,
        }
    }

    /// The pixels of a row, of its channels.
    pub(super) fn row(self, channels: &[Vec<u8>], out: &mut [u8]) {
        let count = self.samples().count();
        for (x, out) in out.chunks_exact_mut(count).enumerate() {
            for (out, channel) in out.iter_mut().zip(channels) {
                *out = channel[x];
            }
            if let (Space::Ycc | Space::Ycck, [r, g, b, ..]) = (self, &mut *out) {
                let [red, green, blue] = rgb(*r, *g, *b);
                (*r, *g, *b) = (red, green, blue);
            }
            match (self, out) {
                // The ink is what red, green and blue lack, and 255 is none of it: that is these themselves.
                (Space::Ycck, [.., k]) => *k = 255 - *k,
                (Space::Cmyk, inks) => inks.iter_mut().for_each(|ink| *ink = 255 - *ink),
                _ => {}
            }
        }
    }
}

/// Fixed point of 16 bits, rounded.
const fn fixed(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// Red, green and blue, in libjpeg's integers.
pub(in crate::images) fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fixed(1.402) * cr + HALF) >> 16);
    let green = y + ((HALF - fixed(0.34414) * cb - fixed(0.71414) * cr) >> 16);
    let blue = y + ((fixed(1.772) * cb + HALF) >> 16);
    [red, green, blue].map(|c| c.clamp(0, 255) as u8)
}
