//! The allocator.
//!
//! Small blocks come in sizes of powers of two; freed ones are kept for the next of their size.
//! Large blocks are mappings of their own, which the system hands over as zeros and which take memory
//! only where they are touched: an arena is never cleared, and inputs that have been used are gone.

use super::{Call, call, map};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Small blocks have at least as many bytes, and are aligned to them.
const LEAST: usize = 16;
/// Larger blocks are mappings.
const MOST: usize = 32 << 10;
const CLASSES: usize = (MOST / LEAST).ilog2() as usize + 1;
/// How much memory for small blocks is mapped at a time.
const CHUNK: usize = 256 << 10;
/// Mappings of this size may have pages as large, which are quicker to fault in and to find.
const LARGE_PAGE: usize = 2 << 20;

#[global_allocator]
static HEAP: Heap = Heap {
    locked: AtomicBool::new(false),
    small: UnsafeCell::new(Small { free: [null_mut(); CLASSES], fresh: null_mut(), left: 0 }),
};

struct Heap {
    locked: AtomicBool,
    small: UnsafeCell<Small>,
}
// SAFETY: `small` is used by the holder of the lock only.
unsafe impl Sync for Heap {}

struct Small {
    /// For each size the last block that was freed; its first word is the one before.
    free: [*mut u8; CLASSES],
    /// Memory that has never been handed out.
    fresh: *mut u8,
    left: usize,
}

/// The number of the size that a block has; `None`: it is a mapping.
fn class(layout: &Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(LEAST);
    (bytes <= MOST).then(|| (bytes.next_power_of_two() / LEAST).ilog2() as usize)
}

fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(map::PAGE)
}

impl Heap {
    fn with<T>(&self, f: impl FnOnce(&mut Small) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: the lock is held.
        let result = f(unsafe { &mut *self.small.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl Small {
    fn take(&mut self, class: usize) -> *mut u8 {
        let block = self.free[class];
        if !block.is_null() {
            // SAFETY: a free block holds the pointer to the next one.
            self.free[class] = unsafe { block.cast::<*mut u8>().read() };
            return block;
        }
        // Sizes are powers of two and chunks are aligned to pages: skipping up to the next multiple
        // of the size wastes at most half of it.
        let bytes = LEAST << class;
        let skip = self.fresh.align_offset(bytes);
        if self.left < skip.saturating_add(bytes) {
            let Ok(chunk) = map::fresh(CHUNK + MOST) else { return null_mut() };
            (self.fresh, self.left) = (chunk.as_ptr(), CHUNK + MOST);
            return self.take(class);
        }
        // SAFETY: so many bytes are left.
        let block = unsafe { self.fresh.add(skip) };
        // SAFETY: as above.
        self.fresh = unsafe { block.add(bytes) };
        self.left -= skip + bytes;
        block
    }

    /// # Safety
    /// The block came from `take` of that class, and nothing uses it any more.
    unsafe fn put(&mut self, block: *mut u8, class: usize) {
        // SAFETY: a block has room for a pointer.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }
}

fn mapped(bytes: usize) -> *mut u8 {
    const USE_LARGE_PAGES: usize = 14;
    let Ok(at) = map::fresh(pages(bytes)) else { return null_mut() };
    if bytes >= LARGE_PAGE {
        // SAFETY: advice about memory that is our own; the system may not know it.
        let _ = unsafe { call(Call::Advise, [at.as_ptr() as usize, pages(bytes), USE_LARGE_PAGES]) };
    }
    at.as_ptr()
}

// SAFETY: blocks are as large and aligned as their layout says, and overlap no other.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(&layout) {
            Some(class) => self.with(|small| small.take(class)),
            // Nobody asks for more than pages have.
            None if layout.align() > map::PAGE => null_mut(),
            None => mapped(layout.size()),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && class(&layout).is_some() {
            // SAFETY: the block has that size. A mapping is zero already.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (class(&layout), NonNull::new(block)) {
            // SAFETY: the caller's promise: it came from `alloc` with this layout.
            (Some(class), _) => self.with(|small| unsafe { small.put(block, class) }),
            // SAFETY: as above.
            (None, Some(block)) => unsafe { map::release(block, pages(layout.size())) },
            (None, None) => {}
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        const MAY_MOVE: usize = 1;
        // SAFETY: the caller's promise: the size is not zero and does not overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(&layout), class(&new)) {
            (Some(old), Some(new)) if old == new => block,
            (None, None) => {
                let args = [block as usize, pages(layout.size()), pages(size), MAY_MOVE];
                // SAFETY: the mapping is this block's.
                unsafe { call(Call::Remap, args) }.map_or(null_mut(), |at| at as *mut u8)
            }
            _ => {
                // SAFETY: the caller's promise.
                let to = unsafe { self.alloc(new) };
                if !to.is_null() {
                    // SAFETY: both have so many bytes, and the old one is given up.
                    unsafe {
                        block.copy_to_nonoverlapping(to, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                }
                to
            }
        }
    }
}
