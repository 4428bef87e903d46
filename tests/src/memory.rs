//! How much memory the process has taken: an allocator that counts, for tests that bound it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting. A test binary makes it its own by `#[global_allocator]`.
pub struct Counting {
    held: AtomicUsize,
    most: AtomicUsize,
}

impl Counting {
    /// Nothing is held yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Counting {
        Counting { held: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    /// Bytes held now; from here on [`Counting::most`] counts anew.
    pub fn start(&self) -> usize {
        let held = self.held.load(Ordering::Relaxed);
        self.most.store(held, Ordering::Relaxed);
        held
    }

    /// The most bytes held at once since [`Counting::start`].
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn took(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(held, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator with the arguments as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.held.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.took(size);
        self.held.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.realloc(at, layout, size) }
    }
}
