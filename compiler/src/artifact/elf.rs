//! The tables of 64-bit little-endian ELF files (System V ABI, generic part; "ELF-64 Object File
//! Format", version 1.5), as far as executables and shared libraries need them.

/// Bytes of the file header.
pub const HEADER_BYTES: u64 = 64;
/// Bytes of a program header.
pub const SEGMENT_BYTES: u64 = 56;
/// Bytes of a section header.
pub const SECTION_BYTES: u64 = 64;

/// Segment types.
#[allow(missing_docs)]
pub mod pt {
    pub const LOAD: u32 = 1;
    pub const DYNAMIC: u32 = 2;
    pub const NOTE: u32 = 4;
    pub const GNU_PROPERTY: u32 = 0x6474_e553;
    pub const GNU_EH_FRAME: u32 = 0x6474_e550;
    pub const GNU_STACK: u32 = 0x6474_e551;
    pub const GNU_RELRO: u32 = 0x6474_e552;
}

/// Segment flags.
#[allow(missing_docs)]
pub mod pf {
    pub const X: u32 = 1;
    pub const W: u32 = 2;
    pub const R: u32 = 4;
}

/// Section types.
#[allow(missing_docs)]
pub mod sht {
    pub const PROGBITS: u32 = 1;
    pub const STRTAB: u32 = 3;
    pub const HASH: u32 = 5;
    pub const DYNAMIC: u32 = 6;
    pub const DYNSYM: u32 = 11;
}

/// Section flags.
#[allow(missing_docs)]
pub mod shf {
    pub const WRITE: u64 = 1;
    pub const ALLOC: u64 = 2;
    pub const EXEC: u64 = 4;
}

/// Fields in the order of the file, with their widths: one list for reading and writing.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident, $bytes:expr, { $($(#[$fdoc:meta])* $field:ident: $t:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name { $($(#[$fdoc])* pub $field: $t,)* }

        impl $name {
            /// Reads one; `None` where there are too few bytes.
            pub fn read(bytes: &[u8]) -> Option<$name> {
                let mut rest = bytes;
                $(
                    let (field, tail) = rest.split_first_chunk()?;
                    let $field = <$t>::from_le_bytes(*field);
                    rest = tail;
                )*
                let _ = rest;
                Some($name { $($field,)* })
            }

            /// Appends its bytes.
            pub fn write(&self, out: &mut Vec<u8>) {
                let start = out.len();
                $(out.extend_from_slice(&self.$field.to_le_bytes());)*
                debug_assert_eq!((out.len() - start) as u64, $bytes);
            }
        }
    };
}

record!(
    /// What follows the 16 bytes of identification in the file header.
    Header, HEADER_BYTES - 16, {
        /// 2: executable, 3: shared object or position-independent executable.
        kind: u16,
        /// The architecture.
        machine: u16,
        /// 1.
        version: u32,
        /// Where execution begins.
        entry: u64,
        /// Offset of the program headers.
        segments: u64,
        /// Offset of the section headers.
        sections: u64,
        /// Flags of the architecture.
        flags: u32,
        /// Bytes of the file header.
        header_bytes: u16,
        /// Bytes of a program header.
        segment_bytes: u16,
        /// The number of program headers.
        segment_count: u16,
        /// Bytes of a section header.
        section_bytes: u16,
        /// The number of section headers.
        section_count: u16,
        /// The section that holds the sections' names.
        names: u16,
    }
);

record!(
    /// A program header.
    Segment, SEGMENT_BYTES, {
        /// One of [`pt`].
        kind: u32,
        /// A mask of [`pf`].
        flags: u32,
        /// Where it is in the file.
        offset: u64,
        /// Where it is in memory.
        address: u64,
        /// The same.
        physical: u64,
        /// Its bytes in the file.
        file_bytes: u64,
        /// Its bytes in memory.
        bytes: u64,
        /// Offset and address are alike modulo this.
        align: u64,
    }
);

record!(
    /// A section header.
    Section, SECTION_BYTES, {
        /// Where its name is in the table of names.
        name: u32,
        /// One of [`sht`].
        kind: u32,
        /// A mask of [`shf`].
        flags: u64,
        /// Where it is in memory.
        address: u64,
        /// Where it is in the file.
        offset: u64,
        /// Its bytes.
        bytes: u64,
        /// A related section.
        link: u32,
        /// More about it.
        info: u32,
        /// Its alignment.
        align: u64,
        /// Bytes of an entry, if it is a table.
        entry_bytes: u64,
    }
);

/// A loadable segment with as many bytes in the file as in memory.
pub fn load(flags: u32, offset: u64, address: u64, bytes: u64, align: u64) -> Segment {
    Segment { kind: pt::LOAD, flags, offset, address, physical: address, file_bytes: bytes, bytes, align }
}
