//! The checkpoints of a run in progress: one is written while training goes on, and one that failed is made up for.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::checkpoint::{self, CheckpointSize, ModelFiles, Pending, Saved, Writer};

/// Writes the checkpoints of a run, and knows which is on disk.
pub struct Saves {
    writer: Writer,
    output_dir: PathBuf,
    size: CheckpointSize,
    /// Whether room on the disk is asked for first.
    check_disk: bool,
    /// Saves in a row that failed, and the step after which the next is tried.
    failed: Option<(u32, u64)>,
    /// The newest checkpoint on disk of this run, and whether an evaluation was due in it.
    on_disk: Option<(PathBuf, bool)>,
    /// Of the checkpoint that is being written: its step, and whether an evaluation is due in it.
    writing: (u64, bool),
}

impl Saves {
    /// Of a run that has saved nothing yet. `limit` checkpoints stay, or all.
    pub fn new(
        output_dir: &Path,
        files: ModelFiles,
        limit: Option<usize>,
        size: CheckpointSize,
        check_disk: bool,
    ) -> Self {
        Self {
            writer: Writer::new(output_dir, files, limit),
            output_dir: output_dir.to_owned(),
            size,
            check_disk,
            failed: None,
            on_disk: None,
            writing: (0, false),
        }
    }

    /// The run goes on from this checkpoint.
    pub fn resume(&mut self, saved: &Saved) {
        self.on_disk = Some((saved.folder.clone(), saved.run_state.evaluation_due));
    }

    /// The files that every save has in common.
    pub fn files(&self) -> &ModelFiles {
        self.writer.files()
    }

    /// Where the checkpoint of a step lies.
    pub fn folder_of(&self, step: u64) -> PathBuf {
        checkpoint::folder_of(&self.output_dir, step)
    }

    /// Whether there is nothing to save after this step: it is the first of all to come, or is on disk.
    pub fn has(&self, step: u64, evaluation_due: bool) -> bool {
        step == 0 || self.on_disk.as_ref() == Some(&(self.folder_of(step), evaluation_due))
    }

    /// Whether a save that failed is to be tried again after this step.
    pub fn retries(&self, step: u64) -> bool {
        self.failed.is_some_and(|(_, retry)| step >= retry)
    }

    /// Whether the last save that was tried failed.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether a save is under way that has ended by now, well or not.
    pub fn is_done(&self) -> bool {
        self.writer.is_done()
    }

    /// Waits for the save that is under way; its step and folder, if there was one and it is whole.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn wait(&mut self) -> Result<Option<(u64, PathBuf)>> {
        let Some(folder) = self.writer.finish()? else { return Ok(None) };
        let (step, due) = self.writing;
        self.failed = None;
        self.on_disk = Some((folder.clone(), due));
        Ok(Some((step, folder)))
    }

    /// Whether there is room for a checkpoint.
    ///
    /// # Errors
    /// If there is none.
    pub fn expect_room(&self) -> Result<()> {
        if self.check_disk {
            self.size.check_one(&self.output_dir)?;
        }
        Ok(())
    }

    /// Hands a checkpoint to the thread that writes it. None is removed for it with `keep_all`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(&mut self, checkpoint: Pending, evaluation_due: bool, keep_all: bool) -> Result<()> {
        let best = checkpoint.state.best_model_checkpoint.as_ref().map(PathBuf::from);
        self.writing = (checkpoint.step, evaluation_due);
        Ok(self.writer.start(checkpoint, best, keep_all)?)
    }

    /// Notes that the save after `step` failed: it is tried again after the next step, and then ever more rarely, since each
    /// try may cost as much as many steps. What training has done is worth more than a checkpoint at the planned step.
    pub fn note_failure(&mut self, step: u64, error: &anyhow::Error) {
        let failures = self.failed.map_or(0, |(failures, _)| failures) + 1;
        self.failed = Some((failures, step + (1 << (failures - 1).min(10))));
        if failures == 1 {
            tracing::warn!("{error:#}; training goes on, and saving is tried again");
        }
    }
}
