//! Several products of the same rows, and the parts of one product: queries, keys and values come out apart.

use burn::tensor::Tensor;

use super::engine::Engine;
use super::linear::affine;
use super::options::Layout;
use crate::Mode;

/// `x Wᵀ + b` for several weights stored [out, in], with their biases; [rows, in] → [rows, out] each.
pub fn projections<const N: usize>(
    x: Tensor<2>,
    maps: [(Tensor<2>, Option<Tensor<1>>); N],
    mode: &Mode,
) -> [Tensor<2>; N] {
    let compute = mode.compute();
    let x = compute.narrow(x);
    match Engine::of(&x, compute) {
        // One launch for all of them.
        #[cfg(feature = "tch")]
        Engine::Torch if N > 1 && maps.iter().all(|(_, bias)| bias.is_some() == maps[0].1.is_some()) => {
            let widths = maps.each_ref().map(|(weight, _)| weight.dims()[0]);
            let (weights, biases): (Vec<_>, Vec<_>) = maps.into_iter().unzip();
            let biases: Vec<_> = biases.into_iter().flatten().collect();
            let bias = (!biases.is_empty()).then(|| Tensor::cat(biases, 0));
            columns(affine(x, Tensor::cat(weights, 0), bias, Layout::OutIn, compute), 1, widths, mode)
        }
        // Nothing is laid side by side, and none of the results has to be taken apart; the gradients of x are added up where
        // the first of them was written.
        _ => maps.map(|(weight, bias)| affine(x.clone(), weight, bias, Layout::OutIn, compute)),
    }
}

/// The parts of rows that consist of `groups` equal pieces, each of neighbouring columns of these widths, which are all that
/// there are; [rows, groups · Σ widths] → [rows, groups · width] each. Heads whose queries, keys and values lie together come
/// out as queries, keys and values.
pub fn columns<const N: usize>(x: Tensor<2>, groups: usize, widths: [usize; N], mode: &Mode) -> [Tensor<2>; N] {
    let mut end = 0;
    let ranges = widths.map(|width| {
        end += width;
        end - width..end
    });
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::columns::columns(x, groups, ranges),
        _ if groups == 1 => ranges.map(|range| x.clone().narrow(1, range.start, range.len())),
        _ => {
            let [rows, width] = x.dims();
            let x = x.reshape([rows, groups, width / groups]);
            ranges.map(|range| x.clone().narrow(2, range.start, range.len()).reshape([rows, groups * range.len()]))
        }
    }
}
