//! The texts of a session's calls. Compiled code knows texts by their numbers: the model's own come first, and
//! those that a call brings or makes follow, until the next call begins.

use crate::image::Image;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A numbering of texts.
pub(crate) struct Texts {
    all: Vec<Arc<str>>,
    numbers: BTreeMap<Arc<str>, i64>,
    /// How many are the model's.
    own: usize,
}

impl Texts {
    /// That of a model.
    pub(crate) fn of(image: &Image<'_>) -> Texts {
        let mut texts = Texts { all: Vec::new(), numbers: BTreeMap::new(), own: 0 };
        for text in image.model_texts() {
            texts.number_of(text);
        }
        texts.own = texts.all.len();
        texts
    }

    /// Forgets those that are not the model's.
    pub(crate) fn begin(&mut self) {
        for text in self.all.drain(self.own..) {
            self.numbers.remove(&text);
        }
    }

    /// The number of a text.
    pub(crate) fn number_of(&mut self, text: &str) -> i64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (number, text): (i64, Arc<str>) = (self.all.len() as i64, text.into());
        self.all.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The text of a number; `None` where there is none.
    pub(crate) fn text_of(&self, number: i64) -> Option<&str> {
        usize::try_from(number).ok().and_then(|n| self.all.get(n)).map(|t| &**t)
    }

    /// The texts of numbers as strings of their own.
    pub(crate) fn string_of(&self, number: i64) -> Option<String> {
        self.text_of(number).map(String::from)
    }
}
