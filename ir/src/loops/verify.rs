//! The verifier of the loop language: scopes of values and symbols, the type of every operation,
//! access kinds of buffers, the place of parallel loops, and the values that loops and conditionals
//! carry. That accesses are in bounds is the interpreter's to check.

use super::{Access, Block, Buf, Carry, Kernel, Loop, LoopKind, Op, Stmt, Val, ValType, print};
use crate::dtype::DType;
use crate::expr::Expr;
use crate::symbol::Symbol;
use cranelift_entity::EntitySet;
use std::collections::HashSet;

/// Checks a kernel; an error names the kernel and the statement, what was found and what was
/// expected.
pub fn verify(kernel: &Kernel) -> Result<(), String> {
    let mut v =
        Verifier { kernel, symbols: HashSet::new(), visible: EntitySet::new(), defined: EntitySet::new() };
    v.kernel().map_err(|e| format!("kernel @{}: {e}", crate::text::name(&kernel.name)))
}

type Checked = Result<(), String>;

struct Verifier<'a> {
    kernel: &'a Kernel,
    /// The symbols and the values that may be used here.
    symbols: HashSet<Symbol>,
    visible: EntitySet<Val>,
    /// Every value that has a definition so far.
    defined: EntitySet<Val>,
}

/// What a block defined, to be forgotten at its end.
#[derive(Default)]
struct Scope {
    symbols: Vec<Symbol>,
    values: Vec<Val>,
}

/// An error unless `ok`.
fn check(ok: bool, message: impl FnOnce() -> String) -> Checked {
    if ok { Ok(()) } else { Err(message()) }
}

impl Verifier<'_> {
    fn kernel(&mut self) -> Checked {
        for d in &self.kernel.dims {
            check(self.symbols.insert(*d), || format!("found the dimension {d} twice, expected once"))?;
        }
        let mut names = HashSet::new();
        for b in self.kernel.buffers.values() {
            check(names.insert(&b.name), || {
                format!("found two buffers {:?}, expected distinct names", b.name)
            })?;
            self.expr(&b.len).map_err(|e| format!("length of buffer {:?}: {e}", b.name))?;
        }
        let body = &self.kernel.body;
        let parallel = |s: &Stmt| matches!(s, Stmt::For(l) if l.kind == LoopKind::Parallel);
        if let (true, n @ 2..) = (body.iter().any(parallel), body.len()) {
            return Err(format!("found {n} statements beside a parallel loop, expected the loop alone"));
        }
        self.block(body, &mut Scope::default(), 0)
    }

    fn block(&mut self, block: &Block, scope: &mut Scope, depth: usize) -> Checked {
        for stmt in block {
            self.stmt(stmt, scope, depth).map_err(|e| match stmt {
                // Errors of the statements within are named by those.
                Stmt::For(_) | Stmt::If { .. } if e.starts_with("in `") => e,
                _ => format!("in `{}`: {e}", print::first_line(self.kernel, stmt)),
            })?;
        }
        Ok(())
    }

    fn leave(&mut self, scope: Scope) {
        for s in scope.symbols {
            self.symbols.remove(&s);
        }
        for v in scope.values {
            self.visible.remove(v);
        }
    }

    fn expr(&self, e: &Expr) -> Checked {
        match e.symbols().iter().find(|s| !self.symbols.contains(s)) {
            Some(s) => Err(format!("found the symbol {s} in {e}, expected one that is in scope")),
            None => Ok(()),
        }
    }

    fn value(&self, v: Val) -> Result<ValType, String> {
        check(self.visible.contains(v), || {
            format!("found {v}, expected a value defined before in this scope")
        })?;
        Ok(self.kernel.values[v])
    }

    fn define(&mut self, v: Val, scope: &mut Scope) -> Result<ValType, String> {
        let ty = self.kernel.values.get(v).copied();
        let ty = ty.ok_or_else(|| format!("found {v}, expected a value of the kernel"))?;
        check(self.defined.insert(v), || format!("found a second definition of {v}, expected one"))?;
        check(ty.lanes > 0, || format!("found {v} without lanes, expected at least 1"))?;
        self.visible.insert(v);
        scope.values.push(v);
        Ok(ty)
    }

    fn symbol(&mut self, s: Symbol, scope: &mut Scope) -> Checked {
        check(self.symbols.insert(s), || format!("found the symbol {s} again, expected one not in scope"))?;
        scope.symbols.push(s);
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt, scope: &mut Scope, depth: usize) -> Checked {
        match stmt {
            Stmt::Let(v, op) => {
                let expected = self.op(*v, op)?;
                let found = self.define(*v, scope)?;
                same("the result", found, expected)
            }
            Stmt::Bind(s, v) => {
                let ty = self.value(*v)?;
                check(ty.lanes == 1 && ty.dtype.is_int(), || {
                    format!("found {v} of type {ty}, expected an integer scalar")
                })?;
                self.symbol(*s, scope)
            }
            Stmt::For(l) => self.for_loop(l, scope, depth),
            Stmt::If { cond, then, otherwise, yields } => {
                cond.iter().try_for_each(|e| self.expr(e))?;
                for (block, yes) in [(then, true), (otherwise, false)] {
                    let mut inner = Scope::default();
                    self.block(block, &mut inner, depth + 1)?;
                    for y in yields {
                        self.value(if yes { y.then } else { y.otherwise })?;
                    }
                    self.leave(inner);
                }
                for y in yields {
                    let ty = self.define(y.result, scope)?;
                    same("the value yielded", self.kernel.values[y.then], ty)?;
                    same("the value yielded otherwise", self.kernel.values[y.otherwise], ty)?;
                }
                Ok(())
            }
            Stmt::Store { buffer, index, stride, value } => {
                let ty = self.value(*value)?;
                self.place(*buffer, ty, "store to", Access::Read)?;
                self.index(index, stride, ty)
            }
            Stmt::Prefetch { buffer, index } => {
                check(self.kernel.buffers.get(*buffer).is_some(), || {
                    format!("found {buffer}, expected a buffer of the kernel")
                })?;
                self.expr(index)
            }
        }
    }

    fn for_loop(&mut self, l: &Loop, scope: &mut Scope, depth: usize) -> Checked {
        if l.kind == LoopKind::Parallel {
            check(depth == 0, || {
                "found a parallel loop within another statement, expected it outermost".to_owned()
            })?;
            check(l.carries.is_empty(), || {
                "found carried values in a parallel loop, expected none".to_owned()
            })?;
        }
        self.expr(&l.extent)?;
        let mut inner = Scope::default();
        self.symbol(l.var, &mut inner)?;
        for Carry { init, param, .. } in &l.carries {
            let init = self.value(*init)?;
            same("the initial value", init, self.define(*param, &mut inner)?)?;
        }
        self.block(&l.body, &mut inner, depth + 1)?;
        for c in &l.carries {
            let next = self.value(c.next)?;
            same("the value yielded", next, self.kernel.values[c.param])?;
        }
        self.leave(inner);
        for c in &l.carries {
            let result = self.define(c.result, scope)?;
            same("the loop's result", result, self.kernel.values[c.param])?;
        }
        Ok(())
    }

    /// Checks an access of a buffer that must not be of kind `but`.
    fn place(&self, buffer: Buf, ty: ValType, what: &str, but: Access) -> Checked {
        let Some(decl) = self.kernel.buffers.get(buffer) else {
            return Err(format!("found {buffer}, expected a buffer of the kernel"));
        };
        let name = crate::text::name(&decl.name);
        check(decl.access != but, || {
            format!("found a {what} the {} buffer %{name}, expected another access kind", but.name())
        })?;
        check(decl.dtype == ty.dtype, || {
            format!("found {ty} for the buffer %{name}, expected elements of type {}", decl.dtype)
        })
    }

    fn index(&self, index: &Expr, stride: &Expr, ty: ValType) -> Checked {
        self.expr(index)?;
        self.expr(stride)?;
        check(ty.lanes > 1 || *stride == 1, || format!("found the stride {stride} for a scalar, expected 1"))
    }

    /// Checks an operation's operands; answers the type that its result must have.
    fn op(&self, result: Val, op: &Op) -> Result<ValType, String> {
        let ty = self.kernel.values.get(result).copied();
        let ty = ty.ok_or_else(|| format!("found {result}, expected a value of the kernel"))?;
        let index_type = ValType { dtype: DType::I64, lanes: ty.lanes };
        match op {
            Op::Const(bits) => {
                let most = if ty.dtype == DType::Bool { 1 } else { u64::MAX >> (64 - ty.dtype.bits()) };
                check(*bits <= most, || {
                    format!("found the bits {bits:#x}, expected those of a {}", ty.dtype)
                })?;
                Ok(ty)
            }
            Op::Index(e) => self.expr(e).map(|()| ValType::scalar(DType::I64)),
            Op::Ramp(base, step) => {
                self.expr(base)?;
                self.expr(step)?;
                Ok(index_type)
            }
            Op::Scalar(op, args) => {
                let types = args.iter().map(|v| self.value(*v)).collect::<Result<Vec<_>, _>>()?;
                for (v, t) in args.iter().zip(&types) {
                    check(t.lanes == ty.lanes, || {
                        format!("found {v} of type {t}, expected {} lanes", ty.lanes)
                    })?;
                }
                let dtypes: Vec<DType> = types.iter().map(|t| t.dtype).collect();
                Ok(ValType { dtype: op.result_type(&dtypes)?, lanes: ty.lanes })
            }
            Op::Splat(v) => {
                let found = self.value(*v)?;
                same("the operand", found, ValType::scalar(ty.dtype))?;
                Ok(ty)
            }
            Op::Load { buffer, index, stride } => {
                self.place(*buffer, ty, "load from", Access::Write)?;
                self.index(index, stride, ty)?;
                Ok(ty)
            }
            Op::Gather(buffer, indices) => {
                self.place(*buffer, ty, "load from", Access::Write)?;
                same("the indices", self.value(*indices)?, index_type)?;
                Ok(ty)
            }
            Op::Fold(reduce, v) => {
                let found = self.value(*v)?;
                check(found.lanes.is_power_of_two(), || {
                    format!("found {} lanes to combine, expected a power of two", found.lanes)
                })?;
                let dtype = reduce.combine().result_type(&[found.dtype, found.dtype])?;
                Ok(ValType::scalar(dtype))
            }
            Op::Lane(v, lane) => {
                let found = self.value(*v)?;
                check(*lane < found.lanes, || {
                    format!("found lane {lane} of {v}, expected one of {}", found.lanes)
                })?;
                Ok(ValType::scalar(found.dtype))
            }
        }
    }
}

fn same(what: &str, found: ValType, expected: ValType) -> Checked {
    check(found == expected, || format!("found {what} of type {found}, expected {expected}"))
}
