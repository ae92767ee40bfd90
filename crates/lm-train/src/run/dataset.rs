//! `--dataset_name` to files: which splits a run reads, as the scripts take them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lm_data::dataset::{
    CARD_FILES, DatasetError, Found, Repository, SplitFiles, converted_splits, files_of, folder_splits, script, splits,
};
use lm_data::source::RemoteFiles;
use lm_hub::{DataSet, HubError, HubOptions, RemoteFile};

use crate::args::{Arguments, DatasetFiles};
use crate::run::resolve;

/// Where the Hub keeps what it converted to Parquet.
const CONVERTED: &str = "refs/convert/parquet";

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
    if folder.is_dir() {
        let Found { splits, reading } = folder_splits(folder, config)?;
        return Ok(DatasetFiles { reading, ..choose(args, name, &splits)? });
    }
    let (set, converted) = on_the_hub(args, name)?;
    let mut cards = [const { None }; CARD_FILES.len()];
    if !converted {
        for (card, file) in cards.iter_mut().zip(CARD_FILES) {
            *card = set.text(file)?;
        }
    }
    let listed = set.files();
    let repository = Repository { name: set.name(), files: &listed, cards: cards.each_ref().map(Option::as_deref) };
    let Found { splits, reading } =
        if converted { converted_splits(&repository, config)? } else { splits(&repository, config)? };
    let mut files = DatasetFiles { reading, ..choose(args, set.name(), &splits)? };
    // A file may be of both.
    let wanted: BTreeSet<String> = files.train.iter().chain(&files.validation).cloned().collect();
    let wanted: Vec<String> = wanted.into_iter().collect();
    if args.data.streaming {
        let (set, mut streamed) = (Arc::new(set), BTreeMap::new());
        for path in &wanted {
            let file = RemoteFile::of(&set, path)?;
            streamed.insert(file.address(), Arc::new(Streamed(file)) as Arc<dyn lm_data::source::RemoteFile>);
        }
        files.remote = RemoteFiles::new(streamed);
        rename(&mut files, |path| set.address(path));
    } else {
        let folder = set.download(&wanted)?;
        rename(&mut files, |path| folder.join(path).display().to_string());
    }
    Ok(files)
}

/// Gives all files other names.
fn rename(files: &mut DatasetFiles, name: impl Fn(&str) -> String) {
    let parts = files.train_parts.iter_mut().chain(&mut files.validation_parts).flat_map(|part| &mut part.files);
    for file in files.train.iter_mut().chain(&mut files.validation).chain(parts) {
        *file = name(file);
    }
}

/// A file of the Hub, for those who read text.
struct Streamed(RemoteFile);

impl lm_data::source::RemoteFile for Streamed {
    fn bytes(&self) -> u64 {
        self.0.size()
    }

    fn open(&self, from: u64, to: u64) -> io::Result<Box<dyn io::Read + Send>> {
        self.0.open(from, to)
    }
}

/// The data set, and whether it is what the Hub converted to Parquet: what is only a script has nothing else.
fn on_the_hub(args: &Arguments, name: &str) -> Result<(DataSet, bool)> {
    let options = |revision: Option<&str>| HubOptions {
        revision: revision.map(String::from),
        token: args.model.token.clone(),
        cache_dir: args.model.cache_dir.clone(),
    };
    let revision = args.beyond.dataset_revision.as_deref();
    let set = DataSet::find(name, &options(revision))?;
    let listed = set.files();
    let Some(script) = script(set.name(), &listed) else { return Ok((set, revision == Some(CONVERTED))) };
    match DataSet::find(set.name(), &options(Some(CONVERTED))) {
        Ok(converted) => {
            tracing::warn!("{name}: is made by {script}, which is not run: reading its revision {CONVERTED} instead");
            Ok((converted, true))
        }
        Err(HubError::UnknownRevision { .. }) => bail!(
            "{name}: is made by {script}, and scripts are not run (nor are they by Python's datasets 4); the Hub has no {CONVERTED} of it either: download its files and give them with --train_file"
        ),
        Err(error) => Err(error.into()),
    }
}

/// What a run needs of the splits: `train`, and where something is evaluated `validation`, unless others are named. Without
/// the latter, rows of the former are held out.
fn choose(args: &Arguments, name: &str, splits: &[SplitFiles]) -> Result<DatasetFiles, DatasetError> {
    let (training, beyond) = (&args.training, &args.beyond);
    let mut files = DatasetFiles::default();
    if resolve::needs_validation(args) {
        let there = splits.iter().any(|split| split.name == "validation");
        if let Some(wanted) = beyond.validation_split.as_deref().or(there.then_some("validation")) {
            (files.validation, files.validation_parts) = files_of(name, wanted, splits)?;
        }
    }
    let trains = training.do_train || beyond.plan || beyond.train_tokenizer.is_some() || args.shows_only();
    if trains || files.validation.is_empty() {
        (files.train, files.train_parts) = files_of(name, beyond.train_split.as_deref().unwrap_or("train"), splits)?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use lm_data::dataset::Reading;
    use lm_data::source::{CsvOptions, RowOptions, SampleBy};

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
            args.beyond.train_split = Some("train[:1]+test+train[-1:]".into());
        };
        assert_eq!(chosen(&parts, &all).unwrap(), (names(&["a", "c", "d"]), vec![]), "each once");
    }

    /// What a data set says of how it is read gives way to arguments, but for the line breaks of files.
    #[test]
    fn arguments_come_before_what_a_data_set_says() {
        let mut args = Arguments::defaults(Task::Clm);
        args.data.train_file = Some(crate::args::Files(vec!["a.txt".into()]));
        assert!(resolve::data_config(&args, 8).rows.keep_linebreaks, "of files");
        let rows = RowOptions {
            sample_by: SampleBy::Paragraph,
            csv: CsvOptions { delimiter: Some(b'|'), header: Some(true), ..CsvOptions::default() },
            ..RowOptions::default()
        };
        let reading = Reading { rows: rows.clone(), column: Some("body".into()) };
        args.dataset = Some(DatasetFiles { reading, ..DatasetFiles::default() });
        let config = resolve::data_config(&args, 8);
        assert_eq!((&config.rows, config.text_column.as_deref()), (&rows, Some("body")));
        args.beyond.sample_by = Some(SampleBy::Line);
        args.beyond.text_column = Some("title".into());
        args.beyond.column_names = Some(vec!["title".into()]);
        let config = resolve::data_config(&args, 8);
        assert_eq!((config.rows.sample_by, config.text_column.as_deref()), (SampleBy::Line, Some("title")));
        let CsvOptions { column_names, header, delimiter, .. } = config.rows.csv;
        assert_eq!((column_names, header, delimiter), (vec!["title".to_string()], Some(false), Some(b'|')));
    }
}
