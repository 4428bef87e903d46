//! Types of the inputs: named, numbered and unknown dimensions.
//!
//! A dimension that the model names becomes a symbol of that name, made an identifier; one that it
//! leaves open gets a symbol of its own, such as `input_d0`. Different names never become one symbol,
//! and no symbol can be mistaken for one that the compiler makes (`i0`, `k1`, `u3_1`).

use super::proto::{DimensionProto, DimensionValue, TypeProto, TypeValue};
use super::tensor;
use burin_ir::tensor::element_count;
use burin_ir::{Expr, Symbol, TensorType, Type};
use std::collections::{HashMap, HashSet};

/// The symbols of a model's dimensions.
pub(super) struct Dimensions<'a> {
    chosen: &'a [(String, i64)],
    used: HashSet<String>,
    symbols: HashMap<String, Symbol>,
    taken: HashSet<Symbol>,
}

impl<'a> Dimensions<'a> {
    /// `chosen` gives some dimensions a size, by the model's name or the symbol's.
    pub(super) fn new(chosen: &'a [(String, i64)]) -> Dimensions<'a> {
        Dimensions { chosen, used: HashSet::new(), symbols: HashMap::new(), taken: HashSet::new() }
    }

    /// The type of a value of that name, as the model declares it.
    pub(super) fn declared(&mut self, name: &str, ty: &TypeProto) -> Result<Type, String> {
        Ok(match &ty.value {
            Some(TypeValue::Tensor(t)) => {
                let dtype = tensor::dtype(t.elem_type.into())?;
                let shape = t.shape.as_ref().ok_or(
                    "its rank is unknown; expected a shape (unknown dimensions may be named or left open)",
                )?;
                let dims: Vec<Expr> = shape
                    .dim
                    .iter()
                    .enumerate()
                    .map(|(i, d)| self.dimension(name, i, d))
                    .collect::<Result<_, _>>()?;
                let fixed: Vec<usize> =
                    dims.iter().filter_map(|d| usize::try_from(d.as_const()?).ok()).collect();
                element_count(dtype, &fixed)
                    .ok_or_else(|| format!("a tensor of shape {dims:?} is larger than the address space"))?;
                TensorType::new(dtype, dims).into()
            }
            Some(TypeValue::Sequence(t)) => {
                Type::Sequence(Box::new(self.element(name, t.elem_type.as_deref())?))
            }
            Some(TypeValue::Optional(t)) => {
                Type::Optional(Box::new(self.element(name, t.elem_type.as_deref())?))
            }
            Some(TypeValue::Map(_)) => return Err("maps are not supported".into()),
            Some(TypeValue::SparseTensor(_)) => return Err("sparse tensors are not supported".into()),
            Some(TypeValue::Opaque(_)) => return Err("opaque types are not supported".into()),
            None => return Err("it has no type".into()),
        })
    }

    fn element(&mut self, name: &str, ty: Option<&TypeProto>) -> Result<Type, String> {
        self.declared(name, ty.ok_or("its element type is missing")?)
    }

    fn dimension(&mut self, value: &str, axis: usize, d: &DimensionProto) -> Result<Expr, String> {
        let wanted = match &d.value {
            Some(DimensionValue::Value(n)) if *n < 0 => {
                return Err(format!("dimension {axis} is {n}, expected 0 or more, a name, or nothing"));
            }
            Some(DimensionValue::Value(n)) => return Ok((*n).into()),
            Some(DimensionValue::Param(p)) if !p.is_empty() => p.clone(),
            _ => format!("{value}_d{axis}"),
        };
        let symbol = match self.symbols.get(&wanted) {
            Some(s) => *s,
            None => self.fresh(&wanted),
        };
        let chosen = self.chosen.iter().find(|(n, _)| *n == wanted || n == symbol.name());
        Ok(match chosen {
            Some((name, size)) => {
                self.used.insert(name.clone());
                (*size).into()
            }
            None => symbol.into(),
        })
    }

    /// A symbol for a name that has none yet.
    fn fresh(&mut self, wanted: &str) -> Symbol {
        let base = identifier(wanted);
        let mut symbol = Symbol::new(&base);
        let mut n = 1;
        while !self.taken.insert(symbol) {
            n += 1;
            symbol = Symbol::new(&format!("{base}_v{n}"));
        }
        self.symbols.insert(wanted.to_owned(), symbol);
        symbol
    }

    /// Refuses chosen sizes that fit no dimension or are negative.
    pub(super) fn check_chosen(&self) -> Result<(), String> {
        if let Some((name, size)) = self.chosen.iter().find(|(_, s)| *s < 0) {
            return Err(format!("dimension {name} cannot be {size}; expected 0 or more"));
        }
        let Some((name, _)) = self.chosen.iter().find(|(n, _)| !self.used.contains(n)) else {
            return Ok(());
        };
        let mut known: Vec<&str> = self.taken.iter().map(|s| s.name()).collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(format!("the model has no dimension {name}; its dimensions are: {known}"))
    }
}

/// An identifier that resembles a name.
pub(super) fn identifier(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut out: String = name.chars().map(legal).collect();
    let trimmed = out.trim_matches('_');
    out = if trimmed.is_empty() { "dim".to_owned() } else { trimmed.to_owned() };
    let tail = out.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let compiler_made = out.len() - tail.len() <= 2
        && tail.starts_with(|c: char| c.is_ascii_digit())
        && tail.chars().all(|c| c.is_ascii_digit() || c == '_');
    let starts_right = out.starts_with(|c: char| c.is_ascii_alphabetic());
    if compiler_made || !starts_right || matches!(out.as_str(), "min" | "max" | "inf" | "nan") {
        out.insert_str(0, "dim_");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn names_become_identifiers() {
        assert_eq!(identifier("batch"), "batch");
        assert_eq!(identifier("past + 1"), "past___1");
        assert_eq!(identifier("3x"), "dim_3x");
        assert_eq!(identifier("?"), "dim");
        assert_eq!(identifier("i0"), "dim_i0");
        assert_eq!(identifier("u3_1"), "dim_u3_1");
        assert_eq!(identifier("s1024x"), "s1024x");
    }
}
