//! Tests of the native target; here, what they share.

mod choice;
mod conversions;
mod functions;
mod kernels;
pub(super) mod operations;
mod programs;

use super::jit::Mapped;
use super::levels::TargetSpec;
use super::{Code, LevelCode, compile_kernel, kernel, link};
use burin_ir::expr::Expr;
use burin_ir::loops::build::Builder;
use burin_ir::loops::{Access, Buf, BufferDecl, Kernel};
use burin_ir::{DType, Symbol};
use cranelift_entity::PrimaryMap;

/// A kernel from its buffers, its dimensions and what builds its body.
fn kernel_of(
    buffers: &[(&str, DType, Expr, Access)],
    dims: &[&str],
    body: impl FnOnce(&mut Builder<'_>, &[Buf]),
) -> Kernel {
    let mut map = PrimaryMap::new();
    let mut ids = Vec::new();
    for (name, dtype, len, access) in buffers {
        let (name, len) = (name.to_string(), len.clone());
        ids.push(map.push(BufferDecl { name, dtype: *dtype, len, access: *access }));
    }
    let dims = dims.iter().map(|d| Symbol::new(d)).collect();
    let mut kernel =
        Kernel { name: "test".into(), dims, buffers: map, values: PrimaryMap::new(), body: Vec::new() };
    let mut builder = Builder::of(&mut kernel);
    body(&mut builder, &ids);
    kernel.body = builder.finish();
    kernel
}

/// Compiles a kernel and maps it.
fn mapped(kernel: &Kernel, target: &TargetSpec) -> Mapped {
    let function = compile_kernel(kernel, target).expect("compiles");
    let link::Linked { text, align, places } = link::link(&[function], target).expect("links");
    let kernel = LevelCode { kernels: places, ..LevelCode::default() };
    let code = Code { text, align, levels: vec![kernel], ..Code::default() };
    Mapped::new(&code, target).expect("maps")
}

/// Runs a kernel's tasks `begin..end` on buffers of bytes.
fn run(kernel: &Kernel, target: &TargetSpec, buffers: &mut [Vec<u8>], dims: &[i64], tasks: (i64, i64)) {
    let code = mapped(kernel, target);
    let mut frame: Vec<u64> = buffers.iter_mut().map(|b| b.as_mut_ptr() as u64).collect();
    frame.extend(dims.iter().map(|d| *d as u64));
    frame.push(0);
    // SAFETY: the frame has a pointer for each buffer, and the test made them long enough.
    unsafe { code.kernel(0)(frame.as_ptr(), tasks.0, tasks.1, 0) };
}

/// The bytes of numbers.
fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// The numbers in bytes.
fn numbers<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(bytes)
}

/// Levels that this machine can run, the host's own first.
fn runnable() -> Vec<TargetSpec> {
    let mut all = vec![TargetSpec::host().expect("the host is a target")];
    if cfg!(target_arch = "x86_64") {
        let levels = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];
        let named = levels.map(|l| TargetSpec::new(None, Some(l)).expect("a level"));
        all.extend(named.into_iter().filter(TargetSpec::runs_here));
    }
    all
}

/// Every architecture and level.
fn every_target() -> Vec<TargetSpec> {
    let x86 = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];
    let x86 = x86.map(|l| TargetSpec::new(Some("x86_64-unknown-linux-gnu"), Some(l)).expect("a level"));
    let rest = ["aarch64-unknown-linux-gnu", "riscv64gc-unknown-linux-gnu"];
    let rest = rest.map(|t| TargetSpec::new(Some(t), None).expect("a target"));
    x86.into_iter().chain(rest).collect()
}
