//! Builds an image: `[Descriptor | tables | strings | code]`, as [`burin_runtime::abi`] has it. What the
//! levels have in common is taken from the best one's program.
//!
//! The descriptor's `weight_id` is left 0: it is known once the weights are written, and lies at
//! [`WEIGHT_ID`].

use super::{Artifact, ArtifactError, Variant as Level};
use crate::program::{Port as ProgramPort, Program};
use burin_ir::DType;
use burin_runtime::abi::{self, Descriptor, Dim, Entry, EntryCode, Port, Step, Table, Text, Variant, Weight};
use burin_runtime::image::Plain;
use std::collections::HashMap;
use std::mem::offset_of;

/// Where an image's `weight_id` is.
pub const WEIGHT_ID: u64 = offset_of!(Descriptor, weight_id) as u64;

/// The name of the one entry that models have.
pub const ENTRY: &str = "forward";

/// An image's bytes.
#[derive(Clone, Debug)]
pub struct Image {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What its address must be a multiple of.
    pub align: u64,
    /// Offset of the `PlanFn` that chooses a variant.
    pub plan: u64,
    /// Offset of the `RunFn` that chooses a variant.
    pub run: u64,
}

/// The number that the ABI has for a type.
pub fn abi_dtype(d: DType) -> u32 {
    use abi::dtype;
    match d {
        DType::F64 => dtype::F64,
        DType::F32 => dtype::F32,
        DType::F16 => dtype::F16,
        DType::BF16 => dtype::BF16,
        DType::I64 => dtype::I64,
        DType::I32 => dtype::I32,
        DType::I16 => dtype::I16,
        DType::I8 => dtype::I8,
        DType::U64 => dtype::U64,
        DType::U32 => dtype::U32,
        DType::U16 => dtype::U16,
        DType::U8 => dtype::U8,
        DType::Bool => dtype::BOOL,
        DType::F8E4M3FN => dtype::F8E4M3FN,
        DType::F8E4M3FNUZ => dtype::F8E4M3FNUZ,
        DType::F8E5M2 => dtype::F8E5M2,
        DType::F8E5M2FNUZ => dtype::F8E5M2FNUZ,
        DType::F8E8M0 => dtype::F8E8M0,
        DType::F4E2M1 => dtype::F4E2M1,
        DType::I4 => dtype::I4,
        DType::U4 => dtype::U4,
        DType::I2 => dtype::I2,
        DType::U2 => dtype::U2,
        DType::Text => dtype::TEXT,
    }
}

/// Bytes of the arena for one worker where that is a constant, else 0.
pub fn constant_arena_bytes(p: &Program) -> u64 {
    let constant = |e: &burin_ir::Expr| e.as_const().and_then(|v| u64::try_from(v).ok());
    match (constant(&p.arena_bytes), constant(&p.scratch_bytes)) {
        (Some(arena), Some(scratch)) => aligned(arena).saturating_add(aligned(scratch)),
        _ => 0,
    }
}

/// As the code's `plan` rounds sizes up.
fn aligned(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(abi::ALIGN as u64).unwrap_or(u64::MAX)
}

/// Builds the image.
pub fn build(a: &Artifact<'_>) -> Result<Image, ArtifactError> {
    a.check()?;
    let p = a.program()?;
    let mut w = Writer { bytes: vec![0; size_of::<Descriptor>()], texts: HashMap::new() };
    let mut head = Descriptor {
        magic: abi::MAGIC,
        abi_version: abi::ABI_VERSION,
        arch: a.arch,
        image_bytes: 0,
        weight_bytes: p.weight_bytes,
        weight_id: 0,
        name: w.text(&p.name),
        variants: Table::default(),
        entries: Table::default(),
        weights: w.weights(p),
        states: Table::default(),
        texts: w.strings(p.texts.iter().map(String::as_str)),
        host_ops: w.strings(p.host_ops.iter().copied()),
    };
    let states: Result<Vec<Port>, ArtifactError> =
        p.states.iter().map(|(port, weight)| w.state(p, port, *weight)).collect();
    head.states = w.table(&states?);
    let entry = w.entry(p);
    head.entries = w.table(&[entry]);
    let mut variants: Vec<(Variant, EntryCode)> = a.variants.iter().map(|v| w.variant(v)).collect();
    head.variants = w.table(&variants.iter().map(|(v, _)| *v).collect::<Vec<_>>());
    let align = a.code.align.next_power_of_two().max(abi::ALIGN);
    let code = w.bytes.len().next_multiple_of(align);
    w.bytes.resize(code, 0);
    w.bytes.extend_from_slice(a.code.text);
    let at = |offset: usize| (code + offset) as u64;
    for ((row, entry), v) in variants.iter_mut().zip(&a.variants) {
        (entry.plan, entry.run) = (at(v.plan), at(v.run));
        w.put(row.code.offset, entry);
    }
    head.image_bytes = w.bytes.len() as u64;
    w.put(0, &head);
    Ok(Image { bytes: w.bytes, align: align as u64, plan: at(a.code.plan), run: at(a.code.run) })
}

struct Writer {
    bytes: Vec<u8>,
    texts: HashMap<String, Text>,
}

impl Writer {
    fn put(&mut self, offset: u64, row: &impl Plain) {
        let row = row.as_bytes();
        self.bytes[offset as usize..offset as usize + row.len()].copy_from_slice(row);
    }

    /// Appends a table. All structs of the ABI are aligned to 8.
    fn table(&mut self, rows: &[impl Plain]) -> Table {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let offset = self.bytes.len() as u64;
        rows.iter().for_each(|r| self.bytes.extend_from_slice(r.as_bytes()));
        Table { offset, len: rows.len() as u64 }
    }

    fn strings<'a>(&mut self, all: impl Iterator<Item = &'a str>) -> Table {
        let rows: Vec<Text> = all.map(|s| self.text(s)).collect();
        self.table(&rows)
    }

    fn text(&mut self, s: &str) -> Text {
        if let Some(t) = self.texts.get(s) {
            return *t;
        }
        let t = Text { offset: self.bytes.len() as u64, len: s.len() as u64 };
        self.bytes.extend_from_slice(s.as_bytes());
        self.texts.insert(s.to_owned(), t);
        t
    }

    fn port(&mut self, p: &Program, port: &ProgramPort) -> Port {
        let dim = |w: &mut Writer, d: &burin_ir::Expr| Dim {
            extent: d.as_const().unwrap_or(-1),
            text: w.text(&d.to_string()),
            symbol: d.as_symbol().and_then(|s| p.dims.iter().position(|x| *x == s)).map_or(-1, |i| i as i64),
        };
        let dims: Vec<Dim> = port.ty.shape.iter().map(|d| dim(self, d)).collect();
        let name = self.text(&port.name);
        Port { name, dtype: abi_dtype(port.ty.dtype), flags: 0, shape: self.table(&dims), init: 0 }
    }

    fn ports(&mut self, p: &Program, ports: &[ProgramPort]) -> Table {
        let rows: Vec<Port> = ports.iter().map(|port| self.port(p, port)).collect();
        self.table(&rows)
    }

    fn outputs(&mut self, p: &Program) -> Table {
        let mut rows: Vec<Port> = p.outputs.iter().map(|port| self.port(p, port)).collect();
        for (i, row) in rows.iter_mut().enumerate() {
            row.flags = if p.unbounded(i) { abi::port::UNBOUNDED } else { 0 };
        }
        self.table(&rows)
    }

    fn state(&mut self, p: &Program, port: &ProgramPort, weight: usize) -> Result<Port, ArtifactError> {
        let init = p.weights.get(weight).map(|w| w.offset).ok_or_else(|| {
            ArtifactError::Internal(format!("state \"{}\" has no initial value", port.name))
        })?;
        Ok(Port { init, ..self.port(p, port) })
    }

    fn weights(&mut self, p: &Program) -> Table {
        let row = |w: &crate::program::Weight, text| Weight {
            name: text,
            offset: w.offset,
            bytes: w.bytes() as u64,
            dtype: abi_dtype(w.constant.ty().dtype),
            reserved: 0,
        };
        let rows: Vec<Weight> = p.weights.iter().map(|w| row(w, self.text(&w.name))).collect();
        self.table(&rows)
    }

    fn entry(&mut self, p: &Program) -> Entry {
        let dims: Vec<Text> = p.dims.iter().map(|d| self.text(d.name())).collect();
        Entry {
            name: self.text(ENTRY),
            dims: self.table(&dims),
            inputs: self.ports(p, &p.inputs),
            outputs: self.outputs(p),
        }
    }

    /// The places of its code are left 0.
    fn variant(&mut self, v: &Level<'_>) -> (Variant, EntryCode) {
        let p = v.program;
        let step = |w: &mut Writer, s: &crate::program::Call| Step {
            kernel: w.text(p.kernels.get(s.kernel).map_or("", |k| &k.name)),
            node: s.node as u64,
            flops: s.flops.as_const().and_then(|f| u64::try_from(f).ok()).unwrap_or(0),
        };
        let steps: Vec<Step> = p.calls.iter().map(|s| step(self, s)).collect();
        let nodes: Vec<Text> = p.nodes.iter().map(|n| self.text(n)).collect();
        let steps = self.table(&steps);
        let code =
            EntryCode { plan: 0, run: 0, arena_bytes: constant_arena_bytes(p), steps, slots: p.slots as u64 };
        let variant = Variant {
            level: self.text(v.level),
            cpu_features: v.features,
            code: self.table(&[code]),
            nodes: self.table(&nodes),
        };
        (variant, code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burin_ir::scalar::from_bits;

    #[test]
    fn the_runtime_reads_bytes_as_they_are_meant() {
        for d in DType::ALL.into_iter().filter(|d| d.bytes() == 1 && *d != DType::Bool) {
            let runtime = burin_runtime::DType::from_abi(abi_dtype(d)).expect("the runtime has every type");
            assert_eq!((runtime.name(), runtime.packed_bits()), (d.name(), d.packed_bits() as usize));
            for code in 0..=u8::MAX {
                let expected = from_bits(code.into(), d);
                if burin_ir::scalar::to_bits(expected, d) as u8 != code && !expected.as_f64().is_nan() {
                    continue; // No value of the type.
                }
                let (expected, found) = (expected.as_f64(), runtime.to_f64(&[code]));
                let same = expected == found || (expected.is_nan() && found.is_nan());
                assert!(same, "{d} {code:#x} is {expected}, found {found}");
            }
        }
    }
}
