//! `--output_dir`: what a run may find there, and what it does about it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::args::{Arguments, Resume};
use crate::callbacks::LOG_FILE_NAME;
use crate::checkpoint::{self, Saved};
use crate::lock::OutputLock;
use crate::report::REPORT_NAME;

/// The folder of a run, locked against other runs.
pub struct OutputDir {
    path: PathBuf,
    checkpoint: Option<Saved>,
    _lock: OutputLock,
}

impl OutputDir {
    /// Makes the folder or takes it over. A training run goes on from a checkpoint it finds there or is told to
    /// (`--resume_from_checkpoint`), starts anew with `--overwrite_output_dir`, and leaves any other content alone.
    pub fn open(args: &Arguments, trains: bool) -> Result<Self> {
        let path = args.training.output_dir.clone();
        let show = path.display();
        fs::create_dir_all(&path).with_context(|| format!("--output_dir {show}: cannot be created; choose another"))?;
        let lock = OutputLock::acquire(&path)?;
        if let Some(owner) = lock.previous_owner() {
            tracing::warn!(
                "--output_dir {show}: the run before ({owner}) did not end by itself; its lock is taken over"
            );
        }
        checkpoint::recover(&path)?;
        let mut checkpoint = None;
        if trains {
            checkpoint = match &args.training.resume_from_checkpoint {
                Some(Resume::Folder(folder)) => Some(named(folder)?),
                Some(Resume::Newest) => match checkpoint::newest(&path)? {
                    None => bail!(
                        "--resume_from_checkpoint: no checkpoint in {show}; name one, or leave the flag out to start anew"
                    ),
                    found => found,
                },
                None if args.training.overwrite_output_dir => {
                    keep_inputs(args)?;
                    None
                }
                None => match checkpoint::newest(&path)? {
                    None if !only_our_traces(args)? => bail!(
                        "--output_dir {show} exists and is not empty; choose another, or start anew there with --overwrite_output_dir"
                    ),
                    found => found,
                },
            };
        }
        Ok(Self { path, checkpoint, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the checkpoints of an earlier run, which `--overwrite_output_dir` gives up: only now that this run has all
    /// it needs and begins to train.
    pub fn start_anew(&self) -> Result<()> {
        let removed = checkpoint::remove_all(&self.path)?;
        if removed > 0 {
            let show = self.path.display();
            tracing::warn!("--overwrite_output_dir: removed {removed} checkpoint(s) of an earlier run from {show}");
        }
        Ok(())
    }

    /// `--per_device_train_batch_size` of the checkpoint to go on from.
    pub fn batch_size(&self) -> Option<usize> {
        self.checkpoint.as_ref().map(|saved| saved.run_state.fingerprint.per_device_train_batch_size)
    }

    /// The checkpoint to go on from, if there is one; handed out once.
    pub fn take_checkpoint(&mut self) -> Option<Saved> {
        self.checkpoint.take()
    }
}

/// The checkpoint that `--resume_from_checkpoint` names.
fn named(folder: &Path) -> Result<Saved> {
    let show = folder.display();
    if let Some((_, newest)) = checkpoint::list(folder)?.last() {
        let newest = newest.display();
        bail!(
            "--resume_from_checkpoint {show} holds checkpoints but is none itself: name one of them, such as {newest}"
        );
    }
    Saved::read(folder).with_context(|| format!("--resume_from_checkpoint {show}"))
}

/// Fails if the run starts from a checkpoint that `--overwrite_output_dir` would remove.
fn keep_inputs(args: &Arguments) -> Result<()> {
    let model = &args.model;
    let inputs = [
        ("model_name_or_path", &model.model_name_or_path),
        ("config_name", &model.config_name),
        ("tokenizer_name", &model.tokenizer_name),
    ];
    for (_, folder) in checkpoint::list(&args.training.output_dir)? {
        let Ok(folder) = folder.canonicalize() else { continue };
        for (flag, input) in inputs {
            let Some(input) = input else { continue };
            if Path::new(input).canonicalize().is_ok_and(|input| input.starts_with(&folder)) {
                bail!(
                    "--{flag} {input} is a checkpoint that --overwrite_output_dir would remove: choose another --output_dir"
                );
            }
        }
    }
    Ok(())
}

/// Whether the folder holds nothing but what a run leaves that was killed before its first checkpoint.
fn only_our_traces(args: &Arguments) -> Result<bool> {
    let path = &args.training.output_dir;
    let folders = [&args.training.logging_dir, &args.beyond.data_cache_dir];
    let given = |path: &Path| folders.into_iter().flatten().any(|folder| folder.starts_with(path));
    for entry in fs::read_dir(path).with_context(|| format!("--output_dir {}: cannot be read", path.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name == LOG_FILE_NAME
            || name == REPORT_NAME
            || name == "runs"
            || name == "cache"
            || given(&entry.path())
            || name.ends_with(".tmp")
            || name.starts_with(".run.lock");
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}
