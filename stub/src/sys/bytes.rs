//! The functions that compiled Rust calls for copies and comparisons of bytes, and that a C library
//! provides elsewhere. They are string instructions of the processor, since a loop in Rust might be
//! compiled to a call of the very function.
//!
//! The direction flag is clear at every call and return (System V ABI of x86-64, 3.2.1).

use core::arch::asm;

/// # Safety
/// `to` and `from` have `n` bytes and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// `to` and `from` have `n` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= n {
        // SAFETY: what is written at each step is not read later.
        return unsafe { memcpy(to, from, n) };
    }
    // SAFETY: the caller's promise; from the last byte on, what is written is not read later.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") n => _, inout("rdi") to.wrapping_add(n).wrapping_sub(1) => _,
             inout("rsi") from.wrapping_add(n).wrapping_sub(1) => _, options(nostack));
    }
    to
}

/// # Safety
/// `to` has `n` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte as u8,
             options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// `a` and `b` have `n` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let (left, right): (*const u8, *const u8);
    if n == 0 {
        return 0;
    }
    // SAFETY: the caller's promise. Stops behind the first bytes that differ, or the last ones.
    unsafe {
        asm!("repe cmpsb", inout("rcx") n => _, inout("rsi") a => left, inout("rdi") b => right,
             options(nostack, readonly));
        *left.sub(1) as i32 - *right.sub(1) as i32
    }
}

/// # Safety
/// `a` and `b` have `n` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, n) }
}

/// # Safety
/// `s` ends with a zero byte.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(s: *const u8) -> usize {
    let left: usize;
    // SAFETY: the caller's promise. Stops behind the first zero byte.
    unsafe {
        asm!("repne scasb", inout("rcx") usize::MAX => left, inout("rdi") s => _, in("al") 0u8,
             options(nostack, readonly));
    }
    usize::MAX - left - 1
}
