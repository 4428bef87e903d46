//! Whether compiled code computes what the evaluator does, for a graph on seeded operands.
//!
//! A file test states one as `# native: SEED, FILL, ...`, a fill (`standard` or `LO..HI`) for each input;
//! the symbol `dN` stands for the size `N`. That is what random graphs that fail are shrunk to
//! ([`crate::reduce`]).

use crate::{bounds, native};
use burin_compiler::target::native::levels::TargetSpec;
use burin_ir::Tensor;
use burin_ir::compare::{Bound, compare};
use burin_ir::graph::{self, Graph};
use burin_ir::random::{Fill, Random};
use burin_runtime::Session;

/// Larger results say nothing: where terms cancel, so much is lost that any bound is wide.
const LARGEST: f64 = 1e6;

/// A graph with what it is run on.
#[derive(Clone, Debug)]
pub struct Program {
    /// The graph.
    pub graph: Graph,
    /// What its inputs hold, in order.
    pub fills: Vec<Fill>,
    /// The seed of the operands.
    pub seed: u64,
}

/// What came of a comparison that found no difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The results agree.
    Agree,
    /// The evaluator gives no results that could be compared: it refuses the operands, or they lead to
    /// numbers that are not finite or too large, or may be anything.
    Nothing,
    /// The compiler refuses the graph for a stated reason, as it may where sizes are symbols.
    Refused,
}

/// What the compiler says where it has no code for something: other errors are mistakes of its own.
const REFUSAL: &str = "cannot be compiled";

impl Program {
    /// Reads the text of a file test.
    pub fn parse(header: &str, text: &str) -> Result<Program, String> {
        let mut parts = header.split(", ");
        let seed = parts.next().and_then(|s| s.parse().ok()).ok_or("expected a seed")?;
        let fills = parts.map(parse_fill).collect::<Result<_, _>>()?;
        Ok(Program { graph: graph::parse(text).map_err(|e| e.to_string())?, fills, seed })
    }

    /// The text of a file test.
    pub fn text(&self) -> String {
        let fill = |f: &Fill| match f {
            Fill::Standard => ", standard".to_owned(),
            Fill::Uniform { lo, hi } => format!(", {lo:?}..{hi:?}"),
        };
        let fills: String = self.fills.iter().map(fill).collect();
        format!("# native: {}{fills}\n{}====\nagrees\n", self.seed, self.graph)
    }

    /// The operands.
    pub fn inputs(&self) -> Result<Vec<Tensor>, String> {
        let mut random = Random::new(self.seed);
        let inputs = self.graph.inputs();
        if inputs.len() != self.fills.len() {
            return Err(format!("{} fills for {} inputs", self.fills.len(), inputs.len()));
        }
        let size = |s: burin_ir::Symbol| s.name().strip_prefix('d')?.parse().ok();
        let tensor = |(v, fill): (&graph::Value, &Fill)| {
            let ty = self.graph.tensor_type(*v).ok_or("an input is no tensor")?;
            let shape: Option<Vec<usize>> =
                ty.shape.iter().map(|d| usize::try_from(d.eval(&size)?).ok()).collect();
            let shape = shape.ok_or_else(|| format!("the sizes of {ty} are not said by its symbols"))?;
            Ok(random.tensor(ty.dtype, &shape, *fill))
        };
        inputs.iter().zip(&self.fills).map(tensor).collect()
    }

    /// Compares native code at CPU levels with the evaluator.
    pub fn check(&self, levels: &[TargetSpec]) -> Result<Verdict, String> {
        let inputs = self.inputs()?;
        let Ok((expected, bounds)) = bounds::expect(&self.graph, &inputs) else {
            return Ok(Verdict::Nothing);
        };
        let tame = |t: &Tensor| !t.dtype().is_float() || t.to_f64s().iter().all(|v| v.abs() < LARGEST);
        let bounded = |b: &Bound| !matches!(b, Bound::Each(each) if each.iter().any(|e| !e.is_finite()));
        if !expected.iter().all(tame) || !bounds.iter().all(bounded) {
            return Ok(Verdict::Nothing);
        }
        for target in levels {
            let place = |e: String| format!("{target:?}: {e}");
            let compiled = match native::compile(&self.graph, target) {
                Ok(compiled) => compiled,
                Err(e) if e.contains(REFUSAL) && !self.graph.dims().is_empty() => {
                    return Ok(Verdict::Refused);
                }
                Err(e) => return Err(place(format!("refused: {e}"))),
            };
            let model = compiled.load().map_err(|e| place(e.to_string()))?;
            let mut session = Session::new(&model).map_err(|e| place(e.to_string()))?;
            let found = native::run(&mut session, &inputs).map_err(place)?;
            for (i, ((f, e), bound)) in found.iter().zip(&expected).zip(&bounds).enumerate() {
                let report = compare(f, e, bound).map_err(place)?;
                if !report.ok() {
                    return Err(place(format!("output {i}: {report}")));
                }
            }
        }
        Ok(Verdict::Agree)
    }
}

fn parse_fill(text: &str) -> Result<Fill, String> {
    if text == "standard" {
        return Ok(Fill::Standard);
    }
    let ends = text.split_once("..").and_then(|(lo, hi)| Some((lo.parse().ok()?, hi.parse().ok()?)));
    let (lo, hi) = ends.ok_or_else(|| format!("found the fill {text:?}, expected `standard` or `LO..HI`"))?;
    Ok(Fill::Uniform { lo, hi })
}
