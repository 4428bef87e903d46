//! Calls of the host-op library: over flat operands, with the texts of the global table.

use crate::ops::OpRow;
use crate::strings;
use crate::tensor::Tensor;
use burin_host::Texts;
use bytes::Bytes;

/// The global table as the library sees it.
struct Global;

impl Texts for Global {
    fn text(&self, number: i64) -> Option<&str> {
        strings::text_of(number)
    }

    fn number(&mut self, text: &str) -> i64 {
        strings::number_of(text)
    }
}

/// Bytes that lie as every element type wants it.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// The results of a row's function, of these types. Operands beyond those that the function has are
/// what the results' sizes were read from.
pub(super) fn call(
    op: &OpRow,
    inputs: &[Option<Tensor>],
    results: &[(crate::DType, Vec<usize>)],
) -> Result<Vec<Tensor>, String> {
    let function = burin_host::by_name(op.name)
        .ok_or_else(|| format!("the host-op library of this program has no {}", op.name))?;
    let given: Vec<(Vec<u64>, usize)> = inputs
        .iter()
        .flatten()
        .take(function.inputs.len())
        .map(|t| (aligned(t.bytes()), t.bytes().len()))
        .collect();
    let given: Vec<&[u8]> = given.iter().map(|(words, n)| &bytemuck::cast_slice(words)[..*n]).collect();
    let sizes: Vec<usize> =
        results.iter().map(|(dtype, shape)| shape.iter().product::<usize>() * dtype.bytes()).collect();
    let mut memory: Vec<Vec<u64>> = sizes.iter().map(|n| vec![0; n.div_ceil(8)]).collect();
    let mut written: Vec<&mut [u8]> =
        memory.iter_mut().zip(&sizes).map(|(words, n)| &mut bytemuck::cast_slice_mut(words)[..*n]).collect();
    function.call(&given, &mut written, &mut Global)?;
    let tensor = |((words, n), (dtype, shape)): ((&Vec<u64>, &usize), &(crate::DType, Vec<usize>))| {
        let bytes = Bytes::copy_from_slice(&bytemuck::cast_slice(words)[..*n]);
        Tensor::from_bytes(*dtype, shape.clone(), bytes)
    };
    memory.iter().zip(&sizes).zip(results).map(tensor).collect()
}
