//! Where work on many small operations runs best.

use burn::tensor::Device;

/// Runs `work` on one of the threads that share out the CPU backend's operations, while the others stay awake. Called from
/// elsewhere, each operation would first wake those threads and then wait for the last of them; and between operations they
/// would fall asleep. That is a tenth of a training step. On other devices `work` runs where it is called.
///
/// `work` must not wait for a thread that computes: with one thread in all, the two would wait for each other.
pub fn on_worker<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    if device.clone().inner() == Device::flex() {
        return super::fast::on_worker(work);
    }
    let _ = device;
    work()
}
