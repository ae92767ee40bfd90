//! Parameters as autodiff's graphs know them.

use burn::backend::autodiff::NodeId;
use burn::tensor::{DType, Tensor};

use super::engine::{Compute, Engine};

/// By what our operations know a leaf of autodiff; none if they never see it.
// burn-tch is marked deprecated in 0.22, the last line that has it.
#[allow(deprecated)]
pub(crate) fn leaf<const D: usize>(tensor: &Tensor<D>) -> Option<NodeId> {
    if !tensor.is_require_grad() {
        return None;
    }
    match Engine::on(tensor.device(), DType::F32, Compute::default()) {
        Engine::Plain => None,
        #[cfg(feature = "flex")]
        Engine::Flex => Some(super::extension::node::<burn::backend::Flex>(tensor.clone().into_dispatch())),
        #[cfg(feature = "tch")]
        Engine::Torch => Some(super::extension::node::<burn::backend::LibTorch>(tensor.clone().into_dispatch())),
    }
}
