//! Object files (ELF, Mach-O, COFF) and archives of one.
//!
//! The image is one blob in the text section, the weights are one in the read-only data. Neither has
//! relocations, so an object is nothing but the two with names: `NAME_image`, `NAME_plan`,
//! `NAME_run`, `NAME_weights`. The weights are first streamed to a temporary file beside the output
//! and then given to the object writer as a mapping of it.

use super::image::{Image, WEIGHT_ID};
use super::output::Sparse;
use super::{Artifact, ArtifactError, header, image, output, weights};
use burin_runtime::abi::arch;
use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An object file.
    Object,
    /// An archive that holds one, with an index of its symbols.
    Archive,
}

/// What the weights are aligned to where the system maps them by itself.
const WEIGHT_ALIGN: u64 = 4096;

/// Beyond this, offsets do not fit the tables of Mach-O and COFF.
const MAX_NARROW: u64 = u32::MAX as u64;

/// Writes an object file or an archive for a system.
pub fn write(
    a: &Artifact<'_>,
    system: &target_lexicon::Triple,
    kind: Kind,
    path: &Path,
) -> Result<(), ArtifactError> {
    let format = format(system)?;
    let program = a.program()?;
    let bytes = weights::segment_bytes(program)?;
    if format != BinaryFormat::Elf && bytes > MAX_NARROW {
        return Err(ArtifactError::Refused(format!(
            "an object file for {system} can hold at most {MAX_NARROW} bytes of weights, found {bytes}; build a shared library or a bundle"
        )));
    }
    let fail = ArtifactError::io(path);
    let dir = output::folder(path);
    let mut store = tempfile::tempfile_in(dir).map_err(&fail)?;
    let mut image = image::build(a)?;
    let id = weights::write_segment(program, &mut store, path)?;
    // SAFETY: the temporary file has no name, so that nobody else can change it.
    let data = unsafe { memmap2::Mmap::map(&store) }.map_err(&fail)?;
    image.bytes[WEIGHT_ID as usize..][..8].copy_from_slice(&id.to_le_bytes());
    let name = header::c_name(&program.name);
    let object = build(&name, &image, &data, format, architecture(a.arch)?)?;
    output::write(path, false, |file| match kind {
        Kind::Object => emit(&object, file, path).map(drop),
        Kind::Archive => archive(&name, &object, format == BinaryFormat::MachO, file, path),
    })
}

fn format(system: &target_lexicon::Triple) -> Result<BinaryFormat, ArtifactError> {
    match system.binary_format {
        target_lexicon::BinaryFormat::Elf => Ok(BinaryFormat::Elf),
        target_lexicon::BinaryFormat::Macho => Ok(BinaryFormat::MachO),
        target_lexicon::BinaryFormat::Coff => Ok(BinaryFormat::Coff),
        other => Err(ArtifactError::Refused(format!(
            "no object file can be made for {system}: found the format {other}, expected ELF, Mach-O or COFF"
        ))),
    }
}

fn architecture(number: u32) -> Result<Architecture, ArtifactError> {
    match number {
        arch::X86_64 => Ok(Architecture::X86_64),
        arch::AARCH64 => Ok(Architecture::Aarch64),
        arch::RISCV64 => Ok(Architecture::Riscv64),
        other => Err(ArtifactError::Internal(format!("architecture number {other}"))),
    }
}

fn build<'a>(
    name: &str,
    image: &'a Image,
    weights: &'a [u8],
    format: BinaryFormat,
    architecture: Architecture,
) -> Result<Object<'a>, ArtifactError> {
    let mut object = Object::new(format, architecture, Endianness::Little);
    if format == BinaryFormat::Elf && architecture == Architecture::Riscv64 {
        // Floats are passed in registers by every system that the compiler knows.
        object.flags = object::FileFlags::Elf {
            os_abi: object::elf::ELFOSABI_NONE,
            abi_version: 0,
            e_flags: object::elf::EF_RISCV_FLOAT_ABI_DOUBLE,
        };
    }
    let text = object.section_id(StandardSection::Text);
    object.set_section_data(text, image.bytes.as_slice(), image.align);
    let data = object.section_id(StandardSection::ReadOnlyData);
    object.set_section_data(data, weights, WEIGHT_ALIGN);
    let code_end = image.bytes.len() as u64;
    for (suffix, section, value, size, kind) in [
        ("image", text, 0, code_end, SymbolKind::Data),
        ("plan", text, image.plan, 0, SymbolKind::Text),
        ("run", text, image.run, 0, SymbolKind::Text),
        ("weights", data, 0, weights.len() as u64, SymbolKind::Data),
    ] {
        object.add_symbol(Symbol {
            name: format!("{name}_{suffix}").into_bytes(),
            value,
            size,
            kind,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    if format == BinaryFormat::Elf {
        // Without this section linkers would make the program's stack executable.
        object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), object::SectionKind::Other);
    }
    Ok(object)
}

/// Writes the object at the file's position; answers its bytes.
fn emit(object: &Object<'_>, file: &mut File, path: &Path) -> Result<u64, ArtifactError> {
    let fail = ArtifactError::io(path);
    let start = file.stream_position().map_err(&fail)?;
    let mut out = std::io::BufWriter::new(Sparse(&mut *file));
    object.write_stream(&mut out).map_err(|e| fail(std::io::Error::other(e.to_string())))?;
    out.flush().map_err(&fail)?;
    drop(out);
    let end = file.stream_position().map_err(&fail)?;
    file.set_len(end).map_err(&fail)?;
    Ok(end - start)
}

/// The header of an archive's member.
fn member(name: &str, bytes: u64) -> String {
    // Name, time, owner, group, mode, size: the times are zero, so that equal models give equal files.
    format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{bytes:<10}`\n", 0, 0, 0, 644)
}

/// Writes an archive: `!<arch>`, the index of symbols, the object. The index has GNU's form, which
/// COFF linkers read too, or that of BSD for Mach-O.
fn archive(
    name: &str,
    object: &Object<'_>,
    bsd: bool,
    file: &mut File,
    path: &Path,
) -> Result<(), ArtifactError> {
    let fail = ArtifactError::io(path);
    let prefix = if bsd { "_" } else { "" };
    let symbols = ["image", "plan", "run", "weights"].map(|s| format!("{prefix}{name}_{s}\0"));
    let mut head = b"!<arch>\n".to_vec();
    let object_name = format!("{name}.o");
    // The object's offset is needed in the index before it; the index's size does not depend on it.
    let index = |at: u64| if bsd { bsd_index(&symbols, at) } else { gnu_index(&symbols, at) };
    let index_header = member(if bsd { "#1/12" } else { "/" }, index(0).len() as u64);
    let at = (head.len() + index_header.len() + index(0).len()) as u64;
    head.extend_from_slice(index_header.as_bytes());
    head.extend_from_slice(&index(at));
    let long_name = if bsd {
        // Mach-O objects begin at a multiple of 8.
        let end = head.len() + member("", 0).len() + object_name.len();
        let width = object_name.len() + end.next_multiple_of(8) - end;
        let mut padded = object_name.clone().into_bytes();
        padded.resize(width, 0);
        padded
    } else {
        Vec::new()
    };
    let label = if bsd { format!("#1/{}", long_name.len()) } else { short_name(&object_name) };
    let start = (head.len() + member("", 0).len() + long_name.len()) as u64;
    file.seek(SeekFrom::Start(start)).map_err(&fail)?;
    let bytes = emit(object, file, path)?;
    if bytes % 2 != 0 {
        file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(b"\n")).map_err(&fail)?;
    }
    let total = bytes + long_name.len() as u64;
    if total >= 10_000_000_000 {
        return Err(ArtifactError::Refused(format!("an archive cannot hold an object of {total} bytes")));
    }
    head.extend_from_slice(member(&label, total).as_bytes());
    head.extend_from_slice(&long_name);
    file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&head)).map_err(fail)
}

/// A member's name of at most 15 characters with GNU's mark of its end.
fn short_name(name: &str) -> String {
    if name.len() <= 15 { format!("{name}/") } else { "model.o/".to_owned() }
}

fn gnu_index(symbols: &[String], at: u64) -> Vec<u8> {
    let mut out = (symbols.len() as u32).to_be_bytes().to_vec();
    symbols.iter().for_each(|_| out.extend_from_slice(&(at as u32).to_be_bytes()));
    symbols.iter().for_each(|s| out.extend_from_slice(s.as_bytes()));
    out.resize(out.len().next_multiple_of(2), 0);
    out
}

fn bsd_index(symbols: &[String], at: u64) -> Vec<u8> {
    let mut out = b"__.SYMDEF\0\0\0".to_vec();
    out.extend_from_slice(&(symbols.len() as u32 * 8).to_le_bytes());
    let mut name = 0u32;
    for s in symbols {
        out.extend_from_slice(&name.to_le_bytes());
        out.extend_from_slice(&(at as u32).to_le_bytes());
        name += s.len() as u32;
    }
    let names = symbols.concat().into_bytes();
    let width = names.len().next_multiple_of(8);
    out.extend_from_slice(&(width as u32).to_le_bytes());
    out.extend_from_slice(&names);
    out.resize(out.len() + width - names.len(), 0);
    out
}
