//! NumPy's `.npz`: a ZIP archive of `.npy` files, stored or deflated (`savez`, `savez_compressed`).
//!
//! Format: PKWARE's APPNOTE.TXT, version 6.3: 4.3.16 the end of the central directory, 4.3.12 the
//! directory, 4.3.7 the header before each file, 4.5.3 the field for sizes above 4 GiB. Files that are
//! encrypted, or of an archive in several parts, are refused: their sums do not agree.

use super::npy;
use crate::tensor::Tensor;
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: usize = 22;
/// The comment behind the end has at most so many bytes.
const MAX_COMMENT: usize = 65535;
const END_64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR_64: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_64_BYTES: usize = 20;
const DIRECTORY_ENTRY: &[u8; 4] = b"PK\x01\x02";
const FILE: &[u8; 4] = b"PK\x03\x04";

/// Number of the field that holds sizes and offsets of 64 bits.
const SIZES_64: u16 = 1;
/// What stands in a field of 32 bits whose value is in that field.
const ELSEWHERE: u64 = 0xffff_ffff;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Deflated data grows to at most so many times its size (RFC 1951: 258 bytes take 2 bits at least).
const MAX_GROWTH: u64 = 1032;

/// Reads an array from the bytes of an archive: the one called `name`, or the only one that there is.
pub fn read(bytes: &[u8], name: &str) -> Result<Tensor, String> {
    let files = directory(bytes).ok_or_else(|| "not an .npz file".to_owned())?;
    let wanted = format!("{name}.npy");
    let file = match &files[..] {
        [only] => only,
        all => all.iter().find(|f| f.name == wanted).ok_or_else(|| {
            let all: Vec<&str> = all.iter().map(|f| f.name.trim_end_matches(".npy")).collect();
            format!("found the arrays {}, expected one called {name}", all.join(", "))
        })?,
    };
    let read = || npy::read(&file.contents(bytes)?);
    read().map_err(|e| format!("{}: {e}", file.name))
}

/// Little-endian numbers, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn skip(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(part)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.skip(bytes)?.iter().rev().fold(0, |n, b| n << 8 | *b as u64))
    }

    fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|n| n as u16)
    }

    fn size(&mut self) -> Option<usize> {
        self.u16().map(usize::from)
    }
}

/// A file of an archive, as the directory has it.
struct File {
    name: String,
    method: u16,
    crc: u32,
    packed: u64,
    bytes: u64,
    offset: u64,
}

/// The bytes from an offset on, behind these first ones.
fn behind<'a>(bytes: &'a [u8], offset: u64, first: &[u8]) -> Option<Fields<'a>> {
    bytes.get(usize::try_from(offset).ok()?..)?.strip_prefix(first).map(Fields)
}

/// All files; `None` where this is no archive.
fn directory(bytes: &[u8]) -> Option<Vec<File>> {
    let from = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT);
    let end = from + bytes[from..].windows(END.len()).rposition(|w| w == END)?;
    let mut fields = behind(bytes, end as u64, END)?;
    fields.skip(6)?;
    let (mut count, _, mut offset) = (fields.number(2)?, fields.number(4)?, fields.number(4)?);
    let _comment = fields.size()?;
    let locator = end.checked_sub(LOCATOR_64_BYTES);
    if let Some(mut fields) = locator.and_then(|at| behind(bytes, at as u64, LOCATOR_64)) {
        fields.skip(4)?;
        let mut fields = behind(bytes, fields.number(8)?, END_64)?;
        fields.skip(28)?;
        (count, _, offset) = (fields.number(8)?, fields.number(8)?, fields.number(8)?);
    }
    let mut fields = Fields(bytes.get(usize::try_from(offset).ok()?..)?);
    (0..count).map(|_| File::read(&mut fields)).collect()
}

impl File {
    /// Reads an entry of the directory.
    fn read(fields: &mut Fields<'_>) -> Option<File> {
        fields.0 = fields.0.strip_prefix(DIRECTORY_ENTRY)?;
        fields.skip(6)?;
        let method = fields.u16()?;
        fields.skip(4)?;
        let (crc, packed, bytes) = (fields.number(4)?, fields.number(4)?, fields.number(4)?);
        let (name, extra, comment) = (fields.size()?, fields.size()?, fields.size()?);
        fields.skip(8)?;
        let offset = fields.number(4)?;
        let name = String::from_utf8_lossy(fields.skip(name)?).into_owned();
        let mut extra = Fields(fields.skip(extra)?);
        fields.skip(comment)?;
        let mut file = File { name, method, crc: crc as u32, packed, bytes, offset };
        while let (Some(number), Some(len)) = (extra.u16(), extra.size()) {
            let mut field = Fields(extra.skip(len)?);
            if number == SIZES_64 {
                for value in [&mut file.bytes, &mut file.packed, &mut file.offset] {
                    if *value == ELSEWHERE {
                        *value = field.number(8)?;
                    }
                }
            }
        }
        Some(file)
    }

    /// Its bytes, unpacked and checked against their sum.
    fn contents<'a>(&self, archive: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        let packed = self.packed(archive).ok_or_else(|| "it lies outside the archive".to_owned())?;
        let contents = match self.method {
            STORED => Cow::Borrowed(packed),
            DEFLATED => Cow::Owned(self.inflate(packed)?),
            other => return Err(format!("found compression method {other}, expected none or deflate")),
        };
        match crc32(&contents) {
            found if found == self.crc => Ok(contents),
            found => Err(format!("it is corrupt: its CRC is {found:08x}, expected {:08x}", self.crc)),
        }
    }

    /// Its bytes as they are in the archive.
    fn packed<'a>(&self, archive: &'a [u8]) -> Option<&'a [u8]> {
        let mut fields = behind(archive, self.offset, FILE)?;
        fields.skip(22)?;
        let (name, extra) = (fields.size()?, fields.size()?);
        fields.skip(name + extra)?;
        fields.skip(usize::try_from(self.packed).ok()?)
    }

    fn inflate(&self, packed: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = || format!("it is corrupt: it does not unpack to {} bytes", self.bytes);
        if self.bytes > (packed.len() as u64 + 1).saturating_mul(MAX_GROWTH) {
            return Err(wrong());
        }
        let mut out = alloc::vec![0; usize::try_from(self.bytes).map_err(|_| wrong())?];
        match decompress_slice_iter_to_slice(&mut out, core::iter::once(packed), false, true) {
            Ok(n) if n == out.len() => Ok(out),
            _ => Err(wrong()),
        }
    }
}

/// The sum of ZIP (ISO 3309, reflected), four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut i = 0;
        while i < 16 {
            let (mut v, mut bit) = (i as u32, 0);
            while bit < 4 {
                v = v >> 1 ^ if v & 1 != 0 { 0xedb8_8320 } else { 0 };
                bit += 1;
            }
            table[i] = v;
            i += 1;
        }
        table
    };
    let step = |sum: u32, four: u32| sum >> 4 ^ TABLE[((sum ^ four) & 15) as usize];
    !bytes.iter().fold(!0, |sum, b| step(step(sum, *b as u32), *b as u32 >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_has_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        for bytes in [&b""[..], b"PK", b"PK\x05\x06", &[0x50; 100]] {
            assert!(read(bytes, "x").is_err());
        }
    }
}
