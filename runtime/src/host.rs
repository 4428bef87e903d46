//! The host-op library, for models that call it: what cannot be a loop nest, over texts and encoded images.
//!
//! Without the feature `host` there is none, and such a model is refused when a session is made for it.

use crate::error::Error;
use crate::model::Model;
use crate::texts::Texts;
use alloc::format;
use alloc::string::String;
#[cfg(feature = "host")]
use alloc::vec::Vec;

/// The functions that a model calls, in its order.
#[derive(Default)]
pub(crate) struct Library {
    #[cfg(feature = "host")]
    functions: Vec<&'static burin_host::Op>,
}

impl Library {
    /// Finds the functions that a model needs.
    pub(crate) fn of(model: &Model) -> Result<Library, Error> {
        let image = model.image();
        let missing = |name: &str| {
            Error::Input(format!(
                "the model calls {name}, which this program's runtime does not have: its feature `host` is off"
            ))
        };
        #[cfg(feature = "host")]
        {
            let found = image.host_ops().map(|name| burin_host::by_name(name).ok_or_else(|| missing(name)));
            Ok(Library { functions: found.collect::<Result<Vec<_>, Error>>()? })
        }
        #[cfg(not(feature = "host"))]
        match image.host_ops().next() {
            Some(name) => Err(missing(name)),
            None => Ok(Library::default()),
        }
    }

    /// Calls a function.
    ///
    /// # Safety
    /// `frame` is as [`HostFn`](crate::abi::HostFn) has it: the memory that it speaks of is there, nothing else
    /// uses that of outputs meanwhile, and it does not overlap.
    #[cfg_attr(not(feature = "host"), allow(unused_variables))]
    pub(crate) unsafe fn call(&self, op: u32, frame: *const u64, texts: &mut Texts) -> Result<(), String> {
        #[cfg(feature = "host")]
        {
            let function =
                self.functions.get(op as usize).ok_or("a function of that number does not exist")?;
            let kinds = function.inputs.iter().chain(function.outputs).enumerate();
            let operands = kinds.map(|(i, kind)| {
                // SAFETY: the frame has two words for each operand.
                let (at, count) = unsafe { (*frame.add(2 * i), *frame.add(2 * i + 1)) };
                (at as usize as *mut u8, count as usize * kind.size())
            });
            let operands: Vec<(*mut u8, usize)> = operands.collect();
            let (inputs, outputs) = operands.split_at(function.inputs.len());
            // An operand without elements may lie anywhere, even nowhere.
            let inputs: Vec<&[u8]> = inputs
                .iter()
                // SAFETY: the caller's promise.
                .map(|(at, n)| if *n == 0 { &[] } else { unsafe { core::slice::from_raw_parts(*at, *n) } })
                .collect();
            let mut outputs: Vec<&mut [u8]> = outputs
                .iter()
                .map(|(at, n)| match n {
                    0 => &mut [],
                    // SAFETY: the caller's promise.
                    _ => unsafe { core::slice::from_raw_parts_mut(*at, *n) },
                })
                .collect();
            function.call(&inputs, &mut outputs, texts)
        }
        #[cfg(not(feature = "host"))]
        Err(String::from("there is no host-op library"))
    }
}

#[cfg(feature = "host")]
impl burin_host::Texts for Texts {
    fn text(&self, number: i64) -> Option<&str> {
        self.text_of(number)
    }

    fn number(&mut self, text: &str) -> i64 {
        self.number_of(text)
    }
}
