//! The affine map.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::matmul::{Threads, matmul, product};
use super::matrix::{Matrix, Right};
use super::simd::{add, simd};
use super::tensor::{dims, right, tensor, values, values_mut};
use crate::ops::extension::{Operation, Siblings, apply, apply_among};
use crate::ops::options::Layout;
use crate::ops::precision::Precision;

/// x, where the weight wants a gradient, and the weight.
type Saved = (Option<FlexTensor>, FlexTensor);

#[derive(Debug)]
struct Linear {
    layout: Layout,
    precision: Precision,
}

impl Linear {
    /// The weight as [in, out].
    fn matrix<'a>(&self, weight: &'a FlexTensor) -> Right<'a> {
        let stored = right(weight);
        if self.layout == Layout::OutIn { stored.transpose() } else { stored }
    }

    fn product(&self, x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
        let ([rows, inputs], weight) = (dims(x), self.matrix(weight));
        let x = Matrix::new(values(x), rows, inputs);
        let y = product(x, weight, bias.map(values), Threads::All, self.precision);
        tensor(y, [rows, weight.columns()])
    }

    /// Gradients of x and the weight.
    fn gradients(
        &self,
        (x, weight): &Saved,
        gradient: &FlexTensor,
        [of_x, of_weight]: [bool; 2],
        left: Option<FlexTensor>,
    ) -> [Option<FlexTensor>; 2] {
        let [rows, outputs] = dims(gradient);
        let g = Matrix::new(values(gradient), rows, outputs);
        let back = self.matrix(weight).transpose();
        let inputs = back.columns();
        let of_x = of_x.then(|| match left {
            Some(mut sum) => {
                matmul(values_mut(&mut sum), g, back, true, Threads::All, self.precision);
                sum
            }
            None => tensor(product(g, back, None, Threads::All, self.precision), [rows, inputs]),
        });
        let of_weight = x.as_ref().filter(|_| of_weight).map(|x| {
            let x = Matrix::new(values(x), rows, inputs);
            let result = match self.layout {
                Layout::OutIn => product(g.transpose(), x, None, Threads::All, self.precision),
                Layout::InOut => product(x.transpose(), g, None, Threads::All, self.precision),
            };
            tensor(result, dims(weight))
        });
        [of_x, of_weight]
    }
}

/// Σ over rows.
pub fn column_sums(x: &[f32], columns: usize) -> Vec<f32> {
    const COLUMNS: usize = 128;
    let mut total = vec![0.0; columns];
    total.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, sums)| {
        let start = chunk * COLUMNS;
        simd(
            #[inline(always)]
            || x.chunks_exact(columns).for_each(|row| add(sums, &row[start..start + sums.len()])),
        );
    });
    total
}

impl Operation<Flex, 2> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        (self.product(&x, &weight, None), (Some(x), weight))
    }

    fn needed((x, weight): Saved, wanted: [bool; 2]) -> Saved {
        (x.filter(|_| wanted[1]), weight)
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        self.gradients(&saved, &gradient, wanted, None)
    }

    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
        left: FlexTensor,
    ) -> [Option<FlexTensor>; 2] {
        self.gradients(&saved, &gradient, wanted, Some(left))
    }
}

impl Operation<Flex, 3> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        (self.product(&x, &weight, Some(&bias)), (Some(x), weight))
    }

    fn needed((x, weight): Saved, wanted: [bool; 3]) -> Saved {
        (x.filter(|_| wanted[1]), weight)
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [x, weight] = self.gradients(&saved, &gradient, [wanted[0], wanted[1]], None);
        [x, weight, wanted[2].then(|| of_bias(&gradient))]
    }

    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
        left: FlexTensor,
    ) -> [Option<FlexTensor>; 3] {
        let [x, weight] = self.gradients(&saved, &gradient, [wanted[0], wanted[1]], Some(left));
        [x, weight, wanted[2].then(|| of_bias(&gradient))]
    }
}

fn of_bias(gradient: &FlexTensor) -> FlexTensor {
    let [_, outputs] = dims(gradient);
    tensor(column_sums(values(gradient), outputs), [outputs])
}

/// Several `x Wᵀ + b`, whose gradients of x are added up where the first of them was written.
pub fn projections<const N: usize>(
    x: Tensor<2>,
    maps: [(Tensor<2>, Option<Tensor<1>>); N],
    precision: Precision,
) -> [Tensor<2>; N] {
    let siblings = Siblings::default();
    maps.map(|(weight, bias)| {
        let (x, weight) = (x.clone().into_dispatch(), weight.into_dispatch());
        match bias {
            Some(bias) => {
                apply_among(&siblings, Linear { layout: Layout::OutIn, precision }, [x, weight, bias.into_dispatch()])
            }
            None => apply_among(&siblings, Linear { layout: Layout::OutIn, precision }, [x, weight]),
        }
    })
}

/// `x W + b`
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    layout: Layout,
    precision: Precision,
) -> Tensor<2> {
    let operation = Linear { layout, precision };
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    match bias {
        Some(bias) => apply(operation, [x, weight, bias.into_dispatch()]),
        None => apply(operation, [x, weight]),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::fast::tensor::primitive;

    #[test]
    fn a_frozen_weight_lets_go_of_what_it_was_multiplied_with() {
        let device = Device::flex().autodiff();
        for (trained, bias) in [(false, false), (false, true), (true, false), (true, true)] {
            let x = Tensor::<2>::ones([3, 4], &device).require_grad();
            let weight = Tensor::<2>::ones([5, 4], &device).set_require_grad(trained);
            let bias = bias.then(|| Tensor::ones([5], &device).require_grad());
            let y = linear(x.clone(), weight, bias, Layout::OutIn, Precision::Float32);
            assert!(y.is_tracked());
            // Nobody else has it, unless the backward pass will want it.
            assert_eq!(primitive(x).is_unique(), !trained);
        }
    }
}
