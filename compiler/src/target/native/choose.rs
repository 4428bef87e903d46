//! The image's own `plan` and `run`: they choose between the code for several CPU levels.
//!
//! The image has nowhere to remember what the CPU has, and the question is slow in a virtual machine.
//! So `plan` asks, and tells the caller the number of the code that it has chosen, from 1; `run` takes
//! that number back and asks only where it finds no such number. Both choose the first level whose
//! features are all there, so that a caller that keeps to the ABI never meets an illegal instruction.
//! All this is compiled for the level that every CPU has.

use super::entry::{self, Layout, PLAN, RUN};
use super::function::{self, Function, import, memory, words};
use super::levels::TargetSpec;
use super::{NativeError, cpuid};
use burin_runtime::abi::{Call, Plan, arch, code};
use core::mem::offset_of;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Signature, Value, types};
use cranelift_frontend::FunctionBuilder;

/// A function that chooses, or that helps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The ABI's `PlanFn`.
    Plan,
    /// The ABI's `RunFn`.
    Run,
    /// `() -> features`: those that the CPU has, of all that any level needs.
    Features,
    /// [`cpuid::ask`].
    AskCpu,
    /// [`cpuid::saved`].
    SavedState,
}

const PARTS: [Part; 5] = [Part::Plan, Part::Run, Part::Features, Part::AskCpu, Part::SavedState];

/// The code for one level, by the numbers of its functions in the blob.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// What it needs, a mask of [`burin_runtime::abi::cpu`].
    pub features: u64,
    /// Its `PlanFn`.
    pub plan: usize,
    /// Its `RunFn`.
    pub run: usize,
}

/// What is needed to compile the choice.
pub struct Choice {
    levels: Vec<Level>,
    /// The level that every CPU has.
    target: TargetSpec,
    /// The number of the first function that is made here.
    first: usize,
}

impl Choice {
    /// The choice between levels, best first. Its functions begin at the number `first` in the blob.
    pub fn new(levels: Vec<Level>, target: &TargetSpec, first: usize) -> Result<Choice, NativeError> {
        Ok(Choice { levels, target: target.baseline()?, first })
    }

    /// The functions, in their order in the blob; none where there is nothing to choose.
    pub fn functions(&self) -> &'static [Part] {
        if self.only().is_some() { &[] } else { &PARTS }
    }

    /// The level where there is one only, which every CPU has.
    fn only(&self) -> Option<&Level> {
        match &self.levels[..] {
            [level] if self.target.arch != arch::X86_64 || level.features == 0 => Some(level),
            _ => None,
        }
    }

    /// The number of the image's `PlanFn`.
    pub fn plan(&self) -> usize {
        self.only().map_or_else(|| self.number(Part::Plan), |level| level.plan)
    }

    /// The number of the image's `RunFn`.
    pub fn run(&self) -> usize {
        self.only().map_or_else(|| self.number(Part::Run), |level| level.run)
    }

    fn number(&self, part: Part) -> usize {
        self.first + PARTS.iter().position(|p| *p == part).unwrap_or(PARTS.len())
    }

    fn signature(part: Part) -> Signature {
        match part {
            Part::Plan | Part::Run => words(1, &[types::I32]),
            Part::Features | Part::SavedState => words(0, &[types::I64]),
            Part::AskCpu => words(1, &[types::I64]),
        }
    }

    /// Compiles one of the functions.
    pub fn compile(&self, part: Part) -> Result<Function, NativeError> {
        let name = match part {
            Part::AskCpu => return Ok(cpuid::ask()),
            Part::SavedState => return Ok(cpuid::saved()),
            Part::Plan => PLAN.name,
            Part::Run => RUN.name,
            Part::Features => "cpu.features",
        };
        let name = format!("choose.{name}");
        function::build(&name, Self::signature(part), &self.target, |b, params| {
            match (part, params) {
                (Part::Plan, [plan]) => self.plan_body(b, *plan),
                (Part::Run, [call]) => self.run_body(b, *call),
                _ => self.features_body(b),
            }
            Ok(())
        })
    }

    fn features_body(&self, b: &mut FunctionBuilder<'_>) {
        let asked = self.levels.iter().fold(0, |mask, l| mask | l.features);
        let (ask, saved) = (self.number(Part::AskCpu), self.number(Part::SavedState));
        let present = cpuid::present(b, asked, ask, saved);
        b.ins().return_(&[present]);
    }

    fn plan_body(&self, b: &mut FunctionBuilder<'_>, plan: Value) {
        let chosen: Vec<Block> = self.levels.iter().map(|_| b.create_block()).collect();
        self.ask(b, plan, &PLAN, &chosen);
        for (i, (level, block)) in self.levels.iter().zip(chosen).enumerate() {
            b.switch_to_block(block);
            let number = b.ins().iconst(types::I32, i as i64 + 1);
            b.ins().store(memory(), number, plan, offset_of!(Plan, variant) as i32);
            hand_over(b, level.plan, Part::Plan, plan);
        }
    }

    fn run_body(&self, b: &mut FunctionBuilder<'_>, call: Value) {
        let chosen: Vec<Block> = self.levels.iter().map(|_| b.create_block()).collect();
        let number = b.ins().load(types::I32, memory(), call, offset_of!(Call, variant) as i32);
        for (i, block) in chosen.iter().enumerate() {
            let is_it = b.ins().icmp_imm_s(IntCC::Equal, number, i as i64 + 1);
            let next = b.create_block();
            b.ins().brif(is_it, *block, &[], next, &[]);
            b.switch_to_block(next);
        }
        self.ask(b, call, &RUN, &chosen);
        for (level, block) in self.levels.iter().zip(chosen) {
            b.switch_to_block(block);
            hand_over(b, level.run, Part::Run, call);
        }
    }

    /// Asks the CPU and goes on in the block of the best level that it has; without one, refuses.
    fn ask(&self, b: &mut FunctionBuilder<'_>, call: Value, layout: &Layout, chosen: &[Block]) {
        let ask = import(b, self.number(Part::Features), Self::signature(Part::Features));
        let inst = b.ins().call(ask, &[]);
        let present = b.inst_results(inst)[0];
        let [mut needed, mut missing] = [(); 2].map(|()| b.ins().iconst(types::I64, 0));
        for (level, block) in self.levels.iter().zip(chosen) {
            needed = b.ins().iconst(types::I64, level.features as i64);
            missing = b.ins().band_not(needed, present);
            let next = b.create_block();
            b.ins().brif(missing, next, &[], *block, &[]);
            b.switch_to_block(next);
        }
        let none = b.ins().iconst(types::I32, 0);
        entry::answer(b, call, layout, code::CPU, none, missing, needed);
    }
}

/// Calls a level's function and answers what it does.
fn hand_over(b: &mut FunctionBuilder<'_>, number: usize, part: Part, call: Value) {
    let function = import(b, number, Choice::signature(part));
    let inst = b.ins().call(function, &[call]);
    let answer = b.inst_results(inst)[0];
    b.ins().return_(&[answer]);
}
