//! What comes behind a detector: boxes are filtered, sorted, suppressed and gathered, and all sizes but
//! the first depend on data, as does the memory that sorting and suppressing need for each worker.

use burin_ir::{DType, Scalar, Tensor};
use burin_runtime::Session;
use burin_tests::calls::{agree, floats, ints, number, parse, refused};
use burin_tests::native;

/// A box by its corners, with a score.
type Scored = ([f32; 4], f32);

/// Boxes of which some overlap: the second overlaps the first by 81 of 119, the fourth lies in the
/// first and covers 16 of its 100, the fifth overlaps the third by 80 of 120.
const BOXES: [Scored; 6] = [
    ([0.0, 0.0, 10.0, 10.0], 0.9),
    ([1.0, 1.0, 11.0, 11.0], 0.8),
    ([20.0, 20.0, 30.0, 30.0], 0.7),
    ([0.0, 0.0, 4.0, 4.0], 0.2),
    ([20.0, 22.0, 30.0, 32.0], 0.95),
    ([50.0, 50.0, 60.0, 60.0], 0.6),
];

/// The boxes above a threshold, of those the best ones, and of those such that overlap no better one by
/// more than half; with their scores and numbers.
const DETECT: &str = "graph @detect(%boxes: f32[n, 4], %scores: f32[n], %least: f32[], %most: i64[1]) {
  %good = Greater(%scores, %least)
  %where = NonZero(%good)
  %zero = const i64[1] [0]
  %at = Squeeze(%where, %zero)
  %kept = Gather(%scores, %at)
  %places = Compress(%boxes, %good) {axis = 0}
  %count = Shape(%kept)
  %take = Min(%count, %most)
  %top, %order = TopK(%kept, %take)
  %first = Gather(%places, %order)
  %b = Unsqueeze(%first, %zero)
  %both = const i64[2] [0, 1]
  %s = Unsqueeze(%top, %both)
  %each = const i64[1] [100]
  %iou = const f32[1] [0.5]
  %picks = NonMaxSuppression(%b, %s, %each, %iou)
  %two = const i64[] 2
  %numbers = Gather(%picks, %two) {axis = 1}
  %found = Gather(%first, %numbers)
  %best = Gather(%top, %numbers)
  %from = Gather(%order, %numbers)
  %source = Gather(%at, %from)
  return %found, %best, %source
}
";

fn detect(boxes: &[Scored], least: f32, most: i64) -> Vec<Tensor> {
    let corners: Vec<f32> = boxes.iter().flat_map(|(b, _)| *b).collect();
    let scores: Vec<f32> = boxes.iter().map(|(_, s)| *s).collect();
    vec![
        Tensor::new(&[boxes.len(), 4], &corners),
        Tensor::new(&[boxes.len()], &scores),
        Tensor::new(&[], &[least]),
        ints(&[most]),
    ]
}

#[test]
fn the_best_boxes_are_detected() {
    let g = parse(DETECT);
    type Case<'a> = (&'a [Scored], f32, i64, &'a [i64]);
    let cases: [Case<'_>; 7] = [
        (&BOXES, 0.5, 100, &[4, 0, 5]),
        (&BOXES, 0.1, 100, &[4, 0, 5, 3]),
        (&BOXES, 0.5, 3, &[4, 0]),
        (&BOXES, 0.92, 100, &[4]),
        (&BOXES, 1.0, 100, &[]),
        (&BOXES, 0.5, 0, &[]),
        (&[], 0.5, 100, &[]),
    ];
    for target in native::levels() {
        let model = native::compile(&g, &target).expect("compiles").load().expect("loads");
        let mut session = Session::new(&model).expect("a session");
        for (boxes, least, most, expected) in cases {
            let inputs = detect(boxes, least, most);
            let found = native::run(&mut session, &inputs).expect("runs");
            let all = expected.iter().map(|i| BOXES[*i as usize]);
            let corners: Vec<f32> = all.clone().flat_map(|(b, _)| b).collect();
            let scores: Vec<f32> = all.map(|(_, s)| s).collect();
            assert_eq!(*found[2].values::<i64>(), *expected, "{least} {most}");
            assert_eq!(found[0].shape(), [expected.len(), 4]);
            assert_eq!(*found[0].values::<f32>(), *corners);
            assert_eq!(*found[1].values::<f32>(), *scores);
        }
    }
    let many: Vec<Scored> = (0..500)
        .map(|i| {
            let at = |i: usize| ((i * 37 + 11) % 101) as f32;
            ([at(i), at(i + 3), at(i) + 9.0, at(i + 3) + 11.0], at(i * 7) / 100.0)
        })
        .collect();
    agree(DETECT, &[detect(&many, 0.3, 200), detect(&many, 0.9, 7), detect(&many, 0.01, 1000)]);
}

#[test]
fn filtered_boxes_of_several_classes_are_suppressed() {
    let text = "graph @classes(%boxes: f32[b, n, 4], %scores: f32[b, c, n], %keep: bool[m], %least: f32[1]) {
  %kept = Compress(%boxes, %keep) {axis = 1}
  %rated = Compress(%scores, %keep) {axis = 2}
  %most = const i64[1] [5]
  %iou = const f32[1] [0.3]
  %picks = NonMaxSuppression(%kept, %rated, %most, %iou, %least)
  %fewer = NonMaxSuppression(%kept, %rated, %most)
  return %picks, %fewer
}
";
    let call = |b: usize, c: usize, n: usize, keep: &dyn Fn(usize) -> bool| {
        let at = |i: usize| ((i * 37 + 11) % 50) as f32 / 50.0;
        let corners = (0..b * n).flat_map(|i| [at(i), at(i + 3), at(i) + 0.3, at(i + 3) + 0.2]);
        let keep: Vec<bool> = (0..n).map(keep).collect();
        vec![
            Tensor::new(&[b, n, 4], &corners.collect::<Vec<f32>>()),
            Tensor::new(&[b, c, n], &(0..b * c * n).map(|i| at(i * 7)).collect::<Vec<f32>>()),
            Tensor::from_scalars(DType::Bool, &[n], keep.into_iter().map(Scalar::B)),
            Tensor::new(&[1], &[0.2f32]),
        ]
    };
    agree(
        text,
        &[
            call(2, 3, 40, &|i| i % 3 != 0),
            call(1, 1, 9, &|_| true),
            call(5, 4, 17, &|i| i == 7),
            call(2, 2, 6, &|_| false),
            call(2, 2, 0, &|_| true),
            call(0, 2, 5, &|_| true),
        ],
    );
}

#[test]
fn as_many_as_data_say_are_sorted_out_of_as_many_as_data_say() {
    // Each lane is a task.
    let text = "graph @lanes(%x: f32[m, n, 3], %keep: bool[n], %k: i64[1]) {
  %kept = Compress(%x, %keep) {axis = 1}
  %top, %at = TopK(%kept, %k) {axis = 1}
  %low, %from = TopK(%top, %k) {axis = 1, largest = 0}
  %kinds, %first, %back, %counts = Unique(%at) {sorted = 0}
  %rows = Unique(%kept) {axis = 1}
  return %top, %at, %low, %from, %kinds, %first, %back, %counts, %rows
}
";
    let call = |m: usize, n: usize, k: i64, keep: &dyn Fn(usize) -> bool| {
        let keep = (0..n).map(|i| Scalar::B(keep(i)));
        vec![floats(&[m, n, 3]), Tensor::from_scalars(DType::Bool, &[n], keep), ints(&[k])]
    };
    agree(
        text,
        &[
            call(4, 9, 3, &|i| i % 2 == 0),
            call(30, 40, 17, &|i| i % 7 != 0),
            call(2, 5, 0, &|_| true),
            call(2, 5, 0, &|_| false),
            call(0, 5, 2, &|_| true),
            call(3, 1, 1, &|_| true),
        ],
    );
    refused(text, &[call(4, 9, 6, &|i| i % 2 == 0), call(4, 9, 1, &|_| false), call(4, 9, -1, &|_| true)]);
}

#[test]
fn what_is_found_is_made_distinct() {
    let text = "graph @distinct(%x: f32[n, m]) {
  %where = NonZero(%x)
  %y, %first, %back, %counts = Unique(%where)
  %columns = Unique(%where) {axis = 1, sorted = 0}
  %again = Unique(%counts)
  return %y, %first, %back, %counts, %columns, %again
}
";
    let zeros = |n: usize, m: usize| Tensor::new(&[n, m], &vec![0f32; n * m]);
    agree(text, &[vec![floats(&[5, 7])], vec![zeros(3, 4)], vec![floats(&[0, 2])], vec![floats(&[40, 30])]]);
}

#[test]
fn matrices_of_sizes_from_data_have_determinants() {
    let text = "graph @determinants(%x: f32[n], %to: i64[3]) {
  %m = Reshape(%x, %to)
  %d = Det(%m)
  return %d
}
";
    let call = |n: usize, to: [i64; 3]| vec![floats(&[n]), ints(&to)];
    agree(text, &[call(12, [3, 2, 2]), call(27, [-1, 3, 3]), call(5, [5, 1, 1]), call(0, [0, 4, 4])]);
}

/// A loop filters anew each time, by a threshold that grows, and a branch only where there are enough.
#[test]
fn regions_suppress_and_sort() {
    let text = "graph @regions(%boxes: f32[n, 4], %scores: f32[n], %times: i64[], %least: f32[]) {
  %go = const bool[] true
  %none = const f32[0] []
  %zero = const i64[1] [0]
  %both = const i64[2] [0, 1]
  %two = const i64[] 2
  %each = const i64[1] [10]
  %iou = const f32[1] [0.5]
  %three = const i64[] 3
  %axis = const i64[] 0
  %tenth = const f32[] 0.1
  %last, %all, %counts = Loop(%times, %go, %least, %none) {counted = 1} region (%i: i64[], %c: bool[], %limit: f32[], %list: f32[\"?v0\"]) {
    %good = Greater(%scores, %limit)
    %rated = Compress(%scores, %good) {axis = 0}
    %kept = Compress(%boxes, %good) {axis = 0}
    %size = Shape(%rated)
    %number = Squeeze(%size, %zero)
    %enough = GreaterOrEqual(%number, %three)
    %found = If(%enough) region () {
      %b = Unsqueeze(%kept, %zero)
      %s = Unsqueeze(%rated, %both)
      %picks = NonMaxSuppression(%b, %s, %each, %iou)
      %numbers = Gather(%picks, %two) {axis = 1}
      %best = Gather(%rated, %numbers)
      yield %best
    } region () {
      %sorted, %order = TopK(%rated, %size)
      yield %sorted
    }
    %more = Concat(%list, %found) {axis = 0}
    %distinct = Unique(%more)
    %next = Add(%limit, %tenth)
    yield %c, %next, %distinct, %number
  }
  return %last, %all, %counts
}
";
    let call = |boxes: &[Scored], times: i64, least: f32| {
        let mut inputs = detect(boxes, least, 0);
        inputs.truncate(2);
        inputs.extend([number(times), Tensor::new(&[], &[least])]);
        inputs
    };
    agree(text, &[call(&BOXES, 1, 0.15), call(&BOXES, 10, 0.05), call(&BOXES, 0, 0.1), call(&[], 3, 0.1)]);
}
