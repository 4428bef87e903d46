//! Executables: a prebuilt static program (the *stub*) with a model in two more segments.
//!
//! The stub's memory image stays as it is. Behind it come the compiled image (readable and
//! executable) and the weights (readable), both loaded by the system as every other part of the
//! program, and both with a section header, so that `strip` keeps them. Program headers cannot grow
//! (the stub's first section follows them), so the new ones take the places of notes and of the table
//! for stack unwinding, which nothing needs at run time. The stub finds the model through a
//! [`Locator`](LOCATOR_MAGIC): distances from itself, so that it works wherever the program is loaded.

use super::elf::{
    self, HEADER_BYTES, Header, SECTION_BYTES, SEGMENT_BYTES, Section, Segment, pf, pt, shf, sht,
};
use super::{Artifact, ArtifactError, image, output, weights};
use burin_runtime::abi::arch;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// What the stub's locator begins with. Behind it stand, each in 8 bytes: the distance from the
/// locator's first byte to the image, the image's bytes, the distance to the weights, their bytes.
pub const LOCATOR_MAGIC: &[u8; 16] = b"BURIN-LOCATOR-01";
const LOCATOR_BYTES: usize = LOCATOR_MAGIC.len() + 4 * 8;

/// The names of the new sections, with the zero that ends each.
const NAMES: &[u8] = b".burin.image\0.burin.weights\0";
const IMAGE_NAME: usize = 0;
const WEIGHTS_NAME: usize = 13;

/// Segments that nothing needs at run time; the first are given up first. The stub aborts on a
/// panic, so that its stack is never unwound, and has nothing that relocates it and would then protect
/// what it has relocated.
const SPARE: [u32; 4] = [pt::GNU_PROPERTY, pt::NOTE, pt::GNU_EH_FRAME, pt::GNU_RELRO];

/// What the model's parts are aligned to: the page size of x86-64.
const PAGE: u64 = 4096;

/// Where the model's parts go. Offsets and addresses differ by the same everywhere in the program.
#[derive(Clone, Copy, Debug)]
struct Layout {
    base: u64,
    image: u64,
    image_bytes: u64,
    weights: u64,
    weight_bytes: u64,
}

/// Writes an executable. `stub` is the program that it is put into.
pub fn write(a: &Artifact<'_>, stub: &[u8], path: &Path) -> Result<(), ArtifactError> {
    if a.arch != arch::X86_64 {
        let found = burin_runtime::cpu::arch_name(a.arch);
        return Err(ArtifactError::Refused(format!(
            "executables can be made for x86-64 Linux only, found {found}: build an object or a shared library"
        )));
    }
    if let [first, ..] = a.program()?.host_ops[..] {
        return Err(ArtifactError::Refused(format!(
            "the model calls {first} of the host-op library, which executables do not hold: build a bundle, an \
             object or a shared library, and give it the library"
        )));
    }
    let image = image::build(a)?;
    let elf = Elf::parse(stub)?;
    let end = elf.loads().map(|s| s.address + s.bytes - elf.base()).max().unwrap_or(0);
    let image_at = end.max(stub.len() as u64).next_multiple_of(PAGE);
    let image_bytes = image.bytes.len() as u64;
    let layout = Layout {
        base: elf.base(),
        image: image_at,
        image_bytes,
        weights: (image_at + image_bytes).next_multiple_of(PAGE),
        weight_bytes: weights::segment_bytes(a.program()?)?,
    };
    let mut program = stub.to_vec();
    elf.patch_segments(&mut program, &layout)?;
    elf.patch_locator(&mut program, &layout)?;
    let tail_at = (layout.weights + layout.weight_bytes).next_multiple_of(8);
    let tail = elf.sections(&mut program, &layout, tail_at)?;
    output::write(path, true, |file| {
        let fail = ArtifactError::io(path);
        file.write_all(&program).map_err(&fail)?;
        weights::write_parts(a.program()?, &image, (layout.image, layout.weights), (file, path))?;
        file.seek(SeekFrom::Start(tail_at)).and_then(|_| file.write_all(&tail)).map_err(fail)
    })
}

/// The stub's tables.
struct Elf<'a> {
    bytes: &'a [u8],
    header: Header,
    segments: Vec<Segment>,
}

fn broken(what: &str) -> ArtifactError {
    ArtifactError::Internal(format!("the prebuilt program cannot hold a model: {what}"))
}

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, ArtifactError> {
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(broken("it is not a 64-bit ELF file"));
        }
        let header = bytes.get(16..).and_then(Header::read).ok_or_else(|| broken("its header is cut off"))?;
        let segment = |i: u64| {
            let at = header.segments.checked_add(i * SEGMENT_BYTES)?;
            Segment::read(bytes.get(usize::try_from(at).ok()?..)?)
        };
        let segments: Option<Vec<Segment>> = (0..header.segment_count as u64).map(segment).collect();
        let segments = segments.ok_or_else(|| broken("its program headers are cut off"))?;
        let elf = Elf { bytes, header, segments };
        let first = elf.loads().next().ok_or_else(|| broken("it has no segments"))?;
        if first.offset != 0 || first.address % PAGE != 0 {
            return Err(broken("its first segment is not aligned"));
        }
        Ok(elf)
    }

    fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.kind == pt::LOAD)
    }

    /// The address of the file's first byte.
    fn base(&self) -> u64 {
        self.loads().next().map_or(0, |s| s.address)
    }

    fn patch_segments(&self, program: &mut [u8], l: &Layout) -> Result<(), ArtifactError> {
        let mut kept: Vec<Segment> = self.segments.clone();
        for _ in 0..2 {
            let spare = SPARE.iter().find_map(|kind| kept.iter().position(|s| s.kind == *kind));
            kept.remove(spare.ok_or_else(|| broken("it has fewer than two spare program headers"))?);
        }
        // Loadable segments stand in the order of their addresses; these are the highest.
        let last = kept.iter().rposition(|s| s.kind == pt::LOAD).map_or(0, |i| i + 1);
        let new = [
            elf::load(pf::R | pf::X, l.image, l.base + l.image, l.image_bytes, PAGE),
            elf::load(pf::R, l.weights, l.base + l.weights, l.weight_bytes, PAGE),
        ];
        kept.splice(last..last, new);
        let mut table = Vec::new();
        kept.iter().for_each(|s| s.write(&mut table));
        let at = self.header.segments as usize;
        program[at..at + table.len()].copy_from_slice(&table);
        Ok(())
    }

    fn patch_locator(&self, program: &mut [u8], l: &Layout) -> Result<(), ArtifactError> {
        let found = memchr::memmem::find(self.bytes, LOCATOR_MAGIC).ok_or_else(|| broken("no locator"))?;
        if memchr::memmem::rfind(self.bytes, LOCATOR_MAGIC) != Some(found) {
            return Err(broken("it has several locators"));
        }
        let at = found as u64;
        let holds = |s: &&Segment| (s.offset..s.offset + s.file_bytes).contains(&at);
        let segment = self.loads().find(holds).ok_or_else(|| broken("its locator is not loaded"))?;
        let address = at - segment.offset + segment.address;
        let mut locator = LOCATOR_MAGIC.to_vec();
        for word in [
            (l.base + l.image).wrapping_sub(address),
            l.image_bytes,
            (l.base + l.weights).wrapping_sub(address),
            l.weight_bytes,
        ] {
            locator.extend_from_slice(&word.to_le_bytes());
        }
        let place =
            program.get_mut(found..found + LOCATOR_BYTES).ok_or_else(|| broken("its locator is cut off"))?;
        place.copy_from_slice(&locator);
        Ok(())
    }

    /// The file's last part: the sections' names and headers, with those of the model. The file
    /// header is made to point there.
    fn sections(&self, program: &mut [u8], l: &Layout, at: u64) -> Result<Vec<u8>, ArtifactError> {
        let section = |i: u64| {
            let at = self.header.sections.checked_add(i * SECTION_BYTES)?;
            Section::read(self.bytes.get(usize::try_from(at).ok()?..)?)
        };
        let all: Option<Vec<Section>> = (0..self.header.section_count as u64).map(section).collect();
        let mut all = all.ok_or_else(|| broken("its section headers are cut off"))?;
        let names =
            all.get_mut(self.header.names as usize).ok_or_else(|| broken("its sections have no names"))?;
        let old = self.bytes.get(names.offset as usize..(names.offset + names.bytes) as usize);
        let mut tail = old.ok_or_else(|| broken("its sections' names are cut off"))?.to_vec();
        let first_name = tail.len();
        tail.extend_from_slice(NAMES);
        (names.offset, names.bytes) = (at, tail.len() as u64);
        let part = |name: usize, flags, offset: u64, bytes| Section {
            name: (first_name + name) as u32,
            kind: sht::PROGBITS,
            flags: shf::ALLOC | flags,
            address: l.base + offset,
            offset,
            bytes,
            align: PAGE,
            ..Section::default()
        };
        // Sections that are loaded stand in the order of their addresses, before all others. The
        // names' own header moves with the rest.
        let loaded = all.iter().rposition(|s| s.flags & shf::ALLOC != 0).map_or(1, |i| i + 1);
        let new = [
            part(IMAGE_NAME, shf::EXEC, l.image, l.image_bytes),
            part(WEIGHTS_NAME, 0, l.weights, l.weight_bytes),
        ];
        for s in &mut all {
            for reference in [&mut s.link, &mut s.info] {
                if *reference as usize >= loaded {
                    *reference += 2;
                }
            }
        }
        all.splice(loaded..loaded, new);
        tail.resize(tail.len().next_multiple_of(8), 0);
        let header = Header {
            sections: at + tail.len() as u64,
            section_count: all.len() as u16,
            names: self.header.names + if self.header.names as usize >= loaded { 2 } else { 0 },
            ..self.header
        };
        all.iter().for_each(|s| s.write(&mut tail));
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        program[16..HEADER_BYTES as usize].copy_from_slice(&bytes);
        Ok(tail)
    }
}
