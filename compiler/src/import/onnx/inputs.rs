//! Types of the inputs: named, numbered and unknown dimensions.
//!
//! A dimension that the model names becomes a symbol of that name, made an identifier; one that it
//! leaves open gets a symbol of its own, such as `input_d0`. Different names never become one symbol,
//! and no symbol can be mistaken for one that the compiler makes (`i0`, `k1`, `u3_1`).

use super::proto::{DimensionValue, TensorTypeProto};
use super::tensor;
use burin_ir::{Expr, Symbol, TensorType};
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

    /// The type of a tensor of that name, as the model declares it. Where the model gives no shape, one
    /// has to be `stated`. An element of a sequence (`own`) shares no named dimension with other tensors,
    /// since elements of one declared type may have different sizes.
    pub(super) fn declared(
        &mut self,
        name: &str,
        own: bool,
        t: &TensorTypeProto,
        stated: Option<&[DimensionValue]>,
    ) -> Result<TensorType, String> {
        let dtype = tensor::dtype(t.elem_type.into())?;
        let declared = t.shape.as_ref().map(|s| s.dim.iter().map(|d| d.value.clone()).collect::<Vec<_>>());
        let (values, own) = match (declared, stated) {
            (Some(declared), None) => (declared, own),
            (declared, Some(stated)) => (agreed(declared, stated)?, false),
            (None, None) => {
                return Err(format!(
                    "its rank is unknown; expected a shape (unknown dimensions may be named or left open): \
                     give --shape {name}=D,D,.."
                ));
            }
        };
        let dims = values.iter().enumerate().map(|(i, d)| self.dimension(name, i, d.as_ref(), own));
        let dims: Vec<Expr> = dims.collect::<Result<_, _>>()?;
        let ty = TensorType::new(dtype, dims);
        ty.check_size()?;
        Ok(ty)
    }

    fn dimension(
        &mut self,
        value: &str,
        axis: usize,
        d: Option<&DimensionValue>,
        own: bool,
    ) -> Result<Expr, String> {
        let named = match d {
            Some(DimensionValue::Value(n)) if *n < 0 => {
                return Err(format!("dimension {axis} is {n}, expected 0 or more, a name, or nothing"));
            }
            Some(DimensionValue::Value(n)) => return Ok((*n).into()),
            Some(DimensionValue::Param(p)) if !p.is_empty() => Some(p),
            _ => None,
        };
        let wanted = match named {
            Some(p) if own => format!("{value}_{p}"),
            Some(p) => p.clone(),
            None => format!("{value}_d{axis}"),
        };
        let symbol = match self.symbols.get(&wanted) {
            Some(s) => *s,
            None => self.fresh(&wanted),
        };
        let means = |n: &String| *n == wanted || n == symbol.name() || Some(n) == named;
        let chosen = self.chosen.iter().find(|(n, _)| means(n));
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

/// The dimensions that are stated, where they agree with the declared ones.
fn agreed(
    declared: Option<Vec<Option<DimensionValue>>>,
    stated: &[DimensionValue],
) -> Result<Vec<Option<DimensionValue>>, String> {
    let stated: Vec<_> = stated.iter().cloned().map(Some).collect();
    let Some(declared) = declared else { return Ok(stated) };
    if declared.len() != stated.len() {
        return Err(format!("--shape states {} dimensions, but the model {}", stated.len(), declared.len()));
    }
    let each = |(d, s)| match (d, s) {
        (Some(DimensionValue::Value(d)), Some(DimensionValue::Value(s))) if d != s => {
            Err(format!("--shape states a dimension of {s}, but the model one of {d}"))
        }
        (Some(DimensionValue::Value(d)), _) => Ok(Some(DimensionValue::Value(d))),
        (_, s) => Ok(s),
    };
    declared.into_iter().zip(stated).map(each).collect()
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
