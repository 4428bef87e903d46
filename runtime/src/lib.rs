//! Loads, links and runs models that Burin compiled.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod abi;
