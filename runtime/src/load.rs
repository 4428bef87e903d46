//! Models from files.
//!
//! Three kinds of file hold a model whole: an executable and a shared library that Burin wrote (ELF:
//! the image is the loadable segment that begins with the image's magic number, the weights are the
//! one that ends with its weights' id), and a *bundle* (the image, then the weights at the next
//! multiple of [`BUNDLE_ALIGN`]). All are mapped, not read: code as pages that can be executed,
//! weights as pages that cannot be written.

use crate::abi::{self, MAGIC};
use crate::error::Error;
use crate::image::{Image, ImageError};
use crate::model::{Model, Segment};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::File;
use std::path::Path;

/// Where the weights of a bundle begin: the next multiple of this, which is one of the page size on
/// every system.
pub const BUNDLE_ALIGN: u64 = 65536;

/// Loads the model in a file.
///
/// # Safety
/// The file must be what Burin's compiler wrote, and must not change while the model lives.
pub unsafe fn load(path: &Path) -> Result<Model, Error> {
    // SAFETY: the caller's promise.
    unsafe { load_within(u64::MAX, path) }
}

/// The same with code that needs no CPU features but these: see [`Model::within`].
///
/// # Safety
/// As for [`load`].
pub unsafe fn load_within(features: u64, path: &Path) -> Result<Model, Error> {
    let fail = |e: std::io::Error| Error::file(path, e);
    let file = File::open(path).map_err(fail)?;
    // SAFETY: the caller promises that the file does not change.
    let whole = unsafe { Mmap::map(&file) }.map_err(fail)?;
    let parts = locate(&whole).map_err(|e| Error::file(path, e))?;
    let options = |p: Part| {
        let mut o = MmapOptions::new();
        o.offset(p.offset).len(p.bytes as usize);
        o
    };
    // SAFETY: as above.
    let image = unsafe { options(parts.image).map_exec(&file) }.map_err(fail)?;
    // SAFETY: as above.
    let weights = unsafe { options(parts.weights).map(&file) }.map_err(fail)?;
    // SAFETY: the image is mapped executable; the caller vouches for its code.
    let model = unsafe { Model::within(features, Arc::new(image), Arc::new(weights)) };
    model.map_err(|e| match e {
        Error::Image(e) => Error::file(path, e),
        other => other,
    })
}

/// A copy of an image in executable memory: how code that was just compiled is run.
pub fn executable(image: &[u8]) -> Result<Segment, Error> {
    let fail = |e: std::io::Error| Error::File {
        path: "executable memory".into(),
        message: format!("{e}; {} bytes", image.len()),
    };
    let mut memory = MmapMut::map_anon(image.len().max(1)).map_err(fail)?;
    memory[..image.len()].copy_from_slice(image);
    Ok(Arc::new(memory.make_exec().map_err(fail)?))
}

/// A part of a file.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Part {
    offset: u64,
    bytes: u64,
}

struct Parts {
    image: Part,
    weights: Part,
}

/// Finds image and weights in a file's bytes.
fn locate(file: &[u8]) -> Result<Parts, ImageError> {
    let image = if file.starts_with(&MAGIC.to_le_bytes()) {
        Part { offset: 0, bytes: file.len() as u64 }
    } else {
        let begins = |p: &Part| part(file, *p).is_some_and(|b| b.starts_with(&MAGIC.to_le_bytes()));
        elf_segments(file).into_iter().find(begins).ok_or(ImageError::NotAnImage)?
    };
    let view = Image::parse(part(file, image).unwrap_or(&[]))?;
    let head = view.descriptor();
    let bytes = abi::weight_segment_bytes(head.weight_bytes)
        .ok_or(ImageError::Corrupt("the weights' size overflows"))?;
    let belongs = |p: &Part| {
        let at = (bytes as usize).saturating_sub(abi::ALIGN);
        let id = part(file, *p).and_then(|b| b.get(at..)).and_then(|b| b.first_chunk::<8>());
        p.bytes >= bytes && id.map(|b| u64::from_le_bytes(*b)) == Some(head.weight_id)
    };
    let candidates = if image.offset == 0 {
        let offset = head.image_bytes.next_multiple_of(BUNDLE_ALIGN);
        alloc::vec![Part { offset, bytes }]
    } else {
        elf_segments(file)
    };
    let weights =
        candidates.into_iter().filter(|p| *p != image).find(belongs).ok_or(ImageError::Truncated {
            found: file.len() as u64,
            expected: head.image_bytes.saturating_add(bytes),
        })?;
    let image = Part { offset: image.offset, bytes: head.image_bytes };
    Ok(Parts { image, weights: Part { offset: weights.offset, bytes } })
}

fn part(file: &[u8], p: Part) -> Option<&[u8]> {
    file.get(usize::try_from(p.offset).ok()?..usize::try_from(p.offset.checked_add(p.bytes)?).ok()?)
}

/// The loadable segments of a 64-bit little-endian ELF file; none where it is not one.
fn elf_segments(file: &[u8]) -> Vec<Part> {
    const PT_LOAD: u64 = 1;
    let number = |at: u64, bytes: usize| -> Option<u64> {
        let raw = part(file, Part { offset: at, bytes: bytes as u64 })?;
        let mut le = [0; 8];
        le[..bytes].copy_from_slice(raw);
        Some(u64::from_le_bytes(le))
    };
    let mut found = Vec::new();
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return found;
    }
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return found;
    };
    for i in 0..count {
        let at = table.saturating_add(i * size);
        let field = |offset: u64, bytes| number(at.saturating_add(offset), bytes);
        if field(0, 4) == Some(PT_LOAD)
            && let (Some(offset), Some(bytes)) = (field(8, 8), field(32, 8))
        {
            found.push(Part { offset, bytes });
        }
    }
    found
}
