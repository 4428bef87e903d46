//! Where the model is: its place is written into this program when the model is put in.

use alloc::sync::Arc;
use burin_runtime::Segment;

/// Found by its magic; all distances are from its own first byte. The layout is known to the
/// compiler's writer of executables.
#[repr(C, align(8))]
struct Locator {
    magic: [u8; 16],
    image: i64,
    image_bytes: u64,
    weights: i64,
    weight_bytes: u64,
}

#[used]
static LOCATOR: Locator =
    Locator { magic: *b"BURIN-LOCATOR-01", image: 0, image_bytes: 0, weights: 0, weight_bytes: 0 };

/// The image and the weights of the model in this program, as Burin's compiler made them, the image
/// executable; `None` where none has been put in.
pub(crate) fn model() -> Option<(Segment, Segment)> {
    let here = &raw const LOCATOR;
    // SAFETY: a plain read; volatile because the bytes were changed after compilation.
    let found = unsafe { here.read_volatile() };
    if found.image == 0 || found.magic[0] != b'B' {
        return None;
    }
    let part = |distance: i64, bytes: u64| -> &'static [u8] {
        // SAFETY: the writer of the executable has put a loaded segment of that size there; it is
        // never written.
        unsafe {
            let start = here.cast::<u8>().wrapping_offset(distance as isize);
            core::slice::from_raw_parts(start, bytes as usize)
        }
    };
    Some((Arc::new(part(found.image, found.image_bytes)), Arc::new(part(found.weights, found.weight_bytes))))
}

/// A note (name's bytes, description's bytes, type, name), so that the program has a header for notes,
/// whose place one of the model's segments takes, whatever the linker adds.
#[used]
#[unsafe(link_section = ".note.burin")]
static NOTE: [u32; 5] = [6, 0, 1, u32::from_le_bytes(*b"Buri"), u32::from_le_bytes(*b"n\0\0\0")];
