//! How a weight's elements are moved when it is written: from row-major to where kernels want them.

use burin_ir::Tensor;

/// Columns that a panel of packed weights has: two vectors of AVX2 or one of AVX-512, so that weights
/// are the same whatever the code.
pub const PANEL: i64 = 16;

/// The place of each element of a weight, in elements from its start. Places that no element has hold
/// zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// One stride a dimension.
    pub strides: Vec<usize>,
    /// The dimension that is cut into panels: its number, a panel's width, and the stride from one
    /// panel to the next. Within a panel its elements lie side by side.
    pub panels: Option<(usize, usize, usize)>,
    /// Elements in all.
    pub len: usize,
}

impl Packing {
    /// The bytes of a tensor, packed.
    pub fn apply(&self, t: &Tensor) -> Vec<u8> {
        let size = t.dtype().bytes();
        let mut out = vec![0; self.len * size];
        match size {
            4 => self.copy::<4>(t, &mut out),
            8 => self.copy::<8>(t, &mut out),
            2 => self.copy::<2>(t, &mut out),
            _ => self.copy::<1>(t, &mut out),
        }
        out
    }

    fn copy<const N: usize>(&self, t: &Tensor, out: &mut [u8]) {
        let (from, _) = t.bytes().as_chunks::<N>();
        let (to, _) = out.as_chunks_mut::<N>();
        let sources = burin_ir::tensor::strides(t.shape());
        let all = t.shape().iter().zip(sources).zip(&self.strides);
        let mut dims: Vec<Dim> =
            all.map(|((count, source), place)| Dim { count: *count, source, place: *place }).collect();
        let Some((axis, width, stride)) = self.panels else {
            return walk(&in_order(dims), (0, 0), (from, to));
        };
        let columns = dims.remove(axis);
        let dims = in_order(dims);
        for panel in 0..columns.count.div_ceil(width) {
            let first = panel * width;
            let lanes = Dim { count: width.min(columns.count - first), source: columns.source, place: 1 };
            let all = [&dims[..], &[lanes]].concat();
            walk(&all, (first * columns.source, panel * stride), (from, to));
        }
    }
}

/// A loop over a dimension: how far each turn moves in the source and in the result.
#[derive(Clone)]
struct Dim {
    count: usize,
    source: usize,
    place: usize,
}

/// Loops that write from the first place to the last.
fn in_order(mut dims: Vec<Dim>) -> Vec<Dim> {
    dims.sort_by_key(|d| std::cmp::Reverse(d.place));
    dims
}

fn walk<T: Copy>(dims: &[Dim], (source, place): (usize, usize), (from, to): (&[T], &mut [T])) {
    match dims {
        [] => to[place] = from[source],
        [d] => (0..d.count).for_each(|i| to[place + i * d.place] = from[source + i * d.source]),
        [d, inner @ ..] => {
            for i in 0..d.count {
                walk(inner, (source + i * d.source, place + i * d.place), (from, to));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_lie_in_panels() {
        let t = Tensor::new(&[2, 5], &[0f32, 1., 2., 3., 4., 10., 11., 12., 13., 14.]);
        let packing = Packing { strides: vec![3, 1], panels: Some((1, 3, 6)), len: 12 };
        let packed: Vec<f32> = bytemuck::pod_collect_to_vec(&packing.apply(&t));
        assert_eq!(packed, [0., 1., 2., 10., 11., 12., 3., 4., 0., 13., 14., 0.]);
    }

    #[test]
    fn dimensions_change_their_order() {
        let t = Tensor::new(&[2, 3], &[0i64, 1, 2, 10, 11, 12]);
        let packing = Packing { strides: vec![1, 2], panels: None, len: 6 };
        let packed: Vec<i64> = bytemuck::pod_collect_to_vec(&packing.apply(&t));
        assert_eq!(packed, [0, 10, 1, 11, 2, 12]);
    }
}
