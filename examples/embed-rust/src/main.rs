//! Reads a drawing of a digit (8 lines of 8 characters; `#` is ink, `+` is grey) from standard input,
//! or takes one of its own, and says which digit it is.

use embed_rust::{Digits, read};
use std::error::Error;
use std::io::{self, IsTerminal, Read};

const DRAWING: &str = "\
  ####+
  +++##
    +#+
  +###++
  ++#+++
   +#
   ##
   #+
";

fn main() -> Result<(), Box<dyn Error>> {
    let mut drawing = String::new();
    if !io::stdin().is_terminal() {
        io::stdin().read_to_string(&mut drawing)?;
    }
    if drawing.trim().is_empty() {
        drawing = DRAWING.to_owned();
    }
    let mut image = [0f32; 64];
    for (row, line) in image.chunks_exact_mut(8).zip(drawing.lines()) {
        for (pixel, c) in row.iter_mut().zip(line.chars()) {
            *pixel = match c {
                '#' => 16.0,
                '+' => 8.0,
                _ => 0.0,
            };
        }
    }
    let (digit, probability) = read(&mut Digits::new()?, &image)?;
    print!("{drawing}");
    println!("is a {digit}, with probability {probability:.3}");
    Ok(())
}
