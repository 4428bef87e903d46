//! Feeds damaged texts to the parsers: they answer or refuse, and never panic or hang.

use burin_ir::graph::{self, sample::Sample};
use burin_ir::loops;
use burin_ir::random::Random;
use std::path::Path;

/// The texts that are damaged: every program of the file tests that parses, and a sample.
fn texts() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
    let sample = "Gemm(f32[3, 4] in -1.0..1.0, f32[4, 5], _) {alpha = 0.5} -> 1";
    let mut out = Vec::new();
    for language in ["graph", "loops"] {
        for entry in std::fs::read_dir(folder.join(language)).expect("a folder of file tests") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file test");
            // Whole programs: what stands between the rules.
            out.extend(
                text.split("----\n").map(|case| case.split("====\n").next().unwrap_or(case).to_owned()),
            );
        }
    }
    out.retain(|text| graph::parse(text).is_ok() || loops::parse(text).is_ok());
    assert!(out.len() > 5, "found {} programs only", out.len());
    out.push(sample.to_owned());
    out
}

/// The text with a few random changes: bytes replaced, removed, repeated, moved or cut off.
fn damage(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(20)).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = b"(){}[]%@\"0-9.,:;=?#\n"[random.below(20)],
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
            _ => bytes.truncate(at),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_texts_are_refused_or_read() {
    let texts = texts();
    let mut random = Random::new(20);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..3000 {
        let text = damage(&texts[random.below(texts.len())], &mut random);
        let mut note = |ok: bool| if ok { read += 1 } else { refused += 1 };
        if let Ok(g) = graph::parse(&text) {
            note(true);
            // What the parser takes is well-formed, and prints.
            assert_eq!(graph::verify(&g), Ok(()), "{text}");
            assert!(g.to_string().starts_with("graph"));
        } else {
            note(false);
        }
        if let Ok(k) = loops::parse(&text) {
            note(true);
            let _ = loops::verify(&k);
            assert_eq!(loops::parse(&k.to_string()).map(|k| k.to_string()), Ok(k.to_string()), "{text}");
        }
        let _ = Sample::parse(&text).map(|s| s.graph());
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}
