//! Decision trees as tables, read from the attributes of the three ops that have them.
//!
//! Nodes `0..branches` are branches, the others leaves, which are their own children. All indices are
//! checked, and no tree has a cycle.

use super::{integers, numbers};
use crate::graph::infer::Cx;
use std::collections::{BTreeSet, HashMap};

/// Outcomes of comparing a feature with a threshold, as bits: it is less.
pub(super) const LESS: i64 = 1;
/// It is equal.
pub(super) const EQUAL: i64 = 2;
/// It is greater.
pub(super) const GREATER: i64 = 4;
/// One of them is NaN.
pub(super) const UNORDERED: i64 = 8;

/// The outcomes with which a branch leads to its true child, by the number of its mode in TreeEnsemble.
const MODES: [(&str, i64); 6] = [
    ("BRANCH_LEQ", LESS | EQUAL),
    ("BRANCH_LT", LESS),
    ("BRANCH_GTE", GREATER | EQUAL),
    ("BRANCH_GT", GREATER),
    ("BRANCH_EQ", EQUAL),
    ("BRANCH_NEQ", LESS | GREATER | UNORDERED),
];
/// TreeEnsemble's mode of a test for being one of several values.
const MEMBER: i64 = 6;

/// Trees.
#[derive(Default)]
pub(super) struct Forest {
    /// How many branches there are.
    pub(super) branches: usize,
    /// The feature that each node looks at.
    pub(super) features: Vec<i64>,
    /// What it is compared with.
    pub(super) values: Vec<f64>,
    /// The outcomes that lead to the true child.
    pub(super) tests: Vec<i64>,
    /// The true child and then the false one of each node.
    pub(super) children: Vec<i64>,
    /// The first node of each tree.
    pub(super) roots: Vec<i64>,
    /// Weights: leaf (counted from the first one), target, weight.
    pub(super) leaves: Vec<(usize, usize, f64)>,
    /// The branches on the longest way.
    pub(super) depth: i64,
}

/// A node of a file: a branch or a leaf of a number of its own.
#[derive(Clone, Copy)]
enum Child {
    Branch(usize),
    Leaf(usize),
}

impl Forest {
    fn branch(&mut self, feature: i64, value: f64, test: i64) {
        self.features.push(feature);
        self.values.push(value);
        self.tests.push(test);
    }

    /// Puts the children of all branches, and then the leaves, behind the tables.
    fn finish(mut self, children: &[[Child; 2]], leaves: usize) -> Result<Forest, String> {
        self.branches = self.features.len();
        for child in children.iter().flatten() {
            let node = match child {
                Child::Branch(i) => *i,
                Child::Leaf(i) => self.branches + i,
            };
            self.children.push(node as i64);
        }
        for leaf in self.branches..self.branches + leaves {
            self.branch(0, 0.0, 0);
            self.children.extend([leaf as i64; 2]);
        }
        self.depth = self.measured()?;
        Ok(self)
    }

    /// The longest way from a root to a leaf; an error where there is no end to it.
    fn measured(&self) -> Result<i64, String> {
        let mut level: BTreeSet<usize> = self.roots.iter().map(|r| *r as usize).collect();
        let mut depth = 0;
        loop {
            level.retain(|n| *n < self.branches);
            if level.is_empty() {
                return Ok(depth);
            }
            if depth as usize > self.branches {
                return Err("the nodes of a tree are in a circle".into());
            }
            depth += 1;
            level =
                level.iter().flat_map(|n| &self.children[2 * n..2 * n + 2]).map(|c| *c as usize).collect();
        }
    }

    /// The test of all branches, where they have the same.
    pub(super) fn test(&self) -> Option<i64> {
        let first = self.tests.first().copied().filter(|_| self.branches > 0).unwrap_or(LESS);
        self.tests[..self.branches].iter().all(|t| *t == first).then_some(first)
    }

    /// The weights as a table `[leaves, targets]`, with `none` where there is none.
    pub(super) fn weights(&self, targets: usize, none: f64) -> Vec<f64> {
        let mut out = vec![none; (self.features.len() - self.branches) * targets];
        for (leaf, target, weight) in &self.leaves {
            let at = &mut out[leaf * targets + target];
            let first = none != 0.0 && *at == none;
            *at = match none {
                _ if first => *weight,
                f64::INFINITY => at.min(*weight),
                f64::NEG_INFINITY => at.max(*weight),
                _ => *at + weight,
            };
        }
        out
    }

    /// The trees of TreeEnsembleRegressor or TreeEnsembleClassifier, whose weights are those of
    /// "target" or "class".
    pub(super) fn of_lists(cx: &Cx<'_>, of: &str, targets: usize) -> Result<Forest, String> {
        let (trees, ids) = (integers(cx, "nodes_treeids"), integers(cx, "nodes_nodeids"));
        let (yes, no) = (integers(cx, "nodes_truenodeids"), integers(cx, "nodes_falsenodeids"));
        let (features, values) = (integers(cx, "nodes_featureids"), numbers(cx, "nodes_values"));
        let missing = integers(cx, "nodes_missing_value_tracks_true");
        let modes = cx.attrs.strs("nodes_modes").unwrap_or_default();
        let n = ids.len();
        let sizes = [trees.len(), yes.len(), no.len(), features.len(), values.len(), modes.len()];
        if n == 0 || sizes.iter().any(|s| *s != n) || !(missing.is_empty() || missing.len() == n) {
            return Err(format!("{n} nodes with attributes of {sizes:?} and {} elements", missing.len()));
        }
        let mut forest = Forest::default();
        let mut places: HashMap<(i64, i64), Child> = HashMap::new();
        let (mut branches, mut leaves) = (0, 0);
        for i in 0..n {
            let place = match &modes[i][..] {
                "LEAF" => {
                    leaves += 1;
                    Child::Leaf(leaves - 1)
                }
                mode => {
                    let test = MODES.iter().find(|(name, _)| *name == mode).map(|(_, test)| *test);
                    let test = test.ok_or_else(|| format!("a node's mode is {mode}"))?;
                    let lost = if missing.get(i).is_some_and(|m| *m != 0) { UNORDERED } else { 0 };
                    forest.branch(features[i], values[i], test | lost);
                    branches += 1;
                    Child::Branch(branches - 1)
                }
            };
            if places.insert((trees[i], ids[i]), place).is_some() {
                return Err(format!("node {} of tree {} stands twice", ids[i], trees[i]));
            }
        }
        let find = |tree: i64, id: i64| {
            places.get(&(tree, id)).copied().ok_or_else(|| format!("there is no node {id} in tree {tree}"))
        };
        let mut children = Vec::new();
        let mut seen: BTreeSet<i64> = BTreeSet::new();
        for i in 0..n {
            let here = find(trees[i], ids[i])?;
            if seen.insert(trees[i]) {
                forest.roots.push(match here {
                    Child::Branch(b) => b as i64,
                    Child::Leaf(l) => (branches + l) as i64,
                });
            }
            if let Child::Branch(_) = here {
                children.push([find(trees[i], yes[i])?, find(trees[i], no[i])?]);
            }
        }
        let list = |what: &str| integers(cx, &format!("{of}_{what}")).to_vec();
        let (trees, nodes, ids) = (list("treeids"), list("nodeids"), list("ids"));
        let weights = numbers(cx, &format!("{of}_weights"));
        if [trees.len(), nodes.len(), ids.len()].iter().any(|l| *l != weights.len()) {
            return Err(format!("{} weights, but not as many of their nodes", weights.len()));
        }
        for i in 0..weights.len() {
            match (find(trees[i], nodes[i])?, usize::try_from(ids[i])) {
                (Child::Leaf(leaf), Ok(id)) if id < targets => forest.leaves.push((leaf, id, weights[i])),
                // What stands at a branch is never reached.
                (Child::Branch(_), Ok(id)) if id < targets => {}
                _ => return Err(format!("a weight is of {of} {}, but there are {targets}", ids[i])),
            }
        }
        forest.finish(&children, leaves)
    }

    /// The trees of TreeEnsemble. A test for several values becomes a chain of tests for one.
    pub(super) fn of_tensors(cx: &Cx<'_>, targets: usize) -> Result<Forest, String> {
        let (yes, no) = (integers(cx, "nodes_truenodeids"), integers(cx, "nodes_falsenodeids"));
        let (yes_leaf, no_leaf) = (integers(cx, "nodes_trueleafs"), integers(cx, "nodes_falseleafs"));
        let features = integers(cx, "nodes_featureids");
        let floats = |name: &str| cx.attrs.tensor(name).map(|t| t.to_f64s()).unwrap_or_default();
        let modes = cx.attrs.tensor("nodes_modes").map(|t| t.to_i64s()).unwrap_or_default();
        let (values, weights) = (floats("nodes_splits"), floats("leaf_weights"));
        let mut members = floats("membership_values").into_iter();
        let (missing, ids) =
            (integers(cx, "nodes_missing_value_tracks_true"), integers(cx, "leaf_targetids"));
        let n = features.len();
        let sizes = [yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), modes.len(), values.len()];
        let odd = sizes.iter().any(|s| *s != n) || !(missing.is_empty() || missing.len() == n);
        if n == 0 || odd || ids.len() != weights.len() {
            return Err(format!("{n} nodes with attributes of {sizes:?} and {} elements", missing.len()));
        }
        let child = |at: i64, leaf: i64| {
            let (limit, what) = if leaf != 0 { (weights.len(), "leaf") } else { (n, "node") };
            let at = usize::try_from(at).ok().filter(|at| *at < limit);
            let at = at.ok_or_else(|| format!("a child is no {what} of the {limit} that there are"))?;
            Ok::<Child, String>(if leaf != 0 { Child::Leaf(at) } else { Child::Branch(at) })
        };
        let mut forest = Forest::default();
        let (mut children, mut chained) = (Vec::new(), Vec::new());
        for i in 0..n {
            let pair = [child(yes[i], yes_leaf[i])?, child(no[i], no_leaf[i])?];
            let lost = if missing.get(i).is_some_and(|m| *m != 0) { UNORDERED } else { 0 };
            children.push(pair);
            match usize::try_from(modes[i]).ok().and_then(|m| MODES.get(m)) {
                Some((_, test)) => forest.branch(features[i], values[i], test | lost),
                None if modes[i] == MEMBER => {
                    let set: Vec<f64> = members.by_ref().take_while(|v| !v.is_nan()).collect();
                    let first = set.first().copied();
                    let test = if first.is_some() { EQUAL } else { 0 };
                    forest.branch(features[i], first.unwrap_or(0.0), test | lost);
                    chained.push((i, set));
                }
                None => return Err(format!("a node's mode is {}, expected 0 to {MEMBER}", modes[i])),
            }
        }
        for (i, set) in chained {
            let [found, other] = children[i];
            let mut last = i;
            for value in set.iter().skip(1) {
                forest.branch(features[i], *value, EQUAL);
                children.push([found, other]);
                children[last][1] = Child::Branch(children.len() - 1);
                last = children.len() - 1;
            }
        }
        for (leaf, (id, weight)) in ids.iter().zip(&weights).enumerate() {
            let id = usize::try_from(*id).ok().filter(|id| *id < targets);
            let id =
                id.ok_or_else(|| format!("a leaf is of target {:?}, but there are {targets}", ids[leaf]))?;
            forest.leaves.push((leaf, id, *weight));
        }
        for root in integers(cx, "tree_roots") {
            match usize::try_from(*root) {
                Ok(r) if r < n => forest.roots.push(*root),
                _ => return Err(format!("a tree begins at node {root} of {n}")),
            }
        }
        if forest.roots.is_empty() {
            return Err("there is no tree".into());
        }
        forest.finish(&children, weights.len())
    }
}
