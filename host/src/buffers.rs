//! Buffers of bytes as slices of elements, and the checks of how many there are.
//!
//! An empty buffer is an empty slice wherever it lies: pointers of empty slices are often dangling ones.

use alloc::format;
use alloc::string::{String, ToString};

use bytemuck::{Pod, PodCastError};

use crate::Texts;

/// The elements of an input.
pub(crate) fn view<T: Pod>(bytes: &[u8]) -> Result<&[T], String> {
    if bytes.is_empty() {
        return Ok(&[]);
    }
    bytemuck::try_cast_slice(bytes).map_err(|e| misfit::<T>(e, bytes.len()))
}

/// The elements of an output.
pub(crate) fn view_mut<T: Pod>(bytes: &mut [u8]) -> Result<&mut [T], String> {
    if bytes.is_empty() {
        return Ok(&mut []);
    }
    let len = bytes.len();
    bytemuck::try_cast_slice_mut(bytes).map_err(|e| misfit::<T>(e, len))
}

fn misfit<T>(error: PodCastError, bytes: usize) -> String {
    let size = size_of::<T>();
    match error {
        PodCastError::TargetAlignmentGreaterAndInputNotAligned => {
            format!("lies at an address that is no multiple of {}", align_of::<T>())
        }
        _ => format!("has {bytes} bytes, expected a multiple of {size}"),
    }
}

/// That as many were given as are expected.
pub(crate) fn count(what: &str, found: usize, expected: usize) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found} {what} were given, {expected} expected")) }
}

/// The one number of an input.
pub(crate) fn one(what: &str, bytes: &[u8]) -> Result<i64, String> {
    match view::<i64>(bytes)? {
        [x] => Ok(*x),
        all => Err(format!("{} values were given for the {what}, 1 expected", all.len())),
    }
}

/// The text of a number.
pub(crate) fn text(texts: &dyn Texts, number: i64) -> Result<&str, String> {
    texts.text(number).ok_or_else(|| format!("no text has the number {number}"))
}

/// The one text of an input.
pub(crate) fn one_text(texts: &dyn Texts, what: &str, bytes: &[u8]) -> Result<String, String> {
    Ok(text(texts, one(what, bytes)?)?.to_string())
}

/// A text in an error: quoted, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
