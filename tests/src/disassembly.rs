//! What the emitter for wide vectors makes of a kernel, as text.
//!
//! A line has an offset from the function's start, in hexadecimal, and what stands there: an
//! instruction in Intel's syntax, whose jumps and references to constants are such offsets too, or a
//! word of the constants, as bits and as the number that they are (of an `f32` if it is normal, else
//! an integer). What fills up the space between code and constants is left out.

use burin_compiler::pipeline::KERNEL_PASSES;
use burin_compiler::target::native::levels::TargetSpec;
use burin_compiler::target::native::wide::{self, Level};
use burin_ir::loops;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, Mnemonic};
use std::fmt::Write as _;

/// The code of a kernel at a CPU level; before it is emitted, the kernel goes through the passes that
/// every kernel goes through.
pub fn of_kernel(text: &str, level: &str) -> Result<String, String> {
    let target = TargetSpec::new(Some("x86_64-unknown-linux-gnu"), Some(level)).map_err(|e| e.to_string())?;
    let level = Level::of(&target).ok_or_else(|| format!("{level} has no wide vectors"))?;
    let mut kernel = loops::parse(text).map_err(|e| e.to_string())?;
    loops::verify(&kernel)?;
    KERNEL_PASSES.iter().for_each(|pass| (pass.run)(&mut kernel));
    let code = wide::lower::lower(&kernel, level)?;
    let function = wide::assemble(&kernel.name, &code).map_err(|e| e.to_string())?;
    Ok(listing(&function.bytes))
}

fn listing(bytes: &[u8]) -> String {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_space_after_operand_separator(true);
    options.set_space_between_memory_add_operators(true);
    let mut out = String::new();
    // The constants follow the code, and begin at the first place that it refers to.
    let mut constants = bytes.len();
    let mut decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.position() < constants {
        decoder.decode_out(&mut instruction);
        if instruction.is_ip_rel_memory_operand() {
            constants = constants.min(instruction.ip_rel_memory_address() as usize);
        }
        if instruction.mnemonic() == Mnemonic::Int3 {
            continue;
        }
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        let _ = writeln!(out, "{:4x}  {line}", instruction.ip());
    }
    for (i, word) in bytes[constants..].chunks_exact(4).enumerate() {
        let bits = word.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let number = f32::from_bits(bits);
        let shown = if number.is_normal() { format!("{number:?}") } else { (bits as i32).to_string() };
        let _ = writeln!(out, "{:4x}  {bits:08x}  {shown}", constants + 4 * i);
    }
    out
}
