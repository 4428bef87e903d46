//! The kernels of a program: equal nests share one.

use super::emit;
use super::nest::Nest;
use super::place::Places;
use super::schedule::cost::{Prediction, predict};
use super::schedule::{Machine, Schedule, choose};
use burin_ir::TermKind;
use burin_ir::graph::{Node, Value};
use burin_ir::loops::{Access, Kernel};
use std::collections::HashMap;

/// The nodes behind one kernel call.
#[derive(Clone, Debug)]
pub struct Group {
    /// The kernel's name.
    pub kernel: String,
    /// Its schedule, as [`Schedule`] prints it.
    pub schedule: String,
    /// What the cost model says of it.
    pub prediction: Prediction,
    /// The nodes of the graph as it is lowered, in execution order.
    pub nodes: Vec<Node>,
    /// The stored value that the call computes, or a part of which it fills; none where it copies
    /// what is there into an output or a state.
    pub result: Option<Value>,
    /// The assembled value that the result is written into, in place.
    pub part_of: Option<Value>,
}

/// A kernel and what a call of it must know.
pub(super) struct Use {
    pub(super) kernel: usize,
    /// Reading buffers whose memory the written one may take over.
    pub(super) in_place: Vec<usize>,
}

/// Distinct kernels: equal nests share one.
pub(super) struct Kernels<'a> {
    machine: &'a Machine,
    pub(super) made: Vec<Kernel>,
    pub(super) schedules: Vec<Schedule>,
    predictions: Vec<Prediction>,
    by_nest: HashMap<String, usize>,
}

impl<'a> Kernels<'a> {
    pub(super) fn new(machine: &'a Machine) -> Kernels<'a> {
        let (made, schedules, predictions) = (Vec::new(), Vec::new(), Vec::new());
        Kernels { machine, made, schedules, predictions, by_nest: HashMap::new() }
    }

    pub(super) fn of(&mut self, nest: &Nest, name: &str) -> Use {
        let key = nest.text();
        let kernel = match self.by_nest.get(&key) {
            Some(k) => *k,
            None => {
                let schedule = choose(nest, self.machine);
                let mut kernel = emit::emit(nest, &schedule);
                kernel.name = format!("{}_{}", nest.name, self.made.len());
                tracing::debug!(kernel = kernel.name, node = name, kind = schedule.kind, "emitted");
                self.made.push(kernel);
                self.predictions.push(predict(nest, &schedule, self.machine));
                self.schedules.push(schedule);
                self.by_nest.insert(key, self.made.len() - 1);
                self.made.len() - 1
            }
        };
        let schedule = &self.schedules[kernel];
        let in_place = if schedule.overlap { Vec::new() } else { in_place(nest) };
        Use { kernel, in_place }
    }

    /// A kernel that a row gives.
    pub(super) fn given(&mut self, kernel: &Kernel) -> Use {
        let made = self.made.len();
        let number = *self.by_nest.entry(kernel.to_string()).or_insert(made);
        if number == made {
            let name = format!("{}_{made}", kernel.name);
            // Nothing is chosen, and nothing predicted.
            let nest = Nest { name: String::new(), axes: vec![], buffers: vec![], stores: vec![] };
            let schedule = Schedule { kind: "procedure", ..choose(&nest, self.machine) };
            self.predictions.push(predict(&nest, &schedule, self.machine));
            self.schedules.push(schedule);
            self.made.push(Kernel { name, ..kernel.clone() });
        }
        Use { kernel: number, in_place: Vec::new() }
    }

    /// What people are told of a call.
    pub(super) fn group(
        &self,
        kernel: usize,
        nodes: &[Node],
        result: Option<Value>,
        places: &Places,
    ) -> Group {
        Group {
            kernel: self.made[kernel].name.clone(),
            schedule: self.schedules[kernel].to_string(),
            prediction: self.predictions[kernel],
            nodes: nodes.to_vec(),
            result,
            part_of: result.and_then(|v| places.part_of(v)),
        }
    }
}

/// Buffers that are read only at the very element that is then written.
fn in_place(nest: &Nest) -> Vec<usize> {
    let [store] = &nest.stores[..] else { return Vec::new() };
    let written = &nest.buffers[store.buffer];
    let mut fits: Vec<bool> = nest
        .buffers
        .iter()
        .map(|b| b.access == Access::Read && b.dtype.bytes() == written.dtype.bytes() && b.len == written.len)
        .collect();
    super::nest::visit(&store.value, &mut |t| {
        if let TermKind::Load { input, index } = t.kind() {
            fits[*input] &= index[0] == store.index;
        }
    });
    (0..fits.len()).filter(|i| fits[*i]).collect()
}
