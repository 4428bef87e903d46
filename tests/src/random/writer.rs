//! The text of a graph, line by line, and the draws that its makers share.

use burin_ir::DType;
use burin_ir::graph::{self, Graph};
use burin_ir::random::Random;
use std::fmt::Write as _;

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// The contents, of a vector of integers.
    ints: Option<Vec<i64>>,
}

/// A value, or why the sizes drawn make no valid graph.
pub(super) type Made = Result<Operand, String>;

/// Sizes at which vectors, tiles and panels end, and their neighbours.
const NEAR: [usize; 19] = [7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127];
const PRIMES: [usize; 11] = [2, 3, 5, 7, 11, 13, 19, 23, 37, 61, 97];
/// What loops are blocked at, and beyond.
const LARGE: [usize; 8] = [128, 129, 160, 255, 256, 257, 384, 515];
/// Channels: those of images, and around vectors and panels.
const CHANNELS: [usize; 20] = [1, 2, 3, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65];

struct Input {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    /// The axes whose sizes stay numbers.
    fixed: Vec<usize>,
}

/// A graph that is being written.
pub(super) struct Writer {
    random: Random,
    inputs: Vec<Input>,
    body: String,
    values: usize,
}

impl Writer {
    pub(super) fn new(random: Random) -> Writer {
        Writer { random, inputs: Vec::new(), body: String::new(), values: 0 }
    }

    /// The text, the text with symbols, and the types and shapes of the inputs.
    pub(super) fn finish(self, result: &Operand) -> (String, String, Vec<(DType, Vec<usize>)>) {
        let text = |symbols: bool| {
            let inputs: Vec<String> = self.inputs.iter().map(|i| i.declaration(symbols)).collect();
            format!("graph @g({}) {{\n{}  return {}\n}}\n", inputs.join(", "), self.body, result.name)
        };
        (text(false), text(true), self.inputs.iter().map(|i| (i.dtype, i.shape.clone())).collect())
    }

    /// An input whose axes are all free.
    pub(super) fn input(&mut self, shape: &[usize]) -> Operand {
        self.fixed_input(shape, &[])
    }

    /// An input some of whose axes have the size of something constant.
    pub(super) fn fixed_input(&mut self, shape: &[usize], fixed: &[usize]) -> Operand {
        self.typed_input(DType::F32, shape, fixed)
    }

    /// The same of a type.
    pub(super) fn typed_input(&mut self, dtype: DType, shape: &[usize], fixed: &[usize]) -> Operand {
        let (name, shape) = (format!("%x{}", self.inputs.len()), shape.to_vec());
        self.inputs.push(Input { name: name.clone(), dtype, shape: shape.clone(), fixed: fixed.to_vec() });
        Operand { name, dtype, shape, ints: None }
    }

    /// A constant of random elements.
    pub(super) fn constant(&mut self, shape: &[usize]) -> Operand {
        self.typed_constant(DType::F32, shape)
    }

    /// The same of a type.
    pub(super) fn typed_constant(&mut self, dtype: DType, shape: &[usize]) -> Operand {
        let seed = self.random.below(1000);
        let value = format!("const {dtype}{shape:?} random {seed}");
        self.line(&value, (dtype, shape.to_vec()), None)
    }

    /// A constant of equal elements.
    pub(super) fn same(&mut self, shape: &[usize], v: f32) -> Operand {
        self.line(&format!("const f32{shape:?} splat {v:?}"), (DType::F32, shape.to_vec()), None)
    }

    /// A constant if so, else an input.
    pub(super) fn weights(&mut self, constant: bool, shape: &[usize]) -> Operand {
        if constant { self.constant(shape) } else { self.input(shape) }
    }

    /// A number.
    pub(super) fn number(&mut self, v: f32) -> Operand {
        self.line(&format!("const f32[] {v:?}"), (DType::F32, Vec::new()), None)
    }

    /// A constant vector of integers.
    pub(super) fn ints(&mut self, v: &[i64]) -> Operand {
        self.line(&format!("const i64[{}] {v:?}", v.len()), (DType::I64, vec![v.len()]), Some(v.to_vec()))
    }

    /// A node, whose shape is inferred; an error where it is not valid.
    pub(super) fn op(&mut self, op: &str, operands: &[&Operand], attrs: &str) -> Made {
        let names: Vec<&str> = operands.iter().map(|o| &o.name[..]).collect();
        let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{attrs}}}") };
        let node = format!("{op}({}){attrs}", names.join(", "));
        let ty = inferred(&node, operands)?;
        Ok(self.line(&node, ty, None))
    }

    fn line(&mut self, value: &str, (dtype, shape): (DType, Vec<usize>), ints: Option<Vec<i64>>) -> Operand {
        let name = format!("%v{}", self.values);
        self.values += 1;
        let _ = writeln!(self.body, "  {name} = {value}");
        Operand { name, dtype, shape, ints }
    }

    /// Up to that many multiply-adds: few as a rule, so that many cases are run.
    pub(super) fn work(&mut self) -> usize {
        if self.chance(6) { 4_000_000 } else { 300_000 }
    }

    /// Whether something holds that does so in that many cases of 100.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())]
    }

    /// From `lo` to `hi`, both included.
    pub(super) fn between(&mut self, lo: usize, hi: usize) -> usize {
        lo + self.random.below(hi + 1 - lo)
    }

    pub(super) fn size(&mut self) -> usize {
        match self.random.below(20) {
            0..2 => 1,
            2..7 => self.pick(&PRIMES),
            7..15 => self.pick(&NEAR),
            15 => self.pick(&LARGE),
            _ => self.between(1, 40),
        }
    }

    /// As many sizes, whose product is at most the limit.
    pub(super) fn sizes<const N: usize>(&mut self, limit: usize) -> [usize; N] {
        let mut sizes = [(); N].map(|()| self.size());
        self.fit(&mut sizes, limit);
        sizes
    }

    /// Draws the largest size anew until the product is at most the limit.
    pub(super) fn fit(&mut self, sizes: &mut [usize], limit: usize) {
        while sizes.iter().product::<usize>() > limit.max(1) {
            let Some(largest) = sizes.iter_mut().max() else { return };
            let before = *largest;
            while *largest >= before {
                *largest = self.size();
            }
        }
    }

    /// Rarely nothing in place of something.
    pub(super) fn or_none(&mut self, size: usize) -> usize {
        if self.chance(2) { 0 } else { size }
    }

    pub(super) fn channels(&mut self) -> usize {
        self.pick(&CHANNELS)
    }

    /// A batch of images.
    pub(super) fn batch(&mut self) -> usize {
        let n = self.pick(&[1, 1, 1, 1, 2, 3, 5]);
        self.or_none(n)
    }

    /// Numbers below `n` in a random order.
    pub(super) fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.random.below(i + 1));
        }
        order
    }
}

impl Input {
    fn declaration(&self, symbols: bool) -> String {
        let size = |(i, n): (usize, &usize)| match symbols && *n > 1 && !self.fixed.contains(&i) {
            true => format!("d{n}"),
            false => n.to_string(),
        };
        let sizes: Vec<String> = self.shape.iter().enumerate().map(size).collect();
        format!("{}: {}[{}]", self.name, self.dtype, sizes.join(", "))
    }
}

/// The type of a node's result, from a graph of that node alone.
fn inferred(node: &str, operands: &[&Operand]) -> Result<(DType, Vec<usize>), String> {
    let (mut inputs, mut constants) = (Vec::new(), String::new());
    for o in operands {
        let declared = format!("{}: {}{:?}", o.name, o.dtype, o.shape);
        match &o.ints {
            Some(v) => {
                let _ = writeln!(constants, "  {} = const i64[{}] {v:?}", o.name, v.len());
            }
            None if inputs.contains(&declared) => {}
            None => inputs.push(declared),
        }
    }
    let text = format!("graph @g({}) {{\n{constants}  %y = {node}\n  return %y\n}}", inputs.join(", "));
    let graph: Graph = graph::parse(&text).map_err(|e| format!("{node}: {e}"))?;
    let ty = graph.tensor_type(graph.outputs()[0]).ok_or("the result is no tensor")?;
    let shape = ty.static_shape().ok_or_else(|| format!("{node} gives {ty}"))?;
    Ok((ty.dtype, shape))
}
