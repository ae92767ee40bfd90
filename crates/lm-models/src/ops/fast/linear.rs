//! The affine map.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::activation::Gelu;
use super::matmul::{Threads, matmul, product};
use super::matrix::{Matrix, Right};
use super::saved::{saved, widened};
use super::simd::{add, simd};
use super::tensor::{add_to, dims, right, tensor, values, values_mut};
use crate::ops::engine::Compute;
use crate::ops::extension::{Operation, apply};
use crate::ops::options::Layout;
use crate::ops::precision::Precision;

/// x, where the backward pass needs it, and the weight.
type Saved = (Option<FlexTensor>, FlexTensor);

#[derive(Debug)]
struct Linear {
    layout: Layout,
    /// What is multiplied in place of x is this function of it: it is computed again in the backward pass, which is one
    /// pass over memory that the function's own gradient needs anyway, rather than kept, the widest tensor of a layer.
    activation: Option<Gelu>,
    precision: Precision,
    /// Whether x is kept in bfloat16.
    narrow_saved: bool,
}

impl Linear {
    /// The weight as [in, out].
    fn matrix<'a>(&self, weight: &'a FlexTensor) -> Right<'a> {
        let stored = right(weight);
        if self.layout == Layout::OutIn { stored.transpose() } else { stored }
    }

    fn needs_x(&self, [of_x, of_weight]: [bool; 2]) -> bool {
        of_weight || (of_x && self.activation.is_some())
    }

    /// x is kept here in bfloat16, or else by autodiff.
    fn kept(&self, (x, weight): Saved, wanted: [bool; 2]) -> Saved {
        let x = x.filter(|_| self.narrow_saved && self.needs_x(wanted));
        (x.map(|x| saved(x, true, &wanted)), weight)
    }

    fn product(&self, x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
        let ([rows, inputs], weight) = (dims(x), self.matrix(weight));
        let activated = self.activation.map(|activation| activation.values(values(x)));
        let x = Matrix::new(activated.as_deref().unwrap_or(values(x)), rows, inputs);
        let y = product(x, weight, bias.map(values), Threads::All, self.precision);
        tensor(y, [rows, weight.columns()])
    }

    /// Gradients of x and the weight.
    fn gradients(
        &self,
        (x, weight): Saved,
        gradient: &FlexTensor,
        [of_x, of_weight]: [bool; 2],
        left: Option<FlexTensor>,
    ) -> [Option<FlexTensor>; 2] {
        let (x, weight) = (x.map(widened), &weight);
        let [rows, outputs] = dims(gradient);
        let g = Matrix::new(values(gradient), rows, outputs);
        let back = self.matrix(weight).transpose();
        let inputs = back.columns();
        // The slopes of an activation are none of the others' business.
        let (left, others) = if self.activation.is_some() { (None, left) } else { (left, None) };
        let mut of_x = of_x.then(|| match left {
            Some(mut sum) => {
                matmul(values_mut(&mut sum), g, back, true, Threads::All, self.precision);
                sum
            }
            None => tensor(product(g, back, None, Threads::All, self.precision), [rows, inputs]),
        });
        let activated = self.activation.zip(x.as_ref()).map(|(activation, x)| match &mut of_x {
            Some(of_x) => activation.values_and_back(values(x), values_mut(of_x)),
            None => activation.values(values(x)),
        });
        let of_weight = x.as_ref().filter(|_| of_weight).map(|x| {
            let x = Matrix::new(activated.as_deref().unwrap_or(values(x)), rows, inputs);
            let result = match self.layout {
                Layout::OutIn => product(g.transpose(), x, None, Threads::All, self.precision),
                Layout::InOut => product(x.transpose(), g, None, Threads::All, self.precision),
            };
            tensor(result, dims(weight))
        });
        if let (Some(of_x), Some(others)) = (&mut of_x, others) {
            add_to(of_x, &others);
        }
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

    fn needed(&self, saved: Saved, wanted: [bool; 2]) -> Saved {
        self.kept(saved, wanted)
    }

    fn needs_first(&self, wanted: [bool; 2]) -> bool {
        self.needs_x(wanted) && !self.narrow_saved
    }

    fn give_first(saved: &mut Saved, x: FlexTensor) {
        saved.0 = Some(x);
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        self.gradients(saved, &gradient, wanted, None)
    }

    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
        left: FlexTensor,
    ) -> [Option<FlexTensor>; 2] {
        self.gradients(saved, &gradient, wanted, Some(left))
    }
}

impl Operation<Flex, 3> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        (self.product(&x, &weight, Some(&bias)), (Some(x), weight))
    }

    fn needed(&self, saved: Saved, [of_x, of_weight, _]: [bool; 3]) -> Saved {
        self.kept(saved, [of_x, of_weight])
    }

    fn needs_first(&self, [of_x, of_weight, _]: [bool; 3]) -> bool {
        self.needs_x([of_x, of_weight]) && !self.narrow_saved
    }

    fn give_first(saved: &mut Saved, x: FlexTensor) {
        saved.0 = Some(x);
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [x, weight] = self.gradients(saved, &gradient, [wanted[0], wanted[1]], None);
        [x, weight, wanted[2].then(|| of_bias(&gradient))]
    }

    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
        left: FlexTensor,
    ) -> [Option<FlexTensor>; 3] {
        let [x, weight] = self.gradients(saved, &gradient, [wanted[0], wanted[1]], Some(left));
        [x, weight, wanted[2].then(|| of_bias(&gradient))]
    }
}

fn of_bias(gradient: &FlexTensor) -> FlexTensor {
    let [_, outputs] = dims(gradient);
    tensor(column_sums(values(gradient), outputs), [outputs])
}

/// `x W + b`, or `f(x) W + b`.
pub fn linear(
    x: Tensor<2>,
    activation: Option<Gelu>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    layout: Layout,
    compute: Compute,
) -> Tensor<2> {
    let Compute { precision, narrow_saved, .. } = compute;
    let operation = Linear { layout, activation, precision, narrow_saved };
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
    use crate::ops::fast::layer_norm::layer_norm;
    use crate::ops::fast::rms_norm::rms_norm;
    use crate::ops::fast::tensor::primitive;
    use crate::ops::tests::host;

    #[test]
    fn a_frozen_weight_lets_go_of_what_it_was_multiplied_with() {
        let device = Device::flex().autodiff();
        for (trained, bias) in [(false, false), (false, true), (true, false), (true, true)] {
            // No leaf, whose gradient is taken out by the tensor itself.
            let x = Tensor::<2>::ones([3, 4], &device).require_grad() * 2.0;
            let weight = Tensor::<2>::ones([5, 4], &device).set_require_grad(trained);
            let bias = bias.then(|| Tensor::ones([5], &device).require_grad());
            let y = linear(x.clone(), None, weight, bias, Layout::OutIn, Compute::default());
            assert!(y.is_tracked());
            // Nobody else has it, unless the backward pass will want it.
            assert_eq!(primitive(x).is_unique(), !trained);
        }
    }

    /// Autodiff computes it again, for all that was multiplied with it.
    #[test]
    fn nobody_keeps_the_output_of_a_norm() {
        let device = Device::flex().autodiff();
        let vector = |value: f32| (Tensor::<1>::ones([4], &device) * value).require_grad();
        let x = || Tensor::<2>::ones([3, 4], &device).require_grad() * 2.0;
        for narrow_saved in [false, true] {
            let normal = [
                layer_norm(x(), vector(1.0), vector(2.0), 1e-5, narrow_saved),
                rms_norm(x(), vector(1.0), 0.0, 1e-5, narrow_saved),
            ];
            for normal in normal {
                let compute = Compute { narrow_saved, ..Compute::default() };
                let weights = [2.0f32, 3.0].map(|value| (Tensor::<2>::ones([5, 4], &device) * value).require_grad());
                let results =
                    weights.clone().map(|weight| linear(normal.clone(), None, weight, None, Layout::OutIn, compute));
                let values = host(normal.clone());
                assert!(primitive(normal).is_unique());
                let [one, two] = results;
                let gradients = (one + two).sum().backward();
                for weight in weights {
                    let gradient = host(weight.grad(&gradients).expect("a gradient"));
                    // Σ over three equal rows, rounded where they were kept rounded.
                    let near = gradient.iter().zip(values[..4].iter().cycle()).all(|(a, b)| (a - 3.0 * b).abs() < 1e-3);
                    assert!(near, "{gradient:?}, of rows like {values:?}");
                }
            }
        }
    }
}
