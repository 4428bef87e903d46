//! The question whether the CPU has what the code needs, asked by the code itself: it must run on
//! any x86-64, so that everything here is compiled for the baseline.
//!
//! Cranelift has no instruction that asks; two functions are bytes.

use super::function::{Function, import, words};
use burin_runtime::cpu::{OSXSAVE, Register, X86_FEATURES};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// `(leaf) -> answer`: EBX in the low half, ECX in the high one; 0 where there is no such leaf.
const ASK: [u8; 35] = [
    0x53, // push rbx
    0x89, 0xf8, // mov eax, edi
    0x25, 0, 0, 0, 0x80, // and eax, 0x80000000: asks for the greatest leaf of the range
    0x0f, 0xa2, // cpuid
    0x39, 0xf8, // cmp eax, edi
    0x72, 0x11, // jb none
    0x89, 0xf8, // mov eax, edi
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0xa2, // cpuid
    0x48, 0xc1, 0xe1, 0x20, // shl rcx, 32
    0x89, 0xd8, // mov eax, ebx
    0x48, 0x09, 0xc8, // or rax, rcx
    0x5b, // pop rbx
    0xc3, // ret
    0x31, 0xc0, // none: xor eax, eax
    0x5b, // pop rbx
    0xc3, // ret
];

/// `() -> state`: the low half of XCR0. Only where OSXSAVE is set.
const SAVED: [u8; 8] = [
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0x01, 0xd0, // xgetbv
    0x89, 0xc0, // mov eax, eax
    0xc3, // ret
];

/// The function that asks for a leaf.
pub fn ask() -> Function {
    Function { name: "cpu.ask".to_owned(), bytes: ASK.to_vec(), align: 16, relocs: Vec::new() }
}

/// The function that asks which registers the system saves.
pub fn saved() -> Function {
    Function { name: "cpu.saved".to_owned(), bytes: SAVED.to_vec(), align: 16, relocs: Vec::new() }
}

/// Code for those features of a mask that the CPU and the system have. `ask` and `saved` are the
/// numbers of those functions in the blob.
pub fn present(b: &mut FunctionBuilder<'_>, asked: u64, ask: usize, saved: usize) -> Value {
    let ask = import(b, ask, words(1, &[types::I64]));
    let answer = |b: &mut FunctionBuilder<'_>, leaf: u32| {
        let leaf = b.ins().iconst(types::I64, leaf as i64);
        let inst = b.ins().call(ask, &[leaf]);
        b.inst_results(inst)[0]
    };
    let first = answer(b, OSXSAVE.0);
    let state = state(b, first, saved);
    let mut present = b.ins().iconst(types::I64, 0);
    let mut last = (OSXSAVE.0, first);
    for f in X86_FEATURES.iter().filter(|f| asked & f.feature != 0) {
        if last.0 != f.leaf {
            last = (f.leaf, answer(b, f.leaf));
        }
        let at = f.bit + if f.register == Register::Ecx { 32 } else { 0 };
        let bit = b.ins().ushr_imm_u(last.1, at as i64);
        let bit = b.ins().band_imm_s(bit, 1);
        let kept = b.ins().band_imm_s(state, f.state as i64);
        let kept = b.ins().icmp_imm_s(IntCC::Equal, kept, f.state as i64);
        let kept = b.ins().uextend(types::I64, kept);
        let has = b.ins().band(bit, kept);
        let has = b.ins().ishl_imm_s(has, f.feature.trailing_zeros() as i64);
        present = b.ins().bor(present, has);
    }
    present
}

/// The low half of XCR0, from the answer to the leaf that says whether it can be read; else 0.
fn state(b: &mut FunctionBuilder<'_>, answer: Value, saved: usize) -> Value {
    let (read, known) = (b.create_block(), b.create_block());
    let state = b.append_block_param(known, types::I64);
    let zero = b.ins().iconst(types::I64, 0);
    let bit = 1i64 << (OSXSAVE.1 + 32);
    let mask = b.ins().iconst(types::I64, bit);
    let enabled = b.ins().band(answer, mask);
    b.ins().brif(enabled, read, &[], known, &[BlockArg::from(zero)]);
    b.switch_to_block(read);
    let saved = import(b, saved, words(0, &[types::I64]));
    let inst = b.ins().call(saved, &[]);
    let found = b.inst_results(inst)[0];
    b.ins().jump(known, &[BlockArg::from(found)]);
    b.switch_to_block(known);
    state
}
