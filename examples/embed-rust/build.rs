//! Compiles the digits model twice: for one image at a time, and for any number of them.

use burin_compiler::embed::{EmbedError, Model};

fn main() -> Result<(), EmbedError> {
    let digits = Model::from_file("../digits/digits.onnx");
    digits.clone().dim("batch", 1).compile()?;
    digits.name("any_digits").compile()
}
