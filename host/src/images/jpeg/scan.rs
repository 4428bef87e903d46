//! Scans: the bits of a file become coefficients of blocks.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{BLOCK, Component, Frame, ZIGZAG};

/// Codes of so many bits are looked up at once.
const QUICK: u32 = 9;

/// The codes of a table, canonical: of each length in order, those of a longer one behind them.
pub(super) struct Table {
    /// Length and value of the code that so many bits begin with; the length is 0 where it is longer.
    quick: Vec<(u8, u8)>,
    /// Of each length, 16 bits that no code of at most that length begins with, nor any below.
    ends: [u32; 17],
    /// Of each length, what to add to a code for the place of its value; wraps around.
    places: [usize; 17],
    values: Vec<u8>,
}

impl Table {
    /// From the number of codes of each length from 1 on, and the values of all codes.
    pub(super) fn new(counts: &[u8; 16], values: &[u8]) -> Result<Self, String> {
        let mut quick = vec![(0, 0); 1 << QUICK];
        let (mut ends, mut places) = ([0; 17], [0usize; 17]);
        let (mut code, mut place) = (0usize, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            places[length as usize] = place.wrapping_sub(code);
            for _ in 0..count {
                if code >> length != 0 {
                    return Err("a table has more codes than there can be".into());
                }
                if length <= QUICK {
                    let spare = QUICK - length;
                    quick[code << spare..(code + 1) << spare].fill((length as u8, values[place]));
                }
                (code, place) = (code + 1, place + 1);
            }
            ends[length as usize] = (code << (16 - length)) as u32;
            code <<= 1;
        }
        Ok(Table { quick, ends, places, values: values.into() })
    }
}

/// The bits of a scan up to the next marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest on.
    next: u64,
    count: u32,
}

impl Bits<'_> {
    /// Sees to it that there are 16 bits, as far as there are any.
    fn fill(&mut self) {
        if self.count >= 16 {
            return;
        }
        while self.count <= 56 {
            let Some(&byte) = self.data.get(self.at) else { return };
            let mut behind = self.at + 1;
            if byte == 0xff {
                while self.data.get(behind) == Some(&0xff) {
                    behind += 1;
                }
                // A zero says that it is no marker.
                if self.data.get(behind) != Some(&0) {
                    return;
                }
                behind += 1;
            }
            self.at = behind;
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn drop(&mut self, count: u32) -> Result<(), String> {
        self.count = self.count.checked_sub(count).ok_or("the data of a scan end early")?;
        self.next <<= count;
        Ok(())
    }

    /// A number of at most 16 bits.
    fn take(&mut self, count: u32) -> Result<i32, String> {
        if count == 0 {
            return Ok(0);
        }
        self.fill();
        let number = (self.next >> (64 - count)) as i32;
        self.drop(count)?;
        Ok(number)
    }

    /// A number of so many bits, with a sign: numbers that begin with 0 are those below.
    fn signed(&mut self, count: u32) -> Result<i32, String> {
        let number = self.take(count)?;
        Ok(if count > 0 && number >> (count - 1) == 0 { number - (1 << count) + 1 } else { number })
    }

    fn code(&mut self, table: &Table) -> Result<u8, String> {
        self.fill();
        let (length, value) = table.quick[(self.next >> (64 - QUICK)) as usize];
        if length > 0 {
            self.drop(length.into())?;
            return Ok(value);
        }
        let ahead = (self.next >> 48) as u32;
        for length in QUICK + 1..=16 {
            if ahead < table.ends[length as usize] {
                let code = (ahead >> (16 - length)) as usize;
                let value = table.values.get(code.wrapping_add(table.places[length as usize]));
                let value = *value.ok_or("a code is in no table")?;
                self.drop(length)?;
                return Ok(value);
            }
        }
        Err("a code is in no table".into())
    }

    /// Goes behind the restart that comes next.
    fn restart(&mut self, number: usize) -> Result<(), String> {
        (self.next, self.count) = (0, 0);
        let rest = self.data.get(self.at..).unwrap_or(&[]);
        let marker = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff));
        let marker = marker.ok_or("the data of a scan end early")?;
        let expected = 0xd0 + (number % 8) as u8;
        if rest[marker + 1] != expected {
            return Err(format!(
                "the marker {:#x} is found, the restart {expected:#x} expected",
                rest[marker + 1]
            ));
        }
        self.at += marker + 2;
        Ok(())
    }
}

/// The header of a scan.
pub(super) struct Scan {
    /// Places of components, with those of their tables for means and for other coefficients.
    pub(super) parts: Vec<(usize, usize, usize)>,
    /// Which coefficients it has, in the order of a file.
    first: usize,
    last: usize,
    /// Whether these are coefficients' next bits, or their first ones.
    refining: bool,
    /// How many bits lie below these.
    low: u32,
}

impl Scan {
    pub(super) fn new(body: &[u8], frame: &Frame) -> Result<Self, String> {
        const SHORT: &str = "the header of a scan is cut off";
        let (&count, rest) = body.split_first().ok_or(SHORT)?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(SHORT)?;
        let &[first, last, bits, ..] = rest else { return Err(SHORT.into()) };
        let mut scan = Scan { parts: Vec::new(), first: 0, last: BLOCK - 1, refining: false, low: 0 };
        for &[id, tables] in parts.as_chunks().0 {
            let place = frame.components.iter().position(|c| c.id == id);
            let place = place.ok_or_else(|| format!("there is no component {id}"))?;
            if scan.parts.iter().any(|part| part.0 == place) {
                return Err(format!("the component {id} is in a scan twice"));
            }
            scan.parts.push((place, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        if scan.parts.is_empty() {
            return Err("a scan has no components".into());
        }
        if frame.progressive {
            (scan.first, scan.last) = (usize::from(first), usize::from(last));
            (scan.refining, scan.low) = (bits >> 4 > 0, u32::from(bits & 15));
            let one_kind = if first == 0 { last == 0 } else { first <= last && last < 64 && count == 1 };
            if !one_kind || scan.low > 13 || (scan.refining && bits >> 4 != (bits & 15) + 1) {
                return Err(format!("no scan has coefficients {first} to {last}, bits {bits:#x}"));
            }
        }
        Ok(scan)
    }

    /// Reads the data of the scan from the start of `data`, and says how long they are.
    pub(super) fn read(
        &self,
        frame: &mut Frame,
        means: &[Option<Table>; 4],
        others: &[Option<Table>; 4],
        restart: usize,
        data: &[u8],
    ) -> Result<usize, String> {
        let table = |tables: &'_ [Option<Table>; 4], at: usize, used: bool| match tables.get(at) {
            Some(Some(_)) => Ok(at),
            _ if !used => Ok(0),
            _ => Err(format!("the table of codes {at} is missing")),
        };
        let mut state = State { bits: Bits { data, at: 0, next: 0, count: 0 }, means: [0; 4], run: 0 };
        let mut tables = Vec::new();
        for &(_, mean, other) in &self.parts {
            let mean = table(means, mean, self.first == 0 && !self.refining)?;
            let other = table(others, other, self.last > 0)?;
            tables.push((means[mean].as_ref(), others[other].as_ref()));
        }
        // A scan of one component has its blocks row by row, without those that fill up units; a scan of
        // several has all that lie in a unit, component by component.
        let alone = self.parts.len() == 1;
        let (across, down) = if alone {
            let component = &frame.components[self.parts[0].0];
            (component.width.div_ceil(8), component.height.div_ceil(8))
        } else {
            (frame.size.width.div_ceil(8 * frame.across), frame.size.height.div_ceil(8 * frame.down))
        };
        for unit in 0..across * down {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                state.bits.restart(unit / restart - 1)?;
                (state.means, state.run) = ([0; 4], 0);
            }
            for (&(place, ..), &tables) in self.parts.iter().zip(&tables) {
                let component = &mut frame.components[place];
                let (wide, high) = if alone { (1, 1) } else { (component.across, component.down) };
                for i in 0..wide * high {
                    let x = unit % across * wide + i % wide;
                    let y = unit / across * high + i / wide;
                    let block = y * component.blocks_across + x;
                    if frame.progressive {
                        self.block(&mut state, place, tables, &mut component.coefficients[block])?;
                    } else {
                        whole(&mut state, place, tables, component, block)?;
                    }
                }
            }
        }
        Ok(state.bits.at)
    }

    /// What this scan has of a block.
    fn block(
        &self,
        state: &mut State<'_>,
        place: usize,
        tables: Tables<'_>,
        block: &mut [i16; BLOCK],
    ) -> Result<(), String> {
        match (self.first, self.refining) {
            (0, false) => block[0] = (state.mean(place, tables)? << self.low) as i16,
            (0, true) => block[0] |= (state.bits.take(1)? as i16) << self.low,
            (_, false) => self.others(state, tables, block)?,
            (_, true) => self.refine(state, tables, block)?,
        }
        Ok(())
    }

    /// The first bits of coefficients.
    fn others(
        &self,
        state: &mut State<'_>,
        tables: Tables<'_>,
        block: &mut [i16; BLOCK],
    ) -> Result<(), String> {
        if state.run > 0 {
            state.run -= 1;
            return Ok(());
        }
        let mut k = self.first;
        while k <= self.last {
            let (zeros, size) = state.other(tables)?;
            match (zeros, size) {
                (15, 0) => k += 16,
                (_, 0) => {
                    state.run = (1 << zeros) - 1 + state.bits.take(zeros)?;
                    break;
                }
                _ => {
                    k += zeros as usize;
                    let value = state.bits.signed(size)?;
                    *at(block, k, self.last)? = (value << self.low) as i16;
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// The next bit of coefficients that are not 0, and those that were.
    fn refine(
        &self,
        state: &mut State<'_>,
        tables: Tables<'_>,
        block: &mut [i16; BLOCK],
    ) -> Result<(), String> {
        let bit = 1i16 << self.low;
        let more = |bits: &mut Bits<'_>, c: &mut i16| -> Result<(), String> {
            if bits.take(1)? == 1 && *c & bit == 0 {
                *c = c.wrapping_add(if *c < 0 { -bit } else { bit });
            }
            Ok(())
        };
        let mut k = self.first;
        while state.run == 0 && k <= self.last {
            let (mut zeros, size) = state.other(tables)?;
            let mut value = 0;
            if size > 0 {
                value = if state.bits.take(1)? == 1 { bit } else { -bit };
            } else if zeros < 15 {
                state.run = (1 << zeros) + state.bits.take(zeros)?;
                break;
            }
            // Only coefficients that are 0 so far are counted.
            while k <= self.last {
                let c = at(block, k, self.last)?;
                if *c != 0 {
                    more(&mut state.bits, c)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if value != 0 {
                *at(block, k, self.last)? = value;
            }
            k += 1;
        }
        if state.run > 0 {
            for k in k..=self.last {
                let c = at(block, k, self.last)?;
                if *c != 0 {
                    more(&mut state.bits, c)?;
                }
            }
            state.run -= 1;
        }
        Ok(())
    }
}

/// The tables for a component's means and its other coefficients, where the scan uses them.
type Tables<'a> = (Option<&'a Table>, Option<&'a Table>);

/// What is carried from block to block.
struct State<'a> {
    bits: Bits<'a>,
    /// The last mean of each component.
    means: [i32; 4],
    /// How many blocks have no more coefficients.
    run: i32,
}

impl State<'_> {
    /// The mean of a block.
    fn mean(&mut self, place: usize, (table, _): Tables<'_>) -> Result<i32, String> {
        let size = self.bits.code(table.ok_or("a table of codes is missing")?)?;
        if size > 15 {
            return Err(format!("a mean of {size} bits is not known"));
        }
        let mean = &mut self.means[place];
        // What leaves 16 bits is damage, and must not end the run.
        *mean = i32::from(mean.wrapping_add(self.bits.signed(size.into())?) as i16);
        Ok(*mean)
    }

    /// How many coefficients are 0 before the next one, and of how many bits that is.
    fn other(&mut self, (_, table): Tables<'_>) -> Result<(u32, u32), String> {
        let code = self.bits.code(table.ok_or("a table of codes is missing")?)?;
        Ok((u32::from(code >> 4), u32::from(code & 15)))
    }
}

/// A coefficient, by its place in a file.
fn at(block: &mut [i16; BLOCK], k: usize, last: usize) -> Result<&mut i16, String> {
    match ZIGZAG.get(k) {
        Some(&place) if k <= last => Ok(&mut block[usize::from(place)]),
        _ => Err("a block has more coefficients than there are".into()),
    }
}

/// All coefficients of a block, and its samples.
fn whole(
    state: &mut State<'_>,
    place: usize,
    tables: Tables<'_>,
    component: &mut Component,
    block: usize,
) -> Result<(), String> {
    let mut coefficients = [0; BLOCK];
    coefficients[0] = state.mean(place, tables)? as i16;
    let mut k = 1;
    while k < BLOCK {
        match state.other(tables)? {
            (15, 0) => k += 16,
            (_, 0) => break,
            (zeros, size) => {
                k += zeros as usize;
                *at(&mut coefficients, k, BLOCK - 1)? = state.bits.signed(size)? as i16;
                k += 1;
            }
        }
    }
    component.put(block, &coefficients);
    Ok(())
}
