//! The run itself: arguments, trainer, optimizer, schedule, checkpoints, evaluation, logging.
//!
//! Read first: [`mod@run`], the story of a run; [`train::trainer`], whose loop is the whole of training; [`mod@train::step`],
//! its arithmetic.
//!
//! ```text
//! argv ─ args ─ run ─┬─ resolve (tokenizer, config, model, examples) ─ output_dir (lock, checkpoint to go on from)
//!                    └─ train ─┬─ batches ─ step ─ ranks ─ gradients ─ optim ─ schedule
//!                              ├─ evaluate
//!                              ├─ checkpoint (a thread of its own)
//!                              └─ observe (console, log.jsonl, TensorBoard, report)
//! ```

pub mod args;
pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod observe;
pub mod optim;
pub mod run;
pub mod schedule;
pub mod sys;
pub mod train;

pub use lm_models::Task;
