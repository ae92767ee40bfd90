//! The run itself: arguments, trainer, optimizer, schedule, checkpoints, evaluation, logging.
//!
//! Read first: [`trainer`], whose loop is the whole of training; [`mod@step`], its arithmetic; [`run`], what happens before
//! and after.
//!
//! ```text
//! argv ─ args ─ run ─┬─ setup (tokenizer, config, model, examples) ─ output_dir (lock, checkpoint to go on from)
//!                    └─ trainer ─┬─ batches ─ step ─ parallel ─ gradients ─ optimizer ─ schedule
//!                                ├─ evaluate
//!                                ├─ checkpoint (a thread of its own)
//!                                └─ callbacks (console, log.jsonl, TensorBoard) and report
//! ```

pub mod allocator;
pub mod args;
pub mod batches;
pub mod callbacks;
pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod disk;
mod escape;
pub mod evaluate;
pub mod generation;
pub mod grad_scaler;
pub mod gradients;
pub mod lock;
pub mod memory;
pub mod model_card;
pub mod noted;
pub mod optimizer;
pub mod output_dir;
pub mod panics;
pub mod parallel;
pub mod paths;
pub mod plan;
pub mod precision;
pub mod report;
pub mod run;
pub mod samples;
pub mod schedule;
pub mod secrets;
pub mod setup;
pub mod step;
pub mod stop;
pub mod trainer;

pub use lm_models::Task;
