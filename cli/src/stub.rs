//! The prebuilt program that executables are made of.

/// Its bytes; `None` where this `burin` was built on a system that has none.
pub fn bytes() -> Option<&'static [u8]> {
    #[cfg(has_stub)]
    return Some(include_bytes!(env!("BURIN_STUB")));
    #[cfg(not(has_stub))]
    None
}
