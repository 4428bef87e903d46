//! Control flow and sizes that depend on data: graphs that the evaluator and compiled code run alike, and
//! calls that both refuse.

use burin_ir::graph::eval;
use burin_ir::{DType, Scalar, Tensor};
use burin_runtime::Session;
use burin_tests::calls::{agree, flag, floats, ints, number, parse, refused};
use burin_tests::native;

#[test]
fn a_branch_sees_what_is_around_it() {
    let text = "graph @branches(%c: bool[], %x: f32[n, 3]) {
  %y = Neg(%x)
  %r, %s = If(%c) region () {
    %a = Add(%x, %y)
    %b = ReduceSum(%y) {keepdims = 0}
    yield %a, %b
  } region () {
    %t = Concat(%x, %y) {axis = 0}
    %u = ReduceMax(%t) {keepdims = 0}
    yield %t, %u
  }
  %z = Mul(%r, %s)
  return %z, %r
}
";
    let calls = [(true, 2), (false, 2), (false, 5), (true, 1)];
    agree(text, &calls.map(|(c, n)| vec![flag(c), floats(&[n, 3])]));
}

#[test]
fn a_loop_carries_values_that_change_places() {
    let text = "graph @swap(%n: i64[], %x: f32[4], %y: f32[4]) {
  %go = const bool[] true
  %a, %b, %rows = Loop(%n, %go, %x, %y) {counted = 1} region (%i: i64[], %c: bool[], %p: f32[4], %q: f32[4]) {
    %f = Cast(%i) {to = f32}
    %s = Add(%p, %f)
    yield %c, %q, %p, %s
  }
  return %a, %b, %rows
}
";
    agree(text, &[0, 1, 2, 7].map(|n| vec![number(n), floats(&[4]), floats(&[4])]));
}

#[test]
fn a_loop_ends_where_its_condition_says() {
    let text = "graph @collatz(%start: i64[]) {
  %one = const i64[] 1
  %two = const i64[] 2
  %three = const i64[] 3
  %zero = const i64[] 0
  %equal = Equal(%start, %one)
  %first = Not(%equal)
  %last, %steps = Loop(_, %first, %start, %zero) region (%i: i64[], %c: bool[], %v: i64[], %n: i64[]) {
    %rest = Mod(%v, %two)
    %even = Equal(%rest, %zero)
    %next = If(%even) region () {
      %half = Div(%v, %two)
      yield %half
    } region () {
      %more = Mul(%v, %three)
      %odd = Add(%more, %one)
      yield %odd
    }
    %done = Equal(%next, %one)
    %go = Not(%done)
    %m = Add(%n, %one)
    yield %go, %next, %m
  }
  return %last, %steps
}
";
    agree(text, &[1, 6, 27].map(|n| vec![number(n)]));
}

/// The first loop has room for all that it may collect; of the second nobody knows how much that is.
#[test]
fn a_loop_that_ends_by_a_condition_collects() {
    for bound in ["%bound", "_"] {
        let text = "graph @until(%x: f32[2, 3], %limit: f32[], %first: bool[]) {
  %zero = const f32[] 0.0
  %bound = const i64[] 40
  %sum, %rows, %at = Loop(BOUND, %first, %zero) region (%i: i64[], %c: bool[], %s: f32[]) {
    %size = ReduceMax(%x) {keepdims = 0}
    %f = Cast(%i) {to = f32}
    %more = Add(%s, %size)
    %go = Less(%more, %limit)
    %scaled = Mul(%x, %f)
    %row = ReduceSum(%scaled) {keepdims = 0}
    %place = Add(%scaled, %row)
    yield %go, %more, %place, %i
  }
  %e = Exp(%rows)
  %d = Shape(%rows)
  %last = ReduceSum(%at) {keepdims = 0}
  return %sum, %rows, %e, %d, %last
}
"
        .replace("BOUND", bound);
        let call = |limit: f32, first: bool| {
            vec![floats(&[2, 3]), Tensor::scalar(DType::F32, Scalar::F(limit.into())), flag(first)]
        };
        let mut calls = vec![call(4.0, true), call(0.1, true), call(4.0, false), call(20.0, true)];
        if bound == "%bound" {
            calls.push(call(2000.0, true));
        }
        agree(&text, &calls);
    }
}

#[test]
fn a_scan_runs_along_rows_in_both_directions() {
    let text = "graph @sums(%x: f32[n, 5], %w: f32[5, 5]) {
  %zero = const f32[5] [0, 0, 0, 0, 0]
  %last, %all = Scan(%zero, %x) {num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1]} region (%s: f32[5], %row: f32[5]) {
    %p = MatMul(%s, %w)
    %t = Tanh(%p)
    %next = Add(%t, %row)
    yield %next, %next
  }
  return %last, %all
}
";
    agree(text, &[1, 2, 9].map(|n| vec![floats(&[n, 5]), floats(&[5, 5])]));
}

#[test]
fn sizes_follow_from_data() {
    let text = "graph @sizes(%x: f32[m, n], %to: i64[2], %from: i64[1], %until: i64[1], %times: i64[2]) {
  %r = Reshape(%x, %to)
  %e = Exp(%r)
  %s = Slice(%e, %from, %until)
  %t = Tile(%s, %times)
  %k = ReduceSum(%t) {keepdims = 0}
  %d = Shape(%t)
  return %t, %k, %d
}
";
    let call = |to: [i64; 2], from: i64, until: i64, times: [i64; 2]| {
        vec![floats(&[4, 6]), ints(&to), ints(&[from]), ints(&[until]), ints(&times)]
    };
    agree(
        text,
        &[
            call([6, 4], 0, 9, [1, 1]),
            call([-1, 3], -2, 100, [2, 3]),
            call([0, 6], 1, 3, [1, 0]),
            call([24, 1], 5, 5, [4, 1]),
            call([2, -1], 0, 1, [3, 2]),
        ],
    );
    refused(text, &[call([5, 5], 0, 1, [1, 1]), call([-2, 12], 0, 1, [1, 1])]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let x = || floats(&[3, 6]);
    let with = |op: &str, results: &str| {
        format!("graph @one(%x: f32[3, 6], %n: i64[2]) {{\n  {results} = {op}\n  return {results}\n}}\n")
    };
    let split = with("Split(%x, %n) {axis = 1}", "%a, %b");
    agree(&split, &[vec![x(), ints(&[2, 4])], vec![x(), ints(&[6, 0])]]);
    refused(&split, &[vec![x(), ints(&[4, 4])], vec![x(), ints(&[1, 1])], vec![x(), ints(&[8, -2])]]);
    let tile = with("Tile(%x, %n)", "%a");
    refused(&tile, &[vec![x(), ints(&[-1, 2])]]);
    let expand = with("Expand(%x, %n)", "%a");
    agree(&expand, &[vec![x(), ints(&[3, 6])], vec![x(), ints(&[1, 1])]]);
    refused(&expand, &[vec![x(), ints(&[5, 6])], vec![x(), ints(&[3, -6])]]);
    let pad = with("Pad(%x, %n) {mode = \"constant\"}", "%a").replace("i64[2]", "i64[4]");
    agree(&pad, &[vec![x(), ints(&[1, 0, -1, 2])]]);
    refused(&pad, &[vec![x(), ints(&[-2, 0, -2, 0])]]);
    let fill = "graph @fill(%n: i64[2]) {\n  %a = ConstantOfShape(%n)\n  return %a\n}\n";
    refused(fill, &[vec![ints(&[2, -1])]]);
    let top = "graph @top(%x: f32[3, 6], %k: i64[1]) {\n  %a, %b = TopK(%x, %k)\n  return %a, %b\n}\n";
    agree(top, &[vec![x(), ints(&[2])], vec![x(), ints(&[0])]]);
    refused(top, &[vec![x(), ints(&[7])], vec![x(), ints(&[-1])]]);
}

#[test]
fn operands_that_do_not_broadcast_are_refused() {
    let text = "graph @add(%x: f32[n], %y: f32[m]) {\n  %s = Add(%x, %y)\n  return %s\n}\n";
    let call = |n: usize, m: usize| vec![floats(&[n]), floats(&[m])];
    agree(text, &[call(4, 4), call(1, 5), call(7, 1), call(0, 0)]);
    refused(text, &[call(3, 4), call(0, 3), call(5, 0)]);
}

fn longs(shape: &[usize], v: &[i64]) -> Tensor {
    Tensor::new(shape, v)
}

fn mask(shape: &[usize], of: impl Fn(usize) -> bool) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_scalars(DType::Bool, shape, (0..n).map(|i| Scalar::B(of(i))))
}

#[test]
fn a_scatter_changes_no_value_that_is_used_elsewhere() {
    let text = "graph @puts(%x: f32[n, 4], %i: i64[k, 1], %u: f32[k, 4], %j: i64[2, 2]) {
  %e = Exp(%x)
  %a = ScatterND(%e, %i, %u)
  %b = ScatterND(%a, %i, %u) {reduction = \"add\"}
  %v = Shape(%e) {start = 1}
  %two = ConstantOfShape(%v)
  %few = const i64[1] [2]
  %s = Slice(%two, %few, %v)
  %c = ScatterND(%b, %j, %s)
  %again = ScatterND(%x, %i, %u) {reduction = \"max\"}
  %r = ScatterND(%e, %i, %u) {reduction = \"mul\"}
  %n = Neg(%r)
  %d = ScatterND(%n, %i, %u) {reduction = \"min\"}
  %t = Add(%d, %n)
  %both = Concat(%n, %t) {axis = 0}
  %o = ScatterND(%both, %i, %u)
  %w = Mul(%n, %t)
  return %c, %again, %t, %x, %o, %w
}
";
    let call = |n: usize, at: &[i64]| {
        vec![
            floats(&[n, 4]),
            longs(&[at.len(), 1], at),
            floats(&[at.len(), 4]),
            longs(&[2, 2], &[0, 1, -1, -4]),
        ]
    };
    agree(text, &[call(3, &[2, -3, 2]), call(1, &[0]), call(5, &[]), call(9, &[8, 7, -9, 8])]);
}

#[test]
fn a_scatter_at_constant_places_writes_rows() {
    let text = "graph @rows(%x: f32[2, 3, 4], %u: f32[2, 4], %v: f32[2, 1, 4]) {
  %i = const i64[2, 2] [0, 1, 1, -1]
  %j = const i64[2, 1, 4, 3] [0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 1, 2, 0, 1, 2, 1, 1, 2, 2, 1, 2, 3]
  %a = ScatterND(%x, %i, %u)
  %b = ScatterND(%a, %j, %v) {reduction = \"add\"}
  return %b
}
";
    agree(text, &[vec![floats(&[2, 3, 4]), floats(&[2, 4]), floats(&[2, 1, 4])]]);
}

/// The evaluator refuses such indices.
#[test]
fn indices_out_of_range_are_passed_over() {
    let text = "graph @outside(%x: f32[3, 2], %i: i64[k, 2], %u: f32[k], %j: i64[1, 3], %w: f32[1, 3]) {
  %a = ScatterND(%x, %i, %u)
  %b = ScatterElements(%a, %j, %w) {axis = 1}
  return %b
}
";
    let text = text.replace("i64[1, 3], %w: f32[1, 3]", "i64[1, 2], %w: f32[1, 2]");
    let at = [0, 0, 3, 0, -4, 1, 2, -3, i64::MAX, i64::MIN, 2, 1];
    let inputs = vec![
        Tensor::new(&[3, 2], &[0f32; 6]),
        longs(&[6, 2], &at),
        Tensor::new(&[6], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]),
        longs(&[1, 2], &[2, -2]),
        Tensor::new(&[1, 2], &[7f32, 8.0]),
    ];
    let g = parse(&text);
    assert!(eval::eval(&g, &inputs, &[]).is_err(), "it is evaluated");
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("a session");
        let found = native::run(&mut session, &inputs).expect("runs");
        assert_eq!(found[0].to_f64s(), [8.0, 0.0, 0.0, 0.0, 0.0, 6.0]);
    }
}

#[test]
fn updates_that_do_not_fit_are_refused() {
    let text = "graph @nd(%x: f32[3, n], %i: i64[k, 1], %u: f32[m, p]) {
  %a = ScatterND(%x, %i, %u)
  return %a
}
";
    let call = |n: usize, k: usize, m: usize, p: usize| {
        vec![floats(&[3, n]), longs(&[k, 1], &vec![1; k]), floats(&[m, p])]
    };
    agree(text, &[call(4, 2, 2, 4), call(4, 0, 0, 4), call(0, 2, 2, 0)]);
    refused(text, &[call(4, 2, 1, 4), call(4, 2, 2, 3)]);
}

#[test]
fn what_is_detected_is_gathered() {
    let text = "graph @detect(%boxes: f32[1, n, 4], %scores: f32[1, c, n], %most: i64[1], %iou: f32[1], %least: f32[1]) {
  %picks = NonMaxSuppression(%boxes, %scores, %most, %iou, %least)
  %two = const i64[] 2
  %numbers = Gather(%picks, %two) {axis = 1}
  %axis = const i64[1] [0]
  %flat = Squeeze(%boxes, %axis)
  %found = Gather(%flat, %numbers) {axis = 0}
  %all = Squeeze(%scores, %axis)
  %steps = const i64[1] [1]
  %three = const i64[1] [3]
  %place = Slice(%picks, %steps, %three, %steps)
  %best = GatherND(%all, %place)
  %twice = Mul(%found, %found)
  return %picks, %twice, %best
}
";
    let call = |n: usize, c: usize, most: i64, iou: f32, least: f32| {
        let at = |i: usize| ((i * 37 + 11) % 50) as f32 / 50.0;
        let corners = (0..n).flat_map(|i| [at(i), at(i + 3), at(i) + 0.3, at(i + 3) + 0.2]);
        vec![
            Tensor::new(&[1, n, 4], &corners.collect::<Vec<f32>>()),
            Tensor::new(&[1, c, n], &(0..c * n).map(|i| at(i * 7)).collect::<Vec<f32>>()),
            longs(&[1], &[most]),
            Tensor::new(&[1], &[iou]),
            Tensor::new(&[1], &[least]),
        ]
    };
    agree(
        text,
        &[
            call(40, 3, 10, 0.4, 0.2),
            call(17, 1, 100, 0.0, 0.0),
            call(17, 2, 3, 1.0, 2.0),
            call(0, 2, 3, 0.5, 0.0),
            call(5, 2, 0, 0.5, 0.0),
            call(5, 2, -1, 0.5, 0.0),
        ],
    );
}

#[test]
fn a_mask_chooses_and_replaces() {
    let text = "graph @masked(%x: f32[n, m], %mask: bool[n, m], %v: f32[]) {
  %where = NonZero(%mask)
  %at = Transpose(%where) {perm = [1, 0]}
  %chosen = GatherND(%x, %at)
  %more = Exp(%chosen)
  %back = ScatterND(%x, %at, %more)
  %size = Shape(%chosen)
  %same = Expand(%v, %size)
  %put = ScatterND(%x, %at, %same)
  %sum = ReduceSum(%chosen) {keepdims = 0}
  return %chosen, %back, %put, %sum, %size
}
";
    let call = |n: usize, m: usize, of: &dyn Fn(usize) -> bool| {
        let v = Tensor::scalar(DType::F32, Scalar::F(9.0));
        vec![floats(&[n, m]), mask(&[n, m], of), v]
    };
    let calls = [
        call(3, 5, &|i| i % 3 == 1),
        call(3, 5, &|_| false),
        call(2, 2, &|_| true),
        call(0, 4, &|_| true),
        call(7, 33, &|i| i % 7 < 3),
    ];
    agree(text, &calls);
}

#[test]
fn what_is_distinct_is_counted() {
    let text = "graph @distinct(%x: f32[n, 3]) {
  %y, %first, %kinds, %counts = Unique(%x)
  %rows, %at = Unique(%x) {axis = 0, sorted = 0}
  %again = Gather(%y, %kinds)
  %total = ReduceSum(%counts) {keepdims = 0}
  return %y, %first, %kinds, %counts, %rows, %at, %again, %total
}
";
    let call = |v: &[f32]| vec![Tensor::new(&[v.len() / 3, 3], v)];
    agree(
        text,
        &[
            call(&[1.0, 2.0, 1.0, 0.0, 2.0, 2.0, 1.0, 2.0, 1.0, -3.0, 2.0, 2.0]),
            call(&[5.0, 5.0, 5.0]),
            call(&[]),
            call(&[0.0, -0.0, 1.0, f32::INFINITY, 0.0, 0.0]),
        ],
    );
}

/// Of a row as many are found as of the first one, which is known only in the loop.
#[test]
fn loops_collect_what_has_a_size_from_data() {
    let counted = "graph @counted(%x: f32[n, 4], %m: i64[]) {
  %go = const bool[] true
  %rows, %more = Loop(%m, %go) {counted = 1} region (%i: i64[], %c: bool[]) {
    %row = Gather(%x, %i)
    %at = NonZero(%row)
    %f = Cast(%at) {to = f32}
    %e = Exp(%f)
    yield %c, %at, %e
  }
  %all = const i64[1] [-1]
  %flat = Reshape(%rows, %all)
  %twice = Concat(%flat, %flat) {axis = 0}
  %kinds = Unique(%twice)
  %d = Shape(%more)
  %sum = ReduceSum(%more) {keepdims = 0}
  return %rows, %twice, %kinds, %d, %sum
}
";
    let until = "graph @until(%x: f32[n, 4], %m: i64[]) {
  %go = const bool[] true
  %one = const i64[] 1
  %rows = Loop(_, %go) region (%i: i64[], %c: bool[]) {
    %row = Gather(%x, %i)
    %at = NonZero(%row)
    %next = Add(%i, %one)
    %more = Less(%next, %m)
    yield %more, %at
  }
  %d = Shape(%rows)
  return %rows, %d
}
";
    let scan = "graph @scan(%x: f32[n, 4], %m: i64[]) {
  %f = Cast(%m) {to = f32}
  %y = Mul(%x, %f)
  %last, %rows = Scan(%f, %y) {num_scan_inputs = 1, scan_output_directions = [1]} region (%s: f32[], %row: f32[4]) {
    %at = NonZero(%row)
    %next = ReduceMax(%row) {keepdims = 0}
    yield %next, %at
  }
  return %last, %rows
}
";
    let two = [0.0f32, 1.0, 0.0, -2.0, 3.0, 0.0, 0.5, 0.0, 0.0, 0.0, 4.0, 1.0];
    let call = |v: &[f32], m: i64| vec![Tensor::new(&[v.len() / 4, 4], v), number(m)];
    let mut uneven = two;
    uneven[9] = 1.0;
    for text in [counted, until, scan] {
        agree(text, &[call(&two, 3), call(&two, 1), call(&[0.0; 8], 2), call(&[1.0; 4], 1)]);
        refused(text, &[call(&uneven, 3)]);
    }
    agree(counted, &[call(&two, 0), call(&uneven, 2)]);
    agree(scan, &[call(&[], 1)]);
    // By hand: where the elements are that are not zero.
    let g = parse(counted);
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("a session");
        let found = native::run(&mut session, &call(&two, 3)).expect("runs");
        assert_eq!((found[0].shape(), &*found[0].to_i64s()), (&[3, 1, 2][..], &[1, 3, 0, 2, 2, 3][..]));
    }
}
