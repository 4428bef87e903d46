//! Functions that no machine has an instruction for become arithmetic in the loop language itself,
//! so that every target and every vector width gets them.
//!
//! Expanded are the functions of [`ScalarOp::is_transcendental`], powers, and remainders of floats,
//! for values of any number of lanes, on `f32` and `f64`; 16-bit floats are to be
//! [legalised](super::legalise) first. The pass stands after vectorising: expansions choose by
//! `select`, but sines of large arguments and remainders branch and loop on what the lanes hold.
//!
//! What always holds: NaN gives NaN, infinities and both zeros give the exact results that C
//! defines, odd functions keep the sign of zero, denormals are neither flushed nor special. Bounds
//! hold whether `muladd` is contracted or not. The errors below are in units in the last place of
//! the result. Those of `f32` are the greatest over all inputs in native code (`BURIN_EXHAUSTIVE=1`
//! in the native target's tests), but for those of 0.5, which go through `f64`, and cosh, where a
//! sample was taken; those of `f64` are a sample's, against the host's functions, which are off by up
//! to 1 themselves.
//!
//! | function | `f32` | `f64` |
//! |---|---|---|
//! | exp | 1.01 | 1 |
//! | log | 0.83 | 1 |
//! | sin | 2.47 | 1 |
//! | cos | 2.40 | 1 |
//! | tan | 0.5 | 2 |
//! | asin | 0.5 | 1 |
//! | acos | 0.5 | 1 |
//! | atan | 0.5 | 2 |
//! | sinh | 2.38 | 3 |
//! | cosh | 1.22 | 1 |
//! | tanh | 1.50 | 3 |
//! | asinh | 0.5 | 1 |
//! | acosh | 0.5 | 1 |
//! | atanh | 0.5 | 3 |
//! | erf | 1.02 | 1 |
//! | pow | 0.5 | 2 |
//! | rem | exact | exact |
//!
//! The polynomials are our own fits: `fit.py` prints `coefficients.rs`.

mod coefficients;
mod double;
mod erf;
mod exponential;
mod format;
mod integer;
mod inverse;
mod logarithm;
mod remainder;
mod trigonometric;

#[cfg(test)]
pub(crate) mod tests;

use super::formula::{Scope, V};
use super::rewrite::rewrite;
use burin_ir::loops::{Kernel, Op, Stmt};
use burin_ir::{DType, ScalarOp, Symbol};

/// Expands every such operation of a kernel.
pub fn run(kernel: &mut Kernel) {
    let mut names = Names::default();
    rewrite(kernel, &mut |builder, stmt| match stmt {
        Stmt::Let(_, Op::Scalar(op, args)) if is_expanded(op, builder.ty(args[0]).dtype) => {
            let scope = Scope::new(builder);
            let args: Vec<V<'_>> = args.iter().map(|&a| scope.value(a)).collect();
            Some(expand(op, &args, &mut names).val())
        }
        other => {
            builder.push(other);
            None
        }
    });
}

/// Whether the pass replaces an operation on operands of this type.
pub fn is_expanded(op: ScalarOp, ty: DType) -> bool {
    match op {
        ScalarOp::Pow => ty.is_int() || matches!(ty, DType::F32 | DType::F64),
        ScalarOp::Rem | ScalarOp::Mod => matches!(ty, DType::F32 | DType::F64),
        op => op.is_transcendental() && matches!(ty, DType::F32 | DType::F64),
    }
}

/// Names for the symbols that expansions bind, none twice in a kernel.
#[derive(Default)]
struct Names(usize);

impl Names {
    fn next(&mut self) -> Symbol {
        self.0 += 1;
        Symbol::new(&format!("math{}", self.0))
    }
}

fn expand<'f>(op: ScalarOp, args: &[V<'f>], names: &mut Names) -> V<'f> {
    let x = args[0];
    match op {
        ScalarOp::Exp => exponential::exp(x),
        ScalarOp::Sinh => exponential::sinh(x),
        ScalarOp::Cosh => exponential::cosh(x),
        ScalarOp::Tanh => exponential::tanh(x),
        ScalarOp::Log => logarithm::log(x),
        ScalarOp::Asinh => through_f64(x, logarithm::asinh),
        ScalarOp::Acosh => through_f64(x, logarithm::acosh),
        ScalarOp::Atanh => through_f64(x, logarithm::atanh),
        ScalarOp::Sin => trigonometric::sin(x, names.next()),
        ScalarOp::Cos => trigonometric::cos(x, names.next()),
        ScalarOp::Tan => {
            let symbol = names.next();
            through_f64(x, |x| trigonometric::tan(x, symbol))
        }
        ScalarOp::Asin => through_f64(x, inverse::asin),
        ScalarOp::Acos => through_f64(x, inverse::acos),
        ScalarOp::Atan => through_f64(x, inverse::atan),
        ScalarOp::Erf => erf::erf(x),
        ScalarOp::Pow if x.dtype().is_float() => logarithm::pow(x, args[1]),
        ScalarOp::Pow => integer::pow(x, args[1], names.next()),
        op => remainder::remainder(op, x, args[1], [names.next(), names.next()]),
    }
}

/// A function of `f64`, applied to either type: for those too rare in models to deserve a
/// polynomial of their own for `f32`.
fn through_f64<'f>(x: V<'f>, f: impl FnOnce(V<'f>) -> V<'f>) -> V<'f> {
    f(x.cast(DType::F64)).cast(x.dtype())
}
