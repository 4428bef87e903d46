//! The weight segment: `[weights | padding | weight_id]`, as
//! [`burin_runtime::abi::Descriptor::weight_id`] has it.
//!
//! It is streamed to a file ([`write_segment`]), where only one computed weight is held at a time, or
//! put into memory ([`fill_segment`]), several weights at a time. Both start from zeros and leave
//! blocks of zeros alone, so that they take no room: neither in a file system with sparse files nor
//! in memory. What a weight's bytes are is said by [`contents`] alone.

use super::ArtifactError;
use super::image::{Image, WEIGHT_ID};
use crate::program::{Program, Weight};
use burin_ir::Tensor;
use burin_runtime::abi;
use rayon::prelude::*;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

/// Bytes that are looked at and written at a time.
const BLOCK: usize = 65536;

/// Blocks that a thread fills at least.
const BLOCKS_PER_TASK: usize = 16;

/// Bytes of the segment.
pub fn segment_bytes(program: &Program) -> Result<u64, ArtifactError> {
    abi::weight_segment_bytes(program.weight_bytes).ok_or_else(|| {
        ArtifactError::Refused(format!("the weights are too large: {} bytes", program.weight_bytes))
    })
}

/// Writes image and weights at these offsets of a file that is zero there, and the weights' id into
/// the image.
pub fn write_parts(
    program: &Program,
    image: &Image,
    (image_at, weights_at): (u64, u64),
    (file, path): (&mut File, &Path),
) -> Result<(), ArtifactError> {
    let fail = ArtifactError::io(path);
    file.seek(SeekFrom::Start(image_at)).and_then(|_| file.write_all(&image.bytes)).map_err(&fail)?;
    file.seek(SeekFrom::Start(weights_at)).map_err(&fail)?;
    let id = write_segment(program, file, path)?;
    file.seek(SeekFrom::Start(image_at + WEIGHT_ID))
        .and_then(|_| file.write_all(&id.to_le_bytes()))
        .map_err(fail)
}

/// Writes the segment at the position of `out` (zero from there on) and answers its id.
pub fn write_segment(
    program: &Program,
    out: &mut (impl Write + Seek),
    path: &Path,
) -> Result<u64, ArtifactError> {
    let fail = ArtifactError::io(path);
    let start = out.stream_position().map_err(&fail)?;
    let mut hash = Hash(program.weight_bytes);
    for w in &program.weights {
        let place = place(program, w)?;
        out.seek(SeekFrom::Start(start + place.start)).map_err(&fail)?;
        hash.word(place.start);
        write_sparse(out, contents(w)?.bytes(), &mut hash).map_err(&fail)?;
    }
    let end = start + segment_bytes(program)? - abi::ALIGN as u64;
    let mut tail = [0; abi::ALIGN];
    tail[..8].copy_from_slice(&hash.0.to_le_bytes());
    out.seek(SeekFrom::Start(end)).and_then(|_| out.write_all(&tail)).map_err(fail)?;
    Ok(hash.0)
}

/// Fills the weights of a segment in memory that is zero. Its id stays 0, as an image's is from the
/// start: an id tells files apart, and whoever fills memory has the image at hand.
pub fn fill_segment(program: &Program, memory: &mut [u8]) -> Result<(), ArtifactError> {
    let mut weights: Vec<&Weight> = program.weights.iter().collect();
    // Empty weights may lie where another begins.
    weights.sort_by_key(|w| (w.offset, w.bytes()));
    let (mut rest, mut at) = (memory, 0);
    let mut places = Vec::with_capacity(weights.len());
    for w in weights {
        let Range { start, end } = place(program, w)?;
        let skipped = start.checked_sub(at).and_then(|n| rest.split_off_mut(..usize::try_from(n).ok()?));
        let place = skipped.and_then(|_| rest.split_off_mut(..usize::try_from(end - start).ok()?));
        let place = place.ok_or_else(|| {
            ArtifactError::Internal(format!("weight \"{}\" overlaps another or its segment's end", w.name))
        })?;
        places.push((w, place));
        at = end;
    }
    places.into_par_iter().try_for_each(|(w, place)| {
        let contents = contents(w)?;
        if contents.bytes().len() != place.len() {
            let (found, expected) = (contents.bytes().len(), place.len());
            let message = format!("weight \"{}\" has {found} bytes, expected {expected}", w.name);
            return Err(ArtifactError::Internal(message));
        }
        let blocks = place.par_chunks_mut(BLOCK).zip(contents.bytes().par_chunks(BLOCK));
        blocks.with_min_len(BLOCKS_PER_TASK).for_each(|(place, block)| {
            if !is_zero(block) {
                place.copy_from_slice(block);
            }
        });
        Ok(())
    })
}

/// Where a weight lies in the segment.
fn place(program: &Program, w: &Weight) -> Result<Range<u64>, ArtifactError> {
    let bytes = w.bytes() as u64;
    let end = w.offset.saturating_add(bytes);
    if !w.offset.is_multiple_of(abi::ALIGN as u64) || end > program.weight_bytes {
        let place = format!("{bytes} bytes at {} of {}", w.offset, program.weight_bytes);
        return Err(ArtifactError::Internal(format!("weight \"{}\" lies at {place}", w.name)));
    }
    Ok(w.offset..end)
}

/// The bytes that a weight has in the segment.
fn contents(w: &Weight) -> Result<Tensor, ArtifactError> {
    w.contents()
        .map_err(|e| ArtifactError::Internal(format!("weight \"{}\" cannot be computed: {e}", w.name)))
}

fn write_sparse(out: &mut (impl Write + Seek), bytes: &[u8], hash: &mut Hash) -> io::Result<()> {
    for block in bytes.chunks(BLOCK) {
        if is_zero(block) {
            out.seek_relative(block.len() as i64)?;
            hash.word(block.len() as u64);
        } else {
            out.write_all(block)?;
            hash.bytes(block);
        }
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().fold(0, |all, b| all | b) == 0
}

/// A fast hash of 64-bit words: enough to tell models apart, not against an adversary.
struct Hash(u64);

impl Hash {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| self.word(u64::from_le_bytes(*w)));
        rest.iter().for_each(|b| self.word(*b as u64));
    }
}
