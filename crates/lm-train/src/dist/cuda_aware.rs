//! Sums of libtorch's tensors by an MPI that takes addresses on GPUs ("CUDA-aware"), which saves the way through main memory.
//! They are the same bits as those of [`super::link::sum`].

use std::ffi::{c_int, c_void};

use mpi::Count;
use mpi::datatype::{AsDatatype, Buffer, BufferMut, Collection, Equivalence, Pointer, PointerMut};

/// Float32 numbers of a contiguous tensor.
pub struct Numbers(tch::Tensor);

// SAFETY: the address of the first, or of none.
unsafe impl Pointer for Numbers {
    fn pointer(&self) -> *const c_void {
        self.0.data_ptr()
    }
}

// SAFETY: as above; nobody else writes there while MPI does, which `sum` sees to.
unsafe impl PointerMut for Numbers {
    fn pointer_mut(&mut self) -> *mut c_void {
        self.0.data_ptr()
    }
}

// SAFETY: as many as the tensor has, one after another.
unsafe impl Collection for Numbers {
    fn count(&self) -> Count {
        self.0.numel() as Count
    }
}

// SAFETY: `sum` has no others.
unsafe impl AsDatatype for Numbers {
    type Out = <f32 as Equivalence>::Out;

    fn as_datatype(&self) -> Self::Out {
        f32::equivalent_datatype()
    }
}

// SAFETY: what the three above say.
unsafe impl Buffer for Numbers {}
// SAFETY: as above.
unsafe impl BufferMut for Numbers {}

unsafe extern "C" {
    /// An extension of Open MPI's and MPICH's.
    fn MPIX_Query_cuda_support() -> c_int;
}

/// Whether the MPI library of this process says that it takes addresses on NVIDIA's GPUs.
pub fn is_supported() -> bool {
    // SAFETY: it takes nothing and may be called at any time.
    unsafe { MPIX_Query_cuda_support() == 1 }
}

/// The sum of a float32 tensor over all ranks, in the order of ranks: each rank adds up a share, and all get all shares. `trade`
/// gives every other rank the first it is called with for it, and takes the second from it.
pub fn sum(tensor: &tch::Tensor, rank: usize, size: usize, trade: impl Fn(&[Numbers], &mut [Numbers])) -> tch::Tensor {
    let len = tensor.numel();
    let share = len.div_ceil(size);
    let part = |of: &tch::Tensor, rank: usize| of.narrow(0, (rank * share) as i64, share as i64);
    let parts = |of: &tch::Tensor| (0..size).map(|rank| Numbers(part(of, rank))).collect::<Vec<_>>();
    let all = tensor.constant_pad_nd([0, (share * size - len) as i64]);
    let received = all.empty_like();
    finish(&all);
    trade(&parts(&all), &mut parts(&received));
    part(&received, rank).copy_(&part(&all, rank));
    let mut sum = part(&received, 0).copy();
    for other in 1..size {
        sum += part(&received, other);
    }
    finish(&sum);
    let own: Vec<_> = (0..size).map(|_| Numbers(sum.shallow_clone())).collect();
    trade(&own, &mut parts(&all));
    part(&all, rank).copy_(&sum);
    all.narrow(0, 0, len as i64)
}

/// MPI knows nothing of what the GPU has still to do.
fn finish(tensor: &tch::Tensor) {
    if let tch::Device::Cuda(gpu) = tensor.device() {
        tch::Cuda::synchronize(gpu as i64);
    }
}
