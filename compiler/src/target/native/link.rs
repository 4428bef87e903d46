//! Functions laid out one after another, with their references to one another resolved.
//!
//! All references are relative to the instruction, so the blob runs wherever it is mapped, provided
//! that its start is aligned to [`Linked::align`]. Whatever else a relocation may ask for is refused.

use super::NativeError;
use super::function::{Function, Relocation, Target};
use super::levels::TargetSpec;
use burin_runtime::abi::arch;
use cranelift_codegen::binemit::Reloc;

/// AArch64 addresses data by 4 KiB pages, so that the blob must start on one there.
const AARCH64_ALIGN: usize = 4096;

/// Machine code, position-independent and without imports.
#[derive(Clone, Debug, Default)]
pub struct Linked {
    /// The bytes: instructions, and constants among them. Neither written nor relocated.
    pub text: Vec<u8>,
    /// What the address of the first byte must be a multiple of.
    pub align: usize,
    /// Where the functions are, in their order.
    pub places: Vec<Extent>,
}

/// A function's place in the blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The function's name.
    pub name: String,
    /// Offset of its first byte.
    pub offset: usize,
    /// The number of its bytes.
    pub len: usize,
}

/// Lays functions out in order.
pub fn link(functions: &[Function], target: &TargetSpec) -> Result<Linked, NativeError> {
    let mut align = if target.arch == arch::AARCH64 { AARCH64_ALIGN } else { 64 };
    let mut places = Vec::with_capacity(functions.len());
    let mut end = 0usize;
    for f in functions {
        let own = f.align.max(16) as usize;
        align = align.max(own);
        let offset = end.next_multiple_of(own);
        places.push(Extent { name: f.name.clone(), offset, len: f.bytes.len() });
        end = offset + f.bytes.len();
    }
    let mut text = vec![0; end];
    for (f, place) in functions.iter().zip(&places) {
        text[place.offset..place.offset + place.len].copy_from_slice(&f.bytes);
    }
    for (f, place) in functions.iter().zip(&places) {
        for (i, r) in f.relocs.iter().enumerate() {
            resolve(&mut text, &places, place.offset, &f.relocs, i).map_err(|what| {
                let what = format!("relocation {:?} at {:#x}: {what}", r.kind, r.at);
                NativeError::Internal { function: f.name.clone(), what }
            })?;
        }
    }
    Ok(Linked { text, align, places })
}

/// Where a relocation points, as an offset in the blob.
fn destination(places: &[Extent], function: usize, r: &Relocation) -> Result<i64, String> {
    let base = match r.target {
        Target::Local(offset) => function + offset as usize,
        Target::Function(n) => {
            places.get(n as usize).ok_or_else(|| format!("there is no function {n}"))?.offset
        }
    };
    Ok(base as i64 + r.addend)
}

fn resolve(
    text: &mut [u8],
    places: &[Extent],
    function: usize,
    relocs: &[Relocation],
    i: usize,
) -> Result<(), String> {
    let r = &relocs[i];
    let at = function + r.at as usize;
    let to = destination(places, function, r)?;
    let distance = to - at as i64;
    let near = || i32::try_from(distance).map_err(|_| format!("{distance} bytes are too far"));
    match r.kind {
        Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => {
            patch(text, at, |_| near().map(|d| d as u32))?;
        }
        Reloc::Arm64Call => {
            let words = distance >> 2;
            if !(-(1 << 25)..1 << 25).contains(&words) {
                return Err(format!("{distance} bytes are too far for a call"));
            }
            patch(text, at, |w| Ok(w | (words as u32 & 0x03ff_ffff)))?;
        }
        Reloc::Aarch64AdrPrelPgHi21 => {
            let pages = (to >> 12) - (at as i64 >> 12);
            let pages = i32::try_from(pages).map_err(|_| "too far".to_owned())? as u32;
            patch(text, at, |w| Ok(w | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5))?;
        }
        Reloc::Aarch64AddAbsLo12Nc => patch(text, at, |w| Ok(w | (to as u32 & 0xfff) << 10))?,
        Reloc::RiscvCallPlt => {
            let (high, low) = riscv_halves(near()?);
            patch(text, at, |w| Ok(w & 0xfff | high))?;
            patch(text, at + 4, |w| Ok(w & 0x000f_ffff | low << 20))?;
        }
        Reloc::RiscvPCRelHi20 => {
            let (high, _) = riscv_halves(near()?);
            patch(text, at, |w| Ok(w & 0xfff | high))?;
        }
        Reloc::RiscvPCRelLo12I => {
            // It names the instruction with the high half, whose relocation has the destination.
            let paired =
                |p: &&Relocation| p.kind == Reloc::RiscvPCRelHi20 && function as i64 + p.at as i64 == to;
            let high = relocs[..i].iter().rev().find(paired).ok_or("its high half is missing")?;
            let to = destination(places, function, high)?;
            let distance = to - (function as i64 + high.at as i64);
            let distance = i32::try_from(distance).map_err(|_| "too far".to_owned())?;
            let (_, low) = riscv_halves(distance);
            patch(text, at, |w| Ok(w & 0x000f_ffff | low << 20))?;
        }
        _ => return Err("is of a kind that cannot be resolved within the image".to_owned()),
    }
    Ok(())
}

/// A distance for an instruction that adds 20 high bits and one that adds 12 signed low bits.
fn riscv_halves(distance: i32) -> (u32, u32) {
    let high = (distance as u32).wrapping_add(0x800) & 0xffff_f000;
    (high, (distance as u32).wrapping_sub(high) & 0xfff)
}

fn patch(text: &mut [u8], at: usize, change: impl FnOnce(u32) -> Result<u32, String>) -> Result<(), String> {
    let place = text.get_mut(at..at + 4).ok_or("it lies outside the function")?;
    let word = u32::from_le_bytes([place[0], place[1], place[2], place[3]]);
    place.copy_from_slice(&change(word)?.to_le_bytes());
    Ok(())
}
