//! The C ABI between compiled code and whoever calls it; the one place where it is written down.
//!
//! A compiled model is one position-independent image without imports. It begins with a
//! [`Descriptor`]; every reference in it is an offset from the descriptor's first byte. It owns
//! nothing: the caller passes weights, arena, state and threads with each call. Calls are
//! re-entrant with distinct arenas and states.
//!
//! An image may hold the code for several CPU levels, its [`Variant`]s, which read the same weights.
//! Whoever loads it takes the first one that the CPU has the features for. Two functions of the image,
//! which linkers know as `NAME_plan` and `NAME_run`, do that by themselves for callers that do not read
//! descriptors: see [`Plan::variant`].
//!
//! On x86-64 every function has the System V convention on every system.

use core::ffi::c_void;

/// What [`Descriptor::magic`] holds: `BURINIMG`, little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"BURINIMG");

/// The version of this ABI. A loader refuses every other one.
pub const ABI_VERSION: u32 = 4;

/// Alignment in bytes of the arena, of every buffer in it, and of the weights.
pub const ALIGN: usize = 64;

/// The first bytes of an image. All offsets are in bytes from its start; all tables are arrays of
/// the structs below; all strings are UTF-8 without a terminator, in `strings`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// One of [`arch`].
    pub arch: u32,
    /// Bytes of the whole image: descriptor, tables and code.
    pub image_bytes: u64,
    /// Bytes of the packed weights, which lie elsewhere.
    pub weight_bytes: u64,
    /// A hash of the weights, which stands in 8 little-endian bytes at the first multiple of
    /// [`ALIGN`] from `weight_bytes` on, so that an image is not run with others' weights. The whole
    /// weight segment has [`weight_segment_bytes`].
    pub weight_id: u64,
    /// The model's name.
    pub name: Text,
    /// Table of [`Variant`], best first; never empty.
    pub variants: Table,
    /// Table of [`Entry`].
    pub entries: Table,
    /// Table of [`Weight`].
    pub weights: Table,
    /// Table of [`Port`]: state variables, shared by all entries.
    pub states: Table,
    /// Table of [`Text`]: what the first numbers of texts stand for, the empty text first; empty where no
    /// tensor is of [`dtype::TEXT`].
    pub texts: Table,
    /// Table of [`Text`]: the functions of the host-op library that calls need, by name.
    pub host_ops: Table,
}

/// Bytes of the weight segment: the weights, padding, and their [`Descriptor::weight_id`] in a block
/// of [`ALIGN`] bytes. `None` where that overflows.
pub const fn weight_segment_bytes(weight_bytes: u64) -> Option<u64> {
    match weight_bytes.checked_next_multiple_of(ALIGN as u64) {
        Some(n) => n.checked_add(ALIGN as u64),
        None => None,
    }
}

/// A string in the image.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Text {
    /// Offset of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A table in the image.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Table {
    /// Offset of its first entry.
    pub offset: u64,
    /// The number of its entries.
    pub len: u64,
}

/// A function of the model: `forward` now; later `init`, `train`, `eval`, `predict`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Its name.
    pub name: Text,
    /// Table of [`Text`]: the names of the dimensions that a call gives.
    pub dims: Table,
    /// Table of [`Port`].
    pub inputs: Table,
    /// Table of [`Port`].
    pub outputs: Table,
}

/// The code of all entries for one CPU level.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Variant {
    /// The level's name, such as `x86-64-v3`.
    pub level: Text,
    /// CPU features that the code needs: a mask of [`cpu`].
    pub cpu_features: u64,
    /// Table of [`EntryCode`], in the order of [`Descriptor::entries`].
    pub code: Table,
    /// Table of [`Text`]: the names of nodes, for [`Status::node`] and for tracing.
    pub nodes: Table,
}

/// The code of an entry for one CPU level. Its functions do not ask the CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryCode {
    /// Offset of a [`PlanFn`].
    pub plan: u64,
    /// Offset of a [`RunFn`].
    pub run: u64,
    /// Bytes of the arena when every dimension is constant, else 0: [`PlanFn`] tells.
    pub arena_bytes: u64,
    /// Table of [`Step`]: what a call does, for tracing and `--info`.
    pub steps: Table,
    /// How many slots a call may ask memory for, by [`Call::alloc`]: none, or those of all outputs
    /// and more for what lies between.
    pub slots: u64,
}

/// A tensor that goes in, out, or stays as state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Port {
    /// Its name.
    pub name: Text,
    /// One of [`dtype`].
    pub dtype: u32,
    /// A mask of [`port`].
    pub flags: u32,
    /// Table of [`Dim`].
    pub shape: Table,
    /// For a state variable: offset of its initial value in the weights.
    pub init: u64,
}

/// A dimension of a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Dim {
    /// The extent if it is constant, else -1.
    pub extent: i64,
    /// How it is printed: a name or an expression of names.
    pub text: Text,
    /// The number of the dimension (in [`Entry::dims`]) that it is, or -1 where it is constant or
    /// an expression.
    pub symbol: i64,
}

/// A packed weight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    /// Its name.
    pub name: Text,
    /// Offset in the weights, a multiple of [`ALIGN`].
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
    /// One of [`dtype`].
    pub dtype: u32,
    /// Zero.
    pub reserved: u32,
}

/// A step of a run: one call of one kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// The kernel's name.
    pub kernel: Text,
    /// The number (in [`Variant::nodes`]) of the node that it ends with.
    pub node: u64,
    /// Floating-point operations, where every dimension is constant, else 0.
    pub flops: u64,
}

/// Architectures.
#[allow(missing_docs)]
pub mod arch {
    pub const X86_64: u32 = 1;
    pub const AARCH64: u32 = 2;
    pub const RISCV64: u32 = 3;
}

/// CPU features in [`Variant::cpu_features`](super::abi::Variant::cpu_features).
#[allow(missing_docs)]
pub mod cpu {
    pub const SSE3: u64 = 1 << 0;
    pub const SSSE3: u64 = 1 << 1;
    pub const SSE41: u64 = 1 << 2;
    pub const SSE42: u64 = 1 << 3;
    pub const POPCNT: u64 = 1 << 4;
    pub const AVX: u64 = 1 << 5;
    pub const AVX2: u64 = 1 << 6;
    pub const FMA: u64 = 1 << 7;
    pub const BMI1: u64 = 1 << 8;
    pub const BMI2: u64 = 1 << 9;
    pub const LZCNT: u64 = 1 << 10;
    pub const F16C: u64 = 1 << 11;
    pub const AVX512F: u64 = 1 << 12;
    pub const AVX512BW: u64 = 1 << 13;
    pub const AVX512DQ: u64 = 1 << 14;
    pub const AVX512VL: u64 = 1 << 15;
    pub const AVX512CD: u64 = 1 << 16;
    pub const AVX512VNNI: u64 = 1 << 17;
    pub const MOVBE: u64 = 1 << 18;
    /// Every feature that is named here.
    pub const ALL: [(u64, &str); 19] = [
        (SSE3, "sse3"),
        (SSSE3, "ssse3"),
        (SSE41, "sse4.1"),
        (SSE42, "sse4.2"),
        (POPCNT, "popcnt"),
        (AVX, "avx"),
        (AVX2, "avx2"),
        (FMA, "fma"),
        (BMI1, "bmi1"),
        (BMI2, "bmi2"),
        (LZCNT, "lzcnt"),
        (F16C, "f16c"),
        (AVX512F, "avx512f"),
        (AVX512BW, "avx512bw"),
        (AVX512DQ, "avx512dq"),
        (AVX512VL, "avx512vl"),
        (AVX512CD, "avx512cd"),
        (AVX512VNNI, "avx512vnni"),
        (MOVBE, "movbe"),
    ];
}

/// Element types: the numbers of ONNX's `TensorProto.DataType`. An element takes a byte at least: of
/// a type below 8 bits it is the low bits, and the others repeat the sign (`I4`, `I2`) or are zero.
#[allow(missing_docs)]
pub mod dtype {
    pub const F32: u32 = 1;
    pub const U8: u32 = 2;
    pub const I8: u32 = 3;
    pub const U16: u32 = 4;
    pub const I16: u32 = 5;
    pub const I32: u32 = 6;
    pub const I64: u32 = 7;
    /// An element is the number of a text, in 64 bits with a sign: those of [`Descriptor::texts`](super::Descriptor::texts)
    /// come first, then any that the caller gives numbers to. Equal texts have equal numbers in a call.
    pub const TEXT: u32 = 8;
    pub const BOOL: u32 = 9;
    pub const F16: u32 = 10;
    pub const F64: u32 = 11;
    pub const U32: u32 = 12;
    pub const U64: u32 = 13;
    pub const BF16: u32 = 16;
    pub const F8E4M3FN: u32 = 17;
    pub const F8E4M3FNUZ: u32 = 18;
    pub const F8E5M2: u32 = 19;
    pub const F8E5M2FNUZ: u32 = 20;
    pub const U4: u32 = 21;
    pub const I4: u32 = 22;
    pub const F4E2M1: u32 = 23;
    pub const F8E8M0: u32 = 24;
    pub const U2: u32 = 25;
    pub const I2: u32 = 26;
}

/// Flags of a [`Port`].
pub mod port {
    /// The output's size is known only after the run; the caller must give [`Call::alloc`](super::Call::alloc).
    pub const UNBOUNDED: u32 = 1;
}

/// What a call answers; 0 is success.
#[allow(missing_docs)]
pub mod code {
    pub const OK: i32 = 0;
    /// A dimension is negative or too large: `found` is its value, `node` its number.
    pub const BAD_DIM: i32 = 1;
    /// The CPU lacks a feature of every variant: `found` is the mask of those that the last one misses.
    pub const CPU: i32 = 2;
    /// A size overflows.
    pub const TOO_LARGE: i32 = 3;
    /// An operand's value is out of range at `node`: `found` and `expected` say how.
    pub const OUT_OF_RANGE: i32 = 4;
    /// The caller's `alloc` gave no memory.
    pub const NO_MEMORY: i32 = 5;
    /// The caller's `host_op` failed at `node`, or there is none.
    pub const HOST: i32 = 6;
}

/// Details of a failure.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// One of [`code`].
    pub code: i32,
    /// The node's number (in [`Variant::nodes`]), or what [`code`] says.
    pub node: u32,
    /// What was found.
    pub found: i64,
    /// What was expected.
    pub expected: i64,
}

/// Asks what a call needs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// In: the dimensions, in the order of [`Entry::dims`].
    pub dims: *const i64,
    /// In: the greatest number of workers that a call will use, at least 1.
    pub workers: u32,
    /// Out, from `NAME_plan` where there is more to choose than code that every CPU runs: the variant
    /// that it has chosen, and that the rest is said of; numbers count from 1. The functions of a
    /// variant leave it alone.
    pub variant: u32,
    /// Out: bytes of the arena, including the workers' scratch.
    pub arena_bytes: u64,
    /// Out: the extents of all inputs, one after another, against which the caller checks what it
    /// has; null: not wanted.
    pub input_dims: *mut i64,
    /// Out: the extents of all outputs, one after another; 0 where [`port::UNBOUNDED`] is set.
    pub output_dims: *mut i64,
    /// Out: details of a failure.
    pub status: Status,
}

/// One call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The packed weights, [`ALIGN`]ed.
    pub weights: *const u8,
    /// The arena, [`ALIGN`]ed; at least as large as the plan for these dimensions and workers says.
    pub arena: *mut u8,
    /// The inputs, in order; each aligned to its element.
    pub inputs: *const *const u8,
    /// The outputs, in order; each aligned to its element. Null where [`port::UNBOUNDED`] is set.
    pub outputs: *const *mut u8,
    /// The extents of all outputs, one after another, as the plan gave them. Those of outputs with
    /// [`port::UNBOUNDED`] are overwritten with what they turned out to be; null where there are none.
    pub output_dims: *mut i64,
    /// The state variables, in order; updated in place.
    pub states: *const *mut u8,
    /// The dimensions, in the order of [`Entry::dims`].
    pub dims: *const i64,
    /// Worker indices that tasks get are below this; at least 1.
    pub workers: u32,
    /// For `NAME_run`: [`Plan::variant`] as `NAME_plan` of this process has left it. Any other number,
    /// such as 0, has it ask the CPU and choose the same one: right, but slow, since a virtual machine
    /// may take many microseconds to answer. The functions of a variant do not look.
    pub variant: u32,
    /// Passed to the callbacks.
    pub host: *mut c_void,
    /// Runs `task(frame, begin, end, worker)` so that every index below `tasks` is covered once,
    /// and returns when all are done. `None`: everything runs on the calling thread, as worker 0.
    pub parallel_for: Option<ParallelForFn>,
    /// Gives memory, [`ALIGN`]ed, for a slot, in place of what the slot had: numbers below that of the
    /// outputs are those of outputs of unbounded size, further ones hold what the call itself needs
    /// until it returns. `None` where [`EntryCode::slots`] is 0.
    pub alloc: Option<AllocFn>,
    /// Calls a function of the host-op library. `None` where [`Descriptor::host_ops`] is empty.
    pub host_op: Option<HostFn>,
    /// Called before (`done` 0) and after (`done` 1) each step; `None`: not traced.
    pub trace: Option<TraceFn>,
    /// Out: details of a failure.
    pub status: Status,
}

/// A kernel: runs the tasks `begin..end` as worker `worker`. `frame` is an array of 64-bit words:
/// one pointer for each of the kernel's buffers, then its dimensions. A scratch buffer's pointer is
/// worker 0's; the frame's last word is the bytes between workers' scratch.
pub type TaskFn = unsafe extern "C" fn(frame: *const u64, begin: i64, end: i64, worker: i64);
/// See [`Call::parallel_for`]. It must not unwind.
pub type ParallelForFn = unsafe extern "C" fn(host: *mut c_void, task: TaskFn, frame: *const u64, tasks: i64);
/// See [`Call::alloc`]. It must not unwind.
pub type AllocFn = unsafe extern "C" fn(host: *mut c_void, slot: u32, bytes: u64) -> *mut u8;
/// See [`Call::host_op`]: `op` is a number in [`Descriptor::host_ops`], `frame` an array of 64-bit words, for
/// each of the function's inputs and then each of its outputs a pointer and the number of elements there.
/// Answers 0, or another number where it fails. It must not unwind.
pub type HostFn = unsafe extern "C" fn(host: *mut c_void, op: u32, frame: *const u64) -> i32;
/// See [`Call::trace`]. It must not unwind.
pub type TraceFn = unsafe extern "C" fn(host: *mut c_void, step: u32, done: u32);
/// Fills in a plan; answers a [`code`].
pub type PlanFn = unsafe extern "C" fn(plan: *mut Plan) -> i32;
/// Makes a call; answers a [`code`].
pub type RunFn = unsafe extern "C" fn(call: *mut Call) -> i32;
