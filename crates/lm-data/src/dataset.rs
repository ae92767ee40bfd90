//! Names and patterns of files to the splits of a run: which rows are trained on, and which are held out.

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::config::DataConfig;
use crate::memo::remembered;
use crate::source::{RowPosition, TextFiles};

/// The files of a run, looked at once: of what kind they are, which column is the text, which rows are held out.
pub struct Corpus {
    train: TextFiles,
    validation: TextFiles,
    held_out: Option<HeldOut>,
}

/// The first rows of the training files, kept for validation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct HeldOut {
    rows: u64,
    /// Where the first row after them starts.
    end: RowPosition,
}

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
        let [train, validation] = TextFiles::resolve(names, config.text_column.as_deref(), config.keep_linebreaks)?;
        if train.is_empty() && validation.is_empty() {
            return Err(DataError::NoFile);
        }
        let percent = config.validation_split_percentage;
        let held_out = if train.is_empty() || !validation.is_empty() || percent == 0 {
            None
        } else if percent < 100 {
            let identity = train.identity(&format!("{percent} % of the rows"))?;
            Some(remembered(&config.cache_dir, &identity, config.overwrite_cache, || -> Result<_, DataError> {
                let (rows, end) = train.count_rows(|rows| percent_of(percent, rows))?;
                Ok(HeldOut { rows: percent_of(percent, rows), end })
            })?)
        } else {
            let reason = format!("{percent} leaves nothing to train on; name a file with --validation_file instead");
            return Err(DataError::Option { name: "validation_split_percentage", reason });
        };
        Ok(Self { train, validation, held_out })
    }

    /// The texts of the training split, for training a tokenizer on them.
    ///
    /// # Errors
    /// If there are no training files; each row may fail by itself too.
    pub fn train_rows(&self) -> Result<impl Iterator<Item = Result<String, DataError>>, DataError> {
        let train = self.train_split().ok_or(DataError::NoTrainFile)?;
        Ok(train.files.rows_from(train.start).map(|row| Ok(row?)))
    }

    /// The rows trained on; None without training files.
    pub(crate) fn train_split(&self) -> Option<SplitRows<'_>> {
        let start = self.held_out.map_or(RowPosition::default(), |held_out| held_out.end);
        (!self.train.is_empty()).then(|| SplitRows { start, ..whole("train", &self.train) })
    }

    /// The rows evaluated on: of files of their own, or held out of the training files.
    pub(crate) fn validation_split(&self) -> Option<SplitRows<'_>> {
        match self.held_out {
            Some(HeldOut { rows: most, .. }) => {
                Some(SplitRows { most, held_out: true, ..whole("validation", &self.train) })
            }
            None => (!self.validation.is_empty()).then(|| whole("validation", &self.validation)),
        }
    }
}

fn whole<'a>(name: &'static str, files: &'a TextFiles) -> SplitRows<'a> {
    SplitRows { name, files, start: RowPosition::default(), most: u64::MAX, held_out: false }
}

/// `int(round(percent * rows / 100.0))` of Python's `datasets`, halves to the even number.
fn percent_of(percent: u32, rows: u64) -> u64 {
    ((u128::from(percent) * u128::from(rows)) as f64 / 100.0).round_ties_even() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int(round(p * n / 100.0))` in Python.
    #[test]
    fn percentages_round_as_in_datasets() {
        for (percent, rows, expected) in
            [(5, 10, 0), (5, 30, 2), (5, 50, 2), (5, 70, 4), (1, 150, 2), (1, 250, 2), (33, 100, 33), (99, 1, 1)]
        {
            assert_eq!(percent_of(percent, rows), expected, "{percent} % of {rows}");
        }
    }
}
