//! What kernels need not compute: parts of index expressions that follow from what a run reads, and from
//! nothing that varies within a kernel, get names. A call gives their values, as those of dimensions.
//!
//! What always holds: a name stands for any integer, so that nothing is concluded from what it names.

use super::nest::{for_each_expr, rebuild, visit};
use burin_ir::expr::Atom;
use burin_ir::{Element, Expr, Symbol, Term, TermKind};
use std::collections::HashSet;

/// The names of one kernel.
#[derive(Debug, Default)]
pub struct Named(Vec<(Symbol, Expr)>);

impl Named {
    /// The definition with names in place of such parts.
    pub fn element(&mut self, e: Element) -> Element {
        let mut found = false;
        visit(&e.body, &mut |t| for_each_expr(t, &mut |e| found |= is_worth(e)));
        if !found {
            return e;
        }
        let local: HashSet<Symbol> = e.axes.iter().copied().chain(e.body.bound_symbols()).collect();
        let mut name = |e: &Expr| {
            e.map_free(&|s| local.contains(&s), &mut |part| {
                if is_worth(&part) { self.name(part) } else { part }
            })
        };
        let body = rebuild(&e.body, &mut |t| match t.kind() {
            TermKind::Load { input, index } => {
                Some(Term::load(t.dtype(), *input, index.iter().map(&mut name).collect()))
            }
            TermKind::Index(e) => Some(Term::index(name(e))),
            TermKind::If { cond, then, otherwise } => {
                let cond = cond.iter().map(&mut name).collect();
                Some(Term::when(cond, then.clone(), otherwise.clone()))
            }
            TermKind::Reduce { op, vars, body } => {
                let vars = vars.iter().map(|(s, n)| (*s, name(n))).collect();
                Some(Term::reduce(*op, vars, body.clone()))
            }
            TermKind::Const(_) | TermKind::Op(..) | TermKind::Bind { .. } => None,
        });
        Element { axes: e.axes, body }
    }

    fn name(&mut self, part: Expr) -> Expr {
        if let Some((s, _)) = self.0.iter().find(|(_, e)| *e == part) {
            return (*s).into();
        }
        let symbol = Symbol::new(&format!("{}part{}", Symbol::DATA, self.0.len()));
        self.0.push((symbol, part));
        symbol.into()
    }

    /// An expression without names.
    pub fn resolve(&self, e: &Expr) -> Expr {
        e.substitute(&|s| self.0.iter().find(|(name, _)| *name == s).map(|(_, e)| e.clone()))
    }
}

/// Whether it holds a division, minimum or maximum of what is read from data.
fn is_worth(e: &Expr) -> bool {
    let read = |s: Symbol| s.name().starts_with(Symbol::DATA);
    e.terms().iter().flat_map(|(atoms, _)| atoms).any(|a| match a {
        Atom::Sym(_) => false,
        Atom::Div(d) | Atom::Min(d) | Atom::Max(d) => d.0.any_symbol(&read) || d.1.any_symbol(&read),
    })
}
