//! From the system's entry to [`run`](crate::run), and panics.

use super::{Call, Errno, call, files};
use alloc::format;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;

// The System V ABI of x86-64, 3.4.1: at the entry the stack holds the number of arguments and
// pointers to them, and is aligned; no frame is above this one.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

/// # Safety
/// `stack` is what the system put on the stack.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: the caller's promise: the count, then as many pointers to strings that live as long as
    // the process.
    let args: Vec<&'static CStr> = unsafe {
        let first = stack.add(1).cast::<*const c_char>();
        (0..*stack).map(|i| CStr::from_ptr(*first.add(i))).collect()
    };
    open_standard_files();
    ignore_broken_pipes();
    exit(crate::run(&args))
}

/// Ends the process, whatever its threads do.
pub(crate) fn exit(code: u8) -> ! {
    loop {
        // SAFETY: nothing is left to be done.
        let _ = unsafe { call(Call::ExitAll, [code as usize]) };
    }
}

/// Where standard output or the like is closed, the next file that is opened would take its place,
/// and get what is printed.
fn open_standard_files() {
    const GET_FLAGS: usize = 1;
    for descriptor in 0..3 {
        // SAFETY: it only asks.
        if unsafe { call(Call::FileControl, [descriptor, GET_FLAGS]) } == Err(Errno(9)) {
            let _ = files::open(c"/dev/null", files::READ_WRITE);
        }
    }
}

/// A reader of the output that has gone away is to be an error, not the end of the process.
fn ignore_broken_pipes() {
    const PIPE: usize = 13;
    const IGNORE: usize = 1;
    // The kernel's `struct sigaction`: handler, flags, restorer, mask.
    let action = [IGNORE, 0, 0, 0];
    // SAFETY: the struct is as the kernel wants it, and no handler is set that could run.
    let _ = unsafe { call(Call::SetAction, [PIPE, action.as_ptr() as usize, 0, 8]) };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    files::print_error(&format!("error: internal error: {info}\n"));
    exit(crate::OUR_BUG)
}

/// What compiled Rust refers to for unwinding, which panics here never do.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    exit(crate::OUR_BUG)
}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(crate::OUR_BUG)
}
