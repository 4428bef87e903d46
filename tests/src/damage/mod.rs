//! Damaged inputs: random changes of a text's or a file's bytes, and of the fields of a protobuf message.

pub mod wire;

use burin_ir::random::Random;

/// Characters that the text forms are made of.
const SIGNS: &[u8] = b"(){}[]%@\"0-9.,:;=?#\n";

/// The bytes with a few random changes: bits and bytes replaced, pieces removed, repeated, moved or cut off.
pub fn bytes(from: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(20)).min(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = SIGNS[random.below(SIGNS.len())],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].repeat(1 + random.below(40));
                bytes.splice(at..at, piece);
            }
            4 => {
                let piece: Vec<u8> = bytes.drain(at..end).collect();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => bytes[at..end].fill_with(|| random.bits() as u8),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// The text with a few random changes.
pub fn text(from: &str, random: &mut Random) -> String {
    String::from_utf8_lossy(&bytes(from.as_bytes(), random)).into_owned()
}
