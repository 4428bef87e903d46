//! Checked views over a compiled image.
//!
//! [`Image::parse`] walks everything that a descriptor refers to. After it, every accessor is in
//! bounds and every string is UTF-8, whatever the bytes were. That says nothing about the code: an
//! image is run only if its maker is trusted.

use crate::abi::{
    self, ABI_VERSION, Descriptor, Dim, Entry, EntryCode, MAGIC, Port, Step, Table, Text, Variant, Weight,
};
use crate::cpu;
use crate::tensor::DType;
use core::fmt;
use core::mem::size_of;

/// Why bytes are not an image that can run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// The bytes do not begin with the magic number.
    NotAnImage,
    /// The image is of another ABI version.
    Version {
        /// The image's.
        found: u32,
    },
    /// There are fewer bytes than the descriptor says.
    Truncated {
        /// How many there are.
        found: u64,
        /// How many there must be.
        expected: u64,
    },
    /// The part of that name does not lie within the image, or holds what it must not.
    Corrupt(&'static str),
    /// The image is for another architecture.
    Arch {
        /// The image's, one of [`abi::arch`].
        found: u32,
    },
    /// The CPU lacks features of every variant.
    Cpu {
        /// Those of the last variant, the least demanding one: a mask of [`abi::cpu`].
        missing: u64,
    },
    /// The weights are not this image's.
    Weights {
        /// What was found.
        found: u64,
        /// What was expected.
        expected: u64,
        /// What differs.
        what: &'static str,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NotAnImage => f.write_str("not a compiled model: it does not begin with `BURINIMG`"),
            ImageError::Version { found } => write!(
                f,
                "the model has ABI version {found}, this runtime has {ABI_VERSION}: build it again with the \
                 compiler that belongs to the runtime"
            ),
            ImageError::Truncated { found, expected } => {
                write!(f, "the compiled model is truncated: found {found} bytes, expected {expected}")
            }
            ImageError::Corrupt(what) => write!(f, "the compiled model is corrupt: {what}"),
            ImageError::Arch { found } => write!(
                f,
                "the model is compiled for {}, this machine is {}",
                cpu::arch_name(*found),
                cpu::arch_name(cpu::HOST_ARCH)
            ),
            ImageError::Cpu { missing } => write!(
                f,
                "this CPU lacks {}, which the model's code needs at its lowest level: build it for a lower one \
                 (--cpu)",
                cpu::feature_names(*missing)
            ),
            ImageError::Weights { found, expected, what } => {
                write!(f, "the weights do not belong to the model: {what} is {found}, expected {expected}")
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// A struct of the ABI that consists of integers only, without padding.
///
/// # Safety
/// The type must be `repr(C)`, without padding, and every bit pattern valid.
pub unsafe trait Plain: Copy {
    /// Its bytes, as they stand in an image.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: without padding, all bytes are initialised.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: `repr(C)`, integers only, laid out without padding.
        unsafe impl Plain for $t {}
    )*};
}
plain!(Descriptor, Entry, EntryCode, Port, Dim, Variant, Weight, Step, Text);

fn read<T: Plain>(bytes: &[u8], offset: usize) -> Option<T> {
    let part = bytes.get(offset..offset.checked_add(size_of::<T>())?)?;
    // SAFETY: `part` has the type's size, and any bytes are a valid `T`.
    Some(unsafe { core::ptr::read_unaligned(part.as_ptr().cast()) })
}

/// A checked image.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    bytes: &'a [u8],
    head: Descriptor,
}

/// The entries of a table.
fn table<'a, T: Plain + 'a>(bytes: &'a [u8], t: Table) -> impl ExactSizeIterator<Item = T> + Clone + 'a {
    let start = t.offset as usize;
    let end = start + t.len as usize * size_of::<T>();
    let rows = bytes.get(start..end).unwrap_or(&[]).chunks_exact(size_of::<T>());
    // SAFETY: each row has the type's size, and any bytes are a valid `T`.
    rows.map(|row| unsafe { core::ptr::read_unaligned(row.as_ptr().cast()) })
}

impl<'a> Image<'a> {
    /// Checks an image. Bytes past its end are allowed (segments are padded to pages).
    pub fn parse(bytes: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let magic = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        if magic != Some(MAGIC) {
            return Err(ImageError::NotAnImage);
        }
        // The version comes right after the magic in all versions; the rest is read only if it fits.
        let found = bytes.get(8..12).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_le_bytes(*b));
        match found {
            Some(ABI_VERSION) => {}
            Some(found) => return Err(ImageError::Version { found }),
            None => return Err(truncated(bytes, size_of::<Descriptor>() as u64)),
        }
        let head: Descriptor =
            read(bytes, 0).ok_or_else(|| truncated(bytes, size_of::<Descriptor>() as u64))?;
        let len = usize::try_from(head.image_bytes).ok();
        let Some(bytes) = len.and_then(|n| bytes.get(..n)) else {
            return Err(truncated(bytes, head.image_bytes));
        };
        if bytes.len() < size_of::<Descriptor>() {
            return Err(ImageError::Corrupt("its size is smaller than its descriptor"));
        }
        let image = Image { bytes, head };
        image.check()?;
        Ok(image)
    }

    /// The number of the best variant for a CPU of this architecture with these features.
    pub fn choose(&self, features: u64) -> Result<usize, ImageError> {
        if self.head.arch != cpu::HOST_ARCH {
            return Err(ImageError::Arch { found: self.head.arch });
        }
        let mut missing = 0;
        for (number, variant) in self.variants().enumerate() {
            missing = variant.cpu_features & !features;
            if missing == 0 {
                return Ok(number);
            }
        }
        Err(ImageError::Cpu { missing })
    }

    /// Whether this is the segment of the image's weights: its alignment, size and id.
    pub fn check_weights(&self, weights: &[u8]) -> Result<(), ImageError> {
        let wrong = |what, found, expected| Err(ImageError::Weights { found, expected, what });
        let expected = abi::weight_segment_bytes(self.head.weight_bytes)
            .ok_or(ImageError::Corrupt("the weights' size overflows"))?;
        if (weights.len() as u64) < expected {
            return wrong("their size in bytes", weights.len() as u64, expected);
        }
        let misaligned = weights.as_ptr() as usize % abi::ALIGN;
        if misaligned != 0 {
            return wrong("their address modulo the alignment", misaligned as u64, 0);
        }
        let at = expected as usize - abi::ALIGN;
        let id = weights[at..].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        if id != self.head.weight_id {
            return wrong("their id", id, self.head.weight_id);
        }
        Ok(())
    }

    /// The descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.head
    }

    /// The image's bytes, without what follows it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The model's name.
    pub fn name(&self) -> &'a str {
        self.text(self.head.name)
    }

    /// The code for each CPU level, best first.
    pub fn variants(&self) -> impl ExactSizeIterator<Item = Variant> + Clone + 'a {
        table(self.bytes, self.head.variants)
    }

    /// A variant's code, in the order of the entries.
    pub fn code(&self, v: &Variant) -> impl ExactSizeIterator<Item = EntryCode> + Clone + 'a {
        table(self.bytes, v.code)
    }

    /// The entries.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + Clone + 'a {
        table(self.bytes, self.head.entries)
    }

    /// The state variables.
    pub fn states(&self) -> impl ExactSizeIterator<Item = Port> + Clone + 'a {
        table(self.bytes, self.head.states)
    }

    /// The weights.
    pub fn weights(&self) -> impl ExactSizeIterator<Item = Weight> + Clone + 'a {
        table(self.bytes, self.head.weights)
    }

    /// What the first numbers of texts stand for.
    pub fn model_texts(&self) -> impl ExactSizeIterator<Item = &'a str> + Clone + 'a {
        self.texts(self.head.texts)
    }

    /// The functions of the host-op library that calls need.
    pub fn host_ops(&self) -> impl ExactSizeIterator<Item = &'a str> + Clone + 'a {
        self.texts(self.head.host_ops)
    }

    /// The ports of a table.
    pub fn ports(&self, t: Table) -> impl ExactSizeIterator<Item = Port> + Clone + 'a {
        table(self.bytes, t)
    }

    /// The dimensions of a table.
    pub fn dims(&self, t: Table) -> impl ExactSizeIterator<Item = Dim> + Clone + 'a {
        table(self.bytes, t)
    }

    /// The steps of a table.
    pub fn steps(&self, t: Table) -> impl ExactSizeIterator<Item = Step> + Clone + 'a {
        table(self.bytes, t)
    }

    /// The strings of a table.
    pub fn texts(&self, t: Table) -> impl ExactSizeIterator<Item = &'a str> + Clone + 'a {
        let image = *self;
        table(self.bytes, t).map(move |t| image.text(t))
    }

    /// A string.
    pub fn text(&self, t: Text) -> &'a str {
        let bytes = self.bytes.get(t.offset as usize..(t.offset as usize).saturating_add(t.len as usize));
        bytes.and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }

    fn check(&self) -> Result<(), ImageError> {
        self.check_text(self.head.name, "the model's name")?;
        if abi::weight_segment_bytes(self.head.weight_bytes).is_none() {
            return Err(ImageError::Corrupt("the weights' size overflows"));
        }
        self.check_table::<Weight>(self.head.weights, "the table of weights")?;
        for w in self.weights() {
            self.check_text(w.name, "a weight's name")?;
            let end = w.offset.checked_add(w.bytes);
            if end.is_none_or(|end| end > self.head.weight_bytes) {
                return Err(ImageError::Corrupt("a weight lies outside the weights"));
            }
        }
        self.check_ports(self.head.states, 0, "the table of states")?;
        for s in self.states() {
            let bytes = state_bytes(self, &s).ok_or(ImageError::Corrupt("a state's size is not constant"))?;
            if s.init.checked_add(bytes).is_none_or(|end| end > self.head.weight_bytes) {
                return Err(ImageError::Corrupt("a state's initial value lies outside the weights"));
            }
        }
        for (all, what) in [(self.head.texts, "its texts"), (self.head.host_ops, "its host ops")] {
            self.check_table::<Text>(all, what)?;
            table::<Text>(self.bytes, all).try_for_each(|t| self.check_text(t, what))?;
        }
        self.check_table::<Entry>(self.head.entries, "the table of entries")?;
        self.entries().try_for_each(|e| self.check_entry(&e))?;
        self.check_table::<Variant>(self.head.variants, "the table of variants")?;
        if self.head.variants.len == 0 {
            return Err(ImageError::Corrupt("it has no code"));
        }
        self.variants().try_for_each(|v| self.check_variant(&v))
    }

    fn check_entry(&self, e: &Entry) -> Result<(), ImageError> {
        self.check_text(e.name, "an entry's name")?;
        self.check_table::<Text>(e.dims, "a table of dimensions' names")?;
        for t in table::<Text>(self.bytes, e.dims) {
            self.check_text(t, "a dimension's name")?;
        }
        self.check_ports(e.inputs, e.dims.len, "a table of inputs")?;
        self.check_ports(e.outputs, e.dims.len, "a table of outputs")
    }

    fn check_variant(&self, v: &Variant) -> Result<(), ImageError> {
        self.check_text(v.level, "a CPU level's name")?;
        self.check_table::<Text>(v.nodes, "a table of nodes")?;
        for t in table::<Text>(self.bytes, v.nodes) {
            self.check_text(t, "a node's name")?;
        }
        self.check_table::<EntryCode>(v.code, "a table of entries' code")?;
        if v.code.len != self.head.entries.len {
            return Err(ImageError::Corrupt("a CPU level has not the code of all entries"));
        }
        let place = size_of::<Descriptor>() as u64..self.head.image_bytes;
        for c in self.code(v) {
            if !place.contains(&c.plan) || !place.contains(&c.run) {
                return Err(ImageError::Corrupt("an entry's code lies outside the image"));
            }
            self.check_table::<Step>(c.steps, "a table of steps")?;
            for s in self.steps(c.steps) {
                self.check_text(s.kernel, "a kernel's name")?;
            }
        }
        Ok(())
    }

    fn check_ports(&self, t: Table, dims: u64, what: &'static str) -> Result<(), ImageError> {
        self.check_table::<Port>(t, what)?;
        for p in self.ports(t) {
            self.check_text(p.name, "a tensor's name")?;
            if DType::from_abi(p.dtype).is_none() {
                return Err(ImageError::Corrupt("a tensor has an unknown element type"));
            }
            self.check_table::<Dim>(p.shape, "a tensor's shape")?;
            for d in self.dims(p.shape) {
                self.check_text(d.text, "a dimension's text")?;
                if d.extent < -1 || d.symbol < -1 || d.symbol >= 0 && d.symbol as u64 >= dims {
                    return Err(ImageError::Corrupt("a dimension's extent or number is out of range"));
                }
            }
        }
        Ok(())
    }

    fn check_table<T: Plain>(&self, t: Table, what: &'static str) -> Result<(), ImageError> {
        let end = t.len.checked_mul(size_of::<T>() as u64).and_then(|n| n.checked_add(t.offset));
        if end.is_some_and(|end| end <= self.bytes.len() as u64) {
            Ok(())
        } else {
            Err(ImageError::Corrupt(what))
        }
    }

    fn check_text(&self, t: Text, what: &'static str) -> Result<(), ImageError> {
        let end = t.offset.checked_add(t.len).filter(|end| *end <= self.bytes.len() as u64);
        let bytes = end.and_then(|end| self.bytes.get(t.offset as usize..end as usize));
        match bytes.map(core::str::from_utf8) {
            Some(Ok(_)) => Ok(()),
            _ => Err(ImageError::Corrupt(what)),
        }
    }
}

/// Bytes of a state variable; `None` where a dimension is not constant or the size overflows.
pub(crate) fn state_bytes(image: &Image<'_>, port: &Port) -> Option<u64> {
    let element = DType::from_abi(port.dtype)?.bytes() as u64;
    image.dims(port.shape).try_fold(element, |n, d| n.checked_mul(u64::try_from(d.extent).ok()?))
}

fn truncated(bytes: &[u8], expected: u64) -> ImageError {
    ImageError::Truncated { found: bytes.len() as u64, expected }
}
