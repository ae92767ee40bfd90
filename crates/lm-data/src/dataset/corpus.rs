//! Names and patterns of files to the splits of a run: which rows are trained on, and which are held out.

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::config::DataConfig;
use crate::dataset::slice::{Slice, percent_of};
use crate::memo::remembered;
use crate::source::{RowPosition, TextFiles};
use crate::survey::Survey;

/// The files of a run, looked at once: of what kind they are, which column is the text, which rows are held out.
pub struct Corpus {
    train: TextFiles,
    train_rows: Span,
    validation: TextFiles,
    validation_rows: Span,
    /// Rows of the training files that are kept for validation.
    held_out: Option<Span>,
}

/// Rows that follow one another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Span {
    start: RowPosition,
    /// At most so many; all of an unsliced split are not counted.
    rows: u64,
}

/// All rows.
const WHOLE: Span = Span { start: RowPosition { file: 0, byte: 0, line: 0 }, rows: u64::MAX };

/// The rows of one split.
pub(crate) struct SplitRows<'a> {
    pub name: &'static str,
    pub files: &'a TextFiles,
    pub start: RowPosition,
    pub most: u64,
    /// Held out of the training files; may be empty, since not every run evaluates.
    pub held_out: bool,
}

impl Corpus {
    /// Finds and looks at the files. Where rows are held out, the training files are read once to count their rows, which
    /// is remembered until one of them changes; otherwise only their beginnings are.
    ///
    /// # Errors
    /// If a file or an option is unusable.
    pub fn open(config: &DataConfig) -> Result<Self, DataError> {
        if config.length == 0 {
            return Err(DataError::Option { name: "max_seq_length", reason: "must be at least 1".into() });
        }
        for (name, most) in
            [("max_train_samples", config.max_train_samples), ("max_eval_samples", config.max_eval_samples)]
        {
            if most == Some(0) {
                return Err(DataError::Option { name, reason: "must be at least 1".into() });
            }
        }
        let names = [&config.train_files[..], &config.validation_files];
        let [train, validation] = TextFiles::resolve(names, config.text_column.as_deref(), &config.rows)?;
        if train.is_empty() && validation.is_empty() {
            return Err(DataError::NoFile);
        }
        let percent = config.validation_split_percentage;
        let (slice, purpose) = (config.train_slice.as_ref(), format!("{percent} % of the rows"));
        let (held_out, train_rows) = if train.is_empty() || !validation.is_empty() || percent == 0 {
            (None, sliced(&train, slice, config)?)
        } else if percent < 100 {
            let (held_out, rest) = divided(&train, slice, &purpose, config, |rows| percent_of(percent, rows))?;
            (Some(held_out), rest)
        } else {
            let reason = format!("{percent} leaves nothing to train on; name a file with --validation_file instead");
            return Err(DataError::Option { name: "validation_split_percentage", reason });
        };
        let validation_rows = sliced(&validation, config.validation_slice.as_ref(), config)?;
        Ok(Self { train, train_rows, validation, validation_rows, held_out })
    }

    /// The texts of the training split, for training a tokenizer on them.
    ///
    /// # Errors
    /// If there are no training files; each row may fail by itself too.
    pub fn train_rows(&self) -> Result<impl Iterator<Item = Result<String, DataError>>, DataError> {
        let train = self.train_split().ok_or(DataError::NoTrainFile)?;
        let most = usize::try_from(train.most).unwrap_or(usize::MAX);
        Ok(train.files.rows_from(train.start).take(most).map(|row| Ok(row?)))
    }

    /// The rows trained on; None without training files.
    pub(crate) fn train_split(&self) -> Option<SplitRows<'_>> {
        (!self.train.is_empty()).then(|| split("train", &self.train, self.train_rows, false))
    }

    /// The rows evaluated on: of files of their own, or held out of the training files.
    pub(crate) fn validation_split(&self) -> Option<SplitRows<'_>> {
        match self.held_out {
            Some(rows) => Some(split("validation", &self.train, rows, true)),
            None => (!self.validation.is_empty())
                .then(|| split("validation", &self.validation, self.validation_rows, false)),
        }
    }
}

fn split<'a>(name: &'static str, files: &'a TextFiles, rows: Span, held_out: bool) -> SplitRows<'a> {
    SplitRows { name, files, start: rows.start, most: rows.rows, held_out }
}

/// The rows of a slice.
fn sliced(files: &TextFiles, slice: Option<&Slice>, config: &DataConfig) -> Result<Span, DataError> {
    match slice.filter(|slice| !slice.is_whole()) {
        Some(_) => Ok(divided(files, slice, "slice", config, |_| 0)?.1),
        None => Ok(WHOLE),
    }
}

/// Divides the rows of a slice in two, the first of as many rows as `first` finds by their number.
fn divided(
    files: &TextFiles,
    slice: Option<&Slice>,
    purpose: &str,
    config: &DataConfig,
    first: impl Fn(u64) -> u64,
) -> Result<(Span, Span), DataError> {
    let purpose = slice.map_or_else(|| purpose.to_string(), |slice| format!("{purpose} {slice:?}"));
    let identity = files.identity(&purpose)?;
    remembered(&config.cache_dir, &identity, config.overwrite_cache || config.verify_data, || {
        let survey = Survey::of(files, config)?;
        let (from, to) = slice.map_or((0, survey.rows()), |slice| slice.range(survey.rows()));
        let border = from + first(to - from);
        let rest = if to == survey.rows() { u64::MAX } else { to - border };
        let (start, middle) = (survey.position(files, from)?, survey.position(files, border)?);
        Ok((Span { start, rows: border - from }, Span { start: middle, rows: rest }))
    })
}
