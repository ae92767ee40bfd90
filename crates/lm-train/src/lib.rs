//! The run itself: arguments, trainer, optimizer, schedule, checkpoints, evaluation, logging.
//!
//! ```text
//! cli         from a program's first line to its exit code
//! run         the story of a run: resolve, data, dry run, resume, training, evaluation, results
//! train       the loop: plan, cadence, step, progress, evaluate, saves
//! checkpoint  folders that are whole: written beside their name, read back, rotated
//! observe     who watches a run: console, log.jsonl, TensorBoard, W&B, MLflow, report, model card
//! device      which backend computes, and in what precision
//! args        the tables of arguments, the parser, rules, help
//! dist        the processes of a run, on one machine or many
//! optim       gradients, update rules, loss scale
//! schedule    learning rates
//! sys         signals, panics, memory, the allocator, secrets, terminals
//! ```
//!
//! Each folder imports from those below it only. Read first: `run/mod.rs`, `train/trainer.rs`, whose `steps` is the whole of
//! training, and `train/step.rs`, its arithmetic.

pub mod args;
mod checkpoint;
pub mod cli;
pub mod device;
mod dist;
mod observe;
pub mod optim;
mod run;
pub mod schedule;
mod sys;
mod train;

pub use checkpoint::Saved;
pub use lm_models::Task;
pub use observe::TrainerState;
pub use sys::allocator::keep_memory;
pub use train::step;
