//! Winograd's convolution of 3x3 with a stride of 1: for each tile of the result, sixteen or
//! thirty-six products of transformed tiles and weights instead of 36 or 144.
//!
//! `y = At ((G g Gt) * (Bt d B)) A` for a tile `d` of the image and a kernel `g`, summed over channels
//! before the last transformation (A. Lavin and S. Gray, "Fast algorithms for convolutional neural
//! networks", 2016; points 0, 1, -1 and, for tiles of 4, 2 and -2). Burin's own ops: the compiler puts
//! them in the place of Conv where they are faster, with a batched MatMul in between.
//!
//! With `a = tile + 2`: the image `[N, C, tile * th + 2, tile * tw + 2]` becomes
//! `[a, a, N, th, tw, C]`, the weights `[O, C, 3, 3]` become `[a, a, C, O]`, and the products
//! `[a, a, N, th, tw, O]` become `[N, O, height, width]`, cut off at the attribute `shape`.

use super::rules::{self, FLOAT};
use super::{EvalCx, Lower, Meaning, OpRow, Tolerance, one};
use crate::attr::{AttrKind, AttrSpec, Default};
use crate::element::{Element, Term, axes};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::tensor::Tensor;
use crate::types::TensorType;

const TILE: AttrSpec = AttrSpec::new("tile", AttrKind::Int, Default::Required);
const SHAPE: AttrSpec = AttrSpec::new("shape", AttrKind::Ints, Default::Required);

/// The largest sum stands for all: terms have both signs.
const TOLERANCE: Tolerance = Tolerance::Largest(64.0);

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: &[TILE],
        eval: Some(input_eval),
        tolerance: TOLERANCE,
        samples: &["WinogradInput(f32[2,3,6,10]) {tile = 4}", "WinogradInput(f32[1,17,4,8]) {tile = 2}"],
        ..OpRow::new(
            "WinogradInput",
            None,
            &[one("image")],
            input_infer,
            Meaning::Primitive(Lower::Element(input_element)),
        )
    },
    OpRow {
        attrs: &[TILE],
        eval: Some(weights_eval),
        tolerance: TOLERANCE,
        samples: &["WinogradWeights(f32[4,3,3,3]) {tile = 4}", "WinogradWeights(f64[2,17,3,3]) {tile = 2}"],
        ..OpRow::new(
            "WinogradWeights",
            None,
            &[one("weights")],
            weights_infer,
            Meaning::Primitive(Lower::Element(weights_element)),
        )
    },
    OpRow {
        attrs: &[TILE, SHAPE],
        eval: Some(output_eval),
        tolerance: TOLERANCE,
        samples: &[
            "WinogradOutput(f32[6,6,1,2,2,17]) {tile = 4, shape = [7, 5]}",
            "WinogradOutput(f32[4,4,2,3,1,3]) {tile = 2, shape = [6, 2]}",
        ],
        ..OpRow::new(
            "WinogradOutput",
            None,
            &[one("products")],
            output_infer,
            Meaning::Primitive(Lower::Element(output_element)),
        )
    },
];

/// The matrices of a tile size, by rows.
struct Matrices {
    tile: i64,
    /// `Bt`.
    input: &'static [&'static [f64]],
    /// `G`.
    weights: &'static [&'static [f64]],
    /// `At`.
    output: &'static [&'static [f64]],
}

const TWO: Matrices = Matrices {
    tile: 2,
    input: &[&[1., 0., -1., 0.], &[0., 1., 1., 0.], &[0., -1., 1., 0.], &[0., 1., 0., -1.]],
    weights: &[&[1., 0., 0.], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0., 0., 1.]],
    output: &[&[1., 1., 1., 0.], &[0., 1., -1., -1.]],
};

const FOUR: Matrices = Matrices {
    tile: 4,
    input: &[
        &[4., 0., -5., 0., 1., 0.],
        &[0., -4., -4., 1., 1., 0.],
        &[0., 4., -4., -1., 1., 0.],
        &[0., -2., -1., 2., 1., 0.],
        &[0., 2., -1., -2., 1., 0.],
        &[0., 4., 0., -5., 0., 1.],
    ],
    weights: &[
        &[0.25, 0., 0.],
        &[-1. / 6., -1. / 6., -1. / 6.],
        &[-1. / 6., 1. / 6., -1. / 6.],
        &[1. / 24., 1. / 12., 1. / 6.],
        &[1. / 24., -1. / 12., 1. / 6.],
        &[0., 0., 1.],
    ],
    output: &[
        &[1., 1., 1., 1., 1., 0.],
        &[0., 1., -1., 2., -2., 0.],
        &[0., 1., 1., 4., 4., 0.],
        &[0., 1., -1., 8., -8., 1.],
    ],
};

fn matrices(cx: &Cx<'_>) -> Result<&'static Matrices, String> {
    match cx.int("tile") {
        2 => Ok(&TWO),
        4 => Ok(&FOUR),
        other => Err(format!("tile is {other}, expected 2 or 4")),
    }
}

/// The row of the matrix that `at` numbers, times the terms.
fn transformed(matrix: &[&[f64]], at: &Expr, terms: &[Term]) -> Term {
    let row = |coefficients: &[f64]| {
        let products = coefficients.iter().zip(terms).filter(|(c, _)| **c != 0.0);
        let product = |(c, t): (&f64, &Term)| if *c == 1.0 { t.clone() } else { t.clone() * t.lit(*c) };
        let sum = products.map(product).reduce(|a, b| a + b);
        sum.unwrap_or_else(|| terms[0].lit(0.0))
    };
    let (last, rest) = matrix.split_last().unwrap_or((&matrix[0], &[]));
    rest.iter().enumerate().rev().fold(row(last), |otherwise, (k, coefficients)| {
        let is = at - &Expr::from(k);
        Term::when(vec![is.clone(), -&is], row(coefficients), otherwise)
    })
}

/// Both sides: `matrix * terms * matrix^t`, at row `i` and column `j`; `term` gives the square's.
fn both_sides(matrix: &[&[f64]], (i, j): (&Expr, &Expr), term: impl Fn(i64, i64) -> Term) -> Term {
    let size = matrix[0].len() as i64;
    let columns: Vec<Term> = (0..size)
        .map(|s| transformed(matrix, i, &(0..size).map(|r| term(r, s)).collect::<Vec<_>>()))
        .collect();
    transformed(matrix, j, &columns)
}

fn input_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let m = matrices(cx)?;
    let dtype = cx.dtype(0)?;
    rules::expect("input 0", dtype, FLOAT)?;
    let [n, c, height, width] = cx.shape(0)? else {
        return Err(format!("input 0 has shape {}, expected rank 4", rules::show(cx.shape(0)?)));
    };
    let tiles = |e: &Expr| {
        let inner = e - &Expr::from(2);
        let exact = inner.as_const().is_some_and(|n| n >= 0 && n % m.tile == 0);
        exact.then(|| inner.floor_div(&m.tile.into())).ok_or(format!("{e} is not 2 more than whole tiles"))
    };
    let a = Expr::from(m.tile + 2);
    let shape = vec![a.clone(), a, n.clone(), tiles(height)?, tiles(width)?, c.clone()];
    Ok(vec![TensorType::new(dtype, shape).into()])
}

fn input_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (m, dtype, axes) = (matrices(cx)?, cx.dtype(0)?, axes(6));
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let body = both_sides(m.input, (&at[0], &at[1]), |r, s| {
        let place = vec![at[2].clone(), at[5].clone(), &at[3] * m.tile + r, &at[4] * m.tile + s];
        Term::load(dtype, 0, place)
    });
    Ok(Element { axes, body })
}

fn weights_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let m = matrices(cx)?;
    let dtype = cx.dtype(0)?;
    rules::expect("input 0", dtype, FLOAT)?;
    match cx.shape(0)? {
        [o, c, h, w] if *h == 3 && *w == 3 => {
            let a = Expr::from(m.tile + 2);
            Ok(vec![TensorType::new(dtype, vec![a.clone(), a, c.clone(), o.clone()]).into()])
        }
        other => Err(format!("input 0 has shape {}, expected [O, C, 3, 3]", rules::show(other))),
    }
}

fn weights_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (m, dtype, axes) = (matrices(cx)?, cx.dtype(0)?, axes(4));
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let body = both_sides(m.weights, (&at[0], &at[1]), |r, s| {
        Term::load(dtype, 0, vec![at[3].clone(), at[2].clone(), r.into(), s.into()])
    });
    Ok(Element { axes, body })
}

fn output_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let m = matrices(cx)?;
    let dtype = cx.dtype(0)?;
    rules::expect("input 0", dtype, FLOAT)?;
    let [a, b, n, th, tw, o] = cx.shape(0)? else {
        return Err(format!("input 0 has shape {}, expected rank 6", rules::show(cx.shape(0)?)));
    };
    let sizes = cx.attrs.ints("shape").unwrap_or_default();
    let fits = |tiles: &Expr, size: i64| {
        tiles.as_const().is_none_or(|t| size > (t - 1) * m.tile && size <= t * m.tile)
    };
    match sizes {
        [h, w] if *a == m.tile + 2 && *b == m.tile + 2 && fits(th, *h) && fits(tw, *w) => {
            Ok(vec![TensorType::new(dtype, vec![n.clone(), o.clone(), (*h).into(), (*w).into()]).into()])
        }
        _ => Err(format!("shape is {sizes:?}, which {} does not make", rules::show(cx.shape(0)?))),
    }
}

fn output_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (m, dtype, axes) = (matrices(cx)?, cx.dtype(0)?, axes(4));
    let at: Vec<Expr> = axes.iter().map(|s| (*s).into()).collect();
    let tile = Expr::from(m.tile);
    let (th, tw) = (at[2].floor_div(&tile), at[3].floor_div(&tile));
    let within = (&at[2].modulo(&tile), &at[3].modulo(&tile));
    let body = both_sides(m.output, within, |r, s| {
        Term::load(dtype, 0, vec![r.into(), s.into(), at[0].clone(), th.clone(), tw.clone(), at[1].clone()])
    });
    Ok(Element { axes, body })
}

/// `matrix * square * matrix^t`.
fn both_sides_of(matrix: &[&[f64]], square: &dyn Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let size = matrix[0].len();
    let left: Vec<Vec<f64>> = matrix
        .iter()
        .map(|row| (0..size).map(|s| (0..size).map(|r| row[r] * square(r, s)).sum()).collect())
        .collect();
    let right = |l: &Vec<f64>| matrix.iter().map(|row| row.iter().zip(l).map(|(c, v)| c * v).sum()).collect();
    left.iter().map(right).collect()
}

fn result(e: &EvalCx<'_>, fill: impl FnOnce(&[usize], &mut [f64])) -> Result<Vec<Tensor>, String> {
    let shape = e.outputs[0].static_shape().ok_or("the result's shape is not known")?;
    let mut out = vec![0.0; shape.iter().product()];
    fill(&shape, &mut out);
    Ok(vec![Tensor::from_f64s(e.input(0).dtype(), &shape, &out)])
}

fn input_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let m = matrices(e.cx)?;
    let (x, dims) = (e.input(0).to_f64s(), e.input(0).shape().to_vec());
    let tile = m.tile as usize;
    result(e, |shape, out| {
        let [a, _, n, th, tw, c] = shape else { return };
        let plane = n * th * tw * c;
        for at in 0..plane {
            let (channel, rest) = (at % c, at / c);
            let (w, h, batch) = (rest % tw, rest / tw % th, rest / tw / th);
            let image = (batch * c + channel) * dims[2];
            let square = |r, s| x[(image + h * tile + r) * dims[3] + w * tile + s];
            for (i, row) in both_sides_of(m.input, &square).iter().enumerate() {
                for (j, v) in row.iter().enumerate() {
                    out[(i * a + j) * plane + at] = *v;
                }
            }
        }
    })
}

fn weights_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let m = matrices(e.cx)?;
    let w = e.input(0).to_f64s();
    result(e, |shape, out| {
        let [a, _, c, o] = shape else { return };
        for channel in 0..*o {
            for depth in 0..*c {
                let kernel = &w[(channel * c + depth) * 9..][..9];
                let made = both_sides_of(m.weights, &|r, s| kernel[r * 3 + s]);
                for (i, row) in made.iter().enumerate() {
                    for (j, v) in row.iter().enumerate() {
                        out[((i * a + j) * c + depth) * o + channel] = *v;
                    }
                }
            }
        }
    })
}

fn output_eval(e: &EvalCx<'_>) -> Result<Vec<Tensor>, String> {
    let m = matrices(e.cx)?;
    let (x, dims) = (e.input(0).to_f64s(), e.input(0).shape().to_vec());
    let tile = m.tile as usize;
    result(e, |shape, out| {
        let [n, o, height, width] = shape else { return };
        let (a, th, tw) = (dims[0], dims[3], dims[4]);
        for at in 0..n * th * tw * o {
            let (channel, rest) = (at % o, at / o);
            let (w, h, batch) = (rest % tw, rest / tw % th, rest / tw / th);
            let square = |r: usize, s: usize| x[(r * a + s) * n * th * tw * o + at];
            for (i, row) in both_sides_of(m.output, &square).iter().enumerate() {
                for (j, v) in row.iter().enumerate() {
                    let (y, x) = (h * tile + i, w * tile + j);
                    if y < *height && x < *width {
                        out[((batch * o + channel) * height + y) * width + x] = *v;
                    }
                }
            }
        }
    })
}
