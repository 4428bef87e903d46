//! The text form of a kernel, which [`parse`](super::parse) reads back to the same kernel.
//!
//! ```text
//! kernel @scale(%x: read f32[n], %y: write f32[n]) dims(n) {
//!   parallel i in 0..(n / 8) {
//!     %0 = load f32x8 %x[8*i]
//!     %1 = const f32x8 0.5
//!     %2 = mul f32x8 %0, %1
//!     store %y[8*i], %2
//!   }
//! }
//! ```
//!
//! Every definition reads `%value = operation type operands`. A loop's carried values stand in its
//! head as `carry (%param = %init)`, its results before it, and the next values in a `yield` at its
//! end; a conditional yields at the end of both blocks. `%x[i; s]` has a stride of `s` between
//! lanes.

use super::{Access, Block, Buf, BufferDecl, Kernel, Loop, LoopKind, Op, Stmt, Val, ValType};
use crate::expr::Expr;
use crate::text::{self, Names};
use cranelift_entity::SecondaryMap;
use std::fmt::{self, Write};

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lanes {
            1 => write!(f, "{}", self.dtype),
            n => write!(f, "{}x{n}", self.dtype),
        }
    }
}

impl Access {
    /// Every kind.
    pub const ALL: [Access; 4] = [Access::Read, Access::Write, Access::Update, Access::Scratch];

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Update => "update",
            Access::Scratch => "scratch",
        }
    }
}

impl LoopKind {
    /// The keyword of the text form.
    pub const fn keyword(self) -> &'static str {
        match self {
            LoopKind::Serial => "for",
            LoopKind::Parallel => "parallel",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut p = Printer::new(self, f, 1);
        write!(p.out, "kernel @{}(", text::name(&self.name))?;
        for (i, (b, BufferDecl { dtype, len, access, .. })) in self.buffers.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(p.out, "{comma}%{}: {} {dtype}[{len}]", p.buffers[b], access.name())?;
        }
        writeln!(p.out, ") dims({}) {{", list(&self.dims))?;
        p.block(&self.body)?;
        p.out.write_str("}\n")
    }
}

/// The first line of a statement, for messages.
pub(super) fn first_line(kernel: &Kernel, stmt: &Stmt) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = Printer::new(kernel, &mut text, 0).stmt(stmt);
    text.lines().next().unwrap_or_default().to_owned()
}

struct Printer<'a> {
    kernel: &'a Kernel,
    buffers: SecondaryMap<Buf, String>,
    out: &'a mut dyn Write,
    indent: usize,
}

impl<'a> Printer<'a> {
    fn new(kernel: &'a Kernel, out: &'a mut dyn Write, indent: usize) -> Printer<'a> {
        let mut names = Names::default();
        let mut buffers = SecondaryMap::new();
        for (b, decl) in kernel.buffers.iter() {
            buffers[b] = text::name(&names.unique(&decl.name, "buf")).into_owned();
        }
        Printer { kernel, buffers, out, indent }
    }

    fn block(&mut self, block: &Block) -> fmt::Result {
        block.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    /// A block with its indented statements, and the values that it yields.
    fn nested(&mut self, block: &Block, yields: &[Val]) -> fmt::Result {
        self.out.write_str("{\n")?;
        self.indent += 1;
        self.block(block)?;
        if !yields.is_empty() {
            self.start()?;
            writeln!(self.out, "yield {}", list(yields))?;
        }
        self.indent -= 1;
        self.start()?;
        self.out.write_char('}')
    }

    fn start(&mut self) -> fmt::Result {
        (0..self.indent).try_for_each(|_| self.out.write_str("  "))
    }

    fn results(&mut self, results: &[Val]) -> fmt::Result {
        if results.is_empty() { Ok(()) } else { write!(self.out, "{} = ", list(results)) }
    }

    fn stmt(&mut self, stmt: &Stmt) -> fmt::Result {
        self.start()?;
        match stmt {
            Stmt::Let(v, op) => {
                write!(self.out, "{v} = ")?;
                self.op(self.kernel.values.get(*v).copied(), op)?;
            }
            Stmt::Bind(symbol, v) => write!(self.out, "bind {symbol} = {v}")?,
            Stmt::For(l) => self.for_loop(l)?,
            Stmt::If { cond, then, otherwise, yields } => {
                self.results(&yields.iter().map(|y| y.result).collect::<Vec<_>>())?;
                self.out.write_str("if ")?;
                for (i, e) in cond.iter().enumerate() {
                    write!(self.out, "{}{e} >= 0", if i == 0 { "" } else { ", " })?;
                }
                self.out.write_str(if cond.is_empty() { "" } else { " " })?;
                self.nested(then, &yields.iter().map(|y| y.then).collect::<Vec<_>>())?;
                if !otherwise.is_empty() || !yields.is_empty() {
                    self.out.write_str(" else ")?;
                    self.nested(otherwise, &yields.iter().map(|y| y.otherwise).collect::<Vec<_>>())?;
                }
            }
            Stmt::Store { buffer, index, stride, value } => {
                self.out.write_str("store ")?;
                self.place(*buffer, index, stride)?;
                write!(self.out, ", {value}")?;
            }
            Stmt::Prefetch { buffer, index } => {
                self.out.write_str("prefetch ")?;
                self.place(*buffer, index, &Expr::ONE)?;
            }
        }
        self.out.write_char('\n')
    }

    fn for_loop(&mut self, l: &Loop) -> fmt::Result {
        self.results(&l.carries.iter().map(|c| c.result).collect::<Vec<_>>())?;
        write!(self.out, "{} {} in 0..{} ", l.kind.keyword(), l.var, Primary(&l.extent))?;
        if !l.carries.is_empty() {
            let carries: Vec<String> =
                l.carries.iter().map(|c| format!("{} = {}", c.param, c.init)).collect();
            write!(self.out, "carry ({}) ", carries.join(", "))?;
        }
        self.nested(&l.body, &l.carries.iter().map(|c| c.next).collect::<Vec<_>>())
    }

    fn place(&mut self, buffer: Buf, index: &Expr, stride: &Expr) -> fmt::Result {
        write!(self.out, "%{}[{index}", self.buffers[buffer])?;
        if *stride != 1 {
            write!(self.out, "; {stride}")?;
        }
        self.out.write_char(']')
    }

    fn op(&mut self, ty: Option<ValType>, op: &Op) -> fmt::Result {
        // A value without a type is an error that the verifier reports; it can still be printed.
        let ty = ty.unwrap_or(ValType { dtype: crate::DType::Bool, lanes: 0 });
        match op {
            Op::Const(bits) => write!(self.out, "const {ty} {}", text::literal(ty.dtype, *bits)),
            Op::Index(e) => write!(self.out, "index {ty} {e}"),
            Op::Ramp(base, step) => write!(self.out, "ramp {ty} {base}, {step}"),
            Op::Scalar(op, args) => write!(self.out, "{op} {ty} {}", list(args)),
            Op::Splat(v) => write!(self.out, "splat {ty} {v}"),
            Op::Load { buffer, index, stride } => {
                write!(self.out, "load {ty} ")?;
                self.place(*buffer, index, stride)
            }
            Op::Gather(buffer, v) => write!(self.out, "gather {ty} %{}[{v}]", self.buffers[*buffer]),
            Op::Fold(reduce, v) => write!(self.out, "fold.{} {ty} {v}", reduce.name()),
            Op::Lane(v, lane) => write!(self.out, "lane {ty} {v}, {lane}"),
        }
    }
}

/// An expression in brackets unless it is a number, a symbol, or has brackets of its own.
struct Primary<'a>(&'a Expr);

impl fmt::Display for Primary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::expr::Atom;
        let single = match (self.0.terms(), self.0.constant_term()) {
            ([], _) => true,
            ([(atoms, 1)], 0) => matches!(&atoms[..], [Atom::Sym(_) | Atom::Div(_)]),
            _ => false,
        };
        if single { write!(f, "{}", self.0) } else { write!(f, "({})", self.0) }
    }
}

/// `a, b, c`.
fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
