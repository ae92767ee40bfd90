//! The folders that a run makes in its output folder: their names, which of them are this program's, and putting them in
//! order.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lm_data::tokenizer::{OTHER_FILES, VOCABULARY_FILES};

use super::CheckpointError;

const PREFIX: &str = "checkpoint-";
/// What a folder is called before it is whole or while it is removed, followed by its step and a random ending; never
/// taken for a checkpoint, removed at the next start.
pub(super) const UNFINISHED: &str = "tmp-checkpoint-";
/// What a whole checkpoint is called for the moment in which a new one of the same step takes its name.
const REPLACED: &str = "replaced-checkpoint-";
/// What checkpoints are called that a run does not go on from: of another course, or damaged.
const SET_ASIDE: &str = "set-aside-";
/// What a folder is called whose files are being uploaded.
pub const UPLOADED: &str = "tmp-push-";
/// The final model before all its files are there.
pub(super) const UNFINISHED_MODEL: &str = "tmp-model-";
/// The final model, whole, while its files move into the output folder one by one.
pub(super) const FINISHED_MODEL: &str = ".finished-model";
/// What is in that folder, one name a line.
pub(super) const MANIFEST: &str = "files.txt";

/// Names of the files that final models consist of, besides the weights and the tokenizer.
const FILES: &[&str] = &[
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "generation_config.json",
    "training_args.json",
];

/// Those that a checkpoint has besides, of use only to go on with its run.
const FOR_RESUMING: &[&str] = &[
    "trainer_state.json",
    "run_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
    "training_args.bin",
];

/// Whether a file of a checkpoint is of use only to go on with its run.
pub fn is_for_resuming(name: &str) -> bool {
    FOR_RESUMING.contains(&name)
}

/// Whether a checkpoint of this program may hold a file of this name.
pub fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    // `.NAME.random.tmp` is a file that was being written.
    let unfinished = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")?.rsplit_once('.'));
    let name = unfinished.map_or(name, |(name, _)| name);
    [FILES, FOR_RESUMING, VOCABULARY_FILES, OTHER_FILES].iter().any(|files| files.contains(&name)) || is_weights(name)
}

/// `model.safetensors`, one of several `model-00001-of-00002.safetensors`, or their index.
fn is_weights(name: &str) -> bool {
    let shard = |name: &str| {
        let (shard, shards) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        Some(digits(shard) && digits(shards))
    };
    matches!(name, "model.safetensors" | "model.safetensors.index.json") || shard(name).unwrap_or(false)
}

/// A folder that this program may remove: a real one, with nothing in it but files of these names. Otherwise the first
/// thing that is foreign.
fn foreign_in(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let failed = |source| CheckpointError::io("look into", folder)(source);
    if !fs::symlink_metadata(folder).map_err(failed)?.is_dir() {
        return Ok(Some(folder.to_owned()));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_file() || !is_ours(&entry.file_name()) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Removes the files of a folder of this program and then the folder, which stays if something foreign has come in.
fn remove_ours(folder: &Path) -> Result<(), CheckpointError> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    for entry in fs::read_dir(folder).map_err(CheckpointError::io("remove", folder))? {
        let path = entry.map_err(CheckpointError::io("remove", folder))?.path();
        if path.file_name().is_some_and(is_ours) {
            gone(fs::remove_file(&path)).map_err(CheckpointError::io("remove", &path))?;
        }
    }
    gone(fs::remove_dir(folder)).map_err(CheckpointError::io("remove", folder))
}

/// The folder of a step's checkpoint.
pub fn folder_of(output_dir: &Path, step: u64) -> PathBuf {
    output_dir.join(format!("{PREFIX}{step}"))
}

/// The checkpoints of an output folder by rising step. A folder counts by its name: one with the name is whole.
///
/// # Errors
/// If the folder is there and cannot be listed.
pub fn list(output_dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let of_step = |(rest, path): (String, PathBuf)| {
        let step: u64 = rest.parse().ok()?;
        (step.to_string() == rest).then_some((step, path))
    };
    let mut found: Vec<(u64, PathBuf)> = folders(output_dir, PREFIX)?.into_iter().filter_map(of_step).collect();
    found.sort_unstable();
    Ok(found)
}

/// Folders whose name starts with `prefix`, each with the rest of its name.
fn folders(output_dir: &Path, prefix: &str) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(output_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(CheckpointError::io("list", output_dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(CheckpointError::io("list", output_dir))?;
        if let Some(rest) = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix))
            && entry.path().is_dir()
        {
            found.push((rest.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

/// Brings an output folder in order after a run that was killed: removes what it left unfinished, gives a checkpoint its
/// name back that was about to be replaced, and lets a final model that was whole take its place.
///
/// # Errors
/// If something has to be renamed and cannot be. What cannot be removed stays, with a warning.
pub fn recover(output_dir: &Path) -> Result<(), CheckpointError> {
    for (step, folder) in folders(output_dir, REPLACED)? {
        let named = output_dir.join(format!("{PREFIX}{step}"));
        let number = step.parse::<u64>().is_ok();
        if !number || foreign_in(&folder)?.is_some() {
            continue;
        }
        if named.exists() {
            warn_if_left(remove_ours(&folder));
        } else {
            rename(&folder, &named)?;
        }
    }
    let of_a_step = |rest: &str| rest.split_once('-').is_some_and(|(step, _)| step.parse::<u64>().is_ok());
    let unfinished = folders(output_dir, UNFINISHED)?.into_iter().filter(|(rest, _)| of_a_step(rest));
    for (_, folder) in unfinished.chain(folders(output_dir, UNFINISHED_MODEL)?).chain(folders(output_dir, UPLOADED)?) {
        if foreign_in(&folder)?.is_none() {
            warn_if_left(remove_ours(&folder));
        }
    }
    let finished = output_dir.join(FINISHED_MODEL);
    if finished.join(MANIFEST).is_file() {
        move_in(output_dir)?;
    }
    Ok(())
}

fn warn_if_left(removed: Result<(), CheckpointError>) {
    if let Err(error) = removed {
        tracing::warn!("{error}; it is left there");
    }
}

/// Moves the files of the finished model into the output folder; whoever is interrupted here is completed by
/// [`recover`].
pub(super) fn move_in(output_dir: &Path) -> Result<(), CheckpointError> {
    let finished = output_dir.join(FINISHED_MODEL);
    let manifest = finished.join(MANIFEST);
    let names = fs::read_to_string(&manifest).map_err(CheckpointError::io("read", &manifest))?;
    let names: Vec<&str> = names.lines().collect();
    for name in &names {
        let path = finished.join(name);
        match lm_files::rename(&path, &output_dir.join(name)) {
            // Moved before the interruption.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(CheckpointError::io("move in", &path))?,
        }
    }
    // Weights of the other layout would be loaded in place of these, or be left over.
    for entry in fs::read_dir(output_dir).map_err(CheckpointError::io("list", output_dir))? {
        let entry = entry.map_err(CheckpointError::io("list", output_dir))?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        if is_weights(name) && !names.contains(&name) {
            fs::remove_file(&path).map_err(CheckpointError::io("remove", &path))?;
        }
    }
    sync(output_dir)?;
    fs::remove_file(&manifest).map_err(CheckpointError::io("remove", &manifest))?;
    fs::remove_dir(&finished).map_err(CheckpointError::io("remove", &finished))?;
    sync(output_dir)
}

fn sync(folder: &Path) -> Result<(), CheckpointError> {
    lm_files::sync_folder(folder).map_err(CheckpointError::io("flush", folder))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    lm_files::rename(from, to).map_err(CheckpointError::io("rename", from))
}

/// Gives a finished folder the name of its step. At no moment is there neither the old checkpoint of that name nor the new
/// one, but for [`recover`]. Anything else of that name is set aside.
pub(super) fn take_name(unfinished: &Path, folder: &Path) -> Result<(), CheckpointError> {
    let output_dir = folder.parent().unwrap_or(Path::new("."));
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut replaced = None;
    if fs::symlink_metadata(folder).is_ok() {
        make_way(folder, |folder| matches!(foreign_in(folder), Ok(None)))?;
        if fs::symlink_metadata(folder).is_ok() {
            let path = output_dir.join(name.replacen(PREFIX, REPLACED, 1));
            rename(folder, &path)?;
            replaced = Some(path);
        }
    }
    rename(unfinished, folder)?;
    if let Some(replaced) = replaced {
        warn_if_left(remove_ours(&replaced));
    }
    Ok(())
}

/// Renames a file or folder to a name that nothing looks at.
fn set_aside(path: &Path) -> Result<PathBuf, CheckpointError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let candidate = |round: usize| match round {
        0 => path.with_file_name(format!("{SET_ASIDE}{name}")),
        _ => path.with_file_name(format!("{SET_ASIDE}{name}-{round}")),
    };
    let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    let aside = (0..).map(candidate).find(free).unwrap_or_else(|| candidate(0));
    rename(path, &aside)?;
    Ok(aside)
}

/// Renames what has a name that this program is about to write under, unless it is this program's own.
///
/// # Errors
/// If it cannot be renamed.
fn make_way(path: &Path, is_ours: impl FnOnce(&Path) -> bool) -> Result<(), CheckpointError> {
    if fs::symlink_metadata(path).is_ok() && !is_ours(path) {
        let aside = set_aside(path)?;
        tracing::warn!("{} was not this program's: it is kept as {}", path.display(), aside.display());
    }
    Ok(())
}

/// Renames the checkpoints after `step`, or all if there is none, which are no part of the run that goes on from there:
/// left as they are they would count as its newest. The new names, oldest first.
///
/// # Errors
/// If one cannot be renamed.
pub fn set_aside_after(output_dir: &Path, step: Option<u64>) -> Result<Vec<PathBuf>, CheckpointError> {
    let later = list(output_dir)?.into_iter().filter(|(later, _)| step.is_none_or(|step| *later > step));
    later.map(|(_, folder)| set_aside(&folder)).collect()
}

/// Keeps the newest `limit` checkpoints, and `best` as one of them (Python's `_rotate_checkpoints`). What must stay although
/// it is beyond the limit: one line each, since the new checkpoint is there and nothing is lost.
pub(super) fn rotate(output_dir: &Path, limit: usize, best: Option<&Path>, newest: &Path) -> Vec<String> {
    let checkpoints = match list(output_dir) {
        Ok(checkpoints) => checkpoints,
        Err(error) => return vec![format!("{error}; no earlier checkpoint was removed")],
    };
    let mut kept = Vec::new();
    let mut ours = Vec::new();
    for (_, folder) in checkpoints {
        match foreign_in(&folder) {
            Ok(None) => ours.push(folder),
            Ok(Some(foreign)) => {
                kept.push(format!("{} stays: {} is not this program's", folder.display(), foreign.display()));
            }
            Err(error) => kept.push(format!("{error}; {} stays", folder.display())),
        }
    }
    let excess = ours.len().saturating_sub(limit.max(1));
    // With a limit of 1 both the best and the newest stay, as in Python.
    let disposable = ours.iter().filter(|folder| Some(folder.as_path()) != best && *folder != newest);
    for folder in disposable.take(excess) {
        if let Err(error) = remove_whole(folder) {
            kept.push(format!("{error}; what is left of {} stays", folder.display()));
        }
    }
    kept
}

/// Removes all checkpoints but the best one: what `--save_total_limit 1` leaves of a finished run, as in Python. What cannot
/// be removed stays, with a warning.
///
/// # Errors
/// If the folder cannot be listed.
pub fn keep_only(output_dir: &Path, best: &Path) -> Result<(), CheckpointError> {
    for (_, folder) in list(output_dir)?.into_iter().filter(|(_, folder)| best.exists() && folder != best) {
        if foreign_in(&folder)?.is_none() {
            warn_if_left(remove_whole(&folder));
        }
    }
    Ok(())
}

/// Takes the name away first, so that a kill in between leaves no half of a checkpoint under its name.
fn remove_whole(folder: &Path) -> Result<(), CheckpointError> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let doomed = folder.with_file_name(format!("{}-old", name.replacen(PREFIX, UNFINISHED, 1)));
    match lm_files::rename(folder, &doomed) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(CheckpointError::io("remove", folder))?,
    }
    remove_ours(&doomed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(output_dir: &Path, name: &str) -> PathBuf {
        let folder = output_dir.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for file in ["config.json", "model.safetensors", "run_state.json"] {
            fs::write(folder.join(file), name).expect("a file");
        }
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("listed");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn only_canonical_names_of_folders_are_checkpoints() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["checkpoint-5", "checkpoint-10", "checkpoint-007", "checkpoint-+8", "checkpoint-x"] {
            checkpoint(folder.path(), name);
        }
        fs::write(folder.path().join("checkpoint-12"), "a file").expect("a file");
        let steps: Vec<u64> = list(folder.path()).expect("listed").into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [5, 10]);
    }

    #[test]
    fn foreign_things_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for step in 1..=5 {
            checkpoint(folder.path(), &format!("checkpoint-{step}"));
        }
        fs::write(path("checkpoint-2/thesis.doc"), "years of work").expect("a file");
        fs::create_dir(path("checkpoint-3/sub")).expect("a folder");
        let kept = rotate(folder.path(), 1, None, &path("checkpoint-5"));
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].contains("thesis.doc is not this program's"), "{kept:?}");
        assert_eq!(names(folder.path()), ["checkpoint-2", "checkpoint-3", "checkpoint-5"]);
        assert_eq!(names(&path("checkpoint-2")).len(), 4);

        // What a killed run leaves goes; what only looks like it stays.
        checkpoint(folder.path(), "tmp-checkpoint-6-AbC123");
        for foreign in ["tmp-checkpoint-of-mine", "tmp-checkpoint-7", "replaced-checkpoint-no", "tmp-model-x"] {
            fs::create_dir(path(foreign)).expect("a folder");
            fs::write(path(foreign).join("thesis.doc"), "years of work").expect("a file");
        }
        checkpoint(folder.path(), "tmp-checkpoint-8-AbC123");
        fs::write(path("tmp-checkpoint-8-AbC123/notes"), "mine").expect("a file");
        recover(folder.path()).expect("in order");
        let left = names(folder.path());
        assert!(!left.contains(&"tmp-checkpoint-6-AbC123".to_owned()), "{left:?}");
        for foreign in ["tmp-checkpoint-of-mine", "tmp-checkpoint-7", "replaced-checkpoint-no", "tmp-model-x"] {
            assert_eq!(names(&path(foreign)), ["thesis.doc"]);
        }
        assert!(path("tmp-checkpoint-8-AbC123/notes").exists());
    }

    #[test]
    fn what_stands_in_the_way_is_renamed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("checkpoint-8"), "a file").expect("a file");
        fs::write(path("set-aside-checkpoint-8"), "another").expect("a file");
        take_name(&checkpoint(folder.path(), "tmp-checkpoint-8-x"), &path("checkpoint-8")).expect("named");
        assert_eq!(fs::read_to_string(path("set-aside-checkpoint-8-1")).expect("kept"), "a file");
        assert_eq!(fs::read_to_string(path("set-aside-checkpoint-8")).expect("kept"), "another");
        assert!(path("checkpoint-8/config.json").exists());
        // The same step again replaces what this program wrote.
        take_name(&checkpoint(folder.path(), "tmp-checkpoint-8-y"), &path("checkpoint-8")).expect("named");
        assert_eq!(fs::read_to_string(path("checkpoint-8/config.json")).expect("new"), "tmp-checkpoint-8-y");
        assert_eq!(names(folder.path()), ["checkpoint-8", "set-aside-checkpoint-8", "set-aside-checkpoint-8-1"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_never_followed_to_remove() {
        let (folder, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let precious = checkpoint(elsewhere.path(), "checkpoint-1");
        std::os::unix::fs::symlink(&precious, folder.path().join("checkpoint-1")).expect("a link");
        checkpoint(folder.path(), "checkpoint-2");
        let kept = rotate(folder.path(), 1, None, &folder.path().join("checkpoint-2"));
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(names(&precious).len(), 3);
    }

    #[test]
    fn an_interrupted_final_model_is_completed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("config.json", "old"), ("model-00001-of-00002.safetensors", "old"), ("thesis", "mine")] {
            fs::write(path(name), text).expect("a file");
        }
        let finished = checkpoint(folder.path(), FINISHED_MODEL);
        // One had been moved when the power went.
        fs::rename(finished.join("model.safetensors"), path("model.safetensors")).expect("moved");
        fs::write(finished.join(MANIFEST), "config.json\nmodel.safetensors\nrun_state.json\n").expect("a file");
        recover(folder.path()).expect("in order");
        assert_eq!(names(folder.path()), ["config.json", "model.safetensors", "run_state.json", "thesis"]);
        assert_eq!(fs::read_to_string(path("config.json")).expect("new"), FINISHED_MODEL);
    }

    #[test]
    fn files_of_every_tokenizer_are_known() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lm-data/tests/fixtures/tokenizers");
        let (out, mut seen) = (tempfile::tempdir().expect("a folder"), 0);
        for entry in fs::read_dir(fixtures).expect("fixtures") {
            let Ok(tokenizer) = lm_data::tokenizer::LmTokenizer::from_folder(&entry.expect("an entry").path()) else {
                continue;
            };
            let saved = out.path().join(seen.to_string());
            tokenizer.save(&saved).expect("saved");
            assert_eq!(foreign_in(&saved).expect("looked into"), None);
            seen += 1;
        }
        assert!(seen > 3, "{seen} tokenizers");
    }
}
