//! What ATen has and `tch` does not pass on. The C++ part is `shim.cpp`.

#![cfg(feature = "tch")]

mod calls;

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use tch::Tensor;

pub use calls::Calls;

/// What libtorch says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AtenError(String);

/// The numbers of a step of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// The rate of this step.
    pub learning_rate: f64,
    /// How much of the mean is kept.
    pub beta1: f64,
    /// How much of the mean square is kept.
    pub beta2: f64,
    /// Decoupled.
    pub weight_decay: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Steps, this one counted.
    pub step: f64,
    /// What the gradients are divided by.
    pub divisor: f64,
}

unsafe extern "C" {
    fn lm_aten_fused_adamw(
        p: *const *mut c_void,
        m: *const *mut c_void,
        v: *const *mut c_void,
        g: *const *mut c_void,
        count: usize,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        step: f64,
        divisor: f64,
    ) -> *mut c_char;
    fn lm_aten_norms(tensors: *const *mut c_void, count: usize, norms: *mut *mut c_void) -> *mut c_char;
    fn lm_aten_gradients(
        output: *mut c_void,
        gradient: *mut c_void,
        inputs: *const *mut c_void,
        count: usize,
        gradients: *mut *mut c_void,
    ) -> *mut c_char;
    fn lm_aten_free(message: *mut c_char);
}

/// Takes what a function of the shim returned.
fn told(message: *mut c_char) -> Result<(), AtenError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a string that ends in a zero and is ours until it is freed, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        lm_aten_free(message);
        text
    };
    Err(AtenError(text))
}

/// libtorch's `at::Tensor` behind one of `tch`'s.
fn pointer(tensor: &Tensor) -> *mut c_void {
    tensor.as_ptr().cast_mut().cast()
}

fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*mut c_void> {
    tensors.into_iter().map(pointer).collect()
}

/// Parameter, mean, mean square and gradient.
pub type Moved = [Tensor; 4];

/// One step of AdamW of all these parameters together, in place. The gradients are overwritten.
///
/// # Errors
/// If libtorch refuses: the tensors of a parameter are not of one size, in float32 and on one device.
pub fn fused_adamw(moved: &mut [Moved], options: AdamW) -> Result<(), AtenError> {
    let [p, m, v, g] = [0, 1, 2, 3].map(|part| pointers(moved.iter().map(|tensors| &tensors[part])));
    let AdamW { learning_rate, beta1, beta2, weight_decay, epsilon, step, divisor } = options;
    // SAFETY: each list has as many tensors as there are parameters, and `moved` holds them while they change.
    told(unsafe {
        lm_aten_fused_adamw(
            p.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            g.as_ptr(),
            moved.len(),
            learning_rate,
            beta1,
            beta2,
            weight_decay,
            epsilon,
            step,
            divisor,
        )
    })
}

/// The Euclidean norm of each tensor, `[tensors]`; a GPU computes those of all tensors together.
///
/// # Errors
/// If libtorch refuses, as it does without a tensor.
pub fn norms(tensors: &[Tensor]) -> Result<Tensor, AtenError> {
    let list = pointers(tensors);
    let mut norms = ptr::null_mut();
    // SAFETY: the list is as long as it says, and `norms` is a tensor of ours when it returns null.
    unsafe {
        told(lm_aten_norms(list.as_ptr(), list.len(), &mut norms))?;
        Ok(Tensor::from_ptr(norms.cast()))
    }
}

/// The gradients of inputs, from that of an output that libtorch has recorded.
///
/// # Errors
/// If libtorch refuses: an input has no part in the output, or was walked back to before.
pub fn gradients(output: &Tensor, gradient: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Tensor>, AtenError> {
    let list = pointers(inputs.iter().copied());
    let mut gradients = vec![ptr::null_mut::<c_void>(); list.len()];
    // SAFETY: both lists are as long as they say, and the second has tensors of ours when it returns null.
    unsafe {
        told(lm_aten_gradients(pointer(output), pointer(gradient), list.as_ptr(), list.len(), gradients.as_mut_ptr()))?;
        Ok(gradients.into_iter().map(|tensor| Tensor::from_ptr(tensor.cast())).collect())
    }
}
