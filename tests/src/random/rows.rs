//! Random graphs over the op rows: nodes from the rows' samples, with other types and attributes where
//! the type rules take them, on one another's results where these fit or can be made to.
//!
//! A graph is drawn as a [`Plan`], from which it is built with its sizes as numbers and with symbols.

use burin_ir::graph::sample::{Input, Sample};
use burin_ir::graph::{Builder, Constant, Graph, Value};
use burin_ir::ops::{self, Effect, OpRow, Tolerance};
use burin_ir::random::{Fill, Random};
use burin_ir::{Attr, DType, Expr, Symbol, Tensor, TensorType};
use std::collections::HashSet;
use std::sync::LazyLock;

/// The most nodes that a graph has, those apart that make results fit.
const NODES: usize = 8;
/// The most elements of a value.
const ELEMENTS: usize = 20_000;

/// The samples of each row that the compiler takes.
static ROWS: LazyLock<Vec<(&'static OpRow, Vec<Sample>)>> = LazyLock::new(|| {
    let compiled = |row: &&OpRow| row.effect == Effect::Pure && row.regions == 0;
    let samples = |row: &OpRow| row.samples.iter().filter_map(|t| Sample::parse(t).ok()).collect::<Vec<_>>();
    ops::all().filter(compiled).map(|row| (row, samples(row))).filter(|(_, s)| !s.is_empty()).collect()
});

/// Where an operand comes from.
#[derive(Clone, Debug)]
enum Source {
    Absent,
    /// An input of the graph, by its number.
    Input(usize),
    Given(Tensor),
    /// A result of a step before, by its number among all results, made to have a shape if that is said.
    Result(usize, Option<Vec<usize>>),
}

/// A node of the graph.
#[derive(Clone, Debug)]
struct Step {
    op: &'static OpRow,
    operands: Vec<Source>,
    attrs: Vec<(String, Attr)>,
    outputs: usize,
}

/// A graph that was drawn.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    inputs: Vec<Drawn>,
    steps: Vec<Step>,
}

/// An input of the graph.
#[derive(Clone, Debug)]
struct Drawn {
    dtype: DType,
    shape: Vec<usize>,
    fill: Fill,
}

/// A result that later steps may use.
#[derive(Clone, Debug)]
struct Made {
    dtype: DType,
    shape: Vec<usize>,
    /// Whether compiled code gives the same bits, so that integers may depend on it.
    exact: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let mut plan = Plan::default();
        let mut made = Vec::new();
        let nodes = 1 + random.below(NODES);
        // Rows that take nothing that is there leave no step.
        for _ in 0..4 * nodes {
            if plan.steps.len() < nodes {
                plan.draw_step(&mut made, &mut random);
            }
        }
        plan
    }

    fn draw_step(&mut self, made: &mut Vec<Made>, random: &mut Random) {
        let (op, samples) = &ROWS[random.below(ROWS.len())];
        let mut sample = samples[random.below(samples.len())].clone();
        vary(&mut sample, samples, random);
        let before = self.inputs.len();
        let operands: Vec<Source> =
            sample.inputs.iter().map(|i| self.draw_operand(i.as_ref(), made, random)).collect();
        self.steps.push(Step { op, operands, attrs: sample.attrs.clone(), outputs: sample.outputs });
        match self.last_results(made) {
            Some(results) => made.extend(results),
            None => {
                self.steps.pop();
                self.inputs.truncate(before);
            }
        }
    }

    fn draw_operand(&mut self, input: Option<&Input>, made: &[Made], random: &mut Random) -> Source {
        let (dtype, shape, fill) = match input {
            None => return Source::Absent,
            Some(Input::Given(t)) => return Source::Given(t.clone()),
            Some(Input::Random { dtype, shape, fill }) => (*dtype, shape.clone(), *fill),
        };
        // What a sample says of its operand's elements holds for no result.
        let fits: Vec<usize> = (0..made.len()).filter(|i| made[*i].dtype == dtype).collect();
        if fill == Fill::Standard && !fits.is_empty() && random.below(5) > 0 {
            let i = fits[random.below(fits.len())];
            let whole = !shape.is_empty() && !shape.contains(&0) && !made[i].shape.contains(&0);
            let reshaped = whole && made[i].shape != shape && random.below(3) > 0;
            return Source::Result(i, reshaped.then_some(shape));
        }
        let alike = |d: &Drawn| d.dtype == dtype && d.shape == shape && d.fill == fill;
        if let Some(i) = self.inputs.iter().position(alike).filter(|_| random.below(3) == 0) {
            return Source::Input(i);
        }
        self.inputs.push(Drawn { dtype, shape, fill });
        Source::Input(self.inputs.len() - 1)
    }

    /// The results of the last step; `None` where it is not valid, too large, or makes integers of
    /// rounded numbers, which need not be equal.
    fn last_results(&self, made: &[Made]) -> Option<Vec<Made>> {
        let graph = self.build(&|_| None).ok()?;
        let step = self.steps.last()?;
        let node = graph.regions[graph.body].nodes.last()?;
        let exact_operand = |s: &Source| !matches!(s, Source::Result(i, _) if !made[*i].exact);
        let inherits = step.operands.iter().all(exact_operand);
        let result = |v: &Value| {
            let ty = graph.tensor_type(*v)?;
            let shape = ty.static_shape().filter(|s| s.iter().product::<usize>() <= ELEMENTS)?;
            let exact = inherits && (!ty.dtype.is_float() || step.op.tolerance == Tolerance::Exact);
            (exact || ty.dtype.is_float()).then_some(Made { dtype: ty.dtype, shape, exact })
        };
        graph.nodes[*node].outputs.iter().map(result).collect()
    }

    /// The graph with numbers, or with symbols where they are given for sizes; every result that no node
    /// uses is an output. An error where it is not valid.
    pub fn build(&self, symbol: &dyn Fn(usize) -> Option<Symbol>) -> Result<Graph, String> {
        let mut graph = Graph::new("random");
        let inputs: Vec<Value> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, d)| {
                let dims = d.shape.iter().map(|n| symbol(*n).map_or(Expr::from(*n), Expr::from));
                let ty = TensorType::new(d.dtype, dims);
                graph.add_input(&format!("x{i}"), ty)
            })
            .collect();
        let mut results: Vec<Value> = Vec::new();
        let mut used: HashSet<Value> = HashSet::new();
        for step in &self.steps {
            let mut b = Builder::new(&mut graph);
            let mut operands = Vec::new();
            for source in &step.operands {
                operands.push(match source {
                    Source::Absent => None,
                    Source::Input(i) => Some(inputs[*i]),
                    Source::Given(t) => Some(b.graph.add_constant("", Constant::Data(t.clone()))),
                    Source::Result(i, shape) => {
                        used.insert(results[*i]);
                        Some(match shape {
                            None => results[*i],
                            Some(shape) => fitted(&mut b, results[*i], shape)?,
                        })
                    }
                });
            }
            let node = b.node(step.op, "", operands, step.attrs.clone(), step.outputs, Vec::new())?;
            results.extend(&graph.nodes[node].outputs);
        }
        for v in results.iter().filter(|v| !used.contains(v)) {
            let name = format!("y{}", graph.outputs().len());
            graph.add_output(&name, *v);
        }
        Ok(graph)
    }

    /// The graph with a symbol for each size above 1, equal sizes sharing one; `None` where it is not
    /// valid with them, or has none.
    pub fn symbolic(&self) -> Option<Graph> {
        let graph = self.build(&|n| (n > 1).then(|| Symbol::new(&format!("d{n}")))).ok()?;
        (!graph.dims().is_empty()).then_some(graph)
    }

    /// What the inputs hold, each as the text of [`burin_ir::graph::sample`] has it.
    pub fn fills(&self) -> Vec<Fill> {
        self.inputs.iter().map(|d| d.fill).collect()
    }
}

/// Another type, and other attributes, now and then.
fn vary(sample: &mut Sample, samples: &[Sample], random: &mut Random) {
    if random.below(2) == 0 {
        let types: Vec<DType> = sample.inputs.iter().flatten().map(Input::dtype).collect();
        if !types.is_empty() {
            let from = types[random.below(types.len())];
            let to = DType::ALL[random.below(DType::ALL.len())];
            keep_if_valid(sample, &|s| *s = s.with_operand_types(&|_, t| if t == from { to } else { t }));
        }
    }
    if random.below(3) == 0 && !sample.attrs.is_empty() {
        let i = random.below(sample.attrs.len());
        let (kind, bits) = (random.below(3), random.bits());
        let name = sample.attrs[i].0.clone();
        let others: Vec<&Attr> =
            samples.iter().flat_map(|s| &s.attrs).filter(|(n, _)| *n == name).map(|(_, a)| a).collect();
        let other = others[random.below(others.len())].clone();
        keep_if_valid(sample, &|s| match kind {
            0 => drop(s.attrs.remove(i)),
            1 => s.attrs[i].1 = other.clone(),
            _ => nudge(&mut s.attrs[i].1, bits),
        });
    }
}

/// Changes a number by one.
fn nudge(attr: &mut Attr, bits: u64) {
    let by = if bits & 1 == 0 { 1 } else { -1 };
    match attr {
        Attr::Int(v) => *v += by,
        Attr::Ints(v) if !v.is_empty() => {
            let i = (bits >> 8) as usize % v.len();
            v[i] += by;
        }
        _ => {}
    }
}

fn keep_if_valid(sample: &mut Sample, change: &dyn Fn(&mut Sample)) {
    let mut changed = sample.clone();
    change(&mut changed);
    if changed.graph().is_ok() {
        *sample = changed;
    }
}

/// A value with another shape: its elements in order, repeated or cut off.
fn fitted(b: &mut Builder<'_>, v: Value, shape: &[usize]) -> Result<Value, String> {
    let from = b.ty(v)?.static_shape().ok_or("its sizes are not known")?;
    let (have, want) = (from.iter().product::<usize>() as i64, shape.iter().product::<usize>() as i64);
    let ints = |b: &mut Builder<'_>, v: &[i64]| b.constant(Tensor::new(&[v.len()], v));
    let mut v = v;
    if have != want {
        let copies = (want + have - 1) / have;
        if copies > 1 {
            let (row, rows) = (ints(b, &[1, have]), ints(b, &[copies, have]));
            v = b.op("Reshape", &[v, row], Vec::new())?;
            v = b.op("Expand", &[v, rows], Vec::new())?;
        }
        let flat = ints(b, &[copies * have]);
        v = b.op("Reshape", &[v, flat], Vec::new())?;
        if copies * have > want {
            let (start, end) = (ints(b, &[0]), ints(b, &[want]));
            v = b.op("Slice", &[v, start, end], Vec::new())?;
        }
    }
    let target: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
    let target = ints(b, &target);
    b.op("Reshape", &[v, target], Vec::new())
}
