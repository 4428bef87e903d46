//! Control flow: subgraphs become regions, in the form that the rows of If, Loop and Scan want.
//!
//! A branch that is known not to be taken is not imported. A value that a loop carries and whose sizes
//! change on the way has a symbol for each such size. A Scan runs along first axes: others are moved
//! there before, and back afterwards. One of opset 8, with a batch, is a Scan within a Scan.

use super::body::{Importer, Names, Scope, Site};
use super::proto::{GraphProto, TensorShapeProto, TypeValue, ValueInfoProto};
use super::structure::Item;
use super::upgrade::Call;
use burin_ir::graph::{Builder, Constant, Def, Node, Region, RegionData, Value};
use burin_ir::ops::{self, OpRow};
use burin_ir::{Attr, DType, Symbol, Tensor, TensorType, Type};

/// The subgraphs of a node, by the names of their attributes.
pub(super) type Graphs<'m> = [(&'m str, &'m GraphProto)];

/// How often the parameters of a loop's body are made more general; each time one size more may vary.
const ATTEMPTS: usize = 16;

impl<'m> Importer<'m, '_> {
    /// The branch of an If that is taken, where that is known.
    fn chosen(&self, call: &Call) -> Option<&'static str> {
        let cond = call.inputs.first().copied().flatten()?;
        let holds = self.graph.values[cond].known.as_ref()?.first()?.as_const()? != 0;
        Some(if holds { "then_branch" } else { "else_branch" })
    }

    /// Adds the nodes of a subgraph in place, for what its parameters stand for; gives its results.
    pub(super) fn inline(
        &mut self,
        site: &Site<'_, 'm>,
        name: &str,
        args: &[Item],
    ) -> Result<Vec<Item>, String> {
        let g = graph(site.graphs, name)?;
        let constants = self.constants(g)?;
        self.inlined(g, &constants, args, site).map_err(|e| format!("{name}: {e}"))
    }

    /// A subgraph's constants.
    pub(super) fn constants(&mut self, g: &'m GraphProto) -> Result<Names<'m>, String> {
        let mut own = Scope::default();
        self.initializers(g, &mut own)?;
        Ok(own.names)
    }

    /// Adds the nodes of a subgraph whose constants are there.
    pub(super) fn inlined(
        &mut self,
        g: &'m GraphProto,
        constants: &Names<'m>,
        args: &[Item],
        site: &Site<'_, 'm>,
    ) -> Result<Vec<Item>, String> {
        if g.input.len() != args.len() {
            return Err(format!("the subgraph has {} inputs, expected {}", g.input.len(), args.len()));
        }
        let mut scope = Scope { names: constants.clone(), outer: Some(site.scope) };
        for (i, item) in g.input.iter().zip(args) {
            scope.define(&i.name, Some(item.clone()))?;
        }
        self.nodes(&g.node, &mut scope, site.env, site.region)?;
        g.output.iter().map(|o| scope.get(&o.name).map_err(|e| format!("output {e}"))).collect()
    }

    /// An If's results: those of one branch where it is known which, else one for each tensor that the
    /// branches' results are made of.
    pub(super) fn branch(&mut self, call: &Call, site: &Site<'_, 'm>) -> Result<Vec<Item>, String> {
        const BRANCHES: [&str; 2] = ["then_branch", "else_branch"];
        no_others(site.graphs, &BRANCHES)?;
        if let Some((name, _)) = call.attrs.first() {
            return Err(format!("unknown attribute {name}"));
        }
        if let Some(chosen) = self.chosen(call) {
            return self.inline(site, chosen, &[]);
        }
        let cond = site.tensor(0)?;
        let mut regions = Vec::new();
        let mut results = Vec::new();
        for name in BRANCHES {
            let g = graph(site.graphs, name)?;
            let (region, items) = self.subgraph(g, Vec::new(), site).map_err(|e| format!("{name}: {e}"))?;
            regions.push(region);
            results.push(items);
        }
        let [then, otherwise] = &results[..] else { return Err("an If has two branches".to_owned()) };
        if then.len() != otherwise.len() || then.len() < call.outputs {
            let (a, b) = (then.len(), otherwise.len());
            return Err(format!(
                "found branches with {a} and {b} results, expected {} of both",
                call.outputs
            ));
        }
        if let Some((i, (a, b))) = then.iter().zip(otherwise).enumerate().find(|(_, (a, b))| !a.alike(b)) {
            let what = format!(
                "result {i} of the branches is {a} or {b}, so that the condition {:?}",
                site.node.input[0]
            );
            return Err(self.must_know(cond, &what));
        }
        if self.differ(&regions) {
            return self.guess(cond, site);
        }
        let wanted = &then[..call.outputs];
        let count: usize = wanted.iter().map(|item| item.leaves().len()).sum();
        let mut leaves = Vec::new();
        if count > 0 {
            let row = ops::by_name("If").ok_or("there is no op If")?;
            let mut b = Builder { graph: &mut self.graph, region: site.region };
            let node = b.node(row, &site.node.name, vec![Some(cond)], Vec::new(), count, regions);
            let node = node.map_err(|e| e.strip_prefix("If: ").map_or(e.clone(), str::to_owned))?;
            leaves.clone_from(&self.graph.nodes[node].outputs);
        }
        let mut leaves = leaves.into_iter();
        let whole = wanted.iter().map(|item| item.with_leaves(&mut leaves)).collect::<Option<_>>();
        whole.ok_or_else(|| "an If gives fewer results than its branches".to_owned())
    }

    /// Whether the results of two branches differ in more than sizes.
    fn differ(&self, branches: &[Region]) -> bool {
        let ty = |r: &Region| {
            let results = self.graph.regions[*r].results.iter();
            results.map(|v| self.graph.tensor_type(*v).map(|t| (t.dtype, t.rank()))).collect::<Vec<_>>()
        };
        branches.windows(2).any(|w| ty(&w[0]) != ty(&w[1]))
    }

    /// The results of the branch that is guessed to be taken; a run in which it is not is refused.
    fn guess(&mut self, cond: Value, site: &Site<'_, 'm>) -> Result<Vec<Item>, String> {
        let holds = self.guesses.ask(self.is_likely(cond));
        let name = if holds { "then_branch" } else { "else_branch" };
        let results = self.inline(site, name, &[])?;
        let mut builder = Builder { graph: &mut self.graph, region: site.region };
        let mut assumed = |item: &Item| {
            let holds = || vec![("holds", Attr::Int(holds.into()))];
            let leaves = item.leaves().iter().map(|v| builder.op("Assume", &[*v, cond], holds()));
            let leaves = leaves.collect::<Result<Vec<_>, _>>()?;
            item.with_leaves(&mut leaves.into_iter()).ok_or_else(|| "a result has lost a tensor".to_owned())
        };
        results.iter().map(&mut assumed).collect()
    }

    /// Whether a condition holds more often than not: one value among all is equal to another.
    fn is_likely(&self, cond: Value) -> bool {
        let made_by = |(n, _): (Node, usize)| self.graph.nodes[n].op.name;
        self.graph.producer(cond).map(made_by) != Some("Equal")
    }

    /// The regions of a control-flow node, from its graph attributes.
    pub(super) fn regions(
        &mut self,
        row: &OpRow,
        call: &mut Call,
        site: &Site<'_, 'm>,
    ) -> Result<Vec<Region>, String> {
        let names: &[&str] = if row.regions == 0 { &[] } else { &["body"] };
        no_others(site.graphs, names)?;
        let mut regions = Vec::new();
        for name in names {
            let g = graph(site.graphs, name)?;
            let params = self.parameters(call)?;
            let fault = |e: String| format!("{name}: {e}");
            regions.push(self.body(call, g, params, site).map_err(fault)?);
        }
        if call.op == "Loop" && self.counted(regions[0]) {
            call.attrs.push(("counted".to_owned(), Attr::Int(1)));
        }
        Ok(regions)
    }

    /// A subgraph whose parameters fit whatever its results make of them.
    fn body(
        &mut self,
        call: &Call,
        g: &'m GraphProto,
        mut params: Vec<Type>,
        site: &Site<'_, 'm>,
    ) -> Result<Region, String> {
        // Of a Loop's parameters the first is the number of the iteration, which is no result.
        let skip = usize::from(call.op == "Loop");
        let carried = match call.op.as_str() {
            "Loop" => params.len(),
            "Scan" => params.len() - scan_inputs(call)?,
            _ => 0,
        };
        for _ in 0..ATTEMPTS {
            let (region, items) = self.subgraph(g, params.clone(), site)?;
            for (item, o) in items.iter().zip(&g.output) {
                item.tensor().map_err(|e| format!("output {:?}: {e}", o.name))?;
            }
            let results: Vec<Type> =
                self.graph.regions[region].results.iter().map(|v| self.graph.values[*v].ty.clone()).collect();
            let mut changed = false;
            for (param, result) in params[..carried].iter_mut().skip(skip).zip(&results) {
                changed |= self.generalise(param, result);
            }
            if !changed {
                return Ok(region);
            }
        }
        Err("its sizes change in ways that cannot be followed".to_owned())
    }

    /// Gives a symbol to each size of a parameter that is another one in the result.
    fn generalise(&mut self, param: &mut Type, result: &Type) -> bool {
        let (Type::Tensor(p), Type::Tensor(r)) = (param, result) else { return false };
        let mut changed = false;
        for (a, b) in p.shape.iter_mut().zip(&r.shape) {
            let own = a.as_symbol().is_some_and(|s| s.name().starts_with(Symbol::VARYING));
            if a != b && !own {
                *a = Symbol::new(&format!("{}{}", Symbol::VARYING, self.graph.fresh_symbols)).into();
                self.graph.fresh_symbols += 1;
                changed = true;
            }
        }
        changed
    }

    /// A subgraph as a region, whose results are the tensors that the subgraph's results are made of.
    fn subgraph(
        &mut self,
        g: &'m GraphProto,
        params: Vec<Type>,
        site: &Site<'_, 'm>,
    ) -> Result<(Region, Vec<Item>), String> {
        if g.input.len() != params.len() {
            return Err(format!("the subgraph has {} inputs, expected {}", g.input.len(), params.len()));
        }
        let region = self.graph.regions.push(RegionData::default());
        let mut scope = Scope { names: self.constants(g)?, outer: Some(site.scope) };
        for (i, ty) in g.input.iter().zip(params) {
            let v = self.graph.add_param(region, &i.name, ty);
            scope.define(&i.name, Some(Item::Tensor(v)))?;
        }
        self.nodes(&g.node, &mut scope, site.env, region)?;
        let mut results = Vec::new();
        for o in &g.output {
            results.push(match scope.get(&o.name).map_err(|e| format!("output {e}"))? {
                Item::Tensor(v) => Item::Tensor(self.as_declared(v, o, region)?),
                item => item,
            });
        }
        self.graph.regions[region].results = results.iter().flat_map(Item::leaves).copied().collect();
        Ok((region, results))
    }

    /// A result under the sizes that its declaration gives, where its own depend on data: that it has
    /// as many elements is then checked in the run.
    fn as_declared(&mut self, v: Value, o: &ValueInfoProto, region: Region) -> Result<Value, String> {
        let Some(TypeValue::Tensor(declared)) = o.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Ok(v);
        };
        let sizes = declared.shape.as_ref().and_then(TensorShapeProto::sizes);
        let own = self.graph.tensor_type(v);
        let open = own.is_some_and(|t| t.shape.iter().any(|d| d.as_const().is_none()));
        let Some(sizes) = sizes.filter(|s| open && own.is_some_and(|t| t.rank() == s.len())) else {
            return Ok(v);
        };
        let shape = Constant::Data(Tensor::new(&[sizes.len()], &sizes));
        let shape = self.graph.add_constant("", shape);
        let mut builder = Builder { graph: &mut self.graph, region };
        builder.op("Reshape", &[v, shape], vec![("allowzero", Attr::Int(1))])
    }

    /// Whether a Loop's body goes on as it is told: it then runs as often as its bound says, or never.
    fn counted(&self, region: Region) -> bool {
        let data = &self.graph.regions[region];
        let Some(mut v) = data.results.first().copied() else { return false };
        loop {
            match &self.graph.values[v].def {
                Def::Const(Constant::Data(t)) => return t.len() == 1 && t.get(0).as_bool(),
                Def::Result(n, 0) if self.graph.nodes[*n].op.name == "Identity" => {
                    let Some(of) = self.graph.nodes[*n].inputs[0] else { return false };
                    v = of;
                }
                Def::Param(r, 1) => return *r == region,
                _ => return false,
            }
        }
    }

    /// The types of a subgraph's parameters. Values that a loop carries have the type they start with.
    fn parameters(&self, call: &Call) -> Result<Vec<Type>, String> {
        let ty = |v: &Option<Value>| match v {
            Some(v) => Ok(self.graph.values[*v].ty.clone()),
            None => Err("an operand is absent".to_owned()),
        };
        let scalar = |d: DType| Type::from(TensorType { dtype: d, shape: Vec::new() });
        match call.op.as_str() {
            "Loop" => {
                let carried = call.inputs.iter().skip(2).map(ty);
                [Ok(scalar(DType::I64)), Ok(scalar(DType::Bool))].into_iter().chain(carried).collect()
            }
            "Scan" => {
                let (states, scanned) = call.inputs.split_at(call.inputs.len() - scan_inputs(call)?);
                let element = |v: &Option<Value>| match ty(v)? {
                    Type::Tensor(mut t) if t.rank() > 0 => {
                        t.shape.remove(0);
                        Ok(Type::Tensor(t))
                    }
                    other => Err(format!("a scan over {other}, expected a tensor of rank 1 or more")),
                };
                states.iter().map(ty).chain(scanned.iter().map(element)).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A Scan of opset 8: for each element of a batch, the first axis of everything, a Scan of its own.
    pub(super) fn batched_scan(
        &mut self,
        row: &'static OpRow,
        mut call: Call,
        site: &Site<'_, 'm>,
    ) -> Result<Vec<Value>, String> {
        let region = site.region;
        if call.inputs.is_empty() || call.inputs.remove(0).is_some() {
            return Err("input 0 (sequence_lens) is present, which is not supported".to_owned());
        }
        if let Some((_, directions)) = call.attrs.iter_mut().find(|(name, _)| name == "directions") {
            let directions = std::mem::replace(directions, Attr::Int(0));
            call.attrs.retain(|(name, _)| name != "directions");
            call.attrs.push(("scan_input_directions".to_owned(), directions));
        }
        let each = self.graph.regions.push(RegionData::default());
        let batch = call.inputs.clone();
        for input in call.inputs.iter_mut() {
            let v = input.ok_or("an operand is absent")?;
            let ty = self.graph.tensor_type(v).filter(|t| t.rank() > 0);
            let mut ty = ty.cloned().ok_or("an operand has no batch axis")?;
            ty.shape.remove(0);
            *input = Some(self.graph.add_param(each, "", ty));
        }
        let inner = self.regions(row, &mut call, site)?;
        let mut builder = Builder { graph: &mut self.graph, region: each };
        let node = builder.node(row, "", call.inputs, call.attrs, call.outputs, inner)?;
        self.graph.regions[each].results = self.graph.nodes[node].outputs.clone();
        let all = vec![("num_scan_inputs".to_owned(), Attr::Int(batch.len() as i64))];
        let mut builder = Builder { graph: &mut self.graph, region };
        let node = builder.node(row, "", batch, all, call.outputs, vec![each])?;
        Ok(self.graph.nodes[node].outputs.clone())
    }

    /// Moves the scanned axes of a Scan's inputs to the front; gives the axes along which its results
    /// are wanted, if they are not all the first.
    pub(super) fn scan_along_first_axes(
        &mut self,
        call: &mut Call,
        region: Region,
    ) -> Result<Option<Vec<i64>>, String> {
        let scanned = scan_inputs(call)?;
        let first = call.inputs.len() - scanned;
        let axes = take_ints(call, "scan_input_axes").unwrap_or_else(|| vec![0; scanned]);
        if axes.len() != scanned {
            return Err(format!("scan_input_axes are {axes:?}, expected {scanned} of them"));
        }
        for (i, axis) in axes.into_iter().enumerate() {
            let v = call.inputs[first + i].ok_or("an operand is absent")?;
            let rank = self.rank(v)?;
            let axis = normal(axis, rank)?;
            let perm = std::iter::once(axis).chain((0..rank).filter(|d| *d != axis));
            call.inputs[first + i] = Some(self.transposed(v, perm.collect(), region)?);
        }
        Ok(take_ints(call, "scan_output_axes").filter(|axes| axes.iter().any(|a| *a != 0)))
    }

    /// A Scan's results, the last of which are wanted along these axes instead of the first.
    pub(super) fn scanned_along(
        &mut self,
        mut results: Vec<Value>,
        axes: &[i64],
        region: Region,
    ) -> Result<Vec<Value>, String> {
        let first = results.len().saturating_sub(axes.len());
        for (v, axis) in results[first..].iter_mut().zip(axes) {
            let rank = self.rank(*v)?;
            let axis = normal(*axis, rank)?;
            let place = |d: i64| if d == axis { 0 } else { d + i64::from(d < axis) };
            *v = self.transposed(*v, (0..rank).map(place).collect(), region)?;
        }
        Ok(results)
    }

    fn rank(&self, v: Value) -> Result<i64, String> {
        let ty = self.graph.tensor_type(v);
        Ok(ty.ok_or_else(|| format!("found {}, expected a tensor", self.graph.values[v].ty))?.rank() as i64)
    }

    fn transposed(&mut self, v: Value, perm: Vec<i64>, region: Region) -> Result<Value, String> {
        if perm.is_sorted() {
            return Ok(v);
        }
        let mut builder = Builder { graph: &mut self.graph, region };
        builder.op("Transpose", &[v], vec![("perm", Attr::Ints(perm))])
    }
}

fn normal(axis: i64, rank: i64) -> Result<i64, String> {
    let from_start = if axis < 0 { axis + rank } else { axis };
    match (0..rank).contains(&from_start) {
        true => Ok(from_start),
        false => Err(format!("scan axis {axis} is out of range for rank {rank}")),
    }
}

/// Which branches are taken where that must be guessed, in the order of the questions: whether each is
/// the likely one.
#[derive(Default)]
pub(super) struct Guesses {
    made: Vec<bool>,
    asked: usize,
}

/// More questions than this are not answered in every way.
const MOST_GUESSES: usize = 6;

impl Guesses {
    fn ask(&mut self, likely: bool) -> bool {
        if self.asked == self.made.len() {
            self.made.push(true);
        }
        self.asked += 1;
        self.made[self.asked - 1] == likely
    }

    /// Goes on to other guesses; false where there are none.
    pub(super) fn next(&mut self) -> bool {
        self.made.truncate(self.asked);
        self.asked = 0;
        while self.made.pop_if(|g| !*g).is_some() {}
        match self.made.last_mut() {
            Some(last) => *last = false,
            None => return false,
        }
        self.made.len() <= MOST_GUESSES
    }
}

/// Refuses subgraphs of other names.
fn no_others(graphs: &Graphs<'_>, names: &[&str]) -> Result<(), String> {
    match graphs.iter().find(|(n, _)| !names.contains(n)) {
        Some((name, _)) => Err(format!("unknown attribute {name}")),
        None => Ok(()),
    }
}

pub(super) fn graph<'m>(graphs: &Graphs<'m>, name: &str) -> Result<&'m GraphProto, String> {
    let found = graphs.iter().find(|(n, _)| *n == name);
    found.map(|(_, g)| *g).ok_or_else(|| format!("attribute {name} is missing"))
}

fn scan_inputs(call: &Call) -> Result<usize, String> {
    let given = match call.attr("num_scan_inputs") {
        Some(Attr::Int(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    let fits = given.filter(|n| (1..=call.inputs.len()).contains(n));
    fits.ok_or_else(|| "num_scan_inputs is missing or fits not the number of inputs".to_owned())
}

fn take_ints(call: &mut Call, name: &str) -> Option<Vec<i64>> {
    let at = call.attrs.iter().position(|(n, _)| n == name)?;
    match call.attrs.remove(at).1 {
        Attr::Ints(v) => Some(v),
        _ => None,
    }
}
