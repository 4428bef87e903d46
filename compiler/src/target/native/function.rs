//! One function of the blob: bytes, and what in them refers to other functions. Whoever makes
//! machine code hands over a [`Function`]; [`build`] makes one through Cranelift.
//!
//! On x86-64 every function has the System V convention, on every system.

use super::NativeError;
use super::levels::TargetSpec;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    self, AbiParam, ExtFuncData, ExternalName, FuncRef, MemFlagsData, Signature, Type, UserExternalName,
    UserFuncName, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_codegen::{Context, FinalizedRelocTarget};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// Bytes of the largest frame of a function: workers' stacks are not ours, and may be small.
const LARGEST_FRAME: usize = 128 << 10;

/// The type of a pointer.
pub const PTR: Type = types::I64;

/// The functions of a blob, in its order.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// For messages and disassembly.
    pub name: String,
    /// The machine code, constants included.
    pub bytes: Vec<u8>,
    /// The alignment that the bytes need.
    pub align: u32,
    /// References to other functions.
    pub relocs: Vec<Relocation>,
}

/// A place in a function that refers to a function.
#[derive(Clone, Copy, Debug)]
pub struct Relocation {
    /// Offset of the place from the function's start.
    pub at: u32,
    /// How the reference is written.
    pub kind: Reloc,
    /// What it refers to.
    pub target: Target,
    /// Added to the target's address.
    pub addend: i64,
}

/// What a relocation refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The start of a function, by its number in the blob.
    Function(u32),
    /// An offset in the same function.
    Local(u32),
}

/// How loads and stores are done: they cannot fault, and need not be aligned.
pub fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// A signature of 64-bit words.
pub fn words(params: usize, returns: &[Type]) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(PTR); params];
    signature.returns = returns.iter().map(|t| AbiParam::new(*t)).collect();
    signature
}

/// Makes a function of the blob callable from the one being built.
pub fn import(b: &mut FunctionBuilder<'_>, number: usize, signature: Signature) -> FuncRef {
    let signature = b.import_signature(signature);
    let name = UserExternalName { namespace: 0, index: number as u32 };
    let name = ExternalName::user(b.func.declare_imported_user_function(name));
    b.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
}

/// Builds and compiles a function. `body` starts in the entry block with the parameters' values, and
/// has to end every block.
pub fn build(
    name: &str,
    signature: Signature,
    target: &TargetSpec,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[ir::Value]) -> Result<(), NativeError>,
) -> Result<Function, NativeError> {
    let mut context = translate(name, signature, target, body)?;
    finish(name, &mut context, target)
}

/// The assembly that [`build`] would make, as Cranelift prints it.
pub fn disassemble(
    name: &str,
    signature: Signature,
    target: &TargetSpec,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[ir::Value]) -> Result<(), NativeError>,
) -> Result<String, NativeError> {
    let mut context = translate(name, signature, target, body)?;
    context.set_disasm(true);
    finish(name, &mut context, target)?;
    let text = context.compiled_code().and_then(|c| c.vcode.clone());
    text.ok_or_else(|| internal(name, "no disassembly"))
}

/// Refuses a function that needs so many bytes of stack, if they are too many.
pub fn check_frame(name: &str, bytes: usize) -> Result<(), NativeError> {
    if bytes <= LARGEST_FRAME {
        return Ok(());
    }
    let what =
        format!("it cannot be compiled: it needs {bytes} bytes of stack, expected at most {LARGEST_FRAME}");
    Err(NativeError::Unsupported { kernel: name.to_owned(), what })
}

fn internal(function: &str, what: impl ToString) -> NativeError {
    NativeError::Internal { function: function.to_owned(), what: what.to_string() }
}

fn translate(
    name: &str,
    signature: Signature,
    target: &TargetSpec,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[ir::Value]) -> Result<(), NativeError>,
) -> Result<Context, NativeError> {
    let func = ir::Function::with_name_signature(UserFuncName::default(), signature);
    let mut context = Context::for_function(func);
    let mut frontend = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut frontend);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let params = builder.block_params(entry).to_vec();
    body(&mut builder, &params)?;
    builder.seal_all_blocks();
    builder.finalize(target.isa.frontend_config());
    if context.func.layout.entry_block().is_none() {
        return Err(internal(name, "no code"));
    }
    Ok(context)
}

fn finish(name: &str, context: &mut Context, target: &TargetSpec) -> Result<Function, NativeError> {
    let compiled = context
        .compile(&*target.isa, &mut ControlPlane::default())
        .map_err(|e| internal(name, format!("{:?}", e.inner)))?;
    let frame = compiled.buffer.frame_layout().map_or(0, |f| f.frame_to_fp_offset as usize);
    check_frame(name, frame)?;
    let (bytes, align) = (compiled.code_buffer().to_vec(), compiled.buffer.alignment);
    let found = compiled.buffer.relocs().to_vec();
    let mut relocs = Vec::with_capacity(found.len());
    for r in found {
        let reference = match &r.target {
            FinalizedRelocTarget::Func(offset) => Target::Local(*offset),
            FinalizedRelocTarget::ExternalName(ExternalName::User(n)) => {
                Target::Function(context.func.params.user_named_funcs()[*n].index)
            }
            FinalizedRelocTarget::ExternalName(other) => {
                let symbol = other.display(Some(&context.func.params));
                return Err(internal(name, format!("it needs {symbol} from outside the image")));
            }
        };
        relocs.push(Relocation { at: r.offset, kind: r.kind, target: reference, addend: r.addend });
    }
    Ok(Function { name: name.to_owned(), bytes, align: align.max(16), relocs })
}
