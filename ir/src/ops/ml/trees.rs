//! Ensembles of decision trees.
//!
//! A forest's nodes are tables, which are constant operands: the branches first, then the leaves, which
//! are their own children. [`TreeWalk`](ROWS), Burin's own op, goes so many levels down all trees at
//! once, from each row's nodes to the nodes reached; the weights of the leaves are then gathered and
//! combined. What a branch tests is a set of outcomes of comparing a feature with its threshold: less,
//! equal, greater, or not to be compared (NaN).

use super::forest::{EQUAL, Forest, GREATER, LESS, UNORDERED};
use super::linear::{class_labels, classified, features, matrix};
use super::scores::{self, Second};
use super::{DOMAIN, POST_TRANSFORM, constant, floats, ints, list, number, numbers, tensor};
use crate::attr::{Attr, AttrKind, AttrSpec, Default};
use crate::dtype::DType;
use crate::element::{Element, Term, reduction};
use crate::expr::Expr;
use crate::graph::infer::{Cx, Info};
use crate::graph::{Builder, Value};
use crate::ops::compose::{Built, Inputs, cast, operand};
use crate::ops::contract::shared;
use crate::ops::interpolate::{clamped, int};
use crate::ops::rules::{self, FLOAT, indices};
use crate::ops::{Lower, Meaning, OpRow, Tolerance, one, opt};
use crate::scalar::{Scalar, ScalarOp as S};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The attributes of the nodes of TreeEnsembleRegressor and TreeEnsembleClassifier, and more.
macro_rules! node_attrs {
    ($($more:expr),* $(,)?) => {
        &[
            floats("base_values"),
            tensor("base_values_as_tensor"),
            ints("nodes_falsenodeids"),
            ints("nodes_featureids"),
            floats("nodes_hitrates"),
            tensor("nodes_hitrates_as_tensor"),
            ints("nodes_missing_value_tracks_true"),
            AttrSpec::new("nodes_modes", AttrKind::Strs, Default::Absent),
            ints("nodes_nodeids"),
            ints("nodes_treeids"),
            ints("nodes_truenodeids"),
            floats("nodes_values"),
            tensor("nodes_values_as_tensor"),
            POST_TRANSFORM,
            $($more),*
        ]
    };
}

/// The family.
pub const ROWS: &[OpRow] = &[
    OpRow {
        attrs: node_attrs![
            AttrSpec::new("aggregate_function", AttrKind::Str, Default::Str("SUM")),
            AttrSpec::new("n_targets", AttrKind::Int, Default::Int(1)),
            ints("target_ids"),
            ints("target_nodeids"),
            ints("target_treeids"),
            floats("target_weights"),
            tensor("target_weights_as_tensor"),
        ],
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "TreeEnsembleRegressor(f32[9,2]) {base_values = [0.5], nodes_falsenodeids = [2, 0, 4, 0, 0, 2, 0, 0], \
             nodes_featureids = [0, 0, 1, 0, 0, 1, 0, 0], \
             nodes_modes = [\"BRANCH_LEQ\", \"LEAF\", \"BRANCH_GT\", \"LEAF\", \"LEAF\", \"BRANCH_LT\", \"LEAF\", \"LEAF\"], \
             nodes_nodeids = [0, 1, 2, 3, 4, 0, 1, 2], nodes_treeids = [0, 0, 0, 0, 0, 1, 1, 1], \
             nodes_truenodeids = [1, 0, 3, 0, 0, 1, 0, 0], nodes_values = [0.0, 0.0, 0.5, 0.0, 0.0, 0.25, 0.0, 0.0], \
             target_ids = [0, 0, 0, 0, 0], target_nodeids = [1, 3, 4, 1, 2], target_treeids = [0, 0, 0, 1, 1], \
             target_weights = [1.0, 2.5, -1.0, 0.25, 0.75]}",
            "TreeEnsembleRegressor(f64[7,1]) {aggregate_function = \"MIN\", n_targets = 2, \
             nodes_falsenodeids = [2, 0, 0], nodes_featureids = [0, 0, 0], \
             nodes_missing_value_tracks_true = [1, 0, 0], nodes_modes = [\"BRANCH_EQ\", \"LEAF\", \"LEAF\"], \
             nodes_nodeids = [0, 1, 2], nodes_treeids = [0, 0, 0], nodes_truenodeids = [1, 0, 0], \
             nodes_values = [0.0, 0.0, 0.0], target_ids = [0, 1, 0], target_nodeids = [1, 2, 2], \
             target_treeids = [0, 0, 0], target_weights = [1.0, 2.5, -1.0]}",
        ],
        ..OpRow::new(
            "TreeEnsembleRegressor",
            Some((DOMAIN, 3)),
            &[one("X")],
            regressor_infer,
            Meaning::Composite(regressor_build),
        )
    },
    OpRow {
        outputs: (1, 2),
        attrs: node_attrs![
            ints("class_ids"),
            ints("class_nodeids"),
            ints("class_treeids"),
            floats("class_weights"),
            tensor("class_weights_as_tensor"),
            ints("classlabels_int64s"),
            AttrSpec::new("classlabels_strings", AttrKind::Strs, Default::Absent),
        ],
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "TreeEnsembleClassifier(f32[9,1]) {class_ids = [0, 0, 0], class_nodeids = [1, 3, 4], \
             class_treeids = [0, 0, 0], class_weights = [0.25, 0.5, 0.75], classlabels_int64s = [5, 7], \
             nodes_falsenodeids = [2, 0, 4, 0, 0], nodes_featureids = [0, 0, 0, 0, 0], \
             nodes_modes = [\"BRANCH_LEQ\", \"LEAF\", \"BRANCH_LEQ\", \"LEAF\", \"LEAF\"], \
             nodes_nodeids = [0, 1, 2, 3, 4], nodes_treeids = [0, 0, 0, 0, 0], \
             nodes_truenodeids = [1, 0, 3, 0, 0], nodes_values = [0.0, 0.0, 0.5, 0.0, 0.0]} -> 2",
            "TreeEnsembleClassifier(i32[6,2]) {base_values = [0.0, 0.25, 0.0], class_ids = [0, 1, 2, 0], \
             class_nodeids = [1, 1, 2, 2], class_treeids = [0, 0, 0, 0], class_weights = [0.25, 0.5, 0.75, -1.0], \
             classlabels_int64s = [5, 7, 9], nodes_falsenodeids = [2, 0, 0], nodes_featureids = [1, 0, 0], \
             nodes_modes = [\"BRANCH_GTE\", \"LEAF\", \"LEAF\"], nodes_nodeids = [0, 1, 2], nodes_treeids = [0, 0, 0], \
             nodes_truenodeids = [1, 0, 0], nodes_values = [1.0, 0.0, 0.0], post_transform = \"SOFTMAX\"} -> 2",
        ],
        ..OpRow::new(
            "TreeEnsembleClassifier",
            Some((DOMAIN, 3)),
            &[one("X")],
            classifier_infer,
            Meaning::Composite(classifier_build),
        )
    },
    OpRow {
        attrs: &[
            AttrSpec::new("aggregate_function", AttrKind::Int, Default::Int(1)),
            ints("leaf_targetids"),
            tensor("leaf_weights"),
            tensor("membership_values"),
            AttrSpec::new("n_targets", AttrKind::Int, Default::Int(1)),
            ints("nodes_falseleafs"),
            ints("nodes_falsenodeids"),
            ints("nodes_featureids"),
            tensor("nodes_hitrates"),
            ints("nodes_missing_value_tracks_true"),
            tensor("nodes_modes"),
            tensor("nodes_splits"),
            ints("nodes_trueleafs"),
            ints("nodes_truenodeids"),
            AttrSpec::new("post_transform", AttrKind::Int, Default::Int(0)),
            ints("tree_roots"),
        ],
        tolerance: Tolerance::Largest(16.0),
        samples: &[
            "TreeEnsemble(f32[8,2] in 0..4) {leaf_targetids = [0, 1, 1], leaf_weights = f32[3] [1.5, 2.5, -1.0], \
             membership_values = f32[3] [1.0, 3.0, nan], n_targets = 2, nodes_falseleafs = [1, 0], \
             nodes_falsenodeids = [2, 0], nodes_featureids = [0, 1], nodes_modes = u8[2] [0, 6], \
             nodes_splits = f32[2] [1.5, 0.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], tree_roots = [0]}",
        ],
        ..OpRow::new(
            "TreeEnsemble",
            Some((DOMAIN, 5)),
            &[one("X")],
            ensemble_infer,
            Meaning::Composite(ensemble_build),
        )
    },
    OpRow {
        checks: Some(|cx| {
            let most = table(cx, 2, "features")?.into_iter().max().unwrap_or(0);
            Ok(cx.shape(0)?.last().map(|width| width - 1 - most).into_iter().collect())
        }),
        attrs: &[
            AttrSpec::new("steps", AttrKind::Int, Default::Required),
            AttrSpec::new("test", AttrKind::Int, Default::Int(0)),
        ],
        samples: &[
            "TreeWalk(f32[6,2], i32[1,2] = [0, 1], i32[5] = [0, 1, 0, 0, 0], f32[5] = [0.0, 0.5, 0.0, 0.0, 0.0], \
             i32[5,2] = [2, 1, 3, 4, 2, 2, 3, 3, 4, 4]) {steps = 2, test = 3}",
            "TreeWalk(f64[6,2], i32[1,1] = [0], i32[5] = [0, 1, 0, 0, 0], f64[5] = [0.0, 0.5, 0.0, 0.0, 0.0], \
             i32[5,2] = [2, 1, 3, 4, 2, 2, 3, 3, 4, 4], i32[5] = [12, 13, 0, 0, 0]) {steps = 3}",
        ],
        ..OpRow::new(
            "TreeWalk",
            None,
            &[one("X"), one("at"), one("features"), one("values"), one("children"), opt("tests")],
            walk_infer,
            Meaning::Primitive(Lower::Element(walk_element)),
        )
    },
];

/// The integers of a table that must be a constant.
fn table(cx: &Cx<'_>, i: usize, what: &str) -> Result<Vec<i64>, String> {
    let t = cx.arg(i).and_then(|a| a.data.as_ref());
    let t = t.ok_or_else(|| format!("input {i} ({what}) must be a constant"))?;
    match t.dtype() {
        DType::I32 => Ok(t.to_i64s()),
        other => Err(format!("input {i} ({what}) has elements of {other}, expected i32")),
    }
}

/// Nodes are numbers of rows of the tables; children and features are checked here, since they are
/// followed without being looked at again.
fn walk_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let (x, at, values) = (cx.ty(0)?, cx.ty(1)?, cx.ty(3)?);
    rules::expect("input 0", x.dtype, FLOAT)?;
    let (features, children) = (table(cx, 2, "features")?, table(cx, 4, "children")?);
    let nodes = features.len() as i64;
    let inside = children.len() as i64 == 2 * nodes && children.iter().all(|c| (0..nodes).contains(c));
    let width = x.shape.last().and_then(Expr::as_const).unwrap_or(i64::MAX);
    if nodes == 0 || !inside || features.iter().any(|f| !(0..width).contains(f)) {
        return Err(format!("{nodes} nodes with children or features that there are not, for {x}"));
    }
    let sizes = values.shape.len() == 1 && values.shape[0] == nodes && cx.shape(4)?.len() == 2;
    let tests =
        !cx.has(5) || (cx.dtype(5)? == DType::I32 && cx.shape(5)?.len() == 1 && cx.shape(5)?[0] == nodes);
    if x.rank() != 2
        || at.rank() != 2
        || at.dtype != DType::I32
        || values.dtype != x.dtype
        || !sizes
        || !tests
    {
        return Err(format!("{x} from nodes {at} with values {values}, expected tables of {nodes} nodes"));
    }
    let rows = rules::broadcast_dim(&x.shape[0], &at.shape[0]);
    let rows = rows.ok_or_else(|| format!("{x} from nodes {at}: the rows differ"))?;
    Ok(vec![TensorType::new(DType::I32, [shared(&x.shape[0], &rows, "rows")?, at.shape[1].clone()]).into()])
}

/// Whether a comparison has one of a set of outcomes.
fn outcome(x: &Term, value: &Term, test: i64) -> Option<Term> {
    let is = |op: S| x.binary(op, value);
    let not = |t: Term| t.unary(S::Not);
    const LESS_EQUAL: i64 = LESS | EQUAL;
    const GREATER_EQUAL: i64 = GREATER | EQUAL;
    Some(match test & UNORDERED == 0 {
        true => match test {
            LESS => is(S::Lt),
            LESS_EQUAL => is(S::Le),
            GREATER => is(S::Gt),
            GREATER_EQUAL => is(S::Ge),
            EQUAL => is(S::Eq),
            _ => return None,
        },
        false => match test & !UNORDERED {
            LESS => not(is(S::Ge)),
            LESS_EQUAL => not(is(S::Gt)),
            GREATER => not(is(S::Le)),
            GREATER_EQUAL => not(is(S::Lt)),
            5 => is(S::Ne),
            _ => return None,
        },
    })
}

fn walk_element(cx: &Cx<'_>, _: usize) -> Result<Element, String> {
    let (x, at) = (cx.ty(0)?, cx.ty(1)?);
    let (axes, index) = indices(2);
    let steps = cx.int("steps");
    let nodes = &cx.shape(2)?[0];
    let nth = |step: i64, of: i64| reduction((3 * step + of) as usize);
    let mut body = Term::index(nth(steps, 0)).cast(DType::I32);
    for step in (0..steps).rev() {
        let node = Expr::from(nth(step, 0));
        let load = |input: usize, dtype: DType| Term::load(dtype, input, vec![node.clone()]);
        let feature = Expr::from(nth(step, 1));
        let from = Term::load(x.dtype, 0, vec![index[0].clone(), feature]);
        let value = load(3, x.dtype);
        let holds = outcome(&from, &value, cx.int("test")).filter(|_| !cx.has(5)).unwrap_or_else(|| {
            let bits = |v: i64| Term::constant(DType::I32, Scalar::I(v));
            let found = from.binary(S::Gt, &value).select(&bits(GREATER), &bits(UNORDERED));
            let found = from.binary(S::Eq, &value).select(&bits(EQUAL), &found);
            let found = from.binary(S::Lt, &value).select(&bits(LESS), &found);
            let test = if cx.has(5) { load(5, DType::I32) } else { bits(cx.int("test")) };
            test.binary(S::And, &found).binary(S::Ne, &bits(0))
        });
        let child = Term::load(DType::I32, 4, vec![node.clone(), nth(step, 2).into()]).cast(DType::I64);
        body = Term::bind(nth(step + 1, 0), child, body);
        body = Term::bind(nth(step, 2), holds.select(&int(0), &int(1)), body);
        body = Term::bind(nth(step, 1), load(2, DType::I32).cast(DType::I64), body);
    }
    let start = vec![index[0].clone(), index[1].clone()];
    let start = rules::broadcast_index(&at.shape, &[x.shape[0].clone(), at.shape[1].clone()], &start);
    let start = Term::load(DType::I32, 1, start).cast(DType::I64);
    Ok(Element { axes, body: Term::bind(nth(0, 0), clamped(&start, nodes), body) })
}

/// Levels that one TreeWalk goes down, whose definition grows with their number.
const LEVELS: i64 = 16;

/// The leaves that rows of features reach, by tree, counted from 0: `i32[rows, trees]`.
fn leaves(forest: &Forest, b: &mut Builder<'_>, x: Value) -> Result<Value, String> {
    let dtype = b.ty(x)?.dtype;
    let narrow = |v: &[i64]| v.iter().map(|v| *v as i32).collect::<Vec<i32>>();
    let nodes = forest.features.len();
    let mut table = |shape: &[usize], v: &[i64]| b.constant(Tensor::new(shape, &narrow(v)));
    let mut at = table(&[1, forest.roots.len()], &forest.roots);
    let features = table(&[nodes], &forest.features);
    let children = table(&[nodes, 2], &forest.children);
    let tests = forest.test().is_none().then(|| table(&[nodes], &forest.tests));
    let values = constant(b, dtype, &[nodes], &forest.values);
    let mut left = forest.depth.max(1);
    while left > 0 {
        let steps = left.min(LEVELS);
        left -= steps;
        let attrs = vec![("steps", Attr::Int(steps)), ("test", Attr::Int(forest.test().unwrap_or_default()))];
        let operands: Vec<Value> = [x, at, features, values, children].into_iter().chain(tests).collect();
        at = b.op("TreeWalk", &operands, attrs)?;
    }
    let first = b.constant(Tensor::scalar(DType::I32, Scalar::I(forest.branches as i64)));
    b.op("Sub", &[at, first], vec![])
}

/// How the weights of a row's leaves are combined.
fn combination(name: &str) -> Result<(&'static str, f64), String> {
    match name {
        "SUM" => Ok(("ReduceSum", 0.0)),
        "AVERAGE" => Ok(("ReduceMean", 0.0)),
        "MIN" => Ok(("ReduceMin", f64::INFINITY)),
        "MAX" => Ok(("ReduceMax", f64::NEG_INFINITY)),
        other => Err(format!("aggregate_function is {other}, expected SUM, AVERAGE, MIN or MAX")),
    }
}

/// The combined weights of the leaves that each row reaches, `[rows, targets]`.
fn aggregated(
    forest: &Forest,
    b: &mut Builder<'_>,
    x: Value,
    targets: usize,
    name: &str,
) -> Result<Value, String> {
    let (op, none) = combination(name)?;
    let (leaves, dtype) = (leaves(forest, b, x)?, b.ty(x)?.dtype);
    let weights = forest.weights(targets, none);
    let weights = constant(b, dtype, &[weights.len() / targets, targets], &weights);
    let all = b.op("Gather", &[weights, leaves], vec![])?;
    let result = super::reduced(b, op, all, 1, false)?;
    if none == 0.0 {
        return Ok(result);
    }
    // A target of which no leaf has a weight is 0.
    let (zero, absent) = (number(b, dtype, 0.0), b.op("IsInf", &[result], vec![])?);
    b.op("Where", &[absent, zero, result], vec![])
}

/// The scores with the base values, if there are any.
fn with_base(cx: &Cx<'_>, b: &mut Builder<'_>, scores: Value) -> Result<Value, String> {
    let base = numbers(cx, "base_values");
    if base.is_empty() {
        return Ok(scores);
    }
    let dtype = b.ty(scores)?.dtype;
    let base = constant(b, dtype, &[base.len()], &base);
    b.op("Add", &[scores, base], vec![])
}

/// More targets are no forest's: each leaf has a weight for each of them.
const MOST_TARGETS: usize = 1 << 16;

fn count(cx: &Cx<'_>) -> Result<usize, String> {
    match usize::try_from(cx.int("n_targets")) {
        Ok(n @ 1..=MOST_TARGETS) => Ok(n),
        _ => Err(format!("n_targets is {}, expected 1 to {MOST_TARGETS}", cx.int("n_targets"))),
    }
}

/// The result of a regressor: `[rows, targets]`.
fn targets(cx: &Cx<'_>, dtype: DType) -> Result<Vec<Info>, String> {
    Ok(vec![TensorType::new(dtype, [features(cx)?.0, count(cx)?.into()]).into()])
}

fn regressor_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let base = numbers(cx, "base_values").len();
    match base == 0 || base == 1 || base == count(cx)? {
        true => targets(cx, DType::F32),
        false => Err(format!("{base} base values for {} targets", count(cx)?)),
    }
}

fn regressor_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let (forest, x) = (Forest::of_lists(cx, "target", count(cx)?)?, matrix(b, x)?);
    let name = cx.attrs.str("aggregate_function").unwrap_or("SUM");
    let scores = aggregated(&forest, b, x, count(cx)?, name)?;
    let scores = with_base(cx, b, scores)?;
    let scores = scores::transformed(b, scores, cx.attrs.str("post_transform").unwrap_or("NONE"))?;
    Ok(Some(vec![cast(b, scores, DType::F32)?]))
}

fn classifier_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    let labels = class_labels(cx, "classlabels_int64s", "classlabels_strings")?;
    let base = numbers(cx, "base_values").len();
    match base <= 1 || base == labels.len() {
        true => Ok(classified(cx, features(cx)?.0, &labels, labels.len())),
        false => Err(format!("{base} base values for {} classes", labels.len())),
    }
}

/// With two classes of which the leaves have weights for the first alone, these are of the second in
/// truth, and the first one's score follows.
fn classifier_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let labels = class_labels(cx, "classlabels_int64s", "classlabels_strings")?;
    let transform = cx.attrs.str("post_transform").unwrap_or("NONE");
    let (forest, x) = (Forest::of_lists(cx, "class", labels.len())?, matrix(b, x)?);
    let all_of = |class: usize| forest.leaves.iter().all(|(_, c, _)| *c == class);
    let positive = forest.leaves.iter().all(|(.., weight)| *weight >= 0.0);
    let (limit, second) = if positive { (0.5, Second::Complement) } else { (0.0, Second::Negation) };
    let (label, scores) = match labels.len() {
        2 if all_of(0) => {
            let scores = aggregated(&forest, b, x, 1, "SUM")?;
            let base = numbers(cx, "base_values").first().copied().unwrap_or(0.0);
            let base = number(b, b.ty(scores)?.dtype, base);
            let scores = b.op("Add", &[scores, base], vec![])?;
            let label = scores::above(b, scores, limit, labels)?;
            (label, scores::both(b, scores, second, transform)?)
        }
        _ => {
            let scores = aggregated(&forest, b, x, labels.len(), "SUM")?;
            let scores = with_base(cx, b, scores)?;
            let label = match labels.len() {
                2 if all_of(1) => {
                    let (one, two, axis) = (list(b, &[1]), list(b, &[2]), list(b, &[1]));
                    let score = b.op("Slice", &[scores, one, two, axis], vec![])?;
                    scores::above(b, score, limit, labels)?
                }
                1 => {
                    let none = Scalar::I(0);
                    let labels = Tensor::from_scalars(labels.dtype(), &[2], [none, labels.get(0)]);
                    scores::above(b, scores, 0.0, labels)?
                }
                _ => scores::greatest(b, scores, labels)?,
            };
            (label, scores::transformed(b, scores, transform)?)
        }
    };
    let scores = cast(b, scores, DType::F32)?;
    Ok(Some([label, scores].into_iter().take(cx.outputs).collect()))
}

fn ensemble_infer(cx: &Cx<'_>) -> Result<Vec<Info>, String> {
    rules::expect("input 0", cx.dtype(0)?, FLOAT)?;
    targets(cx, cx.dtype(0)?)
}

fn ensemble_build(cx: &Cx<'_>, b: &mut Builder<'_>, inputs: Inputs<'_>) -> Built {
    let Some(x) = operand(inputs, 0) else { return Ok(None) };
    let (forest, x) = (Forest::of_tensors(cx, count(cx)?)?, matrix(b, x)?);
    let pick = |name: &str, all: &[&'static str]| {
        let n = usize::try_from(cx.int(name)).ok().and_then(|n| all.get(n).copied());
        n.ok_or_else(|| format!("{name} is {}, expected 0 to {}", cx.int(name), all.len() - 1))
    };
    let name = pick("aggregate_function", &["AVERAGE", "SUM", "MIN", "MAX"])?;
    let transform = pick("post_transform", &["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"])?;
    let scores = aggregated(&forest, b, x, count(cx)?, name)?;
    let scores = scores::transformed(b, scores, transform)?;
    Ok(Some(vec![cast(b, scores, cx.dtype(0)?)?]))
}
