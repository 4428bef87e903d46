//! Counting n-grams: TfIdfVectorizer.
//!
//! Each n-gram of the pool is compared with what lies at every place, item by item; the counts follow by
//! summing over the places. Items are integers or texts.

use super::compose::{Built, Inputs, cast, operand};
use super::rules::{self, SIGNED, TEXT};
use super::{Meaning, OpRow, one};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The family.
pub const ROWS: &[OpRow] = &[OpRow {
    attrs: &[
        AttrSpec::new("max_gram_length", AttrKind::Int, Default::Required),
        AttrSpec::new("max_skip_count", AttrKind::Int, Default::Required),
        AttrSpec::new("min_gram_length", AttrKind::Int, Default::Required),
        AttrSpec::new("mode", AttrKind::Str, Default::Required),
        AttrSpec::new("ngram_counts", AttrKind::Ints, Default::Required),
        AttrSpec::new("ngram_indexes", AttrKind::Ints, Default::Required),
        AttrSpec::new("pool_int64s", AttrKind::Ints, Default::Absent),
        AttrSpec::new("pool_strings", AttrKind::Strs, Default::Absent),
        AttrSpec::new("weights", AttrKind::Floats, Default::Absent),
    ],
    samples: &[
        "TfIdfVectorizer(i32[2,6] in 0..4) {max_gram_length = 2, max_skip_count = 1, min_gram_length = 1, \
         mode = \"TF\", ngram_counts = [0, 2], ngram_indexes = [3, 0, 2, 1], pool_int64s = [2, 3, 1, 2, 3, 3]}",
        "TfIdfVectorizer(text[5]) {max_gram_length = 2, max_skip_count = 0, min_gram_length = 2, \
         mode = \"TFIDF\", ngram_counts = [0, 1], ngram_indexes = [0, 1, 2], \
         pool_strings = [\"a\", \"a\", \"b\", \"b\", \"b\"], weights = [1.0, 0.5, 2.0]}",
        "TfIdfVectorizer(i64[1] = [3]) {max_gram_length = 3, max_skip_count = 0, min_gram_length = 3, \
         mode = \"IDF\", ngram_counts = [0, 0, 0], ngram_indexes = [0], pool_int64s = [3, 3, 3]}",
    ],
    ..OpRow::new(
        "TfIdfVectorizer",
        Some(("", 9)),
        &[one("X")],
        tf_idf_infer,
        Meaning::Composite(tf_idf_build),
    )
}];

/// The most places of the result: constants are written that have as many elements.
const MOST_PLACES: usize = 1 << 21;
/// The most items that are skipped: for each number of them the places are compared anew.
const MOST_SKIPS: usize = 1 << 7;

/// The n-grams of one length.
struct Grams {
    /// How many items one has.
    length: usize,
    /// The items, `[n-grams, length]`.
    items: Tensor,
}

/// What the attributes say.
struct Pool {
    grams: Vec<Grams>,
    /// The element of the result that each n-gram is counted in.
    places: Vec<usize>,
    weights: Vec<f64>,
}

impl Pool {
    fn of(cx: &Cx<'_>) -> Result<Pool, String> {
        let items = match (cx.attrs.ints("pool_int64s"), cx.attrs.strs("pool_strings")) {
            (Some(items), None | Some([])) => Tensor::new(&[items.len()], items),
            (None | Some([]), Some(items)) => Tensor::texts(&[items.len()], items),
            _ => return Err("expected one of the attributes pool_int64s and pool_strings".into()),
        };
        let starts = cx.attrs.ints("ngram_counts").unwrap_or_default();
        let ends = starts.iter().skip(1).copied().chain([items.len() as i64]);
        let (mut grams, mut first) = (Vec::new(), 0);
        for (i, (start, end)) in starts.iter().zip(ends).enumerate() {
            let length = i + 1;
            let fits = 0 <= *start && *start <= end && end <= items.len() as i64;
            let size = end.saturating_sub(*start) as usize;
            if !fits || !size.is_multiple_of(length) {
                return Err(format!(
                    "ngram_counts {starts:?} do not cut a pool of {} items into n-grams",
                    items.len()
                ));
            }
            let taken = (*start as usize..end as usize).map(|i| items.get(i));
            let shape = [size / length, length];
            grams.push(Grams { length, items: Tensor::from_scalars(items.dtype(), &shape, taken) });
            first += size / length;
        }
        let indexes = cx.attrs.ints("ngram_indexes").unwrap_or_default();
        let weights = cx.attrs.floats("weights").filter(|w| !w.is_empty());
        let weights = weights.map_or_else(|| vec![1.0; first], <[f64]>::to_vec);
        let places: Option<Vec<usize>> = indexes.iter().map(|i| usize::try_from(*i).ok()).collect();
        if let Some(place) = places.iter().flatten().find(|p| **p >= MOST_PLACES) {
            return Err(format!("ngram_indexes name place {place}, expected places below {MOST_PLACES}"));
        }
        match places {
            Some(places) if places.len() == first && weights.len() == first && first > 0 => {
                Ok(Pool { grams, places, weights })
            }
            _ => Err(format!(
                "ngram_indexes {indexes:?} and {} weights, expected one of each for {first} n-grams",
                weights.len()
            )),
        }
    }

    /// The size of the result.
    fn width(&self) -> usize {
        self.places.iter().max().map_or(0, |m| m + 1)
    }

    /// For each element of the result the n-gram that it counts; `none` where there is none.
    fn counted(&self, none: i64) -> Result<Vec<i64>, String> {
        let mut out = vec![none; self.width()];
        for (gram, place) in self.places.iter().enumerate() {
            if std::mem::replace(&mut out[*place], gram as i64) != none {
                return Err(format!("two n-grams have the number {place} of ngram_indexes"));
            }
        }
        Ok(out)
    }
}

fn tf_idf_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, pool) = (cx.ty(0)?, Pool::of(cx)?);
    let texts = pool.grams.iter().any(|g| g.items.dtype() == DType::Text);
    rules::expect("input 0", x.dtype, if texts { TEXT } else { SIGNED })?;
    let width = pool.width();
    pool.counted(-1)?;
    skips(cx)?;
    let shape = match &x.shape[..] {
        [_] => vec![width.into()],
        [rows, _] => vec![rows.clone(), width.into()],
        _ => return Err(format!("input 0 is {x}, expected a shape [C] or [N, C]")),
    };
    Ok(vec![TensorType::new(DType::F32, shape).into()])
}

/// How many items at most may be skipped between two of an n-gram.
fn skips(cx: &Cx<'_>) -> Result<usize, String> {
    let count = cx.int("max_skip_count");
    usize::try_from(count)
        .ok()
        .filter(|n| *n <= MOST_SKIPS)
        .ok_or_else(|| format!("max_skip_count is {count}, expected 0 to {MOST_SKIPS}"))
}

fn tf_idf_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(mut x) = operand(inputs, 0) else { return Ok(None) };
    let pool = Pool::of(cx)?;
    if cx.dtype(0)? != DType::Text {
        x = cast(b, x, DType::I64)?;
    }
    let flat = cx.ty(0)?.rank() == 1;
    let first = list(b, &[0]);
    if flat {
        x = b.op("Unsqueeze", &[x, first], vec![])?;
    }
    let wanted = cx.int("min_gram_length")..=cx.int("max_gram_length");
    let skips = skips(cx)?;
    let mut columns = Vec::new();
    for grams in &pool.grams {
        let gaps = if grams.length == 1 { 1 } else { skips + 1 };
        let mut sum = zeros(b, x, grams.items.shape()[0])?;
        if wanted.contains(&(grams.length as i64)) && !grams.items.is_empty() {
            for gap in 1..=gaps {
                // Wider gaps are not found either.
                let Some(count) = count(b, x, grams, gap)? else { break };
                sum = b.op("Add", &[sum, count], vec![])?;
            }
        }
        columns.push(sum);
    }
    // What no n-gram is counted in takes a column of zeros.
    columns.push(zeros(b, x, 1)?);
    let counts = b.op("Concat", &columns, vec![("axis", Attr::Int(1))])?;
    let all = pool.places.len();
    let places = list(b, &pool.counted(all as i64)?);
    let counts = b.op("Gather", &[counts, places], vec![("axis", Attr::Int(1))])?;
    let mut weights = vec![0.0; pool.width()];
    pool.places.iter().zip(&pool.weights).for_each(|(p, w)| weights[*p] = *w);
    let weights = b.constant(Tensor::from_f64s(DType::F32, &[weights.len()], &weights));
    let mut result = match cx.attrs.str("mode") {
        Some("TF") => counts,
        Some("TFIDF") => b.op("Mul", &[counts, weights], vec![])?,
        Some("IDF") => {
            let one = b.constant(Tensor::new(&[], &[1f32]));
            let there = b.op("Min", &[counts, one], vec![])?;
            b.op("Mul", &[there, weights], vec![])?
        }
        other => return Err(format!("mode is {other:?}, expected TF, IDF or TFIDF")),
    };
    if flat {
        result = b.op("Squeeze", &[result, first], vec![])?;
    }
    Ok(Some(vec![result]))
}

fn list(b: &mut Builder<'_>, values: &[i64]) -> Value {
    b.constant(Tensor::new(&[values.len()], values))
}

/// Zeros, `[rows of x, width]`.
fn zeros(b: &mut Builder<'_>, x: Value, width: usize) -> Result<Value, String> {
    let rows = b.op("Shape", &[x], vec![("start", Attr::Int(0)), ("end", Attr::Int(1))])?;
    let width = list(b, &[width as i64]);
    let shape = b.op("Concat", &[rows, width], vec![("axis", Attr::Int(0))])?;
    let zero = b.constant(Tensor::new(&[1], &[0f32]));
    b.op("Expand", &[zero, shape], vec![])
}

/// How often each n-gram stands in each row, its items so many places apart; `None` where no row is long
/// enough.
fn count(b: &mut Builder<'_>, x: Value, grams: &Grams, gap: usize) -> Result<Option<Value>, String> {
    let span = (grams.length - 1) * gap;
    if b.ty(x)?.shape[1].as_const().is_some_and(|n| n <= span as i64) {
        return Ok(None);
    }
    let (axis, last) = (list(b, &[1]), list(b, &[-1]));
    let mut equal: Option<Value> = None;
    for item in 0..grams.length {
        // The places at which this item of an n-gram that fits into the row may stand.
        let (start, behind) = ((item * gap) as i64, (span - item * gap) as i64);
        let end = if behind == 0 { i64::MAX } else { -behind };
        let (start, end) = (list(b, &[start]), list(b, &[end]));
        let there = b.op("Slice", &[x, start, end, axis], vec![])?;
        let there = b.op("Unsqueeze", &[there, last], vec![])?;
        let wanted = (0..grams.items.shape()[0]).map(|g| grams.items.get(g * grams.length + item));
        let wanted = Tensor::from_scalars(grams.items.dtype(), &[grams.items.shape()[0]], wanted);
        let wanted = b.constant(wanted);
        let here = b.op("Equal", &[there, wanted], vec![])?;
        equal = Some(match equal {
            Some(before) => b.op("And", &[before, here], vec![])?,
            None => here,
        });
    }
    let Some(equal) = equal else { return Ok(None) };
    let numbers = cast(b, equal, DType::F32)?;
    Ok(Some(b.op("ReduceSum", &[numbers, axis], vec![("keepdims", Attr::Int(0))])?))
}
