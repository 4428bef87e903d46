//! What the program needs of Linux on x86-64, by system calls of its own: without the standard
//! library and a C library, an executable is a tenth of the size, and starts at once.
//!
//! - `start`: from the system's entry to `main`, and panics.
//! - `bytes`: the functions that compiled Rust calls for copies and comparisons.
//! - `heap`: the allocator.
//! - [`files`], [`clock`], [`threads`].

pub(crate) mod bytes;
pub(crate) mod clock;
pub(crate) mod files;
mod heap;
pub(crate) mod start;
pub(crate) mod threads;

use core::arch::asm;
use core::fmt;

/// Numbers of system calls (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Call {
    Read = 0,
    Write = 1,
    Open = 2,
    Close = 3,
    Seek = 8,
    Map = 9,
    Protect = 10,
    Unmap = 11,
    SetAction = 13,
    Yield = 24,
    Remap = 25,
    Advise = 28,
    Clone = 56,
    FileControl = 72,
    MakeDirectory = 83,
    Unlink = 87,
    Futex = 202,
    GetAffinity = 204,
    Clock = 228,
    ExitAll = 231,
}

/// An error of the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const INTERRUPTED: Errno = Errno(4);
    pub(crate) const EXISTS: Errno = Errno(17);
    pub(crate) const BROKEN_PIPE: Errno = Errno(32);
}

/// The errors that files and memory have (`errno(3)`).
const TEXTS: [(i32, &str); 19] = [
    (1, "Operation not permitted"),
    (2, "No such file or directory"),
    (5, "Input/output error"),
    (9, "Bad file descriptor"),
    (11, "Resource temporarily unavailable"),
    (12, "Cannot allocate memory"),
    (13, "Permission denied"),
    (17, "File exists"),
    (20, "Not a directory"),
    (21, "Is a directory"),
    (22, "Invalid argument"),
    (24, "Too many open files"),
    (26, "Text file busy"),
    (27, "File too large"),
    (28, "No space left on device"),
    (30, "Read-only file system"),
    (32, "Broken pipe"),
    (36, "File name too long"),
    (122, "Disk quota exceeded"),
];

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TEXTS.iter().find(|(number, _)| *number == self.0) {
            Some((number, text)) => write!(f, "{text} (os error {number})"),
            None => write!(f, "os error {}", self.0),
        }
    }
}

/// Calls the system; missing arguments are zero.
///
/// # Safety
/// As the call demands.
pub(crate) unsafe fn call<const N: usize>(call: Call, args: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    let answer: isize;
    // SAFETY: the convention of Linux on x86-64; the caller vouches for what the call does.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") call as usize => answer,
            in("rdi") all[0], in("rsi") all[1], in("rdx") all[2],
            in("r10") all[3], in("r8") all[4], in("r9") all[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // Errors are the numbers from -4095 on.
    if (-4095..0).contains(&answer) { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// Memory mappings (`mmap(2)`).
pub(crate) mod map {
    use super::{Call, Errno, call};
    use core::ptr::NonNull;

    pub(crate) const PAGE: usize = 4096;
    const READ: usize = 1;
    const READ_WRITE: usize = 3;
    const PRIVATE: usize = 2;
    const ANONYMOUS: usize = 0x20;
    const NOTHING: usize = 0;

    /// So many fresh zero bytes, a multiple of [`PAGE`], which take memory where they are touched.
    pub(crate) fn fresh(bytes: usize) -> Result<NonNull<u8>, Errno> {
        // SAFETY: a new mapping at a place that the system chooses.
        let at = unsafe { call(Call::Map, [0, bytes, READ_WRITE, PRIVATE | ANONYMOUS, usize::MAX, 0]) }?;
        NonNull::new(at as *mut u8).ok_or(Errno(12))
    }

    /// A file's first bytes, to be read.
    pub(crate) fn file(descriptor: usize, bytes: usize) -> Result<NonNull<u8>, Errno> {
        // SAFETY: as above.
        let at = unsafe { call(Call::Map, [0, bytes, READ, PRIVATE, descriptor, 0]) }?;
        NonNull::new(at as *mut u8).ok_or(Errno(12))
    }

    /// Makes the first page of a fresh mapping one that cannot be touched.
    pub(crate) fn fence(at: NonNull<u8>) -> Result<(), Errno> {
        // SAFETY: nothing uses the page yet.
        unsafe { call(Call::Protect, [at.as_ptr() as usize, PAGE, NOTHING]) }.map(drop)
    }

    /// # Safety
    /// The bytes must be those of mappings that nothing uses any more.
    pub(crate) unsafe fn release(at: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise. It cannot fail for whole mappings.
        let _ = unsafe { call(Call::Unmap, [at.as_ptr() as usize, bytes]) };
    }
}
