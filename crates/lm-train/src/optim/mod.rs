//! Optimizers by Python's names, over the model's parameters in place of torch's parameter groups.
//!
//! ```text
//! GradientSum ──> Optimizer ──each parameter──> rules (one file each: adamw, adafactor, …) ──> the parameter, its slots
//! ```
//!
//! To add one, write its file with a `Rule` in `rules/`, and its line in `rules/mod.rs`.

mod grad_scaler;
mod gradients;
mod optimizer;
mod rule;
mod rules;

pub(crate) use grad_scaler::GradScaler;
pub use gradients::GradientSum;
pub(crate) use gradients::add_to;
pub use optimizer::Optimizer;
pub(crate) use optimizer::StateTensor;
pub use rule::Hyperparameters;
pub(crate) use rule::{Kept, Layout, Slot};
pub use rules::OptimizerNames;
pub(crate) use rules::{adafactor, adagrad, rmsprop};
