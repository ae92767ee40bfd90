//! Optimizers by Python's names, over the model's parameters in place of torch's parameter groups.
//!
//! ```text
//! GradientSum ──> Optimizer ──each parameter──> Rule (one file each: adamw, adafactor, …) ──> the parameter, its slots
//! ```
//!
//! To add one, write its file with a `Rule` and name it in `names`.

mod adafactor;
mod adagrad;
mod adamw;
mod grad_scaler;
mod gradients;
mod lion;
mod names;
mod optimizer;
mod rmsprop;
mod rule;
mod sgd;

pub use grad_scaler::GradScaler;
pub use gradients::GradientSum;
pub use names::OptimizerNames;
pub use optimizer::{Optimizer, OptimizerStateError, StateTensor};
pub use rule::Hyperparameters;
