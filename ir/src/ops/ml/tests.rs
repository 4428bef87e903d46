//! Values that ONNX Runtime 1.32.0 gives.

use crate::graph::eval::eval;
use crate::graph::sample::Sample;

/// The results of a sample without random operands, all elements as `f64`.
#[track_caller]
fn evaluate(text: &str) -> Vec<Vec<f64>> {
    let graph = Sample::parse(text).map_err(|e| e.to_string()).and_then(|s| s.graph());
    let graph = graph.unwrap_or_else(|e| panic!("{text}: {e}"));
    let found = eval(&graph, &[], &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
    found.outputs.iter().map(|t| t.to_f64s()).collect()
}

#[track_caller]
fn gives(text: &str, expected: &[&[f64]]) {
    let found = evaluate(text);
    assert_eq!(found.len(), expected.len(), "{text}");
    for (found, expected) in found.iter().zip(expected) {
        let close = |(f, e): (&f64, &f64)| f == e || (f - e).abs() <= 1e-5 * e.abs().max(1.0);
        let all = found.len() == expected.len() && found.iter().zip(*expected).all(close);
        assert!(all, "{text}: found {found:?}, expected {expected:?}");
    }
}

/// A tree of three leaves that `x <= 0` and `x <= 0.5` part, at -2, 0.2 and 3.
fn tree(weights: &str, more: &str) -> String {
    format!(
        "TreeEnsembleClassifier(f32[3,1] = [-2.0, 0.2, 3.0]) {{nodes_treeids = [0, 0, 0, 0, 0], \
         nodes_nodeids = [0, 1, 2, 3, 4], nodes_featureids = [0, 0, 0, 0, 0], \
         nodes_values = [0.0, 0.0, 0.5, 0.0, 0.0], nodes_truenodeids = [1, 0, 3, 0, 0], \
         nodes_falsenodeids = [2, 0, 4, 0, 0], \
         nodes_modes = [\"BRANCH_LEQ\", \"LEAF\", \"BRANCH_LEQ\", \"LEAF\", \"LEAF\"], {weights}, {more}}} -> 2"
    )
}

/// Weights for one class at each of the leaves.
fn single(class: usize, weights: &str) -> String {
    format!(
        "class_treeids = [0, 0, 0], class_nodeids = [1, 3, 4], class_ids = [{class}, {class}, {class}], \
         class_weights = {weights}, classlabels_int64s = [5, 7]"
    )
}

#[test]
fn trees_of_two_classes_complete_a_single_score() {
    let positive = single(0, "[0.2, 0.5, 0.9]");
    gives(&tree(&positive, "post_transform = \"NONE\""), &[&[5., 5., 7.], &[0.8, 0.2, 0.5, 0.5, 0.1, 0.9]]);
    gives(
        &tree(&positive, "post_transform = \"LOGISTIC\""),
        &[&[5., 5., 7.], &[0.450166, 0.549834, 0.3775406, 0.6224594, 0.2890505, 0.7109495]],
    );
    gives(
        &tree(&positive, "post_transform = \"SOFTMAX\""),
        &[&[5., 5., 7.], &[0.8, 0.2, 0.5, 0.5, 0.1, 0.9]],
    );
    gives(&tree(&positive, "base_values = [0.3]"), &[&[5., 7., 7.], &[0.5, 0.5, 0.2, 0.8, -0.2, 1.2]]);
    let mixed = single(0, "[-0.2, 0.4, 0.9]");
    gives(&tree(&mixed, "post_transform = \"NONE\""), &[&[5., 7., 7.], &[0.2, -0.2, -0.4, 0.4, -0.9, 0.9]]);
    let second = single(1, "[0.2, 0.5, 0.9]");
    gives(
        &tree(&second, "post_transform = \"SOFTMAX\""),
        &[&[5., 5., 7.], &[0.450166, 0.549834, 0.3775407, 0.6224594, 0.2890505, 0.7109495]],
    );
    gives(&tree(&second, "post_transform = \"SOFTMAX_ZERO\""), &[&[5., 5., 7.], &[0., 1., 0., 1., 0., 1.]]);
}

#[test]
fn trees_of_three_classes_are_transformed() {
    let weights = "class_treeids = [0, 0, 0, 0, 0, 0, 0, 0, 0], class_nodeids = [1, 1, 1, 3, 3, 3, 4, 4, 4], \
                   class_ids = [0, 1, 2, 0, 1, 2, 0, 1, 2], \
                   class_weights = [0.2, 0.3, 0.5, 0.6, 0.4, 0.0, 0.0, 0.9, 0.1], classlabels_int64s = [5, 7, 9]";
    let infinite = f64::NEG_INFINITY;
    gives(
        &tree(weights, "post_transform = \"SOFTMAX_ZERO\""),
        &[
            &[9., 5., 7.],
            &[0.2894331, 0.3198731, 0.3906938, 0.549834, 0.450166, 0., 0., 0.6899745, 0.3100255],
        ],
    );
    gives(
        &tree(weights, "post_transform = \"PROBIT\""),
        &[
            &[9., 5., 7.],
            &[-0.8417561, -0.5244459, 0., 0.2533535, -0.2533535, infinite, infinite, 1.2817129, -1.2817129],
        ],
    );
}

/// Rows of features that the models below are applied to.
const X: &str = "f32[3,2] = [-2.0, 1.0, -0.3, 0.2, 0.2, 0.1]";

#[test]
fn linear_models_are_transformed() {
    let model = |more: &str| {
        format!(
            "LinearClassifier({X}) {{coefficients = [0.5, -0.2], intercepts = [0.1], classlabels_ints = [3, 4]{more}}} -> 2"
        )
    };
    gives(&model(""), &[&[3., 3., 4.], &[2.1, -1.1, 1.09, -0.09, 0.82, 0.18]]);
    gives(
        &model(", post_transform = \"LOGISTIC\""),
        &[&[3., 3., 4.], &[0.7502601, 0.2497399, 0.5224848, 0.4775152, 0.4551211, 0.5448789]],
    );
    gives(
        &format!(
            "LinearClassifier({X}) {{coefficients = [0.5, -0.2, 0.1, 0.3, -0.4, 0.2], \
             intercepts = [0.1, 0.2, 0.3], classlabels_ints = [3, 4, 5], post_transform = \"SOFTMAX\"}} -> 2"
        ),
        &[
            &[5., 5., 4.],
            &[
                0.0621953, 0.2522145, 0.6855901, 0.2432865, 0.3350365, 0.421677, 0.319046, 0.3421794,
                0.3387747,
            ],
        ],
    );
    gives(
        &format!(
            "LinearRegressor({X}) {{coefficients = [0.5, -0.2, 0.1, 0.3], intercepts = [0.1, 0.2], targets = 2, \
             post_transform = \"LOGISTIC\"}}"
        ),
        &[&[0.2497399, 0.5744425, 0.4775152, 0.5572479, 0.5448789, 0.5621765]],
    );
}

#[test]
fn support_vector_machines_vote() {
    let regressor = |kernel: &str| {
        format!(
            "SVMRegressor({X}) {{kernel_type = {kernel}, support_vectors = [1.0, 2.0, 3.0, 4.0], \
             coefficients = [0.5, -0.7], n_supports = 2, rho = [0.25]}}"
        )
    };
    let rbf = regressor("\"RBF\", kernel_params = [0.5, 0.0, 3.0]");
    gives(&rbf, &[&[0.2533689, 0.2925022, 0.3097096]]);
    let poly = regressor("\"POLY\", kernel_params = [0.5, 0.1, 3.0]");
    gives(&poly, &[&[0.7607999, 0.2516, 0.1123]]);
    let two = |more: &str| {
        format!(
            "SVMClassifier({X}) {{kernel_type = \"RBF\", kernel_params = [0.5, 0.0, 3.0], rho = [0.25], \
             support_vectors = [1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 0.5], vectors_per_class = [2, 2], \
             coefficients = [0.5, 0.7, -0.4, -0.8], classlabels_ints = [5, 6]{more}}} -> 2"
        )
    };
    let labels: &[f64] = &[5., 6., 6.];
    gives(&two(""), &[labels, &[-0.0751979, 0.0751979, 0.5697331, -0.5697331, 0.590004, -0.590004]]);
    gives(
        &two(", prob_a = [-1.5], prob_b = [0.2]"),
        &[labels, &[0.4782111, 0.5217888, 0.2583401, 0.7416599, 0.252556, 0.747444]],
    );
    gives(
        &two(", post_transform = \"SOFTMAX\""),
        &[labels, &[0.9248021, 0.0751979, 1.5697331, -0.5697331, 1.590004, -0.590004]],
    );
    gives(
        &format!(
            "SVMClassifier({X}) {{kernel_type = \"SIGMOID\", kernel_params = [0.5, 0.1, 3.0], \
             rho = [0.25, -0.1, 0.3], support_vectors = [1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 0.5], \
             vectors_per_class = [2, 1, 1], coefficients = [0.5, 0.7, -0.4, -0.8, 0.3, 0.1, -0.9, 0.6], \
             classlabels_ints = [5, 6, 9]}} -> 2"
        ),
        &[
            &[9., 5., 5.],
            &[
                -0.5217742, -0.0226214, -0.5097802, 0.2614459, -0.1102264, 0.124489, 0.771591, -0.0974894,
                0.4039411,
            ],
        ],
    );
}

#[test]
fn features_are_prepared() {
    let rows = "f32[3,3] = [-4.0, 1.0, 2.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0]";
    gives(&format!("Normalizer({rows})"), &[&[-2., 0.5, 1., 0., 0., 0., 1., 2., 3.]]);
    gives(
        &format!("Normalizer({rows}) {{norm = \"L1\"}}"),
        &[&[-0.5714286, 0.1428571, 0.2857143, 0., 0., 0., -0.1666667, -0.3333333, -0.5]],
    );
    gives("Normalizer(f32[2] = [3.0, -4.0]) {norm = \"L2\"}", &[&[0.6, -0.8]]);
    gives(
        "FeatureVectorizer(f32[2] = [1.0, 2.0], f32[3] = [3.0, 4.0, 5.0]) {inputdimensions = [2, 3]}",
        &[&[1., 2., 3., 4., 5.]],
    );
    gives(
        "FeatureVectorizer(f32[2,2] = [1.0, 2.0, 3.0, 4.0], f32[2,3] = [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]) \
         {inputdimensions = [3, 2]}",
        &[&[1., 2., 0., 3., 4., 3., 4., 0., 6., 7.]],
    );
    gives(
        "OneHotEncoder(f32[3] = [1.7, 2.0, 9.0]) {cats_int64s = [1, 2, 3]}",
        &[&[1., 0., 0., 0., 1., 0., 0., 0., 0.]],
    );
    gives(
        "LabelEncoder(i64[3] = [1, 2, 9]) {keys_int64s = [1, 2, 1], values_floats = [0.5, 0.6, 0.7]}",
        &[&[0.5, 0.6, 0.0]],
    );
    gives("ArrayFeatureExtractor(i64[3] = [1, 2, 9], i64[1,2] = [0, 2])", &[&[1., 9.]]);
}
