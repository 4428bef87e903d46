//! Files and standard output.

use super::{Call, Errno, call, map};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::ops::Deref;
use core::ptr::NonNull;

const READ: usize = 0;
pub(crate) const READ_WRITE: usize = 2;
/// Write only, created where there is none, emptied where there is one.
const REPLACE: usize = 0o1 | 0o100 | 0o1000;
const CLOSE_ON_EXEC: usize = 0o2000000;
/// What the process's mask leaves of them.
const PERMISSIONS: usize = 0o666;
const FOLDER_PERMISSIONS: usize = 0o777;

const OUTPUT: usize = 1;
const ERRORS: usize = 2;

/// How much is read at a time of a file that cannot be mapped.
const BLOCK: usize = 64 << 10;

/// A descriptor of our own.
struct Opened(usize);

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: nothing else uses the descriptor.
        let _ = unsafe { call(Call::Close, [self.0]) };
    }
}

/// Opens a file and answers its descriptor.
pub(crate) fn open(path: &CStr, flags: usize) -> Result<usize, Errno> {
    // SAFETY: the path ends with a zero byte.
    again(|| unsafe { call(Call::Open, [path.as_ptr() as usize, flags | CLOSE_ON_EXEC, PERMISSIONS]) })
}

/// Makes a call until no signal interrupts it.
fn again(mut f: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match f() {
            Err(Errno::INTERRUPTED) => {}
            other => return other,
        }
    }
}

/// A file's bytes: mapped where it can be, else read.
pub(crate) enum Contents {
    Mapped(NonNull<u8>, usize),
    Read(Vec<u8>),
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: the mapping has so many bytes for as long as `self` lives.
            Contents::Mapped(at, bytes) => unsafe { core::slice::from_raw_parts(at.as_ptr(), *bytes) },
            Contents::Read(bytes) => bytes,
        }
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        if let Contents::Mapped(at, bytes) = self {
            // SAFETY: nothing refers to it any more.
            unsafe { map::release(*at, *bytes) };
        }
    }
}

/// The contents of a file, which must not be cut while they are used.
pub(crate) fn read(path: &CStr) -> Result<Contents, Errno> {
    const END: usize = 2;
    let file = Opened(open(path, READ)?);
    // SAFETY: it only moves the position, which a mapping does not use.
    let size = unsafe { call(Call::Seek, [file.0, 0, END]) };
    if let Ok(bytes @ 1..) = size
        && let Ok(at) = map::file(file.0, bytes)
    {
        return Ok(Contents::Mapped(at, bytes));
    }
    // SAFETY: as above; what has no position cannot be moved.
    let _ = unsafe { call(Call::Seek, [file.0, 0, 0]) };
    let mut all = Vec::new();
    loop {
        all.try_reserve(BLOCK).map_err(|_| Errno(12))?;
        let room = all.spare_capacity_mut();
        let args = [file.0, room.as_mut_ptr() as usize, room.len()];
        // SAFETY: there is so much room.
        let n = again(|| unsafe { call(Call::Read, args) })?;
        if n == 0 {
            return Ok(Contents::Read(all));
        }
        // SAFETY: the system has filled in so many bytes.
        unsafe { all.set_len(all.len() + n) };
    }
}

/// Writes a file of these parts; nothing is left of it on failure.
pub(crate) fn write(path: &CStr, parts: &[&[u8]]) -> Result<(), Errno> {
    let file = Opened(open(path, REPLACE)?);
    let result = parts.iter().try_for_each(|part| put(file.0, part));
    if result.is_err() {
        // SAFETY: the path ends with a zero byte. The failure that is reported is the first one.
        let _ = unsafe { call(Call::Unlink, [path.as_ptr() as usize]) };
    }
    result
}

/// Makes a folder, where there is none.
pub(crate) fn make_folder(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path ends with a zero byte.
    match unsafe { call(Call::MakeDirectory, [path.as_ptr() as usize, FOLDER_PERMISSIONS]) } {
        Ok(_) | Err(Errno::EXISTS) => Ok(()),
        Err(e) => Err(e),
    }
}

fn put(descriptor: usize, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: there are so many bytes.
        let n = again(|| unsafe { call(Call::Write, [descriptor, bytes.as_ptr() as usize, bytes.len()]) })?;
        bytes = bytes.get(n..).unwrap_or(&[]);
    }
    Ok(())
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), Errno> {
    put(OUTPUT, text.as_bytes())
}

/// Prints to standard error, where failures have nowhere to be reported.
pub(crate) fn print_error(text: &str) {
    let _ = put(ERRORS, text.as_bytes());
}
