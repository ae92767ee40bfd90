//! libtorch's tensors, for the links that add them up where they are.
// burn-tch is marked deprecated in 0.22, the last line that has it.
#![allow(deprecated)]

use burn::backend::libtorch::TchTensor;
use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use burn::tensor::{Device, Tensor};

/// Whether this is an NVIDIA GPU of libtorch's.
pub fn is_cuda(device: &Device) -> bool {
    let gpus = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    (0..gpus).any(|gpu| *device == Device::libtorch_cuda(gpu))
}

/// What becomes of a tensor on one of libtorch's devices, contiguous and outside autodiff.
pub fn map(tensor: Tensor<1>, work: impl FnOnce(tch::Tensor) -> tch::Tensor) -> Tensor<1> {
    match tensor.into_dispatch() {
        DispatchTensor { kind: DispatchTensorKind::LibTorch(BackendTensor::Float(tensor)), .. } => {
            let result = TchTensor::new(work(tensor.tensor.contiguous()));
            let kind = DispatchTensorKind::LibTorch(BackendTensor::Float(result));
            Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
        }
        other => unreachable!("not on libtorch: {other:?}"),
    }
}
