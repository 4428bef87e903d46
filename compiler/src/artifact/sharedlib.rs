//! ELF shared libraries, written without a linker: an image needs none, since it has neither imports
//! nor relocations.
//!
//! Four segments in the order of their addresses: headers with symbols (R), the dynamic section (RW,
//! because older loaders write into it), the image (R-X), the weights (R). File offsets and addresses
//! are the same. The symbols are those of an object file.

use super::elf::{
    self, HEADER_BYTES, Header, SECTION_BYTES, SEGMENT_BYTES, Section, Segment, pf, pt, shf, sht,
};
use super::{Artifact, ArtifactError, header, image, output, weights};
use burin_runtime::abi::arch;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

const SYMBOL_BYTES: u64 = 24;
const DYNAMIC_BYTES: u64 = 16;
const SEGMENTS: u64 = 6;
/// Global, of type object and function.
const GLOBAL_OBJECT: u8 = 1 << 4 | 1;
const GLOBAL_FUNCTION: u8 = 1 << 4 | 2;

/// Numbers of the sections.
const DYNSYM: u32 = 2;
const DYNSTR: u32 = 3;
const TEXT: u16 = 5;
const RODATA: u16 = 6;
const NAMES: u16 = 7;
/// Their names, in order; the first has none.
const SECTION_NAMES: [&str; 8] =
    ["", ".hash", ".dynsym", ".dynstr", ".dynamic", ".text", ".rodata", ".shstrtab"];

/// The architecture's number, its flags and the largest page that its systems have.
fn machine(number: u32) -> Result<(u16, u32, u64), ArtifactError> {
    match number {
        arch::X86_64 => Ok((62, 0, 4096)),
        arch::AARCH64 => Ok((183, 0, 65536)),
        // Floats are passed in registers.
        arch::RISCV64 => Ok((243, 4, 4096)),
        other => Err(ArtifactError::Internal(format!("architecture number {other}"))),
    }
}

/// Writes a shared library for a system.
pub fn write(a: &Artifact<'_>, system: &target_lexicon::Triple, path: &Path) -> Result<(), ArtifactError> {
    if system.binary_format != target_lexicon::BinaryFormat::Elf {
        return Err(ArtifactError::Refused(format!(
            "no shared library can be made for {system}: found the format {}, expected ELF; build a static library and link it",
            system.binary_format
        )));
    }
    let image = image::build(a)?;
    let layout = Layout::new(a, &image, path)?;
    output::write(path, false, |file| {
        let fail = ArtifactError::io(path);
        file.write_all(&layout.front()).map_err(&fail)?;
        let dynamic = layout.dynamic();
        file.seek(SeekFrom::Start(layout.dynamic)).and_then(|_| file.write_all(&dynamic)).map_err(&fail)?;
        weights::write_parts(a.program()?, &image, (layout.image, layout.weights), (file, path))?;
        file.seek(SeekFrom::Start(layout.tail)).and_then(|_| file.write_all(&layout.tail())).map_err(fail)
    })
}

/// A range of the file, and of memory.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    at: u64,
    bytes: u64,
}

/// Where everything goes.
struct Layout {
    machine: u16,
    flags: u32,
    page: u64,
    hash: Part,
    symbols: Part,
    strings: Part,
    dynamic: u64,
    dynamic_bytes: u64,
    image: u64,
    image_bytes: u64,
    weights: u64,
    weight_bytes: u64,
    tail: u64,
    /// (place in the strings, kind, section, address, bytes).
    exports: [(u32, u8, u16, u64, u64); 4],
    text: Vec<u8>,
    soname: u32,
}

impl Layout {
    fn new(a: &Artifact<'_>, image: &image::Image, path: &Path) -> Result<Layout, ArtifactError> {
        let (machine, flags, page) = machine(a.arch)?;
        let name = header::c_name(&a.program()?.name);
        let mut text = vec![0];
        let mut string = |s: &str| {
            let at = text.len() as u32;
            text.extend_from_slice(s.as_bytes());
            text.push(0);
            at
        };
        let names = ["image", "plan", "run", "weights"].map(|s| string(&format!("{name}_{s}")));
        let soname = string(&path.file_name().unwrap_or_default().to_string_lossy());
        let symbols = Part {
            at: HEADER_BYTES + SEGMENTS * SEGMENT_BYTES,
            bytes: (names.len() as u64 + 1) * SYMBOL_BYTES,
        };
        let hash = Part { at: symbols.at + symbols.bytes, bytes: (2 + 1 + names.len() as u64 + 1) * 4 };
        let strings = Part { at: hash.at + hash.bytes, bytes: text.len() as u64 };
        let dynamic = (strings.at + strings.bytes).next_multiple_of(page);
        let dynamic_bytes = 7 * DYNAMIC_BYTES;
        let image_at = (dynamic + dynamic_bytes).next_multiple_of(page.max(image.align));
        let image_bytes = image.bytes.len() as u64;
        let weights_at = (image_at + image_bytes).next_multiple_of(page);
        let weight_bytes = weights::segment_bytes(a.program()?)?;
        Ok(Layout {
            machine,
            flags,
            page,
            hash,
            symbols,
            strings,
            dynamic,
            dynamic_bytes,
            image: image_at,
            image_bytes,
            weights: weights_at,
            weight_bytes,
            tail: (weights_at + weight_bytes).next_multiple_of(8),
            exports: [
                (names[0], GLOBAL_OBJECT, TEXT, image_at, image_bytes),
                (names[1], GLOBAL_FUNCTION, TEXT, image_at + image.plan, 0),
                (names[2], GLOBAL_FUNCTION, TEXT, image_at + image.run, 0),
                (names[3], GLOBAL_OBJECT, RODATA, weights_at, weight_bytes),
            ],
            text,
            soname,
        })
    }

    /// Header, program headers, symbols, hash table, strings.
    fn front(&self) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        let names_bytes = section_names().0.len() as u64;
        Header {
            kind: 3,
            machine: self.machine,
            version: 1,
            entry: 0,
            segments: HEADER_BYTES,
            sections: (self.tail + names_bytes).next_multiple_of(8),
            flags: self.flags,
            header_bytes: HEADER_BYTES as u16,
            segment_bytes: SEGMENT_BYTES as u16,
            segment_count: SEGMENTS as u16,
            section_bytes: SECTION_BYTES as u16,
            section_count: SECTION_NAMES.len() as u16,
            names: NAMES,
        }
        .write(&mut out);
        let load = |flags, at, bytes| elf::load(flags, at, at, bytes, self.page);
        let dynamic = load(pf::R | pf::W, self.dynamic, self.dynamic_bytes);
        for segment in [
            load(pf::R, 0, self.strings.at + self.strings.bytes),
            dynamic,
            load(pf::R | pf::X, self.image, self.image_bytes),
            load(pf::R, self.weights, self.weight_bytes),
            Segment { kind: pt::DYNAMIC, align: 8, ..dynamic },
            Segment { kind: pt::GNU_STACK, flags: pf::R | pf::W, align: 16, ..Segment::default() },
        ] {
            segment.write(&mut out);
        }
        out.resize((self.symbols.at + SYMBOL_BYTES) as usize, 0);
        for (name, kind, section, address, bytes) in self.exports {
            out.extend_from_slice(&name.to_le_bytes());
            out.extend_from_slice(&[kind, 0]);
            out.extend_from_slice(&section.to_le_bytes());
            out.extend_from_slice(&address.to_le_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
        }
        // One bucket, whose chain goes through all symbols.
        let count = self.exports.len() as u32 + 1;
        let chain = (1..count).map(|i| if i + 1 < count { i + 1 } else { 0 });
        for word in [1, count, 1, 0].into_iter().chain(chain) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.text);
        out
    }

    fn dynamic(&self) -> Vec<u8> {
        const ENTRIES: [u64; 7] = [14, 4, 5, 6, 10, 11, 0]; // SONAME HASH STRTAB SYMTAB STRSZ SYMENT NULL
        let values = [
            self.soname as u64,
            self.hash.at,
            self.strings.at,
            self.symbols.at,
            self.strings.bytes,
            SYMBOL_BYTES,
            0,
        ];
        ENTRIES.into_iter().zip(values).flat_map(|(tag, v)| [tag, v]).flat_map(u64::to_le_bytes).collect()
    }

    /// The sections' names and headers.
    fn tail(&self) -> Vec<u8> {
        let (mut out, places) = section_names();
        let names = Part { at: self.tail, bytes: out.len() as u64 };
        out.resize(out.len().next_multiple_of(8), 0);
        let dynamic = Part { at: self.dynamic, bytes: self.dynamic_bytes };
        let image = Part { at: self.image, bytes: self.image_bytes };
        let weights = Part { at: self.weights, bytes: self.weight_bytes };
        // (type, flags, place, link, info, alignment, bytes of an entry)
        let rows = [
            (0, 0, Part::default(), 0, 0, 0, 0),
            (sht::HASH, shf::ALLOC, self.hash, DYNSYM, 0, 8, 4),
            (sht::DYNSYM, shf::ALLOC, self.symbols, DYNSTR, 1, 8, SYMBOL_BYTES),
            (sht::STRTAB, shf::ALLOC, self.strings, 0, 0, 1, 0),
            (sht::DYNAMIC, shf::ALLOC | shf::WRITE, dynamic, DYNSTR, 0, 8, DYNAMIC_BYTES),
            (sht::PROGBITS, shf::ALLOC | shf::EXEC, image, 0, 0, self.page, 0),
            (sht::PROGBITS, shf::ALLOC, weights, 0, 0, self.page, 0),
            (sht::STRTAB, 0, names, 0, 0, 1, 0),
        ];
        for ((kind, flags, part, link, info, align, entry_bytes), name) in rows.into_iter().zip(places) {
            let address = if flags & shf::ALLOC != 0 { part.at } else { 0 };
            let (offset, bytes) = (part.at, part.bytes);
            Section { name, kind, flags, address, offset, bytes, link, info, align, entry_bytes }
                .write(&mut out);
        }
        out
    }
}

/// The table of the sections' names, and where each is in it.
fn section_names() -> (Vec<u8>, Vec<u32>) {
    let mut table = Vec::new();
    let place = |name: &str| {
        let at = table.len() as u32;
        table.extend_from_slice(name.as_bytes());
        table.push(0);
        at
    };
    let places = SECTION_NAMES.into_iter().map(place).collect();
    (table, places)
}
