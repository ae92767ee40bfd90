//! What a run reads and where its flags write, looked at before anything is downloaded, loaded or begun: a file that is
//! missing is named at once, and none that is read is written over.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result, bail};
use lm_data::source::find_files;

use crate::args::{ArgsError, Arguments, Inference, Resume};
use crate::checkpoint;
use crate::observe::LOG_FILE_NAME;
use crate::observe::model_card::MODEL_CARD_NAME;
use crate::observe::report::REPORT_NAME;
use crate::run::resolve;

/// Whether a run makes a file of this name in its output folder.
pub(super) fn is_result(name: &OsStr) -> bool {
    let own =
        [LOG_FILE_NAME, REPORT_NAME, MODEL_CARD_NAME, "all_results.json", "train_results.json", "eval_results.json"];
    checkpoint::is_ours(name) || own.iter().any(|own| name == *own)
}

/// A file that the run reads, and the flag that names it; the file of arguments has none.
struct Input {
    flag: Option<&'static str>,
    path: PathBuf,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flag {
            Some(flag) => write!(f, "--{flag} {}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

/// Looks at what the arguments themselves name, before anything is downloaded.
///
/// # Errors
/// If a file of prompts or of texts to score cannot be read, or a folder is a file.
pub fn check_given(args: &Arguments) -> Result<()> {
    for input in prompts(args) {
        lm_files::open_regular(&input.path).with_context(|| input.to_string())?;
    }
    let (training, beyond) = (&args.training, &args.beyond);
    if let Some(Resume::Folder(path)) = &training.resume_from_checkpoint
        && path.is_file()
    {
        let folder = path.parent().filter(|folder| folder.join(checkpoint::RUN_STATE_NAME).is_file());
        let advice = folder.map_or("checkpoint-N in the output folder".into(), |folder| folder.display().to_string());
        bail!("--resume_from_checkpoint {}: is a file; name a checkpoint's folder: {advice}", path.display());
    }
    let folders = [
        ("output_dir", Some(&training.output_dir)),
        ("logging_dir", training.logging_dir.as_ref()),
        ("data_cache_dir", beyond.data_cache_dir.as_ref()),
        ("cache_dir", args.model.cache_dir.as_ref()),
    ];
    for (flag, folder) in folders {
        if let Some(folder) = folder.filter(|folder| folder.exists() && !folder.is_dir()) {
            bail!("--{flag} {}: is a file; name a folder", folder.display());
        }
    }
    Ok(())
}

/// Looks at the texts, which may have been downloaded, and at what the run writes beside them.
///
/// # Errors
/// If a text is missing or none, or a file that is to be written is read or cannot be made.
pub fn check(args: &Arguments) -> Result<()> {
    let mut inputs = texts(args)?;
    inputs.extend(prompts(args));
    if writes_output_dir(args) {
        keep(args, &inputs)?;
    }
    let dump = args.beyond.dump_examples.as_deref().map(|path| ("dump_examples", path));
    let scores = args.inference.score_output.as_deref().map(|path| ("score_output", path));
    dump.or(scores).map_or(Ok(()), |(flag, path)| writable(args, flag, path, inputs))
}

/// Whether the run writes into its output folder.
fn writes_output_dir(args: &Arguments) -> bool {
    !(args.shows_only() || args.beyond.plan || args.inference.asked().is_some())
}

/// The text files, found and looked at.
fn texts(args: &Arguments) -> Result<Vec<Input>> {
    let config = resolve::data_config(args, 512);
    let mut inputs = Vec::new();
    let [train, validation] = match args.dataset {
        Some(_) => ["dataset_name"; 2],
        None => ["train_file", "validation_file"],
    };
    for (flag, names) in [(train, &config.train_files), (validation, &config.validation_files)] {
        let local: Vec<String> = names.iter().filter(|name| config.remote_files.get(name).is_none()).cloned().collect();
        let files = find_files(&local).with_context(|| format!("--{flag}"))?;
        inputs.extend(files.into_iter().map(|path| Input { flag: Some(flag), path }));
    }
    Ok(inputs)
}

/// The files of prompts and of texts to score.
fn prompts(args: &Arguments) -> impl Iterator<Item = Input> {
    let scored = args.inference.score.as_ref().filter(|path| *path != Path::new(Inference::STDIN));
    let named = [("sample_prompts", args.beyond.sample_prompts.as_ref()), ("score", scored)];
    named.into_iter().filter_map(|(flag, path)| Some(Input { flag: Some(flag), path: path?.clone() }))
}

/// Fails if a text would be written over by a result of its name, or by one that is a link to it.
fn keep(args: &Arguments, inputs: &[Input]) -> Result<(), ArgsError> {
    let folder = &args.training.output_dir;
    // A folder that is not there yet has nothing that could be lost.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let results = entries.filter(|entry| is_result(&entry.file_name())).map(|entry| entry.path());
    for result in results {
        if let Some(input) = inputs.iter().find(|input| lm_files::same_file(&input.path, &result)) {
            let (result, folder) = (result.display(), folder.display());
            return Err(ArgsError::Rule(format!(
                "{input} would be lost: this run writes its own {result}; choose another folder than --output_dir {folder}"
            )));
        }
    }
    Ok(())
}

/// Whether what a flag asks for may be written to `path`: a new file, or one that this run does not read.
fn writable(args: &Arguments, flag: &str, path: &Path, mut inputs: Vec<Input>) -> Result<()> {
    let show = path.display();
    let refuse = |reason: String| Err(ArgsError::Rule(format!("--{flag} {show}: {reason}")).into());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                bail!("--{flag} {show}: there is no folder {}; make it first", folder.display());
            }
        }
        Err(error) => bail!("--{flag} {show}: {error}"),
        Ok(found) if found.is_symlink() => {
            return refuse("is a link; name the file that is to be written itself".into());
        }
        Ok(found) if found.is_dir() => {
            return refuse(format!("is a folder; name a file, such as {show}/{flag}.jsonl"));
        }
        Ok(found) if !found.is_file() => return refuse("is a pipe or a device; name a file".into()),
        Ok(_) => {
            others(args, &mut inputs);
            if let Some(input) = inputs.iter().find(|input| lm_files::same_file(&input.path, path)) {
                return refuse(format!("this run reads that file ({input}); name another"));
            }
        }
    }
    let same_folder = |folder: &Path| path.parent().is_some_and(|parent| lm_files::same_file(parent, folder));
    let is_result = path.file_name().is_some_and(is_result) && same_folder(&args.training.output_dir);
    if is_result && writes_output_dir(args) {
        return refuse("is the name of a result of this run; name another".into());
    }
    Ok(())
}

/// What else the run reads: the model, the tokenizer, the checkpoints, examples tokenized before, the arguments.
fn others(args: &Arguments, inputs: &mut Vec<Input>) {
    let (model, training) = (&args.model, &args.training);
    let path = |name: &Option<String>| name.as_ref().map(PathBuf::from);
    let mut named = vec![
        ("model_name_or_path", path(&model.model_name_or_path)),
        ("adapter_name_or_path", path(&args.lora.adapter_name_or_path)),
        ("config_name", path(&model.config_name)),
        ("tokenizer_name", path(&model.tokenizer_name)),
        ("data_cache_dir", Some(resolve::data_config(args, 512).cache_dir)),
    ];
    if let Some(Resume::Folder(folder)) = &training.resume_from_checkpoint {
        named.push(("resume_from_checkpoint", Some(folder.clone())));
    }
    // A folder that cannot be listed has nothing that this run could read, and is told of where it is needed.
    let checkpoints = checkpoint::list(&training.output_dir).unwrap_or_default();
    named.extend(checkpoints.into_iter().map(|(_, folder)| ("output_dir", Some(folder))));
    for (flag, path) in named {
        let Some(path) = path else { continue };
        let files = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path());
        inputs.extend(files.chain([path.clone()]).map(|path| Input { flag: Some(flag), path }));
    }
    inputs.extend(args.files.iter().map(|(flag, path)| Input { flag: *flag, path: path.clone() }));
}
