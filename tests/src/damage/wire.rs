//! Random changes of a protobuf message's fields, which leave it a message: its decoder takes it, and
//! what reads the message has to find the fault.

use burin_ir::random::Random;

/// A field: its number, and what it holds.
#[derive(Clone, Debug, PartialEq)]
struct Field {
    number: u64,
    payload: Payload,
}

#[derive(Clone, Debug, PartialEq)]
enum Payload {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    /// Bytes that are a message themselves, as far as one can tell.
    Message(Vec<Field>),
    Four([u8; 4]),
}

/// Numbers at which sizes, indices and enumerations are wrong.
const NUMBERS: [i64; 16] = [
    0,
    1,
    2,
    3,
    7,
    -1,
    -2,
    200,
    1 << 16,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i32::MIN as i64,
];
/// How deep nested messages are looked into.
const MAX_DEPTH: usize = 24;
/// How deep messages are put into one another: far deeper than any decoder follows.
const DEEPEST: usize = 1000;
/// How large a damaged message may grow by what is repeated in it.
const MAX_SIZE: usize = 1 << 20;

/// The message with a few random changes of its fields; `None` where the bytes are no message.
pub fn damage(message: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut fields = parse(message, MAX_DEPTH)?;
    let mut strings = Vec::new();
    collect_strings(&fields, &mut strings);
    for _ in 0..1 + random.below(4) {
        let total = count(&fields);
        if total == 0 {
            break;
        }
        let other = nth(&fields, random.below(total)).cloned();
        at(&mut fields, &mut random.below(total), &mut |siblings, i| {
            change(siblings, i, other.as_ref(), &strings, random);
        });
    }
    let mut out = Vec::new();
    write(&fields, &mut out);
    Some(out)
}

/// Changes one field among its siblings.
fn change(
    siblings: &mut Vec<Field>,
    i: usize,
    other: Option<&Field>,
    strings: &[Vec<u8>],
    random: &mut Random,
) {
    match random.below(10) {
        0 => drop(siblings.remove(i)),
        1 => {
            let copies = [1, 1, 2, 20][random.below(4)];
            let copy = siblings[i].clone();
            siblings.splice(i..i, std::iter::repeat_n(copy, copies));
        }
        2 => {
            let k = random.below(siblings.len());
            siblings.swap(i, k);
        }
        3 => siblings[i].number = 1 + random.bits() % 25,
        // A field of another place of the message.
        4 => siblings.extend(other.cloned()),
        5 => {
            if let Some(other) = other {
                siblings[i].payload = other.payload.clone();
            }
        }
        6 => nest(&mut siblings[i], 1 + random.below(150)),
        _ => scramble(&mut siblings[i].payload, strings, random),
    }
}

/// Other contents of the same kind.
fn scramble(payload: &mut Payload, strings: &[Vec<u8>], random: &mut Random) {
    match payload {
        Payload::Varint(v) => {
            *v = match random.below(3) {
                0 => v.wrapping_add_signed(random.below(5) as i64 - 2),
                _ => NUMBERS[random.below(NUMBERS.len())] as u64,
            };
        }
        Payload::Eight(b) => *b = random.bits().to_le_bytes(),
        Payload::Four(b) => *b = (random.bits() as u32).to_le_bytes(),
        // Another name that the model has, so that edges end elsewhere, and may close a circle.
        Payload::Bytes(b) if !strings.is_empty() && random.below(4) > 0 => {
            b.clone_from(&strings[random.below(strings.len())]);
        }
        Payload::Bytes(b) => *b = super::bytes(b, random),
        Payload::Message(fields) => {
            let total = count(fields);
            if total > 0 {
                at(fields, &mut random.below(total), &mut |siblings, i| {
                    scramble(&mut siblings[i].payload, strings, random);
                });
            }
        }
    }
}

/// Puts a message into itself so often, in place of its first inner message of the same number, or
/// else in place of its last inner message.
fn nest(field: &mut Field, times: usize) {
    let original = field.clone();
    let size = {
        let mut out = Vec::new();
        write(std::slice::from_ref(&original), &mut out);
        out.len().max(1)
    };
    for _ in 0..times.min(MAX_SIZE / size).min(DEEPEST / depth(&original)) {
        let inner = std::mem::replace(field, original.clone());
        let Payload::Message(fields) = &mut field.payload else { return };
        if !replace_inner(fields, &inner) {
            return;
        }
    }
}

/// How many fields stand in one another, this one included.
fn depth(field: &Field) -> usize {
    match &field.payload {
        Payload::Message(fields) => 1 + fields.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fn replace_inner(fields: &mut [Field], by: &Field) -> bool {
    for f in fields.iter_mut() {
        if f.number == by.number && matches!(f.payload, Payload::Message(_)) {
            *f = by.clone();
            return true;
        }
        if let Payload::Message(inner) = &mut f.payload
            && replace_inner(inner, by)
        {
            return true;
        }
    }
    let last = fields.iter_mut().rev().find(|f| matches!(f.payload, Payload::Message(_)));
    match last {
        Some(f) => {
            f.payload = by.payload.clone();
            true
        }
        None => false,
    }
}

/// How many fields there are, inner ones included.
fn count(fields: &[Field]) -> usize {
    let inner = |f: &Field| match &f.payload {
        Payload::Message(fields) => count(fields),
        _ => 0,
    };
    fields.iter().map(|f| 1 + inner(f)).sum()
}

fn nth(fields: &[Field], n: usize) -> Option<&Field> {
    let mut left = n;
    for f in fields {
        if left == 0 {
            return Some(f);
        }
        left -= 1;
        if let Payload::Message(inner) = &f.payload {
            let below = count(inner);
            if left < below {
                return nth(inner, left);
            }
            left -= below;
        }
    }
    None
}

/// Calls `f` with the siblings and the position of the field of that number.
fn at(fields: &mut Vec<Field>, left: &mut usize, f: &mut dyn FnMut(&mut Vec<Field>, usize)) -> bool {
    for i in 0..fields.len() {
        if *left == 0 {
            f(fields, i);
            return true;
        }
        *left -= 1;
        if let Payload::Message(inner) = &mut fields[i].payload
            && at(inner, left, f)
        {
            return true;
        }
    }
    false
}

fn collect_strings(fields: &[Field], out: &mut Vec<Vec<u8>>) {
    for f in fields {
        match &f.payload {
            Payload::Bytes(b) if b.len() < 100 => out.push(b.clone()),
            Payload::Message(inner) => collect_strings(inner, out),
            _ => {}
        }
    }
}

fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let payload = match key & 7 {
            0 => Payload::Varint(varint(&mut bytes)?),
            1 => Payload::Eight(*bytes.split_off(..8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let inner = bytes.split_off(..length)?;
                // Names are not messages, though some would be read as such.
                let is_text = inner.iter().all(|b| (b' '..=b'~').contains(b));
                let message = if is_text || depth == 0 { None } else { parse(inner, depth - 1) };
                message.map_or_else(|| Payload::Bytes(inner.to_vec()), Payload::Message)
            }
            5 => Payload::Four(*bytes.split_off(..4)?.first_chunk()?),
            _ => return None,
        };
        let number = key >> 3;
        // Larger numbers stand in none of ONNX's messages.
        if !(1..64).contains(&number) {
            return None;
        }
        fields.push(Field { number, payload });
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for f in fields {
        let key = |kind: u64| f.number << 3 | kind;
        let sized = |bytes: &[u8], out: &mut Vec<u8>| {
            write_varint(key(2), out);
            write_varint(bytes.len() as u64, out);
            out.extend(bytes);
        };
        match &f.payload {
            Payload::Varint(v) => {
                write_varint(key(0), out);
                write_varint(*v, out);
            }
            Payload::Eight(b) => {
                write_varint(key(1), out);
                out.extend(b);
            }
            Payload::Bytes(b) => sized(b, out),
            Payload::Message(inner) => {
                let mut bytes = Vec::new();
                write(inner, &mut bytes);
                sized(&bytes, out);
            }
            Payload::Four(b) => {
                write_varint(key(5), out);
                out.extend(b);
            }
        }
    }
}

fn write_varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f1 = 300; f2 = "name"; f3 { f1 = 5; f2 = "ab" }`
    const MESSAGE: &[u8] =
        &[0x08, 0xac, 0x02, 0x12, 4, b'n', b'a', b'm', b'e', 0x1a, 6, 0x08, 5, 0x12, 2, b'a', b'b'];

    #[test]
    fn a_message_is_read_and_written() {
        let fields = parse(MESSAGE, MAX_DEPTH).expect("a message");
        assert_eq!(count(&fields), 5);
        assert_eq!(nth(&fields, 0).map(|f| f.payload.clone()), Some(Payload::Varint(300)));
        assert_eq!(nth(&fields, 3).map(|f| f.payload.clone()), Some(Payload::Varint(5)));
        let mut out = Vec::new();
        write(&fields, &mut out);
        assert_eq!(out, MESSAGE);
    }

    #[test]
    fn what_is_damaged_is_a_message_still() {
        let mut random = Random::new(3);
        let changed = (0..200).filter(|_| {
            let damaged = damage(MESSAGE, &mut random).expect("a message");
            assert!(parse(&damaged, MAX_DEPTH).is_some());
            damaged != MESSAGE
        });
        assert!(changed.count() > 150);
    }

    #[test]
    fn messages_nest_in_themselves() {
        let mut field = Field { number: 9, payload: Payload::Message(parse(MESSAGE, 9).expect("a message")) };
        nest(&mut field, 50);
        assert_eq!(count(&[field]), 1 + 5 + 50 * 3);
    }
}
