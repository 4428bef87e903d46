//! The library behind the program `burin`.

pub mod stub;
