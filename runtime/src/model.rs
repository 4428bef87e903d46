//! A model: an image and its weights, checked and ready to run.
//!
//! Of the code for several CPU levels a model takes one when it is made, so that no call has to ask
//! the CPU; it never takes one that this CPU lacks features for.

use crate::abi::{self, PlanFn, RunFn, Table, Variant, port};
use crate::cpu;
use crate::error::Error;
use crate::image::{Image, ImageError};
use crate::tensor::DType;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Bytes that stay where they are for as long as the value lives: linked in, mapped, or on the heap.
pub type Segment = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// More slots than any model needs.
const MAX_SLOTS: usize = 1 << 20;

/// A compiled model. Cloning shares it.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    image: Segment,
    weights: Segment,
    variant: usize,
    entries: Vec<Entry>,
    states: Vec<Port>,
}

/// A function of a model.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, such as `forward`.
    pub name: String,
    /// The names of the dimensions that a call binds.
    pub dims: Vec<String>,
    /// What goes in.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
    /// Bytes of the arena for one worker, where every dimension is constant.
    pub arena_bytes: Option<u64>,
    /// What a call does, for [`Image::steps`].
    pub steps: Table,
    /// How many slots a call may ask memory for: none, or at least one for each output.
    pub slots: usize,
    pub(crate) plan: PlanFn,
    pub(crate) run: RunFn,
}

/// A tensor that goes in, out, or stays as state.
#[derive(Clone, PartialEq, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<Dim>,
    /// Whether its size depends on the data, and is known only after the run.
    pub unbounded: bool,
    /// For a state: where its initial value is in the weights.
    pub(crate) init: u64,
}

/// A dimension of a port.
#[derive(Clone, PartialEq, Debug)]
pub struct Dim {
    /// The extent, if it is constant.
    pub extent: Option<usize>,
    /// How it is printed: a number, a name, or an expression of names.
    pub text: String,
    /// The dimension in [`Entry::dims`] that it is, if it is one.
    pub symbol: Option<usize>,
}

impl Port {
    /// Whether tensors of this type and shape fit, as far as constants and rank tell.
    pub fn accepts(&self, dtype: DType, shape: &[usize]) -> bool {
        let fits = |(d, n): (&Dim, &usize)| d.extent.is_none_or(|e| e == *n);
        dtype == self.dtype && shape.len() == self.shape.len() && self.shape.iter().zip(shape).all(fits)
    }

    /// The shape with these dimensions, where each extent is constant or a single name.
    pub fn shape_with(&self, dims: &[i64]) -> Option<Vec<usize>> {
        let extent = |d: &Dim| d.extent.or_else(|| usize::try_from(*dims.get(d.symbol?)?).ok());
        self.shape.iter().map(extent).collect()
    }
}

/// The type, such as `f32[batch, 784]`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, d.text)?;
        }
        f.write_str("]")
    }
}

impl Model {
    /// A model from an image in executable memory and its weights.
    ///
    /// Everything about them is checked but the code itself, and the best code is taken that this CPU
    /// has the features for.
    ///
    /// # Safety
    /// The image's code must be what Burin's compiler made, and lie in memory that can be executed.
    /// Neither segment may change while the model lives.
    pub unsafe fn new(image: Segment, weights: Segment) -> Result<Model, Error> {
        // SAFETY: the caller's promise.
        unsafe { Model::within(u64::MAX, image, weights) }
    }

    /// The same with code that needs no features but these, a mask of [`abi::cpu`]: as if the CPU had
    /// no others.
    ///
    /// # Safety
    /// As for [`Model::new`].
    pub unsafe fn within(features: u64, image: Segment, weights: Segment) -> Result<Model, Error> {
        let view = Image::parse((*image).as_ref())?;
        let number = view.choose(features & cpu::host_features())?;
        view.check_weights((*weights).as_ref())?;
        let variant = view.variants().nth(number).unwrap_or_default();
        let all = view.entries().zip(view.code(&variant));
        // SAFETY: the code fits this machine, and the caller vouches for it.
        let entries = all.map(|(e, code)| unsafe { entry(&view, &e, &code) }).collect();
        let states = view.states().map(|p| describe(&view, &p)).collect();
        Ok(Model(Arc::new(Inner { image, weights, variant: number, entries, states })))
    }

    /// A model that is linked into this program: the symbols `NAME_image` and `NAME_weights`.
    ///
    /// # Safety
    /// `image` and `weights` are the first bytes of an image and of its weights, complete and
    /// unchanged for the rest of the program.
    pub unsafe fn linked(image: *const u8, weights: *const u8) -> Result<Model, Error> {
        // SAFETY: an image begins with a descriptor, which gives its size and the weights'.
        let (image, weights) = unsafe {
            let head = core::ptr::read_unaligned(image.cast::<abi::Descriptor>());
            if head.magic != abi::MAGIC {
                return Err(ImageError::NotAnImage.into());
            }
            if head.abi_version != abi::ABI_VERSION {
                return Err(ImageError::Version { found: head.abi_version }.into());
            }
            let weight_bytes = abi::weight_segment_bytes(head.weight_bytes).unwrap_or(0);
            let image: &'static [u8] = core::slice::from_raw_parts(image, head.image_bytes as usize);
            let weights: &'static [u8] = core::slice::from_raw_parts(weights, weight_bytes as usize);
            (image, weights)
        };
        // SAFETY: the caller's promise.
        unsafe { Model::new(Arc::new(image), Arc::new(weights)) }
    }

    /// The checked image.
    pub fn image(&self) -> Image<'_> {
        match Image::parse((*self.0.image).as_ref()) {
            Ok(image) => image,
            // `new` has parsed the same bytes, which do not change.
            Err(_) => unreachable!("a model's image changed"),
        }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        self.image().name()
    }

    /// The code that was taken.
    pub fn variant(&self) -> Variant {
        self.image().variants().nth(self.0.variant).unwrap_or_default()
    }

    /// The name of the CPU level whose code was taken.
    pub fn cpu_level(&self) -> &str {
        self.image().text(self.variant().level)
    }

    /// The name of a node; empty where there is none of that number.
    pub fn node(&self, number: u64) -> &str {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.image().texts(self.variant().nodes).nth(number).unwrap_or("")
    }

    /// The weight segment.
    pub fn weights(&self) -> &[u8] {
        (*self.0.weights).as_ref()
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    /// The state variables.
    pub fn states(&self) -> &[Port] {
        &self.0.states
    }

    /// The number of the entry of that name.
    pub fn entry(&self, name: &str) -> Result<usize, Error> {
        let found = self.0.entries.iter().position(|e| e.name == name);
        found.ok_or_else(|| {
            let all: Vec<&str> = self.0.entries.iter().map(|e| e.name.as_str()).collect();
            Error::Input(format!("the model has no entry \"{name}\"; it has {}", all.join(", ")))
        })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("name", &self.name()).field("entries", &self.0.entries).finish()
    }
}

/// # Safety
/// The image lies in executable memory, and the code's offsets are those of such functions.
unsafe fn entry(image: &Image<'_>, e: &abi::Entry, code: &abi::EntryCode) -> Entry {
    let base = image.bytes().as_ptr();
    // SAFETY: `Image::parse` has checked that the offsets lie in the image; the caller vouches for
    // what is there.
    let (plan, run) = unsafe {
        (
            core::mem::transmute::<*const u8, PlanFn>(base.add(code.plan as usize)),
            core::mem::transmute::<*const u8, RunFn>(base.add(code.run as usize)),
        )
    };
    Entry {
        name: image.text(e.name).to_string(),
        dims: image.texts(e.dims).map(String::from).collect(),
        inputs: image.ports(e.inputs).map(|p| describe(image, &p)).collect(),
        outputs: image.ports(e.outputs).map(|p| describe(image, &p)).collect(),
        arena_bytes: (code.arena_bytes > 0).then_some(code.arena_bytes),
        steps: code.steps,
        // What the image says of itself may be anything; memory for more slots would be of no use.
        slots: usize::try_from(code.slots).unwrap_or(usize::MAX).min(MAX_SLOTS),
        plan,
        run,
    }
}

fn describe(image: &Image<'_>, p: &abi::Port) -> Port {
    let dim = |d: abi::Dim| Dim {
        extent: usize::try_from(d.extent).ok(),
        text: image.text(d.text).to_string(),
        symbol: usize::try_from(d.symbol).ok(),
    };
    Port {
        name: image.text(p.name).to_string(),
        // `Image::parse` has checked the type.
        dtype: DType::from_abi(p.dtype).unwrap_or(DType::U8),
        shape: image.dims(p.shape).map(dim).collect(),
        unbounded: p.flags & port::UNBOUNDED != 0,
        init: p.init,
    }
}
