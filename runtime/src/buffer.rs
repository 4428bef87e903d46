//! Zeroed, [`ALIGN`]ed memory for arenas, states and tensors.
//!
//! Large buffers come as fresh pages from the system, so that pages that are never touched cost
//! nothing. This is why the allocator is not asked for the alignment: it would then clear the
//! memory itself.

use crate::abi::ALIGN;
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// What the allocator is asked for; no more than every allocator gives anyway.
const BASE_ALIGN: usize = 8;

/// Bytes that begin at a multiple of [`ALIGN`], zero at first.
pub struct Buffer {
    base: NonNull<u8>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a buffer owns its memory and hands it out by the usual borrows only.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared borrows only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// So many zero bytes; `None` where there is no memory for them.
    pub fn zeroed(len: usize) -> Option<Buffer> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout's size is at least ALIGN, so not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let pad = base.as_ptr().align_offset(ALIGN);
        // SAFETY: `pad` is below ALIGN, and the allocation has `len + ALIGN` bytes.
        let start = unsafe { base.add(pad) };
        Some(Buffer { base, start, len })
    }

    /// A copy of these bytes; `None` where there is no memory for them.
    pub fn copy_of(bytes: &[u8]) -> Option<Buffer> {
        let mut buffer = Buffer::zeroed(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Some(buffer)
    }

    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_add(ALIGN)?, BASE_ALIGN).ok()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: `base` came from `alloc_zeroed` with this layout.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` has `len` initialised bytes for as long as `self` lives.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}
