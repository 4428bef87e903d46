//! The commands of `burin`, a file each: its arguments, and what it does.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod diff;
pub(crate) mod inspect;
pub(crate) mod run;
pub(crate) mod verify;
