//! The affine map.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;

use super::{Operation, apply};
use crate::ops::options::Layout;

/// x, where the weight wants a gradient, and the weight.
type Saved = (Option<TchTensor>, TchTensor);

#[derive(Debug)]
struct Linear(Layout);

impl Linear {
    fn product(&self, x: &TchTensor, weight: &TchTensor, bias: Option<&TchTensor>) -> TchTensor {
        let bias = bias.map(|bias| &bias.tensor);
        TchTensor::new(match self.0 {
            Layout::OutIn => x.tensor.linear(&weight.tensor, bias),
            Layout::InOut => x.tensor.linear(&weight.tensor.tr(), bias),
        })
    }

    /// Gradients of x and the weight.
    fn gradients(
        &self,
        (x, weight): Saved,
        gradient: &TchTensor,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<TchTensor>; 2] {
        let g = &gradient.tensor;
        let of_x = of_x.then(|| match self.0 {
            Layout::OutIn => g.mm(&weight.tensor),
            Layout::InOut => g.mm(&weight.tensor.tr()),
        });
        let of_weight = x.filter(|_| of_weight).map(|x| match self.0 {
            Layout::OutIn => g.tr().mm(&x.tensor),
            Layout::InOut => x.tensor.tr().mm(g),
        });
        [of_x, of_weight].map(|tensor| tensor.map(TchTensor::new))
    }
}

impl Operation<LibTorch, 2> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight]: [TchTensor; 2]) -> (TchTensor, Self::Saved) {
        (self.product(&x, &weight, None), (Some(x), weight))
    }

    fn needed(&self, (x, weight): Saved, wanted: [bool; 2]) -> Saved {
        (x.filter(|_| wanted[1]), weight)
    }

    fn backward(self, saved: Self::Saved, gradient: TchTensor, wanted: [bool; 2]) -> [Option<TchTensor>; 2] {
        self.gradients(saved, &gradient, wanted)
    }
}

impl Operation<LibTorch, 3> for Linear {
    type Saved = Saved;

    fn forward(&self, [x, weight, bias]: [TchTensor; 3]) -> (TchTensor, Self::Saved) {
        (self.product(&x, &weight, Some(&bias)), (Some(x), weight))
    }

    fn needed(&self, (x, weight): Saved, wanted: [bool; 3]) -> Saved {
        (x.filter(|_| wanted[1]), weight)
    }

    fn backward(self, saved: Self::Saved, gradient: TchTensor, wanted: [bool; 3]) -> [Option<TchTensor>; 3] {
        let [x, weight] = self.gradients(saved, &gradient, [wanted[0], wanted[1]]);
        let g = &gradient.tensor;
        let bias = wanted[2].then(|| TchTensor::new(g.sum_dim_intlist(0i64, false, g.kind())));
        [x, weight, bias]
    }
}

/// `x W + b`
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, layout: Layout) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    match bias {
        Some(bias) => apply(Linear(layout), [x, weight, bias.into_dispatch()]),
        None => apply(Linear(layout), [x, weight]),
    }
}
