//! Axes, steps and scales that a run reads: the evaluator, which sees them as constants, and compiled
//! code agree, and both refuse those that make no sense.

use burin_ir::Tensor;
use burin_tests::calls::{agree, floats, ints, number, refused};

fn one(op: &str, inputs: &str) -> String {
    format!("graph @one({inputs}) {{\n  %r = {op}\n  return %r\n}}\n")
}

#[test]
fn reductions_over_axes_that_are_read() {
    let pairs = [[0, 1], [2, 0], [-1, 1], [1, -3], [-2, -1]];
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd", "ReduceLogSumExp", "ReduceL2"] {
        for keep in [0, 1] {
            let text = one(&format!("{op}(%x, %a) {{keepdims = {keep}}}"), "%x: f32[3, 4, 2], %a: i64[2]");
            agree(&text, &pairs.map(|a| vec![floats(&[3, 4, 2]), ints(&a)]));
            let wrong = [[0, 3], [-4, 1], [1, 1], [2, -1], [9, 8]];
            refused(&text, &wrong.map(|a| vec![floats(&[3, 4, 2]), ints(&a)]));
        }
    }
    // What is empty has the neutral element, whichever dimension that is.
    let text = one("ReduceSum(%x, %a) {keepdims = 0}", "%x: f32[m, n, 3], %a: i64[1]");
    let call = |m, n, a| vec![floats(&[m, n, 3]), ints(&[a])];
    agree(&text, &[call(2, 0, 1), call(2, 0, 0), call(0, 4, -3), call(5, 3, 2), call(0, 0, 2)]);
    let all = one("ReduceMin(%x, %a) {keepdims = 0}", "%x: f32[3, 5], %a: i64[2]");
    agree(&all, &[vec![floats(&[3, 5]), ints(&[1, 0])], vec![floats(&[3, 5]), ints(&[-2, -1])]]);
}

#[test]
fn a_reduction_over_read_axes_within_others() {
    let text = "graph @within(%x: f32[n, 4, 6], %w: f32[6, 5], %a: i64[1]) {
  %y = MatMul(%x, %w)
  %e = Exp(%y)
  %s = ReduceSum(%e, %a)
  %q = Div(%e, %s)
  %m = ReduceMax(%q, %a) {keepdims = 0}
  %t = Neg(%m)
  return %q, %t
}
";
    let call = |n, a| vec![floats(&[n, 4, 6]), floats(&[6, 5]), ints(&[a])];
    agree(text, &[call(3, 0), call(3, 1), call(2, -1), call(1, 2), call(7, -3)]);
    refused(text, &[call(3, 3), call(3, -4)]);
}

#[test]
fn running_sums_along_a_read_axis() {
    for op in ["CumSum(%x, %a)", "CumProd(%x, %a) {exclusive = 1}", "CumSum(%x, %a) {reverse = 1}"] {
        let text = one(op, "%x: f32[m, 3, n], %a: i64[]");
        let call = |m, n, a| vec![floats(&[m, 3, n]), number(a)];
        agree(&text, &[call(4, 2, 0), call(4, 2, 1), call(3, 5, -1), call(0, 5, 2), call(2, 2, -3)]);
        refused(&text, &[call(4, 2, 3), call(4, 2, -4)]);
    }
}

#[test]
fn dimensions_are_put_in_and_dropped() {
    let put = one("Unsqueeze(%x, %a)", "%x: f32[m, n], %a: i64[2]");
    let call = |a: [i64; 2]| vec![floats(&[3, 5]), ints(&a)];
    agree(&put, &[[0, 1], [0, 3], [3, 1], [-1, -4], [2, -1], [1, 2]].map(call));
    refused(&put, &[[0, 4], [1, 1], [3, -1], [-5, 0]].map(call));
    let drop = one("Squeeze(%x, %a)", "%x: f32[k, m, n, 1], %a: i64[2]");
    let call = |k, m, n, a: [i64; 2]| vec![floats(&[k, m, n, 1]), ints(&a)];
    agree(&drop, &[call(1, 4, 5, [0, 3]), call(4, 1, 1, [-3, 2]), call(2, 3, 1, [-1, -2])]);
    refused(
        &drop,
        &[call(2, 3, 1, [0, 3]), call(1, 1, 5, [2, 3]), call(1, 1, 1, [0, 4]), call(1, 1, 1, [3, -1])],
    );
    let within = "graph @within(%x: f32[3, n], %a: i64[1]) {
  %e = Exp(%x)
  %u = Unsqueeze(%e, %a)
  %t = Transpose(%u)
  %d = Squeeze(%t)
  return %u, %t
}
"
    .replace("  %d = Squeeze(%t)\n", "");
    agree(&within, &[0, 1, 2, -1].map(|a| vec![floats(&[3, 4]), ints(&[a])]));
    // Also where the axis is a constant, and the size is not.
    let fixed = one("Squeeze(%x, %a)", "%x: f32[n, 3]").replace("  %r", "  %a = const i64[1] [0]\n  %r");
    agree(&fixed, &[vec![floats(&[1, 3])]]);
    refused(&fixed, &[vec![floats(&[2, 3])], vec![floats(&[0, 3])]]);
}

#[test]
fn slices_along_read_axes_in_read_steps() {
    let text =
        one("Slice(%x, %s, %e, %a, %t)", "%x: f32[5, n], %s: i64[2], %e: i64[2], %a: i64[2], %t: i64[2]");
    let call = |s: [i64; 2], e: [i64; 2], a: [i64; 2], t: [i64; 2]| {
        vec![floats(&[5, 7]), ints(&s), ints(&e), ints(&a), ints(&t)]
    };
    agree(
        &text,
        &[
            call([0, 1], [4, 6], [0, 1], [1, 2]),
            call([0, 1], [4, 6], [1, 0], [1, 2]),
            call([-1, 1], [-99, 6], [0, -1], [-1, 2]),
            call([-1, -1], [-99, -99], [1, -2], [-2, -3]),
            call([9, -3], [2, 100], [-1, 0], [-1, 3]),
            call([3, 3], [3, 1], [0, 1], [1, 1]),
            call([-99, -99], [99, 99], [0, 1], [7, 4]),
            call([0, 4], [-99, 2], [0, 1], [-1, -1]),
        ],
    );
    let wrong = |a, t| call([0, 0], [9, 9], a, t);
    refused(
        &text,
        &[wrong([0, 0], [1, 1]), wrong([0, 2], [1, 1]), wrong([0, 1], [1, 0]), wrong([-1, 1], [1, 1])],
    );
    // An empty dimension has nothing to step back from.
    let back =
        one("Slice(%x, %s, %e, %a, %t)", "%x: f32[m, 3], %s: i64[1], %e: i64[1], %a: i64[1], %t: i64[1]");
    let call =
        |m, s: i64, e: i64, t: i64| vec![floats(&[m, 3]), ints(&[s]), ints(&[e]), ints(&[0]), ints(&[t])];
    agree(&back, &[call(0, -1, -9, -1), call(0, 0, 9, 1), call(4, -1, -9, -1), call(1, 0, -9, -2)]);
    let fixed = "graph @fixed(%x: f32[m]) {
  %s = const i64[1] [-1]
  %e = const i64[1] [-9223372036854775807]
  %a = const i64[1] [0]
  %t = const i64[1] [-1]
  %r = Slice(%x, %s, %e, %a, %t)
  return %r
}
";
    agree(fixed, &[vec![floats(&[0])], vec![floats(&[1])], vec![floats(&[6])]]);
}

#[test]
fn padding_along_read_axes() {
    for mode in ["constant", "edge", "reflect", "wrap"] {
        let text = one(
            &format!("Pad(%x, %p, _, %a) {{mode = \"{mode}\"}}"),
            "%x: f32[4, n, 3], %p: i64[4], %a: i64[2]",
        );
        let call = |p: [i64; 4], a: [i64; 2]| vec![floats(&[4, 5, 3]), ints(&p), ints(&a)];
        agree(
            &text,
            &[
                call([1, 0, 2, 1], [0, 1]),
                call([1, 0, 2, 1], [1, 0]),
                call([2, 1, 0, 2], [-1, 0]),
                call([-1, 1, 1, -1], [-2, 2]),
            ],
        );
        refused(
            &text,
            &[call([1, 1, 1, 1], [0, 3]), call([1, 1, 1, 1], [0, -3]), call([-3, 0, -2, 0], [0, 1])],
        );
    }
}

/// What Resize makes of an image, in each of the ways in which a place in it is found.
#[test]
fn images_are_resized_by_scales_and_sizes_that_are_read() {
    let modes = ["linear", "cubic", "nearest"];
    let places = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"];
    let image = || floats(&[2, 5, 7]);
    let scale = |a: f32, b: f32| vec![image(), Tensor::new(&[2], &[a, b])];
    let size = |a: i64, b: i64| vec![image(), ints(&[a, b])];
    for (at, place) in places.into_iter().enumerate() {
        let attrs = format!(
            "{{axes = [1, 2], mode = \"{}\", coordinate_transformation_mode = \"{place}\", \
             exclude_outside = {}}}",
            modes[at % 3],
            i32::from(at == 4)
        );
        let by_scales = one(&format!("Resize(%x, _, %s) {attrs}"), "%x: f32[2, m, n], %s: f32[2]");
        agree(&by_scales, &[scale(1.0, 2.0), scale(0.6, 0.2), scale(1.7, 0.5), scale(0.25, 3.0)]);
        refused(&by_scales, &[scale(0.0, 1.0), scale(1.0, -2.0)]);
        let by_sizes = one(&format!("Resize(%x, _, _, %s) {attrs}"), "%x: f32[2, m, n], %s: i64[2]");
        agree(&by_sizes, &[size(5, 7), size(1, 3), size(9, 1), size(4, 14), size(0, 2)]);
        refused(&by_sizes, &[size(-1, 3), vec![floats(&[2, 0, 7]), ints(&[3, 3])]]);
    }
    for (mode, policy) in [("linear", "not_larger"), ("nearest", "not_smaller")] {
        let attrs = format!("{{axes = [1, 2], mode = \"{mode}\", keep_aspect_ratio_policy = \"{policy}\"}}");
        let kept = one(&format!("Resize(%x, _, _, %s) {attrs}"), "%x: f32[2, m, n], %s: i64[2]");
        agree(&kept, &[size(5, 7), size(10, 10), size(2, 9), size(4, 3)]);
    }
    let wide = "{axes = [1, 2], mode = \"linear\", antialias = 1}";
    let wide = one(&format!("Resize(%x, _, %s) {wide}"), "%x: f32[2, m, n], %s: f32[2]");
    agree(&wide, &[scale(0.6, 0.3), scale(1.5, 0.45), scale(0.2, 1.0)]);
    refused(&wide, &[scale(0.2, 0.01)]);
}

#[test]
fn sizes_that_floats_say() {
    let range = one("Range(%a, %b, %d)", "%a: f32[], %b: f32[], %d: f32[]");
    let call = |a: f32, b: f32, d: f32| [a, b, d].map(|v| Tensor::new(&[], &[v])).to_vec();
    agree(&range, &[call(0.5, 3.0, 0.5), call(1.0, -2.0, -0.75), call(2.0, 1.0, 0.5), call(0.0, 1.0, 0.3)]);
    let hot = one("OneHot(%x, %d, %v)", "%x: i64[3], %d: f32[], %v: f32[2]");
    let call = |d: f32| vec![ints(&[0, 2, -1]), Tensor::new(&[], &[d]), floats(&[2])];
    agree(&hot, &[call(3.0), call(5.5), call(0.0)]);
    refused(&hot, &[call(-1.0)]);
}

#[test]
fn transforms_along_a_read_axis() {
    let one_sided = one("DFT(%x, %n, %a) {onesided = 1}", "%x: f32[m, 6, 3, 1], %n: i64[], %a: i64[]");
    let call = |n, a| vec![floats(&[4, 6, 3, 1]), number(n), number(a)];
    agree(&one_sided, &[call(4, 0), call(8, 1), call(3, 2), call(5, -2), call(6, -3)]);
    refused(&one_sided, &[call(4, 3), call(4, -1), call(4, -5)]);
}
