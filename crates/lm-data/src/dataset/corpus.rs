//! Names and patterns of files to the splits of a run: which rows are trained on, and which are held out.

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::config::DataConfig;
use crate::counts::Counts;
use crate::dataset::slice::{SplitPart, percent_of};
use crate::memo::remembered;
use crate::source::{Mark, Piece, RowPosition, TextFiles};

/// The files of a run, looked at once: of what kind they are, which column is the text, which rows are held out.
pub struct Corpus {
    train: TextFiles,
    train_rows: Span,
    /// Corpora that the training files are, if these are mixed, and their weights.
    mixed: Vec<(TextFiles, f64)>,
    validation: TextFiles,
    /// Rows of the training files that are kept for validation.
    held_out: Option<Span>,
}

/// Rows that follow one another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Span {
    start: RowPosition,
    /// At most so many.
    rows: u64,
}

/// All rows.
const WHOLE: Span = Span { start: RowPosition { file: 0, mark: Mark::at(0, 0) }, rows: u64::MAX };

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
        let [train, validation] =
            TextFiles::resolve_with(names, &config.remote_files, config.text_column.as_deref(), &config.rows)?;
        if train.is_empty() && validation.is_empty() {
            return Err(DataError::NoFile);
        }
        let train = parts_of(train, &config.train_parts, "train_split", config)?;
        let validation = parts_of(validation, &config.validation_parts, "validation_split", config)?;
        let percent = config.validation_split_percentage;
        let mixed = mixed(&train, config)?;
        let (held_out, train_rows) = if train.is_empty() || !validation.is_empty() || percent == 0 || !mixed.is_empty()
        {
            (None, WHOLE)
        } else if percent < 100 {
            let (held_out, rest) = divided(&train, percent, config)?;
            (Some(held_out), rest)
        } else {
            let reason = format!("{percent} leaves nothing to train on; name a file with --validation_file instead");
            return Err(DataError::Option { name: "validation_split_percentage", reason });
        };
        Ok(Self { train, train_rows, mixed, validation, held_out })
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

    /// Corpora that are mixed and their weights; none if the training files are one.
    pub(crate) fn mixed(&self) -> impl Iterator<Item = (SplitRows<'_>, f64)> {
        self.mixed.iter().map(|(files, weight)| (split("train", files, WHOLE, false), *weight))
    }

    /// The rows trained on; None without training files.
    pub(crate) fn train_split(&self) -> Option<SplitRows<'_>> {
        (!self.train.is_empty()).then(|| split("train", &self.train, self.train_rows, false))
    }

    /// The rows evaluated on: of files of their own, or held out of the training files.
    pub(crate) fn validation_split(&self) -> Option<SplitRows<'_>> {
        match self.held_out {
            Some(rows) => Some(split("validation", &self.train, rows, true)),
            None => (!self.validation.is_empty()).then(|| split("validation", &self.validation, WHOLE, false)),
        }
    }
}

/// The corpora among the training files, each what one name stands for.
fn mixed(train: &TextFiles, config: &DataConfig) -> Result<Vec<(TextFiles, f64)>, DataError> {
    let mut first = 0;
    let corpus = |(name, weight): (&String, &f64)| {
        let [files] = TextFiles::resolve([std::slice::from_ref(name)], config.text_column.as_deref(), &config.rows)?;
        let corpus = train.some(first, files.len());
        first += files.len();
        Ok((corpus, *weight))
    };
    config.train_files.iter().zip(&config.train_weights).map(corpus).collect()
}

fn split<'a>(name: &'static str, files: &'a TextFiles, rows: Span, held_out: bool) -> SplitRows<'a> {
    SplitRows { name, files, start: rows.start, most: rows.rows, held_out }
}

/// The rows of the parts as pieces of the files; all files if there is no part. What it takes to find them is remembered
/// until a file changes.
fn parts_of(
    files: TextFiles,
    parts: &[SplitPart],
    name: &'static str,
    config: &DataConfig,
) -> Result<TextFiles, DataError> {
    if parts.is_empty() {
        return Ok(files);
    }
    let identity = files.identity(&format!("where the rows of {parts:?} lie"))?;
    let pieces = remembered(&config.cache_dir, &identity, config.overwrite_cache || config.verify_data, || {
        let counts = Counts::of(&files, config)?;
        let (mut pieces, mut starts) = (Vec::new(), vec![0]);
        for file in 0..files.len() {
            starts.push(starts[file] + counts.rows_of(file));
        }
        let place = |file: usize, row: u64| -> Result<Mark, DataError> {
            Ok(counts.position(&files, starts[file] + row)?.mark)
        };
        for SplitPart { slice, files: names } in parts {
            let named = files.named(names);
            let range = slice.range(named.iter().map(|&file| counts.rows_of(file)).sum());
            let (from, to) = range.map_err(|reason| DataError::Option { name, reason })?;
            let mut first = 0;
            for file in named {
                let count = counts.rows_of(file);
                let within = |row: u64| row.clamp(first, first + count) - first;
                let (from, to) = (within(from), within(to));
                if from < to {
                    let start = if from == 0 { Mark::default() } else { place(file, from)? };
                    let end = if to == count { None } else { Some(place(file, to)?) };
                    pieces.push((file, Piece { start, end }));
                }
                first += count;
            }
        }
        Ok::<_, DataError>(pieces)
    })?;
    if pieces.is_empty() {
        return Err(DataError::Option { name, reason: "there is no row in it".into() });
    }
    Ok(files.pieces(&pieces))
}

/// Divides rows in two, the first part of so many percent of them.
fn divided(files: &TextFiles, percent: u32, config: &DataConfig) -> Result<(Span, Span), DataError> {
    let identity = files.identity(&format!("{percent} % of the rows"))?;
    remembered(&config.cache_dir, &identity, config.overwrite_cache || config.verify_data, || {
        let counts = Counts::of(files, config)?;
        let rows = percent_of(percent, counts.rows());
        let rest = Span { start: counts.position(files, rows)?, rows: u64::MAX };
        Ok((Span { start: RowPosition::default(), rows }, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Slice;
    use crate::source::RowOptions;
    use crate::testing::fixture;

    /// Of files of every format, their beginnings, ends and middles; read from any row on.
    #[test]
    fn parts_are_their_rows() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            folder.path().join(name).display().to_string()
        };
        let names = [
            write("a.txt", "\u{feff}one\n\ntwo\r\nthree\n"),
            write("b.csv", "n,text\n1,\"a\nb\"\n\n2,c\n3,d\n"),
            write("c.json", "[{\"text\": \"x\"}, {\"text\": \"y\"}, {\"text\": \"z\"}]"),
            fixture("columns/nulls.parquet").display().to_string(),
            fixture("columns/stream.arrow").display().to_string(),
        ];
        let all = |names: &[String]| -> Vec<String> {
            let [files] = TextFiles::resolve([names], None, &RowOptions::default()).unwrap();
            files.rows().collect::<Result<_, _>>().unwrap()
        };
        let part = |slice: &str, files: &[String]| SplitPart {
            slice: Slice::parse(slice).unwrap().remove(0),
            files: files.to_vec(),
        };
        let (first, second) = (all(&names[..3]), all(&names[3..]));
        assert_eq!((first.len(), second.len()), (10, 46));
        for (parts, expected) in [
            (vec![part("a[:3]", &names[..3])], first[..3].to_vec()),
            (vec![part("a[2:9]", &names[..3])], first[2..9].to_vec()),
            (vec![part("a[-1:]", &names[..3]), part("a[:1]", &names[..3])], [&first[9..], &first[..1]].concat()),
            (vec![part("a", &names[..3]), part("b[20:40]", &names[3..])], [&first[..], &second[20..40]].concat()),
            (
                vec![part("b[1:-1]", &names[3..]), part("b[:50%]", &names[3..])],
                [&second[1..45], &second[..23]].concat(),
            ),
        ] {
            let config = DataConfig {
                train_files: names.to_vec(),
                train_parts: parts.clone(),
                validation_split_percentage: 0,
                cache_dir: folder.path().join("cache"),
                ..DataConfig::default()
            };
            let corpus = Corpus::open(&config).unwrap();
            let files = &corpus.train_split().unwrap().files.clone();
            let mut rows = files.rows();
            for row in 0..=expected.len() {
                let position = rows.next_position();
                let rest: Vec<String> = files.rows_from(position).map(Result::unwrap).collect();
                assert_eq!(rest, expected[row..], "{parts:?} from {row}, {position:?}");
                assert!(files.offset(position) <= files.bytes(), "{parts:?} {position:?}");
                rows.next();
            }
            // Held out of the parts, not of the files.
            let halves = Corpus::open(&DataConfig { validation_split_percentage: 50, ..config }).unwrap();
            let rest: Vec<String> = halves.train_rows().unwrap().map(Result::unwrap).collect();
            assert_eq!(rest, expected[percent_of(50, expected.len() as u64) as usize..], "{parts:?}");
        }
        let none = DataConfig {
            train_files: names.to_vec(),
            train_parts: vec![part("a[:0]", &names[..3])],
            cache_dir: folder.path().join("cache"),
            ..DataConfig::default()
        };
        let message = Corpus::open(&none).err().unwrap().to_string();
        assert_eq!(message, "--train_split: there is no row in it");
    }
}
