//! Small images of every format. Those in `tests/images` were written by Pillow 13.0, libjpeg-turbo's
//! `cjpeg`, or byte by byte; what is expected of them is what Pillow reads from them, in `photo.rgb` where
//! that is the image they were made of, else in a file of their name.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::by_name;
use crate::testing::Table;

fn size_of(encoded: &[u8], format: &str) -> Result<[usize; 2], String> {
    let mut t = Table::default();
    let format = t.numbers(&[format]);
    let mut out = [-1i64; 2];
    let outputs: &mut [&mut [u8]] = &mut [bytemuck::cast_slice_mut(&mut out)];
    by_name("ImageSize").expect("an op").call(&[encoded, bytemuck::cast_slice(&format)], outputs, &mut t)?;
    Ok(out.map(|n| n as usize))
}

fn decoded(encoded: &[u8], format: &str, bytes: usize) -> Result<Vec<u8>, String> {
    let mut t = Table::default();
    let format = t.numbers(&[format]);
    let mut out = vec![0x55; bytes];
    let inputs = [encoded, bytemuck::cast_slice(&format)];
    by_name("ImageDecode").expect("an op").call(&inputs, &mut [&mut out], &mut t)?;
    Ok(out)
}

/// A file of the samples.
macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/images/", $name)).as_slice()
    };
}

/// Name, size, encoded bytes, expected bytes, and by how much these may be missed.
type Sample = (&'static str, [usize; 2], &'static [u8], &'static [u8], u8);

macro_rules! samples {
    ($($name:literal $height:literal x $width:literal as $expected:literal $(within $far:literal)?;)*) => {
        &[$(($name, [$height, $width], file!($name), file!($expected), 0 $(+ $far)?)),*]
    };
}

const SAMPLES: &[Sample] = samples! {
    "420.jpg" 13 x 19 as "420.jpg.rgb";
    "422_progressive.jpg" 13 x 19 as "422_progressive.jpg.rgb";
    "440.jpg" 13 x 19 as "440.jpg.rgb";
    "444_restarts.jpg" 13 x 19 as "444_restarts.jpg.rgb";
    "gray.jpg" 13 x 19 as "gray.jpg.rgb";
    "cmyk.jpg" 13 x 19 as "cmyk.jpg.rgb";
    "photo.png" 13 x 19 as "photo.rgb";
    "alpha.png" 13 x 19 as "photo.rgb";
    "palette.png" 13 x 19 as "palette.png.rgb";
    "bits.png" 13 x 19 as "bits.png.rgb";
    "photo.bmp" 13 x 19 as "photo.rgb";
    "palette.bmp" 13 x 19 as "palette.bmp.rgb";
    "b565v4.bmp" 9 x 13 as "b565v4.bmp.rgb";
    "rle4.bmp" 9 x 13 as "rle4.bmp.rgb";
    "rle8.bmp" 9 x 13 as "rle8.bmp.rgb";
    "lossless.webp" 13 x 19 as "photo.rgb";
    "lossy.webp" 13 x 19 as "lossy.webp.rgb";
    "alpha.webp" 13 x 19 as "alpha.webp.rgb";
    "lossless.jp2" 13 x 19 as "photo.rgb";
    "gray.j2k" 13 x 19 as "gray.j2k.rgb";
    // Its decoder computes in floats.
    "lossy.jp2" 13 x 19 as "lossy.jp2.rgb" within 1;
    "lzw.tif" 13 x 19 as "photo.rgb";
    "deflate_turned.tif" 19 x 13 as "deflate_turned.tif.rgb";
    "palette.tif" 13 x 19 as "palette.tif.rgb";
    "fax.tif" 13 x 19 as "fax.tif.rgb";
    "cmyk.tif" 13 x 19 as "photo.rgb";
    // The TIFF decoder has a JPEG decoder of its own.
    "jpeg.tif" 13 x 19 as "jpeg.tif.rgb" within 2;
    "photo.pgm" 13 x 19 as "photo.pgm.rgb";
};

#[test]
fn samples_are_what_pillow_reads() {
    for &(name, [height, width], encoded, expected, far) in SAMPLES {
        assert_eq!(size_of(encoded, "RGB"), Ok([height, width]), "{name}");
        let rgb = decoded(encoded, "RGB", 3 * height * width).expect(name);
        let off = rgb.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off.is_some_and(|off| off <= far), "{name} is off by {off:?}");
        let mut bgr = decoded(encoded, "BGR", 3 * height * width).expect(name);
        bgr.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        assert_eq!(bgr, rgb, "{name}");
    }
}

#[test]
fn gray_is_luma() {
    for (encoded, expected) in [
        (file!("photo.png"), file!("photo.gray")),
        (file!("alpha.png"), file!("photo.gray")),
        (file!("photo.pgm"), file!("photo.gray")),
        (file!("420.jpg"), file!("420.jpg.gray")),
    ] {
        assert_eq!(decoded(encoded, "Grayscale", 13 * 19), Ok(expected.to_vec()));
    }
}

#[test]
fn portable_formats_are_read_as_texts_and_as_bytes() {
    let gray = |encoded: &[u8], pixels| decoded(encoded, "Grayscale", pixels);
    assert_eq!(gray(b"P1 # bits\n3 2\n101\n0 1 0", 6), Ok(vec![0, 255, 0, 255, 0, 255]));
    assert_eq!(gray(b"P4\n3 2\n\xa0\x40", 6), Ok(vec![0, 255, 0, 255, 0, 255]));
    assert_eq!(gray(b"P2\n# a comment\n3 1\n15\n0 7 15\n", 3), Ok(vec![0, 119, 255]));
    assert_eq!(gray(b"P5 3 1 65535\n\0\0\x80\0\xff\xff", 3), Ok(vec![0, 128, 255]));
    assert_eq!(decoded(b"P3 1 1 255 1 2 3", "RGB", 3), Ok(vec![1, 2, 3]));
    assert_eq!(decoded(b"P6 1 1 255\n\x01\x02\x03", "BGR", 3), Ok(vec![3, 2, 1]));
}

#[test]
fn what_is_no_image_is_empty() {
    for none in [&b""[..], b"GIF89a", b"\xff\xd8\xff", b"P6 0 3 255\n", b"BM", file!("arithmetic.jpg")] {
        assert_eq!(size_of(none, "RGB"), Ok([0, 0]));
        assert_eq!(decoded(none, "RGB", 0), Ok(vec![]));
    }
    let e = decoded(b"GIF89a", "RGB", 3).expect_err("no image");
    assert_eq!(
        e,
        "ImageDecode: the image begins with [47, 49, 46, 38, 39, 61], which no format that is known does"
    );
}

#[test]
fn what_does_not_fit_is_an_error() {
    let png = file!("photo.png");
    assert_eq!(decoded(png, "RGB", 13 * 19), Err("ImageDecode: 247 results were given, 741 expected".into()));
    let e = size_of(png, "RGBA").expect_err("no such format");
    assert_eq!(e, "ImageSize: the format is \"RGBA\", expected \"RGB\", \"BGR\" or \"Grayscale\"");
    // 2^32 pixels, by the headers.
    let mut large = file!("photo.bmp").to_vec();
    large[18..26].copy_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0]);
    for large in [&large[..], b"P5 65536 65536 255\n"] {
        let e = size_of(large, "RGB").expect_err("too many pixels");
        assert_eq!(e, "ImageSize: the image has 65536x65536 pixels, more than 268435456");
        let e = decoded(large, "RGB", 12).expect_err("too many pixels");
        assert_eq!(e, "ImageDecode: the image has 65536x65536 pixels, more than 268435456");
    }
}

#[test]
fn damage_is_an_error_or_an_image() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    for &(name, [height, width], encoded, ..) in SAMPLES {
        for round in 0..60 {
            let mut damaged = encoded.to_vec();
            if round % 3 == 0 {
                damaged.truncate(next(encoded.len()));
            } else {
                // Headers more often than what follows them.
                let most = if round % 3 == 1 { 64.min(encoded.len()) } else { encoded.len() };
                for _ in 0..1 + next(4) {
                    damaged[next(most)] ^= 1 << next(8);
                }
            }
            // What comes out is of no concern, but that it does.
            let (height, width) = match size_of(&damaged, "RGB") {
                Ok([h, w]) if h * w <= 1 << 16 => (h, w),
                _ => (height, width),
            };
            let _ = decoded(&damaged, "RGB", 3 * height * width);
        }
        let cut = decoded(&encoded[..encoded.len() / 2], "RGB", 3 * height * width);
        assert!(cut.is_err(), "{name} is whole by half");
    }
}
