//! Disk space: what the checkpoints of a run need, and whether that is free.

use std::io;
use std::path::{Path, PathBuf};

use lm_models::parameters::ParameterInfo;
use lm_models::weights::FloatDtype;

use crate::observe::format::human_size;
use crate::optim::OptimizerNames;

/// Room that tokenizer files, configuration and trainer state take beside the tensors, generously.
const SMALL_FILES: u64 = 16 << 20;

/// What a checkpoint consists of, per parameter of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSize {
    /// Parameters that are saved; tied ones count once.
    pub parameters: u64,
    /// Bytes of one weight: 4 for float32, 2 for float16 and bfloat16.
    pub weight_bytes: u64,
    /// Bytes per parameter that a checkpoint has beyond the final model: 8 for AdamW's two float32 moments, 0 with
    /// `--save_only_model`.
    pub optimizer_bytes: u64,
}

impl CheckpointSize {
    /// The size for a model with these parameters. Checkpoints that can be resumed hold the weights as trained, in
    /// float32, and the optimizer's state; those of an adapter hold only what is trained.
    pub fn new(
        parameters: &[ParameterInfo],
        adapter: bool,
        optimizer: OptimizerNames,
        dtype: FloatDtype,
        only_model: bool,
    ) -> Self {
        let trained = || parameters.iter().filter(|info| info.trainable);
        let state: u64 = trained().map(|info| optimizer.state_bytes(&info.shape, info.kind)).sum();
        let float32 = FloatDtype::F32.bytes();
        let (count, dtype) = match adapter {
            true => (values(trained()), FloatDtype::F32),
            false => (values(parameters), dtype),
        };
        let beyond = if only_model { 0 } else { state.div_ceil(count.max(1)) + float32 - dtype.bytes() };
        Self { parameters: count, weight_bytes: dtype.bytes(), optimizer_bytes: beyond }
    }

    /// Bytes of one `checkpoint-N/` folder.
    pub fn checkpoint(self) -> u64 {
        self.parameters.saturating_mul(self.weight_bytes + self.optimizer_bytes).saturating_add(SMALL_FILES)
    }

    /// Bytes of the final model in the output folder itself.
    pub fn model(self) -> u64 {
        self.parameters.saturating_mul(self.weight_bytes).saturating_add(SMALL_FILES)
    }

    /// Bytes that a run adds at most: so many checkpoints, and the final model.
    pub fn run(self, checkpoints: u64) -> u64 {
        checkpoints.saturating_mul(self.checkpoint()).saturating_add(self.model())
    }

    /// Compares what a run adds with the space that is free for `output_dir`.
    ///
    /// # Errors
    /// When less is free than the run will need, or the file system cannot be asked.
    pub fn check_run(self, checkpoints: u64, output_dir: &Path) -> Result<(), DiskError> {
        let (needed, free, each) = (self.run(checkpoints), available_space(output_dir)?, self.checkpoint());
        if needed <= free {
            return Ok(());
        }
        Err(DiskError::TooLittleForRun { output_dir: output_dir.to_owned(), needed, free, checkpoints, each })
    }

    /// Compares one checkpoint with the space that is free for `output_dir`, before it is written.
    ///
    /// # Errors
    /// When less is free than the checkpoint will need, or the file system cannot be asked.
    pub fn check_one(self, output_dir: &Path) -> Result<(), DiskError> {
        let (needed, free) = (self.checkpoint(), available_space(output_dir)?);
        if needed <= free {
            return Ok(());
        }
        Err(DiskError::TooLittleForCheckpoint { output_dir: output_dir.to_owned(), needed, free })
    }
}

/// Number of values in all of them.
pub fn values<'a>(parameters: impl IntoIterator<Item = &'a ParameterInfo>) -> u64 {
    parameters.into_iter().map(|info| info.len() as u64).sum()
}

/// Checkpoints that add to what is on disk now at the moment when most are there, where `saves` are to come, `limit` stay
/// (`--save_total_limit`, one more when the best is kept besides; `None` keeps all) and `existing` fall under that limit: a
/// new one is complete before the oldest goes, so a limit of 3 needs room for 4.
pub fn checkpoints_added(saves: u64, limit: Option<u64>, existing: u64) -> u64 {
    if saves == 0 {
        return 0;
    }
    let all = existing.saturating_add(saves);
    let most = limit.map_or(all, |limit| all.min(limit.saturating_add(1)));
    most.saturating_sub(existing).max(1)
}

/// Why a run or a save must not begin.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The planned checkpoints do not fit.
    #[error(
        "--output_dir {output_dir}: this run needs {needed} of disk ({checkpoints} checkpoint(s) of {each} and the final model) but {free} are free; \
         lower --save_total_limit, raise --save_steps, add --save_only_model, choose another --output_dir, or go on regardless with --ignore_disk_check",
        output_dir = output_dir.display(), needed = human_size(*needed), free = human_size(*free), each = human_size(*each)
    )]
    TooLittleForRun {
        /// Where the checkpoints go.
        output_dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// How many checkpoints the needed bytes hold.
        checkpoints: u64,
        /// Bytes of one.
        each: u64,
    },
    /// The next checkpoint does not fit.
    #[error(
        "--output_dir {output_dir}: the next checkpoint needs {needed} but {free} are free; the earlier checkpoints are intact: \
         free some space and start again with --resume_from_checkpoint",
        output_dir = output_dir.display(), needed = human_size(*needed), free = human_size(*free)
    )]
    TooLittleForCheckpoint {
        /// Where the checkpoint goes.
        output_dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The file system does not say how much is free.
    #[error("{path}: cannot ask for the free disk space: {source}; --ignore_disk_check goes on without")]
    Unknown {
        /// The path that was asked about.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Bytes that this user may still write to the file system of `path`, which need not exist yet.
///
/// # Errors
/// When the file system cannot be asked.
pub fn available_space(path: &Path) -> Result<u64, DiskError> {
    lm_files::free_space(path).map_err(|source| DiskError::Unknown { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BERT-base in float32 with AdamW: 440 MB of weights, 880 MB of moments.
    const BERT_BASE: CheckpointSize = CheckpointSize { parameters: 110_000_000, weight_bytes: 4, optimizer_bytes: 8 };

    #[test]
    fn the_limit_and_one_in_flight_need_room() {
        assert_eq!(checkpoints_added(10, Some(3), 0), 4);
        assert_eq!(checkpoints_added(10, None, 0), 10);
        assert_eq!(checkpoints_added(2, Some(3), 0), 2);
        assert_eq!(checkpoints_added(0, Some(3), 0), 0);
        assert_eq!(checkpoints_added(10, Some(3), 3), 1, "resumed: one is written before one goes");
        assert_eq!(checkpoints_added(10, Some(3), 5), 1, "more than the limit from an earlier run");
        assert_eq!(checkpoints_added(u64::MAX, None, 1), u64::MAX - 1);
    }

    #[test]
    fn sizes_count_weights_and_moments() {
        assert_eq!(BERT_BASE.checkpoint(), 1_320_000_000 + SMALL_FILES);
        assert_eq!(BERT_BASE.model(), 440_000_000 + SMALL_FILES);
        assert_eq!(BERT_BASE.run(4), 4 * BERT_BASE.checkpoint() + BERT_BASE.model());
        let endless = CheckpointSize { parameters: u64::MAX, ..BERT_BASE };
        assert_eq!(endless.run(4), u64::MAX);
    }

    #[test]
    fn too_little_space_names_both_numbers_and_the_flags() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output_dir = folder.path().join("not/yet/there");
        let message = BERT_BASE.check_run(1 << 40, &output_dir).expect_err("more than any disk").to_string();
        let free = human_size(available_space(folder.path()).expect("free space"));
        for part in [
            "not/yet/there",
            &human_size(BERT_BASE.run(1 << 40)),
            free.split(' ').next_back().expect("a unit"),
            "--save_total_limit",
            "--ignore_disk_check",
        ] {
            assert!(message.contains(part), "{part} in: {message}");
        }
        assert!(!message.contains('\n'));
        let tiny = CheckpointSize { parameters: 1000, ..BERT_BASE };
        tiny.check_run(1, &output_dir).expect("fits");
        tiny.check_one(&output_dir).expect("fits");
        assert!(CheckpointSize { parameters: 1 << 50, ..BERT_BASE }.check_one(&output_dir).is_err());
    }
}
