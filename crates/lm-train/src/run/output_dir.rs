//! `--output_dir`: what a run may find there, and what it does about it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use lm_files::{Lock, LockError};

use crate::args::{Arguments, Resume};
use crate::checkpoint::{self, Saved};
use crate::dist::World;
use crate::observe::report::REPORT_NAME;
use crate::observe::{LOG_FILE_NAME, TRAINER_STATE_NAME, TrainerState};
use crate::run::resume::changed_arguments;
use crate::sys::machine;

/// The lock file's name in the output folder. A leading dot: it is no part of the model.
const LOCK_NAME: &str = ".run.lock";

/// The folder of a run, locked against other runs.
pub struct OutputDir {
    path: PathBuf,
    checkpoint: Option<Saved>,
    /// Whether this run made the folder.
    is_new: bool,
    /// There until the folder is given up.
    lock: Option<Lock>,
}

impl OutputDir {
    /// Makes the folder or takes it over. A training run goes on from a checkpoint it finds there or is told to
    /// (`--resume_from_checkpoint`); `--overwrite_output_dir` lets it start anew, but for an unfinished run of the same
    /// arguments. Nothing is removed that this program did not write.
    ///
    /// Of several processes rank 0 does all this, and the others read the checkpoint that it found.
    ///
    /// # Errors
    /// If the folder is in use, holds something else, or the checkpoint cannot be gone on from.
    pub fn open(args: &Arguments, trains: bool, world: &World) -> Result<Self> {
        let main = if world.is_main() { Self::open_main(args, trains).map(Some) } else { Ok(None) };
        let main = world.agree(main)?;
        let found = main.as_ref().and_then(|output| Some(output.checkpoint.as_ref()?.folder.clone()));
        let found = world.of_main(found)?;
        let follow = || -> Result<Self> {
            let read = |folder: PathBuf| Saved::read(&folder, args.beyond.allow_changes_on_resume);
            let checkpoint =
                found.map(read).transpose().context("the machines of a run must share its --output_dir")?;
            Ok(Self { path: args.training.output_dir.clone(), checkpoint, is_new: false, lock: None })
        };
        world.agree(main.map_or_else(follow, Ok))
    }

    fn open_main(args: &Arguments, trains: bool) -> Result<Self> {
        let path = args.training.output_dir.clone();
        let show = path.display();
        let is_new = !path.exists();
        fs::create_dir_all(&path).with_context(|| format!("--output_dir {show}: cannot be created; choose another"))?;
        let lock = lock(&path)?;
        if let Some(owner) = lock.previous_owner() {
            tracing::warn!(
                "--output_dir {show}: the run before ({owner}) did not end by itself; its lock is taken over"
            );
        }
        let mut output = Self { path, checkpoint: None, is_new, lock: Some(lock) };
        if trains {
            checkpoint::recover(&output.path)?;
            output.checkpoint = output.find_checkpoint(args)?;
        }
        Ok(output)
    }

    fn find_checkpoint(&self, args: &Arguments) -> Result<Option<Saved>> {
        let show = self.path.display();
        let weights_alone = args.beyond.allow_changes_on_resume;
        match &args.training.resume_from_checkpoint {
            Some(Resume::Folder(folder)) => Ok(Some(named(folder, weights_alone)?)),
            Some(Resume::Newest) => match checkpoint::newest(&self.path, weights_alone)? {
                None => bail!(
                    "--resume_from_checkpoint: no checkpoint in {show}; name one, or leave the flag out to start anew"
                ),
                found => Ok(found),
            },
            None if args.training.overwrite_output_dir => {
                let unfinished = self.unfinished_run(args)?;
                match &unfinished {
                    Some(saved) => tracing::info!(
                        "--overwrite_output_dir: {} is of an unfinished run of the same arguments, which goes on; to start it anew, rename or remove its checkpoints",
                        saved.folder.display()
                    ),
                    None => keep_model_that_is_read(args)?,
                }
                Ok(unfinished)
            }
            None => match checkpoint::newest(&self.path, weights_alone)? {
                None if !only_our_traces(args)? => bail!(
                    "--output_dir {show} exists and is not empty; choose another, or start anew there with --overwrite_output_dir"
                ),
                found => Ok(found),
            },
        }
    }

    /// The newest checkpoint, if the run that wrote it had these arguments and did not come to its end.
    fn unfinished_run(&self, args: &Arguments) -> Result<Option<Saved>> {
        let saved = match checkpoint::newest(&self.path, false) {
            Ok(Some(saved)) => saved,
            Ok(None) => return Ok(None),
            Err(error @ checkpoint::CheckpointError::NoneWhole { .. }) => {
                tracing::warn!("{error}");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let end = self.path.join(TRAINER_STATE_NAME);
        // The end of a run writes its state after the last checkpoint; an older one is another run's.
        let step = saved.state.global_step;
        // With a limit of 1 a finished run keeps the best checkpoint only.
        let best_only =
            |end: &TrainerState| args.training.checkpoint_limit() == Some(1) && end.best_global_step == Some(step);
        let finished = written(&end) >= written(&saved.folder.join(TRAINER_STATE_NAME))
            && TrainerState::load(&end).is_ok_and(|end| end.global_step == step || best_only(&end));
        // Python's run, and weights alone, do not tell their arguments.
        let same = saved.run_state.fingerprint.is_some() && changed_arguments(args, &saved).is_empty();
        Ok((same && !finished).then_some(saved))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the checkpoints that are no part of the run that goes on after `step`, or begins: only now that this run has
    /// all it needs.
    ///
    /// # Errors
    /// If one cannot be renamed.
    pub fn set_aside_after(&self, step: Option<u64>) -> Result<()> {
        let aside = checkpoint::set_aside_after(&self.path, step)?;
        let why = match step {
            Some(step) => format!("going on from step {step}: a later checkpoint"),
            None => "--overwrite_output_dir: an earlier checkpoint".to_owned(),
        };
        for folder in aside {
            tracing::warn!("{why} is kept as {}; remove it when it is of no use", folder.display());
        }
        Ok(())
    }

    /// `--per_device_train_batch_size` of the checkpoint to go on from.
    pub fn batch_size(&self) -> Option<usize> {
        let fingerprint = self.checkpoint().and_then(|saved| saved.run_state.fingerprint.as_ref());
        fingerprint.map(|fingerprint| fingerprint.per_device_train_batch_size)
    }

    /// The checkpoint to go on from, if there is one.
    pub fn checkpoint(&self) -> Option<&Saved> {
        self.checkpoint.as_ref()
    }

    /// The checkpoint to go on from, if there is one; handed out once.
    pub fn take_checkpoint(&mut self) -> Option<Saved> {
        self.checkpoint.take()
    }
}

/// One run per output folder.
fn lock(output_dir: &Path) -> Result<Lock> {
    let me = format!("pid {} on {}", std::process::id(), machine::host());
    Lock::acquire(&output_dir.join(LOCK_NAME), &me).map_err(|error| match error {
        LockError::InUse { owner, .. } => anyhow!(
            "--output_dir {}: in use by another run ({owner}); wait for it, stop it, or choose another --output_dir",
            output_dir.display()
        ),
        LockError::Foreign { .. } => anyhow!("{error}: remove it or choose another --output_dir"),
        LockError::Io { .. } => anyhow!("{error}; choose an --output_dir that you may write to"),
    })
}

impl Drop for OutputDir {
    fn drop(&mut self) {
        drop(self.lock.take());
        if self.is_new {
            // Only an empty folder goes: a run that failed before it wrote anything leaves no trace.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// After an error or a panic in training: the newest checkpoint, and how to go on from it.
pub fn what_is_kept(args: &Arguments) -> String {
    let training = &args.training;
    // Whatever keeps the folder from being listed is not what the user has to know now.
    let folder = checkpoint::list(&training.output_dir).ok().and_then(|mut list| Some(list.pop()?.1));
    let Some(folder) = folder else { return "; no checkpoint was saved yet".to_owned() };
    let folder = folder.display();
    let how = match &training.resume_from_checkpoint {
        _ if training.save_only_model => format!("--model_name_or_path {folder} starts from its weights"),
        Some(Resume::Folder(_)) => format!("--resume_from_checkpoint {folder} goes on from there"),
        _ => "the same command goes on from there".to_owned(),
    };
    format!("; {folder} is kept: {how}")
}

/// The checkpoint that `--resume_from_checkpoint` names.
fn named(folder: &Path, weights_alone: bool) -> Result<Saved> {
    let show = folder.display();
    if let Some((_, newest)) = checkpoint::list(folder)?.last() {
        let newest = newest.display();
        bail!(
            "--resume_from_checkpoint {show} holds checkpoints but is none itself: name one of them, such as {newest}"
        );
    }
    Saved::read(folder, weights_alone).with_context(|| format!("--resume_from_checkpoint {show}"))
}

/// Fails if the run starts from a checkpoint that `--overwrite_output_dir` would rename.
fn keep_model_that_is_read(args: &Arguments) -> Result<()> {
    let model = &args.model;
    let inputs = [
        ("model_name_or_path", &model.model_name_or_path),
        ("adapter_name_or_path", &args.lora.adapter_name_or_path),
        ("config_name", &model.config_name),
        ("tokenizer_name", &model.tokenizer_name),
    ];
    for (_, folder) in checkpoint::list(&args.training.output_dir)? {
        let Ok(folder) = folder.canonicalize() else { continue };
        for (flag, input) in inputs {
            let Some(input) = input else { continue };
            if Path::new(input).canonicalize().is_ok_and(|input| input.starts_with(&folder)) {
                bail!(
                    "--{flag} {input} is a checkpoint that --overwrite_output_dir would set aside: choose another --output_dir"
                );
            }
        }
    }
    Ok(())
}

/// Whether the folder holds nothing but what a run leaves that ended before its first checkpoint.
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
            || name.starts_with(LOCK_NAME)
            || name.starts_with("set-aside-");
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Parsed};
    use lm_models::Task;

    #[test]
    fn what_is_kept_is_told_with_the_way_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = |flags: &str| {
            let words = format!(
                "--output_dir {} --do_train --train_file a.txt --model_type bert --tokenizer_name t {flags}",
                folder.path().display()
            );
            match args::parse(Task::Mlm, words.split_whitespace().map(Into::into)) {
                Ok(Parsed::Run(args)) => what_is_kept(&args),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(kept(""), "; no checkpoint was saved yet");
        for name in ["checkpoint-9", "checkpoint-10"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let newest = folder.path().join("checkpoint-10").display().to_string();
        assert_eq!(kept(""), format!("; {newest} is kept: the same command goes on from there"));
        assert!(kept("--overwrite_output_dir").ends_with("the same command goes on from there"));
        assert!(kept("--save_only_model").ends_with(&format!("--model_name_or_path {newest} starts from its weights")));
        let named = format!("--resume_from_checkpoint {}", folder.path().join("checkpoint-9").display());
        assert!(kept(&named).ends_with(&format!("--resume_from_checkpoint {newest} goes on from there")));
    }
}
