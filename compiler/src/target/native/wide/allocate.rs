//! Registers for virtual registers, by `regalloc2`.
//!
//! General registers are its integer class, vector registers (of any width) its float class. The
//! stack is counted in words of 8 bytes; a vector is spilled with all bits of the widest register.

use super::code::{Code, Inst, Label, general};
use super::slots;
use regalloc2::{
    Algorithm, Block, Function, Inst as Number, InstRange, MachineEnv, Operand, Output, PReg, PRegSet,
    RegClass, RegallocOptions, VReg,
};

/// General registers that a function may overwrite: rax, rcx, rdx, rsi, rdi, r8 to r11.
const CALLER_SAVED: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];
/// Those that it must restore: rbx, r12 to r15.
pub const CALLEE_SAVED: [usize; 5] = [3, 12, 13, 14, 15];

/// Instructions times blocks of the largest code whose registers are checked again (where debug assertions
/// are on). The checker walks what follows a block anew whenever what it knows at the block's end changes:
/// many conditions behind each other would take it longer than all else.
#[cfg(debug_assertions)]
const CHECKED: usize = 1 << 19;

/// The code as the allocator wants to see it: instructions numbered through all blocks.
pub struct Flat<'a> {
    code: &'a Code,
    /// The first instruction of each block, and the number of all.
    starts: Vec<usize>,
    operands: Vec<Vec<Operand>>,
    successors: Vec<Vec<Block>>,
    predecessors: Vec<Vec<Block>>,
}

impl<'a> Flat<'a> {
    /// Numbers the instructions.
    pub fn new(code: &'a Code) -> Flat<'a> {
        let mut starts = vec![0];
        let mut operands = Vec::new();
        let mut successors = Vec::new();
        let mut predecessors = vec![Vec::new(); code.blocks.len()];
        for (i, block) in code.blocks.iter().enumerate() {
            operands.extend(block.insts.iter().map(Inst::operands));
            starts.push(operands.len());
            let to: &[Label] = match block.insts.last() {
                Some(Inst::Jump { to, .. }) => &[*to],
                Some(Inst::Branch { yes, no, .. }) => &[*yes, *no],
                _ => &[],
            };
            to.iter().for_each(|t| predecessors[*t].push(Block::new(i)));
            successors.push(to.iter().map(|t| Block::new(*t)).collect());
        }
        Flat { code, starts, operands, successors, predecessors }
    }

    /// An instruction.
    pub fn inst(&self, number: Number) -> &'a Inst {
        let n = number.index();
        let block = self.starts.partition_point(|s| *s <= n) - 1;
        &self.code.blocks[block].insts[n - self.starts[block]]
    }

    /// Chooses the registers.
    pub fn allocate(&self) -> Result<Output, String> {
        let set = |numbers: &[usize]| numbers.iter().fold(PRegSet::empty(), |s, n| s.with(general(*n)));
        let vectors = (0..self.code.level.registers())
            .fold(PRegSet::empty(), |s, n| s.with(PReg::new(n, RegClass::Float)));
        let env = MachineEnv {
            preferred_regs_by_class: [set(&CALLER_SAVED), vectors, PRegSet::empty()],
            non_preferred_regs_by_class: [set(&CALLEE_SAVED), PRegSet::empty(), PRegSet::empty()],
            scratch_by_class: [None; 3],
            fixed_stack_slots: Vec::new(),
        };
        // Code that uses a register where it has no value is refused, not compiled to something.
        let options = RegallocOptions { verbose_log: false, validate_ssa: true, algorithm: Algorithm::Ion };
        let mut output = regalloc2::run(self, &env, &options).map_err(|e| format!("registers: {e}"))?;
        slots::share(self, &mut output);
        #[cfg(debug_assertions)]
        if self.num_insts().saturating_mul(self.num_blocks()) <= CHECKED {
            let mut checker = regalloc2::checker::Checker::new(self, &env);
            checker.prepare(&output);
            checker.run().map_err(|e| format!("registers: {e:?}"))?;
        }
        Ok(output)
    }
}

impl Function for Flat<'_> {
    fn num_insts(&self) -> usize {
        self.operands.len()
    }

    fn num_blocks(&self) -> usize {
        self.code.blocks.len()
    }

    fn entry_block(&self) -> Block {
        Block::new(0)
    }

    fn block_insns(&self, block: Block) -> InstRange {
        let (from, to) = (self.starts[block.index()], self.starts[block.index() + 1]);
        InstRange::new(Number::new(from), Number::new(to))
    }

    fn block_succs(&self, block: Block) -> &[Block] {
        &self.successors[block.index()]
    }

    fn block_preds(&self, block: Block) -> &[Block] {
        &self.predecessors[block.index()]
    }

    fn block_params(&self, block: Block) -> &[VReg] {
        &self.code.blocks[block.index()].params
    }

    fn is_ret(&self, inst: Number) -> bool {
        matches!(self.inst(inst), Inst::Return)
    }

    fn is_branch(&self, inst: Number) -> bool {
        matches!(self.inst(inst), Inst::Jump { .. } | Inst::Branch { .. })
    }

    fn branch_blockparams(&self, _: Block, inst: Number, _: usize) -> &[VReg] {
        match self.inst(inst) {
            Inst::Jump { args, .. } => args,
            _ => &[],
        }
    }

    fn inst_operands(&self, inst: Number) -> &[Operand] {
        &self.operands[inst.index()]
    }

    fn inst_clobbers(&self, inst: Number) -> PRegSet {
        self.inst(inst).clobbers()
    }

    fn num_vregs(&self) -> usize {
        self.code.registers
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        if class == RegClass::Float { self.code.level.vector_bits() as usize / 64 } else { 1 }
    }
}
