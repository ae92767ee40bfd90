//! `--dataset_name` to files: which splits a run reads, as the scripts take them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lm_data::dataset::{DatasetError, Slice, SplitFiles, folder_splits};

use crate::args::{Arguments, DatasetFiles};
use crate::run::resolve;

/// The arguments with the files that `--dataset_name` stands for.
///
/// # Errors
/// If there is no such data set, configuration or split.
pub fn found(args: &Arguments) -> Result<Arguments> {
    let mut args = args.clone();
    if let Some(name) = &args.data.dataset_name {
        args.dataset = Some(find(&args, name).context("--dataset_name")?);
    }
    Ok(args)
}

fn find(args: &Arguments, name: &str) -> Result<DatasetFiles> {
    let (folder, config) = (Path::new(name), args.data.dataset_config_name.as_deref());
    if !folder.is_dir() {
        bail!("{name}: no such folder; download the data set and give its folder");
    }
    Ok(choose(args, name, &folder_splits(folder, config)?)?)
}

/// What a run needs of the splits: `train`, and where something is evaluated `validation`, unless others are named. Without
/// the latter, rows of the former are held out.
fn choose(args: &Arguments, name: &str, splits: &[SplitFiles]) -> Result<DatasetFiles, DatasetError> {
    let (training, beyond) = (&args.training, &args.beyond);
    let mut files = DatasetFiles::default();
    if resolve::needs_validation(args) {
        let there = splits.iter().any(|split| split.name == "validation");
        if let Some(wanted) = beyond.validation_split.as_deref().or(there.then_some("validation")) {
            (files.validation, files.validation_slice) = rows_of(name, wanted, splits)?;
        }
    }
    let trains = training.do_train || beyond.plan || beyond.train_tokenizer.is_some() || args.shows_only();
    if trains || files.validation.is_empty() {
        (files.train, files.train_slice) = rows_of(name, beyond.train_split.as_deref().unwrap_or("train"), splits)?;
    }
    Ok(files)
}

/// The files of a split, of several, or of a slice of one.
fn rows_of(name: &str, wanted: &str, splits: &[SplitFiles]) -> Result<(Vec<String>, Option<Slice>), DatasetError> {
    let slices = Slice::parse(wanted)?;
    if slices.len() > 1 && !slices.iter().all(Slice::is_whole) {
        return Err(DatasetError::Slice(wanted.into(), "only whole splits can be joined by +".into()));
    }
    let mut files = Vec::new();
    for Slice { split, .. } in &slices {
        let Some(found) = splits.iter().find(|found| found.name == *split) else {
            let known = splits.iter().map(|split| split.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(DatasetError::Split { name: name.into(), split: split.clone(), known });
        };
        files.extend(found.files.iter().cloned());
    }
    Ok((files, slices.into_iter().find(|slice| !slice.is_whole())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Task;

    #[test]
    fn splits_are_taken_as_the_scripts_take_them() {
        let split = |name: &str, files: &[&str]| SplitFiles {
            name: name.into(),
            files: files.iter().map(|file| file.to_string()).collect(),
        };
        let all = [split("train", &["a"]), split("validation", &["b"]), split("test", &["c", "d"])];
        let chosen = |change: &dyn Fn(&mut Arguments), splits: &[SplitFiles]| {
            let mut args = Arguments::defaults(Task::Mlm);
            change(&mut args);
            choose(&args, "d", splits).map(|files| (files.train, files.validation)).map_err(|error| error.to_string())
        };
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let train = |args: &mut Arguments| args.training.do_train = true;
        let both = |args: &mut Arguments| (args.training.do_train, args.training.do_eval) = (true, true);
        assert_eq!(chosen(&train, &all).unwrap(), (names(&["a"]), vec![]));
        assert_eq!(chosen(&both, &all).unwrap(), (names(&["a"]), names(&["b"])));
        assert_eq!(chosen(&|args| args.training.do_eval = true, &all).unwrap(), (vec![], names(&["b"])));
        assert_eq!(chosen(&both, &all[..1]).unwrap(), (names(&["a"]), vec![]));
        let named = |args: &mut Arguments| {
            both(args);
            args.beyond.train_split = Some("train+test".into());
            args.beyond.validation_split = Some("test[:5]".into());
        };
        assert_eq!(chosen(&named, &all).unwrap(), (names(&["a", "c", "d"]), names(&["c", "d"])));
        let error = chosen(&train, &all[1..]).unwrap_err();
        assert_eq!(error, "d: has no split `train`; the splits are: validation, test");
        let parts = |args: &mut Arguments| {
            train(args);
            args.beyond.train_split = Some("train[:1]+test".into());
        };
        assert!(chosen(&parts, &all).unwrap_err().contains("only whole splits can be joined"));
    }
}
